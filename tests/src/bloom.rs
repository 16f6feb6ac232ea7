//! The Bloom filter of flows, for tests that write flow entries directly.

use std::borrow::BorrowMut;

use aya::maps::{Array, Map, MapData, MapError};
use firewall_ebpf::abi::bloom::{Bit, LINES, Line};
use firewall_user::dataplane::Pins;

use crate::Secgroup;

/// Sets bits in both filters. Not atomic: nothing else may write to the map.
///
/// # Errors
/// The map cannot be read or written.
pub fn set<T: BorrowMut<MapData>>(map: &mut Array<T, Line>, bits: &[Bit]) -> Result<(), MapError> {
    for bit in bits {
        for filter in [0, 1] {
            let mut line = map.get(&bit.line(filter), 0)?;
            line[bit.word()] |= bit.mask();
            map.set(bit.line(filter), line, 0)?;
        }
    }
    Ok(())
}

/// Clears both filters.
///
/// # Errors
/// The map cannot be written.
pub fn clear<T: BorrowMut<MapData>>(map: &mut Array<T, Line>) -> Result<(), MapError> {
    (0..2 * LINES).try_for_each(|at| map.set(at, Line::default(), 0))
}

/// Which of the two filters the programs of slot 0 read.
#[must_use]
pub fn in_use(secgroup: &Secgroup<'_>) -> u32 {
    let pin = Pins::new(secgroup.pin_dir()).map("BLOOM_IN_USE");
    let map =
        MapData::from_pin(&pin).unwrap_or_else(|error| panic!("open {}: {error}", pin.display()));
    let map: Array<_, u32> = Map::Array(map).try_into().expect("it is an array of numbers");
    map.get(&0, 0).expect("read which filter is in use")
}
