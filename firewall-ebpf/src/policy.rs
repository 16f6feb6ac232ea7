//! What a compiled policy looks like in the maps.
//!
//! A packet's outside address gives a **class** by longest-prefix match; a class has a **list** of
//! sorted, disjoint **ranges** of traffic for each direction; what a class does not allow, the class
//! of the enclosing prefix may. Memory is linear in rules, and a range names its rule.
//!
//! A change is written beside what is in force. A small one goes into the other **half**: class
//! rows, and the classes of prefixes, are there twice. A large one, or the first, goes into the other
//! **bank** of tables. One word, [`Active`], says which bank and half packets look into.

use crate::interface::Direction;

/// The class of addresses that no prefix of the policy covers, IPv4.
pub const ANY_V4: u32 = 0;
/// The class of addresses that no prefix of the policy covers, IPv6.
pub const ANY_V6: u32 = 1;
/// The parent of the two "any" classes.
pub const NO_CLASS: u32 = u32::MAX;

/// A row of the class table, in one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Class {
    /// The class of the enclosing prefix, or [`NO_CLASS`].
    pub parent: u32,
    /// What it allows, by [`Direction`].
    pub lists: [List; 2],
}

impl Class {
    /// A class that allows nothing and has no parent.
    pub const EMPTY: Self = Self { parent: NO_CLASS, lists: [List::EMPTY; 2] };
}

/// Where the ranges of a class and direction are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct List {
    /// How many ranges there are.
    pub len: u32,
    /// Of one range its `low`; of several the first word in the [`Page`]s.
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
    /// The rule's number, never 0, perhaps with [`UNTRACKED`].
    pub rule: u32,
}

/// Words of a [`Page`].
pub const PAGE: u32 = 1024;

/// Lists of several ranges. One of up to [`LEAF`] ranges lies in one page: first every `low`, then
/// every `high`, then every `rule`. A longer one is cut into leaves of [`LEAF`], which begin pages
/// that follow one another; its own words are the number of the first of those pages, and then the
/// `low` of each leaf's first range. What a class of a policy in force points at is never
/// overwritten.
pub type Page = [u32; PAGE as usize];

/// Ranges that fit into a page.
pub const LEAF: u32 = PAGE / 3;

/// The longest list: of as many leaves as one page can index.
pub const MAX_LIST: u32 = LEAF * (PAGE - 1);

/// [`Range::rule`]: traffic of this range needs no flow, because rules of the other direction
/// allow every answer to it (EC2's untracked connections). Set only in the two "any" classes.
pub const UNTRACKED: u32 = 1 << 31;

/// The highest number that a rule can have.
pub const MAX_RULE: u32 = UNTRACKED - 1;

/// The last value of [`traffic`]: protocol 255, port 65535.
pub const TRAFFIC_MAX: u32 = 0xff_ffff;

/// Protocol and destination port as one number, in host byte order. ICMP and ICMPv6 have type
/// and code as the port's high and low byte; other protocols have port 0.
#[must_use]
#[inline(always)]
pub const fn traffic(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

/// An interface's policy of the moment, in one word that the kernel reads once per admission and
/// userspace writes at once: the swap is this write.
///
/// From the lowest bit: flags, the slot (16 bits from bit 16), the generation (32 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Active(pub u64);

/// What a policy has any of, so that the kernel need not look for the others. First index: IPv4 or
/// IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// Prefixes in the trie.
    pub prefixes: [bool; 2],
    /// [`UNTRACKED`] ranges in the "any" class.
    pub untracked: [bool; 2],
    /// Ranges in the "any" class, by [`Direction`].
    pub anywhere: [[bool; 2]; 2],
}

/// Which tables of a slot: [`Active`] without what it says about their contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Half {
    /// The interface.
    pub slot: u16,
    /// Which of its two sets of tables.
    pub bank: u32,
    /// Which half of their rows.
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
    const SLOT: u32 = 16;
    const GENERATION: u32 = 32;

    /// A policy in those tables. `generation` tells one policy of the slot from another.
    #[must_use]
    pub fn new(tables: Half, has: Has, generation: u32) -> Self {
        let mut word = Self::PRESENT
            | u64::from(tables.slot) << Self::SLOT
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

    /// The same, for an interface that only counts what it would drop.
    #[must_use]
    pub const fn with_audit(self, audit: bool) -> Self {
        Self(if audit { self.0 | Self::AUDIT } else { self.0 & !Self::AUDIT })
    }

    /// Whether the interface only counts what it would drop.
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

    /// Whether the family's trie has anything in it.
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

    /// Tells one policy of the slot from another.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> Self::GENERATION) as u32
    }

    /// Index of the bank in the outer maps.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        let slot = (self.0 >> Self::SLOT & 0xffff) as u32;
        slot << 1 | ((self.0 / Self::BANK) & 1) as u32
    }

    /// Which half of the rows.
    #[must_use]
    #[inline(always)]
    pub const fn half(self) -> usize {
        // Not by a comparison: an index costs the verifier one way, a branch two.
        ((self.0 / Self::HALF) & 1) as usize
    }

    /// Which tables they are.
    #[must_use]
    pub const fn tables(self) -> Half {
        Half {
            slot: (self.0 >> Self::SLOT & 0xffff) as u16,
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

/// Where the questions begin in a list for `sg_probe_v4` or `sg_probe_v6`, behind an [`Active`] word.
/// A question is what `ask` makes of direction and traffic, room for the answer as a `u32` (a rule as
/// in [`Range::rule`], or 0), and the outside address in network byte order.
pub const PROBE_LIST: u32 = 8;
/// The questions of one list that are answered.
pub const MAX_PROBED: u32 = 128;

/// Direction and traffic in one word.
#[must_use]
#[inline(always)]
pub const fn ask(direction: Direction, traffic: u32) -> u32 {
    (direction as u32) << 31 | traffic
}

/// The two halves of [`ask`].
#[must_use]
#[inline(always)]
pub const fn asked(ask: u32) -> (Direction, u32) {
    let direction = if ask >> 31 == 0 { Direction::Ingress } else { Direction::Egress };
    (direction, ask & TRAFFIC_MAX)
}

/// Packets and bytes (of whole frames, as the hook saw them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Index of a counter by interface, direction and the reason's number.
#[must_use]
#[inline(always)]
pub const fn counter_index(slot: u16, direction: Direction, reason: u32) -> u32 {
    ((slot as u32) << 1 | direction as u32) * crate::reason::REASON_SPACE + reason
}

const _: () = assert!(size_of::<Class>() == 36 && size_of::<Range>() == 12);
