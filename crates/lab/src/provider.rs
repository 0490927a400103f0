//! Provider: builds a practice provider on disk, snapshot, aftermath and storm included.
//!
//! # Invariants
//!
//! * Equal specs make equal providers: inventory and truth are the same bytes anywhere.
//! * Live and snapshot never share an inode: damage in place cannot hit both.
//! * Nothing is written outside the root that the caller named, which must be empty.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::chance::Chance;
use crate::ledger;
use crate::letters::Letters;
use crate::life::{Life, Side};
use crate::people::Census;
use crate::shelve;
use crate::storm;
use crate::truth::{Damage, Fate, Held, MailboxTruth, Truth};

/// How many threads make mail: the smallest machine that the lab is meant for has two
/// cores.
const HANDS: usize = 2;
/// Finished mailboxes that may wait for the main thread: enough that no hand waits for it.
const WAITING_MAX: usize = 256;
/// A hostile item lies in this many fewer mailboxes than messages are hit.
const HOSTILE_RARITY: u32 = 10;
/// Mailboxes that are looked into for the target of a link: nearly every one has some.
const LINK_TARGETS_MAX: usize = 50;

/// What to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSpec {
    /// How many mailboxes.
    pub mailboxes: u32,
    /// Over how many storage nodes.
    pub nodes: u32,
    /// Mean messages for each mailbox.
    pub messages: u32,
    /// Names the provider: equal seeds make equal providers.
    pub seed: u64,
    /// The share of live messages that the storm hits, in parts per million.
    pub damage: u32,
}

impl Default for LabSpec {
    fn default() -> Self {
        Self { mailboxes: 1_500, nodes: 3, messages: 20, seed: 1, damage: 80_000 }
    }
}

/// A provider whose storage has broken.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The directory that holds everything.
    pub root: PathBuf,
    /// Its storage nodes.
    pub nodes: Vec<NodeDirs>,
    /// Its users, with header `address,node,tier,path,size_bytes,last_login,language`.
    pub inventory_csv: PathBuf,
    /// What should be there.
    pub truth: Truth,
    damage: DamageSummary,
}

/// One storage node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDirs {
    /// `stor-01` and so on.
    pub name: String,
    /// The mail root that the storm went over.
    pub live: PathBuf,
    /// The mail root as it was before.
    pub snapshot: PathBuf,
    /// Empty, for the worker.
    pub work: PathBuf,
}

/// Why no provider could be built or counted.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The numbers make no provider.
    #[error(
        "build a provider with {mailboxes} mailboxes on {nodes} nodes: give at least one of each, and at most {NODES_MAX} nodes"
    )]
    Spec {
        /// Mailboxes asked for.
        mailboxes: u32,
        /// Nodes asked for.
        nodes: u32,
    },
    /// The directory has something in it. Name another, or empty it.
    #[error("build a provider in `{}`: it is not empty", .path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A file could not be made or read. What was built so far is of no use.
    #[error("{verb} `{}`", .path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A thread of the lab broke.
    #[error("finish the work of the lab's threads")]
    Thread,
}

/// More nodes than this have no two-digit names.
const NODES_MAX: u32 = 99;

impl LabError {
    pub(crate) fn file(
        verb: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { verb, path, source }
    }
}

