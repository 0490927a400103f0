//! Evenings with a schedule: rungs with soaks of their own, cohorts that wait, a dial tone.

use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::gate::{Verdict, judge};
use tidegate_core::mailbox::Level;
use tidegate_core::policy::{Cohort, Policy, Rung, Selector};
use tidegate_core::rollout::{
    Phase, Record, RungStatus, Scope, Verb, WaveCondition, Why,
};
use tidegate_core::time::{MinuteOf, Span, Timestamp};

use crate::fleet::{Evening, SOAK, small_policy};

/// How long after webmail businesses get their mail programs.
const DELAY: Span = Span::from_secs(60);

/// Waves 0 and 1 are businesses, 2 and 3 all the others.
const BUSINESS: usize = 2;

#[test]
fn mail_programs_of_businesses_wait_while_the_webmail_of_the_next_waves_goes_on() {
    let mut evening = Evening::under(scheduled());

    evening.until(1_500, Evening::is_finished);

    let (allowed, passed) = (allowed(&evening), passed(&evening));
    let at = |steps: &[Step], wave, level| {
        let found = steps.iter().find(|step| (step.0, step.1) == (wave, level));
        found.unwrap().2
    };
    for wave in 0..2 {
        let (webmail, mail) = (at(&passed, wave, 2), at(&allowed, wave, 3));
        assert!(mail.since(webmail) >= DELAY, "wave {wave}");
    }
    let due = at(&passed, 0, 2) + DELAY;
    assert!(at(&allowed, 1, 2) < due, "the next wave did not wait");
    assert!(at(&allowed, 2, 2) < due, "nor did the next cohort");
    assert_eq!(at(&allowed, 0, 3).since(due), Span::ZERO, "nobody kept it waiting");
    for level in 1..=3 {
        let order: Vec<u16> =
            allowed.iter().filter(|step| step.1 == level).map(|step| step.0).collect();
        assert_eq!(order, [0, 1, 2, 3], "level {level}");
    }
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_wave_that_waits_for_its_schedule_says_until_when() {
    let evening = waiting();
    let due = passed(&evening)[1].2 + DELAY;
    let plan = evening.rollout.plan();
    let mailbox = plan.members(plan.jobs()[0].number)[0];

    let whole = evening.rollout.status(evening.now);
    let one = evening.rollout.mailbox_status(mailbox, evening.now);

    let text = format!(
        "wave `business-1` waits for its schedule until {} (mail)",
        MinuteOf(due)
    );
    let texts = |why: &[Why]| why.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(whole.waves[0].condition, WaveCondition::Between);
    assert_eq!(whole.waves[0].due_at, Some(due));
    assert_eq!(texts(&whole.why).last(), Some(&text));
    assert_eq!(texts(&one.why), [text]);
    let is_open = |rung: &RungStatus| matches!(rung, RungStatus::Open(_));
    assert!(one.rungs[..2].iter().all(is_open));
    assert_eq!(one.rungs[2], RungStatus::Scheduled(due));
}

#[test]
fn a_wave_that_its_gate_holds_keeps_everything_behind_it_waiting() {
    let mut evening = waiting();
    evening.until(400, |evening| allowed(evening).len() == 4);
    evening.cut = true;
    let held_since = evening.now;

    evening.pass(60);

    let since: Vec<Step> =
        allowed(&evening).into_iter().filter(|step| step.2 > held_since).collect();
    assert_eq!(since, [], "silence holds the wave, and whatever is behind it");
    evening.cut = false;
    evening.until(2_000, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_restart_in_the_middle_of_a_delay_opens_nothing_early_and_forgets_nothing() {
    let mut evening = waiting();
    let due = evening.rollout.status(evening.now).waves[0].due_at;

    for index in 0..3 {
        evening.restart_worker(index);
    }
    evening.restart_coordinator();

    let wave = evening.rollout.status(evening.now).waves[0].clone();
    assert_eq!((wave.condition, wave.due_at), (WaveCondition::Between, due));
    evening.until(2_000, Evening::is_finished);
    let mail = allowed(&evening).into_iter().find(|step| (step.0, step.1) == (0, 3));
    assert!(mail.unwrap().2 >= due.unwrap());
}

#[test]
fn a_pause_in_the_middle_of_a_delay_holds_what_falls_due_until_it_is_resumed() {
    let mut evening = waiting();
    evening.operate(Verb::Pause, "").unwrap();
    let before = allowed(&evening).len();

    evening.pass(200);

    assert_eq!(allowed(&evening).len(), before);
    assert!(evening.now >= passed(&evening)[1].2 + DELAY);
    evening.operate(Verb::Resume(None), "seen enough").unwrap();
    evening.pass(1);
    let next = allowed(&evening)[before];
    assert_eq!((next.0, next.1), (0, 3), "what is due comes at once");
    evening.until(2_000, Evening::is_finished);
}

#[test]
fn a_wave_re_closed_in_the_middle_of_its_delay_climbs_anew_and_waits_anew() {
    let mut evening = waiting();
    let first = Scope::Wave(WaveNumber::new(0));

    evening.operate(Verb::Reclose(first), "complaints").unwrap();
    evening.until(20, |evening| evening.rollout.still_open(first) == 0);
    evening.operate(Verb::Resume(Some(first)), "looked at").unwrap();
    evening.operate(Verb::Resume(None), "looked at").unwrap();
    evening.until(2_500, Evening::is_finished);

    let steps = |of: Vec<Step>| -> Vec<(u8, Timestamp)> {
        of.into_iter().filter(|step| step.0 == 0).map(|step| (step.1, step.2)).collect()
    };
    let (allowed, passed) = (steps(allowed(&evening)), steps(passed(&evening)));
    let levels: Vec<u8> = allowed.iter().map(|step| step.0).collect();
    assert_eq!(levels, [1, 2, 1, 2, 3]);
    assert!(allowed[4].1.since(passed[3].1) >= DELAY);
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_halt_in_the_middle_of_a_delay_lets_nothing_climb() {
    let mut evening = waiting();
    for node in 0..3 {
        evening.sick.extend((0..40).map(|key| (NodeNumber::new(node), key)));
    }
    evening.until(600, Evening::is_over);
    assert!(matches!(evening.rollout.phase(), Phase::Halted { .. }));
    let before = allowed(&evening).len();

    evening.pass(300);

    assert_eq!(allowed(&evening).len(), before);
}

#[test]
fn every_rung_has_the_soak_of_its_own_and_its_verdict_recomputes() {
    let mut policy = scheduled();
    let soaks = [1, 20, 5].map(Span::from_secs);
    policy.ladder[0].soak = Some(soaks[0]);
    policy.ladder[1].soak = Some(soaks[1]);
    let mut evening = Evening::under(policy);

    evening.until(2_500, Evening::is_finished);

    assert_eq!(soaks[2], SOAK);
    let policy = evening.rollout.plan().policy().clone();
    let mut shortest = [Span::from_secs(1_000); 3];
    for record in &evening.records {
        let Record::Expanded { evidence, at } = record else { continue };
        let gate = policy.gate_on(evidence.level);
        assert_eq!(judge(evidence, &gate, *at).verdict, Verdict::Expand);
        let took = &mut shortest[evidence.level.index() - 1];
        *took = at.since(evidence.allowed_at).min(*took);
    }
    for (took, soak) in shortest.iter().zip(soaks) {
        assert!(*took >= soak, "{took} for {soak}");
    }
    assert!(shortest[0] < soaks[2], "{shortest:?}");
}

#[test]
fn a_dial_tone_begins_at_once_stands_through_a_pause_and_ends_with_a_reclose() {
    let mut policy = scheduled();
    policy.cohorts[1].dial_tone = vec!["lmtp".to_owned(), "webmail".to_owned()];
    policy.limits.prepare_ahead = 1;
    let mut evening = Evening::under(policy);
    let node = NodeNumber::new(0);
    let plan = std::sync::Arc::clone(evening.rollout.plan());
    let with_tone = |evening: &Evening| -> Vec<usize> {
        let jobs = evening.rollout.orders(node).jobs.into_iter();
        let jobs = jobs.filter(|order| order.dial_tone);
        jobs.map(|order| plan.jobs()[order.job.index()].wave.index()).collect()
    };

    evening.pass(3);
    let at_once = with_tone(&evening);
    let member = |wave: usize| {
        let job = plan.jobs().iter().find(|job| job.wave.index() == wave).unwrap();
        plan.members(job.number)[0]
    };
    let takes_mail = |evening: &Evening| {
        (0..4).filter(|wave| evening.rollout.receives(member(*wave))).collect::<Vec<_>>()
    };
    let receiving = takes_mail(&evening);
    evening.operate(Verb::Pause, "").unwrap();
    let paused = (with_tone(&evening), evening.rollout.orders(node).may_open);
    evening.operate(Verb::Resume(None), "go on").unwrap();
    let third = Scope::Wave(WaveNumber::new(2));
    evening.operate(Verb::Reclose(third), "wrong store").unwrap();

    assert_eq!(at_once, [BUSINESS, BUSINESS + 1], "leased long before their turn");
    assert_eq!(paused, (vec![BUSINESS, BUSINESS + 1], false));
    assert_eq!(with_tone(&evening), [BUSINESS + 1]);
    assert_eq!(receiving, [BUSINESS, BUSINESS + 1]);
    assert_eq!(takes_mail(&evening), [BUSINESS + 1]);
}

/// Wave, level, when.
type Step = (u16, u8, Timestamp);

fn allowed(evening: &Evening) -> Vec<Step> {
    evening.story(|record| {
        let Record::LevelAllowed { wave, level, at } = record else { return None };
        Some((wave.get(), level.get(), *at))
    })
}

fn passed(evening: &Evening) -> Vec<Step> {
    evening.story(|record| {
        let Record::Expanded { evidence, at } = record else { return None };
        Some((evidence.wave.get(), evidence.level.get(), *at))
    })
}

/// An evening on which the first wave has begun to wait for its mail programs.
fn waiting() -> Evening {
    let mut evening = Evening::under(scheduled());
    evening.until(400, |evening| {
        let first = &evening.rollout.status(evening.now).waves[0];
        first.condition == WaveCondition::Between
    });
    assert_eq!(passed(&evening).last().map(|step| (step.0, step.1)), Some((0, 2)));
    evening
}

/// Three rungs; mail programs of businesses come a minute after their webmail.
fn scheduled() -> Policy {
    let rung = |name: &str, service: &str| Rung {
        name: name.to_owned(),
        services: vec![service.to_owned()],
        soak: None,
    };
    let mut policy = small_policy();
    policy.ladder =
        vec![rung("receive", "lmtp"), rung("webmail", "webmail"), rung("mail", "imap")];
    let rest = policy.cohorts[0].clone();
    let mut business = Cohort { canary: 12, wave_max: 12, ..rest.clone() };
    "business".clone_into(&mut business.name);
    business.select =
        Selector { tiers: vec!["business".to_owned()], ..Selector::default() };
    business.delays.insert("mail".to_owned(), DELAY);
    policy.cohorts = vec![business, Cohort { canary: 48, wave_max: 48, ..rest }];
    debug_assert_eq!(policy.ladder.len(), Level::FIRST.above().above().index());
    policy
}
