//! Account: counts every message after a fault, and audits what was recorded of it.
//!
//! # Invariants
//!
//! * Nothing that a program of ours says is believed: the lab and `checker.py` count.
//! * Journals are audited as they lie on disk, after everybody has been killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidegate_lab::{Listed, MailboxEnd, Told};
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::{
    FindingKind, Health, ListFindingsRequest, ListMailboxesRequest, Mailbox, Preparation,
};

use crate::fleet::{Fleet, Which};
use crate::tally::Faults;

const CHECKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recovery/checker.py");

/// Set-aside mailboxes are at most this share of the restored ones, one in so many.
const SET_ASIDE_RARITY: u64 = 10;

impl Fleet {
    /// Lets the checker see the provider while nothing is repaired yet.
    pub(crate) fn expect(&self) {
        let out = File::create(self.path("expected.json")).unwrap();
        let mut checker = Command::new("python3");
        checker.arg(CHECKER).arg("expect").arg(&self.provider().root).stdout(out);
        assert!(checker.status().unwrap().success());
    }

    /// Waits until the rollout has finished, counts every message and audits every journal.
    /// The fleet is dead afterwards.
    pub(crate) fn account(&mut self, faults: &Faults) {
        let told = self.tell();
        self.check(&told, faults);
    }

    /// Waits until the rollout has finished, kills the fleet, and gives what `checker.py` is
    /// told.
    pub(crate) fn tell(&mut self) -> Value {
        self.finish();
        // Whoever has just come back reports first: until then nothing is known of it.
        self.wait("every open mailbox is known to be healthy", |fleet| {
            let open = fleet.mailboxes().into_iter().filter(|it| it.level > 0);
            open.map(|it| it.health()).all(|health| health == Health::Healthy)
        });
        let mailboxes = self.mailboxes();
        let open = mailboxes.iter().filter(|it| it.level > 0);
        let open: BTreeSet<_> = open.map(|it| it.address.clone()).collect();
        // Whoever has just come back keeps its doors shut until it has been given orders.
        self.wait("admission lets in whom the coordinator knows to be open", |fleet| {
            fleet.admitted() == open
        });
        let listed = self.listed();
        self.recount(&mailboxes, &listed);
        let admitted = self.admitted();
        for which in self.all() {
            self.kill(which);
        }

        let mut told = self.told(&states(&mailboxes), &listed);
        let audit = self.audit(&mailboxes, &admitted);
        told.as_object_mut().unwrap().insert("audit".to_owned(), audit);
        told
    }

    /// Counts while the rollout is under way: mailboxes in `prepared` are whole, of all others
    /// nothing is gone.
    pub(crate) fn account_midway(&self, prepared: &BTreeSet<String>, faults: &Faults) {
        let states = prepared.iter().map(|it| (it.clone(), "restored")).collect();
        self.check(&self.told(&states, &self.listed()), faults);
    }

    /// Whether a node's journal, as it lies on disk, knows these of its mailboxes as prepared
    /// and these as open.
    pub(crate) fn journal_keeps(
        &self,
        index: usize,
        (prepared, open): (&BTreeSet<String>, &BTreeSet<String>),
        faults: &Faults,
    ) {
        let here = self.addresses_on(index);
        let mut told = self.told(&BTreeMap::new(), &[]);
        let kept = json!({
            "node": self.node_audit(index),
            "prepared": here.intersection(prepared).collect::<Vec<_>>(),
            "open": here.intersection(open).collect::<Vec<_>>(),
        });
        told.as_object_mut().unwrap().insert("kept".to_owned(), kept);
        self.check(&told, faults);
    }

    /// Addresses that the coordinator knows to be prepared.
    pub(crate) fn prepared(&self) -> BTreeSet<String> {
        let mailboxes = self.mailboxes().into_iter();
        let prepared = mailboxes.filter(|it| it.preparation() == Preparation::Prepared);
        prepared.map(|mailbox| mailbox.address).collect()
    }

    fn told(&self, states: &BTreeMap<String, &str>, listed: &[Listed]) -> Value {
        let listed: Vec<_> =
            listed.iter().map(|it| (&it.address, &it.folder, &it.name)).collect();
        json!({
            "provider": self.provider().root,
            "expected": self.path("expected.json"),
            "states": states,
            "listed": listed,
        })
    }

    /// What the journals say, exported by the program's own command.
    fn audit(&self, mailboxes: &[Mailbox], admitted: &BTreeSet<String>) -> Value {
        let nodes: Vec<Value> = (0..self.provider().nodes.len())
            .map(|index| self.node_audit(index))
            .collect();
        let coordinator =
            self.export(&self.coordinator_dir().join("journal"), "coordinator");
        let levels: BTreeMap<&str, u32> =
            mailboxes.iter().map(|it| (it.address.as_str(), it.level)).collect();
        json!({
            "nodes": nodes,
            "coordinator": coordinator,
            "levels": levels,
            "admitted": admitted,
        })
    }

    fn node_audit(&self, index: usize) -> Value {
        let node = self.provider().nodes.get(index).unwrap();
        let state = self.state_dir(index);
        let export = self.export(&state.join("journal"), &node.name);
        json!({"name": node.name, "state": state, "work": node.work, "export": export})
    }

