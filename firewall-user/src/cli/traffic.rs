//! The options for the traffic of a rule or of an entry of a network ACL.

use anyhow::Result;
use clap::Args;
use firewall_policy::services;

use super::failure::UsageError;
use crate::model::{Family, IcmpMatch, Traffic};

/// Protocol, and ports or ICMP types.
#[derive(Debug, Args)]
pub(super) struct TrafficOptions {
    /// IP protocol: tcp, udp, icmp, icmpv6, all, or a number from 0 to 255
    #[arg(long, value_name = "PROTOCOL", allow_hyphen_values = true)]
    protocol: Option<String>,
    /// Destination port by number or name (https), or first and last port, of tcp or udp
    #[arg(long, value_name = "N|A-B|NAME", allow_hyphen_values = true)]
    port: Option<String>,
    /// ICMP type, or type and code, of icmp or icmpv6, by number or name (echo-request) [default: every type]
    #[arg(long, value_name = "TYPE[/CODE]|NAME", allow_hyphen_values = true)]
    icmp: Option<String>,
}

impl TrafficOptions {
    /// Whether no option was given.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { protocol, port, icmp } = self;
        protocol.is_none() && port.is_none() && icmp.is_none()
    }

    /// The traffic that the options name.
    pub(super) fn parse(&self) -> Result<Traffic> {
        let Self { protocol, port, icmp } = self;
        let Some(protocol) = protocol else {
            return usage("the protocol is missing".to_owned(), "use --protocol");
        };
        // As in the AWS CLI; the EC2 API has only the number.
        let word = protocol.to_ascii_lowercase();
        let protocol = if word == "all" { "-1" } else { &word };
        let is_icmp = matches!(protocol, "icmp" | "1" | "icmpv6" | "58");
        let has_ports = matches!(protocol, "tcp" | "6" | "udp" | "17");
        let (from, to) = match (port, icmp) {
            (Some(_), _) if is_icmp => {
                return usage(
                    format!("--port cannot be used with protocol {protocol}"),
                    "use --icmp",
                );
            }
            (Some(port), None) if has_ports => ports(protocol, port)?,
            (None, Some(icmp)) if is_icmp => kind_and_code(protocol, icmp)?,
            (None, None) if is_icmp => (Some(-1), Some(-1)),
            (None, None) => (None, None),
            (_, Some(_)) if has_ports => {
                return usage(
                    format!("--icmp cannot be used with protocol {protocol}"),
                    "use --port",
                );
            }
            // An unknown protocol is reported before its options.
            _ => {
                Traffic::from_ec2(protocol, None, None)?;
                let option = if port.is_some() { "--port" } else { "--icmp" };
                return usage(
                    format!("{option} cannot be used with protocol {word}"),
                    "leave it out: a rule for this protocol has no ports and types",
                );
            }
        };
        Ok(Traffic::from_ec2(protocol, from, to)?)
    }
}

type Ends = (Option<i64>, Option<i64>);

fn ports(protocol: &str, text: &str) -> Result<Ends> {
    let number = |text: &str| plain_number(text);
    let transport = if matches!(protocol, "udp" | "17") { 17 } else { 6 };
    // Names have hyphens, too.
    if let Some(port) = services::port_by_name(text, Some(transport)) {
        return Ok((Some(port.into()), Some(port.into())));
    }
    let ends = match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((from, to)) => number(from).zip(number(to)),
    };
    match ends {
        Some((from, to)) => Ok((Some(from), Some(to))),
        None => usage(
            format!("{text:?} is not a port, a range of ports or the name of a service"),
            "write for example 80, 1024-65535 or https",
        ),
    }
}

fn kind_and_code(protocol: &str, text: &str) -> Result<Ends> {
    let number = |text: &str| if text == "-1" { Some(-1) } else { plain_number(text) };
    let is_v6 = matches!(protocol, "icmpv6" | "58");
    let family = if is_v6 { Family::Ipv6 } else { Family::Ipv4 };
    match services::icmp_by_name(text, family) {
        Some(IcmpMatch::Type(kind)) => return Ok((Some(kind.into()), Some(-1))),
        Some(IcmpMatch::TypeCode(kind, code)) => return Ok((Some(kind.into()), Some(code.into()))),
        Some(IcmpMatch::Any) | None => {}
    }
    let both = match text.split_once('/') {
        None => number(text).map(|kind| (kind, -1)),
        Some((kind, code)) => number(kind).zip(number(code)),
    };
    match both {
        Some((kind, code)) => Ok((Some(kind), Some(code))),
        None => usage(
            format!("{text:?} is not an ICMP type, type/code or name of {protocol}"),
            "write for example 8, 3/4 (fragmentation needed) or echo-request",
        ),
    }
}

/// Digits only: `parse` accepts a sign, too.
fn plain_number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn usage<T>(message: String, hint: &'static str) -> Result<T> {
    Err(UsageError { message, hint }.into())
}
