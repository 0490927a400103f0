//! Terminal: the screen of `watch`, its keys, and what they ask of the coordinator.
//!
//! # Invariants
//!
//! * The terminal is given back on every way out.
//! * A coordinator that is away is waited for without end; what was seen last stays on the screen.
//! * It is drawn at most five times a second, and at once after a key.

use std::io::{self, Stdout};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event as Input, KeyEvent, KeyEventKind};
use ratatui::crossterm::{cursor, execute, terminal};
use tidegate_wire::recording::{Frame, Shown};
use tidegate_wire::v1::{self, scope};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval};

use super::recorder::{Recorder, pause};
use super::{Goal, decide};
use crate::cli::Watch;
use crate::client::{Client, Seen, Watcher};
use crate::console::{self, Paint};
use crate::exit::{Exit, Failure, Outcome};
use crate::request::fresh_id;
use crate::screens;
use crate::screens::board::{Board, Signs, Viewer, Wish};

/// The least time between two drawings, but for keys.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// News and keys that wait to be seen: more than a person types between two drawings.
const WAITING_MAX: usize = 32;
/// How often the story is asked for at least.
const STORY_EVERY: Duration = Duration::from_secs(5);
/// What was set aside is shown up to here; the whole list is a command of its own.
const FINDINGS_SHOWN: usize = 1_000;

/// Follows a rollout on the terminal until it is over, `goal` is reached, or it is left.
///
/// # Errors
///
/// When the terminal cannot be drawn on, or the coordinator refuses.
pub(super) async fn run(
    client: Client,
    recorder: Recorder,
    args: &Watch,
    goal: Goal<'_>,
) -> Outcome {
    let (to, news) = mpsc::channel(WAITING_MAX);
    let source = Source::Coordinator(Box::new(client));
    show(Desk::new(source, recorder, to), news, args, goal).await
}

/// Shows a recording on the terminal until it is left.
///
/// # Errors
///
/// When the terminal cannot be drawn on.
pub(super) async fn replay(frames: Vec<Frame>, args: &Watch) -> Outcome {
    let (to, news) = mpsc::channel(WAITING_MAX);
    let goal = Goal { until: None, within: None };
    let source = Source::Recording(frames, args.speed);
    show(Desk::new(source, Recorder::begin(None)?, to), news, args, goal).await
}

async fn show(
    desk: Desk,
    news: mpsc::Receiver<News>,
    args: &Watch,
    goal: Goal<'_>,
) -> Outcome {
    let viewer = Viewer { name: args.actor.name(), may_act: args.allow_actions };
    let signs = if args.ascii { Signs::Ascii } else { Signs::for_locale() };
    let mut board = Board::new(viewer, signs, Paint::for_stdout());
    let mut page = Page::open()?;
    let watched = follow((desk, news), goal, &mut board, &mut page);
    let outcome = LocalSet::new().run_until(watched).await;
    page.close();
    if let Some(rollout) = board.rollout() {
        console::data(screens::status::status(rollout, Paint::for_stdout()))?;
    }
    outcome
}

/// Where news come from.
enum Source {
    /// From a coordinator.
    Coordinator(Box<Client>),
    /// From a recording, at a speed.
    Recording(Vec<Frame>, f64),
}

/// What comes in.
enum News {
    Key(KeyEvent),
    Seen(Seen, bool),
    Events(v1::ListEventsResponse),
    Findings(Vec<v1::MailboxFinding>),
    Told(String),
    Failed(Failure),
}

async fn follow(
    (mut desk, mut news): (Desk, mpsc::Receiver<News>),
    goal: Goal<'_>,
    board: &mut Board,
    page: &mut Page,
) -> Outcome {
    read_keys(desk.to.clone());
    desk.begin();
    let mut ended = signal(SignalKind::terminate())?;
    let mut ticks = interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    loop {
        let flow = tokio::select! {
            // A message that is taken is handled before the next wait.
            Some(next) = news.recv() => {
                let is_key = matches!(next, News::Key(_));
                let flow = desk.take(next, board, goal)?;
                if is_key {
                    page.draw(board)?;
                }
                flow
            }
            // Nothing of it is kept.
            _ = ticks.tick() => {
                desk.tick(board);
                page.draw(board)?;
                if goal.within.is_some_and(|limit| begun.elapsed() >= limit) {
                    return Err(goal.timed_out());
                }
                ControlFlow::Continue(())
            }
            // The signal stays pending until it is taken.
            _ = ended.recv() => ControlFlow::Break(Exit::Interrupted),
        };
        if let ControlFlow::Break(exit) = flow {
            return Ok(exit);
        }
    }
}

/// What is remembered between news.
struct Desk {
    // Given.
    /// Nobody, while a recording is shown.
    client: Option<Client>,
    recorder: Recorder,
    to: mpsc::Sender<News>,
    /// A recording that is not shown yet, and its speed.
    frames: Option<(Vec<Frame>, f64)>,
    // Remembered.
    heard: Instant,
    ticked: Instant,
    connected: bool,
    story: Story,
}

