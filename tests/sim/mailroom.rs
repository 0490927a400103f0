//! Mailroom: a node's mail as it truly is, and the store through which workers touch it.
//!
//! It is a model of the mail store, not the store itself: it keeps the store's contract (claims
//! compared where the mail lies, results durable before they are told, stamps that change with
//! content) and remembers every touch for the oracle.
//!
//! # Invariants
//!
//! * Every message has a number of its own and one owner, and is never forgotten: it is live,
//!   beside, kept aside or listed.
//! * A stamp is never used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Look, Outcome, ProbeTask, Settled, Stamp, Switched};
use tidegate_core::mailbox::Level;
use tidegate_core::rollout::{Finding, FindingKind, MessageTotals, Origin};
use tidegate_core::share::Ppm;
use tidegate_core::time::{TimeSource as _, Timestamp};
use tidegate_mail::Mailbox;
use tidegate_worker::driven::{
    Dialling, LetIn, MailStore, Switching, Telling, Told, Under,
};

use crate::chance::Chance;
use crate::disk::Dial;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) id: u32,
    pub(crate) owner: u32,
    pub(crate) sound: bool,
}

/// One mailbox as it truly is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Box_ {
    pub(crate) owner: u32,
    pub(crate) address: String,
    pub(crate) live: Vec<Letter>,
    pub(crate) snapshot: Vec<Letter>,
    /// What was there, by number, and is kept.
    pub(crate) aside: BTreeSet<u32>,
    /// What is told to be lost or set aside.
    pub(crate) listed: BTreeSet<u32>,
    /// What must be served once it was restored.
    pub(crate) due: BTreeSet<u32>,
    /// The history of a mailbox that has a dial tone.
    pub(crate) beside: Option<Vec<Letter>>,
    pub(crate) stamp: u64,
    /// What went bad where it lies.
    pub(crate) rotten: BTreeSet<u32>,
    /// Cannot be read by its user.
    pub(crate) sick: bool,
    /// Cannot be restored.
    pub(crate) dead: bool,
    /// When somebody else changed it last.
    pub(crate) changed_at: u64,
    /// The last look at it: when, what stamp, by which generation.
    pub(crate) looked: Option<(u64, u64, u64)>,
    /// How far the mail system was told to let its owner in.
    pub(crate) let_in: (u8, u64),
    /// Everything that was ever live.
    pub(crate) ever: BTreeSet<u32>,
    /// Deliveries that were let in and are under way.
    pub(crate) arriving: u32,
    /// When all of it was moved last.
    pub(crate) moved_at: u64,
    /// The highest generation that touched it.
    pub(crate) touched: u64,
}

/// What happens at a store that the oracle wants to know.
#[derive(Clone, Debug)]
pub(crate) enum Touch {
    /// A job was claimed.
    Claimed { job: u32, generation: u64 },
    /// A holder was refused.
    Fenced { job: u32, generation: u64, claimed: u64 },
    /// A mailbox was changed by a worker.
    Changed { key: u64, job: u32, what: &'static str },
    /// The mail system was told to let somebody in.
    LetIn { key: u64, generation: u64, level: u8 },
}

/// A node's mail.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) boxes: BTreeMap<u64, Box_>,
    pub(crate) claims: BTreeMap<u32, (u64, String)>,
    pub(crate) now: u64,
    pub(crate) touches: Vec<Touch>,
    pub(crate) hears: bool,
    stamps: u64,
    /// There is no room left.
    pub(crate) full: bool,
    /// So many reads fail.
    pub(crate) unreadable: u32,
    /// The power goes after so many more messages were looked at by whoever restores.
    pub(crate) cut: Option<u64>,
    /// It has gone.
    pub(crate) is_cut: bool,
    /// Tasks that fail, and how.
    pub(crate) errors: u32,
    pub(crate) busy: u32,
    /// The mail system shuts out nobody.
    pub(crate) deaf: bool,
    /// The mail system answers oddly so often.
    pub(crate) odd: u32,
    pub(crate) met: Vec<&'static str>,
    pub(crate) chance: Option<Chance>,
}

impl Room {
    pub(crate) fn next_stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// Somebody who is no worker changes a mailbox.
    pub(crate) fn change(&mut self, key: u64, change: impl FnOnce(&mut Box_)) {
        let (stamp, now) = (self.next_stamp(), self.now);
        if let Some(mailbox) = self.boxes.get_mut(&key) {
            change(mailbox);
            (mailbox.stamp, mailbox.changed_at) = (stamp, now);
        }
    }

