//! Windows: when waves and nodes may open, as the policy's calendar says, for people and programs.
//!
//! # Invariants
//!
//! * Hours are those of the clocks that the rule names; instants are UTC.

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_core::policy::calendar::Rule;

use super::schedule::WindowShown;
use super::{say, schedule};
use crate::console::safe;

/// Days of the week, as the calendar counts them.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The calendar, a line for each rule; empty without one.
pub(crate) fn text(rules: &[Rule]) -> String {
    let mut out = String::new();
    for rule in rules {
        let (name, whom, when) = (safe(&rule.name), whom(rule), when(rule));
        if rule.opens {
            say!(
                out,
                "  {name}: {whom} only {when}; at its end: {}\n",
                rule.at_end.code()
            );
        } else {
            say!(out, "  {name}: {whom} not {when}\n");
        }
    }
    if !out.is_empty() {
        out.insert_str(0, "\n  By the calendar a step begins, where it fits:\n");
    }
    out
}

/// The same for programs.
pub(crate) fn shown(rules: &[Rule]) -> Vec<RuleShown<'_>> {
    rules.iter().map(RuleShown::of).collect()
}

/// A rule of the calendar: hours in which a step may begin, or may not.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RuleShown<'a> {
    /// Its name.
    name: &'a str,
    /// Whom it bears on; empty for all, as with tiers and nodes.
    cohorts: &'a [String],
    /// Which tiers.
    tiers: &'a [String],
    /// Which nodes.
    nodes: &'a [String],
    /// Whether a step may begin in these hours; else it may not.
    opens: bool,
    /// The hours, in words.
    when: String,
    /// What happens at their end; null where they close.
    at_end: Option<&'static str>,
    /// The next such hours.
    next: Option<WindowShown>,
}

impl<'a> RuleShown<'a> {
    fn of(rule: &'a Rule) -> Self {
        Self {
            name: &rule.name,
            cohorts: &rule.bearing.cohorts,
            tiers: &rule.bearing.tiers,
            nodes: &rule.bearing.nodes,
            opens: rule.opens,
            when: when(rule),
            at_end: rule.opens.then(|| rule.at_end.code()),
            next: rule.spans.first().map(|span| WindowShown {
                from_time: span.from.into(),
                to_time: span.to.into(),
            }),
        }
    }
}

fn whom(rule: &Rule) -> String {
    let bearing = &rule.bearing;
    let named = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{what} {}", safe(&names.join(", "))))
    };
    let parts = [
        named("cohort", &bearing.cohorts),
        named("tier", &bearing.tiers),
        named("node", &bearing.nodes),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "everybody".to_owned() } else { parts.join(" and ") }
}

/// When it is open, or closed, from the words that it is kept under.
fn when(rule: &Rule) -> String {
    let words: Vec<&str> = rule.words.split(' ').filter(|it| !it.is_empty()).collect();
    let ["hours", from, to, zone, days @ ..] = words.as_slice() else {
        let spans = rule.spans.iter();
        let spans = spans.map(|span| schedule::window(span.from, span.to, "UTC"));
        return format!("{} UTC", spans.collect::<Vec<_>>().join(", "));
    };
    let minute = |time: &str| safe(time.get(..5).unwrap_or(time));
    let day = |number: &&str| {
        let place = number.parse::<usize>().ok()?.checked_sub(1)?;
        DAYS.get(place).copied()
    };
    let days: Vec<&str> = days.iter().filter_map(day).collect();
    let on =
        if days.is_empty() { String::new() } else { format!(", {}", days.join(" ")) };
    format!("{} to {} ({}){on}", minute(from), minute(to), safe(zone))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidegate_wire::policy_file;

    use super::text;

    #[test]
    fn every_rule_says_on_whom_it_bears_and_when() {
        let policy = policy_file::parse(
            "p.toml",
            "name = \"p\"\n[[cohort]]\nname = \"rest\"\nselect = { rest = true }\n\
             [[calendar]]\nname = \"nights\"\ncohort = [\"rest\"]\n\
             hours = \"22:00 to 06:00\"\nzone = \"Europe/Rome\"\ndays = [\"mon\", \"sun\"]\n\
             at_end = \"hold\"\n\
             [[calendar]]\nname = \"backup\"\nnode = [\"stor-02\"]\nhours = \"01:00 to 02:00\"\n\
             [[calendar]]\nname = \"vote\"\nfrozen = { from = \"2026-01-25T00:00Z\", to = \"2026-01-26T00:00Z\" }\n",
        );
        let policy = policy.map_err(|error| error.to_string()).unwrap();

        expect![[r"
            plan

              By the calendar a step begins, where it fits:
              nights: cohort rest only 22:00 to 06:00 (Europe/Rome), Mon Sun; at its end: hold
              backup: node stor-02 only 01:00 to 02:00 (UTC); at its end: finish
              vote: everybody not 2026-01-25 00:00 to 2026-01-26 00:00 UTC
        "]]
        .assert_eq(&format!("plan\n{}", text(&policy.calendar)));
    }
}
