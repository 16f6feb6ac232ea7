//! Settings that are constant after an interface's programs are loaded: the loader overrides these
//! symbols and freezes them, so that the verifier removes branches that the interface does not use.
//! Also the drop counter that the interface's programs share.

use core::cell::UnsafeCell;

use aya_ebpf::Global;
use firewall_ebpf::abi::interface::{NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::state::State;

#[unsafe(no_mangle)]
static SLOT: Global<u16> = Global::new(0);
#[unsafe(no_mangle)]
static ORIENTATION: Global<u8> = Global::new(Orientation::Host as u8);
#[unsafe(no_mangle)]
static ETHERNET: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static NON_IP: Global<u8> = Global::new(NonIp::Control as u8);
#[unsafe(no_mangle)]
static TCP_CHECKS: Global<u8> = Global::new(TcpChecks::Guard as u8);
#[unsafe(no_mangle)]
static FAST_PATH: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static TCP_LOOSE: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static REVALIDATE: Global<u8> = Global::new(0);
/// `abi::counter::rule_stripes` of the map of counters by rule.
#[unsafe(no_mangle)]
static RULE_STRIPES: Global<u32> = Global::new(1);
/// `abi::counter::rule_stride`.
#[unsafe(no_mangle)]
static RULE_STRIDE: Global<u32> = Global::new(0);
/// Jiffies.
#[unsafe(no_mangle)]
static FRAGMENT_TIMEOUT: Global<u64> = Global::new(0);
/// Jiffies by state.
#[unsafe(no_mangle)]
static TIMEOUTS: [u64; TIMEOUT_SPACE] = [0; TIMEOUT_SPACE];

/// The jiffy of the last drop, and in the lowest bits the number of the interface's packets that were
/// dropped in it, minus one, up to [`FLOOD_THRESHOLD`]. Not an atomic, because the target has no atomic
/// load.
static DROPS: Shared = Shared(UnsafeCell::new(0));

/// One more than this number of drops in a jiffy is a flood: 4,000 a second with 250 jiffies a second.
/// A power of two, minus one.
const FLOOD_THRESHOLD: u64 = 15;

/// A word that every CPU reads and writes as a whole.
struct Shared(UnsafeCell<u64>);

// SAFETY: no reference to the word exists, and its reads and writes are volatile and aligned, and so
// never torn.
unsafe impl Sync for Shared {}

/// Whether more than [`FLOOD_THRESHOLD`] packets were dropped in this jiffy or the one before.
#[inline(always)]
pub(super) fn under_flood(now: impl FnOnce() -> u64) -> bool {
    // SAFETY: see `Shared`.
    let word = unsafe { DROPS.0.get().read_volatile() };
    word & FLOOD_THRESHOLD == FLOOD_THRESHOLD && word / (FLOOD_THRESHOLD + 1) + 1 >= now()
}

/// Records that a packet is dropped. Writes about 16 times in a jiffy, so that CPUs do not transfer
/// the cache line for each packet; where two of them write at once, one drop is not recorded, and the
/// next one is.
#[inline(always)]
pub(super) fn record_drop(now: u64) {
    let word = DROPS.0.get();
    // SAFETY: see `Shared`.
    unsafe {
        let last = word.read_volatile();
        if last / (FLOOD_THRESHOLD + 1) != now {
            word.write_volatile(now * (FLOOD_THRESHOLD + 1));
        } else if last & FLOOD_THRESHOLD != FLOOD_THRESHOLD {
            word.write_volatile(last + 1);
        }
    }
}

/// A power of two, so that an index can be masked into bounds.
const TIMEOUT_SPACE: usize = 16;
const _: () = assert!(State::ALL.len() <= TIMEOUT_SPACE);

/// The attachment number.
#[inline(always)]
pub(super) fn slot() -> u16 {
    SLOT.load()
}

/// Which end of the device is protected.
#[inline(always)]
pub(super) fn orientation() -> Orientation {
    if ORIENTATION.load() == Orientation::Guest as u8 {
        Orientation::Guest
    } else {
        Orientation::Host
    }
}

/// Whether frames start with an Ethernet header.
#[inline(always)]
pub(super) fn has_ethernet() -> bool {
    ETHERNET.load() != 0
}

/// Which frames that are not IP pass.
#[inline(always)]
pub(super) fn non_ip() -> NonIp {
    NonIp::from_number(NON_IP.load())
}

/// How closely TCP is checked.
#[inline(always)]
pub(super) fn tcp_checks() -> TcpChecks {
    if TCP_CHECKS.load() == TcpChecks::Guard as u8 { TcpChecks::Guard } else { TcpChecks::Strict }
}

/// `interface::has_fast_path`.
#[inline(always)]
pub(super) fn has_fast_path() -> bool {
    FAST_PATH.load() != 0
}

/// Whether TCP connections are picked up mid-stream.
#[inline(always)]
pub(super) fn tcp_loose() -> bool {
    TCP_LOOSE.load() != 0
}

/// Whether the policy is evaluated again for each flow after it has changed.
#[inline(always)]
pub(super) fn revalidates() -> bool {
    REVALIDATE.load() != 0
}

/// The first counter by rule in a CPU's stripe.
#[inline(always)]
pub(super) fn rule_stripe(cpu: u32) -> u32 {
    // `checked_rem`, because the target has no panic for a division by zero.
    cpu.checked_rem(RULE_STRIPES.load()).unwrap_or(0) * RULE_STRIDE.load()
}

/// For how long a first fragment stays valid, in jiffies.
#[inline(always)]
pub(super) fn fragment_timeout() -> u64 {
    FRAGMENT_TIMEOUT.load()
}

/// The idle timeout of a state, in jiffies.
#[inline(always)]
pub(super) fn timeout(state: State) -> u64 {
    let index = state as usize & (TIMEOUT_SPACE - 1);
    // SAFETY: the index is within the array. Volatile, because the loader changes the value after
    // compilation.
    unsafe { core::ptr::addr_of!(TIMEOUTS).cast::<u64>().add(index).read_volatile() }
}
