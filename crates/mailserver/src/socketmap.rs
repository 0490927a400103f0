//! Socketmap: a question such as Postfix asks a table server.
//!
//! Protocol: <https://www.postfix.org/socketmap_table.5.html>: netstrings, `5:map k,` and
//! `4:OK v,`.
//!
//! # Invariants
//!
//! * "Not found" is an answer; a server that cannot say is another one.

use std::net::SocketAddr;
use std::time::Instant;

use crate::conversation::{Conversation, ConversationError, ConversationFault, quoted};

/// Postfix takes no longer answer.
const ANSWER_BYTES_MAX: usize = 100_000;

/// The longest length that is worth reading.
const DIGITS_MAX: usize = 6;

/// What a table server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The value.
    Found(String),
    /// There is none.
    NotFound,
    /// It cannot say now; Postfix tries again later.
    Later(String),
    /// It will never be able to say.
    Never(String),
}

/// Asks the server at `address` for `key` in the table `map`.
///
/// # Errors
///
/// The server cannot be reached, hangs up, is late or speaks something else.
pub fn ask(
    address: SocketAddr,
    map: &str,
    key: &str,
    deadline: Instant,
) -> Result<Reply, ConversationError> {
    let mut talk = Conversation::connect("socketmap", address, deadline)?;
    talk.step("ask");
    talk.send(format!("{}:{map} {key},", map.len() + 1 + key.len()).as_bytes())?;
    let size = length(&mut talk)?;
    let mut answer = talk.bytes(size + 1)?;
    if answer.pop() != Some(b',') {
        return Err(talk.not_understood(&answer));
    }
    let text = String::from_utf8_lossy(&answer);
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    Ok(match word {
        "OK" => Reply::Found(rest.to_owned()),
        "NOTFOUND" => Reply::NotFound,
        "TEMP" | "TIMEOUT" => Reply::Later(quoted(rest.as_bytes())),
        "PERM" => Reply::Never(quoted(rest.as_bytes())),
        _ => return Err(talk.not_understood(&answer)),
    })
}

fn length(talk: &mut Conversation) -> Result<usize, ConversationError> {
    let mut digits = String::new();
    for _ in 0..=DIGITS_MAX {
        let byte = talk.bytes(1)?;
        match byte.first().copied().map(char::from) {
            Some(digit) if digit.is_ascii_digit() => digits.push(digit),
            Some(':') => {
                let size = digits.parse().ok().filter(|it| *it <= ANSWER_BYTES_MAX);
                return size.ok_or_else(|| talk.not_understood(digits.as_bytes()));
            }
            _ => return Err(talk.not_understood(&byte)),
        }
    }
    Err(talk.failed(ConversationFault::TooLong { limit: ANSWER_BYTES_MAX }))
}
