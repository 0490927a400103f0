//! The world's mail: sent to a real Postfix, and remembered by whom it must reach.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_rig::{FreePorts, Letter, Postfix, PostfixSpec};

use crate::site::Site;

/// Between two messages that come while something else happens: many in every second.
const BETWEEN: Duration = Duration::from_millis(40);

/// Postfix with the lines that we ship.
pub(crate) struct Post {
    exchanger: Arc<Exchanger>,
}

/// Goes on until it is stopped.
pub(crate) struct Sending {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Exchanger {
    postfix: Postfix,
    /// Marks of what was accepted, by recipient.
    sent: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Post {
    /// Starts Postfix, and writes what `tidegate mx` needs to stand beside it.
    pub(crate) fn open(site: &Site) -> Self {
        let [socketmap] = FreePorts::take(1).hand_over();
        let main = shipped("main.cf").replace("10391", &socketmap.to_string());
        let spec = PostfixSpec {
            domains: site.domains(),
            transport: String::new(),
            main,
            master: shipped("master.cf"),
        };
        let postfix = Postfix::start(&spec);
        let mut config = format!(
            "name = \"mx-1\"\ncoordinator = \"{url}\"\nstate_dir = \"mx\"\n\
             socketmap_listen = \"127.0.0.1:{socketmap}\"\n\
             [drain]\nconfig_dir = \"{dir}\"\n\
             [next_hop.nodes]\n",
            url = site.url(),
            dir = postfix.config_dir().display(),
        );
        for node in &site.nodes {
            let port = node.dovecot.ports().lmtp;
            writeln!(config, "{} = \"inet:127.0.0.1:{port}\"", node.name).unwrap();
        }
        site.write("mx.toml", &config);
        let sent = Mutex::default();
        Self { exchanger: Arc::new(Exchanger { postfix, sent }) }
    }

    /// Whether mail for this user is accepted.
    pub(crate) fn takes(&self, user: &str) -> bool {
        let mut talk = self.exchanger.postfix.smtp();
        talk.ask(&format!("RCPT TO:<{user}>")).starts_with("250 ")
    }

    /// Sends one message, which must be accepted.
    pub(crate) fn send(&self, user: &str) {
        self.exchanger.send(user);
    }

    /// Sends to these users, over and over, while something else happens.
    pub(crate) fn keep_sending(&self, users: &[String]) -> Sending {
        let stop = Arc::new(AtomicBool::new(false));
        let (exchanger, users) = (Arc::clone(&self.exchanger), users.to_vec());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let rounds = users.iter().cycle();
            for user in rounds.take_while(|_| !stopped.load(Ordering::Relaxed)) {
                exchanger.send(user);
                std::thread::park_timeout(BETWEEN);
            }
        });
        Sending { stop, thread }
    }

    /// A message that somebody else delivers, with its mark.
    pub(crate) fn letter_by_hand(user: &str) -> (String, String) {
        letter("by-hand", user)
    }

    /// A message with this mark was accepted for a user.
    pub(crate) fn note(&self, user: &str, mark: String) {
        let mut sent = self.exchanger.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.entry(user.to_owned()).or_default().push(mark);
    }

    /// Messages accepted so far.
    pub(crate) fn sent(&self) -> usize {
        self.by_user().values().map(Vec::len).sum()
    }

    /// Of these, for some users.
    pub(crate) fn sent_to(&self, users: &[String]) -> usize {
        let sent = self.by_user();
        users.iter().filter_map(|user| sent.get(user)).map(Vec::len).sum()
    }

    /// The marks of what was accepted, by recipient.
    pub(crate) fn by_user(&self) -> BTreeMap<String, Vec<String>> {
        self.exchanger.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages that wait in Postfix's queue.
    pub(crate) fn queued(&self) -> usize {
        self.exchanger.postfix.queue().len()
    }
}

impl Sending {
    /// Ends it, and returns when nothing more is sent.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

impl Exchanger {
    fn send(&self, user: &str) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let number: usize = sent.values().map(Vec::len).sum();
        let (mark, message) = letter(&number.to_string(), user);
        let said = self.postfix.send(Letter { to: &[user], message: message.as_bytes() });
        let accepted = said.end.as_ref().is_some_and(|end| end.starts_with("250 "));
        assert!(accepted, "{said:?}");
        sent.entry(user.to_owned()).or_default().push(mark);
    }
}

/// A mark, and the message that has it.
fn letter(number: &str, user: &str) -> (String, String) {
    let mark = format!("{number}-{user}");
    let message = format!(
        "From: sender@example.net\r\nTo: {user}\r\nSubject: letter {number}\r\n\
         Message-ID: <{number}@example.net>\r\nX-Evening: {mark}\r\n\r\nGood evening!\r\n"
    );
    (mark, message)
}

fn shipped(name: &str) -> String {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/postfix");
    std::fs::read_to_string(dir.join(name)).unwrap()
}
