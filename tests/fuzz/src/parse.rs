//! Frames against the parser.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use firewall_ebpf::flow::Address;
use firewall_ebpf::host::HostPacket;
use firewall_ebpf::limits::MAX_VLAN_TAGS;
use firewall_ebpf::parse::{self, Fragment, Frame, Kind, Segment, Segments};
use firewall_ebpf::reason::Reason;

/// Bytes of an input before its frame.
const SETTINGS: usize = 3;

/// Tries a frame. The first byte of the input says what kind of device it is for and whether it is
/// made to look like IP, the next two how much of it is in the linear head.
///
/// # Panics
/// If the two readings of a frame differ, or if what was read is not in the frame.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let Some((&[kind, low, high], frame)) = input.split_first_chunk::<SETTINGS>() else { return 0 };
    let mut frame = frame.to_vec();
    let has_ethernet = kind & 1 == 0;
    dress(&mut frame, kind >> 4, if has_ethernet { 14 } else { 0 });
    let linear = usize::from(u16::from_le_bytes([low, high])) % (frame.len() + 1);
    let tags_beside = u32::from(kind >> 1 & 3);
    let packet = HostPacket { bytes: &frame, linear, has_ethernet, tags_beside };

    // Nothing in the head: the common frame cannot be read, so all is left to the second reading.
    let apart = read(&HostPacket { linear: 0, ..packet });
    assert_same(read(&packet), apart, &packet);
    assert_same(read(&HostPacket { linear: frame.len(), ..packet }), apart, &packet);
    let (found, segments) = apart;
    match found {
        Ok(Frame::V4) => examine(&packet, &segments.v4),
        Ok(Frame::V6) => examine(&packet, &segments.v6),
        Ok(Frame::NonIp(_)) | Err(_) => {}
    }
    if tags_beside == 0 && has_ethernet {
        assert_agrees_with_etherparse(&frame, found, &segments);
    }
    3
}

/// Makes a frame look like what is behind most of the parser, so that not only luck gets there.
fn dress(frame: &mut [u8], how: u8, at: usize) {
    let (ether_type, is_v4) = match how & 3 {
        1 => (0x0800_u16, true),
        2 => (0x86dd, false),
        _ => return,
    };
    if frame.len() < at + 40 {
        return;
    }
    if at >= 14 {
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
    }
    let size = frame.len() - at - if is_v4 { 0 } else { 40 };
    let size = u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes();
    let (length, protocol) = if is_v4 { (2, 9) } else { (4, 6) };
    frame[at] = if is_v4 { 0x40 | frame[at] & 0xf } else { 0x60 | frame[at] & 0xf };
    frame[at + length..at + length + 2].copy_from_slice(&size);
    if how & 4 != 0 {
        let known = [6, 17, if is_v4 { 1 } else { 58 }, 0, 43, 44, 51, 60];
        frame[at + protocol] = known[usize::from(frame[at + protocol] & 7)];
    }
    if is_v4 && how & 8 != 0 {
        frame[at] = 0x45;
        frame[at + 6] &= 0xc0;
        frame[at + 7] = 0;
    }
}

type Reading = (Result<Frame, Reason>, Segments);

fn read(packet: &HostPacket<'_>) -> Reading {
    let mut segments = Segments::new();
    let found = parse::parse(packet, &mut segments);
    (found, segments)
}

fn assert_same(one: Reading, apart: Reading, packet: &HostPacket<'_>) {
    // Only the second reading counts tags beside the frame. The first leaves a frame with a tag in
    // it to the second, and more than one is never beside.
    if packet.tags_beside > MAX_VLAN_TAGS && apart.0 == Err(Reason::VlanDepth) {
        return;
    }
    assert_eq!(one.0, apart.0, "{packet:?}");
    match one.0 {
        Ok(Frame::V4) => assert_eq!(whole(one.1.v4), whole(apart.1.v4), "{packet:?}"),
        Ok(Frame::V6) => assert_eq!(whole(one.1.v6), whole(apart.1.v6), "{packet:?}"),
        Ok(Frame::NonIp(_)) | Err(_) => {}
    }
}

/// Of a packet in one piece the common reading keeps neither length nor identification.
fn whole<A>(mut segment: Segment<A>) -> Segment<A> {
    if segment.fragment.offset == 0 && !segment.fragment.more {
        segment.fragment = Fragment::WHOLE;
    }
    segment
}

