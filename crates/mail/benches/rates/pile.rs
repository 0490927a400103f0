//! Pile: a large store on disk, live and snapshot, with damage whose every place is known.
//!
//! # Invariants
//!
//! * The same number of users gives the same bytes and the same damage on every machine.
//! * Every message has exactly one [`Kind`]; what its right bytes are can be made again at any time.
//! * The trees that were made are never changed by a run: runs work on copies.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{Timespec, Timestamps};

use crate::chance::Chance;

/// Sizes of mail by per 100,000 of messages, drawn evenly in between: half are below 7 KB, a few
/// have megabytes, the mean is 33 KB.
const SIZES: [(u64, u64); 14] = [
    (0, 700),
    (5_000, 850),
    (10_000, 1_100),
    (25_000, 2_300),
    (50_000, 7_100),
    (75_000, 22_500),
    (90_000, 63_000),
    (95_000, 117_000),
    (98_000, 234_000),
    (99_000, 372_000),
    (99_500, 570_000),
    (99_900, 1_370_000),
    (99_990, 4_000_000),
    (100_000, 10_000_000),
];

/// Messages of a user by per 100,000 of users; the mean is 60.
const COUNTS: [(u64, u64); 10] = [
    (0, 2),
    (10_000, 9),
    (25_000, 17),
    (50_000, 34),
    (75_000, 66),
    (90_000, 122),
    (97_000, 220),
    (99_000, 350),
    (99_900, 900),
    (100_000, 2_000),
];

/// Folders by their share of mail in percent; the empty name is the inbox.
const FOLDERS: [(&str, u64); 5] =
    [("", 50), ("Archive", 20), ("Sent", 15), ("Lists", 10), ("Trash", 5)];

/// Changes whenever the same plan would be written differently.
const VERSION: &str = "2";

/// One user in so many loses the whole mailbox.
const LOST_USER: usize = 83;

/// Mail lies in so many directories of users, so that a quarter is one directory.
pub(crate) const QUARTERS: usize = 4;

/// One line of an encoded body, with its end.
const LINE: usize = 77;

/// The unit in which disks lose bytes.
const BLOCK: usize = 4096;

/// Bytes that bodies are cut from; more than the largest message has.
const POOL: usize = 16 << 20;

/// 1 November 2025, 0:00, a Saturday.
const EPOCH: u64 = 1_761_955_200;

const DAYS: [&str; 7] = ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"];

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The same on both sides.
    Intact,
    /// Its flags changed since the snapshot: another file name, the same bytes.
    Reflagged,
    /// Came after the snapshot.
    New,
    /// Deleted by its user after the snapshot.
    Deleted,
    /// Live: the end is gone.
    Truncated,
    /// Live: 4 KB of zeros, size and time as before.
    Zeroed,
    /// Live: one bit is another, size and time as before.
    Flipped,
    /// Live: somebody else's bytes.
    Foreign,
    /// Live: gone, the list has it.
    Missing,
    /// Live: gone with the whole mailbox.
    LostUser,
    /// The snapshot has 4 KB of zeros, live is good.
    SnapshotBad,
    /// Live is cut, the snapshot has zeros: no side is good.
    BothBad,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Intact,
        Self::Reflagged,
        Self::New,
        Self::Deleted,
        Self::Truncated,
        Self::Zeroed,
        Self::Flipped,
        Self::Foreign,
        Self::Missing,
        Self::LostUser,
        Self::SnapshotBad,
        Self::BothBad,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Reflagged => "re-flagged",
            Self::New => "new",
            Self::Deleted => "deleted",
            Self::Truncated => "truncated",
            Self::Zeroed => "zeroed",
            Self::Flipped => "bit flipped",
            Self::Foreign => "foreign",
            Self::Missing => "missing",
            Self::LostUser => "lost user",
            Self::SnapshotBad => "snapshot bad",
            Self::BothBad => "both bad",
        }
    }

    /// Whether the live message is damaged or lost.
    pub(crate) fn is_damage(self) -> bool {
        match self {
            Self::Intact
            | Self::Reflagged
            | Self::New
            | Self::Deleted
            | Self::SnapshotBad => false,
            Self::Truncated
            | Self::Zeroed
            | Self::Flipped
            | Self::Foreign
            | Self::Missing
            | Self::LostUser
            | Self::BothBad => true,
        }
    }

    /// Per 100,000 of messages, for kinds that strike one message.
    fn draw(dice: &mut Chance, size: usize) -> Self {
        match dice.below(100_000) {
            0..3_000 => Self::Reflagged,
            3_000..6_000 => Self::New,
            6_000..8_000 => Self::Deleted,
            9_100..10_300 if size > 2 * BLOCK => Self::Zeroed,
            8_000..10_300 => Self::Truncated,
            10_300..10_600 => Self::Flipped,
            10_600..11_000 => Self::Foreign,
            11_000..12_100 => Self::Missing,
            12_100..12_600 if size > 2 * BLOCK => Self::SnapshotBad,
            12_600..12_900 if size > 2 * BLOCK => Self::BothBad,
            _ => Self::Intact,
        }
    }
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) folder: &'static str,
    pub(crate) uid: u32,
    pub(crate) base: String,
    pub(crate) kind: Kind,
    flags: &'static str,
    number: u64,
    seconds: u64,
    size: usize,
}

