//! Panels: waves, gates, nodes, events and what was set aside, as rows.
//!
//! # Invariants
//!
//! * What needs somebody stands first.

use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::v1::{Event, Node, NodeState, Rollout, Signal, Wave, WaveState};

use super::draw::minute;
use super::sheet::{Piece, fit, wide};
use super::{Board, at};
use crate::console::{Tone, safe, thousands};
use crate::screens::brief::{is_judged, nearness};
use crate::screens::diagnosis::level_name;
use crate::screens::single::{event_line, finding_line};
use crate::screens::status::{node_word, pace_or_window, signal_line, wave_word};
use crate::screens::{MinuteOf, clock, percent, schedule};

/// From this many columns on waves have further columns.
const WIDE: usize = 96;
/// Cells of a wave's name.
const NAME: usize = 13;

type Row = Vec<Piece>;

/// `count` waves around the one that is looked at.
pub(super) fn waves(
    board: &Board,
    rollout: &Rollout,
    width: usize,
    count: usize,
) -> Vec<Row> {
    let place = board.place();
    let most = rollout.waves.len().saturating_sub(count);
    let first = place.saturating_sub(count / 2).min(most);
    let rows = rollout.waves.iter().enumerate().skip(first).take(count);
    let rows =
        rows.map(|(at, wave)| wave_row(board, rollout, wave, (at == place, width)));
    rows.filter(|row| board.filter.is_empty() || board.lets_through(row)).collect()
}

fn wave_row(
    board: &Board,
    rollout: &Rollout,
    wave: &Wave,
    (selected, width): (bool, usize),
) -> Row {
    let (glyph, word, tone) = wave_word(wave.state());
    let pointer = if selected { board.signs.pointer() } else { ' ' };
    let mut row = vec![
        format!("{pointer} {glyph} {} ", fit(&safe(&wave.name), NAME)).into(),
        Piece::new(tone, format!("{word:<9} ")),
        format!(
            "{:>9} /{:>10} {:>7}  ",
            thousands(wave.open),
            thousands(wave.planned),
            percent(wave.open, wave.planned)
        )
        .into(),
    ];
    if width >= WIDE {
        let bad = if wave.failed > 0 { Tone::Warn } else { Tone::Plain };
        row.push(Piece::new(
            bad,
            format!(
                "failed {:<5} aside {:<5} ",
                thousands(wave.failed),
                thousands(wave.quarantined)
            ),
        ));
    }
    row.push(note(rollout, wave).into());
    row
}

/// What a wave does now, or when it will.
fn note(rollout: &Rollout, wave: &Wave) -> String {
    let minute = |at| minute(at, at!(rollout.at_time));
    let by = wave.finish.as_ref().map(|it| format!(", {}", minute(at!(it.p50_time))));
    let by = by.unwrap_or_default();
    match wave.state() {
        WaveState::Unspecified | WaveState::Passed => String::new(),
        WaveState::Waiting => {
            format!("ready {}{by}", percent(wave.prepared, wave.planned))
        }
        WaveState::Opening => format!("{}{by}", level_name(rollout, wave.level)),
        WaveState::HeldBack => "waits for a person".to_owned(),
        WaveState::Between if wave.due_time.is_some() => {
            let next = level_name(rollout, wave.passed + 1);
            format!("{next} at {}", minute(at!(wave.due_time)))
        }
        WaveState::Between => format!("{} passed{by}", level_name(rollout, wave.passed)),
    }
}

/// The wave whose gate is shown: the selected one, or else the first that is judged.
pub(super) fn judged<'a>(board: &'a Board, rollout: &'a Rollout) -> Option<&'a Wave> {
    let selected = board.wave().filter(|wave| wave.gate.is_some());
    selected.or_else(|| {
        rollout.waves.iter().find(|wave| is_judged(wave) && wave.gate.is_some())
    })
}

