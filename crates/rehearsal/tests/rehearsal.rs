//! Rehearsals end as the real rollout would.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

#[path = "rehearsal/provider.rs"]
mod provider;

use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::gate::{Bound, ExternalPolicy, PulseSignal, ShortName, SignalPolicy};
use tidegate_core::mailbox::Level;
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;
use tidegate_rehearsal::{Assumptions, Outcome, rehearse};

use provider::{MAILBOXES, NODES, plan_of, policy};

#[test]
fn a_healthy_fleet_finishes_and_harms_nobody() {
    let plan = plan_of(policy());

    let ending = rehearse(&plan, &Assumptions::healthy(10.0), 1);

    assert_eq!(ending.outcome, Outcome::Finished);
    assert_eq!((ending.opened, ending.harmed), (u64::from(MAILBOXES), 0));
    let passed: Vec<_> = ending.passed.iter().map(|it| (it.wave, it.level)).collect();
    let level = |number| Level::new(number).unwrap();
    let expected = (0..plan.waves().len()).flat_map(|wave| {
        let wave = WaveNumber::new(u16::try_from(wave).unwrap());
        [(wave, level(1)), (wave, level(2))]
    });
    assert_eq!(passed, expected.collect::<Vec<_>>());
    assert!(ending.passed.is_sorted_by_key(|it| it.after));
}

#[test]
fn the_same_seed_gives_the_same_ending_and_another_one_another() {
    let plan = plan_of(policy());
    let assumptions = Assumptions { spread: 0.5, ..Assumptions::healthy(0.5) };

    let endings = [7, 7, 8].map(|seed| rehearse(&plan, &assumptions, seed));

    assert_eq!(endings[0], endings[1]);
    assert_ne!(endings[0].took, endings[2].took);
}

#[test]
fn a_sick_node_is_isolated_and_few_are_harmed() {
    let mut assumptions = Assumptions::healthy(10.0);
    assumptions.of(NodeNumber::new(3)).fails = Some(Ppm::new(400_000));

    let ending = rehearse(&plan_of(policy()), &assumptions, 1);

    assert_eq!(ending.outcome, Outcome::Finished);
    assert_eq!(ending.isolated, [NodeNumber::new(3)]);
    assert!(ending.opened < u64::from(MAILBOXES));
    let on_node = u64::from(MAILBOXES) / u64::from(NODES);
    assert!(ending.harmed > 0 && ending.harmed < on_node / 4, "{}", ending.harmed);
}

#[test]
fn a_sick_fleet_halts_in_its_first_wave() {
    let assumptions =
        Assumptions { fails: Ppm::new(100_000), ..Assumptions::healthy(10.0) };

    let ending = rehearse(&plan_of(policy()), &assumptions, 1);

    let Outcome::Halted { wave, .. } = ending.outcome else { panic!("{ending:?}") };
    assert_eq!(wave, WaveNumber::new(0));
    assert!(ending.harmed > 0);
}

#[test]
fn a_slow_node_makes_all_wait() {
    let plan = plan_of(policy());
    let mut slow = Assumptions::healthy(1.0);
    slow.of(NodeNumber::new(0)).slower = Some(100.0);

    let [fast, slow] =
        [Assumptions::healthy(1.0), slow].map(|it| rehearse(&plan, &it, 1).took);

    assert!(slow.millis() > fast.millis() * 3 / 2, "{slow} against {fast}");
}

#[test]
fn a_fleet_whose_nodes_are_lost_stands_still_or_halts_and_says_why() {
    let mut assumptions = Assumptions::healthy(10.0);
    for node in 0..NODES / 2 {
        assumptions.of(NodeNumber::new(node)).lost_after = Some(Span::from_secs(600));
    }

    let ending = rehearse(&plan_of(policy()), &assumptions, 1);

    assert!(ending.opened < u64::from(MAILBOXES));
    match ending.outcome {
        Outcome::Finished => panic!("half of the nodes are gone"),
        Outcome::Halted { .. } => {}
        Outcome::Stands(why) => assert!(!why.is_empty()),
    }
}

#[test]
fn what_the_policy_asks_of_others_is_answered() {
    let mut policy = policy();
    let rates = SignalPolicy {
        p_ok: Ppm::new(10_000),
        p_bad: Ppm::new(100_000),
        alpha: Ppm::new(50_000),
        beta: Ppm::new(50_000),
    };
    policy.gate.external.push(ExternalPolicy {
        name: ShortName::new("auth-errors").unwrap(),
        query: "up".to_owned(),
        bound: Bound::Max(20_000),
        every: Span::from_secs(15),
        age_max: Span::from_secs(60),
        rates,
    });
    let canary = policy.gate.signals.each.get_mut(PulseSignal::Canary.index()).unwrap();
    canary.required = true;

    let ending = rehearse(&plan_of(policy), &Assumptions::healthy(10.0), 1);

    assert_eq!(ending.outcome, Outcome::Finished);
}

#[test]
fn what_is_set_aside_is_not_opened() {
    let assumptions =
        Assumptions { sets_aside: Ppm::new(5_000), ..Assumptions::healthy(10.0) };

    let ending = rehearse(&plan_of(policy()), &assumptions, 1);

    assert_eq!(ending.outcome, Outcome::Finished);
    let held = u64::from(MAILBOXES) - ending.opened;
    assert!((5..40).contains(&held), "{held}");
}
