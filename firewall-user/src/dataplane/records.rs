//! Records of packets that were dropped, or passed without a flow: reading them, asking for them, and what became
//! of the packets that were to be recorded. How the kernel program makes them: `backend/bpf/records.rs` there.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use aya::util::online_cpus;
use firewall_ebpf::abi::reason::{Verdict, verdict};
use firewall_ebpf::abi::record::{
    self, ACCOUNTS_EACH, CELLS, Cell, Count, FLUSH_ALL, FLUSH_SELF_TEST,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::helper;
use crate::dataplane::sys::mapped::Mapped;
use crate::dataplane::tables::active::{Word, set_words};
use crate::dataplane::tables::clock;
use crate::dataplane::tables::maps::Maps;

/// A record as the kernel program writes it.
pub type RawRecord = record::Record;

/// The ring buffer of records. It has one reader: what one reads is gone for any other.
pub struct Ring {
    buffer: RingBuf<MapData>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// Opens the pinned ring buffer.
    ///
    /// # Errors
    /// It does not exist, or cannot be mapped.
    pub fn open(pins: &Pins) -> Result<Self> {
        let map = MapData::from_pin(pins.map("RECORDS")).context("open map RECORDS")?;
        let buffer = Map::RingBuf(map).try_into().context("open map RECORDS")?;
        Ok(Self { buffer })
    }

    /// Takes up to `limit` records out, oldest first, without waiting; fewer if there are no more.
    ///
    /// # Errors
    /// What is in the buffer is not a record: another build's program wrote it.
    pub fn read(&mut self, limit: usize) -> Result<Vec<RawRecord>> {
        let mut records = Vec::new();
        while records.len() < limit {
            let Some(item) = self.buffer.next() else { break };
            if item.len() != size_of::<RawRecord>() {
                if !records.is_empty() {
                    // Those before it are not to be lost.
                    break;
                }
                return Err(DataplaneError::new(
                    format!("read map RECORDS: an entry of {} bytes is no record", item.len()),
                    "",
                ));
            }
            // SAFETY: as many bytes as the type has, which has no padding and is plain integers.
            records.push(unsafe { item.as_ptr().cast::<RawRecord>().read_unaligned() });
        }
        Ok(records)
    }

    /// Waits until there are records, or for some time; returns whether there are.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        // Interrupted by a signal, there may be some.
        poll(&mut fds, limit) != Ok(0)
    }

    /// The file descriptor, which is readable while there are records.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.buffer.as_fd()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// Which packets of an interface are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Those that are dropped, or would be without audit mode.
    pub drops: bool,
    /// Those that pass without a flow: `admitted` and `untracked`.
    pub passes: bool,
}

/// Has packets of interfaces recorded from now on, for some time; again with each call, which replaces the one
/// before. Nothing else needs to be done for it to end.
///
/// # Errors
/// A pinned program cannot be run.
pub fn watch(maps: &Maps, slots: &[u16], watch: Watch, time: Duration) -> Result<()> {
    let jiffies = time.as_millis() * u128::from(clock::hz()) / 1000;
    let deadline = clock::now(&maps.pins, maps)?
        .saturating_add(u64::try_from(jiffies).unwrap_or(u64::MAX))
        .saturating_add(1)
        .min(u64::MAX >> 8);
    let drops = if watch.drops { record::Watch::DROPS } else { 0 };
    let passes = if watch.passes { record::Watch::PASSES } else { 0 };
    let word = record::Watch::new(drops | passes, deadline);
    let words = slots.iter().map(|slot| Word::Watch(*slot, word)).collect::<Vec<_>>();
    set_words(&maps.pins, &words)
}

/// What a flush does besides writing what there are tokens for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// It writes a record for each CPU with [`record::SELF_TEST`], of which [`record::Key::decided_by`] is the CPU.
    pub self_test: bool,
    /// It writes all: at the end, so that no packet is left in a cell.
    pub all: bool,
}

