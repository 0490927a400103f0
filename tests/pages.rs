//! What people see in a browser, from a real coordinator.
//!
//! # Invariants
//!
//! * Only the built program is used, as a shell would, and pages as a browser would.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

#[path = "pages/site.rs"]
mod site;

use std::fmt::Write as _;
use std::fs;

use site::{Site, text};

/// As many as a row of the public page needs, and one more.
const USERS: u32 = 1_201;

#[test]
fn nothing_on_the_public_page_tells_an_address_that_exists_from_one_that_does_not() {
    let with = Site::start(&inventory("anna@example.org"), "");
    let without = Site::start(&inventory("zoe@example.net"), "");

    let [with, without] = [with, without].map(|site| {
        site.apply();
        site.build_page();
        site.page_files()
    });

    assert_eq!(with.len(), without.len());
    for ((path, one), (_, other)) in with.iter().zip(&without) {
        assert_eq!(timeless(one), timeless(other), "{path}");
        for private in ["anna", "zoe", "user7@", "stor-0", "example.org/user", "rest-1"] {
            assert!(!one.contains(private), "{private} in {path}");
        }
    }
}

#[test]
fn a_sentence_that_the_records_do_not_support_keeps_the_page_from_being_written() {
    let site = Site::start(&inventory("anna@example.org"), "");
    site.apply();
    site.build_page();
    let before = site.page_files();
    let claim = "\n[[update]]\ntime = \"2026-01-26T08:00:00Z\"\n\
        it = \"Andiamo avanti.\"\nen = \"No mail was lost.\"\n";
    let config = fs::read_to_string(site.path("status.toml")).unwrap();
    fs::write(site.path("status.toml"), config + claim).unwrap();

    let refused =
        site.tidegate(&["status-page", "build", "--site", "status.toml", "--to", "page"]);

    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("en: “No mail was lost.” says that nothing is lost"), "{said}");
    assert_eq!(site.page_files(), before);
}

#[test]
fn in_a_browser_every_page_reads_without_barriers_and_does_what_it_says() {
    let site = Site::start(
        &inventory("anna@example.org"),
        "[pages]\nlisten = \"127.0.0.1:0\"\n",
    );
    site.apply();
    site.build_page();
    let addresses = addresses();
    let asked = serde_json::json!({
        "chromium": "/usr/bin/chromium",
        "folder": site.path("page"),
        "operations": site.pages_url(),
        "addresses": addresses,
        "shots": Site::shots(),
    });

    let said = Site::look(&asked);

    assert_eq!(said["complaints"], serde_json::json!([]), "{said:#}");
    for address in &addresses {
        let slot = slot_of(address, "lab");
        let answer = said["answers"][address].as_str().unwrap();
        assert!(answer.ends_with(&format!(": slot {slot}")), "{address}: {answer}");
    }
    let events = text(&site.tidegate(&["events", "-o", "jsonl"]).stdout);
    assert_eq!(events.matches("support is flooded").count(), 1, "{events}");
}

#[test]
fn in_a_browser_with_a_certificate_a_second_person_approves_what_waits() {
    let inventory = inventory("anna@example.org");
    let site = Site::secured(&inventory);
    let files = ["--inventory", "users.csv", "--policy", "policy.toml", "--yes"];
    let apply = [&["apply"], files.as_slice()].concat();
    let starts = serde_json::json!({
        "chromium": "/usr/bin/chromium",
        "starting": {
            "url": site.pages_url(),
            "pki": site.path("pki"),
            "program": env!("CARGO_BIN_EXE_tidegate"),
            "folder": site.path(""),
            "coordinator": site.url(),
            "apply": apply,
        },
        "shots": Site::shots(),
    });

    let started = Site::look(&starts);
    site.tidegate(&["pause", "--no-wait"]);
    let resume = ["resume", "--reason", "guardato"];
    let waits = site.tidegate(&resume);
    let asked = serde_json::json!({
        "chromium": "/usr/bin/chromium",
        "secured": { "url": site.pages_url(), "pki": site.path("pki") },
        "shots": Site::shots(),
    });

    let said = Site::look(&asked);
    let resumed = site.tidegate(&resume);

    assert_eq!(started["complaints"], serde_json::json!([]), "{started:#}");
    assert_eq!(waits.status.code(), Some(3), "{}", text(&waits.stderr));
    assert_eq!(said["complaints"], serde_json::json!([]), "{said:#}");
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let events = text(&site.tidegate(&["events", "-o", "jsonl"]).stdout);
    assert!(events.contains("approved by berta: visto con anna"), "{events}");
}

