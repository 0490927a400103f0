//! A provider of four nodes after a storm, the programs that bring it back, and the people at
//! the keyboard, each with a certificate of their own.
//!
//! # Invariants
//!
//! * Only the program is used, as a shell would: the one that was built, or the one that the
//!   packages brought into a root directory of their own.
//! * Programs that were started end with the site.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tidegate_lab::{LabSpec, Provider};

/// The storage nodes.
pub(crate) const NODES: [&str; 4] = ["stor-01", "stor-02", "stor-03", "stor-04"];

const POLICY: &str = include_str!("../../deploy/config/lab-policy-small.toml");
const STATUS: &str = include_str!("../../deploy/config/status.toml");

/// Whoever has a certificate, and for what.
const PEOPLE: [(&str, &str); 5] = [
    ("anna", "--operator"),
    ("marco", "--operator"),
    ("berta", "--approver"),
    ("vera", "--viewer"),
    ("dora", "--desk"),
];

/// So many mailboxes have something else in their place, which only a person can judge.
pub(crate) const ASIDE: usize = 3;

/// What the storm is let loose on.
const SPEC: LabSpec =
    LabSpec { mailboxes: 240, nodes: 4, messages: 6, seed: 3, damage: 100_000 };

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a person was told.
pub(crate) struct Told {
    /// The exit code.
    pub(crate) code: i32,
    /// The output.
    pub(crate) out: String,
    /// Errors and help.
    pub(crate) err: String,
}

/// Everything that runs, and what people said and heard.
pub(crate) struct Site {
    dir: PathBuf,
    program: Vec<String>,
    running: BTreeMap<String, Child>,
    url: String,
    provider: Provider,
    transcript: String,
    documents: String,
}

impl Site {
    /// Builds a provider in this empty directory, and breaks it; nothing runs yet. The words
    /// start the program, and are given its own.
    pub(crate) fn new(dir: &Path, program: &[&str]) -> Self {
        let provider =
            tidegate_lab::build(&dir.join("provider"), &SPEC, &mut |_| ()).unwrap();
        let mut site = Self {
            dir: dir.to_owned(),
            program: program.iter().map(|&word| word.to_owned()).collect(),
            running: BTreeMap::new(),
            url: String::new(),
            provider,
            transcript: String::new(),
            documents: String::new(),
        };
        // A provider this small loses a large share of its mailboxes to the storm, and the
        // night is not about that.
        let policy =
            format!("{POLICY}\n[gate.preparation]\np_ok = \"40 %\"\np_bad = \"80 %\"\n");
        site.write("policy.toml", &policy);
        site.write("status.toml", STATUS);
        let inventory = fs::read(&site.provider.inventory_csv).unwrap();
        fs::write(site.path("users.csv"), inventory).unwrap();
        site.put_files_in_place_of_mailboxes();
        site.make_certificates();
        site
    }

    fn put_files_in_place_of_mailboxes(&self) {
        let node = self.provider.nodes.last().unwrap();
        let inventory = self.read("users.csv");
        let rows = inventory.lines().map(|row| row.split(',').collect::<Vec<_>>());
        let here = rows.filter(|row| row[1] == node.name).take(ASIDE);
        for mailbox in here.map(|row| node.live.join(row[3])) {
            // The storm may have taken it already.
            let _gone = fs::remove_dir_all(&mailbox);
            fs::write(&mailbox, "not a mailbox").unwrap();
        }
    }

    /// A person puts right what is wrong with one of them. Its address, and that of a mailbox
    /// of which nothing ever was.
    pub(crate) fn mend_one(&self) -> (String, String) {
        let node = self.provider.nodes.last().unwrap();
        let inventory = self.read("users.csv");
        let rows =
            inventory.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            rows.partition(|row| row[1] == node.name);
        fs::remove_file(node.live.join(here[0][3])).unwrap();
        (here[0][0].to_owned(), elsewhere[0][0].to_owned())
    }

