//! A log that somebody has been at is found out, in whatever way they did it.
//!
//! # Invariants
//!
//! * Files are changed as somebody with an editor and much time would.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stderr, reason = "whoever asks for it is shown the table")]

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tempfile::TempDir;
use tidegate_audit::{
    Finding, Log, Note, Pseudonyms, PublicKey, SigningKey, tell_syslog, verify,
};

const RECORDS: u64 = 9;

#[test]
fn a_log_that_nobody_touched_is_what_it_was() {
    let site = Site::new();

    let verified = site.verify();

    assert_eq!(verified.findings, []);
    assert_eq!((verified.records, verified.anchors), (RECORDS + 1, 2));
    assert_eq!(verified.anchored, RECORDS + 1);
}

#[test]
fn an_edit_is_found() {
    let site = Site::new();
    site.change(|lines| lines[4] = lines[4].replace("anna", "carl"));

    assert_eq!(site.verify().findings, [Finding::Edited { sequence: 5 }]);
}

#[test]
fn an_edit_with_a_digest_made_to_fit_is_found() {
    let site = Site::new();
    site.change(|lines| lines[5] = redone(&lines[5].replace("anna", "carl")));

    assert_eq!(site.verify().findings, [Finding::Unlinked { sequence: 7 }]);
}

#[test]
fn a_deletion_is_found() {
    let site = Site::new();
    site.change(|lines| drop(lines.remove(4)));

    let gap = Finding::OutOfPlace { expected: 5, found: 6 };
    assert_eq!(site.verify().findings, [gap]);
}

#[test]
fn an_exchange_is_found() {
    let site = Site::new();
    site.change(|lines| lines.swap(3, 4));

    let findings = site.verify().findings;
    assert!(
        findings.contains(&Finding::OutOfPlace { expected: 4, found: 5 }),
        "{findings:?}"
    );
}

#[test]
fn a_truncation_is_found_by_what_was_anchored() {
    let site = Site::new();
    site.change(|lines| lines.truncate(7));

    let cut = Finding::Truncated { newest: 7, anchored: RECORDS + 1 };
    assert_eq!(site.verify().findings, [cut]);
    let alone = verify(&site.log, None, None).unwrap();
    assert_eq!(alone.findings, [], "without anchors nobody can see it");
}

#[test]
fn a_full_rewrite_is_found_by_what_was_anchored() {
    let site = Site::new();
    fs::remove_file(&site.log).unwrap();
    site.write_log("carl");

    let findings = site.verify().findings;
    assert_eq!(verify(&site.log, None, None).unwrap().findings, [], "the chain is whole");
    assert!(findings.contains(&Finding::Rewritten { sequence: 5 }), "{findings:?}");
}

