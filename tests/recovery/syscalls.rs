//! System calls: one restore, killed or refused at its Nth call, for every N, resumes to the
//! same end.
//!
//! # Invariants
//!
//! * What is killed is a process of its own, this program with [`RESTORE`] in its environment.
//! * The end is the whole live tree: names, bytes, times, links; and what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;
use tidegate_lab::{LabSpec, Provider};
use tidegate_mail::{Mailbox, PrepareTask, Store, StoreConfig};

use crate::dice::{Dice, soak};
use crate::machine::{self, Need};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_restore_killed_at_any_call_resumes_to_the_same_end,
    a_restore_refused_at_any_call_resumes_to_the_same_end,
];

/// Names the node whose mailbox a child restores, and the mailbox.
const RESTORE: &str = "TIDEGATE_RECOVERY_RESTORE";

/// Calls that open something.
const OPENING: &str = "openat,openat2";

/// Calls that change something, or keep it.
const CHANGING: &str = "write,pwrite64,rename,renameat,renameat2,link,linkat,unlink,unlinkat,\
    mkdir,mkdirat,symlinkat,fsync,fdatasync,syncfs,ftruncate,utimensat,fchmod,fchown,fsetxattr,\
    copy_file_range";

/// Calls that are hit in the ordinary run, spread over all there are.
const SAMPLED: u64 = 18;

/// What is done to which calls, and how the table names it. Opening for reading fills no disk.
const KILLS: &[Way] = &[("signal=KILL", true, "kill -9 at the Nth call of one restore")];
const ERRORS: &[Way] = &[
    ("error=EIO", true, "EIO at the Nth call of one restore"),
    ("error=ENOSPC", false, "ENOSPC at the Nth call of one restore"),
    ("error=EINTR", true, "EINTR at the Nth call of one restore"),
    ("error=EMFILE", true, "EMFILE at the Nth call of one restore"),
];

/// What `strace` does, whether to opening calls too, and a line of the table.
type Way = (&'static str, bool, &'static str);

fn a_restore_killed_at_any_call_resumes_to_the_same_end() {
    for_every_call(KILLS);
}

fn a_restore_refused_at_any_call_resumes_to_the_same_end() {
    for_every_call(ERRORS);
}

fn for_every_call(ways: &[Way]) {
    if let Some(lack) = machine::lacks(&[Need::Tool("strace", "-V")]) {
        return ways.iter().for_each(|(.., name)| Faults::of(name).skipped(&lack));
    }
    let (seed, mut dice) = Dice::thrown("resumes_to_the_same_end");
    let dir = TempDir::with_prefix("tidegate-recovery-").unwrap();
    let spec = LabSpec { mailboxes: 1, nodes: 1, messages: 20, seed, damage: 300_000 };
    let provider =
        tidegate_lab::build(&dir.path().join("whole"), &spec, &mut |_| ()).unwrap();
    let kit = Kit { dir: dir.path(), provider: &provider };
    let whole = kit.copy("reference");
    assert!(kit.restore(&whole, None).success());
    let expected = end_of(&whole);

    for way in ways {
        let copy = kit.copy("count");
        let traced = kit.traced(&copy, &calls(way), None);
        fs::remove_dir_all(copy).unwrap();
        let step = if soak().is_some() { 1 } else { (traced / SAMPLED).max(1) };
        let mut aside = 0;
        let numbers =
            (1 + dice.below(step)..=traced).step_by(usize::try_from(step).unwrap());
        for nth in numbers {
            aside += u64::from(kit.hit(way, nth, (&whole, &expected)));
        }
        eprintln!(
            "{}: one restore makes {traced} calls; {aside} times it believed an error of the disk and put a message by",
            way.0
        );
    }
}

fn calls((_, opening, _): &Way) -> String {
    if *opening { format!("{OPENING},{CHANGING}") } else { CHANGING.to_owned() }
}

/// One broken mailbox, to be copied and restored again and again.
struct Kit<'a> {
    dir: &'a Path,
    provider: &'a Provider,
}

