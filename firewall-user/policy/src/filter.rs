//! Filters: what an interface's own blocks and its network ACL say about its packets.
//!
//! Entries have an order, and the first that matches decides. The compiler resolves the order: each class
//! has, for each direction, the first entry that matches any traffic, as disjoint ranges, so that a packet
//! costs one search for the longest prefix and one in a list, whatever the number of entries.
//!
//! An entry that ends leaves what the entries after it say. The class that remains then is the parent of
//! the class that holds the entry: the kernel goes on there when it finds an entry that has ended.

mod evaluate;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firewall_ebpf::abi::filter::{BLOCK, DENY, Filter, entry_number};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::limits::{MAX_CLASSES, MAX_ENDS, MAX_PREFIXES};
use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, NO_CLASS, Range, TIMED};
use firewall_ebpf::abi::prefix::Prefix;
use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3;

pub use evaluate::{FilterMismatch, check_filter, evaluate_filter, filter_probes, first_match};

use crate::blocks::{ResolvedBlock, resolve_blocks};
use crate::compile::{TooLarge, fits};
use crate::compiled::{CompiledClass, CompiledPolicy};
use crate::model::{Action, Interface, Model, Networks, Traffic};
use crate::number::{count, index};
use crate::prefixes::{prefix_v4, prefix_v6};
use crate::ranges::{Interval, disjoint, interval};
use crate::resolve::networks_of;

/// An entry of a filter, with its networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedEntry {
    /// The index of its counter.
    pub counter: u32,
    /// Whether it is a block of the interface, not an entry of its ACL.
    pub is_block: bool,
    /// What happens to packets that it is the first to match.
    pub action: Action,
    /// Which packets it applies to; `None`: those of both directions.
    pub direction: Option<Direction>,
    /// Protocol with its ports or ICMP type and code.
    pub traffic: Traffic,
    /// The outside networks.
    pub networks: Networks,
    /// When it ends, in nanoseconds since the boot (`CLOCK_BOOTTIME`).
    pub end: Option<u64>,
}

/// Whether every packet of an interface passes its ACL and it has no blocks of its own, so that nothing is
/// looked up.
fn is_absent(model: &Model, interface: &Interface) -> bool {
    let is_own = |block: &&crate::model::Block| block.interface.as_ref() == Some(&interface.id);
    model.blocks.values().find(is_own).is_none()
        && model.acl_of(interface).is_none_or(|acl| acl.is_default && acl.allows_everything())
}

/// The numbers of the entries and blocks that an interface's filter consists of, each of which has a
/// counter; none if it has no filter.
#[must_use]
pub fn filter_numbers(model: &Model, interface: &Interface) -> Vec<u32> {
    if is_absent(model, interface) {
        return Vec::new();
    }
    let blocks = model.blocks.values();
    let own = blocks.filter(|block| block.interface.as_ref() == Some(&interface.id));
    let acl = model.acl_of(interface);
    let entries = acl.into_iter().flat_map(|acl| acl.entries.values());
    own.map(|block| block.number).chain(entries.map(|entry| entry.number)).collect()
}

/// The entries of an interface's filter in the order in which they are evaluated: its own blocks, then its
/// ACL; `None` if it has no filter, as in emergency mode. `counter` gives the index of a number's counter.
#[must_use]
pub fn filter_entries(
    model: &Model,
    interface: &Interface,
    counter: &dyn Fn(u32) -> u32,
) -> Option<Vec<ResolvedEntry>> {
    if model.is_panicking || is_absent(model, interface) {
        return None;
    }
    let blocks = model.blocks.values();
    let own = blocks.filter(|block| block.interface.as_ref() == Some(&interface.id));
    let own = own.map(|block| ResolvedEntry {
        counter: counter(block.number),
        is_block: true,
        action: Action::Deny,
        direction: None,
        traffic: Traffic::All,
        networks: networks_of(model, &block.target),
        end: block.end.map(|end| end.boottime),
    });
    let acl = model.acl_of(interface);
    let entries = acl.into_iter().flat_map(|acl| &acl.entries);
    let entries = entries.map(|((direction, _), entry)| ResolvedEntry {
        counter: counter(entry.number),
        is_block: false,
        action: entry.action,
        direction: Some(*direction),
        traffic: entry.traffic,
        networks: networks_of(model, &entry.peer),
        end: entry.end.map(|end| end.boottime),
    });
    Some(own.chain(entries).collect())
}

/// The blocks of the host, in the form of a filter's entries: what denies packets before any filter is asked. Counters
/// are the numbers of blocks.
#[must_use]
pub fn host_blocks(model: &Model) -> Vec<ResolvedEntry> {
    let blocks = resolve_blocks(model, &std::convert::identity).into_iter();
    let entries = blocks.map(|ResolvedBlock { counter, networks, end }| ResolvedEntry {
        counter,
        is_block: true,
        action: Action::Deny,
        direction: None,
        traffic: Traffic::All,
        networks,
        end,
    });
    entries.collect()
}

