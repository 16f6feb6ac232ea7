//! What port security checks about an IP packet.

use crate::abi::address::V6;
use crate::abi::interface::Direction;
use crate::wire::address::Address;
use crate::wire::headers::{Kind, PacketHeaders};

/// What is checked about an IP packet: few enough words to be the arguments of a BPF function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Bits 16 to 31 the offset of the transport header, 32 to 47 [`PacketHeaders::rule_port`], 48 to 55
    /// the IP protocol, 56 to 59 the kind, 60 whether it is egress, 61 whether it is IPv4. Bits 0 to 15
    /// are the caller's.
    pub what: u64,
    /// [`PacketHeaders::ports`].
    pub ports: u32,
    /// The inside address, of IPv4 in the first word: the source of egress, the destination of ingress.
    pub address: V6,
}

const AT: u32 = 16;
const RULE_PORT: u32 = 32;
const PROTOCOL: u32 = 48;
const KIND: u32 = 56;
const EGRESS: u64 = 1 << 60;
const IS_V4: u64 = 1 << 61;

impl Claim {
    #[inline(always)]
    pub(super) fn new<A: Address>(direction: Direction, headers: &PacketHeaders<A>) -> Self {
        // No header starts behind 65,535 bytes of others.
        let at = u64::from(headers.at & 0xffff) << AT;
        let kind = headers.kind as u64;
        let fields = u64::from(headers.rule_port) << RULE_PORT
            | u64::from(headers.protocol) << PROTOCOL
            | kind << KIND;
        let family = if A::IS_V4 { IS_V4 } else { 0 };
        let (egress, address) = match direction {
            Direction::Ingress => (0, headers.dst),
            Direction::Egress => (EGRESS, headers.src),
        };
        Self { what: at | fields | family | egress, ports: headers.ports, address: address.words() }
    }

    #[inline(always)]
    pub(super) const fn is(&self, kind: Kind) -> bool {
        self.what >> KIND & 0xf == kind as u64
    }

    #[inline(always)]
    pub(super) const fn is_egress(&self) -> bool {
        self.what & EGRESS != 0
    }

    #[inline(always)]
    pub(super) const fn is_v4(&self) -> bool {
        self.what & IS_V4 != 0
    }

    #[inline(always)]
    pub(super) const fn protocol(&self) -> u8 {
        (self.what >> PROTOCOL & 0xff) as u8
    }

    /// The type of an ICMP or ICMPv6 message.
    #[inline(always)]
    pub(super) const fn icmp_type(&self) -> u8 {
        (self.what >> (RULE_PORT + 8) & 0xff) as u8
    }

    /// Offset of the transport header.
    #[inline(always)]
    pub(super) const fn at(&self) -> u32 {
        (self.what >> AT & 0xffff) as u32
    }

    /// Source port, network byte order.
    #[inline(always)]
    pub(super) const fn src_port(&self) -> u16 {
        (self.ports & 0xffff) as u16
    }

    /// Destination port, network byte order.
    #[inline(always)]
    pub(super) const fn dst_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }
}
