//! The board: a rollout and its story, as the operations page shows them.
//!
//! # Invariants
//!
//! * Every number comes from the coordinator's answers; what they do not tell is not shown.
//! * State is always a word, never a colour alone.

mod line;

use jiff::tz::TimeZone;
use tidegate_wire::v1;

use super::story::{Aside, Part, Told};
use crate::texts::{Language, Texts};
use crate::visitor::Visitor;
use crate::windows::seconds;
use line::{Bar, Line};

/// The code of what waits for a second person.
const NOT_APPROVED: &str = "not-approved";

/// The code of a freeze.
const FROZEN: &str = "frozen";

/// As many letters of a month's name tell it from the others.
const MONTH_LETTERS: usize = 3;

/// What can be done to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Pause,
    Resume,
    Freeze,
    Reclose,
}

/// What there is to do.
fn deeds(rollout: &v1::Rollout) -> Vec<Deed> {
    let state = rollout.state();
    let is_frozen = rollout.why.iter().any(|why| why.code == FROZEN);
    let can = |deed: &Deed| match deed {
        Deed::Pause => state == v1::RolloutState::Running,
        Deed::Resume => {
            matches!(state, v1::RolloutState::Paused | v1::RolloutState::Halted)
        }
        Deed::Freeze => state != v1::RolloutState::Aborted && !is_frozen,
        Deed::Reclose => rollout.waves.iter().any(|wave| wave.open > 0),
    };
    let all = [Deed::Pause, Deed::Resume, Deed::Freeze, Deed::Reclose];
    all.into_iter().filter(can).collect()
}

/// What the page shows.
#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) name: String,
    pub(super) etag: String,
    /// In words.
    pub(super) state: String,
    /// For colours beside the words.
    pub(super) tone: &'static str,
    /// What there is to do now, whoever may do it.
    pub(super) can: Vec<Deed>,
    pub(super) at: String,
    pub(super) at_iso: String,
    pub(super) open: String,
    pub(super) finish: String,
    /// How far a stop has come, if there is one.
    pub(super) stop: Option<String>,
    /// What it waits for.
    pub(super) why: Vec<Reason>,
    /// For what the emergency profile is in force, and who answers for it.
    pub(super) emergency: Option<String>,
    /// What waits for a second person.
    pub(super) waiting: Vec<WaitingRow>,
    pub(super) axis: (String, String),
    pub(super) waves: Vec<WaveRow>,
    pub(super) gates: Vec<GateBlock>,
    pub(super) nodes: Vec<NodeRow>,
    pub(super) asides: Vec<AsideRow>,
    pub(super) aside_more: bool,
    pub(super) deeds: Vec<DeedRow>,
    /// One sentence for whoever does not look.
    pub(super) spoken: String,
}

/// A reason of the coordinator's: what it is, and with the numbers where it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) says: String,
    pub(super) detail: Option<Detail>,
}

/// What the coordinator says: in the page's language, or in its own where nobody has put that
/// into words yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) text: String,
    /// The code of its language.
    pub(super) lang: &'static str,
}

impl Detail {
    /// Its words, and the names between them, which the coordinator puts between backticks.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (bool, &str)> {
        // An odd one is somebody's own.
        let in_pairs = self.text.matches('`').count().is_multiple_of(2);
        let pieces = self.text.split(move |it| in_pairs && it == '`').enumerate();
        pieces.map(|(place, piece)| (place % 2 == 1, piece))
    }

    /// What the coordinator says under this code.
    pub(super) fn of(code: &str, said: &str, texts: &Texts) -> Self {
        match texts.retold(code, said) {
            Some(text) => Self { text, lang: texts.language().code() },
            None => Self { text: said.to_owned(), lang: Language::English.code() },
        }
    }
}

impl Detail {
    /// What the page says by itself.
    pub(super) fn ours(text: String, texts: &Texts) -> Self {
        Self { text, lang: texts.language().code() }
    }
}

impl Reason {
    /// A reason of this code.
    pub(super) fn of(code: &str, detail: &str, texts: &Texts) -> Self {
        let name = format!("why-{code}");
        let says = if texts.has(&name) { texts.say(&name) } else { code.to_owned() };
        let more = !texts.says_no_more(code, detail);
        Self { says, detail: more.then(|| Detail::of(code, detail, texts)) }
    }
}

