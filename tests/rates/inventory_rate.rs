//! How fast an inventory is imported and planned, beside a bare line count of the same
//! bytes: `cargo run --release --example inventory_rate -- 1000000`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(dead_code, reason = "it uses a part of the modules only")]

#[path = "../../src/inventory_file.rs"]
mod inventory_file;

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::gate::GatePolicy;
use tidegate_core::policy::{
    Cohort, Delays, Growth, Limits, Notice, Policy, Rung, Selector,
};

/// Rows when none are asked for.
const ROWS: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let rows = std::env::args().nth(1).map_or(Ok(ROWS), |rows| rows.parse())?;
    let csv = provider(rows)?;
    let bytes = csv.len();
    println!("{rows} rows, {} MB", bytes / 1_000_000);

    let start = Instant::now();
    let lines = csv.lines().count();
    report("count lines", lines, start.elapsed());

    let start = Instant::now();
    let imported = inventory_file::read("generated", csv.as_bytes())?;
    let count = usize::try_from(imported.rows)?;
    report("import", count, start.elapsed());
    println!("{:>12} {}", "inventory", imported.inventory.digest());

    let policy = Arc::new(policy());
    let inventory = Arc::new(imported.inventory);
    let start = Instant::now();
    let plan = tidegate_core::plan::plan(&inventory, &policy)?;
    report("plan", count, start.elapsed());
    println!("{:>12} {}", "plan", plan.digest());
    println!("{} waves, {} jobs", plan.waves().len(), plan.jobs().len());
    Ok(())
}

fn report(what: &str, rows: usize, took: Duration) {
    let per_second =
        u128::try_from(rows).unwrap_or(0) * 1_000_000 / took.as_micros().max(1);
    println!("{what:>12} {per_second:>12} rows/s  {took:.2?}");
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
        hash_seed: "rate".into(),
    }
}

/// A provider of 24 nodes whose rows come in no order.
fn provider(rows: u32) -> Result<String, std::fmt::Error> {
    let mut csv = String::from("address,node,tier,path,size_bytes\n");
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
            "user.name{mixed:x}@provider{domain}.example,stor-{node:02},{tier},\
             provider{domain}.example/{mixed:x}/Maildir,{size}",
        )?;
    }
    Ok(csv)
}
