//! Single things for people: a mailbox, a finding, an event, and the report that sums up.
//!
//! # Invariants
//!
//! * Text from stores and other people cannot steer the terminal.
//! * A spreadsheet never takes a value for a formula.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::time::Timestamp;
use tidegate_wire::v1::{
    Event, Finding, FindingKind, Mailbox, MailboxFinding, MessageTotals, Preparation,
    Rollout,
};

use super::diagnosis::{Diagnosis, level_name, nodes_in};
use super::json::{
    Grades, Messages, RolloutShown, health_word, kind_word, preparation_word, value,
};
use super::status::{counts, grades, head, messages, waves};
use super::{at, date, instant, say, schedule};
use crate::console::{Paint, safe, thousands};

/// One mailbox: where it is, what works of it, why the rest waits, what was found.
pub(crate) fn mailbox(mailbox: &Mailbox, now: Timestamp) -> String {
    let services = match mailbox.services.as_slice() {
        [] => "none: held".to_owned(),
        services => safe(&services.join(", ")),
    };
    let wave = match mailbox.wave.as_str() {
        "" => format!("none: {}", safe(&mailbox.excluded)),
        wave => safe(wave),
    };
    let lines = [
        ("mailbox", safe(&mailbox.address)),
        ("stored", format!("{}:{}", safe(&mailbox.node), safe(&mailbox.path))),
        ("tier", safe(&mailbox.tier)),
        ("wave", wave),
        ("bytes", preparation_word(mailbox.preparation()).to_owned()),
        ("open for", services),
        ("health", health_word(mailbox.health()).to_owned()),
    ];
    let mut out = String::new();
    for (name, value) in lines {
        say!(out, "{:<10}{value}\n", format!("{name}:"));
    }
    out.push_str(&schedule::rungs(mailbox));
    if mailbox.dial_tone {
        let services = safe(&mailbox.dial_services.join(", "));
        let since = mailbox.dial_tone_time.as_ref().and_then(instant);
        let since =
            since.map(|at| format!(", since {}", tidegate_core::time::MinuteOf(at)));
        let since = since.unwrap_or_default();
        say!(out, "dial tone: {services} work on an empty store until it opens{since}\n");
    }
    if let Some(told) = schedule::told(mailbox, now) {
        say!(out, "told:     {}\n", safe(&told));
    }
    for why in &mailbox.why {
        say!(out, "waits:    {}\n", safe(&why.text));
    }
    for finding in &mailbox.findings {
        let whole = MailboxFinding {
            address: mailbox.address.clone(),
            node: mailbox.node.clone(),
            finding: Some(finding.clone()),
        };
        say!(out, "found:    {}\n", finding_line(&whole, false));
    }
    if mailbox.preparation() == Preparation::Prepared {
        let (node, address) = (safe(&mailbox.node), safe(&mailbox.address));
        say!(out, "repairs:  on {node}: tidegate findings export ");
        say!(out, "--config worker.toml --mailbox {address}\n");
    }
    out
}

/// A mailbox on one line: where it is, how far its bytes are, and what works of it.
pub(crate) fn mailbox_line(mailbox: &Mailbox) -> String {
    let [address, node, _, _, wave, bytes, services, health, _] = mailbox_row(mailbox);
    let services = if services.is_empty() { "held".to_owned() } else { services };
    format!("{node}  {address}  {wave}  {bytes}  {services}  {health}")
}

/// The same with its tier, its path, and why it waits.
pub(crate) fn mailbox_wide(mailbox: &Mailbox) -> String {
    let [_, _, tier, path, .., why] = mailbox_row(mailbox);
    let why = if why.is_empty() { "-".to_owned() } else { why };
    format!("{}  {tier}  {path}  {why}", mailbox_line(mailbox))
}

/// The header of the list of mailboxes as CSV.
pub(crate) const MAILBOX_HEADER: [&str; 9] = [
    "address",
    "node",
    "tier",
    "path",
    "wave",
    "preparation",
    "services",
    "health",
    "why",
];

/// A mailbox as a row of CSV.
pub(crate) fn mailbox_row(mailbox: &Mailbox) -> [String; 9] {
    let why: Vec<&str> = mailbox.why.iter().map(|why| why.code.as_str()).collect();
    [
        guard(&mailbox.address),
        guard(&mailbox.node),
        guard(&mailbox.tier),
        guard(&mailbox.path),
        guard(&mailbox.wave),
        preparation_word(mailbox.preparation()).to_owned(),
        guard(&mailbox.services.join(" ")),
        health_word(mailbox.health()).to_owned(),
        guard(&why.join(" ")),
    ]
}

