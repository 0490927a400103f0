//! Judge: the independent program that looks at mailboxes and compares.
//!
//! # Invariants
//!
//! * Views are passed on as they came: nothing here looks into a message.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Map, Value, json};
use tidegate_mail::{DoubtKind, Finding, Prepared};

use crate::server::{Dovecot, PASSWORD, User};

/// What mail programs see of one mailbox.
pub(crate) type View = Value;

/// Looks at mailboxes over IMAP and POP3, in their order.
pub(crate) fn look(dovecot: &Dovecot, users: &[User]) -> Vec<View> {
    let addresses: Vec<&str> = users.iter().map(|it| it.address.as_str()).collect();
    let [imap, pop3] = dovecot.ports().map(|port| port.to_string());
    let mut views = ask(&["view", &imap, &pop3, PASSWORD], &json!(addresses));
    addresses.iter().map(|address| views[*address].take()).collect()
}

/// A mailbox before and after, and what was said about it in between.
pub(crate) fn question(before: &View, after: &View, said: &Prepared) -> Value {
    let named = |it: &Finding| json!({ "folder": it.folder, "uid": it.uid });
    let doubt = |it: &Finding| {
        let kind = it.doubt().map(DoubtKind::code);
        json!({ "folder": it.folder, "uid": it.uid, "kind": kind })
    };
    json!({
        "before": before,
        "after": after,
        "named": said.set_aside.iter().map(named).collect::<Value>(),
        "doubts": said.doubts.iter().map(doubt).collect::<Value>(),
    })
}

/// What became of each mailbox, as a sentence, and how much was compared.
pub(crate) fn compare(questions: &[Value]) -> (Vec<String>, Map<String, Value>) {
    let mut answer = ask(&["compare"], &json!(questions));
    let outcomes = serde_json::from_value(answer["outcomes"].take()).unwrap();
    let totals = serde_json::from_value(answer["totals"].take()).unwrap();
    (outcomes, totals)
}

/// Digests of files, as a server serves them.
pub(crate) fn digests(files: &[PathBuf]) -> Vec<String> {
    serde_json::from_value(ask(&["digests"], &json!(files))).unwrap()
}

fn ask(arguments: &[&str], given: &Value) -> Value {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dovecot/compare.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(program).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("Python 3 compares: apt-get install python3");
    let mut stdin = child.stdin.take().unwrap();
    let given = serde_json::to_vec(given).unwrap();
    let writer = thread::spawn(move || stdin.write_all(&given));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "compare.py {arguments:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}
