//! Switch: carrying out what was planned for a batch, to the end, however often it is stopped.
//!
//! # Invariants
//!
//! * Flush, write the intent's name, switch all, flush: what is half done after a stop is done first.
//! * Whoever switches holds his claim until it is durable.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{FlushFailed, Mailbox, PrepareTask, Prepared, Store, fenced};
use crate::finding::Finding;
use crate::intent::Left;
use crate::ledger::MessageCounts;
use crate::refusal::Refusal;
use crate::roots::Act;
use crate::stamp::{Followed, stamp};
use crate::walk::{Reach, escape};

/// A mailbox whose acts are staged.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its stamp as it was read, as a sum; nothing if not all of it is known.
    pub(super) weight: Option<u128>,
    /// Directories that it gets, below it.
    pub(super) tree_dirs: Vec<Vec<u8>>,
    pub(super) acts: Vec<Act>,
    /// Where things were made ready for the acts.
    pub(super) staged: Vec<PathBuf>,
    pub(super) counts: MessageCounts,
    pub(super) set_aside: Vec<Finding>,
    pub(super) doubts: Vec<Finding>,
    pub(super) manifest_digest: [u8; 32],
    pub(super) bytes_read: u64,
}

/// What became of mailboxes of a batch that an earlier run had begun to change, by their place in it.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// How their messages ended.
    counts: HashMap<usize, MessageCounts>,
    refused: Mutex<HashMap<usize, Refusal>>,
    /// Where that was written down.
    intents: HashSet<PathBuf>,
}

impl Resumed {
    /// Whether a mailbox may be judged.
    pub(super) fn check(&self, index: usize) -> Result<(), Refusal> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.remove(&index).map_or(Ok(()), Err)
    }
}

/// What is left to do, by the mailbox's key.
type Rest = Vec<(u64, Left)>;

impl Store {
    /// Brings the mailboxes of a batch that an earlier run had begun to change to the end that was
    /// decided then.
    pub(super) fn resume(
        &self,
        task: &PrepareTask<'_>,
        seats: &[bool],
    ) -> Result<Resumed, FlushFailed> {
        let mut resumed = Resumed::default();
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        if !claims.holds(task.job, task.generation, task.holder) {
            return Ok(resumed);
        }
        let mut refused = HashMap::new();
        let seated = task.mailboxes.iter().zip(seats).enumerate();
        for (index, (mailbox, _)) in seated.filter(|(_, (_, seat))| **seat) {
            let Some((path, left)) = self.intents.take(mailbox.key) else { continue };
            resumed.intents.insert(path.clone());
            // Once it was open, it is as its user left it.
            let roots = self.roots_of(mailbox);
            let done = if mailbox.served { Ok(false) } else { left.carry_out(roots) };
            match done {
                Ok(true) => {
                    resumed.counts.insert(index, left.counts);
                }
                Ok(false) => {
                    // What stays is removed by the next opening.
                    let _ = self.roots.discard(&left.staged());
                }
                Err(refusal) => {
                    refused.insert(index, refusal);
                    self.intents.leave(mailbox.key, (path, left));
                }
            }
        }
        if !resumed.intents.is_empty() {
            self.flush()?;
        }
        resumed.refused = Mutex::new(refused);
        Ok(resumed)
    }

    /// Flush, switch, flush.
    pub(super) fn finish(
        &self,
        task: &PrepareTask<'_>,
        plans: Vec<Result<Planned, Refusal>>,
        resumed: &Resumed,
    ) -> Result<Vec<Result<Prepared, Refusal>>, FlushFailed> {
        let planned = task.mailboxes.iter().zip(&plans).filter_map(|(mailbox, plan)| {
            let plan = plan.as_ref().ok()?;
            Some((mailbox.key, &*plan.acts, plan.counts))
        });
        let draft = match self.intents.draft(&self.roots, planned) {
            Ok(draft) => draft,
            Err(error) => return Ok(self.give_up(plans, &error)),
        };
        if plans.iter().flatten().any(|plan| !plan.acts.is_empty()) {
            self.flush()?;
        }
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        if !claims.holds(task.job, task.generation, task.holder) {
            self.discard(&plans);
            if let Some(draft) = draft {
                draft.withdraw(&self.roots);
            }
            return Ok(fenced(task));
        }
        let intent = match draft.map(|draft| draft.publish(&self.roots)).transpose() {
            Ok(intent) => intent,
            Err(error) => return Ok(self.give_up(plans, &error)),
        };
        let (mut done, left) = self.switch_all(task, plans);
        let rest = left.iter().map(|(key, left)| (*key, &*left.acts, left.counts));
        let rest = self.intents.draft(&self.roots, rest);
        self.flush()?;
        let rest = rest.and_then(|it| it.map(|it| it.publish(&self.roots)).transpose());
        // The intent of all serves as well as that of the rest.
        if let Some(path) = rest.ok().flatten().or_else(|| intent.clone()) {
            for (key, left) in left {
                self.intents.leave(key, (path.clone(), left));
            }
        }
        for path in resumed.intents.iter().chain(&intent) {
            self.intents.settle(&self.roots, path);
        }
        for (index, counts) in &resumed.counts {
            if let Some(Ok(prepared)) = done.get_mut(*index) {
                prepared.counts = *counts;
            }
        }
        Ok(done)
    }

