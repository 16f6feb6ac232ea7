//! EC2's untracked connections: traffic that rules allow from anywhere, together with every reply to
//! it, needs no flow.
//!
//! EC2 does not document whether several rules may add up to all ports of the reply. Here they
//! may: the rules of all groups are evaluated together.

use firewall_ebpf::abi::policy::{Range, TIMED, UNTRACKED, traffic};
use firewall_ebpf::wire::protocol;

/// The traffic of one direction and family that needs no flow: sorted intervals with gaps between
/// them, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Untracked {
    intervals: Vec<(u32, u32)>,
}

impl Untracked {
    /// From what is allowed from anywhere in one direction and in the other, as sorted, disjoint
    /// ranges. Rules with an end do not count.
    pub(crate) fn new(allowed: &[Range], back: &[Range]) -> Self {
        let mut intervals: Vec<(u32, u32)> = Vec::new();
        // In ascending order of the numbers. Only these two have ports: ICMP is always tracked.
        for number in [protocol::TCP, protocol::UDP] {
            let (first, last) = (traffic(number, 0), traffic(number, u16::MAX));
            if !covers(back, first, last) {
                continue;
            }
            for Range { low, high, .. } in without_end(allowed) {
                let (low, high) = ((*low).max(first), (*high).min(last));
                if low > high {
                    continue;
                }
                match intervals.last_mut() {
                    Some((_, end)) if *end + 1 == low => *end = high,
                    _ => intervals.push((low, high)),
                }
            }
        }
        Self { intervals }
    }

    /// Ranges that are allowed from anywhere, with [`UNTRACKED`] set where they need no flow.
    pub(crate) fn mark(&self, ranges: &[Range]) -> Vec<Range> {
        self.split(ranges, |range| Some(Range { rule: range.rule | UNTRACKED, ..range }))
    }

    /// Ranges of a prefix without what needs no flow.
    pub(crate) fn without(&self, ranges: Vec<Range>) -> Vec<Range> {
        if self.intervals.is_empty() { ranges } else { self.split(&ranges, |_| None) }
    }

    /// Cuts sorted ranges at the borders of the intervals; `within` replaces or removes each piece
    /// inside of one.
    fn split(&self, ranges: &[Range], within: impl Fn(Range) -> Option<Range>) -> Vec<Range> {
        let mut pieces = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut from = range.low;
            let first = self.intervals.partition_point(|(_, high)| *high < range.low);
            let meeting = self.intervals[first..].iter().take_while(|(low, _)| *low <= range.high);
            for (low, high) in meeting {
                let (low, high) = ((*low).max(range.low), (*high).min(range.high));
                if from < low {
                    pieces.push(Range { low: from, high: low - 1, rule: range.rule });
                }
                pieces.extend(within(Range { low, high, rule: range.rule }));
                from = high + 1;
            }
            if from <= range.high {
                pieces.push(Range { low: from, high: range.high, rule: range.rule });
            }
        }
        pieces
    }
}

/// Whether sorted, disjoint ranges leave no gap from `first` to `last`.
fn covers(ranges: &[Range], first: u32, last: u32) -> bool {
    let mut next = first;
    for Range { low, high, .. } in without_end(ranges) {
        if *low <= next && next <= *high {
            if *high >= last {
                return true;
            }
            next = high + 1;
        }
    }
    false
}

/// What is allowed for as long as the policy is: the end of a rule would leave packets without their flow.
fn without_end(ranges: &[Range]) -> impl Iterator<Item = &Range> {
    ranges.iter().filter(|range| range.rule & TIMED == 0)
}
