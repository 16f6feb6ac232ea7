//! The common frame: Ethernet without a tag in the frame, IPv4 without options or IPv6 without
//! extension headers, not a fragment, in the linear head as far as its transport header.
//!
//! Nine packets of ten are such a frame. It is read in wide words with few bounds checks, because
//! the path of an established flow has about a hundred instructions. Other frames are parsed by
//! [`super::parse`], which returns the same result for a common frame, and the reason for an invalid
//! one.

use super::header::{
    ETHERNET, ICMP, IPV4, IPV6, Icmp, RAW_IPV4, RAW_IPV6, TCP, Tcp, UDP, Udp, protocol,
};
use super::headers::PacketHeaders;
use super::packet::{Packet, Wire};
use super::tcp::JUDGED_FLAGS;
use crate::abi::address::{V4, V6};

/// From byte [`FRONT_V4`] of the frame to eight bytes after the IPv4 header.
#[derive(Clone, Copy)]
#[repr(C)]
struct FrontV4 {
    skipped: u16,
    ether_type: u16,
    /// Version and header length, type of service, total length.
    first: u32,
    /// Identification, flags and fragment offset.
    second: u32,
    hop_limit: u8,
    protocol: u8,
    checksum: u16,
    src: V4,
    dst: V4,
    next: [u32; 2],
}

/// From byte [`FRONT_V6`] of the frame to eight bytes after the IPv6 header.
#[derive(Clone, Copy)]
#[repr(C)]
struct FrontV6 {
    skipped: [u16; 3],
    ether_type: u16,
    version: u8,
    class: u8,
    flow: u16,
    payload_length: u16,
    protocol: u8,
    hop_limit: u8,
    src: V6,
    dst: V6,
    next: [u32; 2],
}

/// Offset of the front in the frame, chosen so that the addresses are aligned within the front.
const FRONT_V4: u32 = ETHERNET - 4;
const FRONT_V6: u32 = ETHERNET - 8;

// SAFETY: integers only, naturally aligned, sizes asserted below: no padding, no invalid values.
unsafe impl Wire for FrontV4 {}
// SAFETY: as above.
unsafe impl Wire for FrontV6 {}

const _: () = assert!(
    size_of::<FrontV4>() as u32 == ETHERNET - FRONT_V4 + IPV4 + 8
        && size_of::<FrontV6>() as u32 == ETHERNET - FRONT_V6 + IPV6 + 8
);

/// Source or destination address of an IPv4 frame, whatever follows the header's first 20 bytes.
#[inline(always)]
pub(super) fn address_v4<P: Packet>(packet: &P, is_source: bool) -> Option<V4> {
    let front = packet.head::<FrontV4>(FRONT_V4)?;
    if front.ether_type != RAW_IPV4 || front.first & 0xf0 != 0x40 {
        return None;
    }
    Some(if is_source { front.src } else { front.dst })
}

/// Source or destination address of an IPv6 frame, whatever follows the header.
#[inline(always)]
pub(super) fn address_v6<P: Packet>(packet: &P, is_source: bool) -> Option<V6> {
    let front = packet.head::<FrontV6>(FRONT_V6)?;
    if front.ether_type != RAW_IPV6 || front.version >> 4 != 6 {
        return None;
    }
    Some(if is_source { front.src } else { front.dst })
}

/// What a record has of a common frame with TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<A> {
    /// Source address, network byte order.
    pub src: A,
    /// Destination address, network byte order.
    pub dst: A,
    /// TCP or UDP.
    pub protocol: u8,
    /// Source and destination port in network byte order, in one word.
    pub ports: u32,
    /// TCP flags, of which only [`JUDGED_FLAGS`] are kept; 0 of UDP.
    pub tcp_flags: u8,
}

/// The tuple of a frame that [`super::parse`] has accepted, if it is a common IPv4 frame with TCP or UDP.
#[inline(always)]
pub fn tuple_v4<P: Packet>(packet: &P) -> Option<Tuple<V4>> {
    let front = packet.head::<FrontV4>(FRONT_V4)?;
    if front.ether_type != RAW_IPV4 || front.first & 0xff != 0x45 || front.second & 0xff3f_0000 != 0
    {
        return None;
    }
    let tcp_flags = flags(packet, ETHERNET + IPV4, front.protocol)?;
    let FrontV4 { src, dst, protocol, next: [ports, _], .. } = front;
    Some(Tuple { src, dst, protocol, ports, tcp_flags })
}

/// The same for IPv6.
#[inline(always)]
pub fn tuple_v6<P: Packet>(packet: &P) -> Option<Tuple<V6>> {
    let front = packet.head::<FrontV6>(FRONT_V6)?;
    if front.ether_type != RAW_IPV6 {
        return None;
    }
    let tcp_flags = flags(packet, ETHERNET + IPV6, front.protocol)?;
    let FrontV6 { src, dst, protocol, next: [ports, _], .. } = front;
    Some(Tuple { src, dst, protocol, ports, tcp_flags })
}

