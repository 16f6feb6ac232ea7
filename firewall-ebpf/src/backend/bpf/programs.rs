//! The entry points, one for each hook, and their traced variants. Each gives a packet view and a
//! direction to the decision, counts its reason, and returns the hook's action.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::{Reason, Verdict, verdict};
use firewall_ebpf::verdict::fast_path::{FastPath, fast_path};
use firewall_ebpf::verdict::tables::{Counts, Policy};
use firewall_ebpf::wire::packet::Packet;

use super::subprograms::{sg_slow_rx, sg_slow_tx, sg_slow_xdp, sg_trace_skb, sg_trace_xdp};
use super::tables::Kernel;
use super::{globals, maps, view};

/// XDP on receive, including frames in several buffers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_xdp_rx(ctx: *mut xdp_md) -> u32 {
    let direction = globals::orientation().received();
    let packet = view::Xdp::new(ctx);
    xdp_action(match fast_path(&packet, &Kernel, direction) {
        FastPath::Hit => established(&packet, direction),
        other => sg_slow_xdp(ctx, u32::from(other == FastPath::NoFlow)),
    })
}

/// TCX on receive.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_rx(ctx: *mut __sk_buff) -> i32 {
    let direction = globals::orientation().received();
    let packet = view::Skb::new(ctx);
    tcx_action(match fast_path(&packet, &Kernel, direction) {
        FastPath::Hit => established(&packet, direction),
        other => sg_slow_rx(ctx, u32::from(other == FastPath::NoFlow)),
    })
}

/// TCX on transmit.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_tx(ctx: *mut __sk_buff) -> i32 {
    let direction = globals::orientation().transmitted();
    let packet = view::Skb::new(ctx);
    tcx_action(match fast_path(&packet, &Kernel, direction) {
        FastPath::Hit => established(&packet, direction),
        other => sg_slow_tx(ctx, u32::from(other == FastPath::NoFlow)),
    })
}

/// Counts a packet that the fast path passed; returns the reason's number.
#[inline(always)]
fn established<P: Packet>(packet: &P, direction: Direction) -> u32 {
    maps::count_reason(direction, Reason::Established as u32, packet.linear_len())
}

/// [`sg_xdp_rx`] with a log line for each packet. The traced variants are programs of their own, so
/// that the others do not contain the logging.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_xdp_rx_trace(ctx: *mut xdp_md) -> u32 {
    let reason = sg_slow_xdp(ctx, 0);
    sg_trace_xdp(ctx, globals::orientation().received() as u32, reason);
    xdp_action(reason)
}

/// [`sg_tcx_rx`], traced.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_rx_trace(ctx: *mut __sk_buff) -> i32 {
    let reason = sg_slow_rx(ctx, 0);
    sg_trace_skb(ctx, globals::orientation().received() as u32, reason);
    tcx_action(reason)
}

/// [`sg_tcx_tx`], traced.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_tx_trace(ctx: *mut __sk_buff) -> i32 {
    let reason = sg_slow_tx(ctx, 0);
    sg_trace_skb(ctx, globals::orientation().transmitted() as u32, reason);
    tcx_action(reason)
}

#[inline(always)]
fn xdp_action(reason: u32) -> u32 {
    match verdict(reason) {
        Verdict::Drop if !audit_passes() => XDP_DROP,
        _ => XDP_PASS,
    }
}

/// Pass is "next", so that later programs on the hook run too.
#[inline(always)]
fn tcx_action(reason: u32) -> i32 {
    match verdict(reason) {
        Verdict::Drop if !audit_passes() => TCX_DROP,
        _ => TCX_NEXT,
    }
}

/// Whether a packet that was decided to be dropped passes, because the interface is in audit mode.
#[inline(always)]
fn audit_passes() -> bool {
    let passes = Kernel.active().is_audit();
    if passes {
        Kernel.count_event(Event::AuditPassed);
    }
    passes
}
