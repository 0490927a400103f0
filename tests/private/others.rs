//! Who is told or asks besides: a receiver of alerts, a collector of traces, a mail exchanger
//! with mail that waits, and whoever keeps the proof.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::site::{CANARY, NODES, PATIENCE, Site, text, tls};

/// The mail exchanger's program.
pub(crate) const EXCHANGER: &str = "mx";

/// The files of a proof in which mailboxes stand by their address: what is proved is theirs.
const NAMES_MAILBOXES: [&str; 3] = ["mailboxes.csv", "findings.csv", "compensation.csv"];

/// What somebody is owed.
const OWED: &str =
    "[[rule]]\nid = \"a\"\nkind = \"storage\"\namount = 20\nunit = \"percent\"\n";

impl Site {
    /// What coordinator.toml says of alerts and traces.
    pub(crate) fn tells(&self) -> String {
        let url = self.collector.url();
        fs::write(self.path("webhook.key"), "a secret of a few words").unwrap();
        format!(
            "traces = \"{url}\"\n[[webhook]]\nurl = \"{url}/api/v2/alerts\"\n\
             key = \"webhook.key\"\n"
        )
    }

    /// Writes mx.toml, and makes a queue in which mail for everybody waits.
    pub(crate) fn configure_exchanger(&self) {
        let mut queue = "#!/bin/sh\n[ \"$3\" = -j ] || exit 0\ncat <<'END'\n".to_owned();
        for user in 0..3 {
            writeln!(
                queue,
                "{{\"queue_name\": \"deferred\", \"queue_id\": \"4c00{user}\", \
                 \"arrival_time\": 1700000000, \"message_size\": 300, \"sender\": \
                 \"friend-{CANARY}@else.example\", \"recipients\": [{{\"address\": \
                 \"user{user}-{CANARY}@post.example\", \"delay_reason\": \"held\"}}]}}"
            )
            .unwrap();
        }
        queue += "END\n";
        let program = self.path("postqueue");
        fs::write(&program, queue).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(self.path("postfix")).unwrap();
        let mut config = format!(
            "name = \"mx1\"\ncoordinator = \"{}\"\nstate_dir = \"mx/state\"\n\
             socketmap_listen = \"127.0.0.1:{}\"\n{}[drain]\npostqueue = \"{}\"\n\
             config_dir = \"postfix\"\n[next_hop.nodes]\n",
            self.url,
            self.socketmap,
            tls("exchanger-mx1"),
            program.display(),
        );
        for node in NODES {
            writeln!(config, "\"{node}\" = \"inet:127.0.0.1:24\"").unwrap();
        }
        fs::write(self.path("mx.toml"), config).unwrap();
    }

    /// Asks the exchanger's program as Postfix does, whom it knows, whom it does not, and what
    /// is no question; waits until it has an answer for the first.
    pub(crate) fn ask_exchanger(&self) {
        let deadline = Instant::now() + PATIENCE;
        let own = format!("transport user6-{CANARY}@post.example");
        while !self.ask_socketmap(&own).is_some_and(|it| it.contains("OK ")) {
            assert!(Instant::now() < deadline, "{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        for other in [
            format!("transport nobody-{CANARY}@post.example"),
            format!("nonsense user6-{CANARY}@post.example"),
            format!("transport user6-{CANARY}@post.example\0"),
        ] {
            drop(self.ask_socketmap(&other));
        }
    }

    fn ask_socketmap(&self, question: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.socketmap)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "{}:{question},", question.len()).ok()?;
        let mut answer = vec![0; 4 << 10];
        let read = stream.read(&mut answer).ok()?;
        Some(text(answer.get(..read)?))
    }

    /// What was sent to the receiver of alerts and to the collector of traces; both were.
    pub(crate) fn told(&self) -> String {
        let mut all = String::new();
        for path in ["POST /api/v2/alerts", "POST /v1/traces"] {
            let deadline = Instant::now() + PATIENCE;
            let to = || self.collector.taken().into_iter().filter(|it| it.asked == path);
            while to().next().is_none() {
                assert!(
                    Instant::now() < deadline,
                    "nothing for `{path}`: {}",
                    self.logs()
                );
                std::thread::sleep(Duration::from_millis(50));
            }
            for taken in to() {
                writeln!(all, "{}\n{}\n{}", taken.asked, taken.header, text(&taken.body))
                    .unwrap();
            }
        }
        all
    }

    /// Proves what came back: what the program said, and what the proof says but where it names
    /// each mailbox.
    pub(crate) fn proof(&self) -> Vec<(String, String)> {
        fs::write(self.path("owed.toml"), OWED).unwrap();
        let build = "report build proof --audit data/audit.jsonl --compensation owed.toml \
                     --outage-start 2020-01-22T23:04:00+01:00";
        let built = self.tidegate(&build.split_whitespace().collect::<Vec<_>>());
        let said = text(&built.stdout) + &text(&built.stderr);
        assert!([0, 6].contains(&built.status.code().unwrap()), "{said}");
        let verified = self.tidegate(&["report", "verify", "proof"]);
        assert!(verified.status.success(), "{}", text(&verified.stdout));
        let mut all = vec![
            ("report build".to_owned(), said),
            ("report verify".to_owned(), text(&verified.stdout)),
        ];
        for entry in fs::read_dir(self.path("proof")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let content = fs::read_to_string(entry.path()).unwrap();
            if NAMES_MAILBOXES.contains(&name.as_str()) {
                assert!(content.contains(CANARY), "{name} is about mailboxes: {content}");
            } else {
                all.push((name, content));
            }
        }
        all
    }
}
