//! The public status page: static files for hosting elsewhere, made of a rollout and its tiers.
//!
//! # Invariants
//!
//! * Counts are rounded down to thousands; of fewer than a thousand mailboxes none is shown. No
//!   node and no wave is named.
//! * The answer to “when is it my turn” is worked out in the browser, and exists for every string.
//! * What the evidence does not support is not written: nothing is, then.

mod counts;
mod feed;
mod notices;
mod site;
mod slots;
mod summary;

use askama::Template;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_wire::v1;

use crate::claims::{self, Evidence, Unsupported};
use crate::texts::{Language, Texts};
use crate::windows::{self, Turn, seconds};
use counts::{Row, Rows};
pub use notices::{Notice, notices};
pub use site::{Service, Site, Surface, Update};
use slots::Slots;
pub use summary::Public;

/// What the page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The rollout now.
    pub rollout: &'a v1::Rollout,
    /// How far each tier is.
    pub tiers: &'a v1::ListTiersResponse,
}

/// A file of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the page's root.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// The page is not written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A text claims more than is known.
    #[error("{language}: {source}", language = .language.code())]
    Unsupported {
        /// The text's language.
        language: Language,
        /// The sentence.
        source: Unsupported,
    },
    /// The time zone is none.
    #[error("`{0}` is no time zone; name one such as `Europe/Rome`")]
    Zone(String),
    /// A template cannot be filled in.
    #[error("fill in the page")]
    Template(#[from] askama::Error),
    /// The page for programs could not be written as JSON.
    #[error("write the page for programs")]
    Json(#[from] serde_json::Error),
}

/// All files of the page.
///
/// # Errors
///
/// [`Refusal`]; nothing should be written then, so that the last page stays and shows its age.
pub fn build(site: &Site, facts: &Facts<'_>) -> Result<Vec<File>, Refusal> {
    let name = site.zone(facts.rollout);
    let zone = TimeZone::get(&name).map_err(|_| Refusal::Zone(name.clone()))?;
    let status = Status::of(site, facts);
    let mut files = Vec::new();
    let mut page_of = |language, root: &str, path: &str| -> Result<(), Refusal> {
        let view = View::new((site, facts, &status), language, (&zone, &name), root);
        files.push(File { path: format!("{path}index.html"), content: view.render()? });
        Ok(())
    };
    page_of(site.language, "", "")?;
    for language in Language::ALL {
        page_of(language, "../", &format!("{}/", language.code()))?;
    }
    for language in Language::ALL {
        let view = View::new((site, facts, &status), language, (&zone, &name), "../");
        view.check(&status.evidence)?;
        let code = language.code();
        let text = TextOnly { view: &view };
        files.push(File { path: format!("{code}/text.html"), content: text.render()? });
        let feed = feed::atom(site, &view, &status);
        files.push(File { path: format!("{code}/feed.atom"), content: feed });
    }
    let texts = site.texts(site.language);
    files.push(File {
        path: "api/v2/summary.json".to_owned(),
        content: summary::statuspage(
            (site, &texts),
            &status,
            (&name, &columns(site, &texts, facts.rollout)),
        ),
    });
    files.push(File {
        path: "tidegate.public.v1.json".to_owned(),
        content: summary::own(site, &status)?,
    });
    files.push(File {
        path: "metrics.txt".to_owned(),
        content: summary::prometheus(&status),
    });
    for (path, content) in ASSETS {
        files.push(File { path: path.to_owned(), content: content.to_owned() });
    }
    Ok(files)
}

/// What is the same in every language.
const ASSETS: [(&str, &str); 2] = [
    ("assets/status.css", include_str!("../assets/status.css")),
    ("assets/status.js", include_str!("../assets/status.js")),
];

/// How far all is, as the public may know it.
struct Status {
    at: i64,
    /// When the rollout began.
    began: i64,
    next: i64,
    headline: Headline,
    rows: Rows,
    slots: Slots,
    evidence: Evidence,
    /// Mailboxes and messages that are verified, rounded.
    verified: Option<(u64, u64)>,
    /// Fewer messages than this are missing.
    missing_bound: u64,
    set_aside: bool,
}

/// What is said first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "State")]
enum Headline {
    /// Mailboxes are being opened.
    Running,
    /// Nothing more is opened for now.
    Stopped,
    /// All of them are back.
    Finished,
    /// All of them are back, but some are set aside or miss messages.
    FinishedBut,
    /// It was given up.
    Aborted,
}

impl Headline {
    /// Its text's name.
    const fn text(self) -> &'static str {
        match self {
            Self::Running => "headline-running",
            Self::Stopped => "headline-stopped",
            Self::Finished => "headline-finished",
            Self::FinishedBut => "headline-finished-but",
            Self::Aborted => "headline-aborted",
        }
    }
}

