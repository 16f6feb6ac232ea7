//! How far a connection is with its requests, and how long it may stay there. Clients are untrusted: one that is
//! silent, slow to send or slow to read must not keep a connection from others.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// A stream of bytes to and from a client.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client's.
    pub(crate) client: SocketAddr,
    /// The one on this host.
    pub(crate) server: SocketAddr,
}

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: Box<dyn Stream>,
    /// `None` over a Unix socket.
    pub(crate) ends: Option<Ends>,
}

/// How often the times of a connection are compared with their bounds.
const TICK: Duration = Duration::from_millis(500);

/// What the clients of a server may take together, and each of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// Connections of one IPv4 address or IPv6 network of 64 bits. Those of this host are not counted.
    pub(crate) per_client: usize,
    /// Whether a connection with a request may end for a new one, if all have requests.
    pub(crate) evicts_requests: bool,
    /// The time for a request's head, and before it for the handshake of TLS.
    pub(crate) head: Duration,
    /// The time for a request's body and for answering it.
    pub(crate) request: Duration,
    /// The time without a byte to or from a client that has had an answer.
    pub(crate) idle: Duration,
    /// The time for sending one answer.
    pub(crate) answer: Duration,
    /// The time after which a connection ends as soon as it is between two requests.
    pub(crate) connection: Duration,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It has sent a part of a request's head, or, new, nothing.
    Head = 0,
    /// A request's head has arrived, and there is no answer yet.
    Request = 1,
    /// The answer is being sent, or was sent, and no byte of another request has arrived.
    Answer = 2,
}

/// The progress of a connection.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds since `began`.
    since: AtomicU64,
    /// When the last byte passed, in milliseconds since `began`.
    last: AtomicU64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            phase: AtomicU8::new(Phase::Head as u8),
            since: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Request,
            _ => Phase::Answer,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// The time since the last byte.
    pub(crate) fn idle(&self) -> Duration {
        self.since(&self.last)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, moment: &AtomicU64) -> Duration {
        let moment = Duration::from_millis(moment.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(moment)
    }

    fn has_read(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
        if self.phase() == Phase::Answer {
            self.enter(Phase::Head);
        }
    }

    fn has_written(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Whether one of its times is over.
    fn is_over(&self, bounds: &Bounds) -> bool {
        let since = self.since(&self.since);
        match self.phase() {
            Phase::Head => since > bounds.head,
            Phase::Request => since > bounds.request,
            Phase::Answer => {
                let (idle, age) = (self.idle(), self.began.elapsed());
                let is_being_sent = since > idle + TICK;
                idle > bounds.idle
                    || (is_being_sent && since > bounds.answer)
                    || (age > bounds.connection && idle > TICK)
            }
        }
    }
}

/// Drives a connection until it ends or one of its times is over.
pub(crate) async fn bounded(
    progress: &Progress,
    bounds: &Bounds,
    connection: impl Future<Output = ()>,
) {
    tokio::pin!(connection);
    loop {
        tokio::select! {
            () = &mut connection => return,
            () = sleep(TICK) => {}
        }
        if progress.is_over(bounds) {
            return;
        }
    }
}

/// A stream that records when bytes pass.
pub(crate) struct Watched<S> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S> Watched<S> {
    pub(crate) const fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.has_read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn written(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(polled, Poll::Ready(Ok(size)) if size > 0) {
            self.progress.has_written();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections: 1,
        per_client: 1,
        evicts_requests: false,
        head: Duration::from_secs(10),
        request: Duration::from_secs(20),
        idle: Duration::from_secs(30),
        answer: Duration::from_secs(40),
        connection: Duration::from_secs(100),
    };

    /// A connection that began `age` seconds ago, whose phase began at second `since` and whose last byte passed
    /// at second `last`.
    fn at(phase: Phase, age: u64, since: u64, last: u64) -> Progress {
        let progress = Progress {
            began: Instant::now().checked_sub(Duration::from_secs(age)).unwrap(),
            ..Progress::new()
        };
        progress.phase.store(phase as u8, Ordering::Relaxed);
        progress.since.store(since * 1000, Ordering::Relaxed);
        progress.last.store(last * 1000, Ordering::Relaxed);
        progress
    }

    #[test]
    fn every_phase_has_its_time() {
        use Phase::{Answer, Head, Request};
        for (phase, age, since, last, is_over) in [
            (Head, 9, 0, 0, false),
            // Bytes do not prolong a head.
            (Head, 11, 0, 11, true),
            (Request, 19, 0, 0, false),
            (Request, 21, 0, 20, true),
            // Between two requests.
            (Answer, 29, 0, 0, false),
            (Answer, 31, 0, 0, true),
            (Answer, 99, 98, 98, false),
            (Answer, 102, 100, 100, true),
            // A client that reads slowly, and one that has stopped.
            (Answer, 39, 0, 39, false),
            (Answer, 42, 0, 42, true),
            (Answer, 39, 0, 8, true),
        ] {
            let progress = at(phase, age, since, last);
            assert_eq!(progress.is_over(&BOUNDS), is_over, "{phase:?} {age} {since} {last}");
        }
    }

    #[test]
    fn the_first_byte_after_an_answer_begins_a_head() {
        let progress = at(Phase::Answer, 20, 0, 0);
        progress.has_read();
        assert_eq!(progress.phase(), Phase::Head);
        assert!(!progress.is_over(&BOUNDS));
        let progress = at(Phase::Request, 20, 15, 0);
        progress.has_read();
        assert_eq!(progress.phase(), Phase::Request);
    }
}
