//! Traffic that no group filters, because no rule could name it or the link would not work.

use crate::interface::Direction;
use crate::parse::{Kind, Segment, protocol};
use crate::reason::Reason;

/// Which frames that are not IP pass, besides ARP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum NonIp {
    /// Link-local control frames.
    #[default]
    #[cfg_attr(feature = "clap", value(help = "LLDP, LACP, EAPOL, STP and other 802.2 LLC"))]
    Control = 0,
    /// Everything. Encapsulations such as PPPoE and MPLS carry IP past the rules then.
    All = 1,
    /// Nothing.
    None = 2,
}

impl NonIp {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Control, Self::All, Self::None];

    /// The word used in the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::All => "all",
            Self::None => "none",
        }
    }

    /// The choice with this number, as overridden at load; unknown numbers are the strictest.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Control,
            1 => Self::All,
            _ => Self::None,
        }
    }
}

const ARP: u16 = 0x0806;
const LLDP: u16 = 0x88cc;
const EAPOL: u16 = 0x888e;
/// LACP, marker and OAM frames (IEEE 802.3, annex 57A).
const SLOW_PROTOCOLS: u16 = 0x8809;
/// The parser's number for 802.3 frames: spanning tree, CDP and other 802.2 LLC.
const LLC: u16 = 0;

/// The verdict on a frame that is not IP, by its EtherType in host byte order.
#[inline(always)]
pub fn non_ip(ether_type: u16, allowed: NonIp) -> Reason {
    match (ether_type, allowed) {
        (ARP, _) => Reason::Arp,
        (LLDP | EAPOL | SLOW_PROTOCOLS | LLC, NonIp::Control | NonIp::All) => Reason::LinkControl,
        (_, NonIp::All) => Reason::NonIpAllowed,
        _ => Reason::NonIp,
    }
}

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;
/// Neighbour discovery (RFC 4861) without redirects, which go by the rules.
const ROUTER_SOLICITATION: u16 = 133;
const NEIGHBOUR_ADVERTISEMENT: u16 = 136;

/// The verdict on IP traffic that the rules are not asked about; `None` for all other.
#[inline(always)]
pub fn ip<A>(segment: &Segment<A>, direction: Direction) -> Option<Reason> {
    match segment.kind {
        Kind::Udp if is_dhcp(segment, direction) => Some(Reason::Dhcp),
        Kind::Message if segment.protocol == protocol::ICMPV6 => {
            let kind = segment.rule_port >> 8;
            if !(ROUTER_SOLICITATION..=NEIGHBOUR_ADVERTISEMENT).contains(&kind) {
                None
            } else if segment.hop_limit == u8::MAX && !segment.fragment.more {
                Some(Reason::NeighbourDiscovery)
            } else {
                Some(Reason::NeighbourDiscoveryInvalid)
            }
        }
        _ => None,
    }
}

/// The inside is the client: a server on the inside needs a rule like any other service.
#[inline(always)]
fn is_dhcp<A>(segment: &Segment<A>, direction: Direction) -> bool {
    let (src, dst) = (u16::from_be(segment.src_port()), u16::from_be(segment.dst_port()));
    let (client, server) = match direction {
        Direction::Egress => (src, dst),
        Direction::Ingress => (dst, src),
    };
    (client == DHCP_CLIENT && server == DHCP_SERVER)
        || (client == DHCPV6_CLIENT && server == DHCPV6_SERVER)
}
