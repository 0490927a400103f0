//! Sheet: a framed page of rows, drawn into the terminal's cells.
//!
//! # Invariants
//!
//! * Nothing is drawn outside the frame, whatever is written.
//! * With plain signs every cell is ASCII.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::console::{Paint, Tone};

/// With which signs a screen is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signs {
    /// Lines and blocks.
    Drawn,
    /// ASCII alone.
    Ascii,
}

impl Signs {
    /// Those that the terminal's locale can show.
    pub(crate) fn for_locale() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default().to_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") {
            Self::Drawn
        } else {
            Self::Ascii
        }
    }

    /// A bar of `width` cells that is full to `part` of `whole`.
    pub(super) fn bar(self, part: u32, whole: u32, width: usize) -> String {
        let (full, empty) = match self {
            Self::Drawn => ('█', '·'),
            Self::Ascii => ('#', '.'),
        };
        let cells = u64::try_from(width).unwrap_or(0);
        let filled = u64::from(part) * cells / u64::from(whole.max(1));
        let filled = usize::try_from(filled).unwrap_or(width).min(width);
        let bar = std::iter::repeat_n(full, filled);
        bar.chain(std::iter::repeat_n(empty, width - filled)).collect()
    }

    /// One cell as high as `part` of `whole`.
    pub(super) fn step(self, part: u32, whole: u32) -> char {
        const DRAWN: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const ASCII: [char; 8] = ['_', '1', '2', '3', '5', '6', '7', '8'];
        let steps = match self {
            Self::Drawn => DRAWN,
            Self::Ascii => ASCII,
        };
        let step = u64::from(part) * 7 / u64::from(whole.max(1));
        let step = usize::try_from(step).unwrap_or(0).min(7);
        steps.get(step).copied().unwrap_or('?')
    }

    /// What stands between a name and its step.
    pub(super) const fn between(self) -> &'static str {
        match self {
            Self::Drawn => "",
            Self::Ascii => ":",
        }
    }

    /// A line of steps, the highest of them full.
    pub(super) fn steps(self, values: &[u32]) -> String {
        let most = values.iter().copied().max().unwrap_or(0);
        values.iter().map(|value| self.step(*value, most)).collect()
    }

    /// What stands before the selected row.
    pub(super) const fn pointer(self) -> char {
        match self {
            Self::Drawn => '▸',
            Self::Ascii => '*',
        }
    }

    /// The ends, the line and the middle of a span of time.
    pub(super) const fn span(self) -> [char; 4] {
        match self {
            Self::Drawn => ['├', '─', '●', '┤'],
            Self::Ascii => ['|', '-', 'o', '|'],
        }
    }
}

/// How the frame looks: what it means is said in words beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// As it is.
    Calm,
    /// Actions are armed.
    Armed,
    /// The coordinator is away.
    Lost,
}

