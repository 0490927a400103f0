//! The command line as a shell sees it: exit codes and messages of the built program.
//!
//! # Invariants
//!
//! * Bad input ends with its documented code, says what to do, and changes nothing.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect};
use tempfile::TempDir;

const POLICY: &str = include_str!("../deploy/config/lab-policy-small.toml");

const INVENTORY: &str = "address,node,tier,path\n\
    anna@example.org,stor-01,paid,example.org/anna/Maildir\n\
    bob@example.org,stor-02,free,example.org/bob/Maildir\n\
    carla@example.net,stor-01,business,example.net/carla/Maildir\n";

#[test]
fn a_configuration_is_checked_shown_with_its_origins_and_described() {
    let dir = TempDir::with_prefix("tidegate-config-").unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(at("coordinator.toml"), "# mine\ndata_dir = \"data\"\n").unwrap();
    fs::write(at("bad.toml"), "name = \"n\"\n[gate]\nmin_smaple = 3\n").unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let done = command.args(args).env_remove("TIDEGATE_LOG").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };

    let good = run(&["config", "check", &at("coordinator.toml")]);
    let bad = run(&["config", "check", "--as", "policy", &at("bad.toml")]);
    let unnamed = run(&["config", "check", &at("bad.toml")]);
    let shown = run(&["config", "show", "--origin", &at("coordinator.toml")]);
    let schema = run(&["config", "schema", "worker"]);

    assert_eq!(good.0, Some(0), "{}", good.2);
    assert_eq!(bad.0, Some(65));
    assert!(bad.2.contains("bad.toml:3:1"), "{}", bad.2);
    assert_eq!(unnamed.0, Some(64));
    assert!(shown.1.contains("coordinator.toml:2"), "{}", shown.1);
    let listen = shown.1.lines().find(|line| line.starts_with("listen ")).unwrap();
    assert!(listen.contains("127.0.0.1:7443") && listen.ends_with("default"), "{listen}");
    let schema: serde_json::Value = serde_json::from_str(&schema.1).unwrap();
    assert_eq!(schema["properties"]["dovecot"]["additionalProperties"], false);
}

#[test]
fn the_contexts_of_a_person_are_checked_each_of_them() {
    let dir = TempDir::with_prefix("tidegate-contexts-").unwrap();
    let file = dir.path().join("config.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let done = command.args(["config", "check"]).arg(&file).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let night = "context = \"night\"\n[contexts.night]\n\
                 coordinator = \"https://coordinator:7443\"\n";
    let lab = "[contexts.lab]\ncoordinator = \"http://127.0.0.1:7443\"\n";
    let key = "certificate = \"cert.pem\"\nkey = \"key.pem\"\nca = \"ca.pem\"\n";
    fs::write(dir.path().join("cert.pem"), "").unwrap();
    fs::write(dir.path().join("ca.pem"), "").unwrap();

    let no_key = check(&format!("{night}{key}{lab}"));
    fs::write(dir.path().join("key.pem"), "").unwrap();
    let good = check(&format!("{night}{key}{lab}"));
    let half = check(&format!("{night}ca = \"ca.pem\"\n{lab}"));
    let nobody = check(&format!("context = \"nigth\"\n{lab}"));
    let plain = check("[contexts.lab]\ncoordinator = \"http://mail.example:7443\"\n");
    let typing = check("[contexts.lab]\ncoordinater = \"http://127.0.0.1:7443\"\n");

    assert_eq!(good.0, Some(0), "{}", good.1);
    let wrong = |(code, said): &(Option<i32>, String), words: &str| {
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(*code, Some(65), "{said}");
    };
    wrong(&no_key, "key.pem");
    wrong(&half, "certificate, key and ca belong together");
    wrong(&nobody, "no context `nigth`");
    wrong(&plain, "mail.example");
    wrong(&typing, "coordinater");
}

#[test]
fn the_version_names_the_commit_that_it_is_built_from() {
    let done = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("--version").output();
    let shown = String::from_utf8(done.unwrap().stdout).unwrap();
    let git = |args: &[&str]| {
        let here = ["-C", env!("CARGO_MANIFEST_DIR")];
        let done = Command::new("git").args(here).args(args).output().unwrap();
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };

    let version = concat!("tidegate ", env!("CARGO_PKG_VERSION"));
    // A copy of the files alone is built from no commit.
    if git(&["rev-parse", "--show-toplevel"]) == env!("CARGO_MANIFEST_DIR") {
        let commit = shown.trim_end().strip_prefix(version).unwrap_or_default();
        let commit = commit.trim_matches([' ', '(', ')']);
        assert_eq!(shown, format!("{version} ({commit})\n"));
        assert_eq!(commit.len(), 12, "{shown}");
        assert_eq!(git(&["cat-file", "-t", commit]), "commit", "{shown}");
    } else {
        assert_eq!(shown, format!("{version}\n"));
    }
}

#[test]
fn systemds_journal_takes_the_catalogue_and_says_what_to_do() {
    let dir = TempDir::with_prefix("tidegate-catalogue-").unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("usr/lib/systemd/catalog")).unwrap();
    fs::create_dir_all(at("var/lib/systemd/catalog")).unwrap();
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).output().unwrap();
        let told = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{program} {args:?}: {told} {:?}", done.stderr);
        told
    };
    let tidegate = env!("CARGO_BIN_EXE_tidegate");
    let catalogues = at("usr/lib/systemd/catalog").display().to_string();
    let root = format!("--root={}", dir.path().display());

    run(tidegate, &["manual", &catalogues]);
    run("journalctl", &[&root, "--update-catalog"]);
    let halted = run(tidegate, &["explain", "halted", "-o", "json"]);
    let halted: serde_json::Value = serde_json::from_str(&halted).unwrap();
    let id = halted["message_id"].as_str().unwrap();
    let told = run("journalctl", &[&root, "--dump-catalog", id]);

    assert!(told.contains("Subject: Tidegate: halted"), "{told}");
    assert!(told.contains("More: tidegate explain halted"), "{told}");
    let italian = fs::read_to_string(at("usr/lib/systemd/catalog/tidegate.it.catalog"));
    assert!(italian.unwrap().contains(&format!("-- {id}\nSubject: Tidegate: Fermato")));
}

