//! Progress: how far something is that takes long, on stderr.
//!
//! # Invariants
//!
//! * It is a bar where somebody looks, else a line now and then; what is told meanwhile stands
//!   above the bar.
//! * Nothing of it is data, and nothing of it stays on a terminal.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, IsTerminal as _, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::ProgressForm;
use crate::console::{self, thousands};

/// How often a counter says how far it is: seldom enough for a log.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Redraws a second, at most.
const REDRAWS: u8 = 5;

/// The bar that is on the screen now.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Something that takes long.
pub(crate) struct Progress {
    verb: &'static str,
    unit: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    bar: Option<ProgressBar>,
    counter: Option<Mutex<Counter>>,
}

/// When was told how far it is.
struct Counter {
    told: Instant,
    to_the_end: bool,
}

impl Progress {
    /// Begins it: `Reading`, of so many `bytes`.
    pub(crate) fn begin(
        form: ProgressForm,
        verb: &'static str,
        (total, unit): (Option<u64>, &'static str),
    ) -> Self {
        let seen = io::stderr().is_terminal()
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let (bar, counter) = match form {
            ProgressForm::Auto => (seen, !seen),
            ProgressForm::Bar => (true, false),
            ProgressForm::Counter => (false, true),
            ProgressForm::None => (false, false),
        };
        let bar = bar.then(|| show(verb, total));
        let to_the_end = form == ProgressForm::Counter;
        let counter =
            counter.then(|| Mutex::new(Counter { told: Instant::now(), to_the_end }));
        Self { verb, unit, total, done: AtomicU64::new(0), bar, counter }
    }

    /// So much more is done.
    pub(crate) fn add(&self, more: u64) {
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        let Some(counter) = &self.counter else { return };
        let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
        if counter.told.elapsed() >= COUNT_EVERY {
            *counter = Counter { told: Instant::now(), to_the_end: true };
            console::tell(self);
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, unit, .. } = self;
        let done = self.done.load(Ordering::Relaxed);
        write!(f, "{verb}: {}", thousands(done))?;
        if let Some(total) = self.total {
            let percent = done.saturating_mul(100) / total.max(1);
            write!(f, " of {} ({percent} %)", thousands(total))?;
        }
        write!(f, " {unit}")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let counter = self.counter.as_mut();
        let counter =
            counter.map(|it| it.get_mut().unwrap_or_else(PoisonError::into_inner));
        if counter.is_some_and(|counter| counter.to_the_end) {
            console::tell(&*self);
        }
    }
}

/// Puts a bar on the screen.
fn show(verb: &'static str, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
    let shape = if total.is_some() {
        "{prefix:>12.green.bold} [{bar:24}] {percent:>3} % {eta} left"
    } else {
        "{prefix:>12.green.bold} {human_pos} in {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(verb);
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
    bar
}

/// Does `work` with nothing in the way on the terminal.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match shown {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

/// `file`, counted while it is read.
pub(crate) fn reading(file: File, form: ProgressForm) -> Counted<File> {
    let is_long = file.metadata().ok().filter(Metadata::is_file);
    let of = (is_long.map(|it| it.len()), "bytes");
    Counted { from: file, progress: Progress::begin(form, "Reading", of) }
}

/// What is read, and counted.
pub(crate) struct Counted<R> {
    from: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.progress.add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_says_how_far_it_is_and_of_how_much() {
        let none = ProgressForm::None;
        let some = Progress::begin(none, "Playing", (Some(20), "rollouts"));
        let open = Progress::begin(none, "Recording", (None, "mailboxes"));

        some.add(5);
        open.add(1_234);

        assert_eq!(some.to_string(), "Playing: 5 of 20 (25 %) rollouts");
        assert_eq!(open.to_string(), "Recording: 1,234 mailboxes");
    }
}
