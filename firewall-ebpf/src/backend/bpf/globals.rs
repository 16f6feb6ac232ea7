//! Constants of programs: the loader overrides these symbols and freezes them, so that the verifier
//! removes branches that a program never takes. Those of an interface's programs are all the settings
//! that the fast path reads; those of the slow path are of one of its variants.

use aya_ebpf::Global;
use firewall_ebpf::abi::interface::{
    Direction, Orientation, TIMEOUT_SPACE, TcpChecks, slow_path_index,
};
use firewall_ebpf::abi::record::{HASH_WORDS, TICK};
use firewall_ebpf::abi::state::State;

/// Index of the interface's `Settings`.
#[unsafe(no_mangle)]
static SETTINGS: Global<u16> = Global::new(0);
/// `interface::slow_path_index`'s base of the slow path.
#[unsafe(no_mangle)]
static SLOW_PATH: Global<u32> = Global::new(0);
/// Of the slow path: the direction of its packets.
#[unsafe(no_mangle)]
static DIRECTION: Global<u8> = Global::new(Direction::Ingress as u8);
/// Of the slow path.
#[unsafe(no_mangle)]
static TCP_CHECKS: Global<u8> = Global::new(TcpChecks::Guard as u8);
#[unsafe(no_mangle)]
static ORIENTATION: Global<u8> = Global::new(Orientation::Host as u8);
/// Of both paths.
#[unsafe(no_mangle)]
static ETHERNET: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static FAST_PATH: Global<u8> = Global::new(1);
/// Of both paths.
#[unsafe(no_mangle)]
static REVALIDATE: Global<u8> = Global::new(0);
/// Of both paths: `abi::counter::rule_stripes` of the map of counters by rule.
#[unsafe(no_mangle)]
static RULE_STRIPES: Global<u32> = Global::new(1);
/// Of both paths: `abi::counter::rule_stride`.
#[unsafe(no_mangle)]
static RULE_STRIDE: Global<u32> = Global::new(0);
/// The guest's MAC address as `port::mac_word` has it, or 0.
#[unsafe(no_mangle)]
static OWN_MAC: Global<u64> = Global::new(0);
/// Jiffies by state.
#[unsafe(no_mangle)]
static TIMEOUTS: [u64; TIMEOUT_SPACE] = [0; TIMEOUT_SPACE];

/// Of the programs that record packets: jiffies after which a cell is written.
#[unsafe(no_mangle)]
static RECORD_AGE: Global<u64> = Global::new(250);
/// Of them: what a record takes from the token bucket, in `record::TICK`s.
#[unsafe(no_mangle)]
static RECORD_COST: Global<u64> = Global::new(TICK);
/// Of them: what the bucket holds, in `record::TICK`s.
#[unsafe(no_mangle)]
static RECORD_BURST: Global<u64> = Global::new(250 * TICK);
/// Of them: two random numbers for each word of a `record::Key`.
#[unsafe(no_mangle)]
static HASH_KEYS: [[u32; 2]; HASH_WORDS] = [[0; 2]; HASH_WORDS];

/// Index of the interface's settings.
#[inline(always)]
pub(super) fn settings() -> u16 {
    SETTINGS.load()
}

/// The attachment number.
#[inline(always)]
pub(super) fn slot() -> u16 {
    SETTINGS.load() >> 1
}

/// Index of the program for the slow path of a direction.
#[inline(always)]
pub(super) fn slow_path(direction: Direction) -> u32 {
    slow_path_index(SLOW_PATH.load(), direction)
}

/// The direction of the packets of a slow path.
#[inline(always)]
pub(super) fn direction() -> Direction {
    if DIRECTION.load() == Direction::Egress as u8 { Direction::Egress } else { Direction::Ingress }
}

/// How closely a slow path checks TCP.
#[inline(always)]
pub(super) fn tcp_checks() -> TcpChecks {
    if TCP_CHECKS.load() == TcpChecks::Guard as u8 { TcpChecks::Guard } else { TcpChecks::Strict }
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

/// `interface::has_fast_path`.
#[inline(always)]
pub(super) fn has_fast_path() -> bool {
    FAST_PATH.load() != 0
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

/// The only source of a guest's frames, or 0.
#[inline(always)]
pub(super) fn own_mac() -> u64 {
    OWN_MAC.load()
}

/// The idle timeout of a state, in jiffies.
#[inline(always)]
pub(super) fn timeout(state: State) -> u64 {
    let index = state as usize & (TIMEOUT_SPACE - 1);
    // SAFETY: the index is within the array. Volatile, because the loader changes the value after
    // compilation.
    unsafe { core::ptr::addr_of!(TIMEOUTS).cast::<u64>().add(index).read_volatile() }
}

/// Jiffies after which a cell is written.
#[inline(always)]
pub(super) fn record_age() -> u64 {
    RECORD_AGE.load()
}

/// What a record takes from the token bucket.
#[inline(always)]
pub(super) fn record_cost() -> u64 {
    RECORD_COST.load()
}

/// What the token bucket holds.
#[inline(always)]
pub(super) fn record_burst() -> u64 {
    RECORD_BURST.load()
}

/// The random numbers for a word of a record's key; `index` is below `HASH_WORDS`.
#[inline(always)]
pub(super) fn hash_keys(index: usize) -> [u32; 2] {
    // SAFETY: within the array. Volatile, as in `timeout`.
    unsafe { core::ptr::addr_of!(HASH_KEYS).cast::<[u32; 2]>().add(index).read_volatile() }
}
