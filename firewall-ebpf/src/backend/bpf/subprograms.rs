//! BPF functions that are not inlined. The verifier verifies each of them once instead of on every path
//! that reaches it, and each has its own registers. A BPF function takes at most five words, hence the
//! packed arguments; 0 means "no rule", because no rule has that number.

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST, xdp_md};
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::block::Blocking;
use firewall_ebpf::abi::bloom::Bit;
use firewall_ebpf::abi::flow::{Flow, Table};
use firewall_ebpf::abi::helper::unpack_query;
use firewall_ebpf::abi::interface::{Direction, TcpChecks};
use firewall_ebpf::abi::policy::{Active, rule_number};
use firewall_ebpf::abi::record::Note;
use firewall_ebpf::verdict::claim::Claim;
use firewall_ebpf::verdict::flow::FlowRef;
use firewall_ebpf::verdict::segment::{self, PackedSegment};
use firewall_ebpf::verdict::tables::{Blocks as _, Entries as _, Prefixes, TableSet};
use firewall_ebpf::verdict::{blocks, dhcp, filter, lookup, port_security};
use firewall_ebpf::wire;
use firewall_ebpf::wire::LinkMessage;
use firewall_ebpf::wire::address::Address;

use super::policy::PolicyTables;
use super::tables::Kernel;
use super::view::{Skb, Xdp};
use super::{globals, maps};

// Rule lookup: inlined, the verifier would walk the chain of classes on every path that reaches it
// (30 times the instructions).

/// [`lookup::lookup_rule`] for IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_lookup_v4(active: u64, query: u32, outside: V4) -> u32 {
    rule(active, query, outside)
}

/// Looks a rule up, and notes it for the packet's record.
#[inline(always)]
fn rule<A: Address>(active: u64, query: u32, outside: A) -> u32
where
    PolicyTables: Prefixes<A>,
{
    let (direction, traffic) = unpack_query(query);
    let active = Active(active);
    let rule = lookup::lookup_rule(&PolicyTables, active, direction, outside, traffic).unwrap_or(0);
    maps::set_note(Note::new(active.generation(), rule_number(rule)));
    rule
}

/// [`lookup::lookup_rule`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_lookup_v6(active: u64, query: u32, first: u64, second: u64) -> u32 {
    rule(active, query, [first, second])
}

/// Whether a timed rule has ended, or has no counter any more, which is where its end is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_rule_ended(rule: u32) -> u32 {
    maps::rule_index(rule).is_none_or(maps::has_ended).into()
}

// Filters and blocks of the host: the same, and with stack that the decision does not have.

/// [`filter::check`] for IPv4; the result is [`filter::pack`]'s.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_filter_v4(active: u64, query: u32, outside: V4, bytes: u32) -> u64 {
    check_filter(active, query, outside, bytes)
}

/// Checks the filter, and notes the entry that decides for the packet's record.
#[inline(always)]
fn check_filter<A: Address>(active: u64, query: u32, outside: A, bytes: u32) -> u64
where
    PolicyTables: Prefixes<A>,
{
    let (direction, traffic) = unpack_query(query);
    let active = Active(active);
    maps::set_note(Note::new(active.generation(), 0));
    filter::pack(filter::check(&PolicyTables, active, direction, outside, traffic, bytes))
}

/// [`filter::check`] for IPv6; the result is [`filter::pack`]'s.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_filter_v6(
    active: u64,
    query: u32,
    first: u64,
    second: u64,
    bytes: u32,
) -> u64 {
    check_filter(active, query, [first, second], bytes)
}

/// [`filter::lookup_entry`] for IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_entry_v4(active: u64, query: u32, outside: V4) -> u32 {
    entry(active, query, outside)
}

/// [`filter::lookup_entry`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_entry_v6(active: u64, query: u32, first: u64, second: u64) -> u32 {
    entry(active, query, [first, second])
}

#[inline(always)]
fn entry<A: Address>(active: u64, query: u32, outside: A) -> u32
where
    PolicyTables: Prefixes<A>,
{
    let (direction, traffic) = unpack_query(query);
    let active = Active(active);
    let filter = PolicyTables.filter(active);
    filter::lookup_entry(&PolicyTables, filter, active, direction, outside, traffic).unwrap_or(0)
}

/// `Blocks::block_of` for IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_block_v4(blocking: u64, outside: V4) -> u32 {
    PolicyTables.block_of(Blocking(blocking), outside)
}

/// `Blocks::block_of` for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_block_v6(blocking: u64, first: u64, second: u64) -> u32 {
    PolicyTables.block_of(Blocking(blocking), [first, second])
}