/// The entries of an interface's filter; none if it has none. Counters are the numbers of blocks and entries.
#[must_use]
pub fn numbered_entries(model: &Model, interface: &Interface) -> Vec<ResolvedEntry> {
    filter_entries(model, interface, &std::convert::identity).unwrap_or_default()
}

impl ResolvedEntry {
    /// The word by which the kernel names the entry.
    #[must_use]
    pub fn word(&self) -> u32 {
        let flag = |yes: bool, flag: u32| if yes { flag } else { 0 };
        entry_number(self.counter)
            | flag(self.action == Action::Deny, DENY)
            | flag(self.is_block, BLOCK)
            | flag(self.end.is_some(), TIMED)
    }

    /// Whether it applies to packets of a direction.
    pub(crate) fn is_of(&self, direction: Direction) -> bool {
        self.direction.is_none_or(|own| own == direction)
    }
}

/// A filter in the form of the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledFilter {
    /// Its tables.
    pub tables: CompiledPolicy,
    /// Distinguishes filters by their contents and by when their entries end: the same in every process.
    pub digest: u64,
}

impl CompiledFilter {
    /// The word that identifies it in the kernel.
    #[must_use]
    pub fn word(&self) -> Filter {
        let CompiledPolicy { prefixes_v4, prefixes_v6, .. } = &self.tables;
        Filter::new(self.digest, [!prefixes_v4.is_empty(), !prefixes_v6.is_empty()])
    }
}

/// Compiles a filter. The same entries give the same tables.
///
/// # Errors
/// [`TooLarge`] if the result exceeds what the kernel program can search.
pub fn compile_filter(entries: &[ResolvedEntry]) -> Result<CompiledFilter, TooLarge> {
    let mut compiler = Compiler::new(entries);
    let (any_v4, prefixes_v4) =
        compiler.family(true, |entry| entry.networks.v4().iter().map(prefix_v4))?;
    let (any_v6, prefixes_v6) =
        compiler.family(false, |entry| entry.networks.v6().iter().map(prefix_v6))?;
    const { assert!(ANY_V4 == 0 && ANY_V6 == 1) };
    compiler.tables.classes[0] = compiler.tables.classes[index(any_v4)];
    compiler.tables.classes[1] = compiler.tables.classes[index(any_v6)];
    let tables = CompiledPolicy { prefixes_v4, prefixes_v6, ..compiler.tables };
    fits("IPv4 prefixes", tables.prefixes_v4.len(), MAX_PREFIXES)?;
    fits("IPv6 prefixes", tables.prefixes_v6.len(), MAX_PREFIXES)?;
    fits("classes", tables.classes.len(), MAX_CLASSES)?;
    let digest = digest(&tables, entries);
    Ok(CompiledFilter { tables, digest })
}

/// Indexes of the entries that are about a network, in their order.
type About = Rc<[u32]>;

/// The entries that are about a network, and its class.
type Known = (About, u32);

struct Compiler<'a> {
    entries: &'a [ResolvedEntry],
    tables: CompiledPolicy,
    by_list: HashMap<Vec<Range>, u32>,
    by_class: HashMap<CompiledClass, u32>,
    /// By family (IPv4 first) and the indexes of the entries that are about a network, in their order.
    by_entries: [HashMap<About, u32>; 2],
}

impl<'a> Compiler<'a> {
    fn new(entries: &'a [ResolvedEntry]) -> Self {
        Self {
            entries,
            tables: CompiledPolicy::deny_all(),
            by_list: [(Vec::new(), 0)].into_iter().collect(),
            by_class: HashMap::new(),
            by_entries: [HashMap::new(), HashMap::new()],
        }
    }

