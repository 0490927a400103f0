//! IMAP: as much of it as looking into a mailbox needs.
//!
//! Protocol: <https://www.rfc-editor.org/rfc/rfc3501>, with UIDPLUS (RFC 4315) and LITERAL+
//! (RFC 7888), which Dovecot has. Answers are taken apart by `imap-proto`.
//!
//! # Invariants
//!
//! * Messages are streamed: none is ever held in memory, whatever its size.
//! * Everything else that the server says is bounded.
//! * A folder that was opened by [`Imap::examine`] is not changed, not even its flags.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Instant;

use imap_proto::{
    AttributeValue, MailboxDatum, NameAttribute, Response, StatusAttribute,
};
use tidegate_secret::Secret;

use crate::conversation::{Conversation, ConversationError, ConversationFault};

/// One answer other than a message: the UIDs of a large folder fit.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Answers to one command: more folders than any mailbox has.
const ANSWERS_MAX: usize = 100_000;

/// What a login has beside a name and a password: the word, quotes, lengths.
const LOGIN_ROOM: usize = 64;

/// A logged-in session.
#[derive(Debug)]
pub struct Imap {
    talk: Conversation,
    commands: u32,
}

/// Who logs in.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user; with a master user behind it where Dovecot has one, like `user*master`.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
}

/// A folder of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name as it goes over the wire: in modified UTF-7, with the server's separator.
    pub name: String,
    /// What separates folders inside of it.
    pub separator: Option<String>,
    /// Whether it holds messages, and not only other folders.
    pub selectable: bool,
}

/// What is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// How many messages.
    pub messages: u32,
    /// The UID that the next message will have at least.
    pub uid_next: u32,
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The highest mod-sequence, where the server has them.
    pub modseq: Option<u64>,
}

/// Takes a message in: how long it is, and its bytes.
pub type Taker<'a> = dyn FnMut(u64, &mut dyn Read) -> io::Result<()> + 'a;

impl Imap {
    /// Connects and logs in.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not let this user in; see the cause.
    pub fn login(
        address: SocketAddr,
        login: Login<'_>,
        deadline: Instant,
    ) -> Result<Self, ConversationError> {
        let talk = Conversation::connect("imap", address, deadline)?;
        let mut imap = Self { talk, commands: 0 };
        imap.talk.step("be greeted");
        let greeting = imap.talk.line()?;
        if !greeting.starts_with(b"* OK") {
            return Err(imap.talk.refused(&greeting));
        }
        imap.talk.step("log in");
        // It never grows, and so leaves no copy of a password behind.
        let room = 2 * (login.user.len() + login.password.len()) + LOGIN_ROOM;
        let mut command = Vec::with_capacity(room);
        command.extend_from_slice(b"LOGIN ");
        let said = imap.push_string(&mut command, login.user).and_then(|()| {
            command.push(b' ');
            imap.push_string(&mut command, login.password)
        });
        let command = Secret::new(command);
        said?;
        imap.command(command.expose(), &mut |_| {})?;
        Ok(imap)
    }

    /// From now on, this is the deadline.
    pub fn until(&mut self, deadline: Instant) {
        self.talk.until(deadline);
    }

