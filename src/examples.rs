//! Examples: what people type, verb by verb, for `--help` and the manual.
//!
//! # Invariants
//!
//! * Every verb has one, and every one is a command line that the program takes.
//! * They stand in the order in which a person would need them.

use clap::Command;

use crate::screens::say;

/// A line, and what it does.
pub(crate) type Example = (&'static str, &'static str);

/// All of them.
const EXAMPLES: &[Example] = &[
    ("tidegate lab", "breaks 1,500 mailboxes and brings them back"),
    ("tidegate lab --nodes 5 --fault kill=20", "while programs are killed"),
    (
        "tidegate plan --inventory users.csv --policy policy.toml --out w.tgplan",
        "shows a plan and saves it",
    ),
    (
        "tidegate plan --inventory users.csv --policy policy.toml --beside rollout",
        "only what differs from what runs",
    ),
    ("tidegate show w.tgplan", "what it does, and whether it can still be started"),
    (
        "tidegate simulate --inventory users.csv --policy policy.toml --fail stor-17=30%",
        "what a sick node would come to",
    ),
    ("tidegate start w.tgplan", "asks for the policy's name first"),
    ("tidegate start w.tgplan --yes --request-id night-1", "in a script, safe to repeat"),
    (
        "tidegate apply --inventory users.csv --policy policy.toml --plan DIGEST --yes",
        "for scripts that keep the digest",
    ),
    ("tidegate status", "how far, what it waits for, what to type"),
    ("tidegate status -x", "only what needs somebody"),
    ("tidegate status --test", "for a monitoring system: 0, 2 or 4"),
    ("tidegate watch", "a screen; p pauses"),
    ("tidegate watch -o jsonl --until finished", "for a program"),
    ("tidegate watch --record night.tgwatch", "keeps it; --replay shows it again"),
    ("tidegate events", "what happened, and who did it"),
    ("tidegate report", "the sums"),
    (
        "tidegate report build proof/ --outage-start 2026-01-22T23:04:00+01:00",
        "a proof, and how long each tier waited",
    ),
    (
        "tidegate report verify proof/ --digest DIGEST",
        "asks nobody; 1 if anything was changed",
    ),
    (
        "tidegate wait --for wave=canary-1:passed --timeout 7200",
        "0 it is so, 5 not in time, 2 stopped meanwhile",
    ),
    ("tidegate why", "why nothing happens, and what to do"),
    ("tidegate why node stor-02", "the same of one node"),
    (
        "tidegate explain worker-silent",
        "what a word means; works while everything is down",
    ),
    ("tidegate wave list", "every wave"),
    ("tidegate wave list -x", "those that need somebody; 1 if there are any"),
    ("tidegate node list -x", "nodes that do not work; 1 if there are any"),
    ("tidegate gate list canary-1", "what is counted, where it passes and trips"),
    ("tidegate mailbox list --node stor-02 --held -o csv", "for a spreadsheet"),
    ("tidegate mailbox show anna@example.org", "one mailbox, and why it waits"),
    ("tidegate quarantine list -o csv", "what was set aside, and why"),
    (
        "tidegate quarantine retry anna@example.org --reason 'its disk is back'",
        "verified and repaired anew",
    ),
    (
        "tidegate findings export --config worker.toml --mailbox anna@example.org",
        "on the node: all that was found in it",
    ),
    (
        "tidegate desk lookup anna@example.org --ticket T-88121",
        "what to tell a user; it is logged",
    ),
    (
        "tidegate status-page build --site status.toml --to /srv/status",
        "every few minutes",
    ),
    ("tidegate notice preview --site status.toml", "what people would read"),
    ("tidegate notice lint --site status.toml", "1 if a sentence claims too much"),
    ("tidegate pause", "at once; asks nobody"),
    ("tidegate pause --reason 'support is flooded'", "with a reason for the record"),
    ("tidegate freeze --reason 'the press is here'", "until a second person thaws it"),
    ("tidegate thaw --reason 'they have left'", "somebody else than who froze it"),
    ("tidegate resume --reason 'support has caught up'", "goes on"),
    ("tidegate resume node stor-02 --reason 'disks replaced'", "lets a node open again"),
    (
        "tidegate reclose node stor-02 --reason 'replacing disks' --wait",
        "its users out again, and the rollout paused",
    ),
    (
        "tidegate reclose mailbox anna@example.org --reason 'wrong mail' --wait",
        "one user alone",
    ),
    (
        "tidegate expand canary-1 --reason 'everybody sleeps, probes are good'",
        "where nothing but samples is missing",
    ),
    (
        "tidegate emergency begin --lasts 240 --reason 'elections tomorrow'",
        "shorter soaks for four hours",
    ),
    ("tidegate emergency end", "back to the usual gates"),
    ("tidegate abort --reason 'we go another way'", "for good; what is open stays open"),
    (
        "tidegate approve apply w.tgplan --reason 'read it with anna'",
        "leave to start a plan",
    ),
    (
        "tidegate approve resume --if-match ETAG --evidence NAME --reason 'gate is green'",
        "both stand in `tidegate status`",
    ),
    (
        "tidegate approve accept stor-02 --if-match ETAG --evidence NAME --reason 'seen'",
        "leave to let a worker back in",
    ),
    (
        "tidegate approve expand canary-1 --if-match ETAG --evidence NAME --reason 'seen'",
        "leave to override a hold",
    ),
    (
        "tidegate approve emergency --lasts 240 --if-match ETAG --evidence NAME --reason 'seen'",
        "leave to begin an emergency",
    ),
    (
        "tidegate accept stor-02 --reason 'the backup of yesterday is meant'",
        "a worker that was turned away",
    ),
    (
        "tidegate rebuild --inventory users.csv --policy policy.toml --reason 'its disk is gone'",
        "from what the workers hold",
    ),
    (
        "tidegate init /root/pki --node stor-01 --operator anna --approver berta",
        "says what to write where",
    ),
    ("tidegate coordinator --config /etc/tidegate/coordinator.toml", "as its unit does"),
    ("tidegate worker --config /etc/tidegate/worker.toml", "as its unit does"),
    ("tidegate mx --config /etc/tidegate/mx.toml", "as its unit does"),
    ("tidegate solo --config solo.toml", "one machine, one process"),
    ("tidegate doctor --config /etc/tidegate/worker.toml", "1 if a check failed"),
    ("tidegate config check policy.toml", "line and caret; 65 if anything is wrong"),
    (
        "tidegate config show --origin worker.toml",
        "every setting, and where it comes from",
    ),
    ("tidegate config schema policy", "a JSON Schema for an editor"),
    (
        "tidegate journal verify /var/lib/tidegate/coordinator/journal",
        "while its program is stopped",
    ),
    ("tidegate journal export /var/lib/tidegate/coordinator/journal", "an object a line"),
    (
        "tidegate journal repair /var/lib/tidegate/worker/journal",
        "shows what would be kept; --yes writes it",
    ),
    (
        "tidegate audit verify audit.jsonl --anchors audit.anchors --key audit.pub",
        "1 if anything was changed",
    ),
    ("tidegate manifest make --config worker.toml", "while all is well"),
    (
        "tidegate manifest import --config worker.toml --digest sha256 SHA256SUMS",
        "digests made elsewhere",
    ),
    ("tidegate manifest verify --config worker.toml", "changes nothing"),
    ("tidegate schema", "lists them"),
    ("tidegate schema status", "what `status -o json` prints"),
    ("tidegate completions bash", "the packages bring them"),
    ("tidegate manual /tmp/man", "the packages bring them"),
];

