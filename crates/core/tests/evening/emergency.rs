//! Emergencies: for some time waves prove themselves sooner, because people answer for it.

use std::sync::Arc;

use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::policy::{EmergencyProfile, Policy};
use tidegate_core::rollout::{
    Event, Operate, Phase, Record, Refusal, RequestId, Rollout, Scope, Verb,
};
use tidegate_core::time::{Span, Timestamp};

use super::fleet::{BEAT, Evening, small_policy};

const FIRST: WaveNumber = WaveNumber::new(0);

const USUAL: Span = Span::from_secs(1_800);

const SHORT: Span = Span::from_secs(60);

/// Waves that soak for half an hour, and for a minute in an emergency.
fn patient() -> Policy {
    let mut policy = small_policy();
    policy.gate.soak = USUAL;
    policy.gate.escalate_after = Span::from_secs(86_400);
    policy.emergency = Some(EmergencyProfile { soak: SHORT, alpha: None });
    policy
}

fn begin(
    evening: &mut Evening,
    wave: Option<WaveNumber>,
    secs: u64,
) -> Result<(), Refusal> {
    let lasts = Span::from_secs(secs);
    evening.operate(Verb::BeginEmergency { wave, lasts }, "the minister is on the phone")
}

/// Beats in so much time.
fn beats(span: Span) -> u32 {
    u32::try_from(span.millis() / BEAT.millis()).unwrap()
}

/// An evening whose first wave is all open.
fn opened() -> Evening {
    let mut evening = Evening::under(patient());
    evening.until(600, |evening| evening.open() == 12);
    evening
}

/// When levels were passed, and whether in a hurry.
fn passed(evening: &Evening) -> Vec<(u16, u8, bool)> {
    evening.story(|record| {
        let Record::Expanded { evidence, .. } = record else { return None };
        Some((evidence.wave.get(), evidence.level.get(), evidence.hurried))
    })
}

fn ended(evening: &Evening) -> Vec<Timestamp> {
    evening.story(|record| {
        let Record::EmergencyEnded { at, .. } = record else { return None };
        Some(*at)
    })
}

#[test]
fn waves_pass_sooner_in_an_emergency_and_it_is_said_of_each() {
    let mut evening = opened();
    evening.pass(beats(SHORT) * 2);
    assert_eq!(passed(&evening), [], "the usual soak is far from over");

    begin(&mut evening, None, 3_600).unwrap();
    evening.until(beats(USUAL), Evening::is_finished);

    let each = passed(&evening);
    assert_eq!(each.len(), 6);
    assert!(each.iter().all(|(_, _, hurried)| *hurried), "{each:?}");
    let marks = evening.rollout.marks();
    assert!(marks.iter().all(|it| it.hurried.len() == 2 && it.overridden.is_empty()));
}

#[test]
fn an_emergency_for_one_wave_hurries_no_other() {
    let mut evening = opened();

    begin(&mut evening, Some(FIRST), 3_600).unwrap();
    evening.until(beats(USUAL), |evening| passed(evening).len() == 2);
    evening.pass(beats(SHORT) * 5);

    assert_eq!(passed(&evening), [(0, 1, true), (0, 2, true)]);
    let hurried = [0, 1].map(|it| evening.rollout.is_hurried(WaveNumber::new(it)));
    assert_eq!(hurried, [false, false], "the first has passed, the second is another");
}

#[test]
fn when_its_time_is_up_waves_soak_anew_under_their_usual_gate() {
    let mut evening = opened();
    // Too short for the wave: one of its workers begins anew, and those of others count as mature.
    begin(&mut evening, None, 80).unwrap();
    evening.pass(beats(Span::from_secs(30)));
    evening.restart_worker(0);
    evening.pass(beats(SHORT));
    let evidence = evening.rollout.evidence(FIRST, evening.now);
    assert!(evidence.nodes.iter().any(|node| node.mature > 0));

    let until = ended(&evening);
    let over = evening.now;
    evening.until(beats(USUAL) * 2, |evening| !passed(evening).is_empty());

    assert_eq!(until.len(), 1);
    assert!(evening.now.since(until[0]) >= USUAL, "half an hour from its end");
    assert!(evening.now > over);
    assert_eq!(passed(&evening), [(0, 1, false)]);
}

