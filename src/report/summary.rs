//! Summary: the page of a report that people read first, made from its other files alone.
//!
//! # Invariants
//!
//! * Whoever has the files makes the same bytes again.
//! * It names people who decided, and nobody whose mailbox it is about.
//! * What the files do not say is left out, never supposed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tidegate_core::rollout::Grade;

use super::{COMPENSATION, EVENTS, OUTAGE, SUMS, WORDS};
use crate::cli::Dialect;
use crate::console::{safe, thousands};
use crate::screens::{Table, say};

/// What is said of messages, and under which name it is counted.
const MESSAGES: [(&str, &str); 7] = [
    ("right as they were", "intact"),
    ("repaired from the snapshot", "repaired"),
    ("lost and brought back", "returned"),
    ("newer than the snapshot, kept", "newer"),
    ("deleted by their owner, stay deleted", "deleted"),
    ("beyond repair, bytes kept aside", "set_aside"),
    ("lost, known by name only", "lost"),
];

/// The page of the report in `dir`, with when the outage began and how its tables are written.
///
/// # Errors
///
/// When a file of it is missing or is not what it should be.
pub(super) fn of(dir: &Path, outage: Option<(&str, Dialect)>) -> anyhow::Result<String> {
    let sums = fs::read(dir.join(SUMS)).context(SUMS)?;
    let sums: Value = serde_json::from_slice(&sums).context(SUMS)?;
    let story = Story::read(dir)?;
    let mut page = head(&sums, &story, outage.map(|(start, _)| start));
    if let Some((_, dialect)) = outage {
        page.push_str(
            "\nOUTAGE, in hours until the waves of half, of 95 %, of all were let in\n",
        );
        page.push_str(&waited(dir, dialect)?);
    }
    page.push_str(&mail(&sums));
    say!(page, "\nDECISIONS  {}\n", story.decisions());
    say!(page, "GATES      {}\n", story.gates());
    if dir.join(WORDS).exists() {
        say!(page, "WORDS      {}\n", words(dir)?);
    }
    if let Some((_, dialect)) = outage.filter(|_| dir.join(COMPENSATION).exists()) {
        say!(page, "OWED       {}\n", owed(dir, dialect)?);
    }
    let aside = number(&sums, "/findings/quarantined");
    say!(page, "OPEN       {} mailboxes set aside: findings.csv\n", thousands(aside));
    Ok(page)
}

fn head(sums: &Value, story: &Story, start: Option<&str>) -> String {
    let text = |place: &str| {
        let found = sums.pointer(place).and_then(Value::as_str);
        safe(found.unwrap_or("-"))
    };
    let mut page = format!(
        "END OF INCIDENT  {}, {}\n\n",
        text("/rollout/name"),
        text("/rollout/state")
    );
    if let Some(start) = start {
        say!(page, "Began      {start}, as declared\n");
    }
    say!(page, "Applied    {}\n", text("/rollout/start_time"));
    let first = story.first.as_deref().map(safe);
    say!(page, "First in   {}\n", first.as_deref().unwrap_or("nobody"));
    say!(page, "Finished   {}\n", text("/rollout/finish_time"));
    let planned = number(sums, "/rollout/planned");
    let excluded = number(sums, "/rollout/excluded");
    say!(
        page,
        "Mailboxes  {} in waves, {} in none\n",
        thousands(planned),
        thousands(excluded)
    );
    page
}

fn number(value: &Value, place: &str) -> u64 {
    value.pointer(place).and_then(Value::as_u64).unwrap_or_default()
}

/// How long each tier waited for each rung.
fn waited(dir: &Path, dialect: Dialect) -> anyhow::Result<String> {
    let header =
        ["TIER", "RUNG", "MAILBOXES", "RESTORED", "ASIDE", "HALF", "95 %", "LONGEST"];
    let mut table = Table::new(&header, &[2, 3, 4, 5, 6, 7]);
    for row in rows(dir, OUTAGE, dialect)? {
        let row = row.context(OUTAGE)?;
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let count =
            |at| cell(at).parse::<u64>().map_or_else(|_| "-".to_owned(), thousands);
        let hours = |at| cell(at).parse().map_or_else(|_| "-".to_owned(), hours);
        table.row([
            safe(cell(0)),
            safe(cell(1)),
            count(2),
            count(3),
            count(4),
            hours(5),
            hours(6),
            hours(7),
        ]);
    }
    Ok(table.render("  "))
}

