//! Lists of ranges and classes, each kept once: what several policies have in common has the same
//! numbers in all of them, so that to compare two of them is to compare numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use firewall_ebpf::compiled::{CompiledClass, CompiledPolicy};
use firewall_ebpf::policy::{ANY_V4, ANY_V6, Has, NO_CLASS, Range, UNTRACKED};
use hashbrown::{HashMap, HashTable};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::delta::Prefix;
use super::untracked::Untracked;

/// Prefixes of a family with their classes, by address and then length: an enclosing prefix comes
/// before what it encloses.
pub(super) type Prefixes<const N: usize> = Vec<(Prefix<N>, u32)>;

/// The lists and classes of policies that are compiled one after the other.
#[derive(Debug)]
pub struct Book {
    /// Tells a policy of this book from another's.
    id: u64,
    ranges: Vec<Range>,
    /// Where in `ranges` each list begins and ends.
    lists: Vec<(usize, usize)>,
    by_list: HashTable<u32>,
    list_hashes: Vec<u64>,
    /// Without what [`ANY_V4`] and [`ANY_V6`] allow: policies differ in that.
    classes: Vec<CompiledClass>,
    by_class: HashTable<u32>,
    class_hashes: Vec<u64>,
}

/// A compiled policy by the numbers of a [`Book`].
#[derive(Clone, Debug)]
pub struct Numbered {
    book: u64,
    pub(super) v4: Made<4>,
    pub(super) v6: Made<16>,
    digest: u64,
}

/// What rules make of the networks of a family.
#[derive(Clone, Debug)]
pub(super) struct Made<const N: usize> {
    /// The lists of addresses that no prefix covers, by direction.
    pub(super) any: [u32; 2],
    /// What needs no flow, by direction.
    pub(super) untracked: [Untracked; 2],
    pub(super) prefixes: Prefixes<N>,
}

impl Default for Book {
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

impl Book {
    /// A list of ranges by its number.
    #[must_use]
    pub fn list(&self, number: u32) -> &[Range] {
        self.lists.get(index(number)).map_or(&[], |(from, to)| &self.ranges[*from..*to])
    }

    /// The number of a list. The empty one's is 0.
    pub(super) fn list_number(&mut self, list: &[Range]) -> u32 {
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

    pub(super) fn class(&self, number: u32) -> CompiledClass {
        self.classes[index(number)]
    }

    pub(super) const fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// The number of a class; its parent has one already.
    pub(super) fn class_number(&mut self, class: CompiledClass) -> u32 {
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

    /// A policy of this book.
    pub(super) fn numbered(&self, v4: Made<4>, v6: Made<16>) -> Numbered {
        let any = [v4.any, v6.any];
        let any = any.as_flattened().iter().map(|list| self.list_hashes[index(*list)]);
        let any = any.fold(0, |seed, list| hash(&list.to_le_bytes(), seed));
        // A sum: each prefix counts with all that its class means, whatever numbers that has here.
        let sums = self.sum(&v4.prefixes).wrapping_add(self.sum(&v6.prefixes));
        Numbered { book: self.id, v4, v6, digest: sums.wrapping_add(any).max(1) }
    }

    fn sum<const N: usize>(&self, prefixes: &Prefixes<N>) -> u64 {
        let hashes = prefixes.iter().map(|((length, octets), class)| {
            hash(octets, self.class_hashes[index(*class)] ^ u64::from(*length))
        });
        hashes.fold(0, u64::wrapping_add)
    }

    /// Whether a policy is one of this book.
    pub(super) const fn has(&self, policy: &Numbered) -> bool {
        self.id == policy.book
    }

    /// What the kernel is told of a policy's contents.
    #[must_use]
    pub fn contents(&self, policy: &Numbered) -> Has {
        let prefixes = [!policy.v4.prefixes.is_empty(), !policy.v6.prefixes.is_empty()];
        Has::of(prefixes, policy.any().map(|lists| lists.map(|list| self.list(list))))
    }

    /// How many different classes a policy has, with the two of addresses that no prefix covers.
    pub(super) fn classes_of(&self, policy: &Numbered) -> usize {
        self.used([policy]).into_iter().filter(|used| *used).count()
    }

    /// Which classes policies have.
    fn used<'a>(&self, policies: impl IntoIterator<Item = &'a Numbered>) -> Vec<bool> {
        let mut used = vec![false; self.classes.len()];
        used[..2].fill(true);
        for class in policies.into_iter().flat_map(Numbered::classes) {
            used[index(class)] = true;
        }
        used
    }

    /// The numbers of the rules that own a range of one of the policies: sorted, each once.
    #[must_use]
    pub fn rules<'a>(
        &self,
        policies: impl IntoIterator<Item = &'a Numbered, IntoIter: Clone>,
    ) -> Vec<u32> {
        let policies = policies.into_iter();
        let mut lists = vec![false; self.lists.len()];
        let used = self.used(policies.clone()).into_iter().zip(&self.classes);
        let of_classes = used.filter(|(used, _)| *used).map(|(_, class)| class.lists);
        for list in of_classes.chain(policies.flat_map(Numbered::any)).flatten() {
            lists[index(list)] = true;
        }
        let lists = (0..).zip(lists).filter(|(_, used)| *used);
        let ranges = lists.flat_map(|(list, _)| self.list(list));
        let mut rules: Vec<u32> = ranges.map(|range| range.rule & !UNTRACKED).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// A policy by itself: with the numbers that it would have in a book of its own.
    #[must_use]
    pub fn tables(&self, policy: &Numbered) -> CompiledPolicy {
        let mut alone =
            Alone { book: self, tables: CompiledPolicy::deny_all(), lists: HashMap::new() };
        alone.lists.insert(0, 0);
        for (class, any) in policy.any().into_iter().enumerate() {
            alone.tables.classes[class].lists = any.map(|list| alone.list(list));
        }
        let mut classes = vec![NO_CLASS; self.classes.len()];
        [classes[0], classes[1]] = [ANY_V4, ANY_V6];
        for number in policy.classes() {
            if classes[index(number)] == NO_CLASS {
                let CompiledClass { parent, lists } = self.class(number);
                let lists = lists.map(|list| alone.list(list));
                // The enclosing prefix came before.
                let class = CompiledClass { parent: classes[index(parent)], lists };
                classes[index(number)] = count(alone.tables.classes.len());
                alone.tables.classes.push(class);
            }
        }
        let place = |class: u32| classes[index(class)];
        let Alone { mut tables, .. } = alone;
        tables.prefixes_v4 =
            policy.v4.prefixes.iter().map(|(prefix, class)| (*prefix, place(*class))).collect();
        tables.prefixes_v6 =
            policy.v6.prefixes.iter().map(|(prefix, class)| (*prefix, place(*class))).collect();
        tables
    }
}

/// A policy that is taken out of a book.
struct Alone<'a> {
    book: &'a Book,
    tables: CompiledPolicy,
    /// Its numbers of lists by those of the book.
    lists: HashMap<u32, u32>,
}

impl Alone<'_> {
    fn list(&mut self, number: u32) -> u32 {
        *self.lists.entry(number).or_insert_with(|| {
            self.tables.lists.push(self.book.list(number).to_vec());
            count(self.tables.lists.len() - 1)
        })
    }
}

impl Numbered {
    /// Tells whether a policy is another one: the same in every process, whatever book the policy
    /// was compiled with. Never 0.
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
    pub(super) const fn any(&self) -> [[u32; 2]; 2] {
        [self.v4.any, self.v6.any]
    }

    /// The classes of its prefixes, in their order, again and again.
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

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
