//! Engine: Tidegate's own part of a run, in a process of its own so that it can be counted.
//!
//! # Invariants
//!
//! * It works as a worker does: batches of mailboxes, a few threads, everything durable.
//! * What it tells of single messages goes to a file, so that another program can count.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tidegate_mail::{Mailbox, PrepareTask, Prepared, Refusal, Store, StoreConfig};

/// Mailboxes of one call, as a worker takes them. Twice as many would save half of the flushes, a
/// hundredth of the CPU; but what is in hand when a worker is told to stop would be twice as much.
const BATCH: usize = 24;

/// Calls at once, as a worker of two cores makes them.
const HANDS: usize = 2;

/// What one process is to prepare.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) live: PathBuf,
    pub(crate) snapshot: PathBuf,
    pub(crate) work: PathBuf,
    /// Address and path, one mailbox in a line.
    pub(crate) list: PathBuf,
    /// Only paths that begin so.
    pub(crate) prefix: String,
    /// Where to tell of single messages.
    pub(crate) report: PathBuf,
}

impl Order {
    /// The command that carries it out in another process.
    pub(crate) fn command(&self) -> Result<Command, Box<dyn Error>> {
        fs::create_dir_all(&self.work)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("engine").args([&self.live, &self.snapshot, &self.work, &self.list]);
        command.arg(&self.prefix).arg(&self.report);
        Ok(command)
    }

    /// What stood on the command line.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let [live, snapshot, work, list, prefix, report] = arguments else {
            return Err("an order has six parts".into());
        };
        Ok(Self {
            live: live.into(),
            snapshot: snapshot.into(),
            work: work.into(),
            list: list.into(),
            prefix: prefix.clone(),
            report: report.into(),
        })
    }

    /// Prepares every mailbox once.
    pub(crate) fn carry_out(&self) -> Result<(), Box<dyn Error>> {
        let mailboxes = self.mailboxes()?;
        let store = Store::open(StoreConfig {
            live: self.live.clone(),
            snapshot: Some(self.snapshot.clone()),
            work: self.work.clone(),
            file_size_max: 1 << 30,
        })?;
        let (job, generation, holder) = (1, 1, "rates");
        store.claim(job, generation, holder)?;
        let batches: Vec<&[Mailbox]> = mailboxes.chunks(BATCH).collect();
        let next = AtomicUsize::new(0);
        let report = Mutex::new(Report::create(&self.report)?);
        thread::scope(|scope| {
            let work = || -> Result<(), String> {
                while let Some(mailboxes) =
                    batches.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let task = PrepareTask { job, generation, holder, mailboxes };
                    let done = store.prepare(&task).map_err(|error| error.to_string())?;
                    let mut report =
                        report.lock().unwrap_or_else(PoisonError::into_inner);
                    for (mailbox, result) in mailboxes.iter().zip(done) {
                        report.tell(mailbox, &result).map_err(|it| it.to_string())?;
                    }
                }
                Ok(())
            };
            let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(work)).collect();
            let failed = |_| "a thread panicked".to_owned();
            hands.into_iter().try_for_each(|hand| hand.join().map_err(failed)?)
        })?;
        report.into_inner().unwrap_or_else(PoisonError::into_inner).end()
    }

    fn mailboxes(&self) -> Result<Vec<Mailbox>, Box<dyn Error>> {
        let list = fs::read_to_string(&self.list)?;
        let mut mailboxes = Vec::new();
        for (key, line) in (1..).zip(list.lines()) {
            let (address, path) = line.split_once('\t').ok_or("address and path")?;
            if path.starts_with(&self.prefix) {
                let (address, path) = (address.to_owned(), path.as_bytes().to_vec());
                mailboxes.push(Mailbox { key, address, path, served: false });
            }
        }
        Ok(mailboxes)
    }
}

/// One line for each message that is not served or in doubt, and the sums.
struct Report {
    file: std::io::BufWriter<fs::File>,
    bytes_read: u64,
    counts: [u64; 7],
}

impl Report {
    fn create(path: &Path) -> Result<Self, Box<dyn Error>> {
        let file = std::io::BufWriter::new(fs::File::create(path)?);
        Ok(Self { file, bytes_read: 0, counts: [0; 7] })
    }

    fn tell(
        &mut self,
        mailbox: &Mailbox,
        result: &Result<Prepared, Refusal>,
    ) -> std::io::Result<()> {
        let address = &mailbox.address;
        let prepared = match result {
            Ok(prepared) => prepared,
            Err(refusal) => {
                return writeln!(self.file, "refused\t{address}\t\t\t{refusal}");
            }
        };
        for it in prepared.set_aside.iter().chain(&prepared.doubts) {
            let (kind, cause) = (it.kind().code(), it.cause.code());
            let (folder, name) = (&it.folder, &it.name);
            writeln!(self.file, "{kind}\t{address}\t{folder}\t{name}\t{cause}")?;
        }
        self.bytes_read += prepared.bytes_read;
        let counts = prepared.counts;
        let counts = [
            counts.intact,
            counts.repaired,
            counts.returned,
            counts.newer,
            counts.deleted,
            counts.set_aside,
            counts.lost,
        ];
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum += count;
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Box<dyn Error>> {
        let words =
            ["intact", "repaired", "returned", "newer", "deleted", "aside", "lost"];
        for (word, count) in words.iter().zip(self.counts) {
            writeln!(self.file, "sum\t\t\t{word}\t{count}")?;
        }
        writeln!(self.file, "sum\t\t\tbytes_read\t{}", self.bytes_read)?;
        Ok(self.file.flush()?)
    }
}
