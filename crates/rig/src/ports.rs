//! Ports: numbers on loopback that nobody else has.
//!
//! # Invariants
//!
//! * A port is held until it is handed over, and nobody else is given it as long as this
//!   process lives: a server that is stopped keeps its own, and what still asks there is not
//!   answered by the server of another test.
//! * Ports lie below those that the kernel gives to connections, so that a server that was
//!   stopped finds its own free when it starts again.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Where everything listens.
pub const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Linux gives connections ports from 32,768 on, and well-known services end far below.
const FIRST: u16 = 15_000;

/// How many there are from the first one.
const COUNT: u16 = 17_000;

/// What says to other processes which ports this one was given.
static GIVEN: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());

/// Free ports, held until they are handed over.
#[derive(Debug)]
pub struct FreePorts(Vec<(u16, TcpListener)>);

impl FreePorts {
    /// Finds `count` of them.
    pub fn take(count: usize) -> Self {
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        let start = somewhere();
        let mut found = Vec::with_capacity(count);
        for step in 0..COUNT {
            if found.len() == count {
                return Self(found);
            }
            let port = FIRST + (start + step) % COUNT;
            if let Some(claim) = claim(port)
                && let Ok(listener) = TcpListener::bind((LOOPBACK, port))
            {
                given.push(claim);
                found.push((port, listener));
            }
        }
        panic!("no {count} ports are free on loopback");
    }

    /// Lets them go, for a server that takes them next.
    pub fn hand_over<const N: usize>(self) -> [u16; N] {
        let ports: Vec<_> = self.0.into_iter().map(|(port, _)| port).collect();
        ports.try_into().expect("as many ports are handed over as were taken")
    }
}

/// Takes a port's name, which one process has at a time and the kernel frees when it ends.
fn claim(port: u16) -> Option<UnixDatagram> {
    let name = format!("tidegate-rig-port-{port}");
    let name = SocketAddr::from_abstract_name(name).expect("a short name without a NUL");
    UnixDatagram::bind_addr(&name).ok()
}

/// Where to begin looking: processes that begin apart seldom meet.
fn somewhere() -> u16 {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
    let mixed = (now ^ std::process::id().rotate_left(16)).wrapping_mul(0x9E37_79B9);
    u16::try_from((mixed >> 8) % u32::from(COUNT)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_is_handed_out_once() {
        let first: [u16; 20] = FreePorts::take(20).hand_over();
        let second: [u16; 20] = FreePorts::take(20).hand_over();

        let all: BTreeSet<_> = first.iter().chain(&second).collect();
        assert_eq!(all.len(), 40);
        assert!(second.iter().all(|port| TcpListener::bind((LOOPBACK, *port)).is_ok()));
        assert!(
            all.iter().all(|port| claim(**port).is_none()),
            "another test may get one"
        );
    }
}
