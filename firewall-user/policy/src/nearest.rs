//! The nearest miss: of the rules that do not allow a packet the one that comes closest, and the first field in which
//! it differs.
//!
//! The fields of a rule have an order: direction, protocol, address, port (of ICMP: type and code). Rules are compared
//! field by field in this order, and in each field by their distance from the packet:
//!
//! | field | distance |
//! | --- | --- |
//! | direction | 0 or 1 |
//! | protocol | 0 or 1 |
//! | address | 0 in one of the rule's networks; else the bits of the address after the longest prefix in common with one of them; one more than all bits if the rule has none of the family |
//! | port | how far the port is from the rule's range; of ICMP, of the numbers type x 256 + code |
//!
//! So the rule with the longest list of matching fields is nearest; among those that fail in the same field, the one
//! that fails there by the least; then the one that is nearest in the fields after it; then the one with the lowest
//! number. The result depends on nothing but the rules and the packet.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::wire::protocol;
use ipnet::IpNet;

use crate::evaluate::Probe;
use crate::model::{IcmpMatch, Networks, Traffic};
use crate::resolve::ResolvedRule;

/// A field of a rule that a packet does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The rule is about packets of the other direction.
    Direction,
    /// The rule is about another protocol.
    Protocol,
    /// The outside address is in none of the rule's networks.
    Address,
    /// The port, or the ICMP type and code, is another one.
    Port,
}

impl Field {
    /// The name in documents and lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direction => "direction",
            Self::Protocol => "protocol",
            Self::Address => "address",
            Self::Port => "port",
        }
    }
}

/// The rule that comes closest to allowing a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The rule's number.
    pub number: u32,
    /// The first of its fields that the packet does not match.
    pub field: Field,
    /// The rule's direction.
    pub direction: Direction,
    /// The rule's protocol with its ports or ICMP type and code.
    pub traffic: Traffic,
    /// Where the address does not match, the network of the rule that has the longest prefix in common with it; none
    /// where the rule has no network of its family.
    pub network: Option<IpNet>,
}

impl Miss {
    /// What the rule has in the field. An address is that of the network: the caller may know the peer by its name.
    #[must_use]
    pub fn rule_value(&self) -> String {
        match self.field {
            Field::Direction => self.direction.name().to_owned(),
            Field::Protocol => self.traffic.protocol(),
            Field::Address => {
                self.network.map_or_else(|| "no address".to_owned(), |one| one.to_string())
            }
            Field::Port => self.traffic.ports(),
        }
    }

    /// What the packet has in the field.
    #[must_use]
    pub fn packet_value(&self, probe: Probe) -> String {
        match self.field {
            Field::Direction => probe.direction.name().to_owned(),
            Field::Protocol => protocol_name(probe.protocol),
            Field::Address => probe.outside.to_string(),
            Field::Port if has_ports(probe.protocol) => probe.port.to_string(),
            Field::Port => {
                let [kind, code] = probe.port.to_be_bytes();
                format!("{kind}/{code}")
            }
        }
    }
}

/// The rule that comes closest to allowing the packet; `None` where a rule allows it, or where there is no rule. The
/// order is that of the [module](self). Rules that have ended are to be left out by the caller.
#[must_use]
pub fn nearest_miss(rules: &[ResolvedRule], probe: Probe) -> Option<Miss> {
    let distances = rules.iter().map(|rule| (Distance::of(rule, probe), rule.number, rule));
    let (distance, _, rule) = distances.min_by_key(|(distance, number, _)| (*distance, *number))?;
    let &ResolvedRule { number, direction, traffic, ref networks, .. } = rule;
    let field = distance.field()?;
    let is_address = field == Field::Address;
    let network = is_address.then(|| nearest_network(networks, probe.outside)).flatten();
    Some(Miss { number, field, direction, traffic, network })
}

/// The number of the rule that allows the service of a packet, and only it, from or to other addresses: of several the
/// one whose networks are nearest.
#[must_use]
pub fn allowing_elsewhere(rules: &[ResolvedRule], probe: Probe) -> Option<u32> {
    let elsewhere = rules.iter().filter(|rule| rule.traffic != Traffic::All);
    let elsewhere = elsewhere.filter_map(|rule| match Distance::of(rule, probe) {
        Distance { direction: false, protocol: false, address: bits @ 1.., port: 0 } => {
            Some((bits, rule.number))
        }
        _ => None,
    });
    elsewhere.min().map(|(_, number)| number)
}

