//! The memory of maps, as the kernel counts it.

use crate::dataplane::error::Result;
use crate::dataplane::sys::memory::memory;
use crate::dataplane::tables::maps::Maps;

/// The memory in bytes by which a rule's counter makes the table larger: that of its index, which is
/// `struct htab_elem` (48), key (8), value (8) and a list node (8), as `htab_map_mem_usage` in
/// kernel/bpf/hashtab.c adds them up. The counters themselves are allocated for `capacity` rules.
pub const RULE_COUNTER: u64 = 72;

/// The memory in bytes that tries of so many IPv4 and IPv6 prefixes take at most: a node of
/// `kernel/bpf/lpm_trie.c` (40 bytes, the address and the value) for each prefix, and for each but one a node
/// that joins two, in the size classes of `kmalloc`.
#[must_use]
pub fn trie_memory([v4, v6]: [usize; 2]) -> u64 {
    const NODE_V4: u64 = 64;
    const NODE_V6: u64 = 96;
    let count = |prefixes: usize| u64::try_from(prefixes).unwrap_or(u64::MAX);
    2 * (count(v4) * NODE_V4 + count(v6) * NODE_V6)
}

/// The table of counters by rule, which all interfaces share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCounters {
    /// Rules that have a counter.
    pub entries: u64,
    /// The most rules that can have one.
    pub capacity: u32,
    /// The table's memory in bytes: buckets and counters for `capacity` rules, and [`RULE_COUNTER`] for
    /// each entry; `None` before Linux 6.4.
    pub memory: Option<u64>,
}

impl Maps {
    /// The size of the table of counters by rule.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_counter_usage(&self) -> Result<RuleCounters> {
        let entries = u64::try_from(self.counted_rules()?.len()).unwrap_or(u64::MAX);
        let memory = ["RULE_INDEXES", "RULE_COUNTERS"].map(|name| memory(self.fd(name)));
        let memory = memory.into_iter().sum();
        Ok(RuleCounters { entries, capacity: self.sizes.rules, memory })
    }

    /// The memory in bytes of the maps that all interfaces share, flow tables and counters by rule
    /// included; `None` before Linux 6.4.
    #[must_use]
    pub fn shared_memory(&self) -> Option<u64> {
        self.fds().map(memory).sum()
    }
}
