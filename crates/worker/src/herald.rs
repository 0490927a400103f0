//! Herald: what a mail system that is told of openings has been told, and is still owed.
//!
//! ```text
//! looked at ─ told to let in ─▶ raised on record ─▶ admission, report
//!                   └─ not done, or not permitted any more ─▶ owed ─ told ─▶ even
//! closed on record ─▶ owed ─ told to shut out ─▶ reported as held
//! ```
//!
//! A mail system that is not told stands as admission does, and is never owed anything.
//!
//! # Invariants
//!
//! * A letting in is recorded, and so reported, only after the mail system has done it, and
//!   only if it is still permitted then.
//! * A mailbox that may stand higher in the mail system than on record is owed. Until it is
//!   even again it is not reported, not worked on, and no order is called obeyed.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Holding, Lease, Outcome, Probed, Raising, Record, Settled};
use tidegate_core::mailbox::Level;
use tidegate_core::planted::{self, Bug};
use tidegate_core::rollout::{
    Finding, FindingKind, Grade, Grades, JobReport, MessageTotals,
};

use crate::store::{Telling, Told, Under, quarantined};

/// What the mail system has been told.
#[derive(Debug, Default)]
pub(crate) struct Herald {
    /// Whether there is anybody to be told.
    hears: bool,
    /// Being let in, not on record yet.
    raising: BTreeMap<(JobNumber, Ordinal), (Generation, Level)>,
    /// May stand higher in the mail system than on record.
    owed: BTreeSet<(JobNumber, Ordinal)>,
    /// The newest orders that nothing was owed under.
    obeyed: u64,
}

/// Mailboxes of one job that the mail system shall be told of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Errand {
    /// Under which permission.
    pub(crate) under: Under,
    /// Where they stand, or shall stand.
    pub(crate) level: Level,
    /// Which.
    pub(crate) ordinals: Vec<Ordinal>,
    /// Whether they stand there already on record.
    pub(crate) recorded: bool,
}

impl Herald {
    /// With or without a mail system that is told.
    pub(crate) fn new(hears: bool) -> Self {
        Self { hears, ..Self::default() }
    }

    /// Takes from `records` what the mail system must do before it can be recorded.
    pub(crate) fn take(&self, records: &mut Vec<Record>) -> Vec<Errand> {
        let mut errands = Vec::new();
        if !self.hears {
            return errands;
        }
        records.retain_mut(|record| {
            let Record::Raised { job, generation, level, ordinals, .. } = record else {
                return true;
            };
            errands.push(Errand {
                under: Under { job: *job, generation: *generation },
                level: *level,
                ordinals: std::mem::take(ordinals),
                recorded: false,
            });
            false
        });
        errands
    }

    /// An errand is on its way.
    pub(crate) fn sent(&mut self, errand: &Errand) {
        if errand.recorded {
            return;
        }
        let Under { job, generation } = errand.under;
        let raising = errand.ordinals.iter();
        self.raising.extend(raising.map(|it| ((job, *it), (generation, errand.level))));
    }

    /// These may stand higher in the mail system than on record.
    pub(crate) fn owe(&mut self, job: JobNumber, ordinals: &[Ordinal]) {
        if self.hears {
            self.owed.extend(ordinals.iter().map(|ordinal| (job, *ordinal)));
        }
    }

    /// Whether the mailbox may stand higher in the mail system than on record.
    pub(crate) fn owes(&self, job: JobNumber, ordinal: Ordinal) -> bool {
        self.owed.contains(&(job, ordinal))
    }

    /// Whether any mailbox may stand higher in the mail system than on record.
    pub(crate) fn owes_any(&self) -> bool {
        !self.owed.is_empty()
    }

    /// What the mail system should be told to make it even, at most `most` mailboxes.
    pub(crate) fn errands(
        &self,
        holding: &Holding,
        most: usize,
        busy: &dyn Fn(JobNumber, Ordinal) -> bool,
    ) -> Vec<Errand> {
        let mut errands: BTreeMap<(Under, Level), Vec<Ordinal>> = BTreeMap::new();
        let free = self.owed.iter().filter(|(job, ordinal)| !busy(*job, *ordinal));
        for (job, ordinal) in free.take(most) {
            let Some(held) = holding.job(*job) else { continue };
            let level = held.state(*ordinal).map_or(Level::HELD, |state| state.level);
            let under = Under { job: *job, generation: held.generation() };
            errands.entry((under, level)).or_default().push(*ordinal);
        }
        let errands = errands.into_iter().map(|((under, level), ordinals)| Errand {
            under,
            level,
            ordinals,
            recorded: true,
        });
        errands.collect()
    }

