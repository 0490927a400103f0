//! The writer: one thread owns the store and serves everybody who appends.
//!
//! # Invariants
//!
//! * Whatever has queued while the disk was busy is written as one batch with one flush.
//! * Appends of one caller keep their order; an append is acknowledged after it is on disk.
//! * Compaction goes on between batches, one step after each while somebody waits.
//! * The first failure poisons the journal: everything waiting and everything later is
//!   refused, and nothing is tried again on files whose state is unknown.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::Base;
use crate::compaction::{Compaction, Rhythm, SNAPSHOT_BYTES_MAX, Snapshot, Stepped};
use crate::frame::{Head, PAYLOAD_BYTES_MAX};
use crate::lock::Lock;
use crate::log::Encode;
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
    compacting: AtomicBool,
    /// Bytes of payloads that this program has read behind the base or appended.
    bytes: AtomicU64,
    /// How many of them the base covers.
    bytes_covered: AtomicU64,
    covered: AtomicU64,
    snapshot_bytes: AtomicU64,
}

enum Request {
    Append(Append),
    Compact { snapshot: Snapshot, bytes: u64 },
    Close,
}

/// What a journal was found to hold, as far as its writer needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Contents {
    /// The newest record.
    pub(crate) head: Head,
    /// What it goes on from, if it was compacted.
    pub(crate) base: Option<Base>,
    /// The bytes of all payloads behind the base.
    pub(crate) tail_bytes: u64,
    /// Whether something is left that should have been dropped.
    pub(crate) leftovers: bool,
}

struct Append {
    payloads: Vec<Vec<u8>>,
    ack: SyncSender<Result<u64, AppendError>>,
}

