//! Reading: an open mailbox as its user sees it over IMAP, held against what was verified.
//!
//! # Invariants
//!
//! * What the user has deleted, moved or received since is never a failure.
//! * A message under a UID that was verified has the bytes that were verified, or it has been
//!   altered. Lines may end otherwise on the wire than on the disk; where a message mixes both
//!   ways, only its length is judged.
//! * The inbox keeps the UIDVALIDITY that it had when it was let in; where that was not seen, as
//!   after a start of the worker, the one that is read first. No other folder is held to its own:
//!   its user may have made it anew.
//! * A mailbox whose owner is not admitted to IMAP is not read.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_admission::{Answer, Doors};
use tidegate_core::holding::{Outcome, ProbeTask};
use tidegate_mail::{Fingerprint, Fingerprinter, Mailbox, Manifest, ManifestEntry};
use tidegate_mailserver::reader::{Look, MessageEnd, Reader, Sample};
use tidegate_mailserver::{ConversationError, ConversationFault};

use super::counters::{UID_VALIDITY_DIFFERS, shown_name, stored_name};
use super::{Dovecot, Master};
use crate::findings::alarm;
use crate::store::Reads;

/// Messages read by chance, beside the newest.
const RANDOM: u32 = 2;

/// One mailbox takes milliseconds; on a node that struggles, this long, and then it cannot be
/// read.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a mailbox that could not be read is tried before it counts, and how long it waits
/// between: one slow moment of a server is not a sick mailbox.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Mailboxes whose first read is told from later ones: a few megabytes.
const TIMED_MAX: usize = 65_536;

/// Times of each kind that are told at once; nobody asks for more in ten seconds.
const TIMES_MAX: usize = 256;

/// Where a message is cut for its digest.
const BUFFER_BYTES: usize = 16 * 1024;

/// Reads a share of the mailboxes through a master user.
pub(crate) struct Reading {
    reader: Reader,
    imap: SocketAddr,
    doors: Doors,
    sample_percent: u8,
    /// Whether the master user was ever let in, and whether it was told that he was not.
    has_been_in: AtomicBool,
    has_warned: AtomicBool,
    validities: Validities,
    times: Times,
}

/// How long reads took, first ones apart: what a login costs whose mailbox nobody has read yet.
#[derive(Debug, Default)]
struct Times(Mutex<TimesOf>);

#[derive(Debug, Default)]
struct TimesOf {
    /// Mailboxes that were let in, and whether they were read since.
    let_in: HashMap<u64, bool>,
    reads: Reads,
}

impl Times {
    fn lets_in(&self, key: u64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.let_in.len() < TIMED_MAX || times.let_in.contains_key(&key) {
            times.let_in.insert(key, false);
        }
    }

    fn note(&self, key: u64, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let TimesOf { let_in, reads } = &mut *times;
        let Some(read) = let_in.get_mut(&key) else { return };
        let later = std::mem::replace(read, true);
        let times = if later { &mut reads.later } else { &mut reads.first };
        if times.len() < TIMES_MAX {
            times.push(micros);
        }
    }

    fn take(&self) -> Reads {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut times.reads)
    }
}

/// The UIDVALIDITY of inboxes that are open, by the key of the mailbox.
#[derive(Debug, Default)]
struct Validities(Mutex<HashMap<u64, u32>>);

impl Validities {
    /// From here on it is this one, or whichever is read first.
    fn set(&self, key: u64, seen: Option<u32>) {
        let mut inboxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Some(seen) => inboxes.insert(key, seen),
            None => inboxes.remove(&key),
        };
    }

    /// The one that was, if it was another.
    fn another(&self, key: u64, seen: u32) -> Option<u32> {
        let mut inboxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *inboxes.entry(key).or_insert(seen);
        (before != seen).then_some(before)
    }
}

/// Why one mailbox was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// IMAP cannot be reached, or the doors have closed: it is read again.
    Later,
    /// The master user has never been let in anywhere: that says nothing of this mailbox.
    NoWayIn,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("imap", &self.imap).finish_non_exhaustive()
    }
}

impl Reading {
    /// Through the master user of `dovecot`, if it has one and IMAP is known.
    pub(crate) fn new(dovecot: &Dovecot, doors: Doors) -> Option<Self> {
        let (imap, master) = (dovecot.imap?, dovecot.master.clone()?);
        let Master { user, password, separator, sample_percent } = master;
        let patience = PATIENCE;
        let reader = Reader { imap, master: user, password, separator, patience };
        let (validities, times) = (Validities::default(), Times::default());
        let (has_been_in, has_warned) = <(AtomicBool, AtomicBool)>::default();
        Some(Self {
            reader,
            imap,
            doors,
            sample_percent,
            has_been_in,
            has_warned,
            validities,
            times,
        })
    }

    /// How long mailboxes took to be read since this was last asked.
    pub(crate) fn take_reads(&self) -> Reads {
        self.times.take()
    }

