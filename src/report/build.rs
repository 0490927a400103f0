//! Building a report: asks the coordinator for everything, and writes it down with its digests.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidegate_audit::SigningKey;
use tidegate_pages::public::Update;
use tidegate_pages::texts::Language;
use tidegate_wire::v1;

use super::outage::{self, Rules};
use super::{
    AUDIT, COMPENSATION, EVENTS, FINDINGS, Head, JOURNAL, MAILBOXES, Member, NODES,
    OUTAGE, PROOF, Proof, RULES, SIGNATURE, SUMMARY, SUMS, WORDS, summary,
};
use crate::cli::ReportBuild;
use crate::client::{Client, is_over};
use crate::console::{self, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::look::{self, count_findings};
use crate::screens::date;
use crate::screens::json;
use crate::screens::single::{self, guard};
use crate::screens::status::state_word;
use crate::status_page::updates;
use tidegate_wire::protocol::instant;

/// How often everything is asked for again because something has moved meanwhile.
const TRIES_MAX: u32 = 3;

/// Carries out `tidegate report build`.
pub(super) async fn run(args: &ReportBuild) -> Outcome {
    let key = args.sign_with.as_deref().map(read_key).transpose()?;
    let mut client = Client::connect(&args.coordinator).await?;
    let rollout = client.rollout().await?;
    if !is_over(&rollout) {
        let text = format!("the rollout is {}", state_word(rollout.state()).0);
        return Err(Failure::text(Exit::Refused, text)
            .help("a report proves how it ended: `tidegate wait --for finished`"));
    }
    let summary = client.plan().await?.plan.unwrap_or_default();
    fs::create_dir(&args.dir).with_context(|| {
        format!("make `{}`, which must not be there", args.dir.display())
    })?;
    let written = write(&mut client, args, (summary, key.as_ref())).await;
    if written.is_err() {
        // Nobody shall take it for a report.
        let _left = fs::remove_dir_all(&args.dir);
    }
    let (rollout, proof, digest) = written?;
    tell(&rollout, &proof, (&args.dir, &digest))?;
    Ok(look::ending(&rollout))
}

/// Writes all of it. Returns what it is of, its proof, and the digest of that.
async fn write(
    client: &mut Client,
    args: &ReportBuild,
    (summary, key): (v1::PlanSummary, Option<&SigningKey>),
) -> Result<(v1::Rollout, Proof, String), Failure> {
    let mut book = Book { dir: &args.dir, files: Vec::new() };
    let rollout = write_answers(client, &mut book).await?;
    let audit =
        args.audit.as_deref().map(|log| copy_audit(&mut book, log)).transpose()?;
    let journal =
        args.journal.as_deref().map(|file| copy_journal(&mut book, file)).transpose()?;
    if !args.findings.is_empty() {
        fs::create_dir(args.dir.join(NODES))?;
    }
    for file in &args.findings {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        book.copy(&format!("{NODES}/{name}.jsonl"), file)?;
    }
    if let Some(start) = args.outage_start {
        write_outage(&mut book, start, args)?;
    }
    if let Some(site) = &args.said {
        write_words(&mut book, &updates(site)?)?;
    }
    let start = args.outage_start.map(|it| it.to_string());
    let outage = start.as_deref().map(|start| (start, args.dialect));
    let mut page = book.begin(SUMMARY)?;
    page.write_all(summary::of(&args.dir, outage)?.as_bytes())?;
    book.end(SUMMARY, page)?;
    book.files.sort_by(|one, other| one.name.cmp(&other.name));
    let proof = Proof {
        built_time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        built_by: args.actor.name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: rollout.name.clone(),
        state: state_word(rollout.state()).0.to_lowercase(),
        plan_digest: summary.plan_digest,
        inventory_digest: summary.inventory_digest,
        policy_digest: summary.policy_digest,
        audit,
        journal,
        outage_start_time: start,
        dialect: args.outage_start.and(args.dialect.word()),
        files: book.files,
    };
    let digest = write_proof(&args.dir, &proof, key)?;
    Ok((rollout, proof, digest))
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    SigningKey::read(path)
        .with_context(|| format!("read the key `{}`", path.display()))
        .map_err(|error| Failure::new(Exit::Input, error))
}

/// Writes everything that the coordinator says, of one moment.
async fn write_answers(
    client: &mut Client,
    book: &mut Book<'_>,
) -> Result<v1::Rollout, Failure> {
    for _ in 0..TRIES_MAX {
        book.files.clear();
        let before = client.rollout().await?;
        write_mailboxes(client, book, &before).await?;
        let mut findings = book.begin(FINDINGS)?.csv();
        findings.write_record(single::FINDING_HEADER).map_err(io::Error::from)?;
        let mut write = |found: v1::MailboxFinding| -> Result<(), Failure> {
            findings
                .write_record(single::finding_row(&found))
                .map_err(io::Error::from)?;
            Ok(())
        };
        client.findings(v1::ListFindingsRequest::default(), &mut write).await?;
        book.end(FINDINGS, inner(findings)?)?;
        let mut events = book.begin(EVENTS)?;
        let mut write = |event: v1::Event| -> Result<(), Failure> {
            writeln!(events, "{}", json::event(&event))?;
            Ok(())
        };
        client.events(&mut write).await?;
        book.end(EVENTS, events)?;
        let found = count_findings(client).await?;
        let after = client.rollout().await?;
        if counts(&before) == counts(&after) {
            let mut sums = book.begin(SUMS)?;
            writeln!(sums, "{:#}", single::report_value(&after, found))?;
            book.end(SUMS, sums)?;
            return Ok(after);
        }
    }
    let text = "mailboxes change faster than they can be written down";
    Err(Failure::text(Exit::Later, text)
        .help("remove the directory, and try again when nothing is retried or re-closed"))
}

/// What must not have moved while rows were written.
fn counts(rollout: &v1::Rollout) -> (String, Vec<[u32; 6]>, Option<v1::MessageTotals>) {
    let waves = rollout.waves.iter().map(|it| {
        [it.planned, it.prepared, it.quarantined, it.open, it.failed, it.closing]
    });
    (rollout.etag.clone(), waves.collect(), rollout.totals)
}

/// One row for each mailbox of the inventory, in its order.
async fn write_mailboxes(
    client: &mut Client,
    book: &mut Book<'_>,
    rollout: &v1::Rollout,
) -> Result<(), Failure> {
    let mut rows = book.begin(MAILBOXES)?.csv();
    let mut header: Vec<String> = super::verify::COLUMNS.map(str::to_owned).into();
    header
        .extend(rollout.ladder.iter().map(|rung| format!("{}_time", guard(&rung.name))));
    rows.write_record(&header).map_err(io::Error::from)?;
    let mut write = |mailbox: v1::Mailbox| -> Result<(), Failure> {
        rows.write_record(row(&mailbox)).map_err(io::Error::from)?;
        Ok(())
    };
    client.mailboxes(v1::ListMailboxesRequest::default(), &mut write).await?;
    book.end(MAILBOXES, inner(rows)?)
}

fn row(mailbox: &v1::Mailbox) -> Vec<String> {
    let mut row = vec![
        guard(&mailbox.address),
        guard(&mailbox.tier),
        guard(&mailbox.node),
        guard(&mailbox.wave),
        guard(&mailbox.excluded),
        json::preparation_word(mailbox.preparation()).to_owned(),
        mailbox.level.to_string(),
        guard(&mailbox.services.join(" ")),
        json::health_word(mailbox.health()).to_owned(),
    ];
    row.extend(mailbox.rungs.iter().map(|rung| {
        let is_open = rung.state() == v1::RungState::Open;
        let since = rung.time.as_ref().filter(|_| is_open).and_then(instant);
        since.map_or_else(String::new, date)
    }));
    row
}

/// Writes what the rows say of the outage.
fn write_outage(
    book: &mut Book<'_>,
    start: jiff::Timestamp,
    args: &ReportBuild,
) -> Result<(), Failure> {
    let input = |error| Failure::new(Exit::Input, error);
    let rows = book.dir.join(MAILBOXES);
    let mut tiers = book.begin(OUTAGE)?;
    outage::by_tier(&rows, start, args.dialect, &mut tiers).map_err(input)?;
    book.end(OUTAGE, tiers)?;
    let Some(file) = &args.compensation else { return Ok(()) };
    book.copy(RULES, file)?;
    let rules = Rules::read(file)?;
    let mut owed = book.begin(COMPENSATION)?;
    outage::compensation(&rows, start, (&rules, args.dialect), &mut owed)
        .map_err(input)?;
    book.end(COMPENSATION, owed)
}

/// Writes what was said in public, and when.
fn write_words(book: &mut Book<'_>, said: &[Update]) -> Result<(), Failure> {
    let mut rows = book.begin(WORDS)?.csv();
    rows.write_record(["time", "it", "en"]).map_err(io::Error::from)?;
    for update in said {
        let time = update.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let [it, en] = Language::ALL.map(|language| guard(update.text(language)));
        rows.write_record([time, it, en]).map_err(io::Error::from)?;
    }
    book.end(WORDS, inner(rows)?)
}

fn copy_audit(book: &mut Book<'_>, log: &Path) -> Result<Head, Failure> {
    book.copy(AUDIT, log)?;
    let checked = tidegate_audit::verify(&book.dir.join(AUDIT), None, None)?;
    if let Some(finding) = checked.findings.first() {
        let text = format!("the audit log `{}` is not sound: {finding}", log.display());
        return Err(Failure::text(Exit::Input, text)
            .help("`tidegate audit verify` says what is wrong with it"));
    }
    Ok(Head { records: checked.records, digest: checked.digest })
}

fn copy_journal(book: &mut Book<'_>, file: &Path) -> Result<Head, Failure> {
    book.copy(JOURNAL, file)?;
    journal_head(&book.dir.join(JOURNAL))
        .with_context(|| format!("read the journal's export `{}`", file.display()))
        .map_err(|error| {
            Failure::new(Exit::Input, error)
                .help("`tidegate journal export DIR` writes one")
        })
}

/// The newest record of an export of a journal.
pub(super) fn journal_head(file: &Path) -> anyhow::Result<Head> {
    let mut newest = None;
    for line in BufReader::new(File::open(file)?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        anyhow::ensure!(line.get("trusted").is_none(), "a part of it is not trusted");
        if let (Some(records), Some(digest)) = (line.get("sequence"), line.get("digest"))
        {
            let records = records.as_u64().context("a sequence is no number")?;
            let digest = digest.as_str().unwrap_or_default().to_owned();
            newest = Some(Head { records, digest });
        }
    }
    newest.context("it has no record")
}

fn write_proof(
    dir: &Path,
    proof: &Proof,
    key: Option<&SigningKey>,
) -> Result<String, Failure> {
    let text = format!("{:#}\n", json::value(proof));
    let digest = hexadecimal(&Sha256::digest(&text));
    fs::write(dir.join(PROOF), &text)?;
    if let Some(key) = key {
        let signature = key.sign(super::SIGNED, &digest);
        fs::write(dir.join(SIGNATURE), format!("{signature}\n"))?;
    }
    for folder in [Some(dir), dir.parent().filter(|it| !it.as_os_str().is_empty())] {
        folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    }
    Ok(digest)
}

fn tell(
    rollout: &v1::Rollout,
    proof: &Proof,
    (dir, digest): (&Path, &str),
) -> Result<(), Failure> {
    let totals = rollout.totals.unwrap_or_default();
    let aside: u32 = rollout.waves.iter().map(|wave| wave.quarantined).sum();
    let prepared: u32 = rollout.waves.iter().map(|wave| wave.prepared).sum();
    let page = fs::read_to_string(dir.join(SUMMARY))?;
    console::data_line(page)?;
    let dir = dir.display();
    console::data_line(format_args!(
        "{dir}: {} of plan {:.12}, {} files",
        proof.state,
        proof.plan_digest,
        proof.files.len() + 1
    ))?;
    console::data_line(format_args!(
        "  {} mailboxes prepared, {} set aside, {} in no wave",
        thousands(prepared),
        thousands(aside),
        thousands(rollout.excluded)
    ))?;
    console::data_line(format_args!(
        "  {} messages lost, {} beyond repair with their bytes kept",
        thousands(totals.lost),
        thousands(totals.set_aside)
    ))?;
    console::data_line(format_args!("Digest {digest}"))?;
    console::data_line(format_args!(
        "Next   tidegate report verify {dir} --digest {digest}"
    ))?;
    console::tell("keep the digest apart from the report: it vouches for all of it");
    Ok(())
}

/// The files of a report that is being written.
struct Book<'a> {
    dir: &'a Path,
    files: Vec<Member>,
}

