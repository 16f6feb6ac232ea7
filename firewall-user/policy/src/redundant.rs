//! Rules that others make unnecessary.
//!
//! A rule is *shadowed* if one other rule covers it: the same or a wider one in direction, traffic and networks.
//! It is *redundant* if several others together do. What this names can be removed, all of it at once, and every
//! packet has the verdict that it had, at any time, and is tracked if it was:
//!
//! - a rule that ends covers only rules that end no later;
//! - traffic of all addresses is covered for tracking only by rules that also name all addresses as one network.
//!
//! A rule that matches no packet, such as one of a group without members, is not named: nothing covers it.
//! Networks are those of the resolved rules, so a peer that is a group or prefix list counts with its present content.

use std::collections::BTreeSet;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{TRAFFIC_MAX, traffic};
use firewall_ebpf::wire::protocol;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::model::{Family, IcmpMatch, Networks, Traffic};
use crate::resolve::ResolvedRule;
pub(crate) use region::Net;
use region::{Entry, Region};

mod region;

/// Covers of more rules are not made smaller by leaving out one after the other.
const MOST_MINIMISED: usize = 64;

/// A rule that could be removed without any effect on a verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redundant {
    /// Its number.
    pub number: u32,
    /// The rules that allow all of its traffic, ascending, none of them redundant itself. One: it shadows the rule.
    pub covered_by: Vec<u32>,
}

/// The rules that others make unnecessary, in the order of their numbers. Of rules that cover each other the one with
/// the lowest number stays.
#[must_use]
pub fn redundant(rules: &[ResolvedRule]) -> Vec<Redundant> {
    let index = Index::new(rules);
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|at| rules[*at].number);
    let mut removed: BTreeSet<usize> = BTreeSet::new();
    // Shadowed rules first: of one wide rule and the narrow ones that add up to it, the wide one stays.
    for &rule in order.iter().rev() {
        if index.single(rule, |other| !removed.contains(&other)).is_some() {
            removed.insert(rule);
        }
    }
    for &rule in order.iter().rev() {
        if !removed.contains(&rule)
            && index.cover(rule, |other| !removed.contains(&other)).is_some()
        {
            removed.insert(rule);
        }
    }
    let named = order.iter().filter(|rule| removed.contains(*rule)).filter_map(|&rule| {
        let stays = |other: usize| !removed.contains(&other);
        let cover = match index.single(rule, stays) {
            Some(one) => vec![one],
            None => index.minimal_cover(rule, stays)?,
        };
        let mut covered_by: Vec<u32> = cover.iter().map(|at| rules[*at].number).collect();
        covered_by.sort_unstable();
        Some(Redundant { number: rules[rule].number, covered_by })
    });
    named.collect()
}

/// Packets: their direction, outside network, and traffic as numbers, first and last.
pub(crate) type Part = (Direction, IpNet, (u32, u32));

/// Parts of the packets, in the order in which they are looked up.
pub(crate) struct Parts(HashMap<Side, Vec<Entry>>);

impl Parts {
    pub(crate) fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut sides: HashMap<Side, Vec<Entry>> = HashMap::new();
        for (at, (direction, network, interval)) in parts.into_iter().enumerate() {
            let entry = Entry { net: Net::new(network), rule: at, interval };
            sides.entry((direction, network.addr().is_ipv4())).or_default().push(entry);
        }
        for entries in sides.values_mut() {
            entries.sort_unstable_by_key(|entry| entry.net);
        }
        Self(sides)
    }

    /// What is left of a part without these, in disjoint pieces.
    pub(crate) fn missing(&self, (direction, network, interval): Part) -> Vec<Part> {
        let side = (direction, network.addr().is_ipv4());
        let entries = self.0.get(&side).map_or(&[][..], |entries| entries);
        let pieces = Region::new(entries, Net::new(network)).uncovered(interval);
        pieces.into_iter().map(|(net, gap)| (direction, net.network(side.1), gap)).collect()
    }
}

/// The traffic of an entry as parts of the packets of a direction.
pub(crate) fn parts(
    direction: Direction,
    what: Traffic,
    networks: &Networks,
) -> impl Iterator<Item = Part> {
    networks.iter().filter_map(move |network| {
        Some((direction, network, interval(what, Family::of(&network))?))
    })
}

/// Direction, and whether the family is IPv4.
type Side = (Direction, bool);

