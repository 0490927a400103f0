//! Queue: what waits in Postfix, listed and handed back for delivery by its own tools.
//!
//! Postfix has no way to deliver what waits for one recipient: it can only list all of its
//! queue, a line of JSON for each message (`postqueue -j`), and try one message again
//! (`postqueue -i`).
//!
//! # Invariants
//!
//! * A listing is read as it comes, a line at a time: memory does not grow with the queue.
//! * A listing counts only when it came to its end; a line that cannot be read is counted,
//!   not guessed.
//! * A queue id is letters and digits only: it can be no option and no path.
//! * A tool that does not end in time is killed, and its answer does not count.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use serde::Deserialize;

/// The longest line: some hundred thousand recipients, each with a reason. Longer ones are
/// skipped and counted.
const LINE_BYTES_MAX: usize = 32 << 20;

/// What a tool says before it fails is worth this much.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

/// Bytes read at once: some hundred lines.
const READ_BYTES: usize = 256 << 10;

/// How long a tool may take to end after it has closed its output.
const FAREWELL: Duration = Duration::from_secs(10);

/// Between two looks at whether a tool has ended.
const LOOK: Duration = Duration::from_millis(1);

/// Postfix's queue, through its own `postqueue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postqueue {
    /// The program, for example `/usr/sbin/postqueue`.
    pub program: PathBuf,
    /// The instance's configuration; nothing for the default instance.
    pub config_dir: Option<PathBuf>,
}

/// One message of a listing.
#[derive(Debug)]
pub struct Queued<'a> {
    /// Its name in the queue.
    pub id: QueueId,
    /// In which of the queues it lies.
    pub place: Place,
    /// When it arrived, seconds since the Unix epoch.
    pub arrived_unix: i64,
    /// To whom it has not been delivered yet.
    pub recipients: Vec<Recipient<'a>>,
}

/// Somebody for whom a message waits.
#[derive(Debug, Deserialize)]
pub struct Recipient<'a> {
    /// The address, as Postfix has it.
    #[serde(borrow)]
    pub address: Cow<'a, str>,
    /// Why it was not delivered when it was last tried; empty if it was not.
    #[serde(borrow, default, rename = "delay_reason")]
    pub reason: Cow<'a, str>,
}

/// Which of Postfix's queues a message lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It waits for its time.
    Deferred,
    /// It is about to be delivered.
    Active,
    /// It has just come.
    Incoming,
    /// A person put it aside; nothing tries it.
    Hold,
    /// One of which this program does not know what it means.
    Other,
}

/// The name of a message in the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    length: u8,
    bytes: [u8; ID_BYTES_MAX],
}

/// Postfix's long names have at most 22 bytes.
const ID_BYTES_MAX: usize = 23;

/// How a listing went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Messages that were read.
    pub messages: u64,
    /// Lines that could not be read.
    pub unread: u64,
}

/// Why the queue was not listed, or a message not handed back.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The tool cannot be run.
    #[error("run `{program}`")]
    Run {
        /// The tool.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tool did not end in time.
    #[error("`{program}` did not end within {} s", .within.as_secs())]
    Late {
        /// The tool.
        program: String,
        /// How long it had.
        within: Duration,
    },
    /// The tool failed.
    #[error("`{program}` failed ({status}): {said}")]
    Failed {
        /// The tool.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// The caller had enough.
    #[error("the listing was broken off")]
    BrokenOff,
}

impl Postqueue {
    /// Lists the whole queue, a message after another, for as long as `each` wants more.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the listing did not come to its end; what `each` was told until
    /// then is true but not all.
    pub fn list(
        &self,
        within: Duration,
        each: &mut dyn FnMut(&Queued<'_>) -> bool,
    ) -> Result<Listing, QueueError> {
        let mut tool = self.start(&["-j"], within)?;
        let output = tool.output.take();
        let read = output.map_or(Ok((Listing::default(), true)), |output| {
            read_lines(BufReader::with_capacity(READ_BYTES, output), each)
        });
        let (listing, whole) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(QueueError::Late { program: tool.program.clone(), within });
            }
            Err(source) => {
                return Err(QueueError::Run { program: tool.program.clone(), source });
            }
        };
        if !whole {
            return Err(QueueError::BrokenOff);
        }
        tool.finish(within)?;
        Ok(listing)
    }

    /// Hands a message back for delivery at once, held recipients included. Postfix says
    /// nothing about a message that is not there any more.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when Postfix did not take it.
    pub fn flush(&self, id: QueueId, within: Duration) -> Result<(), QueueError> {
        self.start(&["-i", id.as_str()], within)?.finish(within)
    }

    fn start(&self, arguments: &[&str], within: Duration) -> Result<Tool, QueueError> {
        let program = self.program.display().to_string();
        let mut command = Command::new(&self.program);
        if let Some(dir) = &self.config_dir {
            command.arg("-c").arg(dir);
        }
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| QueueError::Run { program: program.clone(), source })?;
        let until = Instant::now() + within;
        let output = child.stdout.take().map(|from| Timed { from, until });
        let complaint = child.stderr.take().map(|mut from| {
            thread::spawn(move || {
                let mut said = Vec::new();
                // What is lost of a complaint is not worth another.
                let _part =
                    from.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut said);
                let _rest = io::copy(&mut from, &mut io::sink());
                String::from_utf8_lossy(&said).trim().to_owned()
            })
        });
        Ok(Tool { program, child, output, complaint, until })
    }
}