/// Builds the provider that `spec` names under `root`, and breaks it.
///
/// After `Ok` everything is on disk (though not flushed), `truth.jsonl` included.
/// `progress` is told now and then how far it is.
///
/// # Errors
///
/// [`LabError`] when `root` is not empty or cannot be written.
pub fn build(
    root: &Path,
    spec: &LabSpec,
    progress: &mut dyn FnMut(&str),
) -> Result<Provider, LabError> {
    if spec.mailboxes == 0 || spec.nodes == 0 || spec.nodes > NODES_MAX {
        return Err(LabError::Spec { mailboxes: spec.mailboxes, nodes: spec.nodes });
    }
    fs::create_dir_all(root).map_err(LabError::file("create", root))?;
    let mut present = fs::read_dir(root).map_err(LabError::file("read", root))?;
    if present.next().is_some() {
        return Err(LabError::NotEmpty { path: root.to_owned() });
    }
    let nodes = (1..=spec.nodes).map(|number| NodeDirs::under(root, number)).collect();
    let mut site = Site {
        spec: spec.clone(),
        census: Census {
            seed: spec.seed,
            mailboxes: u64::from(spec.mailboxes),
            nodes: u64::from(spec.nodes),
            messages: u64::from(spec.messages),
        },
        letters: Letters::new(spec.seed),
        nodes,
    };
    site.make_nodes()?;
    let (mailboxes, mut damage) = site.make_mailboxes(progress)?;
    let truth = Truth { mailboxes };
    site.plant_hostile_items(&truth, &mut damage)?;
    let inventory_csv = root.join("inventory.csv");
    site.write_inventory(&inventory_csv, &truth)?;
    write_truth(&root.join("truth.jsonl"), &truth)?;
    let nodes = std::mem::take(&mut site.nodes);
    Ok(Provider { root: root.to_owned(), nodes, inventory_csv, truth, damage })
}

impl Provider {
    /// What the storm did.
    pub fn damage_summary(&self) -> &DamageSummary {
        &self.damage
    }

    /// The mailbox of `address`.
    pub fn mailbox(&self, address: &str) -> Option<&MailboxTruth> {
        self.truth.mailboxes.iter().find(|mailbox| mailbox.address == address)
    }
}

/// How often the storm did what, on which side; [`fmt::Display`] makes a table of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DamageSummary {
    /// Damage on the live side and on the snapshot's, by kind.
    pub counts: BTreeMap<Damage, (u64, u64)>,
}

impl DamageSummary {
    fn add(&mut self, damage: Damage, side: Side) {
        let count = self.counts.entry(damage).or_default();
        match side {
            Side::Live => count.0 += 1,
            Side::Snapshot => count.1 += 1,
        }
    }
}

impl fmt::Display for DamageSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34}{:>8}{:>10}", "damage", "live", "snapshot")?;
        for (damage, (live, snapshot)) in &self.counts {
            writeln!(f, "{:<34}{live:>8}{snapshot:>10}", damage.to_string())?;
        }
        Ok(())
    }
}

impl NodeDirs {
    fn under(root: &Path, number: u32) -> Self {
        let name = format!("stor-{number:02}");
        let home = root.join(&name);
        Self {
            live: home.join("live"),
            snapshot: home.join("snapshot"),
            work: home.join("work"),
            name,
        }
    }
}

/// A provider being built.
struct Site {
    spec: LabSpec,
    census: Census,
    letters: Letters,
    nodes: Vec<NodeDirs>,
}

/// A mailbox that is on disk.
struct Made {
    truth: MailboxTruth,
    tally: Vec<(Damage, Side)>,
}

impl Site {
    fn make_nodes(&self) -> Result<(), LabError> {
        for node in &self.nodes {
            for path in [&node.live, &node.snapshot, &node.work] {
                fs::create_dir_all(path).map_err(LabError::file("create", path))?;
            }
        }
        Ok(())
    }

