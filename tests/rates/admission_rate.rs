//! What an answer to a mail server costs, in CPU of the server and in memory of its table:
//! `cargo run --release --example admission_rate -- 500000`.
//!
//! A node's table behind the two doors that there are: socketmap as Postfix asks, one question at
//! a time and sixteen together, and HTTP as Dovecot asks. The floor is a bare table in C behind
//! the same protocols, compiled and run beside it: one thread, eight bytes a slot, nothing
//! confirmed. Both are asked in turns, by the same callers, for the same mailboxes; each answer is
//! checked.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement on a terminal"
)]

#[expect(dead_code, reason = "only its addresses and processes are needed")]
mod fleet;

use std::borrow::Cow;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fleet::Program;
use tidegate_admission::{Answer, Doors, Ladder, Next, Rung, Standing, Transport};
use tokio::net::TcpListener;

/// Mailboxes when none are asked for: those of a large node.
const MAILBOXES: u32 = 500_000;

/// Connections over which is asked.
const CALLERS: usize = 64;

/// How long each is asked in one turn, and how many turns each has.
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 5;

const DELIVER: &str = "lmtp:inet:127.0.0.1:10024";
const HOLD: &str = "held:inet:127.0.0.1:10024";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", mailboxes, map, http] => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(serve(mailboxes.parse()?, map.parse()?, http.parse()?))
        }
        [] => compare(MAILBOXES),
        [mailboxes] => compare(mailboxes.parse()?),
        _ => bail!("give a number of mailboxes, or nothing"),
    }
}

fn compare(mailboxes: u32) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let bare = dir.path().join("bare_table");
    compile(&bare)?;
    let servers = [Served::ours(mailboxes)?, Served::bare(&bare, mailboxes)?];
    let empty = [Served::ours(1)?, Served::bare(&bare, 1)?];
    let weighs = |full: &Served, none: &Served| -> anyhow::Result<f64> {
        let bytes =
            full.program.used()?.memory.saturating_sub(none.program.used()?.memory);
        Ok(bytes as f64 / f64::from(mailboxes))
    };
    let ([ours, bare], [none, no_bare]) = (&servers, &empty);
    let (ours, bare) = (weighs(ours, none)?, weighs(bare, no_bare)?);
    drop(empty);
    println!("{mailboxes} mailboxes, {CALLERS} connections");
    println!(
        "{:>22} {:>10} {:>10} {:>8}",
        "CPU of the server, us", "Tidegate", "bare C", "times"
    );
    println!("{:>22} {ours:>10.1} {bare:>10.1} {:>8.2}", "bytes a mailbox", ours / bare);
    for (what, door, depth) in [
        ("socketmap, one by one", Door::Map, 1),
        ("socketmap, sixteen", Door::Map, 16),
        ("HTTP, one by one", Door::Http, 1),
    ] {
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            let [ours, floor] = &servers;
            turns.push((
                ours.turn(door, depth, mailboxes)?,
                floor.turn(door, depth, mailboxes)?,
            ));
        }
        let median = |of: fn(&(f64, f64)) -> f64| {
            let mut all: Vec<f64> = turns.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
        };
        println!(
            "{what:>22} {:>10.2} {:>10.2} {:>8.2}",
            median(|it| it.0),
            median(|it| it.1),
            median(|it| it.0 / it.1),
        );
    }
    Ok(())
}

/// Makes the floor of its source.
fn compile(to: &Path) -> anyhow::Result<()> {
    let source = to.with_extension("c");
    fs::write(&source, include_str!("bare_table.c"))?;
    let mut command = Command::new("cc");
    let compiled = command.arg("-O2").arg("-o").arg(to).arg(&source).status();
    ensure!(compiled.context("run `cc`")?.success(), "`cc` cannot compile the floor");
    Ok(())
}

/// What is asked, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Map,
    Http,
}

/// A server under way.
struct Served {
    program: Program,
    map: SocketAddr,
    http: SocketAddr,
}

impl Served {
    fn ours(mailboxes: u32) -> anyhow::Result<Self> {
        let (map, http) = (fleet::free_address()?, fleet::free_address()?);
        let words = [mailboxes.to_string(), map.to_string(), http.to_string()];
        let [mailboxes, at, other] = words.each_ref().map(String::as_str);
        let program = Program::start(&["serve", mailboxes, at, other])?;
        Self { program, map, http }.serving()
    }

    fn bare(path: &Path, mailboxes: u32) -> anyhow::Result<Self> {
        let here = fleet::free_address()?;
        let mut command = Command::new(path);
        command.arg(mailboxes.to_string()).arg(here.port().to_string());
        let program = Program::run(&mut command)?;
        Self { program, map: here, http: here }.serving()
    }

