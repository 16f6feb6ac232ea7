//! Which page, document or file answers a request.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use firewall_ec2::sigv4::parameters;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::answer::{Form, Problem};
use super::journal::{self, LastCoverage};
use super::pages::{drops, explain, flows, overview, rules};
use super::server::MAX_RUNNING;
use super::{assets, guard, headers};
use crate::config::{Config, Paths};
use crate::control::Control;
use crate::observe::journal::Reader;

/// How long a request waits for others that read.
const WAIT_TIME: Duration = Duration::from_secs(20);

/// The longest query in bytes.
const MAX_QUERY: usize = 4096;

/// Streams of drops at the same time, one for each window of a browser.
const MAX_STREAMS: usize = 16;

/// What every request uses.
pub(super) struct Shared {
    paths: Paths,
    config: watch::Receiver<Config>,
    /// Whether requests come over TCP.
    is_tcp: bool,
    /// Changes when the process ends.
    pub(super) end: watch::Receiver<bool>,
    running: Semaphore,
    /// Streams of drops.
    pub(super) streams: Arc<Semaphore>,
    pub(super) coverage: LastCoverage,
}

impl Shared {
    pub(super) fn new(
        paths: Paths,
        config: watch::Receiver<Config>,
        is_tcp: bool,
        end: watch::Receiver<bool>,
    ) -> Self {
        Self {
            paths,
            config,
            is_tcp,
            end,
            running: Semaphore::new(MAX_RUNNING),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            coverage: LastCoverage::default(),
        }
    }

    /// Opens store and kernel for reading: commands change both while this process runs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn control(&self) -> Result<Control> {
        Control::open_read_only(&self.paths, self.config())
    }

    /// The configuration.
    pub(super) fn config(&self) -> Config {
        *self.config.borrow()
    }

    /// Opens the journal of records.
    ///
    /// # Errors
    /// Others can change it.
    pub(super) fn journal(&self) -> Result<Reader, Problem> {
        journal::open(&self.paths.state_dir)
    }

    /// Why dropped packets are not recorded now; `None`: they are.
    pub(super) fn recording_problem(&self) -> Option<String> {
        journal::problem(&self.paths.state_dir, self.config().records.collect)
    }

    /// Runs what waits for files or the kernel, when few others do.
    ///
    /// # Errors
    /// It fails, or too many others run.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let _permit = timeout(WAIT_TIME, self.running.acquire()).await;
        let _permit = _permit.map_err(|_| Problem::busy())?.map_err(|_| Problem::busy())?;
        let this = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || read(&this)).await;
        read.map_err(|error| Problem::failed(&error.into()))?
    }
}

/// A request that may be answered.
pub(super) struct Asked {
    pub(super) form: Form,
    pub(super) headers: HeaderMap,
    /// The parameters of its query; those without a value are left out: a form sends every field.
    pub(super) words: Vec<(String, String)>,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let form = Form::of(request.uri().path(), request.headers());
    let checked = guard::check(request.method(), request.headers(), shared.is_tcp);
    let answered = match checked {
        Ok(()) => answer(&shared, form, request).await,
        Err(problem) => Err(problem),
    };
    headers::secure(answered.unwrap_or_else(|problem| problem.answer(form)))
}

async fn answer(shared: &Arc<Shared>, form: Form, request: Request) -> Result<Response, Problem> {
    let (head, _) = request.into_parts();
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    if let Some(file) = assets::answer(path, &head.headers) {
        return Ok(file);
    }
    if query.len() > MAX_QUERY {
        let error = format!("the query has more than {MAX_QUERY} bytes");
        return Err(Problem::usage(error, Some("leave out filters".to_owned())));
    }
    let words = parameters(query).map_err(|_| {
        Problem::usage("the query is malformed", Some("use the form of the page".to_owned()))
    })?;
    let words = words.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let asked = Asked { form, headers: head.headers, words };
    match path.strip_suffix(".json").unwrap_or(path) {
        "/" | "/status" => overview::answer(shared, asked).await,
        "/stats" => overview::counters(shared).await,
        "/drops" => drops::answer(shared, asked).await,
        "/drops.events" => drops::stream::answer(shared, asked).await,
        "/flows" => flows::answer(shared, asked).await,
        "/rules" => rules::answer(shared, asked).await,
        "/explain" => explain::answer(shared, asked).await,
        _ => Err(Problem::not_found()),
    }
}
