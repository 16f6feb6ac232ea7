//! Sets of networks that are cheap to clone: the networks of a prefix list and of a rule's peer.

use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that are looked through one by one.
const FEW: usize = 256;

/// Networks of either family, sorted, each once. Clones share them, so that a list of a million networks is in
/// memory once, whatever refers to it.
#[derive(Clone, Debug)]
pub struct Networks(Repr);

#[derive(Clone, Debug)]
enum Repr {
    /// One network, as most rules have: without an allocation.
    V4(Ipv4Net),
    V6(Ipv6Net),
    Several(Arc<Sorted>),
}

/// By family, each sorted, each network once.
#[derive(Debug, Default)]
struct Sorted {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Networks {
    /// The networks of each family, in any order and perhaps repeated.
    #[must_use]
    pub fn new(mut v4: Vec<Ipv4Net>, mut v6: Vec<Ipv6Net>) -> Self {
        // Keys that compare faster than octets; files and the store have most networks in order.
        let key_v4 =
            |one: &Ipv4Net| u64::from(one.addr().to_bits()) << 8 | u64::from(one.prefix_len());
        if !v4.is_sorted_by_key(key_v4) {
            v4.sort_unstable_by_key(key_v4);
        }
        let key_v6 = |one: &Ipv6Net| (one.addr().to_bits(), one.prefix_len());
        if !v6.is_sorted_by_key(key_v6) {
            v6.sort_unstable_by_key(key_v6);
        }
        v4.dedup();
        v6.dedup();
        Self::sorted(v4, v6)
    }

    /// Networks that are sorted already, each once.
    pub(super) fn sorted(v4: Vec<Ipv4Net>, v6: Vec<Ipv6Net>) -> Self {
        match (&v4[..], &v6[..]) {
            ([one], []) => (*one).into(),
            ([], [one]) => (*one).into(),
            _ => Self(Repr::Several(Arc::new(Sorted { v4, v6 }))),
        }
    }

    /// The IPv4 networks, sorted.
    #[must_use]
    pub fn v4(&self) -> &[Ipv4Net] {
        match &self.0 {
            Repr::V4(one) => slice::from_ref(one),
            Repr::V6(_) => &[],
            Repr::Several(sorted) => &sorted.v4,
        }
    }

    /// The IPv6 networks, sorted.
    #[must_use]
    pub fn v6(&self) -> &[Ipv6Net] {
        match &self.0 {
            Repr::V4(_) => &[],
            Repr::V6(one) => slice::from_ref(one),
            Repr::Several(sorted) => &sorted.v6,
        }
    }

    /// How many networks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4().len() + self.v6().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The networks: those of IPv4, then those of IPv6, each sorted.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { v4: self.v4().iter(), v6: self.v6().iter() }
    }

    /// Where this network is in the order of [`Self::iter`].
    #[must_use]
    pub fn position(&self, network: &IpNet) -> Option<usize> {
        match network {
            IpNet::V4(network) => self.v4().binary_search(network).ok(),
            IpNet::V6(network) => Some(self.v4().len() + self.v6().binary_search(network).ok()?),
        }
    }

    /// Whether an address is in one of the networks. Of many networks those that can contain it are looked for,
    /// one of each length.
    #[must_use]
    pub fn cover(&self, address: IpAddr) -> bool {
        let of_length =
            |length| IpNet::new(address, length).is_ok_and(|one| self.has(&one.trunc()));
        match address {
            IpAddr::V4(v4) if self.v4().len() <= FEW => {
                self.v4().iter().any(|network| network.contains(&v4))
            }
            IpAddr::V6(v6) if self.v6().len() <= FEW => {
                self.v6().iter().any(|network| network.contains(&v6))
            }
            IpAddr::V4(_) => (0..=32).any(of_length),
            IpAddr::V6(_) => (0..=128).any(of_length),
        }
    }

    fn has(&self, network: &IpNet) -> bool {
        self.position(network).is_some()
    }

