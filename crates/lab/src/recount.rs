//! Recount: counts what came back, trusting nobody's word for it.
//!
//! # Invariants
//!
//! * It shares no code with the restorer: it reads names, lists and bytes by itself.
//! * It follows no links, opens only regular files, and changes nothing.
//! * What nothing on either side could have told is not held against the restorer, but
//!   counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::kept::Kept;
use crate::provider::{LabError, Provider};
use crate::survey::{self, Folder, Survey};
use crate::truth::{Digest, Fate, FolderTruth, Held, MailboxTruth, MessageTruth};

/// How many threads read mail.
const HANDS: usize = 2;
/// How many complaints of a kind the table shows.
const SHOWN_MAX: usize = 10;

/// What the product claims to have done.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// How each mailbox ended, by address; one that is not named was never worked on.
    pub states: BTreeMap<String, MailboxEnd>,
    /// The messages that it set aside or reported as lost.
    pub set_aside: Vec<Listed>,
}

/// How a mailbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailboxEnd {
    /// Prepared, or open: everything must be in its place.
    Restored,
    /// Set aside as a whole: it stays held, and nothing of it may be gone.
    SetAside,
    /// Never worked on: nothing of it may be gone.
    Untouched,
}

/// A message that the product says it could not bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Whose it is.
    pub address: String,
    /// `""` for the INBOX, else such as `Archive.2024`.
    pub folder: String,
    /// Its base name.
    pub name: String,
    /// Why, in the product's words.
    pub reason: String,
}

/// What the recount found.
#[derive(Debug, Clone, Default)]
pub struct Recount {
    /// Mailboxes restored, set aside, untouched.
    pub mailboxes: (u64, u64, u64),
    /// Messages of restored mailboxes that some source held intact in their place.
    pub messages_expected: u64,
    /// How many of them are there, bit for bit.
    pub messages_found: u64,
    /// Messages whose place held no intact bytes, and which are right all the same.
    pub messages_regained: u64,
    /// Messages beyond repair that the product listed, as it must.
    pub messages_listed: u64,
    /// Messages of which nothing at all was left, neither a file nor a line.
    pub messages_untraceable: u64,
    /// Deleted messages that came back where nothing proved the deletion.
    pub returned_in_doubt: u64,
    /// Intact somewhere, and not brought back.
    pub lost: Vec<Complaint>,
    /// Served with other bytes than its own.
    pub altered: Vec<Complaint>,
    /// There more than once.
    pub duplicated: Vec<Complaint>,
    /// Where it does not belong: other folder, other user, no mail at all.
    pub misplaced: Vec<Complaint>,
    /// Deleted beyond doubt, and back.
    pub resurrected: Vec<Complaint>,
    /// Another UID or UIDVALIDITY, or one given twice.
    pub uid_changed: Vec<Complaint>,
    /// Other flags or keywords.
    pub flags_changed: Vec<Complaint>,
    /// Another time of delivery.
    pub redated: Vec<Complaint>,
    /// Beyond repair, and not listed by the product.
    pub unlisted: Vec<Complaint>,
    /// Of a mailbox that was not restored, with its intact bytes gone.
    pub destroyed: Vec<Complaint>,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Whose mailbox.
    pub address: String,
    /// Which folder; `""` for the INBOX.
    pub folder: String,
    /// Which message, where one is meant and it has a UID.
    pub uid: Option<u32>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = if self.folder.is_empty() { "INBOX" } else { &self.folder };
        write!(f, "{} {folder} ", self.address)?;
        match self.uid {
            Some(uid) => write!(f, "uid {uid}: ")?,
            None => write!(f, "no uid: ")?,
        }
        f.write_str(&self.what)
    }
}

