//! Verifying a report: by its own files alone, and by what was kept apart from them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum as _;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidegate_audit::PublicKey;

use super::build::{digest_of, hexadecimal, journal_head};
use super::outage::{self, Hashed, Rules};
use super::{
    AUDIT, COMPENSATION, EVENTS, FINDINGS, JOURNAL, MAILBOXES, NODES, OUTAGE, PROOF,
    Proof, RULES, SIGNATURE, SIGNED, SUMMARY, SUMS, summary,
};
use crate::cli::{Dialect, Inputs, ReportVerify, TableOrJson};
use crate::console::{self, safe, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::planning;
use crate::screens::json;

/// What each row of `mailboxes.csv` begins with; a time for each rung follows.
pub(super) const COLUMNS: [&str; 9] = [
    "address",
    "tier",
    "node",
    "wave",
    "excluded",
    "preparation",
    "level",
    "services",
    "health",
];

/// Problems that are told one by one.
const PROBLEMS_MAX: usize = 100;

/// What a verification found.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.verified-report/v1")]
pub(crate) struct Verification {
    /// Whether nothing is wrong.
    sound: bool,
    /// The SHA-256 of `proof.json`.
    digest: String,
    /// Whether something that was kept apart vouches for it: its digest, or a key.
    vouched_for: bool,
    /// What was looked at and is right, in words.
    right: Vec<String>,
    /// What is wrong, in words; at most a hundred.
    wrong: Vec<String>,
}

/// Carries out `tidegate report verify`.
pub(super) fn run(args: &ReportVerify) -> Outcome {
    let read = || anyhow::Ok(fs::read(args.dir.join(PROOF))?);
    let bytes = read()
        .with_context(|| format!("read the report in `{}`", args.dir.display()))
        .map_err(|error| {
            Failure::new(Exit::Input, error).help("`tidegate report build DIR` makes one")
        })?;
    let mut look = Look { dir: &args.dir, right: Vec::new(), wrong: Vec::new() };
    let digest = hexadecimal(&Sha256::digest(&bytes));
    let vouched_for = look.vouched_for(args, &digest)?;
    match serde_json::from_slice::<Proof>(&bytes) {
        Err(error) => look.wrong(format!("{PROOF}: it is none: {error}")),
        Ok(proof) => {
            look.files(&proof)?;
            if let Err(error) = look.totals(&proof) {
                look.wrong(format!("{error:#}"));
            }
            if let Err(error) = look.outage(&proof) {
                look.wrong(format!("{error:#}"));
            }
            if let Err(error) = look.summary(&proof) {
                look.wrong(format!("{error:#}"));
            }
            if let Err(error) = look.chains(&proof) {
                look.wrong(format!("{error:#}"));
            }
            if let (Some(inventory), Some(policy)) = (&args.inventory, &args.policy) {
                let (inventory, policy) = (inventory.clone(), policy.clone());
                look.plan(
                    &proof,
                    &Inputs { inventory, policy, progress: args.progress },
                )?;
            }
        }
    }
    let Look { right, mut wrong, .. } = look;
    let sound = wrong.is_empty();
    wrong.truncate(PROBLEMS_MAX);
    let found = Verification { sound, digest, vouched_for, right, wrong };
    match args.output {
        TableOrJson::Json => console::data_line(json::value(&found))?,
        TableOrJson::Table => tell(&found)?,
    }
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

fn tell(found: &Verification) -> io::Result<()> {
    let lines = found.right.iter().map(|line| ("ok  ", line));
    for (word, line) in lines.chain(found.wrong.iter().map(|line| ("FAIL", line))) {
        console::data_line(format_args!("{word}  {}", safe(line)))?;
    }
    if !found.vouched_for {
        console::data_line(
            "nothing vouches for proof.json itself: whoever can write the directory can make \
             all of it anew; give --digest, or --key",
        )?;
    }
    console::data_line(if found.sound { "all sound" } else { "NOT SOUND" })
}

/// How the tables of a report are written.
fn dialect_of(proof: &Proof) -> anyhow::Result<Dialect> {
    let named = proof.dialect.as_deref().map(|it| Dialect::from_str(it, false));
    let named = named.transpose().map_err(|why| anyhow::anyhow!("{why}"))?;
    Ok(named.unwrap_or_default())
}

/// What is looked at, and what was found.
struct Look<'a> {
    dir: &'a Path,
    right: Vec<String>,
    wrong: Vec<String>,
}

impl Look<'_> {
    fn right(&mut self, line: impl Into<String>) {
        self.right.push(line.into());
    }

    fn wrong(&mut self, line: impl Into<String>) {
        self.wrong.push(line.into());
    }

    /// Holds the proof against what was kept apart from it. Whether there was anything.
    fn vouched_for(
        &mut self,
        args: &ReportVerify,
        digest: &str,
    ) -> Result<bool, Failure> {
        if let Some(kept) = &args.digest {
            if kept.eq_ignore_ascii_case(digest) {
                self.right("proof.json: its digest is the one that was kept");
            } else {
                self.wrong("proof.json: its digest differs from the one that was kept");
            }
        }
        if let Some(path) = &args.key {
            let key = PublicKey::read(path)
                .with_context(|| format!("read the key `{}`", path.display()))
                .map_err(|error| Failure::new(Exit::Input, error))?;
            match fs::read_to_string(self.dir.join(SIGNATURE)) {
                Ok(signature) if key.has_signed(SIGNED, digest, signature.trim()) => {
                    self.right("proof.sig: signed with this key");
                }
                Ok(_) => self.wrong("proof.sig: not signed with this key"),
                Err(_) => self.wrong("proof.sig: missing"),
            }
        }
        Ok(args.digest.is_some() || args.key.is_some())
    }

    /// Every file is there as it was written, and no other.
    fn files(&mut self, proof: &Proof) -> Result<(), Failure> {
        let before = self.wrong.len();
        for file in &proof.files {
            let name = &file.name;
            if !is_below(name) {
                self.wrong(format!("{name}: no name of a file of a report"));
                continue;
            }
            match digest_of(&self.dir.join(name)) {
                Err(error) => self.wrong(format!("{name}: {error}")),
                Ok((digest, bytes)) if digest != file.sha256 || bytes != file.bytes => {
                    self.wrong(format!("{name}: digest differs"));
                }
                Ok(_) => {}
            }
        }
        let mut named: BTreeSet<String> =
            proof.files.iter().map(|file| file.name.clone()).collect();
        for must in [SUMS, MAILBOXES, FINDINGS, EVENTS] {
            if !named.contains(must) {
                self.wrong(format!("{must}: the proof does not name it"));
            }
        }
        named.extend([PROOF.to_owned(), SIGNATURE.to_owned()]);
        for name in there_are(self.dir)? {
            if !named.contains(&name) {
                self.wrong(format!("{name}: the proof does not name it"));
            }
        }
        if self.wrong.len() == before {
            self.right(format!("{} files, digests as recorded", proof.files.len()));
        }
        Ok(())
    }

    /// Sums are those of the rows, and each mailbox has one.
    fn totals(&mut self, proof: &Proof) -> anyhow::Result<()> {
        let before = self.wrong.len();
        let sums = fs::read(self.dir.join(SUMS)).context(SUMS)?;
        let sums: Value = serde_json::from_slice(&sums).context(SUMS)?;
        let rollout = at(&sums, "rollout");
        let said = [
            ("plan_digest", &proof.plan_digest),
            ("name", &proof.name),
            ("state", &proof.state),
        ];
        for (field, ours) in said {
            if at(rollout, field).as_str() != Some(ours) {
                self.wrong(format!("{SUMS}: its {field} is not that of the proof"));
            }
        }
        let counted = self.count_mailboxes()?;
        let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
        let findings = self.count_findings()?;
        let mut is_so = |what: &str, said: u64, counted: u64| {
            if said != counted {
                self.wrong.push(format!(
                    "totals differ: {what}: {SUMS} says {said}, the rows say {counted}"
                ));
            }
        };
        is_so("mailboxes in no wave", number(at(rollout, "excluded")), counted.excluded);
        let mut waves = counted.waves;
        for wave in at(rollout, "waves").as_array().into_iter().flatten() {
            let name = at(wave, "name").as_str().unwrap_or_default();
            let rows = waves.remove(name).unwrap_or_default();
            for (what, counted) in rows.named() {
                is_so(&format!("wave {name}, {what}"), number(at(wave, what)), counted);
            }
        }
        for name in waves.keys() {
            is_so(&format!("wave {name}"), 0, 1);
        }
        let found = at(&sums, "findings").as_object();
        let found: u64 = found.into_iter().flatten().map(|(_, it)| number(it)).sum();
        let on_nodes = number(at(&sums, "findings_on_nodes_only"));
        is_so("findings", found.saturating_sub(on_nodes), findings);
        if self.wrong.len() == before {
            self.right(format!(
                "{} mailboxes, one row each; totals agree",
                thousands(counted.rows)
            ));
        }
        Ok(())
    }

    /// What is said of the outage is what the rows give.
    fn outage(&mut self, proof: &Proof) -> anyhow::Result<()> {
        let Some(start) = &proof.outage_start_time else { return Ok(()) };
        let start = start.parse().context("the outage's start is no time")?;
        let dialect = dialect_of(proof)?;
        let rows = self.dir.join(MAILBOXES);
        let mut tiers = Hashed::default();
        outage::by_tier(&rows, start, dialect, &mut tiers)?;
        self.made_again(OUTAGE, tiers)?;
        if !proof.files.iter().any(|file| file.name == RULES) {
            return Ok(());
        }
        let rules = Rules::read(&self.dir.join(RULES));
        let rules = rules.map_err(|_| anyhow::anyhow!("{RULES}: these are no rules"))?;
        let mut owed = Hashed::default();
        outage::compensation(&rows, start, (&rules, dialect), &mut owed)?;
        self.made_again(COMPENSATION, owed)
    }

    /// What people read first is what the other files say.
    fn summary(&mut self, proof: &Proof) -> anyhow::Result<()> {
        if !proof.files.iter().any(|file| file.name == SUMMARY) {
            return Ok(());
        }
        let dialect = dialect_of(proof)?;
        let outage = proof.outage_start_time.as_deref().map(|start| (start, dialect));
        let mut made = Hashed::default();
        made.write_all(summary::of(self.dir, outage)?.as_bytes())?;
        self.made_again(SUMMARY, made)
    }

    fn made_again(&mut self, name: &str, made: Hashed) -> anyhow::Result<()> {
        let (digest, _) =
            digest_of(&self.dir.join(name)).with_context(|| name.to_owned())?;
        if digest == hexadecimal(&made.0.finalize()) {
            self.right(format!("{name}: what the rows give"));
        } else {
            self.wrong(format!("{name}: not what the rows give"));
        }
        Ok(())
    }

    fn count_mailboxes(&self) -> anyhow::Result<Counted> {
        let mut rows =
            csv::Reader::from_path(self.dir.join(MAILBOXES)).context(MAILBOXES)?;
        let header = rows.headers().context(MAILBOXES)?;
        anyhow::ensure!(
            header.iter().zip(COLUMNS).filter(|(one, other)| one == other).count()
                == COLUMNS.len(),
            "{MAILBOXES}: its columns are others"
        );
        let mut counted = Counted::default();
        let mut known = HashSet::new();
        for row in rows.records() {
            let row = row.context(MAILBOXES)?;
            let cell = |at: usize| row.get(at).unwrap_or_default();
            let [address, .., health] = [0, 8].map(cell);
            anyhow::ensure!(
                known.insert(*blake3::hash(address.as_bytes()).as_bytes()),
                "{MAILBOXES}: a mailbox has two rows"
            );
            counted.rows += 1;
            if cell(3).is_empty() {
                counted.excluded += 1;
                continue;
            }
            let wave = counted.waves.entry(cell(3).to_owned()).or_default();
            wave.planned += 1;
            wave.prepared += u64::from(cell(5) == "prepared");
            wave.quarantined += u64::from(cell(5) == "quarantined");
            wave.open += u64::from(cell(6) != "0");
            wave.failed += u64::from(health.ends_with("failed"));
        }
        Ok(counted)
    }

    fn count_findings(&self) -> anyhow::Result<u64> {
        let rows = csv::Reader::from_path(self.dir.join(FINDINGS)).context(FINDINGS)?;
        let mut count = 0;
        for row in rows.into_records() {
            row.context(FINDINGS)?;
            count += 1;
        }
        Ok(count)
    }

    /// Records follow each other, and end where the proof says.
    fn chains(&mut self, proof: &Proof) -> anyhow::Result<()> {
        self.story(proof)?;
        if let Some(head) = &proof.audit {
            let checked = tidegate_audit::verify(&self.dir.join(AUDIT), None, None);
            let checked = checked.context(AUDIT)?;
            for finding in &checked.findings {
                self.wrong(format!("{AUDIT}: {finding}"));
            }
            if (checked.records, &checked.digest) == (head.records, &head.digest) {
                let records = thousands(checked.records);
                self.right(format!("{AUDIT}: {records} records in one chain"));
            } else {
                self.wrong(format!(
                    "{AUDIT}: its newest record is not that of the proof"
                ));
            }
        }
        if let Some(head) = &proof.journal {
            if journal_head(&self.dir.join(JOURNAL)).context(JOURNAL)? == *head {
                let records = thousands(head.records);
                self.right(format!("{JOURNAL}: up to record {records}"));
            } else {
                self.wrong(format!(
                    "{JOURNAL}: its newest record is not that of the proof"
                ));
            }
        }
        for file in proof.files.iter().filter(|file| file.name.starts_with(NODES)) {
            let lines = self.lines(&file.name)?;
            let schema = "tidegate.finding/v1";
            anyhow::ensure!(
                lines.iter().all(|line| at(line, "schema") == schema),
                "{}: a line is no finding",
                file.name
            );
        }
        Ok(())
    }

    /// What happened stands in its order, and says how it ended.
    fn story(&mut self, proof: &Proof) -> anyhow::Result<()> {
        let events = self.lines(EVENTS)?;
        let time =
            |event: &Value| at(event, "time").as_str().unwrap_or_default().to_owned();
        let ended = events.iter().any(|event| at(event, "code") == proof.state.as_str());
        let in_order = events.is_sorted_by_key(time);
        if !in_order {
            self.wrong(format!("{EVENTS}: not in the order of time"));
        }
        if !ended {
            self.wrong(format!("{EVENTS}: nothing says that it is {}", proof.state));
        }
        if ended && in_order {
            let people: BTreeSet<&str> =
                events.iter().filter_map(|event| at(event, "by").as_str()).collect();
            let people: Vec<&str> = people.into_iter().collect();
            self.right(format!(
                "{} events; decided by {}",
                thousands(u64::try_from(events.len()).unwrap_or(u64::MAX)),
                if people.is_empty() { "nobody".to_owned() } else { people.join(", ") }
            ));
        }
        Ok(())
    }

    fn lines(&self, name: &str) -> anyhow::Result<Vec<Value>> {
        let context = || name.to_owned();
        let file = File::open(self.dir.join(name)).with_context(context)?;
        let mut lines = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.with_context(context)?;
            lines.push(serde_json::from_str(&line).with_context(context)?);
        }
        Ok(lines)
    }

    /// The files of then give the plan that was carried out.
    fn plan(&mut self, proof: &Proof, inputs: &Inputs) -> Result<(), Failure> {
        let (plan, _) = planning::make(inputs)?;
        let inventory = plan.inventory();
        let pairs = [
            ("inventory", inventory.digest().to_string(), &proof.inventory_digest),
            ("policy", plan.policy().digest().to_string(), &proof.policy_digest),
            ("plan", plan.digest().to_string(), &proof.plan_digest),
        ];
        for (what, now, then) in pairs {
            if now == *then {
                self.right(format!("{what}: these files give the one of the report"));
            } else {
                self.wrong(format!("{what}: these files give another one"));
            }
        }
        Ok(())
    }
}

