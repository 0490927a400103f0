//! Command: a mail store of any kind, reached through a program that its owner wrote.
//!
//! `deploy/README.md`, "Any other mail system", is the contract.
//!
//! # Invariants
//!
//! * What the program does not say is not believed: a mailbox without an answer is tried
//!   again, and so is every mailbox of a call that ended in any way but a good one.
//! * Only `verify` makes a mailbox verified, also after a repair, and only with a stamp.
//! * What changes mail or lets people in runs only under a claim, and is ended before a
//!   higher claim stands.
//! * Nobody is let in who is not on the roll, on disk.

mod complaint;
mod contract;
mod fence;
mod roll;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Look, Outcome, ProbeTask, Settled};
use tidegate_core::mailbox::Level;
use tidegate_core::rollout::{Finding, FindingKind, Grade, Grades, MessageTotals};
use tidegate_core::share::Ppm;
use tidegate_mail::Mailbox;

use crate::findings::alarm;
use crate::node::UNREADABLE;
use crate::store::{LetIn, MailStore, Telling, Told, Under, quarantined};
use complaint::{Complaints, Trouble};
use contract::{Answer, Ask, Capabilities, Stats, Status, Verb};
use fence::{Fence, Permit};
use roll::Roll;
use run::{Call, CallError, Program, Said};
use tidegate_clock::Clock;

/// How long a program may take to say what it can do.
const CAPABILITIES_LIMIT: Duration = Duration::from_secs(10);

/// How long the calls of a killed worker are waited for at the start.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What works without these would not be Tidegate: nobody is let in unverified, unlooked
/// at, or unwatched.
const NEEDED: [Verb; 3] = [Verb::Verify, Verb::Look, Verb::Probe];

/// Exit codes, as in `sysexits.h`.
const EX_DATAERR: i32 = 65;
const EX_UNAVAILABLE: i32 = 69;
const EX_TEMPFAIL: i32 = 75;

/// The whole, in parts per million.
const PPM: u32 = 1_000_000;

/// A mail system behind a program.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program, and its arguments before the verb.
    pub program: PathBuf,
    /// Its arguments before the verb.
    pub arguments: Vec<String>,
    /// All of its environment but `PATH`, `LANG` and `TIDEGATE_NODE`.
    pub environment: BTreeMap<String, String>,
    /// The most mailboxes of one call.
    pub batch: usize,
    /// How long one call may take.
    pub limits: Limits,
}

/// How long one call may take, by verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `verify`.
    pub verify: Duration,
    /// `repair`.
    pub repair: Duration,
    /// `look`.
    pub look: Duration,
    /// `open`.
    pub open: Duration,
    /// `close`.
    pub close: Duration,
    /// `probe`.
    pub probe: Duration,
    /// `stats`.
    pub stats: Duration,
}

/// The store of a [`Command`].
#[derive(Debug)]
pub(crate) struct CommandStore {
    program: Program,
    batch: usize,
    limits: Limits,
    verbs: BTreeSet<Verb>,
    clock: Clock,
    fence: Fence,
    roll: Mutex<Roll>,
    complaints: Complaints,
}

/// A mailbox with its place, and under which claim it is asked about.
type Asked<'a> = (Under, &'a Mailbox);

impl CommandStore {
    /// Locks `work`, asks the program what it can do, and reads who may be open.
    pub(crate) fn open(
        command: Command,
        work: &std::path::Path,
        node: &str,
        holder: String,
    ) -> anyhow::Result<Self> {
        let mut environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        environment.extend(command.environment);
        environment.insert("TIDEGATE_NODE".to_owned(), node.to_owned());
        let Command { program: file, arguments, .. } = command;
        let fence = Fence::open(work, holder, LOCK_PATIENCE)?;
        let roll = Roll::open(work).context("read who may be open")?;
        let mut store = Self {
            program: Program { file, arguments, environment },
            batch: command.batch.max(1),
            limits: command.limits,
            verbs: BTreeSet::new(),
            clock: Clock::start(),
            fence,
            roll: Mutex::new(roll),
            complaints: Complaints::default(),
        };
        let told = store.capabilities().with_context(|| {
            format!("ask `{}` what it can do", store.program.file.display())
        })?;
        store.verbs = told.verbs;
        tracing::info!(name = told.name, verbs = ?store.verbs, "the mail system's program answers");
        Ok(store)
    }

