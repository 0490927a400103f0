//! Answers mail servers whether a user may use a service now.
//!
//! Dovecot asks over HTTP on the loopback before it looks at a password or takes in a
//! message; the answer is made from the mailbox's level and the service ladder alone.
//! Postfix asks by [`socketmap`] where mail goes now, or by [`policy`] whether to take it.
//!
//! # Invariants
//!
//! * Fail closed: an unknown address, an unknown service, a service above the mailbox's
//!   level and every doubt are `held`, which a mail server shows as a temporary failure.
//! * A user is never called unknown or gone: that would bounce mail.
//! * Answers do not wait for the network, the disk or the rollout.

mod addresses;
mod connection;
mod doors;
mod notice;
pub mod policy;
mod serve;
pub mod socketmap;
mod transport;
mod visits;

pub use doors::{Answer, Doors, Ladder, Rung, Standing, WEBMAIL};
pub use notice::{Language, Notice, Notices, UnknownLanguage, UnknownZone, Window, Zone};
pub use serve::{ALWAYS_DOWN, ALWAYS_SLOW, ServeError, serve};
pub use transport::{Next, Transport};
pub use visits::{Counted, Crowd, Visits};
