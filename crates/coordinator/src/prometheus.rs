//! Prometheus: asks what others measure, and hands the answers to the gate.
//!
//! # Invariants
//!
//! * Only a single number is an answer. Everything else, and silence, is none: the gate then
//!   holds by itself when the newest answer is too old.
//! * Every question ends, and none waits for another's next turn.
//! * A question that is not answered is warned of once, until it is again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tidegate_core::gate::{Bound, ExternalPolicy, ShortName};

use crate::owner::{Inbox, Views};
use crate::refused::chain;

/// How long a question may take: much longer is as good as no answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at which question is due.
const LOOK: Duration = Duration::from_millis(100);

/// The longest answer that is read: one number with its labels is far shorter.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// Nobody answered, or with a refusal.
    #[error("ask `{url}`")]
    Ask {
        /// The server.
        url: Arc<str>,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// Not what the server's interface says.
    #[error("read the answer")]
    Read {
        /// Why.
        source: serde_json::Error,
    },
    /// Nothing is measured that the question asks for.
    #[error("understand an answer without any number")]
    Empty,
    /// More than one number.
    #[error("understand an answer of {count} numbers; ask for one, as with `sum(…)`")]
    Several {
        /// How many.
        count: usize,
    },
    /// No number, or too large a one.
    #[error("understand `{said}` as a number")]
    NoNumber {
        /// What was said.
        said: String,
    },
    /// A kind of answer that is no number.
    #[error("understand an answer that is a {kind}; ask for one number")]
    NoNumbers {
        /// The kind.
        kind: String,
    },
}

/// A Prometheus server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    agent: ureq::Agent,
    url: Arc<str>,
}

impl Server {
    /// The server at `url`, not asked anything yet.
    pub(crate) fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
        Self { agent: config.build().into(), url: url.trim_end_matches('/').into() }
    }

    /// Asks every question of the present policy when it is due, for ever.
    pub(crate) async fn keep_asking(self, inbox: Inbox, views: Views) {
        let mut turns: BTreeMap<ShortName, Turn> = BTreeMap::new();
        loop {
            let plan = views.borrow().as_ref().map(|view| Arc::clone(view.plan()));
            let questions = plan.iter().flat_map(|plan| &plan.policy().gate.external);
            for external in questions {
                let turn = turns.entry(external.name).or_default();
                turn.hear(external, &inbox).await;
                if turn.is_due(external) {
                    let (server, query) = (self.clone(), external.query.clone());
                    let age_max = external.age_max.millis();
                    let ask = move || server.ask(&query, age_max);
                    turn.asked_at = Some(Instant::now());
                    turn.waiting = Some(tokio::task::spawn_blocking(ask));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The answer to `query`, in millionths. What was measured longer ago than `age_max`
    /// milliseconds is not asked for, where the server knows how to leave that out.
    fn ask(&self, query: &str, age_max: u64) -> Result<i64, Unanswered> {
        let failed = |source: ureq::Error| {
            let (url, source) = (Arc::clone(&self.url), Box::new(source));
            Unanswered::Ask { url, source }
        };
        let mut response = self
            .agent
            .get(format!("{}/api/v1/query", self.url))
            .query("query", query)
            .query("lookback_delta", format!("{age_max}ms"))
            .call()
            .map_err(failed)?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        read(&body.read_to_string().map_err(failed)?)
    }
}

/// One question's turns.
#[derive(Default)]
struct Turn {
    asked_at: Option<Instant>,
    waiting: Option<tokio::task::JoinHandle<Result<i64, Unanswered>>>,
    warned: bool,
}

impl Turn {
    fn is_due(&self, external: &ExternalPolicy) -> bool {
        let every = Duration::from_millis(external.every.millis());
        self.waiting.is_none() && self.asked_at.is_none_or(|at| at.elapsed() >= every)
    }

    /// Hands on the answer, if it has come.
    async fn hear(&mut self, external: &ExternalPolicy, inbox: &Inbox) {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.is_finished()) else {
            return;
        };
        let name = external.name;
        match waiting.await {
            Ok(Ok(answer)) => {
                if self.warned {
                    tracing::info!(%name, "a question to Prometheus is answered again");
                }
                self.warned = false;
                inbox.external(name, answer);
            }
            Ok(Err(error)) if !self.warned => {
                self.warned = true;
                tracing::warn!(
                    %name,
                    error = chain(&error),
                    "a question to Prometheus has no answer; the gate holds while that is so"
                );
            }
            // Warned of before, or the program ends.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Sample {
    value: Value,
}

/// An instant, in seconds, and a number as text.
#[derive(Deserialize)]
struct Value(#[expect(dead_code, reason = "the server's instant")] f64, String);

fn read(text: &str) -> Result<i64, Unanswered> {
    let wrong = |source| Unanswered::Read { source };
    let Answer { data: Data { kind, result } } =
        serde_json::from_str(text).map_err(wrong)?;
    let Value(_, said) = match kind.as_str() {
        "scalar" => serde_json::from_value(result).map_err(wrong)?,
        "vector" => {
            let mut samples: Vec<Sample> =
                serde_json::from_value(result).map_err(wrong)?;
            match (samples.len(), samples.pop()) {
                (1, Some(sample)) => sample.value,
                (_, None) => return Err(Unanswered::Empty),
                (count, Some(_)) => return Err(Unanswered::Several { count }),
            }
        }
        _ => return Err(Unanswered::NoNumbers { kind }),
    };
    let number = said.parse().ok().and_then(Bound::millionths);
    number.ok_or(Unanswered::NoNumber { said })
}

#[cfg(test)]
mod tests {
    use super::read;

    fn answer(kind: &str, result: &str) -> Result<i64, String> {
        let text = format!(
            r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#
        );
        read(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn one_number_is_an_answer() {
        assert_eq!(answer("scalar", r#"[1700000000.1,"0.35"]"#), Ok(350_000));
        let one = r#"[{"metric":{"node":"a"},"value":[1700000000,"-2e3"]}]"#;
        assert_eq!(answer("vector", one), Ok(-2_000_000_000));
    }

    #[test]
    fn everything_else_is_none() {
        let two =
            r#"[{"metric":{},"value":[1,"1"]},{"metric":{"a":"b"},"value":[1,"1"]}]"#;
        let said = [
            answer("vector", "[]"),
            answer("vector", two),
            answer("scalar", r#"[1,"NaN"]"#),
            answer("scalar", r#"[1,"+Inf"]"#),
            answer("scalar", r#"[1,"1e300"]"#),
            answer("matrix", "[]"),
            read("<html>").map_err(|error| error.to_string()),
        ]
        .map(Result::unwrap_err);

        assert_eq!(
            said,
            [
                "understand an answer without any number",
                "understand an answer of 2 numbers; ask for one, as with `sum(…)`",
                "understand `NaN` as a number",
                "understand `+Inf` as a number",
                "understand `1e300` as a number",
                "understand an answer that is a matrix; ask for one number",
                "read the answer",
            ]
        );
    }
}
