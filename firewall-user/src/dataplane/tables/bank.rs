//! A bank: one set of the tables that hold an interface's policy.
//!
//! An interface has two banks. The class of a prefix and the row of a class are stored twice in a bank,
//! once per half; pages of port ranges are shared. The active word names the bank and the half that
//! packets use:
//!
//! ```text
//!            bank 0                      bank 1
//!   prefix -> [class  class ]   prefix -> [class  class ]
//!   class  -> [row    row   ]   class  -> [row    row   ]
//!              half 0 half 1               half 0 half 1
//! ```
//!
//! A small change is written into the other half of the active bank, a large one into both halves of
//! the other bank; either becomes active with one write of the active word. A filter is a bank that is
//! never changed.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, MapData, MapError};
use firewall_ebpf::abi::filter::filter_index;
use firewall_ebpf::abi::limits::{MAX_CLASSES, MAX_PAGES, MAX_PREFIXES};
use firewall_ebpf::abi::policy::{Class, Half, Page, index};
use firewall_ebpf::abi::prefix::Prefix;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::entries;
use crate::dataplane::sys::memory::memory;
use crate::dataplane::sys::unpin::unpin;
use crate::policy::CompiledPolicy;
use crate::policy::delta::{self, PrefixWrites, Room, Writes};

/// `BPF_F_NO_PREALLOC`, which a trie must have.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_INNER_MAP`: inner arrays may differ in size.
const INNER_MAP: u32 = 1 << 12;

/// A [`Record`] as an entry of the map `BANKS`.
pub(super) type RawRecord = [u64; 4];

/// What a bank holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The digest of the policy in each half; 0 while a new policy is written into the half, and if it
    /// has none. After a flip the inactive half keeps its old digest until it equals the active one: only
    /// a bank with equal digests is changed in place.
    pub(super) digests: [u64; 2],
    /// What is free.
    pub(super) room: Room,
}

impl From<Record> for RawRecord {
    fn from(record: Record) -> Self {
        let Room { next_class, classes, next_word, pages } = record.room;
        let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let [first, second] = record.digests;
        [first, second, pair(next_class, classes), pair(next_word, pages)]
    }
}

impl From<RawRecord> for Record {
    fn from([first, second, class, word]: RawRecord) -> Self {
        let halves = |pair: u64| {
            let half = |half: u64| u32::try_from(half & 0xffff_ffff).unwrap_or(0);
            (half(pair), half(pair >> 32))
        };
        let ((next_class, classes), (next_word, pages)) = (halves(class), halves(word));
        Self { digests: [first, second], room: Room { next_class, classes, next_word, pages } }
    }
}

/// The tables of a bank, as the outer maps name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    PrefixesV4,
    PrefixesV6,
    Classes,
    Ranges,
}

impl Table {
    pub(super) const ALL: [Self; 4] =
        [Self::PrefixesV4, Self::PrefixesV6, Self::Classes, Self::Ranges];

    /// The name of the outer map.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PrefixesV4 => "PREFIXES_V4",
            Self::PrefixesV6 => "PREFIXES_V6",
            Self::Classes => "CLASSES",
            Self::Ranges => "RANGES",
        }
    }
}

/// Whose tables they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One of the two banks of a slot.
    Bank(u16, u32),
    /// The filter of this number.
    Filter(u16),
}

impl Place {
    /// Index in the outer maps.
    pub(super) const fn index(self) -> u32 {
        match self {
            Self::Bank(slot, number) => index(slot, number),
            Self::Filter(number) => filter_index(number),
        }
    }

