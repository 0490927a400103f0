//! Child: a test that runs in a process of its own, as somebody else or with other memory.
//!
//! # Invariants
//!
//! * A child that fails fails the test, with all that it said.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Tells a test that it is the child.
const IS_CHILD: &str = "TIDEGATE_TEST_CHILD";

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
        let dir = tempfile::tempdir().unwrap();
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
