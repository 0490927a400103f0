//! Calendar: when anything may begin to open.
//!
//! # Invariants
//!
//! * What a rule says is named by its words; the instants that they mean are worked out beside it,
//!   from a table of time zones, and are no part of the policy's digest.
//! * After the last instant that was worked out a rule that opens is closed.
//! * Where several rules bear on something, it is open when all of them are.

use super::Window;
use crate::inventory::Canon;
use crate::time::{Span, Timestamp};

/// The most rules of a calendar; each is looked at again and again.
pub const RULES_MAX: usize = 64;

/// How often it is looked for an instant at which all rules are open.
const LOOKS_MAX: usize = 64;

/// What happens to what has begun, when its window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AtEnd {
    /// It is finished.
    #[default]
    Finish,
    /// It stands still until the window is open again.
    Hold,
    /// Everything is frozen until a second person thaws it.
    Freeze,
}

/// On whom a rule bears; on everybody if it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bearing {
    /// Waves of these cohorts.
    pub cohorts: Vec<String>,
    /// Waves with mailboxes of these tiers.
    pub tiers: Vec<String>,
    /// These nodes.
    pub nodes: Vec<String>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// On whom it bears.
    pub bearing: Bearing,
    /// Its words, in one spelling.
    pub words: String,
    /// Whether its spans are when something may begin, or when nothing may.
    pub opens: bool,
    /// What happens at the end.
    pub at_end: AtEnd,
    /// What its words mean, ascending and apart.
    pub spans: Vec<Window>,
}

impl AtEnd {
    /// As written.
    pub fn code(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::Hold => "hold",
            Self::Freeze => "freeze",
        }
    }
}

impl Bearing {
    /// Whether it bears on nodes instead of waves.
    pub fn is_of_nodes(&self) -> bool {
        !self.nodes.is_empty()
    }
}

impl Rule {
    /// Until when it is open, if it is.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let after = self.spans.partition_point(|span| span.to <= now);
        let span = self.spans.get(after);
        let inside = span.is_some_and(|span| span.from <= now);
        match (self.opens, inside) {
            (true, true) => span.map(|span| span.to),
            (true, false) | (false, true) => None,
            (false, false) => Some(span.map_or(NEVER, |span| span.from)),
        }
    }

    /// When it is open next, now at the earliest.
    fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.open_until(now).is_some() {
            return Some(now);
        }
        let after = self.spans.partition_point(|span| span.to <= now);
        let span = self.spans.get(after)?;
        Some(if self.opens { span.from } else { span.to })
    }

    /// When it closed last, now at the latest.
    pub fn closed_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.spans.iter().map(|it| if self.opens { it.to } else { it.from });
        ends.take_while(|end| *end <= now).last()
    }

    pub(super) fn write(&self, canon: &mut Canon) {
        let Self { name, bearing, words, opens, at_end, spans: _ } = self;
        canon.text(name);
        canon.texts(&bearing.cohorts);
        canon.texts(&bearing.tiers);
        canon.texts(&bearing.nodes);
        canon.text(words);
        canon.number(*opens);
        canon.text(at_end.code());
    }
}

/// Why a rule cannot be meant so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarProblem {
    /// More rules than are looked at.
    #[error("the calendar has {have} rules, at most {RULES_MAX} are possible")]
    TooMany {
        /// How many.
        have: usize,
    },
    /// A cohort that the policy does not have.
    #[error("there is no cohort `{cohort}`")]
    UnknownCohort {
        /// Its name.
        cohort: String,
    },
    /// A rule of nodes and of something else.
    #[error("a rule is for nodes, or for cohorts and tiers, not for both")]
    NodesAndWaves,
    /// A window of a node that would freeze everything.
    #[error("the end of a window of a node freezes nothing")]
    NodesFreeze,
    /// It says nothing, or ends before it begins.
    #[error("it is never open, or never closed")]
    Empty,
}

impl CalendarProblem {
    /// The key that is wrong, of its rule.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::TooMany { .. } | Self::Empty => "name",
            Self::UnknownCohort { .. } => "cohort",
            Self::NodesAndWaves => "node",
            Self::NodesFreeze => "at_end",
        }
    }
}

