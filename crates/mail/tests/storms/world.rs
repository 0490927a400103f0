//! World: mailboxes before a storm, what their owners did since the snapshot, and the storm.
//!
//! # Invariants
//!
//! * All of it is made in memory and written once; nothing of the engine is asked.
//! * What a file is worth is told by its last bytes alone, not by what was done to it.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

pub(crate) const LIVE: usize = 0;
pub(crate) const SNAPSHOT: usize = 1;
pub(crate) const SIDES: [&str; 2] = ["live", "snapshot"];
pub(crate) const VALIDITY: u32 = 1_795_293_977;

const SECTOR: usize = 512;
const FLAGS: [&str; 6] = ["", ":2,", ":2,S", ":2,RS", ":2,FSa", ":2,Sab"];

/// Chance that can be had again: xorshift.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end.max(1)
    }

    pub(crate) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

/// A message's file on one side.
#[derive(Clone)]
pub(crate) struct Copy {
    pub(crate) sub: &'static str,
    pub(crate) info: &'static str,
    pub(crate) stored: Vec<u8>,
}

/// One message of one folder.
#[derive(Clone)]
pub(crate) struct Mail {
    pub(crate) folder: usize,
    pub(crate) base: String,
    pub(crate) plain: Vec<u8>,
    pub(crate) uid: [Option<u32>; 2],
    pub(crate) file: [Option<Copy>; 2],
    /// One more live file of its name, in the other directory.
    pub(crate) second: Option<Copy>,
    /// Its owner deleted or moved it after the snapshot.
    pub(crate) gone: bool,
    pub(crate) moved_to: Option<usize>,
}

/// What a file's bytes are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    Good,
    /// Anybody can see that they are damaged.
    Bad,
    /// Damaged so that nothing tells.
    Subtle,
    Absent,
}

impl Mail {
    pub(crate) fn worth(&self, side: usize) -> Worth {
        let second = self.second.as_ref().filter(|_| side == LIVE);
        let files = self.file[side].iter().chain(second);
        let mut worth: Vec<Worth> = files.map(|it| self.worth_of(&it.stored)).collect();
        worth.sort_unstable_by_key(|it| (*it == Worth::Bad, *it == Worth::Subtle));
        worth.first().copied().unwrap_or(Worth::Absent)
    }

