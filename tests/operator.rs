//! An operator's session with a real coordinator: verbs, answers and exit codes.
//!
//! # Invariants
//!
//! * Only the built program is used, as a shell would.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use tempfile::TempDir;

const POLICY: &str = include_str!("../deploy/config/lab-policy-small.toml");

const INVENTORY: &str = "address,node,tier,path\n\
    anna@example.org,stor-01,paid,example.org/anna/Maildir\n\
    bob@example.org,stor-02,free,example.org/bob/Maildir\n";

#[test]
fn before_a_plan_is_applied_status_says_so_and_what_to_type() {
    let site = Site::start();

    let shown = site.tidegate(&["status"]);

    let verb = site.tidegate(&["pause"]);
    for refused in [shown, verb] {
        assert_eq!(refused.status.code(), Some(3));
        assert!(text(&refused.stderr).contains("no plan has been applied yet"));
        assert!(text(&refused.stderr).contains("help: tidegate plan"));
    }
}

#[test]
fn a_plan_is_applied_once() {
    let site = Site::start();

    let first = site.apply();
    let second = site.apply();

    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert!(
        text(&first.stdout).contains("2 mailboxes in 1 waves"),
        "{}",
        text(&first.stdout)
    );
    assert_eq!(second.status.code(), Some(3), "the rollout's state refuses it");
    assert!(text(&second.stderr).contains("this plan was applied at"));
    assert!(text(&second.stderr).contains("tidegate watch"));
}

#[test]
fn a_saved_plan_is_started_once_and_asked_for_again_under_its_id() {
    let site = Site::start();

    let saved = site.plan(&["--out", "w.tgplan"]);
    let first = site.tidegate(&["start", "w.tgplan", "--yes", "--request-id", "r-1"]);
    let again = site.tidegate(&["start", "w.tgplan", "--yes", "--request-id", "r-1"]);
    let spent = site.tidegate(&["start", "w.tgplan", "--yes"]);

    assert_eq!(saved.status.code(), Some(0), "{}", text(&saved.stderr));
    let shown = text(&saved.stdout);
    assert!(shown.ends_with("Next   tidegate start w.tgplan\n"), "{shown}");
    let kept = fs::read_to_string(site.dir.path().join("w.tgplan")).unwrap();
    assert!(!kept.contains("anna"), "nobody is named in it");
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert_eq!(first.stdout, again.stdout, "done once, answered twice");
    assert_eq!(spent.status.code(), Some(4));
    assert!(text(&spent.stderr).contains("this saved plan is spent"));
}

#[test]
fn a_saved_plan_is_stale_once_its_files_or_the_data_directory_are_others() {
    let (site, other) = (Site::start(), Site::start());
    site.plan(&["--out", "w.tgplan"]);
    let elsewhere = ["start", "w.tgplan", "--yes", "--coordinator", &other.url];

    let elsewhere = site.tidegate(&elsewhere);
    let more = format!("{INVENTORY}eve@example.org,stor-01,free,example.org/eve\n");
    fs::write(site.dir.path().join("users.csv"), more).unwrap();
    let changed = site.tidegate(&["start", "w.tgplan", "--yes"]);
    let status = site.tidegate(&["status"]);

    assert_eq!(elsewhere.status.code(), Some(4));
    let why = text(&elsewhere.stderr);
    assert!(why.contains("saved for another coordinator or data directory"), "{why}");
    assert_eq!(changed.status.code(), Some(4));
    assert!(text(&changed.stderr).contains("help: this shows what differs"));
    assert!(text(&status.stderr).contains("no plan has been applied yet"));
}

