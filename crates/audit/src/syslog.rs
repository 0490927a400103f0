//! Syslog: an anchor as a message to a collector of logs, which is a second place.
//!
//! # Invariants
//!
//! * A message is one datagram, as RFC 5424 has it; whoever does not take it keeps nobody waiting.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::anchor::Anchor;

/// Security messages (`authpriv`), a normal but significant condition (`notice`).
const PRIORITY: u8 = 10 * 8 + 5;

/// Sends `anchor` to the socket at `socket`, usually `/dev/log`.
///
/// # Errors
///
/// When nobody is there, or is behind.
pub fn tell_syslog(socket: &Path, anchor: &Anchor) -> io::Result<()> {
    let to = UnixDatagram::unbound()?;
    to.set_nonblocking(true)?;
    to.send_to(message(anchor).as_bytes(), socket).map(drop)
}

fn message(anchor: &Anchor) -> String {
    let (time, own) = (anchor.time(), std::process::id());
    format!("<{PRIORITY}>1 {time} - tidegate {own} audit-anchor - {anchor}")
}
