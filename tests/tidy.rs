//! Keeps the house in order: what reviewers would have to say again and again.
//!
//! # Invariants
//!
//! * A finding names the file, the line where there is one, and the rule.
#![expect(clippy::unwrap_used, reason = "a broken checkout may stop the check")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longer files want dividing by subject.
const FILE_LINES_MAX: usize = 800;

/// Names that say where a thing lies instead of what it is.
const BANNED_MODULES: [&str; 8] =
    ["utils", "helpers", "common", "misc", "manager", "types", "errors", "mod"];

/// Work left undone and tests switched off. Joined here, so that this file is tidy too.
const BANNED_WORDS: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
    concat!("#[", "ignore"),
    concat!("#[", "should_panic"),
];

/// Which of our crates each crate may know.
const ARROWS: [(&str, &[&str]); 21] = [
    ("core", &[]),
    ("clock", &["core"]),
    ("pages", &["core", "wire"]),
    ("rehearsal", &["core"]),
    ("wire", &["core"]),
    ("journal", &[]),
    ("mail", &[]),
    ("admission", &[]),
    ("lab", &[]),
    ("rig", &[]),
    (SIM, &[]),
    ("mailserver", &["secret"]),
    ("secret", &[]),
    ("watchdog", &[]),
    ("trace", &[]),
    ("trust", &["secret"]),
    ("audit", &["secret"]),
    (
        "coordinator",
        &[
            "core", "clock", "wire", "journal", "secret", "watchdog", "trace", "trust",
            "audit",
        ],
    ),
    (
        "worker",
        &[
            "core",
            "clock",
            "wire",
            "journal",
            "mail",
            "admission",
            "mailserver",
            "secret",
            "watchdog",
            "trace",
            "trust",
        ],
    ),
    ("exchanger", &["core", "wire", "admission", "mailserver", "watchdog", "trust"]),
    (
        ROOT,
        &[
            "core",
            "wire",
            "journal",
            "mail",
            "coordinator",
            "worker",
            "exchanger",
            "lab",
            "mailserver",
            "secret",
            "rehearsal",
            "pages",
            "trace",
            "trust",
            "audit",
        ],
    ),
];

/// The root package, the program.
const ROOT: &str = "tidegate";

/// The simulator, a package of tests alone.
const SIM: &str = "sim";

/// Foreign crates that only one of ours may know.
const OWNED: [(&str, &str); 6] = [
    ("prost", "wire"),
    ("prost-types", "wire"),
    ("sled", "journal"),
    ("opentelemetry", "trace"),
    ("opentelemetry-otlp", "trace"),
    ("tracing-opentelemetry", "trace"),
];

/// All that deciding needs.
const CORE_NEEDS: [&str; 3] = ["blake3", "thiserror", "twox-hash"];

/// What may stand at the top, besides files whose names begin with a dot and what a build
/// leaves behind.
const TOP: [&str; 9] = [
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "crates",
    "deploy",
    "proto",
    "src",
    "target",
    "tests",
];

#[test]
fn nothing_stands_at_the_top_that_does_not_belong_there() {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());

    check(entries.filter_map(|name| {
        let name = name.to_string_lossy().into_owned();
        let belongs = name.starts_with('.') || TOP.contains(&name.as_str());
        (!belongs).then(|| format!("{name}: move it into one of the folders there are"))
    }));
}

#[test]
fn every_rust_file_opens_with_its_purpose_and_stays_short() {
    check(rust_files().flat_map(|(path, text)| {
        let no_purpose = !text.starts_with("//! ");
        let lines = text.lines().count();
        let too_long = lines > FILE_LINES_MAX;
        [
            no_purpose
                .then(|| format!("{path}: does not open with `//!` and its purpose")),
            too_long.then(|| format!("{path}: {lines} lines, limit {FILE_LINES_MAX}")),
        ]
        .into_iter()
        .flatten()
    }));
}

#[test]
fn modules_are_named_after_things() {
    check(rust_files().filter_map(|(path, _)| {
        let name = Path::new(&path).file_stem()?.to_str()?.to_owned();
        let folder =
            Path::new(&path).parent()?.file_name().and_then(|name| name.to_str());
        let banned = |name: &str| BANNED_MODULES.contains(&name);
        (banned(&name) || folder.is_some_and(banned))
            .then(|| format!("{path}: names a place, not a thing"))
    }));
}

