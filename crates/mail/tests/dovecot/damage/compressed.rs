//! Damage to compressed mail.
//!
//! # Invariants
//!
//! * One flipped bit is enough: the stream's own checksum must find it.

use std::fs;

use super::{Place, Row, SAME, Side, find, halve, overwrite, zero};

/// One message cannot be made good and is named.
const ONE_NAMED: &str = "17 same, 1 lost and named";

const LIVE: (Place, &str) = (Place::Live, SAME);
const SNAPSHOT: (Place, &str) = (Place::Snapshot, SAME);
const BOTH: (Place, &str) = (Place::Both, ONE_NAMED);

pub(crate) const MAILDIR: &[Row] = &[
    Row { damage: "none", act: |_| {}, cells: &[LIVE] },
    Row {
        damage: "one bit flipped in a stream's header",
        act: |it| it.write("INBOX", 4, |bytes| bytes[2] ^= 1),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "compressed mail cut in half",
        act: |it| it.write("INBOX", 4, halve),
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "zeros in a compressed mail",
        act: |it| it.write("INBOX", 4, zero_middle),
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "compressed mail all zeros",
        act: |it| it.write("INBOX", 2, zero),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "bytes behind a stream's end",
        act: |it| it.write("INBOX", 4, |bytes| bytes.extend_from_slice(b"more\n")),
        cells: &[LIVE],
    },
    Row {
        damage: "another mail's stream",
        act: |it| {
            let other = fs::read(it.mail("INBOX", 3)).unwrap();
            it.write("INBOX", 2, |bytes| bytes.clone_from(&other));
        },
        cells: &[LIVE, (Place::Snapshot, "16 same, 2 other bytes and said")],
    },
    Row {
        damage: "compressed mail lost",
        act: |it| it.lose_mail("INBOX", 4),
        cells: &[LIVE, SNAPSHOT],
    },
];

/// Streams with a checksum; those of zstd have none, as Dovecot writes them.
pub(crate) const GZIP: &[Row] = &[
    Row {
        damage: "one bit flipped in a compressed mail",
        act: |it| it.write("INBOX", 4, flip),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "one bit flipped in a stream's checksum",
        act: |it| it.write("INBOX", 4, flip_checksum),
        cells: &[LIVE],
    },
];

/// Where Dovecot itself compressed, the lost list knew GUIDs that are not the names of files.
pub(crate) const MAILDIR_SAVED: &[Row] = &[Row {
    damage: "uidlist lost, and a bit flipped there",
    act: |it| it.lose("dovecot-uidlist"),
    cells: &[(
        Place::Apart(|it| it.write("INBOX", 4, |bytes| bytes[2] ^= 1)),
        "14 same, 4 new UID and other guid",
    )],
}];

pub(crate) const MAILDIR_SQUEEZED: &[Row] = &[Row {
    damage: "uidlist lost, and a bit flipped there",
    act: |it| it.lose("dovecot-uidlist"),
    cells: &[(
        Place::Apart(|it| it.write("INBOX", 4, |bytes| bytes[2] ^= 1)),
        "14 same, 4 new UID",
    )],
}];

pub(crate) const SDBOX: &[Row] = &[
    Row { damage: "none", act: |_| {}, cells: &[LIVE] },
    Row {
        damage: "one bit flipped in a compressed mail",
        act: |it| it.write_u("INBOX", 4, flip),
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "compressed mail cut in half",
        act: |it| it.write_u("INBOX", 4, halve),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "zeros in a compressed mail",
        act: |it| it.write_u("INBOX", 4, zero_middle),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "compressed mail lost",
        act: |it| it.lose_u("INBOX", 4),
        cells: &[LIVE],
    },
    Row {
        damage: "all indexes lost",
        act: |it| it.lose_all("dovecot.index"),
        cells: &[(
            Place::Live,
            "14 same, 2 back though deleted and said, 4 other flags and said",
        )],
    },
];

pub(crate) const MDBOX: &[Row] = &[
    Row { damage: "none", act: |_| {}, cells: &[LIVE] },
    Row {
        damage: "one bit flipped in a stream's header",
        act: |it| {
            it.first_storage(|bytes| {
                let stream = find(bytes, b"\x28\xb5\x2f\xfd").unwrap();
                bytes[stream + 2] ^= 1;
            });
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a file of compressed mail cut in half",
        act: |it| it.first_storage(halve),
        cells: &[(Place::Live, "13 same, 5 lost and named"), SNAPSHOT],
    },
    Row {
        damage: "zeros in the middle of a file of compressed mail",
        act: |it| it.first_storage(zero_middle),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a file of compressed mail lost",
        act: |it| fs::remove_file(&it.storage_files()[0]).unwrap(),
        cells: &[(Place::Live, "13 same, 5 lost and named"), SNAPSHOT],
    },
    Row {
        damage: "the map lost",
        act: |it| it.lose_below("storage", "dovecot.map.index"),
        cells: &[LIVE],
    },
];

impl Side {
    fn first_storage(&self, change: impl Fn(&mut Vec<u8>)) {
        overwrite(&self.storage_files()[0], change);
    }
}

fn flip(bytes: &mut Vec<u8>) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
}

/// Both formats end in a checksum, gzip with the length behind it.
fn flip_checksum(bytes: &mut Vec<u8>) {
    let back = if bytes.starts_with(b"\x1f\x8b") { 8 } else { 4 };
    let at = bytes.len() - back;
    bytes[at] ^= 1;
}

fn zero_middle(bytes: &mut Vec<u8>) {
    let middle = bytes.len() / 2;
    let end = (middle + 100).min(bytes.len());
    bytes[middle..end].fill(0);
}