    /// All folders.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn list(&mut self) -> Result<Vec<Listed>, ConversationError> {
        self.talk.step("list folders");
        let mut folders = Vec::new();
        self.command(b"LIST \"\" \"*\"", &mut |answer| {
            if let Some(MailboxDatum::List(found)) = datum(answer) {
                folders.push(Listed {
                    selectable: !found.name_attributes.iter().any(is_bare),
                    separator: found.delimiter.map(Into::into),
                    name: unescaped(&found.name, answer),
                });
            }
        })?;
        Ok(folders)
    }

    /// What is in a folder, without opening it.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn status(&mut self, folder: &str) -> Result<Counts, ConversationError> {
        self.talk.step("ask for a folder's counts");
        let mut command = b"STATUS ".to_vec();
        self.push_string(&mut command, folder)?;
        command.extend_from_slice(b" (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)");
        let mut counts = None;
        self.command(&command, &mut |answer| {
            if let Some(MailboxDatum::Status { status, .. }) = datum(answer) {
                counts = Some(counted(&status));
            }
        })?;
        counts.ok_or_else(|| self.talk.not_understood(b"OK, without any counts"))
    }

    /// Opens a folder for reading only.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn examine(&mut self, folder: &str) -> Result<Counts, ConversationError> {
        self.talk.step("open a folder for reading");
        self.open(b"EXAMINE ", folder)
    }

    /// Opens a folder.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn select(&mut self, folder: &str) -> Result<Counts, ConversationError> {
        self.talk.step("open a folder");
        self.open(b"SELECT ", folder)
    }

    /// The UIDs of messages in the open folder whose Message-ID has this in it.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn find(&mut self, message_id: &str) -> Result<Vec<u32>, ConversationError> {
        self.talk.step("search");
        let mut command = b"UID SEARCH HEADER Message-ID ".to_vec();
        self.push_string(&mut command, message_id)?;
        let mut uids = Vec::new();
        self.command(&command, &mut |answer| {
            if let Some(MailboxDatum::Search(found)) = datum(answer) {
                uids.extend(found);
            }
        })?;
        Ok(uids)
    }

    /// The UID of the open folder's message with this number, if there is one.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn uid_of(&mut self, number: u32) -> Result<Option<u32>, ConversationError> {
        self.talk.step("ask for a message's UID");
        let mut uid = None;
        self.command(format!("FETCH {number} (UID)").as_bytes(), &mut |answer| {
            if let Some((found, attributes)) = fetched(answer)
                && found == number
            {
                uid = uid_in(&attributes).or(uid);
            }
        })?;
        Ok(uid)
    }

    /// Fetches a message of the open folder as it is, without marking it as read. False when
    /// there is none with this UID.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing; [`ConversationFault::CutOff`] when the message is
    /// shorter than announced, after which the connection is gone.
    pub fn fetch(
        &mut self,
        uid: u32,
        taker: &mut Taker<'_>,
    ) -> Result<bool, ConversationError> {
        self.talk.step("fetch a message");
        let mut taken = 0;
        let mut count = |size: u64, from: &mut dyn Read| {
            taken += 1;
            taker(size, from)
        };
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[])");
        let mut seen = 0;
        self.converse(command.as_bytes(), Some(&mut count), &mut |answer| {
            if let Some((_, attributes)) = fetched(answer)
                && uid_in(&attributes) == Some(uid)
                && attributes.iter().any(is_body)
            {
                seen += 1;
            }
        })?;
        if taken > 1 || taken != seen {
            return Err(self.talk.not_understood(b"OK, with other messages"));
        }
        Ok(taken == 1)
    }

    /// Removes messages from the open folder for good.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn remove(&mut self, uids: &[u32]) -> Result<(), ConversationError> {
        self.talk.step("remove messages");
        for uids in uids.chunks(1000) {
            let uids: Vec<_> = uids.iter().map(u32::to_string).collect();
            let uids = uids.join(",");
            let store = format!("UID STORE {uids} +FLAGS.SILENT (\\Deleted)");
            self.command(store.as_bytes(), &mut |_| {})?;
            self.command(format!("UID EXPUNGE {uids}").as_bytes(), &mut |_| {})?;
        }
        Ok(())
    }

    /// Logs out.
    ///
    /// # Errors
    ///
    /// The conversation came to nothing.
    pub fn logout(mut self) -> Result<(), ConversationError> {
        self.talk.step("log out");
        self.command(b"LOGOUT", &mut |_| {})
    }

    fn open(&mut self, verb: &[u8], folder: &str) -> Result<Counts, ConversationError> {
        let mut command = verb.to_vec();
        self.push_string(&mut command, folder)?;
        let mut counts = Counts::default();
        self.command(&command, &mut |answer| {
            if let Some(MailboxDatum::Exists(messages)) = datum(answer) {
                counts.messages = messages;
            }
            let code = |name| number_of(answer, name);
            if let Some(uid_next) = code("UIDNEXT").and_then(|it| it.try_into().ok()) {
                counts.uid_next = uid_next;
            }
            if let Some(validity) = code("UIDVALIDITY").and_then(|it| it.try_into().ok())
            {
                counts.uid_validity = validity;
            }
            counts.modseq = code("HIGHESTMODSEQ").or(counts.modseq);
        })?;
        Ok(counts)
    }

    /// A string as an argument.
    fn push_string(
        &self,
        command: &mut Vec<u8>,
        text: &str,
    ) -> Result<(), ConversationError> {
        if text.contains('\0') {
            return Err(self.talk.failed(ConversationFault::Unsayable));
        }
        if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            command.push(b'"');
            for byte in text.bytes() {
                if matches!(byte, b'\\' | b'"') {
                    command.push(b'\\');
                }
                command.push(byte);
            }
            command.push(b'"');
        } else {
            command.extend_from_slice(format!("{{{}+}}\r\n", text.len()).as_bytes());
            command.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }

    fn command(
        &mut self,
        command: &[u8],
        on_answer: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ConversationError> {
        self.converse(command, None, on_answer)
    }

    /// Gives a command, hears all answers and the end, which must be OK.
    fn converse(
        &mut self,
        command: &[u8],
        mut taker: Option<&mut Taker<'_>>,
        on_answer: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ConversationError> {
        self.commands += 1;
        let tag = format!("t{} ", self.commands);
        let line = Secret::new([tag.as_bytes(), command, b"\r\n"].concat());
        self.talk.send(line.expose())?;
        let mut farewell = None;
        for _ in 0..ANSWERS_MAX {
            let answer = match self.answer(taker.as_deref_mut()) {
                Ok(answer) => answer,
                Err(error) => return Err(self.last_words(error, farewell.as_deref())),
            };
            if let Some(end) = answer.strip_prefix(tag.as_bytes()) {
                let good = end.starts_with(b"OK");
                return if good { Ok(()) } else { Err(self.talk.refused(end)) };
            }
            if answer.starts_with(b"* BYE") {
                farewell = Some(answer);
            } else if answer.starts_with(b"* ") {
                on_answer(&answer);
            } else {
                return Err(self.talk.not_understood(&answer));
            }
        }
        Err(self.talk.failed(ConversationFault::TooLong { limit: ANSWERS_MAX }))
    }

    /// What a server says before it hangs up is why it does.
    fn last_words(
        &self,
        error: ConversationError,
        farewell: Option<&[u8]>,
    ) -> ConversationError {
        match (&error.cause, farewell) {
            (ConversationFault::HungUp, Some(words)) => self.talk.refused(words),
            _ => error,
        }
    }

    /// One answer with its line end. A message in it goes to the taker, and `""` stands in
    /// its place.
    fn answer(
        &mut self,
        mut taker: Option<&mut Taker<'_>>,
    ) -> Result<Vec<u8>, ConversationError> {
        let mut answer = Vec::new();
        loop {
            let line = self.talk.line()?;
            let Some((text, size)) = literal(&line) else {
                answer.extend_from_slice(&line);
                answer.extend_from_slice(b"\r\n");
                return Ok(answer);
            };
            if answer.len() + line.len() > ANSWER_BYTES_MAX {
                let limit = ANSWER_BYTES_MAX;
                return Err(self.talk.failed(ConversationFault::TooLong { limit }));
            }
            if text.ends_with(b"BODY[] ")
                && let Some(taker) = taker.as_deref_mut()
            {
                answer.extend_from_slice(text);
                answer.extend_from_slice(b"\"\"");
                self.talk.stream_to(size, taker)?;
                continue;
            }
            answer.extend_from_slice(&line);
            answer.extend_from_slice(b"\r\n");
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if answer.len().saturating_add(size) > ANSWER_BYTES_MAX {
                let limit = ANSWER_BYTES_MAX;
                return Err(self.talk.failed(ConversationFault::TooLong { limit }));
            }
            answer.extend(self.talk.bytes(size)?);
        }
    }
}

/// A line that announces so many bytes, without the announcement.
fn literal(line: &[u8]) -> Option<(&[u8], u64)> {
    let line = line.strip_suffix(b"}")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    let digits = line.get(open + 1..)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((line.get(..open)?, str::from_utf8(digits).ok()?.parse().ok()?))
}

fn parse(answer: &[u8]) -> Option<Response<'_>> {
    // What begins with a status is free text, for people.
    let status =
        [&b"* OK"[..], b"* NO", b"* BAD"].iter().any(|it| answer.starts_with(it));
    if status { None } else { Response::parse(answer).ok().map(|(_, response)| response) }
}

