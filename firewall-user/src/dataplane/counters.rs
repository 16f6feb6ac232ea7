//! Reading what was counted.

use std::collections::BTreeMap;

use aya::maps::PerCpuValues;
use firewall_ebpf::event::{Event, event_index};
use firewall_ebpf::flow::Tier;
use firewall_ebpf::interface::Direction;
use firewall_ebpf::policy::{Counter, counter_index};
use firewall_ebpf::reason::Reason;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::flows::FlowEntry;
use crate::dataplane::maps::{Maps, Tally};
use crate::dataplane::sys::entries;

/// Packets and bytes of an interface by direction and reason; zeros included.
pub type ByReason = BTreeMap<(Direction, Reason), Counter>;

/// How often each thing happened to the flows of an interface; zeros included.
pub type ByEvent = BTreeMap<Event, u64>;

/// The flow tables at one moment.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Every flow of every slot, in no order.
    pub flows: Vec<FlowEntry>,
    /// Evictions from the new tier, by slot.
    pub evicted: BTreeMap<u16, u64>,
}

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

    /// What happened to the flows of a slot, summed over CPUs.
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

    /// Every flow, and how many unproven flows of each of these slots gave way to newer ones.
    ///
    /// The kernel evicts from an LRU without a word, so evictions are what is left of the flows
    /// that began: those that were not promoted, not removed by a packet, by [`reap`] or by
    /// [`Self::remove_flows`], and are not there. While that is read packets go on, so beginnings
    /// are read before the tables and ends after them: a flow that comes or goes meanwhile makes
    /// the number smaller, never larger. So that it is a counter all the same, the highest that was
    /// ever told is kept. Two readers in one moment may keep the lower of theirs.
    ///
    /// [`reap`]: crate::dataplane::reap::reap
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn survey(&mut self, slots: impl IntoIterator<Item = u16>) -> Result<Survey> {
        let began = |slot| Ok((slot, self.events(slot)?[&Event::Opened]));
        let began: Vec<(u16, u64)> = slots.into_iter().map(began).collect::<Result<_>>()?;
        let flows = self.flows()?;
        let mut evicted = BTreeMap::new();
        for (slot, opened) in began {
            let events = self.events(slot)?;
            let here = flows.iter().filter(|flow| flow.slot == slot && flow.tier == Tier::New);
            let ended = [
                events[&Event::Promoted],
                events[&Event::Removed],
                self.tally(Tally::Removed, slot)?,
                u64::try_from(here.count()).unwrap_or(u64::MAX),
            ];
            let told = self.tally(Tally::Evicted, slot)?;
            let now = opened.saturating_sub(ended.iter().sum());
            if now > told {
                self.set_tally(Tally::Evicted, slot, now)?;
            }
            evicted.insert(slot, now.max(told));
        }
        Ok(Survey { flows, evicted })
    }

    /// Reads what userspace counted.
    pub(super) fn tally(&self, tally: Tally, slot: u16) -> Result<u64> {
        self.tallies.get(&tally.index(slot), 0).context("read map TALLIES")
    }

    /// Writes it.
    pub(super) fn set_tally(&mut self, tally: Tally, slot: u16, value: u64) -> Result<()> {
        self.tallies.set(tally.index(slot), value, 0).context("write map TALLIES")
    }

    /// Packets and bytes that each rule admitted, by the rule's number.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn rule_counters(&self) -> Result<BTreeMap<u32, Counter>> {
        let counters = entries::dump::<u32, Counter>(self.fd("RULE_COUNTERS"));
        Ok(counters.context("read map RULE_COUNTERS")?.into_iter().collect())
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
        Tally::ALL.into_iter().try_for_each(|tally| self.set_tally(tally, slot, 0))
    }
}

fn sum(values: &PerCpuValues<Counter>) -> Counter {
    values.iter().fold(Counter::default(), |total, one| Counter {
        packets: total.packets + one.packets,
        bytes: total.bytes + one.bytes,
    })
}
