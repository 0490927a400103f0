//! Schemas: the JSON Schema of every document that commands print, made from the types that are
//! printed.
//!
//! # Invariants
//!
//! * Every `schema` that a document may name is here, once.
//! * They describe what is written: a field that may be missing says so, all others are required.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use tidegate_pages::public::Public;

use crate::cli::{FileKind, Schema};
use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::json::{Event, Finding, Mailbox, RolloutShown};
use crate::screens::{difference, plan, simulated, single};
use crate::{
    audit, desk, doctor, explain, journal, parts, planning, report, settings,
    status_page, why,
};

/// The dialect that they are written in.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What the names of ours begin with.
const OURS: &str = "tidegate.";

/// Carries out `tidegate schema`.
pub(crate) fn run(args: &Schema) -> Outcome {
    let all = all();
    if let Some(dir) = &args.to {
        write(&all, dir)?;
        return Ok(Exit::Done);
    }
    let Some(name) = &args.name else {
        for (name, schema) in &all {
            let about = schema.get("description").and_then(Value::as_str);
            let about = about.unwrap_or_default().replace('\n', " ");
            console::data_line(format_args!("{name:<30}  {about}"))?;
        }
        return Ok(Exit::Done);
    };
    let found = all.iter().find(|(known, _)| known == name || short(known) == name);
    let (_, schema) = found.ok_or_else(|| {
        let text = format!("no document has the schema `{name}`");
        Failure::text(Exit::Input, text).help("`tidegate schema` lists them")
    })?;
    console::data_line(format_args!("{schema:#}"))?;
    Ok(Exit::Done)
}

/// Writes each of them, and those of configuration files, into a file of its own.
fn write(all: &[(String, Value)], dir: &Path) -> Result<(), Failure> {
    fs::metadata(dir).with_context(|| format!("find `{}`", dir.display()))?;
    let documents = all.iter().map(|(name, schema)| {
        let (name, version) = name.split_once('/').unwrap_or((name, ""));
        (format!("{name}.{version}.json"), schema.clone())
    });
    let files = FileKind::ALL.into_iter().map(|kind| {
        (format!("{}.toml.json", kind.name()), settings::schema_of_file(kind))
    });
    for (name, schema) in documents.chain(files) {
        let file = dir.join(name);
        fs::write(&file, format!("{schema:#}\n"))
            .with_context(|| format!("write `{}`", file.display()))?;
    }
    Ok(())
}

/// Every schema with its name, by name.
fn all() -> Vec<(String, Value)> {
    let wave = of::<parts::WaveItem<'_>>();
    let node = of::<parts::NodeItem<'_>>();
    let gate = of::<parts::GateItem<'_>>();
    let mailbox = of::<Mailbox<'_>>();
    let finding = of::<Finding<'_>>();
    let event = of::<Event<'_>>();
    let mut all: Vec<(String, Value)> =
        [&wave, &node, &gate, &mailbox, &finding, &event].into_iter().map(list).collect();
    all.extend([wave, node, gate, mailbox, finding, event]);
    all.extend([
        of::<RolloutShown<'_>>(),
        of::<single::Report<'_>>(),
        of::<plan::PlanShown<'_>>(),
        of::<difference::PlanDifference<'_>>(),
        of::<planning::ShownPlan<'_>>(),
        of::<simulated::Simulation<'_>>(),
        of::<why::Reasons<'_>>(),
        of::<explain::Explanation<'_>>(),
        of::<desk::LookUp<'_>>(),
        of::<doctor::Checks>(),
        of::<settings::Settings<'_>>(),
        of::<report::Proof>(),
        of::<report::Verification>(),
        of::<audit::VerifiedAudit>(),
        of::<settings::Checked>(),
        of::<status_page::WouldRead<'_>>(),
        of::<journal::SoundJournal>(),
        of::<Public>(),
    ]);
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// The name and the schema of a document.
fn of<T: JsonSchema>() -> (String, Value) {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    let name = T::schema_name().into_owned();
    debug_assert!(name.starts_with(OURS), "a document says its schema");
    if let Some(parts) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for (name, part) in parts.iter_mut().filter(|(name, _)| name.starts_with(OURS)) {
            say_its_name(part, name);
        }
    }
    say_its_name(&mut schema, &name);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$id".to_owned(), id(&name).into());
    }
    (name, schema)
}

