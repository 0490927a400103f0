//! Opening: what Dovecot shows is held against what was verified, before anybody is let in and
//! afterwards.

use std::sync::mpsc::sync_channel;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::gate::{PulseLimits, PulseSignal};
use tidegate_core::holding::{Outcome, ProbeTask};
use tidegate_core::mailbox::Level;
use tidegate_core::pace::Sense;
use tidegate_core::time::{Span, Timestamp};
use tidegate_mail::Mailbox;

use super::*;
use crate::dovecot::{AtDovecot, DoveadmKey, Dovecot as Config, Master};
use crate::files::{FileStore, Files};
use crate::signals::{self, Rounds, Sources};
use crate::store::{MailStore, Telling, Told, Under};

const UNDER: Under = Under { job: JobNumber::new(1), generation: Generation::new(1) };

#[test]
fn mailboxes_of_every_format_are_let_in_when_dovecot_shows_what_was_verified() {
    let node = Node::new(&formats());
    node.verify();

    assert_eq!(node.let_in(), [Told::Done, Told::Done, Told::Done]);
    assert_eq!(node.read(), [Outcome::Read, Outcome::Read, Outcome::Read]);
}

#[test]
fn whoever_would_miss_mail_is_not_let_in_and_a_person_is_told_why() {
    let node = Node::new(&formats());
    node.verify();
    let doveadm = |arguments: &[&str]| node.site.dovecot.doveadm(arguments).unwrap();
    doveadm(&["expunge", "-u", &address(0), "mailbox", "INBOX", "all"]);
    doveadm(&["mailbox", "delete", "-u", &address(1), "-r", "-s", "Archive"]);
    doveadm(&["copy", "-u", &address(2), "INBOX", "mailbox", "Archive", "all"]);

    let told = node.let_in();

    let refused = |told: &Told| match told {
        Told::Refused { code, .. } => code.clone(),
        Told::Done | Told::NotYet | Told::Unknown => format!("{told:?}"),
    };
    let codes: Vec<String> = told.iter().map(refused).collect();
    assert_eq!(codes, ["messages-not-shown", "folder-not-shown", "NotYet"]);
}

#[test]
fn an_inbox_that_mail_programs_would_fetch_again_is_refused_and_an_alarm_when_open() {
    let node = Node::beside(&formats());
    node.verify();
    assert_eq!(node.let_in(), [Told::Done, Told::Done, Told::Done]);
    node.site.stand(Standing::Level(3));
    let update = ["mailbox", "update", "--uid-validity", "4711", "-u"];
    for n in 0..3 {
        let user = address(n);
        let update = [&update[..], &[&user, "INBOX"]].concat();
        node.site.dovecot.doveadm(&update).unwrap();
    }

    for outcome in node.read() {
        let Outcome::Altered(finding) = &outcome else { panic!("{outcome:?}") };
        assert_eq!(finding.code, "uid-validity-differs");
    }
    for told in node.let_in() {
        let Told::Refused { code, .. } = &told else { panic!("{told:?}") };
        assert_eq!(code, "uid-validity-differs");
    }
}

#[test]
fn mail_that_a_user_does_not_have_at_dovecot_would_bounce() {
    let mut node = Node::new(&formats());
    node.verify();
    for (_, mailbox) in &mut node.mailboxes {
        mailbox.address = format!("gone.{}", mailbox.address);
    }

    let told = node.let_in();

    let bounces = |told: &Told| matches!(told, Told::Refused { code, .. } if code == "no-such-user");
    assert!(told.iter().all(bounces), "{told:?}");
}

#[test]
fn letting_in_waits_for_a_dovecot_that_does_not_answer() {
    let mut node = Node::new(&formats());
    node.verify();

    node.site.dovecot.stop();
    assert_eq!(node.let_in(), [Told::NotYet, Told::NotYet, Told::NotYet]);
    node.site.stand(Standing::Level(3));
    assert_eq!(node.read(), [], "nothing is decided about any mailbox");
    node.site.stand(Standing::Level(0));
    node.site.dovecot.resume();

    assert_eq!(node.let_in(), [Told::Done, Told::Done, Told::Done]);
}

#[test]
fn what_users_do_after_the_opening_is_no_failure() {
    let node = Node::new(&formats());
    node.verify();
    node.site.stand(Standing::Level(3));

    for n in 0..3 {
        let mut imap = node.site.dovecot.imap(&address(n));
        imap.command("SELECT INBOX");
        imap.command("STORE 1 +FLAGS (\\Deleted \\Seen)");
        imap.command("EXPUNGE");
        imap.command("DELETE Archive");
        imap.append("INBOX", "", b"Subject: new\r\n\r\nnew\r\n");
    }

    assert_eq!(node.read(), [Outcome::Read, Outcome::Read, Outcome::Read]);
}

