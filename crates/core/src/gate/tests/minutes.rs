//! What a gate says of mail systems, minute by minute, and of others' measurements.

use expect_test::expect;

use super::{ALLOWED, EVERY, NOW, check, check_under, healthy};
use crate::fleet::NodeNumber;
use crate::gate::{
    Bound, EXTERNAL_RATES, Evidence, ExternalEvidence, ExternalPolicy, GatePolicy, Pulse,
    PulseSignal, Pulses, ShortName, SignalsPolicy, VerdictRecord, judge,
};
use crate::share::Ppm;
use crate::time::Span;

#[test]
fn quick_mail_systems_let_the_wave_pass() {
    let mut evidence = healthy();
    for signal in PulseSignal::ALL {
        shows(&mut evidence, signal, 15, 0);
    }

    check(evidence, &expect!["expand"]);
}

#[test]
fn too_few_minutes_hold() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::LoginLatency, 2, 0);

    check(evidence, &expect!["hold: login-latency has 8 of 14 samples"]);
}

#[test]
fn a_busy_fleet_holds_and_never_halts() {
    for signal in PulseSignal::ALL.into_iter().filter(|signal| !signal.halts()) {
        let mut evidence = healthy();
        shows(&mut evidence, signal, 15, 15);

        let said = judge(&evidence, &GatePolicy::default(), NOW).verdict.to_string();

        assert!(said.starts_with("hold: 60 of 60 minutes with "), "{signal}: {said}");
    }
}

#[test]
fn a_busy_fleet_is_held_with_the_node_that_is_worst_off() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::LoginLatency, 15, 5);
    let worst = Pulse { latest: 12_500, ..pulse(PulseSignal::LoginLatency, 15, 9) };
    evidence.nodes[2].pulses.set(worst);

    check(
        evidence,
        &expect![
            "hold: 24 of 60 minutes with slow logins, limit 8; node 2 now at 12 s, allowed 5000 ms"
        ],
    );
}

#[test]
fn one_busy_node_of_many_slows_itself_and_holds_nobody() {
    let mut evidence = healthy();
    evidence.nodes = (0..40).map(|number| super::node(number, 150)).collect();
    (evidence.planned, evidence.fleet_nodes) = (6_000, 40);
    shows(&mut evidence, PulseSignal::CommandLatency, 15, 0);
    let busy = pulse(PulseSignal::CommandLatency, 15, 15);
    evidence.nodes[7].pulses.set(busy);

    check(evidence, &expect!["expand"]);
}

#[test]
fn mail_that_cannot_be_delivered_or_read_halts() {
    for signal in PulseSignal::ALL.into_iter().filter(|signal| signal.halts()) {
        let mut evidence = healthy();
        shows(&mut evidence, signal, 15, 5);

        let said = judge(&evidence, &GatePolicy::default(), NOW).verdict.to_string();

        assert!(said.starts_with("halt: 20 of 60 minutes "), "{signal}: {said}");
    }
}

#[test]
fn a_single_node_whose_canary_dies_is_taken_out() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::Canary, 15, 0);
    evidence.nodes[1].pulses.set(pulse(PulseSignal::Canary, 15, 12));

    check(
        evidence,
        &expect![
            "isolate node 1: 12 of its 15 minutes in which the canary failed, of 12 in all"
        ],
    );
}

#[test]
fn one_bad_minute_of_a_canary_stops_nobody() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::Canary, 15, 0);
    evidence.nodes[1].pulses.set(pulse(PulseSignal::Canary, 15, 1));

    check(evidence, &expect!["expand"]);
}

#[test]
fn a_source_that_fell_silent_holds_however_good_it_was() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::DiskLatency, 15, 0);
    for node in [1, 3] {
        let silent = Pulse { silent: 5, ..pulse(PulseSignal::DiskLatency, 15, 0) };
        evidence.nodes[node].pulses.set(silent);
    }

    check(
        evidence,
        &expect![
            "hold: disk-latency not measured for 5 minutes on node 1 and 1 other node"
        ],
    );
}

#[test]
fn a_source_that_never_answered_holds() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::Canary, 0, 0);

    check(evidence, &expect!["hold: canary has 0 of 15 samples"]);
}

#[test]
fn a_node_that_has_shown_nothing_yet_is_not_vouched_for_by_others() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::DiskLatency, 15, 0);
    evidence.nodes[2].pulses.set(pulse(PulseSignal::DiskLatency, 0, 0));

    check(evidence, &expect!["hold: disk-latency not measured yet on node 2"]);
}

#[test]
fn where_every_mailbox_counts_what_has_a_source_must_have_been_measured() {
    let mut evidence = super::small();
    shows(&mut evidence, PulseSignal::Canary, 0, 0);

    check_under(
        &EVERY,
        evidence,
        &expect!["hold: canary not measured yet on node 0 and 2 other nodes"],
    );
}

