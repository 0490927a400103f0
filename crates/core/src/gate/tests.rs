//! What a gate says, sentence by sentence.

mod minutes;

use std::sync::LazyLock;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{
    Escalation, Evidence, GatePolicy, GatePolicyError, HaltReason, HoldReason,
    IsolateReason, Mode, NodeEvidence, RecordError, Signal, SignalPolicy, Standing,
    TierEvidence, Verdict, VerdictRecord, judge,
};
use crate::fleet::{NodeNumber, TierNumber, WaveNumber};
use crate::mailbox::Level;
use crate::share::Ppm;
use crate::time::{Span, Timestamp};

#[test]
fn a_healthy_wave_expands() {
    check(healthy(), &expect!["expand"]);
}

#[test]
fn nothing_known_at_all_holds() {
    check(
        Evidence { allowed_at: ALLOWED, ..Evidence::default() },
        &expect![
            "hold: a person must decide: opening has all its 0 samples, 303 more would be needed; a person must decide: preparation has all its 0 samples, 73 more would be needed"
        ],
    );
}

#[test]
fn zero_reports_hold() {
    let mut evidence = healthy();
    for node in &mut evidence.nodes {
        let NodeEvidence { node: number, planned, .. } = *node;
        *node = NodeEvidence { node: number, planned, ..NodeEvidence::default() };
    }
    evidence.tiers.iter_mut().for_each(|tier| tier.mature = 0);

    check(
        evidence,
        &expect![
            "hold: 0 of 4 workers have reported lately; 0 of 600 mailboxes settled, 0 of them quarantined, 0 opened; opening has 0 of 303 samples; preparation has 0 of 73 samples; 0 of 4 nodes have mature mailboxes; tier 0 has 0 of 30 mature mailboxes; tier 1 has 0 of 30 mature mailboxes"
        ],
    );
}

#[test]
fn fifty_five_good_and_forty_five_failed_never_advance() {
    let mut spread = healthy();
    spread.planned = 100;
    for node in &mut spread.nodes {
        *node = NodeEvidence { mature: 14, failed: 11, ..node_of(node, 25) };
    }
    (spread.nodes[3].mature, spread.nodes[3].failed) = (13, 12);
    check(
        spread.clone(),
        &expect!["halt: with node 3, 4 nodes would be isolated, at most 1 may be"],
    );

    spread.nodes.truncate(1);
    spread.fleet_nodes = 1;
    spread.nodes[0] = NodeEvidence { mature: 55, failed: 45, ..node(0, 100) };
    check(
        spread,
        &expect!["halt: with node 0, 1 node would be isolated, at most 0 may be"],
    );
}

#[test]
fn one_integrity_failure_halts_before_anything_else() {
    let mut evidence = healthy();
    evidence.nodes[1].integrity_failed = 1;
    evidence.nodes[0].failed = 100;
    evidence.nodes[2].reported_at = None;

    check(
        evidence,
        &expect![
            "halt: altered, foreign or lost mail in 1 opened mailbox, first on node 1"
        ],
    );
}

#[test]
fn an_integrity_failure_on_an_isolated_node_halts_too() {
    let mut evidence = healthy();
    evidence.nodes[2].isolated = true;
    evidence.nodes[2].integrity_failed = 2;
    evidence.isolated_before = vec![NodeNumber::new(2)];

    check(
        evidence,
        &expect![
            "halt: altered, foreign or lost mail in 2 opened mailboxes, first on node 2"
        ],
    );
}

#[test]
fn one_silent_worker_holds() {
    let mut evidence = healthy();
    evidence.nodes[3].reported_at = Some(NOW - Span::from_secs(31));

    check(evidence, &expect!["hold: 3 of 4 workers have reported lately"]);
}

#[test]
fn a_node_silent_for_too_long_is_isolated_with_its_unproven_mailboxes() {
    let mut evidence = healthy();
    evidence.nodes[3].reported_at = Some(NOW - Span::from_secs(601));
    evidence.nodes[3].mature = 100;

    check(
        evidence,
        &expect!["isolate node 3: 50 of 150 opened mailboxes failed, limit 11"],
    );
}

