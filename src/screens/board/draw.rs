//! Draw: the board as cells, from 80 columns by 24 rows on; smaller ones get five lines.
//!
//! # Invariants
//!
//! * The first row says how old the data is, the last but one what can be done.

use std::time::Duration;

use ratatui::buffer::Buffer;
use tidegate_core::time::Timestamp;
use tidegate_wire::v1::{Forecast, Rollout, RolloutState, Wave, WaveState};

use super::sheet::{Frame, Piece, Sheet, wide};
use super::{Asking, Board, Input, View, at, panels};
use crate::console::{Tone, safe, thousands};
use crate::screens::diagnosis::Diagnosis;
use crate::screens::status::state_word;
use crate::screens::{MinuteOf, brief, clock, percent};

/// The least terminal that is framed.
const COLUMNS_MIN: u16 = 80;
const ROWS_MIN: u16 = 24;
/// Rows around the panels: frame, summary, headings and keys.
const ROWS_AROUND: usize = 11;
/// Rows of events at least.
const EVENTS_MIN: usize = 3;
/// Rows of gate and nodes at least.
const GATE_MIN: usize = 5;
/// Rows of waves at least.
const WAVES_MIN: usize = 5;
/// Cells of the line that shows how the rate moved.
const STRIDES: usize = 12;
/// Data that is older than this is pointed at: the coordinator tells it more often.
const OLD: Duration = Duration::from_secs(10);

