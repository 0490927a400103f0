//! Damage: what is done to a mailbox, and what becomes of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/provider.rs"]
mod provider;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use provider::{Letter, MAILDIR, OWNER, Provider, addressed, letter, named};
use tidegate_mail::{
    DoubtKind, Mailbox, MessageCounts, PrepareTask, Prepared, Reason, Store, StoreConfig,
};

const HEALTHY: MessageCounts = MessageCounts {
    intact: 8,
    repaired: 0,
    returned: 0,
    newer: 0,
    deleted: 0,
    set_aside: 0,
    lost: 0,
};

fn open(provider: &Provider) -> Store {
    Store::open(StoreConfig {
        live: provider.root("live"),
        snapshot: Some(provider.root("snapshot")),
        work: provider.root("work"),
        file_size_max: 10_000_000,
    })
    .unwrap()
}

fn mailbox(served: bool) -> Mailbox {
    Mailbox {
        key: 7,
        address: OWNER.to_owned(),
        path: MAILDIR.as_bytes().to_vec(),
        served,
    }
}

fn prepare_with(provider: &Provider, served: bool) -> Prepared {
    let store = open(provider);
    store.claim(1, 3, "worker").unwrap();
    let mailboxes = [mailbox(served)];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };
    store.prepare(&task).unwrap().pop().unwrap().unwrap()
}

/// Prepares, then once more to see that nothing is left to do.
fn prepare(provider: &Provider) -> Prepared {
    let first = prepare_with(provider, false);
    let after = provider.tree("live");
    let second = prepare_with(provider, false);
    assert_eq!((second.counts.repaired, second.counts.returned), (0, 0));
    assert_eq!(second.set_aside, first.set_aside);
    assert_eq!(second.stamp, first.stamp);
    assert_eq!(second.manifest_digest, first.manifest_digest);
    assert_eq!(provider.tree("live"), after);
    first
}

fn check_served(provider: &Provider, folder: &str, letter: &Letter) {
    assert_eq!(provider.served(folder, letter), Some(letter.bytes.clone()));
}

/// Damages one live message, whose snapshot is good.
fn check_repair(damage: impl Fn(&mut Vec<u8>)) {
    let provider = Provider::healthy();
    let mail = letter(3);
    let mut bytes = mail.bytes.clone();
    damage(&mut bytes);
    let path = provider.find("live", "", &mail.base).unwrap();
    let renamed = path.with_file_name(format!("{}:2,RS", mail.base));
    fs::rename(&path, &renamed).unwrap();
    fs::write(&renamed, &bytes).unwrap();
    fs::set_permissions(&renamed, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&renamed).unwrap();

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 7, repaired: 1, ..HEALTHY });
    check_served(&provider, "", &mail);
    let after = fs::metadata(&renamed).unwrap();
    assert_eq!(after.mode() & 0o777, 0o640);
    assert_eq!(
        (after.mtime(), after.mtime_nsec()),
        (before.mtime(), before.mtime_nsec())
    );
    assert!(provider.keeps(&bytes), "the damaged bytes are kept");
    assert_eq!(open(&provider).stamp(&mailbox(false)).unwrap(), prepared.stamp);
    assert!(provider.read("live", "dovecot-uidlist").contains("3 :"));
}

#[test]
fn a_healthy_mailbox_is_left_as_it_is() {
    let provider = Provider::healthy();
    let before = provider.tree("live");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, HEALTHY);
    assert!(prepared.doubts.is_empty());
    assert_eq!(provider.tree("live"), before);
}

#[test]
fn a_mailbox_is_stamped_alike_while_it_is_read_and_by_a_look_at_it() {
    let provider = Provider::healthy();
    for extra in ["tmp/1.a", "cur/.hidden", ".Archive.2024/note", "sieve/rules", ".odd/x"]
    {
        provider.write("live", extra, b"x");
    }
    let look = || open(&provider).stamp(&mailbox(false)).unwrap();

    let read = prepare(&provider).stamp;

    assert_eq!(look(), read);
    provider.write("live", "tmp/2.b", b"on its way in");
    provider.write("live", "cur/.hidden", b"of no account");
    let later = prepare(&provider).stamp;
    assert_eq!(look(), later);
    provider.write("live", &format!("cur/{}:2,S", letter(1).base), &letter(1).bytes);
    assert_ne!(look(), later);
}