    /// Somebody asks until this is answered.
    pub(crate) fn until_told(&mut self, who: &str, words: &str, told: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.types("05:11", who, words, 0).out.contains(told) {
            assert!(Instant::now() < deadline, "no `{told}`:\n{}", self.transcript);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn make_certificates(&mut self) {
        let people = PEOPLE.iter().flat_map(|(who, role)| [*role, *who]);
        let nodes = NODES.iter().flat_map(|node| ["--node", *node]);
        let words: Vec<&str> =
            ["init", "pki"].into_iter().chain(nodes).chain(people).collect();
        let made = self.run("nobody", &words);
        assert_eq!(made.code, 0, "{}", made.err);
    }

    /// Where a file of the site is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file of the site.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What a file of the site says.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes the coordinator's configuration.
    pub(crate) fn configure_coordinator(&self) {
        let config = format!(
            "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n[audit]\nanchors = \"anchors\"\n\
             key = \"pki/audit.key\"\n{}",
            tls("coordinator")
        );
        self.write("coordinator.toml", &config);
    }

    /// Writes the workers' configurations, once the coordinator says where it listens.
    pub(crate) fn configure_workers(&mut self) {
        self.url = format!("https://{}", self.read("data/address").trim());
        for node in &self.provider.nodes {
            let name = &node.name;
            let below =
                |path: &Path| path.strip_prefix(&self.dir).unwrap().display().to_string();
            let config = format!(
                "node = \"{name}\"\ncoordinator = \"{}\"\nstate_dir = \"state/{name}\"\n\
                 live = \"{}\"\nsnapshot = \"{}\"\nwork = \"{}\"\nformat = \"maildir\"\n\
                 admission_listen = \"127.0.0.1:0\"\n{}",
                self.url,
                below(&node.live),
                below(&node.snapshot),
                below(&node.work),
                tls(&format!("worker-{name}"))
            );
            self.write(&format!("{name}.toml"), &config);
        }
    }

    /// Starts the coordinator or a node's worker.
    pub(crate) fn start(&mut self, name: &str) {
        let verb = if name == "coordinator" { name } else { "worker" };
        let log = self.path(&format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let config = format!("{name}.toml");
        let mut command = self.command(&[verb, "--config", &config, "--stop-with-stdin"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.running.insert(name.to_owned(), child.spawn().unwrap());
        if verb == name {
            self.until(name, "coordinator serving");
        }
    }

    /// Ends one by `kill -9`.
    pub(crate) fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        writeln!(self.transcript, "# kill -9 {name}\n").unwrap();
    }

    /// Stops one in order.
    pub(crate) fn stop(&mut self, name: &str) {
        let mut child = self.running.remove(name).unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "{}", self.read(&format!("{name}.log")));
    }

    fn until(&self, name: &str, said: &str) {
        let deadline = Instant::now() + PATIENCE;
        let log = || self.read(&format!("{name}.log"));
        while !log().contains(said) {
            assert!(Instant::now() < deadline, "no `{said}`:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Somebody types this at this time, and must see that exit code.
    pub(crate) fn types(&mut self, at: &str, who: &str, words: &str, code: i32) -> Told {
        let words = split(words);
        self.types_words(at, who, &words, code)
    }

    /// The same, with the words apart.
    pub(crate) fn types_words(
        &mut self,
        at: &str,
        who: &str,
        words: &[String],
        code: i32,
    ) -> Told {
        let told = self.run(who, &words.iter().map(String::as_str).collect::<Vec<_>>());
        let shown = words.join(" ");
        writeln!(
            self.transcript,
            "[{at} {who}] $ tidegate {shown}\n{}{}-> {}\n",
            told.out, told.err, told.code
        )
        .unwrap();
        assert_eq!(told.code, code, "{}\n{}", self.transcript, self.logs());
        self.keep_documents(words, &told.out);
        told
    }

    /// Keeps what a program was told.
    fn keep_documents(&mut self, words: &[String], out: &str) {
        let asked = |form: &str| words.iter().any(|word| word == form);
        if asked("jsonl") {
            self.documents.push_str(out);
        } else if asked("json") {
            // A document may go over several lines; in none of its texts is a line broken.
            self.documents.push_str(&out.replace('\n', ""));
            self.documents.push('\n');
        }
    }

    /// Keeps a document that stands in a file.
    pub(crate) fn keep_document(&mut self, name: &str) {
        let document = self.read(name).replace('\n', "");
        self.documents.push_str(&document);
        self.documents.push('\n');
    }

    /// All documents that programs were told, one a line.
    pub(crate) fn documents(&self) -> String {
        self.documents.clone()
    }

    /// The second person types what the refusal says.
    pub(crate) fn approve(
        &mut self,
        at: &str,
        who: &str,
        refused: &Told,
        code: i32,
    ) -> Told {
        let command = refused.err.split('`').nth(1).expect("it names a command");
        let words = split(&command.replace("'…'", "fine"));
        self.types_words(at, who, &words[1..], code)
    }

    fn run(&self, who: &str, words: &[&str]) -> Told {
        let mut command = self.command(words);
        if !self.url.is_empty() {
            command
                .env("TIDEGATE_COORDINATOR", &self.url)
                .env("TIDEGATE_CERTIFICATE", format!("pki/{who}.pem"))
                .env("TIDEGATE_KEY", format!("pki/{who}.key"))
                .env("TIDEGATE_CA", "pki/ca.pem");
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Told { code: status.code().unwrap_or(-1), out: text(&stdout), err: text(&stderr) }
    }

    fn command(&self, words: &[&str]) -> Command {
        let (first, more) = self.program.split_first().unwrap();
        let mut command = Command::new(first);
        command.args(more).current_dir(&self.dir);
        command.args(words).stdin(Stdio::null()).env_remove("TIDEGATE_LOG");
        command
    }

    /// All that was typed and told.
    pub(crate) fn transcript(&self) -> &str {
        &self.transcript
    }

    fn logs(&self) -> String {
        let mut logs = String::new();
        for name in ["coordinator"].iter().chain(&NODES) {
            let log = fs::read_to_string(self.path(&format!("{name}.log")));
            let log = log.unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            writeln!(logs, "--- {name}\n{}", last.join("\n")).unwrap();
        }
        logs
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // Either may have happened already.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Words of a command line, where `'…'` keeps blanks together.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn tls(name: &str) -> String {
    format!(
        "[tls]\ncertificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\nca = \"pki/ca.pem\"\n"
    )
}
