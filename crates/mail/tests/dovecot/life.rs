//! Life: a mailbox that Dovecot fills and its owner uses, before and after the snapshot.
//!
//! # Invariants
//!
//! * Every life takes the same steps, so that UIDs are the same in every mailbox.

use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use crate::server::{Dovecot, run};

/// A nested folder whose name is not ASCII and has blanks and an ampersand.
pub(crate) const NESTED: &str = "Entw&APw-rfe/Tag &- Nacht";

/// Fills a mailbox up to the moment of the snapshot.
pub(crate) fn begin(dovecot: &Dovecot, user: &str) {
    dovecot.deliver(user, &letters(1..=8)).unwrap();
    let mut imap = dovecot.imap(user);
    imap.command("ENABLE CONDSTORE");
    for folder in ["Archive", "Archive/2024", "&ANw-bung", NESTED, "Away"] {
        imap.command(&format!("CREATE \"{folder}\""));
        imap.command(&format!("SUBSCRIBE \"{folder}\""));
    }
    for command in [
        "SELECT INBOX",
        "UID STORE 1 +FLAGS (\\Seen)",
        "UID STORE 2 +FLAGS (\\Seen \\Answered $Work)",
        "UID STORE 3 +FLAGS (\\Flagged $Junk)",
        "UID STORE 4 +FLAGS (\\Seen \\Flagged $Work $Later)",
        "UID COPY 1:2 Archive",
        "UID MOVE 5 Archive/2024",
        "UID STORE 6 +FLAGS (\\Deleted)",
        "UID EXPUNGE 6",
    ] {
        imap.command(command);
    }
    imap.append("&ANw-bung", "\\Seen \\Draft $Work", &letter(20));
    imap.append("&ANw-bung", "", &letter(21));
    imap.append(NESTED, "\\Seen $Later", &letter(22));
    imap.append("Away", "\\Seen", &letter(23));
    drop(imap);
    dovecot.deliver(user, &letters(9..=10)).unwrap();
}

/// Goes on using it until the fault.
pub(crate) fn go_on(dovecot: &Dovecot, user: &str) {
    dovecot.deliver(user, &letters(11..=13)).unwrap();
    let mut imap = dovecot.imap(user);
    for command in [
        "ENABLE CONDSTORE",
        "SELECT INBOX",
        "UID STORE 1 -FLAGS (\\Seen)",
        "UID STORE 3 +FLAGS (\\Seen $New)",
        "UID STORE 11 +FLAGS (\\Seen $Work $New)",
        "UID STORE 7 +FLAGS (\\Deleted)",
        "UID EXPUNGE 7",
        "UID MOVE 8 Archive",
        "CREATE New/Folder",
        "UID COPY 12 New/Folder",
        "SELECT Archive",
        "UID STORE 1 +FLAGS (\\Flagged)",
        "CLOSE",
        "RENAME Archive/2024 Archive/Old",
        "DELETE Away",
    ] {
        imap.command(command);
    }
    drop(imap);
    dovecot.deliver(user, &letters(14..=14)).unwrap();
}

/// Compresses the mail of a Maildir in place, as an administrator would to save space: names keep
/// their sizes, which are of the plain mail, and get a flag `Z`.
pub(crate) fn squeeze(maildir: &Path) {
    for folder in ["", ".Archive"] {
        for sub in ["cur", "new"] {
            for entry in fs::read_dir(maildir.join(folder).join(sub)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.to_str().unwrap();
                let info = if name.contains(":2,") { "Z" } else { ":2,Z" };
                let (squeezed, named) = (format!("{name}.gz"), format!("{name}{info}"));
                run(Command::new("gzip").arg("--force").arg(&path));
                fs::rename(squeezed, named).unwrap();
            }
        }
    }
}

/// Messages by their numbers.
pub(crate) fn letters(numbers: RangeInclusive<u32>) -> Vec<Vec<u8>> {
    numbers.map(letter).collect()
}

/// A message; numbers 2 and 3 have one size and one shape.
fn letter(number: u32) -> Vec<u8> {
    let mut text = format!(
        "From: Sender <sender@example.net>\nTo: somebody@example.org\n\
         Subject: Number {number:02}\nMessage-ID: <{number:02}@example.net>\n\
         Date: Tue, 5 Mar 2024 07:08:09 +0100\nMIME-Version: 1.0\n"
    );
    let lines = if matches!(number, 2 | 3) { 300 } else { 40 + 90 * (number % 5) };
    if number.is_multiple_of(4) {
        text.push_str("Content-Type: multipart/mixed; boundary=\"edge\"\n\n--edge\n");
        text.push_str("Content-Type: text/plain\n\n.A line that begins with a dot\n");
        text.push_str("--edge\nContent-Type: application/octet-stream\n");
        text.push_str("Content-Transfer-Encoding: base64\n\n");
        for line in 0..lines {
            writeln!(text, "{:A>60}{:04}", number * 1000, line).unwrap();
        }
        text.push_str("--edge--\n");
    } else {
        text.push_str("Content-Type: text/plain; charset=utf-8\n");
        text.push_str("Content-Transfer-Encoding: 8bit\n\n");
        for line in 0..lines {
            writeln!(text, "{number:02}/{line:04}: Grüße aus Übersee, 今日は").unwrap();
        }
    }
    text.into_bytes()
}