    fn make_mailboxes(
        &self,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(Vec<MailboxTruth>, DamageSummary), LabError> {
        let count = u64::from(self.spec.mailboxes);
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let mut made: BTreeMap<u64, MailboxTruth> = BTreeMap::new();
        let mut damage = DamageSummary::default();
        let step = (count / 10).max(1);
        thread::scope(|scope| {
            let (finished, arriving) = mpsc::sync_channel(WAITING_MAX);
            for _ in 0..HANDS {
                let finished = finished.clone();
                let (next, stop) = (&next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count
                            || finished.send((number, self.make_mailbox(number))).is_err()
                        {
                            return;
                        }
                    }
                });
            }
            drop(finished);
            let mut failure = None;
            for (number, result) in arriving {
                match result {
                    Ok(Made { truth, tally }) => {
                        made.insert(number, truth);
                        for (kind, side) in tally {
                            damage.add(kind, side);
                        }
                    }
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        failure.get_or_insert(error);
                    }
                }
                let done = u64::try_from(made.len()).unwrap_or(count);
                if done.is_multiple_of(step) {
                    progress(&format!("{done} of {count} mailboxes"));
                }
            }
            failure.map_or(Ok(()), Err)
        })?;
        if u64::try_from(made.len()).ok() != Some(count) {
            return Err(LabError::Thread);
        }
        Ok((made.into_values().collect(), damage))
    }

    fn make_mailbox(&self, number: u64) -> Result<Made, LabError> {
        let person = self.census.person(number);
        let mut life = Life::lived(person, self.spec.seed, &self.letters);
        if self.spec.damage > 0 {
            let mut dice = Chance::new(self.spec.seed, "storm", number);
            let donor = self.census.somebody_else(number, &mut dice).map(|person| {
                let letter = dice.below(person.messages);
                self.letters.letter(&person, letter)
            });
            storm::strike(&mut life, self.spec.damage, donor.as_deref(), &mut dice);
        }
        if let Some(node) = self.nodes.get(life.person.node) {
            shelve::write(&life, &node.live, Side::Live)?;
            if !life.person.newcomer {
                shelve::write(&life, &node.snapshot, Side::Snapshot)?;
            }
        }
        Ok(Made { truth: ledger::record(&life), tally: life.tally })
    }

    /// Puts links, FIFOs and directories among the messages of a few mailboxes.
    fn plant_hostile_items(
        &self,
        truth: &Truth,
        damage: &mut DamageSummary,
    ) -> Result<(), LabError> {
        let ppm = self.spec.damage / HOSTILE_RARITY;
        for (number, mailbox) in (0_u64..).zip(&truth.mailboxes) {
            let mut dice = Chance::new(self.spec.seed, "hostile", number);
            if !dice.hits(ppm) {
                continue;
            }
            let Some(node) = self.nodes.get(mailbox.node) else { continue };
            let maildir = node.live.join(&mailbox.path);
            let what =
                dice.pick(&[Damage::Link, Damage::Fifo, Damage::Directory], Damage::Fifo);
            let target = links_target(truth, mailbox, node);
            if shelve::plant(&maildir, what, target.as_deref())? {
                damage.add(what, Side::Live);
            }
        }
        Ok(())
    }

    fn write_inventory(&self, path: &Path, truth: &Truth) -> Result<(), LabError> {
        let mut rows: Vec<&MailboxTruth> = truth.mailboxes.iter().collect();
        Chance::new(self.spec.seed, "inventory", 0).shuffle(&mut rows);
        let write = || -> io::Result<()> {
            let mut csv = BufWriter::new(fs::File::create(path)?);
            writeln!(csv, "address,node,tier,path,size_bytes,last_login,language")?;
            for row in rows {
                let node = self.nodes.get(row.node).map_or("", |node| node.name.as_str());
                writeln!(
                    csv,
                    "{},{node},{},{},{},{},{}",
                    row.address,
                    row.tier,
                    row.path,
                    row.size_bytes(),
                    row.last_login,
                    row.language
                )?;
            }
            csv.flush()
        };
        write().map_err(LabError::file("write", path))
    }
}

/// Some intact message of another mailbox on the same node.
fn links_target(
    truth: &Truth,
    mailbox: &MailboxTruth,
    node: &NodeDirs,
) -> Option<PathBuf> {
    let others = truth
        .mailboxes
        .iter()
        .filter(|other| other.node == mailbox.node && other.address != mailbox.address);
    others.take(LINK_TARGETS_MAX).find_map(|other| {
        let message = other.messages.iter().find(|message| {
            message.folder == 0
                && message.fate == Fate::Wanted
                && message.live == Held::Intact
        })?;
        let cur = node.live.join(&other.path).join("cur");
        let names = fs::read_dir(cur).ok()?;
        names.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&message.name))
        })
    })
}

fn write_truth(path: &Path, truth: &Truth) -> Result<(), LabError> {
    let write = || -> io::Result<()> {
        let mut lines = BufWriter::new(fs::File::create(path)?);
        for mailbox in &truth.mailboxes {
            serde_json::to_writer(&mut lines, mailbox)?;
            lines.write_all(b"\n")?;
        }
        lines.flush()
    };
    write().map_err(LabError::file("write", path))
}