impl Board {
    /// Draws everything.
    pub(crate) fn draw(&self, cells: &mut Buffer) {
        let area = cells.area;
        if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
            self.draw_brief(cells);
            return;
        }
        let mut sheet = Sheet::new(cells, self.signs, self.frame(), self.paint);
        let Some(rollout) = self.rollout() else {
            sheet.top(&["tidegate watch".into()], &["no data yet".into()]);
            return;
        };
        sheet.top(&title(rollout), &[self.freshness()]);
        self.summary(&mut sheet, rollout);
        match self.view {
            View::Overview => self.overview(&mut sheet, rollout),
            View::Wave => self.whole(&mut sheet, "Wave", &panels::wave(self, rollout)),
            View::Gates => self.whole(&mut sheet, "Gates", &panels::gates(rollout)),
            View::Nodes => {
                let rows = panels::nodes(self, rollout, sheet.width());
                self.whole(&mut sheet, "Nodes", &rows);
            }
            View::Events => self.whole(&mut sheet, "Events", &self.all_events()),
            View::Quarantine => {
                self.whole(
                    &mut sheet,
                    "Set aside for a person",
                    &panels::quarantine(self),
                );
            }
            View::Help => self.whole(&mut sheet, "Help", &panels::help()),
        }
        sheet.middle(&[]);
        sheet.row(&self.keys());
        sheet.bottom(&[self.role()], &[safe(&self.viewer.name).into()]);
    }

    fn draw_brief(&self, cells: &mut Buffer) {
        let Some(rollout) = self.rollout() else { return };
        let lines = brief::lines(rollout, self.age);
        let lost = (!self.connected).then(|| "! RECONNECTING".to_owned());
        let keys: String = self.keys().iter().map(Piece::text).collect();
        let lines = lost.into_iter().chain(lines).chain([keys]);
        let area = cells.area;
        for (row, line) in (area.top()..area.bottom()).zip(lines) {
            let width = usize::from(area.width);
            cells.set_stringn(
                area.left(),
                row,
                line,
                width,
                ratatui::style::Style::default(),
            );
        }
    }

    fn frame(&self) -> Frame {
        match (self.connected, self.armed) {
            (false, _) => Frame::Lost,
            (true, Some(_)) => Frame::Armed,
            (true, None) => Frame::Calm,
        }
    }

    fn freshness(&self) -> Piece {
        let seconds = self.age.as_secs();
        if self.frozen {
            return Piece::new(Tone::Warn, format!("FROZEN, data {seconds} s old"));
        }
        if !self.connected {
            return Piece::strong(
                Tone::Bad,
                format!("! RECONNECTING, last data {seconds} s old"),
            );
        }
        let at = self.rollout().map(|rollout| clock(at!(rollout.at_time)));
        let at = at.unwrap_or_default();
        if self.age >= OLD {
            return Piece::new(Tone::Warn, format!("{at}, ! data {seconds} s old"));
        }
        Piece::from(format!("{at}, live, data {seconds} s old"))
    }

    fn summary(&self, sheet: &mut Sheet<'_>, rollout: &Rollout) {
        sheet.row(&self.progress(rollout, sheet.width()));
        sheet.row(&self.done(rollout, sheet.width()));
        let diagnosis = Diagnosis::of(rollout);
        sheet.row(&["status  ".into(), Piece::strong(diagnosis.tone, diagnosis.status)]);
        sheet.row(&["action  ".into(), diagnosis.action.into()]);
    }

    fn progress(&self, rollout: &Rollout, width: usize) -> Vec<Piece> {
        let sum = |field: fn(&Wave) -> u32| rollout.waves.iter().map(field).sum::<u32>();
        let open = sum(|wave| wave.open);
        let head = format!(
            "open    {} of {}  {}  ",
            thousands(open),
            thousands(rollout.planned),
            percent(open, rollout.planned)
        );
        let rate = self.rate().map_or_else(
            || "  rate not known yet".to_owned(),
            |rate| {
                format!(
                    "  {}/s {}",
                    thousands(rate),
                    self.signs.steps(&self.strides(STRIDES))
                )
            },
        );
        let room = width.saturating_sub(wide(&head) + wide(&rate));
        let bar = self.signs.bar(open, rollout.planned, room);
        vec![head.into(), Piece::new(Tone::Good, bar), rate.into()]
    }

    fn done(&self, rollout: &Rollout, width: usize) -> Vec<Piece> {
        let sum = |field: fn(&Wave) -> u32| rollout.waves.iter().map(field).sum::<u32>();
        let aside = sum(|wave| wave.quarantined);
        let lost = rollout.totals.map_or(0, |totals| totals.lost);
        let tail = format!(
            "  aside {}  failed {}  messages lost {}",
            thousands(aside),
            thousands(sum(|wave| wave.failed)),
            thousands(lost)
        );
        let room = width.saturating_sub(wide(&tail) + 8);
        let bad = if aside > 0 || lost > 0 { Tone::Warn } else { Tone::Plain };
        let when = self.when(rollout, room);
        vec![
            "done    ".into(),
            super::sheet::fit(&when, room).into(),
            Piece::new(bad, tail),
        ]
    }

    /// When all of it will be done, with its span where there is room.
    fn when(&self, rollout: &Rollout, room: usize) -> String {
        match rollout.state() {
            RolloutState::Finished => return "finished".to_owned(),
            RolloutState::Aborted => return "aborted".to_owned(),
            RolloutState::Unspecified
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Halted => {}
        }
        let Some(last) = last(rollout) else {
            return "cannot be told yet".to_owned();
        };
        let (early, middle, late) =
            (at!(last.p10_time), at!(last.p50_time), at!(last.p90_time));
        let minute = |at| minute(at, at!(rollout.at_time));
        let text = format!("{} UTC  p10 {} ", minute(middle), minute(early));
        let end = format!(" {} p90", minute(late));
        let cells = room.saturating_sub(wide(&text) + wide(&end));
        let Some(inner) = cells.checked_sub(3) else {
            let [early, middle, late] = [early, middle, late].map(minute);
            return format!("{middle} UTC, 8 in 10 {early}-{late}");
        };
        let [from, line, point, to] = self.signs.span();
        let share = middle.since(early).millis() * u64::try_from(inner).unwrap_or(0);
        let before = share / late.since(early).millis().max(1);
        let before = usize::try_from(before).unwrap_or(0).min(inner);
        let across = |count: usize| line.to_string().repeat(count);
        format!(
            "{text}{from}{}{point}{}{to}{end}",
            across(before),
            across(inner - before)
        )
    }

    fn overview(&self, sheet: &mut Sheet<'_>, rollout: &Rollout) {
        // The summary and the frame's top are drawn already.
        let rows = (sheet.rows_left() + 5).saturating_sub(ROWS_AROUND);
        let spare = rows.saturating_sub(WAVES_MIN + GATE_MIN + EVENTS_MIN);
        let waves = (WAVES_MIN + spare / 2).min(rollout.waves.len().max(WAVES_MIN));
        let events = EVENTS_MIN + spare / 4;
        let gate = rows.saturating_sub(waves + events);
        let width = sheet.width();
        sheet.middle(&[self.heading("Waves")]);
        fill(sheet, &panels::waves(self, rollout, width, waves), waves);
        let column = u16::try_from((width + 4) * 4 / 7 + 2).unwrap_or(u16::MAX);
        let shown = panels::judged(self, rollout);
        let title = panels::gate_title(rollout, shown);
        let prefix = panels::prefix(rollout);
        let nodes = if prefix.is_empty() {
            "Nodes".to_owned()
        } else {
            format!("Nodes {prefix}*")
        };
        sheet.split(column, true, &[title.into()], &[nodes.into()]);
        let left = panels::gate(shown, gate);
        let right =
            panels::grid(self, rollout, width.saturating_sub(usize::from(column)), gate);
        for row in 0..gate {
            let of = |rows: &[Vec<Piece>]| rows.get(row).cloned().unwrap_or_default();
            sheet.row_of_two(column, &of(&left), &of(&right));
        }
        sheet.split(column, false, &["Events".into()], &[]);
        let all = self.all_events();
        let newest = all.len().saturating_sub(events);
        fill(sheet, all.get(newest..).unwrap_or_default(), events);
    }

    /// One panel over the whole height, scrolled.
    fn whole(&self, sheet: &mut Sheet<'_>, title: &str, rows: &[Vec<Piece>]) {
        sheet.middle(&[self.heading(title)]);
        let room = sheet.rows_left().saturating_sub(3);
        let most = rows.len().saturating_sub(room);
        let from = match self.view {
            // The newest event is last, and shown first.
            View::Events => most.saturating_sub(self.scroll),
            View::Overview
            | View::Wave
            | View::Gates
            | View::Nodes
            | View::Quarantine
            | View::Help => self.scroll.min(most),
        };
        fill(sheet, rows.get(from..).unwrap_or_default(), room);
    }

    fn heading(&self, title: &str) -> Piece {
        if self.filter.is_empty() {
            return title.into();
        }
        format!("{title}, only with `{}` (Esc shows all)", safe(&self.filter)).into()
    }

    /// The events that the filter lets through.
    fn all_events(&self) -> Vec<Vec<Piece>> {
        let events = self.events.iter().map(panels::event);
        events.filter(|row| self.lets_through(row)).collect()
    }

    /// Whether a row has what is looked for.
    pub(super) fn lets_through(&self, row: &[Piece]) -> bool {
        let text: String = row.iter().map(Piece::text).collect();
        text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// What is asked, or else said, or else can be pressed.
    fn keys(&self) -> Vec<Piece> {
        if let Some(Input { what, text }) = &self.input {
            let wave = self.wave().map_or("", |wave| wave.name.as_str());
            let question = match what {
                Asking::Pause => "PAUSE, why? (Enter pauses, Esc does not): ".to_owned(),
                Asking::Resume => {
                    "RESUME, why? (Enter resumes, Esc does not): ".to_owned()
                }
                Asking::Reclose => {
                    format!("RE-CLOSE {}, why? (Esc does not): ", safe(wave))
                }
                Asking::Filter => "show only with: ".to_owned(),
                Asking::Word => ":".to_owned(),
            };
            return vec![
                Piece::strong(Tone::Warn, question),
                format!("{}_", safe(text)).into(),
            ];
        }
        if let Some(told) = &self.told {
            return vec![Piece::strong(Tone::Warn, safe(told))];
        }
        let keys = match self.view {
            View::Overview => {
                "  Enter wave  g gates  n nodes  q aside  e events  ? help  x exit"
            }
            View::Wave | View::Gates => "  Up Down other wave  Esc back  ? help  x exit",
            View::Nodes | View::Events | View::Quarantine | View::Help => {
                "  Up Down scroll  / find  Esc back  ? help  x exit"
            }
        };
        let mut pieces = vec![Piece::strong(Tone::Plain, "p PAUSE")];
        if self.armed.is_some() {
            pieces.push(Piece::strong(Tone::Bad, "  r RESUME  c RE-CLOSE"));
        }
        pieces.push(keys.into());
        pieces
    }

    fn role(&self) -> Piece {
        match (self.viewer.may_act, self.armed) {
            (false, _) => {
                "read-only; p always works (--allow-actions allows more)".into()
            }
            (true, None) => {
                "not armed: a arms r resume, c re-close; p always works".into()
            }
            (true, Some(left)) => Piece::strong(
                Tone::Bad,
                format!("ARMED for {} s more; a disarms", left.as_secs()),
            ),
        }
    }
}