#[test]
fn damaged_live_bytes_become_the_snapshots_under_the_live_name() {
    check_repair(|bytes| bytes.truncate(700));
    check_repair(Vec::clear);
    check_repair(|bytes| bytes.fill(0));
    check_repair(|bytes| bytes[512..1024].fill(0));
    check_repair(|bytes| bytes.extend_from_slice(b"more"));
    check_repair(|bytes| *bytes = addressed(3, "otto@example.org").bytes);
    check_repair(|bytes| bytes[900] ^= 4);
}

#[test]
fn a_flipped_bit_is_doubted_because_both_sides_look_good() {
    let provider = Provider::healthy();
    let mut bytes = letter(2).bytes;
    bytes[800] ^= 1;
    provider.damage("live", "", &letter(2), &bytes);

    let prepared = prepare(&provider);

    let doubts: Vec<_> =
        prepared.doubts.iter().map(|it| (it.uid, it.doubt().unwrap())).collect();
    assert_eq!(doubts, [(Some(2), DoubtKind::BothLookGood)]);
}

#[test]
fn a_damaged_snapshot_does_not_touch_good_live_mail() {
    let provider = Provider::healthy();
    provider.damage("snapshot", "", &letter(1), &letter(1).bytes[..99]);
    provider.damage("snapshot", "", &letter(2), &[]);
    provider.lose("snapshot", "", &letter(3));
    let before = provider.tree("live");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 7, newer: 1, ..HEALTHY });
    assert_eq!(provider.tree("live"), before);
}

#[test]
fn what_is_damaged_on_both_sides_is_set_aside_and_listed() {
    let provider = Provider::healthy();
    let damaged = letter(4).bytes[..600].to_vec();
    provider.damage("live", "", &letter(4), &damaged);
    provider.damage("snapshot", "", &letter(4), &[]);

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 7, set_aside: 1, ..HEALTHY });
    let listed = &prepared.set_aside[0];
    assert_eq!((listed.folder.as_str(), listed.uid), ("", Some(4)));
    assert_eq!(
        (&listed.name, listed.reason().unwrap()),
        (&letter(4).base, Reason::BothSidesBad)
    );
    assert_eq!(listed.size_bytes, Some(600));
    let kept = provider.root("work").join(listed.kept_at.as_ref().unwrap());
    assert_eq!(fs::read(kept).unwrap(), damaged);
    assert_eq!(provider.served("", &letter(4)), None);
    assert_eq!(open(&provider).findings(7).unwrap(), prepared.set_aside);
}

#[test]
fn zeros_or_a_cut_on_both_sides_alike_are_still_damage() {
    let provider = Provider::healthy();
    for side in ["live", "snapshot"] {
        provider.damage(side, "", &letter(1), &letter(1).bytes[..512]);
        let zeros = vec![0; letter(2).bytes.len()];
        provider.damage(side, "", &letter(2), &zeros);
    }

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 6, set_aside: 2, ..HEALTHY });
}

#[test]
fn awkward_mail_that_both_sides_have_is_kept() {
    let provider = Provider::healthy();
    let awkward = [
        ("1.a", b"no header at all\nbut a line\n".to_vec()),
        ("2.b,S=3", b"abc".to_vec()),
        ("3.c", b"Subject: \xe4\xf6\n\n\xff\0\xfe".to_vec()),
        ("4.d,S=20,W=99", b"Subject: wrong W=\n\nx".to_vec()),
        ("5.e", b"Delivered-To: alias@example.net\n\nx\n".to_vec()),
        ("6.f", b"\x01\x02 binary from the first byte".to_vec()),
    ];
    for (base, bytes) in awkward {
        let letter = Letter { base: base.to_owned(), bytes };
        provider.put("live", ("", "cur"), &letter, ":2,S");
        provider.put("snapshot", ("", "cur"), &letter, ":2,");
    }

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 14, ..HEALTHY });
}

#[test]
fn a_lost_message_comes_back_under_its_old_uid() {
    let provider = Provider::healthy();
    provider.lose("live", "", &letter(2));
    let list = provider.read("live", "dovecot-uidlist");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 7, returned: 1, ..HEALTHY });
    check_served(&provider, "", &letter(2));
    assert_eq!(provider.read("live", "dovecot-uidlist"), list);
    let path = provider.find("live", "", &letter(2).base).unwrap();
    let meta = fs::metadata(path).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_795_000_002, 123_456_789));
}

