//! The maps of the kernel object that outlive a process: types, keys, values, numbers of entries.

use aya::maps::MapType;
use aya::util::nr_cpus;
use firewall_ebpf::abi::block::BLOCK_BANKS;
use firewall_ebpf::abi::counter::{Counter, rule_stride, rule_stripes};
use firewall_ebpf::abi::event::EVENT_SPACE;
use firewall_ebpf::abi::filter::{MAX_FILTERS, TABLE_SETS};
use firewall_ebpf::abi::interface::{SETTINGS_EACH, SLOW_PATH_PROGRAMS, Settings};
use firewall_ebpf::abi::limits::MAX_INTERFACES;
use firewall_ebpf::abi::reason::REASON_SPACE;
use firewall_ebpf::abi::record::{ACCOUNTS_EACH, Account, CELLS, Cell};

/// How many entries the shared maps have: fixed from their creation until their removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rules that are counted.
    pub rules: u32,
    /// Interfaces at one time.
    pub interfaces: u32,
}

/// What a map's number of entries follows from.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) enum Size {
    Rules,
    RuleCounters,
    Interfaces { each: u32 },
    Cpus { each: u32 },
    Fixed(u32),
}

impl Sizes {
    /// Stripes of the counters by rule.
    pub(in crate::dataplane) fn rule_stripes(&self) -> u32 {
        rule_stripes(self.rules, cpus())
    }

    /// The number of entries of a map.
    pub(in crate::dataplane) fn entries(&self, size: Size) -> u32 {
        match size {
            Size::Rules => self.rules,
            Size::RuleCounters => self.rule_stripes() * rule_stride(self.rules),
            Size::Interfaces { each } => self.interfaces * each,
            Size::Cpus { each } => cpus() * each,
            Size::Fixed(entries) => entries,
        }
    }
}

/// Possible CPUs, whose number never changes while the kernel runs.
fn cpus() -> u32 {
    u32::try_from(nr_cpus().unwrap_or(1)).unwrap_or(u32::MAX)
}

/// A map as this version creates it; key and value sizes in bytes.
pub(in crate::dataplane) struct Shape {
    pub(in crate::dataplane) name: &'static str,
    pub(in crate::dataplane) kind: MapType,
    pub(in crate::dataplane) key: usize,
    pub(in crate::dataplane) value: usize,
    pub(in crate::dataplane) size: Size,
}

impl Shape {
    /// The map's name in the kernel object. That of its variables is the section's; a pin cannot have a
    /// name with a dot.
    pub(in crate::dataplane) fn object_name(&self) -> &'static str {
        if self.name == "DROPS" { ".bss" } else { self.name }
    }

    pub(in crate::dataplane) const fn new<K, V>(
        name: &'static str,
        kind: MapType,
        size: Size,
    ) -> Self {
        Self { name, kind, key: size_of::<K>(), value: size_of::<V>(), size }
    }
}

const INTERFACES: Size = Size::Interfaces { each: 1 };

/// Two tables of an interface, of two kinds of flows.
const FLOW_TABLES: Size = Size::Interfaces { each: 2 };

/// The tables of every bank and filter.
const SETS: Size = Size::Fixed(TABLE_SETS);

/// Bytes of the ring buffer of records: four seconds of as many as there are tokens for.
const RING: Size = Size::Fixed(1 << 20);

/// The variables of the kernel object, which are one entry of a map: when packets were dropped, and which are
/// recorded.
type Drops = [[u64; 8]; MAX_INTERFACES as usize];

