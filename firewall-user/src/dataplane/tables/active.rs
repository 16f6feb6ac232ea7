//! Writing the words that select the active policies.

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use firewall_ebpf::abi::helper::{MAX_SET_ACTIVE, SET_ACTIVE_ENTRY};
use firewall_ebpf::abi::policy::Active;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;

/// Slots in one run of the helper program.
const PER_CALL: usize = MAX_SET_ACTIVE as usize;

/// Writes the active words of slots, one after the other. The helper program `set_active` stores each with
/// one aligned 64-bit instruction, so that a program reads the old word or the new one; `bpf(2)` promises
/// only a `memcpy` of the value (`array_map_update_elem`, kernel/bpf/arraymap.c).
///
/// # Errors
/// The pinned program cannot be run: the remaining slots keep their words.
pub(super) fn set_active(pins: &Pins, words: &[(u16, Active)]) -> Result<()> {
    if words.is_empty() {
        return Ok(());
    }
    let program =
        SchedClassifier::from_pin(pins.set_active()).context("open program set_active")?;
    for call in words.chunks(PER_CALL) {
        let mut list = Vec::with_capacity(call.len() * SET_ACTIVE_ENTRY as usize);
        for (slot, Active(word)) in call {
            list.extend(u64::from(*slot).to_ne_bytes());
            list.extend(word.to_ne_bytes());
        }
        let options = TestRunOptions { data_in: Some(&list), ..TestRunOptions::default() };
        let run = program.test_run(options).context("run program set_active")?;
        if usize::try_from(run.return_value) != Ok(call.len()) {
            return Err(DataplaneError::new(
                format!("program set_active: wrote {} of {} words", run.return_value, call.len()),
                pins.hint_to_recreate(),
            ));
        }
    }
    Ok(())
}
