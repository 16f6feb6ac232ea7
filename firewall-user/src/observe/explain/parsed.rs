//! What the parser of the kernel program finds in a frame.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::wire::headers::{Kind, PacketHeaders};
use firewall_ebpf::wire::packet::Packet as _;
use firewall_ebpf::wire::slice::HostPacket;
use firewall_ebpf::wire::{Frame, HeadersByFamily, parse, protocol};

use super::packet::{Numbers, Packet};
use crate::policy::Probe;

/// A frame of an IP packet.
#[derive(Clone, Debug)]
pub(super) struct Ip {
    /// The packet; of a later fragment without its ports.
    pub(super) packet: Packet,
    pub(super) kind: Kind,
    pub(super) numbers: Numbers,
    /// Bytes of a TCP segment's data.
    pub(super) payload: u32,
    /// Whether the packet is in fragments.
    pub(super) is_fragment: bool,
    /// See [`PacketHeaders::rule_port`].
    rule_port: u16,
}

/// A frame.
#[derive(Clone, Debug)]
pub(super) enum Parsed {
    Ip(Ip),
    /// Of this EtherType; 0 of 802.3 with LLC.
    NonIp(u16),
    /// Dropped, whatever the rules.
    Invalid,
}

/// The packet of a frame; `None` of one that is not IP, does not parse, or is a later fragment, which has no ports.
#[must_use]
pub fn packet_of(frame: &[u8], has_ethernet: bool) -> Option<Packet> {
    match Parsed::of(frame, has_ethernet) {
        Parsed::Ip(ip) if ip.kind != Kind::LaterFragment => Some(ip.packet),
        _ => None,
    }
}

impl Parsed {
    pub(super) fn of(frame: &[u8], has_ethernet: bool) -> Self {
        let packet = HostPacket { has_ethernet, ..HostPacket::ethernet(frame) };
        let mut headers = HeadersByFamily::new();
        match parse(&packet, &mut headers) {
            Ok(Frame::V4) => {
                let address = |raw: u32| IpAddr::from(raw.to_ne_bytes());
                Self::Ip(Ip::new(&packet, &headers.v4, address))
            }
            Ok(Frame::V6) => {
                let address = |[first, second]: [u64; 2]| {
                    let high = u128::from(u64::from_be(first)) << 64;
                    IpAddr::V6((high | u128::from(u64::from_be(second))).into())
                };
                Self::Ip(Ip::new(&packet, &headers.v6, address))
            }
            Ok(Frame::NonIp(ether_type)) => Self::NonIp(ether_type),
            Err(_) => Self::Invalid,
        }
    }

    pub(super) const fn ip(&self) -> Option<&Ip> {
        match self {
            Self::Ip(ip) => Some(ip),
            _ => None,
        }
    }
}

impl Ip {
    fn new<A: Copy>(
        frame: &HostPacket<'_>,
        headers: &PacketHeaders<A>,
        address: impl Fn(A) -> IpAddr,
    ) -> Self {
        let has_ports = matches!(headers.kind, Kind::Tcp | Kind::Udp);
        let ports = [headers.src_port(), headers.dst_port()].map(u16::from_be);
        let is_icmp = matches!(headers.protocol, protocol::ICMP | protocol::ICMPV6);
        // Those that the decision does not read too.
        let flags = frame.load::<[u8; 1]>(headers.at + 13).map(|[flags]| flags);
        let packet = Packet {
            protocol: headers.protocol,
            source: address(headers.src),
            destination: address(headers.dst),
            ports: if has_ports { ports } else { [0; 2] },
            icmp: if is_icmp { headers.rule_port.to_be_bytes() } else { [0; 2] },
            flags: flags.filter(|_| headers.kind == Kind::Tcp),
        };
        Self {
            packet,
            kind: headers.kind,
            numbers: Numbers { sequence: headers.seq, acknowledgement: headers.ack },
            payload: headers.payload,
            is_fragment: headers.kind == Kind::LaterFragment || headers.fragment.more,
            rule_port: headers.rule_port,
        }
    }

    /// The address of the other end.
    pub(super) const fn outside(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.packet.source,
            Direction::Egress => self.packet.destination,
        }
    }

    /// The address of the protected end.
    pub(super) const fn inside(&self, direction: Direction) -> IpAddr {
        self.outside(direction.opposite())
    }

    /// What a rule is compared with; `None` for a fragment without ports.
    pub(super) fn probe(&self, direction: Direction) -> Option<Probe> {
        let outside = self.outside(direction);
        let (protocol, port) = (self.packet.protocol, self.rule_port);
        (self.kind != Kind::LaterFragment).then_some(Probe { direction, outside, protocol, port })
    }

    /// The probe of the first packet of the flow that this one replies in.
    pub(super) fn request_probe(&self, direction: Direction) -> Option<Probe> {
        let probe = self.probe(direction)?;
        let port = match self.kind {
            Kind::Tcp | Kind::Udp => self.packet.ports[0],
            Kind::Reply => {
                let request = match (self.packet.source, self.packet.icmp[0]) {
                    (IpAddr::V4(_), 0) => 8,
                    (IpAddr::V4(_), _) => 13,
                    (IpAddr::V6(_), _) => 128,
                };
                u16::from_be_bytes([request, 0])
            }
            _ => probe.port,
        };
        Some(Probe { direction: direction.opposite(), port, ..probe })
    }

    /// The source port of TCP and UDP.
    pub(super) fn source_port(&self) -> Option<u16> {
        matches!(self.kind, Kind::Tcp | Kind::Udp).then_some(self.packet.ports[0])
    }
}
