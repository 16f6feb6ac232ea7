//! The HTTP server of the endpoint. Its clients are untrusted until a request is authenticated: until then it costs
//! a part of a connection, the memory of its body, and a hash.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SERVER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get};
use firewall_ec2::{Error, Service as Ec2Service};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::authenticate::{Arrived, Authenticated, Authentication, Authenticator};
use super::keys::KeyFile;
use super::{Answer, Api, Caller, Connection, browser};
use crate::config::{Config, Paths};
use crate::http::connection::{Accepted, Bounds, Ends, Progress, Watched, bounded};
use crate::http::router::serve;
use crate::http::server::{self, Service};
use crate::http::tls::{Tls, TlsFiles};
use crate::http::{Address, Listening};
use crate::journal;
use crate::telemetry::serve::{Server, Signalled};

/// Connections at the same time.
pub const MAX_CONNECTIONS: usize = 64;

/// Connections at the same time of one IPv4 address, or of one IPv6 network of 64 bits.
pub const MAX_CONNECTIONS_PER_CLIENT: usize = 32;

/// The largest head of a request in bytes.
pub const MAX_HEAD: usize = 16 << 10;

/// The largest body of a request in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// The time in which a client has to send the head of a request, and then its body.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);

/// The time for which a connection stays open without a request.
pub const IDLE_TIME: Duration = Duration::from_secs(60);

/// Requests that are carried out at the same time; others wait.
pub const MAX_RUNNING: usize = 8;

/// Of those, the ones that change something. They may wait for another process that holds the lock of the store, and
/// those that read go on.
pub const MAX_CHANGING: usize = 4;

/// How long a request waits for those.
pub const WAIT_TIME: Duration = Duration::from_secs(20);

/// The time that requests in progress have to end in when the process ends.
const END_TIME: Duration = Duration::from_secs(10);

const BOUNDS: Bounds = Bounds {
    connections: MAX_CONNECTIONS,
    per_client: MAX_CONNECTIONS_PER_CLIENT,
    // What it changes would be changed, and the client not know it.
    evicts_requests: false,
    head: REQUEST_TIME,
    request: Duration::from_secs(300),
    idle: IDLE_TIME,
    answer: Duration::from_secs(300),
    connection: Duration::from_secs(3600),
};

/// Where the endpoint listens, and for whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub address: Address,
    /// TLS, if it is used.
    pub tls: Option<TlsFiles>,
    /// How requests are authenticated.
    pub authentication: Authentication,
    /// Whether `POST /moto-api/reset` empties the store: for tests of clients.
    pub has_reset: bool,
    /// How long a change that only narrows what is allowed may take to be in force.
    pub coalescing: Duration,
}

/// Listens; [`serve`] runs the server that is returned. The address is with the port that the kernel chose. No other
/// thread may run.
///
/// # Errors
/// The options would let others than the owner of the state directory change something, or the address, a file of
/// TLS or the keys cannot be used.
///
/// [`serve`]: crate::telemetry::serve::serve
pub fn open(paths: &Paths, config: Config, options: &Options) -> Result<(Server, Address)> {
    let tls = options.tls.clone().map(Tls::open).transpose()?;
    let authenticator = Authenticator::new(options.authentication, paths);
    let authenticator = authenticator.with_context(|| {
        format!("read the record of signed requests in {}", paths.state_dir.display())
    })?;
    let listening = Listening::open(&options.address, "--ec2")?;
    let address = listening.address().context("listen")?;
    let is_guarded = options.authentication == Authentication::None;
    let shared = Arc::new(Shared {
        paths: paths.clone(),
        api: Mutex::new(Arc::new(Api::new(paths.clone(), config).coalescing(options.coalescing))),
        coalescing: options.coalescing,
        authenticator,
        // The pages of a browser cannot connect to a Unix socket.
        is_guarded: is_guarded && matches!(address, Address::Tcp(_)),
        running: Arc::new(Semaphore::new(MAX_RUNNING)),
        changing: Arc::new(Semaphore::new(MAX_CHANGING)),
    });
    let router = router(Arc::clone(&shared), options.has_reset);
    let run = move |signalled| run(listening, tls, router, &shared, signalled);
    Ok((Server { name: "ec2", run: Box::new(run) }, address))
}

/// The number of access keys.
///
/// # Errors
/// They cannot be read.
pub fn count_keys(state_dir: &Path) -> Result<usize> {
    Ok(KeyFile::new(state_dir).list()?.len())
}

struct Shared {
    paths: Paths,
    /// A new one after each change of the configuration.
    api: Mutex<Arc<Api>>,
    coalescing: Duration,
    authenticator: Authenticator,
    /// Whether requests of browsers are refused.
    is_guarded: bool,
    running: Arc<Semaphore>,
    changing: Arc<Semaphore>,
}

