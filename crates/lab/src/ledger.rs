//! Ledger: turns a mailbox's life and storm into the truth about it.
//!
//! # Invariants
//!
//! * A deletion is proved only by two lists: the snapshot's names the message, and the
//!   live one is whole and does not. What was moved must also stand where it went, or no
//!   place may be lost that it could have gone to.
//! * A live name that survived is believed for flags; only where it is gone is the
//!   snapshot's.

use std::collections::BTreeSet;

use crate::chance::Chance;
use crate::letters::virtual_size;
use crate::life::{Folder, Leaf, Life, ListState, Message, Shelf};
use crate::people::SNAPSHOT_TIME;
use crate::truth::{Digest, Fate, FolderTruth, Held, MailboxTruth, MessageTruth};

/// The truth about one mailbox.
pub(crate) fn record(life: &Life) -> MailboxTruth {
    let mut dice = Chance::new(life.person.number, "login", 0);
    let digests: Vec<Digest> =
        life.letters.iter().map(|letter| Digest::of(letter)).collect();
    let lists: Vec<Lists<'_>> = life.folders.iter().map(Lists::of).collect();
    let losses = Losses::of(life, &lists, &digests);
    let messages = life
        .messages
        .iter()
        .enumerate()
        .filter_map(|(index, message)| {
            let folder = life.folders.get(message.folder)?;
            let digest = *digests.get(message.letter)?;
            let bytes = life.letters.get(message.letter)?;
            let lists = lists.get(message.folder)?;
            let size_bytes = u64::try_from(bytes.len()).ok()?;
            let gone_for_good = losses.prove(index, message);
            Some(message_truth(
                message,
                folder,
                (lists, gone_for_good),
                (digest, size_bytes),
            ))
        })
        .collect();
    MailboxTruth {
        address: life.person.address.clone(),
        node: life.person.node,
        path: life.person.path(),
        tier: life.person.tier,
        language: life.person.language,
        last_login: SNAPSHOT_TIME - i64::try_from(dice.below(5_000_000)).unwrap_or(0),
        folders: life
            .folders
            .iter()
            .zip(&lists)
            .map(|(folder, lists)| folder_truth(folder, lists))
            .collect(),
        messages,
    }
}

/// What the surviving uidlists of a folder name.
struct Lists<'a> {
    live: BTreeSet<&'a str>,
    /// The live list is there, readable to its end.
    live_whole: bool,
    live_header: bool,
    snapshot: BTreeSet<&'a str>,
}

impl<'a> Lists<'a> {
    fn of(folder: &'a Folder) -> Self {
        let shelf = &folder.live;
        let text = shelf.list_text(folder.uid_validity, &folder.guid);
        let header = text.find('\n').unwrap_or(0);
        let left = match shelf.list {
            _ if !shelf.exists => 0,
            ListState::Whole => text.len(),
            ListState::Lost | ListState::Zeroed => 0,
            ListState::Cut(left) => left,
        };
        let whole_lines =
            text.get(..left).unwrap_or_default().matches('\n').count().saturating_sub(1);
        let names = |shelf: &'a Shelf| shelf.lines.iter().map(|line| line.name.as_str());
        Self {
            live: names(shelf).take(whole_lines).collect(),
            live_whole: left == text.len(),
            live_header: left > header,
            snapshot: folder.snapshot.iter().flat_map(names).collect(),
        }
    }
}

/// What the live mailbox has lost of its places and of its newer mail.
struct Losses {
    /// Folders whose lists no longer tell all that they held.
    folders: BTreeSet<usize>,
    /// The sizes of newer messages that are known by name, and not good.
    sizes: BTreeSet<(u64, u64)>,
    /// The sizes of every message.
    of_messages: Vec<(u64, u64)>,
    /// Messages whose copies stand good where they were moved to.
    moved: BTreeSet<usize>,
}

