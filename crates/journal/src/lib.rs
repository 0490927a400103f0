//! An append-only sequence of records that survives a crash.
//!
//! A journal is a directory. It is opened by one program at a time, read from the first
//! record to the last, and then appended to. Now and then its owner makes a snapshot of all
//! that its records have led to; the records covered are dropped, all but the story. What a
//! record means is its owner's affair.
//!
//! # Invariants
//!
//! * What [`Journal::append`] has returned is on disk: kill -9 and power loss keep it.
//! * An append is kept whole or not at all.
//! * Records are read back in order, complete and unchanged, or an error names the first
//!   record that is not; nothing behind a damaged record is ever handed out.
//! * After one failed append nothing more is written: nobody builds on an uncertain record.

mod audit;
mod base;
mod compaction;
mod frame;
mod journal;
mod kept;
mod lock;
mod log;
mod replay;
mod store;
mod witness;
mod writer;

pub use audit::{
    Covered, EXPORT_SCHEMA, ExportError, Repair, RepairError, Verified, export,
    look_at_repair, repair, verify,
};
pub use compaction::{Rhythm, SNAPSHOT_BYTES_MAX, Snapshot};
pub use frame::{Damage, Digest, Head, PAYLOAD_BYTES_MAX};
pub use journal::{Compacted, Journal, Kind, OpenError};
pub use log::{Encode, Log};
pub use replay::{Entry, ReadError, Replay};
pub use store::StoreError;
pub use writer::{APPEND_BYTES_MAX, AppendError, Appender};