/// Counts the provider's mail again and holds it against the truth and `told`.
///
/// # Errors
///
/// [`LabError`] when the store cannot be read. Nothing is known then.
pub fn recount(provider: &Provider, told: &Told) -> Result<Recount, LabError> {
    let mut listed: HashMap<&str, HashSet<(&str, &str)>> = HashMap::new();
    for Listed { address, folder, name, .. } in &told.set_aside {
        listed.entry(address).or_default().insert((folder, name));
    }
    let office = Office { provider, told, listed, kept: Kept::of(provider) };
    let next = AtomicUsize::new(0);
    let hands: Vec<_> = thread::scope(|scope| {
        let hands: Vec<_> =
            (0..HANDS).map(|_| scope.spawn(|| office.count_some(&next))).collect();
        hands.into_iter().map(|hand| hand.join().map_err(|_| LabError::Thread)).collect()
    });
    let mut total = Recount::default();
    let mut strangers = Vec::new();
    let mut parts = BTreeMap::new();
    for hand in hands {
        parts.extend(hand??);
    }
    for (_, part) in parts {
        total.add(part.recount);
        strangers.extend(part.strangers);
    }
    total.blame(strangers, provider);
    Ok(total)
}

impl Recount {
    /// Whether nothing at all is wrong.
    pub fn is_clean(&self) -> bool {
        self.kinds().iter().all(|(_, complaints)| complaints.is_empty())
    }

    /// Every kind of complaint with its complaints, worst first.
    pub fn kinds(&self) -> [(&'static str, &[Complaint]); 10] {
        [
            ("lost", &self.lost),
            ("altered", &self.altered),
            ("misplaced", &self.misplaced),
            ("destroyed", &self.destroyed),
            ("duplicated", &self.duplicated),
            ("resurrected", &self.resurrected),
            ("unlisted", &self.unlisted),
            ("uid changed", &self.uid_changed),
            ("flags changed", &self.flags_changed),
            ("redated", &self.redated),
        ]
    }

    fn add(&mut self, part: Self) {
        self.mailboxes.0 += part.mailboxes.0;
        self.mailboxes.1 += part.mailboxes.1;
        self.mailboxes.2 += part.mailboxes.2;
        self.messages_expected += part.messages_expected;
        self.messages_found += part.messages_found;
        self.messages_regained += part.messages_regained;
        self.messages_listed += part.messages_listed;
        self.messages_untraceable += part.messages_untraceable;
        self.returned_in_doubt += part.returned_in_doubt;
        self.lost.extend(part.lost);
        self.altered.extend(part.altered);
        self.duplicated.extend(part.duplicated);
        self.misplaced.extend(part.misplaced);
        self.resurrected.extend(part.resurrected);
        self.uid_changed.extend(part.uid_changed);
        self.flags_changed.extend(part.flags_changed);
        self.redated.extend(part.redated);
        self.unlisted.extend(part.unlisted);
        self.destroyed.extend(part.destroyed);
    }

    /// Finds out whose bytes the strangers have.
    fn blame(&mut self, strangers: Vec<Stranger>, provider: &Provider) {
        if strangers.is_empty() {
            return;
        }
        let owners: HashMap<Digest, &str> = provider
            .truth
            .mailboxes
            .iter()
            .flat_map(|mailbox| {
                let address = mailbox.address.as_str();
                mailbox.messages.iter().map(move |message| (message.digest, address))
            })
            .collect();
        for Stranger { digest, mut complaint, named } in strangers {
            match owners.get(&digest) {
                Some(owner) => {
                    complaint.what = format!("{}: mail of {owner}", complaint.what);
                    self.misplaced.push(complaint);
                }
                None if named => self.altered.push(complaint),
                None => self.misplaced.push(complaint),
            }
        }
    }
}

impl fmt::Display for Recount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (restored, set_aside, untouched) = self.mailboxes;
        for (what, count) in [
            ("mailboxes restored", restored),
            ("mailboxes set aside", set_aside),
            ("mailboxes untouched", untouched),
            ("messages expected", self.messages_expected),
            ("messages found, bit for bit", self.messages_found),
            ("regained from elsewhere", self.messages_regained),
            ("beyond repair, and listed", self.messages_listed),
            ("beyond all trace", self.messages_untraceable),
            ("deleted in doubt, returned", self.returned_in_doubt),
        ] {
            writeln!(f, "{what:<34}{count:>10}")?;
        }
        for (what, complaints) in self.kinds() {
            writeln!(f, "{what:<34}{:>10}", complaints.len())?;
            for complaint in complaints.iter().take(SHOWN_MAX) {
                writeln!(f, "    {complaint}")?;
            }
        }
        Ok(())
    }
}

