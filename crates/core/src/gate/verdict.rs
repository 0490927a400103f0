//! The answer of a gate, with its reasons and its numbers.
//!
//! # Invariants
//!
//! * Every reason carries the numbers that made it, and prints on one line.
//! * Codes never change: journals, metrics and scripts know them.

use std::fmt;

use crate::fleet::{NodeNumber, TierNumber};
use crate::share::Ppm;
use crate::time::Span;

use super::external::{Bound, Millionths, ShortName};
use super::pulse::PulseSignal;

/// May the next wave open?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may: everything asked for was shown.
    Expand,
    /// Not yet, for all of these reasons; never empty.
    Hold(Vec<HoldReason>),
    /// One node must be taken out first; then judge again.
    Isolate {
        /// The node.
        node: NodeNumber,
        /// What it did.
        why: IsolateReason,
    },
    /// No: stop until a person acts.
    Halt(HaltReason),
}

/// Which failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Opened mailboxes that failed or are unknown.
    Opening,
    /// Settled mailboxes that are quarantined.
    Preparation,
    /// Probes that were slow.
    Latency,
    /// Bad minutes of the nodes' mail systems.
    Pulse(PulseSignal),
    /// Answers of somebody else's measurements that were out of bounds.
    External(ShortName),
}

/// Why a gate waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// Some worker has not reported lately.
    WorkersSilent {
        /// Nodes with a fresh report.
        fresh: u32,
        /// Nodes that should have one.
        expected: u32,
    },
    /// A wave is finished before the next one starts.
    WaveUnfinished {
        /// Prepared or quarantined mailboxes.
        settled: u32,
        /// Opened ones.
        opened: u32,
        /// Quarantined ones, which are not opened.
        quarantined: u32,
        /// All, on nodes not isolated.
        planned: u32,
    },
    /// The wave is younger than the soak time.
    SoakRunning {
        /// Its age.
        elapsed: Span,
        /// What the policy asks.
        soak: Span,
    },
    /// A signal has fewer samples than could ever pass.
    TooFew {
        /// The signal.
        signal: Signal,
        /// Samples so far.
        have: u32,
        /// Samples needed at the failures seen so far, if no more are seen.
        need: u32,
    },
    /// A signal lies between its pass line and its trip line.
    Undecided {
        /// The signal.
        signal: Signal,
        /// Failures so far.
        failed: u32,
        /// Samples so far.
        samples: u32,
        /// Further samples needed if no more failures are seen.
        missing: u32,
    },
    /// Too few of the wave's nodes have a mature mailbox.
    NodesShort {
        /// Nodes that have.
        mature: u32,
        /// Nodes that must.
        need: u32,
    },
    /// A tier has too few mature mailboxes.
    TierShort {
        /// The tier.
        tier: TierNumber,
        /// Its mature mailboxes.
        mature: u32,
        /// What it must have.
        need: u32,
    },
    /// Too many opened mailboxes lie on nodes silent for too long.
    UnknownTooMany {
        /// These mailboxes.
        unknown: u32,
        /// All opened ones.
        opened: u32,
        /// The share that may be unknown.
        limit: Ppm,
    },
    /// Too many probes were slow.
    Slow {
        /// Slow probes.
        slow: u32,
        /// All probes.
        probes: u32,
        /// As many slow probes hold.
        limit: u32,
    },
    /// Too many minutes were bad: the nodes are busy.
    Busy {
        /// The signal.
        signal: PulseSignal,
        /// Bad minutes.
        bad: u32,
        /// All minutes.
        minutes: u32,
        /// As many bad minutes hold.
        limit: u32,
        /// The node that is worst off now.
        node: NodeNumber,
        /// Its newest value.
        latest: u32,
        /// A value above it is bad.
        bound: u32,
    },
    /// A signal should be measured, and has not been for too long.
    NotMeasured {
        /// The signal.
        signal: PulseSignal,
        /// The first node where.
        node: NodeNumber,
        /// How many such nodes there are.
        nodes: u32,
        /// The minutes for which it has not been on that node; none where it has a source that
        /// was not asked yet.
        silent: u32,
    },
    /// A signal that the policy requires has no source.
    NoSource {
        /// The signal.
        signal: PulseSignal,
        /// The first node where.
        node: NodeNumber,
        /// How many such nodes there are.
        nodes: u32,
    },
    /// Somebody else's measurement is out of bounds, or was too often.
    OutOfBounds {
        /// Its name.
        name: ShortName,
        /// The newest answer, in millionths.
        latest: i64,
        /// Which answers are good.
        bound: Bound,
        /// Bad answers.
        bad: u32,
        /// All answers.
        answers: u32,
    },
    /// Somebody else's measurement has no answer, or only an old one.
    NoAnswer {
        /// Its name.
        name: ShortName,
        /// How old the newest answer is, if there was one.
        age: Option<Span>,
        /// How old it may be.
        limit: Span,
    },
    /// A node's disk is nearly full.
    DiskLow {
        /// The node.
        node: NodeNumber,
        /// Its free share.
        free: Ppm,
        /// What it must have.
        need: Ppm,
    },
    /// Only our own probes read the mailboxes; the policy asks for their users.
    OnlySynthetic {
        /// Mailboxes used by their users.
        sessions: u32,
        /// What the policy asks.
        need: u32,
    },
    /// Every mailbox must prove itself and some have not.
    Unproven {
        /// Mailboxes that have, or failed within what is allowed.
        proven: u32,
        /// Mailboxes that must.
        opened: u32,
    },
    /// Waiting longer will not help by itself.
    NeedsPerson(Escalation),
}

