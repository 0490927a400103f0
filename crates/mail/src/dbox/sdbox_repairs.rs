//! Repairs of sdbox: real mailboxes of Dovecot's, damaged, prepared, and looked at by Dovecot.

use std::fs;

use super::doveadm::{Life, View};
use crate::doubt::DoubtKind;
use crate::finding::{Finding, FindingKind};
use crate::probe::Probe;

const INBOX: &str = "mailboxes/INBOX/dbox-Mails";

/// A mailbox and its snapshot; after it came two messages, one answer and one deletion.
fn life() -> Life {
    let life = Life::new("sdbox");
    life.snapshot();
    life.save("INBOX", 7);
    life.save("INBOX", 8);
    life.run(&["flags", "add", "\\Answered", "mailbox", "INBOX", "uid", "1"], "");
    life.run(&["expunge", "mailbox", "INBOX", "uid", "5"], "");
    life
}

/// After `damage` and preparing, mail programs see what they saw before, and another run changes
/// nothing.
fn mends(damage: impl Fn(&Life)) {
    let life = life();
    let before = life.view();
    damage(&life);

    life.prepare();

    settled(&life);
    let mut after = life.view();
    for (name, line) in &before.folders {
        let next = |line: &str| line.split('\t').nth(1).unwrap().parse::<u32>().unwrap();
        let now = after.folders.get_mut(name).unwrap();
        assert!(next(now) >= next(line), "{name}: {now}");
        *now = now.replacen(&next(now).to_string(), &next(line).to_string(), 1);
    }
    assert_eq!(after, before);
}

/// Another run finds nothing to do.
fn settled(life: &Life) {
    let tree = life.tree();
    let findings = life.store().findings(7).unwrap();
    let stamp = life.store().stamp(&Life::mailbox(false)).unwrap();
    let again = life.prepare();
    assert_eq!(life.tree(), tree);
    assert_eq!(again.stamp, stamp);
    assert_eq!(life.store().findings(7).unwrap(), findings);
    assert_eq!((again.counts.repaired, again.counts.returned), (0, 0));
}

fn subjects(view: &View, folder: &str) -> Vec<u32> {
    view.messages.keys().filter(|(name, _)| name == folder).map(|(_, uid)| *uid).collect()
}

#[test]
fn a_healthy_mailbox_is_left_as_it_is() {
    let life = life();
    let before = life.tree();

    let prepared = life.prepare();

    assert_eq!(life.tree(), before);
    assert_eq!(prepared.counts.intact, 6);
    assert_eq!(prepared.counts.newer, 2);
    assert_eq!(prepared.counts.deleted, 1);
    assert_eq!(prepared.doubts, []);
    settled(&life);
}

#[test]
fn damaged_messages_get_the_snapshots_bytes() {
    mends(|life| {
        life.zero(&format!("{INBOX}/u.1"), 300, 700);
        life.zero(&format!("{INBOX}/u.2"), 0, 4096);
        life.cut(&format!("{INBOX}/u.3"), 1000);
        fs::write(life.mail(&format!("{INBOX}/u.6")), b"").unwrap();
    });
    mends(|life| {
        let path = life.mail(&format!("{INBOX}/u.2"));
        let length = fs::metadata(&path).unwrap().len();
        life.zero(
            &format!("{INBOX}/u.2"),
            usize::try_from(length).unwrap() - 60,
            usize::MAX,
        );
        fs::copy(life.mail(&format!("{INBOX}/u.1")), life.mail(&format!("{INBOX}/u.6")))
            .unwrap();
    });
}

#[test]
fn lost_messages_come_back_under_their_uids() {
    mends(|life| {
        for uid in [1, 2, 3, 6] {
            fs::remove_file(life.mail(&format!("{INBOX}/u.{uid}"))).unwrap();
        }
    });
}

#[test]
fn a_lost_folder_comes_back_whole() {
    mends(|life| fs::remove_dir_all(life.mail("mailboxes/Archive")).unwrap());
}