/// How far a rule is from allowing a packet; compared in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Distance {
    direction: bool,
    protocol: bool,
    address: u8,
    port: u16,
}

impl Distance {
    fn of(rule: &ResolvedRule, probe: Probe) -> Self {
        let (is_protocol, port) = traffic(rule.traffic, probe);
        Self {
            direction: rule.direction != probe.direction,
            protocol: !is_protocol,
            address: address(&rule.networks, probe.outside),
            port,
        }
    }

    /// The first field with a distance; `None`: the rule allows the packet.
    const fn field(self) -> Option<Field> {
        match self {
            Self { direction: true, .. } => Some(Field::Direction),
            Self { protocol: true, .. } => Some(Field::Protocol),
            Self { address: 1.., .. } => Some(Field::Address),
            Self { port: 1.., .. } => Some(Field::Port),
            _ => None,
        }
    }
}

/// Whether the traffic is of the packet's protocol, and how far its ports are from the packet's; 0 for another
/// protocol.
fn traffic(traffic: Traffic, probe: Probe) -> (bool, u16) {
    let outside = |from: u16, to: u16| {
        let port = probe.port;
        from.saturating_sub(port).max(port.saturating_sub(to))
    };
    let icmp = |matched| match matched {
        IcmpMatch::Any => 0,
        IcmpMatch::Type(kind) => {
            outside(u16::from_be_bytes([kind, 0]), u16::from_be_bytes([kind, u8::MAX]))
        }
        IcmpMatch::TypeCode(kind, code) => {
            let both = u16::from_be_bytes([kind, code]);
            outside(both, both)
        }
    };
    match traffic {
        Traffic::All => (true, 0),
        Traffic::Tcp(ports) if probe.protocol == protocol::TCP => {
            (true, outside(ports.from, ports.to))
        }
        Traffic::Udp(ports) if probe.protocol == protocol::UDP => {
            (true, outside(ports.from, ports.to))
        }
        Traffic::Icmp(matched) if probe.protocol == protocol::ICMP && probe.outside.is_ipv4() => {
            (true, icmp(matched))
        }
        Traffic::Icmpv6(matched)
            if probe.protocol == protocol::ICMPV6 && probe.outside.is_ipv6() =>
        {
            (true, icmp(matched))
        }
        Traffic::Other(number) => (probe.protocol == number, 0),
        Traffic::Tcp(_) | Traffic::Udp(_) | Traffic::Icmp(_) | Traffic::Icmpv6(_) => (false, 0),
    }
}

/// How far an address is from a rule's networks.
fn address(networks: &Networks, outside: IpAddr) -> u8 {
    if networks.cover(outside) {
        return 0;
    }
    let nearest = nearest_network(networks, outside);
    nearest.map_or_else(|| width(outside) + 1, |network| after_common(network.addr(), outside))
}

/// Of networks that do not contain an address the one that is nearest to it. They are sorted, and such a network has as
/// many bits in common with the address as its own address has: so it is one of the two beside the address.
fn nearest_network(networks: &Networks, outside: IpAddr) -> Option<IpNet> {
    let beside = match outside {
        IpAddr::V4(outside) => {
            let all = networks.v4();
            around(all, all.partition_point(|network| network.addr() < outside))
        }
        IpAddr::V6(outside) => {
            let all = networks.v6();
            around(all, all.partition_point(|network| network.addr() < outside))
        }
    };
    let distance = |network: &IpNet| after_common(network.addr(), outside);
    beside.into_iter().flatten().min_by_key(distance)
}

/// The element before a position, and the one at it.
fn around<N: Copy + Into<IpNet>>(all: &[N], at: usize) -> [Option<IpNet>; 2] {
    let before = at.checked_sub(1).and_then(|before| all.get(before));
    [before, all.get(at)].map(|network| network.map(|network| (*network).into()))
}

