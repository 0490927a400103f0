//! Rungs by schedule, windows, languages and dial tones, as readers and workers are told.

use tidegate_core::policy::{Language, Window};
use tidegate_core::rollout::Order;
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::v1;

use crate::fleet::{Coordinator, POLICY, Worker, data_dir, rows, work_until};

/// 2026-01-25 08:00 in Rome.
const EIGHT: Timestamp = Timestamp::from_millis(1_769_324_400_000);

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_what_waits_for_its_schedule_and_what_its_user_is_told() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply_under(&scheduled(), rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();

    let between = |rollout: &v1::Rollout| {
        rollout.waves.iter().all(|wave| wave.state() == v1::WaveState::Between)
    };
    let workers = &mut [&mut one, &mut two];
    let what = "both waves wait for their mail programs";
    let rollout = work_until(&coordinator, workers, what, between).await;
    coordinator.kill().await;
    let coordinator = Coordinator::start_again(dir.path()).await;
    let again = coordinator.rollout().await;
    let request =
        v1::ListMailboxesRequest { wave: "all-1".to_owned(), ..Default::default() };
    let reader = coordinator.reader().list_mailboxes(request).await;
    let mailbox = reader.unwrap().into_inner().mailboxes.remove(0);

    let due = |rollout: &v1::Rollout| rollout.waves[0].due_time;
    assert!(due(&rollout).is_some());
    assert_eq!(due(&again), due(&rollout), "a restart forgets no schedule");
    assert_eq!(rollout.why.last().unwrap().code, "scheduled");
    assert_eq!(rollout.waves[0].delays[0].rung, "apps");
    assert_eq!(rollout.notice.unwrap().zone, "Europe/Rome");
    let states: Vec<_> = mailbox.rungs.iter().map(v1::MailboxRung::state).collect();
    assert_eq!(states, [v1::RungState::Open, v1::RungState::Scheduled]);
    assert_eq!(mailbox.rungs[1].time, due(&again));
    assert_eq!(mailbox.notice.unwrap().language, "it");
    assert_eq!(mailbox.expected, rollout.waves[0].expected);
    assert!(!mailbox.dial_tone, "it is open");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_told_windows_languages_and_dial_tones() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply_under(&scheduled(), rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();

    one.report().await.unwrap();
    one.report().await.unwrap();
    let first = one.orders.jobs[0].job;
    let told = one.fetch(first).await.unwrap();

    let settings = &one.joined.settings;
    assert_eq!(settings.notice.language, Language::English);
    assert_eq!(settings.dial_services, ["lmtp", "webmail"]);
    let two_hours = EIGHT + Span::from_secs(2 * 3_600);
    assert_eq!(told.expected, Some(Window { from: EIGHT, to: two_hours }));
    let italian = |mailbox: &tidegate_wire::worker::JobMailbox| {
        mailbox.language == Some(Language::Italian)
    };
    assert!(told.mailboxes.iter().all(italian));
    assert!(one.orders.jobs.iter().all(|order: &Order| order.dial_tone));
    coordinator.stop().await;
}

/// The usual policy, with mail programs an hour after webmail.
fn scheduled() -> String {
    let cohort = "wave_max = 100\n\
        delay = { apps = \"1 h\" }\n\
        expected = { from = \"2026-01-25T08:00+01:00\", to = \"2026-01-25T18:00+01:00\" }\n\
        dial_tone = [\"lmtp\", \"webmail\"]\n\
        [notice]\nlanguage_label = \"country\"\nzone = \"Europe/Rome\"\n";
    POLICY.replace("wave_max = 100\n", cohort)
}
