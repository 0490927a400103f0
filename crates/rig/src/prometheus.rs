//! Prometheus: a real server, and something for it to scrape.
//!
//! # Invariants
//!
//! * It is ready when it was started, and has nothing in memory when it starts again.
//! * What the exporter says is what it was last told to say.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

use crate::keeper::{Keeper, hand_over, need, open_directory, wait_until};
use crate::ports::{FreePorts, LOOPBACK};

/// How long a server may take to be ready on a busy machine.
const READY: Duration = Duration::from_mins(1);

/// How often it scrapes: much more often than in life, so that tests need not wait.
const SCRAPE: &str = "100ms";

/// A Prometheus server on loopback that scrapes one exporter. Stopped when dropped.
#[derive(Debug)]
pub struct Prometheus {
    dir: TempDir,
    port: u16,
    keeper: Option<Keeper>,
}

impl Prometheus {
    /// Starts Debian's server, which scrapes the exporter at `target`.
    pub fn start(target: u16) -> Self {
        need("/usr/bin/prometheus", "prometheus");
        let dir = open_directory();
        let config = format!(
            "global:\n  scrape_interval: {SCRAPE}\n  scrape_timeout: {SCRAPE}\n\
             scrape_configs:\n  - job_name: rig\n    static_configs:\n      \
             - targets: ['{LOOPBACK}:{target}']\n"
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        hand_over(dir.path());
        let [port] = FreePorts::take(1).hand_over();
        let mut server = Self { dir, port, keeper: None };
        server.start_again();
        server
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{LOOPBACK}:{}", self.port)
    }

    /// Ends it; nobody answers at its address then.
    pub fn stop(&mut self) {
        self.keeper = None;
    }

    /// Starts it where it was.
    pub fn start_again(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let says = self.dir.path().join("says");
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address={LOOPBACK}:{}", self.port),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let keeper = Keeper::start("/usr/bin/prometheus", &arguments, &says);
        let ready = wait_until(READY, || !keeper.lives() || self.is_ready());
        let said = || fs::read_to_string(&says).unwrap_or_default();
        assert!(ready && keeper.lives(), "prometheus did not start:\n{}", said());
        self.keeper = Some(keeper);
    }

    fn is_ready(&self) -> bool {
        let Ok(mut talk) = TcpStream::connect((LOOPBACK, self.port)) else {
            return false;
        };
        let asked = write!(
            talk,
            "GET /-/ready HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n"
        );
        let mut answer = String::new();
        asked.is_ok()
            && talk.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }
}

/// Something that Prometheus scrapes: it says what it is told to. Stopped when dropped.
#[derive(Debug)]
pub struct Exporter {
    port: u16,
    says: Arc<Mutex<String>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Starts one that says `metrics`, in Prometheus' text format.
    pub fn start(metrics: &str) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let says = Arc::new(Mutex::new(metrics.to_owned()));
        let ends = Arc::new(AtomicBool::new(false));
        let (text, end) = (Arc::clone(&says), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            for talk in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let text = text.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Whoever hangs up early asks again.
                let _gone = talk.and_then(|talk| answer(talk, &text));
            }
        });
        Self { port, says, ends, thread: Some(thread) }
    }

    /// Where it is scraped.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on it says `metrics`.
    pub fn say(&self, metrics: &str) {
        metrics.clone_into(&mut self.says.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _woken = TcpStream::connect((LOOPBACK, self.port));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn answer(mut talk: TcpStream, text: &str) -> std::io::Result<()> {
    talk.set_read_timeout(Some(Duration::from_secs(1)))?;
    let head = BufReader::new(talk.try_clone()?).lines();
    for line in head {
        if line?.is_empty() {
            break;
        }
    }
    write!(
        talk,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}