impl Losses {
    fn of(life: &Life, lists: &[Lists<'_>], digests: &[Digest]) -> Self {
        let sizes = |letter: &Vec<u8>| {
            let size = u64::try_from(letter.len()).unwrap_or(u64::MAX);
            (size, virtual_size(letter))
        };
        let of_letters: Vec<(u64, u64)> = life.letters.iter().map(sizes).collect();
        let of = |message: &Message| of_letters.get(message.letter).copied();
        let good = |message: &&Message| {
            message.live.as_ref().is_some_and(|leaf| leaf.damage.is_none())
        };
        let standing: BTreeSet<Digest> = life
            .messages
            .iter()
            .filter(good)
            .filter(|message| message.snapshot.is_none())
            .filter_map(|message| digests.get(message.letter).copied())
            .collect();
        let stands = |message: &Message| {
            digests.get(message.letter).is_some_and(|it| standing.contains(it))
        };
        let is_named = |message: &&Message| {
            let name = message.name.as_str();
            message.live.is_some()
                || lists.get(message.folder).is_some_and(|lists| {
                    lists.live.contains(name) && !lists.snapshot.contains(name)
                })
        };
        let bad = life
            .messages
            .iter()
            .filter(|message| message.snapshot.is_none() && !good(message))
            .filter(is_named);
        let unlisted =
            |(place, lists): (usize, &Lists<'_>)| (!lists.live_whole).then_some(place);
        Self {
            folders: lists.iter().enumerate().filter_map(unlisted).collect(),
            sizes: bad.filter_map(of).collect(),
            of_messages: life
                .messages
                .iter()
                .map(|it| of(it).unwrap_or((0, 0)))
                .collect(),
            moved: (0..)
                .zip(&life.messages)
                .filter(|(_, message)| stands(message))
                .map(|(index, _)| index)
                .collect(),
        }
    }

    /// Whether a message that its folder has let go cannot be among what was lost.
    fn prove(&self, index: usize, message: &Message) -> bool {
        let fits = self.of_messages.get(index).is_some_and(|it| self.sizes.contains(it));
        let place = self.folders.iter().any(|place| *place != message.folder);
        self.moved.contains(&index) || !(fits || place)
    }
}

fn folder_truth(folder: &Folder, lists: &Lists<'_>) -> FolderTruth {
    let keywords_lost = folder.live.keywords_lost || !folder.live.exists;
    let before = folder.snapshot.as_ref().map(|shelf| shelf.keywords.as_slice());
    FolderTruth {
        name: folder.name.clone(),
        uid_validity: folder.uid_validity,
        uid_validity_known: lists.live_header || folder.snapshot.is_some(),
        spent_uids: folder.spent.clone(),
        last_uid: folder.next_uid - 1,
        keywords_lost,
        keywords_certain: !keywords_lost
            || folder.live.keywords.starts_with(before.unwrap_or_default()),
    }
}

fn message_truth(
    message: &Message,
    folder: &Folder,
    (lists, gone_for_good): (&Lists<'_>, bool),
    (digest, size_bytes): (Digest, u64),
) -> MessageTruth {
    let name = message.name.as_str();
    let in_snapshot_list = lists.snapshot.contains(name);
    let in_live_list = lists.live.contains(name);
    let fate = if message.deleted {
        let let_go = lists.live_whole && in_snapshot_list && !in_live_list;
        Fate::Deleted { proved: let_go && gone_for_good }
    } else {
        Fate::Wanted
    };
    let (flags, keywords) = intent(message, folder);
    MessageTruth {
        folder: message.folder,
        name: name.to_owned(),
        digest,
        size_bytes,
        mtime: message.mtime,
        uid: message.uid,
        uid_known: message.uid.is_some() && (in_live_list || in_snapshot_list),
        flags,
        keywords,
        live: held(message.live.as_ref()),
        snapshot: held(message.snapshot.as_ref()),
        fate,
        traceable: in_live_list || message.live.is_some() || message.snapshot.is_some(),
        moved_from: message.moved_from,
    }
}

fn held(leaf: Option<&Leaf>) -> Held {
    match leaf {
        None => Held::Absent,
        Some(Leaf { damage: None, .. }) => Held::Intact,
        Some(Leaf { damage: Some((damage, _)), .. }) => Held::Damaged(*damage),
    }
}

/// The flags and keywords that can still be told.
fn intent(message: &Message, folder: &Folder) -> (String, Vec<&'static str>) {
    let before = folder.snapshot.as_ref().map(|shelf| shelf.keywords.as_slice());
    let lost = folder.live.keywords_lost || !folder.live.exists;
    let (leaf, live) = match (&message.live, &message.snapshot) {
        (Some(leaf), _) => (leaf, true),
        (None, Some(leaf)) => (leaf, false),
        (None, None) => return (String::new(), Vec::new()),
    };
    let mut keywords = leaf.keywords.clone();
    if live && lost {
        keywords.retain(|word| before.unwrap_or_default().contains(word));
    }
    keywords.sort_unstable();
    (leaf.flags.clone(), keywords)
}
