//! Parts: the waves, the nodes and the gates of a rollout, listed.
//!
//! # Invariants
//!
//! * Nothing here changes anything.
//! * What is listed and what `status -o json` says is the same.
//! * Lists are whole: no wave is left out for the screen's sake.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::gate::{Standing, Verdict};
use tidegate_wire::v1::{Node, NodeState, Rollout, Signal, Wave, WaveState};

use crate::cli::{GateList, PartList};
use crate::client::Client;
use crate::console::{safe, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::listing::{self, Listed};
use crate::screens::diagnosis::level_name;
use crate::screens::json::{self, Time, when};
use crate::screens::schedule::Finish;
use crate::screens::single::guard;
use crate::screens::status::{
    SILENT_UNLESS_TOLD, node_row, node_word, wave_row, wave_word, waves_table,
};
use crate::screens::{MinuteOf, Table, instant, marks, say, schedule};

/// Carries out `tidegate wave list`.
pub(crate) async fn waves(args: &PartList) -> Outcome {
    let rollout = Client::connect(&args.coordinator).await?.rollout().await?;
    let shown = rollout.waves.iter().filter(|wave| !args.trouble || is_stopped(wave));
    let rows: Vec<_> = shown.map(|wave| WaveRow { rollout: &rollout, wave }).collect();
    listing::list(args.form, &rows, |wide| wave_table(&rows, wide))?;
    Ok(ending(args, rows.is_empty()))
}

/// Carries out `tidegate node list`.
pub(crate) async fn nodes(args: &PartList) -> Outcome {
    let rollout = Client::connect(&args.coordinator).await?.rollout().await?;
    let shown = rollout.nodes.iter().filter(|node| !args.trouble || is_out(node));
    let rows: Vec<_> = shown.map(|node| NodeRow { rollout: &rollout, node }).collect();
    listing::list(args.form, &rows, |wide| node_table(&rows, wide))?;
    Ok(ending(args, rows.is_empty()))
}

/// Carries out `tidegate gate list`.
pub(crate) async fn gates(args: &GateList) -> Outcome {
    let rollout = Client::connect(&args.coordinator).await?.rollout().await?;
    let is_named = |wave: &&Wave| {
        let name = args.wave.as_ref();
        name.is_none_or(|it| wave.name == *it || wave.number.to_string() == *it)
    };
    if let Some(name) = args.wave.as_deref()
        && !rollout.waves.iter().any(|wave| is_named(&wave))
    {
        let names = rollout.waves.iter().map(|wave| wave.name.as_str());
        return Err(Failure::unknown("wave", name, names));
    }
    let waves = rollout.waves.iter().filter(is_named);
    let rows: Vec<_> = waves.flat_map(|wave| gate_rows(&rollout, wave)).collect();
    listing::list(args.form, &rows, |wide| gate_table(&rows, wide))?;
    Ok(Exit::Done)
}

fn ending(args: &PartList, is_empty: bool) -> Exit {
    if args.trouble && !is_empty { Exit::Failed } else { Exit::Done }
}

/// Whether somebody must do something about a wave.
pub(crate) fn is_stopped(wave: &Wave) -> bool {
    let verdict = wave.gate.as_ref().map_or("", |gate| gate.verdict.as_str());
    wave.state() == WaveState::HeldBack || ["halt", "isolate"].contains(&verdict)
}

/// Whether a node does not work.
pub(crate) fn is_out(node: &Node) -> bool {
    node.state() != NodeState::Working
}

struct WaveRow<'a> {
    rollout: &'a Rollout,
    wave: &'a Wave,
}

impl WaveRow<'_> {
    fn verdict(&self) -> Option<&str> {
        self.wave.gate.as_ref().map(|gate| gate.verdict.as_str())
    }
}

