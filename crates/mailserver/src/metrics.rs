//! Metrics: what Dovecot counted between two scrapes of its statistics.
//!
//! Format: `OpenMetrics`, <https://prometheus.io/docs/specs/om/open_metrics_spec/>, as Dovecot 2.3 writes it.
//!
//! # Quantiles
//!
//! A histogram says how many events took at most so long, for some bounds. With `n` events
//! between two scrapes, the quantile `q` is the time of the event with rank `ceil(q n)`. It lies
//! in the first bucket `(low, high]` whose count reaches that rank, and this is all that is
//! known for sure. The estimate goes geometrically into the bucket, by how far its events are
//! used up: `low (high / low)^((rank - below) / inside)`. It is wrong by a factor of at most
//! `high / low`: 2 with the buckets `exponential:7:24:2` that our configuration has, 10 with
//! those of Dovecot's examples. In the first bucket `low` is half of `high`; above the last
//! bound the estimate is that bound, and true times are longer.
//!
//! # Invariants
//!
//! * A counter that went back has started anew, and counts from zero; a difference is never
//!   negative.
//! * What Dovecot does not tell is nothing, never zero: see [`Activity`]. A metric that is
//!   declared and has no series yet is zero: nothing of that kind has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longer than any page that Dovecot writes: a hundred metrics of a thousand lines.
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// Names of the metrics in Dovecot's configuration, with the prefix that it puts before them.
const PASSDB: &str = "dovecot_passdb";
const AUTH_FAILURES: &str = "dovecot_auth_failures";
const COMMAND: &str = "dovecot_imap_command";
const COMMAND_LATENCY: &str = "dovecot_imap_command_latency";
const LMTP: &str = "dovecot_lmtp_cmd";
const DELIVERY: &str = "dovecot_mail_delivery";
const STORAGE_ERRORS: &str = "dovecot_storage_errors";

/// Commands that last as long as the client likes, and break off when it goes.
const UNTIMED: [&str; 3] = ["IDLE", "APPEND", "NOTIFY"];

/// All numbers of a page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    series: BTreeMap<String, Vec<Series>>,
    /// Names of metrics that the page says there are, with or without series.
    declared: BTreeSet<String>,
}

/// What was counted between two scrapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Of names that the later page has.
    series: BTreeMap<String, Vec<Series>>,
    declared: BTreeSet<String>,
}

/// A number, and what it is about.
#[derive(Debug, Clone, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

/// How long events took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// How many took at most so many seconds, by rising bounds.
    buckets: Vec<(f64, f64)>,
}

/// Where a quantile lies, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    /// It is more than this.
    pub low: f64,
    /// It is at most this.
    pub high: f64,
    /// The best guess.
    pub estimate: f64,
}

/// What users and senders met with, between two scrapes. A field is nothing where Dovecot's
/// configuration has no metric for it, and a quantile is nothing where there were no events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Activity {
    /// Answers of the password databases.
    pub lookups: Option<u64>,
    /// What 95 % of these took at most.
    pub lookup_p95: Option<Duration>,
    /// Log-ins that failed, for whatever reason.
    pub login_failures: Option<u64>,
    /// IMAP commands that ended, without those that wait for the client.
    pub commands: Option<u64>,
    /// What 95 % of these took at most.
    pub command_p95: Option<Duration>,
    /// How many of these ended in NO or BAD, or not at all because the connection broke.
    pub command_errors: Option<u64>,
    /// Messages that were delivered, or tried to.
    pub deliveries: Option<u64>,
    /// What 95 % of these took at most.
    pub delivery_p95: Option<Duration>,
    /// Recipients and messages that LMTP refused for good: their senders get bounces. Without
    /// those whose mailbox is full: that is their owner's doing, and likely after days.
    pub refusals: Option<u64>,
    /// Recipients and messages that LMTP put off.
    pub deferrals: Option<u64>,
    /// Errors in mailboxes.
    pub storage_errors: Option<u64>,
}

/// How LMTP refuses mail for a full mailbox (RFC 5321, 4.2.3), as Dovecot's quota does.
const OVER_QUOTA: &str = "552";

/// A page could not be had.
#[derive(Debug, thiserror::Error)]
#[error("scrape {url}")]
pub struct ScrapeError {
    /// Where from.
    pub url: String,
    #[source]
    source: Box<ureq::Error>,
}

