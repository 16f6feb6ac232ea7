//! Writing the words that select the active policies.

use firewall_ebpf::abi::helper::MAX_SET_ACTIVE;
use firewall_ebpf::abi::policy::Active;

use crate::dataplane::error::{DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::helper;

/// Slots in one run of the helper program.
const PER_CALL: usize = MAX_SET_ACTIVE as usize;

/// Writes the active words of slots, one after the other. The helper program `set_active` stores each with
/// one aligned 64-bit instruction, so that a program reads the old word or the new one; `bpf(2)` promises
/// only a `memcpy` of the value (`array_map_update_elem`, kernel/bpf/arraymap.c).
///
/// # Errors
/// The pinned program cannot be run: the remaining slots keep their words.
pub fn set_active(pins: &Pins, words: &[(u16, Active)]) -> Result<()> {
    for call in words.chunks(PER_CALL) {
        let mut list = helper::list(0);
        for (slot, Active(word)) in call {
            list.extend(u64::from(*slot).to_ne_bytes());
            list.extend(word.to_ne_bytes());
        }
        let written = helper::run(&pins.set_active(), "set_active", &list, None)?;
        if usize::try_from(written) != Ok(call.len()) {
            return Err(DataplaneError::new(
                format!("program set_active: wrote {} of {} words", written, call.len()),
                pins.hint_to_recreate(),
            ));
        }
    }
    Ok(())
}
