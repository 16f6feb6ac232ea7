//! A Bloom filter of the flows that there are: what it does not know is in no table. One read in
//! 128 KiB, which stay in a processor's caches, spares a flood of strangers two reads in tables that
//! do not.
//!
//! Bits are set before a flow is written, and never cleared: a flow leaves its bit behind. Now and
//! then userspace makes the filter anew. There are two for that, and bits are set in both:
//!
//! 1. The one that is not in use is cleared, when no program that still asks it runs any more.
//! 2. When no program runs any more that ran then, every flow whose bit was lost is in a table, and
//!    every later one sets its bit.
//! 3. Userspace reads the tables and has the bits of all flows set.
//! 4. Packets ask that filter from now on: one word says so.
//!
//! A process that dies on the way has changed nothing that any packet sees.

/// Bits of a filter. With 100,000 flows it knows nine of ten strangers as such.
pub const BITS: u32 = 1 << 20;
/// Lines of a filter, which is one after the other's.
pub const LINES: u32 = BITS / (64 * WORDS as u32);
/// Words of a line.
const WORDS: usize = 8;

/// What a processor's cache reads at once.
pub type Line = [u64; WORDS];

/// The place of a key in a filter: less than [`BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bit(pub u32);

impl Bit {
    const PER_LINE: u32 = u64::BITS * WORDS as u32;

    /// Where the bit's line is: of the first filter or of the second.
    #[must_use]
    #[inline(always)]
    pub const fn line(self, filter: u32) -> u32 {
        (filter & 1) * LINES + (self.0 / Self::PER_LINE % LINES)
    }

    /// Which word of the line; always one of them.
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

/// Odd, and otherwise without a pattern: SHA-512's fractions of square roots, but the first, which
/// is the golden ratio's.
const FACTORS: [u64; 5] = [
    0x9e37_79b9_7f4a_7c15,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
];

/// The place of a key of `N` words: multilinear hashing, whose products do not wait for one another.
///
/// Without a secret: who finds strangers with the bits of flows makes them cost what they would
/// without a filter.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Address, FlowKey4, FlowKey6};
    use crate::parse::{V4, V6};

    /// How many of that many different keys have a bit of their own.
    fn places(keys: impl IntoIterator<Item = Bit>) -> usize {
        let mut bits: Vec<_> = keys.into_iter().collect();
        bits.sort_unstable();
        bits.dedup();
        bits.len()
    }

    #[test]
    fn keys_that_are_alike_have_different_bits() {
        // What chance would leave of 65,536 keys in the bits there are: 63,500.
        const ENOUGH: usize = 60_000;
        let all = || 0..=u16::MAX;
        let v4 = FlowKey4 { inside: 0x0100_000a, protocol: 6, slot: 3, ..FlowKey4::default() };
        let v6 = FlowKey6 { inside: [1, 2], protocol: 6, slot: 3, ..FlowKey6::default() };
        let hosts = all().map(|host| {
            let outside = u32::from(host).to_be() | 0x14;
            V4::bit(&FlowKey4 { outside, ..v4 })
        });
        assert!(places(hosts) > ENOUGH);
        let ports =
            all().map(|port| V4::bit(&FlowKey4 { outside_port: port.to_be(), outside: 20, ..v4 }));
        assert!(places(ports) > ENOUGH);
        let services = all().map(|port| V4::bit(&FlowKey4 { inside_port: port.to_be(), ..v4 }));
        assert!(places(services) > ENOUGH);
        let hosts = all().map(|host| {
            V6::bit(&FlowKey6 { outside: [0xb80d_0120, u64::from(host).to_be()], ..v6 })
        });
        assert!(places(hosts) > ENOUGH);
        let networks = all().map(|network| {
            V6::bit(&FlowKey6 { outside: [0xb80d_0120 | u64::from(network) << 32, 1], ..v6 })
        });
        assert!(places(networks) > ENOUGH);
        let ports = all().map(|port| V6::bit(&FlowKey6 { outside_port: port.to_be(), ..v6 }));
        assert!(places(ports) > ENOUGH);
        let slots = (0..256).map(|slot| V4::bit(&FlowKey4 { slot, ..v4 }));
        assert_eq!(places(slots), 256);
    }
}
