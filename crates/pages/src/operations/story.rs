//! The story: what people and the gate did, newest first, for all pages together.
//!
//! # Invariants
//!
//! * It asks only for what is new, and for a bounded part of it at a time.
//! * It names no mailbox.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Extensions;
use tidegate_wire::protocol::instant;
use tidegate_wire::v1;
use tidegate_wire::v1::progress_service_server::ProgressService;

use super::call;
use crate::windows::unix;

/// As many as a contract's page has.
const PAGE_SIZE: u32 = 1_000;

/// Pages asked for at once: a screen that was opened in the middle of a rollout catches up over
/// some renewals.
const PAGES_AT_ONCE: usize = 10;

/// As many as people read of what people did, and of what came by itself.
const DEEDS_MAX: usize = 40;
const TURNS_MAX: usize = 20;

/// As many waves as have their times remembered: more are on no screen.
const WAVES_MAX: usize = 4_096;

/// What was set aside is counted anew this often: each count asks for thousands.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// What is told without anybody having done it.
const NOTABLE: [&str; 5] =
    ["level-allowed", "expanded", "node-isolated", "halted", "finished"];

/// What tells how long a wave goes on; each names it first.
const STAYS: [&str; 3] = ["level-allowed", "expanded", "overridden"];

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    /// When, in seconds since 1970.
    pub(super) at: i64,
    /// The how manieth it is of all that is told.
    place: u64,
    /// The code of what happened.
    pub(super) code: String,
    /// What, and who did it.
    pub(super) text: String,
    /// Whether somebody did it; else it came by itself.
    pub(super) by_people: bool,
}

/// From when to when a wave has gone on, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stay {
    /// When something was allowed first.
    pub(super) from: i64,
    /// When something of it was decided last.
    pub(super) to: i64,
}

/// What was set aside for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// What was set aside.
    pub(super) part: Part,
    /// The reason's code.
    pub(super) code: String,
    /// How many findings.
    pub(super) count: u64,
    /// On which nodes.
    pub(super) nodes: Vec<String>,
}

/// What can be set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A message whose bytes are kept.
    Message,
    /// A message of which only the name is left.
    Lost,
    /// A whole mailbox.
    Mailbox,
    /// An opened mailbox, which failed its probe.
    Opened,
}

impl Part {
    /// What a finding of this kind is about; nothing if it sets nothing aside.
    fn of(kind: v1::FindingKind) -> Option<Self> {
        match kind {
            v1::FindingKind::SetAside => Some(Self::Message),
            v1::FindingKind::Lost => Some(Self::Lost),
            v1::FindingKind::Quarantined => Some(Self::Mailbox),
            v1::FindingKind::Probe => Some(Self::Opened),
            v1::FindingKind::Unspecified | v1::FindingKind::Doubt => None,
        }
    }
}

/// What is told beside the rollout.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Newest first.
    pub(super) deeds: Vec<Deed>,
    /// Most first.
    pub(super) asides: Vec<Aside>,
    /// Whether there are more findings than were counted.
    pub(super) more: bool,
    /// How long each wave has gone on, by its name.
    pub(super) stays: BTreeMap<String, Stay>,
}

/// What is known of the story so far.
#[derive(Default)]
pub(super) struct Story(Mutex<Kept>, tokio::sync::Mutex<()>);

#[derive(Default)]
struct Kept {
    /// Where the last page begins, and how many of it are known.
    token: String,
    known: usize,
    /// How many have been told.
    place: u64,
    deeds: VecDeque<Deed>,
    turns: VecDeque<Deed>,
    stays: BTreeMap<String, Stay>,
    asides: Vec<Aside>,
    more: bool,
    counted: Option<Instant>,
}

