//! Deciding: from an event to records, without changing anything.

use std::collections::BTreeMap;

use super::turn::Turn;
use super::{
    Action, Event, Finding, JobReport, Join, NodeState, Operate, Phase, Record, Recount,
    Refusal, Rollout, Scope, Step, Sync, Verb, ordinals,
};
use crate::fleet::{
    COUNT_MAX, Generation, Incarnation, JobNumber, MailboxNumber, NodeNumber, Ordinal,
    WaveNumber,
};
use crate::gate::Verdict;
use crate::mailbox::{Level, MailboxState, Preparation};
use crate::planted::{self, Bug};
use crate::time::Timestamp;

impl Rollout {
    /// What follows from `event`. Changes nothing.
    pub fn decide(&self, event: &Event, now: Timestamp) -> Step {
        let decided = match self.heed(event) {
            Err(refusal) => Err(refusal),
            Ok(()) => match event {
                Event::Join(join) => self.on_join(join, now),
                Event::Sync(sync) => self.on_sync(sync, now),
                Event::Operate(operate) => self.on_operate(operate, now),
                Event::Tick => Ok(self.on_tick(now)),
            },
        };
        match decided {
            Ok(records) => Step { records, refusal: None },
            Err(refusal) => Step { records: Vec::new(), refusal: Some(refusal) },
        }
    }

