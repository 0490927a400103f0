//! What a pace does, sentence by sentence.

use proptest::prelude::*;

use super::{Crowd, Felt, Lesson, Pace, PacePolicy, PaceWhy, Population, Sense};
use crate::share::Ppm;
use crate::time::{Span, Timestamp};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A node as in the reference: the formula gives 20 mailboxes a second, 142 at once.
const KNOWN: PacePolicy = PacePolicy {
    capacity: Some(60),
    population: Population { active: Ppm::new(350_000), connections: 3, cold_cost: 4 },
    retry: Span::from_secs(10),
    ..PacePolicy::DEFAULT
};

#[test]
fn the_formula_gives_what_the_reference_gives() {
    let pace = Pace::new(KNOWN, 1_000, 0);

    assert_eq!(pace.report().millis_per_second, 20_000);
    assert_eq!(pace.batch_max(), 142);
}

#[test]
fn the_hard_limit_is_never_passed() {
    let mut pace = Pace::new(KNOWN, 7, 0);

    let opened = run(&mut pace, 0, 120, Some(&quick()));

    assert!((7 * 115..=7 * 125).contains(&opened), "{opened}");
    pace.limit_to(3_000);
    assert_eq!(pace.report().millis_per_second, 3_000);
}

#[test]
fn unmeasured_it_keeps_to_the_limit_in_small_batches() {
    let mut pace = Pace::new(PacePolicy::DEFAULT, 20, 5);
    let mut largest = 0;
    let mut opened = 0;
    for tenth in 0..600 {
        pace.fill(START + Span::from_millis(tenth * 100));
        largest = largest.max(pace.whole());
        opened += pace.whole();
        pace.spend(pace.whole());
    }

    assert_eq!(largest, 10);
    assert!((1_150..=1_250).contains(&opened), "{opened}");
    assert_eq!(pace.report().why, PaceWhy::Unfelt);
}

#[test]
fn what_is_not_used_is_not_saved_up() {
    let mut pace = Pace::new(PacePolicy::DEFAULT, 20, 5);
    run(&mut pace, 0, 1, None);

    pace.fill(START + Span::from_secs(500));

    assert_eq!(pace.whole(), 10);
}

#[test]
fn quick_logins_raise_it_up_to_the_ceiling() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);

    run(&mut pace, 0, 21, Some(&quick()));
    assert_eq!(pace.report().why, PaceWhy::Rising);
    assert_eq!(pace.report().millis_per_second, 22_050);

    run(&mut pace, 21, 200, Some(&quick()));
    assert_eq!(pace.report().why, PaceWhy::AtCeiling);
    assert_eq!(pace.report().millis_per_second, 26_000);
}

#[test]
fn nothing_is_raised_on_what_was_not_tried() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);
    for second in 0..100 {
        let now = START + Span::from_secs(second);
        pace.feel(&quick(), now);
        pace.fill(now);
    }

    assert_eq!(pace.report().millis_per_second, 20_000);
    assert_eq!(pace.report().why, PaceWhy::Steady);
}

#[test]
fn slow_logins_halve_it_and_then_it_waits() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);

    run(&mut pace, 0, 11, Some(&slow()));
    assert_eq!(pace.report().why, PaceWhy::Slowed);
    assert_eq!(pace.report().millis_per_second, 10_000);

    run(&mut pace, 11, 45, Some(&slow()));
    assert_eq!(pace.report().why, PaceWhy::Cooling);
    assert_eq!(pace.report().millis_per_second, 10_000);

    run(&mut pace, 56, 25, Some(&slow()));
    assert_eq!(pace.report().millis_per_second, 5_000);
}

#[test]
fn who_is_turned_away_slows_it_as_slow_logins_do() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);
    let shedding = Felt { shed: Sense::Known(Ppm::new(10_001)), ..quick() };
    let few = Felt { shed: Sense::Known(Ppm::new(1)), ..quick() };

    run(&mut pace, 0, 11, Some(&few));
    assert_eq!(pace.report().why, PaceWhy::Steady);
    run(&mut pace, 11, 11, Some(&shedding));
    assert_eq!(pace.report().why, PaceWhy::Slowed);
}

