//! The Debian packages: made, installed into a Debian 13 root, used for a whole night, upgraded,
//! removed, purged.
//!
//! # Invariants
//!
//! * The root is a copy, and goes with the test; nothing is installed on this machine.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may say no more than that it failed"
)]

#[path = "night/programs.rs"]
mod programs;
#[path = "night/site.rs"]
mod site;
#[path = "night/walk.rs"]
mod walk;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidegate_rig::{DEBIAN_13_ROOT, debian_13_root, need, wait_until};

const PACKAGES: [&str; 4] =
    ["tidegate", "tidegate-coordinator", "tidegate-worker", "tidegate-mx"];

/// What is not copied: it changes under other tests, or is the kernel's.
const SHARED: [&str; 4] = ["tmp", "run", "proc", "sys"];

/// Longer than a coordinator takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn packages_are_installed_used_upgraded_and_removed_and_start_nothing() {
    let Some(plain) = debian_13_root() else {
        assert!(
            !rustix::process::getuid().is_root(),
            "no Debian 13 in {DEBIAN_13_ROOT}: .ci/test makes one"
        );
        return;
    };
    let desk = TempDir::new().unwrap();
    let packages = build(desk.path());
    assert_lintian_finds_nothing(&packages);
    let root = Root::copy(&plain, desk.path());

    root.install(&packages);
    for page in
        ["man1/tidegate.1.gz", "man1/tidegate-pause.1.gz", "man7/tidegate-codes.7.gz"]
    {
        assert!(root.path(&format!("usr/share/man/{page}")).exists(), "{page}");
    }
    for catalogue in ["tidegate.catalog", "tidegate.it.catalog"] {
        let file = root.path(&format!("usr/lib/systemd/catalog/{catalogue}"));
        assert!(file.exists(), "{catalogue}");
    }
    for document in
        ["tidegate.status.v1.json", "tidegate.finding.v1.json", "policy.toml.json"]
    {
        let file = root.path(&format!("usr/share/tidegate/schema/{document}"));
        assert!(file.exists(), "{document}");
    }
    for service in ["coordinator", "worker", "mx"] {
        let unit = format!("usr/lib/systemd/system/tidegate-{service}.service");
        assert!(root.path(&unit).exists(), "{unit}");
        let config = root.path(&format!("etc/tidegate/{service}.toml"));
        assert!(config.exists(), "{}", config.display());
    }
    assert!(!root.has_enabled_units(), "a package has enabled a unit");
    let users = fs::read_to_string(root.path("etc/passwd")).unwrap();
    assert!(users.contains("\ntidegate:"), "{users}");
    let version = root.run(&["tidegate", "--version"]);
    assert!(text(&version.stdout).starts_with("tidegate 0."), "{version:?}");

    root.walk_through_a_night();

    // What the operator edits survives an upgrade, and what runs goes on running.
    let config = root.path("etc/tidegate/coordinator.toml");
    let edited =
        "data_dir = \"/var/lib/tidegate/coordinator\"\nlisten = \"127.0.0.1:0\"\n";
    fs::write(&config, edited).unwrap();
    let mut coordinator = root.start_coordinator();
    assert_eq!(root.ask("/readyz"), "ready\n");
    root.install(&packages);
    assert_eq!(fs::read_to_string(&config).unwrap(), edited);
    assert!(
        coordinator.0.try_wait().unwrap().is_none(),
        "an upgrade ended the coordinator"
    );
    assert_eq!(root.ask("/livez"), "alive\n");
    coordinator.end();

    root.dpkg("--remove");
    assert!(!root.path("usr/bin/tidegate").exists());
    assert_eq!(fs::read_to_string(&config).unwrap(), edited);
    root.dpkg("--purge");
    assert!(!config.exists());
    assert!(
        root.path("var/lib/tidegate/coordinator/journal").exists(),
        "the record is gone"
    );
}