#[test]
fn a_lost_mailbox_comes_back_as_the_snapshot_has_it() {
    let life = life();
    fs::remove_dir_all(life.mail("")).unwrap();

    let prepared = life.prepare();

    settled(&life);
    let view = life.view();
    assert_eq!(subjects(&view, "INBOX"), [1, 2, 3, 5, 6]);
    assert_eq!(prepared.counts.returned, 7);
    assert_eq!(view.messages[&("INBOX".to_owned(), 2)].flags, "\\Flagged $Work");
}

#[test]
fn a_folder_that_its_owner_deleted_stays_deleted() {
    let life = life();
    life.run(&["mailbox", "delete", "-s", "Archive/2024"], "");
    let before = life.view();

    let prepared = life.prepare();

    assert_eq!(life.view(), before);
    assert_eq!(prepared.counts.deleted, 3);
}

#[test]
fn a_renamed_folder_is_found_by_its_guid() {
    let life = life();
    life.run(&["mailbox", "rename", "Archive/2024", "Old"], "");
    let before = life.view();
    life.zero("mailboxes/Old/dbox-Mails/u.2", 200, 900);

    let prepared = life.prepare();

    assert_eq!(prepared.counts.repaired, 1);
    assert_eq!(life.view(), before);
}

/// Flags set since the snapshot, and deletions, are known to the lost index alone.
#[test]
fn a_lost_index_is_written_anew_with_what_the_snapshot_knows() {
    for damage in [
        |life: &Life| {
            fs::remove_file(life.mail(&format!("{INBOX}/dovecot.index.log"))).unwrap();
        },
        |life: &Life| life.zero(&format!("{INBOX}/dovecot.index.log"), 0, usize::MAX),
        |life: &Life| life.cut(&format!("{INBOX}/dovecot.index.log"), 0),
    ] {
        let life = life();
        let before = life.view();
        let modseq = life.highest_modseq("INBOX");
        damage(&life);

        life.prepare();

        settled(&life);
        let after = life.view();
        assert_eq!(subjects(&after, "INBOX"), [1, 2, 3, 5, 6, 7, 8]);
        let inbox = |uid| &after.messages[&("INBOX".to_owned(), uid)];
        assert_eq!(inbox(1).flags, "\\Seen");
        assert_eq!(inbox(2).flags, "\\Flagged $Work");
        assert_eq!(inbox(8), &before.messages[&("INBOX".to_owned(), 8)]);
        let (_, identity) = after.folders["INBOX"].split_once('\t').unwrap();
        let (next, identity) = identity.split_once('\t').unwrap();
        assert!(next.parse::<u32>().unwrap() > 100_000);
        assert!(before.folders["INBOX"].ends_with(identity));
        assert!(life.highest_modseq("INBOX") > modseq);
        life.save("INBOX", 9);
        assert_eq!(subjects(&life.view(), "INBOX").last(), Some(&next.parse().unwrap()));
    }
}

#[test]
fn a_cut_index_log_gives_what_its_sound_beginning_says() {
    let life = life();
    let log = life.mail(&format!("{INBOX}/dovecot.index.log"));
    let length = fs::metadata(&log).unwrap().len();
    life.save("INBOX", 9);
    life.run(&["flags", "add", "\\Draft", "mailbox", "INBOX", "uid", "9"], "");
    life.cut(&format!("{INBOX}/dovecot.index.log"), length + 30);

    life.prepare();

    settled(&life);
    let after = life.view();
    assert_eq!(subjects(&after, "INBOX"), [1, 2, 3, 6, 7, 8, 9]);
    assert_eq!(after.messages[&("INBOX".to_owned(), 1)].flags, "\\Answered \\Seen");
}

