//! The flow tables at one moment, with the evictions that the kernel does not count.

use std::collections::BTreeMap;

use firewall_ebpf::abi::counter::UserCounter;
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::Table;

use crate::dataplane::error::Result;
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::tables::maps::Maps;

/// The flow tables at one moment.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Every flow of every slot, in no order.
    pub flows: Vec<FlowEntry>,
    /// Evictions from the new tier, by slot.
    pub evicted: BTreeMap<u16, u64>,
}

impl Maps {
    /// Every flow, and how many unproven flows of each of these slots the kernel evicted for newer ones.
    ///
    /// The kernel does not report evictions from an LRU map, so they are computed: the flows that were
    /// opened, minus those that were promoted, those that a packet, [`expire`] or [`Self::remove_flows`]
    /// removed, and those that are still in the table. Packets arrive meanwhile, so opened flows are read
    /// before the tables and ended ones after them: a flow that begins or ends in between makes the
    /// number smaller, never larger. The highest number that was ever reported is stored, so that it
    /// never decreases. Of two readers at the same time, the lower one may overwrite the higher.
    ///
    /// [`expire`]: crate::dataplane::flows::expire::expire
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn survey(&mut self, slots: impl IntoIterator<Item = u16>) -> Result<Survey> {
        let opened = |slot| Ok((slot, self.events(slot)?[&Event::Opened]));
        let opened: Vec<(u16, u64)> = slots.into_iter().map(opened).collect::<Result<_>>()?;
        let flows = self.flows()?;
        let mut evicted = BTreeMap::new();
        for (slot, opened) in opened {
            let events = self.events(slot)?;
            let here = flows.iter().filter(|flow| flow.slot == slot && flow.table == Table::New);
            let ended = [
                events[&Event::Promoted],
                events[&Event::Removed],
                self.user_counter(UserCounter::Removed, slot)?,
                u64::try_from(here.count()).unwrap_or(u64::MAX),
            ];
            let reported = self.user_counter(UserCounter::Evicted, slot)?;
            let now = opened.saturating_sub(ended.iter().sum());
            if now > reported {
                self.set_user_counter(UserCounter::Evicted, slot, now)?;
            }
            evicted.insert(slot, now.max(reported));
        }
        Ok(Survey { flows, evicted })
    }
}
