//! Fuzzes the parser with frames.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use firewall_ebpf::abi::flow::NO_SCALE;
use firewall_ebpf::abi::limits::MAX_VLAN_TAGS;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::backend::host::HostPacket;
use firewall_ebpf::wire;
use firewall_ebpf::wire::address::Address;
use firewall_ebpf::wire::headers::{Fragment, Kind, PacketHeaders};
use firewall_ebpf::wire::{Frame, HeadersByFamily};

/// Bytes of an input before its frame.
const SETTINGS: usize = 3;

/// Parses a frame. The first byte of the input selects the device type and whether the frame gets a
/// valid IP header, the next two the length of its linear data.
///
/// # Panics
/// If the two parsers of a frame differ, or if a parsed packet exceeds the frame.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let Some((&[kind, low, high], frame)) = input.split_first_chunk::<SETTINGS>() else { return 0 };
    let mut frame = frame.to_vec();
    let has_ethernet = kind & 1 == 0;
    write_ip_header(&mut frame, kind >> 4, if has_ethernet { 14 } else { 0 });
    let linear = usize::from(u16::from_le_bytes([low, high])) % (frame.len() + 1);
    let metadata_tags = u32::from(kind >> 1 & 3);
    let segmented = kind & 8 != 0;
    let packet = HostPacket { bytes: &frame, linear, has_ethernet, metadata_tags, segmented };

    // Without linear data only the general parser runs, not the one for common frames.
    let general = read(&HostPacket { linear: 0, ..packet });
    assert_same(read(&packet), general, &packet);
    assert_same(read(&HostPacket { linear: frame.len(), ..packet }), general, &packet);
    let (found, segments) = general;
    match found {
        Ok(Frame::V4) => check(&packet, &segments.v4),
        Ok(Frame::V6) => check(&packet, &segments.v6),
        Ok(Frame::NonIp(_)) | Err(_) => {}
    }
    if metadata_tags == 0 && has_ethernet {
        assert_agrees_with_etherparse(&frame, found, &segments);
    }
    3
}