/// [`blocks::check`] for IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_blocked_v4(outside: V4, bytes: u32) -> u32 {
    blocks::check(&PolicyTables, outside, bytes).into()
}

/// [`blocks::check`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_blocked_v6(first: u64, second: u64, bytes: u32) -> u32 {
    blocks::check(&PolicyTables, [first, second], bytes).into()
}

/// [`lookup::lookup_class`] of an "any" class.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_lookup_any(active: u64, query: u32, class: u32) -> u32 {
    let (direction, traffic) = unpack_query(query);
    let set = TableSet::policy(Active(active));
    lookup::lookup_class(&PolicyTables, set, direction, class, traffic).0.unwrap_or(0)
}

/// [`lookup::search`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_search(index: u32, at: u64, len: u64, limit: u64) -> u32 {
    lookup::search(at, len, limit, |page| maps::RANGES.get_value(index, &page)).unwrap_or(0)
}

/// The number itself: the verifier of Linux 6.1 would follow each offset and length of the IP header on its
/// own through the whole decision, more than a million instructions.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_forget(number: u32) -> u32 {
    // SAFETY: a local variable. Volatile, because the compiler would not call a function that returns its
    // argument.
    unsafe { core::ptr::read_volatile(&raw const number) }
}

/// Whether an interface with these settings allows an EtherType: inlined, its eight comparisons would need
/// a word of stack more than strict checks leave.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_ether_type(settings: u32, ether_type: u32) -> u32 {
    let Some(settings) = maps::SETTINGS_OF.get(settings) else { return 0 };
    settings.ether_types.contains(ether_type as u16).into()
}

// The state table of TCP: inlined, the verifier of Linux 6.1 would follow it for each family and table,
// more than a million instructions.

macro_rules! segment {
    ($name:ident, $checks:ident) => {
        /// [`segment::update`]; the result is [`segment::pack`]'s.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $name(
            flow: *mut Flow,
            numbers: u64,
            extent: u64,
            what: u32,
        ) -> u32 {
            if flow.is_null() {
                return 0;
            }
            // SAFETY: the caller's record of a table, which stays readable and writable until the
            // program ends.
            let flow = unsafe { FlowRef::new(flow) };
            let packed = PackedSegment { numbers, extent, what };
            segment::pack(segment::update(&flow, packed, TcpChecks::$checks))
        }
    };
}

segment!(sg_segment, Guard);
segment!(sg_segment_strict, Strict);

// Inserting and removing flows: inlined, the verifier of Linux 6.1 would follow each of their results on
// every path through the rest of the decision, more than a million instructions.

macro_rules! flows {
    ($address:ty, $insert:ident, $remove:ident, $scratch:ident, $lru:ident, $tcp:ident) => {
        /// Inserts the flow in the buffer unless there is one with its key; returns 0 or a negative error.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $insert(slot: u32, table: u32) -> i32 {
            let Some(scratch) = maps::$scratch.get_ptr(0) else { return FAILED };
            // SAFETY: this CPU's record, which the caller has just written.
            let (key, flow) = unsafe { (&(*scratch).key, (&raw const (*scratch).flow).cast()) };
            let flags = u64::from(BPF_NOEXIST);
            // SAFETY: as above; a map copies the value.
            let flow = unsafe { &*flow };
            let done = if table == Table::Tcp as u32 {
                let Some(table) = maps::$tcp.get(slot) else { return FAILED };
                table.insert(key, flow, flags)
            } else {
                let Some(table) = maps::$lru.get(slot << 1 | table & 1) else { return FAILED };
                table.insert(key, flow, flags)
            };
            done.err().unwrap_or(0)
        }

        /// Removes the flow whose key is in the buffer, and from the count of its source; another CPU may have
        /// removed it already.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $remove(slot: u32, table: u32) -> i32 {
            let Some(scratch) = maps::$scratch.get_ptr(0) else { return FAILED };
            // SAFETY: this CPU's record, which the caller has just written.
            let key = unsafe { &(*scratch).key };
            let done = if table == Table::Tcp as u32 {
                let Some(table) = maps::$tcp.get(slot) else { return FAILED };
                let done = table.remove(key);
                if done.is_ok() {
                    sg_source(slot, 0, <$address>::source(key));
                }
                done
            } else {
                let Some(table) = maps::$lru.get(slot << 1 | table & 1) else { return FAILED };
                table.remove(key)
            };
            done.err().unwrap_or(0)
        }
    };
}

/// Any error but that of an existing key.
const FAILED: i32 = -1;

