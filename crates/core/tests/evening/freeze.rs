//! Freezing: one stop that a second person lets go of.

use std::sync::Arc;

use tidegate_core::rollout::{Event, Operate, Phase, Refusal, Rollout, Verb, Why};

use super::fleet::Evening;

fn asks(evening: &mut Evening, by: &str, verb: Verb) -> Result<(), Refusal> {
    let (by, reason) = (by.to_owned(), "so it is".to_owned());
    evening.coordinate(&Event::Operate(Operate::new(by, reason, verb)))
}

#[test]
fn what_is_frozen_is_thawed_by_a_second_person_and_resumed_only_then() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);

    asks(&mut evening, "ann", Verb::Freeze).unwrap();
    evening.pass(5);
    let open = evening.open();
    evening.pass(200);
    let resumed = asks(&mut evening, "bob", Verb::Resume(None)).unwrap_err();
    let by_herself = asks(&mut evening, " Ann", Verb::Thaw).unwrap_err();
    asks(&mut evening, "bob", Verb::Thaw).unwrap();
    evening.pass(50);
    let thawed = evening.open();
    asks(&mut evening, "bob", Verb::Resume(None)).unwrap();

    assert_eq!([resumed.code(), by_herself.code()], ["frozen", "same-hand"]);
    assert_eq!((open, thawed), (open, open), "thawing resumes nothing");
    evening.until(3_000, Evening::is_finished);
}

#[test]
fn a_freeze_outlasts_restarts_whether_they_read_records_or_a_snapshot() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    asks(&mut evening, "ann", Verb::Pause).unwrap();
    asks(&mut evening, "bob", Verb::Freeze).unwrap();

    let kept = evening.rollout.snapshot().unwrap();
    let (plan, story) = (Arc::clone(evening.rollout.plan()), evening.rollout.history());
    let started = evening.rollout.started_at();
    let restored = Rollout::restore(plan, started, kept, story.to_vec()).unwrap();
    evening.restart_coordinator();

    for rollout in [&restored, &evening.rollout] {
        assert_eq!(rollout.frozen().map(|it| it.by.as_str()), Some("bob"));
        assert!(matches!(rollout.phase(), Phase::Paused(it) if it.by == "ann"));
        let why = &rollout.status(started).why;
        let frozen = Why::Frozen { by: "bob".into(), reason: "so it is".into() };
        assert_eq!(why, &[frozen]);
    }
    assert_eq!(asks(&mut evening, "ann", Verb::Freeze).unwrap_err().code(), "already");
    asks(&mut evening, "ann", Verb::Thaw).unwrap();
    assert_eq!(asks(&mut evening, "ann", Verb::Thaw).unwrap_err().code(), "not-frozen");
}