    fn export(&self, journal: &Path, name: &str) -> std::path::PathBuf {
        let verified = tidegate(&["journal", "verify"], journal);
        assert!(verified.0, "{name}: {}", verified.1);
        let (whole, exported) = tidegate(&["journal", "export"], journal);
        assert!(whole, "{name}: {exported}");
        let path = self.path(&format!("{name}.jsonl"));
        let is_record = |line: &&str| {
            line.starts_with("{\"sequence\"") || line.starts_with("{\"snapshot_of\"")
        };
        let lines = exported.lines().filter(is_record);
        fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
        path
    }

    fn check(&self, told: &Value, faults: &Faults) {
        let counts = count(told);
        let count = |what: &str| {
            counts.get("counts").and_then(|it| it.get(what)?.as_u64()).unwrap_or(0)
        };
        let messages =
            count("messages expected") + count("messages of mailboxes not restored");
        let lost = count("messages expected") - count("messages right")
            + count("wrong: destroyed");
        faults.counted(messages, lost);
        let complaints = counts.get("complaints").and_then(Value::as_array);
        assert!(complaints.is_some_and(Vec::is_empty), "{counts:#}\n{}", self.logs());
        assert!(messages > 0, "{counts:#}");
    }

    /// The lab's own count of the same.
    fn recount(&self, mailboxes: &[Mailbox], listed: &[Listed]) {
        let states = mailboxes.iter().map(|mailbox| {
            let end = match mailbox.preparation() {
                Preparation::Prepared => MailboxEnd::Restored,
                Preparation::Quarantined => MailboxEnd::SetAside,
                Preparation::Waiting | Preparation::Unspecified => MailboxEnd::Untouched,
            };
            (mailbox.address.clone(), end)
        });
        let told = Told { states: states.collect(), set_aside: listed.to_vec() };
        let recount = tidegate_lab::recount(self.provider(), &told).unwrap();
        assert!(recount.is_clean(), "{recount}\n{}", self.logs());
        let (restored, set_aside, untouched) = recount.mailboxes;
        assert_eq!(untouched, 0, "{recount}");
        assert!(
            set_aside * SET_ASIDE_RARITY <= restored,
            "too many set aside: {recount}\n{}",
            self.logs()
        );
    }

    fn mailboxes(&self) -> Vec<Mailbox> {
        runtime().block_on(async {
            let mut client = ProgressServiceClient::new(self.channel());
            let mut all = Vec::new();
            let mut request =
                ListMailboxesRequest { page_size: 1_000, ..Default::default() };
            loop {
                let page =
                    client.list_mailboxes(request.clone()).await.unwrap().into_inner();
                all.extend(page.mailboxes);
                if page.next_page_token.is_empty() {
                    return all;
                }
                request.page_token = page.next_page_token;
            }
        })
    }

    /// What the coordinator lists as beyond repair.
    fn listed(&self) -> Vec<Listed> {
        runtime().block_on(async {
            let mut client = ProgressServiceClient::new(self.channel());
            let mut all = Vec::new();
            let mut request =
                ListFindingsRequest { page_size: 1_000, ..Default::default() };
            loop {
                let page =
                    client.list_findings(request.clone()).await.unwrap().into_inner();
                let aside = page.findings.into_iter().filter_map(|found| {
                    let finding = found.finding?;
                    let kind = finding.kind();
                    matches!(kind, FindingKind::SetAside | FindingKind::Lost).then(|| {
                        Listed {
                            address: found.address,
                            folder: finding.folder,
                            name: finding.name,
                            reason: finding.reason,
                        }
                    })
                });
                all.extend(aside);
                if page.next_page_token.is_empty() {
                    return all;
                }
                request.page_token = page.next_page_token;
            }
        })
    }
}

/// What `checker.py` says.
pub(crate) fn count(told: &Value) -> Value {
    let mut checker = Command::new("python3");
    checker.arg(CHECKER).arg("count").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut checker = checker.spawn().unwrap();
    checker.stdin.take().unwrap().write_all(told.to_string().as_bytes()).unwrap();
    let output = checker.wait_with_output().unwrap();
    assert!(output.status.success(), "the checker failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn states(mailboxes: &[Mailbox]) -> BTreeMap<String, &'static str> {
    let states = mailboxes.iter().map(|mailbox| {
        let state = match mailbox.preparation() {
            Preparation::Prepared => "restored",
            Preparation::Quarantined => "set-aside",
            Preparation::Waiting | Preparation::Unspecified => "untouched",
        };
        (mailbox.address.clone(), state)
    });
    states.collect()
}

/// Runs a verb on a path; whether it ended with 0, and what it said on stdout, or on stderr if
/// it failed.
pub(crate) fn tidegate(verb: &[&str], path: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(verb)
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let good = output.status.success();
    let said = if good { output.stdout } else { output.stderr };
    (good, String::from_utf8_lossy(&said).into_owned())
}

/// Every program, and no worker that there is not.
impl Fleet {
    /// Every program of this fleet.
    pub(crate) fn all(&self) -> Vec<Which> {
        let workers = (0..self.provider().nodes.len()).map(Which::Worker);
        std::iter::once(Which::Coordinator).chain(workers).collect()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
