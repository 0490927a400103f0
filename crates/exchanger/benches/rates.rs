//! Rates: how long an exchanger takes to be told millions of mailboxes, what they cost in
//! memory, how many lookups a second it answers, and how fast a queue's listing is read.
//!
//! `cargo bench -p tidegate-exchanger -- 9000000` for nine million mailboxes.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tidegate_core::fleet::{MailboxNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_exchanger::{Config, Hops, run};
use tidegate_mailserver::queue::read_lines;
use tidegate_wire::exchanger::{DirectoryHead, Storage, Told};
use tidegate_wire::v1;
use tidegate_wire::v1::exchanger_service_server::{
    ExchangerService, ExchangerServiceServer,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Mailboxes if nobody says otherwise.
const MAILBOXES: u32 = 1_000_000;

/// Nodes they are on.
const NODES: u32 = 100;

/// Mailboxes told at once.
const PART: u32 = 4_096;

/// Postfix's trivial-rewrite and smtpd processes keep a connection each.
const CALLERS: u32 = 16;

/// Lookups of each caller.
const LOOKUPS: u32 = 20_000;

/// Lines of the listing that is read.
const LINES: u32 = 500_000;

fn main() {
    let said = std::env::args().find_map(|argument| argument.parse().ok());
    let mailboxes = said.unwrap_or(MAILBOXES);
    read_a_listing();
    let runtime = Runtime::new().unwrap();
    let map: SocketAddr = "127.0.0.1:17391".parse().unwrap();
    let coordinator = coordinator(&runtime, mailboxes);
    let before = resident();
    let began = Instant::now();
    runtime.spawn(run(config(coordinator, map), std::future::pending()));
    let mut asked = loop {
        if let Ok(stream) = TcpStream::connect(map) {
            break stream;
        }
    };
    while !lookup(&mut asked, "user0@example.org").starts_with("OK ") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = began.elapsed();
    let bytes = resident().saturating_sub(before);
    println!(
        "told {mailboxes} mailboxes in {:.1} s; {} MB resident, {} bytes a mailbox",
        told.as_secs_f64(),
        bytes >> 20,
        bytes / u64::from(mailboxes),
    );
    look_up(map, mailboxes);
}

fn look_up(map: SocketAddr, mailboxes: u32) {
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(map).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut slowest = Duration::ZERO;
                for number in 0..LOOKUPS {
                    let number =
                        (number.wrapping_mul(2_654_435_761) ^ caller) % mailboxes;
                    let asked = Instant::now();
                    let answer =
                        lookup(&mut stream, &format!("user{number}@example.org"));
                    slowest = slowest.max(asked.elapsed());
                    assert!(answer.starts_with("OK "), "{answer}");
                }
                slowest
            })
        })
        .collect();
    let slowest = callers.into_iter().map(|caller| caller.join().unwrap()).max();
    let rate = f64::from(CALLERS * LOOKUPS) / began.elapsed().as_secs_f64();
    println!(
        "{rate:.0} lookups a second over {CALLERS} connections, asking included; slowest {:.1} ms",
        slowest.unwrap_or_default().as_secs_f64() * 1e3,
    );
}

fn lookup(stream: &mut TcpStream, address: &str) -> String {
    let question = format!("transport {address}");
    stream.write_all(format!("{}:{question},", question.len()).as_bytes()).unwrap();
    let mut answer = vec![0; 200];
    let read = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(answer.get(..read).unwrap()).into_owned();
    answer.split_once(':').map(|(_, answer)| answer.to_owned()).unwrap()
}

fn read_a_listing() {
    let mut text = String::new();
    for number in 0..LINES {
        let line = format!(
            "{{\"queue_name\": \"deferred\", \"queue_id\": \"{number:011X}\", \
             \"arrival_time\": 1795293848, \"message_size\": 32500, \"forced_expire\": false, \
             \"sender\": \"sender{number}@example.net\", \"recipients\": [{{\"address\": \
             \"user{number}@example.org\", \"delay_reason\": \"deferred transport\"}}]}}\n"
        );
        text.push_str(&line);
    }
    let began = Instant::now();
    let mut recipients = 0_u64;
    let (listing, _) = read_lines(BufReader::new(text.as_bytes()), &mut |queued| {
        recipients += queued.recipients.len() as u64;
        true
    })
    .unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!((listing.messages, recipients), (u64::from(LINES), u64::from(LINES)));
    println!("{:.0} queued messages read a second", f64::from(LINES) / seconds);
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn config(coordinator: SocketAddr, map: SocketAddr) -> Config {
    Config {
        name: "mx1".to_owned(),
        coordinator: format!("http://{coordinator}"),
        tls: None,
        state_dir: None,
        socketmap_listen: map,
        policy_listen: None,
        hops: Hops {
            deliver: "lmtp".to_owned(),
            hold: "held".to_owned(),
            template: Some("inet:{node}:24".to_owned()),
            nodes: BTreeMap::new(),
        },
        delimiters: "+".to_owned(),
        silence_max: Duration::from_hours(1),
        drain: None,
    }
}

/// A coordinator that tells of so many mailboxes, made as they are told.
fn coordinator(runtime: &Runtime, mailboxes: u32) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let service = ExchangerServiceServer::new(Coordinator { mailboxes });
    let incoming = TcpListenerStream::new(listener);
    runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    address
}

struct Coordinator {
    mailboxes: u32,
}

#[tonic::async_trait]
impl ExchangerService for Coordinator {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(
        &self,
        _request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mailboxes = self.mailboxes;
        let (to, parts) = mpsc::channel(8);
        tokio::spawn(async move {
            for told in tell(mailboxes) {
                to.send(Ok(told.into())).await.unwrap();
            }
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                to.send(Ok(storages().into())).await.unwrap();
            }
        });
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    async fn report_queue(
        &self,
        _request: Request<v1::ReportQueueRequest>,
    ) -> Result<Response<v1::ReportQueueResponse>, Status> {
        Ok(Response::new(v1::ReportQueueResponse {}))
    }
}

fn storages() -> Told {
    let storage = Storage { healthy: true, deliveries_per_second: 50 };
    Told::Storages(vec![storage; usize::try_from(NODES).unwrap()])
}

fn tell(mailboxes: u32) -> impl Iterator<Item = Told> {
    let share = |node: u32| mailboxes / NODES + u32::from(node < mailboxes % NODES);
    let head = DirectoryHead {
        plan: Digest::new([7; 32]),
        waves: vec!["all".to_owned()],
        nodes: (0..NODES).map(|node| (format!("stor-{node:03}"), share(node))).collect(),
        follows: true,
    };
    let parts = (0..mailboxes.div_ceil(PART)).map(move |part| {
        let first = part * PART;
        let numbers = first..(first + PART).min(mailboxes);
        let wave = Some(WaveNumber::new(0));
        Told::Mailboxes(
            numbers.map(|it| (format!("user{it}@example.org"), wave)).collect(),
        )
    });
    let run = 8 << 16;
    let doors = (0..mailboxes).step_by(run).map(|first| Told::Doors {
        first: MailboxNumber::new(first),
        bits: vec![0b0101_0111; 64 << 10],
    });
    let end = [storages(), Told::Complete];
    std::iter::once(Told::Directory(head)).chain(parts).chain(doors).chain(end)
}
