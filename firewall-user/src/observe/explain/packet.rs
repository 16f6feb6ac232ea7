//! A packet that is asked about, as the frame that its interface would see.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, bail};
use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader,
};
use firewall_ebpf::wire::protocol;

/// A packet by its addresses, protocol and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Source and destination port of TCP or UDP; else 0.
    pub ports: [u16; 2],
    /// Type and code of an ICMP or ICMPv6 message; else 0.
    pub icmp: [u8; 2],
    /// TCP flags, as in byte 13 of the header; `None`: of the segment that comes next, which is a SYN where there is no
    /// flow.
    pub flags: Option<u8>,
}

/// TCP's numbers of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
}

/// Those of a connection's first segment.
pub(super) const FIRST: Numbers = Numbers { sequence: 1_000_000, acknowledgement: 0 };

/// The sequence number of the SYN-ACK to it.
pub(super) const FIRST_BACK: u32 = 2_000_000;

/// The window of a segment.
const WINDOW: u16 = 64_240;

/// The TTL and hop limit of a packet; neighbour discovery has the highest.
const HOPS: u8 = 64;

/// The identifier of an ICMP query.
const IDENTIFIER: [u8; 2] = [0x12, 0x34];

/// Source and destination MAC addresses of a frame.
pub(super) type Macs = [[u8; 6]; 2];

/// MAC addresses of no device (locally administered).
pub(super) const SOME_MACS: Macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

impl Packet {
    /// Whether the packet has ports.
    #[must_use]
    pub const fn has_ports(&self) -> bool {
        matches!(self.protocol, protocol::TCP | protocol::UDP)
    }

    /// Whether it is an ICMP message of its family.
    #[must_use]
    pub const fn is_icmp(&self) -> bool {
        match self.source {
            IpAddr::V4(_) => self.protocol == protocol::ICMP,
            IpAddr::V6(_) => self.protocol == protocol::ICMPV6,
        }
    }

