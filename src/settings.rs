//! Settings: `tidegate config`: files are checked, shown and explained.
//!
//! # Invariants
//!
//! * What a file may have is asked of the code that reads it; only what it means is the runbook's.
//! * A file that is shown has been read as the program would read it.

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tidegate_wire::policy_file;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::{
    Config, ConfigCheck, ConfigFile, ConfigSchema, ConfigShow, FileKind, TableOrJson,
};
use crate::config::keys::{Key, Kind};
use crate::config::{self, CoordinatorFile, MxFile, SoloFile, WorkerFile};
use crate::console::{self, safe};
use crate::exit::{Exit, Failure, Outcome};
use crate::explain::{self, Setting};
use crate::manual::roff;
use crate::preferences;
use crate::screens::{self, Table, say};
use crate::telemetry::{FILTER_VARIABLE, TRACES_VARIABLE};

/// Carries out `tidegate config`.
pub(crate) fn run(verb: &Config) -> Outcome {
    match verb {
        Config::Check(args) => check(args),
        Config::Show(args) => show(args),
        Config::Schema(args) => schema(args),
    }
}

fn check(args: &ConfigCheck) -> Outcome {
    let kind = kind_of(&args.of)?;
    let read = read(kind, &args.of.file);
    match args.output {
        TableOrJson::Json => {
            let wrong = read.as_ref().err().map(ToString::to_string);
            let (file, is_sound) = (args.of.file.display().to_string(), wrong.is_none());
            let checked = Checked { file, kind: kind.name(), sound: is_sound, wrong };
            console::data_line(screens::json::value(&checked))?;
            Ok(if is_sound { Exit::Done } else { Exit::Input })
        }
        TableOrJson::Table => {
            read?;
            let (file, name) = (args.of.file.display(), kind.name());
            console::data_line(format_args!(
                "{file}: nothing is wrong with this {name} file"
            ))?;
            Ok(Exit::Done)
        }
    }
}

/// Whether a configuration file or policy is one that a program would take.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.checked-config/v1")]
pub(crate) struct Checked {
    /// The file.
    file: String,
    /// What it is for.
    kind: &'static str,
    /// Whether nothing is wrong with it.
    sound: bool,
    /// What is, with its place and what to write instead; null where nothing is.
    wrong: Option<String>,
}

/// Reads a file as the program would.
fn read(kind: FileKind, file: &Path) -> Result<(), Failure> {
    let done = match kind {
        FileKind::Coordinator => CoordinatorFile::read(file).map(|_| ()),
        FileKind::Worker => WorkerFile::read(file).map(|_| ()),
        FileKind::Mx => MxFile::read(file).map(|_| ()),
        FileKind::Solo => SoloFile::read(file).map(|_| ()),
        FileKind::Contexts => preferences::check(file),
        FileKind::Policy => {
            let parsed = policy_file::parse(&file.display().to_string(), &text(file)?);
            parsed.map(|_| ()).map_err(|error| Failure::complete(Exit::Input, error))
        }
    };
    // What is checked is an input, not this program's own configuration.
    done.map_err(|failure| failure.ending_with(Exit::Input))
}

fn text(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|source| {
        let context = format!("read `{}`", file.display());
        Failure::new(Exit::Input, anyhow::Error::new(source).context(context))
    })
}

/// What a file is for: as said, or as its name says.
fn kind_of(args: &ConfigFile) -> Result<FileKind, Failure> {
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let named = || FileKind::ALL.into_iter().find(|kind| stem.contains(kind.name()));
    let of_a_person = || (stem == "config").then_some(FileKind::Contexts);
    args.kind.or_else(named).or_else(of_a_person).ok_or_else(|| {
        let text =
            format!("the name of `{}` does not say what it is", args.file.display());
        Failure::text(Exit::Usage, text).help("add `--as policy`, or what it is")
    })
}

/// What a configuration file or policy sets, and what counts without it.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.config/v1")]
pub(crate) struct Settings<'a> {
    /// What the file is for.
    kind: &'static str,
    /// Setting by setting.
    settings: &'a [Shown],
}

/// A value of a file, or what counts without one.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Setting")]
struct Shown {
    /// Its place in the file.
    key: String,
    /// Its value; null where there is none.
    value: Option<String>,
    /// Where it comes from.
    origin: String,
}

