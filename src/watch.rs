//! Watching: follows a rollout, on a screen or line by line.
//!
//! # Invariants
//!
//! * A restart of the coordinator is shown and waited for, not taken for an end.
//! * The terminal is given back on every way out.
//! * Where nobody can press keys it is lines: five that sum up, and one for each change.

mod recorder;
mod terminal;

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tidegate_wire::recording::{Frame, Shown};
use tidegate_wire::v1::Rollout;
use tokio::time::timeout;

use crate::cli::{LiveFormat, Wait, Watch};
use crate::client::{Client, Seen, Watcher, is_over};
use crate::condition::Condition;
use crate::console::{self, Paint, Screen};
use crate::exit::{Exit, Failure, Outcome};
use crate::look::ending;
use crate::screens;
use crate::screens::live::Lines;
use recorder::{Recorder, recorded};

/// Silence after which a watcher is told that data is old: beats come several a minute.
const SILENCE_SHOWN: Duration = Duration::from_secs(5);

/// Carries out `tidegate watch`.
pub(crate) async fn run(args: &Watch) -> Outcome {
    let on_screen =
        args.output == LiveFormat::Table && !args.no_tui && console::can_redraw();
    let mut display = match args.output {
        LiveFormat::Jsonl => Display::Json,
        LiveFormat::Table => Display::Lines(Lines::summed_up()),
    };
    if let Some(path) = &args.replay {
        let frames = recorded(path)?;
        if on_screen {
            return terminal::replay(frames, args).await;
        }
        return replay(frames, &mut display);
    }
    let client = Client::connect(&args.coordinator).await?;
    let recorder = Recorder::begin(args.record.as_deref())?;
    let goal = Goal { until: args.until.as_ref(), within: args.timeout };
    if on_screen {
        return terminal::run(client, recorder, args, goal).await;
    }
    let mut told = Told { display, recorder, last: None };
    let outcome = tokio::select! {
        // Nothing is kept between the arms: whichever ends, the other is done with.
        outcome = follow(client, goal, &mut told) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    };
    outcome
}

/// Shows a recording line by line, without waiting: nobody looks.
fn replay(frames: Vec<Frame>, display: &mut Display) -> Outcome {
    for frame in frames {
        if let Shown::Rollout(rollout) = frame.shown {
            display.show(&rollout, None)?;
        }
    }
    Ok(Exit::Done)
}

/// Carries out `tidegate wait`.
pub(crate) async fn wait(args: &Wait) -> Outcome {
    let client = Client::connect(&args.coordinator).await?;
    let goal = Goal { until: Some(&args.condition), within: args.timeout };
    let recorder = Recorder::begin(None)?;
    let mut told = Told { display: Display::Nothing, recorder, last: None };
    tokio::select! {
        // Nothing is kept between the arms: whichever ends, the other is done with.
        outcome = follow(client, goal, &mut told) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// Until when to follow.
#[derive(Clone, Copy)]
struct Goal<'a> {
    until: Option<&'a Condition>,
    within: Option<Duration>,
}

impl Goal<'_> {
    /// The time is over.
    fn timed_out(&self) -> Failure {
        let told = match self.until {
            Some(_) => "not so within the time limit",
            None => "the time limit is over",
        };
        Failure::text(Exit::Timeout, told)
    }
}

/// What is told line by line, and what was told last.
struct Told {
    display: Display,
    recorder: Recorder,
    last: Option<Box<Rollout>>,
}

async fn follow(client: Client, goal: Goal<'_>, told: &mut Told) -> Outcome {
    let deadline = goal.within.map(|limit| Instant::now() + limit);
    let mut watcher = Watcher::new(client);
    loop {
        let seen = match deadline {
            None => watcher.next().await?,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                match timeout(left, watcher.next()).await {
                    Ok(seen) => seen?,
                    Err(_) => {
                        return Err(goal.timed_out());
                    }
                }
            }
        };
        match seen {
            Seen::Rollout(rollout) => {
                told.recorder.rollout(&rollout)?;
                told.display.show(&rollout, None)?;
                let flow = decide(&rollout, goal.until)?;
                told.last = Some(rollout);
                if let ControlFlow::Break(exit) = flow {
                    return Ok(exit);
                }
            }
            Seen::Silence(silent) => {
                if let Some(rollout) = &told.last {
                    told.display.show(rollout, Some(silent))?;
                }
            }
            Seen::Over => return Ok(Exit::Done),
        }
    }
}

/// Whether to go on watching.
fn decide(
    rollout: &Rollout,
    until: Option<&Condition>,
) -> Result<ControlFlow<Exit>, Failure> {
    match until {
        Some(condition) => condition.check(rollout),
        None if is_over(rollout) => Ok(ControlFlow::Break(ending(rollout))),
        None => Ok(ControlFlow::Continue(())),
    }
}

/// Where and how a rollout is shown.
pub(crate) enum Display {
    /// In place.
    Screen(Screen),
    /// A line for each change.
    Lines(Lines),
    /// An object for each state.
    Json,
    /// Not at all.
    Nothing,
}

impl Display {
    /// The display that fits stdout.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written.
    pub(crate) fn for_stdout(format: LiveFormat) -> io::Result<Self> {
        Ok(match format {
            LiveFormat::Jsonl => Self::Json,
            LiveFormat::Table if console::can_redraw() => Self::Screen(Screen::open()?),
            LiveFormat::Table => Self::Lines(Lines::default()),
        })
    }

    /// Shows `rollout`, which was told `silent` ago.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written.
    pub(crate) fn show(
        &mut self,
        rollout: &Rollout,
        silent: Option<Duration>,
    ) -> io::Result<()> {
        let silent = silent.filter(|silent| *silent >= SILENCE_SHOWN);
        match self {
            Self::Screen(screen) => {
                screen.draw(&screens::live::frame(rollout, silent, Paint::for_stdout()))
            }
            Self::Lines(lines) => {
                if silent.is_some_and(|silent| silent.as_secs().is_multiple_of(10)) {
                    let seconds = silent.unwrap_or_default().as_secs();
                    console::tell(format_args!("no news for {seconds} s; still trying"));
                    return Ok(());
                }
                let news = lines.news(rollout, Instant::now());
                news.iter().try_for_each(console::data_line)
            }
            Self::Nothing => Ok(()),
            Self::Json if silent.is_some() => Ok(()),
            Self::Json => console::data_line(screens::json::status(rollout)),
        }
    }

    /// Gives the terminal back.
    pub(crate) fn close(&mut self) {
        if let Self::Screen(screen) = self {
            screen.close();
        }
    }
}
