//! Frames: attackers who know HTTP/2 and keep to its grammar, but not to its manners.
//!
//! # Invariants
//!
//! * They read all that they are told, so that nothing but the server's own limits ends them.
//! * Whoever is cut comes back at once.
//! * With certificates they show one, and are nobody's stranger.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidegate_trust::Files;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};

use crate::deaf::{
    ACK, DATA, EMPTY, END_HEADERS, END_STREAM, HEAD, HEADERS, PING, SETTINGS, encrypted,
    frame, greeting, header, headers,
};
use crate::scene::{OPERATOR, Scene, until};

const RST_STREAM: u8 = 0x3;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;

/// The caller does not need it any more.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Bytes of a farewell before its reason in words.
const FAREWELL: usize = 8;

/// A call that both servers know.
const PATH: &str = "/tidegate.v1.WorkerService/Join";

/// A question to whoever owns the rollout, for whose answer one would have to wait.
const QUESTION: &str = "/tidegate.v1.ProgressService/ListEvents";

/// Attackers at once.
const ATTACKERS: usize = 12;

/// Frames that go out in one write.
const BATCH: u32 = 500;

/// Calls that an attacker leaves unfinished.
const UNFINISHED: u64 = 1_000;

/// What an attacker does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Calls and gives the call up in the next frame.
    RapidReset,
    /// Calls, gives the call up, and goes on once it has been seen that it was, so that what was
    /// given up never piles up.
    PacedReset,
    /// Begins headers and never ends them.
    Continuations,
    /// Asks whether anybody is there.
    Pings,
    /// Says how it wants to be spoken to.
    Settings,
    /// Begins a thousand calls, each with a message that never comes to its end.
    UnfinishedBodies,
}

impl Attack {
    /// What it sends next, if it has not said all.
    fn batch(self, number: u32) -> Option<Vec<u8>> {
        let numbers = number * BATCH..(number + 1) * BATCH;
        let stream = |number: u32| 2 * number + 1;
        match self {
            Self::RapidReset => {
                let pair = |number| {
                    let call =
                        frame(HEADERS, END_HEADERS, stream(number), &headers(PATH));
                    [call, frame(RST_STREAM, 0, stream(number), &CANCEL)].concat()
                };
                Some(numbers.flat_map(pair).collect())
            }
            Self::PacedReset => {
                let call =
                    frame(HEADERS, END_HEADERS, stream(number), &headers(QUESTION));
                let asked = frame(DATA, END_STREAM, stream(number), &EMPTY);
                let given_up = frame(RST_STREAM, 0, stream(number), &CANCEL);
                let seen = frame(PING, 0, 0, &[0; 8]);
                Some([call, asked, given_up, seen].concat())
            }
            Self::Continuations => {
                let more = frame(CONTINUATION, 0, 1, &header("x", "y"));
                let begin = frame(HEADERS, 0, 1, &headers(PATH));
                let begin = if number == 0 { begin } else { Vec::new() };
                Some([begin, more.repeat(BATCH as usize)].concat())
            }
            Self::Pings => Some(frame(PING, 0, 0, &[0; 8]).repeat(BATCH as usize)),
            Self::Settings => Some(frame(SETTINGS, 0, 0, &[]).repeat(BATCH as usize)),
            Self::UnfinishedBodies => {
                let begin = |number| {
                    let call =
                        frame(HEADERS, END_HEADERS, stream(number), &headers(PATH));
                    // A message of a hundred bytes, of which one comes.
                    let part = frame(DATA, 0, stream(number), &[0, 0, 0, 0, 100, 10]);
                    [call, part].concat()
                };
                let begun: Vec<u8> = numbers.clone().flat_map(begin).collect();
                (u64::from(numbers.end) <= UNFINISHED).then_some(begun)
            }
        }
    }
}

/// Attackers that go on until this is dropped.
pub(crate) struct Attackers {
    seen: Arc<Seen>,
    _attacking: JoinSet<()>,
}

/// Where they go.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    /// The certificate that they show, if they do.
    files: Option<Files>,
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Target {
    /// A connection; whoever is not let in has none.
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(self.address).await?;
        Ok(match &self.files {
            None => Box::new(tcp),
            Some(files) => Box::new(encrypted(tcp, files).await?),
        })
    }
}

/// What they were told.
#[derive(Default)]
struct Seen {
    /// Frames that acknowledge theirs.
    acknowledged: AtomicU64,
    /// Calls that were answered or refused.
    ended: AtomicU64,
    /// Connections that have ended.
    cut: AtomicU64,
    /// The words with which they ended.
    farewells: Mutex<BTreeSet<String>>,
}

