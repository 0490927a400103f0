//! Keeper: one server's processes, from its start to the end of the last of them.
//!
//! # Invariants
//!
//! * The server is a process group of its own, and the whole group is gone when its keeper
//!   is.
//! * The kernel ends the server when this process dies, however it dies.
//! * No server runs as root: as root, it is started as Debian's user for mail.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, test_kill_process_group,
};

/// How long a server may take to end before all of it is killed. Dovecot's helpers may hang
/// for seconds when it stops soon after it started; what it has acknowledged is on disk.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait until nothing is left of what was killed: it does no more harm, and some
/// machines' first process buries the dead slowly.
const BURIAL: Duration = Duration::from_millis(300);

/// Between two looks at something that gives no sign itself.
const LOOK: Duration = Duration::from_millis(2);

/// Looks after a server's processes. They are gone when it is.
#[derive(Debug)]
pub struct Keeper {
    group: Pid,
    /// Spawned the server, because the kernel ends a child with the thread that made it.
    thread: Option<JoinHandle<ExitStatus>>,
}

/// Whom servers run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailUser {
    /// The user's name.
    pub name: String,
    /// The group's name.
    pub group: String,
}

impl Keeper {
    /// Starts `program` as the user for mail; what it prints goes into the file `says`.
    pub fn start(program: &str, arguments: &[&str], says: &Path) -> Self {
        Self::spawn(MailUser::command(program, arguments), says)
    }

    /// Starts `program` as whoever runs the test, for servers that must be root to start
    /// and give that up themselves.
    pub fn start_as_is(program: &str, arguments: &[&str], says: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", program]).args(arguments);
        Self::spawn(command, says)
    }

    fn spawn(mut command: Command, says: &Path) -> Self {
        let says = File::options().create(true).append(true).open(says).unwrap();
        command.stdin(Stdio::null()).stdout(says.try_clone().unwrap()).stderr(says);
        command.process_group(0);
        let (born, is_born) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let mut child = command.spawn().unwrap_or_else(|error| {
                panic!("{command:?}: {error}; apt-get install util-linux")
            });
            born.send(child.id()).unwrap();
            child.wait().unwrap()
        });
        let pid = is_born.recv().expect("the server was spawned");
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
        Self { group, thread: Some(thread) }
    }

    /// Whether its first process still runs.
    pub fn lives(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The first process.
    pub fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Sends a signal to the first process, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.lives() {
            let _ = kill_process(self.group, signal);
        }
    }

    /// Ends all of it at once, as a machine does that loses its power.
    pub fn kill(mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !thread.is_finished() {
            let _ = kill_process(self.group, Signal::TERM);
        }
        if !wait_until(FAREWELL, || thread.is_finished()) {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
        let _ = thread.join();
        let gone = || test_kill_process_group(self.group).is_err();
        if !wait_until(FAREWELL, gone) {
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = wait_until(BURIAL, gone);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

impl MailUser {
    /// A command that runs as this user and dies with the thread that spawns it.
    pub fn command(program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            let Self { name, group } = mail_user();
            command.args(["--reuid", &name, "--regid", &group, "--clear-groups"]);
        }
        command.args(["--pdeathsig", "TERM", program]).args(arguments);
        command
    }
}

/// Whom servers run as: whoever runs the test, or Debian's user for mail instead of root.
pub fn mail_user() -> MailUser {
    if rustix::process::geteuid().is_root() {
        return MailUser { name: "mail".to_owned(), group: "mail".to_owned() };
    }
    let ask = |what| {
        let output = Command::new("id").arg(what).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    MailUser { name: ask("-un"), group: ask("-gn") }
}

/// Hands a tree to the user that servers run as.
pub fn hand_over(tree: &Path) {
    let MailUser { name, group } = mail_user();
    let mut chown = Command::new("chown");
    let status = chown.arg("-R").arg(format!("{name}:{group}")).arg(tree).status();
    assert!(status.unwrap().success(), "chown {}", tree.display());
}

/// A temporary directory that other users may enter.
pub fn open_directory() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("rig").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Fails when a file is not there that one of Debian's packages brings.
pub fn need(path: &str, package: &str) {
    assert!(
        Path::new(path).exists(),
        "{path} is missing, and real servers judge these tests: apt-get install {package}"
    );
}

/// Looks until something is so, for things that give no sign themselves. False when it did
/// not become so in time.
pub fn wait_until(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > patience {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_process_of_a_server_outlives_its_keeper() {
        let dir = open_directory();
        hand_over(dir.path());
        let says = dir.path().join("says");
        let script = "trap '' TERM; sleep 1000 & echo $!; wait; wait";
        let kept = Keeper::start("/bin/sh", &["-c", script], &says);
        let said = || fs::read_to_string(&says).unwrap();
        assert!(wait_until(FAREWELL * 60, || said().ends_with('\n')));
        let grandchild: i32 = said().trim().parse().unwrap();
        let grandchild = Pid::from_raw(grandchild).unwrap();
        assert!(rustix::process::test_kill_process(grandchild).is_ok());

        kept.kill();

        let gone = || rustix::process::test_kill_process(grandchild).is_err();
        assert!(wait_until(FAREWELL * 60, gone));
    }
}