/// What stands above a gate.
pub(super) fn gate_title(rollout: &Rollout, wave: Option<&Wave>) -> String {
    let Some((wave, gate)) = wave.and_then(|wave| Some((wave, wave.gate.as_ref()?)))
    else {
        return "Gate: none is asked now".to_owned();
    };
    let level = level_name(rollout, wave.level);
    format!(
        "Gate of {} at {level}: {}",
        safe(&wave.name),
        safe(&gate.verdict).to_uppercase()
    )
}

/// A gate in `count` short rows: its signals, the worst first, and why it says so.
pub(super) fn gate(wave: Option<&Wave>, count: usize) -> Vec<Row> {
    let Some(gate) = wave.and_then(|wave| wave.gate.as_ref()) else {
        return vec![vec!["nothing opens, so nothing is judged".into()]];
    };
    let mut signals: Vec<&Signal> = gate.signals.iter().collect();
    signals.sort_by_key(|signal| nearness(signal));
    let reasons: Vec<Row> =
        gate.reasons.iter().map(|why| vec![safe(&why.text).into()]).collect();
    let room = count.saturating_sub(reasons.len().min(2));
    let mut rows: Vec<Row> = signals.into_iter().take(room).map(signal).collect();
    rows.extend(reasons.into_iter().take(2));
    rows
}

fn signal(signal: &Signal) -> Row {
    let (glyph, tone) = standing(signal);
    let need = match signal.missing {
        0 => String::new(),
        _ if signal.only_stops => String::new(),
        missing => format!(" need {}", thousands(missing)),
    };
    vec![
        Piece::new(tone, format!("{glyph} {:<7} ", safe(&signal.standing))),
        fit(&safe(&signal.name), 13).into(),
        format!(
            " {}/{} trip {}{need}",
            thousands(signal.failed),
            thousands(signal.mature),
            thousands(signal.trip_at)
        )
        .into(),
    ]
}

fn standing(signal: &Signal) -> (char, Tone) {
    match signal.standing.as_str() {
        "passed" => ('=', Tone::Good),
        "tripped" => ('!', Tone::Bad),
        _ => ('?', Tone::Plain),
    }
}

/// Every gate that is asked now, in full.
pub(super) fn gates(rollout: &Rollout) -> Vec<Row> {
    let mut rows = Vec::new();
    for wave in rollout.waves.iter().filter(|wave| is_judged(wave) && wave.gate.is_some())
    {
        rows.push(vec![Piece::strong(Tone::Plain, gate_title(rollout, Some(wave)))]);
        rows.extend(judgement(wave));
        rows.push(Vec::new());
    }
    if rows.is_empty() {
        rows.push(vec!["nothing opens, so nothing is judged".into()]);
    }
    rows
}

/// A wave's gate in full.
fn judgement(wave: &Wave) -> Vec<Row> {
    let Some(gate) = &wave.gate else { return Vec::new() };
    let reasons = gate.reasons.iter().map(|why| {
        vec![
            format!("  {} (tidegate explain {})", safe(&why.text), safe(&why.code))
                .into(),
        ]
    });
    let signals = gate.signals.iter().map(|signal| {
        let (glyph, tone) = standing(signal);
        vec![Piece::new(tone, format!("  {glyph} ")), signal_line(signal).into()]
    });
    let mut rows: Vec<Row> = reasons.chain(signals).collect();
    if !gate.unmeasured.is_empty() {
        let names = safe(&gate.unmeasured.join(", "));
        rows.push(vec![format!("  nobody measures: {names}").into()]);
    }
    rows
}

