//! Diagnosis: in two lines, what is going on and what to type.
//!
//! # Invariants
//!
//! * Whatever does not move has a reason here, and somebody who can move it.
//! * A stop that has not reached every node is never shown as effective.

use tidegate_wire::v1::{
    NodeState, Rollout, RolloutState, Stop, Waiting, Wave, WaveState, Why,
};

use super::held::Held;
use super::{pace, percent, say};
use crate::console::{Tone, safe, thousands};
use crate::exit::Exit;

/// The code of a held gate that asks for a person.
const NEEDS_PERSON: &str = "needs-person";

/// What is going on and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// What is going on, with its numbers.
    pub(crate) status: String,
    /// What to do, ready to type.
    pub(crate) action: String,
    /// How it looks.
    pub(crate) tone: Tone,
    /// What `status --test` ends with.
    pub(crate) test: Exit,
}

impl Diagnosis {
    /// Finds what matters most about `rollout`.
    pub(crate) fn of(rollout: &Rollout) -> Self {
        let own = match rollout.state() {
            RolloutState::Running => {
                return Self::of_running(rollout).with_emergency(rollout);
            }
            RolloutState::Paused => Self::stopped(
                reasons(&rollout.why).unwrap_or_else(|| "paused".to_owned()),
                &in_order(&steps(rollout, &held_back(rollout))),
            ),
            RolloutState::Halted => Self::halted(rollout),
            RolloutState::Aborted => Self {
                test: Exit::Done,
                ..Self::stopped(
                    "aborted: it does not go on; what is open stays open".to_owned(),
                    "tidegate report",
                )
            },
            RolloutState::Finished => Self::finished(rollout),
            RolloutState::Unspecified => Self {
                status: "the coordinator tells a state this program does not know"
                    .to_owned(),
                action: "use a program of the coordinator's version".to_owned(),
                tone: Tone::Warn,
                test: Exit::Stale,
            },
        };
        own.with_stop(rollout)
    }

    /// Of a coordinator that has no plan yet, with who waits to start one.
    pub(crate) fn of_no_plan(waiting: &[Waiting]) -> Self {
        let waits: Vec<String> = waiting.iter().map(super::status::waits).collect();
        let (status, action) = if waits.is_empty() {
            let action = "tidegate plan --inventory … --policy … --out FILE; then tidegate start FILE";
            ("no plan has been applied yet".to_owned(), action.to_owned())
        } else {
            let asks = waits.join("; ");
            let status = format!("no plan has been applied yet; waits: {asks}");
            (status, format!("tidegate approve {}", safe(command(waiting))))
        };
        Self { status, action, tone: Tone::Warn, test: Exit::Refused }
    }

    /// Whoever looks shall know that people answer for what passes now.
    fn with_emergency(mut self, rollout: &Rollout) -> Self {
        if rollout.emergency.is_some() {
            self.status.push_str("; under the emergency profile");
        }
        self
    }

    /// The status without the state's name at its beginning.
    pub(crate) fn details(&self) -> &str {
        ["finished: ", "halted by the gate: ", "aborted: ", "paused: ", "paused; "]
            .iter()
            .find_map(|name| self.status.strip_prefix(name))
            .unwrap_or(&self.status)
    }

    fn stopped(status: String, action: &str) -> Self {
        Self { status, action: action.to_owned(), tone: Tone::Bad, test: Exit::Changes }
    }

    fn halted(rollout: &Rollout) -> Self {
        // Damage is found in more than the wave that halted first: each would halt again.
        let halts =
            |wave: &&Wave| wave.gate.as_ref().is_some_and(|it| it.verdict == "halt");
        let waves = rollout.waves.iter().filter(halts);
        let waves: Vec<_> =
            waves.map(|wave| format!("wave {}", safe(&wave.name))).collect();
        let held_back = held_back(rollout);
        let action = if !waves.is_empty() {
            format!("tidegate quarantine list; then {}", in_order(&anew(&waves)))
        } else if !held_back.is_empty() {
            format!("repair the cause; then {}", in_order(&steps(rollout, &held_back)))
        } else {
            // A verdict is not told for ever; the events are.
            let again = in_order(&anew(&["wave WAVE".to_owned()]));
            format!("tidegate events (the last halt names its wave); then {again}")
        };
        let status =
            reasons(&rollout.why).unwrap_or_else(|| "halted by the gate".to_owned());
        Self::stopped(status, &action)
    }

