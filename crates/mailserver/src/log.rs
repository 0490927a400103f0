//! Log: what Dovecot complains about, line by line, as it is written; and what Postfix says of
//! users that Dovecot does not know, which Dovecot itself keeps to itself.
//!
//! # Invariants
//!
//! * Every line written while the file is followed is read once, over rotation by renaming and
//!   over truncation, even when the file has grown again. Lines that are written and cut away
//!   between two looks are gone.
//! * A look reads a bounded amount, and a line is judged by a bounded start of it.
//! * A user is named only as Dovecot names the one whose process writes the line, or where
//!   Postfix and Dovecot agree on the recipient. What else the outside world says in a line
//!   names nobody.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How much one look reads at most; the next one goes on.
const LOOK_BYTES_MAX: u64 = 16 << 20;

/// How much is read at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// How much of a line is kept and judged. Dovecot's lines are shorter, unless somebody makes
/// them long.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// By how many bytes before its place a follower knows a file again. Lines begin with the time.
const TAIL_BYTES: usize = 256;

/// How much of a line a complaint repeats.
const TEXT_CHARS_MAX: usize = 500;

/// Follows one log file.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    open: Option<Followed>,
    line: Vec<u8>,
}

/// Where a follower is: enough to go on there after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// The file's inode.
    pub inode: u64,
    /// The end of the last line that was read whole.
    pub offset: u64,
}

/// What one look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    /// Lines that were read.
    pub lines: u64,
    /// Whether there is more already.
    pub more: bool,
}

/// A line that is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What it is about.
    pub kind: ComplaintKind,
    /// Whose mailbox it is about, where the line names somebody.
    pub user: Option<String>,
    /// What wrote it, like `imap` or `master`.
    pub service: String,
    /// Its words, without time and prefix.
    pub text: String,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComplaintKind {
    /// A file of a mailbox is not what it should be.
    Corrupted,
    /// A message is gone that the index knows.
    Lost,
    /// A message is longer or shorter than the index knows.
    BrokenSize,
    /// A process ended itself because of something impossible.
    Panic,
    /// A process gave up, or was killed.
    Fatal,
    /// Mail for an address that Dovecot does not know: its sender gets a bounce. Postfix
    /// logs this.
    UnknownUser,
    /// There are no more connections, processes or files to be had.
    Exhausted,
}

/// A log file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the log `{}`", .path.display())]
pub struct LogError {
    /// Which.
    pub path: PathBuf,
    #[source]
    source: io::Error,
}

#[derive(Debug)]
struct Followed {
    file: File,
    inode: u64,
    /// Up to where the file was read.
    read: u64,
    /// Up to where its lines are whole.
    whole: u64,
    /// What stands before `read`.
    tail: Vec<u8>,
}

impl LogFollower {
    /// Follows a file from its present end on. A file that does not exist yet is read from its
    /// start when it does.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read.
    pub fn from_end(path: &Path) -> Result<Self, LogError> {
        let mut follower = Self { path: path.to_owned(), open: None, line: Vec::new() };
        follower.open(path, None)?;
        if let Some(open) = &mut follower.open {
            let seek = open.file.seek(SeekFrom::End(0));
            open.read = seek.map_err(|source| follower_error(path, source))?;
            open.whole = open.read;
        }
        Ok(follower)
    }

    /// Follows a file from where an earlier follower was. If it was rotated meanwhile, the rest
    /// is read under its new name, with `.1` behind the old one, if it is there.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read.
    pub fn from_position(path: &Path, position: LogPosition) -> Result<Self, LogError> {
        let mut follower = Self { path: path.to_owned(), open: None, line: Vec::new() };
        let mut rotated = OsString::from(path);
        rotated.push(".1");
        for candidate in [path, Path::new(&rotated)] {
            follower.open(candidate, Some(position.inode))?;
            if let Some(open) = &mut follower.open {
                (open.read, open.whole) = (position.offset, position.offset);
                return Ok(follower);
            }
        }
        follower.open(path, None)?;
        Ok(follower)
    }

