//! Records as people read them: a code, one line of text, who did it.
//!
//! # Invariants
//!
//! * A code never changes once released.
//! * What is logged of a record names no mailbox and repeats nothing that people typed.

use std::fmt;

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::gate::Evidence;
use tidegate_core::mailbox::Level;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Action, Record, Scope};
use tidegate_core::time::Timestamp;

use crate::names::with_names;

/// A record beside the plan that gives its numbers their names.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    record: &'a Record,
    plan: &'a Plan,
}

impl<'a> Told<'a> {
    /// `record` of a rollout of `plan`.
    pub(crate) fn new(record: &'a Record, plan: &'a Plan) -> Self {
        Self { record, plan }
    }

    /// The stable name of what happened.
    pub(crate) fn code(self) -> &'static str {
        match self.record {
            Record::NodeJoined { .. } => "node-joined",
            Record::JobLeased { .. } => "job-leased",
            Record::FactsReported { .. } => "facts-reported",
            Record::LevelAllowed { .. } => "level-allowed",
            Record::Expanded { .. } => "expanded",
            Record::Overridden { .. } => "overridden",
            Record::EmergencyBegun { .. } => "emergency-begun",
            Record::EmergencyEnded { .. } => "emergency-ended",
            Record::NodeIsolated { .. } => "node-isolated",
            Record::Halted { .. } => "halted",
            Record::Paused(_) => "paused",
            Record::Frozen(_) => "frozen",
            Record::Thawed(_) => "thawed",
            Record::Resumed { .. } => "resumed",
            Record::Aborted(_) => "aborted",
            Record::Reclosed { .. } => "reclosed",
            Record::Retried { .. } => "retried",
            Record::Finished { .. } => "finished",
            Record::RebuildBegun(_) => "rebuild-begun",
            Record::ClaimsFound { .. } => "claims-found",
            Record::MailboxesFound { .. } => "mailboxes-found",
            Record::NodeRecounted { .. } => "node-recounted",
            Record::Rebuilt { .. } => "rebuilt",
            Record::NodeAccepted { .. } => "node-accepted",
        }
    }

    /// Who did it; empty when the program did.
    pub(crate) fn by(self) -> &'a str {
        action(self.record).map_or("", |action| action.by.as_str())
    }

    fn node(self, node: NodeNumber) -> &'a str {
        self.plan.inventory().node_name(node)
    }

    fn wave(self, wave: WaveNumber) -> &'a str {
        self.plan.waves().get(wave.index()).map_or("?", |wave| wave.name.as_str())
    }

    fn rung(self, level: Level) -> &'a str {
        let rung = level.index().checked_sub(1);
        let rung = rung.and_then(|place| self.plan.policy().ladder.get(place));
        rung.map_or("held", |rung| rung.name.as_str())
    }

    fn scope(self, scope: Scope) -> String {
        match scope {
            Scope::Wave(wave) => format!("wave `{}`", self.wave(wave)),
            Scope::Node(node) => format!("node `{}`", self.node(node)),
            Scope::Mailbox(mailbox) => {
                format!("mailbox {}", self.plan.inventory().address(mailbox))
            }
        }
    }
}

fn tell_ended(f: &mut fmt::Formatter<'_>, by: Option<&Action>) -> fmt::Result {
    match by {
        Some(by) => write!(f, "the emergency profile was ended by {}", Who(by)),
        None => f.write_str("the time of the emergency profile is up"),
    }
}

/// What is said of a verdict under the emergency profile.
const HURRIED: &str = " under the emergency profile";