#[test]
fn no_work_is_left_undone_and_no_test_switched_off() {
    let files = rust_files().chain(files_with("proto")).chain(files_with("md"));
    check(files.flat_map(|(path, text)| {
        let findings = text.lines().zip(1..).flat_map(|(line, number)| {
            let found = BANNED_WORDS.iter().filter(|word| contains_word(line, word));
            found.map(move |word| (number, *word)).collect::<Vec<_>>()
        });
        let findings =
            findings.map(|(number, word)| format!("{path}:{number}: `{word}`"));
        findings.collect::<Vec<_>>()
    }));
}

#[test]
fn no_crate_knows_what_it_must_not() {
    check(manifests().into_iter().flat_map(|(name, manifest)| {
        let mut findings = Vec::new();
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            return vec![format!("{name}: no arrows are drawn for this crate")];
        };
        let ours = dependencies(&manifest, &["dependencies", "build-dependencies"]);
        for other in ours.iter().filter_map(|name| name.strip_prefix("tidegate-")) {
            if !allowed.contains(&other) {
                findings.push(format!("{name}: must not know {other}"));
            }
        }
        if name == "core" {
            for foreign in ours.iter().filter(|name| !CORE_NEEDS.contains(&name.as_str()))
            {
                findings.push(format!("core: must not know {foreign}"));
            }
        }
        let all = ["dependencies", "build-dependencies", "dev-dependencies"];
        for foreign in dependencies(&manifest, &all) {
            let owner = OWNED.iter().find(|(owned, _)| *owned == foreign);
            if let Some((_, owner)) = owner.filter(|(_, owner)| *owner != name) {
                findings.push(format!("{name}: only {owner} may know {foreign}"));
            }
        }
        findings
    }));
}

#[test]
fn every_crate_takes_its_versions_and_lints_from_the_workspace() {
    check(manifests().into_iter().flat_map(|(name, manifest)| {
        let mut findings = Vec::new();
        if manifest.get("lints").and_then(|lints| lints.get("workspace"))
            != Some(&toml::Value::Boolean(true))
        {
            findings.push(format!("{name}: does not take the workspace's lints"));
        }
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for (foreign, wanted) in tables(&manifest, section) {
                if wanted.get("workspace") != Some(&toml::Value::Boolean(true)) {
                    findings.push(format!("{name}: {foreign} has a version of its own"));
                }
            }
        }
        findings
    }));
}

#[test]
fn the_code_map_in_the_readme_is_true_and_names_every_crate() {
    let readme =
        fs::read_to_string(root().join("README.md")).expect("there is a README.md");
    let map = map_paths(&readme);
    assert!(!map.is_empty(), "README.md: no ```text block under `## Code map`");

    let missing = map.iter().filter(|path| !root().join(path).exists()).map(|path| {
        format!("README.md: the code map lists `{path}`, which does not exist")
    });
    let unlisted = manifests()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name != ROOT && name != SIM)
        .filter(|name| !map.contains(&format!("crates/{name}")))
        .map(|name| format!("README.md: the code map does not list `crates/{name}`"));

    check(missing.chain(unlisted));
}

#[test]
fn everything_in_a_contract_is_explained() {
    let contracts: Vec<_> = files_with("proto").collect();
    assert!(!contracts.is_empty(), "there are contracts below proto/");

    check(contracts.iter().flat_map(|(path, text)| {
        let unexplained = unexplained(text).into_iter();
        unexplained.map(move |(number, what)| {
            format!("{path}:{number}: `{what}` is unexplained")
        })
    }));
}

#[test]
fn an_unexplained_part_of_a_contract_is_found() {
    let contract = "\
// A contract.
syntax = \"proto3\";

message Bare {
  // Its number.
  uint64 number = 1;
  string text = 2;
  map<string, string> labels = 3 [deprecated = true];
  // A reason is
  // explained here.
  optional Reason reason = 4;
  reserved 5;
  oneof kind {
    // One.
    Bare one = 6;
  }
}

// Explained.
enum Reason {
  REASON_UNSPECIFIED = 0;
}

// Explained.
service Service {
  rpc Ask(Bare) returns (Bare);
}
";

    let found: Vec<_> = unexplained(contract).into_iter().map(|(line, _)| line).collect();

    assert_eq!(found, [4, 7, 8, 13, 21, 26]);
}

