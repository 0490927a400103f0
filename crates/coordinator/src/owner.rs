//! The owner: one thread that holds the rollout and carries out every change of it.
//!
//! ```text
//! wait for a message, drain what queued ─▶ decide, apply (private) ─▶ one append, on disk
//!        ▲                                                                  │
//!        └────────────── reply, publish the view, log ◀─────────────────────┘
//! ```
//!
//! # Invariants
//!
//! * The state is private until it is durable: between `apply` and the end of the append
//!   nobody sees it, and no reply leaves. If the append fails, the program ends, so that
//!   nothing of the batch has ever become visible.
//! * Questions get the rollout to look at, never to change.
//! * A batch is bounded in messages and in bytes.
//! * Stops and workers' reports are taken before everything else that waits.
//! * What its caller has given up before it was decided is not done, unless it stops or closes.

mod act;
mod approvals;
mod emergency;
mod inbox;
mod knocking;
mod lanes;
mod origin;

use std::sync::Arc;

use tidegate_core::fleet::NodeNumber;
use tidegate_core::planted::{self, Bug};
use tidegate_core::rollout::{Event, Record, Rollout};
use tidegate_core::time::{Span, Timestamp};
use tidegate_journal::{AppendError, Log};
use tidegate_watchdog::Watchdog;
use tidegate_wire::record::encode_record;
use tokio::sync::watch;

use crate::events;
use crate::exchangers::{QueueAge, Queues, Receiving};
use crate::past::{self, Past, Plans};
use crate::refused::chain;
use crate::states::States;
use crate::view::View;
pub use act::Proposal;
pub(crate) use act::{Applied, Assent, Intent, Named, NamedVerb, find_wave, unknown};
use approvals::Approvals;
pub(crate) use approvals::{Asked, ONE_MAILBOX, Petition, Seen, command};
pub(crate) use emergency::EmergencyName;
pub(crate) use inbox::Inbox;
use inbox::{Known, Message};
use knocking::Knocking;
use lanes::Lanes;
use tidegate_clock::Clock;

/// What ends the program when its store fails: an input/output error, as `sysexits` says.
const EXIT_STORE_FAILED: i32 = 74;

/// The most messages of one batch: none of them waits long for the others.
const BATCH_MAX: usize = 256;

/// Bytes of records after which a batch is closed, far below what one append may have.
const BATCH_BYTES: usize = 8 << 20;

/// The most decisions of one tick; each opens at most one step, and the next tick goes on.
const STEPS_PER_TICK_MAX: usize = 64;

/// Digits of a plan's digest that tell rollouts apart in a log, as on screens.
const DIGEST_SHOWN: usize = 12;

/// Views without news in the story are published no more often than this.
const VIEW_AGE_MIN: Span = Span::from_millis(100);

/// Something to be done once the batch is durable.
type Reply = Box<dyn FnOnce() + Send>;

/// The newest view; nothing before a plan was applied.
pub(crate) type Views = watch::Receiver<Option<Arc<View>>>;

/// Holds the rollout.
pub(crate) struct Owner {
    // What it was given.
    plans: Box<dyn Plans>,
    journal: Box<dyn Log>,
    clock: Clock,

    // What comes in.
    messages: Waiting,

    // What goes out.
    views: watch::Sender<Option<Arc<View>>>,
    known: watch::Sender<Option<Arc<Known>>>,
    /// Starts that wait for a second person, until there is a rollout that says what waits.
    starting: watch::Sender<Vec<Petition>>,

    // What it remembers.
    rollout: Option<Rollout>,
    /// What readers see of every mailbox, once there are any.
    seen: Option<(Arc<Receiving>, Arc<States>)>,
    queue_age: QueueAge,
    knocking: Knocking,
    approvals: Approvals,
    published: Published,

    // The batch: what must be durable before anybody hears of it.
    payloads: Vec<Vec<u8>>,
    records: Vec<Record>,
    replies: Vec<Reply>,
    /// Something was taken that may be news for readers. Questions, workers that are refused and
    /// reports of nothing new are none: floods of them cost no views, and the next tick shows
    /// what they have changed.
    stirred: bool,
}

