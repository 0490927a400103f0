//! Restore: bringing back what was lost and repairing what was damaged, durably, against a bare
//! copy and against peers.
//!
//! # Invariants
//!
//! * Everybody begins with the same trees and ends with everything on disk.
//! * What stands in a tree at the end is counted by reading it, whoever wrote it.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Order;
use crate::peers::Mender;
use crate::pile::{Pile, Tree};
use crate::recount::{Recount, recount};
use crate::verify::{Rules, link_tree, remove_trash};
use crate::yardstick::{Laps, Taken, Yardstick};

/// The quarter of the store that is lost.
const QUARTER: &str = "q0";

/// Runs everything and prints the tables.
pub(crate) fn restore(
    dir: &Path,
    users: usize,
    Rules { rounds, slow_peers, .. }: Rules,
) -> Result<(), Box<dyn Error>> {
    let pile = Pile::plan(&dir.join(format!("pile-{users}")), users);
    pile.make()?;
    let run = Run { yardstick: Yardstick::compile(&dir.join("bin"))?, pile, rounds };
    println!("full restore of {QUARTER}, a quarter of the store, into an empty tree");
    println!("{:30} {}", "", Laps::HEAD);
    run.full("floor: bare copy, one syncfs", &|from, to| run.yardstick.copy(from, to))?;
    run.full("tidegate", &|_, to| run.tidegate(to.parent().unwrap_or(to), QUARTER))?;
    for peer in [Mender::Cp, Mender::Rsync] {
        let mend = |from: &Path, to: &Path| {
            let command = peer.command(&run.pile, to, from);
            run.yardstick.measure(&command, &run.path("peer.out"))
        };
        run.full(peer.name(), &mend)?;
    }
    println!("\nrepair of the damaged tree (ratio to a bare read of both trees)");
    println!("{:30} {}", "", Laps::HEAD);
    run.lean()?;
    run.repair("tidegate", &|_, live| run.tidegate(live, ""))?;
    run.repair("tidegate, manifests at hand", &|_, live| {
        // As they were recorded while all was well: then the snapshot is read only for repairs.
        run.order(&run.pile.tree(Tree::Sound), &beside(live), "").command()?.status()?;
        run.tidegate(live, "")
    })?;
    run.peer(Mender::RsyncSums)?;
    for peer in Mender::SLOW.into_iter().filter(|_| slow_peers) {
        if peer.is_installed() {
            peer.make_ready(&run.pile)?;
            run.peer(peer)?;
        } else {
            println!("{:30} is not installed", peer.name());
        }
    }
    remove_trash(&run.pile.root)
}

/// Brings a live tree to what a snapshot has.
type Mend<'a> = &'a dyn Fn(&Path, &Path) -> Result<Taken, Box<dyn Error>>;

/// Makes the tree that is worked on like another one.
type Copy<'a> = &'a dyn Fn(&Path, &Path) -> Result<(), Box<dyn Error>>;

struct Run {
    yardstick: Yardstick,
    pile: Pile,
    rounds: usize,
}

impl Run {
    /// Each round: the floor into one new tree, then the contestant into another.
    fn full(&self, name: &str, mend: Mend<'_>) -> Result<(), Box<dyn Error>> {
        let from = self.pile.tree(Tree::Snapshot).join(QUARTER);
        let mut laps = Laps::default();
        let mut counted = Recount::default();
        for round in 0..self.rounds {
            let floor = self.fresh("floor", name, round)?.join(QUARTER);
            let live = self.fresh("full", name, round)?;
            let floor = self.yardstick.copy(&from, &floor)?;
            let to = live.join(QUARTER);
            if name != "tidegate" {
                fs::create_dir(&to)?;
            }
            laps.add(mend(&from, &to)?, floor);
            counted = recount(&self.pile, &live, QUARTER, Tree::Snapshot)?;
        }
        println!("{name:30} {}\n  recount: {counted}", laps.line());
        Ok(())
    }

