//! Beside a mail exchanger: real programs, Debian's Postfix, and nodes that take mail only for
//! whom their worker lets in.
//!
//! # Invariants
//!
//! * What arrives is counted at the nodes; the programs are not asked.
//! * A killed program is started again with the same command, nothing else.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidegate_lab::{LabSpec, Provider};
use tidegate_rig::{FreePorts, Letter, Postfix, PostfixSpec, Sink, wait_until};

/// No run of this size takes longer, even on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(150);

const POLICY: &str = r#"
name = "mx"
hash_seed = "mx"

[[ladder]]
name = "receive"
services = ["lmtp"]

[[ladder]]
name = "mail"
services = ["imap", "webmail"]

[[cohort]]
name = "all"
select = { rest = true }
canary = 8
growth = "x3"
wave_max = 100

[gate]
mode = "every-mailbox"
failures_max = 0
soak = "500 ms"
report_age_max = "1 s"
unknown_after = "60 s"
disk_free_min = "0.1 %"

[limits]
open_per_second = 20
permit_window = 8
lease = "2 s"
beat = "100 ms"
job_mailboxes = 64
"#;

#[test]
fn mail_that_waited_arrives_once_as_waves_open_however_often_the_exchanger_is_killed() {
    let mut site = Site::start();
    site.wait("mail for a held mailbox is taken", |site| {
        let first = site.provider_addresses().into_iter().next().unwrap();
        site.postfix.smtp().ask(&format!("RCPT TO:<{first}>")).starts_with("250 ")
    });
    let addresses = site.provider_addresses();
    for address in &addresses {
        let message = format!("Subject: to {address}\n\nhello\n");
        let letter = Letter { to: &[address], message: message.as_bytes() };
        site.hands_over(letter);
    }
    let everybody: Vec<&str> = addresses.iter().map(String::as_str).collect();
    site.hands_over(Letter { to: &everybody, message: b"Subject: to all\n\nhello\n" });
    site.wait("the operator sees what waits", |site| {
        let (_, status) = site.run(&["status", "-o", "json"]);
        status.contains("\"exchangers\"")
            && status.contains(&format!("{}", addresses.len() + 1))
    });

    site.begin("worker-0");
    site.begin("worker-1");
    for deliveries in [3, 10, 30] {
        site.wait("mail arrives", |site| site.deliveries() >= deliveries);
        site.kill("mx");
        site.begin("mx");
    }

    site.wait("the queue is empty", |site| site.postfix.queue().is_empty());
    for address in &addresses {
        let arrived = site.sinks.iter().flat_map(|node| node.delivered(address));
        let mut subjects: Vec<String> = arrived.collect();
        subjects.sort();
        assert_eq!(subjects, ["to all".to_owned(), format!("to {address}")], "{address}");
    }
    for words in ["status=bounced", "status=expired", "non-delivery"] {
        assert_eq!(site.postfix.logged(words), Vec::<String>::new());
    }
}

/// A provider of two nodes, its mail exchanger, and a rollout that is applied but of which
/// no worker runs.
struct Site {
    dir: TempDir,
    provider: Provider,
    postfix: Postfix,
    url: String,
    running: BTreeMap<&'static str, Child>,
    /// The nodes' LMTP servers, which let in whom their worker lets in.
    sinks: Vec<Sink>,
}

