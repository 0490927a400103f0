//! Storms: random mailboxes, a life after their snapshot, random damage on either side or both, and a
//! model that knows what was there. Nothing whole is lost or altered, nothing is destroyed, nothing is
//! decided without a word, and a second run has nothing to do.
//!
//! `TIDEGATE_SEED=7` replays one storm, `TIDEGATE_STORMS=10000` lives through more of them, from
//! `TIDEGATE_FIRST=500` on.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stderr, reason = "a failing storm says how to live it again")]
#![expect(clippy::indexing_slicing, reason = "mailboxes of known size")]

#[path = "storms/model.rs"]
mod model;
#[path = "storms/world.rs"]
mod world;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use model::{After, Model, files};
use tidegate_mail::{Mailbox, PrepareTask, Prepared, Refusal, Store, StoreConfig};
use world::{LIVE, SIDES, World};

/// As many as run within seconds.
const STORMS: u64 = 100;

#[test]
fn every_storm_is_weathered() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let storms = number("TIDEGATE_STORMS").unwrap_or(STORMS);
    let first = number("TIDEGATE_FIRST").unwrap_or(0);
    let seeds =
        number("TIDEGATE_SEED").map_or(first..first + storms, |seed| seed..seed + 1);

    let mut failed = Vec::new();
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| weather(seed))) {
            eprintln!("replay with TIDEGATE_SEED={seed}");
            failed.push((seed, panic));
        }
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    eprintln!("failed: {seeds:?}");
    if let Some((_, panic)) = failed.pop() {
        resume_unwind(panic);
    }
}

fn weather(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    for root in ["live", "snapshot", "work"] {
        fs::create_dir(dir.path().join(root)).unwrap();
    }
    let mut world = World::new(seed);
    world.write(dir.path());
    let before: Vec<_> = world
        .accounts
        .iter()
        .map(|it| files(dir.path(), SIDES[LIVE], &it.path))
        .collect();
    let snapshot = files(dir.path(), "snapshot", "");

    let first = prepare(dir.path(), &world, (3, false));

    let work = files(dir.path(), "work", "");
    for ((account, prepared), before) in world.accounts.iter().zip(&first).zip(&before) {
        let live = files(dir.path(), SIDES[LIVE], &account.path);
        let after = After { before, live: &live, work: &work, prepared };
        Model { account, after }.check();
    }
    assert_eq!(files(dir.path(), "snapshot", ""), snapshot, "the snapshot is not ours");
    let live = files(dir.path(), "live", "");

    let second = prepare(dir.path(), &world, (3, false));

    assert_eq!(files(dir.path(), "live", ""), live, "a second run changes nothing");
    for (first, second) in first.iter().zip(&second) {
        assert_eq!((second.counts.repaired, second.counts.returned), (0, 0));
        assert_eq!(second.stamp, first.stamp);
        assert_eq!(second.set_aside, first.set_aside);
        assert_eq!(second.doubts, first.doubts);
        assert_eq!(second.manifest_digest, first.manifest_digest);
    }
    serve(dir.path(), &mut world);
}

/// Its users delete mail; what is damaged since comes back, what is deleted does not.
fn serve(root: &Path, world: &mut World) {
    let mut expected = files(root, "live", "");
    let mails: Vec<_> = expected
        .keys()
        .filter(|it| it.contains("/cur/") || it.contains("/new/"))
        .cloned()
        .collect();
    for path in &mails {
        if world.chance.percent(20) {
            fs::remove_file(root.join("live").join(path)).unwrap();
            expected.remove(path);
        }
    }

    prepare(root, world, (3, true));

    assert_eq!(
        files(root, "live", ""),
        expected,
        "users delete and nothing else changes"
    );
}

#[test]
fn a_file_in_the_place_of_a_folder_is_named_as_what_it_is() {
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        for root in ["live", "snapshot", "work"] {
            fs::create_dir(dir.path().join(root)).unwrap();
        }
        let world = World::new(seed);
        world.write(dir.path());
        let live = dir.path().join("live").join(&world.accounts[0].path).join(".Archive");
        let there =
            dir.path().join("snapshot").join(&world.accounts[0].path).join(".Archive");
        if !live.join("cur").is_dir() || !there.join("cur").is_dir() {
            continue;
        }
        fs::rename(&live, dir.path().join("live/lost")).unwrap();
        fs::write(&live, "a directory no more").unwrap();

        let prepared = try_prepare(dir.path(), &world, (3, false));

        let refused = matches!(prepared[0], Err(Refusal::NotRegular { .. }));
        assert!(refused, "seed {seed}: {:?}", prepared[0]);
        return;
    }
    unreachable!("some storm spares a folder");
}

/// A run wrote what it would set aside and died before it did; the next one has another generation.
#[test]
fn what_a_dead_run_wanted_to_set_aside_is_listed_once() {
    for seed in 0..40 {
        let [dead, dir] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let world = World::new(seed);
        for root in [dead.path(), dir.path()] {
            for side in ["live", "snapshot", "work"] {
                fs::create_dir(root.join(side)).unwrap();
            }
            world.write(root);
        }
        prepare(dead.path(), &world, (3, false));
        let list = |root: &Path| root.join("work/findings");
        fs::rename(list(dead.path()), list(dir.path())).unwrap();

        let prepared = prepare(dir.path(), &world, (4, false));

        for (prepared, account) in prepared.iter().zip(&world.accounts) {
            for finding in &prepared.set_aside {
                let twins = prepared.set_aside.iter();
                let twins = twins.filter(|it| {
                    (&it.folder, &it.name) == (&finding.folder, &finding.name)
                });
                assert_eq!(
                    twins.count(),
                    1,
                    "seed {seed}: {finding:?} {:?}",
                    account.story
                );
                let kept_at =
                    finding.kept_at.as_ref().map(|it| dir.path().join("work").join(it));
                assert!(
                    kept_at.is_none_or(|it| it.is_file()),
                    "seed {seed}: {finding:?}"
                );
            }
        }
    }
}

fn prepare(root: &Path, world: &World, run: (u64, bool)) -> Vec<Prepared> {
    try_prepare(root, world, run).into_iter().map(|it| it.unwrap()).collect()
}

fn try_prepare(
    root: &Path,
    world: &World,
    (generation, served): (u64, bool),
) -> Vec<Result<Prepared, Refusal>> {
    let store = Store::open(StoreConfig {
        live: root.join("live"),
        snapshot: Some(root.join("snapshot")),
        work: root.join("work"),
        file_size_max: 10_000_000,
    });
    let store = store.unwrap();
    store.claim(1, generation, "worker").unwrap();
    let mailbox = |(number, account): (u64, &world::Account)| Mailbox {
        key: number,
        address: account.address.clone(),
        path: account.path.clone().into_bytes(),
        served,
    };
    let mailboxes: Vec<Mailbox> = (7..).zip(&world.accounts).map(mailbox).collect();
    let task =
        PrepareTask { job: 1, generation, holder: "worker", mailboxes: &mailboxes };
    store.prepare(&task).unwrap()
}
