//! Writing the words that select what is in force.

use firewall_ebpf::abi::block::Blocking;
use firewall_ebpf::abi::helper::{MAX_SET_ACTIVE, SET_BLOCKING, SET_WATCH};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::record::Watch;

use crate::dataplane::error::{DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::helper;

/// Words in one run of the helper program.
const PER_CALL: usize = MAX_SET_ACTIVE as usize;

/// A word that the kernel programs read once for each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The active policy of a slot.
    Active(u16, Active),
    /// The tries of blocked networks.
    Blocking(Blocking),
    /// Which packets of a slot are recorded.
    Watch(u16, Watch),
}

/// Writes the active words of slots, as [`set_words`].
///
/// # Errors
/// As there.
pub fn set_active(pins: &Pins, words: &[(u16, Active)]) -> Result<()> {
    let words = words.iter().map(|(slot, word)| Word::Active(*slot, *word));
    set_words(pins, &words.collect::<Vec<_>>())
}

/// Writes words, one after the other. The helper program `set_active` stores each with one aligned 64-bit
/// instruction, so that a program reads the old word or the new one; `bpf(2)` promises only a `memcpy` of
/// the value (`array_map_update_elem`, kernel/bpf/arraymap.c).
///
/// # Errors
/// The pinned program cannot be run: the remaining words stay as they are.
pub fn set_words(pins: &Pins, words: &[Word]) -> Result<()> {
    for call in words.chunks(PER_CALL) {
        let mut list = helper::list(0);
        for one in call {
            let (place, word) = match *one {
                Word::Active(slot, Active(word)) => (u64::from(slot), word),
                Word::Blocking(Blocking(word)) => (u64::from(SET_BLOCKING), word),
                Word::Watch(slot, Watch(word)) => (u64::from(SET_WATCH) + u64::from(slot), word),
            };
            list.extend(place.to_ne_bytes());
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