#[test]
fn a_plan_beside_an_older_one_shows_only_what_differs() {
    let site = Site::start();
    site.plan(&["--out", "w.tgplan"]);

    let same = site.plan(&["--out", "w.tgplan", "--detailed-exitcode"]);
    let more = format!("{INVENTORY}eve@example.org,stor-01,free,example.org/eve\n");
    fs::write(site.dir.path().join("users.csv"), more).unwrap();
    let beside = site.plan(&["--beside", "w.tgplan", "--detailed-exitcode"]);
    let anew = site.plan(&["--out", "w.tgplan"]);
    let started = site.tidegate(&["start", "w.tgplan", "--yes"]);
    fs::write(site.dir.path().join("users.csv"), INVENTORY).unwrap();
    let running = site.plan(&["--beside", "rollout", "-o", "json"]);
    let not_saved = site.plan(&["--out", "x.tgplan"]);

    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    let shown = text(&same.stdout);
    assert!(shown.contains("  = rest-1: 2 mailboxes, as before\n"), "{shown}");
    assert!(shown.contains("Plan: 0 to add, 0 changed, 0 removed, 1 as before"));
    assert_eq!(beside.status.code(), Some(2), "{}", text(&beside.stderr));
    let shown = text(&beside.stdout);
    assert!(shown.contains("  ~ rest-1: 2 → 3 mailboxes\n"), "{shown}");
    assert!(text(&anew.stdout).contains("~ rest-1"), "{}", text(&anew.stderr));
    assert_eq!(started.status.code(), Some(0), "{}", text(&started.stderr));
    let running: serde_json::Value = serde_json::from_slice(&running.stdout).unwrap();
    assert_eq!(running["schema"], "tidegate.plan-difference/v1");
    assert_eq!(running["waves"][0]["before"]["mailboxes"], 3);
    assert_eq!(not_saved.status.code(), Some(3));
    assert!(!site.dir.path().join("x.tgplan").exists());
}

#[test]
fn a_file_that_is_no_saved_plan_is_neither_started_nor_written_over() {
    let site = Site::start();

    let started = site.tidegate(&["start", "users.csv", "--yes"]);
    let over = site.plan(&["--out", "users.csv", "--whole"]);

    assert_eq!(started.status.code(), Some(65));
    assert_eq!(over.status.code(), Some(65), "{}", text(&over.stdout));
    let kept = fs::read_to_string(site.dir.path().join("users.csv")).unwrap();
    assert_eq!(kept, INVENTORY);
}

#[test]
fn without_workers_status_says_that_nothing_moves_and_why() {
    let site = Site::start();
    site.apply();

    let shown = site.tidegate(&["status", "--test"]);

    assert_eq!(shown.status.code(), Some(4));
    let screen = text(&shown.stdout);
    assert!(screen.contains("no worker has joined for stor-01, stor-02"), "{screen}");
    assert!(screen.contains("tidegate worker --config worker.toml"), "{screen}");
}

#[test]
fn a_pause_is_effective_at_once_where_no_worker_could_open_anything() {
    let site = Site::start();
    site.apply();

    let paused = site.tidegate(&["pause", "--reason", "support is flooded"]);
    let status = site.tidegate(&["status", "--test"]);
    let resumed = site.tidegate(&["resume", "--reason", "support has caught up"]);

    assert_eq!(paused.status.code(), Some(0));
    assert!(text(&paused.stdout).contains("effective: no mailbox opens any more"));
    assert_eq!(status.status.code(), Some(2), "a person is needed");
    assert_eq!(resumed.status.code(), Some(0));
}