/// Why a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Escalation {
    /// A signal stays undecided far beyond the samples it usually needs.
    Undecided {
        /// The signal.
        signal: Signal,
        /// Samples so far.
        samples: u32,
        /// Where it is cut off.
        limit: u32,
    },
    /// Every mailbox of the wave has answered, and that is not enough.
    Exhausted {
        /// The signal.
        signal: Signal,
        /// Samples, all there will be.
        samples: u32,
        /// Further samples it would need.
        missing: u32,
    },
    /// The wave has been held for too long.
    Overdue {
        /// Since it was allowed.
        waited: Span,
        /// What the policy grants.
        limit: Span,
    },
}

/// Why one node is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IsolateReason {
    /// Its own failures crossed the breaker's line.
    Breaker {
        /// Failed or unknown mailboxes.
        failed: u32,
        /// Opened mailboxes.
        opened: u32,
        /// As many failures isolate.
        limit: u32,
    },
    /// The wave crossed its trip line because of this node alone.
    Outlier {
        /// The signal that tripped.
        signal: Signal,
        /// The node's failures.
        failed: u32,
        /// The node's samples.
        samples: u32,
        /// The failures of all nodes.
        failed_all: u32,
    },
}

/// Why everything stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HaltReason {
    /// A mailbox showed altered, foreign or lost mail. Never waived.
    Integrity {
        /// The first node where.
        node: NodeNumber,
        /// Such mailboxes on all nodes.
        mailboxes: u32,
    },
    /// A signal crossed its trip line.
    Tripped {
        /// The signal.
        signal: Signal,
        /// Failures.
        failed: u32,
        /// Samples.
        samples: u32,
        /// As many failures halt.
        limit: u32,
    },
    /// Another node would have to be isolated, and no more may be.
    TooManyNodesIsolated {
        /// The first node that would have to be.
        node: NodeNumber,
        /// Nodes isolated, with those that would have to be.
        isolated: u32,
        /// Nodes that may be.
        limit: u32,
    },
    /// More mailboxes failed than may, where each must prove itself.
    TooManyFailures {
        /// Failed or unknown mailboxes.
        failed: u32,
        /// How many may.
        limit: u32,
    },
}