/// A wave in a list. Counts are mailboxes.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.wave/v1")]
pub(crate) struct WaveItem<'a> {
    /// Its name.
    name: &'a str,
    /// Its number.
    number: u32,
    /// What it does.
    #[schemars(extend("enum" = json::words(|it| wave_word(it).1)))]
    state: &'static str,
    /// What the level that it is allowed is called.
    level: String,
    /// All of it.
    planned: u32,
    /// Verified and repaired.
    prepared: u32,
    /// On any level above held.
    open: u32,
    /// On the allowed level or above.
    opened: u32,
    /// Open for the soak of the allowed level, and healthy.
    mature: u32,
    /// Failed, integrity included.
    failed: u32,
    /// Set aside.
    quarantined: u32,
    /// Re-closed, and not known to be closed yet.
    closing: u32,
    /// What its gate says; null while it waits.
    #[schemars(extend("enum" = json::or_null(Verdict::CODES)))]
    verdict: Option<&'a str>,
    /// When the level was allowed.
    allowed_time: Option<Time>,
    /// When its schedule allows the next one.
    due_time: Option<Time>,
    /// When it will stand on the top of the ladder.
    finish: Option<Finish>,
    /// Levels that it has passed although its gate held it.
    overridden: &'a [u32],
    /// Levels that it has passed under the emergency profile.
    hurried: &'a [u32],
}

impl Listed for WaveRow<'_> {
    const LIST: &'static str = "tidegate.wave-list/v1";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "number",
        "state",
        "level",
        "planned",
        "prepared",
        "open",
        "opened",
        "mature",
        "failed",
        "quarantined",
        "closing",
        "verdict",
        "allowed_time",
        "due_time",
    ];

    fn value(&self) -> Value {
        let Self { rollout, wave } = self;
        json::value(&WaveItem {
            name: &wave.name,
            number: wave.number,
            state: wave_word(wave.state()).1,
            level: level_name(rollout, wave.level),
            planned: wave.planned,
            prepared: wave.prepared,
            open: wave.open,
            opened: wave.opened,
            mature: wave.mature,
            failed: wave.failed,
            quarantined: wave.quarantined,
            closing: wave.closing,
            verdict: self.verdict(),
            allowed_time: when!(wave.allowed_time),
            due_time: when!(wave.due_time),
            finish: schedule::finish_shown(wave.finish.as_ref()),
            overridden: &wave.overridden,
            hurried: &wave.hurried,
        })
    }

    fn line(&self) -> String {
        wave_table(std::slice::from_ref(self), false).render("")
    }

    fn wide(&self) -> String {
        wave_table(std::slice::from_ref(self), true).render("")
    }

    fn cells(&self) -> Vec<String> {
        cells(&self.value(), Self::COLUMNS)
    }

    fn name(&self) -> String {
        self.wave.name.clone()
    }
}

fn wave_table(rows: &[WaveRow<'_>], wide: bool) -> Table {
    let mut table = waves_table();
    for WaveRow { rollout, wave } in rows {
        table.row(wave_row(rollout, wave));
    }
    let mark = |row: &WaveRow<'_>| marks::of(row.rollout, row.wave);
    if rows.iter().any(|row| mark(row).is_some()) {
        let cells = rows.iter().map(|row| dash(mark(row).unwrap_or_default()));
        table.column("PEOPLE ANSWER FOR", cells.collect());
    }
    if wide {
        let of = |cell: &dyn Fn(&WaveRow<'_>) -> String| rows.iter().map(cell).collect();
        let time = |at: Option<&_>| {
            let at = at.and_then(instant).map(|at| MinuteOf(at).to_string());
            at.unwrap_or_else(|| "-".to_owned())
        };
        table.column("GATE", of(&|row| safe(row.verdict().unwrap_or("-"))));
        table.column("CLOSING", of(&|row| thousands(row.wave.closing)));
        table.column("ALLOWED", of(&|row| time(row.wave.allowed_time.as_ref())));
        table.column("NOT BEFORE", of(&|row| time(row.wave.due_time.as_ref())));
        let finish = |row: &WaveRow<'_>| schedule::finish(row.wave.finish.as_ref());
        table.column("DONE, 8 IN 10 (UTC)", of(&|row| dash(finish(row))));
        let expected = |row: &WaveRow<'_>| schedule::expected(row.rollout, row.wave);
        let zone = rows.first().and_then(|row| row.rollout.notice.as_ref());
        let zone = zone.map_or_else(String::new, |notice| format!(" ({})", notice.zone));
        let told = of(&|row| dash(expected(row).unwrap_or_default()));
        table.column(&format!("EXPECTED{}", safe(&zone)), told);
    }
    table
}

struct NodeRow<'a> {
    rollout: &'a Rollout,
    node: &'a Node,
}

/// A node in a list. Counts are mailboxes unless said otherwise.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.node/v1")]
pub(crate) struct NodeItem<'a> {
    /// Its name.
    name: &'a str,
    /// What it does.
    #[schemars(extend("enum" = json::words(|it| node_word(it).0)))]
    state: &'static str,
    /// When it was last heard; null if not since the coordinator started.
    heard_time: Option<Time>,
    /// All of its mailboxes in the plan.
    planned: u32,
    /// Verified and repaired.
    prepared: u32,
    /// On any level above held.
    open: u32,
    /// Failed, integrity included.
    failed: u32,
    /// Set aside.
    quarantined: u32,
    /// Re-closed, and not known to be closed yet.
    closing: u32,
    /// Whether its windows let nothing begin on it now.
    outside_window: bool,
    /// When they let something begin again.
    window_time: Option<Time>,
    /// Reads that the disk has failed; null while no worker reports.
    read_errors: Option<u32>,
    /// What is free on its disk, in millionths.
    disk_free_ppm: Option<u32>,
}

