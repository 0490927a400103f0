//! Maildir: names, UID lists and tables of keywords.
//!
//! # Invariants
//!
//! * A list that is written is one that Dovecot takes, after rules that are written down here once more.

use std::io::BufReader;

use super::{Chance, parts};
use crate::index::Reading;
use crate::maildir::keywords::Keywords;
use crate::maildir::name::MailName;
use crate::maildir::table::{Row, Table};
use crate::maildir::uidlist::{Lists, Reader, Summary};
use crate::manifest::number;
use crate::roots::Side;

/// A live list, a snapshot's list, and names of messages that come back, each behind a zero.
pub fn uidlist(bytes: &[u8]) {
    let (live, snapshot, names) = parts(bytes);
    let live = live.unwrap_or_default();
    let mut chance = Chance::of(bytes);
    let small = BufReader::with_capacity(chance.length(), live);
    assert_eq!(entries(live), entries(small), "pieces matter");
    let mut table = Table::default();
    let summary = Summary::read(live, Side::Live, &mut table);
    let before = snapshot.map(|list| Summary::read(list, Side::Snapshot, &mut table));
    let names = names.split(|byte| *byte == 0).filter(|name| is_base_name(name));
    let mut regained: Vec<Row> = names.map(|name| table.row(name)).collect();
    regained.retain(|row| table.uid(Side::Live, *row).is_none());
    regained.sort_by_key(|row| table.base(*row));
    regained.dedup();
    let lists = Lists::new(summary, before, (&table, Reading::Silent));
    if !lists.needs_rebuilding(!regained.is_empty()) {
        return;
    }
    let present = |row: Row| row.is_multiple_of(2);
    let rows = (&table, &present as &dyn Fn(Row) -> bool, &*regained);
    let mut written = Vec::new();
    let uids = lists.rebuild((Some(live), snapshot), rows, &mut written);
    let uids = uids.expect("memory takes all");

    let strict = strictly(&written);
    assert_eq!(entries(&*written).0, strict, "it reads back");
    let kept = entries(live).0;
    assert!(kept.iter().all(|entry| strict.contains(entry)), "live lines stay");
    let again = Summary::read(&*written, Side::Live, &mut Table::default());
    let again = Lists::new(again, None, (&Table::default(), Reading::Silent));
    assert!(again.is_sound(), "what is written is sound");
    let last = kept.last().map_or(0, |(uid, _)| *uid);
    for row in regained {
        let uid = usize::try_from(row).ok().and_then(|at| uids.get(at)).copied();
        assert!(uid.is_some_and(|uid| uid == 0 || uid > last), "new mail has a new UID");
    }
}

/// Sound lines, and what the list says as a whole.
fn entries(list: impl std::io::BufRead) -> (Vec<(u32, Vec<u8>)>, Summary) {
    let mut reader = Reader::new(list);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next() {
        entries.push((entry.uid, entry.name.to_vec()));
    }
    (entries, reader.summary())
}

/// A name that a file can have, up to its flags.
fn is_base_name(name: &[u8]) -> bool {
    let fits = (1..=255).contains(&name.len());
    fits && !name.contains(&b'/') && !name.contains(&b':')
}

/// Reads a list as Dovecot does (`maildir_uidlist_next`), and refuses what Dovecot refuses.
fn strictly(list: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let text = list.strip_suffix(b"\n").expect("the last line ends");
    let mut lines = text.split(|byte| *byte == b'\n');
    let head = lines.next().expect("there is a first line");
    let head = head.strip_prefix(b"3 V").expect("it begins with version and UIDVALIDITY");
    let mut fields = head.split(|byte| *byte == b' ');
    let validity: u32 = fields.next().and_then(number).expect("a UIDVALIDITY");
    let next: u32 = fields
        .next()
        .and_then(|field| number(field.strip_prefix(b"N")?))
        .expect("a next UID");
    assert_ne!(validity, 0);
    let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
    for line in lines {
        let colon = line.windows(2).position(|pair| pair == b" :").expect("a name");
        let (head, name) = line.split_at(colon);
        let uid = head.split(|byte| *byte == b' ').next().and_then(number);
        let uid: u32 = uid.expect("a UID");
        assert!(entries.last().is_none_or(|(last, _)| *last < uid), "UIDs rise");
        assert!(0 < uid && uid < next, "UID {uid} is not below {next}");
        let name = name.get(2..).unwrap_or_default();
        assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
        entries.push((uid, name.to_vec()));
    }
    entries
}

/// A file name.
pub fn name(bytes: &[u8]) {
    let name = MailName::parse(bytes);
    let whole = match name.info {
        Some(info) => [name.base, b":", info].concat(),
        None => name.base.to_vec(),
    };
    assert_eq!(whole, bytes, "nothing is lost");
    assert_eq!(MailName::parse(name.base).promise(), name.promise());
    let _ = name.delivered_at();

    for given in [None, Some(&b""[..]), Some(b"SF")] {
        let letter = |letter| (letter != b'c').then_some(letter);
        let once = name.with_flags(given, letter);
        let parsed = MailName::parse(&once);
        assert_eq!(parsed.base, name.base, "the base name stays");
        assert_eq!(parsed.with_flags(given, letter), once, "again is the same");
        let flags = parsed.info.and_then(|info| info.strip_prefix(b"2,"));
        let flags = flags.and_then(|it| it.split(|byte| *byte == b',').next());
        let flags = flags.unwrap_or_default();
        assert!(flags.windows(2).all(|pair| pair.first() < pair.last()), "they rise");
        assert!(!flags.contains(&b'c'), "letters without a meaning are dropped");
    }
}

/// Two tables, and letters of the second.
pub fn keywords(bytes: &[u8]) {
    let (one, other, letters) = parts(bytes);
    let _ = Keywords::parse(bytes);
    let tables = one.and_then(Keywords::parse).zip(other.and_then(Keywords::parse));
    let Some((mut table, other)) = tables else { return };
    let before = table.clone();
    assert_eq!(Keywords::parse(&table.to_bytes()), Some(table.clone()), "it reads back");
    let meant = |letter: u8, table: &Keywords| {
        let number = format!("{} ", letter.wrapping_sub(b'a')).into_bytes();
        let bytes = table.to_bytes();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        lines.find_map(|line| line.strip_prefix(&*number).map(<[u8]>::to_vec))
    };
    for letter in letters.iter().copied().take(64) {
        let adopted = table.adopt(&other, letter);
        assert_eq!(adopted, table.adopt(&other, letter), "again is the same");
        if let Some(adopted) = adopted {
            assert!(adopted.is_ascii_lowercase());
            assert_eq!(
                meant(adopted, &table),
                meant(letter, &other),
                "it means the same"
            );
        }
    }
    assert_eq!(Keywords::parse(&table.to_bytes()), Some(table.clone()), "it reads back");
    for letter in b'a'..=b'z' {
        let held = meant(letter, &before);
        assert!(held.is_none() || held == meant(letter, &table), "no letter changes");
    }
}
