//! Connections: accepted up to a limit, and closed when they waste it.
//!
//! # Invariants
//!
//! * At most [`Limits::connections`] connections exist; further callers wait in the
//!   kernel's queue, and time out there as if we did not answer.
//! * Between two answers a caller has [`Limits::idle`] for a whole request of at most
//!   [`Limits::request_bytes`], however slowly or quickly it sends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep};

use crate::serve::ServeError;

/// The most that callers may take up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) idle: Duration,
    pub(crate) request_bytes: usize,
}

impl Limits {
    pub(crate) const DEFAULT: Self = Self {
        // Dovecot keeps one for each of its authentication workers, of which it has 30 by
        // default; a large node runs a few hundred.
        connections: 1024,
        // Longer than Dovecot keeps a connection that it does not use.
        idle: Duration::from_mins(5),
        // An address has at most 320 bytes, three times that when every one is escaped.
        request_bytes: 16 << 10,
    };

    pub(crate) const POSTFIX: Self = Self {
        // Twice as long as Postfix keeps a connection that it does not use, so that it is
        // never Postfix that finds itself hung up upon.
        idle: Duration::from_mins(10),
        ..Self::DEFAULT
    };
}

/// How long to wait when the system refuses a connection, for example for lack of file
/// descriptors: without a pause the loop would take a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Has `talk` with each caller until `stop` is done, and then hangs up on all.
///
/// # Errors
///
/// [`ServeError`] before the first connection is accepted; never later.
pub(crate) async fn each_caller<T>(
    limits: Limits,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
    talk: impl Fn(Connection) -> T,
) -> Result<(), ServeError>
where
    T: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = Bounded::on_loopback(listener, limits)?;
    let mut talks = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        // Cancel-safe, all three: what is not ready now is asked for again.
        tokio::select! {
            () = &mut stop => return Ok(()),
            connection = listener.accept() => {
                talks.spawn(talk(connection));
            }
            Some(ended) = talks.join_next() => {
                if let Ok(Err(error)) = ended {
                    tracing::debug!(%error, "a caller is hung up upon");
                }
            }
        }
    }
}

/// Stops whoever serves on a thread of its own when it is done or dropped.
pub(crate) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Has `listener` served on a thread called `name` until `stop` is done.
///
/// # Errors
///
/// What whoever serves has met with.
pub(crate) async fn on_own_thread<S, F>(
    name: &str,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
    serve: S,
) -> Result<(), ServeError>
where
    S: FnOnce(TcpListener, Stopped) -> F + Send + 'static,
    F: Future<Output = Result<(), ServeError>>,
{
    let listener = listener.into_std().map_err(ServeError::Listen)?;
    let (stopping, stopped) = oneshot::channel::<()>();
    let (ending, ended) = oneshot::channel();
    let serving = move || -> Result<(), ServeError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.map_err(ServeError::Listen)?.block_on(async {
            let listener = TcpListener::from_std(listener).map_err(ServeError::Listen)?;
            // Ends when its other half is dropped.
            serve(listener, Box::pin(async move { drop(stopped.await) })).await
        })
    };
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || drop(ending.send(serving())))
        .map_err(ServeError::Listen)?;
    let _serving = Serving { stopping: Some(stopping), thread: Some(thread) };
    // Cancel-safe, both: neither is polled again after it was ready.
    tokio::select! {
        () = stop => Ok(()),
        served = ended => served.unwrap_or(Ok(())),
    }
}

/// A thread that serves for as long as it lives: nobody is answered by one that was dropped.
struct Serving {
    stopping: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stopping.take());
        // It hangs up on everybody at once, and has then ended, however it did.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A listener that hands out bounded connections.
pub(crate) struct Bounded {
    listener: TcpListener,
    limits: Limits,
    slots: Arc<Semaphore>,
}

impl Bounded {
    /// # Errors
    ///
    /// [`ServeError`] unless only this machine can reach the listener.
    pub(crate) fn on_loopback(
        listener: TcpListener,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listen)?;
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback { address });
        }
        let slots = Arc::new(Semaphore::new(limits.connections));
        Ok(Self { listener, limits, slots })
    }

    /// The next connection. Cancel-safe: it is either still in the kernel's queue or returned.
    async fn accept(&self) -> Connection {
        let slots = Arc::clone(&self.slots);
        let slot = slots.acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return Connection::new(stream, self.limits, slot),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One caller's connection; ends with an error when a limit is reached.
pub(crate) struct Connection {
    stream: TcpStream,
    limits: Limits,
    /// Bytes of the request being received.
    received: usize,
    deadline: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, limits: Limits, slot: OwnedSemaphorePermit) -> Self {
        // Without it an answer may wait until the one before has been confirmed.
        drop(stream.set_nodelay(true));
        let deadline = Box::pin(sleep(limits.idle));
        Self { stream, limits, received: 0, deadline, _slot: slot }
    }

    /// An answer goes out: the next request has all its time and bytes again.
    fn answered(&mut self) {
        self.received = 0;
        self.deadline.as_mut().reset(Instant::now() + self.limits.idle);
    }

    /// What a wait that cannot go on now comes to.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => this.wait(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                this.received += buffer.filled().len() - before;
                if this.received > this.limits.request_bytes {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(cx, bytes) {
            Poll::Pending => this.wait(cx),
            Poll::Ready(written) => {
                this.answered();
                Poll::Ready(written)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
