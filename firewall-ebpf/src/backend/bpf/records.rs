//! Records of packets that were dropped, or passed without a flow: the programs that the slow path calls last for
//! an interface that is watched, and the one that userspace runs on every CPU.
//!
//! The first packet of a key is written to the ring buffer at once. Those that follow within a second are counted
//! in a cell of this CPU, which is written by the next packet of the key when it is a second old, by a packet of
//! another key that needs the cell, or by userspace. A token bucket for each interface and CPU limits the records;
//! a packet that there is no token or no room for is counted as lost.
//!
//! On a CPU, the programs that record do not interrupt each other: softirqs are disabled. `sg_flush_records` runs
//! with softirqs enabled on Linux before 6.2, and any of them, or another thread's flush, may run between two of
//! its instructions. Two things keep the counts exact:
//!
//! - `Cell::count` is taken out and added to by single instructions, so every packet is in one record.
//! - A flush marks the cell that it reads as busy. Meanwhile a packet of its key, or one that needs the cell, is
//!   written by itself, and the cell stays as it is. A second flush leaves it to the first.
//!
//! `Account::lost` is added to by single instructions too. Of the rest of an account, a flush that is interrupted
//! can undo the token that a packet took meanwhile: one record more than the limit, once. On a real-time kernel,
//! where a flush may preempt a program that records, that program can begin a cell, or give it another key, while
//! the flush copies it: the counts are exact, and the key or frame of one record is that of the packet before.

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::interface::{Call, Direction};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::record::{
    AUDIT, Account, CELLS, Cell, Count, EGRESS, FLUSH_ALL, FLUSH_SELF_TEST, FRAGMENT, FRAME,
    HASH_WORDS, Note, Record, SELF_TEST, TICK, account_index,
};
use firewall_ebpf::wire::headers::{Kind, PacketHeaders};
use firewall_ebpf::wire::packet::Packet;
use firewall_ebpf::wire::{Frame, HeadersByFamily, parse};

use super::maps::MMAPABLE;
use super::view::{Skb, Xdp};
use super::{globals, maps};

/// What userspace reads: [`Record`]s. Bytes; the loader sets them.
#[btf_map]
pub(super) static RECORDS: RingBuf<Record, { 1 << 20 }> = RingBuf::new();
/// By CPU, [`CELLS`] each. Not a per-CPU map: the kernel finds an entry of an array without a call.
#[btf_map]
pub(super) static RECORD_CELLS: Array<Cell, { CELLS as usize }, MMAPABLE> = Array::new();
/// By [`account_index`].
#[btf_map]
pub(super) static RECORD_ACCOUNTS: PerCpuArray<Account, 128> = PerCpuArray::new();

/// Sufficient where only this CPU accesses a word.
const RELAXED: AtomicOrdering = AtomicOrdering::Relaxed;

/// A `Key` as words, in which it is compared.
type Words = [u64; HASH_WORDS];

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

/// Records packets at XDP, and returns what was decided.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_record_xdp(ctx: *mut xdp_md) -> u32 {
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
    // SAFETY: the context is the kernel's.
    let Some((call, note)) = maps::decided(unsafe { (*ctx).ingress_ifindex }) else {
        return XDP_DROP;
    };
    record(&Xdp::new(ctx, globals::has_ethernet()), call, note);
    if call.passes() { XDP_PASS } else { XDP_DROP }
}

/// The same at TCX and clsact.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_record_tc(ctx: *mut __sk_buff) -> i32 {
    use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
    // SAFETY: the context is the kernel's.
    let Some((call, note)) = maps::decided(unsafe { (*ctx).ifindex }) else { return TCX_DROP };
    record(&Skb::new(ctx, globals::has_ethernet()), call, note);
    if call.passes() { TCX_NEXT } else { TCX_DROP }
}

