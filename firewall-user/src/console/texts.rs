//! Addresses, ports and times, as people read them.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::Family;
use crate::policy::services;

/// An end of a connection: `192.0.2.7:443 (https)`, `[2001:db8::1]:53 (domain)`, or the address alone.
pub(super) fn end(address: Option<IpAddr>, port: Option<u16>, protocol: Option<u8>) -> String {
    let Some(address) = address else { return "-".to_owned() };
    let Some(port) = port else { return address.to_string() };
    let text = match address {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    };
    match protocol.and_then(|protocol| services::name_of_port(protocol, port)) {
        Some(name) => format!("{text} ({name})"),
        None => text,
    }
}

/// A message of ICMP or ICMPv6: `echo-request 8/0`.
pub(super) fn icmp(protocol: Option<u8>, kind: u8, code: u8) -> String {
    let family = if protocol == Some(58) { Family::Ipv6 } else { Family::Ipv4 };
    match services::icmp_name(family, kind, code) {
        Some(name) => format!("{name} {kind}/{code}"),
        None => format!("{kind}/{code}"),
    }
}

/// Whole seconds: `2h 3m`.
pub(super) fn seconds(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// A time in milliseconds since 1970: `2026-11-30 03:12:05.123`, UTC.
pub(super) fn time(milliseconds: i64) -> String {
    let Ok(time) = Timestamp::from_millisecond(milliseconds) else { return "-".to_owned() };
    time.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_the_names_of_services() {
        let end = |address: &str, port, protocol| end(address.parse().ok(), port, protocol);
        assert_eq!(end("192.0.2.7", Some(443), Some(6)), "192.0.2.7:443 (https)");
        assert_eq!(end("2001:db8::1", Some(65000), Some(6)), "[2001:db8::1]:65000");
        assert_eq!(end("192.0.2.7", None, Some(1)), "192.0.2.7");
        assert_eq!(end("", None, None), "-");
        assert_eq!(icmp(Some(1), 8, 0), "echo-request 8/0");
        assert_eq!(icmp(Some(58), 128, 0), "echo-request 128/0");
        assert_eq!(icmp(Some(1), 250, 3), "250/3");
    }

    #[test]
    fn times_are_of_utc() {
        assert_eq!(time(0), "1970-01-01 00:00:00.000");
        assert_eq!(time(1_800_000_000_123), "2027-01-15 08:00:00.123");
        assert_eq!(time(i64::MAX), "-");
    }
}