    fn pin(self, pins: &Pins, table: Table) -> PathBuf {
        match self {
            Self::Bank(slot, number) => pins.table(slot, number, table.name()),
            Self::Filter(number) => pins.filter_table(number, table.name()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bank(slot, _) => write!(out, "slot {slot}"),
            Self::Filter(number) => write!(out, "filter {number}"),
        }
    }
}

/// The opened tables of a bank.
#[derive(Debug)]
pub(super) struct Bank {
    place: Place,
    /// In the order of [`Table::ALL`].
    tables: [MapData; 4],
}

impl Bank {
    /// Creates the tables with a policy in both halves. No program refers to them yet.
    pub(super) fn create(
        pins: &Pins,
        place: Place,
        policy: &CompiledPolicy,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Self, Room)> {
        remove(pins, place)?;
        let (writes, room) = complete(policy)?;
        for table in Table::ALL {
            let pin = place.pin(pins, table);
            let what = format!("create table {} of {place}", table.name());
            match table {
                Table::PrefixesV4 => trie::<[u8; 4]>().context(&what)?.pin(pin),
                Table::PrefixesV6 => trie::<[u8; 16]>().context(&what)?.pin(pin),
                Table::Classes => array::<[Class; 2]>(room.classes).context(&what)?.pin(pin),
                Table::Ranges => array::<Page>(room.pages).context(&what)?.pin(pin),
            }
            .context(what)?;
        }
        let bank = Self::open(pins, place)?.ok_or_else(|| {
            DataplaneError::new(format!("tables of {place}: removed meanwhile"), "try again")
        })?;
        bank.write(&writes, progress)?;
        Ok((bank, room))
    }

    /// Opens the tables; `None` if one does not exist.
    pub(super) fn open(pins: &Pins, place: Place) -> Result<Option<Self>> {
        if Table::ALL.iter().any(|table| !place.pin(pins, *table).exists()) {
            return Ok(None);
        }
        let open = |table: Table| {
            let path = place.pin(pins, table);
            MapData::from_pin(&path).context(format!("open table {}", path.display()))
        };
        let [v4, v6, classes, ranges] = Table::ALL.map(open);
        Ok(Some(Self { place, tables: [v4?, v6?, classes?, ranges?] }))
    }

    /// Index in the outer maps.
    pub(super) const fn index(&self) -> u32 {
        self.place.index()
    }

    /// Which bank of its slot it is; 0 for a filter.
    pub(super) const fn number(&self) -> u32 {
        match self.place {
            Place::Bank(_, number) => number,
            Place::Filter(_) => 0,
        }
    }

    /// A table's file descriptor, as the outer maps take it.
    pub(super) fn descriptor(&self, table: Table) -> u32 {
        // Never negative.
        u32::try_from(self.fd(table).as_raw_fd()).unwrap_or(u32::MAX)
    }

    /// The memory of the tables in bytes; `None` before Linux 6.4.
    pub(super) fn memory(&self) -> Option<u64> {
        Table::ALL.into_iter().map(|table| memory(self.fd(table))).sum()
    }

    fn fd(&self, table: Table) -> BorrowedFd<'_> {
        self.tables[table as usize].fd().as_fd()
    }

    /// Writes into the tables; `progress` is called with the size of every batch of entries.
    pub(super) fn write(&self, writes: &Writes, progress: &mut dyn FnMut(usize)) -> Result<()> {
        let Writes { pages, rows, v4, v6 } = writes;
        let what = |table: Table| format!("write table {} of {}", table.name(), self.place);
        let (classes, ranges) = (self.fd(Table::Classes), self.fd(Table::Ranges));
        entries::put_all(ranges, pages.iter().copied(), progress).context(what(Table::Ranges))?;
        entries::put_all(classes, rows.iter().copied(), progress).context(what(Table::Classes))?;
        prefixes(self.fd(Table::PrefixesV4), v4, progress).context(what(Table::PrefixesV4))?;
        prefixes(self.fd(Table::PrefixesV6), v6, progress).context(what(Table::PrefixesV6))
    }
}

/// Writes into a trie.
pub(super) fn prefixes<const N: usize>(
    trie: BorrowedFd<'_>,
    writes: &PrefixWrites<N>,
    progress: &mut dyn FnMut(usize),
) -> std::io::Result<()>
where
    [u8; N]: Pod,
{
    let put = writes.put.iter().map(|(prefix, classes)| (key(prefix), *classes));
    entries::put_all(trie, put, progress)?;
    let removed: Vec<_> = writes.removed.iter().map(key).collect();
    entries::remove_all(trie, &removed, progress)
}

fn key<const N: usize>(prefix: &Prefix<N>) -> Key<[u8; N]>
where
    [u8; N]: Pod,
{
    Key::new(u32::from(prefix.length()), prefix.octets())
}