#[test]
fn whoever_has_been_at_a_log_in_one_of_five_ways_reads_what_they_did() {
    type Way = (&'static str, fn(&Site));
    let ways: [Way; 5] = [
        ("edited", |site| site.change(|it| it[4] = it[4].replace("anna", "carl"))),
        ("deleted", |site| site.change(|it| drop(it.remove(4)))),
        ("exchanged", |site| site.change(|it| it.swap(3, 4))),
        ("cut off", |site| site.change(|it| it.truncate(7))),
        ("rewritten", |site| {
            fs::remove_file(&site.log).unwrap();
            site.write_log("carl");
        }),
    ];

    let said = ways.map(|(name, tamper)| {
        let site = Site::new();
        tamper(&site);
        let first = site.verify().findings.first().unwrap().to_string();
        eprintln!("| {name} | {first} |");
        first
    });

    let expected = [
        "record 5 was edited: its digest is that of other bytes",
        "record 5 should come, 6 does: records were deleted, inserted or exchanged",
        "record 4 should come, 5 does: records were deleted, inserted or exchanged",
        "the log ends with record 7, but record 10 was anchored: it was truncated",
        "record 5 is not the one that was anchored: the log was rewritten",
    ];
    assert_eq!(said, expected);
}

#[test]
fn an_anchor_that_was_forged_is_not_believed() {
    let site = Site::new();
    fs::remove_file(&site.log).unwrap();
    let mut log = site.write_log("carl");
    let other = key(&site.dir, "other");
    let forged = log.anchor(3, Some(&other)).unwrap().unwrap();
    fs::write(&site.anchors, format!("{forged}\n")).unwrap();

    let forged = Finding::FalseAnchor { sequence: RECORDS + 1 };
    assert_eq!(site.verify().findings, [forged]);
}

#[test]
fn an_anchor_is_of_what_there_was_when_it_fell_due_and_holds_nobody_up() {
    let site = Site::new();
    let mut log = Log::open(&site.log, 0).unwrap();
    let before = log.due().unwrap();
    note(&mut log, "anna", 9);
    let after = log.due().unwrap();

    let anchors = [after, before].map(|due| due.flush(3, Some(&site.key)).unwrap());
    for anchor in &anchors {
        log.anchored(anchor);
    }

    // The start is a record, too.
    let sequences = anchors.each_ref().map(|anchor| anchor.sequence);
    assert_eq!(sequences, [RECORDS + 3, RECORDS + 2]);
    assert!(log.due().is_none(), "the older one takes nothing back");
    let text = anchors.map(|anchor| format!("{anchor}\n")).concat();
    fs::write(&site.anchors, text).unwrap();
    assert_eq!(site.verify().findings, []);
}

#[test]
fn whoever_has_only_what_verifies_cannot_make_an_anchor() {
    let site = Site::new();

    let by_public = SigningKey::read(&site.dir.path().join("own.pub"));

    assert!(by_public.is_err());
    assert_eq!(format!("{:?}", site.key), "SigningKey");
}

#[test]
fn a_collector_of_logs_gets_an_anchor_that_is_believed() {
    let site = Site::new();
    let socket = site.dir.path().join("log");
    let collector = UnixDatagram::bind(&socket).unwrap();
    let mut log = site.write_log("anna");
    let anchor = log.anchor(7, Some(&site.key)).unwrap().unwrap();

    tell_syslog(&socket, &anchor).unwrap();
    let mut datagram = [0; 2_048];
    let length = collector.recv(&mut datagram).unwrap();
    let message = String::from_utf8_lossy(&datagram[..length]);
    fs::write(&site.anchors, format!("{message}\n")).unwrap();
    drop(collector);
    fs::remove_file(&socket).unwrap();

    let head = "<85>1 1970-01-01T00:00:00.007Z - tidegate ";
    assert!(message.starts_with(head), "{message}");
    assert_eq!(site.verify().findings, []);
    assert!(tell_syslog(&socket, &anchor).is_err(), "nobody is there any more");
}

#[test]
fn an_anchor_in_a_line_of_a_programs_log_is_as_good() {
    let site = Site::new();
    let anchors = fs::read_to_string(&site.anchors).unwrap();
    let text = anchors.lines().map(|line| format!("22:01:07 INFO {line}\n"));
    let json = anchors.lines().map(|line| format!("{{\"message\":\"{line}\"}}\n"));
    let lines: String = text.chain(json).collect();
    fs::write(&site.anchors, lines).unwrap();

    let verified = site.verify();

    assert_eq!((verified.findings.len(), verified.anchors), (0, 4));
}

#[test]
fn a_line_that_a_crash_cut_short_is_taken_away_and_told() {
    let site = Site::new();
    let mut file = OpenOptions::new().append(true).open(&site.log).unwrap();
    file.write_all(b"{\"sequence\":11,\"who\":\"an").unwrap();

    drop(Log::open(&site.log, 5).unwrap());

    let verified = site.verify();
    assert_eq!((verified.findings.len(), verified.records), (0, RECORDS + 2));
    let text = fs::read_to_string(&site.log).unwrap();
    assert!(text.contains("24 bytes of a line cut short"), "{text}");
}

#[test]
fn no_address_is_written_and_one_person_has_one_pseudonym() {
    let site = Site::new();
    let key = site.dir.path().join("pseudonym.key");
    let made = Pseudonyms::open(&key).unwrap();
    let again = Pseudonyms::open(&key).unwrap();

    assert_eq!(made.of("Anna@Example.org "), again.of("anna@example.org"));
    assert_ne!(made.of("anna@example.org"), made.of("bob@example.org"));
    assert!(made.of("anna@example.org").starts_with("mbx:"));
    fs::remove_file(&key).unwrap();
    assert_ne!(
        Pseudonyms::open(&key).unwrap().of("anna@example.org"),
        made.of("anna@example.org")
    );
}

struct Site {
    dir: TempDir,
    log: PathBuf,
    anchors: PathBuf,
    key: SigningKey,
}

impl Site {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let key = key(&dir, "own");
        let (log, anchors) = (path("audit.jsonl"), path("anchors"));
        let site = Self { dir, log, anchors, key };
        let mut log = Log::open(&site.log, 0).unwrap();
        let mut anchors = String::new();
        for number in 1..=RECORDS {
            note(&mut log, "anna", number);
            if number == 4 {
                writeln!(anchors, "{}", log.anchor(1, Some(&site.key)).unwrap().unwrap())
                    .unwrap();
            }
        }
        writeln!(anchors, "{}", log.anchor(2, Some(&site.key)).unwrap().unwrap())
            .unwrap();
        assert_eq!(log.anchor(3, None).unwrap(), None, "nothing has come since");
        fs::write(&site.anchors, anchors).unwrap();
        site
    }

    fn write_log(&self, who: &str) -> Log {
        let mut log = Log::open(&self.log, 0).unwrap();
        for number in 1..=RECORDS {
            note(&mut log, who, number);
        }
        log
    }

    fn verify(&self) -> tidegate_audit::Verified {
        let public = PublicKey::read(&self.dir.path().join("own.pub")).unwrap();
        assert_eq!(public, self.key.public());
        verify(&self.log, Some(&self.anchors), Some(&public)).unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<String>)) {
        let text = fs::read_to_string(&self.log).unwrap();
        let mut lines = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(&self.log, lines.join("\n") + "\n").unwrap();
    }
}

/// A key of its own, with its public part beside it, as `tidegate init` makes them.
fn key(dir: &TempDir, name: &str) -> SigningKey {
    let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let path = |end: &str| dir.path().join(format!("{name}.{end}"));
    fs::write(path("key"), made.serialize_pem()).unwrap();
    fs::write(path("pub"), made.public_key_pem()).unwrap();
    SigningKey::read(&path("key")).unwrap()
}

fn note(log: &mut Log, who: &str, number: u64) {
    let note = Note {
        at_millis: number,
        who,
        roles: &["operator"],
        call: "pause",
        about: &format!("reason {number}"),
        outcome: "done",
    };
    log.note(note).unwrap();
}

/// The line with the digest that its bytes have now.
fn redone(line: &str) -> String {
    let (body, _) = line.rsplit_once(",\"digest\":\"").unwrap();
    format!("{body},\"digest\":\"{}\"}}", blake3::hash(body.as_bytes()).to_hex())
}
