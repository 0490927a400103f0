//! The hall: who is connected to a listener, what for, and whose turn it is.
//!
//! ```text
//! arrived ─▶ stranger ─▶ worker          by its first call, and by a report that was taken
//!        ├─▶ reader ───▶ operator
//!        └─▶ exchanger
//! ```
//!
//! # Invariants
//!
//! * Each class of connections has places and calls of its own, so that a flood in one takes
//!   nothing from another.
//! * In a full class whoever has been idle the longest makes room; where nobody is idle,
//!   whoever comes is refused.
//! * Whoever keeps us waiting in the middle of a call is cut, the sooner the fuller it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::fleet::NodeNumber;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::caller::Caller;
use crate::refused::Refused;

/// A connection says what it wants within this time: clients connect when they call.
const FIRST_CALL_WITHIN: Duration = Duration::from_secs(10);

/// The same where no file descriptor is left for others: a handshake and a call over a far
/// network. Cut any sooner, everybody in a crowd would be taken in and nobody heard.
const FIRST_CALL_WITHIN_IF_FULL: Duration = Duration::from_secs(1);

/// A call's request comes, or its answer is taken, within this time: the description of the
/// largest job over a slow network.
const TURN_MAX: Duration = Duration::from_secs(30);

/// The same where others find no room for their calls.
const TURN_MAX_IF_FULL: Duration = Duration::from_secs(1);

/// What a connection is there for, the weightier later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// It has not said.
    Arrived,
    /// Somebody reads.
    Reader,
    /// A mail exchanger follows.
    Exchanger,
    /// Somebody calls as workers do.
    Stranger,
    /// An operator acts.
    Operator,
    /// The worker of a node.
    Worker,
}

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It ends by itself.
    Usual,
    /// It has no end.
    Watch,
    /// It stops or closes: it has places that nothing else takes.
    Stop,
}

/// How much of a class there is room for.
struct Capacity {
    class: Class,
    /// Its connections, for people who are refused.
    connections: &'static str,
    /// Its calls.
    calls: &'static str,
    connections_max: usize,
    calls_max: usize,
    /// Calls of one connection.
    calls_of_one_max: usize,
    /// Calls that stay, besides.
    watches_max: usize,
    /// Calls that stop, besides.
    stops_max: usize,
}

/// What is sent in one call is bounded by the limits of messages: at most a megabyte for
/// workers, a quarter of it for others; an answer has at most four megabytes.
const CAPACITIES: [Capacity; 6] = [
    Capacity {
        class: Class::Arrived,
        connections: "connections without a call",
        calls: "calls",
        connections_max: 256,
        calls_max: 0,
        calls_of_one_max: 0,
        watches_max: 0,
        stops_max: 0,
    },
    // A thousand dashboards and terminals, and others who look now and then.
    Capacity {
        class: Class::Reader,
        connections: "readers' connections",
        calls: "readers' calls",
        connections_max: 1_200,
        calls_max: 64,
        calls_of_one_max: 8,
        watches_max: 1_064,
        stops_max: 0,
    },
    Capacity {
        class: Class::Exchanger,
        connections: "exchangers' connections",
        calls: "exchangers' calls",
        connections_max: 300,
        calls_max: 64,
        calls_of_one_max: 4,
        watches_max: 256,
        stops_max: 0,
    },
    // Workers before their first report; reading what they send costs a processor, so few at a
    // time.
    Capacity {
        class: Class::Stranger,
        connections: "connections of workers that have not reported yet",
        calls: "calls of workers that have not reported yet",
        connections_max: 256,
        calls_max: 16,
        calls_of_one_max: 2,
        watches_max: 0,
        stops_max: 0,
    },
    Capacity {
        class: Class::Operator,
        connections: "operators' connections",
        calls: "operators' calls",
        connections_max: 64,
        calls_max: 32,
        calls_of_one_max: 4,
        watches_max: 0,
        stops_max: 128,
    },
    // A worker reports and fetches beside it.
    Capacity {
        class: Class::Worker,
        connections: "workers' connections",
        calls: "workers' calls",
        connections_max: 1_024,
        calls_max: 1_024,
        calls_of_one_max: 4,
        watches_max: 0,
        stops_max: 0,
    },
];

