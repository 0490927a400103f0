//! Logs in systemd's journal: fields and message ids, on a socket that stands in journald's place.
//!
//! # Invariants
//!
//! * Only the built program is used, in a mount namespace of its own: the machine's journal hears
//!   nothing.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may say no more than that it failed"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_rig::need;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const POLICY: &str = include_str!("../deploy/config/lab-policy-small.toml");

const INVENTORY: &str = "address,node,tier,path\n\
    anna@example.org,stor-01,paid,example.org/anna/Maildir\n";

#[test]
fn what_happens_is_in_the_journal_with_its_fields_and_message_ids() {
    let mut logged = Logged::start(true);

    let serving = logged.wait_for("MESSAGE", "coordinator serving");
    let applied = logged.tidegate(&[
        "apply",
        "--yes",
        "--inventory",
        "users.csv",
        "--policy",
        "policy.toml",
    ]);
    let taken = logged.wait_for("MESSAGE", "plan taken");
    let paused = logged.tidegate(&["pause", "--by", "ann", "--reason", "first\nsecond"]);
    let record = logged.wait_for("TIDEGATE_CODE", "paused");
    let explained = logged.tidegate(&["explain", "paused"]);

    assert!(applied.status.success(), "{applied:?}");
    assert!(paused.status.success(), "{paused:?}");
    assert_eq!(serving["PRIORITY"], "6");
    assert_eq!(serving["SYSLOG_IDENTIFIER"], "tidegate");
    assert!(serving["TIDEGATE_ADDRESS"].starts_with("127.0.0.1:"), "{serving:?}");
    assert!(!serving.contains_key("MESSAGE_ID"), "it has no code");
    let plan = &taken["TIDEGATE_PLAN"];
    assert_eq!(plan.len(), 64, "{taken:?}");
    assert_eq!(record["TIDEGATE_BY"], "ann");
    assert!(plan.starts_with(&record["TIDEGATE_PLAN"]), "{record:?}");
    let explained = String::from_utf8(explained.stdout).unwrap();
    let id = &record["MESSAGE_ID"];
    assert!(explained.contains(&format!("MESSAGE_ID={id}")), "{explained}");
    assert_eq!(logged.stderr(), "", "nothing is told twice");
}

#[test]
fn a_stderr_that_is_not_the_journal_gets_lines_of_text() {
    let mut logged = Logged::start(false);

    let until = Instant::now() + PATIENCE;
    while !logged.stderr().contains("coordinator serving") {
        assert!(Instant::now() < until && logged.child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }

    assert_eq!(logged.hear(Duration::from_millis(100)), None);
}

/// A coordinator whose log goes to a socket where journald's would be.
struct Logged {
    desk: TempDir,
    socket: UnixDatagram,
    child: Child,
}

impl Logged {
    fn start(stderr_is_journal: bool) -> Self {
        need("/usr/bin/unshare", "util-linux");
        let desk = TempDir::with_prefix("tidegate-journal-").unwrap();
        let path = |name: &str| desk.path().join(name);
        fs::write(path("users.csv"), INVENTORY).unwrap();
        fs::write(path("policy.toml"), POLICY).unwrap();
        let config = "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n";
        fs::write(path("coordinator.toml"), config).unwrap();
        fs::create_dir(path("journal")).unwrap();
        let socket = UnixDatagram::bind(path("journal/socket")).unwrap();
        let stderr = File::create(path("stderr")).unwrap();
        let found = stderr.metadata().unwrap();
        let inode = found.ino() + u64::from(!stderr_is_journal);
        let stage = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                     mount --bind journal /run/systemd/journal && exec \"$0\" \"$@\"";
        let child = Command::new("/usr/bin/unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", stage])
            .arg(env!("CARGO_BIN_EXE_tidegate"))
            .args(["coordinator", "--config", "coordinator.toml", "--stop-with-stdin"])
            .current_dir(desk.path())
            .env_remove("TIDEGATE_LOG")
            .env("JOURNAL_STREAM", format!("{}:{inode}", found.dev()))
            .stdin(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { desk, socket, child }
    }

    fn tidegate(&self, args: &[&str]) -> Output {
        let address = fs::read_to_string(self.desk.path().join("data/address")).unwrap();
        Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(args)
            .current_dir(self.desk.path())
            .env("TIDEGATE_COORDINATOR", format!("http://{}", address.trim()))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The next entry whose field begins so.
    fn wait_for(&mut self, field: &str, begins: &str) -> BTreeMap<String, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "{begins} was not logged");
            let has_ended = self.child.try_wait().unwrap().is_some();
            let entry = self.hear(Duration::from_secs(1));
            assert!(entry.is_some() || !has_ended, "it ended: {}", self.stderr());
            let is_it = |entry: &BTreeMap<String, String>| {
                entry.get(field).is_some_and(|value| value.starts_with(begins))
            };
            if let Some(entry) = entry.filter(is_it) {
                return entry;
            }
        }
    }

    fn hear(&self, within: Duration) -> Option<BTreeMap<String, String>> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut bytes = vec![0; 1 << 18];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(entry(bytes.get(..length)?))
    }

    fn stderr(&self) -> String {
        fs::read_to_string(Path::new(self.desk.path()).join("stderr")).unwrap()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // Its stdin ends, so it stops in order.
        drop(self.child.stdin.take());
        let ended = self.child.wait();
        assert!(ended.is_ok_and(|status| status.success()), "it stops in order");
    }
}

/// An entry as journald reads it: `NAME=value`, or the name, a length and that many bytes.
fn entry(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = bytes.split_at(end);
        let rest = &rest[1..];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            fields.insert(text(&line[..at]), text(&line[at + 1..]));
            bytes = rest;
        } else {
            let (length, rest) = rest.split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap());
            let (value, rest) = rest.split_at(usize::try_from(length).unwrap());
            fields.insert(text(line), text(value));
            bytes = &rest[1..];
        }
    }
    fields
}
