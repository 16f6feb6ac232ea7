//! The compiler: rules to prefixes, classes and lists of ranges. The same rules give the same tables.

use firewall_ebpf::compiled::{CompiledClass, CompiledPolicy};
use firewall_ebpf::host::mask;
use firewall_ebpf::interface::Direction;
use firewall_ebpf::limits::{MAX_CLASSES, MAX_PREFIXES};
use firewall_ebpf::policy::{ANY_V4, ANY_V6, Range};
use hashbrown::HashMap;
use ipnet::IpNet;

use super::book::{Book, Made, Numbered, Prefixes, index};
use super::ranges::{disjoint, interval};
use super::untracked::Untracked;
use crate::model::Tracking;
use crate::policy::ResolvedRule;

/// The policy does not fit into its maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy needs {needed} {what}, {} more than the {limit} that fit", .needed - .limit)]
pub struct TooLarge {
    /// What there are too many of.
    pub what: &'static str,
    /// How many the policy needs.
    pub needed: usize,
    /// How many fit.
    pub limit: usize,
}

/// Compiles the rules of one interface by themselves: see [`Book::compile`].
///
/// # Errors
/// [`TooLarge`] if the result exceeds what the kernel program can search.
pub fn compile(rules: &[ResolvedRule], tracking: Tracking) -> Result<CompiledPolicy, TooLarge> {
    let mut book = Book::default();
    let policy = book.compile(rules, tracking)?;
    Ok(book.tables(&policy))
}

impl Book {
    /// Compiles the rules of one interface. With [`Tracking::Auto`] the traffic that needs no flow is
    /// marked in the two "any" classes, and left out of the others, so that admission gets to the mark.
    ///
    /// Prefixes for which the same rules speak, within the same enclosing prefix, share a class: a prefix
    /// list costs its entries in the trie, and one class.
    ///
    /// # Errors
    /// [`TooLarge`] if the result exceeds what the kernel program can search.
    pub fn compile(
        &mut self,
        rules: &[ResolvedRule],
        tracking: Tracking,
    ) -> Result<Numbered, TooLarge> {
        let Speaking { v4, v6 } = Speaking::new(rules, |_| true, |_| true);
        let v4 = Family::new(self, rules, false).compile(&v4, tracking, ANY_V4);
        let v6 = Family::new(self, rules, true).compile(&v6, tracking, ANY_V6);
        self.fitting(v4, v6)
    }

    /// Refuses a policy that is too large.
    pub(super) fn fitting(&self, v4: Made<4>, v6: Made<16>) -> Result<Numbered, TooLarge> {
        let policy = self.numbered(v4, v6);
        // Counted only where it matters: the book has the classes of other interfaces, too.
        if policy.prefixes() + 2 > index(MAX_CLASSES) {
            fits("classes", self.classes_of(&policy), MAX_CLASSES)?;
        }
        fits("IPv4 prefixes", policy.v4.prefixes.len(), MAX_PREFIXES)?;
        fits("IPv6 prefixes", policy.v6.prefixes.len(), MAX_PREFIXES)?;
        Ok(policy)
    }
}

/// A network: its first address, and the length of its prefix.
pub(super) type Network<const N: usize> = ([u8; N], u8);

/// A rule, by its index, speaks of a network.
pub(super) type Spoken<const N: usize> = (Network<N>, u32);

/// Which rules speak of which networks: sorted, those of a network behind one another.
pub(super) struct Speaking {
    pub(super) v4: Vec<Spoken<4>>,
    pub(super) v6: Vec<Spoken<16>>,
}

impl Speaking {
    /// Of the networks that are asked for.
    pub(super) fn new(
        rules: &[ResolvedRule],
        wants_v4: impl Fn(&Network<4>) -> bool,
        wants_v6: impl Fn(&Network<16>) -> bool,
    ) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, rule) in (0_u32..).zip(rules) {
            let [speaks_v4, speaks_v6] =
                [true, false].map(|is_v4| interval(rule.traffic, is_v4).is_some());
            for network in &rule.networks {
                match network {
                    IpNet::V4(v4_network) if speaks_v4 => {
                        let network = (v4_network.network().octets(), v4_network.prefix_len());
                        v4.extend(wants_v4(&network).then_some((network, number)));
                    }
                    IpNet::V6(v6_network) if speaks_v6 => {
                        let network = (v6_network.network().octets(), v6_network.prefix_len());
                        v6.extend(wants_v6(&network).then_some((network, number)));
                    }
                    _ => {}
                }
            }
        }
        v4.sort_unstable();
        v4.dedup();
        v6.sort_unstable();
        v6.dedup();
        Self { v4, v6 }
    }
}

/// What a rule allows in a family: the part of it that is looked at for every network.
#[derive(Clone, Copy)]
struct Allowed {
    direction: Direction,
    range: Range,
    /// Whether it speaks of several networks.
    has_several: bool,
}

/// What rules make of the networks of one family.
pub(super) struct Family<'a> {
    book: &'a mut Book,
    /// By index of the rule; those of the other family's ICMP speak of no network.
    rules: Vec<Allowed>,
    /// What needs no flow, by direction.
    untracked: [Untracked; 2],
    /// Lists by the rule that speaks, where it is the only one and has several networks.
    of_one: HashMap<u32, [u32; 2]>,
    /// By the rules that speak: those of a prefix list speak of all its entries.
    of_several: HashMap<Box<[u32]>, [u32; 2]>,
}

