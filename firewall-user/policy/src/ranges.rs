//! What rules allow, as ranges of [`traffic`].

use std::collections::BTreeMap;

use firewall_ebpf::abi::policy::{MAX_LIST, Range, TRAFFIC_MAX, traffic};
use firewall_ebpf::wire::protocol;

use crate::model::{IcmpMatch, Traffic};

// A list has at most one range for each value of `traffic` that rules can tell apart: 2^16 each of
// TCP, UDP and ICMP, and 253 protocols that only match as a whole.
const _: () = assert!(MAX_LIST > 4 << 16);

/// What a rule allows in a family, as an interval of [`traffic`], both ends included; `None` for the
/// ICMP of the other family.
pub(crate) fn interval(what: Traffic, is_v4: bool) -> Option<(u32, u32)> {
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

/// Traffic of something that comes before others, or after them, where several apply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval<K> {
    /// The lowest rank of those that apply is the first. No two have the same.
    pub(crate) rank: K,
    /// The traffic, and what owns it.
    pub(crate) range: Range,
}

/// Cuts overlapping intervals into sorted, disjoint ranges, each of the first that applies to it.
pub(crate) fn disjoint<K: Ord + Copy>(intervals: &[Interval<K>]) -> Vec<Range> {
    if let [] | [_] = intervals {
        return intervals.iter().map(|interval| interval.range).collect();
    }
    // Where each begins, and where it ends, one past its last value.
    let mut edges: BTreeMap<u32, Vec<(bool, K, u32)>> = BTreeMap::new();
    for Interval { rank, range: Range { low, high, rule } } in intervals {
        edges.entry(*low).or_default().push((true, *rank, *rule));
        edges.entry(high + 1).or_default().push((false, *rank, *rule));
    }
    let mut open: BTreeMap<K, u32> = BTreeMap::new();
    let mut ranges: Vec<Range> = Vec::new();
    let mut from = 0;
    for (at, changes) in edges {
        if let Some((_, rule)) = open.first_key_value() {
            match ranges.last_mut() {
                Some(last) if last.rule == *rule && last.high + 1 == from => last.high = at - 1,
                _ => ranges.push(Range { low: from, high: at - 1, rule: *rule }),
            }
        }
        for (begins, rank, rule) in changes {
            if begins {
                open.insert(rank, rule);
            } else {
                open.remove(&rank);
            }
        }
        from = at;
    }
    ranges
}