/// A file that holds bytes which are not what its name says.
struct Stranger {
    digest: Digest,
    complaint: Complaint,
    /// Its name is that of a message of its folder.
    named: bool,
}

/// What was counted in one mailbox.
#[derive(Default)]
struct Part {
    recount: Recount,
    strangers: Vec<Stranger>,
}

/// Where counting is done.
struct Office<'a> {
    provider: &'a Provider,
    told: &'a Told,
    listed: HashMap<&'a str, HashSet<(&'a str, &'a str)>>,
    kept: Kept<'a>,
}

impl Office<'_> {
    fn count_some(&self, next: &AtomicUsize) -> Result<Vec<(usize, Part)>, LabError> {
        let mut parts = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(truth) = self.provider.truth.mailboxes.get(number) else {
                return Ok(parts);
            };
            parts.push((number, self.count(truth)?));
        }
    }

    fn count(&self, truth: &MailboxTruth) -> Result<Part, LabError> {
        let mut part = Part::default();
        let Some(node) = self.provider.nodes.get(truth.node) else { return Ok(part) };
        let live = survey::mailbox(&node.live.join(&truth.path))?;
        let end = self.told.states.get(&truth.address).copied();
        match end.unwrap_or(MailboxEnd::Untouched) {
            MailboxEnd::Restored => {
                part.recount.mailboxes.0 = 1;
                let listed = self.listed.get(truth.address.as_str());
                Bench { truth, live: &live, listed, part: &mut part }.count();
            }
            MailboxEnd::SetAside => {
                part.recount.mailboxes.1 = 1;
                self.look_for_bytes(truth, &live, &mut part)?;
            }
            MailboxEnd::Untouched => {
                part.recount.mailboxes.2 = 1;
                self.look_for_bytes(truth, &live, &mut part)?;
            }
        }
        Ok(part)
    }

    /// Whatever was intact must be intact somewhere still.
    fn look_for_bytes(
        &self,
        truth: &MailboxTruth,
        live: &Survey,
        part: &mut Part,
    ) -> Result<(), LabError> {
        let mut present: HashSet<Digest> = live.digests().collect();
        let mut with_snapshot = false;
        for message in &truth.messages {
            if !message.is_recoverable() || present.contains(&message.digest) {
                continue;
            }
            if self.kept.contains(truth.node, &message.digest)? {
                continue;
            }
            if message.snapshot == Held::Intact
                && !with_snapshot
                && let Some(node) = self.provider.nodes.get(truth.node)
            {
                let snapshot = survey::mailbox(&node.snapshot.join(&truth.path))?;
                present.extend(snapshot.digests());
                with_snapshot = true;
            }
            let only_snapshot = message.live != Held::Intact;
            if only_snapshot && present.contains(&message.digest) {
                continue;
            }
            let complaint = complain(truth, message, "its intact bytes are gone");
            part.recount.destroyed.push(complaint);
        }
        Ok(())
    }
}

fn complain(truth: &MailboxTruth, message: &MessageTruth, what: &str) -> Complaint {
    let folder = truth.folders.get(message.folder);
    Complaint {
        address: truth.address.clone(),
        folder: folder.map(|folder| folder.name.clone()).unwrap_or_default(),
        uid: message.uid,
        what: format!("{what} ({})", message.name),
    }
}

/// One restored mailbox on the bench.
struct Bench<'a> {
    truth: &'a MailboxTruth,
    live: &'a Survey,
    listed: Option<&'a HashSet<(&'a str, &'a str)>>,
    part: &'a mut Part,
}

impl<'a> Bench<'a> {
    fn count(&mut self) {
        let nothing = Folder::default();
        for (place, folder) in self.truth.folders.iter().enumerate() {
            let found = self.live.folders.get(&folder.name).unwrap_or(&nothing);
            for message in self.truth.messages.iter().filter(|it| it.folder == place) {
                self.message(message, folder, found);
            }
            self.list(place, folder, found);
        }
        self.strangers();
        let odd: Vec<_> = self
            .live
            .folders
            .iter()
            .flat_map(|(name, folder)| folder.odd.iter().map(move |odd| (name, odd)))
            .map(|(folder, odd)| {
                self.complaint(folder, None, format!("{odd} is no mail"))
            })
            .collect();
        self.part.recount.misplaced.extend(odd);
    }