#[test]
fn a_deletion_that_the_list_proves_is_honoured() {
    let provider = Provider::healthy();
    provider.lose("live", "", &letter(2));
    provider.list("live", "", &[1, 3, 4, 5]);

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 7, deleted: 1, ..HEALTHY });
    assert_eq!(provider.served("", &letter(2)), None);
}

#[test]
fn a_lost_list_is_rebuilt_and_missing_mail_comes_back_in_doubt() {
    let provider = Provider::healthy();
    provider.lose("live", "", &letter(2));
    provider.put("live", ("", "new"), &letter(6), "");
    fs::remove_file(provider.at("live", "dovecot-uidlist")).unwrap();

    let prepared = prepare(&provider);

    assert_eq!(
        prepared.counts,
        MessageCounts { intact: 7, returned: 1, newer: 1, ..HEALTHY }
    );
    let kinds: Vec<_> = prepared.doubts.iter().map(|it| it.doubt().unwrap()).collect();
    assert_eq!(kinds, [DoubtKind::UidlistRebuilt, DoubtKind::DeletionUnproved]);
    let list = provider.read("live", "dovecot-uidlist");
    assert!(list.starts_with("3 V1795293977 N100013 Gf0102b0\n1 :"), "{list}");
    assert_eq!(list.lines().count(), 6, "{list}");
}

#[test]
fn a_cut_list_still_proves_the_deletions_before_the_cut() {
    let provider = Provider::healthy();
    provider.lose("live", "", &letter(2));
    provider.lose("live", "", &letter(5));
    provider.list("live", "", &[1, 3, 4, 5]);
    let list = provider.read("live", "dovecot-uidlist");
    let cut = &list.as_bytes()[..list.len() - 50];
    provider.write("live", "dovecot-uidlist", cut);

    let prepared = prepare(&provider);

    assert_eq!(
        prepared.counts,
        MessageCounts { intact: 6, returned: 1, deleted: 1, ..HEALTHY }
    );
    assert_eq!(provider.served("", &letter(2)), None);
    check_served(&provider, "", &letter(5));
    let list = provider.read("live", "dovecot-uidlist");
    assert!(list.contains("\n5 :") && !list.contains("\n2 :"), "{list}");
}

#[test]
fn changed_flags_and_a_move_from_new_to_cur_are_no_loss() {
    let provider = Provider::healthy();
    let path = provider.find("live", "", &letter(1).base).unwrap();
    let seen = path.with_file_name(letter(1).base + ":2,FRSab");
    fs::rename(path, seen).unwrap();
    provider.put("snapshot", ("", "new"), &letter(6), "");
    provider.put("live", ("", "cur"), &letter(6), ":2,S");
    let before = provider.tree("live");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 9, ..HEALTHY });
    assert_eq!(provider.tree("live"), before);
}

#[test]
fn of_a_message_in_new_and_cur_one_is_served_and_the_other_kept() {
    let provider = Provider::healthy();
    let mut bytes = letter(1).bytes;
    bytes.truncate(10);
    let cut = Letter { bytes: bytes.clone(), ..letter(1) };
    provider.lose("live", "", &letter(1));
    provider.put("live", ("", "cur"), &cut, ":2,S");
    provider.put("live", ("", "new"), &letter(1), "");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, HEALTHY);
    assert_eq!(prepared.doubts[0].doubt().unwrap(), DoubtKind::Twice);
    check_served(&provider, "", &letter(1));
    assert!(provider.keeps(&bytes));
}

#[test]
fn mail_to_another_address_of_the_owner_is_the_owners() {
    let provider = Provider::healthy();
    for number in [21, 22] {
        provider.put("live", ("", "new"), &addressed(number, "sales@example.org"), "");
    }
    provider.put("live", ("", "new"), &addressed(24, "otto@example.org"), "");

    let prepared = prepare(&provider);

    assert_eq!((prepared.counts.newer, prepared.counts.set_aside), (2, 1));
    assert_eq!(prepared.set_aside[0].reason().unwrap(), Reason::ForeignBytes);
}

#[test]
fn newer_mail_is_kept_if_good_and_set_aside_if_not() {
    let provider = Provider::healthy();
    let bad = Letter { bytes: letter(7).bytes[..50].to_vec(), ..letter(7) };
    provider.put("live", ("", "new"), &letter(6), "");
    provider.put("live", ("", "new"), &bad, "");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { newer: 1, set_aside: 1, ..HEALTHY });
    assert!(matches!(prepared.set_aside[0].reason().unwrap(), Reason::Truncated { .. }));
    assert_eq!(provider.served("", &letter(7)), None);
}