/// Adds the field that names the schema, which the type writes as its tag.
fn say_its_name(schema: &mut Value, name: &str) {
    let Some(fields) = schema.as_object_mut() else { return };
    let constant = json!({ "type": "string", "const": name });
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut)
    {
        properties.insert("schema".to_owned(), constant);
    }
    if let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) {
        required.push("schema".into());
    }
}

/// The name and the schema of a list of such documents as one.
fn list((item, schema): &(String, Value)) -> (String, Value) {
    let name = item.replace("/v", "-list/v");
    let mut item_schema = schema.clone();
    // What it refers to is looked for at the top.
    let mut parts = json!({});
    if let Some(fields) = item_schema.as_object_mut() {
        fields.retain(|field, _| field != "$id" && field != "$schema");
        parts = fields.remove("$defs").unwrap_or(parts);
    }
    let list = json!({
        "$schema": DRAFT,
        "$id": id(&name),
        "title": name,
        "description": format!("A list of {item}, as `-o json` prints it."),
        "type": "object",
        "properties": {
            "schema": { "type": "string", "const": name },
            "items": { "type": "array", "items": item_schema },
        },
        "required": ["schema", "items"],
        "$defs": parts,
    });
    (name, list)
}

/// What a schema is called among all there are: `urn:tidegate:status:v1`.
fn id(name: &str) -> String {
    let (name, version) = name.split_once('/').unwrap_or((name, ""));
    format!("urn:tidegate:{}:{version}", short(name))
}

/// `status` of `tidegate.status/v1`.
fn short(name: &str) -> &str {
    let name = name.strip_prefix(OURS).unwrap_or(name);
    name.split_once('/').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_has_a_name_of_its_own_and_says_what_it_is_of() {
        let all = all();

        for (name, schema) in &all {
            let version =
                name.strip_prefix("tidegate.").and_then(|it| it.split_once('/'));
            assert!(version.is_some_and(|(_, version)| version == "v1"), "{name}");
            assert!(schema["description"].is_string(), "{name}");
            assert_eq!(schema["$schema"], DRAFT, "{name}");
        }
        let pairs = all.windows(2);
        let doubled = pairs.filter(|pair| pair[0].0 == pair[1].0);
        assert_eq!(doubled.count(), 0);
    }

    #[test]
    fn states_are_one_of_the_words_that_are_ever_said() {
        let all: std::collections::BTreeMap<_, _> = all().into_iter().collect();
        let words = |schema: &str, field: &str| {
            let words = &all[schema]["properties"][field]["enum"];
            words
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_str().unwrap())
                .collect::<Vec<_>>()
        };

        let waves = words("tidegate.wave/v1", "state");
        let nodes = words("tidegate.node/v1", "state");
        let mailboxes = words("tidegate.mailbox/v1", "preparation");

        assert!(waves.contains(&"opening") && waves.contains(&"held-back"), "{waves:?}");
        assert!(nodes.contains(&"silent") && nodes.contains(&"turned-away"), "{nodes:?}");
        assert_eq!(mailboxes, ["unknown", "waiting", "prepared", "quarantined"]);
        let states = words("tidegate.status/v1", "state");
        assert!(states.contains(&"paused") && states.contains(&"no-plan"), "{states:?}");
        assert!(words("tidegate.finding/v1", "kind").contains(&"lost"));
        let verdicts = ["expand", "hold", "isolate", "halt"];
        assert_eq!(words("tidegate.gate/v1", "verdict"), verdicts);
        assert_eq!(words("tidegate.gate/v1", "standing"), ["passed", "open", "tripped"]);
        let desk = ["no-answer", "held", "opening", "open", "set-aside"];
        assert_eq!(words("tidegate.desk/v1", "state"), desk);
        // What is not always said may be null.
        let wave = &all["tidegate.wave/v1"]["properties"]["verdict"]["enum"];
        assert_eq!(wave, &json!(["expand", "hold", "isolate", "halt", null]));
        let grade = &all["tidegate.finding/v1"]["properties"]["grade"]["enum"];
        assert_eq!(grade, &json!(["perfect", "good", "investigate", "poor", null]));
        let gate = "/$defs/Gate/properties/verdict/enum";
        let of_status = all["tidegate.status/v1"].pointer(gate);
        assert_eq!(of_status, Some(&json!(verdicts)));
    }
}
