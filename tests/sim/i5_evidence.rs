//! I5 no expansion on bad or missing evidence: a verdict recomputes and agrees with what truly
//! happened, waves climb in order, and no mailbox stands higher than was permitted.

use tidegate_core::fleet::{JobNumber, NodeNumber, WaveNumber};
use tidegate_core::gate::{
    Escalation, Evidence, HoldReason, NodeEvidence, Signal, Verdict, judge,
};
use tidegate_core::mailbox::Level;
use tidegate_core::policy::calendar::open_until;
use tidegate_core::rollout::{Orders, Record};
use tidegate_core::time::Timestamp;

use crate::chronicle::above;
use crate::diary::number;
use crate::fleet::LEVELS;
use crate::world::{Checked, World, broken};

const I5: &str = "I5 no expansion on bad evidence";

/// Before a record is taken up.
pub(crate) fn check_record(world: &World, record: &Record) -> Checked {
    match record {
        Record::LevelAllowed { wave, level, at } => {
            check_allowed(world, *wave, *level, *at)
        }
        Record::Expanded { evidence, at } => check_expanded(world, evidence, *at),
        Record::Overridden { action, evidence } => {
            check_overridden(world, evidence, action.at)
        }
        Record::Resumed { scope: None, .. } => match world.oracle.chronicle.halted {
            Some(wave) => {
                broken(I5, format!("resumed, but halted wave {wave} is not re-closed"))
            }
            None => Ok(()),
        },
        Record::Halted { evidence, at, .. } => {
            let gate = world.fleet.plan.policy().gate_of(evidence);
            match judge(evidence, &gate, *at).verdict {
                Verdict::Halt(_) => Ok(()),
                other => broken(I5, format!("halted, but it recomputes to {other:?}")),
            }
        }
        _ => Ok(()),
    }
}

fn check_expanded(world: &World, evidence: &Evidence, at: Timestamp) -> Checked {
    check_hurry(world, evidence, at)?;
    let gate = world.fleet.plan.policy().gate_of(evidence);
    let verdict = judge(evidence, &gate, at).verdict;
    if verdict != Verdict::Expand {
        return broken(I5, format!("expanded, but it recomputes to {verdict:?}"));
    }
    check_nodes(world, evidence)
}

/// A wave is hurried only while people answer for it; when they do no more, it soaks anew.
fn check_hurry(world: &World, evidence: &Evidence, at: Timestamp) -> Checked {
    let (chronicle, wave) = (&world.oracle.chronicle, evidence.wave.index());
    let in_force = chronicle
        .hurried
        .is_some_and(|(of, until)| of.is_none_or(|of| of == wave) && at < until);
    if evidence.hurried && !in_force {
        return broken(I5, format!("{} is hurried, and nobody asked", evidence.wave));
    }
    let ended = chronicle.unhurried.get(&wave);
    if ended.is_some_and(|ended| evidence.allowed_at < *ended) {
        return broken(
            I5,
            format!("{} soaks since before it was hurried", evidence.wave),
        );
    }
    Ok(())
}

/// What the verdict counts of nodes is what they have told and done.
fn check_nodes(world: &World, evidence: &Evidence) -> Checked {
    evidence.nodes.iter().filter(|node| !node.isolated).try_for_each(|node| {
        if !world.oracle.heard.contains_key(&node.node) {
            return broken(I5, format!("{} was not heard since the start", node.node));
        }
        check_counts(world, evidence, node)
    })
}

/// People let a wave pass: it was held for want of samples alone, everybody had reported lately,
/// and nothing was stopped.
fn check_overridden(world: &World, evidence: &Evidence, at: Timestamp) -> Checked {
    let chronicle = &world.oracle.chronicle;
    if chronicle.frozen.is_some() || chronicle.halted.is_some() || chronicle.over {
        return broken(
            I5,
            "a hold is overridden of a rollout that is stopped".to_owned(),
        );
    }
    let climb = chronicle.climbs[evidence.wave.index()];
    if climb.allowed != evidence.level.get() || climb.passed >= climb.allowed {
        return broken(I5, format!("{} is overridden at {climb:?}", evidence.wave));
    }
    let gate = world.fleet.plan.policy().gate_of(evidence);
    check_hurry(world, evidence, at)?;
    let Verdict::Hold(reasons) = judge(evidence, &gate, at).verdict else {
        return broken(I5, "overridden, and it recomputes to no hold".to_owned());
    };
    if let Some(reason) = reasons.iter().find(|reason| !is_scarcity(reason)) {
        return broken(I5, format!("overridden in spite of {reason}"));
    }
    let silent = |node: &&NodeEvidence| {
        !node.isolated
            && node.reported_at.is_none_or(|told| at.since(told) > gate.report_age_max)
    };
    if let Some(node) = evidence.nodes.iter().find(silent) {
        return broken(I5, format!("overridden while {} is silent", node.node));
    }
    check_nodes(world, evidence)
}

/// Whether a wave waits for no more than further samples. Said here once more, so that the
/// program's own list is not judged by itself.
fn is_scarcity(reason: &HoldReason) -> bool {
    match reason {
        HoldReason::TooFew { signal, .. }
        | HoldReason::Undecided { signal, .. }
        | HoldReason::NeedsPerson(
            Escalation::Undecided { signal, .. } | Escalation::Exhausted { signal, .. },
        ) => *signal != Signal::Preparation,
        HoldReason::NodesShort { .. }
        | HoldReason::TierShort { .. }
        | HoldReason::OnlySynthetic { .. }
        | HoldReason::Unproven { .. }
        | HoldReason::NeedsPerson(Escalation::Overdue { .. }) => true,
        _ => false,
    }
}

