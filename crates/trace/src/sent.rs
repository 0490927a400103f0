//! Calls that are sent: each within a trace says which.
//!
//! # Invariants
//!
//! * A call outside a trace is sent as it is.

use std::task::{Context, Poll};

use tonic::codegen::{BoxFuture, Service, http};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{Place, call, note};

/// A channel whose calls are part of traces.
#[derive(Clone, Debug)]
pub struct Traced<S>(S);

impl<S> Traced<S> {
    /// `channel`, whose calls say which trace they are part of.
    pub fn new(channel: S) -> Self {
        Self(channel)
    }
}

impl<S, B, R> Service<http::Request<B>> for Traced<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        if Place::here().is_none() {
            return Box::pin(self.0.call(request));
        }
        let span = call(request.uri().path(), "client");
        Place(span.context()).put_into(request.headers_mut());
        let answer = span.in_scope(|| self.0.call(request)).instrument(span.clone());
        Box::pin(async move {
            let answer = answer.await;
            if let Ok(answer) = &answer {
                note(&span, answer.headers());
            }
            answer
        })
    }
}
