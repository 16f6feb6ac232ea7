//! Entry points. Each hands a packet view and a direction to the one decision function.

mod globals;
mod maps;
mod reap;
mod tables;
mod trace;
mod view;

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_ebpf::decide::{Decision, decide};
use firewall_ebpf::interface::Direction;
use firewall_ebpf::packet::Packet;
use firewall_ebpf::policy::counter_index;
use firewall_ebpf::reason::{Verdict, verdict};

/// XDP on receive, frames in several buffers included.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_xdp_rx(ctx: *mut xdp_md) -> u32 {
    xdp_action(run(&view::Xdp::new(ctx), globals::orientation().received()))
}

/// TCX on receive.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_rx(ctx: *mut __sk_buff) -> i32 {
    tcx_action(run(&view::Skb::new(ctx), globals::orientation().received()))
}

/// TCX on transmit.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_tx(ctx: *mut __sk_buff) -> i32 {
    tcx_action(run(&view::Skb::new(ctx), globals::orientation().transmitted()))
}

/// Writes the kernel's clock where userspace can read it; run through `BPF_PROG_TEST_RUN` only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_clock(_: *mut __sk_buff) -> i32 {
    // SAFETY: the helper takes nothing and has no effect.
    let now = unsafe { bpf_jiffies64() };
    // One writer at a time matters to nobody: every value is the time of a moment ago.
    let _ = maps::CLOCK.set(0, now, 0);
    0
}

#[inline(always)]
fn run<P: Packet>(packet: &P, direction: Direction) -> Verdict {
    let Decision { reason, bytes } = decide(packet, &tables::Kernel, direction);
    count(bytes, direction, reason as u32)
}

/// Every packet is counted once, by its reason.
#[inline(always)]
fn count(bytes: u32, direction: Direction, reason: u32) -> Verdict {
    maps::count(counter_index(globals::slot(), direction, reason), bytes);
    verdict(reason)
}

#[inline(always)]
const fn xdp_action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass => XDP_PASS,
        Verdict::Drop => XDP_DROP,
    }
}

/// Pass means "next", so that other programs on the hook still have their say.
#[inline(always)]
const fn tcx_action(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass => TCX_NEXT,
        Verdict::Drop => TCX_DROP,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program from which a panic is reachable.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
