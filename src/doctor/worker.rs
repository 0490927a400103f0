//! The worker: does it answer, has it what it needs, and can it hear and tell its mail server?
//!
//! # Invariants
//!
//! * A worker that is not running is a failure only where something needs its answer.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_mailserver::doveadm::{Credential, Doveadm, DoveadmError, DoveadmSpec};
use tidegate_mailserver::metrics::Scrape;
use tidegate_mailserver::pressure::{Kernel, Resource};
use tidegate_worker::{ALWAYS_DOWN, DoveadmKey, Dovecot, Mail};

use super::chart::{Chart, Trouble};
use super::doveconf::Doveconf;
use super::hops::Nodes;
use super::place::{self, Kept};
use super::reader::Reader;
use super::{gate, replies};
use crate::cli;
use crate::client::Client;
use crate::config::Worker;
use crate::confine::{self, Confinement};
use crate::exit::Exit;
use crate::telemetry::Chain;

/// Everything on the node answers within a fraction of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Clocks further apart show users wrong hours, and people wrong times.
const CLOCK_SECONDS_MAX: i64 = 10;

/// Looks at a node.
pub(super) fn node(chart: &mut Chart, worker: &Worker) {
    admission(chart, worker);
    directories(chart, worker);
    pressure(chart);
    let Some(dovecot) = &worker.dovecot else {
        let trouble = Trouble::new(
            "there is no table [dovecot] in the configuration",
            "whoever is logged in when a mailbox is closed stays in it",
            "add [dovecot] with `doveadm` and `key_file`, if there is a Dovecot",
        );
        return chart.warn("dovecot", trouble);
    };
    match Doveconf::read(&worker.doctor.dovecot_config) {
        Ok(conf) => {
            let expected = gate::Expected {
                admission: worker.admission_listen,
                webmail_ports: &dovecot.webmail_ports,
                config_dir: worker
                    .doctor
                    .dovecot_config
                    .parent()
                    .unwrap_or(Path::new("/")),
            };
            gate::look(chart, &conf, &expected);
            replies::look(chart, &conf, worker);
        }
        Err(error) => {
            let trouble = Trouble::new(
                Chain(&error).to_string(),
                "whether the gate is where it must be is not known",
                "run this as root; name Dovecot's file in `dovecot_config` of [doctor]",
            );
            chart.fail("dovecot.config", trouble);
        }
    }
    doveadm(chart, dovecot);
    statistics(chart, dovecot);
    logs(chart, worker, dovecot);
}

/// Whether the coordinator answers, and what time it has; and which nodes its plan has.
pub(super) async fn coordinator(chart: &mut Chart, to: &cli::Coordinator) -> Nodes {
    let url = &to.url;
    let answer = async { Client::connect(to).await?.rollout().await };
    let rollout = match answer.await {
        Ok(rollout) => rollout,
        Err(failure) if !matches!(failure.exit(), Exit::Refused | Exit::Input) => {
            let trouble = Trouble::new(
                failure.to_string().lines().next().unwrap_or_default(),
                "without it nothing new opens; what is open stays open",
                format!("start it, or the tunnel to it; `coordinator` is {url}"),
            );
            chart.fail("coordinator", trouble);
            return Nodes::Unknown;
        }
        Err(_) => {
            chart.ok("coordinator", format!("answers at {url}; no plan is applied yet"));
            return Nodes::NoPlan;
        }
    };
    chart.ok("coordinator", format!("answers at {url}"));
    if let Some(at) = rollout.at_time {
        clock(chart, at.seconds);
    }
    Nodes::Planned(rollout.nodes.into_iter().map(|node| node.name).collect())
}

/// Whether the node's own mailbox is really nobody's.
pub(super) async fn canary(chart: &mut Chart, worker: &Worker, to: &cli::Coordinator) {
    let Some(canary) = &worker.canary else { return };
    let check = "worker.canary";
    let ask = async { Client::connect(to).await?.mailbox(&canary.mailbox).await };
    match ask.await {
        Ok(mailbox) if !mailbox.wave.is_empty() => {
            let trouble = Trouble::new(
                format!("{} is a user's mailbox, in the plan", canary.mailbox),
                "a canary is let in before all others, and is written into; the coordinator \
                 refuses the worker (canary-in-plan)",
                "name an address in [canary] that is in no inventory",
            );
            chart.fail(check, trouble);
        }
        Ok(_) => chart.ok(check, format!("{} is in no wave", canary.mailbox)),
        Err(failure) if failure.exit() == Exit::Input => {
            chart.ok(check, format!("{} is in no inventory", canary.mailbox));
        }
        Err(failure) => {
            let seen = failure.to_string();
            let seen = seen.lines().next().unwrap_or_default();
            let means = "whether the canary is a user's mailbox is not known";
            chart.warn(check, Trouble::new(seen, means, "run it again"));
        }
    }
}