#[test]
fn what_nobody_has_good_is_set_aside_or_listed_and_not_served() {
    let life = life();
    life.zero(&format!("{INBOX}/u.7"), 300, 900);
    fs::remove_file(life.mail(&format!("{INBOX}/u.8"))).unwrap();
    let bytes = fs::read(life.mail(&format!("{INBOX}/u.7"))).unwrap();

    let modseq = life.highest_modseq("INBOX");

    life.prepare();

    settled(&life);
    assert!(life.highest_modseq("INBOX") > modseq);
    assert_eq!(subjects(&life.view(), "INBOX"), [1, 2, 3, 6]);
    assert!(life.keeps(&bytes));
    let findings = life.store().findings(7).unwrap();
    let kinds: Vec<_> = findings.iter().map(|it| (it.uid, it.kind())).collect();
    assert_eq!(kinds, [(Some(7), FindingKind::SetAside), (Some(8), FindingKind::Lost)]);
    life.save("INBOX", 9);
    assert_eq!(subjects(&life.view(), "INBOX"), [1, 2, 3, 6, 9]);
}

#[test]
fn a_crash_after_any_change_and_another_run_give_the_same_mailbox() {
    let damaged = life();
    damaged.zero(&format!("{INBOX}/u.1"), 300, 700);
    damaged.zero(&format!("{INBOX}/u.7"), 300, 900);
    fs::remove_file(damaged.mail(&format!("{INBOX}/u.3"))).unwrap();
    fs::remove_dir_all(damaged.mail("mailboxes/Archive")).unwrap();
    fs::remove_file(damaged.mail("subscriptions")).unwrap();
    let before: Vec<Vec<u8>> = damaged.tree().into_values().collect();
    let whole = damaged.twin();
    let changes = u64::MAX - whole.prepare_until(u64::MAX).0;
    let (expected, listed) = (whole.tree(), whole.store().findings(7).unwrap());
    assert!(changes > 20, "{changes}");

    for stop in 0..changes {
        let life = damaged.twin();
        life.prepare_until(stop);
        let now: Vec<Vec<u8>> = life.tree().into_values().collect();
        let kept = |bytes: &Vec<u8>| now.contains(bytes) || life.keeps(bytes);
        assert!(before.iter().all(kept), "destroyed after {stop} changes");

        life.prepare();

        assert_eq!(life.tree(), expected, "after {stop} of {changes} changes");
        assert_eq!(life.store().findings(7).unwrap(), listed, "after {stop}");
    }
}

#[test]
fn a_probe_reads_what_the_mail_server_would() {
    let life = life();
    life.prepare();
    let probe = |life: &Life| {
        (0..20)
            .map(|seed| life.store().probe(&Life::mailbox(true), seed))
            .collect::<Vec<_>>()
    };
    let healthy = |probes: &[Probe]| {
        probes.iter().all(|probe| matches!(probe, Probe::Healthy { .. }))
    };
    assert!(healthy(&probe(&life)), "{:?}", probe(&life));

    life.run(&["move", "Archive/2024", "mailbox", "INBOX", "uid", "1,8"], "");
    life.run(&["mailbox", "delete", "-s", "Archive/2024"], "");
    assert!(healthy(&probe(&life)), "what its user does is no failure");

    life.zero(&format!("{INBOX}/u.7"), 300, 900);
    let altered = |probe: &Probe| matches!(probe, Probe::Altered { .. });
    assert!(probe(&life).iter().any(altered), "{:?}", probe(&life));

    life.cut(&format!("{INBOX}/dovecot.index.log"), 300);
    let unreadable = |probe: &Probe| matches!(probe, Probe::Unreadable { .. });
    assert!(probe(&life).iter().all(unreadable), "{:?}", probe(&life));
}

#[test]
fn a_message_damaged_after_it_was_moved_is_repaired_from_where_it_was() {
    let life = life();
    life.run(&["move", "Archive/2024", "mailbox", "INBOX", "uid", "1,2"], "");
    let before = life.view();
    life.cut("mailboxes/Archive/2024/dbox-Mails/u.3", 900);
    life.zero("mailboxes/Archive/2024/dbox-Mails/u.4", 300, 900);

    let prepared = life.prepare();

    settled(&life);
    assert_eq!(life.view(), before);
    assert_eq!(prepared.counts.repaired, 2);
    let kinds: Vec<_> = prepared.doubts.iter().filter_map(Finding::doubt).collect();
    assert_eq!(kinds, [DoubtKind::RepairedFromTwin; 2]);
}

