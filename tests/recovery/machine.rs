//! Machine: file systems, networks and tools that faults need, as far as this machine has them.
//!
//! # Invariants
//!
//! * What a test has mounted or added it takes away again, failed or not.
//! * A need that is not met is told in words, for the table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// What a test cannot do without.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// To be root.
    Root,
    /// A program that ends with 0 when called with this word.
    Tool(&'static str, &'static str),
    /// A file.
    File(&'static str),
}

/// The first of `needs` that is not met, in words.
pub(crate) fn lacks(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| match need {
        Need::Root => {
            (!rustix::process::geteuid().is_root()).then(|| "only root can".to_owned())
        }
        Need::Tool(tool, word) => (!works(tool, &[word]))
            .then(|| format!("there is no {tool}, which .ci/test installs")),
        Need::File(path) => (!Path::new(path).exists())
            .then(|| format!("there is no {path}, which .ci/test installs")),
    })
}

/// A file system of its own, mounted below a directory of its own.
pub(crate) struct Disk {
    dir: TempDir,
    image: bool,
}

/// Sizes of file systems, MiB: a small provider and its journals have room to spare.
const TMPFS_MIB: u32 = 160;
const EXT4_MIB: u32 = 160;
/// xfs refuses to be smaller.
const XFS_MIB: u32 = 320;

impl Disk {
    /// A file system in memory.
    pub(crate) fn in_memory() -> Result<Self, String> {
        let disk =
            Self { dir: TempDir::with_prefix("tidegate-disk-").unwrap(), image: false };
        disk.make_root();
        let size = format!("size={TMPFS_MIB}m");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &text(&disk.root())])?;
        Ok(disk)
    }

    /// An `ext4` or `xfs` in a file.
    pub(crate) fn image(kind: &str) -> Result<Self, String> {
        let disk =
            Self { dir: TempDir::with_prefix("tidegate-disk-").unwrap(), image: true };
        disk.make_root();
        let mib = if kind == "xfs" { XFS_MIB } else { EXT4_MIB };
        let image = fs::File::create(disk.file()).unwrap();
        image.set_len(u64::from(mib) << 20).unwrap();
        run(&format!("mkfs.{kind}"), &["-q", &text(&disk.file())])?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A path on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Cuts its power: nothing more reaches it, and nothing that is not on it yet.
    pub(crate) fn cut(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", &text(&self.root())]).unwrap();
    }

    /// Power is back, and the file system recovers by itself. Nobody may have a file open.
    pub(crate) fn power_on(&self) {
        run("umount", &[&text(&self.root())]).unwrap();
        self.mount().unwrap();
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let filler = fs::File::create(self.path("filler")).unwrap();
        let block = vec![b'x'; 1 << 16];
        let mut length = block.len();
        while length > 0 {
            match std::io::Write::write(&mut &filler, block.get(..length).unwrap()) {
                Ok(_) => {}
                Err(_) => length /= 2,
            }
        }
    }

    /// Gives the room back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn make_root(&self) {
        fs::create_dir(self.root()).unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", &text(&self.file()), &text(&self.root())])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that has failed may have left somebody in it.
        let lazily: &[&str] = if self.image { &["-l"] } else { &[] };
        let root = text(&self.root());
        let _unmounted = run("umount", &[lazily, &[&root]].concat());
    }
}

/// A network namespace with one cable into this one.
pub(crate) struct Network {
    name: String,
    inside: [String; 2],
}

impl Network {
    /// Addresses inside: one for the first worker, one for everybody else.
    pub(crate) fn laid() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{number}", std::process::id() % 100_000);
        let net = (std::process::id() + number * 37) % 250;
        let network = Self {
            name: format!("tg-{tag}"),
            inside: [2, 3].map(|host| format!("10.199.{net}.{host}")),
        };
        let (out, into) = (network.cable(), format!("ti{tag}"));
        run("ip", &["netns", "add", &network.name])?;
        run("ip", &["link", "add", &out, "type", "veth", "peer", "name", &into])?;
        run("ip", &["link", "set", &into, "netns", &network.name])?;
        run("ip", &["addr", "add", &format!("10.199.{net}.1/24"), "dev", &out])?;
        run("ip", &["link", "set", &out, "up"])?;
        network.inside(&["ip", "link", "set", "lo", "up"])?;
        for address in &network.inside {
            let address = format!("{address}/24");
            network.inside(&["ip", "addr", "add", &address, "dev", &into])?;
        }
        network.inside(&["ip", "link", "set", &into, "up"])?;
        // The coordinator listens on one address; the road decides by which it is reached.
        let local = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet";
        network.inside(&["sh", "-c", local])?;
        let chains = "add table inet n; \
            add chain inet n pre { type nat hook prerouting priority -100; }; \
            add rule inet n pre meta l4proto tcp dnat ip to 127.0.0.1; \
            add table inet t; \
            add chain inet t in { type filter hook input priority 0; }; \
            add chain inet t out { type filter hook output priority 0; }";
        network.inside(&["nft", chains])?;
        Ok(network)
    }

    /// The address inside for the first worker alone.
    pub(crate) fn to_first(&self) -> &str {
        &self.inside[0]
    }

    /// The address inside for everybody else.
    pub(crate) fn to_all(&self) -> &str {
        &self.inside[1]
    }

    /// Words that run a program inside.
    pub(crate) fn words(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Adds rules of a firewall inside.
    pub(crate) fn rule(&self, rule: &str) {
        self.inside(&["nft", &format!("add rule inet t {rule}")]).unwrap();
    }

    /// Drops what the first worker sends.
    pub(crate) fn drop_in(&self) {
        self.rule(&format!("in ct original ip daddr {} drop", self.to_first()));
    }

    /// Drops what is sent to the first worker.
    pub(crate) fn drop_out(&self) {
        self.rule(&format!("out ct original ip daddr {} drop", self.to_first()));
    }

    /// Takes all rules away.
    pub(crate) fn heal(&self) {
        self.inside(&["nft", "flush table inet t"]).unwrap();
        // There may have been no narrow place.
        let _absent = run("tc", &["qdisc", "del", "dev", &self.cable(), "root"]);
    }

    /// Lets no more than so many kbit/s through, towards the inside.
    pub(crate) fn narrow(&self, kbit: u32) {
        let rate = format!("{kbit}kbit");
        let cable = self.cable();
        let shape = ["root", "tbf", "rate", &rate, "burst", "4kb", "latency", "800ms"];
        run("tc", &[&["qdisc", "add", "dev", &cable][..], &shape].concat()).unwrap();
    }

    fn cable(&self) -> String {
        self.name.replace("tg-", "to")
    }

    fn inside(&self, words: &[&str]) -> Result<(), String> {
        run("ip", &[&["netns", "exec", &self.name], words].concat())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _cable = run("ip", &["link", "del", &self.cable()]);
        let _name = run("ip", &["netns", "del", &self.name]);
    }
}

/// Runs a tool; what it said if it failed.
pub(crate) fn run(tool: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(tool).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{tool}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{tool} {}: {said}", words.join(" ")))
}

fn works(tool: &str, words: &[&str]) -> bool {
    run(tool, words).is_ok()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
