//! The values of filters.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use firewall_ebpf::abi::reason::Reason;
use ipnet::IpNet;

use crate::model::{Family, IcmpMatch};
use crate::policy::services;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What `--port` matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortFilter {
    /// TCP, UDP and other protocols with ports: source or destination is one of these.
    Ports(RangeInclusive<u16>),
    /// The ports of a service, by protocol number.
    Service(Vec<(u8, u16)>),
    /// ICMP messages.
    Icmp(Vec<IcmpFilter>),
}

/// ICMP messages of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpFilter {
    /// ICMP (1) or ICMPv6 (58); `None`: both.
    pub protocol: Option<u8>,
    /// The type.
    pub kind: u8,
    /// The code; `None`: any.
    pub code: Option<u8>,
}

/// A word that `--port` makes the same filter of.
impl fmt::Display for PortFilter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_named = |name: &&str| named(name).as_ref() == Some(self);
        match self {
            Self::Ports(range) if range.start() == range.end() => write!(out, "{}", range.start()),
            Self::Ports(range) => write!(out, "{}-{}", range.start(), range.end()),
            Self::Service(all) => {
                let names = all
                    .iter()
                    .filter_map(|(protocol, port)| services::name_of_port(*protocol, *port));
                match (names.into_iter().find(is_named), all.first()) {
                    (Some(name), _) => out.write_str(name),
                    // One of several names of a port: without its protocols.
                    (None, port) => write!(out, "{}", port.map_or(0, |(_, port)| *port)),
                }
            }
            Self::Icmp(all) => {
                let families = [Family::Ipv4, Family::Ipv6].into_iter();
                match (families.flat_map(services::icmp_names).find(is_named), all.first()) {
                    (Some(name), _) => out.write_str(name),
                    (None, Some(IcmpFilter { kind, code: Some(code), .. })) => {
                        write!(out, "{kind}/{code}")
                    }
                    (None, one) => write!(out, "{}/*", one.map_or(0, |one| one.kind)),
                }
            }
        }
    }
}

/// Protocols by name, those of `/etc/protocols` that packets have.
const PROTOCOLS: [(&str, u8); 15] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", 132),
];

/// `tcp`, or the number of a protocol without a name here.
#[must_use]
pub fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// The number of a protocol by its name, or by the number itself.
///
/// # Errors
/// It is neither; the text lists what is known.
pub fn protocol(word: &str) -> Result<u8, String> {
    let known = PROTOCOLS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    let number = || {
        word.parse().map_err(|_| {
            let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
            format!("{} or a number from 0 to 255", names.join(", "))
        })
    };
    known.map_or_else(number, |(_, number)| Ok(*number))
}

pub(super) fn network(word: &str) -> Result<IpNet, String> {
    let address = || word.parse().map(|address: IpAddr| IpNet::from(address));
    word.parse()
        .or_else(|_| address())
        .map_err(|_| "write an address, or a network as ADDRESS/LENGTH".to_owned())
}

pub(super) fn port(word: &str) -> Result<PortFilter, String> {
    if let Some((kind, code)) = word.split_once('/') {
        let code = if code == "*" { Ok(None) } else { code.parse().map(Some) };
        if let (Ok(kind), Ok(code)) = (kind.parse(), code) {
            return Ok(PortFilter::Icmp(vec![IcmpFilter { protocol: None, kind, code }]));
        }
    }
    let (from, to) = word.split_once('-').unwrap_or((word, word));
    if let (Ok(from), Ok(to)) = (from.parse(), to.parse())
        && from <= to
    {
        return Ok(PortFilter::Ports(from..=to));
    }
    named(word).ok_or_else(|| {
        "write a port from 0 to 65535, a range as FIRST-LAST, a service as https, an ICMP message as \
         echo-request or TYPE/CODE"
            .to_owned()
    })
}

/// The ports of a service in each protocol that has it, or the ICMP messages of a name in both families.
fn named(word: &str) -> Option<PortFilter> {
    let port = |protocol| Some((protocol, services::port_by_name(word, Some(protocol))?));
    let ports: Vec<_> = [TCP, UDP].into_iter().filter_map(port).collect();
    if !ports.is_empty() {
        return Some(PortFilter::Service(ports));
    }
    let message = |(family, protocol)| {
        let (kind, code) = match services::icmp_by_name(word, family)? {
            IcmpMatch::Any => return None,
            IcmpMatch::Type(kind) => (kind, None),
            IcmpMatch::TypeCode(kind, code) => (kind, Some(code)),
        };
        Some(IcmpFilter { protocol: Some(protocol), kind, code })
    };
    let messages: Vec<_> =
        [(Family::Ipv4, ICMP), (Family::Ipv6, ICMPV6)].into_iter().filter_map(message).collect();
    (!messages.is_empty()).then_some(PortFilter::Icmp(messages))
}

/// Reasons by name; others are refused with the list of all.
pub(super) fn reason() -> impl TypedValueParser<Value = Reason> {
    let names = Reason::ALL.iter().map(|reason| PossibleValue::new(reason.name()));
    PossibleValuesParser::new(names).try_map(|word| {
        let found = Reason::ALL.iter().copied().find(|reason| reason.name() == word);
        found.ok_or("no such reason")
    })
}