#[test]
fn a_file_written_over_by_another_messages_is_told_from_a_copy() {
    let life = life();
    life.run(&["copy", "INBOX", "mailbox", "INBOX", "uid", "6"], "");
    let before = life.view();
    let inbox = |uid| life.mail(&format!("{INBOX}/u.{uid}"));
    fs::copy(inbox(3), inbox(2)).unwrap();

    let prepared = life.prepare();

    settled(&life);
    assert_eq!(life.view(), before);
    assert_eq!(prepared.counts.repaired, 1);
}

#[test]
fn after_a_mailbox_was_open_what_its_user_deleted_stays_deleted() {
    let life = life();
    life.prepare();
    life.run(&["expunge", "mailbox", "INBOX", "uid", "2,7"], "");
    life.save("INBOX", 9);
    let before = life.view();
    life.zero(&format!("{INBOX}/u.3"), 300, 900);

    let (_, prepared) = life.prepare_as(&Life::mailbox(true), u64::MAX);

    // The copy in the other folder is a link to the same file.
    assert_eq!(prepared.unwrap().unwrap().counts.repaired, 2);
    assert_eq!(life.view(), before);
}

/// The mail server has begun another UIDVALIDITY, and given out UIDs again.
#[test]
fn a_mailbox_opened_after_its_index_was_lost_gets_back_what_is_missing() {
    let life = life();
    fs::remove_file(life.mail(&format!("{INBOX}/dovecot.index.log"))).unwrap();
    fs::remove_file(life.mail(&format!("{INBOX}/u.2"))).unwrap();
    life.try_run(&["force-resync", "INBOX"], "");
    life.save("INBOX", 9);
    let before = life.view();
    assert_eq!(subjects(&before, "INBOX"), [1, 3, 6, 7, 8, 9]);

    life.prepare();

    settled(&life);
    let after = life.view();
    let seen = |uid| &after.messages[&("INBOX".to_owned(), uid)];
    assert_eq!(seen(2).subject, "message 2");
    assert_eq!(seen(2).flags, "\\Flagged $Work");
    for (key, message) in &before.messages {
        assert_eq!(&after.messages[key], message);
    }
}

#[test]
fn compressed_messages_are_judged_by_what_they_unpack_to() {
    let life = Life::compressed("sdbox");
    life.snapshot();
    life.save("INBOX", 7);
    let before = life.view();
    let length = fs::metadata(life.mail(&format!("{INBOX}/u.6"))).unwrap().len();
    assert!(length < 5_000, "{length}");
    assert_eq!(life.prepare().counts.set_aside, 0);
    life.zero(&format!("{INBOX}/u.2"), 100, 120);
    life.zero(&format!("{INBOX}/u.7"), 100, 120);

    let prepared = life.prepare();

    let mut expected = before;
    expected.messages.remove(&("INBOX".to_owned(), 7));
    assert_eq!((prepared.counts.repaired, prepared.counts.set_aside), (1, 1));
    assert_eq!(life.view().messages, expected.messages);
}

#[test]
fn what_was_recorded_tells_which_side_is_damaged() {
    let life = Life::new("sdbox");
    life.store().record(&Life::mailbox(false)).unwrap();
    life.snapshot();
    let before = life.view();
    let flip = |path: std::path::PathBuf, subject: &[u8]| {
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(subject.len()).position(|it| it == subject).unwrap();
        bytes[at + 200] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    flip(life.mail("mailboxes/INBOX/dbox-Mails/u.3"), b"message 3");
    flip(life.at("snapshot/user/mail/mailboxes/INBOX/dbox-Mails/u.2"), b"message 2");

    let prepared = life.prepare();

    settled(&life);
    assert_eq!(life.view(), before);
    assert_eq!(prepared.doubts, []);
}
