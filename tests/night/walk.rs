//! What is typed in a night, what must be seen, and the exit code of each.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::programs;
use crate::site::{ASIDE, NODES, Site, Told};

/// Who is owed what when the night is over.
const OWED: &str = "[[rule]]\nid = \"free-20\"\ntier = [\"free\"]\nkind = \"storage\"\n\
    amount = 20\nunit = \"percent\"\n\n[[rule]]\nid = \"contract\"\nkind = \"by-contract\"\n\
    amount = 0\nunit = \"none\"\n";

/// Walks through a night, asserts every step, and shows all that was typed and told.
#[expect(clippy::print_stdout, reason = "the transcript is for people")]
pub(crate) fn a_night(site: &mut Site) {
    gets_to_know_it(site);
    plans_and_starts(site);
    meets_silence(site);
    stops_and_goes_on(site);
    tells_people(site);
    programs::ask_while_it_runs(site);
    sees_the_end(site);
    proves_what_came_back(site);
    programs::ask_at_the_end(site);
    proves_it(site);
    programs::judge_what_programs_were_told(site);
    println!("{}", site.transcript());
}

fn gets_to_know_it(site: &mut Site) {
    let version = site.types("02:51", "anna", "--version", 0);
    says(&version.out, "tidegate 0.");
    let wobble = site.types("02:51", "anna", "wobble", 64);
    says(&wobble.err, "unrecognized subcommand 'wobble'");

    site.configure_coordinator();
    site.write("bad.toml", "data_dir = \"data\"\nlisen = \"127.0.0.1:0\"\n");
    let bad = site.types("02:53", "anna", "config check bad.toml --as coordinator", 65);
    says(&bad.err, "bad.toml:2:1");
    says(&bad.err, "listen");
    let bad = "config check bad.toml --as coordinator -o json";
    says(&site.types("02:53", "anna", bad, 65).out, "\"sound\":false");
    site.types("02:53", "anna", "config check coordinator.toml", 0);
}

fn plans_and_starts(site: &mut Site) {
    site.start("coordinator");
    site.configure_workers();
    for node in NODES {
        site.types("02:56", "anna", &format!("config check {node}.toml --as worker"), 0);
        site.start(node);
    }
    site.types("02:56", "anna", "status -o json", 0);
    let files = "--inventory users.csv --policy policy.toml";
    let saved = format!("plan {files} --out w.tgplan --detailed-exitcode");
    let plan = site.types("02:57", "anna", &saved, 2);
    says(&plan.out, "240 mailboxes");
    site.types("02:58", "anna", &saved, 0);

    let start = "start w.tgplan --yes --request-id night-1";
    let by_viewer = site.types("03:02", "vera", start, 77);
    says(&by_viewer.err, "vera (viewer) may not do this");
    let alone = site.types("03:02", "anna", start, 3);
    let own = site.approve("03:02", "anna", &alone, 77);
    says(&own.err, "anna (operator) may not do this");
    site.approve("03:03", "berta", &alone, 0);
    site.types("03:04", "anna", start, 0);
    site.types("03:04", "anna", start, 0);
    site.types("03:04", "anna", "start w.tgplan --yes", 4);
}

fn meets_silence(site: &mut Site) {
    let first = first_wave(site);
    let open = format!("watch -o jsonl --until wave={first}:open --timeout 60");
    let watched = site.types("03:05", "vera", &open, 0);
    assert!(watched.out.lines().all(|line| line.starts_with('{')), "{}", watched.out);

    // A node falls silent in the middle: nothing may expand on what it does not say.
    site.kill("stor-02");
    site.types("03:20", "vera", "wait --for node=stor-02:silent --timeout 60", 0);
    let before = passed(site);
    let trouble = site.types("03:20", "vera", "node list -x", 1);
    says(&trouble.out, "stor-02");
    let why = site.types("03:21", "vera", "why node stor-02", 0);
    says(&why.out, "its worker is not heard (worker-silent)");
    site.types("03:21", "vera", "status --test", 4);
    assert_eq!(passed(site), before, "a wave passed while a node was silent");

    let early = site.types("03:22", "anna", "report build early", 3);
    says(&early.err, "the rollout is RUNNING");

    site.start("stor-02");
    site.types("03:40", "vera", "wait --for node=stor-02:working --timeout 60", 0);
}

