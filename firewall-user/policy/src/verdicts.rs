//! What packets another configuration decides otherwise: not the rules and entries that differ, but the traffic.

use std::fmt;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::traffic;
use firewall_ebpf::wire::protocol;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::filter::ResolvedEntry;
use crate::model::Action;
use crate::redundant::{Index, Net, Part, Parts, parts};
use crate::resolve::{Difference, ResolvedRule};

/// Packets that have another verdict: of one direction; by rules, those of unknown flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Whether they are allowed now, or not denied, and were not; or the other way round.
    pub is_allowed: bool,
    /// Their direction.
    pub direction: Direction,
    /// Their outside addresses.
    pub network: IpNet,
    /// Protocols and ports as numbers of [`traffic`], first and last.
    pub traffic: (u32, u32),
    /// The number of the rule that allows them, or did; or of the block or entry that denies them, or did.
    pub number: u32,
}

/// What `new` decides otherwise than `old`: each packet at most once in each direction of the change, at most `most`
/// pieces; and whether there are more. Both sets are in the order of their numbers. Ends of rules do not count.
#[must_use]
pub fn difference(old: &[ResolvedRule], new: &[ResolvedRule], most: usize) -> (Vec<Decided>, bool) {
    let mut found = Vec::new();
    let is_whole =
        changed(old, new, true, most, &mut found) && changed(new, old, false, most, &mut found);
    (found, !is_whole)
}

/// Adds the packets that a rule of `to` allows and none of `from`; whether all of them.
fn changed(
    from: &[ResolvedRule],
    to: &[ResolvedRule],
    is_allowed: bool,
    most: usize,
    found: &mut Vec<Decided>,
) -> bool {
    let added: Vec<ResolvedRule> = {
        let same = Difference::new(from, to).unchanged;
        let is_same = |rule: &&ResolvedRule| {
            same.binary_search_by_key(&rule.number, |one| one.number).is_ok()
        };
        to.iter().filter(|rule| !is_same(rule)).cloned().collect()
    };
    let all: Vec<ResolvedRule> = from.iter().chain(&added).cloned().collect();
    let index = Index::new(&all);
    for (at, rule) in all.iter().enumerate().skip(from.len()) {
        // What a rule before it has allowed is not found again.
        for (direction, net, traffic) in index.uncovered(at, |other| other < at) {
            if found.len() == most {
                return false;
            }
            let (number, network) = (rule.number, net);
            found.push(Decided { is_allowed, direction, network, traffic, number });
        }
    }
    true
}

/// What `new` denies and `old` does not, and the other way round: each packet once. All are in the order in which they
/// are evaluated, after those of `first`, which both have. Ends of entries do not count.
pub fn denials(
    first: &[ResolvedEntry],
    old: &[ResolvedEntry],
    new: &[ResolvedEntry],
) -> impl Iterator<Item = Decided> {
    // What the first entries match has the same verdict, and a block list among them may have a million networks.
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let [before, after] = [&old[same..], &new[same..]].map(denied);
    let [before_parts, after_parts] =
        [&before, &after].map(|all| Parts::new(all.iter().map(|(_, part)| *part)));
    let added = after.into_iter().map(move |one| (false, one, before_parts.missing(one.1)));
    let gone = before.into_iter().map(move |one| (true, one, after_parts.missing(one.1)));
    let changed: Vec<_> = added.chain(gone).filter(|(_, _, parts)| !parts.is_empty()).collect();
    let first = first.iter().chain(&old[..same]).filter(|_| !changed.is_empty());
    let first = Parts::new(first.flat_map(|entry| {
        let directions = Direction::ALL.into_iter().filter(|direction| entry.is_of(*direction));
        directions.flat_map(|direction| parts(direction, entry.traffic, &entry.networks))
    }));
    changed.into_iter().flat_map(move |(is_allowed, (number, _), parts)| {
        let pieces: Vec<Part> = parts.into_iter().flat_map(|part| first.missing(part)).collect();
        pieces.into_iter().map(move |(direction, network, traffic)| Decided {
            is_allowed,
            direction,
            network,
            traffic,
            number,
        })
    })
}

/// The packets that entries deny, in disjoint parts with the number of the entry.
fn denied(entries: &[ResolvedEntry]) -> Vec<(u32, Part)> {
    // Those that apply to both directions are two.
    let of_direction = Direction::ALL.into_iter().flat_map(|direction| {
        entries.iter().filter(move |entry| entry.is_of(direction)).map(move |entry| {
            let ResolvedEntry { counter: number, traffic, ref networks, .. } = *entry;
            let networks = networks.clone();
            let rule = ResolvedRule { number, direction, traffic, networks, end: None };
            (entry.action == Action::Deny, rule)
        })
    });
    let (denies, rules): (Vec<bool>, Vec<ResolvedRule>) = of_direction.unzip();
    let index = Index::new(&rules);
    let denying = denies.iter().enumerate().filter(|(_, denies)| **denies);
    let parts = denying.flat_map(|(at, _)| {
        // What an entry before it has matched does not come here.
        let parts = index.uncovered(at, |other| other < at);
        let number = rules[at].number;
        parts.into_iter().map(move |part| (number, part))
    });
    parts.collect()
}

impl Net {
    /// The network, of a family.
    pub(crate) fn network(self, is_v4: bool) -> IpNet {
        let Self { bits, len } = self;
        if is_v4 {
            // The bits of an IPv4 address are the highest ones.
            let address = u32::try_from(bits >> 96).unwrap_or(u32::MAX);
            Ipv4Net::new(address.into(), len.min(32)).unwrap_or_default().into()
        } else {
            Ipv6Net::new(bits.into(), len.min(128)).unwrap_or_default().into()
        }
    }
}

