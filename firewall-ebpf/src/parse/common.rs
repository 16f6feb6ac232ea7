//! The common frame: Ethernet without a tag in the frame, IPv4 without options or IPv6 without
//! extension headers, not a fragment, in the linear head as far as its transport header.
//!
//! Nine packets of ten are one. It is read in wide words with few bounds checks, because the
//! path of an established flow is a hundred instructions long and every tenth counts. What is not
//! one is left to [`super::parse`], which tells why, and which gives the same answer for what is.

use super::header::{ETHERNET, IPV4, IPV6, Icmp, RAW_IPV4, RAW_IPV6, TCP, Tcp, UDP, Udp, protocol};
use super::{Segment, V4, V6};
use crate::packet::{Packet, Wire};

/// From byte [`FRONT_V4`] of the frame to eight bytes behind the IPv4 header.
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

/// From byte [`FRONT_V6`] of the frame to eight bytes behind the IPv6 header.
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

/// Where a front begins: so far before the IP header that its addresses are aligned within it.
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

/// Reads the common IPv4 frame of a device with Ethernet headers; whether it was one.
#[inline(always)]
pub fn common_v4<P: Packet>(packet: &P, segment: &mut Segment<V4>) -> bool {
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
    *segment = Segment::new(front.src, front.dst);
    segment.protocol = front.protocol;
    segment.hop_limit = front.hop_limit;
    transport(packet, ETHERNET + IPV4, total - IPV4, front.next, protocol::ICMP, segment)
}

/// Reads the common IPv6 frame of a device with Ethernet headers; whether it was one.
#[inline(always)]
pub fn common_v6<P: Packet>(packet: &P, segment: &mut Segment<V6>) -> bool {
    let Some(front) = packet.head::<FrontV6>(FRONT_V6) else { return false };
    if front.ether_type != RAW_IPV6 || front.version >> 4 != 6 {
        return false;
    }
    let length = u32::from(u16::from_be(front.payload_length));
    *segment = Segment::new(front.src, front.dst);
    segment.protocol = front.protocol;
    segment.hop_limit = front.hop_limit;
    transport(packet, ETHERNET + IPV6, length, front.next, protocol::ICMPV6, segment)
}

/// Reads the transport header at `at`, of which `next` is the beginning; `length` bytes are said
/// to follow the IP header. Other protocols than these four are not common.
#[inline(always)]
fn transport<A, P: Packet>(
    packet: &P,
    at: u32,
    length: u32,
    next: [u32; 2],
    icmp: u8,
    segment: &mut Segment<A>,
) -> bool {
    if at + length > packet.near_length() {
        return false;
    }
    segment.at = at;
    segment.length = length;
    if segment.protocol == protocol::TCP {
        let Some(header) = packet.head::<Tcp>(at) else { return false };
        let header_length = u32::from(header.offset >> 4) * 4;
        if header_length < TCP || header_length > length {
            return false;
        }
        segment.set_tcp(&header, length - header_length);
    } else if segment.protocol == protocol::UDP {
        let header = Udp::from_words(next);
        if length < UDP || u32::from(u16::from_be(header.length)) < UDP {
            return false;
        }
        segment.set_udp(&header);
    } else if segment.protocol == icmp {
        if length < super::ICMP {
            return false;
        }
        segment.set_icmp(icmp, &Icmp::from_words(next));
    } else {
        return false;
    }
    true
}

/// Sequence and acknowledgement number of a common frame with TCP, host byte order.
#[inline(always)]
pub fn numbers<A, P: Packet>(packet: &P, segment: &Segment<A>) -> Option<(u32, u32)> {
    let header = packet.head::<Tcp>(segment.at)?;
    Some((u32::from_be(header.seq), u32::from_be(header.ack)))
}
