//! Creating the shared maps and the helper programs that userspace runs on them.

use aya::Pod;
use aya::maps::{Array, MapData};
use aya::programs::SchedClassifier;

use crate::dataplane::error::{Context, Result};
use crate::dataplane::object::record_limits::RecordLimits;
use crate::dataplane::object::shapes::{Shape, Sizes};
use crate::dataplane::object::{self, embedded, loader};
use crate::dataplane::pins::Pins;
use crate::dataplane::tables::bank::RawRecord;
use crate::dataplane::tables::clock;
use crate::dataplane::tables::device::{self, DEVICES};
use crate::dataplane::tables::maps::{
    APPLIED, BANKS, BLOCK_RECORDS, Digests, LOADED, Loaded, USER_COUNTERS,
};
use crate::dataplane::tables::owner::{Record, STORE};
use crate::dataplane::tables::unstored::{self, UNSTORED};

/// Creates and pins every shared map and helper program. The directories exist already.
pub(in crate::dataplane) fn create(pins: &Pins, sizes: &Sizes) -> Result<()> {
    let limits = RecordLimits::new(clock::hz())?;
    let mut loader = loader(pins, sizes);
    limits.set(&mut loader);
    let mut object = loader.load(embedded()?).context("create the maps")?;
    for (name, pin) in [
        ("sg_clock", pins.clock()),
        ("sg_bloom_insert_v4", pins.bloom_insert(false)),
        ("sg_bloom_insert_v6", pins.bloom_insert(true)),
        ("sg_expire_v4", pins.expire(false)),
        ("sg_expire_v6", pins.expire(true)),
        ("sg_probe_v4", pins.probe(false)),
        ("sg_probe_v6", pins.probe(true)),
        ("sg_probe_filter_v4", pins.probe_filter(false)),
        ("sg_probe_filter_v6", pins.probe_filter(true)),
        ("sg_probe_blocks_v4", pins.probe_blocks(false)),
        ("sg_probe_blocks_v6", pins.probe_blocks(true)),
        ("sg_set_active", pins.set_active()),
        ("sg_flush_records", pins.flush_records()),
    ] {
        let program: &mut SchedClassifier = object::program(&mut object, name)?;
        program.load().context(format_args!("load {name}"))?;
        program.pin(pin).context(format_args!("pin {name}"))?;
    }
    create_array::<u64>(pins, sizes, &USER_COUNTERS)?;
    create_array::<RawRecord>(pins, sizes, &BANKS)?;
    create_array::<Digests>(pins, sizes, &BLOCK_RECORDS)?;
    create_array::<u64>(pins, sizes, &APPLIED)?;
    create_array::<Loaded>(pins, sizes, &LOADED)?;
    create_array::<Record>(pins, sizes, &STORE)?;
    create_array::<device::Record>(pins, sizes, &DEVICES)?;
    create_array::<unstored::Record>(pins, sizes, &UNSTORED)
}

/// A map that is not part of the kernel object.
fn create_array<T: Pod>(pins: &Pins, sizes: &Sizes, shape: &Shape) -> Result<()> {
    let name = shape.name;
    let map = Array::<MapData, T>::create(sizes.entries(shape.size), 0);
    let map = map.context(format_args!("create map {name}"))?;
    map.pin(pins.map(name)).context(format_args!("pin map {name}"))
}