    /// What reading and comparing alone takes: nobody who looks at both sides can be quicker.
    fn lean(&self) -> Result<(), Box<dyn Error>> {
        let trees = [Tree::Snapshot, Tree::Damaged].map(|tree| self.pile.tree(tree));
        let [snapshot, damaged] = trees.each_ref().map(PathBuf::as_path);
        let mut laps = Laps::default();
        for _ in 0..self.rounds {
            let floor = self.yardstick.read(&[snapshot, damaged])?;
            laps.add(self.yardstick.lean(snapshot, damaged)?, floor);
        }
        println!("{:30} {}", "lean reader: reads, compares", laps.line());
        println!("  both sides read and compared, nothing written");
        Ok(())
    }

    /// The slow ones differ by a factor, not by a few percent: one round. They write into files, and
    /// get a tree that shares none.
    fn peer(&self, peer: Mender) -> Result<(), Box<dyn Error>> {
        let mend = |from: &Path, live: &Path| {
            let command = peer.command(&self.pile, live, from);
            self.yardstick.measure(&command, &self.path("peer.out"))
        };
        if !Mender::SLOW.contains(&peer) {
            return self.repair(peer.name(), &mend);
        }
        let copy = |from: &Path, to: &Path| -> Result<(), Box<dyn Error>> {
            if to.exists() {
                fs::remove_dir_all(to)?;
            }
            let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
            // It works for nobody who is root.
            let owner = if peer == Mender::Dsync { "mail:mail" } else { "root:root" };
            let owned = Command::new("chown").args(["-R", owner]).arg(to).status()?;
            if copied.success() && owned.success() {
                Ok(())
            } else {
                Err("a tree cannot be copied".into())
            }
        };
        self.repair_in(peer.name(), (1, &copy), &mend)
    }

    fn repair(&self, name: &str, mend: Mend<'_>) -> Result<(), Box<dyn Error>> {
        self.repair_in(name, (self.rounds, &link_tree), mend)
    }

    fn repair_in(
        &self,
        name: &str,
        (rounds, copy): (usize, Copy<'_>),
        mend: Mend<'_>,
    ) -> Result<(), Box<dyn Error>> {
        let from = self.pile.tree(Tree::Snapshot);
        let mut laps = Laps::default();
        let mut counted = Recount::default();
        for round in 0..rounds {
            let live = self.path(&format!("trash-repair-{}-{round}", plain(name)));
            copy(&self.pile.tree(Tree::Damaged), &live)?;
            let floor = self.yardstick.read(&[&from, &live])?;
            laps.add(mend(&from, &live)?, floor);
            self.pile.is_untouched(Tree::Damaged)?;
            counted = recount(&self.pile, &live, "", Tree::Damaged)?;
        }
        println!("{name:30} {}\n  recount: {counted}", laps.line());
        Ok(())
    }

    fn order(&self, live: &Path, work: &Path, prefix: &str) -> Order {
        Order {
            live: live.to_owned(),
            snapshot: self.pile.tree(Tree::Snapshot),
            work: work.to_owned(),
            list: self.pile.list(),
            prefix: prefix.to_owned(),
            report: self.path("report.tsv"),
        }
    }

    fn tidegate(&self, live: &Path, prefix: &str) -> Result<Taken, Box<dyn Error>> {
        let order = self.order(live, &beside(live), prefix);
        let taken =
            self.yardstick.measure(&order.command()?, &self.path("engine.out"))?;
        let report = fs::read_to_string(&order.report)?;
        for line in report.lines().filter(|line| line.starts_with("refused")) {
            println!("  {line}");
        }
        if taken.exit == 0 { Ok(taken) } else { Err("the engine failed".into()) }
    }

    fn fresh(
        &self,
        what: &str,
        name: &str,
        round: usize,
    ) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.path(&format!("trash-{what}-{}-{round}", plain(name)));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.pile.root.join(name)
    }
}

/// The work directory of a live tree.
fn beside(live: &Path) -> PathBuf {
    let mut work = live.as_os_str().to_owned();
    work.push("-work");
    work.into()
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}
