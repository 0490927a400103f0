//! Connections: how they come in, and how they are cut.
//!
//! # Invariants
//!
//! * Taking connections in never waits for any of them.
//! * Who says nothing for a few seconds, or has not shown a certificate by then where one is
//!   asked for, is not served at all.
//! * A connection ends with the certificate that was shown for it, and when that is revoked.
//! * A connection that must go ends at once, whatever is under way on it.
//! * Answers to what was asked together leave together: one write for all of them, not several
//!   for each.

use std::io;
use std::pin::{Pin, pin};
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
    turn: Turn,
}

/// Whether others are let go first before something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing was heard since something was last said.
    Quiet,
    /// Something was heard: what is to be said may be the first of several answers.
    Heard,
    /// They were.
    GaveWay,
}

impl Connection {
    fn new(stream: Stream, peer: Peer, must_go: oneshot::Receiver<()>) -> Self {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stream, peer, must_go: Some(must_go), look, turn: Turn::Quiet }
    }

    /// Whether the first answer to what was heard waits, once, until whoever is ready to run has
    /// run: the other answers are made by then, and go with it.
    fn gives_way(&mut self, cx: &mut Context<'_>) -> bool {
        if self.turn != Turn::Heard {
            return false;
        }
        self.turn = Turn::GaveWay;
        // It is woken when nobody else is ready, and before long if somebody always is.
        pin!(tokio::task::yield_now()).poll(cx).is_pending()
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
            return cut();
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.turn == Turn::Quiet && buffer.filled().len() > before {
            self.turn = Turn::Heard;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.goes(cx) {
            return cut();
        }
        if self.gives_way(cx) {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.turn = Turn::Quiet;
        }
        written
    }

    /// Not in parts: HTTP/2 then copies answers of up to a kilobyte behind each other and writes
    /// them at once; in parts it writes each that has more than 256 bytes for itself.
    fn is_write_vectored(&self) -> bool {
        false
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_first_answer_lets_others_go_first_once_however_much_is_heard_meanwhile()
    {
        let (mut client, mut connection) = connected().await;
        client.write_all(b"asked").await.unwrap();
        connection.read_exact(&mut [0; 5]).await.unwrap();

        let first = says(&mut connection).await;
        client.write_all(b"again").await.unwrap();
        connection.read_exact(&mut [0; 5]).await.unwrap();
        let then = says(&mut connection).await;
        let more = says(&mut connection).await;

        assert_eq!([first, then, more], [false, true, true]);
    }

    #[tokio::test]
    async fn whoever_gave_way_is_woken_and_everything_arrives() {
        let (mut client, mut connection) = connected().await;
        let mut told = [0; 11];

        client.write_all(b"asked").await.unwrap();
        connection.read_exact(&mut [0; 5]).await.unwrap();
        connection.write_all(b"an answer, ").await.unwrap();
        client.read_exact(&mut told).await.unwrap();

        assert_eq!(&told, b"an answer, ");
    }

    /// Whether something is said the first time that it is tried.
    async fn says(connection: &mut Connection) -> bool {
        poll_fn(|cx| {
            let written = Pin::new(&mut *connection).poll_write(cx, b".");
            Poll::Ready(matches!(written, Poll::Ready(Ok(1))))
        })
        .await
    }

    async fn connected() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let (peer, must_go) = Hall::new(100).arrive();
        (client, Connection::new(Stream::Plain(tcp), peer, must_go))
    }
}