/// What the rows say.
#[derive(Default)]
struct Counted {
    rows: u64,
    excluded: u64,
    waves: BTreeMap<String, Wave>,
}

/// What the rows of a wave say.
#[derive(Default)]
struct Wave {
    planned: u64,
    prepared: u64,
    quarantined: u64,
    open: u64,
    failed: u64,
}

impl Wave {
    /// Its counts, under the names that they have in the sums.
    fn named(&self) -> [(&'static str, u64); 5] {
        let Self { planned, prepared, quarantined, open, failed } = self;
        [
            ("planned", *planned),
            ("prepared", *prepared),
            ("quarantined", *quarantined),
            ("open", *open),
            ("failed", *failed),
        ]
    }
}

/// A field of a document; null where there is none.
fn at<'a>(document: &'a Value, field: &str) -> &'a Value {
    document.get(field).unwrap_or(&Value::Null)
}

/// Whether a name leads nowhere outside of the report.
fn is_below(name: &str) -> bool {
    let path = Path::new(name);
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// The files of a report, by name.
fn there_are(dir: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == NODES && entry.file_type()?.is_dir() {
            for below in fs::read_dir(entry.path())? {
                let below = below?.file_name().to_string_lossy().into_owned();
                names.push(format!("{NODES}/{below}"));
            }
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
