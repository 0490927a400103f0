//! Queue: what waits for each wave in the queues of the mail exchangers.
//!
//! # Invariants
//!
//! * An exchanger that is silent is named: what waits there is not counted.

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::v1::{Exchanger, Queue, Rollout, Wave};

use super::json::{Time, when};
use super::{at, instant, say};
use crate::console::{safe, thousands};

/// Waves with something in the queue that are listed; the rest is summed up.
const WAVES_SHOWN: usize = 8;

/// A line for each wave that mail waits for; nothing while no exchanger reports.
pub(crate) fn queues(rollout: &Rollout) -> String {
    if rollout.exchangers.is_empty() {
        return String::new();
    }
    let now = at!(rollout.at_time);
    let waiting = || {
        let queue = |wave: &Wave| wave.queue.filter(|queue| queue.messages > 0);
        rollout.waves.iter().filter_map(move |wave| Some((wave, queue(wave)?)))
    };
    let mut text = "queue:".to_owned();
    if waiting().next().is_none() {
        text.push_str("    nothing waits for any wave\n");
    } else {
        text.push('\n');
    }
    for (wave, queue) in waiting().take(WAVES_SHOWN) {
        say!(text, "  {}: {}\n", safe(&wave.name), line(&queue, now));
    }
    let more = waiting().skip(WAVES_SHOWN).count();
    if more > 0 {
        let messages = waiting().skip(WAVES_SHOWN).map(|(_, queue)| queue.messages);
        say!(text, "  … {more} more waves: {} messages\n", long(messages.sum()));
    }
    for silent in rollout.exchangers.iter().filter(|exchanger| exchanger.silent) {
        say!(
            text,
            "  exchanger {} is silent; its queue is not counted\n",
            safe(&silent.name)
        );
    }
    text.push('\n');
    text
}

/// `1,234 messages, oldest 2 d 3 h, 20 to deliver now, draining 40/s`.
fn line(queue: &Queue, now: Timestamp) -> String {
    let mut text = format!("{} messages", long(queue.messages));
    if let Some(oldest) = queue.oldest_time.as_ref().and_then(instant) {
        say!(text, ", oldest {}", age(now.since(oldest)));
    }
    if queue.open_recipients > 0 {
        say!(text, ", {} to deliver now", long(queue.open_recipients));
    }
    if queue.flushed_per_second > 0 {
        say!(text, ", draining {}/s", thousands(queue.flushed_per_second));
    }
    if queue.left > 0 {
        say!(text, ", {} left to the mail server", long(queue.left));
    }
    text
}

/// `2 d 3 h`; hours and minutes below two days.
fn age(span: Span) -> String {
    let hours = span.millis() / 3_600_000;
    if hours < 48 {
        return Span::from_secs(span.millis() / 1_000).to_string();
    }
    format!("{} d {} h", hours / 24, hours % 24)
}

fn long(number: u64) -> String {
    thousands(u32::try_from(number).unwrap_or(u32::MAX))
}

/// What waits for a wave in the queues of the mail exchangers, summed over those that report.
#[derive(Serialize, JsonSchema)]
pub(crate) struct QueueShown {
    /// Messages with a recipient in it.
    messages: u64,
    /// Recipients in it.
    recipients: u64,
    /// Of these, recipients whose mailbox takes mail.
    open_recipients: u64,
    /// When the oldest message arrived.
    oldest_time: Option<Time>,
    /// Messages handed back for delivery since the exchangers started.
    flushed: u64,
    /// The same over the last seconds, each second.
    flushed_per_second: u32,
    /// Messages that came back after several tries and are left to the mail servers.
    left: u64,
}

/// What waits for one wave, for programs.
pub(crate) fn shown(queue: &Queue) -> QueueShown {
    QueueShown {
        messages: queue.messages,
        recipients: queue.recipients,
        open_recipients: queue.open_recipients,
        oldest_time: when!(queue.oldest_time),
        flushed: queue.flushed,
        flushed_per_second: queue.flushed_per_second,
        left: queue.left,
    }
}

/// A mail exchanger that reports its queue.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ExchangerShown<'a> {
    /// Its name.
    name: &'a str,
    /// Whether it has not reported for a minute; then its queue is not counted.
    silent: bool,
    /// When it last listed its queue completely.
    listed_time: Option<Time>,
    /// All messages in its queue at that time.
    messages: u64,
}

/// The mail exchangers, for programs.
pub(crate) fn exchangers(exchangers: &[Exchanger]) -> Vec<ExchangerShown<'_>> {
    exchangers.iter().map(ExchangerShown::of).collect()
}

impl<'a> ExchangerShown<'a> {
    fn of(exchanger: &'a Exchanger) -> Self {
        Self {
            name: &exchanger.name,
            silent: exchanger.silent,
            listed_time: when!(exchanger.listed_time),
            messages: exchanger.messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidegate_wire::protocol::timestamp;

    use super::*;

    #[test]
    fn what_waits_is_said_wave_by_wave_and_silence_is_named() {
        let at = |seconds: u64| Some(timestamp(Timestamp::from_millis(seconds * 1_000)));
        let busy = Queue {
            messages: 1_234,
            recipients: 1_300,
            open_recipients: 20,
            oldest_time: at(1_000_000),
            flushed: 80,
            flushed_per_second: 40,
            left: 3,
        };
        let quiet = Queue { messages: 2, oldest_time: at(1_180_000), ..Queue::default() };
        let wave = |name: &str, queue| {
            let name = name.to_owned();
            Wave { name, queue, ..Wave::default() }
        };
        let exchanger =
            Exchanger { name: "mx2".to_owned(), silent: true, ..Exchanger::default() };
        let rollout = Rollout {
            at_time: at(1_183_600),
            waves: vec![
                wave("canary", Some(busy)),
                wave("paying", Some(Queue::default())),
                wave("rest", Some(quiet)),
            ],
            exchangers: vec![exchanger],
            ..Rollout::default()
        };

        expect![[r"
            queue:
              canary: 1,234 messages, oldest 2 d 3 h, 20 to deliver now, draining 40/s, 3 left to the mail server
              rest: 2 messages, oldest 1 h
              exchanger mx2 is silent; its queue is not counted

        "]]
        .assert_eq(&queues(&rollout));
        assert_eq!(queues(&Rollout::default()), "");
    }
}
