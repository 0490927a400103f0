//! What programs are told in a night: every document, judged by its published schema.

use std::collections::BTreeSet;
use std::process::Command;

use tidegate_rig::need;

use crate::site::Site;

/// An independent judge.
const PYTHON: &str = "/usr/bin/python3";

/// What is asked while it runs, with its exit code. Each answers with one document.
const WHILE_IT_RUNS: [(&str, &str, i32); 12] = [
    ("anna", "status -o json", 0),
    ("anna", "wave list -o json", 0),
    ("anna", "node list -o json", 0),
    ("anna", "gate list -o json", 0),
    ("anna", "mailbox list -o json", 0),
    ("anna", "events -o json", 0),
    ("anna", "why -o json", 0),
    ("anna", "why node stor-01 -o json", 0),
    ("anna", "explain worker-silent -o json", 0),
    ("anna", "show w.tgplan -o json", 0),
    ("anna", "config show coordinator.toml -o json", 0),
    ("anna", "plan --inventory users.csv --policy policy.toml --whole -o json", 0),
];

/// The same at the end.
const AT_THE_END: [(&str, &str, i32); 9] = [
    ("anna", "status -o json", 0),
    ("anna", "status -x -o json", 0),
    ("anna", "quarantine list -o json", 0),
    ("anna", "quarantine list -o jsonl", 0),
    ("anna", "findings export --config stor-01.toml -o jsonl", 0),
    ("anna", "events -o jsonl", 0),
    ("anna", "report -o json", 6),
    (
        "anna",
        "plan --inventory users.csv --policy policy.toml --beside rollout -o json",
        0,
    ),
    ("anna", "doctor --config coordinator.toml -o json", 0),
];

/// Asks everything that has an answer while the rollout runs.
pub(crate) fn ask_while_it_runs(site: &mut Site) {
    for (who, words, code) in WHILE_IT_RUNS {
        site.types("04:40", who, words, code);
    }
    for list in ["wave", "node", "gate", "mailbox"] {
        site.types("04:40", "anna", &format!("{list} list -o jsonl"), 0);
    }
    let inventory = site.read("users.csv");
    let address = inventory.lines().nth(1).and_then(|row| row.split(',').next()).unwrap();
    let ticket = format!("desk lookup {address} --ticket T-3 -o json");
    site.types("04:41", "dora", &ticket, 0);
    site.types("04:41", "anna", &format!("mailbox show {address} -o json"), 0);
    let played = "simulate --inventory users.csv --policy policy.toml --runs 2 \
                  --fail stor-02=60% -o json";
    site.types("04:42", "anna", played, 0);
}

/// Asks everything that has an answer at the end.
pub(crate) fn ask_at_the_end(site: &mut Site) {
    for (who, words, code) in AT_THE_END {
        site.types("05:34", who, words, code);
    }
}

/// Judges all that was told in the night.
pub(crate) fn judge_what_programs_were_told(site: &mut Site) {
    need("/usr/lib/python3/dist-packages/jsonschema/__init__.py", "python3-jsonschema");
    std::fs::create_dir(site.path("schema")).unwrap();
    site.types("05:45", "anna", "schema --to schema", 0);
    site.write("documents.jsonl", &site.documents());

    let judged = Command::new(PYTHON)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/night/judge.py"))
        .args([site.path("schema"), site.path("documents.jsonl")])
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&judged.stdout);
    let wrong: BTreeSet<&str> =
        said.lines().filter(|line| !line.starts_with(['j', 'k'])).collect();
    assert!(
        judged.status.success(),
        "{wrong:#?}{}",
        String::from_utf8_lossy(&judged.stderr)
    );
    let named = |word: &str| -> BTreeSet<&str> {
        said.lines().filter_map(|line| line.strip_prefix(word)).collect()
    };
    let unseen: Vec<_> = named("known ").difference(&named("judged ")).copied().collect();
    assert!(unseen.is_empty(), "nothing was judged by {unseen:?}");
}
