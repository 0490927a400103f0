//! Proof: real Dovecot reads what is written here, and what it writes is read here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// What `doveadm` is asked of every message, and of every folder.
const FIELDS: &str = "uid guid flags size.physical date.saved hdr.subject";
const FIELDS_WITH_MODSEQ: &str = "uid guid flags size.physical date.saved modseq";

/// A mailbox of its own, which Dovecot works on.
struct Lab {
    dir: tempfile::TempDir,
    format: &'static str,
}

impl Lab {
    fn new(format: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lab = Self { dir, format };
        let base = lab.dir.path().join("base");
        fs::create_dir_all(lab.dir.path().join("home")).unwrap();
        fs::create_dir(&base).unwrap();
        let config = format!(
            "base_dir = {}\nlog_path = /dev/stderr\nssl = no\nfirst_valid_uid = 0\n\
             mail_location = {format}:~/mail\nmail_fsync = never\n\
             namespace inbox {{\n inbox = yes\n separator = /\n}}\n",
            base.display()
        );
        fs::write(lab.dir.path().join("conf"), config).unwrap();
        fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        hand_over(lab.dir.path());
        lab
    }

    /// A mailbox with mail, flags, keywords, a deleted message and folders below one another.
    fn filled(format: &'static str) -> Self {
        let lab = Self::new(format);
        for number in 1..=5 {
            lab.save("INBOX", number);
        }
        lab.run(&["mailbox", "create", "Work", "Work/2024", "Empty"]);
        lab.save("Work/2024", 9);
        lab.run(&["flags", "add", "\\Seen \\Flagged", "mailbox", "INBOX", "uid", "2"]);
        let words = "\\Answered $Work $Junk";
        lab.run(&["flags", "add", words, "mailbox", "INBOX", "uid", "3:4"]);
        lab.run(&["flags", "remove", "$Junk", "mailbox", "INBOX", "uid", "4"]);
        lab.run(&["copy", "Work", "mailbox", "INBOX", "uid", "3:5"]);
        lab.run(&["expunge", "mailbox", "INBOX", "uid", "5"]);
        lab.run(&["flags", "add", "\\Draft", "mailbox", "Work", "uid", "1"]);
        lab
    }