/// The lines of a frame.
#[derive(Clone, Copy)]
struct Edges {
    across: &'static str,
    down: &'static str,
    top: [&'static str; 2],
    middle: [&'static str; 2],
    bottom: [&'static str; 2],
    meet: [&'static str; 2],
}

const DRAWN: Edges = Edges {
    across: "─",
    down: "│",
    top: ["┌", "┐"],
    middle: ["├", "┤"],
    bottom: ["└", "┘"],
    meet: ["┬", "┴"],
};
const DRAWN_TWICE: Edges = Edges {
    across: "═",
    down: "║",
    top: ["╔", "╗"],
    middle: ["╠", "╣"],
    bottom: ["╚", "╝"],
    meet: ["╦", "╩"],
};
const DRAWN_LOST: Edges = Edges { down: "!", ..DRAWN };
const ASCII: Edges = Edges {
    across: "-",
    down: "|",
    top: ["+", "+"],
    middle: ["+", "+"],
    bottom: ["+", "+"],
    meet: ["+", "+"],
};
const ASCII_TWICE: Edges = Edges { across: "=", down: "#", ..ASCII };
const ASCII_LOST: Edges = Edges { down: "!", ..ASCII };

/// A page of the terminal, row by row from the top.
pub(super) struct Sheet<'a> {
    cells: &'a mut Buffer,
    paint: Paint,
    edges: Edges,
    signs: Signs,
    row: u16,
}

impl<'a> Sheet<'a> {
    /// The page that `cells` are.
    pub(super) fn new(
        cells: &'a mut Buffer,
        signs: Signs,
        frame: Frame,
        paint: Paint,
    ) -> Self {
        let edges = match (signs, frame) {
            (Signs::Drawn, Frame::Calm) => DRAWN,
            (Signs::Drawn, Frame::Armed) => DRAWN_TWICE,
            (Signs::Drawn, Frame::Lost) => DRAWN_LOST,
            (Signs::Ascii, Frame::Calm) => ASCII,
            (Signs::Ascii, Frame::Armed) => ASCII_TWICE,
            (Signs::Ascii, Frame::Lost) => ASCII_LOST,
        };
        let row = cells.area.top();
        Self { cells, paint, edges, signs, row }
    }

    /// How many columns there are within the frame and its margins.
    pub(super) fn width(&self) -> usize {
        usize::from(self.cells.area.width.saturating_sub(4))
    }

    /// How many rows are left.
    pub(super) fn rows_left(&self) -> usize {
        usize::from(self.cells.area.bottom().saturating_sub(self.row))
    }

    /// The frame's top, with what stands left and right in it.
    pub(super) fn top(&mut self, left: &[Piece], right: &[Piece]) {
        self.rule(self.edges.top, left, right);
    }

    /// A line across the frame.
    pub(super) fn middle(&mut self, left: &[Piece]) {
        self.rule(self.edges.middle, left, &[]);
    }

    /// The frame's bottom.
    pub(super) fn bottom(&mut self, left: &[Piece], right: &[Piece]) {
        self.rule(self.edges.bottom, left, right);
    }

    /// A line across the frame from which, or at which, a column begins or ends.
    pub(super) fn split(
        &mut self,
        column: u16,
        begins: bool,
        left: &[Piece],
        right: &[Piece],
    ) {
        let row = self.row;
        self.rule(self.edges.middle, left, &[]);
        let meet = if begins { self.edges.meet[0] } else { self.edges.meet[1] };
        let x = self.cells.area.left() + column;
        self.cells.set_string(x, row, meet, Style::default());
        if !right.is_empty() {
            self.write(x + 1, row, &spaced(right), self.cells.area.right() - 1);
        }
    }

    /// A row of text.
    pub(super) fn row(&mut self, pieces: &[Piece]) {
        self.sides();
        let (left, right) = (self.cells.area.left() + 2, self.cells.area.right() - 1);
        self.write(left, self.row, pieces, right);
        self.row += 1;
    }

    /// A row in two columns, the second beginning at `column`.
    pub(super) fn row_of_two(&mut self, column: u16, left: &[Piece], right: &[Piece]) {
        self.sides();
        let x = self.cells.area.left() + column;
        self.write(self.cells.area.left() + 2, self.row, left, x);
        self.cells.set_string(x, self.row, self.edges.down, Style::default());
        self.write(x + 2, self.row, right, self.cells.area.right() - 1);
        self.row += 1;
    }

    fn sides(&mut self) {
        let area = self.cells.area;
        self.cells.set_string(area.left(), self.row, self.edges.down, Style::default());
        self.cells.set_string(
            area.right() - 1,
            self.row,
            self.edges.down,
            Style::default(),
        );
    }

    fn rule(&mut self, ends: [&str; 2], left: &[Piece], right: &[Piece]) {
        let area = self.cells.area;
        let line = self.edges.across.repeat(usize::from(area.width.saturating_sub(2)));
        let line = format!("{}{line}{}", ends[0], ends[1]);
        self.cells.set_string(area.left(), self.row, line, Style::default());
        let width: usize = right.iter().map(|piece| wide(&piece.text)).sum();
        let width = u16::try_from(width + 2).unwrap_or(area.width);
        let from = area.right().saturating_sub(width + 2).max(area.left() + 1);
        if !left.is_empty() {
            let end = if right.is_empty() { area.right() - 1 } else { from };
            self.write(area.left() + 1, self.row, &spaced(left), end);
        }
        if !right.is_empty() {
            self.write(from, self.row, &spaced(right), area.right() - 1);
        }
        self.row += 1;
    }

    /// Writes `pieces` from `x` to before `end`.
    fn write(&mut self, x: u16, row: u16, pieces: &[Piece], end: u16) {
        let spans = pieces.iter().map(|piece| piece.span(self.paint));
        let spans = spans.map(|span| match self.signs {
            Signs::Drawn => span,
            Signs::Ascii => Span::styled(ascii(&span.content), span.style),
        });
        let line: Line<'_> = spans.collect();
        self.cells.set_line(x, row, &line, end.saturating_sub(x));
    }
}

/// Some text and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    text: String,
    tone: Tone,
    strong: bool,
}

impl Piece {
    /// This text in this tone.
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone, strong: false }
    }

    /// The same, bold.
    pub(super) fn strong(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone, strong: true }
    }

    /// What it says.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn span(&self, paint: Paint) -> Span<'_> {
        let colour = match (paint == Paint::PLAIN, self.tone) {
            (true, _) | (false, Tone::Plain) => None,
            (false, Tone::Good) => Some(Color::Green),
            (false, Tone::Warn) => Some(Color::Yellow),
            (false, Tone::Bad) => Some(Color::Red),
        };
        let mut style = colour.map_or_else(Style::default, |it| Style::default().fg(it));
        if self.strong {
            style = style.add_modifier(Modifier::BOLD);
        }
        Span::styled(self.text.as_str(), style)
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl From<&str> for Piece {
    fn from(text: &str) -> Self {
        Self::new(Tone::Plain, text)
    }
}

fn spaced(pieces: &[Piece]) -> Vec<Piece> {
    let gap = || Piece::from(" ");
    std::iter::once(gap())
        .chain(pieces.iter().cloned())
        .chain(std::iter::once(gap()))
        .collect()
}

/// `text` in ASCII.
fn ascii(text: &str) -> String {
    let plain = text.replace('…', "...");
    plain.chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect()
}

/// How many cells `text` takes.
pub(super) fn wide(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in exactly `width` cells, cut with `~` where it is longer.
pub(super) fn fit(text: &str, width: usize) -> String {
    let mut out = String::new();
    let is_cut = wide(text) > width;
    let room = if is_cut { width.saturating_sub(1) } else { width };
    for letter in text.chars() {
        if wide(&out) + wide(letter.encode_utf8(&mut [0; 4])) > room {
            break;
        }
        out.push(letter);
    }
    if is_cut && width > 0 {
        out.push('~');
    }
    let rest = width.saturating_sub(wide(&out));
    out.extend(std::iter::repeat_n(' ', rest));
    out
}
