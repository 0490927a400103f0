//! Reasons to wait.
//!
//! # Invariants
//!
//! * All reasons are listed, each with its numbers; none hides another.
//! * A signal has at most one reason, and says when a person must decide instead.
//! * A wave is finished before the next one starts: however good the first mailboxes were,
//!   every one on a node that is not isolated is settled and, if prepared, opened.
//!   Maturing of all is not waited for: the pass line says how many suffice.

use crate::fleet::NodeNumber;
use crate::share::Ppm;
use crate::time::Timestamp;

use super::Gate;
use super::evidence::{Evidence, TierEvidence};
use super::external::{ExternalEvidence, ExternalPolicy, ShortName};
use super::policy::{GatePolicy, Mode, TIER_SHARE_MAX};
use super::pool::{Pool, PoolNode};
use super::pulse::PulseSignal;
use super::verdict::{Escalation, HoldReason, Signal, SignalNumbers, Standing};

impl GatePolicy {
    /// Whether a signal with these numbers must pass before the next wave opens; any other may
    /// only stop it.
    ///
    /// Where every mailbox must prove itself nothing is inferred from the other signals.
    /// Without a probe there is no latency to judge: what matures was read.
    pub fn must_pass(&self, numbers: &SignalNumbers) -> bool {
        let every = matches!(self.mode, Mode::EveryMailbox { .. });
        match numbers.signal {
            Signal::Opening => true,
            Signal::Preparation | Signal::Pulse(_) | Signal::External(_) => !every,
            Signal::Latency => !every && numbers.mature > 0,
        }
    }
}