#[test]
fn after_a_restart_nobody_is_unknown_before_there_was_time_to_report() {
    let mut evidence = healthy();
    evidence.watched_from = NOW - Span::from_secs(5);
    for node in &mut evidence.nodes {
        node.mature = 100;
        node.reported_at = None;
    }

    check(evidence, &expect!["hold: 0 of 4 workers have reported lately"]);
}

#[test]
fn a_fleet_silent_for_too_long_halts() {
    let mut evidence = healthy();
    for node in &mut evidence.nodes {
        node.mature = 100;
        node.reported_at = None;
    }

    check(
        evidence,
        &expect!["halt: with node 0, 4 nodes would be isolated, at most 1 may be"],
    );
}

#[test]
fn more_unknown_mailboxes_than_allowed_hold_even_if_they_trip_nothing() {
    let mut evidence = healthy();
    evidence.nodes[3] = NodeEvidence {
        opened: 60,
        mature: 58,
        reported_at: Some(NOW - Span::from_secs(700)),
        ..node(3, 60)
    };
    evidence.nodes[2] = NodeEvidence { mature: 20, ..node(2, 20) };
    evidence.nodes.drain(..2);
    evidence.planned = 80;

    check(
        evidence,
        &expect![
            "hold: 1 of 2 workers have reported lately; opening has 80 of 488 samples; 2 of 80 opened mailboxes unknown, limit 2 %"
        ],
    );
}

#[test]
fn an_unfinished_wave_holds_however_good_it_is() {
    let mut evidence = healthy();
    let waiting = &mut evidence.nodes[0];
    (waiting.settled, waiting.quarantined, waiting.opened) = (149, 1, 147);
    waiting.mature = 147;

    check(
        evidence,
        &expect!["hold: 599 of 600 mailboxes settled, 1 of them quarantined, 597 opened"],
    );
}

#[test]
fn a_node_missing_from_the_evidence_leaves_the_wave_unfinished() {
    let mut evidence = healthy();
    evidence.nodes.pop();

    check(
        evidence,
        &expect!["hold: 450 of 600 mailboxes settled, 0 of them quarantined, 450 opened"],
    );
}

#[test]
fn a_wave_younger_than_its_soak_holds() {
    let mut evidence = healthy();
    evidence.allowed_at = NOW - Span::from_secs(14 * 60);

    check(evidence, &expect!["hold: soaked 14 min of 15 min"]);
}

#[test]
fn too_few_mature_mailboxes_hold_with_their_number() {
    let mut evidence = healthy();
    evidence.nodes.iter_mut().for_each(|node| node.mature = 50);

    check(evidence, &expect!["hold: opening has 200 of 303 samples"]);
}

#[test]
fn between_the_lines_the_gate_asks_for_more() {
    let mut evidence = healthy();
    for node in &mut evidence.nodes {
        (node.mature, node.failed) = (98, 1);
    }

    check(
        evidence,
        &expect!["hold: 4 of 396 opened mailboxes failed, 276 more samples needed"],
    );
}

#[test]
fn a_question_open_for_too_long_goes_to_a_person() {
    let mut evidence = healthy();
    evidence.planned = 6_000;
    for node in &mut evidence.nodes {
        *node = NodeEvidence { mature: 500, failed: 5, ..node_of(node, 1_500) };
    }

    check(
        evidence,
        &expect![
            "hold: a person must decide: opening undecided after 2020 samples, limit 1662"
        ],
    );
}

#[test]
fn a_wave_that_has_shown_all_it_has_goes_to_a_person() {
    let mut evidence = healthy();
    for node in &mut evidence.nodes {
        (node.mature, node.failed) = (148, 2);
    }

    check(
        evidence,
        &expect![
            "hold: a person must decide: opening has all its 600 samples, 441 more would be needed"
        ],
    );
}

#[test]
fn nodes_without_a_mature_mailbox_hold() {
    let mut evidence = healthy();
    evidence.nodes[0].mature = 0;

    check(evidence, &expect!["hold: 3 of 4 nodes have mature mailboxes"]);
}