    /// Whether exactly this claim stands.
    fn holds(&mut self, under: Under, holder: &str) -> bool {
        let (job, generation) = (under.job.get(), under.generation.get());
        let held = self.claims.get(&job);
        if held.is_some_and(|(g, by)| *g == generation && by == holder) {
            return true;
        }
        let claimed = held.map_or(0, |(g, _)| *g);
        self.touches.push(Touch::Fenced { job, generation, claimed });
        false
    }

    fn fails(&mut self) -> anyhow::Result<()> {
        if self.errors > 0 {
            self.errors -= 1;
            self.met.push("store error");
            anyhow::bail!("input/output error");
        }
        Ok(())
    }

    /// Whether what is read next cannot be read.
    fn cannot_read(&mut self) -> bool {
        let fails = self.unreadable > 0;
        self.unreadable = self.unreadable.saturating_sub(1);
        if fails {
            self.met.push("read error");
        }
        fails
    }

    /// Whether there is no room to write.
    fn has_no_room(&mut self) -> bool {
        if self.full {
            self.met.push("store full");
        }
        self.full
    }

    fn restore(&mut self, key: u64, under: Under) -> (Option<Stamp>, MessageTotals) {
        let (job, generation) = (under.job.get(), under.generation.get());
        let stamp = self.next_stamp();
        let mut power = self.cut;
        let Some(mailbox) = self.boxes.get_mut(&key) else {
            return (None, MessageTotals::default());
        };
        if mailbox.dead {
            return (None, MessageTotals::default());
        }
        let mut totals = MessageTotals::default();
        let place = mailbox.beside.as_mut().unwrap_or(&mut mailbox.live);
        let mut changed = false;
        let mut good: Vec<Letter> = Vec::new();
        for letter in place.drain(..) {
            power = power.map(|left| left.saturating_sub(1));
            if letter.sound || power == Some(0) {
                totals.intact += 1;
                good.push(letter);
                continue;
            }
            changed = true;
            mailbox.rotten.remove(&letter.id);
            mailbox.aside.insert(letter.id);
            match mailbox.snapshot.iter().find(|it| it.id == letter.id && it.sound) {
                Some(copy) => {
                    totals.repaired += 1;
                    good.push(*copy);
                }
                None => {
                    totals.set_aside += 1;
                    mailbox.listed.insert(letter.id);
                }
            }
        }
        mailbox.ever.extend(good.iter().map(|letter| letter.id));
        let rest = if power == Some(0) { &[][..] } else { &mailbox.snapshot[..] };
        for copy in rest {
            let here = good.iter().any(|it| it.id == copy.id);
            if !here && copy.sound {
                (totals.returned, changed) = (totals.returned + 1, true);
                good.push(*copy);
            } else if !here {
                mailbox.listed.insert(copy.id);
            }
        }
        *place = good;
        if changed {
            mailbox.stamp = stamp;
            let what = "restored";
            self.touches.push(Touch::Changed { key, job, what });
        }
        mailbox.touched = mailbox.touched.max(generation);
        (self.cut, self.is_cut) = (power, power == Some(0));
        (Some(wide(mailbox.stamp)), totals)
    }
}

/// A room that everybody who works in it shares.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedRoom(Arc<Mutex<Room>>);

impl SharedRoom {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store as one run of a worker opens it.
    pub(crate) fn open(&self, holder: String, time: Arc<Dial>) -> Arc<dyn MailStore> {
        let began = time.wall() - time.since_boot();
        Arc::new(Hand { room: self.clone(), holder, time, began })
    }
}

/// One run of a worker at the store.
#[derive(Debug)]
struct Hand {
    room: SharedRoom,
    holder: String,
    time: Arc<Dial>,
    /// When its machine began, by the clock that the run goes by.
    began: Timestamp,
}

impl MailStore for Hand {
    fn claimed(&self) -> anyhow::Result<BTreeMap<JobNumber, Generation>> {
        let room = self.room.lock();
        let claims = room.claims.iter();
        let claims = claims.map(|(job, (generation, _))| {
            (JobNumber::new(*job), Generation::new(*generation))
        });
        Ok(claims.collect())
    }

