//! What a program hands to the one that it calls last: the packet's call, and once it is decided what decided.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::interface::Call;
use firewall_ebpf::abi::record::Note;

/// What a program hands to the one that it calls last.
#[repr(C)]
struct HandedOver {
    /// A `Call`.
    call: u64,
    /// Once the packet is decided, a `Note`.
    note: u64,
    /// The same: length of its frame.
    bytes: u64,
}

/// Of this CPU.
#[btf_map]
static CALL: PerCpuArray<HandedOver, 1> = PerCpuArray::new();

/// Hands a word to the slow path.
#[inline(always)]
pub(in crate::backend::bpf) fn set_call(call: Call) {
    if let Some(all) = CALL.get_ptr_mut(0) {
        // SAFETY: the record is this CPU's, and is read before another packet is handled on it.
        unsafe {
            (&raw mut (*all).call).write_volatile(call.0);
            (&raw mut (*all).note).write_volatile(0);
        }
    }
}

/// Notes what decides about the packet that this CPU handles, for its record.
#[inline(always)]
pub(in crate::backend::bpf) fn set_note(note: Note) {
    if let Some(all) = CALL.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { (&raw mut (*all).note).write_volatile(note.0) };
    }
}

/// The same of what is the second half of the note: a counter.
#[inline(always)]
pub(in crate::backend::bpf) fn note_decider(counter: u32) {
    if let Some(all) = CALL.get_ptr_mut(0) {
        // SAFETY: as above; the upper half of a word of a little-endian machine.
        unsafe { (&raw mut (*all).note).cast::<u32>().add(1).write_volatile(counter) };
    }
}

/// Hands what was decided about a packet to the program that records it: a reason, and whether the packet passes
/// only because of audit mode.
#[inline(always)]
pub(in crate::backend::bpf) fn set_decision(reason: u32, audit: bool, bytes: u32) {
    if let Some(all) = CALL.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe {
            let call = &raw mut (*all).call;
            call.write_volatile(Call(call.read_volatile()).with_decision(reason, audit).0);
            (&raw mut (*all).bytes).write_volatile(bytes.into());
        }
    }
}

/// The word that an interface's program has handed over for a packet on this device.
///
/// Between the two programs no other one runs on a CPU, because softirqs are disabled. Only where a
/// real-time kernel lets one preempt another could the word be of another packet; then its device is
/// another one, and the packet is dropped.
#[inline(always)]
pub(in crate::backend::bpf) fn call(device: u32) -> Option<Call> {
    let all = CALL.get_ptr(0)?;
    // SAFETY: the record is this CPU's.
    let call = Call(unsafe { (&raw const (*all).call).read_volatile() });
    (call.device() == device).then_some(call)
}

/// The same once the packet is decided, with the note of what decided, and the length of its frame.
#[inline(always)]
pub(in crate::backend::bpf) fn decided(device: u32) -> Option<(Call, Note, u32)> {
    let all = CALL.get_ptr(0)?;
    // SAFETY: as above.
    let HandedOver { call, note, bytes } = unsafe { all.read_volatile() };
    (Call(call).device() == device).then_some((Call(call), Note(note), bytes as u32))
}