impl Attackers {
    /// Lets a crowd of them loose on `scene`.
    pub(crate) fn loose(scene: &Scene, attack: Attack) -> Self {
        let files = scene.is_secured().then(|| scene.certificate_of(OPERATOR));
        let at = Target { address: scene.address().parse().unwrap(), files };
        let seen = Arc::<Seen>::default();
        let mut attacking = JoinSet::new();
        for _ in 0..ATTACKERS {
            let (seen, at) = (Arc::clone(&seen), at.clone());
            attacking.spawn(async move {
                loop {
                    seen.attack(&at, attack).await;
                    // As for floods of calls: this is where it ends.
                    yield_now().await;
                }
            });
        }
        Self { seen, _attacking: attacking }
    }

    /// Waits until as many were cut as there are; says what for.
    pub(crate) async fn until_cut(&self) -> Vec<String> {
        until("attackers are cut", || self.cut() >= ATTACKERS as u64).await;
        self.seen.farewells()
    }

    /// Waits until so many frames were acknowledged.
    pub(crate) async fn until_acknowledged(&self, frames: u64) {
        let told = || self.seen.acknowledged.load(Ordering::Relaxed);
        until("they are acknowledged", || told() >= frames).await;
    }

    fn cut(&self) -> u64 {
        self.seen.cut.load(Ordering::Relaxed)
    }
}

impl Seen {
    fn farewells(&self) -> Vec<String> {
        self.farewells.lock().unwrap().iter().cloned().collect()
    }

    /// Attacks until the connection is cut.
    async fn attack(&self, at: &Target, attack: Attack) {
        // While others are cut, one may not get in.
        if let Ok(stream) = at.connect().await {
            let (from, to) = tokio::io::split(stream);
            let seen = Notify::new();
            let pace = (attack == Attack::PacedReset).then_some(&seen);
            // Whoever is cut while it waits for its pace has no more to say.
            tokio::select! {
                () = self.listen(from, &seen) => {}
                () = speak(to, attack, pace) => {}
            }
        }
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    async fn listen(&self, mut from: ReadHalf<Box<dyn Stream>>, acknowledged: &Notify) {
        let mut head = [0; HEAD];
        while from.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, flags, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            if from.read_exact(&mut payload).await.is_err() {
                return;
            }
            let counted = match (kind, flags) {
                (PING | SETTINGS, ACK) => &self.acknowledged,
                (HEADERS, flags) if flags & END_STREAM != 0 => &self.ended,
                (RST_STREAM, _) => &self.ended,
                (GOAWAY, _) => {
                    let words = payload.split_off(FAREWELL);
                    let words = String::from_utf8(words).unwrap();
                    self.farewells.lock().unwrap().insert(words);
                    continue;
                }
                _ => continue,
            };
            counted.fetch_add(1, Ordering::Relaxed);
            if kind == PING {
                acknowledged.notify_one();
            }
        }
    }
}

/// Speaks until it has said all, or nobody takes any more of it, and then waits to be cut; with a
/// `pace` it goes on only when that says so.
async fn speak(
    mut to: WriteHalf<Box<dyn Stream>>,
    attack: Attack,
    pace: Option<&Notify>,
) {
    let mut said = to.write_all(&greeting()).await;
    for batch in (0..).map_while(|number| attack.batch(number)) {
        if said.is_err() {
            break;
        }
        said = to.write_all(&batch).await;
        let flushed = to.flush().await;
        said = said.and(flushed);
        if let Some(pace) = pace
            && said.is_ok()
        {
            pace.notified().await;
        }
    }
    // An open question shows that all was taken; without an answer the connection has ended.
    drop(to.write_all(&frame(PING, 0, 0, &[0; 8])).await);
    drop(to.flush().await);
    std::future::pending::<()>().await;
}

/// What became of `attack` on a server with tonic's defaults and on the coordinator: both last
/// until the coordinator, which is the second, has cut it.
pub(crate) async fn beside(both: [SocketAddr; 2], attack: Attack) -> [String; 2] {
    let seen: [Arc<Seen>; 2] = Default::default();
    let mut attacking = JoinSet::new();
    for (seen, address) in seen.iter().zip(both) {
        let seen = Arc::clone(seen);
        let at = Target { address, files: None };
        attacking.spawn(async move { seen.attack(&at, attack).await });
    }
    let [defaults, ours] = &seen;
    until("the coordinator cuts it", || ours.is_cut()).await;
    // A server greets with one acknowledgement; the next one is of all that was said.
    let took_it = || defaults.acknowledged.load(Ordering::Relaxed) > 1;
    until("tonic's defaults cut or take it", || defaults.is_cut() || took_it()).await;
    seen.map(|seen| seen.told())
}

impl Seen {
    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed) > 0
    }

    fn told(&self) -> String {
        if self.is_cut() {
            // Whoever is cut for its silence is told nothing.
            let words = self.farewells().concat();
            return if words.is_empty() {
                "cut".to_owned()
            } else {
                format!("cut: {words}")
            };
        }
        let ended = self.ended.load(Ordering::Relaxed);
        if ended == 0 { "taken".to_owned() } else { format!("{ended} calls ended") }
    }
}