/// One user.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) number: usize,
    pub(crate) messages: Vec<Message>,
}

/// Which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tree {
    /// As it was saved while all was well, with some bad files of its own.
    Snapshot,
    /// As the storage left it.
    Damaged,
    /// As it would be without the fault.
    Sound,
}

impl Tree {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Damaged => "damaged",
            Self::Sound => "sound",
        }
    }
}

/// The whole store.
#[derive(Debug)]
pub(crate) struct Pile {
    pub(crate) root: PathBuf,
    pub(crate) users: Vec<User>,
    pool: Vec<u8>,
}

impl User {
    pub(crate) fn address(&self) -> String {
        format!("u{:05}@example.org", self.number)
    }

    /// The Maildir, below a root.
    pub(crate) fn path(&self) -> String {
        format!("q{}/u{:05}/Maildir", self.number % QUARTERS, self.number)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.number % LOST_USER == LOST_USER / 2
    }

    pub(crate) fn uid_validity(&self) -> u64 {
        EPOCH + self.number as u64
    }
}

impl Message {
    pub(crate) fn is_in(&self, tree: Tree) -> bool {
        match tree {
            Tree::Snapshot => self.kind != Kind::New,
            Tree::Sound => self.kind != Kind::Deleted,
            Tree::Damaged => {
                !matches!(self.kind, Kind::Deleted | Kind::Missing | Kind::LostUser)
            }
        }
    }

    /// `cur/` or `new/` and the file name.
    pub(crate) fn file(&self, tree: Tree) -> String {
        let base = &self.base;
        if self.kind == Kind::New && self.number.is_multiple_of(2) {
            format!("new/{base}")
        } else if self.kind == Kind::Reflagged && tree != Tree::Snapshot {
            format!("cur/{base}:2,FRS")
        } else {
            format!("cur/{base}:2,{}", self.flags)
        }
    }
}

impl Pile {
    /// The plan of a store below `root`; writes nothing.
    pub(crate) fn plan(root: &Path, users: usize) -> Self {
        let mut dice = Chance::new(7);
        let alphabet =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut pool = Vec::with_capacity(POOL);
        while pool.len() < POOL {
            let mut bits = dice.next();
            for _ in 0..10 {
                let at = usize::try_from(bits & 63).unwrap_or(0);
                let end = (pool.len() + 1).is_multiple_of(LINE);
                pool.push(if end {
                    b'\n'
                } else {
                    alphabet.get(at).copied().unwrap_or(b'A')
                });
                bits >>= 6;
            }
        }
        let mut pile = Self { root: root.to_owned(), users: Vec::new(), pool };
        pile.users = (0..users).map(|number| pile.user(number)).collect();
        pile
    }

