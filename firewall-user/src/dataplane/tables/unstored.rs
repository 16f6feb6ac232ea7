//! What is done in the kernel although the store could not be written: recorded beside the policies, so that
//! no later command undoes it before the store has it. A reboot removes it with everything else.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use aya::maps::{Array, Map, MapData, MapType};
use firewall_ebpf::abi::limits::MAX_INTERFACES;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::object::shapes::{Shape, Size};
use crate::dataplane::pins::Pins;

/// Changes that the kernel has and the store has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unstored {
    /// Emergency mode was switched on or off.
    pub panic: Option<bool>,
    /// The deadline of an unconfirmed change that was rolled back.
    pub rolled_back: Option<u64>,
    /// The slots that were detached, and whose interfaces are to be deleted.
    pub detached: BTreeSet<u16>,
    /// The slots that were detached, and whose interfaces stay stored without a device.
    pub kept: BTreeSet<u16>,
}

const SLOT_WORDS: usize = (MAX_INTERFACES as usize).div_ceil(64);

/// The words of an id of 32 hexadecimal digits, then emergency mode (1 off, 2 on), whether a change was rolled
/// back, its deadline, and twice a bit for each slot: of those that are deleted, and those that are kept.
pub(super) type Record = [u64; DETACHED + 2 * SLOT_WORDS];

/// Where the bits of the slots begin.
const DETACHED: usize = 5;
const KEPT: usize = DETACHED + SLOT_WORDS;

/// The map of the record; the kernel program does not use it.
pub(super) const UNSTORED: Shape =
    Shape::new::<u32, Record>("UNSTORED", MapType::Array, Size::Fixed(1));

impl Unstored {
    /// Whether the store has everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the record for a store; without pins, and for another store than the recorded one, it is empty.
    ///
    /// # Errors
    /// The map cannot be opened or read.
    pub fn read(pins: &Pins, store: &str) -> Result<Self> {
        let Some(map) = open(pins)? else { return Ok(Self::default()) };
        let record = map.get(&0, 0).context("read map UNSTORED")?;
        Ok(Self::of(&record, store))
    }

    /// Writes the record of a store; without pins there is nothing to protect.
    ///
    /// # Errors
    /// The map cannot be opened or written.
    pub fn write(&self, pins: &Pins, store: &str) -> Result<()> {
        let Some(mut map) = open(pins)? else { return Ok(()) };
        map.set(0, self.record(store), 0).context("write map UNSTORED")
    }

    fn record(&self, store: &str) -> Record {
        let mut record = Record::default();
        let Self { panic, rolled_back, detached, kept } = self;
        let [high, low] = id_words(store);
        (record[0], record[1]) = (high, low);
        record[2] = panic.map_or(0, |is_on| 1 + u64::from(is_on));
        (record[3], record[4]) = (rolled_back.is_some().into(), rolled_back.unwrap_or(0));
        for (start, slots) in [(DETACHED, detached), (KEPT, kept)] {
            for slot in slots.iter().filter(|slot| u32::from(**slot) < MAX_INTERFACES) {
                if let Some(word) = record.get_mut(start + usize::from(*slot) / 64) {
                    *word |= 1 << (slot % 64);
                }
            }
        }
        record
    }

    fn of(record: &Record, store: &str) -> Self {
        if record[..2] != id_words(store) {
            return Self::default();
        }
        let slots = |start: usize| {
            let all = 0..u16::try_from(MAX_INTERFACES).unwrap_or(u16::MAX);
            let is_set = |slot: &u16| {
                let word = record.get(start + usize::from(*slot) / 64);
                word.is_some_and(|word| word >> (slot % 64) & 1 == 1)
            };
            all.filter(is_set).collect()
        };
        Self {
            panic: record[2].checked_sub(1).map(|is_on| is_on != 0),
            rolled_back: (record[3] != 0).then_some(record[4]),
            detached: slots(DETACHED),
            kept: slots(KEPT),
        }
    }
}

/// The id of a store as numbers.
fn id_words(store: &str) -> [u64; 2] {
    let (high, low) = store.split_at_checked(16).unwrap_or((store, ""));
    [high, low].map(|half| u64::from_str_radix(half, 16).unwrap_or(0))
}

/// The map; `None` if it is not pinned.
fn open(pins: &Pins) -> Result<Option<Array<MapData, Record>>> {
    let path = pins.map(UNSTORED.name);
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.context(format_args!("open {}", path.display()))?,
    };
    let data = MapData::from_pin(&path).context("open map UNSTORED")?;
    // The conversion compares the sizes of key and value.
    Ok(Some(Map::Array(data).try_into().context("open map UNSTORED")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_that_of_one_store() {
        let id = "0123456789abcdef0123456789abcdef";
        for unstored in [
            Unstored::default(),
            Unstored { panic: Some(true), ..Unstored::default() },
            Unstored { panic: Some(false), rolled_back: Some(0), ..Unstored::default() },
            Unstored { rolled_back: Some(u64::MAX), ..Unstored::default() },
            Unstored { detached: [0, 63, 64, 255].into(), ..Unstored::default() },
            Unstored { detached: [1].into(), kept: [0, 64, 255].into(), ..Unstored::default() },
        ] {
            let record = unstored.record(id);
            assert_eq!(Unstored::of(&record, id), unstored);
            assert!(Unstored::of(&record, &id.replace('0', "1")).is_empty());
        }
    }
}
