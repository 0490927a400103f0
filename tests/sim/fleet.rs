//! Fleets: the plans that are lived through, and the mail that lies on their nodes.
//!
//! # Invariants
//!
//! * A fleet is made once and only looked at.
//! * Every message has a number of its own over the whole fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_core::fleet::{JobNumber, MailboxNumber, NodeNumber, Ordinal};
use tidegate_core::gate::{GatePolicy, Mode};
use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::plan::{Plan, plan};
use tidegate_core::policy::Window;
use tidegate_core::policy::calendar::{AtEnd, Bearing, Rule};
use tidegate_core::policy::{
    Cohort, Delays, EmergencyProfile, Growth, Limits, Notice, Policy, Rung, Selector,
};
use tidegate_core::rollout::Scope;
use tidegate_core::time::{Span, Timestamp};
use tidegate_mail::Mailbox;

use crate::chance::Chance;
use crate::disk::EPOCH;
use crate::mailroom::{Box_, Letter, Room};

/// Rungs of every ladder: receive, webmail, mail.
pub(crate) const LEVELS: u8 = 3;

/// The service that mail is delivered by, on the first rung.
pub(crate) const RECEIVE: &str = "lmtp";

/// How different fleets are.
#[derive(Clone, Copy, Debug)]
struct Shape {
    nodes: u32,
    mailboxes: u32,
    beat: u64,
    lease: u64,
    window: u16,
    delays: [u64; 2],
    dial_tone: bool,
    first_soak: u64,
    /// What the end of each half an hour's window does, if there are windows.
    at_end: Option<AtEnd>,
}

const SHAPES: [Shape; 4] = [
    Shape {
        nodes: 3,
        mailboxes: 30,
        beat: 10,
        lease: 45,
        window: 6,
        delays: [0, 0],
        dial_tone: false,
        first_soak: 10,
        at_end: None,
    },
    Shape {
        nodes: 2,
        mailboxes: 24,
        beat: 5,
        lease: 30,
        window: 3,
        delays: [90, 0],
        dial_tone: false,
        first_soak: 10,
        at_end: None,
    },
    Shape {
        nodes: 4,
        mailboxes: 32,
        beat: 15,
        lease: 60,
        window: 50,
        delays: [60, 120],
        dial_tone: false,
        first_soak: 10,
        at_end: Some(AtEnd::Hold),
    },
    Shape {
        nodes: 3,
        mailboxes: 24,
        beat: 10,
        lease: 40,
        window: 4,
        delays: [30, 60],
        dial_tone: true,
        first_soak: 0,
        at_end: Some(AtEnd::Freeze),
    },
];

/// One fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) plan: Arc<Plan>,
    pub(crate) beat: u64,
    pub(crate) lease: u64,
    pub(crate) nodes: Vec<String>,
    /// Where each mailbox is, by its number.
    pub(crate) places: Vec<Place>,
    /// The other way round.
    pub(crate) by_place: BTreeMap<(JobNumber, Ordinal), usize>,
    pub(crate) by_key: BTreeMap<u64, usize>,
}

/// Where one mailbox is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) mailbox: MailboxNumber,
    pub(crate) node: usize,
    pub(crate) job: JobNumber,
    pub(crate) ordinal: Ordinal,
    pub(crate) address: String,
    pub(crate) key: u64,
}

impl Fleet {
    /// All fleets.
    pub(crate) fn all() -> Vec<Arc<Self>> {
        SHAPES.iter().map(|shape| Arc::new(Self::new(*shape))).collect()
    }

    fn new(shape: Shape) -> Self {
        let plan = Arc::new(small_plan(shape));
        let inventory = plan.inventory();
        let numbers = (0..inventory.len()).map(MailboxNumber::new);
        let places: Vec<Place> = numbers
            .filter_map(|mailbox| {
                let (job, ordinal) = plan.place(mailbox)?;
                let node = plan.jobs().get(job.index())?.node.index();
                let (address, path) =
                    (inventory.address(mailbox), inventory.path(mailbox));
                let address = address.to_owned();
                let key = Mailbox::key_of(path.as_bytes());
                Some(Place { mailbox, node, job, ordinal, address, key })
            })
            .collect();
        let index = || places.iter().enumerate();
        Self {
            beat: shape.beat * 1_000,
            lease: shape.lease * 1_000,
            nodes: inventory.node_names().to_vec(),
            by_place: index().map(|(at, it)| ((it.job, it.ordinal), at)).collect(),
            by_key: index().map(|(at, it)| (it.key, at)).collect(),
            plan: Arc::clone(&plan),
            places,
        }
    }

    /// The mailboxes of a part of the rollout.
    pub(crate) fn members(&self, scope: Scope) -> Vec<usize> {
        let jobs = self.plan.jobs();
        let named = |it: &Place| match scope {
            Scope::Wave(wave) => jobs[it.job.index()].wave == wave,
            Scope::Node(node) => it.node == node.index(),
            Scope::Mailbox(mailbox) => it.mailbox == mailbox,
        };
        (0..self.places.len()).filter(|at| named(&self.places[*at])).collect()
    }

    /// The wave of a mailbox.
    pub(crate) fn wave(&self, at: usize) -> usize {
        self.plan.jobs()[self.places[at].job.index()].wave.index()
    }

