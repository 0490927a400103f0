//! Race: somebody changes the mail while it is prepared.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use crate::provider::{Letter, MAILDIR, Provider, addressed, letter};
use crate::swap::{ATTEMPTS, Flag, Outside, SECRET, SECRET_WORDS};
use crate::{open, prepare_at};

/// More would only make each attempt slower.
const DELIVERIES_MAX: usize = 200;

#[test]
fn directories_swapped_for_links_while_we_walk_lead_nowhere() {
    for place in ["", "/cur", "/.Archive.2024", "/.Archive.2024/cur", "/.."] {
        let provider = Provider::healthy();
        let names =
            [addressed(77, "otto@example.org").base, format!("{}:2,S", letter(1).base)];
        let directories = ["", "cur", "new", "Maildir", "Maildir/cur"];
        let outside = Outside::inside(provider.dir.path(), &directories, &names);
        damage_some(&provider);
        let store = open(&provider);

        let place = match place {
            "/.." => provider.root("live").join("example.org/anna"),
            place => provider.root("live").join(format!("{MAILDIR}{place}")),
        };
        outside.swapped_for(&place, || match prepare_at(&store, MAILDIR) {
            Ok(_) => "prepared",
            Err(refusal) => refusal.code(),
        });

        assert!(!provider.keeps(SECRET), "{}: {SECRET_WORDS}", place.display());
        prepare_at(&store, MAILDIR).unwrap();
        assert_whole(&provider, &[]);
    }
}

#[test]
fn mail_that_comes_and_changes_its_flags_meanwhile_is_neither_lost_nor_doubled() {
    let provider = Provider::healthy();
    damage_some(&provider);
    let store = open(&provider);
    let is_over = Flag::default();
    let (mut ends, mut delivered) = (BTreeMap::new(), Vec::new());

    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut delivered = Vec::new();
            for number in 100.. {
                if is_over.is_raised() {
                    break;
                }
                if delivered.len() < DELIVERIES_MAX {
                    delivered.push(deliver(&provider, number));
                }
                turn_flags(&provider, number);
            }
            delivered
        });
        let over = is_over.raised_at_the_end();
        for _ in 0..ATTEMPTS {
            let end = match prepare_at(&store, MAILDIR) {
                Ok(prepared) => {
                    assert_eq!(prepared.set_aside, [], "good mail was set aside");
                    "prepared"
                }
                Err(refusal) => refusal.code(),
            };
            *ends.entry(end).or_insert(0) += 1;
        }
        drop(over);
        delivered = server.join().unwrap();
    });

    assert!(ends.keys().all(|end| ["prepared", "changed"].contains(end)), "{ends:?}");
    assert!(!delivered.is_empty());
    prepare_at(&store, MAILDIR).unwrap();
    assert_whole(&provider, &delivered);
}

/// What the engine has to repair in the middle of it all.
fn damage_some(provider: &Provider) {
    provider.damage("live", "", &letter(2), b"");
    provider.lose("live", ".Archive.2024", &letter(12));
}

/// Every message of the snapshot and every new one stands once and good.
fn assert_whole(provider: &Provider, delivered: &[Letter]) {
    for number in 1..=5 {
        assert_eq!(provider.served("", &letter(number)), Some(letter(number).bytes));
    }
    for number in 11..=13 {
        let served = provider.served(".Archive.2024", &letter(number));
        assert_eq!(served, Some(letter(number).bytes));
    }
    for letter in delivered {
        assert_eq!(provider.served("", letter).as_ref(), Some(&letter.bytes));
    }
}

/// As a mail server does it: complete in `tmp`, then renamed.
fn deliver(provider: &Provider, number: u32) -> Letter {
    let letter = letter(number);
    let temporary = provider.at("live", "tmp").join(&letter.base);
    fs::write(&temporary, &letter.bytes).unwrap();
    fs::rename(temporary, provider.at("live", "new").join(&letter.base)).unwrap();
    letter
}

/// The flags of one of the old messages go to and fro. It may be away for a moment, when its damaged
/// version is about to be replaced.
fn turn_flags(provider: &Provider, number: u32) {
    let path = |flags: &str| {
        provider.at("live", "cur").join(format!("{}:2,{flags}", letter(4).base))
    };
    let (from, to) = if number.is_multiple_of(2) { ("S", "FS") } else { ("FS", "S") };
    let _ = fs::rename(path(from), path(to));
}
