//! Parsing of whole frames.
//!
//! The common frame is parsed at constant offsets ([`parse_common_v4`], [`parse_common_v6`]). Every
//! other frame is parsed from its start again, at variable offsets; only that second pass returns
//! reasons.

use super::common::{parse_common_v4, parse_common_v6};
use super::header::{
    ETHERNET, ETHERTYPE_OFFSET, Extension, FIRST_ETHERTYPE, ICMP, IPV4, IPV6, Icmp, Ipv4, Ipv6,
    RAW_8021AD, RAW_8021Q, RAW_IPV4, RAW_IPV6, TCP, Tcp, UDP, Udp, protocol,
};
use super::headers::{Fragment, Kind, PacketHeaders};
use super::packet::Packet;
use crate::abi::address::{V4, V6};
use crate::abi::limits::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS};
use crate::abi::reason::Reason;

/// The type of a parsed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// IPv4; its headers are in [`HeadersByFamily::v4`].
    V4,
    /// IPv6; its headers are in [`HeadersByFamily::v6`].
    V6,
    /// Not IP, with its EtherType in host byte order; 0 for 802.3 frames with an LLC header.
    NonIp(u16),
}

/// The output of [`parse`].
///
/// Not an enum with the families as its variants: they would overlap in memory, and the compiler
/// would then copy addresses byte by byte.
#[derive(Clone, Copy, Debug)]
pub struct HeadersByFamily {
    /// Of an IPv4 packet.
    pub v4: PacketHeaders<V4>,
    /// Of an IPv6 packet.
    pub v6: PacketHeaders<V6>,
}

impl HeadersByFamily {
    /// No headers.
    #[must_use]
    #[inline(always)]
    pub const fn new() -> Self {
        Self { v4: PacketHeaders::new(0, 0), v6: PacketHeaders::new([0; 2], [0; 2]) }
    }
}

impl Default for HeadersByFamily {
    fn default() -> Self {
        Self::new()
    }
}

/// Parses a frame.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, headers: &mut HeadersByFamily) -> Result<Frame, Reason> {
    if packet.has_ethernet() {
        if parse_common_v4(packet, &mut headers.v4) {
            return Ok(Frame::V4);
        }
        if parse_common_v6(packet, &mut headers.v6) {
            return Ok(Frame::V6);
        }
    }
    // The second pass: tags, options, extension headers, bytes outside of the linear head, errors.
    let (raw_type, offset) = link(packet)?;
    let offset = packet.forget(offset);
    match raw_type {
        RAW_IPV4 => {
            ipv4(packet, offset, &mut headers.v4)?;
            Ok(Frame::V4)
        }
        RAW_IPV6 => {
            ipv6(packet, offset, &mut headers.v6)?;
            Ok(Frame::V6)
        }
        other => {
            let host = u16::from_be(other);
            if host >= FIRST_ETHERTYPE {
                return Ok(Frame::NonIp(host));
            }
            if is_ip_in_snap(packet, offset) { Err(Reason::NonIp) } else { Ok(Frame::NonIp(0)) }
        }
    }
}

/// Whether an 802.3 frame has an LLC and SNAP header (RFC 1042, IEEE 802.1H) with the type of IP or of a
/// VLAN tag. Some hosts take it for IP (CERT VU#855201), so it is not exempt as LLC.
#[inline(always)]
fn is_ip_in_snap<P: Packet>(packet: &P, offset: u32) -> bool {
    let Some([dsap, ssap, control, oui0, oui1, oui2, high, low]) = packet.load::<[u8; 8]>(offset)
    else {
        return false;
    };
    let ether_type = u16::from_ne_bytes([high, low]);
    dsap == 0xaa
        && ssap == 0xaa
        && control == 3
        && oui0 == 0
        && oui1 == 0
        && (oui2 == 0 || oui2 == 0xf8)
        && matches!(ether_type, RAW_IPV4 | RAW_IPV6 | RAW_8021Q | RAW_8021AD)
}

