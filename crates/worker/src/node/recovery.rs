//! Recovery: the owner's state from its journal, and the snapshots that keep it short.
//!
//! # Invariants
//!
//! * What may be open behind the journal's back is owed a closing before anything else.
//! * While this node is turned away its journal does not grow: it is told by its length that it
//!   was put back.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{DialStep, Holding, Record};
use tidegate_core::places::Places;
use tidegate_core::planted::{self, Bug};
use tidegate_core::time::Timestamp;
use tidegate_wire::snapshot::{OfNode, decode_node, encode_node};
use tidegate_wire::worker_record::{Entry, decode_entry, is_story};

use super::Node;
use super::doors::ladder;
use crate::description::Description;
use crate::shown::NotShown;
use crate::store::{LetIn, shut_out};

/// What the journal does not know to have been carried out.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    not_shown: NotShown,
    /// Closed, and somebody may still be in them.
    not_shut_out: Places,
}

impl Unconfirmed {
    /// Notes an entry of the journal that is about to be applied to `holding`.
    pub(super) fn note(&mut self, entry: &Entry, holding: &Holding) {
        match entry {
            Entry::Record(record) => {
                if let Record::Closed { job, ordinals, .. }
                | Record::DialTone { job, step: DialStep::Ended, ordinals, .. } =
                    record
                {
                    self.not_shut_out.extend(ordinals.iter().map(|it| (*job, *it)));
                }
                self.not_shown.note(record, holding);
            }
            Entry::Shown(_) => self.not_shown = NotShown::default(),
            Entry::ShutOut(_) => self.not_shut_out.clear(),
            Entry::PutBack(_) => self.not_shut_out.extend(everywhere(holding)),
            Entry::Joined(_) => {}
        }
    }
}

/// Every mailbox that is held.
pub(super) fn everywhere(
    holding: &Holding,
) -> impl Iterator<Item = (JobNumber, Ordinal)> + '_ {
    holding.jobs().flat_map(|(job, held)| {
        let places = (0..).map(Ordinal::new).zip(held.states());
        places.map(move |(ordinal, _)| (job, ordinal))
    })
}

impl Node {
    pub(super) fn replay(&mut self) -> anyhow::Result<()> {
        let mut entries = Vec::new();
        let compacted = self.given.journal.snapshot().context("read the journal")?;
        if let Some(compacted) = compacted {
            self.restore(&compacted.snapshot).context("restore the snapshot")?;
            for entry in self.given.journal.story() {
                entries.push(entry.context("read the journal")?.payload);
            }
        }
        for entry in self.given.journal.replay() {
            entries.push(entry.context("read the journal")?.payload);
        }
        for payload in entries {
            let entry = decode_entry(&payload).context("understand the journal")?;
            self.unconfirmed.note(&entry, &self.holding);
            match entry {
                Entry::Joined(joined) => {
                    anyhow::ensure!(
                        joined.node == self.given.node,
                        "this state belongs to node `{}`, not `{}`; check `node` in the \
                         configuration, or give this node a state directory of its own",
                        joined.node,
                        self.given.node
                    );
                    self.given.doors.set_ladder(ladder(&joined.ladder));
                    self.give_notice(&joined.notice, &joined.dial_services);
                    self.rollout = Some(joined.rollout);
                }
                Entry::Record(Record::Closed { .. })
                    if planted::is(Bug::WorkerForgets) => {}
                Entry::Record(record) => {
                    if let Record::JobClaimed { job, description, .. } = &record {
                        self.describe(*job, *description)?;
                    }
                    self.holding.apply(&record);
                }
                Entry::Shown(_) | Entry::ShutOut(_) | Entry::PutBack(_) => {}
            }
        }
        // Somebody may still be in what was closed when the program ended.
        for (job, ordinal) in self.unconfirmed.not_shut_out.iter() {
            self.herald.owe(job, &[ordinal]);
        }
        self.shut_out = !self.herald.owes_any();
        self.unseen = self.unconfirmed.not_shown.0.clone();
        if planted::is(Bug::ShowAtOnce) {
            self.unseen.clear();
        }
        self.shown = self.unseen.is_empty();
        Ok(())
    }