#[test]
fn logins_that_are_too_late_stop_it_at_once_until_they_are_not() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);
    run(&mut pace, 0, 1, Some(&quick()));
    let late = Felt { login_p95: Sense::Known(Span::from_millis(10_001)), ..quick() };

    let opened = run(&mut pace, 1, 60, Some(&late));
    assert_eq!(opened, 0);
    assert_eq!(pace.report().millis_per_second, 0);
    assert_eq!(pace.report().why, PaceWhy::Stopped);

    run(&mut pace, 61, 30, Some(&slow()));
    assert_eq!(pace.report().why, PaceWhy::Stopped);

    run(&mut pace, 91, 11, Some(&quick()));
    assert_eq!(pace.report().why, PaceWhy::Cooling);
    assert_eq!(pace.report().millis_per_second, 10_000);
}

#[test]
fn what_should_be_measured_and_is_not_slows_it_and_never_hurries_it() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);
    let missing = Felt { login_p95: Sense::Missing, ..quick() };

    run(&mut pace, 0, 61, Some(&missing));
    assert_eq!(pace.report().why, PaceWhy::Blind);
    let after_a_minute = pace.report().millis_per_second;
    assert!((17_000..=18_500).contains(&after_a_minute), "{after_a_minute}");

    let mut silent = Pace::new(KNOWN, 1_000, 0);
    run(&mut silent, 0, 1, Some(&quick()));
    run(&mut silent, 1, 200, None);
    assert_eq!(silent.report().why, PaceWhy::Blind);
    assert!(silent.report().millis_per_second < 20_000);
}

#[test]
fn users_who_are_in_already_are_taken_off() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);
    let busy = Felt { logins_per_second: Sense::Known(40), ..quick() };
    for second in 0..300 {
        let now = START + Span::from_secs(second);
        pace.feel(&busy, now);
        pace.fill(now);
    }

    // (0.7 * 60 - 40) / (0.35 * 6), and three tenths more at the most.
    let rate = pace.report().millis_per_second;
    assert!((900..=1_400).contains(&rate), "{rate}");
}

#[test]
fn who_was_counted_raises_it_by_as_much_again_while_the_formula_is_far() {
    let unknown = PacePolicy { population: Population::UNKNOWN, ..KNOWN };
    let mut pace = Pace::new(unknown, 1_000, 0);
    run(&mut pace, 0, 1, Some(&quick()));
    assert_eq!(pace.report().millis_per_second, 3_230);

    pace.learn(&lesson(), START + Span::from_secs(1));
    assert_eq!(pace.report().millis_per_second, 3_230, "not before the next step");
    run(&mut pace, 1, 11, Some(&quick()));
    assert_eq!(pace.report().millis_per_second, 6_460);
    let basis = pace.report().basis.expect("it says what it is made from");
    assert_eq!((basis.counted, basis.population.connections), (1_000, 3));
}

#[test]
fn when_others_come_in_it_begins_with_what_was_assumed() {
    let mut pace = Pace::new(PacePolicy::DEFAULT, 1_000, 0);
    run(&mut pace, 0, 200, Some(&quick()));
    pace.learn(&lesson(), START + Span::from_secs(200));
    assert!(pace.report().millis_per_second > 250_000);

    pace.begin_anew();

    assert_eq!(pace.report().millis_per_second, 250_000);
    let basis = pace.report().basis.expect("it says what it is made from");
    assert_eq!((basis.counted, basis.population), (0, Population::UNKNOWN));
}

#[test]
fn two_nodes_open_their_batches_at_different_instants() {
    let instants = |salt| {
        let mut pace = Pace::new(PacePolicy::DEFAULT, 2, salt);
        let mut at = Vec::new();
        for tenth in 0..300_u64 {
            pace.fill(START + Span::from_millis(tenth * 100));
            if pace.whole() > 0 {
                at.push(tenth);
                pace.spend(pace.whole());
            }
        }
        at
    };

    let (one, other) = (instants(1), instants(2));

    assert_ne!(one, other);
    let gaps = one.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| (3..=7).contains(&gap)), "{one:?}");
    assert!(gaps.clone().min() < gaps.max());
}

