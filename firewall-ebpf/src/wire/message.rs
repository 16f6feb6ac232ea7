//! Messages of the link: the kinds of exempt IP messages, and ARP.

use crate::abi::address::V4;

/// A message that [`is_link_message`](super::is_link_message) recognises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LinkMessage {
    /// Neighbour and router discovery (RFC 4861), without redirects.
    NeighbourDiscovery = 0,
    /// A query of MLD (RFC 2710, RFC 3810).
    MldQuery = 1,
    /// A report or done message of MLD.
    MldReport = 2,
    /// A query of IGMP (RFC 2236, RFC 3376).
    IgmpQuery = 3,
    /// A report or leave message of IGMP.
    IgmpReport = 4,
    /// A client's DHCP message (RFC 2131).
    DhcpRequest = 5,
    /// A server's DHCP message.
    DhcpReply = 6,
    /// A client's DHCPv6 message (RFC 8415) to servers and relays on the link.
    Dhcpv6Request = 7,
    /// A server's or relay's DHCPv6 message, from its link-local address to the client's.
    Dhcpv6Reply = 8,
}

impl LinkMessage {
    /// The message with this number, as a BPF function receives it.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::NeighbourDiscovery,
            1 => Self::MldQuery,
            2 => Self::MldReport,
            3 => Self::IgmpQuery,
            4 => Self::IgmpReport,
            5 => Self::DhcpRequest,
            6 => Self::DhcpReply,
            7 => Self::Dhcpv6Request,
            _ => Self::Dhcpv6Reply,
        }
    }
}

/// The addresses of an ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// The sender's IP address; 0 in a probe (RFC 5227).
    pub sender: V4,
    /// The target's IP address.
    pub target: V4,
}
