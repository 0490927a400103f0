//! Dial: with a running Dovecot, a mailbox is open for new mail while its history is prepared, and then
//! both are one.
//!
//! # Invariants
//!
//! * The server runs all the time, as it does for a provider; nobody restarts it for a switch.
//! * What users see is what an IMAP client reads; nothing of ours is asked what is right.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tidegate_mail::{
    DialState, Mailbox, PrepareTask, Store, StoreConfig, StoreError, Switched,
};
use tidegate_rig::{Dovecot, DovecotSpec, Format, Imap, PASSWORD, User, hand_over};

/// What clients see of a folder and of a message, by folder and UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    /// UIDVALIDITY, next UID, count of changes.
    folders: BTreeMap<String, [u64; 3]>,
    messages: BTreeMap<(String, u32), Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    flags: String,
    received: String,
    bytes: Vec<u8>,
}

/// A node with one user for each format.
struct Node {
    dir: tempfile::TempDir,
    dovecot: Dovecot,
    users: Vec<User>,
}

impl Node {
    fn new(config: &str) -> Self {
        let dir = tidegate_rig::open_directory();
        for name in ["live", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let root = dir.path().join("live");
        hand_over(&root);
        let name = |format: &Format| format!("{}@example.org", format.name());
        let users: Vec<User> =
            Format::ALL.iter().map(|it| User::new(&name(it), *it)).collect();
        let (spec_users, root) = (users.clone(), Some(root));
        let config = config.to_owned();
        let spec =
            DovecotSpec { users: spec_users, root, config, ..DovecotSpec::default() };
        Self { dovecot: Dovecot::start(&spec), dir, users }
    }

    fn at(&self, rel: &str) -> std::path::PathBuf {
        self.dir.path().join(rel)
    }

    fn store(&self) -> Store {
        loop {
            let store = Store::open(StoreConfig {
                live: self.at("live"),
                snapshot: Some(self.at("snapshot")),
                work: self.at("work"),
                file_size_max: 10_000_000,
            });
            match store {
                // A program that is being started this moment still has our files.
                Err(StoreError::Held { .. }) => std::thread::yield_now(),
                store => return store.unwrap(),
            }
        }
    }

    fn mailboxes(&self) -> Vec<Mailbox> {
        let mailbox = |user: &User| {
            let path = user.path.clone().into_bytes();
            let (key, address) = (Mailbox::key_of(&path), user.address.clone());
            Mailbox { key, address, path, served: false }
        };
        self.users.iter().map(mailbox).collect()
    }

    fn deliver(&self, user: &User, number: u32) {
        let answer = self.dovecot.deliver(&user.address, &letter(user, number));
        assert!(answer.starts_with("250 "), "{answer}");
    }

    fn imap(&self, user: &User) -> Imap {
        Imap::login(self.dovecot.ports().imap_webmail, &user.address, PASSWORD)
    }

    /// A life: mail over LMTP, folders, flags, a deletion.
    fn live(&self, user: &User) {
        for number in 1..=8 {
            self.deliver(user, number);
        }
        let mut imap = self.imap(user);
        for command in [
            "CREATE Sent",
            "CREATE Archive/2024",
            "SUBSCRIBE Archive/2024",
            "SELECT INBOX",
            "STORE 1,3 +FLAGS (\\Seen)",
            "STORE 2 +FLAGS (\\Flagged $Work)",
            "COPY 5:6 Archive/2024",
            "STORE 4 +FLAGS (\\Deleted)",
            "EXPUNGE",
        ] {
            imap.command(command);
        }
        imap.append("Sent", "\\Seen", &letter(user, 20));
        imap.command("LOGOUT");
    }

    /// What happens during the dial tone: mail over LMTP, and a session of webmail.
    fn dial_tone(&self, user: &User) {
        for number in 30..=34 {
            self.deliver(user, number);
        }
        let mut imap = self.imap(user);
        imap.command("CREATE Sent");
        imap.append("Sent", "\\Seen", &letter(user, 40));
        for command in [
            "CREATE New/Deep",
            "SUBSCRIBE New/Deep",
            "SELECT INBOX",
            "STORE 1 +FLAGS (\\Seen \\Answered)",
            "STORE 2 +FLAGS ($Dial $Work)",
            "MOVE 3 New/Deep",
            "STORE 3 +FLAGS (\\Deleted)",
            "EXPUNGE",
        ] {
            imap.command(command);
        }
        imap.command("LOGOUT");
    }

    fn view(&self, user: &User) -> View {
        let mut view = View::default();
        let mut imap = self.imap(user);
        let listed = imap.command("LIST \"\" *");
        let folders = listed.iter().filter(|it| !it.text.contains("\\Noselect"));
        let folders: Vec<String> =
            folders.map(|it| word(it.text.rsplit(" \"/\" ").next().unwrap())).collect();
        for folder in folders {
            let ask = "UIDVALIDITY UIDNEXT HIGHESTMODSEQ";
            let status = imap.command(&format!("STATUS \"{folder}\" ({ask})"));
            let number = |name: &str| {
                let mut words = status[0].text.split([' ', '(', ')']);
                words.find(|it| *it == name);
                words.next().unwrap().parse().unwrap()
            };
            let counts = ["UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ"].map(number);
            view.folders.insert(folder.clone(), counts);
            imap.command(&format!("EXAMINE \"{folder}\""));
            let fetch = "UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])";
            for answer in imap.command(fetch) {
                let Some((uid, seen)) = message(&answer) else { continue };
                let at = (folder.clone(), uid);
                assert!(view.messages.insert(at, seen).is_none(), "{folder} {uid} twice");
            }
        }
        imap.command("LOGOUT");
        view
    }
}

fn message(answer: &tidegate_rig::Answer) -> Option<(u32, Seen)> {
    let bytes = answer.literal.clone()?;
    let text = &answer.text;
    let uid = text.split("UID ").nth(1)?.split([' ', ')']).next()?.parse().ok()?;
    let flags = text.split("FLAGS (").nth(1)?.split(')').next()?;
    let mut flags: Vec<&str> =
        flags.split_whitespace().filter(|it| *it != "\\Recent").collect();
    flags.sort_unstable();
    let received = text.split("INTERNALDATE \"").nth(1)?.split('"').next()?;
    let (flags, received) = (flags.join(" "), received.to_owned());
    Some((uid, Seen { flags, received, bytes }))
}

fn word(text: &str) -> String {
    text.trim_matches('"').to_owned()
}

/// A message; its number decides its bytes.
fn letter(user: &User, number: u32) -> Vec<u8> {
    let lines = (0..number * 30).map(|line| format!("line {line} of {number}\n"));
    let body: String = lines.collect();
    let to = &user.address;
    format!("From: a@example.net\nTo: {to}\nSubject: message {number}\n\n{body}")
        .into_bytes()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// The mailbox must hold all of its history as it was, and all of the dial tone once, behind it.
fn check(now: &View, before: &View, during: &View, user: &User) {
    let who = &user.address;
    for (at, seen) in &before.messages {
        assert_eq!(now.messages.get(at), Some(seen), "{who} {at:?}");
    }
    for (folder, [validity, _, modseq]) in &before.folders {
        assert_eq!(now.folders[folder][0], *validity, "{who} {folder}");
        assert!(now.folders[folder][2] >= *modseq, "{who} {folder}: {now:?}");
    }
    for folder in during.folders.keys() {
        let next = before.folders.get(folder).map_or(1, |it| it[1]);
        let of = |view: &View, from: u64| -> Vec<Seen> {
            let mine = view.messages.iter();
            let mine =
                mine.filter(|((it, uid), _)| it == folder && u64::from(*uid) >= from);
            mine.map(|(_, seen)| seen.clone()).collect()
        };
        assert_eq!(of(now, next), of(during, 1), "{who} {folder}");
    }
    let count = before.messages.len() + during.messages.len();
    assert_eq!(now.messages.len(), count, "{who}");
}

#[test]
fn users_of_a_running_server_have_new_mail_at_once_and_their_history_later_and_nothing_twice()
 {
    // All that happened is in the logs; and the index itself is written often.
    let often = "mail_index_rewrite_min_log_bytes = 256 B\n\
                 mail_index_rewrite_max_log_bytes = 256 B\n";
    for config in ["", often] {
        dial_and_switch(&Node::new(config));
    }
}

fn dial_and_switch(node: &Node) {
    for user in &node.users {
        node.live(user);
    }
    let before: Vec<View> = node.users.iter().map(|it| node.view(it)).collect();
    copy(&node.at("live"), &node.at("snapshot"));
    // Mail that only the live side has, and damage to it.
    for user in &node.users {
        node.deliver(user, 9);
    }
    let before: Vec<View> = node
        .users
        .iter()
        .zip(before)
        .map(|(user, older)| {
            let view = node.view(user);
            assert_eq!(view.messages.len(), older.messages.len() + 1);
            view
        })
        .collect();
    damage(node);
    let mailboxes = node.mailboxes();
    let task =
        PrepareTask { job: 1, generation: 1, holder: "worker", mailboxes: &mailboxes };
    let store = node.store();
    store.claim(1, 1, "worker").unwrap();

    for started in store.dial_start(&task).unwrap() {
        started.unwrap();
    }
    for user in &node.users {
        node.dial_tone(user);
    }
    for prepared in store.prepare(&task).unwrap() {
        assert_eq!(prepared.unwrap().counts.set_aside, 0);
    }
    let during: Vec<View> = node.users.iter().map(|it| node.view(it)).collect();
    assert!(during.iter().all(|it| it.messages.len() == 5), "{during:?}");
    // What was on its way when the doors closed.
    for user in &node.users {
        node.deliver(user, 35);
    }
    let switched: Vec<Switched> =
        store.dial_switch(&task).unwrap().into_iter().map(|it| it.unwrap()).collect();

    for (mailbox, switched) in mailboxes.iter().zip(&switched) {
        assert_eq!(store.stamp(mailbox).unwrap(), switched.stamp);
    }
    for (at, user) in node.users.iter().enumerate() {
        let now = node.view(user);
        let mut during = during[at].clone();
        let late = now.messages.iter().rfind(|((folder, _), _)| folder == "INBOX");
        let late = late.unwrap().1.clone();
        assert!(late.bytes.ends_with(b"line 1049 of 35\r\n"), "{}", user.address);
        during.messages.insert(("INBOX".to_owned(), u32::MAX), late);
        check(&now, &before[at], &during, user);
        assert_eq!(switched[at].imported, 6);
        assert_eq!(switched[at].left_out, []);
        assert_eq!(store.dial_state(&mailboxes[at]).unwrap(), DialState::None);
        let subscribed = node.imap(user).command("LSUB \"\" *");
        for folder in ["Archive/2024", "New/Deep"] {
            assert!(
                subscribed.iter().any(|it| it.text.contains(folder)),
                "{subscribed:?}"
            );
        }
        life_goes_on(node, user, &now);
    }
    let log = node.dovecot.log();
    let bad = |line: &&str| {
        ["Error", "Panic", "orrupt", "Fatal"].iter().any(|it| line.contains(it))
    };
    let bad: Vec<&str> = log.lines().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// The next mail comes above all, and the mail server finds nothing to mend.
fn life_goes_on(node: &Node, user: &User, now: &View) {
    node.deliver(user, 50);
    let later = node.view(user);
    assert_eq!(later.messages.len(), now.messages.len() + 1);
    let last = later.messages.iter().rfind(|((folder, _), _)| folder == "INBOX");
    assert!(last.unwrap().1.bytes.ends_with(b"line 1499 of 50\r\n"));
    let who = &user.address;
    node.dovecot.doveadm(&["force-resync", "-u", who, "*"]).unwrap();
    node.dovecot.doveadm(&["purge", "-u", who]).unwrap();
    assert_eq!(node.view(user).messages, later.messages, "{}", user.address);
}

/// A message of each history is lost or broken.
fn damage(node: &Node) {
    let maildir = node.at("live").join(&node.users[0].path);
    let mails = ["cur", "new"].map(|it| fs::read_dir(maildir.join(it)).unwrap());
    let mut mails: Vec<_> =
        mails.into_iter().flatten().map(|it| it.unwrap().path()).collect();
    mails.sort();
    fs::remove_file(&mails[0]).unwrap();
    let inbox = "mailboxes/INBOX/dbox-Mails";
    let sdbox = node.at("live").join(&node.users[1].path).join(inbox);
    fs::remove_file(sdbox.join("u.2")).unwrap();
    let mdbox = node.at("live").join(&node.users[2].path).join("storage/m.1");
    let mut bytes = fs::read(&mdbox).unwrap();
    bytes[200..900].fill(0);
    fs::write(&mdbox, bytes).unwrap();
}
