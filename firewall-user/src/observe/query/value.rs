//! The values of filters.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use firewall_ebpf::abi::reason::Reason;
use ipnet::IpNet;

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

pub(super) fn protocol(word: &str) -> Result<u8, String> {
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
    if word.starts_with(|first: char| first.is_ascii_digit()) {
        let (from, to) = word.split_once('-').unwrap_or((word, word));
        return match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if from <= to => Ok(PortFilter::Ports(from..=to)),
            _ => {
                Err("write a port from 0 to 65535, a range as FIRST-LAST, or TYPE/CODE".to_owned())
            }
        };
    }
    named(word).ok_or_else(|| {
        "no service or ICMP message of this name is known; write its number, as 443, or TYPE/CODE".to_owned()
    })
}

fn named(_word: &str) -> Option<PortFilter> {
    None
}

/// Reasons by name; others are refused with the list of all.
pub(super) fn reason() -> impl TypedValueParser<Value = Reason> {
    let names = Reason::ALL.iter().map(|reason| PossibleValue::new(reason.name()));
    PossibleValuesParser::new(names).try_map(|word| {
        let found = Reason::ALL.iter().copied().find(|reason| reason.name() == word);
        found.ok_or("no such reason")
    })
}