    pub(crate) fn worth_of(&self, stored: &[u8]) -> Worth {
        let Some(plain) = unpacked(stored) else { return Worth::Bad };
        if plain == self.plain {
            return Worth::Good;
        }
        let promised = self.base.split(",S=").nth(1).and_then(|it| it.split(',').next());
        let wrong = promised.is_some_and(|it| it.parse() != Ok(plain.len()));
        let zeroed = plain.chunks(SECTOR).any(|it| it.len() == SECTOR && is_zero(it));
        if plain.is_empty() || wrong || zeroed { Worth::Bad } else { Worth::Subtle }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A message as a mail program gets it; nothing if its compression is broken.
pub(crate) fn unpacked(stored: &[u8]) -> Option<Vec<u8>> {
    if !stored.starts_with(&[0x1f, 0x8b]) {
        return Some(stored.to_vec());
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(stored).read_to_end(&mut plain).ok()?;
    Some(plain)
}

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// What is left of a list or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wreck {
    None,
    Lost,
    /// Of a list: as much is left; of a folder: its directory, and nothing in it.
    Cut(usize),
    Zeroed(usize),
}

/// One folder on both sides.
#[derive(Clone)]
pub(crate) struct Folder {
    /// Its name on either side, if it is there.
    pub(crate) names: [Option<String>; 2],
    pub(crate) next_uid: [u32; 2],
    pub(crate) list: [Wreck; 2],
    pub(crate) dir: [Wreck; 2],
    /// `cur` and `new`, live, are gone.
    pub(crate) lost_subs: Vec<&'static str>,
}

impl Folder {
    fn new(name: &str, sides: [bool; 2]) -> Self {
        Self {
            names: sides.map(|is_there| is_there.then(|| name.to_owned())),
            next_uid: [1, 1],
            list: [Wreck::None; 2],
            dir: [Wreck::None; 2],
            lost_subs: Vec::new(),
        }
    }
}

/// One mailbox on both sides.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) address: String,
    pub(crate) path: String,
    pub(crate) folders: Vec<Folder>,
    pub(crate) mails: Vec<Mail>,
    pub(crate) maildir: Wreck,
    /// What was done, for whoever has to find out why.
    pub(crate) story: Vec<String>,
}

/// Mailboxes of one batch.
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) accounts: Vec<Account>,
    count: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world =
            Self { chance: Chance::new(seed), accounts: Vec::new(), count: 0 };
        for number in 0..=world.chance.below(3) {
            let address = format!("user{number}@example.org");
            let path = format!("example.org/user{number}/Maildir");
            let (folders, mails, story) = (Vec::new(), Vec::new(), Vec::new());
            let maildir = Wreck::None;
            world.accounts.push(Account {
                address,
                path,
                folders,
                mails,
                maildir,
                story,
            });
            world.fill(number);
        }
        for number in 0..world.accounts.len() {
            for _ in 0..world.chance.below(8) {
                world.live_on(number);
            }
        }
        for _ in 0..world.chance.below(8) {
            let number = world.chance.below(world.accounts.len());
            world.strike(number);
        }
        world
    }

    fn fill(&mut self, number: usize) {
        let names = ["", ".Archive", ".Archive.2024", ".Sent &AOQ- x"];
        for name in &names[..=self.chance.below(names.len())] {
            self.accounts[number].folders.push(Folder::new(name, [true, true]));
        }
        for folder in 0..self.accounts[number].folders.len() {
            for _ in 0..self.chance.below(7) {
                let (base, plain) = self.letter(number);
                let at = self.deliver(number, (folder, base, plain));
                let account = &mut self.accounts[number];
                let mail = &mut account.mails[at];
                let file = mail.file[LIVE].clone();
                mail.file[SNAPSHOT] = file;
                mail.uid[SNAPSHOT] = mail.uid[LIVE];
                let folder = &mut account.folders[folder];
                folder.next_uid[SNAPSHOT] = folder.next_uid[LIVE];
                if self.chance.percent(5) {
                    // Somebody compresses old mail.
                    let live = mail.file[LIVE].as_mut().unwrap();
                    live.stored = packed(&mail.plain);
                }
            }
        }
    }

    /// A new message and its name.
    fn letter(&mut self, number: usize) -> (String, Vec<u8>) {
        self.count += 1;
        let (count, address) = (self.count, self.accounts[number].address.clone());
        let mails = &self.accounts[number].mails;
        let plain = if !mails.is_empty() && self.chance.percent(12) {
            mails[self.chance.below(mails.len())].plain.clone()
        } else {
            self.text(count, &address)
        };
        let mut base = format!("{}.M{count}P1.host", 1_795_000_000 + count);
        if self.chance.percent(85) {
            let bare = memchr::memchr_iter(b'\n', &plain).count();
            write!(base, ",S={},W={}", plain.len(), plain.len() + bare).unwrap();
        }
        (base, plain)
    }

    fn text(&mut self, count: u32, address: &str) -> Vec<u8> {
        let mut body = String::new();
        for line in 0..=self.chance.below(120) {
            let word = self.chance.next();
            writeln!(body, "line {line} of {count} says {word:x}").unwrap();
        }
        let mut head = String::new();
        if self.chance.percent(70) {
            writeln!(head, "Delivered-To: {address}").unwrap();
        }
        if self.chance.percent(30) {
            let mut signed = body.replace('\n', "\r\n");
            if self.chance.percent(25) {
                signed.push_str("before a mailing list added to it\r\n");
            }
            let hash = STANDARD.encode(Sha256::digest(signed.as_bytes()));
            writeln!(
                head,
                "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.org;\n\
                 \ts=x; h=from; bh={hash}; b=AAAA"
            )
            .unwrap();
        }
        if self.chance.percent(80) {
            writeln!(head, "Message-Id: <{count}@example.org>").unwrap();
        }
        format!("{head}Subject: number {count}\n\n{body}").into_bytes()
    }

    /// A message comes into a live folder; its place among the messages.
    fn deliver(
        &mut self,
        number: usize,
        (folder, base, plain): (usize, String, Vec<u8>),
    ) -> usize {
        let is_new = self.chance.percent(25);
        let is_listed = !is_new || self.chance.percent(50);
        let (sub, info) = if is_new {
            ("new", "")
        } else {
            ("cur", FLAGS[1 + self.chance.below(FLAGS.len() - 1)])
        };
        let stored = if self.chance.percent(15) { packed(&plain) } else { plain.clone() };
        let account = &mut self.accounts[number];
        let uid = is_listed.then(|| {
            let next = &mut account.folders[folder].next_uid[LIVE];
            *next += 1;
            *next - 1
        });
        let file = [Some(Copy { sub, info, stored }), None];
        let (uid, gone, moved_to) = ([uid, None], false, None);
        let mail = Mail { folder, base, plain, uid, file, second: None, gone, moved_to };
        account.mails.push(mail);
        account.mails.len() - 1
    }

    /// One thing that its owner does after the snapshot.
    fn live_on(&mut self, number: usize) {
        let folder = self.chance.below(self.accounts[number].folders.len());
        let there = |mail: &Mail| mail.file[LIVE].is_some();
        let mails = &self.accounts[number].mails;
        let present: Vec<usize> =
            (0..mails.len()).filter(|at| there(&mails[*at])).collect();
        let act = self.chance.below(9);
        let chosen =
            (!present.is_empty()).then(|| present[self.chance.below(present.len())]);
        match (act, chosen) {
            (0 | 1, _) | (_, None) => {
                let (base, plain) = self.letter(number);
                let at = self.deliver(number, (folder, base, plain));
                self.tell(number, format!("delivered {at}"));
            }
            (2 | 3, Some(at)) => {
                let info = FLAGS[1 + self.chance.below(FLAGS.len() - 1)];
                let account = &mut self.accounts[number];
                let mail = &mut account.mails[at];
                let file = mail.file[LIVE].as_mut().unwrap();
                (file.sub, file.info) = ("cur", info);
                if mail.uid[LIVE].is_none() {
                    let next = &mut account.folders[mail.folder].next_uid[LIVE];
                    mail.uid[LIVE] = Some(*next);
                    *next += 1;
                }
                self.tell(number, format!("flagged {at}"));
            }
            (4 | 5, Some(at)) => {
                self.vanish(number, at);
                self.tell(number, format!("deleted {at}"));
            }
            (6 | 7, Some(at)) => {
                let plain = self.accounts[number].mails[at].plain.clone();
                self.count += 1;
                let old = &self.accounts[number].mails[at].base;
                let sizes = old.split_once(",S=").map(|(_, sizes)| format!(",S={sizes}"));
                let head =
                    format!("{}.M{}P2.host", 1_795_500_000 + self.count, self.count);
                let base = head + &sizes.unwrap_or_default();
                let to = self.deliver(number, (folder, base, plain));
                let account = &mut self.accounts[number];
                if account.mails[to].uid[LIVE].is_none() {
                    let next = &mut account.folders[folder].next_uid[LIVE];
                    account.mails[to].uid[LIVE] = Some(*next);
                    *next += 1;
                }
                if act == 6 {
                    self.vanish(number, at);
                    self.accounts[number].mails[at].moved_to = Some(to);
                }
                self.tell(number, format!("moved or copied {at} to {to}"));
            }
            (_, Some(_)) if self.chance.percent(50) => {
                let name = format!(".New{}", self.accounts[number].folders.len());
                self.accounts[number].folders.push(Folder::new(&name, [true, false]));
                self.tell(number, format!("made {name}"));
            }
            (_, Some(_)) => {
                let place = &mut self.accounts[number].folders[folder];
                if folder > 0 && place.names[SNAPSHOT].is_some() {
                    place.names[LIVE] = Some(format!(".Renamed{folder}"));
                    self.tell(number, format!("renamed {folder}"));
                }
            }
        }
    }

    fn vanish(&mut self, number: usize, at: usize) {
        let mail = &mut self.accounts[number].mails[at];
        (mail.file[LIVE], mail.uid[LIVE], mail.gone) = (None, None, true);
    }

    fn tell(&mut self, number: usize, what: String) {
        self.accounts[number].story.push(what);
    }

    /// One blow of the storm.
    fn strike(&mut self, number: usize) {
        let side = usize::from(self.chance.percent(35));
        let folder = self.chance.below(self.accounts[number].folders.len());
        match self.chance.below(14) {
            0..10 => self.strike_mail(number, side),
            10 | 11 => {
                let at = self.chance.below(400);
                let wreck = match self.chance.below(3) {
                    0 => Wreck::Lost,
                    1 => Wreck::Cut(at),
                    _ => Wreck::Zeroed(at / 100 * 100),
                };
                self.accounts[number].folders[folder].list[side] = wreck;
                self.tell(number, format!("{} list of {folder}: {wreck:?}", SIDES[side]));
            }
            12 => self.strike_folder(number, (side, folder)),
            _ if self.chance.percent(20) => {
                self.accounts[number].maildir = Wreck::Lost;
                for mail in &mut self.accounts[number].mails {
                    (mail.file[LIVE], mail.second) = (None, None);
                }
                self.tell(number, "lost the Maildir".to_owned());
            }
            _ => {}
        }
    }

    fn strike_folder(&mut self, number: usize, (side, folder): (usize, usize)) {
        let sub = ["cur", "new"][self.chance.below(2)];
        let whole = folder > 0 && self.chance.percent(60);
        let emptied = self.chance.percent(40);
        let account = &mut self.accounts[number];
        let place = &mut account.folders[folder];
        if whole {
            place.dir[side] = if emptied { Wreck::Cut(0) } else { Wreck::Lost };
        } else if side == LIVE {
            place.lost_subs.push(sub);
        } else {
            return;
        }
        for mail in account.mails.iter_mut().filter(|mail| mail.folder == folder) {
            if mail.file[side].as_ref().is_some_and(|file| whole || file.sub == sub) {
                mail.file[side] = None;
            }
            if side == LIVE {
                mail.second = mail.second.take().filter(|file| !whole && file.sub != sub);
            }
        }
        let story = format!("{} folder {folder}: {whole} {emptied} {sub}", SIDES[side]);
        self.tell(number, story);
    }

    fn strike_mail(&mut self, number: usize, side: usize) {
        let there = |account: &Account| -> Vec<usize> {
            let is_there = |at: &usize| account.mails[*at].file[side].is_some();
            (0..account.mails.len()).filter(is_there).collect()
        };
        let here = there(&self.accounts[number]);
        let Some(at) = here.get(self.chance.below(here.len())).copied() else { return };
        let neighbour = self.chance.below(self.accounts.len());
        let others = there(&self.accounts[neighbour]);
        let other = others.get(self.chance.below(others.len())).copied();
        let kind = self.chance.below(8);
        let bytes_of = |world: &Self, number: usize, at: usize| {
            world.accounts[number].mails[at].file[side].as_ref().unwrap().stored.clone()
        };
        let mut bytes = bytes_of(self, number, at);
        let place = self.chance.below(bytes.len());
        match (kind, other) {
            (0, _) => bytes.truncate(place),
            (1, _) => {
                let end = bytes.len();
                let start = place / SECTOR * SECTOR;
                bytes[start..end.min(start + SECTOR)].fill(0);
            }
            (2 | 3, _) if !bytes.is_empty() => {
                bytes[place] ^= 1 << self.chance.below(8);
            }
            (4, _) => {
                let twin = here[self.chance.below(here.len())];
                let swapped = bytes_of(self, number, twin);
                self.put_bytes((number, side, twin), bytes);
                self.tell(number, format!("{} swapped {at} {twin}", SIDES[side]));
                bytes = swapped;
            }
            (5, Some(other)) => bytes = bytes_of(self, neighbour, other),
            (6, _) if side == LIVE => {
                // A repair of the file system brings back what was renamed or half written.
                let account = &mut self.accounts[number];
                let mail = &mut account.mails[at];
                let first = mail.file[LIVE].as_ref().unwrap();
                let (sub, info) = match first.sub {
                    "cur" => ("new", ""),
                    _ => ("cur", ":2,S"),
                };
                let stored = bytes
                    [..if place.is_multiple_of(2) { place } else { bytes.len() }]
                    .to_vec();
                if account.folders[mail.folder].lost_subs.contains(&sub) {
                    return;
                }
                mail.second = Some(Copy { sub, info, stored });
                self.tell(number, format!("live twice {at}"));
                return;
            }
            _ => {
                self.accounts[number].mails[at].file[side] = None;
                self.tell(number, format!("{} lost {at}", SIDES[side]));
                return;
            }
        }
        self.put_bytes((number, side, at), bytes);
        self.tell(number, format!("{} blow {kind} on {at}", SIDES[side]));
    }

    fn put_bytes(&mut self, (number, side, at): (usize, usize, usize), bytes: Vec<u8>) {
        self.accounts[number].mails[at].file[side].as_mut().unwrap().stored = bytes;
    }

    /// Writes both sides of all mailboxes.
    pub(crate) fn write(&self, root: &Path) {
        for account in &self.accounts {
            for side in [LIVE, SNAPSHOT] {
                account.write(root, side);
            }
        }
    }
}

