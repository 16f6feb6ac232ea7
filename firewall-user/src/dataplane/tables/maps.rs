//! The pinned maps: opening them, and checking that this version creates the same types and sizes.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Array, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use firewall_ebpf::abi::block::BLOCK_BANKS;
use firewall_ebpf::abi::counter::{Counter, UserCounter};
use firewall_ebpf::abi::interface::{SLOW_PATH_PROGRAMS, Settings, settings_index};
use firewall_ebpf::abi::limits::MAX_INTERFACES;
use firewall_ebpf::abi::record;
use nix::errno::Errno;

use crate::dataplane::error::{Context, DataplaneError, Result, chain, errno};
use crate::dataplane::object::shapes::{SHAPES, Shape, Size, Sizes};
use crate::dataplane::pins::Pins;
use crate::dataplane::tables::bank::RawRecord;
use crate::dataplane::tables::device::{self, DEVICES};
use crate::dataplane::tables::owner::{Owner, Record, STORE};
use crate::dataplane::tables::unstored::UNSTORED;

/// The counters that userspace keeps, by [`UserCounter::index`]; the kernel program does not use them.
pub(super) const USER_COUNTERS: Shape = Shape::new::<u32, u64>(
    "USER_COUNTERS",
    MapType::Array,
    Size::Interfaces { each: UserCounter::ALL.len() as u32 },
);

/// The record of each bank, by [`firewall_ebpf::abi::policy::index`]; the kernel program does not use it.
pub(super) const BANKS: Shape =
    Shape::new::<u32, RawRecord>("BANKS", MapType::Array, Size::Interfaces { each: 2 });

/// The generation of the store whose groups, ACLs and blocks are in force, all of them; 0 while they are
/// changed, and if it is not known. The kernel program does not use it.
pub(super) const APPLIED: Shape = Shape::new::<u32, u64>("APPLIED", MapType::Array, Size::Fixed(1));

/// What each bank holds: the digest of the blocks in either half, 0 while one is written, and if it has none.
/// The kernel program does not use it.
pub(super) const BLOCK_RECORDS: Shape =
    Shape::new::<u32, Digests>("BLOCK_RECORDS", MapType::Array, Size::Fixed(BLOCK_BANKS));

/// A record of [`BLOCK_RECORDS`].
pub(super) type Digests = [u64; 2];

/// What is loaded: digests of programs with everything that went into them. By slot the interface's, whose
/// second word is the half of its settings; behind the last slot, for each program of the slow path and each that
/// records packets, that at XDP and that at TC.
/// A zero is no program, or one that is being replaced.
pub(in crate::dataplane) type Loaded = [u64; 2];

/// The map of [`Loaded`]; the kernel program does not use it.
pub(super) const LOADED: Shape = Shape::new::<u32, Loaded>(
    "LOADED",
    MapType::Array,
    Size::Fixed(MAX_INTERFACES + SLOW_PATH_PROGRAMS),
);

/// The opened maps.
pub struct Maps {
    pub(super) counters: PerCpuArray<MapData, Counter>,
    pub(super) events: PerCpuArray<MapData, u64>,
    pub(in crate::dataplane) record_accounts: PerCpuArray<MapData, record::Account>,
    pub(super) active: Array<MapData, u64>,
    pub(super) clock: Array<MapData, u64>,
    pub(super) user_counters: Array<MapData, u64>,
    pub(super) banks: Array<MapData, RawRecord>,
    pub(super) block_records: Array<MapData, Digests>,
    applied: Array<MapData, u64>,
    pub(in crate::dataplane) settings: Array<MapData, Settings>,
    pub(in crate::dataplane) loaded: Array<MapData, Loaded>,
    pub(in crate::dataplane) bloom_in_use: Array<MapData, u32>,
    pub(super) store: Array<MapData, Record>,
    pub(super) devices: Array<MapData, device::Record>,
    /// The same maps once more: aya's typed maps do not give access to their file descriptors.
    raw: BTreeMap<&'static str, MapData>,
    /// The pins of the maps and of the policies' tables.
    pub(in crate::dataplane) pins: Pins,
    /// The sizes that the shared maps were created with; the configuration may have changed since.
    pub sizes: Sizes,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl Maps {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// One is missing, or has another type or size than this version creates.
    pub fn open(pins: &Pins) -> Result<Self> {
        let sizes = check(pins)?;
        macro_rules! open {
            ($name:literal, $variant:ident) => {{
                let data =
                    MapData::from_pin(pins.map($name)).context(concat!("open map ", $name))?;
                Map::$variant(data).try_into().context(concat!("open map ", $name))?
            }};
        }
        Ok(Self {
            counters: open!("COUNTERS", PerCpuArray),
            events: open!("EVENTS", PerCpuArray),
            record_accounts: open!("RECORD_ACCOUNTS", PerCpuArray),
            active: open!("ACTIVE", Array),
            clock: open!("CLOCK", Array),
            user_counters: open!("USER_COUNTERS", Array),
            banks: open!("BANKS", Array),
            block_records: open!("BLOCK_RECORDS", Array),
            applied: open!("APPLIED", Array),
            settings: open!("SETTINGS_OF", Array),
            loaded: open!("LOADED", Array),
            bloom_in_use: open!("BLOOM_IN_USE", Array),
            store: open!("STORE", Array),
            devices: open!("DEVICES", Array),
            raw: SHAPES
                .iter()
                .map(|shape| Ok((shape.name, MapData::from_pin(pins.map(shape.name))?)))
                .collect::<std::result::Result<_, MapError>>()
                .context("open the maps")?,
            pins: pins.clone(),
            sizes,
        })
    }
}

impl Maps {
    /// The store that is recorded.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn owner(&self) -> Result<Option<Owner>> {
        Ok(Owner::of(&self.store.get(&0, 0).context("read map STORE")?))
    }

