//! JSON: the same answers for programs, under schemas that only grow.
//!
//! # Invariants
//!
//! * Every document says its schema; a schema's fields are never renamed or dropped.
//! * States are lower-case words, times RFC 3339, counts whole numbers.

use serde_json::{Value, json};
use tidegate_core::rollout::Grade;
use tidegate_core::time::Timestamp;
use tidegate_wire::v1::{
    Event, Finding, FindingKind, Gate, Grades, Health, Mailbox, MailboxFinding,
    MessageTotals, Node, Preparation, Rollout, Waiting, Wave, Why,
};

use super::diagnosis::{Diagnosis, level_name};
use super::single::received;
use super::status::{node_word, state_word, wave_word, worst};
use super::{date, instant, marks, pace, queue, schedule};

/// The rollout, `tidegate.status/v1`.
pub(crate) fn status(rollout: &Rollout) -> Value {
    diagnosed(rollout, &Diagnosis::of(rollout))
}

/// The same of a part of a rollout that was diagnosed as a whole.
pub(crate) fn diagnosed(rollout: &Rollout, diagnosis: &Diagnosis) -> Value {
    json!({
        "schema": "tidegate.status/v1",
        "plan_digest": rollout.plan_digest,
        "name": rollout.name,
        "state": state_word(rollout.state()).0.to_lowercase(),
        "status": diagnosis.status,
        "action": diagnosis.action,
        "why": reasons(&rollout.why),
        "stop": rollout.stop.as_ref().map(|stop| json!({
            "effective": stop.effective,
            "unacknowledged": stop.unacknowledged,
            "may_still_open": stop.may_still_open,
            "nodes": stop.nodes,
            "unreachable": stop.unreachable,
            "lapsed": stop.lapsed,
        })),
        "rebuild": rollout.rebuild.as_ref().map(|rebuild| json!({
            "told": rebuild.told,
            "missing": rebuild.missing,
        })),
        "start_time": rollout.start_time.as_ref().and_then(instant).map(date),
        "at_time": rollout.at_time.as_ref().and_then(instant).map(date),
        "finish_time": rollout.finish_time.as_ref().and_then(instant).map(date),
        "orders_version": rollout.orders_version,
        "etag": rollout.etag,
        "evidence": rollout.evidence,
        "waiting": rollout.waiting.iter().map(waiting_value).collect::<Vec<_>>(),
        "emergency": rollout.emergency.as_ref().map(marks::value),
        "ladder": rollout.ladder.iter().map(|rung| json!({
            "name": rung.name, "services": rung.services, "soak_millis": rung.soak_millis,
        })).collect::<Vec<_>>(),
        "notice": rollout.notice.as_ref().map(|notice| json!({
            "language": notice.language, "zone": notice.zone,
        })),
        "planned": rollout.planned,
        "excluded": rollout.excluded,
        "waves": rollout.waves.iter().map(|wave| wave_value(rollout, wave)).collect::<Vec<_>>(),
        "nodes": rollout.nodes.iter().map(node_value).collect::<Vec<_>>(),
        "exchangers": queue::exchangers(&rollout.exchangers),
        "messages": totals(rollout.totals.as_ref()),
        "grades": grades(rollout.totals.as_ref().and_then(|totals| totals.grades.as_ref())),
    })
}

fn waiting_value(waiting: &Waiting) -> Value {
    json!({
        "by": waiting.by,
        "what": waiting.what,
        "reason": waiting.reason,
        "approve": waiting.command,
        "asked_time": waiting.asked_time.as_ref().and_then(instant).map(date),
        "until_time": waiting.until_time.as_ref().and_then(instant).map(date),
        "evidence_changed": waiting.evidence_changed,
    })
}

