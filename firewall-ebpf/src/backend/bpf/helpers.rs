//! Helper programs that userspace runs through `BPF_PROG_TEST_RUN` and that are attached nowhere. The
//! formats of their lists are in `abi::helper`.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_skb_store_bytes};
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::event::{Event, event_index};
use firewall_ebpf::abi::flow::{FlowKey4, FlowKey6, Table};
use firewall_ebpf::abi::helper::{
    LIST_HEADER, MAX_BLOOM_KEYS, MAX_EXPIRED, MAX_PROBED, MAX_SET_ACTIVE, SET_ACTIVE_ENTRY,
    SET_BLOCKING, SET_WATCH, unpack_query,
};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::record::Watch;
use firewall_ebpf::verdict::tables::{FlowLookup, Rules};
use firewall_ebpf::wire::address::Address;
use firewall_ebpf::wire::packet::{Packet, Wire};

use super::maps;
use super::policy::PolicyTables;
use super::subprograms::{sg_block_v4, sg_block_v6, sg_entry_v4, sg_entry_v6};
use super::tables::{Kernel, Removal};
use super::view::Skb;

/// Writes the kernel's clock to `CLOCK`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_clock(_: *mut __sk_buff) -> i32 {
    // SAFETY: the helper takes no argument and has no effect.
    let now = unsafe { bpf_jiffies64() };
    // Two runs at once may write in either order: both values are current.
    let _ = maps::CLOCK.set(0, now, 0);
    0
}

/// Makes the policies, blocks and watches of a list active, one entry after the other, each by one aligned
/// 64-bit store; returns how many it made active.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_set_active(ctx: *mut __sk_buff) -> i32 {
    let list = Skb::new(ctx, true);
    let mut written = 0;
    for index in 0..MAX_SET_ACTIVE {
        let at = LIST_HEADER + index * SET_ACTIVE_ENTRY;
        let Some([slot, word]) = list.load::<[u64; 2]>(at) else { break };
        let slot = slot as u32;
        if slot != SET_BLOCKING && slot >= SET_WATCH {
            maps::set_watch(slot as u16, Watch(word));
            written += 1;
            continue;
        }
        let active = if slot == SET_BLOCKING {
            maps::BLOCKING.get_ptr_mut(0)
        } else {
            maps::ACTIVE.get_ptr_mut(slot)
        };
        let Some(active) = active else { break };
        // SAFETY: an element of the map, aligned to 8 bytes. Programs on other CPUs read the word
        // meanwhile, each the old or the new value; userspace writes under its lock.
        unsafe { active.write_volatile(word) };
        written += 1;
    }
    written
}

/// Sets the bits of the IPv4 flows of a list in both Bloom filters of their interfaces; returns how many
/// there were.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_bloom_insert_v4(ctx: *mut __sk_buff) -> i32 {
    bloom_insert::<V4>(ctx, |key: &FlowKey4| key.slot)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_bloom_insert_v6(ctx: *mut __sk_buff) -> i32 {
    bloom_insert::<V6>(ctx, |key: &FlowKey6| key.slot)
}

#[inline(always)]
fn bloom_insert<A: Address<Key: Wire>>(ctx: *mut __sk_buff, slot: impl Fn(&A::Key) -> u16) -> i32 {
    let list = Skb::new(ctx, true);
    let mut inserted = 0;
    for index in 0..MAX_BLOOM_KEYS {
        let at = LIST_HEADER + index * size_of::<A::Key>() as u32;
        let Some(key) = list.load::<A::Key>(at) else { break };
        maps::bloom_insert(slot(&key).into(), A::bit(&key));
        inserted += 1;
    }
    inserted
}

/// Removes the IPv4 flows of a list that no packet has refreshed since userspace read them; returns
/// their number.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_expire_v4(ctx: *mut __sk_buff) -> i32 {
    expire::<V4>(ctx, |key: &FlowKey4| key.slot)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_expire_v6(ctx: *mut __sk_buff) -> i32 {
    expire::<V6>(ctx, |key: &FlowKey6| key.slot)
}

