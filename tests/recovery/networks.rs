//! Networks: the road between coordinator and workers is cut, one-way, lossy, narrow or slow.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use tidegate_rig::{FreePorts, LOOPBACK};

use crate::fleet::{self, Fleet, Ground, Roads, Which};
use crate::machine::{self, Need, Network};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_node_that_is_cut_off_opens_nothing_more_and_comes_back,
    a_node_that_is_heard_and_not_answered_opens_nothing_more,
    a_node_that_hears_and_is_not_heard_opens_no_more_than_it_was_permitted,
    a_road_that_loses_every_fifth_packet_is_only_slower,
    a_narrow_road_is_only_slower,
    a_slow_road_is_only_slower,
];

/// Where the coordinator listens inside its network.
const PORT: u16 = 7443;

/// How long a faulty road stays so.
const FAULTY: Duration = Duration::from_secs(6);

fn a_node_that_is_cut_off_opens_nothing_more_and_comes_back() {
    let faults = Faults::of("network: one node cut off beyond its lease");
    cut(&faults, &|network| {
        network.drop_in();
        network.drop_out();
    });
}

fn a_node_that_is_heard_and_not_answered_opens_nothing_more() {
    let faults = Faults::of("network: one-way, coordinator to node cut");
    cut(&faults, &Network::drop_out);
}

fn a_node_that_hears_and_is_not_heard_opens_no_more_than_it_was_permitted() {
    let faults = Faults::of("network: one-way, node to coordinator cut");
    cut(&faults, &Network::drop_in);
}

/// Cuts the first node off and demands that its openings end with its lease.
fn cut(faults: &Faults, rules: &dyn Fn(&Network)) {
    let Some((network, mut fleet)) = fleet_apart(faults, 41) else { return };
    fleet.wait("the node is open", |fleet| !fleet.admitted_on(0).is_empty());

    rules(&network);
    faults.injected(1);
    std::thread::sleep(fleet::LEASE + fleet::LEASE);
    let open = fleet.admitted_on(0);
    std::thread::sleep(fleet::LEASE);
    let later = fleet.admitted_on(0);
    network.heal();

    assert!(!open.is_empty(), "what was open has been closed");
    assert_eq!(open, later, "something opened without a lease");
    fleet.account(faults);
    faults.survived(1);
}

fn a_road_that_loses_every_fifth_packet_is_only_slower() {
    let faults = Faults::of("network: a fifth of all packets lost");
    faulty(&faults, 42, &|network| {
        network.rule("in numgen random mod 100 < 20 drop");
        network.rule("out numgen random mod 100 < 20 drop");
    });
}

fn a_narrow_road_is_only_slower() {
    let faults = Faults::of("network: 64 kbit/s");
    faulty(&faults, 43, &|network| network.narrow(64));
}

fn faulty(faults: &Faults, seed: u64, rules: &dyn Fn(&Network)) {
    let Some((network, mut fleet)) = fleet_apart(faults, seed) else { return };
    rules(&network);
    faults.injected(1);
    std::thread::sleep(FAULTY);
    network.heal();

    fleet.account(faults);
    faults.survived(1);
}

/// A fleet whose coordinator has a network of its own, with a road for the first worker alone.
fn fleet_apart(faults: &Faults, seed: u64) -> Option<(Network, Fleet)> {
    let needs = [Need::Root, Need::Tool("nft", "--version"), Need::Tool("tc", "-V")];
    let network = match machine::lacks(&needs) {
        Some(lack) => Err(lack),
        None => Network::laid(),
    };
    let network = network.map_err(|lack| faults.skipped(&lack)).ok()?;
    let mut ground = Ground::small(seed);
    ground.roads = Some(Roads {
        listen: format!("127.0.0.1:{PORT}"),
        to_all: format!("{}:{PORT}", network.to_all()),
        to_first: format!("{}:{PORT}", network.to_first()),
    });
    ground.secured = true;
    let words = network.words().map(str::to_owned).to_vec();
    ground.before.insert(Which::Coordinator, words);
    let fleet = Fleet::on(ground);
    Some((network, fleet))
}

fn a_slow_road_is_only_slower() {
    let faults = Faults::of("network: 500 ms each way, in order");
    let [port] = FreePorts::take(1).hand_over();
    let free = format!("{LOOPBACK}:{port}");
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ground = Ground::small(44);
    ground.roads = Some(Roads {
        listen: free.clone(),
        to_all: free.clone(),
        to_first: slow.local_addr().unwrap().to_string(),
    });
    let to = free;
    std::thread::spawn(move || {
        for near in slow.incoming().flatten() {
            // The coordinator may not listen yet: then the worker comes again.
            let Ok(far) = TcpStream::connect(&to) else { continue };
            carry_slowly(near.try_clone().unwrap(), far.try_clone().unwrap());
            carry_slowly(far, near);
        }
    });
    let mut fleet = Fleet::on(ground);
    faults.injected(1);

    fleet.account(&faults);
    faults.survived(1);
}

/// Carries bytes from one end to the other, each a while after it came, in order.
fn carry_slowly(mut from: TcpStream, mut to: TcpStream) {
    /// Half a lease for each answer: descriptions must not wait for a share of one.
    const DELAY: Duration = Duration::from_millis(500);
    // Both ends are bounded: a connection has at most its window on the way.
    let (send, parts) = std::sync::mpsc::sync_channel(4_096);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16_384];
        while let Ok(length) = from.read(&mut buffer) {
            let part = buffer.get(..length).unwrap().to_vec();
            if length == 0 || send.send((std::time::Instant::now(), part)).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((came, part)) = parts.recv() {
            std::thread::sleep(DELAY.saturating_sub(came.elapsed()));
            if to.write_all(&part).is_err() {
                break;
            }
        }
        // The other end may have gone already.
        let _gone = to.shutdown(Shutdown::Both);
    });
}
