//! Lists of ranges and classes, each stored once: what several policies have in common has the same
//! numbers in all of them, so that comparing two policies is comparing numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, Has, NO_CLASS, Range, rule_number};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::compiled::{CompiledClass, contents};
use crate::number::{count, index};
use crate::prefixes::Prefixes;
use crate::untracked::Untracked;

/// The lists and classes of policies that are compiled one after the other, each once.
#[derive(Debug)]
pub struct PolicyInterner {
    /// Distinguishes the policies of this interner from those of another.
    id: u64,
    ranges: Vec<Range>,
    /// Where in `ranges` each list begins and ends.
    lists: Vec<(usize, usize)>,
    by_list: HashTable<u32>,
    list_hashes: Vec<u64>,
    /// The lists of [`ANY_V4`] and [`ANY_V6`] are in each policy, because policies differ in them.
    classes: Vec<CompiledClass>,
    by_class: HashTable<u32>,
    class_hashes: Vec<u64>,
}

/// A compiled policy, by the numbers of a [`PolicyInterner`].
#[derive(Clone, Debug)]
pub struct InternedPolicy {
    interner: u64,
    pub(crate) v4: FamilyPolicy<4>,
    pub(crate) v6: FamilyPolicy<16>,
    digest: u64,
}

/// The part of a policy for one address family.
#[derive(Clone, Debug)]
pub(crate) struct FamilyPolicy<const N: usize> {
    /// The lists of addresses that no prefix covers, by direction.
    pub(crate) any: [u32; 2],
    /// The traffic that needs no flow, by direction.
    pub(crate) untracked: [Untracked; 2],
    pub(crate) prefixes: Prefixes<N>,
}

impl Default for PolicyInterner {
    fn default() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        const { assert!(ANY_V4 == 0 && ANY_V6 == 1) };
        let any = CompiledClass { parent: NO_CLASS, lists: [0, 0] };
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            ranges: Vec::new(),
            lists: vec![(0, 0)],
            by_list: HashTable::new(),
            list_hashes: vec![0],
            classes: vec![any; 2],
            by_class: HashTable::new(),
            class_hashes: [ANY_V4, ANY_V6].map(|any| hash(&any.to_le_bytes(), 0)).into(),
        }
    }
}

impl PolicyInterner {
    /// A list of ranges by its number.
    #[must_use]
    pub fn list(&self, number: u32) -> &[Range] {
        self.lists.get(index(number)).map_or(&[], |(from, to)| &self.ranges[*from..*to])
    }

    /// The number of a list, which is stored if it is new. That of the empty list is 0.
    pub(crate) fn intern_list(&mut self, list: &[Range]) -> u32 {
        if list.is_empty() {
            return 0;
        }
        let hash = list.iter().fold(0, |seed, Range { low, high, rule }| {
            let mut bytes = [0; 12];
            for (to, from) in bytes.chunks_exact_mut(4).zip([low, high, rule]) {
                to.copy_from_slice(&from.to_le_bytes());
            }
            hash(&bytes, seed)
        });
        let found = self.by_list.find(hash, |number| self.list(*number) == list);
        if let Some(number) = found {
            return *number;
        }
        let number = count(self.lists.len());
        let from = self.ranges.len();
        self.ranges.extend_from_slice(list);
        self.lists.push((from, self.ranges.len()));
        self.list_hashes.push(hash);
        let hashes = &self.list_hashes;
        self.by_list.insert_unique(hash, number, |number| hashes[index(*number)]);
        number
    }

    pub(crate) fn class(&self, number: u32) -> CompiledClass {
        self.classes[index(number)]
    }

    pub(crate) const fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// The number of a class, which is stored if it is new; its parent has a number already.
    pub(crate) fn intern_class(&mut self, class: CompiledClass) -> u32 {
        let [one, other] = class.lists.map(|list| self.list_hashes[index(list)]);
        let hash = mix([self.class_hashes[index(class.parent)], one, other]);
        let found = self.by_class.find(hash, |number| self.classes[index(*number)] == class);
        if let Some(number) = found {
            return *number;
        }
        let number = count(self.classes.len());
        self.classes.push(class);
        self.class_hashes.push(hash);
        let hashes = &self.class_hashes;
        self.by_class.insert_unique(hash, number, |number| hashes[index(*number)]);
        number
    }