    /// Writes all trees, unless they are there already, whole and of this version.
    pub(crate) fn make(&self) -> io::Result<()> {
        let done = self.root.join("made");
        if fs::read_to_string(&done).is_ok_and(|version| version == VERSION) {
            return Ok(());
        }
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let work = || -> io::Result<()> {
                while let Some(user) =
                    self.users.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    for tree in [Tree::Snapshot, Tree::Damaged, Tree::Sound] {
                        self.write(user, tree)?;
                    }
                }
                Ok(())
            };
            let hands: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
            let failed = |_| io::Error::other("a thread panicked");
            hands.into_iter().try_for_each(|hand| hand.join().map_err(failed)?)
        })?;
        let mut list = String::new();
        for user in &self.users {
            list.extend([&user.address(), "\t", &user.path(), "\n"]);
        }
        fs::write(self.list(), list)?;
        rustix::fs::sync();
        fs::write(done, VERSION)
    }

    pub(crate) fn tree(&self, tree: Tree) -> PathBuf {
        self.root.join(tree.name())
    }

    /// Checks that no run has written into a file of this tree, where it shares files with copies.
    pub(crate) fn is_untouched(&self, tree: Tree) -> io::Result<()> {
        for user in &self.users {
            let maildir = self.tree(tree).join(user.path());
            let is_here = |it: &&Message| it.is_in(tree) && it.kind != Kind::LostUser;
            for message in user.messages.iter().filter(is_here) {
                let path = maildir.join(folder_dir(message.folder));
                let meta = fs::metadata(path.join(message.file(tree)))?;
                if u64::try_from(meta.mtime()) != Ok(message.seconds) {
                    let what = format!("{} was written to", message.base);
                    return Err(io::Error::other(what));
                }
            }
        }
        Ok(())
    }

    /// The file that lists addresses and paths.
    pub(crate) fn list(&self) -> PathBuf {
        self.root.join("mailboxes.tsv")
    }

    /// How many files and bytes of mail a tree has.
    pub(crate) fn volume(&self, tree: Tree) -> (u64, u64) {
        let messages = self.users.iter().flat_map(|user| &user.messages);
        let messages = messages.filter(|message| message.is_in(tree));
        messages.fold((0, 0), |(files, bytes), it| (files + 1, bytes + it.size as u64))
    }

    /// The right bytes of a message.
    pub(crate) fn bytes(&self, user: &User, message: &Message) -> Vec<u8> {
        let mut bytes = header(user, message);
        let room = message.size.saturating_sub(bytes.len());
        let lines = (POOL - room) / LINE;
        let mut dice = Chance::new(message.number);
        let from = dice.index(lines) * LINE;
        bytes.extend_from_slice(self.pool.get(from..from + room).unwrap_or_default());
        if let Some(last) = bytes.last_mut() {
            *last = b'\n';
        }
        bytes
    }

    fn user(&self, number: usize) -> User {
        let mut dice = Chance::new(1_000_000 + number as u64);
        let mut user = User { number, messages: Vec::new() };
        let count = dice.between_quantiles(&COUNTS);
        for index in 0..count {
            let size = usize::try_from(dice.between_quantiles(&SIZES)).unwrap_or(0);
            let kind =
                if user.is_lost() { Kind::LostUser } else { Kind::draw(&mut dice, size) };
            let flags = match dice.below(10) {
                0..7 => "S",
                7 => "RS",
                _ => "",
            };
            let mut roll = dice.below(100);
            let folder = FOLDERS.iter().find(|(_, share)| {
                let here = roll < *share;
                roll = roll.saturating_sub(*share);
                here
            });
            let message = Message {
                folder: folder.map_or("", |(name, _)| name),
                uid: 0,
                base: String::new(),
                kind,
                flags,
                number: (number as u64) << 24 | index << 1 | dice.below(2),
                seconds: EPOCH + index % 30 * 86_400 + dice.below(86_400),
                size,
            };
            user.messages.push(message);
        }
        // What came later has higher UIDs.
        user.messages.sort_by_key(|it| (it.folder, it.kind == Kind::New, it.number));
        let (mut uid, mut folder) = (0, "");
        for message in &mut user.messages {
            uid = if message.folder == folder { uid + 1 } else { 1 };
            folder = message.folder;
            message.uid = uid;
        }
        for at in 0..user.messages.len() {
            let Some(message) = user.messages.get(at) else { continue };
            let bytes = self.bytes(&user, message);
            let size = bytes.len();
            let feeds: usize = bytes.iter().map(|byte| usize::from(*byte == b'\n')).sum();
            let (seconds, number) = (message.seconds, message.number);
            let base = format!(
                "{seconds}.M{:06}P{}.mx1,S={size},W={}",
                number % 1_000_000,
                1_000 + number % 60_000,
                size + feeds
            );
            if let Some(message) = user.messages.get_mut(at) {
                (message.base, message.size) = (base, size);
            }
        }
        user
    }

    fn write(&self, user: &User, tree: Tree) -> io::Result<()> {
        let maildir = self.tree(tree).join(user.path());
        if user.is_lost() && tree == Tree::Damaged {
            return fs::create_dir_all(maildir.parent().unwrap_or(&maildir));
        }
        let mut subscriptions = String::from("V\t2\n\n");
        for (number, (folder, _)) in FOLDERS.iter().enumerate() {
            let is_used = user.messages.iter().any(|it| it.folder == *folder);
            if !is_used && !folder.is_empty() {
                continue;
            }
            let path = maildir.join(folder_dir(folder));
            for sub in ["cur", "new", "tmp"] {
                fs::create_dir_all(path.join(sub))?;
            }
            if !folder.is_empty() {
                fs::write(path.join("maildirfolder"), "")?;
                subscriptions.extend([*folder, "\n"]);
            }
            let list = Self::uidlist(user, (number, folder), tree);
            fs::write(path.join("dovecot-uidlist"), list)?;
        }
        fs::write(maildir.join("subscriptions"), subscriptions)?;
        let validity = format!("{:08x}", user.uid_validity());
        fs::write(maildir.join("dovecot-uidvalidity"), &validity)?;
        fs::write(maildir.join(format!("dovecot-uidvalidity.{validity}")), "")?;
        for message in user.messages.iter().filter(|it| it.is_in(tree)) {
            let path = maildir.join(folder_dir(message.folder));
            let mut file = File::create_new(path.join(message.file(tree)))?;
            file.write_all(&self.bytes_in(user, message, tree))?;
            let seconds = i64::try_from(message.seconds).unwrap_or(0);
            let moment = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
            let times = Timestamps { last_access: moment, last_modification: moment };
            rustix::fs::futimens(&file, &times)?;
        }
        Ok(())
    }

    fn uidlist(user: &User, (number, folder): (usize, &str), tree: Tree) -> String {
        let known = |it: &&Message| match tree {
            Tree::Snapshot => it.kind != Kind::New,
            Tree::Damaged | Tree::Sound => it.kind != Kind::Deleted,
        };
        let of_folder = user.messages.iter().filter(|it| it.folder == folder);
        let next = of_folder.clone().map(|it| it.uid + 1).max().unwrap_or(1);
        let (validity, guid) = (user.uid_validity(), user.number * 8 + number);
        let mut text = format!("3 V{validity} N{next} G{guid:032x}\n");
        for message in of_folder.filter(known) {
            text.extend([&message.uid.to_string(), " :", &message.base, "\n"]);
        }
        text
    }

    fn bytes_in(&self, user: &User, message: &Message, tree: Tree) -> Vec<u8> {
        let mut bytes = self.bytes(user, message);
        let mut dice = Chance::new(message.number ^ 0x5eed);
        let is_bad_snapshot = matches!(message.kind, Kind::SnapshotBad | Kind::BothBad);
        match (tree, message.kind) {
            (Tree::Snapshot, _) if is_bad_snapshot => zero(&mut bytes, &mut dice),
            (Tree::Damaged, Kind::Zeroed) => zero(&mut bytes, &mut dice),
            (Tree::Damaged, Kind::Truncated | Kind::BothBad) => {
                let blocks = bytes.len() / BLOCK;
                let whole = blocks > 1 && dice.below(2) == 0;
                let cut = if whole {
                    (1 + dice.index(blocks - 1)) * BLOCK
                } else {
                    1 + dice.index(bytes.len() - 1)
                };
                bytes.truncate(cut);
            }
            (Tree::Damaged, Kind::Flipped) => {
                let head = header(user, message).len();
                let at = head + dice.index(bytes.len().saturating_sub(head + 2).max(1));
                let at = if bytes.get(at) == Some(&b'\n') { at - 1 } else { at };
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1;
                }
            }
            (Tree::Damaged, Kind::Foreign) => bytes = self.foreign(user, message),
            _ => {}
        }
        bytes
    }

    /// What somebody else's message would be under this one's number, of its size or not.
    fn foreign(&self, user: &User, message: &Message) -> Vec<u8> {
        let other = User {
            number: (user.number + 1) % self.users.len().max(2),
            messages: Vec::new(),
        };
        let same_size = message.number.is_multiple_of(4);
        let size = if same_size { message.size } else { message.size / 2 + 900 };
        let number = message.number ^ 0xf0_0000;
        self.bytes(&other, &Message { number, size, ..message.clone() })
    }
}

