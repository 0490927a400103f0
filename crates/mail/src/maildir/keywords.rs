//! Keywords: `dovecot-keywords`, which letter means which keyword in one folder.
//!
//! # Invariants
//!
//! * A readable live table is only ever extended, never renumbered.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::number;

/// Letters `a` to `z`.
const KEYWORDS_MAX: u8 = 26;

/// The keywords of one folder by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keywords {
    names: BTreeMap<u8, Vec<u8>>,
}

impl Keywords {
    /// Parses a table; nothing if any line is not as Dovecot writes it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut names = BTreeMap::new();
        if bytes.is_empty() {
            return Some(Self { names });
        }
        for line in bytes.strip_suffix(b"\n")?.split(|byte| *byte == b'\n') {
            let at = line.iter().position(|byte| *byte == b' ')?;
            let (index, name) = line.split_at_checked(at)?;
            let name = name.get(1..)?;
            let index: u8 = number(index)?;
            if name.is_empty() || name.contains(&0) || index >= KEYWORDS_MAX {
                return None;
            }
            names.insert(index, name.to_vec());
        }
        Some(Self { names })
    }

    /// No keyword at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The letter here for what `letter` means in `other`, taking a free one where needed.
    ///
    /// Nothing if the letter means nothing there, or all letters are taken.
    pub(crate) fn adopt(&mut self, other: &Self, letter: u8) -> Option<u8> {
        self.letter_of(other.names.get(&letter.checked_sub(b'a')?)?)
    }

    /// The letter of a keyword, taking a free one where needed; nothing if all are taken.
    pub(crate) fn letter_of(&mut self, name: &[u8]) -> Option<u8> {
        let held = self.names.iter().find(|(_, held)| *held == name);
        let index = match held {
            Some((index, _)) => *index,
            None => {
                let free =
                    (0..KEYWORDS_MAX).find(|index| !self.names.contains_key(index))?;
                self.names.insert(free, name.to_vec());
                free
            }
        };
        index.checked_add(b'a')
    }

    /// Finds names for letters that have none. `seen`: letters of messages with the names of their
    /// keywords.
    ///
    /// A name is a letter's if every message with the letter has it, and none without.
    pub(crate) fn learn(&mut self, seen: &[(Vec<u8>, BTreeSet<Vec<u8>>)]) {
        // Each new name may tell others apart.
        while let Some((index, name)) = self.next_name(seen) {
            self.names.insert(index, name);
        }
    }

    fn next_name(&self, seen: &[(Vec<u8>, BTreeSet<Vec<u8>>)]) -> Option<(u8, Vec<u8>)> {
        if seen.is_empty() {
            return None;
        }
        let mut nameless =
            (0..KEYWORDS_MAX).filter(|index| !self.names.contains_key(index));
        nameless.find_map(|index| Some((index, self.only_name_for(index + b'a', seen)?)))
    }

    fn only_name_for(
        &self,
        letter: u8,
        seen: &[(Vec<u8>, BTreeSet<Vec<u8>>)],
    ) -> Option<Vec<u8>> {
        let (with, without): (Vec<_>, Vec<_>) =
            seen.iter().partition(|(letters, _)| letters.contains(&letter));
        let everywhere = |name: &&Vec<u8>| with.iter().all(|(_, it)| it.contains(*name));
        let elsewhere =
            |name: &&Vec<u8>| without.iter().any(|(_, it)| it.contains(*name));
        let taken = |name: &&Vec<u8>| self.names.values().any(|held| held == *name);
        let (_, first) = with.first()?;
        let mut names = first
            .iter()
            .filter(|name| everywhere(name) && !elsewhere(name) && !taken(name));
        names.next().filter(|_| names.next().is_none()).cloned()
    }

    /// As it goes to disk.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, name) in &self.names {
            bytes.extend_from_slice(index.to_string().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(b'\n');
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_keyword_keeps_its_meaning_when_its_letter_differs() {
        let snapshot = Keywords::parse(b"0 $Work\n1 $Junk\n").unwrap();
        let mut live = Keywords::parse(b"0 $Junk\n").unwrap();

        assert_eq!(live.adopt(&snapshot, b'b'), Some(b'a'));
        assert_eq!(live.adopt(&snapshot, b'a'), Some(b'b'));
        assert_eq!(live.adopt(&snapshot, b'z'), None);
        assert_eq!(live.to_bytes(), b"0 $Junk\n1 $Work\n");
    }

    #[test]
    fn a_letter_without_a_name_gets_the_only_one_that_fits() {
        let words =
            |words: &[&str]| words.iter().map(|it| it.as_bytes().to_vec()).collect();
        let seen = [
            (b"Sac".to_vec(), words(&["$Work", "$New"])),
            (b"c".to_vec(), words(&["$New"])),
            (b"de".to_vec(), words(&["$This", "$That"])),
        ];
        let mut keywords = Keywords::parse(b"0 $Work\n").unwrap();

        keywords.learn(&seen);

        assert_eq!(keywords.to_bytes(), b"0 $Work\n2 $New\n");
    }

    #[test]
    fn a_zeroed_or_cut_table_is_no_table() {
        assert_eq!(Keywords::parse(b"\0\0\0\0"), None);
        assert_eq!(Keywords::parse(b"0 $Wo"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_parsed_and_what_parses_reads_back(bytes: Vec<u8>) {
            if let Some(keywords) = Keywords::parse(&bytes) {
                prop_assert_eq!(Keywords::parse(&keywords.to_bytes()), Some(keywords));
            }
        }
    }
}
