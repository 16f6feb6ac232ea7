//! The answer to a packet. Network ACLs are stateless: what the other end sends has to pass them too.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::wire::protocol;

use super::Subject;
use crate::policy::Probe;

/// The types of ICMP queries with those of their replies: RFC 792, RFC 950.
const ICMP_QUERIES: &[(u8, u8)] = &[(8, 0), (13, 14), (15, 16), (17, 18)];

/// The same of ICMPv6: RFC 4443.
const ICMPV6_QUERIES: &[(u8, u8)] = &[(128, 129)];

/// TCP's flags of a segment.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

const fn queries(source: IpAddr) -> &'static [(u8, u8)] {
    match source {
        IpAddr::V4(_) => ICMP_QUERIES,
        IpAddr::V6(_) => ICMPV6_QUERIES,
    }
}

/// The type of the message that an ICMP message from this address replies to; `None`: it is no reply.
pub(super) fn query_of(source: IpAddr, reply: u8) -> Option<u8> {
    let known = queries(source).iter().find(|(_, known)| *known == reply);
    known.map(|(query, _)| *query)
}

fn reply_of(source: IpAddr, query: u8) -> Option<u8> {
    let known = queries(source).iter().find(|(known, _)| *known == query);
    known.map(|(_, reply)| *reply)
}

/// Whether the end that sends a TCP segment with these flags opens the connection; `None`: they do not say it.
pub(super) const fn opens(flags: u8) -> Option<bool> {
    if flags & SYN == 0 { None } else { Some(flags & ACK == 0) }
}

/// The packet that answers one that opens a connection, as network ACLs see it; `None`: it has no answer, or its ports
/// or its ICMP type are not known.
pub(super) fn probe(subject: &Subject<'_>) -> Option<Probe> {
    let icmp = match (subject.protocol?, subject.icmp) {
        (protocol::ICMP | protocol::ICMPV6, icmp) => {
            let (query, code) = icmp?;
            Some((reply_of(subject.source?, query)?, code))
        }
        (protocol::TCP | protocol::UDP, _) => {
            // Some flow logs have no ports.
            subject.source_port.filter(|port| *port != 0)?;
            None
        }
        _ => None,
    };
    super::probe(&swapped(subject, icmp))
}

/// The packet that has opened the connection of one that was dropped, and of which TCP's flags tell what [`opens`] says.
/// A network ACL or a block drops answers too; rules only packets of no flow. What AWS's lines say has no reason, and its
/// rules drop no answer.
pub(super) fn opened<'a>(subject: Subject<'a>, opens: Option<bool>) -> Subject<'a> {
    let is_denied = match subject.reason {
        Some(reason) => is_denial(reason),
        None => opens == Some(false),
    };
    if is_denied && is_answer(&subject, opens) { turned(&subject) } else { subject }
}

/// The reasons of packets that a network ACL or a block denies.
pub(super) const fn is_denial(reason: Reason) -> bool {
    matches!(reason, Reason::Acl | Reason::Blocked)
}

/// Whether a packet is an answer, by its ICMP type, by the TCP flags, or else because answers come from the lower port.
fn is_answer(subject: &Subject<'_>, opens: Option<bool>) -> bool {
    if let (Some(source), Some((kind, _))) = (subject.source, subject.icmp) {
        return query_of(source, kind).is_some();
    }
    let by_ports = || subject.source_port < subject.destination_port;
    opens.map_or_else(by_ports, |opens| !opens)
}

/// The packet that an answer answers.
pub(super) fn turned<'a>(subject: &Subject<'a>) -> Subject<'a> {
    let query = |(reply, code)| Some((query_of(subject.source?, reply)?, code));
    swapped(subject, subject.icmp.and_then(query))
}

/// A packet in the other direction.
fn swapped<'a>(subject: &Subject<'a>, icmp: Option<(u8, u8)>) -> Subject<'a> {
    Subject {
        direction: subject.direction.map(Direction::opposite),
        source: subject.destination,
        destination: subject.source,
        source_port: subject.destination_port,
        destination_port: subject.source_port,
        icmp,
        ..*subject
    }
}
