//! What two policies of a book have in common, and which rows of classes go on.

use firewall_ebpf::host::mask;
use firewall_ebpf::policy::ANY_V6;
use hashbrown::{HashMap, HashSet};

use super::book::{Prefixes, index};
use super::delta::Prefix;

/// A prefix with its old and its new class, which differ.
pub(super) type Changed<const N: usize> = (Prefix<N>, [Option<u32>; 2]);

/// What is known of the classes of both policies, by number.
pub(super) struct Common {
    /// Where the old policy has a prefix of the class: in its IPv4 prefixes, or behind them in the
    /// others; [`NOWHERE`] if it has none.
    pub(super) samples: Vec<u32>,
    /// Whether the new one has it.
    pub(super) is_new: Vec<bool>,
    /// How many prefixes have it in both.
    pub(super) stay: Vec<u32>,
    /// How many prefixes of the old policy were looked at.
    seen: u32,
}

/// Not in the old policy.
const NOWHERE: u32 = u32::MAX;

impl Common {
    pub(super) fn new(classes: usize) -> Self {
        let mut is_new = vec![false; classes];
        is_new[..2].fill(true);
        Self { samples: vec![NOWHERE; classes], is_new, stay: vec![0; classes], seen: 0 }
    }
}

/// What differs between two tries of a family.
pub(super) fn compare<const N: usize>(
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
            (Some((o, was)), Some((n, _))) if place(o) < place(n) => (*o, Some(*was), None),
            (Some((o, was)), None) => (*o, Some(*was), None),
            (_, Some((n, is))) => (*n, None, Some(*is)),
        };
        if let Some(was) = was {
            olds.next();
            common.samples[index(was)] = common.seen;
            common.seen += 1;
        }
        if let Some(is) = is {
            news.next();
            common.is_new[index(is)] = true;
        }
        match is {
            Some(is) if was == Some(is) => common.stay[index(is)] += 1,
            _ => changed.push((prefix, [was, is])),
        }
    }
    changed
}

/// Which new classes are not in the row of the old one of their number, and in whose they are: `None`
/// in one of their own. A row goes on where most prefixes stay what they are.
pub(super) fn moved(
    common: &Common,
    v4: &[Changed<4>],
    v6: &[Changed<16>],
) -> HashMap<u32, Option<u32>> {
    let classes = v4.iter().map(|(_, classes)| *classes).chain(v6.iter().map(|(_, c)| *c));
    let mut overlaps: HashMap<(u32, u32), u32> = HashMap::new();
    for changed in classes {
        for class in changed.into_iter().flatten().filter(|class| *class > ANY_V6) {
            overlaps.entry((class, class)).or_insert(common.stay[index(class)]);
        }
        if let [Some(was), Some(is)] = changed {
            *overlaps.entry((was, is)).or_default() += 1;
        }
    }
    // The largest first; where counts agree the order is that of the numbers.
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

/// What prefixes are sorted by.
pub(super) const fn place<const N: usize>((length, octets): &Prefix<N>) -> ([u8; N], u8) {
    (*octets, *length)
}

pub(super) fn find<const N: usize>(prefixes: &Prefixes<N>, prefix: Prefix<N>) -> Option<u32> {
    let at = prefixes.binary_search_by_key(&place(&prefix), |(prefix, _)| place(prefix));
    at.ok().map(|at| prefixes[at].1)
}

/// The class of the longest prefix that is shorter than this one and covers it.
pub(super) fn enclosing<const N: usize>(
    prefixes: &Prefixes<N>,
    (length, octets): Prefix<N>,
) -> Option<u32> {
    (1..length).rev().find_map(|length| find(prefixes, (length, mask(octets, length))))
}