/// Writes records of the packets that the cells of every CPU hold. What there is no token for stays there, unless
/// everything is to be written. Returns the number of records.
///
/// # Errors
/// The pinned program cannot be run on a CPU; the others are flushed all the same. One that this process may not use
/// (its cpuset) is passed over, unless that is all: packets stay in its cells until the next of their tuples.
pub fn flush(pins: &Pins, flush: Flush) -> Result<u64> {
    let self_test = if flush.self_test { FLUSH_SELF_TEST } else { 0 };
    let all = if flush.all { FLUSH_ALL } else { 0 };
    let list = helper::list(self_test | all);
    let cpus = online_cpus().map_err(|(_, error)| error).context("list CPUs")?;
    // A thread of its own, which ends with the CPU that it was bound to last.
    let on_cpus = || -> Result<u64> {
        let (mut written, mut refused, mut failed) = (0, None, None);
        let mut ran = false;
        for cpu in cpus {
            if let Err(error) = run_on(cpu) {
                refused = Some(error);
                continue;
            }
            ran = true;
            match helper::run(&pins.flush_records(), "flush_records", &list, None) {
                Ok(run) => written += u64::from(run),
                Err(error) => failed = Some(error),
            }
        }
        match (failed, refused) {
            (Some(error), _) => Err(error),
            (None, Some(error)) if !ran => Err(error).context("run on a CPU"),
            _ => Ok(written),
        }
    };
    let flushed = thread::scope(|scope| scope.spawn(on_cpus).join());
    flushed.unwrap_or_else(|_| Err(DataplaneError::new("run program flush_records", "")))
}

/// Moves this thread to a CPU.
fn run_on(cpu: u32) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(usize::try_from(cpu).unwrap_or(usize::MAX))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Ends the records of an interface that is detached, and writes those that its packets are still to have.
pub(in crate::dataplane) fn end(pins: &Pins, slot: u16) -> Result<()> {
    set_words(pins, &[Word::Watch(slot, record::Watch::default())])?;
    flush(pins, Flush { all: true, ..Flush::default() }).map(|_| ())
}

/// What became of the packets of an interface that were to be recorded, on all CPUs together and since the maps were
/// made: `seen` is the sum of packets in records, `lost` and `in_cells`. Each is of two kinds of packets, those that
/// were dropped, or would have been, and those that passed without a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The interface.
    pub slot: u16,
    /// Packets.
    pub seen: [u64; 2],
    /// Of them, those that no record has: there were too many records, or the ring buffer was full.
    pub lost: [u64; 2],
    /// Of them, those that no record has yet.
    pub in_cells: [u64; 2],
}

/// The accounts of every slot, in order; those of slots that were never watched are zeros. They are read one after
/// the other, so their sums are exact only while no packets come.
///
/// # Errors
/// A map cannot be read.
pub fn accounts(maps: &Maps) -> Result<Vec<Account>> {
    let mut accounts = Vec::new();
    for slot in 0..u16::try_from(maps.sizes.interfaces).unwrap_or(u16::MAX) {
        let mut account = Account { slot, ..Account::default() };
        for kind in 0..2 {
            let at = u32::from(slot) * ACCOUNTS_EACH + u32::from(kind == 1);
            let on_cpus = maps.record_accounts.get(&at, 0).context("read map RECORD_ACCOUNTS")?;
            for one in on_cpus.iter() {
                account.seen[kind] += one.seen;
                account.lost[kind] += one.lost;
            }
        }
        accounts.push(account);
    }
    for (slot, reason, packets) in cells(maps)? {
        if let Some(account) = accounts.get_mut(usize::from(slot)) {
            account.in_cells[usize::from(verdict(reason.into()) == Verdict::Pass)] += packets;
        }
    }
    Ok(accounts)
}

/// Slot, number of the reason, and packets of the cells that hold some.
fn cells(maps: &Maps) -> Result<Vec<(u16, u8, u64)>> {
    const WORDS: usize = size_of::<Cell>() / 8;
    const KEY: usize = std::mem::offset_of!(record::Key, slot) / 8;
    const ADDED: usize = std::mem::offset_of!(Cell, added) / 8;
    const TAKEN: usize = std::mem::offset_of!(Cell, taken) / 8;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error).context("count CPUs")?;
    let number = cpus * usize::try_from(CELLS).unwrap_or(0);
    let map = Mapped::new(maps.fd("RECORD_CELLS"), number * WORDS);
    let map = map.context("map RECORD_CELLS")?;
    let load = |at: usize| map.words()[at].load(std::sync::atomic::Ordering::Relaxed);
    let cells = (0..number).map(|cell| cell * WORDS).filter_map(|at| {
        let packets = Count(load(at + ADDED)).since(Count(load(at + TAKEN))).packets();
        // In the word of device, slot, reason and flags; the target is little-endian.
        let word = load(at + KEY);
        let (slot, reason) = ((word >> 32 & 0xffff) as u16, (word >> 48 & 0xff) as u8);
        (packets != 0).then_some((slot, reason, packets))
    });
    Ok(cells.collect())
}
