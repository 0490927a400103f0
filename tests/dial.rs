//! Dial tone, with real programs: users of a cohort receive mail at once, and later find it behind
//! their history, once, though the worker is killed again and again.
//!
//! # Invariants
//!
//! * What users get is seen through the mail server's own protocols; nothing of ours is asked what
//!   is right.
//! * Every message that the mail server has accepted must be there, once.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may say no more than that it failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_rig::{
    API_KEY, Dovecot, DovecotSpec, Format, FreePorts, Imap, Keeper, PASSWORD, Service,
    User, hand_over, open_directory,
};

/// Mailboxes of each format; the first wave has as many.
const EACH: usize = 3;

/// What the worker says on the way from a dial tone to being open; each time it is killed.
const KILLED_AT: [&str; 3] =
    ["job=job 1 step=Ended", "histories are back job=job 1", "raised job=job 1"];

/// Nothing of this size takes longer, even on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(4);

const POLICY: &str = r#"
name = "dial"
hash_seed = "dial"

[[ladder]]
name = "receive"
services = ["lmtp"]

[[ladder]]
name = "webmail"
services = ["webmail"]

[[ladder]]
name = "mail"
services = ["imap", "pop3", "submission"]

[[cohort]]
name = "all"
select = { rest = true }
canary = 3
growth = "x3"
wave_max = 10_000
dial_tone = ["lmtp", "webmail", "submission"]

[gate]
mode = "every-mailbox"
failures_max = 0
soak = "2 s"
report_age_max = "2 s"
unknown_after = "60 s"
disk_free_min = "0.1 %"
escalate_after = "5 min"

[gate.preparation]
p_ok = "10 %"
p_bad = "50 %"

# What takes minutes in life takes seconds here. How busy the machine of the test is, is not
# the question.
[gate.signals]
every = "1 s"
window = "20 s"
disk_latency = { limit = "60 s" }
io_pressure = { limit = "100 %" }

[limits]
prepare_threads = 2
open_per_second = 60
permit_window = 16
lease = "3 s"
beat = "200 ms"
job_mailboxes = 64
"#;

