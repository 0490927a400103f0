//! Holding: what a worker holds of its node, mailbox by mailbox.
//!
//! ```text
//! waiting ─▶ prepared | quarantined          (settled, under one generation)
//! prepared ─ last look, permit, lease ─▶ open(level) ─▶ open(next level)
//! open ─ a newer generation orders less ─▶ waiting, marked as served
//! ```
//!
//! A held mailbox may have a dial tone: see `dial`.
//!
//! # Invariants
//!
//! * A mailbox is raised from held only when prepared under the present generation, by an
//!   order of that generation that permits it, while the lease runs, after a look that
//!   found its stamp unchanged.
//! * Within one generation nothing is closed; a newer one closes whatever its order does
//!   not allow, before anything else is done under it.
//! * Orders, permits and the lease are heard, never remembered: after a restart nothing is
//!   opened until the coordinator has spoken again.
//! * Results of an older generation change nothing.

mod counts;
mod dial;
mod found;
mod mailbox;
mod record;
mod report;
mod snapshot;
mod watch;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use counts::Tally;
pub use dial::{Dial, DialStep};
pub use found::{Found, More};
pub use record::{Claim, Look, Outcome, Probed, Record, Settled, Switched};
pub use snapshot::{JobCopy, JobSnapshot, SnapshotError};
pub use work::{ProbeTask, Room, Work};

use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{Health, Level, MailboxState, Preparation};
use crate::places::Places;
use crate::planted::{self, Bug};
use crate::rollout::{KeptBack, MessageTotals, Order, Orders};
use crate::time::Timestamp;
use counts::Counts;
use mailbox::{HeldMailbox, Mailboxes};
use watch::Watch;

/// A content stamp as the store makes it: equal stamps mean unchanged content.
pub type Stamp = [u8; 16];

/// What a worker holds.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    // What it remembers.
    jobs: BTreeMap<JobNumber, HeldJob>,
    /// What persons have re-closed and not resumed.
    kept_back: KeptBack,

    // What it has heard since it started.
    kept_back_heard: Option<KeptBack>,
    orders_version: u64,
    may_open: bool,
    pending: BTreeMap<JobNumber, Order>,

    // What the coordinator has not confirmed yet.
    unreported: Places,
}

/// One job and its mailboxes.
#[derive(Clone, Debug)]
pub struct HeldJob {
    generation: Generation,
    description: [u8; 32],
    /// Shared with snapshots that are being written.
    mailboxes: Arc<Mailboxes>,
    counts: Counts,
    /// Messages of all its mailboxes.
    totals: MessageTotals,
    order: Option<Order>,
    watch: Watch,
}

impl HeldJob {
    /// The generation it was claimed at.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether it has heard orders of its generation.
    pub fn is_ordered(&self) -> bool {
        self.order.is_some()
    }

    /// The digest of its description.
    pub fn description(&self) -> [u8; 32] {
        self.description
    }

    /// States in order of the ordinals.
    pub fn states(&self) -> impl Iterator<Item = MailboxState> + '_ {
        self.mailboxes.iter().map(|(_, mailbox)| mailbox.state)
    }

    /// The state of one mailbox.
    pub fn state(&self, ordinal: Ordinal) -> Option<MailboxState> {
        self.mailboxes.get(ordinal).map(|mailbox| mailbox.state)
    }

    /// Whether the mailbox has been open since it was first verified.
    pub fn was_served(&self, ordinal: Ordinal) -> bool {
        self.mailboxes.get(ordinal).is_some_and(|mailbox| mailbox.served)
    }

    /// Messages of all its mailboxes.
    pub fn totals(&self) -> MessageTotals {
        self.totals
    }
}