fn clock(chart: &mut Chart, coordinator_seconds: i64) {
    let apart = (coordinator_seconds - jiff::Timestamp::now().as_second()).abs();
    let seen = format!("{apart} s between its clock and this one");
    if apart > CLOCK_SECONDS_MAX {
        let means = "held users are told wrong hours";
        let remedy = "synchronise the clocks: systemctl status chrony systemd-timesyncd";
        chart.warn("coordinator.clock", Trouble::new(seen, means, remedy));
    } else {
        chart.ok("coordinator.clock", seen);
    }
}

/// Whether every file with a secret is for its owner and group alone, and the worker's user
/// may read it.
pub(super) fn secrets(chart: &mut Chart, config: &Path, worker: &Worker) {
    let text = fs::read_to_string(config).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let mut files = Vec::new();
    secret_files(&table, &mut files);
    let beside = |file| config.parent().unwrap_or(Path::new("")).join(file);
    let files: Vec<PathBuf> = files.into_iter().map(beside).collect();
    let mut seen = 0;
    for path in &files {
        let Ok(found) = fs::metadata(path) else { continue };
        seen += 1;
        let mode = found.permissions().mode() & 0o7777;
        if mode & 0o007 != 0 {
            let name = path.display();
            let trouble = Trouble::new(
                format!("`{name}` is open to everybody (mode {mode:04o})"),
                "whoever has a login on this machine has the secret in it",
                format!("chmod 0640 {name}, and make a new secret"),
            );
            return chart.fail("worker.secrets", trouble);
        }
    }
    chart.ok(
        "worker.secrets",
        format!("{seen} files with secrets, none open to everybody"),
    );
    let remedy =
        "chown root:GROUP FILE; chmod 0640 FILE, with the group of the worker's user";
    let means = "the worker does not start, or not again";
    readable(chart, "worker.secrets.read", worker, (&files, means, remedy));
}

/// Whether the worker's user may read these files; and if not, what it means and what to do.
fn readable(
    chart: &mut Chart,
    check: &'static str,
    worker: &Worker,
    (files, means, remedy): (&[PathBuf], &str, &str),
) {
    let process = place::journal_process(&worker.state_dir);
    let Some(reader) = Reader::of(&worker.state_dir, process.as_deref()) else { return };
    let user = reader.user();
    for file in files {
        let name = file.display();
        match reader.may_read(file) {
            Some(true) => {}
            Some(false) => {
                let seen = format!(
                    "the worker's user ({user}) may not read `{name}`, or its way"
                );
                return chart.fail(check, Trouble::new(seen, means, remedy));
            }
            None => {
                let seen = format!("not tried whether user {user} may read `{name}`");
                let remedy = "run this as root";
                return chart.warn(check, Trouble::new(seen, means, remedy));
            }
        }
    }
    chart.ok(check, format!("user {user} may read {} files", files.len()));
}

fn secret_files(table: &toml::Table, files: &mut Vec<PathBuf>) {
    for (key, value) in table {
        match value.as_table() {
            Some(inner) => secret_files(inner, files),
            None if key == "key_file" || key == "password_file" => {
                files.extend(value.as_str().map(PathBuf::from));
            }
            None => {}
        }
    }
}