impl Site {
    fn start() -> Self {
        let dir = TempDir::with_prefix("tidegate-mx-").unwrap();
        let spec = LabSpec { mailboxes: 40, nodes: 2, messages: 3, seed: 5, damage: 0 };
        let built = tidegate_lab::build(&dir.path().join("provider"), &spec, &mut |_| ());
        let provider = built.unwrap();
        let [port, map] = FreePorts::take(2).hand_over();
        let shipped = include_str!("../deploy/postfix/main.cf");
        let mut domains = domains(&addresses(&provider.inventory_csv));
        domains.dedup();
        let postfix = Postfix::start(&PostfixSpec {
            domains,
            transport: "retry:4.3.0 nobody said where this goes".to_owned(),
            main: shipped.replace("10391", &map.to_string()),
            master: include_str!("../deploy/postfix/master.cf").to_owned(),
        });
        let (url, running) = (format!("http://127.0.0.1:{port}"), BTreeMap::new());
        let mut site = Self { dir, provider, postfix, url, running, sinks: Vec::new() };
        for index in 0..site.provider.nodes.len() {
            let admission = site.path(&format!("state-{index}/admission-address"));
            site.sinks.push(Sink::start(move |address| is_open(&admission, address)));
        }
        site.write_configs(port, map);
        site.begin("coordinator");
        site.begin("mx");
        site.wait("the coordinator listens", |_| {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let (inventory, policy) =
            (text(&site.provider.inventory_csv), site.path("policy.toml"));
        let inputs = ["--inventory", &inventory, "--policy", &text(&policy)];
        let (done, said) = site.run(&[&["apply", "--yes"], &inputs[..]].concat());
        assert!(done, "{said}");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_configs(&self, port: u16, map: u16) {
        fs::write(self.path("policy.toml"), POLICY).unwrap();
        let data = self.path("data");
        let coordinator =
            format!("data_dir = \"{}\"\nlisten = \"127.0.0.1:{port}\"\n", data.display());
        fs::write(self.path("coordinator.toml"), coordinator).unwrap();
        let mut hops = String::new();
        for (index, (node, sink)) in
            self.provider.nodes.iter().zip(&self.sinks).enumerate()
        {
            let state = self.path(&format!("state-{index}"));
            let worker = format!(
                "node = \"{}\"\ncoordinator = \"{}\"\nstate_dir = \"{}\"\nlive = \"{}\"\n\
                 snapshot = \"{}\"\nwork = \"{}\"\nadmission_listen = \"127.0.0.1:0\"\n",
                node.name,
                self.url,
                state.display(),
                node.live.display(),
                node.snapshot.display(),
                node.work.display(),
            );
            fs::write(self.path(&format!("worker-{index}.toml")), worker).unwrap();
            let lmtp = sink.port();
            writeln!(hops, "\"{}\" = \"inet:127.0.0.1:{lmtp}\"", node.name).unwrap();
        }
        let mx = format!(
            "name = \"mx1\"\ncoordinator = \"{}\"\nstate_dir = \"{}\"\n\
             socketmap_listen = \"127.0.0.1:{map}\"\n[next_hop.nodes]\n{hops}\
             [drain]\nconfig_dir = \"{}\"\n",
            self.url,
            self.path("mx").display(),
            self.postfix.config_dir().display(),
        );
        fs::write(self.path("mx.toml"), mx).unwrap();
    }

    /// Starts a program that is not running.
    fn begin(&mut self, name: &'static str) {
        let verb = name.split('-').next().unwrap_or(name);
        let log = self.path(&format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args([verb, "--config"]).arg(self.path(&format!("{name}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.running.insert(name, command.spawn().unwrap());
    }

    /// Kills a program as the kernel would: no farewell.
    fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = command
            .args(arguments)
            .env("TIDEGATE_COORDINATOR", &self.url)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn provider_addresses(&self) -> Vec<String> {
        addresses(&self.provider.inventory_csv)
    }

    /// Hands a message over to the exchanger for everybody, as another mail server does: whom it
    /// puts off is tried again. Postfix remembers for half a minute that it could not ask.
    fn hands_over(&self, letter: Letter<'_>) {
        let left = RefCell::new(letter.to.to_vec());
        self.wait("a message is taken", |site| {
            let to = left.borrow().clone();
            let said = site.postfix.send(Letter { to: &to, ..letter });
            if said.end.is_some_and(|end| end.starts_with("250 ")) {
                let refused =
                    to.iter().zip(&said.to).filter(|(_, it)| !it.starts_with("250 "));
                *left.borrow_mut() = refused.map(|(to, _)| *to).collect();
            }
            left.borrow().is_empty()
        });
    }

    fn deliveries(&self) -> usize {
        self.sinks.iter().map(Sink::arrived).sum()
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        if wait_until(PATIENCE, || done(self)) {
            return;
        }
        let logs = ["coordinator", "mx", "worker-0", "worker-1"].map(|name| {
            let log = fs::read_to_string(self.path(&format!("{name}.log")));
            format!("--- {name}\n{}", log.unwrap_or_default())
        });
        let (_, status) = self.run(&["status"]);
        let queue = self.postfix.queue().join("\n");
        assert!(
            queue.is_empty() && logs.is_empty(),
            "never: {what}\n{status}\n{queue}\n{logs:#?}"
        );
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself already.
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// Whether the worker lets mail in, as Dovecot would ask it.
fn is_open(admission: &Path, address: &str) -> bool {
    let ask = || {
        let at = fs::read_to_string(admission).ok()?;
        let mut stream = TcpStream::connect(at.trim()).ok()?;
        let request = format!(
            "GET /gate/userdb/lmtp/{address} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    ask().is_some_and(|answer| answer.contains("\"online\""))
}

fn addresses(inventory: &Path) -> Vec<String> {
    let inventory = fs::read_to_string(inventory).unwrap();
    let rows = inventory.lines().skip(1);
    rows.filter_map(|row| row.split(',').next().map(str::to_owned)).collect()
}

fn domains(addresses: &[String]) -> Vec<String> {
    let domains =
        addresses.iter().filter_map(|it| Some(it.rsplit_once('@')?.1.to_owned()));
    let mut domains: Vec<String> = domains.collect();
    domains.sort();
    domains
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
