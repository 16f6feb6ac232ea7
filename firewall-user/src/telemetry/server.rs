//! The process of `secgroup serve`: serves metrics, attaches interfaces whose devices appear, follows
//! changes of addresses, and removes expired flows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::config::{Config, Paths};
use crate::control::{Control, NothingAttached, Outcome, Reconciled};
use crate::dataplane::host::device;
use crate::explain::Explain;
use crate::telemetry::metrics;

/// Time between two checks for changes of devices and addresses in other network namespaces.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two removals of expired flows.
const GC_INTERVAL: Duration = Duration::from_secs(60);

/// The address of the HTTP server is not available.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl Explain for ListenError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("choose another address or port with --metrics".into())
    }
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    paths: Paths,
    config: Config,
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr),
) -> Result<()> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|source| ListenError { address, source })?;
    let address = listener.local_addr().context("listen")?;
    let scraped = paths.clone();
    let scrape = move || {
        let paths = scraped.clone();
        async move { answer(paths, config).await }
    };
    let router = Router::new().route("/metrics", get(scrape)).route("/", get(index));
    tokio::spawn(gc(paths.clone(), config));
    tokio::spawn(follow(paths, config));
    ready(address);
    axum::serve(listener, router).with_graceful_shutdown(interrupted()).await.context("serve")
}

async fn index() -> &'static str {
    "secgroup: metrics are at /metrics\n"
}

/// A scrape opens store and maps again: commands change both while this process runs.
async fn answer(paths: Paths, config: Config) -> Response {
    let read =
        move || Control::open_existing(&paths, config).and_then(|control| metrics::text(&control));
    // Reading the flow tables can take tens of milliseconds: not on the thread of the server.
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Ok(Err(error)) => {
            eprintln!("secgroup: scrape: {error:#}");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Attaches a stored interface when its device appears, and updates policies when addresses of group
/// members change: at once in this network namespace, within [`POLL_INTERVAL`] in others.
async fn follow(paths: Paths, config: Config) {
    let mut changes = device::Changes::open();
    let mut refused = BTreeMap::new();
    loop {
        if let Ok(changes) = &mut changes {
            let _ = tokio::time::timeout(POLL_INTERVAL, changes.next()).await;
        } else {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let (paths, mut known) = (paths.clone(), std::mem::take(&mut refused));
        let catch_up = move || {
            let caught_up = catch_up(&paths, config, &mut known);
            (caught_up, known)
        };
        if let Ok((caught_up, known)) = tokio::task::spawn_blocking(catch_up).await {
            refused = known;
            if let Err(error) = caught_up
                && !error.is::<NothingAttached>()
            {
                eprintln!("secgroup: follow devices and addresses: {error:#}");
            }
        }
    }
}

/// `refused`: see [`Control::attach_missing`].
fn catch_up(paths: &Paths, config: Config, refused: &mut BTreeMap<u16, u32>) -> Result<()> {
    let mut control = Control::open_existing(paths, config)?;
    // The new device first: its packets are not filtered yet.
    for Reconciled { interface, outcome, .. } in control.attach_missing(refused)? {
        let name = interface.label();
        match outcome {
            Outcome::Attached(attached) => {
                eprintln!("secgroup: {name} appeared: attached, {}", attached.hook.name());
            }
            Outcome::Failed(error) => eprintln!("secgroup: {name} appeared: {error:#}"),
            Outcome::DeviceMissing | Outcome::DeviceElsewhere => {}
        }
    }
    control.refresh().map(drop)
}

/// Removes expired flows every [`GC_INTERVAL`].
async fn gc(paths: Paths, config: Config) {
    loop {
        tokio::time::sleep(GC_INTERVAL).await;
        let paths = paths.clone();
        let gc = move || Control::open_existing(&paths, config).and_then(|mut c| c.gc());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(gc).await
            && !error.is::<NothingAttached>()
        {
            eprintln!("secgroup: remove expired flows: {error:#}");
        }
    }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            // Without the handler the signal ends the process, too.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
