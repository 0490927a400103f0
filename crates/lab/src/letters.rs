//! Letters: the bytes of every message, made from a seed and nothing else.
//!
//! # Invariants
//!
//! * A letter is a function of seed, owner and number: anybody can write it again, which
//!   is how another user's bytes get into a mailbox, and how they are recognised.
//! * No two letters are alike: each names its owner and its own Message-ID.
//! * `Delivered-To` is the owner, as a delivery agent leaves it. There is no NUL in any
//!   letter.

use jiff::Timestamp;

use crate::chance::Chance;
use crate::people::Person;
use crate::phrases::{Phrases, phrases};

/// The size of the shared block that attachments are cut from; longer ones go round it.
const ATTACHMENT_BLOCK_BYTES: usize = 3_000 * (BASE64_LINE + 1);
/// A line of base64, as mail programs break it.
const BASE64_LINE: usize = 76;
/// From this size on a letter is mostly attachment.
const ATTACHED_MIN_BYTES: u64 = 9_000;
const BASE64: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes the letters of one provider.
pub(crate) struct Letters {
    seed: u64,
    /// Base64 lines, shared by all attachments: what differs is where they begin.
    block: Vec<u8>,
}

impl Letters {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Chance::new(seed, "attachments", 0);
        let mut block = Vec::with_capacity(ATTACHMENT_BLOCK_BYTES);
        'filled: loop {
            let mut bits = dice.throw();
            for _ in 0..10 {
                let digit = usize::try_from(bits & 63).unwrap_or(0);
                block.push(BASE64.get(digit).copied().unwrap_or(b'A'));
                bits >>= 6;
                if block.len() % (BASE64_LINE + 1) == BASE64_LINE {
                    block.push(b'\n');
                }
                if block.len() >= ATTACHMENT_BLOCK_BYTES {
                    break 'filled;
                }
            }
        }
        Self { seed, block }
    }

    /// Letter `number` of `owner`.
    pub(crate) fn letter(&self, owner: &Person, number: u64) -> Vec<u8> {
        let mut dice = Chance::new(self.seed ^ owner.number, "letter", number);
        let words = phrases(owner.language);
        let size = size_bytes(&mut dice);
        let mut draft = Draft { text: Vec::with_capacity(4096), words, latin: false };
        let head = Head { seed: self.seed, owner, number };
        head.write(&mut draft, &mut dice);
        let boundary = format!("=_{:016x}", dice.throw());
        if size >= ATTACHED_MIN_BYTES {
            self.attached(&mut draft, size, &boundary, &mut dice);
        } else if dice.percent(30) {
            draft.alternative(size, &boundary, &mut dice);
        } else {
            draft.plain(size, &mut dice);
        }
        if dice.percent(20) { with_crlf(&draft.text) } else { draft.text }
    }

    fn attached(&self, draft: &mut Draft, size: u64, boundary: &str, dice: &mut Chance) {
        draft.line(&format!("Content-Type: multipart/mixed; boundary=\"{boundary}\""));
        draft.line("");
        draft.line(&format!("--{boundary}"));
        draft.plain(dice.between(300, 1_500), dice);
        draft.line("");
        draft.line(&format!("--{boundary}"));
        draft.line("Content-Type: application/pdf; name=\"allegato.pdf\"");
        draft.line("Content-Transfer-Encoding: base64");
        draft.line("Content-Disposition: attachment; filename=\"allegato.pdf\"");
        draft.line("");
        let mut left = usize::try_from(size).unwrap_or(0) / (BASE64_LINE + 1);
        while left > 0 {
            let first = dice.index(self.block.len() / (BASE64_LINE + 1));
            let from = self.block.get(first * (BASE64_LINE + 1)..).unwrap_or_default();
            let lines = left.min(from.len() / (BASE64_LINE + 1)).max(1);
            let part = from.get(..lines * (BASE64_LINE + 1)).unwrap_or(from);
            draft.text.extend_from_slice(part);
            left -= lines;
        }
        draft.line(&format!("--{boundary}--"));
    }
}

/// The size of a message as it counts every line end as two bytes, the `W=` of its name.
pub(crate) fn virtual_size(bytes: &[u8]) -> u64 {
    let mut previous = 0;
    let mut bare = 0_u64;
    for &byte in bytes {
        if byte == b'\n' && previous != b'\r' {
            bare += 1;
        }
        previous = byte;
    }
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_add(bare)
}

/// Median about 3 KB, a long tail, and one letter in 2,500 of some megabytes.
fn size_bytes(dice: &mut Chance) -> u64 {
    match dice.below(10_000) {
        0..=2_699 => dice.between(500, 1_500),
        2_700..=6_999 => dice.between(1_500, 4_000),
        7_000..=9_239 => dice.between(4_000, 9_000),
        9_240..=9_939 => dice.between(9_000, 30_000),
        9_940..=9_995 => dice.between(30_000, 120_000),
        _ => dice.between(1_000_000, 3_000_000),
    }
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(text.len() + text.len() / 32);
    for &byte in text {
        if byte == b'\n' {
            stored.push(b'\r');
        }
        stored.push(byte);
    }
    stored
}

/// The envelope and headers of a letter.
struct Head<'a> {
    seed: u64,
    owner: &'a Person,
    number: u64,
}

