//! Removing dead flows for userspace, which found them; run through `BPF_PROG_TEST_RUN` only.

use aya_ebpf::bindings::__sk_buff;
use firewall_ebpf::event::{Event, event_index};
use firewall_ebpf::flow::{Address, FlowKey4, FlowKey6, MAX_REAPED, REAP_LIST, Tier};
use firewall_ebpf::packet::{Packet, Wire};
use firewall_ebpf::parse::{V4, V6};
use firewall_ebpf::tables::Flows;

use super::{maps, tables::Kernel, view};

/// Removes the IPv4 flows of a list that nobody touched since; returns their number.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_reap_v4(ctx: *mut __sk_buff) -> i32 {
    reap::<V4>(ctx, |key: &FlowKey4| key.slot)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_reap_v6(ctx: *mut __sk_buff) -> i32 {
    reap::<V6>(ctx, |key: &FlowKey6| key.slot)
}

#[inline(always)]
fn reap<A: Address<Key: Wire>>(ctx: *mut __sk_buff, slot: impl Fn(&A::Key) -> u16) -> i32
where
    Kernel: Flows<A>,
{
    let list = view::Skb::new(ctx);
    let Some([tier]) = list.load::<[u64; 1]>(0) else { return 0 };
    let tier = if tier == Tier::Proven as u64 { Tier::Proven } else { Tier::New };
    let mut reaped = 0;
    for index in 0..MAX_REAPED {
        let at = REAP_LIST + index * (8 + size_of::<A::Key>() as u32);
        let (Some([last_seen]), Some(key)) =
            (list.load::<[u64; 1]>(at), list.load::<A::Key>(at + 8))
        else {
            break;
        };
        // A packet may touch the flow between this look and the removal. It finds it dead, as
        // userspace did, and opens another in the new tier: of that, at worst, the first packet's
        // flow is lost, and its second packet opens it again.
        if Flows::<A>::find(&Kernel, tier, &key).is_some_and(|flow| flow.last_seen() == last_seen) {
            Flows::<A>::remove(&Kernel, tier, &key);
            if tier == Tier::New {
                maps::count_event(event_index(slot(&key), Event::Removed));
            }
            reaped += 1;
        }
    }
    reaped
}
