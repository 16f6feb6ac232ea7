//! The memory of maps, as the kernel counts it.

use crate::dataplane::error::Result;
use crate::dataplane::sys::memory::memory;
use crate::dataplane::tables::maps::Maps;

/// The memory of one rule's counter in bytes: `struct htab_elem` (48), key (8), value (16) and a list
/// node (8), as `htab_map_mem_usage` in kernel/bpf/hashtab.c adds them up.
pub const RULE_COUNTER: u64 = 80;

/// The table of counters by rule, which all interfaces share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCounters {
    /// Rules that have a counter.
    pub entries: u64,
    /// The most rules that can have one.
    pub capacity: u32,
    /// The table's memory in bytes: buckets for `capacity` rules, and [`RULE_COUNTER`] for each entry;
    /// `None` before Linux 6.4.
    pub memory: Option<u64>,
}

impl Maps {
    /// The size of the table of counters by rule.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_counter_usage(&self) -> Result<RuleCounters> {
        let entries = u64::try_from(self.counted_rules()?.len()).unwrap_or(u64::MAX);
        let memory = memory(self.fd("RULE_COUNTERS"));
        Ok(RuleCounters { entries, capacity: self.sizes.rules, memory })
    }

    /// The memory in bytes of the maps that all interfaces share, flow tables and counters by rule
    /// included; `None` before Linux 6.4.
    #[must_use]
    pub fn shared_memory(&self) -> Option<u64> {
        self.fds().map(memory).sum()
    }
}
