//! The numbers of rules, entries of ACLs and blocks, the indexes of their counters, and when they end.

use std::collections::BTreeMap;

use super::filters::Entries;
use crate::control::compiled::Policies;
use crate::dataplane::error::Result;
use crate::dataplane::tables::maps::Maps;
use crate::model::Model;
use crate::policy::blocks::{ResolvedBlock, block_numbers};
use crate::policy::filter::filter_numbers;

/// The numbers of what interfaces' filters and the blocks of the host consist of: sorted, each once.
pub(in crate::control) fn listed(model: &Model) -> Vec<u32> {
    let mut numbers = block_numbers(model);
    for interface in model.interfaces.values() {
        numbers.extend(filter_numbers(model, interface));
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Both, sorted, each once.
pub(super) fn union(mut one: Vec<u32>, other: &[u32]) -> Vec<u32> {
    one.extend(other);
    one.sort_unstable();
    one.dedup();
    one
}

/// The indexes of counters by number.
#[derive(Debug)]
pub(super) struct Indexes(BTreeMap<u32, u32>);

impl Indexes {
    /// Those of these numbers.
    pub(super) fn read(maps: &Maps, numbers: &[u32]) -> Result<Self> {
        Ok(Self(maps.counter_indexes(numbers)?))
    }

    /// The index of a number, which has a counter if it is in force before or after the change.
    pub(super) fn of(&self, number: u32) -> u32 {
        self.0.get(&number).copied().unwrap_or(0)
    }
}

/// The numbers of the rules of groups that end.
pub(super) fn timed(policies: &Policies) -> Vec<u32> {
    let rules = policies.values().flat_map(|compiled| &compiled.rules);
    rules.filter(|rule| rule.end.is_some()).map(|rule| rule.number).collect()
}

/// Takes the ends out that are in force otherwise, in `old`: packets meet them once they are written, so they
/// are not written before the change is stored.
pub(super) fn split_moved(
    ends: &mut BTreeMap<u32, u64>,
    old: &BTreeMap<u32, u64>,
) -> BTreeMap<u32, u64> {
    ends.extract_if(.., |index, end| old.get(index).is_some_and(|old| old != end)).collect()
}

/// When each counted rule, entry and block ends, by the index of its counter.
pub(super) fn ends(
    policies: &Policies,
    entries: &Entries,
    blocks: &[ResolvedBlock],
    indexes: &Indexes,
) -> BTreeMap<u32, u64> {
    let rules = policies.values().flat_map(|compiled| &compiled.rules);
    // A rule that owns no range has no counter, and the kernel never asks for its end.
    let rules = rules.filter_map(|rule| Some((*indexes.0.get(&rule.number)?, rule.end?)));
    let entries = entries.values().flatten();
    let entries = entries.filter_map(|entry| Some((entry.counter, entry.end?)));
    let blocks = blocks.iter().filter_map(|block| Some((block.counter, block.end?)));
    rules.chain(entries).chain(blocks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_in_force_is_moved_with_the_change_and_others_are_written_before() {
        let old = BTreeMap::from([(1, 10), (2, 20)]);
        let mut ends = BTreeMap::from([(1, 15), (2, 20), (3, 30)]);
        assert_eq!(split_moved(&mut ends, &old), BTreeMap::from([(1, 15)]));
        assert_eq!(ends.into_keys().collect::<Vec<_>>(), [2, 3]);
    }
}
