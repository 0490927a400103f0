//! Recovery: the owner's state from its journal.
//!
//! # Invariants
//!
//! * What may be open behind the journal's back is owed a closing before anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use tidegate_core::fleet::{JobNumber, Ordinal};
use tidegate_core::holding::{DialStep, Record};
use tidegate_wire::worker_record::{Entry, decode_entry};

use super::Node;
use super::doors::ladder;
use crate::description::Description;
use crate::shown::NotShown;
use crate::store::{LetIn, shut_out};

impl Node {
    pub(super) fn replay(&mut self) -> anyhow::Result<()> {
        let mut entries = Vec::new();
        for entry in self.given.journal.replay() {
            entries.push(entry.context("read the journal")?.payload);
        }
        let mut not_shown = NotShown::default();
        let mut not_shut_out = BTreeSet::new();
        for payload in entries {
            match decode_entry(&payload).context("understand the journal")? {
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
                Entry::Record(record) => {
                    if let Record::JobClaimed { job, description, .. } = &record {
                        self.describe(*job, *description)?;
                    }
                    if let Record::Closed { job, ordinals, .. }
                    | Record::DialTone {
                        job, step: DialStep::Ended, ordinals, ..
                    } = &record
                    {
                        not_shut_out.extend(ordinals.iter().map(|it| (*job, *it)));
                    }
                    not_shown.note(&record, &self.holding);
                    self.holding.apply(&record);
                }
                Entry::Shown(_) => not_shown = NotShown::default(),
                Entry::ShutOut(_) => not_shut_out.clear(),
            }
        }
        // Somebody may still be in what was closed when the program ended.
        for (job, ordinal) in not_shut_out {
            self.herald.owe(job, &[ordinal]);
        }
        self.shut_out = !self.herald.owes_any();
        self.unseen = not_shown.0;
        self.shown = self.unseen.is_empty();
        Ok(())
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
