//! Closing: what a re-close has not reached yet.

use tidegate_core::fleet::{MailboxNumber, WaveNumber};
use tidegate_core::rollout::{Scope, Verb};

use super::doubt::{forgets_reports, opening};
use super::fleet::Evening;

#[test]
fn what_a_re_close_has_not_reached_is_counted_until_its_nodes_have_told() {
    let wave = Scope::Wave(WaveNumber::new(0));
    for resumed in [false, true] {
        let mut evening = Evening::new(3, 120);
        evening.until(600, |evening| evening.rollout.still_open(wave) > 5);
        assert_eq!(closing(&evening), (0, 0), "nothing was re-closed");

        evening.cut = true;
        evening.operate(Verb::Reclose(wave), "bad").unwrap();
        let open = evening.rollout.still_open(wave);
        if resumed {
            evening.operate(Verb::Resume(Some(wave)), "good again").unwrap();
        }
        let at_once = closing(&evening);
        evening.pass(5);
        let unheard = closing(&evening);
        evening.cut = false;
        evening.until(60, |evening| closing(evening) == (0, 0));

        assert!(open > 5);
        assert_eq!((at_once, unheard), ((open, open), (open, open)), "{resumed}");
        assert_eq!(evening.rollout.still_open(wave), 0);
    }
}

#[test]
fn what_is_being_closed_is_no_evidence_of_what_is_opened_anew() {
    let wave = WaveNumber::new(0);
    let mut evening = Evening::new(3, 120);
    let mature = |evening: &Evening| {
        let evidence = evening.rollout.evidence(wave, evening.now);
        let nodes = evidence.nodes.iter().map(|it| it.opened + it.mature).sum::<u32>();
        (nodes, evidence.tiers.iter().map(|it| it.mature).sum::<u32>())
    };
    evening.until(600, |evening| mature(evening).1 > 5);

    evening.cut = true;
    evening.operate(Verb::Reclose(Scope::Wave(wave)), "bad").unwrap();
    evening.operate(Verb::Resume(Some(Scope::Wave(wave))), "good again").unwrap();
    evening.operate(Verb::Resume(None), "good again").unwrap();
    evening.pass(2);

    assert!(evening.rollout.still_open(Scope::Wave(wave)) > 5);
    assert_eq!(mature(&evening), (0, 0));
    evening.cut = false;
    evening.until(3_000, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_mailbox_that_is_re_closed_says_so_until_it_is_closed() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 20);
    let inventory = evening.rollout.plan().inventory();
    let mut mailboxes = (0..inventory.len()).map(MailboxNumber::new);
    let open = mailboxes.find(|it| evening.rollout.mailbox_state(*it).is_open()).unwrap();

    evening.operate(Verb::Reclose(Scope::Mailbox(open)), "hers").unwrap();
    let at_once = evening.rollout.mailbox_status(open, evening.now).closing;
    evening
        .until(60, |evening| !evening.rollout.mailbox_status(open, evening.now).closing);

    assert!(at_once);
    assert_eq!(evening.rollout.still_open(Scope::Mailbox(open)), 0);
}

#[test]
fn what_a_node_has_yet_to_tell_anew_counts_as_closing_wherever_it_is_counted() {
    let mut evening = opening();
    let first = WaveNumber::new(0);
    let wave = Scope::Wave(first);
    evening.operate(Verb::Reclose(wave), "bad").unwrap();
    evening.until(60, |evening| evening.rollout.still_open(wave) == 0);
    // Its closing stays on record; what nodes tell afterwards does not.
    evening.operate(Verb::Resume(None), "others may go on").unwrap();
    forgets_reports(&mut evening);
    evening.beat(0);
    let open = evening.rollout.still_open(wave);
    let counted = closing(&evening);
    let plan = std::sync::Arc::clone(evening.rollout.plan());
    let jobs = plan.jobs().iter().filter(|job| job.wave == first);
    let mailboxes: Vec<MailboxNumber> =
        jobs.flat_map(|job| plan.members(job.number)).copied().collect();
    let each = mailboxes
        .iter()
        .filter(|mailbox| evening.rollout.mailbox_status(**mailbox, evening.now).closing);
    let each = each.count();
    evening.pass(10);

    assert_eq!(open, 4, "all that node 0 has of it, whatever is on record");
    assert_eq!((counted, each), ((open, open), 4));
    assert_eq!((evening.rollout.still_open(wave), closing(&evening)), (0, (0, 0)));
}

/// As waves and as nodes count them.
fn closing(evening: &Evening) -> (u32, u32) {
    let status = evening.rollout.status(evening.now);
    let waves = status.waves.iter().map(|wave| wave.closing).sum();
    (waves, status.nodes.iter().map(|node| node.closing).sum())
}
