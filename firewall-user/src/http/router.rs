//! One connection of a server whose requests an axum router answers.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use super::connection::{Ends, Phase, Progress, Stream};

/// Answers the requests of a connection until it or, between two of them, the process ends. `max_head`: the largest
/// head of a request in bytes. Handlers find [`Ends`] among the extensions of a request that came over TCP.
pub(crate) async fn serve(
    stream: impl Stream,
    ends: Option<Ends>,
    router: Router,
    progress: &Arc<Progress>,
    mut end: watch::Receiver<bool>,
    max_head: usize,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        progress.enter(Phase::Request);
        if let Some(ends) = ends {
            request.extensions_mut().insert(ends);
        }
        let answer = router.call(request);
        async {
            let answer: Result<Response, Infallible> = answer.await;
            progress.enter(Phase::Answer);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(max_head);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        _ = end.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