impl Gate<'_> {
    /// Everything that still stands between the wave and the next.
    pub(super) fn reasons_to_hold(
        &self,
        evidence: &Evidence,
        pool: &Pool<'_>,
        numbers: &[SignalNumbers],
        now: Timestamp,
    ) -> Vec<HoldReason> {
        let every = matches!(self.policy.mode, Mode::EveryMailbox { .. });
        let elapsed = now.since(evidence.allowed_at);
        let mut reasons = Vec::new();
        reasons.extend(self.workers_silent(pool, now));
        reasons.extend(wave_unfinished(pool));
        if elapsed < self.policy.soak {
            reasons.push(HoldReason::SoakRunning { elapsed, soak: self.policy.soak });
        }
        reasons.extend(numbers.iter().filter_map(|numbers| self.signal(numbers, pool)));
        if every {
            reasons.extend(unproven(pool));
        } else {
            reasons.extend(self.nodes_short(pool));
            reasons
                .extend(evidence.tiers.iter().filter_map(|tier| self.tier_short(*tier)));
        }
        reasons.extend(self.unknown_too_many(pool));
        reasons.extend(self.disks_low(pool));
        for signal in PulseSignal::ALL {
            reasons.extend(self.not_measured(signal, pool));
            reasons.extend(self.no_source(signal, pool));
        }
        for external in &self.policy.external {
            reasons.extend(no_answer(external, pool, now));
        }
        if pool.sessions < self.policy.sessions_min {
            let need = self.policy.sessions_min;
            reasons.push(HoldReason::OnlySynthetic { sessions: pool.sessions, need });
        }
        if !reasons.is_empty() && elapsed > self.policy.escalate_after {
            let limit = self.policy.escalate_after;
            let overdue = Escalation::Overdue { waited: elapsed, limit };
            reasons.push(HoldReason::NeedsPerson(overdue));
        }
        reasons
    }

    fn workers_silent(&self, pool: &Pool<'_>, now: Timestamp) -> Option<HoldReason> {
        let age_max = self.policy.report_age_max;
        let is_fresh = |at: Timestamp| now.since(at) <= age_max;
        let reports = pool.nodes.iter().map(|node| node.evidence.reported_at);
        let fresh = count(reports.flatten().filter(|at| is_fresh(*at)));
        let expected = count(pool.nodes.iter());
        (fresh < expected).then_some(HoldReason::WorkersSilent { fresh, expected })
    }

    /// Why `numbers` do not pass, if they are asked to.
    fn signal(&self, numbers: &SignalNumbers, pool: &Pool<'_>) -> Option<HoldReason> {
        let SignalNumbers { signal, failed, mature: samples, missing, .. } = *numbers;
        if let Signal::External(name) = signal {
            // However good the others were, the newest answer must be.
            let out = self.out_of_bounds(name, pool, false);
            if out.is_some() {
                return out;
            }
        }
        match numbers.standing {
            Standing::Passed => return None,
            Standing::Tripped => return self.too_many(numbers, pool),
            Standing::Open if !self.policy.must_pass(numbers) => return None,
            Standing::Open => {}
        }

        let exhausted = match signal {
            Signal::Opening => pool.is_finished() && pool.unproven == 0,
            Signal::Preparation => pool.settled >= pool.planned,
            Signal::Latency | Signal::Pulse(_) | Signal::External(_) => false,
        };
        let test = self.test(signal);
        let limit = test.samples_max();
        Some(if exhausted {
            HoldReason::NeedsPerson(Escalation::Exhausted { signal, samples, missing })
        } else if samples >= limit {
            HoldReason::NeedsPerson(Escalation::Undecided { signal, samples, limit })
        } else if samples < test.n_min() {
            let need = samples.saturating_add(missing);
            HoldReason::TooFew { signal, have: samples, need }
        } else {
            HoldReason::Undecided { signal, failed, samples, missing }
        })
    }

    /// Why a signal that tripped keeps the wave waiting.
    fn too_many(&self, numbers: &SignalNumbers, pool: &Pool<'_>) -> Option<HoldReason> {
        let SignalNumbers { signal, failed, mature: samples, trip_at: limit, .. } =
            *numbers;
        match signal {
            Signal::Pulse(signal) => {
                let newest = |node: &PoolNode<'_>| {
                    let pulse = node.evidence.pulses.get(signal)?;
                    Some((pulse.latest, node.evidence.node))
                };
                // Of equals the first.
                let worst = |one: (u32, NodeNumber), next: (u32, NodeNumber)| {
                    if next.0 > one.0 { next } else { one }
                };
                let (latest, node) =
                    pool.nodes.iter().filter_map(newest).reduce(worst)?;
                let bound = self.policy.signals.of(signal).limit;
                let (bad, minutes) = (failed, samples);
                Some(HoldReason::Busy {
                    signal,
                    bad,
                    minutes,
                    limit,
                    node,
                    latest,
                    bound,
                })
            }
            Signal::External(name) => self.out_of_bounds(name, pool, true),
            // The first two have halted before.
            Signal::Opening | Signal::Preparation | Signal::Latency => {
                Some(HoldReason::Slow { slow: failed, probes: samples, limit })
            }
        }
    }

    /// Whether the newest answer of `name` is a bad one, or, if `anyhow`, some were.
    fn out_of_bounds(
        &self,
        name: ShortName,
        pool: &Pool<'_>,
        anyhow: bool,
    ) -> Option<HoldReason> {
        let policy = self.policy.external.iter().find(|it| it.name == name)?;
        let ExternalEvidence { latest, answers, answers_bad: bad, answered_at, .. } =
            *pool.external(name)?;
        let bound = policy.bound;
        let is_bad = answered_at.is_some() && bound.is_broken_by(latest);
        (is_bad || anyhow).then_some(HoldReason::OutOfBounds {
            name,
            latest,
            bound,
            bad,
            answers,
        })
    }

    /// The nodes on which `signal` has a source that does not answer, or has not answered
    /// since the wave was allowed: what others have shown says nothing of a node whose worker
    /// has just started. Where nobody has, the minutes that are missing say so, if they are
    /// asked for.
    fn not_measured(&self, signal: PulseSignal, pool: &Pool<'_>) -> Option<HoldReason> {
        let silent_max = self.policy.signals.silent_max;
        let every = matches!(self.policy.mode, Mode::EveryMailbox { .. });
        let some = every || pool.count(Signal::Pulse(signal)).mature > 0;
        let mut silent = pool.nodes.iter().filter_map(|node| {
            let pulse = node.evidence.pulses.get(signal)?;
            let never = some && pulse.minutes == 0;
            let is_silent = never || pulse.silent > silent_max;
            is_silent.then_some((node.evidence.node, pulse.silent))
        });
        let (node, minutes) = silent.next()?;
        let nodes = count(silent).saturating_add(1);
        Some(HoldReason::NotMeasured { signal, node, nodes, silent: minutes })
    }

    /// The nodes that have no source for `signal`, if it is required.
    fn no_source(&self, signal: PulseSignal, pool: &Pool<'_>) -> Option<HoldReason> {
        if !self.policy.signals.of(signal).required {
            return None;
        }
        let nodes = pool.nodes.iter().map(|node| node.evidence);
        let mut without = nodes.filter(|node| node.pulses.get(signal).is_none());
        let node = without.next()?.node;
        let nodes = count(without).saturating_add(1);
        Some(HoldReason::NoSource { signal, node, nodes })
    }

    fn nodes_short(&self, pool: &Pool<'_>) -> Option<HoldReason> {
        let nodes = pool.nodes.iter().map(|node| node.evidence);
        let expected = count(nodes.clone().filter(|node| node.openable() > 0));
        let mature = count(nodes.filter(|node| node.mature > 0));
        let need = self.policy.nodes_min.of_at_least(expected);
        (mature < need).then_some(HoldReason::NodesShort { mature, need })
    }

    fn tier_short(&self, tier: TierEvidence) -> Option<HoldReason> {
        let TierEvidence { tier, planned, mature } = tier;
        let need = self.policy.tier_mature_min.min(TIER_SHARE_MAX.of_at_least(planned));
        (mature < need).then_some(HoldReason::TierShort { tier, mature, need })
    }

    fn unknown_too_many(&self, pool: &Pool<'_>) -> Option<HoldReason> {
        let Pool { unknown, opened, .. } = *pool;
        let limit = self.policy.unknown_max;
        let whole = u64::from(Ppm::WHOLE.parts());
        let is_above =
            u64::from(unknown) * whole > u64::from(opened) * u64::from(limit.parts());
        is_above.then_some(HoldReason::UnknownTooMany { unknown, opened, limit })
    }

    /// The nodes whose disks are nearly full; a store that cannot tell is not asked.
    fn disks_low(&self, pool: &Pool<'_>) -> impl Iterator<Item = HoldReason> {
        let need = self.policy.disk_free_min;
        pool.nodes.iter().filter_map(move |node| {
            let free = node.evidence.disk_free.filter(|free| *free < need)?;
            Some(HoldReason::DiskLow { node: node.evidence.node, free, need })
        })
    }
}

/// Why the newest answer to `external` does not count, if it does not: one from before the
/// wave was allowed says nothing of the wave.
fn no_answer(
    external: &ExternalPolicy,
    pool: &Pool<'_>,
    now: Timestamp,
) -> Option<HoldReason> {
    let (name, limit) = (external.name, external.age_max);
    let answered = pool.external(name).filter(|it| it.answers > 0);
    let answered_at = answered.and_then(|it| it.answered_at);
    let age = answered_at.map(|at| now.since(at));
    let is_fresh = age.is_some_and(|age| age <= limit);
    (!is_fresh).then_some(HoldReason::NoAnswer { name, age, limit })
}

fn wave_unfinished(pool: &Pool<'_>) -> Option<HoldReason> {
    let Pool { settled, opened, quarantined, planned, .. } = *pool;
    (!pool.is_finished()).then_some(HoldReason::WaveUnfinished {
        settled,
        opened,
        quarantined,
        planned,
    })
}

fn unproven(pool: &Pool<'_>) -> Option<HoldReason> {
    let Pool { opened, unproven, .. } = *pool;
    (unproven > 0)
        .then(|| HoldReason::Unproven { proven: opened.saturating_sub(unproven), opened })
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