/// EtherType in network byte order, and the offset of what follows it.
#[inline(always)]
fn link<P: Packet>(packet: &P) -> Result<(u16, u32), Reason> {
    if !packet.has_ethernet() {
        let first: u16 = packet.load(0).ok_or(Reason::TruncatedFrame)?;
        // The version is the only type field.
        return match u16::from_be(first) >> 12 {
            4 => Ok((RAW_IPV4, 0)),
            6 => Ok((RAW_IPV6, 0)),
            _ => Err(Reason::IpVersion),
        };
    }
    let mut tags = packet.metadata_tags();
    let mut raw_type: u16 = packet.load(ETHERTYPE_OFFSET).ok_or(Reason::TruncatedFrame)?;
    let mut offset = ETHERNET;
    for _ in 0..=MAX_VLAN_TAGS {
        if raw_type != RAW_8021Q && raw_type != RAW_8021AD {
            break;
        }
        tags += 1;
        // Tag control information, then the next type.
        raw_type = packet.load(offset + 2).ok_or(Reason::TruncatedFrame)?;
        offset += 4;
    }
    if tags > MAX_VLAN_TAGS { Err(Reason::VlanDepth) } else { Ok((raw_type, offset)) }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, offset: u32, headers: &mut PacketHeaders<V4>) -> Result<(), Reason> {
    let header: Ipv4 = packet.load(offset).ok_or(Reason::TruncatedFrame)?;
    if header.version_ihl >> 4 != 4 {
        return Err(Reason::IpVersion);
    }
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    if header_length < IPV4 {
        return Err(Reason::IpHeaderLength);
    }
    let total = match u32::from(u16::from_be(header.total_length)) {
        0 => beyond_length_field(packet, offset, 0)?,
        length => length,
    };
    let total = packet.forget(total);
    // A frame may be longer than its packet (padding), never shorter.
    if total < header_length || offset + total > packet.length() {
        return Err(Reason::IpTotalLength);
    }
    let field = u16::from_be(header.fragment);
    let fragment = Fragment {
        offset: u32::from(field & 0x1fff) * 8,
        length: total - header_length,
        more: field & 0x2000 != 0,
        id: u32::from(header.id),
    };
    let payload = IpPayload {
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        hop_limit: header.ttl,
        fragment,
        length: total - header_length,
    };
    transport(packet, offset, offset + header_length, payload, protocol::ICMP, headers)
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, offset: u32, headers: &mut PacketHeaders<V6>) -> Result<(), Reason> {
    let header: Ipv6 = packet.load(offset).ok_or(Reason::TruncatedFrame)?;
    if header.version >> 4 != 6 {
        return Err(Reason::IpVersion);
    }
    let length = match u32::from(u16::from_be(header.payload_length)) {
        // Packets without payload have 0 too; they are dropped where their transport header should be.
        0 => beyond_length_field(packet, offset, IPV6).map_or(0, |total| total - IPV6),
        length => length,
    };
    let length = packet.forget(length);
    if offset + IPV6 + length > packet.length() {
        return Err(Reason::IpTotalLength);
    }
    let mut payload = IpPayload {
        src: header.src,
        dst: header.dst,
        protocol: header.next,
        hop_limit: header.hop_limit,
        fragment: Fragment::WHOLE,
        length,
    };
    let at = extensions(packet, offset + IPV6, &mut payload)?;
    transport(packet, offset, at, payload, protocol::ICMPV6, headers)
}

/// Bytes of the IP packet at `offset`, whose length field is 0 because the length does not fit: TCP
/// segments that the kernel handles as one packet of more than 65,535 bytes ("BIG TCP", Linux 5.19 for
/// IPv6 and 6.3 for IPv4; `iph_totlen` in include/linux/ip.h takes the length from the skb too). Linux
/// up to 6.18 at least puts a hop-by-hop header with the jumbo payload option (RFC 2675) into such an
/// IPv6 packet; it is walked like any other. `uncounted` are the bytes of the IP header that the field
/// does not count.
///
/// # Errors
/// The packet is not one of these.
#[inline(always)]
fn beyond_length_field<P: Packet>(packet: &P, offset: u32, uncounted: u32) -> Result<u32, Reason> {
    let length = packet.length();
    if packet.is_segmented() && length > offset + uncounted + MAX_PACKET {
        Ok(length - offset)
    } else {
        Err(Reason::IpTotalLength)
    }
}

/// Whether the number is that of an IPv6 extension header with a next header field (IANA's list,
/// without ESP, which encrypts what follows), or of "no next header". Not of mobility and HIP headers,
/// after which nothing follows (RFC 6275, section 6.1.1; RFC 7401, section 5.1): rules name these.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION
            | protocol::SHIM6
            | protocol::NO_NEXT
    )
}

