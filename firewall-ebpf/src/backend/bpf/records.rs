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

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::btf_maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_skb_load_bytes, bpf_xdp_load_bytes};
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::interface::{Call, Direction};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::record::{
    AUDIT, Account, CELLS, Cell, Count, EGRESS, FLUSH_ALL, FLUSH_SELF_TEST, FRAGMENT, FRAME,
    HASH_WORDS, Note, Record, SELF_TEST, TICK, account_index,
};
use firewall_ebpf::wire::headers::{Kind, PacketHeaders};
use firewall_ebpf::wire::packet::Packet;
use firewall_ebpf::wire::{Frame, HeadersByFamily, Tuple, parse, tuple_v4, tuple_v6};

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

/// The words of a key that come from the packet itself, their part of the hash, and what else there is.
struct Contents {
    source: V6,
    destination: V6,
    transport: u64,
    sum: u64,
    flags: u8,
    tcp_flags: u8,
}

impl Contents {
    /// Of a frame that is not IP, or does not parse.
    #[inline(always)]
    const fn other(ether_type: u16) -> Self {
        Self {
            source: [0; 2],
            destination: [0; 2],
            transport: (ether_type as u64) << 32,
            sum: 0,
            flags: 0,
            tcp_flags: 0,
        }
    }

    #[inline(always)]
    fn v4(source: V4, destination: V4, transport: u64, tcp_flags: u8) -> Self {
        let (source, destination) = (u64::from(source), u64::from(destination));
        let sum = keyed(0, source | destination << 32);
        let (source, destination) = ([source, 0], [destination, 0]);
        Self { source, destination, transport, sum, flags: 0, tcp_flags }
    }

    #[inline(always)]
    fn v6(source: V6, destination: V6, transport: u64, tcp_flags: u8) -> Self {
        let sum = keyed(0, source[0])
            .wrapping_add(keyed(1, source[1]))
            .wrapping_add(keyed(2, destination[0]))
            .wrapping_add(keyed(3, destination[1]));
        Self { source, destination, transport, sum, flags: 0, tcp_flags }
    }

    #[inline(always)]
    fn of<P: Packet>(packet: &P, reason: u32) -> Self {
        // Most packets of a flood; reading them again costs less than parsing.
        if packet.has_ethernet() && is_parsed(reason) {
            if let Some(Tuple { src, dst, protocol, ports, tcp_flags }) = tuple_v4(packet) {
                return Self::v4(src, dst, transport(ports, protocol, 4), tcp_flags);
            }
            if let Some(Tuple { src, dst, protocol, ports, tcp_flags }) = tuple_v6(packet) {
                return Self::v6(src, dst, transport(ports, protocol, 6), tcp_flags);
            }
        }
        let mut headers = HeadersByFamily::new();
        match parse(packet, &mut headers) {
            Ok(Frame::V4) => {
                let v4 = &headers.v4;
                let transport = transport(ports(v4), v4.protocol, 4);
                Self { flags: fragment(v4), ..Self::v4(v4.src, v4.dst, transport, v4.tcp_flags) }
            }
            Ok(Frame::V6) => {
                let v6 = &headers.v6;
                let transport = transport(ports(v6), v6.protocol, 6);
                Self { flags: fragment(v6), ..Self::v6(v6.src, v6.dst, transport, v6.tcp_flags) }
            }
            Ok(Frame::NonIp(ether_type)) => Self::other(ether_type),
            Err(_) => Self::other(0),
        }
    }
}

