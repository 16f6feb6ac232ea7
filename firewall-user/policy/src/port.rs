//! The kernel's record of what a guest may send as its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use firewall_ebpf::abi::interface::Orientation;
use firewall_ebpf::abi::port::{Own4, Own6, PortSecurity, mac_word};
use ipnet::IpNet;

use crate::model::Interface;

/// The record of an interface: the default in orientation `host`. Networks that do not fit, which the model
/// refuses, are left out: the guest may not use them.
#[must_use]
pub fn port_security(interface: &Interface) -> PortSecurity {
    let mut record = PortSecurity { checks: interface.port_checks(), ..PortSecurity::default() };
    if let Some(mac) = interface.port.mac
        && interface.orientation == Orientation::Guest
    {
        record.mac = mac_word(mac.0);
    }
    if !interface.checks_addresses() {
        return record;
    }
    let own = interface.own();
    let v4 = own.iter().filter_map(|network| match network {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    });
    let v6 = own.iter().filter_map(|network| match network {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    });
    for (entry, net) in record.v4.iter_mut().zip(v4) {
        let word = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
        *entry = Own4 { address: word(net.addr()), mask: word(net.netmask()) };
    }
    for (entry, net) in record.v6.iter_mut().zip(v6) {
        *entry = Own6 { address: words(net.addr()), mask: words(net.netmask()) };
    }
    record
}

/// An IPv6 address as the kernel loads it.
fn words(address: Ipv6Addr) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::interface::{NonIp, Orientation};
    use firewall_ebpf::abi::port::PortChecks;
    use firewall_ebpf::wire::address::Address as _;

    use super::*;
    use crate::model::{InterfaceId, MacAddress, PortSettings, parse_own};

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    fn guest(addresses: &[&str], allowed: &[&str], mac: Option<MacAddress>) -> Interface {
        let networks = |words: &[&str]| words.iter().map(|word| parse_own(word).unwrap()).collect();
        Interface {
            orientation: Orientation::Guest,
            addresses: networks(addresses),
            port: PortSettings { mac, allowed: networks(allowed), ..PortSettings::default() },
            ..Interface::new(InterfaceId::random().unwrap(), 0, "tap0", None)
        }
    }

    /// Whether the record allows an address.
    fn is_own(record: &PortSecurity, address: &str) -> bool {
        match parse_own(address).unwrap() {
            IpNet::V4(net) => u32::from_ne_bytes(net.addr().octets()).is_own(record),
            IpNet::V6(net) => words(net.addr()).is_own(record),
        }
    }

    #[test]
    fn a_guest_may_use_its_declared_addresses_and_its_link_local_one() {
        let record = port_security(&guest(
            &["10.0.0.7", "2001:db8:1::/64"],
            &["10.0.0.6", "172.16.0.0/12"],
            Some(MAC),
        ));
        for (address, expected) in [
            ("10.0.0.7", true),
            ("10.0.0.6", true),
            ("10.0.0.5", false),
            ("10.0.0.8", false),
            ("172.31.255.255", true),
            ("172.32.0.1", false),
            ("2001:db8:1:0:ffff::1", true),
            ("2001:db8:1:1::1", false),
            ("fe80::ff:fe00:1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(is_own(&record, address), expected, "{address}");
        }
        assert_eq!(record.mac, 0x0100_0000_0002);
    }

    #[test]
    fn without_a_mac_every_link_local_address_is_the_guests_unless_one_is_declared() {
        let record = port_security(&guest(&["10.0.0.7"], &[], None));
        assert_eq!(record.mac, 0);
        assert!(is_own(&record, "fe80::1") && is_own(&record, "febf::1"));
        assert!(!is_own(&record, "fec0::1") && !is_own(&record, "2001:db8::1"));
        let record = port_security(&guest(&["fe80::7"], &[], None));
        assert!(is_own(&record, "fe80::7") && !is_own(&record, "fe80::1"));
    }

    #[test]
    fn a_host_has_the_default_record_and_a_guest_checks_what_is_declared() {
        let declared = || guest(&["10.0.0.7"], &[], Some(MAC));
        let host = Interface { orientation: Orientation::Host, ..declared() };
        assert_eq!(port_security(&host), PortSecurity::default());
        let services = PortChecks::SERVICES.with(PortChecks::BRIDGE);
        for (interface, checks) in [
            (declared(), services.with(PortChecks::ADDRESSES).with(PortChecks::MAC)),
            (guest(&[], &["10.0.0.0/8"], None), services.with(PortChecks::ADDRESSES)),
            (guest(&[], &[], Some(MAC)), services.with(PortChecks::MAC)),
            (Interface { non_ip: NonIp::All, ..guest(&[], &[], None) }, PortChecks::SERVICES),
        ] {
            assert_eq!(port_security(&interface).checks, checks);
        }
        let mut off = declared();
        off.port.source_dest_check = false;
        assert_eq!(port_security(&off).checks, services.with(PortChecks::MAC));
        assert!(!is_own(&port_security(&off), "10.0.0.7"));
        off.port.router = true;
        assert_eq!(port_security(&off).checks, PortChecks::BRIDGE.with(PortChecks::MAC));
    }

    #[test]
    fn the_most_addresses_that_can_be_declared_fit() {
        let text: Vec<_> =
            (0..16).flat_map(|n| [format!("10.0.{n}.1"), format!("2001:db8:{n}::1")]).collect();
        let text: Vec<_> = text.iter().map(String::as_str).collect();
        let record = port_security(&guest(&text, &[], None));
        assert!(text.iter().all(|address| is_own(&record, address)));
        assert!(is_own(&record, "fe80::1"));
    }
}
