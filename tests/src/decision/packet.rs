//! Packets in the notation of the case tables, and their bytes in a scenario.
//!
//! Checksums of transport headers are zero: the verdict logic does not read them, and on veth they
//! are incomplete anyway.

mod extension;
mod render;

pub use extension::Extension;
pub use render::INSIDE_MAC;

use crate::decision::scenario::{Outside, Role};

/// TCP flags.
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// URG.
    pub const URG: u8 = 0x20;
    /// ECE (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// CWR (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// 802.1Q's EtherType.
pub const DOT1Q: u16 = 0x8100;
/// 802.1ad's EtherType.
pub const DOT1AD: u16 = 0x88a8;

/// The payload of a packet.
#[derive(Clone, Debug)]
pub enum Body {
    /// TCP.
    Tcp {
        /// TCP flags, as in the header.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Four-byte words of options.
        options: u8,
    },
    /// UDP.
    Udp,
    /// ICMP or ICMPv6, by family.
    Icmp {
        /// Type and code for IPv4.
        v4: (u8, u8),
        /// Type and code for IPv6.
        v6: (u8, u8),
        /// Identifier of a query.
        id: u16,
    },
    /// An ICMP or ICMPv6 error, by family, about a packet.
    Error {
        /// Type and code for IPv4.
        v4: (u8, u8),
        /// Type and code for IPv6.
        v6: (u8, u8),
        /// The embedded packet.
        about: Box<Packet>,
        /// Embedded bytes of its transport header.
        embedded: usize,
    },
    /// Any protocol, without a header of its own.
    Raw(u8),
    /// A frame that is not IP.
    Link(u16),
}

/// The header that the offset of an edit is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The IP header.
    Ip,
    /// The transport header.
    Transport,
}

/// A packet without what its scenario defines: addresses and direction.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The sender.
    pub from: Role,
    /// The host outside.
    pub outside: Outside,
    /// The client's port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
    /// The source MAC address, if not that of the sender.
    pub from_mac: Option<[u8; 6]>,
    /// The destination MAC address, if not that of the receiver.
    pub to_mac: Option<[u8; 6]>,
    /// VLAN tags, outermost first, by EtherType.
    pub tags: Vec<u16>,
    /// Bytes of IPv4 options.
    pub options: usize,
    /// IPv6 extension headers, outermost first.
    pub extensions: Vec<Extension>,
    /// Offset in units of eight bytes, and the more-fragments flag.
    pub fragment: Option<(u16, bool)>,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// The payload.
    pub body: Body,
    /// Bytes after the transport header.
    pub data: usize,
    /// Bytes written over the finished packet.
    pub edits: Vec<(Layer, usize, Vec<u8>)>,
    /// Truncates the IP payload to this number of bytes; the length fields match.
    pub cut_payload: Option<usize>,
    /// Bytes of padding after the IP packet.
    pub padding: usize,
}

impl Packet {
    fn new(from: Role, body: Body) -> Self {
        Self {
            from,
            outside: Outside::Near,
            client_port: 40_000,
            server_port: 443,
            from_mac: None,
            to_mac: None,
            tags: Vec::new(),
            options: 0,
            extensions: Vec::new(),
            fragment: None,
            hop_limit: 64,
            body,
            data: 0,
            edits: Vec::new(),
            cut_payload: None,
            padding: 0,
        }
    }

