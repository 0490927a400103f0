//! Shape: signs that a message's structure was cut or overwritten.
//!
//! # Invariants
//!
//! * All of them occur in real mail: they weigh where two versions disagree, never alone.

use memchr::memmem::Finder;

use crate::judge::head::{fields, is_field, lines};

/// Longer boundaries are not mail's: 70 is what RFC 2046 5.1.1 allows.
const BOUNDARY_BYTES_MAX: usize = 200;

/// A body that is coming in.
#[derive(Default)]
pub(super) struct Shape {
    end: Option<PartsEnd>,
    /// Control characters that text has no use for.
    has_controls: bool,
    /// Its date is none.
    impossible_date: bool,
    /// Its header has a line that is neither a field nor goes on with one.
    has_odd_line: bool,
}

impl Shape {
    /// Reads what a header says of the body.
    pub(super) fn of(header: &[u8]) -> Self {
        let mut shape = Self { has_controls: has_controls(header), ..Self::default() };
        let mut later = lines(header).skip(1);
        shape.has_odd_line = later.any(|line| {
            !is_field(line) && !line.starts_with(b" ") && !line.starts_with(b"\t")
        });
        for (name, value) in fields(header) {
            if name.eq_ignore_ascii_case(b"content-type") && shape.end.is_none() {
                shape.end = boundary(value).map(|boundary| PartsEnd::new(&boundary));
            } else if name.eq_ignore_ascii_case(b"date") {
                shape.impossible_date |= !is_date(value);
            }
        }
        shape
    }

    /// Takes in the next bytes of the body.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        if let Some(end) = &mut self.end {
            end.add(chunk);
        }
        self.has_controls = self.has_controls || has_controls(chunk);
    }

    /// How many signs there are.
    pub(super) fn oddities(&self) -> u32 {
        let is_open = self.end.as_ref().is_some_and(|end| !end.found);
        let signs = [is_open, self.has_controls, self.impossible_date, self.has_odd_line];
        signs.into_iter().map(u32::from).sum()
    }
}

/// The line that ends a message of several parts; without it the message was cut.
struct PartsEnd {
    line: Finder<'static>,
    /// The last bytes before what comes in, in which it may have begun.
    tail: Vec<u8>,
    found: bool,
}

impl PartsEnd {
    fn new(boundary: &[u8]) -> Self {
        let line = Finder::new(&[b"\n--", boundary, b"--"].concat()).into_owned();
        // The body begins with a line, whatever was before it.
        Self { line, tail: vec![b'\n'], found: false }
    }

    fn add(&mut self, chunk: &[u8]) {
        if self.found {
            return;
        }
        let kept = self.line.needle().len() - 1;
        let first = chunk.get(..kept.min(chunk.len())).unwrap_or_default();
        self.tail.extend_from_slice(first);
        self.found = [&self.tail, chunk].iter().any(|it| self.line.find(it).is_some());
        if chunk.len() > kept {
            self.tail.clear();
            self.tail.extend_from_slice(chunk);
        }
        let before = self.tail.len().saturating_sub(kept);
        self.tail.drain(..before);
    }
}

/// The boundary of a message of several parts (RFC 2046 5.1.1).
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"boundary";
    let value = content_type.trim_ascii();
    let is_multipart = value.get(..10)?.eq_ignore_ascii_case(b"multipart/");
    let named = |window: &[u8]| window.eq_ignore_ascii_case(NAME);
    let at = value.windows(NAME.len()).position(named).filter(|_| is_multipart)?;
    let rest = value.get(at + NAME.len()..)?.trim_ascii_start();
    let rest = rest.strip_prefix(b"=")?.trim_ascii_start();
    let boundary = match rest.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next()?,
        None => rest.split(|byte| *byte == b';' || byte.is_ascii_whitespace()).next()?,
    };
    let fits = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len());
    fits.then(|| boundary.to_vec())
}

