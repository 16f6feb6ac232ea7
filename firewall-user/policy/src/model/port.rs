//! What a guest may send as its own: declared addresses and services (port security).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use firewall_ebpf::abi::interface::{NonIp, Orientation};
use firewall_ebpf::abi::port::PortChecks;
use ipnet::{IpNet, Ipv6Net};

use super::{Error, Interface, parse_cidr};

/// The settings of a guest's port. They have no effect in orientation `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Whether addresses are checked where some are declared; see [`Interface::port_checks`].
    pub source_dest_check: bool,
    /// Whether the guest may send what a router or DHCP server sends.
    pub router: bool,
    /// The guest's MAC address; `None`: it is not checked.
    pub mac: Option<MacAddress>,
    /// Networks whose addresses the guest may use, besides [`Interface::addresses`]. They are not the
    /// addresses of a member of its groups.
    pub allowed: Vec<IpNet>,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self { source_dest_check: true, router: false, mac: None, allowed: Vec::new() }
    }
}

/// The MAC address of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The link-local address that a host forms from it (RFC 4291, appendix A).
    #[must_use]
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let low = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from_bits(0xfe80 << 112 | low as u128)
    }
}

impl FromStr for MacAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Mac(text.to_owned());
        let mut octets = [0; 6];
        let mut words = text.split(':');
        for octet in &mut octets {
            let word = words.next().filter(|word| word.len() == 2).ok_or_else(malformed)?;
            if !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            *octet = u8::from_str_radix(word, 16).map_err(|_| malformed())?;
        }
        // Not a group's address, and not "none".
        if words.next().is_some() || octets[0] & 1 != 0 || octets == [0; 6] {
            return Err(malformed());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// An address or network of a guest. A network with host bits is refused: `10.0.0.7/24` is how other
/// tools write one address, and would stand for 256.
///
/// # Errors
/// The text is neither, or names no unicast address.
pub fn parse_own(text: &str) -> Result<IpNet, Error> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return unicast(address.into());
    }
    let network = parse_cidr(text)?;
    let address = text.split('/').next().and_then(|address| address.parse::<IpAddr>().ok());
    match address {
        Some(address) if address != network.addr() => Err(Error::HostBits { address, network }),
        _ => unicast(network),
    }
}

fn unicast(network: IpNet) -> Result<IpNet, Error> {
    let address = network.addr();
    let is_broadcast = address == IpAddr::from([255; 4]);
    if address.is_multicast()
        || is_broadcast
        || (is_one_address(&network) && address.is_unspecified())
    {
        return Err(Error::NotUnicast(network));
    }
    Ok(network)
}

/// Whether a network has one address only.
#[must_use]
pub fn is_one_address(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// fe80::/10.
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

impl Interface {
    /// The checks of port security, none in orientation `host`.
    #[must_use]
    pub fn port_checks(&self) -> PortChecks {
        if self.orientation == Orientation::Host {
            return PortChecks::NONE;
        }
        let is_declared = !self.addresses.is_empty() || !self.port.allowed.is_empty();
        [
            (self.port.source_dest_check && is_declared, PortChecks::ADDRESSES),
            (!self.port.router, PortChecks::SERVICES),
            (self.port.mac.is_some(), PortChecks::MAC),
            (self.non_ip != NonIp::All, PortChecks::BRIDGE),
        ]
        .into_iter()
        .filter(|(is_on, _)| *is_on)
        .fold(PortChecks::NONE, |checks, (_, check)| checks.with(check))
    }

    /// Whether source and destination addresses are checked.
    #[must_use]
    pub fn checks_addresses(&self) -> bool {
        self.port_checks().has(PortChecks::ADDRESSES)
    }

    /// The declared networks whose addresses the guest may use, merged and sorted.
    #[must_use]
    pub fn declared(&self) -> Vec<IpNet> {
        let all: Vec<_> = self.addresses.iter().chain(&self.port.allowed).copied().collect();
        let mut networks = IpNet::aggregate(&all);
        networks.sort();
        networks
    }

    /// All networks whose addresses the guest may use: the declared ones, and the link-local address of
    /// its MAC address. Without a declared MAC or link-local address every link-local address.
    #[must_use]
    pub fn own(&self) -> Vec<IpNet> {
        let mut networks = self.declared();
        let is_link_local = |network: &IpNet| IpNet::from(LINK_LOCAL).contains(network);
        let link_local = match self.port.mac {
            Some(mac) => Some(IpNet::from(IpAddr::from(mac.link_local()))),
            None => (!networks.iter().any(is_link_local)).then_some(LINK_LOCAL.into()),
        };
        networks.extend(link_local);
        networks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_has_one_form() {
        let mac: MacAddress = "02:00:5E:10:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        assert_eq!(mac.link_local().to_string(), "fe80::5eff:fe10:ff");
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:ff:00",
            "2:00:5e:10:00:ff",
            "02-00-5e-10-00-ff",
            "02:00:5e:10:00:+f",
            "02:00:5e:10:00:fg",
            "00:00:00:00:00:00",
            "01:00:5e:10:00:ff",
            "ff:ff:ff:ff:ff:ff",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(Error::Mac(text.to_owned())));
        }
    }

    #[test]
    fn an_address_of_a_guest_is_unicast_and_a_network_has_no_host_bits() {
        for (text, network) in [
            ("10.0.0.7", "10.0.0.7/32"),
            ("10.0.0.0/24", "10.0.0.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::7", "2001:db8::7/128"),
            ("2001:db8::/64", "2001:db8::/64"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_own(text).unwrap().to_string(), network);
        }
        for text in ["10.0.0.7/24", "2001:db8::1/64", "1.0.0.0/0"] {
            assert!(matches!(parse_own(text), Err(Error::HostBits { .. })), "{text}");
        }
        for text in ["0.0.0.0", "::", "224.0.0.1", "224.0.0.0/4", "ff02::1", "255.255.255.255"] {
            assert!(matches!(parse_own(text), Err(Error::NotUnicast(_))), "{text}");
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "fe80::1%eth0", "x/8"] {
            assert!(matches!(parse_own(text), Err(Error::Cidr { .. })), "{text}");
        }
    }
}
