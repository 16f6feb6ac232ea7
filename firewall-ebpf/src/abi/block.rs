//! Blocks of the whole host: networks whose packets are dropped before anything else is known of them, in
//! both directions.
//!
//! Like a bank of a policy, a trie of blocks holds two values for each prefix, its halves, and there are
//! two banks. One word, [`Blocking`], selects what packets use. The value of a prefix is 0 where it is not
//! blocked, else the effective block, in the form of a filter's entry
//! ([`entry_number`](super::filter::entry_number), perhaps with [`TIMED`](super::policy::TIMED)): of those
//! of the prefix and of the enclosing ones the one that ends last. So one lookup is enough.

/// Banks of the outer maps.
pub const BLOCK_BANKS: u32 = 2;

/// Which tries of blocks packets use. Packets of an interface read it only where
/// [`Active::has_blocks`](super::policy::Active::has_blocks). Replaced with one aligned 64-bit store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Blocking(pub u64);

impl Blocking {
    const V4: u64 = 1 << 0;
    const BANK: u64 = 1 << 2;
    const HALF: u64 = 1 << 3;

    /// The tries of a bank, and the half of their values. `families` tells whether there is any block of
    /// IPv4 and IPv6.
    #[must_use]
    pub const fn new(families: [bool; 2], bank: u32, half: u32) -> Self {
        let families = families[0] as u64 | (families[1] as u64) << 1;
        let (bank, half) = ((bank as u64 & 1) * Self::BANK, (half as u64 & 1) * Self::HALF);
        Self(families | bank | half)
    }

    /// Whether the trie of a family is in use.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, is_v4: bool) -> bool {
        self.0 & Self::V4 << (!is_v4 as u32) != 0
    }

    /// Index of the trie in its outer map.
    #[must_use]
    #[inline(always)]
    pub const fn bank(self) -> u32 {
        // Computed without a branch, so that the verifier follows one path.
        ((self.0 / Self::BANK) & 1) as u32
    }

    /// Which half of its values.
    #[must_use]
    #[inline(always)]
    pub const fn half(self) -> usize {
        ((self.0 / Self::HALF) & 1) as usize
    }
}
