//! What admission shows of a journal that may be an older state.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use tidegate_admission::{Ladder, Standing};
use tidegate_core::gate::PulseLimits;
use tidegate_core::holding::{Look, Outcome, ProbeTask, Settled};
use tidegate_core::pace::PacePolicy;
use tidegate_core::policy::Rung;
use tidegate_core::rollout::{MessageTotals, Order, Orders};
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;
use tidegate_journal::{AppendError, ReadError};
use tidegate_mail::Mailbox;
use tidegate_wire::worker::{JobMailbox, JobPart, NodeNotice};
use tidegate_wire::worker_record::{InPieces, encode_description};

use super::*;
use crate::description::Shelf;
use crate::hands::{Done, Hand, Task};
use crate::store::{Told, Under};

const JOB: JobNumber = JobNumber::new(3);
const JOURNALED: Generation = Generation::new(5);
const ADDRESS: &str = "ann@example.org";

#[derive(Debug, Default)]
struct Memory(Mutex<Vec<Vec<u8>>>);

impl Log for Memory {
    fn append(&self, payloads: &[Vec<u8>]) -> Result<u64, AppendError> {
        self.0.lock().unwrap().extend_from_slice(payloads);
        Ok(self.newest())
    }

    fn replay(
        &self,
    ) -> Box<dyn Iterator<Item = Result<tidegate_journal::Entry, ReadError>> + '_> {
        let all = self.0.lock().unwrap().clone();
        Box::new(
            (1..).zip(all).map(|(sequence, payload)| {
                Ok(tidegate_journal::Entry { sequence, payload })
            }),
        )
    }

    fn newest(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }
}

/// A shelf with one description.
#[derive(Debug, Default)]
struct OneShelf {
    turned_away: AtomicBool,
    is_full: AtomicBool,
}

impl OneShelf {
    fn has_note(&self) -> bool {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Shelf for OneShelf {
    fn keep(&self, _: JobNumber, _: [u8; 32], _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, _: JobNumber, _: [u8; 32]) -> io::Result<Vec<u8>> {
        let told = told();
        let mailboxes = told.mailboxes.iter().map(InPieces::from);
        Ok(encode_description(mailboxes, told.expected))
    }

    fn note_turned_away(&self, turned_away: bool) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.turned_away.store(turned_away, Ordering::Relaxed);
        Ok(())
    }

    fn was_turned_away(&self) -> io::Result<bool> {
        Ok(self.has_note())
    }
}

#[derive(Debug)]
struct Claimed {
    at: Arc<AtomicU64>,
    hears: bool,
}

impl Claimed {
    fn at(generation: u64, hears: bool) -> Self {
        Self { at: Arc::new(AtomicU64::new(generation)), hears }
    }
}

impl MailStore for Claimed {
    fn claim(&self, _: Under) -> anyhow::Result<bool> {
        Ok(true)
    }

    fn claimed(&self) -> anyhow::Result<BTreeMap<JobNumber, Generation>> {
        Ok(BTreeMap::from([(JOB, Generation::new(self.at.load(Ordering::Relaxed)))]))
    }

    fn hears(&self) -> bool {
        self.hears
    }

