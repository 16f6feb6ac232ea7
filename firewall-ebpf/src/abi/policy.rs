//! The layout of a compiled policy in the maps.
//!
//! The longest prefix that covers a packet's outside address gives a **class**. A class has, for each
//! direction, a **list** of sorted, disjoint **ranges** of traffic. Where no range of the class matches,
//! the lookup continues in its parent, the class of the enclosing prefix. Memory is linear in rules,
//! and a range names its rule.
//!
//! An interface has two **banks** of tables, and each bank has two **halves**: class rows, and the
//! classes of prefixes, exist twice. A small change is written to the inactive half of the active bank,
//! a large one, or the first, to the inactive bank. One word, [`Active`], selects the bank and half that
//! packets use.
//!
//! ```text
//!            bank 0                       bank 1
//!   PREFIXES  [half 0 | half 1]   PREFIXES  [half 0 | half 1]
//!   CLASSES   [half 0 | half 1]   CLASSES   [half 0 | half 1]
//!   RANGES    pages, append-only  RANGES    pages, append-only
//! ```

use super::filter::{BLOCK, MAX_FILTERS, filter_index};
use super::interface::Direction;
use super::limits::MAX_INTERFACES;

/// The class of addresses that no prefix of the policy covers, IPv4.
pub const ANY_V4: u32 = 0;
/// The class of addresses that no prefix of the policy covers, IPv6.
pub const ANY_V6: u32 = 1;
/// The parent of the two "any" classes.
pub const NO_CLASS: u32 = u32::MAX;

/// A row of the class table, of one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Class {
    /// The class of the enclosing prefix, or [`NO_CLASS`].
    pub parent: u32,
    /// The traffic that it allows, by [`Direction`].
    pub lists: [List; 2],
}

impl Class {
    /// A class that allows nothing and has no parent.
    pub const EMPTY: Self = Self { parent: NO_CLASS, lists: [List::EMPTY; 2] };
}

/// The ranges of one class and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct List {
    /// Number of ranges.
    pub len: u32,
    /// Of one range its `low`; of several the index of the first word in the [`Page`]s.
    pub at: u32,
    /// `high` of one range.
    pub high: u32,
    /// `rule` of one range.
    pub rule: u32,
}

impl List {
    /// No ranges.
    pub const EMPTY: Self = Self { len: 0, at: 0, high: 0, rule: 0 };
}

/// Traffic from `low` to `high`, both included, is allowed by `rule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Range {
    /// See [`traffic`].
    pub low: u32,
    /// See [`traffic`].
    pub high: u32,
    /// The rule's number, never 0, perhaps with [`UNTRACKED`] or [`TIMED`]. Of a filter: the number of
    /// the entry's counter, as [`super::filter`] describes.
    pub rule: u32,
}

/// Words of a [`Page`].
pub const PAGE: u32 = 1024;

/// Storage of lists with several ranges. A list of up to [`LEAF`] ranges is in one page: first every
/// `low`, then every `high`, then every `rule`. A longer one is split into leaves of [`LEAF`] ranges at
/// the start of consecutive pages; its own words are the number of the first of those pages, and then
/// the `low` of each leaf's first range. Words that a class of an active policy refers to are never
/// overwritten.
pub type Page = [u32; PAGE as usize];

/// Ranges that fit into a page.
pub const LEAF: u32 = PAGE / 3;

/// Ranges of the longest list: of as many leaves as one page can index.
pub const MAX_LIST: u32 = LEAF * (PAGE - 1);

/// [`Range::rule`]: traffic of this range needs no flow, because rules of the other direction
/// allow every reply to it (EC2's untracked connections). Set only in the two "any" classes.
pub const UNTRACKED: u32 = 1 << 31;

/// [`Range::rule`]: the rule, or entry of a filter, ends at a time. An ended one matches nothing, and the
/// lookup continues in the parent. Never together with [`UNTRACKED`].
pub const TIMED: u32 = 1 << 30;

/// The highest number that a rule can have: the bits of [`Range::rule`] below the flags.
pub const MAX_RULE: u32 = (1 << 29) - 1;

/// The number in a [`Range::rule`], without flags.
#[must_use]
#[inline(always)]
pub const fn rule_number(word: u32) -> u32 {
    word & MAX_RULE
}

/// The last value of [`traffic`]: protocol 255, port 65535.
pub const TRAFFIC_MAX: u32 = 0xff_ffff;

/// Protocol and destination port as one number, in host byte order. ICMP and ICMPv6 have type
/// and code as the port's high and low byte; other protocols have port 0.
#[must_use]
#[inline(always)]
pub const fn traffic(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

/// An interface's active policy, in one word. Each evaluation of the policy reads it once, so that one
/// evaluation uses one policy; a packet may cause several. Userspace replaces it with one aligned
/// 64-bit store, which `sg_set_active` executes: that store is the change.
///
/// From the lowest bit: flags, the number of the interface's filter (9 bits from bit 15), the slot (8 bits
/// from bit 24), the generation (32 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Active(pub u64);

/// Which kinds of entries a policy has, so that the kernel skips lookups that cannot match. First
/// index: IPv4, IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// There are prefixes in the trie.
    pub prefixes: [bool; 2],
    /// There are [`UNTRACKED`] ranges in the "any" class.
    pub untracked: [bool; 2],
    /// There are ranges in the "any" class, by [`Direction`].
    pub anywhere: [[bool; 2]; 2],
}

/// One of the four table sets of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Half {
    /// The interface.
    pub slot: u16,
    /// Which of its two banks.
    pub bank: u32,
    /// Which half of the bank.
    pub half: u32,
}

impl Half {
    /// Index of the tables in the outer maps.
    #[must_use]
    pub const fn index(self) -> u32 {
        index(self.slot, self.bank)
    }
}