impl Holding {
    /// How many mailboxes are how.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.jobs.values().for_each(|job| tally.add(&job.counts));
        tally
    }

    /// The jobs, by number.
    pub fn jobs(&self) -> impl Iterator<Item = (JobNumber, &HeldJob)> {
        self.jobs.iter().map(|(number, job)| (*number, job))
    }

    /// One job.
    pub fn job(&self, job: JobNumber) -> Option<&HeldJob> {
        self.jobs.get(&job)
    }

    /// The newest orders obeyed.
    pub fn orders_obeyed(&self) -> u64 {
        self.orders_version
    }

    /// The highest generation of any claim.
    pub fn generation_max(&self) -> Generation {
        self.jobs.values().map(|job| job.generation).max().unwrap_or_default()
    }

    /// Whether a store that is claimed at `claimed` belongs to another worker by now: this one
    /// has had orders up to `ordered`, and knows of no higher claim. It must not go on.
    pub fn is_given_up(&self, claimed: Generation, ordered: Generation) -> bool {
        claimed > ordered.max(self.generation_max())
    }

    /// Starts the soak of every open mailbox anew: a restart has not watched them.
    ///
    /// Call once after replaying the journal.
    pub fn wake(&mut self, now: Timestamp) {
        for job in self.jobs.values_mut() {
            job.watch.forget();
            Arc::make_mut(&mut job.mailboxes).each(|mailbox| {
                mailbox.since = now;
                mailbox.was_read = false;
            });
        }
    }

    /// Forgets orders and permits, as when the lease has run out or the coordinator has
    /// been joined again, and reports everything anew.
    pub fn forget_orders(&mut self) {
        self.may_open = false;
        self.orders_version = 0;
        self.pending.clear();
        self.kept_back_heard = None;
        for job in self.jobs.values_mut() {
            job.order = None;
        }
        self.unreported = self
            .jobs
            .iter()
            .flat_map(|(number, job)| {
                job.mailboxes.iter().map(|(ordinal, _)| (*number, ordinal))
            })
            .collect();
    }

    /// Stops opening until orders are heard again.
    pub fn suspend(&mut self) {
        self.may_open = false;
    }

    /// Obeys `orders`; [`Holding::closings`] says what must be remembered of it.
    ///
    /// Older orders than those obeyed are ignored. Orders of a generation not claimed yet
    /// wait for [`Holding::claimed`].
    pub fn hear(&mut self, orders: Orders) {
        if orders.version < self.orders_version {
            return;
        }
        self.orders_version = orders.version;
        self.kept_back_heard = orders.kept_back.or(self.kept_back_heard.take());
        self.may_open = orders.may_open || self.may_open && planted::is(Bug::StaleOrders);
        for order in orders.jobs {
            match self.jobs.get_mut(&order.job) {
                Some(job) if job.generation == order.generation => {
                    self.pending.remove(&order.job);
                    if job.order.as_ref().and_then(|it| it.soak) != order.soak {
                        // Mailboxes are to be read sooner, or later.
                        job.watch.forget();
                    }
                    job.order = Some(order);
                }
                Some(job) if job.generation > order.generation => {}
                Some(job) => {
                    // What the older generation permitted has been taken back.
                    job.order = None;
                    self.pending.insert(order.job, order);
                }
                None => {
                    self.pending.insert(order.job, order);
                }
            }
        }
    }

    /// What persons have re-closed and not resumed, as far as it remembers.
    pub fn kept_back(&self) -> &KeptBack {
        &self.kept_back
    }

    /// What of the orders must be remembered: mailboxes that stand higher than they allow, and
    /// what persons keep back.
    pub fn closings(&self, now: Timestamp) -> Vec<Record> {
        let heard = self.kept_back_heard.iter().filter(|heard| **heard != self.kept_back);
        let kept = heard.map(|it| Record::KeptBack { kept_back: it.clone(), at: now });
        let jobs = self.jobs.iter().filter_map(|(number, job)| {
            let order = job.order.as_ref()?;
            let closed = job.closing(*number, order, now);
            Some(closed.into_iter().chain(job.hanging_up(*number, order, now)))
        });
        kept.chain(jobs.flatten()).collect()
    }

    /// What to remember when the store has been claimed for `job` at `generation`.
    ///
    /// Nothing if a newer generation has been ordered meanwhile.
    pub fn claimed(&self, claim: Claim, now: Timestamp) -> Vec<Record> {
        let Claim { job, generation, description, mailboxes } = claim;
        let Some(order) = self.pending.get(&job) else { return Vec::new() };
        let fresh = self.jobs.get(&job).is_none_or(|known| known.generation < generation);
        if order.generation != generation || !fresh {
            return Vec::new();
        }
        let claimed =
            Record::JobClaimed { job, generation, description, mailboxes, at: now };
        let closing = self.jobs.get(&job).map(|known| {
            let order = Order { generation, ..order.clone() };
            let closed = known.closing(job, &order, now);
            closed.into_iter().chain(known.hanging_up(job, &order, now))
        });
        std::iter::once(claimed).chain(closing.into_iter().flatten()).collect()
    }

    /// What to remember of verified mailboxes; nothing of an older generation.
    pub fn settled(
        &self,
        job: JobNumber,
        generation: Generation,
        results: Vec<Settled>,
        now: Timestamp,
    ) -> Option<Record> {
        let held = self.jobs.get(&job).filter(|held| {
            held.generation == generation || planted::is(Bug::WorkerIgnoresGeneration)
        })?;
        let mailboxes: Vec<Settled> = results
            .into_iter()
            .filter(|result| {
                let mailbox = held.mailboxes.get(result.ordinal);
                mailbox.is_some_and(|mailbox| !mailbox.state.is_settled())
            })
            .collect();
        (!mailboxes.is_empty()).then_some(Record::Settled {
            job,
            generation,
            mailboxes,
            at: now,
        })
    }

    /// What to remember after a look at held mailboxes: the ones unchanged are settled anew
    /// if they were waiting, and raised if they are permitted; the changed are unsettled.
    pub fn looked(
        &self,
        job: JobNumber,
        generation: Generation,
        looks: &[(Ordinal, Look)],
        lease: Lease,
    ) -> Vec<Record> {
        let Some(held) = self.jobs.get(&job).filter(|held| held.generation == generation)
        else {
            return Vec::new();
        };
        let at = lease.now;
        let mut again = Vec::new();
        let mut changed = Vec::new();
        let mut raised = Vec::new();
        let mut beside = Vec::new();
        for (ordinal, look) in looks {
            let Some(mailbox) = held.mailboxes.get(*ordinal) else { continue };
            let unverified = planted::is(Bug::OpenBeforeVerify);
            let known = mailbox.stamp.is_some() || unverified;
            if mailbox.state.is_open() || !known {
                continue;
            }
            match look {
                Look::Beside(_) if mailbox.dial == Dial::None => beside.push(*ordinal),
                Look::Stamp(stamp) | Look::Beside(stamp)
                    if mailbox.stamp == Some(*stamp)
                        || planted::is(Bug::OpenWithoutStamp)
                        || unverified && self.permits(held, *ordinal, lease) =>
                {
                    if !mailbox.state.is_settled() && mailbox.stamp.is_some() {
                        again.push(held.settled_again(*ordinal, &mailbox));
                    } else if self.permits(held, *ordinal, lease) {
                        raised.push(*ordinal);
                    }
                }
                Look::Stamp(_) | Look::Beside(_) | Look::Impossible => {
                    changed.push(*ordinal);
                }
            }
        }
        let level = held.order.as_ref().map_or(Level::HELD, |order| order.level);
        let mut records = Vec::new();
        for mailboxes in in_portions(again) {
            records.push(Record::Settled { job, generation, mailboxes, at });
        }
        if !changed.is_empty() {
            records.push(Record::Unsettled { job, generation, ordinals: changed, at });
        }
        if !beside.is_empty() {
            // This memory is younger than the store's: their histories are still to come back.
            let step = DialStep::Intended;
            let ordinals = beside;
            records.push(Record::DialTone { job, generation, step, ordinals, at });
        }
        if !raised.is_empty() {
            records.push(Record::Raised { job, generation, level, ordinals: raised, at });
        }
        records
    }

    /// What to remember when open mailboxes rise further: the ones still permitted.
    pub fn raised(
        &self,
        job: JobNumber,
        generation: Generation,
        ordinals: &[Ordinal],
        lease: Lease,
    ) -> Option<Record> {
        let held = self.jobs.get(&job).filter(|held| held.generation == generation)?;
        let level = held.order.as_ref()?.level;
        let permitted = |ordinal: &&Ordinal| {
            held.mailboxes.get(**ordinal).is_some_and(|mailbox| {
                mailbox.state.is_open() && self.permits(held, **ordinal, lease)
            })
        };
        let ordinals: Vec<Ordinal> = ordinals.iter().filter(permitted).copied().collect();
        let at = lease.now;
        (!ordinals.is_empty()).then_some(Record::Raised {
            job,
            generation,
            level,
            ordinals,
            at,
        })
    }

    /// What to remember when a mail system has let mailboxes in: the ones whose raising is
    /// still permitted. Whoever asks has looked at them before.
    pub fn let_in(&self, raising: Raising<'_>, lease: Lease) -> Option<Record> {
        let Raising { job, generation, level, ordinals } = raising;
        let held = self.jobs.get(&job).filter(|held| held.generation == generation)?;
        let allowed = held.order.as_ref()?.level;
        let permitted = |ordinal: &&Ordinal| {
            let lower = held.state(**ordinal).is_some_and(|state| state.level < level);
            lower && level <= allowed && self.permits(held, **ordinal, lease)
        };
        let ordinals: Vec<Ordinal> = ordinals.iter().filter(permitted).copied().collect();
        let at = lease.now;
        (!ordinals.is_empty()).then_some(Record::Raised {
            job,
            generation,
            level,
            ordinals,
            at,
        })
    }

    /// What to remember of probes of open mailboxes.
    pub fn probed(
        &mut self,
        job: JobNumber,
        generation: Generation,
        results: Vec<Probed>,
        now: Timestamp,
    ) -> Option<Record> {
        let held =
            self.jobs.get_mut(&job).filter(|held| held.generation == generation)?;
        let mut healths = Vec::new();
        let mut findings = Vec::new();
        let mailboxes = Arc::make_mut(&mut held.mailboxes);
        for result in results {
            let Some(mut mailbox) = mailboxes.get(result.ordinal) else { continue };
            if mailbox.state.level != result.level || !mailbox.state.is_open() {
                continue;
            }
            mailbox.note_read(now);
            mailboxes.set(result.ordinal, mailbox);
            let (health, finding) = match result.outcome {
                Outcome::Read if result.mature => (Health::Healthy, None),
                Outcome::Read => continue,
                Outcome::Unreadable(finding) => (Health::Failed, Some(finding)),
                Outcome::Altered(finding) => (Health::IntegrityFailed, Some(finding)),
            };
            let heals = planted::is(Bug::BadHeals) && mailbox.state.health != health;
            if mailbox.state.health < health || heals {
                healths.push((result.ordinal, health));
                findings.extend(finding);
            }
        }
        let known = Record::HealthNoted { job, generation, healths, findings, at: now };
        matches!(&known, Record::HealthNoted { healths, .. } if !healths.is_empty())
            .then_some(known)
    }

    /// Makes `record` part of the state. The only mutator of what is remembered.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::KeptBack { kept_back, .. } => self.kept_back.clone_from(kept_back),
            Record::JobClaimed { job, generation, description, mailboxes, at } => {
                let (job, generation) = (*job, *generation);
                let (description, mailboxes) = (*description, *mailboxes);
                self.apply_claimed(
                    Claim { job, generation, description, mailboxes },
                    *at,
                );
            }
            Record::Settled { job, mailboxes, .. } => {
                let each = mailboxes.iter().map(|settled| (settled.ordinal, settled));
                self.change(*job, each, HeldMailbox::settle);
            }
            Record::Unsettled { job, ordinals, .. } => {
                self.change(*job, alike(ordinals), |mailbox, _, ()| {
                    debug_assert!(!mailbox.state.is_open(), "an open mailbox changes");
                    mailbox.state = MailboxState::HELD;
                    mailbox.stamp = None;
                });
            }
            Record::Raised { job, level, ordinals, at, .. } => {
                self.change(*job, alike(ordinals), |mailbox, _, ()| {
                    mailbox.raise(*level, *at);
                });
            }
            Record::Closed { job, ordinals, .. } => {
                self.change(*job, alike(ordinals), |mailbox, _, ()| {
                    mailbox.state = MailboxState::HELD;
                    mailbox.stamp = None;
                    mailbox.served = true;
                });
            }
            Record::DialTone { job, step, ordinals, .. } => {
                self.apply_dial(*job, ordinals, *step);
            }
            Record::DialToneSwitched { job, mailboxes, .. } => {
                let each = mailboxes.iter().map(|switched| (switched.ordinal, switched));
                self.change(*job, each, HeldMailbox::switch);
            }
            Record::HealthNoted { job, healths, findings, at, .. } => {
                self.change(*job, healths.iter().copied(), |mailbox, _, health| {
                    mailbox.state.health = health;
                    mailbox.note_read(*at);
                });
                let each = findings.iter().map(|finding| (finding.ordinal, finding));
                self.change(*job, each, |_, found, finding| {
                    found.note([finding.clone()]);
                });
            }
        }
    }

    fn apply_claimed(&mut self, claim: Claim, at: Timestamp) {
        let Claim { job, generation, description, mailboxes } = claim;
        let order =
            self.pending.remove(&job).filter(|order| order.generation == generation);
        let held = self.jobs.entry(job).or_insert_with(|| HeldJob {
            generation,
            description,
            mailboxes: Arc::new(Mailboxes::new(usize::from(mailboxes))),
            counts: Counts::default(),
            totals: MessageTotals::default(),
            order: None,
            watch: Watch::new(usize::from(mailboxes)),
        });
        debug_assert!(held.generation <= generation, "generations only rise");
        debug_assert_eq!(
            held.description, description,
            "a job never changes its mailboxes"
        );
        held.generation = generation;
        held.order = order;
        Arc::make_mut(&mut held.mailboxes).each(|mailbox| mailbox.claim_again(at));
        held.counts = Counts::of(&held.mailboxes);
        held.watch.forget();
        let all = 0..u16::try_from(held.mailboxes.len()).unwrap_or(u16::MAX);
        self.unreported.extend(all.map(|ordinal| (job, Ordinal::new(ordinal))));
    }

    /// Changes these mailboxes of a job, each by what comes with it.
    fn change<T>(
        &mut self,
        job: JobNumber,
        each: impl Iterator<Item = (Ordinal, T)>,
        change: impl Fn(&mut HeldMailbox, &mut Found, T),
    ) {
        let mut each = each.peekable();
        let Some(held) = self.jobs.get_mut(&job) else { return };
        if each.peek().is_none() {
            return;
        }
        let HeldJob { mailboxes, counts, totals, watch, .. } = held;
        let mailboxes = Arc::make_mut(mailboxes);
        let changed = each.filter_map(|(ordinal, by)| {
            let mut mailbox = mailboxes.get(ordinal)?;
            counts.without(&mailbox);
            let (level, before) = (mailbox.state.level, mailboxes.found(ordinal));
            let mut found = before.clone();
            change(&mut mailbox, &mut found, by);
            counts.with(&mailbox);
            mailboxes.set(ordinal, mailbox);
            if found != before {
                *totals = totals.minus(before.totals()).plus(found.totals());
                mailboxes.set_found(ordinal, found);
            }
            if mailbox.state.level != level && mailbox.state.is_open() {
                watch.changed(ordinal);
            }
            Some((job, ordinal))
        });
        self.unreported.extend(changed);
    }

    /// Whether an open mailbox may be let seen as open now: its raising was recorded, but
    /// recording may have taken longer than the lease, or than the permission lasted.
    pub fn may_stand(&self, job: JobNumber, ordinal: Ordinal, lease: Lease) -> bool {
        let Some(held) = self.jobs.get(&job) else { return false };
        let Some(order) = &held.order else { return false };
        let mailbox = held.mailboxes.get(ordinal);
        self.may_open
            && lease.is_valid()
            && !order.held_back.contains(&ordinal)
            && mailbox.is_some_and(|mailbox| mailbox.state.level <= order.level)
    }

    /// Whether the mailbox may be raised now.
    fn permits(&self, held: &HeldJob, ordinal: Ordinal, lease: Lease) -> bool {
        let here = held.dial(ordinal) == Dial::None || planted::is(Bug::OpenBeside);
        here && self.allows(held, ordinal, lease)
    }

    /// Whether the mailbox may be raised once it has no dial tone.
    fn allows(&self, held: &HeldJob, ordinal: Ordinal, lease: Lease) -> bool {
        let order = held.order.as_ref();
        order.is_some_and(|order| order.permits(ordinal))
            && self.allows_named(held, ordinal, lease)
    }

    /// Whether the mailbox, which its order names, may be raised once it has no dial tone.
    fn allows_named(&self, held: &HeldJob, ordinal: Ordinal, lease: Lease) -> bool {
        let Some(order) = &held.order else { return false };
        let Some(mailbox) = held.mailboxes.get(ordinal) else { return false };
        self.may_open
            && lease.is_valid()
            && order.generation == held.generation
            && !order.held_back.contains(&ordinal)
            && (mailbox.state.preparation == Preparation::Prepared
                || planted::is(Bug::OpenBeforeVerify))
            && mailbox.state.level < order.level
            && mailbox.state.health < Health::Failed
    }
}

