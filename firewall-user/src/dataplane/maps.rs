//! The pinned maps: what they should look like, and opening them.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Array, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use firewall_ebpf::bloom::{LINES, Line};
use firewall_ebpf::event::EVENT_SPACE;
use firewall_ebpf::flow::{Flow, FlowKey4, FlowKey6};
use firewall_ebpf::fragment::FirstFragment;
use firewall_ebpf::policy::Counter;
use firewall_ebpf::reason::REASON_SPACE;

use crate::dataplane::bank::Note;
use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;

/// How many entries the maps have; set when they are made, and until they are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Unproven flows, per family.
    pub flows_new: u32,
    /// Proven flows, per family.
    pub flows_proven: u32,
    /// First fragments that are remembered, per family.
    pub fragments: u32,
    /// Rules that are counted.
    pub rules: u32,
    /// Interfaces at one time.
    pub interfaces: u32,
}

/// What a map's number of entries follows from.
#[derive(Clone, Copy, Debug)]
enum Sized {
    New,
    Proven,
    Fragments,
    Rules,
    Interfaces { each: u32 },
    Fixed(u32),
}

impl Sizes {
    const fn of(&self, sized: Sized) -> u32 {
        match sized {
            Sized::New => self.flows_new,
            Sized::Proven => self.flows_proven,
            Sized::Fragments => self.fragments,
            Sized::Rules => self.rules,
            Sized::Interfaces { each } => self.interfaces * each,
            Sized::Fixed(entries) => entries,
        }
    }
}

/// A map as this version makes it.
struct Shape {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    sized: Sized,
}

const fn shape<K, V>(name: &'static str, kind: MapType, sized: Sized) -> Shape {
    Shape { name, kind, key: size_of::<K>(), value: size_of::<V>(), sized }
}

/// Every map of the kernel object that outlives a process.
const SHAPES: &[Shape] = &[
    shape::<FlowKey4, Flow>("FLOWS_NEW_V4", MapType::LruHash, Sized::New),
    shape::<FlowKey6, Flow>("FLOWS_NEW_V6", MapType::LruHash, Sized::New),
    shape::<FlowKey4, Flow>("FLOWS_PROVEN_V4", MapType::Hash, Sized::Proven),
    shape::<FlowKey6, Flow>("FLOWS_PROVEN_V6", MapType::Hash, Sized::Proven),
    shape::<u32, Line>("BLOOM", MapType::Array, Sized::Fixed(2 * LINES)),
    shape::<u32, u32>("BLOOM_IN_USE", MapType::Array, Sized::Fixed(1)),
    shape::<FlowKey4, FirstFragment>("FRAGMENTS_V4", MapType::LruHash, Sized::Fragments),
    shape::<FlowKey6, FirstFragment>("FRAGMENTS_V6", MapType::LruHash, Sized::Fragments),
    shape::<u32, Counter>(
        "COUNTERS",
        MapType::PerCpuArray,
        Sized::Interfaces { each: 2 * REASON_SPACE },
    ),
    shape::<u32, u64>("EVENTS", MapType::PerCpuArray, Sized::Interfaces { each: EVENT_SPACE }),
    shape::<u32, Counter>("RULE_COUNTERS", MapType::Hash, Sized::Rules),
    shape::<u32, u64>("ACTIVE", MapType::Array, Sized::Interfaces { each: 1 }),
    shape::<u32, u32>("PREFIXES_V4", MapType::ArrayOfMaps, Sized::Interfaces { each: 2 }),
    shape::<u32, u32>("PREFIXES_V6", MapType::ArrayOfMaps, Sized::Interfaces { each: 2 }),
    shape::<u32, u32>("CLASSES", MapType::ArrayOfMaps, Sized::Interfaces { each: 2 }),
    shape::<u32, u32>("RANGES", MapType::ArrayOfMaps, Sized::Interfaces { each: 2 }),
    shape::<u32, u64>("CLOCK", MapType::Array, Sized::Fixed(1)),
];

/// What userspace counts, by [`Tally::index`]; the kernel program does not know of it.
const TALLIES: Shape =
    shape::<u32, u64>("TALLIES", MapType::Array, Sized::Interfaces { each: Tally::COUNT });

/// What userspace notes of the tables of a policy, by [`firewall_ebpf::policy::index`]; the kernel
/// program does not know of it either.
const BANKS: Shape = shape::<u32, Note>("BANKS", MapType::Array, Sized::Interfaces { each: 2 });

/// A number that userspace keeps of an interface between its runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tally {
    /// Flows that it removed from the new tier itself.
    Removed,
    /// The most evictions that were ever told.
    Evicted,
}

impl Tally {
    const COUNT: u32 = 2;