impl Status {
    fn of(site: &Site, facts: &Facts<'_>) -> Self {
        let rollout = facts.rollout;
        let turns = Turn::of_waves(rollout);
        let rows = Rows::of(site, facts, &turns);
        let at = seconds!(rollout.at_time).unwrap_or_default();
        let totals = rollout.totals.unwrap_or_default();
        let served = totals.intact + totals.repaired + totals.returned + totals.newer;
        let missing = totals.set_aside + totals.lost;
        let prepared: u64 = rollout.waves.iter().map(|it| u64::from(it.prepared)).sum();
        let settled: u64 = rollout.waves.iter().map(|it| u64::from(it.quarantined)).sum();
        let all_verified = prepared + settled >= u64::from(rollout.planned);
        let all_open = rows.all.is_open_everywhere() && rollout.excluded == 0;
        let set_aside = settled > 0;
        let verified = counts::thousands(prepared).zip(counts::thousands(served));
        Self {
            at,
            began: seconds!(rollout.start_time).unwrap_or(at),
            next: site.next_update.map_or_else(
                || at + i64::from(site.next_update_minutes) * 60,
                jiff::Timestamp::as_second,
            ),
            headline: headline(rollout, rows.all.is_open_everywhere() && missing == 0),
            slots: Slots::of(facts, &rows, &turns),
            rows,
            evidence: Evidence { messages_missing: missing, all_verified, all_open },
            verified,
            missing_bound: counts::bound(missing),
            set_aside,
        }
    }
}

fn headline(rollout: &v1::Rollout, complete: bool) -> Headline {
    match rollout.state() {
        v1::RolloutState::Running | v1::RolloutState::Unspecified => Headline::Running,
        v1::RolloutState::Paused | v1::RolloutState::Halted => Headline::Stopped,
        v1::RolloutState::Finished if complete => Headline::Finished,
        v1::RolloutState::Finished => Headline::FinishedBut,
        v1::RolloutState::Aborted => Headline::Aborted,
    }
}

/// The page in one language.
#[derive(Template)]
#[template(path = "public.html")]
struct View<'a> {
    site: &'a Site,
    texts: Texts,
    /// The way to the page's root.
    root: &'a str,
    headline: String,
    tone: &'static str,
    updated: String,
    next: String,
    zone_note: String,
    generated: String,
    stale: String,
    paragraphs: Vec<String>,
    columns: Vec<String>,
    rows: Vec<ShownRow>,
    mail: Vec<String>,
    help: Vec<String>,
    updates: Vec<ShownUpdate>,
    seed: String,
    answers: String,
    slots: Vec<(String, String)>,
}

/// A row of the table.
struct ShownRow {
    name: String,
    cells: Vec<(&'static str, String)>,
    window: String,
}

/// An update of the press office.
struct ShownUpdate {
    at: String,
    time: String,
    text: String,
}

/// The same for readers of text.
#[derive(Template)]
#[template(path = "public-text.html")]
struct TextOnly<'a> {
    view: &'a View<'a>,
}

impl<'a> View<'a> {
    fn new(
        (site, facts, status): (&'a Site, &Facts<'_>, &Status),
        language: Language,
        (zone, zone_name): (&TimeZone, &str),
        root: &'a str,
    ) -> Self {
        let texts = site.texts(language);
        let shown = |at| windows::moment(&texts, zone, at);
        let updated = shown(status.at);
        let (answers, slots) = status.slots.shown(site, &texts, zone);
        Self {
            headline: texts.say(status.headline.text()),
            tone: tone(status.headline),
            next: texts.say_with("next-update", &[("at", &shown(status.next))]),
            zone_note: texts.say_with("zone", &[("zone", zone_name)]),
            generated: rfc3339(status.at),
            stale: texts.say_with("stale", &[("at", &updated)]),
            updated: texts.say_with("updated", &[("at", &updated)]),
            paragraphs: paragraphs(&texts, status),
            columns: columns(site, &texts, facts.rollout),
            rows: shown_rows(site, &texts, status, zone),
            mail: mail(&texts, status),
            help: help(site, &texts),
            updates: site
                .updates
                .iter()
                .rev()
                .map(|update| ShownUpdate {
                    at: shown(update.time.as_second()),
                    time: update.time.to_string(),
                    text: update.text(language).to_owned(),
                })
                .collect(),
            seed: format!("{:016x}", facts.tiers.hash_seed),
            answers,
            slots,
            site,
            texts,
            root,
        }
    }