impl Told<'_> {
    fn reclosed(
        self,
        f: &mut fmt::Formatter<'_>,
        scope: Scope,
        action: &Action,
    ) -> fmt::Result {
        write!(f, "{} re-closed by {}", self.scope(scope), Who(action))
    }

    fn retried(
        self,
        f: &mut fmt::Formatter<'_>,
        action: &Action,
        mailbox: MailboxNumber,
    ) -> fmt::Result {
        let part = self.scope(Scope::Mailbox(mailbox));
        write!(f, "{part} was set aside and is tried again, by {}", Who(action))
    }

    fn tell_emergency(
        self,
        f: &mut fmt::Formatter<'_>,
        action: &Action,
        (wave, until): (Option<WaveNumber>, Timestamp),
    ) -> fmt::Result {
        match wave {
            Some(wave) => write!(f, "wave `{}`", self.wave(wave))?,
            None => f.write_str("all waves")?,
        }
        let minutes = until.since(action.at).millis() / 60_000;
        write!(f, " under the emergency profile for {minutes} min, by {}", Who(action))
    }

    fn tell_overridden(
        self,
        f: &mut fmt::Formatter<'_>,
        action: &Action,
        evidence: &Evidence,
    ) -> fmt::Result {
        let level = evidence.level;
        let (wave, rung) = (self.wave(evidence.wave), self.rung(level));
        let who = Who(action);
        write!(
            f,
            "wave `{wave}` passed {level} (`{rung}`) although its gate held it, overridden \
             by {who}"
        )
    }

    fn tell_rebuilt(
        self,
        f: &mut fmt::Formatter<'_>,
        left_out: &[NodeNumber],
        by: Option<&Action>,
    ) -> fmt::Result {
        f.write_str("rebuilt from what the nodes hold")?;
        if !left_out.is_empty() {
            let names = left_out.iter().map(|node| self.node(*node));
            let names = names.collect::<Vec<_>>().join(", ");
            write!(f, ", without {names}")?;
        }
        by.map_or(Ok(()), |by| write!(f, ", by {}", Who(by)))
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            Record::NodeJoined { node, .. } => {
                write!(f, "a worker took up node `{}`", self.node(*node))
            }
            Record::JobLeased { job, generation, .. } => {
                write!(f, "{job} was leased at {generation}")
            }
            Record::FactsReported { job, facts, .. } => {
                write!(f, "{} mailboxes of {job} were reported", facts.len())
            }
            Record::LevelAllowed { wave, level, .. } => {
                let (wave, rung) = (self.wave(*wave), self.rung(*level));
                write!(f, "wave `{wave}` may open {level} (`{rung}`)")
            }
            Record::Expanded { evidence, .. } => {
                let (wave, rung) = (self.wave(evidence.wave), self.rung(evidence.level));
                let hurried = if evidence.hurried { HURRIED } else { "" };
                write!(f, "wave `{wave}` passed {} (`{rung}`){hurried}", evidence.level)
            }
            Record::Overridden { action, evidence } => {
                self.tell_overridden(f, action, evidence)
            }
            Record::NodeIsolated { node, reason, evidence, .. } => {
                let (node, wave) = (self.node(*node), self.wave(evidence.wave));
                let reason = with_names(&reason.to_string(), self.plan);
                write!(f, "node `{node}` was isolated in wave `{wave}`: {reason}")
            }
            Record::Halted { reason, evidence, .. } => {
                let wave = self.wave(evidence.wave);
                let reason = with_names(&reason.to_string(), self.plan);
                write!(f, "the gate halted the rollout at wave `{wave}`: {reason}")
            }
            Record::Paused(action) => write!(f, "paused by {}", Who(action)),
            Record::Frozen(action) => write!(f, "frozen by {}", Who(action)),
            Record::Thawed(action) => write!(f, "thawed by {}", Who(action)),
            Record::Resumed { action, scope: None } => {
                write!(f, "resumed by {}", Who(action))
            }
            Record::Resumed { action, scope: Some(scope) } => {
                write!(f, "{} resumed by {}", self.scope(*scope), Who(action))
            }
            Record::Aborted(action) => write!(f, "aborted by {}", Who(action)),
            Record::EmergencyBegun { action, wave, until } => {
                self.tell_emergency(f, action, (*wave, *until))
            }
            Record::EmergencyEnded { by, .. } => tell_ended(f, by.as_ref()),
            Record::Reclosed { action, scope, .. } => self.reclosed(f, *scope, action),
            Record::Retried { action, mailbox, .. } => self.retried(f, action, *mailbox),
            Record::Finished { .. } => f.write_str("every wave stands on the top"),
            Record::RebuildBegun(action) => {
                write!(f, "rebuilding from what the nodes hold, by {}", Who(action))
            }
            Record::ClaimsFound { node, claimed, .. } => {
                write!(f, "node `{}` has claims up to {claimed}", self.node(*node))
            }
            Record::MailboxesFound { report, .. } => {
                let (facts, job) = (report.facts.len(), report.job);
                write!(f, "{facts} mailboxes of {job} were found")
            }
            Record::NodeRecounted { node, .. } => {
                write!(f, "node `{}` has told all that it holds", self.node(*node))
            }
            Record::Rebuilt { left_out, by, .. } => {
                self.tell_rebuilt(f, left_out, by.as_ref())
            }
            Record::NodeAccepted { action, node, .. } => {
                write!(f, "node `{}` accepted by {}", self.node(*node), Who(action))
            }
        }
    }
}

/// `ann: too many complaints`.
struct Who<'a>(&'a Action);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.by)?;
        if !self.0.reason.is_empty() {
            write!(f, ": {}", self.0.reason)?;
        }
        let Some(approved) = &self.0.approved else { return Ok(()) };
        write!(f, "; approved by {}: {}", approved.by, approved.reason)
    }
}

