//! The reference evaluator: the verdict directly from the rules. It is simple and slow on purpose, and
//! shares no code with the compiler.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;

use crate::model::{IcmpMatch, Traffic};
use crate::resolve::ResolvedRule;

/// A packet of an unknown flow: the fields that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its direction.
    pub direction: Direction,
    /// The address of its outside end.
    pub outside: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; of ICMP and ICMPv6 type and code as high and low byte; else 0.
    pub port: u16,
}

/// The numbers of the rules that allow the packet, in ascending order.
pub fn evaluate(rules: &[ResolvedRule], probe: Probe) -> impl Iterator<Item = u32> {
    rules.iter().filter(move |rule| allows(rule, probe)).map(|rule| rule.number)
}

/// Whether EC2 would track neither the packet nor any reply to it: a rule allows it from anywhere, and
/// rules of the other direction allow its protocol to anywhere, whatever the port. Rules with an end do not
/// count.
///
/// A reply goes the other way, from the port that the packet went to: it is not tracked if the packet
/// is not.
#[must_use]
pub fn is_untracked(rules: &[ResolvedRule], probe: Probe) -> bool {
    let counts =
        |rule: &&ResolvedRule| rule.end.is_none() && is_about_anywhere(rule, probe.outside);
    let anywhere: Vec<ResolvedRule> = rules.iter().filter(counts).cloned().collect();
    let has_ports = probe.protocol == 6 || probe.protocol == 17;
    if !has_ports || evaluate(&anywhere, probe).next().is_none() {
        return false;
    }
    // The lowest port that no rule allows is 0, or comes right after the last port of a rule.
    let after = |rule: &ResolvedRule| match rule.traffic {
        Traffic::Tcp(ports) | Traffic::Udp(ports) => ports.to.checked_add(1),
        _ => None,
    };
    let mut ports = anywhere.iter().filter_map(after).chain([0]);
    let direction = probe.direction.opposite();
    ports.all(|port| evaluate(&anywhere, Probe { direction, port, ..probe }).next().is_some())
}

/// Whether a rule names all addresses of a family, that of the outside address, as one network.
pub(crate) fn is_about_anywhere(rule: &ResolvedRule, outside: IpAddr) -> bool {
    let networks = &rule.networks;
    match outside {
        IpAddr::V4(_) => networks.v4().iter().any(|network| network.prefix_len() == 0),
        IpAddr::V6(_) => networks.v6().iter().any(|network| network.prefix_len() == 0),
    }
}

fn allows(rule: &ResolvedRule, probe: Probe) -> bool {
    rule.direction == probe.direction
        && rule.networks.cover(probe.outside)
        && is_traffic(rule.traffic, probe)
}

/// Whether the packet is of this traffic.
pub(crate) fn is_traffic(traffic: Traffic, probe: Probe) -> bool {
    let Probe { outside, protocol, port, .. } = probe;
    match traffic {
        Traffic::All => true,
        Traffic::Tcp(ports) => protocol == 6 && (ports.from..=ports.to).contains(&port),
        Traffic::Udp(ports) => protocol == 17 && (ports.from..=ports.to).contains(&port),
        Traffic::Icmp(matched) => protocol == 1 && outside.is_ipv4() && matches_icmp(matched, port),
        Traffic::Icmpv6(matched) => {
            protocol == 58 && outside.is_ipv6() && matches_icmp(matched, port)
        }
        Traffic::Other(number) => protocol == number,
    }
}

fn matches_icmp(matched: IcmpMatch, type_and_code: u16) -> bool {
    let [kind, code] = type_and_code.to_be_bytes();
    match matched {
        IcmpMatch::Any => true,
        IcmpMatch::Type(wanted) => kind == wanted,
        IcmpMatch::TypeCode(wanted, wanted_code) => kind == wanted && code == wanted_code,
    }
}
