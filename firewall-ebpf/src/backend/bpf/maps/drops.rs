//! A word for each interface that tells a flood of drops, and one that tells which of its packets are recorded.

use core::cell::UnsafeCell;

use firewall_ebpf::abi::limits::MAX_INTERFACES;
use firewall_ebpf::abi::record::Watch;

/// One more than this number of drops in a jiffy is a flood: 4,000 a second with 250 jiffies a second.
/// A power of two, minus one.
const FLOOD_THRESHOLD: u64 = 15;

/// By interface, a cache line each: the jiffy of the last drop, and in the lowest bits the number of packets that
/// were dropped in it, minus one, up to [`FLOOD_THRESHOLD`]; and a `Watch`. Not a map of its own but a
/// variable, which programs read without a lookup; userspace pins the map that holds it, so that all
/// programs have the same. Not an atomic, because the target has no atomic load.
static DROPS: Drops = Drops(UnsafeCell::new([[0; 8]; MAX_INTERFACES as usize]));

struct Drops(UnsafeCell<[[u64; 8]; MAX_INTERFACES as usize]>);

// SAFETY: no reference to the words exists, and their reads and writes are volatile and aligned, and so
// never torn.
unsafe impl Sync for Drops {}

/// The word of an interface.
#[inline(always)]
fn drops(slot: u16) -> *mut u64 {
    let line = usize::from(slot) % MAX_INTERFACES as usize;
    // SAFETY: within the array.
    unsafe { DROPS.0.get().cast::<u64>().add(line * 8) }
}

/// Whether more than [`FLOOD_THRESHOLD`] packets of an interface were dropped in this jiffy or the one
/// before.
#[inline(always)]
pub(in crate::backend::bpf) fn under_flood(slot: u16, now: impl FnOnce() -> u64) -> bool {
    // SAFETY: see `Drops`.
    let word = unsafe { drops(slot).read_volatile() };
    word & FLOOD_THRESHOLD == FLOOD_THRESHOLD && word / (FLOOD_THRESHOLD + 1) + 1 >= now()
}

/// Which packets of an interface are recorded.
#[inline(always)]
pub(in crate::backend::bpf) fn watch(slot: u16) -> Watch {
    // SAFETY: see `Drops`; the second word of the line.
    Watch(unsafe { drops(slot).add(1).read_volatile() })
}

/// Sets which packets of an interface are recorded.
#[inline(always)]
pub(in crate::backend::bpf) fn set_watch(slot: u16, watch: Watch) {
    // SAFETY: as above. Only `sg_set_active` writes it, and programs read the word before or after.
    unsafe { drops(slot).add(1).write_volatile(watch.0) };
}

/// Notes that a packet is dropped. Writes about 16 times in a jiffy, so that CPUs do not transfer
/// the cache line for each packet; where two of them write at once, one drop is not noted, and the next one
/// is. Returns whether the packet is to be recorded.
#[inline(always)]
pub(in crate::backend::bpf) fn note_drop(slot: u16, now: u64) -> bool {
    let word = drops(slot);
    // SAFETY: see `Drops`.
    unsafe {
        let last = word.read_volatile();
        if last / (FLOOD_THRESHOLD + 1) != now {
            word.write_volatile(now * (FLOOD_THRESHOLD + 1));
        } else if last & FLOOD_THRESHOLD != FLOOD_THRESHOLD {
            word.write_volatile(last + 1);
        }
    }
    watch(slot).has(Watch::DROPS, now)
}
