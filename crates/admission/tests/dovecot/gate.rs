//! The gate that Dovecot asks: the real endpoint, and the ways in which one can be broken.
//!
//! # Invariants
//!
//! * A gate keeps its port over all its lives, as the mail server's script names it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_admission::{Doors, Ladder, Rung, Standing};
use tidegate_rig::LOOPBACK;
use tokio::sync::oneshot;

/// A place where a gate may stand.
pub(crate) struct Gate {
    address: SocketAddr,
    pub(crate) doors: Doors,
    life: Option<Life>,
}

/// How a gate can be broken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Broken {
    /// It takes questions and never answers.
    Silent,
    /// It answers that it cannot.
    Status500,
    /// It says something else.
    Nonsense,
    /// It answers the first question of each caller when he has given up waiting, and that
    /// the user is online; and all others at once, and that they are held.
    Late,
}

enum Life {
    Real { stop: Option<oneshot::Sender<()>>, thread: Option<JoinHandle<()>> },
    Broken { stop: Arc<AtomicBool>, address: SocketAddr, thread: Option<JoinHandle<()>> },
}

impl Gate {
    /// The real one, on a free port, with the default ladder and nobody known.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut gate = Self { address, doors: Doors::new(ladder()), life: None };
        gate.serve(listener);
        gate
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets how far a mailbox is open.
    pub(crate) fn set(&self, address: &str, standing: Standing) {
        self.doors.set([(address, standing)]);
    }

    /// Ends it: nobody listens any more.
    pub(crate) fn stop(&mut self) {
        self.life = None;
    }

    /// Puts the real one back.
    pub(crate) fn resume(&mut self) {
        self.life = None;
        let listener = TcpListener::bind(self.address).unwrap();
        self.serve(listener);
    }

    /// Puts a broken one in its place.
    pub(crate) fn break_down(&mut self, how: Broken) {
        self.life = None;
        let listener = TcpListener::bind(self.address).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut callers = Vec::new();
            for caller in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    // As the kernel does for a program that ends.
                    for caller in callers {
                        let _ = TcpStream::shutdown(&caller, Shutdown::Both);
                    }
                    return;
                }
                let caller = caller.unwrap();
                callers.push(caller.try_clone().unwrap());
                std::thread::spawn(move || how.talk(caller));
            }
        });
        let (address, thread) = (self.address, Some(thread));
        self.life = Some(Life::Broken { stop, address, thread });
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let doors = self.doors.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let stopped = async {
                    let _ = stopped.await;
                };
                tidegate_admission::serve(listener, doors, stopped).await.unwrap();
            });
        });
        self.life = Some(Life::Real { stop: Some(stop), thread: Some(thread) });
    }
}

impl Broken {
    fn talk(self, caller: TcpStream) {
        let mut caller = BufReader::new(caller);
        let mut line = String::new();
        let mut is_first = true;
        while caller.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line != "\r\n" {
                line.clear();
                continue;
            }
            line.clear();
            let (status, body) = match self {
                Self::Silent => continue,
                Self::Status500 => ("500 Internal Server Error", ""),
                Self::Nonsense => ("200 OK", "open"),
                Self::Late if is_first => {
                    // The end of the connection is what it waits for, if that comes sooner.
                    let patience = Some(LATE);
                    caller.get_ref().set_read_timeout(patience).unwrap();
                    let _ = caller.fill_buf();
                    caller.get_ref().set_read_timeout(None).unwrap();
                    ("200 OK", r#"{"state":"online"}"#)
                }
                Self::Late => ("200 OK", r#"{"state":"held"}"#),
            };
            is_first = false;
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            if caller.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Longer than Dovecot waits.
const LATE: Duration = Duration::from_millis(2_500);

impl Drop for Life {
    fn drop(&mut self) {
        let thread = match self {
            Self::Real { stop, thread } => {
                drop(stop.take());
                thread.take()
            }
            Self::Broken { stop, address, thread } => {
                stop.store(true, Ordering::SeqCst);
                // Wakes it.
                let _ = TcpStream::connect(*address);
                thread.take()
            }
        };
        let _ = thread.map(JoinHandle::join);
    }
}

/// The ladder that policies have when they say nothing else.
fn ladder() -> Ladder {
    let rung = |name: &str, services: &[&str]| Rung {
        name: name.to_owned(),
        services: services.iter().map(|&service| service.to_owned()).collect(),
    };
    Ladder {
        rungs: vec![
            rung("receive", &["lmtp"]),
            rung("webmail", &["webmail"]),
            rung("mail", &["imap", "pop3", "submission"]),
            rung("accessories", &["sieve"]),
        ],
    }
}

/// Where everything is open.
pub(crate) const TOP: Standing = Standing::Level(4);

/// Where nothing is.
pub(crate) const HELD: Standing = Standing::Level(0);
