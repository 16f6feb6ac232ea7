//! Numbers that IANA has assigned, besides [`protocol`](super::protocol): ports, in host byte order, and
//! types of messages.

/// UDP ports.
pub mod port {
    /// A DHCP server's (RFC 2131).
    pub const DHCP_SERVER: u16 = 67;
    /// A DHCP client's.
    pub const DHCP_CLIENT: u16 = 68;
    /// A DHCPv6 client's (RFC 8415).
    pub const DHCPV6_CLIENT: u16 = 546;
    /// A DHCPv6 server's.
    pub const DHCPV6_SERVER: u16 = 547;
}

/// Types of ICMP.
pub mod icmp {
    /// RFC 792.
    pub const REDIRECT: u8 = 5;
    /// RFC 1256.
    pub const ROUTER_ADVERTISEMENT: u8 = 9;
}

/// Types of ICMPv6: MLD (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861).
pub mod icmpv6 {
    /// Of all versions of MLD.
    pub const MLD_QUERY: u8 = 130;
    /// Of version 1.
    pub const MLD_REPORT: u8 = 131;
    /// Of version 1.
    pub const MLD_DONE: u8 = 132;
    /// Of version 2.
    pub const MLDV2_REPORT: u8 = 143;
    /// The first type of neighbour discovery.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// A router's periodic message, or its answer to a solicitation.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Asks for a host's link-layer address, or whether an address is in use.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// The answer, or an announcement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// The last type of neighbour discovery.
    pub const REDIRECT: u8 = 137;
}