impl Scrape {
    /// Gets a page, like `http://127.0.0.1:9900/metrics`.
    ///
    /// # Errors
    ///
    /// There is no page, or not in time.
    pub fn get(url: &str, patience: Duration) -> Result<Self, ScrapeError> {
        let failed =
            |source| ScrapeError { url: url.to_owned(), source: Box::new(source) };
        let agent = ureq::Agent::config_builder().timeout_global(Some(patience)).build();
        let agent: ureq::Agent = agent.into();
        let mut answer = agent.get(url).call().map_err(failed)?;
        let body = answer.body_mut().with_config().limit(PAGE_BYTES_MAX);
        let page = body.read_to_vec().map_err(failed)?;
        Ok(Self::parse(&String::from_utf8_lossy(&page)))
    }

    /// Reads a page; lines that are none are left out.
    pub fn parse(page: &str) -> Self {
        let mut scrape = Self::default();
        for line in page.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let name = declared.split(' ').next().unwrap_or_default();
                scrape.declared.insert(name.to_owned());
            } else if !line.starts_with('#')
                && let Some((name, series)) = parse_line(line)
            {
                scrape.series.entry(name.to_owned()).or_default().push(series);
            }
        }
        scrape
    }

    /// What was counted since an earlier scrape of the same server.
    pub fn since(&self, earlier: &Self) -> Change {
        let mut series = self.series.clone();
        for (name, of_name) in &mut series {
            let before = earlier.series.get(name).map_or(&[][..], Vec::as_slice);
            for one in of_name {
                let found = before.iter().find(|it| it.labels == one.labels);
                let before = found.map_or(0.0, |it| it.value);
                if one.value >= before {
                    one.value -= before;
                }
            }
        }
        Change { series, declared: self.declared.clone() }
    }
}

impl Change {
    /// The sum of a counter over all series that have these labels; nothing when there is
    /// none of this name. `OpenMetrics` lets names of counters end in `_total`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.series.get(name)?.iter();
        Some(all.filter(|it| it.has(labels)).map(|it| it.value).sum())
    }

    /// The series called `name`, of a metric; none if it is only declared, nothing if it is
    /// not even that.
    fn of(&self, metric: &str, name: &str) -> Option<&[Series]> {
        let none = || self.declared.contains(metric).then_some(&[][..]);
        self.series.get(name).map(Vec::as_slice).or_else(none)
    }

    /// A histogram over all series that `wanted` accepts; nothing when there is no metric of
    /// this name.
    pub fn histogram(
        &self,
        name: &str,
        wanted: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> Option<Histogram> {
        let series = self.of(name, &format!("{name}_bucket"))?;
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for one in series.iter().filter(|it| wanted(&it.labels)) {
            let Some(bound) = one.labels.get("le").and_then(|it| it.parse().ok()) else {
                continue;
            };
            match buckets
                .iter_mut()
                .find(|(other, _)| f64::total_cmp(other, &bound).is_eq())
            {
                Some((_, count)) => *count += one.value,
                None => buckets.push((bound, one.value)),
            }
        }
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Some(Histogram { buckets })
    }

    /// What users and senders met with.
    pub fn activity(&self) -> Activity {
        let any = |_: &BTreeMap<String, String>| true;
        let p95 = |histogram: &Option<Histogram>| {
            let quantile = histogram.as_ref()?.quantile(0.95)?;
            Some(Duration::from_secs_f64(quantile.estimate))
        };
        let lookups = self.histogram(PASSDB, any);
        let latency = self.histogram(COMMAND_LATENCY, is_timed);
        let deliveries = self.histogram(DELIVERY, any);
        let counter = |name: &str| {
            let sum = self.sum(&format!("{name}_total"), &[]);
            sum.map(whole)
        };
        let commands = self.commands();
        Activity {
            lookup_p95: p95(&lookups),
            lookups: lookups.map(|it| it.count()),
            login_failures: counter(AUTH_FAILURES),
            command_p95: p95(&latency),
            commands: commands.map(|(all, _)| all),
            command_errors: commands.map(|(all, good)| all.saturating_sub(good)),
            delivery_p95: p95(&deliveries),
            deliveries: deliveries.map(|it| it.count()),
            refusals: self.lmtp('5'),
            deferrals: self.lmtp('4'),
            storage_errors: counter(STORAGE_ERRORS),
        }
    }

    /// IMAP commands, all of them and those that ended well. Dovecot writes a series for each
    /// command, and others for how it ended; a command that broke off is in the first only.
    fn commands(&self) -> Option<(u64, u64)> {
        let series = self.of(COMMAND, &format!("{COMMAND}_total"))?;
        let (mut all, mut good) = (0.0, 0.0);
        for one in series.iter().filter(|it| is_timed(&it.labels)) {
            match one.labels.get("tagged_reply_state").map(String::as_str) {
                None => all += one.value,
                Some("OK") => good += one.value,
                Some(_) => {}
            }
        }
        Some((whole(all), whole(good)))
    }

    /// How often LMTP answered with such a code to a recipient or a message.
    fn lmtp(&self, class: char) -> Option<u64> {
        let series = self.of(LMTP, &format!("{LMTP}_count"))?;
        let label =
            |one: &Series, name| one.labels.get(name).cloned().unwrap_or_default();
        let wanted = series.iter().filter(|one| {
            let code = label(one, "status_code");
            ["RCPT", "DATA", "BDAT"].contains(&label(one, "cmd_name").as_str())
                && code.starts_with(class)
                && code != OVER_QUOTA
        });
        Some(whole(wanted.map(|one| one.value).sum()))
    }
}