/// Whether the worker answers the mail system, and fails when it shall.
fn admission(chart: &mut Chart, worker: &Worker) {
    let address = worker.admission_listen;
    let check = "worker.admission";
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .proxy(None)
        .build();
    let agent = ureq::Agent::from(agent);
    let ask = |path: &str| -> Result<(u16, String), ureq::Error> {
        let mut answer = agent.get(format!("http://{address}{path}")).call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    };
    let user = worker.doctor.patient.as_ref().map(|it| it.user.as_str());
    let user = user.unwrap_or("tidegate-doctor@example.invalid");
    let alive = ask("/livez");
    match &alive {
        Ok((200, _)) => {}
        Ok((status, _)) => {
            let trouble = Trouble::new(
                format!("{address} answers {status}"),
                "something else than the worker listens there",
                "look what it is (ss -ltnp), or change `admission_listen`",
            );
            return chart.fail(check, trouble);
        }
        Err(error) => {
            let trouble = Trouble::new(
                format!("nobody answers at {address}: {error}"),
                "the gate fails closed: everybody is kept out of every mailbox",
                "systemctl start tidegate-worker",
            );
            return chart.fail(check, trouble);
        }
    }
    let held = ask(&format!("/gate/passdb/imap/{user}"));
    let down = ask(&format!("/gate/passdb/imap/{ALWAYS_DOWN}@example.invalid"));
    let is_held =
        held.is_ok_and(|(status, body)| status == 200 && body.contains("\"held\""));
    if !is_held {
        let trouble = Trouble::new(
            format!("{user} is not held"),
            "a user whom no inventory has must be held; he cannot be tried with",
            "take another user for [doctor]: real for Dovecot, and in no inventory",
        );
        return chart.fail(check, trouble);
    }
    if !down.is_ok_and(|(status, _)| status == 503) {
        let trouble = Trouble::new(
            "the worker does not know the users for whom it is out of order",
            "whether the gate fails closed cannot be tried",
            "the worker is older than this program: restart it",
        );
        return chart.fail(check, trouble);
    }
    chart.ok(check, format!("answers at {address}, and holds whom it does not know"));
}

/// Whether the kernel keeps the worker within its directories.
fn confinement(chart: &mut Chart) {
    let found = confine::offered();
    let check = "worker.confined";
    match found {
        Confinement::Full => chart.ok(check, confine::told(found)),
        Confinement::ButTruncation | Confinement::None => {
            let trouble = Trouble::new(
                confine::told(found),
                "what the systemd unit keeps it from is all that it is kept from",
                "run it under the unit that is delivered; a newer kernel does the rest",
            );
            chart.warn(check, trouble);
        }
    }
}

fn directories(chart: &mut Chart, worker: &Worker) {
    let state = Kept { check: "worker.state", path: &worker.state_dir, is_private: true };
    let state = place::directory(chart, state);
    if state.is_some() {
        place::journal_disk(chart, "worker.state.disk", &worker.state_dir);
        place::room(chart, "worker.state.room", &worker.state_dir);
        place::lock(chart, "worker.journal", &worker.state_dir);
    }
    let work = Kept { check: "worker.work", path: &worker.work, is_private: true };
    let work = place::directory(chart, work);
    if let (Some(state), Some(work)) = (&state, &work) {
        owners(chart, state, work);
    }
    let Mail::Files(files) = &worker.mail else { return };
    confinement(chart);
    let live = Kept { check: "worker.live", path: &files.live, is_private: false };
    let live = place::directory(chart, live);
    if let (Some(live), Some(work)) = (&live, &work) {
        if live.dev() == work.dev() {
            chart.ok("worker.one_disk", "the work directory is on the disk of the mail");
        } else {
            let trouble = Trouble::new(
                "the work directory is not on the file system of the mail",
                "what is replaced is moved there by rename, which cannot leave a file system",
                "give `work` a place on the file system of `live`",
            );
            chart.fail("worker.one_disk", trouble);
        }
    }
    apart(chart, &files.live, &worker.work);
    place::room(chart, "worker.work.room", &worker.work);
    place::access_times(chart, &files.live);
    place::sharing(chart, &worker.work);
    match &files.snapshot {
        Some(snapshot) => place::read_only(chart, snapshot),
        None => {
            chart.ok("worker.snapshot", "there is none: what is damaged is set aside");
        }
    }
}

/// The worker is one user, and not root.
fn owners(chart: &mut Chart, state: &fs::Metadata, work: &fs::Metadata) {
    if state.uid() != work.uid() {
        let trouble = Trouble::new(
            format!(
                "`state_dir` is user {}'s, `work` is user {}'s",
                state.uid(),
                work.uid()
            ),
            "the worker, which is one user, cannot write both",
            "chown both to the worker's user, such as vmail",
        );
        return chart.fail("worker.user", trouble);
    }
    if state.uid() == 0 {
        let trouble = Trouble::new(
            "the worker's directories are root's",
            "a worker that runs as root can do more harm than it needs to",
            "run it as the user that owns the mail: User= in tidegate-worker.service",
        );
        return chart.warn("worker.user", trouble);
    }
    chart.ok("worker.user", format!("user {} owns both directories", state.uid()));
}