/// What holds for every packet that parses.
fn examine<A: Address>(packet: &HostPacket<'_>, segment: &Segment<A>) {
    let size = u32::try_from(packet.bytes.len()).expect("a frame");
    let end = segment.at + segment.length;
    assert!(end <= size, "the packet ends at {end}: {packet:?}");
    match segment.kind {
        Kind::Tcp => {
            assert_eq!(segment.protocol, 6, "{packet:?}");
            assert_eq!(20 + segment.options + segment.payload, segment.length, "{packet:?}");
            assert!(segment.options <= 40, "{packet:?}");
            let scale = parse::window_scale(packet, segment);
            assert!(scale <= 14 || scale == u8::MAX, "window scale {scale}: {packet:?}");
        }
        Kind::Udp => assert!(segment.protocol == 17 && segment.length >= 8, "{packet:?}"),
        Kind::Error => {
            let mut quote = *segment;
            if A::quoted(packet, segment, &mut quote) {
                assert!(segment.length >= 8 + 20 + 8, "quotes too little: {packet:?}");
            }
        }
        Kind::Rest => {
            assert!(segment.fragment.offset > 0 && segment.ports == 0, "{packet:?}");
            assert!(segment.fragment.offset + segment.fragment.length <= 65_535, "{packet:?}");
        }
        Kind::Request | Kind::Reply => {
            assert_eq!(segment.src_port(), segment.dst_port(), "{packet:?}");
        }
        Kind::Message | Kind::Other => assert_eq!(segment.ports, 0, "{packet:?}"),
    }
    if segment.length > 0 {
        let cut = usize::try_from(end - 1).expect("within the frame");
        let cut = HostPacket { bytes: &packet.bytes[..cut], ..*packet };
        assert!(read(&cut).0.is_err(), "parses without its last byte: {packet:?}");
    }
}

/// A stranger's parser, where it takes the frame too.
fn assert_agrees_with_etherparse(frame: &[u8], found: Result<Frame, Reason>, segments: &Segments) {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return };
    // Behind an authentication header in IPv4 we do not look: its number is what a rule names.
    if found == Ok(Frame::V4) && segments.v4.protocol == 51 {
        return;
    }
    let (src, dst, seen) = match (found, &sliced.net) {
        (Ok(Frame::V4), Some(NetSlice::Ipv4(ip))) => {
            let header = ip.header();
            let src = u32::from_ne_bytes(header.source()) == segments.v4.src;
            let dst = u32::from_ne_bytes(header.destination()) == segments.v4.dst;
            (src, dst, Seen::from(&segments.v4))
        }
        (Ok(Frame::V6), Some(NetSlice::Ipv6(ip))) => {
            let header = ip.header();
            let src = header.source() == octets(segments.v6.src);
            let dst = header.destination() == octets(segments.v6.dst);
            (src, dst, Seen::from(&segments.v6))
        }
        (Ok(Frame::V4 | Frame::V6), net) => panic!("we read IP, etherparse {net:?}: {frame:?}"),
        (Ok(Frame::NonIp(_)), Some(NetSlice::Ipv4(_) | NetSlice::Ipv6(_))) => {
            panic!("etherparse reads IP, we do not: {frame:?}")
        }
        _ => return,
    };
    assert!(src && dst, "other addresses than etherparse: {frame:?}");
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = u32::from(tcp.fin())
                | u32::from(tcp.syn()) << 1
                | u32::from(tcp.rst()) << 2
                | u32::from(tcp.ack()) << 4
                | u32::from(tcp.urg()) << 5;
            assert_eq!(seen.kind, Kind::Tcp, "{frame:?}");
            assert_eq!(seen.ports, (tcp.source_port(), tcp.destination_port()), "{frame:?}");
            assert_eq!(u32::from(seen.flags), flags, "{frame:?}");
            let numbers = (tcp.sequence_number(), tcp.acknowledgment_number());
            assert_eq!(seen.numbers, numbers, "{frame:?}");
            assert_eq!(usize::try_from(seen.payload), Ok(tcp.payload().len()), "{frame:?}");
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(seen.kind, Kind::Udp, "{frame:?}");
            assert_eq!(seen.ports, (udp.source_port(), udp.destination_port()), "{frame:?}");
        }
        // An ICMPv6 message in IPv4, or the other way, has no types to us.
        Some(TransportSlice::Icmpv4(icmp)) if matches!(found, Ok(Frame::V4)) => {
            assert_eq!(seen.rule_port.to_be_bytes(), [icmp.type_u8(), icmp.code_u8()], "{frame:?}");
        }
        Some(TransportSlice::Icmpv6(icmp)) if matches!(found, Ok(Frame::V6)) => {
            assert_eq!(seen.rule_port.to_be_bytes(), [icmp.type_u8(), icmp.code_u8()], "{frame:?}");
        }
        _ => {}
    }
}

fn octets([first, second]: [u64; 2]) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&first.to_ne_bytes());
    octets[8..].copy_from_slice(&second.to_ne_bytes());
    octets
}

/// A segment without its family.
struct Seen {
    kind: Kind,
    ports: (u16, u16),
    rule_port: u16,
    flags: u8,
    numbers: (u32, u32),
    payload: u32,
}

impl<A> From<&Segment<A>> for Seen {
    fn from(segment: &Segment<A>) -> Self {
        Self {
            kind: segment.kind,
            ports: (u16::from_be(segment.src_port()), u16::from_be(segment.dst_port())),
            rule_port: segment.rule_port,
            flags: segment.tcp_flags,
            numbers: (segment.seq, segment.ack),
            payload: segment.payload,
        }
    }
}
