//! Proof: real Dovecot reads what is written here, and what it writes is read here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folders::ListedFolder;
use super::*;
use crate::{DoubtKind, Finding, Mailbox, PrepareTask, Prepared, Store, StoreConfig};

/// What `doveadm` is asked of every message.
const FIELDS: &str = "uid guid flags size.physical date.saved hdr.subject";

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
        let reading = Self::read(&self.folder(folder), "dovecot.index");
        let Reading::Whole(index) = reading else { panic!("{folder} is not whole") };
        index
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
        // Every message is newer than all that a client knows, so that it asks for all flags.
        for told in lab.run(&["-f", "flow", "fetch", "modseq", "mailbox", folder]).lines()
        {
            let told: u64 = told.trim().trim_start_matches("modseq=").parse().unwrap();
            assert!(told > modseq, "{folder}: {told} <= {modseq}");
        }
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
fn a_maildir_without_index_keeps_its_uids_and_only_counts_on() {
    let lab = Lab::filled("maildir");
    let (before, modseq) = (lab.view(), lab.highest_modseq("INBOX"));
    Lab::forget(&lab.folder("INBOX"));

    let bytes = write_modseq(4711, 1_795_313_361, modseq + 1000);
    Lab::write(&lab.folder("INBOX"), "dovecot.index.log", &bytes);

    assert_eq!(lab.view(), before);
    assert!(lab.highest_modseq("INBOX") > modseq + 1000);
    lab.run(&["flags", "remove", "\\Seen", "mailbox", "INBOX", "ALL"]);
    lab.save("INBOX", 6);
    assert_eq!(lab.index("INBOX").next_uid, 7);
}

#[test]
fn a_lost_message_has_a_subject_a_date_and_a_size_in_the_cache() {
    for fields in ["hdr.subject date.received date.sent size.physical", "imap.envelope"] {
        let lab = Lab::filled("sdbox");
        // Twice: a field is remembered from its second use on.
        lab.run(&["fetch", fields, "mailbox", "INBOX", "ALL"]);
        lab.run(&["fetch", fields, "mailbox", "INBOX", "ALL"]);
        let index = lab.index("INBOX");

        let bytes = fs::read(lab.folder("INBOX").join("dovecot.index.cache")).unwrap();
        let cache = cache::Cache::parse(&bytes).unwrap();
        let remembered =
            |record: Record| cache.fields(record.cache_offset.unwrap()).unwrap();

        assert!(cache.belongs_to(&index));
        let newer = Index { index_id: index.index_id + 1, ..index.clone() };
        assert!(!cache.belongs_to(&newer));
        let told: Vec<_> = index.records().map(remembered).collect();
        let subjects: Vec<_> =
            told.iter().map(|it| it.subject.clone().unwrap()).collect();
        let expected = ["number 1", "number 2", "number 3", "number 4"];
        assert_eq!(subjects, expected.map(|subject| subject.as_bytes().to_vec()));
        let sizes: Vec<_> = told.iter().map(|it| it.size.unwrap()).collect();
        assert_eq!(sizes, [81, 86, 91, 96]);
        let virtual_sizes: Vec<_> =
            told.iter().map(|it| it.virtual_size.unwrap()).collect();
        assert_eq!(virtual_sizes, [86, 92, 98, 104]);
        if fields.contains("date") {
            assert_eq!(told[0].sent, Some(1_704_096_060));
            assert!(told[0].received.unwrap() > 1_704_096_060);
        }
    }
}

/// Has a mailbox prepared without a snapshot.
fn prepare(lab: &Lab) -> Prepared {
    let work = lab.dir.path().join("work");
    fs::create_dir(&work).unwrap();
    let store = Store::open(StoreConfig {
        live: lab.home(),
        snapshot: None,
        work,
        file_size_max: 10_000_000,
    })
    .unwrap();
    store.claim(1, 3, "worker").unwrap();
    let mailbox = Mailbox {
        key: 7,
        address: "user".to_owned(),
        path: b"mail".to_vec(),
        served: false,
    };
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &[mailbox] };
    store.prepare(&task).unwrap().pop().unwrap().unwrap()
}

#[test]
fn a_lost_message_is_reported_with_the_subject_that_it_had() {
    for (format, dir) in [("maildir", "new"), ("sdbox", "mailboxes/INBOX/dbox-Mails")] {
        let lab = Lab::filled(format);
        for _ in 0..2 {
            lab.run(&["fetch", "hdr.subject date.received", "mailbox", "INBOX", "ALL"]);
        }
        let is_it = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(8).any(|part| part == b"number 4")
        };
        let files =
            fs::read_dir(lab.mail().join(dir)).unwrap().map(|it| it.unwrap().path());
        let mail = |path: &PathBuf| !path.to_str().unwrap().contains("dovecot.");
        let lost = files.filter(mail).find(is_it).unwrap();
        fs::remove_file(&lost).unwrap();

        let prepared = prepare(&lab);

        let told = prepared.set_aside.iter().filter(|it| it.uid == Some(4));
        let told: Vec<_> = told.map(|it| it.subject.as_deref()).collect();
        assert_eq!(told, [Some("number 4")], "{format}");
    }
}