    pub(crate) fn node_number(node: usize) -> NodeNumber {
        NodeNumber::new(u16::try_from(node).unwrap())
    }

    /// The mail of one node after the storage broke and was repaired.
    pub(crate) fn room(
        &self,
        node: usize,
        chance: &mut Chance,
        letters: &mut u32,
    ) -> Room {
        let mut room = Room::default();
        for (at, place) in
            self.places.iter().enumerate().filter(|(_, it)| it.node == node)
        {
            let owner = u32::try_from(at).unwrap();
            let address = place.address.clone();
            let mut mailbox = Box_ { owner, address, ..Box_::default() };
            mailbox.dead = chance.one_in(25);
            for _ in 0..chance.between(1, 4) {
                *letters += 1;
                break_something(&mut mailbox, *letters, owner, chance);
            }
            mailbox.ever = mailbox.live.iter().map(|letter| letter.id).collect();
            mailbox.stamp = room.next_stamp();
            room.boxes.insert(place.key, mailbox);
        }
        room
    }
}

/// One message of the days before, and what has become of it.
fn break_something(mailbox: &mut Box_, id: u32, owner: u32, chance: &mut Chance) {
    let sound = Letter { id, owner, sound: true };
    let broken = Letter { sound: false, ..sound };
    let (live, snapshot) = match chance.below(10) {
        // As it was.
        0..=3 => (Some(sound), Some(sound)),
        // Newer than the snapshot.
        4 => (Some(sound), None),
        5 => (Some(broken), None),
        6 | 7 => (Some(broken), Some(sound)),
        8 => (None, Some(sound)),
        _ => (Some(broken), Some(broken)),
    };
    mailbox.live.extend(live);
    mailbox.snapshot.extend(snapshot);
    if live == Some(sound) || snapshot == Some(sound) {
        mailbox.due.insert(id);
    }
}

fn small_plan(shape: Shape) -> Plan {
    let mut inventory = InventoryBuilder::default();
    for index in 0..shape.mailboxes {
        let (address, path) = (format!("u{index}@example.org"), format!("u{index}"));
        let node = format!("n{}", index % shape.nodes);
        let tier = if index % 5 == 0 { "business" } else { "free" };
        let (address, node, path) = (&*address, &*node, &*path);
        inventory.push(Row { address, node, tier, path, labels: &[] }).unwrap();
    }
    plan(&Arc::new(inventory.finish().unwrap()), &Arc::new(policy(shape))).unwrap()
}

/// Twenty-five minutes of every half an hour, after which nobody is let in, or all is frozen.
fn half_hours(at_end: AtEnd) -> Rule {
    let begin = |place: u64| Timestamp::from_millis(EPOCH + place * 1_800_000);
    // Wall clocks jump by days, back and forth.
    let from = (0..8_000_u64).map(|place| begin(place) - Span::from_secs(4_000 * 1_800));
    let spans = from.map(|from| Window { from, to: from + Span::from_secs(1_500) });
    Rule {
        name: "half-hours".to_owned(),
        bearing: Bearing::default(),
        words: "half-hours".to_owned(),
        opens: true,
        at_end,
        spans: spans.collect(),
    }
}

fn policy(shape: Shape) -> Policy {
    let mut gate = GatePolicy::DEFAULT;
    gate.mode = Mode::EveryMailbox { failures_max: 2 };
    gate.soak = Span::from_secs(60);
    gate.report_age_max = Span::from_secs(shape.beat * 3);
    gate.unknown_after = Span::from_secs(240);
    let rung = |name: &str, service: &str, soak: Option<u64>| Rung {
        name: name.to_owned(),
        services: vec![service.to_owned()],
        soak: soak.map(Span::from_secs),
    };
    let dial_tone = if shape.dial_tone { vec![RECEIVE.to_owned()] } else { Vec::new() };
    let cohort = |name: &str, select, canary, [webmail, mail]: [u64; 2]| {
        let delays = [("webmail", webmail), ("mail", mail)];
        let delays = delays.map(|(rung, secs)| (rung.to_owned(), Span::from_secs(secs)));
        Cohort {
            name: name.to_owned(),
            select,
            canary,
            growth: Growth::new(200),
            wave_max: 20,
            delays: Delays::from(delays),
            expected: None,
            dial_tone: dial_tone.clone(),
        }
    };
    let business = Selector { tiers: vec!["business".to_owned()], ..Selector::default() };
    let [one, two] = shape.delays;
    Policy {
        name: "sim".to_owned(),
        ladder: vec![
            rung("receive", RECEIVE, Some(shape.first_soak)),
            rung("webmail", "webmail", None),
            rung("mail", "imap", Some(30)),
        ],
        cohorts: vec![
            cohort("business", business, 20, [0, one]),
            cohort("all", Selector::everybody(), 9, [two / 2, two]),
        ],
        exclude: Vec::new(),
        gate,
        limits: Limits {
            permit_window: shape.window,
            lease: Span::from_secs(shape.lease),
            beat: Span::from_secs(shape.beat),
            prepare_ahead: 6,
            open_per_second: 4,
            ..Limits::default()
        },
        notice: Notice::default(),
        calendar: shape.at_end.map(half_hours).into_iter().collect(),
        emergency: Some(EmergencyProfile { soak: Span::from_secs(20), alpha: None }),
        hash_seed: "sim".to_owned(),
    }
}
