//! How fast mailboxes are verified and restored, against a bare reader or copier in C and against
//! what a site would use instead; and what a growing store costs.
//!
//! ```text
//! cargo bench -p tidegate-mail --bench rates -- verify DIR [--users N] [--rounds N] [--cold] [--all-peers]
//! cargo bench -p tidegate-mail --bench rates -- restore DIR [--users N] [--rounds N] [--all-peers]
//! cargo bench -p tidegate-mail --bench rates -- memory DIR [--messages N]
//! cargo bench -p tidegate-mail --bench rates -- curve DIR [--cold]
//! ```
//!
//! `DIR` needs room: 8 GB for `verify`, 16 GB for `restore`, 9 GB for `memory`, 14 GB for `curve`. What is made
//! there once is used again; what runs leave is removed at their end. `cc` must be there; peers
//! (`rsync`, `b3sum`, `diff`; with `--all-peers` `restic`, `borg`, `rclone`, `doveadm`) are used if they are.
//!
//! # Invariants
//!
//! * Every figure is a ratio to a floor run on the same files just before, in the same state of the
//!   cache: a busy machine slows both.
//! * Time and memory of Tidegate are those of a process that does nothing else.
//! * What was found, lost and duplicated is counted from the trees, not believed.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod chance;
mod engine;
mod growth;
mod peers;
mod pile;
mod recount;
mod restore;
mod verify;
mod yardstick;

use std::error::Error;
use std::path::PathBuf;

use crate::engine::Order;
use crate::verify::Rules;

const HELP: &str = "\
usage: rates verify DIR [--users N] [--rounds N] [--cold] [--all-peers]
       rates restore DIR [--users N] [--rounds N] [--all-peers]
       rates memory DIR [--messages N]
       rates curve DIR [--cold]

verify   reads a live tree and its snapshot, 5 % of it damaged: against the floor and peers
restore  an empty tree from the snapshot, and the repair of a damaged one
memory   the peak of a process that prepares one mailbox of N messages
curve    time per file from 10,000 files to 2,000,000

x wall and x CPU are ratios to the floor: a C program of two threads that reads the same files in
inode order and sums them (restore: copies them and flushes once). Wall and CPU are in seconds.";

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds a word of its own.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|it| it != "--bench").collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == "engine"
    {
        return Order::parse(rest)?.carry_out();
    }
    let mut words = Vec::new();
    let (mut users, mut rounds, mut messages) = (1_000, 3, 1_000_000);
    let (mut cold, mut slow_peers) = (false, false);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<usize, Box<dyn Error>> {
            Ok(arguments.next().ok_or("a number is missing")?.parse()?)
        };
        match &*argument {
            "--users" => users = number()?,
            "--rounds" => rounds = number()?,
            "--messages" => messages = number()?,
            "--cold" => cold = true,
            "--all-peers" => slow_peers = true,
            _ => words.push(argument),
        }
    }
    let [command, dir] = &*words else {
        println!("{HELP}");
        return Ok(());
    };
    let dir = PathBuf::from(dir);
    match &**command {
        "verify" => verify::verify(&dir, users, Rules { rounds, cold, slow_peers }),
        "restore" => restore::restore(&dir, users, Rules { rounds, cold, slow_peers }),
        "memory" => growth::memory(&dir, messages),
        "curve" => growth::curve(&dir, cold),
        other => Err(format!("`{other}` is no command\n{HELP}").into()),
    }
}
