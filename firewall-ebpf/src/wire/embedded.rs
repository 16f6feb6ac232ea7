//! The packet embedded in an ICMP error (RFC 792, RFC 4443; RFC 5508 names it so).

use super::header::{IPV4, IPV6, Icmp, Ipv4, Ipv6, protocol};
use super::headers::{Fragment, Kind, PacketHeaders};
use super::packet::Packet;
use super::parse::{IpPayload, extensions};
use crate::abi::address::{V4, V6};

/// Bytes of the transport header that every error embeds at least (RFC 792): ports, or an ICMP header.
const MIN_TRANSPORT: u32 = 8;
/// Bytes of the ICMP header before the embedded packet.
const OFFSET: u32 = 8;

/// Parses the packet embedded in an ICMP error; returns `false` if it is not an IPv4 packet that the
/// receiver of the error sent, or ends before the eighth byte of its transport header. A fragment other
/// than the first is of [`Kind::LaterFragment`].
#[inline(always)]
pub(super) fn parse_v4<P: Packet>(
    packet: &P,
    error: &PacketHeaders<V4>,
    embedded: &mut PacketHeaders<V4>,
) -> bool {
    let (at, end) = (error.at + OFFSET, error.at + error.length);
    let Some(header) = packet.load::<Ipv4>(at) else { return false };
    let header_length = u32::from(header.version_ihl & 0xf) * 4;
    // Any node on the path may send the error, but only to the source of the packet.
    if header.version_ihl >> 4 != 4 || header_length < IPV4 || header.src != error.dst {
        return false;
    }
    *embedded = PacketHeaders::new(error.dst, header.dst);
    embedded.protocol = header.protocol;
    let is_later = u16::from_be(header.fragment) & 0x1fff != 0;
    transport(packet, at + header_length, end, is_later, protocol::ICMP, embedded)
}

/// The same for an ICMPv6 error.
#[inline(always)]
pub(super) fn parse_v6<P: Packet>(
    packet: &P,
    error: &PacketHeaders<V6>,
    embedded: &mut PacketHeaders<V6>,
) -> bool {
    let (at, end) = (error.at + OFFSET, error.at + error.length);
    let Some(header) = packet.load::<Ipv6>(at) else { return false };
    // Compared before the headers are walked, so that one address fewer is kept meanwhile.
    if header.version >> 4 != 6 || at + IPV6 > end || header.src != error.dst {
        return false;
    }
    let mut payload = IpPayload {
        src: header.src,
        dst: header.dst,
        protocol: header.next,
        hop_limit: header.hop_limit,
        fragment: Fragment::WHOLE,
        // The bytes that are embedded; the packet may have had more.
        length: end - at - IPV6,
    };
    let Ok(at) = extensions(packet, at + IPV6, &mut payload) else { return false };
    *embedded = PacketHeaders::new(error.dst, header.dst);
    embedded.protocol = payload.protocol;
    transport(packet, at, end, payload.fragment.offset != 0, protocol::ICMPV6, embedded)
}

#[inline(always)]
fn transport<A, P: Packet>(
    packet: &P,
    at: u32,
    end: u32,
    is_later: bool,
    icmp: u8,
    embedded: &mut PacketHeaders<A>,
) -> bool {
    if at + MIN_TRANSPORT > end {
        return false;
    }
    if is_later {
        embedded.kind = Kind::LaterFragment;
        return true;
    }
    let Some(words) = packet.load::<[u32; 2]>(at) else { return false };
    if embedded.protocol == protocol::TCP || embedded.protocol == protocol::UDP {
        embedded.kind = if embedded.protocol == protocol::TCP { Kind::Tcp } else { Kind::Udp };
        embedded.set_ports(words[0]);
    } else if embedded.protocol == icmp {
        embedded.set_icmp(icmp, &Icmp::from_words(words));
    }
    true
}
