//! Canon: a message's body in the forms in which it is signed (RFC 6376 3.4).
//!
//! # Invariants
//!
//! * What comes out does not depend on the pieces in which the body came in, nor on whether its
//!   line ends are stored as LF or CRLF.
//! * Memory does not grow with the body.

use memchr::memchr;

/// Given on at once; hashing small pieces costs more.
const OUT_BYTES: usize = 8 * 1024;

/// A form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without the empty lines at its end.
    Simple,
    /// Also with one blank for many, and none at the end of a line.
    Relaxed,
}

/// A body that is coming in.
#[derive(Debug)]
pub(super) struct Canon {
    kind: Kind,
    /// Line ends seen since the last other byte.
    breaks: u64,
    /// A carriage return came last.
    after_cr: bool,
    /// A blank came last, which counts only if something follows it in its line.
    after_blank: bool,
    /// It has something other than line ends.
    begun: bool,
    out: Vec<u8>,
}

impl Canon {
    pub(super) fn new(kind: Kind) -> Self {
        let out = Vec::with_capacity(OUT_BYTES);
        Self { kind, breaks: 0, after_cr: false, after_blank: false, begun: false, out }
    }

    /// Takes in the next bytes; gives canonical ones to `to`.
    pub(super) fn add(&mut self, chunk: &[u8], to: &mut impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(at) = memchr(b'\n', rest) {
            let (line, more) = rest.split_at(at);
            if !line.is_empty() {
                self.end_cr(to);
            }
            self.line(line.strip_suffix(b"\r").unwrap_or(line), to);
            (self.after_cr, self.after_blank) = (false, false);
            self.breaks += 1;
            rest = more.get(1..).unwrap_or_default();
            if self.out.len() >= OUT_BYTES {
                self.give(to);
            }
        }
        if !rest.is_empty() {
            self.end_cr(to);
            let line = rest.strip_suffix(b"\r");
            self.line(line.unwrap_or(rest), to);
            self.after_cr = line.is_some();
            self.give(to);
        }
    }

    /// Gives what is left, and the line end that every body has.
    pub(super) fn finish(mut self, to: &mut impl FnMut(&[u8])) {
        self.end_cr(to);
        if self.begun || self.kind == Kind::Simple {
            self.out.extend_from_slice(b"\r\n");
        }
        self.give(to);
    }

    /// The carriage return that came last ended no line.
    fn end_cr(&mut self, to: &mut impl FnMut(&[u8])) {
        if std::mem::take(&mut self.after_cr) {
            self.line(b"\r", to);
        }
    }

    fn line(&mut self, part: &[u8], to: &mut impl FnMut(&[u8])) {
        match self.kind {
            Kind::Simple => self.push(part, to),
            Kind::Relaxed => self.relax(part, to),
        }
    }

