//! Plans are total, deterministic and evenly spread, whatever the inventory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use tidegate_core::fleet::{JobNumber, MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::gate::{Evidence, GatePolicy, Mode, NodeEvidence, judge};
use tidegate_core::inventory::{Inventory, InventoryBuilder, Row};
use tidegate_core::mailbox::Level;
use tidegate_core::plan::{Plan, plan};
use tidegate_core::policy::{
    Cohort, Delays, Exclude, Growth, Limits, Notice, Policy, Rung, Selector, Share,
    Window,
};
use tidegate_core::share::Ppm;
use tidegate_core::time::{Span, Timestamp};

#[test]
fn each_wave_has_its_slice_of_the_window_in_which_its_cohort_is_expected() {
    let from = Timestamp::from_millis(1_769_324_400_000);
    let hours = |hours: u64| from + Span::from_secs(hours * 3_600);
    let all = cohort("all", 1_000, 300, 6_000, Selector::everybody());
    let plain = plan(&inventory(10_000), &Arc::new(policy(vec![all.clone()]))).unwrap();
    let expected = Some(Window { from, to: hours(10) });

    let timed = policy(vec![Cohort { expected, ..all }]);
    let timed = plan(&inventory(10_000), &Arc::new(timed)).unwrap();

    let slices: Vec<_> = timed.waves().iter().map(|wave| wave.expected).collect();
    let slice = |from, to| Some(Window { from: hours(from), to: hours(to) });
    assert_eq!(slices, [slice(0, 1), slice(1, 4), slice(4, 10)]);
    assert!(plain.waves().iter().all(|wave| wave.expected.is_none()));
    assert_ne!(timed.digest(), plain.digest());
}

