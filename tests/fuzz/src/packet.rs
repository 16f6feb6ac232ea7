//! Packets between one protected host and a few others, and their bytes.

use firewall_ebpf::interface::Direction;

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
}

/// How many hosts there are outside. All but the last are in [`is_near`]'s network.
pub const HOSTS: u8 = 3;

/// A packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// IPv4 or IPv6.
    pub is_v4: bool,
    /// The direction at the protected host.
    pub direction: Direction,
    /// The host outside, below [`HOSTS`].
    pub host: u8,
    /// The inside's port.
    pub inside_port: u16,
    /// The outside's port.
    pub outside_port: u16,
    /// The payload.
    pub body: Body,
    /// Bytes after the transport header.
    pub data: u16,
    /// For a fragment: offset in units of eight bytes, and the more-fragments flag.
    pub fragment: Option<(u16, bool)>,
    /// The identification of the fragments of a packet.
    pub id: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Bytes of IPv4 options, or of IPv6 destination options, in words of eight.
    pub options: u8,
    /// Whether it has a VLAN tag.
    pub is_tagged: bool,
}

/// The payload of a packet.
#[derive(Clone, Debug)]
pub enum Body {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier.
        id: u16,
    },
    /// An ICMP or ICMPv6 error with its embedded packet.
    Error {
        /// Type.
        kind: u8,
        /// The embedded packet.
        embedded: Vec<u8>,
    },
    /// Any protocol without a header of its own.
    Raw(u8),
}

/// The numbers of a TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// TCP flags, as in the header.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window as announced.
    pub window: u16,
    /// The window scale option.
    pub scale: Option<u8>,
}

/// Whether an outside address is in the network of the rules with a prefix.
#[must_use]
pub fn is_near(address: &[u8]) -> bool {
    address.starts_with(&NEAR_V4) || address.starts_with(&NEAR_V6)
}

/// The near network, 24 bits.
pub const NEAR_V4: [u8; 3] = [198, 51, 100];
/// The near network, 64 bits.
pub const NEAR_V6: [u8; 8] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0];
const INSIDE_V4: [u8; 4] = [192, 0, 2, 10];
const FAR_V4: [u8; 4] = [203, 0, 113, 9];

fn outside_v4(host: u8) -> [u8; 4] {
    if host + 1 < HOSTS { [NEAR_V4[0], NEAR_V4[1], NEAR_V4[2], 7 + host] } else { FAR_V4 }
}

/// The IPv6 address for an IPv4 one: the same last byte, in another network.
fn v6(network: u8, host: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..8].copy_from_slice(&NEAR_V6);
    address[5] = network;
    address[15] = host;
    address
}

fn outside_v6(host: u8) -> [u8; 16] {
    if host + 1 < HOSTS { v6(2, 7 + host) } else { v6(3, 9) }
}

impl Packet {
    /// A packet of the same flow in the reverse direction, with this payload.
    #[must_use]
    pub fn reply(&self, body: Body) -> Self {
        let direction = self.direction.opposite();
        Self { direction, body, fragment: None, data: 0, ..self.clone() }
    }

    /// The Ethernet frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(192);
        frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        if self.is_tagged {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend(if self.is_v4 { [0x08, 0x00] } else { [0x86, 0xdd] });
        if self.is_v4 {
            self.v4(&mut frame);
        } else {
            self.v6(&mut frame);
        }
        frame
    }

    fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp(_) => 6,
            Body::Udp => 17,
            Body::Icmp { .. } | Body::Error { .. } if self.is_v4 => 1,
            Body::Icmp { .. } | Body::Error { .. } => 58,
            Body::Raw(protocol) => protocol,
        }
    }

    fn v4(&self, frame: &mut Vec<u8>) {
        let at = frame.len();
        let options = self.options & 1;
        let (offset, more) = self.fragment.unwrap_or((0, false));
        let field = (offset & 0x1fff | u16::from(more) << 13).to_be_bytes();
        frame.extend([0x45 + 2 * options, 0, 0, 0, 0x53, self.id, field[0], field[1]]);
        frame.extend([self.hop_limit, self.protocol(), 0, 0]);
        let (inside, outside) = (INSIDE_V4, outside_v4(self.host));
        match self.direction {
            Direction::Ingress => frame.extend([outside, inside].as_flattened()),
            Direction::Egress => frame.extend([inside, outside].as_flattened()),
        }
        // NOP.
        frame.resize(frame.len() + 8 * usize::from(options), 1);
        self.transport(frame);
        let size = u16::try_from(frame.len() - at).expect("a small packet");
        frame[at + 2..at + 4].copy_from_slice(&size.to_be_bytes());
    }

    fn v6(&self, frame: &mut Vec<u8>) {
        let at = frame.len();
        let options = self.options & 1 != 0;
        let last = self.protocol();
        let after_options = if self.fragment.is_some() { 44 } else { last };
        let first = if options { 60 } else { after_options };
        frame.extend([0x60, 0, 0, 0, 0, 0, first, self.hop_limit]);
        let (inside, outside) = (v6(1, 10), outside_v6(self.host));
        match self.direction {
            Direction::Ingress => frame.extend([outside, inside].as_flattened()),
            Direction::Egress => frame.extend([inside, outside].as_flattened()),
        }
        if options {
            // PadN.
            frame.extend([after_options, 0, 1, 4, 0, 0, 0, 0]);
        }
        if let Some((offset, more)) = self.fragment {
            let field = (offset << 3 | u16::from(more)).to_be_bytes();
            frame.extend([last, 0, field[0], field[1], 0, 0, 0x53, self.id]);
        }
        self.transport(frame);
        let size = u16::try_from(frame.len() - at - 40).expect("a small packet");
        frame[at + 4..at + 6].copy_from_slice(&size.to_be_bytes());
    }

    fn transport(&self, frame: &mut Vec<u8>) {
        let (src, dst) = match self.direction {
            Direction::Ingress => (self.outside_port, self.inside_port),
            Direction::Egress => (self.inside_port, self.outside_port),
        };
        let is_later_fragment = self.fragment.is_some_and(|(offset, _)| offset > 0);
        match &self.body {
            _ if is_later_fragment => {}
            Body::Tcp(Tcp { flags, seq, ack, window, scale }) => {
                frame.extend(src.to_be_bytes());
                frame.extend(dst.to_be_bytes());
                frame.extend(seq.to_be_bytes());
                frame.extend(ack.to_be_bytes());
                let words: u8 = if scale.is_some() { 6 } else { 5 };
                let window = window.to_be_bytes();
                frame.extend([words << 4, *flags, window[0], window[1], 0, 0, 0, 0]);
                if let Some(shift) = scale {
                    frame.extend([1, 3, 3, *shift]);
                }
            }
            Body::Udp => {
                frame.extend(src.to_be_bytes());
                frame.extend(dst.to_be_bytes());
                frame.extend((8 + self.data).to_be_bytes());
                frame.extend([0, 0]);
            }
            Body::Icmp { kind, code, id } => {
                let [high, low] = id.to_be_bytes();
                frame.extend([*kind, *code, 0, 0, high, low, 0, 1]);
            }
            Body::Error { kind, embedded } => {
                frame.extend([*kind, 0, 0, 0, 0, 0, 0, 0]);
                frame.extend(embedded);
            }
            Body::Raw(_) => {}
        }
        frame.resize(frame.len() + usize::from(self.data), 0x5a);
    }
}
