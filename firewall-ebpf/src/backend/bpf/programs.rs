//! The entry points, one for each hook. An interface's own programs check the blocks of the host and are
//! the fast path: each gives a packet view and a direction to both, and leaves other packets to the slow path, which all interfaces share, by a
//! tail call. Each program counts the packet's reason and returns the hook's action.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_ebpf::abi::event::{Event, event_index};
use firewall_ebpf::abi::interface::{Call, Direction, slow_path_index, traced_lines};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::reason::{Reason, Verdict, verdict};
use firewall_ebpf::verdict::blocks::{self, Early};
use firewall_ebpf::verdict::fast_path::{FastPath, fast_path};
use firewall_ebpf::verdict::slow_path::{Decision, slow_path};
use firewall_ebpf::verdict::tables::{Counts, Interface, PortSecurity};
use firewall_ebpf::wire::packet::Packet;

use super::entry::Entry;
use super::policy::PolicyTables;
use super::tables::Kernel;
use super::view::{Skb, Xdp};
use super::{globals, maps, trace};

/// XDP on receive, including frames in several buffers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_xdp_rx(ctx: *mut xdp_md) -> u32 {
    let direction = globals::orientation().received();
    let packet = Xdp::new(ctx, globals::has_ethernet());
    let active = Entry.active();
    let early = check_blocks(&packet, direction, active);
    if let Early::Blocked(counter) = early {
        return if blocked(&packet, direction, active, counter) { XDP_DROP } else { XDP_PASS };
    }
    if fast_path(&packet, &Entry, direction, active) == FastPath::Hit {
        established(&packet, direction);
        return XDP_PASS;
    }
    // SAFETY: the context is the kernel's.
    hand_over(unsafe { (*ctx).ingress_ifindex }, early);
    // SAFETY: nothing in this program needs to be dropped.
    unsafe { maps::SLOW_XDP.tail_call(&XdpContext::new(ctx), globals::slow_path(direction)) };
    no_slow_path(&packet, direction);
    XDP_DROP
}

/// TCX or clsact on receive.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_rx(ctx: *mut __sk_buff) -> i32 {
    classify(ctx, globals::orientation().received())
}

/// TCX or clsact on transmit.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_tx(ctx: *mut __sk_buff) -> i32 {
    classify(ctx, globals::orientation().transmitted())
}

#[inline(always)]
fn classify(ctx: *mut __sk_buff, direction: Direction) -> i32 {
    let packet = Skb::new(ctx, globals::has_ethernet());
    let active = Entry.active();
    let early = check_blocks(&packet, direction, active);
    if let Early::Blocked(counter) = early {
        return if blocked(&packet, direction, active, counter) { TCX_DROP } else { TCX_NEXT };
    }
    if fast_path(&packet, &Entry, direction, active) == FastPath::Hit {
        established(&packet, direction);
        return TCX_NEXT;
    }
    // SAFETY: the context is the kernel's.
    hand_over(unsafe { (*ctx).ifindex }, early);
    // SAFETY: nothing in this program needs to be dropped.
    unsafe { maps::SLOW_TC.tail_call(&TcContext::new(ctx), globals::slow_path(direction)) };
    no_slow_path(&packet, direction);
    TCX_DROP
}

/// Counts a packet that the fast path passed.
#[inline(always)]
fn established<P: Packet>(packet: &P, direction: Direction) {
    let reason = Reason::Established as u32;
    maps::count_reason(globals::slot(), direction, reason, packet.linear_len());
}

/// Checks the blocks of the host, if there are any. A traced interface leaves this to the slow path, so that
/// a line is printed for the packet.
#[inline(always)]
fn check_blocks<P: Packet>(packet: &P, direction: Direction, active: Active) -> Early {
    if !active.has_blocks() || globals::is_traced() {
        // Where the first block comes right now, the slow path finds it.
        Early::Unknown
    } else {
        blocks::early(packet, &PolicyTables, direction)
    }
}

/// Counts a packet whose outside address is blocked, at its reason and at the block. Returns whether it is
/// dropped: it passes if the interface is in audit mode.
#[inline(always)]
fn blocked<P: Packet>(packet: &P, direction: Direction, active: Active, counter: u32) -> bool {
    let (slot, bytes) = (globals::slot(), blocks::bytes(packet));
    maps::count_entry(counter, bytes);
    maps::record_drop(slot, Entry.now());
    maps::count_reason(slot, direction, Reason::Blocked as u32, bytes);
    if active.is_audit() {
        maps::count_event(event_index(slot, Event::AuditPassed));
    }
    !active.is_audit()
}

/// Tells the slow path about a packet.
#[inline(always)]
fn hand_over(device: u32, early: Early) {
    let call = Call::new(globals::settings(), device);
    maps::set_call(call.with_passed_blocks(early == Early::Passed));
}

/// Counts a packet for which there is no program of the slow path: it is dropped.
#[inline(always)]
fn no_slow_path<P: Packet>(packet: &P, direction: Direction) {
    let reason = Reason::NoPolicy as u32;
    maps::count_reason(globals::slot(), direction, reason, packet.length());
}

