//! What waits for the owner, and in which order it goes.

use tidegate_core::fleet::{Generation, Incarnation};
use tidegate_core::gate::ShortName;
use tidegate_core::rollout::{Orders, Sync, Vitals};
use tokio::sync::oneshot;

use super::*;
use crate::owner::{Intent, NamedVerb};

type Answered = oneshot::Receiver<Result<Orders, Refused>>;

#[test]
fn a_stop_passes_everything_that_waits() {
    let lanes = Lanes::new();
    for _ in 0..200 {
        lanes.put(Lane::Question, None, question()).unwrap();
    }
    let (report, _answer) = report(1, 1);
    lanes.put(Lane::Report, Some(node(1)), report).unwrap();
    lanes.put(Lane::Stop, None, pause()).unwrap();

    assert_eq!(order(&lanes, 3), ["operate", "report 1/1", "question"]);
}

#[test]
fn no_flood_starves_another_lane() {
    let lanes = Lanes::new();
    lanes.put(Lane::Question, None, question()).unwrap();
    let mut taken = Vec::new();

    while !taken.contains(&"question".to_owned()) {
        assert!(taken.len() < 300, "{taken:?}");
        while lanes.put(Lane::Stop, None, pause()).is_ok() {}
        for number in 0..400 {
            let (report, _answer) = report(number, 1);
            lanes.put(Lane::Report, Some(node(number)), report).unwrap();
        }
        lanes.tick();
        taken.extend(order(&lanes, 1));
    }

    assert_eq!(taken.iter().filter(|it| *it == "operate").count(), 32);
    assert_eq!(taken.iter().filter(|it| *it == "tick").count(), 16);
    assert_eq!(taken.iter().filter(|it| it.starts_with("report")).count(), 128);
}

#[test]
fn a_full_lane_refuses_at_once_and_says_what_is_full() {
    let lanes = Lanes::new();
    let mut put = 0;

    let refused = loop {
        match lanes.put(Lane::Question, None, question()) {
            Ok(()) => put += 1,
            Err(refused) => break refused,
        }
    };

    assert_eq!(put, 256);
    assert_eq!(
        refused.to_string(),
        "the coordinator has too much to do: 256 readers' questions wait already; \
         try again in 1 s"
    );
    let status = tonic::Status::from(refused);
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    lanes.put(Lane::Stop, None, pause()).unwrap();
}

#[test]
fn of_a_workers_reports_the_newest_waits_in_the_place_of_the_oldest() {
    let lanes = Lanes::new();
    let (first, mut first_answer) = report(7, 1);
    let (other, _other_answer) = report(8, 1);
    let (third, mut third_answer) = report(7, 3);
    let (second, mut second_answer) = report(7, 2);

    lanes.put(Lane::Report, Some(node(7)), first).unwrap();
    lanes.put(Lane::Report, Some(node(8)), other).unwrap();
    lanes.put(Lane::Report, Some(node(7)), third).unwrap();
    lanes.put(Lane::Report, Some(node(7)), second).unwrap();

    assert!(matches!(first_answer.try_recv(), Ok(Err(Refused::Overtaken))));
    assert!(matches!(second_answer.try_recv(), Ok(Err(Refused::Overtaken))));
    assert_eq!(order(&lanes, 9), ["report 7/3", "report 8/1"]);
    assert!(third_answer.try_recv().is_err());
}

#[test]
fn a_node_that_joins_without_end_takes_no_other_nodes_place() {
    let lanes = Lanes::new();
    while lanes.put(Lane::Join, Some(node(1)), question()).is_ok() {}

    lanes.put(Lane::Join, Some(node(2)), question()).unwrap();

    assert_eq!(order(&lanes, 9).len(), 5);
}

#[test]
fn what_waits_when_it_ends_is_served_and_nothing_more_is_taken() {
    let lanes = Lanes::new();
    lanes.put(Lane::Stop, None, pause()).unwrap();

    lanes.end();

    let refused = lanes.put(Lane::Stop, None, pause());
    assert!(matches!(refused, Err(Refused::Stopping)));
    assert!(lanes.next().is_some());
    assert!(lanes.next().is_none());
}

/// Takes at most so many, and names them.
fn order(lanes: &Lanes, max: usize) -> Vec<String> {
    let taken = std::iter::from_fn(|| lanes.waiting()).take(max);
    let named = taken.map(|message| match message {
        Message::Tick => "tick".to_owned(),
        Message::Sync { sync, .. } => {
            format!("report {}/{}", sync.node.get(), sync.sequence)
        }
        Message::Operate { .. } => "operate".to_owned(),
        Message::External { .. } => "question".to_owned(),
        Message::Join { .. }
        | Message::Approve { .. }
        | Message::Apply { .. }
        | Message::Ask(_) => "something else".to_owned(),
    });
    named.collect()
}

fn node(number: u16) -> NodeNumber {
    NodeNumber::new(number)
}

/// Anything that is told apart from the rest.
fn question() -> Message {
    Message::External { name: ShortName::new("x").unwrap(), answer: 0 }
}

fn pause() -> Message {
    let intent = Intent {
        by: "anna".to_owned(),
        reason: String::new(),
        verb: NamedVerb::Pause,
        request: None,
        seen: None,
        without: Vec::new(),
        needs_second: false,
    };
    let (to, _) = oneshot::channel();
    Message::Operate { intent, to }
}

fn report(node: u16, sequence: u64) -> (Message, Answered) {
    let (to, answered) = oneshot::channel();
    let sync = Sync {
        node: NodeNumber::new(node),
        incarnation: Incarnation::new(5),
        sequence,
        orders_obeyed: 0,
        claimed_max: Generation::default(),
        reports: Vec::new(),
        vitals: Vitals::default(),
        account: None,
    };
    (Message::Sync { sync: Box::new(sync), to }, answered)
}
