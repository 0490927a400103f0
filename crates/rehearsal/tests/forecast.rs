//! Forecasts keep what they say: of the waves, nine in ten end before their ninetieth of a hundred.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "rehearsal/provider.rs"]
mod provider;

use std::ops::RangeInclusive;
use std::sync::Arc;

use tidegate_core::plan::Plan;
use tidegate_core::rollout::Forecast;
use tidegate_core::time::{Span, Timestamp};
use tidegate_rehearsal::{Assumptions, Night, Outcome};

/// Rollouts of each kind; their waves share their nodes' fates, so that it takes many.
const ROLLOUTS: u64 = 24;

/// How many of a hundred waves may end before their p90 and their p10, over all rollouts.
const P90: RangeInclusive<f64> = 85.0..=95.0;
const P10: RangeInclusive<f64> = 5.0..=20.0;

#[test]
fn nine_waves_in_ten_end_before_their_p90() {
    println!("{:>24} {:>9} {:>7} {:>7}", "", "forecasts", "< p10 %", "< p90 %");
    let mut all = Vec::new();
    for (name, opening, verifying, drift) in [
        ("opening, even", 2, 50.0, 0.1),
        ("opening, uneven", 2, 50.0, 0.4),
        ("opening, very uneven", 2, 50.0, 0.8),
        ("verifying, even", 20, 0.1, 0.1),
        ("verifying, uneven", 20, 0.1, 0.4),
    ] {
        let mut policy = provider::policy();
        policy.gate.soak = Span::from_secs(120);
        policy.limits.open_per_second = opening;
        let plan = provider::plan_of(policy);
        let assumptions =
            Assumptions { spread: 0.2, drift, ..Assumptions::healthy(verifying) };
        let held: Vec<Held> =
            (0..ROLLOUTS).flat_map(|seed| night(&plan, &assumptions, seed)).collect();
        show(name, &held);
        all.extend(held);
    }
    show("all", &all);

    let p90 = percent(&all, |it| it.before_p90);
    assert!(P90.contains(&p90), "{p90:.1} % of waves ended before their p90");
    let p10 = percent(&all, |it| it.before_p10);
    assert!(P10.contains(&p10), "{p10:.1} % of waves ended before their p10");
}

#[test]
fn nothing_is_forecast_before_a_step_has_passed_and_the_middle_is_between_the_ends() {
    let plan = provider::plan_of(provider::policy());
    let mut night = Night::new(&plan, &Assumptions::healthy(10.0), 1);

    let mut seen = false;
    while night.step().is_none() {
        let forecasts = night.rollout().forecasts(night.now());
        let status = night.rollout().status(night.now());
        let none_passed = status.waves.iter().all(|wave| wave.passed.get() == 0);
        assert!(!none_passed || forecasts.iter().all(Option::is_none));
        for Forecast { p10, p50, p90 } in forecasts.into_iter().flatten() {
            assert!(night.now() <= p10 && p10 <= p50 && p50 <= p90);
            seen = true;
        }
    }
    assert!(seen);
}

#[test]
fn a_wave_that_waits_for_its_schedule_is_forecast_behind_it_and_the_others_beside_it() {
    let mut policy = provider::policy();
    let hour = Span::from_secs(3_600);
    for cohort in &mut policy.cohorts {
        cohort.delays.insert("apps".to_owned(), hour);
    }
    let plan = provider::plan_of(policy);
    let mut night = Night::new(&plan, &Assumptions::healthy(10.0), 1);
    let begun = night.now();
    let said = loop {
        assert_eq!(night.step(), None, "nothing was said");
        let forecasts: Option<Vec<Forecast>> =
            night.rollout().forecasts(night.now()).into_iter().collect();
        if let Some(forecasts) = forecasts {
            break forecasts;
        }
    };

    let ending = loop {
        if let Some(ending) = night.step() {
            break ending;
        }
    };

    let top = ending.passed.iter().filter(|it| it.level.get() == 2);
    for (passed, said) in top.zip(&said) {
        let (took, said) = (passed.after.millis(), said.p50.since(begun).millis());
        assert!(took > hour.millis() && took.abs_diff(said) < took / 10, "{said} {took}");
    }
}

/// Whether a wave ended before what was said of it.
#[derive(Clone, Copy)]
struct Held {
    before_p10: bool,
    before_p90: bool,
}

/// What was said in one rollout whenever a wave had come to the top, and what came of it.
fn night(plan: &Arc<Plan>, assumptions: &Assumptions, seed: u64) -> Vec<Held> {
    let mut night = Night::new(plan, assumptions, seed);
    let mut said: Vec<(usize, Forecast)> = Vec::new();
    let mut passed: Vec<Option<Timestamp>> = vec![None; plan.waves().len()];
    let top = plan.policy().ladder.len();
    loop {
        let ended = night.step();
        let status = night.rollout().status(night.now());
        let mut news = false;
        for (wave, passed) in status.waves.iter().zip(&mut passed) {
            if wave.passed.index() == top && passed.is_none() {
                *passed = Some(night.now());
                news = true;
            }
        }
        if news {
            let forecasts =
                night.rollout().forecasts(night.now()).into_iter().enumerate();
            said.extend(forecasts.filter_map(|(wave, it)| Some((wave, it?))));
        }
        if let Some(ending) = ended {
            assert_eq!(ending.outcome, Outcome::Finished);
            break;
        }
    }
    let held = said.into_iter().map(|(wave, said)| {
        let at = passed.get(wave).copied().flatten().unwrap();
        Held { before_p10: at <= said.p10, before_p90: at <= said.p90 }
    });
    held.collect()
}

fn percent(held: &[Held], which: impl Fn(&Held) -> bool) -> f64 {
    let count = |number: usize| f64::from(u32::try_from(number).unwrap());
    count(held.iter().filter(|it| which(it)).count()) * 100.0 / count(held.len())
}

fn show(name: &str, held: &[Held]) {
    println!(
        "{name:>24} {:>9} {:>7.1} {:>7.1}",
        held.len(),
        percent(held, |it| it.before_p10),
        percent(held, |it| it.before_p90)
    );
}
