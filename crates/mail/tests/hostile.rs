//! Hostile: odd items, paths that lead away, and those who may not work here.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, and figures for people"
)]

#[path = "support/provider.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod provider;

#[path = "hostile/child.rs"]
mod child;
#[path = "hostile/holes.rs"]
mod holes;
#[path = "hostile/items.rs"]
mod items;
#[path = "hostile/large.rs"]
mod large;
#[path = "hostile/race.rs"]
mod race;
#[path = "support/swap.rs"]
mod swap;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use provider::{MAILDIR, OWNER, Provider, addressed, letter};
use tidegate_mail::{
    ClaimError, DoubtKind, Mailbox, PrepareTask, Prepared, Probe, Reason, Refusal, Store,
    StoreConfig, StoreError,
};

fn config(provider: &Provider) -> StoreConfig {
    StoreConfig {
        live: provider.root("live"),
        snapshot: Some(provider.root("snapshot")),
        work: provider.root("work"),
        file_size_max: 10_000_000,
    }
}

fn open(provider: &Provider) -> Store {
    Store::open(config(provider)).unwrap()
}

fn mailbox(path: &str) -> Mailbox {
    let (address, path) = (OWNER.to_owned(), path.as_bytes().to_vec());
    Mailbox { key: 7, address, path, served: false }
}

fn prepare_at(store: &Store, path: &str) -> Result<Prepared, Refusal> {
    store.claim(1, 3, "worker").unwrap();
    let mailboxes = [mailbox(path)];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };
    store.prepare(&task).unwrap().pop().unwrap()
}

fn prepare(provider: &Provider) -> Result<Prepared, Refusal> {
    prepare_at(&open(provider), MAILDIR)
}

fn refused(provider: &Provider) -> &'static str {
    let before = provider.tree("live");
    let code = prepare(provider).unwrap_err().code();
    assert_eq!(provider.tree("live"), before, "a refused mailbox is left as it is");
    code
}

fn fifo(path: &std::path::Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[test]
fn odd_items_among_the_mail_are_moved_aside_unopened() {
    let provider = Provider::healthy();
    symlink("/etc/passwd", provider.at("live", "cur/1.link:2,S")).unwrap();
    fifo(&provider.at("live", "new/2.fifo"));
    UnixListener::bind(provider.at("live", "new/3.socket")).unwrap();
    fs::create_dir(provider.at("live", "cur/4.dir")).unwrap();
    provider.write("live", "cur/4.dir/inside", b"x");

    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.intact, prepared.counts.set_aside), (8, 4));
    assert!(prepared.set_aside.iter().all(|it| it.reason() == Some(Reason::NotRegular)));
    assert_eq!(fs::read_dir(provider.at("live", "new")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(provider.at("live", "cur")).unwrap().count(), 5);
    for it in &prepared.set_aside {
        let kept = provider.root("work").join(it.kept_at.as_ref().unwrap());
        assert!(fs::symlink_metadata(kept).is_ok());
    }
}

#[test]
fn odd_items_elsewhere_are_reported_and_left() {
    let provider = Provider::healthy();
    symlink("/etc", provider.at("live", ".Away")).unwrap();
    fifo(&provider.at("live", "pipe"));
    let before = provider.tree("live");

    let prepared = prepare(&provider).unwrap();

    let mut odd: Vec<_> =
        prepared.doubts.iter().map(|it| (&*it.name, it.doubt().unwrap())).collect();
    odd.sort();
    assert_eq!(odd, [(".Away", DoubtKind::OddItem), ("pipe", DoubtKind::OddItem)]);
    assert_eq!(provider.tree("live"), before);
}

#[test]
fn a_link_in_the_place_of_a_directory_refuses_the_mailbox() {
    for place in ["cur", ".Archive.2024/new"] {
        let provider = Provider::healthy();
        fs::remove_dir_all(provider.at("live", place)).unwrap();
        symlink("/etc", provider.at("live", place)).unwrap();

        assert_eq!(refused(&provider), "symbolic-link", "{place}");
    }
}

#[test]
fn a_maildir_or_a_domain_that_is_a_link_is_refused() {
    for place in ["example.org/anna/Maildir", "example.org"] {
        let provider = Provider::healthy();
        let path = provider.root("live").join(place);
        let real = provider.root("live").join("real");
        fs::rename(&path, &real).unwrap();
        symlink(&real, &path).unwrap();

        assert_eq!(refused(&provider), "symbolic-link", "{place}");
    }
}

#[test]
fn paths_that_are_not_plain_are_refused() {
    let provider = Provider::healthy();
    let store = open(&provider);

    for path in ["", "/etc", "../live", "a/../b", "a//b", "a/.", &"x/".repeat(40)] {
        let refusal = prepare_at(&store, path).unwrap_err();
        assert_eq!(refusal.code(), "bad-path", "{path}");
        assert!(store.stamp(&mailbox(path)).is_err());
    }
    assert_eq!(prepare_at(&store, "nobody").unwrap_err().code(), "not-there");
}

#[test]
fn a_list_that_is_a_pipe_blocks_nobody() {
    let provider = Provider::healthy();
    fs::remove_file(provider.at("live", "dovecot-uidlist")).unwrap();
    fifo(&provider.at("live", "dovecot-uidlist"));

    assert_eq!(refused(&provider), "not-regular");
}

