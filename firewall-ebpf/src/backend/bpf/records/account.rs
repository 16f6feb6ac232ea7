//! What is counted of an interface and a reason, and the token bucket of an interface.

use core::intrinsics::atomic_xadd;

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::record::{Account, TICK, account_index};

use super::super::globals;
use super::RELAXED;

/// By [`account_index`].
#[btf_map]
static RECORD_ACCOUNTS: PerCpuArray<Account, 128> = PerCpuArray::new();

/// The account of packets of an interface with a reason.
#[inline(always)]
pub(super) fn account(slot: u16, reason: u32) -> Option<*mut Account> {
    RECORD_ACCOUNTS.get_ptr_mut(account_index(slot, reason))
}

#[inline(always)]
pub(super) fn lose(account: *mut Account, packets: u64) {
    // SAFETY: this CPU's entry of an array.
    unsafe { atomic_xadd::<u64, u64, RELAXED>(&raw mut (*account).lost, packets) };
}

/// Takes a token from the bucket of an interface.
#[inline(always)]
pub(super) fn take_token(account: *mut Account, now: u64) -> bool {
    let now = now * TICK;
    // SAFETY: this CPU's entry of an array.
    let used = unsafe { &mut (*account).used_until };
    let from = if *used > now { *used } else { now };
    let until = from + globals::record_cost();
    if until > now + globals::record_burst() {
        return false;
    }
    *used = until;
    true
}
