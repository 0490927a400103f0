//! Texts: every sentence that people read, by language, in Fluent files.
//!
//! # Invariants
//!
//! * Every text exists in every language; a test holds the files against each other and against
//!   what is asked for.
//! * A site may change texts by a file of its own; what it does not change stays.

mod retold;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use unic_langid::LanguageIdentifier;

/// A language in which the pages exist.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize,
)]
pub enum Language {
    /// `it`
    #[serde(rename = "it")]
    Italian,
    /// `en`
    #[serde(rename = "en")]
    English,
}

impl Language {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Italian, Self::English];

    /// Its code, as pages and paths name it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Italian => "it",
            Self::English => "en",
        }
    }

    /// Its own name for itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Italian => "Italiano",
            Self::English => "English",
        }
    }

    /// The language of this code.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The best language for somebody who would take these, as browsers name them.
    pub fn accepted(header: &str) -> Option<Self> {
        let tags = header.split(',').filter_map(|tag| tag.split([';', '-']).next());
        tags.map(str::trim).find_map(Self::of_code)
    }

    fn source(self) -> &'static str {
        match self {
            Self::Italian => include_str!("../texts/it.ftl"),
            Self::English => include_str!("../texts/en.ftl"),
        }
    }
}

/// All texts of one language.
#[derive(Clone)]
pub struct Texts {
    language: Language,
    bundle: Arc<FluentBundle<FluentResource>>,
}

/// A file of texts that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTexts {
    /// It is not written as Fluent wants it.
    #[error("the texts are no Fluent: {0}")]
    NotFluent(String),
    /// It has a text that nothing asks for: probably a name with a slip in it.
    #[error("there is no text `{0}` to change")]
    Unknown(String),
}

impl Texts {
    /// Our own texts.
    pub fn of(language: Language) -> Self {
        static OURS: LazyLock<[Texts; 2]> = LazyLock::new(|| {
            Language::ALL.map(|language| {
                Texts::parse(language, "").expect("a test reads the texts")
            })
        });
        let [italian, english] = &*OURS;
        match language {
            Language::Italian => italian.clone(),
            Language::English => english.clone(),
        }
    }

    /// Our own texts, with those of `changes` in their places.
    ///
    /// # Errors
    ///
    /// [`BadTexts`].
    pub fn changed(language: Language, changes: &str) -> Result<Self, BadTexts> {
        Self::parse(language, changes)
    }

    /// The language.
    pub fn language(&self) -> Language {
        self.language
    }

    /// A text without variables.
    pub fn say(&self, name: &str) -> String {
        self.say_with(name, &[])
    }

    /// A text with its variables.
    pub fn say_with(&self, name: &str, variables: &[(&str, &str)]) -> String {
        let mut args = FluentArgs::new();
        for (name, value) in variables {
            args.set(*name, FluentValue::from(*value));
        }
        self.format(name, &args)
    }

    /// A text whose words follow a number.
    pub fn say_of(&self, name: &str, number: u64) -> String {
        let mut args = FluentArgs::new();
        args.set("n", FluentValue::from(number));
        args.set("shown", FluentValue::from(self.number(number)));
        self.format(name, &args)
    }

