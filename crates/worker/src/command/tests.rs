//! What a program may do wrong, and what comes of it: each with a shell script.

use std::fs;
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;
use tidegate_core::fleet::{Generation, JobNumber};
use tidegate_core::time::{Span, Timestamp};

use super::complaint::unnamed;
use super::*;

/// A machine that does other things as well starts a shell in far less.
const LIMIT: Duration = Duration::from_secs(20);

const CAPABLE: &str = r#"capabilities)
    echo '{"protocol":1,"verbs":["verify","look","probe","repair","open","close","stats"]}';;"#;

struct Site {
    dir: TempDir,
    script: String,
    limits: Limits,
}

impl Site {
    /// A mail system whose program is a shell script with these cases.
    fn new(cases: &str) -> Self {
        Self::with(CAPABLE, cases)
    }

    fn with(capabilities: &str, cases: &str) -> Self {
        let dir = TempDir::with_prefix("tidegate-command-").unwrap();
        let here = dir.path().display();
        let script =
            format!("here={here}\ncase $1 in\n{capabilities}\n{cases}\nesac\nexit\n");
        let limits = Limits {
            verify: LIMIT,
            repair: LIMIT,
            look: LIMIT,
            open: LIMIT,
            close: LIMIT,
            probe: LIMIT,
            stats: LIMIT,
        };
        Self { dir, script, limits }
    }

