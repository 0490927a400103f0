//! The turnstile before each service: who finds no room is refused before anything is read.
//!
//! # Invariants
//!
//! * Nobody gets further than the table of methods allows.
//! * A call has its place from its first byte until its answer has been taken or given up.
//! * A report of somebody who is not its node's worker is refused by its first bytes.
//! * A call is answered within the time that its caller gives it, and within ours; then whatever
//!   was done for it is given up.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http_body::{Frame, SizeHint};
use tidegate_trace::Served;
use tidegate_trust::asked_for;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::server::NamedService;

use super::hall::{Call, Class, Kind, Peer};
use super::patience::Patience;
use super::sender::only_of_workers;
use crate::asked::Asked;
use crate::auditing::Audit;
use crate::owner::Inbox;
use crate::refused::Refused;

/// A service behind its turnstile.
#[derive(Clone)]
pub(super) struct Turnstile<S> {
    class: Class,
    inner: S,
    /// Who knows the workers, where these report.
    workers: Option<Inbox>,
    /// Where it is noted how long questions take, where readers ask.
    asked: Option<Asked>,
    /// Where it is written down who was not let in, where people act or look somebody up.
    audit: Option<Audit>,
}

/// The end of the path of a worker's report.
const REPORT: &str = "/Sync";

impl<S> Turnstile<S> {
    /// `inner` for callers of `class`.
    pub(super) fn new(class: Class, inner: S) -> Self {
        Self { class, inner, workers: None, asked: None, audit: None }
    }

    /// `inner` for workers, as far as they are known to `inbox`.
    pub(super) fn of_workers(inner: S, inbox: Inbox) -> Self {
        Self { workers: Some(inbox), ..Self::new(Class::Stranger, inner) }
    }

    /// `inner` for readers, whose questions are noted, and who asks what is not for them.
    pub(super) fn of_readers(inner: S, asked: Asked, audit: Audit) -> Self {
        Self { asked: Some(asked), ..Self::of_desk(inner, audit) }
    }

    /// `inner` for the desk, with a reader's places.
    pub(super) fn of_desk(inner: S, audit: Audit) -> Self {
        Self { audit: Some(audit), ..Self::new(Class::Reader, inner) }
    }

    /// `inner` for operators; whoever tries to be one without being it is noted.
    pub(super) fn of_operators(inner: S, audit: Audit) -> Self {
        Self { audit: Some(audit), ..Self::new(Class::Operator, inner) }
    }

    fn enter(&self, request: &http::Request<Body>) -> Result<Call, Refused> {
        let peer = request.extensions().get::<Peer>().ok_or(Refused::Stopping)?;
        let path = request.uri().path();
        peer.caller().may_call(path).inspect_err(|refused| {
            if let Some(audit) = &self.audit {
                // It was refused, so nothing depends on its being written.
                drop(audit.note(peer.caller(), (asked_for(path), ""), refused.name()));
            }
        })?;
        peer.begin(self.class, kind_of(path))
    }
}

/// What a call of this method is.
fn kind_of(path: &str) -> Kind {
    match path.rsplit('/').next().unwrap_or_default() {
        "Pause" | "Freeze" | "Abort" | "Reclose" => Kind::Stop,
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
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let served = Served::of(&request);
        let answer = served.within(|| self.pass(request));
        Box::pin(served.noted(answer))
    }
}

impl<S> Turnstile<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    fn pass(
        &mut self,
        mut request: http::Request<Body>,
    ) -> BoxFuture<http::Response<Body>, Infallible> {
        let began = Instant::now();
        let call = match self.enter(&request) {
            Ok(call) => call,
            Err(refused) => {
                return Box::pin(std::future::ready(Ok(refusal(refused))));
            }
        };
        request.extensions_mut().insert(call.receiving());
        let patience = Patience::with(&request);
        let reports = request.uri().path().ends_with(REPORT);
        let Some(inbox) = self.workers.clone().filter(|_| reports) else {
            let method = Asked::method(request.uri().path());
            let noted = self.asked.clone().zip(method);
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let answer = answered(call, patience.wait_for(answer).await?);
                if let Some((asked, method)) = noted {
                    asked.note(method, began.elapsed());
                }
                Ok(answer)
            });
        };
        // Generated services keep nothing between calls: one is as ready as the other.
        let mut inner = self.inner.clone();
        let answer = async move {
            match only_of_workers(request, &inbox).await {
                Ok(request) => inner.call(request).await,
                Err(refused) => Ok(refusal(refused)),
            }
        };
        Box::pin(async move { Ok(answered(call, patience.wait_for(answer).await?)) })
    }
}

pub(super) fn refusal(refused: Refused) -> http::Response<Body> {
    Status::from(refused).into_http()
}

/// The answer, with its place until it has been taken.
fn answered(call: Call, answer: http::Response<Body>) -> http::Response<Body> {
    call.answers();
    answer.map(|body| Body::new(Answer { body, _call: call }))
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