    /// Where it is, if there is a file.
    pub fn position(&self) -> Option<LogPosition> {
        let open = self.open.as_ref()?;
        Some(LogPosition { inode: open.inode, offset: open.whole })
    }

    /// Reads what was written since the last look.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read. What was read before has been told.
    pub fn look(
        &mut self,
        on_complaint: &mut dyn FnMut(Complaint),
    ) -> Result<Looked, LogError> {
        let mut looked = Looked::default();
        let mut left = LOOK_BYTES_MAX;
        loop {
            if self.open.is_none() {
                self.open(&self.path.clone(), None)?;
            }
            let read = self.read_on(left, &mut looked, on_complaint);
            let read = read.map_err(|source| follower_error(&self.path, source))?;
            left = left.saturating_sub(read);
            if left == 0 {
                looked.more = true;
                return Ok(looked);
            }
            if !self.is_replaced() {
                return Ok(looked);
            }
            // All of the old file was read, before the new one is opened. Once more, because
            // its last lines may have come between reading and looking.
            let read = self.read_on(left, &mut looked, on_complaint);
            let read = read.map_err(|source| follower_error(&self.path, source))?;
            left = left.saturating_sub(read);
            self.open = None;
            self.line.clear();
        }
    }

    /// Opens a file, if it is there and, where one is wanted, has that inode.
    fn open(&mut self, path: &Path, inode: Option<u64>) -> Result<(), LogError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(follower_error(path, source)),
        };
        let found = file.metadata().map_err(|source| follower_error(path, source))?.ino();
        if inode.is_none_or(|wanted| wanted == found) {
            self.open = Some(Followed {
                file,
                inode: found,
                read: 0,
                whole: 0,
                tail: Vec::new(),
            });
        }
        Ok(())
    }

    /// Whether another file has taken the name. A file that was only removed is still written.
    fn is_replaced(&self) -> bool {
        let Some(open) = &self.open else { return false };
        fs::metadata(&self.path).is_ok_and(|now| now.ino() != open.inode)
    }

    /// Reads up to the present end of the open file.
    fn read_on(
        &mut self,
        bytes_max: u64,
        looked: &mut Looked,
        on_complaint: &mut dyn FnMut(Complaint),
    ) -> io::Result<u64> {
        let Some(open) = &mut self.open else { return Ok(0) };
        if open.is_cut()? {
            (open.read, open.whole) = (0, 0);
            open.tail.clear();
            self.line.clear();
        }
        open.file.seek(SeekFrom::Start(open.read))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut total = 0;
        while total < bytes_max {
            let room = buffer
                .len()
                .min(usize::try_from(bytes_max - total).unwrap_or(usize::MAX));
            let count = open.file.read(buffer.get_mut(..room).unwrap_or_default())?;
            if count == 0 {
                break;
            }
            total += count as u64;
            for part in
                buffer.get(..count).unwrap_or_default().split_inclusive(|it| *it == b'\n')
            {
                open.pass(part);
                let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
                self.line.extend(part.iter().take(room));
                if part.ends_with(b"\n") {
                    open.whole = open.read;
                    looked.lines += 1;
                    let line = String::from_utf8_lossy(&self.line);
                    if let Some(complaint) = Complaint::of(line.trim_end()) {
                        on_complaint(complaint);
                    }
                    self.line.clear();
                }
            }
        }
        Ok(total)
    }
}

impl Followed {
    /// Goes on behind some bytes.
    fn pass(&mut self, bytes: &[u8]) {
        self.read += bytes.len() as u64;
        let last = bytes.len().saturating_sub(TAIL_BYTES);
        self.tail.extend_from_slice(bytes.get(last..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
    }

    /// Whether the file was cut, and does not have any more what was read.
    fn is_cut(&mut self) -> io::Result<bool> {
        if self.file.metadata()?.len() < self.read {
            return Ok(true);
        }
        let mut tail = vec![0; self.tail.len()];
        self.file.seek(SeekFrom::Start(self.read - tail.len() as u64))?;
        match self.file.read_exact(&mut tail) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            read => read.map(|()| tail != self.tail),
        }
    }
}

impl Complaint {
    /// Judges one line of the log; most are worth nothing.
    pub fn of(line: &str) -> Option<Self> {
        if let Some(bounced) = Self::of_bounce(line) {
            return Some(bounced);
        }
        let (prefix, level, text) = split(line)?;
        let kind = kind(level, text)?;
        let (service, user) = writer(prefix);
        let text = text.chars().take(TEXT_CHARS_MAX).collect();
        Some(Self { kind, user, service, text })
    }

