//! What policy files say, and how they are refused.

#![expect(
    clippy::needless_raw_string_hashes,
    clippy::too_many_lines,
    reason = "expected texts, as expect-test writes them"
)]

use super::*;
use std::sync::Arc;

use expect_test::{Expect, expect};
use tidegate_core::gate::{Bound, GatePolicy, Mode, PulseSignal};
use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::mailbox::Level;
use tidegate_core::plan::plan;
use tidegate_core::policy::{Growth, Language, Limits, Notice};
use tidegate_core::time::Span;

const LAB: &str = include_str!("../../../../deploy/config/lab-policy.toml");
const LAB_SMALL: &str = include_str!("../../../../deploy/config/lab-policy-small.toml");

const SMALLEST: &str = r#"
name = "small"
[[ladder]]
name = "mail"
services = "imap"
[[cohort]]
name = "all"
select.rest = true
"#;

#[test]
fn a_policy_of_a_few_lines_has_sensible_values_for_the_rest() {
    let policy = parse("small.toml", SMALLEST).unwrap();

    assert_eq!(policy.gate, GatePolicy::default());
    assert_eq!(policy.limits, Limits::default());
    assert_eq!(policy.hash_seed, "small");
    let all = &policy.cohorts[0];
    assert_eq!((all.canary, all.growth), (1_000, Growth::new(300)));
    assert_eq!(policy.level_of("imap"), Some(1));
    assert_eq!(policy.level_of("pop3"), None);
}

#[test]
fn without_a_ladder_services_come_back_in_four_steps() {
    let (name, cohort) =
        ("name = \"x\"", "[[cohort]]\nname = \"all\"\nselect.rest = true");

    let policy = parse("x.toml", &format!("{name}\n{cohort}\n")).unwrap();

    let levels = ["lmtp", "webmail", "imap", "pop3", "submission", "sieve"]
        .map(|service| policy.level_of(service));
    assert_eq!(levels, [1, 2, 3, 3, 3, 4].map(Some));
}

/// Journals hold policies of older programs; their plans must come out the same.
#[test]
fn a_policy_without_a_schedule_keeps_its_name() {
    let (before, rest) = LAB_SMALL.split_once("[[ladder]]").unwrap();
    let (_, cohorts) = rest.split_once("[[cohort]]").unwrap();
    let ladder = r#"
        [[ladder]]
        name = "webmail"
        services = ["lmtp", "webmail"]
        [[ladder]]
        name = "apps"
        services = ["imap", "pop3", "submission", "sieve"]
    "#;
    let older = format!("{before}{ladder}[[cohort]]{cohorts}");

    let policy =
        parse("older.toml", &older.replace("delay = { mail", "# delay = { mail"));

    let digest = policy.unwrap().digest().to_string();
    assert!(digest.starts_with("97896ba0dd2d"), "{digest}");
}

const SCHEDULED: &str = r#"
name = "scheduled"
[notice]
language = "it"
language_label = "lang"
zone = "Europe/Rome"
[[ladder]]
name = "receive"
services = "lmtp"
soak = "5 min"
[[ladder]]
name = "mail"
services = "imap"
[[cohort]]
name = "all"
select.rest = true
delay = { mail = "1 h" }
expected = { from = "2026-01-25T08:00+01:00", to = "2026-01-25T20:00+01:00" }
dial_tone = "lmtp"
"#;

#[test]
fn soaks_delays_windows_dial_tones_and_notices_are_read() {
    let policy = parse("scheduled.toml", SCHEDULED).unwrap();

    let (receive, mail) = (Level::FIRST, Level::FIRST.above());
    let gates = [receive, mail].map(|level| policy.gate_on(level));
    let minutes = |minutes: u64| Span::from_secs(minutes * 60);
    assert_eq!(gates.each_ref().map(|gate| gate.soak), [minutes(5), minutes(15)]);
    let soaks = policy.soaks();
    assert_eq!([receive, mail].map(|level| soaks.on(level)), [minutes(5), minutes(15)]);
    let all = &policy.cohorts[0];
    assert_eq!(all.delay(policy.rung(mail).unwrap()), minutes(60));
    let window = all.expected.unwrap();
    assert_eq!(window.from.millis(), 1_769_324_400_000);
    assert_eq!(window.to.since(window.from), minutes(12 * 60));
    assert_eq!(policy.dial_services(), ["lmtp"]);
    let Notice { language, language_label, zone } = policy.notice;
    assert_eq!(language, Language::Italian);
    assert_eq!((language_label.as_str(), zone.as_str()), ("lang", "Europe/Rome"));
}