impl Kit<'_> {
    /// A copy of the node as the storm left it.
    fn copy(&self, name: &str) -> PathBuf {
        let to = self.dir.join(name);
        let node = self.provider.nodes.first().unwrap().live.parent().unwrap();
        let words = [OsStr::new("-a"), node.as_os_str(), to.as_os_str()];
        assert!(Command::new("cp").args(words).status().unwrap().success());
        to
    }

    /// Hits the Nth call of a restore, restores again, and demands the same end; whether the
    /// first one had put something by because the disk gave an error instead of it.
    fn hit(&self, way: &Way, nth: u64, (whole, expected): (&Path, &End)) -> bool {
        let (does, _, name) = way;
        let faults = Faults::of(name);
        let copy = self.copy("copy");
        self.traced(&copy, &calls(way), Some(&format!("{does}:when={nth}")));
        faults.injected(1);
        let again = self.restore(&copy, None);
        assert!(again.success(), "call {nth}, {does}: the second one fails");
        let end = end_of(&copy);
        let put_by = *does == "error=EIO" && keeps_all_mail(whole, &copy);
        assert!(
            end == *expected || put_by,
            "call {nth}, {does}: {}",
            difference(expected, &end)
        );
        let mailboxes = self.provider.truth.mailboxes.iter();
        faults.counted(mailboxes.map(|it| it.messages.len() as u64).sum(), 0);
        faults.survived(1);
        fs::remove_dir_all(&copy).unwrap();
        end != *expected
    }

    /// Restores it under `strace`; how many of these calls were made.
    fn traced(&self, node: &Path, calls: &str, inject: Option<&str>) -> u64 {
        let trace = self.dir.join("trace");
        let mut words = vec!["strace".to_owned(), "-f".to_owned(), "-o".to_owned()];
        words.push(trace.to_str().unwrap().to_owned());
        words.extend(["-e".to_owned(), format!("trace={calls}")]);
        if let Some(inject) = inject {
            words.extend(["-e".to_owned(), format!("inject={calls}:{inject}")]);
        }
        // It may well fail; what is left is looked at.
        let _status = self.restore(node, Some(&words));
        let trace = fs::read_to_string(&trace).unwrap();
        trace.lines().filter(|line| line.contains('(')).count() as u64
    }

    /// Restores it in a process of its own, run by these words.
    fn restore(&self, node: &Path, by: Option<&[String]>) -> ExitStatus {
        let mailbox = self.provider.truth.mailboxes.first().unwrap();
        let this = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let words: Vec<&String> = by.into_iter().flatten().chain([&this]).collect();
        let mut command = Command::new(words.first().unwrap());
        command.args(words.iter().skip(1)).args([&mailbox.path, &mailbox.address]);
        command.env(RESTORE, node).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).status().unwrap()
    }
}

/// What is there, by path.
type End = BTreeMap<PathBuf, String>;

/// Everything that is there in the end: the mail, and what was found.
fn end_of(node: &Path) -> End {
    let mut end = BTreeMap::new();
    for part in ["live", "work/findings", "work/manifests"] {
        list(node, Path::new(part), &mut end);
    }
    end
}

/// Restores the mailbox that the environment and the arguments name, if they name one.
pub(crate) fn restore_if_asked() -> Option<std::process::ExitCode> {
    let node = PathBuf::from(std::env::var_os(RESTORE)?);
    let mut words = std::env::args().skip(1);
    let (path, address) = (words.next()?, words.next()?);
    let restored = restore(&node, &path, &address);
    Some(u8::from(restored.is_none()).into())
}

fn restore(node: &Path, path: &str, address: &str) -> Option<()> {
    let store = Store::open(StoreConfig {
        live: node.join("live"),
        snapshot: Some(node.join("snapshot")),
        work: node.join("work"),
        file_size_max: 10_000_000,
    });
    let store = store.ok()?;
    store.claim(0, 1, "child").ok()?;
    let path = path.as_bytes().to_vec();
    let key = Mailbox::key_of(&path);
    let mailboxes = [Mailbox { key, address: address.to_owned(), path, served: false }];
    let task =
        PrepareTask { job: 0, generation: 1, holder: "child", mailboxes: &mailboxes };
    let prepared = store.prepare(&task).ok()?;
    prepared.into_iter().all(|result| result.is_ok()).then_some(())
}

/// Whether the bytes of every message that `whole` has are somewhere in `other`.
fn keeps_all_mail(whole: &Path, other: &Path) -> bool {
    let digests = |node: &Path, parts: &[&str]| {
        let mut files = BTreeMap::new();
        for part in parts {
            list(node, Path::new(part), &mut files);
        }
        let mail = files.into_iter().filter(|(path, _)| is_mail(path) || parts.len() > 1);
        let digest = |told: String| told.split(' ').next().unwrap().to_owned();
        mail.map(|(_, told)| digest(told)).collect::<BTreeSet<_>>()
    };
    digests(whole, &["live"]).is_subset(&digests(other, &["live", "work"]))
}

fn is_mail(path: &Path) -> bool {
    path.parent().is_some_and(|it| it.ends_with("cur") || it.ends_with("new"))
}

fn list(root: &Path, rel: &Path, end: &mut End) {
    for entry in fs::read_dir(root.join(rel)).unwrap() {
        let entry = entry.unwrap();
        let (rel, meta) = (rel.join(entry.file_name()), entry.metadata().unwrap());
        let kind = meta.file_type();
        let told = if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            let digest = tidegate_lab::Digest::of(&bytes);
            // Lists and our own files are dated by the clock.
            let date = if is_mail(&rel) { meta.mtime() } else { 0 };
            format!("{digest} {:o} {date}", meta.mode())
        } else {
            format!("{kind:?}")
        };
        if kind.is_dir() {
            list(root, &rel, end);
        }
        end.insert(rel, told);
    }
}

fn difference(expected: &End, end: &End) -> String {
    let of = |one: &End, other: &End| {
        let differs = one.iter().filter(|(path, told)| other.get(*path) != Some(*told));
        differs
            .map(|(path, told)| format!("{}: {told}", path.display()))
            .collect::<Vec<_>>()
    };
    format!("expected {:#?}, found {:#?}", of(expected, end), of(end, expected))
}
