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
//! * Requests are answered in their order; those that came together, in one write.
//! * Whoever does not speak the protocol is cut off without an answer to that.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::connection::{Connection, Limits, each_caller, on_own_thread};
use crate::serve::ServeError;
use crate::transport::{Next, Transport, is_safe, mailbox_address};

/// The name of the one map there is.
const MAP: &str = "transport";

/// Postfix's addresses are shorter than its lines, of at most 2048 bytes.
const REQUEST_BYTES_MAX: usize = 4 << 10;

/// Digits of the length of the longest request.
const LENGTH_DIGITS_MAX: usize = 4;

/// Requests that come together, where several do.
const TOGETHER: usize = 16;

/// Bytes that are read at once: some hundred requests of whoever asks before it has its answers.
const READ_BYTES: usize = 4 << 10;

/// Answers on `listener` until `stop` is done, and then hangs up. It has a thread of its own: an
/// answer takes less than handing it from one thread to another.
///
/// # Errors
///
/// [`ServeError`] before the first connection is accepted; never later.
pub async fn serve(
    listener: TcpListener,
    transport: Arc<dyn Transport>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    on_own_thread("socketmap", listener, stop, |listener, stopped| {
        each_caller(Limits::POSTFIX, listener, stopped, move |connection| {
            talk(connection, Arc::clone(&transport))
        })
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
        let (mut rest, mut asked) = (requests.as_slice(), Vec::new());
        let end = loop {
            match request(rest) {
                Ok(Some((request, behind))) => {
                    rest = behind;
                    // Whoever asks one by one is answered at once.
                    if asked.is_empty() && behind.is_empty() {
                        answer(&mut answers, &*transport, Asked::of(request));
                    } else {
                        if asked.is_empty() {
                            asked.reserve(TOGETHER);
                        }
                        asked.push(Asked::of(request));
                    }
                }
                Ok(None) => break Ok(()),
                Err(malformed) => break Err(malformed),
            }
        };
        answer_all(&mut answers, &*transport, asked);
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

/// What a request asks for.
enum Asked<'a> {
    /// Where the mail of this mailbox goes.
    Transport(Cow<'a, str>),
    /// Something that no mailbox is asked for.
    Stranger,
    /// Another map.
    OtherMap,
}

impl<'a> Asked<'a> {
    fn of(request: &'a [u8]) -> Self {
        // Keys in other encodings belong to nobody here.
        let Ok(request) = str::from_utf8(request) else { return Self::Stranger };
        let key = request.strip_prefix(MAP).and_then(|rest| rest.strip_prefix(' '));
        let Some(key) = key else { return Self::OtherMap };
        mailbox_address(key).map_or(Self::Stranger, Self::Transport)
    }
}

/// Adds the answer to what was asked to `answers`.
fn answer(answers: &mut Vec<u8>, transport: &dyn Transport, asked: Asked<'_>) {
    match asked {
        Asked::Transport(address) => tell_next(answers, &transport.transport(&address)),
        Asked::Stranger => tell(answers, NOT_FOUND, ""),
        Asked::OtherMap => tell(answers, "PERM ", "there is no such map"),
    }
}

/// Adds the answers to all that was asked together to `answers`.
fn answer_all(answers: &mut Vec<u8>, transport: &dyn Transport, asked: Vec<Asked<'_>>) {
    if asked.is_empty() {
        return;
    }
    let mut addresses = Vec::with_capacity(asked.len());
    let others: Vec<Option<Asked<'_>>> = asked
        .into_iter()
        .map(|asked| match asked {
            Asked::Transport(address) => {
                addresses.push(address);
                None
            }
            Asked::Stranger | Asked::OtherMap => Some(asked),
        })
        .collect();
    let mut nexts = transport.transports(&addresses).into_iter();
    for other in others {
        match other {
            Some(asked) => answer(answers, transport, asked),
            None => tell_next(answers, &nexts.next().unwrap_or(Next::Unknown)),
        }
    }
}

fn tell_next(answers: &mut Vec<u8>, next: &Next) {
    match next {
        Next::Deliver(value) | Next::Hold(value) if is_safe(value) => {
            tell(answers, "OK ", value);
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
    let length = word.len() + value.len();
    // Formatted numbers would cost more than all else here.
    let mut unit = 1_000_000;
    while unit > length && unit > 1 {
        unit /= 10;
    }
    while unit > 0 {
        let digit = u8::try_from(length / unit % 10).unwrap_or(0);
        answers.push(b'0' + digit);
        unit /= 10;
    }
    answers.push(b':');
    answers.extend_from_slice(word.as_bytes());
    answers.extend_from_slice(value.as_bytes());
    answers.push(b',');
}

/// Postfix takes the answer for garbage without the blank.
const NOT_FOUND: &str = "NOTFOUND ";
