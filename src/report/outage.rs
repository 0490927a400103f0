//! Outage: how long each mailbox had to wait for each rung of the ladder, and what its owner is
//! owed for that, made from the rows of the report and nothing else.
//!
//! # Invariants
//!
//! * Whoever has the rows, the start of the outage and the rules makes the same bytes again.
//! * Seconds are counted from the start that a person declared to the moment from which the wave
//!   of the mailbox has had the rung.
//! * Each mailbox that is in a wave has one row, and at most one rule.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::MAILBOXES;
use super::verify::COLUMNS;
use crate::cli::Dialect;
use crate::config::Text;
use crate::exit::{Exit, Failure};

/// What ends the name of a column of times.
const TIME: &str = "_time";

/// Where the columns stand.
const ADDRESS: usize = 0;
const TIER: usize = 1;
const WAVE: usize = 3;
const PREPARATION: usize = 5;

/// Who is owed what.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    /// The first that fits a mailbox counts.
    #[serde(default)]
    rule: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    id: String,
    /// Whom it fits; everybody where none are named.
    #[serde(default)]
    tier: Vec<String>,
    kind: String,
    amount: u32,
    unit: String,
}

impl Rules {
    /// Reads the rules in `path`.
    ///
    /// # Errors
    ///
    /// [`Exit::Input`] when they cannot be read or are none.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let parsed = Text::read(path).and_then(|text| text.parse());
        parsed.map_err(|failure| failure.ending_with(Exit::Input))
    }

    fn of(&self, tier: &str) -> Option<&Rule> {
        let fits =
            |rule: &&Rule| rule.tier.is_empty() || rule.tier.iter().any(|it| it == tier);
        self.rule.iter().find(fits)
    }
}

/// Writes, for each tier and rung, how many mailboxes waited for how long.
///
/// # Errors
///
/// When rows cannot be read, or the outage began after one of them was open.
pub(super) fn by_tier(
    rows: &Path,
    start: jiff::Timestamp,
    dialect: Dialect,
    mut to: impl Write,
) -> anyhow::Result<()> {
    let mut table = Table::open(rows, start)?;
    let mut tiers: BTreeMap<String, Tier> = BTreeMap::new();
    while let Some(row) = table.next()? {
        let tier = tiers.entry(row.tier).or_default();
        tier.mailboxes += 1;
        tier.set_aside += u64::from(row.is_aside);
        tier.waits.resize_with(row.waits.len(), BTreeMap::new);
        for (waits, wait) in tier.waits.iter_mut().zip(row.waits) {
            if let Some(wait) = wait {
                *waits.entry(wait).or_default() += 1;
            }
        }
    }
    write!(to, "{}", dialect.mark())?;
    let mut csv = dialect.csv().from_writer(to);
    csv.write_record([
        "tier",
        "rung",
        "mailboxes",
        "restored",
        "set_aside",
        "median_seconds",
        "p95_seconds",
        "longest_seconds",
        "sum_seconds",
    ])?;
    for (name, Tier { mailboxes, set_aside, waits }) in &tiers {
        for (rung, waits) in table.rungs.iter().zip(waits) {
            let restored: u64 = waits.values().sum();
            let sum: u64 = waits.iter().map(|(wait, mailboxes)| wait * mailboxes).sum();
            let share = |percent| quantile(waits, percent).unwrap_or_default();
            let longest = waits.keys().next_back().map(u64::to_string);
            csv.write_record([
                name,
                rung,
                &mailboxes.to_string(),
                &restored.to_string(),
                &set_aside.to_string(),
                &share(50),
                &share(95),
                &longest.unwrap_or_default(),
                &sum.to_string(),
            ])?;
        }
    }
    csv.flush()?;
    Ok(())
}

