//! JSON: the same answers for programs, under schemas that only grow.
//!
//! # Invariants
//!
//! * Every document says its schema; a schema's fields are never renamed or dropped.
//! * Schemas are made from the types that are written, and cannot say anything else.
//! * States are lower-case words, times RFC 3339, counts whole numbers.

mod mailbox;
mod rollout;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;
use tidegate_core::time::Timestamp;
use tidegate_wire::v1;

use super::date;
pub(crate) use mailbox::{Event, Finding, Mailbox, event, finding, mailbox};
pub(crate) use rollout::{
    Delay, Grades, Messages, NO_PLAN, RolloutShown, diagnosed, status,
};

/// An instant, as RFC 3339 writes it.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Time(pub(crate) String);

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(date(at))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// An instant of the wire, if there is one.
macro_rules! when {
    ($field:expr) => {
        $field
            .as_ref()
            .and_then($crate::screens::instant)
            .map($crate::screens::json::Time::from)
    };
}
pub(crate) use when;

/// `document` as JSON.
///
/// # Panics
///
/// Never: documents are structs of plain values.
pub(crate) fn value(document: &impl Serialize) -> Value {
    serde_json::to_value(document).expect("a struct of plain values can be written")
}

/// What something waits for.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Why<'a> {
    /// A stable code: `tidegate explain CODE`.
    pub(crate) code: &'a str,
    /// One line with its numbers.
    pub(crate) text: &'a str,
}

impl<'a> Why<'a> {
    /// What the coordinator said.
    pub(crate) fn of(why: &'a v1::Why) -> Self {
        Self { code: &why.code, text: &why.text }
    }
}

/// All that something waits for.
pub(crate) fn reasons(why: &[v1::Why]) -> Vec<Why<'_>> {
    why.iter().map(Why::of).collect()
}

/// The words of all values of an enumeration, for the schemas of what is said in them.
pub(crate) fn words<T: TryFrom<i32>>(word: impl Fn(T) -> &'static str) -> Vec<String> {
    let values = (0..VALUES_MAX).filter_map(|number| T::try_from(number).ok());
    let mut words: Vec<String> = values.map(|it| word(it).to_lowercase()).collect();
    // Two values may be told in one word.
    words.dedup();
    words
}

/// `words`, and nothing at all, for the schemas of what is not always said.
pub(crate) fn or_null(words: impl IntoIterator<Item = impl Into<Value>>) -> Vec<Value> {
    words.into_iter().map(Into::into).chain([Value::Null]).collect()
}

/// No enumeration has a value as high as this.
const VALUES_MAX: i32 = 64;

/// How far the bytes of a mailbox are, as a word.
pub(crate) fn preparation_word(preparation: v1::Preparation) -> &'static str {
    match preparation {
        v1::Preparation::Unspecified => "unknown",
        v1::Preparation::Waiting => "waiting",
        v1::Preparation::Prepared => "prepared",
        v1::Preparation::Quarantined => "quarantined",
    }
}

/// What an opened mailbox has shown, as a word.
pub(crate) fn health_word(health: v1::Health) -> &'static str {
    match health {
        v1::Health::Unspecified => "unknown",
        v1::Health::Unproven => "unproven",
        v1::Health::Healthy => "healthy",
        v1::Health::Failed => "failed",
        v1::Health::IntegrityFailed => "integrity-failed",
    }
}

/// A finding's kind, as a word.
pub(crate) fn kind_word(kind: v1::FindingKind) -> &'static str {
    match kind {
        v1::FindingKind::Unspecified => "unknown",
        v1::FindingKind::SetAside => "set-aside",
        v1::FindingKind::Lost => "lost",
        v1::FindingKind::Doubt => "doubt",
        v1::FindingKind::Quarantined => "quarantined",
        v1::FindingKind::Probe => "probe",
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
