//! The counters by interface: packets and bytes by reason, events, and those of userspace.

use std::collections::BTreeMap;

use aya::maps::PerCpuValues;
use firewall_ebpf::abi::counter::{Counter, UserCounter, counter_index};
use firewall_ebpf::abi::event::{Event, event_index};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::tables::maps::Maps;

/// Packets and bytes of an interface by direction and reason; zeros included.
pub type ByReason = BTreeMap<(Direction, Reason), Counter>;

/// How often each event happened to the flows of an interface; zeros included.
pub type ByEvent = BTreeMap<Event, u64>;

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

    /// The events of a slot's flows, summed over CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn events(&self, slot: u16) -> Result<ByEvent> {
        let read = |event: &Event| {
            let index = event_index(slot, *event);
            let values = self.events.get(&index, 0).context("read map EVENTS")?;
            Ok((*event, values.iter().sum()))
        };
        Event::ALL.iter().map(read).collect()
    }

    /// Reads a counter of userspace.
    pub(in crate::dataplane) fn user_counter(
        &self,
        counter: UserCounter,
        slot: u16,
    ) -> Result<u64> {
        self.user_counters.get(&counter.index(slot), 0).context("read map USER_COUNTERS")
    }

    /// Writes a counter of userspace.
    pub(in crate::dataplane) fn set_user_counter(
        &mut self,
        counter: UserCounter,
        slot: u16,
        value: u64,
    ) -> Result<()> {
        self.user_counters.set(counter.index(slot), value, 0).context("write map USER_COUNTERS")
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
        for event in Event::ALL {
            let zero = PerCpuValues::try_from(vec![0_u64; cpus]).context("count CPUs")?;
            let index = event_index(slot, *event);
            self.events.set(index, zero, 0).context("write map EVENTS")?;
        }
        UserCounter::ALL.into_iter().try_for_each(|one| self.set_user_counter(one, slot, 0))
    }
}

fn sum(values: &PerCpuValues<Counter>) -> Counter {
    values.iter().fold(Counter::default(), |total, one| Counter {
        packets: total.packets + one.packets,
        bytes: total.bytes + one.bytes,
    })
}