#[test]
fn a_report_is_said_as_people_say_it() {
    let mut pace = Pace::new(KNOWN, 1_000, 0);
    run(&mut pace, 0, 21, Some(&quick()));

    assert_eq!(
        pace.report().to_string(),
        "22.05 mailboxes a second: logins are quick, becoming faster (95 % within 800 ms)"
    );
    let basis = |pace: &Pace| pace.report().basis.map(|it| it.to_string());
    let assumed = "35 % come, 3 connections each (assumed); a first login costs 4 (assumed); \
                   programs look every 10 s (assumed); 60 logins a second (assumed)";
    assert_eq!(basis(&pace).as_deref(), Some(assumed));
    pace.learn(&lesson(), START + Span::from_secs(21));
    let counted = "at most 37.6 % come, 3 connections each (counted of 1000); \
                   a first login costs 4 (assumed); programs look every 10 s (assumed); \
                   60 logins a second (assumed)";
    assert_eq!(basis(&pace).as_deref(), Some(counted));
}

proptest! {
    #[test]
    fn whatever_is_felt_it_stays_within_its_bounds_and_does_not_flap(
        moods in prop::collection::vec(0_u8..6, 1..120),
        limit in 1_u32..200,
    ) {
        let mut pace = Pace::new(KNOWN, limit, 9);
        let mut halvings: Vec<u64> = Vec::new();
        let mut before = pace.report();
        let mut opened = 0;
        let seconds = 5 * u64::try_from(moods.len()).unwrap();
        for second in 0..seconds {
            let now = START + Span::from_secs(second);
            let mood = moods[usize::try_from(second / 5).unwrap()];
            let millis = [200, 3_000, 6_000, 12_000, 0, 0][usize::from(mood)];
            let login_p95 = match mood {
                4 => Sense::Missing,
                5 => Sense::Absent,
                _ => Sense::Known(Span::from_millis(millis)),
            };
            pace.feel(&Felt { login_p95, ..Felt::default() }, now);
            pace.fill(now);
            opened += u64::try_from(pace.whole()).unwrap();
            pace.spend(pace.whole());

            let report = pace.report();
            prop_assert!(report.millis_per_second <= (limit * 1_000).clamp(100, 26_000));
            if report.why == PaceWhy::Slowed && before.why != PaceWhy::Slowed {
                halvings.push(second);
            }
            if matches!(mood, 3) {
                prop_assert_eq!(report.millis_per_second, 0);
            }
            before = report;
        }

        prop_assert!(halvings.windows(2).all(|pair| pair[1] - pair[0] >= 60));
        // Batches are jittered by a quarter at the most.
        prop_assert!(opened <= (seconds + 2) * u64::from(limit.min(26)) * 4 / 3 + 13);
    }
}

fn quick() -> Felt {
    Felt {
        login_p95: Sense::Known(Span::from_millis(800)),
        shed: Sense::Known(Ppm::ZERO),
        ..Felt::default()
    }
}

fn lesson() -> Lesson {
    let crowd = Crowd {
        opened: 1_000,
        users: 350,
        connections: 1_050,
        connections_squared: 350 * 9,
    };
    Lesson { crowd, ..Lesson::default() }
}

fn slow() -> Felt {
    Felt { login_p95: Sense::Known(Span::from_millis(5_001)), ..quick() }
}

/// Opens all it may for so many seconds and says how many that were.
fn run(pace: &mut Pace, from: u64, seconds: u64, felt: Option<&Felt>) -> usize {
    let mut opened = 0;
    for tenth in from * 10..(from + seconds) * 10 {
        let now = START + Span::from_millis(tenth * 100);
        if let Some(felt) = felt {
            pace.feel(felt, now);
        }
        pace.fill(now);
        opened += pace.whole();
        pace.spend(pace.whole());
    }
    opened
}