#[test]
fn a_code_map_is_read_as_a_list_or_as_a_tree() {
    let paths = map_paths(
        "## Code map\n\n```text\nsrc/         the program, e.g. its arguments\n             and screens\n\
         tidegate/\n├── crates/\n│   ├── core/   decides\n│   └── wire/   speaks\n└── tests/\n```\n",
    );

    assert_eq!(paths, ["src", "crates", "crates/core", "crates/wire", "tests"]);
}

/// Fails with all findings at once.
fn check(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<_> = findings.into_iter().collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    files_with("rs")
}

/// The files of ours that end so, with their paths below the root and their text.
fn files_with(extension: &str) -> impl Iterator<Item = (String, String)> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text)
    })
}

/// Everything but what is built or hidden.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(&entry.path(), paths);
            }
        } else {
            paths.push(entry.path());
        }
    }
}

/// Whether a line has `word` standing for itself, not inside a longer one.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        let (before, rest) = line.split_at(at);
        let after = rest.strip_prefix(word).unwrap_or_default();
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

/// The manifests of the program and of every crate, by short name.
fn manifests() -> Vec<(String, toml::Table)> {
    let read = |path: &Path| fs::read_to_string(path).unwrap().parse().unwrap();
    let mut manifests = vec![
        (ROOT.to_owned(), read(&root().join("Cargo.toml"))),
        (SIM.to_owned(), read(&root().join("tests/sim/Cargo.toml"))),
    ];
    for entry in fs::read_dir(root().join("crates")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_str().unwrap().to_owned();
        manifests.push((name, read(&entry.path().join("Cargo.toml"))));
    }
    manifests.sort_by(|a, b| a.0.cmp(&b.0));
    manifests
}

fn dependencies(manifest: &toml::Table, sections: &[&str]) -> BTreeSet<String> {
    sections
        .iter()
        .flat_map(|name| tables(manifest, name))
        .map(|(name, _)| name)
        .collect()
}

/// The entries of one section, those for single platforms included.
fn tables(manifest: &toml::Table, section: &str) -> Vec<(String, toml::Value)> {
    let platforms = manifest.get("target").and_then(toml::Value::as_table).into_iter();
    let platforms =
        platforms.flat_map(|table| table.values()).filter_map(|t| t.get(section));
    let sections = manifest.get(section).into_iter().chain(platforms);
    let entries = sections.filter_map(toml::Value::as_table).flatten();
    entries.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The paths in the fenced text block under `## Code map`: the first word of each line, below
/// the path that stands further left in a line above. Lines whose first word is no path go
/// on with the description.
fn map_paths(readme: &str) -> Vec<String> {
    let map = readme.split_once("\n## Code map\n").or(readme.split_once("## Code map\n"));
    let block = map.and_then(|(_, rest)| rest.split_once("```text\n"));
    let block = block.and_then(|(_, rest)| rest.split_once("```"));
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut paths = Vec::new();
    for line in block.map_or("", |(block, _)| block).lines() {
        let drawing = |c: char| c.is_whitespace() || "│├└─".contains(c);
        let column = line.chars().take_while(|c| drawing(*c)).count();
        let word: String = line.chars().skip(column).take_while(|c| *c != ' ').collect();
        let file = Path::new(&word).extension().is_some() && !word.ends_with('.');
        if !(word.contains('/') || file) {
            continue;
        }
        above.retain(|(left, _)| *left < column);
        let folder = above.last().map_or("", |(_, path)| path.as_str());
        let path = format!("{folder}{word}");
        if path == "tidegate/" {
            // The root itself, as the head of a tree.
            continue;
        }
        above.push((column, path.clone()));
        paths.push(path.trim_end_matches('/').to_owned());
    }
    paths
}

/// The lines of a contract that name something without a comment above it.
fn unexplained(contract: &str) -> Vec<(usize, &str)> {
    let mut explained = false;
    let mut found = Vec::new();
    for (line, number) in contract.lines().map(str::trim).zip(1..) {
        if line.starts_with("//") {
            explained = true;
            continue;
        }
        if names_something(line) && !explained {
            found.push((number, line));
        }
        explained = false;
    }
    found
}

fn names_something(line: &str) -> bool {
    let keyword = line.split(' ').next().unwrap_or_default();
    match keyword {
        "message" | "enum" | "service" | "rpc" | "oneof" => true,
        "syntax" | "package" | "import" | "option" | "reserved" | "extensions" | "" => {
            false
        }
        _ => {
            let number = line.split_once(" = ").map_or("", |(_, number)| number);
            number.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        }
    }
}