#[test]
fn a_start_that_waits_for_a_second_person_is_on_every_screen() {
    let mut site = Site::secured(&inventory("anna@example.org"));
    let files = ["--inventory", "users.csv", "--policy", "policy.toml", "--yes"];
    let apply = [&["apply"], files.as_slice()].concat();
    let nobody = text(&site.tidegate(&["status"]).stderr);
    let refused = text(&site.tidegate(&apply).stderr);
    let digest = refused.split("approve apply ").nth(1).unwrap();
    let digest = digest.split(' ').next().unwrap();

    site.acts("berta");
    let status = site.tidegate(&["status"]);
    let for_programs = site.tidegate(&["status", "-o", "json"]);
    let tested = site.tidegate(&["status", "-o", "json", "--test"]);
    let watch = site.tidegate(&["watch"]);
    let pages = ["it", "en"].map(|lang| site.page("vera", &format!("/?lang={lang}")));
    let is_read = ["--reason", "read it with anna"];
    let approved = site.tidegate(&[&["approve", "apply", digest], &is_read[..]].concat());
    site.acts("anna");
    let applied = site.tidegate(&apply);
    let after = site.page("vera", "/?lang=it");
    let started = site.tidegate(&["status", "-o", "json"]);

    assert!(!nobody.contains("waits"), "{nobody}");
    let types = format!("`tidegate approve apply {digest} --reason '…'`");
    for shown in [status, watch] {
        let told = text(&shown.stderr);
        assert_eq!(shown.status.code(), Some(3), "{told}");
        assert!(told.contains(&format!("anna asks to apply {digest}, until ")), "{told}");
        assert!(told.contains(&format!("any approver but anna: {types}")), "{told}");
    }
    let known: serde_json::Value = serde_json::from_slice(&for_programs.stdout).unwrap();
    let is = |key: &str| known[key].clone();
    assert_eq!(for_programs.status.code(), Some(0), "{}", text(&for_programs.stderr));
    assert_eq!(
        (is("schema"), is("state")),
        ("tidegate.status/v1".into(), "no-plan".into())
    );
    assert_eq!(is("action"), types.trim_matches('`'));
    assert_eq!(known["waiting"][0]["by"], "anna");
    assert_eq!((is("planned"), is("waves")), (0.into(), serde_json::json!([])));
    assert_eq!(tested.status.code(), Some(3));
    assert_eq!(keys(&for_programs), keys(&started), "the document that they know");
    let [italian, english] = pages;
    assert!(
        italian.contains(&format!("anna chiede: avviare il piano {digest}.")),
        "{italian}"
    );
    assert!(english.contains(&format!("anna asks to apply {digest}.")), "{english}");
    assert!(english.contains(&format!("tidegate approve apply {digest}")), "{english}");
    assert!(approved.status.success(), "{}", text(&approved.stderr));
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    assert!(!after.contains("anna chiede"), "{after}");
}

#[test]
fn whoever_sends_or_asks_what_is_not_for_them_is_told_whose_it_is_and_is_on_the_audit_log()
 {
    let mut site = Site::secured(&inventory("anna@example.org"));

    let desk = site.page("vera", "/desk");
    let sent =
        [site.send("vera", "/pause"), site.send("anna", "/approve/anna@example.org")];
    // However fast the refusal is, nobody loses it over the form that is still on its way.
    let again: Vec<_> = (0..20).map(|_| site.send("vera", "/freeze")).collect();
    site.acts("vera");
    let looked = ["desk", "lookup", "anna@example.org", "--ticket", "T-1"];
    let looked = site.tidegate(&looked);
    let shown = site.tidegate(&["mailbox", "show", "anna@example.org"]);

    assert_eq!(desk, "vera (viewer) may not do this: it is for: desk, operator\n");
    let [pause, approve] = sent;
    assert_eq!(pause, "vera (viewer) may not do this: it is for: operator, approver\n");
    assert_eq!(approve, "anna (operator) may not do this: it is for: approver\n");
    assert!(again.iter().all(|it| *it == pause), "{again:?}");
    assert_eq!((looked.status.code(), shown.status.code()), (Some(77), Some(77)));
    let audit = fs::read_to_string(site.path("data/audit.jsonl")).unwrap();
    for call in [
        "/pause",
        "/approve",
        "/tidegate.v1.DeskService/LookUp",
        "/tidegate.v1.ProgressService/GetMailbox",
    ] {
        let noted =
            format!("\"call\":\"{call}\",\"about\":\"\",\"outcome\":\"not-allowed\"");
        assert_eq!(audit.matches(&noted).count(), 1, "{call}: {audit}");
    }
    assert!(!audit.contains("anna@example.org"), "{audit}");
}

/// The names of what is in a document.
fn keys(said: &std::process::Output) -> Vec<String> {
    let document: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&said.stdout).unwrap();
    document.keys().cloned().collect()
}