    /// Records a store.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_owner(&mut self, owner: &Owner) -> Result<()> {
        self.store.set(0, owner.record(), 0).context("write map STORE")
    }
}

impl Maps {
    /// The pins of this instance.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The generation of the store that is in force as a whole; `None` if that is not known.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn applied(&self) -> Result<Option<u64>> {
        let generation = self.applied.get(&0, 0).context("read map APPLIED")?;
        Ok((generation != 0).then_some(generation))
    }

    /// Records it.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_applied(&mut self, generation: Option<u64>) -> Result<()> {
        self.applied.set(0, generation.unwrap_or(0), 0).context("write map APPLIED")
    }
}

impl Maps {
    /// Records the device of a slot, which is in this thread's network namespace.
    pub(in crate::dataplane) fn record_device(&mut self, slot: u16, index: u32) -> Result<()> {
        let record = device::record(index)?;
        self.devices.set(u32::from(slot), record, 0).context("write map DEVICES")
    }

    /// Removes the record of a slot's device.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn forget_device(&mut self, slot: u16) -> Result<()> {
        self.devices.set(u32::from(slot), [0, 0], 0).context("write map DEVICES")
    }
}

impl Maps {
    /// The file descriptor of a map.
    pub(in crate::dataplane) fn fd(&self, name: &'static str) -> BorrowedFd<'_> {
        // Every caller names a map of `SHAPES`, and `open` has opened all of those.
        self.raw[name].fd().as_fd()
    }

    /// The file descriptors of all maps that packets use and interfaces share.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.raw.values().map(|map| map.fd().as_fd())
    }
}

/// Compares every pinned map with its shape, because the loader does not: a map of another value size
/// would be read and written beyond its end. Returns the sizes that the maps were created with.
fn check(pins: &Pins) -> Result<Sizes> {
    let mut sizes = Sizes { rules: 0, interfaces: 0 };
    let own =
        [&USER_COUNTERS, &BANKS, &BLOCK_RECORDS, &APPLIED, &LOADED, &STORE, &DEVICES, &UNSTORED];
    for shape in SHAPES.iter().chain(own) {
        let path = pins.map(shape.name);
        let info = MapInfo::from_pin(&path);
        if let Err(error) = &info
            && matches!(errno(error), Some(Errno::EACCES | Errno::EPERM))
        {
            // Nothing is wrong with the pins.
            return info.map(|_| sizes).context(format_args!("open map {}", shape.name));
        }
        let info = info.map_err(|error| damaged(pins, shape.name, &chain(&error)))?;
        let kind = info.map_type().context(format_args!("map {}", shape.name))?;
        let (key, value) = (info.key_size() as usize, info.value_size() as usize);
        if (kind, key, value) != (shape.kind, shape.key, shape.value) {
            let what = format!(
                "{kind:?} of {key} and {value} bytes, where this build has {:?} of {} and {}",
                shape.kind, shape.key, shape.value
            );
            return Err(damaged(pins, shape.name, &what));
        }
        match shape.size {
            Size::Rules => sizes.rules = info.max_entries(),
            Size::Interfaces { each } => sizes.interfaces = info.max_entries() / each,
            Size::RuleCounters | Size::Cpus { .. } | Size::Fixed(_) => {}
        }
    }
    Ok(sizes)
}

fn damaged(pins: &Pins, name: &str, why: &str) -> DataplaneError {
    DataplaneError::new(
        format!("map {name} pinned under {}: {why}", pins.version_dir().display()),
        pins.hint_to_recreate(),
    )
}

impl Maps {
    /// What is loaded of an interface: the digest of its programs, and the half of its settings that they
    /// refer to.
    pub fn loaded(&self, slot: u16) -> Result<(u64, u8)> {
        let [digest, half] = self.loaded.get(&u32::from(slot), 0).context("read map LOADED")?;
        Ok((digest, u8::from(half != 0)))
    }

    /// Records it; a digest of zero is that of no program.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_loaded(&mut self, slot: u16, (digest, half): (u64, u8)) -> Result<()> {
        let loaded = [digest, half.into()];
        self.loaded.set(u32::from(slot), loaded, 0).context("write map LOADED")
    }

    /// The digests of a program of the slow path that are loaded, at XDP and at TC.
    pub(in crate::dataplane) fn loaded_slow_path(&self, variant: u32) -> Result<Loaded> {
        self.loaded.get(&(MAX_INTERFACES + variant), 0).context("read map LOADED")
    }

    /// Records them.
    pub(in crate::dataplane) fn set_loaded_slow_path(
        &mut self,
        variant: u32,
        loaded: Loaded,
    ) -> Result<()> {
        self.loaded.set(MAX_INTERFACES + variant, loaded, 0).context("write map LOADED")
    }

    /// Writes a record of an interface's settings. No attached program may refer to it.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_settings(&mut self, (slot, half): (u16, u8), record: Settings) -> Result<()> {
        let index = u32::from(settings_index(slot, half));
        self.settings.set(index, record, 0).context("write map SETTINGS_OF")
    }
}