/// Seconds as hours: `76.8`.
fn hours(seconds: u64) -> String {
    let tenths = (seconds + 180) / 360;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn mail(sums: &Value) -> String {
    let mut page = "\nMAIL, of all prepared mailboxes\n".to_owned();
    for (what, name) in MESSAGES {
        let count = thousands(number(sums, &format!("/messages/{name}")));
        say!(page, "  {what:<38}{count:>15}\n");
    }
    let grades = Grade::ALL.map(Grade::code).map(|grade| {
        format!("{} {grade}", thousands(number(sums, &format!("/grades/{grade}"))))
    });
    say!(page, "  mailboxes came back: {}\n", grades.join(", "));
    page
}

/// What was said in public.
fn words(dir: &Path) -> anyhow::Result<String> {
    let mut times: Vec<jiff::Timestamp> = Vec::new();
    for row in rows(dir, WORDS, Dialect::Standard)? {
        let row = row.context(WORDS)?;
        let time = row.get(0).unwrap_or_default();
        times
            .push(time.parse().with_context(|| format!("{WORDS}: `{time}` is no time"))?);
    }
    times.sort_unstable();
    let silences = times
        .windows(2)
        .filter_map(|pair| Some(pair.last()?.as_second() - pair.first()?.as_second()));
    let longest = silences.max().map_or_else(String::new, |seconds| {
        format!(", the longest silence between two {} min", seconds / 60)
    });
    Ok(format!("{} said in public{longest}: words.csv", times.len()))
}

/// How many mailboxes are owed what.
fn owed(dir: &Path, dialect: Dialect) -> anyhow::Result<String> {
    let mut rows = reader(dir, COMPENSATION, dialect)?;
    let header = rows.headers().context(COMPENSATION)?;
    let place = header.iter().position(|it| it == "rule_id");
    let place = place.with_context(|| format!("{COMPENSATION}: no column of rules"))?;
    let mut rules: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows.into_records() {
        let row = row.context(COMPENSATION)?;
        *rules.entry(row.get(place).unwrap_or_default().to_owned()).or_default() += 1;
    }
    let told = rules.iter().map(|(rule, mailboxes)| {
        let rule = if rule.is_empty() { "by no rule".to_owned() } else { safe(rule) };
        format!("{rule} {}", thousands(*mailboxes))
    });
    Ok(told.collect::<Vec<_>>().join(" · "))
}

fn reader(dir: &Path, name: &str, dialect: Dialect) -> anyhow::Result<csv::Reader<File>> {
    let delimiter = dialect.delimiter();
    let mut builder = csv::ReaderBuilder::new();
    builder
        .delimiter(delimiter)
        .from_path(dir.join(name))
        .with_context(|| name.to_owned())
}

fn rows(
    dir: &Path,
    name: &str,
    dialect: Dialect,
) -> anyhow::Result<csv::StringRecordsIntoIter<File>> {
    Ok(reader(dir, name, dialect)?.into_records())
}

/// What happened, counted.
#[derive(Debug, Default)]
struct Story {
    /// When the first wave was allowed its first level.
    first: Option<String>,
    /// What people did, how often.
    deeds: BTreeMap<String, u64>,
    people: BTreeSet<String>,
    /// What the gate did, how often.
    gates: BTreeMap<String, u64>,
    /// Since when it is stopped.
    stopped: Option<jiff::Timestamp>,
    /// For how many seconds it was, before that.
    still: i64,
    /// When the newest of it happened.
    last: Option<jiff::Timestamp>,
}

impl Story {
    fn read(dir: &Path) -> anyhow::Result<Self> {
        let mut story = Self::default();
        let file = File::open(dir.join(EVENTS)).context(EVENTS)?;
        for line in BufReader::new(file).lines() {
            let event: Value =
                serde_json::from_str(&line.context(EVENTS)?).context(EVENTS)?;
            story.take(&event);
        }
        Ok(story)
    }

    fn take(&mut self, event: &Value) {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let code = text("code").unwrap_or_default();
        if code == "level-allowed" && self.first.is_none() {
            self.first = text("time").map(str::to_owned);
        }
        let at = text("time").and_then(|it| it.parse::<jiff::Timestamp>().ok());
        self.last = at.or(self.last);
        let says = text("text").unwrap_or_default();
        // A single mailbox that is re-closed or let go on stops nothing else.
        let is_of_a_part = ["wave `", "node `"].iter().any(|it| says.starts_with(it));
        match code {
            "paused" | "frozen" | "halted" => self.stopped = self.stopped.or(at),
            "reclosed" if is_of_a_part => self.stopped = self.stopped.or(at),
            "resumed" if says.starts_with("resumed by") => self.goes_on(at),
            "finished" | "aborted" => self.goes_on(at),
            _ => {}
        }
        if let Some(by) = text("by") {
            self.people.insert(by.to_owned());
            *self.deeds.entry(code.to_owned()).or_default() += 1;
        } else if ["expanded", "halted", "node-isolated"].contains(&code) {
            *self.gates.entry(code.to_owned()).or_default() += 1;
        }
    }

    fn goes_on(&mut self, at: Option<jiff::Timestamp>) {
        if let (Some(from), Some(to)) = (self.stopped.take(), at) {
            self.still += to.as_second() - from.as_second();
        }
    }

    /// For how many minutes nothing was opened because somebody or the gate had stopped it.
    fn minutes_still(&self) -> i64 {
        let open = self.stopped.zip(self.last);
        let open = open.map_or(0, |(from, to)| to.as_second() - from.as_second());
        (self.still + open + 59) / 60
    }

    fn decisions(&self) -> String {
        if self.deeds.is_empty() {
            return "none".to_owned();
        }
        let people: Vec<String> = self.people.iter().map(|it| safe(it)).collect();
        format!("{}; by {}", counted(&self.deeds), people.join(", "))
    }

    fn gates(&self) -> String {
        let is_none = self.gates.is_empty();
        let told = if is_none { "none".to_owned() } else { counted(&self.gates) };
        match self.minutes_still() {
            0 => told,
            minutes => format!("{told}; stopped for {minutes} min in all"),
        }
    }
}

fn counted(codes: &BTreeMap<String, u64>) -> String {
    let told = codes.iter().map(|(code, times)| format!("{times} {}", safe(code)));
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const SUMS_OF: &str = r#"{
        "rollout": { "name": "restore", "state": "finished", "planned": 48000, "excluded": 12,
            "start_time": "2026-01-26T01:00:00Z", "finish_time": "2026-01-27T01:41:00Z" },
        "messages": { "intact": 4812339, "repaired": 20, "returned": 3, "newer": 1,
            "deleted": 0, "set_aside": 2, "lost": 1 },
        "grades": { "perfect": 47990, "good": 4, "investigate": 3, "poor": 3 },
        "findings": { "quarantined": 31 }
    }"#;

    const EVENTS_OF: &str = r#"{"time":"2026-01-26T02:20:00Z","code":"level-allowed"}
{"time":"2026-01-26T03:20:00Z","code":"expanded"}
{"time":"2026-01-26T03:21:00Z","code":"paused","by":"anna"}
{"time":"2026-01-26T03:30:00Z","code":"reclosed","by":"anna","text":"node `n1` re-closed by anna"}
{"time":"2026-01-26T03:31:00Z","code":"resumed","by":"anna","text":"node `n1` resumed by anna"}
{"time":"2026-01-26T03:32:00Z","code":"resumed","by":"anna","text":"resumed by anna"}
{"time":"2026-01-26T03:35:00Z","code":"reclosed","by":"anna","text":"mailbox a re-closed by anna"}
{"time":"2026-01-26T03:40:00Z","code":"paused","by":"marco"}
{"time":"2026-01-26T03:50:00Z","code":"halted"}
"#;

    fn report() -> tempfile::TempDir {
        let dir = tempfile::TempDir::with_prefix("tidegate-summary-").unwrap();
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(SUMS, SUMS_OF);
        write(EVENTS, EVENTS_OF);
        dir
    }

    #[test]
    fn a_page_says_how_long_everybody_waited_and_who_decided_what() {
        let dir = report();
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let outage = "\u{feff}tier;rung;mailboxes;restored;set_aside;median_seconds;\
                      p95_seconds;longest_seconds;sum_seconds\n\
                      free;webmail;48000;47969;31;276480;276900;358560;9\n";
        write(OUTAGE, outage);
        write(COMPENSATION, "\u{feff}address;tier;rule_id\na;free;free-20\nb;free;\n");
        write(WORDS, "time,it,en\n2026-01-26T01:00:00Z,a,a\n2026-01-26T01:38:59Z,b,b\n");

        let began = Some(("2026-01-22T22:04:00Z", Dialect::ExcelIt));
        let page = of(dir.path(), began).unwrap();

        expect![[r"
            END OF INCIDENT  restore, finished

            Began      2026-01-22T22:04:00Z, as declared
            Applied    2026-01-26T01:00:00Z
            First in   2026-01-26T02:20:00Z
            Finished   2026-01-27T01:41:00Z
            Mailboxes  48,000 in waves, 12 in none

            OUTAGE, in hours until the waves of half, of 95 %, of all were let in
              TIER  RUNG     MAILBOXES  RESTORED  ASIDE  HALF  95 %  LONGEST
              free  webmail     48,000    47,969     31  76.8  76.9     99.6

            MAIL, of all prepared mailboxes
              right as they were                          4,812,339
              repaired from the snapshot                         20
              lost and brought back                               3
              newer than the snapshot, kept                       1
              deleted by their owner, stay deleted                0
              beyond repair, bytes kept aside                     2
              lost, known by name only                            1
              mailboxes came back: 47,990 perfect, 4 good, 3 investigate, 3 poor

            DECISIONS  2 paused, 2 reclosed, 2 resumed; by anna, marco
            GATES      1 expanded, 1 halted; stopped for 21 min in all
            WORDS      2 said in public, the longest silence between two 38 min: words.csv
            OWED       by no rule 1 · free-20 1
            OPEN       31 mailboxes set aside: findings.csv
        "]]
        .assert_eq(&page);
    }

    #[test]
    fn what_the_files_do_not_say_is_left_out() {
        let dir = report();

        let page = of(dir.path(), None).unwrap();

        for absent in ["OUTAGE", "WORDS", "OWED", "Began"] {
            assert!(!page.contains(absent), "{page}");
        }
        assert!(page.contains("OPEN       31 mailboxes set aside"), "{page}");
    }
}