    fn capabilities(&self) -> anyhow::Result<Capabilities> {
        let permit = self.fence.enter_freely().ok_or(Trouble::Stopping)?;
        let said = self.call(Verb::Capabilities, b"", CAPABILITIES_LIMIT, &permit)?;
        anyhow::ensure!(
            said.status.success(),
            "`capabilities` ended with {}",
            said.status
        );
        let told: Capabilities = contract::single(&said.output)?;
        anyhow::ensure!(
            told.protocol == contract::PROTOCOL,
            "it speaks protocol {}, this worker {}",
            told.protocol,
            contract::PROTOCOL
        );
        for needed in NEEDED {
            anyhow::ensure!(
                told.verbs.contains(&needed),
                "it has no `{}`; without it no mailbox may be let in",
                needed.name()
            );
        }
        anyhow::ensure!(
            told.verbs.contains(&Verb::Open) == told.verbs.contains(&Verb::Close),
            "it has only one of `open` and `close`; who can let in must be able to shut out"
        );
        Ok(told)
    }

    /// One call, its complaints logged.
    fn call(
        &self,
        verb: Verb,
        input: &[u8],
        limit: Duration,
        permit: &Permit<'_>,
    ) -> Result<Said, CallError> {
        let call = Call { verb: verb.name(), input, limit, stop: permit.stop() };
        self.program.call(call)
    }