    fn complaint(&self, folder: &str, uid: Option<u32>, what: String) -> Complaint {
        let (address, folder) = (self.truth.address.clone(), folder.to_owned());
        Complaint { address, folder, uid, what }
    }

    fn message(
        &mut self,
        message: &'a MessageTruth,
        folder: &FolderTruth,
        found: &Folder,
    ) {
        let seen = found.files.get(message.name.as_str()).map_or(&[][..], Vec::as_slice);
        let right = seen.iter().filter(|file| file.digest == message.digest).count();
        match message.fate {
            Fate::Deleted { proved } => {
                let astray = right == 0
                    && message.snapshot == Held::Intact
                    && self.was_moved_to_nowhere(message);
                let recount = &mut self.part.recount;
                if astray {
                    let what = "moved to a place that was lost, and not back";
                    recount.lost.push(complain(self.truth, message, what));
                } else if right > 0 && !proved {
                    recount.returned_in_doubt += 1;
                } else if right > 0 {
                    let what = "deleted, and back";
                    recount.resurrected.push(complain(self.truth, message, what));
                }
            }
            Fate::Wanted => {
                let recount = &mut self.part.recount;
                let expected = message.is_recoverable();
                recount.messages_expected += u64::from(expected);
                if right > 0 && expected {
                    recount.messages_found += 1;
                } else if right > 0 {
                    recount.messages_regained += 1;
                } else if seen.is_empty() {
                    self.absent(message, folder);
                }
                if right > 0 {
                    self.dress(message, folder, found);
                }
            }
        }
        self.wrong_bytes(message, folder, found);
        if seen.len() > 1 {
            let what = format!("{} files of one name", seen.len());
            let complaint = complain(self.truth, message, &what);
            self.part.recount.duplicated.push(complaint);
        }
    }

    /// Whether its owner moved it, and its bytes stand nowhere in the mailbox.
    fn was_moved_to_nowhere(&self, message: &MessageTruth) -> bool {
        let is_it = |origin: usize| {
            let origin = self.truth.messages.get(origin);
            origin.is_some_and(|it| std::ptr::eq(it, message))
        };
        let moved = self.truth.messages.iter().any(|it| it.moved_from.is_some_and(is_it));
        moved && !self.live.digests().any(|digest| digest == message.digest)
    }

    fn absent(&mut self, message: &MessageTruth, folder: &FolderTruth) {
        let listed = self.listed.is_some_and(|listed| {
            listed.contains(&(folder.name.as_str(), message.name.as_str()))
        });
        let recount = &mut self.part.recount;
        if message.is_recoverable() {
            let what =
                if listed { "set aside, though intact" } else { "not brought back" };
            recount.lost.push(complain(self.truth, message, what));
        } else if listed {
            recount.messages_listed += 1;
        } else if message.traceable {
            let what = "beyond repair, and not listed";
            recount.unlisted.push(complain(self.truth, message, what));
        } else {
            recount.messages_untraceable += 1;
        }
    }

    fn wrong_bytes(
        &mut self,
        message: &MessageTruth,
        folder: &FolderTruth,
        found: &Folder,
    ) {
        for file in found.files.get(message.name.as_str()).into_iter().flatten() {
            if file.digest != message.digest {
                let what = format!("other bytes under {}", message.name);
                let complaint = self.complaint(&folder.name, message.uid, what);
                let digest = file.digest;
                self.part.strangers.push(Stranger { digest, complaint, named: true });
            }
        }
    }

