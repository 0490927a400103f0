//! Canary rounds and looks into mailboxes, with a real Dovecot.
#![expect(clippy::unwrap_used, reason = "what cannot be done here fails the test")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_mailserver::ConversationFault;
use tidegate_mailserver::canary::{Canary, CanaryError, Step};
use tidegate_mailserver::imap::{Imap, Login};
use tidegate_mailserver::lmtp::{Delivery, Letter, deliver};
use tidegate_mailserver::reader::{Look, MessageEnd, Reader, Sample};
use tidegate_rig::{
    Dovecot, DovecotSpec, Format, LOOPBACK, MASTER, MASTER_PASSWORD, PASSWORD, User,
};

/// Far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Messages as they are stored, the last one after the others.
type Read = BTreeMap<(String, u32), Vec<u8>>;

#[test]
fn a_canary_comes_back_in_every_format_and_leaves_nothing_behind() {
    let dovecot = start();
    for format in Format::ALL {
        let canary = canary(&dovecot, &address(format));
        deliver_to(&dovecot, &address(format), b"Subject: mine\n\nstays\n");
        // A round that was killed after delivery, and one of somebody else's.
        for name in ["stor-01", "other"] {
            let id = format!("Message-ID: <abc.{name}@canary.invalid>\n\nold\n");
            deliver_to(&dovecot, &address(format), id.as_bytes());
        }

        let round = canary.round();
        let again = canary.round();

        round.end.unwrap();
        again.end.unwrap();
        assert_eq!((round.swept, again.swept), (1, 0));
        let steps: Vec<_> = again.timings.iter().map(|(step, _)| *step).collect();
        let all = [
            Step::Deliver,
            Step::Login,
            Step::Select,
            Step::Search,
            Step::Fetch,
            Step::Remove,
        ];
        assert_eq!(steps, all);
        assert_eq!(look(&dovecot, &address(format), 100).0.folders[0].counts.messages, 2);
    }
}

#[test]
fn a_canary_says_where_it_died() {
    let dovecot = start();
    let user = address(Format::Maildir);
    let mut nobody = canary(&dovecot, "nobody@example.org");
    nobody.login.clone_from(&user);
    let mut locked_out = canary(&dovecot, &user);
    locked_out.password = "wrong".into();
    let mut nowhere = canary(&dovecot, &user);
    nowhere.lmtp.set_port(1);

    let refused = nobody.round();
    let unread = locked_out.round();
    let unreachable = nowhere.round();

    let is_550 = |error| matches!(error, CanaryError::Refused { code: 550, .. });
    assert!(is_550(refused.end.unwrap_err()));
    let CanaryError::Conversation(error) = unread.end.unwrap_err() else { panic!() };
    assert!(error.to_string().starts_with("log in at imap server 127.0.0.1:"));
    let said = "NO [AUTHENTICATIONFAILED] Authentication failed.";
    assert!(
        matches!(error.cause, ConversationFault::Refused { answer } if answer == said)
    );
    assert_eq!(unread.timings.len(), 1);
    let CanaryError::Conversation(error) = unreachable.end.unwrap_err() else { panic!() };
    assert_eq!(error.to_string(), "connect at lmtp server 127.0.0.1:1");
    assert_eq!(canary(&dovecot, &user).round().swept, 1);
}