    /// A TCP segment.
    #[must_use]
    pub fn tcp(from: Role, flags: u8, seq: u32, ack: u32) -> Self {
        Self::new(from, Body::Tcp { flags, seq, ack, options: 0 })
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(from: Role) -> Self {
        Self::new(from, Body::Udp).data(12)
    }

    /// An ICMP message with a type and code for each family.
    #[must_use]
    pub fn icmp(from: Role, v4: (u8, u8), v6: (u8, u8)) -> Self {
        Self::new(from, Body::Icmp { v4, v6, id: 0 }).data(28)
    }

    /// An ICMP error about a packet, with the required minimum of it embedded.
    #[must_use]
    pub fn error(from: Role, v4: (u8, u8), v6: (u8, u8), about: Self) -> Self {
        Self::new(from, Body::Error { v4, v6, about: Box::new(about), embedded: 8 })
    }

    /// With that many embedded bytes of the transport header.
    #[must_use]
    pub fn embedding(mut self, bytes: usize) -> Self {
        if let Body::Error { embedded, .. } = &mut self.body {
            *embedded = bytes;
        }
        self
    }

    /// An echo request.
    #[must_use]
    pub fn echo(from: Role, id: u16) -> Self {
        Self::new(from, Body::Icmp { v4: (8, 0), v6: (128, 0), id }).data(56)
    }

    /// An echo reply.
    #[must_use]
    pub fn echo_reply(from: Role, id: u16) -> Self {
        Self::new(from, Body::Icmp { v4: (0, 0), v6: (129, 0), id }).data(56)
    }

    /// A packet of any protocol.
    #[must_use]
    pub fn raw(from: Role, protocol: u8) -> Self {
        Self::new(from, Body::Raw(protocol)).data(32)
    }

    /// A frame that is not IP.
    #[must_use]
    pub fn link(from: Role, ether_type: u16) -> Self {
        Self::new(from, Body::Link(ether_type)).data(46)
    }

    /// With the first bytes of the frame's payload, for a frame that is not IP.
    #[must_use]
    pub fn link_payload(mut self, bytes: &[u8]) -> Self {
        self.edits.push((Layer::Transport, 0, bytes.to_vec()));
        self
    }

    /// With that many bytes of data.
    #[must_use]
    pub fn data(self, bytes: usize) -> Self {
        Self { data: bytes, ..self }
    }

    /// To or from that port of the server.
    #[must_use]
    pub fn port(self, server: u16) -> Self {
        Self { server_port: server, ..self }
    }

    /// Between these ports.
    #[must_use]
    pub fn ports(self, client: u16, server: u16) -> Self {
        Self { client_port: client, server_port: server, ..self }
    }

    /// To or from another host outside.
    #[must_use]
    pub fn outside(self, outside: Outside) -> Self {
        Self { outside, ..self }
    }

    /// From that MAC address.
    #[must_use]
    pub fn from_mac(self, mac: [u8; 6]) -> Self {
        Self { from_mac: Some(mac), ..self }
    }

    /// To that MAC address.
    #[must_use]
    pub fn to_mac(self, mac: [u8; 6]) -> Self {
        Self { to_mac: Some(mac), ..self }
    }

    /// Inside one more VLAN tag.
    #[must_use]
    pub fn tag(mut self, ether_type: u16) -> Self {
        self.tags.push(ether_type);
        self
    }

    /// With that many bytes of IPv4 options.
    #[must_use]
    pub fn options(self, bytes: usize) -> Self {
        Self { options: bytes, ..self }
    }

    /// With one more IPv6 extension header.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// As a fragment: offset in units of eight bytes, and the more-fragments flag.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        Self { fragment: Some((offset, more)), ..self }
    }

    /// With that TTL or hop limit.
    #[must_use]
    pub fn hop_limit(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    /// With a TCP sequence number this much higher.
    #[must_use]
    pub fn seq_ahead(mut self, by: u32) -> Self {
        if let Body::Tcp { seq, .. } = &mut self.body {
            *seq = seq.wrapping_add(by);
        }
        self
    }

    /// With a TCP acknowledgement number this much higher.
    #[must_use]
    pub fn ack_ahead(mut self, by: u32) -> Self {
        if let Body::Tcp { ack, .. } = &mut self.body {
            *ack = ack.wrapping_add(by);
        }
        self
    }

    /// With that TCP window.
    #[must_use]
    pub fn window(self, window: u16) -> Self {
        self.edit(Layer::Transport, 14, &window.to_be_bytes())
    }

    /// With TCP options, a multiple of four bytes.
    #[must_use]
    pub fn with_tcp_options(self, options: &[u8]) -> Self {
        let words = u8::try_from(options.len() / 4).expect("at most 40 bytes");
        self.tcp_options(words).edit(Layer::Transport, 20, options)
    }

    /// With bytes written over it.
    #[must_use]
    pub fn edit(mut self, layer: Layer, at: usize, bytes: &[u8]) -> Self {
        self.edits.push((layer, at, bytes.to_vec()));
        self
    }

    /// With only that many bytes from the transport header on; the length fields match.
    #[must_use]
    pub fn only(self, bytes: usize) -> Self {
        Self { cut_payload: Some(bytes), ..self }
    }

    /// With that many bytes of padding after the IP packet.
    #[must_use]
    pub fn padding(self, bytes: usize) -> Self {
        Self { padding: bytes, ..self }
    }

    /// With that many four-byte words of TCP options.
    #[must_use]
    pub fn tcp_options(mut self, words: u8) -> Self {
        if let Body::Tcp { options, .. } = &mut self.body {
            *options = words;
        }
        self
    }
}
