//! The compiler: rules to prefixes, classes and lists of ranges. The same rules give the same tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use firewall_ebpf::compiled::{CompiledClass, CompiledPolicy};
use firewall_ebpf::interface::Direction;
use firewall_ebpf::limits::{MAX_CLASSES, MAX_PREFIXES};
use firewall_ebpf::parse::protocol;
use firewall_ebpf::policy::{ANY_V4, ANY_V6, MAX_LIST, Range, TRAFFIC_MAX, traffic};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::model::{IcmpMatch, Tracking, Traffic};
use crate::policy::ResolvedRule;
use crate::policy::untracked::Untracked;

/// The policy does not fit into its maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy needs {needed} {what}, {} more than the {limit} that fit", .needed - .limit)]
pub struct TooLarge {
    /// What there are too many of.
    pub what: &'static str,
    /// How many the policy needs.
    pub needed: usize,
    /// How many fit.
    pub limit: usize,
}

/// Compiles the rules of one interface. With [`Tracking::Auto`] the traffic that needs no flow is
/// marked in the two "any" classes, and left out of the others, so that admission gets to the mark.
///
/// Prefixes for which the same rules speak, within the same enclosing prefix, share a class: a prefix
/// list costs its entries in the trie, and one class.
///
/// # Errors
/// [`TooLarge`] if the result exceeds what the kernel program can search.
pub fn compile(rules: &[ResolvedRule], tracking: Tracking) -> Result<CompiledPolicy, TooLarge> {
    let mut speaking = speaking(rules);
    let mut lists = Lists::new(rules, &speaking, tracking);
    let mut classes = Classes::default();
    let mut policy = CompiledPolicy::deny_all();
    for (any, is_v6) in [(ANY_V4, false), (ANY_V6, true)] {
        let rules = rules_of(&speaking, any_network(is_v6));
        policy.classes[index(any)].lists = lists.of(&rules, is_v6, true);
    }
    speaking.retain(|(network, _)| network.prefix_len() > 0);

    let mut enclosing: Vec<(IpNet, u32)> = Vec::new();
    for of_network in speaking.chunk_by(|(a, _), (b, _)| a == b) {
        let network = of_network[0].0;
        // Networks come in order of address, then length: those that enclose this one are on the
        // stack, the narrowest on top.
        while enclosing.last().is_some_and(|(outer, _)| !outer.contains(&network)) {
            enclosing.pop();
        }
        let is_v6 = network.addr().is_ipv6();
        let any = if is_v6 { ANY_V6 } else { ANY_V4 };
        let parent = enclosing.last().map_or(any, |(_, class)| *class);
        let rules: Vec<u32> = of_network.iter().map(|(_, rule)| *rule).collect();
        let lists = lists.of(&rules, is_v6, false);
        if lists == [0, 0] {
            // Says nothing that the enclosing prefix does not.
            continue;
        }
        let class = classes.number(CompiledClass { parent, lists }, &mut policy.classes);
        enclosing.push((network, class));
        insert(&mut policy, network, class);
    }
    policy.lists = lists.by_number;
    fits("classes", policy.classes.len(), MAX_CLASSES)?;
    fits("IPv4 prefixes", policy.prefixes_v4.len(), MAX_PREFIXES)?;
    fits("IPv6 prefixes", policy.prefixes_v6.len(), MAX_PREFIXES)?;
    Ok(policy)
}

/// Which rules, by their index, speak of which network: sorted, by network and then rule.
fn speaking(rules: &[ResolvedRule]) -> Vec<(IpNet, u32)> {
    let networks = rules.iter().map(|rule| rule.networks.len()).sum();
    let mut all = Vec::with_capacity(networks);
    for (number, rule) in (0_u32..).zip(rules) {
        let meant = rule
            .networks
            .iter()
            .filter(|network| interval(rule.traffic, network.addr().is_ipv4()).is_some());
        all.extend(meant.map(|network| (network.trunc(), number)));
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn any_network(is_v6: bool) -> IpNet {
    if is_v6 { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) }
}

/// The rules that speak of a network, by their index.
fn rules_of(speaking: &[(IpNet, u32)], network: IpNet) -> Vec<u32> {
    let from = speaking.partition_point(|(other, _)| *other < network);
    speaking[from..].iter().take_while(|(other, _)| *other == network).map(|(_, r)| *r).collect()
}

/// Every different list of ranges, once.
struct Lists<'a> {
    rules: &'a [ResolvedRule],
    /// What needs no flow, by family and direction.
    untracked: [[Untracked; 2]; 2],
    by_number: Vec<Vec<Range>>,
    numbers: HashMap<Vec<Range>, u32>,
    /// By the rules that speak, and the family: rules of a prefix list speak of all its entries.
    made: HashMap<(Box<[u32]>, bool), [u32; 2]>,
}

impl<'a> Lists<'a> {
    fn new(rules: &'a [ResolvedRule], speaking: &[(IpNet, u32)], tracking: Tracking) -> Self {
        let mut lists = Self {
            rules,
            untracked: Default::default(),
            by_number: vec![Vec::new()],
            numbers: HashMap::from([(Vec::new(), 0)]),
            made: HashMap::new(),
        };
        if tracking == Tracking::Auto {
            lists.untracked = [false, true].map(|is_v6| {
                let rules = rules_of(speaking, any_network(is_v6));
                let [ingress, egress] =
                    Direction::ALL.map(|direction| lists.disjoint(&rules, direction, is_v6));
                [Untracked::new(&ingress, &egress), Untracked::new(&egress, &ingress)]
            });
        }
        lists
    }

