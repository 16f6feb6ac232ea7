//! One set of the tables that hold an interface's policy.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, MapData, MapError};
use firewall_ebpf::limits::{MAX_CLASSES, MAX_PAGES, MAX_PREFIXES};
use firewall_ebpf::policy::{Class, Half, Page, index};
use firewall_ebpf::prefix::Prefix;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::{self, Pins};
use crate::dataplane::sys::{self, entries};
use crate::policy::CompiledPolicy;
use crate::policy::delta::{self, PrefixWrites, Room, Writes};

/// `BPF_F_NO_PREALLOC`, which a trie must have.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_INNER_MAP`: inner arrays may differ in size.
const INNER_MAP: u32 = 1 << 12;

/// What is noted of a bank: see [`Record`].
pub(super) type Note = [u64; 3];

/// What is known of the contents of a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Of the policy that both halves hold; 0 while they differ, or when nothing is known.
    pub(super) digest: u64,
    /// What is free.
    pub(super) room: Room,
}

impl From<Record> for Note {
    fn from(record: Record) -> Self {
        let Room { next_class, classes, next_word, pages } = record.room;
        let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        [record.digest, pair(next_class, classes), pair(next_word, pages)]
    }
}

impl From<Note> for Record {
    fn from([digest, class, word]: Note) -> Self {
        let halves = |pair: u64| {
            let half = |half: u64| u32::try_from(half & 0xffff_ffff).unwrap_or(0);
            (half(pair), half(pair >> 32))
        };
        let ((next_class, classes), (next_word, pages)) = (halves(class), halves(word));
        Self { digest, room: Room { next_class, classes, next_word, pages } }
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

/// The opened tables of a bank.
#[derive(Debug)]
pub(super) struct Bank {
    slot: u16,
    number: u32,
    /// In the order of [`Table::ALL`].
    tables: [MapData; 4],
}

impl Bank {
    /// Makes the tables with a policy in both halves. Nothing refers to them yet.
    pub(super) fn make(
        pins: &Pins,
        (slot, number): (u16, u32),
        policy: &CompiledPolicy,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Self, Room)> {
        remove(pins, slot, number)?;
        let (writes, room) = whole(policy)?;
        for table in Table::ALL {
            let pin = pins.table(slot, number, table.name());
            let what = format!("make table {} of slot {slot}", table.name());
            match table {
                Table::PrefixesV4 => trie::<[u8; 4]>().context(&what)?.pin(pin),
                Table::PrefixesV6 => trie::<[u8; 16]>().context(&what)?.pin(pin),
                Table::Classes => array::<[Class; 2]>(room.classes).context(&what)?.pin(pin),
                Table::Ranges => array::<Page>(room.pages).context(&what)?.pin(pin),
            }
            .context(what)?;
        }
        let bank = Self::open(pins, slot, number)?.ok_or_else(|| {
            DataplaneError::new(format!("tables of slot {slot}: vanished"), "try again")
        })?;
        bank.write(&writes, progress)?;
        Ok((bank, room))
    }

    /// Opens the tables, if they are all there.
    pub(super) fn open(pins: &Pins, slot: u16, number: u32) -> Result<Option<Self>> {
        if Table::ALL.iter().any(|table| !pins.table(slot, number, table.name()).exists()) {
            return Ok(None);
        }
        let open = |table: Table| {
            let path = pins.table(slot, number, table.name());
            MapData::from_pin(&path).context(format!("open table {}", path.display()))
        };
        let [v4, v6, classes, ranges] = Table::ALL.map(open);
        Ok(Some(Self { slot, number, tables: [v4?, v6?, classes?, ranges?] }))
    }

    /// Index in the outer maps.
    pub(super) const fn index(&self) -> u32 {
        index(self.slot, self.number)
    }

    /// A table as the outer maps take it.
    pub(super) fn descriptor(&self, table: Table) -> u32 {
        // Never negative.
        u32::try_from(self.fd(table).as_raw_fd()).unwrap_or(u32::MAX)
    }

    /// Bytes that the tables take.
    pub(super) fn memory(&self) -> Option<u64> {
        Table::ALL.into_iter().map(|table| sys::memory(self.fd(table))).sum()
    }

    fn fd(&self, table: Table) -> BorrowedFd<'_> {
        self.tables[table as usize].fd().as_fd()
    }

    /// Writes into the tables; `progress` hears of every batch of entries.
    pub(super) fn write(&self, writes: &Writes, progress: &mut dyn FnMut(usize)) -> Result<()> {
        let Writes { pages, rows, v4, v6 } = writes;
        let what = |table: Table| format!("write table {} of slot {}", table.name(), self.slot);
        let (classes, ranges) = (self.fd(Table::Classes), self.fd(Table::Ranges));
        entries::put_all(ranges, pages.iter().copied(), progress).context(what(Table::Ranges))?;
        entries::put_all(classes, rows.iter().copied(), progress).context(what(Table::Classes))?;
        prefixes(self.fd(Table::PrefixesV4), v4, progress).context(what(Table::PrefixesV4))?;
        prefixes(self.fd(Table::PrefixesV6), v6, progress).context(what(Table::PrefixesV6))
    }
}

/// Writes into a trie.
fn prefixes<const N: usize>(
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

/// Forgets the tables of a bank; the outer maps may still hold them.
pub(super) fn remove(pins: &Pins, slot: u16, number: u32) -> Result<()> {
    Table::ALL.iter().try_for_each(|table| pins::remove(&pins.table(slot, number, table.name())))
}

/// All that a policy is, for both halves, with some room for changes.
fn whole(policy: &CompiledPolicy) -> Result<(Writes, Room)> {
    let (arena, rows) = policy.lay_out();
    let next_word = arena.next;
    let writes = Writes {
        pages: (0..).zip(arena.pages).collect(),
        rows: (0..).zip(rows.into_iter().map(|row| [row; 2])).collect(),
        v4: everything(&policy.prefixes_v4),
        v6: everything(&policy.prefixes_v6),
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

fn everything<const N: usize>(
    prefixes: &std::collections::BTreeMap<Prefix<N>, u32>,
) -> PrefixWrites<N> {
    let put = prefixes.iter().map(|(prefix, class)| (*prefix, [*class; 2])).collect();
    PrefixWrites { put, removed: Vec::new() }
}

fn trie<K: Pod>() -> std::result::Result<LpmTrie<MapData, K, [u32; 2]>, MapError> {
    LpmTrie::create(MAX_PREFIXES, NO_PREALLOC)
}

fn array<T: Pod>(entries: u32) -> std::result::Result<Array<MapData, T>, MapError> {
    Array::create(entries, INNER_MAP)
}

/// A bank whose half is in force, for a plan to look into.
#[derive(Debug)]
pub(super) struct InForce<'a> {
    pub(super) bank: &'a Bank,
    pub(super) tables: Half,
    pub(super) room: Room,
}

impl InForce<'_> {
    fn lookup<K: Pod, V: Pod>(&self, table: Table, key: &K) -> Result<V> {
        let slot = self.bank.slot;
        let what = || format!("read table {} of slot {slot}", table.name());
        entries::get(self.bank.fd(table), key).context(what())?.ok_or_else(|| {
            DataplaneError::new(
                format!("{}: an entry is missing", what()),
                "the tables are not what was noted of them: `secgroup reconcile` writes them anew",
            )
        })
    }

    fn half_of<T: Copy>(&self, both: [T; 2]) -> T {
        both[delta::Bank::half(self)]
    }
}

impl delta::Bank for InForce<'_> {
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
