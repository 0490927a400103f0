//! Says to a collector which call led to which, in OTLP. The only crate that knows OpenTelemetry.
//!
//! ```text
//! tidegate pause ─▶ call ─▶ coordinator ─▶ orders ─▶ every worker, until it obeys
//! ```
//!
//! A trace begins with what a person types, or with a call that says which trace it is part of;
//! nothing else begins one, so that the beats of workers make none.
//!
//! # Invariants
//!
//! * Off unless somebody names a collector; calls are as they were then.
//! * A span has what is put in here: names of methods, programs and nodes, numbers of orders, and
//!   codes. What is logged, what is asked and what is answered never come into one.
//! * A collector that is slow or away holds nobody up: what does not reach it in time is lost.

mod collector;
mod sent;
mod served;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::{MetadataKey, MetadataMap};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use collector::{Program, TraceError, Traces, is_collector};
pub use sent::Traced;
pub use served::Served;

/// What spans of traces are called, and nothing else: logs leave them out by it.
pub const TARGET: &str = "tidegate_trace";

/// What a span is called that somebody else has thought of: names are bounded.
const OTHER: &str = "_OTHER";

/// No method of ours is nearly as long.
const METHOD_BYTES_MAX: usize = 128;

/// A command that a person has typed, by its verbs: `wave list`.
pub fn command(verbs: &str) -> Span {
    tracing::info_span!(target: TARGET, "command", otel.name = format!("tidegate {verbs}"))
}

/// Where a trace is now, to be gone on with elsewhere.
#[derive(Clone, Debug)]
pub struct Place(opentelemetry::Context);

impl Place {
    /// Here; nothing where no trace is.
    pub fn here() -> Option<Self> {
        let context = opentelemetry::Context::current();
        context.span().span_context().is_valid().then_some(Self(context))
    }

    /// Where whoever sent these was.
    pub fn in_metadata(metadata: &MetadataMap) -> Option<Self> {
        Self::found(&Metadata(metadata))
    }

    /// Tells whoever receives these.
    pub fn tell(&self, metadata: &mut MetadataMap) {
        TraceContextPropagator::new()
            .inject_context(&self.0, &mut MetadataWriter(metadata));
    }

    /// A worker that has heard orders, until it obeys them.
    pub fn obeying(&self, node: &str, version: u64) -> Span {
        let span = tracing::info_span!(
            target: TARGET,
            "obey orders",
            otel.kind = "consumer",
            tidegate.node = node,
            tidegate.orders_version = version
        );
        // A span that nobody exports has no parent to set.
        let _unknown = span.set_parent(self.0.clone());
        span
    }

    fn in_headers(headers: &HeaderMap) -> Option<Self> {
        Self::found(&HeaderExtractor(headers))
    }

    fn found(place: &dyn Extractor) -> Option<Self> {
        let none = opentelemetry::Context::new();
        let context = TraceContextPropagator::new().extract_with_context(&none, place);
        context.span().span_context().is_valid().then_some(Self(context))
    }

    fn put_into(&self, headers: &mut HeaderMap) {
        TraceContextPropagator::new()
            .inject_context(&self.0, &mut HeaderInjector(headers));
    }
}

struct Metadata<'a>(&'a MetadataMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

struct MetadataWriter<'a>(&'a mut MetadataMap);

impl Injector for MetadataWriter<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            self.0.insert(key, value);
        }
    }
}

/// The span of a call, within the one that is entered.
fn call(path: &str, kind: &'static str) -> Span {
    let method = method(path);
    tracing::info_span!(
        target: TARGET,
        "call",
        otel.name = method,
        otel.kind = kind,
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty
    )
}

/// A method as OpenTelemetry writes it: `tidegate.v1.OperatorService/Pause`.
fn method(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
    };
    match path.split_once('/') {
        Some((service, name))
            if path.len() <= METHOD_BYTES_MAX
                && service.starts_with("tidegate.")
                && is_name(service)
                && is_name(name) =>
        {
            path
        }
        Some(_) | None => OTHER,
    }
}

/// Notes how a call was answered.
fn note(span: &Span, headers: &HeaderMap) {
    let code =
        headers.get("grpc-status").map(|code| tonic::Code::from_bytes(code.as_bytes()));
    // Without one the answer has begun, and so it was not refused.
    let code = code.unwrap_or(tonic::Code::Ok);
    span.record("rpc.response.status_code", tracing::field::debug(code));
    if code != tonic::Code::Ok {
        span.record("otel.status_code", "ERROR");
    }
}

#[cfg(test)]
mod tests {
    use super::method;

    #[test]
    fn only_our_own_methods_are_named() {
        assert_eq!(
            [
                "/tidegate.v1.OperatorService/Pause",
                "/anna@example.org/x",
                "/tidegate.v1/a b",
                ""
            ]
            .map(method),
            ["tidegate.v1.OperatorService/Pause", "_OTHER", "_OTHER", "_OTHER"]
        );
    }
}