impl Shared {
    fn api(&self) -> Arc<Api> {
        Arc::clone(&self.api.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn run(
    listening: Listening,
    tls: Option<Tls>,
    router: Router,
    shared: &Arc<Shared>,
    signalled: Signalled,
) -> Result<()> {
    let Signalled { beat, config, reload, end } = signalled;
    let mut builder = Builder::new_current_thread();
    let runtime =
        builder.enable_all().max_blocking_threads(MAX_RUNNING).build().context("start")?;
    let tls = tls.map(Arc::new);
    let endpoint = Endpoint { tls: tls.clone(), router, end: end.clone() };
    let served = runtime.block_on(async {
        tokio::spawn(follow_config(Arc::clone(shared), config));
        if let Some(tls) = tls {
            tokio::spawn(follow_certificate(tls, reload));
        }
        server::run(listening, endpoint, beat, end).await
    });
    runtime.shutdown_timeout(END_TIME);
    shared.api().settle();
    served.context("serve EC2")
}

async fn follow_config(shared: Arc<Shared>, mut config: watch::Receiver<Config>) {
    while config.changed().await.is_ok() {
        let api = Api::new(shared.paths.clone(), *config.borrow_and_update());
        let api = api.coalescing(shared.coalescing);
        *shared.api.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(api);
    }
}

async fn follow_certificate(tls: Arc<Tls>, mut reload: watch::Receiver<u64>) {
    while reload.changed().await.is_ok() {
        match tls.reload() {
            Ok(()) => journal::report(format_args!("ec2: certificate reloaded")),
            Err(error) => journal::report(format_args!(
                "ec2: certificate not reloaded, the earlier one stays: {:#}",
                anyhow::Error::from(error)
            )),
        }
    }
}

/// Serves connections.
struct Endpoint {
    tls: Option<Arc<Tls>>,
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
        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor());
        let (router, end) = (self.router.clone(), self.end.clone());
        async move {
            let Accepted { stream, ends } = accepted;
            let stream = Watched::new(stream, Arc::clone(&progress));
            let connection = async {
                match acceptor {
                    None => serve(stream, ends, router, &progress, end, MAX_HEAD).await,
                    Some(acceptor) => {
                        // An error is the client's.
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        serve(stream, ends, router, &progress, end, MAX_HEAD).await;
                    }
                }
            };
            bounded(&progress, &BOUNDS, connection).await;
        }
    }
}

fn router(shared: Arc<Shared>, has_reset: bool) -> Router {
    let mut router = Router::new()
        .route("/", any(endpoint))
        .route("/health", get(|| async { text(StatusCode::OK, "ok\n") }))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "the EC2 API is at /\n") });
    if has_reset {
        router = router.route("/moto-api/reset", any(reset));
    }
    router.with_state(shared)
}

/// Answers one request of the API.
async fn endpoint(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
        return refused;
    }
    let ends: Option<Ends> = request.extensions().get().copied();
    let connection = ends.map(|Ends { client, server }| Connection { client, server });
    let is_of_client = browser::is_of_client(request.headers());
    if shared.is_guarded && browser::is_of_browser(request.headers()) {
        let text = "Requests of browsers, and for other hosts than localhost, are refused.";
        return refused(&Error::new("UnauthorizedOperation", text), Ec2Service::Ec2);
    }
    let arrived = match receive(request).await {
        Ok(arrived) => arrived,
        Err((status, error)) => {
            let mut answer = refused(&error, Ec2Service::Ec2);
            *answer.status_mut() = status;
            return answer;
        }
    };
    let service = arrived.service();
    match carry_out(shared, arrived, connection, is_of_client).await {
        Ok(answer) => xml(answer),
        Err(error) => refused(&error, service),
    }
}

/// Authenticates a request and carries it out.
async fn carry_out(
    shared: Arc<Shared>,
    arrived: Arrived,
    connection: Option<Connection>,
    is_of_client: bool,
) -> Result<Answer, Error> {
    let permit = permit(&shared.running).await?;
    let checks = Arc::clone(&shared);
    let authenticated = blocking(move || {
        let _permit = permit;
        checks.authenticator.check(&arrived)
    });
    let Authenticated { key_id, access, params } = authenticated.await??;
    let is_change = Api::is_change(&params);
    if shared.is_guarded && is_change && !is_of_client {
        let text = "Without authentication, a request that changes something needs a header that clients of EC2 \
                    send and browsers do not: Authorization, X-Amz-Date or amz-sdk-request.";
        return Err(Error::new("UnauthorizedOperation", text));
    }
    // Before the other: a change that waits keeps no reading from running.
    let changing = if is_change { Some(self::permit(&shared.changing).await?) } else { None };
    let permit = self::permit(&shared.running).await?;
    let carried_out = blocking(move || {
        let _permits = (permit, changing);
        let answer = shared.api().answer(&Caller { access, connection }, &params);
        if is_change && answer.status == 200 {
            let by = if key_id.is_empty() { String::new() } else { format!(" by {key_id}") };
            journal::report(format_args!("ec2: {}{by}", params.text("Action").unwrap_or_default()));
        }
        answer
    });
    carried_out.await
}