#[test]
fn a_freeze_is_let_go_of_by_a_second_person_alone() {
    let site = Site::start();
    site.apply();

    let frozen =
        site.tidegate(&["freeze", "--by", "giulia", "--reason", "the press is here"]);
    let why = site.tidegate(&["why"]);
    let resumed = site.tidegate(&["resume", "--by", "marco", "--reason", "gone"]);
    let herself = site.tidegate(&["thaw", "--by", "Giulia", "--reason", "gone"]);
    let thawed = site.tidegate(&["thaw", "--by", "marco", "--reason", "gone"]);
    let at_last = site.tidegate(&["resume", "--by", "giulia", "--reason", "gone"]);

    assert_eq!(frozen.status.code(), Some(0), "{}", text(&frozen.stderr));
    assert!(text(&frozen.stdout).contains("effective: no mailbox opens any more"));
    let why = text(&why.stdout);
    assert!(why.contains("frozen by giulia: the press is here"), "{why}");
    assert_eq!(resumed.status.code(), Some(3));
    assert!(text(&resumed.stderr).contains("help: somebody else: tidegate thaw"));
    assert_eq!(herself.status.code(), Some(77));
    assert_eq!(thawed.status.code(), Some(0), "{}", text(&thawed.stderr));
    assert!(text(&thawed.stdout).contains("Next   tidegate resume --reason '…'"));
    assert_eq!(at_last.status.code(), Some(0), "{}", text(&at_last.stderr));
}

#[test]
fn an_abort_ends_the_rollout_and_the_watch() {
    let site = Site::start();
    site.apply();

    let aborted = site.tidegate(&["abort", "--yes", "--reason", "we go another way"]);
    let watched = site.tidegate(&["watch", "--until", "finished", "--timeout", "60"]);
    let resumed = site.tidegate(&["resume", "--reason", "or not"]);

    assert_eq!(aborted.status.code(), Some(0), "{}", text(&aborted.stderr));
    assert!(text(&aborted.stdout).contains("effective: no mailbox opens any more"));
    assert_eq!(watched.status.code(), Some(1));
    assert!(text(&watched.stdout).contains("ABORTED"), "{}", text(&watched.stdout));
    assert_eq!(resumed.status.code(), Some(3), "the rollout's state refuses it");
}

#[test]
fn a_watch_that_is_not_fulfilled_in_time_ends_with_5() {
    let site = Site::start();
    site.apply();

    let watched = site.tidegate(&["watch", "--until", "finished", "--timeout", "1"]);

    assert_eq!(watched.status.code(), Some(5));
}

#[test]
fn a_script_waits_for_what_is_so_and_not_for_what_cannot_come() {
    let site = Site::start();
    site.apply();

    let no_worker = site.tidegate(&["wait", "--for", "node=stor-01:no-worker"]);
    let late = site.tidegate(&["wait", "--for", "finished", "--timeout", "1"]);
    let nobody = site.tidegate(&["wait", "--for", "node=stor-09:working"]);
    let nonsense = site.tidegate(&["wait", "--for", "done"]);
    site.tidegate(&["abort", "--yes", "--reason", "we go another way"]);
    let never = site.tidegate(&["wait", "--for", "finished"]);

    assert_eq!(no_worker.status.code(), Some(0), "{}", text(&no_worker.stderr));
    assert_eq!(late.status.code(), Some(5), "{late:?}");
    assert_eq!(nobody.status.code(), Some(65));
    assert!(text(&nobody.stderr).contains("it has `stor-01`, `stor-02`"), "{nobody:?}");
    assert_eq!(nonsense.status.code(), Some(64));
    assert!(text(&nonsense.stderr).contains("`finished`"), "{nonsense:?}");
    assert_eq!(never.status.code(), Some(1));
}

#[test]
fn whoever_asks_why_is_told_what_to_do() {
    let site = Site::start();
    site.apply();

    let rollout = site.tidegate(&["why"]);
    let node = site.tidegate(&["why", "node", "stor-01", "-o", "json"]);
    site.tidegate(&["pause", "--reason", "support is flooded"]);
    let mailbox = site.tidegate(&["why", "mailbox", "anna@example.org"]);

    let said = text(&rollout.stdout);
    assert!(said.contains("node `stor-01`; start one there (no-worker)"), "{said}");
    assert!(said.contains("  do: start it there"), "{said}");
    let node: serde_json::Value = serde_json::from_str(&text(&node.stdout)).unwrap();
    assert_eq!(node.pointer("/schema").unwrap(), "tidegate.why/v1");
    assert_eq!(node.pointer("/why/0/code").unwrap(), "no-worker");
    assert!(text(&mailbox.stdout).contains("(paused)"), "{}", text(&mailbox.stdout));
}