    /// Whether both are the same networks in memory, so that they need not be compared.
    #[must_use]
    pub(super) fn are_shared(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Several(one), Repr::Several(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Default for Networks {
    fn default() -> Self {
        Self::sorted(Vec::new(), Vec::new())
    }
}

impl PartialEq for Networks {
    fn eq(&self, other: &Self) -> bool {
        self.are_shared(other) || (self.v4() == other.v4() && self.v6() == other.v6())
    }
}

impl Eq for Networks {}

impl From<Ipv4Net> for Networks {
    fn from(network: Ipv4Net) -> Self {
        Self(Repr::V4(network))
    }
}

impl From<Ipv6Net> for Networks {
    fn from(network: Ipv6Net) -> Self {
        Self(Repr::V6(network))
    }
}

impl From<IpNet> for Networks {
    fn from(network: IpNet) -> Self {
        match network {
            IpNet::V4(v4) => v4.into(),
            IpNet::V6(v6) => v6.into(),
        }
    }
}

impl From<Vec<IpNet>> for Networks {
    fn from(networks: Vec<IpNet>) -> Self {
        networks.into_iter().collect()
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(network) => v4.push(network),
                IpNet::V6(network) => v6.push(network),
            }
        }
        Self::new(v4, v6)
    }
}

impl<'a> IntoIterator for &'a Networks {
    type Item = IpNet;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The networks of a set, in order.
#[derive(Clone, Debug, Default)]
pub struct Iter<'a> {
    v4: slice::Iter<'a, Ipv4Net>,
    v6: slice::Iter<'a, Ipv6Net>,
}

impl Iterator for Iter<'_> {
    type Item = IpNet;

    fn next(&mut self) -> Option<IpNet> {
        let v4 = self.v4.next().map(|network| IpNet::V4(*network));
        v4.or_else(|| self.v6.next().map(|network| IpNet::V6(*network)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.v4.len() + self.v6.len();
        (len, Some(len))
    }

    fn nth(&mut self, n: usize) -> Option<IpNet> {
        match n.checked_sub(self.v4.len()) {
            None => self.v4.nth(n).map(|network| IpNet::V4(*network)),
            Some(more) => {
                self.v4 = [].iter();
                self.v6.nth(more).map(|network| IpNet::V6(*network))
            }
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Few different networks, so that some repeat.
    fn network() -> impl Strategy<Value = IpNet> {
        (any::<bool>(), 0_u8..4, 0_u8..=32).prop_map(|(is_v4, byte, length)| {
            let address = if is_v4 {
                IpAddr::from([byte, 0, 0, byte])
            } else {
                IpAddr::from([byte, 0, 0, byte, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte])
            };
            IpNet::new(address, length).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn networks_are_a_sorted_set(
            networks in prop::collection::vec(network(), 0..40),
            other in prop::collection::vec(network(), 0..3),
            skipped in 0..50_usize,
        ) {
            let expected: BTreeSet<IpNet> = networks.iter().copied().collect();
            let set = Networks::from(networks.clone());
            prop_assert!(set.iter().eq(expected.iter().copied()));
            prop_assert_eq!(set.iter().len(), expected.len());
            prop_assert_eq!(set.is_empty(), expected.is_empty());
            prop_assert_eq!(set.iter().nth(skipped), expected.iter().nth(skipped).copied());
            for network in networks.iter().chain(&other) {
                let at = expected.iter().position(|one| one == network);
                prop_assert_eq!(set.position(network), at);
                let address = network.addr();
                let covered = expected.iter().any(|one| one.contains(&address));
                prop_assert_eq!(set.cover(address), covered);
            }
            let others: BTreeSet<IpNet> = other.iter().copied().collect();
            prop_assert_eq!(set == Networks::from(other), expected == others);
            prop_assert_eq!(set.clone(), networks.into_iter().rev().collect::<Networks>());
        }
    }

    #[test]
    fn many_networks_cover_what_each_of_them_contains() {
        let v4 = (0..1000_u32).map(|n| {
            let length = u8::try_from(8 + n % 25).unwrap();
            Ipv4Net::new(n.wrapping_mul(0x9e37_79b1).into(), length).unwrap().trunc()
        });
        let v6 = (0..1000_u128).map(|n| {
            let length = u8::try_from(16 + n % 113).unwrap();
            Ipv6Net::new((n << 100 | n << 7).into(), length).unwrap().trunc()
        });
        let all = Networks::new(v4.collect(), v6.collect());
        let (mut inside, mut outside) = (0, 0);
        for n in 0..2000_u32 {
            let one = IpAddr::from(n.wrapping_mul(0x85eb_ca6b).to_be_bytes());
            let other = IpAddr::from((u128::from(n) << 100 | u128::from(n % 7)).to_be_bytes());
            for address in [one, other] {
                let expected = all.iter().any(|network| network.contains(&address));
                assert_eq!(all.cover(address), expected, "{address}");
                *(if expected { &mut inside } else { &mut outside }) += 1;
            }
        }
        assert!(inside > 100 && outside > 100, "{inside} inside, {outside} outside");
    }
}