#[test]
fn a_tier_that_has_shown_too_little_holds() {
    let mut evidence = healthy();
    evidence.tiers = vec![tier(0, 588, 588), tier(1, 12, 9), tier(2, 100, 29)];

    check(
        evidence,
        &expect![
            "hold: tier 1 has 9 of 10 mature mailboxes; tier 2 has 29 of 30 mature mailboxes"
        ],
    );
}

#[test]
fn a_sick_node_is_isolated_before_it_stops_the_fleet() {
    let mut evidence = healthy();
    (evidence.nodes[2].mature, evidence.nodes[2].failed) = (140, 10);
    evidence.nodes[2].opened = 150;

    check(
        evidence.clone(),
        &expect!["isolate node 2: 10 of its 150 opened mailboxes failed, of 10 in all"],
    );

    evidence.nodes[2].failed = 45;
    check(
        evidence,
        &expect!["isolate node 2: 45 of 185 opened mailboxes failed, limit 13"],
    );
}

#[test]
fn without_its_sick_node_the_fleet_goes_on() {
    let mut evidence = healthy();
    evidence.nodes[2].failed = 45;
    evidence.nodes[2].isolated = true;
    evidence.nodes[2].reported_at = None;
    evidence.isolated_before = vec![NodeNumber::new(2)];

    check(evidence, &expect!["expand"]);
}

#[test]
fn of_two_sick_nodes_the_worse_goes_first() {
    let mut evidence = healthy();
    evidence.fleet_nodes = 5;
    evidence.nodes[1].failed = 30;
    evidence.nodes[3].failed = 50;

    check(
        evidence,
        &expect!["isolate node 3: 50 of 200 opened mailboxes failed, limit 14"],
    );
}

#[test]
fn a_fleet_of_three_may_lose_one_node_and_a_fleet_of_one_none() {
    let mut three = healthy();
    three.fleet_nodes = 3;
    three.nodes.truncate(3);
    three.planned = 450;
    three.nodes[0].failed = 45;
    check(
        three.clone(),
        &expect!["isolate node 0: 45 of 195 opened mailboxes failed, limit 13"],
    );

    three.nodes[0].isolated = true;
    three.isolated_before = vec![NodeNumber::new(0)];
    three.nodes[1].failed = 45;
    check(
        three,
        &expect!["halt: with node 1, 2 nodes would be isolated, at most 1 may be"],
    );

    let mut one = healthy();
    one.fleet_nodes = 1;
    one.nodes.truncate(1);
    one.planned = 150;
    one.nodes[0].failed = 45;
    check(one, &expect!["halt: with node 0, 1 node would be isolated, at most 0 may be"]);
}

#[test]
fn failures_spread_over_the_nodes_halt() {
    let mut evidence = healthy();
    for node in &mut evidence.nodes {
        (node.mature, node.failed) = (145, 5);
    }

    check(evidence, &expect!["halt: 20 of 600 opened mailboxes failed, limit 10"]);
}

#[test]
fn many_quarantined_mailboxes_halt_and_on_one_node_isolate_it() {
    let mut evidence = healthy();
    for node in &mut evidence.nodes {
        (node.quarantined, node.opened, node.mature) = (10, 140, 140);
    }
    check(evidence, &expect!["halt: 40 of 600 settled mailboxes quarantined, limit 18"]);

    let mut evidence = healthy();
    let node = &mut evidence.nodes[1];
    (node.quarantined, node.opened, node.mature) = (25, 125, 125);
    check(
        evidence,
        &expect![
            "isolate node 1: 25 of its 150 settled mailboxes quarantined, of 25 in all"
        ],
    );
}

#[test]
fn slow_probes_hold_and_never_halt() {
    let mut evidence = healthy();
    evidence.nodes.iter_mut().for_each(|node| node.probes_slow = 40);

    check(evidence, &expect!["hold: 160 of 600 probes slow, limit 18"]);
}