#[test]
fn a_look_sees_every_folder_and_byte_and_changes_nothing() {
    let dovecot = start();
    for format in Format::ALL {
        let user = address(format);
        let mut imap = dovecot.imap(&user);
        for folder in ["Sent", "Deep/er &AOk- \\\"quoted\\\"", "Empty"] {
            imap.command(&format!("CREATE \"{folder}\""));
        }
        let large = vec![b'x'; 3_000_000];
        let large = [b"Subject: large\r\n\r\n".as_slice(), &large, b"\r\n"].concat();
        for message in [&b"Subject: dots\r\n\r\n.\r\n..\r\n"[..], b"no end", &large] {
            imap.append("Sent", "", message);
            imap.append("Deep/er &AOk- \\\"quoted\\\"", "\\Flagged", message);
        }
        imap.append("INBOX", "\\Seen", b"Subject: one\r\n\r\n1\r\n");
        imap.append("INBOX", "", b"Subject: two\r\n\r\n2\r\n");
        let before = state(&dovecot, &user);

        let (look, read) = look(&dovecot, &user, 100);
        let (newest, _) = look_for(&dovecot, &user, Sample { random: 0, ..sample(0) });

        let names: Vec<_> = look.folders.iter().map(|it| it.name.as_str()).collect();
        let deep = "Deep/er &AOk- \"quoted\"";
        assert_eq!(names, [deep, "Empty", "INBOX", "Sent"], "{format:?}");
        let counts =
            |name: &str| look.folders.iter().find(|it| it.name == name).unwrap().counts;
        assert_eq!((counts("INBOX").messages, counts("INBOX").uid_next), (2, 3));
        assert_eq!((counts("Empty").messages, counts("Empty").uid_next), (0, 1));
        assert!(counts(deep).uid_validity > 0 && counts(deep).modseq.is_some());
        assert_eq!(read.len(), 8);
        let large: Vec<u8> = large.iter().copied().filter(|it| *it != b'\r').collect();
        assert!(read[&(deep.to_owned(), 3)] == large);
        assert_eq!(read[&("Sent".to_owned(), 2)], b"no end");
        assert_eq!(read[&("Sent".to_owned(), 1)], b"Subject: dots\n\n.\n..\n");
        assert!(look.messages.iter().all(|it| it.end == MessageEnd::Whole));
        assert_eq!(newest.messages.len(), 1);
        assert_eq!(
            (newest.messages[0].folder.as_str(), newest.messages[0].uid),
            ("INBOX", 2)
        );
        assert_eq!(newest.messages[0].wire_bytes, 19);
        assert_eq!(state(&dovecot, &user), before, "{format:?}");
    }
}

#[test]
fn a_truncated_message_is_seen_and_not_an_error() {
    let dovecot = start();
    for format in Format::ALL {
        let user = address(format);
        let noise = "a line like any other\n".repeat(2000);
        for subject in ["one", "two"] {
            let message = format!("Subject: {subject}\n\n{noise}");
            deliver_to(&dovecot, &user, message.as_bytes());
        }
        truncate_last(&dovecot.root().join("example.org").join(format.name()));

        let (look, _) = look(&dovecot, &user, 100);

        let last = look.messages.last().unwrap();
        assert!(
            matches!(last.end, MessageEnd::CutOff { .. } | MessageEnd::Refused { .. }),
            "{format:?}: {last:?}"
        );
        assert_eq!(last.uid, 2);
    }
}

#[test]
fn a_folder_that_cannot_be_shown_is_seen_and_not_an_error() {
    let dovecot = start();
    let user = address(Format::Maildir);
    deliver_to(&dovecot, &user, b"Subject: one\n\n");
    let mut imap = dovecot.imap(&user);
    imap.command("CREATE Broken");
    imap.append("Broken", "", b"Subject: two\r\n\r\n");
    let folder = dovecot.root().join("example.org/maildir/Maildir/.Broken");
    fs::remove_dir_all(folder.join("cur")).unwrap();
    fs::write(folder.join("cur"), "no directory").unwrap();

    let (look, read) = look(&dovecot, &user, 100);

    let unreadable: Vec<_> =
        look.unreadable.iter().map(|it| it.folder.as_str()).collect();
    assert_eq!(unreadable, ["Broken"]);
    assert!(look.unreadable[0].answer.starts_with("NO ["), "{look:?}");
    assert_eq!(read.len(), 1);
}

#[test]
fn lmtp_tells_now_from_never() {
    let dovecot = start();
    let lmtp = at(dovecot.ports().lmtp);
    let full = dovecot.root().join("example.org").join("maildir");
    let deliver_here = |recipient: &str| {
        let message = b"Subject: x\n\n".as_slice();
        let letter = Letter { sender: "", recipient, message };
        deliver(lmtp, letter, Instant::now() + PATIENCE)
    };

    let unknown = deliver_here("nobody@example.org").unwrap();
    let unsayable = deliver_here("a b\r\n@example.org").unwrap_err();
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    fs::write(&full, "no directory").unwrap();
    let broken = deliver_here(&address(Format::Maildir)).unwrap();

    assert!(matches!(unknown, Delivery::Refused { code: 550, .. }), "{unknown:?}");
    assert!(matches!(unsayable.cause, ConversationFault::Unsayable));
    assert!(matches!(broken, Delivery::Temporary { code: 451, .. }), "{broken:?}");
}

