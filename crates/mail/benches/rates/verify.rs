//! Verify: finding every damaged message, against the floor and against peers.
//!
//! # Invariants
//!
//! * Every run is compared with a floor run just before it, over the same bytes: a peer that has a
//!   manifest or a backup of the snapshot reads only the live tree, and so does its floor.
//! * Tidegate first works on a tree where nothing is to be repaired, so that only verifying is
//!   measured; then on the damaged one, where finding and repairing are one pass.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Order;
use crate::peers::{Finder, named};
use crate::pile::{Kind, Pile, Tree};
use crate::recount::recount;
use crate::yardstick::{Laps, Taken, Yardstick, drop_caches};

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) rounds: usize,
    pub(crate) cold: bool,
    pub(crate) slow_peers: bool,
}

/// Runs everything and prints the tables.
pub(crate) fn verify(
    dir: &Path,
    users: usize,
    rules: Rules,
) -> Result<(), Box<dyn Error>> {
    let pile = Pile::plan(&dir.join(format!("pile-{users}")), users);
    pile.make()?;
    let run = Run { yardstick: Yardstick::compile(&dir.join("bin"))?, pile, rules };
    for tree in [Tree::Snapshot, Tree::Sound, Tree::Damaged] {
        let (files, bytes) = run.pile.volume(tree);
        println!("{:9} {files:7} messages {:6} MB", tree.name(), bytes / 1_000_000);
    }
    println!("\n{:30} {}  found  alarms", "", Laps::HEAD);
    let snapshot = run.pile.tree(Tree::Snapshot);
    let damaged = run.pile.tree(Tree::Damaged);
    let floor_trees = [snapshot.as_path(), damaged.as_path()];
    run.floor(&floor_trees, "read", "floor: two threads, sums")?;
    run.floor(&floor_trees, "bare", "the same without sums")?;
    run.tidegate("tidegate, nothing damaged", (Tree::Sound, false))?;
    run.tidegate("tidegate, by its manifest", (Tree::Sound, true))?;
    let found = run.tidegate("tidegate, found and repaired", (Tree::Damaged, false))?;
    let mut by_peer = vec![("tidegate", found)];
    let slow = Finder::SLOW.into_iter().filter(|_| rules.slow_peers);
    for peer in Finder::QUICK.into_iter().chain(slow) {
        if peer.is_installed() {
            by_peer.push((peer.name(), run.peer(peer)?));
        } else {
            println!("{:30} is not installed", peer.name());
        }
    }
    tell_kinds(&run.pile, &by_peer);
    run.clean()
}

/// Messages of each kind that were found (damage), or named without need (all others).
type Found = BTreeMap<Kind, u64>;

struct Run {
    yardstick: Yardstick,
    pile: Pile,
    rules: Rules,
}

impl Run {
    fn floor(
        &self,
        trees: &[&Path],
        how: &str,
        name: &str,
    ) -> Result<(), Box<dyn Error>> {
        let mut laps = Laps::default();
        for _ in 0..self.rules.rounds {
            let floor = self.paired(trees)?;
            self.cool()?;
            let mut command = Command::new(&self.yardstick.program);
            command.arg(how).args(trees);
            let taken = self.yardstick.measure(&command, &self.path("floor.out"))?;
            laps.add(taken, floor);
        }
        println!("{name:30} {}", laps.line());
        Ok(())
    }

    /// `again`: after a run that left a manifest, so that the snapshot need not be read.
    fn tidegate(
        &self,
        name: &str,
        (before, again): (Tree, bool),
    ) -> Result<Found, Box<dyn Error>> {
        let mut laps = Laps::default();
        let mut told = (Found::new(), 0, String::new());
        for round in 0..self.rules.rounds {
            let live = if before == Tree::Damaged {
                let copy = self.path(&format!("trash-live-{round}"));
                link_tree(&self.pile.tree(before), &copy)?;
                copy
            } else {
                self.pile.tree(before)
            };
            let work = format!("trash-work-{}-{again}-{round}", before.name());
            let work = self.path(&work);
            let order = Order {
                live: live.clone(),
                snapshot: self.pile.tree(Tree::Snapshot),
                work,
                list: self.pile.list(),
                prefix: String::new(),
                report: self.path("report.tsv"),
            };
            let mut trees = vec![&*live, &*order.snapshot];
            if again {
                order.command()?.status()?;
                trees.truncate(1);
            }
            let floor = self.paired(&trees)?;
            self.cool()?;
            let taken =
                self.yardstick.measure(&order.command()?, &self.path("engine.out"))?;
            if taken.exit != 0 {
                return Err("the engine failed".into());
            }
            laps.add(taken, floor);
            self.pile.is_untouched(before)?;
            told = self.judge(&live, before, &fs::read_to_string(&order.report)?)?;
        }
        let (kinds, alarms, summary) = told;
        let found: u64 = damage(&kinds);
        println!("{name:30} {} {found:6} {alarms:7}", laps.line());
        println!("  recount: {summary}");
        Ok(kinds)
    }