/// Mailboxes of one job that a mail system has let in, as far as a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raising<'a> {
    /// The job.
    pub job: JobNumber,
    /// The generation it was done under.
    pub generation: Generation,
    /// The level.
    pub level: Level,
    /// Their places.
    pub ordinals: &'a [Ordinal],
}

/// Until when the coordinator's word holds.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The present.
    pub now: Timestamp,
    /// The end, counted from when the last answered report was sent.
    pub until: Timestamp,
}

impl Lease {
    /// Whether it still runs.
    pub fn is_valid(self) -> bool {
        self.now < self.until || planted::is(Bug::KeepPermits)
    }
}

impl HeldJob {
    fn closing(&self, job: JobNumber, order: &Order, now: Timestamp) -> Option<Record> {
        if order.held_back.is_empty() && self.counts.highest() <= order.level {
            return None;
        }
        let higher: Vec<Ordinal> = (self.mailboxes.iter())
            .filter(|(ordinal, mailbox)| {
                let allowed = if order.held_back.contains(ordinal) {
                    Level::HELD
                } else {
                    order.level
                };
                mailbox.state.level > allowed
            })
            .map(|(ordinal, _)| ordinal)
            .collect();
        (!higher.is_empty()).then_some(Record::Closed {
            job,
            generation: order.generation,
            ordinals: higher,
            at: now,
        })
    }