    fn finished(rollout: &Rollout) -> Self {
        let held = Held::of(rollout);
        let out = nodes_in(rollout, NodeState::Isolated);
        let mut status =
            "finished: every wave stands on the top of the ladder".to_owned();
        if held.all() > 0 {
            say!(status, "; {held}");
        } else if let Some(nodes) = &out {
            say!(status, "; isolated: {nodes}");
        }
        let set_aside = rollout.waves.iter().any(|wave| wave.quarantined > 0);
        let back = steps(rollout, &held_back(rollout));
        let action = match first_in(rollout, NodeState::Isolated) {
            Some(node) => repair(&node),
            None if !back.is_empty() => {
                format!("when it is repaired: {}", in_order(&back))
            }
            None if set_aside => "tidegate quarantine list".to_owned(),
            None => "tidegate report".to_owned(),
        };
        let bad = held.all() > 0 || out.is_some();
        let tone = if bad { Tone::Warn } else { Tone::Good };
        Self { status, action, tone, test: Exit::Done }
    }

    fn of_running(rollout: &Rollout) -> Self {
        let warn = |status: String, action: String, test| Self {
            status,
            action,
            tone: Tone::Warn,
            test,
        };
        let held = rollout.waves.iter().find(|wave| wave.state() == WaveState::HeldBack);
        if let Some(wave) = held {
            let name = safe(&wave.name);
            let status = format!("wave {name} is re-closed and waits for a person");
            let action = in_order(&steps(rollout, &held_back(rollout)));
            return warn(status, action, Exit::Changes);
        }
        if rollout.why.iter().any(|why| why.code == NEEDS_PERSON) {
            let status = format!(
                "the gate asks for a person: {}",
                reasons(&rollout.why).unwrap_or_default()
            );
            return warn(status, ask_a_person(rollout), Exit::Changes);
        }
        if let Some(nodes) = nodes_in(rollout, NodeState::NoWorker) {
            let status = format!("no worker has joined for {nodes}: nothing moves there");
            let action = "on that node: tidegate worker --config worker.toml";
            return warn(status, action.to_owned(), Exit::Stale);
        }
        if let Some(nodes) = nodes_in(rollout, NodeState::Silent) {
            let status = format!("silent: {nodes}; open mailboxes there stay open");
            let action = "is the worker running there, and can it reach the coordinator?";
            return warn(status, action.to_owned(), Exit::Stale);
        }
        let progress = current(rollout).map_or_else(
            || "every wave stands on the top of the ladder".to_owned(),
            |wave| progress(rollout, wave),
        );
        if let Some(nodes) = nodes_in(rollout, NodeState::Isolated) {
            let status =
                format!("isolated by the gate: {nodes}; the others go on: {progress}");
            let first = first_in(rollout, NodeState::Isolated).unwrap_or_default();
            return warn(status, repair(&first), Exit::Done);
        }
        if let Some(nodes) = nodes_in(rollout, NodeState::HeldBack) {
            let status = format!("re-closed: {nodes}; the others go on: {progress}");
            let action = in_order(&steps(rollout, &held_back(rollout)));
            return warn(status, format!("when it is repaired: {action}"), Exit::Done);
        }
        if let Some((why, action)) = rollout.why.iter().find_map(lift) {
            let status = format!("{progress}; waits: {}", safe(&why.text));
            let action = override_by_hand(rollout).unwrap_or_else(|| action.to_owned());
            return warn(status, action, Exit::Changes);
        }
        if let Some(nodes) = pace::stopped(rollout) {
            let status =
                format!("{progress}; nobody is let in on {nodes}: logins are too late");
            let action = "none; it goes on when logins are quicker (tidegate status)";
            return warn(status, action.to_owned(), Exit::Done);
        }
        let own = |why: &&Why| why.code != NOT_APPROVED;
        let status = match rollout.why.iter().find(own) {
            Some(why) => format!("{progress}; waits: {}", safe(&why.text)),
            None => progress,
        };
        let action = "none; it goes on by itself (tidegate watch)".to_owned();
        Self { status, action, tone: Tone::Good, test: Exit::Done }
    }

    fn with_stop(mut self, rollout: &Rollout) -> Self {
        let Some(stop) = rollout.stop.as_ref().filter(|stop| !stop.effective) else {
            return self;
        };
        say!(self.status, "; {}", reached(stop));
        self
    }
}