    fn claim(&self, under: Under) -> anyhow::Result<bool> {
        let mut room = self.room.lock();
        room.fails()?;
        anyhow::ensure!(!room.has_no_room(), "no space left on device");
        let (job, generation) = (under.job.get(), under.generation.get());
        if let Some((held, by)) = room.claims.get(&job).cloned() {
            if held == generation && by == self.holder {
                return Ok(true);
            }
            if held >= generation {
                if by == self.holder {
                    return Ok(false);
                }
                room.touches.push(Touch::Fenced { job, generation, claimed: held });
                anyhow::bail!("{} is claimed at {held} by `{by}`", under.job);
            }
        }
        room.claims.insert(job, (generation, self.holder.clone()));
        room.touches.push(Touch::Claimed { job, generation });
        Ok(true)
    }

    fn prepare(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>> {
        let mut room = self.room.lock();
        if !room.holds(under, &self.holder) {
            // Whoever has claimed it since does it himself.
            return Ok(Vec::new());
        }
        if room.has_no_room() {
            return Ok(Vec::new());
        }
        room.fails()?;
        let mut results = Vec::new();
        for (ordinal, mailbox) in mailboxes {
            if room.busy > 0 {
                room.busy -= 1;
                room.met.push("store busy");
                continue;
            }
            if room.cannot_read() {
                continue;
            }
            let (stamp, totals) = room.restore(mailbox.key, under);
            anyhow::ensure!(!room.is_cut, "the power has gone");
            let findings = match stamp {
                Some(_) => Vec::new(),
                None => vec![finding(ordinal, FindingKind::Quarantined, "beyond-help")],
            };
            results.push(Settled { ordinal, stamp, totals, findings });
        }
        Ok(results)
    }

    fn dial(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Dialling)>> {
        let mut room = self.room.lock();
        if !room.holds(under, &self.holder) {
            // Whoever has claimed it since does it himself.
            return Ok(Vec::new());
        }
        if room.has_no_room() {
            return Ok(Vec::new());
        }
        room.fails()?;
        let (job, generation) = (under.job.get(), under.generation.get());
        let now = room.now;
        for (_, mailbox) in mailboxes {
            let (stamp, key) = (room.next_stamp(), mailbox.key);
            let Some(it) = room.boxes.get_mut(&key) else { continue };
            if it.beside.is_none() {
                it.beside = Some(std::mem::take(&mut it.live));
                (it.stamp, it.moved_at) = (stamp, now);
                it.touched = it.touched.max(generation);
                let what = "dialled";
                room.touches.push(Touch::Changed { key, job, what });
            }
        }
        Ok(mailboxes.iter().map(|(it, _)| (*it, Dialling::Done)).collect())
    }

    fn switch(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox, Stamp)>,
    ) -> anyhow::Result<Vec<(Ordinal, Switching)>> {
        let mut room = self.room.lock();
        if !room.holds(under, &self.holder) {
            // Whoever has claimed it since does it himself.
            return Ok(Vec::new());
        }
        if room.has_no_room() {
            return Ok(Vec::new());
        }
        room.fails()?;
        let (job, generation) = (under.job.get(), under.generation.get());
        let (mut told, moved_at) = (Vec::new(), room.now);
        for (ordinal, mailbox, verified) in mailboxes {
            let (stamp, key) = (room.next_stamp(), mailbox.key);
            let Some(it) = room.boxes.get_mut(&key) else { continue };
            let (mut now, mut imported) = (verified, 0);
            if let Some(history) = it.beside.take() {
                if wide(it.stamp) != verified {
                    it.beside = Some(history);
                    told.push((ordinal, Switching::Changed));
                    continue;
                }
                imported = it.live.len() as u64;
                it.live.splice(0..0, history);
                (it.stamp, it.moved_at) = (stamp, moved_at);
                it.touched = it.touched.max(generation);
                now = wide(stamp);
                let what = "switched";
                room.touches.push(Touch::Changed { key, job, what });
            }
            let findings = Vec::new();
            let done = Switched { ordinal, stamp: now, imported, findings };
            told.push((ordinal, Switching::Done(done)));
        }
        Ok(told)
    }

