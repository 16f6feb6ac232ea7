//! What is fixed when an interface's programs are loaded. The loader overrides these symbols and
//! freezes them, so that the verifier deletes the branches that the interface does not use. And one
//! word that its programs share.

use core::cell::UnsafeCell;

use aya_ebpf::Global;
use firewall_ebpf::exempt::NonIp;
use firewall_ebpf::interface::{Orientation, State, TcpChecks};

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
static GLANCE: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static PICK_UP: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static REVALIDATE: Global<u8> = Global::new(0);
/// Jiffies.
#[unsafe(no_mangle)]
static FRAGMENT_TIMEOUT: Global<u64> = Global::new(0);
/// Jiffies by state.
#[unsafe(no_mangle)]
static TIMEOUTS: [u64; TIMEOUT_SPACE] = [0; TIMEOUT_SPACE];

/// The jiffy of the last refusal, and in the lowest bits how many packets of the interface were refused
/// in it, less one, up to [`MANY`]. An atomic's load is more than the target has.
static REFUSALS: Shared = Shared(UnsafeCell::new(0));

/// One more than so many refusals in a jiffy are a flood: 4,000 in a second where that has 250. A power
/// of two, less one.
const MANY: u64 = 15;

/// A word that every processor reads and writes, whole.
struct Shared(UnsafeCell<u64>);

// SAFETY: nobody has a reference to the word, and its reads and writes are volatile, aligned and so
// whole.
unsafe impl Sync for Shared {}

/// Whether many packets were refused in this jiffy or the one before.
#[inline(always)]
pub(super) fn is_refusing(now: impl FnOnce() -> u64) -> bool {
    // SAFETY: see `Shared`.
    let word = unsafe { REFUSALS.0.get().read_volatile() };
    word & MANY == MANY && word / (MANY + 1) + 1 >= now()
}

/// A packet is refused. Written a few times in a jiffy, so that processors do not take the word from
/// one another for each packet; where two of them write at once, one refusal is not counted.
#[inline(always)]
pub(super) fn note_refusal(now: u64) {
    let word = REFUSALS.0.get();
    // SAFETY: see `Shared`.
    unsafe {
        let last = word.read_volatile();
        if last / (MANY + 1) != now {
            word.write_volatile(now * (MANY + 1));
        } else if last & MANY != MANY {
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

/// How closely TCP is followed.
#[inline(always)]
pub(super) fn tcp_checks() -> TcpChecks {
    if TCP_CHECKS.load() == TcpChecks::Guard as u8 { TcpChecks::Guard } else { TcpChecks::Strict }
}

/// `interface::glances`.
#[inline(always)]
pub(super) fn glances() -> bool {
    GLANCE.load() != 0
}

/// Whether a TCP connection may be taken up in its middle.
#[inline(always)]
pub(super) fn picks_up() -> bool {
    PICK_UP.load() != 0
}

/// Whether a flow is asked about again after the policy has changed.
#[inline(always)]
pub(super) fn revalidates() -> bool {
    REVALIDATE.load() != 0
}

/// For how long a first fragment's verdict holds, in jiffies.
#[inline(always)]
pub(super) fn fragment_timeout() -> u64 {
    FRAGMENT_TIMEOUT.load()
}

/// The idle timeout of a state, in jiffies.
#[inline(always)]
pub(super) fn timeout(state: State) -> u64 {
    let index = state as usize & (TIMEOUT_SPACE - 1);
    // SAFETY: the index is within the array. Volatile, because the loader changes the value behind
    // the compiler's back.
    unsafe { core::ptr::addr_of!(TIMEOUTS).cast::<u64>().add(index).read_volatile() }
}