/// What the packet has in common with others, the hash of it, and its TCP flags.
#[inline(always)]
fn key<P: Packet>(packet: &P, call: Call, note: Note) -> (Words, u32, u8) {
    let Contents { source, destination, transport, mut sum, mut flags, tcp_flags } =
        Contents::of(packet, call.reason());
    if globals::direction() == Direction::Egress {
        flags |= EGRESS;
    }
    if call.is_audit() {
        flags |= AUDIT;
    }
    let (slot, reason) = (u64::from(call.settings() >> 1), call.reason());
    let place =
        u64::from(call.device()) | slot << 32 | u64::from(reason) << 48 | u64::from(flags) << 56;
    let generation = match note.generation() {
        0 => maps::active(slot as u16).generation(),
        known => known,
    };
    let decided_by = if names_decider(reason) { note.decided_by() } else { 0 };
    let decided = Note::new(generation, decided_by).0;
    // What decided rarely differs where the rest is equal.
    sum = sum.wrapping_add(keyed(4, transport)).wrapping_add(keyed(5, place));
    // Every bit of the sum affects the highest bits of the product (the golden ratio).
    let hash = (sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & (CELLS - 1);
    let [s0, s1] = source;
    let [d0, d1] = destination;
    ([s0, s1, d0, d1, transport, place, decided], hash, tcp_flags)
}

/// Whether every packet with this reason has been parsed without error; of those that are frequent.
#[inline(always)]
const fn is_parsed(reason: u32) -> bool {
    const PARSED: u64 = 1 << Reason::NoRule as u32
        | 1 << Reason::NoPolicy as u32
        | 1 << Reason::UnsolicitedSynAck as u32
        | 1 << Reason::TcpNotOpened as u32
        | 1 << Reason::Acl as u32
        | 1 << Reason::Untracked as u32;
    PARSED >> (reason & 63) & 1 != 0
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
fn transport(ports: u32, protocol: u8, family: u64) -> u64 {
    u64::from(ports) | u64::from(protocol) << 48 | family << 56
}

#[inline(always)]
fn ports<A>(headers: &PacketHeaders<A>) -> u32 {
    match headers.kind {
        Kind::Tcp | Kind::Udp => headers.ports,
        Kind::Request | Kind::Reply | Kind::Error | Kind::Message => {
            u32::from(headers.rule_port.to_be()) << 16
        }
        Kind::LaterFragment | Kind::Other => 0,
    }
}

#[inline(always)]
fn fragment<A>(headers: &PacketHeaders<A>) -> u8 {
    if headers.kind == Kind::LaterFragment { FRAGMENT } else { 0 }
}

/// A term of NH, the hash of UMAC (RFC 4418, 5.2.2), whose sum tells the cell of a key: without the numbers that were
/// chosen at random when the program was loaded, no sender can choose packets that share a cell.
#[inline(always)]
fn keyed(index: usize, word: u64) -> u64 {
    let [first, second] = globals::hash_keys(index);
    let low = (word as u32).wrapping_add(first);
    let high = ((word >> 32) as u32).wrapping_add(second);
    u64::from(low).wrapping_mul(u64::from(high))
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

/// Takes the lock of a cell, and returns whether it was free.
///
/// # Safety
/// The cell is an entry of the array.
#[inline(always)]
unsafe fn lock(cell: *mut Cell) -> bool {
    // SAFETY: the caller's.
    unsafe { atomic_xchg::<u32, RELAXED>(&raw mut (*cell).lock, 1) == 0 }
}

/// Releases it.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn unlock(cell: *mut Cell) {
    // SAFETY: the caller's.
    unsafe { (&raw mut (*cell).lock).write_volatile(0) };
}

/// The packets in a cell.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn present(cell: *const Cell) -> Count {
    // SAFETY: the caller's.
    unsafe { Count((&raw const (*cell).added).read_volatile()).since(Count((*cell).taken)) }
}

/// Takes the packets out of a cell.
///
/// # Safety
/// As above, and the caller has the lock.
#[inline(always)]
unsafe fn take(cell: *mut Cell) -> Count {
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

/// The account of packets of an interface with a reason.
#[inline(always)]
fn account(slot: u16, reason: u32) -> Option<*mut Account> {
    RECORD_ACCOUNTS.get_ptr_mut(account_index(slot, reason))
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
/// number of records. The caller has the lock.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_write_cell(index: u32) -> u32 {
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

/// Writes the record of a cell's packets if there are any, and with `all` = 0 only if there is a token for it;
/// returns the number of records.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_flush_cell(index: u32, all: u32) -> u32 {
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
