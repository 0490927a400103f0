//! View: what mail programs see of a mailbox, and how two views differ.
//!
//! # Invariants
//!
//! * Seeing changes nothing: folders are examined, bodies peeked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tidegate_mail::SetAside;

use crate::clients::Answer;
use crate::server::Dovecot;

/// A mailbox over IMAP and POP3.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// By name, as on the wire.
    pub(crate) folders: BTreeMap<String, FolderView>,
    subscribed: BTreeSet<String>,
    /// UIDL and digest, in their order.
    uidls: Vec<(String, blake3::Hash)>,
    /// Folders that the server does not open.
    refused: u32,
}

/// A folder over IMAP.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FolderView {
    /// UIDVALIDITY.
    pub(crate) validity: u32,
    /// UIDNEXT.
    pub(crate) next: u32,
    /// By UID.
    pub(crate) messages: BTreeMap<u32, MessageView>,
}

/// A message over IMAP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MessageView {
    /// Flags and keywords, sorted.
    pub(crate) flags: BTreeSet<String>,
    /// As the server writes it.
    time: String,
    /// What `RFC822.SIZE` says.
    pub(crate) size: usize,
    /// Of the bytes served, CRLF line ends.
    pub(crate) digest: blake3::Hash,
}

impl View {
    pub(crate) fn of(dovecot: &Dovecot, user: &str) -> Self {
        let mut imap = dovecot.imap(user);
        let names = |answers: Vec<Answer>| {
            let real = |answer: &&Answer| {
                !answer.text.contains("\\NonExistent")
                    && !answer.text.contains("\\Noselect")
            };
            answers.iter().filter(real).map(listed).collect()
        };
        let folders: BTreeSet<String> = names(imap.command("LIST \"\" *"));
        let subscribed = names(imap.command("LSUB \"\" *"));
        let mut refused = 0;
        let examine = |name: String| {
            let command = format!("EXAMINE \"{name}\"");
            let Ok(head) = imap.try_command(&command, b"") else {
                refused += 1;
                return (name, FolderView::default());
            };
            let number = |what: &str| {
                let found = head.iter().find_map(|it| it.text.split_once(what)).unwrap();
                found.1.split(']').next().unwrap().trim().parse().unwrap()
            };
            let (validity, next) = (number("[UIDVALIDITY"), number("[UIDNEXT"));
            let answers = imap
                .command("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])");
            let fetched = answers.iter().filter(|it| it.text.contains(" FETCH ("));
            let messages = fetched.map(MessageView::parse).collect();
            (name, FolderView { validity, next, messages })
        };
        let folders: BTreeMap<String, FolderView> =
            folders.into_iter().map(examine).collect();
        let uidls = match refused {
            0 => dovecot.pop3(user).messages(),
            _ => Vec::new(),
        };
        let uidls = uidls.into_iter().map(|(uidl, it)| (uidl, blake3::hash(&it)));
        let view = Self { folders, subscribed, uidls: uidls.collect(), refused };
        if refused == 0 {
            view.check_pop3();
        }
        view
    }

    /// Over POP3 the inbox is the same as over IMAP.
    fn check_pop3(&self) {
        let inbox = &self.folders["INBOX"];
        let over_imap: Vec<_> = inbox
            .messages
            .iter()
            .map(|(uid, it)| (format!("{uid:08x}{:08x}", inbox.validity), it.digest))
            .collect();
        assert_eq!(self.uidls, over_imap);
    }
}

impl MessageView {
    fn parse(answer: &Answer) -> (u32, Self) {
        let body = answer.literal.as_deref().unwrap_or_default();
        let after = |what: &str| answer.text.split_once(what).unwrap().1;
        let word = |what: &str| after(what).split([' ', ')']).next().unwrap().to_owned();
        let flags = after("FLAGS (").split(')').next().unwrap().split_ascii_whitespace();
        let view = Self {
            flags: flags.filter(|it| *it != "\\Recent").map(str::to_owned).collect(),
            time: after("INTERNALDATE \"").split('"').next().unwrap().to_owned(),
            size: word("RFC822.SIZE ").parse().unwrap(),
            digest: blake3::hash(body),
        };
        (word("UID ").parse().unwrap(), view)
    }
}

