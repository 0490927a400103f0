//! Life: a mailbox as it was when healthy, at the snapshot, and in the hours after.
//!
//! # Invariants
//!
//! * UIDs of a folder only rise and are given once.
//! * A uidlist is appended to between rewrites: its header may be old and lines of
//!   expunged messages may linger. A rewrite makes both right.
//! * A moved message is a new message in the target, with the same bytes, `S=` and `W=`,
//!   and a new base name; at its old place it is deleted.

use crate::chance::Chance;
use crate::letters::{Letters, virtual_size};
use crate::people::{AFTERMATH_SECONDS, Person, SNAPSHOT_TIME};
use crate::truth::Damage;

/// Keywords in use at the provider.
const KEYWORDS: [&str; 6] =
    ["$Forwarded", "$Work", "NonJunk", "Wichtig", "Famiglia", "$MDNSent"];

/// A mailbox on both sides.
pub(crate) struct Life {
    pub(crate) person: Person,
    pub(crate) folders: Vec<Folder>,
    pub(crate) messages: Vec<Message>,
    /// The bytes that messages point at.
    pub(crate) letters: Vec<Vec<u8>>,
    /// What was done to it, and on which side.
    pub(crate) tally: Vec<(Damage, Side)>,
    /// Whether the live Maildir is there at all.
    pub(crate) maildir: bool,
}

/// Which copy of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Live,
    Snapshot,
}

/// A folder, and how it stands on either side.
pub(crate) struct Folder {
    pub(crate) name: String,
    pub(crate) uid_validity: u32,
    pub(crate) guid: String,
    pub(crate) next_uid: u32,
    pub(crate) spent: Vec<u32>,
    pub(crate) live: Shelf,
    /// None when it is younger than the snapshot.
    pub(crate) snapshot: Option<Shelf>,
}

/// A folder on one side.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) exists: bool,
    /// Which of `cur` and `new` the storm took.
    pub(crate) without: Option<&'static str>,
    /// The next UID as the header of its uidlist has it.
    pub(crate) header_next: u32,
    pub(crate) lines: Vec<Line>,
    pub(crate) keywords: Vec<&'static str>,
    pub(crate) keywords_lost: bool,
    /// What happened to the uidlist, with the bytes that are left of it.
    pub(crate) list: ListState,
}

/// A line of a uidlist.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) uid: u32,
    pub(crate) name: String,
}

/// A uidlist on disk.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ListState {
    Whole,
    Lost,
    Zeroed,
    /// So many bytes are left.
    Cut(usize),
}

/// A message of one folder.
pub(crate) struct Message {
    pub(crate) folder: usize,
    pub(crate) letter: usize,
    pub(crate) name: String,
    pub(crate) mtime: i64,
    pub(crate) uid: Option<u32>,
    pub(crate) deleted: bool,
    pub(crate) moved_from: Option<usize>,
    pub(crate) live: Option<Leaf>,
    pub(crate) snapshot: Option<Leaf>,
}

/// A message's file on one side.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) in_new: bool,
    /// System flags, in alphabetical order.
    pub(crate) flags: String,
    pub(crate) keywords: Vec<&'static str>,
    /// Other bytes than the letter's.
    pub(crate) damage: Option<(Damage, Vec<u8>)>,
}

impl Shelf {
    /// The uidlist as Dovecot writes it.
    pub(crate) fn list_text(&self, uid_validity: u32, guid: &str) -> String {
        let mut text = format!("3 V{uid_validity} N{} G{guid}\n", self.header_next);
        for Line { uid, name } in &self.lines {
            text.push_str(&uid.to_string());
            text.push_str(" :");
            text.push_str(name);
            text.push('\n');
        }
        text
    }

    /// Makes the list right, as Dovecot does now and then.
    fn rewrite(&mut self, next_uid: u32, stands: impl Fn(&str) -> bool) {
        self.lines.retain(|line| stands(&line.name));
        self.header_next = next_uid;
    }
}

