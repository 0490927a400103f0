//! What Postfix hears, byte for byte as it stands on the wire.
#![expect(clippy::unwrap_used, reason = "a broken test may stop")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use expect_test::{Expect, expect};
use tidegate_admission::{Next, ServeError, Transport, policy, socketmap};
use tidegate_rig::{need, open_directory};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[test]
fn the_map_tells_the_way_to_open_and_held_mailboxes_with_a_next_hop() {
    let map = Server::socketmap();

    map.check_key("open@example.org", &expect!["33:OK lmtp:inet:node7.example.net:24,"]);
    map.check_key("Open@Example.ORG", &expect!["33:OK lmtp:inet:node7.example.net:24,"]);
    map.check_key("held@example.org", &expect!["33:OK held:inet:node7.example.net:24,"]);
}

#[test]
fn what_is_no_mailbox_of_ours_is_not_found() {
    let map = Server::socketmap();
    let not_found = expect!["9:NOTFOUND ,"];

    for key in ["*", "example.org", ".example.org", "@example.org", "open", "open@", ""] {
        map.check_key(key, &not_found);
    }
    map.check_key("sender@example.net", &not_found);
    map.check_key("\u{e4}nna@example.org", &not_found);
    not_found.assert_eq(&map.say(b"23:transport \xe4@example.org,"));
}

#[test]
fn mail_waits_while_a_state_is_unknown() {
    Server::socketmap().check_key(
        "unknown@example.org",
        &expect!["43:TEMP the state of this mailbox is not known,"],
    );
}

#[test]
fn a_way_that_loses_or_refuses_mail_is_never_told() {
    let map = Server::socketmap();
    let unusable = expect!["48:TEMP the transport of this mailbox is not usable,"];

    for mailbox in ["retry", "error", "discard", "nohop", "noport", "lines"] {
        map.check_key(&format!("{mailbox}@example.org"), &unusable);
    }
}

#[test]
fn another_map_does_not_exist() {
    let map = Server::socketmap();
    let no_map = expect!["25:PERM there is no such map,"];

    no_map.assert_eq(&map.say(b"22:virtual open@example.o,"));
    no_map.assert_eq(&map.say(b"27:transports open@example.org,"));
    no_map.assert_eq(&map.say(b"9:transport,"));
    no_map.assert_eq(&map.say(b"0:,"));
}

#[test]
fn one_caller_asks_many_times_in_pieces_and_all_at_once() {
    let map = Server::socketmap();
    let question = b"26:transport open@example.org,";

    let mut caller = map.connect();
    for byte in question {
        caller.write_all(&[*byte]).unwrap();
    }
    let all_at_once = question.repeat(3);
    caller.write_all(&all_at_once).unwrap();
    caller.shutdown(Shutdown::Write).unwrap();

    let mut answers = String::new();
    caller.read_to_string(&mut answers).unwrap();
    expect!["33:OK lmtp:inet:node7.example.net:24,33:OK lmtp:inet:node7.example.net:24,33:OK lmtp:inet:node7.example.net:24,33:OK lmtp:inet:node7.example.net:24,"].assert_eq(&answers);
}

#[test]
fn who_does_not_speak_in_netstrings_is_cut_off_without_an_answer() {
    let map = Server::socketmap();

    for garbage in [
        b"get open@example.org\n".as_slice(),
        b"26:transport open@example.org\n",
        b"26 transport open@example.org,",
        b"-1:,",
        b"99999:",
        b"9999:",
        b"4097:",
        b":,",
        b"26:transport open@",
    ] {
        assert_eq!(map.say(garbage), "", "{}", String::from_utf8_lossy(garbage));
    }
}

#[test]
fn postfix_itself_understands_the_map_and_takes_doubt_for_an_error() {
    let map = Server::socketmap();
    let dir = open_directory();
    std::fs::write(dir.path().join("main.cf"), "compatibility_level = 3.6\n").unwrap();
    need("/usr/sbin/postmap", "postfix");
    let table = format!("socketmap:inet:{}:transport", map.address);
    let ask = |key: &str| {
        let mut postmap = Command::new("/usr/sbin/postmap");
        let postmap = postmap.arg("-c").arg(dir.path()).args(["-q", key, &table]);
        let output = postmap.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        (output.status.code(), said.trim_end().to_owned())
    };

    let found = |value: &str| (Some(0), value.to_owned());
    let nothing = (Some(1), String::new());
    assert_eq!(ask("open@example.org"), found("lmtp:inet:node7.example.net:24"));
    assert_eq!(ask("held@example.org"), found("held:inet:node7.example.net:24"));
    assert_eq!(ask("*"), nothing);
    let (code, said) = ask("unknown@example.org");
    assert_eq!(code, Some(1));
    assert!(said.contains("fatal: table socketmap:"), "{said}");
    assert!(said.contains("query error"), "{said}");
}