impl Head<'_> {
    fn write(&self, draft: &mut Draft, dice: &mut Chance) {
        let Self { seed, owner, number } = *self;
        let arrived = owner.arrival(number);
        let date = date(arrived - 4);
        let (name, sender) =
            dice.pick(draft.words.senders, ("Post", "post@mail.example"));
        let subject = dice.pick(draft.words.subjects, "-");
        let host = owner.node + 1;
        let id = dice.throw();
        draft.line(&format!("Return-Path: <{sender}>"));
        draft.line(&format!("Delivered-To: {}", owner.address));
        draft.line(&format!("Received: from mx1.{}", owner.domain));
        draft.line(&format!(
            "\tby stor-{host:02} with LMTP\n\tid {id:016x}\n\t(envelope-from <{sender}>)"
        ));
        draft.line(&format!("\tfor <{}>; {}", owner.address, self::date(arrived)));
        draft.line(&format!("Date: {date}"));
        draft.line(&format!("From: {} <{sender}>", encoded(name)));
        draft.line(&format!("To: <{}>", owner.address));
        draft.line(&format!("Subject: {}", encoded(&format!("{subject} {number}"))));
        draft.line(&format!(
            "Message-ID: <{seed:x}.{}.{number}.{id:x}@{}>",
            owner.number, owner.domain
        ));
        draft.line("MIME-Version: 1.0");
    }
}

/// A letter being written, with LF line ends.
struct Draft {
    text: Vec<u8>,
    words: &'static Phrases,
    latin: bool,
}

impl Draft {
    fn line(&mut self, line: &str) {
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
    }

    fn prose(&mut self, prose: &str) {
        if self.latin {
            self.text
                .extend(prose.chars().map(|sign| u8::try_from(sign).unwrap_or(b'?')));
        } else {
            self.text.extend_from_slice(prose.as_bytes());
        }
    }

    fn part_head(&mut self, kind: &str) {
        let charset = if self.latin { "iso-8859-1" } else { "utf-8" };
        self.line(&format!("Content-Type: text/{kind}; charset={charset}"));
        self.line("Content-Transfer-Encoding: 8bit");
        self.line("");
    }

    fn plain(&mut self, size: u64, dice: &mut Chance) {
        self.latin = self.words.latin && dice.percent(40);
        self.part_head("plain");
        let end = self.text.len() + usize::try_from(size).unwrap_or(0);
        loop {
            self.prose(dice.pick(self.words.paragraphs, "\n"));
            if self.text.len() >= end {
                return;
            }
            self.prose("\n");
        }
    }

    fn alternative(&mut self, size: u64, boundary: &str, dice: &mut Chance) {
        self.line(&format!(
            "Content-Type: multipart/alternative; boundary=\"{boundary}\""
        ));
        self.line("");
        self.line(&format!("--{boundary}"));
        self.plain(size / 2, dice);
        self.line(&format!("--{boundary}"));
        self.part_head("html");
        self.prose("<html><body>\n");
        let end = self.text.len() + usize::try_from(size / 2).unwrap_or(0);
        while self.text.len() < end {
            self.prose("<p>");
            self.prose(dice.pick(self.words.paragraphs, "\n").trim_end());
            self.prose("</p>\n");
        }
        self.prose("</body></html>\n");
        self.line(&format!("--{boundary}--"));
    }
}

/// A header value: as it is when ASCII, else as one RFC 2047 word.
fn encoded(value: &str) -> String {
    if value.is_ascii() {
        return value.to_owned();
    }
    let mut word = String::from("=?utf-8?q?");
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() {
            word.push(char::from(byte));
        } else {
            word.push('=');
            for digit in [byte >> 4, byte & 15] {
                let sign = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                word.push(sign.to_ascii_uppercase());
            }
        }
    }
    word.push_str("?=");
    word
}

fn date(seconds: i64) -> String {
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::people::Census;

    const CENSUS: Census = Census { seed: 3, mailboxes: 60, nodes: 3, messages: 20 };

    #[test]
    fn a_letter_can_be_written_again() {
        let person = CENSUS.person(5);

        let letter = Letters::new(3).letter(&person, 1);

        assert_eq!(letter, Letters::new(3).letter(&person, 1));
        assert_ne!(letter, Letters::new(3).letter(&person, 2));
    }

    #[test]
    fn letters_are_awkward_but_whole() {
        let letters = Letters::new(3);
        let (mut eight_bit, mut crlf, mut parts, mut sizes) = (0, 0, 0, Vec::new());

        for number in 0..60 {
            for which in 0..10 {
                let person = CENSUS.person(number);
                let letter = letters.letter(&person, which);
                let text = String::from_utf8_lossy(&letter);
                assert!(!letter.contains(&0));
                assert!(text.contains(&format!("Delivered-To: {}", person.address)));
                assert!(text.contains("\n\n") || text.contains("\r\n\r\n"));
                eight_bit += usize::from(!letter.is_ascii());
                crlf += usize::from(text.contains("\r\n"));
                parts += usize::from(text.contains("multipart/"));
                sizes.push(letter.len());
            }
        }

        sizes.sort_unstable();
        assert!(eight_bit > 100 && crlf > 60 && parts > 100);
        assert!((2_000..5_000).contains(&sizes[sizes.len() / 2]));
    }

    #[test]
    fn a_bare_line_feed_counts_twice() {
        assert_eq!(virtual_size(b"a\nb\r\nc\n"), 9);
    }
}
