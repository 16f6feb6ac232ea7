//! ICMP echo by the `ping` program.

use std::net::IpAddr;
use std::process::Stdio;

use crate::Namespace;

/// Sends one echo request; whether the reply came within a second.
#[must_use]
pub fn ping(namespace: &Namespace, to: IpAddr) -> bool {
    let mut ping = namespace.command("ping");
    ping.args(["-n", "-q", "-c", "1", "-W", "1", &to.to_string()]);
    let status = ping.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("start ping: {error}"));
    match status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("ping {to} in {} ended with {status}", namespace.name()),
    }
}