/// Waits until one more may run.
async fn permit(running: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    let waited = timeout(WAIT_TIME, Arc::clone(running).acquire_owned()).await;
    let limit = || Error::new("RequestLimitExceeded", "Request limit exceeded.");
    waited.map_err(|_| limit())?.map_err(|_| limit())
}

/// Runs what may wait for files or the kernel.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let failed = |_| Error::new("InternalError", "The request has failed.");
    tokio::task::spawn_blocking(run).await.map_err(failed)
}

/// Receives the whole request, within its time and size.
async fn receive(request: Request) -> Result<Arrived, (StatusCode, Error)> {
    let (head, body) = request.into_parts();
    let headers = head.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let too_large = || {
        let text = format!("The body of the request has more than {MAX_BODY} bytes.");
        let error = Error::new("RequestEntityTooLarge", text);
        Err((StatusCode::PAYLOAD_TOO_LARGE, error))
    };
    // What Content-Length says is not waited for.
    if usize::try_from(body.size_hint().lower()).map_or(true, |length| length > MAX_BODY) {
        return too_large();
    }
    let body = match timeout(REQUEST_TIME, read(body)).await {
        Ok(Ok(Some(body))) => body,
        Ok(Ok(None)) => return too_large(),
        Ok(Err(_)) => {
            let error = Error::new("MalformedHttpRequest", "The body of the request is malformed.");
            return Err((StatusCode::BAD_REQUEST, error));
        }
        Err(_) => {
            let text = "The request did not arrive in time.";
            return Err((StatusCode::REQUEST_TIMEOUT, Error::new("RequestTimeout", text)));
        }
    };
    Ok(Arrived {
        method: head.method.as_str().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body,
    })
}

/// The whole body; `None` if it is too large. The pieces in which it arrives are not kept: each would take more memory
/// than the byte that it may have.
async fn read(mut body: Body) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes))
}

/// Empties the store, for tests of clients.
async fn reset(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if browser::is_of_browser(&headers) {
        return text(StatusCode::FORBIDDEN, "requests of browsers are refused\n");
    }
    let reset = tokio::task::spawn_blocking(move || shared.api().reset());
    match reset.await.map_err(io::Error::other).map_err(anyhow::Error::from).flatten() {
        Ok(()) => with_type(StatusCode::OK, "application/json", "{\"status\": \"ok\"}".to_owned()),
        Err(error) => text(StatusCode::CONFLICT, &format!("{error:#}\n")),
    }
}

/// The answer to a request that was not carried out. Its connection ends: another request of this client may not
/// be believed either.
fn refused(error: &Error, service: Ec2Service) -> Response {
    let mut response = xml(Answer::refused(error, service));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn xml(answer: Answer) -> Response {
    let Answer { status, body, request_id } = answer;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_type(status, "text/xml;charset=UTF-8", body);
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
    response
}

fn text(status: StatusCode, text: &str) -> Response {
    with_type(status, "text/plain; charset=utf-8", text.to_owned())
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = [
        (CONTENT_TYPE, kind),
        (SERVER, "AmazonEC2"),
        (CACHE_CONTROL, "no-cache, no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn request(form: &'static str) -> Request {
        let request = axum::http::Request::builder().method("POST").uri("/");
        request.header("host", "localhost").header("authorization", "x").body(form.into()).unwrap()
    }

    #[test]
    fn requests_that_read_go_on_while_changes_wait() {
        let dir = TempDir::new().unwrap();
        let paths = Paths {
            state_dir: dir.path().join("state"),
            pin_dir: dir.path().join("pins"),
            config: None,
        };
        let api = Arc::new(Api::new(paths.clone(), Config::default()));
        let shared = Arc::new(Shared {
            authenticator: Authenticator::new(Authentication::None, &paths).unwrap(),
            paths,
            api: Mutex::new(Arc::clone(&api)),
            coalescing: Duration::ZERO,
            is_guarded: true,
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            changing: Arc::new(Semaphore::new(MAX_CHANGING)),
        });
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(MAX_RUNNING).build().unwrap();
        let answer = |form| endpoint(State(Arc::clone(&shared)), request(form));
        let read = "Action=DescribeVpcs&Version=2016-11-15";
        let change = "Action=CreateSecurityGroup&GroupName=g&GroupDescription=d";
        assert_eq!(runtime.block_on(answer(read)).status(), StatusCode::OK);
        let writer = api.writer.0.lock().unwrap();
        let status = runtime.block_on(async {
            for _ in 0..2 * MAX_RUNNING {
                tokio::spawn(answer(change));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            timeout(Duration::from_secs(5), answer(read)).await.map(|answer| answer.status())
        });
        drop(writer);
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
}
