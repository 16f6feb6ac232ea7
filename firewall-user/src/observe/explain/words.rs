//! A packet in the words of `secgroup explain`, which the console has too.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use firewall_ebpf::wire::protocol;

use super::packet::{FLAGS, Packet};
use crate::explain::{Exit, Explain};
use crate::model::{Family, IcmpMatch};
use crate::observe::query::protocol_by_name;
use crate::policy::services;

/// The source port where none is given: of the range of clients (RFC 6056).
const SOURCE_PORT: u16 = 50_000;

/// The words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'a> {
    /// IP protocol, by name or number.
    pub protocol: &'a str,
    /// `ADDRESS` or `ADDRESS:PORT`, of IPv6 `[ADDRESS]:PORT`; a port by number or name.
    pub source: &'a str,
    /// The same.
    pub destination: &'a str,
    /// Type, or type and code, of an ICMP or ICMPv6 message, by number or name; `None`: echo request.
    pub icmp: Option<&'a str>,
    /// TCP flags by name, separated by commas; `None`: those that come next.
    pub tcp_flags: Option<&'a str>,
}

/// Words that are no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WordError {
    message: String,
    hint: &'static str,
}

impl Explain for WordError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(self.hint.into())
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Words<'_> {
    /// The packet.
    ///
    /// # Errors
    /// They contradict one another, or one is malformed.
    pub fn packet(&self) -> Result<Packet, WordError> {
        let Self { protocol, source, destination, .. } = *self;
        let number =
            protocol_by_name(&protocol.to_ascii_lowercase()).map_err(|known| WordError {
                message: format!("{protocol:?} is no protocol: known are {known}"),
                hint: "write for example tcp, udp, icmp or 47",
            })?;
        let has_ports = matches!(number, protocol::TCP | protocol::UDP);
        let (from, from_port) = end(source, number)?;
        let (to, to_port) = end(destination, number)?;
        if from.is_ipv4() != to.is_ipv4() {
            return usage(
                format!("{from} and {to} are not of one family"),
                "a packet has two IPv4 addresses or two IPv6 addresses",
            );
        }
        if !has_ports && (from_port.is_some() || to_port.is_some()) {
            return usage(format!("{protocol} has no ports"), "write the addresses alone");
        }
        if has_ports && to_port.is_none() {
            return usage(
                format!("{destination}: the port is missing"),
                "write ADDRESS:PORT, of IPv6 [ADDRESS]:PORT",
            );
        }
        let family = if from.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let is_icmp = match family {
            Family::Ipv4 => number == protocol::ICMP,
            Family::Ipv6 => number == protocol::ICMPV6,
        };
        let icmp = match self.icmp {
            Some(_) if !is_icmp => {
                let name = if from.is_ipv4() { "icmp" } else { "icmpv6" };
                return usage(
                    format!("--icmp cannot be used with protocol {protocol}"),
                    if name == "icmp" { "the protocol is icmp" } else { "the protocol is icmpv6" },
                );
            }
            Some(word) => icmp(word, family)?,
            None if is_icmp => icmp("echo-request", family)?,
            None => [0; 2],
        };
        let flags = match self.tcp_flags {
            Some(_) if number != protocol::TCP => {
                return usage(
                    format!("--tcp-flags cannot be used with protocol {protocol}"),
                    "leave it out",
                );
            }
            flags => flags.map(flags_of).transpose()?,
        };
        let ports = if has_ports {
            [from_port.unwrap_or(SOURCE_PORT), to_port.unwrap_or_default()]
        } else {
            [0; 2]
        };
        Ok(Packet { protocol: number, source: from, destination: to, ports, icmp, flags })
    }
}

/// An address, and its port if there is one.
fn end(word: &str, number: u8) -> Result<(IpAddr, Option<u16>), WordError> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok((address, None));
    }
    if let Ok(address) = word.parse::<SocketAddr>() {
        return Ok((address.ip(), Some(address.port())));
    }
    let named = word.rsplit_once(':').and_then(|(address, name)| {
        let address = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some((address, Some(services::port_by_name(name, Some(number))?)))
    });
    named.ok_or_else(|| WordError {
        message: format!("{word:?} is neither ADDRESS nor ADDRESS:PORT"),
        hint: "write for example 192.0.2.7:443, [2001:db8::1]:https or 192.0.2.7",
    })
}

/// Type and code of a message.
fn icmp(word: &str, family: Family) -> Result<[u8; 2], WordError> {
    let numbers = || {
        let (kind, code) = word.split_once('/').unwrap_or((word, "0"));
        Some([kind.parse().ok()?, code.parse().ok()?])
    };
    let named = || match services::icmp_by_name(word, family)? {
        IcmpMatch::Any => None,
        IcmpMatch::Type(kind) => Some([kind, 0]),
        IcmpMatch::TypeCode(kind, code) => Some([kind, code]),
    };
    numbers().or_else(named).ok_or_else(|| WordError {
        message: format!("{word:?} is not an ICMP type, type/code or name of this family"),
        hint: "write for example 8/0, 3/4 or echo-request",
    })
}

fn flags_of(words: &str) -> Result<u8, WordError> {
    let mut flags = 0;
    for word in words.split(',').filter(|word| *word != "none") {
        let known = FLAGS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        let Some((_, flag)) = known else {
            return usage(
                format!("{word:?} is no TCP flag"),
                "known are fin, syn, rst, psh, ack, urg, ece and cwr, separated by commas, and none",
            );
        };
        flags |= flag;
    }
    Ok(flags)
}

fn usage<T>(message: String, hint: &'static str) -> Result<T, WordError> {
    Err(WordError { message, hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_ports_by_number_and_name() {
        let known = |word: &str| end(word, 6).unwrap();
        assert_eq!(known("192.0.2.7"), ("192.0.2.7".parse().unwrap(), None));
        assert_eq!(known("192.0.2.7:https"), ("192.0.2.7".parse().unwrap(), Some(443)));
        assert_eq!(known("[2001:db8::1]:80"), ("2001:db8::1".parse().unwrap(), Some(80)));
        assert_eq!(known("2001:db8::1"), ("2001:db8::1".parse().unwrap(), None));
        for word in ["", "x", "192.0.2.7:", "192.0.2.7:nothing", "192.0.2.7:65536", "192.0.2:80"] {
            assert!(end(word, 6).is_err(), "{word}");
        }
    }

    #[test]
    fn messages_and_flags_have_numbers_and_names() {
        assert_eq!(icmp("8/0", Family::Ipv4).unwrap(), [8, 0]);
        assert_eq!(icmp("echo-request", Family::Ipv6).unwrap(), [128, 0]);
        assert!(icmp("8/0/1", Family::Ipv4).is_err() && icmp("256", Family::Ipv4).is_err());
        assert_eq!(flags_of("syn,ACK").unwrap(), 0x12);
        assert_eq!(flags_of("none").unwrap(), 0);
        assert!(flags_of("syn,").is_err());
    }
}