/// Walks the extension headers; updates `payload` to the transport header and returns its offset.
#[inline(always)]
pub(super) fn extensions<P: Packet>(
    packet: &P,
    start: u32,
    payload: &mut IpPayload<V6>,
) -> Result<u32, Reason> {
    let mut at = start;
    // The verifier of Linux 6.1 needs a loop that ends by its condition, hence the check after it.
    for index in 0..MAX_EXTENSION_HEADERS {
        if ends_here(payload)? {
            return Ok(at);
        }
        let next = payload.protocol;
        if next == protocol::HOP_BY_HOP && index != 0 {
            return Err(Reason::ExtensionHeaders);
        }
        let cut = if payload.fragment.more { Reason::TinyFragment } else { Reason::IpTotalLength };
        if payload.length < 8 {
            return Err(cut);
        }
        let header: Extension = packet.load(at).ok_or(Reason::TruncatedFrame)?;
        let length = match next {
            protocol::FRAGMENT => 8,
            // RFC 4302: in 4-byte units, minus 2; every other one in 8-byte units, minus 1.
            protocol::AUTHENTICATION => (u32::from(header.length) + 2) * 4,
            _ => (u32::from(header.length) + 1) * 8,
        };
        if length > payload.length {
            return Err(cut);
        }
        if next == protocol::ROUTING && u16::from_be(header.field) >> 8 == 0 {
            return Err(Reason::RoutingHeader0);
        }
        if next == protocol::FRAGMENT {
            let field = u16::from_be(header.field);
            payload.fragment = Fragment {
                // In units of eight bytes above three other bits: in bytes without them.
                offset: u32::from(field & !7),
                length: payload.length - length,
                more: field & 1 != 0,
                id: header.rest,
            };
        }
        payload.protocol = header.next;
        payload.length -= length;
        at += length;
    }
    if ends_here(payload)? { Ok(at) } else { Err(Reason::ExtensionHeaders) }
}

/// Whether what comes next is the transport header.
#[inline(always)]
fn ends_here(payload: &IpPayload<V6>) -> Result<bool, Reason> {
    if payload.protocol == protocol::NO_NEXT {
        return Err(Reason::NoNextHeader);
    }
    // What follows the IP header in a later fragment is payload, not a header chain.
    Ok(!is_extension(payload.protocol) || payload.fragment.offset != 0)
}

/// The largest number in a length field of IP, and bytes of the longest packet that fragments may form
/// (RFC 791; RFC 8200, section 4.5).
const MAX_PACKET: u32 = 65_535;

/// The fields of the IP headers that describe the bytes after them.
#[derive(Clone, Copy)]
pub(super) struct IpPayload<A> {
    pub(super) src: A,
    pub(super) dst: A,
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    pub(super) fragment: Fragment,
    /// Bytes from the transport header to the end of the packet.
    pub(super) length: u32,
}

#[inline(always)]
fn transport<A: Copy, P: Packet>(
    packet: &P,
    ip: u32,
    at: u32,
    payload: IpPayload<A>,
    icmp: u8,
    headers: &mut PacketHeaders<A>,
) -> Result<(), Reason> {
    let IpPayload { src, dst, protocol, hop_limit, fragment, length } = payload;
    *headers = PacketHeaders::new(src, dst);
    headers.protocol = protocol;
    headers.hop_limit = hop_limit;
    headers.fragment = fragment;
    headers.ip = ip;
    headers.at = at;
    headers.length = length;
    if fragment.offset != 0 {
        // RFC 3128: a fragment at offset 8 overwrites the TCP flags of the first one.
        if protocol == protocol::TCP && fragment.offset == 8 {
            return Err(Reason::TinyFragment);
        }
        if fragment.offset + fragment.length > MAX_PACKET {
            return Err(Reason::IpTotalLength);
        }
        headers.kind = Kind::LaterFragment;
        return Ok(());
    }
    let cut = |reason| if fragment.more { Reason::TinyFragment } else { reason };
    if protocol == protocol::TCP {
        if length < TCP {
            return Err(cut(Reason::TcpHeader));
        }
        let header: Tcp = packet.load(at).ok_or(Reason::TruncatedFrame)?;
        let header_length = u32::from(header.offset >> 4) * 4;
        if header_length < TCP {
            return Err(Reason::TcpHeader);
        }
        if header_length > length {
            return Err(cut(Reason::TcpHeader));
        }
        headers.set_tcp(&header, length - header_length);
    } else if protocol == protocol::UDP {
        if length < UDP {
            return Err(cut(Reason::UdpHeader));
        }
        let header: Udp = packet.load(at).ok_or(Reason::TruncatedFrame)?;
        // Only a length that cannot hold the header is invalid: with segmentation offload the
        // field may be that of one segment of many.
        if u32::from(u16::from_be(header.length)) < UDP {
            return Err(Reason::UdpHeader);
        }
        headers.set_udp(&header);
    } else if protocol == icmp {
        if length < ICMP {
            return Err(cut(Reason::IcmpHeader));
        }
        let header: Icmp = packet.load(at).ok_or(Reason::TruncatedFrame)?;
        headers.set_icmp(icmp, &header);
    }
    Ok(())
}