#[test]
fn every_reason_of_the_coordinator_has_words_in_italian() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let texts = read("crates/pages/texts/it.ftl");

    let sources =
        ["crates/core/src/rollout/status.rs", "crates/core/src/gate/verdict.rs"];
    let mut codes = Vec::new();
    for source in sources {
        let source = read(source);
        for body in source.split("fn code(").skip(1) {
            let body = body.split("\n    }").next().unwrap();
            let found = body.split("=> \"").skip(1);
            codes.extend(found.map(|it| it.split('"').next().unwrap().to_owned()));
        }
    }
    // Verdicts, signals and standings have words of their own.
    let others = ["expand", "hold", "isolate", "halt", "passed", "open"];
    let signals = ["opening", "preparation", "latency", "exhausted", "overdue"];
    let wordless = codes.iter().filter(|code| {
        let code = code.as_str();
        !others.contains(&code)
            && !signals.contains(&code)
            && !texts.contains(&format!("\nwhy-{code} = "))
    });

    assert!(codes.len() > 40, "{codes:?}");
    assert_eq!(wordless.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn every_reason_to_set_something_aside_has_words_on_the_page() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let texts = read("crates/pages/texts/it.ftl");
    let codes = |file: &str| -> Vec<String> {
        let source = read(file);
        let names = source.split("=> \"").skip(1);
        names.map(|it| it.split('"').next().unwrap().to_owned()).collect()
    };
    // Those are tried again by themselves: nothing is set aside for them.
    let delays = ["no-space", "exhausted", "busy", "fenced"];

    let (messages, mailboxes) =
        (codes("crates/mail/src/reason.rs"), codes("crates/mail/src/refusal.rs"));
    let messages = messages.iter().map(|code| format!("aside-message-{code}-what"));
    let mailboxes = mailboxes.iter().filter(|code| !delays.contains(&code.as_str()));
    let names: Vec<String> = mailboxes
        .flat_map(|code| ["what", "do"].map(|it| format!("aside-mailbox-{code}-{it}")))
        .chain(messages)
        .collect();

    let wordless = names.iter().filter(|name| !texts.contains(&format!("\n{name} = ")));
    assert!(names.len() > 30, "{names:?}");
    assert_eq!(wordless.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_desk_answers_an_address_that_is_not_there_in_the_same_shape_and_logs_no_address() {
    let mut site = Site::start(&inventory("anna@example.org"), "");
    site.apply();
    let ask = |address: &str| {
        let found =
            site.tidegate(&["desk", "lookup", address, "--ticket", "T-1", "--by", "ann"]);
        assert!(found.status.success(), "{}", text(&found.stderr));
        text(&found.stdout)
    };

    let known = ask("anna@example.org");
    let unknown = ask("nobody@example.org");
    let no_ticket =
        site.tidegate(&["desk", "lookup", "anna@example.org", "--ticket", " "]);

    let labels = |screen: &str| -> Vec<String> {
        screen.lines().map(|line| line.chars().take(15).collect()).collect()
    };
    assert_eq!(labels(&known), labels(&unknown));
    assert!(known.contains("not reopened yet"), "{known}");
    assert!(unknown.contains("no answer for this address"), "{unknown}");
    assert!(unknown.contains("2 of 60 look-ups this hour"), "{unknown}");
    assert_eq!(no_ticket.status.code(), Some(65), "{no_ticket:?}");
    let log = site.stop();
    assert_eq!(log.matches("the desk looked somebody up").count(), 2, "{log}");
    assert!(log.contains("mbx:"), "{log}");
    for address in ["anna@", "nobody@"] {
        assert!(!log.contains(address), "{log}");
        assert!(!known.contains(address) && !unknown.contains(address));
    }
}

/// Addresses of every length that hashes differently.
fn addresses() -> Vec<String> {
    let lengths = [3, 4, 8, 9, 16, 17, 32, 33, 64, 65, 96, 97, 128, 129, 160, 200, 240];
    let long = |length: usize| format!("{}@b", "a".repeat(length - 2));
    let mut addresses: Vec<String> = lengths.into_iter().map(long).collect();
    addresses.extend(
        ["Anna@Example.ORG", "josé@example.org", "user7@example.org"].map(str::to_owned),
    );
    addresses
}

/// The first byte of the plan's own hash.
fn slot_of(address: &str, seed: &str) -> u64 {
    let seed = blake3::hash(seed.as_bytes());
    let seed = u64::from_le_bytes(*seed.as_bytes().first_chunk().unwrap());
    twox_hash::XxHash3_64::oneshot_with_seed(seed, address.to_lowercase().as_bytes())
        >> 56
}

/// What does not follow the clock.
fn timeless(page: &str) -> Vec<&str> {
    let clocks = [
        "class=\"times\"",
        "id=\"stale\"",
        "_at\"",
        "update_by",
        "Aggiornato",
        "Updated",
        "<updated>",
        "_timestamp_seconds ",
    ];
    page.lines().filter(|line| !clocks.iter().any(|it| line.contains(it))).collect()
}

/// Many users, and one whose address is this.
fn inventory(one: &str) -> String {
    let mut rows =
        format!("address,node,tier,path\n{one},stor-01,free,example.org/one\n");
    for user in 1..USERS {
        let node = user % 2 + 1;
        writeln!(rows, "user{user}@example.org,stor-0{node},free,example.org/user{user}")
            .unwrap();
    }
    rows
}
