//! Conversation: one connection that speaks in lines, until a deadline.
//!
//! # Invariants
//!
//! * No read and no write lasts beyond the deadline, however slowly the other side drips.
//! * What the other side says in one line is bounded.
//! * An error says which server it was, and at which step.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Servers answer in shorter lines; folders with the longest names fit.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// How much of an answer an error repeats.
const QUOTED_CHARS_MAX: usize = 300;

/// How much is read at a time.
const BUFFER_BYTES: usize = 32 * 1024;

/// A conversation that came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("{step} at {protocol} server {address}")]
pub struct ConversationError {
    /// The protocol, like `imap`.
    pub protocol: &'static str,
    /// The server.
    pub address: SocketAddr,
    /// What was being done.
    pub step: &'static str,
    /// Why it failed.
    #[source]
    pub cause: ConversationFault,
}

/// Why a conversation came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ConversationFault {
    /// There is no connection, or it broke.
    #[error("the connection failed")]
    Broken(#[source] io::Error),
    /// The deadline has passed.
    #[error("there was no answer in time")]
    Late,
    /// The server closed the connection.
    #[error("the server hung up")]
    HungUp,
    /// The server said no.
    #[error("the server refused: {answer}")]
    Refused {
        /// Its words.
        answer: String,
    },
    /// The server said something that nobody expects here.
    #[error("not understood: {answer}")]
    NotUnderstood {
        /// Its words.
        answer: String,
    },
    /// The server announced a message and hung up inside it, as Dovecot does when a message
    /// is shorter on disk than its records say.
    #[error(
        "the server announced {announced_bytes} bytes and hung up after {came_bytes}"
    )]
    CutOff {
        /// What it announced.
        announced_bytes: u64,
        /// What it sent.
        came_bytes: u64,
    },
    /// The server says more than anybody needs.
    #[error("an answer of more than {limit} bytes or parts")]
    TooLong {
        /// How much is taken.
        limit: usize,
    },
    /// What was to be said cannot be said in this protocol.
    #[error("it cannot be said in this protocol")]
    Unsayable,
    /// Whoever took the message did not want it.
    #[error("the message could not be taken in")]
    NotTaken(#[source] io::Error),
}

/// A connection that speaks in lines.
#[derive(Debug)]
pub(crate) struct Conversation {
    stream: BufReader<Timed>,
    protocol: &'static str,
    address: SocketAddr,
    step: &'static str,
}