#[test]
fn mailboxes_are_listed_by_filter_for_people_and_for_programs() {
    let site = Site::start();
    site.apply();

    let all = site.tidegate(&["mailbox", "list", "-o", "name"]);
    let one =
        site.tidegate(&["mailbox", "list", "--node", "stor-02", "--held", "-o", "csv"]);
    let open = site.tidegate(&["mailbox", "list", "--open", "-o", "jsonl"]);
    let wrong = site.tidegate(&["mailbox", "list", "--node", "stor-09"]);

    let mut names: Vec<String> = text(&all.stdout).lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["anna@example.org", "bob@example.org"]);
    let rows = text(&one.stdout);
    let mut rows = rows.lines();
    assert!(rows.next().unwrap().starts_with("address,node,tier,path,wave,preparation"));
    assert!(rows.next().unwrap().starts_with("bob@example.org,stor-02,free,"));
    assert_eq!((rows.next(), text(&open.stdout).as_str()), (None, ""));
    assert_eq!(wrong.status.code(), Some(65), "{}", text(&wrong.stderr));
}

#[test]
fn waves_and_nodes_are_listed_and_trouble_alone_if_asked_for() {
    let site = Site::start();
    site.apply();

    let names = site.tidegate(&["node", "list", "-o", "name"]);
    let trouble = site.tidegate(&["node", "list", "-x", "-o", "csv"]);
    let waves = site.tidegate(&["wave", "list", "-o", "jsonl"]);
    let none = site.tidegate(&["wave", "list", "-x"]);
    let table = site.tidegate(&["node", "list"]);

    assert_eq!(text(&names.stdout), "stor-01\nstor-02\n");
    assert_eq!(trouble.status.code(), Some(1), "no worker has joined");
    assert!(text(&trouble.stdout).contains("no-worker"), "{trouble:?}");
    let wave: serde_json::Value = serde_json::from_str(&text(&waves.stdout)).unwrap();
    assert_eq!(
        (&wave["name"], &wave["schema"]),
        (&"rest-1".into(), &"tidegate.wave/v1".into())
    );
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(0), "none\n"));
    assert!(text(&table.stdout).contains("NODE"), "{table:?}");
}

#[test]
fn an_unknown_part_is_named_with_those_there_are() {
    let site = Site::start();
    site.apply();

    let shown = site.tidegate(&["reclose", "node", "stor-09", "--reason", "test"]);

    assert_eq!(shown.status.code(), Some(65));
    assert!(
        text(&shown.stderr).contains("`stor-01`, `stor-02`"),
        "{}",
        text(&shown.stderr)
    );
}

#[test]
fn whoever_re_closes_is_told_all_commands_that_let_it_go_on_in_their_order() {
    let site = Site::start();
    site.apply();

    let node = site.tidegate(&["reclose", "node", "stor-02", "--reason", "disk"]);
    let wave = site.tidegate(&["reclose", "wave", "0", "--reason", "complaints"]);
    let status = text(&site.tidegate(&["status"]).stdout);
    let resumed = site.tidegate(&["resume", "node", "stor-02", "--reason", "repaired"]);

    let tail = |shown: &Output| {
        let shown = text(&shown.stdout);
        shown.lines().skip(1).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        tail(&node),
        "Next   tidegate resume node stor-02 --reason '…'\n\
         then   tidegate resume --reason '…'"
    );
    assert_eq!(
        tail(&wave),
        "Next   tidegate resume wave rest-1 --reason '…'\n\
         then   tidegate resume --reason '…'"
    );
    let action = "action:   tidegate resume wave rest-1 --reason '…'; \
                  then tidegate resume node stor-02 --reason '…'; \
                  then tidegate resume --reason '…'";
    assert!(status.contains(action), "{status}");
    assert_eq!(tail(&resumed), "Next   tidegate resume --reason '…'");
}