    /// It, once it answers.
    fn serving(self) -> anyhow::Result<Self> {
        let began = Instant::now();
        while TcpStream::connect(self.map).is_err()
            || TcpStream::connect(self.http).is_err()
        {
            ensure!(began.elapsed() < Duration::from_mins(1), "a server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Asks it for a while: its CPU for each question, microseconds.
    fn turn(&self, door: Door, depth: usize, mailboxes: u32) -> anyhow::Result<f64> {
        let address = if door == Door::Map { self.map } else { self.http };
        let callers = (0..CALLERS).map(|_| Caller::connect(address));
        let mut callers = callers.collect::<anyhow::Result<Vec<_>>>()?;
        let (mut chance, mut asked) = (1_u32, 0_u32);
        let (before, began) = (ran(&self.program)?, Instant::now());
        while began.elapsed() < TURN {
            for caller in &mut callers {
                caller.ask((door, depth), mailboxes, &mut chance)?;
            }
            for caller in &mut callers {
                caller.hear(door)?;
            }
            asked += u32::try_from(CALLERS * depth)?;
        }
        let ran = ran(&self.program)?.saturating_sub(before);
        Ok(ran.as_secs_f64() * 1e6 / f64::from(asked))
    }
}

/// How long the threads of a process have had a processor: finer than what all its time is told
/// in.
fn ran(program: &Program) -> anyhow::Result<Duration> {
    let mut ran = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{}/task", program.id()))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanos = text.split(' ').next().context("a time")?.parse()?;
        ran += Duration::from_nanos(nanos);
    }
    Ok(ran)
}

/// Every third mailbox is held.
fn is_open(mailbox: u32) -> bool {
    !mailbox.is_multiple_of(3)
}

/// A connection, and what was asked on it.
struct Caller {
    stream: TcpStream,
    asked: Vec<u32>,
    text: Vec<u8>,
}

impl Caller {
    fn connect(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, asked: Vec::new(), text: Vec::new() })
    }

    fn ask(
        &mut self,
        (door, depth): (Door, usize),
        mailboxes: u32,
        chance: &mut u32,
    ) -> anyhow::Result<()> {
        self.asked.clear();
        self.text.clear();
        for _ in 0..depth {
            *chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mailbox = (*chance >> 4) % mailboxes;
            self.asked.push(mailbox);
            let address = fleet::address(mailbox);
            match door {
                Door::Map => {
                    write!(self.text, "{}:transport {address},", address.len() + 10)?;
                }
                // As Dovecot's HTTP client asks.
                Door::Http => write!(
                    self.text,
                    "GET /gate/passdb/imap/{address}?lport=143 HTTP/1.1\r\n\
                     Host: 127.0.0.1:10390\r\nDate: Sun, 22 Nov 2026 05:43:52 GMT\r\n\
                     User-Agent: dovecot/2.3.19.1\r\nConnection: Keep-Alive\r\n\r\n"
                )?,
            }
        }
        Ok(self.stream.write_all(&self.text)?)
    }

    /// Reads the answers to all that was asked, and checks them.
    fn hear(&mut self, door: Door) -> anyhow::Result<()> {
        self.text.clear();
        let (mut heard, mut at) = (0, 0);
        while heard < self.asked.len() {
            let has = self.text.len();
            self.text.resize(has + 4_096, 0);
            let read = self.stream.read(self.text.get_mut(has..).unwrap_or_default())?;
            ensure!(read > 0, "a server has hung up");
            self.text.truncate(has + read);
            while let Some(rest) = self.text.get(at..)
                && let Some((open, length)) = answer(rest, door)
            {
                let mailbox =
                    self.asked.get(heard).copied().context("an answer too many")?;
                ensure!(
                    open == is_open(mailbox),
                    "mailbox {mailbox} is not open: {open}"
                );
                (heard, at) = (heard + 1, at + length);
            }
        }
        Ok(())
    }
}

/// Whether the first answer says open, and its length; nothing before it is whole.
fn answer(text: &[u8], door: Door) -> Option<(bool, usize)> {
    let text = str::from_utf8(text).ok()?;
    match door {
        Door::Map => {
            let (length, rest) = text.split_once(':')?;
            let value = rest.get(..length.parse().ok()?)?;
            let whole = length.len() + 2 + value.len();
            (text.len() >= whole).then_some((value.ends_with(DELIVER), whole))
        }
        Door::Http => {
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.split_once("content-length: ")?.1;
            let body = body.get(..length.lines().next()?.parse().ok()?)?;
            Some((body.contains("online"), head.len() + 4 + body.len()))
        }
    }
}

/// Serves a node's table at both doors.
async fn serve(mailboxes: u32, map: SocketAddr, http: SocketAddr) -> anyhow::Result<()> {
    let services = vec!["lmtp".to_owned(), "imap".to_owned()];
    let doors =
        Doors::new(Ladder { rungs: vec![Rung { name: "mail".to_owned(), services }] });
    // As a worker does it, job by job.
    let numbers: Vec<u32> = (0..mailboxes).collect();
    for job in numbers.chunks(4_096) {
        let standing = |mailbox| Standing::Level(is_open(mailbox).into());
        let job = job.iter().map(|it| (fleet::address(*it), standing(*it)));
        doors.set(job);
    }
    drop(numbers);
    let (map, http) = (TcpListener::bind(map).await?, TcpListener::bind(http).await?);
    let node = Node { doors: doors.clone(), deliver: DELIVER.into(), hold: HOLD.into() };
    let never = std::future::pending::<()>;
    let map = tidegate_admission::socketmap::serve(map, Arc::new(node), never());
    let (map, http) =
        tokio::join!(tokio::spawn(map), tidegate_admission::serve(http, doors, never()));
    map??;
    Ok(http?)
}

/// A node's table, for Postfix.
struct Node {
    doors: Doors,
    deliver: Arc<str>,
    hold: Arc<str>,
}

impl Transport for Node {
    fn transport(&self, recipient: &str) -> Next {
        self.next(self.doors.answer("lmtp", recipient))
    }

    fn transports(&self, recipients: &[Cow<'_, str>]) -> Vec<Next> {
        let recipients = recipients.iter().map(|recipient| &**recipient);
        let answers = self.doors.answers("lmtp", recipients).into_iter();
        answers.map(|answer| self.next(answer)).collect()
    }
}

impl Node {
    fn next(&self, answer: Answer) -> Next {
        match answer {
            Answer::Online => Next::Deliver(Arc::clone(&self.deliver)),
            Answer::Held => Next::Hold(Arc::clone(&self.hold)),
        }
    }
}
