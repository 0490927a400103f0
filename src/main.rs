//! One program: the command line of Tidegate. It decides nothing: from arguments to
//! configuration, to calls, to text and an exit code.
//!
//! # Invariants
//!
//! * Every way out has a documented exit code; a wrong command line is 64.
//! * What is shown comes from the coordinator's answers, never from guesses made here.

mod approve;
mod audit;
mod catalogue;
mod cli;
mod client;
mod complaint;
mod condition;
mod config;
mod confine;
mod console;
mod daemon;
mod desk;
mod doctor;
mod examples;
mod exit;
mod explain;
mod findings;
mod init;
mod inventory_file;
mod journal;
mod lab;
mod listing;
mod look;
mod manifest;
mod manual;
mod mx;
mod operate;
mod panics;
mod parts;
mod planning;
mod preferences;
mod progress;
mod report;
mod request;
mod schema;
mod screens;
mod settings;
mod simulate;
mod status_page;
mod telemetry;
mod watch;
mod why;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::ErrorKind;
use tokio::runtime::Builder;

use cli::{Daemon, GateVerb, Mailbox, NodeVerb, Quarantine, Verb, WaveVerb};
use exit::{Exit, Outcome};
use preferences::{Asked, Refused};

fn main() -> ExitCode {
    panics::tell_without_data();
    panics::break_when_told();
    let asked = match preferences::parse(std::env::args_os().collect()) {
        Ok(asked) => asked,
        Err(Refused::Line(error)) => return refuse(&error).into(),
        Err(Refused::Settings(failure)) => {
            console::tell(&failure);
            return failure.exit().into();
        }
    };
    let ended = traced(asked);
    telemetry::end();
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let exit = failure.exit();
            if exit != Exit::BrokenPipe {
                console::tell(&failure);
            }
            exit.into()
        }
    }
}

/// Carries out what was asked, as the beginning of a trace where there are traces. Programs that
/// serve begin none.
fn traced(asked: Asked) -> Outcome {
    let Asked { cli, verbs } = asked;
    let serves = matches!(
        cli.verb,
        Verb::Coordinator(_) | Verb::Worker(_) | Verb::Mx(_) | Verb::Solo(_)
    );
    if serves {
        return run(cli.verb);
    }
    telemetry::of_command(&verbs)?.in_scope(|| run(cli.verb))
}

