//! Overriding: people answer for a wave that its gate holds for want of samples.

use std::sync::Arc;

use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::mailbox::Level;
use tidegate_core::policy::Policy;
use tidegate_core::rollout::{
    Approval, Event, Operate, Record, Refusal, RequestId, Rollout, Scope, Verb,
};
use tidegate_core::time::Span;

use super::fleet::{BEAT, Evening, small_policy};

const FIRST: WaveNumber = WaveNumber::new(0);

/// The gate asks for people who log in, and everybody sleeps.
fn asleep() -> Policy {
    let mut policy = small_policy();
    policy.gate.sessions_min = 1;
    policy
}

/// An evening whose first wave is held by that alone.
fn stuck() -> Evening {
    let mut evening = Evening::under(asleep());
    evening.until(600, |it| it.rollout.is_overridable(FIRST, it.now));
    evening
}

fn expand(evening: &mut Evening, wave: WaveNumber) -> Result<(), Refusal> {
    evening.operate(Verb::Expand(wave), "everybody sleeps, the probes are good")
}

fn levels(evening: &Evening) -> Vec<(u16, u8)> {
    evening.story(|record| {
        let Record::LevelAllowed { wave, level, .. } = record else { return None };
        Some((wave.get(), level.get()))
    })
}

#[test]
fn a_wave_that_is_held_because_nobody_logs_in_goes_on_when_people_answer_for_it() {
    let mut evening = stuck();
    evening.pass(600);
    assert_eq!(levels(&evening), [(0, 1)], "time alone never opens anything");
    let evidence = evening.rollout.evidence(FIRST, evening.now);
    let mut asks = Operate::new(
        "ann".to_owned(),
        "everybody sleeps".to_owned(),
        Verb::Expand(FIRST),
    );
    asks.request = RequestId::new("r-1");
    asks.approved =
        Some(Approval { by: "bea".to_owned(), reason: "so it is".to_owned() });

    evening.coordinate(&Event::Operate(asks.clone())).unwrap();
    evening.coordinate(&Event::Operate(asks.clone())).unwrap();
    let again = expand(&mut evening, FIRST).unwrap_err();
    evening.pass(1);
    let (by, approved) = (asks.by, asks.approved);

    let kept = evening.story(|record| {
        let Record::Overridden { action, evidence } = record else { return None };
        Some((action.by.clone(), action.approved.clone(), evidence.clone()))
    });
    assert_eq!(kept, [(by, approved, evidence)], "once, with what was known");
    assert_eq!(again.code(), "not-held");
    assert_eq!(levels(&evening), [(0, 1), (0, 2)], "its next level, and no more");
    evening.pass(600);
    assert_eq!(levels(&evening), [(0, 1), (0, 2)], "the next level is judged by itself");
}

