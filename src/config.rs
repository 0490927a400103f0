//! Config: the files that the programs are started with.
//!
//! # Invariants
//!
//! * Unknown keys are refused; every complaint has file, line, caret and help.
//! * A relative path is meant from the file's own directory.
//! * What leaves this module is complete: nothing is optional that is required.

mod coordinator;
mod doctor;
mod dovecot;
pub(crate) mod keys;
mod mx;
mod store;
mod tls;
mod webhook;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_worker::{Canary, Dovecot, Mail, Notices};
use toml::Spanned;

use crate::complaint::Complaint;
use crate::exit::{Exit, Failure};
use crate::telemetry::LogFormat;
use coordinator::RawCoordinator;
pub(crate) use coordinator::{Coordinator, CoordinatorFile, Pages};
use doctor::RawDoctor;
pub(crate) use doctor::{Doctor, Patient};
use dovecot::{RawCanary, RawDovecot, RawNotice};
pub(crate) use keys::of_kind as keys_of;
pub(crate) use mx::MxFile;
use store::{RawLimits, RawStore};
use tls::{RawTls, tls};

/// Where a worker answers the mail system if nobody says otherwise.
const ADMISSION_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_390);

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// The filter, for example `info`.
    pub(crate) filter: String,
    /// How lines look.
    pub(crate) format: LogFormat,
    /// The collector of traces, if there is one.
    pub(crate) traces: Option<String>,
}

/// What a worker is started with.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// The storage node it stands on.
    pub(crate) node: String,
    /// Where it keeps its journal.
    pub(crate) state_dir: PathBuf,
    /// What its mail is kept in.
    pub(crate) mail: Mail,
    /// Where it keeps claims, stages and keeps aside.
    pub(crate) work: PathBuf,
    /// Where it answers the mail system.
    pub(crate) admission_listen: SocketAddr,
    /// Where it shows how it is.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// The Dovecot beside it.
    pub(crate) dovecot: Option<Dovecot>,
    /// The node's own mailbox.
    pub(crate) canary: Option<Canary>,
    /// What held users are told.
    pub(crate) notices: Notices,
    /// What the doctor tries things with.
    pub(crate) doctor: Doctor,
    /// How many records its journal has when it is compacted.
    pub(crate) compact_after_records: Option<u64>,
}

/// `worker.toml`.
#[derive(Debug)]
pub(crate) struct WorkerFile {
    /// The worker.
    pub(crate) worker: Worker,
    /// The coordinator's URL.
    pub(crate) coordinator: String,
    /// Its certificate.
    pub(crate) tls: Option<tidegate_trust::Files>,
    /// Its log.
    pub(crate) log: Log,
}

/// `solo.toml`.
pub(crate) struct SoloFile {
    /// The coordinator.
    pub(crate) coordinator: Coordinator,
    /// The worker.
    pub(crate) worker: Worker,
    /// The log of both.
    pub(crate) log: Log,
}

