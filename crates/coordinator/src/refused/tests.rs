//! Tests of refusals: what people may be answered on a page stands in a file that the pages read,
//! too.
//!
//! A wording that changes here changes that file (`UPDATE_EXPECT=1 cargo test -p
//! tidegate-coordinator in_the_file`), and then the tests of the pages say which texts no longer fit.

use std::collections::HashSet;
use std::mem::discriminant;

use expect_test::expect_file;
use tidegate_core::fleet::{Incarnation, NodeNumber};
use tidegate_core::gate::HaltReason;
use tidegate_core::rollout::{Action, Etag, RequestId};
use tidegate_core::time::Span;

use super::*;
use crate::names::small_plan;
use crate::owner::unknown;

#[test]
fn every_refusal_that_a_page_may_show_stands_in_the_file_for_the_pages() {
    let plan = small_plan();
    let (refusals, mut refused) = (refusals(), refused());
    let kinds: HashSet<_> = refusals.iter().map(discriminant).collect();
    let others: HashSet<_> = refused.iter().map(discriminant).collect();
    assert!(refusals.iter().all(|it| is_on_pages(it) == Some(kinds.len())));
    assert!(refused.iter().all(|it| is_told_on_pages(it) == Some(others.len())));

    refused.extend(refusals.into_iter().map(|it| Refused::by_rollout(it, &plan)));
    let told = refused.iter().map(|it| format!("{}\t{it}\n", it.name()));

    expect_file!["../../../pages/texts/said/refusals.txt"]
        .assert_eq(&told.collect::<String>());
}

/// Of how many kinds those are that pages may show; nothing of the others. One that is added does
/// not compile here until it is counted, and then needs a sample.
fn is_told_on_pages(refused: &Refused) -> Option<usize> {
    match refused {
        Refused::NotAllowed { .. }
        | Refused::NotAudited
        | Refused::NotApproved { .. }
        | Refused::Worse { .. }
        | Refused::NoPlan
        | Refused::Unknown { .. }
        | Refused::UnknownMailbox
        | Refused::Wrong { .. }
        | Refused::AskedTooOften { .. }
        | Refused::Full { .. }
        | Refused::Busy
        | Refused::Late
        | Refused::Stopping => Some(13),
        // Those have a match of their own.
        Refused::Rollout { .. }
        // Workers, exchangers and watchers are told these.
        | Refused::OtherRollout { .. }
        | Refused::CanaryInPlan { .. }
        | Refused::NotItsJob { .. }
        | Refused::Rebuilding
        | Refused::TooManyWatchers { .. }
        | Refused::TooSlow
        | Refused::Overtaken
        // No page uploads a plan.
        | Refused::AppliedBefore { .. }
        | Refused::AnotherPlan { .. }
        | Refused::Spent { .. }
        | Refused::Overtook { .. }
        | Refused::SavedElsewhere
        | Refused::Stale { .. }
        | Refused::HasBegun { .. }
        | Refused::ApplyUnderWay
        | Refused::UploadStalled { .. }
        | Refused::NotKept(_) => None,
    }
}

/// The same of what the rollout refuses.
fn is_on_pages(refusal: &Refusal) -> Option<usize> {
    match refusal {
        Refusal::NothingToAccept { .. }
        | Refusal::NodeAtWork { .. }
        | Refusal::InDoubt { .. }
        | Refusal::NotRecounted { .. }
        | Refusal::Over { .. }
        | Refusal::Already { .. }
        | Refusal::NotHeldBack { .. }
        | Refusal::NotHeld { .. }
        | Refusal::HoldStands { .. }
        | Refusal::NotRunning { .. }
        | Refusal::NoEmergencyProfile
        | Refusal::EmergencySpan { .. }
        | Refusal::NoEmergency
        | Refusal::Frozen { .. }
        | Refusal::SameHand { .. }
        | Refusal::NotFrozen
        | Refusal::HaltStands { .. }
        | Refusal::IsolationStands { .. }
        | Refusal::NoSuch { .. }
        | Refusal::Conflict { .. }
        | Refusal::RequestReused { .. }
        | Refusal::ReasonMissing => Some(22),
        // No page has a mailbox tried again.
        Refusal::NotSetAside
        // Workers are told these.
        | Refusal::UnknownNode { .. }
        | Refusal::NodeTaken { .. }
        | Refusal::NotTheWorker { .. }
        | Refusal::JournalTooOld { .. }
        | Refusal::OrdersTooOld { .. }
        | Refusal::ReportsLost { .. }
        | Refusal::WorkerTooOld { .. }
        | Refusal::WorkerJournalTooOld { .. }
        | Refusal::LeftOut { .. }
        | Refusal::Impossible { .. } => None,
    }
}

