//! Schedule: the ladder, what waits for it, and what held users are told of it.
//!
//! # Invariants
//!
//! * Hours of windows are those that users are told, by the clocks of the notice's zone; all
//!   other times are UTC.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_core::time::{MinuteOf, Span, Timestamp};
use tidegate_wire::v1::{
    Forecast, Mailbox, MailboxRung, Rollout, Rung, RungState, Wave, WaveState, Window,
};

use super::diagnosis::level_name;
use super::json::{Time, when};
use super::{at, instant, say};
use crate::console::safe;

/// The ladder on one line: `receive (lmtp; soak 1 s), webmail (webmail; soak 15 min)`.
pub(crate) fn ladder(rungs: &[Rung]) -> String {
    let rung = |rung: &Rung| {
        let soak = rung.soak_millis.map(Span::from_millis);
        let soak = soak.map_or_else(String::new, |soak| format!("; soak {soak}"));
        format!("{} ({}{soak})", safe(&rung.name), safe(&rung.services.join(", ")))
    };
    rungs.iter().map(rung).collect::<Vec<_>>().join(", ")
}

/// Waves between two rungs, and until when they wait.
pub(crate) fn waiting(rollout: &Rollout) -> String {
    let mut out = String::new();
    for wave in rollout.waves.iter().filter(|wave| wave.due_time.is_some()) {
        let (name, next) = (safe(&wave.name), level_name(rollout, wave.passed + 1));
        let due = MinuteOf(at!(wave.due_time));
        say!(out, "  {name} waits for its schedule: {next} not before {due}\n");
    }
    out
}

/// When all waves will stand on the top, on one line; nothing where one of them cannot be told.
pub(crate) fn done(rollout: &Rollout) -> Option<String> {
    let climbs = |wave: &&Wave| wave.state() != WaveState::Passed;
    let climbing: Option<Vec<&Forecast>> =
        rollout.waves.iter().filter(climbs).map(|wave| wave.finish.as_ref()).collect();
    let last = climbing?.into_iter().max_by_key(|it| at!(it.p50_time))?;
    let middle = MinuteOf(at!(last.p50_time));
    Some(format!("about {middle}; 8 in 10 times {} UTC", finish(Some(last))))
}

/// When a wave will stand on the top, in eight of ten cases.
pub(crate) fn finish(forecast: Option<&Forecast>) -> String {
    let shown = |it: &Forecast| window(at!(it.p10_time), at!(it.p90_time), "UTC");
    forecast.map_or_else(String::new, shown)
}

/// When a wave will stand on the top, for programs.
pub(crate) fn finish_shown(forecast: Option<&Forecast>) -> Option<Finish> {
    forecast.map(|it| Finish {
        p10: when!(it.p10_time),
        p50: when!(it.p50_time),
        p90: when!(it.p90_time),
    })
}

/// When something will be done, from what has been seen.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Finish {
    /// Earlier in one of ten cases.
    #[serde(rename = "p10_time")]
    p10: Option<Time>,
    /// As often earlier as later.
    #[serde(rename = "p50_time")]
    p50: Option<Time>,
    /// Later in one of ten cases.
    #[serde(rename = "p90_time")]
    p90: Option<Time>,
}

/// When something is expected, as users are told.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Window")]
pub(crate) struct WindowShown {
    /// Not before.
    pub(crate) from_time: Time,
    /// Not after.
    pub(crate) to_time: Time,
}