/// Those of a verb, by its words: `wave list`. Of a verb with verbs below it, those of all of them.
pub(crate) fn of(verbs: &str) -> impl Iterator<Item = &'static Example> {
    let begins = format!("tidegate {verbs}");
    EXAMPLES.iter().filter(move |(line, _)| {
        let rest = line.strip_prefix(begins.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// `command` with examples at the end of what `--help` says of it and all below it.
pub(crate) fn shown_in(command: Command) -> Command {
    verbs_of(command, "")
}

fn verbs_of(command: Command, above: &str) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| {
        let verbs = format!("{above} {name}").trim_start().to_owned();
        command.mut_subcommand(name, |below| {
            let text = text(&verbs);
            verbs_of(below.after_long_help(text), &verbs)
        })
    })
}

fn text(verbs: &str) -> String {
    let mut out = String::from("Examples:");
    for (line, does) in of(verbs) {
        say!(out, "\n  {line}\n      {does}");
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::Cli;

    /// What the program says of a command line, if it does not take it.
    fn refused(words: &[String]) -> Option<String> {
        let error = Cli::try_parse_from(words).err().filter(clap::Error::use_stderr)?;
        let said = error.to_string();
        Some(format!(
            "`{}`: {}",
            words.join(" "),
            said.lines().next().unwrap_or_default()
        ))
    }

    /// Every verb without others below it.
    fn leaves(command: &Command, above: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands() {
            let verbs = format!("{above} {}", below.get_name()).trim_start().to_owned();
            if !below.has_subcommands() || verbs == "report" {
                found.push(verbs.clone());
            }
            leaves(below, &verbs, found);
        }
    }

    #[test]
    fn every_verb_has_an_example_that_the_program_takes() {
        let mut verbs = Vec::new();
        leaves(&Cli::command(), "", &mut verbs);

        assert!(verbs.len() > 50, "{verbs:?}");
        let silent = verbs.iter().filter(|verbs| of(verbs).next().is_none());
        assert_eq!(silent.collect::<Vec<_>>(), Vec::<&String>::new());
        let lines = EXAMPLES.iter().map(|(line, _)| shlex::split(line).unwrap());
        let wrong: Vec<String> = lines.filter_map(|words| refused(&words)).collect();
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn help_ends_with_examples() {
        let mut command = shown_in(Cli::command());
        command.build();
        let wave = command.find_subcommand_mut("wave").unwrap();
        let list = wave.find_subcommand_mut("list").unwrap();

        let long = list.render_long_help().to_string();
        let short = list.render_help().to_string();

        assert!(long.contains("\n  tidegate wave list -x\n      those that"), "{long}");
        assert!(!short.contains("Examples:"), "{short}");
    }

    #[test]
    fn every_command_in_the_readme_and_the_runbook_is_one_that_the_program_takes() {
        let pages = [include_str!("../README.md"), include_str!("../deploy/README.md")];
        let lines: Vec<Vec<String>> = pages.into_iter().flat_map(commands).collect();

        assert!(lines.len() > 100, "only {} commands were found", lines.len());
        let wrong: Vec<String> = lines.iter().filter_map(|it| refused(it)).collect();
        assert_eq!(wrong, Vec::<String>::new());
    }

    /// Our commands in the examples for a shell on a page.
    fn commands(page: &str) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let blocks = page.split("\n```sh\n").skip(1);
        for block in blocks.map(|it| it.split("\n```").next().unwrap_or_default()) {
            for line in block.replace("\\\n", " ").lines() {
                // What stands behind these is another command, or a file.
                let line = line.replace("$(", "\n");
                let parts = line.split(['|', ';', '>', '<', '&', '\n']);
                for part in parts.filter_map(|part| part.split_once("tidegate ")) {
                    let (before, rest) = part;
                    let mut before = before.split_whitespace();
                    let is_ours = before.all(|it| it.ends_with('$') || it.contains('='));
                    let words = shlex::split(rest.trim_end_matches(')'));
                    if let Some(words) = words.filter(|_| is_ours) {
                        let program = std::iter::once("tidegate".to_owned());
                        found.push(program.chain(words).collect());
                    }
                }
            }
        }
        found
    }
}
