//! Items: what stands in a mailbox and is no mail, or somebody else's.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};
use tidegate_mail::{Finding, Reason};

use crate::provider::{MAILDIR, Provider, addressed, letter};
use crate::{open, prepare, prepare_at};

#[test]
fn devices_among_the_mail_are_moved_aside_unopened() {
    let provider = Provider::healthy();
    // A tape rewinds when it is closed, a watchdog starts when it is opened.
    let kinds = [FileType::CharacterDevice, FileType::BlockDevice];
    for (kind, name) in kinds.into_iter().zip(["1.tape", "2.disk"]) {
        let path = provider.at("live", "cur").join(name);
        let number = rustix::fs::makedev(251, 251);
        if let Err(errno) =
            rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), number)
        {
            println!("skipped: devices cannot be made here: {errno}");
            return;
        }
    }

    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.intact, prepared.counts.set_aside), (8, 2));
    let reasons = prepared.set_aside.iter().map(Finding::reason);
    assert!(reasons.into_iter().all(|it| it == Some(Reason::NotRegular)));
    assert_eq!(fs::read_dir(provider.at("live", "cur")).unwrap().count(), 5);
}

#[test]
fn a_hard_link_to_a_foreign_file_is_never_written_through() {
    let provider = Provider::healthy();
    let outside = provider.dir.path().join("outside");
    fs::write(&outside, b"root:x:0:0:root:/root:/bin/bash\n").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o640)).unwrap();
    let place = provider.find("live", "", &letter(1).base).unwrap();
    fs::remove_file(&place).unwrap();
    fs::hard_link(&outside, &place).unwrap();
    let list = provider.at("live", "dovecot-keywords");
    fs::remove_file(&list).unwrap();
    fs::hard_link(&outside, &list).unwrap();
    let before = fs::metadata(&outside).unwrap();

    let prepared = prepare(&provider).unwrap();

    assert_eq!(prepared.counts.repaired, 1);
    assert_eq!(provider.served("", &letter(1)), Some(letter(1).bytes));
    assert_eq!(fs::read(&outside).unwrap(), b"root:x:0:0:root:/root:/bin/bash\n");
    let after = fs::metadata(&outside).unwrap();
    let kept = |it: &fs::Metadata| (it.mode(), it.uid(), it.gid(), it.mtime_nsec());
    assert_eq!(kept(&after), kept(&before));
}

#[test]
fn a_hard_link_to_another_users_mail_is_not_served() {
    let provider = Provider::healthy();
    let foreign = addressed(50, "otto@example.org");
    let theirs = provider.root("live").join("example.org/otto");
    fs::write(&theirs, &foreign.bytes).unwrap();
    fs::hard_link(&theirs, provider.at("live", "new").join(&foreign.base)).unwrap();

    let prepared = prepare(&provider).unwrap();

    assert_eq!(prepared.counts.set_aside, 1);
    assert_eq!(prepared.set_aside[0].reason(), Some(Reason::ForeignBytes));
    assert_eq!(provider.find("live", "", &foreign.base), None);
    assert_eq!(fs::read(&theirs).unwrap(), foreign.bytes);
}

#[test]
fn folders_with_names_of_any_bytes_are_folders_like_others() {
    let provider = Provider::healthy();
    let names: [&[u8]; 4] = [b".A\nB", b".\xff\xfe", b".tab\t%2e", b".a b\\"];
    for (name, number) in names.into_iter().zip(30..) {
        for side in ["live", "snapshot"] {
            let cur = provider.at(side, "").join(OsStr::from_bytes(name)).join("cur");
            fs::create_dir_all(&cur).unwrap();
            fs::write(cur.join(letter(number).base), letter(number).bytes).unwrap();
        }
        let path = provider.at("live", "").join(OsStr::from_bytes(name)).join("cur");
        fs::write(path.join(letter(number).base), b"").unwrap();
        // Bad on both sides: it must be named.
        for side in ["live", "snapshot"] {
            let cur = provider.at(side, "").join(OsStr::from_bytes(name)).join("cur");
            fs::write(cur.join(letter(number + 10).base), b"").unwrap();
        }
    }

    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.repaired, prepared.set_aside.len()), (4, 4));
    let store = open(&provider);
    let listed = store.findings(7).unwrap();
    let named = listed.iter().filter(|it| it.reason().is_some());
    assert_eq!(named.count(), 4, "the list can be read back");
    let entries = store.manifest(7).unwrap().unwrap().entries;
    let folders: Vec<&[u8]> = entries.iter().map(|it| &*it.folder).collect();
    for name in names {
        assert!(folders.contains(&&name[1..]), "{}", name.escape_ascii());
    }
    assert!(prepare_at(&store, MAILDIR).is_ok());
}

#[test]
fn links_in_the_snapshot_lead_nowhere_either() {
    let provider = Provider::healthy();
    let secret = provider.dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    let foreign = letter(60);
    fs::write(secret.join(&foreign.base), &foreign.bytes).unwrap();
    link(&secret, &provider.at("snapshot", ".Secret"));
    let lost = provider.find("snapshot", "", &letter(1).base).unwrap();
    fs::remove_file(&lost).unwrap();
    link(&secret.join(&foreign.base), &lost);
    provider.lose("live", "", &letter(1));

    let prepared = prepare(&provider).unwrap();

    assert_eq!(provider.find("live", "", &letter(1).base), None);
    assert!(!provider.at("live", ".Secret").exists());
    assert!(!provider.keeps(&foreign.bytes));
    assert_eq!(prepared.counts.intact, 7);
}

fn link(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}