flows!(V4, sg_insert_v4, sg_remove_v4, SCRATCH_V4, FLOWS_LRU_V4, FLOWS_TCP_V4);
flows!(V6, sg_insert_v6, sg_remove_v6, SCRATCH_V6, FLOWS_LRU_V6, FLOWS_TCP_V6);

// The Bloom filter: Linux 6.1 adds up the stack of the longest chain of calls, rounded up to 32 bytes
// for each, and inlined these would exceed 512.

/// [`maps::bloom_may_contain`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_bloom_test(slot: u32, bit: u32) -> u32 {
    u32::from(maps::bloom_may_contain(slot, Bit(bit)))
}

/// [`maps::bloom_insert`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_bloom_set(slot: u32, bit: u32) -> u32 {
    maps::bloom_insert(slot, Bit(bit));
    0
}

// Flows by source: rare, and a leaf of the chain of calls like the Bloom filter.

/// [`maps::change_source`] in the table of an interface; without one every source is admitted.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_source(slot: u32, limit: u32, source: u64) -> u32 {
    let table = maps::SOURCES.get(slot);
    table.is_none_or(|table| maps::change_source(table, &source, limit)).into()
}

// The search for a TCP option: inlined, the verifier of Linux 6.1 would continue from every option
// that can be the last, with more than a million instructions.

/// [`wire::find_window_scale`] at XDP.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_scale_xdp(ctx: *mut xdp_md, at: u32, end: u32) -> u32 {
    wire::find_window_scale(&Xdp::new(ctx, true), at, end).into()
}

/// [`wire::find_window_scale`] at TCX.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_scale_skb(ctx: *mut __sk_buff, at: u32, end: u32) -> u32 {
    wire::find_window_scale(&Skb::new(ctx, true), at, end).into()
}

// Exempt messages: rare, and inlined the verifier would walk their checks in both families.

/// [`wire::is_link_message`] at XDP.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_message_xdp(
    ctx: *mut xdp_md,
    ip: u32,
    at: u32,
    end: u32,
    message: u32,
) -> u32 {
    let message = LinkMessage::from_number(message);
    wire::is_link_message(&Xdp::new(ctx, true), ip, at, end, message).into()
}

/// [`wire::is_link_message`] at TCX.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_message_skb(
    ctx: *mut __sk_buff,
    ip: u32,
    at: u32,
    end: u32,
    message: u32,
) -> u32 {
    let message = LinkMessage::from_number(message);
    wire::is_link_message(&Skb::new(ctx, true), ip, at, end, message).into()
}

/// [`dhcp::track`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_dhcp(settings: u32, direction: u32, bytes: u32) -> u32 {
    let direction = if direction == 0 { Direction::Ingress } else { Direction::Egress };
    let Some(kernel) = Kernel::of_settings(settings) else { return 0 };
    dhcp::track(&kernel, direction, bytes).into()
}

// Port security: only where a guest is checked, and with stack that the decision does not have.

/// [`port_security::check`] at XDP; returns the number of a reason to drop, or 0. `what` has the index of
/// the settings in its lowest 16 bits.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_port_xdp(
    ctx: *mut xdp_md,
    what: u64,
    ports: u32,
    first: u64,
    second: u64,
) -> u32 {
    let Some(kernel) = Kernel::of_settings((what & 0xffff) as u32) else { return 0 };
    let packet = Xdp::new(ctx, globals::has_ethernet());
    let claim = Claim { what, ports, address: [first, second] };
    port_security::check(&packet, kernel.port(), claim).map_or_else(|reason| reason as u32, |()| 0)
}

/// [`port_security::check`] at TCX.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_port_skb(
    ctx: *mut __sk_buff,
    what: u64,
    ports: u32,
    first: u64,
    second: u64,
) -> u32 {
    let Some(kernel) = Kernel::of_settings((what & 0xffff) as u32) else { return 0 };
    let packet = Skb::new(ctx, globals::has_ethernet());
    let claim = Claim { what, ports, address: [first, second] };
    port_security::check(&packet, kernel.port(), claim).map_or_else(|reason| reason as u32, |()| 0)
}

/// [`port_security::is_own_arp`] at XDP.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_arp_xdp(ctx: *mut xdp_md, settings: u32) -> u32 {
    let Some(kernel) = Kernel::of_settings(settings) else { return 0 };
    port_security::is_own_arp(&Xdp::new(ctx, true), kernel.port()).into()
}

/// [`port_security::is_own_arp`] at TCX.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sg_arp_skb(ctx: *mut __sk_buff, settings: u32) -> u32 {
    let Some(kernel) = Kernel::of_settings(settings) else { return 0 };
    port_security::is_own_arp(&Skb::new(ctx, true), kernel.port()).into()
}