/// A connection that gives up at its deadline.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Conversation {
    pub(crate) fn connect(
        protocol: &'static str,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<Self, ConversationError> {
        let step = "connect";
        let connect = || {
            let left = left(deadline)?;
            let stream = TcpStream::connect_timeout(&address, left)?;
            stream.set_nodelay(true)?;
            Ok(Timed { stream, deadline })
        };
        match connect() {
            Ok(timed) => {
                let stream = BufReader::with_capacity(BUFFER_BYTES, timed);
                Ok(Self { stream, protocol, address, step })
            }
            Err(error) => {
                Err(ConversationError { protocol, address, step, cause: fault(error) })
            }
        }
    }

    /// From now on, errors name this step.
    pub(crate) fn step(&mut self, step: &'static str) {
        self.step = step;
    }

    /// From now on, this is the deadline.
    pub(crate) fn until(&mut self, deadline: Instant) {
        self.stream.get_mut().deadline = deadline;
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), ConversationError> {
        let sent = self.stream.get_mut().write_all(bytes);
        sent.map_err(|error| self.failed(fault(error)))
    }

    /// One line without its end.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, ConversationError> {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = self.stream.by_ref().take(limit).read_until(b'\n', &mut line);
        read.map_err(|error| self.failed(fault(error)))?;
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            return Err(self.failed(if line.len() > LINE_BYTES_MAX {
                ConversationFault::TooLong { limit: LINE_BYTES_MAX }
            } else {
                ConversationFault::HungUp
            }));
        }
        line.pop_if(|byte| *byte == b'\r');
        Ok(line)
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, ConversationError> {
        let mut bytes = Vec::new();
        let read = self.stream.by_ref().take(count as u64).read_to_end(&mut bytes);
        read.map_err(|error| self.failed(fault(error)))?;
        if bytes.len() < count {
            return Err(self.failed(ConversationFault::HungUp));
        }
        Ok(bytes)
    }

    /// Hands `size_bytes` bytes to somebody. What he leaves is thrown away.
    pub(crate) fn stream_to(
        &mut self,
        size_bytes: u64,
        taker: &mut dyn FnMut(u64, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), ConversationError> {
        let mut rest = self.stream.by_ref().take(size_bytes);
        let taken = taker(size_bytes, &mut rest);
        let drained = io::copy(&mut rest, &mut io::sink());
        let missing = rest.limit();
        drained.map_err(|error| self.failed(fault(error)))?;
        if missing > 0 {
            return Err(self.failed(ConversationFault::CutOff {
                announced_bytes: size_bytes,
                came_bytes: size_bytes - missing,
            }));
        }
        taken.map_err(|error| self.failed(ConversationFault::NotTaken(error)))
    }

    pub(crate) fn failed(&self, cause: ConversationFault) -> ConversationError {
        let Self { protocol, address, step, .. } = *self;
        ConversationError { protocol, address, step, cause }
    }

    pub(crate) fn refused(&self, answer: &[u8]) -> ConversationError {
        self.failed(ConversationFault::Refused { answer: quoted(answer) })
    }

    pub(crate) fn not_understood(&self, answer: &[u8]) -> ConversationError {
        self.failed(ConversationFault::NotUnderstood { answer: quoted(answer) })
    }
}

impl Timed {
    fn settle<T>(result: io::Result<T>) -> io::Result<T> {
        let late = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        result.map_err(|it| if late(&it) { ErrorKind::TimedOut.into() } else { it })
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        Self::settle(self.stream.read(buffer))
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        Self::settle(self.stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The start of an answer, printable.
pub(crate) fn quoted(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer.trim_ascii());
    let printable = text.chars().take(QUOTED_CHARS_MAX);
    printable.map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// What is left until a deadline; never nothing, which would mean for ever.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn fault(error: io::Error) -> ConversationFault {
    let kind = error.kind();
    if kind == ErrorKind::TimedOut {
        ConversationFault::Late
    } else if matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
        ConversationFault::HungUp
    } else {
        ConversationFault::Broken(error)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A conversation with somebody who says this and waits for us to leave.
    fn with_somebody(says: &'static [u8], patience: Duration) -> Conversation {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(says).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        Conversation::connect("test", address, Instant::now() + patience).unwrap()
    }

    #[test]
    fn a_server_that_says_nothing_is_left_at_the_deadline() {
        let mut talk = with_somebody(b"half a li", Duration::from_millis(50));
        talk.step("wait");
        let start = Instant::now();

        let error = talk.line().unwrap_err();

        assert!(matches!(error.cause, ConversationFault::Late), "{error:?}");
        assert!(error.to_string().starts_with("wait at test server 127.0.0.1:"));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_line_without_end_is_not_taken() {
        let says = vec![b'a'; LINE_BYTES_MAX * 2].leak();
        let mut talk = with_somebody(says, Duration::from_mins(1));

        let error = talk.line().unwrap_err();

        assert!(matches!(error.cause, ConversationFault::TooLong { .. }), "{error:?}");
    }

    #[test]
    fn what_a_taker_leaves_is_thrown_away() {
        let mut talk = with_somebody(b"message\r\nnext\r\n", Duration::from_mins(1));
        let mut taken = [0; 3];

        let mut taker = |_, from: &mut dyn Read| from.read_exact(&mut taken);
        talk.stream_to(9, &mut taker).unwrap();

        assert_eq!(&taken, b"mes");
        assert_eq!(talk.line().unwrap(), b"next");
    }
}
