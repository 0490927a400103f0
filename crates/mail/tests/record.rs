//! Record: what a healthy mailbox holds is recorded, and told apart from it later.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/provider.rs"]
#[expect(dead_code, reason = "shared with the tests of damage")]
mod provider;

use provider::{MAILDIR, OWNER, Provider, letter};
use tidegate_mail::{
    Compared, DoubtKind, Fingerprint, Grade, Mailbox, ManifestEntry, PrepareTask,
    Prepared, Reason, Store, StoreConfig,
};

fn open(provider: &Provider, with_snapshot: bool) -> Store {
    Store::open(StoreConfig {
        live: provider.root("live"),
        snapshot: with_snapshot.then(|| provider.root("snapshot")),
        work: provider.root("work"),
        file_size_max: 10_000_000,
    })
    .unwrap()
}

fn mailbox() -> Mailbox {
    let path = MAILDIR.as_bytes().to_vec();
    Mailbox {
        key: Mailbox::key_of(&path),
        address: OWNER.to_owned(),
        path,
        served: false,
    }
}

fn prepare(store: &Store) -> Prepared {
    store.claim(1, 3, "worker").unwrap();
    let mailboxes = [mailbox()];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };
    store.prepare(&task).unwrap().pop().unwrap().unwrap()
}

fn compare(provider: &Provider) -> Compared {
    open(provider, false).compare(&mailbox()).unwrap().unwrap()
}

#[test]
fn a_healthy_mailbox_is_recorded_without_any_change_to_it() {
    let provider = Provider::healthy();
    let before = provider.tree("live");

    let recorded = open(&provider, false).record(&mailbox()).unwrap();

    assert_eq!((recorded.messages, recorded.faulty), (8, 0));
    assert_eq!(provider.tree("live"), before);
    let manifest = open(&provider, false).manifest(mailbox().key).unwrap().unwrap();
    assert_eq!(*blake3::hash(&manifest.to_bytes()).as_bytes(), recorded.digest);
    let bytes: u64 = manifest.entries.iter().map(|entry| entry.size_bytes).sum();
    assert_eq!(bytes, recorded.bytes);
    assert_eq!(compare(&provider), Compared { intact: 8, ..Compared::default() });
}

#[test]
fn what_was_never_recorded_cannot_be_compared() {
    let provider = Provider::healthy();

    assert_eq!(open(&provider, false).compare(&mailbox()).unwrap(), None);
}

#[test]
fn damage_deletion_and_new_mail_are_told_apart() {
    let provider = Provider::healthy();
    open(&provider, false).record(&mailbox()).unwrap();
    let mut bytes = letter(2).bytes;
    bytes[800] ^= 1;
    provider.damage("live", "", &letter(2), &bytes);
    provider.lose("live", "", &letter(3));
    provider.list("live", "", &[1, 2, 4, 5]);
    provider.put("live", ("", "new"), &letter(9), "");
    let damaged = provider.tree("live");

    let compared = compare(&provider);

    assert_eq!((compared.intact, compared.newer, compared.gone), (6, 1, 1));
    let bad: Vec<_> = compared.findings.iter().map(|it| (it.uid, it.reason())).collect();
    assert_eq!(bad, [(Some(2), Some(Reason::Altered))]);
    assert_eq!(compared.findings[0].kept_at, None);
    assert_eq!(provider.tree("live"), damaged);
    assert!(!provider.keeps(&bytes));
}

#[test]
fn a_digest_made_elsewhere_decides_between_two_versions_that_look_good() {
    let provider = Provider::healthy();
    let path = |number| {
        let bytes = letter(number).bytes;
        let fingerprint = Fingerprint::Blake3(*blake3::hash(&bytes).as_bytes());
        let rel = format!("cur/{}:2,S", letter(number).base);
        ManifestEntry::of_maildir_file(rel.as_bytes(), fingerprint).unwrap()
    };
    let mut bytes = letter(2).bytes;
    bytes[800] ^= 1;
    provider.damage("live", "", &letter(2), &bytes);
    let mut bytes = letter(3).bytes;
    bytes[800] ^= 1;
    provider.damage("snapshot", "", &letter(3), &bytes);
    let store = open(&provider, true);
    assert!(store.adopt(&mailbox(), vec![path(2), path(3), path(4)]).unwrap());

    let prepared = prepare(&store);

    assert_eq!((prepared.counts.intact, prepared.counts.repaired), (7, 1));
    assert_eq!(prepared.grade(), Grade::Perfect);
    for number in [2, 3, 4] {
        assert_eq!(provider.served("", &letter(number)), Some(letter(number).bytes));
    }
}

#[test]
fn doubts_outlive_a_second_run_and_odd_items_go_with_what_they_are() {
    let provider = Provider::healthy();
    let mut bytes = letter(2).bytes;
    bytes[800] ^= 1;
    provider.damage("live", "", &letter(2), &bytes);
    let link = provider.at("live", "link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let store = open(&provider, true);

    let first = prepare(&store);
    let second = prepare(&store);
    std::fs::remove_file(link).unwrap();
    let third = prepare(&store);

    let kinds = |prepared: &Prepared| {
        prepared.doubts.iter().map(|it| it.doubt().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&first), [DoubtKind::BothLookGood, DoubtKind::OddItem]);
    assert_eq!((second.doubts, second.counts.repaired), (first.doubts, 0));
    assert_eq!(kinds(&third), [DoubtKind::BothLookGood]);
    assert_eq!(third.grade(), Grade::Investigate);
    let listed = store.findings(mailbox().key).unwrap();
    assert_eq!(listed, third.doubts);
}

#[test]
fn recording_again_after_damage_forgets_nothing() {
    let provider = Provider::healthy();
    let first = open(&provider, false).record(&mailbox()).unwrap();
    let mut bytes = letter(2).bytes;
    bytes[800] ^= 1;
    provider.damage("live", "", &letter(2), &bytes);

    let again = open(&provider, false).record(&mailbox()).unwrap();

    assert_eq!((again.messages, again.faulty), (8, 1));
    assert_eq!(again.digest, first.digest);
}

#[test]
fn a_rollout_finds_what_was_recorded_before_it() {
    let provider = Provider::healthy();
    open(&provider, false).record(&mailbox()).unwrap();
    let mut bytes = letter(2).bytes;
    bytes[800] ^= 1;
    provider.damage("live", "", &letter(2), &bytes);
    let store = open(&provider, true);

    let prepared = prepare(&store);

    assert_eq!((prepared.counts.intact, prepared.counts.repaired), (7, 1));
    assert_eq!(prepared.grade(), Grade::Perfect);
    assert_eq!(provider.served("", &letter(2)), Some(letter(2).bytes));
}

#[test]
fn what_was_recorded_elsewhere_is_taken_over_unless_it_was_recorded_here() {
    let provider = Provider::healthy();
    let store = open(&provider, false);
    store.record(&mailbox()).unwrap();
    let manifest = store.manifest(mailbox().key).unwrap().unwrap();
    let other = Mailbox { key: 99, ..mailbox() };
    let mut reversed = manifest.entries.clone();
    reversed.reverse();

    assert!(store.adopt(&other, reversed.clone()).unwrap());
    assert!(!store.adopt(&other, reversed).unwrap());

    store.settle().unwrap();
    assert_eq!(store.manifest(99).unwrap(), Some(manifest));
}