/// When it happened.
pub(crate) fn at(record: &Record) -> Timestamp {
    match record {
        Record::NodeJoined { at, .. }
        | Record::JobLeased { at, .. }
        | Record::FactsReported { at, .. }
        | Record::LevelAllowed { at, .. }
        | Record::Expanded { at, .. }
        | Record::NodeIsolated { at, .. }
        | Record::Halted { at, .. }
        | Record::ClaimsFound { at, .. }
        | Record::MailboxesFound { at, .. }
        | Record::NodeRecounted { at, .. }
        | Record::Rebuilt { at, .. }
        | Record::EmergencyEnded { at, .. }
        | Record::Finished { at } => *at,
        Record::Paused(action)
        | Record::Frozen(action)
        | Record::Thawed(action)
        | Record::Aborted(action)
        | Record::Resumed { action, .. }
        | Record::RebuildBegun(action)
        | Record::NodeAccepted { action, .. }
        | Record::Overridden { action, .. }
        | Record::EmergencyBegun { action, .. }
        | Record::Retried { action, .. }
        | Record::Reclosed { action, .. } => action.at,
    }
}

/// Logs that `record` of a rollout of `plan` is durable.
pub(crate) fn log(record: &Record, plan: &Plan) {
    let told = Told::new(record, plan);
    let code = told.code();
    match record {
        Record::FactsReported { job, generation, facts, findings, .. } => {
            tracing::info!(
                code,
                job_id = job.get(),
                generation = generation.get(),
                facts = facts.len(),
                findings = findings.len(),
                "record applied"
            );
        }
        Record::JobLeased { job, generation, .. } => {
            let (job_id, generation) = (job.get(), generation.get());
            tracing::info!(code, job_id, generation, "record applied");
        }
        Record::NodeJoined { node, .. } => {
            let (node_id, node) = (node.get(), told.node(*node));
            tracing::info!(code, node_id, node, what = %told, "record applied");
        }
        Record::NodeIsolated { node, evidence, .. } => {
            let (node_id, node) = (node.get(), told.node(*node));
            let (wave_id, wave) = (evidence.wave.get(), told.wave(evidence.wave));
            tracing::info!(code, node_id, node, wave_id, wave, what = %told, "record applied");
        }
        Record::LevelAllowed { wave, .. } => {
            let (wave_id, wave) = (wave.get(), told.wave(*wave));
            tracing::info!(code, wave_id, wave, what = %told, "record applied");
        }
        Record::Expanded { evidence, .. } => {
            let (wave_id, wave) = (evidence.wave.get(), told.wave(evidence.wave));
            tracing::info!(code, wave_id, wave, what = %told, "record applied");
        }
        Record::Overridden { evidence, .. } => {
            let (wave_id, wave) = (evidence.wave.get(), told.wave(evidence.wave));
            tracing::info!(code, wave_id, wave, by = told.by(), "record applied");
        }
        Record::ClaimsFound { .. }
        | Record::MailboxesFound { .. }
        | Record::NodeRecounted { .. }
        | Record::Rebuilt { .. }
        | Record::Finished { .. } => {
            tracing::info!(code, what = %told, "record applied");
        }
        Record::Halted { evidence, .. } => {
            let (wave_id, wave) = (evidence.wave.get(), told.wave(evidence.wave));
            tracing::info!(code, wave_id, wave, what = %told, "record applied");
            tracing::error!(wave_id, wave, what = %told, "the gate halted the rollout; a person must decide");
        }
        Record::Paused(_)
        | Record::Frozen(_)
        | Record::Thawed(_)
        | Record::Resumed { .. }
        | Record::Aborted(_)
        | Record::RebuildBegun(_)
        | Record::NodeAccepted { .. }
        | Record::EmergencyBegun { .. }
        | Record::EmergencyEnded { .. }
        | Record::Retried { .. }
        | Record::Reclosed { .. } => {
            tracing::info!(code, by = told.by(), "record applied");
        }
    }
}

fn action(record: &Record) -> Option<&Action> {
    match record {
        Record::Paused(action)
        | Record::Frozen(action)
        | Record::Thawed(action)
        | Record::Aborted(action)
        | Record::Resumed { action, .. }
        | Record::RebuildBegun(action)
        | Record::NodeAccepted { action, .. }
        | Record::Overridden { action, .. }
        | Record::EmergencyBegun { action, .. }
        | Record::Retried { action, .. }
        | Record::Reclosed { action, .. } => Some(action),
        Record::Rebuilt { by, .. } | Record::EmergencyEnded { by, .. } => by.as_ref(),
        Record::NodeJoined { .. }
        | Record::JobLeased { .. }
        | Record::FactsReported { .. }
        | Record::LevelAllowed { .. }
        | Record::Expanded { .. }
        | Record::NodeIsolated { .. }
        | Record::Halted { .. }
        | Record::ClaimsFound { .. }
        | Record::MailboxesFound { .. }
        | Record::NodeRecounted { .. }
        | Record::Finished { .. } => None,
    }
}

#[cfg(test)]
mod tests;
