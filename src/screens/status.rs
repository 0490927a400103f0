//! Status: the rollout at one instant, for people: once, or as the report at the end.
//!
//! # Invariants
//!
//! * The age of the data is on the screen.
//! * State is in words; colour only repeats it.

use tidegate_core::rollout::Grade;
use tidegate_core::time::Timestamp;
use tidegate_wire::v1::{
    Grades, MessageTotals, Node, NodeState, Rollout, RolloutState, Waiting, Wave,
    WaveState,
};

use super::diagnosis::{Diagnosis, level_name};
use super::{
    MinuteOf, Table, ago, at, clock, date, instant, marks, pace, percent, queue, say,
    schedule,
};
use crate::console::{Paint, Tone, safe, thousands};

/// Digits of a digest that tell plans apart for people.
const DIGEST_SHOWN: usize = 12;
/// Waves shown before the current one and after it; more would hide it.
const WAVES_AROUND: usize = 8;

/// The whole screen of `tidegate status`.
pub(crate) fn status(rollout: &Rollout, paint: Paint) -> String {
    let diagnosis = Diagnosis::of(rollout);
    let mut out = format!("{}\n", head(rollout, paint));
    say!(out, "status:   {}\n", paint.paint(diagnosis.tone, &diagnosis.status));
    say!(out, "action:   {}\n", diagnosis.action);
    if let Some(emergency) = &rollout.emergency {
        say!(out, "emergency: {}\n", marks::emergency(emergency));
    }
    for waiting in &rollout.waiting {
        say!(out, "waits:    {}\n", waits(waiting));
    }
    say!(out, "mailboxes: {}\n", counts(rollout));
    say!(out, "ladder:   {}\n", schedule::ladder(&rollout.ladder));
    if let Some(done) = schedule::done(rollout) {
        say!(out, "done:     {done}\n");
    }
    out.push('\n');
    out.push_str(&waves(rollout, paint));
    out.push_str(&gate(rollout));
    out.push('\n');
    out.push_str(&queue::queues(rollout));
    out.push_str(&nodes(rollout, paint));
    out.push_str(&pace::reasons(rollout));
    out.push('\n');
    out.push_str(&messages(rollout.totals.as_ref()));
    out.push('\n');
    out.push_str(&grades(rollout.totals.as_ref()));
    if !rollout.etag.is_empty() {
        say!(out, "etag:     {}\n", safe(&rollout.etag));
        say!(out, "evidence: {}\n", safe(&rollout.evidence));
    }
    out
}

/// What `tidegate status -x` shows: how it stands, and only the waves and nodes of `rollout`,
/// which are those that need somebody.
pub(crate) fn trouble(rollout: &Rollout, diagnosis: &Diagnosis, paint: Paint) -> String {
    let mut out = format!("{}\n", head(rollout, paint));
    say!(out, "status:   {}\n", paint.paint(diagnosis.tone, &diagnosis.status));
    say!(out, "action:   {}\n", diagnosis.action);
    if rollout.waves.is_empty() && rollout.nodes.is_empty() {
        out.push_str("no wave and no node needs anybody\n");
    }
    if !rollout.waves.is_empty() {
        out.push('\n');
        out.push_str(&waves(rollout, paint));
        out.push_str(&gate(rollout));
    }
    if !rollout.nodes.is_empty() {
        out.push('\n');
        out.push_str(&nodes(rollout, paint));
    }
    out
}

/// What waits for a second person: who asks, for what, who may give leave, and until when.
pub(crate) fn waits(waiting: &Waiting) -> String {
    let Waiting { by, what, reason, command, until_time, evidence_changed, .. } = waiting;
    let until = until_time.as_ref().and_then(instant).map_or_else(String::new, clock);
    let type_it = if command.is_empty() {
        "approve it by its address".to_owned()
    } else {
        format!("`tidegate approve {}`", safe(command))
    };
    let changed = if *evidence_changed { "; the evidence has changed since" } else { "" };
    let reason =
        if reason.is_empty() { String::new() } else { format!(" ({})", safe(reason)) };
    format!(
        "{} asks to {}{reason}, until {until}{changed}; any approver but {}: {type_it}",
        safe(by),
        safe(what),
        safe(by),
    )
}

/// Name, plan, state and time, on one line.
pub(crate) fn head(rollout: &Rollout, paint: Paint) -> String {
    let (word, tone) = state_word(rollout.state());
    let digest: String = rollout.plan_digest.chars().take(DIGEST_SHOWN).collect();
    format!(
        "rollout:  {} {}  plan {digest}  begun {}  as of {}",
        safe(&rollout.name),
        paint.paint(tone, word),
        date(at!(rollout.start_time)),
        clock(at!(rollout.at_time)),
    )
}

