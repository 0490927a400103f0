//! Talk: conversations in lines, as a person with a terminal would have them.
//!
//! # Invariants
//!
//! * A server that says something else than expected fails the test, with what it said.
//! * Nothing waits for ever: connections give up after [`PATIENCE`].

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::ports::LOOPBACK;

/// Far longer than any answer takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A connection that speaks in lines.
#[derive(Debug)]
pub struct Talk {
    stream: BufReader<TcpStream>,
}

/// An IMAP session.
#[derive(Debug)]
pub struct Imap {
    talk: Talk,
}

/// One untagged answer of an IMAP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its text, literals left out.
    pub text: String,
    /// Its last literal.
    pub literal: Option<Vec<u8>>,
}

impl Talk {
    /// Calls a port on loopback.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((LOOPBACK, port))
            .unwrap_or_else(|error| panic!("nobody answers on port {port}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes());
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// One line without its end.
    pub fn read(&mut self) -> String {
        self.try_read().expect("the server goes on talking")
    }

    /// One line without its end, or nothing when the server has hung up.
    pub fn try_read(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no answer: {error}"),
        }
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Some(String::from_utf8_lossy(line).into_owned())
    }

    /// So many bytes.
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// One line, which must begin as wanted.
    pub fn expect(&mut self, wanted: &str) -> String {
        let line = self.read();
        assert!(line.starts_with(wanted), "the server says: {line}, not {wanted}");
        line
    }

    /// Sends a line and returns the next one.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.read()
    }

    /// Sends a line, to which the answer must begin as wanted.
    pub fn say(&mut self, line: &str, wanted: &str) -> String {
        self.send(line);
        self.expect(wanted)
    }

    /// Sends a message as SMTP and LMTP want it after DATA: with CRLF, stuffed dots, and its
    /// end.
    pub fn send_message(&mut self, message: &[u8]) {
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
        self.send_bytes(&bytes);
    }
}

impl Imap {
    /// Logs in, which must succeed.
    pub fn login(port: u16, user: &str, password: &str) -> Self {
        let mut imap = Self { talk: Talk::connect(port) };
        imap.talk.expect("* OK");
        imap.command(&format!("LOGIN {user} {password}"));
        imap
    }

    /// Gives a command, which must succeed, and returns the untagged answers.
    pub fn command(&mut self, command: &str) -> Vec<Answer> {
        let answers = self.try_command(command, b"");
        answers.unwrap_or_else(|end| panic!("{command}: {end}"))
    }

    /// Gives a command with a literal behind it, or tells what the server says instead of
    /// OK.
    ///
    /// # Errors
    ///
    /// The server's last words.
    pub fn try_command(
        &mut self,
        command: &str,
        literal: &[u8],
    ) -> Result<Vec<Answer>, String> {
        self.talk.send_bytes(format!("t {command}").as_bytes());
        self.talk.send_bytes(literal);
        self.talk.send_bytes(b"\r\n");
        let mut answers = Vec::new();
        loop {
            let answer = self.answer().ok_or("the server has hung up")?;
            if let Some(end) = answer.text.strip_prefix("t ") {
                let good = end.starts_with("OK");
                return if good { Ok(answers) } else { Err(end.to_owned()) };
            }
            answers.push(answer);
        }
    }

    /// Appends a message to a folder, with flags.
    pub fn append(&mut self, folder: &str, flags: &str, message: &[u8]) {
        let size = message.len();
        let command = format!("APPEND \"{folder}\" ({flags}) {{{size}+}}\r\n");
        let end = self.try_command(&command, message);
        end.unwrap_or_else(|end| panic!("{command}: {end}"));
    }

    /// The conversation itself.
    pub fn talk(&mut self) -> &mut Talk {
        &mut self.talk
    }

    /// One answer, or nothing when the server has hung up.
    fn answer(&mut self) -> Option<Answer> {
        let mut answer = Answer { text: String::new(), literal: None };
        loop {
            let line = self.talk.try_read()?;
            let size = line
                .strip_suffix('}')
                .and_then(|line| line.rsplit_once('{'))
                .and_then(|(text, size)| Some((text.to_owned(), size.parse().ok()?)));
            let Some((text, size)) = size else {
                answer.text.push_str(&line);
                return Some(answer);
            };
            answer.text.push_str(&text);
            answer.literal = Some(self.talk.read_bytes(size));
        }
    }
}