    /// Switches the mailboxes of a batch; what became of each, and what is left to do.
    fn switch_all(
        &self,
        task: &PrepareTask<'_>,
        plans: Vec<Result<Planned, Refusal>>,
    ) -> (Vec<Result<Prepared, Refusal>>, Rest) {
        let plans: Vec<Mutex<Option<Result<Planned, Refusal>>>> =
            plans.into_iter().map(|plan| Mutex::new(Some(plan))).collect();
        let left = Mutex::new(Vec::new());
        let done = self.roots.crew.work(task.mailboxes, |index, mailbox, _| {
            let plan = plans.get(index).and_then(|plan| {
                plan.lock().unwrap_or_else(PoisonError::into_inner).take()
            });
            let busy = || Refusal::Busy { path: escape(&mailbox.path) };
            self.switch(mailbox, plan.ok_or_else(busy)??).map_err(|(refusal, rest)| {
                let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                left.extend(rest.map(|rest| (mailbox.key, rest)));
                refusal
            })
        });
        (done, left.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Carries out one plan. If that fails: why, and what the next run has to do first.
    fn switch(
        &self,
        mailbox: &Mailbox,
        plan: Planned,
    ) -> Result<Prepared, (Refusal, Option<Left>)> {
        let Planned {
            weight,
            tree_dirs,
            acts,
            mut staged,
            counts,
            set_aside,
            doubts,
            manifest_digest,
            bytes_read,
        } = plan;
        let roots = self.roots_of(mailbox);
        let at = (&roots.live, &*mailbox.path);
        let followed =
            weight.and_then(|sum| Followed::begin(at, sum, (&acts, tree_dirs)));
        let mut live = Reach::new(&roots.live);
        let switched = acts.iter().try_for_each(|act| roots.carry_out(act, &mut live));
        // Where somebody else was at work, all is judged anew.
        if !matches!(switched, Err(Refusal::Changed { .. })) {
            let taken: HashSet<&Path> = acts.iter().filter_map(Act::staged).collect();
            staged.retain(|it| !taken.contains(&**it));
        }
        // What stays is removed by the next opening.
        let _ = self.roots.discard(&staged);
        let stamp = switched.and_then(|()| match followed.and_then(Followed::end) {
            Some(stamp) => Ok(stamp),
            None => stamp(&roots.live, &mailbox.path),
        });
        match stamp {
            Ok(stamp) => Ok(Prepared {
                stamp,
                counts,
                set_aside,
                doubts,
                manifest_digest,
                bytes_read,
            }),
            Err(refusal @ Refusal::Changed { .. }) => Err((refusal, None)),
            Err(refusal) => Err((refusal, Some(Left { acts, counts }))),
        }
    }

    /// Nothing of a batch can be switched: its intent cannot be written.
    fn give_up(
        &self,
        plans: Vec<Result<Planned, Refusal>>,
        error: &io::Error,
    ) -> Vec<Result<Prepared, Refusal>> {
        self.discard(&plans);
        let refuse = |_| {
            let error = match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            Err(Refusal::write(b"intents", error))
        };
        plans.into_iter().map(|plan| plan.and_then(refuse)).collect()
    }

    fn discard(&self, plans: &[Result<Planned, Refusal>]) {
        for plan in plans.iter().flatten() {
            // What stays is removed by the next opening.
            let _ = self.roots.discard(&plan.staged);
        }
    }
}
