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
use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::connection::{Connection, Limits, each_caller};
use crate::serve::ServeError;
use crate::transport::{Next, Transport, is_safe, mailbox_address};

/// The name of the one map there is.
const MAP: &str = "transport";

/// Postfix's addresses are shorter than its lines, of at most 2048 bytes.
const REQUEST_BYTES_MAX: usize = 4 << 10;

/// Digits of the length of the longest request.
const LENGTH_DIGITS_MAX: usize = 4;

/// Bytes that are read at once: some hundred requests of whoever asks before it has its answers.
const READ_BYTES: usize = 4 << 10;

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

async fn talk(
    mut connection: Connection,
    transport: Arc<dyn Transport>,
) -> io::Result<()> {
    let (mut requests, mut answers) = (Vec::with_capacity(READ_BYTES), Vec::new());
    loop {
        if connection.read_buf(&mut requests).await? == 0 {
            let between = requests.is_empty();
            return if between {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let mut rest = requests.as_slice();
        let end = loop {
            match request(rest) {
                Ok(Some((request, behind))) => {
                    answer(request, transport.as_ref(), &mut answers);
                    rest = behind;
                }
                Ok(None) => break Ok(()),
                Err(malformed) => break Err(malformed),
            }
        };
        let taken = requests.len() - rest.len();
        requests.drain(..taken);
        if !answers.is_empty() {
            // Those that came together are answered together.
            connection.write_all(&answers).await?;
            answers.clear();
        }
        end?;
        requests.reserve(READ_BYTES);
    }
}

/// The first request of `all` and what is behind it; nothing before it has come whole.
fn request(all: &[u8]) -> io::Result<Option<(&[u8], &[u8])>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let digits = all.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > LENGTH_DIGITS_MAX {
        return Err(malformed());
    }
    let (digits, rest) = all.split_at(digits);
    let Some((colon, rest)) = rest.split_first() else { return Ok(None) };
    if *colon != b':' || digits.is_empty() {
        return Err(malformed());
    }
    let length = digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    if length > REQUEST_BYTES_MAX {
        return Err(malformed());
    }
    match rest.split_at_checked(length).map(|(it, rest)| (it, rest.split_first())) {
        Some((request, Some((b',', behind)))) => Ok(Some((request, behind))),
        Some((_, Some(_))) => Err(malformed()),
        Some((_, None)) | None => Ok(None),
    }
}

/// Adds the answer to `request` to `answers`.
fn answer(request: &[u8], transport: &dyn Transport, answers: &mut Vec<u8>) {
    // Keys in other encodings belong to nobody here.
    let Ok(request) = str::from_utf8(request) else {
        return tell(answers, NOT_FOUND, "");
    };
    let Some(key) = request.strip_prefix(MAP).and_then(|rest| rest.strip_prefix(' '))
    else {
        return tell(answers, "PERM ", "there is no such map");
    };
    let Some(address) = mailbox_address(key) else { return tell(answers, NOT_FOUND, "") };
    match transport.transport(&address) {
        Next::Deliver(value) | Next::Hold(value) if is_safe(&value) => {
            tell(answers, "OK ", &value);
        }
        Next::Deliver(value) | Next::Hold(value) => {
            tracing::error!(%value, "mail would be lost or refused by this transport");
            tell(answers, "TEMP ", "the transport of this mailbox is not usable");
        }
        Next::NotOurs => tell(answers, NOT_FOUND, ""),
        Next::Unknown => {
            tell(answers, "TEMP ", "the state of this mailbox is not known");
        }
    }
}

fn tell(answers: &mut Vec<u8>, word: &str, value: &str) {
    // A vector takes everything.
    let _written = write!(answers, "{}:{word}{value},", word.len() + value.len());
}

/// Postfix takes the answer for garbage without the blank.
const NOT_FOUND: &str = "NOTFOUND ";