#[test]
fn a_code_is_explained_while_everything_is_down() {
    let desk = Desk::new(INVENTORY, POLICY);

    let page = desk.tidegate(&["explain", "node-recounting"]);
    assert_eq!(page.status.code(), Some(0), "{page:?}");
    let page = String::from_utf8_lossy(&page.stdout);
    let place = "\n  Why it waits > The rollout, a wave, a node, a mailbox\n";
    assert!(page.starts_with("node-recounting\n") && page.contains(place), "{page}");
    assert!(
        page.contains("\n    means: the node has yet to tell what it holds"),
        "{page}"
    );
    assert!(
        page.contains("\n    do: wait; its worker must be of this version\n"),
        "{page}"
    );
    let json = desk.tidegate(&["explain", "TidegateHalted", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.pointer("/schema").unwrap(), "tidegate.explain/v1");
    assert_eq!(json.pointer("/see/0/title").unwrap(), "The gate halts");
    let slip = desk.tidegate(&["explain", "node-recount"]);
    assert_eq!(slip.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&slip.stderr).contains("`node-recounting`"));
}

#[test]
fn a_rollout_is_played_before_it_is_begun_and_named_nodes_must_exist() {
    let desk = Desk::new(INVENTORY, POLICY);
    let simulate = |more: &[&str]| {
        let args = ["simulate", "--inventory", "users.csv", "--policy", "policy.toml"];
        desk.tidegate(&[&args[..], &["--runs", "3"], more].concat())
    };

    let healthy = simulate(&[]);
    let sick = simulate(&["--fail", "100%", "-o", "json"]);
    let unknown = simulate(&["--slow", "stor-17=4x"]);
    let wrong = simulate(&["--lose", "stor-01"]);

    assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");
    let text = String::from_utf8_lossy(&healthy.stdout);
    assert!(text.contains("\n  finished         3"), "{text}");
    assert!(text.contains("Nothing has been changed."), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&sick.stdout).unwrap();
    assert_eq!(json.pointer("/schema").unwrap(), "tidegate.simulation/v1");
    assert_eq!(json.pointer("/rollouts/2/outcome").unwrap(), "halted");
    assert_eq!(json.pointer("/rollouts/0/halt/code").unwrap(), "too-many-failures");
    assert_eq!(unknown.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no node `stor-17`"));
    assert_eq!(wrong.status.code(), Some(64));
}

#[test]
fn every_verb_has_a_manual_page_and_shells_complete_it() {
    let desk = Desk::new(INVENTORY, POLICY);
    let pages = TempDir::new().unwrap();
    let dir = pages.path().to_str().unwrap();

    let written = desk.tidegate(&["manual", dir]);
    let nowhere = desk.tidegate(&["manual", "/nonexistent"]);

    assert_eq!(written.status.code(), Some(0), "{written:?}");
    for page in ["tidegate.1", "tidegate-pause.1", "tidegate-mailbox-list.1"] {
        let text = fs::read_to_string(pages.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    let codes = fs::read_to_string(pages.path().join("tidegate-codes.7")).unwrap();
    assert!(codes.contains("worker\\-silent"), "{codes}");
    let main = fs::read_to_string(pages.path().join("tidegate.1")).unwrap();
    assert!(main.contains("Exit status: 0 done"), "{main}");
    assert_eq!(nowhere.status.code(), Some(1));
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.tidegate(&["completions", shell]);
        assert_eq!(script.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&script.stdout).contains("reclose"), "{shell}");
    }
}

#[test]
fn help_is_given_however_it_is_asked_for_and_ends_with_examples() {
    let desk = Desk::new(INVENTORY, POLICY);

    let verb = desk.tidegate(&["help", "wave", "list"]);
    let flag = desk.tidegate(&["wave", "list", "--help"]);
    let all = desk.tidegate(&["help"]);

    assert_eq!(verb.status.code(), Some(0), "{verb:?}");
    assert_eq!(text(&verb.stdout), text(&flag.stdout));
    let help = text(&verb.stdout);
    assert!(help.contains("\nExamples:\n  tidegate wave list\n"), "{help}");
    assert_eq!(all.status.code(), Some(0));
    assert!(text(&all.stdout).contains("Stop and go on:"), "{all:?}");
}

#[test]
fn a_plan_is_shown_and_names_the_command_that_applies_it() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["plan", "--inventory", "users.csv", "--policy", "policy.toml"]),
        0,
        &expect![[r"
            read 3 rows from users.csv
            Plan lab  inventory 9999515e4d07  policy bd6899bb5ca7

              3 mailboxes on 2 nodes   3 in waves   0 excluded
              most on stor-01: 2, 66.6 %

              WAVE              WHO             MAILBOXES   SHARE  NODES  NEEDS
              + 0   business-1  tier business           1  33.3 %      1      1
              + 1   rest-1      everybody left          2  66.6 %      2      2

              Each wave opens step by step:
              level 1 receive: lmtp; soak 1 s
              level 2 webmail: webmail; soak 2 s
              level 3 mail: imap, pop3, submission; soak 2 s
              level 4 accessories: sieve; soak 1 s

              By schedule; waves behind climb as far as these have come:
              business: mail 5 s after webmail

              Held users are told in `en`, or as their label `language` says; hours are those of UTC

              Gate before each step and each next wave: every mailbox must stay healthy for 2 s, at most 0 may fail

            ! 2 to look at
              !  TG0102  cohort `canary` selects nobody
              !  TG0104  wave `rest-1` jumps from 33.3333 % of all mailboxes to 100 %

            Plan: 2 waves to open, 3 mailboxes. Nothing has been changed.
            Digest 85a0aea54864fc418330b6386d1151bccaa0178c5b1e316a63b6f9462b8fb8f4
            Next   tidegate apply --inventory users.csv --policy policy.toml --plan 85a0aea54864fc418330b6386d1151bccaa0178c5b1e316a63b6f9462b8fb8f4
        "]],
    );
}

