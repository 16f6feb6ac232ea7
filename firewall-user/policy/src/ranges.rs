//! What rules allow, as ranges of [`traffic`].

use std::collections::{BTreeMap, BTreeSet};

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

/// Cuts overlapping intervals into sorted, disjoint ones. Where several rules allow the same traffic,
/// the one with the lowest number owns it.
pub(crate) fn disjoint(intervals: Vec<Range>) -> Vec<Range> {
    if intervals.len() < 2 {
        return intervals;
    }
    // Where each rule begins, and where it ends, one past its last value.
    let mut edges: BTreeMap<u32, Vec<(bool, u32)>> = BTreeMap::new();
    for Range { low, high, rule } in intervals {
        edges.entry(low).or_default().push((true, rule));
        edges.entry(high + 1).or_default().push((false, rule));
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