impl Listed for NodeRow<'_> {
    const LIST: &'static str = "tidegate.node-list/v1";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "state",
        "heard_time",
        "planned",
        "prepared",
        "open",
        "failed",
        "quarantined",
        "closing",
        "outside_window",
        "window_time",
        "read_errors",
        "disk_free_ppm",
    ];

    fn value(&self) -> Value {
        let node = self.node;
        let vitals = node.vitals.as_ref();
        json::value(&NodeItem {
            name: &node.name,
            state: node_word(node.state()).0,
            heard_time: when!(node.heard_time),
            planned: node.planned,
            prepared: node.prepared,
            open: node.open,
            failed: node.failed,
            quarantined: node.quarantined,
            closing: node.closing,
            outside_window: node.outside_window,
            window_time: when!(node.window_time),
            read_errors: vitals.map(|vitals| vitals.read_errors),
            disk_free_ppm: vitals.and_then(|vitals| vitals.disk_free_ppm),
        })
    }

    fn line(&self) -> String {
        node_table(std::slice::from_ref(self), false).render("")
    }

    fn wide(&self) -> String {
        node_table(std::slice::from_ref(self), true).render("")
    }

    fn cells(&self) -> Vec<String> {
        cells(&self.value(), Self::COLUMNS)
    }

    fn name(&self) -> String {
        self.node.name.clone()
    }
}

fn node_table(rows: &[NodeRow<'_>], wide: bool) -> Table {
    let mut table = crate::screens::status::node_header();
    for NodeRow { rollout, node } in rows {
        table.row(node_row(rollout, node));
    }
    if !wide {
        table.leave_out(SILENT_UNLESS_TOLD);
    }
    if wide {
        let of = |cell: &dyn Fn(&Node) -> String| {
            rows.iter().map(|row| cell(row.node)).collect::<Vec<_>>()
        };
        let vital = |node: &Node, of: fn(&tidegate_wire::v1::Vitals) -> u64| {
            node.vitals.as_ref().map_or_else(|| "-".to_owned(), |it| thousands(of(it)))
        };
        table.column("CLOSING", of(&|node| thousands(node.closing)));
        table.column("PROBES", of(&|node| vital(node, |it| it.probes.into())));
        table.column("SLOW", of(&|node| vital(node, |it| it.probes_slow.into())));
        table.column("FENCED", of(&|node| vital(node, |it| it.fenced.into())));
        table.column("DIAL TONES", of(&|node| thousands(node.dial_tones)));
        let slowed = |node: &Node| {
            let why = node.drain_why.as_ref();
            why.map_or_else(|| "-".to_owned(), |why| safe(&why.code))
        };
        table.column("MAIL SLOWED BY", of(&slowed));
    }
    table
}

/// One signal of the gate of a wave.
struct GateRow<'a> {
    wave: &'a Wave,
    level: String,
    verdict: &'a str,
    signal: &'a Signal,
    reasons: Vec<&'a str>,
}

