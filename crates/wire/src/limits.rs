//! Limits: how large messages and lists may be, for both sides of every contract.
//!
//! # Invariants
//!
//! * A message that keeps the entry limits stays below the byte limit of its direction.

/// The most bytes of a request, unless said otherwise: commands and rows in portions.
pub const REQUEST_BYTES_MAX: usize = 256 << 10;

/// The most bytes of a worker's report: [`REPORT_FACTS_MAX`] facts and some hundred findings,
/// each with a message's name and a reason.
pub const SYNC_BYTES_MAX: usize = 1 << 20;

/// The most bytes of an answer: the orders of a node with thousands of jobs, a rollout with
/// hundreds of nodes and waves, a page of [`PAGE_MAX`] mailboxes.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The most facts of one job in one report: a whole job.
pub const REPORT_FACTS_MAX: usize = 4_096;

/// The most reports in one message: a node prepares a few jobs at a time.
pub const REPORTS_MAX: usize = 1_024;

/// The most jobs in one message of orders.
pub const ORDERS_MAX: usize = 65_536;

/// The most entries of a page.
pub const PAGE_MAX: u32 = 1_000;

/// Entries of a page when the client does not say.
pub const PAGE_DEFAULT: u32 = 100;

/// Rows of the inventory in one message: with addresses and paths of usual length a tenth of
/// [`REQUEST_BYTES_MAX`]. Senders also stop at [`INVENTORY_BYTES_PER_MESSAGE`].
pub const INVENTORY_ROWS_PER_MESSAGE: usize = 500;

/// Bytes of rows after which a sender starts the next message; one more row of the greatest
/// possible length still fits into [`REQUEST_BYTES_MAX`].
pub const INVENTORY_BYTES_PER_MESSAGE: usize = 128 << 10;

/// The longest policy file: it travels in one message.
pub const POLICY_BYTES_MAX: usize = 192 << 10;

/// Mailboxes in one part of a job's description.
pub const JOB_MAILBOXES_PER_MESSAGE: usize = 500;

/// The longest operator's name.
pub const BY_BYTES_MAX: usize = 256;

/// The longest reason: a record is read by people.
pub const REASON_BYTES_MAX: usize = 4_096;

/// Wrong rows named in one refusal; more would not be read.
pub const BAD_ROWS_SHOWN_MAX: usize = 100;

/// The longest name of an exchanger: a host name.
pub const EXCHANGER_BYTES_MAX: usize = 253;

/// Mailboxes in one part of an exchanger's directory: with addresses of the greatest length
/// far below [`ANSWER_BYTES_MAX`].
pub const DIRECTORY_ROWS_PER_MESSAGE: usize = 4_096;

/// Bytes of doors in one message: half a million mailboxes.
pub const DOOR_BYTES_PER_MESSAGE: usize = 64 << 10;

/// Changed doors in one message.
pub const DOOR_CHANGES_PER_MESSAGE: usize = 8_192;