/// Removes the pins of a bank's tables; the outer maps may still refer to them.
pub(super) fn remove(pins: &Pins, place: Place) -> Result<()> {
    Table::ALL.iter().try_for_each(|table| unpin(&place.pin(pins, *table)))
}

/// The complete policy, for both halves, with some room for changes.
fn complete(policy: &CompiledPolicy) -> Result<(Writes, Room)> {
    let (arena, rows) = policy.lay_out();
    let next_word = arena.next;
    let writes = Writes {
        pages: (0..).zip(arena.pages).collect(),
        rows: (0..).zip(rows.into_iter().map(|row| [row; 2])).collect(),
        v4: all_prefixes(&policy.prefixes_v4),
        v6: all_prefixes(&policy.prefixes_v6),
    };
    let count = |entries: usize| u32::try_from(entries).unwrap_or(u32::MAX);
    let (classes, pages) = (count(writes.rows.len()), count(writes.pages.len()));
    if pages > MAX_PAGES {
        return Err(DataplaneError::new(
            format!("policy: {pages} pages of port ranges, {} more than fit", pages - MAX_PAGES),
            "fewer rules on the interface make it smaller",
        ));
    }
    let room = Room {
        next_class: classes,
        classes: (classes + classes / 4 + 64).min(2 * MAX_CLASSES),
        next_word,
        pages: pages + pages / 4 + 4,
    };
    Ok((writes, room))
}

fn all_prefixes<const N: usize>(
    prefixes: &std::collections::BTreeMap<Prefix<N>, u32>,
) -> PrefixWrites<N> {
    let put = prefixes.iter().map(|(prefix, class)| (*prefix, [*class; 2])).collect();
    PrefixWrites { put, removed: Vec::new() }
}

/// A trie with two values for each prefix.
pub(super) fn trie<K: Pod>() -> std::result::Result<LpmTrie<MapData, K, [u32; 2]>, MapError> {
    LpmTrie::create(MAX_PREFIXES, NO_PREALLOC)
}

fn array<T: Pod>(entries: u32) -> std::result::Result<Array<MapData, T>, MapError> {
    Array::create(entries, INNER_MAP)
}

/// A bank with its active half, as the planning of a change reads it.
#[derive(Debug)]
pub(super) struct ActiveBank<'a> {
    pub(super) bank: &'a Bank,
    pub(super) tables: Half,
    pub(super) room: Room,
}

impl ActiveBank<'_> {
    fn lookup<K: Pod, V: Pod>(&self, table: Table, key: &K) -> Result<V> {
        let what = || format!("read table {} of {}", table.name(), self.bank.place);
        entries::get(self.bank.fd(table), key).context(what())?.ok_or_else(|| {
            DataplaneError::new(
                format!("{}: an entry is missing", what()),
                "the tables do not match their record: `secgroup reconcile` writes them again",
            )
        })
    }

    fn half_of<T: Copy>(&self, both: [T; 2]) -> T {
        both[delta::Bank::half(self)]
    }
}

impl delta::Bank for ActiveBank<'_> {
    type Error = DataplaneError;

    fn half(&self) -> usize {
        usize::from(self.tables.half != 0)
    }

    fn room(&self) -> Room {
        self.room
    }

    fn class_v4(&self, prefix: &Prefix<4>) -> Result<u32> {
        Ok(self.half_of(self.lookup(Table::PrefixesV4, &key(prefix))?))
    }

    fn class_v6(&self, prefix: &Prefix<16>) -> Result<u32> {
        Ok(self.half_of(self.lookup(Table::PrefixesV6, &key(prefix))?))
    }

    fn row(&self, class: u32) -> Result<Class> {
        Ok(self.half_of(self.lookup(Table::Classes, &class)?))
    }

    fn page(&self, number: u32) -> Result<Page> {
        self.lookup(Table::Ranges, &number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_the_whole_digest_of_each_half() {
        let room = Room { next_class: 1, classes: u32::MAX, next_word: 3, pages: 4 };
        let record = Record { digests: [u64::MAX, 0x0123_4567_89ab_cdef], room };
        assert_eq!(Record::from(RawRecord::from(record)), record);
        assert_eq!(Record::from(RawRecord::default()), Record::default());
    }
}