impl Story {
    /// Asks for what is new. Whatever is refused is told another time.
    pub(super) async fn follow<R: ProgressService>(
        &self,
        readers: &R,
        sender: &Extensions,
    ) {
        // Somebody else is asking: their answer will do.
        let Ok(_turn) = self.1.try_lock() else { return };
        for _ in 0..PAGES_AT_ONCE {
            let token = self.kept().token.clone();
            let request =
                v1::ListEventsRequest { page_size: PAGE_SIZE, page_token: token };
            let Ok(page) = readers.list_events(call(sender, request)).await else {
                break;
            };
            let page = page.into_inner();
            let next = page.next_page_token.clone();
            self.kept().learn(page);
            if next.is_empty() {
                break;
            }
        }
        let counted = self.kept().counted;
        if counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            self.count(readers, sender).await;
        }
    }

    /// What is known.
    pub(super) fn told(&self) -> Told {
        let kept = self.kept();
        let mut deeds: Vec<Deed> =
            kept.deeds.iter().chain(&kept.turns).cloned().collect();
        // Within a second, too, they stay in their order.
        deeds.sort_by_key(|it| it.place);
        deeds.reverse();
        Told {
            deeds,
            stays: kept.stays.clone(),
            asides: kept.asides.clone(),
            more: kept.more,
        }
    }

    async fn count<R: ProgressService>(&self, readers: &R, sender: &Extensions) {
        let mut counts: BTreeMap<(Part, String), (u64, BTreeSet<String>)> =
            BTreeMap::new();
        let mut token = String::new();
        for _ in 0..PAGES_AT_ONCE {
            let request = v1::ListFindingsRequest {
                page_size: PAGE_SIZE,
                page_token: token,
                ..Default::default()
            };
            let answer = readers.list_findings(call(sender, request)).await;
            let Ok(page) = answer else { return };
            let page = page.into_inner();
            for found in page.findings {
                let Some(finding) = found.finding else { continue };
                if let Some(part) = Part::of(finding.kind()) {
                    let (count, nodes) = counts.entry((part, finding.code)).or_default();
                    *count += 1;
                    nodes.insert(found.node);
                }
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let counts = counts.into_iter();
        let mut asides: Vec<Aside> = counts
            .map(|((part, code), (count, nodes))| {
                let nodes = nodes.into_iter().collect();
                Aside { part, code, count, nodes }
            })
            .collect();
        asides.sort_by_key(|it| std::cmp::Reverse(it.count));
        let mut kept = self.kept();
        kept.asides = asides;
        kept.more = !token.is_empty();
        kept.counted = Some(Instant::now());
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Each change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn learn(&mut self, page: v1::ListEventsResponse) {
        let count = page.events.len();
        for event in page.events.into_iter().skip(self.known) {
            if !is_told(&event.code, &event.by) {
                continue;
            }
            let at = unix(event.time.as_ref().and_then(instant)).unwrap_or_default();
            self.follow_wave(&event, at);
            let by_people = !event.by.is_empty();
            let text = nameless(&event.text);
            self.place += 1;
            let deed = Deed { at, place: self.place, code: event.code, text, by_people };
            // What the gate does all night pushes nobody's deeds off the screen.
            let (kept, max) = if by_people {
                (&mut self.deeds, DEEDS_MAX)
            } else {
                (&mut self.turns, TURNS_MAX)
            };
            kept.push_back(deed);
            if kept.len() > max {
                kept.pop_front();
            }
        }
        if page.next_page_token.is_empty() {
            self.known = count;
        } else {
            self.token = page.next_page_token;
            self.known = 0;
        }
    }
}

impl Kept {
    /// Remembers from when to when the wave of which `event` tells has gone on.
    fn follow_wave(&mut self, event: &v1::Event, at: i64) {
        if !STAYS.contains(&event.code.as_str()) {
            return;
        }
        let Some(name) = event.text.split('`').nth(1) else { return };
        if let Some(stay) = self.stays.get_mut(name) {
            stay.to = at;
        } else if self.stays.len() < WAVES_MAX {
            self.stays.insert(name.to_owned(), Stay { from: at, to: at });
        }
    }
}

/// Whether it belongs to the story: somebody did it, or it is notable all the same.
pub(crate) fn is_told(code: &str, by: &str) -> bool {
    !by.is_empty() || NOTABLE.contains(&code)
}

/// The text without addresses.
pub(crate) fn nameless(text: &str) -> String {
    let word = |word: &str| {
        if word.contains('@') { "…".to_owned() } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_on_from_where_they_ended_and_nothing_is_told_twice() {
        let mut kept = Kept::default();
        let event = |text: &str| v1::Event {
            code: "paused".to_owned(),
            text: text.to_owned(),
            by: "ann".to_owned(),
            time: None,
        };
        let page = |texts: &[&str], next: &str| v1::ListEventsResponse {
            events: texts.iter().map(|text| event(text)).collect(),
            next_page_token: next.to_owned(),
        };

        kept.learn(page(&["one", "two"], ""));
        kept.learn(page(&["one", "two", "three"], "3"));
        assert_eq!((kept.token.as_str(), kept.known), ("3", 0));
        kept.learn(page(&["four"], ""));
        kept.learn(page(&["four", "five"], ""));

        let told: Vec<&str> = kept.deeds.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(told, ["one", "two", "three", "four", "five"]);
    }

    #[test]
    fn what_the_gate_does_pushes_nobodys_deeds_off_and_a_wave_is_followed() {
        let mut kept = Kept::default();
        let event = |code: &str, text: &str, by: &str| v1::Event {
            code: code.to_owned(),
            text: text.to_owned(),
            by: by.to_owned(),
            time: None,
        };
        let mut events = vec![event("paused", "paused by ann", "ann")];
        for wave in 0..100 {
            let text = format!("wave `free-{wave}` may open level 1 (`receive`)");
            events.push(event("level-allowed", &text, ""));
        }
        events.push(event("resumed", "resumed by bob", "bob"));

        kept.learn(v1::ListEventsResponse { events, next_page_token: String::new() });

        let story = Story(Mutex::new(kept), tokio::sync::Mutex::default());
        let told = story.told();
        assert_eq!(told.deeds.len(), TURNS_MAX + 2);
        assert_eq!(told.deeds.first().unwrap().text, "resumed by bob");
        assert_eq!(told.deeds.last().unwrap().text, "paused by ann");
        assert_eq!(told.stays.len(), 100);
        assert_eq!(told.stays["free-7"], Stay { from: 0, to: 0 });
    }

    #[test]
    fn whose_mailbox_was_closed_is_not_told() {
        assert_eq!(
            nameless("mailbox anna@example.org re-closed by bob: asked"),
            "mailbox … re-closed by bob: asked"
        );
    }
}
