//! Messages of protocols that a host needs to take part in its link: whether a packet is exactly one of
//! them. Only such packets are exempt from the rules.

use super::assigned::icmpv6;
use super::header::{IPV6, protocol};
use super::message::LinkMessage;
use super::packet::Packet;
use crate::abi::address::V6;

/// Whether the packet is a valid `message`. `ip` is the offset of its IP header, `at` that of its
/// transport header, whose ports, type, code and hop limit the caller has compared, and `end` that of
/// the packet's end.
#[inline(always)]
pub fn is_link_message<P: Packet>(
    packet: &P,
    ip: u32,
    at: u32,
    end: u32,
    message: LinkMessage,
) -> bool {
    let result = match message {
        LinkMessage::NeighbourDiscovery => is_neighbour_discovery(packet, ip, at, end),
        LinkMessage::MldQuery => is_mld(packet, ip, at, end, true),
        LinkMessage::MldReport => is_mld(packet, ip, at, end, false),
        LinkMessage::IgmpQuery => is_igmp(packet, ip, at, end, true),
        LinkMessage::IgmpReport => is_igmp(packet, ip, at, end, false),
        LinkMessage::DhcpRequest => is_dhcp(packet, at, end, BOOTREQUEST),
        LinkMessage::DhcpReply => is_dhcp(packet, at, end, BOOTREPLY),
        LinkMessage::Dhcpv6Request => is_dhcpv6(packet, ip, at, end, true),
        LinkMessage::Dhcpv6Reply => is_dhcpv6(packet, ip, at, end, false),
    };
    result.unwrap_or(false)
}

/// Offset of the source address in an IPv6 header; the destination follows it.
const SOURCE_V6: u32 = 8;
/// Offset of the destination address in an IPv4 header.
const DESTINATION_V4: u32 = 16;
/// Offset of the next header field in an IPv6 header.
const NEXT_HEADER: u32 = 6;

/// Whether an IPv6 address is in fe80::/10. Addresses are words of a little-endian machine.
const fn is_link_local([first, _]: V6) -> bool {
    first & 0xc0ff == 0x80fe
}

/// Whether an IPv6 address is in ff00::/8.
const fn is_multicast([first, _]: V6) -> bool {
    first & 0xff == 0xff
}

/// Whether an IPv6 address is a multicast address of link scope (RFC 4291, section 2.7).
const fn is_link_multicast([first, _]: V6) -> bool {
    first & 0x0fff == 0x02ff
}

/// The longest router advertisement: it must not be fragmented (RFC 6980), so it fits the smallest MTU.
const MAX_DISCOVERY: u32 = 1280 - IPV6;
/// Options in one message, bounded for the verifier.
const MAX_OPTIONS: u32 = 16;
/// Link-layer addresses and nonce (RFC 4861, RFC 3971), which have 8 bytes on Ethernet.
const SHORT_OPTIONS: u64 = 1 << 1 | 1 << 2 | 1 << 14;
/// Bytes of options in all messages but router advertisements: an address and a nonce.
const MAX_SHORT_OPTIONS: u32 = 16;
/// Of a router advertisement also prefix, MTU, advertisement interval, home agent (RFC 6275), route
/// (RFC 4191), DNS servers and search list (RFC 8106), flags (RFC 5175), provisioning domain (RFC
/// 8801), captive portal (RFC 8910) and NAT64 prefix (RFC 8781).
const ROUTER_OPTIONS: u64 = SHORT_OPTIONS
    | 1 << 3
    | 1 << 5
    | 1 << 7
    | 1 << 8
    | 1 << 21
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 31
    | 1 << 37
    | 1 << 38;

/// Without extension headers, as no sender uses them: they could carry data.
#[inline(always)]
fn is_neighbour_discovery<P: Packet>(packet: &P, ip: u32, at: u32, end: u32) -> Option<bool> {
    if at - ip != IPV6 || end - at > MAX_DISCOVERY {
        return Some(false);
    }
    let [source, destination] = addresses(packet, ip)?;
    let [kind, code] = packet.load::<[u8; 2]>(at)?;
    if code != 0 {
        return Some(false);
    }
    let mut at = at;
    if kind == icmpv6::ROUTER_SOLICITATION || kind == icmpv6::ROUTER_ADVERTISEMENT {
        // RFC 4861, sections 6.1.1 and 6.1.2. No stack solicits or advertises beyond link-local addresses.
        let is_advertisement = kind == icmpv6::ROUTER_ADVERTISEMENT;
        if !(is_link_multicast(destination) || is_link_local(destination))
            || (is_advertisement && !is_link_local(source))
        {
            return Some(false);
        }
        at += if is_advertisement { 16 } else { 8 };
    } else {
        // RFC 4861, sections 7.1.1 and 7.1.2. A solicitation goes to the target or to its group.
        let target = packet.load::<V6>(at + 8)?;
        let is_solicitation = kind == icmpv6::NEIGHBOUR_SOLICITATION;
        let is_for_link = is_link_multicast(destination)
            || if is_solicitation { same(destination, target) } else { !is_multicast(destination) };
        if is_multicast(target) || !is_for_link {
            return Some(false);
        }
        at += 24;
    }
    let known = if kind == icmpv6::ROUTER_ADVERTISEMENT {
        ROUTER_OPTIONS
    } else if at + MAX_SHORT_OPTIONS < end {
        return Some(false);
    } else {
        SHORT_OPTIONS
    };
    for _ in 0..MAX_OPTIONS {
        at &= 0xffff;
        if at == end {
            return Some(true);
        }
        if at + 8 > end {
            return Some(false);
        }
        let [option, units] = packet.load::<[u8; 2]>(at)?;
        let bit = 1_u64 << (option & 63);
        if option > 63 || known & bit == 0 || units == 0 || (SHORT_OPTIONS & bit != 0 && units != 1)
        {
            return Some(false);
        }
        // In units of eight bytes.
        at += u32::from(units) * 8;
    }
    Some(at == end)
}

