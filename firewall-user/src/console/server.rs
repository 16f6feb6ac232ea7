//! The HTTP server of the console. Its clients are processes of this host.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::routes::{self, Shared};
use crate::config::Paths;
use crate::http::connection::{Accepted, Bounds, Progress, Watched, bounded};
use crate::http::router::serve;
use crate::http::server::{self, Service};
use crate::http::{Address, Listening};
use crate::telemetry::serve::{Server, Signalled};

/// Connections at the same time: a browser has at most 6.
pub const MAX_CONNECTIONS: usize = 64;

/// The largest head of a request in bytes.
pub const MAX_HEAD: usize = 16 << 10;

/// Readings of the kernel or of the disk at the same time; others wait.
pub(super) const MAX_RUNNING: usize = 4;

/// The time that requests in progress have to end in when the process ends.
const END_TIME: Duration = Duration::from_secs(2);

const BOUNDS: Bounds = Bounds {
    connections: MAX_CONNECTIONS,
    per_client: MAX_CONNECTIONS,
    // Nothing is lost: a browser connects again.
    evicts_requests: true,
    head: Duration::from_secs(10),
    request: Duration::from_secs(60),
    // A stream of drops shows every few seconds that it is alive.
    idle: Duration::from_secs(60),
    answer: Duration::from_secs(3600),
    connection: Duration::from_secs(3600),
};

/// Listens; [`serve`] runs the server that is returned. The address is with the port that the kernel chose. No other
/// thread may run.
///
/// # Errors
/// The address cannot be used.
///
/// [`serve`]: crate::telemetry::serve::serve
pub fn open(paths: &Paths, address: &Address) -> Result<(Server, Address)> {
    let listening = Listening::open(address, "--console")?;
    let address = listening.address().context("listen")?;
    let (paths, is_tcp) = (paths.clone(), matches!(address, Address::Tcp(_)));
    let run = move |signalled| run(listening, paths, is_tcp, signalled);
    Ok((Server { name: "console", run: Box::new(run) }, address))
}

fn run(listening: Listening, paths: Paths, is_tcp: bool, signalled: Signalled) -> Result<()> {
    let Signalled { beat, config, reload: _, end } = signalled;
    let shared = Shared::new(paths, config, is_tcp, end.clone());
    let mut builder = Builder::new_current_thread();
    let runtime =
        builder.enable_all().max_blocking_threads(MAX_RUNNING).build().context("start")?;
    let endpoint = Endpoint { router: routes::router(Arc::new(shared)), end: end.clone() };
    let served = runtime.block_on(server::run(listening, endpoint, beat, end));
    runtime.shutdown_timeout(END_TIME);
    served.context("serve the console")
}

struct Endpoint {
    router: Router,
    end: watch::Receiver<bool>,
}

impl Service for Endpoint {
    fn bounds(&self) -> &Bounds {
        &BOUNDS
    }

    fn serve(
        &self,
        accepted: Accepted,
        progress: Arc<Progress>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (router, end) = (self.router.clone(), self.end.clone());
        async move {
            let Accepted { stream, ends } = accepted;
            let stream = Watched::new(stream, Arc::clone(&progress));
            let connection = serve(stream, ends, router, &progress, end, MAX_HEAD);
            bounded(&progress, &BOUNDS, connection).await;
        }
    }
}