#[test]
fn a_cohort_comes_as_canary_then_growing_waves_up_to_the_cap() {
    let cohorts = vec![cohort("all", 1_000, 300, 5_000, Selector::everybody())];

    check(
        &inventory(20_000),
        policy(cohorts),
        &expect![[r"
            all-1: 1000 on 3 nodes, 3 jobs
            all-2: 3000 on 3 nodes, 4 jobs
            all-3: 5000 on 3 nodes, 6 jobs
            all-4: 5000 on 3 nodes, 6 jobs
            all-5: 5000 on 3 nodes, 6 jobs
            all-6: 1000 on 3 nodes, 3 jobs
            to look at: []
        "]],
    );
}

#[test]
fn a_plan_judges_a_wave_as_its_policy_does_however_often_it_is_asked() {
    let cohorts = vec![cohort("all", 1_000, 300, 5_000, Selector::everybody())];
    let plan = plan(&inventory(20_000), &Arc::new(policy(cohorts))).unwrap();
    let now = Timestamp::from_millis(1_769_324_400_000);

    for (wave, failed) in [(0, 0), (0, 9), (3, 9), (0, 40), (0, 9), (900, 9)] {
        let shown = NodeEvidence {
            planned: 1_000,
            settled: 1_000,
            opened: 1_000,
            mature: 1_000 - failed,
            failed,
            reported_at: Some(now),
            ..NodeEvidence::default()
        };
        let evidence = Evidence {
            wave: WaveNumber::new(wave),
            level: Level::FIRST,
            planned: 1_000,
            nodes: vec![shown],
            fleet_nodes: 3,
            ..Evidence::default()
        };

        let alone = judge(&evidence, &plan.policy().gate_on(Level::FIRST), now);

        assert_eq!(plan.judge(&evidence, now), alone);
    }
}

#[test]
fn a_remainder_too_small_for_its_gate_joins_the_wave_before() {
    let cohorts = vec![cohort("all", 1_000, 300, 50_000, Selector::everybody())];

    check(
        &inventory(4_100),
        policy(cohorts),
        &expect![[r#"
            all-1: 1000 on 3 nodes, 3 jobs
            all-2: 3100 on 3 nodes, 6 jobs
            to look at: ["wave `all-2` jumps from 24.3902 % of all mailboxes to 100 %"]
        "#]],
    );
}

#[test]
fn a_remainder_that_would_break_the_cap_is_shared_with_the_wave_before() {
    let cohorts = vec![cohort("all", 2_000, 100, 2_000, Selector::everybody())];

    check(
        &inventory(4_100),
        policy(cohorts),
        &expect![[r"
            all-1: 2000 on 3 nodes, 3 jobs
            all-2: 1050 on 3 nodes, 3 jobs
            all-3: 1050 on 3 nodes, 3 jobs
            to look at: []
        "]],
    );
}

#[test]
fn the_first_cohort_that_selects_a_mailbox_has_it_and_what_is_excluded_stays_held() {
    let business = Selector { tiers: vec!["business".into()], ..Selector::default() };
    let typo = Selector { tiers: vec!["pald".into()], ..Selector::default() };
    let paid = Selector { tiers: vec!["paid".into()], ..Selector::default() };
    let held = Selector { labels: label("hold", "legal"), ..Selector::default() };
    let cohorts = vec![
        cohort("business", 1_000, 300, 9_000, business),
        cohort("plus", 1_000, 300, 9_000, typo),
        cohort("paid", 1_000, 300, 9_000, paid),
    ];
    let exclude = vec![Exclude { reason: "legal hold".into(), select: held }];

    check(
        &inventory(9_000),
        Policy { exclude, ..policy(cohorts) },
        &expect![[r#"
            business-1: 1000 on 3 nodes, 3 jobs
            business-2: 1966 on 3 nodes, 3 jobs
            paid-1: 1000 on 3 nodes, 3 jobs
            paid-2: 1972 on 3 nodes, 3 jobs
            excluded: legal hold: 90
            excluded: no cohort selects it: 2972
            to look at: ["2972 mailboxes stay held: no cohort selects them", "`plus` names the tier `pald`, which nobody has", "cohort `plus` selects nobody"]
        "#]],
    );
}

#[test]
fn a_mailbox_inside_another_one_is_refused() {
    let mut builder = InventoryBuilder::new();
    for (address, path) in
        [("a@x.org", "x/a"), ("b@x.org", "x/a/b"), ("c@x.org", "x/a-b")]
    {
        let row = Row { address, node: "n1", tier: "free", path, labels: &[] };
        builder.push(row).unwrap();
    }

    check(
        &Arc::new(builder.finish().unwrap()),
        policy(vec![cohort("all", 1, 300, 10, Selector::everybody())]),
        &expect![[r"
            on node `n1`, the path `x/a/b` lies inside `x/a`, another mailbox
            help: correct the inventory: every mailbox needs a directory of its own
        "]],
    );
}

#[test]
fn a_wave_that_can_never_pass_its_gate_is_refused_with_what_would_help() {
    let cohorts = vec![cohort("all", 40, 300, 50_000, Selector::everybody())];
    let every = GatePolicy {
        mode: Mode::EveryMailbox { failures_max: 0 },
        ..GatePolicy::default()
    };

    check(
        &inventory(5_000),
        policy(cohorts.clone()),
        &expect![[r#"
            wave `all-1` can never pass: its gate needs 456 mailboxes, it has 40
            help: set the cohort's `canary` to 456 or more, or `gate.mode = "every-mailbox"`
        "#]],
    );
    check(
        &inventory(100),
        policy(cohorts.clone()),
        &expect![[r#"
            wave `all-1` can never pass: its gate needs 456 mailboxes, it has 40
            help: the whole cohort has 100 mailboxes: merge it with another, or set `gate.mode = "every-mailbox"`
        "#]],
    );
    check(
        &inventory(100),
        Policy { gate: every, ..policy(cohorts) },
        &expect![[r#"
            all-1: 40 on 3 nodes, 3 jobs
            all-2: 60 on 3 nodes, 3 jobs
            to look at: ["wave `all-2` jumps from 40 % of all mailboxes to 100 %"]
        "#]],
    );
}

#[test]
fn a_plan_without_mailboxes_is_refused() {
    let nobody = Selector { nodes: vec!["n9".into()], ..Selector::default() };

    check(
        &inventory(10),
        policy(vec![cohort("all", 40, 300, 50_000, nobody)]),
        &expect![[r"
            no cohort selects any of the 10 mailboxes of the inventory
            help: add a cohort with `select.rest = true`
        "]],
    );
}

#[test]
fn a_share_takes_its_part_of_the_addresses_and_another_seed_takes_others() {
    let share = Share { from: Ppm::ZERO, to: Ppm::new(150_000) };
    let select = Selector { share: Some(share), ..Selector::default() };
    let inventory = inventory(20_000);
    let chosen = |seed: &str| {
        let cohorts = vec![cohort("some", 1_000, 300, 50_000, select.clone())];
        let policy = Policy { hash_seed: seed.into(), ..policy(cohorts) };
        let plan = plan(&inventory, &Arc::new(policy)).unwrap();
        let mut members = members(&plan);
        members.sort_unstable();
        members
    };

    let (one, other) = (chosen("one"), chosen("other"));
    let both = one.iter().filter(|mailbox| other.contains(mailbox)).count();

    assert!((2_800..3_200).contains(&one.len()), "{}", one.len());
    assert!((350..550).contains(&both), "{both}");
}

#[test]
fn larger_mailboxes_start_first_and_equal_ones_not_by_name() {
    let mut builder = InventoryBuilder::new();
    for number in 0..600_u32 {
        let (address, size) = (format!("u{number:03}@a.it"), (number % 3).to_string());
        let labels = [("size_bytes", size.as_str())];
        let labels = if number < 300 { &labels[..] } else { &[] };
        let path = &address;
        builder
            .push(Row { address: &address, node: "n", tier: "free", path, labels })
            .unwrap();
    }
    let inventory = Arc::new(builder.finish().unwrap());
    let cohorts = vec![cohort("all", 600, 300, 600, Selector::everybody())];

    let plan = plan(&inventory, &Arc::new(policy(cohorts))).unwrap();
    let sizes: Vec<_> = members(&plan).iter().map(|m| inventory.size_bytes(*m)).collect();

    assert!(sizes.is_sorted_by(|left, right| left >= right));
    assert_eq!(sizes.iter().filter(|size| size.is_none()).count(), 300);
    assert!(!members(&plan)[300..].is_sorted());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_mailbox_is_in_exactly_one_place_and_spread_evenly(case in case()) {
        let Case { inventory, policy, .. } = &case;
        let Ok(plan) = plan(inventory, policy) else { return Ok(()) };

        let mut seen = vec![0_u32; inventory.len() as usize];
        for job in plan.jobs() {
            let members = plan.members(job.number);
            prop_assert_eq!(members.len(), usize::from(job.size));
            prop_assert!((1..=policy.limits.job_mailboxes).contains(&job.size));
            prop_assert!(plan.waves()[job.wave.index()].jobs.contains(&job.number.get()));
            for (ordinal, member) in members.iter().enumerate() {
                seen[member.index()] += 1;
                prop_assert_eq!(inventory.node(*member), job.node);
                let (at, place) = plan.place(*member).unwrap();
                prop_assert_eq!((at, place.index()), (job.number, ordinal));
            }
        }
        for excluded in plan.excluded() {
            seen[excluded.mailbox.index()] += 1;
            prop_assert_eq!(plan.place(excluded.mailbox), None);
            prop_assert_eq!(plan.exclusion(excluded.mailbox), Some(excluded.why));
        }
        prop_assert!(seen.iter().all(|times| *times == 1));
        check_waves(&plan);
        check_spread(&plan);
    }

    #[test]
    fn a_plan_and_its_inventory_come_back_from_their_bytes(case in case()) {
        let Case { inventory, policy, .. } = &case;
        let Ok(plan) = plan(inventory, policy) else { return Ok(()) };
        let (mut kept, mut kept_plan) = (Vec::new(), Vec::new());
        inventory.write(&mut kept).unwrap();
        plan.write(&mut kept_plan).unwrap();

        let mut from = kept.as_slice();
        let again = Inventory::read(&mut from, kept.len() as u64).unwrap();
        let again = Arc::new(again);
        let mut from = kept_plan.as_slice();
        let again =
            Plan::read(&mut from, kept_plan.len() as u64, &again, policy).unwrap();

        prop_assert_eq!(again.inventory().digest(), inventory.digest());
        prop_assert!(again.inventory().rows().eq(inventory.rows()));
        prop_assert_eq!(again.digest(), plan.digest());
        prop_assert_eq!(again.waves(), plan.waves());
        prop_assert_eq!(again.jobs(), plan.jobs());
        prop_assert_eq!(members(&again), members(&plan));
        prop_assert_eq!(again.excluded(), plan.excluded());
        for mailbox in inventory.mailboxes() {
            let found = again.inventory().find(inventory.address(mailbox));
            prop_assert_eq!(found, Some(mailbox));
        }
    }

    #[test]
    fn rows_in_any_order_give_the_same_plan(case in case(), seed in any::<u64>()) {
        let Case { rows, inventory, policy } = &case;
        let mut shuffled = rows.clone();
        shuffled.sort_by_key(|row| row.0.wrapping_mul(seed | 1).rotate_left(29));

        let again = Arc::new(build(&shuffled));

        prop_assert_eq!(again.digest(), inventory.digest());
        match (plan(inventory, policy), plan(&again, policy)) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(one.digest(), other.digest());
                prop_assert_eq!(members(&one), members(&other));
                prop_assert_eq!(one.waves(), other.waves());
            }
            (one, other) => prop_assert_eq!(one.err(), other.err()),
        }
    }
}

/// Node names and tiers of a generated user base; the number makes the address.
type Generated = (u64, u8, u8);

#[derive(Debug)]
struct Case {
    rows: Vec<Generated>,
    inventory: Arc<Inventory>,
    policy: Arc<Policy>,
}

fn case() -> impl Strategy<Value = Case> {
    let rows = prop::collection::btree_map(0..100_000_u64, (0..7_u8, 0..3_u8), 1..1_500);
    let sizes = (1..200_u32, 100..400_u32, 200..900_u32, 1..120_u16);
    let share = (0..500_000_u32, 500_001..=1_000_000_u32);
    let shape = (any::<bool>(), any::<bool>(), any::<bool>());
    (rows, sizes, share, shape).prop_map(|(rows, sizes, share, shape)| {
        let (canary, growth, cap, job) = sizes;
        let share = Share { from: Ppm::new(share.0), to: Ppm::new(share.1) };
        let first = Selector {
            tiers: vec!["t0".into()],
            share: Some(share),
            ..Selector::default()
        };
        let mut cohorts = vec![cohort("first", canary, growth, cap, first)];
        if shape.0 {
            cohorts.push(cohort("rest", canary, growth, cap, Selector::everybody()));
        }
        let out = Selector { nodes: vec!["n1".into()], ..Selector::default() };
        let exclude = Exclude { reason: "node is gone".into(), select: out };
        let mode = if shape.2 {
            Mode::Sequential
        } else {
            Mode::EveryMailbox { failures_max: 0 }
        };
        let policy = Policy {
            exclude: if shape.1 { vec![exclude] } else { Vec::new() },
            gate: GatePolicy { mode, ..lenient() },
            limits: Limits { job_mailboxes: job, ..Limits::default() },
            ..policy(cohorts)
        };
        let rows: Vec<_> = rows.into_iter().map(|(n, (node, t))| (n, node, t)).collect();
        Case { inventory: Arc::new(build(&rows)), rows, policy: Arc::new(policy) }
    })
}

/// A gate that small waves can pass.
fn lenient() -> GatePolicy {
    let default = GatePolicy::default();
    let mut rates = default.preparation;
    rates.p_bad = Ppm::new(200_000);
    let mut latency = default.latency;
    latency.rates = rates;
    GatePolicy { opening: rates, preparation: rates, latency, ..default }
}

fn build(rows: &[Generated]) -> Inventory {
    let mut builder = InventoryBuilder::new();
    for (number, node, tier) in rows {
        let address = format!("u{number}@d{}.it", number % 5);
        let (node, tier) = (format!("n{node}"), format!("t{tier}"));
        let size = (number % 11).to_string();
        let labels: &[(&str, &str)] =
            if number % 2 == 0 { &[("size_bytes", &size)] } else { &[] };
        let row =
            Row { address: &address, node: &node, tier: &tier, path: &address, labels };
        builder.push(row).unwrap();
    }
    builder.finish().unwrap()
}

fn check_waves(plan: &Plan) {
    let need = plan.policy().gate.wave_min();
    let mut first_job = 0;
    for wave in plan.waves() {
        let nodes: u32 = wave.by_node.iter().map(|(_, size)| size).sum();
        let tiers: u32 = wave.by_tier.iter().map(|(_, size)| size).sum();
        let jobs = wave.jobs.clone().map(|job| plan.members(JobNumber::new(job)).len());
        assert_eq!((nodes, tiers), (wave.size, wave.size));
        assert_eq!(jobs.sum::<usize>(), wave.size as usize);
        assert!(wave.size >= need.max(1));
        assert_eq!(wave.jobs.start, first_job);
        first_job = wave.jobs.end;
    }
    assert_eq!(first_job as usize, plan.jobs().len());
}

/// Each node's part of a wave is its share of the cohort, but for less than a mailbox.
fn check_spread(plan: &Plan) {
    let mut cohorts: BTreeMap<_, BTreeMap<NodeNumber, u64>> = BTreeMap::new();
    for wave in plan.waves() {
        for (node, size) in &wave.by_node {
            let nodes = cohorts.entry(wave.cohort).or_default();
            *nodes.entry(*node).or_default() += u64::from(*size);
        }
    }
    for wave in plan.waves() {
        let nodes = &cohorts[&wave.cohort];
        let total: u64 = nodes.values().sum();
        for (node, count) in nodes {
            let found = wave.by_node.iter().find(|(other, _)| other == node);
            let part = found.map_or(0, |(_, size)| u64::from(*size));
            let exact = u64::from(wave.size) * count;
            assert!((part * total).abs_diff(exact) < total, "{} {node}", wave.name);
        }
    }
}

fn check(inventory: &Arc<Inventory>, policy: Policy, expected: &Expect) {
    let text = match plan(inventory, &Arc::new(policy)) {
        Ok(plan) => show(&plan),
        Err(refusal) => format!("{refusal}\nhelp: {}\n", refusal.help()),
    };
    expected.assert_eq(&text);
}

fn show(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for wave in plan.waves() {
        let (nodes, jobs) = (wave.by_node.len(), wave.jobs.len());
        let (name, size) = (&wave.name, wave.size);
        lines.push(format!("{name}: {size} on {nodes} nodes, {jobs} jobs"));
    }
    for (reason, count) in plan.exclusions() {
        lines.push(format!("excluded: {reason}: {count}"));
    }
    let findings: Vec<_> = plan.lint().iter().map(ToString::to_string).collect();
    lines.push(format!("to look at: {findings:?}\n"));
    lines.join("\n")
}

fn members(plan: &Plan) -> Vec<MailboxNumber> {
    plan.jobs().iter().flat_map(|job| plan.members(job.number)).copied().collect()
}

/// Three nodes, three tiers, one mailbox in a hundred on legal hold.
fn inventory(mailboxes: u32) -> Arc<Inventory> {
    let mut builder = InventoryBuilder::new();
    for number in 0..mailboxes {
        let address = format!("user{number}@example.org");
        let node = ["n1", "n2", "n3"][number as usize % 3];
        let tier = ["free", "paid", "business"][number as usize / 7 % 3];
        let labels: &[(&str, &str)] =
            if number % 100 == 0 { &[("hold", "legal")] } else { &[] };
        builder
            .push(Row { address: &address, node, tier, path: &address, labels })
            .unwrap();
    }
    Arc::new(builder.finish().unwrap())
}

fn policy(cohorts: Vec<Cohort>) -> Policy {
    Policy {
        name: "test".into(),
        ladder: vec![Rung {
            name: "mail".into(),
            services: vec!["imap".into()],
            soak: None,
        }],
        cohorts,
        exclude: Vec::new(),
        gate: GatePolicy { soak: Span::from_secs(60), ..GatePolicy::default() },
        limits: Limits { job_mailboxes: 1_000, ..Limits::default() },
        notice: Notice::default(),
        calendar: Vec::new(),
        emergency: None,
        hash_seed: "seed".into(),
    }
}

fn cohort(
    name: &str,
    canary: u32,
    growth: u32,
    wave_max: u32,
    select: Selector,
) -> Cohort {
    Cohort {
        name: name.into(),
        select,
        canary,
        growth: Growth::new(growth),
        wave_max,
        delays: Delays::new(),
        expected: None,
        dial_tone: Vec::new(),
    }
}

fn label(key: &str, value: &str) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([(key.to_owned(), vec![value.to_owned()])])
}