impl Account {
    fn write(&self, root: &Path, side: usize) {
        if side == LIVE && self.maildir == Wreck::Lost {
            return;
        }
        let maildir = root.join(SIDES[side]).join(&self.path);
        for (at, folder) in self.folders.iter().enumerate() {
            let Some(name) = &folder.names[side] else { continue };
            let dir = maildir.join(name);
            match folder.dir[side] {
                Wreck::Lost => continue,
                Wreck::Cut(_) | Wreck::Zeroed(_) => {
                    fs::create_dir_all(&dir).unwrap();
                    continue;
                }
                Wreck::None => {}
            }
            for sub in ["cur", "new", "tmp"] {
                if side == SNAPSHOT || !folder.lost_subs.contains(&sub) {
                    fs::create_dir_all(dir.join(sub)).unwrap();
                }
            }
            fs::create_dir_all(&dir).unwrap();
            if at > 0 {
                fs::write(dir.join("maildirfolder"), b"").unwrap();
            }
            fs::write(dir.join("dovecot-keywords"), b"0 $Work\n1 $Junk\n").unwrap();
            let mut list = self.list(side, at).into_bytes();
            match folder.list[side] {
                Wreck::None | Wreck::Lost => {}
                Wreck::Cut(length) => list.truncate(length),
                Wreck::Zeroed(from) => {
                    list.iter_mut().skip(from).take(100).for_each(|it| *it = 0);
                }
            }
            if folder.list[side] != Wreck::Lost {
                fs::write(dir.join("dovecot-uidlist"), list).unwrap();
            }
        }
        let second = |mail: &'_ Mail| mail.second.clone().filter(|_| side == LIVE);
        let files = self.mails.iter().flat_map(|mail| {
            let files = mail.file[side].clone().into_iter().chain(second(mail));
            files.map(move |file| (mail, file))
        });
        for (mail, file) in files {
            let folder = self.folders[mail.folder].names[side].as_ref().unwrap();
            let name = mail.base.clone() + file.info;
            let path = maildir.join(folder).join(file.sub).join(name);
            fs::write(&path, &file.stored).unwrap();
            let seconds: u64 = mail.base.split('.').next().unwrap().parse().unwrap();
            let time = UNIX_EPOCH + Duration::new(seconds, 123_456_789);
            fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
    }

    /// A folder's list as it was before the storm.
    pub(crate) fn list(&self, side: usize, folder: usize) -> String {
        let next = self.folders[folder].next_uid[side];
        let mut text = format!("3 V{VALIDITY} N{next} G{folder:032x}\n");
        let mut lines: Vec<(u32, &str)> = Vec::new();
        for mail in self.mails.iter().filter(|mail| mail.folder == folder) {
            lines.extend(mail.uid[side].map(|uid| (uid, &*mail.base)));
        }
        lines.sort_unstable();
        for (uid, base) in lines {
            writeln!(text, "{uid} :{base}").unwrap();
        }
        text
    }
}
