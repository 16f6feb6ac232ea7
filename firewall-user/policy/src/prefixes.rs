//! The prefixes of a family with their classes.

use firewall_ebpf::abi::prefix::Prefix;
use ipnet::{Ipv4Net, Ipv6Net};

/// Prefixes with their classes, in the order of [`Prefix`]: an enclosing prefix comes before those
/// within it.
pub(crate) type Prefixes<const N: usize> = Vec<(Prefix<N>, u32)>;

/// The class of a prefix.
pub(crate) fn find<const N: usize>(prefixes: &Prefixes<N>, prefix: Prefix<N>) -> Option<u32> {
    let at = prefixes.binary_search_by_key(&prefix, |(prefix, _)| *prefix);
    at.ok().map(|at| prefixes[at].1)
}

/// The class of the longest prefix that is shorter than this one and encloses it: a few searches, not one for
/// each length.
pub(crate) fn enclosing<const N: usize>(prefixes: &Prefixes<N>, prefix: Prefix<N>) -> Option<u32> {
    let mut before = prefixes.partition_point(|(one, _)| *one < prefix);
    loop {
        let (found, class) = prefixes[before.checked_sub(1)?];
        if found.encloses(&prefix) {
            return Some(class);
        }
        // What encloses the prefix comes before `found` and encloses both, because what follows a prefix
        // without a gap is within it.
        let both = Prefix::new(prefix.octets(), common(found.octets(), prefix.octets()));
        before = prefixes[..before].partition_point(|(one, _)| *one <= both);
    }
}

/// How many leading bits two addresses have in common.
fn common<const N: usize>(one: [u8; N], other: [u8; N]) -> u8 {
    let mut bits = 0;
    for (one, other) in one.into_iter().zip(other) {
        let zeros = (one ^ other).leading_zeros();
        bits += zeros;
        if zeros < u8::BITS {
            break;
        }
    }
    u8::try_from(bits).unwrap_or(u8::MAX)
}

/// An IPv4 network as a prefix, without its host bits.
pub(crate) fn prefix_v4(network: &Ipv4Net) -> Prefix<4> {
    Prefix::new(network.addr().octets(), network.prefix_len())
}

/// An IPv6 network as a prefix, without its host bits.
pub(crate) fn prefix_v6(network: &Ipv6Net) -> Prefix<16> {
    Prefix::new(network.addr().octets(), network.prefix_len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few different addresses, so that many prefixes are within others.
    fn prefix() -> impl Strategy<Value = Prefix<4>> {
        (0_u8..4, 0_u8..4, 0_u8..4, 1_u8..=32)
            .prop_map(|(a, b, d, length)| Prefix::new([a << 6, b << 2, 0, d], length))
    }

    proptest! {
        #[test]
        fn the_longest_enclosing_prefix_is_found(
            all in prop::collection::btree_map(prefix(), any::<u32>(), 0..40),
            probes in prop::collection::vec(prefix(), 1..40),
        ) {
            let prefixes: Prefixes<4> = all.clone().into_iter().collect();
            for prefix in all.keys().copied().chain(probes) {
                let expected = prefix.enclosing().find_map(|prefix| all.get(&prefix).copied());
                prop_assert_eq!(enclosing(&prefixes, prefix), expected);
            }
        }
    }
}