/// A verdict with the numbers that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// The signals, as far as they were counted, in the order of [`Signal`].
    pub numbers: Vec<SignalNumbers>,
    /// Opened mailboxes without health on nodes silent for too long; counted as failed.
    pub unknown: u32,
    /// Opened mailboxes of reporting nodes that have neither matured nor failed.
    pub immature: u32,
    /// Nodes whose mailboxes are not in the numbers.
    pub isolated: Vec<NodeNumber>,
    /// Signals that no node has a source for: nobody looks at them.
    pub unmeasured: Vec<PulseSignal>,
}

/// Where one signal stands between its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalNumbers {
    /// The signal.
    pub signal: Signal,
    /// Failures, with the unknown ones.
    pub failed: u32,
    /// Samples for the trip line: everything opened.
    pub opened: u32,
    /// Samples for the pass line: everything that has shown its outcome.
    pub mature: u32,
    /// The most failures that pass at this many mature samples; none if not even zero would.
    pub pass_at: Option<u32>,
    /// The fewest failures that trip at this many opened samples.
    pub trip_at: u32,
    /// Further samples needed to pass if no more failures are seen.
    pub missing: u32,
    /// Weight of the evidence that the signal is bad, in thousandths of a natural logarithm.
    pub weight_millis: i64,
    /// Where that puts it.
    pub standing: Standing,
}

/// On which side of its lines a signal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Proved good enough.
    Passed,
    /// Between the lines.
    Open,
    /// Proved too bad.
    Tripped,
}

impl Verdict {
    /// Every stable name there is.
    pub const CODES: [&'static str; 4] = ["expand", "hold", "isolate", "halt"];

    /// The stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Hold(_) => "hold",
            Self::Isolate { .. } => "isolate",
            Self::Halt(_) => "halt",
        }
    }
}

impl Signal {
    /// The stable name.
    pub fn code(&self) -> &str {
        match self {
            Self::Opening => "opening",
            Self::Preparation => "preparation",
            Self::Latency => "latency",
            Self::Pulse(signal) => signal.code(),
            Self::External(name) => name.as_str(),
        }
    }

    /// Whether it stops the rollout when it trips; the others only keep it waiting.
    pub(super) fn halts(self) -> bool {
        match self {
            Self::Opening | Self::Preparation => true,
            Self::Latency | Self::External(_) => false,
            Self::Pulse(signal) => signal.halts(),
        }
    }

    /// What is counted, as people say it.
    fn failures(self) -> Failures {
        Failures(self)
    }
}

/// What is counted of a signal, in words.
struct Failures(Signal);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Signal::Opening => f.write_str("opened mailboxes failed"),
            Signal::Preparation => f.write_str("settled mailboxes quarantined"),
            Signal::Latency => f.write_str("probes slow"),
            Signal::Pulse(signal) => f.write_str(signal.bad_minutes()),
            Signal::External(name) => write!(f, "answers of `{name}` out of bounds"),
        }
    }
}

impl Standing {
    /// Every standing there is.
    pub const ALL: [Self; 3] = [Self::Passed, Self::Open, Self::Tripped];

    /// The stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Open => "open",
            Self::Tripped => "tripped",
        }
    }
}

impl HoldReason {
    /// The stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WorkersSilent { .. } => "workers-silent",
            Self::WaveUnfinished { .. } => "wave-unfinished",
            Self::SoakRunning { .. } => "soak-running",
            Self::TooFew { .. } => "too-few",
            Self::Undecided { .. } => "undecided",
            Self::NodesShort { .. } => "nodes-short",
            Self::TierShort { .. } => "tier-short",
            Self::UnknownTooMany { .. } => "unknown-too-many",
            Self::Slow { .. } => "slow",
            Self::Busy { .. } => "busy",
            Self::NotMeasured { .. } => "not-measured",
            Self::NoSource { .. } => "no-source",
            Self::OutOfBounds { .. } => "out-of-bounds",
            Self::NoAnswer { .. } => "no-answer",
            Self::DiskLow { .. } => "disk-low",
            Self::OnlySynthetic { .. } => "only-synthetic",
            Self::Unproven { .. } => "unproven",
            Self::NeedsPerson(_) => "needs-person",
        }
    }

    /// Whether time alone will not lift it.
    pub fn needs_person(&self) -> bool {
        matches!(self, Self::NeedsPerson(_))
    }
}

