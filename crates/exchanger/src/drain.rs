//! Drain: which queued messages to hand back for delivery, when, and how many a second.
//!
//! ```text
//! a mailbox opens ─▶ its wave awakes ─▶ one listing of the queue ─▶ messages planned by node
//!                         ▲                    │                          │ at the node's pace
//!                         └── still some ──────┴─ none left ─▶ sleeps     ▼ handed back
//! ```
//!
//! # Invariants
//!
//! * The queue is listed for whole waves, never for a mailbox; listing takes at most a small
//!   share of the time.
//! * A message is handed back only when a mailbox of its recipients takes mail; for its other
//!   recipients it is handed back again when they open.
//! * Nothing is remembered over a restart: the next listing finds all of it again.
//! * Memory is bounded, however long the queue is: what does not fit is found by the next
//!   listing.

mod pace;
mod tally;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::time::Timestamp;
use tidegate_mailserver::queue::{Place, QueueId, Queued};
use tidegate_wire::exchanger::{QueueReport, WaveQueue};

use crate::view::View;
use pace::Pace;
use tally::{Recent, Tally};

/// Milliseconds since the program started.
pub(crate) type Millis = u64;

/// Postfix answers from what it looked up before for half a minute: a message that came in
/// that time may have been put aside although its mailbox was open. A wave sleeps only after
/// a listing that began so long after its last opening.
const SETTLED_AFTER: Millis = 35_000;

/// A message that was handed back so recently is being delivered.
const UNDER_WAY: Millis = 5_000;

/// Listings in short order: as soon as people notice a difference.
const PAUSE_MIN: Millis = 2_000;

/// Without openings the queue is listed this often, to say how much waits.
const CENSUS_PAUSE_MIN: Millis = 15_000;

/// After a listing that failed, and a message that the mail server did not take.
const FAILED_PAUSE: Millis = 5_000;

/// Listing again and again takes at most one part in so many of the time.
const LISTING_SHARE: Millis = 10;

/// A message that came back so often is left to the mail server, which tries it in its own
/// rhythm: a full mailbox, for example.
const TRIES_MAX: u8 = 3;

/// Messages planned, parked or remembered at once: some hundred megabytes at most.
const REMEMBERED_MAX: usize = 500_000;

/// Drains one queue into the mailboxes of one view.
#[derive(Debug)]
pub(crate) struct Drain {
    view: Arc<View>,
    per_second_max: u32,
    waves: Vec<Wave>,
    nodes: Vec<Node>,
    /// Messages for mailboxes that are held, of waves that are opening.
    parked: BTreeSet<(MailboxNumber, QueueId)>,
    /// Messages handed back that may still be there.
    tried: HashMap<QueueId, Try>,
    listing: Option<Tally>,
    listed: Listed,
    /// Nothing is handed back until then: the mail server did not take the last one.
    failed_until: Millis,
    /// The node that comes next, so that each has its turn.
    turn: usize,
}

/// What is known of the last listings.
#[derive(Debug, Default)]
struct Listed {
    began: Millis,
    began_at: Timestamp,
    ended: Millis,
    failed: bool,
    /// Of the last one that came to its end.
    tally: Option<Tally>,
    at: Timestamp,
}

#[derive(Debug, Default)]
struct Wave {
    /// The newest opening in it, while there may be messages for its open mailboxes.
    awake_since: Option<Millis>,
    /// The first of these openings.
    woke_at: Millis,
    /// When its mailboxes opened, those that did while it was awake.
    opened: HashMap<MailboxNumber, Millis>,
    /// It awoke after the last listing began.
    is_new: bool,
    flushed: u64,
    recent: Recent,
}

#[derive(Debug)]
struct Node {
    planned: BTreeMap<QueueId, Planned>,
    pace: Pace,
}

/// For whom a message is to be handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Planned {
    /// One of its recipients that take mail.
    mailbox: MailboxNumber,
    /// All of them.
    whom: u64,
}

/// A message that was handed back.
#[derive(Debug)]
struct Try {
    at: Millis,
    times: u8,
    /// For which mailboxes: another set of them makes it another try.
    whom: u64,
    /// Its coming back has been counted.
    is_counted: bool,
    is_seen: bool,
}

/// A message to hand back now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flush {
    /// The message.
    pub(crate) id: QueueId,
    planned: Planned,
}

/// A message of a listing, with whom it is for.
#[derive(Debug)]
pub(crate) struct Found {
    id: QueueId,
    place: Place,
    arrived_unix: i64,
    recipients: Vec<MailboxNumber>,
}