#[test]
fn every_level_of_every_wave_is_answered_for_anew_until_the_end() {
    let mut evening = Evening::under(asleep());

    for wave in [0, 0, 1, 1, 2, 2].map(WaveNumber::new) {
        evening.until(600, |it| it.rollout.is_overridable(wave, it.now));
        expand(&mut evening, wave).unwrap();
    }

    evening.until(20, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn what_was_overridden_is_so_after_a_restart_by_records_and_by_a_snapshot() {
    let mut evening = stuck();
    expand(&mut evening, FIRST).unwrap();
    evening.pass(2);

    let kept = evening.rollout.snapshot().unwrap();
    let (plan, story) = (Arc::clone(evening.rollout.plan()), evening.rollout.history());
    let started = evening.rollout.started_at();
    let restored = Rollout::restore(plan, started, kept, story.to_vec()).unwrap();
    let etag = evening.rollout.etag();
    evening.restart_coordinator();

    for rollout in [&restored, &evening.rollout] {
        let wave = &rollout.status(evening.now).waves[0];
        assert_eq!((wave.passed, wave.allowed.get()), (Level::FIRST, 2));
        assert_eq!(rollout.etag(), etag, "it is a decision");
    }
    assert_eq!(restored.snapshot(), evening.rollout.snapshot());
}

#[test]
fn nobody_answers_for_a_worker_that_is_silent_or_was_never_heard() {
    let mut evening = stuck();
    evening.cut = true;
    evening.until(600, |it| !it.rollout.is_overridable(FIRST, it.now));

    let silent = expand(&mut evening, FIRST).unwrap_err();
    evening.restart_coordinator();
    let unheard = expand(&mut evening, FIRST).unwrap_err();
    evening.cut = false;
    evening.until(60, |it| it.rollout.is_overridable(FIRST, it.now));

    for refused in [silent, unheard] {
        assert_eq!(refused.code(), "hold-stands");
        let text = refused.to_string();
        assert!(text.contains("workers have reported lately"), "{text}");
    }
    assert_eq!(levels(&evening), [(0, 1)]);
    expand(&mut evening, FIRST).unwrap();
}

#[test]
fn nobody_answers_for_a_wave_that_is_young_or_not_finished_or_that_does_not_climb() {
    let mut policy = asleep();
    policy.gate.soak = Span::from_secs(600);
    let mut evening = Evening::under(policy);
    let before = expand(&mut evening, FIRST).unwrap_err();
    evening.until(600, |evening| evening.open() > 2);
    let unfinished = expand(&mut evening, FIRST).unwrap_err();
    evening.until(600, |evening| evening.open() == 12);
    evening.pass(5);
    let young = expand(&mut evening, FIRST).unwrap_err();
    let later = expand(&mut evening, WaveNumber::new(1)).unwrap_err();
    let none = expand(&mut evening, WaveNumber::new(3)).unwrap_err();

    let codes = [before, unfinished, young.clone(), later, none].map(|it| it.code());
    assert_eq!(codes, ["not-held", "hold-stands", "hold-stands", "not-held", "no-such"]);
    assert!(young.to_string().contains("soaked"), "{young}");
    assert_eq!(levels(&evening), [(0, 1)]);
}

#[test]
fn nobody_answers_for_what_a_gate_stops() {
    let mut evening = Evening::under(asleep());
    for node in 0..3 {
        evening.sick.extend((0..40).map(|key| (NodeNumber::new(node), key)));
    }
    let mut refused = Vec::new();
    for _ in 0..600 {
        evening.pass(1);
        // Before and after the gate has said so on record.
        refused.extend(expand(&mut evening, FIRST).err().map(|it| it.code()));
    }

    assert_eq!(refused.len(), 600, "never");
    assert_eq!(refused.last(), Some(&"not-running"));
    assert_eq!(levels(&evening), [(0, 1)]);
}

#[test]
fn nobody_answers_for_a_signal_that_tripped() {
    let mut policy = asleep();
    policy.gate.disk_free_min = tidegate_core::share::Ppm::new(200_000);
    let mut evening = Evening::under(policy);
    evening.until(600, |it| it.rollout.is_overridable(FIRST, it.now));
    // A busy store: every probe is slow, which holds and does not halt.
    let now = evening.now;
    let worker = &mut evening.workers[0];
    worker.sent += 1;
    let mut sync = worker.sync(Vec::new());
    (sync.vitals.probes, sync.vitals.probes_slow) = (5_000, 5_000);
    evening.rollout.hear(&sync, now);
    let slow = expand(&mut evening, FIRST).unwrap_err();
    (sync.vitals.probes, sync.vitals.probes_slow) = (0, 0);
    sync.vitals.disk_free = Some(tidegate_core::share::Ppm::new(100_000));
    evening.rollout.hear(&sync, now);
    let full = expand(&mut evening, FIRST).unwrap_err();

    assert_eq!([slow.code(), full.code()], ["hold-stands"; 2]);
    assert!(slow.to_string().contains("5000 of 5000 probes slow"), "{slow}");
    assert!(full.to_string().contains("of its disk free"), "{full}");
}

#[test]
fn nothing_is_overridden_while_the_rollout_stands_still() {
    let mut evening = stuck();
    let mut refused = Vec::new();
    let mut asks = |evening: &mut Evening| {
        refused.push(expand(evening, FIRST).unwrap_err().code());
    };
    evening.operate(Verb::Pause, "").unwrap();
    asks(&mut evening);
    evening.operate(Verb::Freeze, "").unwrap();
    asks(&mut evening);
    let thaw = Operate::new("bob".to_owned(), "seen".to_owned(), Verb::Thaw);
    evening.coordinate(&Event::Operate(thaw)).unwrap();
    evening.operate(Verb::Resume(None), "go").unwrap();
    evening.operate(Verb::Reclose(Scope::Wave(FIRST)), "complaints").unwrap();
    evening.operate(Verb::Resume(None), "go").unwrap();
    asks(&mut evening);
    evening.operate(Verb::Abort, "enough").unwrap();
    asks(&mut evening);

    assert_eq!(refused, ["not-running", "frozen", "not-held", "rollout-over"]);
    let overridden = |r: &Record| matches!(r, Record::Overridden { .. }).then_some(());
    assert_eq!(evening.story(overridden), []);
}

#[test]
fn a_reclosed_wave_is_answered_for_anew() {
    let mut evening = stuck();
    expand(&mut evening, FIRST).unwrap();
    evening.pass(1);

    evening.operate(Verb::Reclose(Scope::Wave(FIRST)), "complaints").unwrap();
    evening.until(60, |it| it.rollout.still_open(Scope::Wave(FIRST)) == 0);
    evening.operate(Verb::Resume(Some(Scope::Wave(FIRST))), "looked at").unwrap();
    evening.operate(Verb::Resume(None), "looked at").unwrap();
    evening.pass(300);

    assert_eq!(levels(&evening), [(0, 1), (0, 2), (0, 1)]);
}

#[test]
fn leave_is_for_one_hold_of_one_wave_on_one_level() {
    let mut evening = stuck();
    let grounds = |evening: &Evening, wave: u16| {
        let verb = Verb::Expand(WaveNumber::new(wave));
        evening.rollout.grounds_of(verb, evening.now)
    };
    let seen = grounds(&evening, 0);
    evening.now = evening.now + BEAT;
    evening.beat(0);
    let later = grounds(&evening, 0);
    let other = grounds(&evening, 1);
    let usual = evening.rollout.grounds(evening.now);
    expand(&mut evening, FIRST).unwrap();
    evening.until(600, |it| it.rollout.is_overridable(FIRST, it.now));
    let above = grounds(&evening, 0);

    assert_eq!(later, seen, "time changes nothing");
    assert_ne!(other, seen);
    assert_ne!(usual, seen);
    assert_ne!(above, seen, "the next level is another thing");
    assert_eq!(evening.rollout.grounds_of(Verb::Resume(None), evening.now), usual);
}

#[test]
fn a_reason_is_part_of_the_record() {
    let mut evening = stuck();

    let refused = evening.operate(Verb::Expand(FIRST), " ").unwrap_err();

    assert_eq!(refused.code(), "reason-missing");
}
