//! Repairs of mdbox: real mailboxes of Dovecot's, damaged, prepared, and looked at by Dovecot.

use std::fs;

use super::doveadm::{Life, View};
use crate::finding::FindingKind;
use crate::probe::Probe;

const INBOX: &str = "mailboxes/INBOX/dbox-Mails";
const LOG: &str = "dovecot.index.log";
const MAP: &str = "storage/dovecot.map.index.log";
const MAIL: &str = "storage/m.1";

/// A mailbox and its snapshot; after it came two messages, one answer, one deletion and one copy.
fn life() -> Life {
    let life = Life::new("mdbox");
    life.snapshot();
    life.save("INBOX", 7);
    life.save("INBOX", 8);
    life.run(&["flags", "add", "\\Answered", "mailbox", "INBOX", "uid", "1"], "");
    life.run(&["expunge", "mailbox", "INBOX", "uid", "5"], "");
    life.run(&["copy", "Archive/2024", "mailbox", "INBOX", "uid", "7"], "");
    life
}

/// After `damage` and preparing, mail programs see what they saw before, and another run changes
/// nothing.
fn mends(damage: impl Fn(&Life)) -> Life {
    let life = life();
    let before = life.view();
    damage(&life);

    life.prepare();

    settled(&life);
    assert_eq!(life.view().without_next_uids(), before.without_next_uids());
    life
}

/// Another run finds nothing to do, and nor does Dovecot when it is made to look.
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

fn uids(view: &View, folder: &str) -> Vec<u32> {
    view.messages.keys().filter(|(name, _)| name == folder).map(|(_, uid)| *uid).collect()
}

/// Where the body of a message begins in the file.
fn place(life: &Life, number: u32) -> usize {
    let bytes = fs::read(life.mail(MAIL)).unwrap();
    let subject = format!("Subject: message {number}\n");
    bytes.windows(subject.len()).position(|it| it == subject.as_bytes()).unwrap()
}

#[test]
fn a_healthy_mailbox_is_left_as_it_is() {
    let life = life();
    let before = life.tree();

    let prepared = life.prepare();

    assert_eq!(life.tree(), before);
    let counts = prepared.counts;
    assert_eq!((counts.intact, counts.newer, counts.deleted), (6, 3, 1));
    assert_eq!(prepared.doubts, []);
    settled(&life);
}

#[test]
fn damaged_messages_get_the_snapshots_bytes() {
    mends(|life| life.zero(MAIL, place(life, 2) + 100, place(life, 2) + 900));
    mends(|life| life.zero(MAIL, place(life, 3) - 300, place(life, 3) + 300));
    mends(|life| life.zero(MAIL, 0, 4096));
    mends(|life| life.zero(MAIL, 0, 3));
}

#[test]
fn a_lost_or_cut_file_gives_back_what_the_snapshot_has() {
    let lose: [fn(&Life); 4] = [
        |life| fs::remove_file(life.mail(MAIL)).unwrap(),
        |life| life.zero(MAIL, 0, usize::MAX),
        |life| life.cut(MAIL, 0),
        |life| life.cut(MAIL, place(life, 6) as u64),
    ];
    for damage in lose {
        let life = life();
        let before = life.view();
        damage(&life);

        life.prepare();

        settled(&life);
        let after = life.view();
        assert_eq!(uids(&after, "INBOX"), [1, 2, 3, 6]);
        assert_eq!(uids(&after, "Archive/2024"), [1, 2]);
        for (key, seen) in &after.messages {
            assert_eq!(seen, &before.messages[key]);
        }
        let findings = life.store().findings(7).unwrap();
        let lost = findings.iter().filter(|it| it.kind() != FindingKind::Doubt);
        assert_eq!(lost.count(), 3, "two messages, one of them in two folders");
        life.save("INBOX", 9);
        assert_eq!(uids(&life.view(), "INBOX").len(), 5);
    }
}

#[test]
fn a_lost_map_is_made_again_from_files_and_folders() {
    let lose: [fn(&Life); 3] = [
        |life| fs::remove_file(life.mail(MAP)).unwrap(),
        |life| life.zero(MAP, 0, usize::MAX),
        |life| life.cut(MAP, 700),
    ];
    for damage in lose {
        let life = mends(damage);
        let before = life.view();
        let (_, said) = life.try_run(&["force-resync", "*"], "");
        assert!(!said.contains("Error"), "{said}");
        assert_eq!(life.view(), before, "expunged mail stays away");
        life.run(&["purge"], "");
        assert_eq!(life.view(), before);
    }
}

