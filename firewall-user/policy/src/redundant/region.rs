//! The part of the rules' networks that has something to do with one network, and whether it covers traffic there.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// A network of either family: its address from the highest bit on, and its length. Sorted, a network comes right
/// before those inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Net {
    pub(crate) bits: u128,
    pub(crate) len: u8,
}

impl Net {
    pub(super) fn new(network: IpNet) -> Self {
        let bits = match network.trunc() {
            IpNet::V4(network) => u128::from(network.addr().to_bits()) << 96,
            IpNet::V6(network) => network.addr().to_bits(),
        };
        Self { bits, len: network.prefix_len() }
    }

    /// Whether another network is inside of it, or is it.
    pub(super) fn contains(self, other: Self) -> bool {
        self.len <= other.len && other.shortened(self.len) == self
    }

    /// The network of this length that contains it.
    const fn shortened(self, len: u8) -> Self {
        let host = match len {
            0 => u128::MAX,
            128.. => 0,
            _ => u128::MAX >> len,
        };
        Self { bits: self.bits & !host, len }
    }

    /// The last address.
    const fn last(self) -> u128 {
        match self.len {
            0 => u128::MAX,
            128.. => self.bits,
            len => self.bits | u128::MAX >> len,
        }
    }

    /// The first address of the second half; not of a single address.
    const fn middle(self) -> u128 {
        self.bits | 1 << (127 - self.len)
    }
}

/// Traffic that a rule allows in a network: numbers, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) net: Net,
    /// Position of the rule.
    pub(super) rule: usize,
    pub(super) interval: (u32, u32),
}

/// The entries that have something to do with a network.
#[derive(Clone, Debug)]
pub(super) struct Region<'a> {
    net: Net,
    /// Those whose network contains it, or is it.
    pub(super) around: Vec<Entry>,
    /// Those whose network is inside of it, sorted.
    pub(super) inside: Inside<'a>,
}

/// Entries that may be a part of a larger slice.
pub(super) type Inside<'a> = std::borrow::Cow<'a, [Entry]>;

impl<'a> Region<'a> {
    pub(super) fn new(entries: &'a [Entry], net: Net) -> Self {
        let mut around = Vec::new();
        for len in 0..=net.len {
            let wider = net.shortened(len);
            let first = entries.partition_point(|entry| entry.net < wider);
            around.extend(entries[first..].iter().take_while(|entry| entry.net == wider));
        }
        let first = entries.partition_point(|entry| entry.net <= net);
        let inside = &entries[first..];
        let inside = &inside[..inside.partition_point(|entry| entry.net.bits <= net.last())];
        Self { net, around, inside: inside.into() }
    }

    /// Only the entries of some rules.
    pub(super) fn only(mut self, may: impl Fn(usize) -> bool) -> Self {
        self.around.retain(|entry| may(entry.rule));
        let inside = self.inside.iter().filter(|entry| may(entry.rule)).copied().collect();
        self.inside = std::borrow::Cow::Owned(inside);
        self
    }

    /// The rules that cover the traffic in the whole network by networks that contain it.
    pub(super) fn covers_around(&self, interval: (u32, u32)) -> Option<BTreeSet<usize>> {
        chain(&self.around, interval)
    }

    /// The parts of the network with intervals of the traffic that no rule covers.
    pub(super) fn uncovered(&self, interval: (u32, u32)) -> Vec<(Net, (u32, u32))> {
        uncovered(self.net, &mut self.around.clone(), &self.inside, interval)
    }

    /// The rules that cover the traffic in the whole network.
    pub(super) fn covers(&self, interval: (u32, u32)) -> Option<BTreeSet<usize>> {
        let mut cover = BTreeSet::new();
        let mut around = self.around.clone();
        covers(self.net, &mut around, &self.inside, interval, &mut cover).then_some(cover)
    }
}

