//! Trials: dial tone and switch with mailboxes that Dovecot made, stopped at every change.

use std::collections::BTreeMap;
use std::fs;

use crate::dbox::doveadm::{Life, Seen, View};
use crate::{DialState, FlushFailed, Mailbox, PrepareTask, Refusal, Store, Switched};

const FORMATS: [&str; 3] = ["maildir", "sdbox", "mdbox"];

/// Folder, number and flags of what comes during the dial tone.
const CAME: [(&str, u32, &str); 5] = [
    ("INBOX", 30, ""),
    ("INBOX", 31, "$Dial \\Answered \\Seen"),
    ("Archive/2024", 32, "\\Flagged"),
    ("New/Deep", 33, ""),
    ("New/Deep", 34, "\\Seen"),
];

/// Runs one act of the store on the mailbox, all changes stopping after `acts`; the acts that were left.
fn until<T>(
    life: &Life,
    acts: u64,
    act: impl Fn(&Store, &PrepareTask<'_>) -> Result<Vec<Result<T, Refusal>>, FlushFailed>,
) -> (u64, Option<Result<T, Refusal>>) {
    let store = life.store();
    store.claim(1, 3, "worker").unwrap();
    store.fuse().light(Some(acts));
    let mailboxes = [Life::mailbox(false)];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };
    let result = act(&store, &task).ok().and_then(|mut results| results.pop());
    (store.fuse().left().unwrap(), result)
}

/// Begins the dial tone, all changes stopping after `acts`; the acts that were left.
fn start_until(life: &Life, acts: u64) -> (u64, Option<Result<(), Refusal>>) {
    until(life, acts, Store::dial_start)
}

/// Switches, all changes stopping after `acts`; the acts that were left.
fn switch_until(life: &Life, acts: u64) -> (u64, Option<Result<Switched, Refusal>>) {
    until(life, acts, Store::dial_switch)
}

fn start(life: &Life) {
    start_until(life, u64::MAX).1.unwrap().unwrap();
}

fn switch(life: &Life) -> Switched {
    switch_until(life, u64::MAX).1.unwrap().unwrap()
}

fn state(life: &Life) -> DialState {
    life.store().dial_state(&Life::mailbox(false)).unwrap()
}

fn deliver(life: &Life) {
    life.run(&["mailbox", "create", "-s", "New/Deep"], "");
    life.run(&["mailbox", "create", "Archive/2024"], "");
    life.run(&["mailbox", "create", "Empty"], "");
    let mut uids: BTreeMap<&str, u32> = BTreeMap::new();
    for (folder, number, flags) in CAME {
        life.save(folder, number);
        let uid = uids.entry(folder).or_default();
        *uid += 1;
        if !flags.is_empty() {
            let at = ["flags", "add", flags, "mailbox", folder, "uid", &uid.to_string()];
            life.run(&at, "");
        }
    }
    life.save("INBOX", 35);
    life.run(&["expunge", "mailbox", "INBOX", "uid", "3"], "");
}

/// A mailbox in its dial tone, prepared, with mail; what it held before, and holds in the dial tone.
fn dialled(format: &'static str) -> (Life, View, View) {
    let life = Life::new(format);
    life.snapshot();
    let before = life.view();
    start(&life);
    assert_eq!(state(&life), DialState::Dialled);
    deliver(&life);
    let during = life.view();
    life.prepare();
    (life, before, during)
}

/// What the mailbox must hold when both are one.
fn check(now: &View, before: &View, during: &View) {
    for (at, seen) in &before.messages {
        assert_eq!(now.messages.get(at), Some(seen), "{at:?} of the history");
    }
    let of = |folder: &String, view: &View| -> Vec<(u32, Seen)> {
        let mine = view.messages.iter().filter(|((it, _), _)| it == folder);
        mine.map(|((_, uid), seen)| (*uid, seen.clone())).collect()
    };
    let mut count = before.messages.len();
    for (folder, line) in &during.folders {
        let fields: Vec<&str> = line.split('\t').collect();
        let came = of(folder, during);
        count += came.len();
        let next: u32 = match before.folders.get(folder) {
            Some(line) => line.split('\t').nth(1).unwrap().parse().unwrap(),
            None => 1,
        };
        let new: Vec<(u32, Seen)> =
            of(folder, now).into_iter().filter(|(uid, _)| *uid >= next).collect();
        let without = |list: &[(u32, Seen)]| -> Vec<Seen> {
            list.iter().map(|(_, seen)| seen.clone()).collect()
        };
        assert_eq!(without(&new), without(&came), "{folder}");
        let line: Vec<&str> = now.folders[folder].split('\t').collect();
        let as_before = before.folders.get(folder);
        let as_before: Vec<&str> =
            as_before.map_or(fields, |line| line.split('\t').collect());
        assert_eq!(line[2..], as_before[2..], "UIDVALIDITY and GUID of {folder}");
    }
    for (folder, line) in &before.folders {
        let now: Vec<&str> = now.folders[folder].split('\t').collect();
        assert_eq!(now[2..], line.split('\t').collect::<Vec<_>>()[2..], "{folder}");
    }
    assert_eq!(now.messages.len(), count, "each once");
}

