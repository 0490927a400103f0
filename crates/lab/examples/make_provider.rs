//! Makes a practice provider and times it: `make_provider DIR [MAILBOXES]`.
//!
//! # Invariants
//!
//! * It prints the damage done, and how long building and recounting took.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::PathBuf;
use std::time::Instant;

use tidegate_lab::{LabSpec, Told, build, recount};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root: PathBuf = arguments.next().ok_or("which directory?")?.into();
    let mailboxes = arguments.next().map_or(Ok(1_500), |number| number.parse())?;
    let spec = LabSpec { mailboxes, ..LabSpec::default() };

    let start = Instant::now();
    let provider = build(&root, &spec, &mut |step| println!("{step}"))?;
    println!("built in {:?}\n{}", start.elapsed(), provider.damage_summary());

    let start = Instant::now();
    let recount = recount(&provider, &Told::default())?;
    println!("recounted in {:?}\n{recount}", start.elapsed());
    Ok(())
}
