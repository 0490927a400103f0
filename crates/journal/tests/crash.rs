//! The journal under kill -9 and a full disk, with real processes.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidegate_journal::{AppendError, Journal, Kind};

/// Names the directory in which a child appends.
const CHILD_DIR: &str = "TIDEGATE_JOURNAL_CHILD_DIR";

/// Large enough to be cut into parts.
const LONG: usize = 9000;

#[test]
fn nothing_acknowledged_is_lost_however_often_the_program_is_killed() {
    let dir = TempDir::new().unwrap();
    let mut acknowledged = 0;
    for round in 0..20_u64 {
        let mut child = start("child_appends_until_killed", dir.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // How many acknowledgements to wait for differs, and so does what it is doing then.
        for _ in 0..=(round * 7 % 23) {
            acknowledged = acknowledgement(&mut lines);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(Ok(line)) = lines.next() {
            acknowledged = number(&line).unwrap_or(acknowledged);
        }

        let journal = Journal::open(dir.path(), &kind()).unwrap();
        let records: Vec<_> = journal.replay().map(Result::unwrap).collect();

        assert!(journal.head().sequence >= acknowledged, "round {round}");
        assert_eq!(records.len() as u64 % 3, 0, "an append is whole or absent");
        for record in records {
            assert_eq!(record.payload, payload(record.sequence), "round {round}");
        }
    }
}

#[test]
fn a_disk_that_takes_no_more_poisons_the_journal_and_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let mut child = start("child_appends_until_refused", dir.path());
    let mut acknowledged = 0;
    let (mut refused, mut closed) = (false, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        acknowledged = number(&line).unwrap_or(acknowledged);
        refused |= line.contains("refused, then poisoned");
        closed |= line.contains("closed");
    }
    child.wait().unwrap();

    assert!(acknowledged > 0 && refused && closed, "{acknowledged} {refused} {closed}");
    let journal = Journal::open(dir.path(), &kind()).unwrap();
    assert!(journal.head().sequence >= acknowledged);
    for record in journal.replay().map(Result::unwrap) {
        assert_eq!(record.payload, payload(record.sequence));
    }
    journal.append(&[payload(journal.head().sequence + 1)]).unwrap();
}

/// Not a test by itself: the program that the first test kills.
#[test]
fn child_appends_until_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let journal = Journal::open(Path::new(&dir), &kind()).unwrap();
    loop {
        append_three(&journal).unwrap();
    }
}

/// Not a test by itself: the program whose files may not grow beyond a limit.
#[test]
fn child_appends_until_refused() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let journal = Journal::open(Path::new(&dir), &kind()).unwrap();
    let refused = loop {
        if let Err(error) = append_three(&journal) {
            break error;
        }
    };
    let poisoned = journal.append(&[payload(0)]);
    assert!(matches!(refused, AppendError::Failed { .. }), "{refused:?}");
    assert!(matches!(poisoned, Err(AppendError::Poisoned)), "{poisoned:?}");
    say("refused, then poisoned");
    drop(journal);
    say("closed");
}

fn append_three(journal: &Journal) -> Result<(), AppendError> {
    let next = journal.head().sequence + 1;
    let last = journal.append(&[payload(next), payload(next + 1), payload(next + 2)])?;
    say(&format!("acknowledged {last}"));
    Ok(())
}

/// Writes past the test harness, which would keep the line until the test has ended.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// Runs one of the children above in a process of its own; files of the second may not
/// grow beyond eight megabytes.
fn start(child: &str, dir: &Path) -> Child {
    let limit =
        if child.ends_with("refused") { "trap '' XFSZ; ulimit -f 16384;" } else { "" };
    let program = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{limit} exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn acknowledgement(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> u64 {
    loop {
        let line = lines.next().expect("the child runs until it is killed").unwrap();
        if let Some(sequence) = number(&line) {
            return sequence;
        }
    }
}

fn number(line: &str) -> Option<u64> {
    line.split_once("acknowledged ")?.1.parse().ok()
}

fn payload(sequence: u64) -> Vec<u8> {
    let length = if sequence.is_multiple_of(5) { LONG } else { 40 };
    sequence.to_be_bytes().into_iter().cycle().take(length).collect()
}

fn kind() -> Kind {
    Kind { name: "crash".to_owned(), format: 1, id: [0; 16] }
}
