//! From bytes to what a rule or a flow can be asked about.
//!
//! The common frame is read at constant offsets ([`common_v4`], [`common_v6`]). Whatever that
//! reading cannot take is read again from the start, at variable offsets, and only that second
//! reading names what is wrong.

mod common;
mod header;
mod options;
mod quote;
mod segment;

pub use common::{common_v4, common_v6, numbers};
pub use header::protocol;
pub use options::{scale_within, window_scale};
pub use quote::{quoted_v4, quoted_v6};
pub use segment::{Fragment, Kind, Segment};

use header::{
    ETHERNET, ETHERTYPE_OFFSET, Extension, FIRST_ETHERTYPE, ICMP, IPV4, IPV6, Icmp, Ipv4, Ipv6,
    RAW_8021AD, RAW_8021Q, RAW_IPV4, RAW_IPV6, TCP, Tcp, UDP, Udp,
};

use crate::limits::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS};
use crate::packet::Packet;
use crate::reason::Reason;

/// An IPv4 address as it lies in the packet.
pub type V4 = u32;
/// An IPv6 address as it lies in the packet.
pub type V6 = [u64; 2];

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// IPv4; the segment is in [`Segments::v4`].
    V4,
    /// IPv6; the segment is in [`Segments::v6`].
    V6,
    /// Not IP, with its EtherType in host byte order; 0 for 802.3 frames with an LLC header.
    NonIp(u16),
}

/// Where a parser leaves what it found.
///
/// Not in an enum with the families as its variants and the reason for a refusal beside them: that
/// would overlap them in memory, and the compiler, to keep them apart, would copy addresses byte
/// by byte.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    /// Of an IPv4 packet.
    pub v4: Segment<V4>,
    /// Of an IPv6 packet.
    pub v6: Segment<V6>,
}

impl Segments {
    /// Nothing yet.
    #[must_use]
    #[inline(always)]
    pub const fn new() -> Self {
        Self { v4: Segment::new(0, 0), v6: Segment::new([0; 2], [0; 2]) }
    }
}

impl Default for Segments {
    fn default() -> Self {
        Self::new()
    }
}

/// Parses a frame.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, segments: &mut Segments) -> Result<Frame, Reason> {
    if packet.has_ethernet() {
        if common_v4(packet, &mut segments.v4) {
            return Ok(Frame::V4);
        }
        if common_v6(packet, &mut segments.v6) {
            return Ok(Frame::V6);
        }
    }
    // The second reading: tags, options, extension headers, bytes outside the linear head, errors.
    let (raw_type, offset) = link(packet)?;
    match raw_type {
        RAW_IPV4 => {
            ipv4(packet, offset, &mut segments.v4)?;
            Ok(Frame::V4)
        }
        RAW_IPV6 => {
            ipv6(packet, offset, &mut segments.v6)?;
            Ok(Frame::V6)
        }
        other => {
            let host = u16::from_be(other);
            Ok(Frame::NonIp(if host < FIRST_ETHERTYPE { 0 } else { host }))
        }
    }
}

/// EtherType in packet order and offset of what follows it.
#[inline(always)]
fn link<P: Packet>(packet: &P) -> Result<(u16, u32), Reason> {
    if !packet.has_ethernet() {
        let first: u16 = packet.load(0).ok_or(Reason::TruncatedFrame)?;
        // The version nibble is the only type field there is.
        return match u16::from_be(first) >> 12 {
            4 => Ok((RAW_IPV4, 0)),
            6 => Ok((RAW_IPV6, 0)),
            _ => Err(Reason::IpVersion),
        };
    }
    let mut tags = packet.tags_beside();
    let mut raw_type: u16 = packet.load(ETHERTYPE_OFFSET).ok_or(Reason::TruncatedFrame)?;
    let mut offset = ETHERNET;
    for _ in 0..=MAX_VLAN_TAGS {
        if raw_type != RAW_8021Q && raw_type != RAW_8021AD {
            break;
        }
        tags += 1;
        // Tag control information, then the type of what is inside.
        raw_type = packet.load(offset + 2).ok_or(Reason::TruncatedFrame)?;
        offset += 4;
    }
    if tags > MAX_VLAN_TAGS { Err(Reason::VlanDepth) } else { Ok((raw_type, offset)) }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, offset: u32, segment: &mut Segment<V4>) -> Result<(), Reason> {
    let header: Ipv4 = packet.load(offset).ok_or(Reason::TruncatedFrame)?;
    if header.version_ihl >> 4 != 4 {
        return Err(Reason::IpVersion);
    }
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    if header_length < IPV4 {
        return Err(Reason::IpHeaderLength);
    }
    let total = u32::from(u16::from_be(header.total_length));
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
    let carrier = Carrier {
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        hop_limit: header.ttl,
        fragment,
        length: total - header_length,
    };
    transport(packet, offset + header_length, carrier, protocol::ICMP, segment)
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, offset: u32, segment: &mut Segment<V6>) -> Result<(), Reason> {
    let header: Ipv6 = packet.load(offset).ok_or(Reason::TruncatedFrame)?;
    if header.version >> 4 != 6 {
        return Err(Reason::IpVersion);
    }
    let payload = u32::from(u16::from_be(header.payload_length));
    if offset + IPV6 + payload > packet.length() {
        return Err(Reason::IpTotalLength);
    }
    let mut carrier = Carrier {
        src: header.src,
        dst: header.dst,
        protocol: header.next,
        hop_limit: header.hop_limit,
        fragment: Fragment::WHOLE,
        length: payload,
    };
    let at = extensions(packet, offset + IPV6, &mut carrier)?;
    transport(packet, at, carrier, protocol::ICMPV6, segment)
}

