//! The calendar: steps begin in their windows, and what happens when one ends.
#![expect(clippy::wildcard_enum_match_arm, reason = "of a story only some records count")]

use tidegate_core::policy::calendar::{AtEnd, Bearing, Rule};
use tidegate_core::policy::{Policy, Window};
use tidegate_core::rollout::{Event, Operate, Phase, Record, Verb};
use tidegate_core::time::{Span, Timestamp};

use super::fleet::{Evening, small_policy};

#[test]
fn no_step_begins_outside_of_its_window_and_all_are_taken_within() {
    let begin = Evening::new(3, 120).now;
    let spans = [(60, 90), (200, 4_000)].map(|(from, to)| span(begin, from, to));
    let mut evening = Evening::under(with(rule(&spans, AtEnd::Finish)));

    evening.pass(20);
    let before = evening.open();
    let why = evening.rollout.status(evening.now).why[0].to_string();
    evening.until(6_000, Evening::is_finished);

    assert_eq!(before, 0);
    assert!(why.contains("`all-1` waits for its window until"), "{why}");
    let begun = evening.story(|record| match record {
        Record::LevelAllowed { at, .. } => Some(*at),
        _ => None,
    });
    let inside = |at: &Timestamp| spans.iter().any(|it| it.from <= *at && *at < it.to);
    assert!(begun.iter().all(inside), "{begun:?} in {spans:?}");
    assert!(begun.len() > 3);
}

#[test]
fn a_step_that_would_not_be_done_before_the_window_ends_waits_for_the_next() {
    let mut open = Evening::new(3, 120);
    open.until(3_000, Evening::is_finished);
    let took = open.story(|record| match record {
        Record::LevelAllowed { at, .. } | Record::Expanded { at, .. } => Some(*at),
        _ => None,
    });
    // Right behind the first verdict, so that the second step cannot be done in it.
    let (begin, first) = (open.started, took[1].since(open.started));
    let ends = first.millis() / 1_000 + 1;
    let spans = [span(begin, 0, ends), span(begin, ends + 500, ends + 9_000)];
    let mut evening = Evening::under(with(rule(&spans, AtEnd::Finish)));

    evening.until(6_000, Evening::is_finished);

    let begun = evening.story(|record| match record {
        Record::LevelAllowed { at, .. } => Some(*at),
        _ => None,
    });
    assert!(begun[0] < spans[0].to);
    assert!(begun[1] >= spans[1].from, "{begun:?} in {spans:?}");
}

#[test]
fn a_forecast_passes_over_windows_that_a_step_does_not_fit() {
    let mut open = Evening::new(3, 120);
    open.until(3_000, Evening::is_finished);
    let took = open.story(|record| match record {
        Record::LevelAllowed { at, .. } | Record::Expanded { at, .. } => Some(*at),
        _ => None,
    });
    let (begin, first) = (open.started, took[1].since(open.started));
    let ends = first.millis() / 1_000 + 1;
    let short = span(begin, ends + 100, ends + 101);
    let spans = [span(begin, 0, ends), short, span(begin, ends + 500, ends + 9_000)];
    let mut evening = Evening::under(with(rule(&spans, AtEnd::Finish)));

    let behind = begin + Span::from_secs(ends + 20);
    evening.until(6_000, |evening| evening.now >= behind);
    let foretold = evening.rollout.forecasts(evening.now)[0];
    evening.until(6_000, Evening::is_finished);

    let foretold = foretold.expect("a step has passed, and all is verified");
    assert!(foretold.p10 > spans[2].from, "{foretold:?} in {spans:?}");
    let first_wave = evening.story(|record| match record {
        Record::Expanded { evidence, at } if evidence.wave.index() == 0 => Some(*at),
        _ => None,
    });
    assert!(first_wave.last() > Some(&spans[2].from), "{first_wave:?}");
}

