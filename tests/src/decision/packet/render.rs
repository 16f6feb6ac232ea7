//! Renders a packet of a case table to its bytes in a scenario.

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header,
    SingleVlanHeader, VlanId,
};
use firewall_ebpf::abi::interface::Direction;

use super::{Body, Extension, Layer, Packet};
use crate::decision::scenario::{Family, Role, Scenario};

/// The MAC address of the protected end, a locally administered one.
pub const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The MAC address of the other end.
const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Packet {
    /// The direction of the packet in a scenario.
    #[must_use]
    pub const fn direction(&self, scenario: &Scenario) -> Direction {
        scenario.direction(self.from)
    }

    /// The whole Ethernet frame.
    #[must_use]
    pub fn frame(&self, scenario: &Scenario) -> Vec<u8> {
        let mut frame = self.link_header(scenario);
        frame.extend(self.ip(scenario));
        frame
    }

    /// The frame without its Ethernet header and tags, as from a tun device.
    #[must_use]
    pub fn ip(&self, scenario: &Scenario) -> Vec<u8> {
        if let Body::Link(_) = self.body {
            let mut payload = vec![0; self.data];
            for (_, at, bytes) in &self.edits {
                payload[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            return payload;
        }
        let mut transport = self.transport(scenario);
        if let Some(bytes) = self.cut_payload {
            transport.truncate(bytes);
        }
        let (mut packet, at) = match self.addresses(scenario) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.v4(src.octets(), dst.octets(), &transport),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.v6(src.octets(), dst.octets(), &transport),
            ends => unreachable!("a scenario has one family, not {ends:?}"),
        };
        for (layer, offset, bytes) in &self.edits {
            let start = offset + if *layer == Layer::Ip { 0 } else { at };
            packet[start..start + bytes.len()].copy_from_slice(bytes);
        }
        packet.resize(packet.len() + self.padding, 0);
        packet
    }

    /// Source and destination.
    fn addresses(&self, scenario: &Scenario) -> (IpAddr, IpAddr) {
        match self.direction(scenario) {
            Direction::Ingress => (scenario.outside(self.outside), scenario.inside()),
            Direction::Egress => (scenario.inside(), scenario.outside(self.outside)),
        }
    }

    fn link_header(&self, scenario: &Scenario) -> Vec<u8> {
        let inner = match (&self.body, scenario.family) {
            (Body::Link(ether_type), _) => EtherType(*ether_type),
            (_, Family::V4) => EtherType::IPV4,
            (_, Family::V6) => EtherType::IPV6,
        };
        let (source, destination) = match self.direction(scenario) {
            Direction::Ingress => (OUTSIDE_MAC, INSIDE_MAC),
            Direction::Egress => (INSIDE_MAC, OUTSIDE_MAC),
        };
        let source = self.from_mac.unwrap_or(source);
        let destination = self.to_mac.unwrap_or(destination);
        let types: Vec<_> = self.tags.iter().map(|&tag| EtherType(tag)).chain([inner]).collect();
        let ethernet = Ethernet2Header { source, destination, ether_type: types[0] };
        let mut bytes = ethernet.to_bytes().to_vec();
        for &ether_type in &types[1..] {
            let vlan_id = VlanId::try_new(7).expect("a VLAN number");
            let tag = SingleVlanHeader { vlan_id, ether_type, ..SingleVlanHeader::default() };
            bytes.extend(tag.to_bytes());
        }
        bytes
    }

    /// The packet, and the offset of its transport header.
    fn v4(&self, source: [u8; 4], destination: [u8; 4], transport: &[u8]) -> (Vec<u8>, usize) {
        let (offset, more) = self.fragment.unwrap_or((0, false));
        let mut header = Ipv4Header {
            time_to_live: self.hop_limit,
            protocol: IpNumber(self.protocol(Family::V4)),
            source,
            destination,
            identification: 0x5347,
            dont_fragment: self.fragment.is_none(),
            more_fragments: more,
            fragment_offset: IpFragOffset::try_new(offset).expect("13 bits"),
            // NOP.
            options: Ipv4Options::try_from(&vec![1; self.options][..]).expect("words, at most 40"),
            ..Ipv4Header::default()
        };
        header.set_payload_len(transport.len()).expect("at most 64 KiB");
        header.header_checksum = header.calc_header_checksum();
        let mut bytes = header.to_bytes().to_vec();
        let at = bytes.len();
        bytes.extend(transport);
        (bytes, at)
    }

    /// The packet, and the offset of its transport header.
    fn v6(&self, source: [u8; 16], destination: [u8; 16], transport: &[u8]) -> (Vec<u8>, usize) {
        let mut chain = self.extensions.clone();
        chain.extend(self.fragment.map(|(offset, more)| Extension::fragment(offset, more)));
        let mut next = self.protocol(Family::V6);
        for header in chain.iter_mut().rev() {
            header.bytes[0] = next;
            next = header.number;
        }
        let extensions: Vec<u8> = chain.into_iter().flat_map(|header| header.bytes).collect();
        let payload = extensions.len() + transport.len();
        let header = Ipv6Header {
            payload_length: u16::try_from(payload).expect("at most 64 KiB"),
            next_header: IpNumber(next),
            hop_limit: self.hop_limit,
            source,
            destination,
            ..Ipv6Header::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(extensions);
        let at = bytes.len();
        bytes.extend(transport);
        (bytes, at)
    }

    const fn protocol(&self, family: Family) -> u8 {
        match (&self.body, family) {
            (Body::Tcp { .. }, _) => 6,
            (Body::Udp, _) => 17,
            (Body::Icmp { .. } | Body::Error { .. }, Family::V4) => 1,
            (Body::Icmp { .. } | Body::Error { .. }, Family::V6) => 58,
            (Body::Raw(protocol), _) => *protocol,
            (Body::Link(_), _) => 255,
        }
    }

    /// Transport header and data. Without a library, because cases need invalid fields.
    fn transport(&self, scenario: &Scenario) -> Vec<u8> {
        let (src, dst) = match self.from {
            Role::Client => (self.client_port, self.server_port),
            Role::Server => (self.server_port, self.client_port),
        };
        let mut bytes = Vec::new();
        match &self.body {
            Body::Error { v4, v6, about, embedded } => {
                let (kind, code) = if scenario.family == Family::V4 { v4 } else { v6 };
                bytes.extend([*kind, *code, 0, 0, 0, 0, 5, 0x78]);
                let all = about.ip(scenario);
                let transport = about.transport(scenario).len();
                bytes.extend(&all[..all.len() - transport + embedded.min(&transport)]);
            }
            &Body::Tcp { flags, seq, ack, options } => {
                bytes.extend(src.to_be_bytes());
                bytes.extend(dst.to_be_bytes());
                bytes.extend(seq.to_be_bytes());
                bytes.extend(ack.to_be_bytes());
                bytes.extend([(5 + options) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.resize(20 + usize::from(options) * 4, 1);
            }
            Body::Udp => {
                let length = u16::try_from(8 + self.data).expect("at most 64 KiB");
                bytes.extend(src.to_be_bytes());
                bytes.extend(dst.to_be_bytes());
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0]);
            }
            &Body::Icmp { v4, v6, id } => {
                let (kind, code) = if scenario.family == Family::V4 { v4 } else { v6 };
                let [high, low] = id.to_be_bytes();
                bytes.extend([kind, code, 0, 0, high, low, 0, 1]);
            }
            Body::Raw(_) | Body::Link(_) => {}
        }
        bytes.resize(bytes.len() + self.data, 0x5a);
        bytes
    }
}
