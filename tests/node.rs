//! What a storage node can be asked without a coordinator: findings and manifests.
//!
//! # Invariants
//!
//! * Nothing here changes mail; bad input ends with its documented code and names file and line.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::iter;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect};
use tempfile::TempDir;
use tidegate_core::fleet::MailboxNumber;
use tidegate_mail::{Mailbox, PrepareTask, Store, StoreConfig};
use tidegate_wire::worker_record::{InPieces, encode_description};

const CONFIG: &str = "node = \"stor-01\"\ncoordinator = \"http://127.0.0.1:7443\"\n\
    state_dir = \"state\"\nlive = \"live\"\nwork = \"work\"\n";

const INVENTORY: &str = "address,node,tier,path\n\
    anna@example.org,stor-01,paid,example.org/anna/Maildir\n\
    bob@example.org,stor-01,free,example.org/bob/Maildir\n\
    carla@example.org,stor-02,free,example.org/carla/Maildir\n";

#[test]
fn everything_found_is_exported_for_programs_with_all_that_is_known() {
    let node = Node::new();
    node.damage("anna");
    node.prepare();

    check(
        &node.tidegate(&["findings", "export", "--config", "worker.toml"]),
        0,
        &expect![[r#"
            {"address":"anna@example.org","code":"truncated","folder":"","grade":"poor","kept_at":"quarantine/g3/KEY/1600000002.M1P1.host,S=65:2,S","kind":"set-aside","name":"1600000002.M1P1.host,S=65","node":"stor-01","numbers":[65,56],"path":"example.org/anna/Maildir","reason":"truncated: 56 of 65 bytes are there","received_time":"2020-09-13T12:26:42Z","rungs":["size"],"schema":"tidegate.finding/v1","size_bytes":56,"source":"none-no-copy","subject":null,"uid":2}
            1 findings in 1 mailboxes: 1 poor, 0 to investigate, 0 good
        "#]],
    );
}

#[test]
fn a_spreadsheet_gets_a_header_and_only_the_mailbox_that_was_asked_for() {
    let node = Node::new();
    node.damage("anna");
    node.damage("bob");
    node.prepare();
    let export = ["findings", "export", "--config", "worker.toml", "--format", "csv"];

    check(
        &node.tidegate(&[&export[..], &["--mailbox", "Bob@example.org"]].concat()),
        0,
        &expect![[r#"
            address,node,path,grade,kind,folder,uid,name,received_time,size_bytes,code,first_number,second_number,reason,source,rungs,subject,kept_at
            bob@example.org,stor-01,example.org/bob/Maildir,poor,set-aside,,2,"1600000002.M1P1.host,S=65",2020-09-13T12:26:42Z,56,truncated,65,56,truncated: 56 of 65 bytes are there,none-no-copy,size,,"quarantine/g3/KEY/1600000002.M1P1.host,S=65:2,S"
            1 findings in 1 mailboxes: 1 poor, 0 to investigate, 0 good
        "#]],
    );
}

#[test]
fn a_mailbox_that_the_node_does_not_have_is_an_error_and_a_good_one_is_none() {
    let node = Node::new();
    node.prepare();
    let export = ["findings", "export", "--config", "worker.toml", "--mailbox"];

    let nobody = node.tidegate(&[&export[..], &["nobody@example.org"]].concat());
    node.describe("anna@example.org");
    let good = node.tidegate(&[&export[..], &["Anna@example.org"]].concat());

    check(
        &nobody,
        65,
        &expect![[r"
        error: no job and no finding of this node names the mailbox `nobody@example.org`
        help: `tidegate mailbox show ADDRESS` says which node has it
    "]],
    );
    check(
        &good,
        0,
        &expect![[r"
            0 findings in 0 mailboxes: 0 poor, 0 to investigate, 0 good
        "]],
    );
}

#[test]
fn where_nothing_was_found_nothing_is_exported_and_a_wrong_directory_is_named() {
    let node = Node::new();
    let export = ["findings", "export", "--config", "worker.toml", "--grade", "poor"];

    let missing = node.tidegate(&export);
    node.prepare();
    let nothing = node.tidegate(&export);

    check(
        &missing,
        78,
        &expect![[r"
            error: read work directory `work`: No such file or directory (os error 2)
            help: it is `work` in the configuration, as the worker uses it
        "]],
    );
    check(
        &nothing,
        0,
        &expect![[r"
            0 findings in 0 mailboxes: 0 poor, 0 to investigate, 0 good
        "]],
    );
}

#[test]
fn a_healthy_store_is_recorded_and_damage_is_told_afterwards() {
    let node = Node::new();
    let make = ["manifest", "make", "--config", "worker.toml"];

    let made = node.tidegate(&make);
    let verified = node.verify();
    node.damage("bob");
    let damaged = node.verify();

    check(
        &made,
        0,
        &expect![[r"
            recorded 6 messages, 0 MiB, in 2 mailboxes; 0 messages are not good; 0 mailboxes could not be recorded
        "]],
    );
    check(
        &verified,
        0,
        &expect![[r"
            2 mailboxes: 6 messages as recorded, 0 newer, 0 gone, 0 bad; 0 mailboxes were never recorded, 0 could not be read
        "]],
    );
    check(
        &damaged,
        1,
        &expect![[r"
            example.org/bob/Maildir: 2 as recorded, 0 newer, 0 gone, 1 bad
              INBOX UID 2 1600000002.M1P1.host,S=65: truncated: 56 of 65 bytes are there (truncated)
            2 mailboxes: 5 messages as recorded, 0 newer, 0 gone, 1 bad; 0 mailboxes were never recorded, 0 could not be read
        "]],
    );
}

#[test]
fn only_the_mailboxes_of_the_node_are_recorded_from_an_inventory() {
    let node = Node::new();
    let make =
        ["manifest", "make", "--config", "worker.toml", "--inventory", "users.csv"];
    node.write("users.csv", INVENTORY);

    let made = node.tidegate(&make);
    node.write("users.csv", &INVENTORY.replace("stor-01", "stor-03"));
    let foreign = node.tidegate(&make);

    check(
        &made,
        0,
        &expect![[r"
            recorded 6 messages, 0 MiB, in 2 mailboxes; 0 messages are not good; 0 mailboxes could not be recorded
        "]],
    );
    check(
        &foreign,
        65,
        &expect![[r"
            error: `users.csv` has no mailbox of node `stor-01`
            help: it has the nodes stor-02, stor-03; the node's name is in the configuration
        "]],
    );
}

#[test]
fn a_list_of_sha256sum_is_imported_and_held_against_the_store() {
    let node = Node::new();
    let made = Command::new("sh")
        .args(["-c", "find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2"])
        .current_dir(node.dir.path().join("live"))
        .output()
        .unwrap();
    fs::write(node.dir.path().join("sums"), made.stdout).unwrap();
    let import =
        ["manifest", "import", "--config", "worker.toml", "--digest", "sha256", "sums"];

    let imported = node.tidegate(&import);
    let verified = node.verify();
    let again = node.tidegate(&import);
    node.alter("anna");
    let altered = node.verify();

    check(
        &imported,
        0,
        &expect![[r"
            imported 6 messages of 2 mailboxes; 0 mailboxes were recorded here and stay as they are; 2 files are no messages of a known mailbox
        "]],
    );
    check(
        &verified,
        0,
        &expect![[r"
            2 mailboxes: 6 messages as recorded, 0 newer, 0 gone, 0 bad; 0 mailboxes were never recorded, 0 could not be read
        "]],
    );
    check(
        &again,
        0,
        &expect![[r"
            imported 0 messages of 0 mailboxes; 2 mailboxes were recorded here and stay as they are; 2 files are no messages of a known mailbox
        "]],
    );
    check(
        &altered,
        1,
        &expect![[r"
            example.org/anna/Maildir: 2 as recorded, 0 newer, 0 gone, 1 bad
              INBOX UID 3 1600000003.M1P1.host,S=65: not the bytes recorded when it was good (altered)
            2 mailboxes: 5 messages as recorded, 0 newer, 0 gone, 1 bad; 0 mailboxes were never recorded, 0 could not be read
        "]],
    );
}

#[test]
fn a_bad_list_is_refused_as_a_whole_with_its_lines() {
    let node = Node::new();
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let import =
        ["manifest", "import", "--config", "worker.toml", "--digest", "sha256", "sums"];
    let (anna, bob) = ("example.org/anna/Maildir/cur", "example.org/bob/Maildir/cur");

    node.write(
        "sums",
        &format!(
            "{sum}  {anna}/1.a\n{sum}  {bob}/1.a\nnonsense\n{sum}  {anna}/2.a\n{sum}  /etc/motd\n"
        ),
    );
    let bad = node.tidegate(&import);
    node.write("sums", &format!("{sum}  live/{anna}/1.a\n"));
    let elsewhere = node.tidegate(&import);

    check(
        &bad,
        65,
        &expect![[r"
            cannot find a digest and a path in line 3 of the list
            line 4: the files of `example.org/anna/Maildir` do not stand together
            cannot follow the path in line 5 of the list, which leads outside
            error: `sums`: 3 bad lines; nothing is imported
            help: a line is a digest, two blanks and a path below the mail root; `LC_ALL=C sort -k 2` puts the files of a mailbox together
        "]],
    );
    check(
        &elsewhere,
        65,
        &expect![[r"
            error: `sums` has no message of a mailbox of this node
            help: paths begin below the mail root, and only Maildirs count: make the list with `cd LIVE && find . -type f -exec sha256sum {} +`; for sdbox and mdbox use `tidegate manifest make`
        "]],
    );
    assert_eq!(fs::read_dir(node.dir.path().join("work/manifests")).unwrap().count(), 0);
}

#[test]
fn while_a_worker_has_the_store_nothing_is_recorded_and_findings_can_be_read() {
    let node = Node::new();
    let store = node.open();

    let make = node.tidegate(&["manifest", "make", "--config", "worker.toml"]);
    let export = node.tidegate(&["findings", "export", "--config", "worker.toml"]);

    drop(store);
    let process = std::process::id();
    assert_eq!(make.status.code(), Some(75));
    let said = String::from_utf8(make.stderr).unwrap();
    let expected =
        format!("error: the store is held by process {process}\nhelp: stop the worker");
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(export.status.code(), Some(0));
}

/// A node with two mailboxes of three messages.
struct Node {
    dir: TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { dir: TempDir::new().unwrap() };
        for person in ["anna", "bob"] {
            let maildir = node.maildir(person);
            for sub in ["cur", "new", "tmp"] {
                fs::create_dir_all(maildir.join(sub)).unwrap();
            }
            let mut list =
                "3 V1600000000 N4 G0123456789abcdef0123456789abcdef\n".to_owned();
            for number in 1..=3 {
                let name = format!("160000000{number}.M1P1.host,S=65");
                let to = format!(
                    "Delivered-To: <{person:_>4}@example.org>\nSubject: number {number}\n\nhello\n"
                );
                fs::write(maildir.join(format!("cur/{name}:2,S")), format!("{to:\n<65}"))
                    .unwrap();
                writeln!(list, "{number} :{name}").unwrap();
            }
            fs::write(maildir.join("dovecot-uidlist"), list).unwrap();
        }
        node.write("worker.toml", CONFIG);
        node
    }

    fn maildir(&self, person: &str) -> PathBuf {
        self.dir.path().join(format!("live/example.org/{person}/Maildir"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Cuts the second message.
    fn damage(&self, person: &str) {
        let path = self.maildir(person).join("cur/1600000002.M1P1.host,S=65:2,S");
        File::options().write(true).open(path).unwrap().set_len(56).unwrap();
    }

    /// Changes a letter of the third message.
    fn alter(&self, person: &str) {
        let path = self.maildir(person).join("cur/1600000003.M1P1.host,S=65:2,S");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("hello", "hallo")).unwrap();
    }

    fn open(&self) -> Store {
        let work = self.dir.path().join("work");
        fs::create_dir_all(&work).unwrap();
        Store::open(StoreConfig {
            live: self.dir.path().join("live"),
            snapshot: None,
            work,
            file_size_max: 1 << 20,
        })
        .unwrap()
    }

    /// Writes down that a job has this mailbox, as a worker does.
    fn describe(&self, address: &str) {
        let mailbox = InPieces {
            number: MailboxNumber::new(0),
            address: [address, ""],
            path: ["anna", "", ""],
            language: None,
        };
        let dir = self.dir.path().join("state/jobs");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("job-0-00"), encode_description(iter::once(mailbox), None))
            .unwrap();
    }

    /// Prepares both mailboxes, as a worker does.
    fn prepare(&self) {
        let store = self.open();
        store.claim(1, 3, "worker").unwrap();
        let mailboxes = ["anna", "bob"].map(|person| {
            let path = format!("example.org/{person}/Maildir").into_bytes();
            let address = format!("{person}@example.org");
            Mailbox { key: Mailbox::key_of(&path), address, path, served: false }
        });
        let task = PrepareTask {
            job: 1,
            generation: 3,
            holder: "worker",
            mailboxes: &mailboxes,
        };
        assert!(store.prepare(&task).unwrap().iter().all(Result::is_ok));
    }

    fn verify(&self) -> Output {
        self.tidegate(&["manifest", "verify", "--config", "worker.toml"])
    }

    fn tidegate(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// Compares the exit code, and both outputs one after the other; keys of mailboxes are long.
fn check(output: &Output, code: i32, expected: &Expect) {
    let text = [&*output.stdout, &*output.stderr].concat();
    let mut text = String::from_utf8(text).unwrap().replace('\r', "");
    for person in ["anna", "bob"] {
        let path = format!("example.org/{person}/Maildir");
        text = text.replace(&Mailbox::key_of(path.as_bytes()).to_string(), "KEY");
    }
    expected.assert_eq(&text);
    assert_eq!(output.status.code(), Some(code), "{text}");
}
