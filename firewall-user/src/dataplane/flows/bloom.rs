//! The Bloom filter of flows ([`firewall_ebpf::bloom`]): inserting the flows that userspace writes, and
//! rebuilding it without the bits of removed flows.

use firewall_ebpf::abi::bloom::{BITS, LINES, Line};
use firewall_ebpf::abi::helper::MAX_BLOOM_KEYS;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::flows::key::AnyKey;
use crate::dataplane::sys::{entries, helper};
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

    /// Rebuilds the filter if it has many bits of removed flows; `flows` is the number of existing flows.
    /// No other process may do so at the same time. Returns whether it was rebuilt.
    ///
    /// # Errors
    /// A map or a pinned program cannot be used; the filter in use stays so.
    pub fn rebuild_bloom(&mut self, flows: usize) -> Result<bool> {
        let in_use = self.bloom_in_use.get(&0, 0).context("read map BLOOM_IN_USE")? & 1;
        let both: Vec<(u32, Line)> = entries::dump(self.fd("BLOOM")).context("read map BLOOM")?;
        let of_filter = both.iter().filter(|(at, _)| at / LINES == in_use);
        let bits: u32 = of_filter.flat_map(|(_, line)| line).map(|word| word.count_ones()).sum();
        let expected = u32::try_from(flows).unwrap_or(u32::MAX);
        if bits <= expected.saturating_mul(2).saturating_add(SLACK) {
            return Ok(false);
        }
        let other = 1 - in_use;
        // Programs that began before the last rebuild may still use it. Without a policy there are no
        // tables to synchronize by, and no program creates flows.
        if !self.synchronize()? {
            return Ok(false);
        }
        let cleared = (0..LINES).map(|line| (other * LINES + line, Line::default()));
        entries::put_all(self.fd("BLOOM"), cleared, &mut |_| {}).context("write map BLOOM")?;
        // A program that set a bit before it was cleared has written its flow afterwards.
        self.synchronize()?;
        let keys: Vec<_> = self.flows()?.iter().map(|flow| flow.key).collect();
        self.bloom_insert(&keys)?;
        self.bloom_in_use.set(0, other, 0).context("write map BLOOM_IN_USE")?;
        Ok(true)
    }
}
