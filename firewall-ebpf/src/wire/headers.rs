//! What the parser extracts from a packet.

use super::header::{Icmp, TCP, Tcp, Udp, protocol};
use super::tcp::{FIN, JUDGED_FLAGS, SYN};
use crate::abi::interface::Direction;

/// The fields of a packet's headers that the decision uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeaders<A> {
    /// Source address, network byte order.
    pub src: A,
    /// Destination address, network byte order.
    pub dst: A,
    /// IP protocol number of the transport header.
    pub protocol: u8,
    /// How flows treat the packet.
    pub kind: Kind,
    /// TCP flags, of which only [`JUDGED_FLAGS`] are kept.
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Which part of its packet this is.
    pub fragment: Fragment,
    /// Source and destination port in network byte order, in one word. An ICMP query has the identifier
    /// as the requester's port, and type and code of the request as the responder's. Else 0.
    pub ports: u32,
    /// The number that a rule's ports are compared with, host byte order: the destination port, or
    /// ICMP type and code as high and low byte; else 0.
    pub rule_port: u16,
    /// TCP sequence number, host byte order.
    pub seq: u32,
    /// TCP acknowledgement number, host byte order.
    pub ack: u32,
    /// TCP payload in bytes, without SYN and FIN.
    pub payload: u32,
    /// TCP window as announced, unscaled.
    pub window: u16,
    /// Bytes of TCP options.
    pub options: u32,
    /// Offset of the IP header in the frame.
    pub ip: u32,
    /// Offset of the transport header in the frame.
    pub at: u32,
    /// Bytes from there to the end of the packet.
    pub length: u32,
}

/// The place of a fragment in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes of the packet's payload before it.
    pub offset: u32,
    /// Bytes in it.
    pub length: u32,
    /// Whether others follow.
    pub more: bool,
    /// The identification field, network byte order.
    pub id: u32,
}

impl Fragment {
    /// A packet in one piece.
    pub const WHOLE: Self = Self { offset: 0, length: 0, more: false, id: 0 };
}

impl<A> PacketHeaders<A> {
    /// A packet of which only the addresses are known.
    #[must_use]
    #[inline(always)]
    pub const fn new(src: A, dst: A) -> Self {
        Self {
            src,
            dst,
            protocol: 0,
            kind: Kind::Other,
            tcp_flags: 0,
            hop_limit: 0,
            fragment: Fragment::WHOLE,
            ports: 0,
            rule_port: 0,
            seq: 0,
            ack: 0,
            payload: 0,
            window: 0,
            options: 0,
            ip: 0,
            at: 0,
            length: 0,
        }
    }

    /// Takes the fields of a TCP header; `payload` is the number of bytes after it.
    #[inline(always)]
    pub(super) fn set_tcp(&mut self, header: &Tcp, payload: u32) {
        self.kind = Kind::Tcp;
        self.tcp_flags = header.flags & JUDGED_FLAGS;
        self.set_ports(header.ports);
        self.seq = u32::from_be(header.seq);
        self.ack = u32::from_be(header.ack);
        self.payload = payload;
        self.window = u16::from_be(header.window);
        self.options = u32::from(header.offset >> 4) * 4 - TCP;
    }

    /// Takes the fields of a UDP header.
    #[inline(always)]
    pub(super) fn set_udp(&mut self, header: &Udp) {
        self.kind = Kind::Udp;
        self.set_ports(header.ports);
    }

    #[inline(always)]
    pub(super) fn set_ports(&mut self, ports: u32) {
        self.ports = ports;
        self.rule_port = u16::from_be(self.dst_port());
    }

    /// Takes the fields of an ICMP or ICMPv6 header; `protocol` is the IP protocol number of either.
    #[inline(always)]
    pub(super) fn set_icmp(&mut self, protocol: u8, header: &Icmp) {
        self.rule_port = u16::from(header.kind) << 8 | u16::from(header.code);
        self.kind = icmp_kind(protocol, header.kind);
        let id = u32::from(header.id);
        // As in the packet: type, then code.
        let code = u32::from(header.code) << 8;
        match self.kind {
            Kind::Request => self.ports = (code | u32::from(header.kind)) << 16 | id,
            Kind::Reply => self.ports = id << 16 | code | u32::from(request_type(header.kind)),
            _ => {}
        }
    }

    /// Of an ICMP or ICMPv6 message: its type.
    #[must_use]
    #[inline(always)]
    pub const fn icmp_type(&self) -> u8 {
        (self.rule_port >> 8) as u8
    }

    /// The [`Self::rule_port`] of the request that this packet replies to.
    #[must_use]
    #[inline(always)]
    pub const fn request_port(&self) -> u16 {
        // 0 where there are no ports.
        u16::from_be(self.src_port())
    }

    /// TCP: the sequence number that follows the segment; SYN and FIN count as one each.
    #[must_use]
    #[inline(always)]
    pub const fn next_seq(&self) -> u32 {
        let is_syn = self.tcp_flags & SYN != 0;
        let is_fin = self.tcp_flags & FIN != 0;
        self.seq.wrapping_add(self.payload).wrapping_add((is_syn | is_fin) as u32)
    }

    /// The address of the other end.
    #[must_use]
    #[inline(always)]
    pub const fn outside(&self, direction: Direction) -> A
    where
        A: Copy,
    {
        match direction {
            Direction::Ingress => self.src,
            Direction::Egress => self.dst,
        }
    }

    /// Source port, network byte order: see [`Self::ports`].
    #[must_use]
    #[inline(always)]
    pub const fn src_port(&self) -> u16 {
        (self.ports & 0xffff) as u16
    }

    /// Destination port, network byte order: see [`Self::ports`].
    #[must_use]
    #[inline(always)]
    pub const fn dst_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }
}

/// How flows treat a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 query, whose reply has the same identifier.
    Request,
    /// The reply to such a query.
    Reply,
    /// An ICMP or ICMPv6 error, which embeds the packet that caused it.
    Error,
    /// Any other ICMP or ICMPv6 message; it has no reply.
    Message,
    /// A fragment other than the first, without the transport header.
    LaterFragment,
    /// Any other protocol.
    Other,
}

/// The type of the request that a [`Kind::Reply`] of this type answers.
#[inline(always)]
const fn request_type(reply: u8) -> u8 {
    match reply {
        0 => 8,
        14 => 13,
        _ => 128,
    }
}

/// Echo and timestamp (RFC 792), echo (RFC 4443): the messages whose reply repeats an identifier.
/// Destination unreachable, packet too big, time exceeded and parameter problem are errors; source
/// quench is not (RFC 6633 deprecates it), and a redirect changes routes, not connections.
#[inline(always)]
const fn icmp_kind(icmp: u8, kind: u8) -> Kind {
    if icmp == protocol::ICMP {
        match kind {
            8 | 13 => Kind::Request,
            0 | 14 => Kind::Reply,
            3 | 11 | 12 => Kind::Error,
            _ => Kind::Message,
        }
    } else {
        match kind {
            128 => Kind::Request,
            129 => Kind::Reply,
            1..=4 => Kind::Error,
            _ => Kind::Message,
        }
    }
}
