//! Records of packets that were dropped, or passed without a flow: the programs that the slow path calls last for
//! an interface that is watched, and the one that userspace runs on every CPU.
//!
//! The first packet of a key is written to the ring buffer at once. Those that follow within a second are counted
//! in a cell of this CPU, which is written by the next packet of the key when it is a second old, by a packet of
//! another key that needs the cell, or by userspace. A token bucket for each interface and CPU limits the records;
//! a packet that there is no token or no room for is counted as lost.
//!
//! Who accesses a cell. On a CPU, the programs that record do not interrupt each other: softirqs are disabled.
//! `sg_flush_records` may be interrupted by them between any two instructions, where its softirqs are not disabled
//! (Linux before 6.2), and by another thread's flush; on a real-time kernel it may also preempt them. The counts are
//! exact all the same:
//!
//! - Only programs that record write `added`, and a packet that finds its cell does nothing else that matters. So an
//!   addition is never lost.
//! - `taken` is written, and the key and the frame are, by who has the lock. Nobody waits for it: a packet that needs it
//!   is written by itself, and a flush leaves the cell to who has it. What is taken out is the difference to one
//!   reading of `added`; a packet that is added afterwards is in the next record.
//! - `Account::lost` is added to by single instructions.
//!
//! A packet that is added between that reading and `due` may be counted before the cell's `first` and frame are those of
//! a later packet: the record then begins with the time and the frame of the packet before. Of the token bucket, a flush
//! that is interrupted can undo a token that was taken meanwhile: one record more than the limit, once.

use core::intrinsics::AtomicOrdering;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_ebpf::abi::interface::Call;
use firewall_ebpf::abi::record::{Account, CELLS, Cell, Count, FLUSH_ALL, FLUSH_SELF_TEST, Note};
use firewall_ebpf::wire::packet::Packet;

use super::view::{Skb, Xdp};
use super::{globals, maps};

mod account;
mod cell;
mod key;
mod ring;

use account::{account, lose, take_token};
use cell::{RECORD_CELLS, has_key, lock, present, sg_flush_cell, sg_write_cell, take, unlock};
use key::{Words, key};
use ring::{Capture, RECORDS, capture, finish, self_test};

/// Sufficient where only this CPU accesses a word.
const RELAXED: AtomicOrdering = AtomicOrdering::Relaxed;

/// Records packets at XDP, and returns what was decided.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_record_xdp(ctx: *mut xdp_md) -> u32 {
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
    // SAFETY: the context is the kernel's.
    let Some(decided) = maps::decided(unsafe { (*ctx).ingress_ifindex }) else {
        return XDP_DROP;
    };
    record(&Xdp::new(ctx, globals::has_ethernet()), decided);
    if decided.0.passes() { XDP_PASS } else { XDP_DROP }
}

/// The same at TCX and clsact.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_record_tc(ctx: *mut __sk_buff) -> i32 {
    use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
    // SAFETY: the context is the kernel's.
    let Some(decided) = maps::decided(unsafe { (*ctx).ifindex }) else { return TCX_DROP };
    record(&Skb::new(ctx, globals::has_ethernet()), decided);
    if decided.0.passes() { TCX_NEXT } else { TCX_DROP }
}

/// Records one packet.
#[inline(always)]
fn record<P: Capture>(packet: &P, (call, note, bytes): (Call, Note, u32)) {
    let slot = (call.settings() >> 1) as u16;
    let Some(account) = account(slot, call.reason()) else { return };
    // SAFETY: this CPU's entry, whose `seen` only programs that record write.
    unsafe { (*account).seen += 1 };

    let (words, hash, tcp_flags) = key(packet, call, note);
    // SAFETY: the helpers take no argument and have no effect.
    let (now, cpu) = unsafe { (bpf_jiffies64(), bpf_get_smp_processor_id()) };
    let packet = Recorded { packet, account, words: &words, bytes, tcp_flags, now };
    let mut at = cpu * CELLS + hash;
    // Two cells that a key can be in: of few keys two rarely share a cell, and three hardly ever do.
    let Some(mut cell) = RECORD_CELLS.get_ptr_mut(at) else { return lose(account, 1) };
    let mut is_found = has_key(cell, &words);
    if !is_found {
        let Some(other) = RECORD_CELLS.get_ptr_mut(at ^ 1) else { return lose(account, 1) };
        is_found = has_key(other, &words);
        // SAFETY: entries of an array, which live as long as the map.
        if is_found || unsafe { (*other).last < (*cell).last } {
            (cell, at) = (other, at ^ 1);
        }
    }
    if is_found {
        packet.count(cell, at);
    } else {
        packet.displace(cell, at);
    }
}