/// The manifest has all that is served, and nothing else.
fn recorded(life: &Life, now: &View) {
    let store = life.store();
    let manifest = store.manifest(7).unwrap().unwrap();
    let uids = manifest.entries.iter().map(|it| {
        let folder = String::from_utf8(it.folder.clone()).unwrap().replace('.', "/");
        let folder = if folder.is_empty() { "INBOX".to_owned() } else { folder };
        (folder, it.uid.unwrap())
    });
    let mut uids: Vec<(String, u32)> = uids.collect();
    uids.sort();
    assert_eq!(uids, now.messages.keys().cloned().collect::<Vec<_>>());
    for seed in 0..20 {
        let probe = store.probe(&Life::mailbox(true), seed);
        assert!(matches!(probe, crate::Probe::Healthy { .. }), "{probe:?}");
    }
}

#[test]
fn the_mail_of_a_dial_tone_is_in_the_history_once_above_all_that_was_there() {
    for format in FORMATS {
        let (life, before, during) = dialled(format);
        assert_eq!(during.messages.len(), CAME.len(), "{format}");

        let switched = switch(&life);

        assert_eq!(switched.left_out, [], "{format}");
        assert_eq!(switched.imported, CAME.len() as u64, "{format}");
        assert_eq!(switched.folders_made, 2, "{format}");
        check(&life.view(), &before, &during);
        assert_eq!(state(&life), DialState::None);
        let kept = life.at("work").join(&switched.kept_at);
        assert!(kept.join("tidegate-dial").is_file());
        // Asked again, it tells the same; stamps are of the same store.
        let again = switch(&life);
        assert_eq!(again.imported, switched.imported);
        recorded(&life, &life.view());
        let listed = life.run(&["mailbox", "list", "-s"], "");
        assert!(listed.lines().any(|it| it == "New/Deep"), "{listed}");
        assert!(listed.lines().any(|it| it == "Archive/2024"), "{listed}");
        // New mail comes above all.
        life.save("INBOX", 40);
        let _ = life.try_run(&["force-resync", "*"], "");
        let now = life.view();
        let last = now.messages.keys().rfind(|it| it.0 == "INBOX").unwrap();
        assert_eq!(now.messages[last].subject, "message 40");
        assert_eq!(now.messages.len(), before.messages.len() + CAME.len() + 1);
        assert_eq!(life.prepare().counts.set_aside, 0, "{format}");
    }
}

fn a_crash_anywhere(format: &'static str) {
    let (life, before, during) = dialled(format);
    let whole = life.twin();
    let acts = u64::MAX - switch_until(&whole, u64::MAX).0;
    assert!(acts > 20, "{acts}");
    for stop in 0..acts {
        let life = life.twin();
        let stopped = switch_until(&life, stop);
        assert!(stopped.0 == 0 || matches!(stopped.1, Some(Ok(_))), "{stopped:?}");

        let switched = switch(&life);

        assert_eq!(switched.imported, CAME.len() as u64, "{format} {stop}");
        check(&life.view(), &before, &during);
    }
}

#[test]
fn a_switch_of_a_maildir_that_is_stopped_anywhere_imports_once() {
    a_crash_anywhere("maildir");
}

#[test]
fn a_switch_of_an_sdbox_that_is_stopped_anywhere_imports_once() {
    a_crash_anywhere("sdbox");
}

#[test]
fn a_switch_of_an_mdbox_that_is_stopped_anywhere_imports_once() {
    a_crash_anywhere("mdbox");
}

#[test]
fn a_dial_tone_whose_beginning_is_stopped_anywhere_loses_nothing() {
    for format in FORMATS {
        let life = Life::new(format);
        life.snapshot();
        let before = life.view();
        let whole = life.twin();
        let acts = u64::MAX - start_until(&whole, u64::MAX).0;
        assert!(acts > 5, "{acts}");
        for stop in 0..acts {
            let life = life.twin();
            start_until(&life, stop);

            start(&life);

            life.save("INBOX", 30);
            life.prepare();
            switch(&life);
            let now = life.view();
            assert_eq!(now.messages.len(), before.messages.len() + 1, "{format} {stop}");
            let kept =
                before.messages.iter().all(|(at, it)| now.messages.get(at) == Some(it));
            assert!(kept, "{format} {stop}");
        }
    }
}

#[test]
fn a_mailbox_that_is_lost_comes_back_from_its_snapshot_behind_a_dial_tone() {
    for format in FORMATS {
        let life = Life::new(format);
        life.snapshot();
        let before = life.view();
        fs::remove_dir_all(life.at("live/user/mail")).unwrap();
        start(&life);
        deliver(&life);
        let during = life.view();
        life.prepare();

        switch(&life);

        let now = life.view();
        let guids = |view: &View| -> Vec<(String, u32, String)> {
            let lines = view.messages.iter();
            lines
                .map(|((folder, uid), it)| (folder.clone(), *uid, it.guid.clone()))
                .collect()
        };
        let (now, before) = (guids(&now), guids(&before));
        assert!(
            before.iter().all(|it| now.contains(it)),
            "{format}\n{now:?}\n{before:?}"
        );
        assert_eq!(now.len(), before.len() + during.messages.len(), "{format}");
    }
}