fn title(rollout: &Rollout) -> Vec<Piece> {
    let (word, tone) = state_word(rollout.state());
    vec![safe(&rollout.name).into(), " ".into(), Piece::strong(tone, word)]
}

/// Of the waves that are not done, the forecast of the last; nothing if one has none.
fn last(rollout: &Rollout) -> Option<&Forecast> {
    let climbs = |wave: &&Wave| wave.state() != WaveState::Passed;
    let climbing: Option<Vec<&Forecast>> =
        rollout.waves.iter().filter(climbs).map(|wave| wave.finish.as_ref()).collect();
    climbing?.into_iter().max_by_key(|it| at!(it.p50_time))
}

/// An instant's minute, with the day of the month where that is not today's: `26. 18:35`.
pub(super) fn minute(at: Timestamp, now: Timestamp) -> String {
    let whole = MinuteOf(at).to_string();
    let time = whole.get(11..16).unwrap_or_default();
    if whole.get(..10) == MinuteOf(now).to_string().get(..10) {
        return time.to_owned();
    }
    format!("{}. {time}", whole.get(8..10).unwrap_or_default())
}

/// Draws `rows` and blank ones up to `count`.
fn fill(sheet: &mut Sheet<'_>, rows: &[Vec<Piece>], count: usize) {
    for row in 0..count {
        sheet.row(rows.get(row).map_or(&[][..], Vec::as_slice));
    }
}
