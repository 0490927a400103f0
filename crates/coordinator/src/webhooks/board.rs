//! Board: what one receiver was told, and what it should be told now.
//!
//! # Invariants
//!
//! * An alert is on the board while it is so, and after that until its end was taken.
//! * The board has room for a fixed number of alerts: of those that are over the oldest go first,
//!   and what is so comes in as soon as there is room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_core::time::Timestamp;
use tidegate_wire::v1;

use super::facts::{About, ENDED, Fact, ended, facts, plain};
use super::letter::{Alert, Letter};

/// Alerts that are so at once, and those that are over and were not taken yet: more than a
/// provider's nodes and waves make on a bad night, and less than receivers refuse.
const SO_MAX: usize = 1_000;
const OVER_MAX: usize = 1_000;

/// What tells an alert from others.
type Name = (&'static str, About);

/// What one receiver knows and should know.
pub(super) struct Board {
    link: String,
    advice: fn(&str) -> Option<String>,
    so: BTreeMap<Name, Entry>,
    over: VecDeque<Alert>,
    /// The waves that had ended at the last look; nothing before the first.
    ended: Option<BTreeSet<About>>,
    /// Rises with every letter.
    letters: u64,
}

struct Entry {
    alert: Alert,
    told: bool,
}

impl Board {
    pub(super) fn new(link: String, advice: fn(&str) -> Option<String>) -> Self {
        let (so, over) = (BTreeMap::new(), VecDeque::new());
        Self { link, advice, so, over, ended: None, letters: 0 }
    }

    /// Takes in how the rollout is.
    pub(super) fn look(&mut self, rollout: &v1::Rollout, now: Timestamp) {
        let facts = facts(rollout);
        let is_so: BTreeSet<Name> =
            facts.iter().map(|fact| (fact.code, fact.about.clone())).collect();
        let gone: Vec<Name> =
            self.so.keys().filter(|name| !is_so.contains(name)).cloned().collect();
        for name in gone {
            if let Some(Entry { alert, .. }) = self.so.remove(&name) {
                self.end(Alert { ends_at: Some(now), ..alert });
            }
        }
        for fact in facts {
            let name = (fact.code, fact.about.clone());
            if let Some(entry) = self.so.get_mut(&name) {
                // Its numbers are told with the next letter; they alone are no reason for one.
                entry.alert.summary = fact.text;
            } else if self.so.len() < SO_MAX {
                let alert = self.alert(&fact, rollout, now);
                self.so.insert(name, Entry { alert, told: false });
            }
        }
        let have_ended: Vec<Fact> = ended(rollout).collect();
        let names = have_ended.iter().map(|fact| fact.about.clone()).collect();
        // What had ended before the first look was told by whoever ran before.
        if let Some(before) = self.ended.replace(names) {
            let new = have_ended.iter().filter(|fact| !before.contains(&fact.about));
            for fact in new {
                let alert = self.alert(fact, rollout, now);
                self.end(Alert { ends_at: Some(now), ..alert });
            }
        }
    }

    /// Whether there is something that the receiver has not been told.
    pub(super) fn has_news(&self) -> bool {
        !self.over.is_empty() || self.so.values().any(|entry| !entry.told)
    }

    /// Whether there is nothing to tell at all.
    pub(super) fn is_empty(&self) -> bool {
        self.over.is_empty() && self.so.is_empty()
    }

    /// Everything that is so, and what is over.
    pub(super) fn letter(&mut self) -> Letter {
        self.letters += 1;
        let so = self.so.values().map(|entry| entry.alert.clone());
        let alerts = self.over.iter().cloned().chain(so).collect();
        Letter { alerts, over: self.over.len() }
    }

    /// The receiver has taken `letter`, the newest.
    pub(super) fn was_taken(&mut self, letter: &Letter) {
        // Nothing came between: the board looks only where no letter is under way.
        self.over.drain(..letter.over.min(self.over.len()));
        self.so.values_mut().for_each(|entry| entry.told = true);
    }

    fn end(&mut self, alert: Alert) {
        if self.over.len() >= OVER_MAX {
            self.over.pop_front();
        }
        self.over.push_back(alert);
    }

    fn alert(&self, fact: &Fact, rollout: &v1::Rollout, now: Timestamp) -> Alert {
        let plan = rollout.plan_digest.get(..12).unwrap_or_default();
        let mut labels = BTreeMap::from([
            ("alertname", alert_name(fact.code)),
            ("code", fact.code.to_owned()),
            ("severity", fact.severity.word().to_owned()),
            ("rollout", plain(&rollout.name)),
            ("plan", plan.to_owned()),
        ]);
        match &fact.about {
            About::Rollout => {}
            About::Wave(wave) => drop(labels.insert("wave", plain(wave))),
            About::Node(node) => drop(labels.insert("node", plain(node))),
        }
        Alert {
            labels,
            summary: fact.text.clone(),
            advice: (self.advice)(fact.code).unwrap_or_default(),
            starts_at: now,
            ends_at: None,
            link: self.link.clone(),
        }
    }
}

/// `worker-silent` is `TidegateWorkerSilent`; a wave's end has a name of its own.
fn alert_name(code: &str) -> String {
    let code = if code == ENDED { "wave-ended" } else { code };
    let words = code.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{}{rest}", first.to_uppercase())
    });
    format!("Tidegate{}", words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use tidegate_wire::v1::{RolloutState, WaveState};

    use super::*;

    fn rollout(state: RolloutState, wave: WaveState) -> v1::Rollout {
        let wave =
            v1::Wave { name: "a-1".to_owned(), state: wave.into(), ..Default::default() };
        v1::Rollout { state: state.into(), waves: vec![wave], ..Default::default() }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn told(letter: &Letter) -> Vec<(String, Option<Timestamp>)> {
        let alerts = letter.alerts.iter();
        alerts.map(|it| (it.labels["alertname"].clone(), it.ends_at)).collect()
    }

    #[test]
    fn an_alert_is_told_until_its_end_was_taken() {
        let mut board = Board::new(String::new(), |_| None);
        board.look(&rollout(RolloutState::Halted, WaveState::Opening), at(1));

        let first = board.letter();
        board.was_taken(&first);
        let after_the_first = board.has_news();
        board.look(&rollout(RolloutState::Running, WaveState::Opening), at(2));
        let not_taken = board.letter();
        let end = board.letter();
        board.was_taken(&end);

        assert_eq!(told(&first), [("TidegateHalted".to_owned(), None)]);
        assert!(!after_the_first);
        assert_eq!(told(&not_taken), [("TidegateHalted".to_owned(), Some(at(2)))]);
        assert_eq!(told(&end), told(&not_taken), "what was not taken is told again");
        assert!(board.is_empty() && !board.has_news());
    }

    #[test]
    fn a_wave_that_ended_is_told_once_and_not_again_after_a_restart() {
        let (opening, passed) = (WaveState::Opening, WaveState::Passed);
        let mut board = Board::new(String::new(), |_| None);
        let mut restarted = Board::new(String::new(), |_| None);
        board.look(&rollout(RolloutState::Running, opening), at(1));

        board.look(&rollout(RolloutState::Running, passed), at(2));
        board.look(&rollout(RolloutState::Running, passed), at(3));
        restarted.look(&rollout(RolloutState::Running, passed), at(4));

        assert_eq!(
            told(&board.letter()),
            [("TidegateWaveEnded".to_owned(), Some(at(2)))]
        );
        assert!(restarted.is_empty());
    }

    #[test]
    fn what_waits_for_a_receiver_that_is_down_is_bounded() {
        let mut board = Board::new(String::new(), |_| None);

        for round in 0..(2 * OVER_MAX as u64) {
            board.look(&rollout(RolloutState::Halted, WaveState::Opening), at(round));
            board.look(&rollout(RolloutState::Running, WaveState::Opening), at(round));
        }

        let letter = board.letter();
        assert_eq!(letter.alerts.len(), OVER_MAX);
        let newest = letter.alerts.last().map(|alert| alert.starts_at);
        assert_eq!(newest, Some(at(2 * OVER_MAX as u64 - 1)), "the oldest went");
    }
}