#[test]
fn an_empty_dial_tone_leaves_the_history_as_it_was() {
    for format in FORMATS {
        let life = Life::new(format);
        life.snapshot();
        let before = life.tree();
        start(&life);
        life.prepare();

        let switched = switch(&life);

        assert_eq!((switched.imported, switched.folders_made), (0, 0));
        assert_eq!(life.tree(), before, "{format}");
    }
}

#[test]
fn mail_that_comes_between_the_steps_of_a_switch_is_imported_too() {
    for format in FORMATS {
        let (life, before, mut during) = dialled(format);
        // Stopped when the first round is done, and before the stores change places.
        let whole = u64::MAX - switch_until(&life.twin(), u64::MAX).0;
        let acts = (0..whole).rev().find(|acts| {
            let twin = life.twin();
            switch_until(&twin, *acts);
            twin.at("work/dial/7/done-1").exists() && twin.mail("tidegate-dial").exists()
        });
        switch_until(&life, acts.unwrap());
        assert_eq!(state(&life), DialState::Switching);
        life.save("INBOX", 36);
        for (at, seen) in life.view().messages {
            during.messages.entry(at).or_insert(seen);
        }

        let switched = switch(&life);

        assert_eq!(switched.imported, CAME.len() as u64 + 1, "{format}");
        check(&life.view(), &before, &during);
    }
}

#[test]
fn a_dial_tone_in_another_format_is_refused_and_nothing_changes() {
    for (format, other) in
        [("maildir", "sdbox"), ("sdbox", "mdbox"), ("mdbox", "maildir")]
    {
        let life = Life::new(format);
        life.snapshot();
        start(&life);
        let config = fs::read_to_string(life.at("dovecot.conf")).unwrap();
        let from = format!("mail_location = {format}:");
        let to = format!("mail_location = {other}:");
        fs::write(life.at("dovecot.conf"), config.replace(&from, &to)).unwrap();
        life.save("INBOX", 30);
        life.prepare();
        let before = life.tree();

        let refused = switch_until(&life, u64::MAX);

        let refusal = refused.1.unwrap().unwrap_err();
        assert!(refusal.to_string().contains("in another format"), "{refusal}");
        assert_eq!(life.tree(), before, "{format}");
        assert_eq!(state(&life), DialState::Dialled);
    }
}

#[test]
fn what_users_set_up_goes_with_them_and_comes_back_changed() {
    for format in FORMATS {
        let life = Life::new(format);
        let write = |rel: &str, text: &str| {
            fs::create_dir_all(life.mail(rel).parent().unwrap()).unwrap();
            fs::write(life.mail(rel), text).unwrap();
        };
        write("sieve/away.sieve", "keep;");
        write("sieve/old.sieve", "keep;");
        std::os::unix::fs::symlink("sieve/away.sieve", life.mail("dovecot.sieve"))
            .unwrap();
        life.snapshot();
        let _ = life.view();

        start(&life);

        assert_eq!(fs::read_to_string(life.mail("sieve/away.sieve")).unwrap(), "keep;");
        let subscribed = life.run(&["mailbox", "list", "-s"], "");
        assert!(subscribed.contains("Archive/2024"), "{subscribed}");
        life.run(&["mailbox", "unsubscribe", "Archive/2024"], "");
        life.run(&["mailbox", "create", "-s", "New"], "");
        write("sieve/new.sieve", "discard;");
        fs::remove_file(life.mail("dovecot.sieve")).unwrap();
        std::os::unix::fs::symlink("sieve/new.sieve", life.mail("dovecot.sieve"))
            .unwrap();
        life.prepare();
        switch(&life);

        let subscribed = life.run(&["mailbox", "list", "-s"], "");
        assert!(!subscribed.contains("Archive/2024"), "{subscribed}");
        assert!(subscribed.contains("New"), "{subscribed}");
        let active = fs::read_link(life.mail("dovecot.sieve")).unwrap();
        assert_eq!(active.to_str(), Some("sieve/new.sieve"));
        for name in ["away", "old", "new"] {
            assert!(life.mail(&format!("sieve/{name}.sieve")).is_file(), "{name}");
        }
    }
}

#[test]
fn who_is_fenced_neither_dials_nor_switches() {
    let life = Life::new("maildir");
    let before = life.tree();
    let store = life.store();
    store.claim(1, 4, "another").unwrap();
    let mailboxes: [Mailbox; 1] = [Life::mailbox(false)];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };

    let started = store.dial_start(&task).unwrap().pop().unwrap();
    let switched = store.dial_switch(&task).unwrap().pop().unwrap();

    assert!(matches!(started, Err(Refusal::Fenced { .. })));
    assert!(matches!(switched, Err(Refusal::Fenced { .. })));
    drop(store);
    assert_eq!(life.tree(), before);
}
