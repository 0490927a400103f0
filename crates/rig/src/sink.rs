//! Sink: a storage node as a mail exchanger sees it, an LMTP server that lets in whom it is
//! told to, and writes down what arrives.
//!
//! # Invariants
//!
//! * Whoever is not let in is put off for now, never refused for good.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::ports::LOOPBACK;

/// An LMTP server on loopback, for as long as the test's process runs.
pub struct Sink {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    lets_in: Box<dyn Fn(&str) -> bool + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    delivered: BTreeMap<String, Vec<String>>,
    refused: u32,
}

impl Sink {
    /// Starts one that takes mail for whom `lets_in` says so.
    pub fn start(lets_in: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared =
            Arc::new(Shared { lets_in: Box::new(lets_in), state: Mutex::default() });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for caller in listener.incoming() {
                let served = Arc::clone(&served);
                thread::spawn(move || talk(caller.unwrap(), &served));
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Subjects of what was delivered to somebody, in order.
    pub fn delivered(&self, address: &str) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        state.delivered.get(address).cloned().unwrap_or_default()
    }

    /// How many messages arrived, for whomever.
    pub fn arrived(&self) -> usize {
        self.shared.state.lock().unwrap().delivered.values().map(Vec::len).sum()
    }

    /// How often somebody was named who is not let in.
    pub fn refused(&self) -> u32 {
        self.shared.state.lock().unwrap().refused
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("port", &self.port).finish_non_exhaustive()
    }
}

fn talk(stream: TcpStream, Shared { lets_in, state }: &Shared) {
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
                if lets_in(&address) {
                    recipients.push(address);
                    say("250 2.1.5 OK")
                } else {
                    state.lock().unwrap().refused += 1;
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
                    state.delivered.entry(address).or_default().push(subject.clone());
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
