//! Reading what was counted.

use std::collections::BTreeMap;

use aya::maps::PerCpuValues;
use firewall_ebpf::interface::Direction;
use firewall_ebpf::policy::{Counter, counter_index};
use firewall_ebpf::reason::Reason;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::maps::Maps;
use crate::dataplane::policy::READ_RULES;

/// Packets and bytes of an interface by direction and reason; zeros included.
pub type ByReason = BTreeMap<(Direction, Reason), Counter>;

impl Maps {
    /// The counters of a slot, summed over CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self, slot: u16) -> Result<ByReason> {
        let mut counters = ByReason::new();
        for direction in Direction::ALL {
            for reason in Reason::ALL {
                let index = counter_index(slot, direction, *reason as u32);
                let values = self.counters.get(&index, 0).context("read map COUNTERS")?;
                counters.insert((direction, *reason), sum(&values));
            }
        }
        Ok(counters)
    }

    /// How often a proven flow of a slot found the proven tier full.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn unpromoted(&self, slot: u16) -> Result<u64> {
        let values = self.unpromoted.get(&u32::from(slot), 0).context("read map UNPROMOTED")?;
        Ok(values.iter().sum())
    }

    /// Packets and bytes that each rule admitted, by the rule's number.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_counters(&self) -> Result<BTreeMap<u32, Counter>> {
        let mut counters = BTreeMap::new();
        for entry in &self.rule_counters {
            let (number, values) = entry.context(READ_RULES)?;
            counters.insert(number, sum(&values));
        }
        Ok(counters)
    }

    /// Sets a slot's counters to zero, for its next interface.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn clear_counters(&mut self, slot: u16) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error).context("count CPUs")?;
        for direction in Direction::ALL {
            for reason in Reason::ALL {
                let zero =
                    PerCpuValues::try_from(vec![Counter::default(); cpus]).context("count CPUs")?;
                let index = counter_index(slot, direction, *reason as u32);
                self.counters.set(index, zero, 0).context("write map COUNTERS")?;
            }
        }
        let zero = PerCpuValues::try_from(vec![0_u64; cpus]).context("count CPUs")?;
        self.unpromoted.set(u32::from(slot), zero, 0).context("write map UNPROMOTED")
    }
}

fn sum(values: &PerCpuValues<Counter>) -> Counter {
    values.iter().fold(Counter::default(), |total, one| Counter {
        packets: total.packets + one.packets,
        bytes: total.bytes + one.bytes,
    })
}
