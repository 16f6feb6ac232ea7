//! Port security: what a guest may send as its own. Userspace writes one record for each interface.

use super::address::{V4, V6};

/// Networks of one family that can be declared for a guest.
pub const MAX_OWN: usize = 16;
/// Room for IPv6 networks: the declared ones, and the link-local address or network.
pub const OWN_V6: usize = MAX_OWN + 1;

/// The checks of an interface, as bits. None is on by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct PortChecks(pub u32);

impl PortChecks {
    /// No check.
    pub const NONE: Self = Self(0);
    /// Source and destination addresses, ARP senders and targets of neighbour discovery are the
    /// guest's: EC2's source/destination check.
    pub const ADDRESSES: Self = Self(1);
    /// The guest is not a router and not a DHCP server.
    pub const SERVICES: Self = Self(1 << 1);
    /// The guest is not a bridge.
    pub const BRIDGE: Self = Self(1 << 2);
    /// The source MAC address is the declared one.
    pub const MAC: Self = Self(1 << 3);

    /// These checks and others.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether any of `checks` is on.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, checks: Self) -> bool {
        self.0 & checks.0 != 0
    }
}

/// An IPv4 network. The default has no address: a loop over all entries needs no count, which the verifier
/// would follow for each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Own4 {
    /// The address, without host bits.
    pub address: V4,
    /// The netmask, network byte order.
    pub mask: V4,
}

impl Default for Own4 {
    fn default() -> Self {
        Self { address: V4::MAX, mask: 0 }
    }
}

/// An IPv6 network. The default has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Own6 {
    /// The address, without host bits.
    pub address: V6,
    /// The netmask, network byte order.
    pub mask: V6,
}

impl Default for Own6 {
    fn default() -> Self {
        Self { address: [u64::MAX; 2], mask: [0; 2] }
    }
}

/// What the guest behind an interface may send as its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortSecurity {
    /// IPv6 networks.
    pub v6: [Own6; OWN_V6],
    /// IPv4 networks.
    pub v4: [Own4; MAX_OWN],
    /// The only source of the guest's frames, as [`mac_word`] has it; 0 where it is not checked.
    pub mac: u64,
    /// The checks.
    pub checks: PortChecks,
    /// Zero.
    pub reserved: u32,
}

/// A MAC address as a little-endian machine reads its six octets from a frame, in the low 48 bits.
#[must_use]
pub const fn mac_word(octets: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = octets;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}