/// Records one packet.
#[inline(always)]
fn record<P: Capture>(packet: &P, call: Call, note: Note) {
    let slot = (call.settings() >> 1) as u16;
    let at = account_index(slot, call.reason());
    let Some(account) = RECORD_ACCOUNTS.get_ptr_mut(at) else { return };
    // SAFETY: this CPU's entry, which only programs that record write.
    unsafe { (*account).seen += 1 };

    let bytes = packet.length();
    let (words, tcp_flags) = key(packet, call, note);
    // SAFETY: the helpers take no argument and have no effect.
    let (now, cpu) = unsafe { (bpf_jiffies64(), bpf_get_smp_processor_id()) };
    let index = cpu * CELLS + hash(&words);
    // Two cells that a key can be in: of few keys two rarely share a cell, and three hardly ever do.
    let mut at = index;
    let Some(mut cell) = RECORD_CELLS.get_ptr_mut(at) else { return lose(account, 1) };
    if !has_key(cell, &words) {
        let Some(other) = RECORD_CELLS.get_ptr_mut(index ^ 1) else { return lose(account, 1) };
        // SAFETY: entries of an array, which live as long as the map.
        let is_older = unsafe { (*other).last < (*cell).last };
        let is_found = has_key(other, &words);
        if is_found || is_older {
            (at, cell) = (index ^ 1, other);
        }
        if !is_found {
            if !take_token(account, now) {
                return lose(account, 1);
            }
            // SAFETY: as above.
            if unsafe { !is_busy(cell) } {
                if unsafe { (*cell).count } != 0 {
                    sg_write_cell(at);
                }
                // SAFETY: as above. A flush does not read a cell without a count.
                unsafe {
                    (&raw mut (*cell).key).cast::<Words>().write(words);
                    (*cell).last = now;
                }
            }
            return write(packet, account, &words, bytes, tcp_flags, now);
        }
    }

    // SAFETY: as above, and this CPU's; see the top of the file for what a flush does meanwhile.
    unsafe {
        if is_busy(cell) {
            if take_token(account, now) {
                return write(packet, account, &words, bytes, tcp_flags, now);
            }
            return lose(account, 1);
        }
        let mut count = Count((*cell).count);
        if count.0 != 0 && (now - (*cell).first >= globals::record_age() || count.is_large()) {
            if take_token(account, now) {
                sg_write_cell(at);
                count = Count(0);
            } else if count.is_large() {
                let taken = Count(atomic_xchg::<u64, RELAXED>(&raw mut (*cell).count, 0));
                lose(account, taken.packets());
                count = Count(0);
            }
        }
        let before = (*cell).last;
        (*cell).last = now;
        if count.0 == 0 {
            // The first one for a while is told at once.
            if now - before >= globals::record_age() && take_token(account, now) {
                return write(packet, account, &words, bytes, tcp_flags, now);
            }
            (*cell).first = now;
            (*cell).tcp_flags = 0;
            (*cell).frame_length = bytes;
            (*cell).captured = capture(packet, (&raw mut (*cell).frame).cast(), bytes);
        }
        (*cell).tcp_flags |= u32::from(tcp_flags);
        atomic_xadd::<u64, u64, RELAXED>(&raw mut (*cell).count, Count::one(bytes).0);
    }
}

/// What the packet has in common with others, and its TCP flags.
#[inline(always)]
fn key<P: Packet>(packet: &P, call: Call, note: Note) -> (Words, u8) {
    let mut headers = HeadersByFamily::new();
    let mut flags = 0;
    let mut tcp_flags = 0;
    let mut words = [0; HASH_WORDS];
    match parse(packet, &mut headers) {
        Ok(Frame::V4) => {
            (words[0], words[2]) = (headers.v4.src.into(), headers.v4.dst.into());
            words[4] = transport(&headers.v4, 4);
            (flags, tcp_flags) = (fragment(&headers.v4), headers.v4.tcp_flags);
        }
        Ok(Frame::V6) => {
            [words[0], words[1]] = headers.v6.src;
            [words[2], words[3]] = headers.v6.dst;
            words[4] = transport(&headers.v6, 6);
            (flags, tcp_flags) = (fragment(&headers.v6), headers.v6.tcp_flags);
        }
        Ok(Frame::NonIp(ether_type)) => words[4] = u64::from(ether_type) << 32,
        Err(_) => {}
    }
    if globals::direction() == Direction::Egress {
        flags |= EGRESS;
    }
    if call.is_audit() {
        flags |= AUDIT;
    }
    let (slot, reason) = (u64::from(call.settings() >> 1), call.reason());
    words[5] =
        u64::from(call.device()) | slot << 32 | u64::from(reason) << 48 | u64::from(flags) << 56;
    let generation = match note.generation() {
        0 => maps::active(slot as u16).generation(),
        known => known,
    };
    words[6] = Note::new(generation, if names_decider(reason) { note.decided_by() } else { 0 }).0;
    (words, tcp_flags)
}

