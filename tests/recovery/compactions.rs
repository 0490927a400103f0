//! Compactions: programs die while their journals are compacted, and go on from snapshots.
//!
//! # Invariants
//!
//! * What is killed at its Nth call is a process of its own, this program with [`COMPACT`] in its
//!   environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use tempfile::TempDir;
use tidegate_journal::{Head, Journal, Kind, Snapshot};

use crate::dice::{Dice, rounds, soak};
use crate::fleet::{self, Fleet, Ground, Which};
use crate::machine::{self, Need};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_compaction_killed_at_any_call_loses_no_record_and_is_done_again,
    kill_9_while_journals_are_compacted_loses_nothing_and_opens_nothing_twice,
    whoever_goes_on_from_a_snapshot_has_its_doors_open_and_has_forgotten_nothing,
];

/// Records between two compactions: so few that one is nearly always under way.
const RECORDS: u64 = 8;

/// Kills of one rollout, of the coordinator and of a worker in turns.
const KILLS: usize = 12;

/// Longest pause between two kills, milliseconds.
const PAUSE_MILLIS_MAX: u64 = 500;

/// Names the directory of the journal that a child fills and compacts.
const COMPACT: &str = "TIDEGATE_RECOVERY_COMPACT";

/// Calls that change something on the disk, or keep it.
const CHANGING: &str = "openat,write,pwrite64,rename,renameat,renameat2,unlink,unlinkat,mkdir,\
    fsync,fdatasync,sync_file_range,ftruncate";

/// Calls at which it is killed in the ordinary run, spread over all there are.
const SAMPLED: u64 = 20;

/// Records that a child appends, one by one, and how many of them are there when it begins to
/// compact: the others come in while it does.
const APPENDED: u64 = 300;
const COVERED: u64 = 200;

/// Bytes of its snapshot: several steps of writing.
const BODY_BYTES: usize = 600_000;

/// Who dies.
const VICTIMS: [Which; 2] = [Which::Coordinator, Which::Worker(0)];

fn kill_9_while_journals_are_compacted_loses_nothing_and_opens_nothing_twice() {
    let faults = Faults::of("kill -9 while journals are compacted");
    for _ in 0..rounds(1) {
        let (seed, mut dice) = Dice::thrown("kill_9_while_journals_are_compacted");
        let mut fleet = Fleet::on(often_compacted(seed));

        for victim in VICTIMS.into_iter().cycle().take(KILLS) {
            let pause = dice.below(PAUSE_MILLIS_MAX);
            std::thread::sleep(std::time::Duration::from_millis(pause));
            fleet.kill_and_restart(victim);
            faults.injected(1);
        }

        fleet.finish();
        for victim in VICTIMS {
            fleet.kill_and_restart(victim);
            fleet.wait("it goes on from a snapshot", |fleet| {
                covered(&fleet.log(victim)) > 0
            });
        }
        fleet.account(&faults);
        faults.survived(KILLS as u64);
    }
}

fn a_compaction_killed_at_any_call_loses_no_record_and_is_done_again() {
    let faults = Faults::of("kill -9 at the Nth call of one compaction");
    if let Some(lack) = machine::lacks(&[Need::Tool("strace", "-V")]) {
        return faults.skipped(&lack);
    }
    let (_, mut dice) = Dice::thrown("a_compaction_killed_at_any_call");
    let dir = TempDir::with_prefix("tidegate-recovery-").unwrap();
    let heads = heads(&dir.path().join("plain"));
    let whole = dir.path().join("whole");
    let (calls, acknowledged) = compacted(&whole, None);
    assert_eq!(acknowledged, APPENDED);
    assert!(compacted_records(&whole) > 0, "it was compacted");

    let step = if soak().is_some() { 1 } else { (calls / SAMPLED).max(1) };
    let numbers = (1 + dice.below(step)..=calls).step_by(usize::try_from(step).unwrap());
    let (mut before, mut after) = (0_u64, 0_u64);
    for nth in numbers {
        let killed = dir.path().join(format!("killed-{nth}"));
        let (_, acknowledged) = compacted(&killed, Some(nth));
        faults.injected(1);
        let switched = check(&killed, acknowledged, &heads, nth);
        *(if switched { &mut after } else { &mut before }) += 1;
        faults.survived(1);
        fs::remove_dir_all(&killed).unwrap();
    }
    eprintln!(
        "one compaction makes {calls} calls; killed {before} times before the switch and {after} times after it"
    );
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}

/// Everything that was acknowledged is there, in its order; and the journal is as good as any.
/// Says whether it goes on from a snapshot.
fn check(dir: &Path, acknowledged: u64, heads: &[Head], nth: u64) -> bool {
    let journal = open(dir);
    let head = journal.head();
    let same = heads.iter().find(|it| it.sequence == head.sequence);
    assert_eq!(Some(&head), same, "call {nth}: the chain");
    assert!(head.sequence >= acknowledged, "call {nth}: {acknowledged} were kept");
    let compacted = journal.snapshot().unwrap();
    let covered = compacted.as_ref().map_or(0, |it| it.records);
    if let Some(compacted) = &compacted {
        assert_eq!(compacted.snapshot, body(), "call {nth}");
        let story: Vec<_> = journal.story().map(|it| it.unwrap().payload).collect();
        let told = (1..=covered).map(payload).filter(|it| is_story(it));
        assert_eq!(story, told.collect::<Vec<_>>(), "call {nth}");
    }
    let tail: Vec<_> = journal.replay().map(|it| it.unwrap().payload).collect();
    let rest: Vec<_> = (covered + 1..=head.sequence).map(payload).collect();
    assert_eq!(tail, rest, "call {nth}");
    drop(journal);

    // It can be done again, and nothing is left of the first attempt.
    let (_, appended) = self::compacted(dir, None);
    assert_eq!(appended, head.sequence + APPENDED, "call {nth}");
    let journal = open(dir);
    assert_eq!(journal.head().sequence, appended);
    assert!(journal.snapshot().unwrap().unwrap().records > covered, "call {nth}");
    compacted.is_some()
}