    /// A mailbox is about to be let in; its inbox has this UIDVALIDITY, as far as it was seen.
    pub(crate) fn lets_in(&self, mailbox: &Mailbox, inbox: Option<u32>) {
        if self.samples(mailbox) {
            self.validities.set(mailbox.key, inbox);
            self.times.lets_in(mailbox.key);
        }
    }

    /// Whether this mailbox is one of those that are read, now.
    pub(crate) fn wants(&self, mailbox: &Mailbox) -> bool {
        let service = self.doors.service_at("imap", Some(self.imap.port()));
        self.samples(mailbox)
            && self.doors.answer(service, &mailbox.address) == Answer::Online
    }

    fn samples(&self, mailbox: &Mailbox) -> bool {
        mailbox.key % 100 < u64::from(self.sample_percent)
    }

    /// What reading came to.
    pub(crate) fn read(
        &self,
        task: ProbeTask,
        mailbox: &Mailbox,
        manifest: &Manifest,
    ) -> Result<Outcome, Unread> {
        let known = Known::of(manifest);
        let mut read = Err(Unread::Later);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            read = self.read_once(task, mailbox, &known);
            if !matches!(read, Ok(Outcome::Unreadable(_))) {
                break;
            }
        }
        read
    }

    fn read_once(
        &self,
        task: ProbeTask,
        mailbox: &Mailbox,
        known: &Known<'_>,
    ) -> Result<Outcome, Unread> {
        let mut altered = None;
        let seed = u64::from(task.ordinal.get());
        let sample = Sample { newest: true, random: RANDOM, seed };
        let began = Instant::now();
        let look = self.reader.look(&mailbox.address, sample, &mut |folder, uid, from| {
            if let Some(entry) = known.message(&folder.name, uid) {
                let seen = Seen::of(from)?;
                if !seen.is(entry) {
                    let folder = &folder.name;
                    altered = Some(format!(
                        "IMAP shows other bytes than were verified in `{folder}`, UID {uid}"
                    ));
                }
            }
            Ok(())
        });
        if let Some(what) = altered {
            return Ok(Outcome::Altered(alarm(task, "altered-over-imap", what)));
        }
        match look {
            Ok(look) => {
                self.has_been_in.store(true, Ordering::Relaxed);
                self.times.note(mailbox.key, began.elapsed());
                let another = |seen| self.validities.another(mailbox.key, seen);
                Ok(judge(task, &look, known, &another))
            }
            Err(error) if matches!(error.cause, ConversationFault::Broken(_)) => {
                Err(Unread::Later)
            }
            Err(_) if !self.wants(mailbox) => Err(Unread::Later),
            Err(error) if self.has_no_way_in(&error) => Err(Unread::NoWayIn),
            Err(error) => {
                let outcome = Outcome::Unreadable(alarm(task, UNREADABLE, chain(&error)));
                Ok(outcome)
            }
        }
    }

    /// Whether it is the master user who is refused, rather than one mailbox.
    fn has_no_way_in(&self, error: &ConversationError) -> bool {
        let refused = matches!(error.cause, ConversationFault::Refused { .. });
        let master = refused && !self.has_been_in.load(Ordering::Relaxed);
        if master && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error = chain(error),
                action = "see `master` in [dovecot] and the probes' login in Dovecot",
                "opened mailboxes are not read over IMAP, only on the disk"
            );
        }
        master
    }
}

/// What a failure is called when IMAP does not show a mailbox.
const UNREADABLE: &str = "unreadable-over-imap";

/// `another`: the UIDVALIDITY that the inbox had before this one, if it was another.
fn judge(
    task: ProbeTask,
    look: &Look,
    known: &Known<'_>,
    another: &dyn Fn(u32) -> Option<u32>,
) -> Outcome {
    let cut = look.messages.iter().find_map(|message| match &message.end {
        MessageEnd::Whole | MessageEnd::Gone => None,
        MessageEnd::CutOff { came_bytes } => {
            Some((message, format!("it ends after {came_bytes} bytes")))
        }
        MessageEnd::Refused { answer } => Some((message, answer.clone())),
    });
    if let Some((message, why)) = cut {
        let (folder, uid) = (&message.folder, message.uid);
        let what = format!("IMAP does not give UID {uid} in `{folder}`: {why}");
        return Outcome::Unreadable(alarm(task, UNREADABLE, what));
    }
    // Nobody can remove the inbox, or make it anew.
    let inbox = look.folders.iter().find(|folder| shown_name(&folder.name).is_empty());
    let used = known.uid_max("");
    match inbox {
        None => {
            let what = "IMAP shows no inbox".to_owned();
            Outcome::Unreadable(alarm(task, UNREADABLE, what))
        }
        Some(inbox) if inbox.counts.uid_next <= used => {
            let next = inbox.counts.uid_next;
            let what =
                format!("the inbox would give out UID {next}, UID {used} was taken");
            Outcome::Altered(alarm(task, "next-uid-too-low", what))
        }
        Some(inbox) => {
            let seen = inbox.counts.uid_validity;
            let Some(before) = another(seen) else { return Outcome::Read };
            let what = format!("the inbox has UIDVALIDITY {seen}, it had {before}");
            Outcome::Altered(alarm(task, UID_VALIDITY_DIFFERS, what))
        }
    }
}