/// All that is known of the wave that is looked at.
pub(super) fn wave(board: &Board, rollout: &Rollout) -> Vec<Row> {
    let Some(wave) = board.wave() else { return vec![vec!["there is none".into()]] };
    let (glyph, word, tone) = wave_word(wave.state());
    let mut rows: Vec<Row> = vec![
        vec![
            Piece::strong(Tone::Plain, format!("{} {} ", wave.number, safe(&wave.name))),
            Piece::new(tone, format!("{glyph} {word}")),
        ],
        vec![
            format!(
                "{} planned, {} prepared, {} set aside, {} open, {} mature, {} failed",
                thousands(wave.planned),
                thousands(wave.prepared),
                thousands(wave.quarantined),
                thousands(wave.open),
                thousands(wave.mature),
                thousands(wave.failed)
            )
            .into(),
        ],
        vec![
            format!(
                "allowed: {}; passed: {}",
                level_name(rollout, wave.level),
                level_name(rollout, wave.passed)
            )
            .into(),
        ],
    ];
    if let Some(finish) = &wave.finish {
        let shown = schedule::finish(Some(finish));
        rows.push(vec![format!("done, 8 in 10 times: {shown} UTC").into()]);
    }
    if wave.due_time.is_some() {
        let next = level_name(rollout, wave.passed + 1);
        let due = MinuteOf(at!(wave.due_time));
        rows.push(vec![format!("{next} by its schedule not before {due}").into()]);
    }
    if wave.closing > 0 {
        let closing = thousands(wave.closing);
        rows.push(vec![Piece::new(
            Tone::Warn,
            format!("{closing} re-closed and still open"),
        )]);
    }
    rows.push(Vec::new());
    rows.push(vec![gate_title(rollout, Some(wave)).into()]);
    rows.extend(judgement(wave));
    rows.push(Vec::new());
    rows.push(vec![format!("tidegate why wave {}", safe(&wave.name)).into()]);
    rows
}

/// The nodes in `count` rows of `width` cells: those that do not work by name, the others as
/// steps, as high as the share of their mailboxes that is open.
pub(super) fn grid(
    board: &Board,
    rollout: &Rollout,
    width: usize,
    count: usize,
) -> Vec<Row> {
    let works = |node: &&Node| node.state() == NodeState::Working;
    let out: Vec<&Node> = rollout.nodes.iter().filter(|node| !works(node)).collect();
    let mut rows: Vec<Row> = Vec::new();
    let prefix = prefix(rollout).len();
    for node in out.iter().take(count.saturating_sub(2)) {
        let (_, tone) = node_word(node.state());
        let text = trouble(node, at!(rollout.at_time), prefix);
        rows.push(vec![Piece::new(tone, format!("! {text}"))]);
    }
    if let Some(more) = out.len().checked_sub(rows.len()).filter(|more| *more > 0) {
        rows.push(vec![Piece::new(Tone::Warn, format!("! {more} more do not work (n)"))]);
    }
    let mut line = String::new();
    for node in rollout.nodes.iter().filter(works) {
        let step = board.signs.step(node.open, node.planned);
        let name = safe(&node.name);
        let between = board.signs.between();
        let cell = format!("{}{between}{step} ", name.get(prefix..).unwrap_or(&name));
        if wide(&line) + wide(&cell) > width {
            rows.push(vec![std::mem::take(&mut line).into()]);
        }
        line.push_str(&cell);
    }
    rows.push(vec![line.into()]);
    if rows.len() > count {
        rows.truncate(count.saturating_sub(1));
        rows.push(vec!["more: n".into()]);
    }
    rows
}

/// What the names of all nodes begin with, up to their numbers; empty for one node.
pub(super) fn prefix(rollout: &Rollout) -> String {
    let mut names = rollout.nodes.iter().map(|node| safe(&node.name));
    let Some(first) = names.next().filter(|_| rollout.nodes.len() > 1) else {
        return String::new();
    };
    let same = names.fold(first.clone(), |same, name| {
        let alike = same.chars().zip(name.chars()).take_while(|(a, b)| a == b);
        alike.map(|(letter, _)| letter).collect()
    });
    same.trim_end_matches(|letter: char| letter.is_alphanumeric()).to_owned()
}

/// A node that does not work, since when, and how many of its mailboxes are held.
fn trouble(node: &Node, now: Timestamp, prefix: usize) -> String {
    let heard = node.heard_time.as_ref().and_then(crate::screens::instant);
    let since = heard.map_or_else(String::new, |at| {
        format!(" {}", Span::from_secs(now.since(at).millis() / 1_000))
    });
    let held = node.planned.saturating_sub(node.open).saturating_sub(node.quarantined);
    let (name, word) = (safe(&node.name), node_word(node.state()).0);
    let name = name.get(prefix..).unwrap_or(&name);
    format!("{name} {word}{since}, {} held", thousands(held))
}