impl<'a> Family<'a> {
    pub(super) fn new(book: &'a mut Book, rules: &[ResolvedRule], is_v6: bool) -> Self {
        let allowed = |rule: &ResolvedRule| {
            let (low, high) = interval(rule.traffic, !is_v6).unwrap_or_default();
            let range = Range { low, high, rule: rule.number };
            let has_several = rule.networks.len() > 1;
            Allowed { direction: rule.direction, range, has_several }
        };
        let rules = rules.iter().map(allowed).collect();
        let untracked = Default::default();
        let (of_one, of_several) = (HashMap::new(), HashMap::new());
        Self { book, rules, untracked, of_one, of_several }
    }

    /// All of it. `any` is the class of addresses that no prefix covers.
    fn compile<const N: usize>(
        mut self,
        speaking: &[Spoken<N>],
        tracking: Tracking,
        any: u32,
    ) -> Made<N> {
        let (anywhere, narrower) = split(speaking);
        let any_lists = self.anywhere(anywhere, tracking);
        let prefixes = self.prefixes(narrower, any);
        Made { any: any_lists, untracked: self.untracked, prefixes }
    }

    /// The networks that these rules speak of, without that of all addresses, with their classes. All
    /// are within `outer`, the class of an enclosing prefix.
    pub(super) fn prefixes<const N: usize>(
        &mut self,
        speaking: &[Spoken<N>],
        outer: u32,
    ) -> Prefixes<N> {
        let mut prefixes = Prefixes::with_capacity(speaking.len());
        let mut enclosing: Vec<Spoken<N>> = Vec::new();
        let mut of_network = Vec::new();
        for speaking in speaking.chunk_by(|(one, _), (other, _)| one == other) {
            let (octets, length) = speaking[0].0;
            // Networks come in order of address, then length: those that enclose this one are on the
            // stack, the narrowest on top.
            let encloses = |(outer, _): &Spoken<N>| mask(octets, outer.1) == outer.0;
            while enclosing.last().is_some_and(|outer| !encloses(outer)) {
                enclosing.pop();
            }
            let parent = enclosing.last().map_or(outer, |(_, class)| *class);
            of_network.clear();
            of_network.extend(speaking.iter().map(|(_, rule)| *rule));
            let lists = self.lists(&of_network);
            if lists == [0, 0] {
                // Says nothing that the enclosing prefix does not.
                continue;
            }
            let class = self.book.class_number(CompiledClass { parent, lists });
            enclosing.push(((octets, length), class));
            prefixes.push(((length, octets), class));
        }
        prefixes
    }

    /// The lists of the rules that speak of all addresses, and what needs no flow by them.
    pub(super) fn anywhere<const N: usize>(
        &mut self,
        speaking: &[Spoken<N>],
        tracking: Tracking,
    ) -> [u32; 2] {
        let rules: Vec<u32> = speaking.iter().map(|(_, rule)| *rule).collect();
        let [ingress, egress] = Direction::ALL.map(|direction| self.disjoint(&rules, direction));
        if tracking == Tracking::Auto {
            self.untracked = [Untracked::new(&ingress, &egress), Untracked::new(&egress, &ingress)];
        }
        let marked = [self.untracked[0].mark(&ingress), self.untracked[1].mark(&egress)];
        marked.map(|ranges| self.book.list_number(&ranges))
    }

    /// See [`Made::untracked`].
    pub(super) const fn untracked(&self) -> &[Untracked; 2] {
        &self.untracked
    }

    /// The lists, by direction, that these rules make for a network.
    fn lists(&mut self, rules: &[u32]) -> [u32; 2] {
        let made = match rules {
            [one] if !self.rules[index(*one)].has_several => None,
            [one] => self.of_one.get(one),
            several => self.of_several.get(several),
        };
        if let Some(lists) = made {
            return *lists;
        }
        let lists = Direction::ALL.map(|direction| {
            let own = self.disjoint(rules, direction);
            self.book.list_number(&self.untracked[direction as usize].without(own))
        });
        match rules {
            [one] if !self.rules[index(*one)].has_several => {}
            [one] => drop(self.of_one.insert(*one, lists)),
            several => drop(self.of_several.insert(several.into(), lists)),
        }
        lists
    }

    /// What these rules allow in one direction.
    fn disjoint(&self, rules: &[u32], direction: Direction) -> Vec<Range> {
        let rules = rules.iter().map(|rule| self.rules[index(*rule)]);
        disjoint(rules.filter(|rule| rule.direction == direction).map(|rule| rule.range).collect())
    }
}

/// Those that speak of all addresses, and the others.
pub(super) fn split<const N: usize>(speaking: &[Spoken<N>]) -> (&[Spoken<N>], &[Spoken<N>]) {
    speaking.split_at(speaking.partition_point(|((_, length), _)| *length == 0))
}

fn fits(what: &'static str, needed: usize, limit: u32) -> Result<(), TooLarge> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if needed > limit { Err(TooLarge { what, needed, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_count_it_needs() {
        let limit = usize::try_from(MAX_PREFIXES).unwrap();
        assert_eq!(fits("IPv4 prefixes", limit, MAX_PREFIXES), Ok(()));
        let error = fits("IPv4 prefixes", limit + 2, MAX_PREFIXES).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the policy needs 4194306 IPv4 prefixes, 2 more than the 4194304 that fit"
        );
    }
}