/// The networks of the rules, sorted, with their rules.
pub(crate) struct Index<'a> {
    rules: &'a [ResolvedRule],
    sides: HashMap<Side, Vec<Entry>>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(rules: &'a [ResolvedRule]) -> Self {
        let mut sides: HashMap<Side, Vec<Entry>> = HashMap::new();
        for (at, rule) in rules.iter().enumerate() {
            for network in &rule.networks {
                let Some(interval) = interval(rule.traffic, Family::of(&network)) else { continue };
                let side = (rule.direction, network.addr().is_ipv4());
                let entry = Entry { net: Net::new(network), rule: at, interval };
                sides.entry(side).or_default().push(entry);
            }
        }
        for entries in sides.values_mut() {
            entries.sort_unstable_by_key(|entry| (entry.net, rules[entry.rule].number));
        }
        Self { rules, sides }
    }

    /// The networks of a rule with its traffic in them.
    fn pieces(&self, rule: usize) -> impl Iterator<Item = (Side, Net, (u32, u32))> {
        let rule = &self.rules[rule];
        rule.networks.iter().filter_map(|network| {
            let interval = interval(rule.traffic, Family::of(&network))?;
            Some(((rule.direction, network.addr().is_ipv4()), Net::new(network), interval))
        })
    }

    /// Whether a rule lasts as long as another one.
    fn outlives(&self, other: usize, rule: usize) -> bool {
        match (self.rules[other].end, self.rules[rule].end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(other), Some(rule)) => other >= rule,
        }
    }

    /// A rule that covers another one alone, of those that may; that with the lowest number.
    fn single(&self, rule: usize, may: impl Fn(usize) -> bool) -> Option<usize> {
        let (side, net, interval) = self.pieces(rule).next()?;
        let region = self.region(side, net);
        let has_first = |entry: &&Entry| {
            entry.rule != rule
                && entry.interval.0 <= interval.0
                && interval.1 <= entry.interval.1
                && may(entry.rule)
        };
        // Networks inside of the first one can only cover it together, so they are of a rule with several.
        let inside = region.inside.iter();
        let inside = inside.filter(|entry| self.rules[entry.rule].networks.len() > 1);
        let candidates = region.around.iter().chain(inside).filter(has_first);
        let candidates: BTreeSet<(u32, usize)> =
            candidates.map(|entry| (self.rules[entry.rule].number, entry.rule)).collect();
        let mut candidates = candidates.into_iter().map(|(_, other)| other);
        candidates.find(|&only| self.cover(rule, |other| other == only).is_some())
    }

    /// Rules that cover a rule together, of those that may; `None` if they do not.
    fn cover(&self, rule: usize, may: impl Fn(usize) -> bool) -> Option<BTreeSet<usize>> {
        let may = |other: usize| other != rule && may(other) && self.outlives(other, rule);
        let mut cover = BTreeSet::new();
        for (side, net, interval) in self.pieces(rule) {
            let region = self.region(side, net).only(may);
            if net.len == 0 && self.rules[rule].end.is_none() {
                // What is allowed for all addresses as one network decides what is tracked.
                for number in [protocol::TCP, protocol::UDP] {
                    let ports = (traffic(number, 0), traffic(number, u16::MAX));
                    let (low, high) = (interval.0.max(ports.0), interval.1.min(ports.1));
                    if low <= high {
                        cover.extend(region.covers_around((low, high))?);
                    }
                }
            }
            cover.extend(region.covers(interval)?);
        }
        (!cover.is_empty()).then_some(cover)
    }

    /// The packets of a rule that none of the rules that may allows: disjoint networks with intervals of traffic.
    pub(crate) fn uncovered(&self, rule: usize, may: impl Fn(usize) -> bool) -> Vec<Part> {
        let mut found = Vec::new();
        let mut pieces: Vec<_> = self.pieces(rule).collect();
        // A network inside of another one of the same rule is part of that.
        pieces.sort_by_key(|(side, net, _)| (side.1, *net));
        pieces.dedup_by(|(side, net, _), (before_side, before, _)| {
            side == before_side && before.contains(*net)
        });
        for (side, net, interval) in pieces {
            let region = self.region(side, net).only(&may);
            let uncovered = region.uncovered(interval).into_iter();
            found.extend(uncovered.map(|(net, gap)| (side.0, net.network(side.1), gap)));
        }
        found
    }

    /// As [`Self::cover`], without rules that are not needed for it, if it has few.
    fn minimal_cover(&self, rule: usize, may: impl Fn(usize) -> bool) -> Option<Vec<usize>> {
        let mut cover = self.cover(rule, may)?;
        if cover.len() <= MOST_MINIMISED {
            let mut all: Vec<usize> = cover.iter().copied().collect();
            all.sort_by_key(|at| self.rules[*at].number);
            for one in all.into_iter().rev() {
                if self.cover(rule, |other| other != one && cover.contains(&other)).is_some() {
                    cover.remove(&one);
                }
            }
        }
        Some(cover.into_iter().collect())
    }

    /// The entries that have something to do with a network.
    fn region(&self, side: Side, net: Net) -> Region<'_> {
        let entries = self.sides.get(&side).map_or(&[][..], |entries| entries);
        Region::new(entries, net)
    }
}

