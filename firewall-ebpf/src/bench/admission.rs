//! The reference for rule lookup: one lookup in the policy's own trie for each query of a list, in the
//! format of `sg_probe_v4`.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::btf_maps::LpmTrie;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::macros::btf_map;
use firewall_ebpf::abi::helper::{LIST_HEADER, MAX_PROBED};

/// The loader puts the trie of a policy in its place.
#[btf_map]
static BENCH_PREFIXES: LpmTrie<u32, [u32; 2], 1> = LpmTrie::new();

/// Reads each query and stores 0 as its result: the cost of the list itself.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn list_v4(ctx: *mut __sk_buff) -> i32 {
    each(ctx, |_| 0)
}

/// Stores the class of the longest prefix as the result of each query.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn longest_v4(ctx: *mut __sk_buff) -> i32 {
    each(ctx, |address| BENCH_PREFIXES.get(&Key::new(32, address)).map_or(0, |classes| classes[0]))
}

#[inline(always)]
fn each(ctx: *mut __sk_buff, lookup: impl Fn(u32) -> u32) -> i32 {
    let mut evaluated = 0;
    for index in 0..MAX_PROBED {
        let at = LIST_HEADER + index * 12;
        let (mut query, mut address) = (0_u32, 0_u32);
        // SAFETY: the helper fills four bytes or fails.
        unsafe {
            if bpf_skb_load_bytes(ctx.cast(), at, (&raw mut query).cast(), 4) != 0
                || bpf_skb_load_bytes(ctx.cast(), at + 8, (&raw mut address).cast(), 4) != 0
            {
                break;
            }
        }
        let result = lookup(address);
        // SAFETY: the helper copies four bytes from the stack, and checks that they fit.
        unsafe { bpf_skb_store_bytes(ctx, at + 4, (&raw const result).cast(), 4, 0) };
        evaluated += 1;
    }
    evaluated
}
