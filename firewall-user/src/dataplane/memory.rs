//! What maps take, as the kernel counts it.

use crate::dataplane::error::Result;
use crate::dataplane::maps::Maps;
use crate::dataplane::sys;

/// Bytes that the counter of one rule takes: `struct htab_elem` (48), key (8), value (16) and a list's
/// node (8), as `htab_map_mem_usage` in kernel/bpf/hashtab.c adds them up.
pub const RULE_COUNTER: u64 = 80;

/// The counters by rule, which all interfaces share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCounters {
    /// Rules that have one.
    pub entries: u64,
    /// Rules that can have one.
    pub capacity: u32,
    /// Bytes that the table takes: its buckets, made for as many as can be, and [`RULE_COUNTER`] for
    /// each that there is; `None` where the kernel does not tell.
    pub memory: Option<u64>,
}

impl Maps {
    /// How many rules are counted, and what that takes.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_counters_taken(&self) -> Result<RuleCounters> {
        let entries = u64::try_from(self.counted_rules()?.len()).unwrap_or(u64::MAX);
        let memory = sys::memory(self.fd("RULE_COUNTERS"));
        Ok(RuleCounters { entries, capacity: self.sizes.rules, memory })
    }

    /// Bytes of the maps that all interfaces share, flow tables and counters by rule included; `None`
    /// where the kernel does not tell.
    #[must_use]
    pub fn shared_memory(&self) -> Option<u64> {
        self.fds().map(sys::memory).sum()
    }
}
