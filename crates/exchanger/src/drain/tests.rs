//! What the drain does, told with a clock that is set by hand.

use super::*;
use crate::view::tests::view;
use tidegate_wire::exchanger::Storage;

#[test]
fn nothing_is_handed_back_for_held_mailboxes() {
    let mut site = Site::new(10);
    site.message("A1", &[1]);

    site.listing(0);

    assert_eq!(site.flushes(0, 10_000), Vec::<String>::new());
    let report = site.report(10_000);
    assert_eq!(
        report,
        ["wave 1: 1 messages, 1 recipients, 0 open, oldest 100, flushed 0"]
    );
}

#[test]
fn a_mailbox_that_opens_gets_its_messages_and_others_wait() {
    let mut site = Site::new(10);
    site.message("A1", &[1]);
    site.message("A3", &[3]);
    site.listing(0);

    site.open(&[3], 1_000);
    assert_eq!(
        site.drain.listing_due(),
        Some(2_000),
        "a wave that is new is looked for soon"
    );
    site.listing(2_000);

    assert_eq!(site.flushes(2_000, 4_000), ["A3"]);
    site.open(&[1], 5_000);
    assert_eq!(site.flushes(5_000, 7_000), ["A1"], "without another listing");
}

#[test]
fn what_was_open_before_a_restart_is_drained_after_it() {
    let mut site = Site::new(10);
    site.open(&[1], 0);
    site.message("A1", &[1]);

    site.restart(50_000);
    assert_eq!(site.drain.listing_due(), Some(0), "at once");
    site.listing(50_000);

    assert_eq!(site.flushes(50_000, 52_000), ["A1"]);
}

#[test]
fn a_message_for_several_is_handed_back_again_when_others_open() {
    let mut site = Site::new(20);
    site.message("A", &[1, 3, 5]);
    site.open(&[1], 0);
    site.listing(0);
    assert_eq!(site.flushes(0, 1_000), ["A"]);

    site.queue = vec![];
    site.message("A", &[3, 5]);
    site.open(&[3, 5], 2_000);
    assert_eq!(site.flushes(2_000, 4_000), ["A"], "once for both");

    site.queue = vec![];
    site.message("A", &[5]);
    site.listing(10_000);
    assert_eq!(site.flushes(10_000, 12_000), ["A"]);
}

#[test]
fn the_pace_of_a_node_is_kept_and_an_unhealthy_node_gets_nothing() {
    let mut site = Site::new(200);
    let odd: Vec<u32> = (0..200).filter(|number| number % 2 == 1).collect();
    for number in &odd {
        site.message(&format!("A{number}"), &[*number]);
    }
    let slow = Storage { healthy: true, deliveries_per_second: 5 };
    site.view.set_storages(vec![slow, Storage::default()]);
    site.open(&odd, 0);
    site.listing(0);

    let flushed = site.flushes(0, 4_000);

    assert!((19..=21).contains(&flushed.len()), "{}", flushed.len());
    let first_node =
        |id: &String| id.trim_start_matches('A').parse::<u32>().unwrap() < 100;
    assert!(flushed.iter().all(first_node));
}

#[test]
fn a_node_that_lets_messages_come_back_is_slowed_down() {
    let mut site = Site::new(400);
    let numbers: Vec<u32> = (0..100).map(|number| number * 2 + 1).collect();
    for number in &numbers {
        site.message(&format!("A{number}"), &[*number]);
    }
    site.open(&numbers, 0);
    site.listing(0);
    let before = site.flushes(0, 4_000).len();

    site.listing(60_000);
    let after = site.flushes(60_000, 64_000).len();

    assert!((39..=42).contains(&before), "{before}");
    assert!((19..=22).contains(&after), "{after}");
}

#[test]
fn a_message_that_keeps_coming_back_is_left_to_the_mail_server() {
    let mut site = Site::new(10);
    site.message("A1", &[1]);
    site.open(&[1], 0);
    let mut flushed = Vec::new();
    for round in 0..6 {
        site.listing(round * 60_000);
        flushed.extend(site.flushes(round * 60_000, round * 60_000 + 5_000));
    }

    assert_eq!(flushed, ["A1", "A1", "A1"]);
    let due = site.drain.listing_due().unwrap();
    assert!(due >= 5 * 60_000 + CENSUS_PAUSE_MIN, "the wave sleeps: {due}");
    assert_eq!(site.left(), 1);
}