impl Appender {
    /// Starts the writer of a store with these contents. It keeps the lock until it has let
    /// go of the store.
    pub(crate) fn start(
        store: Store,
        witness: Witness,
        contents: Contents,
        lock: Arc<Lock>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let Contents { head, base, tail_bytes, leftovers } = contents;
        let shared = Arc::new(Shared {
            head: Mutex::new(head),
            poisoned: AtomicBool::default(),
            stalled: AtomicBool::default(),
            compacting: AtomicBool::new(leftovers),
            bytes: AtomicU64::new(tail_bytes),
            bytes_covered: AtomicU64::new(0),
            covered: AtomicU64::new(base.map_or(0, |base| base.head.sequence)),
            snapshot_bytes: AtomicU64::new(base.map_or(0, |base| base.snapshot_bytes)),
        });
        let compaction = leftovers.then(|| Compaction::of_leftovers(base));
        let compaction = compaction.map(|it| (it, tail_bytes));
        let shared_too = Arc::clone(&shared);
        let writer =
            Writer { store, witness, head, base, compaction, shared: shared_too };
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

    /// Whether the records behind the newest snapshot have become so many that it is time
    /// for another one, and none is being written.
    pub fn wants_snapshot(&self, rhythm: Rhythm) -> bool {
        let Shared { compacting, bytes, bytes_covered, covered, snapshot_bytes, .. } =
            &*self.shared;
        let [bytes, bytes_covered, covered, snapshot_bytes] =
            [bytes, bytes_covered, covered, snapshot_bytes]
                .map(|count| count.load(Ordering::Acquire));
        let records = self.head().sequence.saturating_sub(covered);
        let bytes = bytes.saturating_sub(bytes_covered);
        !compacting.load(Ordering::Acquire)
            && rhythm.is_due(records, bytes, snapshot_bytes)
    }

    /// Hands over a snapshot of everything up to a record that this journal has named as its
    /// head. It is written in the background, then the records that it covers are dropped,
    /// all but the story. Nothing is lost if this does not come to its end. `false` if it is
    /// not begun, because another one is under way or newer.
    ///
    /// # Errors
    ///
    /// [`AppendError`], of which `TooLarge` only means that the journal goes on growing.
    pub fn compact(&self, snapshot: Snapshot) -> Result<bool, AppendError> {
        let (bytes, bytes_max) = (snapshot.body.len(), SNAPSHOT_BYTES_MAX);
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        if !self.may_begin(snapshot.covers) {
            return Ok(false);
        }
        self.hand_over(snapshot).map(|()| true)
    }

    /// The same with a snapshot that is yet to be made, on a thread of its own; nobody has
    /// to know what becomes of it.
    pub(crate) fn compact_later(
        &self,
        covers: Head,
        is_story: fn(&[u8]) -> bool,
        encode: Encode,
    ) {
        if !self.may_begin(covers) {
            return;
        }
        let appender = self.clone();
        let named = std::thread::Builder::new().name("snapshot".to_owned());
        let begun = named.spawn(move || {
            let mut attempt = Attempt { shared: &appender.shared, is_made: false };
            let body = encode();
            attempt.is_made = true;
            drop(attempt);
            let snapshot = Snapshot { covers, body, is_story };
            let bytes = snapshot.body.len();
            // One that is too large stays the last attempt.
            if bytes > SNAPSHOT_BYTES_MAX {
                tracing::warn!(bytes, "snapshot too large, the journal goes on growing");
            } else if let Err(error) = appender.hand_over(snapshot) {
                tracing::debug!(%error, "a snapshot comes too late");
            }
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "cannot begin a snapshot");
            self.shared.compacting.store(false, Ordering::Release);
        }
    }

    /// Whether a compaction may begin now; if so, no other one may.
    fn may_begin(&self, covers: Head) -> bool {
        covers.sequence > self.shared.covered.load(Ordering::Acquire)
            && !self.shared.compacting.swap(true, Ordering::AcqRel)
    }

    fn hand_over(&self, snapshot: Snapshot) -> Result<(), AppendError> {
        let bytes = self.shared.bytes.load(Ordering::Acquire);
        let request = Request::Compact { snapshot, bytes };
        self.queue.send(request).map_err(|_| self.refusal())
    }

    /// Whether a compaction is under way.
    pub fn is_compacting(&self) -> bool {
        self.shared.compacting.load(Ordering::Acquire)
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

/// A snapshot that is being made. If that fails, another may begin; once it is made, the
/// writer says when.
struct Attempt<'a> {
    shared: &'a Shared,
    is_made: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_made {
            self.shared.compacting.store(false, Ordering::Release);
        }
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
    base: Option<Base>,
    /// What is under way, and how many bytes were there when it began.
    compaction: Option<(Compaction, u64)>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut ahead = None;
        loop {
            let request = match ahead.take() {
                Some(request) => Some(request),
                None if self.compaction.is_some() => match requests.try_recv() {
                    Ok(request) => Some(request),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => break,
                },
                None => match requests.recv() {
                    Ok(request) => Some(request),
                    Err(_) => break,
                },
            };
            match request {
                Some(Request::Close) => break,
                Some(Request::Compact { snapshot, bytes }) => {
                    let compaction = Compaction::new(snapshot, self.base.as_ref());
                    self.compaction = Some((compaction, bytes));
                }
                Some(Request::Append(first)) => {
                    let group;
                    (group, ahead) = gather(first, requests);
                    match self.commit(&group) {
                        Ok(head) => self.advance(head, &group),
                        Err(source) => return self.fail(group, source),
                    }
                    self.acknowledge(group);
                }
                None => {}
            }
            if let Err(source) = self.compact_some() {
                return self.fail(Vec::new(), source);
            }
        }
        if let Err(error) = self.witness.sync() {
            tracing::warn!(%error, "cannot make the journal's witness durable");
        }
    }

    fn advance(&mut self, head: Head, group: &[Append]) {
        self.head = head;
        *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
        let bytes: usize = group.iter().map(size).sum();
        self.shared.bytes.fetch_add(bytes as u64, Ordering::AcqRel);
    }

    /// One step of what is under way.
    fn compact_some(&mut self) -> Result<(), StoreError> {
        let Some((compaction, bytes)) = &mut self.compaction else { return Ok(()) };
        match compaction.step(&self.store)? {
            Stepped::On => {}
            Stepped::Switched(base) => {
                self.base = Some(base);
                let (records, bytes_kept) = (base.head.sequence, base.snapshot_bytes);
                self.shared.covered.store(records, Ordering::Release);
                self.shared.snapshot_bytes.store(bytes_kept, Ordering::Release);
                self.shared.bytes_covered.store(*bytes, Ordering::Release);
                tracing::info!(
                    records,
                    story = base.story.records,
                    snapshot_bytes = bytes_kept,
                    "journal compacted"
                );
            }
            Stepped::Done => {
                self.compaction = None;
                self.shared.compacting.store(false, Ordering::Release);
            }
        }
        Ok(())
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
        if group.is_empty() {
            tracing::error!(
                error = &source as &dyn std::error::Error,
                "cannot compact the journal; nothing is written any more"
            );
        }
        let count = group.iter().map(|append| append.payloads.len()).sum();
        let after = self.head.sequence;
        let error = AppendError::Failed { count, after, source: Arc::new(source) };
        for append in group {
            let _ = append.ack.send(Err(error.clone()));
        }
    }
}

/// Everything that queued while the last group was being written, up to the group's limits,
/// and what came behind it if that is no append.
fn gather(first: Append, requests: &Receiver<Request>) -> (Vec<Append>, Option<Request>) {
    let (mut bytes, mut records) = (size(&first), first.payloads.len());
    let mut group = vec![first];
    while bytes < GROUP_BYTES && records < GROUP_RECORDS {
        match requests.try_recv() {
            Ok(Request::Append(append)) => {
                bytes += size(&append);
                records += append.payloads.len();
                group.push(append);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}

/// The bytes of an append.
fn size(append: &Append) -> usize {
    append.payloads.iter().map(Vec::len).sum()
}