    fn settled_again(&self, ordinal: Ordinal, mailbox: &HeldMailbox) -> Settled {
        Settled {
            ordinal,
            stamp: mailbox.stamp,
            totals: self.mailboxes.totals(ordinal),
            findings: self.mailboxes.findings(ordinal).to_vec(),
        }
    }
}

impl HeldMailbox {
    fn settle(&mut self, found: &mut Found, settled: &Settled) {
        debug_assert!(!self.state.is_open(), "an open mailbox is not prepared");
        *found = Found::of(settled.totals, settled.findings.clone());
        self.stamp = settled.stamp;
        let preparation = match settled.stamp {
            Some(_) => Preparation::Prepared,
            None => Preparation::Quarantined,
        };
        self.state = MailboxState { preparation, ..MailboxState::HELD };
    }

    fn raise(&mut self, level: Level, at: Timestamp) {
        let prepared = self.state.preparation == Preparation::Prepared;
        debug_assert!(prepared || planted::is(Bug::OpenBeforeVerify), "verified first");
        debug_assert!(self.state.level < level, "a mailbox is raised, not lowered");
        self.state.level = level;
        self.state.health = Health::Unproven;
        self.since = at;
        self.was_read = false;
        self.served = true;
        // No look at it comes before it is verified anew.
        self.stamp = None;
    }

