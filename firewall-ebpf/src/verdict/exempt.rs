//! Traffic that is exempt from the rules, because no rule could match it or the link would not work
//! without it. [`LinkMessage`] has what a packet must be; see the sources there.

use super::tables::{SlowPathSettings, Tables};
use crate::abi::interface::{Direction, NonIp};
use crate::abi::reason::Reason;
use crate::wire::address::Address;
use crate::wire::assigned::{icmpv6, port};
use crate::wire::headers::{Kind, PacketHeaders};
use crate::wire::packet::Packet;
use crate::wire::{LinkMessage, protocol};

const ARP: u16 = 0x0806;
const LLDP: u16 = 0x88cc;
const EAPOL: u16 = 0x888e;
/// LACP, marker and OAM frames (IEEE 802.3, annex 57A).
const SLOW_PROTOCOLS: u16 = 0x8809;
/// The parser's number for 802.3 frames: spanning tree and other 802.2 LLC.
pub(super) const LLC: u16 = 0;

/// The reason for a frame that is not IP, by its EtherType in host byte order.
#[inline(always)]
pub fn non_ip<P: Packet, T: SlowPathSettings>(packet: &P, tables: &T, ether_type: u16) -> Reason {
    match (ether_type, tables.non_ip()) {
        (ARP, _) => Reason::Arp,
        (LLDP | EAPOL | SLOW_PROTOCOLS | LLC, NonIp::Control | NonIp::All)
            if is_to_link_control(packet) =>
        {
            Reason::LinkControl
        }
        (_, NonIp::All) => Reason::NonIpAllowed,
        _ if ether_type != LLC && tables.allows_ether_type(ether_type) => Reason::NonIpAllowed,
        _ => Reason::NonIp,
    }
}

/// Whether the destination is 01:80:c2:00:00:00 to 0f, which bridges do not forward (IEEE 802.1Q,
/// table 8-1).
#[inline(always)]
fn is_to_link_control<P: Packet>(packet: &P) -> bool {
    packet
        .load::<[u8; 6]>(0)
        .is_some_and(|[a, b, c, d, e, f]| (a, b, c, d, e, f & 0xf0) == (0x01, 0x80, 0xc2, 0, 0, 0))
}

/// The reason for exempt IP traffic, and for invalid neighbour discovery; `None` for all other.
#[inline(always)]
pub fn ip<A: Address, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    direction: Direction,
    headers: &PacketHeaders<A>,
    bytes: u32,
) -> Option<Reason> {
    let (message, hop_limit) = link_message(headers, direction)?;
    let end = headers.at + headers.length;
    let is_exempt = !headers.fragment.more
        && (hop_limit == ANY_HOP_LIMIT || headers.hop_limit == hop_limit)
        && packet.is_link_message(headers.ip, headers.at, end, message);
    match message {
        LinkMessage::NeighbourDiscovery if is_exempt => Some(Reason::NeighbourDiscovery),
        LinkMessage::NeighbourDiscovery => Some(Reason::NeighbourDiscoveryInvalid),
        _ if !is_exempt => None,
        LinkMessage::DhcpRequest | LinkMessage::DhcpReply => {
            tables.track_dhcp(direction, bytes).then_some(Reason::Dhcp)
        }
        LinkMessage::Dhcpv6Request | LinkMessage::Dhcpv6Reply => Some(Reason::Dhcp),
        _ => Some(Reason::MulticastMembership),
    }
}

/// [`has_ports_of_dhcp`] of a packet's flow.
#[inline(always)]
pub(super) fn may_be_dhcp<A: Address>(headers: &PacketHeaders<A>, direction: Direction) -> bool {
    let (inside, outside) = inside_and_outside_port(headers, direction);
    has_ports_of_dhcp(A::IS_V4, inside, outside)
}

/// Whether a UDP flow has ports of DHCP, in host byte order, so that packets of it can be exempt. It is never
/// proven, because the fast path would take such a packet for one of the flow.
#[must_use]
#[inline(always)]
pub const fn has_ports_of_dhcp(is_v4: bool, inside: u16, outside: u16) -> bool {
    if is_v4 {
        inside == port::DHCP_CLIENT && outside == port::DHCP_SERVER
    } else {
        inside == port::DHCPV6_CLIENT
    }
}

/// In host byte order.
#[inline(always)]
fn inside_and_outside_port<A: Address>(
    headers: &PacketHeaders<A>,
    direction: Direction,
) -> (u16, u16) {
    let (src, dst) = (u16::from_be(headers.src_port()), u16::from_be(headers.dst_port()));
    if matches!(direction, Direction::Ingress) { (dst, src) } else { (src, dst) }
}

/// Not a hop limit that a packet of these messages needs.
const ANY_HOP_LIMIT: u8 = 0;

/// The message that a packet is by its ports, or type, and direction, and the hop limit it needs. A
/// server, router or querier inside needs rules like any other service; an inside router may advertise.
#[inline(always)]
fn link_message<A: Address>(
    headers: &PacketHeaders<A>,
    direction: Direction,
) -> Option<(LinkMessage, u8)> {
    let is_ingress = matches!(direction, Direction::Ingress);
    let by_direction = |ingress, egress| if is_ingress { ingress } else { egress };
    match headers.kind {
        Kind::Udp => {
            let (client, server) = inside_and_outside_port(headers, direction);
            let message = if A::IS_V4 {
                if client != port::DHCP_CLIENT || server != port::DHCP_SERVER {
                    return None;
                }
                by_direction(LinkMessage::DhcpReply, LinkMessage::DhcpRequest)
            } else {
                // A server may answer from any port (RFC 8415, section 7.2, says only where it listens).
                if client != port::DHCPV6_CLIENT || !(is_ingress || server == port::DHCPV6_SERVER) {
                    return None;
                }
                by_direction(LinkMessage::Dhcpv6Reply, LinkMessage::Dhcpv6Request)
            };
            Some((message, ANY_HOP_LIMIT))
        }
        Kind::Message if headers.protocol == protocol::ICMPV6 => match headers.icmp_type() {
            // Without redirects, which need a rule.
            icmpv6::ROUTER_SOLICITATION..=icmpv6::NEIGHBOUR_ADVERTISEMENT => {
                Some((LinkMessage::NeighbourDiscovery, u8::MAX))
            }
            icmpv6::MLD_QUERY if is_ingress => Some((LinkMessage::MldQuery, 1)),
            icmpv6::MLD_REPORT | icmpv6::MLD_DONE | icmpv6::MLDV2_REPORT if !is_ingress => {
                Some((LinkMessage::MldReport, 1))
            }
            _ => None,
        },
        Kind::Other if A::IS_V4 && headers.protocol == protocol::IGMP => {
            Some((by_direction(LinkMessage::IgmpQuery, LinkMessage::IgmpReport), 1))
        }
        _ => None,
    }
}
