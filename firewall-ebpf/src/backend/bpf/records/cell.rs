//! The cells in which the packets of a key are counted, and how they are taken out as a record. `records.rs` says who
//! accesses a cell at once.

use core::intrinsics::atomic_xchg;

use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::record::{CELLS, Cell, Count, FRAME};

use super::super::maps::MMAPABLE;
use super::RELAXED;
use super::account::{account, lose, take_token};
use super::key::Words;
use super::ring::{RECORDS, finish};

/// By CPU, [`CELLS`] each. Not a per-CPU map: the kernel finds an entry of an array without a call.
#[btf_map]
pub(super) static RECORD_CELLS: Array<Cell, { CELLS as usize }, MMAPABLE> = Array::new();

#[inline(always)]
pub(super) fn has_key(cell: *const Cell, words: &Words) -> bool {
    // SAFETY: an entry of an array; a key has no padding.
    let present = unsafe { (&raw const (*cell).key).cast::<Words>() };
    let mut difference = 0;
    for (index, word) in words.iter().enumerate() {
        // SAFETY: as above.
        difference |= word ^ unsafe { (*present)[index] };
    }
    difference == 0
}

/// Takes the lock of a cell, and returns whether it was free.
///
/// # Safety
/// The cell is an entry of the array.
#[inline(always)]
pub(super) unsafe fn lock(cell: *mut Cell) -> bool {
    // SAFETY: the caller's.
    unsafe { atomic_xchg::<u32, RELAXED>(&raw mut (*cell).lock, 1) == 0 }
}

/// Releases it.
///
/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn unlock(cell: *mut Cell) {
    // SAFETY: the caller's.
    unsafe { (&raw mut (*cell).lock).write_volatile(0) };
}

/// The packets in a cell.
///
/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn present(cell: *const Cell) -> Count {
    // SAFETY: the caller's.
    unsafe { Count((&raw const (*cell).added).read_volatile()).since(Count((*cell).taken)) }
}

/// Takes the packets out of a cell.
///
/// # Safety
/// As above, and the caller has the lock.
#[inline(always)]
pub(super) unsafe fn take(cell: *mut Cell) -> Count {
    // SAFETY: the caller's.
    unsafe {
        let added = (&raw const (*cell).added).read_volatile();
        let count = Count(added).since(Count((*cell).taken));
        (*cell).taken = added;
        // The next packet is the first of another record.
        (*cell).first = (*cell).last;
        (*cell).due = 0;
        count
    }
}

/// Writes the record of a cell's packets and empties it; without room for the record they are lost. Returns the
/// number of records. The caller has the lock.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_write_cell(index: u32) -> u32 {
    let Some(cell) = RECORD_CELLS.get_ptr_mut(index) else { return 0 };
    write_cell(cell)
}

#[inline(always)]
fn write_cell(cell: *mut Cell) -> u32 {
    let Some(mut entry) = RECORDS.reserve(0) else {
        // SAFETY: an entry of the array, and the caller has the lock.
        unsafe {
            let count = take(cell);
            if let Some(account) = account((*cell).key.slot, (*cell).key.reason.into()) {
                lose(account, count.packets());
            }
        }
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: as above, and room for a record, every byte of which is written.
    unsafe {
        (*record).first = (*cell).first;
        (*record).last = (*cell).last;
        let key = (&raw const (*cell).key).cast::<Words>();
        (&raw mut (*record).key).cast::<Words>().write(*key);
        finish(record, (*cell).frame_length, (*cell).captured, (*cell).tcp_flags as u8);
        let (from, to) = (&raw const (*cell).frame, &raw mut (*record).frame);
        to.cast::<[u64; FRAME / 8]>().write(*from.cast());
        let count = take(cell);
        (*record).packets = count.packets();
        (*record).bytes = count.bytes();
    }
    entry.submit(0);
    1
}

/// Writes the record of a cell's packets if there are any, and with `all` = 0 only if there is a token for it;
/// returns the number of records.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_flush_cell(index: u32, all: u32) -> u32 {
    let Some(cell) = RECORD_CELLS.get_ptr_mut(index) else { return 0 };
    // SAFETY: an entry of the array.
    unsafe {
        if present(cell).0 == 0 || !lock(cell) {
            return 0;
        }
        let written = if present(cell).0 != 0 && (all != 0 || has_token(cell)) {
            write_cell(cell)
        } else {
            0
        };
        unlock(cell);
        written
    }
}

/// Takes a token for the record of a cell.
#[inline(always)]
fn has_token(cell: *const Cell) -> bool {
    // SAFETY: an entry of the array.
    let (slot, reason) = unsafe { ((*cell).key.slot, (*cell).key.reason) };
    // SAFETY: the helper takes no argument and has no effect.
    let now = unsafe { bpf_jiffies64() };
    account(slot, reason.into()).is_none_or(|account| take_token(account, now))
}