fn datum(answer: &[u8]) -> Option<MailboxDatum<'_>> {
    if let Response::MailboxData(datum) = parse(answer)? { Some(datum) } else { None }
}

/// A name that ends an answer. The parser leaves the backslashes of quoted strings in.
fn unescaped(name: &str, answer: &[u8]) -> String {
    let answer = answer.trim_ascii_end();
    let literal = answer.contains(&b'\n');
    if literal || !answer.ends_with(b"\"") {
        return name.to_owned();
    }
    let mut escaped = false;
    let mut plain = String::with_capacity(name.len());
    for char in name.chars() {
        escaped = char == '\\' && !escaped;
        if !escaped {
            plain.push(char);
        }
    }
    plain
}

fn fetched(answer: &[u8]) -> Option<(u32, Vec<AttributeValue<'_>>)> {
    if let Response::Fetch(number, attributes) = parse(answer)? {
        Some((number, attributes))
    } else {
        None
    }
}

/// Whether a folder with this attribute holds no messages itself.
fn is_bare(attribute: &NameAttribute<'_>) -> bool {
    if let NameAttribute::Extension(name) = attribute {
        return name.eq_ignore_ascii_case("\\NonExistent");
    }
    *attribute == NameAttribute::NoSelect
}

fn uid_in(attributes: &[AttributeValue<'_>]) -> Option<u32> {
    attributes
        .iter()
        .find_map(|it| if let AttributeValue::Uid(uid) = it { Some(*uid) } else { None })
}

fn is_body(attribute: &AttributeValue<'_>) -> bool {
    matches!(attribute, AttributeValue::BodySection { .. })
}

fn counted(status: &[StatusAttribute]) -> Counts {
    let mut counts = Counts::default();
    for attribute in status {
        if let StatusAttribute::Messages(messages) = attribute {
            counts.messages = *messages;
        } else if let StatusAttribute::UidNext(uid) = attribute {
            counts.uid_next = *uid;
        } else if let StatusAttribute::UidValidity(validity) = attribute {
            counts.uid_validity = *validity;
        } else if let StatusAttribute::HighestModSeq(modseq) = attribute {
            counts.modseq = Some(*modseq);
        }
    }
    counts
}

/// The number in `* OK [NAME number] text`.
fn number_of(answer: &[u8], name: &str) -> Option<u64> {
    let answer = str::from_utf8(answer).ok()?.strip_prefix("* OK [")?;
    let (code, _) = answer.split_once(']')?;
    let (found, number) = code.split_once(' ')?;
    (found == name).then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_announcement_at_the_end_of_a_line_announces_bytes() {
        assert_eq!(
            literal(b"* 1 FETCH (UID 7 BODY[] {1234}"),
            Some((&b"* 1 FETCH (UID 7 BODY[] "[..], 1234))
        );
        for line in ["* OK {12} said", "* OK {}x}", "{99999999999999999999999}", "}"] {
            assert_eq!(literal(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn answers_of_dovecot_are_understood() {
        // As Dovecot 2.3.19 says it.
        let status = b"* STATUS \"Sent &- more\" (MESSAGES 6 UIDNEXT 1001 \
                       UIDVALIDITY 1795294311 HIGHESTMODSEQ 12)\r\n";
        let Some(MailboxDatum::Status { mailbox, status }) = datum(status) else {
            panic!("{:?}", parse(status));
        };
        assert_eq!(mailbox, "Sent &- more");
        let counts = counted(&status);
        assert_eq!((counts.messages, counts.uid_next), (6, 1001));
        assert_eq!(counts.modseq, Some(12));

        let list = b"* LIST (\\NonExistent \\HasChildren) \"/\" {4}\r\na\"b\\\r\n";
        let Some(MailboxDatum::List(list)) = datum(list) else {
            panic!("{:?}", parse(list));
        };
        assert_eq!(list.name, "a\"b\\");
        assert_eq!(unescaped(&list.name, b"* LIST () \"/\" {4}\r\na\"b\\\r\n"), "a\"b\\");
        let quoted = br#"* LIST () "/" "a\\\"b\\""#;
        assert_eq!(unescaped(r#"a\\\"b\\"#, quoted), r#"a\"b\"#);

        let fetch = b"* 3 FETCH (UID 1000 BODY[] \"\")\r\n";
        let (number, attributes) = fetched(fetch).unwrap();
        assert_eq!((number, uid_in(&attributes)), (3, Some(1000)));
        assert!(attributes.iter().any(is_body));

        let validity = b"* OK [UIDVALIDITY 1795294311] UIDs valid\r\n";
        assert_eq!(number_of(validity, "UIDVALIDITY"), Some(1_795_294_311));
        assert_eq!(datum(b"* SEARCH\r\n"), Some(MailboxDatum::Search(Vec::new())));
    }
}
