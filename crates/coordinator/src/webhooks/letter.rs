//! Letter: alerts as Alertmanager's second API has them, and a signature over them.
//!
//! # Invariants
//!
//! * Whoever has the key can tell that a letter is ours, whole, and from when it is.

use std::collections::BTreeMap;

use ring::hmac;
use serde_json::{Value, json};
use tidegate_core::time::Timestamp;

/// The header with the signature: `t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY`.
pub(super) const SIGNATURE: &str = "Tidegate-Signature";

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    /// What tells it from others.
    pub(super) labels: BTreeMap<&'static str, String>,
    /// One line with its numbers.
    pub(super) summary: String,
    /// What to do.
    pub(super) advice: String,
    pub(super) starts_at: Timestamp,
    /// When it was over; nothing while it is so.
    pub(super) ends_at: Option<Timestamp>,
    /// The page that shows it; may be empty.
    pub(super) link: String,
}

/// What is posted at once.
pub(super) struct Letter {
    pub(super) alerts: Vec<Alert>,
    /// How many of them, from the first, are over.
    pub(super) over: usize,
}

impl Letter {
    /// Its bytes.
    pub(super) fn body(&self) -> Vec<u8> {
        let alerts: Vec<Value> = self.alerts.iter().map(value).collect();
        Value::from(alerts).to_string().into_bytes()
    }
}

fn value(alert: &Alert) -> Value {
    let mut annotations = json!({ "summary": alert.summary });
    if !alert.advice.is_empty()
        && let Some(annotations) = annotations.as_object_mut()
    {
        annotations.insert("description".to_owned(), alert.advice.as_str().into());
    }
    let mut value = json!({
        "labels": alert.labels,
        "annotations": annotations,
        "startsAt": date(alert.starts_at),
    });
    if let Some(value) = value.as_object_mut() {
        if let Some(at) = alert.ends_at {
            value.insert("endsAt".to_owned(), date(at).into());
        }
        if !alert.link.is_empty() {
            value.insert("generatorURL".to_owned(), alert.link.as_str().into());
        }
    }
    value
}

fn date(at: Timestamp) -> String {
    let millis = i64::try_from(at.millis()).unwrap_or(i64::MAX);
    let instant =
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    format!("{instant:.3}")
}

/// A secret that letters are signed with.
#[derive(Debug)]
pub(super) struct Key(hmac::Key);

impl Key {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The signature's header for `body`, made at `at`.
    pub(super) fn sign(&self, at: Timestamp, body: &[u8]) -> String {
        let seconds = at.millis() / 1_000;
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{seconds}.").as_bytes());
        context.update(body);
        let tag = context.sign();
        let halves = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = halves.filter_map(|half| char::from_digit(u32::from(half), 16));
        let digits: String = digits.collect();
        format!("t={seconds},v1={digits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_has_the_form_that_alertmanager_takes() {
        let alert = Alert {
            labels: BTreeMap::from([("alertname", "TidegateHalted".to_owned())]),
            summary: "the gate has halted the rollout".to_owned(),
            advice: "look".to_owned(),
            starts_at: Timestamp::from_millis(1_700_000_000_250),
            ends_at: Some(Timestamp::from_millis(1_700_000_060_000)),
            link: "https://ops.example.org/".to_owned(),
        };

        let body = Letter { alerts: vec![alert], over: 1 }.body();

        let read: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            read,
            json!([{
                "labels": { "alertname": "TidegateHalted" },
                "annotations": {
                    "summary": "the gate has halted the rollout", "description": "look",
                },
                "startsAt": "2023-11-14T22:13:20.250Z",
                "endsAt": "2023-11-14T22:14:20.000Z",
                "generatorURL": "https://ops.example.org/",
            }])
        );
    }

    #[test]
    fn a_signature_is_what_openssl_makes() {
        // printf '1700000000.[]' | openssl dgst -sha256 -hmac 'a secret of a few words'
        let key = Key::new(b"a secret of a few words");

        let signature = key.sign(Timestamp::from_millis(1_700_000_000_999), b"[]");

        assert_eq!(
            signature,
            "t=1700000000,v1=0e52c75c857afc79ea9698125ed7a5cee41eef8992f6ee49e71599bdb41d2930"
        );
    }
}