    /// Refuses what cannot be, and everything while it is to be recorded first that the
    /// journal may be too old.
    fn heed(&self, event: &Event) -> Result<(), Refusal> {
        possible(event)?;
        match self.unrecorded_doubt() {
            Some(older) if *event != Event::Tick => Err(older.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// The node called `name`.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownNode`] with the names there are.
    pub fn node_named(&self, name: &str) -> Result<NodeNumber, Refusal> {
        let names = self.plan.inventory().node_names();
        let found = names.iter().zip(0..).find(|(known, _)| *known == name);
        found.map(|(_, number)| NodeNumber::new(number)).ok_or_else(|| {
            let shown: Vec<String> = names
                .iter()
                .take(NODES_SHOWN_MAX)
                .map(|name| format!("`{name}`"))
                .collect();
            Refusal::UnknownNode { node: name.to_owned(), known: shown.join(", ") }
        })
    }

    fn on_join(&self, join: &Join, now: Timestamp) -> Result<Vec<Record>, Refusal> {
        let node = self.node_named(&join.node)?;
        let lease = self.plan.policy().limits.lease;
        let holder = self.nodes.get(node.index()).and_then(|node| node.incarnation);
        if let Some(holder) = holder
            && holder != join.incarnation
        {
            let heard_at = self.heard_at(node);
            let silent = now.since(heard_at);
            if silent < lease && !planted::is(Bug::TwoIncarnations) {
                return Err(Refusal::NodeTaken {
                    node: join.node.clone(),
                    holder,
                    heard_millis: silent.millis(),
                    lease_millis: lease.millis(),
                });
            }
        }
        let state = self.nodes.get(node.index());
        let recount = state.map_or(Recount::Done, |state| state.recount);
        if recount.is_pending() {
            return self.join_recount(node, join, now);
        }
        self.check_doubted(node)?;
        self.check_issued(node, join.claimed_max)?;
        self.check_obeyed(node, join.orders_seen)?;
        self.check_not_older(node, join)?;
        if holder == Some(join.incarnation) {
            return Ok(Vec::new());
        }
        let claims = self.claims_beyond(node, join.store_claimed, now);
        let above =
            claims.as_ref().map_or_else(Generation::default, |(claimed, _)| *claimed);
        let leases = self.leased_anew((node, join.incarnation), above, now);
        let joined = std::iter::once(joined(node, join, now));
        Ok(joined.chain(claims.map(|(_, found)| found)).chain(leases).collect())
    }

    /// Jobs that `node` has been leased, leased anew to this run of its worker, above `claimed`.
    fn leased_anew(
        &self,
        (node, incarnation): (NodeNumber, Incarnation),
        claimed: Generation,
        now: Timestamp,
    ) -> impl Iterator<Item = Record> {
        let held = self
            .plan
            .jobs_on(node)
            .filter(|job| self.job(job.number).leased_to.is_some());
        self.generations_above(claimed).zip(held).map(move |(generation, job)| {
            Record::JobLeased { job: job.number, incarnation, generation, at: now }
        })
    }

    /// How high the store of `node` is claimed, and the record of it, if nothing so high was ever
    /// issued to it as far as this journal knows. Somebody had orders of another one, which is
    /// gone or newer, and has claimed under them since: whoever has the node by now has no effect
    /// before it has claimed anew, above that.
    fn claims_beyond(
        &self,
        node: NodeNumber,
        claimed: Generation,
        at: Timestamp,
    ) -> Option<(Generation, Record)> {
        let issued = self.nodes.get(node.index()).map(|node| node.issued);
        let found = Record::ClaimsFound { node, claimed, orders_seen: 0, at };
        (claimed > issued.unwrap_or_default()).then_some((claimed, found))
    }

    fn on_sync(&self, sync: &Sync, now: Timestamp) -> Result<Vec<Record>, Refusal> {
        let state = self.nodes.get(sync.node.index());
        let present = state.and_then(|node| node.incarnation);
        if present != Some(sync.incarnation) || self.must_tell_all(sync) {
            return Err(Refusal::NotTheWorker {
                node: self.node_name(sync.node).to_owned(),
                incarnation: sync.incarnation,
            });
        }
        let recounts = state.is_some_and(|node| node.recount.is_pending());
        if !recounts {
            self.check_doubted(sync.node)?;
            self.check_issued(sync.node, sync.claimed_max)?;
            self.check_obeyed(sync.node, sync.orders_obeyed)?;
            self.check_recorded(sync)?;
        }
        if self.is_late(sync) {
            return Ok(Vec::new());
        }
        if recounts {
            return Ok(self.on_recount(sync, now));
        }
        let facts = sync.reports.iter().filter_map(|report| self.news(sync, report, now));
        let mut records: Vec<Record> = facts.collect();
        let claimed = sync.account.as_ref().map(|account| account.store_claimed);
        match self.claims_beyond(sync.node, claimed.unwrap_or_default(), now) {
            Some((claimed, found)) => {
                let present = (sync.node, sync.incarnation);
                records.push(found);
                records.extend(self.leased_anew(present, claimed, now));
            }
            None => records.extend(self.leases(sync, now)),
        }
        Ok(records)
    }

    /// A store claimed at a generation that was never issued here belongs to a newer journal.
    fn check_issued(&self, node: NodeNumber, claimed: Generation) -> Result<(), Refusal> {
        let issued = self.nodes.get(node.index()).map(|node| node.issued);
        let issued = issued.unwrap_or_default();
        if claimed <= issued {
            return Ok(());
        }
        let node = self.node_name(node).to_owned();
        Err(Refusal::JournalTooOld { node, claimed, issued })
    }

    /// So do orders that were obeyed and never given here.
    fn check_obeyed(&self, node: NodeNumber, obeyed: u64) -> Result<(), Refusal> {
        let given = self.orders_version;
        if obeyed <= given {
            return Ok(());
        }
        let node = self.node_name(node).to_owned();
        Err(Refusal::OrdersTooOld { node, obeyed, given })
    }

    /// A worker that knows less than its node has told was put back. So was a journal that has
    /// grown shorter since it was last told from, also where no new generation tells.
    fn check_not_older(&self, node: NodeNumber, join: &Join) -> Result<(), Refusal> {
        let Some(state) = self.nodes.get(node.index()) else { return Ok(()) };
        let (node, claimed, told) = (join.node.clone(), join.claimed_max, state.claimed);
        if claimed < told {
            return Err(Refusal::WorkerTooOld { node, claimed, told });
        }
        let told = if told > Generation::default() { state.journaled } else { 0 };
        match join.journaled {
            Some(records) if records < told => {
                Err(Refusal::WorkerJournalTooOld { node, records, told })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A worker takes up a node that has yet to tell what it holds.
    fn join_recount(
        &self,
        node: NodeNumber,
        join: &Join,
        now: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        let Some(state) = self.nodes.get(node.index()) else { return Ok(Vec::new()) };
        if state.recount == Recount::LeftOut {
            return Err(Refusal::LeftOut { node: join.node.clone() });
        }
        self.check_not_older(node, join)?;
        let Join { incarnation, claimed_max, store_claimed, orders_seen, .. } = *join;
        // Whoever has lost its journal has kept what the store was claimed at.
        let claimed = claimed_max.max(store_claimed);
        let mut records = Vec::new();
        if state.incarnation != Some(incarnation) || self.must_join(node) {
            records.push(joined(node, join, now));
        }
        if claimed > state.issued || orders_seen > self.orders_version {
            records.push(Record::ClaimsFound { node, claimed, orders_seen, at: now });
        }
        Ok(records)
    }

    /// What is new in a report; nothing if it is stale or was told before.
    fn news(&self, sync: &Sync, report: &JobReport, now: Timestamp) -> Option<Record> {
        let job = self.jobs.get(report.job.index())?;
        let same = job.generation == report.generation;
        let current = (same || planted::is(Bug::IgnoreGeneration))
            && job.leased_to == Some(sync.incarnation)
            && self.plan.jobs().get(report.job.index())?.node == sync.node;
        if !current {
            return None;
        }
        let known = by_mailbox(self.findings(report.job));
        let told = by_mailbox(&report.findings);
        let facts: Vec<(Ordinal, MailboxState)> = report
            .facts
            .iter()
            .filter_map(|(ordinal, state)| {
                let before = job.states.get(ordinal.index())?;
                let merged = before.merge(*state);
                let closed = !merged.is_open() && !merged.dial_tone;
                let same = merged == before
                    && known.get(ordinal) == told.get(ordinal)
                    // It is news that a mailbox is closed that might have been open.
                    && !(closed && job.reclosed.contains(ordinal));
                (!same).then_some((*ordinal, merged))
            })
            .collect();
        if facts.is_empty() && job.totals == report.totals {
            return None;
        }
        let findings = facts.iter().filter_map(|(ordinal, _)| told.get(ordinal));
        let findings = findings.flatten().map(|finding| (*finding).clone()).collect();
        Some(Record::FactsReported {
            job: report.job,
            generation: report.generation,
            sequence: sync.sequence,
            journaled: sync.account.as_ref().and_then(|it| it.journaled).unwrap_or(0),
            facts,
            totals: report.totals,
            findings,
            at: now,
        })
    }

    /// New jobs for a node that has room to prepare ahead.
    fn leases(&self, sync: &Sync, now: Timestamp) -> Vec<Record> {
        let state = self.nodes.get(sync.node.index());
        let out = state.is_none_or(NodeState::is_out);
        let over = matches!(self.phase, Phase::Halted { .. } | Phase::Aborted(_));
        if out || over {
            return Vec::new();
        }
        let ahead = self.plan.policy().limits.prepare_ahead;
        let reached = self.reached(now);
        let mut unopened: u32 = 0;
        let mut full = false;
        let mut chosen = Vec::new();
        for job in self.plan.jobs_on(sync.node) {
            let its = if full { 0 } else { self.unopened(job.number) };
            full |= unopened > 0 && unopened.saturating_add(its) > ahead;
            // A wave whose turn has come is never kept waiting by what runs ahead of it.
            let is_due = reached.is_none_or(|wave| job.wave <= wave)
                || self.wave(job.wave).allowed > Level::HELD
                || self.plan.has_dial_tone(job.wave);
            if self.job(job.number).leased_to.is_none() && (is_due || !full) {
                chosen.push(job.number);
            }
            unopened = unopened.saturating_add(its);
        }
        let leases = self.generations().zip(chosen).map(|(generation, job)| {
            Record::JobLeased { job, incarnation: sync.incarnation, generation, at: now }
        });
        leases.collect()
    }

    /// Mailboxes of `job` that are to be opened yet, as far as they may be.
    fn unopened(&self, job: JobNumber) -> u32 {
        let held_back = self.held_back_of(job);
        if held_back.is_empty() {
            return self.job(job).stages.shut().into();
        }
        let to_open = ordinals(&self.job(job).states).filter(|(ordinal, state)| {
            let quarantined = state.preparation == Preparation::Quarantined;
            !state.is_open() && !quarantined && !held_back.contains(ordinal)
        });
        u32::try_from(to_open.count()).unwrap_or(u32::MAX)
    }

    /// Generations not issued yet, in order.
    pub(super) fn generations(&self) -> impl Iterator<Item = Generation> + use<> {
        self.generations_above(Generation::default())
    }

    /// The same above `claimed`.
    fn generations_above(
        &self,
        claimed: Generation,
    ) -> impl Iterator<Item = Generation> + use<> {
        let newest = self.generation.max(claimed);
        let again = planted::is(Bug::ReissueGeneration);
        let first = if again { newest } else { newest.next() };
        std::iter::successors(Some(first), |last| Some(last.next()))
    }

    fn on_operate(
        &self,
        operate: &Operate,
        now: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        if self.was_asked(operate)? {
            return Ok(Vec::new());
        }
        self.check_seen(operate)?;
        let action = Action {
            by: operate.by.clone(),
            reason: operate.reason.clone(),
            at: now,
            request: operate.request.clone(),
            approved: operate.approved.clone(),
        };
        let stops = matches!(operate.verb, Verb::Pause | Verb::Freeze);
        let needs_reason = !stops && operate.verb != Verb::EndEmergency;
        if needs_reason && operate.reason.trim().is_empty() {
            return Err(Refusal::ReasonMissing);
        }
        match &self.phase {
            Phase::Aborted(_)
                if !matches!(operate.verb, Verb::Reclose(_) | Verb::Accept(_))
                    && !self.ends_rebuild_paused(operate) =>
            {
                return Err(Refusal::Over { phase: "aborted" });
            }
            Phase::Finished { .. } if matches!(operate.verb, Verb::Abort) => {
                return Err(Refusal::Over { phase: "finished" });
            }
            Phase::Aborted(_)
            | Phase::Finished { .. }
            | Phase::Running
            | Phase::Paused(_)
            | Phase::Halted { .. } => {}
        }
        match operate.verb {
            Verb::Pause if self.ends_rebuild_paused(operate) => {
                self.pause_without(operate, action, now)
            }
            Verb::Pause => self.on_pause(action),
            Verb::Freeze => self.on_freeze(action),
            Verb::Thaw => self.on_thaw(action),
            Verb::Resume(None) => {
                self.check_thawed()?;
                self.check_overruled(operate)?;
                self.check_told_anew(operate)?;
                let ended = self.end_rebuild(operate, now)?;
                Ok(with(ended, self.on_resume(action, None)?))
            }
            Verb::Accept(node) => self.on_accept(action, node, now),
            Verb::Resume(scope) => self.on_resume(action, scope),
            Verb::Expand(wave) => self.on_expand(action, wave, now),
            Verb::BeginEmergency { wave, lasts } => {
                self.on_begin_emergency(action, (wave, lasts), now)
            }
            Verb::EndEmergency => self.on_end_emergency(action, now),
            Verb::Abort => Ok(vec![Record::Aborted(action)]),
            Verb::Reclose(scope) => self.on_reclose(action, scope),
            Verb::Retry(mailbox) => self.on_retry(action, mailbox),
        }
    }

    fn on_pause(&self, action: Action) -> Result<Vec<Record>, Refusal> {
        match &self.phase {
            // What was re-closed may still be coming back after the end.
            Phase::Running | Phase::Finished { .. } => Ok(vec![Record::Paused(action)]),
            Phase::Paused(_) => Err(Refusal::Already { phase: "paused" }),
            Phase::Halted { .. } => Err(Refusal::Already { phase: "halted" }),
            Phase::Aborted(_) => Err(Refusal::Over { phase: "aborted" }),
        }
    }

    fn on_resume(
        &self,
        action: Action,
        scope: Option<Scope>,
    ) -> Result<Vec<Record>, Refusal> {
        let Some(scope) = scope else {
            return match &self.phase {
                Phase::Paused(_) => Ok(vec![Record::Resumed { action, scope: None }]),
                Phase::Halted { reason, wave, epoch, .. } => {
                    let clears = planted::is(Bug::ResumeClearsHalt);
                    if self.wave(*wave).epoch > *epoch || clears {
                        return Ok(vec![Record::Resumed { action, scope: None }]);
                    }
                    Err(Refusal::HaltStands {
                        wave: self.wave_name(*wave).to_owned(),
                        wave_index: wave.get(),
                        reason: reason.to_string(),
                    })
                }
                Phase::Running => Err(Refusal::Already { phase: "running" }),
                Phase::Aborted(_) => Err(Refusal::Over { phase: "aborted" }),
                Phase::Finished { .. } => Err(Refusal::Over { phase: "finished" }),
            };
        };
        self.check_scope(scope)?;
        let held = match scope {
            Scope::Wave(wave) => self.wave(wave).held_back,
            Scope::Node(node) => self
                .nodes
                .get(node.index())
                .is_some_and(|node| node.held_back || node.isolated.is_some()),
            Scope::Mailbox(mailbox) => self.held_back.contains(&mailbox),
        };
        if let Scope::Node(node) = scope
            && self
                .nodes
                .get(node.index())
                .is_some_and(|n| n.isolated.is_some() && !n.held_back)
        {
            let node = self.node_name(node).to_owned();
            return Err(Refusal::IsolationStands { node });
        }
        if !held {
            return Err(Refusal::NotHeldBack { what: self.scope_name(scope) });
        }
        Ok(vec![Record::Resumed { action, scope: Some(scope) }])
    }

    fn on_reclose(&self, action: Action, scope: Scope) -> Result<Vec<Record>, Refusal> {
        self.check_scope(scope)?;
        self.check_told(scope)?;
        let touched: Vec<JobNumber> = match scope {
            Scope::Mailbox(mailbox) => {
                self.plan.place(mailbox).map(|(job, _)| job).into_iter().collect()
            }
            Scope::Wave(_) | Scope::Node(_) => self
                .plan
                .jobs()
                .iter()
                .filter(|job| match scope {
                    Scope::Wave(wave) => job.wave == wave,
                    Scope::Node(node) => job.node == node,
                    Scope::Mailbox(_) => false,
                })
                .map(|job| job.number)
                .collect(),
        };
        let leased = touched.into_iter().filter(|job| self.job(*job).leased_to.is_some());
        let leased = leased.filter(|_| !planted::is(Bug::RecloseInPlace));
        let generations =
            self.generations().zip(leased).map(|(g, job)| (job, g)).collect();
        Ok(vec![Record::Reclosed { action, scope, generations }])
    }

    /// Its job gets a new generation, under which everything of it that is not open is looked at
    /// again, as after a restart of the worker.
    fn on_retry(
        &self,
        action: Action,
        mailbox: MailboxNumber,
    ) -> Result<Vec<Record>, Refusal> {
        let scope = Scope::Mailbox(mailbox);
        self.check_scope(scope)?;
        self.check_told(scope)?;
        let aside = self.mailbox_state(mailbox).preparation == Preparation::Quarantined;
        let place = self.plan.place(mailbox).filter(|_| aside);
        let Some(((job, _), generation)) = place.zip(self.generations().next()) else {
            return Err(Refusal::NotSetAside);
        };
        Ok(vec![Record::Retried { action, mailbox, job, generation }])
    }

    fn check_scope(&self, scope: Scope) -> Result<(), Refusal> {
        let (exists, what) = match scope {
            Scope::Wave(wave) => (wave.index() < self.waves.len(), "wave"),
            Scope::Node(node) => (node.index() < self.nodes.len(), "node"),
            Scope::Mailbox(mailbox) => (self.plan.place(mailbox).is_some(), "mailbox"),
        };
        if exists { Ok(()) } else { Err(Refusal::NoSuch { what: what.to_owned() }) }
    }

    /// Judges what is open, then lets the next step begin if it may.
    fn on_tick(&self, now: Timestamp) -> Vec<Record> {
        if let Some(refusal) = self.unrecorded_doubt() {
            return vec![Self::pause_in_doubt(refusal, now)];
        }
        if let Some(lapsed) = self.lapse(now) {
            return vec![lapsed];
        }
        if let Some(records) = self.on_recounted(now) {
            return records;
        }
        // What stands open is watched after the end too: nodes may come back late.
        if !matches!(self.phase, Phase::Running | Phase::Finished { .. }) {
            return Vec::new();
        }
        let opened = (0..).map(WaveNumber::new).take(self.waves.len());
        for wave in opened.filter(|wave| self.wave(*wave).allowed > Level::HELD) {
            let evidence = self.evidence(wave, now);
            let climbing = self.wave(wave).passed < evidence.level;
            match self.plan.judge(&evidence, now).verdict {
                Verdict::Halt(reason) => {
                    return vec![Record::Halted { reason, evidence, at: now }];
                }
                Verdict::Isolate { node, why } => {
                    return vec![Record::NodeIsolated {
                        node,
                        reason: why,
                        evidence,
                        at: now,
                    }];
                }
                Verdict::Expand if climbing => {
                    return vec![Record::Expanded { evidence, at: now }];
                }
                Verdict::Expand | Verdict::Hold(_) => {}
            }
        }
        let frozen = self.freeze_at_end(now).filter(|_| self.phase == Phase::Running);
        frozen.or_else(|| self.next_step(now)).into_iter().collect()
    }

    /// The next level of the first wave that nothing keeps back.
    fn next_step(&self, now: Timestamp) -> Option<Record> {
        let mut all_passed = true;
        for (wave, turn) in self.turns(now) {
            if let Turn::Next(level) = turn {
                return Some(Record::LevelAllowed { wave, level, at: now });
            }
            all_passed &= turn == Turn::Passed;
        }
        let told = matches!(self.phase, Phase::Finished { .. });
        (all_passed && !told).then_some(Record::Finished { at: now })
    }

    pub(super) fn heard_at(&self, node: NodeNumber) -> Timestamp {
        let heard = self.heard.get(node.index()).and_then(|heard| heard.at);
        heard.unwrap_or(self.awake_since)
    }

    pub(super) fn node_name(&self, node: NodeNumber) -> &str {
        self.plan.inventory().node_names().get(node.index()).map_or("?", String::as_str)
    }

    pub(super) fn wave_name(&self, wave: WaveNumber) -> &str {
        self.plan.waves().get(wave.index()).map_or("?", |wave| wave.name.as_str())
    }

    fn scope_name(&self, scope: Scope) -> String {
        match scope {
            Scope::Wave(wave) => format!("wave {}", self.wave_name(wave)),
            Scope::Node(node) => format!("node {}", self.node_name(node)),
            Scope::Mailbox(_) => "this mailbox".to_owned(),
        }
    }
}

/// What ends a rebuild, with what a person decided by ending it. What was found is not waited
/// out: whatever halts the rollout comes after it.
pub(super) fn with(ended: Vec<Record>, decided: Vec<Record>) -> Vec<Record> {
    let mut records = ended;
    let halts = records.iter().position(|it| matches!(it, Record::Halted { .. }));
    let at = halts.unwrap_or(records.len());
    records.splice(at..at, decided);
    records
}

fn joined(node: NodeNumber, join: &Join, at: Timestamp) -> Record {
    let journaled = join.journaled.unwrap_or(0);
    Record::NodeJoined { node, incarnation: join.incarnation, journaled, at }
}

/// Refuses what would be counted on from and can only be a mistake: nothing of it may ever be
/// on record.
fn possible(event: &Event) -> Result<(), Refusal> {
    let counts: Vec<u64> = match event {
        Event::Join(join) => {
            let claims = [join.claimed_max, join.store_claimed].map(Generation::get);
            let own = [join.orders_seen, join.journaled.unwrap_or(0)];
            claims.into_iter().chain(own).collect()
        }
        Event::Sync(sync) => {
            let reported = sync.reports.iter().map(|report| report.generation.get());
            let own = [sync.claimed_max.get(), sync.orders_obeyed, sync.sequence];
            let account = sync.account.as_ref();
            let told = account.map(|it| {
                [it.recorded, it.journaled.unwrap_or(0), it.store_claimed.get()]
            });
            own.into_iter().chain(told.into_iter().flatten()).chain(reported).collect()
        }
        Event::Operate(_) | Event::Tick => Vec::new(),
    };
    match counts.into_iter().find(|count| *count > COUNT_MAX) {
        Some(count) => Err(Refusal::Impossible { count }),
        None => Ok(()),
    }
}

/// Findings by the mailbox they are about, each in the order in which it was told.
fn by_mailbox(findings: &[Finding]) -> BTreeMap<Ordinal, Vec<&Finding>> {
    let mut by_mailbox: BTreeMap<Ordinal, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        by_mailbox.entry(finding.ordinal).or_default().push(finding);
    }
    by_mailbox
}

/// How many node names an error lists; more would not be read.
const NODES_SHOWN_MAX: usize = 12;