/// A finding on one line, with its mailbox if `named`.
pub(crate) fn finding_line(found: &MailboxFinding, named: bool) -> String {
    let finding = found.finding.clone().unwrap_or_default();
    let mut line = format!("{:<12}", kind_word(finding.kind()));
    if named {
        say!(line, "{}  {}  ", safe(&found.node), safe(&found.address));
    }
    if !finding.name.is_empty() {
        let folder = if finding.folder.is_empty() {
            "INBOX".to_owned()
        } else {
            safe(&finding.folder)
        };
        line.push_str(&folder);
        if finding.uid != 0 {
            say!(line, " UID {}", finding.uid);
        }
        say!(line, " {}: ", safe(&finding.name));
    }
    say!(line, "{} ({})", safe(&finding.reason), safe(&finding.code));
    if let Some(received) = received(&finding) {
        say!(line, ", received {received}");
    }
    if !finding.kept_at.is_empty() {
        say!(line, ", kept at {}", safe(&finding.kept_at));
    }
    line
}

/// The same with its size, where it was found, and what it keeps back.
pub(crate) fn finding_wide(found: &MailboxFinding) -> String {
    let mut line = finding_line(found, true);
    let finding = found.finding.clone().unwrap_or_default();
    if finding.size_bytes != 0 {
        say!(line, ", {} bytes", thousands(finding.size_bytes));
    }
    if !finding.source.is_empty() {
        say!(line, ", of the {}", safe(&finding.source));
    }
    if !finding.rungs.is_empty() {
        say!(line, ", keeps back {}", safe(&finding.rungs));
    }
    line
}

/// The header of the list of findings as CSV.
pub(crate) const FINDING_HEADER: [&str; 13] = [
    "address",
    "node",
    "kind",
    "folder",
    "uid",
    "name",
    "code",
    "reason",
    "size_bytes",
    "kept_at",
    "received_time",
    "source",
    "rungs",
];

/// A finding as a row of CSV.
pub(crate) fn finding_row(found: &MailboxFinding) -> [String; 13] {
    let finding = found.finding.clone().unwrap_or_default();
    [
        guard(&found.address),
        guard(&found.node),
        kind_word(finding.kind()).to_owned(),
        guard(&finding.folder),
        finding.uid.to_string(),
        guard(&finding.name),
        guard(&finding.code),
        guard(&finding.reason),
        finding.size_bytes.to_string(),
        guard(&finding.kept_at),
        received(&finding).unwrap_or_default(),
        guard(&finding.source),
        guard(&finding.rungs),
    ]
}

/// When the message came, as `2026-01-26T06:14:09Z`.
pub(crate) fn received(finding: &Finding) -> Option<String> {
    finding.received_time.as_ref().and_then(instant).map(date)
}

/// A value that a spreadsheet does not take for a formula.
pub(crate) fn guard(text: &str) -> String {
    let text = safe(text);
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

/// Whether a finding is something set aside: what `quarantine list` lists.
pub(crate) fn is_set_aside(found: &MailboxFinding) -> bool {
    match found.finding.as_ref().map(Finding::kind) {
        Some(FindingKind::SetAside | FindingKind::Lost | FindingKind::Quarantined) => {
            true
        }
        Some(FindingKind::Unspecified | FindingKind::Doubt | FindingKind::Probe)
        | None => false,
    }
}

/// An event on one line.
pub(crate) fn event_line(event: &Event) -> String {
    format!("{}  {:<18} {}", date(at!(event.time)), safe(&event.code), safe(&event.text))
}

/// The same with who did it.
pub(crate) fn event_wide(event: &Event) -> String {
    let by = if event.by.is_empty() { "-" } else { &event.by };
    let (time, code) = (date(at!(event.time)), safe(&event.code));
    format!("{time}  {code:<18} {:<16} {}", safe(by), safe(&event.text))
}

/// The header of the list of events as CSV.
pub(crate) const EVENT_HEADER: [&str; 4] = ["time", "code", "by", "text"];

/// An event as a row of CSV.
pub(crate) fn event_row(event: &Event) -> [String; 4] {
    [date(at!(event.time)), guard(&event.code), guard(&event.by), guard(&event.text)]
}

/// How many findings of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FindingCounts {
    /// Messages beyond repair whose bytes are kept.
    pub(crate) set_aside: u64,
    /// Messages of which only the name is left.
    pub(crate) lost: u64,
    /// Decisions that could not be proved.
    pub(crate) doubt: u64,
    /// Mailboxes that wait for a person.
    pub(crate) quarantined: u64,
    /// Probes that failed.
    pub(crate) probe: u64,
}

