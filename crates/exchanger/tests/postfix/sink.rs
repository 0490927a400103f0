//! A storage node as Postfix sees it: an LMTP server that holds whom it is told to.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A storage node on loopback.
pub(crate) struct Sink {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: BTreeSet<String>,
    delivered: Vec<(String, String)>,
    refused: u32,
}

impl Sink {
    /// Starts one; everybody is held.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for caller in listener.incoming() {
                let state = Arc::clone(&shared);
                thread::spawn(move || talk(caller.unwrap(), &state));
            }
        });
        Self { port, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn open(&self, address: &str) {
        self.state.lock().unwrap().open.insert(address.to_owned());
    }

    pub(crate) fn hold(&self, address: &str) {
        self.state.lock().unwrap().open.remove(address);
    }

    /// Subjects of what was delivered to somebody, in order.
    pub(crate) fn delivered(&self, address: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let theirs = state.delivered.iter().filter(|(to, _)| to == address);
        theirs.map(|(_, subject)| subject.clone()).collect()
    }

    /// How often somebody was named who is held.
    pub(crate) fn refused(&self) -> u32 {
        self.state.lock().unwrap().refused
    }
}

fn talk(stream: TcpStream, state: &Mutex<State>) {
    let mut to = stream.try_clone().unwrap();
    // A caller that has hung up needs no answer.
    let mut say =
        move |line: &str| to.write_all(format!("{line}\r\n").as_bytes()).is_ok();
    say("220 sink");
    let mut recipients: Vec<String> = Vec::new();
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let verb: String = line.chars().take(4).collect::<String>().to_ascii_uppercase();
        match verb.as_str() {
            "LHLO" => say("250-sink\r\n250 PIPELINING"),
            "RCPT" => {
                let address =
                    line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                let mut state = state.lock().unwrap();
                if state.open.contains(&address) {
                    recipients.push(address);
                    say("250 2.1.5 OK")
                } else {
                    state.refused += 1;
                    say("451 4.3.0 Temporary internal error")
                }
            }
            "DATA" if recipients.is_empty() => say("503 5.5.1 nobody"),
            "DATA" => {
                say("354 go on");
                let mut subject = String::new();
                for line in lines.by_ref().map_while(Result::ok) {
                    if line == "." {
                        break;
                    }
                    if let Some(is) = line.strip_prefix("Subject: ") {
                        is.clone_into(&mut subject);
                    }
                }
                let mut state = state.lock().unwrap();
                for address in recipients.drain(..) {
                    state.delivered.push((address, subject.clone()));
                    say("250 2.0.0 saved");
                }
                true
            }
            "QUIT" => {
                say("221 bye");
                return;
            }
            _ => say("250 OK"),
        };
    }
}