#[test]
fn a_schedule_that_cannot_be_kept_is_pointed_at() {
    let check = |good: &str, bad: &str, expected| {
        check(&SCHEDULED.replace(good, bad), &expected);
    };
    check(
        "{ mail =",
        "{ mial =",
        expect![[r#"
        error: there is no rung `mial` on the ladder
          --> my-policy.toml:17:11
           |
        17 | delay = { mial = "1 h" }
           |           ^^^^
           |
           = help: a delay names a rung of a [[ladder]]
    "#]],
    );
    check(
        "{ mail =",
        "{ receive =",
        expect![[r#"
        error: `receive` is the first rung, there is none before it to count from
          --> my-policy.toml:17:11
           |
        17 | delay = { receive = "1 h" }
           |           ^^^^^^^
           |
           = help: the order of the cohorts says who comes first
    "#]],
    );
    check(
        "T20:00",
        "T07:00",
        expect![[r#"
        error: the window ends at or before its beginning
          --> my-policy.toml:18:52
           |
        18 | expected = { from = "2026-01-25T08:00+01:00", to = "2026-01-25T07:00+01:00" }
           |                                                    ^^^^^^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "T08:00+01:00",
        "T08:00",
        expect![[r#"
        error: `2026-01-25T08:00` is not an instant such as "2026-01-25T08:00+01:00"
          --> my-policy.toml:18:21
           |
        18 | expected = { from = "2026-01-25T08:00", to = "2026-01-25T20:00+01:00" }
           |                     ^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "Europe/Rome",
        "Europe/Roma",
        expect![[r#"
        error: `Europe/Roma` is not a time zone such as "Europe/Rome"
         --> my-policy.toml:6:8
          |
        6 | zone = "Europe/Roma"
          |        ^^^^^^^^^^^^^
    "#]],
    );
    check(
        "= \"it\"",
        "= \"fr\"",
        expect![[r#"
        error: there are no texts in `fr`, only in `en` and `it`
         --> my-policy.toml:4:12
          |
        4 | language = "fr"
          |            ^^^^
    "#]],
    );
    check(
        "dial_tone = \"lmtp\"",
        "dial_tone = [\"lmtp\", \"smtp\"]",
        expect![[r#"
        error: there is no service `smtp` on the ladder
          --> my-policy.toml:19:1
           |
        19 | dial_tone = ["lmtp", "smtp"]
           | ^^^^^^^^^
    "#]],
    );
    check(
        "soak = \"5 min\"",
        "soak = 5",
        expect![[r#"
        error: `5` is not a time such as "15 min", "30 s" or "250 ms" (its unit is missing)
          --> my-policy.toml:10:8
           |
        10 | soak = 5
           |        ^
    "#]],
    );
    check(
        "to = ",
        "till = ",
        expect![[r#"
        error: unknown key `till`
          --> my-policy.toml:18:47
           |
        18 | expected = { from = "2026-01-25T08:00+01:00", till = "2026-01-25T20:00+01:00" }
           |                                               ^^^^
           |
           = help: possible here: from, to
    "#]],
    );
}

#[test]
fn a_calendar_is_read_and_what_is_wrong_with_it_is_pointed_at() {
    let rule = |keys: &str| format!("{SCHEDULED}\n[[calendar]]\nname = \"n\"\n{keys}\n");
    let read = |keys: &str| parse("policy.toml", &rule(keys));
    let plain = parse("policy.toml", SCHEDULED).unwrap();

    let policy = read("hours = \"22:00 to 06:00\"\nat_end = \"hold\"").unwrap();
    let other = read("hours = \"22:00 to 05:00\"\nat_end = \"hold\"").unwrap();

    assert_eq!(policy.calendar.len(), 1);
    assert_ne!(policy.digest(), plain.digest());
    assert_ne!(policy.digest(), other.digest());
    for (keys, problem) in [
        ("hours = \"22 to 6\"", "is not hours such as"),
        ("cohort = [\"nobody\"]", "there is no cohort `nobody`"),
        ("node = [\"a\"]\ntier = [\"b\"]", "a rule is for nodes, or for"),
        ("node = [\"a\"]\nat_end = \"freeze\"", "freezes nothing"),
        ("days = [\"someday\"]", "is not a day such as"),
        ("huors = \"22:00 to 06:00\"", "did you mean `hours`?"),
    ] {
        let told = read(keys).unwrap_err().to_string();
        assert!(told.contains(problem), "{keys}: {told}");
    }
}

#[test]
fn the_example_says_truly_what_is_left_out() {
    let shown: Vec<_> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.starts_with('[') || is_setting(key) => key,
            Some(_) | None => line,
        })
        .collect();

    let told = parse("policy.toml", &shown.join("\n")).unwrap();
    let silent = parse("policy.toml", EXAMPLE).unwrap();

    assert_ne!(shown.join("\n"), EXAMPLE);
    assert_eq!(told.gate, GatePolicy::default());
    assert_eq!(told.limits, Limits::default());
    assert_eq!(told, silent);
    assert_eq!(told.digest(), silent.digest());
}

#[test]
fn the_labs_policies_plan_the_labs_providers() {
    let large = plan_lab(LAB, 1_500);
    let small = plan_lab(LAB_SMALL, 200);

    expect!["canary-1 178, business-1 150, rest-1 300, rest-2 872"].assert_eq(&large);
    expect!["canary-1 28, business-1 20, rest-1 152"].assert_eq(&small);
    let policy = parse("lab-policy-small.toml", LAB_SMALL).unwrap();
    assert_eq!(policy.gate.mode, Mode::EveryMailbox { failures_max: 0 });
    assert_eq!(policy.gate.soak, Span::from_secs(2));
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    check(
        &SMALLEST.replace("select.rest", "canry = 5\nselect.rest"),
        &expect![[r#"
        error: unknown key `canry`
         --> my-policy.toml:8:1
          |
        8 | canry = 5
          | ^^^^^
          |
          = help: did you mean `canary`?
    "#]],
    );
    check(
        &SMALLEST.replace("[[cohort]]", "[limit]\n[[cohort]]"),
        &expect![[r#"
        error: unknown key `limit`
         --> my-policy.toml:6:2
          |
        6 | [limit]
          |  ^^^^^
          |
          = help: did you mean `limits`?
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[gate]\nsoke = \"1 s\"\n"),
        &expect![[r#"
        error: unknown key `soke`
          --> my-policy.toml:11:1
           |
        11 | soke = "1 s"
           | ^^^^
           |
           = help: did you mean `soak`?
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[gate]\nmode = \"evry-mailbox\"\n"),
        &expect![[r#"
        error: unknown value `evry-mailbox`
          --> my-policy.toml:11:8
           |
        11 | mode = "evry-mailbox"
           |        ^^^^^^^^^^^^^^
           |
           = help: did you mean `every-mailbox`?
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[gate]\ncolour = \"red\"\n"),
        &expect![[r#"
        error: unknown key `colour`
          --> my-policy.toml:11:1
           |
        11 | colour = "red"
           | ^^^^^^
           |
           = help: possible here: mode, failures_max, soak, opening, preparation, latency, node_breaker, isolated_nodes_max, isolated_share_max, unknown_after, unknown_max, nodes_min, tier_mature_min, report_age_max, disk_free_min, sessions_min, escalate_after, signals, external
    "#]],
    );
}

#[test]
fn an_impossible_value_is_pointed_at() {
    check(
        &format!("{SMALLEST}\n[gate]\nsoak = 15\n"),
        &expect![[r#"
        error: `15` is not a time such as "15 min", "30 s" or "250 ms" (its unit is missing)
          --> my-policy.toml:11:8
           |
        11 | soak = 15
           |        ^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[gate]\nsoak = \"15 minutes\"\n"),
        &expect![[r#"
        error: `15 minutes` is not a time such as "15 min", "30 s" or "250 ms"
          --> my-policy.toml:11:8
           |
        11 | soak = "15 minutes"
           |        ^^^^^^^^^^^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[gate.opening]\np_ok = 0.5\n"),
        &expect![[r#"
        error: `0.5` is not a share such as "0.5 %" (its unit is missing)
          --> my-policy.toml:11:8
           |
        11 | p_ok = 0.5
           |        ^^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\ncanary = -5\n"),
        &expect![[r#"
        error: invalid value: integer `-5`, expected a whole number
          --> my-policy.toml:10:10
           |
        10 | canary = -5
           |          ^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\ncanary = \"many\"\n"),
        &expect![[r#"
        error: invalid type: string "many", expected a whole number
          --> my-policy.toml:10:10
           |
        10 | canary = "many"
           |          ^^^^^^
    "#]],
    );
    check(
        &SMALLEST.replace("rest = true", "share = \"15 %\""),
        &expect![[r#"
        error: `15 %` is not a range of shares such as "0 % to 15 %"
         --> my-policy.toml:8:16
          |
        8 | select.share = "15 %"
          |                ^^^^^^
    "#]],
    );
    check(
        &SMALLEST.replace("name = \"small\"", "name = small"),
        &expect![[r#"
        error: string values must be quoted, expected literal string
         --> my-policy.toml:2:8
          |
        2 | name = small
          |        ^^^^^
    "#]],
    );
    check(
        &SMALLEST.replace("services = \"imap\"", ""),
        &expect![[r#"
        error: missing field `services`
         --> my-policy.toml:3:1
          |
        3 | [[ladder]]
          | ^^^^^^^^^^
    "#]],
    );
}

#[test]
fn what_makes_no_sense_together_is_pointed_at_as_well() {
    check(
        &SMALLEST.replace("select.rest = true", "select = {}"),
        &expect![[r#"
        error: the selector is empty
         --> my-policy.toml:8:1
          |
        8 | select = {}
          | ^^^^^^
          |
          = help: to take everybody left, write `rest = true`
    "#]],
    );
    check(
        &format!("{SMALLEST}\ngrowth = \"x0.5\"\n"),
        &expect![[r#"
        error: the growth of `all` is x0.5, possible is x1 to x100
          --> my-policy.toml:10:10
           |
        10 | growth = "x0.5"
           |          ^^^^^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\nwave_max = 10\n"),
        &expect![[r#"
        error: the largest wave of `all` is 10, its canary is 1000 already
          --> my-policy.toml:10:12
           |
        10 | wave_max = 10
           |            ^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\ncanary = 0\n"),
        &expect![[r#"
        error: the canary of `all` is empty
          --> my-policy.toml:10:10
           |
        10 | canary = 0
           |          ^
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[limits]\nlease = \"5 s\"\n"),
        &expect![[r#"
        error: the lease is 5 s, must be at least 3 beats of 2 s
          --> my-policy.toml:11:9
           |
        11 | lease = "5 s"
           |         ^^^^^
           |
           = help: two reports may be lost before a lease runs out
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[limits]\njob_mailboxes = 5000\n"),
        &expect![[r#"
        error: `job_mailboxes` is 5000, possible is 1 to 4096
          --> my-policy.toml:11:17
           |
        11 | job_mailboxes = 5000
           |                 ^^^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[gate.opening]\np_ok = \"3 %\"\n"),
        &expect![[r#"
        error: opening: p_ok is 3 %, must be below p_bad, which is 2 %
          --> my-policy.toml:11:8
           |
        11 | p_ok = "3 %"
           |        ^^^^^
    "#]],
    );
    check(
        &format!("{SMALLEST}\n[gate]\nfailures_max = 3\n"),
        &expect![[r#"
        error: `failures_max` counts only with `mode = "every-mailbox"`
          --> my-policy.toml:11:16
           |
        11 | failures_max = 3
           |                ^
           |
           = help: the other modes have `p_ok` and `p_bad` instead
    "#]],
    );
    check(
        "name = \"none\"\n",
        &expect![[r#"
            error: there is no cohort
             --> my-policy.toml:1:1
              |
            1 | name = "none"
              | ^
              |
              = help: add a [[cohort]] with `select.rest = true`
        "#]],
    );
    let behind = "[[cohort]]\nname = \"late\"\nselect.tier = \"free\"\n";
    check(
        &format!("{SMALLEST}{behind}"),
        &expect![[r#"
        error: the cohort `all` takes everybody left, but is not the last
         --> my-policy.toml:8:15
          |
        8 | select.rest = true
          |               ^^^^
          |
          = help: move it to the end; no mailbox would be left for those behind it
    "#]],
    );
    let again = SMALLEST.replace(
        "[[cohort]]",
        "[[ladder]]\nname = \"b\"\nservices = [\"imap\"]\n[[cohort]]",
    );
    check(
        &again,
        &expect![[r#"
        error: the service `imap` is on the ladder already
         --> my-policy.toml:8:1
          |
        8 | services = ["imap"]
          | ^^^^^^^^
          |
          = help: a service comes back once, on one rung
    "#]],
    );
}

#[test]
fn names_are_compared_letter_by_letter() {
    assert_eq!(edits("canary", "canary"), 0);
    assert_eq!(edits("canry", "canary"), 1);
    assert_eq!(edits("soke", "soak"), 2);
    assert_eq!(edits("", "abc"), 3);
}

fn check(text: &str, expected: &Expect) {
    let error = parse("my-policy.toml", text).unwrap_err();

    expected.assert_eq(&format!("{error}\n"));
}

fn is_setting(line: &str) -> bool {
    let name = line.split(" = ").next().unwrap_or_default();
    line.contains(" = ")
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Waves and sizes for a provider whose tiers are as the lab's.
fn plan_lab(text: &str, mailboxes: u32) -> String {
    let policy = parse("lab.toml", text).unwrap();
    let mut builder = InventoryBuilder::new();
    for number in 0..mailboxes {
        let address = format!("user{number}@example.org");
        let tier = [
            "free", "free", "paid", "free", "business", "free", "free", "paid", "free",
            "paid",
        ];
        let tier = tier[number as usize % 10];
        let node = format!("node{}", number / 10 % 3);
        let row =
            Row { address: &address, node: &node, tier, path: &address, labels: &[] };
        builder.push(row).unwrap();
    }
    let plan = plan(&Arc::new(builder.finish().unwrap()), &Arc::new(policy)).unwrap();
    let waves = plan.waves().iter().map(|wave| format!("{} {}", wave.name, wave.size));
    waves.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_measured_is_read_with_its_units() {
    let text = format!(
        "{SMALLEST}
[gate.signals]
every = \"10 s\"
[gate.signals.login_latency]
limit = \"3 s\"
p_bad = \"30 %\"
[gate.signals.queue_age]
limit = \"1 h\"
[gate.signals.command_errors]
limit = \"2 %\"
[gate.signals.canary]
required = true
[[gate.external]]
name = \"auth-db\"
query = \"avg(busy)\"
max = 0.75
[[gate.external]]
name = \"free-slots\"
query = \"slots\"
min = 10
every = \"10 s\"
age_max = \"30 s\"
[limits]
open_per_second_total = 900
[limits.pace]
capacity = 60
active = \"35 %\"
connections = 3
cold_cost = 4
"
    );

    let policy = parse("my-policy.toml", &text).unwrap();

    let signals = policy.gate.signals;
    let limit = |signal| signals.limits().limit(signal);
    assert_eq!(signals.every, Span::from_secs(10));
    assert_eq!(limit(PulseSignal::LoginLatency), 3_000);
    assert_eq!(limit(PulseSignal::QueueAge), 3_600);
    assert_eq!(limit(PulseSignal::CommandErrors), 20_000);
    assert!(signals.of(PulseSignal::Canary).required);
    let bounds: Vec<_> = policy.gate.external.iter().map(|it| it.bound).collect();
    assert_eq!(bounds, [Bound::Max(750_000), Bound::Min(10_000_000)]);
    assert_eq!(policy.limits.open_per_second_total, Some(900));
    assert_eq!(policy.limits.pace.capacity, Some(60));
    assert_eq!(policy.limits.pace.population.connections, 3);
}

#[test]
fn what_is_measured_is_pointed_at_where_it_makes_no_sense() {
    check(
        &format!("{SMALLEST}\n[gate.signals.disk_latency]\np_ok = \"0 %\"\n"),
        &expect![[r#"
            error: signals.disk-latency: p_ok must be above 0 %
              --> my-policy.toml:11:8
               |
            11 | p_ok = "0 %"
               |        ^^^^^
        "#]],
    );
    check(
        &format!("{SMALLEST}\n[[gate.external]]\nname = \"x\"\nquery = \"up\"\n"),
        &expect![[r#"
            error: one of `max` and `min` says which answers are good
              --> my-policy.toml:10:1
               |
            10 | [[gate.external]]
               | ^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        &format!("{SMALLEST}\n[limits.pace]\nload = \"95 %\"\n"),
        &expect![[r#"
        error: pace.load is 95 %, must be above 0 % and at most 90 %
          --> my-policy.toml:11:8
           |
        11 | load = "95 %"
           |        ^^^^^^
    "#]],
    );
}