impl Book<'_> {
    fn begin(&self, name: &str) -> Result<Counted, Failure> {
        let path = self.dir.join(name);
        let file =
            File::create(&path).with_context(|| format!("write `{}`", path.display()))?;
        Ok(Counted { to: BufWriter::new(file), hash: Sha256::new(), bytes: 0 })
    }

    fn end(&mut self, name: &str, written: Counted) -> Result<(), Failure> {
        let Counted { mut to, hash, bytes } = written;
        to.flush()?;
        to.get_ref().sync_all()?;
        let sha256 = hexadecimal(&hash.finalize());
        self.files.push(Member { name: name.to_owned(), bytes, sha256 });
        Ok(())
    }

    fn copy(&mut self, name: &str, from: &Path) -> Result<(), Failure> {
        let known = self.files.iter().any(|file| file.name == name);
        if known {
            let text = format!("there is a `{name}` already");
            return Err(Failure::text(Exit::Usage, text).help("give files other names"));
        }
        let mut copy = self.begin(name)?;
        let read = File::open(from).and_then(|mut from| io::copy(&mut from, &mut copy));
        read.with_context(|| format!("copy `{}`", from.display()))
            .map_err(|error| Failure::new(Exit::Input, error))?;
        self.end(name, copy)
    }
}

/// What is written to a file, and counted.
struct Counted {
    to: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Counted {
    fn csv(self) -> csv::Writer<Self> {
        csv::Writer::from_writer(self)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn inner(rows: csv::Writer<Counted>) -> Result<Counted, Failure> {
    rows.into_inner().map_err(|error| io::Error::other(error.to_string()).into())
}

/// The SHA-256 of a file, and its length.
pub(super) fn digest_of(path: &PathBuf) -> io::Result<(String, u64)> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut hash, mut bytes, mut part) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok((hexadecimal(&hash.finalize()), bytes));
        }
        hash.update(part.get(..read).unwrap_or_default());
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
