//! What questions cost while a rollout runs, and what they cost the rollout:
//! `cargo run --release --example question_rate -- 1000000`.
//!
//! The same rollout, with all its processes, four times: alone; with as many questions for
//! mailboxes as are answered; with as many as a busy help desk has, and lists beside them; and
//! with a thousand watchers. Before, the questions alone, and the floor: an empty call of tonic's,
//! asked in the same way. Whoever asks as much as is answered does so with next to no CPU, so that
//! it is the server that is measured; the help desk is a client as ours are. At the server a question takes from when its call begins until its
//! answer is made, as the coordinator's own metrics have it; at the client its way and its wait
//! for a processor are part of it, which workers and client have as well.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement on a terminal"
)]

mod fleet;
mod lean;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fleet::{Program, Provider, Used, Watch};
use lean::Lean;
use tidegate_wire::v1;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::progress_service_server::{
    ProgressService, ProgressServiceServer,
};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

/// Mailboxes when none are asked for.
const MAILBOXES: u32 = 100_000;

/// Connections of whoever asks, and calls on each that are under way: almost all that readers may
/// have.
const CONNECTIONS: usize = 7;
const CALLS_OF_ONE: usize = 8;

/// How long questions are asked where no rollout says how long.
const ALONE: Duration = Duration::from_secs(3);

/// Questions a second of a busy help desk.
const DESK_PER_SECOND: u32 = 1_000;

/// Between two lists that are asked for.
const LIST_PAUSE: Duration = Duration::from_millis(20);

/// Watchers, and connections that they share.
const WATCHERS: u32 = 1_000;
const WATCHED_CONNECTIONS: u32 = 20;

/// The path of what is asked most.
const GET_MAILBOX: &str = "/tidegate.v1.ProgressService/GetMailbox";

type Reader = ProgressServiceClient<Channel>;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(played) = fleet::role(&words) {
        return played;
    }
    let mailboxes = match words.as_slice() {
        ["empty", listen] => return fleet::runtime(2)?.block_on(serve_empty(listen)),
        [] => MAILBOXES,
        [mailboxes] => mailboxes.parse()?,
        _ => bail!("give a number of mailboxes, or nothing"),
    };
    fleet::runtime(2)?.block_on(conduct(mailboxes))
}

async fn conduct(mailboxes: u32) -> anyhow::Result<()> {
    println!(
        "{:>22} {:>9} {:>7}   client {}   server {}",
        "questions", "a second", "CPU us", PERCENTS, PERCENTS
    );
    let floor = floor().await?;
    let provider = Arc::new(Provider::of(mailboxes)?);
    println!("{mailboxes} mailboxes");
    let mut quiet = None;
    for load in [Load::None, Load::Questions, Load::Desk, Load::Watchers] {
        let site = Site::start(&provider).await?;
        if load == Load::None {
            site.asked_alone(mailboxes, floor).await?;
        }
        let rollout = site.roll_out(load, mailboxes).await?;
        rollout.print(load, mailboxes, quiet.as_ref());
        quiet.get_or_insert(rollout);
    }
    Ok(())
}

/// What is asked while a rollout runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    None,
    /// As many questions for mailboxes as are answered.
    Questions,
    /// As many as a help desk has, and lists.
    Desk,
    Watchers,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::None => "rollout alone",
            Self::Questions => "with questions",
            Self::Desk => "with a help desk",
            Self::Watchers => "with watchers",
        }
    }
}

/// The empty call: how many a second.
async fn floor() -> anyhow::Result<f64> {
    let listen = fleet::free_address()?;
    let server = Program::start(&["empty", &listen.to_string()])?;
    let mut reader = ProgressServiceClient::new(fleet::connection(listen)?);
    fleet::serving(&mut reader).await?;
    let asking = Asking::start(listen, 1, None)?;
    let asked = asking.for_a_while(&server).await?;
    asked.print("empty call", None, None);
    Ok(asked.per_second())
}

