//! Damage to an mdbox.
//!
//! # Invariants
//!
//! * Messages are named by the number in their subject; of copies there is one in the files.

use std::fs;
use std::path::PathBuf;

use super::{Place, Row, SAME, Side, enlarge, entries, find, halve, overwrite, zero};
use crate::life::NESTED;

const LIVE: (Place, &str) = (Place::Live, SAME);
const SNAPSHOT: (Place, &str) = (Place::Snapshot, SAME);

/// One message cannot be made good and is named.
const ONE_NAMED: &str = "17 same, 1 lost and named";

/// Every damage to an mdbox that Dovecot was seen to meet, and more.
pub(crate) const ROWS: &[Row] = &[
    Row { damage: "none", act: |_| {}, cells: &[LIVE] },
    Row {
        damage: "a file of mail truncated in the middle of a mail",
        act: |it| it.storage(4, |bytes, at| bytes.truncate(at.body + 3000)),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a block of zeros in a mail's body",
        act: |it| {
            it.storage(4, |bytes, at| bytes[at.body + 2000..at.body + 6096].fill(0));
        },
        cells: &[LIVE, SNAPSHOT, (Place::Both, ONE_NAMED)],
    },
    Row {
        damage: "a block of zeros over the border of two mails",
        act: |it| {
            it.storage(3, |bytes, at| bytes[at.start - 2000..at.start + 2096].fill(0));
        },
        cells: &[LIVE, SNAPSHOT, (Place::Both, "15 same, 3 lost and named")],
    },
    Row {
        damage: "first block of a file of mail zeros",
        act: |it| it.storage(1, |bytes, _| bytes[..4096].fill(0)),
        cells: &[LIVE, SNAPSHOT, (Place::Both, "16 same, 2 lost and named")],
    },
    Row {
        damage: "last block of a file of mail zeros",
        act: |it| {
            it.storage(1, |bytes, _| {
                let last = (bytes.len() - 1) / 4096 * 4096;
                bytes[last..].fill(0);
            });
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a file of mail all zeros",
        act: |it| it.storage(1, |bytes, _| zero(bytes)),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a file of mail empty",
        act: |it| it.storage(1, |bytes, _| bytes.clear()),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a file of mail lost",
        act: |it| fs::remove_file(it.storage_file(1)).unwrap(),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "bytes behind the end of a file of mail",
        act: |it| it.storage(1, |bytes, _| bytes.extend_from_slice(b"more bytes\n")),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "one bit flipped in a body",
        act: |it| it.storage(1, |bytes, at| bytes[at.body + 1400] ^= 1),
        cells: &[LIVE, (Place::Snapshot, "16 same, 2 other bytes and said")],
    },
    Row {
        damage: "one bit flipped in a file's header",
        act: |it| it.storage(1, |bytes, _| bytes[0] ^= 1),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "one bit flipped in the header of a mail",
        act: |it| it.storage(3, |bytes, at| bytes[at.start + 1] ^= 1),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "one digit of a body's size changed",
        act: |it| it.storage(3, |bytes, at| bytes[at.body - 2] ^= 1),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "the GUID in a trailer changed",
        act: |it| {
            it.storage(2, |bytes, at| {
                let guid = at.trailer + find(&bytes[at.trailer..], b"\nG").unwrap() + 2;
                bytes[guid] = if bytes[guid] == b'a' { b'b' } else { b'a' };
            });
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "another mail's bytes in the body of one",
        act: |it| {
            let (file, at) = it.message(3);
            let other = fs::read(file).unwrap()[at.body..at.body + 9000].to_vec();
            it.storage(2, |bytes, at| {
                bytes[at.body..at.body + 9000].copy_from_slice(&other);
            });
        },
        cells: &[LIVE, (Place::Snapshot, "16 same, 2 other bytes and said")],
    },
    Row {
        damage: "a file of mail in the place of another",
        act: |it| {
            let files = it.storage_files();
            fs::copy(&files[1], &files[0]).unwrap();
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a mail damaged that came after the snapshot",
        act: |it| {
            it.storage(11, |bytes, at| bytes[at.body + 2000..at.body + 4000].fill(0));
        },
        cells: &[(Place::Live, ONE_NAMED)],
    },
    Row {
        damage: "a mail damaged that was moved after the snapshot",
        act: |it| {
            it.storage(8, |bytes, at| bytes[at.body + 2000..at.body + 4000].fill(0));
        },
        cells: &[LIVE],
    },
    Row {
        damage: "the map lost",
        act: |it| it.lose_below("storage", "dovecot.map.index"),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "the map zero-filled",
        act: |it| {
            it.change("storage/dovecot.map.index", zero);
            it.change("storage/dovecot.map.index.log", zero);
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "the log of the map cut in half",
        act: |it| it.change("storage/dovecot.map.index.log", halve),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "indexes of the inbox lost",
        act: |it| it.lose_below(INBOX, "dovecot.index"),
        cells: &[
            (
                Place::Live,
                "12 same, 3 new UID, 1 new UID and other flags, 2 other flags and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "index of the inbox zero-filled, its log whole",
        act: |it| it.change(&format!("{INBOX}/dovecot.index"), zero),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "index log of the inbox zero-filled",
        act: |it| it.change(&format!("{INBOX}/dovecot.index.log"), zero),
        cells: &[
            (
                Place::Live,
                "12 same, 3 new UID, 1 new UID and other flags, 2 other flags and said; indexes written: 18 same",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "index log of the inbox cut in half",
        act: |it| it.change(&format!("{INBOX}/dovecot.index.log"), halve),
        cells: &[
            (
                Place::Live,
                "12 same, 3 new UID, 1 new UID and other flags, 2 other flags and said; indexes written: 18 same",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "all indexes of folders lost",
        act: |it| it.lose_below("mailboxes", "dovecot.index"),
        cells: &[
            (
                Place::Live,
                "9 same, 1 FOLDER GUID CHANGED, 1 UIDVALIDITY CHANGED, 1 back though deleted and said, 1 back where it was moved from, 3 new UID, 1 new UID and other flags, 3 other flags and said, 1 vanished with a folder and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "all indexes and the map lost",
        act: |it| {
            it.lose_below("mailboxes", "dovecot.index");
            it.lose_below("storage", "dovecot.map.index");
        },
        cells: &[
            (
                Place::Live,
                "9 same, 1 FOLDER GUID CHANGED, 1 UIDVALIDITY CHANGED, 2 back though deleted and said, 1 back where it was moved from, 3 new UID, 1 new UID and other flags, 3 other flags and said, 1 vanished with a folder and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "folders lost",
        act: |it| {
            it.lose("mailboxes/&ANw-bung");
            it.lose(&format!("mailboxes/{NESTED}"));
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "all files of mail lost",
        act: |it| it.lose_below("storage", "m."),
        cells: &[(Place::Live, "13 same, 5 lost and named"), SNAPSHOT],
    },
    Row {
        damage: "the storage lost",
        act: |it| it.lose("storage"),
        cells: &[(Place::Live, "13 same, 5 lost and named"), SNAPSHOT],
    },
    Row {
        damage: "all folders lost",
        act: |it| it.lose("mailboxes"),
        cells: &[
            (
                Place::Live,
                "9 same, 1 FOLDER GONE, 1 back though deleted and said, 3 new UID, 1 new UID and other flags, 3 other flags and said, 1 vanished with a folder and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "subscriptions lost",
        act: |it| it.lose_all("subscriptions"),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "the whole mailbox lost",
        act: |it| it.lose(""),
        cells: &[
            (
                Place::Live,
                "8 same, 2 FOLDER GONE, 2 back though deleted and said, 2 folder back and said, 3 other flags and said, 5 vanished with a folder and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "a link in the place of the storage",
        act: |it| it.replace_by_link("storage"),
        cells: &[(Place::Live, "REFUSED: symbolic-link")],
    },
    Row {
        damage: "a link in the place of a file of mail",
        act: |it| it.replace_by_link("storage/m.1"),
        cells: &[(Place::Live, "18 same")],
    },
    Row {
        damage: "a pipe in the place of a file of mail",
        act: |it| it.replace_by_pipe("storage/m.1"),
        cells: &[(Place::Live, "18 same")],
    },
    Row {
        damage: "a pipe in the place of the log of the map",
        act: |it| it.replace_by_pipe("storage/dovecot.map.index.log"),
        cells: &[(Place::Live, "REFUSED: not-regular")],
    },
    Row {
        damage: "a very large file of mail, nearly all of it nothing",
        act: |it| enlarge(&it.0.join("storage/m.1")),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "zeros in one mail here, in another one there",
        act: |it| it.storage(1, |bytes, at| bytes[at.body + 400..at.body + 1400].fill(0)),
        cells: &[(
            Place::Apart(|it| {
                it.storage(3, |bytes, at| bytes[at.body + 2000..at.body + 6096].fill(0));
            }),
            SAME,
        )],
    },
    Row {
        damage: "an index of a folder lost here, the map there",
        act: |it| it.lose_below("mailboxes/Archive", "dovecot.index"),
        cells: &[(
            Place::Apart(|it| it.lose_below("storage", "dovecot.map.index")),
            "16 same, 1 new UID, 1 other flags and said",
        )],
    },
];

/// Damage to an mdbox whose files are others than in the snapshot, since it was purged.
pub(crate) const PURGED: &[Row] = &[
    Row { damage: "none", act: |_| {}, cells: &[LIVE] },
    Row {
        damage: "a file of mail truncated in the middle of a mail",
        act: |it| it.storage(4, |bytes, at| bytes.truncate(at.body + 3000)),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a block of zeros over the border of two mails",
        act: |it| {
            it.storage(3, |bytes, at| bytes[at.start - 2000..at.start + 2096].fill(0));
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "first block of a file of mail zeros",
        act: |it| it.storage(1, |bytes, _| bytes[..4096].fill(0)),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a file of mail lost",
        act: |it| fs::remove_file(it.storage_file(1)).unwrap(),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "the map lost",
        act: |it| it.lose_below("storage", "dovecot.map.index"),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "indexes of the inbox lost",
        act: |it| it.lose_below(INBOX, "dovecot.index"),
        cells: &[(
            Place::Live,
            "12 same, 3 new UID, 1 new UID and other flags, 2 other flags and said",
        )],
    },
    Row {
        damage: "the storage lost",
        act: |it| it.lose("storage"),
        cells: &[(Place::Live, "13 same, 5 lost and named")],
    },
];

const INBOX: &str = "mailboxes/INBOX/dbox-Mails";

/// Where a message stands in its file.
#[derive(Clone, Copy)]
pub(super) struct At {
    /// Its own header of 30 bytes.
    pub(super) start: usize,
    pub(super) body: usize,
    pub(super) trailer: usize,
}

impl Side {
    pub(super) fn storage_files(&self) -> Vec<PathBuf> {
        let mut files = entries(&self.0.join("storage"));
        files.retain(|it| it.file_name().unwrap().to_str().unwrap().starts_with("m."));
        files
    }

    /// The file with the message of this number, and where in it.
    fn message(&self, number: u32) -> (PathBuf, At) {
        let subject = format!("\nSubject: Number {number:02}\n");
        let crlf = format!("\nSubject: Number {number:02}\r\n");
        for file in self.storage_files() {
            let bytes = fs::read(&file).unwrap();
            let found = find(&bytes, subject.as_bytes());
            let Some(found) = found.or_else(|| find(&bytes, crlf.as_bytes())) else {
                continue;
            };
            let head = &bytes[..found];
            let start = head.windows(3).rposition(|it| it == b"\x01\x02N").unwrap();
            let body = start + 30;
            let trailer = body + find(&bytes[body..], b"\n\x01\x03\n").unwrap();
            return (file, At { start, body, trailer });
        }
        panic!("no message {number} in {}", self.0.display())
    }

    fn storage_file(&self, number: u32) -> PathBuf {
        self.message(number).0
    }

    /// Changes the file that a message stands in.
    fn storage(&self, number: u32, change: impl Fn(&mut Vec<u8>, At)) {
        let (file, at) = self.message(number);
        overwrite(&file, |bytes| change(bytes, at));
    }
}
