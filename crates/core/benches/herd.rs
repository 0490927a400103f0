//! Prints how a herd of clients fares with each way of opening mailboxes: the rows of the
//! reference, then our own controller's.
//!
//! `cargo bench -p tidegate-core --bench herd`
#![expect(clippy::print_stdout, reason = "a table is what it is for")]
#![expect(clippy::indexing_slicing, reason = "a simulation of known size")]

#[path = "../tests/herd/counted.rs"]
mod counted;
#[path = "../tests/herd/rig.rs"]
mod rig;

use rig::{Door, Herd, Opening, Outcome, REFERENCE, SECOND};
use tidegate_core::pace::Population;

fn main() {
    let plain = Door::default();
    let backoff = Door { backoff_max: Some(300 * SECOND), ..plain };
    let skip = Door { skips: true, ..plain };
    let careful = Door { skips: true, sheds: true, ..plain };
    let itself = Door { refuses_itself: true, ..plain };
    let bucket = Opening::Bucket;
    println!("ideal {} s", REFERENCE.ideal() / SECOND);
    println!(
        "{:58} {:>8} {:>8} {:>7} {:>8} {:>6}",
        "", "served", "t99", "wasted", "p95 max", "turns"
    );
    let rows = [
        ("A all at once, clients come again each 10 s", plain, Opening::AtOnce),
        ("B A, clients back off", backoff, Opening::AtOnce),
        (
            "C B, clients that have gone are skipped",
            Door { skips: true, ..backoff },
            Opening::AtOnce,
        ),
        (
            "D A, skip and shed, the node refuses",
            Door { refuses_itself: true, ..careful },
            Opening::AtOnce,
        ),
        ("E A, skip and shed, a proxy refuses", careful, Opening::AtOnce),
        ("F bucket 0.7, the node refuses", itself, bucket(7_000)),
        ("G bucket 0.7, a proxy refuses", plain, bucket(7_000)),
        ("J bucket 1.3, a proxy refuses", plain, bucket(13_000)),
        ("K J, skip and shed", careful, bucket(13_000)),
        ("L bucket 0.9, skip and shed", careful, bucket(9_000)),
    ];
    for (name, door, opening) in rows {
        row(name, REFERENCE.comes(door, opening, 1));
    }
    println!();
    for (name, herd, opening) in ours() {
        for (kind, door) in [("plain", plain), ("skip", skip), ("skip, shed", careful)] {
            row(&format!("{name}; door {kind}"), herd.comes(door, opening, 1));
        }
    }
}

/// The controller with what it believes.
fn ours() -> Vec<(&'static str, Herd, Opening)> {
    let known = REFERENCE.population();
    let paced = |capacity, population, open_per_second| Opening::Paced {
        capacity,
        population,
        open_per_second,
        blind: None,
        learns: false,
    };
    let learns = Opening::Paced {
        capacity: Some(60),
        population: Population::UNKNOWN,
        open_per_second: 1_000,
        blind: None,
        learns: true,
    };
    let blind = Opening::Paced {
        capacity: Some(60),
        population: known,
        open_per_second: 1_000,
        blind: Some((120 * SECOND, 420 * SECOND)),
        learns: false,
    };
    let minute = Herd { retry: 60 * SECOND, ..REFERENCE };
    let five = Herd { retry: 300 * SECOND, ..REFERENCE };
    let fifteen = Herd { retry: 900 * SECOND, ..REFERENCE };
    vec![
        ("paced, all known", REFERENCE, paced(Some(60), known, 1_000)),
        (
            "paced, capacity believed 30 % too high",
            REFERENCE,
            paced(Some(78), known, 1_000),
        ),
        (
            "paced, 30 % too high, clients look each minute",
            minute,
            paced(Some(78), known, 1_000),
        ),
        (
            "paced, 30 % too high, clients look each 5 minutes",
            five,
            paced(Some(78), known, 1_000),
        ),
        (
            "paced, all known, clients look each 5 minutes",
            five,
            paced(Some(60), known, 1_000),
        ),
        (
            "paced, nothing known, limit 200, clients look each 5 minutes",
            five,
            paced(None, known, 200),
        ),
        (
            "paced, 30 % too high, clients look each 15 minutes",
            fifteen,
            paced(Some(78), known, 1_000),
        ),
        (
            "paced, capacity believed twice as high",
            REFERENCE,
            paced(Some(120), known, 1_000),
        ),
        ("paced, users unknown", REFERENCE, paced(Some(60), Population::UNKNOWN, 1_000)),
        ("paced, users unknown until they were counted", REFERENCE, learns),
        ("paced, nothing known, limit 20 a second", REFERENCE, paced(None, known, 20)),
        ("paced, nothing known, limit 200 a second", REFERENCE, paced(None, known, 200)),
        ("paced, blind from minute 2 to 7", REFERENCE, blind),
    ]
}

fn row(name: &str, outcome: Outcome) {
    let Outcome { served_permille, t99, wasted_percent, p95_max, turns } = outcome;
    let served = format!("{}.{} %", served_permille / 10, served_permille % 10);
    let t99 = t99.map_or("never".to_owned(), |t99| format!("{} s", t99 / SECOND));
    let p95 = format!("{} ms", p95_max / 1_000);
    println!("{name:58} {served:>8} {t99:>8} {wasted_percent:>5} % {p95:>8} {turns:>6}");
}