/// A rollout's state as a word.
pub(crate) fn state_word(state: RolloutState) -> (&'static str, Tone) {
    match state {
        RolloutState::Unspecified => ("UNKNOWN", Tone::Warn),
        RolloutState::Running => ("RUNNING", Tone::Good),
        RolloutState::Paused => ("PAUSED", Tone::Warn),
        RolloutState::Halted => ("HALTED", Tone::Bad),
        RolloutState::Aborted => ("ABORTED", Tone::Bad),
        RolloutState::Finished => ("FINISHED", Tone::Good),
    }
}

/// How many mailboxes are where, on one line.
pub(crate) fn counts(rollout: &Rollout) -> String {
    let sum = |field: fn(&Wave) -> u32| rollout.waves.iter().map(field).sum::<u32>();
    let mut text = format!(
        "{} of {} open ({}), {} prepared, {} set aside, {} failed",
        thousands(sum(|wave| wave.open)),
        thousands(rollout.planned),
        percent(sum(|wave| wave.open), rollout.planned),
        thousands(sum(|wave| wave.prepared)),
        thousands(sum(|wave| wave.quarantined)),
        thousands(sum(|wave| wave.failed)),
    );
    if rollout.excluded > 0 {
        say!(text, "; {} excluded", thousands(rollout.excluded));
    }
    text
}

/// A table of waves, empty.
pub(crate) fn waves_table() -> Table {
    Table::new(
        &[
            "WAVE", "", "STATE", "LEVEL", "PLANNED", "PREPARED", "OPEN", "MATURE",
            "FAILED", "ASIDE", "WORST",
        ],
        &[4, 5, 6, 7, 8, 9],
    )
}

/// A wave as a row of such a table.
pub(crate) fn wave_row(rollout: &Rollout, wave: &Wave) -> [String; 11] {
    let (glyph, word, _) = wave_word(wave.state());
    [
        format!("{glyph} {}", wave.number),
        safe(&wave.name),
        word.to_owned(),
        level_name(rollout, wave.level),
        thousands(wave.planned),
        thousands(wave.prepared),
        thousands(wave.open),
        thousands(wave.mature),
        thousands(wave.failed),
        thousands(wave.quarantined),
        worst(wave.grades.as_ref()).map_or("-", Grade::code).to_owned(),
    ]
}

/// The waves around the current one.
pub(crate) fn waves(rollout: &Rollout, paint: Paint) -> String {
    let mut table = waves_table();
    let begun = |wave: &Wave| wave.state() != WaveState::Passed;
    let current = rollout.waves.iter().position(begun).unwrap_or(rollout.waves.len());
    let first = current.saturating_sub(WAVES_AROUND);
    let shown = rollout.waves.iter().skip(first).take(WAVES_AROUND * 2);
    for wave in shown.clone() {
        table.row(wave_row(rollout, wave));
    }
    if shown.clone().any(|wave| wave.finish.is_some()) {
        let done = |wave: &Wave| schedule::finish(wave.finish.as_ref());
        table.column("DONE, 8 IN 10 (UTC)", shown.clone().map(done).collect());
    }
    if shown.clone().any(|wave| wave.expected.is_some()) {
        let expected = |wave| schedule::expected(rollout, wave);
        let cells = shown.clone().map(|wave| expected(wave).unwrap_or_default());
        table.column("EXPECTED", cells.collect());
    }
    let mut text = table.render("  ");
    for wave in shown {
        let (_, word, tone) = wave_word(wave.state());
        text =
            text.replace(&format!(" {word} "), &format!(" {} ", paint.paint(tone, word)));
        if paint == Paint::PLAIN {
            break;
        }
    }
    if first > 0 {
        say!(text, "  … {} passed waves before\n", first);
    }
    let after = rollout.waves.len().saturating_sub(first + WAVES_AROUND * 2);
    if after > 0 {
        say!(text, "  … {after} waves after\n");
    }
    for wave in rollout.waves.iter().filter(|wave| wave.closing > 0) {
        let (closing, name) = (thousands(wave.closing), safe(&wave.name));
        say!(text, "  {closing} of {name} re-closed and still open\n");
    }
    text.push_str(&marks::lines(rollout));
    text.push_str(&schedule::waiting(rollout));
    text
}

/// A wave's state as a sign and a word.
pub(crate) fn wave_word(state: WaveState) -> (char, &'static str, Tone) {
    match state {
        WaveState::Unspecified => ('?', "unknown", Tone::Warn),
        WaveState::Waiting => ('-', "waiting", Tone::Plain),
        WaveState::Opening => ('>', "opening", Tone::Good),
        WaveState::Passed => ('=', "passed", Tone::Plain),
        WaveState::HeldBack => ('!', "held-back", Tone::Bad),
        WaveState::Between => ('~', "between", Tone::Plain),
    }
}