    /// What to remember after the mail system has been told.
    pub(crate) fn told(
        &mut self,
        telling: &Telling,
        told: &[(Ordinal, Told)],
        holding: &mut Holding,
        lease: Lease,
    ) -> Vec<Record> {
        let Under { job, generation } = telling.under;
        if telling.recorded {
            for (ordinal, told) in told {
                let state = holding.job(job).and_then(|held| held.state(*ordinal));
                let level = state.map_or(Level::HELD, |state| state.level);
                if *told == Told::Done && level == telling.level {
                    self.owed.remove(&(job, *ordinal));
                }
            }
            return Vec::new();
        }
        let mut done = Vec::new();
        let mut records = Vec::new();
        for (ordinal, told) in told {
            self.raising.remove(&(job, *ordinal));
            match told {
                Told::Done => done.push(*ordinal),
                Told::NotYet => {}
                Told::Unknown => self.owe(job, &[*ordinal]),
                Told::Refused { code, reason } => {
                    self.owe(job, &[*ordinal]);
                    let why = quarantined(*ordinal, code.clone(), reason.clone());
                    records.extend(refused(telling.under, why, holding, lease));
                }
            }
        }
        let raising = Raising { job, generation, level: telling.level, ordinals: &done };
        let raised = holding.let_in(raising, lease);
        let in_force = match &raised {
            Some(Record::Raised { ordinals, .. }) => ordinals.clone(),
            Some(_) | None => Vec::new(),
        };
        done.retain(|ordinal| !in_force.contains(ordinal));
        self.owe(job, &done);
        records.extend(raised);
        records
    }

    /// The orders that may be called obeyed.
    pub(crate) fn obeyed(&mut self, holding: &Holding, lease: Lease) -> u64 {
        let permitted =
            |(place, asked): (&(JobNumber, Ordinal), &(Generation, Level))| {
                let ((job, ordinal), (generation, level)) = (*place, *asked);
                let raising = Raising { job, generation, level, ordinals: &[ordinal] };
                holding.let_in(raising, lease).is_some()
            };
        let newest = holding.orders_obeyed();
        if self.owed.is_empty() && self.raising.iter().all(permitted) {
            self.obeyed = newest;
        }
        self.obeyed.min(newest)
    }

    /// No order has been heard any more.
    pub(crate) fn forget_orders(&mut self) {
        self.obeyed = 0;
    }

    /// `reports` without what is owed: it stands higher than the record says. Whoever is `kept_out`
    /// stands lower, and waits for orders that nobody gives before all is told.
    pub(crate) fn withhold(
        &self,
        mut reports: Vec<JobReport>,
        kept_out: &BTreeSet<(JobNumber, Ordinal)>,
    ) -> Vec<JobReport> {
        if self.owed.is_empty() || planted::is(Bug::TellNobody) {
            return reports;
        }
        let higher =
            |job, ordinal| self.owes(job, ordinal) && !kept_out.contains(&(job, ordinal));
        for report in &mut reports {
            let job = report.job;
            report.facts.retain(|(ordinal, _)| !higher(job, *ordinal));
            report.findings.retain(|finding| !higher(job, finding.ordinal));
        }
        reports.retain(|report| !report.facts.is_empty());
        reports
    }
}

/// What to remember of a mailbox whose owner the mail system will not let in, or not
/// further: a held one waits for a person, an open one counts as failed.
fn refused(
    under: Under,
    why: Finding,
    holding: &mut Holding,
    lease: Lease,
) -> Vec<Record> {
    let Under { job, generation } = under;
    let (ordinal, at) = (why.ordinal, lease.now);
    let held = holding.job(job).filter(|held| held.generation() == generation);
    let Some(state) = held.and_then(|held| held.state(ordinal)) else {
        return Vec::new();
    };
    if state.is_open() {
        let outcome = Outcome::Unreadable(Finding { kind: FindingKind::Probe, ..why });
        let probed = Probed { ordinal, level: state.level, mature: false, outcome };
        return holding.probed(job, generation, vec![probed], at).into_iter().collect();
    }
    if !state.is_settled() {
        return Vec::new();
    }
    let aside = Settled {
        ordinal,
        stamp: None,
        totals: MessageTotals {
            grades: Grades::one(Grade::Poor),
            ..MessageTotals::default()
        },
        findings: vec![why],
    };
    vec![Record::Settled { job, generation, mailboxes: vec![aside], at }]
}

#[cfg(test)]
mod tests {
    use tidegate_core::holding::{Claim, Look};
    use tidegate_core::mailbox::Preparation;
    use tidegate_core::rollout::{Order, Orders};
    use tidegate_core::time::Timestamp;

    use super::*;

