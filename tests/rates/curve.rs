//! Curve: what each mailbox costs against how many there are, as a picture.
//!
//! Both axes are logarithmic, so that what grows as fast as the number of mailboxes lies level.

use std::fmt::Write as _;

/// Width and height of a panel's axes, and of the room around them for words.
const AXES: (f64, f64) = (210.0, 220.0);
const ROOM: (f64, f64) = (100.0, 70.0);

/// Colours that are told apart by everybody (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// Labels nearer to each other than this cannot be read.
const LABELS_APART: f64 = 13.0;

/// A picture of panels.
#[derive(Default)]
pub(crate) struct Curve {
    panels: Vec<Panel>,
}

/// Lines of one unit.
struct Panel {
    title: &'static str,
    lines: Vec<Line>,
}

/// One thing that was measured.
struct Line {
    name: &'static str,
    /// Mailboxes, and what was measured with them.
    points: Vec<(f64, f64)>,
}

/// A logarithmic scale.
#[derive(Clone, Copy)]
struct Scale {
    /// The first and the last power of ten.
    powers: (i32, i32),
    length: f64,
}

impl Curve {
    /// Adds a point to the line called `name` of the panel called `title`; what was too little to
    /// be measured has no place.
    pub(crate) fn add(
        &mut self,
        (title, name): (&'static str, &'static str),
        mailboxes: u32,
        value: f64,
    ) {
        if value <= 0.0 {
            return;
        }
        let at = self.panels.iter().position(|panel| panel.title == title);
        let at = at.unwrap_or_else(|| {
            self.panels.push(Panel { title, lines: Vec::new() });
            self.panels.len() - 1
        });
        let Some(Panel { lines, .. }) = self.panels.get_mut(at) else { return };
        let point = (f64::from(mailboxes), value);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name, points: vec![point] }),
        }
    }

    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let (width, height) = (AXES.0 + ROOM.0 + 50.0, AXES.1 + ROOM.1);
        let panels = u32::try_from(self.panels.len()).unwrap_or(u32::MAX);
        let all = width * f64::from(panels);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {all} {height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <title>What a mailbox costs, for ten thousand to nine million of them</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut left = 45.0;
        for panel in &self.panels {
            // Writing to a text cannot fail.
            let _written = panel.draw(&mut svg, left);
            left += width;
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, left: f64) -> std::fmt::Result {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = Scale::of(points().map(|(x, _)| *x), AXES.0);
        let up = Scale::of(points().map(|(_, y)| *y), AXES.1);
        writeln!(svg, "<g transform=\"translate({left} 40)\">")?;
        let title = self.title;
        writeln!(svg, "<text y=\"-18\" font-size=\"13\">{title}</text>")?;
        for power in across.powers() {
            let x = across.place(10_f64.powi(power));
            writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                AXES.1,
                AXES.1 + 16.0,
                number(power),
            )?;
        }
        for power in up.powers() {
            let y = AXES.1 - up.place(10_f64.powi(power));
            writeln!(
                svg,
                "<line y1=\"{y:.1}\" y2=\"{y:.1}\" x2=\"{}\" stroke=\"#ddd\"/>\
                 <text x=\"-5\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                AXES.0,
                y + 4.0,
                number(power),
            )?;
        }
        let mut labels: Vec<(f64, &str, &str)> = Vec::new();
        for (line, colour) in self.lines.iter().zip(COLOURS) {
            let at = |(x, y): &(f64, f64)| (across.place(*x), AXES.1 - up.place(*y));
            let places: Vec<_> = line.points.iter().map(at).collect();
            let path: Vec<_> =
                places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let path = path.join(" ");
            writeln!(
                svg,
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" \
                 stroke-width=\"2\"/>"
            )?;
            for (x, y) in &places {
                writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
                )?;
            }
            let end = places.last().map_or(0.0, |(_, y)| *y);
            labels.push((end, line.name, colour));
        }
        labels.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut free = f64::MIN;
        for (y, name, colour) in labels {
            let y = y.max(free);
            free = y + LABELS_APART;
            let x = AXES.0 + 6.0;
            writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
                y + 4.0
            )?;
        }
        writeln!(svg, "</g>")
    }
}

impl Scale {
    /// A scale on which all of these have a place.
    fn of(values: impl Iterator<Item = f64>, length: f64) -> Self {
        let (least, most) = values
            .filter(|value| *value > 0.0)
            .fold((f64::MAX, f64::MIN), |(a, b), it| (a.min(it), b.max(it)));
        let first = (-6..12).rev().find(|power| 10_f64.powi(*power) <= least);
        let last = (-6..12).find(|power| 10_f64.powi(*power) >= most);
        let first = first.unwrap_or(0);
        Self { powers: (first, last.unwrap_or(1).max(first + 1)), length }
    }

    fn powers(self) -> impl Iterator<Item = i32> {
        self.powers.0..=self.powers.1
    }

    fn place(self, value: f64) -> f64 {
        let (first, last) = (f64::from(self.powers.0), f64::from(self.powers.1));
        let power = value.max(f64::MIN_POSITIVE).log10().clamp(first, last);
        (power - first) / (last - first) * self.length
    }
}

/// A power of ten as people read it.
fn number(power: i32) -> String {
    match power {
        6.. => format!("{} M", 10_f64.powi(power - 6)),
        4.. => format!("{} k", 10_f64.powi(power - 3)),
        _ => 10_f64.powi(power).to_string(),
    }
}
