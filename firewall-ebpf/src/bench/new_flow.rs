//! The least that a new flow costs: a lookup that misses, and an insert into a full LRU table, which evicts
//! another entry.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::btf_maps::{LruHashMap, PerCpuArray};
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::flow::{Flow, FlowKey4, FlowKey6};

use crate::key;

/// Keys, values and sizes of the product's tables of unproven flows. The bench fills them first.
#[btf_map]
static FLOOR_V4: LruHashMap<FlowKey4, Flow, 32_768> = LruHashMap::new();
#[btf_map]
static FLOOR_V6: LruHashMap<FlowKey6, Flow, 32_768> = LruHashMap::new();
#[btf_map]
static FLOOR_COUNTER: PerCpuArray<Counter, 2> = PerCpuArray::new();
/// The inserted record: as in the product, not on the stack.
#[btf_map]
static FLOOR_FLOW: PerCpuArray<Flow, 1> = PerCpuArray::new();

const PASS: u32 = 2;
const DROP: u32 = 1;

/// Parse, lookup, insert, counter.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn floor_xdp(ctx: *mut xdp_md) -> u32 {
    let view = XdpContext::new(ctx);
    floor(view.data(), view.data_end())
}

/// The same for an skb.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn floor_tcx(ctx: *mut __sk_buff) -> i32 {
    let view = TcContext::new(ctx);
    floor(view.data(), view.data_end()).cast_signed()
}

/// Passes a packet whose flow is new and was inserted.
#[inline(always)]
fn floor(data: usize, end: usize) -> u32 {
    let Some(flow) = FLOOR_FLOW.get_ptr_mut(0) else { return DROP };
    // SAFETY: this CPU's own record.
    let flow = unsafe {
        (*flow).last_seen = bpf_jiffies64();
        &*flow
    };
    let is_new = match key::ether_type(data, end) {
        Some(key::IPV4) => key::v4(data, end).is_some_and(|key| {
            FLOOR_V4.get_ptr(key).is_none() && FLOOR_V4.insert(key, flow, 0).is_ok()
        }),
        Some(key::IPV6) => key::v6(data, end).is_some_and(|key| {
            FLOOR_V6.get_ptr(key).is_none() && FLOOR_V6.insert(key, flow, 0).is_ok()
        }),
        _ => false,
    };
    if let Some(counter) = FLOOR_COUNTER.get_ptr_mut(u32::from(is_new)) {
        // SAFETY: this CPU's own.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += (end - data) as u64;
        }
    }
    if is_new { PASS } else { DROP }
}
