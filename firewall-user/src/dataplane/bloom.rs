//! The filter of flows ([`firewall_ebpf::bloom`]): bits for what userspace writes, and a filter
//! without the bits of flows that are gone.

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use firewall_ebpf::bloom::{BITS, LINES, Line};
use firewall_ebpf::flow::MAX_NOTED;

use crate::dataplane::bank::Bank;
use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::flows::AnyKey;
use crate::dataplane::maps::Maps;
use crate::dataplane::sys::{self, entries};

/// Flows in one call of the kernel program.
const PER_CALL: usize = MAX_NOTED as usize;

/// Bits that flows may leave behind before the filter is made anew: a stranger in 256 is looked for
/// in the tables in vain.
const SLACK: u32 = BITS / 256;

impl Maps {
    /// Sets the bits of flows: before they are written.
    pub(super) fn note_flows(&self, keys: &[AnyKey]) -> Result<()> {
        for is_v6 in [false, true] {
            let keys: Vec<_> =
                keys.iter().filter(|key| matches!(key, AnyKey::V6(_)) == is_v6).collect();
            if keys.is_empty() {
                continue;
            }
            let program =
                SchedClassifier::from_pin(self.pins.note(is_v6)).context("open program sg_note")?;
            for call in keys.chunks(PER_CALL) {
                let list: Vec<u8> = call.iter().flat_map(|key| key.bytes()).copied().collect();
                let options = TestRunOptions { data_in: Some(&list), ..TestRunOptions::default() };
                let run = program.test_run(options).context("run program sg_note")?;
                if usize::try_from(run.return_value) != Ok(call.len()) {
                    return Err(DataplaneError::new(
                        format!("program sg_note: took {} of {}", run.return_value, call.len()),
                        "it is another build's: `detach --all` and attach anew",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Makes the filter anew where flows that are gone have left many bits behind: `flows` is how
    /// many there are. No other process may do so at the same time. Returns whether it did.
    ///
    /// # Errors
    /// A map or a pinned program cannot be used; the filter in use stays so.
    pub fn renew_bloom(&mut self, flows: usize) -> Result<bool> {
        let in_use = self.bloom_in_use.get(&0, 0).context("read map BLOOM_IN_USE")? & 1;
        let both: Vec<(u32, Line)> = entries::dump(self.fd("BLOOM")).context("read map BLOOM")?;
        let of_filter = both.iter().filter(|(at, _)| at / LINES == in_use);
        let bits: u32 = of_filter.flat_map(|(_, line)| line).map(|word| word.count_ones()).sum();
        let expected = u32::try_from(flows).unwrap_or(u32::MAX);
        if bits <= expected.saturating_mul(2).saturating_add(SLACK) {
            return Ok(false);
        }
        // Without a policy there is nothing to wait by, and nobody opens flows.
        let Some(bank) = self.any_bank()? else { return Ok(false) };
        let other = 1 - in_use;
        // Programs that began before the last renewal may ask it still.
        self.wait_for_readers(&bank)?;
        let cleared = (0..LINES).map(|line| (other * LINES + line, Line::default()));
        entries::put_all(self.fd("BLOOM"), cleared, &mut |_| {}).context("write map BLOOM")?;
        // Programs that set a bit before it was cleared have written its flow then.
        self.wait_for_readers(&bank)?;
        let keys: Vec<_> = self.flows()?.iter().map(|flow| flow.key).collect();
        self.note_flows(&keys)?;
        self.bloom_in_use.set(0, other, 0).context("write map BLOOM_IN_USE")?;
        Ok(true)
    }

    /// The tables of an interface that has a policy.
    fn any_bank(&self) -> Result<Option<Bank>> {
        for slot in 0..self.sizes.interfaces {
            let slot = u16::try_from(slot).unwrap_or(u16::MAX);
            let active = self.active(slot)?;
            if active.is_present()
                && let Some(bank) = Bank::open(&self.pins, slot, active.tables().bank)?
            {
                return Ok(Some(bank));
            }
        }
        Ok(None)
    }
}

impl AnyKey {
    /// As it lies in the tables.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(key) => sys::bytes(key),
            Self::V6(key) => sys::bytes(key),
        }
    }
}
