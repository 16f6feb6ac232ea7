//! Answers to userspace about tables that are not in force yet; run through `BPF_PROG_TEST_RUN` only.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_store_bytes;
use firewall_ebpf::flow::Address;
use firewall_ebpf::packet::{Packet, Wire};
use firewall_ebpf::parse::{V4, V6};
use firewall_ebpf::policy::{Active, MAX_PROBED, PROBE_LIST, asked};
use firewall_ebpf::tables::Prefixes;

use super::tables::Kernel;
use super::view;

/// Answers a list of questions about IPv4 addresses, in place; returns how many there were.
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
    Kernel: Prefixes<A>,
{
    let list = view::Skb::new(ctx);
    let Some([active]) = list.load::<[u64; 1]>(0) else { return 0 };
    let mut answered = 0;
    for index in 0..MAX_PROBED {
        let at = PROBE_LIST + index * (8 + size_of::<A>() as u32);
        let (Some([ask]), Some(outside)) = (list.load::<[u32; 1]>(at), list.load::<A>(at + 8))
        else {
            break;
        };
        let (direction, traffic) = asked(ask);
        let rule = Kernel.admit(Active(active), direction, outside, traffic).unwrap_or(0);
        // SAFETY: the helper copies four bytes from the stack, and checks that they fit.
        unsafe { bpf_skb_store_bytes(ctx, at + 4, (&raw const rule).cast(), 4, 0) };
        answered += 1;
    }
    answered
}
