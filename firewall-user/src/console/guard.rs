//! Which requests are answered. What the console shows is for the users of this host, and the pages of other sites in
//! the same browser must not read it, also not under a name that they point here (DNS rebinding).

use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::answer::Problem;
use crate::http::host::is_for_this_host;

/// Whether a browser sent a request for a page of another origin: by `Sec-Fetch-Site`, which no page can set, and by
/// `Origin`, for browsers that do not send the other one.
fn is_of_other_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let is_other = |site: &[u8]| !matches!(site, b"same-origin" | b"none");
    if sites.any(|site| is_other(site.as_bytes())) {
        return true;
    }
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let is_own = |origin: &[u8]| {
        let origin = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        origin.is_some() && origin == host
    };
    headers.get_all(header::ORIGIN).iter().any(|origin| !is_own(origin.as_bytes()))
}

/// Refuses what is not to be answered. `is_tcp`: whether the request came over TCP; a page cannot make a browser
/// connect to a Unix socket, and what listens in front of it has its own names.
///
/// # Errors
/// The method changes something, the request is for another host, or a page of another site sent it.
pub(super) fn check(method: &Method, headers: &HeaderMap, is_tcp: bool) -> Result<(), Problem> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Problem::method());
    }
    if is_tcp && !is_for_this_host(headers) {
        return Err(Problem::forbidden(
            "the request is for another host",
            "open the console under http://localhost, 127.0.0.1 or [::1]; from elsewhere, by `ssh -L`",
        ));
    }
    if is_of_other_site(headers) {
        return Err(Problem::forbidden(
            "the request comes from a page of another site",
            "type the address of the console into the browser",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, StatusCode};

    use super::*;

    const HOST: (&str, &str) = ("host", "127.0.0.1:9912");

    /// The status of a refusal; 200 without one.
    fn status(method: &Method, pairs: &[(&'static str, &'static str)], is_tcp: bool) -> StatusCode {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = pairs.iter().map(pair).collect();
        check(method, &headers, is_tcp).map_or_else(|problem| problem.status, |()| StatusCode::OK)
    }

    #[test]
    fn only_reading_by_this_host_and_its_own_pages_is_answered() {
        for (pairs, expected) in [
            (&[HOST][..], 200),
            (&[("host", "localhost:9912")], 200),
            (&[("host", "[::1]:9912")], 200),
            (&[("host", "rebound.example.com:9912")], 403),
            (&[("host", "192.0.2.1:9912")], 403),
            (&[HOST, HOST], 403),
            (&[], 403),
            (&[HOST, ("sec-fetch-site", "none")], 200),
            (&[HOST, ("sec-fetch-site", "same-origin")], 200),
            (&[HOST, ("sec-fetch-site", "same-site")], 403),
            (&[HOST, ("sec-fetch-site", "cross-site")], 403),
            (&[HOST, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], 403),
            (&[HOST, ("origin", "http://127.0.0.1:9912")], 200),
            // Another server on this host, or another name of it.
            (&[HOST, ("origin", "http://127.0.0.1:8000")], 403),
            (&[HOST, ("origin", "http://localhost:9912")], 403),
            (&[HOST, ("origin", "https://example.com")], 403),
            (&[HOST, ("origin", "null")], 403),
            (&[HOST, ("origin", "127.0.0.1:9912")], 403),
        ] {
            assert_eq!(status(&Method::GET, pairs, true), expected, "{pairs:?}");
        }
        assert_eq!(status(&Method::HEAD, &[HOST], true), 200);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
            assert_eq!(status(&method, &[HOST], true), 405);
            assert_eq!(status(&method, &[HOST], false), 405);
        }
    }

    #[test]
    fn over_a_unix_socket_the_name_is_that_of_what_is_in_front() {
        let host = ("host", "firewall.example.com");
        assert_eq!(status(&Method::GET, &[host], false), 200);
        assert_eq!(status(&Method::GET, &[], false), 200);
        assert_eq!(status(&Method::GET, &[host, ("sec-fetch-site", "cross-site")], false), 403);
        let own = ("origin", "https://firewall.example.com");
        assert_eq!(status(&Method::GET, &[host, own], false), 200);
        assert_eq!(status(&Method::GET, &[host, ("origin", "https://example.com")], false), 403);
    }
}
