//! From bytes to what a rule or a flow can be asked about.
//!
//! The common frame (Ethernet, IPv4 without options or IPv6 without extension headers, no tag)
//! is read at constant offsets ([`common_v4`], [`common_v6`]). Whatever that reading cannot take is
//! parsed again from the start by the same functions at variable offsets, and only that second
//! reading names what is wrong.

use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::limits::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS};
use crate::packet::{Anywhere, Head, Packet, Reader, Wire};
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

/// Reads the common IPv4 frame at constant offsets; whether it was one.
#[inline(always)]
pub fn common_v4<P: Packet>(packet: &P, segment: &mut Segment<V4>) -> bool {
    packet.has_ethernet()
        && packet.head::<u16>(ETHERTYPE_OFFSET) == Some(RAW_IPV4)
        && ipv4(Head(packet), ETHERNET, segment).is_ok()
}

/// Reads the common IPv6 frame at constant offsets; whether it was one.
#[inline(always)]
pub fn common_v6<P: Packet>(packet: &P, segment: &mut Segment<V6>) -> bool {
    packet.has_ethernet()
        && packet.head::<u16>(ETHERTYPE_OFFSET) == Some(RAW_IPV6)
        && ipv6(Head(packet), ETHERNET, segment).is_ok()
}

/// A transport segment or message, with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<A> {
    /// Source address, network byte order.
    pub src: A,
    /// Destination address, network byte order.
    pub dst: A,
    /// IP protocol number of the transport header.
    pub protocol: u8,
    /// What the protocol means to a flow.
    pub kind: Kind,
    /// TCP flags without ECE and CWR; see [`crate::tcp`].
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Whether this is the first of several fragments.
    pub fragmented: bool,
    /// Source port, network byte order; of an ICMP query its identifier; else 0.
    pub src_port: u16,
    /// Destination port, network byte order; of an ICMP query its identifier; else 0.
    pub dst_port: u16,
    /// What a rule's ports are compared with, host byte order: the destination port, or ICMP
    /// type and code as high and low byte; else 0.
    pub rule_port: u16,
    /// TCP sequence number, host byte order.
    pub seq: u32,
    /// TCP acknowledgement number, host byte order.
    pub ack: u32,
    /// TCP payload in bytes; SYN and FIN are not counted.
    pub payload: u32,
}

impl<A> Segment<A> {
    /// A packet of which no more than its addresses is known.
    #[must_use]
    #[inline(always)]
    pub const fn new(src: A, dst: A) -> Self {
        Self {
            src,
            dst,
            protocol: 0,
            kind: Kind::Other,
            tcp_flags: 0,
            hop_limit: 0,
            fragmented: false,
            src_port: 0,
            dst_port: 0,
            rule_port: 0,
            seq: 0,
            ack: 0,
            payload: 0,
        }
    }
}

/// What a protocol means to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 message that asks for a reply with the same identifier.
    Request,
    /// Such a reply.
    Reply,
    /// Any other ICMP or ICMPv6 message: nothing answers to it.
    Message,
    /// Any other protocol.
    Other,
}

/// IP protocol numbers that the parser acts on.
pub mod protocol {
    use super::IpProto;

    /// ICMP for IPv4.
    pub const ICMP: u8 = IpProto::Icmp as u8;
    /// TCP.
    pub const TCP: u8 = IpProto::Tcp as u8;
    /// UDP.
    pub const UDP: u8 = IpProto::Udp as u8;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
    pub(super) const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    pub(super) const ROUTING: u8 = IpProto::Ipv6Route as u8;
    pub(super) const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    pub(super) const AUTHENTICATION: u8 = IpProto::Ah as u8;
    pub(super) const NO_NEXT: u8 = IpProto::Ipv6NoNxt as u8;
    pub(super) const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
    pub(super) const MOBILITY: u8 = IpProto::MobilityHeader as u8;
    pub(super) const HIP: u8 = IpProto::Hip as u8;
    pub(super) const SHIM6: u8 = IpProto::Shim6 as u8;
}

