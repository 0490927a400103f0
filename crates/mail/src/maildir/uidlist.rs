//! Uidlist: `dovecot-uidlist`, version 3, and what it proves.
//!
//! # Invariants
//!
//! * A list that is whole is rewritten only to give new UIDs to mail that it has let go and that
//!   comes back.
//! * A rebuilt list keeps the UIDVALIDITY, the folder's GUID and every UID that either side knows,
//!   ascending, and starts new UIDs far above them: no UID is ever given twice.
//! * Silence of a damaged list proves nothing: only a name that a sound part of the list would have
//!   to hold, and does not, was deleted on purpose.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::index::{Index, LastFlags, Reading};
use crate::merge::Listing;
use crate::manifest::number;

/// How far above all known UIDs a rebuilt list begins: more than any folder can have given out
/// between its snapshot and the fault, and small beside the 32 bits of a UID.
pub(crate) const UID_GAP: u32 = 100_000;

/// One parsed list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uidlist {
    header: Option<Header>,
    entries: Vec<Entry>,
    /// The first line that is not as Dovecot writes it came after this UID; nothing if all are.
    sound_until: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    uid_validity: u32,
    next_uid: u32,
    /// Further fields, the folder's GUID among them, each with its letter.
    fields: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uid: u32,
    /// Fields between the UID and the name, with their blanks.
    extra: Vec<u8>,
    /// Base name.
    name: Vec<u8>,
}

impl Uidlist {
    /// Parses the bytes of a list; whatever is not sound is left out and remembered as damage.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut list = Self::default();
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        // A first line without its end may have lost digits of the UIDVALIDITY.
        let first = lines.next().filter(|_| lines.peek().is_some());
        list.header = first.and_then(Header::parse);
        if list.header.is_none() {
            list.sound_until = Some(0);
        }
        while let Some(line) = lines.next() {
            let last_piece = lines.peek().is_none();
            if last_piece && line.is_empty() {
                return list;
            }
            let last = list.last_uid();
            match Entry::parse(line).filter(|entry| entry.uid > last && !last_piece) {
                Some(entry) => list.entries.push(entry),
                None => list.sound_until = list.sound_until.or(Some(last)),
            }
        }
        list.sound_until = list.sound_until.or(Some(list.last_uid()));
        list
    }

    /// A list that is not there.
    pub(crate) fn lost() -> Self {
        Self { sound_until: Some(0), ..Self::default() }
    }

    /// The folder's GUID.
    pub(crate) fn guid(&self) -> Option<&[u8]> {
        let fields = &self.header.as_ref()?.fields;
        fields.iter().find_map(|field| field.strip_prefix(b"G"))
    }

    fn last_uid(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.uid)
    }

    /// The next UID; the header may be old.
    fn next_uid(&self) -> u32 {
        let header = self.header.as_ref().map_or(1, |header| header.next_uid);
        header.max(self.last_uid().saturating_add(1))
    }

    fn uid_validity(&self) -> Option<u32> {
        self.header.as_ref().map(|header| header.uid_validity)
    }

    fn uids(&self) -> HashMap<&[u8], u32> {
        self.entries.iter().map(|entry| (&*entry.name, entry.uid)).collect()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(header) = &self.header {
            bytes.extend_from_slice(
                format!("3 V{} N{}", header.uid_validity, header.next_uid).as_bytes(),
            );
            for field in &header.fields {
                bytes.push(b' ');
                bytes.extend_from_slice(field);
            }
            bytes.push(b'\n');
        }
        for entry in &self.entries {
            bytes.extend_from_slice(entry.uid.to_string().as_bytes());
            bytes.extend_from_slice(&entry.extra);
            bytes.extend_from_slice(b" :");
            bytes.extend_from_slice(&entry.name);
            bytes.push(b'\n');
        }
        bytes
    }
}

