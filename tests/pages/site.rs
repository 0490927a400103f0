//! A coordinator in a directory of its own, and the pages it is seen on.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use tempfile::TempDir;

const POLICY: &str = include_str!("../../deploy/config/lab-policy-small.toml");

const STATUS: &str = include_str!("../../deploy/config/status.toml");

/// A coordinator, and what is asked of it.
pub(crate) struct Site {
    dir: TempDir,
    coordinator: Child,
    log: BufReader<ChildStderr>,
    url: String,
    /// Under whose certificate commands are given; none without any.
    acts: Option<String>,
}

impl Site {
    /// Starts one; `config` is added to its own.
    pub(crate) fn start(inventory: &str, config: &str) -> Self {
        Self::start_in(
            TempDir::with_prefix("tidegate-pages-").unwrap(),
            inventory,
            config,
        )
    }

    /// Starts one with certificates and an operations page: for anna, who moves it, berta, who
    /// approves, and vera, who looks.
    pub(crate) fn secured(inventory: &str) -> Self {
        let dir = TempDir::with_prefix("tidegate-pages-").unwrap();
        let people = ["--operator", "anna", "--approver", "berta", "--viewer", "vera"];
        let made = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["init", "pki"])
            .args(people)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let config = "[tls]\ncertificate = \"pki/coordinator.pem\"\n\
            key = \"pki/coordinator.key\"\nca = \"pki/ca.pem\"\n\
            [pages]\nlisten = \"127.0.0.1:0\"\n";
        let mut site = Self::start_in(dir, inventory, config);
        site.url = site.url.replace("http://", "https://");
        site.acts("anna");
        site
    }

    /// Commands are given by `who` from now on.
    pub(crate) fn acts(&mut self, who: &str) {
        self.acts = Some(who.to_owned());
    }

    fn start_in(dir: TempDir, inventory: &str, config: &str) -> Self {
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("users.csv", inventory);
        write("policy.toml", POLICY);
        write("status.toml", STATUS);
        let own = "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n";
        write("coordinator.toml", &format!("{own}{config}"));
        let mut coordinator = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["coordinator", "--config", "coordinator.toml", "--stop-with-stdin"])
            .current_dir(dir.path())
            .env_remove("TIDEGATE_LOG")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(coordinator.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("coordinator serving") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the coordinator has ended");
        }
        let address = fs::read_to_string(dir.path().join("data/address")).unwrap();
        let url = format!("http://{}", address.trim());
        Self { dir, coordinator, log, url, acts: None }
    }

    /// A file beside all the others.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the rollout.
    pub(crate) fn apply(&self) {
        let files = ["--inventory", "users.csv", "--policy", "policy.toml"];
        let applied = self.tidegate(&[&["apply", "--yes"], files.as_slice()].concat());
        assert!(applied.status.success(), "{}", text(&applied.stderr));
    }

    /// Writes the public page to `page`.
    pub(crate) fn build_page(&self) {
        let built = self.tidegate(&[
            "status-page",
            "build",
            "--site",
            "status.toml",
            "--to",
            "page",
        ]);
        assert!(built.status.success(), "{}", text(&built.stderr));
    }

    /// All files of the public page, with what is in them.
    pub(crate) fn page_files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        read_all(&self.path("page"), &self.path("page"), &mut files);
        files.sort();
        files
    }

    /// Where commands find the coordinator.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where browsers find the operations page.
    pub(crate) fn pages_url(&self) -> String {
        let address = fs::read_to_string(self.path("data/pages-address")).unwrap();
        if self.acts.is_some() {
            return format!("https://{}", address.trim());
        }
        format!("http://{}", address.trim())
    }

    /// What `who` gets to see at `path` of the operations page.
    pub(crate) fn page(&self, who: &str, path: &str) -> String {
        self.curl(who, path, &[])
    }

    /// What `who` is answered to a form that is sent to `path`.
    pub(crate) fn send(&self, who: &str, path: &str) -> String {
        self.curl(who, path, &["--data", "token=guessed"])
    }

    fn curl(&self, who: &str, path: &str, more: &[&str]) -> String {
        let pki = |file: String| self.path("pki").join(file);
        let got = Command::new("curl")
            .args(["--silent", "--show-error", "--insecure"])
            .args(more)
            .arg("--cert")
            .arg(pki(format!("{who}.pem")))
            .arg("--key")
            .arg(pki(format!("{who}.key")))
            .arg(format!("{}{path}", self.pages_url()))
            .output()
            .unwrap();
        assert!(got.status.success(), "{}", text(&got.stderr));
        text(&got.stdout)
    }

    /// Where screenshots are left, to be looked at.
    pub(crate) fn shots() -> PathBuf {
        let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
        fs::create_dir_all(&shots).unwrap();
        shots
    }

    /// Looks at pages with a real browser, and says what it found.
    pub(crate) fn look(asked: &serde_json::Value) -> serde_json::Value {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join("target/browser");
        assert!(modules.join("node_modules/axe-core").exists(), ".ci/test installs it");
        let mut looking = Command::new("node")
            .arg(root.join("tests/pages/look.mjs"))
            .arg(modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect(".ci/test installs node");
        let mut to = looking.stdin.take().unwrap();
        to.write_all(asked.to_string().as_bytes()).unwrap();
        drop(to);
        let said = looking.wait_with_output().unwrap();
        assert!(said.status.success(), "the browser has ended in disorder");
        serde_json::from_slice(&said.stdout).unwrap()
    }

    /// Stops the coordinator, and gives what it has logged since it began to serve.
    pub(crate) fn stop(&mut self) -> String {
        drop(self.coordinator.stdin.take());
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        log
    }

    /// Gives a command.
    pub(crate) fn tidegate(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("TIDEGATE_COORDINATOR", &self.url);
        if let Some(who) = &self.acts {
            command.env("TIDEGATE_CERTIFICATE", format!("pki/{who}.pem"));
            command.env("TIDEGATE_KEY", format!("pki/{who}.key"));
            command.env("TIDEGATE_CA", "pki/ca.pem");
        }
        command.output().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Its stdin ends, so it stops in order.
        drop(self.coordinator.stdin.take());
        let ended = self.coordinator.wait();
        assert!(ended.is_ok_and(|status| status.success()), "it stops in order");
    }
}

fn read_all(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What a program said.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