/// A tool that runs; killed when it is dropped before its end.
struct Tool {
    program: String,
    child: Child,
    output: Option<Timed<std::process::ChildStdout>>,
    complaint: Option<thread::JoinHandle<String>>,
    until: Instant,
}

impl Tool {
    fn finish(mut self, within: Duration) -> Result<(), QueueError> {
        let until = self.until.max(Instant::now() + FAREWELL.min(within));
        let status = loop {
            let waited = self.child.try_wait();
            let program = self.program.clone();
            match waited.map_err(|source| QueueError::Run { program, source })? {
                Some(status) => break status,
                None if Instant::now() > until => {
                    return Err(QueueError::Late {
                        program: self.program.clone(),
                        within,
                    });
                }
                None => thread::sleep(LOOK),
            }
        };
        if status.success() {
            return Ok(());
        }
        let said = self.complaint.take().and_then(|thread| thread.join().ok());
        let said = said.unwrap_or_default();
        Err(QueueError::Failed { program: self.program.clone(), status, said })
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A pipe from which reading ends in time.
struct Timed<R> {
    from: R,
    until: Instant,
}

impl<R: Read + AsFd> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut waiting = [PollFd::new(&self.from, PollFlags::IN)];
            match poll(&mut waiting, Some(&left)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.from.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Reads a listing from its text. Says whether it came to its end.
///
/// # Errors
///
/// When `from` fails.
pub fn read_lines(
    mut from: impl BufRead,
    each: &mut dyn FnMut(&Queued<'_>) -> bool,
) -> io::Result<(Listing, bool)> {
    let mut listing = Listing::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes_max = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        if from.by_ref().take(bytes_max).read_until(b'\n', &mut line)? == 0 {
            return Ok((listing, true));
        }
        if line.len() == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            skip_line(&mut from)?;
            listing.unread += 1;
        } else if line.iter().all(u8::is_ascii_whitespace) {
            // Postfix ends some listings with an empty line.
        } else if let Some(wants_more) = read_line(&line, each) {
            listing.messages += 1;
            if !wants_more {
                return Ok((listing, false));
            }
        } else {
            listing.unread += 1;
        }
    }
}

fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let read = from.fill_buf()?;
        let end = memchr(read);
        let (length, over) = (read.len(), read.is_empty());
        from.consume(end.map_or(length, |at| at + 1));
        if over || end.is_some() {
            return Ok(());
        }
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// A line as `postqueue -j` writes it.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    queue_name: Cow<'a, str>,
    #[serde(borrow)]
    queue_id: Cow<'a, str>,
    arrival_time: i64,
    #[serde(borrow, default)]
    recipients: Vec<Recipient<'a>>,
}

/// What `each` says to the line's message; nothing when it cannot be read.
fn read_line(line: &[u8], each: &mut dyn FnMut(&Queued<'_>) -> bool) -> Option<bool> {
    // Addresses may hold bytes that are no text; the line is whole nevertheless.
    let text = String::from_utf8_lossy(line);
    let read: Line<'_> = serde_json::from_str(&text).ok()?;
    let place = match read.queue_name.as_ref() {
        "deferred" => Place::Deferred,
        "active" => Place::Active,
        "incoming" | "maildrop" => Place::Incoming,
        "hold" => Place::Hold,
        _ => Place::Other,
    };
    Some(each(&Queued {
        id: QueueId::new(&read.queue_id)?,
        place,
        arrived_unix: read.arrival_time,
        recipients: read.recipients,
    }))
}

impl QueueId {
    /// Comes before every name there is.
    pub const FIRST: Self = Self { length: 0, bytes: [0; ID_BYTES_MAX] };

    /// The name, if it can be one: letters and digits.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; ID_BYTES_MAX];
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.is_empty() || !plain {
            return None;
        }
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { length: u8::try_from(text.len()).ok()?, bytes })
    }

    /// As Postfix writes it.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HELD: &str = r#"{"queue_name": "deferred", "queue_id": "07427AA6084", "arrival_time": 1795293848, "message_size": 325, "forced_expire": false, "sender": "sender@example.net", "recipients": [{"address": "held@example.org", "delay_reason": "deferred transport"}, {"address": "o\"brien@example.org"}]}"#;

