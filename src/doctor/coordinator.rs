//! The coordinator: has it a place for its journal, and does it listen?
//!
//! # Invariants
//!
//! * A coordinator that is not running is well as long as nothing is in its way.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::chart::{Chart, Trouble};
use super::place::{self, Kept};
use crate::config::Coordinator;

/// On one machine, a connection takes less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at a coordinator.
pub(super) fn look(chart: &mut Chart, coordinator: &Coordinator) {
    let Coordinator { data_dir, listen, .. } = coordinator;
    let data = Kept { check: "coordinator.data", path: data_dir, is_private: true };
    if place::directory(chart, data).is_some() {
        place::journal_disk(chart, "coordinator.disk", data_dir);
        place::room(chart, "coordinator.room", data_dir);
        place::lock(chart, "coordinator.journal", data_dir);
    }
    let check = "coordinator.port";
    if TcpStream::connect_timeout(listen, PATIENCE).is_ok() {
        return chart.ok(check, format!("somebody listens at {listen}"));
    }
    match TcpListener::bind(listen) {
        Ok(_) => chart.ok(check, format!("{listen} is free: it does not run now")),
        Err(error) => {
            let trouble = Trouble::new(
                format!("{listen}: {error}"),
                "the coordinator cannot listen there",
                "choose another address for `listen`",
            );
            chart.fail(check, trouble);
        }
    }
}