    /// `.. postfix/lmtp[17]: 4B2: to=<user>, .. said: 550 5.1.1 <user> User doesn't exist: ..`
    fn of_bounce(line: &str) -> Option<Self> {
        let (_, postfix) = line.split_once(" postfix/")?;
        let (process, text) = postfix.split_once(": ")?;
        let (service, _) = process.split_once('[')?;
        let (_, recipient) = text.split_once(": to=<")?;
        let (user, rest) = recipient.split_once(">, ")?;
        let (_, said) = rest.split_once(" said: 550 5.1.1 <")?;
        let agreed = said.split_once("> User doesn't exist: ")?.0 == user;
        agreed.then(|| Self {
            kind: ComplaintKind::UnknownUser,
            user: Some(user.to_owned()),
            service: service.to_owned(),
            text: text.chars().take(TEXT_CHARS_MAX).collect(),
        })
    }
}

fn follower_error(path: &Path, source: io::Error) -> LogError {
    LogError { path: path.to_owned(), source }
}

/// `<time> <prefix>: <level>: <text>`.
fn split(line: &str) -> Option<(&str, &str, &str)> {
    let levels = ["Info", "Warning", "Error", "Fatal", "Panic"];
    let ends = levels.iter().filter_map(|level| {
        let at = line.find(&format!(": {level}: "))?;
        Some((at, *level))
    });
    // The first one: what follows is the line's own words.
    let (at, level) = ends.min()?;
    let text = line.get(at + level.len() + 4..)?;
    Some((line.get(..at)?, level, text))
}

fn kind(level: &str, text: &str) -> Option<ComplaintKind> {
    let has = |words: &[&str]| words.iter().any(|it| text.contains(it));
    if has(&[
        "client_limit",
        "process_limit",
        "Too many open files",
        "Cannot allocate memory",
    ]) {
        return Some(ComplaintKind::Exhausted);
    }
    match level {
        "Panic" => return Some(ComplaintKind::Panic),
        "Fatal" => return Some(ComplaintKind::Fatal),
        "Error" => {}
        _ => return None,
    }
    if has(&["Broken physical size", "Broken virtual size", "Cached message size "]) {
        return Some(ComplaintKind::BrokenSize);
    }
    if has(&["Unexpectedly lost"]) {
        return Some(ComplaintKind::Lost);
    }
    // The cache is made anew without a loss.
    let harmless = has(&["Deleting corrupted cache"]);
    (has(&["Corrupted ", " corrupted", "points to broken data"]) && !harmless)
        .then_some(ComplaintKind::Corrupted)
}

/// Who wrote a line, and for whom: `imap(user@example.org)<4711><session>`,
/// `doveadm(127.0.0.1,user@example.org)<4711><session>`, `lmtp(4711)`, `master`.
fn writer(prefix: &str) -> (String, Option<String>) {
    // Neither services nor users have blanks in their names; the time and the host do.
    let word = prefix.rsplit(": ").next().unwrap_or(prefix);
    let word = word.rsplit(' ').next().unwrap_or(word);
    let Some((service, rest)) = word.split_once('(') else {
        return (word.to_owned(), None);
    };
    let inside = rest.rsplit_once(")<").map_or(rest, |(before, _)| before);
    let inside = match inside.rsplit_once(")<") {
        Some((before, _)) => before,
        None => inside.strip_suffix(')').unwrap_or(inside),
    };
    let user = inside.rsplit(',').next().unwrap_or_default();
    let is_user = !user.is_empty()
        && !user.bytes().all(|byte| byte.is_ascii_digit())
        && user.parse::<std::net::IpAddr>().is_err();
    (service.to_owned(), is_user.then(|| user.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Lines as Dovecot 2.3.19 writes them, and what they are worth.
    #[test]
    fn lines_of_dovecot_are_judged() {
        use ComplaintKind::{BrokenSize, Corrupted, Exhausted, Fatal, Lost, Panic};
        let time = "Nov 22 05:52:07 ";
        let user = "imap(a@example.org)<14878><Oy+aE9dg6JB/AAAB>: ";
        let a = Some("a@example.org");
        for (line, wanted) in [
            (
                format!("{user}Error: Mailbox INBOX: Deleting corrupted cache record uid=2: UID 2: Broken physical size in mailbox INBOX: read(/srv/mail/x/Maildir/new/1.M3P2.host,S=20117,W=20408:2,FSa) failed: Cached message size larger than expected (20117 > 10000, box=INBOX, UID=2)"),
                Some((BrokenSize, a)),
            ),
            (format!("{user}Error: Mailbox INBOX: UID=2: dbox: Unexpectedly lost uid"), Some((Lost, a))),
            (
                format!("{user}Error: mdbox map /srv/mail/storage/dovecot.map.index corrupted: Unexpectedly lost INBOX uid=1 map_uid=1"),
                Some((Lost, a)),
            ),
            (
                format!("{user}Error: Corrupted dbox file /srv/mail/u.2 (around offset=4111): Invalid dbox version"),
                Some((Corrupted, a)),
            ),
            (
                format!("{user}Error: Mailbox INBOX: Corrupted transaction log file /srv/mail/dovecot.index.log seq 2: Unexpected garbage at EOF (sync_offset=976)"),
                Some((Corrupted, a)),
            ),
            (
                format!("{user}Panic: file ../../../../src/lib/istream.h: line 219 (i_stream_read_bytes): assertion failed: (wanted > 0)"),
                Some((Panic, a)),
            ),
            (
                format!("{user}Fatal: master: service(imap): child 14878 killed with signal 6 (core dumps disabled)"),
                Some((Fatal, a)),
            ),
            (format!("{user}Error: Mailbox INBOX: Deleting corrupted cache: Unsupported major version (0)"), None),
            (format!("{user}Info: Disconnected: FETCH read() failed in=45 out=1131"), None),
            (
                format!("{user}Info: subject is: Error: Corrupted dbox file"),
                None,
            ),
            (
                "lmtp(b@example.org)<1><s:T2>: Error: Corrupted dbox file /srv/mail/m.1".to_owned(),
                Some((Corrupted, Some("b@example.org"))),
            ),
            (
                "doveadm(127.0.0.1,c@example.org)<1><s>: Error: Corrupted dbox file x".to_owned(),
                Some((Corrupted, Some("c@example.org"))),
            ),
            ("lmtp(7960): Panic: file x".to_owned(), Some((Panic, None))),
            ("doveadm(127.0.0.1): Panic: file x".to_owned(), Some((Panic, None))),
            (
                "master: Warning: service(imap-login): client_limit (100) reached, client connections are being dropped".to_owned(),
                Some((Exhausted, None)),
            ),
            (
                "vm dovecot: indexer-worker(d@example.org)<9><t>: Error: Corrupted index x".to_owned(),
                Some((Corrupted, Some("d@example.org"))),
            ),
            ("master: Warning: Killed with signal 15 (by pid=1 uid=0 code=kill)".to_owned(), None),
            ("half a".to_owned(), None),
        ] {
            let found = Complaint::of(&format!("{time}{line}"));
            let found = found.as_ref().map(|it| (it.kind, it.user.as_deref()));
            assert_eq!(found, wanted, "{line}");
        }
    }

    #[test]
    fn a_bounce_names_the_user_whom_dovecot_does_not_know() {
        let line = "Nov 22 05:52:07 vm postfix/lmtp[17]: 4ZkQ0R1: to=<e@example.org>, \
                    relay=127.0.0.1[127.0.0.1]:24, delay=0.1, dsn=5.1.1, status=bounced \
                    (host 127.0.0.1[127.0.0.1] said: 550 5.1.1 <e@example.org> User doesn't \
                    exist: e@example.org (in reply to RCPT TO command))";

        let complaint = Complaint::of(line).unwrap();

        assert_eq!(complaint.kind, ComplaintKind::UnknownUser);
        assert_eq!(complaint.user.as_deref(), Some("e@example.org"));
        assert_eq!(complaint.service, "lmtp");
        assert_eq!(Complaint::of(&line.replacen("e@", "f@", 1)), None);
        assert_eq!(Complaint::of(&line.replace("550", "450")), None);
    }

    fn complain(file: &mut File, user: &str) {
        writeln!(file, "Nov 22 05:52:07 imap({user})<1><s>: Error: Corrupted file")
            .unwrap();
    }

    fn users(follower: &mut LogFollower) -> Vec<String> {
        let mut users = Vec::new();
        follower.look(&mut |it| users.extend(it.user)).unwrap();
        users
    }

    #[test]
    fn every_line_is_read_once_over_rotation_and_truncation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dovecot.log");
        let mut follower = LogFollower::from_end(&path).unwrap();
        assert_eq!(follower.position(), None);
        assert!(users(&mut follower).is_empty());

        let mut file = File::create(&path).unwrap();
        complain(&mut file, "one");
        write!(file, "Nov 22 05:52:07 imap(two)<1><s>: Err").unwrap();
        assert_eq!(users(&mut follower), ["one"]);
        writeln!(file, "or: Corrupted file").unwrap();
        assert_eq!(users(&mut follower), ["two"]);

        // Dovecot writes to the old file until it is told to open the new one.
        fs::rename(&path, dir.path().join("dovecot.log.1")).unwrap();
        complain(&mut file, "three");
        assert_eq!(users(&mut follower), ["three"]);
        complain(&mut file, "four");
        let mut file = File::create(&path).unwrap();
        complain(&mut file, "five");
        assert_eq!(users(&mut follower), ["four", "five"]);

        file.set_len(0).unwrap();
        file.rewind().unwrap();
        complain(&mut file, "6");
        complain(&mut file, "x");
        file.set_len(40).unwrap();
        assert!(users(&mut follower).is_empty());
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        complain(&mut file, "c");
        assert_eq!(users(&mut follower), ["c"]);
        assert!(users(&mut LogFollower::from_end(&path).unwrap()).is_empty());
    }

    #[test]
    fn a_follower_goes_on_where_one_was_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dovecot.log");
        let mut file = File::create(&path).unwrap();
        complain(&mut file, "one");
        let mut first = LogFollower::from_end(&path).unwrap();
        complain(&mut file, "two");
        write!(file, "Nov 22 05:52:07 imap(three)<1><s>: Err").unwrap();
        assert_eq!(users(&mut first), ["two"]);
        let position = first.position().unwrap();
        writeln!(file, "or: Corrupted file").unwrap();

        let mut second = LogFollower::from_position(&path, position).unwrap();
        assert_eq!(users(&mut second), ["three"]);

        fs::rename(&path, dir.path().join("dovecot.log.1")).unwrap();
        let mut file = File::create(&path).unwrap();
        complain(&mut file, "four");
        let mut third = LogFollower::from_position(&path, position).unwrap();
        assert_eq!(users(&mut third), ["three", "four"]);
        fs::remove_file(dir.path().join("dovecot.log.1")).unwrap();
        let mut fourth = LogFollower::from_position(&path, position).unwrap();
        assert_eq!(users(&mut fourth), ["four"]);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory_and_is_judged_by_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dovecot.log");
        let mut follower = LogFollower::from_end(&path).unwrap();
        let mut file = File::create(&path).unwrap();
        write!(file, "Nov 22 05:52:07 imap(long)<1><s>: Error: Corrupted ").unwrap();
        let noise = vec![b'x'; 1 << 20];
        for _ in 0..17 {
            file.write_all(&noise).unwrap();
        }

        let first = follower.look(&mut |_| {}).unwrap();
        assert!(first.more && follower.line.len() <= LINE_BYTES_MAX);
        writeln!(file).unwrap();
        let mut complaints = Vec::new();
        let second = follower.look(&mut |it| complaints.push(it)).unwrap();

        assert_eq!((second.lines, second.more), (1, false));
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].text.chars().count() <= TEXT_CHARS_MAX);
    }
}