impl FindingCounts {
    /// Counts one more.
    pub(crate) fn add(&mut self, kind: FindingKind) {
        match kind {
            FindingKind::SetAside => self.set_aside += 1,
            FindingKind::Lost => self.lost += 1,
            FindingKind::Doubt => self.doubt += 1,
            FindingKind::Quarantined => self.quarantined += 1,
            FindingKind::Probe => self.probe += 1,
            FindingKind::Unspecified => {}
        }
    }

    /// With the numbers that workers count where they are higher, and how many findings were
    /// counted and not told: of one mailbox and of one job only so many are told.
    pub(crate) fn completed(mut self, totals: Option<&MessageTotals>) -> (Self, u64) {
        let totals = totals.copied().unwrap_or_default();
        let mut untold: u64 = 0;
        let counted = [
            (&mut self.set_aside, totals.set_aside),
            (&mut self.lost, totals.lost),
            (&mut self.doubt, totals.doubts),
        ];
        for (told, counted) in counted {
            untold = untold.saturating_add(counted.saturating_sub(*told));
            *told = counted.max(*told);
        }
        (self, untold)
    }
}

/// The report: what came back, what did not, and where to look.
pub(crate) fn report(rollout: &Rollout, found: FindingCounts, paint: Paint) -> String {
    let diagnosis = Diagnosis::of(rollout);
    let mut out = format!("{}\n", head(rollout, paint));
    say!(out, "status:   {}\n", paint.paint(diagnosis.tone, &diagnosis.status));
    say!(out, "mailboxes: {}\n", counts(rollout));
    if let Some(emergency) = &rollout.emergency {
        say!(out, "emergency: {}\n", super::marks::emergency(emergency));
    }
    if let Some(nodes) = nodes_in(rollout, tidegate_wire::v1::NodeState::Isolated) {
        say!(out, "isolated: {nodes}\n");
    }
    say!(out, "open for: {}\n\n", by_level(rollout));
    out.push_str(&waves(rollout, paint));
    out.push('\n');
    out.push_str(&messages(rollout.totals.as_ref()));
    out.push('\n');
    out.push_str(&grades(rollout.totals.as_ref()));
    let line = |what: &str, count: u64| format!("  {what:<44}{:>12}\n", thousands(count));
    let (found, untold) = found.completed(rollout.totals.as_ref());
    out.push_str("\nfor a person (tidegate quarantine list)\n");
    out.push_str(&line("mailboxes set aside as a whole", found.quarantined));
    out.push_str(&line("messages set aside, bytes kept", found.set_aside));
    out.push_str(&line("messages lost, known by name", found.lost));
    out.push_str(&line("decisions that could not be proved", found.doubt));
    out.push_str(&line("opened mailboxes that failed a probe", found.probe));
    if untold > 0 {
        let count = thousands(untold);
        say!(out, "  {count} of these stand only in the lists on the nodes:\n");
        out.push_str("  tidegate findings export --config worker.toml\n");
    }
    out
}

/// How many waves stand on which level: `apps 5 waves, webmail 1 wave`.
fn by_level(rollout: &Rollout) -> String {
    let top = u32::try_from(rollout.ladder.len()).unwrap_or(u32::MAX);
    let on = |level: u32| rollout.waves.iter().filter(|wave| wave.level == level).count();
    let parts: Vec<String> = (0..=top)
        .rev()
        .map(|level| (level_name(rollout, level), on(level)))
        .filter(|(_, waves)| *waves > 0)
        .map(|(name, waves)| format!("{name}: {waves} waves"))
        .collect();
    parts.join(", ")
}

/// The report for programs, `tidegate.report/v1`.
pub(crate) fn report_value(rollout: &Rollout, found: FindingCounts) -> Value {
    let (found, untold) = found.completed(rollout.totals.as_ref());
    let totals = rollout.totals.as_ref();
    value(&Report {
        rollout: RolloutShown::of(rollout, &Diagnosis::of(rollout)),
        messages: Messages::of(totals),
        grades: Grades::of(totals.and_then(|totals| totals.grades.as_ref())),
        findings_on_nodes_only: untold,
        findings: Counts {
            set_aside: found.set_aside,
            lost: found.lost,
            doubt: found.doubt,
            quarantined: found.quarantined,
            probe: found.probe,
        },
    })
}