    /// The lists, by direction, that these rules make for a network of that family.
    fn of(&mut self, rules: &[u32], is_v6: bool, is_any: bool) -> [u32; 2] {
        let key = (Box::from(rules), is_v6);
        if !is_any && let Some(lists) = self.made.get(&key) {
            return *lists;
        }
        let mut lists = [0; 2];
        for direction in Direction::ALL {
            let own = self.disjoint(rules, direction, is_v6);
            let needs_none = &self.untracked[usize::from(is_v6)][direction as usize];
            let ranges = if is_any { needs_none.mark(&own) } else { needs_none.without(&own) };
            lists[direction as usize] = self.number(ranges);
        }
        if !is_any {
            self.made.insert(key, lists);
        }
        lists
    }

    fn number(&mut self, ranges: Vec<Range>) -> u32 {
        if let Some(number) = self.numbers.get(&ranges) {
            return *number;
        }
        let number = u32::try_from(self.by_number.len()).unwrap_or(u32::MAX);
        self.by_number.push(ranges.clone());
        self.numbers.insert(ranges, number);
        number
    }

    /// What these rules allow in one direction.
    fn disjoint(&self, rules: &[u32], direction: Direction, is_v6: bool) -> Vec<Range> {
        let rules = rules.iter().map(|rule| &self.rules[index(*rule)]);
        let intervals: Vec<Range> = rules
            .filter(|rule| rule.direction == direction)
            .filter_map(|rule| {
                let (low, high) = interval(rule.traffic, !is_v6)?;
                Some(Range { low, high, rule: rule.number })
            })
            .collect();
        disjoint(&intervals)
    }
}

/// Numbers of classes by what they are.
#[derive(Default)]
struct Classes(HashMap<CompiledClass, u32>);

impl Classes {
    fn number(&mut self, class: CompiledClass, all: &mut Vec<CompiledClass>) -> u32 {
        *self.0.entry(class).or_insert_with(|| {
            all.push(class);
            u32::try_from(all.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn insert(policy: &mut CompiledPolicy, network: IpNet, class: u32) {
    match network {
        IpNet::V4(v4) => {
            policy.prefixes_v4.insert((v4.prefix_len(), v4.network().octets()), class);
        }
        IpNet::V6(v6) => {
            policy.prefixes_v6.insert((v6.prefix_len(), v6.network().octets()), class);
        }
    }
}

// A list has no more ranges than there is different traffic of a family: TCP, UDP and ICMP, with 2^16
// values each, and 253 protocols of which only all traffic can be meant.
const _: () = assert!(MAX_LIST > 4 << 16);

/// What a rule allows in a family, as an interval of [`traffic`]; `None` for the other family's
/// ICMP.
fn interval(what: Traffic, is_v4: bool) -> Option<(u32, u32)> {
    let span = |protocol, from, to| Some((traffic(protocol, from), traffic(protocol, to)));
    let icmp = |protocol, matched| {
        let (from, to) = match matched {
            IcmpMatch::Any => (0, u16::MAX),
            IcmpMatch::Type(kind) => (u16::from(kind) << 8, u16::from(kind) << 8 | 0xff),
            IcmpMatch::TypeCode(kind, code) => {
                let both = u16::from(kind) << 8 | u16::from(code);
                (both, both)
            }
        };
        span(protocol, from, to)
    };
    match what {
        Traffic::All => Some((0, TRAFFIC_MAX)),
        Traffic::Tcp(ports) => span(protocol::TCP, ports.from, ports.to),
        Traffic::Udp(ports) => span(protocol::UDP, ports.from, ports.to),
        Traffic::Icmp(matched) if is_v4 => icmp(protocol::ICMP, matched),
        Traffic::Icmpv6(matched) if !is_v4 => icmp(protocol::ICMPV6, matched),
        Traffic::Icmp(_) | Traffic::Icmpv6(_) => None,
        Traffic::Other(number) => span(number, 0, u16::MAX),
    }
}

/// Cuts overlapping intervals into sorted, disjoint ones. Where several rules allow the same, the
/// one with the lowest number owns it.
fn disjoint(intervals: &[Range]) -> Vec<Range> {
    // Where each rule begins and, one past its end, stops to count.
    let mut edges: BTreeMap<u32, Vec<(bool, u32)>> = BTreeMap::new();
    for Range { low, high, rule } in intervals {
        edges.entry(*low).or_default().push((true, *rule));
        edges.entry(high + 1).or_default().push((false, *rule));
    }
    let mut open: BTreeSet<u32> = BTreeSet::new();
    let mut ranges: Vec<Range> = Vec::new();
    let mut from = 0;
    for (at, changes) in edges {
        if let Some(rule) = open.first().copied() {
            match ranges.last_mut() {
                Some(last) if last.rule == rule && last.high + 1 == from => last.high = at - 1,
                _ => ranges.push(Range { low: from, high: at - 1, rule }),
            }
        }
        for (begins, rule) in changes {
            if begins {
                open.insert(rule)
            } else {
                open.remove(&rule)
            };
        }
        from = at;
    }
    ranges
}

fn fits(what: &'static str, needed: usize, limit: u32) -> Result<(), TooLarge> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if needed > limit { Err(TooLarge { what, needed, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_count_it_needs() {
        let limit = usize::try_from(MAX_PREFIXES).unwrap();
        assert_eq!(fits("IPv4 prefixes", limit, MAX_PREFIXES), Ok(()));
        let error = fits("IPv4 prefixes", limit + 2, MAX_PREFIXES).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the policy needs 4194306 IPv4 prefixes, 2 more than the 4194304 that fit"
        );
    }
}
