//! Socketmap: Postfix's questions for the transport of a recipient.
//!
//! The requests are netstrings, `<length>:<map> <key>,`. Postfix is told to ask by
//! `transport_maps = socketmap:inet:127.0.0.1:10391:transport`.
//!
//! # Invariants
//!
//! * Mail waits when in doubt: an unknown state and an unusable transport are `TEMP`, which
//!   Postfix tries again later.
//! * `NOTFOUND`, with which Postfix does what it always does, is said only of what is none
//!   of our mailboxes.
//! * Whoever does not speak the protocol is cut off without an answer.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::connection::{Connection, Limits, each_caller};
use crate::serve::ServeError;
use crate::transport::{Next, Transport, is_safe, mailbox_address};

/// The name of the one map there is.
const MAP: &str = "transport";

/// Postfix's addresses are shorter than its lines, of at most 2048 bytes.
const REQUEST_BYTES_MAX: usize = 4 << 10;

/// Digits of the length of the longest request.
const LENGTH_DIGITS_MAX: u64 = 4;

/// Answers on `listener` until `stop` is done, and then hangs up.
///
/// # Errors
///
/// [`ServeError`] before the first connection is accepted; never later.
pub async fn serve(
    listener: TcpListener,
    transport: Arc<dyn Transport>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    each_caller(Limits::POSTFIX, listener, stop, move |connection| {
        talk(connection, Arc::clone(&transport))
    })
    .await
}

async fn talk(connection: Connection, transport: Arc<dyn Transport>) -> io::Result<()> {
    let mut caller = BufReader::new(connection);
    while let Some(request) = request(&mut caller).await? {
        let answer = answer(&request, transport.as_ref());
        let netstring = format!("{}:{answer},", answer.len());
        caller.get_mut().write_all(netstring.as_bytes()).await?;
    }
    Ok(())
}

/// The next request; nothing once the caller has hung up between two.
async fn request(caller: &mut BufReader<Connection>) -> io::Result<Option<Vec<u8>>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut length = Vec::new();
    let read = caller.take(LENGTH_DIGITS_MAX + 1).read_until(b':', &mut length).await?;
    if read == 0 {
        return Ok(None);
    }
    let digits = length.strip_suffix(b":").ok_or_else(malformed)?;
    let digits = str::from_utf8(digits).map_err(|_| malformed())?;
    let length: usize = digits.parse().map_err(|_| malformed())?;
    if length > REQUEST_BYTES_MAX {
        return Err(malformed());
    }
    let mut request = vec![0; length + 1];
    caller.read_exact(&mut request).await?;
    if request.pop() != Some(b',') {
        return Err(malformed());
    }
    Ok(Some(request))
}

fn answer(request: &[u8], transport: &dyn Transport) -> String {
    // Keys in other encodings belong to nobody here.
    let Ok(request) = str::from_utf8(request) else { return NOT_FOUND.to_owned() };
    let Some(key) = request.strip_prefix(MAP).and_then(|rest| rest.strip_prefix(' '))
    else {
        return "PERM there is no such map".to_owned();
    };
    let Some(address) = mailbox_address(key) else { return NOT_FOUND.to_owned() };
    match transport.transport(&address) {
        Next::Deliver(value) | Next::Hold(value) if is_safe(&value) => {
            format!("OK {value}")
        }
        Next::Deliver(value) | Next::Hold(value) => {
            tracing::error!(value, "mail would be lost or refused by this transport");
            "TEMP the transport of this mailbox is not usable".to_owned()
        }
        Next::NotOurs => NOT_FOUND.to_owned(),
        Next::Unknown => "TEMP the state of this mailbox is not known".to_owned(),
    }
}

/// Postfix takes the answer for garbage without the blank.
const NOT_FOUND: &str = "NOTFOUND ";
