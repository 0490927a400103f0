//! A night: everything that an operator, an approver, a viewer and the desk type between the
//! first command and the last proof, with real programs over mutual TLS.
//!
//! # Invariants
//!
//! * What people do is written once, in [`walk`]; the packages' test walks the same way.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may say no more than that it failed"
)]

#[path = "night/programs.rs"]
mod programs;
#[path = "night/site.rs"]
mod site;
#[path = "night/walk.rs"]
mod walk;

use site::Site;
use tempfile::TempDir;

#[test]
fn a_tired_person_brings_everything_back_and_proves_it() {
    let dir = TempDir::with_prefix("tidegate-night-").unwrap();
    let mut site = Site::new(dir.path(), &[env!("CARGO_BIN_EXE_tidegate")]);

    walk::a_night(&mut site);
}
