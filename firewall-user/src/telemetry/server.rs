//! The HTTP server of the metrics.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use crate::http::connection::{Accepted, Bounds, Phase, Progress, Stream};
use crate::http::server::Service;
use crate::telemetry::metrics;
use crate::telemetry::scrapes::Scrapes;

/// Connections at the same time. The oldest one that has not sent its request ends for a new one.
pub const MAX_CONNECTIONS: usize = 32;

/// The time in which a client has to send its request.
pub const REQUEST_TIME: Duration = Duration::from_secs(5);

/// The time of a whole connection, which serves one request.
pub const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// The largest request in bytes: the least that the library takes.
const MAX_REQUEST: usize = 8192;

const BOUNDS: Bounds = Bounds {
    connections: MAX_CONNECTIONS,
    per_client: MAX_CONNECTIONS,
    evicts_requests: true,
    head: REQUEST_TIME,
    request: CONNECTION_TIME,
    idle: CONNECTION_TIME,
    answer: CONNECTION_TIME,
    connection: CONNECTION_TIME,
};

/// Serves the metrics.
pub(super) struct MetricsServer(pub(super) Scrapes);

impl Service for MetricsServer {
    fn bounds(&self) -> &Bounds {
        &BOUNDS
    }

    fn serve(
        &self,
        accepted: Accepted,
        progress: Arc<Progress>,
    ) -> impl Future<Output = ()> + Send + 'static {
        serve(accepted.stream, self.0.clone(), progress)
    }
}

async fn serve(stream: Box<dyn Stream>, scrapes: Scrapes, progress: Arc<Progress>) {
    let service = service_fn(move |request| {
        progress.enter(Phase::Request);
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
