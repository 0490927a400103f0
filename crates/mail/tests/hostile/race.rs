//! Race: somebody changes the mail while it is prepared.
//!
//! # Invariants
//!
//! * What stands outside is watched by the kernel: opening it fails the test, not only changing it.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, RenameFlags};

use crate::provider::{Letter, MAILDIR, Provider, addressed, letter};
use crate::{open, prepare_at};

/// Enough for the swaps to fall between any two steps of the walk.
const ATTEMPTS: u32 = 20;

/// More would only make each attempt slower.
const DELIVERIES_MAX: usize = 200;

#[test]
fn directories_swapped_for_links_while_we_walk_lead_nowhere() {
    for place in ["", "/cur", "/.Archive.2024", "/.Archive.2024/cur", "/.."] {
        let provider = Provider::healthy();
        let outside = Outside::beside(&provider);
        damage_some(&provider);
        let store = open(&provider);
        let is_over = Flag::default();
        let (swaps, mut ends) = (AtomicU32::new(0), BTreeMap::new());

        let place = match place {
            "/.." => provider.root("live").join("example.org/anna"),
            place => provider.root("live").join(format!("{MAILDIR}{place}")),
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let link = provider.root("live").join("link");
                symlink(&outside.mail, &link).unwrap();
                while !is_over.is_raised() {
                    exchange(&place, &link);
                    exchange(&place, &link);
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _over = is_over.raised_at_the_end();
            for _ in 0..ATTEMPTS {
                let end = match prepare_at(&store, MAILDIR) {
                    Ok(_) => "prepared",
                    Err(refusal) => refusal.code(),
                };
                *ends.entry(end).or_insert(0) += 1;
            }
        });

        let place = place.display();
        let known =
            ["prepared", "symbolic-link", "changed", "leaves-root", "not-regular"];
        let unknown = ends.keys().find(|end| !known.contains(end));
        assert_eq!(unknown, None, "{place}: {ends:?}");
        assert!(swaps.load(Ordering::Relaxed) > 0, "{place}");
        outside.assert_untouched();
        assert!(!provider.keeps(SECRET), "{place}: what is outside was kept");
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

fn exchange(one: &Path, other: &Path) {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// Ends the other thread, also when this one panics.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn raised_at_the_end(&self) -> Raise<'_> {
        Raise(self)
    }
}

struct Raise<'a>(&'a Flag);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

const SECRET: &[u8] = b"Subject: secret\n\nNobody's business.\n";

/// A directory that looks like any of those that it is swapped for, watched by the kernel.
struct Outside {
    _dir: tempfile::TempDir,
    mail: PathBuf,
    watch: OwnedFd,
}

impl Outside {
    fn beside(provider: &Provider) -> Self {
        let dir = tempfile::tempdir_in(provider.dir.path()).unwrap();
        let mail = dir.path().join("mail");
        let foreign = addressed(77, "otto@example.org");
        for sub in ["", "cur", "new", "Maildir/cur", "anna/Maildir/cur"] {
            let directory = mail.join(sub);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(&foreign.base), SECRET).unwrap();
            fs::write(directory.join(format!("{}:2,S", letter(1).base)), SECRET).unwrap();
        }
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let all = WatchFlags::OPEN
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE;
        for sub in ["", "cur", "new", "Maildir", "Maildir/cur", "anna/Maildir/cur"] {
            inotify::add_watch(&watch, mail.join(sub), all).unwrap();
        }
        Self { _dir: dir, mail, watch }
    }

    fn assert_untouched(&self) {
        assert_eq!(self.events(), 0, "somebody was outside");
        fs::read_dir(self.mail.join("cur")).unwrap();
        assert_ne!(self.events(), 0, "the watch sees what happens");
    }

    fn events(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.watch, &mut buffer);
        let mut events = 0;
        while reader.next().is_ok() {
            events += 1;
        }
        events
    }
}
