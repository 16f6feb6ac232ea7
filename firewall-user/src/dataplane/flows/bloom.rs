//! The Bloom filters of flows ([`firewall_ebpf::abi::bloom`]): inserting the flows that userspace writes, and
//! rebuilding them without the bits of removed flows.

use firewall_ebpf::abi::bloom::{BITS, LINES, Line};
use firewall_ebpf::abi::helper::MAX_BLOOM_KEYS;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::flows::key::AnyKey;
use crate::dataplane::flows::list::FlowEntry;
use crate::dataplane::sys::{entries, helper};
use crate::dataplane::tables::interface::Own;
use crate::dataplane::tables::maps::Maps;

/// Flows in one run of the kernel program.
const PER_CALL: usize = MAX_BLOOM_KEYS as usize;

/// Bits of removed flows that are tolerated before the filter is rebuilt: one packet of an unknown flow
/// in 256 is looked up in the tables for nothing.
const SLACK: u32 = BITS / 256;

impl Maps {
    /// Sets the bits of flows; must be called before the flows are written.
    pub(super) fn bloom_insert(&self, keys: &[AnyKey]) -> Result<()> {
        for is_v6 in [false, true] {
            let keys: Vec<_> = keys.iter().filter(|key| key.is_v6() == is_v6).collect();
            for call in keys.chunks(PER_CALL) {
                let mut list = helper::list(0);
                list.extend(call.iter().flat_map(|key| key.bytes()));
                let pin = self.pins.bloom_insert(is_v6);
                let inserted = helper::run(&pin, "sg_bloom_insert", &list, None)?;
                if usize::try_from(inserted) != Ok(call.len()) {
                    return Err(DataplaneError::new(
                        format!("program sg_bloom_insert: inserted {} of {}", inserted, call.len()),
                        "it is another build's: `secgroup detach --all`, then attach again",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Rebuilds the filters of interfaces that have many bits of removed flows; `flows` are the existing
    /// ones. No other process may do so at the same time. Returns how many were rebuilt.
    ///
    /// # Errors
    /// A map or a pinned program cannot be used; the filters in use stay so.
    pub fn rebuild_blooms(&mut self, flows: &[FlowEntry]) -> Result<usize> {
        let mut rebuilt = Vec::new();
        for tables in self.all_interface_tables()? {
            let slot = u32::from(tables.slot());
            let in_use = self.bloom_in_use.get(&slot, 0).context("read map BLOOM_IN_USE")? & 1;
            let both: Vec<(u32, Line)> =
                entries::dump(tables.fd(Own::Bloom)).context("read a Bloom filter")?;
            let of_filter = both.iter().filter(|(at, _)| at / LINES == in_use);
            let bits: u32 =
                of_filter.flat_map(|(_, line)| line).map(|word| word.count_ones()).sum();
            let existing = flows.iter().filter(|flow| flow.slot == tables.slot()).count();
            let expected = u32::try_from(existing).unwrap_or(u32::MAX);
            if bits > expected.saturating_mul(2).saturating_add(SLACK) {
                rebuilt.push((tables, 1 - in_use));
            }
        }
        // Programs that began before the last rebuild may still use the other filters. Without a policy
        // there are no tables to synchronize by, and no program creates flows.
        if rebuilt.is_empty() || !self.synchronize()? {
            return Ok(0);
        }
        for (tables, other) in &rebuilt {
            let cleared = (0..LINES).map(|line| (other * LINES + line, Line::default()));
            entries::put_all(tables.fd(Own::Bloom), cleared, &mut |_| {})
                .context("write a Bloom filter")?;
        }
        // A program that set a bit before it was cleared has written its flow afterwards.
        self.synchronize()?;
        let keys: Vec<_> = self.flows()?.iter().map(|flow| flow.key).collect();
        self.bloom_insert(&keys)?;
        for (tables, other) in &rebuilt {
            let slot = u32::from(tables.slot());
            self.bloom_in_use.set(slot, *other, 0).context("write map BLOOM_IN_USE")?;
        }
        Ok(rebuilt.len())
    }
}
