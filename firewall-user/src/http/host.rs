//! The host that a request is for. A page of any site can point its own name at the loopback network (DNS rebinding),
//! and a browser then sends its requests here, with that name.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::is_loopback;

/// Whether the request is for an address of the loopback network: a page's own name is not.
pub(crate) fn is_for_this_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|address: IpAddr| is_loopback(address))
}