#[test]
fn what_happened_is_on_record_with_who_did_it() {
    let site = Site::start();
    site.apply();
    site.tidegate(&["pause", "--by", "giulia", "--reason", "support is flooded"]);

    let events = text(&site.tidegate(&["events", "-o", "jsonl"]).stdout);

    let paused: Vec<serde_json::Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &serde_json::Value| event["code"] == "paused")
        .collect();
    assert_eq!(paused.len(), 1, "{events}");
    assert_eq!(paused[0]["by"], "giulia");
    assert_eq!(paused[0]["schema"], "tidegate.event/v1");
}

#[test]
fn the_screen_and_the_json_tell_the_same_plan() {
    let site = Site::start();
    let applied = text(&site.apply().stdout);

    let shown = text(&site.tidegate(&["status", "-o", "json"]).stdout);

    let status: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(status["schema"], "tidegate.status/v1");
    assert!(applied.contains(status["plan_digest"].as_str().unwrap()), "{applied}");
}

#[test]
fn a_verb_whose_answer_is_lost_is_asked_for_again_and_done_once() {
    let site = Site::start();
    site.apply();
    let cut = cut_the_first_answer(&site.url);

    let paused = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["pause", "--reason", "support is flooded", "--no-wait"])
        .env("TIDEGATE_COORDINATOR", &cut)
        .output()
        .unwrap();

    assert_eq!(paused.status.code(), Some(0), "{}", text(&paused.stderr));
    let told = text(&paused.stderr);
    assert!(told.contains("asking again, under the same request id"), "{told}");
    let events = text(&site.tidegate(&["events", "-o", "jsonl"]).stdout);
    assert_eq!(events.matches("\"paused\"").count(), 1, "{events}");
}

#[test]
fn a_script_that_looked_too_long_ago_is_refused_and_told_what_has_changed() {
    let site = Site::start();
    site.apply();
    let etag = || {
        let shown = text(&site.tidegate(&["status", "-o", "json"]).stdout);
        let status: serde_json::Value = serde_json::from_str(&shown).unwrap();
        status["etag"].as_str().unwrap().to_owned()
    };
    let seen = etag();
    site.tidegate(&["pause", "--by", "giulia", "--reason", "support is flooded"]);

    let resume = |etag: &str| {
        site.tidegate(&["resume", "--reason", "all is well", "--if-match", etag])
    };
    let refused = resume(&seen);
    let screen = text(&site.tidegate(&["status"]).stdout);
    let resumed = resume(&etag());

    assert_eq!(refused.status.code(), Some(4));
    let told = text(&refused.stderr);
    assert!(told.contains("paused by giulia: support is flooded at 20"), "{told}");
    assert!(told.contains("help: look again"), "{told}");
    assert!(screen.contains("etag:     1-"), "{screen}");
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
}