/// What was verified, by folder and UID.
struct Known<'a>(BTreeMap<String, BTreeMap<u32, &'a ManifestEntry>>);

impl<'a> Known<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        let mut folders: BTreeMap<String, BTreeMap<u32, &ManifestEntry>> =
            BTreeMap::new();
        let mut names: BTreeMap<&[u8], String> = BTreeMap::new();
        for entry in &manifest.entries {
            let Some(uid) = entry.uid else { continue };
            let name =
                names.entry(&entry.folder).or_insert_with(|| stored_name(&entry.folder));
            folders.entry(name.clone()).or_default().insert(uid, entry);
        }
        Self(folders)
    }

    fn message(&self, folder: &str, uid: u32) -> Option<&'a ManifestEntry> {
        // The reader shows names as they are on the wire, in modified UTF-7.
        self.0.get(&stored_name(folder.as_bytes()))?.get(&uid).copied()
    }

    fn uid_max(&self, folder: &str) -> u32 {
        let uids = self.0.get(folder).and_then(|uids| uids.keys().next_back());
        uids.copied().unwrap_or(0)
    }
}

/// A message as it came, with lines that end in LF.
struct Seen {
    with_lf: Fingerprint,
    with_crlf: Fingerprint,
    lf_bytes: u64,
    lines: u64,
}

impl Seen {
    fn of(from: &mut dyn io::Read) -> io::Result<Self> {
        let (mut with_lf, mut with_crlf) = <(Fingerprinter, Fingerprinter)>::default();
        let (mut lf_bytes, mut lines) = (0, 0);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            with_lf.update(bytes);
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                match line.strip_suffix(b"\n") {
                    Some(text) => {
                        with_crlf.update(text);
                        with_crlf.update(b"\r\n");
                        lines += 1;
                    }
                    None => with_crlf.update(line),
                }
            }
            lf_bytes += count as u64;
        }
        let (with_lf, with_crlf) = (with_lf.finish(), with_crlf.finish());
        Ok(Self { with_lf, with_crlf, lf_bytes, lines })
    }

    /// Whether it is what was verified, as far as that can be told.
    fn is(&self, verified: &ManifestEntry) -> bool {
        let (stored, wire) = (verified.size_bytes, self.lf_bytes + self.lines);
        if !matches!(verified.fingerprint, Fingerprint::Xxh3(_)) {
            // Made by another program, of the stored bytes.
            return (self.lf_bytes..=wire).contains(&stored);
        }
        if [self.with_lf, self.with_crlf].contains(&verified.fingerprint) {
            return true;
        }
        // Stored with both kinds of lines: longer than with the one, shorter than with the other.
        self.lf_bytes < stored && stored < wire
    }
}

fn chain(error: &ConversationError) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_itself_however_its_lines_end() {
        let lf = b"Subject: x\n\none\ntwo\n";
        let crlf = b"Subject: x\r\n\r\none\r\ntwo\r\n";
        let mixed = b"Subject: x\r\n\none\ntwo\r\n";

        for stored in [&lf[..], crlf, mixed] {
            assert!(seen(lf).is(&entry(stored)));
        }
    }

    #[test]
    fn other_bytes_are_another_message_even_of_the_same_length() {
        let other = b"Subject: x\n\none\ntwa\n";
        let short = b"Subject: x\n\none\n";
        let long = b"Subject: x\n\none\ntwo\nthree and four and five\n";

        for stored in [&other[..], short, long] {
            assert!(!seen(b"Subject: x\n\none\ntwo\n").is(&entry(stored)));
        }
    }

    #[test]
    fn an_inbox_keeps_its_uidvalidity_until_it_is_let_in_again() {
        let inboxes = Validities::default();

        inboxes.set(1, Some(70));
        assert_eq!([inboxes.another(1, 70), inboxes.another(1, 71)], [None, Some(70)]);
        assert_eq!(inboxes.another(1, 71), Some(70), "it stays wrong");
        assert_eq!([inboxes.another(2, 5), inboxes.another(2, 6)], [None, Some(5)]);

        inboxes.set(1, None);
        assert_eq!([inboxes.another(1, 71), inboxes.another(1, 70)], [None, Some(71)]);
    }

    fn seen(text: &[u8]) -> Seen {
        Seen::of(&mut &text[..]).unwrap()
    }

    fn entry(stored: &[u8]) -> ManifestEntry {
        let mut fingerprint = Fingerprinter::default();
        fingerprint.update(stored);
        ManifestEntry {
            folder: Vec::new(),
            name: b"1.a".to_vec(),
            uid: Some(1),
            size_bytes: stored.len() as u64,
            fingerprint: fingerprint.finish(),
        }
    }
}
