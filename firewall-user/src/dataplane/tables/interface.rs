//! The tables that an interface has for itself: flows, first fragments, and the Bloom filter of its flows.
//! What one interface does leaves the tables of every other one as they are.

use std::fs;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use aya::maps::{MapData, MapType};
use firewall_ebpf::abi::bloom::{LINES, Line};
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6, Table};
use firewall_ebpf::abi::fragment::FirstFragment;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::create::{NewMap, create};
use crate::dataplane::sys::entries;
use crate::dataplane::sys::unpin::unpin;
use crate::dataplane::tables::maps::Maps;

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

/// What the pins of tables have at the end while they replace others.
const NEXT: &str = "_next";

/// How many entries an interface's tables have, per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSizes {
    /// Unproven flows.
    pub new: u32,
    /// Proven UDP flows.
    pub udp: u32,
    /// Proven TCP flows.
    pub tcp: u32,
    /// First fragments that are remembered.
    pub fragments: u32,
    /// Sources whose proven TCP flows are counted, of both families; 0: none, and no table for them.
    pub sources: u32,
}

impl FlowSizes {
    /// Bytes of memory that the tables take when they are created, and with as many TCP flows as fit: what
    /// `htab_map_mem_usage` of kernel/bpf/hashtab.c counts.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        /// `struct htab_elem` without key and value.
        const ELEMENT: u64 = 48;
        /// `struct bucket`.
        const BUCKET: u64 = 16;
        /// What `bpf_mem_alloc` takes at least for an element that is not preallocated.
        const ALLOCATED: u64 = 192;
        let (mut empty, mut full) = (0, 0);
        for one in Own::of(self) {
            let shape = one.shape(self);
            let entries = u64::from(shape.entries);
            let size = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
            let element = ELEMENT
                + size(shape.key).next_multiple_of(8)
                + size(shape.value).next_multiple_of(8);
            match shape.kind {
                MapType::Array => empty += entries * size(shape.value),
                MapType::Hash => {
                    empty += entries.next_power_of_two() * BUCKET;
                    full += entries * element.max(ALLOCATED);
                }
                _ => empty += entries * element + entries.next_power_of_two() * BUCKET,
            }
        }
        (empty, empty + full)
    }
}

/// A table of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Own {
    /// Flows of one of the tables; `true`: IPv6.
    Flows(Table, bool),
    /// First fragments; `true`: IPv6.
    Fragments(bool),
    /// The Bloom filter.
    Bloom,
    /// Proven TCP flows by source, of both families. Only where a source has a limit.
    Sources,
}

impl Own {
    /// Those that every interface has.
    pub(in crate::dataplane) const ALL: [Self; 9] = [
        Self::Flows(Table::New, false),
        Self::Flows(Table::New, true),
        Self::Flows(Table::Udp, false),
        Self::Flows(Table::Udp, true),
        Self::Flows(Table::Tcp, false),
        Self::Flows(Table::Tcp, true),
        Self::Fragments(false),
        Self::Fragments(true),
        Self::Bloom,
    ];

    /// All that an interface can have; first the one that not every interface has, so that one that has the
    /// others has it too.
    fn every() -> impl Iterator<Item = Self> {
        iter::once(Self::Sources).chain(Self::ALL)
    }

    /// Those of an interface with tables of these sizes.
    fn of(sizes: &FlowSizes) -> impl Iterator<Item = Self> {
        let has_sources = sizes.sources > 0;
        Self::every().filter(move |one| has_sources || *one != Self::Sources)
    }

    /// Its place in [`Self::ALL`]; that of [`Self::Sources`] is behind it.
    const fn position(self) -> usize {
        match self {
            Self::Flows(table, is_v6) => 2 * table as usize + is_v6 as usize,
            Self::Fragments(is_v6) => 6 + is_v6 as usize,
            Self::Bloom => 8,
            Self::Sources => 9,
        }
    }