/// Something that waits for a second person.
#[derive(Clone, Debug)]
pub(super) struct WaitingRow {
    pub(super) by: String,
    /// As on the command line; what a form sends.
    pub(super) what: String,
    /// In words.
    pub(super) asked: String,
    pub(super) told: String,
    pub(super) until: String,
    pub(super) has_changed: bool,
    /// On what leave would be given.
    pub(super) evidence: String,
    /// Whether it can be named without an address.
    pub(super) can_name: bool,
}

impl WaitingRow {
    /// Whether `visitor` may give leave for it here: nobody does for themselves.
    pub(super) fn can_be_approved_by(&self, visitor: &Visitor) -> bool {
        self.can_name && !visitor.is_called(&self.by)
    }

    /// Starts that wait. No plan names a time zone yet, so times are of the world's clock.
    pub(super) fn all_of(waiting: &[v1::Waiting], texts: &Texts) -> Vec<Self> {
        let now = jiff::Timestamp::now().as_second();
        let shown = Shown { texts, zone: &TimeZone::UTC, now };
        let row = |it: &v1::Waiting| {
            let mut row = shown.waiting(it);
            row.until += " UTC";
            row
        };
        waiting.iter().map(row).collect()
    }
}

/// A row of the waves.
#[derive(Clone, Debug)]
pub(super) struct WaveRow {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) tone: &'static str,
    pub(super) level: String,
    pub(super) open: String,
    pub(super) prepared: String,
    pub(super) quarantined: String,
    pub(super) finish: String,
    /// What it has passed in another way than by its usual gate.
    pub(super) marks: Vec<String>,
    pub(super) bars: Vec<Bar>,
}

/// What the gate says of a wave.
#[derive(Clone, Debug)]
pub(super) struct GateBlock {
    pub(super) wave: String,
    pub(super) verdict: String,
    pub(super) tone: &'static str,
    pub(super) reasons: Vec<Reason>,
    pub(super) signals: Vec<SignalRow>,
    pub(super) unmeasured: String,
}

/// A signal with its lines.
#[derive(Clone, Debug)]
pub(super) struct SignalRow {
    /// In words.
    pub(super) name: String,
    /// As commands know it.
    pub(super) code: String,
    pub(super) standing: String,
    pub(super) tone: &'static str,
    pub(super) failed: String,
    pub(super) mature: String,
    pub(super) opened: String,
    pub(super) pass_at: String,
    pub(super) trip_at: String,
    pub(super) missing: String,
}

/// A row of the nodes.
#[derive(Clone, Debug)]
pub(super) struct NodeRow {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) tone: &'static str,
    pub(super) heard: String,
    pub(super) open: String,
    pub(super) prepared: String,
    pub(super) quarantined: String,
    pub(super) failed: String,
    pub(super) rate: String,
}

/// What was set aside for one reason.
#[derive(Clone, Debug)]
pub(super) struct AsideRow {
    pub(super) code: String,
    /// What the reason means.
    pub(super) what: String,
    pub(super) count: String,
    pub(super) nodes: String,
    /// What to do about it.
    pub(super) next: String,
}

/// What somebody did.
#[derive(Clone, Debug)]
pub(super) struct DeedRow {
    pub(super) at: String,
    pub(super) told: Detail,
    /// Whether somebody did it; else it came by itself.
    pub(super) by_people: bool,
}

impl Board {
    /// Whether there is this to do.
    pub(super) fn can(&self, deed: Deed) -> bool {
        self.can.contains(&deed)
    }

