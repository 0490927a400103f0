//! Connections: how they come in, and how they are cut.
//!
//! # Invariants
//!
//! * Taking connections in never waits for any of them.
//! * Who says nothing for a few seconds is not served at all.
//! * A connection that must go ends at once, whatever is under way on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::hall::{Hall, Peer};

/// The first bytes of a client come with its connection.
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(5);

/// How long nobody new is taken in when that has just failed, for example because no file
/// descriptor is left: the next attempt would fail as well, and attempts cost a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a connection looks whether its client keeps us waiting.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Connections that have begun to speak and are not yet served.
const SPEAKING_MAX: usize = 64;

/// Everybody who comes to `listener` and says something, for as long as that is read.
pub(super) fn arrivals(
    listener: TcpListener,
    hall: Arc<Hall>,
) -> ReceiverStream<io::Result<Connection>> {
    let (to, arrivals) = mpsc::channel(SPEAKING_MAX);
    tokio::spawn(async move {
        // Cancel-safe, both: neither has taken anything when it is not the first.
        tokio::select! {
            () = to.closed() => {}
            () = accept(&listener, &hall, &to) => {}
        }
    });
    ReceiverStream::new(arrivals)
}

async fn accept(
    listener: &TcpListener,
    hall: &Arc<Hall>,
    to: &mpsc::Sender<io::Result<Connection>>,
) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                let (peer, must_go) = hall.arrive();
                let connection = Connection::new(tcp, peer, must_go);
                tokio::spawn(connection.speaks_first(to.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot take a connection in");
                hall.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that can be cut.
pub(super) struct Connection {
    tcp: TcpStream,
    peer: Peer,
    /// Ready when it must go; nothing once it was.
    must_go: Option<oneshot::Receiver<()>>,
    look: Interval,
}

impl Connection {
    fn new(tcp: TcpStream, peer: Peer, must_go: oneshot::Receiver<()>) -> Self {
        // It works without, only slower.
        drop(tcp.set_nodelay(true));
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { tcp, peer, must_go: Some(must_go), look }
    }

    /// Hands it on as soon as it has said something.
    async fn speaks_first(mut self, to: mpsc::Sender<io::Result<Self>>) {
        let mut first = [0];
        let spoken = {
            let must_go = self.must_go.as_mut();
            let must_go = async {
                match must_go {
                    Some(must_go) => drop(must_go.await),
                    None => std::future::pending().await,
                }
            };
            // Cancel-safe: a peek takes nothing.
            tokio::select! {
                () = must_go => false,
                said = tokio::time::timeout(FIRST_BYTES_WITHIN, self.tcp.peek(&mut first)) => {
                    matches!(said, Ok(Ok(1)))
                }
            }
        };
        if spoken {
            // Nobody takes it: the coordinator is stopping.
            drop(to.send(Ok(self)).await);
        }
    }

    /// Whether it must go now; otherwise its task is woken when it must.
    fn goes(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(must_go) = &mut self.must_go else { return true };
        let mut goes = Pin::new(must_go).poll(cx).is_ready();
        while !goes && self.look.poll_tick(cx).is_ready() {
            if self.peer.is_overdue() {
                self.peer.cut();
                goes = true;
            }
        }
        if goes {
            self.must_go = None;
        }
        goes
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.leave();
    }
}

fn cut<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goes(cx) { cut() } else { Pin::new(&mut self.tcp).poll_read(cx, buffer) }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.goes(cx) { cut() } else { Pin::new(&mut self.tcp).poll_write(cx, bytes) }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.goes(cx) {
            return cut();
        }
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goes(cx) { cut() } else { Pin::new(&mut self.tcp).poll_flush(cx) }
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goes(cx) { cut() } else { Pin::new(&mut self.tcp).poll_shutdown(cx) }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
