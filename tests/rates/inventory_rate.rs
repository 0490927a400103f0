//! What importing, keeping, reading back and planning an inventory costs, beside a bare pass over
//! the same bytes: `cargo run --release --example inventory_rate -- 9000000`.
//!
//! The file of rows is written to a temporary directory first and read from there. Seconds are
//! those of the processor; the memory is the most that the process ever had, of which the file
//! is no part.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(dead_code, reason = "it uses a part of the modules only")]

#[path = "../../src/inventory_file.rs"]
mod inventory_file;

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidegate_core::gate::GatePolicy;
use tidegate_core::inventory::Inventory;
use tidegate_core::policy::{
    Cohort, Delays, Growth, Limits, Notice, Policy, Rung, Selector,
};

/// Rows when none are asked for.
const ROWS: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let rows = std::env::args().nth(1).map_or(Ok(ROWS), |rows| rows.parse())?;
    let dir = tempfile::tempdir()?;
    let csv = dir.path().join("users.csv");
    provider(rows, BufWriter::new(File::create(&csv)?))?;
    println!("{rows} rows, {} MB", fs::metadata(&csv)?.len() / 1_000_000);
    println!(
        "{:>16} {:>8} {:>8} {:>10} {:>8} {:>8}",
        "", "CPU s", "s", "us a row", "x floor", "MiB"
    );
    let mut table = Table { rows, floor: None };

    table.row("floor: lines", || count_lines(&csv))?;
    let inventory =
        table.row("import", || Ok(inventory_file::open(&csv, |file| file)?.inventory))?;
    let kept = dir.path().join("inventory");
    table.row("keep, durably", || {
        let mut file = BufWriter::new(File::create(&kept)?);
        inventory.write(&mut file)?;
        Ok(file.into_inner()?.sync_all()?)
    })?;
    let (inventory, policy) = (Arc::new(inventory), Arc::new(policy()));
    let plan =
        table.row("plan", || Ok(tidegate_core::plan::plan(&inventory, &policy)?))?;
    let again = table.row("read back", || {
        let bytes = fs::metadata(&kept)?.len();
        Ok(Inventory::read(&mut File::open(&kept)?, bytes)?)
    })?;

    println!("inventory {} {}", inventory.digest(), again.digest() == inventory.digest());
    println!(
        "plan {}, {} waves, {} jobs",
        plan.digest(),
        plan.waves().len(),
        plan.jobs().len()
    );
    println!("file {} bytes a mailbox", fs::metadata(&kept)?.len() / u64::from(rows));
    Ok(())
}

/// One pass over the bytes that looks for line ends.
fn count_lines(path: &std::path::Path) -> Result<usize, Box<dyn Error>> {
    let (mut file, mut buffer, mut lines) = (File::open(path)?, vec![0; 256 << 10], 0);
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(lines);
        };
        lines += memchr::memchr_iter(b'\n', bytes).count();
    }
}

struct Table {
    rows: u32,
    floor: Option<Duration>,
}

impl Table {
    fn row<T>(
        &mut self,
        what: &str,
        work: impl FnOnce() -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let (began, cpu) = (Instant::now(), processor_time());
        let done = work()?;
        let (took, cpu) = (began.elapsed(), processor_time().saturating_sub(cpu));
        let floor = *self.floor.get_or_insert(cpu);
        println!(
            "{what:>16} {:>8.2} {:>8.2} {:>10.3} {:>8.1} {:>8}",
            cpu.as_secs_f64(),
            took.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / f64::from(self.rows),
            cpu.as_secs_f64() / floor.as_secs_f64(),
            most_memory()? >> 10,
        );
        Ok(done)
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// KiB.
fn most_memory() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    Ok(kib.parse()?)
}

/// Two cohorts of growing waves.
fn policy() -> Policy {
    let business = Selector { tiers: vec!["business".into()], ..Selector::default() };
    let cohort = |name: &str, select| Cohort {
        name: name.into(),
        select,
        canary: 1_000,
        growth: Growth::new(300),
        wave_max: 500_000,
        delays: Delays::new(),
        expected: None,
        dial_tone: Vec::new(),
    };
    Policy {
        name: "rate".into(),
        ladder: vec![Rung {
            name: "mail".into(),
            services: vec!["imap".into()],
            soak: None,
        }],
        cohorts: vec![
            cohort("business", business),
            cohort("rest", Selector::everybody()),
        ],
        exclude: Vec::new(),
        gate: GatePolicy::default(),
        limits: Limits::default(),
        notice: Notice::default(),
        calendar: Vec::new(),
        emergency: None,
        hash_seed: "rate".into(),
    }
}

/// A provider of 24 nodes whose rows come in no order.
fn provider(rows: u32, mut csv: impl Write) -> std::io::Result<()> {
    writeln!(csv, "address,node,tier,path,size_bytes")?;
    for row in 0..rows {
        let mixed = row.wrapping_mul(2_654_435_761);
        let tier = match mixed % 10 {
            0 => "business",
            1..=3 => "paid",
            _ => "free",
        };
        let (domain, node) = (mixed % 7, mixed / 16 % 24);
        let size = u64::from(mixed % 1_009) * 1_000_003;
        writeln!(
            csv,
            "user.{mixed:x}@provider{domain}.example,stor-{node:02},{tier},\
             provider{domain}.example/user.{mixed:x},{size}",
        )?;
    }
    csv.flush()
}