    /// The board of a rollout now.
    pub(super) fn of(rollout: &v1::Rollout, told: &Told, texts: &Texts) -> Self {
        let zone = rollout.notice.as_ref().map_or("UTC", |it| it.zone.as_str());
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        let now = seconds!(rollout.at_time).unwrap_or_default();
        let shown = Shown { texts, zone: &zone, now };
        let line = Line::of(rollout, now);
        let open: u64 = rollout.waves.iter().map(|wave| u64::from(wave.open)).sum();
        let state = rollout.state();
        let state_text = texts.say(state_text(state));
        let open = shown.part(open, u64::from(rollout.planned));
        let finish = shown.finish_of_all(rollout);
        Self {
            name: rollout.name.clone(),
            etag: rollout.etag.clone(),
            tone: state_tone(state),
            can: deeds(rollout),
            at: shown.time(now),
            at_iso: jiff::Timestamp::from_second(now).unwrap_or_default().to_string(),
            stop: rollout.stop.as_ref().map(|stop| shown.stop(stop)),
            why: rollout
                .why
                .iter()
                // Those stand among the commands, with what can be done about them.
                .filter(|why| why.code != NOT_APPROVED)
                .map(|why| Reason::of(&why.code, &why.text, texts))
                .collect(),
            emergency: rollout.emergency.as_ref().map(|it| shown.emergency(it)),
            waiting: rollout.waiting.iter().map(|it| shown.waiting(it)).collect(),
            axis: (shown.time(line.from()), shown.time(line.to())),
            waves: rollout
                .waves
                .iter()
                .map(|it| {
                    shown.wave(rollout, it, line.bars(it, told.stays.get(&it.name)))
                })
                .collect(),
            gates: rollout.waves.iter().filter_map(|it| shown.gate(it)).collect(),
            nodes: rollout.nodes.iter().map(|it| shown.node(it)).collect(),
            asides: told.asides.iter().map(|it| shown.aside(it)).collect(),
            aside_more: told.more,
            deeds: told
                .deeds
                .iter()
                .map(|it| DeedRow {
                    at: shown.time(it.at),
                    told: Detail::of(&it.code, &it.text, texts),
                    by_people: it.by_people,
                })
                .collect(),
            spoken: texts.say_with("spoken", &[("state", &state_text), ("open", &open)]),
            state: state_text,
            open,
            finish,
        }
    }
}

/// How things are shown: in a language, by a clock, at a time.
struct Shown<'a> {
    texts: &'a Texts,
    zone: &'a TimeZone,
    now: i64,
}