/// Connections of one node's worker: one that has died may seem to be there for a while.
const CONNECTIONS_OF_A_WORKER_MAX: usize = 2;

/// File descriptors that are not for connections: the journal, the runtime, listeners.
const OWN_DESCRIPTORS: usize = 32;

/// The fewest connections of a class where descriptors are scarce.
const CONNECTIONS_MIN: usize = 2;

/// Everybody who is connected to one listener.
pub(crate) struct Hall {
    /// In the order of [`CAPACITIES`].
    rooms: Vec<Room>,
    next_id: AtomicU64,
}

/// Everybody of one class.
struct Room {
    capacity: &'static Capacity,
    connections_max: usize,
    seats: Mutex<BTreeMap<u64, Arc<Seat>>>,
    calls: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    stops: Arc<Semaphore>,
    refused: AtomicU64,
    cut: AtomicU64,
}

/// One connection.
struct Seat {
    id: u64,
    /// Held while it changes its class, so that it is never in two.
    is_gone: Mutex<bool>,
    activity: Mutex<Activity>,
    cut: Mutex<Option<oneshot::Sender<()>>>,
}

/// What goes on in a connection.
struct Activity {
    class: Class,
    /// The node whose worker has reported over it.
    works: Option<NodeNumber>,
    /// Calls under way: since when it is the client's turn, if it is.
    calls: BTreeMap<u64, Option<Instant>>,
    watches: usize,
    next_call: u64,
    idle_since: Instant,
}

impl Hall {
    /// A hall for so many open files.
    pub(crate) fn new(descriptors: usize) -> Arc<Self> {
        let all: usize = CAPACITIES.iter().map(|it| it.connections_max).sum();
        let room_for = descriptors.saturating_sub(OWN_DESCRIPTORS).min(all);
        let rooms = CAPACITIES.iter().map(|capacity| Room {
            capacity,
            connections_max: (capacity.connections_max * room_for / all)
                .max(CONNECTIONS_MIN),
            seats: Mutex::default(),
            calls: Arc::new(Semaphore::new(capacity.calls_max)),
            watches: Arc::new(Semaphore::new(capacity.watches_max)),
            stops: Arc::new(Semaphore::new(capacity.stops_max)),
            refused: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        });
        Arc::new(Self { rooms: rooms.collect(), next_id: AtomicU64::new(0) })
    }

    /// Somebody has connected. The second is ready when the connection must go.
    pub(crate) fn arrive(self: &Arc<Self>) -> (Peer, oneshot::Receiver<()>) {
        let (cut, must_go) = oneshot::channel();
        let seat = Arc::new(Seat {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            is_gone: Mutex::new(false),
            activity: Mutex::new(Activity {
                class: Class::Arrived,
                works: None,
                calls: BTreeMap::new(),
                watches: 0,
                next_call: 0,
                idle_since: Instant::now(),
            }),
            cut: Mutex::new(Some(cut)),
        });
        if let Some(room) = self.room(Class::Arrived) {
            // Whoever has arrived is idle, so there is always somebody who makes room.
            drop(room.admit(&seat));
        }
        (Peer { hall: Arc::clone(self), seat, caller: Caller::Local }, must_go)
    }

    /// Lets go the connection that has said nothing for the longest, if that is long enough.
    pub(crate) fn make_room(&self) {
        if let Some(room) = self.room(Class::Arrived) {
            room.cut_idlest(&mut lock(&room.seats), FIRST_CALL_WITHIN_IF_FULL);
        }
    }

    /// How many were refused or cut since this was asked last, of each class that had some.
    pub(crate) fn turned_away(&self) -> Vec<(Class, u64, u64)> {
        let counts = self.rooms.iter().map(|room| {
            let refused = room.refused.swap(0, Ordering::Relaxed);
            (room.capacity.class, refused, room.cut.swap(0, Ordering::Relaxed))
        });
        counts.filter(|(_, refused, cut)| refused + cut > 0).collect()
    }