    fn open(&self) -> anyhow::Result<CommandStore> {
        let script = self.dir.path().join("program");
        fs::write(&script, &self.script).unwrap();
        let command = Command {
            program: PathBuf::from("/bin/sh"),
            arguments: vec![script.to_str().unwrap().to_owned()],
            environment: BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())]),
            batch: 2,
            limits: self.limits,
        };
        CommandStore::open(command, self.dir.path(), "stor-01", "me".to_owned())
    }

    /// The store, with the claim that everything below is done under.
    fn claimed(&self) -> CommandStore {
        let store = self.open().unwrap();
        assert!(store.claim(under(1)).unwrap());
        store
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

fn under(generation: u64) -> Under {
    Under { job: JobNumber::new(1), generation: Generation::new(generation) }
}

fn mailbox(key: u16) -> (Ordinal, Mailbox) {
    let mailbox = Mailbox {
        key: u64::from(key),
        address: format!("user{key}@example.org"),
        path: format!("u/user{key}").into_bytes(),
        served: false,
    };
    (Ordinal::new(key), mailbox)
}

fn telling(level: Level) -> Telling {
    let far = Clock::start().now() + Span::from_secs(600);
    let services = vec!["imap".to_owned()];
    let (recorded, from_held) = (false, true);
    Telling { under: under(1), level, services, recorded, from_held, until: far }
}

/// What is settled of the mailboxes 1 to 3: `v` verified, `q` quarantined, `-` nothing.
fn settled_as(cases: &str) -> String {
    let site = Site::new(cases);
    let store = site.claimed();
    let mailboxes = vec![mailbox(1), mailbox(2), mailbox(3)];
    let results = store.prepare(under(1), mailboxes).unwrap();
    let letter = |key: u16| {
        let found = results.iter().find(|it| it.ordinal == Ordinal::new(key));
        found.map_or('-', |it| if it.stamp.is_some() { 'v' } else { 'q' })
    };
    [1, 2, 3].map(letter).into_iter().collect()
}

/// Every mailbox gets `$ok`.
const EACH: &str = r#"each() { while read -r line; do
    key=${line#*:}; echo "{\"key\":${key%%,*},$1}"; done; }"#;

#[test]
fn what_is_verified_has_a_stamp_and_what_is_not_mentioned_waits() {
    let all = format!(r#"verify) {EACH}; each '"status":"done","stamp":"s"';;"#);

    assert_eq!(settled_as(&all), "vvv");
    assert_eq!(settled_as(r#"verify) echo '{"key":1,"status":"again"}';;"#), "---");
    assert_eq!(
        settled_as(
            r#"verify) read -r line
        case $line in *'"key":1,'*) echo '{"key":1,"status":"done","stamp":"s"}';; esac;;"#
        ),
        "v--"
    );
}

#[test]
fn a_program_that_breaks_the_contract_is_not_believed_in_anything() {
    let good = r#"{"key":1,"status":"done","stamp":"s"}"#;
    let says =
        |line: &str| settled_as(&format!("verify) echo '{good}'; echo '{line}';;"));

    assert_eq!(says(""), "v--", "the good line alone counts for its call");
    assert_eq!(says("all fine"), "---");
    assert_eq!(says(r#"{"key":9,"status":"done","stamp":"s"}"#), "---");
    assert_eq!(says(r#"{"key":2,"status":"done"}"#), "---", "no stamp");
    assert_eq!(says(r#"{"key":2,"status":"unreadable"}"#), "---", "no probe");
    assert_eq!(says(good), "---", "twice");
}

#[test]
fn the_exit_code_says_whether_answers_count() {
    let ends = |code: &str| {
        settled_as(&format!(
            r#"verify) {EACH}; each '"status":"done","stamp":"s"'; {code};;"#
        ))
    };

    assert_eq!(ends("exit 0"), "vvv");
    assert_eq!(ends("exit 75"), "---");
    assert_eq!(ends("exit 69"), "---");
    assert_eq!(ends("exit 1"), "---");
    assert_eq!(ends("kill -9 $$"), "---");
}

#[test]
fn damaged_by_exit_code_are_those_without_an_answer() {
    let repair = "repair) exit 65;;";
    let first = r#"{"key":1,"status":"done","stamp":"s"}"#;

    assert_eq!(settled_as(&format!("verify) exit 65;;\n{repair}")), "qqq");
    let mixed = format!(
        r#"verify) read -r line
            case $line in *'"key":1,'*) echo '{first}'; esac; exit 65;;
        {repair}"#
    );
    assert_eq!(settled_as(&mixed), "vqq");
}

#[test]
fn a_repaired_mailbox_counts_only_when_it_is_verified_again() {
    // Verifying says what a repair has left behind.
    let verify = r#"verify) while read -r line; do key=${line#*:}; key=${key%%,*}
        if [ -e $here/good-$key ]; then echo "{\"key\":$key,\"status\":\"done\",\"stamp\":\"s\"}"
        else echo "{\"key\":$key,\"status\":\"damaged\",\"code\":\"torn\"}"; fi; done;;"#;
    let repair = |then: &str| {
        format!(
            r#"{verify}
            repair) while read -r line; do key=${{line#*:}}; key=${{key%%,*}}; {then}
            echo "{{\"key\":$key,\"status\":\"done\",\"messages\":{{\"repaired\":2}}}}"; done;;"#
        )
    };

    assert_eq!(settled_as(&repair("touch $here/good-$key")), "vvv");
    assert_eq!(settled_as(&repair("[ $key = 2 ] && touch $here/good-$key")), "qvq");
    assert_eq!(settled_as(&format!("{verify}\nrepair) exit 75;;")), "---");
}

#[test]
fn what_a_repair_did_is_what_is_told() {
    let site = Site::new(
        r#"verify) if [ -e $here/done ]
            then echo '{"key":1,"status":"done","stamp":"s","bytes_read":5,
                "messages":{"intact":9}}' | tr -d '\n'
            else echo '{"key":1,"status":"damaged"}'; fi;;
        repair) touch $here/done; echo '{"key":1,"status":"done","bytes_read":7,
            "messages":{"intact":8,"repaired":1},"findings":[{"kind":"doubt",
            "code":"odd","reason":"looks odd"}]}' | tr -d '\n';;"#,
    );
    let results = site.claimed().prepare(under(1), vec![mailbox(1)]).unwrap();

    let told = results.first().unwrap();
    let totals = told.totals;
    assert_eq!((totals.intact, totals.repaired, totals.bytes_read), (8, 1, 12));
    assert_eq!((totals.doubts, totals.grades), (1, Grades::one(Grade::Investigate)));
    assert_eq!(told.findings.first().unwrap().reason, "looks odd");
}

#[test]
fn a_program_that_never_stops_talking_is_killed() {
    assert_eq!(settled_as("verify) exec yes '{\"key\":1}';;"), "---");
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
    let mut site = Site::new(
        "verify) sh -c 'echo $$ >$0/child; exec sleep 600' $here & \
         while [ ! -s $here/child ]; do :; done; wait;;",
    );
    site.limits.verify = Duration::from_secs(2);
    let store = site.claimed();
    let started = Instant::now();

    assert!(store.prepare(under(1), vec![mailbox(1)]).unwrap().is_empty());

    assert!(started.elapsed() < LIMIT);
    let child = site.file("child");
    assert!(!child.is_empty());
    assert!(is_gone(child.trim()), "process {child} survived");
}

#[test]
fn what_a_program_leaves_behind_in_the_background_ends_with_it() {
    let site = Site::new(
        "verify) sh -c 'echo $$ >$0/child; exec sleep 600' $here & \
         while [ ! -s $here/child ]; do :; done; \
         echo '{\"key\":1,\"status\":\"done\",\"stamp\":\"s\"}';;",
    );
    let store = site.claimed();

    assert_eq!(store.prepare(under(1), vec![mailbox(1)]).unwrap().len(), 1);

    assert!(is_gone(site.file("child").trim()));
}

/// Dead, if perhaps not buried yet: that is up to whoever adopted it.
fn is_gone(pid: &str) -> bool {
    let deadline = Instant::now() + LIMIT;
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ");
        if gone || Instant::now() > deadline {
            return gone;
        }
        thread::yield_now();
    }
}

#[test]
fn a_program_sees_only_the_environment_that_it_is_given() {
    let site = Site::new("look) env >$here/env; pwd >$here/pwd;;");
    site.claimed().look(under(1), &[mailbox(1)]);

    let seen = site.file("env");
    let mut names: Vec<&str> =
        seen.lines().filter_map(|line| line.split_once('=')).map(|it| it.0).collect();
    // What shells set by themselves.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["COLOUR", "LANG", "PATH", "TIDEGATE_NODE"]);
    assert_eq!(site.file("pwd"), "/\n");
}

#[test]
fn a_program_that_cannot_do_what_is_needed_is_refused() {
    let refused = |line: &str| {
        let site = Site::with(&format!("capabilities) {line};;"), "");
        format!("{:#}", site.open().unwrap_err())
    };
    let verbs =
        |verbs: &str| refused(&format!("echo '{{\"protocol\":1,\"verbs\":[{verbs}]}}'"));

    assert!(verbs(r#""look","probe""#).contains("it has no `verify`"));
    assert!(verbs(r#""verify","probe""#).contains("it has no `look`"));
    assert!(verbs(r#""verify","look""#).contains("it has no `probe`"));
    let one = verbs(r#""verify","look","probe","open""#);
    assert!(one.contains("only one of `open` and `close`"), "{one}");
    let other = refused(r#"echo '{"protocol":2,"verbs":[]}'"#);
    assert!(other.contains("protocol 2"), "{other}");
    assert!(refused("exit 3").contains("exit status: 3"));
    assert!(refused("true").contains("line 1 of its output is missing"));
}

#[test]
fn a_higher_claim_ends_what_runs_under_a_lower_one() {
    let site = Site::new("verify) touch $here/began; exec sleep 600;;");
    let store = site.claimed();

    thread::scope(|scope| {
        let prepared = scope.spawn(|| store.prepare(under(1), vec![mailbox(1)]).unwrap());
        while !site.dir.path().join("began").exists() {
            thread::yield_now();
        }
        assert!(store.claim(under(2)).unwrap());
        assert!(prepared.join().unwrap().is_empty());
    });

    fs::remove_file(site.dir.path().join("began")).unwrap();
    assert!(store.prepare(under(1), vec![mailbox(1)]).unwrap().is_empty());
    assert!(!site.dir.path().join("began").exists(), "the lower one was called again");
}

#[test]
fn nobody_is_let_in_who_is_not_on_the_roll_or_without_a_claim() {
    let site = Site::new(&format!(
        r#"open) cp $here/open $here/roll; cat >$here/asked; exit 75;;
        close) {EACH}; each '"status":"done"';;"#
    ));
    let store = site.open().unwrap();
    let first = telling(Level::FIRST);

    let told = store.tell(&first, &[mailbox(1)]).unwrap();
    assert_eq!(told, [(Ordinal::new(1), Told::Unknown)]);
    assert_eq!(site.file("asked"), "", "it was called without a claim");

    store.claim(under(1)).unwrap();
    let told = store.tell(&first, &[mailbox(1)]).unwrap();
    assert_eq!(told, [(Ordinal::new(1), Told::Unknown)]);
    let asked: serde_json::Value = serde_json::from_str(&site.file("asked")).unwrap();
    assert_eq!(asked["level"], 1);
    assert_eq!(asked["services"][0], "imap");
    assert!(site.file("roll").contains("user1@example.org"));
    drop(store);

    let store = site.open().unwrap();
    let keys = |store: &CommandStore| {
        store.maybe_open().iter().map(|it| it.mailbox.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&store), [1]);
    let told = store.tell(&telling(Level::HELD), &[mailbox(1)]).unwrap();
    assert_eq!(told, [(Ordinal::new(1), Told::Done)]);
    assert!(keys(&store).is_empty());
}

#[test]
fn nobody_is_let_in_when_the_lease_is_over() {
    let site = Site::new("open) touch $here/called;;");
    let store = site.claimed();
    let late = Telling { until: Timestamp::default(), ..telling(Level::FIRST) };

    let told = store.tell(&late, &[mailbox(1)]).unwrap();

    assert_eq!(told, [(Ordinal::new(1), Told::Unknown)]);
    assert!(!site.dir.path().join("called").exists());
}

#[test]
fn a_look_and_a_probe_say_only_what_was_answered() {
    let site = Site::new(
        r#"look) echo '{"key":1,"status":"done","stamp":"a"}'
              echo '{"key":2,"status":"damaged"}';;
        probe) echo '{"key":1,"status":"done","millis":7}'
               echo '{"key":2,"status":"unreadable","reason":"no bytes"}';;
        stats) echo '{"disk_free_ppm":120000}';;"#,
    );
    let store = site.claimed();

    let looks = store.look(under(1), &[mailbox(1), mailbox(2)]);
    assert!(matches!(looks[..], [(_, Look::Stamp(_)), (_, Look::Impossible)]));
    let task = |key: u16| ProbeTask {
        job: JobNumber::new(1),
        generation: Generation::new(1),
        ordinal: Ordinal::new(key),
        level: Level::FIRST,
        mature: false,
    };
    let tasks: Vec<_> =
        [1, 2].map(|key| (task(key), mailbox(key).1)).into_iter().collect();
    let probed = store.probe(&tasks);
    assert!(matches!(&probed[0].1, Outcome::Read));
    assert_eq!(probed[0].2, Some(Duration::from_millis(7)));
    assert!(matches!(&probed[1].1, Outcome::Unreadable(it) if it.reason == "no bytes"));
    assert_eq!(store.free_share(), Some(Ppm::new(120_000)));
}

#[test]
fn complaints_go_to_the_log_without_the_names_of_users() {
    let (_, mailbox) = mailbox(4);
    let asked = [(under(1), &mailbox)];

    let line = unnamed(
        "user4@example.org: u/user4 torn; ask <carl@example.org>\u{1b}[0m",
        &asked,
    );

    assert_eq!(line, "mailbox 4: mailbox 4 torn; ask … [0m");
}
