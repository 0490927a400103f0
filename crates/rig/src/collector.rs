//! Collector: an HTTP server that takes whatever programs send it by themselves, as a receiver
//! of alerts or a collector of traces does, and keeps it.
//!
//! # Invariants
//!
//! * Everything is taken: what a sender does when it is refused is judged elsewhere.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::ports::LOOPBACK;

/// A server on loopback, for as long as the test's process runs.
#[derive(Debug)]
pub struct Collector {
    url: String,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// What one request brought.
#[derive(Clone, Debug)]
pub struct Taken {
    /// What it asked for, such as `POST /v1/traces`.
    pub asked: String,
    /// The lines of its header.
    pub header: String,
    /// What it carried.
    pub body: Vec<u8>,
}

impl Collector {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        thread::spawn(move || {
            for client in listener.incoming() {
                let into = Arc::clone(&into);
                thread::spawn(move || take(client.unwrap(), &into));
            }
        });
        Self { url, taken }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All that came, in order.
    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

/// Takes one request after the other from a sender.
fn take(client: TcpStream, into: &Mutex<Vec<Taken>>) {
    let mut talk = BufReader::new(client);
    loop {
        let (mut asked, mut header, mut length) = (String::new(), String::new(), 0);
        // A sender that has hung up has said what it had to say.
        if !talk.read_line(&mut asked).is_ok_and(|read| read > 0) {
            return;
        }
        let mut line = String::new();
        while talk.read_line(&mut line).is_ok_and(|read| read > 0) && line != "\r\n" {
            let field = line.to_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            header += &line;
            line.clear();
        }
        let asked = asked.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let mut body = vec![0; length];
        talk.read_exact(&mut body).unwrap();
        into.lock().unwrap().push(Taken { asked, header, body });
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        if talk.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}