    fn room(&self, class: Class) -> Option<&Room> {
        self.rooms.iter().find(|room| room.capacity.class == class)
    }
}

impl Room {
    fn admit(&self, seat: &Arc<Seat>) -> Result<(), Refused> {
        let mut seats = lock(&self.seats);
        if seats.len() >= self.connections_max
            && !self.cut_idlest(&mut seats, Duration::ZERO)
        {
            return Err(self.full(self.capacity.connections, self.connections_max));
        }
        seats.insert(seat.id, Arc::clone(seat));
        Ok(())
    }

    /// Cuts whoever has been idle the longest, and for `idle_min`. Says whether somebody was.
    fn cut_idlest(
        &self,
        seats: &mut BTreeMap<u64, Arc<Seat>>,
        idle_min: Duration,
    ) -> bool {
        let idle = seats.values().filter_map(|seat| Some((seat.idle_since()?, seat.id)));
        let idlest = idle.min().filter(|(since, _)| since.elapsed() >= idle_min);
        let Some((_, id)) = idlest else { return false };
        if let Some(seat) = seats.remove(&id) {
            self.cut(&seat);
        }
        true
    }

    /// Cuts older connections of the worker of `node`, so that one worker that has gone mad
    /// takes no room from others.
    fn keep_few_of(&self, node: NodeNumber, but: &Seat) {
        let seats = lock(&self.seats);
        let of_node = seats
            .values()
            .rev()
            .filter(|seat| seat.id != but.id && lock(&seat.activity).works == Some(node));
        for seat in of_node.skip(CONNECTIONS_OF_A_WORKER_MAX - 1) {
            self.cut(seat);
        }
    }

    /// Cuts whoever keeps others from calling.
    fn cut_slowest(&self) {
        let seats = lock(&self.seats);
        let turns =
            seats.values().filter_map(|seat| Some((seat.their_turn_since()?, seat)));
        if let Some((since, seat)) = turns.min_by_key(|(since, _)| *since)
            && since.elapsed() >= TURN_MAX_IF_FULL
        {
            self.cut(seat);
        }
    }

    fn cut(&self, seat: &Seat) {
        self.cut.fetch_add(1, Ordering::Relaxed);
        seat.cut();
    }

    fn full(&self, what: &'static str, max: usize) -> Refused {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Refused::Full { what, max }
    }
}

impl Seat {
    fn cut(&self) {
        // Whoever has gone needs no farewell.
        drop(lock(&self.cut).take());
    }

    fn idle_since(&self) -> Option<Instant> {
        let activity = lock(&self.activity);
        let is_idle = activity.calls.is_empty() && activity.watches == 0;
        is_idle.then_some(activity.idle_since)
    }

    fn their_turn_since(&self) -> Option<Instant> {
        lock(&self.activity).calls.values().flatten().min().copied()
    }
}

/// Whoever is at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    hall: Arc<Hall>,
    seat: Arc<Seat>,
    caller: Caller,
}

impl Peer {
    /// The same, once it is known who it is.
    pub(super) fn known_as(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// Who it is.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Begins a call of `class`.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`].
    pub(super) fn begin(&self, class: Class, kind: Kind) -> Result<Call, Refused> {
        let class = self.settle(class, kind)?;
        let room = self.hall.room(class).ok_or(Refused::Stopping)?;
        let Capacity {
            calls, calls_max, calls_of_one_max, watches_max, stops_max, ..
        } = *room.capacity;
        let (places, what, max, of_one_max) = match kind {
            Kind::Usual => (&room.calls, calls, calls_max, calls_of_one_max),
            Kind::Watch => (&room.watches, "watchers", watches_max, usize::MAX),
            Kind::Stop => (&room.stops, "stops", stops_max, calls_of_one_max * 2),
        };
        if lock(&self.seat.activity).calls.len() >= of_one_max {
            return Err(room.full("calls of this connection", of_one_max));
        }
        let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
            room.cut_slowest();
            return Err(room.full(what, max));
        };
        let mut activity = lock(&self.seat.activity);
        let id = (kind != Kind::Watch).then_some(activity.next_call);
        activity.next_call += 1;
        match id {
            Some(id) => drop(activity.calls.insert(id, Some(Instant::now()))),
            None => activity.watches += 1,
        }
        drop(activity);
        Ok(Call { seat: Arc::clone(&self.seat), id, _permit: permit })
    }