    fn prepare(
        &self,
        _: Under,
        _: Vec<(Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>> {
        Ok(Vec::new())
    }

    fn look(&self, _: Under, _: &[(Ordinal, Mailbox)]) -> Vec<(Ordinal, Look)> {
        Vec::new()
    }

    fn probe(
        &self,
        _: &[(ProbeTask, Mailbox)],
    ) -> Vec<(ProbeTask, Outcome, Option<Duration>)> {
        Vec::new()
    }

    fn free_share(&self) -> Option<Ppm> {
        None
    }
}

fn told() -> JobPart {
    let mailbox = JobMailbox {
        number: tidegate_core::fleet::MailboxNumber::new(0),
        address: ADDRESS.to_owned(),
        path: "ann".to_owned(),
        language: None,
    };
    JobPart { mailboxes: vec![mailbox], expected: None }
}

fn ladder() -> Vec<Rung> {
    let services = vec!["imap".to_owned()];
    vec![Rung { name: "mail".to_owned(), services, soak: None }]
}

/// A journal by which one mailbox stands open, and a store that was claimed at `claimed`.
fn recovered(claimed: u64) -> (Node, Doors, SyncSender<Input>) {
    let store = Claimed::at(claimed, false);
    let (node, doors, inbox, _) = recovered_on(store, Level::FIRST);
    (node, doors, inbox)
}

/// A journal by which one mailbox stands at `level`, and what its hands are given.
fn recovered_on(
    store: Claimed,
    level: Level,
) -> (Node, Doors, SyncSender<Input>, Receiver<Task>) {
    recovered_from(store, &Arc::default(), &entries(level))
}

/// The entries of a journal by which one mailbox stands at `level`.
fn entries(level: Level) -> Vec<Entry> {
    let description = Description::new(&told());
    let (job, generation, at) = (JOB, JOURNALED, Timestamp::from_millis(1));
    let ordinals = vec![Ordinal::new(0)];
    let settled = Settled {
        ordinal: Ordinal::new(0),
        stamp: Some([7; 16]),
        totals: MessageTotals::default(),
        findings: Vec::new(),
    };
    let digest = description.digest;
    let mut entries = vec![
        Entry::Joined(RolloutJoined {
            rollout: Digest::new([1; 32]),
            node: "n1".to_owned(),
            ladder: ladder(),
            notice: NodeNotice::default(),
            dial_services: Vec::new(),
        }),
        Entry::Record(Record::JobClaimed {
            job,
            generation,
            description: digest,
            mailboxes: 1,
            at,
        }),
        Entry::Record(Record::Settled { job, generation, mailboxes: vec![settled], at }),
    ];
    if level > Level::HELD {
        entries.push(Entry::Record(Record::Raised {
            job,
            generation,
            level,
            ordinals,
            at,
        }));
        entries.push(Entry::Shown(at));
    }
    entries
}

fn recovered_from(
    store: Claimed,
    shelf: &Arc<OneShelf>,
    entries: &[Entry],
) -> (Node, Doors, SyncSender<Input>, Receiver<Task>) {
    let journal = Memory::default();
    journal.append(&entries.iter().map(encode_entry).collect::<Vec<_>>()).unwrap();
    let doors = Doors::new(Ladder::default());
    let (inbox, inputs) = sync_channel(1);
    let (tasks, given_to_hands) = sync_channel(16);
    let given = Given {
        node: "n1".to_owned(),
        clock: Clock::start(),
        journal: Box::new(journal),
        doors: doors.clone(),
        shelf: Arc::<OneShelf>::clone(shelf),
        store: Arc::new(store),
        hands: Box::new(move |_| Hands::driven(&tasks)),
        listen: Box::new(|_| Pulses::default()),
    };
    (Node::recover(given, inputs).unwrap(), doors, inbox, given_to_hands)
}

fn joined() -> Input {
    let settings = NodeSettings {
        ladder: ladder(),
        soak: Span::from_secs(60),
        slow_after: Span::from_secs(1),
        open_per_second: 1,
        prepare_threads: 1,
        notice: NodeNotice::default(),
        dial_services: Vec::new(),
        pulse_limits: PulseLimits {
            every: Span::from_secs(60),
            limits: Default::default(),
        },
        pace: PacePolicy::DEFAULT,
    };
    Input::Joined(Box::new(Joined { rollout: Digest::new([1; 32]), settings }))
}

/// The coordinator's word on the job, under the generation of the journal.
fn heard(level: Level) -> Input {
    let order = Order {
        job: JOB,
        generation: JOURNALED,
        prepare: true,
        level,
        open_below: 0,
        named: Some(Vec::new()),
        held_back: Vec::new(),
        dial_tone: false,
        soak: None,
    };
    let jobs = vec![order];
    let orders = Orders {
        version: 9,
        may_open: false,
        jobs,
        open_millis_per_second: None,
        kept_back: None,
        recorded: 0,
    };
    Input::Heard(Box::new(Heard {
        confirmed: Vec::new(),
        orders,
        until: Timestamp::from_millis(u64::MAX),
    }))
}

const OPEN: Option<Standing> = Some(Standing::Level(1));
const SHUT: Option<Standing> = Some(Standing::Level(0));

#[test]
fn what_is_open_stays_open_over_a_restart_and_before_anybody_has_spoken() {
    let (mut node, doors, _inbox) = recovered(5);
    let at_once = doors.standing(ADDRESS);
    node.turn(vec![joined()]).unwrap();

    assert_eq!((at_once, doors.standing(ADDRESS)), (OPEN, OPEN));
    assert_eq!(node.remembered().journaled, 5);
    assert_eq!(node.remembered().store_claimed, JOURNALED);
}

#[test]
fn a_journal_older_than_its_store_s_claims_opens_nothing_before_its_orders_are_obeyed() {
    for (level, then) in [(Level::FIRST, OPEN), (Level::HELD, SHUT)] {
        let (mut node, doors, _inbox) = recovered(6);
        let at_once = doors.standing(ADDRESS);
        node.turn(vec![joined()]).unwrap();
        let welcomed = doors.standing(ADDRESS);
        node.turn(vec![heard(level)]).unwrap();

        assert_eq!((at_once, welcomed), (SHUT, SHUT));
        assert_eq!(doors.standing(ADDRESS), then);
    }
}

#[test]
fn whoever_was_turned_away_and_is_accepted_stays_shut_until_orders_are_obeyed() {
    for (level, then) in [(Level::FIRST, OPEN), (Level::HELD, SHUT)] {
        let (mut node, doors, _inbox) = recovered(5);
        node.turn(vec![Input::TurnedAway]).unwrap();
        let away = doors.standing(ADDRESS);
        node.turn(vec![joined()]).unwrap();
        let welcomed = doors.standing(ADDRESS);
        node.turn(vec![heard(level)]).unwrap();

        assert_eq!((away, welcomed), (SHUT, SHUT));
        assert_eq!(doors.standing(ADDRESS), then);
    }
}

#[test]
fn whoever_a_later_run_had_let_in_is_shut_out_when_the_older_state_is_accepted() {
    let hears = Claimed::at(JOURNALED.get(), true);
    let (mut node, _doors, _inbox, hands) = recovered_on(hears, Level::HELD);
    node.turn(vec![Input::TurnedAway]).unwrap();
    let journaled = node.remembered().journaled;
    let before = told_to(&hands);

    node.turn(vec![joined()]).unwrap();

    assert_eq!(before, [Level::HELD], "nobody has to be reached for that");
    assert_eq!(node.remembered().journaled, journaled + 1, "a restart goes on with it");
}

#[test]
fn a_state_that_is_turned_away_does_not_grow() {
    let hears = Claimed::at(JOURNALED.get(), true);
    let (mut node, _doors, _inbox, _hands) = recovered_on(hears, Level::FIRST);
    let journaled = node.remembered().journaled;

    for _ in 0..3 {
        node.turn(vec![Input::TurnedAway]).unwrap();
    }

    assert_eq!(node.remembered().journaled, journaled);
}

#[test]
fn what_an_older_state_has_open_is_shut_until_its_orders_open_it_again() {
    let hears = Claimed::at(JOURNALED.get(), true);
    let (mut node, _doors, _inbox, hands) = recovered_on(hears, Level::FIRST);
    node.turn(vec![Input::TurnedAway]).unwrap();
    let away = carried_out(&mut node, &hands);
    node.turn(vec![Input::TurnedAway]).unwrap();
    let still_away = carried_out(&mut node, &hands);

    node.turn(vec![joined()]).unwrap();
    let welcomed = carried_out(&mut node, &hands);
    node.turn(vec![heard(Level::FIRST)]).unwrap();
    let ordered = carried_out(&mut node, &hands);

    assert_eq!((away, still_away), (vec![Level::HELD], vec![]), "it is told once");
    assert_eq!(welcomed, [], "it waits for its orders");
    assert_eq!(ordered, [Level::FIRST], "it was shut out meanwhile");
}

#[test]
fn whoever_was_turned_away_starts_shut_until_its_orders_are_obeyed() {
    for level in [Level::FIRST, Level::HELD] {
        let shelf = Arc::<OneShelf>::default();
        let start = || {
            let store = Claimed::at(JOURNALED.get(), false);
            recovered_from(store, &shelf, &entries(Level::FIRST))
        };
        let (mut node, ..) = start();
        node.turn(vec![Input::TurnedAway]).unwrap();
        assert!(shelf.has_note());
        drop(node);

        let (mut node, doors, _inbox, _hands) = start();
        let started = doors.standing(ADDRESS);
        let journaled = node.remembered().journaled;
        node.turn(vec![]).unwrap();
        assert_eq!(node.remembered().journaled, journaled, "it does not grow");
        node.turn(vec![joined()]).unwrap();
        let welcomed = (doors.standing(ADDRESS), shelf.has_note());
        node.turn(vec![heard(level)]).unwrap();

        assert_eq!((started, welcomed), (SHUT, (SHUT, true)));
        assert!(!shelf.has_note(), "it goes by orders again");
        assert_eq!(
            doors.standing(ADDRESS),
            if level > Level::HELD { OPEN } else { SHUT }
        );
    }
}

#[test]
fn a_note_that_finds_no_room_is_written_when_it_is_turned_away_again() {
    let shelf = Arc::<OneShelf>::default();
    shelf.is_full.store(true, Ordering::Relaxed);
    let store = Claimed::at(JOURNALED.get(), false);
    let (mut node, doors, _inbox, _hands) =
        recovered_from(store, &shelf, &entries(Level::FIRST));
    node.turn(vec![Input::TurnedAway]).unwrap();
    let full = (doors.standing(ADDRESS), shelf.has_note());

    shelf.is_full.store(false, Ordering::Relaxed);
    node.turn(vec![Input::TurnedAway]).unwrap();

    assert_eq!((full, shelf.has_note()), ((SHUT, false), true));
}

#[test]
fn whoever_was_closed_when_the_worker_died_is_shut_out_before_it_has_joined() {
    let mut entries = entries(Level::FIRST);
    let (ordinals, at) = (vec![Ordinal::new(0)], Timestamp::from_millis(2));
    let (job, generation) = (JOB, JOURNALED);
    entries.push(Entry::Record(Record::Closed { job, generation, ordinals, at }));
    let store = Claimed::at(JOURNALED.get(), true);
    let (mut node, _doors, _inbox, hands) =
        recovered_from(store, &Arc::default(), &entries);
    let journaled = node.remembered().journaled;

    node.turn(vec![]).unwrap();
    let told = carried_out(&mut node, &hands);
    node.turn(vec![]).unwrap();

    assert_eq!(told, [Level::HELD]);
    assert_eq!(node.remembered().journaled, journaled, "nobody has looked at it yet");
    node.turn(vec![joined()]).unwrap();
    node.turn(vec![]).unwrap();
    assert_eq!(node.remembered().journaled, journaled + 1);
}

#[test]
fn what_an_older_state_has_open_is_told_to_whoever_gives_no_orders_before_all_is_told() {
    for welcomed_first in [false, true] {
        let hears = Claimed::at(JOURNALED.get(), true);
        let (mut node, _doors, _inbox, hands) = recovered_on(hears, Level::FIRST);
        node.turn(vec![Input::TurnedAway]).unwrap();
        if !welcomed_first {
            carried_out(&mut node, &hands);
        }
        node.turn(vec![joined()]).unwrap();
        carried_out(&mut node, &hands);

        let (reply, told) = tokio::sync::oneshot::channel();
        node.turn(vec![Input::Beat(reply)]).unwrap();
        let beat = told.blocking_recv().unwrap();

        let facts = beat.reports.iter().flat_map(|report| &report.facts);
        let levels: Vec<Level> = facts.map(|(_, state)| state.level).collect();
        assert_eq!((levels, beat.account.untold), (vec![Level::FIRST], 0));
    }
}

#[test]
fn whoever_was_given_up_while_it_stood_still_tells_nothing_of_what_it_remembers() {
    let (mut node, _doors, _inbox) = recovered(9);
    assert!(node.turn(vec![joined()]).is_ok(), "it lay there when it started");

    // As if another run had claimed since.
    node.store_claimed = JOURNALED;
    let ended = node.turn(vec![joined()]).unwrap_err();

    assert!(ended.to_string().contains("another worker has claimed"), "{ended:#}");
}

#[test]
fn what_it_has_had_orders_for_is_told_with_every_report() {
    let (mut node, _doors, _inbox) = recovered(9);
    node.turn(vec![joined()]).unwrap();
    let (reply, told) = tokio::sync::oneshot::channel();

    node.turn(vec![Input::Beat(reply)]).unwrap();

    let beat = told.blocking_recv().unwrap();
    assert_eq!(beat.account.store_claimed, Generation::new(9));
    assert_eq!(beat.claimed_max, JOURNALED, "nothing else is on record");
}

#[test]
fn whoever_works_in_vain_because_another_has_claimed_ends_and_asks_anew() {
    for (claimed, ends) in [(5, false), (9, true)] {
        let claims = Arc::new(AtomicU64::new(5));
        let store = Claimed { at: Arc::clone(&claims), hears: false };
        let (mut node, _doors, _inbox, hands) = recovered_on(store, Level::HELD);
        node.turn(vec![joined(), heard(Level::HELD)]).unwrap();
        let hand = Hand {
            store: Arc::clone(&node.given.store),
            shelf: Arc::<OneShelf>::default(),
        };
        let asks = |hands: &Receiver<Task>| {
            hands.try_iter().find(|task| matches!(task, Task::Claims))
        };
        let before = asks(&hands).is_some();

        // Another run claims, and what was in hand is not done.
        claims.store(claimed, Ordering::Relaxed);
        let looked = Done::Looked {
            job: JOB,
            generation: JOURNALED,
            tried: vec![Ordinal::new(0)],
            looks: Vec::new(),
        };
        node.measured_at = Timestamp::default();
        node.turn(vec![Input::Done(Box::new(looked))]).unwrap();
        let found = hand.carry_out(asks(&hands).unwrap());
        let ended = node.turn(vec![Input::Done(Box::new(found))]);

        assert!(!before, "nothing was in vain");
        assert_eq!(ended.is_err(), ends);
        assert!(asks(&hands).is_none(), "it is asked once");
    }
}

/// The levels that the mail system was told of, all of which it has done.
fn carried_out(node: &mut Node, hands: &Receiver<Task>) -> Vec<Level> {
    let tasks: Vec<Task> = hands.try_iter().collect();
    let mut levels = Vec::new();
    for task in tasks {
        let Task::Tell { telling, chosen } = task else { continue };
        levels.push(telling.level);
        let told = chosen.ordinals().into_iter().map(|it| (it, Told::Done)).collect();
        node.turn(vec![Input::Done(Box::new(Done::Told { telling, told }))]).unwrap();
    }
    levels
}

/// The levels that the mail system is to be told of.
fn told_to(hands: &Receiver<Task>) -> Vec<Level> {
    let tasks = hands.try_iter();
    let levels = tasks.filter_map(|task| {
        let Task::Tell { telling, .. } = task else { return None };
        Some(telling.level)
    });
    levels.collect()
}
