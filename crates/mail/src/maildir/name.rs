//! Name: what a Maildir file name says about its message.
//!
//! # Invariants
//!
//! * The base name, with its `S=` and `W=`, never changes while the message lives; what follows the
//!   first `:` (flags) may.
//! * Parsing never fails: what a name does not say is absent.

use crate::judge::Promise;
use crate::manifest::number;

/// Flags that a mail server keeps in its index too.
const FLAGS: &[u8] = b"DFRST";

/// A Maildir file name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MailName<'a> {
    /// Everything before the first `:`.
    pub(crate) base: &'a [u8],
    /// Everything after the first `:`, usually `2,` and flags.
    pub(crate) info: Option<&'a [u8]>,
    /// `S=`: bytes of the message.
    pub(crate) size: Option<u64>,
    /// `W=`: bytes of the message if every bare LF were CRLF.
    pub(crate) virtual_size: Option<u64>,
}

impl<'a> MailName<'a> {
    /// Takes a file name apart.
    pub(crate) fn parse(name: &'a [u8]) -> Self {
        let mut halves = name.splitn(2, |byte| *byte == b':');
        let base = halves.next().unwrap_or(name);
        Self {
            base,
            info: halves.next(),
            size: field(base, b"S="),
            virtual_size: field(base, b"W="),
        }
    }

    /// The base of a file name.
    pub(crate) fn base_of(name: &'a [u8]) -> &'a [u8] {
        let end = memchr::memchr(b':', name).unwrap_or(name.len());
        name.get(..end).unwrap_or(name)
    }

    /// What the name promises of its message.
    pub(crate) fn promise(&self) -> Promise {
        Promise { size: self.size, virtual_size: self.virtual_size }
    }

    /// The time of delivery at the head of the base name; 0 if there is none.
    pub(crate) fn delivered_at(&self) -> u64 {
        let digits: Vec<u8> =
            self.base.iter().copied().take_while(u8::is_ascii_digit).collect();
        number(&digits).unwrap_or(0)
    }

    /// The same message with other flags, each keyword letter passed through `letter`.
    ///
    /// Flags (upper case) stay if none are given; letters for which there is no answer are dropped.
    /// The result is in the order that Dovecot writes: ascending.
    pub(crate) fn with_flags(
        &self,
        given: Option<&[u8]>,
        mut letter: impl FnMut(u8) -> Option<u8>,
    ) -> Vec<u8> {
        let any = given.is_some_and(|given| !given.is_empty());
        let unflagged: Option<&[u8]> = any.then_some(b"2,");
        let Some(info) = self.info.or(unflagged) else { return self.base.to_vec() };
        let mut name = self.base.to_vec();
        name.push(b':');
        let Some(flags) = info.strip_prefix(b"2,") else {
            name.extend_from_slice(info);
            return name;
        };
        name.extend_from_slice(b"2,");
        let (plain, extra) = match flags.iter().position(|byte| *byte == b',') {
            Some(at) => flags.split_at(at),
            None => (flags, &[][..]),
        };
        let mut flags: Vec<u8> = plain
            .iter()
            .filter(|byte| given.is_none() || !FLAGS.contains(byte))
            .filter_map(|byte| {
                if byte.is_ascii_lowercase() { letter(*byte) } else { Some(*byte) }
            })
            .chain(given.unwrap_or_default().iter().copied())
            .collect();
        flags.sort_unstable();
        flags.dedup();
        name.extend_from_slice(&flags);
        name.extend_from_slice(extra);
        name
    }
}

fn field(base: &[u8], key: &[u8]) -> Option<u64> {
    base.split(|byte| *byte == b',')
        .skip(1)
        .find_map(|part| part.strip_prefix(key))
        .and_then(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dovecot_name_gives_its_sizes_and_flags() {
        let name = MailName::parse(b"1795293977.M453233P20606.host,S=3358,W=3413:2,FSa");

        assert_eq!(name.base, b"1795293977.M453233P20606.host,S=3358,W=3413");
        assert_eq!((name.size, name.virtual_size), (Some(3358), Some(3413)));
        assert_eq!(name.info, Some(&b"2,FSa"[..]));
        assert_eq!(name.delivered_at(), 1_795_293_977);
    }

    #[test]
    fn an_odd_name_says_nothing_and_is_no_error() {
        let name = MailName::parse(b"12345,S=-1,W=999999999999999999999999");

        assert_eq!((name.size, name.virtual_size, name.info), (None, None, None));
    }

    #[test]
    fn keyword_letters_are_translated_and_flags_stay() {
        let name = MailName::parse(b"1.a:2,FSab");

        let moved = name.with_flags(None, |letter| (letter == b'a').then_some(b'c'));

        assert_eq!(moved, b"1.a:2,FSc");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_parsed_and_the_base_is_a_prefix(name: Vec<u8>) {
            let parsed = MailName::parse(&name);
            prop_assert!(name.starts_with(parsed.base));
            prop_assert_eq!(parsed.with_flags(None, Some).len() <= name.len(), true);
        }
    }
}
