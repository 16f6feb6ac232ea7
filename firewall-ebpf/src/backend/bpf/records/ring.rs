//! The ring buffer that userspace reads, and the frame in a record.

use core::ffi::c_void;

use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::record::{FRAME, Record, SELF_TEST};
use firewall_ebpf::wire::packet::Packet;

use super::super::view::{Skb, Xdp};

/// What userspace reads: [`Record`]s. Bytes; the loader sets them.
#[btf_map]
pub(super) static RECORDS: RingBuf<Record, { 1 << 20 }> = RingBuf::new();

/// Copies the beginning of a frame; a helper of each hook.
pub(super) trait Capture: Packet {
    /// Copies `length` bytes, 1 to [`FRAME`], to `into`, and returns whether it did.
    fn copy(&self, into: *mut c_void, length: u32) -> bool;
}

impl Capture for Xdp {
    #[inline(always)]
    fn copy(&self, into: *mut c_void, length: u32) -> bool {
        // SAFETY: the callers have room for `length` bytes.
        unsafe { bpf_xdp_load_bytes(self.raw(), 0, into, length) == 0 }
    }
}

impl Capture for Skb {
    #[inline(always)]
    fn copy(&self, into: *mut c_void, length: u32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_skb_load_bytes(self.raw().cast(), 0, into, length) == 0 }
    }
}

/// Copies the beginning of a frame of `length` bytes to room for [`FRAME`], with zeros behind it; returns how much.
#[inline(always)]
pub(super) fn capture<P: Capture>(packet: &P, into: *mut u64, length: u32) -> u32 {
    for word in 0..FRAME / 8 {
        // SAFETY: the caller's room, which is aligned.
        unsafe { into.add(word).write(0) };
    }
    if length >= FRAME as u32 {
        return if packet.copy(into.cast(), FRAME as u32) { FRAME as u32 } else { 0 };
    }
    // The verifier must see that a length is 1 to 128, also once the compiler has copied it. Linux 6.1 learns nothing
    // from a comparison with 0; of an empty frame the helper copies nothing.
    let length = (packet.forget(length).wrapping_sub(1) & (FRAME as u32 - 1)) + 1;
    if packet.copy(into.cast(), length) { length } else { 0 }
}

/// Writes the fields between the key and the frame.
///
/// # Safety
/// There is room for a record.
#[inline(always)]
pub(super) unsafe fn finish(record: *mut Record, frame_length: u32, captured: u32, tcp_flags: u8) {
    // SAFETY: the caller's.
    unsafe {
        (*record).frame_length = frame_length;
        (*record).captured = captured as u16;
        (*record).tcp_flags = tcp_flags;
        (*record).reserved = 0;
    }
}

/// Writes a record of no packet.
#[inline(always)]
pub(super) fn self_test(cpu: u32) -> u32 {
    let Some(mut entry) = RECORDS.reserve(0) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: room for a record; the helper takes no argument and has no effect.
    unsafe {
        for word in 0..size_of::<Record>() / 8 {
            record.cast::<u64>().add(word).write(0);
        }
        let now = bpf_jiffies64();
        ((*record).first, (*record).last) = (now, now);
        (*record).key.flags = SELF_TEST;
        (*record).key.decided_by = cpu;
    }
    entry.submit(0);
    1
}
