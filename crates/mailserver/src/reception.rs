//! Reception: what a server says to somebody who comes, word for word.
//!
//! For whoever wants to see what users and other servers are told. Nobody stays: the
//! connection ends with the answer, and no message is handed over.
//!
//! # Invariants
//!
//! * A refusal is an answer, not an error: errors are about conversations.
//! * A name that cannot be said in a protocol is not said.

use std::net::SocketAddr;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_secret::Secret;

use crate::conversation::{Conversation, ConversationError, ConversationFault, quoted};

/// Servers say less before they answer.
const LINES_MAX: usize = 100;

/// What people log in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Reading mail, in a mail program or in webmail.
    Imap,
    /// Fetching mail.
    Pop3,
    /// Sending mail.
    Submission,
    /// Filter scripts.
    Sieve,
}

/// Where mail is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// To mailboxes.
    Lmtp,
    /// To a mail exchanger.
    Smtp,
}

/// Who comes.
#[derive(Clone, Copy)]
pub struct Visitor<'a> {
    /// The user.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
}

/// What the server answers a log-in, without a tag.
///
/// # Errors
///
/// The server cannot be reached, hangs up, is late or speaks something else.
pub fn login(
    service: Service,
    address: SocketAddr,
    visitor: Visitor<'_>,
    deadline: Instant,
) -> Result<String, ConversationError> {
    match service {
        Service::Imap => imap(address, visitor, deadline),
        Service::Pop3 => pop3(address, visitor, deadline),
        Service::Submission => submission(address, visitor, deadline),
        Service::Sieve => sieve(address, visitor, deadline),
    }
}

/// What the server answers when this recipient is named, for a message from nobody that never
/// comes.
///
/// # Errors
///
/// As for [`login`]; a server that does not get as far as a recipient has refused.
pub fn recipient(
    delivery: Delivery,
    address: SocketAddr,
    recipient: &str,
    deadline: Instant,
) -> Result<String, ConversationError> {
    let (protocol, hello) = match delivery {
        Delivery::Lmtp => ("lmtp", "LHLO localhost\r\n"),
        Delivery::Smtp => ("smtp", "EHLO localhost\r\n"),
    };
    let mut talk = Conversation::connect(protocol, address, deadline)?;
    sayable(&talk, recipient)?;
    greeted_by_smtp(&mut talk, hello)?;
    talk.step("name the sender");
    talk.send(b"MAIL FROM:<>\r\n")?;
    expect_code(&mut talk, "250")?;
    talk.step("name the recipient");
    talk.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes())?;
    let answer = last_line(&mut talk)?;
    // Good manners only.
    let _ = talk.send(b"QUIT\r\n");
    Ok(answer)
}

fn imap(
    address: SocketAddr,
    Visitor { user, password }: Visitor<'_>,
    deadline: Instant,
) -> Result<String, ConversationError> {
    let mut talk = Conversation::connect("imap", address, deadline)?;
    sayable(&talk, user)?;
    sayable(&talk, password)?;
    greeted(&mut talk, "* OK")?;
    talk.step("log in");
    let (user, password) = (escaped(user), escaped(password));
    let (user, password) = (user.expose().as_str(), password.expose().as_str());
    let line = secret(&["a LOGIN \"", user, "\" \"", password, "\"\r\n"]);
    talk.send(line.expose().as_bytes())?;
    for _ in 0..LINES_MAX {
        let line = quoted(&talk.line()?);
        if let Some(answer) = line.strip_prefix("a ") {
            let _ = talk.send(b"b LOGOUT\r\n");
            return Ok(answer.to_owned());
        }
        if line.starts_with("* BYE") {
            return Ok(line);
        }
    }
    Err(talk.failed(ConversationFault::TooLong { limit: LINES_MAX }))
}

fn pop3(
    address: SocketAddr,
    Visitor { user, password }: Visitor<'_>,
    deadline: Instant,
) -> Result<String, ConversationError> {
    let mut talk = Conversation::connect("pop3", address, deadline)?;
    sayable(&talk, user)?;
    sayable(&talk, password)?;
    greeted(&mut talk, "+OK")?;
    talk.step("log in");
    talk.send(format!("USER {user}\r\n").as_bytes())?;
    let answer = quoted(&talk.line()?);
    if !answer.starts_with("+OK") {
        return Ok(answer);
    }
    talk.send(secret(&["PASS ", password, "\r\n"]).expose().as_bytes())?;
    let answer = quoted(&talk.line()?);
    let _ = talk.send(b"QUIT\r\n");
    Ok(answer)
}