    /// Asks about mailboxes; their answers by key. Nothing if the call is not to be
    /// believed; that is told here.
    fn ask(
        &self,
        verb: Verb,
        asked: &[Asked<'_>],
        telling: Option<&Telling>,
        permit: &Permit<'_>,
    ) -> (BTreeMap<u64, Answer>, Duration) {
        let started = Instant::now();
        match self.try_ask(verb, asked, telling, permit) {
            Ok(answers) => {
                self.complaints.forget(verb);
                (answers, started.elapsed())
            }
            Err(trouble) => {
                self.complaints.trouble(verb, asked.len(), &trouble);
                (BTreeMap::new(), started.elapsed())
            }
        }
    }

    fn try_ask(
        &self,
        verb: Verb,
        asked: &[Asked<'_>],
        telling: Option<&Telling>,
        permit: &Permit<'_>,
    ) -> Result<BTreeMap<u64, Answer>, Trouble> {
        let keys: BTreeSet<u64> = asked.iter().map(|(_, mailbox)| mailbox.key).collect();
        let limit = self.limit(verb, telling);
        if limit.is_zero() {
            return Err(Trouble::LeaseOver);
        }
        let said = self.call(verb, &questions(asked, telling), limit, permit)?;
        self.complaints.said(verb, &said, asked);
        match said.status.code() {
            Some(0) => Ok(contract::answers(verb, &said.output, &keys)?),
            Some(EX_DATAERR) => {
                let mut answers = contract::answers(verb, &said.output, &keys)?;
                for key in keys {
                    answers.entry(key).or_insert_with(Answer::damaged);
                }
                Ok(answers)
            }
            Some(EX_UNAVAILABLE) => Err(Trouble::Unavailable),
            Some(EX_TEMPFAIL) => Err(Trouble::Later),
            Some(_) | None => Err(Trouble::Ended(said.status.to_string())),
        }
    }

    fn limit(&self, verb: Verb, telling: Option<&Telling>) -> Duration {
        let limits = &self.limits;
        match verb {
            Verb::Capabilities => CAPABILITIES_LIMIT,
            Verb::Verify => limits.verify,
            Verb::Repair => limits.repair,
            Verb::Look => limits.look,
            Verb::Close => limits.close,
            Verb::Probe => limits.probe,
            Verb::Stats => limits.stats,
            // A letting in must have ended when the lease has.
            Verb::Open => telling.map_or(limits.open, |telling| {
                let left = telling.until.since(self.clock.now()).millis();
                limits.open.min(Duration::from_millis(left))
            }),
        }
    }

    fn roll(&self) -> std::sync::MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Verifies a batch, repairs what is damaged and verifies that again.
    fn prepare_batch(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
        permit: &Permit<'_>,
    ) -> Vec<Settled> {
        let all: Vec<Asked<'_>> = mailboxes.iter().map(|(_, it)| (under, it)).collect();
        let verified = self.ask(Verb::Verify, &all, None, permit).0;
        let damaged = |(_, it): &&Asked<'_>| {
            verified.get(&it.key).is_some_and(|answer| answer.status == Status::Damaged)
        };
        let damaged: Vec<Asked<'_>> = all.iter().filter(damaged).copied().collect();
        let (mut repaired, mut again) = (BTreeMap::new(), BTreeMap::new());
        if !damaged.is_empty() && self.has(Verb::Repair) {
            repaired = self.ask(Verb::Repair, &damaged, None, permit).0;
            let done = |(_, it): &&Asked<'_>| {
                repaired.get(&it.key).is_some_and(|answer| answer.status == Status::Done)
            };
            let done: Vec<Asked<'_>> = damaged.iter().filter(done).copied().collect();
            if !done.is_empty() {
                again = self.ask(Verb::Verify, &done, None, permit).0;
            }
        }
        let settled = mailboxes.iter().filter_map(|(ordinal, mailbox)| {
            let first = verified.get(&mailbox.key)?;
            if first.status != Status::Damaged || !self.has(Verb::Repair) {
                return settled(*ordinal, first, None);
            }
            let repair = repaired.get(&mailbox.key)?;
            if repair.status != Status::Done {
                return settled(*ordinal, repair, None);
            }
            settled(*ordinal, again.get(&mailbox.key)?, Some(repair))
        });
        settled.collect()
    }

    /// Lets in or shuts out one batch.
    fn tell_batch(
        &self,
        telling: &Telling,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<BTreeMap<u64, Answer>> {
        let asked: Vec<Asked<'_>> =
            mailboxes.iter().map(|(_, it)| (telling.under, it)).collect();
        if telling.level == Level::HELD {
            let Some(permit) = self.fence.enter_freely() else {
                return Ok(BTreeMap::new());
            };
            let (answers, _) = self.ask(Verb::Close, &asked, Some(telling), &permit);
            let closed =
                answers.iter().filter(|(_, answer)| answer.status == Status::Done);
            let closed: Vec<u64> = closed.map(|(key, _)| *key).collect();
            self.roll().closed(&closed).context("note who was shut out")?;
            return Ok(answers);
        }
        let Some(permit) = self.fence.enter(telling.under) else {
            return Ok(BTreeMap::new());
        };
        let all: Vec<&Mailbox> = mailboxes.iter().map(|(_, it)| it).collect();
        let (under, level) = (telling.under, telling.level);
        self.roll().may_open(under, level, &all).context("note who is let in")?;
        let (answers, _) = self.ask(Verb::Open, &asked, Some(telling), &permit);
        if telling.recorded {
            let done = |it: &&&Mailbox| {
                answers.get(&it.key).is_some_and(|answer| answer.status == Status::Done)
            };
            let even: Vec<&Mailbox> = all.iter().filter(done).copied().collect();
            self.roll().stands(under, level, &even).context("note where they stand")?;
        }
        Ok(answers)
    }
}

impl MailStore for CommandStore {
    fn claim(&self, under: Under) -> anyhow::Result<bool> {
        self.fence.claim(under)
    }

