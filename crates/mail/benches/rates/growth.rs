//! Growth: what a store costs as it grows: memory of one huge mailbox, time per file.
//!
//! # Invariants
//!
//! * Messages are small, so that what is measured is the cost of a message, not of its bytes.
//! * One live message in a thousand is cut, and all of them must be reported as repaired.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::engine::Order;
use crate::yardstick::{Taken, Yardstick, drop_caches};

/// One message in so many is damaged.
const DAMAGED: usize = 1000;

/// The shapes of the curve, mailboxes and messages of each: many mailboxes, then one; the largest is
/// that of [`memory`] too.
const CURVE: [(usize, usize); 6] =
    [(10, 500), (100, 500), (1_000, 500), (1, 5_000), (1, 50_000), (1, 1_000_000)];

/// The peak of one process that prepares one mailbox of `messages`.
pub(crate) fn memory(dir: &Path, messages: usize) -> Result<(), Box<dyn Error>> {
    let yardstick = Yardstick::compile(&dir.join("bin"))?;
    let field = Field::make(dir, (1, messages))?;
    let (floor, taken) = field.measure(&yardstick, false)?;
    println!("one mailbox of {messages} messages, on both sides:");
    println!("floor     {floor}");
    println!("tidegate  {taken}   {:.0} bytes of memory a message", field.memory(&taken));
    field.remove_runs()
}

/// Time per file as the number of files grows, in many mailboxes and in one.
pub(crate) fn curve(dir: &Path, cold: bool) -> Result<(), Box<dyn Error>> {
    let yardstick = Yardstick::compile(&dir.join("bin"))?;
    println!("    files mailboxes   wall us   CPU us   x wall    x CPU     MiB");
    for (mailboxes, messages) in CURVE {
        let field = Field::make(dir, (mailboxes, messages))?;
        let (floor, taken) = field.measure(&yardstick, cold)?;
        let files = mailboxes * messages * 2;
        let count = u32::try_from(files).map_or(1.0, f64::from);
        let (wall, cpu) = (taken.wall.as_secs_f64(), taken.cpu.as_secs_f64());
        println!(
            "{files:9} {mailboxes:9} {:9.2} {:8.2} {:8.2} {:8.2} {:7}",
            wall * 1e6 / count,
            cpu * 1e6 / count,
            wall / floor.wall.as_secs_f64(),
            cpu / floor.cpu.as_secs_f64(),
            taken.peak_kib >> 10,
        );
        field.remove_runs()?;
    }
    println!("wall and CPU are of one file of either side");
    Ok(())
}

/// Mailboxes of equal size.
struct Field {
    root: PathBuf,
    mailboxes: usize,
    messages: usize,
}

