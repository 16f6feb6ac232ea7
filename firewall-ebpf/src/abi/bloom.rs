//! A Bloom filter over the keys of an interface's flows: a key whose bit is not set is in no table. One
//! read in 64 KiB, which fit into a processor's caches, replaces two lookups in tables that do not (the new
//! flows, and the proven ones of the protocol), for each packet of a flood without flows.
//!
//! A bit is set before its flow is stored, and is never cleared while the filter is in use. `gc` rebuilds
//! the filter. There are two filters for that, and flows set their bits in both:
//!
//! 1. After a grace period in which no program reads the unused filter any more, userspace clears it.
//! 2. After another grace period every flow whose bit was cleared is in a table, and every later flow
//!    sets its bit.
//! 3. Userspace reads the tables and has the bits of all flows set.
//! 4. One word makes packets use the rebuilt filter.
//!
//! A process that dies in between leaves the filter that packets use unchanged.

/// Bits of a filter. With 50,000 flows it recognises nine of ten keys that have no flow.
pub const BITS: u32 = 1 << 19;
/// Lines of one filter; the second filter follows the first.
pub const LINES: u32 = BITS / (64 * WORDS as u32);
/// Words of a line.
const WORDS: usize = 8;

/// One cache line.
pub type Line = [u64; WORDS];

/// The index of a key's bit in a filter: less than [`BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bit(pub u32);

impl Bit {
    const PER_LINE: u32 = u64::BITS * WORDS as u32;

    /// Index of the bit's line, in the first filter (0) or the second (1).
    #[must_use]
    #[inline(always)]
    pub const fn line(self, filter: u32) -> u32 {
        (filter & 1) * LINES + (self.0 / Self::PER_LINE % LINES)
    }

    /// Index of the word in the line, always within it.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> usize {
        (self.0 / u64::BITS) as usize & (WORDS - 1)
    }

    /// The bit in its word.
    #[must_use]
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        1 << (self.0 % u64::BITS)
    }
}

/// Odd constants without a pattern: the golden ratio's fraction, then SHA-512's initial values.
const FACTORS: [u64; 5] = [
    0x9e37_79b9_7f4a_7c15,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
];

/// The bit of a key of `N` words: multilinear hashing, whose products do not depend on one another.
///
/// Unkeyed: an attacker who computes keys that share bits with flows gains only the cost that packets
/// would have without a filter.
#[must_use]
#[inline(always)]
pub fn bit<const N: usize>(words: [u64; N]) -> Bit {
    const { assert!(N <= FACTORS.len() && BITS.is_power_of_two()) };
    let mut sum = 0_u64;
    let mut index = 0;
    while index < N {
        sum = sum.wrapping_add(words[index].wrapping_mul(FACTORS[index]));
        index += 1;
    }
    // The upper bits depend on every bit of the words.
    Bit((sum >> (u64::BITS - BITS.trailing_zeros())) as u32)
}