impl Header {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.strip_prefix(b"3 ")?.split(|byte| *byte == b' ');
        let mut header = Self { uid_validity: 0, next_uid: 1, fields: Vec::new() };
        for field in &mut fields {
            match field.split_first() {
                Some((b'V', value)) => header.uid_validity = number(value)?,
                Some((b'N', value)) => header.next_uid = number(value)?,
                Some((_, value)) if field.iter().all(u8::is_ascii_graphic) => {
                    let _ = value;
                    header.fields.push(field.to_vec());
                }
                Some(_) | None => return None,
            }
        }
        (header.uid_validity > 0).then_some(header)
    }
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        if line.contains(&0) {
            return None;
        }
        let at = line.windows(2).position(|pair| pair == b" :")?;
        let (head, tail) = line.split_at_checked(at)?;
        let name = tail.get(2..)?.split(|byte| *byte == b':').next()?;
        let digits = head.split(|byte| *byte == b' ').next()?;
        let uid: u32 = number(digits)?;
        if uid == 0 || name.is_empty() || name.contains(&b'/') {
            return None;
        }
        let extra = head.get(digits.len()..)?.to_vec();
        Some(Self { uid, extra, name: name.to_vec() })
    }
}

/// The two lists of one folder, read together.
#[derive(Debug)]
pub(crate) struct Lists {
    live: Uidlist,
    snapshot: Option<Uidlist>,
    /// Both count in the same UIDVALIDITY, as far as both are readable.
    same_validity: bool,
    /// What the live index knows of these UIDs.
    index: Option<Index>,
}

impl Lists {
    /// Weighs the live list against the snapshot's, the base names that are there live, and the
    /// live index.
    pub(crate) fn new(
        mut live: Uidlist,
        snapshot: Option<Uidlist>,
        (live_names, index): (&HashSet<&[u8]>, Reading),
    ) -> Self {
        let validity = snapshot.as_ref().and_then(Uidlist::uid_validity);
        let same_validity = match (live.uid_validity(), validity) {
            (Some(live), Some(snapshot)) => live == snapshot,
            (_, None) | (None, Some(_)) => true,
        };
        if let Some(snapshot) = snapshot.as_ref().filter(|_| same_validity) {
            let known = live.uids();
            let contradiction = snapshot
                .entries
                .iter()
                .find(|entry| {
                    live_names.contains(&*entry.name) && !known.contains_key(&*entry.name)
                })
                .map(|entry| entry.uid.saturating_sub(1));
            let went_back =
                (live.next_uid() < snapshot.next_uid()).then(|| live.last_uid());
            live.sound_until =
                [live.sound_until, contradiction, went_back].into_iter().flatten().min();
        }
        let validity = live.uid_validity().or(validity);
        let index = validity.and_then(|validity| index.evidence(validity));
        Self { live, snapshot, same_validity, index }
    }

    /// What is known of a name that the snapshot has and the live folder has not.
    pub(crate) fn listing(&self, name: &[u8], known: &Known<'_>) -> Listing {
        if known.live.contains_key(name) {
            return Listing::Listed;
        }
        if !self.same_validity {
            return Listing::Unknown;
        }
        let headless = self.live.header.is_none();
        match (known.snapshot.get(name), self.live.sound_until) {
            (Some(uid), _) if headless => self.listing_by_index(*uid),
            (None, _) if headless => Listing::Unknown,
            (Some(uid), Some(sound_until)) if *uid <= sound_until => Listing::Unlisted,
            (Some(_), None) => Listing::Unlisted,
            (None, None) if !self.snapshot_is_sound() => Listing::Unlisted,
            (Some(uid), Some(_)) => self.listing_by_index(*uid),
            (None, _) => Listing::Unknown,
        }
    }

    /// What the index says where the list is silent.
    fn listing_by_index(&self, uid: u32) -> Listing {
        match self.index.as_ref().and_then(|index| index.holds(uid)) {
            Some(true) => Listing::Listed,
            Some(false) => Listing::Unlisted,
            None => Listing::Unknown,
        }
    }

    /// The flags that a message had last, if the index knows.
    pub(crate) fn last_flags(&self, uid: Option<u32>) -> Option<LastFlags> {
        self.index.as_ref()?.last_flags(uid?)
    }