/// The gates of waves that are opening: verdict, reasons, numbers.
pub(crate) fn gate(rollout: &Rollout) -> String {
    let mut out = String::new();
    let judged = rollout.waves.iter().filter(|wave| match wave.state() {
        WaveState::Opening | WaveState::HeldBack => true,
        WaveState::Unspecified
        | WaveState::Waiting
        | WaveState::Between
        | WaveState::Passed => false,
    });
    for wave in judged {
        let Some(gate) = &wave.gate else { continue };
        say!(
            out,
            "\n  gate of {} at {}: {}\n",
            safe(&wave.name),
            level_name(rollout, wave.level),
            safe(&gate.verdict)
        );
        for reason in &gate.reasons {
            say!(out, "    {}\n", safe(&reason.text));
        }
        for signal in &gate.signals {
            say!(out, "    {}\n", signal_line(signal));
        }
        if !gate.unmeasured.is_empty() {
            let names = safe(&gate.unmeasured.join(", "));
            say!(out, "    nobody measures: {names}\n");
        }
    }
    out
}

/// A signal with its lines: `opening  between  2 failed of 640 mature (passes at 4, …)`.
pub(crate) fn signal_line(signal: &tidegate_wire::v1::Signal) -> String {
    let pass = match signal.pass_at {
        _ if signal.only_stops => "is not waited for".to_owned(),
        Some(count) => format!("passes with at most {}", thousands(count)),
        None => "cannot pass yet".to_owned(),
    };
    let missing = match signal.missing {
        missing if missing > 0 && !signal.only_stops => {
            format!(", needs {} more good ones", thousands(missing))
        }
        _ => String::new(),
    };
    format!(
        "{:<12} {:<8} {} failed of {} mature, {} opened: {pass}, trips at {}{missing}",
        safe(&signal.name),
        safe(&signal.standing),
        thousands(signal.failed),
        thousands(signal.mature),
        thousands(signal.opened),
        thousands(signal.trip_at),
    )
}

/// The nodes.
pub(crate) fn nodes(rollout: &Rollout, paint: Paint) -> String {
    let mut table = node_header();
    for node in &rollout.nodes {
        table.row(node_row(rollout, node));
    }
    table.leave_out(SILENT_UNLESS_TOLD);
    let mut text = table.render("  ");
    for state in
        [NodeState::NoWorker, NodeState::Silent, NodeState::Isolated, NodeState::HeldBack]
    {
        let (word, tone) = node_word(state);
        text =
            text.replace(&format!(" {word} "), &format!(" {} ", paint.paint(tone, word)));
    }
    text
}

/// Columns of nodes that are left out where they say nothing of any: 80 columns are not many.
pub(crate) const SILENT_UNLESS_TOLD: &[&str] = &["UNREADABLE", "DRAIN"];

/// The header of the table of nodes.
pub(crate) fn node_header() -> Table {
    Table::new(
        &[
            "NODE",
            "STATE",
            "HEARD",
            "PACE",
            "PLANNED",
            "PREPARED",
            "OPEN",
            "FAILED",
            "ASIDE",
            "PROBE",
            "DISK FREE",
            "UNREADABLE",
            "DRAIN",
        ],
        &[4, 5, 6, 7, 8, 9, 10, 11, 12],
    )
}

/// A node in that table.
pub(crate) fn node_row(rollout: &Rollout, node: &Node) -> [String; 13] {
    [
        safe(&node.name),
        node_word(node.state()).0.to_owned(),
        heard(node, at!(rollout.at_time)),
        pace_or_window(node),
        thousands(node.planned),
        thousands(node.prepared),
        thousands(node.open),
        thousands(node.failed),
        thousands(node.quarantined),
        probe(node),
        disk(node),
        thousands(node.vitals.as_ref().map_or(0, |vitals| vitals.read_errors)),
        pace::drain(node),
    ]
}

/// How fast a node lets people in, or when its window lets anything begin again.
pub(crate) fn pace_or_window(node: &Node) -> String {
    if !node.outside_window {
        return pace::pace(node);
    }
    match node.window_time.as_ref().and_then(instant) {
        Some(opens) => format!("window {}", MinuteOf(opens)),
        None => "no window".to_owned(),
    }
}

/// How long reading an open mailbox takes now, as its worker measures it.
fn probe(node: &Node) -> String {
    match node.vitals.as_ref().map_or(0, |vitals| vitals.probe_micros) {
        0 => "-".to_owned(),
        micros => format!("{}.{} ms", micros / 1_000, micros / 100 % 10),
    }
}