    fn look(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> Vec<(Ordinal, Look)> {
        let mut room = self.room.lock();
        if !room.holds(under, &self.holder) {
            return Vec::new();
        }
        let now = room.now;
        let look = |(ordinal, mailbox): &(Ordinal, Mailbox)| {
            if room.cannot_read() {
                return Some((*ordinal, Look::Impossible));
            }
            let it = room.boxes.get_mut(&mailbox.key)?;
            it.looked = Some((now, it.stamp, under.generation.get()));
            let stamp = wide(it.stamp);
            let look = match it.beside {
                Some(_) => Look::Beside(stamp),
                None => Look::Stamp(stamp),
            };
            Some((*ordinal, look))
        };
        mailboxes.iter().filter_map(look).collect()
    }

    fn probe(
        &self,
        tasks: &[(ProbeTask, Mailbox)],
    ) -> Vec<(ProbeTask, Outcome, Option<Duration>)> {
        let mut room = self.room.lock();
        let probe = |(task, mailbox): &(ProbeTask, Mailbox)| {
            let unreadable = room.cannot_read();
            let it = room.boxes.get(&mailbox.key)?;
            let told = |code| finding(task.ordinal, FindingKind::Probe, code);
            let outcome = if it.live.iter().any(|letter| !letter.sound) {
                Outcome::Altered(told("altered"))
            } else if it.sick || unreadable {
                Outcome::Unreadable(told("unreadable"))
            } else {
                Outcome::Read
            };
            Some((*task, outcome, Some(Duration::from_millis(3))))
        };
        tasks.iter().filter_map(probe).collect()
    }

    fn free_share(&self) -> Option<Ppm> {
        Some(Ppm::new(500_000))
    }

    fn hears(&self) -> bool {
        self.room.lock().hears
    }

    fn tell(
        &self,
        telling: &Telling,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Told)>> {
        let mut room = self.room.lock();
        if !room.hears {
            return Ok(mailboxes.iter().map(|(it, _)| (*it, Told::Done)).collect());
        }
        let letting_in = telling.level > Level::HELD && !telling.recorded;
        if telling.level > Level::HELD
            && self.began + self.time.since_boot() >= telling.until
        {
            // Nothing is begun that must have ended.
            return Ok(mailboxes.iter().map(|(it, _)| (*it, Told::Unknown)).collect());
        }
        if letting_in && !room.holds(telling.under, &self.holder) {
            return Ok(mailboxes.iter().map(|(it, _)| (*it, Told::NotYet)).collect());
        }
        let mut told = Vec::new();
        for (ordinal, mailbox) in mailboxes {
            let arriving = room.boxes.get(&mailbox.key).map_or(0, |it| it.arriving);
            let inside = telling.level == Level::HELD && (arriving > 0 || room.deaf);
            if inside && room.deaf {
                room.met.push("deaf mail system");
            }
            let answer = if inside { Told::NotYet } else { room.odd_answer() };
            let done = answer == Told::Done || answer == Told::Unknown;
            if done {
                room.stand(telling, mailbox.key);
            }
            told.push((*ordinal, answer));
        }
        Ok(told)
    }

    fn maybe_open(&self) -> Vec<LetIn> {
        let room = self.room.lock();
        if !room.hears {
            return Vec::new();
        }
        let open = room.boxes.iter().filter(|(_, it)| it.let_in.0 > 0);
        let open = open.map(|(key, it)| LetIn {
            under: Under {
                job: JobNumber::new(0),
                generation: Generation::new(it.let_in.1),
            },
            level: Level::new(it.let_in.0).unwrap_or(Level::MAX),
            mailbox: Mailbox {
                key: *key,
                address: it.address.clone(),
                path: Vec::new(),
                served: true,
            },
        });
        open.collect()
    }
}

impl Room {
    fn odd_answer(&mut self) -> Told {
        if self.odd == 0 {
            return Told::Done;
        }
        self.odd -= 1;
        self.met.push("odd answer of the mail system");
        let chance = self.chance.get_or_insert_with(|| Chance::of(1, 1));
        match chance.below(3) {
            0 => Told::NotYet,
            1 => Told::Unknown,
            _ => Told::Done,
        }
    }

    fn stand(&mut self, telling: &Telling, key: u64) {
        let (generation, level) = (telling.under.generation.get(), telling.level.get());
        let Some(it) = self.boxes.get_mut(&key) else { return };
        let higher = level > it.let_in.0;
        it.let_in = (level, generation);
        if higher {
            self.touches.push(Touch::LetIn { key, generation, level });
        }
    }
}

/// A stamp as workers know it.
pub(crate) fn wide(stamp: u64) -> Stamp {
    let mut wide = [0; 16];
    let (_, low) = wide.split_at_mut(8);
    low.copy_from_slice(&stamp.to_be_bytes());
    wide
}

fn finding(ordinal: Ordinal, kind: FindingKind, code: &str) -> Finding {
    Finding {
        ordinal,
        kind,
        folder: String::new(),
        uid: None,
        name: String::new(),
        code: code.to_owned(),
        reason: "simulated".to_owned(),
        size_bytes: 0,
        kept_at: String::new(),
        origin: Origin::default(),
    }
}