#[test]
fn other_bytes_over_imap_than_were_verified_are_an_alarm() {
    let node = Node::beside(&formats());
    node.verify();
    node.site.stand(Standing::Level(3));

    let changed = change_letters(&node.site.dovecot.root().join("example.org/user0"));

    assert!(changed > 0);
    let outcomes = node.read();
    let Outcome::Altered(finding) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(finding.code, "altered-over-imap");
    assert_eq!(outcomes[1..], [Outcome::Read, Outcome::Read]);
}

#[test]
fn the_mail_system_is_heard_while_it_works_and_when_it_complains() {
    let node = Node::new(&formats());
    node.site.stand(Standing::Level(3));
    let ports = node.site.dovecot.ports();
    let told = crate::Canary {
        mailbox: address(0),
        password: PASSWORD.into(),
        every: Duration::from_secs(1),
    };
    let at = |port| SocketAddr::from((LOOPBACK, port));
    let sources = Sources {
        doveadm: Some(node.site.doveadm()),
        metrics: Some(format!("http://{LOOPBACK}:{}/metrics", ports.metrics)),
        logs: vec![node.site.dovecot.log_file()],
        live: Some(node.site.dovecot.root().to_owned()),
        canary: Some(Rounds::new(&told, (at(ports.imap), at(ports.lmtp)), "stor-01")),
    };
    let limits =
        PulseLimits { every: Span::from_secs(2), limits: [u32::MAX; PulseSignal::COUNT] };
    let (news, heard) = sync_channel(64);
    signals::listen(sources, limits, move |one| news.send(one).is_ok()).unwrap();

    let mut session = node.site.dovecot.imap(&address(1));
    session.command("SELECT INBOX");
    truncate_messages(&node.site.dovecot.root().join("example.org/user1"));
    session.talk().send("x FETCH 1:* BODY[]");
    while session.talk().try_read().is_some_and(|line| !line.starts_with("x ")) {}

    let (mut felt, mut pulses, mut complaints) = (None, None, Vec::new());
    let patience = Instant::now() + PATIENCE;
    while felt.is_none() || complaints.is_empty() || rounds(pulses.as_ref()) < 2 {
        assert!(Instant::now() < patience, "{felt:?} {pulses:?} {complaints:?}");
        let one: signals::Heard = heard.recv().unwrap();
        felt = one.felt.or(felt);
        pulses = one.pulses.or(pulses);
        complaints.extend(one.complaints);
    }
    assert!(matches!(felt.unwrap().login_p95, Sense::Known(_)));
    let of = |signal| {
        pulses.as_ref().unwrap().get(signal).map(|it| (it.minutes > 0, it.silent))
    };
    for signal in
        [PulseSignal::Canary, PulseSignal::CommandLatency, PulseSignal::Connections]
    {
        assert_eq!(of(signal), Some((true, 0)), "{signal}");
    }
    let user = address(1);
    let about = complaints.iter().filter(|it| it.user.as_deref() == Some(&user));
    assert!(about.count() > 0, "{complaints:?}");
}

fn rounds(pulses: Option<&tidegate_core::gate::Pulses>) -> u32 {
    let canary = pulses.and_then(|pulses| pulses.get(PulseSignal::Canary));
    canary.map_or(0, |canary| canary.minutes)
}

/// One mailbox of each format, with mail in two folders.
fn formats() -> Vec<User> {
    let formats = [Format::Maildir, Format::Sdbox, Format::Mdbox];
    (0..).zip(formats).map(|(n, format)| User::new(&address(n), format)).collect()
}

/// A worker's store behind a Dovecot. All mailboxes are held.
struct Node {
    site: Site,
    store: AtDovecot,
    mailboxes: Vec<(Ordinal, Mailbox)>,
    _work: tempfile::TempDir,
}

impl Node {
    /// Over the files that Dovecot serves.
    fn new(users: &[User]) -> Self {
        let site = filled(users);
        let live = site.dovecot.root().to_owned();
        Self::over(live, site, users)
    }

    /// Over a copy of them.
    fn beside(users: &[User]) -> Self {
        let site = filled(users);
        let live = site.dovecot.root().with_extension("copy");
        let mut copy = std::process::Command::new("cp");
        assert!(
            copy.arg("-a").args([site.dovecot.root(), &live]).status().unwrap().success()
        );
        Self::over(live, site, users)
    }

