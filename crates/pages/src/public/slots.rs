//! Slots: when which addresses come, by the first byte of their hash, for browsers to look up.
//!
//! # Invariants
//!
//! * Every slot has an answer for every service, whoever exists.
//! * The hash is the plan's own, so that the answer is right; it is worked out where the address
//!   is typed.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use tidegate_wire::v1;

use super::Facts;
use super::counts::{RowName, Rows};
use super::site::Site;
use crate::texts::Texts;
use crate::windows::Turn;

/// One for each first byte of a hash.
const SLOTS: usize = 256;

/// All slots in the units of the contract.
const WHOLE: usize = 1_000_000;

/// When which addresses of which service come.
pub(super) struct Slots(Vec<(RowName, Vec<Turn>)>);

impl Slots {
    /// Those of all services that are shown.
    pub(super) fn of(facts: &Facts<'_>, rows: &Rows, turns: &[Turn]) -> Self {
        let of_row = |row: &super::counts::Row| {
            let tiers =
                row.tiers.iter().filter_map(|place| facts.tiers.tiers.get(*place));
            let spans: Vec<&v1::SlotSpan> = tiers.flat_map(|tier| &tier.spans).collect();
            let slots = (0..SLOTS).map(|slot| {
                let (from, to) = (slot * WHOLE / SLOTS, (slot + 1) * WHOLE / SLOTS);
                let within = |span: &&&v1::SlotSpan| {
                    index(span.from_ppm) < to && from < index(span.to_ppm)
                };
                let found = spans.iter().filter(within);
                Turn::of_all(found.map(|span| turn_at(turns, span.wave)))
            });
            (row.name.clone(), slots.collect())
        };
        Self(rows.shown.iter().map(of_row).collect())
    }

    /// The different answers as a list in JSON, and for each service its name and four hexadecimal
    /// digits a slot that number them.
    pub(super) fn shown(
        &self,
        site: &Site,
        texts: &Texts,
        zone: &TimeZone,
    ) -> (String, Vec<(String, String)>) {
        let mut answers: Vec<String> = Vec::new();
        let mut services = Vec::new();
        for (name, turns) in &self.0 {
            let mut numbers = String::with_capacity(SLOTS * 4);
            for turn in turns {
                let words = turn.words(texts, zone, None);
                let place = answers.iter().position(|it| *it == words);
                let place = place.unwrap_or_else(|| {
                    answers.push(words);
                    answers.len() - 1
                });
                // Writing to a string cannot fail.
                let _ = write!(numbers, "{:04x}", place.min(usize::from(u16::MAX)));
            }
            services.push((name.shown(site, texts), numbers));
        }
        (serde_json::Value::from(answers).to_string(), services)
    }
}

/// When the wave with this number comes.
pub(super) fn turn_at(turns: &[Turn], wave: u32) -> Turn {
    turns.get(index(wave)).copied().unwrap_or(Turn::Unknown)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