    /// The class of addresses that no prefix covers, and the prefixes with their classes.
    fn family<const N: usize, I: Iterator<Item = Prefix<N>>>(
        &mut self,
        is_v4: bool,
        prefixes: impl Fn(&'a ResolvedEntry) -> I,
    ) -> Result<(u32, BTreeMap<Prefix<N>, u32>), TooLarge> {
        let entries = self.entries;
        let mut named: Vec<(Prefix<N>, u32)> = (0..)
            .zip(entries)
            .filter(|(_, entry)| interval(entry.traffic, is_v4).is_some())
            .flat_map(|(at, entry)| prefixes(entry).map(move |prefix| (prefix, at)))
            .collect();
        // Stable, because it uses that the networks of each entry are sorted already.
        named.sort();
        named.dedup();
        let none: About = Rc::new([]);
        let mut any = self.class(is_v4, &none)?;
        let mut found = Vec::with_capacity(named.len());
        // The prefixes that enclose the current one, the narrowest on top.
        let mut enclosing: Vec<(Prefix<N>, About, u32)> = Vec::new();
        let mut outer = none;
        // By the entries that are about the network around a prefix, and those that name the prefix.
        let mut known: HashMap<(About, Box<[u32]>), Known> = HashMap::new();
        for of_prefix in named.chunk_by(|(one, _), (other, _)| one == other) {
            let prefix = of_prefix[0].0;
            while enclosing.last().is_some_and(|(outer, ..)| !outer.encloses(&prefix)) {
                enclosing.pop();
            }
            let own: Box<[u32]> = of_prefix.iter().map(|(_, at)| *at).collect();
            let (about, parent) =
                enclosing.last().map_or((&outer, any), |(_, about, class)| (about, *class));
            let key = (Rc::clone(about), own);
            let (about, class) = match known.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let mut both: Vec<u32> = key.0.iter().chain(&key.1).copied().collect();
                    both.sort_unstable();
                    both.dedup();
                    let both: About = both.into();
                    let class = self.class(is_v4, &both)?;
                    known.insert(key, (Rc::clone(&both), class));
                    (both, class)
                }
            };
            if prefix.is_any() {
                // No prefix of the trie.
                (any, outer) = (class, about);
                continue;
            }
            if class != parent {
                found.push((prefix, class));
            }
            enclosing.push((prefix, about, class));
        }
        Ok((any, found.into_iter().collect()))
    }

    /// The class of addresses that these entries are about.
    fn class(&mut self, is_v4: bool, about: &About) -> Result<u32, TooLarge> {
        let family = usize::from(!is_v4);
        if let Some(class) = self.by_entries[family].get(about) {
            return Ok(*class);
        }
        let end = |at: &u32| self.entries[index(*at)].end;
        let ends: BTreeSet<u64> = about.iter().filter_map(end).collect();
        fits("different ends of entries about one address", ends.len(), MAX_ENDS)?;
        let parent = match ends.first() {
            None => NO_CLASS,
            Some(first) => {
                let outlasts = |at: &u32| end(at).is_none_or(|end| end > *first);
                let rest: About = about.iter().copied().filter(outlasts).collect();
                self.class(is_v4, &rest)?
            }
        };
        let lists = Direction::ALL.map(|direction| self.list(is_v4, about, direction));
        let class = CompiledClass { parent, lists };
        let next = count(self.tables.classes.len());
        let number = *self.by_class.entry(class).or_insert(next);
        if number == next {
            self.tables.classes.push(class);
        }
        self.by_entries[family].insert(Rc::clone(about), number);
        Ok(number)
    }

    /// What the first of these entries that matches says, by traffic: the number of the list.
    fn list(&mut self, is_v4: bool, about: &[u32], direction: Direction) -> u32 {
        let entry = |at: &u32| (*at, &self.entries[index(*at)]);
        let applying = about.iter().map(entry).filter(|(_, entry)| entry.is_of(direction));
        let intervals = applying.filter_map(|(rank, entry)| {
            let (low, high) = interval(entry.traffic, is_v4)?;
            Some(Interval { rank, range: Range { low, high, rule: entry.word() } })
        });
        let list = disjoint(&intervals.collect::<Vec<_>>());
        let next = count(self.tables.lists.len());
        let number = *self.by_list.entry(list.clone()).or_insert(next);
        if number == next {
            self.tables.lists.push(list);
        }
        number
    }
}

/// A digest of everything in the tables, and of when entries end. A flow remembers by it what allowed its
/// packets, perhaps once an entry before that had ended: an entry that is made again, or prolonged, gives
/// another digest, so that such flows are looked up again.
fn digest(tables: &CompiledPolicy, entries: &[ResolvedEntry]) -> u64 {
    let mut hasher = Xxh3::new();
    for (entry, end) in entries.iter().filter_map(|entry| Some((entry, entry.end?))) {
        hasher.update(&entry.word().to_le_bytes());
        hasher.update(&end.to_le_bytes());
    }
    let CompiledPolicy { prefixes_v4, prefixes_v6, classes, lists } = tables;
    let mut words =
        |words: &[u32]| words.iter().for_each(|word| hasher.update(&word.to_le_bytes()));
    for list in lists {
        words(&[count(list.len())]);
        list.iter().for_each(|Range { low, high, rule }| words(&[*low, *high, *rule]));
    }
    for CompiledClass { parent, lists: [ingress, egress] } in classes {
        words(&[*parent, *ingress, *egress]);
    }
    words(&[count(lists.len()), count(classes.len()), count(prefixes_v4.len())]);
    for (prefix, class) in prefixes_v4 {
        hasher.update(&prefix.octets());
        hasher.update(&[prefix.length()]);
        hasher.update(&class.to_le_bytes());
    }
    for (prefix, class) in prefixes_v6 {
        hasher.update(&prefix.octets());
        hasher.update(&[prefix.length()]);
        hasher.update(&class.to_le_bytes());
    }
    hasher.digest()
}