/// Not a comparison of arrays, for which LLVM would call `memcmp`.
#[inline(always)]
const fn same(a: V6, b: V6) -> bool {
    a[0] == b[0] && a[1] == b[1]
}

/// Source and destination of the IPv6 header at `ip`.
#[inline(always)]
fn addresses<P: Packet>(packet: &P, ip: u32) -> Option<[V6; 2]> {
    Some([packet.load(ip + SOURCE_V6)?, packet.load(ip + SOURCE_V6 + 16)?])
}

/// Router alert (RFC 2711), as an MLD message has it: 0.
const ROUTER_ALERT: u32 = u32::from_le_bytes([5, 2, 0, 0]);
/// The shortest query and version 1 report, and the shortest version 2 report.
const MLD: u32 = 24;
const MLDV2_REPORT: u32 = 8;

/// RFC 3810, section 5: link-local source (or none yet), and one hop-by-hop header with the router
/// alert. The destination is a group, which may be of a wider scope: the hop limit is 1.
#[inline(always)]
fn is_mld<P: Packet>(packet: &P, ip: u32, at: u32, end: u32, is_query: bool) -> Option<bool> {
    if at - ip != IPV6 + 8 {
        return Some(false);
    }
    let [next, _] = packet.load::<[u8; 2]>(ip + NEXT_HEADER)?;
    let [source, destination] = addresses(packet, ip)?;
    // Next header, length, and the alert before or after two bytes of padding.
    let [first, second] = packet.load::<[u32; 2]>(at - 8)?;
    let has_alert = first >> 16 | second << 16 == ROUTER_ALERT || second == ROUTER_ALERT;
    let [kind, code] = packet.load::<[u8; 2]>(at)?;
    let shortest = if kind == icmpv6::MLDV2_REPORT { MLDV2_REPORT } else { MLD };
    // Only the version 1 messages have a fixed size.
    let is_sized = if is_query || kind == icmpv6::MLDV2_REPORT {
        end - at >= shortest
    } else {
        end - at == MLD
    };
    Some(
        next == protocol::HOP_BY_HOP
            && has_alert
            && (is_link_local(source) || same(source, [0; 2]))
            && is_multicast(destination)
            && code == 0
            && is_sized,
    )
}

/// RFC 3376, sections 4 and 7.3: the types, and at least eight bytes, to a group.
#[inline(always)]
fn is_igmp<P: Packet>(packet: &P, ip: u32, at: u32, end: u32, is_query: bool) -> Option<bool> {
    let destination = packet.load::<[u8; 2]>(ip + DESTINATION_V4)?;
    let [kind, _] = packet.load::<[u8; 2]>(at)?;
    let is_kind = if is_query { kind == 0x11 } else { matches!(kind, 0x12 | 0x16 | 0x17 | 0x22) };
    // Versions 1 and 2 have a fixed size. The only IPv4 option is the router alert.
    let is_sized = end - at == 8 || (end - at > 8 && matches!(kind, 0x11 | 0x22));
    Some(destination[0] & 0xf0 == 0xe0 && is_kind && is_sized && at - ip <= 24)
}

const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
/// Bytes of the UDP header.
const UDP: u32 = 8;
/// Offset of the magic cookie in a DHCP message, and its value (RFC 2131, section 3).
const COOKIE: u32 = 236;
const MAGIC: u32 = u32::from_le_bytes([99, 130, 83, 99]);

#[inline(always)]
fn is_dhcp<P: Packet>(packet: &P, at: u32, end: u32, operation: u8) -> Option<bool> {
    if end - at < UDP + COOKIE + 4 {
        return Some(false);
    }
    let [op, _] = packet.load::<[u8; 2]>(at + UDP)?;
    Some(op == operation && packet.load::<u32>(at + UDP + COOKIE)? == MAGIC)
}

/// ff02::1:2, all DHCP relay agents and servers (RFC 8415, section 7.1).
const ALL_DHCP_SERVERS: V6 = [0x02ff, 0x0200_0100_0000_0000];
/// Solicit, request, confirm, renew, rebind, release, decline and information-request.
const DHCPV6_REQUESTS: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11;
/// Advertise, reply and reconfigure.
const DHCPV6_REPLIES: u32 = 1 << 2 | 1 << 7 | 1 << 10;

/// Both ends use link-local addresses (RFC 8415, section 16). A server that asks for unicast to a
/// wider address (section 21.12) needs a rule.
#[inline(always)]
fn is_dhcpv6<P: Packet>(packet: &P, ip: u32, at: u32, end: u32, is_request: bool) -> Option<bool> {
    if at - ip != IPV6 || end - at < UDP + 4 {
        return Some(false);
    }
    let [source, destination] = addresses(packet, ip)?;
    let [kind, _] = packet.load::<[u8; 2]>(at + UDP)?;
    let kinds = if is_request { DHCPV6_REQUESTS } else { DHCPV6_REPLIES };
    let is_for_link =
        is_link_local(destination) || (is_request && same(destination, ALL_DHCP_SERVERS));
    Some(is_link_local(source) && is_for_link && kind < 32 && kinds >> (kind & 31) & 1 != 0)
}