impl Shown<'_> {
    fn number(&self, number: u32) -> String {
        self.texts.number(u64::from(number))
    }

    /// `573.906 di 8.996.904 (6 %)`.
    fn part(&self, part: u64, whole: u64) -> String {
        let percent = (part * 100 / whole.max(1)).to_string();
        let (part, whole) = (self.texts.number(part), self.texts.number(whole));
        let variables = [("part", &*part), ("all", &*whole), ("percent", &*percent)];
        self.texts.say_with("part", &variables)
    }

    /// The time of day, with the day where it is another one.
    fn time(&self, at: i64) -> String {
        let local = |at| {
            let at = jiff::Timestamp::from_second(at).unwrap_or_default();
            self.zone.to_datetime(at)
        };
        let (today, at) = (local(self.now).date(), local(at));
        let clock = at.strftime("%H:%M");
        if at.date() == today {
            clock.to_string()
        } else {
            let month = self.texts.say(&format!("month-{}", at.month()));
            let month: String = month.chars().take(MONTH_LETTERS).collect();
            format!("{} {month} {clock}", at.day())
        }
    }

    fn band(&self, forecast: &v1::Forecast) -> Option<String> {
        let p10 = self.time(seconds!(forecast.p10_time)?);
        let p50 = self.time(seconds!(forecast.p50_time)?);
        let p90 = self.time(seconds!(forecast.p90_time)?);
        let variables = [("p10", &*p10), ("p50", &*p50), ("p90", &*p90)];
        Some(self.texts.say_with("band", &variables))
    }

    /// The last forecast, where every wave that is not done has one.
    fn finish_of_all(&self, rollout: &v1::Rollout) -> String {
        let climbs = |it: &&v1::Wave| it.state() != v1::WaveState::Passed;
        let all: Option<Vec<&v1::Forecast>> =
            rollout.waves.iter().filter(climbs).map(|it| it.finish.as_ref()).collect();
        let last = all.and_then(|all| {
            all.into_iter().max_by_key(|it| seconds!(it.p50_time).unwrap_or_default())
        });
        let band = last.and_then(|it| self.band(it));
        band.unwrap_or_else(|| self.texts.say("no-forecast"))
    }

    fn waiting(&self, waiting: &v1::Waiting) -> WaitingRow {
        let v1::Waiting { by, what, reason, command, until_time, .. } = waiting;
        let asked = self.texts.asked(what);
        let told = [("by", &**by), ("what", &asked), ("reason", reason)];
        let told = if reason.is_empty() {
            self.texts.say_with("waiting-bare", &[("by", by), ("what", &asked)])
        } else {
            self.texts.say_with("waiting-one", &told)
        };
        WaitingRow {
            by: by.clone(),
            what: what.clone(),
            asked,
            told,
            until: seconds!(until_time).map_or_else(String::new, |at| self.time(at)),
            has_changed: waiting.evidence_changed,
            evidence: waiting.evidence.clone(),
            can_name: !command.is_empty(),
        }
    }

    fn stop(&self, stop: &v1::Stop) -> String {
        if stop.effective {
            return self.texts.say("stop-effective");
        }
        let may = self.number(stop.may_still_open);
        let nodes = stop.unacknowledged.join(", ");
        self.texts.say_with("stop-under-way", &[("may", &may), ("nodes", &nodes)])
    }

    fn aside(&self, aside: &Aside) -> AsideRow {
        let kind = match aside.part {
            Part::Message | Part::Lost => "message",
            Part::Mailbox => "mailbox",
            Part::Opened => "opened",
        };
        let known = |says: &str, other: &str| {
            let name = format!("aside-{kind}-{}-{says}", aside.code);
            self.texts.say(if self.texts.has(&name) { &name } else { other })
        };
        AsideRow {
            code: aside.code.clone(),
            what: known("what", "aside-other-what"),
            count: self.texts.number(aside.count),
            nodes: aside.nodes.join(", "),
            next: match aside.part {
                Part::Message => self.texts.say("aside-message-do"),
                Part::Lost => self.texts.say("aside-lost-do"),
                Part::Mailbox | Part::Opened => known("do", "aside-other-do"),
            },
        }
    }

    fn wave(&self, rollout: &v1::Rollout, wave: &v1::Wave, bars: Vec<Bar>) -> WaveRow {
        let rung = |level: u32| {
            let place = usize::try_from(level).ok()?.checked_sub(1)?;
            rollout.ladder.get(place).map(|rung| rung.name.clone())
        };
        let (state, tone) = wave_state(wave.state());
        WaveRow {
            name: wave.name.clone(),
            state: self.texts.say(state),
            tone,
            level: rung(wave.level).unwrap_or_else(|| "–".to_owned()),
            open: self.part(u64::from(wave.open), u64::from(wave.planned)),
            prepared: self.number(wave.prepared),
            quarantined: self.number(wave.quarantined),
            finish: wave
                .finish
                .as_ref()
                .and_then(|it| self.band(it))
                .unwrap_or_else(|| "–".to_owned()),
            marks: self.marks(wave, &rung),
            bars,
        }
    }

    fn marks(
        &self,
        wave: &v1::Wave,
        rung: &dyn Fn(u32) -> Option<String>,
    ) -> Vec<String> {
        let both = [("overridden", &wave.overridden), ("hurried", &wave.hurried)];
        let marks = both.into_iter().filter(|(_, levels)| !levels.is_empty());
        let told = marks.map(|(name, levels)| {
            let levels: Vec<String> = levels.iter().filter_map(|it| rung(*it)).collect();
            self.texts.say_with(name, &[("levels", &levels.join(", "))])
        });
        told.collect()
    }

    fn emergency(&self, emergency: &v1::Emergency) -> String {
        let v1::Emergency { by, approved_by, reason, wave, until_time, .. } = emergency;
        let until = seconds!(until_time).map_or_else(String::new, |at| self.time(at));
        let all = self.texts.say("emergency-all");
        let wave = if wave.is_empty() { &all } else { wave };
        let told = [("wave", &**wave), ("until", &until), ("by", by), ("reason", reason)];
        let mut text = self.texts.say_with("emergency-one", &told);
        if !approved_by.is_empty() {
            text.push(' ');
            text += &self.texts.say_with("emergency-approved", &[("by", approved_by)]);
        }
        text
    }

    /// Of a wave that is under way, or has passed and gives reason to stop all the same.
    fn gate(&self, wave: &v1::Wave) -> Option<GateBlock> {
        let gate = wave.gate.as_ref()?;
        let stops = ["halt", "isolate"].contains(&gate.verdict.as_str());
        if wave.state() == v1::WaveState::Passed && !stops {
            return None;
        }
        let (verdict, tone) = match gate.verdict.as_str() {
            "expand" => ("verdict-expand", "good"),
            "hold" => ("verdict-hold", "going"),
            "isolate" => ("verdict-isolate", "bad"),
            _ => ("verdict-halt", "bad"),
        };
        Some(GateBlock {
            wave: wave.name.clone(),
            verdict: self.texts.say(verdict),
            tone,
            reasons: (gate.reasons.iter())
                .map(|it| Reason::of(&it.code, &it.text, self.texts))
                .collect(),
            signals: gate.signals.iter().map(|it| self.signal(it)).collect(),
            unmeasured: (gate.unmeasured.iter())
                .map(|it| self.texts.signal(it))
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    fn signal(&self, signal: &v1::Signal) -> SignalRow {
        let (standing, tone) = match signal.standing.as_str() {
            "passed" => ("verdict-signal-passed", "good"),
            "tripped" => ("verdict-signal-tripped", "bad"),
            _ => ("verdict-signal-open", "going"),
        };
        SignalRow {
            name: self.texts.signal(&signal.name),
            code: signal.name.clone(),
            standing: self.texts.say(standing),
            tone,
            failed: self.number(signal.failed),
            mature: self.number(signal.mature),
            opened: self.number(signal.opened),
            pass_at: signal.pass_at.map_or_else(|| "–".to_owned(), |it| self.number(it)),
            trip_at: self.number(signal.trip_at),
            missing: self.number(signal.missing),
        }
    }

    fn node(&self, node: &v1::Node) -> NodeRow {
        let (state, tone) = node_state(node.state());
        let heard = seconds!(node.heard_time).map(|at| {
            let ago = u64::try_from(self.now - at).unwrap_or_default();
            self.texts.say_of("ago", ago)
        });
        let pace = node.vitals.as_ref().and_then(|it| it.pace.as_ref());
        NodeRow {
            name: node.name.clone(),
            state: self.texts.say(state),
            tone,
            heard: heard.unwrap_or_else(|| self.texts.say("never")),
            open: self.part(u64::from(node.open), u64::from(node.planned)),
            prepared: self.number(node.prepared),
            quarantined: self.number(node.quarantined),
            failed: self.number(node.failed),
            rate: pace.map_or_else(
                || "–".to_owned(),
                |it| format!("{}/s", it.millis_per_second / 1_000),
            ),
        }
    }
}

fn state_text(state: v1::RolloutState) -> &'static str {
    match state {
        v1::RolloutState::Unspecified | v1::RolloutState::Running => "state-running",
        v1::RolloutState::Paused => "state-paused",
        v1::RolloutState::Halted => "state-halted",
        v1::RolloutState::Aborted => "state-aborted",
        v1::RolloutState::Finished => "state-finished",
    }
}

fn state_tone(state: v1::RolloutState) -> &'static str {
    match state {
        v1::RolloutState::Unspecified | v1::RolloutState::Running => "going",
        v1::RolloutState::Paused
        | v1::RolloutState::Halted
        | v1::RolloutState::Aborted => "bad",
        v1::RolloutState::Finished => "good",
    }
}

