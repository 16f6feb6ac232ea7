//! Entry points. Each hands a packet view and a direction to the one decision function.

mod globals;
mod maps;
mod note;
mod probe;
mod reap;
mod tables;
mod trace;
mod view;

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::bpf_jiffies64;
use firewall_ebpf::decide::{Decision, Glance, glance, look};
use firewall_ebpf::event::{Event, event_index};
use firewall_ebpf::interface::Direction;
use firewall_ebpf::packet::Packet;
use firewall_ebpf::policy::counter_index;
use firewall_ebpf::reason::{Reason, Verdict, verdict};
use firewall_ebpf::tables::{Interface, Policy};

/// XDP on receive, frames in several buffers included.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_xdp_rx(ctx: *mut xdp_md) -> u32 {
    let direction = globals::orientation().received();
    let packet = view::Xdp::new(ctx);
    xdp_action(match glance(&packet, &tables::Kernel, direction) {
        Glance::Passed => established(&packet, direction),
        other => sg_look_xdp(ctx, u32::from(other == Glance::Absent)),
    })
}

/// TCX on receive.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_rx(ctx: *mut __sk_buff) -> i32 {
    let direction = globals::orientation().received();
    let packet = view::Skb::new(ctx);
    tcx_action(match glance(&packet, &tables::Kernel, direction) {
        Glance::Passed => established(&packet, direction),
        other => sg_look_rx(ctx, u32::from(other == Glance::Absent)),
    })
}

/// TCX on transmit.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_tx(ctx: *mut __sk_buff) -> i32 {
    let direction = globals::orientation().transmitted();
    let packet = view::Skb::new(ctx);
    tcx_action(match glance(&packet, &tables::Kernel, direction) {
        Glance::Passed => established(&packet, direction),
        other => sg_look_tx(ctx, u32::from(other == Glance::Absent)),
    })
}

/// The steady state ends here.
#[inline(always)]
fn established<P: Packet>(packet: &P, direction: Direction) -> u32 {
    count(packet.near_length(), direction, Reason::Established as u32)
}

// Everything but the steady state is a BPF function of its own: the verifier walks it once, and the
// steady state has all registers to itself. `is_absent`: see `Glance::Absent`.

/// The closer look at a packet at XDP; the reason's number, counted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_look_xdp(ctx: *mut xdp_md, is_absent: u32) -> u32 {
    closer(&view::Xdp::new(ctx), globals::orientation().received(), is_absent)
}

/// The same at TCX on receive.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_look_rx(ctx: *mut __sk_buff, is_absent: u32) -> u32 {
    closer(&view::Skb::new(ctx), globals::orientation().received(), is_absent)
}

/// The same at TCX on transmit.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_look_tx(ctx: *mut __sk_buff, is_absent: u32) -> u32 {
    closer(&view::Skb::new(ctx), globals::orientation().transmitted(), is_absent)
}

#[inline(always)]
fn closer<P: Packet>(packet: &P, direction: Direction, is_absent: u32) -> u32 {
    let glance = if is_absent == 0 { Glance::Unknown } else { Glance::Absent };
    let Decision { reason, bytes } = look(packet, &tables::Kernel, direction, glance);
    if reason.verdict() == Verdict::Drop {
        globals::note_refusal(tables::Kernel.now());
    }
    count(bytes, direction, reason as u32)
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

/// Every packet is counted once, by its reason.
#[inline(always)]
fn count(bytes: u32, direction: Direction, reason: u32) -> u32 {
    maps::count(counter_index(globals::slot(), direction, reason), bytes);
    reason
}

#[inline(always)]
fn xdp_action(reason: u32) -> u32 {
    match verdict(reason) {
        Verdict::Drop if !is_spared() => XDP_DROP,
        _ => XDP_PASS,
    }
}

/// Pass means "next", so that other programs on the hook still have their say.
#[inline(always)]
fn tcx_action(reason: u32) -> i32 {
    match verdict(reason) {
        Verdict::Drop if !is_spared() => TCX_DROP,
        _ => TCX_NEXT,
    }
}

/// Whether a packet that was decided to be dropped passes, because the interface is in audit.
#[inline(always)]
fn is_spared() -> bool {
    let spared = tables::Kernel.active().is_audit();
    if spared {
        maps::count_event(event_index(globals::slot(), Event::Spared));
    }
    spared
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program from which a panic is reachable.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
