//! Hanging: calls to a coordinator whose decisions stand still, as on a disk that never answers.
//!
//! # Invariants
//!
//! * The caller says how long it waits and keeps no time itself: what ends a call is the
//!   coordinator.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::{Body as _, BoxFuture, Service, http};
use tonic::{Code, Status};

/// A way to an address that waits for as long as it takes.
#[derive(Clone)]
pub(crate) struct Patient(pub(crate) String);

impl Service<http::Request<Body>> for Patient {
    type Response = http::Response<Body>;
    type Error = h2::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let address = self.0.clone();
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await.unwrap();
            let (calls, connection) = h2::client::handshake(tcp).await?;
            let connection = tokio::spawn(connection);
            let (head, mut body) = request.into_parts();
            let request = http::Request::from_parts(head, ());
            let (answer, mut to) = calls.ready().await?.send_request(request, false)?;
            while let Some(part) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
            {
                to.send_data(part.unwrap().into_data().unwrap(), false)?;
            }
            to.send_data(Vec::new().into(), true)?;
            let answer = answer.await?;
            assert!(answer.body().is_end_stream(), "all that is asked here is refused");
            connection.abort();
            Ok(answer.map(|_| Body::empty()))
        })
    }
}

/// What was refused: its status and its stable name.
pub(crate) fn refused<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.map(drop).unwrap_err();
    let name = status.metadata().get("tidegate-code").unwrap();
    (status.code(), name.to_str().unwrap().to_owned())
}