/// The counts of a verdict against what nodes have on disk and have told.
fn check_counts(world: &World, evidence: &Evidence, node: &NodeEvidence) -> Checked {
    let level = evidence.level.get();
    let (mut healthy, mut bad) = (0, 0);
    for at in members(world, evidence.wave, node.node) {
        let (place, seen) = (&world.fleet.places[at], world.oracle.seen[at]);
        let leased = world.oracle.chronicle.leased.get(&place.job).map(|(it, _)| *it);
        let proven =
            seen.proven.is_some_and(|(of, on)| Some(of) == leased && on >= level);
        healthy += u32::from(proven || seen.risen > level);
        bad += u32::from(leased.is_some() && seen.told_bad == leased);
    }
    if node.mature > healthy {
        let text = format!("{}: {} mature, truly {healthy}", node.node, node.mature);
        return broken(I5, text);
    }
    let told = node.failed + node.integrity_failed;
    if told < bad {
        return broken(I5, format!("{}: {told} failed, {bad} were told", node.node));
    }
    Ok(())
}

fn members(world: &World, wave: WaveNumber, node: NodeNumber) -> Vec<usize> {
    let all = 0..world.fleet.places.len();
    all.filter(|at| {
        world.fleet.places[*at].node == node.index()
            && world.fleet.wave(*at) == wave.index()
    })
    .collect()
}

/// Nothing early, nothing out of order, and whoever is passed on the way waits for a schedule:
/// its own, or that of one before it.
fn check_allowed(
    world: &World,
    wave: WaveNumber,
    level: Level,
    at: Timestamp,
) -> Checked {
    let climbs = &world.oracle.chronicle.climbs;
    let plan = &world.fleet.plan;
    let due = |wave: WaveNumber, passed_at: u64, level: Level| {
        Timestamp::from_millis(passed_at) + plan.delay(wave, level)
    };
    let own = climbs[wave.index()];
    if above(own.passed) != level || own.allowed != own.passed {
        return broken(I5, format!("{wave} is allowed {level} from {own:?}"));
    }
    if own.passed_at > 0 && at < due(wave, own.passed_at, level) {
        return broken(I5, format!("{wave} takes {level} too early"));
    }
    let rules = &plan.policy().calendar;
    if open_until(rules.iter(), at).is_none() {
        return broken(I5, format!("{wave} takes {level} outside of every window"));
    }
    let mut lowest = LEVELS;
    let before = (0..).map(WaveNumber::new).zip(climbs).take(wave.index());
    for (number, climb) in before {
        let next = above(climb.passed);
        let scheduled = climb.passed_at > 0 && at < due(number, climb.passed_at, next);
        // It may have been outside of its window, or would not have been done in it.
        let scheduled = scheduled || !rules.is_empty();
        let waits = scheduled || next.get() > lowest || climb.passed == LEVELS;
        if climb.passed < level.get() || climb.allowed != climb.passed || !waits {
            return broken(
                I5,
                format!("{wave} takes {level} before {number}: {climb:?}"),
            );
        }
        lowest = lowest.min(climb.passed);
    }
    Ok(())
}

/// At most a window of mailboxes of a node may be on its way.
pub(crate) fn check_window(world: &World, orders: &Orders) -> Checked {
    let Some(rollout) = world.coordinator.driven.as_ref().and_then(|it| it.rollout())
    else {
        return Ok(());
    };
    let mut on_the_way = 0;
    for order in orders.jobs.iter().filter(|_| orders.may_open) {
        for ordinal in order.named.iter().flatten() {
            let at = world.fleet.by_place[&(order.job, *ordinal)];
            let state = rollout.mailbox_state(world.fleet.places[at].mailbox);
            on_the_way +=
                usize::from(state.level < order.level && number(state.health) < 2);
        }
    }
    let window = world.fleet.plan.policy().limits.permit_window;
    if on_the_way > usize::from(window) {
        return broken(I5, format!("{on_the_way} mailboxes of a node may open at once"));
    }
    Ok(())
}

/// Orders that permit a level that the wave was not allowed.
pub(crate) fn check_grant(
    world: &World,
    job: JobNumber,
    level: u8,
    may_open: bool,
) -> Checked {
    let wave = world.fleet.plan.jobs()[job.index()].wave;
    let allowed = world.oracle.chronicle.climbs[wave.index()].allowed;
    if may_open && level > allowed {
        return broken(
            I5,
            format!("{job} is ordered to level {level}, allowed is {allowed}"),
        );
    }
    Ok(())
}

/// A mailbox's doors open: some order must have permitted it.
pub(crate) fn check_opening(world: &World, at: usize, level: u8) -> Checked {
    let place = &world.fleet.places[at];
    let before = world.oracle.seen[at].level;
    if level <= before {
        return Ok(());
    }
    let granted = world.oracle.granted.range((place.job, 0)..=(place.job, u64::MAX));
    let permitted = granted.clone().any(|(_, (highest, below))| {
        *highest >= level && (before > 0 || place.ordinal.get() < *below)
    });
    if permitted {
        return Ok(());
    }
    let granted: Vec<_> = granted.collect();
    broken(I5, format!("u{at} opens to {level}, permitted was {granted:?}"))
}