    fn snapshot_is_sound(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|list| list.sound_until.is_none())
    }

    /// The UIDs of both lists by name.
    pub(crate) fn known(&self) -> Known<'_> {
        let snapshot = match &self.snapshot {
            Some(list) if self.same_validity => list.uids(),
            Some(_) | None => HashMap::new(),
        };
        Known { live: self.live.uids(), snapshot }
    }

    /// Every line of the live list is as Dovecot writes it, and none is missing.
    pub(crate) fn is_sound(&self) -> bool {
        self.live.sound_until.is_none()
    }

    /// The folder may have held newer mail that nothing names any more. `in_snapshot`: the folder
    /// was there; if it had no list then, its mail server writes none.
    pub(crate) fn may_hide_a_loss(&self, in_snapshot: bool) -> bool {
        !self.is_sound() && (self.snapshot.is_some() || !in_snapshot)
    }

    /// Names that only the live list holds.
    pub(crate) fn newer(&self) -> impl Iterator<Item = &[u8]> {
        let before = self.snapshot.as_ref().map(Uidlist::uids).unwrap_or_default();
        let names = self.live.entries.iter().map(|entry| &*entry.name);
        names.filter(move |name| !before.contains_key(name))
    }

    /// The list to put in place of a damaged one, or of one that has let go what comes back
    /// (`regained`); nothing if the live one can stay, or if no side knows the UIDVALIDITY.
    ///
    /// What comes back so gets new UIDs: mail programs know the old ones as gone.
    pub(crate) fn rebuilt(
        &self,
        present: &HashSet<&[u8]>,
        regained: &BTreeSet<&[u8]>,
    ) -> Option<Rebuilt> {
        if self.is_sound() && regained.is_empty() {
            return None;
        }
        let snapshot = self.snapshot.as_ref().filter(|_| self.same_validity);
        let mut header = self.live.header.clone().or_else(|| snapshot?.header.clone())?;
        let live_names = self.live.uids();
        let mut entries: BTreeMap<u32, Entry> =
            self.live.entries.iter().map(|entry| (entry.uid, entry.clone())).collect();
        for entry in snapshot.map_or(&[][..], |list| &list.entries) {
            let unheard = self.live.sound_until.is_some_and(|until| entry.uid > until)
                && self.listing_by_index(entry.uid) != Listing::Unlisted;
            let wanted = unheard || present.contains(&*entry.name);
            let known = live_names.contains_key(&*entry.name);
            if wanted && !known && !regained.contains(&*entry.name) {
                entries.entry(entry.uid).or_insert_with(|| entry.clone());
            }
        }
        let mut next = self.live.next_uid().max(snapshot.map_or(1, Uidlist::next_uid));
        if self.is_sound() {
            next = next.max(self.index.as_ref().map_or(1, |index| index.next_uid));
        } else {
            next = next.saturating_sub(1).saturating_add(UID_GAP);
        }
        for name in regained {
            entries.insert(
                next,
                Entry { uid: next, extra: Vec::new(), name: name.to_vec() },
            );
            next = next.saturating_add(1);
        }
        header.next_uid = next;
        let list = Uidlist {
            header: Some(header),
            entries: entries.into_values().collect(),
            sound_until: None,
        };
        Some(Rebuilt { bytes: list.to_bytes(), list })
    }

    /// Names that the final list holds, with their UIDs.
    pub(crate) fn final_uids<'a>(
        &'a self,
        rebuilt: Option<&'a Rebuilt>,
    ) -> HashMap<&'a [u8], u32> {
        rebuilt.map_or_else(|| self.live.uids(), |rebuilt| rebuilt.list.uids())
    }
}

/// UIDs by base name.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    live: HashMap<&'a [u8], u32>,
    snapshot: HashMap<&'a [u8], u32>,
}

impl Known<'_> {
    /// The UID of a name, live first.
    pub(crate) fn uid(&self, name: &[u8]) -> Option<u32> {
        self.live.get(name).or_else(|| self.snapshot.get(name)).copied()
    }
}