/// The map knows which messages the folder still held, the snapshot what it said of them.
#[test]
fn a_lost_folder_index_is_written_anew() {
    let lose: [fn(&Life); 2] = [
        |life| fs::remove_file(life.mail(&format!("{INBOX}/{LOG}"))).unwrap(),
        |life| life.zero(&format!("{INBOX}/{LOG}"), 0, usize::MAX),
    ];
    for damage in lose {
        let life = life();
        let before = life.view();
        damage(&life);

        life.prepare();

        settled(&life);
        let after = life.view();
        let inbox = uids(&after, "INBOX");
        assert_eq!(inbox[..4], [1, 2, 3, 6]);
        assert_eq!(inbox.len(), 6);
        assert!(inbox[4] > 100_000);
        let seen = |uid| &after.messages[&("INBOX".to_owned(), uid)];
        assert_eq!(seen(2), &before.messages[&("INBOX".to_owned(), 2)]);
        assert_eq!(seen(inbox[4]).subject, "message 7");
        assert_eq!(seen(inbox[5]).subject, "message 8");
        let identity =
            |view: &View| view.folders["INBOX"].rsplit('\t').next().unwrap().to_owned();
        assert_eq!(identity(&after), identity(&before));
    }
}

#[test]
fn a_cut_folder_log_gives_what_its_sound_beginning_says() {
    let life = life();
    let length = fs::metadata(life.mail(&format!("{INBOX}/{LOG}"))).unwrap().len();
    life.save("INBOX", 9);
    life.cut(&format!("{INBOX}/{LOG}"), length + 30);

    life.prepare();

    settled(&life);
    let after = life.view();
    let inbox = uids(&after, "INBOX");
    assert_eq!(inbox[..6], [1, 2, 3, 6, 7, 8]);
    assert_eq!(after.messages[&("INBOX".to_owned(), inbox[6])].subject, "message 9");
    assert_eq!(after.messages[&("INBOX".to_owned(), 1)].flags, "\\Answered \\Seen");
}

#[test]
fn a_lost_folder_comes_back_whole() {
    let life = life();
    let before = life.view();
    fs::remove_dir_all(life.mail("mailboxes/Archive")).unwrap();

    life.prepare();

    settled(&life);
    let after = life.view();
    assert_eq!(uids(&after, "INBOX"), uids(&before, "INBOX"));
    let archive = uids(&after, "Archive/2024");
    assert_eq!(archive[..2], [1, 2]);
    assert_eq!(
        after.messages[&("Archive/2024".to_owned(), archive[2])].subject,
        "message 7"
    );
}

#[test]
fn a_lost_mailbox_comes_back_as_the_snapshot_has_it() {
    let life = life();
    fs::remove_dir_all(life.mail("")).unwrap();

    life.prepare();

    settled(&life);
    let view = life.view();
    assert_eq!(uids(&view, "INBOX"), [1, 2, 3, 5, 6]);
    assert_eq!(uids(&view, "Archive/2024"), [1, 2]);
}

#[test]
fn purged_files_are_repaired_from_wherever_the_snapshot_has_the_message() {
    let life = life();
    life.run(&["purge"], "");
    let before = life.view();
    let storage = fs::read_dir(life.mail("storage")).unwrap();
    let file = storage.map(|it| it.unwrap().file_name().into_string().unwrap());
    let file = file.filter(|name| name.starts_with("m.")).max().unwrap();
    assert_ne!(file, "m.1");
    let bytes = fs::read(life.mail(&format!("storage/{file}"))).unwrap();
    let at = bytes.windows(9).position(|it| it == b"message 2").unwrap();
    life.zero(&format!("storage/{file}"), at + 50, at + 2000);

    life.prepare();

    settled(&life);
    assert_eq!(life.view(), before);
}

#[test]
fn what_nobody_has_good_is_set_aside_and_not_served() {
    let life = life();
    let at = place(&life, 7);
    life.zero(MAIL, at + 100, at + 900);

    let modseq = life.highest_modseq("INBOX");

    life.prepare();

    settled(&life);
    assert!(life.highest_modseq("INBOX") > modseq);
    let view = life.view();
    assert_eq!(uids(&view, "INBOX"), [1, 2, 3, 6, 8]);
    assert_eq!(uids(&view, "Archive/2024"), [1, 2]);
    let findings = life.store().findings(7).unwrap();
    let kinds: Vec<_> = findings.iter().map(|it| (it.uid, it.kind())).collect();
    let aside = FindingKind::SetAside;
    assert_eq!(kinds, [(Some(7), aside), (Some(3), aside)]);
    let (_, said) = life.try_run(&["force-resync", "*"], "");
    assert!(!said.contains("Error"), "{said}");
    assert_eq!(life.view(), view);
}

