//! Child: a test that runs in a process of its own, as somebody else or with other memory.
//!
//! # Invariants
//!
//! * A child that fails fails the test, with all that it said.
//! * What a run leaves that was killed, the next run removes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Tells a test that it is the child.
const IS_CHILD: &str = "TIDEGATE_TEST_CHILD";

/// What the names of directories for children begin with; the number of their process follows.
const DIR_PREFIX: &str = "tidegate-child-";

/// Held inside the child; the parent has nothing else to do.
pub(crate) struct Child;

impl Child {
    /// Runs the test named so in a process of its own; nothing in the parent.
    pub(crate) fn of(test: &str) -> Option<Self> {
        Self::with(test, |_| {})
    }

    /// The same as a user who is not root.
    pub(crate) fn unprivileged(test: &str) -> Option<Self> {
        Self::with(test, |command| {
            if rustix::process::geteuid().is_root() {
                let program = command.get_program().to_owned();
                let mut other = Command::new("setpriv");
                other.args(["--reuid", "mail", "--regid", "mail", "--clear-groups"]);
                other.arg(program);
                *command = other;
            }
        })
    }

    /// The same with a changed command.
    pub(crate) fn with(test: &str, change: impl FnOnce(&mut Command)) -> Option<Self> {
        if std::env::var_os(IS_CHILD).is_some() {
            return Some(Self);
        }
        let dir = directory();
        // Nobody else need be able to enter the directory of the build.
        let program = dir.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(dir.path(), open).unwrap();
        let mut command = Command::new(program);
        change(&mut command);
        command.args([test, "--exact", "--nocapture"]).env(IS_CHILD, "yes");
        command.env("TMPDIR", dir.path());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "no test is named {test}: {said}");
        for line in said.lines().filter(|line| line.contains(" KiB at most")) {
            println!("{line}");
        }
        None
    }
}

/// A new directory for a child. Those of runs that are over are removed.
fn directory() -> TempDir {
    let all = std::env::temp_dir();
    for entry in fs::read_dir(&all).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(DIR_PREFIX).and_then(|it| it.split('-').next());
        if process.is_some_and(|it| !Path::new("/proc").join(it).exists()) {
            // Another run may be removing it as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{DIR_PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(all).unwrap()
}