/// The folder of an answer to `LIST` or `LSUB`.
fn listed(answer: &Answer) -> String {
    if let Some(literal) = &answer.literal {
        return String::from_utf8(literal.clone()).unwrap();
    }
    let name = answer.text.split_once("\"/\" ").unwrap().1;
    name.trim_matches('"').to_owned()
}

/// What became of a mailbox, as a sentence.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    counts: BTreeMap<&'static str, u32>,
}

impl Outcome {
    /// Compares two views. `named`: what is said not to be served.
    pub(crate) fn of(before: &View, after: &View, named: &[SetAside]) -> Self {
        let mut outcome = Self::default();
        for _ in 0..after.refused {
            outcome.add("FOLDER REFUSED");
        }
        for (name, folder) in &before.folders {
            let Some(now) = after.folders.get(name) else {
                outcome.add("FOLDER GONE");
                continue;
            };
            if now.validity != folder.validity {
                outcome.add("UIDVALIDITY CHANGED");
            }
            if now.next < folder.next {
                outcome.add("UIDNEXT FELL");
            }
            outcome.compare(folder, now, |uid, message| {
                if is_named(named, name, uid) {
                    Some("lost and named")
                } else if came_back(before, after, message) {
                    Some("back where it was moved from")
                } else {
                    None
                }
            });
        }
        let was_there = |message: &MessageView| {
            let all = before.folders.values().flat_map(|it| it.messages.values());
            all.into_iter().any(|it| it.digest == message.digest)
        };
        for (name, folder) in &after.folders {
            let Some(known) = before.folders.get(name) else {
                outcome.add("folder back though deleted");
                continue;
            };
            for (_, message) in folder.messages.range(known.next..) {
                if !was_there(message) {
                    outcome.add("back though deleted, with new UID");
                }
            }
        }
        if before.subscribed != after.subscribed {
            outcome.add("SUBSCRIPTIONS CHANGED");
        }
        outcome
    }

    fn compare(
        &mut self,
        before: &FolderView,
        after: &FolderView,
        gone: impl Fn(u32, &MessageView) -> Option<&'static str>,
    ) {
        for (uid, message) in &before.messages {
            let what = match after.messages.get(uid) {
                Some(now) if now == message => "same",
                Some(now) if now.digest != message.digest => "WRONG BYTES",
                Some(now) if now.flags == message.flags => "TIME OR SIZE CHANGED",
                Some(_) => "other flags",
                None => {
                    let moved = after.messages.range(before.next..);
                    let found =
                        moved.map(|it| it.1).find(|it| it.digest == message.digest);
                    match found {
                        Some(now) if now == message => "new UID",
                        Some(_) => "new UID and other flags",
                        None => gone(*uid, message).unwrap_or("VANISHED"),
                    }
                }
            };
            self.add(what);
        }
        for uid in after.messages.keys().filter(|uid| **uid < before.next) {
            if !before.messages.contains_key(uid) {
                self.add("back though deleted");
            }
        }
    }

    /// Counts one more of a kind.
    pub(crate) fn add(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        let (same, rest): (Vec<_>, Vec<_>) =
            self.counts.iter().partition(|(what, _)| **what == "same");
        for (what, count) in same.into_iter().chain(rest) {
            let comma = if text.is_empty() { "" } else { ", " };
            write!(text, "{comma}{count} {what}")?;
        }
        f.write_str(&text)
    }
}

/// Whether a message that is gone stands, as new mail, in another folder.
fn came_back(before: &View, after: &View, message: &MessageView) -> bool {
    after.folders.iter().any(|(name, folder)| {
        let next = before.folders.get(name).map_or(0, |known| known.next);
        let mut new = folder.messages.range(next..);
        new.any(|(_, it)| it.digest == message.digest)
    })
}

/// Whether a message is on the list of what is not served.
fn is_named(named: &[SetAside], folder: &str, uid: u32) -> bool {
    let directory = folder.replace('/', ".");
    let directory = if folder == "INBOX" { "" } else { &directory };
    named.iter().any(|it| it.folder == directory && it.uid == Some(uid))
}