fn stops_and_goes_on(site: &mut Site) {
    let no_reason = site.types("04:05", "anna", "resume", 64);
    says(&no_reason.err, "--reason");
    let viewer = site.types("04:05", "vera", "pause", 77);
    says(&viewer.err, "operator");
    let paused = site.types("04:05", "anna", "pause --reason 'support is flooded'", 0);
    says(&paused.out, "effective: no mailbox opens any more");
    let stands = opened(site);
    site.types("04:06", "vera", "status --test", 2);
    // The report counts whole seconds of it; a person takes longer to type.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(opened(site), stands, "something opened during a pause");
    let alone = site.types("04:07", "anna", "resume --reason 'support has caught up'", 3);
    site.approve("04:07", "berta", &alone, 0);
    site.types("04:08", "anna", "resume --reason 'support has caught up'", 0);

    site.types("04:10", "anna", "freeze --reason 'the press is here'", 0);
    let herself = site.types("04:11", "anna", "thaw --reason gone", 77);
    says(&herself.err, "somebody else");
    site.types("04:12", "marco", "thaw --reason gone", 0);
    let alone = site.types("04:12", "marco", "resume --reason gone", 3);
    site.approve("04:13", "berta", &alone, 0);
    site.types("04:13", "marco", "resume --reason gone", 0);
}

fn tells_people(site: &mut Site) {
    let preview = site.types("04:28", "vera", "notice preview --site status.toml", 0);
    says(&preview.out, "it\n");
    says(&preview.out, "en\n");
    let fine = site.types("04:28", "vera", "notice lint --site status.toml", 0);
    says(&fine.out, "it  ok: no line of");
    let said = site.read("status.toml");
    let claim = "\n[[update]]\ntime = \"2026-01-26T06:00:00Z\"\n\
                 it = \"Nessuna e-mail è andata persa.\"\nen = \"We go on.\"\n";
    site.write("early.toml", &format!("{said}{claim}"));
    let early = site.types("04:29", "vera", "notice lint --site early.toml", 1);
    says(&early.out, "it  ! “Nessuna e-mail è andata persa.” says that nothing is lost");
    says(&early.out, "en  ok");
    let early = site.types("04:29", "vera", "notice lint --site early.toml -o json", 1);
    says(&early.out, "says that nothing is lost");
    let built = "status-page build --to page --site status.toml";
    site.types("04:30", "vera", built, 0);
    site.keep_document("page/tidegate.public.v1.json");
    let inventory = site.read("users.csv");
    let addresses = || inventory.lines().skip(1).filter_map(|row| row.split(',').next());
    for entry in fs::read_dir(site.path("page")).unwrap() {
        let path = entry.unwrap().path();
        let page = fs::read(&path).unwrap_or_default();
        let page = String::from_utf8_lossy(&page);
        for secret in NODES.into_iter().chain(["canary-1"]).chain(addresses()) {
            let found = page.contains(secret);
            assert!(!found, "{secret} on {}", path.display());
        }
    }

    let address = addresses().next().unwrap();
    let lookup = format!("desk lookup {address} --ticket T-1");
    let told = site.types("04:31", "dora", &lookup, 0);
    let nobody = "desk lookup nobody-at-all@example.org --ticket T-2";
    let unknown = site.types("04:31", "dora", nobody, 0);
    let labels = |told: &Told| {
        let lines = told.out.lines().filter_map(|line| line.split_once("  "));
        lines.map(|(label, _)| label.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&told), labels(&unknown), "the shape tells who has a mailbox");
    let log = site.read("data/audit.jsonl");
    assert_eq!(log.matches("\"call\":\"desk look-up\"").count(), 2, "{log}");
    assert!(!log.contains(address), "an address is in the audit log");
    let desk_moves = site.types("04:32", "dora", "pause", 77);
    says(&desk_moves.err, "dora (desk) may not do this");
}