    /// Flags, keywords, date and UID of a message that is there.
    fn dress(&mut self, message: &MessageTruth, folder: &FolderTruth, found: &Folder) {
        let files = found.files.get(message.name.as_str()).into_iter().flatten();
        let Some(file) = files.into_iter().find(|it| it.digest == message.digest) else {
            return;
        };
        if message.is_nameless() {
            return;
        }
        if file.flags != message.flags {
            let what = format!("flags `{}`, must be `{}`", file.flags, message.flags);
            let complaint = complain(self.truth, message, &what);
            self.part.recount.flags_changed.push(complaint);
        }
        if folder.keywords_certain {
            let (mut words, unnamed) = found.words(&file.letters);
            words.sort_unstable();
            if words != message.keywords || (unnamed > 0 && !folder.keywords_lost) {
                let what = format!(
                    "keywords {words:?} and {unnamed} without a name, must be {:?}",
                    message.keywords
                );
                let complaint = complain(self.truth, message, &what);
                self.part.recount.flags_changed.push(complaint);
            }
        }
        if file.mtime != message.mtime {
            let what = format!("delivered {}, must be {}", file.mtime, message.mtime);
            let complaint = complain(self.truth, message, &what);
            self.part.recount.redated.push(complaint);
        }
        // Where there is no list at all, one complaint about that is enough.
        let Some(list) = &found.list else { return };
        let uid = list.uid(&message.name);
        if message.uid_known && uid != message.uid {
            let what = format!("its UID is now {uid:?}");
            let complaint = complain(self.truth, message, &what);
            self.part.recount.uid_changed.push(complaint);
        }
    }

    /// UIDVALIDITY, and no UID that ever meant another message.
    fn list(&mut self, place: usize, folder: &FolderTruth, found: &Folder) {
        let mut wrong = Vec::new();
        let Some(list) = &found.list else {
            if folder.uid_validity_known {
                let what = "no readable uidlist".to_owned();
                wrong.push(self.complaint(&folder.name, None, what));
            }
            self.part.recount.uid_changed.extend(wrong);
            return;
        };
        if folder.uid_validity_known && list.uid_validity != folder.uid_validity {
            let (is, was) = (list.uid_validity, folder.uid_validity);
            let what = format!("UIDVALIDITY {is}, must be {was}");
            wrong.push(self.complaint(&folder.name, None, what));
        }
        if folder.uid_validity_known && list.next_uid() <= folder.last_uid {
            let (next, last) = (list.next_uid(), folder.last_uid);
            let what = format!("next UID {next}, but {last} was given already");
            wrong.push(self.complaint(&folder.name, None, what));
        }
        let given: HashMap<u32, &str> = self
            .truth
            .messages
            .iter()
            .filter(|message| message.folder == place)
            .filter_map(|message| Some((message.uid?, message.name.as_str())))
            .collect();
        let known: HashSet<&str> = given.values().copied().collect();
        for (uid, name) in &list.entries {
            let of_another = given.get(uid).is_some_and(|owner| owner != name)
                || (folder.spent_uids.contains(uid) && known.contains(name.as_str()));
            if of_another && folder.uid_validity_known {
                let what = format!("UID was given to another message than {name}");
                wrong.push(self.complaint(&folder.name, Some(*uid), what));
            }
        }
        for what in &list.faults {
            wrong.push(self.complaint(&folder.name, None, what.clone()));
        }
        self.part.recount.uid_changed.extend(wrong);
    }

    /// Files whose names no message of their folder ever had.
    fn strangers(&mut self) {
        let folders: HashMap<&str, usize> = (0..)
            .zip(&self.truth.folders)
            .map(|(place, folder)| (folder.name.as_str(), place))
            .collect();
        let known: HashSet<(usize, &str)> = self
            .truth
            .messages
            .iter()
            .map(|message| (message.folder, message.name.as_str()))
            .collect();
        let by_digest: HashMap<Digest, &MessageTruth> =
            self.truth.messages.iter().map(|it| (it.digest, it)).collect();
        for (folder, found) in &self.live.folders {
            let place = folders.get(folder.as_str());
            for (name, files) in &found.files {
                if place.is_some_and(|place| known.contains(&(*place, name.as_str()))) {
                    continue;
                }
                for file in files {
                    let what = match by_digest.get(&file.digest) {
                        Some(message) => format!("{name} is a copy of {}", message.name),
                        None => format!("nobody knows {name}"),
                    };
                    let uid = found.list.as_ref().and_then(|list| list.uid(name));
                    let complaint = self.complaint(folder, uid, what);
                    if by_digest.contains_key(&file.digest) {
                        self.part.recount.duplicated.push(complaint);
                    } else {
                        let digest = file.digest;
                        let stranger = Stranger { digest, complaint, named: false };
                        self.part.strangers.push(stranger);
                    }
                }
            }
        }
    }
}