#[test]
fn without_a_probe_latency_is_not_asked() {
    let mut evidence = healthy();
    evidence.nodes.iter_mut().for_each(|node| node.probes = 0);

    check(evidence, &expect!["expand"]);
}

#[test]
fn a_nearly_full_disk_holds() {
    let mut evidence = healthy();
    evidence.nodes[1].disk_free = Some(Ppm::new(49_000));
    evidence.nodes[2].disk_free = None;

    check(evidence, &expect!["hold: node 1 has 4.9 % of its disk free, needs 5 %"]);
}

#[test]
fn probes_do_not_replace_the_users_that_a_policy_asks_for() {
    let policy = GatePolicy { sessions_min: 20, ..GatePolicy::default() };
    let mut evidence = healthy();
    check_under(
        &policy,
        evidence.clone(),
        &expect!["hold: 0 of 20 mailboxes used by their users"],
    );

    evidence.nodes.iter_mut().for_each(|node| node.sessions = 5);
    check_under(&policy, evidence, &expect!["expand"]);
}

#[test]
fn a_hold_that_lasts_too_long_asks_for_a_person() {
    let mut evidence = healthy();
    evidence.allowed_at = NOW - Span::from_secs(3 * 3_600);
    evidence.nodes[0].mature = 0;

    check(
        evidence,
        &expect![
            "hold: 3 of 4 nodes have mature mailboxes; a person must decide: held for 3 h, limit 1 h"
        ],
    );
}

#[test]
fn where_every_mailbox_counts_the_last_one_is_waited_for() {
    let mut evidence = small();
    evidence.nodes[1].mature = 3;
    check_under(
        &EVERY,
        evidence,
        &expect!["hold: 11 of 12 opened mailboxes have proved themselves"],
    );

    check_under(&EVERY, small(), &expect!["expand"]);
}

#[test]
fn where_every_mailbox_counts_only_the_allowed_failures_pass() {
    let mut evidence = small();
    (evidence.nodes[1].mature, evidence.nodes[1].failed) = (3, 1);
    check_under(&EVERY, evidence.clone(), &expect!["expand"]);

    (evidence.nodes[0].mature, evidence.nodes[0].failed) = (3, 1);
    check_under(&EVERY, evidence, &expect!["halt: 2 opened mailboxes failed, limit 1"]);
}

#[test]
fn where_every_mailbox_counts_one_sick_node_is_isolated() {
    let mut evidence = small();
    (evidence.nodes[1].mature, evidence.nodes[1].failed) = (2, 2);

    check_under(
        &EVERY,
        evidence,
        &expect!["isolate node 1: 2 of its 4 opened mailboxes failed, of 2 in all"],
    );
}

#[test]
fn where_every_mailbox_counts_a_wave_without_any_proves_nothing() {
    let mut evidence = small();
    for node in &mut evidence.nodes {
        let NodeEvidence { node: number, reported_at, .. } = *node;
        *node = NodeEvidence { node: number, reported_at, ..NodeEvidence::default() };
    }
    evidence.planned = 0;

    check_under(
        &EVERY,
        evidence,
        &expect![
            "hold: a person must decide: opening has all its 0 samples, 1 more would be needed"
        ],
    );
}

#[test]
fn evidence_at_any_time_expands_holds_and_halts_too() {
    let policy = GatePolicy { mode: Mode::EProcess, ..GatePolicy::default() };
    check_under(&policy, healthy(), &expect!["expand"]);

    let mut few = healthy();
    few.nodes.iter_mut().for_each(|node| node.mature = 50);
    check_under(&policy, few, &expect!["hold: opening has 200 of 321 samples"]);

    let mut bad = healthy();
    for node in &mut bad.nodes {
        (node.mature, node.failed) = (145, 5);
    }
    check_under(
        &policy,
        bad,
        &expect!["halt: 20 of 600 opened mailboxes failed, limit 13"],
    );
}

