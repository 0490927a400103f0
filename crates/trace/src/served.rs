//! Calls that are served: each that is part of a trace goes on with it.
//!
//! # Invariants
//!
//! * A call that is part of no trace begins none.

use tonic::codegen::http;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{Place, call, note};

/// A call that is being served.
pub struct Served(Option<Span>);

impl Served {
    /// The one that `request` asks for.
    pub fn of<B>(request: &http::Request<B>) -> Self {
        let Some(caller) = Place::in_headers(request.headers()) else {
            return Self(None);
        };
        let span = call(request.uri().path(), "server");
        // Where nobody exports spans there is no parent to set.
        let _unknown = span.set_parent(caller.0);
        Self(Some(span))
    }

    /// Does `begin` within it.
    pub fn within<T>(&self, begin: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(span) => span.in_scope(begin),
            None => begin(),
        }
    }

    /// `answer`, which is made within it, and how it was answered.
    ///
    /// # Errors
    ///
    /// Those of `answer`.
    pub async fn noted<F, B, E>(self, answer: F) -> Result<http::Response<B>, E>
    where
        F: Future<Output = Result<http::Response<B>, E>>,
    {
        let Some(span) = self.0 else { return answer.await };
        let answer = answer.instrument(span.clone()).await;
        if let Ok(answer) = &answer {
            note(&span, answer.headers());
        }
        answer
    }
}