#[test]
fn any_decision_and_any_stop_ends_it() {
    let pause: fn(&mut Evening) = |it| it.operate(Verb::Pause, "").unwrap();
    let freeze: fn(&mut Evening) = |it| it.operate(Verb::Freeze, "").unwrap();
    let reclose: fn(&mut Evening) =
        |it| it.operate(Verb::Reclose(Scope::Node(NodeNumber::new(1))), "look").unwrap();
    let end: fn(&mut Evening) = |it| it.operate(Verb::EndEmergency, "").unwrap();
    for decide in [pause, freeze, reclose, end] {
        let mut evening = opened();
        begin(&mut evening, None, 3_600).unwrap();
        assert!(evening.rollout.is_hurried(FIRST));

        decide(&mut evening);

        assert_eq!(evening.rollout.emergency(), None);
        assert!(!evening.rollout.evidence(FIRST, evening.now).hurried);
    }
}

#[test]
fn damaged_mail_halts_in_an_emergency_as_ever_and_ends_it() {
    let mut evening = opened();
    begin(&mut evening, None, 3_600).unwrap();
    for node in 0..3 {
        evening.sick.extend((0..40).map(|key| (NodeNumber::new(node), key)));
    }

    evening.until(beats(USUAL), Evening::is_over);
    let again = begin(&mut evening, None, 3_600).unwrap_err();

    assert!(matches!(evening.rollout.phase(), Phase::Halted { .. }));
    assert_eq!(evening.rollout.emergency(), None);
    assert_eq!(again.code(), "not-running", "a halt is not waived");
}

#[test]
fn nothing_is_hurried_that_the_policy_does_not_name_or_that_has_no_end() {
    let mut policy = patient();
    policy.emergency = None;
    let mut none = Evening::under(policy);
    let mut evening = opened();
    let day = 86_400;

    let refused = [
        begin(&mut none, None, 60),
        begin(&mut evening, None, 0),
        begin(&mut evening, None, day + 1),
        begin(&mut evening, Some(WaveNumber::new(9)), 60),
        evening.operate(Verb::EndEmergency, ""),
        evening.operate(Verb::BeginEmergency { wave: None, lasts: SHORT }, " "),
    ];
    let codes = refused.map(|it| it.unwrap_err().code());
    begin(&mut evening, None, day).unwrap();
    let twice = begin(&mut evening, None, 60).unwrap_err();

    let spans = ["no-emergency-profile", "emergency-span", "emergency-span"];
    assert_eq!(codes[..3], spans);
    assert_eq!(codes[3..], ["no-such", "no-emergency", "reason-missing"]);
    assert_eq!(twice.code(), "already");
}

#[test]
fn it_is_in_force_after_a_restart_by_records_and_by_a_snapshot_and_not_after_its_end() {
    let mut evening = opened();
    let mut asks = Operate::new(
        "ann".to_owned(),
        "the minister".to_owned(),
        Verb::BeginEmergency { wave: Some(FIRST), lasts: Span::from_secs(600) },
    );
    asks.request = RequestId::new("r-1");
    evening.coordinate(&Event::Operate(asks.clone())).unwrap();
    evening.coordinate(&Event::Operate(asks)).unwrap();
    let begun = |r: &Record| matches!(r, Record::EmergencyBegun { .. }).then_some(());
    assert_eq!(evening.story(begun).len(), 1, "asked twice, begun once");

    let kept = evening.rollout.snapshot().unwrap();
    let (plan, story) = (Arc::clone(evening.rollout.plan()), evening.rollout.history());
    let started = evening.rollout.started_at();
    let restored = Rollout::restore(plan, started, kept, story.to_vec()).unwrap();
    evening.restart_coordinator();
    let late = evening.now + Span::from_secs(700);

    for rollout in [&restored, &evening.rollout] {
        assert!(rollout.is_hurried(FIRST));
        let evidence = rollout.evidence(FIRST, late);
        assert!(!evidence.hurried, "its time is up, whether that is on record or not");
        assert_eq!(evidence.allowed_at, late, "and the soak begins anew");
    }
    evening.pass(beats(Span::from_secs(700)));
    assert_eq!(ended(&evening).len(), 1);
}

#[test]
fn leave_is_for_one_emergency() {
    let evening = opened();
    let grounds = |wave, secs| {
        let lasts = Span::from_secs(secs);
        evening.rollout.grounds_of(Verb::BeginEmergency { wave, lasts }, evening.now)
    };

    assert_eq!(grounds(None, 60), grounds(None, 60));
    assert_ne!(grounds(None, 60), grounds(None, 120));
    assert_ne!(grounds(None, 60), grounds(Some(FIRST), 60));
    assert_ne!(grounds(None, 60), evening.rollout.grounds(evening.now));
}