#[test]
fn every_list_has_all_six_forms_and_the_environment_chooses_one() {
    let site = Site::start();
    site.apply();
    // Nobody works here, so that nothing moves any more once the first wave may open.
    let opening = ["wait", "--for", "wave=rest-1:opening", "--timeout", "60"];
    assert_eq!(site.tidegate(&opening).status.code(), Some(0));
    let lists: [&[&str]; 6] = [
        &["wave", "list"],
        &["node", "list"],
        &["gate", "list"],
        &["mailbox", "list"],
        &["quarantine", "list"],
        &["events"],
    ];

    for list in lists {
        let form = |form: &str| {
            let done = site.tidegate(&[list, &["-o", form]].concat());
            assert_eq!(done.status.code(), Some(0), "{list:?} {}", text(&done.stderr));
            text(&done.stdout)
        };
        let [table, wide] = [form("table"), form("wide")];
        let whole: serde_json::Value = serde_json::from_str(&form("json")).unwrap();
        let (lines, names, sheet) = (form("jsonl"), form("name"), form("csv"));

        let schema = whole["schema"].as_str().unwrap();
        assert!(schema.ends_with("-list/v1"), "{schema}");
        let items = whole["items"].as_array().unwrap();
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(*items, lines, "{list:?}");
        assert_eq!(names.lines().count(), items.len(), "{list:?}: {names}");
        assert_eq!(sheet.lines().count(), items.len() + 1, "{list:?}: {sheet}");
        let widest = |text: &str| text.lines().map(str::len).max().unwrap_or(0);
        assert!(widest(&wide) >= widest(&table), "{list:?}: {wide}");
    }
    let mut chosen = site.command(&["wave", "list"]);
    let chosen = chosen.env("TIDEGATE_FORMAT", "name").output().unwrap();
    let mut other = site.command(&["why"]);
    let other = other.env("TIDEGATE_FORMAT", "name").output().unwrap();
    let mut wrong = site.command(&["why"]);
    let wrong = wrong.env("TIDEGATE_FORMAT", "xml").output().unwrap();

    assert_eq!(text(&chosen.stdout), "rest-1\n");
    assert_eq!(other.status.code(), Some(0), "it has no such form, and keeps its own");
    assert_eq!(wrong.status.code(), Some(64), "{}", text(&wrong.stderr));
}

#[test]
fn a_context_names_a_coordinator_and_is_taken_whole() {
    let site = Site::start();
    let home = site.dir.path().join("home/tidegate");
    fs::create_dir_all(&home).unwrap();
    let contexts = |default: &str| {
        let night = format!("[contexts.night]\ncoordinator = \"{}\"\n", site.url);
        let text = format!(
            "{default}{night}[contexts.day]\ncoordinator = \"http://127.0.0.1:1\"\n"
        );
        fs::write(home.join("config.toml"), text).unwrap();
    };
    let ask = |args: &[&str]| {
        let mut command = site.command(args);
        command.env_remove("TIDEGATE_COORDINATOR");
        command.env("XDG_CONFIG_HOME", site.dir.path().join("home"));
        command.output().unwrap()
    };
    site.apply();

    contexts("context = \"night\"\n");
    let by_default = ask(&["status"]);
    let named = ask(&["status", "--context", "day"]);
    let both = ask(&["status", "--context", "day", "--coordinator", &site.url]);
    let unknown = ask(&["status", "--context", "dusk"]);
    contexts("contexts = 3\n");
    let broken = ask(&["status"]);
    let untouched = ask(&["explain", "paused"]);

    assert_eq!(by_default.status.code(), Some(0), "{}", text(&by_default.stderr));
    assert_eq!(named.status.code(), Some(69), "{}", text(&named.stderr));
    assert_eq!(both.status.code(), Some(64), "{}", text(&both.stderr));
    assert_eq!(unknown.status.code(), Some(78));
    assert!(text(&unknown.stderr).contains("it has day, night"));
    assert_eq!(broken.status.code(), Some(78), "{}", text(&broken.stderr));
    assert!(text(&broken.stderr).contains("config.toml:"), "{}", text(&broken.stderr));
    assert_eq!(untouched.status.code(), Some(0), "it asks no coordinator");
}