#[test]
fn the_same_files_give_the_same_digest_in_any_order_of_rows() {
    let desk = Desk::new(INVENTORY, POLICY);
    let mut rows: Vec<&str> = INVENTORY.lines().collect();
    rows[1..].reverse();
    fs::write(desk.dir.path().join("reversed.csv"), rows.join("\n")).unwrap();

    let digest = |file| {
        let args = ["plan", "--inventory", file, "--policy", "policy.toml", "-o", "json"];
        let shown = desk.tidegate(&args).stdout;
        let plan: serde_json::Value = serde_json::from_slice(&shown).unwrap();
        plan["digest"].as_str().unwrap().to_owned()
    };

    assert_eq!(digest("users.csv"), digest("reversed.csv"));
}

#[test]
fn with_a_detailed_exit_code_a_plan_with_waves_ends_with_2() {
    let desk = Desk::new(INVENTORY, POLICY);
    let args = [
        "plan",
        "--inventory",
        "users.csv",
        "--policy",
        "policy.toml",
        "--detailed-exitcode",
    ];

    assert_eq!(desk.tidegate(&args).status.code(), Some(2));
}

#[test]
fn every_bad_row_is_reported_with_its_line_and_nothing_is_imported() {
    let bad = "address,node,tier,path\n\
        anna@example.org,stor-01,paid,example.org/anna\n\
        no-at-sign,stor-01,paid,example.org/nobody\n\
        Anna@example.org,stor-01,paid,example.org/anna2\n\
        eve@example.org,stor-01,paid,../eve\n";
    let desk = Desk::new(bad, POLICY);

    check(
        &desk.tidegate(&["plan", "--inventory", "users.csv", "--policy", "policy.toml"]),
        65,
        &expect![[r"
            error: `users.csv`: 3 of 4 rows are refused, nothing is imported
              line 3: the address is not of the form local@domain
              line 4: the address is on line 2 already
              line 5: the path leads outside the mail root (it is absolute or has a `..`)
        "]],
    );
}

#[test]
fn a_misspelt_key_of_a_policy_is_shown_with_a_caret_and_the_likely_one() {
    let desk = Desk::new(INVENTORY, &POLICY.replace("hash_seed", "hash_sed"));

    check(
        &desk.tidegate(&["plan", "--inventory", "users.csv", "--policy", "policy.toml"]),
        65,
        &expect![[r#"
            error: unknown key `hash_sed`
             --> policy.toml:5:1
              |
            5 | hash_sed = "lab"
              | ^^^^^^^^
              |
              = help: did you mean `hash_seed`?
        "#]],
    );
}

#[test]
fn a_missing_file_is_named() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["plan", "--inventory", "none.csv", "--policy", "policy.toml"]),
        65,
        &expect![[r"
            error: open inventory `none.csv`: No such file or directory (os error 2)
        "]],
    );
}

#[test]
fn an_unknown_verb_is_a_usage_error() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["opne"]),
        64,
        &expect![[r"
        error: unrecognized subcommand 'opne'

        Usage: tidegate <COMMAND>

        For more information, try '--help'.
    "]],
    );
}

#[test]
fn a_reason_is_asked_for_where_it_is_needed() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["resume"]),
        64,
        &expect![[r"
            error: the following required arguments were not provided:
              --reason <REASON>

            Usage: tidegate resume --reason <REASON> [PART] [NAME]

            For more information, try '--help'.
        "]],
    );
}

#[test]
fn without_a_coordinator_every_question_ends_with_69_and_says_what_to_start() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["status", "--coordinator", "http://127.0.0.1:1"]),
        69,
        &expect![[r"
            error: cannot reach the coordinator at http://127.0.0.1:1: transport error: Connection refused (os error 111)
            help: is it running? `tidegate coordinator --config …`; or name it with `--coordinator`
        "]],
    );
}

