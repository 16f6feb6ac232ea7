//! Setting the bits of flows for userspace; run through `BPF_PROG_TEST_RUN` only.

use aya_ebpf::bindings::__sk_buff;
use firewall_ebpf::flow::{Address, MAX_NOTED};
use firewall_ebpf::packet::{Packet, Wire};
use firewall_ebpf::parse::{V4, V6};

use super::{maps, view};

/// Sets the bits of the IPv4 flows of a list; returns how many there were.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_note_v4(ctx: *mut __sk_buff) -> i32 {
    note::<V4>(ctx)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_note_v6(ctx: *mut __sk_buff) -> i32 {
    note::<V6>(ctx)
}

#[inline(always)]
fn note<A: Address<Key: Wire>>(ctx: *mut __sk_buff) -> i32 {
    let list = view::Skb::new(ctx);
    let mut noted = 0;
    for index in 0..MAX_NOTED {
        let Some(key) = list.load::<A::Key>(index * size_of::<A::Key>() as u32) else { break };
        maps::mark(A::bit(&key));
        noted += 1;
    }
    noted
}
