//! How fast admission answers, beside Redis and `SQLite` with the same question.
//!
//! One server at a time has the first core for itself; the callers, each with a connection
//! that it keeps, have all others. Meanwhile mailboxes open and close as in a rollout.
//!
//! `cargo bench -p tidegate-admission --bench lookups [-- <rounds> <seconds> <callers>]`
//!
//! # Invariants
//!
//! * All are asked for the same users in the same order, and each answer is checked.
//! * Latency counts from the moment at which a question was due, not from when the caller
//!   came to ask it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement on a terminal"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use tempfile::TempDir;
use tidegate_admission::{Doors, Ladder, Rung, Standing};

const USERS: u32 = 100_000;

/// What is asked for in all, from all callers.
const WANTED_PER_S: f64 = 20_000.0;

/// Mailboxes that open or close each second: ten times what a large node opens.
const CHANGES_PER_S: u32 = 2_000;

fn main() {
    let mut numbers =
        std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    let rounds = numbers.next().unwrap_or(5);
    let seconds = Duration::from_secs(numbers.next().unwrap_or(3).into());
    let callers = numbers.next().unwrap_or(8);
    println!(
        "{USERS} users, {callers} callers, {CHANGES_PER_S} changes a second, {} s each",
        seconds.as_secs()
    );

    let admission = start_admission();
    let redis = start_redis();
    let sqlite = Sqlite::start();
    let (mut ours, mut its, mut local) = (Vec::new(), Vec::new(), Vec::new());
    // One after the other, so that what else the machine does meets all of them.
    for _ in 0..rounds {
        ours.push(measure("admission", &Admission, admission, seconds, callers));
        its.push(measure("redis", &Redis, redis.server, seconds, callers));
        local.push(sqlite.measure());
    }

    let rate = |all: &[Measured]| median(all.iter().map(|it| it.rate));
    let cpu = |all: &[Measured]| median(all.iter().map(|it| it.cpu_us));
    println!(
        "medians: admission {:.0}/s, {:.1} us; redis {:.0}/s, {:.1} us; sqlite3 {:.0}/s",
        rate(&ours),
        cpu(&ours),
        rate(&its),
        cpu(&its),
        rate(&local)
    );
    println!(
        "admission / redis: {:.2} of the rate, {:.2} of the CPU; admission / sqlite3, which \
         has no network to cross: {:.2} of the rate",
        rate(&ours) / rate(&its),
        cpu(&ours) / cpu(&its),
        rate(&ours) / rate(&local)
    );
}

/// What was measured of one server.
struct Measured {
    rate: f64,
    cpu_us: f64,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How one server is asked.
trait Question: Sync {
    fn write(&self, user: u32, question: &mut String);

    /// The length of the whole answer, once it is there.
    fn whole(answer: &[u8]) -> Option<usize>;

    /// Whether it says that the user is open.
    fn is_open(answer: &[u8]) -> bool;
}

fn measure<Q: Question>(
    name: &str,
    question: &Q,
    server: Server,
    seconds: Duration,
    callers: u32,
) -> Measured {
    let (rate, cpu_us, mut rushed) = rush(question, server, seconds, callers, None);
    println!(
        "{name:<10} {rate:>8.0} answers/s   {cpu_us:>5.1} us CPU each   p50 {} p99 {}",
        percentile(&mut rushed, 50),
        percentile(&mut rushed, 99)
    );
    let every = Duration::from_secs_f64(f64::from(callers) / WANTED_PER_S);
    let (paced, cpu_us_paced, mut waited) =
        rush(question, server, seconds, callers, Some(every));
    println!(
        "{name:<10} {paced:>8.0} asked for     {cpu_us_paced:>5.1} us CPU each   p50 {} p99 {}",
        percentile(&mut waited, 50),
        percentile(&mut waited, 99)
    );
    Measured { rate, cpu_us }
}

/// Where a server is, and where the kernel counts its CPU time.
#[derive(Clone, Copy)]
struct Server {
    address: SocketAddr,
    process: u32,
    thread: u32,
}

impl Server {
    fn cpu(self) -> Duration {
        let path = format!("/proc/{}/task/{}/schedstat", self.process, self.thread);
        let text = fs::read_to_string(path).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}

/// All callers ask for as long as it takes: the answers a second, the server's CPU for each
/// in microseconds, and how long each took in nanoseconds.
fn rush<Q: Question>(
    question: &Q,
    server: Server,
    seconds: Duration,
    callers: u32,
    every: Option<Duration>,
) -> (f64, f64, Vec<u32>) {
    let (start, cpu) = (Instant::now(), server.cpu());
    let all = thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|caller| {
                let end = start + seconds;
                scope.spawn(move || ask(question, server.address, caller, end, every))
            })
            .collect();
        threads.into_iter().flat_map(|it| it.join().unwrap()).collect::<Vec<u32>>()
    });
    let (elapsed, cpu) = (start.elapsed(), server.cpu().saturating_sub(cpu));
    let count = all.len() as f64;
    (count / elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count, all)
}