fn refused() -> Vec<Refused> {
    let not_approved =
        |own| Refused::NotApproved { command: "resume wave all-1".to_owned(), own };
    let not_allowed = |why: &str| Refused::NotAllowed {
        who: "vera (viewer)".to_owned(),
        why: why.to_owned(),
    };
    let grounds = |digit: &str| digit.repeat(24).parse().unwrap();
    let wrong = |code, text: &str| Refused::Wrong { code, text: text.to_owned() };
    let full = |what, max| Refused::Full { what, max };
    vec![
        not_allowed("it is for: operator, approver"),
        not_allowed("the page is for others"),
        Refused::NotAudited,
        not_approved(true),
        not_approved(false),
        Refused::Worse { seen: grounds("1"), found: grounds("a") },
        Refused::NoPlan,
        unknown("wave", "all-9", ["all-1", "all-2"]),
        unknown("node", "n9", ["n1"]),
        unknown("node", "n9", Vec::<String>::new()),
        Refused::UnknownMailbox,
        wrong("bad-ticket", crate::desk::BAD_TICKET),
        wrong("bad-address", crate::desk::BAD_ADDRESS),
        Refused::AskedTooOften { max: 60 },
        full("readers' questions", 256),
        full("stops", 64),
        full("calls of this connection", 8),
        Refused::Busy,
        Refused::Late,
        Refused::Stopping,
    ]
}

fn refusals() -> Vec<Refusal> {
    let (wave, node, by) = ("all-1".to_owned(), "n1".to_owned(), "ann".to_owned());
    let nodes = "`n1`, `n2`".to_owned();
    let reason = "hold: opening has 12 of 1500 samples".to_owned();
    let integrity = HaltReason::Integrity { node: NodeNumber::new(0), mailboxes: 2 };
    let holder = Incarnation::new(7);
    let etag = |decisions| Etag { decisions, begun: Timestamp::from_millis(4_096) };
    let action = Action {
        by: by.clone(),
        reason: "too many complaints; all of them".to_owned(),
        at: Timestamp::from_millis(0),
        request: None,
        approved: None,
    };
    let held = |what: &str| Refusal::NotHeldBack { what: what.to_owned() };
    let none = |what: &str| Refusal::NoSuch { what: what.to_owned() };
    let mut refusals = vec![
        Refusal::NothingToAccept { node: node.clone() },
        Refusal::NodeAtWork {
            node: node.clone(),
            holder,
            heard_millis: 1_200,
            lease_millis: 9_000,
        },
        Refusal::InDoubt { nodes: nodes.clone() },
        Refusal::NotRecounted { missing: nodes },
        held("wave all-1"),
        held("node n1"),
        held("this mailbox"),
        Refusal::NotHeld { wave: wave.clone() },
        Refusal::HoldStands { wave: wave.clone(), reason },
        Refusal::NoEmergencyProfile,
        Refusal::EmergencySpan {
            lasts: Span::from_secs(90_000),
            max: Span::from_secs(86_400),
        },
        Refusal::NoEmergency,
        Refusal::Frozen { by: by.clone() },
        Refusal::SameHand { by },
        Refusal::NotFrozen,
        Refusal::HaltStands { wave, wave_index: 0, reason: integrity.to_string() },
        Refusal::IsolationStands { node },
        none("wave"),
        none("node"),
        none("mailbox"),
        none("mailbox in any wave"),
        Refusal::Conflict {
            seen: etag(3),
            now: etag(5),
            changes: vec![Record::Paused(action)],
        },
        Refusal::RequestReused { request: RequestId::new("r-1").unwrap() },
        Refusal::ReasonMissing,
    ];
    refusals.extend(["finished", "aborted"].map(|phase| Refusal::Over { phase }));
    let already =
        ["paused", "halted", "running", "frozen", "under its emergency profile"];
    refusals.extend(already.map(|phase| Refusal::Already { phase }));
    let still = ["paused", "halted", "aborted", "finished"];
    refusals.extend(still.map(|phase| Refusal::NotRunning { phase }));
    refusals
}