    const JOB: JobNumber = JobNumber::new(1);
    const STAMP: [u8; 16] = [7; 16];

    /// A worker with two prepared mailboxes that may be let in.
    struct Worker {
        holding: Holding,
        herald: Herald,
        version: u64,
    }

    impl Worker {
        fn new() -> Self {
            let (holding, herald) = (Holding::default(), Herald::new(true));
            let mut worker = Self { holding, herald, version: 0 };
            worker.orders(1, true, Level::FIRST);
            worker.claim(1);
            worker
        }

        fn orders(&mut self, generation: u64, may_open: bool, level: Level) {
            self.version += 1;
            let order = Order {
                job: JOB,
                generation: Generation::new(generation),
                prepare: true,
                level,
                open_below: 2,
                named: None,
                held_back: Vec::new(),
                dial_tone: false,
                soak: None,
            };
            let (version, jobs) = (self.version, vec![order]);
            let open_millis_per_second = None;
            let kept_back = None;
            let recorded = 0;
            let orders = Orders {
                version,
                may_open,
                jobs,
                open_millis_per_second,
                kept_back,
                recorded,
            };
            self.holding.hear(orders);
        }

        fn claim(&mut self, generation: u64) {
            let (generation, now) = (Generation::new(generation), Timestamp::default());
            let claim =
                Claim { job: JOB, generation, description: [0; 32], mailboxes: 2 };
            for record in self.holding.claimed(claim, now) {
                self.apply(&record);
            }
            let settled = [0, 1].map(|ordinal| Settled {
                ordinal: Ordinal::new(ordinal),
                stamp: Some(STAMP),
                totals: MessageTotals::default(),
                findings: Vec::new(),
            });
            let record = self.holding.settled(JOB, generation, settled.into(), now);
            if let Some(record) = record {
                self.holding.apply(&record);
            }
        }

        fn apply(&mut self, record: &Record) {
            if let Record::Closed { job, ordinals, .. } = record {
                self.herald.owe(*job, ordinals);
            }
            self.holding.apply(record);
        }

        /// Both are found unchanged; what the mail system is asked to do about it.
        fn look(&mut self, generation: u64) -> Telling {
            let looks = [0, 1].map(|it| (Ordinal::new(it), Look::Stamp(STAMP)));
            let generation = Generation::new(generation);
            let mut records = self.holding.looked(JOB, generation, &looks, lease());
            let errand = self.herald.take(&mut records).remove(0);
            assert!(records.is_empty());
            self.herald.sent(&errand);
            telling(&errand)
        }

        fn told(&mut self, telling: &Telling, told: [Told; 2]) {
            let told: Vec<_> = (0..).map(Ordinal::new).zip(told).collect();
            let holding = &mut self.holding;
            for record in self.herald.told(telling, &told, holding, lease()) {
                self.apply(&record);
            }
        }

        fn owed(&self) -> Vec<Errand> {
            self.herald.errands(&self.holding, 9, &|_, _| false)
        }

        fn levels(&self) -> Vec<u8> {
            let states = self.holding.job(JOB).unwrap().states();
            states.map(|state| state.level.get()).collect()
        }

        /// How many orders, counted from the newest, are not called obeyed.
        fn behind(&mut self) -> u64 {
            self.version - self.herald.obeyed(&self.holding, lease())
        }

        fn reported(&self) -> usize {
            let reports = self.herald.withhold(self.holding.report(9), &BTreeSet::new());
            reports.iter().map(|report| report.facts.len()).sum()
        }
    }

    fn telling(errand: &Errand) -> Telling {
        Telling {
            under: errand.under,
            level: errand.level,
            services: Vec::new(),
            recorded: errand.recorded,
            from_held: errand.level == Level::FIRST,
            until: Timestamp::from_millis(10),
        }
    }

    fn lease() -> Lease {
        Lease { now: Timestamp::default(), until: Timestamp::from_millis(10) }
    }

    fn refusal() -> Told {
        Told::Refused { code: "no-quota".to_owned(), reason: "none left".to_owned() }
    }

    #[test]
    fn a_mailbox_is_raised_only_when_the_mail_system_has_let_its_owner_in() {
        let mut worker = Worker::new();

        let telling = worker.look(1);
        assert_eq!((worker.levels(), worker.behind()), (vec![0, 0], 0));
        worker.told(&telling, [Told::Done, Told::Unknown]);

        assert_eq!(worker.levels(), [1, 0]);
        let owed = worker.owed();
        assert_eq!(
            (owed[0].level, &owed[0].ordinals[..]),
            (Level::HELD, &[Ordinal::new(1)][..])
        );
        assert_eq!(worker.reported(), 1, "what may be open is not reported as held");
    }