impl Leaf {
    /// What follows the base name: `:2,` and letters, or nothing for untouched new mail.
    pub(crate) fn suffix(&self, shelf: &Shelf) -> String {
        if self.in_new && self.flags.is_empty() && self.keywords.is_empty() {
            return String::new();
        }
        let mut letters: Vec<char> = self
            .keywords
            .iter()
            .filter_map(|word| shelf.keywords.iter().position(|known| known == word))
            .filter_map(|place| u8::try_from(place).ok())
            .map(|place| char::from(b'a' + place))
            .collect();
        letters.sort_unstable();
        format!(":2,{}{}", self.flags, letters.into_iter().collect::<String>())
    }

    /// Sets or clears a system flag.
    fn toggle(&mut self, flag: char) {
        let mut flags: Vec<char> =
            self.flags.chars().filter(|set| *set != flag).collect();
        if flags.len() == self.flags.len() {
            flags.push(flag);
            flags.sort_unstable();
        }
        self.flags = flags.into_iter().collect();
    }
}

impl Message {
    pub(crate) fn leaf(&self, side: Side) -> Option<&Leaf> {
        match side {
            Side::Live => self.live.as_ref(),
            Side::Snapshot => self.snapshot.as_ref(),
        }
    }
}

impl Life {
    /// The whole life of `person`'s mailbox up to the storm.
    pub(crate) fn lived(person: Person, seed: u64, letters: &Letters) -> Self {
        let mut dice = Chance::new(seed, "life", person.number);
        let folders = folders(&person, &mut dice);
        let mut life = Self {
            person,
            folders,
            messages: Vec::new(),
            letters: Vec::new(),
            tally: Vec::new(),
            maildir: true,
        };
        for number in 0..life.person.messages {
            life.deliver_before(number, letters, &mut dice);
        }
        life.age_lists(&mut dice);
        if !life.person.newcomer {
            life.take_snapshot();
            life.read_and_flag(&mut dice);
            life.delete_and_move(&mut dice);
            life.deliver_after(letters, &mut dice);
        }
        life.settle_lists(&mut dice);
        life
    }

    fn deliver_before(&mut self, number: u64, letters: &Letters, dice: &mut Chance) {
        let folder = if dice.percent(60) { 0 } else { dice.index(self.folders.len()) };
        let last_ones = number + 2 >= self.person.messages;
        let unread = folder == 0 && (last_ones && dice.percent(30) || dice.percent(6));
        let unmet = unread && last_ones;
        let leaf = if unread { Leaf::unread() } else { Leaf::read(dice) };
        let index = self.deliver(letters.letter(&self.person, number), folder, number);
        if let Some(shelf) = self.folders.get_mut(folder).map(|folder| &mut folder.live) {
            for word in &leaf.keywords {
                if !shelf.keywords.contains(word) {
                    shelf.keywords.push(word);
                }
            }
        }
        if let Some(message) = self.messages.get_mut(index) {
            message.live = Some(leaf);
        }
        if !unmet {
            self.list(index, dice);
        }
    }

    /// Adds a message to a folder; gives its position.
    fn deliver(&mut self, bytes: Vec<u8>, folder: usize, number: u64) -> usize {
        let mtime = self.person.arrival(number);
        let name = base_name(&self.person, mtime, number, &bytes);
        self.messages.push(Message {
            folder,
            letter: self.letters.len(),
            name,
            mtime,
            uid: None,
            deleted: false,
            moved_from: None,
            live: Some(Leaf::unread()),
            snapshot: None,
        });
        self.letters.push(bytes);
        self.messages.len() - 1
    }

    /// Gives a message its UID and appends it to the list.
    fn list(&mut self, index: usize, dice: &mut Chance) {
        let Some(message) = self.messages.get_mut(index) else { return };
        let Some(folder) = self.folders.get_mut(message.folder) else { return };
        while dice.percent(15) {
            folder.spent.push(folder.next_uid);
            folder.next_uid += 1;
        }
        let uid = folder.next_uid;
        folder.next_uid += 1;
        message.uid = Some(uid);
        folder.live.lines.push(Line { uid, name: message.name.clone() });
    }