const ETHERTYPE_OFFSET: u32 = 12;
const ETHERNET: u32 = EthHdr::LEN as u32;
const IPV4: u32 = Ipv4Hdr::LEN as u32;
const IPV6: u32 = Ipv6Hdr::LEN as u32;
const TCP: u32 = TcpHdr::LEN as u32;
const UDP: u32 = UdpHdr::LEN as u32;
/// Every ICMP and ICMPv6 message has a header of eight bytes (RFC 792, RFC 4443).
const ICMP: u32 = 8;
/// EtherTypes in packet order, for comparison with a raw load.
const RAW_IPV4: u16 = EtherType::Ipv4 as u16;
const RAW_IPV6: u16 = EtherType::Ipv6 as u16;
const RAW_8021Q: u16 = EtherType::Ieee8021q as u16;
const RAW_8021AD: u16 = EtherType::Ieee8021ad as u16;
/// Below this a type field is the length of an 802.3 frame (IEEE 802.3, clause 3.2.6).
const FIRST_ETHERTYPE: u16 = 0x600;

#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    src: V4,
    dst: V4,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv6 {
    version: u8,
    class: u8,
    flow: u16,
    payload_length: u16,
    next: u8,
    hop_limit: u8,
    src: V6,
    dst: V6,
}

/// The first eight bytes of every IPv6 extension header.
#[derive(Clone, Copy)]
#[repr(C)]
struct Extension {
    next: u8,
    length: u8,
    /// Fragment header: offset and M flag. Routing header: type and segments left.
    field: u16,
    rest: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Tcp {
    src: u16,
    dst: u16,
    seq: u32,
    ack: u32,
    offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Udp {
    src: u16,
    dst: u16,
    length: u16,
    checksum: u16,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Icmp {
    kind: u8,
    code: u8,
    checksum: u16,
    id: u16,
    sequence: u16,
}

// SAFETY: integers only, naturally aligned, sizes asserted below: no padding, no invalid values.
unsafe impl Wire for Ipv4 {}
// SAFETY: as above.
unsafe impl Wire for Ipv6 {}
// SAFETY: as above.
unsafe impl Wire for Extension {}
// SAFETY: as above.
unsafe impl Wire for Tcp {}
// SAFETY: as above.
unsafe impl Wire for Udp {}
// SAFETY: as above.
unsafe impl Wire for Icmp {}

const _: () = assert!(
    size_of::<Ipv4>() as u32 == IPV4
        && size_of::<Ipv6>() as u32 == IPV6
        && size_of::<Extension>() == 8
        && size_of::<Tcp>() as u32 == TCP
        && size_of::<Udp>() as u32 == UDP
        && size_of::<Icmp>() as u32 == ICMP
);

/// Parses a frame.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, segments: &mut Segments) -> Result<Frame, Reason> {
    if common_v4(packet, &mut segments.v4) {
        return Ok(Frame::V4);
    }
    if common_v6(packet, &mut segments.v6) {
        return Ok(Frame::V6);
    }
    // The second reading: tags, options, extension headers, bytes outside the linear head, errors.
    let (raw_type, offset) = link(packet)?;
    match raw_type {
        RAW_IPV4 => {
            ipv4(Anywhere(packet), offset, &mut segments.v4)?;
            Ok(Frame::V4)
        }
        RAW_IPV6 => {
            ipv6(Anywhere(packet), offset, &mut segments.v6)?;
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
    let reader = Anywhere(packet);
    if !packet.has_ethernet() {
        let first: u16 = reader.read(0).ok_or(Reason::TruncatedFrame)?;
        // The version nibble is the only type field there is.
        return match u16::from_be(first) >> 12 {
            4 => Ok((RAW_IPV4, 0)),
            6 => Ok((RAW_IPV6, 0)),
            _ => Err(Reason::IpVersion),
        };
    }
    let mut tags = packet.tags_beside();
    let mut raw_type: u16 = reader.read(ETHERTYPE_OFFSET).ok_or(Reason::TruncatedFrame)?;
    let mut offset = ETHERNET;
    for _ in 0..=MAX_VLAN_TAGS {
        if raw_type != RAW_8021Q && raw_type != RAW_8021AD {
            break;
        }
        tags += 1;
        // Tag control information, then the type of what is inside.
        raw_type = reader.read(offset + 2).ok_or(Reason::TruncatedFrame)?;
        offset += 4;
    }
    if tags > MAX_VLAN_TAGS { Err(Reason::VlanDepth) } else { Ok((raw_type, offset)) }
}

#[inline(always)]
fn ipv4<R: Reader>(reader: R, offset: u32, segment: &mut Segment<V4>) -> Result<(), Reason> {
    let header: Ipv4 = reader.read(offset).ok_or(Reason::TruncatedFrame)?;
    if header.version_ihl >> 4 != 4 {
        return Err(Reason::IpVersion);
    }
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    if header_length < IPV4 || (R::FIXED && header_length != IPV4) {
        return Err(Reason::IpHeaderLength);
    }
    let total = u32::from(u16::from_be(header.total_length));
    // A frame may be longer than its packet (padding), never shorter.
    if total < header_length || offset + total > reader.length() {
        return Err(Reason::IpTotalLength);
    }
    let field = u16::from_be(header.fragment);
    let fragment = Fragment { offset: field & 0x1fff, more: field & 0x2000 != 0 };
    let carrier = Carrier {
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        hop_limit: header.ttl,
        fragment,
        length: total - header_length,
    };
    // Spelt out so that the first reading has a constant offset.
    let at = if R::FIXED { offset + IPV4 } else { offset + header_length };
    transport(reader, at, carrier, protocol::ICMP, segment)
}

#[inline(always)]
fn ipv6<R: Reader>(reader: R, offset: u32, segment: &mut Segment<V6>) -> Result<(), Reason> {
    let header: Ipv6 = reader.read(offset).ok_or(Reason::TruncatedFrame)?;
    if header.version >> 4 != 6 {
        return Err(Reason::IpVersion);
    }
    let payload = u32::from(u16::from_be(header.payload_length));
    if offset + IPV6 + payload > reader.length() {
        return Err(Reason::IpTotalLength);
    }
    let mut carrier = Carrier {
        src: header.src,
        dst: header.dst,
        protocol: header.next,
        hop_limit: header.hop_limit,
        fragment: Fragment { offset: 0, more: false },
        length: payload,
    };
    if R::FIXED {
        if is_extension(header.next) {
            return Err(Reason::ExtensionHeaders);
        }
        return transport(reader, offset + IPV6, carrier, protocol::ICMPV6, segment);
    }
    let at = extensions(reader, offset + IPV6, &mut carrier)?;
    transport(reader, at, carrier, protocol::ICMPV6, segment)
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
fn extensions<R: Reader>(reader: R, start: u32, carrier: &mut Carrier<V6>) -> Result<u32, Reason> {
    let mut at = start;
    for index in 0..=MAX_EXTENSION_HEADERS {
        let next = carrier.protocol;
        if next == protocol::NO_NEXT {
            return Err(Reason::NoNextHeader);
        }
        // What follows the IP header in a later fragment is payload, not a header chain.
        if !is_extension(next) || carrier.fragment.offset != 0 {
            return Ok(at);
        }
        if index == MAX_EXTENSION_HEADERS || (next == protocol::HOP_BY_HOP && index != 0) {
            return Err(Reason::ExtensionHeaders);
        }
        let cut = if carrier.fragment.more { Reason::TinyFragment } else { Reason::IpTotalLength };
        if carrier.length < 8 {
            return Err(cut);
        }
        let header: Extension = reader.read(at).ok_or(Reason::TruncatedFrame)?;
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
            carrier.fragment = Fragment { offset: field >> 3, more: field & 1 != 0 };
        }
        carrier.protocol = header.next;
        carrier.length -= length;
        at += length;
    }
    Err(Reason::ExtensionHeaders)
}

/// Offset in units of 8 bytes.
#[derive(Clone, Copy)]
struct Fragment {
    offset: u16,
    more: bool,
}

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
fn transport<A: Copy, R: Reader>(
    reader: R,
    at: u32,
    carrier: Carrier<A>,
    icmp: u8,
    segment: &mut Segment<A>,
) -> Result<(), Reason> {
    let Carrier { src, dst, protocol, hop_limit, fragment, length } = carrier;
    if fragment.offset != 0 {
        // RFC 3128: a fragment at offset 8 rewrites the TCP flags that the first one showed.
        let rewrites_flags = protocol == protocol::TCP && fragment.offset == 1;
        return Err(if rewrites_flags { Reason::TinyFragment } else { Reason::Fragment });
    }
    let cut = |reason| if fragment.more { Reason::TinyFragment } else { reason };
    *segment = Segment::new(src, dst);
    segment.protocol = protocol;
    segment.hop_limit = hop_limit;
    segment.fragmented = fragment.more;
    if protocol == protocol::TCP {
        if length < TCP {
            return Err(cut(Reason::TcpHeader));
        }
        let header: Tcp = reader.read(at).ok_or(Reason::TruncatedFrame)?;
        let header_length = u32::from(header.offset >> 4) * 4;
        if header_length < TCP {
            return Err(Reason::TcpHeader);
        }
        if header_length > length {
            return Err(cut(Reason::TcpHeader));
        }
        segment.kind = Kind::Tcp;
        segment.tcp_flags = header.flags & crate::tcp::JUDGED_FLAGS;
        segment.src_port = header.src;
        segment.dst_port = header.dst;
        segment.rule_port = u16::from_be(header.dst);
        segment.seq = u32::from_be(header.seq);
        segment.ack = u32::from_be(header.ack);
        segment.payload = length - header_length;
    } else if protocol == protocol::UDP {
        if length < UDP {
            return Err(cut(Reason::UdpHeader));
        }
        let header: Udp = reader.read(at).ok_or(Reason::TruncatedFrame)?;
        // Only a length that cannot hold the header is judged: with segmentation offload the
        // field may legitimately speak of one segment of many.
        if u32::from(u16::from_be(header.length)) < UDP {
            return Err(Reason::UdpHeader);
        }
        segment.kind = Kind::Udp;
        segment.src_port = header.src;
        segment.dst_port = header.dst;
        segment.rule_port = u16::from_be(header.dst);
    } else if protocol == icmp {
        if length < ICMP {
            return Err(cut(Reason::IcmpHeader));
        }
        let header: Icmp = reader.read(at).ok_or(Reason::TruncatedFrame)?;
        segment.rule_port = u16::from(header.kind) << 8 | u16::from(header.code);
        segment.kind = icmp_kind(icmp, header.kind);
        if matches!(segment.kind, Kind::Request | Kind::Reply) {
            segment.src_port = header.id;
            segment.dst_port = header.id;
        }
    }
    Ok(())
}

/// Echo and timestamp (RFC 792), echo (RFC 4443): the messages whose reply repeats an identifier.
#[inline(always)]
const fn icmp_kind(icmp: u8, kind: u8) -> Kind {
    if icmp == protocol::ICMP {
        match kind {
            8 | 13 => Kind::Request,
            0 | 14 => Kind::Reply,
            _ => Kind::Message,
        }
    } else {
        match kind {
            128 => Kind::Request,
            129 => Kind::Reply,
            _ => Kind::Message,
        }
    }
}