/// Whether the note tells what decided about a packet with this reason.
#[inline(always)]
const fn names_decider(reason: u32) -> bool {
    const DECIDERS: u64 = 1 << Reason::Admitted as u32
        | 1 << Reason::Untracked as u32
        | 1 << Reason::Acl as u32
        | 1 << Reason::Blocked as u32;
    DECIDERS >> (reason & 63) & 1 != 0
}

/// `Key::ports`, `Key::protocol` and `Key::family`.
#[inline(always)]
fn transport<A>(headers: &PacketHeaders<A>, family: u64) -> u64 {
    let ports = match headers.kind {
        Kind::Tcp | Kind::Udp => headers.ports,
        Kind::Request | Kind::Reply | Kind::Error | Kind::Message => {
            u32::from(headers.rule_port.to_be()) << 16
        }
        Kind::LaterFragment | Kind::Other => 0,
    };
    u64::from(ports) | u64::from(headers.protocol) << 48 | family << 56
}

#[inline(always)]
fn fragment<A>(headers: &PacketHeaders<A>) -> u8 {
    if headers.kind == Kind::LaterFragment { FRAGMENT } else { 0 }
}

/// The cell of a key, among those of a CPU. NH of UMAC (RFC 4418, 5.2.2): without the numbers that were chosen at
/// random when the program was loaded, no sender can choose packets that share a cell.
#[inline(always)]
fn hash(words: &Words) -> u32 {
    let mut sum = 0_u64;
    for (index, word) in words.iter().enumerate() {
        let [first, second] = globals::hash_keys(index);
        let low = (*word as u32).wrapping_add(first);
        let high = ((word >> 32) as u32).wrapping_add(second);
        sum = sum.wrapping_add(u64::from(low).wrapping_mul(u64::from(high)));
    }
    // Every bit of the sum affects the highest bits of the product (the golden ratio).
    (sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & (CELLS - 1)
}

#[inline(always)]
fn has_key(cell: *const Cell, words: &Words) -> bool {
    // SAFETY: an entry of an array; a key has no padding.
    let present = unsafe { (&raw const (*cell).key).cast::<Words>() };
    let mut difference = 0;
    for (index, word) in words.iter().enumerate() {
        // SAFETY: as above.
        difference |= word ^ unsafe { (*present)[index] };
    }
    difference == 0
}

/// Whether a flush reads the cell.
///
/// # Safety
/// It is an entry of the array.
#[inline(always)]
unsafe fn is_busy(cell: *const Cell) -> bool {
    // SAFETY: the caller's.
    unsafe { (&raw const (*cell).busy).read_volatile() != 0 }
}

#[inline(always)]
fn lose(account: *mut Account, packets: u64) {
    // SAFETY: this CPU's entry of an array.
    unsafe { atomic_xadd::<u64, u64, RELAXED>(&raw mut (*account).lost, packets) };
}

/// Takes a token from the bucket of an interface.
#[inline(always)]
fn take_token(account: *mut Account, now: u64) -> bool {
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

/// Copies the beginning of a frame of `length` bytes to room for [`FRAME`], with zeros behind it; returns how much.
#[inline(always)]
fn capture<P: Capture>(packet: &P, into: *mut u64, length: u32) -> u32 {
    for word in 0..FRAME / 8 {
        // SAFETY: the caller's room, which is aligned.
        unsafe { into.add(word).write(0) };
    }
    if length >= FRAME as u32 {
        return if packet.copy(into.cast(), FRAME as u32) { FRAME as u32 } else { 0 };
    }
    // The verifier does not see that a length is below 128 once the compiler has copied it.
    let length = packet.forget(length) & (FRAME as u32 - 1);
    if length != 0 && packet.copy(into.cast(), length) { length } else { 0 }
}

/// Writes the record of one packet, for which a token was taken.
#[inline(always)]
fn write<P: Capture>(
    packet: &P,
    account: *mut Account,
    words: &Words,
    bytes: u32,
    tcp_flags: u8,
    now: u64,
) {
    let Some(mut entry) = RECORDS.reserve(0) else { return lose(account, 1) };
    let record = entry.as_mut_ptr();
    // SAFETY: room for a record, every byte of which is written.
    unsafe {
        (*record).first = now;
        (*record).last = now;
        (*record).packets = 1;
        (*record).bytes = bytes.into();
        (&raw mut (*record).key).cast::<Words>().write(*words);
        let captured = capture(packet, (&raw mut (*record).frame).cast(), bytes);
        finish(record, bytes, captured, tcp_flags);
    }
    entry.submit(0);
}

/// Writes the fields between the key and the frame.
///
/// # Safety
/// There is room for a record.
#[inline(always)]
unsafe fn finish(record: *mut Record, frame_length: u32, captured: u32, tcp_flags: u8) {
    // SAFETY: the caller's.
    unsafe {
        (*record).frame_length = frame_length;
        (*record).captured = captured as u16;
        (*record).tcp_flags = tcp_flags;
        (*record).reserved = 0;
    }
}

/// Writes the record of a cell's packets and empties it; without room for the record they are lost. Returns the
/// number of records. For a packet that needs the cell, which is not busy then.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_write_cell(index: u32) -> u32 {
    let Some(cell) = RECORD_CELLS.get_ptr_mut(index) else { return 0 };
    write_cell(cell)
}

#[inline(always)]
fn write_cell(cell: *mut Cell) -> u32 {
    let Some(mut entry) = RECORDS.reserve(0) else {
        // SAFETY: an entry of the array, as below.
        unsafe {
            let count = Count(atomic_xchg::<u64, RELAXED>(&raw mut (*cell).count, 0));
            if let Some(account) = RECORD_ACCOUNTS.get_ptr_mut(account_of(cell)) {
                lose(account, count.packets());
            }
        }
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: an entry of the array, and room for a record, every byte of which is written.
    let count = unsafe {
        (*record).first = (*cell).first;
        (*record).last = (*cell).last;
        let key = (&raw const (*cell).key).cast::<Words>();
        (&raw mut (*record).key).cast::<Words>().write(*key);
        finish(record, (*cell).frame_length, (*cell).captured, (*cell).tcp_flags as u8);
        let (from, to) = ((&raw const (*cell).frame), (&raw mut (*record).frame));
        to.cast::<[u64; FRAME / 8]>().write(*from.cast());
        let count = Count(atomic_xchg::<u64, RELAXED>(&raw mut (*cell).count, 0));
        (*record).packets = count.packets();
        (*record).bytes = count.bytes();
        count
    };
    if count.0 == 0 {
        entry.discard(0);
        return 0;
    }
    entry.submit(0);
    1
}

/// Writes the records of this CPU's cells; the word of the list is `FLUSH_SELF_TEST` and `FLUSH_ALL`. Without the
/// latter, a cell that there is no token for stays as it is. Returns the number of records.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_flush_records(ctx: *mut __sk_buff) -> i32 {
    let Some([word]) = Skb::new(ctx, true).load::<[u64; 1]>(0) else { return 0 };
    // SAFETY: the helper takes no argument and has no effect.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let mut written = 0;
    for index in 0..CELLS {
        written += sg_flush_cell(cpu * CELLS + index, (word & FLUSH_ALL) as u32);
    }
    if word & FLUSH_SELF_TEST != 0 {
        written += self_test(cpu);
    }
    written as i32
}

/// Writes the record of a cell's packets if there are any, and with `all` = 0 only if there is a token for it;
/// returns the number of records.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_flush_cell(index: u32, all: u32) -> u32 {
    let Some(cell) = RECORD_CELLS.get_ptr_mut(index) else { return 0 };
    // SAFETY: an entry of the array.
    unsafe {
        if (&raw const (*cell).count).read_volatile() == 0 || is_busy(cell) {
            return 0;
        }
        (&raw mut (*cell).busy).write_volatile(1);
    }
    let written = if all != 0 || has_token(cell) { write_cell(cell) } else { 0 };
    // SAFETY: as above.
    unsafe { (&raw mut (*cell).busy).write_volatile(0) };
    written
}

/// Index of the account of a cell's packets.
///
/// # Safety
/// It is an entry of the array.
#[inline(always)]
unsafe fn account_of(cell: *const Cell) -> u32 {
    // SAFETY: the caller's.
    let (slot, reason) = unsafe { ((*cell).key.slot, (*cell).key.reason) };
    account_index(slot, reason.into())
}

/// Takes a token for the record of a cell.
#[inline(always)]
fn has_token(cell: *const Cell) -> bool {
    // SAFETY: an entry of the array.
    let at = unsafe { account_of(cell) };
    let Some(account) = RECORD_ACCOUNTS.get_ptr_mut(at) else { return true };
    // SAFETY: the helper takes no argument and has no effect.
    take_token(account, unsafe { bpf_jiffies64() })
}

/// Writes a record of no packet.
#[inline(always)]
fn self_test(cpu: u32) -> u32 {
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