/// The directory of a folder below its Maildir.
pub(crate) fn folder_dir(folder: &str) -> String {
    if folder.is_empty() { String::new() } else { format!(".{folder}") }
}

fn zero(bytes: &mut [u8], dice: &mut Chance) {
    let at = (1 + dice.index(bytes.len() / BLOCK - 1)) * BLOCK;
    bytes.get_mut(at..at + BLOCK).unwrap_or_default().fill(0);
}

fn header(user: &User, message: &Message) -> Vec<u8> {
    let (address, number) = (user.address(), message.number);
    let (day, rest) = ((message.seconds - EPOCH) / 86_400, message.seconds % 86_400);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let name =
        usize::try_from(day % 7).ok().and_then(|at| DAYS.get(at)).unwrap_or(&"Sat");
    let date =
        format!("{name}, {} Nov 2025 {hour:02}:{minute:02}:{second:02} +0000", day + 1);
    format!(
        "Return-Path: <sender{}@sender.example>\n\
         Delivered-To: {address}\n\
         Received: from mail.sender.example (mail.sender.example [192.0.2.7])\n\
         \tby mx1.example.org (Postfix) with ESMTPS id {number:012X}\n\
         \tfor <{address}>; {date}\n\
         Date: {date}\n\
         From: Sender {} <sender{}@sender.example>\n\
         To: {address}\n\
         Subject: Message {number}\n\
         Message-ID: <{number:x}.{}@sender.example>\n\
         MIME-Version: 1.0\n\
         Content-Type: application/octet-stream\n\
         Content-Transfer-Encoding: base64\n\n",
        number % 997,
        number % 997,
        number % 997,
        message.seconds
    )
    .into_bytes()
}
