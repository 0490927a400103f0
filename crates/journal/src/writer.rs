//! The writer: one thread owns the store and serves everybody who appends.
//!
//! # Invariants
//!
//! * Whatever has queued while the disk was busy is written as one batch with one flush.
//! * Appends of one caller keep their order; an append is acknowledged after it is on disk.
//! * The first failure poisons the journal: everything waiting and everything later is
//!   refused, and nothing is tried again on files whose state is unknown.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::frame::{Head, PAYLOAD_BYTES_MAX};
use crate::lock::Lock;
use crate::store::{Store, StoreError};
use crate::witness::Witness;

/// The most bytes of one append: what must be kept whole has to fit into memory twice.
pub const APPEND_BYTES_MAX: usize = 64 << 20;

/// Appends waiting for the writer. Each has a caller that waits for it, so this only has to
/// exceed the callers of one program, a few dozen.
const QUEUE_MAX: usize = 256;

/// Payload bytes after which a batch is written although more is waiting: large enough
/// that the flush no longer counts, small enough that nobody waits long.
const GROUP_BYTES: usize = 4 << 20;

/// Records after which a batch is written although more is waiting.
const GROUP_RECORDS: usize = 8192;

/// How long an append may take before the store counts as dead. A flush takes
/// milliseconds and a bad disk seconds; a store that has locked itself up takes for ever.
const ACK_WAIT_MAX: Duration = Duration::from_mins(1);

/// Records could not be made durable.
///
/// After any of these except [`AppendError::TooLarge`] the caller must treat the records as
/// neither kept nor lost, act on none of them, and stop: the next start will tell.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The append is larger than a journal takes; nothing was written, others may follow.
    #[error("append {bytes} bytes at once, the limit is {bytes_max}")]
    TooLarge {
        /// The size of the payload, or of all payloads together.
        bytes: usize,
        /// The limit it exceeds.
        bytes_max: usize,
    },
    /// The store failed, for example because the disk is full.
    #[error("append {count} records after record {after}")]
    Failed {
        /// How many records were lost from sight, those of other callers included.
        count: usize,
        /// The newest record that is certainly kept.
        after: u64,
        /// Why.
        source: Arc<StoreError>,
    },
    /// The store did not answer in time.
    #[error("append records: the store has not answered for {} s", .waited.as_secs())]
    Stalled {
        /// How long was waited.
        waited: Duration,
    },
    /// The journal was closed before this append reached it.
    #[error("append records to a closed journal")]
    Closed,
    /// An earlier append failed; nothing is written any more.
    #[error("append records after an earlier append failed; restart to continue")]
    Poisoned,
}

/// Hands appends to the journal's writer; cheap to clone.
#[derive(Clone)]
pub struct Appender {
    queue: SyncSender<Request>,
    shared: Arc<Shared>,
}

/// What the writer tells everybody.
struct Shared {
    head: Mutex<Head>,
    poisoned: AtomicBool,
    stalled: AtomicBool,
}

enum Request {
    Append(Append),
    Close,
}

struct Append {
    payloads: Vec<Vec<u8>>,
    ack: SyncSender<Result<u64, AppendError>>,
}

