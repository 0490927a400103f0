//! Reader: may the worker's user read what the worker reads?
//!
//! The doctor runs as root, who may read everything; the worker does not.
//!
//! # Invariants
//!
//! * The kernel is asked, as that user, with his groups and on the whole way to the file; no
//!   mode is interpreted here.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The unit that the shipped files run the worker as.
const UNIT: &str = "tidegate-worker.service";

/// Who reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reader {
    user: u32,
    group: u32,
    /// All groups, by commas.
    groups: String,
}

impl Reader {
    /// The process that has this journal open; else the owner of its directory, with the
    /// groups that the machine and the shipped unit give him.
    pub(super) fn of(state_dir: &Path, process: Option<&str>) -> Option<Self> {
        if let Some(running) = process.and_then(Self::running) {
            return Some(running);
        }
        let found = fs::metadata(state_dir).ok()?;
        let mut groups = vec![found.gid().to_string()];
        groups.extend(words(Command::new("id").args(["-G", &found.uid().to_string()])));
        let show = ["show", "--property=SupplementaryGroups", "--value", UNIT];
        for name in words(Command::new("systemctl").args(show)) {
            let group = words(Command::new("getent").args(["group", &name]));
            let number = group.first().and_then(|line| line.split(':').nth(2));
            groups.extend(number.map(str::to_owned));
        }
        groups.sort();
        groups.dedup();
        let (user, group) = (found.uid(), found.gid());
        Some(Self { user, group, groups: groups.join(",") })
    }

    fn running(process: &str) -> Option<Self> {
        Self::of_status(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
    }

    /// By `/proc/PID/status`.
    fn of_status(text: &str) -> Option<Self> {
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let effective =
            |name| line(name)?.split_ascii_whitespace().nth(1)?.parse::<u32>().ok();
        let (user, group) = (effective("Uid:")?, effective("Gid:")?);
        let groups = line("Groups:")?.split_ascii_whitespace();
        let own = group.to_string();
        let mut groups: Vec<&str> = groups.chain([own.as_str()]).collect();
        groups.sort_unstable();
        groups.dedup();
        Some(Self { user, group, groups: groups.join(",") })
    }

    /// The user's number.
    pub(super) fn user(&self) -> u32 {
        self.user
    }

    /// Whether he may read a file; nothing where that cannot be tried.
    pub(super) fn may_read(&self, file: &Path) -> Option<bool> {
        if rustix::process::geteuid().as_raw() == self.user {
            return Some(File::open(file).is_ok());
        }
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &self.user.to_string(), "--regid", &self.group.to_string()])
            .args(["--groups", &self.groups, "test", "-r"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match command.status().ok()?.code()? {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        }
    }
}

/// What a tool prints, in words; nothing where it fails or is not there.
fn words(command: &mut Command) -> Vec<String> {
    let Ok(output) = command.stderr(Stdio::null()).output() else { return Vec::new() };
    if !output.status.success() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_worker_is_asked_for_its_groups() {
        let status = "Name:\ttidegate\nUid:\t5000\t5000\t5000\t5000\n\
                      Gid:\t5001\t5001\t5001\t5001\nGroups:\t4 5001 \n";

        let reader = Reader { user: 5000, group: 5001, groups: "4,5001".to_owned() };
        assert_eq!(Reader::of_status(status), Some(reader));
    }
}
