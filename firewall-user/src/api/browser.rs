//! Requests of web browsers. A page of any site can make a browser on this host send requests to an address of the
//! loopback network, and where nothing is signed they would be carried out. It cannot read the answers, unless its
//! name is pointed at the loopback network meanwhile (DNS rebinding).

use axum::http::{HeaderMap, header};

use crate::http::host::is_for_this_host;

/// Headers that browsers send of themselves, and clients of EC2 do not.
const OF_BROWSERS: [&str; 5] =
    ["origin", "referer", "cookie", "sec-fetch-site", "access-control-request-method"];

/// Headers that clients of EC2 send, also without keys, and that a page cannot add to a request for another site
/// without the permission of that site, which is not given here.
const OF_CLIENTS: [&str; 5] =
    ["authorization", "x-amz-date", "x-amz-target", "amz-sdk-request", "amz-sdk-invocation-id"];

/// Whether a request is, by its headers, one of a browser, or for a name that is not this host's.
pub(super) fn is_of_browser(headers: &HeaderMap) -> bool {
    let is_browser = |agent: &[u8]| agent.starts_with(b"Mozilla/");
    OF_BROWSERS.iter().any(|name| headers.contains_key(*name))
        || headers.get_all(header::USER_AGENT).iter().any(|agent| is_browser(agent.as_bytes()))
        || !is_for_this_host(headers)
}

/// Whether a request cannot be one that a page made a browser send.
pub(super) fn is_of_client(headers: &HeaderMap) -> bool {
    OF_CLIENTS.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn requests_of_browsers_are_known_by_their_headers() {
        let host = ("host", "127.0.0.1:8080");
        for (pairs, expected) in [
            (&[host][..], false),
            (&[host, ("user-agent", "aws-cli/2.0 Python/3.11")], false),
            (&[host, ("user-agent", "Boto3/1.40"), ("authorization", "AWS4")], false),
            (&[host, ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")], true),
            (&[host, ("origin", "null")], true),
            (&[host, ("origin", "http://127.0.0.1:8080")], true),
            (&[host, ("referer", "https://example.com/")], true),
            (&[host, ("sec-fetch-site", "none")], true),
            (&[host, ("cookie", "a=b")], true),
            (&[("host", "localhost")], false),
            (&[("host", "LocalHost:8080")], false),
            (&[("host", "[::1]:8080")], false),
            (&[("host", "127.1.2.3")], false),
            (&[], true),
            (&[host, host], true),
            (&[("host", "rebound.example.com:8080")], true),
            (&[("host", "127.0.0.1.example.com")], true),
            (&[("host", "localhost.example.com")], true),
            (&[("host", "192.0.2.1")], true),
            (&[("host", "0.0.0.0:8080")], true),
            (&[("host", "[::1")], true),
            (&[("host", "")], true),
        ] {
            let map: HeaderMap = headers(pairs);
            assert_eq!(is_of_browser(&map), expected, "{pairs:?}");
        }
        assert!(!is_of_client(&headers(&[host, ("content-type", "text/plain")])));
        assert!(is_of_client(&headers(&[host, ("amz-sdk-request", "attempt=1")])));
    }
}
