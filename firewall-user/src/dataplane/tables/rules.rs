//! The counters by rule, entry of an ACL and block: an index for each number, and at that index a counter in
//! the stripe of each CPU, and when what is counted there ends. Rules, entries and blocks share the numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use firewall_ebpf::abi::counter::{Counter, rule_stride};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::sys::entries;
use crate::dataplane::sys::mapped::Mapped;
use crate::dataplane::tables::maps::Maps;

/// The name of the map of ends.
const DEADLINES: &str = "DEADLINES";

impl Maps {
    /// The rules that have a counter, in the order of their numbers.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counted_rules(&self) -> Result<Vec<u32>> {
        let mut rules: Vec<u32> = self.rule_indexes()?.into_iter().map(|(rule, _)| rule).collect();
        rules.sort_unstable();
        Ok(rules)
    }

    /// Packets and bytes that each rule admitted, by the rule's number, summed over CPUs.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn rule_counters(&self) -> Result<BTreeMap<u32, Counter>> {
        let indexes = self.rule_indexes()?;
        if indexes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let stripes = self.stripes().context("read map RULE_COUNTERS")?;
        Ok(indexes.into_iter().map(|(rule, index)| (rule, stripes.sum(index))).collect())
    }

    /// Refuses more rules than the table of counters has entries.
    ///
    /// # Errors
    /// There are more.
    pub fn require_counters(&self, rules: usize) -> Result<()> {
        let limit = usize::try_from(self.sizes.rules).unwrap_or(usize::MAX);
        if rules <= limit {
            return Ok(());
        }
        Err(DataplaneError::new(
            format!(
                "rule counters: {rules} rules, ACL entries and blocks, {} more than the {limit} that fit",
                rules - limit
            ),
            "many networks in one prefix list take one counter (`prefix-list load`, `block --prefix-list`); or raise \
             maps.rules in the configuration, then `secgroup detach --all` and attach again",
        ))
    }

    /// Creates the counters of rules that have none, without an end. A rule's number is never used for another rule, so
    /// a counter is that of one rule only.
    ///
    /// Indexes are only in the map, and only one process at a time changes it (the lock of `control`): a
    /// counter is cleared before its index has a rule, so a process that is killed meanwhile leaves an
    /// index that is free. A packet that was counting when the index lost its last rule has ended long
    /// before another process has started, or before this one has compiled the next policy.
    ///
    /// # Errors
    /// The maps cannot be written, or every index is in use.
    pub fn add_rule_counters(&mut self, rules: impl Iterator<Item = u32>) -> Result<()> {
        let rules: BTreeSet<u32> = rules.collect();
        if rules.is_empty() {
            return Ok(());
        }
        let present = self.rule_indexes()?;
        let mut is_free = vec![true; usize::try_from(self.sizes.rules).unwrap_or(usize::MAX)];
        let mut own = BTreeMap::new();
        for (rule, index) in &present {
            let at = usize::try_from(*index).unwrap_or(usize::MAX);
            if let Some(free) = is_free.get_mut(at) {
                *free = false;
            }
            // A process that was killed before it stored its rules may have left one of this number.
            if rules.contains(rule) {
                own.insert(*rule, *index);
            }
        }
        let mut free = (0..self.sizes.rules).zip(is_free).filter(|(_, free)| *free);
        let mut entries = Vec::with_capacity(rules.len());
        for rule in &rules {
            let index = own.get(rule).copied().or_else(|| free.next().map(|(index, _)| index));
            let Some(index) = index else {
                return self.require_counters(present.len() + rules.len());
            };
            entries.push((*rule, index));
        }
        let stripes = self.stripes().context("write map RULE_COUNTERS")?;
        entries.iter().for_each(|(_, index)| stripes.clear(*index));
        self.put_deadlines(entries.iter().map(|(_, index)| (*index, 0)))?;
        entries::put_all(self.fd("RULE_INDEXES"), entries, &mut |_| {})
            .context("write map RULE_INDEXES")
    }

    /// The indexes of counters, by the number of the rule, entry or block; a number that has none is left
    /// out.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counter_indexes(&self, numbers: &[u32]) -> Result<BTreeMap<u32, u32>> {
        /// Above this many, reading all is faster.
        const FEW: usize = 64;
        let mut indexes = BTreeMap::new();
        if numbers.len() > FEW {
            indexes.extend(self.rule_indexes()?);
            let wanted: BTreeSet<u32> = numbers.iter().copied().collect();
            indexes.retain(|number, _| wanted.contains(number));
            return Ok(indexes);
        }
        for number in numbers {
            let index = entries::get(self.fd("RULE_INDEXES"), number);
            if let Some(index) = index.context("read map RULE_INDEXES")? {
                indexes.insert(*number, index);
            }
        }
        Ok(indexes)
    }

    /// Sets when what is counted at each index ends, in nanoseconds since the boot (`CLOCK_BOOTTIME`).
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn set_deadlines(&mut self, ends: &BTreeMap<u32, u64>) -> Result<()> {
        let mut changed = Vec::new();
        for (index, end) in ends {
            let known = entries::get::<u32, u64>(self.fd(DEADLINES), index);
            if known.context("read map DEADLINES")? != Some(*end) {
                changed.push((*index, *end));
            }
        }
        self.put_deadlines(changed)
    }

    fn put_deadlines(&self, ends: impl IntoIterator<Item = (u32, u64)>) -> Result<()> {
        entries::put_all(self.fd(DEADLINES), ends, &mut |_| {}).context("write map DEADLINES")
    }

    /// Removes the counters of deleted rules.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn remove_rule_counters(&mut self, rules: &[u32]) -> Result<()> {
        entries::remove_all(self.fd("RULE_INDEXES"), rules, &mut |_| {})
            .context("write map RULE_INDEXES")
    }

    /// The numbers of the rules, entries and blocks that have a counter, by its index.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(in crate::dataplane) fn numbers_by_index(&self) -> Result<BTreeMap<u32, u32>> {
        Ok(self.rule_indexes()?.into_iter().map(|(number, index)| (index, number)).collect())
    }

    /// Rules and the indexes of their counters, in no order.
    fn rule_indexes(&self) -> Result<Vec<(u32, u32)>> {
        entries::dump(self.fd("RULE_INDEXES")).context("read map RULE_INDEXES")
    }

    fn stripes(&self) -> io::Result<Stripes> {
        let (count, stride) = (self.sizes.rule_stripes(), rule_stride(self.sizes.rules));
        let [count, stride] = [count, stride].map(|one| usize::try_from(one).unwrap_or(usize::MAX));
        let words = Mapped::new(self.fd("RULE_COUNTERS"), count * stride * Stripes::WORDS)?;
        Ok(Stripes { words, stride })
    }
}

/// The counters of every CPU.
struct Stripes {
    words: Mapped,
    /// Counters in a stripe.
    stride: usize,
}

impl Stripes {
    /// Words of a [`Counter`]: packets, bytes.
    const WORDS: usize = size_of::<Counter>() / size_of::<u64>();

    /// The sum at an index. A packet that is counted meanwhile may be in it with its bytes or not.
    fn sum(&self, index: u32) -> Counter {
        self.stripes(index).fold(Counter::default(), |sum, [packets, bytes]| Counter {
            packets: sum.packets + packets.load(Relaxed),
            bytes: sum.bytes + bytes.load(Relaxed),
        })
    }

    /// Sets the counters at an index to zero.
    fn clear(&self, index: u32) {
        for counter in self.stripes(index) {
            counter.iter().for_each(|word| word.store(0, Relaxed));
        }
    }

    fn stripes(&self, index: u32) -> impl Iterator<Item = &[AtomicU64; Self::WORDS]> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        self.words.words().as_chunks().0.iter().skip(at).step_by(self.stride)
    }
}