    /// A policy of this interner.
    pub(crate) fn policy(&self, v4: FamilyPolicy<4>, v6: FamilyPolicy<16>) -> InternedPolicy {
        let any = [v4.any, v6.any];
        let any = any.as_flattened().iter().map(|list| self.list_hashes[index(*list)]);
        let any = any.fold(0, |seed, list| hash(&list.to_le_bytes(), seed));
        // A sum of what each prefix and its class contain, which does not depend on this interner's
        // numbers.
        let sums = self.sum(&v4.prefixes).wrapping_add(self.sum(&v6.prefixes));
        InternedPolicy { interner: self.id, v4, v6, digest: sums.wrapping_add(any).max(1) }
    }

    fn sum<const N: usize>(&self, prefixes: &Prefixes<N>) -> u64 {
        let hashes = prefixes.iter().map(|(prefix, class)| {
            hash(&prefix.octets(), self.class_hashes[index(*class)] ^ u64::from(prefix.length()))
        });
        hashes.fold(0, u64::wrapping_add)
    }

    /// Whether a policy is of this interner.
    pub(crate) const fn owns(&self, policy: &InternedPolicy) -> bool {
        self.id == policy.interner
    }

    /// Which parts a policy has, for the active word.
    #[must_use]
    pub fn contents(&self, policy: &InternedPolicy) -> Has {
        let prefixes = [!policy.v4.prefixes.is_empty(), !policy.v6.prefixes.is_empty()];
        contents(prefixes, policy.any().map(|lists| lists.map(|list| self.list(list))))
    }

    /// How many different classes a policy has, with the two "any" classes.
    pub(crate) fn classes_of(&self, policy: &InternedPolicy) -> usize {
        self.used([policy]).into_iter().filter(|used| *used).count()
    }

    /// Which classes occur in the policies.
    fn used<'a>(&self, policies: impl IntoIterator<Item = &'a InternedPolicy>) -> Vec<bool> {
        let mut used = vec![false; self.classes.len()];
        used[..2].fill(true);
        for class in policies.into_iter().flat_map(InternedPolicy::classes) {
            used[index(class)] = true;
        }
        used
    }

    /// The numbers of the rules that own a range in one of the policies: sorted, each once.
    #[must_use]
    pub fn rules<'a>(
        &self,
        policies: impl IntoIterator<Item = &'a InternedPolicy, IntoIter: Clone>,
    ) -> Vec<u32> {
        let policies = policies.into_iter();
        let mut lists = vec![false; self.lists.len()];
        let used = self.used(policies.clone()).into_iter().zip(&self.classes);
        let of_classes = used.filter(|(used, _)| *used).map(|(_, class)| class.lists);
        for list in of_classes.chain(policies.flat_map(InternedPolicy::any)).flatten() {
            lists[index(list)] = true;
        }
        let lists = (0..).zip(lists).filter(|(_, used)| *used);
        let ranges = lists.flat_map(|(list, _)| self.list(list));
        let mut rules: Vec<u32> = ranges.map(|range| rule_number(range.rule)).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

impl InternedPolicy {
    /// Distinguishes policies by their contents: the same in every process and with every interner.
    /// Never 0.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// How many prefixes there are.
    #[must_use]
    pub const fn prefixes(&self) -> usize {
        self.v4.prefixes.len() + self.v6.prefixes.len()
    }

    /// The lists of addresses that no prefix covers, by family and direction.
    pub(crate) const fn any(&self) -> [[u32; 2]; 2] {
        [self.v4.any, self.v6.any]
    }

    /// The classes of its prefixes, one for each prefix, in their order.
    fn classes(&self) -> impl Iterator<Item = u32> {
        let v6 = self.v6.prefixes.iter().map(|(_, class)| *class);
        self.v4.prefixes.iter().map(|(_, class)| *class).chain(v6)
    }
}

fn hash(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

fn mix(words: [u64; 3]) -> u64 {
    let mut bytes = [0; 24];
    for (to, from) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    hash(&bytes, 0)
}