#[test]
fn what_nobody_measures_is_ignored_and_named_unless_it_is_required() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::Canary, 15, 0);
    evidence.nodes[3].pulses = Pulses::default();

    let judgement = judge(&evidence, &GatePolicy::default(), NOW);
    assert_eq!(judgement.verdict.code(), "expand");
    assert_eq!(judgement.unmeasured.len(), PulseSignal::COUNT - 1);
    assert!(!judgement.unmeasured.contains(&PulseSignal::Canary));

    let mut policy = GatePolicy::default();
    policy.signals.of_mut(PulseSignal::Canary).unwrap().required = true;
    check_under(
        &policy,
        evidence,
        &expect!["hold: canary is required and not measured on node 3"],
    );
}

#[test]
fn what_an_isolated_node_shows_counts_no_more() {
    let mut evidence = healthy();
    shows(&mut evidence, PulseSignal::Canary, 15, 0);
    evidence.nodes[1].pulses.set(pulse(PulseSignal::Canary, 15, 15));
    evidence.nodes[1].isolated = true;
    evidence.isolated_before = vec![NodeNumber::new(1)];

    check(evidence, &expect!["expand"]);
}

#[test]
fn where_every_mailbox_counts_minutes_may_only_stop() {
    let mut evidence = super::small();
    shows(&mut evidence, PulseSignal::LoginLatency, 1, 0);
    check_under(&EVERY, evidence.clone(), &expect!["expand"]);

    shows(&mut evidence, PulseSignal::LoginLatency, 10, 10);
    check_under(
        &EVERY,
        evidence,
        &expect![
            "hold: 30 of 30 minutes with slow logins, limit 5; node 0 now at 10 s, allowed 5000 ms"
        ],
    );
}