/// One caller.
fn ask<Q: Question>(
    question: &Q,
    address: SocketAddr,
    caller: u32,
    end: Instant,
    every: Option<Duration>,
) -> Vec<u32> {
    on_other_cores();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut user = caller * 7_919;
    let (mut text, mut buffer, mut took) = (String::new(), [0_u8; 4096], Vec::new());
    let mut due = Instant::now();
    while due < end {
        // Spread over all users, without order.
        user = user.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let user = user % USERS;
        text.clear();
        question.write(user, &mut text);
        stream.write_all(text.as_bytes()).unwrap();
        let mut read = 0;
        let length = loop {
            read += stream.read(buffer.get_mut(read..).unwrap()).unwrap();
            let answer = buffer.get(..read).unwrap();
            if let Some(length) = Q::whole(answer) {
                break length;
            }
        };
        assert_eq!(length, read);
        let answer = buffer.get(..read).unwrap();
        assert_eq!(Q::is_open(answer), is_open(user), "{text}");
        took.push(due.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
        match every {
            None => due = Instant::now(),
            Some(every) => {
                due += every;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }
    took
}

fn percentile(nanos: &mut [u32], percent: usize) -> String {
    let place = (nanos.len() * percent / 100).min(nanos.len() - 1);
    let (_, value, _) = nanos.select_nth_unstable(place);
    format!("{:.3} ms", f64::from(*value) / 1e6)
}

/// Every third user is held.
fn is_open(user: u32) -> bool {
    !user.is_multiple_of(3)
}

fn address(user: u32) -> String {
    format!("user{user}@example.org")
}

struct Admission;

impl Question for Admission {
    fn write(&self, user: u32, question: &mut String) {
        // As Dovecot's HTTP client asks.
        write!(
            question,
            "GET /gate/passdb/imap/user{user}@example.org?lport=143 HTTP/1.1\r\n\
             Host: 127.0.0.1:10390\r\nDate: Sun, 22 Nov 2026 05:43:52 GMT\r\n\
             User-Agent: dovecot/2.3.19.1\r\nConnection: Keep-Alive\r\n\r\n"
        )
        .unwrap();
    }

    fn whole(answer: &[u8]) -> Option<usize> {
        let text = str::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.split_once("content-length: ")?.1;
        let length: usize = length.lines().next()?.parse().unwrap();
        (body.len() >= length).then_some(head.len() + 4 + length)
    }

    fn is_open(answer: &[u8]) -> bool {
        answer.ends_with(b"{\"state\":\"online\"}")
    }
}

/// Starts the endpoint, and a rollout that opens and closes mailboxes. Both end with the
/// program.
fn start_admission() -> Server {
    let rung = Rung { name: "mail".to_owned(), services: vec!["imap".to_owned()] };
    let doors = Doors::new(Ladder { rungs: vec![rung] });
    let standing = |user| Standing::Level(is_open(user).into());
    doors.set((0..USERS).map(|user| (address(user), standing(user))));
    let (born, is_born) = mpsc::channel();
    let served = doors.clone();
    thread::spawn(move || {
        on_first_core(None);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let thread = gettid().as_raw_nonzero().get().unsigned_abs();
            let address = listener.local_addr().unwrap();
            born.send(Server { address, process: std::process::id(), thread }).unwrap();
            tidegate_admission::serve(listener, served, std::future::pending()).await
        })
    });
    thread::spawn(move || {
        on_other_cores();
        // The callers' users keep their standing, so that answers can be checked.
        let mailbox = |n: u32| (address(USERS + n % 4_096), Standing::Level(1));
        for turn in 0.. {
            doors.set((0..CHANGES_PER_S / 100).map(|n| mailbox(turn * 64 + n)));
            thread::sleep(Duration::from_millis(10));
        }
    });
    is_born.recv().unwrap()
}

struct Redis;

impl Question for Redis {
    fn write(&self, user: u32, question: &mut String) {
        let key = format!("imap/user{user}@example.org");
        write!(question, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).unwrap();
    }

    fn whole(answer: &[u8]) -> Option<usize> {
        let lines = answer.windows(2).filter(|pair| pair == b"\r\n").count();
        (lines == 2).then_some(answer.len())
    }

    fn is_open(answer: &[u8]) -> bool {
        answer == b"$1\r\n1\r\n"
    }
}

/// A Redis that knows all users; it ends with the value.
struct RunningRedis {
    child: Child,
    server: Server,
}

fn start_redis() -> RunningRedis {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let port = address.port().to_string();
    let arguments = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
    let mut command = Command::new("redis-server");
    let child = command.args(arguments).arg(&port).stdout(Stdio::null()).spawn();
    let child = child.expect("apt-get install redis-server");
    on_first_core(Pid::from_raw(child.id().cast_signed()));
    let process = child.id();
    let server = Server { address, process, thread: process };
    let redis = RunningRedis { child, server };
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut text = String::new();
    for user in 0..USERS {
        let key = format!("imap/user{user}@example.org");
        let (length, level) = (key.len(), u8::from(is_open(user)));
        write!(text, "*3\r\n$3\r\nSET\r\n${length}\r\n{key}\r\n$1\r\n{level}\r\n")
            .unwrap();
    }
    let mut answers = vec![0; 5 * USERS as usize];
    thread::scope(|scope| {
        let mut sender = stream.try_clone().unwrap();
        scope.spawn(move || sender.write_all(text.as_bytes()).unwrap());
        stream.read_exact(&mut answers).unwrap();
    });
    assert!(answers.chunks(5).all(|answer| answer == b"+OK\r\n"));
    redis
}

impl Drop for RunningRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without a server: the program reads one SELECT after the other, each as text, as Dovecot's
/// own driver puts them. It has the first core as well.
struct Sqlite {
    dir: TempDir,
}

impl Sqlite {
    fn start() -> Self {
        let sqlite = Self { dir: tempfile::tempdir().unwrap() };
        let mut script = "PRAGMA journal_mode = WAL;\nBEGIN;\n\
            CREATE TABLE hold (address TEXT PRIMARY KEY, level INTEGER) WITHOUT ROWID;\n"
            .to_owned();
        for user in 0..USERS {
            let (address, level) = (address(user), u8::from(is_open(user)));
            writeln!(script, "INSERT INTO hold VALUES ('{address}', {level});").unwrap();
        }
        script.push_str("COMMIT;\n");
        sqlite.run(script);
        sqlite
    }

    fn measure(&self) -> Measured {
        let mut questions = String::new();
        let mut user = 1_u32;
        let count = 2 * USERS;
        for _ in 0..count {
            user = user.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let address = address(user % USERS);
            writeln!(questions, "SELECT level FROM hold WHERE address = '{address}';")
                .unwrap();
        }
        let start = Instant::now();
        let answers = self.run(questions);
        let rate = f64::from(count) / start.elapsed().as_secs_f64();
        assert_eq!(answers.lines().count(), count as usize);
        println!("{:<10} {rate:>8.0} answers/s   in process, no network", "sqlite3");
        Measured { rate, cpu_us: f64::NAN }
    }

    fn run(&self, script: String) -> String {
        let mut command = Command::new("sqlite3");
        command.arg("-batch").arg(self.dir.path().join("users.db"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("apt-get install sqlite3");
        on_first_core(Pid::from_raw(child.id().cast_signed()));
        let mut input = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || input.write_all(script.as_bytes()).unwrap());
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

/// Gives a process, or this thread, the first core.
fn on_first_core(process: Option<Pid>) {
    let mut cores = CpuSet::new();
    cores.set(0);
    sched_setaffinity(process, &cores).unwrap();
}

/// Gives this thread all cores but the first, where there are others.
fn on_other_cores() {
    let count = thread::available_parallelism().unwrap().get();
    let mut cores = CpuSet::new();
    for core in 1..count.max(2) {
        cores.set(core);
    }
    sched_setaffinity(None, &cores).unwrap();
}
