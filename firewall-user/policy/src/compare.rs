//! What two policies of an interner have in common, and which rows of classes stay in use.

use firewall_ebpf::abi::policy::ANY_V6;
use firewall_ebpf::abi::prefix::Prefix;
use hashbrown::{HashMap, HashSet};

use crate::number::index;
use crate::prefixes::Prefixes;

/// A prefix with its old and its new class, which differ.
pub(crate) type Changed<const N: usize> = (Prefix<N>, [Option<u32>; 2]);

/// Where the classes of both policies occur, by number of the class.
pub(crate) struct Common {
    /// Where the old policy has a prefix of the class: an index into its IPv4 prefixes followed by its
    /// IPv6 prefixes; [`NOWHERE`] if it has none.
    pub(crate) samples: Vec<u32>,
    /// Whether the new policy has a prefix of the class.
    pub(crate) is_new: Vec<bool>,
    /// How many prefixes have the class in both.
    pub(crate) unchanged: Vec<u32>,
    /// How many prefixes of the old policy have been compared.
    compared: u32,
}

/// Not in the old policy.
const NOWHERE: u32 = u32::MAX;

impl Common {
    pub(crate) fn new(classes: usize) -> Self {
        let mut is_new = vec![false; classes];
        is_new[..2].fill(true);
        let samples = vec![NOWHERE; classes];
        Self { samples, is_new, unchanged: vec![0; classes], compared: 0 }
    }
}

/// The prefixes that differ between two tries of a family.
pub(crate) fn compare<const N: usize>(
    old: &Prefixes<N>,
    new: &Prefixes<N>,
    common: &mut Common,
) -> Vec<Changed<N>> {
    let mut changed = Vec::new();
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let (prefix, was, is) = match (olds.peek(), news.peek()) {
            (None, None) => break,
            (Some((o, was)), Some((n, is))) if o == n => (*o, Some(*was), Some(*is)),
            (Some((o, was)), Some((n, _))) if o < n => (*o, Some(*was), None),
            (Some((o, was)), None) => (*o, Some(*was), None),
            (_, Some((n, is))) => (*n, None, Some(*is)),
        };
        if let Some(was) = was {
            olds.next();
            common.samples[index(was)] = common.compared;
            common.compared += 1;
        }
        if let Some(is) = is {
            news.next();
            common.is_new[index(is)] = true;
        }
        match is {
            Some(is) if was == Some(is) => common.unchanged[index(is)] += 1,
            _ => changed.push((prefix, [was, is])),
        }
    }
    changed
}

/// The new classes that do not stay in the row of the old class of the same number, with the old class
/// whose row they get, or `None` for an unused row. A row stays in use where most prefixes stay
/// unchanged.
pub(crate) fn moved(
    common: &Common,
    v4: &[Changed<4>],
    v6: &[Changed<16>],
) -> HashMap<u32, Option<u32>> {
    let classes = v4.iter().map(|(_, classes)| *classes).chain(v6.iter().map(|(_, c)| *c));
    let mut overlaps: HashMap<(u32, u32), u32> = HashMap::new();
    for changed in classes {
        for class in changed.into_iter().flatten().filter(|class| *class > ANY_V6) {
            overlaps.entry((class, class)).or_insert(common.unchanged[index(class)]);
        }
        if let [Some(was), Some(is)] = changed {
            *overlaps.entry((was, is)).or_default() += 1;
        }
    }
    // The largest first; where counts are equal the order is that of the numbers.
    let mut largest: Vec<_> = overlaps.iter().map(|(pair, count)| (*count, *pair)).collect();
    largest.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let (mut taken, mut placed, mut moved) = (HashSet::new(), HashSet::new(), HashMap::new());
    for (_, (old, new)) in &largest {
        let exist = common.samples[index(*old)] != NOWHERE && common.is_new[index(*new)];
        if exist && !placed.contains(new) && taken.insert(*old) {
            placed.insert(*new);
            if old != new {
                moved.insert(*new, Some(*old));
            }
        }
    }
    for (_, (_, new)) in largest {
        if common.is_new[index(new)] && placed.insert(new) {
            moved.insert(new, None);
        }
    }
    moved
}
