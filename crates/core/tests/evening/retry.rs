//! A mailbox that was set aside as a whole, tried again.

use tidegate_core::fleet::{JobNumber, MailboxNumber, Ordinal};
use tidegate_core::rollout::{Record, Verb};

use crate::fleet::Evening;

/// The mailbox that is set aside, in its job.
const ASIDE: (JobNumber, Ordinal) = (JobNumber::new(0), Ordinal::new(1));

#[test]
fn once_it_is_mended_it_opens_with_its_wave() {
    let (mut evening, mailbox) = with_one_aside();

    evening.workers.iter_mut().for_each(|worker| worker.aside.clear());
    evening.operate(Verb::Retry(mailbox), "its disk is back").unwrap();
    evening.until(60, |evening| evening.open() == 120);

    assert!(evening.is_finished());
    let retried = |record: &Record| {
        if let Record::Retried { mailbox, .. } = record { Some(*mailbox) } else { None }
    };
    assert_eq!(evening.story(retried), [mailbox]);
}

#[test]
fn where_nothing_was_mended_it_is_set_aside_anew_and_nobody_else_is_put_out() {
    let (mut evening, mailbox) = with_one_aside();

    evening.operate(Verb::Retry(mailbox), "hope").unwrap();
    for _ in 0..60 {
        evening.pass(1);
        assert_eq!(evening.open(), 119);
    }

    // It can be asked for again, so it was set aside again.
    evening.operate(Verb::Retry(mailbox), "hope again").unwrap();
}

#[test]
fn only_what_is_set_aside_is_tried_again_with_a_reason_and_before_an_abort() {
    let (mut evening, mailbox) = with_one_aside();
    let whole = evening.rollout.plan().members(ASIDE.0)[0];
    let refused = |evening: &mut Evening, mailbox, reason| {
        evening.operate(Verb::Retry(mailbox), reason).unwrap_err().code()
    };

    assert_eq!(refused(&mut evening, whole, "to be sure"), "not-set-aside");
    assert_eq!(refused(&mut evening, mailbox, " "), "reason-missing");
    evening.operate(Verb::Reclose(whole_job(&evening)), "stop").unwrap();
    evening.operate(Verb::Abort, "another way").unwrap();
    assert_eq!(refused(&mut evening, mailbox, "too late"), "rollout-over");
}

/// A rollout that has finished with one mailbox set aside.
fn with_one_aside() -> (Evening, MailboxNumber) {
    let mut evening = Evening::new(3, 120);
    evening.workers.iter_mut().for_each(|worker| {
        worker.aside.insert(ASIDE);
    });
    evening.until(600, Evening::is_finished);
    assert_eq!(evening.open(), 119);
    let mailbox = evening.rollout.plan().members(ASIDE.0)[1];
    (evening, mailbox)
}

/// Something to re-close, after which the rollout is paused and can be aborted.
fn whole_job(evening: &Evening) -> tidegate_core::rollout::Scope {
    tidegate_core::rollout::Scope::Node(evening.rollout.plan().jobs()[0].node)
}