/// Writes parts of a valid IP header into a frame, so that inputs reach most of the parser.
fn write_ip_header(frame: &mut [u8], how: u8, at: usize) {
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

type Parsed = (Result<Frame, Reason>, HeadersByFamily);

fn read(packet: &HostPacket<'_>) -> Parsed {
    let mut segments = HeadersByFamily::new();
    let found = wire::parse(packet, &mut segments);
    (found, segments)
}

fn assert_same(one: Parsed, general: Parsed, packet: &HostPacket<'_>) {
    // Only the general parser counts offloaded VLAN tags. The one for common frames leaves frames
    // with a tag in their data to the general one, and a device never offloads more than one tag.
    if packet.metadata_tags > MAX_VLAN_TAGS && general.0 == Err(Reason::VlanDepth) {
        return;
    }
    assert_eq!(one.0, general.0, "{packet:?}");
    match one.0 {
        Ok(Frame::V4) => {
            assert_eq!(without_fragment(one.1.v4), without_fragment(general.1.v4), "{packet:?}");
        }
        Ok(Frame::V6) => {
            assert_eq!(without_fragment(one.1.v6), without_fragment(general.1.v6), "{packet:?}");
        }
        Ok(Frame::NonIp(_)) | Err(_) => {}
    }
}

/// The parser for common frames does not store the length and identification of unfragmented
/// packets.
fn without_fragment<A>(mut segment: PacketHeaders<A>) -> PacketHeaders<A> {
    if segment.fragment.offset == 0 && !segment.fragment.more {
        segment.fragment = Fragment::WHOLE;
    }
    segment
}

/// The invariants of every parsed packet.
fn check<A: Address>(packet: &HostPacket<'_>, segment: &PacketHeaders<A>) {
    let size = u32::try_from(packet.bytes.len()).expect("a frame");
    let end = segment.at + segment.length;
    assert!(end <= size, "the packet ends at {end}: {packet:?}");
    match segment.kind {
        Kind::Tcp => {
            assert_eq!(segment.protocol, 6, "{packet:?}");
            assert_eq!(20 + segment.options + segment.payload, segment.length, "{packet:?}");
            assert!(segment.options <= 40, "{packet:?}");
            let scale = wire::window_scale(packet, segment);
            assert!(scale <= 14 || scale == NO_SCALE, "window scale {scale}: {packet:?}");
        }
        Kind::Udp => assert!(segment.protocol == 17 && segment.length >= 8, "{packet:?}"),
        Kind::Error => {
            let mut embedded = *segment;
            if A::parse_embedded(packet, segment, &mut embedded) {
                assert!(
                    segment.length >= 8 + 20 + 8,
                    "the embedded packet is too short: {packet:?}"
                );
            }
        }
        Kind::LaterFragment => {
            assert!(segment.fragment.offset > 0 && segment.ports == 0, "{packet:?}");
            assert!(segment.fragment.offset + segment.fragment.length <= 65_535, "{packet:?}");
        }
        Kind::Request => {
            assert_eq!(u16::from_be(segment.dst_port()), segment.rule_port, "{packet:?}");
        }
        Kind::Reply => {
            let [kind, code] = segment.request_port().to_be_bytes();
            let request = match segment.rule_port >> 8 {
                0 => 8,
                14 => 13,
                _ => 128,
            };
            assert_eq!((kind, u16::from(code)), (request, segment.rule_port & 0xff), "{packet:?}");
        }
        Kind::Message | Kind::Other => assert_eq!(segment.ports, 0, "{packet:?}"),
    }
    if segment.length > 0 {
        let end = usize::try_from(end - 1).expect("within the frame");
        let truncated = HostPacket { bytes: &packet.bytes[..end], ..*packet };
        assert!(read(&truncated).0.is_err(), "parses without its last byte: {packet:?}");
    }
}

/// Compares with the parser of etherparse, if that accepts the frame.
fn assert_agrees_with_etherparse(
    frame: &[u8],
    found: Result<Frame, Reason>,
    segments: &HeadersByFamily,
) {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return };
    // An authentication header in IPv4 is not parsed: rules match its protocol number.
    if found == Ok(Frame::V4) && segments.v4.protocol == 51 {
        return;
    }
    // Mobility and HIP headers are not skipped: rules match their protocol numbers.
    if found == Ok(Frame::V6) && matches!(segments.v6.protocol, 135 | 139) {
        return;
    }
    let (src, dst, fields) = match (found, &sliced.net) {
        (Ok(Frame::V4), Some(NetSlice::Ipv4(ip))) => {
            let header = ip.header();
            let src = u32::from_ne_bytes(header.source()) == segments.v4.src;
            let dst = u32::from_ne_bytes(header.destination()) == segments.v4.dst;
            (src, dst, Fields::from(&segments.v4))
        }
        (Ok(Frame::V6), Some(NetSlice::Ipv6(ip))) => {
            let header = ip.header();
            let src = header.source() == octets(segments.v6.src);
            let dst = header.destination() == octets(segments.v6.dst);
            (src, dst, Fields::from(&segments.v6))
        }
        (Ok(Frame::V4 | Frame::V6), net) => panic!("IP, but etherparse has {net:?}: {frame:?}"),
        (Ok(Frame::NonIp(_)), Some(NetSlice::Ipv4(_) | NetSlice::Ipv6(_))) => {
            panic!("not IP, but IP for etherparse: {frame:?}")
        }
        _ => return,
    };
    assert!(src && dst, "the addresses differ from etherparse: {frame:?}");
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = u32::from(tcp.fin())
                | u32::from(tcp.syn()) << 1
                | u32::from(tcp.rst()) << 2
                | u32::from(tcp.ack()) << 4
                | u32::from(tcp.urg()) << 5;
            assert_eq!(fields.kind, Kind::Tcp, "{frame:?}");
            assert_eq!(fields.ports, (tcp.source_port(), tcp.destination_port()), "{frame:?}");
            assert_eq!(u32::from(fields.flags), flags, "{frame:?}");
            let numbers = (tcp.sequence_number(), tcp.acknowledgment_number());
            assert_eq!(fields.numbers, numbers, "{frame:?}");
            assert_eq!(usize::try_from(fields.payload), Ok(tcp.payload().len()), "{frame:?}");
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(fields.kind, Kind::Udp, "{frame:?}");
            assert_eq!(fields.ports, (udp.source_port(), udp.destination_port()), "{frame:?}");
        }
        // ICMPv6 in IPv4 and ICMP in IPv6 are protocols without types.
        Some(TransportSlice::Icmpv4(icmp)) if matches!(found, Ok(Frame::V4)) => {
            assert_eq!(
                fields.rule_port.to_be_bytes(),
                [icmp.type_u8(), icmp.code_u8()],
                "{frame:?}"
            );
        }
        Some(TransportSlice::Icmpv6(icmp)) if matches!(found, Ok(Frame::V6)) => {
            assert_eq!(
                fields.rule_port.to_be_bytes(),
                [icmp.type_u8(), icmp.code_u8()],
                "{frame:?}"
            );
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

/// The compared fields of a packet of either family.
struct Fields {
    kind: Kind,
    ports: (u16, u16),
    rule_port: u16,
    flags: u8,
    numbers: (u32, u32),
    payload: u32,
}

impl<A> From<&PacketHeaders<A>> for Fields {
    fn from(segment: &PacketHeaders<A>) -> Self {
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