/// Writes what each mailbox had to wait, and what is owed for that.
///
/// # Errors
///
/// As [`by_tier`], and when a rule names a tier that nobody has.
pub(super) fn compensation(
    rows: &Path,
    start: jiff::Timestamp,
    (rules, dialect): (&Rules, Dialect),
    mut to: impl Write,
) -> anyhow::Result<()> {
    let mut table = Table::open(rows, start)?;
    write!(to, "{}", dialect.mark())?;
    let mut csv = dialect.csv().from_writer(to);
    let seconds = table.rungs.iter().map(|rung| format!("{rung}_outage_seconds"));
    let mut header = ["address", "tier", "status"].map(str::to_owned).to_vec();
    header.extend(seconds);
    header.extend(
        ["rule_id", "benefit_kind", "benefit_amount", "benefit_unit"].map(str::to_owned),
    );
    csv.write_record(&header)?;
    let mut tiers = BTreeSet::new();
    while let Some(row) = table.next()? {
        let status = row.status().to_owned();
        let mut cells = vec![row.address, row.tier.clone(), status];
        let waits = row.waits.iter();
        cells.extend(waits.map(|it| it.map(|it| it.to_string()).unwrap_or_default()));
        match rules.of(&row.tier) {
            Some(Rule { id, kind, amount, unit, .. }) => {
                cells.extend([
                    id.clone(),
                    kind.clone(),
                    amount.to_string(),
                    unit.clone(),
                ]);
            }
            None => cells.extend([const { String::new() }; 4]),
        }
        csv.write_record(&cells)?;
        tiers.insert(row.tier);
    }
    let named = rules.rule.iter().flat_map(|rule| &rule.tier);
    for tier in named {
        anyhow::ensure!(tiers.contains(tier), "no mailbox has the tier `{tier}`");
    }
    csv.flush()?;
    Ok(())
}

/// What the mailboxes of a tier waited.
#[derive(Default)]
struct Tier {
    mailboxes: u64,
    set_aside: u64,
    /// Of each rung, how many waited so many seconds.
    waits: Vec<BTreeMap<u64, u64>>,
}

/// The shortest wait that `percent` of those who are back did not exceed.
fn quantile(waits: &BTreeMap<u64, u64>, percent: u64) -> Option<String> {
    let all: u64 = waits.values().sum();
    let mut left = (all * percent).div_ceil(100);
    let found = waits.iter().find(|(_, mailboxes)| {
        let reached = **mailboxes >= left;
        left = left.saturating_sub(**mailboxes);
        reached
    });
    found.map(|(wait, _)| wait.to_string())
}

/// The rows of mailboxes that are in waves.
struct Table {
    rows: csv::StringRecordsIntoIter<std::fs::File>,
    start: jiff::Timestamp,
    rungs: Vec<String>,
}

/// A mailbox that is in a wave.
struct Row {
    address: String,
    tier: String,
    is_aside: bool,
    /// Of each rung, how many seconds it took; nothing where it has not come back.
    waits: Vec<Option<u64>>,
}

impl Row {
    fn status(&self) -> &'static str {
        match self.waits.iter().flatten().count() {
            _ if self.is_aside => "set-aside",
            0 => "held",
            count if count == self.waits.len() => "restored",
            _ => "in-part",
        }
    }
}

impl Table {
    fn open(rows: &Path, start: jiff::Timestamp) -> anyhow::Result<Self> {
        let mut rows = csv::Reader::from_path(rows).context(MAILBOXES)?;
        let header = rows.headers().context(MAILBOXES)?;
        let times = header.iter().skip(COLUMNS.len());
        let rungs = times.map(|it| it.strip_suffix(TIME).unwrap_or(it).to_owned());
        let rungs = rungs.collect();
        Ok(Self { rows: rows.into_records(), start, rungs })
    }

    fn next(&mut self) -> anyhow::Result<Option<Row>> {
        for row in self.rows.by_ref() {
            let row = row.context(MAILBOXES)?;
            let cell = |at: usize| row.get(at).unwrap_or_default();
            if cell(WAVE).is_empty() {
                continue;
            }
            let waits = (COLUMNS.len()..).take(self.rungs.len()).map(|at| {
                let time = cell(at);
                if time.is_empty() { Ok(None) } else { self.wait(time).map(Some) }
            });
            return Ok(Some(Row {
                address: cell(ADDRESS).to_owned(),
                tier: cell(TIER).to_owned(),
                is_aside: cell(PREPARATION) == "quarantined",
                waits: waits.collect::<anyhow::Result<_>>()?,
            }));
        }
        Ok(None)
    }

    fn wait(&self, time: &str) -> anyhow::Result<u64> {
        let open: jiff::Timestamp =
            time.parse().with_context(|| format!("{MAILBOXES}: `{time}` is no time"))?;
        u64::try_from(open.as_second() - self.start.as_second()).ok().with_context(|| {
            format!(
                "the outage is said to begin at {}, but a mailbox was open at {time}",
                self.start
            )
        })
    }
}

