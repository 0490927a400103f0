//! The contracts between the programs, checked once at the border.
//!
//! # Invariants
//!
//! * A generated type lives only where it is sent or received; everything behind the border
//!   is a type of the core.
//! * `TryFrom<v1::X>` checks on receipt; `From<X>` for `v1::X` cannot fail.
//! * Whatever a message leaves unspecified is refused, never guessed.

pub mod exchanger;
pub mod hop;
pub mod limits;
pub mod plan_summary;
pub mod policy_file;
pub mod protocol;
pub mod record;
pub mod recording;
pub mod scope;
pub mod snapshot;
mod vitals;
pub mod worker;
pub mod worker_record;

pub use protocol::ProtocolError;

/// The contracts with workers, operators, readers and exchangers, as generated from `proto/tidegate/v1`.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("tidegate.v1");
}

/// What journals hold, as generated from `proto/tidegate/journal`.
pub mod journal {
    /// The first version, still written.
    pub mod v1 {
        tonic::include_proto!("tidegate.journal.v1");
    }
}

/// The contracts with all their comments, for clients that ask the server for them.
pub const DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