    /// Notes that it was read on its level.
    fn note_read(&mut self, at: Timestamp) {
        self.was_read = true;
        // While it is unproven, what counts is how long it has stood there.
        if self.state.health != Health::Unproven {
            self.since = at;
        }
    }

    /// Under a new generation: open mailboxes stay open and must prove themselves again,
    /// all others wait; a known stamp makes the next verification a look.
    fn claim_again(&mut self, at: Timestamp) {
        if self.state.is_open() {
            self.state.health = Health::Unproven;
            self.since = at;
            self.was_read = false;
        } else {
            self.state = MailboxState::HELD;
        }
    }
}

/// Findings after which the next record begins: a record has a limit of some megabytes.
const FINDINGS_PER_RECORD: usize = 2_000;

/// `results` in portions that fit a record each.
fn in_portions(results: Vec<Settled>) -> Vec<Vec<Settled>> {
    let mut portions: Vec<Vec<Settled>> = Vec::new();
    let mut findings = 0;
    for result in results {
        findings += result.findings.len();
        match portions.last_mut() {
            Some(portion) if findings <= FINDINGS_PER_RECORD => portion.push(result),
            Some(_) | None => {
                findings = result.findings.len();
                portions.push(vec![result]);
            }
        }
    }
    portions
}

/// What comes with each of these: nothing.
fn alike(ordinals: &[Ordinal]) -> impl Iterator<Item = (Ordinal, ())> + '_ {
    ordinals.iter().map(|ordinal| (*ordinal, ()))
}
