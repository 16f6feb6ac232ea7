//! The packet that an ICMP error is about, as far as the error quotes it.

use super::header::{IPV4, IPV6, Icmp, Ipv4, Ipv6, protocol};
use super::{Carrier, Fragment, Kind, Segment, V4, V6, extensions};
use crate::packet::Packet;

/// What every quotation holds of the transport header (RFC 792): ports, or an ICMP header.
const QUOTED: u32 = 8;
/// Behind the ICMP header.
const OFFSET: u32 = 8;

/// Reads the packet that an ICMP error quotes; `false` if it is not one, or is cut before the
/// eighth byte of its transport header. A fragment other than the first is of [`Kind::Rest`].
#[inline(always)]
pub fn quoted_v4<P: Packet>(packet: &P, error: &Segment<V4>, quote: &mut Segment<V4>) -> bool {
    let (at, end) = (error.at + OFFSET, error.at + error.length);
    let Some(header) = packet.load::<Ipv4>(at) else { return false };
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    if header.version_ihl >> 4 != 4 || header_length < IPV4 {
        return false;
    }
    *quote = Segment::new(header.src, header.dst);
    quote.protocol = header.protocol;
    let is_rest = u16::from_be(header.fragment) & 0x1fff != 0;
    transport(packet, at + header_length, end, is_rest, protocol::ICMP, quote)
}

/// The same for an ICMPv6 error.
#[inline(always)]
pub fn quoted_v6<P: Packet>(packet: &P, error: &Segment<V6>, quote: &mut Segment<V6>) -> bool {
    let (at, end) = (error.at + OFFSET, error.at + error.length);
    let Some(header) = packet.load::<Ipv6>(at) else { return false };
    if header.version >> 4 != 6 || at + IPV6 > end {
        return false;
    }
    let mut carrier = Carrier {
        src: header.src,
        dst: header.dst,
        protocol: header.next,
        hop_limit: header.hop_limit,
        fragment: Fragment::WHOLE,
        // As much as is quoted, which is less than the packet had.
        length: end - at - IPV6,
    };
    let Ok(at) = extensions(packet, at + IPV6, &mut carrier) else { return false };
    *quote = Segment::new(header.src, header.dst);
    quote.protocol = carrier.protocol;
    transport(packet, at, end, carrier.fragment.offset != 0, protocol::ICMPV6, quote)
}

#[inline(always)]
fn transport<A, P: Packet>(
    packet: &P,
    at: u32,
    end: u32,
    is_rest: bool,
    icmp: u8,
    quote: &mut Segment<A>,
) -> bool {
    if at + QUOTED > end {
        return false;
    }
    if is_rest {
        quote.kind = Kind::Rest;
        return true;
    }
    let Some(words) = packet.load::<[u32; 2]>(at) else { return false };
    if quote.protocol == protocol::TCP || quote.protocol == protocol::UDP {
        quote.kind = if quote.protocol == protocol::TCP { Kind::Tcp } else { Kind::Udp };
        quote.set_ports(words[0]);
    } else if quote.protocol == icmp {
        quote.set_icmp(icmp, &Icmp::from_words(words));
    }
    true
}