    fn save(&self, folder: &str, number: u32) {
        let mail = self.dir.path().join("home/incoming");
        let body = "line\n".repeat(usize::try_from(number).unwrap());
        let text = format!(
            "Date: Mon, 1 Jan 2024 10:0{number}:00 +0200\nFrom: a@example.org\n\
             Subject: number {number}\n\n{body}"
        );
        fs::write(&mail, text).unwrap();
        fs::set_permissions(&mail, fs::Permissions::from_mode(0o644)).unwrap();
        self.run(&["save", "-m", folder, mail.to_str().unwrap()]);
        fs::remove_file(&mail).unwrap();
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn mail(&self) -> PathBuf {
        self.home().join("mail")
    }

    /// Where the index of a folder is.
    fn folder(&self, name: &str) -> PathBuf {
        match (self.format, name) {
            ("maildir", "INBOX") => self.mail(),
            ("maildir", _) => self.mail().join(format!(".{}", name.replace('/', "."))),
            _ => self.mail().join("mailboxes").join(name).join("dbox-Mails"),
        }
    }

    /// Runs `doveadm`, which must not complain, and returns what it says.
    fn run(&self, args: &[&str]) -> String {
        let (said, complaints) = self.try_run(args);
        assert_eq!(complaints, "", "doveadm {args:?}");
        said
    }

    fn try_run(&self, args: &[&str]) -> (String, String) {
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid", "mail", "--regid", "mail", "--clear-groups"]);
        }
        command.args(["--pdeathsig", "TERM", "doveadm", "-c"]);
        command.arg(self.dir.path().join("conf")).args(args);
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("USER", "user").env("HOME", self.home()).env("TZ", "UTC");
        let output = command.output().expect(
            "Dovecot judges these tests: apt-get install dovecot-core dovecot-imapd",
        );
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    fn fetch(&self, fields: &str) -> String {
        self.run(&["-f", "tab", "fetch", fields, "ALL"])
    }

    /// What the mailbox looks like, without the modseqs, which rise.
    fn view(&self) -> String {
        let status = "messages recent uidnext uidvalidity unseen vsize guid firstsaved";
        let mut view = self.fetch(FIELDS);
        let folders = self.run(&["mailbox", "status", status, "*"]);
        let mut folders: Vec<&str> = folders.lines().collect();
        folders.sort_unstable();
        view.push_str(&folders.join("\n"));
        view
    }

    fn highest_modseq(&self, folder: &str) -> u64 {
        let said =
            self.run(&["-f", "flow", "mailbox", "status", "highestmodseq", folder]);
        said.trim().rsplit('=').next().unwrap().parse().unwrap()
    }

    fn read(dir: &Path, prefix: &str) -> Reading {
        let file = |suffix: &str| fs::read(dir.join(format!("{prefix}{suffix}"))).ok();
        let (index, log, older) = (file(""), file(".log"), file(".log.2"));
        read(index.as_deref(), log.as_deref(), older.as_deref())
    }

    fn index(&self, folder: &str) -> Index {
        match Self::read(&self.folder(folder), "dovecot.index") {
            Reading::Whole(index) => index,
            other => panic!("{folder}: {other:?}"),
        }
    }

    /// Removes all index files of a directory.
    fn forget(dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("dovecot.") && name.contains("index") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn write(dir: &Path, name: &str, bytes: &[u8]) {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        hand_over(&path);
    }

    /// Lets Dovecot write the index itself, and rotate its log, again and again.
    fn churn(&self) {
        let settings = [
            "mail_index_rewrite_min_log_bytes=64",
            "mail_index_rewrite_max_log_bytes=128",
            "mail_index_log_rotate_min_size=256",
            "mail_index_log_rotate_max_size=1024",
            "mail_index_log_rotate_min_age=0",
        ];
        for turn in 0..24 {
            let mut args: Vec<&str> = settings.iter().flat_map(|it| ["-o", it]).collect();
            let change = if turn % 2 == 0 { "add" } else { "remove" };
            args.extend(["flags", change, "\\Seen $Churn", "mailbox", "INBOX", "1:2"]);
            self.run(&args);
        }
    }
}

/// Gives a tree to the user that Dovecot runs as; only what is new, for it changes times.
fn hand_over(tree: &Path) {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("chown");
        let status = command.args(["-R", "mail:mail"]).arg(tree).status().unwrap();
        assert!(status.success());
    }
}

/// The state that an index tells, to be written again.
fn state(index: &Index) -> FolderState {
    FolderState {
        index_id: index.index_id + 1,
        created: 1_795_313_361,
        uid_validity: index.uid_validity,
        next_uid: index.next_uid,
        first_recent_uid: index.first_recent_uid,
        highest_modseq: index.highest_modseq,
        mailbox_guid: index.mailbox_guid().unwrap_or_default(),
        map_uid_validity: index.map_uid_validity().unwrap_or_default(),
        dbox_flags: index.dbox_flags().unwrap_or(POP3_UNKNOWN),
        keywords: index.keyword_names().to_vec(),
        records: index.records().collect(),
    }
}

const FOLDERS: [&str; 4] = ["INBOX", "Work", "Work/2024", "Empty"];

/// Writes all indexes anew, and looks at the mailbox before and after.
fn check(format: &'static str, kind: Kind, prepare: impl Fn(&Lab)) {
    let lab = Lab::filled(format);
    prepare(&lab);
    let before = lab.view();
    let modseqs = FOLDERS.map(|folder| lab.highest_modseq(folder));

    let indexes = FOLDERS.map(|folder| lab.index(folder));
    let storage = lab.mail().join("storage");
    let map = (kind == Kind::Mdbox).then(|| Lab::read(&storage, "dovecot.map.index"));
    Lab::forget(&lab.mail());
    for (folder, index) in FOLDERS.into_iter().zip(&indexes) {
        Lab::forget(&lab.folder(folder));
        let bytes = write_folder(&state(index), kind);
        Lab::write(&lab.folder(folder), "dovecot.index.log", &bytes);
    }
    if let Some(map) = map {
        let map = map.last_known().unwrap();
        Lab::forget(&storage);
        let map = MapState {
            index_id: map.index_id + 1,
            created: 1_795_313_361,
            uid_validity: map.uid_validity,
            next_uid: map.next_uid,
            highest_file_id: map.highest_file_id().unwrap(),
            entries: map.map_entries().collect(),
        };
        Lab::write(&storage, "dovecot.map.index.log", &write_map(&map));
    }

    assert_eq!(lab.view(), before);
    for (folder, modseq) in FOLDERS.into_iter().zip(modseqs) {
        let now = lab.highest_modseq(folder);
        assert!(now >= modseq, "{folder}: {now} < {modseq}");
    }
    // It says that it rebuilds, and nothing worse.
    let (_, complaints) = lab.try_run(&["force-resync", "*"]);
    assert!(!complaints.contains("Error"), "{complaints}");
    assert_eq!(lab.view(), before);
    lab.save("INBOX", 7);
    lab.run(&["flags", "add", "\\Seen", "mailbox", "INBOX", "ALL"]);
    lab.run(&["purge"]);
    assert_eq!(lab.view().matches("number 7").count(), 1);
}

#[test]
fn a_single_dbox_with_logs_of_ours_is_the_same_to_dovecot() {
    check("sdbox", Kind::Sdbox, |_| ());
}

#[test]
fn a_multi_dbox_with_logs_of_ours_is_the_same_to_dovecot() {
    check("mdbox", Kind::Mdbox, |_| ());
}

#[test]
fn a_maildir_with_logs_of_ours_is_the_same_to_dovecot() {
    check("maildir", Kind::Maildir, |_| ());
}

#[test]
fn indexes_that_dovecot_has_written_and_logs_that_it_has_rotated_are_read_as_well() {
    check("sdbox", Kind::Sdbox, Lab::churn);
    check("mdbox", Kind::Mdbox, Lab::churn);
}