/// Mail and work lie apart, also behind links.
fn apart(chart: &mut Chart, live: &Path, work: &Path) {
    let (Ok(live), Ok(work)) = (live.canonicalize(), work.canonicalize()) else { return };
    if live.starts_with(&work) || work.starts_with(&live) {
        let trouble = Trouble::new(
            format!("`{}` and `{}` lie in each other", live.display(), work.display()),
            "what was set aside would be served as mail",
            "give `work` a place outside of `live`",
        );
        return chart.fail("worker.apart", trouble);
    }
    chart.ok("worker.apart", "the work directory is outside of the mail");
}

fn pressure(chart: &mut Chart) {
    if Kernel::default().pressure(Resource::Io).is_some() {
        return chart
            .ok("worker.pressure", "the kernel tells how hard the disks work (PSI)");
    }
    let trouble = Trouble::new(
        "the kernel does not tell pressure (/proc/pressure/io)",
        "the pace of openings feels disks only by their latency",
        "boot with psi=1",
    );
    chart.warn("worker.pressure", trouble);
}

/// Whether the worker can tell Dovecot, and is let in.
fn doveadm(chart: &mut Chart, dovecot: &Dovecot) {
    let credential = match dovecot.key.clone() {
        DoveadmKey::ApiKey(key) => Credential::ApiKey(key),
        DoveadmKey::Password(password) => Credential::Password(password),
    };
    let urls = dovecot.doveadm.clone();
    let client = Doveadm::new(&DoveadmSpec { urls, credential, deadline: PATIENCE });
    match client.who() {
        Ok(sessions) => {
            chart.ok(
                "doveadm",
                format!("lets the worker in; {} sessions now", sessions.len()),
            );
        }
        Err(error) => {
            let remedy = if matches!(error, DoveadmError::Refused { .. }) {
                "make `key_file` in worker.toml the same as Dovecot's doveadm_api_key"
            } else {
                "take part 6 of 05-tidegate.conf, and reload Dovecot"
            };
            let means =
                "closing cannot end sessions: no mailbox is let in or called held";
            chart.fail("doveadm", Trouble::new(Chain(&error).to_string(), means, remedy));
        }
    }
}

fn statistics(chart: &mut Chart, dovecot: &Dovecot) {
    let means = "the pace and the gate of waves do not feel how users fare";
    let Some(url) = &dovecot.metrics else {
        let remedy = "add `metrics = \"http://127.0.0.1:10490/metrics\"` to [dovecot]";
        let trouble =
            Trouble::new("it is not known where Dovecot's counters are", means, remedy);
        return chart.warn("metrics", trouble);
    };
    let remedy = "take part 8 of 05-tidegate.conf, and reload Dovecot";
    match Scrape::get(url, PATIENCE) {
        Ok(page) if page != Scrape::default() => {
            chart.ok("metrics", format!("counted at {url}"));
        }
        Ok(_) => {
            let seen = format!("{url} has no counters");
            chart.fail("metrics", Trouble::new(seen, means, remedy));
        }
        Err(error) => {
            chart.fail("metrics", Trouble::new(Chain(&error).to_string(), means, remedy));
        }
    }
}

fn logs(chart: &mut Chart, worker: &Worker, dovecot: &Dovecot) {
    let means = "a mailbox of which Dovecot complains is not noticed";
    if dovecot.logs.is_empty() {
        let remedy =
            "add `logs = [\"/var/log/mail.log\"]` to [dovecot], where Dovecot logs to";
        let trouble =
            Trouble::new("it is not known where Dovecot logs to", means, remedy);
        return chart.warn("logs", trouble);
    }
    for path in &dovecot.logs {
        if let Err(error) = fs::metadata(path) {
            let seen = format!("`{}`: {error}", path.display());
            let remedy = "name the files that Dovecot logs to (doveadm log find)";
            return chart.fail("logs", Trouble::new(seen, means, remedy));
        }
    }
    let remedy = "usermod -aG adm vmail, or SupplementaryGroups=adm in the worker's unit; then \
                  restart the worker";
    readable(chart, "logs", worker, (&dovecot.logs, means, remedy));
}