/// The parts of a network with intervals of the traffic that no entry has. `around` is left as it was.
fn uncovered(
    net: Net,
    around: &mut Vec<Entry>,
    inside: &[Entry],
    interval: (u32, u32),
) -> Vec<(Net, (u32, u32))> {
    let gaps = gaps(around, interval);
    let matters = |entry: &&Entry| {
        gaps.iter().any(|gap| entry.interval.0 <= gap.1 && gap.0 <= entry.interval.1)
    };
    if gaps.is_empty() || !inside.iter().any(|entry| matters(&entry)) {
        return gaps.into_iter().map(|gap| (net, gap)).collect();
    }
    // Those of a long list are copied once, not for each bit.
    let inside: Inside<'_> = match inside.iter().all(|entry| matters(&entry)) {
        true => inside.into(),
        false => inside.iter().filter(matters).copied().collect(),
    };
    let before = around.len();
    let (low, high) = inside.split_at(inside.partition_point(|one| one.net.bits < net.middle()));
    let len = net.len + 1;
    let halves = [(Net { len, ..net }, low), (Net { bits: net.middle(), len }, high)];
    let [mut found, others] = halves.map(|(half, inside)| {
        let equal = inside.partition_point(|entry| entry.net <= half);
        around.extend_from_slice(&inside[..equal]);
        let found = uncovered(half, around, &inside[equal..], interval);
        around.truncate(before);
        found
    });
    // What is uncovered in both halves is in the whole.
    let [first, second] = halves.map(|(half, _)| half);
    let mut joined = Vec::new();
    found.retain(|(part, gap)| {
        let is_in_both = *part == first && others.contains(&(second, *gap));
        joined.extend(is_in_both.then_some(*gap));
        !is_in_both
    });
    found.extend(
        others.into_iter().filter(|(part, gap)| !(*part == second && joined.contains(gap))),
    );
    found.extend(joined.into_iter().map(|gap| (net, gap)));
    found.sort_unstable();
    found
}

/// The parts of an interval that no entry has.
fn gaps(entries: &[Entry], (low, high): (u32, u32)) -> Vec<(u32, u32)> {
    let mut taken: Vec<(u32, u32)> = entries.iter().map(|entry| entry.interval).collect();
    taken.sort_unstable();
    let mut gaps = Vec::new();
    let mut next = low;
    for (from, to) in taken {
        if next > high {
            break;
        }
        if from > next {
            gaps.push((next, high.min(from - 1)));
        }
        next = next.max(to.saturating_add(1));
    }
    if next <= high {
        gaps.push((next, high));
    }
    gaps
}

/// Adds the rules that cover the traffic in a network to `cover`; whether they do. `around` are the entries whose
/// networks contain this one, and is left as it was.
fn covers(
    net: Net,
    around: &mut Vec<Entry>,
    inside: &[Entry],
    interval: (u32, u32),
    cover: &mut BTreeSet<usize>,
) -> bool {
    if let Some(rules) = chain(around, interval) {
        cover.extend(rules);
        return true;
    }
    if inside.is_empty() {
        return false;
    }
    let before = around.len();
    let (low, high) = inside.split_at(inside.partition_point(|one| one.net.bits < net.middle()));
    let len = net.len + 1;
    let halves = [(Net { len, ..net }, low), (Net { bits: net.middle(), len }, high)];
    halves.into_iter().all(|(half, inside)| {
        let equal = inside.partition_point(|entry| entry.net <= half);
        around.extend_from_slice(&inside[..equal]);
        let is_covered = covers(half, around, &inside[equal..], interval, cover);
        around.truncate(before);
        is_covered
    })
}

/// The fewest of these entries that together have the whole interval. Of equal ones the first.
fn chain(entries: &[Entry], (low, high): (u32, u32)) -> Option<BTreeSet<usize>> {
    let mut chosen = BTreeSet::new();
    let mut next = low;
    loop {
        let having = entries.iter().filter(|one| one.interval.0 <= next && next <= one.interval.1);
        let furthest = having.min_by_key(|entry| u32::MAX - entry.interval.1)?;
        chosen.insert(furthest.rule);
        if furthest.interval.1 >= high {
            return Some(chosen);
        }
        next = furthest.interval.1 + 1;
    }
}