    fn relax(&mut self, part: &[u8], to: &mut impl FnMut(&[u8])) {
        let begin = part.iter().position(|byte| !is_blank(*byte)).unwrap_or(part.len());
        let (blanks, rest) = part.split_at(begin);
        self.after_blank |= !blanks.is_empty();
        let end = rest.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |at| at + 1);
        let (words, blanks) = rest.split_at(end);
        if words.is_empty() {
            return;
        }
        if std::mem::take(&mut self.after_blank) {
            self.push(b" ", to);
        }
        if has_odd_blank(words) {
            for word in
                words.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty())
            {
                if std::mem::take(&mut self.after_blank) {
                    self.push(b" ", to);
                }
                self.push(word, to);
                self.after_blank = true;
            }
        } else {
            self.push(words, to);
        }
        self.after_blank = !blanks.is_empty();
    }

    fn push(&mut self, bytes: &[u8], to: &mut impl FnMut(&[u8])) {
        if bytes.is_empty() {
            return;
        }
        for _ in 0..std::mem::take(&mut self.breaks) {
            self.out.extend_from_slice(b"\r\n");
            // Empty lines may be all that there is of a body, up to a byte.
            if self.out.len() >= OUT_BYTES {
                self.give(to);
            }
        }
        self.out.extend_from_slice(bytes);
        self.begun = true;
    }

    fn give(&mut self, to: &mut impl FnMut(&[u8])) {
        to(&self.out);
        self.out.clear();
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether words have a blank between them that is not one space.
fn has_odd_blank(words: &[u8]) -> bool {
    let after = words.get(1..).unwrap_or_default();
    // Without branches, so that many bytes are compared at once.
    let odd = |(before, after): (&u8, &u8)| {
        u8::from(*before == b'\t')
            | (u8::from(*before == b' ') & u8::from(*after == b' '))
    };
    words.iter().zip(after).map(odd).fold(0, |found, odd| found | odd) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canon(kind: Kind, body: &[u8], pieces: usize) -> Vec<u8> {
        let (mut canon, mut out) = (Canon::new(kind), Vec::new());
        body.chunks(pieces).for_each(|piece| canon.add(piece, &mut |it| out.extend(it)));
        canon.finish(&mut |it| out.extend(it));
        out
    }

    /// Word for word after RFC 6376 3.4.3 and 3.4.4.
    fn slow(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> =
            body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let last = lines.len() - 1;
        for line in &mut lines[..last] {
            line.pop_if(|byte| *byte == b'\r');
        }
        if kind == Kind::Relaxed {
            for line in &mut lines {
                let mut words: Vec<&[u8]> =
                    line.split(|byte| matches!(byte, b' ' | b'\t')).collect();
                let begins_blank = words[0].is_empty() && words.len() > 1;
                words.retain(|word| !word.is_empty());
                let mut short = words.join(&b' ');
                if begins_blank && !short.is_empty() {
                    short.insert(0, b' ');
                }
                *line = short;
            }
        }
        while lines.pop_if(|line| line.is_empty()).is_some() {}
        let mut body: Vec<u8> =
            lines.iter().flat_map(|line| [&**line, b"\r\n"].concat()).collect();
        if body.is_empty() && kind == Kind::Simple {
            body = b"\r\n".to_vec();
        }
        body
    }

    #[test]
    fn the_example_of_the_rfc_gives_what_it_says() {
        let body = b" C \r\nD \t E\r\n\r\n\r\n";

        assert_eq!(canon(Kind::Relaxed, body, 99), b" C\r\nD E\r\n");
        assert_eq!(canon(Kind::Simple, body, 99), b" C \r\nD \t E\r\n");
    }

    #[test]
    fn an_empty_body_is_a_line_end_or_nothing() {
        for body in [&b""[..], b"\n", b"\r\n\r\n\n"] {
            assert_eq!(canon(Kind::Simple, body, 1), b"\r\n");
            assert_eq!(canon(Kind::Relaxed, body, 1), b"");
        }
    }

    #[test]
    fn a_body_of_empty_lines_costs_no_memory() {
        let (mut canon, mut length) = (Canon::new(Kind::Relaxed), 0);
        for piece in [&b"x"[..], &b"\n".repeat(1_000_000), b"y"] {
            canon.add(piece, &mut |it| length += it.len());
        }

        assert_eq!(length, 2_000_002);
        assert!(canon.out.capacity() <= 2 * OUT_BYTES);
    }

    proptest! {
        #[test]
        fn any_body_in_any_pieces_is_what_the_rfc_says(
            body in "([ \t\r\n]{0,3}[\r\nab ]{0,4}){0,30}", pieces in 1..20_usize,
        ) {
            for kind in [Kind::Simple, Kind::Relaxed] {
                let fast = canon(kind, body.as_bytes(), pieces);
                let slow = slow(kind, body.as_bytes());
                prop_assert_eq!(fast.escape_ascii().to_string(), slow.escape_ascii().to_string());
            }
        }
    }
}