#[test]
fn a_held_recipient_is_deferred_and_an_open_one_is_no_matter_of_ours() {
    let policy = Server::policy();

    policy.check_recipient("held@example.org", &expect![[r#"
        "action=DEFER_IF_PERMIT 4.2.1 Mailbox is being restored, please try again later\n\n"
    "#]]);
    policy.check_recipient("HELD@example.org", &expect![[r#"
        "action=DEFER_IF_PERMIT 4.2.1 Mailbox is being restored, please try again later\n\n"
    "#]]);
    policy.check_recipient(
        "open@example.org",
        &expect![[r#"
        "action=DUNNO\n\n"
    "#]],
    );
    policy.check_recipient(
        "friend@example.net",
        &expect![[r#"
        "action=DUNNO\n\n"
    "#]],
    );
    policy.check_recipient(
        "unknown@example.org",
        &expect![[r#"
        "action=451 4.3.5 Mailbox state is not known, try again later\n\n"
    "#]],
    );
}

#[test]
fn there_is_no_opinion_on_anything_but_recipients() {
    let policy = Server::policy();
    let dunno = expect![[r#"
        "action=DUNNO\n\n"
    "#]];

    for recipient in ["", "postmaster", "@example.org", "\u{e4}@example.org"] {
        policy.check_recipient(recipient, &dunno);
    }
    for question in [
        "request=smtpd_access_policy\nprotocol_state=DATA\nrecipient=held@example.org\n\n",
        "request=smtpd_access_policy\nprotocol_state=RCPT\nsender=held@example.org\n\n",
        "request=junk_mail\nprotocol_state=RCPT\nrecipient=held@example.org\n\n",
        "\n",
    ] {
        dunno.assert_debug_eq(&policy.say(question.as_bytes()));
    }
    let latin = b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=\xe4@x\n\n";
    dunno.assert_debug_eq(&policy.say(latin));
}

#[test]
fn one_caller_asks_the_policy_many_times() {
    let policy = Server::policy();

    let answers = policy.say(question("held@example.org").repeat(2).as_bytes());

    expect![[r#"
        "action=DEFER_IF_PERMIT 4.2.1 Mailbox is being restored, please try again later\n\naction=DEFER_IF_PERMIT 4.2.1 Mailbox is being restored, please try again later\n\n"
    "#]].assert_debug_eq(&answers);
}

#[test]
fn who_does_not_speak_in_attributes_is_cut_off_without_an_answer() {
    let policy = Server::policy();
    let endless = format!("sender={}", "a".repeat(1 << 20));

    for garbage in ["26:transport open@example.org,\n\n", "recipient=held@exam", &endless]
    {
        assert_eq!(policy.say(garbage.as_bytes()), "");
    }
}

#[test]
fn the_stop_does_not_wait_for_callers() {
    let map = Server::socketmap();
    let mut caller = map.connect();
    caller.write_all(b"26:transport open@").unwrap();

    drop(map);

    assert_eq!(rest(&mut caller), "");
}

#[test]
fn other_machines_cannot_ask() {
    let refused = runtime().block_on(async {
        let listen = || TcpListener::bind("0.0.0.0:0");
        let (one, other) = (listen().await.unwrap(), listen().await.unwrap());
        let stop = std::future::pending;
        (
            socketmap::serve(one, Arc::new(Example), stop()).await,
            policy::serve(other, Arc::new(Example), stop()).await,
        )
    });

    assert!(matches!(refused.0, Err(ServeError::NotLoopback { .. })));
    assert!(matches!(refused.1, Err(ServeError::NotLoopback { .. })));
}

/// Knows the mailboxes of `example.org` by their names.
struct Example;

impl Transport for Example {
    fn transport(&self, recipient: &str) -> Next {
        let Some(name) = recipient.strip_suffix("@example.org") else {
            return Next::NotOurs;
        };
        match name {
            "open" => Next::Deliver("lmtp:inet:node7.example.net:24".into()),
            "held" => Next::Hold("held:inet:node7.example.net:24".into()),
            "unknown" => Next::Unknown,
            "retry" => Next::Hold("retry:4.2.1 wait".into()),
            "error" => Next::Deliver("error:5.1.1 gone".into()),
            "discard" => Next::Deliver("discard:silently".into()),
            "nohop" => Next::Hold("held:".into()),
            "noport" => Next::Hold("held:inet:".into()),
            "lines" => Next::Deliver("lmtp:inet:a\r\nb".into()),
            _ => Next::NotOurs,
        }
    }
}

/// What smtpd sends at RCPT.
fn question(recipient: &str) -> String {
    format!(
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n\
         client_address=192.0.2.7\nhelo_name=client.example.net\nqueue_id=\n\
         sender=friend@example.net\nrecipient={recipient}\nrecipient_count=0\n\
         policy_context=\n\n"
    )
}

/// One of the servers on a thread of its own, stopped and joined when dropped.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn socketmap() -> Self {
        Self::start(|listener, stop| socketmap::serve(listener, Arc::new(Example), stop))
    }

    fn policy() -> Self {
        Self::start(|listener, stop| policy::serve(listener, Arc::new(Example), stop))
    }

    fn start<S>(serve: impl FnOnce(TcpListener, Stopped) -> S) -> Self
    where
        S: Future<Output = Result<(), ServeError>> + Send + 'static,
    {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = serve(listener, Box::pin(async { drop(stopped.await) }));
        let thread = std::thread::spawn(move || runtime.block_on(served).unwrap());
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    fn check_key(&self, key: &str, expected: &Expect) {
        let request = format!("transport {key}");
        let netstring = format!("{}:{request},", request.len());
        expected.assert_eq(&self.say(netstring.as_bytes()));
    }

    fn check_recipient(&self, recipient: &str, expected: &Expect) {
        expected.assert_debug_eq(&self.say(question(recipient).as_bytes()));
    }

    /// Says something and hangs up; returns all that came back.
    fn say(&self, bytes: &[u8]) -> String {
        let mut caller = self.connect();
        // The server may hang up in the middle of it.
        let _ = caller.write_all(bytes);
        let _ = caller.shutdown(Shutdown::Write);
        rest(&mut caller)
    }

    fn connect(&self) -> TcpStream {
        let caller = TcpStream::connect(self.address).unwrap();
        caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        caller
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

type Stopped = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn rest(caller: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match caller.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8(bytes).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
