//! An address prefix, as in CIDR notation.

use core::cmp::Ordering;

/// A network: its first address, and how many leading bits its addresses share. `N` is the length of
/// an address in octets: 4 for IPv4, 16 for IPv6.
///
/// The order is by first address, then by length: a prefix comes before those within it, which
/// follow it without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix<const N: usize> {
    octets: [u8; N],
    length: u8,
}

impl<const N: usize> Prefix<N> {
    /// The length of a prefix of one address, in bits.
    pub const BITS: u8 = {
        assert!(N <= 16);
        N as u8 * 8
    };

    /// The network of `length` bits that an address is in. `octets` are in network byte order, and a
    /// length above [`Self::BITS`] counts as [`Self::BITS`].
    #[must_use]
    pub fn new(octets: [u8; N], length: u8) -> Self {
        let length = length.min(Self::BITS);
        let kept = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let bytes = (bits(octets) & kept).to_be_bytes();
        let mut octets = [0; N];
        octets.copy_from_slice(&bytes[..N]);
        Self { octets, length }
    }

    /// The network of one address, in network byte order.
    #[must_use]
    pub const fn host(octets: [u8; N]) -> Self {
        Self { octets, length: Self::BITS }
    }

    /// The first address, in network byte order.
    #[must_use]
    pub const fn octets(&self) -> [u8; N] {
        self.octets
    }

    /// How many leading bits the addresses share.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether the network is that of all addresses.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.length == 0
    }

    /// Whether an address, in network byte order, is in the network.
    #[must_use]
    pub fn contains(&self, octets: [u8; N]) -> bool {
        (bits(octets) ^ bits(self.octets)).leading_zeros() >= u32::from(self.length)
    }

    /// Whether another network is within this one, or is the same.
    #[must_use]
    pub fn encloses(&self, inner: &Self) -> bool {
        self.length <= inner.length && self.contains(inner.octets)
    }

    /// The networks that enclose this one, from the longest prefix to that of one bit. The network of
    /// all addresses is not among them: a policy has it as a class of its own, not as a prefix.
    pub fn enclosing(self) -> impl Iterator<Item = Self> {
        (1..self.length).rev().map(move |length| Self::new(self.octets, length))
    }
}

impl<const N: usize> Ord for Prefix<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        bits(self.octets).cmp(&bits(other.octets)).then(self.length.cmp(&other.length))
    }
}

impl<const N: usize> PartialOrd for Prefix<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Octets as a number whose highest bit is the first bit of the address.
fn bits<const N: usize>(octets: [u8; N]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..N].copy_from_slice(&octets);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(Prefix::new([255; 4], 0).octets(), [0; 4]);
        assert_eq!(Prefix::new([10, 1, 255, 7], 23).octets(), [10, 1, 254, 0]);
        assert_eq!(Prefix::new([1, 2, 3, 4], 32), Prefix::host([1, 2, 3, 4]));
        assert_eq!(Prefix::new([1, 2, 3, 4], 33), Prefix::host([1, 2, 3, 4]));
        let v6 = Prefix::new([0xff; 16], 127);
        assert_eq!((v6.octets()[14], v6.octets()[15], v6.length()), (0xff, 0xfe, 127));
    }

    #[test]
    fn a_network_encloses_itself_and_what_is_longer() {
        let wide = Prefix::new([10, 0, 0, 0], 8);
        let narrow = Prefix::new([10, 1, 0, 0], 16);
        assert!(wide.encloses(&narrow) && wide.encloses(&wide) && !narrow.encloses(&wide));
        assert!(!wide.encloses(&Prefix::new([11, 0, 0, 0], 16)));
        assert!(narrow.contains([10, 1, 2, 3]) && !narrow.contains([10, 2, 0, 0]));
        assert!(Prefix::new([0; 4], 0).contains([255; 4]));
    }

    #[test]
    fn a_prefix_comes_before_those_within_it() {
        let any = Prefix::new([0; 4], 0);
        let wide = Prefix::new([10, 0, 0, 0], 8);
        let first = Prefix::new([10, 0, 0, 0], 16);
        let second = Prefix::new([10, 1, 0, 0], 16);
        assert!([any, wide, first, second, Prefix::new([11, 0, 0, 0], 8)].is_sorted());
    }

    #[test]
    fn enclosing_prefixes_go_from_the_longest_to_one_bit() {
        let all: Vec<_> = Prefix::new([0xc0, 0, 0, 0], 3).enclosing().collect();
        assert_eq!(all, [Prefix::new([0xc0, 0, 0, 0], 2), Prefix::new([0x80, 0, 0, 0], 1)]);
        assert_eq!(Prefix::<4>::new([0; 4], 0).enclosing().count(), 0);
    }
}