/// The traffic as numbers, first and last; none if the family does not have it.
fn interval(what: Traffic, family: Family) -> Option<(u32, u32)> {
    let of = |number: u8, from: u16, to: u16| Some((traffic(number, from), traffic(number, to)));
    let icmp = |number: u8, matched| match matched {
        IcmpMatch::Any => of(number, 0, u16::MAX),
        IcmpMatch::Type(kind) => {
            of(number, u16::from_be_bytes([kind, 0]), u16::from_be_bytes([kind, u8::MAX]))
        }
        IcmpMatch::TypeCode(kind, code) => {
            let both = u16::from_be_bytes([kind, code]);
            of(number, both, both)
        }
    };
    match what {
        Traffic::All => Some((0, TRAFFIC_MAX)),
        Traffic::Tcp(ports) => of(protocol::TCP, ports.from, ports.to),
        Traffic::Udp(ports) => of(protocol::UDP, ports.from, ports.to),
        Traffic::Icmp(matched) if family == Family::Ipv4 => icmp(protocol::ICMP, matched),
        Traffic::Icmpv6(matched) if family == Family::Ipv6 => icmp(protocol::ICMPV6, matched),
        Traffic::Icmp(_) | Traffic::Icmpv6(_) => None,
        Traffic::Other(number) => of(number, 0, u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PortRange;

    fn rule(number: u32, from: u16, to: u16, networks: &[&str]) -> ResolvedRule {
        ResolvedRule {
            number,
            direction: Direction::Ingress,
            traffic: Traffic::Tcp(PortRange { from, to }),
            networks: networks.iter().map(|one| one.parse::<IpNet>().unwrap()).collect(),
            end: None,
        }
    }

    fn found(rules: &[ResolvedRule]) -> Vec<(u32, Vec<u32>)> {
        redundant(rules).into_iter().map(|one| (one.number, one.covered_by)).collect()
    }

    #[test]
    fn a_narrower_or_equal_rule_is_shadowed() {
        let rules = [
            rule(1, 443, 443, &["192.0.2.0/24"]),
            rule(2, 443, 443, &["192.0.2.0/24"]),
            rule(3, 80, 443, &["192.0.2.128/25", "192.0.2.0/25", "203.0.113.0/24"]),
            rule(4, 22, 22, &["192.0.2.0/24"]),
            rule(5, 80, 90, &["203.0.113.7/32"]),
            rule(6, 443, 443, &[]),
        ];
        assert_eq!(found(&rules), [(1, vec![3]), (2, vec![3]), (5, vec![3])]);
        assert_eq!(found(&rules[..2]), [(2, vec![1])]);
    }

    #[test]
    fn several_rules_make_one_redundant() {
        let rules = [
            rule(1, 0, 100, &["10.0.0.0/9"]),
            rule(2, 50, 100, &["10.0.0.0/8"]),
            rule(3, 101, 200, &["10.0.0.0/8"]),
            rule(4, 60, 150, &["10.0.0.0/8"]),
            rule(5, 0, 65_535, &["192.0.2.0/24"]),
        ];
        assert_eq!(found(&rules), [(4, vec![2, 3])]);
        // A wide rule stays, and the narrow ones that add up to it go.
        let halves = [
            rule(1, 80, 80, &["10.0.0.0/9"]),
            rule(2, 80, 80, &["10.128.0.0/9"]),
            rule(3, 80, 80, &["10.0.0.0/8"]),
        ];
        assert_eq!(found(&halves), [(1, vec![3]), (2, vec![3])]);
    }

    #[test]
    fn a_rule_that_ends_covers_none_that_ends_later() {
        let until = |end, rule: ResolvedRule| ResolvedRule { end, ..rule };
        let wide = || rule(1, 0, 65_535, &["10.0.0.0/8"]);
        let narrow = || rule(2, 80, 80, &["10.0.0.0/16"]);
        for (wide_end, narrow_end, is_shadowed) in [
            (None, None, true),
            (None, Some(5), true),
            (Some(5), Some(5), true),
            (Some(4), Some(5), false),
            (Some(5), None, false),
        ] {
            let rules = [until(wide_end, wide()), until(narrow_end, narrow())];
            assert_eq!(!found(&rules).is_empty(), is_shadowed, "{wide_end:?} {narrow_end:?}");
        }
    }

    #[test]
    fn two_halves_of_all_addresses_do_not_cover_all_of_them() {
        let mut rules = [
            rule(1, 80, 80, &["0.0.0.0/1"]),
            rule(2, 80, 80, &["128.0.0.0/1"]),
            rule(3, 80, 80, &["0.0.0.0/0"]),
        ];
        assert_eq!(found(&rules), [(1, vec![3]), (2, vec![3])]);
        // Without the halves' being shadowed: the whole is untracked, the halves are not.
        rules[0].traffic = Traffic::Tcp(PortRange { from: 80, to: 81 });
        rules[1].traffic = Traffic::Tcp(PortRange { from: 80, to: 81 });
        assert_eq!(found(&rules), []);
        rules[2].end = Some(7);
        assert_eq!(found(&rules), [(3, vec![1, 2])]);
    }
}