impl Histogram {
    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| whole(*count))
    }

    /// Where a quantile lies, see above; nothing without events.
    pub fn quantile(&self, share: f64) -> Option<Quantile> {
        let (_, count) = *self.buckets.last().filter(|(_, count)| *count >= 1.0)?;
        let rank = (share * count).ceil().clamp(1.0, count);
        let (mut low, mut below) = (0.0, 0.0);
        for (high, up_to) in self.buckets.iter().copied() {
            if up_to < rank {
                (low, below) = (high, up_to);
                continue;
            }
            if high.is_infinite() {
                return Some(Quantile { low, high, estimate: low });
            }
            let from = if low > 0.0 { low } else { high / 2.0 };
            let inside = (rank - below) / (up_to - below).max(1.0);
            return Some(Quantile {
                low,
                high,
                estimate: from * (high / from).powf(inside),
            });
        }
        None
    }
}

impl Series {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(*name).is_some_and(|it| it == value))
    }
}

fn is_timed(labels: &BTreeMap<String, String>) -> bool {
    !labels.get("cmd_name").is_some_and(|it| UNTIMED.contains(&it.as_str()))
}

/// `name{label="value",...} number`, with or without labels; a timestamp may follow.
fn parse_line(line: &str) -> Option<(&str, Series)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at_checked(end)?;
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = unquoted(value)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name, Series { labels, value }))
}

/// A value up to its closing quotation mark, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(char),
        }
    }
    None
}

