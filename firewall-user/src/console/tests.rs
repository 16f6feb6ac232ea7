//! Requests without a network: every page, document and file, as the router answers it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use super::headers::CONTENT_SECURITY;
use super::routes::{Shared, router};
use crate::config::{Config, Paths};
use crate::model::{Interface, InterfaceId, NewRule, Peer, RuleSpec, Traffic, VpcId, parse_cidr};
use crate::observe::journal::{self, DEFAULT_SIZE, Writer};
use crate::observe::record::{NearestMiss, PacketRecord, RuleName, Verdict};
use crate::store::{NewGroup, Store};

mod answers;
pub(super) mod hostile;
mod stream;

/// The host that every request names unless it is another one's.
const HOST: (&str, &str) = ("host", "127.0.0.1:9912");

/// Every page, document and stream.
const PATHS: [&str; 12] = [
    "/",
    "/status",
    "/status.json",
    "/stats.json",
    "/drops",
    "/drops.json",
    "/drops.events",
    "/flows",
    "/flows.json",
    "/rules",
    "/rules.json",
    "/explain",
];

/// Every file.
const FILES: [&str; 3] = ["/static/console.css", "/static/console.js", "/static/icon.svg"];

/// A console of a host on which nothing is attached in the kernel.
struct Host {
    router: TowerToHyperService<axum::Router>,
    runtime: Runtime,
    paths: Paths,
    _config: watch::Sender<Config>,
    end: watch::Sender<bool>,
    _dir: TempDir,
}

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    /// The only value of a header; empty without one.
    fn header(&self, name: &str) -> &str {
        let mut all = self.headers.get_all(name).iter();
        let first = all.next().map_or("", |value| value.to_str().unwrap());
        assert!(all.next().is_none(), "{name} twice: {:?}", self.headers);
        first
    }
}

impl Host {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let paths = Paths {
            state_dir: dir.path().join("state"),
            pin_dir: dir.path().join("pins"),
            config: None,
        };
        drop(Store::open(&paths.state_dir).unwrap());
        let ((config, configured), (end, ended)) =
            (watch::channel(Config::default()), watch::channel(false));
        let shared = Shared::new(paths.clone(), configured, true, ended);
        let router = TowerToHyperService::new(router(shared.into()));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { router, runtime, paths, _config: config, end, _dir: dir }
    }

    /// Begins to answer.
    fn begin(&self, method: &Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        self.runtime.block_on(self.router.call(request)).unwrap()
    }

    /// The answer; of a stream, its beginning.
    fn ask(&self, method: &Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let (head, mut body) = self.begin(method, path, headers).into_parts();
        let is_stream =
            head.headers.get("content-type").is_some_and(|it| it == "text/event-stream");
        let bytes = self.runtime.block_on(async {
            if is_stream {
                let frame = body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
                // None of `HEAD`.
                frame.unwrap_or_default()
            } else {
                body.collect().await.unwrap().to_bytes()
            }
        });
        let body = String::from_utf8(bytes.into()).unwrap();
        Answer { status: head.status, headers: head.headers, body }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&Method::GET, path, &[HOST])
    }

    /// Stores a group with a rule, and an interface of it that is not in the kernel.
    fn store(&self, group: &str, device: &str, netns: &str) {
        let mut store = Store::open(&self.paths.state_dir).unwrap();
        let mut change = store.begin().unwrap();
        let peer = Peer::from(parse_cidr("192.0.2.0/24").unwrap());
        let spec = RuleSpec {
            direction: firewall_ebpf::abi::interface::Direction::Ingress,
            traffic: Traffic::All,
            peer,
        };
        let new = NewGroup {
            vpc: VpcId::default_vpc(),
            name: group.to_owned(),
            description: "d".to_owned(),
            tags: Default::default(),
            rules: vec![NewRule { spec, description: "why & what".to_owned(), end: None }],
        };
        let groups = vec![change.create_group(new).unwrap()];
        let id = InterfaceId::random().unwrap();
        let interface = Interface { groups, ..Interface::new(id, 0, device, Some(netns)) };
        change.put_interface(&interface).unwrap();
        change.commit().unwrap();
    }

    /// Appends to the journal.
    fn record(&self, records: impl IntoIterator<Item = PacketRecord>) {
        let mut writer =
            Writer::open(&journal::directory(&self.paths.state_dir), DEFAULT_SIZE).unwrap();
        for record in records {
            writer.append(record).unwrap();
        }
    }
}

/// That an answer has the headers of every answer.
fn assert_secure(answer: &Answer, what: &str) {
    for (name, value) in [
        ("content-security-policy", CONTENT_SECURITY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), value, "{what}: {name}");
    }
    let is_file = !answer.header("etag").is_empty();
    assert_eq!(answer.header("cache-control"), if is_file { "no-cache" } else { "no-store" });
    let mut names = answer.headers.keys();
    assert!(!names.any(|name| name.as_str().starts_with("access-control")), "{what}");
    assert!(!answer.header("content-type").is_empty(), "{what}");
}
