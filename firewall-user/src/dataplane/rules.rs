//! The counters by rule: which there are.

use firewall_ebpf::policy::Counter;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::maps::Maps;
use crate::dataplane::sys::entries;

impl Maps {
    /// The rules that have a counter.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counted_rules(&self) -> Result<Vec<u32>> {
        Ok(self.rule_counters()?.into_keys().collect())
    }

    /// Refuses more rules than there is room to count.
    ///
    /// # Errors
    /// There is less room.
    pub fn require_counters(&self, rules: usize) -> Result<()> {
        let limit = usize::try_from(self.sizes.rules).unwrap_or(usize::MAX);
        if rules <= limit {
            return Ok(());
        }
        Err(DataplaneError::new(
            format!(
                "rule counters: {rules} rules, {} more than the {limit} that fit",
                rules - limit
            ),
            "raise maps.rules in the configuration and start anew after `detach --all`",
        ))
    }

    /// Makes counters, of rules that have none. The numbers of rules are never used again, so a
    /// counter is its rule's for good.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn count_rules(&mut self, rules: impl Iterator<Item = u32>) -> Result<()> {
        let zeros = rules.map(|rule| (rule, Counter::default()));
        entries::put_all(self.fd("RULE_COUNTERS"), zeros, &mut |_| {})
            .context("write map RULE_COUNTERS")
    }

    /// Removes the counters of rules that are gone.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn forget_rules(&mut self, rules: &[u32]) -> Result<()> {
        entries::remove_all(self.fd("RULE_COUNTERS"), rules, &mut |_| {})
            .context("write map RULE_COUNTERS")
    }
}
