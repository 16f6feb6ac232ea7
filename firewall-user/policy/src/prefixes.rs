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

/// The class of the longest prefix that is shorter than this one and encloses it.
pub(crate) fn enclosing<const N: usize>(prefixes: &Prefixes<N>, prefix: Prefix<N>) -> Option<u32> {
    prefix.enclosing().find_map(|prefix| find(prefixes, prefix))
}

/// An IPv4 network as a prefix, without its host bits.
pub(crate) fn prefix_v4(network: &Ipv4Net) -> Prefix<4> {
    Prefix::new(network.addr().octets(), network.prefix_len())
}

/// An IPv6 network as a prefix, without its host bits.
pub(crate) fn prefix_v6(network: &Ipv6Net) -> Prefix<16> {
    Prefix::new(network.addr().octets(), network.prefix_len())
}