#[test]
fn a_saved_plan_is_shown_whatever_has_become_of_it() {
    let site = Site::start();
    site.plan(&["--out", "w.tgplan"]);
    let show = || site.tidegate(&["show", "w.tgplan"]);
    let standing = || {
        let shown = site.tidegate(&["show", "w.tgplan", "-o", "json"]).stdout;
        let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
        shown["standing"].as_str().unwrap().to_owned()
    };

    let ready = (show(), standing());
    let away = site.tidegate(&[
        "show",
        "w.tgplan",
        "--coordinator",
        "http://127.0.0.1:1",
        "--progress",
        "counter",
    ]);
    site.tidegate(&["start", "w.tgplan", "--yes"]);
    let spent = standing();
    fs::remove_file(site.dir.path().join("users.csv")).unwrap();
    let stale = (show(), standing());

    assert_eq!(ready.1, "ready");
    assert!(text(&ready.0.stdout).ends_with("Next   tidegate start w.tgplan\n"));
    assert!(text(&away.stdout).contains("UNKNOWN: not known whether it was started"));
    assert!(text(&away.stderr).contains("Reading: "), "{}", text(&away.stderr));
    assert_eq!(spent, "spent");
    assert_eq!((stale.0.status.code(), stale.1.as_str()), (Some(0), "stale"));
    assert!(text(&stale.0.stdout).contains("rest-1"), "{}", text(&stale.0.stdout));
}

#[test]
fn only_what_needs_somebody_is_shown_where_that_is_asked() {
    let site = Site::start();
    site.apply();

    let trouble = site.tidegate(&["status", "-x"]);

    assert_eq!(trouble.status.code(), Some(1), "no worker has come");
    let shown = text(&trouble.stdout);
    assert!(shown.contains("stor-01") && !shown.contains("messages of"), "{shown}");
}

/// A way to the coordinator at `url` on which the first answer is lost after it was given.
fn cut_the_first_answer(url: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let to = url.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
            let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || copy(from, into));
            if number == 0 {
                until_answered(server);
                client.shutdown(Shutdown::Both).unwrap();
            } else {
                std::thread::spawn(move || copy(server, client));
            }
        }
    });
    format!("http://{address}")
}

/// Reads frames of HTTP/2 until one begins an answer.
fn until_answered(mut server: TcpStream) {
    const HEADERS: u8 = 1;
    let mut head = [0; 9];
    while server.read_exact(&mut head).is_ok() && head[3] != HEADERS {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut body = server.by_ref().take(u64::from(length));
        std::io::copy(&mut body, &mut std::io::sink()).unwrap();
    }
}

fn copy(mut from: TcpStream, mut into: TcpStream) {
    // Whoever has gone needs no more bytes.
    let _gone = std::io::copy(&mut from, &mut into);
    let _gone = into.shutdown(Shutdown::Both);
}

/// A coordinator in a directory of its own, with two files to plan from.
struct Site {
    dir: TempDir,
    coordinator: Child,
    _log: BufReader<ChildStderr>,
    url: String,
}

impl Site {
    fn start() -> Self {
        let dir = TempDir::with_prefix("tidegate-operator-").unwrap();
        fs::write(dir.path().join("users.csv"), INVENTORY).unwrap();
        fs::write(dir.path().join("policy.toml"), POLICY).unwrap();
        let config = "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n";
        fs::write(dir.path().join("coordinator.toml"), config).unwrap();
        let mut coordinator = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["coordinator", "--config", "coordinator.toml", "--stop-with-stdin"])
            .current_dir(dir.path())
            .env_remove("TIDEGATE_LOG")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(coordinator.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("coordinator serving") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the coordinator has ended");
        }
        let address = fs::read_to_string(dir.path().join("data/address")).unwrap();
        let url = format!("http://{}", address.trim());
        Self { dir, coordinator, _log: log, url }
    }

    fn apply(&self) -> Output {
        let files = ["--inventory", "users.csv", "--policy", "policy.toml"];
        self.tidegate(&[&["apply", "--yes"], files.as_slice()].concat())
    }

    fn plan(&self, args: &[&str]) -> Output {
        let files = ["plan", "--inventory", "users.csv", "--policy", "policy.toml"];
        self.tidegate(&[files.as_slice(), args].concat())
    }

    fn tidegate(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("TIDEGATE_COORDINATOR", &self.url)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Its stdin ends, so it stops in order.
        drop(self.coordinator.stdin.take());
        let ended = self.coordinator.wait();
        assert!(ended.is_ok_and(|status| status.success()), "it stops in order");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