impl Escalation {
    /// The stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Undecided { .. } => "undecided",
            Self::Exhausted { .. } => "exhausted",
            Self::Overdue { .. } => "overdue",
        }
    }
}

impl IsolateReason {
    /// The stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Breaker { .. } => "breaker",
            Self::Outlier { .. } => "outlier",
        }
    }
}

impl HaltReason {
    /// The stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Integrity { .. } => "integrity",
            Self::Tripped { .. } => "tripped",
            Self::TooManyNodesIsolated { .. } => "too-many-nodes-isolated",
            Self::TooManyFailures { .. } => "too-many-failures",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expand => f.write_str("expand"),
            Self::Hold(reasons) => {
                f.write_str("hold: ")?;
                for (place, reason) in reasons.iter().enumerate() {
                    let comma = if place == 0 { "" } else { "; " };
                    write!(f, "{comma}{reason}")?;
                }
                Ok(())
            }
            Self::Isolate { node, why } => write!(f, "isolate {node}: {why}"),
            Self::Halt(reason) => write!(f, "halt: {reason}"),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkersSilent { fresh, expected } => {
                write!(f, "{fresh} of {expected} workers have reported lately")
            }
            Self::WaveUnfinished { settled, opened, quarantined, planned } => write!(
                f,
                "{settled} of {planned} mailboxes settled, {quarantined} of them \
                 quarantined, {opened} opened"
            ),
            Self::SoakRunning { elapsed, soak } => {
                write!(f, "soaked {elapsed} of {soak}")
            }
            Self::TooFew { signal, have, need } => {
                write!(f, "{signal} has {have} of {need} samples")
            }
            Self::Undecided { signal, failed, samples, missing } => write!(
                f,
                "{failed} of {samples} {}, {missing} more samples needed",
                signal.failures()
            ),
            Self::NodesShort { mature, need } => {
                write!(f, "{mature} of {need} nodes have mature mailboxes")
            }
            Self::TierShort { tier, mature, need } => {
                write!(f, "{tier} has {mature} of {need} mature mailboxes")
            }
            Self::UnknownTooMany { unknown, opened, limit } => {
                write!(f, "{unknown} of {opened} opened mailboxes unknown, limit {limit}")
            }
            Self::Slow { slow, probes, limit } => {
                write!(f, "{slow} of {probes} probes slow, limit {limit}")
            }
            Self::Busy { .. }
            | Self::NotMeasured { .. }
            | Self::NoSource { .. }
            | Self::OutOfBounds { .. }
            | Self::NoAnswer { .. } => self.tell_measured(f),
            Self::DiskLow { node, free, need } => {
                write!(f, "{node} has {free} of its disk free, needs {need}")
            }
            Self::OnlySynthetic { sessions, need } => {
                write!(f, "{sessions} of {need} mailboxes used by their users")
            }
            Self::Unproven { proven, opened } => {
                write!(f, "{proven} of {opened} opened mailboxes have proved themselves")
            }
            Self::NeedsPerson(escalation) => {
                write!(f, "a person must decide: {escalation}")
            }
        }
    }
}