impl WorkerFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Exit::Config`] with a message that shows the place.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::check(&Text::read(path)?)
    }

    fn check(text: &Text) -> Result<Self, Failure> {
        let raw: RawWorkerFile = text.parse()?;
        let tls = tls(raw.tls, text)?;
        let coordinator = tls::url(raw.coordinator, tls.as_ref(), text)?;
        let table = RawWorker {
            node: raw.node,
            state_dir: raw.state_dir,
            live: raw.live,
            snapshot: raw.snapshot,
            work: raw.work,
            format: raw.format,
            admission_listen: raw.admission_listen,
            metrics_listen: raw.metrics_listen,
            limits: raw.limits,
            nfs_is_fenced: raw.nfs_is_fenced,
            store: raw.store,
            dovecot: raw.dovecot,
            notice: raw.notice,
            canary: raw.canary,
            doctor: raw.doctor,
            compact_after_records: raw.compact_after_records,
        };
        let worker = table.check(text)?;
        let log =
            Log { traces: traces(raw.traces, text)?, ..raw_log(raw.log, raw.log_format) };
        Ok(Self { worker, coordinator, tls, log })
    }
}

impl SoloFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Exit::Config`] with a message that shows the place.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = Text::read(path)?;
        let raw: RawSoloFile = text.parse()?;
        let worker = raw.worker.check(&text)?;
        let traces = traces(raw.traces, &text)?;
        let log = Log { traces, ..raw_log(raw.log, raw.log_format) };
        Ok(Self { coordinator: raw.coordinator.check(&text)?, worker, log })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWorkerFile {
    node: Spanned<String>,
    coordinator: Spanned<String>,
    tls: Option<RawTls>,
    state_dir: PathBuf,
    live: Option<Spanned<PathBuf>>,
    snapshot: Option<Spanned<PathBuf>>,
    work: Spanned<PathBuf>,
    format: Option<Spanned<String>>,
    admission_listen: Option<Spanned<SocketAddr>>,
    metrics_listen: Option<Spanned<SocketAddr>>,
    limits: Option<RawLimits>,
    nfs_is_fenced: Option<bool>,
    store: Option<Spanned<RawStore>>,
    dovecot: Option<Spanned<RawDovecot>>,
    notice: Option<RawNotice>,
    canary: Option<Spanned<RawCanary>>,
    doctor: Option<Spanned<RawDoctor>>,
    compact_after_records: Option<Spanned<u64>>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    traces: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWorker {
    node: Spanned<String>,
    state_dir: PathBuf,
    live: Option<Spanned<PathBuf>>,
    snapshot: Option<Spanned<PathBuf>>,
    work: Spanned<PathBuf>,
    format: Option<Spanned<String>>,
    admission_listen: Option<Spanned<SocketAddr>>,
    metrics_listen: Option<Spanned<SocketAddr>>,
    limits: Option<RawLimits>,
    nfs_is_fenced: Option<bool>,
    store: Option<Spanned<RawStore>>,
    dovecot: Option<Spanned<RawDovecot>>,
    notice: Option<RawNotice>,
    canary: Option<Spanned<RawCanary>>,
    doctor: Option<Spanned<RawDoctor>>,
    compact_after_records: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSoloFile {
    coordinator: RawCoordinator,
    worker: RawWorker,
    log: Option<String>,
    log_format: Option<LogFormat>,
    traces: Option<Spanned<String>>,
}

/// The fewest records between two compactions: fewer would only write snapshots.
const COMPACT_AFTER_MIN: u64 = 8;

fn compacted(after: Option<Spanned<u64>>, text: &Text) -> Result<Option<u64>, Failure> {
    let Some(after) = after else { return Ok(None) };
    if *after.get_ref() < COMPACT_AFTER_MIN {
        let title = "the journal would be compacted all the time";
        let help = "leave `compact_after_records` out, or write at least 8";
        return Err(text.complain(after.span(), title, help));
    }
    Ok(Some(after.into_inner()))
}

fn raw_log(filter: Option<String>, format: Option<LogFormat>) -> Log {
    Log {
        filter: filter.unwrap_or_else(|| "info".to_owned()),
        format: format.unwrap_or_default(),
        traces: None,
    }
}

/// The collector of traces.
fn traces(url: Option<Spanned<String>>, text: &Text) -> Result<Option<String>, Failure> {
    let Some(url) = url else { return Ok(None) };
    if !tidegate_trace::is_collector(url.get_ref()) {
        let title = "this is no address of a collector over plain HTTP";
        let help =
            "write it as `http://127.0.0.1:4318`: a collector stands on this machine";
        return Err(text.complain(url.span(), title, help));
    }
    Ok(Some(url.into_inner()))
}

impl RawWorker {
    fn check(self, text: &Text) -> Result<Worker, Failure> {
        if self.node.get_ref().trim().is_empty() {
            let help = "give the node's name as it is in the inventory's column `node`";
            return Err(text.complain(self.node.span(), "the node has no name", help));
        }
        if let Some(address) = &self.admission_listen
            && !address.get_ref().ip().is_loopback()
        {
            let title = "admission would listen on more than this machine";
            let help =
                "it has no encryption: use `127.0.0.1:10390`, beside the mail server";
            return Err(text.complain(address.span(), title, help));
        }
        if let Some(address) = &self.metrics_listen
            && !address.get_ref().ip().is_loopback()
        {
            let title = "metrics would be shown to more than this machine";
            let help =
                "use `127.0.0.1:10394`, and let something on this machine fetch them";
            return Err(text.complain(address.span(), title, help));
        }
        let mail = store::mail(&self, text)?;
        let dovecot = dovecot::dovecot(self.dovecot.as_ref(), &mail, text)?;
        let canary = dovecot::canary(self.canary.as_ref(), dovecot.as_ref(), text)?;
        let notices = dovecot::notices(self.notice.as_ref(), text)?;
        let doctor = doctor::doctor(self.doctor.as_ref(), text)?;
        Ok(Worker {
            node: self.node.into_inner(),
            state_dir: text.beside(&self.state_dir),
            mail,
            work: text.beside(self.work.get_ref()),
            admission_listen: self
                .admission_listen
                .map_or(ADMISSION_LISTEN, Spanned::into_inner),
            metrics_listen: self.metrics_listen.map(Spanned::into_inner),
            dovecot,
            canary,
            notices,
            doctor,
            compact_after_records: compacted(self.compact_after_records, text)?,
        })
    }
}

/// A configuration file's text, with its name.
pub(crate) struct Text {
    name: String,
    dir: PathBuf,
    content: String,
}

impl Text {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Exit::Config`] when it cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let content = fs::read_to_string(path).map_err(|source| {
            let context = format!("read configuration `{}`", path.display());
            Failure::new(Exit::Config, anyhow::Error::new(source).context(context))
                .help("`deploy/config` has commented examples")
        })?;
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { name: path.display().to_string(), dir, content })
    }

    /// What it says.
    ///
    /// # Errors
    ///
    /// [`Exit::Config`] with a message that shows the place.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        toml::from_str(&self.content)
            .map_err(|error| self.refuse(&Complaint::from_toml(&error)))
    }

    /// A path of it, which is meant from its own directory.
    pub(crate) fn beside(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    fn directory(&self, path: &Spanned<PathBuf>) -> Result<PathBuf, Failure> {
        let full = self.beside(path.get_ref());
        match fs::metadata(&full) {
            Ok(found) if found.is_dir() => Ok(full),
            Ok(_) => {
                let title = format!("`{}` is not a directory", full.display());
                Err(self.complain(path.span(), title, "name the directory"))
            }
            Err(error) => {
                let title = format!("`{}` cannot be used: {error}", full.display());
                let help = "is the storage mounted, and may this user read it?";
                Err(self.complain(path.span(), title, help))
            }
        }
    }

    fn complain(
        &self,
        span: Range<usize>,
        title: impl Into<String>,
        help: &str,
    ) -> Failure {
        let help = Some(help.to_owned());
        self.refuse(&Complaint { title: title.into(), span: Some(span), help })
    }

    fn refuse(&self, complaint: &Complaint) -> Failure {
        Failure::complete(Exit::Config, complaint.render(&self.name, &self.content))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use expect_test::{Expect, expect};

    use super::{CoordinatorFile, Failure, RawSoloFile, RawWorkerFile, Text, WorkerFile};

    #[test]
    fn the_examples_are_read() {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/config/");
        let text = |name: &str| {
            Text::read(&PathBuf::from(config).join(name))
                .map_err(|error| error.to_string())
                .unwrap()
        };

        assert!(
            CoordinatorFile::read(&PathBuf::from(config).join("coordinator.toml"))
                .is_ok()
        );
        assert!(text("worker.toml").parse::<RawWorkerFile>().is_ok());
        assert!(text("solo.toml").parse::<RawSoloFile>().is_ok());
    }

    #[test]
    fn what_the_example_leaves_out_is_right_too() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/config/worker.toml");
        let text = fs::read_to_string(path).unwrap();
        let (_, optional) = text.split_once("#[dovecot]").unwrap();
        let optional = format!("#[dovecot]{optional}").replace("/etc/tidegate/", "");
        let lines: Vec<&str> = optional
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|it| !it.starts_with(' ')).unwrap_or(line)
            })
            .collect();
        let optional = lines.join("\n") + "\n";

        let file = read(&format!("{WORKER}{optional}"));

        let worker = file.map_err(|error| error.to_string()).unwrap().worker;
        let dovecot = worker.dovecot.unwrap();
        assert_eq!(dovecot.lmtp_grace.as_secs(), 30);
        assert_eq!(dovecot.key, tidegate_worker::DoveadmKey::ApiKey("secret".into()));
        assert_eq!(dovecot.master.unwrap().user, "tidegate-probe");
        assert_eq!(worker.canary.unwrap().mailbox, "canary-stor-01@example.org");
        let language = worker.notices.default_language;
        assert_eq!(language, tidegate_worker::Language::Italian);
    }

    #[test]
    fn doveadm_is_opened_by_one_secret_in_a_file() {
        let doveadm = "[dovecot]\ndoveadm = [\"http://127.0.0.1:10380\"]\n";
        check(
            &format!("{WORKER}{doveadm}"),
            &expect![[r"
            error: doveadm is opened by one secret
             --> worker.toml:6:1
              |
            6 | [dovecot]
              | ^^^^^^^^^
              |
              = help: add `key_file` with Dovecot's doveadm_api_key, or `password_file` with its doveadm_password
        "]],
        );
        check(
            &format!("{WORKER}{doveadm}key_file = \"nowhere\"\n"),
            &expect![[r#"
            error: `/nowhere` cannot be read: No such file or directory (os error 2)
             --> worker.toml:8:12
              |
            8 | key_file = "nowhere"
              |            ^^^^^^^^^
              |
              = help: make it readable for the worker's user, and for nobody else
        "#]],
        );
        check(
            &format!(
                "{WORKER}[dovecot]\ndoveadm = [\"127.0.0.1\"]\nkey_file = \"doveadm-key\"\n"
            ),
            &expect![[r#"
                error: doveadm is reached by a URL that begins with `http://`
                 --> worker.toml:7:11
                  |
                7 | doveadm = ["127.0.0.1"]
                  |           ^^^^^^^^^^^^^
                  |
                  = help: write `doveadm = ["http://127.0.0.1:10380"]`, one for each Dovecot of this node
            "#]],
        );
    }

    #[test]
    fn numbers_for_dovecot_and_the_canary_have_bounds() {
        let dovecot = "[dovecot]\ndoveadm = [\"http://127.0.0.1:10380\"]\n\
            key_file = \"doveadm-key\"\n";
        check(
            &format!("{WORKER}{dovecot}open_check_percent = 101\n"),
            &expect![[r"
            error: `open_check_percent` is 101, must be 0 to 100
             --> worker.toml:9:22
              |
            9 | open_check_percent = 101
              |                      ^^^
              |
              = help: leave it out for 100
        "]],
        );
        let canary = "[canary]\nmailbox = \"c@example.org\"\npassword_file = \"canary-password\"\n";
        check(
            &format!("{WORKER}{dovecot}{canary}"),
            &expect![[r#"
            error: it is not said where mail is delivered and read
             --> worker.toml:9:1
              |
            9 | [canary]
              | ^^^^^^^^
              |
              = help: add `imap` and `lmtp` to [dovecot], such as `imap = "127.0.0.1:143"`
        "#]],
        );
        check(
            &format!("{WORKER}[notice]\nlanguage = \"la\"\n"),
            &expect![[r#"
            error: `la` is no language in which texts exist
             --> worker.toml:7:12
              |
            7 | language = "la"
              |            ^^^^
              |
              = help: write `en` or `it`
        "#]],
        );
    }

    #[test]
    fn a_store_behind_a_program_closes_by_itself() {
        check(
            &format!("{COMMAND}[dovecot]\ndoveadm = []\n"),
            &expect![[r"
            error: a store behind a program has doors of its own
             --> worker.toml:8:1
              |
            8 | [dovecot]
              | ^^^^^^^^^
              |
              = help: take the table out; the program's `open` and `close` tell the mail system
        "]],
        );
    }

    #[test]
    fn an_unknown_key_is_shown_with_a_caret_and_the_likely_one() {
        check(
            "node = \"stor-01\"\ncordinator = \"http://127.0.0.1:7443\"\n",
            &expect![[r#"
                error: unknown field `cordinator`, expected one of `node`, `coordinator`, `tls`, `state_dir`, `live`, `snapshot`, `work`, `format`, `admission_listen`, `metrics_listen`, `limits`, `nfs_is_fenced`, `store`, `dovecot`, `notice`, `canary`, `doctor`, `compact_after_records`, `log`, `log_format`, `traces`
                 --> worker.toml:2:1
                  |
                2 | cordinator = "http://127.0.0.1:7443"
                  | ^^^^^^^^^^
                  |
                  = help: did you mean `coordinator`?
            "#]],
        );
    }

    #[test]
    fn a_format_cannot_be_chosen_because_mailboxes_tell_theirs() {
        check(
            &format!("{WORKER}format = \"mdbox\"\n"),
            &expect![[r#"
                error: `mdbox` cannot be chosen
                 --> worker.toml:6:10
                  |
                6 | format = "mdbox"
                  |          ^^^^^^^
                  |
                  = help: take the line out: the format of each mailbox is told by its files
            "#]],
        );
    }

    #[test]
    fn admission_stays_on_this_machine() {
        check(
            &format!("{WORKER}admission_listen = \"0.0.0.0:10390\"\n"),
            &expect![[r#"
                error: admission would listen on more than this machine
                 --> worker.toml:6:20
                  |
                6 | admission_listen = "0.0.0.0:10390"
                  |                    ^^^^^^^^^^^^^^^
                  |
                  = help: it has no encryption: use `127.0.0.1:10390`, beside the mail server
            "#]],
        );
    }

    #[test]
    fn a_work_directory_inside_the_mail_root_is_refused() {
        check(
            &WORKER.replace("\"work\"", "\"live/work\""),
            &expect![[r#"
                error: the work directory and the mail root lie in each other
                 --> worker.toml:5:8
                  |
                5 | work = "live/work"
                  |        ^^^^^^^^^^^
                  |
                  = help: give it a place of its own on the same file system, never served
            "#]],
        );
    }

    #[test]
    fn a_store_behind_a_program_needs_no_directories_of_mail() {
        let text = format!("{COMMAND}[store.timeout_seconds]\nopen = 5\n");
        let file = read(&text).map_err(|error| error.to_string()).unwrap();

        let tidegate_worker::Mail::Command(command) = file.worker.mail else {
            panic!("it is not behind a program");
        };
        assert_eq!(command.program, PathBuf::from("/bin/sh"));
        assert_eq!(command.arguments, ["-x"]);
        let limits = (command.limits.open.as_secs(), command.limits.verify.as_secs());
        assert_eq!(limits, (5, 600));
    }

    #[test]
    fn what_means_nothing_to_the_chosen_store_is_refused() {
        check(
            &COMMAND.replace("work = ", "live = \"live\"\nwork = "),
            &expect![[r#"
                error: only a store of files has this
                 --> worker.toml:4:8
                  |
                4 | live = "live"
                  |        ^^^^^^
                  |
                  = help: take the line out; the program of [store] knows where its mail is
            "#]],
        );
        check(
            &format!("{WORKER}[store]\nkind = \"files\"\nbatch = 3\n"),
            &expect![[r#"
                error: files are read without a program
                 --> worker.toml:8:9
                  |
                8 | batch = 3
                  |         ^
                  |
                  = help: write `kind = "command"`, or take the line out
            "#]],
        );
    }

    #[test]
    fn a_program_is_named_by_its_whole_path_because_no_shell_runs() {
        check(
            &COMMAND.replace("/bin/sh", "mbox-store"),
            &expect![[r#"
                error: `mbox-store` has no directory
                 --> worker.toml:7:11
                  |
                7 | program = ["mbox-store", "-x"]
                  |           ^^^^^^^^^^^^^^^^^^^^
                  |
                  = help: write its whole path: programs are not looked for, and no shell runs
            "#]],
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        check(
            "node = \"stor-01\"\n",
            &expect![[r"
                error: missing field `coordinator`
                --> worker.toml
                 = help: add a line `coordinator = …`; `deploy/config` has commented examples
            "]],
        );
    }

    const COMMAND: &str = "node = \"stor-01\"\ncoordinator = \"http://127.0.0.1:7443\"\n\
        state_dir = \"state\"\nwork = \"work\"\n[store]\nkind = \"command\"\n\
        program = [\"/bin/sh\", \"-x\"]\n";

    const WORKER: &str = "node = \"stor-01\"\ncoordinator = \"http://127.0.0.1:7443\"\n\
        state_dir = \"state\"\nlive = \"live\"\nwork = \"work\"\n";

    fn check(text: &str, expected: &Expect) {
        let said = read(text).unwrap_err().to_string();
        expected.assert_eq(&format!("{}\n", without_temporary(&said)));
    }

    /// Paths of the test's own directory are never the same.
    fn without_temporary(said: &str) -> String {
        match (said.find("`/"), said.rfind("/nowhere`")) {
            (Some(start), Some(end)) => format!("{}`{}", &said[..start], &said[end..]),
            _ => said.to_owned(),
        }
    }

    fn read(text: &str) -> Result<WorkerFile, Failure> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("live")).unwrap();
        for name in
            ["doveadm-key", "probe-password", "canary-password", "doctor-password"]
        {
            fs::write(dir.path().join(name), "secret\n").unwrap();
        }
        let text = Text {
            name: "worker.toml".to_owned(),
            dir: dir.path().to_owned(),
            content: text.to_owned(),
        };

        WorkerFile::check(&text)
    }
}