/// Every map of the kernel object that outlives a process.
pub(in crate::dataplane) const SHAPES: &[Shape] = &[
    Shape::new::<u32, u32>("FLOWS_LRU_V4", MapType::ArrayOfMaps, FLOW_TABLES),
    Shape::new::<u32, u32>("FLOWS_LRU_V6", MapType::ArrayOfMaps, FLOW_TABLES),
    Shape::new::<u32, u32>("FLOWS_TCP_V4", MapType::ArrayOfMaps, INTERFACES),
    Shape::new::<u32, u32>("FLOWS_TCP_V6", MapType::ArrayOfMaps, INTERFACES),
    Shape::new::<u32, u32>("FRAGMENTS_V4", MapType::ArrayOfMaps, INTERFACES),
    Shape::new::<u32, u32>("FRAGMENTS_V6", MapType::ArrayOfMaps, INTERFACES),
    Shape::new::<u32, u32>("BLOOM", MapType::ArrayOfMaps, INTERFACES),
    Shape::new::<u32, u32>("SOURCES", MapType::ArrayOfMaps, INTERFACES),
    Shape::new::<u32, u32>("BLOOM_IN_USE", MapType::Array, INTERFACES),
    Shape::new::<u32, Settings>(
        "SETTINGS_OF",
        MapType::Array,
        Size::Interfaces { each: SETTINGS_EACH },
    ),
    Shape::new::<u32, Drops>("DROPS", MapType::Array, Size::Fixed(1)),
    Shape::new::<u32, u32>("SLOW_XDP", MapType::ProgramArray, Size::Fixed(SLOW_PATH_PROGRAMS)),
    Shape::new::<u32, u32>("SLOW_TC", MapType::ProgramArray, Size::Fixed(SLOW_PATH_PROGRAMS)),
    Shape::new::<u32, [u64; 3]>("CALL", MapType::PerCpuArray, Size::Fixed(1)),
    Shape::new::<u32, Counter>(
        "COUNTERS",
        MapType::PerCpuArray,
        Size::Interfaces { each: 2 * REASON_SPACE },
    ),
    Shape::new::<u32, u64>("EVENTS", MapType::PerCpuArray, Size::Interfaces { each: EVENT_SPACE }),
    Shape::new::<u32, u32>("RULE_INDEXES", MapType::Hash, Size::Rules),
    Shape::new::<u32, Counter>("RULE_COUNTERS", MapType::Array, Size::RuleCounters),
    Shape::new::<u32, u64>("DEADLINES", MapType::Array, Size::Rules),
    Shape::new::<u32, u64>("ACTIVE", MapType::Array, INTERFACES),
    Shape::new::<u32, u32>("PREFIXES_V4", MapType::ArrayOfMaps, SETS),
    Shape::new::<u32, u32>("PREFIXES_V6", MapType::ArrayOfMaps, SETS),
    Shape::new::<u32, u32>("CLASSES", MapType::ArrayOfMaps, SETS),
    Shape::new::<u32, u32>("RANGES", MapType::ArrayOfMaps, SETS),
    Shape::new::<u32, u64>("FILTERS", MapType::Array, Size::Fixed(MAX_FILTERS)),
    Shape::new::<u32, u64>("BLOCKING", MapType::Array, Size::Fixed(1)),
    Shape::new::<u32, u32>("BLOCKS_V4", MapType::ArrayOfMaps, Size::Fixed(BLOCK_BANKS)),
    Shape::new::<u32, u32>("BLOCKS_V6", MapType::ArrayOfMaps, Size::Fixed(BLOCK_BANKS)),
    Shape::new::<u32, u64>("CLOCK", MapType::Array, Size::Fixed(1)),
    Shape::new::<(), ()>("RECORDS", MapType::RingBuf, RING),
    Shape::new::<u32, Cell>("RECORD_CELLS", MapType::Array, Size::Cpus { each: CELLS }),
    Shape::new::<u32, Account>(
        "RECORD_ACCOUNTS",
        MapType::PerCpuArray,
        Size::Interfaces { each: ACCOUNTS_EACH },
    ),
];

/// The map types that the kernel must have, those of tables within tables included.
pub(in crate::dataplane) fn map_types() -> impl Iterator<Item = MapType> {
    [MapType::LruHash, MapType::Hash, MapType::LpmTrie]
        .into_iter()
        .chain(SHAPES.iter().map(|shape| shape.kind))
}