    /// The name of the pin and of the map.
    pub(in crate::dataplane) const fn name(self) -> &'static str {
        match self {
            Self::Flows(Table::New, false) => "NEW_V4",
            Self::Flows(Table::New, true) => "NEW_V6",
            Self::Flows(Table::Udp, false) => "UDP_V4",
            Self::Flows(Table::Udp, true) => "UDP_V6",
            Self::Flows(Table::Tcp, false) => "TCP_V4",
            Self::Flows(Table::Tcp, true) => "TCP_V6",
            Self::Fragments(false) => "FRAGMENTS_V4",
            Self::Fragments(true) => "FRAGMENTS_V6",
            Self::Bloom => "BLOOM",
            Self::Sources => "SOURCES",
        }
    }

    /// The pin; tables that are about to replace others have a suffix.
    fn pin(self, pins: &Pins, slot: u16, suffix: &str) -> PathBuf {
        pins.flows(slot, &format!("{}{suffix}", self.name()))
    }

    /// The map of the kernel object in whose place the interface's programs are loaded with this table.
    pub(in crate::dataplane) const fn bound_as(self) -> Option<&'static str> {
        match self {
            Self::Flows(Table::Udp, false) => Some("OWN_UDP_V4"),
            Self::Flows(Table::Udp, true) => Some("OWN_UDP_V6"),
            Self::Flows(Table::Tcp, false) => Some("OWN_TCP_V4"),
            Self::Flows(Table::Tcp, true) => Some("OWN_TCP_V6"),
            _ => None,
        }
    }

    /// The outer map in which the slow path finds it.
    pub(in crate::dataplane) const fn outer(self) -> &'static str {
        match self {
            Self::Flows(Table::New | Table::Udp, false) => "FLOWS_LRU_V4",
            Self::Flows(Table::New | Table::Udp, true) => "FLOWS_LRU_V6",
            Self::Flows(Table::Tcp, false) => "FLOWS_TCP_V4",
            Self::Flows(Table::Tcp, true) => "FLOWS_TCP_V6",
            Self::Fragments(false) => "FRAGMENTS_V4",
            Self::Fragments(true) => "FRAGMENTS_V6",
            Self::Bloom => "BLOOM",
            Self::Sources => "SOURCES",
        }
    }

    /// Its index there.
    pub(in crate::dataplane) fn index(self, slot: u16) -> u32 {
        match self {
            Self::Flows(table @ (Table::New | Table::Udp), _) => table.lru_index(slot),
            _ => slot.into(),
        }
    }

    /// The map to be created.
    pub(in crate::dataplane) const fn shape(self, sizes: &FlowSizes) -> NewMap<'static> {
        let (kind, key, value, entries, flags) = match self {
            Self::Flows(table, is_v6) => {
                let key = if is_v6 { size_of::<FlowKey6>() } else { size_of::<FlowKey4>() };
                let (kind, entries, flags) = match table {
                    Table::New => (MapType::LruHash, sizes.new, 0),
                    Table::Udp => (MapType::LruHash, sizes.udp, 0),
                    Table::Tcp => (MapType::Hash, sizes.tcp, NO_PREALLOC),
                };
                (kind, key, size_of::<Flow>(), entries, flags)
            }
            Self::Fragments(is_v6) => {
                let key = if is_v6 { size_of::<FlowKey6>() } else { size_of::<FlowKey4>() };
                (MapType::LruHash, key, size_of::<FirstFragment>(), sizes.fragments, 0)
            }
            Self::Bloom => (MapType::Array, size_of::<u32>(), size_of::<Line>(), 2 * LINES, 0),
            Self::Sources => {
                (MapType::LruHash, size_of::<u64>(), size_of::<u32>(), sizes.sources, 0)
            }
        };
        NewMap { name: self.name(), kind, key, value, entries, flags }
    }
}

/// The opened tables of an interface.
#[derive(Debug)]
pub struct InterfaceTables {
    slot: u16,
    /// In the order of [`Own::ALL`].
    tables: [MapData; 9],
    /// Of [`Own::Sources`].
    sources: Option<MapData>,
}

impl InterfaceTables {
    /// Opens the tables; `None` if one does not exist.
    pub(in crate::dataplane) fn open(pins: &Pins, slot: u16) -> Result<Option<Self>> {
        Self::open_as(pins, slot, "")
    }

    fn open_as(pins: &Pins, slot: u16, suffix: &str) -> Result<Option<Self>> {
        if Own::ALL.iter().any(|one| !one.pin(pins, slot, suffix).exists()) {
            return Ok(None);
        }
        let open = |one: Own| {
            let path = one.pin(pins, slot, suffix);
            MapData::from_pin(&path).context(format_args!("open table {}", path.display()))
        };
        let tables = Own::ALL.iter().map(|one| open(*one)).collect::<Result<Vec<_>>>()?;
        let has_sources = Own::Sources.pin(pins, slot, suffix).exists();
        let sources = has_sources.then(|| open(Own::Sources)).transpose()?;
        Ok(tables.try_into().ok().map(|tables| Self { slot, tables, sources }))
    }

    /// Creates the tables, in place of any that a killed process has left. No program refers to them yet.
    fn create(pins: &Pins, slot: u16, sizes: &FlowSizes) -> Result<Self> {
        Self::create_as(pins, slot, sizes, "")
    }

    /// Creates tables beside those that the interface has.
    pub(in crate::dataplane) fn create_beside(
        pins: &Pins,
        slot: u16,
        sizes: &FlowSizes,
    ) -> Result<Self> {
        Self::create_as(pins, slot, sizes, NEXT)
    }