fn sees_the_end(site: &mut Site) {
    site.types("05:10", "vera", "wait --for finished --timeout 150", 6);
    let status = site.types("05:10", "vera", "status", 0);
    says(&status.out, "FINISHED");
    let aside = site.types("05:10", "anna", "quarantine list -o csv", 0);
    let mailboxes = aside.out.lines().filter(|line| line.contains(",quarantined,"));
    assert!(mailboxes.count() >= ASIDE, "{}", aside.out);
    tries_one_again(site);
    let waves = site.types("05:11", "vera", "wave list", 0);
    says(&waves.out, "passed");
    let report = site.types("05:12", "anna", "report -o json", 6);
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["findings"]["quarantined"], ASIDE - 1, "{report}");
    let grades = report["grades"].as_object().unwrap().values();
    let graded: u64 = grades.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(graded, 240, "every mailbox is in the report: {report}");
}

/// A mailbox that was set aside, once a person has mended what was wrong.
fn tries_one_again(site: &mut Site) {
    let (mended, whole) = site.mend_one();
    let retry = format!("quarantine retry {mended} --reason 'the file is gone'");
    site.types("05:11", "anna", &format!("quarantine retry {mended}"), 64);
    let by_viewer = site.types("05:11", "vera", &retry, 77);
    says(&by_viewer.err, "vera (viewer) may not do this");
    let not_aside = format!("quarantine retry {whole} --reason 'to be sure'");
    let not_aside = site.types("05:11", "anna", &not_aside, 3);
    says(&not_aside.err, "is not set aside");
    let retried = site.types("05:11", "anna", &retry, 0);
    says(&retried.out, "is verified and repaired anew");

    let shown = format!("mailbox show {mended} -o json");
    site.until_told("marco", &shown, "\"level\":4");
    let log = site.read("data/audit.jsonl");
    assert!(log.contains("\"call\":\"retry\""), "{log}");
    assert!(!log.contains(&mended), "an address is in the audit log");
}

