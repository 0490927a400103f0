//! Recorder: what a watcher is shown, written to a file while it is, and played again from it.
//!
//! # Invariants
//!
//! * A recording is never written over another file.
//! * What is played asks nobody, and comes in the order and at the pace in which it was recorded.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate_wire::recording::{self, Frame, Shown};
use tidegate_wire::v1::{ListEventsResponse, Rollout};

use crate::exit::{Exit, Failure};

/// A recording that is being made; nothing where none is wanted.
pub(super) struct Recorder {
    file: Option<BufWriter<File>>,
    begun: Instant,
}

impl Recorder {
    /// Begins a recording in `path`, if one is given, which must not be there yet.
    ///
    /// # Errors
    ///
    /// When it is, or cannot be written.
    pub(super) fn begin(path: Option<&Path>) -> Result<Self, Failure> {
        let begin = |path: &Path| {
            let mut file = BufWriter::new(File::create_new(path)?);
            recording::begin(&mut file)?;
            file.flush()?;
            std::io::Result::Ok(file)
        };
        let file = path.map(|path| {
            begin(path)
                .with_context(|| format!("begin a recording in `{}`", path.display()))
        });
        Ok(Self { file: file.transpose()?, begun: Instant::now() })
    }

    /// Keeps what is shown of the rollout.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn rollout(&mut self, rollout: &Rollout) -> Result<(), Failure> {
        if self.file.is_none() {
            return Ok(());
        }
        self.add(Shown::Rollout(Box::new(rollout.clone())))
    }

    /// Keeps a page of what has happened.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(super) fn events(&mut self, page: &ListEventsResponse) -> Result<(), Failure> {
        if self.file.is_none() {
            return Ok(());
        }
        self.add(Shown::Events(page.clone()))
    }

    fn add(&mut self, shown: Shown) -> Result<(), Failure> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let frame = Frame { after: self.begun.elapsed(), shown };
        // Whole at once: whoever is killed leaves all that came before.
        let added = recording::add(file, &frame).and_then(|()| file.flush());
        added.context("go on with the recording").map_err(Failure::from)
    }
}

/// Reads a recording.
///
/// # Errors
///
/// [`Exit::Input`] when it is none.
pub(super) fn recorded(path: &Path) -> Result<Vec<Frame>, Failure> {
    let read = || recording::read(&mut BufReader::new(File::open(path)?));
    read().with_context(|| format!("read the recording `{}`", path.display())).map_err(
        |error| {
            Failure::new(Exit::Input, error)
                .help("`tidegate watch --record FILE` makes one")
        },
    )
}

/// How long to wait between two frames at this speed.
pub(super) fn pause(before: Duration, after: Duration, speed: f64) -> Duration {
    after.saturating_sub(before).div_f64(speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_fast_is_half_as_long() {
        let seconds = Duration::from_secs;

        assert_eq!(pause(seconds(2), seconds(6), 2.0), seconds(2));
        assert_eq!(pause(seconds(6), seconds(2), 2.0), Duration::ZERO);
    }
}
