//! The least that drops blocked addresses: parse, one lookup in a trie, counter.

use aya_ebpf::bindings::{__sk_buff, BPF_F_NO_PREALLOC, xdp_md};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{LpmTrie, PerCpuArray};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_ebpf::abi::address::{V4, V6};
use firewall_ebpf::abi::counter::Counter;

use crate::key;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static BENCH_BLOCKS_V4: LpmTrie<V4, [u32; 2], 1_048_576, NO_PREALLOC> = LpmTrie::new();
#[btf_map]
static BENCH_BLOCKS_V6: LpmTrie<V6, [u32; 2], 1_048_576, NO_PREALLOC> = LpmTrie::new();
#[btf_map]
static BENCH_BLOCKED: PerCpuArray<Counter, 2> = PerCpuArray::new();

const PASS: u32 = 2;
const DROP: u32 = 1;

/// Drops packets of the addresses in the trie.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn block_xdp(ctx: *mut xdp_md) -> u32 {
    let view = XdpContext::new(ctx);
    block(view.data(), view.data_end())
}

/// The same for an skb.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn block_tcx(ctx: *mut __sk_buff) -> i32 {
    let view = TcContext::new(ctx);
    block(view.data(), view.data_end()).cast_signed()
}

#[inline(always)]
fn block(data: usize, end: usize) -> u32 {
    let bytes = end - data;
    let is_blocked = match key::ether_type(data, end) {
        Some(key::IPV4) => key::v4(data, end)
            .is_some_and(|key| BENCH_BLOCKS_V4.get(&Key::new(32, key.outside)).is_some()),
        Some(key::IPV6) => key::v6(data, end)
            .is_some_and(|key| BENCH_BLOCKS_V6.get(&Key::new(128, key.outside)).is_some()),
        _ => false,
    };
    if let Some(counter) = BENCH_BLOCKED.get_ptr_mut(is_blocked.into()) {
        // SAFETY: this CPU's own.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes as u64;
        }
    }
    if is_blocked { DROP } else { PASS }
}