/// Protocol numbers that stand for an IPv6 extension header with a next header of its own
/// (IANA's list, without ESP, which hides what follows), or for nothing at all.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
            | protocol::NO_NEXT
    )
}

/// Walks the extension headers; leaves the carrier at the transport header and returns its offset.
#[inline(always)]
fn extensions<P: Packet>(packet: &P, start: u32, carrier: &mut Carrier<V6>) -> Result<u32, Reason> {
    let mut at = start;
    // The verifier of Linux 6.1 wants a loop to end in a condition, hence the last look behind it.
    for index in 0..MAX_EXTENSION_HEADERS {
        if ends_here(carrier)? {
            return Ok(at);
        }
        let next = carrier.protocol;
        if next == protocol::HOP_BY_HOP && index != 0 {
            return Err(Reason::ExtensionHeaders);
        }
        let cut = if carrier.fragment.more { Reason::TinyFragment } else { Reason::IpTotalLength };
        if carrier.length < 8 {
            return Err(cut);
        }
        let header: Extension = packet.load(at).ok_or(Reason::TruncatedFrame)?;
        let length = match next {
            protocol::FRAGMENT => 8,
            // RFC 4302: in 4-byte units, minus 2; every other one in 8-byte units, minus 1.
            protocol::AUTHENTICATION => (u32::from(header.length) + 2) * 4,
            _ => (u32::from(header.length) + 1) * 8,
        };
        if length > carrier.length {
            return Err(cut);
        }
        if next == protocol::ROUTING && u16::from_be(header.field) >> 8 == 0 {
            return Err(Reason::RoutingHeader0);
        }
        if next == protocol::FRAGMENT {
            let field = u16::from_be(header.field);
            carrier.fragment = Fragment {
                // In units of eight bytes above three other bits: in bytes without them.
                offset: u32::from(field & !7),
                length: carrier.length - length,
                more: field & 1 != 0,
                id: header.rest,
            };
        }
        carrier.protocol = header.next;
        carrier.length -= length;
        at += length;
    }
    if ends_here(carrier)? { Ok(at) } else { Err(Reason::ExtensionHeaders) }
}

/// Whether what comes next is the transport header.
#[inline(always)]
fn ends_here(carrier: &Carrier<V6>) -> Result<bool, Reason> {
    if carrier.protocol == protocol::NO_NEXT {
        return Err(Reason::NoNextHeader);
    }
    // What follows the IP header in a later fragment is payload, not a header chain.
    Ok(!is_extension(carrier.protocol) || carrier.fragment.offset != 0)
}

/// The longest packet that fragments may add up to (RFC 791; RFC 8200, section 4.5).
const MAX_PACKET: u32 = 65_535;

/// What the IP header says of the bytes behind it.
#[derive(Clone, Copy)]
struct Carrier<A> {
    src: A,
    dst: A,
    protocol: u8,
    hop_limit: u8,
    fragment: Fragment,
    /// Bytes from the transport header to the end of the packet.
    length: u32,
}

#[inline(always)]
fn transport<A: Copy, P: Packet>(
    packet: &P,
    at: u32,
    carrier: Carrier<A>,
    icmp: u8,
    segment: &mut Segment<A>,
) -> Result<(), Reason> {
    let Carrier { src, dst, protocol, hop_limit, fragment, length } = carrier;
    *segment = Segment::new(src, dst);
    segment.protocol = protocol;
    segment.hop_limit = hop_limit;
    segment.fragment = fragment;
    segment.at = at;
    segment.length = length;
    if fragment.offset != 0 {
        // RFC 3128: a fragment at offset 8 rewrites the TCP flags that the first one showed.
        if protocol == protocol::TCP && fragment.offset == 8 {
            return Err(Reason::TinyFragment);
        }
        if fragment.offset + fragment.length > MAX_PACKET {
            return Err(Reason::IpTotalLength);
        }
        segment.kind = Kind::Rest;
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
        segment.set_tcp(&header, length - header_length);
    } else if protocol == protocol::UDP {
        if length < UDP {
            return Err(cut(Reason::UdpHeader));
        }
        let header: Udp = packet.load(at).ok_or(Reason::TruncatedFrame)?;
        // Only a length that cannot hold the header is judged: with segmentation offload the
        // field may legitimately speak of one segment of many.
        if u32::from(u16::from_be(header.length)) < UDP {
            return Err(Reason::UdpHeader);
        }
        segment.set_udp(&header);
    } else if protocol == icmp {
        if length < ICMP {
            return Err(cut(Reason::IcmpHeader));
        }
        let header: Icmp = packet.load(at).ok_or(Reason::TruncatedFrame)?;
        segment.set_icmp(icmp, &header);
    }
    Ok(())
}
