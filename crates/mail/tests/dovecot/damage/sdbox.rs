//! Damage to an sdbox.
//!
//! # Invariants
//!
//! * Messages are named by folder and UID, as their files are.

use std::fs;

use super::{Place, Row, SAME, Side, enlarge, find, halve, overwrite, zero};
use crate::life::NESTED;

/// One message cannot be made good and is named.
const ONE_NAMED: &str = "17 same, 1 lost and named";

const LIVE: (Place, &str) = (Place::Live, SAME);
const SNAPSHOT: (Place, &str) = (Place::Snapshot, SAME);
const BOTH: (Place, &str) = (Place::Both, ONE_NAMED);

/// Every damage to an sdbox that Dovecot was seen to meet, and more.
pub(crate) const ROWS: &[Row] = &[
    Row { damage: "none", act: |_| {}, cells: &[LIVE] },
    Row {
        damage: "mail truncated to half",
        act: |it| it.write_u("INBOX", 4, halve),
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "mail empty",
        act: |it| it.write_u("INBOX", 3, Vec::clear),
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "bytes behind a mail's end",
        act: |it| it.write_u("INBOX", 3, |bytes| bytes.extend_from_slice(b"more\n")),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a block of zeros in a mail's body",
        act: |it| it.write_u("INBOX", 4, |bytes| bytes[4096..8192].fill(0)),
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "first block of a mail zeros",
        act: |it| it.write_u("INBOX", 4, |bytes| bytes[..4096].fill(0)),
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "last block of a mail zeros, with its trailer",
        act: |it| {
            it.write_u("INBOX", 4, |bytes| {
                let last = (bytes.len() - 1) / 4096 * 4096;
                bytes[last..].fill(0);
            });
        },
        cells: &[LIVE, SNAPSHOT, BOTH],
    },
    Row {
        damage: "mails all zeros, in the inbox and in a folder",
        act: |it| {
            it.write_u("INBOX", 2, zero);
            it.write_u(NESTED, 1, zero);
        },
        cells: &[LIVE, SNAPSHOT, (Place::Both, "15 same, 3 lost and named")],
    },
    Row {
        damage: "another mail's file in the place of one",
        act: |it| {
            fs::copy(it.u("INBOX", 3), it.u("INBOX", 2)).unwrap();
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "another mail's bytes in the body of one",
        act: |it| {
            let other = fs::read(it.u("INBOX", 3)).unwrap();
            it.write_u("INBOX", 2, |bytes| {
                bytes[40..9000].copy_from_slice(&other[40..9000]);
            });
        },
        cells: &[LIVE, (Place::Snapshot, "16 same, 2 other bytes and said")],
    },
    Row {
        damage: "one bit flipped in a body",
        act: |it| it.write_u("INBOX", 1, |bytes| bytes[1500] ^= 1),
        cells: &[LIVE, (Place::Snapshot, "16 same, 2 other bytes and said")],
    },
    Row {
        damage: "one bit flipped in a file's header",
        act: |it| it.write_u("INBOX", 1, |bytes| bytes[0] ^= 1),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "one digit of a body's size changed",
        act: |it| {
            it.write_u("INBOX", 1, |bytes| {
                let end = find(bytes, b"\n\x01\x03\n").unwrap().min(60);
                let digit = bytes[..end].iter().rposition(u8::is_ascii_digit).unwrap();
                bytes[digit] ^= 1;
            });
        },
        cells: &[LIVE],
    },
    Row {
        damage: "the GUID in a trailer changed",
        act: |it| {
            it.write_u("INBOX", 2, |bytes| {
                let guid = find(bytes, b"\nG").unwrap() + 2;
                bytes[guid] = if bytes[guid] == b'a' { b'b' } else { b'a' };
            });
        },
        cells: &[(Place::Live, "18 same"), (Place::Snapshot, "18 same")],
    },
    Row {
        damage: "mails lost",
        act: |it| {
            it.lose_u("INBOX", 2);
            it.lose_u("INBOX", 10);
            it.lose_u("&ANw-bung", 1);
        },
        cells: &[LIVE, SNAPSHOT, (Place::Both, "15 same, 3 lost and named")],
    },
    Row {
        damage: "a mail lost whose flags were changed after the snapshot",
        act: |it| it.lose_u("INBOX", 3),
        cells: &[LIVE],
    },
    Row {
        damage: "a mail lost that came after the snapshot",
        act: |it| it.lose_u("INBOX", 11),
        cells: &[(Place::Live, ONE_NAMED)],
    },
    Row {
        damage: "a mail truncated that came after the snapshot",
        act: |it| it.write_u("INBOX", 11, halve),
        cells: &[(Place::Live, ONE_NAMED)],
    },
    Row {
        damage: "a mail truncated that was moved after the snapshot",
        act: |it| it.write_u("Archive", 3, halve),
        cells: &[LIVE],
    },
    Row {
        damage: "a mail truncated in a folder that was renamed after the snapshot",
        act: |it| it.write_u("Archive/Old", 1, halve),
        cells: &[LIVE],
    },
    Row {
        damage: "all indexes lost",
        act: |it| it.lose_all("dovecot.index"),
        cells: &[
            (
                Place::Live,
                "14 same, 2 back though deleted and said, 4 other flags and said",
            ),
            (Place::Snapshot, "18 same"),
        ],
    },
    Row {
        damage: "indexes of the inbox lost",
        act: |it| {
            for name in ["dovecot.index", "dovecot.index.log", "dovecot.index.cache"] {
                it.change(&inbox(name), Vec::clear);
            }
            it.lose_below(&inbox(""), "dovecot.index");
        },
        cells: &[
            (
                Place::Live,
                "15 same, 2 back though deleted and said, 3 other flags and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "index of the inbox zero-filled, its log whole",
        act: |it| it.change(&inbox("dovecot.index"), zero),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "index log of the inbox zero-filled",
        act: |it| it.change(&inbox("dovecot.index.log"), zero),
        cells: &[
            (
                Place::Live,
                "15 same, 2 back though deleted and said, 3 other flags and said; indexes written: 18 same",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "index log of the inbox cut in half",
        act: |it| it.change(&inbox("dovecot.index.log"), halve),
        cells: &[
            (
                Place::Live,
                "15 same, 2 back though deleted and said, 3 other flags and said; indexes written: 18 same",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "index cache zero-filled",
        act: |it| it.change(&inbox("dovecot.index.cache"), zero),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "index of the inbox lost, and a mail of it",
        act: |it| {
            it.lose_below(&inbox(""), "dovecot.index");
            it.lose_u("INBOX", 2);
        },
        cells: &[(
            Place::Live,
            "15 same, 2 back though deleted and said, 3 other flags and said",
        )],
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
        damage: "the inbox lost",
        act: |it| it.lose("mailboxes/INBOX"),
        cells: &[
            (
                Place::Live,
                "12 same, 2 back though deleted and said, 2 other flags and said, 4 vanished with a folder and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "the mail directory of a folder lost",
        act: |it| it.lose("mailboxes/Archive/dbox-Mails"),
        cells: &[
            (
                Place::Live,
                "16 same, 1 other flags and said, 1 vanished with a folder and said",
            ),
            SNAPSHOT,
        ],
    },
    Row {
        damage: "subscriptions lost",
        act: |it| it.lose("subscriptions"),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "the list of folders lost",
        act: |it| it.lose_all("dovecot.list.index"),
        cells: &[LIVE],
    },
    Row {
        damage: "the UIDVALIDITY given last lost",
        act: |it| it.lose_all("dovecot-uidvalidity"),
        cells: &[LIVE],
    },
    Row {
        damage: "the log of deleted folders lost",
        act: |it| it.lose_all("dovecot.mailbox.log"),
        cells: &[(Place::Live, "18 same, 1 folder back and said")],
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
        damage: "a link in the place of a mail directory",
        act: |it| it.replace_by_link("mailboxes/Archive/dbox-Mails"),
        cells: &[(Place::Live, "REFUSED: symbolic-link")],
    },
    Row {
        damage: "a link in the place of a folder",
        act: |it| it.replace_by_link("mailboxes/Archive"),
        cells: &[(Place::Live, "REFUSED: symbolic-link")],
    },
    Row {
        damage: "a link in the place of a mail",
        act: |it| it.replace_by_link("mailboxes/INBOX/dbox-Mails/u.2"),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a pipe in the place of a mail",
        act: |it| it.replace_by_pipe("mailboxes/INBOX/dbox-Mails/u.2"),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a pipe in the place of an index log",
        act: |it| it.replace_by_pipe("mailboxes/INBOX/dbox-Mails/dovecot.index.log"),
        cells: &[(Place::Live, "REFUSED: not-regular")],
    },
    Row {
        damage: "a very large mail, nearly all of it nothing",
        act: |it| enlarge(&it.u("INBOX", 4)),
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a mail whose header promises more than any disk holds",
        act: |it| {
            it.write_u("INBOX", 4, |bytes| {
                let size = find(bytes, b"N ").unwrap() + 11;
                bytes[size..size + 16].copy_from_slice(b"7FFFFFFFFFFFFFF0");
            });
        },
        cells: &[LIVE, SNAPSHOT],
    },
    Row {
        damage: "a mail zeros here, half of it there",
        act: |it| it.write_u("INBOX", 2, zero),
        cells: &[(
            Place::Apart(|it| it.write_u("INBOX", 2, halve)),
            "16 same, 2 lost and named",
        )],
    },
    Row {
        damage: "mails and an index lost, other ones there",
        act: |it| {
            it.write_u("INBOX", 1, |bytes| bytes[1500] ^= 1);
            it.write_u("INBOX", 9, halve);
            it.lose_u(NESTED, 1);
            it.lose_below("mailboxes/Archive/dbox-Mails/", "dovecot.index");
        },
        cells: &[(
            Place::Apart(|it| {
                it.write_u("INBOX", 3, halve);
                it.write_u("INBOX", 10, zero);
                it.lose_u("INBOX", 4);
                it.lose_below(&inbox(""), "dovecot.index");
            }),
            "17 same, 1 other flags and said",
        )],
    },
];

/// A file beside the mail of the inbox.
fn inbox(name: &str) -> String {
    format!("mailboxes/INBOX/dbox-Mails/{name}")
}

impl Side {
    /// The file of a message.
    pub(super) fn u(&self, folder: &str, uid: u32) -> std::path::PathBuf {
        self.0.join(format!("mailboxes/{folder}/dbox-Mails/u.{uid}"))
    }

    pub(super) fn write_u(&self, folder: &str, uid: u32, change: impl Fn(&mut Vec<u8>)) {
        overwrite(&self.u(folder, uid), change);
    }

    pub(super) fn lose_u(&self, folder: &str, uid: u32) {
        fs::remove_file(self.u(folder, uid)).unwrap();
    }

    /// Removes every file below a directory whose name begins so.
    pub(super) fn lose_below(&self, directory: &str, prefix: &str) {
        Self(self.0.join(directory)).lose_all(prefix);
    }
}