/// A coordinator with its plan applied.
struct Site {
    dir: tempfile::TempDir,
    listen: SocketAddr,
    coordinator: Program,
    reader: Reader,
}

impl Site {
    async fn start(provider: &Provider) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let listen = fleet::free_address()?;
        let data = dir.path().join("coordinator");
        fs::create_dir(&data)?;
        let words = ["coordinator", &fleet::text(&data), &listen.to_string()];
        let coordinator = Program::start(&words)?;
        let channel = fleet::connection(listen)?;
        let mut reader = ProgressServiceClient::new(channel.clone())
            .max_decoding_message_size(64 << 20);
        fleet::serving(&mut reader).await?;
        provider.apply(channel).await?;
        Ok(Self { dir, listen, coordinator, reader })
    }

    /// Questions and lists before anything moves.
    async fn asked_alone(&self, mailboxes: u32, floor: f64) -> anyhow::Result<()> {
        let before = Buckets::of(self.listen).await?;
        let asking = Asking::start(self.listen, mailboxes, None)?;
        let asked = asking.for_a_while(&self.coordinator).await?;
        let at_server = Buckets::of(self.listen).await?.since(&before);
        asked.print("one mailbox", at_server.get("GetMailbox"), Some(floor));
        let stop = Arc::new(AtomicBool::new(false));
        let listing = tokio::spawn(list(self.reader.clone(), Arc::clone(&stop)));
        sleep(ALONE).await;
        stop.store(true, Ordering::Relaxed);
        print_lists(listing.await??);
        Ok(())
    }

    /// The whole rollout beside that load.
    async fn roll_out(mut self, load: Load, mailboxes: u32) -> anyhow::Result<Rolled> {
        let memory_before = self.coordinator.used()?.memory;
        let mut rolled = Rolled { watched: self.watch(load).await?, ..Rolled::default() };
        if load == Load::Watchers {
            rolled.watchers_memory =
                self.coordinator.used()?.memory.saturating_sub(memory_before);
        }
        let (before, buckets) =
            (self.coordinator.used()?, Buckets::of(self.listen).await?);
        let owner = Owner::of(self.coordinator.id())?;
        let stop = Arc::new(AtomicBool::new(false));
        let asking = match load {
            Load::None | Load::Watchers => None,
            Load::Questions => Some(Asking::start(self.listen, mailboxes, None)?),
            Load::Desk => {
                Some(Asking::start(self.listen, mailboxes, Some(DESK_PER_SECOND))?)
            }
        };
        let listing = (load == Load::Desk)
            .then(|| tokio::spawn(list(self.reader.clone(), Arc::clone(&stop))));

        let began = Instant::now();
        let workers = fleet::start_workers(self.dir.path(), self.listen)?;
        let mut watch = Watch::of(self.reader.clone());
        watch.until(|seen| seen.is_finished).await?;
        rolled.took = began.elapsed();

        rolled.owner = Owner::of(self.coordinator.id())?.since(owner);
        let used = self.coordinator.used()?;
        rolled.coordinator = Used { cpu: used.cpu.saturating_sub(before.cpu), ..used };
        let by_workers = workers.iter().map(Program::used);
        let by_workers = by_workers.collect::<anyhow::Result<Vec<_>>>()?;
        rolled.workers = by_workers.into_iter().fold(Used::default(), Used::plus);
        stop.store(true, Ordering::Relaxed);
        if let Some(asking) = asking {
            rolled.asked = Some(asking.end().await?);
        }
        if let Some(listing) = listing {
            rolled.lists = listing.await??;
        }
        rolled.at_server = Buckets::of(self.listen).await?.since(&buckets);
        drop(workers);
        self.coordinator.kill()?;
        Ok(rolled)
    }

    /// Everybody who watches, once each of them has been told something.
    async fn watch(&self, load: Load) -> anyhow::Result<Option<Watched>> {
        if load != Load::Watchers {
            return Ok(None);
        }
        let (told, mut watchers) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
        for _ in 0..WATCHED_CONNECTIONS {
            let reader = ProgressServiceClient::new(fleet::connection(self.listen)?);
            for _ in 0..WATCHERS / WATCHED_CONNECTIONS {
                let (mut reader, told) = (reader.clone(), Arc::clone(&told));
                watchers.spawn(async move {
                    let request = v1::WatchRolloutRequest {};
                    let Ok(answers) = reader.watch_rollout(request).await else { return };
                    let mut answers = answers.into_inner();
                    while let Ok(Some(_)) = answers.message().await {
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        let began = Instant::now();
        while told.load(Ordering::Relaxed) < WATCHERS * 2 {
            ensure!(began.elapsed() < Duration::from_mins(1), "watchers are not told");
            sleep(Duration::from_millis(50)).await;
        }
        told.store(0, Ordering::Relaxed);
        Ok(Some(Watched { told, _watchers: watchers }))
    }
}

/// Those who watch, for as long as it lives.
struct Watched {
    told: Arc<AtomicU32>,
    _watchers: JoinSet<()>,
}

/// Whoever asks for mailboxes, all over the inventory.
struct Asking {
    stop: Arc<AtomicBool>,
    callers: JoinSet<anyhow::Result<Vec<u32>>>,
    began: Instant,
}

impl Asking {
    /// Asks one question after the other with each caller, or so many a second.
    fn start(
        listen: SocketAddr,
        mailboxes: u32,
        per_second: Option<u32>,
    ) -> anyhow::Result<Self> {
        let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let all = u32::try_from(CONNECTIONS * CALLS_OF_ONE)?;
        let every = per_second.map(|rate| Duration::from_secs(1) * all / rate);
        for connection in 0..CONNECTIONS {
            let Some(every) = every else {
                let wanted = Wanted { seed: u32::try_from(connection)?, mailboxes };
                callers.spawn(ask_leanly(listen, wanted, Arc::clone(&stop)));
                continue;
            };
            let reader = ProgressServiceClient::new(fleet::connection(listen)?);
            for call in 0..CALLS_OF_ONE {
                let seed = u32::try_from(connection * CALLS_OF_ONE + call)?;
                let wanted = Wanted { seed, mailboxes };
                callers.spawn(ask(reader.clone(), wanted, every, Arc::clone(&stop)));
            }
        }
        Ok(Self { stop, callers, began: Instant::now() })
    }

    async fn for_a_while(self, server: &Program) -> anyhow::Result<Asked> {
        let before = server.used()?.cpu;
        sleep(ALONE).await;
        let cpu = server.used()?.cpu.saturating_sub(before);
        Ok(Asked { cpu: Some(cpu), ..self.end().await? })
    }

    async fn end(mut self) -> anyhow::Result<Asked> {
        let over = self.began.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        while let Some(ended) = self.callers.join_next().await {
            took.extend(ended??);
        }
        took.sort_unstable();
        Ok(Asked { took, over, cpu: None })
    }
}

/// What one caller asks for.
#[derive(Clone, Copy)]
struct Wanted {
    seed: u32,
    mailboxes: u32,
}

impl Wanted {
    /// Addresses from all over the inventory.
    fn addresses(self) -> impl Iterator<Item = String> {
        let first = self.seed * 7_919 + 1;
        let chances = std::iter::successors(Some(first), |chance| {
            Some(chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
        });
        chances.skip(1).map(move |chance| fleet::address((chance >> 4) % self.mailboxes))
    }
}

/// Asks as much as is answered until it is stopped: the nanoseconds of each answer.
async fn ask_leanly(
    listen: SocketAddr,
    wanted: Wanted,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<u32>> {
    let mut lean = Lean::connect(listen, GET_MAILBOX).await?;
    let (mut addresses, mut took) = (wanted.addresses(), Vec::new());
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        while !stopped && lean.under_way() < CALLS_OF_ONE {
            lean.ask(addresses.next().context("an address")?)?;
        }
        if lean.under_way() == 0 {
            return Ok(took);
        }
        took.extend(lean.answers().await?);
    }
}

/// Asks so often until it is stopped: the nanoseconds of each answer, from when it was due.
async fn ask(
    mut reader: Reader,
    wanted: Wanted,
    every: Duration,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<u32>> {
    let mut took = Vec::new();
    // Spread, so that not all ask at once.
    let mut due = Instant::now() + every * (wanted.seed % 64) / 64;
    for address in wanted.addresses() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep(due.saturating_duration_since(Instant::now())).await;
        let request = v1::GetMailboxRequest { address: address.clone() };
        let answer = reader.get_mailbox(request).await.context("ask for a mailbox")?;
        took.push(u32::try_from(due.elapsed().as_nanos()).unwrap_or(u32::MAX));
        let told = answer.into_inner().address;
        ensure!(told == address, "{told} is not {address}");
        due += every;
    }
    Ok(took)
}

/// What was answered.
struct Asked {
    /// Nanoseconds, sorted.
    took: Vec<u32>,
    over: Duration,
    /// The server's, where it did nothing else.
    cpu: Option<Duration>,
}

/// What is told of how long answers took.
const PERCENTS: &str = "p50 / p99 / p99.9 ms";

/// The shares that are told, of a thousand.
const SHARES: [usize; 3] = [500, 990, 999];

impl Asked {
    fn count(&self) -> f64 {
        self.took.len() as f64
    }

    fn per_second(&self) -> f64 {
        self.count() / self.over.as_secs_f64()
    }

    fn print(&self, what: &str, at_server: Option<&Counts>, floor: Option<f64>) {
        let cpu = self.cpu.map_or_else(String::new, |cpu| {
            format!("{:.1}", cpu.as_secs_f64() * 1e6 / self.count())
        });
        let client = SHARES.map(|share| {
            let place = self.took.len() * share / 1_000;
            f64::from(self.took.get(place).copied().unwrap_or(0)) / 1e6
        });
        let server = at_server.map(|counts| SHARES.map(|it| counts.within(it) * 1e3));
        let server = server.map_or_else(String::new, |[a, b, c]| {
            format!("   at most {a:.3} / {b:.3} / {c:.3}")
        });
        let [a, b, c] = client;
        let share = floor.map_or_else(String::new, |floor| {
            format!("   {:.2} of the empty calls", self.per_second() / floor)
        });
        let rate = self.per_second();
        println!(
            "{what:>22} {rate:>9.0} {cpu:>7}   {a:.3} / {b:.3} / {c:.3}{server}{share}"
        );
    }
}

/// What is listed, filtered and counted.
const LISTS: [&str; 6] = [
    "a page of 100",
    "filter, none found",
    "filter by wave",
    "counts",
    "findings",
    "events",
];

type Lists = BTreeMap<&'static str, Vec<Duration>>;

/// Asks for one list after the other until it is stopped.
async fn list(mut reader: Reader, stop: Arc<AtomicBool>) -> anyhow::Result<Lists> {
    let rollout = reader.get_rollout(v1::GetRolloutRequest {}).await?.into_inner();
    let wave = rollout.waves.last().map_or_else(String::new, |wave| wave.name.clone());
    let all = v1::ListMailboxesRequest::default();
    let aside = v1::ListMailboxesRequest {
        preparation: v1::Preparation::Quarantined.into(),
        ..all.clone()
    };
    let in_wave = v1::ListMailboxesRequest { wave, open: Some(true), ..all.clone() };
    let mut lists = Lists::new();
    while !stop.load(Ordering::Relaxed) {
        for what in LISTS {
            let began = Instant::now();
            match what {
                "a page of 100" => drop(reader.list_mailboxes(all.clone()).await?),
                "filter, none found" => drop(reader.list_mailboxes(aside.clone()).await?),
                "filter by wave" => drop(reader.list_mailboxes(in_wave.clone()).await?),
                "counts" => drop(reader.get_rollout(v1::GetRolloutRequest {}).await?),
                "findings" => {
                    drop(reader.list_findings(v1::ListFindingsRequest::default()).await?);
                }
                _ => drop(reader.list_events(v1::ListEventsRequest::default()).await?),
            }
            lists.entry(what).or_default().push(began.elapsed());
            sleep(LIST_PAUSE).await;
        }
    }
    Ok(lists)
}

fn print_lists(lists: Lists) {
    for (what, mut took) in lists {
        took.sort_unstable();
        let half = took.get(took.len() / 2).map_or(0.0, |it| it.as_secs_f64() * 1e3);
        let most = took.last().map_or(0.0, |it| it.as_secs_f64() * 1e3);
        let times = took.len();
        println!("{what:>22} {times:>6} times: p50 {half:.1} ms, at most {most:.1} ms");
    }
}

/// One rollout, and what was asked beside it.
#[derive(Default)]
struct Rolled {
    took: Duration,
    coordinator: Used,
    workers: Used,
    owner: Owner,
    asked: Option<Asked>,
    at_server: Buckets,
    lists: Lists,
    watched: Option<Watched>,
    watchers_memory: u64,
}

impl Rolled {
    fn print(&self, load: Load, mailboxes: u32, quiet: Option<&Self>) {
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / f64::from(mailboxes);
        println!(
            "{:>22}: {:.1} s, {:.0} mailboxes/s; the loop's CPU {:.2} us a mailbox, its wait \
             for a processor {:.2}; coordinator {:.2} us, {} bytes of memory and {} of disk; \
             workers {:.2} us",
            load.name(),
            self.took.as_secs_f64(),
            f64::from(mailboxes) / self.took.as_secs_f64(),
            each(self.owner.ran),
            each(self.owner.waited),
            each(self.coordinator.cpu),
            self.coordinator.memory / u64::from(mailboxes),
            self.coordinator.kept / u64::from(mailboxes),
            each(self.workers.cpu),
        );
        if let Some(quiet) = quiet {
            let times =
                |now: Duration, then: Duration| now.as_secs_f64() / then.as_secs_f64();
            println!(
                "{:>22}: the loop's CPU {:.2} times, the rollout's time {:.2} times",
                "beside alone",
                times(self.owner.ran, quiet.owner.ran),
                times(self.took, quiet.took),
            );
        }
        if let Some(asked) = &self.asked {
            asked.print("one mailbox", self.at_server.0.get("GetMailbox"), None);
        }
        print_lists(self.lists.clone());
        if let Some(watched) = &self.watched {
            println!(
                "{:>22}: {:.0} answers/s, {:.1} kB of memory each",
                "watchers",
                f64::from(watched.told.load(Ordering::Relaxed)) / self.took.as_secs_f64(),
                self.watchers_memory as f64 / f64::from(WATCHERS) / 1e3,
            );
        }
    }
}

/// The time of the thread that decides.
#[derive(Clone, Copy, Default)]
struct Owner {
    ran: Duration,
    /// For a processor, while it had something to do.
    waited: Duration,
}

impl Owner {
    fn of(process: u32) -> anyhow::Result<Self> {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = thread?.path();
            if fs::read_to_string(thread.join("comm"))?.trim() == "owner" {
                return Self::read(&thread);
            }
        }
        bail!("no thread decides")
    }

    fn read(thread: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(thread.join("schedstat"))?;
        let mut nanos = text.split(' ').map(str::parse::<u64>);
        let mut next = || nanos.next().context("a time")?.context("read a time");
        let (ran, waited) = (next()?, next()?);
        Ok(Self { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited) })
    }

    fn since(self, before: Self) -> Self {
        let Self { ran, waited } = before;
        Self {
            ran: self.ran.saturating_sub(ran),
            waited: self.waited.saturating_sub(waited),
        }
    }
}

/// How often questions of one kind took at most so many seconds, counted up.
#[derive(Clone, Default)]
struct Counts(Vec<(f64, f64)>);

impl Counts {
    /// The seconds within which this share was answered.
    fn within(&self, share: usize) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        let found = self.0.iter().find(|(_, count)| *count * 1e3 >= all * share as f64);
        found.map_or(f64::NAN, |(seconds, _)| *seconds)
    }
}

/// What the coordinator's own metrics have, by method.
#[derive(Clone, Default)]
struct Buckets(BTreeMap<String, Counts>);

impl Buckets {
    async fn of(listen: SocketAddr) -> anyhow::Result<Self> {
        let page = tokio::task::spawn_blocking(move || -> anyhow::Result<String> {
            let mut answer = ureq::get(format!("http://{listen}/metrics")).call()?;
            Ok(answer.body_mut().read_to_string()?)
        });
        let page = page.await??;
        let mut buckets = Self::default();
        for line in page.lines() {
            let Some(rest) = line.strip_prefix("tidegate_question_seconds_bucket{")
            else {
                continue;
            };
            let value = |key: &str| {
                let (_, rest) = rest.split_once(&format!("{key}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let count = rest.rsplit_once(' ').and_then(|(_, count)| count.parse().ok());
            let (Some(method), Some(le), Some(count)) =
                (value("method"), value("le"), count)
            else {
                continue;
            };
            let le = le.parse().unwrap_or(f64::INFINITY);
            buckets.0.entry(method.to_owned()).or_default().0.push((le, count));
        }
        Ok(buckets)
    }

    fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        for (method, counts) in &mut since.0 {
            let Some(before) = before.0.get(method) else { continue };
            for (now, then) in counts.0.iter_mut().zip(&before.0) {
                now.1 -= then.1;
            }
        }
        since
    }

    fn get(&self, method: &str) -> Option<&Counts> {
        self.0.get(method)
    }
}

/// Serves empty calls.
async fn serve_empty(listen: &str) -> anyhow::Result<()> {
    let service = ProgressServiceServer::new(Empty);
    let server = Server::builder().tcp_nodelay(true).add_service(service);
    Ok(server.serve(listen.parse()?).await?)
}

/// Answers every question for a mailbox with nothing.
struct Empty;

#[tonic::async_trait]
impl ProgressService for Empty {
    type WatchRolloutStream = tokio_stream::Empty<Result<v1::Rollout, Status>>;

    async fn get_mailbox(
        &self,
        _: Request<v1::GetMailboxRequest>,
    ) -> Result<Response<v1::Mailbox>, Status> {
        Ok(Response::new(v1::Mailbox::default()))
    }

    async fn get_rollout(
        &self,
        _: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        Ok(Response::new(v1::Rollout::default()))
    }

    async fn watch_rollout(
        &self,
        _: Request<v1::WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn list_mailboxes(
        &self,
        _: Request<v1::ListMailboxesRequest>,
    ) -> Result<Response<v1::ListMailboxesResponse>, Status> {
        Ok(Response::new(v1::ListMailboxesResponse::default()))
    }

    async fn list_findings(
        &self,
        _: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        Ok(Response::new(v1::ListFindingsResponse::default()))
    }

    async fn list_events(
        &self,
        _: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        Ok(Response::new(v1::ListEventsResponse::default()))
    }

    async fn list_tiers(
        &self,
        _request: Request<v1::ListTiersRequest>,
    ) -> Result<Response<v1::ListTiersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_plan(
        &self,
        _request: Request<v1::GetPlanRequest>,
    ) -> Result<Response<v1::GetPlanResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