impl Active {
    const PRESENT: u64 = 1 << 0;
    const BANK: u64 = 1 << 1;
    const HALF: u64 = 1 << 2;
    const AUDIT: u64 = 1 << 3;
    const PREFIXES: u64 = 1 << 4;
    const UNTRACKED: u64 = 1 << 6;
    const ANYWHERE: u64 = 1 << 8;
    const BLOCKS: u64 = 1 << 12;
    const HAS_FILTER: u64 = 1 << 13;
    const FILTER: u32 = 15;
    const FILTER_MASK: u64 = 0x1ff;
    const SLOT: u32 = 24;
    const SLOT_MASK: u64 = 0xff;
    const GENERATION: u32 = 32;

    /// A policy in those tables. `generation` distinguishes it from other policies of the slot.
    #[must_use]
    pub fn new(tables: Half, has: Has, generation: u32) -> Self {
        let mut word = Self::PRESENT
            | (u64::from(tables.slot) & Self::SLOT_MASK) << Self::SLOT
            | u64::from(generation) << Self::GENERATION;
        let mut set = |yes: bool, bit: u64| word |= if yes { bit } else { 0 };
        set(tables.bank & 1 == 1, Self::BANK);
        set(tables.half & 1 == 1, Self::HALF);
        for family in 0..2 {
            set(has.prefixes[family], Self::PREFIXES << family);
            set(has.untracked[family], Self::UNTRACKED << family);
            for direction in 0..2 {
                set(has.anywhere[family][direction], Self::ANYWHERE << (2 * family + direction));
            }
        }
        Self(word)
    }

    /// The same word with the audit bit set or cleared.
    #[must_use]
    pub const fn with_audit(self, audit: bool) -> Self {
        Self(if audit { self.0 | Self::AUDIT } else { self.0 & !Self::AUDIT })
    }

    /// The same word for packets that are, or are not, subject to the blocks of the host.
    #[must_use]
    pub const fn with_blocks(self, blocks: bool) -> Self {
        Self(if blocks { self.0 | Self::BLOCKS } else { self.0 & !Self::BLOCKS })
    }

    /// The same word with another filter, or none.
    #[must_use]
    pub const fn with_filter(self, filter: Option<u16>) -> Self {
        let word = self.0 & !(Self::HAS_FILTER | Self::FILTER_MASK << Self::FILTER);
        Self(match filter {
            Some(number) => {
                word | Self::HAS_FILTER | (number as u64 & Self::FILTER_MASK) << Self::FILTER
            }
            None => word,
        })
    }

    /// Whether packets are subject to the blocks of the host: some exist, and
    /// [`Blocking`](super::block::Blocking) tells where.
    #[must_use]
    #[inline(always)]
    pub const fn has_blocks(self) -> bool {
        self.0 & Self::BLOCKS != 0
    }

    /// Whether every packet must be allowed by a filter.
    #[must_use]
    #[inline(always)]
    pub const fn has_filter(self) -> bool {
        self.0 & Self::HAS_FILTER != 0
    }

    /// The number of the filter.
    #[must_use]
    #[inline(always)]
    pub const fn filter(self) -> Option<u16> {
        if self.has_filter() { Some(self.filter_number()) } else { None }
    }

    #[inline(always)]
    const fn filter_number(self) -> u16 {
        (self.0 >> Self::FILTER & Self::FILTER_MASK) as u16
    }

    /// Index of the filter's tables in the outer maps; only where there is one.
    #[must_use]
    #[inline(always)]
    pub const fn filter_index(self) -> u32 {
        filter_index(self.filter_number())
    }

    /// Whether packets that would be dropped are only counted, and pass.
    #[must_use]
    #[inline(always)]
    pub const fn is_audit(self) -> bool {
        self.0 & Self::AUDIT != 0
    }

    /// Whether there is a policy at all.
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

    /// Whether any traffic of the family needs no flow.
    #[must_use]
    #[inline(always)]
    pub const fn has_untracked(self, is_v4: bool) -> bool {
        self.0 & Self::UNTRACKED << (!is_v4 as u32) != 0
    }

    /// Whether any traffic of the family is allowed from (or to) anywhere.
    #[must_use]
    #[inline(always)]
    pub const fn has_anywhere(self, is_v4: bool, direction: Direction) -> bool {
        self.0 >> (2 * !is_v4 as u32 + direction as u32) & Self::ANYWHERE != 0
    }

    /// Distinguishes policies of one slot.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> Self::GENERATION) as u32
    }

    /// Index of the bank in the outer maps.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        let slot = (self.0 >> Self::SLOT & Self::SLOT_MASK) as u32;
        slot << 1 | ((self.0 / Self::BANK) & 1) as u32
    }

    /// Which half of the bank.
    #[must_use]
    #[inline(always)]
    pub const fn half(self) -> usize {
        // Computed without a branch, so that the verifier follows one path.
        ((self.0 / Self::HALF) & 1) as usize
    }

    /// The tables that it selects.
    #[must_use]
    pub const fn tables(self) -> Half {
        Half {
            slot: (self.0 >> Self::SLOT & Self::SLOT_MASK) as u16,
            bank: self.index() & 1,
            half: self.half() as u32,
        }
    }
}

/// Index of a bank of a slot in the outer maps.
#[must_use]
#[inline(always)]
pub const fn index(slot: u16, bank: u32) -> u32 {
    (slot as u32) << 1 | bank
}

const _: () = assert!(MAX_INTERFACES as u64 == Active::SLOT_MASK + 1);
const _: () = assert!(MAX_RULE == BLOCK - 1);
const _: () = assert!(MAX_FILTERS as u64 == Active::FILTER_MASK + 1);
const _: () = assert!(size_of::<Class>() == 36 && size_of::<Range>() == 12);
