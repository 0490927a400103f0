//! Exit: how a command ends, as a code for scripts and a sentence for people.
//!
//! # Invariants
//!
//! * A code means one thing in every command.
//! * A failure's help says what to do next, ready to paste where that is possible.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::telemetry::Chain;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, healthy, or nothing to do.
    Done,
    /// Failed, or the check found something.
    Failed,
    /// `plan --detailed-exitcode`: there is something to open. `status --test`, `watch`:
    /// stopped, a person is needed.
    Changes,
    /// Refused by the policy or the rollout's state.
    Refused,
    /// The plan no longer matches. `status --test`: cannot tell.
    Stale,
    /// A wait ran into its time limit.
    Timeout,
    /// Finished, with mailboxes set aside or still held.
    SetAside,
    /// The command line is wrong.
    Usage,
    /// An inventory, a policy or a name is wrong.
    Input,
    /// The coordinator cannot be reached.
    Unreachable,
    /// A fault of this program.
    Bug,
    /// A journal or an inventory cannot be written: the disk is full or broken. The
    /// coordinator ends with it by itself.
    NotKept,
    /// Too much at once: try again later.
    Later,
    /// Not allowed.
    NotAllowed,
    /// The program's own configuration is wrong.
    Config,
    /// Stopped by Ctrl-C.
    Interrupted,
    /// Nobody reads the output any more.
    BrokenPipe,
}

impl Exit {
    /// The number a shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::Refused => 3,
            Self::Stale => 4,
            Self::Timeout => 5,
            Self::SetAside => 6,
            Self::Usage => 64,
            Self::Input => 65,
            Self::Unreachable => 69,
            Self::Bug => 70,
            Self::NotKept => 74,
            Self::Later => 75,
            Self::NotAllowed => 77,
            Self::Config => 78,
            Self::Interrupted => 130,
            Self::BrokenPipe => 141,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
    help: Option<String>,
    shown: bool,
}

impl Failure {
    /// Ends with `exit` because of `error`.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), help: None, shown: false }
    }

    /// Ends with `exit` and this sentence.
    pub(crate) fn text(exit: Exit, text: impl fmt::Display) -> Self {
        Self::new(exit, anyhow::anyhow!("{text}"))
    }

    /// Ends because the plan has no such part, and says which it has.
    pub(crate) fn unknown<'a>(
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
        let text =
            format!("no {what} `{name}` in this plan; it has {}", known.join(", "));
        Self::text(Exit::Input, text)
    }

    /// Ends with `exit`; `text` is a complete message that says what to do.
    pub(crate) fn complete(exit: Exit, text: impl fmt::Display) -> Self {
        Self { shown: true, ..Self::text(exit, text) }
    }

    /// The same, ending with `exit`.
    pub(crate) fn ending_with(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Adds what to do next.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The code to end with. A reader who left is no error, whatever failed because of it.
    pub(crate) fn exit(&self) -> Exit {
        let pipe =
            self.error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        if pipe.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe) {
            return Exit::BrokenPipe;
        }
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown {
            write!(f, "{}", self.error)?;
        } else {
            write!(f, "error: {}", Chain(self.error.as_ref()))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

/// What a command comes to.
pub(crate) type Outcome = Result<Exit, Failure>;