#[test]
fn mail_that_was_accepted_during_a_dial_tone_is_behind_the_history_once() {
    let mut site = Site::new();
    let before: Vec<View> = site.users.iter().map(|user| site.view(user)).collect();
    site.take_snapshot_and_break();
    site.start();
    site.apply();

    let (at, later) = site.with_dial_tone();
    let shown = site.tidegate(&["mailbox", "show", &later.address]).1;
    assert!(shown.contains("dial tone: lmtp, "), "{shown}");
    let (imap, _) = site.dovecot.login(Service::Imap, &later.address, PASSWORD);
    assert!(imap.contains("[UNAVAILABLE]"), "{imap}");
    let mut webmail = site.webmail(&later);
    webmail.command("CREATE Kept");
    drop(webmail);
    let mut sent = vec![Vec::new(); site.users.len()];
    for number in 0..3 {
        let accepted = site.deliver(&later, number);
        assert!(accepted, "a dial tone takes mail");
        sent[at].push(number);
    }
    let mut webmail = site.webmail(&later);
    let exists = webmail.command("SELECT INBOX");
    assert!(exists.iter().any(|it| it.text == "* 3 EXISTS"), "the history is beside");
    webmail.command("STORE 1 +FLAGS (\\Flagged)");
    webmail.command("MOVE 2 Kept");
    drop(webmail);

    site.open_under_delivery(&mut sent);

    for ((user, before), sent) in site.users.iter().zip(&before).zip(&sent) {
        let now = site.view(user);
        check(user, &now, before, sent);
    }
    let kept = site.view(&later);
    let kept = kept.keys().filter(|(folder, _)| folder == "Kept").count();
    assert_eq!(kept, 1, "what was sorted during the dial tone stays sorted");
    let log = site.dovecot.log();
    let bad =
        |line: &&str| ["Panic", "orrupt", "Fatal"].iter().any(|it| line.contains(it));
    assert_eq!(log.lines().filter(bad).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// The history is there as it was, and every message that was sent, once, above it.
fn check(user: &User, now: &View, before: &View, sent: &[u32]) {
    let who = &user.address;
    for (at, seen) in before {
        assert_eq!(now.get(at), Some(seen), "{who} {at:?}");
    }
    let next = before.keys().filter(|(folder, _)| folder == "INBOX");
    let next = next.map(|(_, uid)| *uid).max().unwrap_or(0) + 1;
    let mut found: Vec<u32> = Vec::new();
    for ((folder, uid), seen) in now.iter().filter(|(at, _)| !before.contains_key(*at)) {
        assert!(folder != "INBOX" || *uid >= next, "{who} {folder} {uid}");
        found.push(number(seen).unwrap());
    }
    found.sort_unstable();
    assert_eq!(found, sent, "{who}");
}

/// Flags, time of arrival and bytes, by folder and UID.
type View = BTreeMap<(String, u32), String>;

/// The number of a message that was sent during the dial tone.
fn number(seen: &str) -> Option<u32> {
    seen.split("Subject: sent ").nth(1)?.split(['\r', '\n']).next()?.parse().ok()
}

struct Site {
    // Ended in this order.
    programs: BTreeMap<&'static str, Keeper>,
    dovecot: Dovecot,
    users: Vec<User>,
    coordinator: u16,
    admission: u16,
    dir: TempDir,
}

impl Site {
    /// A provider whose users have had mail for a while.
    fn new() -> Self {
        let dir = open_directory();
        let root = dir.path().join("live");
        for path in [&root, &dir.path().join("work")] {
            fs::create_dir(path).unwrap();
        }
        let user = |number: usize| {
            let format = Format::ALL[number % Format::ALL.len()];
            User::new(&format!("user{number}@example.org"), format)
        };
        let users: Vec<User> = (0..EACH * Format::ALL.len()).map(user).collect();
        hand_over(dir.path());
        let spec = DovecotSpec {
            users: users.clone(),
            root: Some(root),
            ..DovecotSpec::default()
        };
        let [coordinator, admission] = FreePorts::take(2).hand_over();
        let (dovecot, programs) = (Dovecot::start(&spec), BTreeMap::new());
        let site = Self { programs, dovecot, users, coordinator, admission, dir };
        for user in &site.users {
            for number in 0..5 {
                let text = format!("From: a@example.net\nSubject: old {number}\n\nold\n");
                let answer = site.dovecot.deliver(&user.address, text.as_bytes());
                assert!(answer.starts_with("250 "), "{answer}");
            }
            let mut imap = site.dovecot.imap(&user.address);
            for command in [
                "CREATE Archive",
                "SELECT INBOX",
                "STORE 2 +FLAGS (\\Seen $Work)",
                "MOVE 3 Archive",
                "LOGOUT",
            ] {
                imap.command(command);
            }
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All went well until here; then every mailbox lost a message.
    fn take_snapshot_and_break(&self) {
        let (live, snapshot) = (self.path("live"), self.path("snapshot"));
        let copied = Command::new("cp").arg("-a").args([&live, &snapshot]).status();
        assert!(copied.unwrap().success());
        for user in self.users.iter().filter(|it| it.format != Format::Mdbox) {
            let mail = match user.format {
                Format::Sdbox => "mailboxes/INBOX/dbox-Mails",
                Format::Maildir | Format::Mdbox => "cur",
            };
            let files = fs::read_dir(live.join(&user.path).join(mail)).unwrap();
            let files = files.map(|it| it.unwrap().path());
            let is_mail = |path: &PathBuf| {
                !path.file_name().unwrap().to_string_lossy().starts_with("dovecot")
            };
            fs::remove_file(files.filter(is_mail).min().unwrap()).unwrap();
        }
    }

    /// Puts the gate in front of everybody, and starts all of Tidegate's programs.
    fn start(&mut self) {
        let ports = self.dovecot.ports();
        let dir = self.dir.path().display();
        let worker = format!(
            "node = \"stor-01\"\ncoordinator = \"http://127.0.0.1:{coordinator}\"\n\
             state_dir = \"{dir}/state\"\nlive = \"{dir}/live\"\n\
             snapshot = \"{dir}/snapshot\"\nwork = \"{dir}/work\"\n\
             admission_listen = \"127.0.0.1:{admission}\"\n\
             [dovecot]\ndoveadm = [\"http://127.0.0.1:{doveadm}\"]\n\
             key_file = \"{dir}/api-key\"\nlmtp_grace_seconds = 1\n\
             open_check_percent = 100\nwebmail_ports = [{webmail}]\n",
            coordinator = self.coordinator,
            admission = self.admission,
            doveadm = ports.doveadm_http,
            webmail = ports.imap_webmail,
        );
        let coordinator = format!(
            "data_dir = \"{dir}/coordinator\"\nlisten = \"127.0.0.1:{}\"\n",
            self.coordinator
        );
        let inventory = self
            .users
            .iter()
            .map(|user| format!("{},stor-01,free,{}\n", user.address, user.path));
        let inventory: String = inventory.collect();
        for (name, text) in [
            ("worker.toml", worker),
            ("coordinator.toml", coordinator),
            ("policy.toml", POLICY.to_owned()),
            ("inventory.csv", format!("address,node,tier,path\n{inventory}")),
            ("api-key", API_KEY.to_owned()),
        ] {
            fs::write(self.path(name), text).unwrap();
        }
        hand_over(self.dir.path());
        let gate = self.dovecot.gate(self.admission);
        self.dovecot.add_config(&format!("{gate}auth_failure_delay = 0\n"));
        self.run("coordinator");
        self.run("worker");
        self.wait("the coordinator answers", |site| site.tidegate(&["status"]).0 == 3);
    }

    fn run(&mut self, name: &'static str) {
        let config = self.path(&format!("{name}.toml"));
        let says = self.path(&format!("{name}.log"));
        let arguments = [name, "--config", config.to_str().unwrap()];
        let program = env!("CARGO_BIN_EXE_tidegate");
        self.programs.insert(name, Keeper::start(program, &arguments, &says));
    }

    fn tidegate(&self, arguments: &[&str]) -> (i32, String) {
        let url = format!("http://127.0.0.1:{}", self.coordinator);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).env("TIDEGATE_COORDINATOR", url);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    fn apply(&self) {
        let (inventory, policy) = (self.path("inventory.csv"), self.path("policy.toml"));
        let (inventory, policy) = (inventory.to_str().unwrap(), policy.to_str().unwrap());
        let (code, said) = self.tidegate(&[
            "apply",
            "--yes",
            "--inventory",
            inventory,
            "--policy",
            policy,
        ]);
        assert_eq!(code, 0, "{said}");
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn logs(&self) -> String {
        let mut logs = self.tidegate(&["status"]).1;
        for name in self.programs.keys() {
            let log = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(40);
            logs += &["--- ", name, "\n", &lines[tail..].join("\n"), "\n"].concat();
        }
        logs
    }

    /// Somebody who has a dial tone and whose wave is not due.
    fn with_dial_tone(&self) -> (usize, User) {
        let second = |user: &User| {
            let shown = self.tidegate(&["mailbox", "show", &user.address]).1;
            shown.contains("dial tone: ") && shown.contains("all-2")
        };
        self.wait("somebody of the second wave has a dial tone", |site| {
            let found = site.users.iter().find(|user| second(user));
            found.is_some_and(|user| site.dovecot.rcpt(&user.address).starts_with("250 "))
        });
        let at = self.users.iter().position(second).unwrap();
        (at, self.users[at].clone())
    }

    fn webmail(&self, user: &User) -> Imap {
        Imap::login(self.dovecot.ports().imap_webmail, &user.address, PASSWORD)
    }

    /// Whether the mail server took it; otherwise it was told to come again.
    fn deliver(&self, user: &User, number: u32) -> bool {
        let text = format!("From: a@example.net\nSubject: sent {number}\n\nnew\n");
        let answer = self.dovecot.deliver(&user.address, text.as_bytes());
        let taken = answer.starts_with("250 ");
        assert!(taken || answer.starts_with("451 "), "{answer}");
        taken
    }

    /// Sends to everybody all the while, kills the worker now and then, and waits for the end.
    fn open_under_delivery(&mut self, sent: &mut [Vec<u32>]) {
        let deadline = Instant::now() + PATIENCE;
        let (mut number, mut kills) = (100, 0);
        loop {
            let (code, status) = self.tidegate(&["status"]);
            if code == 0 && status.contains("finished") {
                assert_eq!(kills, KILLED_AT.len(), "{}", self.logs());
                return;
            }
            assert!(Instant::now() < deadline, "it does not end\n{}", self.logs());
            for (user, sent) in self.users.iter().zip(sent.iter_mut()) {
                number += 1;
                if self.deliver(user, number) {
                    sent.push(number);
                }
            }
            let log = fs::read_to_string(self.path("worker.log")).unwrap();
            if KILLED_AT.get(kills).is_some_and(|words| log.contains(words)) {
                kills += 1;
                self.programs.remove("worker").unwrap().kill();
                self.run("worker");
            }
        }
    }

    fn view(&self, user: &User) -> View {
        let mut view = View::new();
        let mut imap = self.dovecot.imap(&user.address);
        for listed in imap.command("LIST \"\" *") {
            let folder = listed.text.rsplit(" \"/\" ").next().unwrap().trim_matches('"');
            imap.command(&format!("EXAMINE \"{folder}\""));
            let fetch = "UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])";
            for answer in imap.command(fetch) {
                let Some(bytes) = answer.literal else { continue };
                let text = answer.text.replace("\\Recent", "");
                let uid = text.split("UID ").nth(1).unwrap().split([' ', ')']).next();
                let rest = text.split_once("FETCH").unwrap().1.replace("( ", "(");
                let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
                let seen = format!("{rest}\n{}", String::from_utf8_lossy(&bytes));
                let at = (folder.to_owned(), uid.unwrap().parse().unwrap());
                assert!(view.insert(at, seen).is_none(), "twice");
            }
        }
        imap.command("LOGOUT");
        view
    }
}