fn show(args: &ConfigShow) -> Outcome {
    let kind = kind_of(&args.of)?;
    read(kind, &args.of.file)?;
    let rows = shown(kind, &args.of.file)?;
    if args.output == TableOrJson::Json {
        let shown = Settings { kind: kind.name(), settings: &rows };
        console::data_line(screens::json::value(&shown))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["SETTING", "VALUE"], &[]);
    for row in &rows {
        table.row([row.key.clone(), row.value.clone().unwrap_or_else(|| "-".to_owned())]);
    }
    if args.origin {
        table.column("ORIGIN", rows.iter().map(|row| row.origin.clone()).collect());
    }
    console::data(table.render(""))?;
    Ok(Exit::Done)
}

/// Every setting: those of the file, and those that it leaves out.
fn shown(kind: FileKind, file: &Path) -> Result<Vec<Shown>, Failure> {
    let text = text(file)?;
    let mut values = Vec::new();
    if let Ok(document) = DeTable::parse(&text) {
        walk(document.get_ref(), "", &mut values);
    }
    let name = file.display();
    let mut rows = Vec::new();
    let keys = config::keys_of(kind);
    for key in keys.iter().filter(|key| is_leaf(key, &keys)) {
        let named = key.name();
        let before = rows.len();
        for (at, span) in values.iter().filter(|(at, _)| general(at) == named) {
            let line =
                text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
            let value = text.get(span.clone()).map(|value| safe(value.trim()));
            rows.push(Shown { key: at.clone(), value, origin: format!("{name}:{line}") });
        }
        if rows.len() == before {
            let known = explain::setting(kind.name(), &named);
            let value = known.and_then(|known| known.usual);
            rows.push(Shown { key: named, value, origin: "default".to_owned() });
        }
    }
    for (variable, setting) in [(FILTER_VARIABLE, "log"), (TRACES_VARIABLE, "traces")] {
        if let Some(value) =
            std::env::var(variable).ok().filter(|_| kind != FileKind::Policy)
            && let Some(row) = rows.iter_mut().find(|row| row.key == setting)
        {
            row.value = Some(safe(&value));
            row.origin = format!("environment {variable}");
        }
    }
    Ok(rows)
}

type Places = Vec<(String, std::ops::Range<usize>)>;

/// The values of a table and all below it, with the place of each.
fn walk(table: &DeTable<'_>, above: &str, found: &mut Places) {
    for (name, value) in table {
        let dot = if above.is_empty() { "" } else { "." };
        visit(value, &format!("{above}{dot}{}", name.get_ref()), found);
    }
}

fn visit(value: &Spanned<DeValue<'_>>, at: &str, found: &mut Places) {
    match value.get_ref() {
        DeValue::Table(table) => walk(table, at, found),
        DeValue::Array(array)
            if array.iter().any(|it| matches!(it.get_ref(), DeValue::Table(_))) =>
        {
            for (place, entry) in array.iter().enumerate() {
                visit(entry, &format!("{at}[{place}]"), found);
            }
        }
        DeValue::Array(_)
        | DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => found.push((at.to_owned(), value.span())),
    }
}

/// `cohort[3].name` as `cohort[].name`.
fn general(at: &str) -> String {
    let mut inside = false;
    let kept = at.chars().filter(|letter| {
        let was = inside;
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        !(was && letter.is_ascii_digit())
    });
    kept.collect()
}

/// Whether a key has a value of its own, and is no table, list of tables or entry of a list.
fn is_leaf(key: &Key, keys: &[Key]) -> bool {
    let name = key.name();
    let entry = format!("{name}[]");
    let has_tables = |it: &Key| it.name() == entry && matches!(it.kind, Kind::Table(_));
    match key.kind {
        Kind::Table(_) => false,
        Kind::List => !keys.iter().any(has_tables),
        Kind::Text
        | Kind::Whole
        | Kind::Number
        | Kind::Flag
        | Kind::Word(_)
        | Kind::Map
        | Kind::Any => !name.ends_with("[]"),
    }
}

fn schema(args: &ConfigSchema) -> Outcome {
    let keys = config::keys_of(args.kind);
    match args.output {
        TableOrJson::Json => {
            console::data_line(format_args!("{:#}", schema_of(args.kind, &keys)))?;
        }
        TableOrJson::Table => console::data(reference(args.kind, &keys))?,
    }
    Ok(Exit::Done)
}

/// The settings of a kind of file, a line each.
fn reference(kind: FileKind, keys: &[Key]) -> String {
    let mut table = Table::new(&["SETTING", "KIND", "DEFAULT"], &[]);
    for key in keys {
        let known = explain::setting(kind.name(), &key.name());
        let usual = known.and_then(|it| it.usual).unwrap_or_default();
        table.row([key.name(), kind_word(&key.kind), usual]);
    }
    table.render("")
}