    /// Leaves some lists as they are between rewrites: an old header, a line too many.
    fn age_lists(&mut self, dice: &mut Chance) {
        for folder in &mut self.folders {
            folder.live.header_next = folder.next_uid;
            if dice.percent(25) {
                folder.live.header_next = 1;
            }
            if dice.percent(3)
                && let Some(uid) = folder.spent.first().copied()
            {
                let name = format!("1700000000.M{uid:06}P77.gone,S=1200,W=1230");
                folder.live.lines.push(Line { uid, name });
                folder.live.lines.sort_by_key(|line| line.uid);
            }
        }
    }

    fn take_snapshot(&mut self) {
        for folder in &mut self.folders {
            folder.snapshot = Some(folder.live.clone());
        }
        for message in &mut self.messages {
            message.snapshot.clone_from(&message.live);
        }
    }

    /// Flags and keywords change; some folders' keywords get their letters anew.
    fn read_and_flag(&mut self, dice: &mut Chance) {
        for index in 0..self.messages.len() {
            let Some(message) = self.messages.get_mut(index) else { continue };
            let unmet = message.uid.is_none();
            let Some(folder) = self.folders.get_mut(message.folder) else { continue };
            let Some(leaf) = message.live.as_mut() else { continue };
            if unmet && dice.percent(50) {
                leaf.in_new = false;
                leaf.toggle('S');
                self.list(index, dice);
            } else if dice.percent(12) {
                leaf.in_new &= dice.percent(20);
                leaf.toggle(dice.pick(&['S', 'R', 'F', 'P'], 'S'));
                if dice.percent(20) {
                    let word = dice.pick(&KEYWORDS, "$Work");
                    if !folder.live.keywords.contains(&word) {
                        folder.live.keywords.push(word);
                    }
                    if !leaf.keywords.contains(&word) {
                        leaf.keywords.push(word);
                    }
                }
            }
        }
        for folder in &mut self.folders {
            if dice.percent(4) {
                dice.shuffle(&mut folder.live.keywords);
            }
        }
    }

    fn delete_and_move(&mut self, dice: &mut Chance) {
        for index in 0..self.messages.len() {
            let roll = dice.below(100);
            if roll >= 7 {
                continue;
            }
            let target = dice.index(self.folders.len());
            let Some(message) = self.messages.get_mut(index) else { continue };
            let (source, uid) = (message.folder, message.uid);
            let Some(leaf) = message.live.take() else { continue };
            message.deleted = true;
            if roll < 4 || target == source || uid.is_none() {
                continue;
            }
            let (letter, mtime) = (message.letter, message.mtime);
            self.move_copy(Move { index, target, letter, mtime }, leaf, dice);
        }
    }

    fn move_copy(&mut self, moved: Move, mut leaf: Leaf, dice: &mut Chance) {
        let Move { index, target, letter, mtime } = moved;
        let Some(bytes) = self.letters.get(letter) else { return };
        let at = SNAPSHOT_TIME + i64::try_from(dice.below(20_000)).unwrap_or(0);
        let number = u64::try_from(self.messages.len()).unwrap_or(0) + 30_000;
        let name = base_name(&self.person, at, number, bytes);
        if let Some(folder) = self.folders.get_mut(target) {
            for word in &leaf.keywords {
                if !folder.live.keywords.contains(word) {
                    folder.live.keywords.push(word);
                }
            }
        }
        leaf.in_new = false;
        self.messages.push(Message {
            folder: target,
            letter,
            name,
            mtime,
            uid: None,
            deleted: false,
            moved_from: Some(index),
            live: Some(leaf),
            snapshot: None,
        });
        self.list(self.messages.len() - 1, dice);
    }