/// Checks the rules of a policy with these cohorts; the place of the first wrong one.
pub(super) fn check(
    rules: &[Rule],
    cohorts: &[super::Cohort],
) -> Result<(), (usize, CalendarProblem)> {
    for (place, rule) in rules.iter().enumerate() {
        let Bearing { cohorts: named, tiers, nodes } = &rule.bearing;
        let known = |name: &&String| cohorts.iter().any(|cohort| cohort.name == **name);
        let problem = if place >= RULES_MAX {
            CalendarProblem::TooMany { have: rules.len() }
        } else if let Some(cohort) = named.iter().find(|name| !known(name)) {
            CalendarProblem::UnknownCohort { cohort: cohort.clone() }
        } else if !(nodes.is_empty() || named.is_empty() && tiers.is_empty()) {
            CalendarProblem::NodesAndWaves
        } else if !nodes.is_empty() && rule.at_end == AtEnd::Freeze {
            CalendarProblem::NodesFreeze
        } else if rule.spans.iter().all(|span| span.to <= span.from) {
            CalendarProblem::Empty
        } else {
            continue;
        };
        return Err((place, problem));
    }
    Ok(())
}

/// The end of an opening that has none.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// Until when all of these rules are open, if they are now.
pub fn open_until<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut until = NEVER;
    for rule in rules {
        until = until.min(rule.open_until(now)?);
    }
    Some(until)
}

/// When all of these rules are open next, now at the earliest; nothing if that cannot be told.
pub fn opens_at<'a>(
    rules: &(impl Iterator<Item = &'a Rule> + Clone),
    now: Timestamp,
) -> Option<Timestamp> {
    let mut at = now;
    for _ in 0..LOOKS_MAX {
        let before = at;
        for rule in rules.clone() {
            at = rule.opens_at(at)?;
        }
        if at == before {
            return Some(at);
        }
    }
    None
}

/// When something that takes so long may begin next, now at the earliest, so that it is done
/// before any of these rules closes; nothing if none of the next windows is long enough.
pub fn fits_at<'a>(
    rules: &(impl Iterator<Item = &'a Rule> + Clone),
    now: Timestamp,
    takes: Span,
) -> Option<Timestamp> {
    let mut at = now;
    for _ in 0..LOOKS_MAX {
        at = opens_at(rules, at)?;
        let until = open_until(rules.clone(), at)?;
        if at + takes <= until {
            return Some(at);
        }
        at = until;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_rules_are_open_when_all_of_them_are() {
        let nights = rule(true, &[(10, 20), (30, 40), (50, 60)]);
        let fair = rule(false, &[(15, 35)]);
        let both = || [&nights, &fair].into_iter();

        let shown = [5, 10, 15, 36, 55, 60].map(|at| {
            let (open, next) = (open_until(both(), ms(at)), opens_at(&both(), ms(at)));
            (open.map(Timestamp::millis), next.map(Timestamp::millis))
        });

        assert_eq!(
            shown,
            [
                (None, Some(10)),
                (Some(15), Some(10)),
                (None, Some(35)),
                (Some(40), Some(36)),
                (Some(60), Some(55)),
                (None, None),
            ]
        );
        assert_eq!(nights.closed_at(ms(45)), Some(ms(40)));
        assert_eq!(fair.closed_at(ms(45)), Some(ms(15)));
        assert_eq!(fair.open_until(ms(45)), Some(NEVER));
    }

    #[test]
    fn what_takes_long_waits_for_a_window_that_is_long_enough() {
        let nights = rule(true, &[(10, 20), (30, 45), (50, 70)]);
        let fair = rule(false, &[(55, 57)]);
        let both = [&nights, &fair];

        let fits = [5, 10, 13, 15, 16].map(|takes| {
            let at = fits_at(&both.into_iter(), ms(11), Span::from_millis(takes));
            at.map(Timestamp::millis)
        });

        assert_eq!(fits, [Some(11), Some(30), Some(30), Some(30), None]);
    }

    fn ms(at: u64) -> Timestamp {
        Timestamp::from_millis(at)
    }

    fn rule(opens: bool, spans: &[(u64, u64)]) -> Rule {
        let spans =
            spans.iter().map(|(from, to)| Window { from: ms(*from), to: ms(*to) });
        Rule {
            name: "r".to_owned(),
            bearing: Bearing::default(),
            words: String::new(),
            opens,
            at_end: AtEnd::Finish,
            spans: spans.collect(),
        }
    }
}