    /// A number as the language writes it: `8.997.000`, `8,997,000`.
    pub fn number(&self, number: u64) -> String {
        let digits = number.to_string();
        let separator = match self.language {
            Language::Italian => '.',
            Language::English => ',',
        };
        let mut shown = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                shown.push(separator);
            }
            shown.push(digit);
        }
        shown
    }

    /// Whether there is such a text.
    pub fn has(&self, name: &str) -> bool {
        self.bundle.has_message(name)
    }

    fn format(&self, name: &str, args: &FluentArgs<'_>) -> String {
        let message = self.bundle.get_message(name).and_then(|it| it.value());
        let Some(pattern) = message else { return name.to_owned() };
        let mut errors = Vec::new();
        let text = self.bundle.format_pattern(pattern, Some(args), &mut errors);
        debug_assert!(errors.is_empty(), "{name}: {errors:?}");
        text.into_owned()
    }

    fn parse(language: Language, changes: &str) -> Result<Self, BadTexts> {
        let tag: LanguageIdentifier = match language {
            Language::Italian => "it".parse().unwrap_or_default(),
            Language::English => "en".parse().unwrap_or_default(),
        };
        let mut bundle = FluentBundle::new_concurrent(vec![tag]);
        // Marks around variables are for texts that mix directions of writing; ours do not.
        bundle.set_use_isolating(false);
        bundle
            .add_resource(resource(language.source())?)
            .map_err(|errors| BadTexts::NotFluent(format!("{errors:?}")))?;
        if let Some(unknown) =
            names(changes).into_iter().find(|it| !bundle.has_message(it))
        {
            return Err(BadTexts::Unknown(unknown));
        }
        bundle.add_resource_overriding(resource(changes)?);
        Ok(Self { language, bundle: Arc::new(bundle) })
    }
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Texts").field(&self.language).finish()
    }
}

fn resource(text: &str) -> Result<FluentResource, BadTexts> {
    FluentResource::try_new(text.to_owned())
        .map_err(|(_, errors)| BadTexts::NotFluent(format!("{errors:?}")))
}

/// The names of all texts in a file: what stands before ` =` at the beginning of a line.
fn names(file: &str) -> BTreeSet<String> {
    let begins = |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic());
    let named = file.lines().filter(|line| begins(line));
    let named = named.filter_map(|line| line.split_once('='));
    named.map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_text_exists_in_every_language_and_none_twice() {
        let [italian, english] = Language::ALL.map(Language::source);

        let lines = |file: &str| {
            let begins = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
            file.lines().filter(begins).count()
        };
        assert_eq!(names(italian), names(english));
        assert_eq!(lines(italian), names(italian).len());
        assert_eq!(lines(english), names(english).len());
    }

    #[test]
    fn whatever_is_asked_for_by_name_is_there_and_nothing_else() {
        let mut asked = String::new();
        for folder in ["src", "templates"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in walk(&folder) {
                asked.push_str(&fs::read_to_string(entry).unwrap());
            }
        }

        let quoted: BTreeSet<String> = asked
            .split(".say")
            .skip(1)
            .filter(|rest| rest.starts_with(['(', '_']))
            .filter_map(|rest| rest.split_once('(')?.1.trim_start().strip_prefix('"'))
            .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
            .collect();
        let names = names(Language::English.source());
        let missing: Vec<_> = quoted.difference(&names).collect();
        // Some are put together from a prefix and a code; those are named in full somewhere.
        let unused: Vec<_> = names
            .iter()
            .filter(|name| !asked.contains(&format!("\"{name}\"")))
            .filter(|name| !CODED.iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        assert_eq!(missing, Vec::<&String>::new());
        assert_eq!(unused, Vec::<&String>::new());
    }

    /// How names begin that end with a code.
    const CODED: [&str; 15] = [
        "aside-message-",
        "aside-mailbox-",
        "aside-opened-",
        "told-",
        "word-",
        "why-",
        "surface-",
        "month-",
        "headline-",
        "state-",
        "wave-state-",
        "node-state-",
        "verdict-",
        "desk-",
        "role-",
    ];

    #[test]
    fn a_number_is_written_as_its_language_writes_it() {
        let shown = Language::ALL.map(|it| Texts::of(it).number(8_997_000));

        assert_eq!(shown, ["8.997.000", "8,997,000"]);
    }

    #[test]
    fn a_site_changes_a_text_and_a_slip_in_a_name_is_found() {
        let changed = Texts::changed(Language::English, "skip = Down\n").unwrap();
        let slip = Texts::changed(Language::English, "skipp = Down\n").unwrap_err();

        assert_eq!(changed.say("skip"), "Down");
        assert_eq!(changed.say("title"), Texts::of(Language::English).say("title"));
        assert_eq!(slip.to_string(), "there is no text `skipp` to change");
    }

    fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(walk(&path));
            } else {
                files.push(path);
            }
        }
        files
    }
}
