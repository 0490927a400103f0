//! The site: what the operator says about the page, in a small file.
//!
//! # Invariants
//!
//! * Unknown keys are refused; every text is given in every language.

use serde::Deserialize;
use tidegate_wire::v1;

use crate::texts::{BadTexts, Language, Texts};

/// What the operator says about the page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The provider's name.
    pub name: String,
    /// Where the page will be.
    pub url: String,
    /// The language of the first page.
    #[serde(default = "italian")]
    pub language: Language,
    /// The time zone in which times are told; default: the policy's.
    pub zone: Option<String>,
    /// The next update is promised within so many minutes after this one.
    #[serde(default = "half_an_hour")]
    pub next_update_minutes: u32,
    /// The next update is promised by then instead.
    pub next_update: Option<jiff::Timestamp>,
    /// A page older than this says so by itself.
    #[serde(default = "ten_minutes")]
    pub stale_minutes: u32,
    /// A telephone number for help.
    pub phone: Option<String>,
    /// When it is answered.
    pub hours: Option<String>,
    /// Where questions are answered.
    pub faq: Option<String>,
    /// What tiers are called.
    #[serde(default, rename = "service")]
    pub services: Vec<Service>,
    /// What rungs of the ladder are called.
    #[serde(default, rename = "surface")]
    pub surfaces: Vec<Surface>,
    /// What the press office has to say, oldest first.
    #[serde(default, rename = "update")]
    pub updates: Vec<Update>,
    /// Changes to texts, by language.
    #[serde(skip)]
    changed: Vec<Texts>,
}

/// What a tier is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The tier in the inventory.
    pub tier: String,
    /// In Italian.
    pub it: String,
    /// In English.
    pub en: String,
}

/// What a rung is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surface {
    /// The rung in the policy.
    pub rung: String,
    /// In Italian.
    pub it: String,
    /// In English.
    pub en: String,
}

/// What the press office has to say.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// When.
    pub time: jiff::Timestamp,
    /// In Italian.
    pub it: String,
    /// In English.
    pub en: String,
}

const fn italian() -> Language {
    Language::Italian
}

/// What people at a telephone expect.
const fn half_an_hour() -> u32 {
    30
}

/// The page is made anew every few minutes.
const fn ten_minutes() -> u32 {
    10
}

impl Site {
    /// Changes texts of one language.
    ///
    /// # Errors
    ///
    /// [`BadTexts`].
    pub fn change(&mut self, language: Language, changes: &str) -> Result<(), BadTexts> {
        self.changed.push(Texts::changed(language, changes)?);
        Ok(())
    }

    /// The texts of a language, as the site wants them.
    pub fn texts(&self, language: Language) -> Texts {
        let changed = self.changed.iter().find(|it| it.language() == language);
        changed.cloned().unwrap_or_else(|| Texts::of(language))
    }

    /// The time zone's name.
    pub(super) fn zone(&self, rollout: &v1::Rollout) -> String {
        let policy = rollout.notice.as_ref().map(|notice| notice.zone.clone());
        let policy = policy.filter(|zone| !zone.is_empty());
        self.zone.clone().or(policy).unwrap_or_else(|| "UTC".to_owned())
    }

    /// What a tier is called.
    pub(super) fn service(&self, language: Language, tier: &str) -> String {
        let found = self.services.iter().find(|it| it.tier == tier);
        match (found, language) {
            (Some(service), Language::Italian) => service.it.clone(),
            (Some(service), Language::English) => service.en.clone(),
            (None, _) => tier.to_owned(),
        }
    }

    /// What a rung is called.
    pub(super) fn surface(&self, texts: &Texts, rung: &str) -> String {
        let found = self.surfaces.iter().find(|it| it.rung == rung);
        match (found, texts.language()) {
            (Some(surface), Language::Italian) => surface.it.clone(),
            (Some(surface), Language::English) => surface.en.clone(),
            (None, _) => {
                let name = format!("surface-{rung}");
                if texts.has(&name) { texts.say(&name) } else { rung.to_owned() }
            }
        }
    }

    /// How long the page is fresh, in seconds.
    pub(super) fn stale_seconds(&self) -> u32 {
        self.stale_minutes.saturating_mul(60)
    }
}

impl Update {
    /// The text in a language.
    pub fn text(&self, language: Language) -> &str {
        match language {
            Language::Italian => &self.it,
            Language::English => &self.en,
        }
    }
}
