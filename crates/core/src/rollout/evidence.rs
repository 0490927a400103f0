//! Evidence: what is known of a wave, for its gate.
//!
//! # Invariants
//!
//! * What is being closed is no evidence of what is opened anew: until its worker has said that
//!   it is closed, a re-closed mailbox counts neither as opened nor as mature. Its failures stay.

use super::tally::{self, Tally};
use super::{NodeState, Rollout};
use crate::fleet::{JobNumber, NodeNumber, TierNumber, WaveNumber};
use crate::gate::{Evidence, NodeEvidence, Pulses, TierEvidence};
use crate::mailbox::{Health, Level, MailboxState, Preparation};
use crate::time::Timestamp;

/// A mailbox that is re-closed and not known to be closed yet.
struct Closing {
    node: NodeNumber,
    tier: TierNumber,
    state: MailboxState,
}

impl Rollout {
    /// What is known at `now` about the step of the ladder `wave` is allowed to stand on.
    pub fn evidence(&self, wave: WaveNumber, now: Timestamp) -> Evidence {
        let state = self.wave(wave);
        let (hurried, allowed_at) = self.watch(wave, now);
        let level = state.allowed;
        let planned = self.plan.waves().get(wave.index());
        let closing = self.closing_in(wave);
        let nodes: Vec<NodeEvidence> = state
            .tallies
            .iter()
            .map(|tally| self.node_evidence(wave, tally, level, &closing))
            .collect();
        Evidence {
            wave,
            level,
            epoch: state.epoch,
            allowed_at,
            hurried,
            watched_from: self.awake_since,
            planned: nodes.iter().map(|node| node.planned).sum(),
            tiers: planned.map_or(Vec::new(), |planned| {
                planned
                    .by_tier
                    .iter()
                    .map(|(tier, _)| self.tier_evidence(wave, *tier, &closing))
                    .collect()
            }),
            nodes,
            fleet_nodes: u16::try_from(self.nodes.len()).unwrap_or(u16::MAX),
            isolated_before: self.out_of_service(),
            externals: self.answers.iter().map(|it| it.since(allowed_at)).collect(),
        }
    }

    fn tier_evidence(
        &self,
        number: WaveNumber,
        tier: TierNumber,
        closing: &[Closing],
    ) -> TierEvidence {
        let wave = self.wave(number);
        let working = wave.tallies.iter().filter(|tally| {
            let node = self.nodes.get(tally.node.index());
            node.is_some_and(|node| !node.is_out())
        });
        let (planned, mature) = working.fold((0, 0), |(planned, mature), tally| {
            let (can, has) = tally.maturing(tier);
            let held_back = self.held_back_in(number, tally.node, Some(tier));
            let stale = closing.iter().filter(|it| {
                it.node == tally.node
                    && it.tier == tier
                    && it.state.health == Health::Healthy
            });
            let has = has.saturating_sub(count(stale));
            (planned + can.saturating_sub(held_back), mature + has)
        });
        TierEvidence { tier, planned, mature }
    }

    fn node_evidence(
        &self,
        wave: WaveNumber,
        tally: &Tally,
        level: Level,
        closing: &[Closing],
    ) -> NodeEvidence {
        let heard = self.heard.get(tally.node.index()).copied().unwrap_or_default();
        let node = self.nodes.get(tally.node.index());
        let held_back = self.held_back_in(wave, tally.node, None);
        // What is being closed shows nothing of what is opened anew.
        let here = || closing.iter().filter(|it| it.node == tally.node);
        let stale_opened = count(here().filter(|it| tally::is_opened(it.state, level)));
        let stale_mature = count(here().filter(|it| tally::is_mature(it.state, level)));
        NodeEvidence {
            node: tally.node,
            isolated: node.is_some_and(NodeState::is_out),
            planned: tally.planned().saturating_sub(held_back),
            settled: tally.settled().min(tally.planned().saturating_sub(held_back)),
            quarantined: tally.quarantined(),
            opened: tally.opened(level).saturating_sub(stale_opened),
            mature: tally.mature(level).saturating_sub(stale_mature),
            failed: tally.failed(),
            integrity_failed: tally.integrity_failed(),
            // What the worker sees are its own probes; sessions are the mail system's.
            sessions: 0,
            probes: heard.vitals.probes,
            probes_slow: heard.vitals.probes_slow,
            reported_at: heard.at,
            disk_free: heard.vitals.disk_free,
            pulses: self.pulses_since(wave, tally.node),
        }
    }

    /// Mailboxes of `wave` that are re-closed and not known to be closed yet.
    fn closing_in(&self, wave: WaveNumber) -> Vec<Closing> {
        let Some(planned) = self.plan.waves().get(wave.index()) else {
            return Vec::new();
        };
        let jobs = planned.jobs.clone().map(JobNumber::new);
        let closing = jobs.flat_map(|number| {
            let (job, members) = (self.job(number), self.plan.members(number));
            let node = self.plan.jobs().get(number.index()).map(|job| job.node);
            job.reclosed.iter().filter_map(move |ordinal| {
                let state = job.states.get(ordinal.index())?;
                let tier = self.plan.inventory().tier(*members.get(ordinal.index())?);
                Some(Closing { node: node?, tier, state })
            })
        });
        closing.collect()
    }

    /// What the mail system of `node` has shown since `wave` was allowed, as far back as
    /// minutes count.
    fn pulses_since(&self, wave: WaveNumber, node: NodeNumber) -> Pulses {
        let heard = self.heard.get(node.index()).copied().unwrap_or_default();
        let (Some(window), Some(at)) = (self.pulses.get(node.index()), heard.at) else {
            return Pulses::default();
        };
        let counting = at - self.plan.policy().gate.signals.window;
        let from = self.wave(wave).allowed_at.max(counting);
        window.since(from, &heard.vitals.pulses)
    }

    /// Mailboxes of `wave` on `node`, of `tier` if one is named, that somebody put back one
    /// by one; quarantined ones are counted as such already.
    fn held_back_in(
        &self,
        wave: WaveNumber,
        node: NodeNumber,
        tier: Option<TierNumber>,
    ) -> u32 {
        let inventory = self.plan.inventory();
        let count = self.held_back.iter().filter(|mailbox| {
            self.plan
                .place(**mailbox)
                .and_then(|(job, _)| self.plan.jobs().get(job.index()))
                .is_some_and(|job| job.wave == wave && job.node == node)
                && tier.is_none_or(|tier| inventory.tier(**mailbox) == tier)
                && self.mailbox_state(**mailbox).preparation != Preparation::Quarantined
        });
        u32::try_from(count.count()).unwrap_or(u32::MAX)
    }
}

fn count<'a>(closing: impl Iterator<Item = &'a Closing>) -> u32 {
    u32::try_from(closing.count()).unwrap_or(u32::MAX)
}