fn kind_word(kind: &Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Whole => "whole number".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::Word(words) => words.join(", "),
        Kind::Table(_) | Kind::Map => "table".to_owned(),
        Kind::List => "list".to_owned(),
        Kind::Any => "text or list".to_owned(),
    }
}

/// What a kind of file may set, as a JSON Schema.
pub(crate) fn schema_of_file(kind: FileKind) -> Value {
    schema_of(kind, &config::keys_of(kind))
}

/// The settings as a JSON Schema of the draft 2020-12.
fn schema_of(kind: FileKind, keys: &[Key]) -> Value {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("tidegate {}", kind.name()),
        "type": "object",
        "additionalProperties": false,
        "properties": {},
    });
    for key in keys {
        let mut at = Some(&mut root);
        for step in &key.path {
            at = at.and_then(|at| below(at, step));
        }
        let Some(Value::Object(place)) = at else { continue };
        place.extend(described(key));
        if let Some(Setting { meaning: Some(meaning), .. }) =
            explain::setting(kind.name(), &key.name())
        {
            place.insert("description".to_owned(), meaning.into());
        }
    }
    root
}

/// The schema of what is below another, made if it is not there.
fn below<'a>(at: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    let object = at.as_object_mut()?;
    if step == "[]" {
        return Some(object.entry("items").or_insert_with(|| json!({})));
    }
    let properties = object.entry("properties").or_insert_with(|| json!({}));
    Some(properties.as_object_mut()?.entry(step).or_insert_with(|| json!({})))
}

fn described(key: &Key) -> Map<String, Value> {
    let value = match &key.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Whole => json!({ "type": "integer" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Table(_) => json!({ "type": "object", "additionalProperties": false }),
        Kind::Map => json!({ "type": "object" }),
        Kind::List => json!({ "type": "array" }),
        Kind::Any => json!({}),
    };
    value.as_object().cloned().unwrap_or_default()
}

/// The manual page of all files, as roff.
pub(crate) fn manual() -> String {
    let mut page = ".TH tidegate-config 5\n.SH NAME\ntidegate-config \\- configuration files \
                    and policies of tidegate\n.SH DESCRIPTION\nFiles are TOML; a setting that \
                    is not listed here is refused. Made by tidegate manual from the code that \
                    reads them.\n"
        .to_owned();
    for kind in FileKind::ALL {
        say!(page, ".SH {}.TOML\n", kind.name().to_uppercase());
        for key in config::keys_of(kind) {
            let known = explain::setting(kind.name(), &key.name());
            let (usual, meaning) =
                known.map_or((None, None), |it| (it.usual, it.meaning));
            let usual =
                usual.map_or_else(String::new, |usual| format!("; default: {usual}"));
            let line = format!("{}{usual}", kind_word(&key.kind));
            say!(
                page,
                ".TP\n\\fB{}\\fR ({})\n{}\n",
                roff(&key.name()),
                roff(&line),
                roff(&meaning.unwrap_or_default())
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_every_file_stands_in_the_runbook_and_the_manual() {
        let page = manual();

        for kind in FileKind::ALL {
            let keys = config::keys_of(kind);
            assert!(keys.len() > 5, "{kind:?}: {keys:?}");
            let leaves = keys.iter().filter(|key| is_leaf(key, &keys));
            let silent =
                leaves.filter(|key| explain::setting(kind.name(), &key.name()).is_none());
            let silent: Vec<String> = silent.map(Key::name).collect();
            assert!(silent.is_empty(), "{kind:?}: {silent:?}");
            for key in keys {
                assert!(page.contains(&roff(&key.name())), "{}", key.name());
            }
        }
    }

    #[test]
    fn a_schema_nests_tables_and_lists_and_refuses_what_it_does_not_know() {
        let keys = config::keys_of(FileKind::Policy);
        let schema = schema_of(FileKind::Policy, &keys);

        let at = |place: &str| schema.pointer(place).cloned().unwrap_or_default();
        assert_eq!(at("/additionalProperties"), json!(false));
        let cohort = "/properties/cohort/items";
        assert_eq!(at(&format!("{cohort}/additionalProperties")), json!(false));
        assert_eq!(at(&format!("{cohort}/properties/canary/type")), json!("integer"));
    }

    #[test]
    fn places_in_lists_are_left_out_of_names() {
        assert_eq!(general("cohort[13].select.label.x1"), "cohort[].select.label.x1");
    }
}