impl Desk {
    fn new(source: Source, recorder: Recorder, to: mpsc::Sender<News>) -> Self {
        let (now, story) = (Instant::now(), Story::default());
        let (client, frames) = match source {
            Source::Coordinator(client) => (Some(*client), None),
            Source::Recording(frames, speed) => (None, Some((frames, speed))),
        };
        Self {
            client,
            recorder,
            to,
            frames,
            heard: now,
            ticked: now,
            connected: true,
            story,
        }
    }

    /// Lets news come.
    fn begin(&mut self) {
        let to = self.to.clone();
        if let Some(client) = &self.client {
            spawn_local(see(Watcher::new(client.clone()).without_end(), to));
        } else if let Some((frames, speed)) = self.frames.take() {
            spawn_local(play(frames, speed, to));
        }
    }

    fn tick(&mut self, board: &mut Board) {
        board.passes(self.heard.elapsed(), self.connected, self.ticked.elapsed());
        self.ticked = Instant::now();
    }

    fn take(
        &mut self,
        news: News,
        board: &mut Board,
        goal: Goal<'_>,
    ) -> Result<ControlFlow<Exit>, Failure> {
        match news {
            News::Key(key) => {
                if let Some(wish) = board.key(key) {
                    return Ok(match &self.client {
                        Some(client) => grant(client, &self.to, board, wish),
                        None => only_looked_at(board, &wish),
                    });
                }
            }
            News::Seen(Seen::Rollout(rollout), _) => {
                (self.heard, self.connected) = (Instant::now(), true);
                self.recorder.rollout(&rollout)?;
                if self.story.is_due(&rollout) {
                    self.read_on();
                }
                // The end of what is recorded is nobody's end.
                let flow = match &self.client {
                    Some(_) => decide(&rollout, goal.until)?,
                    None => ControlFlow::Continue(()),
                };
                board.take(rollout);
                return Ok(flow);
            }
            News::Seen(Seen::Silence(_), connected) => self.connected = connected,
            News::Seen(Seen::Over, _) => return Ok(ControlFlow::Break(Exit::Done)),
            News::Events(page) => {
                self.recorder.events(&page)?;
                if self.story.take(page) {
                    self.read_on();
                }
                board.take_events(&self.story.events);
            }
            News::Findings(findings) => board.take_findings(findings),
            News::Told(text) => board.tell(text),
            News::Failed(failure) => return Err(failure),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn read_on(&self) {
        let token = self.story.token.clone();
        if let Some(client) = self.client.clone() {
            spawn_local(read_events(client, token, self.to.clone()));
        }
    }
}

/// Does what a key has asked for while a recording is shown: nothing, but to leave.
fn only_looked_at(board: &mut Board, wish: &Wish) -> ControlFlow<Exit> {
    match wish {
        Wish::Leave => ControlFlow::Break(Exit::Done),
        Wish::Interrupt => ControlFlow::Break(Exit::Interrupted),
        Wish::Findings | Wish::Pause(_) | Wish::Resume(_) | Wish::Reclose { .. } => {
            board.tell("this is a recording: nobody is asked for anything".to_owned());
            ControlFlow::Continue(())
        }
    }
}

/// Passes on what was recorded.
async fn play(frames: Vec<Frame>, speed: f64, to: mpsc::Sender<News>) {
    let mut before = Duration::ZERO;
    for Frame { after, shown } in frames {
        tokio::time::sleep(pause(before, after, speed)).await;
        before = after;
        let news = match shown {
            Shown::Rollout(rollout) => News::Seen(Seen::Rollout(rollout), true),
            Shown::Events(page) => News::Events(page),
        };
        if to.send(news).await.is_err() {
            return;
        }
    }
    let end = "the recording ends here: x leaves".to_owned();
    let _left = to.send(News::Told(end)).await;
}

/// Does what a key has asked for; what comes of it is told as news.
fn grant(
    client: &Client,
    to: &mpsc::Sender<News>,
    board: &mut Board,
    wish: Wish,
) -> ControlFlow<Exit> {
    let (client, to) = (client.clone(), to.clone());
    let etag = board.rollout().map_or_else(String::new, |rollout| rollout.etag.clone());
    let by = board.viewer().to_owned();
    match wish {
        Wish::Leave => return ControlFlow::Break(Exit::Done),
        Wish::Interrupt => return ControlFlow::Break(Exit::Interrupted),
        Wish::Findings => {
            spawn_local(read_findings(client, to));
        }
        Wish::Pause(reason) => {
            board.tell("pausing …".to_owned());
            let without = Vec::new();
            let request =
                v1::PauseRequest { by, reason, request_id: fresh_id(), without };
            spawn_local(async move {
                let done = client.clone().pause(request).await.map(|_| ());
                tell(
                    &to,
                    "pause requested: see the status for when every node obeys",
                    done,
                )
                .await;
            });
        }
        Wish::Resume(reason) => {
            let request = v1::ResumeRequest {
                by,
                reason,
                scope: None,
                request_id: fresh_id(),
                etag,
                without: Vec::new(),
            };
            spawn_local(async move {
                let done = client.clone().resume(request).await.map(|_| ());
                tell(&to, "resumed", done).await;
            });
        }
        Wish::Reclose { wave, reason } => {
            let scope = Some(v1::Scope { part: Some(scope::Part::Wave(wave)) });
            let request =
                v1::RecloseRequest { by, reason, scope, request_id: fresh_id(), etag };
            spawn_local(async move {
                let done = client.clone().reclose(request).await.map(|_| ());
                tell(&to, "re-closing", done).await;
            });
        }
    }
    ControlFlow::Continue(())
}

/// Says what became of a verb. A screen that is left needs to know nothing more.
async fn tell(to: &mpsc::Sender<News>, done: &str, outcome: Result<(), Failure>) {
    let text = outcome
        .map_or_else(|failure| format!("refused: {failure}"), |()| done.to_owned());
    let _left = to.send(News::Told(text)).await;
}

/// Passes on what is seen of the rollout.
async fn see(mut watcher: Watcher, to: mpsc::Sender<News>) {
    loop {
        let news = match watcher.next().await {
            Ok(seen) => News::Seen(seen, watcher.is_connected()),
            Err(failure) => News::Failed(failure),
        };
        let is_last = matches!(news, News::Failed(_) | News::Seen(Seen::Over, _));
        if to.send(news).await.is_err() || is_last {
            return;
        }
    }
}

/// Fetches a page of the story. Without an answer what was known stays on the screen.
async fn read_events(mut client: Client, token: String, to: mpsc::Sender<News>) {
    if let Ok(page) = client.events_page(token).await {
        let _left = to.send(News::Events(page)).await;
    }
}

/// How far the story has been read: its last page is read again when something has changed.
#[derive(Default)]
struct Story {
    events: Vec<v1::Event>,
    /// Events before the page that `token` stands for.
    before: usize,
    token: String,
    known: Option<(String, u64, i32)>,
    read: Option<Instant>,
}

impl Story {
    /// Whether there may be more than was read, now that this is the rollout.
    fn is_due(&mut self, rollout: &v1::Rollout) -> bool {
        let known = (rollout.etag.clone(), rollout.orders_version, rollout.state);
        let same = self.known.replace(known.clone()) == Some(known);
        let due = !same || self.read.is_none_or(|read| read.elapsed() >= STORY_EVERY);
        if due {
            self.read = Some(Instant::now());
        }
        due
    }

    /// Takes a page; whether there is another.
    fn take(&mut self, page: v1::ListEventsResponse) -> bool {
        self.events.truncate(self.before);
        self.events.extend(page.events);
        if page.next_page_token.is_empty() {
            return false;
        }
        self.before = self.events.len();
        self.token = page.next_page_token;
        true
    }
}

async fn read_findings(mut client: Client, to: mpsc::Sender<News>) {
    let mut findings = Vec::new();
    let mut take = |found: v1::MailboxFinding| -> Result<(), Failure> {
        if screens::single::is_set_aside(&found) && findings.len() < FINDINGS_SHOWN {
            findings.push(found);
        }
        Ok(())
    };
    let news = match client.findings(v1::ListFindingsRequest::default(), &mut take).await
    {
        Ok(()) => News::Findings(findings),
        Err(failure) => News::Told(format!("not known: {failure}")),
    };
    let _left = to.send(news).await;
}

/// Reads keys for as long as somebody wants them. The thread ends with the program: a read of a
/// terminal cannot be called off.
fn read_keys(to: mpsc::Sender<News>) {
    std::thread::spawn(move || {
        // Without keys the screen is shown all the same.
        while let Ok(input) = event::read() {
            let Input::Key(key) = input else { continue };
            let pressed = key.kind != KeyEventKind::Release;
            if pressed && to.blocking_send(News::Key(key)).is_err() {
                return;
            }
        }
    });
}

/// The terminal's other page, so that the scroll-back stays as it was.
struct Page {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    open: bool,
}

impl Page {
    fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let mut page = match terminal {
            Ok(terminal) => Self { terminal, open: true },
            Err(error) => {
                terminal::disable_raw_mode()?;
                return Err(error);
            }
        };
        execute!(
            page.terminal.backend_mut(),
            terminal::EnterAlternateScreen,
            cursor::Hide
        )?;
        Ok(page)
    }

    fn draw(&mut self, board: &Board) -> io::Result<()> {
        self.terminal.draw(|frame| board.draw(frame.buffer_mut()))?;
        Ok(())
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            // A terminal that is gone needs nothing back.
            let out = self.terminal.backend_mut();
            let _ = execute!(out, cursor::Show, terminal::LeaveAlternateScreen);
            let _ = terminal::disable_raw_mode();
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.close();
    }
}
