//! Names of ports and of ICMP messages, both ways. The table is part of the program: `/etc/services` differs from host
//! to host, and a rule must not.

mod table;

use crate::model::{Family, IcmpMatch};
use table::{ICMP, SERVICES};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A name of a port.
#[derive(Clone, Copy, Debug)]
struct Service {
    port: u16,
    transport: Transport,
    name: &'static str,
}

/// The protocols in which a port has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
    Both,
}

/// A name of an ICMP message.
#[derive(Clone, Copy, Debug)]
struct Icmp {
    family: Family,
    matched: IcmpMatch,
    name: &'static str,
}

impl Transport {
    const fn has(self, protocol: u8) -> bool {
        match self {
            Self::Tcp => protocol == TCP,
            Self::Udp => protocol == UDP,
            Self::Both => protocol == TCP || protocol == UDP,
        }
    }
}

/// The port with this name, in any case, of an IP protocol (6 or 17), or of either for `None`. A name has one port.
#[must_use]
pub fn port_by_name(name: &str, protocol: Option<u8>) -> Option<u16> {
    let is_of = |service: &&Service| protocol.is_none_or(|number| service.transport.has(number));
    let found = SERVICES.iter().filter(is_of).find(|one| one.name.eq_ignore_ascii_case(name));
    found.map(|service| service.port)
}

/// The name of a port of an IP protocol; only TCP (6) and UDP (17) have names.
#[must_use]
pub fn name_of_port(protocol: u8, port: u16) -> Option<&'static str> {
    let first = SERVICES.partition_point(|service| service.port < port);
    let of_port = SERVICES[first..].iter().take_while(|service| service.port == port);
    of_port.into_iter().find(|service| service.transport.has(protocol)).map(|one| one.name)
}

/// The ICMP messages of a family with this name, in any case: of one type, or of one type and code.
#[must_use]
pub fn icmp_by_name(name: &str, family: Family) -> Option<IcmpMatch> {
    let of_family = ICMP.iter().filter(|one| one.family == family);
    of_family.into_iter().find(|one| one.name.eq_ignore_ascii_case(name)).map(|one| one.matched)
}

/// The name of an ICMP message: that of its type and code where these have one, else that of its type.
#[must_use]
pub fn icmp_name(family: Family, kind: u8, code: u8) -> Option<&'static str> {
    let is_named = |one: &&Icmp| {
        one.family == family
            && match one.matched {
                IcmpMatch::Any => false,
                IcmpMatch::Type(named) => named == kind,
                IcmpMatch::TypeCode(named, named_code) => named == kind && named_code == code,
            }
    };
    ICMP.iter().find(is_named).map(|one| one.name)
}

/// The names of ICMP messages of a family, in the order of their types, for an error that lists them.
pub fn icmp_names(family: Family) -> impl Iterator<Item = &'static str> {
    ICMP.iter().filter(move |one| one.family == family).map(|one| one.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_a_name_has_one_port() {
        assert!(SERVICES.is_sorted_by_key(|service| service.port));
        for service in SERVICES {
            for other in SERVICES {
                assert!(other.name != service.name || other.port == service.port, "{service:?}");
            }
            assert_eq!(port_by_name(service.name, None), Some(service.port));
            // A name with only digits could not be told from a port, one with a slash not from type and code.
            assert!(service.name.contains(|one: char| one.is_ascii_alphabetic()), "{service:?}");
        }
        for one in ICMP {
            assert_eq!(icmp_by_name(one.name, one.family), Some(one.matched), "{one:?}");
        }
    }

    #[test]
    fn ports_and_names_are_found_both_ways() {
        for (protocol, port, name) in [
            (TCP, 443, "https"),
            (UDP, 443, "https"),
            (TCP, 22, "ssh"),
            (UDP, 53, "domain"),
            (UDP, 514, "syslog"),
            (TCP, 514, "shell"),
            (TCP, 5432, "postgresql"),
        ] {
            assert_eq!(name_of_port(protocol, port), Some(name));
            assert_eq!(port_by_name(name, Some(protocol)), Some(port));
        }
        assert_eq!(port_by_name("HTTPS", None), Some(443));
        assert_eq!(port_by_name("dns", Some(UDP)), Some(53));
        assert_eq!(port_by_name("ssh", Some(UDP)), None);
        assert_eq!(port_by_name("no-such-service", None), None);
        assert_eq!(name_of_port(UDP, 22), None);
        assert_eq!(name_of_port(132, 443), None);
        assert_eq!(name_of_port(TCP, 65_535), None);
    }

    #[test]
    fn icmp_messages_and_names_are_found_both_ways() {
        for (family, kind, code, name) in [
            (Family::Ipv4, 8, 0, "echo-request"),
            (Family::Ipv6, 128, 0, "echo-request"),
            (Family::Ipv4, 3, 4, "fragmentation-needed"),
            (Family::Ipv4, 3, 77, "destination-unreachable"),
            (Family::Ipv6, 135, 0, "neighbor-solicitation"),
        ] {
            assert_eq!(icmp_name(family, kind, code), Some(name));
        }
        assert_eq!(icmp_by_name("echo-request", Family::Ipv4), Some(IcmpMatch::Type(8)));
        assert_eq!(icmp_by_name("Ping", Family::Ipv6), Some(IcmpMatch::Type(128)));
        let unreachable = icmp_by_name("port-unreachable", Family::Ipv4);
        assert_eq!(unreachable, Some(IcmpMatch::TypeCode(3, 3)));
        assert_eq!(icmp_by_name("packet-too-big", Family::Ipv4), None);
        assert_eq!(icmp_name(Family::Ipv4, 200, 0), None);
    }
}