/// How long a wave waits before its rungs: `mail 1 h after webmail`; empty if nowhere.
pub(crate) fn delays(rungs: &[&str], delays: &[(&str, Span)]) -> String {
    let before = |name: &str| {
        let place = rungs.iter().position(|rung| *rung == name)?.checked_sub(1)?;
        rungs.get(place).copied()
    };
    let parts = delays.iter().map(|(rung, delay)| match before(rung) {
        Some(before) => format!("{} {delay} after {}", safe(rung), safe(before)),
        None => format!("{} after {delay}", safe(rung)),
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// A window by the clocks of `zone`: `2026-01-25 08:00-11:30`; UTC if the zone is unknown.
pub(crate) fn window(from: Timestamp, to: Timestamp, zone: &str) -> String {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let local = |at: Timestamp| {
        let millis = i64::try_from(at.millis()).unwrap_or(i64::MAX);
        let at = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
        zone.to_datetime(at)
    };
    let (from, to) = (local(from), local(to));
    let begin = from.strftime("%Y-%m-%d %H:%M");
    if from.date() == to.date() {
        format!("{begin}-{}", to.strftime("%H:%M"))
    } else {
        format!("{begin} to {}", to.strftime("%Y-%m-%d %H:%M"))
    }
}

/// A window of the wire; nothing if it is none.
pub(crate) fn window_of(window: Option<&Window>) -> Option<(Timestamp, Timestamp)> {
    let window = window?;
    let from = window.from_time.as_ref().and_then(instant)?;
    Some((from, window.to_time.as_ref().and_then(instant)?))
}

/// When a wave is expected back, by the clocks of the rollout's notice; nothing if nobody said.
pub(crate) fn expected(rollout: &Rollout, wave: &Wave) -> Option<String> {
    let zone = rollout.notice.as_ref().map_or("", |notice| notice.zone.as_str());
    window_of(wave.expected.as_ref()).map(|(from, to)| window(from, to, zone))
}

/// A window for programs.
pub(crate) fn window_shown(window: Option<&Window>) -> Option<WindowShown> {
    window_of(window)
        .map(|(from, to)| WindowShown { from_time: from.into(), to_time: to.into() })
}

/// What works of each rung for a mailbox, a line each.
pub(crate) fn rungs(mailbox: &Mailbox) -> String {
    let width = mailbox.rungs.iter().map(|rung| rung.name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut out = String::new();
    for rung in &mailbox.rungs {
        let name = safe(&rung.name);
        let services = safe(&rung.services.join(", "));
        say!(out, "  {name:<width$}  {services}: {}\n", rung_text(rung));
    }
    out
}

fn rung_text(rung: &MailboxRung) -> String {
    let time = at!(rung.time);
    match rung.state() {
        RungState::Unspecified => "unknown".to_owned(),
        RungState::Open => format!("open; its wave since {}", MinuteOf(time)),
        RungState::Opening => format!("opening; its wave since {}", MinuteOf(time)),
        RungState::Scheduled => {
            format!("waits for its schedule until {}", MinuteOf(time))
        }
        RungState::Held => "held".to_owned(),
    }
}

/// A rung's state as a word.
pub(crate) fn rung_word(state: RungState) -> &'static str {
    match state {
        RungState::Unspecified => "unknown",
        RungState::Open => "open",
        RungState::Opening => "opening",
        RungState::Scheduled => "scheduled",
        RungState::Held => "held",
    }
}

/// What the user of a mailbox is told whose service does not work yet; nothing if all do.
pub(crate) fn told(mailbox: &Mailbox, now: Timestamp) -> Option<String> {
    use tidegate_worker::{Notice, Notices, Zone};

    let is_open = |rung: &MailboxRung| rung.state() == RungState::Open;
    if mailbox.rungs.iter().all(is_open) {
        return None;
    }
    let notice = mailbox.notice.as_ref()?;
    let seconds = |at: Timestamp| i64::try_from(at.millis() / 1_000).unwrap_or(i64::MAX);
    let back = window_of(mailbox.expected.as_ref()).map(|(from, to)| {
        tidegate_worker::Window { from_unix: seconds(from), to_unix: seconds(to) }
    });
    let language = notice.language.parse().ok();
    let zone = Zone::named(&notice.zone).ok();
    let notices = Notices { zone, ..Notices::default() };
    Some(Notice { language, back }.text(&notices, seconds(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_shown_by_the_clocks_of_its_zone() {
        let from = Timestamp::from_millis(1_769_324_400_000);
        let hours = |hours: u64| from + Span::from_secs(hours * 3_600);

        let shown = [(2, "Europe/Rome"), (2, ""), (20, "Europe/Rome")]
            .map(|(to, zone)| window(from, hours(to), zone));

        assert_eq!(
            shown,
            [
                "2026-01-25 08:00-10:00",
                "2026-01-25 07:00-09:00",
                "2026-01-25 08:00 to 2026-01-26 04:00",
            ]
        );
    }

    #[test]
    fn a_delay_names_the_rung_that_it_counts_from() {
        let shown = delays(
            &["receive", "webmail", "mail"],
            &[("mail", Span::from_secs(3_600)), ("webmail", Span::from_secs(5))],
        );

        assert_eq!(shown, "mail 1 h after webmail, webmail 5 s after receive");
    }
}
