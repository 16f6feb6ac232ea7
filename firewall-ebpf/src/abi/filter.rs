//! Filters: what an interface's own blocks and its network ACL say about a packet, compiled into tables of
//! the same form as a policy's. A filter is never changed; interfaces for which the same is compiled share
//! one. It is looked up for every packet, tracked or not, before flows and rules.
//!
//! The longest prefix that covers a packet's outside address gives a class, as in a
//! [policy](super::policy). Its lists are complete: they hold, for all traffic, the first entry that matches.
//! [`Class::parent`](super::policy::Class::parent) is the class that holds what is left of them once the
//! entry that was found has ended, or [`NO_CLASS`](super::policy::NO_CLASS) where no entry ends. A row of
//! the class table has the same class in both halves.

use super::limits::MAX_INTERFACES;

/// Filters at one time.
pub const MAX_FILTERS: u32 = 2 * MAX_INTERFACES;

/// Table sets in the outer maps: two banks of each interface, then the filters.
pub const TABLE_SETS: u32 = 2 * MAX_INTERFACES + MAX_FILTERS;

/// [`Range::rule`](super::policy::Range::rule) of a filter: the entry denies the traffic.
pub const DENY: u32 = 1 << 31;

/// [`Range::rule`](super::policy::Range::rule) of a filter, with [`DENY`]: the entry is a block of the
/// interface, not an entry of its ACL.
pub const BLOCK: u32 = 1 << 29;

/// The bits of the number, below every flag: those of a rule's number.
const NUMBER: u32 = BLOCK - 1;

/// The number in a word of a filter or of a block: the index of the entry's counter, plus one, so that it is
/// never 0. The index is less than [`MAX_RULE`](super::policy::MAX_RULE).
#[must_use]
#[inline(always)]
pub const fn entry_number(counter: u32) -> u32 {
    (counter + 1) & NUMBER
}

/// Index of the counter of the entry in a word of a filter or of a block; no counter has the index that
/// the number 0 gives.
#[must_use]
#[inline(always)]
pub const fn entry_counter(word: u32) -> u32 {
    (word & NUMBER).wrapping_sub(1)
}

/// Index of a filter's tables in the outer maps.
#[must_use]
#[inline(always)]
pub const fn filter_index(filter: u16) -> u32 {
    2 * MAX_INTERFACES + filter as u32 % MAX_FILTERS
}

/// What identifies a filter, and whether it has prefixes of a family, so that the kernel skips lookups that
/// cannot match; 0 where the number is unused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Filter(pub u64);

impl Filter {
    const PREFIXES: u64 = 1 << 0;
    const PRESENT: u64 = 1 << 32;
    const GENERATION: u32 = 32;

    /// The word of a filter. `digest` is one of its content, and `prefixes` tells whether its tries have
    /// any prefix, by IPv4 and IPv6.
    #[must_use]
    pub const fn new(digest: u64, prefixes: [bool; 2]) -> Self {
        let flags = prefixes[0] as u64 | (prefixes[1] as u64) << 1;
        Self(digest & !(Self::PREFIXES | Self::PREFIXES << 1) | flags | Self::PRESENT)
    }

    /// Whether the number is in use.
    #[must_use]
    #[inline(always)]
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Whether the family's trie has any prefix.
    #[must_use]
    #[inline(always)]
    pub const fn has_prefixes(self, is_v4: bool) -> bool {
        self.0 & Self::PREFIXES << (!is_v4 as u32) != 0
    }

    /// Distinguishes filters, as long as 31 bits of their digests differ; 0 only where there is none.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> Self::GENERATION) as u32
    }
}