/// A report that somebody else believes without asking anybody.
fn proves_what_came_back(site: &mut Site) {
    let by_viewer = site.types("05:28", "vera", "report build report", 77);
    says(&by_viewer.err, "vera (viewer) may not do this");
    let mut build =
        "report build report --audit data/audit.jsonl --sign-with pki/audit.key"
            .to_owned();
    site.write("owed.toml", OWED);
    build += " --outage-start 2026-01-22T23:04:00+01:00 --compensation owed.toml";
    build += " --dialect excel-it --said status.toml";
    for node in NODES {
        let all = format!("findings export --config {node}.toml -o jsonl");
        let found = site.types("05:28", "marco", &all, 0);
        site.write(&format!("{node}.jsonl"), &found.out);
        build += " --findings ";
        build += node;
        build += ".jsonl";
    }
    let built = site.types("05:30", "anna", &build, 6);
    let digest = built.out.lines().find_map(|line| line.strip_prefix("Digest "));
    let digest = digest.expect("it says its digest").to_owned();
    site.types("05:30", "anna", &build, 1);

    let verify = format!("report verify report --digest {digest} --key pki/audit.pub");
    let planned = format!("{verify} --inventory users.csv --policy policy.toml");
    let sound = site.types("05:31", "vera", &planned, 0);
    says(&sound.out, "240 mailboxes, one row each; totals agree");
    says(&sound.out, "decided by anna, marco");
    says(&sound.out, "compensation.csv: what the rows give");
    says(&sound.out, "summary.txt: what the rows give");
    says(&site.read("report/summary.txt"), "expanded; stopped for ");
    says(&sound.out, "plan: these files give the one of the report");
    says(&sound.out, "all sound");
    site.types("05:31", "vera", &format!("{verify} -o json"), 0);
    site.keep_document("report/proof.json");

    // Somebody is owed more than the rules say, and the digest is made to fit.
    let owed = site.read("report/compensation.csv");
    assert_eq!(owed.lines().count(), 241, "a row for each mailbox, and the header");
    site.write(
        "report/compensation.csv",
        &owed.replacen(";20;percent", ";90;percent", 1),
    );
    let generous = site.types("05:32", "vera", "report verify report", 1);
    says(&generous.out, "compensation.csv: not what the rows give");
    site.write("report/compensation.csv", &owed);

    // Somebody makes a mailbox well that is not, and then the digest of that.
    let rows = site.read("report/mailboxes.csv");
    site.write("report/mailboxes.csv", &rows.replacen(",quarantined,", ",prepared,", 1));
    let tampered = site.types("05:32", "vera", "report verify report", 1);
    says(&tampered.out, "mailboxes.csv: digest differs");
    says(&tampered.out, "totals differ");
    says(&tampered.out, "nothing vouches for proof.json itself");
    site.write("report/mailboxes.csv", &rows);
    let proof = site.read("report/proof.json");
    site.write("report/proof.json", &proof.replace("\"finished\"", "\"aborted\""));
    let forged = site.types("05:33", "vera", &verify, 1);
    says(&forged.out, "proof.json: its digest differs from the one that was kept");
    says(&forged.out, "proof.sig: not signed with this key");
    site.write("report/proof.json", &proof);
    site.write("report/more.csv", "slipped in");
    let more = site.types("05:33", "vera", &verify, 1);
    says(&more.out, "more.csv: the proof does not name it");
    fs::remove_file(site.path("report/more.csv")).unwrap();
    site.types("05:33", "vera", &verify, 0);
}

fn proves_it(site: &mut Site) {
    let events = site.types("05:35", "anna", "events -o jsonl", 0);
    for code in ["paused", "resumed", "frozen", "thawed", "retried"] {
        says(&events.out, &format!("\"code\":\"{code}\""));
    }
    for name in NODES.iter().chain(&["coordinator"]) {
        site.stop(name);
    }
    site.types("05:40", "anna", "journal verify data/journal", 0);
    site.types("05:40", "anna", "journal verify state/stor-02/journal", 0);
    site.types("05:40", "anna", "journal verify state/stor-02/journal -o json", 0);
    let verify = "audit verify data/audit.jsonl --anchors anchors --key pki/audit.pub";
    let sound = site.types("05:41", "anna", verify, 0);
    says(&sound.out, "all sound");
    site.types("05:41", "anna", &format!("{verify} -o json"), 0);

    let log = site.read("data/audit.jsonl");
    site.write("data/audit.jsonl", &log.replace("\"who\":\"marco\"", "\"who\":\"anna\""));
    site.types("05:42", "anna", verify, 1);
    site.write("data/audit.jsonl", &log);
    site.types("05:42", "anna", verify, 0);
}

/// The wave that opens first.
fn first_wave(site: &mut Site) -> String {
    let waves = site.types("03:05", "vera", "wave list -o name", 0);
    waves.out.lines().next().unwrap().to_owned()
}

/// How many waves have passed their gates.
fn passed(site: &mut Site) -> usize {
    let waves = site.types("03:20", "vera", "wave list -o jsonl", 0);
    waves.out.matches("\"passed\"").count()
}

/// How many mailboxes are open for something.
fn opened(site: &mut Site) -> usize {
    site.types("04:05", "anna", "mailbox list --open -o name", 0).out.lines().count()
}

fn says(text: &str, words: &str) {
    assert!(text.contains(words), "no `{words}` in: {text}");
}