#[test]
fn what_is_under_way_or_put_aside_is_not_handed_back() {
    let mut site = Site::new(10);
    site.open(&[1], 0);
    site.put("A", Place::Active, &[1]);
    site.put("B", Place::Hold, &[1]);
    site.listing(60_000);

    assert_eq!(site.flushes(60_000, 62_000), Vec::<String>::new());
    assert_eq!(site.drain.listing_due(), Some(62_000), "what is under way may come back");
}

#[test]
fn a_wave_sleeps_only_after_a_listing_that_postfix_could_not_answer_from_memory() {
    let mut site = Site::new(10);
    site.open(&[1], 0);

    site.listing(1_000);
    assert_eq!(site.drain.listing_due(), Some(3_000));
    site.listing(34_000);
    assert_eq!(site.drain.listing_due(), Some(36_000));
    site.listing(36_000);

    assert_eq!(site.drain.listing_due(), Some(36_000 + CENSUS_PAUSE_MIN));
}

#[test]
fn listing_takes_at_most_a_small_share_of_the_time() {
    let mut site = Site::new(10);
    site.open(&[1], 0);
    site.message("A1", &[1]);
    site.drain.begin_listing(0, at(0));
    assert_eq!(site.drain.listing_due(), None, "one at a time");
    site.drain.end_listing(true, 120_000, Timestamp::default());

    assert_eq!(site.drain.listing_due(), Some(120_000 + 10 * 120_000));
    site.open(&[2], 130_000);
    assert_eq!(site.drain.listing_due(), Some(240_000), "a new wave comes sooner");
}

#[test]
fn a_listing_that_broke_off_is_begun_again() {
    let mut site = Site::new(10);
    site.open(&[1], 0);
    site.message("A1", &[1]);
    site.drain.begin_listing(0, at(0));
    site.tell();
    site.drain.end_listing(false, 1_000, Timestamp::default());

    assert_eq!(site.drain.listing_due(), Some(1_000 + FAILED_PAUSE));
    assert_eq!(site.flushes(1_000, 2_000), ["A1"], "what it told is true");
    assert!(site.drain.report("mx1", 2_000).is_none(), "but not all");
}

#[test]
fn a_message_that_is_not_taken_is_kept_and_nothing_is_tried_for_a_while() {
    let mut site = Site::new(10);
    site.open(&[1], 0);
    site.message("A1", &[1]);
    site.message("A2", &[1]);
    site.listing(0);
    let flush = site.drain.next_flush(1_000).unwrap();
    site.drain.flushed(flush, false, 1_000);

    assert_eq!(site.flushes(1_000, 5_900), Vec::<String>::new());
    assert_eq!(site.flushes(6_000, 8_000), ["A1", "A2"]);
}

#[test]
fn a_mailbox_that_was_reclosed_meanwhile_gets_nothing_until_it_opens_again() {
    let mut site = Site::new(10);
    site.open(&[1], 0);
    site.message("A1", &[1]);
    site.listing(0);
    site.view.set(MailboxNumber::new(1), false);

    assert_eq!(site.flushes(0, 5_000), Vec::<String>::new());
    site.open(&[1], 6_000);
    assert_eq!(site.flushes(6_000, 7_000), ["A1"]);
}

#[test]
fn an_address_with_an_extension_or_in_capitals_is_that_of_its_mailbox() {
    let view = view(10);
    let found = |address: &str| {
        let line = format!(
            "{{\"queue_name\":\"deferred\",\"queue_id\":\"A1\",\"arrival_time\":1,\
             \"recipients\":[{{\"address\":\"{address}\"}}]}}"
        );
        let mut seen = Vec::new();
        let lines =
            tidegate_mailserver::queue::read_lines(line.as_bytes(), &mut |queued| {
                seen = Found::of(queued, &view, "+").recipients;
                true
            });
        lines.unwrap();
        seen.first().map(|mailbox| mailbox.get())
    };

    assert_eq!(found("User7@Example.ORG"), Some(7));
    assert_eq!(found("user7+shops+more@example.org"), Some(7));
    assert_eq!(found("user7-shops@example.org"), None);
    assert_eq!(found("+@example.org"), None);
    assert_eq!(found("MAILER-DAEMON"), None);
}

