//! Hop: a message as the bytes that a connection carries, for whoever has no connection.

use prost::Message;

use crate::protocol::ProtocolError;

/// The bytes of a message.
pub fn to_bytes(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// The message that these bytes are.
///
/// # Errors
///
/// [`ProtocolError`] when they are none.
pub fn from_bytes<M: Message + Default>(bytes: &[u8]) -> Result<M, ProtocolError> {
    M::decode(bytes).map_err(|_| ProtocolError::missing("a whole message"))
}