    fn over(live: std::path::PathBuf, site: Site, users: &[User]) -> Self {
        let work = tempfile::tempdir_in(live.parent().unwrap()).unwrap();
        let files =
            Files { live, snapshot: None, file_size_max: 1 << 20, nfs_is_fenced: false };
        let store = FileStore::open(files, work.path().to_owned(), "run".to_owned());
        let ports = site.dovecot.ports();
        let config = Config {
            doveadm: vec![format!("http://{LOOPBACK}:{}", ports.doveadm_http)],
            key: DoveadmKey::ApiKey(API_KEY.into()),
            lmtp_grace: Duration::from_secs(1),
            open_check_percent: 100,
            imap: Some(SocketAddr::from((LOOPBACK, ports.imap))),
            lmtp: None,
            master: Some(Master {
                user: tidegate_rig::PROBE.to_owned(),
                password: tidegate_rig::PROBE_PASSWORD.into(),
                separator: '*',
                sample_percent: 100,
            }),
            webmail_ports: Vec::new(),
            logs: Vec::new(),
            metrics: None,
        };
        let store = Arc::new(store.unwrap());
        let store = AtDovecot::new(store, &config, site.doors.clone()).unwrap();
        let mailboxes = users.iter().map(|user| Mailbox {
            key: Mailbox::key_of(user.path.as_bytes()),
            address: user.address.clone(),
            path: user.path.clone().into_bytes(),
            served: false,
        });
        let mailboxes = (0..).map(Ordinal::new).zip(mailboxes).collect();
        Self { site, store, mailboxes, _work: work }
    }

    fn verify(&self) {
        assert!(self.store.claim(UNDER).unwrap());
        let settled = self.store.prepare(UNDER, self.mailboxes.clone()).unwrap();
        assert!(settled.iter().all(|it| it.stamp.is_some()), "{settled:?}");
        assert_eq!(settled.len(), self.mailboxes.len());
    }

    fn let_in(&self) -> Vec<Told> {
        let telling = Telling {
            under: UNDER,
            level: Level::FIRST,
            services: Vec::new(),
            recorded: false,
            from_held: true,
            until: Timestamp::default(),
        };
        let mut told = self.store.tell(&telling, &self.mailboxes).unwrap();
        told.sort_by_key(|(ordinal, _)| *ordinal);
        told.into_iter().map(|(_, told)| told).collect()
    }

    fn read(&self) -> Vec<Outcome> {
        let Under { job, generation } = UNDER;
        let tasks: Vec<(ProbeTask, Mailbox)> = self
            .mailboxes
            .iter()
            .map(|(ordinal, mailbox)| {
                let (ordinal, level) = (*ordinal, Level::FIRST);
                let task = ProbeTask { job, generation, ordinal, level, mature: true };
                (task, Mailbox { served: true, ..mailbox.clone() })
            })
            .collect();
        self.store.probe(&tasks).into_iter().map(|(_, outcome, _)| outcome).collect()
    }
}

/// A site whose users have mail in two folders, and are held again.
fn filled(users: &[User]) -> Site {
    let spec = DovecotSpec { users: users.to_vec(), ..DovecotSpec::default() };
    let site = Site::serving(&spec);
    for User { address, .. } in users {
        for text in ["first", "second"] {
            let message = format!("Subject: {text}\r\n\r\n{text} letter\r\n");
            assert!(
                site.dovecot.deliver(address, message.as_bytes()).starts_with("250 ")
            );
        }
        let mut imap = site.dovecot.imap(address);
        imap.command("CREATE Archive");
        imap.append("Archive", "", b"Subject: old\r\n\r\nold letter\r\n");
        imap.command("SELECT INBOX");
        imap.command("LOGOUT");
    }
    site.stand(Standing::Level(0));
    site
}

/// The messages of a Maildir or sdbox below `dir`.
fn message_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let holds_mail = ["new", "cur"].iter().any(|it| dir.ends_with(it));
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else if holds_mail || name.starts_with("u.") {
                files.push(entry.path());
            }
        }
    }
    files
}

/// Writes one word of each message otherwise.
fn change_letters(dir: &Path) -> usize {
    let files = message_files(dir);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replace(" letter", " better")).unwrap();
    }
    files.len()
}

/// Cuts each message in the middle.
fn truncate_messages(dir: &Path) {
    for file in message_files(dir) {
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    }
}