    /// The frame; without MAC addresses one that starts with the IP header.
    pub(super) fn frame(&self, macs: Option<Macs>, numbers: Numbers) -> Result<Vec<u8>> {
        let (payload, is_discovery) = self.payload();
        let hops = if is_discovery { u8::MAX } else { HOPS };
        let ip = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header { time_to_live: hops, ..Ipv4Header::default() };
                (header.source, header.destination) = (source.octets(), destination.octets());
                IpHeaders::Ipv4(header, Default::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber(self.protocol),
                    hop_limit: hops,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                IpHeaders::Ipv6(header, Default::default())
            }
            _ => bail!("{} and {} are not of one family", self.source, self.destination),
        };
        let step = match macs {
            Some([source, destination]) => PacketBuilder::ethernet2(source, destination).ip(ip),
            None => PacketBuilder::ip(ip),
        };
        let mut frame = Vec::new();
        let [from, to] = self.ports;
        match self.protocol {
            protocol::TCP => {
                step.tcp_header(self.tcp(numbers)).write(&mut frame, &payload)?;
            }
            protocol::UDP => step.udp(from, to).write(&mut frame, &payload)?,
            number => step.write(&mut frame, IpNumber(number), &payload)?,
        }
        Ok(frame)
    }

    fn tcp(&self, Numbers { sequence, acknowledgement }: Numbers) -> TcpHeader {
        let [from, to] = self.ports;
        let flags = self.flags.unwrap_or(tcp::SYN);
        let has = |flag: u8| flags & flag != 0;
        let mut header = TcpHeader::new(from, to, sequence, WINDOW);
        header.acknowledgment_number = acknowledgement;
        (header.fin, header.syn, header.rst) = (has(tcp::FIN), has(tcp::SYN), has(tcp::RST));
        (header.psh, header.ack, header.urg) = (has(tcp::PSH), has(tcp::ACK), has(tcp::URG));
        (header.ece, header.cwr) = (has(tcp::ECE), has(tcp::CWR));
        header
    }

    /// What follows the header that [`Self::frame`] writes, and whether it is neighbour discovery.
    fn payload(&self) -> (Vec<u8>, bool) {
        if !self.is_icmp() {
            // Of a protocol without ports: some bytes.
            let length = if self.has_ports() { 0 } else { 16 };
            return (vec![0; length], false);
        }
        let [kind, code] = self.icmp;
        let mut message = vec![kind, code, 0, 0];
        message.extend(IDENTIFIER);
        message.extend([0, 1]);
        let is_error = match self.source {
            IpAddr::V4(_) => matches!(kind, 3 | 11 | 12),
            IpAddr::V6(_) => matches!(kind, 1..=4),
        };
        if is_error {
            // About a datagram of the receiver.
            let embedded = Self {
                protocol: protocol::UDP,
                source: self.destination,
                destination: self.source,
                ports: [40_000, 33_434],
                icmp: [0; 2],
                flags: None,
            };
            // Both are of one family, as the message is.
            message[4..].fill(0);
            message.extend(embedded.frame(None, FIRST).unwrap_or_default());
            return (message, false);
        }
        let is_discovery = self.source.is_ipv6() && (133..=137).contains(&kind);
        if is_discovery {
            message[4..].fill(0);
            if let (135..=137, Some(target)) = (kind, self.target()) {
                message.extend(target.octets());
            }
            if kind == 134 {
                // Reachable time and retransmission timer.
                message.extend([0; 8]);
            }
        }
        (message, is_discovery)
    }

    /// What a neighbour solicitation asks for, or an advertisement is about (RFC 4861, 4.3 and 4.4): of a solicitation
    /// to the group of an address (RFC 4291, 2.7.1), the address of the sender's subnet that is in this group.
    fn target(&self) -> Option<Ipv6Addr> {
        const SOLICITATION: u8 = 135;
        const ADVERTISEMENT: u8 = 136;
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (self.source, self.destination) else {
            return None;
        };
        Some(match self.icmp[0] {
            SOLICITATION if destination.is_multicast() => {
                let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
                let subnet = if source.is_unspecified() { link_local } else { source };
                let mut target = [0; 16];
                target[..8].copy_from_slice(&subnet.octets()[..8]);
                target[13..].copy_from_slice(&destination.octets()[13..]);
                target.into()
            }
            ADVERTISEMENT => source,
            _ => destination,
        })
    }

    /// The packet that answers this one; `None` where none does: ICMP messages other than queries, and RST.
    pub(super) fn reply(&self) -> Option<Self> {
        let mut reply = self.clone();
        (reply.source, reply.destination) = (self.destination, self.source);
        reply.ports.reverse();
        if self.is_icmp() {
            reply.icmp[0] = match (self.source, self.icmp[0]) {
                (IpAddr::V4(_), 8) => 0,
                (IpAddr::V4(_), 13) => 14,
                (IpAddr::V6(_), 128) => 129,
                _ => return None,
            };
        }
        if self.protocol == protocol::TCP {
            let flags = self.flags.unwrap_or(tcp::SYN);
            reply.flags = Some(match (flags & tcp::RST, flags & tcp::SYN) {
                (0, 0) => tcp::ACK,
                (0, _) if flags & tcp::ACK == 0 => tcp::SYN | tcp::ACK,
                (0, _) => tcp::ACK,
                _ => return None,
            });
        }
        Some(reply)
    }
}

/// TCP flags (RFC 9293, RFC 3168), as in byte 13 of the header.
mod tcp {
    pub(super) const FIN: u8 = 1 << 0;
    pub(super) const SYN: u8 = 1 << 1;
    pub(super) const RST: u8 = 1 << 2;
    pub(super) const PSH: u8 = 1 << 3;
    pub(super) const ACK: u8 = 1 << 4;
    pub(super) const URG: u8 = 1 << 5;
    pub(super) const ECE: u8 = 1 << 6;
    pub(super) const CWR: u8 = 1 << 7;
}

/// Those of a segment in the middle of a connection.
pub(super) const ACK: u8 = tcp::ACK;

/// TCP flags by name, in the order of their bits.
pub const FLAGS: [(&str, u8); 8] = [
    ("fin", tcp::FIN),
    ("syn", tcp::SYN),
    ("rst", tcp::RST),
    ("psh", tcp::PSH),
    ("ack", tcp::ACK),
    ("urg", tcp::URG),
    ("ece", tcp::ECE),
    ("cwr", tcp::CWR),
];

/// `syn,ack`, as `--tcp-flags` has them; `none` of a segment without any.
#[must_use]
pub fn flags_text(flags: u8) -> String {
    let names = FLAGS.iter().filter(|(_, flag)| flags & flag != 0).map(|(name, _)| *name);
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}