/// How far a stop has come that is not effective yet, on one line.
pub(crate) fn reached(stop: &Stop) -> String {
    let open = thousands(stop.may_still_open);
    let waited: Vec<&str> = stop.unacknowledged.iter().map(String::as_str).collect();
    let stopped = stop.nodes.saturating_sub(u32::try_from(waited.len()).unwrap_or(0));
    let mut line = if stop.nodes == 0 {
        format!("not effective yet on {}", safe(&waited.join(", ")))
    } else {
        format!("{stopped} of {} nodes stopped", stop.nodes)
    };
    let unreachable = |node: &&str| stop.unreachable.iter().any(|it| it == node);
    let (lost, late): (Vec<&str>, Vec<&str>) = waited.into_iter().partition(unreachable);
    if !late.is_empty() && stop.nodes > 0 {
        say!(line, "; not yet {}", safe(&late.join(", ")));
    }
    if !lost.is_empty() {
        say!(line, "; {} unreachable ({})", lost.len(), safe(&lost.join(", ")));
    }
    say!(line, ": at most {open} mailboxes may still open");
    line
}

/// What somebody can do about a reason that does not pass by itself.
fn lift(why: &Why) -> Option<(&Why, &'static str)> {
    let action = match why.code.as_str() {
        "disk-low" => "make room on that node's disk; then it goes on by itself",
        "unknown-too-many" => "start the silent workers again; then it goes on by itself",
        "only-synthetic" => "nothing but users who log in; then it goes on by itself",
        "no-source" => "let that node measure it (tidegate doctor); then it goes on",
        "no-answer" => "let the external source answer; then it goes on by itself",
        _ => return None,
    };
    Some((why, action))
}

/// The wave that is opening, or else the next.
pub(crate) fn current(rollout: &Rollout) -> Option<&Wave> {
    let find = |state| rollout.waves.iter().find(|wave| wave.state() == state);
    find(WaveState::Opening)
        .or_else(|| find(WaveState::Between))
        .or_else(|| find(WaveState::Waiting))
}

/// The name of a level on the ladder.
pub(crate) fn level_name(rollout: &Rollout, level: u32) -> String {
    let rung = usize::try_from(level).ok().and_then(|level| level.checked_sub(1));
    rung.and_then(|rung| rollout.ladder.get(rung))
        .map_or_else(|| "held".to_owned(), |rung| safe(&rung.name))
}

fn progress(rollout: &Rollout, wave: &Wave) -> String {
    let name = safe(&wave.name);
    if wave.state() == WaveState::Waiting {
        return format!(
            "wave {name} is being prepared: {} of {}",
            thousands(wave.prepared + wave.quarantined),
            thousands(wave.planned)
        );
    }
    if wave.state() == WaveState::Between {
        return format!(
            "wave {name} has passed {}: {} of {} open ({})",
            level_name(rollout, wave.passed),
            thousands(wave.open),
            thousands(wave.planned),
            percent(wave.open, wave.planned)
        );
    }
    format!(
        "wave {name} opens for {}: {} of {} ({})",
        level_name(rollout, wave.level),
        thousands(wave.opened),
        thousands(wave.planned),
        percent(wave.opened, wave.planned)
    )
}

/// What to type, in order, so that these parts may open again.
pub(crate) fn steps(rollout: &Rollout, parts: &[String]) -> Vec<String> {
    let resume = |part: &String| format!("tidegate resume {part} --reason '…'");
    let mut steps: Vec<String> = parts.iter().map(resume).collect();
    if rollout.why.iter().any(|why| why.code == "frozen") {
        steps.push("tidegate thaw --reason '…' (a second person)".to_owned());
    }
    match rollout.state() {
        RolloutState::Paused | RolloutState::Halted => {
            steps.push("tidegate resume --reason '…'".to_owned());
        }
        // Nothing of it opens any more.
        RolloutState::Aborted => steps.clear(),
        RolloutState::Unspecified | RolloutState::Running | RolloutState::Finished => {}
    }
    steps
}

/// What to type, in order, so that parts prove themselves anew. Re-closing them pauses.
fn anew(parts: &[String]) -> Vec<String> {
    let paused = Rollout { state: RolloutState::Paused.into(), ..Rollout::default() };
    let closed = parts.iter().map(|part| format!("tidegate reclose {part} --reason '…'"));
    closed.chain(steps(&paused, parts)).collect()
}

