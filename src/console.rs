//! Console: the only place that writes to the terminal.
//!
//! # Invariants
//!
//! * Data goes to stdout, everything else to stderr.
//! * Colour and redrawing happen only on a terminal that can, and never where `NO_COLOR` or
//!   `TERM=dumb` asks for plain text; no meaning is in colour alone.

use std::env;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};

use crate::progress;

/// Lines of a screen when the terminal does not say.
const ROWS_UNKNOWN: u16 = 24;
/// Columns of a screen when the terminal does not say.
const COLUMNS_UNKNOWN: u16 = 80;

/// Writes data to stdout.
///
/// # Errors
///
/// When stdout cannot be written, a broken pipe among others.
pub(crate) fn data(text: impl fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// Writes a line of data to stdout.
///
/// # Errors
///
/// As for [`data`].
pub(crate) fn data_line(text: impl fmt::Display) -> io::Result<()> {
    data(format_args!("{text}\n"))
}

/// Tells a person something, on stderr. That nobody reads it is no error.
pub(crate) fn tell(text: impl fmt::Display) {
    progress::aside(|| {
        let _ = writeln!(io::stderr().lock(), "{text}");
    });
}

/// Asks a question on stderr and reads a line from the terminal.
///
/// # Errors
///
/// When stdin cannot be read.
pub(crate) fn ask(question: impl fmt::Display) -> io::Result<String> {
    let mut out = io::stderr().lock();
    write!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Whether a person can answer questions.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether a screen can be redrawn in place on stdout.
pub(crate) fn can_redraw() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// How a word is emphasised, beside what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// Well.
    Good,
    /// Look here.
    Warn,
    /// Wrong.
    Bad,
}

/// Whether and how text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// No colour.
    pub(crate) const PLAIN: Self = Self { on: false };

    /// Colour if stdout is a terminal that wants it, or `CLICOLOR_FORCE` does; `NO_COLOR` counts
    /// before both.
    pub(crate) fn for_stdout() -> Self {
        let is_set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let is_forced = is_set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        Self::of(is_set("NO_COLOR").is_some(), is_forced, can_redraw())
    }

    fn of(is_refused: bool, is_forced: bool, can_redraw: bool) -> Self {
        Self { on: !is_refused && (is_forced || can_redraw) }
    }

    /// `text` in this tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match (self.on, tone) {
            (false, _) | (true, Tone::Plain) => return text.to_owned(),
            (true, Tone::Good) => 32,
            (true, Tone::Warn) => 33,
            (true, Tone::Bad) => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A screen that is drawn again in the same place.
pub(crate) struct Screen {
    open: bool,
}

impl Screen {
    /// A screen on the terminal's alternate page, so that the scroll-back stays as it was.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written.
    pub(crate) fn open() -> io::Result<Self> {
        data("\x1b[?1049h\x1b[?25l")?;
        Ok(Self { open: true })
    }

    /// Shows `text` instead of what was there, cut to the terminal's size.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written.
    pub(crate) fn draw(&self, text: &str) -> io::Result<()> {
        debug_assert!(self.open);
        let (rows, columns) = size();
        let mut frame = String::from("\x1b[H");
        for line in text.lines().take(usize::from(rows).saturating_sub(1)) {
            frame.push_str(cut(line, usize::from(columns)));
            frame.push_str("\x1b[0m\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        data(frame)
    }

    /// Gives the terminal back.
    pub(crate) fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            // A terminal that is gone needs nothing back.
            let _ = data("\x1b[?25h\x1b[?1049l");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// The terminal's rows and columns.
fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        Ok(_) | Err(_) => (ROWS_UNKNOWN, COLUMNS_UNKNOWN),
    }
}

/// The part of `line` that is at most `columns` wide, not counting colour.
fn cut(line: &str, columns: usize) -> &str {
    let mut width = 0;
    let mut in_escape = false;
    for (at, letter) in line.char_indices() {
        match (in_escape, letter) {
            (false, '\x1b') => in_escape = true,
            (true, 'm') => in_escape = false,
            (true, _) => {}
            (false, _) if width == columns => return line.get(..at).unwrap_or(line),
            (false, _) => width += 1,
        }
    }
    line
}

/// A number as people read it: `1,234,567`.
pub(crate) fn thousands(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Removes what could move a terminal's cursor or colour from text made by others.
pub(crate) fn safe(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Paint, Tone, cut, safe, thousands};

    #[test]
    fn numbers_are_grouped_by_three() {
        let shown = [0_u64, 999, 1_000, 12_345, 8_996_904].map(thousands);

        assert_eq!(shown, ["0", "999", "1,000", "12,345", "8,996,904"]);
    }

    #[test]
    fn whoever_refuses_colour_gets_none_and_who_forces_it_gets_it_in_a_pipe() {
        let on = |refused, forced, terminal| Paint::of(refused, forced, terminal).on;

        assert!(on(false, false, true) && on(false, true, false));
        assert!(!on(false, false, false) && !on(true, true, true));
    }

    #[test]
    fn a_line_is_cut_by_what_is_seen() {
        let painted = Paint { on: true }.paint(Tone::Bad, "HALTED");

        assert_eq!(
            cut(&painted, 6),
            painted.trim_end_matches("\x1b[0m").to_owned() + "\x1b[0m"
        );
        assert_eq!(cut("abcdef", 3), "abc");
    }

    #[test]
    fn a_hostile_name_cannot_steer_the_terminal() {
        assert_eq!(safe("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