/// The TCP flags of a header at `at`, 0 of UDP; `None` for other protocols.
#[inline(always)]
fn flags<P: Packet>(packet: &P, at: u32, protocol: u8) -> Option<u8> {
    if protocol == protocol::TCP {
        // The byte behind the header's length.
        let [_, flags] = packet.head::<[u8; 2]>(at + 12)?;
        Some(flags & JUDGED_FLAGS)
    } else {
        (protocol == protocol::UDP).then_some(0)
    }
}

/// Whether by the length fields of its IP header a frame is in the linear head as a whole.
#[inline(always)]
pub fn is_in_head<P: Packet>(packet: &P) -> bool {
    let Some(v4) = packet.head::<FrontV4>(FRONT_V4) else { return false };
    if v4.ether_type == RAW_IPV4 {
        let total = u32::from(u16::from_be((v4.first >> 16) as u16));
        return total >= IPV4 && ETHERNET + total <= packet.linear_len();
    }
    let Some(v6) = packet.head::<FrontV6>(FRONT_V6) else { return false };
    let length = u32::from(u16::from_be(v6.payload_length));
    v6.ether_type == RAW_IPV6 && length != 0 && ETHERNET + IPV6 + length <= packet.linear_len()
}

/// Parses the common IPv4 frame of a device with Ethernet headers; returns whether it was one.
#[inline(always)]
pub fn parse_common_v4<P: Packet>(packet: &P, headers: &mut PacketHeaders<V4>) -> bool {
    let Some(front) = packet.head::<FrontV4>(FRONT_V4) else { return false };
    // As words of a little-endian machine: version 4 with a header of five words, and neither an
    // offset nor more fragments.
    if front.ether_type != RAW_IPV4 || front.first & 0xff != 0x45 || front.second & 0xff3f_0000 != 0
    {
        return false;
    }
    let total = u32::from(u16::from_be((front.first >> 16) as u16));
    if total < IPV4 {
        return false;
    }
    *headers = PacketHeaders::new(front.src, front.dst);
    headers.protocol = front.protocol;
    headers.hop_limit = front.hop_limit;
    transport(packet, ETHERNET + IPV4, total - IPV4, front.next, protocol::ICMP, headers)
}

/// Parses the common IPv6 frame of a device with Ethernet headers; returns whether it was one.
#[inline(always)]
pub fn parse_common_v6<P: Packet>(packet: &P, headers: &mut PacketHeaders<V6>) -> bool {
    let Some(front) = packet.head::<FrontV6>(FRONT_V6) else { return false };
    if front.ether_type != RAW_IPV6 || front.version >> 4 != 6 {
        return false;
    }
    let length = u32::from(u16::from_be(front.payload_length));
    *headers = PacketHeaders::new(front.src, front.dst);
    headers.protocol = front.protocol;
    headers.hop_limit = front.hop_limit;
    transport(packet, ETHERNET + IPV6, length, front.next, protocol::ICMPV6, headers)
}

/// Parses the transport header at `at`, whose first eight bytes are `next`; by the IP header,
/// `length` bytes follow it. Protocols other than TCP, UDP, ICMP and ICMPv6 are not common.
#[inline(always)]
fn transport<A, P: Packet>(
    packet: &P,
    at: u32,
    length: u32,
    next: [u32; 2],
    icmp: u8,
    headers: &mut PacketHeaders<A>,
) -> bool {
    if at + length > packet.linear_len() {
        return false;
    }
    headers.ip = ETHERNET;
    headers.at = at;
    headers.length = length;
    if headers.protocol == protocol::TCP {
        let Some(header) = packet.head::<Tcp>(at) else { return false };
        let header_length = u32::from(header.offset >> 4) * 4;
        if header_length < TCP || header_length > length {
            return false;
        }
        headers.set_tcp(&header, length - header_length);
    } else if headers.protocol == protocol::UDP {
        let header = Udp::from_words(next);
        if length < UDP || u32::from(u16::from_be(header.length)) < UDP {
            return false;
        }
        headers.set_udp(&header);
    } else if headers.protocol == icmp {
        if length < ICMP {
            return false;
        }
        headers.set_icmp(icmp, &Icmp::from_words(next));
    } else {
        return false;
    }
    true
}

/// Sequence and acknowledgement number of a common frame with TCP, host byte order.
#[inline(always)]
pub fn tcp_numbers<A, P: Packet>(packet: &P, headers: &PacketHeaders<A>) -> Option<(u32, u32)> {
    let header = packet.head::<Tcp>(headers.at)?;
    Some((u32::from_be(header.seq), u32::from_be(header.ack)))
}
