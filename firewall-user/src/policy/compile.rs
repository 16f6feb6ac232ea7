//! The compiler: rules to classes and ranges. The same rules give byte-identical tables.

use std::collections::{BTreeMap, BTreeSet};

use firewall_ebpf::host::CompiledPolicy;
use firewall_ebpf::interface::Direction;
use firewall_ebpf::limits::{MAX_CLASSES, MAX_RANGES};
use firewall_ebpf::parse::protocol;
use firewall_ebpf::policy::{ANY_V4, ANY_V6, Class, NO_CLASS, Range, TRAFFIC_MAX, traffic};
use ipnet::IpNet;

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

/// A network with its rules' intervals of traffic, by direction.
type Intervals = BTreeMap<IpNet, [Vec<Range>; 2]>;

/// Compiles the rules of one interface. With [`Tracking::Auto`] the traffic that needs no flow is
/// marked in the two "any" classes, and left out of the others, so that admission gets to the mark.
///
/// # Errors
/// [`TooLarge`] if the result exceeds what the kernel program can search.
pub fn compile(rules: &[ResolvedRule], tracking: Tracking) -> Result<CompiledPolicy, TooLarge> {
    let intervals = by_network(rules);
    let untracked = match tracking {
        Tracking::Auto => [false, true].map(|is_v6| of_family(&intervals, is_v6)),
        Tracking::Always => Default::default(),
    };
    let classes = number(&intervals);
    fits("prefixes", classes.len(), MAX_CLASSES)?;

    let mut policy = CompiledPolicy::deny_all();
    policy.classes.resize(classes.len() + 2, Class::default());
    let mut enclosing: Vec<(IpNet, u32)> = Vec::new();
    for (network, rows) in intervals {
        let is_any = network.prefix_len() == 0;
        let any = if network.addr().is_ipv4() { ANY_V4 } else { ANY_V6 };
        // Networks come in order of address, then length: those that enclose this one are on the
        // stack, the narrowest on top.
        while enclosing.last().is_some_and(|(outer, _)| !outer.contains(&network)) {
            enclosing.pop();
        }
        let (class, parent) = if is_any {
            (any, NO_CLASS)
        } else {
            let class = classes[&network];
            let parent = enclosing.last().map_or(any, |(_, class)| *class);
            enclosing.push((network, class));
            insert(&mut policy, network, class);
            (class, parent)
        };
        let mut row = Class { parent, ..Class::default() };
        for direction in Direction::ALL {
            let at = direction as usize;
            let own = disjoint(&rows[at]);
            let needs_none = &untracked[usize::from(network.addr().is_ipv6())][at];
            let ranges = if is_any { needs_none.mark(&own) } else { needs_none.without(&own) };
            row.start[at] = size(policy.ranges.len())?;
            row.len[at] = size(ranges.len())?;
            policy.ranges.extend(ranges);
        }
        policy.classes[usize::try_from(class).unwrap_or(0)] = row;
    }
    fits("port ranges", policy.ranges.len(), MAX_RANGES)?;
    Ok(policy)
}

/// What needs no flow in a family, by direction.
fn of_family(intervals: &Intervals, is_v6: bool) -> [Untracked; 2] {
    let any = if is_v6 { IpNet::V6(Default::default()) } else { IpNet::V4(Default::default()) };
    intervals.get(&any).map_or_else(Default::default, |rows| {
        let [ingress, egress] = rows.each_ref().map(|row| disjoint(row));
        [Untracked::new(&ingress, &egress), Untracked::new(&egress, &ingress)]
    })
}

fn by_network(rules: &[ResolvedRule]) -> Intervals {
    let mut intervals = Intervals::new();
    for rule in rules {
        for network in &rule.networks {
            let Some((low, high)) = interval(rule.traffic, network.addr().is_ipv4()) else {
                continue;
            };
            intervals.entry(network.trunc()).or_default()[rule.direction as usize].push(Range {
                low,
                high,
                rule: rule.number,
            });
        }
    }
    intervals
}

/// The classes of all networks but the two "any", by network.
fn number(intervals: &Intervals) -> BTreeMap<IpNet, u32> {
    let networks = intervals.keys().filter(|network| network.prefix_len() > 0);
    networks.copied().zip(ANY_V6 + 1..).collect()
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

fn size(count: usize) -> Result<u32, TooLarge> {
    fits("port ranges", count, MAX_RANGES)?;
    // Fits, as just seen.
    Ok(u32::try_from(count).unwrap_or(MAX_RANGES))
}

fn fits(what: &'static str, needed: usize, limit: u32) -> Result<(), TooLarge> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if needed > limit { Err(TooLarge { what, needed, limit }) } else { Ok(()) }
}