/// What is written nowhere, and only hashed.
#[derive(Default)]
pub(super) struct Hashed(pub(super) sha2::Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sha2::Digest::update(&mut self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::expect;

    use super::*;

    const ROWS: &str = "\
address,tier,node,wave,excluded,preparation,level,services,health,webmail_time,mail_time
a@example.org,free,stor-01,w1,,prepared,2,all,healthy,2026-01-26T03:20:00Z,2026-01-26T04:20:00Z
b@example.org,free,stor-01,w1,,prepared,1,webmail,healthy,2026-01-26T05:20:00Z,
c@example.org,free,stor-02,w1,,quarantined,0,,unknown,,
d@example.org,plus,stor-02,w2,,prepared,2,all,healthy,2026-01-26T03:20:00Z,2026-01-26T03:20:00Z
e@example.org,plus,stor-02,,legal hold,unknown,0,,unknown,,
";

    const RULES: &str = "[[rule]]\nid = \"r1\"\ntier = [\"plus\"]\nkind = \"months\"\n\
        amount = 6\nunit = \"month\"\n";

    fn of(start: &str, rules: &str) -> anyhow::Result<[String; 2]> {
        written(start, rules, Dialect::Standard)
    }

    fn written(
        start: &str,
        rules: &str,
        dialect: Dialect,
    ) -> anyhow::Result<[String; 2]> {
        let dir = tempfile::TempDir::with_prefix("tidegate-outage-")?;
        let rows = dir.path().join("mailboxes.csv");
        fs::write(&rows, ROWS)?;
        fs::write(dir.path().join("rules.toml"), rules)?;
        let rules = Rules::read(&dir.path().join("rules.toml"));
        let rules = rules.map_err(|_| anyhow::anyhow!("these are no rules"))?;
        let (mut tiers, mut owed) = (Vec::new(), Vec::new());
        by_tier(&rows, start.parse()?, dialect, &mut tiers)?;
        compensation(&rows, start.parse()?, (&rules, dialect), &mut owed)?;
        Ok([String::from_utf8(tiers)?, String::from_utf8(owed)?])
    }

    #[test]
    fn every_mailbox_of_a_wave_waits_from_the_declared_start_and_is_owed_by_one_rule() {
        let [tiers, owed] = of("2026-01-26T00:20:00+01:00", RULES).unwrap();

        expect![[r"
            tier,rung,mailboxes,restored,set_aside,median_seconds,p95_seconds,longest_seconds,sum_seconds
            free,webmail,3,2,1,14400,21600,21600,36000
            free,mail,3,1,1,18000,18000,18000,18000
            plus,webmail,1,1,0,14400,14400,14400,14400
            plus,mail,1,1,0,14400,14400,14400,14400
        "]]
        .assert_eq(&tiers);
        expect![[r"
            address,tier,status,webmail_outage_seconds,mail_outage_seconds,rule_id,benefit_kind,benefit_amount,benefit_unit
            a@example.org,free,restored,14400,18000,,,,
            b@example.org,free,in-part,21600,,,,,
            c@example.org,free,set-aside,,,,,,
            d@example.org,plus,restored,14400,14400,r1,months,6,month
        "]]
        .assert_eq(&owed);
    }

    #[test]
    fn a_dialect_changes_how_it_is_written_and_nothing_else() {
        let start = "2026-01-26T00:20:00+01:00";
        let plain = of(start, RULES).unwrap();
        let italian = written(start, RULES, Dialect::ExcelIt).unwrap();

        for (plain, italian) in plain.iter().zip(&italian) {
            let table = italian.strip_prefix('\u{feff}').unwrap();
            assert_eq!(table.replace(';', ","), *plain);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let late = of("2026-01-26T03:20:01Z", RULES).unwrap_err().to_string();
        let nobody = of("2026-01-25T00:00:00Z", &RULES.replace("plus", "gold"));
        let typing = of("2026-01-25T00:00:00Z", &RULES.replace("amount", "ammount"));

        assert!(late.contains("a mailbox was open at 2026-01-26T03:20:00Z"), "{late}");
        assert_eq!(nobody.unwrap_err().to_string(), "no mailbox has the tier `gold`");
        assert_eq!(typing.unwrap_err().to_string(), "these are no rules");
    }
}
