//! Doveadm: real dbox mailboxes, made and shown by Dovecot, without a server.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Mailbox, PrepareTask, Prepared, Refusal, Store, StoreConfig, StoreError};

pub(crate) const OWNER: &str = "user@example.org";

/// A mailbox of Dovecot's, live and in a snapshot, and a work directory.
pub(crate) struct Life {
    dir: tempfile::TempDir,
    format: &'static str,
}

/// What mail programs would see: a line for every folder, and for every message all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) folders: BTreeMap<String, String>,
    pub(crate) messages: BTreeMap<(String, u32), Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) flags: String,
    pub(crate) guid: String,
    pub(crate) subject: String,
    pub(crate) text: String,
}

impl View {
    /// What mail programs see, whatever UIDs come next.
    pub(crate) fn without_next_uids(mut self) -> Self {
        for line in self.folders.values_mut() {
            let parts: Vec<&str> = line.split('\t').collect();
            *line = [parts[0], parts[2], parts[3]].join("\t");
        }
        self
    }
}

impl Life {
    /// Six messages in the inbox, one of them expunged, and a folder of two.
    pub(crate) fn new(format: &'static str) -> Self {
        Self::with(format, "")
    }

    /// The same, stored as the zlib plugin does.
    pub(crate) fn compressed(format: &'static str) -> Self {
        let plugin = "mail_plugins = zlib\nplugin {\n  zlib_save = gz\n}\n";
        Self::with(format, plugin)
    }

    fn with(format: &'static str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let life = Self { dir, format };
        for name in ["run", "live/user", "snapshot", "work"] {
            fs::create_dir_all(life.at(name)).unwrap();
        }
        hand_over(&life.at("run"));
        hand_over(&life.at("live"));
        let config = format!(
            "base_dir = {0}/run\nlog_path = /dev/stderr\nssl = no\n\
             mail_location = {format}:{0}/live/user/mail\n\
             namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n{more}",
            life.dir.path().display()
        );
        fs::write(life.at("dovecot.conf"), config).unwrap();
        for number in 1..=6 {
            life.save("INBOX", number);
        }
        life.run(&["mailbox", "create", "-s", "Archive/2024"], "");
        life.run(&["copy", "Archive/2024", "mailbox", "INBOX", "uid", "3"], "");
        life.save("Archive/2024", 20);
        life.run(&["flags", "add", "\\Seen", "mailbox", "INBOX", "uid", "1,3"], "");
        life.run(
            &["flags", "add", "\\Flagged $Work", "mailbox", "INBOX", "uid", "2"],
            "",
        );
        life.run(&["expunge", "mailbox", "INBOX", "uid", "4"], "");
        life
    }

    pub(crate) fn at(&self, rel: &str) -> PathBuf {
        self.dir.path().join(rel)
    }

    pub(crate) fn mail(&self, rel: &str) -> PathBuf {
        self.at("live/user/mail").join(rel)
    }

    /// A second one, as it stands.
    pub(crate) fn twin(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let from = format!("{}/.", self.dir.path().display());
        let copied = Command::new("cp").arg("-a").arg(from).arg(dir.path()).status();
        assert!(copied.unwrap().success());
        let config = fs::read_to_string(dir.path().join("dovecot.conf")).unwrap();
        let (old, new) = (self.dir.path().display(), dir.path().display());
        let config = config.replace(&old.to_string(), &new.to_string());
        fs::write(dir.path().join("dovecot.conf"), config).unwrap();
        Self { dir, format: self.format }
    }

    /// Delivers a message; its number decides its bytes.
    pub(crate) fn save(&self, folder: &str, number: u32) {
        let lines =
            (0..number * 40).map(|line| format!("line {line} of {number}, some text\n"));
        let body: String = lines.collect();
        let message = format!(
            "Delivered-To: {OWNER}\nFrom: a@example.net\nSubject: message {number}\n\n{body}"
        );
        self.run(&["save", "-m", folder], &message);
    }

    pub(crate) fn snapshot(&self) {
        let status = Command::new("cp")
            .args(["-a", "--no-target-directory"])
            .args([self.at("live"), self.at("snapshot")])
            .status();
        assert!(status.unwrap().success());
    }