/// A date as RFC 5322 3.3 has it, in a year in which there is mail.
fn is_date(value: &[u8]) -> bool {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
        "dec",
    ];
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let text = text.to_ascii_lowercase();
    let words = text.split(|it: char| it == ',' || it.is_ascii_whitespace());
    let mut words = words.filter(|word| !word.is_empty()).peekable();
    words.next_if(|word| word.starts_with(|it: char| it.is_ascii_alphabetic()));
    let (Some(day), Some(month), Some(year), Some(time)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let mut time = time.split(':');
    is_within(Some(day), 1, 31)
        && MONTHS.iter().any(|it| month.starts_with(it))
        && (is_within(Some(year), 0, 99) || is_within(Some(year), 1970, 2099))
        && is_within(time.next(), 0, 23)
        && is_within(time.next(), 0, 59)
}

fn is_within(digits: Option<&str>, min: u32, max: u32) -> bool {
    let number = digits.and_then(|digits| digits.parse().ok());
    number.is_some_and(|it| (min..=max).contains(&it))
}

/// Whether there are control characters other than zeros (counted elsewhere) and those that
/// layout (HT to CR), Asian character sets (ESC, SO, SI) and old mailers (BS) use.
fn has_controls(chunk: &[u8]) -> bool {
    // Without branches, so that many bytes are compared at once.
    let odd = |byte: &u8| {
        let low = u8::from(byte.wrapping_sub(1) < 7);
        let high = u8::from(byte.wrapping_sub(0x10) < 0x10) & u8::from(*byte != 0x1b);
        low | high | u8::from(*byte == 0x7f)
    };
    chunk.iter().map(odd).fold(0, |found, odd| found | odd) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, body: &str, expected: u32) {
        for pieces in 1..body.len().max(2) {
            let mut shape = Shape::of(header.as_bytes());
            body.as_bytes().chunks(pieces).for_each(|piece| shape.add(piece));
            assert_eq!(
                shape.oddities(),
                expected,
                "{header} {body:?} in pieces of {pieces}"
            );
        }
    }

    #[test]
    fn a_message_of_several_parts_without_its_end_is_odd() {
        let quoted = "Content-Type: multipart/mixed;\n\tboundary=\"a b;c\"\n";
        let plain = "content-type: MULTIPART/Mixed; Boundary = abc; x=y\n";

        check(quoted, "--a b;c\nx\n--a b;c--\nepilogue", 0);
        check(quoted, "--a b;c\nx\n--a b;c\nand here it was cu", 1);
        check(plain, "preamble\r\n--abc\r\n\r\n--abc--", 0);
        check(plain, "--abc--", 0);
        check(plain, "no part x--abc--", 1);
        check("Content-Type: text/plain; boundary=abc\n", "text", 0);
    }

    #[test]
    fn characters_that_text_has_no_use_for_are_odd() {
        check("", "tab\t line\r\n page\x0c escape\x1b(B shift\x0e\x0f h\u{e4}", 0);
        for byte in (1..7).chain(0x10..0x1b).chain(0x1c..0x20).chain([0x7f]) {
            check("", &format!("a{}b", char::from(byte)), 1);
        }
    }

    #[test]
    fn a_header_overwritten_by_something_else_is_odd() {
        check("From a@example.org Mon\nA: b\n c\n\td: e\r\nX-Y: z\r\n", "", 0);
        check("A: b\nand text of another message\n", "", 1);
        check("A: b\nC: \x02\n", "", 1);
    }

    #[test]
    fn a_date_is_one_or_odd() {
        let date =
            |value: &str, expected| check(&format!("Date: {value}\n"), "", expected);

        date("Tue, 1 Jul 2003 10:52:37 +0200", 0);
        date("21 Nov 97 09:55 GMT (comment)", 0);
        date("Fri,\n 21 November 1997 09:55:06 -0600", 0);
        date("Tue, 1 Jul 1603 10:52:37 +0200", 1);
        date("Tue, 32 Jul 2003 10:52:37 +0200", 1);
        date("Tue, 1 Jul 2003 99:52:37 +0200", 1);
        date("garbage", 1);
        date("", 1);
    }
}
