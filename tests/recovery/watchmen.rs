//! Watchmen: the checker is red when something is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::account::count;
use crate::fleet::{Fleet, Ground};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![the_checker_sees_every_harm_that_is_planted];

/// A harm, done to the mail at a path or to what the checker is told, and what it is called.
type Plant = (&'static str, fn(&Path, &mut Value));

const PLANTS: [Plant; 8] = [
    ("lost", |mail, _| fs::remove_file(mail).unwrap()),
    ("altered", |mail, _| {
        let mut bytes = fs::read(mail).unwrap();
        bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        fs::write(mail, bytes).unwrap();
    }),
    ("misplaced", |mail, _| {
        fs::copy(mail, mail.with_file_name("1.M1P1.elsewhere:2,")).unwrap();
    }),
    ("other flags", |mail, _| {
        let name = mail.file_name().unwrap().to_str().unwrap();
        let base = name.split(":2,").next().unwrap();
        fs::rename(mail, mail.with_file_name(format!("{base}:2,DFPRST"))).unwrap();
    }),
    ("another UIDVALIDITY", |mail, _| {
        let list = mail.parent().unwrap().with_file_name("dovecot-uidlist");
        let text = fs::read_to_string(&list).unwrap().replacen(" V1", " V2", 1);
        fs::write(&list, text).unwrap();
    }),
    ("admission contradicts the journal", |_, told| {
        let admitted = told.pointer_mut("/audit/admitted").unwrap();
        admitted.as_array_mut().unwrap().pop();
    }),
    ("records missing", |_, told| forge(told, |lines| drop(lines.remove(1)))),
    ("opened unverified", |_, told| {
        // Without the records of settling, with the numbers made to fit.
        forge(told, |lines| {
            lines.retain(|line| !line.contains("\"payload\":\"1a"));
            for (number, line) in lines.iter_mut().enumerate() {
                let rest = line.split_once(',').unwrap().1;
                *line = format!("{{\"sequence\":{},{rest}", number + 1);
            }
        });
    }),
];

fn the_checker_sees_every_harm_that_is_planted() {
    let faults = Faults::of("a harm is planted for the checker to find");
    let mut fleet = Fleet::on(Ground::small(71));
    let told = fleet.tell();
    let (maildir, mail) = some_mail(&fleet);
    let clean = count(&told);
    assert_eq!(clean.get("complaints"), Some(&Value::Array(Vec::new())));

    for (harm, plant) in PLANTS {
        let whole = fleet.path("whole");
        let mut copy = Command::new("cp");
        assert!(copy.arg("-a").args([&maildir, &whole]).status().unwrap().success());
        let mut told = told.clone();
        plant(&mail, &mut told);
        faults.injected(1);
        let said = count(&told);
        fs::remove_dir_all(&maildir).unwrap();
        fs::rename(&whole, &maildir).unwrap();

        let found = said.pointer(&format!("/counts/wrong: {harm}"));
        assert!(found.is_some(), "{harm} was not seen: {said:#}");
        faults.survived(1);
    }
}

/// A good message that every side knows all of, and its mailbox, which was restored.
fn some_mail(fleet: &Fleet) -> (PathBuf, PathBuf) {
    let found = fleet.provider().truth.mailboxes.iter().find_map(|mailbox| {
        let node = fleet.provider().nodes.get(mailbox.node)?;
        let maildir = node.live.join(&mailbox.path);
        let is_good = |name: &str| {
            mailbox.messages.iter().any(|it| {
                it.folder == 0
                    && it.uid_known
                    && it.live == tidegate_lab::Held::Intact
                    && it.snapshot == tidegate_lab::Held::Intact
                    && it.fate == tidegate_lab::Fate::Wanted
                    && name.starts_with(&format!("{}:", it.name))
            })
        };
        let mut files =
            fs::read_dir(maildir.join("cur")).ok()?.map(|entry| entry.unwrap());
        let good = files.find(|it| is_good(it.file_name().to_str().unwrap()))?;
        Some((maildir, good.path()))
    });
    found.unwrap()
}

/// Changes the lines of the first node's exported journal.
fn forge(told: &mut Value, change: impl Fn(&mut Vec<String>)) {
    let export = told.pointer_mut("/audit/nodes/0/export").unwrap();
    let path = PathBuf::from(export.as_str().unwrap());
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    let forged = path.with_extension("forged");
    fs::write(&forged, lines.join("\n")).unwrap();
    *export = Value::String(forged.to_str().unwrap().to_owned());
}