#[test]
fn a_moved_message_is_repaired_from_the_place_it_came_from() {
    let provider = Provider::healthy();
    let sizes = letter(2).base.split_once(',').unwrap().1.to_owned();
    let moved = format!("1795999999.M1P1.host,{sizes}");
    let damaged = Letter { base: moved, bytes: letter(2).bytes[..800].to_vec() };
    provider.lose("live", "", &letter(2));
    provider.list("live", "", &[1, 3, 4, 5]);
    provider.put("live", (".Archive.2024", "cur"), &damaged, ":2,S");

    let prepared = prepare(&provider);

    let expected = MessageCounts { intact: 7, repaired: 1, deleted: 1, ..HEALTHY };
    assert_eq!(prepared.counts, expected);
    assert_eq!(
        provider.served(".Archive.2024", &damaged).unwrap(),
        letter(2).bytes,
        "the bytes of its origin under its new name"
    );
    assert!(
        prepared.doubts.iter().any(|it| it.doubt() == Some(DoubtKind::RepairedFromTwin))
    );
}

#[test]
fn what_is_listed_and_nowhere_is_reported_as_lost() {
    let provider = Provider::healthy();
    provider.list("live", "", &[1, 2, 3, 4, 5, 6]);

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { lost: 1, ..HEALTHY });
    let lost = &prepared.set_aside[0];
    assert_eq!(
        (lost.uid, lost.reason().unwrap(), &lost.kept_at),
        (Some(6), Reason::Missing, &None)
    );
    assert_eq!(lost.name, letter(6).base);
}

#[test]
fn a_lost_folder_comes_back_whole() {
    let provider = Provider::healthy();
    fs::remove_dir_all(provider.at("live", ".Archive.2024")).unwrap();

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 5, returned: 3, ..HEALTHY });
    check_served(&provider, ".Archive.2024", &letter(12));
    for sub in ["cur", "new", "tmp", "maildirfolder", "dovecot-uidlist"] {
        assert!(provider.at("live", ".Archive.2024").join(sub).exists(), "{sub}");
    }
}

#[test]
fn a_lost_maildir_comes_back_whole() {
    let provider = Provider::healthy();
    fs::remove_dir_all(provider.root("live").join("example.org")).unwrap();

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 0, returned: 8, ..HEALTHY });
    check_served(&provider, "", &letter(1));
    assert_eq!(provider.read("live", "dovecot-keywords"), "0 $Work\n1 $Junk\n");
    assert!(provider.at("live", "subscriptions").exists());
}

#[test]
fn a_lost_cur_is_made_again_with_its_mail() {
    let provider = Provider::healthy();
    fs::remove_dir_all(provider.at("live", "cur")).unwrap();
    fs::remove_dir_all(provider.at("live", "tmp")).unwrap();

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 3, returned: 5, ..HEALTHY });
    assert!(provider.at("live", "tmp").is_dir());
}

/// Message 2 as it is called after its owner moved it.
fn moved() -> Letter {
    let sizes = letter(2).base.split_once(',').unwrap().1.to_owned();
    Letter { base: format!("1795999999.M1P1.host,{sizes}"), ..letter(2) }
}

/// Moves message 2 to the archive.
fn move_away(provider: &Provider) {
    provider.lose("live", "", &letter(2));
    provider.list("live", "", &[1, 3, 4, 5]);
    provider.put("live", (".Archive.2024", "cur"), &moved(), ":2,S");
    let mut listed: Vec<_> = (11..=13).map(|it| (it, letter(it).base)).collect();
    listed.push((14, moved().base));
    provider.list_of("live", ".Archive.2024", &listed);
}

fn check_back(provider: &Provider, prepared: &Prepared) {
    check_served(provider, "", &letter(2));
    let doubts = prepared.doubts.iter();
    let doubts = doubts.filter(|it| it.folder.is_empty());
    let doubts = doubts.filter(|it| it.doubt() == Some(DoubtKind::DeletionUnproved));
    assert_eq!(doubts.map(|it| &*it.name).collect::<Vec<_>>(), [&letter(2).base]);
    let list = provider.read("live", "dovecot-uidlist");
    let as_new = format!("3 V1795293977 N15 Gf0102b0\n1 :{}\n3 ", letter(1).base);
    assert!(list.starts_with(&as_new), "{list}");
    assert!(list.ends_with(&format!("\n14 :{}\n", letter(2).base)), "{list}");
}

