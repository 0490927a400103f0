//! Whose mailbox it is stands nowhere but where it must: a rollout of people with names that
//! nothing else has, and a search for these names in everything that programs leave behind.
//!
//! # Invariants
//!
//! * Only the built program is used, as a shell would.
//! * Mailboxes are healthy, damaged, empty, odd and missing, so that what goes wrong is told as
//!   well; a worker is killed in the middle, and every kind of program breaks while it holds an
//!   address.
//! * Everybody shows a certificate.
//! * The proof names mailboxes in the files that are about each of them, and nowhere else.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may say no more than that it failed"
)]

use std::process::Output;

#[path = "private/others.rs"]
mod others;
#[path = "private/site.rs"]
mod site;

use others::EXCHANGER;
use site::{CANARY, Site, text};

#[test]
fn nobodys_address_is_in_what_programs_log_refuse_measure_or_leave_behind() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    for node in site::NODES {
        site.start(node);
    }
    site.start(EXCHANGER);
    let mut said = vec![("apply", site.apply())];
    break_everything(&mut site);
    said.push(("missing mailbox", site.tidegate(&["mailbox", "show", &stranger()])));
    said.push(("desk", site.desk("T-1")));
    said.push(("desk without a ticket", site.desk("?")));
    let reclose = ["reclose", "mailbox", &stranger(), "--reason", "asked"];
    said.push(("missing to re-close", site.tidegate(&reclose)));
    site.ask_admission();
    site.ask_exchanger();
    said.push((
        "finished",
        site.tidegate(&["wait", "--for", "finished", "--timeout", "100"]),
    ));
    let proof = site.proof();
    said.extend(close_one_and_look(&site));
    let pages = ["/metrics", "/livez", "/readyz"].map(|path| (path, site.page(path)));
    let board = site.operations_page();
    let public = site.public_page();
    site.stop();
    let told = site.told();

    assert!(
        said.iter().any(|(name, it)| *name == "finished"
            && [0, 6].contains(&it.status.code().unwrap())),
        "{}",
        site.logs()
    );
    let told_of_queue = |it: &str| it.contains("mx1") && it.contains("\"messages\"");
    assert!(said.iter().any(|(_, it)| told_of_queue(&text(&it.stdout))), "{said:?}");
    let mut found = Vec::new();
    for (name, output) in &said {
        found.extend(leak(name, &text(&output.stdout)));
        found.extend(leak(name, &text(&output.stderr)));
    }
    for (path, page) in pages {
        assert!(page.starts_with("HTTP/1.1 200"), "{path}: {page}");
        found.extend(leak(path, &page));
    }
    for (file, content) in proof {
        found.extend(leak(&file, &content));
    }
    found.extend(leak("alerts and traces", &told));
    let crashes = site.logs().matches("the program broke at ").count();
    assert_eq!(crashes, 3, "{}", site.logs());
    assert!(board.contains("Who did what"), "{board}");
    found.extend(leak("operations page", &board));
    found.extend(leak("public page", &public));
    found.extend(leak("logs", &site.logs()));
    found.extend(leak("coordinator's journal", &site.journal("data/journal")));
    for node in site::NODES {
        let journal = site.journal(&format!("{node}/state/journal"));
        assert!(!journal.is_empty());
        found.extend(leak("worker's journal", &journal));
    }
    let audit = site.audit();
    assert!(audit.contains("desk look-up") && audit.contains("mbx:"), "{audit}");
    found.extend(leak("audit log", &audit));
    found.extend(leak("what waits", &site.waiting()));
    // As they lie on the disk: an export shows its records in hexadecimal digits.
    found.extend(site.files_that_name_somebody());
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn once_the_key_is_destroyed_nobody_can_tell_whom_the_audit_log_means() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    let applied = site.apply();
    let ask = |site: &Site| {
        let looked = site.desk("T-1");
        assert!(looked.status.success(), "{}", text(&looked.stderr));
        let audit = site.audit();
        let meant = audit.rsplit("mbx:").next().unwrap().split(' ').next().unwrap();
        meant.to_owned()
    };
    let (first, second) = (ask(&site), ask(&site));
    let elsewhere = site.files_with_the_key();

    site.stop();
    site.destroy_the_key();
    site.start("coordinator");
    site.know_the_address();
    let after = ask(&site);

    assert!(applied.status.success(), "{}", text(&applied.stderr));
    assert_eq!(first, second, "while there is a key one person has one pseudonym");
    assert_eq!(first.len(), 20, "{first}");
    assert_ne!(first, after, "what was written before leads to nobody any more");
    assert_eq!(elsewhere, ["pseudonym.key"], "there is no copy of the key");
}

/// Re-closes a mailbox, and looks at what happened.
fn close_one_and_look(site: &Site) -> Vec<(&'static str, Output)> {
    let own = format!("user3-{CANARY}@post.example");
    // What an operator types is repeated to them, and to nobody else.
    let closed = site.tidegate(&["reclose", "mailbox", &own, "--reason", "asked"]);
    assert!(closed.status.success(), "{}", text(&closed.stderr));
    let mut said = Vec::new();
    for screen in
        [["status"].as_slice(), &["report"], &["why"], &["status", "-o", "json"]]
    {
        said.push(("screen", site.tidegate(screen)));
    }
    said
}

/// Every program is killed or breaks, and comes back.
fn break_everything(site: &mut Site) {
    site.kill("stor-02");
    site.start("stor-02");
    site.ask_exchanger();
    site.crash(EXCHANGER);
    for name in ["stor-01", "coordinator"] {
        site.crash(name);
        site.start(name);
    }
    site.know_the_address();
    for node in site::NODES {
        site.kill(node);
        site.start(node);
    }
    site.start(EXCHANGER);
}

/// Whoever is in no inventory.
fn stranger() -> String {
    format!("nobody-{CANARY}@post.example")
}

/// The lines of `text` that name somebody.
fn leak(whence: &str, text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.to_lowercase().contains(CANARY));
    lines.take(3).map(|line| format!("{whence}: {line}")).collect()
}