#[test]
fn a_folder_that_is_lost_without_a_trace_is_named_or_comes_back() {
    for format in ["maildir", "sdbox", "mdbox"] {
        let lab = Lab::filled(format);
        lab.run(&["mailbox", "rename", "Empty", "Renamed"]);
        lab.run(&["mailbox", "create", "Deleted"]);
        lab.save("Deleted", 3);
        lab.run(&["mailbox", "status", "messages", "*"]);
        lab.run(&["mailbox", "delete", "Deleted"]);
        let dir = lab.folder("Work/2024");
        fs::remove_dir_all(&dir).unwrap();

        let prepared = prepare(&lab);

        let folders = prepared.set_aside.iter().filter(|it| it.name.is_empty());
        let folders: Vec<_> = folders.map(|it| it.folder.replace('.', "/")).collect();
        if format == "mdbox" {
            // Its mail is in the storage and tells its folder: it comes back.
            let back = DoubtKind::FolderReturned;
            let is_it =
                |it: &Finding| it.folder == "Work/2024" && it.doubt() == Some(back);
            assert!(prepared.doubts.iter().any(is_it), "{:?}", prepared.doubts);
            assert_eq!(folders, [""; 0], "{format}");
        } else {
            assert_eq!(folders, ["Work/2024"], "{format}");
        }
    }
}

#[test]
fn a_folder_that_was_there_is_named_with_its_guid_and_what_it_held() {
    for format in ["maildir", "sdbox", "mdbox"] {
        let lab = Lab::filled(format);
        lab.run(&["mailbox", "create", "Entwürfe", "A/B/C"]);
        lab.run(&["mailbox", "delete", "A/B/C"]);
        lab.view();

        let list = Lab::read(&lab.mail(), "dovecot.list.index").last_known().unwrap();
        let folders = list.folders().unwrap();

        let mut paths: Vec<_> = folders.iter().map(ListedFolder::dbox).collect();
        paths.sort();
        let expected: [&[u8]; 5] =
            [b"Empty", b"Entw&APw-rfe", b"INBOX", b"Work", b"Work/2024"];
        assert_eq!(paths, expected);
        let work = folders.iter().find(|it| it.dbox() == b"Work").unwrap();
        assert_eq!(work.maildir(), b"Work");
        assert_eq!((work.messages, work.next_uid), (Some(3), Some(4)));
        if format != "maildir" {
            assert_eq!(work.guid, lab.index("Work").mailbox_guid());
        }
        assert_eq!(work.uid_validity, Some(lab.index("Work").uid_validity));
    }
}

/// A log cut in the middle, or with zeros in it, says what Dovecot knew when it had written so far.
#[test]
fn the_sound_beginning_of_a_broken_log_tells_what_was_true_then() {
    let lab = Lab::new("sdbox");
    lab.save("INBOX", 1);
    lab.save("INBOX", 2);
    let path = lab.folder("INBOX").join("dovecot.index.log");
    let then = fs::read(&path).unwrap();
    let index = lab.index("INBOX");
    lab.save("INBOX", 3);
    lab.run(&["flags", "add", "\\Seen", "mailbox", "INBOX", "ALL"]);
    let now = fs::read(&path).unwrap();

    let mut zeroed = now.clone();
    zeroed[then.len()..].fill(0);
    for log in [&now[..then.len() + 30], &zeroed] {
        let Reading::Broken(broken) = read(None, Some(log), None) else {
            panic!("not broken");
        };
        assert_eq!((broken.file, broken.offset), (IndexFile::Log, then.len()));
        assert_eq!(broken.before.as_ref(), Some(&index));
    }
    // Wherever it is cut, UIDs and flags are those of some moment.
    for end in (0..now.len()).step_by(3) {
        let known = read(None, Some(&now[..end]), None).last_known();
        assert!(known.is_none_or(|index| index.len() <= 3 && index.next_uid <= 4));
    }
}

#[test]
fn an_index_counts_though_the_log_that_goes_on_from_it_is_gone() {
    let lab = Lab::filled("mdbox");
    lab.churn();
    let dir = lab.folder("INBOX");
    let file = |name: &str| fs::read(dir.join(name)).unwrap();
    let (index, log) = (file("dovecot.index"), file("dovecot.index.log"));
    let now = lab.index("INBOX");

    let Reading::Stale(alone) = read(Some(&index), None, None) else {
        panic!("not stale");
    };
    assert_eq!(alone.next_uid, now.next_uid);
    assert_eq!(alone.mailbox_guid(), now.mailbox_guid());
    assert_eq!(alone.len(), now.len());
    // Without the index, the log that follows another one says nothing by itself.
    assert_eq!(read(None, Some(&log), None), Reading::Silent);
    let zeros = vec![0; log.len()];
    assert!(read(Some(&index), Some(&zeros), None).last_known().is_some());
}

#[test]
fn modseqs_are_counted_as_dovecot_counts_them() {
    for format in ["sdbox", "mdbox", "maildir"] {
        for churns in [false, true] {
            let lab = Lab::filled(format);
            if churns {
                lab.churn();
            }
            for folder in FOLDERS {
                let told = lab.highest_modseq(folder);
                assert_eq!(lab.index(folder).highest_modseq, told, "{format} {folder}");
            }
        }
    }
}

#[test]
fn indexes_that_dovecot_has_written_and_logs_that_it_has_rotated_are_read_as_well() {
    check("sdbox", Kind::Sdbox, Lab::churn);
    check("mdbox", Kind::Mdbox, Lab::churn);
}