#[test]
fn what_was_moved_to_a_folder_that_is_lost_comes_back_where_it_was_as_new_mail() {
    let provider = Provider::healthy();
    move_away(&provider);
    fs::remove_dir_all(provider.at("live", ".Archive.2024")).unwrap();

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 4, returned: 4, ..HEALTHY });
    check_back(&provider, &prepared);
}

#[test]
fn what_was_moved_and_then_lost_comes_back_where_it_was_and_other_deletions_hold() {
    let provider = Provider::healthy();
    let other = named(15, b"Subject: of another size\n\nx\n".to_vec());
    provider.put("snapshot", ("", "cur"), &other, ":2,S");
    let mut listed: Vec<_> = (1..=5).map(|it| (it, letter(it).base)).collect();
    listed.push((13, other.base.clone()));
    provider.list_of("snapshot", "", &listed);
    move_away(&provider);
    provider.lose("live", ".Archive.2024", &moved());

    let prepared = prepare(&provider);

    let expected =
        MessageCounts { intact: 7, returned: 1, deleted: 1, lost: 1, ..HEALTHY };
    assert_eq!(prepared.counts, expected);
    check_back(&provider, &prepared);
    assert_eq!(provider.served("", &other), None);
    assert_eq!(prepared.set_aside[0].name, moved().base);
}

#[test]
fn what_was_moved_and_is_beyond_repair_there_comes_back_where_it_was() {
    let provider = Provider::healthy();
    move_away(&provider);
    let zeros = vec![0; moved().bytes.len()];
    provider.damage("live", ".Archive.2024", &moved(), &zeros);

    let prepared = prepare(&provider);

    let expected = MessageCounts { intact: 7, returned: 1, set_aside: 1, ..HEALTHY };
    assert_eq!(prepared.counts, expected);
    check_back(&provider, &prepared);
}

#[test]
fn what_was_moved_and_stands_there_does_not_come_back_too() {
    let provider = Provider::healthy();
    move_away(&provider);
    fs::remove_file(provider.at("live", ".Archive.2024/dovecot-uidlist")).unwrap();
    provider.write("live", "subscriptions", b"V\t2\n\nArchive\t2024\nLost\n");

    let prepared = prepare(&provider);

    let expected = MessageCounts { intact: 7, newer: 1, deleted: 1, ..HEALTHY };
    assert_eq!(prepared.counts, expected);
    assert_eq!(provider.served("", &letter(2)), None);
}

#[test]
fn a_folder_known_by_its_subscription_alone_may_have_held_what_was_moved() {
    let provider = Provider::healthy();
    provider.lose("live", "", &letter(2));
    provider.list("live", "", &[1, 3, 4, 5]);
    provider.write("live", "subscriptions", b"V\t2\n\nArchive\t2024\nLost\n");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 7, returned: 1, ..HEALTHY });
    check_back(&provider, &prepared);
}

#[test]
fn one_strange_message_cut_to_two_sizes_makes_its_recipient_no_alias() {
    let provider = Provider::healthy();
    let foreign = addressed(21, "otto@example.org").bytes;
    for (number, size) in [(21, 700), (22, 900)] {
        let bytes = foreign[..size].to_vec();
        provider.put("live", ("", "new"), &named(number, bytes), "");
    }

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { set_aside: 2, ..HEALTHY });
}

#[test]
fn a_renamed_folder_is_known_by_its_guid() {
    let provider = Provider::healthy();
    let (old, new) = (provider.at("live", ".Archive.2024"), provider.at("live", ".Old"));
    fs::rename(old, new).unwrap();
    provider.damage("live", ".Old", &letter(11), b"");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { intact: 7, repaired: 1, ..HEALTHY });
    assert!(!provider.at("live", ".Archive.2024").exists());
}

#[test]
fn a_mailbox_without_a_snapshot_is_judged_by_itself() {
    let provider = Provider::healthy();
    fs::remove_dir_all(provider.root("snapshot").join("example.org")).unwrap();
    provider.damage("live", "", &letter(1), b"");

    let prepared = prepare(&provider);

    assert_eq!(
        prepared.counts,
        MessageCounts { intact: 0, newer: 7, set_aside: 1, ..HEALTHY }
    );
}