    fn claimed(&self) -> anyhow::Result<BTreeMap<JobNumber, Generation>> {
        self.fence.claimed()
    }

    fn prepare(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>> {
        let mut results = Vec::new();
        for some in mailboxes.chunks(self.batch) {
            // Without a claim, or at the end of the program, nothing is settled.
            let Some(permit) = self.fence.enter(under) else { break };
            results.extend(self.prepare_batch(under, some, &permit));
        }
        Ok(results)
    }

    fn look(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> Vec<(Ordinal, Look)> {
        let mut looks = Vec::new();
        for some in mailboxes.chunks(self.batch) {
            let Some(permit) = self.fence.enter_freely() else { break };
            let asked: Vec<Asked<'_>> = some.iter().map(|(_, it)| (under, it)).collect();
            let (answers, _) = self.ask(Verb::Look, &asked, None, &permit);
            looks.extend(some.iter().filter_map(|(ordinal, mailbox)| {
                let answer = answers.get(&mailbox.key)?;
                let look = match (answer.status, answer.stamp) {
                    (Status::Done, Some(stamp)) => Look::Stamp(stamp),
                    (Status::Damaged, _) => Look::Impossible,
                    (Status::Done | Status::Again | Status::Unreadable, _) => {
                        return None;
                    }
                };
                Some((*ordinal, look))
            }));
        }
        looks
    }

    fn probe(
        &self,
        tasks: &[(ProbeTask, Mailbox)],
    ) -> Vec<(ProbeTask, Outcome, Option<Duration>)> {
        let mut probed = Vec::new();
        for some in tasks.chunks(self.batch) {
            let Some(permit) = self.fence.enter_freely() else { break };
            let under =
                |task: &ProbeTask| Under { job: task.job, generation: task.generation };
            let asked: Vec<Asked<'_>> =
                some.iter().map(|(task, it)| (under(task), it)).collect();
            let (answers, took) = self.ask(Verb::Probe, &asked, None, &permit);
            // Of a program that does not measure: each had its share of the time.
            let share = took / u32::try_from(some.len()).unwrap_or(u32::MAX).max(1);
            probed.extend(some.iter().filter_map(|(task, mailbox)| {
                let answer = answers.get(&mailbox.key)?;
                let took = answer.millis.map_or(share, Duration::from_millis);
                let outcome = probe_outcome(*task, answer)?;
                let took = (outcome == Outcome::Read).then_some(took);
                Some((*task, outcome, took))
            }));
        }
        probed
    }

    fn free_share(&self) -> Option<Ppm> {
        if !self.has(Verb::Stats) {
            return None;
        }
        let permit = self.fence.enter_freely()?;
        let asked = || -> Result<Stats, Trouble> {
            let said = self.call(Verb::Stats, b"", self.limits.stats, &permit)?;
            self.complaints.said(Verb::Stats, &said, &[]);
            match said.status.code() {
                Some(0) => Ok(contract::single(&said.output)?),
                Some(EX_UNAVAILABLE) => Err(Trouble::Unavailable),
                Some(EX_TEMPFAIL) => Err(Trouble::Later),
                Some(_) | None => Err(Trouble::Ended(said.status.to_string())),
            }
        };
        let stats = asked().map_err(|it| self.complaints.trouble(Verb::Stats, 0, &it));
        stats.ok().map(|stats| Ppm::new(stats.disk_free_ppm.min(PPM)))
    }

    fn hears(&self) -> bool {
        self.has(Verb::Open)
    }

    fn tell(
        &self,
        telling: &Telling,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Told)>> {
        let mut told = Vec::new();
        for some in mailboxes.chunks(self.batch) {
            let answers = self.tell_batch(telling, some)?;
            told.extend(some.iter().map(|(ordinal, mailbox)| {
                let told = match answers.get(&mailbox.key) {
                    Some(answer) => told_by(answer),
                    None => Told::Unknown,
                };
                (*ordinal, told)
            }));
        }
        Ok(told)
    }

    fn maybe_open(&self) -> Vec<LetIn> {
        self.roll().all()
    }

    fn stop(&self) {
        self.fence.stop();
    }
}

fn told_by(answer: &Answer) -> Told {
    match answer.status {
        Status::Done => Told::Done,
        Status::Damaged => {
            let (code, reason) = answer.why("not-let-in");
            Told::Refused { code, reason }
        }
        Status::Again | Status::Unreadable => Told::Unknown,
    }
}

fn probe_outcome(task: ProbeTask, answer: &Answer) -> Option<Outcome> {
    match answer.status {
        Status::Done => Some(Outcome::Read),
        Status::Unreadable => {
            let (_, reason) = answer.why(UNREADABLE);
            Some(Outcome::Unreadable(alarm(task, UNREADABLE, reason)))
        }
        Status::Damaged => {
            let (code, reason) = answer.why("altered");
            Some(Outcome::Altered(alarm(task, &code, reason)))
        }
        Status::Again => None,
    }
}

/// What is remembered of a mailbox; nothing if it must be tried again.
fn settled(ordinal: Ordinal, last: &Answer, repair: Option<&Answer>) -> Option<Settled> {
    match (last.status, last.stamp) {
        (Status::Done, Some(stamp)) => {
            let mut findings = repair.map(|it| it.findings(ordinal)).unwrap_or_default();
            findings.extend(last.findings(ordinal));
            // A repair tells what it did; what is verified after it is simply right.
            let told = repair.map_or(last.totals, |repair| repair.totals);
            let read_before = repair.map_or(0, |repair| repair.totals.bytes_read);
            let totals = graded(told, &findings);
            let bytes_read = read_before.saturating_add(last.totals.bytes_read);
            let totals = MessageTotals { bytes_read, ..totals };
            Some(Settled { ordinal, stamp: Some(stamp), totals, findings })
        }
        (Status::Damaged, _) => {
            let (code, reason) = last.why("damaged");
            Some(Settled {
                ordinal,
                stamp: None,
                totals: MessageTotals {
                    grades: Grades::one(Grade::Poor),
                    ..MessageTotals::default()
                },
                findings: vec![quarantined(ordinal, code, reason)],
            })
        }
        (Status::Done | Status::Again | Status::Unreadable, _) => None,
    }
}

/// `totals` with the grade that they and the findings make.
fn graded(totals: MessageTotals, findings: &[Finding]) -> MessageTotals {
    let count = |kind: FindingKind| findings.iter().filter(|it| it.kind == kind).count();
    let doubts = count(FindingKind::Doubt);
    let not_served = count(FindingKind::SetAside) + count(FindingKind::Lost) > 0
        || totals.set_aside > 0
        || totals.lost > 0;
    let grade = match (not_served, doubts) {
        (true, _) => Grade::Poor,
        (false, 0) => Grade::Perfect,
        (false, _) => Grade::Investigate,
    };
    MessageTotals { doubts: doubts as u64, grades: Grades::one(grade), ..totals }
}

/// One line per mailbox.
fn questions(asked: &[Asked<'_>], telling: Option<&Telling>) -> Vec<u8> {
    let open = telling.filter(|telling| telling.level > Level::HELD);
    let mut input = Vec::new();
    for (under, mailbox) in asked {
        let ask = Ask {
            key: mailbox.key,
            address: &mailbox.address,
            path: &String::from_utf8_lossy(&mailbox.path),
            job: under.job.get(),
            generation: under.generation.get(),
            served: mailbox.served,
            level: open.map(|telling| telling.level.get()),
            services: open.map(|telling| telling.services.as_slice()),
        };
        // Texts and numbers can always be written as JSON, and to memory.
        let written = serde_json::to_writer(&mut input, &ask);
        debug_assert!(written.is_ok(), "a question can be written");
        input.push(b'\n');
    }
    input
}

#[cfg(test)]
mod tests;