    /// What doveadm says; it must have nothing to complain about.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> String {
        let (output, complaints) = self.try_run(arguments, input);
        assert_eq!(complaints, "", "{arguments:?}");
        output
    }

    pub(crate) fn try_run(&self, arguments: &[&str], input: &str) -> (String, String) {
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid", "mail", "--regid", "mail", "--clear-groups"]);
        }
        let mut child = command
            .args(["doveadm", "-c"])
            .arg(self.at("dovecot.conf"))
            .args(arguments)
            .env("USER", "user")
            .env("HOME", self.at("live/user"))
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    pub(crate) fn view(&self) -> View {
        let fields = "messages uidnext uidvalidity guid";
        let status = self.run(&["-f", "tab", "mailbox", "status", fields, "*"], "");
        let folders = status.lines().skip(1).map(|line| {
            let (name, rest) = line.split_once('\t').unwrap();
            (name.to_owned(), rest.to_owned())
        });
        let fields = "mailbox uid flags guid hdr.subject text";
        let list = self.run(&["-f", "pager", "fetch", fields, "mailbox", "*", "all"], "");
        let messages = list.split('\x0c').filter_map(|message| {
            let message = message.trim_start_matches('\n');
            let mut fields = message.splitn(6, '\n').map(|line| {
                let (_, value) = line.split_once(':').unwrap();
                value.trim().replace("\\Recent", "").trim().to_owned()
            });
            let folder = fields.next().filter(|folder| !folder.is_empty())?;
            let uid = fields.next()?.parse().unwrap();
            let flags: Vec<String> =
                fields.next()?.split_whitespace().map(str::to_owned).collect();
            let (flags, guid) = (flags.join(" "), fields.next()?);
            let (subject, text) = (fields.next()?, fields.next()?);
            Some(((folder, uid), Seen { flags, guid, subject, text }))
        });
        View { folders: folders.collect(), messages: messages.collect() }
    }

    pub(crate) fn highest_modseq(&self, folder: &str) -> u64 {
        let line = ["-f", "tab", "mailbox", "status", "highestmodseq", folder];
        self.run(&line, "").trim().rsplit(['\t', '\n']).next().unwrap().parse().unwrap()
    }

    pub(crate) fn store(&self) -> Store {
        loop {
            let store = Store::open(StoreConfig {
                live: self.at("live"),
                snapshot: Some(self.at("snapshot")),
                work: self.at("work"),
                file_size_max: 10_000_000,
            });
            match store {
                // A process that another test begins holds our lock until it is its own.
                Err(StoreError::Held { .. }) => std::thread::yield_now(),
                store => return store.unwrap(),
            }
        }
    }

    pub(crate) fn mailbox(served: bool) -> Mailbox {
        let (address, path) = (OWNER.to_owned(), b"user/mail".to_vec());
        Mailbox { key: 7, address, path, served }
    }

    /// Prepares the mailbox, all changes stopping after `acts`; the acts that were left.
    pub(crate) fn prepare_until(
        &self,
        acts: u64,
    ) -> (u64, Option<Result<Prepared, Refusal>>) {
        self.prepare_as(&Self::mailbox(false), acts)
    }

    pub(crate) fn prepare_as(
        &self,
        mailbox: &Mailbox,
        acts: u64,
    ) -> (u64, Option<Result<Prepared, Refusal>>) {
        let store = self.store();
        store.claim(1, 3, "worker").unwrap();
        store.fuse().light(Some(acts));
        let mailboxes = std::slice::from_ref(mailbox);
        let task = PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes };
        let result = store.prepare(&task).ok().and_then(|mut results| results.pop());
        (store.fuse().left().unwrap(), result)
    }

    pub(crate) fn prepare(&self) -> Prepared {
        self.prepare_until(u64::MAX).1.unwrap().unwrap()
    }

    /// All files of the live mailbox.
    pub(crate) fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let mut tree = BTreeMap::new();
        collect(&self.at("live"), &self.at("live"), &mut tree);
        tree
    }

    /// Whether bytes are anywhere below the work directory.
    pub(crate) fn keeps(&self, bytes: &[u8]) -> bool {
        let mut tree = BTreeMap::new();
        collect(&self.at("work"), &self.at("work"), &mut tree);
        tree.values().any(|kept| kept == bytes)
    }

    /// Fills a part of a file with zeros.
    pub(crate) fn zero(&self, rel: &str, from: usize, to: usize) {
        let mut bytes = fs::read(self.mail(rel)).unwrap();
        let to = to.min(bytes.len());
        bytes[from..to].fill(0);
        // In place: a copy within a folder is a link to the same file.
        let mut file = fs::OpenOptions::new().write(true).open(self.mail(rel)).unwrap();
        file.write_all(&bytes).unwrap();
    }

    pub(crate) fn cut(&self, rel: &str, length: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.mail(rel)).unwrap();
        file.set_len(length).unwrap();
    }
}

fn collect(root: &Path, dir: &Path, tree: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() {
            collect(root, &path, tree);
        } else {
            tree.insert(name, fs::read(&path).unwrap());
        }
    }
}

fn hand_over(tree: &Path) {
    if rustix::process::geteuid().is_root() {
        let status = Command::new("chown").args(["-R", "mail:mail"]).arg(tree).status();
        assert!(status.unwrap().success());
    }
}