/// The heads of a journal that nobody compacts, from none to all records.
fn heads(dir: &Path) -> Vec<Head> {
    let journal = open(dir);
    let mut heads = vec![journal.head()];
    for number in 1..=APPENDED {
        journal.append(&[payload(number)]).unwrap();
        heads.push(journal.head());
    }
    heads
}

/// Fills and compacts in a process of its own, killed at the Nth call of a thread if so wanted;
/// how many calls the busiest thread made, and how many records were acknowledged in all.
fn compacted(dir: &Path, killed_at: Option<u64>) -> (u64, u64) {
    let trace = dir.with_extension("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(&trace).args(["-e", &format!("trace={CHANGING}")]);
    if let Some(nth) = killed_at {
        command.args(["-e", &format!("inject={CHANGING}:signal=KILL:when={nth}")]);
    }
    let told = command
        .arg(std::env::current_exe().unwrap())
        .env(COMPACT, dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    let acknowledged = said.lines().filter_map(|line| line.parse().ok()).max();
    let mut calls = BTreeMap::<String, u64>::new();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        *calls.entry(thread.to_owned()).or_default() += u64::from(line.contains('('));
    }
    (calls.into_values().max().unwrap_or(0), acknowledged.unwrap_or(0))
}

/// Fills and compacts the journal that the environment names, if it names one.
pub(crate) fn compact_if_asked() -> Option<ExitCode> {
    let dir = PathBuf::from(std::env::var_os(COMPACT)?);
    let journal = open(&dir);
    let first = journal.head().sequence;
    let mut told = std::io::stdout();
    for number in first + 1..=first + APPENDED {
        let kept = journal.append(&[payload(number)]).unwrap();
        writeln!(told, "{kept}").unwrap();
        if number == first + COVERED {
            let snapshot = Snapshot { covers: journal.head(), body: body(), is_story };
            assert!(journal.appender().compact(snapshot).unwrap());
        }
    }
    while journal.appender().is_compacting() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Some(ExitCode::SUCCESS)
}

/// Records that a snapshot stands for.
fn compacted_records(dir: &Path) -> u64 {
    open(dir).snapshot().unwrap().map_or(0, |it| it.records)
}

fn open(dir: &Path) -> Journal {
    let kind = Kind { name: "compactions".to_owned(), format: 1, id: [7; 16] };
    Journal::open(dir, &kind).unwrap()
}

/// The bytes of one record, some of them long.
fn payload(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(50) { 9_000 } else { 40 };
    number.to_be_bytes().into_iter().cycle().take(length).collect()
}

fn is_story(payload: &[u8]) -> bool {
    payload.get(7).is_some_and(|low| low.is_multiple_of(7))
}

fn body() -> Vec<u8> {
    (0..=255).cycle().take(BODY_BYTES).collect()
}

fn whoever_goes_on_from_a_snapshot_has_its_doors_open_and_has_forgotten_nothing() {
    let faults = Faults::of("a restart from a snapshot, doors open");
    let mut fleet = Fleet::on(often_compacted(41));
    fleet.wait("doors are open on both nodes", |fleet| {
        (0..2).all(|node| fleet.admitted_on(node).len() > 3)
    });

    // Of a worker, with nobody to ask.
    fleet.kill(Which::Coordinator);
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    fleet.kill_and_restart(Which::Worker(0));
    fleet.wait("its doors stand as before", |fleet| fleet.admitted() == open);
    assert!(covered(&fleet.log(Which::Worker(0))) > 0, "{}", fleet.logs());
    faults.injected(1);

    // Of the coordinator, while the rollout goes on.
    fleet.restart(Which::Coordinator);
    fleet.wait("more doors open", |fleet| fleet.admitted().len() > open.len());
    fleet.kill_and_restart(Which::Coordinator);
    faults.injected(1);
    fleet.wait("it answers", |fleet| fleet.tidegate_ok(&["status"]));
    assert!(covered(&fleet.log(Which::Coordinator)) > 0, "{}", fleet.logs());
    let still = fleet.admitted();
    assert!(still.is_superset(&open), "{open:?} were open, {still:?} are");

    fleet.account(&faults);
    faults.survived(2);
}

fn often_compacted(seed: u64) -> Ground {
    Ground { compact_after: Some(RECORDS), ..Ground::small(seed) }
}

/// How many records the snapshot stood for that a program went on from last.
fn covered(log: &str) -> u64 {
    let opened = log.lines().rev().find(|line| line.contains("journal opened"));
    let covered = opened.and_then(|line| line.split("compacted=").nth(1));
    let digits = covered.map(|rest| rest.split_whitespace().next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