/// What to do about a wave that needs a person.
fn ask_a_person(rollout: &Rollout) -> String {
    if let Some(action) = override_by_hand(rollout) {
        return action;
    }
    if current(rollout).is_some_and(|wave| wave.quarantined > 0) {
        let again = "tidegate reclose mailbox ADDRESS --reason '…'; then \
                     tidegate resume mailbox ADDRESS --reason '…'";
        return format!("tidegate quarantine list; repair the cause; then {again}");
    }
    "tidegate events; then `tidegate pause` or `tidegate reclose wave …`".to_owned()
}

/// The command that lets the present wave pass, where it is held for want of samples alone.
fn override_by_hand(rollout: &Rollout) -> Option<String> {
    let wave = rollout.waves.iter().find(|wave| {
        wave.state() == WaveState::Opening
            && wave.gate.as_ref().is_some_and(|gate| gate.overridable)
    })?;
    let name = safe(&wave.name);
    Some(format!(
        "tidegate why wave {name}; if its mailboxes are good all the same: \
         tidegate expand {name} --reason '…'"
    ))
}

/// What to do about a node that the gate took out.
fn repair(node: &str) -> String {
    format!("repair {node}; then {}", in_order(&anew(&[format!("node {node}")])))
}

fn in_order(steps: &[String]) -> String {
    steps.join("; then ")
}

/// The parts that were re-closed and wait for a person: `wave canary-1`, `node stor-02`.
fn held_back(rollout: &Rollout) -> Vec<String> {
    let waves = rollout.waves.iter().filter(|wave| wave.state() == WaveState::HeldBack);
    let nodes = rollout.nodes.iter().filter(|node| node.state() == NodeState::HeldBack);
    let waves = waves.map(|wave| format!("wave {}", safe(&wave.name)));
    waves.chain(nodes.map(|node| format!("node {}", safe(&node.name)))).collect()
}

fn first_in(rollout: &Rollout, state: NodeState) -> Option<String> {
    let node = rollout.nodes.iter().find(|node| node.state() == state)?;
    Some(safe(&node.name))
}

/// What approves the first of these.
fn command(waiting: &[Waiting]) -> &str {
    waiting.first().map_or("", |it| it.command.as_str())
}