    /// Gives the tables that were created beside others the pins of those.
    pub(in crate::dataplane) fn replace_pins(pins: &Pins, slot: u16) -> Result<()> {
        for one in Own::every() {
            let (from, to) = (one.pin(pins, slot, NEXT), one.pin(pins, slot, ""));
            if one == Own::Sources && !from.exists() {
                unpin(&to)?;
                continue;
            }
            fs::rename(&from, to).context(format_args!("rename {}", from.display()))?;
        }
        Ok(())
    }

    fn create_as(pins: &Pins, slot: u16, sizes: &FlowSizes, suffix: &str) -> Result<Self> {
        for one in Own::every() {
            unpin(&one.pin(pins, slot, suffix))?;
        }
        for one in Own::of(sizes) {
            let (shape, pin) = (one.shape(sizes), one.pin(pins, slot, suffix));
            let what = format!("create table {} of slot {slot}", one.name());
            let fd = create(&shape).context(&what)?;
            MapData::from_fd(fd).context(&what)?.pin(pin).context(what)?;
        }
        Self::open_as(pins, slot, suffix)?.ok_or_else(|| {
            DataplaneError::new(format!("tables of slot {slot}: removed meanwhile"), "try again")
        })
    }

    /// The attachment that they belong to.
    pub(in crate::dataplane) const fn slot(&self) -> u16 {
        self.slot
    }

    /// A table's file descriptor; not of [`Own::Sources`].
    pub(in crate::dataplane) fn fd(&self, one: Own) -> BorrowedFd<'_> {
        self.tables[one.position()].fd().as_fd()
    }

    /// The table of the flows by source, if a source has a limit.
    pub(in crate::dataplane) fn sources(&self) -> Option<BorrowedFd<'_>> {
        Some(self.sources.as_ref()?.fd().as_fd())
    }

    /// A table, if the interface has it.
    fn table(&self, one: Own) -> Option<&MapData> {
        if one == Own::Sources { self.sources.as_ref() } else { self.tables.get(one.position()) }
    }

    /// Every table that the interface has.
    fn present(&self) -> impl Iterator<Item = (Own, &MapData)> {
        Own::every().filter_map(|one| Some((one, self.table(one)?)))
    }

    /// A table of flows.
    pub(in crate::dataplane) fn flows(&self, table: Table, is_v6: bool) -> BorrowedFd<'_> {
        self.fd(Own::Flows(table, is_v6))
    }

    /// The number of entries of each table.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn sizes(&self) -> Result<FlowSizes> {
        let entries = |one: Own| {
            let Some(table) = self.table(one) else { return Ok(0) };
            let what = format!("read the size of table {} of slot {}", one.name(), self.slot);
            Ok::<_, DataplaneError>(table.info().context(what)?.max_entries())
        };
        Ok(FlowSizes {
            new: entries(Own::Flows(Table::New, false))?,
            udp: entries(Own::Flows(Table::Udp, false))?,
            tcp: entries(Own::Flows(Table::Tcp, false))?,
            fragments: entries(Own::Fragments(false))?,
            sources: entries(Own::Sources)?,
        })
    }

    /// The number of entries of a table of flows.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(in crate::dataplane) fn capacity(&self, table: Table, is_v6: bool) -> Result<u32> {
        let map = &self.tables[Own::Flows(table, is_v6).position()];
        Ok(map.info().context("read the size of a flow table")?.max_entries())
    }

    /// The kernel's ids of the tables, which no other tables have before the next boot.
    pub(in crate::dataplane) fn ids(&self) -> Result<[u32; 9]> {
        let mut ids = [0; 9];
        for (id, table) in ids.iter_mut().zip(&self.tables) {
            *id = table.info().context("read the id of a table")?.id();
        }
        Ok(ids)
    }

    /// The memory of all tables in bytes; `None` before Linux 6.4.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.present().map(|(_, map)| crate::dataplane::sys::memory::memory(map.fd().as_fd())).sum()
    }
}

/// Removes the pins of an interface's tables; the outer maps may still refer to them.
fn remove(pins: &Pins, slot: u16) -> Result<()> {
    let suffixes = Own::every().flat_map(|one| ["", NEXT].map(|suffix| (one, suffix)));
    suffixes.into_iter().try_for_each(|(one, suffix)| unpin(&one.pin(pins, slot, suffix)))
}

impl Maps {
    /// The tables of an interface; `None` if it has none.
    ///
    /// # Errors
    /// A table cannot be opened.
    pub fn interface_tables(&self, slot: u16) -> Result<Option<InterfaceTables>> {
        InterfaceTables::open(&self.pins, slot)
    }

