//! Connections: how they come in, and how they are cut.
//!
//! # Invariants
//!
//! * Taking connections in never waits for any of them.
//! * Who says nothing for a few seconds, or has not shown a certificate by then where one is
//!   asked for, is not served at all.
//! * A connection ends with the certificate that was shown for it, and when that is revoked.
//! * A connection that must go ends at once, whatever is under way on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tidegate_trust::{Entrance, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::hall::{Hall, Peer};
use crate::caller::Caller;

/// The first bytes of a client come with its connection.
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(5);

/// Certificates are exchanged within this time, over any network there is.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// How long nobody new is taken in when that has just failed, for example because no file
/// descriptor is left: the next attempt would fail as well, and attempts cost a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a connection looks whether its client keeps us waiting.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Connections that have begun to speak and are not yet served.
const SPEAKING_MAX: usize = 64;

/// Everybody who comes to `listener` through `entrance`, if it has one, and says something, for
/// as long as that is read.
pub(super) fn arrivals(
    listener: TcpListener,
    entrance: Option<Entrance>,
    hall: Arc<Hall>,
) -> ReceiverStream<io::Result<Connection>> {
    let (to, arrivals) = mpsc::channel(SPEAKING_MAX);
    tokio::spawn(async move {
        // Cancel-safe, both: neither has taken anything when it is not the first.
        tokio::select! {
            () = to.closed() => {}
            () = accept(&listener, entrance.as_ref(), &hall, &to) => {}
        }
    });
    ReceiverStream::new(arrivals)
}

async fn accept(
    listener: &TcpListener,
    entrance: Option<&Entrance>,
    hall: &Arc<Hall>,
    to: &mpsc::Sender<io::Result<Connection>>,
) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                let (peer, must_go) = hall.arrive();
                let arriving = Arriving { tcp, peer, must_go };
                tokio::spawn(arriving.speaks_first(entrance.cloned(), to.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot take a connection in");
                hall.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection over which nothing has been said.
struct Arriving {
    tcp: TcpStream,
    peer: Peer,
    must_go: oneshot::Receiver<()>,
}

impl Arriving {
    /// Hands it on as soon as it has said something, and shown who it is.
    async fn speaks_first(
        self,
        entrance: Option<Entrance>,
        to: mpsc::Sender<io::Result<Connection>>,
    ) {
        let Self { tcp, peer, mut must_go } = self;
        // It works without, only slower.
        drop(tcp.set_nodelay(true));
        // Cancel-safe: whoever must go loses the connection with all that was read of it.
        let come_in = tokio::select! {
            _ = &mut must_go => None,
            come_in = come_in(tcp, entrance) => come_in,
        };
        let Some((stream, caller)) = come_in else {
            peer.leave();
            return;
        };
        let connection = Connection::new(stream, peer.known_as(caller), must_go);
        // Nobody takes it: the coordinator is stopping.
        drop(to.send(Ok(connection)).await);
    }
}

/// Whoever says something, and shows a certificate if there is an `entrance`.
async fn come_in(tcp: TcpStream, entrance: Option<Entrance>) -> Option<(Stream, Caller)> {
    let mut first = [0];
    let said = tokio::time::timeout(FIRST_BYTES_WITHIN, tcp.peek(&mut first)).await;
    if !matches!(said, Ok(Ok(1))) {
        return None;
    }
    let Some(entrance) = entrance else {
        return Some((Stream::Plain(tcp), Caller::Local));
    };
    match tokio::time::timeout(HANDSHAKE_WITHIN, entrance.let_in(tcp)).await.ok()? {
        Ok((stream, Ok(guest))) => Some((stream, Caller::Known(Arc::new(guest)))),
        Ok((stream, Err(error))) => Some((stream, Caller::Nobody(Arc::new(error)))),
        Err(error) => {
            tracing::debug!(%error, "somebody without a certificate of ours was turned away");
            None
        }
    }
}

/// A connection that can be cut.
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    /// Ready when it must go; nothing once it was.
    must_go: Option<oneshot::Receiver<()>>,
    look: Interval,
}

impl Connection {
    fn new(stream: Stream, peer: Peer, must_go: oneshot::Receiver<()>) -> Self {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stream, peer, must_go: Some(must_go), look }
    }

    /// Whether it must go now; otherwise its task is woken when it must.
    fn goes(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(must_go) = &mut self.must_go else { return true };
        let mut goes = Pin::new(must_go).poll(cx).is_ready();
        while !goes && self.look.poll_tick(cx).is_ready() {
            if self.peer.is_overdue() || self.peer.caller().must_go(SystemTime::now()) {
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
        if self.goes(cx) {
            cut()
        } else {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.goes(cx) {
            cut()
        } else {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.goes(cx) {
            return cut();
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goes(cx) { cut() } else { Pin::new(&mut self.stream).poll_flush(cx) }
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.goes(cx) { cut() } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