fn wave_state(state: v1::WaveState) -> (&'static str, &'static str) {
    match state {
        v1::WaveState::Unspecified | v1::WaveState::Waiting => {
            ("wave-state-waiting", "quiet")
        }
        v1::WaveState::Opening => ("wave-state-opening", "going"),
        v1::WaveState::Between => ("wave-state-between", "going"),
        v1::WaveState::Passed => ("wave-state-passed", "good"),
        v1::WaveState::HeldBack => ("wave-state-held-back", "bad"),
    }
}

fn node_state(state: v1::NodeState) -> (&'static str, &'static str) {
    match state {
        v1::NodeState::Working => ("node-state-working", "good"),
        v1::NodeState::Unspecified | v1::NodeState::NoWorker => {
            ("node-state-no-worker", "bad")
        }
        v1::NodeState::Silent => ("node-state-silent", "bad"),
        v1::NodeState::Isolated => ("node-state-isolated", "bad"),
        v1::NodeState::HeldBack => ("node-state-held-back", "bad"),
        v1::NodeState::Recounting => ("node-state-recounting", "going"),
        v1::NodeState::LeftOut => ("node-state-left-out", "bad"),
        v1::NodeState::TurnedAway => ("node-state-turned-away", "bad"),
        v1::NodeState::Ahead => ("node-state-ahead", "bad"),
    }
}
