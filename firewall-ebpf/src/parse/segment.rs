//! What was read from a packet.

use super::header::{Icmp, TCP, Tcp, Udp, protocol};

/// A transport segment or message, with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<A> {
    /// Source address, network byte order.
    pub src: A,
    /// Destination address, network byte order.
    pub dst: A,
    /// IP protocol number of the transport header.
    pub protocol: u8,
    /// What the protocol means to a flow.
    pub kind: Kind,
    /// TCP flags without ECE and CWR; see [`crate::tcp`].
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// What part of a packet this is.
    pub fragment: Fragment,
    /// Source and destination port as they lie in the packet, in one word; of an ICMP query its
    /// identifier twice; else 0.
    pub ports: u32,
    /// What a rule's ports are compared with, host byte order: the destination port, or ICMP
    /// type and code as high and low byte; else 0.
    pub rule_port: u16,
    /// TCP sequence number, host byte order.
    pub seq: u32,
    /// TCP acknowledgement number, host byte order.
    pub ack: u32,
    /// TCP payload in bytes; SYN and FIN are not counted.
    pub payload: u32,
    /// TCP window as announced, unscaled.
    pub window: u16,
    /// Bytes of TCP options.
    pub options: u32,
    /// Where the transport header begins in the frame.
    pub at: u32,
    /// Bytes from there to the end of the packet.
    pub length: u32,
}

/// The place of a fragment in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes of the packet before it.
    pub offset: u32,
    /// Bytes in it.
    pub length: u32,
    /// Whether others follow.
    pub more: bool,
    /// What identifies the packet, as it lies there.
    pub id: u32,
}

impl Fragment {
    /// A packet in one piece.
    pub const WHOLE: Self = Self { offset: 0, length: 0, more: false, id: 0 };
}

impl<A> Segment<A> {
    /// A packet of which no more than its addresses is known.
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
            at: 0,
            length: 0,
        }
    }

    /// Takes what a TCP header says; `payload` is what follows it, in bytes.
    #[inline(always)]
    pub(super) fn set_tcp(&mut self, header: &Tcp, payload: u32) {
        self.kind = Kind::Tcp;
        self.tcp_flags = header.flags & crate::tcp::JUDGED_FLAGS;
        self.set_ports(header.ports);
        self.seq = u32::from_be(header.seq);
        self.ack = u32::from_be(header.ack);
        self.payload = payload;
        self.window = u16::from_be(header.window);
        self.options = u32::from(header.offset >> 4) * 4 - TCP;
    }

    /// Takes what a UDP header says.
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

    /// Takes what the header of an ICMP message says; `protocol` tells the family's.
    #[inline(always)]
    pub(super) fn set_icmp(&mut self, protocol: u8, header: &Icmp) {
        self.rule_port = u16::from(header.kind) << 8 | u16::from(header.code);
        self.kind = icmp_kind(protocol, header.kind);
        if matches!(self.kind, Kind::Request | Kind::Reply) {
            self.ports = u32::from(header.id) << 16 | u32::from(header.id);
        }
    }

    /// Of an answer, the [`Self::rule_port`] of what it answers.
    #[must_use]
    #[inline(always)]
    pub const fn asked_port(&self) -> u16 {
        match self.kind {
            // The request's type, with code 0: see `icmp_kind`.
            Kind::Reply => match self.rule_port >> 8 {
                0 => 8 << 8,
                14 => 13 << 8,
                _ => 128 << 8,
            },
            // 0 where there are no ports.
            _ => u16::from_be(self.src_port()),
        }
    }

    /// Source port, network byte order; of an ICMP query its identifier; else 0.
    #[must_use]
    #[inline(always)]
    pub const fn src_port(&self) -> u16 {
        (self.ports & 0xffff) as u16
    }

    /// Destination port, network byte order; of an ICMP query its identifier; else 0.
    #[must_use]
    #[inline(always)]
    pub const fn dst_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }
}

/// What a protocol means to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An ICMP or ICMPv6 message that asks for a reply with the same identifier.
    Request,
    /// Such a reply.
    Reply,
    /// An ICMP or ICMPv6 message that quotes the packet it is about.
    Error,
    /// Any other ICMP or ICMPv6 message: nothing answers to it.
    Message,
    /// A fragment other than the first: its transport header is elsewhere.
    Rest,
    /// Any other protocol.
    Other,
}

/// Echo and timestamp (RFC 792), echo (RFC 4443): the messages whose reply repeats an identifier.
/// Destination unreachable, packet too big, time exceeded and parameter problem are errors; source
/// quench is not (RFC 6633 wants it ignored), and a redirect changes routes, not a conversation.
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
