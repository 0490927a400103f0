//! Tests of what is told of records: all of it stands in a file that the pages read, too.
//!
//! A wording that changes here changes that file (`UPDATE_EXPECT=1 cargo test -p
//! tidegate-coordinator in_the_file`), and then the tests of the pages say which texts no longer fit.

use std::collections::BTreeSet;

use expect_test::expect_file;
use tidegate_core::fleet::{Generation, Incarnation, JobNumber, MailboxNumber};
use tidegate_core::gate::{HaltReason, IsolateReason};
use tidegate_core::rollout::{Approval, JobReport, KeptBack, MessageTotals};

use super::*;
use crate::names::small_plan;

#[test]
fn what_is_told_of_every_kind_of_record_stands_in_the_file_for_the_pages() {
    let plan = small_plan();
    let records = records();

    let told = records.iter().map(|record| {
        let told = Told::new(record, &plan);
        format!("{}\t{}\t{told}\n", told.code(), told.by())
    });
    let told: String = told.collect();

    expect_file!["../../../pages/texts/said/events.txt"].assert_eq(&told);
    let codes: BTreeSet<&str> =
        records.iter().map(|it| Told::new(it, &plan).code()).collect();
    // One that is added does not compile here until it is counted, and then needs a sample.
    let kinds = |it: &Record| match it {
        Record::NodeJoined { .. }
        | Record::JobLeased { .. }
        | Record::FactsReported { .. }
        | Record::LevelAllowed { .. }
        | Record::Expanded { .. }
        | Record::Overridden { .. }
        | Record::NodeIsolated { .. }
        | Record::Halted { .. }
        | Record::Paused(_)
        | Record::Frozen(_)
        | Record::Thawed(_)
        | Record::Resumed { .. }
        | Record::Aborted(_)
        | Record::EmergencyBegun { .. }
        | Record::EmergencyEnded { .. }
        | Record::Reclosed { .. }
        | Record::Finished { .. }
        | Record::RebuildBegun(_)
        | Record::ClaimsFound { .. }
        | Record::MailboxesFound { .. }
        | Record::NodeRecounted { .. }
        | Record::Rebuilt { .. }
        | Record::Retried { .. }
        | Record::NodeAccepted { .. } => 24,
    };
    assert!(records.iter().all(|it| kinds(it) == codes.len()));
}

fn records() -> Vec<Record> {
    [by_people(), of_the_gate(), of_rebuilding(), of_the_program()].concat()
}

fn by_people() -> Vec<Record> {
    let (wave, node) = (WaveNumber::new(0), NodeNumber::new(0));
    let until = Timestamp::from_millis(240 * 60_000);
    let generations = Vec::new;
    let parts =
        [Scope::Wave(wave), Scope::Node(node), Scope::Mailbox(MailboxNumber::new(0))];
    let mut records = vec![
        Record::Paused(action("too many complaints")),
        Record::Paused(action("")),
        Record::Paused(action("more: than 1000; it is said, by all")),
        Record::Frozen(action("all waves")),
        Record::Thawed(approved("done")),
        Record::Resumed { action: approved("1000"), scope: None },
        Record::Aborted(action("enough")),
        Record::Overridden { action: approved("few users"), evidence: evidence(false) },
        Record::EmergencyBegun { action: approved("elections"), wave: Some(wave), until },
        Record::EmergencyBegun { action: approved("elections"), wave: None, until },
        Record::EmergencyEnded { by: Some(action("over")), at: AT },
        Record::NodeAccepted {
            action: approved("new disk"),
            node,
            generations: generations(),
        },
    ];
    for scope in parts {
        let (again, closed) = (approved("it is well"), action("asked"));
        records.push(Record::Resumed { action: again, scope: Some(scope) });
        let generations = generations();
        records.push(Record::Reclosed { action: closed, scope, generations });
    }
    records.push(Record::Retried {
        action: action("its disk is back"),
        mailbox: MailboxNumber::new(0),
        job: JobNumber::new(0),
        generation: Generation::new(9),
    });
    records
}

fn of_the_gate() -> Vec<Record> {
    let node = NodeNumber::new(0);
    let breaker = IsolateReason::Breaker { failed: 3, opened: 30, limit: 2 };
    let integrity = HaltReason::Integrity { node, mailboxes: 1 };
    vec![
        Record::LevelAllowed { wave: WaveNumber::new(0), level: LEVEL, at: AT },
        Record::Expanded { evidence: evidence(false), at: AT },
        Record::Expanded { evidence: evidence(true), at: AT },
        Record::NodeIsolated { node, reason: breaker, evidence: evidence(false), at: AT },
        Record::Halted { reason: integrity, evidence: evidence(false), at: AT },
        Record::EmergencyEnded { by: None, at: AT },
        Record::Finished { at: AT },
    ]
}

fn of_rebuilding() -> Vec<Record> {
    let node = NodeNumber::new(0);
    vec![
        Record::RebuildBegun(action("journal lost")),
        Record::Rebuilt { left_out: Vec::new(), by: None, at: AT },
        Record::Rebuilt { left_out: vec![node], by: None, at: AT },
        Record::Rebuilt { left_out: Vec::new(), by: Some(action("burnt")), at: AT },
        Record::Rebuilt { left_out: vec![node], by: Some(approved("burnt")), at: AT },
    ]
}

/// What is in the journal, and on no page: nobody did it, and there is much of it.
fn of_the_program() -> Vec<Record> {
    let (node, job) = (NodeNumber::new(0), JobNumber::new(0));
    let (incarnation, generation) = (Incarnation::new(7), Generation::default());
    let report = JobReport {
        job,
        generation,
        facts: Vec::new(),
        totals: MessageTotals::default(),
        findings: Vec::new(),
    };
    vec![
        Record::NodeJoined { node, incarnation, journaled: 1, at: AT },
        Record::JobLeased { job, incarnation, generation, at: AT },
        Record::FactsReported {
            job,
            generation,
            sequence: 1,
            journaled: 1,
            facts: Vec::new(),
            totals: MessageTotals::default(),
            findings: Vec::new(),
            at: AT,
        },
        Record::ClaimsFound { node, claimed: generation, orders_seen: 1, at: AT },
        Record::MailboxesFound {
            incarnation,
            journaled: 1,
            report,
            reclosed: Vec::new(),
            at: AT,
        },
        Record::NodeRecounted {
            node,
            journaled: 1,
            kept_back: KeptBack::default(),
            at: AT,
        },
    ]
}

const AT: Timestamp = Timestamp::from_millis(0);
const LEVEL: Level = Level::FIRST;

fn evidence(hurried: bool) -> Evidence {
    Evidence { level: LEVEL, hurried, ..Evidence::default() }
}

fn action(reason: &str) -> Action {
    let (by, reason) = ("ann".to_owned(), reason.to_owned());
    Action { by, reason, at: AT, request: None, approved: None }
}

/// The same with a second person's leave.
fn approved(reason: &str) -> Action {
    let approved =
        Approval { by: "eve".to_owned(), reason: "read it: agreed".to_owned() };
    Action { approved: Some(approved), ..action(reason) }
}