/// Makes the packages from the program that is tested.
fn build(desk: &Path) -> Vec<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    let built = program.parent().unwrap();
    let profile = match built.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        named => named,
    };
    let into = desk.join("packages");
    let made = Command::new("deploy/debian/build")
        .args(["--no-build", "--profile", profile])
        .arg(&into)
        .env("CARGO_TARGET_DIR", built.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let packages: Vec<_> =
        fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(packages.len(), PACKAGES.len(), "{packages:?}");
    packages
}

/// Asks Debian's own judge of packages. What is overridden has its reason in `deploy/debian/overrides`.
fn assert_lintian_finds_nothing(packages: &[PathBuf]) {
    need("/usr/bin/lintian", "lintian");
    let judged = Command::new("lintian")
        .args(["--allow-root", "--no-cfg", "--fail-on", "error,warning"])
        .args(packages)
        .output()
        .unwrap();
    let said = text(&judged.stdout) + &text(&judged.stderr);
    assert!(judged.status.success(), "{said}");
}

/// A Debian of its own.
struct Root(PathBuf);

impl Root {
    fn copy(plain: &Path, desk: &Path) -> Self {
        let root = desk.join("root");
        fs::create_dir_all(root.join("tmp")).unwrap();
        let entries = fs::read_dir(plain).unwrap().map(|entry| entry.unwrap());
        // Servers of other tests live there.
        let copied =
            entries.filter(|entry| !SHARED.iter().any(|name| entry.file_name() == *name));
        for entry in copied {
            let done = Command::new("cp").arg("-a").arg(entry.path()).arg(&root).status();
            assert!(done.unwrap().success(), "{}", entry.path().display());
        }
        Self(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.0).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let ran = self.command(arguments).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", text(&ran.stderr));
        ran
    }

    fn install(&self, packages: &[PathBuf]) {
        for package in packages {
            let name = package.file_name().unwrap();
            fs::copy(package, self.0.join("tmp").join(name)).unwrap();
        }
        self.run(&["sh", "-c", "dpkg --install /tmp/tidegate*.deb"]);
    }

    fn dpkg(&self, action: &str) {
        let arguments: Vec<&str> = ["dpkg", action].into_iter().chain(PACKAGES).collect();
        self.run(&arguments);
    }

    fn has_enabled_units(&self) -> bool {
        let wants = self.path("etc/systemd/system/multi-user.target.wants");
        let Ok(enabled) = fs::read_dir(wants) else { return false };
        enabled.into_iter().any(|unit| {
            unit.unwrap().file_name().to_str().unwrap().starts_with("tidegate")
        })
    }

    /// With the program of the packages.
    fn walk_through_a_night(&self) {
        let dir = self.path("tmp/night");
        fs::create_dir(&dir).unwrap();
        let root = self.0.to_str().unwrap();
        let program = ["chroot", root, "env", "-C", "/tmp/night", "tidegate"];
        walk::a_night(&mut site::Site::new(&dir, &program));
    }

    /// Starts it as its unit would, as its own user.
    fn start_coordinator(&self) -> Daemon {
        self.run(&[
            "install",
            "-d",
            "-m",
            "700",
            "-o",
            "tidegate",
            "/var/lib/tidegate/coordinator",
        ]);
        let mut command = Command::new("chroot");
        command.args(["--userspec", "tidegate:tidegate"]).arg(&self.0);
        command.args([
            "tidegate",
            "coordinator",
            "--config",
            "/etc/tidegate/coordinator.toml",
        ]);
        command.arg("--stop-with-stdin").stdin(Stdio::piped());
        let mut daemon = Daemon(command.stderr(Stdio::null()).spawn().unwrap());
        let address = self.path("var/lib/tidegate/coordinator/address");
        let serves = wait_until(PATIENCE, || {
            address.exists() || daemon.0.try_wait().unwrap().is_some()
        });
        assert!(serves && address.exists(), "the coordinator did not start");
        daemon
    }

    /// What the coordinator's page says.
    fn ask(&self, page: &str) -> String {
        let address =
            fs::read_to_string(self.path("var/lib/tidegate/coordinator/address"));
        let mut talk = TcpStream::connect(address.unwrap().trim()).unwrap();
        write!(talk, "GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        talk.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

/// A program of the packages. Ended when dropped.
struct Daemon(Child);

impl Daemon {
    fn end(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