/// As `ingress tcp 80-443 from 10.0.0.0/8`.
impl fmt::Display for Decided {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, network, traffic, .. } = self;
        let word = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        write!(out, "{} {} {word} {network}", direction.name(), text(*traffic))
    }
}

/// Protocols and ports as text.
fn text((low, high): (u32, u32)) -> String {
    let (first, last) = (protocol_of(low), protocol_of(high));
    if (first, last) == (0, u8::MAX) && is_whole(low, high, first) && is_whole(low, high, last) {
        return "all".to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    let mut next = first;
    loop {
        let from = next;
        if is_whole(low, high, from) {
            // Protocols without a part of their ports stand together.
            while next < last && is_whole(low, high, next + 1) {
                next += 1;
            }
            parts.push(match from == next {
                true => one(from, None),
                false => format!("protocols {from}-{next}"),
            });
        } else {
            let from = low.max(traffic(next, 0));
            let to = high.min(traffic(next, u16::MAX));
            parts.push(one(next, Some((from as u16, to as u16))));
        }
        if next == last {
            return parts.join(", ");
        }
        next += 1;
    }
}

fn is_whole(low: u32, high: u32, number: u8) -> bool {
    low <= traffic(number, 0) && traffic(number, u16::MAX) <= high
}

/// The protocol of a number of [`traffic`].
fn protocol_of(number: u32) -> u8 {
    u8::try_from(number >> 16).unwrap_or(u8::MAX)
}

/// A protocol with its ports.
fn one(number: u8, ports: Option<(u16, u16)>) -> String {
    let name = match number {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMP => "icmp",
        protocol::ICMPV6 => "icmpv6",
        _ => return format!("protocol {number}"),
    };
    let is_icmp = matches!(number, protocol::ICMP | protocol::ICMPV6);
    let end = |port: u16| {
        let [kind, code] = port.to_be_bytes();
        if is_icmp { format!("{kind}/{code}") } else { port.to_string() }
    };
    match ports {
        None => format!("{name} all"),
        Some((from, to)) if from == to => format!("{name} {}", end(from)),
        Some((from, to)) if is_icmp && from & 0xff == 0 && to == from | 0xff => {
            format!("{name} {}", from >> 8)
        }
        Some((from, to)) => format!("{name} {}-{}", end(from), end(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IcmpMatch, PortRange, Traffic};

    fn rule(number: u32, traffic: Traffic, networks: &[&str]) -> ResolvedRule {
        ResolvedRule {
            number,
            direction: Direction::Ingress,
            traffic,
            networks: networks.iter().map(|one| one.parse::<IpNet>().unwrap()).collect(),
            end: None,
        }
    }

    const fn tcp(from: u16, to: u16) -> Traffic {
        Traffic::Tcp(PortRange { from, to })
    }

    fn found(old: &[ResolvedRule], new: &[ResolvedRule]) -> Vec<String> {
        let (found, is_cut) = difference(old, new, 100);
        assert!(!is_cut);
        let sign = |one: &Decided| if one.is_allowed { '+' } else { '-' };
        found.iter().map(|one| format!("{} {one}", sign(one))).collect()
    }

    #[test]
    fn only_what_is_decided_otherwise_is_named() {
        let old = [rule(1, tcp(80, 443), &["10.0.0.0/8"]), rule(2, tcp(22, 22), &["::/0"])];
        let new = [rule(1, tcp(80, 443), &["10.0.0.0/8"]), rule(3, tcp(400, 500), &["10.0.0.0/7"])];
        assert_eq!(
            found(&old, &new),
            [
                "+ ingress tcp 444-500 from 10.0.0.0/8",
                "+ ingress tcp 400-500 from 11.0.0.0/8",
                "- ingress tcp 22 from ::/0"
            ]
        );
        // Another form of the same rules.
        let halves = [
            rule(4, tcp(80, 100), &["10.0.0.0/8"]),
            rule(5, tcp(101, 443), &["10.0.0.0/9", "10.128.0.0/9"]),
            rule(6, tcp(22, 22), &["::/0"]),
        ];
        assert_eq!(found(&old, &halves), [""; 0]);
    }

    #[test]
    fn protocols_and_ports_are_written_as_rules_have_them() {
        let icmp = Traffic::Icmp(IcmpMatch::Type(8));
        let all = rule(2, Traffic::All, &["10.0.0.0/8"]);
        for (old, new, expected) in [
            (vec![], vec![all.clone()], "+ ingress all from 10.0.0.0/8"),
            (
                vec![rule(1, icmp, &["10.0.0.0/8"])],
                vec![all.clone()],
                "+ ingress protocol 0, icmp 0/0-7/255 from 10.0.0.0/8",
            ),
            (
                vec![all],
                vec![rule(1, icmp, &["10.0.0.0/8"])],
                "- ingress protocol 0, icmp 0/0-7/255 from 10.0.0.0/8",
            ),
            (vec![], vec![rule(1, icmp, &["10.0.0.0/8"])], "+ ingress icmp 8 from 10.0.0.0/8"),
            (
                vec![],
                vec![rule(1, Traffic::Other(47), &["::/0"])],
                "+ ingress protocol 47 from ::/0",
            ),
        ] {
            assert_eq!(found(&old, &new)[0], expected);
        }
    }
}