    /// What was found is right at the end; what is good and was named or changed is an alarm.
    fn judge(
        &self,
        live: &Path,
        before: Tree,
        report: &str,
    ) -> Result<(Found, u64, String), Box<dyn Error>> {
        let counted = recount(&self.pile, live, "", before)?;
        let mut lines = String::new();
        for line in report.lines() {
            let parts: Vec<&str> = line.split('\t').collect();
            if let &["set-aside" | "lost" | "doubt", address, folder, name, _] = &*parts {
                let user = address.split('@').next().unwrap_or(address);
                let path = ["x/", user, "/Maildir/.", folder, "/cur/", name, "\n"];
                lines.extend(path);
            } else if parts.first() == Some(&"refused") {
                println!("  {line}");
            }
        }
        let named = named(&self.pile, &lines);
        let mut kinds = Found::new();
        for (kind, (planned, right)) in &counted.kinds {
            let told = named.get(kind).copied().unwrap_or(0);
            let is_listed = *kind != Kind::BothBad || before == Tree::Sound;
            let found = if kind.is_damage() && is_listed {
                *right
            } else if kind.is_damage() {
                (*right).min(told)
            } else {
                told + (planned - right)
            };
            kinds.insert(*kind, found);
        }
        let alarms = alarms(&kinds);
        Ok((kinds, alarms, counted.to_string()))
    }

    fn peer(&self, peer: Finder) -> Result<Found, Box<dyn Error>> {
        peer.make_ready(&self.pile)?;
        let trees = [self.pile.tree(Tree::Damaged), self.pile.tree(Tree::Snapshot)];
        let mut trees: Vec<&Path> = trees.iter().map(PathBuf::as_path).collect();
        if !peer.reads_both() {
            trees.truncate(1);
        }
        let mut laps = Laps::default();
        let output = self.path("peer.out");
        // The slow ones differ by a factor, not by a few percent.
        let is_slow = Finder::SLOW.contains(&peer);
        let rounds = if is_slow { 1 } else { self.rules.rounds };
        for round in 0..rounds {
            let floor = self.paired(&trees)?;
            self.cool()?;
            let name = usize::try_from(std::process::id())? * 100 + round;
            let command = peer.command(&self.pile, name);
            laps.add(self.yardstick.measure(&command, &output)?, floor);
        }
        let text = fs::read(&output)?;
        let kinds = named(&self.pile, &String::from_utf8_lossy(&text));
        let (found, alarms) = (damage(&kinds), alarms(&kinds));
        println!("{:30} {} {found:6} {alarms:7}", peer.name(), laps.line());
        Ok(kinds)
    }

    fn paired(&self, trees: &[&Path]) -> Result<Taken, Box<dyn Error>> {
        self.cool()?;
        self.yardstick.read(trees)
    }

    fn cool(&self) -> Result<(), Box<dyn Error>> {
        if self.rules.cold { drop_caches() } else { Ok(()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.pile.root.join(name)
    }

    /// Removes what runs left; last, because files made right after others were removed cost more
    /// on some file systems.
    fn clean(&self) -> Result<(), Box<dyn Error>> {
        remove_trash(&self.pile.root)
    }
}

/// Removes the trees that runs worked on.
pub(crate) fn remove_trash(root: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("trash-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Directories like those of another tree, with the same files in them: who replaces files, as all
/// do here, changes only the new tree, and no file is made, which some file systems make dear.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let mut cp = Command::new("cp");
    let status = cp.arg("-al").arg(from).arg(to).status()?;
    rustix::fs::sync();
    if status.success() { Ok(()) } else { Err("a tree cannot be copied".into()) }
}

fn damage(kinds: &Found) -> u64 {
    kinds.iter().filter(|(kind, _)| kind.is_damage()).map(|(_, count)| count).sum()
}

fn alarms(kinds: &Found) -> u64 {
    let is_good = |kind: &Kind| !kind.is_damage() && *kind != Kind::SnapshotBad;
    kinds.iter().filter(|(kind, _)| is_good(kind)).map(|(_, count)| count).sum()
}

fn tell_kinds(pile: &Pile, by_peer: &[(&str, Found)]) {
    let mut planned = Found::new();
    for message in pile.users.iter().flat_map(|user| &user.messages) {
        *planned.entry(message.kind).or_default() += 1;
    }
    print!("\n{:14} {:>8}", "kind", "planned");
    for (name, _) in by_peer {
        print!(" {name:>20}");
    }
    println!();
    for kind in Kind::ALL {
        print!("{:14} {:8}", kind.name(), planned.get(&kind).copied().unwrap_or(0));
        for (_, found) in by_peer {
            print!(" {:20}", found.get(&kind).copied().unwrap_or(0));
        }
        let is_alarm = !kind.is_damage() && kind != Kind::SnapshotBad;
        println!("{}", if is_alarm { "   false alarms" } else { "" });
    }
    println!(
        "`snapshot bad`: the live message is good, and is named or changed all the same"
    );
}