/// The slow path at XDP.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_slow_xdp(ctx: *mut xdp_md) -> u32 {
    // SAFETY: the context is the kernel's.
    let Some(call) = maps::call(unsafe { (*ctx).ingress_ifindex }) else { return XDP_DROP };
    let Some(kernel) = Kernel::new(call) else { return XDP_DROP };
    let packet = Xdp::new(ctx, globals::has_ethernet());
    xdp_action(&kernel, decide(&packet, &kernel))
}

/// The slow path at TCX and clsact.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_slow_tc(ctx: *mut __sk_buff) -> i32 {
    // SAFETY: the context is the kernel's.
    let Some(call) = maps::call(unsafe { (*ctx).ifindex }) else { return TCX_DROP };
    let Some(kernel) = Kernel::new(call) else { return TCX_DROP };
    let packet = Skb::new(ctx, globals::has_ethernet());
    tcx_action(&kernel, decide(&packet, &kernel))
}

/// Decides about a packet and counts the reason; returns its number.
#[inline(always)]
fn decide<P: Packet>(packet: &P, kernel: &Kernel) -> u32
where
    Kernel: PortSecurity<P>,
{
    let direction = globals::direction();
    let Decision { reason, bytes } = slow_path(packet, kernel, direction);
    if reason.verdict() == Verdict::Drop {
        maps::record_drop(kernel.slot(), kernel.now());
    }
    maps::count_reason(kernel.slot(), direction, reason as u32, bytes)
}

/// [`sg_slow_xdp`], which [`sg_trace_xdp`] follows. The traced variants are programs of their own, so that
/// the others do not contain the logging; a traced interface has no fast path.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_trace_slow_xdp(ctx: *mut xdp_md) -> u32 {
    // SAFETY: the context is the kernel's.
    let Some(call) = maps::call(unsafe { (*ctx).ingress_ifindex }) else { return XDP_DROP };
    let Some(kernel) = Kernel::new(call) else { return XDP_DROP };
    let reason = decide(&Xdp::new(ctx, globals::has_ethernet()), &kernel);
    maps::set_call(call.with_decision(reason, false));
    // SAFETY: nothing in this program needs to be dropped.
    unsafe { maps::SLOW_XDP.tail_call(&XdpContext::new(ctx), lines(&kernel)) };
    xdp_action(&kernel, reason)
}

/// [`sg_slow_tc`], which [`sg_trace_tc`] follows.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_trace_slow_tc(ctx: *mut __sk_buff) -> i32 {
    // SAFETY: the context is the kernel's.
    let Some(call) = maps::call(unsafe { (*ctx).ifindex }) else { return TCX_DROP };
    let Some(kernel) = Kernel::new(call) else { return TCX_DROP };
    let reason = decide(&Skb::new(ctx, globals::has_ethernet()), &kernel);
    maps::set_call(call.with_decision(reason, false));
    // SAFETY: nothing in this program needs to be dropped.
    unsafe { maps::SLOW_TC.tail_call(&TcContext::new(ctx), lines(&kernel)) };
    tcx_action(&kernel, reason)
}

/// Index of the program that prints the packets of a traced interface.
#[inline(always)]
fn lines(kernel: &Kernel) -> u32 {
    slow_path_index(traced_lines(kernel.slot()), globals::direction())
}

/// Logs a line for a packet at XDP, and returns what was decided.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_trace_xdp(ctx: *mut xdp_md) -> u32 {
    // SAFETY: the context is the kernel's.
    let Some(call) = maps::call(unsafe { (*ctx).ingress_ifindex }) else { return XDP_DROP };
    let Some(kernel) = Kernel::new(call) else { return XDP_DROP };
    let packet = Xdp::new(ctx, globals::has_ethernet());
    trace::log(&packet, globals::direction() as u32, call.reason());
    xdp_action(&kernel, call.reason())
}

/// The same at TCX and clsact.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_trace_tc(ctx: *mut __sk_buff) -> i32 {
    // SAFETY: the context is the kernel's.
    let Some(call) = maps::call(unsafe { (*ctx).ifindex }) else { return TCX_DROP };
    let Some(kernel) = Kernel::new(call) else { return TCX_DROP };
    let packet = Skb::new(ctx, globals::has_ethernet());
    trace::log(&packet, globals::direction() as u32, call.reason());
    tcx_action(&kernel, call.reason())
}

#[inline(always)]
fn xdp_action(kernel: &Kernel, reason: u32) -> u32 {
    match verdict(reason) {
        Verdict::Drop if !audit_passes(kernel) => XDP_DROP,
        _ => XDP_PASS,
    }
}

/// Pass is "next", so that later programs on the hook run too.
#[inline(always)]
fn tcx_action(kernel: &Kernel, reason: u32) -> i32 {
    match verdict(reason) {
        Verdict::Drop if !audit_passes(kernel) => TCX_DROP,
        _ => TCX_NEXT,
    }
}

/// Whether a packet that was decided to be dropped passes, because the interface is in audit mode.
#[inline(always)]
fn audit_passes(kernel: &Kernel) -> bool {
    let passes = kernel.active().is_audit();
    if passes {
        kernel.count_event(Event::AuditPassed);
    }
    passes
}
