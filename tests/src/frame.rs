//! Builds packets with checksums.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader};
use etherparse::{IpHeaders, Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep};

/// Destination and source MAC address: the inside host's, the outside host's.
const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// A datagram.
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let step = ip(from.ip(), to.ip()).udp(from.port(), to.port());
    step.write(&mut packet, data).expect("it fits");
    packet
}

/// A SYN.
#[must_use]
pub fn syn(from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    let step = ip(from.ip(), to.ip()).tcp(from.port(), to.port(), sequence, 64_000).syn();
    step.write(&mut packet, &[]).expect("it fits");
    packet
}

/// An echo request.
#[must_use]
pub fn echo_request(from: IpAddr, to: IpAddr, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let kind = if from.is_ipv4() { 8 } else { 128 };
    icmp(from, to, [kind, 0], [high, low, 0, 1], b"a 14-byte text")
}

/// An ICMP or ICMPv6 message: type and code, the rest of its header, and its payload.
#[must_use]
pub fn icmp(from: IpAddr, to: IpAddr, what: [u8; 2], rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let ([kind, code], step) = (what, ip(from, to));
    let written = if from.is_ipv4() {
        step.icmpv4_raw(kind, code, rest).write(&mut packet, data)
    } else {
        step.icmpv6_raw(kind, code, rest).write(&mut packet, data)
    };
    written.expect("it fits");
    packet
}

fn ip(from: IpAddr, to: IpAddr) -> PacketBuilderStep<IpHeaders> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// A fragment of a packet: a range of its IP payload, and the more-fragments flag.
#[must_use]
pub fn fragment(packet: &[u8], id: u16, bytes: Range<usize>, more: bool) -> Vec<u8> {
    let offset = u16::try_from(bytes.start / 8).expect("an offset in a packet");
    let offset = IpFragOffset::try_new(offset).expect("an offset in a packet");
    let mut fragment = Vec::new();
    if packet[0] >> 4 == 4 {
        let (mut header, payload) = Ipv4Header::from_slice(packet).expect("an IPv4 packet");
        let payload = &payload[bytes];
        header.identification = id;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = offset;
        header.set_payload_len(payload.len()).expect("it fits");
        header.header_checksum = header.calc_header_checksum();
        header.write(&mut fragment).expect("room in memory");
        fragment.extend(payload);
    } else {
        let (mut header, payload) = Ipv6Header::from_slice(packet).expect("an IPv6 packet");
        let payload = &payload[bytes];
        let extension = Ipv6FragmentHeader::new(header.next_header, offset, more, id.into());
        header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
        header.flow_label = Ipv6FlowLabel::ZERO;
        header.set_payload_length(extension.header_len() + payload.len()).expect("it fits");
        header.write(&mut fragment).expect("room in memory");
        extension.write(&mut fragment).expect("room in memory");
        fragment.extend(payload);
    }
    fragment
}

/// The Ethernet frame of a packet.
#[must_use]
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ether_type: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&ETHERNET, &ether_type[..], packet].concat()
}
