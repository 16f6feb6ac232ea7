//! What a compiled policy looks like in the maps.
//!
//! A packet's outside address gives a **class** by longest-prefix match; a class row points at
//! sorted, disjoint **ranges** of traffic for each direction; what a class does not allow, the
//! class of the enclosing prefix may. Memory is linear in rules, and a range names its rule.

use crate::interface::Direction;

/// The class of addresses that no prefix of the policy covers, IPv4.
pub const ANY_V4: u32 = 0;
/// The class of addresses that no prefix of the policy covers, IPv6.
pub const ANY_V6: u32 = 1;
/// The parent of the two "any" classes.
pub const NO_CLASS: u32 = u32::MAX;

/// A row of the class table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Class {
    /// The class of the enclosing prefix, or [`NO_CLASS`].
    pub parent: u32,
    /// The first range, by [`Direction`].
    pub start: [u32; 2],
    /// How many ranges follow, by [`Direction`].
    pub len: [u32; 2],
}

/// Traffic from `low` to `high`, both included, is allowed by `rule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Range {
    /// See [`traffic`].
    pub low: u32,
    /// See [`traffic`].
    pub high: u32,
    /// The rule's number, never 0, perhaps with [`UNTRACKED`].
    pub rule: u32,
}

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Active(pub u64);

/// What a policy has any of, so that the kernel need not look for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// Prefixes in the IPv4 trie.
    pub prefixes_v4: bool,
    /// Prefixes in the IPv6 trie.
    pub prefixes_v6: bool,
    /// [`UNTRACKED`] ranges in the class [`ANY_V4`].
    pub untracked_v4: bool,
    /// [`UNTRACKED`] ranges in the class [`ANY_V6`].
    pub untracked_v6: bool,
}

impl Active {
    const PRESENT: u64 = 1 << 0;
    const PARITY: u64 = 1 << 1;
    const PREFIXES_V4: u64 = 1 << 2;
    const PREFIXES_V6: u64 = 1 << 3;
    const UNTRACKED_V4: u64 = 1 << 4;
    const UNTRACKED_V6: u64 = 1 << 5;

    /// A policy in the half `parity` (0 or 1) of the slot, of store generation `generation` (for
    /// people; the kernel does not read it).
    #[must_use]
    pub const fn new(parity: u32, has: Has, generation: u32) -> Self {
        let mut word = Self::PRESENT | (generation as u64) << 32;
        if parity & 1 == 1 {
            word |= Self::PARITY;
        }
        if has.prefixes_v4 {
            word |= Self::PREFIXES_V4;
        }
        if has.prefixes_v6 {
            word |= Self::PREFIXES_V6;
        }
        if has.untracked_v4 {
            word |= Self::UNTRACKED_V4;
        }
        if has.untracked_v6 {
            word |= Self::UNTRACKED_V6;
        }
        Self(word)
    }

    /// Whether any IPv4 traffic needs no flow.
    #[must_use]
    #[inline(always)]
    pub const fn has_untracked_v4(self) -> bool {
        self.0 & Self::UNTRACKED_V4 != 0
    }

    /// Whether any IPv6 traffic needs no flow.
    #[must_use]
    #[inline(always)]
    pub const fn has_untracked_v6(self) -> bool {
        self.0 & Self::UNTRACKED_V6 != 0
    }

    /// Whether there is a policy at all.
    #[must_use]
    #[inline(always)]
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Which half of the slot holds the tables.
    #[must_use]
    #[inline(always)]
    pub const fn parity(self) -> u32 {
        (self.0 & Self::PARITY != 0) as u32
    }

    /// Whether the IPv4 trie has anything in it.
    #[must_use]
    #[inline(always)]
    pub const fn has_v4(self) -> bool {
        self.0 & Self::PREFIXES_V4 != 0
    }

    /// Whether the IPv6 trie has anything in it.
    #[must_use]
    #[inline(always)]
    pub const fn has_v6(self) -> bool {
        self.0 & Self::PREFIXES_V6 != 0
    }

    /// The store's generation when the policy was compiled.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Index of the slot's tables in the outer maps.
    #[must_use]
    #[inline(always)]
    pub const fn index(self, slot: u16) -> u32 {
        index(slot, self.parity())
    }
}

/// Index of one half of a slot in the outer maps.
#[must_use]
#[inline(always)]
pub const fn index(slot: u16, parity: u32) -> u32 {
    (slot as u32) << 1 | parity
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

const _: () = assert!(size_of::<Class>() == 20 && size_of::<Range>() == 12);
