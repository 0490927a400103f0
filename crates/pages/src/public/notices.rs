//! Notices: what the public would read just now, in each language, and which of it claims more than
//! the records support.
//!
//! # Invariants
//!
//! * It is what the page would say, sentence by sentence.

use jiff::tz::TimeZone;

use super::{Facts, Refusal, Site, Status, View};
use crate::claims::Unsupported;
use crate::texts::Language;

/// What the public would read in one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The language.
    pub language: Language,
    /// What is said, in the page's order.
    pub lines: Vec<String>,
    /// Sentences that the evidence does not support: with any of these no page is written.
    pub unsupported: Vec<Unsupported>,
}

/// What the public would read just now, in every language.
///
/// # Errors
///
/// [`Refusal::Zone`].
pub fn notices(site: &Site, facts: &Facts<'_>) -> Result<Vec<Notice>, Refusal> {
    let name = site.zone(facts.rollout);
    let zone = TimeZone::get(&name).map_err(|_| Refusal::Zone(name.clone()))?;
    let status = Status::of(site, facts);
    let notices = Language::ALL.map(|language| {
        let view = View::new((site, facts, &status), language, (&zone, &name), "");
        let unsupported = view.unsupported(&status.evidence);
        Notice { language, lines: lines(&view), unsupported }
    });
    Ok(notices.into())
}

fn lines(view: &View<'_>) -> Vec<String> {
    let rows = view.rows.iter().map(|row| {
        let cells = row.cells.iter().zip(&view.columns);
        let cells: Vec<String> =
            cells.map(|((_, cell), column)| format!("{column} {cell}")).collect();
        let said = format!("{}: {}; {}", row.name, cells.join("; "), row.window);
        said.trim_end_matches([';', ' ']).to_owned()
    });
    let updates = view.updates.iter().map(|it| format!("{}: {}", it.at, it.text));
    let head = [&view.headline, &view.updated, &view.next, &view.zone_note];
    let head = head.into_iter().chain(&view.paragraphs).cloned();
    let advice = ["do-nothing", "fraud"].map(|it| view.say(it));
    let tail = view.mail.iter().chain(&view.help).cloned();
    head.chain(rows).chain(advice).chain(updates).chain(tail).collect()
}