    /// A journal that knows less of a job than its claim at the store may be an older state of
    /// it, in which mailboxes are open that have been closed since.
    pub(super) fn doubt_what_is_older(&mut self) -> anyhow::Result<()> {
        let claimed = self.given.store.claimed().context("read the store's claims")?;
        self.store_claimed = claimed.values().copied().max().unwrap_or_default();
        let older = self.holding.jobs().filter(|(job, held)| {
            claimed.get(job).is_some_and(|claimed| *claimed > held.generation())
        });
        self.estranged.doubted = older.map(|(job, _)| job).collect();
        if !self.estranged.doubted.is_empty() {
            tracing::warn!(
                jobs = self.estranged.doubted.len(),
                action = "none, if the worker was stopped while it claimed them",
                "the journal is older than the store's claims: nobody is let into the \
                 mailboxes of these jobs before the coordinator has spoken"
            );
        }
        Ok(())
    }

    /// A store that is claimed above everything this run has had orders for belongs to another
    /// one by now: whoever was given up while it stood still tells nothing of what it remembers,
    /// also where a coordinator has forgotten the other one.
    pub(super) fn check_given_up(&self) -> anyhow::Result<()> {
        let claimed = self.given.store.claimed().context("read the store's claims")?;
        self.check_claimed(claimed.into_values().max().unwrap_or_default())
    }

    /// Whoever finds its store claimed by another ends: one of them was given up, and only a run
    /// that starts now, tells of that claim, and is let in by the coordinator, may go on.
    pub(super) fn check_claimed(&self, claimed: Generation) -> anyhow::Result<()> {
        let known = self.store_claimed.max(self.holding.generation_max());
        anyhow::ensure!(
            !self.holding.is_given_up(claimed, self.store_claimed),
            "another worker has claimed mailboxes of this node at {claimed}, this one has had \
             orders up to {known}: it was given up, and must not go on beside the other"
        );
        Ok(())
    }

    fn restore(&mut self, snapshot: &[u8]) -> anyhow::Result<()> {
        let OfNode { at: _, jobs, kept_back, not_shown, not_shut_out } =
            decode_node(snapshot)?;
        for job in &jobs {
            self.describe(job.job, job.description)?;
        }
        self.holding = Holding::restore(jobs, kept_back)?;
        self.unconfirmed = Unconfirmed {
            not_shown: NotShown(not_shown.into_iter().collect()),
            not_shut_out: not_shut_out.into_iter().collect(),
        };
        Ok(())
    }

    /// Begins a snapshot of what is held, all of which is durable, if it is time for one. It is
    /// only noted here, and copied as far as it changes meanwhile; the rest happens in the
    /// background.
    pub(super) fn compact(&self, at: Timestamp) {
        if !self.given.journal.wants_snapshot() {
            return;
        }
        let Unconfirmed { not_shown, not_shut_out } = &self.unconfirmed;
        let (copies, kept_back) = self.holding.copy();
        let snapshot = OfNode {
            at,
            jobs: Vec::new(),
            kept_back,
            not_shown: not_shown.0.iter().collect(),
            not_shut_out: not_shut_out.iter().collect(),
        };
        // Each copy is given back once it is written.
        let jobs = move || copies.into_iter().map(|copy| copy.snapshot());
        let encode = Box::new(move || encode_node(&snapshot, jobs()));
        self.given.journal.compact(is_story, encode);
    }

    pub(super) fn describe(
        &mut self,
        job: JobNumber,
        digest: [u8; 32],
    ) -> anyhow::Result<()> {
        if !self.descriptions.contains_key(&job) {
            let read = Description::read(&*self.given.shelf, job, digest);
            let description =
                read.with_context(|| format!("read the mailboxes of {job}"))?;
            self.descriptions.insert(job, Arc::new(description));
        }
        Ok(())
    }

    /// Whoever may be let in and is held on record was being let in when the program ended.
    pub(super) fn owe_what_may_be_open(&mut self) -> anyhow::Result<()> {
        let mut let_in: BTreeMap<u64, LetIn> = self
            .given
            .store
            .maybe_open()
            .into_iter()
            .map(|it| (it.mailbox.key, it))
            .collect();
        if let_in.is_empty() {
            return Ok(());
        }
        for (job, description) in &self.descriptions {
            let Some(held) = self.holding.job(*job) else { continue };
            for (ordinal, state) in (0..).map(Ordinal::new).zip(held.states()) {
                let mailbox = description.mailbox(ordinal, true);
                let known = mailbox.and_then(|it| let_in.remove(&it.key));
                if known.is_some_and(|known| known.level > state.level) {
                    self.herald.owe(*job, &[ordinal]);
                }
            }
        }
        shut_out(&*self.given.store, let_in.into_values())
    }
}