    #[test]
    fn a_listing_is_read_line_by_line() {
        let text = format!("{HELD}\n{}\n", HELD.replace("deferred\",", "hold\","));
        let mut seen = Vec::new();

        let (listing, whole) = read_lines(text.as_bytes(), &mut |queued| {
            let to = queued.recipients.iter();
            let to = to.map(|it| format!("{} ({})", it.address, it.reason));
            seen.push((queued.id.to_string(), queued.place, to.collect::<Vec<_>>()));
            true
        })
        .unwrap();

        assert!(whole);
        assert_eq!(listing, Listing { messages: 2, unread: 0 });
        let to = vec![
            "held@example.org (deferred transport)".to_owned(),
            "o\"brien@example.org ()".to_owned(),
        ];
        let id = "07427AA6084".to_owned();
        assert_eq!(seen.first(), Some(&(id, Place::Deferred, to)));
        assert_eq!(seen.get(1).map(|(_, place, _)| *place), Some(Place::Hold));
    }

    #[test]
    fn lines_that_say_nothing_are_counted_and_the_rest_is_read() {
        let cut = HELD.get(..80).unwrap();
        let option = HELD.replace("07427AA6084", "-f");
        let long = HELD.replace("07427AA6084", &"A".repeat(24));
        let text = format!("{cut}\n\n{HELD}\n{option}\nnonsense\n{long}\n{HELD}");

        let (listing, _) = read_lines(text.as_bytes(), &mut |_| true).unwrap();

        assert_eq!(listing, Listing { messages: 2, unread: 4 });
    }

    #[test]
    fn a_line_of_other_bytes_is_still_a_message() {
        let mut line = HELD.as_bytes().to_vec();
        let at = HELD.find("held@").unwrap();
        *line.get_mut(at).unwrap() = 0xFF;
        let mut to = String::new();

        let (listing, _) = read_lines(line.as_slice(), &mut |queued| {
            to = queued.recipients.first().unwrap().address.to_string();
            true
        })
        .unwrap();

        assert_eq!(listing.messages, 1);
        assert_eq!(to, "\u{FFFD}eld@example.org");
    }

    #[test]
    fn an_endless_line_is_skipped_in_bounded_memory() {
        let endless = io::repeat(b'a').take(3 * u64::try_from(LINE_BYTES_MAX).unwrap());
        let rest = format!("\n{HELD}\n");
        let from = BufReader::with_capacity(READ_BYTES, endless.chain(rest.as_bytes()));

        let (listing, _) = read_lines(from, &mut |_| true).unwrap();

        assert_eq!(listing, Listing { messages: 1, unread: 1 });
    }

    #[test]
    fn a_tool_that_fails_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let queue = tool(dir.path(), "echo 'fatal: mail system is down' >&2; exit 69");

        let failed = queue.list(Duration::from_secs(20), &mut |_| true).unwrap_err();

        assert!(failed.to_string().contains("mail system is down"), "{failed}");
    }

    #[test]
    fn a_tool_that_hangs_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let queue = tool(dir.path(), &format!("echo '{HELD}'; exec sleep 1000"));
        let mut seen = 0;

        let late = queue.list(Duration::from_millis(300), &mut |_| {
            seen += 1;
            true
        });

        assert!(matches!(late, Err(QueueError::Late { .. })), "{late:?}");
        assert_eq!(seen, 1);
        let id = QueueId::new("07427AA6084").unwrap();
        let late = queue.flush(id, Duration::from_millis(100));
        assert!(matches!(late, Err(QueueError::Late { .. })), "{late:?}");
    }

    #[test]
    fn whoever_has_enough_breaks_off() {
        let dir = tempfile::tempdir().unwrap();
        let queue = tool(dir.path(), &format!("while :; do echo '{HELD}'; done"));
        let mut seen = 0;

        let end = queue.list(Duration::from_secs(20), &mut |_| {
            seen += 1;
            seen < 10
        });

        assert!(matches!(end, Err(QueueError::BrokenOff)), "{end:?}");
    }

    #[test]
    fn an_id_is_letters_and_digits() {
        let read = ["4XfW1z5Kq0z2Xyz", "07427AA6084", "", "-f", "../x", "a b", "ALL!"];

        let read = read.map(|text| QueueId::new(text).is_some());

        assert_eq!(read, [true, true, false, false, false, false, false]);
    }

    /// A queue whose tool is a script.
    fn tool(dir: &Path, script: &str) -> Postqueue {
        let (text, program) = (dir.join("text"), dir.join("postqueue"));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // Another process writes the program: one that this process has open for writing
        // cannot be run while another test is starting something.
        let mut install = Command::new("install");
        let installed = install.args(["-m", "755"]).args([&text, &program]).status();
        assert!(installed.unwrap().success());
        Postqueue { program, config_dir: None }
    }
}