    /// The worker of `node` has reported over this connection.
    pub(crate) fn is_worker_of(&self, node: NodeNumber) {
        if lock(&self.seat.activity).works.replace(node) == Some(node) {
            return;
        }
        if let Some(room) = self.hall.room(Class::Worker) {
            room.keep_few_of(node, &self.seat);
        }
        // Where there is no room it stays what it is.
        drop(self.move_to(Class::Worker));
    }

    /// Ends the connection.
    pub(crate) fn cut(&self) {
        let class = lock(&self.seat.activity).class;
        if let Some(room) = self.hall.room(class) {
            room.cut(&self.seat);
        }
    }

    /// Whether it has kept us waiting for too long.
    pub(super) fn is_overdue(&self) -> bool {
        let activity = lock(&self.seat.activity);
        let says_nothing = activity.class == Class::Arrived
            && activity.idle_since.elapsed() >= FIRST_CALL_WITHIN;
        let mut turns = activity.calls.values().flatten();
        says_nothing || turns.any(|since| since.elapsed() >= TURN_MAX)
    }

    /// The connection has gone.
    pub(super) fn leave(&self) {
        let mut is_gone = lock(&self.seat.is_gone);
        *is_gone = true;
        let class = lock(&self.seat.activity).class;
        if let Some(room) = self.hall.room(class) {
            lock(&room.seats).remove(&self.seat.id);
        }
    }

    /// The class that a call of `class` counts for; the connection moves to it if that is
    /// weightier than what it was there for.
    fn settle(&self, class: Class, kind: Kind) -> Result<Class, Refused> {
        let now = lock(&self.seat.activity).class;
        if class > now {
            let moved = self.move_to(class);
            // Whoever has a place already keeps it, and whoever stops needs none.
            if now == Class::Arrived && kind != Kind::Stop {
                moved?;
            }
        }
        Ok(if class == Class::Stranger && now == Class::Worker { now } else { class })
    }

    fn move_to(&self, class: Class) -> Result<(), Refused> {
        let is_gone = lock(&self.seat.is_gone);
        let before = lock(&self.seat.activity).class;
        if before == class || *is_gone {
            return Ok(());
        }
        self.hall.room(class).ok_or(Refused::Stopping)?.admit(&self.seat)?;
        lock(&self.seat.activity).class = class;
        if let Some(room) = self.hall.room(before) {
            lock(&room.seats).remove(&self.seat.id);
        }
        Ok(())
    }
}

/// A call under way, until its answer has been taken.
pub(super) struct Call {
    seat: Arc<Seat>,
    /// None of one that stays.
    id: Option<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Call {
    /// Marks the request as received when it is dropped: from then on it is our turn.
    pub(super) fn receiving(&self) -> Receiving {
        Receiving(Arc::new(Received { seat: Arc::clone(&self.seat), id: self.id }))
    }

    /// The answer is there: it is the client's turn.
    pub(super) fn answers(&self) {
        set_turn(&self.seat, self.id, Some(Instant::now()));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut activity = lock(&self.seat.activity);
        match self.id {
            Some(id) => drop(activity.calls.remove(&id)),
            None => activity.watches -= 1,
        }
        activity.idle_since = Instant::now();
    }
}

/// Travels with a request until whoever serves it has taken its message.
#[derive(Clone)]
pub(super) struct Receiving(
    #[expect(dead_code, reason = "dropping it tells")] Arc<Received>,
);

struct Received {
    seat: Arc<Seat>,
    id: Option<u64>,
}

impl Drop for Received {
    fn drop(&mut self) {
        set_turn(&self.seat, self.id, None);
    }
}

fn set_turn(seat: &Seat, id: Option<u64>, theirs_since: Option<Instant>) {
    let mut activity = lock(&seat.activity);
    if let Some(turn) = id.and_then(|id| activity.calls.get_mut(&id)) {
        *turn = theirs_since;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
