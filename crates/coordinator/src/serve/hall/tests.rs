//! Who finds room, who makes it, who is refused.

use tokio::sync::oneshot::error::TryRecvError;

use super::*;

/// Descriptors of a machine that has plenty.
const PLENTY: usize = 65_536;

#[test]
fn a_flood_of_readers_takes_no_operators_room() {
    let hall = Hall::new(PLENTY);
    let readers: Vec<_> = (0..1_300).map(|_| hall.arrive()).collect();
    let calls: Vec<_> =
        readers.iter().map(|(peer, _)| peer.begin(Class::Reader, Kind::Watch)).collect();

    let (operator, _stays) = hall.arrive();
    let call = operator.begin(Class::Operator, Kind::Usual);

    assert!(call.is_ok());
    assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 1_064);
    let refused = calls.into_iter().find_map(Result::err).unwrap();
    assert_eq!(
        refused.to_string(),
        "the coordinator has too much to do: 1064 watchers wait already; try again in 1 s"
    );
}

#[test]
fn in_a_full_class_whoever_has_been_idle_the_longest_makes_room() {
    let hall = Hall::new(PLENTY);
    let mut operators: Vec<_> = (0..64).map(|_| hall.arrive()).collect();
    for (peer, _) in &operators {
        drop(peer.begin(Class::Operator, Kind::Usual).ok().unwrap());
    }

    let (newest, _stays) = hall.arrive();
    let call = newest.begin(Class::Operator, Kind::Usual);

    assert!(call.is_ok());
    let cut = operators.iter_mut().map(|(_, must_go)| must_go.try_recv());
    let cut: Vec<bool> = cut.map(|it| it != Err(TryRecvError::Empty)).collect();
    assert!(cut.first().unwrap());
    assert_eq!(cut.iter().filter(|cut| **cut).count(), 1);
}

#[test]
fn without_a_descriptor_whoever_has_just_come_is_heard_first() {
    let hall = Hall::new(PLENTY);
    let (peer, mut must_go) = hall.arrive();

    hall.make_room();
    let stays = must_go.try_recv() == Err(TryRecvError::Empty);
    let long_ago = Instant::now().checked_sub(FIRST_CALL_WITHIN_IF_FULL).unwrap();
    lock(&peer.seat.activity).idle_since = long_ago;
    hall.make_room();

    assert!(stays);
    assert_ne!(must_go.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn one_connection_has_a_few_calls_and_gets_their_places_back() {
    let hall = Hall::new(PLENTY);
    let (peer, _stays) = hall.arrive();
    let mut calls: Vec<_> =
        (0..2).map(|_| peer.begin(Class::Stranger, Kind::Usual).ok().unwrap()).collect();

    let refused = peer.begin(Class::Stranger, Kind::Usual).err().unwrap();
    drop(calls.pop());

    assert!(matches!(
        refused,
        Refused::Full { what: "calls of this connection", max: 2 }
    ));
    assert!(peer.begin(Class::Stranger, Kind::Usual).is_ok());
}

#[test]
fn connections_that_say_nothing_are_few_and_the_oldest_goes() {
    let hall = Hall::new(PLENTY);
    let (_first, mut must_go) = hall.arrive();

    let others: Vec<_> = (0..256).map(|_| hall.arrive()).collect();

    assert_eq!(must_go.try_recv(), Err(TryRecvError::Closed));
    let mut stay = others.into_iter().map(|(_, must_go)| must_go);
    assert!(stay.all(|mut it| it.try_recv() == Err(TryRecvError::Empty)));
}

#[test]
fn a_worker_that_has_reported_does_not_share_with_those_that_have_not() {
    let hall = Hall::new(PLENTY);
    let (worker, _stays) = hall.arrive();
    drop(worker.begin(Class::Stranger, Kind::Usual).ok().unwrap());
    worker.is_worker_of(NodeNumber::new(3));
    let strangers: Vec<_> = (0..16)
        .map(|_| {
            let (peer, stays) = hall.arrive();
            (peer.begin(Class::Stranger, Kind::Usual).ok().unwrap(), peer, stays)
        })
        .collect();

    let (late, _stays) = hall.arrive();
    let refused = late.begin(Class::Stranger, Kind::Usual);
    let report = worker.begin(Class::Stranger, Kind::Usual);

    assert!(refused.is_err());
    assert!(report.is_ok());
    drop(strangers);
}

#[test]
fn one_node_has_few_workers_connections() {
    let hall = Hall::new(PLENTY);
    let mut peers: Vec<_> = (0..6).map(|_| hall.arrive()).collect();

    for (peer, _) in &peers {
        drop(peer.begin(Class::Stranger, Kind::Usual).ok().unwrap());
        peer.is_worker_of(NodeNumber::new(3));
    }

    let stays = peers.iter_mut().map(|(_, must_go)| must_go.try_recv());
    let stays = stays.filter(|it| *it == Err(TryRecvError::Empty)).count();
    assert_eq!(stays, CONNECTIONS_OF_A_WORKER_MAX);
}

#[test]
fn a_connection_that_goes_leaves_nothing_behind() {
    let hall = Hall::new(PLENTY);
    for _ in 0..3 {
        let (peer, _stays) = hall.arrive();
        drop(peer.begin(Class::Reader, Kind::Usual).ok().unwrap());
        peer.leave();
        peer.is_worker_of(NodeNumber::new(1));
    }

    assert!(hall.rooms.iter().all(|room| lock(&room.seats).is_empty()));
}

#[test]
fn scarce_descriptors_are_divided_among_all_classes() {
    let hall = Hall::new(48);

    let rooms: Vec<_> = hall.rooms.iter().map(|room| room.connections_max).collect();

    assert_eq!(rooms, [2, 6, 2, 2, 2, 5]);
}

#[test]
fn a_stop_has_room_where_operators_have_none() {
    let hall = Hall::new(PLENTY);
    let operators: Vec<_> = (0..64).map(|_| hall.arrive()).collect();
    let calls: Vec<_> = operators
        .iter()
        .map(|(peer, _)| peer.begin(Class::Operator, Kind::Usual))
        .collect();
    let watching =
        operators.iter().map(|(peer, _)| peer.begin(Class::Reader, Kind::Watch));
    let watching: Vec<_> = watching.collect();

    let (anna, _stays) = hall.arrive();
    let resume = anna.begin(Class::Operator, Kind::Usual);
    let pause = anna.begin(Class::Operator, Kind::Stop);

    assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 32);
    assert!(watching.iter().all(Result::is_ok));
    assert!(resume.is_err());
    assert!(pause.is_ok());
}