impl Found {
    /// What `queued` is to `view`.
    pub(crate) fn of(queued: &Queued<'_>, view: &View, delimiters: &str) -> Self {
        let find = |address: &str| {
            view.directory().find_recipient(&lower_case(address), delimiters)
        };
        let recipients = queued.recipients.iter().filter_map(|it| find(&it.address));
        Self {
            id: queued.id,
            place: queued.place,
            arrived_unix: queued.arrived_unix,
            recipients: recipients.collect(),
        }
    }
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

impl Drain {
    /// A drain into the mailboxes of `view`, of at most so many messages a second to one
    /// node. Whatever is open already may have messages that wait for it.
    pub(crate) fn new(view: Arc<View>, per_second_max: u32, now: Millis) -> Self {
        let directory = Arc::clone(view.directory());
        let mut waves = Vec::new();
        waves.resize_with(directory.waves().len(), Wave::default);
        let node = |_: &String| Node { planned: BTreeMap::new(), pace: Pace::new(now) };
        let nodes = directory.nodes().iter().map(node).collect();
        let mut drain = Self {
            view,
            per_second_max,
            waves,
            nodes,
            parked: BTreeSet::new(),
            tried: HashMap::new(),
            listing: None,
            listed: Listed::default(),
            failed_until: 0,
            turn: 0,
        };
        let all = (0..).take(directory.len()).map(MailboxNumber::new);
        let open: BTreeSet<WaveNumber> = all
            .filter(|mailbox| drain.view.receives(*mailbox))
            .filter_map(|mailbox| directory.wave(mailbox))
            .collect();
        for wave in open {
            drain.awake(wave, now);
        }
        drain
    }

    /// The view it drains into.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Mailboxes have opened.
    pub(crate) fn opened(&mut self, mailboxes: &[MailboxNumber], now: Millis) {
        let mut remembered: usize = self.waves.iter().map(|wave| wave.opened.len()).sum();
        for mailbox in mailboxes {
            if let Some(wave) = self.view.directory().wave(*mailbox) {
                self.awake(wave, now);
                if let Some(wave) = self.waves.get_mut(wave.index())
                    && remembered < REMEMBERED_MAX
                {
                    remembered +=
                        usize::from(wave.opened.insert(*mailbox, now).is_none());
                }
            }
            let nobody = QueueId::FIRST;
            let waiting = self.parked.range((*mailbox, nobody)..);
            let waiting: Vec<_> =
                waiting.take_while(|(of, _)| of == mailbox).copied().collect();
            for parked in waiting {
                self.parked.remove(&parked);
                let whom = fingerprint(&[*mailbox]);
                self.plan(parked.1, Planned { mailbox: *mailbox, whom });
            }
        }
    }

    fn awake(&mut self, wave: WaveNumber, now: Millis) {
        if let Some(wave) = self.waves.get_mut(wave.index()) {
            if wave.awake_since.is_none() {
                wave.is_new = true;
                wave.woke_at = now;
            }
            wave.awake_since = Some(now);
        }
    }

    /// Since when `mailbox` has been open, as far as that is remembered: at the longest since
    /// the first opening for which its wave awoke.
    fn open_since(&self, mailbox: MailboxNumber) -> Millis {
        let wave = self.view.directory().wave(mailbox);
        let Some(wave) = wave.and_then(|wave| self.waves.get(wave.index())) else {
            return 0;
        };
        wave.opened.get(&mailbox).copied().unwrap_or(wave.woke_at)
    }

    fn is_awake(&self, mailbox: MailboxNumber) -> bool {
        let wave = self.view.directory().wave(mailbox);
        let wave = wave.and_then(|wave| self.waves.get(wave.index()));
        wave.is_some_and(|wave| wave.awake_since.is_some())
    }

    fn plan(&mut self, id: QueueId, planned: Planned) {
        let node = self.view.directory().node(planned.mailbox);
        let remembered: usize = self.nodes.iter().map(|node| node.planned.len()).sum();
        if let Some(node) = self.nodes.get_mut(node.index())
            && remembered < REMEMBERED_MAX
        {
            node.planned.insert(id, planned);
        }
    }

    /// When the queue is to be listed next; nothing while it is being listed.
    pub(crate) fn listing_due(&self) -> Option<Millis> {
        if self.listing.is_some() {
            return None;
        }
        let Listed { began, ended, failed, .. } = self.listed;
        if failed {
            return Some(ended + FAILED_PAUSE);
        }
        if self.listed.tally.is_none() {
            return Some(0);
        }
        let took = ended.saturating_sub(began);
        let after = |pause_min: Millis, share: Millis| {
            ended.saturating_add(pause_min.max(took.saturating_mul(share)))
        };
        let awake = self.waves.iter().any(|wave| wave.awake_since.is_some());
        let planned = self.nodes.iter().any(|node| !node.planned.is_empty());
        Some(if self.waves.iter().any(|wave| wave.is_new) {
            after(PAUSE_MIN, 1)
        } else if awake && !planned {
            after(PAUSE_MIN, LISTING_SHARE)
        } else {
            after(CENSUS_PAUSE_MIN, 2 * LISTING_SHARE)
        })
    }