impl HoldReason {
    /// What is measured of mail systems and by others, in words.
    fn tell_measured(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { signal, bad, minutes, limit, node, latest, bound } => write!(
                f,
                "{bad} of {minutes} {}, limit {limit}; {node} now at {}, allowed {}",
                signal.bad_minutes(),
                signal.show(*latest),
                signal.show(*bound)
            ),
            Self::NotMeasured { signal, node, nodes, silent } => {
                match silent {
                    0 => write!(f, "{signal} not measured yet on {node}")?,
                    _ => {
                        write!(
                            f,
                            "{signal} not measured for {silent} minutes on {node}"
                        )?;
                    }
                }
                and_others(f, *nodes)
            }
            Self::NoSource { signal, node, nodes } => {
                write!(f, "{signal} is required and not measured on {node}")?;
                and_others(f, *nodes)
            }
            Self::OutOfBounds { name, latest, bound, bad, answers } => write!(
                f,
                "`{name}` is {}, must be {bound}; {bad} of {answers} answers were not",
                Millionths(*latest)
            ),
            Self::NoAnswer { name, age: None, .. } => {
                write!(f, "`{name}` has not been answered yet")
            }
            Self::NoAnswer { name, age: Some(age), limit } => {
                write!(f, "`{name}` was last answered {age} ago, limit {limit}")
            }
            Self::WorkersSilent { .. }
            | Self::WaveUnfinished { .. }
            | Self::SoakRunning { .. }
            | Self::TooFew { .. }
            | Self::Undecided { .. }
            | Self::NodesShort { .. }
            | Self::TierShort { .. }
            | Self::UnknownTooMany { .. }
            | Self::Slow { .. }
            | Self::DiskLow { .. }
            | Self::OnlySynthetic { .. }
            | Self::Unproven { .. }
            | Self::NeedsPerson(_) => Ok(()),
        }
    }
}

impl fmt::Display for Escalation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecided { signal, samples, limit } => {
                write!(f, "{signal} undecided after {samples} samples, limit {limit}")
            }
            Self::Exhausted { signal, samples, missing } => write!(
                f,
                "{signal} has all its {samples} samples, {missing} more would be needed"
            ),
            Self::Overdue { waited, limit } => {
                write!(f, "held for {waited}, limit {limit}")
            }
        }
    }
}

impl fmt::Display for IsolateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breaker { failed, opened, limit } => {
                write!(f, "{failed} of {opened} opened mailboxes failed, limit {limit}")
            }
            Self::Outlier { signal, failed, samples, failed_all } => write!(
                f,
                "{failed} of its {samples} {}, of {failed_all} in all",
                signal.failures()
            ),
        }
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integrity { node, mailboxes } => write!(
                f,
                "altered, foreign or lost mail in {mailboxes} opened {}, first on {node}",
                plural(*mailboxes, "mailbox", "mailboxes")
            ),
            Self::Tripped { signal, failed, samples, limit } => {
                write!(f, "{failed} of {samples} {}, limit {limit}", signal.failures())
            }
            Self::TooManyNodesIsolated { node, isolated, limit } => write!(
                f,
                "with {node}, {isolated} {} would be isolated, at most {limit} may be",
                plural(*isolated, "node", "nodes")
            ),
            Self::TooManyFailures { failed, limit } => {
                write!(f, "{failed} opened mailboxes failed, limit {limit}")
            }
        }
    }
}

fn and_others(f: &mut fmt::Formatter<'_>, nodes: u32) -> fmt::Result {
    match nodes.saturating_sub(1) {
        0 => Ok(()),
        1 => f.write_str(" and 1 other node"),
        others => write!(f, " and {others} other nodes"),
    }
}

fn plural(count: u32, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

impl fmt::Display for SignalNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, standing, failed, mature, opened, .. } = self;
        write!(f, "{signal} {standing}: {failed} failed, {mature} of {opened} shown; ")?;
        match self.pass_at {
            Some(pass) => write!(f, "pass at {pass}, ")?,
            None => f.write_str("no pass yet, ")?,
        }
        write!(f, "trip at {}, missing {}", self.trip_at, self.missing)
    }
}