/// The names of nodes in this state.
pub(crate) fn nodes_in(rollout: &Rollout, state: NodeState) -> Option<String> {
    let nodes = rollout.nodes.iter().filter(|node| node.state() == state);
    let names: Vec<String> = nodes.map(|node| safe(&node.name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The code of what waits for a second person, which is shown beside.
pub(crate) const NOT_APPROVED: &str = "not-approved";

/// The reasons as text, if there are any.
fn reasons(why: &[Why]) -> Option<String> {
    let why = why.iter().filter(|why| why.code != NOT_APPROVED);
    let texts: Vec<String> = why.map(|why| safe(&why.text)).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use tidegate_wire::v1::{Gate, Node, NodeState, Pace, Rollout, RolloutState, Stop};
    use tidegate_wire::v1::{Rung, WaveState, Why};
    use tidegate_wire::v1::{Vitals, Wave};

    use super::Diagnosis;

    #[test]
    fn a_running_rollout_says_how_far_it_is_and_what_it_waits_for() {
        let why = Why { code: "soak-running".into(), text: "soaked 1 s of 2 s".into() };

        check(
            &Rollout { why: vec![why], ..running() },
            &expect![[r"
            wave canary-1 opens for webmail: 50 of 200 (25.0 %); waits: soaked 1 s of 2 s
            none; it goes on by itself (tidegate watch)
            0
        "]],
        );
    }

    #[test]
    fn a_stop_counts_the_nodes_and_names_those_that_are_not_heard() {
        let stop = Stop {
            unacknowledged: vec!["stor-02".into(), "stor-07".into(), "stor-09".into()],
            unreachable: vec!["stor-02".into(), "stor-09".into()],
            may_still_open: 81,
            nodes: 40,
            ..Stop::default()
        };

        expect![[r"
            37 of 40 nodes stopped; not yet stor-07; 2 unreachable (stor-02, stor-09): at most 81 mailboxes may still open
        "]]
        .assert_eq(&format!("{}\n", super::reached(&stop)));
    }

    #[test]
    fn a_stop_that_has_not_reached_every_node_is_not_shown_as_effective() {
        let stop = Stop {
            effective: false,
            unacknowledged: vec!["stor-02".into()],
            may_still_open: 12,
            ..Stop::default()
        };
        let paused = RolloutState::Paused.into();

        check(
            &Rollout { state: paused, stop: Some(stop), ..running() },
            &expect![[r"
            paused; not effective yet on stor-02: at most 12 mailboxes may still open
            tidegate resume --reason '…'
            2
        "]],
        );
    }

    #[test]
    fn a_node_that_lets_nobody_in_because_logins_are_late_is_named() {
        let pace = Pace { why: "stopped".into(), ..Pace::default() };
        let vitals = Some(Vitals { pace: Some(pace), ..Vitals::default() });
        let node = Node { vitals, ..node("stor-02", NodeState::Working) };

        check(
            &Rollout { nodes: vec![node], ..running() },
            &expect![[r"
            wave canary-1 opens for webmail: 50 of 200 (25.0 %); nobody is let in on stor-02: logins are too late
            none; it goes on when logins are quicker (tidegate status)
            0
        "]],
        );
    }

    #[test]
    fn a_node_without_a_worker_is_somebodys_business() {
        let node = node("stor-03", NodeState::NoWorker);

        check(
            &Rollout { nodes: vec![node], ..running() },
            &expect![[r"
            no worker has joined for stor-03: nothing moves there
            on that node: tidegate worker --config worker.toml
            4
        "]],
        );
    }

    #[test]
    fn a_full_disk_is_somebodys_business_even_behind_a_soak() {
        let why = |code: &str, text: &str| Why { code: code.into(), text: text.into() };
        let soak = why("soak-running", "soaked 1 s of 2 s");
        let disk = why("disk-low", "stor-02 has 3 % of its disk free, needs 5 %");

        check(
            &Rollout { why: vec![soak, disk], ..running() },
            &expect![[r"
            wave canary-1 opens for webmail: 50 of 200 (25.0 %); waits: stor-02 has 3 % of its disk free, needs 5 %
            make room on that node's disk; then it goes on by itself
            2
        "]],
        );
    }

    #[test]
    fn a_wave_that_waits_for_its_schedule_needs_nobody() {
        let text =
            "wave `canary-1` waits for its schedule until 2026-01-26 14:00 UTC (mail)";
        let why = Why { code: "scheduled".into(), text: text.into() };
        let between = WaveState::Between.into();
        let wave = Wave { state: between, passed: 1, open: 200, ..wave() };

        check(
            &Rollout { why: vec![why], waves: vec![wave], ..running() },
            &expect![[r"
                wave canary-1 has passed webmail: 200 of 200 open (100.0 %); waits: wave `canary-1` waits for its schedule until 2026-01-26 14:00 UTC (mail)
                none; it goes on by itself (tidegate watch)
                0
            "]],
        );
    }

    #[test]
    fn an_isolated_node_does_not_stop_the_others() {
        let node = node("stor-02", NodeState::Isolated);

        check(
            &Rollout { nodes: vec![node], ..running() },
            &expect![[r"
            isolated by the gate: stor-02; the others go on: wave canary-1 opens for webmail: 50 of 200 (25.0 %)
            repair stor-02; then tidegate reclose node stor-02 --reason '…'; then tidegate resume node stor-02 --reason '…'; then tidegate resume --reason '…'
            0
        "]],
        );
    }

    #[test]
    fn a_wave_that_cannot_pass_for_what_was_set_aside_says_how_to_try_that_again() {
        let wave = Wave { quarantined: 1, ..wave() };
        let why =
            Why { code: "needs-person".into(), text: "a person must decide".into() };

        check(
            &Rollout { waves: vec![wave], why: vec![why], ..running() },
            &expect![[r"
            the gate asks for a person: a person must decide
            tidegate quarantine list; repair the cause; then tidegate reclose mailbox ADDRESS --reason '…'; then tidegate resume mailbox ADDRESS --reason '…'
            2
        "]],
        );
    }

    #[test]
    fn a_hold_for_want_of_samples_names_the_command_that_overrides_it() {
        let gate = Gate { overridable: true, ..Gate::default() };
        let wave = Wave { opened: 200, open: 200, gate: Some(gate), ..wave() };
        let text = "0 of 1 mailboxes used by their users";
        let why = Why { code: "only-synthetic".into(), text: text.into() };

        check(
            &Rollout { waves: vec![wave], why: vec![why], ..running() },
            &expect![[r"
                wave canary-1 opens for webmail: 200 of 200 (100.0 %); waits: 0 of 1 mailboxes used by their users
                tidegate why wave canary-1; if its mailboxes are good all the same: tidegate expand canary-1 --reason '…'
                2
            "]],
        );
    }

    #[test]
    fn a_halt_whose_verdict_is_no_longer_told_still_says_how_to_go_on() {
        let halted = RolloutState::Halted.into();

        check(
            &Rollout { state: halted, ..running() },
            &expect![[r"
            halted by the gate
            tidegate events (the last halt names its wave); then tidegate reclose wave WAVE --reason '…'; then tidegate resume wave WAVE --reason '…'; then tidegate resume --reason '…'
            2
        "]],
        );
    }

    #[test]
    fn every_wave_that_would_halt_again_is_named() {
        let halts = |name: &str| {
            let gate = Gate { verdict: "halt".into(), ..Default::default() };
            Wave { name: name.into(), gate: Some(gate), ..wave() }
        };
        let state = RolloutState::Halted.into();
        let waves = vec![halts("one"), wave(), halts("two")];

        check(
            &Rollout { state, waves, ..running() },
            &expect![[r"
            halted by the gate
            tidegate quarantine list; then tidegate reclose wave one --reason '…'; then tidegate reclose wave two --reason '…'; then tidegate resume wave one --reason '…'; then tidegate resume wave two --reason '…'; then tidegate resume --reason '…'
            2
        "]],
        );
    }

    #[test]
    fn what_was_set_aside_is_named_at_the_end() {
        let wave = Wave { open: 197, quarantined: 3, ..wave() };

        check(
            &Rollout {
                state: RolloutState::Finished.into(),
                waves: vec![wave],
                ..running()
            },
            &expect![[r"
                finished: every wave stands on the top of the ladder; 3 mailboxes are still held: 3 set aside
                tidegate quarantine list
                0
            "]],
        );
    }

    #[test]
    fn a_finished_rollout_names_the_mailboxes_that_an_isolated_node_still_holds() {
        let node = Node { planned: 9, ..node("stor-02", NodeState::Isolated) };
        let finished = RolloutState::Finished.into();
        let waves = vec![Wave { open: 191, ..wave() }];

        check(
            &Rollout { state: finished, nodes: vec![node], waves, ..running() },
            &expect![[r"
                finished: every wave stands on the top of the ladder; 9 mailboxes are still held: 9 on isolated stor-02
                repair stor-02; then tidegate reclose node stor-02 --reason '…'; then tidegate resume node stor-02 --reason '…'; then tidegate resume --reason '…'
                0
            "]],
        );
    }

    #[test]
    fn a_re_closed_wave_of_a_paused_rollout_is_resumed_before_the_rollout() {
        let wave = Wave { state: WaveState::HeldBack.into(), ..wave() };
        let paused = RolloutState::Paused.into();

        check(
            &Rollout { state: paused, waves: vec![wave], ..running() },
            &expect![[r"
                paused
                tidegate resume wave canary-1 --reason '…'; then tidegate resume --reason '…'
                2
            "]],
        );
    }

    #[test]
    fn a_re_closed_node_is_named_even_if_no_wave_is_left_to_open() {
        let node = node("stor-02", NodeState::HeldBack);
        let wave = Wave { state: WaveState::Passed.into(), ..wave() };

        check(
            &Rollout { nodes: vec![node], waves: vec![wave], ..running() },
            &expect![[r"
                re-closed: stor-02; the others go on: every wave stands on the top of the ladder
                when it is repaired: tidegate resume node stor-02 --reason '…'
                0
            "]],
        );
    }

    fn running() -> Rollout {
        Rollout {
            name: "practice".into(),
            state: RolloutState::Running.into(),
            waves: vec![wave()],
            nodes: vec![node("stor-01", NodeState::Working)],
            ladder: vec![Rung { name: "webmail".into(), ..Rung::default() }],
            planned: 200,
            ..Rollout::default()
        }
    }

    fn wave() -> Wave {
        Wave {
            name: "canary-1".into(),
            state: WaveState::Opening.into(),
            level: 1,
            planned: 200,
            prepared: 200,
            opened: 50,
            ..Wave::default()
        }
    }

    fn node(name: &str, state: NodeState) -> Node {
        Node { name: name.into(), state: state.into(), ..Node::default() }
    }

    fn check(rollout: &Rollout, expected: &Expect) {
        let Diagnosis { status, action, test, .. } = Diagnosis::of(rollout);
        expected.assert_eq(&format!("{status}\n{action}\n{}\n", test.code()));
    }
}