fn submission(
    address: SocketAddr,
    visitor: Visitor<'_>,
    deadline: Instant,
) -> Result<String, ConversationError> {
    let mut talk = Conversation::connect("submission", address, deadline)?;
    sayable(&talk, visitor.user)?;
    greeted_by_smtp(&mut talk, "EHLO localhost\r\n")?;
    talk.step("log in");
    let line = secret(&["AUTH PLAIN ", visitor.plain().expose(), "\r\n"]);
    talk.send(line.expose().as_bytes())?;
    let answer = last_line(&mut talk)?;
    let _ = talk.send(b"QUIT\r\n");
    Ok(answer)
}

fn sieve(
    address: SocketAddr,
    visitor: Visitor<'_>,
    deadline: Instant,
) -> Result<String, ConversationError> {
    let mut talk = Conversation::connect("sieve", address, deadline)?;
    sayable(&talk, visitor.user)?;
    talk.step("be greeted");
    capabilities(&mut talk)?;
    talk.step("log in");
    let plain = visitor.plain();
    let line = secret(&["AUTHENTICATE \"PLAIN\" \"", plain.expose(), "\"\r\n"]);
    talk.send(line.expose().as_bytes())?;
    for _ in 0..LINES_MAX {
        let line = quoted(&talk.line()?);
        if !line.starts_with('"') {
            let _ = talk.send(b"LOGOUT\r\n");
            return Ok(line);
        }
    }
    Err(talk.failed(ConversationFault::TooLong { limit: LINES_MAX }))
}

/// Lines in quotation marks up to `OK`.
fn capabilities(talk: &mut Conversation) -> Result<(), ConversationError> {
    for _ in 0..LINES_MAX {
        let line = talk.line()?;
        if line.starts_with(b"OK") {
            return Ok(());
        }
        if !line.starts_with(b"\"") {
            return Err(talk.refused(&line));
        }
    }
    Err(talk.failed(ConversationFault::TooLong { limit: LINES_MAX }))
}

fn greeted(talk: &mut Conversation, wanted: &str) -> Result<(), ConversationError> {
    talk.step("be greeted");
    let greeting = talk.line()?;
    if greeting.starts_with(wanted.as_bytes()) {
        return Ok(());
    }
    Err(talk.refused(&greeting))
}

fn greeted_by_smtp(
    talk: &mut Conversation,
    hello: &str,
) -> Result<(), ConversationError> {
    talk.step("be greeted");
    expect_code(talk, "220")?;
    talk.step("say hello");
    talk.send(hello.as_bytes())?;
    expect_code(talk, "250")
}

fn expect_code(talk: &mut Conversation, wanted: &str) -> Result<(), ConversationError> {
    let answer = last_line(talk)?;
    if answer.starts_with(wanted) {
        return Ok(());
    }
    Err(talk.refused(answer.as_bytes()))
}

/// The last line of an answer that may have several: `250-..`, `250 ..`.
fn last_line(talk: &mut Conversation) -> Result<String, ConversationError> {
    for _ in 0..LINES_MAX {
        let line = talk.line()?;
        if line.get(3) != Some(&b'-') {
            return Ok(quoted(&line));
        }
    }
    Err(talk.failed(ConversationFault::TooLong { limit: LINES_MAX }))
}

fn sayable(talk: &Conversation, text: &str) -> Result<(), ConversationError> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(());
    }
    Err(talk.failed(ConversationFault::Unsayable))
}

impl Visitor<'_> {
    /// As SASL's PLAIN wants it.
    fn plain(self) -> Secret<String> {
        let said = secret(&["\0", self.user, "\0", self.password]);
        Secret::new(STANDARD.encode(said.expose()))
    }
}

/// These together, in memory that is overwritten; they are put together in one piece.
fn secret(parts: &[&str]) -> Secret<String> {
    Secret::new(parts.concat())
}

/// As it stands between quotes.
fn escaped(text: &str) -> Secret<String> {
    // It never grows, and so leaves no copy behind.
    let mut escaped = String::with_capacity(2 * text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '"') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    Secret::new(escaped)
}