/// Every node on a row, those that do not work first.
pub(super) fn nodes(board: &Board, rollout: &Rollout, width: usize) -> Vec<Row> {
    let mut nodes: Vec<&Node> = rollout.nodes.iter().collect();
    nodes.sort_by_key(|node| node.state() == NodeState::Working);
    let rows = nodes.into_iter().map(|node| {
        let (word, tone) = node_word(node.state());
        let mut row: Row = vec![
            format!("{} ", fit(&safe(&node.name), NAME)).into(),
            Piece::new(tone, format!("{word:<11} ")),
        ];
        let (open, planned) = (thousands(node.open), thousands(node.planned));
        let failed = thousands(node.failed);
        // The pace is still read in 80 columns, the longest of its words included.
        row.push(match width {
            ..WIDE => format!("{open:>7}/{planned:<7} open failed {failed:<4} ").into(),
            WIDE.. => {
                format!("{open:>9} / {planned:>9} open  failed {failed:<4} ").into()
            }
        });
        if width >= WIDE {
            row.push(format!("aside {:<4} ", thousands(node.quarantined)).into());
            let heard = node.heard_time.as_ref().and_then(crate::screens::instant);
            let heard = heard.map_or_else(|| "never".to_owned(), clock);
            row.push(format!("heard {heard} ").into());
        }
        row.push(pace_or_window(node).into());
        row
    });
    rows.filter(|row| board.lets_through(row)).collect()
}

/// What happened, on a row.
pub(super) fn event(event: &Event) -> Row {
    let at = clock(at!(event.time));
    let time = at.trim_end_matches(" UTC");
    let line = event_line(event);
    // The screen has the time of day alone; the day is in `tidegate events`.
    let rest = line.split_once("  ").map_or(line.as_str(), |(_, rest)| rest);
    vec![format!("{time} {rest}").into()]
}

/// What was set aside, on rows.
pub(super) fn quarantine(board: &Board) -> Vec<Row> {
    let Some(findings) = &board.findings else {
        return vec![vec!["asked for …".into()]];
    };
    if findings.is_empty() {
        return vec![vec!["nothing is set aside".into()]];
    }
    let rows = findings.iter().map(|found| vec![finding_line(found, true).into()]);
    rows.filter(|row: &Row| board.lets_through(row)).collect()
}

/// What every key does.
pub(super) fn help() -> Vec<Row> {
    const KEYS: [(&str, &str); 15] = [
        ("p", "pause: asks why, Enter pauses; anybody may, always"),
        ("P", "pause at once, without a reason"),
        ("Up Down", "look at another wave, or scroll"),
        ("Enter", "all about the wave"),
        ("g", "the gates in full"),
        ("n", "the nodes, those that do not work first"),
        ("q", "what was set aside for a person"),
        ("e", "what happened, newest last"),
        ("/", "show only rows with this text; Esc shows all"),
        ("f", "freeze the picture; it goes on collecting"),
        ("a", "with --allow-actions: arm for 60 s, or disarm"),
        ("r", "armed: resume, asks why"),
        ("c", "armed: put the wave back behind admission, asks why"),
        ("Esc", "back"),
        ("x", "exit; :q and Ctrl-C too. The rollout goes on without a screen"),
    ];
    let keys = KEYS.iter().map(|(key, does)| -> Row {
        vec![Piece::strong(Tone::Plain, format!("{key:<9}")), (*does).into()]
    });
    let signs = "waves: - waiting  > opening  ~ between  = passed  ! held-back";
    let steps = "nodes: a step is as high as the share of its mailboxes that is open";
    keys.chain([Vec::new(), vec![signs.into()], vec![steps.into()]]).collect()
}