#[test]
fn odd_passwords_and_names_get_through() {
    let dovecot = start();
    let user = address(Format::Maildir);
    for password in ["pass word", "quo\"te\\s", "pässwörd", ""] {
        let login = Login { user: &user, password };
        let error =
            Imap::login(at(dovecot.ports().imap), login, Instant::now() + PATIENCE);
        let cause = error.unwrap_err().cause;
        let ConversationFault::Refused { answer } = cause else { panic!("{cause:?}") };
        assert!(answer.starts_with("NO [AUTHENTICATIONFAILED]"), "{answer}");
    }
}

fn start() -> Dovecot {
    // Wrong passwords shall cost no time here.
    let config = "auth_failure_delay = 0\nservice anvil {\n \
                  unix_listener anvil-auth-penalty {\n mode = 0\n }\n}\n";
    let users = Format::ALL.map(|format| User::new(&address(format), format)).to_vec();
    Dovecot::start(&DovecotSpec {
        users,
        config: config.to_owned(),
        ..DovecotSpec::default()
    })
}

fn address(format: Format) -> String {
    format!("{}@example.org", format.name())
}

fn at(port: u16) -> SocketAddr {
    (LOOPBACK, port).into()
}

fn canary(dovecot: &Dovecot, user: &str) -> Canary {
    Canary {
        lmtp: at(dovecot.ports().lmtp),
        imap: at(dovecot.ports().imap),
        user: user.to_owned(),
        login: user.to_owned(),
        password: PASSWORD.into(),
        name: "stor-01".to_owned(),
        patience: PATIENCE,
    }
}

fn sample(random: u32) -> Sample {
    Sample { newest: true, random, seed: 1 }
}

fn look(dovecot: &Dovecot, user: &str, random: u32) -> (Look, Read) {
    look_for(dovecot, user, sample(random))
}

fn look_for(dovecot: &Dovecot, user: &str, sample: Sample) -> (Look, Read) {
    let reader = Reader {
        imap: at(dovecot.ports().imap),
        master: MASTER.to_owned(),
        password: MASTER_PASSWORD.into(),
        separator: '*',
        patience: PATIENCE,
    };
    let mut read = Read::new();
    let look = reader.look(user, sample, &mut |folder, uid, from| {
        let message = read.entry((folder.name.clone(), uid)).or_default();
        from.read_to_end(message).map(|_| ())
    });
    (look.unwrap(), read)
}

fn deliver_to(dovecot: &Dovecot, user: &str, message: &[u8]) {
    let answer = dovecot.deliver(user, message);
    assert!(answer.starts_with("250 "), "{answer}");
}

/// Flags, UIDs and mod-sequences of all messages, as an independent client sees them.
fn state(dovecot: &Dovecot, user: &str) -> Vec<String> {
    let mut imap = dovecot.imap(user);
    let mut state = Vec::new();
    for folder in ["INBOX", "Sent", "Empty", "\"Deep/er &AOk- \\\"quoted\\\"\""] {
        imap.command(&format!("EXAMINE {folder}"));
        let answers = imap.command("UID FETCH 1:* (FLAGS MODSEQ INTERNALDATE)");
        let answers = answers.into_iter().map(|answer| answer.text);
        state.extend(answers.filter(|it| it.contains(" FETCH ")));
        let status = format!("STATUS {folder} (UNSEEN HIGHESTMODSEQ UIDNEXT)");
        state.extend(imap.command(&status).into_iter().map(|it| it.text));
    }
    assert!(state.iter().filter(|it| it.contains("FETCH")).count() == 8, "{state:?}");
    state
}

/// Cuts the file of the newest message in half, or the last third off when all are in one.
fn truncate_last(mailbox: &Path) {
    let mut files = Vec::new();
    let mut waiting = vec![mailbox.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else if is_mail(&entry.path()) {
                files.push(entry.path());
            }
        }
    }
    files.sort_by_key(|path| {
        (fs::metadata(path).unwrap().modified().unwrap(), path.clone())
    });
    let last = File::options().write(true).open(files.last().unwrap()).unwrap();
    let size = last.metadata().unwrap().len();
    last.set_len(if files.len() == 1 { size / 3 * 2 } else { size / 2 }).unwrap();
}

fn is_mail(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let dir = path.parent().unwrap().file_name().unwrap();
    name.starts_with("u.") || name.starts_with("m.") || dir == "new" || dir == "cur"
}