#[test]
fn names_of_any_bytes_are_mail_like_others() {
    use std::os::unix::ffi::OsStrExt as _;
    let provider = Provider::healthy();
    let name = std::ffi::OsStr::from_bytes(b"1.\xff\n\t%,S=12:2,S");
    for side in ["live", "snapshot"] {
        fs::write(provider.at(side, "cur").join(name), b"Subject: x\n\n").unwrap();
    }
    fs::write(provider.at("live", "cur").join(name), b"").unwrap();

    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.intact, prepared.counts.repaired), (8, 1));
    let manifest = open(&provider).manifest(7).unwrap().unwrap();
    assert!(manifest.entries.iter().any(|it| it.name == b"1.\xff\n\t%,S=12"));
}

#[test]
fn a_file_beyond_the_limit_is_never_read() {
    let provider = Provider::healthy();
    let config = StoreConfig { file_size_max: 1000, ..config(&provider) };
    let store = Store::open(config).unwrap();

    let prepared = prepare_at(&store, MAILDIR).unwrap();

    let too_large = |reason| matches!(reason, Reason::TooLarge { limit: 1000, .. });
    assert_eq!(prepared.counts.set_aside, 8);
    assert!(prepared.set_aside.iter().all(|it| {
        too_large(it.reason().unwrap()) || it.reason() == Some(Reason::BothSidesBad)
    }));
}

#[test]
fn only_the_holder_of_the_newest_claim_prepares() {
    let provider = Provider::healthy();
    let store = open(&provider);
    store.claim(1, 3, "old").unwrap();
    store.claim(1, 4, "new").unwrap();
    let mailboxes = [mailbox(MAILDIR)];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "old", mailboxes: &mailboxes };

    let refusal = store.prepare(&task).unwrap().pop().unwrap().unwrap_err();

    assert_eq!(refusal.code(), "fenced");
    assert!(matches!(store.claim(1, 3, "old"), Err(ClaimError::Fenced { .. })));
    let task = PrepareTask { generation: 4, holder: "new", ..task };
    assert!(store.prepare(&task).unwrap().pop().unwrap().is_ok());
}

#[test]
fn a_mailbox_twice_in_a_batch_is_worked_on_once() {
    let provider = Provider::healthy();
    let store = open(&provider);
    store.claim(1, 3, "worker").unwrap();
    let mailboxes = [mailbox(MAILDIR), mailbox(MAILDIR)];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };

    let results = store.prepare(&task).unwrap();

    let ends: Vec<_> =
        results.iter().map(|it| it.as_ref().map_err(Refusal::code).is_ok()).collect();
    assert_eq!(ends, [true, false]);
}

#[test]
fn a_second_store_on_the_same_work_directory_is_told_who_holds_it() {
    let provider = Provider::healthy();
    let _first = open(&provider);

    let second = Store::open(config(&provider));

    let Err(StoreError::Held { pid }) = second else { panic!("opened twice") };
    assert_eq!(pid, Some(std::process::id()));
}

#[test]
fn trees_inside_one_another_are_refused() {
    let provider = Provider::healthy();
    let work = provider.root("live").join("work");
    fs::create_dir(&work).unwrap();
    let config = StoreConfig { work, ..config(&provider) };

    assert!(matches!(Store::open(config), Err(StoreError::Nested { .. })));
}

#[test]
fn a_missing_root_is_named() {
    let provider = Provider::healthy();
    let config = StoreConfig { live: provider.root("nowhere"), ..config(&provider) };

    let error = Store::open(config).unwrap_err();

    assert!(error.to_string().starts_with("open the live directory"), "{error}");
}

#[test]
fn any_change_gives_another_stamp() {
    let provider = Provider::healthy();
    let store = open(&provider);
    let stamp = prepare_at(&store, MAILDIR).unwrap().stamp;
    let now = || store.stamp(&mailbox(MAILDIR)).unwrap();
    assert_eq!(now(), stamp);

    provider.put("live", (".Archive.2024", "new"), &letter(20), "");
    let arrived = now();
    assert_ne!(arrived, stamp);
    provider.damage("live", "", &letter(1), &letter(2).bytes);
    let written = now();
    assert_ne!(written, arrived);
    let path = provider.find("live", "", &letter(1).base).unwrap();
    fs::rename(&path, path.with_extension("x:2,")).unwrap();
    assert_ne!(now(), written);
}

#[test]
fn a_reader_is_healthy_until_bytes_change_or_directories_go() {
    let provider = Provider::healthy();
    let store = open(&provider);
    prepare_at(&store, MAILDIR).unwrap();
    let probe = || store.probe(&mailbox(MAILDIR), 1);
    assert!(matches!(probe(), Probe::Healthy { .. }), "{:?}", probe());

    provider.lose("live", ".Archive.2024", &letter(13));
    assert!(matches!(probe(), Probe::Healthy { .. }), "a deletion is no failure");

    let all = [1, 2, 3, 4, 5].map(|number| (String::new(), number));
    let archive = [11, 12].map(|number| (".Archive.2024".to_owned(), number));
    for (folder, number) in all.iter().chain(&archive) {
        let mut bytes = letter(*number).bytes;
        bytes[70] ^= 1;
        provider.damage("live", folder, &letter(*number), &bytes);
    }
    assert!(matches!(probe(), Probe::Altered { .. }), "{:?}", probe());

    for (folder, number) in all.iter().chain(&archive) {
        let foreign = addressed(*number, "otto@example.org").bytes;
        provider.damage("live", folder, &letter(*number), &foreign);
    }
    assert_eq!(probe(), Probe::Foreign);

    let cur = provider.at("live", "cur");
    fs::rename(&cur, provider.at("live", "cur.gone")).unwrap();
    assert!(matches!(probe(), Probe::Unreadable { .. }), "{:?}", probe());
}

#[test]
fn the_free_share_is_a_share() {
    let provider = Provider::healthy();

    assert!((1..=1_000_000).contains(&open(&provider).free_share_ppm().unwrap()));
}