/// What waits for the owner; whoever waits for one that has gone is told so.
struct Waiting(Arc<Lanes>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The newest view that went out.
#[derive(Clone, Copy, Default)]
struct Published {
    at: Timestamp,
    story: usize,
}

impl Owner {
    /// The owner of what `past` left, the inbox to reach it, and its views.
    pub(crate) fn new(past: Past, queues: Queues) -> (Self, Inbox, Views) {
        let lanes = Lanes::new();
        let messages = Waiting(Arc::clone(&lanes));
        let (views, newest) = watch::channel(None);
        let (known, who_is_known) = watch::channel(None);
        let (starting, who_starts) = watch::channel(Vec::new());
        let mut owner = Self {
            plans: past.plans,
            journal: past.journal,
            clock: past.clock,
            messages,
            views,
            known,
            starting,
            rollout: past.rollout,
            seen: None,
            queue_age: QueueAge::of(queues),
            knocking: Knocking::default(),
            approvals: Approvals::after(past.asked),
            published: Published::default(),
            payloads: Vec::new(),
            records: Vec::new(),
            replies: Vec::new(),
            stirred: false,
        };
        owner.publish();
        owner.introduce();
        (owner, Inbox::new(lanes, (who_is_known, who_starts)), newest)
    }

    /// Serves until it is told to stop or nobody can reach it any more. Blocks.
    pub(crate) fn run(mut self) {
        let mut watchdog = Watchdog::from_environment();
        while let Some(first) = self.messages.0.next() {
            watchdog.feed(|| self.line());
            if watchdog.was_asked() {
                self.log_status();
            }
            #[cfg(debug_assertions)]
            hang_when_told();
            if let Err(error) = self.turn(first) {
                tracing::error!(
                    error = chain(&error),
                    "cannot record what was decided; nothing of it was told to \
                     anybody; free the disk or mend it, then start again"
                );
                std::process::exit(EXIT_STORE_FAILED);
            }
        }
    }

    /// What it is doing, on one line.
    fn line(&self) -> String {
        let view = self.views.borrow();
        view.as_ref()
            .map_or_else(|| "no plan has been applied".to_owned(), |it| it.line())
    }

    /// Says in the log how everything is.
    fn log_status(&self) {
        match self.views.borrow().as_ref() {
            Some(view) => view.log(),
            None => tracing::info!(what = self.line(), "status"),
        }
    }

    /// What waits, without waiting for it.
    pub(crate) fn waiting(&mut self) -> Option<Message> {
        self.messages.0.waiting()
    }

    /// One turn of the loop: a batch that begins with `first`.
    ///
    /// # Errors
    ///
    /// The batch could not be recorded, nobody has heard of it, and the program must end.
    pub(crate) fn turn(&mut self, first: Message) -> Result<(), AppendError> {
        self.take(first);
        let mut taken = 1;
        while taken < BATCH_MAX
            && self.payloads.iter().map(Vec::len).sum::<usize>() < BATCH_BYTES
            && let Some(next) = self.waiting()
        {
            self.take(next);
            taken += 1;
        }
        self.settle()?;
        if let Some(rollout) = &self.rollout {
            past::compact(&*self.journal, rollout, self.clock.now());
        }
        Ok(())
    }

    /// What its clock shows, for whoever turns the owner.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The rollout, for whoever turns the owner.
    pub(crate) fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    /// Takes one message into the batch.
    fn take(&mut self, message: Message) {
        if message.was_given_up() {
            return;
        }
        let now = self.clock.now();
        self.stirred |= match &message {
            Message::Join { .. } | Message::Sync { .. } | Message::Ask(_) => false,
            Message::Tick
            | Message::Operate { .. }
            | Message::Approve { .. }
            | Message::Apply { .. }
            | Message::External { .. } => true,
        };
        match message {
            Message::Tick => self.tick(now),
            Message::Join { joining, to } => {
                let answer = self.join(joining, now);
                self.reply(to, answer);
            }
            Message::Sync { sync, to } => {
                let answer = self.sync(*sync, now);
                self.reply(to, answer);
            }
            Message::Operate { intent, to } => {
                let answer = self.operate(intent, now);
                self.reply(to, answer);
            }
            Message::Approve { assent, to } => {
                let answer = self.approve(assent, now);
                self.reply(to, answer);
            }
            Message::Apply { proposal, to } => {
                let answer = self.apply_plan(*proposal, now);
                self.reply(to, answer);
            }
            Message::Ask(question) => {
                self.replies.push(question(self.rollout.as_ref(), now));
            }
            Message::External { name, answer } => {
                if let Some(rollout) = &mut self.rollout {
                    rollout.hear_external(name, answer, now);
                }
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        if let Some(rollout) = &self.rollout {
            self.queue_age.count(rollout, now);
        }
        for _ in 0..STEPS_PER_TICK_MAX {
            let Some(rollout) = &self.rollout else { return };
            let step = rollout.decide(&Event::Tick, now);
            if step.records.is_empty() {
                return;
            }
            self.remember(step.records);
        }
    }

    /// Makes `records` part of the private state and of the batch.
    fn remember(&mut self, records: Vec<Record>) {
        let Some(rollout) = &mut self.rollout else { return };
        for record in records {
            self.payloads.push(encode_record(&record));
            rollout.apply(&record);
            self.records.push(record);
        }
    }

    fn reply<T: Send + 'static>(
        &mut self,
        to: tokio::sync::oneshot::Sender<T>,
        answer: T,
    ) {
        // Whoever has stopped waiting asks again.
        self.replies.push(Box::new(move || drop(to.send(answer))));
    }

    /// Makes the batch durable; only then does anybody hear of it.
    fn settle(&mut self) -> Result<(), AppendError> {
        if planted::is(Bug::ReplyBeforeRecord) {
            self.replies.drain(..).for_each(|reply| reply());
        }
        let skipped = planted::is(Bug::SkipFlush) && self.payloads.len() == 1;
        if !self.payloads.is_empty() && !skipped {
            self.journal.append(&self.payloads)?;
        }
        self.payloads.clear();
        if let Some(rollout) = &self.rollout
            && !self.records.is_empty()
        {
            let digest = rollout.plan().digest().to_string();
            let rollout_id = digest.get(..DIGEST_SHOWN).unwrap_or(&digest);
            let _span = tracing::info_span!("rollout", rollout_id).entered();
            self.records.iter().for_each(|record| events::log(record, rollout.plan()));
            if let Some((receiving, states)) = &self.seen {
                receiving.follow(rollout, &self.records);
                states.follow(rollout, &self.records);
            }
        }
        let changes_workers = self.known.borrow().is_none()
            || self.records.iter().any(|it| matches!(it, Record::NodeJoined { .. }));
        let news = std::mem::take(&mut self.stirred) || !self.records.is_empty();
        self.records.clear();
        if news {
            self.publish();
        }
        if changes_workers {
            self.introduce();
        }
        self.replies.drain(..).for_each(|reply| reply());
        Ok(())
    }

    /// Tells the border who works which node, before any of them hears that it may.
    fn introduce(&self) {
        let Some(rollout) = &self.rollout else { return };
        let plan = Arc::clone(rollout.plan());
        let nodes = (0_u16..).take(plan.inventory().node_names().len());
        let workers = nodes.map(|node| rollout.worker_of(NodeNumber::new(node)));
        let known = Known { workers: workers.collect(), plan };
        self.known.send_replace(Some(Arc::new(known)));
    }

    /// Shows what is now durable, if it is news or the last view is old.
    fn publish(&mut self) {
        debug_assert!(self.payloads.is_empty(), "only what is durable is shown");
        let now = self.clock.now();
        let Some(rollout) = &self.rollout else { return self.publish_starts(now) };
        let story = rollout.history().len();
        let first = self.views.borrow().is_none();
        let told = !first && self.published.story == story;
        if told && now.since(self.published.at) < VIEW_AGE_MIN {
            return;
        }
        self.published = Published { at: now, story };
        let (receiving, states) = self.seen.get_or_insert_with(|| seen(rollout));
        let kept = (Arc::clone(receiving), Arc::clone(states));
        let waiting = self.approvals.waiting(rollout.etag(), now).into_iter();
        let waiting = waiting.map(|it| (act::against(rollout, &it.what, now), it));
        let view = View::of(rollout, kept, now).waiting_for(waiting.collect());
        self.views.send_replace(Some(Arc::new(view)));
    }

    /// Shows who waits to start, before there is anything else to show.
    fn publish_starts(&self, now: Timestamp) {
        let newest = self.approvals.starting(now);
        self.starting.send_if_modified(|told| {
            let is_news = *told != newest;
            if is_news {
                *told = newest;
            }
            is_news
        });
    }
}

/// Where a test names a file: as long as it is there, nothing is decided, as with a disk that never
/// answers. Programs that are built for use cannot do it.
#[cfg(debug_assertions)]
fn hang_when_told() {
    let Some(file) = std::env::var_os("TIDEGATE_HANG_WHILE") else { return };
    while std::path::Path::new(&file).exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What readers see of every mailbox. Of millions it takes a while, and nobody is served before:
/// so both are made at once.
fn seen(rollout: &Rollout) -> (Arc<Receiving>, Arc<States>) {
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| Arc::new(Receiving::of(rollout)));
        let states = Arc::new(States::of(rollout));
        (receiving.join().expect("it only looks"), states)
    })
}
