//! The files beside the pages: own ones, in the binary.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use sha2::{Digest as _, Sha256};

/// A file.
pub(super) struct Asset {
    /// Its path below the console's.
    pub(super) path: &'static str,
    kind: &'static str,
    content: &'static str,
}

/// Every file.
pub(super) const ASSETS: [Asset; 3] = [
    Asset {
        path: "/static/console.css",
        kind: "text/css; charset=utf-8",
        content: include_str!("static/console.css"),
    },
    Asset {
        path: "/static/console.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("static/console.js"),
    },
    Asset {
        path: "/static/icon.svg",
        kind: "image/svg+xml",
        content: include_str!("static/icon.svg"),
    },
];

/// Their entity tags: hashes of their content.
static TAGS: LazyLock<[String; ASSETS.len()]> = LazyLock::new(|| {
    ASSETS.map(|asset| {
        let hash = Sha256::digest(asset.content);
        let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    })
});

/// A file, or that the client has it already. A browser asks each time, and another version of secgroup has another
/// tag.
pub(super) fn answer(path: &str, headers: &HeaderMap) -> Option<Response> {
    let at = ASSETS.iter().position(|asset| asset.path == path)?;
    let (asset, tag) = (&ASSETS[at], &TAGS[at]);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(
        |one| matches!(one.trim().trim_start_matches("W/"), known if known == tag || known == "*"),
    );
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(asset.content))
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ETAG, HeaderValue::from_str(tag).ok()?);
    Some(response)
}