/// A packet and what its record needs.
struct Recorded<'a, P> {
    packet: &'a P,
    account: *mut Account,
    words: &'a Words,
    bytes: u32,
    tcp_flags: u8,
    now: u64,
}

impl<P: Capture> Recorded<'_, P> {
    /// Counts the packet in the cell of its key.
    #[inline(always)]
    fn count(&self, cell: *mut Cell, at: u32) {
        // SAFETY: an entry of an array; the top of the file says who accesses it at once.
        unsafe {
            if self.now >= (*cell).due && !self.prepare(cell, at) {
                return;
            }
            (*cell).last = self.now;
            let flags = (*cell).tcp_flags | u32::from(self.tcp_flags);
            if flags != (*cell).tcp_flags {
                (*cell).tcp_flags = flags;
            }
            (*cell).added = (*cell).added.wrapping_add(Count::one(self.bytes).0);
        }
    }

    /// Prepares the cell for the first packet of a record; writes the one before if a second has passed. Returns
    /// whether the packet is to be counted there.
    ///
    /// # Safety
    /// The cell is an entry of the array.
    #[inline(always)]
    unsafe fn prepare(&self, cell: *mut Cell, at: u32) -> bool {
        let age = globals::record_age();
        // SAFETY: the caller's.
        unsafe {
            if !lock(cell) {
                self.write_or_lose();
                return false;
            }
            let mut count = present(cell);
            if count.0 == 0 && self.now - (*cell).last >= age && take_token(self.account, self.now)
            {
                // The first one for a while is told at once.
                (*cell).last = self.now;
                unlock(cell);
                self.write();
                return false;
            }
            if count.0 != 0 && self.now - (*cell).first >= age {
                if take_token(self.account, self.now) {
                    sg_write_cell(at);
                    count = Count(0);
                } else if count.is_large() {
                    lose(self.account, take(cell).packets());
                    count = Count(0);
                }
            }
            if count.0 == 0 {
                (*cell).first = self.now;
                (*cell).tcp_flags = 0;
                (*cell).frame_length = self.bytes;
                let frame = (&raw mut (*cell).frame).cast();
                (*cell).captured = capture(self.packet, frame, self.bytes);
            }
            // Without a token, again a second later.
            (*cell).due = self.now + age;
            unlock(cell);
        }
        true
    }

    /// Writes the packet, and takes the cell for those that follow.
    #[inline(always)]
    fn displace(&self, cell: *mut Cell, at: u32) {
        if !take_token(self.account, self.now) {
            return lose(self.account, 1);
        }
        // SAFETY: an entry of an array; the top of the file says who accesses it at once.
        unsafe {
            if lock(cell) {
                if present(cell).0 != 0 {
                    sg_write_cell(at);
                }
                (&raw mut (*cell).key).cast::<Words>().write(*self.words);
                (*cell).last = self.now;
                (*cell).due = 0;
                unlock(cell);
            }
        }
        self.write();
    }

    #[inline(always)]
    fn write_or_lose(&self) {
        if take_token(self.account, self.now) {
            self.write();
        } else {
            lose(self.account, 1);
        }
    }

    /// Writes the record of the packet, for which a token was taken.
    #[inline(always)]
    fn write(&self) {
        let Some(mut entry) = RECORDS.reserve(0) else { return lose(self.account, 1) };
        let record = entry.as_mut_ptr();
        // SAFETY: room for a record, every byte of which is written.
        unsafe {
            (*record).first = self.now;
            (*record).last = self.now;
            (*record).packets = 1;
            (*record).bytes = self.bytes.into();
            (&raw mut (*record).key).cast::<Words>().write(*self.words);
            let captured = capture(self.packet, (&raw mut (*record).frame).cast(), self.bytes);
            finish(record, self.bytes, captured, self.tcp_flags);
        }
        entry.submit(0);
    }
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
    written.cast_signed()
}