impl Field {
    /// Writes both sides, unless they are there already.
    fn make(
        dir: &Path,
        (mailboxes, messages): (usize, usize),
    ) -> Result<Self, Box<dyn Error>> {
        let root = dir.join(format!("field-{mailboxes}x{messages}"));
        let field = Self { root, mailboxes, messages };
        let done = field.root.join("made");
        if done.exists() {
            return Ok(field);
        }
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            // Both sides of a mailbox are two pieces of work.
            let work = || -> io::Result<()> {
                loop {
                    let piece = next.fetch_add(1, Ordering::Relaxed);
                    if piece >= mailboxes * 2 {
                        return Ok(());
                    }
                    let side = if piece.is_multiple_of(2) { "snapshot" } else { "live" };
                    field.write(piece / 2, side)?;
                }
            };
            let hands: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
            let failed = |_| io::Error::other("a thread panicked");
            hands.into_iter().try_for_each(|hand| hand.join().map_err(failed)?)
        })?;
        let mut list = String::new();
        for mailbox in 0..mailboxes {
            writeln!(list, "m{mailbox}@example.org\tm{mailbox}/Maildir")?;
        }
        fs::write(field.root.join("mailboxes.tsv"), list)?;
        rustix::fs::sync();
        fs::write(done, "")?;
        Ok(field)
    }

    /// Prepares everything once in a process of its own, after a floor run.
    fn measure(
        &self,
        yardstick: &Yardstick,
        cold: bool,
    ) -> Result<(Taken, Taken), Box<dyn Error>> {
        self.damage()?;
        let live = self.root.join("live");
        let order = Order {
            live: live.clone(),
            snapshot: self.root.join("snapshot"),
            work: self.root.join("trash-work"),
            list: self.root.join("mailboxes.tsv"),
            prefix: String::new(),
            report: self.root.join("report.tsv"),
        };
        if cold {
            drop_caches()?;
        }
        let floor = yardstick.read(&[&order.snapshot, &live])?;
        if cold {
            drop_caches()?;
        }
        let taken =
            yardstick.measure(&order.command()?, &self.root.join("engine.out"))?;
        let report = fs::read_to_string(&order.report)?;
        let repaired = format!("repaired\t{}\n", self.damaged());
        if taken.exit != 0 || !report.contains(&repaired) {
            return Err(format!("not everything was repaired:\n{report}").into());
        }
        Ok((floor, taken))
    }

    /// Cuts one live message in a thousand; earlier runs have repaired them.
    fn damage(&self) -> io::Result<()> {
        for mailbox in 0..self.mailboxes {
            let maildir = self.root.join("live").join(format!("m{mailbox}/Maildir"));
            for number in (0..self.messages).step_by(DAMAGED) {
                let (base, mut mail) = message(mailbox, number);
                mail.truncate(mail.len() / 2);
                let cut = self.root.join("cut");
                fs::write(&cut, mail)?;
                fs::rename(cut, maildir.join(format!("cur/{base}:2,S")))?;
            }
        }
        rustix::fs::sync();
        Ok(())
    }

    fn damaged(&self) -> usize {
        self.mailboxes * self.messages.div_ceil(DAMAGED)
    }

    fn memory(&self, taken: &Taken) -> f64 {
        let messages = u32::try_from(self.mailboxes * self.messages);
        let bytes = u32::try_from(taken.peak_kib).map_or(0.0, f64::from) * 1024.0;
        bytes / messages.map_or(1.0, f64::from)
    }

    fn remove_runs(&self) -> Result<(), Box<dyn Error>> {
        crate::verify::remove_trash(&self.root)
    }

    fn write(&self, mailbox: usize, side: &str) -> io::Result<()> {
        let maildir = self.root.join(side).join(format!("m{mailbox}/Maildir"));
        for sub in ["cur", "new", "tmp"] {
            fs::create_dir_all(maildir.join(sub))?;
        }
        let next = self.messages + 1;
        let mut list = format!("3 V1761955200 N{next} G{mailbox:032x}\n");
        for number in 0..self.messages {
            let (base, mail) = message(mailbox, number);
            let _ = writeln!(list, "{} :{base}", number + 1);
            fs::write(maildir.join(format!("cur/{base}:2,S")), mail)?;
        }
        fs::write(maildir.join("dovecot-uidlist"), list)
    }
}

/// Base name and text of a small message.
fn message(mailbox: usize, number: usize) -> (String, String) {
    let mut mail = format!(
        "Delivered-To: m{mailbox}@example.org\nFrom: a@sender.example\n\
         To: m{mailbox}@example.org\nSubject: {number}\n\
         Message-ID: <{number}.{mailbox}@sender.example>\n\
         Date: Sat, 1 Nov 2025 00:00:00 +0000\n\n"
    );
    for line in 0..number % 8 + 2 {
        let _ = writeln!(mail, "Line {line} of message {number}, which is short.");
    }
    let (size, feeds) = (mail.len(), mail.lines().count());
    let base = format!(
        "{}.M{}P{}.mx1,S={size},W={}",
        1_761_955_200 + number,
        number % 1_000_000,
        number % 32_000,
        size + feeds
    );
    (base, mail)
}
