//! Yardstick: the C program that says what the machine can do at best, and what others take.
//!
//! # Invariants
//!
//! * Wall, CPU and memory are what the kernel counted for the child and all of its children.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The program, compiled.
#[derive(Debug)]
pub(crate) struct Yardstick {
    pub(crate) program: PathBuf,
    dir: PathBuf,
}

/// What a program took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_kib: u64,
    pub(crate) exit: i32,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, cpu) = (self.wall.as_secs_f64(), self.cpu.as_secs_f64());
        write!(f, "{wall:7.2} s wall {cpu:7.2} s CPU {:5} MiB", self.peak_kib >> 10)
    }
}

impl Yardstick {
    /// Compiles it into `dir`, with `cc`.
    pub(crate) fn compile(dir: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(dir)?;
        let (source, program) = (dir.join("yardstick.c"), dir.join("yardstick"));
        fs::write(&source, include_str!("yardstick.c"))?;
        let mut cc = Command::new("cc");
        cc.args(["-O3", "-march=native", "-pthread", "-o"]).arg(&program).arg(&source);
        if !cc.status()?.success() {
            return Err("the yardstick cannot be compiled".into());
        }
        Ok(Self { program, dir: dir.to_owned() })
    }

    /// Runs a program, its output to `output`, and says what it took.
    pub(crate) fn measure(
        &self,
        command: &Command,
        output: &Path,
    ) -> Result<Taken, Box<dyn Error>> {
        let counts = self.dir.join("taken");
        let mut measured = Command::new(&self.program);
        measured.arg("measure").arg(&counts).arg(command.get_program());
        measured.args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            measured.current_dir(dir);
        }
        let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        measured.envs(set).stdout(fs::File::create(output)?).stderr(Stdio::inherit());
        if !measured.status()?.success() {
            return Err("the yardstick failed".into());
        }
        let text = fs::read_to_string(counts)?;
        let numbers: Vec<u64> =
            text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let &[wall, user, system, peak_kib, exit] = &*numbers else {
            return Err("five numbers were expected".into());
        };
        Ok(Taken {
            wall: Duration::from_nanos(wall),
            cpu: Duration::from_micros(user + system),
            peak_kib,
            exit: i32::try_from(exit)?,
        })
    }

    /// The floor: a bare reader of all files below `dirs` that sums their bytes.
    pub(crate) fn read(&self, dirs: &[&Path]) -> Result<Taken, Box<dyn Error>> {
        let mut command = Command::new(&self.program);
        command.arg("read").args(dirs);
        self.measure(&command, &self.dir.join("read.out"))
    }

    /// The least that anybody takes who reads both trees and compares them: no sums, nothing written.
    pub(crate) fn lean(
        &self,
        left: &Path,
        right: &Path,
    ) -> Result<Taken, Box<dyn Error>> {
        let mut command = Command::new(&self.program);
        command.arg("lean").arg(left).arg(right);
        self.measure(&command, &self.dir.join("lean.out"))
    }

    /// The floor of a restore: a bare copy and one flush.
    pub(crate) fn copy(&self, from: &Path, to: &Path) -> Result<Taken, Box<dyn Error>> {
        let mut command = Command::new(&self.program);
        command.arg("copy").arg(from).arg(to);
        self.measure(&command, &self.dir.join("copy.out"))
    }
}

/// Wall and CPU of several runs, with their ratio to the floor run just before each.
#[derive(Debug, Default)]
pub(crate) struct Laps(Vec<(Taken, Taken)>);

impl Laps {
    pub(crate) fn add(&mut self, taken: Taken, floor: Taken) {
        self.0.push((taken, floor));
    }

    /// Best and middle wall, middle CPU, and the middle ratios to the floor.
    pub(crate) fn line(&self) -> String {
        let middle = |value: &dyn Fn(&(Taken, Taken)) -> f64| {
            let mut values: Vec<f64> = self.0.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let best = self.0.iter().map(|(it, _)| it.wall).min().unwrap_or_default();
        let peak = self.0.iter().map(|(it, _)| it.peak_kib).max().unwrap_or_default();
        format!(
            "{:7.2} {:7.2} {:7.2} {:6.2} {:6.2} {:6}",
            best.as_secs_f64(),
            middle(&|(it, _)| it.wall.as_secs_f64()),
            middle(&|(it, _)| it.cpu.as_secs_f64()),
            middle(&|(it, floor)| it.wall.as_secs_f64() / floor.wall.as_secs_f64()),
            middle(&|(it, floor)| it.cpu.as_secs_f64() / floor.cpu.as_secs_f64()),
            peak >> 10,
        )
    }

    /// What the columns of [`Laps::line`] are.
    pub(crate) const HEAD: &'static str = "   best  median     CPU  x wall  x CPU    MiB";
}

/// Drops the page cache, or says why not.
pub(crate) fn drop_caches() -> Result<(), Box<dyn Error>> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(|error| {
        format!("cold runs need a root's right to drop caches: {error}")
    })?;
    Ok(())
}