fn run(verb: Verb) -> Outcome {
    match verb {
        Verb::Init(args) => init::run(&args),
        Verb::Plan(args) => with_runtime(Threads::One, planning::plan(&args)),
        Verb::Show(args) => with_runtime(Threads::One, planning::show(&args)),
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Config(verb) => settings::run(&verb),
        Verb::Audit(verb) => audit::run(&verb),
        Verb::Journal(verb) => journal::run(&verb),
        Verb::Doctor(args) => with_runtime(Threads::One, doctor::run(&args)),
        Verb::Findings(verb) => findings::run(&verb),
        Verb::Manifest(verb) => manifest::run(&verb),
        Verb::Lab(args) => with_runtime(Threads::One, lab::run(&args)),
        Verb::Start(args) => with_runtime(Threads::One, planning::start(&args)),
        Verb::Apply(args) => with_runtime(Threads::One, planning::apply(&args)),
        Verb::Status(args) => with_runtime(Threads::One, look::status(&args)),
        Verb::Watch(args) => with_runtime(Threads::One, watch::run(&args)),
        Verb::Events(args) => with_runtime(Threads::One, look::events(&args)),
        Verb::Report(args) => with_runtime(Threads::One, look::report(&args)),
        Verb::Wait(args) => with_runtime(Threads::One, watch::wait(&args)),
        Verb::Why(args) => with_runtime(Threads::One, why::run(&args)),
        Verb::Explain(args) => explain::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Completions(args) => manual::completions(&args),
        Verb::Manual(args) => manual::pages(&args),
        Verb::Wave(WaveVerb::List(args)) => {
            with_runtime(Threads::One, parts::waves(&args))
        }
        Verb::Node(NodeVerb::List(args)) => {
            with_runtime(Threads::One, parts::nodes(&args))
        }
        Verb::Gate(GateVerb::List(args)) => {
            with_runtime(Threads::One, parts::gates(&args))
        }
        Verb::Mailbox(Mailbox::List(args)) => {
            with_runtime(Threads::One, look::mailboxes(&args))
        }
        Verb::Mailbox(Mailbox::Show(args)) => {
            with_runtime(Threads::One, look::mailbox(&args))
        }
        Verb::Quarantine(Quarantine::List(args)) => {
            with_runtime(Threads::One, look::quarantine(&args))
        }
        Verb::Quarantine(Quarantine::Retry(args)) => {
            with_runtime(Threads::One, operate::retry(&args))
        }
        Verb::Desk(verb) => with_runtime(Threads::One, desk::run(&verb)),
        Verb::StatusPage(verb) => with_runtime(Threads::One, status_page::run(&verb)),
        Verb::Notice(verb) => with_runtime(Threads::One, status_page::notice(&verb)),
        Verb::Pause(args) => with_runtime(Threads::One, operate::pause(&args)),
        Verb::Freeze(args) => with_runtime(Threads::One, operate::freeze(&args)),
        Verb::Thaw(args) => with_runtime(Threads::One, operate::thaw(&args)),
        Verb::Resume(args) => with_runtime(Threads::One, operate::resume(&args)),
        Verb::Reclose(args) => with_runtime(Threads::One, operate::reclose(&args)),
        Verb::Approve(verb) => with_runtime(Threads::One, approve::run(&verb)),
        Verb::Accept(args) => with_runtime(Threads::One, operate::accept(&args)),
        Verb::Emergency(verb) => with_runtime(Threads::One, operate::emergency(&verb)),
        Verb::Expand(args) => with_runtime(Threads::One, operate::expand(&args)),
        Verb::Rebuild(args) => with_runtime(Threads::One, planning::rebuild(&args)),
        Verb::Abort(args) => with_runtime(Threads::One, operate::abort(&args)),
        Verb::Coordinator(args) => {
            with_runtime(Threads::Many, daemon::coordinator(&args))
        }
        Verb::Worker(args) => worker(&args),
        Verb::Mx(args) => with_runtime(Threads::Many, mx::run(&args)),
        Verb::Solo(args) => solo(&args),
    }
}

/// A worker; it is confined before it has threads.
fn worker(args: &Daemon) -> Outcome {
    let file = daemon::confined(args)?;
    with_runtime(Threads::Many, daemon::worker(args, file))
}

/// The same with its coordinator.
fn solo(args: &Daemon) -> Outcome {
    let file = daemon::confined_solo(args)?;
    with_runtime(Threads::Many, daemon::solo(args, file))
}

/// How many threads a command's tasks have.
#[derive(Clone, Copy)]
enum Threads {
    /// Its own: it makes a call or two.
    One,
    /// As many as there are processors: it serves.
    Many,
}

fn with_runtime(threads: Threads, task: impl Future<Output = Outcome>) -> Outcome {
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::Many => Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build().context("start the runtime")?;
    let outcome = runtime.block_on(task);
    // What still blocks is of no interest any more: everything acknowledged is on disk.
    runtime.shutdown_background();
    outcome
}

/// Shows help where it was asked for, and else what is wrong with the command line.
fn refuse(error: &clap::Error) -> Exit {
    let shown = error.print();
    let asked = !error.use_stderr();
    match (asked, shown) {
        (true, Ok(())) => Exit::Done,
        (true, Err(_)) => Exit::BrokenPipe,
        (false, _) if error.kind() == ErrorKind::Io => Exit::Failed,
        (false, _) => Exit::Usage,
    }
}
