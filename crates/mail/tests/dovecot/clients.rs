//! Clients: as much IMAP and LMTP as a life needs.
//!
//! # Invariants
//!
//! * A server that says no fails the test, with what it said.
//! * Nothing waits for ever: connections give up after [`PATIENCE`].

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::server::PASSWORD;

/// Far longer than any answer takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A port on loopback.
#[derive(Clone, Copy)]
pub(crate) struct Port(pub(crate) u16);

/// A connection that speaks in lines.
struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    fn connect(port: Port) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port.0)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// One line without its end.
    fn read(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        let line = line.strip_suffix(b"\n").expect("the server ends what it says");
        line.strip_suffix(b"\r").unwrap_or(line).to_vec()
    }

    /// One line, which must begin as wanted.
    fn expect(&mut self, wanted: &str) -> String {
        let line = String::from_utf8_lossy(&self.read()).into_owned();
        assert!(line.starts_with(wanted), "the server says: {line}");
        line
    }

    fn say(&mut self, text: &str, wanted: &str) -> String {
        self.send(format!("{text}\r\n").as_bytes());
        self.expect(wanted)
    }
}

/// Delivers messages over LMTP; their lines end in LF.
///
/// # Errors
///
/// What the server says instead of taking one of them.
pub(crate) fn deliver(
    port: Port,
    user: &str,
    messages: &[Vec<u8>],
) -> Result<(), String> {
    let mut line = Line::connect(port);
    line.expect("220 ");
    line.send(b"LHLO mx.example.org\r\n");
    while line.expect("250").starts_with("250-") {}
    for message in messages {
        line.say("MAIL FROM:<sender@example.net>", "250 ");
        line.say(&format!("RCPT TO:<{user}>"), "250 ");
        line.say("DATA", "354 ");
        let mut bytes = Vec::with_capacity(message.len() + 100);
        for text in message.split_inclusive(|byte| *byte == b'\n') {
            if text.starts_with(b".") {
                bytes.push(b'.');
            }
            bytes.extend_from_slice(text.strip_suffix(b"\n").unwrap_or(text));
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b".\r\n");
        line.send(&bytes);
        let answer = line.expect("");
        if !answer.starts_with("250 ") {
            return Err(answer);
        }
    }
    line.say("QUIT", "221 ");
    Ok(())
}

/// An IMAP session.
pub(crate) struct Imap {
    line: Line,
}

/// One untagged answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its text, literals left out.
    pub(crate) text: String,
    /// Its last literal.
    pub(crate) literal: Option<Vec<u8>>,
}

impl Imap {
    pub(crate) fn login(port: Port, user: &str) -> Self {
        let mut imap = Self { line: Line::connect(port) };
        imap.line.expect("* OK");
        imap.command(&format!("LOGIN {user} {PASSWORD}"));
        imap
    }

    /// Gives a command and returns the untagged answers.
    pub(crate) fn command(&mut self, command: &str) -> Vec<Answer> {
        self.command_with(command, b"")
    }

    /// The same with a literal behind the command.
    fn command_with(&mut self, command: &str, literal: &[u8]) -> Vec<Answer> {
        let answers = self.try_command(command, literal);
        answers.unwrap_or_else(|end| panic!("{command}: {end}"))
    }

    /// The same, or what the server says instead of OK.
    pub(crate) fn try_command(
        &mut self,
        command: &str,
        literal: &[u8],
    ) -> Result<Vec<Answer>, String> {
        self.line.send(format!("t {command}").as_bytes());
        self.line.send(literal);
        self.line.send(b"\r\n");
        let mut answers = Vec::new();
        loop {
            let answer = self.answer();
            if let Some(end) = answer.text.strip_prefix("t ") {
                let good = end.starts_with("OK");
                return if good { Ok(answers) } else { Err(end.to_owned()) };
            }
            answers.push(answer);
        }
    }

    /// Appends a message, in a folder, with flags and a time of arrival.
    pub(crate) fn append(&mut self, folder: &str, flags: &str, message: &[u8]) {
        let size = message.len();
        let time = "\"05-Mar-2024 07:08:09 +0100\"";
        let command = format!("APPEND \"{folder}\" ({flags}) {time} {{{size}+}}\r\n");
        self.command_with(&command, message);
    }

    fn answer(&mut self) -> Answer {
        let mut answer = Answer { text: String::new(), literal: None };
        loop {
            let line = String::from_utf8_lossy(&self.line.read()).into_owned();
            let size = line
                .strip_suffix('}')
                .and_then(|line| line.rsplit_once('{'))
                .and_then(|(text, size)| Some((text.to_owned(), size.parse().ok()?)));
            let Some((text, size)) = size else {
                answer.text.push_str(&line);
                return answer;
            };
            answer.text.push_str(&text);
            let mut literal = vec![0; size];
            self.line.stream.read_exact(&mut literal).unwrap();
            answer.literal = Some(literal);
        }
    }
}

impl Drop for Imap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.command("LOGOUT");
        }
    }
}
