//! The packet of the model.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::interface::Direction::{Egress, Ingress};
use firewall_ebpf::backend::host::HostPacket;
use firewall_ebpf::wire::address::Address;
use firewall_ebpf::wire::headers::{Fragment, Kind, PacketHeaders};

use firewall_user::policy::Probe;

use super::numbers::Range;
use crate::decision::engine::FlowId;
use crate::decision::host::SLOT;
use crate::decision::packet::flags::{ACK, FIN, RST, SYN, URG};

/// A parsed packet of either family, ports in host byte order.
pub(super) struct ModelPacket {
    pub(super) direction: Direction,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) kind: Kind,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) rule_port: u16,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) payload: u32,
    pub(super) window: u16,
    /// Bytes of TCP options.
    options: usize,
    pub(super) hop_limit: u8,
    pub(super) fragment: Fragment,
    /// From the IP header on.
    pub(super) bytes: Vec<u8>,
    /// Offset of the transport header in [`Self::bytes`].
    pub(super) transport: usize,
}

impl ModelPacket {
    fn new<A: Copy>(
        packet: &HostPacket<'_>,
        segment: &PacketHeaders<A>,
        direction: Direction,
        ip: fn(A) -> IpAddr,
    ) -> Self {
        let at = |offset| usize::try_from(offset).expect("an offset");
        let end = at(segment.at + segment.length).min(packet.bytes.len());
        Self {
            bytes: packet.bytes[at(segment.ip)..end].to_vec(),
            transport: at(segment.at - segment.ip),
            direction,
            src: ip(segment.src),
            dst: ip(segment.dst),
            protocol: segment.protocol,
            kind: segment.kind,
            src_port: u16::from_be(segment.src_port()),
            dst_port: u16::from_be(segment.dst_port()),
            rule_port: segment.rule_port,
            flags: segment.tcp_flags,
            seq: segment.seq,
            ack: segment.ack,
            payload: segment.payload,
            window: segment.window,
            options: at(segment.options),
            hop_limit: segment.hop_limit,
            fragment: segment.fragment,
        }
    }

    /// The address of the other end.
    pub(super) const fn outside(&self) -> IpAddr {
        match self.direction {
            Ingress => self.src,
            Egress => self.dst,
        }
    }

    /// What rules and entries are evaluated for.
    pub(super) const fn probe(&self) -> Probe {
        let Self { direction, protocol, rule_port: port, .. } = *self;
        Probe { direction, outside: self.outside(), protocol, port }
    }

    /// Whether a TCP stack sends this combination of flags.
    pub(super) fn has_valid_flags(&self) -> bool {
        let without_urgent = self.flags & !URG;
        match without_urgent {
            SYN | ACK => true,
            _ if without_urgent == FIN | ACK => true,
            // These combinations carry no urgent data.
            flags => self.flags & URG == 0 && [SYN | ACK, RST, RST | ACK].contains(&flags),
        }
    }

    /// Whether it is TCP with exactly these of the flags SYN, ACK, FIN and RST.
    pub(super) fn is_tcp(&self, flags: u8) -> bool {
        self.kind == Kind::Tcp && self.flags & (SYN | ACK | FIN | RST) == flags
    }

    pub(super) fn is_rst(&self) -> bool {
        self.kind == Kind::Tcp && self.flags & RST != 0
    }

    /// The sequence number after the segment.
    pub(super) fn next_seq(&self) -> u32 {
        let has_syn_or_fin = self.flags & (SYN | FIN) != 0;
        self.seq.wrapping_add(self.payload).wrapping_add(u32::from(has_syn_or_fin))
    }

    /// The lowest and highest number that acknowledges this SYN, without and with its data.
    pub(super) const fn acknowledgements(&self) -> Range {
        let low = self.seq.wrapping_add(1);
        Range { low, high: low.wrapping_add(self.payload) }
    }

    /// The shift of the window scale option, if there is one (RFC 7323).
    pub(super) fn window_scale(&self) -> Option<u8> {
        let start = self.transport + 20;
        let mut options = self.bytes.get(start..start + self.options)?;
        // As many as fit.
        for _ in 0..40 {
            match *options {
                [1, ref rest @ ..] if !rest.is_empty() => options = rest,
                [3, 3, shift, ..] => return Some(shift.min(14)),
                [0, ..] | [_, 0 | 1, ..] => return None,
                [_, length, ..] => options = options.get(usize::from(length)..)?,
                _ => return None,
            }
        }
        None
    }

    /// The key of its flow.
    pub(super) fn id(&self) -> FlowId {
        let (inside, outside, inside_port, outside_port) = match self.direction {
            Ingress => (self.dst, self.src, self.dst_port, self.src_port),
            Egress => (self.src, self.dst, self.src_port, self.dst_port),
        };
        let is_from_inside = self.direction == Egress;
        let query = match self.kind {
            Kind::Request if is_from_inside => 1,
            Kind::Request => 2,
            Kind::Reply if is_from_inside => 2,
            Kind::Reply => 1,
            _ => 0,
        };
        let (slot, protocol) = (SLOT, self.protocol);
        FlowId { inside, outside, inside_port, outside_port, slot, protocol, query }
    }
}

/// A packet, and the packet embedded in an ICMP error.
pub(super) fn read<A: Address>(
    packet: &HostPacket<'_>,
    segment: &PacketHeaders<A>,
    direction: Direction,
    ip: fn(A) -> IpAddr,
) -> (ModelPacket, Option<ModelPacket>) {
    let mut embedded = *segment;
    let has_embedded =
        segment.kind == Kind::Error && A::parse_embedded(packet, segment, &mut embedded);
    let embedded =
        has_embedded.then(|| ModelPacket::new(packet, &embedded, direction.opposite(), ip));
    (ModelPacket::new(packet, segment, direction, ip), embedded)
}

pub(super) fn v4(address: V4) -> IpAddr {
    Ipv4Addr::from(address.to_ne_bytes()).into()
}

pub(super) fn v6([first, second]: V6) -> IpAddr {
    let bits = u128::from(first.to_be()) << 64 | u128::from(second.to_be());
    Ipv6Addr::from_bits(bits).into()
}