    #[test]
    fn a_pause_is_called_obeyed_only_when_what_was_on_its_way_is_even_again() {
        let mut worker = Worker::new();
        let telling_open = worker.look(1);

        worker.orders(1, false, Level::FIRST);
        assert_eq!(worker.behind(), 2, "nothing was asked before");
        worker.told(&telling_open, [Told::Done, Told::Done]);
        assert_eq!((worker.levels(), worker.behind()), (vec![0, 0], 2));

        let shut = telling(&worker.owed()[0]);
        assert_eq!((shut.level, shut.recorded), (Level::HELD, true));
        worker.told(&shut, [Told::Done, Told::Unknown]);
        assert_eq!(worker.behind(), 2);
        worker.told(&shut, [Told::Done, Told::Done]);
        assert_eq!((worker.owed(), worker.behind(), worker.reported()), (vec![], 0, 2));
    }

    #[test]
    fn a_letting_in_that_must_wait_leaves_nothing_behind_and_is_asked_for_again() {
        let mut worker = Worker::new();

        let telling = worker.look(1);
        worker.told(&telling, [Told::NotYet, Told::NotYet]);

        assert_eq!((worker.levels(), worker.behind()), (vec![0, 0], 0));
        assert_eq!((worker.owed(), worker.reported()), (vec![], 2));
        let again = worker.look(1);
        worker.told(&again, [Told::Done, Told::Done]);
        assert_eq!(worker.levels(), [1, 1]);
    }

    #[test]
    fn a_closing_that_takes_time_is_owed_until_it_is_done() {
        let mut worker = Worker::new();
        let telling_open = worker.look(1);
        worker.told(&telling_open, [Told::Done, Told::Done]);
        worker.orders(2, true, Level::HELD);
        worker.claim(2);

        let shut = telling(&worker.owed()[0]);
        worker.told(&shut, [Told::Done, Told::NotYet]);

        assert!(worker.herald.owes_any());
        let one = &[Ordinal::new(1)][..];
        assert_eq!((&worker.owed()[0].ordinals[..], worker.reported()), (one, 1));
        worker.told(&shut, [Told::Done, Told::Done]);
        assert!(!worker.herald.owes_any());
    }

    #[test]
    fn a_reclosed_mailbox_is_not_told_until_the_mail_system_has_shut_it() {
        let mut worker = Worker::new();
        let telling_open = worker.look(1);
        worker.told(&telling_open, [Told::Done, Told::Done]);
        assert_eq!((worker.levels(), worker.behind()), (vec![1, 1], 0));

        worker.orders(2, true, Level::HELD);
        worker.claim(2);

        assert_eq!(worker.levels(), [0, 0]);
        assert_eq!((worker.reported(), worker.behind()), (0, 1));
        let shut = telling(&worker.owed()[0]);
        assert_eq!(shut.under.generation, Generation::new(2));
        worker.told(&shut, [Told::Done, Told::Done]);
        assert_eq!((worker.reported(), worker.behind()), (2, 0));
    }

    #[test]
    fn who_is_not_let_in_for_good_waits_for_a_person_with_the_reason() {
        let mut worker = Worker::new();
        let telling_open = worker.look(1);

        worker.told(&telling_open, [Told::Done, refusal()]);

        let state = worker.holding.job(JOB).unwrap().state(Ordinal::new(1)).unwrap();
        assert_eq!(
            (worker.levels(), state.preparation),
            (vec![1, 0], Preparation::Quarantined)
        );
        let reports = worker.holding.report(9);
        let told = reports[0].findings.iter().map(|it| it.code.as_str());
        assert_eq!(told.collect::<Vec<_>>(), ["no-quota"]);
    }

    #[test]
    fn who_is_not_let_in_further_stays_where_he_is_and_counts_as_failed() {
        let mut worker = Worker::new();
        let telling_open = worker.look(1);
        worker.told(&telling_open, [Told::Done, Told::Done]);
        worker.orders(1, true, Level::FIRST.above());
        let errand = Errand {
            under: telling_open.under,
            level: Level::FIRST.above(),
            ordinals: vec![Ordinal::new(0), Ordinal::new(1)],
            recorded: false,
        };
        worker.herald.sent(&errand);

        worker.told(&telling(&errand), [Told::Done, refusal()]);

        assert_eq!(worker.levels(), [2, 1]);
        let state = worker.holding.job(JOB).unwrap().state(Ordinal::new(1)).unwrap();
        assert_eq!(state.health, tidegate_core::mailbox::Health::Failed);
        let back = worker.owed();
        assert_eq!(
            (back[0].level, &back[0].ordinals[..]),
            (Level::FIRST, &[Ordinal::new(1)][..])
        );
    }
}