impl Appender {
    /// Starts the writer of a store whose newest record is `head`. It keeps the lock until
    /// it has let go of the store.
    pub(crate) fn start(
        store: Store,
        witness: Witness,
        head: Head,
        lock: Arc<Lock>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let (poisoned, stalled) = Default::default();
        let shared = Arc::new(Shared { head: Mutex::new(head), poisoned, stalled });
        let writer = Writer { store, witness, head, shared: Arc::clone(&shared) };
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
                writer.run(&requests);
                drop(lock);
            })?;
        Ok((Self { queue, shared }, thread))
    }

    /// Appends `payloads` in order as one whole and waits until they are on disk. Returns
    /// the sequence of the last of them, or of the newest record if there are none.
    ///
    /// Blocks; asynchronous callers run it on a thread that may.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; all but `TooLarge` mean that the program must stop.
    pub fn append(&self, payloads: &[Vec<u8>]) -> Result<u64, AppendError> {
        check_size(payloads)?;
        if self.shared.poisoned.load(Ordering::Acquire) {
            return Err(AppendError::Poisoned);
        }
        if payloads.is_empty() {
            return Ok(self.head().sequence);
        }
        let (ack, answer) = sync_channel(1);
        let append = Append { payloads: payloads.to_vec(), ack };
        self.queue.send(Request::Append(append)).map_err(|_| self.refusal())?;
        match answer.recv_timeout(ACK_WAIT_MAX) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.shared.poisoned.store(true, Ordering::Release);
                self.shared.stalled.store(true, Ordering::Release);
                Err(AppendError::Stalled { waited: ACK_WAIT_MAX })
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.refusal()),
        }
    }

    /// The newest durable record.
    pub fn head(&self) -> Head {
        *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an append has failed, after which none succeeds.
    pub fn is_poisoned(&self) -> bool {
        self.shared.poisoned.load(Ordering::Acquire)
    }

    /// Asks the writer to end after what has queued until now. `false` if it cannot: its
    /// store has stopped answering.
    pub(crate) fn close(&self) -> bool {
        // A writer that has already ended no longer listens, and need not.
        !self.shared.stalled.load(Ordering::Acquire) && {
            let _ = self.queue.send(Request::Close);
            true
        }
    }

    /// Why the writer is gone.
    fn refusal(&self) -> AppendError {
        if self.is_poisoned() { AppendError::Poisoned } else { AppendError::Closed }
    }
}

fn check_size(payloads: &[Vec<u8>]) -> Result<(), AppendError> {
    let largest = payloads.iter().map(Vec::len).max().unwrap_or(0);
    let total = payloads.iter().map(Vec::len).sum();
    for (bytes, bytes_max) in [(largest, PAYLOAD_BYTES_MAX), (total, APPEND_BYTES_MAX)] {
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
    }
    Ok(())
}

struct Writer {
    store: Store,
    witness: Witness,
    head: Head,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut open = true;
        while open && let Ok(Request::Append(first)) = requests.recv() {
            let group;
            (group, open) = gather(first, requests);
            match self.commit(&group) {
                Ok(head) => {
                    self.head = head;
                    *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) =
                        head;
                }
                Err(source) => return self.fail(group, source),
            }
            self.acknowledge(group);
        }
        if let Err(error) = self.witness.sync() {
            tracing::warn!(%error, "cannot make the journal's witness durable");
        }
    }

    /// Makes one group durable and returns the head after it.
    fn commit(&self, group: &[Append]) -> Result<Head, StoreError> {
        let mut head = self.head;
        let payloads = group.iter().flat_map(|append| &append.payloads);
        self.store.commit(payloads.map(|payload| {
            head = head.after(payload);
            (head, payload.as_slice())
        }))?;
        debug_assert!(head.sequence > self.head.sequence);
        self.witness.record(head).map_err(StoreError::Sync)?;
        Ok(head)
    }

    fn acknowledge(&self, group: Vec<Append>) {
        let count: usize = group.iter().map(|append| append.payloads.len()).sum();
        let mut last = self.head.sequence - count as u64;
        for append in group {
            last += append.payloads.len() as u64;
            // A caller that has stopped waiting learns it from the next replay.
            let _ = append.ack.send(Ok(last));
        }
        debug_assert_eq!(last, self.head.sequence);
    }

    /// Refuses the group; whoever still waits in the queue learns it when the queue ends.
    fn fail(self, group: Vec<Append>, source: StoreError) {
        self.shared.poisoned.store(true, Ordering::Release);
        let count = group.iter().map(|append| append.payloads.len()).sum();
        let after = self.head.sequence;
        let error = AppendError::Failed { count, after, source: Arc::new(source) };
        for append in group {
            let _ = append.ack.send(Err(error.clone()));
        }
    }
}

/// Everything that queued while the last group was being written, up to the group's limits,
/// and whether more may follow.
fn gather(first: Append, requests: &Receiver<Request>) -> (Vec<Append>, bool) {
    let size = |append: &Append| append.payloads.iter().map(Vec::len).sum::<usize>();
    let (mut bytes, mut records) = (size(&first), first.payloads.len());
    let mut group = vec![first];
    while bytes < GROUP_BYTES && records < GROUP_RECORDS {
        match requests.try_recv() {
            Ok(Request::Append(append)) => {
                bytes += size(&append);
                records += append.payloads.len();
                group.push(append);
            }
            Ok(Request::Close) => return (group, false),
            Err(_) => break,
        }
    }
    (group, true)
}
