//! The HTTP server of the metrics. Its clients are untrusted: they share a few connections, each with little time,
//! and cannot take files or memory from the rest of the process.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval, sleep, timeout};

use crate::telemetry::address::{Listening, SocketFile};
use crate::telemetry::metrics;
use crate::telemetry::scrapes::Scrapes;
use crate::telemetry::supervisor::Heartbeat;

/// Connections at the same time. The oldest one that has not sent its request ends for a new one.
pub const MAX_CONNECTIONS: usize = 32;

/// The time in which a client has to send its request.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);

/// The time of a whole connection, which serves one request.
pub const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// The largest request in bytes: the least that the library takes.
const MAX_REQUEST: usize = 8192;

/// The pause after an error of accepting, for example without a free file.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The time that answers have to end in when the process ends.
const END_TIME: Duration = Duration::from_secs(2);

/// How often the server shows that it works.
const HEARTBEAT: Duration = Duration::from_secs(1);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "removed when it is dropped")] SocketFile),
}

impl Listener {
    fn new(listening: Listening) -> io::Result<Self> {
        Ok(match listening {
            Listening::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Self::Tcp(TcpListener::from_std(listener)?)
            }
            Listening::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Self::Unix(UnixListener::from_std(listener)?, file)
            }
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

/// A connection, in the order of their beginnings.
struct Connection {
    /// Its request has arrived.
    has_request: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Serves until `end` changes.
///
/// # Errors
/// The socket cannot be used.
pub(super) async fn run(
    listening: Listening,
    scrapes: Scrapes,
    heartbeat: Heartbeat,
    mut end: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = Listener::new(listening)?;
    let (mut tasks, mut connections) = (JoinSet::new(), VecDeque::new());
    let mut tick = interval(HEARTBEAT);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tick.tick() => {
                heartbeat.beat();
                continue;
            }
            // Closed: the process ends.
            _ = end.changed() => break,
        };
        while tasks.try_join_next().is_some() {}
        connections.retain(|one: &Connection| !one.task.is_finished());
        let Ok(stream) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        make_room(&mut connections);
        let has_request = Arc::new(AtomicBool::new(false));
        let served = serve(stream, scrapes.clone(), Arc::clone(&has_request));
        connections.push_back(Connection { has_request, task: tasks.spawn(served) });
    }
    drop(listener);
    for one in connections {
        if !one.has_request.load(Ordering::Relaxed) {
            one.task.abort();
        }
    }
    let _ = timeout(END_TIME, async { while tasks.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Ends the oldest connection that has not sent its request, else the oldest one, if there are as many as there
/// can be.
fn make_room(connections: &mut VecDeque<Connection>) {
    if connections.len() < MAX_CONNECTIONS {
        return;
    }
    let silent = connections.iter().position(|one| !one.has_request.load(Ordering::Relaxed));
    if let Some(ended) = connections.remove(silent.unwrap_or(0)) {
        ended.task.abort();
    }
}

async fn serve(stream: Box<dyn Stream>, scrapes: Scrapes, has_request: Arc<AtomicBool>) {
    let service = service_fn(move |request| {
        has_request.store(true, Ordering::Relaxed);
        let scrapes = scrapes.clone();
        async move { Ok::<_, Infallible>(answer(&request, &scrapes).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIME);
    http.max_buf_size(MAX_REQUEST).keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    // An error is the client's.
    let _ = timeout(CONNECTION_TIME, connection).await;
}

async fn answer(request: &Request<Incoming>, scrapes: &Scrapes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, Bytes::from_static(b"use GET\n"));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    match request.uri().path() {
        "/" => plain(StatusCode::OK, Bytes::from_static(b"secgroup: metrics are at /metrics\n")),
        "/metrics" => match scrapes.get().await {
            Ok(text) => with_type(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(text) => plain(StatusCode::INTERNAL_SERVER_ERROR, text),
        },
        _ => plain(StatusCode::NOT_FOUND, Bytes::from_static(b"metrics are at /metrics\n")),
    }
}

fn plain(status: StatusCode, text: Bytes) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text)
}

fn with_type(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
