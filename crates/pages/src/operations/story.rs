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

/// As many as people read.
const SHOWN_MAX: usize = 40;

/// What was set aside is counted anew this often: each count asks for thousands.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// What is told without anybody having done it.
const NOTABLE: [&str; 5] =
    ["level-allowed", "expanded", "node-isolated", "halted", "finished"];

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    /// When, in seconds since 1970.
    pub(super) at: i64,
    /// The code of what happened.
    pub(super) code: String,
    /// What, and who did it.
    pub(super) text: String,
}

/// What was set aside for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// The reason's code.
    pub(super) code: String,
    /// How many findings.
    pub(super) count: u64,
    /// On which nodes.
    pub(super) nodes: Vec<String>,
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
}

/// What is known of the story so far.
#[derive(Default)]
pub(super) struct Story(Mutex<Kept>, tokio::sync::Mutex<()>);

#[derive(Default)]
struct Kept {
    /// Where the last page begins, and how many of it are known.
    token: String,
    known: usize,
    deeds: VecDeque<Deed>,
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
        Told {
            deeds: kept.deeds.iter().rev().cloned().collect(),
            asides: kept.asides.clone(),
            more: kept.more,
        }
    }

    async fn count<R: ProgressService>(&self, readers: &R, sender: &Extensions) {
        let mut counts: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
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
                if finding.kind() != v1::FindingKind::Doubt {
                    let (count, nodes) = counts.entry(finding.code).or_default();
                    *count += 1;
                    nodes.insert(found.node);
                }
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let aside = |(code, (count, nodes)): (String, (u64, BTreeSet<String>))| Aside {
            code,
            count,
            nodes: nodes.into_iter().collect(),
        };
        let mut asides: Vec<Aside> = counts.into_iter().map(aside).collect();
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
            let text = nameless(&event.text);
            self.deeds.push_back(Deed { at, code: event.code, text });
            if self.deeds.len() > SHOWN_MAX {
                self.deeds.pop_front();
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
    fn whose_mailbox_was_closed_is_not_told() {
        assert_eq!(
            nameless("mailbox anna@example.org re-closed by bob: asked"),
            "mailbox … re-closed by bob: asked"
        );
    }
}
