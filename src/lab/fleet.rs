//! Fleet: the programs of the lab, one process each.
//!
//! # Invariants
//!
//! * No program outlives the fleet: dropping it kills them, and each of them stops when its
//!   stdin ends, which it does even if the lab itself is killed.
//! * A program that ends by itself is noticed and ends the lab, with the end of its log.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tidegate_lab::NodeDirs;

use crate::daemon::{forget_address, wait_for_address};
use crate::exit::{Exit, Failure};

/// How long a coordinator may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long programs may take to stop in order before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How often a program that was asked to stop is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a log that are shown when its program has ended.
const LOG_LINES_SHOWN: usize = 12;
/// The name of the coordinator among the programs.
const COORDINATOR: &str = "coordinator";

/// The running programs.
pub(super) struct Fleet {
    home: PathBuf,
    programs: BTreeMap<String, Program>,
}

/// One program.
struct Program {
    verb: &'static str,
    config: PathBuf,
    log: PathBuf,
    child: Child,
    memory_kib: u64,
}

impl Fleet {
    /// No programs yet, in this directory.
    pub(super) fn new(home: &Path) -> Self {
        Self { home: home.to_owned(), programs: BTreeMap::new() }
    }

    /// Starts the coordinator, then a worker for each node. Returns the coordinator's URL.
    ///
    /// # Errors
    ///
    /// When a program does not start.
    pub(super) async fn start(&mut self, nodes: &[NodeDirs]) -> Result<String, Failure> {
        let data_dir = self.home.join(COORDINATOR);
        fs::create_dir_all(&data_dir).context("create the coordinator's directory")?;
        forget_address(&data_dir)?;
        self.write_coordinator(&data_dir, "127.0.0.1:0")?;
        self.launch(COORDINATOR, COORDINATOR)?;
        let listening =
            tokio::time::timeout(START_LIMIT, wait_for_address(&data_dir)).await;
        let Ok(address) = listening else {
            self.check()?;
            return Err(Failure::text(
                Exit::Failed,
                "the coordinator does not start to listen",
            ));
        };
        // A restart must come back where its workers look for it.
        self.write_coordinator(&data_dir, &address)?;
        let url = format!("http://{address}");
        for node in nodes {
            self.write_worker(node, &url)?;
            self.launch(&node.name, "worker")?;
        }
        Ok(url)
    }

    /// Fails if a program has ended by itself; else notes how much memory each has.
    ///
    /// # Errors
    ///
    /// With the end of the program's log.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        for (name, program) in &mut self.programs {
            program.measure();
            let ended = program.child.try_wait().context("look at a program")?;
            if let Some(status) = ended {
                let text =
                    format!("the program of {name} has ended by itself ({status})");
                let log = format!("the end of its log:\n{}", tail(&program.log));
                return Err(Failure::text(Exit::Failed, text).help(log));
            }
        }
        Ok(())
    }

    /// How many programs there are.
    pub(super) fn len(&self) -> usize {
        self.programs.len()
    }

    /// Kills the program at this place with SIGKILL and starts it again.
    ///
    /// # Errors
    ///
    /// When it cannot be started again.
    pub(super) fn kill_and_restart(&mut self, place: usize) -> Result<String, Failure> {
        let Some((name, program)) = self.programs.iter_mut().nth(place) else {
            return Ok(String::new());
        };
        program.measure();
        program.end();
        program.child = spawn(program.verb, &program.config, &program.log)?;
        Ok(name.clone())
    }

    /// Stops the workers in order.
    pub(super) async fn stop_workers(&mut self) {
        self.stop_where(|name| name != COORDINATOR).await;
    }

    /// Stops everything in order.
    pub(super) async fn stop(&mut self) {
        self.stop_where(|_| true).await;
    }

    /// The peak memory of each program, on one line.
    pub(super) fn memory(&self) -> String {
        let mut out = String::new();
        for (name, program) in &self.programs {
            let comma = if out.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(out, "{comma}{name} {} MiB", program.memory_kib / 1_024);
        }
        out
    }

    async fn stop_where(&mut self, chosen: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + STOP_LIMIT;
        for (name, program) in &mut self.programs {
            if chosen(name) {
                program.measure();
                // One that is gone already needs no signal.
                let _ = kill_process(Pid::from_child(&program.child), Signal::TERM);
            }
        }
        for (name, program) in &mut self.programs {
            if !chosen(name) {
                continue;
            }
            while matches!(program.child.try_wait(), Ok(None))
                && Instant::now() < deadline
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            program.end();
        }
    }

    fn launch(&mut self, name: &str, verb: &'static str) -> Result<(), Failure> {
        let config = self.home.join(format!("{name}.toml"));
        let log = self.home.join(format!("{name}.log"));
        let child = spawn(verb, &config, &log)?;
        let program = Program { verb, config, log, child, memory_kib: 0 };
        self.programs.insert(name.to_owned(), program);
        Ok(())
    }

    fn write_coordinator(&self, data_dir: &Path, listen: &str) -> anyhow::Result<()> {
        self.write(COORDINATOR, &[("data_dir", &text(data_dir)), ("listen", listen)])
    }

    fn write_worker(&self, node: &NodeDirs, url: &str) -> anyhow::Result<()> {
        let state_dir = self.home.join("state").join(&node.name);
        self.write(
            &node.name,
            &[
                ("node", &node.name),
                ("coordinator", url),
                ("state_dir", &text(&state_dir)),
                ("live", &text(&node.live)),
                ("snapshot", &text(&node.snapshot)),
                ("work", &text(&node.work)),
                ("format", "maildir"),
                // Any free port: nobody asks the lab's admission by a fixed one.
                ("admission_listen", "127.0.0.1:0"),
            ],
        )
    }

    fn write(&self, name: &str, config: &[(&str, &str)]) -> anyhow::Result<()> {
        let path = self.home.join(format!("{name}.toml"));
        let lines =
            config.iter().map(|(key, value)| format!("{key} = {}\n", quoted(value)));
        fs::write(&path, lines.collect::<String>())
            .with_context(|| format!("write `{}`", path.display()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.programs.values_mut().for_each(Program::end);
    }
}

impl Program {
    /// Makes sure that it does not run any more.
    fn end(&mut self) {
        // One that has ended cannot be killed, and one that was waited for not again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn measure(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let peak = status.ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.split_whitespace().next()?.parse().ok()
        });
        self.memory_kib = self.memory_kib.max(peak.unwrap_or(0));
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A text as TOML writes it; JSON does so, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn spawn(verb: &str, config: &Path, log: &Path) -> Result<Child, Failure> {
    let program = std::env::current_exe().context("find this program")?;
    let open = || File::options().create(true).append(true).open(log);
    let log_file = open().with_context(|| format!("open `{}`", log.display()))?;
    let child = Command::new(program)
        .arg(verb)
        .arg("--config")
        .arg(config)
        .arg("--stop-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log_file)
        // Ctrl-C is for the lab, which stops its programs in order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("start the {verb}"))?;
    Ok(child)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
    let shown: Vec<&str> = lines.into_iter().skip(from).collect();
    shown.join("\n")
}