fn wave_value(rollout: &Rollout, wave: &Wave) -> Value {
    json!({
        "number": wave.number,
        "name": wave.name,
        "state": wave_word(wave.state()).1,
        "level": wave.level,
        "level_name": level_name(rollout, wave.level),
        "passed": wave.passed,
        "planned": wave.planned,
        "prepared": wave.prepared,
        "quarantined": wave.quarantined,
        "open": wave.open,
        "closing": wave.closing,
        "opened": wave.opened,
        "mature": wave.mature,
        "failed": wave.failed,
        "grades": grades(wave.grades.as_ref()),
        "worst_grade": worst(wave.grades.as_ref()).map(Grade::code),
        "gate": wave.gate.as_ref().map(gate_value),
        "allowed_time": wave.allowed_time.as_ref().and_then(instant).map(date),
        "due_time": wave.due_time.as_ref().and_then(instant).map(date),
        "finish": schedule::finish_value(wave.finish.as_ref()),
        "delays": wave.delays.iter().map(|delay| json!({
            "rung": delay.rung, "delay_millis": delay.delay_millis,
        })).collect::<Vec<_>>(),
        "expected": schedule::window_value(wave.expected.as_ref()),
        "dial_tone": wave.dial_tone,
        "overridden": wave.overridden,
        "hurried": wave.hurried,
        "queue": queue::value(wave.queue.as_ref()),
    })
}

fn gate_value(gate: &Gate) -> Value {
    json!({
        "verdict": gate.verdict,
        "reasons": reasons(&gate.reasons),
        "signals": gate.signals.iter().map(|signal| json!({
            "name": signal.name,
            "standing": signal.standing,
            "failed": signal.failed,
            "opened": signal.opened,
            "mature": signal.mature,
            "pass_at": signal.pass_at,
            "trip_at": signal.trip_at,
            "missing": signal.missing,
            "only_stops": signal.only_stops,
        })).collect::<Vec<_>>(),
        "unmeasured": gate.unmeasured,
    })
}

fn node_value(node: &Node) -> Value {
    json!({
        "name": node.name,
        "state": node_word(node.state()).0,
        "heard_time": node.heard_time.as_ref().and_then(instant).map(date),
        "planned": node.planned,
        "prepared": node.prepared,
        "quarantined": node.quarantined,
        "open": node.open,
        "closing": node.closing,
        "failed": node.failed,
        "probes": node.vitals.as_ref().map(|vitals| vitals.probes),
        "probes_slow": node.vitals.as_ref().map(|vitals| vitals.probes_slow),
        "read_errors": node.vitals.as_ref().map(|vitals| vitals.read_errors),
        "fenced": node.vitals.as_ref().map(|vitals| vitals.fenced),
        "probe_micros": node.vitals.as_ref().map(|vitals| vitals.probe_micros),
        "disk_free_ppm": node.vitals.as_ref().and_then(|vitals| vitals.disk_free_ppm),
        "pace": pace::value(node),
        "outside_window": node.outside_window,
        "window_time": node.window_time.as_ref().and_then(instant).map(date),
        "drain_per_second": node.drain_per_second,
        "drain_why": node.drain_why.as_ref().map(|why| json!({
            "code": why.code, "text": why.text,
        })),
    })
}

/// Messages by what became of them.
pub(crate) fn totals(totals: Option<&MessageTotals>) -> Value {
    let totals = totals.copied().unwrap_or_default();
    json!({
        "intact": totals.intact,
        "repaired": totals.repaired,
        "returned": totals.returned,
        "newer": totals.newer,
        "deleted": totals.deleted,
        "set_aside": totals.set_aside,
        "lost": totals.lost,
        "bytes_read": totals.bytes_read,
        "doubts": totals.doubts,
    })
}

/// Settled mailboxes by how well each came back.
pub(crate) fn grades(grades: Option<&Grades>) -> Value {
    let grades = grades.copied().unwrap_or_default();
    json!({
        "perfect": grades.perfect,
        "good": grades.good,
        "investigate": grades.investigate,
        "poor": grades.poor,
    })
}

fn reasons(why: &[Why]) -> Vec<Value> {
    why.iter().map(|why| json!({ "code": why.code, "text": why.text })).collect()
}