    /// Holds every sentence against the evidence.
    fn check(&self, evidence: &Evidence) -> Result<(), Refusal> {
        let language = self.texts.language();
        match self.unsupported(evidence).into_iter().next() {
            Some(source) => Err(Refusal::Unsupported { language, source }),
            None => Ok(()),
        }
    }

    /// Sentences that the evidence does not support.
    fn unsupported(&self, evidence: &Evidence) -> Vec<Unsupported> {
        let cells = self.rows.iter().flat_map(|row| row.cells.iter().map(|(_, it)| it));
        let windows = self.rows.iter().map(|row| &row.window);
        let updates = self.updates.iter().map(|update| &update.text);
        let said = self.paragraphs.iter().chain(&self.mail).chain(&self.help);
        let said = said.chain(cells).chain(windows).chain(updates);
        let ours = ["do-nothing", "fraud", "ask-any", "ask-own"].map(|it| self.say(it));
        let language = self.texts.language();
        let headline = std::iter::once(&self.headline);
        let texts = said.chain(&ours).chain(headline);
        texts.flat_map(|text| claims::check(text, language, evidence)).collect()
    }

    fn say(&self, name: &str) -> String {
        self.texts.say(name)
    }
}

fn tone(headline: Headline) -> &'static str {
    match headline {
        Headline::Finished => "good",
        Headline::Running | Headline::FinishedBut => "going",
        Headline::Stopped | Headline::Aborted => "stopped",
    }
}

fn paragraphs(texts: &Texts, status: &Status) -> Vec<String> {
    let mut said = Vec::new();
    let all = &status.rows.all;
    match (counts::thousands(all.reopened()), counts::thousands(all.planned)) {
        (Some(open), Some(planned)) => said.push(texts.say_with(
            "reopened",
            &[
                ("open", &texts.number(open)),
                ("all", &texts.number(planned)),
                ("percent", &counts::percent(open, planned).to_string()),
            ],
        )),
        _ if all.reopened() == 0 => said.push(texts.say("reopened-none")),
        _ => said.push(texts.say("reopened-few")),
    }
    match status.headline {
        Headline::Running => said.push(texts.say("in-groups")),
        Headline::Stopped | Headline::Aborted => said.push(texts.say("stopped-why")),
        Headline::Finished | Headline::FinishedBut => {}
    }
    if status.set_aside {
        said.push(texts.say("set-aside"));
    }
    said
}

fn columns(site: &Site, texts: &Texts, rollout: &v1::Rollout) -> Vec<String> {
    rollout.ladder.iter().map(|rung| site.surface(texts, &rung.name)).collect()
}

fn shown_rows(
    site: &Site,
    texts: &Texts,
    status: &Status,
    zone: &TimeZone,
) -> Vec<ShownRow> {
    let shown = |row: &Row| ShownRow {
        name: row.name.shown(site, texts),
        cells: row.cells().map(|cell| (cell.code(), texts.say(cell.text()))).collect(),
        window: row.turn().words(texts, zone, None),
    };
    status.rows.shown.iter().map(shown).collect()
}

fn mail(texts: &Texts, status: &Status) -> Vec<String> {
    let mut said = Vec::new();
    if let Some((mailboxes, messages)) = status.verified {
        let (mailboxes, messages) = (texts.number(mailboxes), texts.number(messages));
        let counts = [("mailboxes", &*mailboxes), ("messages", &*messages)];
        if status.evidence.messages_missing == 0 {
            said.push(texts.say_with("verified-clean", &counts));
        } else {
            let bound = texts.number(status.missing_bound);
            let [mailboxes, messages] = counts;
            let counts = [mailboxes, messages, ("bound", &*bound)];
            said.push(texts.say_with("verified-some", &counts));
        }
    }
    said.push(texts.say("meanwhile"));
    said
}

fn help(site: &Site, texts: &Texts) -> Vec<String> {
    let hours = site.hours.as_deref().unwrap_or("0–24");
    let phone = site.phone.as_deref();
    let phone =
        phone.map(|it| texts.say_with("phone", &[("phone", it), ("hours", hours)]));
    phone.into_iter().collect()
}

/// As feeds and programs write a time.
fn rfc3339(at: i64) -> String {
    jiff::Timestamp::from_second(at).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests;