#[test]
fn a_step_that_no_window_is_long_enough_for_waits_and_says_so() {
    let mut open = Evening::new(3, 120);
    open.until(3_000, Evening::is_finished);
    let took = open.story(|record| match record {
        Record::LevelAllowed { at, .. } | Record::Expanded { at, .. } => Some(*at),
        _ => None,
    });
    let (begin, first) = (open.started, took[1].since(open.started));
    let ends = first.millis() / 1_000 + 1;
    let short =
        (1..20).map(|night| span(begin, ends + 500 * night, ends + 500 * night + 1));
    let spans: Vec<Window> = [span(begin, 0, ends)].into_iter().chain(short).collect();
    let mut evening = Evening::under(with(rule(&spans, AtEnd::Finish)));

    evening.pass(3_000);

    let begun = evening.story(|record| match record {
        Record::LevelAllowed { at, .. } => Some(*at),
        _ => None,
    });
    let why = evening.rollout.status(evening.now).why;
    let why: Vec<String> = why.iter().map(ToString::to_string).collect();
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert!(why.iter().any(|it| it.contains("none that it fits into")), "{why:?}");
}

#[test]
fn a_window_that_holds_lets_nobody_in_after_its_end() {
    let probe = Evening::new(3, 120);
    let begin = probe.started;
    let mut probe = probe;
    probe.until(600, |evening| evening.open() > 5);
    let ends = probe.now.since(begin).millis() / 1_000 + 1;
    let spans = [span(begin, 0, ends), span(begin, ends + 300, ends + 9_000)];
    let mut evening = Evening::under(with(rule(&spans, AtEnd::Hold)));

    evening.until(600, |evening| evening.now >= spans[0].to + Span::from_secs(5));
    let open = evening.open();
    evening.until(600, |evening| evening.now + Span::from_secs(3) >= spans[1].from);

    assert!((1..120).contains(&open), "{open}");
    assert_eq!(evening.open(), open);
    evening.until(6_000, Evening::is_finished);
}

#[test]
fn a_window_that_freezes_does_so_once_and_a_person_thaws_it() {
    let mut probe = Evening::new(3, 120);
    probe.until(600, |evening| evening.open() > 5);
    let begin = probe.started;
    let ends = probe.now.since(begin).millis() / 1_000 + 1;
    let spans = [span(begin, 0, ends), span(begin, ends + 900, ends + 9_000)];
    let mut evening = Evening::under(with(rule(&spans, AtEnd::Freeze)));

    evening.until(600, |evening| evening.rollout.frozen().is_some());
    let by = evening.rollout.frozen().unwrap().clone();
    for verb in [Verb::Thaw, Verb::Resume(None)] {
        let operate = Operate::new("ann".to_owned(), "go on".to_owned(), verb);
        evening.coordinate(&Event::Operate(operate)).unwrap();
    }
    evening.pass(30);

    assert!(by.at >= spans[0].to);
    assert_eq!(by.reason, "the window `nights` has ended over wave `all-1`");
    assert_eq!(evening.rollout.phase(), &Phase::Running, "it is frozen once");
    evening.until(6_000, Evening::is_finished);
}

#[test]
fn a_node_outside_of_its_window_opens_nothing_while_others_do() {
    let begin = Evening::new(3, 120).now;
    let spans = [span(begin, 300, 9_000)];
    let nodes = vec!["n0".to_owned()];
    let bearing = Bearing { nodes, ..Bearing::default() };
    let rule = Rule { bearing, ..rule(&spans, AtEnd::Finish) };
    let mut evening = Evening::under(with(rule));
    let of_node = |evening: &Evening, node: usize| {
        evening.rollout.status(evening.now).nodes[node].open
    };

    evening.pass(60);

    assert_eq!(of_node(&evening, 0), 0);
    assert!(of_node(&evening, 1) > 0);
    let why = evening.rollout.status(evening.now).why;
    assert!(why.iter().any(|why| why.code() == "node-window"), "{why:?}");
    evening.until(6_000, Evening::is_finished);
}

fn with(rule: Rule) -> Policy {
    Policy { calendar: vec![rule], ..small_policy() }
}

fn rule(spans: &[Window], at_end: AtEnd) -> Rule {
    Rule {
        name: "nights".to_owned(),
        bearing: Bearing::default(),
        words: String::new(),
        opens: true,
        at_end,
        spans: spans.to_vec(),
    }
}

fn span(begin: Timestamp, from: u64, to: u64) -> Window {
    let at = |seconds| begin + Span::from_secs(seconds);
    Window { from: at(from), to: at(to) }
}