    fn deliver_after(&mut self, letters: &Letters, dice: &mut Chance) {
        let first = self.person.messages;
        for number in first..first + dice.below(first / 6 + 2) {
            let folder =
                if dice.percent(85) { 0 } else { dice.index(self.folders.len()) };
            let index =
                self.deliver(letters.letter(&self.person, number), folder, number);
            if !dice.percent(60) {
                continue;
            }
            self.list(index, dice);
            if let Some(message) = self.messages.get_mut(index)
                && dice.percent(60)
            {
                message.live =
                    Some(Leaf { in_new: false, flags: "S".into(), ..Leaf::unread() });
            }
        }
    }

    /// Where something was deleted most lists were rewritten since; the others keep the
    /// line.
    fn settle_lists(&mut self, dice: &mut Chance) {
        for (place, folder) in self.folders.iter_mut().enumerate() {
            let gone: Vec<&str> = self
                .messages
                .iter()
                .filter(|message| message.folder == place && message.deleted)
                .map(|message| message.name.as_str())
                .collect();
            if !gone.is_empty() && dice.percent(70) {
                let next_uid = folder.next_uid;
                folder.live.rewrite(next_uid, |name| {
                    !gone.contains(&name) && !name.contains(".gone,")
                });
            }
        }
    }
}

/// A message on its way into another folder.
#[derive(Clone, Copy)]
struct Move {
    index: usize,
    target: usize,
    letter: usize,
    mtime: i64,
}

impl Leaf {
    fn unread() -> Self {
        Self { in_new: true, flags: String::new(), keywords: Vec::new(), damage: None }
    }

    fn read(dice: &mut Chance) -> Self {
        let flags = dice.pick(&["S", "S", "S", "", "RS", "FS", "FRS", "PS", "ST"], "S");
        let mut keywords = Vec::new();
        if dice.percent(8) {
            keywords.push(dice.pick(&KEYWORDS, "$Work"));
        }
        // A file with flags may stay in `new`: Dovecot has been seen doing it.
        let in_new = dice.percent(2);
        Self { in_new, flags: flags.to_owned(), keywords, damage: None }
    }
}

fn base_name(person: &Person, seconds: i64, number: u64, bytes: &[u8]) -> String {
    let mut dice = Chance::new(person.number, "name", number);
    let usec = dice.below(1_000_000);
    let pid = 1_000 + (person.number * 131 + number) % 400_000;
    let host = person.node + 1;
    let (size, virtual_size) = (bytes.len(), virtual_size(bytes));
    format!("{seconds}.M{usec}P{pid}.stor-{host:02},S={size},W={virtual_size}")
}

fn folders(person: &Person, dice: &mut Chance) -> Vec<Folder> {
    let mut names = vec![String::new()];
    for (name, percent) in [("Sent", 80), ("Trash", 55), ("Drafts", 35), ("Archive", 30)]
    {
        if dice.percent(percent) {
            names.push(name.to_owned());
        }
    }
    if names.iter().any(|name| name == "Archive") && dice.percent(60) {
        names.push("Archive.2023".to_owned());
    }
    let own = match person.language {
        "de" => "Entw&APw-rfe",
        "ja" => "&ZeVnLIqe-",
        "it" => "Attivit&AOA- 2024",
        _ => "Boats",
    };
    if dice.percent(35) {
        names.push(own.to_owned());
    }
    let born =
        if person.newcomer { SNAPSHOT_TIME } else { SNAPSHOT_TIME - AFTERMATH_SECONDS };
    let first_validity =
        u32::try_from(born - 80_000_000 * i64::from(!person.newcomer)).unwrap_or(1);
    (0..)
        .zip(names)
        .map(|(place, name)| Folder {
            name,
            uid_validity: first_validity + place * 3,
            guid: format!("{:016x}{:016x}", dice.throw(), dice.throw()),
            next_uid: 1,
            spent: Vec::new(),
            live: Shelf {
                exists: true,
                without: None,
                header_next: 1,
                lines: Vec::new(),
                keywords: Vec::new(),
                keywords_lost: false,
                list: ListState::Whole,
            },
            snapshot: None,
        })
        .collect()
}
