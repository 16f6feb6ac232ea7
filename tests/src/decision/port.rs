//! Port security in the notation of the case tables.

use firewall_ebpf::abi::interface::Orientation;
use firewall_ebpf::abi::port::PortSecurity;
use firewall_user::model::{Interface, InterfaceId, MacAddress, PortSettings, parse_own};
use firewall_user::policy::port_security;

use crate::decision::packet::INSIDE_MAC;
use crate::decision::scenario::{Family, Scenario};
use firewall_ebpf::abi::interface::Direction;

/// The port security of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// No checks, as in orientation `host`.
    Open,
    /// A guest of which nothing is declared.
    Undeclared,
    /// A guest with the inside addresses, and allowed networks; see [`ALLOWED`].
    Addresses,
    /// The same with the inside MAC address.
    AddressesAndMac,
    /// A guest that is a router, with the inside addresses.
    Router,
}

/// The networks that are allowed besides the inside addresses.
pub const ALLOWED: [&str; 2] = ["198.18.0.0/15", "2001:db8:99::/64"];

impl Port {
    /// Every variant of a guest.
    pub const GUESTS: [Self; 4] =
        [Self::Undeclared, Self::Addresses, Self::AddressesAndMac, Self::Router];

    /// The kernel's record, as of a guest attached with these options.
    ///
    /// # Panics
    /// If the kernel gives no random bytes.
    #[must_use]
    pub fn record(self) -> PortSecurity {
        let inside = Family::ALL
            .map(|family| Scenario { family, client: Direction::Egress }.inside().into());
        let is_declared = !matches!(self, Self::Open | Self::Undeclared);
        let allowed =
            ALLOWED.iter().filter(|_| is_declared).map(|net| parse_own(net).expect("a network"));
        let id = InterfaceId::random().expect("random bytes");
        port_security(&Interface {
            orientation: if self == Self::Open { Orientation::Host } else { Orientation::Guest },
            addresses: if is_declared { inside.to_vec() } else { Vec::new() },
            port: PortSettings {
                router: self == Self::Router,
                mac: (self == Self::AddressesAndMac).then_some(MacAddress(INSIDE_MAC)),
                allowed: allowed.collect(),
                ..PortSettings::default()
            },
            ..Interface::new(id, 0, "tap0", None)
        })
    }
}