#[inline(always)]
fn expire<A: Address<Key: Wire>>(ctx: *mut __sk_buff, slot: impl Fn(&A::Key) -> u16) -> i32
where
    Kernel: FlowLookup<A> + Removal<A>,
{
    let list = Skb::new(ctx, true);
    let Some([table]) = list.load::<[u64; 1]>(0) else { return 0 };
    let Some(table) = Table::from_number(table) else { return 0 };
    let mut removed = 0;
    for index in 0..MAX_EXPIRED {
        let at = LIST_HEADER + index * (8 + size_of::<A::Key>() as u32);
        let (Some([last_seen]), Some(key)) =
            (list.load::<[u64; 1]>(at), list.load::<A::Key>(at + 8))
        else {
            break;
        };
        // A packet may use the key between the lookup and the removal. It finds the flow expired, as
        // userspace did, and creates another in the new tier. At worst that one is removed after its
        // first packet, and its second packet creates it again.
        let Some(kernel) = Kernel::of_slot(slot(&key)) else { break };
        let flow = FlowLookup::<A>::lookup(&kernel, table, &key);
        if flow.is_some_and(|flow| flow.last_seen() == last_seen) {
            Removal::<A>::remove_inline(&kernel, table, &key);
            if table == Table::New {
                maps::count_event(event_index(slot(&key), Event::Removed));
            }
            removed += 1;
        }
    }
    removed
}

/// Evaluates a list of queries about IPv4 addresses in tables that need not be active, and stores the
/// results in the list; returns how many there were.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_probe_v4(ctx: *mut __sk_buff) -> i32 {
    probe::<V4>(ctx)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_probe_v6(ctx: *mut __sk_buff) -> i32 {
    probe::<V6>(ctx)
}

#[inline(always)]
fn probe<A: Address + Wire>(ctx: *mut __sk_buff) -> i32
where
    PolicyTables: Rules<A>,
{
    evaluate(ctx, |active, query, outside| {
        let (direction, traffic) = unpack_query(query);
        PolicyTables.lookup_rule(Active(active), direction, outside, traffic).unwrap_or(0)
    })
}

/// Looks a list of queries about IPv4 addresses up in a filter that need not be active, and stores the entries
/// in the list; returns how many there were.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_probe_filter_v4(ctx: *mut __sk_buff) -> i32 {
    evaluate::<V4>(ctx, |active, query, outside| sg_entry_v4(active, query, outside))
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_probe_filter_v6(ctx: *mut __sk_buff) -> i32 {
    evaluate::<V6>(ctx, |active, query, [first, second]| sg_entry_v6(active, query, first, second))
}

/// Looks a list of IPv4 addresses up in tries of blocks that need not be active, and stores the values in the
/// list; returns how many there were.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_probe_blocks_v4(ctx: *mut __sk_buff) -> i32 {
    evaluate::<V4>(ctx, |blocking, _, outside| sg_block_v4(blocking, outside))
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_probe_blocks_v6(ctx: *mut __sk_buff) -> i32 {
    evaluate::<V6>(ctx, |blocking, _, [first, second]| sg_block_v6(blocking, first, second))
}

/// Evaluates a list of queries with the list's word, and stores the results in it; returns how many there
/// were.
#[inline(always)]
fn evaluate<A: Address + Wire>(ctx: *mut __sk_buff, result: impl Fn(u64, u32, A) -> u32) -> i32 {
    let list = Skb::new(ctx, true);
    let Some([word]) = list.load::<[u64; 1]>(0) else { return 0 };
    let mut evaluated = 0;
    for index in 0..MAX_PROBED {
        let at = LIST_HEADER + index * (8 + size_of::<A>() as u32);
        let (Some([query]), Some(outside)) = (list.load::<[u32; 1]>(at), list.load::<A>(at + 8))
        else {
            break;
        };
        let found = result(word, query, outside);
        // SAFETY: the helper copies four bytes from the stack, and checks that they fit.
        unsafe { bpf_skb_store_bytes(ctx, at + 4, (&raw const found).cast(), 4, 0) };
        evaluated += 1;
    }
    evaluated
}