/// One mailbox, `tidegate.mailbox/v1`.
pub(crate) fn mailbox(mailbox: &Mailbox, now: Timestamp) -> Value {
    json!({
        "schema": "tidegate.mailbox/v1",
        "address": mailbox.address,
        "node": mailbox.node,
        "tier": mailbox.tier,
        "path": mailbox.path,
        "wave": some(&mailbox.wave),
        "excluded": some(&mailbox.excluded),
        "preparation": preparation_word(mailbox.preparation()),
        "level": mailbox.level,
        "services": mailbox.services,
        "health": health_word(mailbox.health()),
        "rungs": mailbox.rungs.iter().map(|rung| json!({
            "name": rung.name,
            "services": rung.services,
            "state": schedule::rung_word(rung.state()),
            "time": rung.time.as_ref().and_then(instant).map(date),
        })).collect::<Vec<_>>(),
        "dial_tone": mailbox.dial_tone,
        "closing": mailbox.closing,
        "dial_tone_since": mailbox.dial_tone_time.as_ref().and_then(instant).map(date),
        "dial_services": mailbox.dial_services,
        "language": mailbox.notice.as_ref().map(|notice| &notice.language),
        "expected": schedule::window_value(mailbox.expected.as_ref()),
        "told": schedule::told(mailbox, now),
        "why": reasons(&mailbox.why),
        "findings": mailbox.findings.iter().map(finding_value).collect::<Vec<_>>(),
    })
}

/// How far the bytes of a mailbox are, as a word.
pub(crate) fn preparation_word(preparation: Preparation) -> &'static str {
    match preparation {
        Preparation::Unspecified => "unknown",
        Preparation::Waiting => "waiting",
        Preparation::Prepared => "prepared",
        Preparation::Quarantined => "quarantined",
    }
}

/// What an opened mailbox has shown, as a word.
pub(crate) fn health_word(health: Health) -> &'static str {
    match health {
        Health::Unspecified => "unknown",
        Health::Unproven => "unproven",
        Health::Healthy => "healthy",
        Health::Failed => "failed",
        Health::IntegrityFailed => "integrity-failed",
    }
}

/// A finding's kind, as a word.
pub(crate) fn kind_word(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Unspecified => "unknown",
        FindingKind::SetAside => "set-aside",
        FindingKind::Lost => "lost",
        FindingKind::Doubt => "doubt",
        FindingKind::Quarantined => "quarantined",
        FindingKind::Probe => "probe",
    }
}

fn finding_value(finding: &Finding) -> Value {
    json!({
        "kind": kind_word(finding.kind()),
        "folder": finding.folder,
        "uid": (finding.uid != 0).then_some(finding.uid),
        "name": finding.name,
        "code": finding.code,
        "reason": finding.reason,
        "size_bytes": (finding.size_bytes != 0).then_some(finding.size_bytes),
        "kept_at": some(&finding.kept_at),
        "received_time": received(finding),
        "source": some(&finding.source),
        "rungs": finding.rungs.split(", ").filter(|it| !it.is_empty()).collect::<Vec<_>>(),
    })
}

/// A finding with its mailbox, `tidegate.finding/v1`: the fields that [`crate::findings`] has as
/// well, `null` where only the node knows.
pub(crate) fn finding(found: &MailboxFinding) -> Value {
    let mut value = finding_value(&found.finding.clone().unwrap_or_default());
    if let Value::Object(fields) = &mut value {
        for known_on_the_node in ["path", "grade", "numbers", "subject"] {
            fields.insert(known_on_the_node.to_owned(), Value::Null);
        }
        fields.insert("schema".to_owned(), json!("tidegate.finding/v1"));
        fields.insert("address".to_owned(), json!(found.address));
        fields.insert("node".to_owned(), json!(found.node));
    }
    value
}

/// An event, `tidegate.event/v1`.
pub(crate) fn event(event: &Event) -> Value {
    json!({
        "schema": "tidegate.event/v1",
        "time": event.time.as_ref().and_then(instant).map(date),
        "code": event.code,
        "text": event.text,
        "by": some(&event.by),
    })
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
