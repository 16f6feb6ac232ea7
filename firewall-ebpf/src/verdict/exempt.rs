//! Traffic that is exempt from the rules, because no rule could match it or the link would not work
//! without it.

use crate::abi::interface::{Direction, NonIp};
use crate::abi::reason::Reason;
use crate::wire::headers::{Kind, PacketHeaders};
use crate::wire::protocol;

const ARP: u16 = 0x0806;
const LLDP: u16 = 0x88cc;
const EAPOL: u16 = 0x888e;
/// LACP, marker and OAM frames (IEEE 802.3, annex 57A).
const SLOW_PROTOCOLS: u16 = 0x8809;
/// The parser's number for 802.3 frames: spanning tree, CDP and other 802.2 LLC.
const LLC: u16 = 0;

/// The reason for a frame that is not IP, by its EtherType in host byte order.
#[inline(always)]
pub fn non_ip(ether_type: u16, allowed: NonIp) -> Reason {
    match (ether_type, allowed) {
        (ARP, _) => Reason::Arp,
        (LLDP | EAPOL | SLOW_PROTOCOLS | LLC, NonIp::Control | NonIp::All) => Reason::LinkControl,
        (_, NonIp::All) => Reason::NonIpAllowed,
        _ => Reason::NonIp,
    }
}

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;
/// Neighbour discovery (RFC 4861) without redirects, which need a rule.
const ROUTER_SOLICITATION: u16 = 133;
const NEIGHBOUR_ADVERTISEMENT: u16 = 136;

/// The reason for exempt IP traffic, and for invalid neighbour discovery; `None` for all other.
#[inline(always)]
pub fn ip<A>(headers: &PacketHeaders<A>, direction: Direction) -> Option<Reason> {
    match headers.kind {
        Kind::Udp if is_dhcp(headers, direction) => Some(Reason::Dhcp),
        Kind::Message if headers.protocol == protocol::ICMPV6 => {
            let kind = headers.rule_port >> 8;
            if !(ROUTER_SOLICITATION..=NEIGHBOUR_ADVERTISEMENT).contains(&kind) {
                None
            } else if headers.hop_limit == u8::MAX && !headers.fragment.more {
                Some(Reason::NeighbourDiscovery)
            } else {
                Some(Reason::NeighbourDiscoveryInvalid)
            }
        }
        _ => None,
    }
}

/// Whether this is DHCP with the client inside. A server inside needs a rule like any other service.
#[inline(always)]
fn is_dhcp<A>(headers: &PacketHeaders<A>, direction: Direction) -> bool {
    let (src, dst) = (u16::from_be(headers.src_port()), u16::from_be(headers.dst_port()));
    let (client, server) = match direction {
        Direction::Egress => (src, dst),
        Direction::Ingress => (dst, src),
    };
    (client == DHCP_CLIENT && server == DHCP_SERVER)
        || (client == DHCPV6_CLIENT && server == DHCPV6_SERVER)
}