#[test]
fn numbers_name_every_signal_that_is_measured() {
    let mut evidence = answered(15, 1, 200_000);
    shows(&mut evidence, PulseSignal::QueueAge, 15, 1);

    let judgement = judge(&evidence, &asks(), NOW);

    let lines: Vec<_> =
        judgement.numbers.iter().skip(3).map(ToString::to_string).collect();
    expect![[r"
        queue-age passed: 4 failed, 60 of 60 shown; pass at 4, trip at 8, missing 0
        auth-db open: 1 failed, 15 of 15 shown; pass at 0, trip at 3, missing 9"]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn an_external_measurement_in_bounds_lets_pass() {
    check_under(&asks(), answered(15, 0, 200_000), &expect!["expand"]);
}

#[test]
fn an_external_measurement_out_of_bounds_holds_at_once_and_until_it_is_good_again() {
    check_under(
        &asks(),
        answered(200, 1, 600_000),
        &expect![
            "hold: `auth-db` is 0.6, must be at most 0.5; 1 of 200 answers were not"
        ],
    );
    check_under(
        &asks(),
        answered(30, 10, 100_000),
        &expect![
            "hold: `auth-db` is 0.1, must be at most 0.5; 10 of 30 answers were not"
        ],
    );
    check_under(
        &asks(),
        answered(15, 1, 100_000),
        &expect![
            "hold: 1 of 15 answers of `auth-db` out of bounds, 9 more samples needed"
        ],
    );
}

#[test]
fn an_external_measurement_that_is_missing_or_old_holds() {
    check_under(
        &asks(),
        healthy(),
        &expect![
            "hold: auth-db has 0 of 14 samples; `auth-db` has not been answered yet"
        ],
    );

    let mut evidence = answered(15, 0, 100_000);
    evidence.externals[0].answered_at = Some(NOW - Span::from_secs(121));
    check_under(
        &asks(),
        evidence,
        &expect!["hold: `auth-db` was last answered 2 min 1 s ago, limit 2 min"],
    );
}

#[test]
fn even_where_every_mailbox_counts_an_external_answer_must_be_good() {
    let policy = GatePolicy { external: asks().external, ..every() };
    let mut evidence = super::small();
    evidence.externals = answered(3, 3, 900_000).externals;

    check_under(
        &policy,
        evidence,
        &expect!["hold: `auth-db` is 0.9, must be at most 0.5; 3 of 3 answers were not"],
    );
}

#[test]
fn an_answer_from_before_the_wave_says_nothing_of_it() {
    let policy = GatePolicy { external: asks().external, ..every() };
    let mut evidence = super::small();
    evidence.externals = answered(0, 0, 100_000).externals;

    check_under(&policy, evidence, &expect!["hold: `auth-db` has not been answered yet"]);
}

#[test]
fn minutes_and_answers_are_in_the_root_and_evidence_without_them_is_named_as_ever() {
    let before = healthy();
    let mut felt = healthy();
    shows(&mut felt, PulseSignal::Canary, 15, 0);
    let mut worse = felt.clone();
    shows(&mut worse, PulseSignal::Canary, 15, 1);
    let asked = answered(15, 0, 100_000);

    let roots = [&before, &felt, &worse, &asked].map(Evidence::root);

    for (place, root) in roots.iter().enumerate() {
        assert!(!roots[..place].contains(root), "{place}");
    }
    assert_eq!(before.to_bytes()[0], 1);
    assert_eq!(felt.to_bytes()[0], 2);
    let record = VerdictRecord::judge(&worse, &asks(), NOW);
    assert_eq!(record.verify(&asks()), Ok(()));
}

#[test]
fn a_policy_that_mentions_no_signal_keeps_its_name() {
    let default = GatePolicy::default();
    // As it was before there were signals.
    expect!["34ae91408bee606ab96d09220ef8a4c94ddbf1398c5cf8287d14ef8b2a5853a8"]
        .assert_eq(&default.digest().to_string());

    let mut other = default.clone();
    other.signals.of_mut(PulseSignal::Canary).unwrap().required = true;

    assert_ne!(other.digest(), default.digest());
    assert_ne!(asks().digest(), default.digest());
}

#[test]
fn questions_and_minutes_that_make_no_sense_are_refused() {
    let external = || asks().external.remove(0);
    let with = |external: ExternalPolicy| GatePolicy {
        external: vec![external],
        ..GatePolicy::default()
    };
    let name = |text| ShortName::new(text).unwrap();
    let signals = GatePolicy::default().signals;
    let minutes =
        |signals: SignalsPolicy| GatePolicy { signals, ..GatePolicy::default() };
    let mut never = signals;
    never.of_mut(PulseSignal::Canary).unwrap().rates.p_ok = Ppm::ZERO;
    let policies = [
        with(ExternalPolicy { name: name("canary"), ..external() }),
        with(ExternalPolicy { query: " ".to_owned(), ..external() }),
        with(ExternalPolicy { every: Span::from_secs(300), ..external() }),
        GatePolicy { external: vec![external(), external()], ..GatePolicy::default() },
        minutes(SignalsPolicy { every: Span::ZERO, ..signals }),
        minutes(never),
    ];

    let errors = policies.map(|policy| {
        let error = policy.check().unwrap_err();
        format!("{}: {error}", error.key())
    });

    assert_eq!(GatePolicy::default().check(), Ok(()));
    assert_eq!(asks().check(), Ok(()));
    expect![[r"
        external.0.name: external `canary`: the name is taken already
        external.0.query: external `auth-db`: the query is empty
        external.0.every: external `auth-db`: every is 5 min, must be at least 100 ms and at most age_max, which is 2 min
        external.1.name: external `auth-db`: the name is taken already
        signals.every: signals.every is 0 ms, must be at least 100 ms and at most signals.window, which is 30 min
        signals.canary.p_ok: signals.canary: p_ok must be above 0 %"]]
    .assert_eq(&errors.join("\n"));
}

/// Every node shows so many minutes of `signal`, so many of them bad.
fn shows(evidence: &mut Evidence, signal: PulseSignal, minutes: u32, bad: u32) {
    for node in &mut evidence.nodes {
        node.pulses.set(pulse(signal, minutes, bad));
    }
}

fn pulse(signal: PulseSignal, minutes: u32, minutes_bad: u32) -> Pulse {
    let latest = if minutes_bad > 0 { 10_000 } else { 0 };
    Pulse { signal, minutes, minutes_bad, latest, silent: 0 }
}

/// A policy that asks how busy a database is.
fn asks() -> GatePolicy {
    let external = ExternalPolicy {
        name: ShortName::new("auth-db").unwrap(),
        query: "avg(rate(busy_seconds_total[1m]))".to_owned(),
        bound: Bound::Max(500_000),
        every: Span::from_secs(60),
        age_max: Span::from_secs(120),
        rates: EXTERNAL_RATES,
    };
    GatePolicy { external: vec![external], ..GatePolicy::default() }
}

fn every() -> GatePolicy {
    EVERY.clone()
}

/// All well, with so many answers about the database.
fn answered(answers: u32, answers_bad: u32, latest: i64) -> Evidence {
    let name = ShortName::new("auth-db").unwrap();
    let answered_at = Some(NOW - Span::from_secs(20));
    let external = ExternalEvidence { name, answers, answers_bad, latest, answered_at };
    let mut evidence = healthy();
    evidence.allowed_at = ALLOWED;
    evidence.externals = vec![external];
    evidence
}