#[test]
fn keywords_and_subscriptions_come_back_and_letters_keep_their_meaning() {
    let provider = Provider::healthy();
    provider.write("live", "subscriptions", &[0; 30]);
    provider.write("live", "dovecot-keywords", b"0 $Junk\n");
    provider.put("snapshot", ("", "cur"), &letter(6), ":2,Sa");
    for side in ["live", "snapshot"] {
        provider.list(side, "", &[1, 2, 3, 4, 5, 6]);
    }

    prepare(&provider);

    assert_eq!(provider.read("live", "dovecot-keywords"), "0 $Junk\n1 $Work\n");
    let back = provider.find("live", "", &letter(6).base).unwrap();
    assert!(back.to_str().unwrap().ends_with(":2,Sb"));
    assert!(provider.read("live", "subscriptions").starts_with("V\t2"));
}

#[test]
fn lost_keywords_come_from_the_snapshot_and_zeroed_indexes_move_aside() {
    let provider = Provider::healthy();
    fs::remove_file(provider.at("live", "dovecot-keywords")).unwrap();
    provider.write("live", "dovecot.index", &[0; 200]);
    let log = b"\x01\x03\x18\0\x4d\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    provider.write("live", "dovecot.index.log", log);

    let prepared = prepare(&provider);

    let kinds: Vec<_> = prepared.doubts.iter().map(|it| it.doubt().unwrap()).collect();
    assert_eq!(kinds, [DoubtKind::ModseqLost, DoubtKind::IndexDamaged]);
    assert_eq!(provider.read("live", "dovecot-keywords"), "0 $Work\n1 $Junk\n");
    assert!(!provider.at("live", "dovecot.index").exists());
    assert!(provider.at("live", "dovecot.index.log").exists());
    assert!(provider.keeps(&[0; 200]));
}

/// A log of Dovecot's with nothing in it but the count of changes that it begins with.
fn log_that_counts(modseq: u64) -> Vec<u8> {
    let words = [0x28_0301_u32, 77, 2, 0, 0, 88].map(u32::to_le_bytes).concat();
    [&*words, &modseq.to_le_bytes(), &1_u64.to_le_bytes()].concat()
}

/// With which count of changes the log of the inbox begins.
fn first_count(provider: &Provider) -> u64 {
    let log = fs::read(provider.at("live", "dovecot.index.log")).unwrap();
    u64::from_le_bytes(log.get(24..32).unwrap().try_into().unwrap())
}

#[test]
fn the_count_of_changes_goes_on_where_indexes_are_damaged_or_lost() {
    let torn = [&*log_that_counts(900), b"torn"].concat();
    for (live, told) in [(Some(torn), 900), (Some(vec![0; 99]), 500), (None, 500)] {
        let provider = Provider::healthy();
        provider.write("snapshot", "dovecot.index.log", &log_that_counts(500));
        provider.write("live", "dovecot.index.cache", b"of the old index");
        if let Some(log) = &live {
            provider.write("live", "dovecot.index.log", log);
        }

        let prepared = prepare(&provider);
        prepare(&provider);

        assert!(first_count(&provider) > told);
        assert!(!provider.at("live", "dovecot.index.cache").exists());
        assert!(live.is_none_or(|log| provider.keeps(&log)));
        let mut doubts = prepared.doubts.iter().map(|it| it.doubt().unwrap());
        assert!(!doubts.any(|it| it == DoubtKind::ModseqLost));
    }
}

#[test]
fn deletions_after_the_mailbox_was_open_are_the_users() {
    let provider = Provider::healthy();
    prepare_with(&provider, false);
    provider.lose("live", "", &letter(1));
    provider.damage("live", "", &letter(2), b"");
    provider.put("live", ("", "new"), &letter(6), "");
    let mut flipped = letter(3).bytes;
    flipped[99] ^= 1;
    provider.damage("snapshot", "", &letter(3), &flipped);

    let prepared = prepare_with(&provider, true);

    assert_eq!(
        prepared.counts,
        MessageCounts { intact: 6, repaired: 1, newer: 1, deleted: 1, ..HEALTHY }
    );
    assert_eq!(provider.served("", &letter(1)), None);
    check_served(&provider, "", &letter(3));
}