/// A count as such.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, not negative and below 2^53"
)]
fn whole(count: f64) -> u64 {
    count.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Dovecot 2.3.19 writes it.
    const PAGE: &str = r#"# HELP process_start_time_seconds Timestamp of service start
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1795326715
dovecot_build_info{version="2.3.19.1",revision="9b53102964"} 1
dovecot_auth_failures_total 1
dovecot_passdb_bucket{result="ok",le="0.000100"} 3
dovecot_passdb_bucket{result="ok",le="0.001000"} 3
dovecot_passdb_bucket{result="ok",le="+Inf"} 3
dovecot_passdb_bucket{result="password_mismatch",le="0.000100"} 0
dovecot_passdb_bucket{result="password_mismatch",le="0.001000"} 1
dovecot_passdb_bucket{result="password_mismatch",le="+Inf"} 1
dovecot_imap_command_total{cmd_name="STATUS"} 4
dovecot_imap_command_total{cmd_name="STATUS",tagged_reply_state="OK"} 2
dovecot_imap_command_total{cmd_name="STATUS",tagged_reply_state="NO"} 2
dovecot_imap_command_total{cmd_name="IDLE"} 9
dovecot_imap_command_total{cmd_name="FETCH"} 4
dovecot_imap_command_total{cmd_name="FETCH",tagged_reply_state="OK"} 2
dovecot_imap_command_total{cmd_name="FETCH",tagged_reply_state="BAD"} 1
dovecot_imap_command_count 12
dovecot_imap_command_latency_bucket{cmd_name="IDLE",le="10.000000"} 0
dovecot_imap_command_latency_bucket{cmd_name="IDLE",le="+Inf"} 9
dovecot_imap_command_latency_bucket{cmd_name="FETCH",le="0.001000"} 3
dovecot_imap_command_latency_bucket{cmd_name="FETCH",le="0.010000"} 4
dovecot_imap_command_latency_bucket{cmd_name="FETCH",le="+Inf"} 4
dovecot_lmtp_cmd_count{cmd_name="LHLO",status_code="502"} 7
dovecot_lmtp_cmd_count{cmd_name="RCPT",status_code="250"} 6
dovecot_lmtp_cmd_count{cmd_name="RCPT",status_code="451"} 3
dovecot_lmtp_cmd_count{cmd_name="RCPT",status_code="550"} 2
dovecot_lmtp_cmd_count{cmd_name="DATA",status_code="552"} 1
dovecot_mail_delivery_bucket{le="0.010000"} 0
dovecot_mail_delivery_bucket{le="+Inf"} 0
dovecot_storage_errors_total 1
odd{label="quoted \" and \\ and \n",other="}"} 2.5 1395066363000
# EOF
"#;

    #[test]
    fn a_page_tells_what_users_met_with() {
        let activity = Scrape::parse(PAGE).since(&Scrape::default()).activity();

        assert_eq!(activity.lookups, Some(4));
        assert_eq!(activity.login_failures, Some(1));
        assert_eq!((activity.commands, activity.command_errors), (Some(8), Some(4)));
        // Of four, the last one lies between 1 and 10 ms; IDLE does not count.
        assert_eq!(activity.command_p95, Some(Duration::from_millis(10)));
        // The full mailbox is its owner's doing.
        assert_eq!((activity.refusals, activity.deferrals), (Some(2), Some(3)));
        assert_eq!((activity.deliveries, activity.delivery_p95), (Some(0), None));
        assert_eq!(activity.storage_errors, Some(1));
    }

    #[test]
    fn what_is_not_counted_is_nothing_and_not_zero() {
        let empty = Scrape::parse("# EOF\nnonsense\nhalf{a=\"b\n nan NaN\n");

        assert_eq!(empty.since(&Scrape::default()).activity(), Activity::default());
    }

    #[test]
    fn a_change_counts_only_what_came_and_a_restart_begins_at_zero() {
        let before = Scrape::parse("a_total{x=\"1\"} 5\na_total{x=\"2\"} 9\n");
        let after = Scrape::parse("a_total{x=\"1\"} 7\na_total{x=\"2\"} 4\na_total 1\n");

        let change = after.since(&before);

        assert_eq!(change.sum("a_total", &[("x", "1")]), Some(2.0));
        assert_eq!(change.sum("a_total", &[("x", "2")]), Some(4.0));
        assert_eq!(change.sum("a_total", &[]), Some(7.0));
        assert_eq!(change.sum("b_total", &[]), None);
        let odd = Scrape::parse(PAGE).since(&Scrape::default());
        let odd_label = [("label", "quoted \" and \\ and \n"), ("other", "}")];
        assert_eq!(odd.sum("odd", &odd_label), Some(2.5));
    }

    #[test]
    fn a_quantile_is_off_by_no_more_than_its_bucket() {
        // True times are 1 to 1000 ms; buckets double.
        let bounds = (0..12).map(|power| f64::from(1 << power) / 1000.0);
        let mut buckets: Vec<_> =
            bounds.map(|bound| (bound, (bound * 1000.0).min(1000.0))).collect();
        buckets.push((f64::INFINITY, 1000.0));
        let histogram = Histogram { buckets };

        for (share, truth) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99), (0.01, 0.01)] {
            let Quantile { low, high, estimate } = histogram.quantile(share).unwrap();

            assert!(low < truth && truth <= high, "{share}: {low} {high}");
            assert!(
                (truth / 2.0..=truth * 2.0).contains(&estimate),
                "{share}: {estimate}"
            );
        }
        let long = Histogram { buckets: vec![(10.0, 1.0), (f64::INFINITY, 2.0)] };
        let above = long.quantile(0.95).unwrap();
        assert!(above.high.is_infinite() && above.estimate >= 10.0);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
