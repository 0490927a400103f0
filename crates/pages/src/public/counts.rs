//! Counts: how far each service is, as roughly as the public may know it.
//!
//! # Invariants
//!
//! * A tier of fewer than a thousand mailboxes is never shown by itself.
//! * Every shown number is a whole number of thousands, rounded down.

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_wire::v1;

use super::Facts;
use super::site::Site;
use crate::texts::Texts;
use crate::windows::Turn;

/// Fewer mailboxes are nobody's row.
const SHOWN_MIN: u64 = 1_000;

/// The services that nobody looks at: mail comes in, and its owner not.
const UNSEEN: [&str; 1] = ["lmtp"];

/// `count` in whole thousands, rounded down; nothing below one.
pub(super) fn thousands(count: u64) -> Option<u64> {
    (count >= SHOWN_MIN).then(|| count / 1_000 * 1_000)
}

/// How many in a hundred, rounded down.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    part * 100 / whole.max(1)
}

/// A round number that `count` is below.
pub(super) fn bound(count: u64) -> u64 {
    let mut bound = 10;
    while bound <= count {
        bound *= 10;
    }
    bound
}

/// What one row is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowName {
    /// After its tier.
    Tier(String),
    /// Tiers too small for rows of their own.
    Others,
    /// There is only this one.
    Everybody,
}

impl RowName {
    /// For people.
    pub(super) fn shown(&self, site: &Site, texts: &Texts) -> String {
        match self {
            Self::Tier(tier) => site.service(texts.language(), tier),
            Self::Others => texts.say("others"),
            Self::Everybody => texts.say("everybody"),
        }
    }
}

/// One service of the provider.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What it is called.
    pub(super) name: RowName,
    /// Its mailboxes.
    pub(super) planned: u64,
    quarantined: u64,
    /// On each rung or above.
    reached: Vec<u64>,
    /// The first rung on which its owner sees something.
    seen_from: usize,
    /// When its waves are back.
    turn: Turn,
    /// Its tiers, by their places.
    pub(super) tiers: Vec<usize>,
}

/// How far a service is on one rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cell {
    /// For all of its mailboxes.
    Open,
    /// For some of them.
    Opening,
    /// For none yet.
    Later,
}

impl Cell {
    /// For style sheets.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Opening => "opening",
            Self::Later => "later",
        }
    }

    /// Its text's name.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Open => "cell-open",
            Self::Opening => "cell-opening",
            Self::Later => "cell-later",
        }
    }
}

impl Row {
    /// How far it is on each rung.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        self.reached.iter().map(|reached| match *reached {
            0 => Cell::Later,
            all if all + self.quarantined >= self.planned => Cell::Open,
            _ => Cell::Opening,
        })
    }

    /// Mailboxes that their owners see.
    pub(super) fn reopened(&self) -> u64 {
        self.reached.get(self.seen_from).copied().unwrap_or_default()
    }

    /// Whether every mailbox, also one that was set aside, has every service.
    pub(super) fn is_open_everywhere(&self) -> bool {
        self.reached.iter().all(|reached| *reached >= self.planned)
    }

    /// When it is back: as long as a service of it is not open, its waves have not the last word.
    pub(super) fn turn(&self) -> Turn {
        let all_open = self.cells().all(|cell| cell == Cell::Open);
        if all_open || self.turn != Turn::Back { self.turn } else { Turn::Unknown }
    }

    fn add(&mut self, place: usize, tier: &v1::Tier, turn: Turn) {
        self.planned += u64::from(tier.planned);
        self.quarantined += u64::from(tier.quarantined);
        for (sum, reached) in self.reached.iter_mut().zip(&tier.reached) {
            *sum += u64::from(*reached);
        }
        self.turn = Turn::of_all([self.turn, turn]);
        self.tiers.push(place);
    }
}

/// All services.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Those that are shown.
    pub(super) shown: Vec<Row>,
    /// All together.
    pub(super) all: Row,
}

impl Rows {
    /// Those of the tiers, in the order in which the site names them.
    pub(super) fn of(site: &Site, facts: &Facts<'_>, turns: &[Turn]) -> Self {
        let ladder = &facts.rollout.ladder;
        let is_seen = |rung: &v1::Rung| {
            rung.services.iter().any(|service| !UNSEEN.contains(&service.as_str()))
        };
        let empty = |name| Row {
            name,
            planned: 0,
            quarantined: 0,
            reached: vec![0; ladder.len()],
            seen_from: ladder.iter().position(is_seen).unwrap_or_default(),
            turn: Turn::Back,
            tiers: Vec::new(),
        };
        let (mut all, mut others) = (empty(RowName::Everybody), empty(RowName::Others));
        let mut shown = Vec::new();
        for (place, tier) in facts.tiers.tiers.iter().enumerate() {
            let turn = turn_of(tier, turns);
            all.add(place, tier, turn);
            if u64::from(tier.planned) >= SHOWN_MIN {
                let mut row = empty(RowName::Tier(tier.name.clone()));
                row.add(place, tier, turn);
                shown.push(row);
            } else {
                others.add(place, tier, turn);
            }
        }
        if others.planned >= SHOWN_MIN {
            shown.push(others);
        }
        if shown.is_empty() {
            shown.push(all.clone());
        }
        let place = |row: &Row| match &row.name {
            RowName::Tier(tier) => site
                .services
                .iter()
                .position(|service| service.tier == *tier)
                .unwrap_or(site.services.len()),
            RowName::Others | RowName::Everybody => usize::MAX,
        };
        shown.sort_by_key(place);
        Self { shown, all }
    }
}

fn turn_of(tier: &v1::Tier, turns: &[Turn]) -> Turn {
    Turn::of_all(tier.spans.iter().map(|span| super::slots::turn_at(turns, span.wave)))
}