#[test]
fn a_folder_deleted_while_the_mailbox_was_open_stays_deleted() {
    let provider = Provider::healthy();
    prepare_with(&provider, false);
    fs::remove_dir_all(provider.at("live", ".Archive.2024")).unwrap();

    let prepared = prepare_with(&provider, true);

    assert_eq!(prepared.counts, MessageCounts { intact: 5, deleted: 3, ..HEALTHY });
    assert!(!provider.at("live", ".Archive.2024").exists());
}

#[test]
fn a_directory_that_no_user_can_delete_comes_back_with_its_mail() {
    let provider = Provider::healthy();
    prepare_with(&provider, false);
    fs::rename(provider.at("live", "cur"), provider.at("live", "cur.gone")).unwrap();

    let prepared = prepare_with(&provider, true);

    assert_eq!(prepared.counts, MessageCounts { intact: 3, returned: 5, ..HEALTHY });
}

#[test]
fn what_was_lost_before_the_mailbox_was_open_stays_listed() {
    let provider = Provider::healthy();
    provider.list("live", "", &[1, 2, 3, 4, 5, 6]);
    provider.damage("live", "", &letter(2), b"");
    provider.damage("snapshot", "", &letter(2), b"");
    let before = prepare_with(&provider, false);

    let after = prepare_with(&provider, true);

    assert_eq!(after.set_aside, before.set_aside);
    let expected = MessageCounts { intact: 7, set_aside: 1, lost: 1, ..HEALTHY };
    assert_eq!(after.counts, expected);
}

#[test]
fn newer_mail_deleted_while_the_mailbox_was_open_is_no_loss() {
    let provider = Provider::healthy();
    provider.put("live", ("", "new"), &letter(6), "");
    prepare_with(&provider, false);
    provider.lose("live", "", &letter(6));

    let prepared = prepare_with(&provider, true);

    assert_eq!(prepared.counts, MessageCounts { deleted: 1, ..HEALTHY });
}

#[test]
fn repaired_and_returned_mail_belongs_to_the_owner_of_the_live_files() {
    // Only root may give files away; for others every file is theirs anyway.
    let root = rustix::process::geteuid().is_root();
    let owner = if root { 4321 } else { rustix::process::geteuid().as_raw() };
    let provider = Provider::healthy();
    provider.damage("live", "", &letter(1), b"");
    provider.lose("live", "", &letter(2));
    fs::remove_dir_all(provider.at("live", ".Archive.2024")).unwrap();
    let damaged = provider.find("live", "", &letter(1).base).unwrap();
    for path in [provider.at("live", ""), damaged] {
        chown(path, Some(owner), None).unwrap();
    }

    prepare(&provider);

    for (folder, number) in [("", 1), ("", 2), (".Archive.2024", 11)] {
        let path = provider.find("live", folder, &letter(number).base).unwrap();
        assert_eq!(fs::metadata(path).unwrap().uid(), owner, "{folder} {number}");
    }
    let folder = fs::metadata(provider.at("live", ".Archive.2024/cur")).unwrap();
    assert_eq!(folder.uid(), owner);
}

#[test]
fn mail_with_crlf_line_ends_is_judged_alike() {
    let provider = Provider::healthy();
    let text = String::from_utf8(letter(8).bytes).unwrap().replace('\n', "\r\n");
    let crlf = named(8, text.into_bytes());
    provider.put("live", ("", "cur"), &crlf, ":2,S");
    let mut zeroed = crlf.bytes.clone();
    zeroed[512..1024].fill(0);
    let other = Letter { base: format!("9{}", crlf.base), bytes: zeroed };
    provider.put("live", ("", "cur"), &other, ":2,S");

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts, MessageCounts { newer: 1, set_aside: 1, ..HEALTHY });
    let reason = prepared.set_aside[0].reason().unwrap();
    assert_eq!(reason, Reason::NulRun { offset: 512, length: 512 });
}

#[test]
fn the_manifest_lists_every_message_that_is_served() {
    let provider = Provider::healthy();
    provider.damage("live", "", &letter(2), b"");

    let prepared = prepare(&provider);

    let manifest = open(&provider).manifest(7).unwrap().unwrap();
    let digest = *blake3::hash(&manifest.to_bytes()).as_bytes();
    assert_eq!(digest, prepared.manifest_digest);
    let second = &manifest.entries[1];
    assert_eq!(second.name, letter(2).base.as_bytes());
    assert_eq!(second.uid, Some(2));
    assert_eq!(second.size_bytes, letter(2).bytes.len() as u64);
    assert_eq!(manifest.entries.len(), 8);
}
