//! Opening mailboxes while their users wait: who is served, and how soon.
#![expect(clippy::indexing_slicing, reason = "a simulation of known size")]

mod counted;
mod rig;

use rig::{Door, Herd, Opening, Outcome, REFERENCE, SECOND};
use tidegate_core::pace::Population;

const PLAIN: Door =
    Door { skips: false, sheds: false, refuses_itself: false, backoff_max: None };
const SKIP: Door = Door { skips: true, ..PLAIN };
const CAREFUL: Door = Door { sheds: true, ..SKIP };

/// The rows of `reference` are met within so many hundredths.
const NEAR: u64 = 3;

#[test]
fn the_rig_shows_what_the_reference_shows() {
    let backoff = Door { backoff_max: Some(300 * SECOND), ..SKIP };
    let itself = Door { refuses_itself: true, ..CAREFUL };
    let rows = [
        ("C", backoff, Opening::AtOnce, 817),
        ("D", itself, Opening::AtOnce, 1_380),
        ("E", CAREFUL, Opening::AtOnce, 697),
        ("G", PLAIN, Opening::Bucket(7_000), 995),
    ];

    for (name, door, opening, reference) in rows {
        let outcome = REFERENCE.comes(door, opening, 1);
        let t99 = outcome.t99.expect("all are served") / SECOND;
        let apart = t99.abs_diff(reference) * 100;
        assert!(apart <= reference * NEAR, "{name}: {t99} s, reference {reference} s");
        assert_eq!(outcome.wasted_percent, 0, "{name}");
    }
}

#[test]
fn all_at_once_collapses_for_good_and_so_do_a_node_that_refuses_itself_and_a_fast_bucket()
{
    let backoff = Door { backoff_max: Some(300 * SECOND), ..PLAIN };
    let itself = Door { refuses_itself: true, ..PLAIN };
    let rows = [
        ("A", PLAIN, Opening::AtOnce, 7),
        ("B", backoff, Opening::AtOnce, 7),
        ("F", itself, Opening::Bucket(7_000), 9),
        ("J", PLAIN, Opening::Bucket(13_000), 66),
    ];

    for (name, door, opening, permille) in rows {
        let outcome = REFERENCE.comes(door, opening, 1);
        assert_eq!(outcome.t99, None, "{name}");
        assert!(outcome.wasted_percent >= 85, "{name}: {outcome:?}");
        let served = outcome.served_permille;
        assert!(
            served <= permille * 3,
            "{name}: {served}, reference {permille} per mille"
        );
    }
}

#[test]
fn our_pace_serves_everybody_in_half_as_long_again_as_the_ideal() {
    for seed in 1..=2 {
        for door in [PLAIN, CAREFUL] {
            let outcome = REFERENCE.comes(door, paced(60), seed);

            quick(&outcome);
            assert!(outcome.p95_max < REFERENCE.patience / 2, "{outcome:?}");
        }
    }
}

#[test]
fn a_capacity_believed_thirty_percent_too_high_collapses_nothing() {
    for seed in 1..=2 {
        for door in [PLAIN, SKIP, CAREFUL] {
            let outcome = REFERENCE.comes(door, paced(78), seed);

            quick(&outcome);
            assert_eq!(outcome.wasted_percent, 0, "{outcome:?}");
        }
    }
}

#[test]
fn nor_does_it_where_users_look_only_every_five_or_fifteen_minutes() {
    for minutes in [1, 5, 15] {
        let herd = Herd { retry: minutes * 60 * SECOND, ..REFERENCE };

        let outcome = herd.comes(PLAIN, paced(78), 1);

        assert_eq!(outcome.served_permille, 1_000, "{outcome:?}");
        assert_eq!(outcome.wasted_percent, 0, "{outcome:?}");
        assert!(
            outcome.t99 < Some(REFERENCE.ideal() * 5 / 4 + herd.retry),
            "{outcome:?}"
        );
    }
}

#[test]
fn users_of_whom_nothing_was_known_are_served_as_soon_once_they_were_counted() {
    let unknown = Population::UNKNOWN;

    let assumed = REFERENCE.comes(PLAIN, opens(60, unknown, false), 1);

    assert!(assumed.t99 > Some(REFERENCE.ideal() * 4), "{assumed:?}");
    for door in [PLAIN, CAREFUL] {
        let counted = REFERENCE.comes(door, opens(60, unknown, true), 1);

        quick(&counted);
        assert!(counted.p95_max < REFERENCE.patience / 2, "{counted:?}");
    }
}

#[test]
fn learning_loses_nothing_where_all_was_known_or_the_capacity_believed_too_high() {
    for capacity in [60, 78, 120] {
        let outcome =
            REFERENCE.comes(PLAIN, opens(capacity, REFERENCE.population(), true), 1);

        quick(&outcome);
        assert_eq!(outcome.wasted_percent, 0, "{outcome:?}");
    }
}

#[test]
fn counting_users_who_look_only_every_five_minutes_waits_until_they_have() {
    let herd = Herd { retry: 300 * SECOND, ..REFERENCE };

    let outcome = herd.comes(PLAIN, opens(78, Population::UNKNOWN, true), 1);

    assert_eq!(outcome.served_permille, 1_000, "{outcome:?}");
    assert_eq!(outcome.wasted_percent, 0, "{outcome:?}");
    // Two periods pass before anybody is counted.
    assert!(
        outcome.t99 < Some(REFERENCE.ideal() * 3 / 2 + 2 * herd.retry),
        "{outcome:?}"
    );
}

#[test]
fn a_node_that_cannot_be_measured_for_minutes_is_slowed_and_never_hurried() {
    let blind = Opening::Paced {
        capacity: Some(60),
        population: REFERENCE.population(),
        open_per_second: 1_000,
        blind: Some((120 * SECOND, 420 * SECOND)),
        learns: false,
    };

    let [seeing, blind] =
        [paced(60), blind].map(|opening| REFERENCE.comes(PLAIN, opening, 1));

    assert!(blind.t99 > seeing.t99, "{blind:?} {seeing:?}");
    assert_eq!(blind.served_permille, 1_000);
}

fn paced(capacity: u32) -> Opening {
    opens(capacity, REFERENCE.population(), false)
}

fn opens(capacity: u32, population: Population, learns: bool) -> Opening {
    Opening::Paced {
        capacity: Some(capacity),
        population,
        open_per_second: 1_000,
        blind: None,
        learns,
    }
}

/// Everybody served, nearly as soon as the node could, and the rate did not flap.
fn quick(outcome: &Outcome) {
    let t99 = outcome.t99.expect("all are served");
    assert_eq!(outcome.served_permille, 1_000, "{outcome:?}");
    assert!(t99 * 2 <= REFERENCE.ideal() * 3, "{outcome:?}");
    assert!(outcome.turns <= 12, "{outcome:?}");
}