/// What came back and what did not.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.report/v1")]
pub(crate) struct Report<'a> {
    /// The rollout, with its waves and nodes.
    rollout: RolloutShown<'a>,
    /// Messages of all prepared mailboxes.
    messages: Messages,
    /// Settled mailboxes by how well each came back.
    grades: Grades,
    /// Findings that stand only in the lists on the nodes: `tidegate findings export`.
    findings_on_nodes_only: u64,
    /// All findings by kind.
    findings: Counts,
}

/// Findings by kind.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Findings")]
struct Counts {
    /// Messages set aside, bytes kept.
    set_aside: u64,
    /// Messages lost, known by name.
    lost: u64,
    /// Decisions that could not be proved.
    doubt: u64,
    /// Mailboxes set aside as a whole.
    quarantined: u64,
    /// Opened mailboxes that failed a probe.
    probe: u64,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidegate_core::time::{Span, Timestamp};
    use tidegate_wire::protocol::timestamp;
    use tidegate_wire::v1::{
        Mailbox, MailboxRung, MessageTotals, Notice, Preparation, RungState, Why, Window,
    };

    use super::{FindingCounts, mailbox};

    #[test]
    fn a_mailbox_shows_every_rung_and_what_its_user_is_told() {
        let now = Timestamp::from_millis(1_769_324_400_000);
        let hours = |hours: u64| Some(timestamp(now + Span::from_secs(hours * 3_600)));
        let rung = |name: &str, state: RungState, time| MailboxRung {
            name: name.into(),
            services: vec![format!("{name}-1"), format!("{name}-2")],
            state: state.into(),
            time,
        };
        let waits = Why { code: "scheduled".into(), text: "wave `b-1` waits".into() };
        let shown = Mailbox {
            address: "ann@example.org".into(),
            node: "stor-01".into(),
            tier: "paid".into(),
            path: "ann".into(),
            wave: "b-1".into(),
            preparation: Preparation::Prepared.into(),
            level: 2,
            services: vec!["receive-1".into(), "webmail-1".into()],
            why: vec![waits],
            rungs: vec![
                rung("receive", RungState::Open, hours(0)),
                rung("webmail", RungState::Opening, hours(1)),
                rung("mail", RungState::Scheduled, hours(24)),
                rung("accessories", RungState::Held, None),
            ],
            dial_tone: true,
            dial_services: vec!["lmtp".into(), "webmail".into()],
            dial_tone_time: hours(0),
            notice: Some(Notice { language: "it".into(), zone: "Europe/Rome".into() }),
            expected: Some(Window { from_time: hours(1), to_time: hours(4) }),
            ..Mailbox::default()
        };

        expect![[r"
            mailbox:  ann@example.org
            stored:   stor-01:ann
            tier:     paid
            wave:     b-1
            bytes:    prepared
            open for: receive-1, webmail-1
            health:   unknown
              receive      receive-1, receive-2: open; its wave since 2026-01-25 07:00 UTC
              webmail      webmail-1, webmail-2: opening; its wave since 2026-01-25 08:00 UTC
              mail         mail-1, mail-2: waits for its schedule until 2026-01-26 07:00 UTC
              accessories  accessories-1, accessories-2: held
            dial tone: lmtp, webmail work on an empty store until it opens, since 2026-01-25 07:00 UTC
            told:     Stiamo ripristinando la casella di posta: il ritorno in servizio si prevede tra le ore 09:00 e le 12:00 del 25 gennaio. La password resta la stessa.
            waits:    wave `b-1` waits
            repairs:  on stor-01: tidegate findings export --config worker.toml --mailbox ann@example.org
        "]].assert_eq(&mailbox(&shown, now));
    }

    #[test]
    fn what_was_counted_and_not_told_stands_on_the_nodes() {
        let told = FindingCounts {
            set_aside: 500,
            lost: 3,
            probe: 1,
            ..FindingCounts::default()
        };
        let totals = MessageTotals {
            set_aside: 800,
            lost: 3,
            doubts: 7,
            ..MessageTotals::default()
        };

        let (all, untold) = told.completed(Some(&totals));

        assert_eq!((all.set_aside, all.lost, all.doubt, all.probe), (800, 3, 7, 1));
        assert_eq!(untold, 307);
        assert_eq!(told.completed(None), (told, 0));
    }
}