#[test]
fn what_could_be_delivered_and_waits_is_told_by_node() {
    let mut site = Site::new(10);
    site.message("A1", &[1]);
    site.message("A3", &[3]);
    site.message("A7", &[7]);
    site.open(&[1, 7], 10_000);
    site.view.set_storages(vec![Storage::default(); 2]);

    site.listing(70_000);

    let waits = |site: &Site, now| {
        let nodes = site.drain.report("mx1", now).unwrap().nodes;
        nodes.into_iter().map(|(node, seconds)| (node.get(), seconds)).collect::<Vec<_>>()
    };
    assert_eq!(waits(&site, 70_000), [(0, 60), (1, 60)], "since the opening");
    assert_eq!(waits(&site, 75_000), [(0, 65), (1, 65)]);
    site.queue.retain(|found| found.id.as_str() == "A3");
    site.listing(80_000);
    assert_eq!(waits(&site, 80_000), [], "what is held is not late");
}

#[test]
fn mail_is_no_younger_because_its_wave_goes_on_opening() {
    let mut site = Site::new(10);
    site.message("A1", &[1]);
    site.message("A7", &[7]);
    site.open(&[1], 10_000);
    site.view.set_storages(vec![Storage::default(); 2]);
    site.open(&[7], 60_000);

    site.listing(70_000);

    let nodes = site.drain.report("mx1", 70_000).unwrap().nodes;
    let waits: Vec<_> = nodes.into_iter().map(|(node, it)| (node.get(), it)).collect();
    assert_eq!(waits, [(0, 60), (1, 10)], "each since its own opening");
}

/// The clock on the wall; when it stood at 0, the messages of these tests arrived.
fn at(now: Millis) -> Timestamp {
    Timestamp::from_millis(100_000 + now)
}

/// A queue, and a drain that looks at it.
struct Site {
    view: Arc<View>,
    drain: Drain,
    queue: Vec<Found>,
}

impl Site {
    fn new(mailboxes: u32) -> Self {
        let view = view(mailboxes);
        let drain = Drain::new(Arc::clone(&view), 100, 0);
        Self { view, drain, queue: Vec::new() }
    }

    fn restart(&mut self, now: Millis) {
        self.drain = Drain::new(Arc::clone(&self.view), 100, now);
    }

    fn message(&mut self, id: &str, to: &[u32]) {
        self.put(id, Place::Deferred, to);
    }

    fn put(&mut self, id: &str, place: Place, to: &[u32]) {
        self.queue.push(Found {
            id: QueueId::new(id).unwrap(),
            place,
            arrived_unix: 100,
            recipients: to.iter().copied().map(MailboxNumber::new).collect(),
        });
    }

    fn open(&mut self, mailboxes: &[u32], now: Millis) {
        let mailboxes: Vec<_> =
            mailboxes.iter().copied().map(MailboxNumber::new).collect();
        for mailbox in &mailboxes {
            assert!(self.view.set(*mailbox, true));
        }
        self.drain.opened(&mailboxes, now);
    }

    fn listing(&mut self, now: Millis) {
        self.drain.begin_listing(now, at(now));
        self.tell();
        self.drain.end_listing(true, now, Timestamp::default());
    }

    fn tell(&mut self) {
        self.queue.iter().for_each(|found| self.drain.list(found));
    }

    /// What is handed back, and taken, in some time.
    fn flushes(&mut self, from: Millis, to: Millis) -> Vec<String> {
        let mut flushed = Vec::new();
        for now in (from..to).step_by(10) {
            while let Some(flush) = self.drain.next_flush(now) {
                flushed.push(flush.id.to_string());
                self.drain.flushed(flush, true, now);
            }
        }
        flushed
    }

    fn report(&self, now: Millis) -> Vec<String> {
        let report = self.drain.report("mx1", now).unwrap();
        let waves = report.waves.iter().map(|queue| {
            let oldest = queue.oldest_at.map_or(0, |at| at.millis() / 1_000);
            let WaveQueue {
                wave, messages, recipients, open_recipients, flushed, ..
            } = queue;
            format!(
                "{wave}: {messages} messages, {recipients} recipients, \
                 {open_recipients} open, oldest {oldest}, flushed {flushed}"
            )
        });
        waves.collect()
    }

    fn left(&self) -> u64 {
        self.drain.report("mx1", 0).unwrap().waves.iter().map(|queue| queue.left).sum()
    }
}