/// A node's state as a word.
pub(crate) fn node_word(state: NodeState) -> (&'static str, Tone) {
    match state {
        NodeState::Unspecified => ("unknown", Tone::Warn),
        NodeState::NoWorker => ("no-worker", Tone::Bad),
        NodeState::Working => ("working", Tone::Good),
        NodeState::Silent => ("silent", Tone::Warn),
        NodeState::Isolated => ("isolated", Tone::Bad),
        NodeState::HeldBack => ("held-back", Tone::Warn),
        NodeState::Recounting => ("recounting", Tone::Warn),
        NodeState::LeftOut => ("left-out", Tone::Bad),
        NodeState::TurnedAway => ("turned-away", Tone::Bad),
        NodeState::Ahead => ("ahead", Tone::Bad),
    }
}

fn heard(node: &Node, now: Timestamp) -> String {
    match &node.heard_time {
        Some(heard) => ago(instant(heard).unwrap_or_default(), now),
        None => "never".to_owned(),
    }
}

fn disk(node: &Node) -> String {
    let free = node.vitals.as_ref().and_then(|vitals| vitals.disk_free_ppm);
    free.map_or_else(|| "unknown".to_owned(), |ppm| percent(ppm, 1_000_000))
}

/// The worst grade among these mailboxes; nothing if none is settled.
pub(crate) fn worst(grades: Option<&Grades>) -> Option<Grade> {
    grades.copied().map(tidegate_core::rollout::Grades::from)?.worst()
}

/// How well the settled mailboxes came back.
pub(crate) fn grades(totals: Option<&MessageTotals>) -> String {
    let grades = totals.and_then(|totals| totals.grades).unwrap_or_default();
    let line = |what: &str, count: u32| format!("  {what:<44}{:>12}\n", thousands(count));
    [
        "mailboxes by how well they came back\n".to_owned(),
        line("perfect: as they were, or proved", grades.perfect),
        line("good: all mail, harmless doubts", grades.good),
        line("investigate: all mail, decisions to look at", grades.investigate),
        line("poor: some mail is not served", grades.poor),
    ]
    .concat()
}

/// What became of the messages.
pub(crate) fn messages(totals: Option<&MessageTotals>) -> String {
    let totals = totals.copied().unwrap_or_default();
    let line = |what: &str, count: u64| format!("  {what:<44}{:>12}\n", thousands(count));
    [
        "messages of all prepared mailboxes\n".to_owned(),
        line("right as they were", totals.intact),
        line("repaired from the snapshot", totals.repaired),
        line("lost and brought back", totals.returned),
        line("newer than the snapshot, kept", totals.newer),
        line("deleted by their owner, stay deleted", totals.deleted),
        line("beyond repair, bytes kept aside", totals.set_aside),
        line("lost, known by name only", totals.lost),
        format!("  {:<44}{:>12}\n", "read", mebibytes(totals.bytes_read)),
    ]
    .concat()
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", thousands(bytes >> 20))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidegate_wire::v1::{Gate, Rung, Signal};

    use super::*;

    #[test]
    fn a_gate_tells_what_is_waited_for_from_what_only_stops_and_from_what_nobody_measures()
     {
        let signal = |name: &str, pass_at, only_stops| Signal {
            name: name.into(),
            standing: "open".into(),
            opened: 3,
            mature: 3,
            pass_at,
            trip_at: 2,
            missing: 17,
            only_stops,
            ..Signal::default()
        };
        let gate_of_wave = Gate {
            verdict: "hold".into(),
            signals: vec![
                signal("opening", Some(0), false),
                signal("preparation", None, false),
                signal("canary", None, true),
            ],
            unmeasured: vec!["login-latency".into(), "queue-age".into()],
            ..Gate::default()
        };
        let wave = Wave {
            name: "canary-1".into(),
            state: WaveState::Opening.into(),
            level: 1,
            gate: Some(gate_of_wave),
            ..Wave::default()
        };
        let ladder = vec![Rung { name: "webmail".into(), ..Rung::default() }];
        let rollout = Rollout { waves: vec![wave], ladder, ..Rollout::default() };

        expect![[r"
            waves

              gate of canary-1 at webmail: hold
                opening      open     0 failed of 3 mature, 3 opened: passes with at most 0, trips at 2, needs 17 more good ones
                preparation  open     0 failed of 3 mature, 3 opened: cannot pass yet, trips at 2, needs 17 more good ones
                canary       open     0 failed of 3 mature, 3 opened: is not waited for, trips at 2
                nobody measures: login-latency, queue-age
        "]]
        .assert_eq(&format!("waves\n{}", gate(&rollout)));
    }
}
