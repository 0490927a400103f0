//! Truth: what the provider held before it broke, and where intact bytes still are.
//!
//! # Invariants
//!
//! * Truth is written down while the mail is made; it is never read back from the store
//!   that it is there to judge.
//! * Every UID ever given is in it: with a message, deleted or not, or among the spent.
//! * Nothing is asked of a restorer that no evidence on either side could tell it.

use std::fmt;

use serde::Serialize;

/// Everything that is known about a provider.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Every mailbox, in the order of their numbers.
    pub mailboxes: Vec<MailboxTruth>,
}

impl Truth {
    /// Names this truth: equal for equal seeds and sizes on every machine.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for mailbox in &self.mailboxes {
            if let Ok(line) = serde_json::to_vec(mailbox) {
                hasher.update(&line);
                hasher.update(b"\n");
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// What is known about one mailbox.
#[derive(Debug, Clone, Serialize)]
pub struct MailboxTruth {
    /// Whose it is.
    pub address: String,
    /// Which node holds it, counted from 0.
    pub node: usize,
    /// Its Maildir below the node's mail root.
    pub path: String,
    /// `free`, `paid` or `business`.
    pub tier: &'static str,
    /// `it`, `de`, `ja` or `en`.
    pub language: &'static str,
    /// When its owner was last here, in seconds since 1970.
    pub last_login: i64,
    /// Its folders; the first is the INBOX.
    pub folders: Vec<FolderTruth>,
    /// Its messages, the deleted ones too.
    pub messages: Vec<MessageTruth>,
}

impl MailboxTruth {
    /// Bytes of the messages that belong in it.
    pub fn size_bytes(&self) -> u64 {
        let wanted = self.messages.iter().filter(|message| message.fate == Fate::Wanted);
        wanted.map(|message| message.size_bytes).sum()
    }
}

/// What is known about one folder.
#[derive(Debug, Clone, Serialize)]
pub struct FolderTruth {
    /// `""` for the INBOX, else as in the store without its leading dot.
    pub name: String,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// Whether some uidlist that survived still says so.
    pub uid_validity_known: bool,
    /// UIDs given before the snapshot to messages long gone.
    pub spent_uids: Vec<u32>,
    /// The highest UID ever given.
    pub last_uid: u32,
    /// Whether the live `dovecot-keywords` was lost.
    pub keywords_lost: bool,
    /// Whether letters of live names can still be told.
    pub keywords_certain: bool,
}

/// What is known about one message in one folder.
#[derive(Debug, Clone, Serialize)]
pub struct MessageTruth {
    /// Its folder, as a position in [`MailboxTruth::folders`].
    pub folder: usize,
    /// Its base name, with `S=` and `W=`, without flags.
    pub name: String,
    /// The BLAKE3 digest of its bytes.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// When it was delivered, in seconds since 1970: the file's mtime.
    pub mtime: i64,
    /// Its UID; none while the list had not met it yet.
    pub uid: Option<u32>,
    /// Whether a uidlist that survived still says so.
    pub uid_known: bool,
    /// The system flags that can be expected: the live name's, else the snapshot's.
    pub flags: String,
    /// The names of the keywords that can be expected.
    pub keywords: Vec<&'static str>,
    /// The file in the live store after the storm.
    pub live: Held,
    /// The file of the same folder and name in the snapshot.
    pub snapshot: Held,
    /// Whether it belongs in the folder.
    pub fate: Fate,
    /// Whether anything that survived still names it.
    pub traceable: bool,
    /// The message that it was copied from when its owner moved it: the snapshot may hold
    /// the same bytes under that name.
    pub moved_from: Option<usize>,
}

impl MessageTruth {
    /// Whether its own place still holds its bytes, live or in the snapshot.
    pub fn is_recoverable(&self) -> bool {
        self.live == Held::Intact || self.snapshot == Held::Intact
    }

    /// Whether no file has its name any more, so that nothing tells its flags.
    pub fn is_nameless(&self) -> bool {
        self.live == Held::Absent && self.snapshot == Held::Absent
    }
}

/// A BLAKE3 digest, written as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What one side holds of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// No file.
    Absent,
    /// Its bytes.
    Intact,
    /// A file with other bytes.
    Damaged(Damage),
}

/// Whether a message belongs in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Its owner wants it.
    Wanted,
    /// Its owner deleted it or moved it elsewhere after the snapshot.
    Deleted {
        /// Whether the surviving uidlists prove it: the snapshot's has it, the live one is
        /// whole and has it not, and it stands where it was moved to, or nothing is lost
        /// that it could be.
        proved: bool,
    },
}

/// What the storm does to a file, a folder, a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// A message ends early.
    Truncated,
    /// A message has no bytes.
    Empty,
    /// A message is all zeros.
    ZeroFilled,
    /// Some 4 KiB blocks of a message are zeros.
    ZeroBlocks,
    /// One bit differs. Only where the snapshot is intact: without a second witness
    /// nobody can find a flipped bit.
    BitFlipped,
    /// Another user's bytes.
    Foreign,
    /// Another user's bytes, cut or padded to the right size.
    ForeignSameSize,
    /// A message's file is gone.
    Missing,
    /// A whole folder is gone.
    FolderMissing,
    /// A whole `cur` or `new` is gone.
    CurOrNewMissing,
    /// A whole Maildir is gone.
    MaildirMissing,
    /// A `dovecot-uidlist` is gone.
    ListLost,
    /// A `dovecot-uidlist` ends early.
    ListCut,
    /// A `dovecot-uidlist` is all zeros.
    ListZeroed,
    /// A `dovecot-keywords` is gone.
    KeywordsLost,
    /// A symbolic link to another mailbox's mail lies among the messages.
    Link,
    /// A FIFO lies among the messages.
    Fifo,
    /// A directory lies among the messages.
    Directory,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "message truncated",
            Self::Empty => "message empty",
            Self::ZeroFilled => "message all zeros",
            Self::ZeroBlocks => "message with zero blocks",
            Self::BitFlipped => "message with a flipped bit",
            Self::Foreign => "another user's bytes",
            Self::ForeignSameSize => "another user's bytes, same size",
            Self::Missing => "message missing",
            Self::FolderMissing => "folder missing",
            Self::CurOrNewMissing => "cur or new missing",
            Self::MaildirMissing => "Maildir missing",
            Self::ListLost => "uidlist lost",
            Self::ListCut => "uidlist cut",
            Self::ListZeroed => "uidlist all zeros",
            Self::KeywordsLost => "keywords lost",
            Self::Link => "link among the messages",
            Self::Fifo => "FIFO among the messages",
            Self::Directory => "directory among the messages",
        })
    }
}