    /// The tables of every interface that has some.
    pub(in crate::dataplane) fn all_interface_tables(&self) -> Result<Vec<InterfaceTables>> {
        let slots = 0..u16::try_from(self.sizes.interfaces).unwrap_or(u16::MAX);
        slots.filter_map(|slot| self.interface_tables(slot).transpose()).collect()
    }

    /// Creates the tables of interfaces that have none, and shows them to the slow path.
    ///
    /// # Errors
    /// The kernel refuses a table.
    pub fn ensure_interface_tables(
        &self,
        wanted: impl IntoIterator<Item = (u16, FlowSizes)>,
    ) -> Result<()> {
        let mut created = Vec::new();
        for (slot, sizes) in wanted {
            match self.interface_tables(slot)? {
                Some(tables) if self.are_published(&tables)? => {}
                // A process was killed before it showed them.
                Some(tables) => created.push(tables),
                None => created.push(InterfaceTables::create(&self.pins, slot, &sizes)?),
            }
        }
        self.publish_interface_tables(&created)
    }

    /// Shows tables of interfaces to the slow path, in place of those before.
    pub(in crate::dataplane) fn publish_interface_tables(
        &self,
        created: &[InterfaceTables],
    ) -> Result<()> {
        let mut outer: Vec<(&'static str, Vec<(u32, u32)>)> = Vec::new();
        for one in Own::every() {
            let entries = created.iter().filter_map(|tables| {
                let fd = tables.table(one)?.fd().as_fd().as_raw_fd();
                Some((one.index(tables.slot), u32::try_from(fd).unwrap_or(u32::MAX)))
            });
            match outer.iter_mut().find(|(name, _)| *name == one.outer()) {
                Some((_, all)) => all.extend(entries),
                None => outer.push((one.outer(), entries.collect())),
            }
        }
        self.set_outer(&outer)?;
        let without = created.iter().filter(|tables| tables.sources.is_none());
        let absent: Vec<_> =
            without.map(|tables| (Own::Sources.outer(), Own::Sources.index(tables.slot))).collect();
        self.clear_outer(&absent)
    }

    /// Whether the outer maps have these tables.
    fn are_published(&self, tables: &InterfaceTables) -> Result<bool> {
        for (one, table) in tables.present() {
            let at = one.index(tables.slot);
            // An outer map returns the id of an inner one.
            let outer = entries::get::<u32, u32>(self.fd(one.outer()), &at);
            let outer = outer.context(format!("read map {}", one.outer()))?;
            if outer != Some(table.info().context("read the id of a table")?.id()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes entries of several outer maps at once: the kernel waits for a grace period in each call.
    pub(super) fn set_outer(&self, outer: &[(&'static str, Vec<(u32, u32)>)]) -> Result<()> {
        let outer = outer.iter().filter(|(_, entries)| !entries.is_empty());
        self.change_outer("write", outer.map(|(name, entries)| (*name, entries)), |fd, entries| {
            entries::put_all(fd, entries.iter().copied(), &mut |_| {})
        })
    }

    /// Removes the entries of outer maps, of several at once, where there are any.
    pub(super) fn clear_outer(&self, outer: &[(&'static str, u32)]) -> Result<()> {
        self.change_outer("clear", outer.iter().copied(), |fd, at| {
            // Removing what is not there would wait for a grace period too.
            match entries::get::<u32, u32>(fd, &at)? {
                Some(_) => entries::remove(fd, &at).map(drop),
                None => Ok(()),
            }
        })
    }

    /// Makes each change in a thread of its own, so that all wait for the same grace period.
    fn change_outer<T: Send>(
        &self,
        operation: &str,
        changes: impl Iterator<Item = (&'static str, T)>,
        change: impl Fn(BorrowedFd<'_>, T) -> std::io::Result<()> + Sync,
    ) -> Result<()> {
        let change = &change;
        std::thread::scope(|scope| {
            let threads: Vec<_> = changes
                .map(|(name, what)| {
                    let fd = self.fd(name);
                    (name, scope.spawn(move || change(fd, what)))
                })
                .collect();
            threads.into_iter().try_for_each(|(name, thread)| {
                let done = thread.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
                done.context(format_args!("{operation} map {name}"))
            })
        })
    }

    /// Frees the tables of an interface.
    ///
    /// # Errors
    /// A map cannot be written, or a pin cannot be removed.
    pub fn remove_interface_tables(&mut self, slot: u16) -> Result<()> {
        let outer: Vec<_> = Own::every().map(|one| (one.outer(), one.index(slot))).collect();
        self.clear_outer(&outer)?;
        remove(&self.pins, slot)?;
        self.bloom_in_use.set(u32::from(slot), 0, 0).context("write map BLOOM_IN_USE")
    }
}
