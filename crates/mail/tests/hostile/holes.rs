//! Holes: what may not be read or written, and what the disk does not give.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tidegate_mail::Reason;

use crate::child::Child;
use crate::provider::{Provider, letter};
use crate::{prepare, refused};

#[test]
fn mail_that_may_not_be_read_comes_from_the_snapshot() {
    let Some(_child) =
        Child::unprivileged("holes::mail_that_may_not_be_read_comes_from_the_snapshot")
    else {
        return;
    };
    let provider = Provider::healthy();
    let path = provider.find("live", "", &letter(1).base).unwrap();
    mode(&path, 0o000);

    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.intact, prepared.counts.repaired), (7, 1));
}

#[test]
fn mail_that_may_be_read_nowhere_is_named() {
    let Some(_child) =
        Child::unprivileged("holes::mail_that_may_be_read_nowhere_is_named")
    else {
        return;
    };
    let provider = Provider::healthy();
    for side in ["live", "snapshot"] {
        mode(&provider.find(side, "", &letter(1).base).unwrap(), 0o000);
    }

    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.intact, prepared.counts.set_aside), (7, 1));
    assert_eq!(prepared.set_aside[0].uid, Some(1));
}

#[test]
fn directories_that_may_not_be_entered_refuse_the_mailbox() {
    let Some(_child) = Child::unprivileged(
        "holes::directories_that_may_not_be_entered_refuse_the_mailbox",
    ) else {
        return;
    };
    for place in ["", "cur", ".Archive.2024", ".Archive.2024/new"] {
        let provider = Provider::healthy();
        let place = provider.at("live", place);
        mode(&place, 0o000);

        let code = prepare(&provider).unwrap_err().code();

        mode(&place, 0o755);
        assert_eq!(code, "unreadable", "{}", place.display());
        assert_eq!(provider.served("", &letter(1)), Some(letter(1).bytes));
    }
}

#[test]
fn directories_that_may_not_be_written_refuse_a_mailbox_with_damage_and_change_nothing() {
    let Some(_child) = Child::unprivileged(
        "holes::directories_that_may_not_be_written_refuse_a_mailbox_with_damage_and_change_nothing",
    ) else {
        return;
    };
    let provider = Provider::healthy();
    provider.damage("live", "", &letter(1), b"");
    mode(&provider.at("live", "cur"), 0o555);

    assert_eq!(refused(&provider), "unwritable");

    mode(&provider.at("live", "cur"), 0o755);
    assert_eq!(prepare(&provider).unwrap().counts.repaired, 1);
}

#[test]
fn a_disk_that_does_not_give_the_middle_of_a_file_costs_no_more_than_that_file() {
    let Some(_child) = with_bad_sectors(
        "holes::a_disk_that_does_not_give_the_middle_of_a_file_costs_no_more_than_that_file",
    ) else {
        return;
    };
    let provider = Provider::healthy();
    let mut bytes = b"Subject: long\r\n\r\n".to_vec();
    bytes.resize(200_000, b'x');
    let [kept, lost] = [90, 91].map(|number| {
        let base = format!("17950000{number}.BAD-SECTOR.host,S=200000,W=200000");
        provider.write("live", &format!("cur/{base}:2,S"), &bytes);
        base
    });
    provider.write("snapshot", &format!("cur/{kept}:2,"), &bytes);

    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.intact, prepared.counts.repaired), (8, 1));
    let told: Vec<_> =
        prepared.set_aside.iter().map(|it| (&it.name, it.reason())).collect();
    assert_eq!(told, [(&lost, Some(Reason::Unreadable))]);
}

/// Runs a test with reads failing as they do on bad sectors.
fn with_bad_sectors(test: &str) -> Option<Child> {
    Child::with(test, |command| {
        let dir = Path::new(command.get_program()).parent().unwrap();
        let library = dir.join("bad_sectors.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/bad_sectors.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([library.as_os_str(), source.as_ref()])
            .status();
        assert!(made.unwrap().success());
        command.env("LD_PRELOAD", library);
    })
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