#[test]
fn nothing_is_applied_without_a_terminal_and_without_yes() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["apply", "--inventory", "users.csv", "--policy", "policy.toml"]),
        64,
        &expect![[r"
            error: nobody is there to confirm
            help: on a terminal this asks; for scripts add `--yes`
        "]],
    );
}

#[test]
fn a_plan_that_is_not_the_one_seen_is_stale() {
    let desk = Desk::new(INVENTORY, POLICY);
    let args = [
        "apply",
        "--inventory",
        "users.csv",
        "--policy",
        "policy.toml",
        "--yes",
        "--plan",
        "000000000000",
    ];

    let shown = desk.tidegate(&args);

    assert_eq!(shown.status.code(), Some(4));
    assert!(text(&shown.stderr).contains("run `tidegate plan` again"));
}

#[test]
fn a_wrong_configuration_ends_with_78_and_a_caret() {
    let desk = Desk::new(INVENTORY, POLICY);
    let config = "data_dir = \"state\"\nlisten = \"127.0.0.1\"\n";
    fs::write(desk.dir.path().join("coordinator.toml"), config).unwrap();

    check(
        &desk.tidegate(&["coordinator", "--config", "coordinator.toml"]),
        78,
        &expect![[r#"
            error: invalid socket address syntax
             --> coordinator.toml:2:10
              |
            2 | listen = "127.0.0.1"
              |          ^^^^^^^^^^^
              |
              = help: write it as `127.0.0.1:7443`
        "#]],
    );
}

#[test]
fn a_coordinator_listens_only_on_its_own_machine() {
    let desk = Desk::new(INVENTORY, POLICY);
    let config = "data_dir = \"state\"\nlisten = \"0.0.0.0:0\"\nlog = \"off\"\n";
    fs::write(desk.dir.path().join("coordinator.toml"), config).unwrap();

    check(
        &desk.tidegate(&["coordinator", "--config", "coordinator.toml"]),
        1,
        &expect![[r"
            error: cannot listen on 0.0.0.0:0: without certificates only this machine is served; name certificate, key and ca in [tls] (`tidegate init` makes them for a lab), or use 127.0.0.1
        "]],
    );
}

#[test]
fn a_directory_that_is_no_journal_stays_as_it_is() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["journal", "verify", "nowhere"]),
        1,
        &expect![[r"
        error: open journal at `nowhere`: there is none
    "]],
    );

    assert!(!desk.dir.path().join("nowhere").exists());
}

#[test]
fn the_sound_part_of_a_damaged_journal_is_saved_beside_it_once_somebody_says_yes() {
    let desk = Desk::new(INVENTORY, POLICY);
    let journal = desk.dir.path().join("journal");
    damaged_journal(&journal);

    let verified = desk.tidegate(&["journal", "verify", "journal"]);
    let exported = desk.tidegate(&["journal", "export", "journal"]);
    let asked = desk.tidegate(&["journal", "repair", "journal"]);
    let untouched = !desk.dir.path().join("journal.repaired").exists();
    let repaired = desk.tidegate(&["journal", "repair", "journal", "--yes"]);
    let whole = desk.tidegate(&["journal", "verify", "journal.repaired"]);
    let again = desk.tidegate(&["journal", "repair", "journal.repaired", "--yes"]);

    let codes = [&verified, &exported, &asked, &repaired, &whole, &again]
        .map(|shown| shown.status.code().unwrap());
    assert_eq!(codes, [1, 1, 3, 0, 0, 3]);
    assert!(untouched);
    let named = text(&verified.stderr);
    assert!(named.contains("record 3 cannot be trusted"), "{named}");
    let lines = text(&exported.stdout);
    let first = lines.lines().next().unwrap_or_default();
    assert!(first.contains("tidegate.journal.export/1"), "{first}");
    assert_eq!(lines.lines().count(), 3);
    let told = text(&asked.stdout);
    for line in [
        "would be kept: records 1 to 2,",
        "lost: records 3 to 3, and whatever came after without leaving a trace",
        "Nothing has been written.",
    ] {
        assert!(told.contains(line), "{told}");
    }
    assert!(text(&whole.stdout).contains("2 records of the coordinator"));
}

#[test]
fn a_fault_on_a_node_that_will_not_be_there_is_refused_before_anything_is_built() {
    let desk = Desk::new(INVENTORY, POLICY);

    check(
        &desk.tidegate(&["lab", "--nodes", "2", "--fault", "node:stor-07=30%"]),
        64,
        &expect![[r"
            error: there will be no node `stor-07`
            help: the nodes are stor-01, stor-02
        "]],
    );
}

#[test]
fn a_reader_who_leaves_is_no_error_that_anybody_is_told_of() {
    let desk = Desk::new(INVENTORY, POLICY);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);

    let ended = desk
        .command(&["plan", "--inventory", "users.csv", "--policy", "policy.toml"])
        .stdin(Stdio::null())
        .stdout(writer)
        .output()
        .unwrap();

    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(text(&ended.stderr), "read 3 rows from users.csv\n");
}

/// A directory with the two files a plan is made of.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new(inventory: &str, policy: &str) -> Self {
        let dir = TempDir::with_prefix("tidegate-cli-").unwrap();
        fs::write(dir.path().join("users.csv"), inventory).unwrap();
        let mut file = fs::File::create(dir.path().join("policy.toml")).unwrap();
        file.write_all(policy.as_bytes()).unwrap();
        Self { dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("TIDEGATE_COORDINATOR")
            .env_remove("TIDEGATE_LOG")
            .env("USER", "operator");
        command
    }

    fn tidegate(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }
}

/// A journal of three records whose third was acknowledged and is gone.
fn damaged_journal(dir: &Path) {
    let id = [0; 16];
    let kind = tidegate_journal::Kind { name: "coordinator".to_owned(), format: 1, id };
    let journal = tidegate_journal::Journal::open(dir, &kind).unwrap();
    journal.append(&[b"one".to_vec(), b"two".to_vec()]).unwrap();
    drop(journal);
    let before = fs::read(dir.join("db")).unwrap();
    let journal = tidegate_journal::Journal::open(dir, &kind).unwrap();
    journal.append(&[b"three".to_vec()]).unwrap();
    drop(journal);
    fs::write(dir.join("db"), before).unwrap();
    // What the store notes beside its file is of later.
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("snap") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn check(shown: &Output, code: i32, expected: &Expect) {
    let (out, err) = (text(&shown.stdout), text(&shown.stderr));
    assert_eq!(shown.status.code(), Some(code), "{out}{err}");
    let line =
        |text: &str| if text.is_empty() { String::new() } else { format!("{text}\n") };
    expected.assert_eq(&format!("{}{}", line(err.trim_end()), line(out.trim_end())));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
