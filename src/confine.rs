//! Confine: a worker, also one with its coordinator in one process, that writes beneath its own
//! directories and nowhere else, whatever it is made to do.
//!
//! # Invariants
//!
//! * What is given up is given up for good: no thread and no program that it starts gets it back.
//! * Reading is as before. Where the kernel has no Landlock the worker goes on, and says so.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use landlock::{
    ABI, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};
use tidegate_worker::Mail;

use crate::config::{Coordinator, Worker};

/// The first Landlock under which files may be moved from one directory to another (5.19): a
/// repair does so with every message.
const NEEDED: ABI = ABI::V2;

/// The newest one of which anything is asked: that nothing is cut short (6.2).
const WANTED: ABI = ABI::V3;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confinement {
    /// It writes nowhere else.
    Full,
    /// The same, but it could empty files elsewhere that it may write to: Linux before 6.2.
    ButTruncation,
    /// It is as free as its user: the kernel has no Landlock, or one before 5.19.
    None,
}

/// The directories that a worker writes beneath; nothing where a program of somebody else's does
/// its work, which may need others.
pub(crate) fn directories(worker: &Worker) -> Option<Directories> {
    match &worker.mail {
        Mail::Files(files) => {
            let (own, given) = (worker.state_dir.clone(), files.live.clone());
            let work = worker.work.clone();
            Some(Directories { own: vec![own], work, given: vec![given] })
        }
        Mail::Command(_) | Mail::Given(_) => None,
    }
}

/// The directories that a worker writes beneath.
pub(crate) struct Directories {
    /// Its own.
    own: Vec<PathBuf>,
    /// Beside the mail.
    work: PathBuf,
    /// The mail's, and others'. They are never made: where one is not there, its disk is missing.
    given: Vec<PathBuf>,
}

impl Directories {
    /// The same with those of a coordinator in the same process.
    pub(crate) fn and_of(mut self, coordinator: &Coordinator) -> Self {
        self.own.push(coordinator.data_dir.clone());
        let anchors = coordinator.audit.anchors.as_deref();
        self.given.extend(anchors.and_then(Path::parent).map(Path::to_owned));
        self
    }
}

/// How this kernel would confine a worker.
pub(crate) fn offered() -> Confinement {
    let handles = |abi: ABI| {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        ruleset.handle_access(AccessFs::from_write(abi)).is_ok()
    };
    if handles(WANTED) {
        Confinement::Full
    } else if handles(NEEDED) {
        Confinement::ButTruncation
    } else {
        Confinement::None
    }
}

/// Confines this thread, and all that it starts from now on, to writing beneath `directories`.
/// Its own are made first if they are not there: nobody could make them later.
///
/// # Errors
///
/// When the kernel has Landlock and refuses; then nothing is confined.
pub(crate) fn to(directories: &Directories) -> anyhow::Result<Confinement> {
    let Directories { own, work, given } = directories;
    // As the programs do; where they cannot, they say why when they need them. The work directory
    // is not made beneath a disk that is not mounted.
    for directory in own {
        drop(fs::create_dir_all(directory));
    }
    drop(fs::create_dir(work));
    match restrict(own.iter().chain(given).chain([work])) {
        Ok(RulesetStatus::FullyEnforced) => Ok(Confinement::Full),
        Ok(RulesetStatus::PartiallyEnforced) => Ok(Confinement::ButTruncation),
        Ok(RulesetStatus::NotEnforced) => Ok(Confinement::None),
        // What is needed is not there: nothing has been restricted.
        Err(RulesetError::HandleAccesses(_) | RulesetError::CreateRuleset(_)) => {
            Ok(Confinement::None)
        }
        Err(error) => Err(error).context("confine the worker to its directories"),
    }
}

fn restrict<'a>(
    directories: impl Iterator<Item = &'a PathBuf>,
) -> Result<RulesetStatus, RulesetError> {
    let writing = AccessFs::from_write(WANTED);
    let rules = path_beneath_rules(directories, writing);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)?
        .create()?
        .add_rules(rules)?
        // Programs that collect what is measured write to it.
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::WriteFile))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// What is told of `confinement`, in the log and by the doctor.
pub(crate) const fn told(confinement: Confinement) -> &'static str {
    match confinement {
        Confinement::Full => "writes only beneath its own directories (Landlock)",
        Confinement::ButTruncation => {
            "writes only beneath its own directories (Landlock), but this kernel lets it empty \
             other files that its user may write to; Linux 6.2 does not"
        }
        Confinement::None => {
            "this kernel has no Landlock, or one before Linux 5.19: the worker may write \
             wherever its user may"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::process::Command;

    use super::*;

    /// Tells the test, run as a program of its own, where it may write and where it may not.
    const WITHIN: &str = "TIDEGATE_TEST_WITHIN";

    #[test]
    fn a_confined_program_writes_moves_and_removes_within_and_nothing_outside() {
        if let Some(root) = std::env::var_os(WITHIN) {
            return try_everything(Path::new(&root));
        }
        let root = tempfile::tempdir().unwrap();
        for part in ["outside", "live"] {
            fs::create_dir(root.path().join(part)).unwrap();
        }
        fs::write(root.path().join("outside/kept"), "kept").unwrap();

        let name = "confine::tests::a_confined_program_writes_moves_and_removes_within_and_nothing_outside";
        let tried = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(WITHIN, root.path())
            .output()
            .unwrap();

        let said = String::from_utf8_lossy(&tried.stdout).into_owned();
        let said = said + &String::from_utf8_lossy(&tried.stderr);
        assert!(tried.status.success(), "{said}");
        assert_eq!(fs::read(root.path().join("outside/kept")).unwrap(), b"kept");
        if !said.contains("this kernel has no Landlock") {
            assert!(root.path().join("work/made/there").exists(), "{said}");
            assert!(!root.path().join("outside/new").exists(), "{said}");
        }
    }

    #[expect(clippy::print_stderr, reason = "a test that was not done says so")]
    fn try_everything(root: &Path) {
        let [live, state, work] = ["live", "state", "work"].map(|part| root.join(part));
        let (own, given) = (vec![state.clone()], vec![live.clone()]);
        let found = to(&Directories { own, work: work.clone(), given }).unwrap();
        assert_eq!(found, offered());
        if found == Confinement::None {
            eprintln!("nothing was tried: {}", told(found));
            return;
        }
        fs::create_dir(work.join("made")).unwrap();
        fs::write(live.join("message"), "mail").unwrap();
        fs::rename(live.join("message"), work.join("made/there")).unwrap();
        fs::write(state.join("journal"), "record").unwrap();
        fs::remove_file(state.join("journal")).unwrap();
        // In a thread that began later, too.
        let outside = root.join("outside");
        let refused = std::thread::spawn(move || {
            [
                fs::write(outside.join("new"), "x"),
                fs::write(outside.join("kept"), "x"),
                fs::remove_file(outside.join("kept")),
                fs::create_dir(outside.join("dir")),
                fs::rename(work.join("made/there"), outside.join("new")),
                std::os::unix::fs::symlink("x", outside.join("link")),
            ]
            .map(|tried| tried.map_err(|error| error.kind()))
        });
        for tried in refused.join().unwrap() {
            let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::CrossesDevices];
            assert!(tried.is_err_and(|kind| kinds.contains(&kind)), "{tried:?}");
        }
        assert_eq!(
            fs::read(root.join("outside/kept")).unwrap(),
            b"kept",
            "it may be read"
        );
    }
}