/// A list to be written.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    list: Uidlist,
    /// As it goes to disk.
    pub(crate) bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &[u8] = b"3 V1795293977 N1 Gf0102b\n1 :a,S=1\n2 P0001 :b,S=2\n4 :c\n";

    fn lists(live: &[u8], snapshot: &[u8], names: &[&[u8]]) -> Lists {
        Lists::new(
            Uidlist::parse(live),
            Some(Uidlist::parse(snapshot)),
            (&names.iter().copied().collect(), Reading::Silent),
        )
    }

    fn listing(lists: &Lists, name: &[u8]) -> Listing {
        lists.listing(name, &lists.known())
    }

    fn rebuilt(lists: &Lists) -> Option<String> {
        let rebuilt = lists.rebuilt(&HashSet::new(), &BTreeSet::new())?;
        Some(String::from_utf8(rebuilt.bytes).unwrap())
    }

    #[test]
    fn a_list_as_dovecot_writes_it_is_whole_and_an_old_next_uid_is_raised() {
        let list = Uidlist::parse(LIST);

        assert_eq!(list.sound_until, None);
        assert_eq!(list.next_uid(), 5);
        assert_eq!(list.guid(), Some(&b"f0102b"[..]));
        assert_eq!(list.to_bytes(), LIST);
    }

    #[test]
    fn a_list_cut_in_a_line_is_sound_until_the_line_before() {
        let list = Uidlist::parse(&LIST[..LIST.len() - 2]);

        assert_eq!(list.sound_until, Some(2));
        assert_eq!(list.last_uid(), 2);
    }

    #[test]
    fn a_list_cut_in_its_first_line_tells_no_uidvalidity() {
        let lists = lists(b"3 V1795", LIST, &[]);

        assert!(rebuilt(&lists).unwrap().starts_with("3 V1795293977 N100004 "));
    }

    #[test]
    fn a_name_let_go_by_a_whole_list_was_deleted_and_a_listed_one_was_lost() {
        let lists = lists(b"3 V1795293977 N5 Gf\n1 :a,S=1\n4 :c\n", LIST, &[]);

        assert_eq!(listing(&lists, b"b,S=2"), Listing::Unlisted);
        assert_eq!(listing(&lists, b"a,S=1"), Listing::Listed);
        assert_eq!(rebuilt(&lists), None);
    }

    #[test]
    fn a_list_cut_at_a_line_end_is_seen_by_its_next_uid() {
        let lists = lists(b"3 V1795293977 N1 Gf\n2 :b,S=2\n", LIST, &[]);

        assert_eq!(listing(&lists, b"a,S=1"), Listing::Unlisted);
        assert_eq!(listing(&lists, b"c"), Listing::Unknown);
        assert_eq!(
            rebuilt(&lists).unwrap(),
            "3 V1795293977 N100004 Gf\n2 :b,S=2\n4 :c\n"
        );
    }

    #[test]
    fn a_lost_list_is_rebuilt_from_the_snapshot_with_a_gap() {
        let lists = Lists::new(
            Uidlist::lost(),
            Some(Uidlist::parse(LIST)),
            (&HashSet::from([&b"new"[..]]), Reading::Silent),
        );

        assert_eq!(listing(&lists, b"a,S=1"), Listing::Unknown);
        assert_eq!(
            rebuilt(&lists).unwrap(),
            "3 V1795293977 N100004 Gf0102b\n1 :a,S=1\n2 P0001 :b,S=2\n4 :c\n"
        );
    }

    #[test]
    fn a_rebuilt_list_is_whole() {
        let once = lists(b"\0\0\0\0", LIST, &[]);
        let again = rebuilt(&once).unwrap();

        let twice = lists(again.as_bytes(), LIST, &[]);

        assert_eq!(rebuilt(&twice), None);
    }

    #[test]
    fn uids_of_another_validity_are_not_used() {
        let lists = lists(b"3 V7 N2 Gx\n1 :z\n", LIST, &[]);

        assert_eq!(listing(&lists, b"a,S=1"), Listing::Unknown);
        assert_eq!(lists.known().uid(b"a,S=1"), None);
    }

    #[test]
    fn a_message_never_listed_was_never_deleted() {
        let lists = lists(LIST, LIST, &[]);

        assert_eq!(listing(&lists, b"arrived-before-the-snapshot"), Listing::Unknown);
    }

    #[test]
    fn without_any_uidvalidity_nothing_is_invented() {
        let lists = Lists::new(Uidlist::lost(), None, (&HashSet::new(), Reading::Silent));

        assert_eq!(rebuilt(&lists), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_parsed(bytes: Vec<u8>) {
            let _ = Uidlist::parse(&bytes);
        }

        #[test]
        fn a_written_list_reads_back(
            uids in prop::collection::btree_set(1_u32..1_000_000, 0..40),
            validity in 1_u32..u32::MAX,
        ) {
            let list = Uidlist {
                header: Some(Header {
                    uid_validity: validity,
                    next_uid: 1,
                    fields: vec![b"Gabc".to_vec()],
                }),
                entries: uids
                    .into_iter()
                    .map(|uid| Entry {
                        uid,
                        extra: if uid % 3 == 0 { b" W12".to_vec() } else { Vec::new() },
                        name: format!("{uid}.x,S=1").into_bytes(),
                    })
                    .collect(),
                sound_until: None,
            };
            prop_assert_eq!(Uidlist::parse(&list.to_bytes()), list);
        }
    }
}
