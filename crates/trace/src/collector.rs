//! The collector: where spans go, and how.
//!
//! # Invariants
//!
//! * Only spans of this crate go there; no event does.
//! * Whether it takes them is told once when that changes.

use std::fmt;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tonic::async_trait;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::TARGET;

/// Where spans go at a collector.
const PATH: &str = "/v1/traces";

/// One delivery: a collector stands on the same machine, or near.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long spans wait for others to go with them.
const EVERY: Duration = Duration::from_secs(1);

/// Spans that wait; more than a night of commands makes.
const SPANS_MAX: usize = 2_048;

/// An answer is a few bytes; no more is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Who sends spans.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    /// `tidegate-worker`.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The node it stands on, where it stands on one.
    pub node: Option<&'a str>,
}

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is no address of a collector over plain HTTP.
    #[error("`{collector}` is no address of a collector")]
    Address {
        /// As it was given.
        collector: String,
    },
    /// The exporter cannot be made.
    #[error("make the exporter of traces")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// The way to a collector.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// To the collector at `collector`: `http://127.0.0.1:4318`.
    ///
    /// # Errors
    ///
    /// [`TraceError`] when that is no address. That nobody is there is none.
    pub fn to(collector: &str, program: &Program<'_>) -> Result<Self, TraceError> {
        if !is_collector(collector) {
            return Err(TraceError::Address { collector: collector.to_owned() });
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Courier::new())
            .with_endpoint(format!("{}{PATH}", collector.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_MAX)
            .with_scheduled_delay(EVERY)
            .build();
        let batches =
            BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let Program { name, version, node } = program;
        let node = node.map(|node| KeyValue::new("service.instance.id", node.to_owned()));
        let resource = Resource::builder_empty()
            .with_service_name((*name).to_owned())
            .with_attribute(KeyValue::new("service.version", (*version).to_owned()))
            .with_attributes(node)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(batches)
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What takes spans, and only those of traces.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("tidegate"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_level(false)
            .with_target(false)
            .with_filter(filter_fn(|it| it.is_span() && it.target() == TARGET))
    }

    /// Sends what is left.
    pub fn end(&self) {
        // A collector that is away gets nothing; the program ends all the same.
        let _lost = self.0.shutdown_with_timeout(PATIENCE);
    }
}

/// Whether `collector` is the address of one: plain HTTP, without a query.
pub fn is_collector(collector: &str) -> bool {
    let uri: Option<tonic::codegen::http::Uri> = collector.parse().ok();
    uri.is_some_and(|uri| {
        uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    })
}

/// Brings spans to the collector, on the exporter's own thread.
struct Courier {
    agent: ureq::Agent,
    is_away: AtomicBool,
}

impl Courier {
    fn new() -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        Self { agent, is_away: AtomicBool::new(false) }
    }

    fn bring(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let mut asked = self.agent.post(head.uri.to_string());
        for (name, value) in &head.headers {
            asked = asked.header(name, value);
        }
        let mut answer = asked.send(&body[..])?;
        let status = answer.status();
        let mut told = Vec::new();
        answer.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut told)?;
        Ok(Response::builder().status(status).body(Bytes::from(told))?)
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Courier")
    }
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        let brought = self.bring(request);
        let taken = brought.as_ref().is_ok_and(|it| it.status().is_success());
        let was_away = self.is_away.swap(!taken, Ordering::Relaxed);
        match (&brought, was_away) {
            (Err(error), false) => {
                tracing::warn!(%error, "the collector takes no traces; some are lost");
            }
            (Ok(answer), false) if !taken => {
                let status = answer.status().as_u16();
                tracing::warn!(status, "the collector takes no traces; some are lost");
            }
            (Ok(_), true) if taken => tracing::info!("the collector takes traces again"),
            (Ok(_) | Err(_), _) => {}
        }
        brought
    }
}

#[cfg(test)]
mod tests {
    use super::is_collector;

    #[test]
    fn a_collector_is_called_by_its_address_over_http() {
        assert!(
            is_collector("http://127.0.0.1:4318")
                && is_collector("http://otel.example:4318/")
        );
        assert!(
            !is_collector("127.0.0.1:4318")
                && !is_collector("https://otel.example")
                && !is_collector("")
        );
    }
}
