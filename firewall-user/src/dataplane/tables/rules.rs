//! The counters by rule.

use std::collections::BTreeMap;

use firewall_ebpf::abi::counter::Counter;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::sys::entries;
use crate::dataplane::tables::maps::Maps;

impl Maps {
    /// The rules that have a counter.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counted_rules(&self) -> Result<Vec<u32>> {
        Ok(self.rule_counters()?.into_keys().collect())
    }

    /// Packets and bytes that each rule admitted, by the rule's number.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_counters(&self) -> Result<BTreeMap<u32, Counter>> {
        let counters = entries::dump::<u32, Counter>(self.fd("RULE_COUNTERS"));
        Ok(counters.context("read map RULE_COUNTERS")?.into_iter().collect())
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
                "rule counters: {rules} rules, {} more than the {limit} that fit",
                rules - limit
            ),
            "raise maps.rules in the configuration, then `secgroup detach --all` and attach again",
        ))
    }

    /// Creates the counters of rules that have none. A rule's number is never used for another rule, so
    /// a counter is that of one rule only.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn add_rule_counters(&mut self, rules: impl Iterator<Item = u32>) -> Result<()> {
        let zeros = rules.map(|rule| (rule, Counter::default()));
        entries::put_all(self.fd("RULE_COUNTERS"), zeros, &mut |_| {})
            .context("write map RULE_COUNTERS")
    }

    /// Removes the counters of deleted rules.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn remove_rule_counters(&mut self, rules: &[u32]) -> Result<()> {
        entries::remove_all(self.fd("RULE_COUNTERS"), rules, &mut |_| {})
            .context("write map RULE_COUNTERS")
    }
}