/// The number of bits of an address after the longest prefix that it has in common with another one of its family.
fn after_common(one: IpAddr, other: IpAddr) -> u8 {
    let different = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()),
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return width(other) + 1,
    };
    // At most 128.
    (u128::BITS - different.leading_zeros()) as u8
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// As in EC2's documents: by name where it has one there.
fn protocol_name(number: u8) -> String {
    let known = [(6, "tcp"), (17, "udp"), (1, "icmp"), (58, "icmpv6")];
    let name = known.iter().find(|(known, _)| *known == number);
    name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

const fn has_ports(number: u8) -> bool {
    number == protocol::TCP || number == protocol::UDP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PortRange;

    fn rule(number: u32, traffic: Traffic, networks: &[&str]) -> ResolvedRule {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        ResolvedRule { number, direction: Direction::Ingress, traffic, networks, end: None }
    }

    const fn tcp(from: u16, to: u16) -> Traffic {
        Traffic::Tcp(PortRange { from, to })
    }

    fn probe(outside: &str, protocol: u8, port: u16) -> Probe {
        Probe { direction: Direction::Ingress, outside: outside.parse().unwrap(), protocol, port }
    }

    /// Number, field, value of the rule and of the packet.
    fn nearest(rules: &[ResolvedRule], probe: Probe) -> (u32, Field, String, String) {
        let miss = nearest_miss(rules, probe).unwrap();
        (miss.number, miss.field, miss.rule_value(), miss.packet_value(probe))
    }

    fn miss(number: u32, field: Field, rule: &str, packet: &str) -> (u32, Field, String, String) {
        (number, field, rule.to_owned(), packet.to_owned())
    }

    #[test]
    fn the_rule_with_the_longest_list_of_matching_fields_is_nearest() {
        let out = ResolvedRule {
            direction: Direction::Egress,
            ..rule(1, tcp(443, 443), &["192.0.2.7/32"])
        };
        let mut rules = vec![out];
        let packet = probe("192.0.2.7", 6, 443);
        assert_eq!(nearest(&rules, packet), miss(1, Field::Direction, "egress", "ingress"));
        rules.push(rule(2, Traffic::Udp(PortRange { from: 443, to: 443 }), &["192.0.2.0/24"]));
        assert_eq!(nearest(&rules, packet), miss(2, Field::Protocol, "udp", "tcp"));
        rules.push(rule(3, tcp(443, 443), &["10.0.0.0/8"]));
        assert_eq!(nearest(&rules, packet), miss(3, Field::Address, "10.0.0.0/8", "192.0.2.7"));
        rules.push(rule(4, tcp(80, 81), &["192.0.2.0/24"]));
        assert_eq!(nearest(&rules, packet), miss(4, Field::Port, "80-81", "443"));
        rules.push(rule(5, tcp(0, 65_535), &["192.0.2.0/24"]));
        assert_eq!(nearest_miss(&rules, packet), None);
    }

    #[test]
    fn the_longest_common_prefix_is_the_nearest_address() {
        let rules = [
            rule(1, tcp(22, 22), &["10.0.0.0/8", "192.0.4.0/24"]),
            rule(2, tcp(22, 22), &["192.0.3.0/24", "203.0.113.0/24"]),
            rule(3, tcp(22, 22), &["2001:db8::/32"]),
            rule(4, tcp(22, 22), &[]),
        ];
        let found = nearest(&rules, probe("192.0.2.7", 6, 22));
        assert_eq!(found, miss(2, Field::Address, "192.0.3.0/24", "192.0.2.7"));
        let found = nearest(&rules, probe("2001:db9::1", 6, 22));
        assert_eq!(found, miss(3, Field::Address, "2001:db8::/32", "2001:db9::1"));
        let found = nearest(&rules[2..], probe("192.0.2.7", 6, 22));
        assert_eq!(found, miss(3, Field::Address, "no address", "192.0.2.7"));
    }

    #[test]
    fn of_icmp_type_and_code_are_the_port() {
        let icmp = |number, matched| rule(number, Traffic::Icmp(matched), &["0.0.0.0/0"]);
        let rules = [icmp(1, IcmpMatch::Type(0)), icmp(2, IcmpMatch::TypeCode(3, 4))];
        let found = nearest(&rules, probe("192.0.2.7", 1, 0x0303));
        assert_eq!(found, miss(2, Field::Port, "3/4", "3/3"));
        // ICMP of IPv4 in an IPv6 packet is another protocol.
        let found = nearest(&rules, probe("2001:db8::1", 58, 0x8000));
        assert_eq!(found, miss(1, Field::Protocol, "icmp", "icmpv6"));
    }

    #[test]
    fn of_rules_that_are_equally_near_the_lowest_number_is_named() {
        let rules = [rule(9, tcp(79, 79), &["::/0"]), rule(7, tcp(81, 81), &["::/0"])];
        assert_eq!(nearest(&rules, probe("2001:db8::1", 6, 80)).0, 7);
        assert_eq!(nearest_miss(&[], probe("2001:db8::1", 6, 80)), None);
    }
}