    pub(super) const ALL: [Self; 2] = [Self::Removed, Self::Evicted];

    pub(super) fn index(self, slot: u16) -> u32 {
        u32::from(slot) * Self::COUNT + self as u32
    }
}

/// Makes the maps that are userspace's alone.
pub(super) fn make_own(pins: &Pins, sizes: &Sizes) -> Result<()> {
    let tallies = Array::<MapData, u64>::create(sizes.of(TALLIES.sized), 0);
    let tallies = tallies.context("make map TALLIES")?;
    tallies.pin(pins.map(TALLIES.name)).context("pin map TALLIES")?;
    let banks =
        Array::<MapData, Note>::create(sizes.of(BANKS.sized), 0).context("make map BANKS")?;
    banks.pin(pins.map(BANKS.name)).context("pin map BANKS")
}

/// The kinds of map that there have to be; the tables within tables are tries and arrays.
pub(super) fn kinds() -> impl Iterator<Item = MapType> {
    SHAPES.iter().map(|shape| shape.kind).chain([MapType::LpmTrie])
}

/// The opened maps.
pub struct Maps {
    pub(super) counters: PerCpuArray<MapData, Counter>,
    pub(super) events: PerCpuArray<MapData, u64>,
    pub(super) active: Array<MapData, u64>,
    pub(super) clock: Array<MapData, u64>,
    pub(super) tallies: Array<MapData, u64>,
    pub(super) banks: Array<MapData, Note>,
    pub(super) bloom_in_use: Array<MapData, u32>,
    /// The same maps once more: aya's typed maps do not lend their file descriptors.
    raw: BTreeMap<&'static str, MapData>,
    /// Where they are, and the tables of policies.
    pub(super) pins: Pins,
    /// As the maps were made, whatever the configuration says now.
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
    /// One is missing, or looks different from what this version makes.
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
            active: open!("ACTIVE", Array),
            clock: open!("CLOCK", Array),
            tallies: open!("TALLIES", Array),
            banks: open!("BANKS", Array),
            bloom_in_use: open!("BLOOM_IN_USE", Array),
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
    /// The file descriptor of a map.
    pub(super) fn fd(&self, name: &'static str) -> BorrowedFd<'_> {
        // Every name that is asked for is in `SHAPES`, and `open` has opened all of those.
        self.raw[name].fd().as_fd()
    }

    /// Those of all maps that packets use and interfaces share.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.raw.values().map(|map| map.fd().as_fd())
    }
}

/// Compares every pinned map with its shape, because the loader would not: a map of another value
/// size would be read and written beyond its end. Returns the sizes they were made with.
fn check(pins: &Pins) -> Result<Sizes> {
    let mut sizes = Sizes { flows_new: 0, flows_proven: 0, fragments: 0, rules: 0, interfaces: 0 };
    for shape in SHAPES.iter().chain([&TALLIES, &BANKS]) {
        let path = pins.map(shape.name);
        let info = MapInfo::from_pin(&path)
            .map_err(|error| damaged(pins, shape.name, &crate::dataplane::error::chain(&error)))?;
        let kind = info.map_type().context(format!("map {}", shape.name))?;
        let (key, value) = (info.key_size() as usize, info.value_size() as usize);
        if (kind, key, value) != (shape.kind, shape.key, shape.value) {
            let what = format!(
                "{kind:?} of {key} and {value} bytes, where this build has {:?} of {} and {}",
                shape.kind, shape.key, shape.value
            );
            return Err(damaged(pins, shape.name, &what));
        }
        match shape.sized {
            Sized::New => sizes.flows_new = info.max_entries(),
            Sized::Proven => sizes.flows_proven = info.max_entries(),
            Sized::Fragments => sizes.fragments = info.max_entries(),
            Sized::Rules => sizes.rules = info.max_entries(),
            Sized::Interfaces { each } => sizes.interfaces = info.max_entries() / each,
            Sized::Fixed(_) => {}
        }
    }
    Ok(sizes)
}

fn damaged(pins: &Pins, name: &str, why: &str) -> DataplaneError {
    DataplaneError::new(
        format!("map {name} pinned under {}: {why}", pins.version_dir().display()),
        format!(
            "the pins are not of this build: `rm -r {}` stops enforcement and removes them, then \
             `secgroup reconcile` starts it anew",
            pins.version_dir().display()
        ),
    )
}

/// What the loader has to be told: where each map is pinned and how large it is to be.
pub(super) fn plan<'a>(
    pins: &'a Pins,
    sizes: &'a Sizes,
) -> impl Iterator<Item = (&'static str, std::path::PathBuf, u32)> + 'a {
    SHAPES.iter().map(|shape| (shape.name, pins.map(shape.name), sizes.of(shape.sized)))
}
