//! The device of an interface, as it was when its programs were attached; it is recorded beside the maps.
//! The links and filters tell where the programs are now.

use aya::maps::{Array, Map, MapData, MapType};
use firewall_ebpf::abi::limits::MAX_INTERFACES;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::host::netns;
use crate::dataplane::object::shapes::{Shape, Size};
use crate::dataplane::pins::Pins;

/// The number of the device's network namespace, and its index there. Zeros: nothing is recorded.
pub(in crate::dataplane) type Record = [u64; 2];

/// The map of the records by slot; the kernel program does not use it.
pub(super) const DEVICES: Shape =
    Shape::new::<u32, Record>("DEVICES", MapType::Array, Size::Fixed(MAX_INTERFACES));

/// A device, as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct Recorded {
    namespace: u64,
    index: u64,
}

/// The record of a device of this thread's network namespace.
pub(super) fn record(index: u32) -> Result<Record> {
    Ok([netns::cookie()?, index.into()])
}

impl Recorded {
    /// What is recorded for a slot.
    pub(in crate::dataplane) fn of(pins: &Pins, slot: u16) -> Result<Option<Self>> {
        let name = DEVICES.name;
        let data = MapData::from_pin(pins.map(name)).context(format_args!("open map {name}"))?;
        let map: Array<MapData, Record> =
            Map::Array(data).try_into().context(format_args!("open map {name}"))?;
        let record = map.get(&u32::from(slot), 0).context(format_args!("read map {name}"))?;
        let [namespace, index] = record;
        Ok((namespace != 0).then_some(Self { namespace, index }))
    }

    /// Whether a slot's device was in this thread's network namespace and had this index.
    pub(in crate::dataplane) fn is_here(pins: &Pins, slot: u16, index: u32) -> Result<bool> {
        let here = Self { namespace: netns::cookie()?, index: index.into() };
        Ok(Self::of(pins, slot)? == Some(here))
    }

    /// The device's index.
    pub(in crate::dataplane) fn index(self) -> Option<u32> {
        self.index.try_into().ok()
    }

    /// Whether the device was in this thread's network namespace.
    pub(in crate::dataplane) fn was_in_this_namespace(self) -> Result<bool> {
        Ok(netns::cookie()? == self.namespace)
    }
}