    /// A listing begins.
    pub(crate) fn begin_listing(&mut self, now: Millis, at: Timestamp) {
        self.listing = Some(Tally::new(self.waves.len()));
        self.listed.began = now;
        self.listed.began_at = at;
        self.parked.clear();
        self.waves.iter_mut().for_each(|wave| wave.is_new = false);
        self.tried.values_mut().for_each(|tried| tried.is_seen = false);
    }

    /// A message of the listing.
    pub(crate) fn list(&mut self, found: &Found) {
        let Some(mut tally) = self.listing.take() else { return };
        let open: Vec<MailboxNumber> = found
            .recipients
            .iter()
            .copied()
            .filter(|mailbox| self.view.receives(*mailbox))
            .collect();
        tally.count(found.arrived_unix, &found.recipients, &self.view);
        if found.place == Place::Deferred {
            for held in found.recipients.iter().filter(|it| !self.view.receives(**it)) {
                if self.is_awake(*held) && self.parked.len() < REMEMBERED_MAX {
                    self.parked.insert((*held, found.id));
                }
            }
        }
        if !open.is_empty() {
            self.list_open(found, &open, &mut tally);
        }
        self.listing = Some(tally);
    }

    /// A message of which some recipients take mail.
    fn list_open(&mut self, found: &Found, open: &[MailboxNumber], tally: &mut Tally) {
        let directory = self.view.directory();
        let waves = open.iter().filter_map(|mailbox| directory.wave(*mailbox));
        let waves: BTreeSet<WaveNumber> = waves.collect();
        let first = open.iter().copied().find(|mailbox| self.is_awake(*mailbox));
        match (self.chance(found, open), first) {
            (Chance::Try, Some(mailbox)) => {
                self.wait(found, open, &waves, tally);
                let whom = fingerprint(open);
                self.plan(found.id, Planned { mailbox, whom });
            }
            (Chance::UnderWay, Some(_)) => self.wait(found, open, &waves, tally),
            // The mail server tries what came to a mailbox that had long been open.
            (Chance::Left, Some(_)) | (Chance::Try | Chance::Left, None) => {
                tally.leave(&waves);
            }
            (Chance::Nothing, _) | (Chance::UnderWay, None) => {}
        }
    }

    /// Counts a message that could be delivered to `open` mailboxes, and for how long it has
    /// waited since it came and they opened.
    fn wait(
        &self,
        found: &Found,
        open: &[MailboxNumber],
        waves: &BTreeSet<WaveNumber>,
        tally: &mut Tally,
    ) {
        let arrived = u64::try_from(found.arrived_unix).unwrap_or_default();
        let here =
            self.listed.began_at.millis().saturating_sub(arrived.saturating_mul(1_000));
        let awake = open.iter().copied().filter(|mailbox| self.is_awake(*mailbox));
        let waits = awake.map(|mailbox| {
            let open = self.listed.began.saturating_sub(self.open_since(mailbox));
            (self.view.directory().node(mailbox), open.min(here))
        });
        tally.wait(waves, waits);
    }

    /// What can be done for the open recipients of a message.
    fn chance(&mut self, found: &Found, open: &[MailboxNumber]) -> Chance {
        match found.place {
            Place::Deferred => {}
            Place::Active | Place::Incoming => return Chance::UnderWay,
            // Put aside by a person.
            Place::Hold | Place::Other => return Chance::Nothing,
        }
        let Some(tried) = self.tried.get_mut(&found.id) else { return Chance::Try };
        tried.is_seen = true;
        if tried.at.saturating_add(UNDER_WAY) > self.listed.began {
            return Chance::UnderWay;
        }
        let whom = fingerprint(open);
        if tried.whom != whom {
            // Those that it was handed back for have got it.
            (tried.whom, tried.times) = (whom, 0);
        } else if !tried.is_counted {
            tried.is_counted = true;
            let node = open.first().map(|mailbox| self.view.directory().node(*mailbox));
            let node = node.and_then(|node| self.nodes.get_mut(node.index()));
            if let Some(node) = node {
                node.pace.came_back();
            }
        }
        if tried.times < TRIES_MAX { Chance::Try } else { Chance::Left }
    }

