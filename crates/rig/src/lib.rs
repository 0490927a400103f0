//! Real mail servers for tests: started on loopback, stopped when the test ends.
//!
//! # Invariants
//!
//! * It knows mail servers, and of ours the lines that we ship for them; nothing of ours needs
//!   it to run.
//! * What it started is gone when its value is: also when the test panics, and by the
//!   kernel's hand when the whole test is killed.
//! * Everything of a server is in one directory of its own, on ports of its own, so that
//!   many run side by side.
//! * What is not installed fails the test with the name of Debian's package.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a rig that cannot stand fails its test, with what is wrong"
)]

mod collector;
mod debian13;
mod dovecot;
mod keeper;
mod ports;
mod postfix;
mod prometheus;
mod shipped;
mod sink;
mod talk;

pub use collector::{Collector, Taken};
pub use debian13::{DEBIAN_13_ROOT, Debian13, debian_13_root};
pub use dovecot::{
    API_KEY, Dovecot, DovecotPorts, DovecotSpec, Format, MASTER, MASTER_PASSWORD,
    PASSWORD, Service, User,
};
pub use keeper::{
    Keeper, MailUser, hand_over, mail_user, need, open_directory, wait_until,
};
pub use ports::{FreePorts, LOOPBACK};
pub use postfix::{Letter, Postfix, PostfixSpec, Said};
pub use prometheus::{Exporter, Prometheus};
pub use shipped::{PROBE, PROBE_PASSWORD};
pub use sink::Sink;
pub use talk::{Answer, Imap, PATIENCE, Talk};
