//! The writes that turn the tries of some blocks into those of others.

use std::cmp::Ordering;

use firewall_ebpf::abi::prefix::Prefix;

use super::{BlockedPrefixes, CompiledBlocks};
use crate::writes::PrefixWrites;

/// Writes into the tries of a bank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockWrites {
    /// IPv4.
    pub v4: PrefixWrites<4>,
    /// IPv6.
    pub v6: PrefixWrites<16>,
}

impl BlockWrites {
    /// How many prefixes are written or removed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.v4.put.len() + self.v4.removed.len() + self.v6.put.len() + self.v6.removed.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A change of blocks within a bank, whose tries hold two values for each prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockDelta {
    /// Before the swap: packets still find the old blocks.
    pub before: BlockWrites,
    /// After the swap, when no packet reads the old half any more.
    pub after: BlockWrites,
}

/// Plans a change from the blocks in both halves of a bank to others, of which `active` is the half that
/// packets read. The cost is one pass over the prefixes of both.
#[must_use]
pub fn plan_blocks(old: &CompiledBlocks, new: &CompiledBlocks, active: usize) -> BlockDelta {
    let (v4_before, v4_after) = family(&old.v4, &new.v4, active);
    let (v6_before, v6_after) = family(&old.v6, &new.v6, active);
    BlockDelta {
        before: BlockWrites { v4: v4_before, v6: v6_before },
        after: BlockWrites { v4: v4_after, v6: v6_after },
    }
}

fn family<const N: usize>(
    old: &BlockedPrefixes<N>,
    new: &BlockedPrefixes<N>,
    active: usize,
) -> (PrefixWrites<N>, PrefixWrites<N>) {
    let (mut before, mut after) = (PrefixWrites::default(), PrefixWrites::default());
    let (mut olds, mut news) = (Walk::new(old), Walk::new(new));
    loop {
        let prefix = match (olds.next(), news.next()) {
            (None, None) => return (before, after),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(one), Some(other)) => one.min(other),
        };
        let (was, is) = (olds.value(prefix), news.value(prefix));
        match is {
            Value::Own(is) if was == Value::Own(is) => continue,
            Value::Own(is) => after.put.push((prefix, [is; 2])),
            Value::Around(_) => after.removed.push(prefix),
        }
        let (was, is) = (was.number(), is.number());
        before.put.push((prefix, if active == 0 { [was, is] } else { [is, was] }));
    }
}

/// What a trie holds for the addresses of a prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// The prefix is in the trie.
    Own(u32),
    /// It is not, and a search finds this value, that of the longest prefix around it, or 0.
    Around(u32),
}

impl Value {
    const fn number(self) -> u32 {
        match self {
            Self::Own(number) | Self::Around(number) => number,
        }
    }
}

/// A pass over prefixes in their order.
struct Walk<'a, const N: usize> {
    rest: &'a [(Prefix<N>, u32)],
    /// The prefixes passed that may enclose the next ones, the narrowest on top.
    enclosing: Vec<(Prefix<N>, u32)>,
}

impl<'a, const N: usize> Walk<'a, N> {
    const fn new(all: &'a BlockedPrefixes<N>) -> Self {
        Self { rest: all.as_slice(), enclosing: Vec::new() }
    }

    /// The next prefix.
    fn next(&self) -> Option<Prefix<N>> {
        self.rest.first().map(|(prefix, _)| *prefix)
    }

    /// The value for a prefix that is not after the next one, which it passes if it is the same.
    fn value(&mut self, prefix: Prefix<N>) -> Value {
        while self.enclosing.last().is_some_and(|(outer, _)| !outer.encloses(&prefix)) {
            self.enclosing.pop();
        }
        match self.rest.split_first() {
            Some(((next, value), rest)) if next.cmp(&prefix) == Ordering::Equal => {
                self.rest = rest;
                self.enclosing.push((*next, *value));
                Value::Own(*value)
            }
            _ => Value::Around(self.enclosing.last().map_or(0, |(_, value)| *value)),
        }
    }
}
