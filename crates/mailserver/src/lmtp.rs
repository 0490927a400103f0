//! LMTP: one message to one mailbox.
//!
//! Protocol: <https://www.rfc-editor.org/rfc/rfc2033>.
//!
//! # Invariants
//!
//! * `Delivered` means that the server has taken the message over; every other outcome that
//!   is a word of the server's means that it has not.
//! * An error after the last dot leaves open whether the message was delivered.

use std::net::SocketAddr;
use std::time::Instant;

use crate::conversation::{Conversation, ConversationError, ConversationFault, quoted};

/// Servers greet in fewer lines.
const LINES_MAX: usize = 100;

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// Who sends it; empty is nobody, who gets no bounces.
    pub sender: &'a str,
    /// Who gets it.
    pub recipient: &'a str,
    /// The message, with either kind of line ends.
    pub message: &'a [u8],
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the mailbox.
    Delivered {
        /// The server's words.
        text: String,
    },
    /// Not now.
    Temporary {
        /// Like 451.
        code: u16,
        /// The server's words.
        text: String,
    },
    /// Not ever: the sender would get a bounce.
    Refused {
        /// Like 550.
        code: u16,
        /// The server's words.
        text: String,
    },
}

/// An answer of the server's.
struct Reply {
    code: u16,
    text: String,
}

/// Delivers a message.
///
/// # Errors
///
/// The server cannot be reached, hangs up, is late or does not speak LMTP.
pub fn deliver(
    address: SocketAddr,
    letter: Letter<'_>,
    deadline: Instant,
) -> Result<Delivery, ConversationError> {
    let mut talk = Conversation::connect("lmtp", address, deadline)?;
    let sayable = |text: &str| text.bytes().all(|it| it.is_ascii_graphic() && it != b'>');
    if !sayable(letter.sender) || !sayable(letter.recipient) {
        return Err(talk.failed(ConversationFault::Unsayable));
    }
    let steps = [
        ("be greeted", String::new(), 220),
        ("say hello", "LHLO localhost\r\n".to_owned(), 250),
        ("name the sender", format!("MAIL FROM:<{}>\r\n", letter.sender), 250),
        ("name the recipient", format!("RCPT TO:<{}>\r\n", letter.recipient), 250),
        ("announce the message", "DATA\r\n".to_owned(), 354),
    ];
    for (step, line, wanted) in steps {
        talk.step(step);
        talk.send(line.as_bytes())?;
        let reply = reply(&mut talk)?;
        if reply.code != wanted {
            return not_delivered(&talk, reply);
        }
    }
    talk.step("send the message");
    talk.send(&stuffed(letter.message))?;
    let end = reply(&mut talk)?;
    if end.code != 250 {
        return not_delivered(&talk, end);
    }
    // Good manners only: the message is the server's now.
    let _ = talk.send(b"QUIT\r\n");
    Ok(Delivery::Delivered { text: end.text })
}

fn not_delivered(
    talk: &Conversation,
    reply: Reply,
) -> Result<Delivery, ConversationError> {
    let Reply { code, text } = reply;
    match code {
        400..500 => Ok(Delivery::Temporary { code, text }),
        500..600 => Ok(Delivery::Refused { code, text }),
        _ => Err(talk.not_understood(format!("{code} {text}").as_bytes())),
    }
}

/// An answer, of which the last line's text is kept.
fn reply(talk: &mut Conversation) -> Result<Reply, ConversationError> {
    for _ in 0..LINES_MAX {
        let line = talk.line()?;
        let code = line.get(..3).and_then(|code| str::from_utf8(code).ok());
        let code = code.and_then(|code| code.parse().ok());
        let rest = line.get(3..).unwrap_or_default();
        match (code, rest.first()) {
            (Some(_), Some(b'-')) => {}
            (Some(code), None | Some(b' ')) => {
                return Ok(Reply { code, text: quoted(rest.trim_ascii_start()) });
            }
            _ => return Err(talk.not_understood(&line)),
        }
    }
    Err(talk.failed(ConversationFault::TooLong { limit: LINES_MAX }))
}

/// A message as it goes after DATA: CRLF, leading dots doubled, and its end.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + message.len() / 16 + 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            bytes.push(b'.');
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        bytes.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b".\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_only_where_it_ends() {
        assert_eq!(stuffed(b"a\n.\nb\r\n..c"), b"a\r\n..\r\nb\r\n...c\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }
}