#[test]
fn a_crash_after_any_change_and_another_run_give_the_same_mailbox() {
    let damaged = life();
    let at = place(&damaged, 7);
    damaged.zero(MAIL, at + 100, at + 900);
    damaged.zero(MAIL, place(&damaged, 3) - 200, place(&damaged, 3) + 300);
    fs::remove_dir_all(damaged.mail("mailboxes/Archive")).unwrap();
    fs::remove_file(damaged.mail("subscriptions")).unwrap();
    let before: Vec<Vec<u8>> = damaged.tree().into_values().collect();
    let whole = damaged.twin();
    let changes = u64::MAX - whole.prepare_until(u64::MAX).0;
    let (expected, listed) = (whole.tree(), whole.store().findings(7).unwrap());
    assert!(changes > 15, "{changes}");

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

    let at = place(&life, 7);
    life.zero(MAIL, at + 300, at + 900);
    let altered = |probe: &Probe| matches!(probe, Probe::Altered { .. });
    assert!(probe(&life).iter().any(altered), "{:?}", probe(&life));

    life.cut(&format!("{INBOX}/dovecot.index.log"), 300);
    let unreadable = |probe: &Probe| matches!(probe, Probe::Unreadable { .. });
    assert!(probe(&life).iter().all(unreadable), "{:?}", probe(&life));
}

/// The list of folders names it, the map has its messages, and they say where they belong.
#[test]
fn a_new_folder_that_is_lost_comes_back_with_its_messages() {
    let lose: [fn(&Life); 2] = [
        |life| fs::remove_dir_all(life.mail("mailboxes")).unwrap(),
        |life| {
            for folder in [INBOX, "mailboxes/Old/dbox-Mails", "mailboxes/New/dbox-Mails"]
            {
                fs::remove_file(life.mail(&format!("{folder}/{LOG}"))).unwrap();
            }
        },
    ];
    for damage in lose {
        let life = life();
        life.run(&["mailbox", "rename", "Archive/2024", "Old"], "");
        life.run(&["mailbox", "create", "New"], "");
        life.save("New", 12);
        let before = life.view();
        damage(&life);

        life.prepare();

        settled(&life);
        let after = life.view();
        assert_eq!(uids(&after, "Old")[..2], [1, 2]);
        let new = uids(&after, "New");
        assert_eq!(after.messages[&("New".to_owned(), new[0])].subject, "message 12");
        let identity = |view: &View, name| {
            view.folders[name].rsplit('\t').next().unwrap().to_owned()
        };
        for folder in ["INBOX", "Old", "New"] {
            assert_eq!(identity(&after, folder), identity(&before, folder));
        }
    }
}

#[test]
fn after_a_mailbox_was_open_what_its_user_deleted_stays_deleted() {
    let life = life();
    life.prepare();
    life.run(&["expunge", "mailbox", "INBOX", "uid", "2,7"], "");
    life.save("INBOX", 9);
    let before = life.view();
    life.zero(MAIL, place(&life, 3) + 100, place(&life, 3) + 900);

    let (_, prepared) = life.prepare_as(&Life::mailbox(true), u64::MAX);

    assert_eq!(prepared.unwrap().unwrap().counts.repaired, 2, "in two folders");
    assert_eq!(life.view(), before);
}

#[test]
fn compressed_messages_are_judged_by_what_they_unpack_to() {
    let life = Life::compressed("mdbox");
    life.snapshot();
    let before = life.view();
    let length = fs::metadata(life.mail(MAIL)).unwrap().len();
    assert!(length < 12_000, "{length}");
    assert_eq!(life.prepare().counts.set_aside, 0);
    life.zero(MAIL, 100, 120);

    let prepared = life.prepare();

    assert_eq!((prepared.counts.repaired, prepared.counts.set_aside), (1, 0));
    assert_eq!(life.view(), before);
}

#[test]
fn what_was_recorded_tells_which_side_is_damaged() {
    let life = Life::new("mdbox");
    life.store().record(&Life::mailbox(false)).unwrap();
    life.snapshot();
    let before = life.view();
    let flip = |path: std::path::PathBuf, subject: &[u8]| {
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(subject.len()).position(|it| it == subject).unwrap();
        bytes[at + 200] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    flip(life.mail("storage/m.1"), b"message 3");
    flip(life.at("snapshot/user/mail/storage/m.1"), b"message 2");

    let prepared = life.prepare();

    settled(&life);
    assert_eq!(life.view(), before);
    assert_eq!(prepared.doubts, []);
}