    /// The listing ended at `at`; complete or not.
    pub(crate) fn end_listing(&mut self, complete: bool, now: Millis, at: Timestamp) {
        let Some(tally) = self.listing.take() else { return };
        let began = self.listed.began;
        (self.listed.ended, self.listed.failed) = (now, !complete);
        if !complete {
            return;
        }
        self.tried.retain(|_, tried| tried.is_seen || tried.at >= began);
        self.nodes.iter_mut().for_each(|node| node.pace.listed());
        for (wave, waiting) in self.waves.iter_mut().zip(tally.waiting()) {
            let settled = |since: Millis| began >= since.saturating_add(SETTLED_AFTER);
            if wave.awake_since.is_some_and(settled) && waiting == 0 {
                wave.awake_since = None;
                wave.opened.clear();
            }
        }
        self.listed.tally = Some(tally);
        self.listed.at = at;
    }

    /// A message to hand back now, if the pace of any node allows one.
    pub(crate) fn next_flush(&mut self, now: Millis) -> Option<Flush> {
        if now < self.failed_until {
            return None;
        }
        let nodes = self.nodes.len();
        for step in 0..nodes {
            let at = (self.turn + step) % nodes;
            let number = NodeNumber::new(u16::try_from(at).unwrap_or(u16::MAX));
            let permitted = self.view.storage(number).deliveries_per_second;
            let permitted = permitted.min(self.per_second_max);
            let Some(node) = self.nodes.get_mut(at) else { continue };
            if node.planned.is_empty() || !node.pace.spend(permitted, now) {
                continue;
            }
            let Some((id, planned)) = node.planned.pop_first() else { continue };
            if !self.view.receives(planned.mailbox) {
                // Re-closed in the meantime.
                self.parked.insert((planned.mailbox, id));
                continue;
            }
            self.turn = at + 1;
            return Some(Flush { id, planned });
        }
        None
    }

    /// Whether anything is planned.
    pub(crate) fn is_planned(&self) -> bool {
        self.nodes.iter().any(|node| !node.planned.is_empty())
    }

    /// A message was handed back, or the mail server did not take it.
    pub(crate) fn flushed(&mut self, flush: Flush, taken: bool, now: Millis) {
        let Flush { id, planned } = flush;
        let Planned { mailbox, whom } = planned;
        if !taken {
            self.failed_until = now.saturating_add(FAILED_PAUSE);
            self.plan(id, planned);
            return;
        }
        let node = self.view.directory().node(mailbox);
        if let Some(node) = self.nodes.get_mut(node.index()) {
            node.pace.handed_back();
        }
        let wave = self.view.directory().wave(mailbox);
        if let Some(wave) = wave.and_then(|wave| self.waves.get_mut(wave.index())) {
            wave.flushed = wave.flushed.saturating_add(1);
            wave.recent.count(now);
        }
        if let Some(tried) = self.tried.get_mut(&id) {
            let before = if tried.whom == whom { tried.times } else { 0 };
            (tried.at, tried.whom, tried.is_counted) = (now, whom, false);
            tried.times = before.saturating_add(1);
        } else if self.tried.len() < REMEMBERED_MAX {
            let (times, is_counted, is_seen) = (1, false, true);
            self.tried.insert(id, Try { at: now, times, whom, is_counted, is_seen });
        }
    }

    /// What waits, once the queue has been listed.
    pub(crate) fn report(&self, exchanger: &str, now: Millis) -> Option<QueueReport> {
        let tally = self.listed.tally.as_ref()?;
        let numbers = (0..).map(WaveNumber::new);
        let waves = numbers.zip(&self.waves).map(|(number, wave)| WaveQueue {
            flushed: wave.flushed,
            flushed_per_second: wave.recent.per_second(now),
            ..tally.of(number)
        });
        Some(QueueReport {
            exchanger: exchanger.to_owned(),
            plan: self.view.directory().plan(),
            listed_at: self.listed.at,
            waves: waves.filter(is_worth_telling).collect(),
            elsewhere_messages: tally.elsewhere(),
            nodes: tally.waits(now.saturating_sub(self.listed.ended)),
        })
    }
}

/// What can be done for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chance {
    /// Hand it back.
    Try,
    /// It is being delivered.
    UnderWay,
    /// It came back too often.
    Left,
    /// A person has put it aside.
    Nothing,
}

fn is_worth_telling(queue: &WaveQueue) -> bool {
    queue.messages > 0 || queue.flushed > 0
}

/// The same for the same mailboxes in any order, another for others almost surely.
fn fingerprint(mailboxes: &[MailboxNumber]) -> u64 {
    let mixed = mailboxes.iter().map(|mailbox| {
        let number = u64::from(mailbox.get()) + 1;
        let number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (number ^ number >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    });
    mixed.fold(0, u64::wrapping_add)
}

/// How long a listing may take: minutes for millions of messages.
pub(crate) const LISTING_TIME_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests;
