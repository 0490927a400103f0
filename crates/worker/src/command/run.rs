//! Run: one call of an external program, with limits that hold whatever it does.
//!
//! # Invariants
//!
//! * No shell, no environment but the given one, nothing open but the three pipes and the
//!   store's lock.
//! * When a call is over, for whatever reason, nothing of its process group runs any more.
//! * A call ends by its limit, whatever the program does with its pipes; memory is bounded
//!   by the limits of its output.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// The most a program may say in one call, bytes: five hundred findings for each of the
/// mailboxes of a batch, were all of them wrecks.
pub(crate) const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// So much of what it complains about is kept, bytes; the rest is read and dropped.
pub(crate) const COMPLAINT_BYTES_MAX: usize = 16 << 10;

/// How soon a call that shall stop is noticed to.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Bytes moved at once: what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;

/// A program that is called with a verb.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The file, with a directory in its name.
    pub(crate) file: PathBuf,
    /// What stands before the verb.
    pub(crate) arguments: Vec<String>,
    /// All of its environment.
    pub(crate) environment: BTreeMap<String, String>,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The last argument.
    pub(crate) verb: &'static str,
    /// What it reads.
    pub(crate) input: &'a [u8],
    /// How long it may take.
    pub(crate) limit: Duration,
    /// Set by somebody who wants it ended.
    pub(crate) stop: &'a AtomicBool,
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its answers.
    pub(crate) output: Vec<u8>,
    /// The beginning of its complaints.
    pub(crate) complaint: Vec<u8>,
}

/// A call did not come to its own end. The program may have done anything or nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It could not be started.
    #[error("start `{}`", file.display())]
    Start {
        /// The program.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("`{verb}` was killed after {} ms", limit.as_millis())]
    TimedOut {
        /// The verb.
        verb: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// Somebody wanted it ended.
    #[error("`{verb}` was killed because a newer order came, or the worker stops")]
    Stopped {
        /// The verb.
        verb: &'static str,
    },
    /// It said more than anybody will read, and was killed.
    #[error("`{verb}` was killed because it wrote more than {bytes_max} bytes")]
    TooMuch {
        /// The verb.
        verb: &'static str,
        /// The limit.
        bytes_max: usize,
    },
    /// Its pipes failed.
    #[error("talk to `{verb}`")]
    Pipe {
        /// The verb.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Program {
    /// Calls the program and waits for its end.
    pub(crate) fn call(&self, call: Call<'_>) -> Result<Said, CallError> {
        let started = Instant::now();
        let failed = |source| CallError::Start { file: self.file.clone(), source };
        let child = Command::new(&self.file)
            .args(&self.arguments)
            .arg(call.verb)
            .env_clear()
            .envs(&self.environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        // From here on the group is killed on every way out.
        let mut group = Group(child);
        let ended = pidfd_open(Pid::from_child(&group.0), PidfdFlags::empty())
            .map_err(|errno| CallError::Pipe { verb: call.verb, source: errno.into() })?;
        let mut pipes = Pipes::of(&mut group.0, call.input, ended)
            .map_err(|source| CallError::Pipe { verb: call.verb, source })?;
        pipes.talk(call, started + call.limit)?;
        group.kill();
        let status = group.0.wait();
        // What was written before the end is in the pipes; nobody is left to write more,
        // and whoever has fled the group is not waited for.
        pipes.drain(call)?;
        let status =
            status.map_err(|source| CallError::Pipe { verb: call.verb, source })?;
        let (output, complaint) = (pipes.output, pipes.complaint);
        Ok(Said { status, output, complaint })
    }
}

/// A child and all that it has started.
struct Group(Child);

impl Group {
    /// Kills what still runs of it. Before the child is waited for, so that its number
    /// cannot have gone to somebody else.
    fn kill(&self) {
        // A group that is empty cannot be killed and need not be.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
            // It has been killed: this is short.
            let _ = self.0.wait();
        }
    }
}

/// The ends of the pipes, and what went through them.
struct Pipes<'a> {
    input: Option<std::process::ChildStdin>,
    left: &'a [u8],
    out: Option<std::process::ChildStdout>,
    err: Option<std::process::ChildStderr>,
    ended: OwnedFd,
    output: Vec<u8>,
    complaint: Vec<u8>,
}

impl<'a> Pipes<'a> {
    fn of(child: &mut Child, left: &'a [u8], ended: OwnedFd) -> io::Result<Self> {
        let (input, out, err) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        for end in [
            input.as_ref().map(AsFd::as_fd),
            out.as_ref().map(AsFd::as_fd),
            err.as_ref().map(AsFd::as_fd),
        ]
        .into_iter()
        .flatten()
        {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        let (output, complaint) = (Vec::new(), Vec::new());
        Ok(Self { input, left, out, err, ended, output, complaint })
    }

    /// Moves bytes until the program has ended.
    fn talk(&mut self, call: Call<'_>, deadline: Instant) -> Result<(), CallError> {
        let verb = call.verb;
        loop {
            if call.stop.load(Ordering::SeqCst) {
                return Err(CallError::Stopped { verb });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CallError::TimedOut { verb, limit: call.limit });
            }
            let over = self
                .wait(left.min(LOOK_EVERY))
                .map_err(|source| CallError::Pipe { verb, source })?;
            self.write();
            self.drain(call)?;
            if over {
                return Ok(());
            }
        }
    }

    /// Waits until something can be moved; whether the program has ended.
    fn wait(&self, at_most: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.ended, PollFlags::IN)];
        fds.extend(self.input.iter().map(|end| PollFd::new(end, PollFlags::OUT)));
        fds.extend(self.out.iter().map(|end| PollFd::new(end, PollFlags::IN)));
        fds.extend(self.err.iter().map(|end| PollFd::new(end, PollFlags::IN)));
        let nanos = i64::from(at_most.subsec_nanos());
        let seconds = i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: nanos };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(fds.first().is_some_and(|ended| ended.revents().contains(PollFlags::IN)))
    }

    /// Writes what the program takes now. One that does not read to the end need not.
    fn write(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !self.left.is_empty() {
            match input.write(self.left) {
                Ok(written) => self.left = self.left.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Closed, so that it sees the end.
        self.input = None;
    }

    /// Reads what there is now.
    fn drain(&mut self, call: Call<'_>) -> Result<(), CallError> {
        let verb = call.verb;
        let failed = |source| CallError::Pipe { verb, source };
        if read_some(&mut self.out, &mut self.output, OUTPUT_BYTES_MAX).map_err(failed)? {
            return Err(CallError::TooMuch { verb, bytes_max: OUTPUT_BYTES_MAX });
        }
        read_some(&mut self.err, &mut self.complaint, COMPLAINT_BYTES_MAX)
            .map(|_too_much| ())
            .map_err(failed)
    }
}

/// Reads what there is, keeping no more than `bytes_max`; whether there was more.
fn read_some<R: Read>(
    from: &mut Option<R>,
    into: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<bool> {
    let Some(reader) = from else { return Ok(false) };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut too_much = false;
    // Not for ever: a program that writes faster than this reads must meet its limit.
    for _ in 0..bytes_max / CHUNK_BYTES + 2 {
        match reader.read(&mut chunk) {
            Ok(0) => {
                *from = None;
                break;
            }
            Ok(read) => {
                let room = bytes_max.saturating_sub(into.len());
                too_much |= read > room;
                into.extend_from_slice(chunk.get(..read.min(room)).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(too_much)
}