fn gate_rows<'a>(
    rollout: &Rollout,
    wave: &'a Wave,
) -> impl Iterator<Item = GateRow<'a>> + use<'a> {
    let level = level_name(rollout, wave.level);
    wave.gate.iter().flat_map(move |gate| {
        let level = level.clone();
        gate.signals.iter().map(move |signal| GateRow {
            wave,
            level: level.clone(),
            verdict: &gate.verdict,
            signal,
            reasons: gate.reasons.iter().map(|why| why.code.as_str()).collect(),
        })
    })
}

/// One signal of the gate of a wave in a list.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.gate/v1")]
pub(crate) struct GateItem<'a> {
    /// The wave.
    wave: &'a str,
    /// What the level that it is allowed is called.
    level: &'a str,
    /// What the gate says.
    #[schemars(extend("enum" = Verdict::CODES))]
    verdict: &'a str,
    /// The codes of why.
    reasons: &'a [&'a str],
    /// The signal.
    signal: &'a str,
    /// `passed`, `open` (between the lines) or `tripped`.
    #[schemars(extend("enum" = Standing::ALL.map(Standing::code)))]
    standing: &'a str,
    /// Failures.
    failed: u32,
    /// Samples for the line that trips: everything opened.
    opened: u32,
    /// Samples for the line that passes: everything that has shown its outcome.
    mature: u32,
    /// The most failures that pass now; null if not even none would.
    pass_at: Option<u32>,
    /// The fewest failures that trip now.
    trip_at: u32,
    /// Further good samples needed to pass if no more fail.
    missing: u32,
    /// Whether it need not pass: it can only stop the wave.
    only_stops: bool,
}

impl Listed for GateRow<'_> {
    const LIST: &'static str = "tidegate.gate-list/v1";
    const COLUMNS: &'static [&'static str] = &[
        "wave",
        "level",
        "verdict",
        "signal",
        "standing",
        "failed",
        "opened",
        "mature",
        "pass_at",
        "trip_at",
        "missing",
        "only_stops",
    ];

    fn value(&self) -> Value {
        let Self { wave, level, verdict, signal, reasons } = self;
        json::value(&GateItem {
            wave: &wave.name,
            level,
            verdict,
            reasons,
            signal: &signal.name,
            standing: &signal.standing,
            failed: signal.failed,
            opened: signal.opened,
            mature: signal.mature,
            pass_at: signal.pass_at,
            trip_at: signal.trip_at,
            missing: signal.missing,
            only_stops: signal.only_stops,
        })
    }

    fn line(&self) -> String {
        gate_table(std::slice::from_ref(self), false).render("")
    }

    fn wide(&self) -> String {
        gate_table(std::slice::from_ref(self), true).render("")
    }

    fn cells(&self) -> Vec<String> {
        cells(&self.value(), Self::COLUMNS)
    }

    fn name(&self) -> String {
        format!("{}:{}", self.wave.name, self.signal.name)
    }
}

fn gate_table(rows: &[GateRow<'_>], wide: bool) -> Table {
    let mut table = Table::new(
        &[
            "WAVE",
            "LEVEL",
            "VERDICT",
            "SIGNAL",
            "STANDING",
            "FAILED",
            "MATURE",
            "PASSES AT",
            "TRIPS AT",
            "MISSING",
        ],
        &[5, 6, 7, 8, 9],
    );
    for row in rows {
        let signal = row.signal;
        let pass = match signal.pass_at {
            _ if signal.only_stops => "-".to_owned(),
            Some(count) => thousands(count),
            None => "not yet".to_owned(),
        };
        table.row([
            safe(&row.wave.name),
            row.level.clone(),
            safe(row.verdict),
            safe(&signal.name),
            safe(&signal.standing),
            thousands(signal.failed),
            thousands(signal.mature),
            pass,
            thousands(signal.trip_at),
            thousands(signal.missing),
        ]);
    }
    if wide {
        let opened = rows.iter().map(|row| thousands(row.signal.opened));
        table.column("OPENED", opened.collect());
        let reasons = rows.iter().map(|row| dash(safe(&row.reasons.join(" "))));
        table.column("WHY", reasons.collect());
    }
    table
}

/// What nothing is said of.
fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// These fields for spreadsheets.
fn cells(value: &Value, columns: &[&str]) -> Vec<String> {
    let cell = |name: &&str| match value.get(*name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => guard(text),
        Some(other) => {
            let mut text = String::new();
            say!(text, "{other}");
            text
        }
    };
    columns.iter().map(cell).collect()
}
