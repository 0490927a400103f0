//! The turnstile before each service: who finds no room is refused before anything is read.
//!
//! # Invariants
//!
//! * A call has its place from its first byte until its answer has been taken or given up.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::server::NamedService;

use super::hall::{Call, Class, Kind, Peer};
use crate::refused::Refused;

/// A service behind its turnstile.
#[derive(Clone)]
pub(super) struct Turnstile<S> {
    class: Class,
    inner: S,
}

impl<S> Turnstile<S> {
    /// `inner` for callers of `class`.
    pub(super) fn new(class: Class, inner: S) -> Self {
        Self { class, inner }
    }

    fn enter(&self, request: &http::Request<Body>) -> Result<Call, Refused> {
        let peer = request.extensions().get::<Peer>().ok_or(Refused::Stopping)?;
        peer.begin(self.class, kind_of(request.uri().path()))
    }
}

/// What a call of this method is.
fn kind_of(path: &str) -> Kind {
    match path.rsplit('/').next().unwrap_or_default() {
        "Pause" | "Abort" | "Reclose" => Kind::Stop,
        method if method.starts_with("Watch") => Kind::Watch,
        _ => Kind::Usual,
    }
}

impl<S: NamedService> NamedService for Turnstile<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Turnstile<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let call = match self.enter(&request) {
            Ok(call) => call,
            Err(refused) => {
                let answer = Status::from(refused).into_http();
                return Box::pin(std::future::ready(Ok(answer)));
            }
        };
        request.extensions_mut().insert(call.receiving());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            call.answers();
            Ok(answer.map(|body| Body::new(Answer { body, _call: call })))
        })
    }
}

/// An answer on its way.
pub(super) struct Answer<B> {
    /// What is left of it.
    pub(super) body: B,
    /// The call, until nobody takes any more of it.
    pub(super) _call: Call,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