#[test]
fn numbers_show_where_each_signal_stands() {
    let mut evidence = healthy();
    (evidence.nodes[0].mature, evidence.nodes[0].failed) = (148, 1);

    let judgement = judge(&evidence, &GatePolicy::default(), NOW);

    let lines: Vec<_> = judgement.numbers.iter().map(ToString::to_string).collect();
    expect![[r"
        opening passed: 1 failed, 599 of 600 shown; pass at 3, trip at 10, missing 0
        preparation passed: 0 failed, 600 of 600 shown; pass at 13, trip at 18, missing 0
        latency passed: 0 failed, 600 of 600 shown; pass at 13, trip at 18, missing 0"]]
    .assert_eq(&lines.join("\n"));
    assert_eq!((judgement.unknown, judgement.immature), (0, 1));
}

#[test]
fn codes_stay_what_journals_and_metrics_know() {
    let reports = |fresh| HoldReason::WorkersSilent { fresh, expected: 1 };
    let signal = Signal::Opening;
    let node = NodeNumber::new(0);
    let escalations = [
        Escalation::Undecided { signal, samples: 0, limit: 0 },
        Escalation::Exhausted { signal, samples: 0, missing: 0 },
        Escalation::Overdue { waited: Span::ZERO, limit: Span::ZERO },
    ];
    let halts = [
        HaltReason::Integrity { node, mailboxes: 1 },
        HaltReason::Tripped { signal, failed: 0, samples: 0, limit: 0 },
        HaltReason::TooManyNodesIsolated { node, isolated: 1, limit: 0 },
        HaltReason::TooManyFailures { failed: 0, limit: 0 },
    ];
    let why = IsolateReason::Breaker { failed: 0, opened: 0, limit: 0 };
    let verdicts = [
        Verdict::Expand,
        Verdict::Hold(vec![reports(0)]),
        Verdict::Isolate { node, why },
        Verdict::Halt(halts[0]),
    ];

    assert_eq!(verdicts.each_ref().map(Verdict::code), Verdict::CODES);
    let codes = [
        verdicts.iter().map(Verdict::code).collect::<Vec<_>>().join(" "),
        escalations.iter().map(Escalation::code).collect::<Vec<_>>().join(" "),
        halts.iter().map(HaltReason::code).collect::<Vec<_>>().join(" "),
        [reports(0).code(), HoldReason::NeedsPerson(escalations[0]).code()].join(" "),
        [why.code(), signal.code(), Standing::Open.code()].join(" "),
    ];

    expect![[r"
        expand hold isolate halt
        undecided exhausted overdue
        integrity tripped too-many-nodes-isolated too-many-failures
        workers-silent needs-person
        breaker opening open"]]
    .assert_eq(&codes.join("\n"));
}

#[test]
fn the_order_of_nodes_and_tiers_and_a_second_account_change_nothing() {
    let evidence = healthy();
    let mut other = evidence.clone();
    other.nodes.reverse();
    other.tiers.reverse();
    other.nodes.push(evidence.nodes[1]);
    other.nodes.push(NodeEvidence {
        mature: 7,
        reported_at: Some(NOW - Span::from_secs(2)),
        ..evidence.nodes[2]
    });

    let policy = GatePolicy::default();
    let records = [&evidence, &other].map(|e| VerdictRecord::judge(e, &policy, NOW));

    assert_eq!(records[0], records[1]);
    assert_eq!(evidence.to_bytes(), other.to_bytes());
    assert_eq!(evidence.root(), records[1].evidence_root());
}

#[test]
fn a_record_proves_its_verdict_and_no_other() {
    let policy = GatePolicy::default();
    let record = VerdictRecord::judge(&healthy(), &policy, NOW);
    assert_eq!(record.verify(&policy), Ok(()));

    let mut forged = record.clone();
    forged.evidence.nodes[0].failed = 45;
    let error = forged.verify(&policy).unwrap_err();
    expect!["recompute `expand`: the evidence says `isolate node 0: 45 of 195 opened mailboxes failed, limit 13`"].assert_eq(&error.to_string());

    let other = GatePolicy { soak: Span::ZERO, ..policy };
    assert!(matches!(record.verify(&other), Err(RecordError::OtherPolicy { .. })));
}

#[test]
fn every_fact_is_in_the_root() {
    let evidence = Evidence { isolated_before: vec![NodeNumber::new(9)], ..healthy() };
    let changes: [fn(&mut Evidence); 14] = [
        |e| e.wave = WaveNumber::new(8),
        |e| e.level = Level::MAX,
        |e| e.epoch = 1,
        |e| e.allowed_at = NOW,
        |e| e.watched_from = NOW,
        |e| e.planned += 1,
        |e| e.fleet_nodes += 1,
        |e| e.isolated_before.clear(),
        |e| e.tiers[0].mature -= 1,
        |e| e.nodes[0].isolated = true,
        |e| e.nodes[0].sessions = 1,
        |e| e.nodes[0].probes_slow = 1,
        |e| e.nodes[0].reported_at = None,
        |e| e.nodes[0].disk_free = None,
    ];

    for (place, change) in changes.iter().enumerate() {
        let mut other = evidence.clone();
        change(&mut other);
        assert_ne!(other.root(), evidence.root(), "change {place}");
    }
}

#[test]
fn the_default_policy_makes_sense_and_says_how_large_a_wave_must_be() {
    let policy = GatePolicy::default();

    assert_eq!(policy.check(), Ok(()));
    assert_eq!((policy.n_min(), policy.wave_min()), (304, 456));
    let process = GatePolicy { mode: Mode::EProcess, ..policy.clone() };
    assert!(process.n_min() > policy.n_min());
    assert_eq!((EVERY.n_min(), EVERY.wave_min()), (0, 0));
    let isolated = [0, 1, 2, 3, 4, 5, 40, 100].map(|fleet| policy.isolated_max(fleet));
    assert_eq!(isolated, [0, 0, 0, 1, 1, 2, 2, 5]);
}

#[test]
fn a_policy_under_which_no_gate_makes_sense_is_refused() {
    let opening = GatePolicy::default().opening;
    let check = |opening: SignalPolicy| {
        GatePolicy { opening, ..GatePolicy::default() }.check().unwrap_err().to_string()
    };
    let errors = [
        check(SignalPolicy { p_ok: Ppm::ZERO, ..opening }),
        check(SignalPolicy { p_ok: opening.p_bad, ..opening }),
        check(SignalPolicy { p_bad: Ppm::WHOLE, ..opening }),
        check(SignalPolicy { alpha: Ppm::new(500_000), ..opening }),
        check(SignalPolicy { beta: Ppm::ZERO, ..opening }),
    ];
    let late = GatePolicy { unknown_after: Span::from_secs(1), ..GatePolicy::default() };

    expect![[r"
        opening: p_ok must be above 0 %
        opening: p_ok is 2 %, must be below p_bad, which is 2 %
        opening: p_bad is 100 %, must be below 100 %
        opening: alpha is 50 %, must be above 0 % and below 50 %
        opening: beta is 0 %, must be above 0 % and below 50 %"]]
    .assert_eq(&errors.join("\n"));
    assert!(matches!(late.check(), Err(GatePolicyError::UnknownBeforeSilent { .. })));
}

#[test]
fn even_a_senseless_policy_never_expands_on_nothing() {
    let rates = [0, 1, 500_000, 1_000_000, u32::MAX].map(Ppm::new);
    for p_ok in rates {
        for p_bad in rates {
            for alpha in rates {
                let opening = SignalPolicy { p_ok, p_bad, alpha, beta: alpha };
                let policy = GatePolicy { opening, ..EVERY.clone() };
                let policy = GatePolicy { mode: Mode::Sequential, ..policy };
                let judgement = judge(&Evidence::default(), &policy, NOW);
                assert_ne!(judgement.verdict, Verdict::Expand);
            }
        }
    }
}

proptest! {
    #[test]
    fn bad_news_and_silence_never_open_a_gate(
        node in 0_usize..4,
        failed in 0_u32..20,
        mature in 0_u32..=150,
        silent_seconds in 0_u64..2_000,
    ) {
        let policy = GatePolicy::default();
        let mut before = healthy();
        before.nodes[node].mature = mature;
        let mut after = before.clone();
        after.nodes[node].mature = mature.saturating_sub(failed);
        after.nodes[node].failed = failed;
        after.nodes[node].reported_at = Some(NOW - Span::from_secs(silent_seconds));

        let [before, after] = [before, after].map(|e| judge(&e, &policy, NOW).verdict);

        prop_assert!(before == Verdict::Expand || after != Verdict::Expand);
        prop_assert!(silent_seconds <= 30 || after != Verdict::Expand);
    }

    #[test]
    fn whatever_is_reported_is_judged_alike_in_any_order(
        counts in prop::collection::vec(prop::array::uniform9(0_u32..200), 1..6),
        rotation in 0_usize..6,
    ) {
        let nodes: Vec<_> = (0..).zip(&counts).map(|(number, counts)| odd_node(number, *counts)).collect();
        let evidence = Evidence { nodes, ..healthy() };
        let mut rotated = evidence.clone();
        let middle = rotation % rotated.nodes.len();
        rotated.nodes.rotate_left(middle);
        let policy = GatePolicy::default();

        let judgement = judge(&evidence, &policy, NOW);

        prop_assert_eq!(&judgement, &judge(&rotated, &policy, NOW));
        prop_assert_eq!(evidence.root(), rotated.root());
    }
}

/// Judges `evidence` under the default policy and compares what is said.
fn check(evidence: Evidence, expected: &Expect) {
    check_under(&GatePolicy::default(), evidence, expected);
}

#[expect(clippy::needless_pass_by_value, reason = "tests hand over what they have made")]
fn check_under(policy: &GatePolicy, evidence: Evidence, expected: &Expect) {
    let judgement = judge(&evidence, policy, NOW);
    expected.assert_eq(&judgement.verdict.to_string());
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const ALLOWED: Timestamp = Timestamp::from_millis(1_700_000_000_000 - 30 * 60_000);

/// For small providers, with one failure allowed.
static EVERY: LazyLock<GatePolicy> = LazyLock::new(|| GatePolicy {
    mode: Mode::EveryMailbox { failures_max: 1 },
    ..GatePolicy::default()
});

/// 600 mailboxes on four nodes, all well.
fn healthy() -> Evidence {
    Evidence {
        wave: WaveNumber::new(0),
        level: Level::FIRST,
        allowed_at: ALLOWED,
        planned: 600,
        nodes: (0..4).map(|number| node(number, 150)).collect(),
        tiers: vec![tier(0, 500, 500), tier(1, 100, 100)],
        fleet_nodes: 4,
        ..Evidence::default()
    }
}

/// Twelve mailboxes on three nodes, all well.
fn small() -> Evidence {
    Evidence {
        planned: 12,
        nodes: (0..3).map(|number| node(number, 4)).collect(),
        tiers: vec![tier(0, 12, 12)],
        fleet_nodes: 3,
        ..healthy()
    }
}

fn node(number: u16, mailboxes: u32) -> NodeEvidence {
    let node = NodeEvidence { node: NodeNumber::new(number), ..NodeEvidence::default() };
    node_of(&node, mailboxes)
}

fn node_of(node: &NodeEvidence, mailboxes: u32) -> NodeEvidence {
    NodeEvidence {
        node: node.node,
        planned: mailboxes,
        settled: mailboxes,
        opened: mailboxes,
        mature: mailboxes,
        probes: mailboxes,
        reported_at: Some(NOW - Span::from_secs(1)),
        disk_free: Some(Ppm::new(400_000)),
        ..NodeEvidence::default()
    }
}

fn odd_node(number: u16, counts: [u32; 9]) -> NodeEvidence {
    let [planned, settled, quarantined, opened, mature, failed, integrity, probes, slow] =
        counts;
    NodeEvidence {
        planned,
        settled,
        quarantined,
        opened,
        mature,
        failed,
        integrity_failed: integrity / 190,
        probes,
        probes_slow: slow,
        ..node(number, 0)
    }
}

fn tier(number: u8, planned: u32, mature: u32) -> TierEvidence {
    TierEvidence { tier: TierNumber::new(number), planned, mature }
}
