//! Dovecot 2.4 as Debian 13 ships it, in a root directory of its own.
//!
//! Debian 12 has no 2.4, so the test command makes a Debian 13 beside it, once.
//!
//! # Invariants
//!
//! * Without such a root, or without being root, nothing is tested, and that is said; with
//!   it, everything is.
//! * All files are in one directory below the root's `/tmp`, which goes with the value.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::dovecot::{API_KEY, DovecotPorts, MASTER, MASTER_PASSWORD, PASSWORD, UP};
use crate::keeper::{Keeper, hand_over, wait_until};
use crate::shipped::Place;
use crate::talk::PATIENCE;

/// The environment variable that names the root directory of a Debian 13.
pub const DEBIAN_13_ROOT: &str = "TIDEGATE_DOVECOT24";

/// Where the test command makes one.
const USUAL_ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debian-13");

/// The root directory of a Debian 13, if there is one that can be used: changing to it takes
/// root.
pub fn debian_13_root() -> Option<PathBuf> {
    let named = std::env::var_os(DEBIAN_13_ROOT).map(PathBuf::from);
    let has_dovecot =
        |root: &Path| root.join("usr/lib/dovecot/modules/auth/libauthdb_lua.so").exists();
    match named {
        Some(root) => {
            assert!(
                has_dovecot(&root),
                "{DEBIAN_13_ROOT}: no Dovecot in {}",
                root.display()
            );
            Some(root)
        }
        None if rustix::process::geteuid().is_root() => {
            fs::canonicalize(USUAL_ROOT).ok().filter(|root| has_dovecot(root))
        }
        None => None,
    }
}

/// A Dovecot 2.4. It is stopped when the value goes.
#[derive(Debug)]
pub struct Debian13 {
    keeper: Option<Keeper>,
    ports: DovecotPorts,
    relay: u16,
    root: PathBuf,
    dir: TempDir,
}

impl Debian13 {
    /// One with its directory and ports, not started yet.
    pub fn prepare(root: PathBuf, users: &[&str], relay: u16) -> Self {
        let dir =
            tempfile::Builder::new().prefix("rig").tempdir_in(root.join("tmp")).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["run", "mail"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let users = users.join(&format!(":{{PLAIN}}{PASSWORD}\n"));
        let users = format!("{users}:{{PLAIN}}{PASSWORD}\n");
        fs::write(dir.path().join("users"), users).unwrap();
        let master = format!("{MASTER}:{{PLAIN}}{MASTER_PASSWORD}\n");
        fs::write(dir.path().join("masters"), master).unwrap();
        hand_over(dir.path());
        let ports = DovecotPorts::free();
        Self { keeper: None, ports, relay, root, dir }
    }

    /// Starts it with these lines before its own passdbs and userdbs.
    pub fn start(&mut self, config: &str) {
        let ports = self.ports;
        let mut text = include_str!("debian13.conf").to_owned();
        for (blank, value) in [
            ("dir", self.dir_inside()),
            ("relay", self.relay.to_string()),
            ("api_key", API_KEY.to_owned()),
            ("imap", ports.imap.to_string()),
            ("pop3", ports.pop3.to_string()),
            ("submission", ports.submission.to_string()),
            ("sieve", ports.sieve.to_string()),
            ("lmtp", ports.lmtp.to_string()),
        ] {
            text = text.replace(&format!("@{blank}@"), &value);
        }
        fs::write(self.dir().join("dovecot.conf"), text).unwrap();
        fs::write(self.dir().join("added.conf"), config).unwrap();
        hand_over(self.dir());
        let command =
            ["--userspec=mail:mail", self.root.to_str().unwrap(), "dovecot", "-F"];
        let config = format!("{}/dovecot.conf", self.dir_inside());
        let arguments = [&command[..], &["-c", &config]].concat();
        let heard = self.log().len();
        let keeper = Keeper::start_as_is("chroot", &arguments, &self.dir().join("says"));
        let up = || self.log().get(heard..).is_some_and(|news| news.contains(UP));
        let up = wait_until(PATIENCE, || up() || !keeper.lives());
        assert!(up && keeper.lives(), "dovecot does not start:\n{}", self.log());
        self.keeper = Some(keeper);
    }

    /// Stops it; connections end.
    pub fn stop(&mut self) {
        self.keeper = None;
    }

    /// Where it listens. Webmail, doveadm and statistics do so with the gate's lines alone.
    pub fn ports(&self) -> DovecotPorts {
        self.ports
    }

    /// Its directory, as everybody sees it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its directory, as it sees it itself.
    pub fn dir_inside(&self) -> String {
        let inside = self.dir.path().strip_prefix(&self.root).unwrap();
        format!("/{}", inside.display())
    }

    /// The root directory that it runs in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts the files that we ship into its directory; see [`crate::Dovecot::gate`].
    pub fn gate(&self, admission: u16) -> String {
        let place = Place {
            lines: "tidegate-2.4.conf",
            dir: self.dir(),
            inside: &self.dir_inside(),
            ports: self.ports,
        };
        place.install(admission)
    }

    /// Runs `doveadm` beside it.
    ///
    /// # Errors
    ///
    /// What it printed, when it failed.
    pub fn doveadm(&self, arguments: &[&str]) -> Result<String, String> {
        let config = format!("{}/dovecot.conf", self.dir_inside());
        let mut command = Command::new("chroot");
        command.arg("--userspec=mail:mail").arg(&self.root);
        command.args(["doveadm", "-c", &config]).args(arguments);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.dir().join(name)).unwrap_or_default();
        read("says") + &read("dovecot.log")
    }
}
