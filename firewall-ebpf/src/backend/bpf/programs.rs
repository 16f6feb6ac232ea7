//! The entry points, one for each hook. An interface's own programs check the blocks of the host and are
//! the fast path: each gives a packet view and a direction to both, and leaves other packets to the slow path, which all interfaces share, by a
//! tail call. Each program counts the packet's reason and returns the hook's action. Where the interface is watched,
//! what is dropped goes on to the programs in [`super::records`], by another tail call; if it fails, the packet has
//! no record, and its verdict holds.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_ebpf::abi::event::{Event, event_index};
use firewall_ebpf::abi::interface::{Call, Direction, record_index};
use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::reason::{Reason, Verdict, verdict};
use firewall_ebpf::abi::record::{Note, Watch};
use firewall_ebpf::verdict::blocks::{self, Early};
use firewall_ebpf::verdict::fast_path::{FastPath, fast_path};
use firewall_ebpf::verdict::slow_path::{Decision, slow_path};
use firewall_ebpf::verdict::tables::{Counts, Interface, PortSecurity};
use firewall_ebpf::wire::packet::Packet;

use super::entry::Entry;
use super::policy::PolicyTables;
use super::tables::Kernel;
use super::view::{Skb, Xdp};
use super::{globals, maps};

/// XDP on receive, including frames in several buffers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_xdp_rx(ctx: *mut xdp_md) -> u32 {
    let direction = globals::orientation().received();
    let packet = Xdp::new(ctx, globals::has_ethernet());
    let active = Entry.active();
    let early = check_blocks(&packet, direction, active);
    if let Early::Blocked(counter) = early {
        // SAFETY: the context is the kernel's.
        if blocked(&packet, direction, active, counter, unsafe { (*ctx).ingress_ifindex }) {
            record_xdp(ctx, direction);
        }
        return if active.is_audit() { XDP_PASS } else { XDP_DROP };
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
        // SAFETY: the context is the kernel's.
        if blocked(&packet, direction, active, counter, unsafe { (*ctx).ifindex }) {
            record_tc(ctx, direction);
        }
        return if active.is_audit() { TCX_NEXT } else { TCX_DROP };
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

/// Checks the blocks of the host, if there are any.
#[inline(always)]
fn check_blocks<P: Packet>(packet: &P, direction: Direction, active: Active) -> Early {
    if !active.has_blocks() {
        // Where the first block comes right now, the slow path finds it.
        Early::Unknown
    } else {
        blocks::early(packet, &PolicyTables, direction)
    }
}

/// Counts a packet whose outside address is blocked, at its reason and at the block. It passes if the interface is
/// in audit mode. Returns whether it is to be recorded; then that is handed over.
#[inline(always)]
fn blocked<P: Packet>(
    packet: &P,
    direction: Direction,
    active: Active,
    counter: u32,
    device: u32,
) -> bool {
    let (slot, bytes) = (globals::slot(), blocks::bytes(packet));
    maps::count_entry(counter, bytes);
    let recorded = maps::note_drop(slot, Entry.now());
    maps::count_reason(slot, direction, Reason::Blocked as u32, bytes);
    if active.is_audit() {
        maps::count_event(event_index(slot, Event::AuditPassed));
    }
    if recorded {
        maps::set_call(Call::new(globals::settings(), device));
        maps::set_note(Note::new(active.generation(), counter));
        maps::set_decision(Reason::Blocked as u32, active.is_audit(), bytes);
    }
    recorded
}

/// Goes on to the program that records a packet; returns if there is none.
#[inline(always)]
fn record_xdp(ctx: *mut xdp_md, direction: Direction) {
    let index = record_index(globals::has_ethernet(), direction);
    // SAFETY: nothing in the callers needs to be dropped.
    unsafe { maps::SLOW_XDP.tail_call(&XdpContext::new(ctx), index) };
}

/// The same at TCX and clsact.
#[inline(always)]
fn record_tc(ctx: *mut __sk_buff, direction: Direction) {
    let index = record_index(globals::has_ethernet(), direction);
    // SAFETY: as above.
    unsafe { maps::SLOW_TC.tail_call(&TcContext::new(ctx), index) };
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
    let Decided { passes, recorded } = decide(&packet, &kernel);
    if recorded {
        record_xdp(ctx, globals::direction());
    }
    if passes { XDP_PASS } else { XDP_DROP }
}

/// The slow path at TCX and clsact. Pass is "next", so that later programs on the hook run too.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_slow_tc(ctx: *mut __sk_buff) -> i32 {
    // SAFETY: the context is the kernel's.
    let Some(call) = maps::call(unsafe { (*ctx).ifindex }) else { return TCX_DROP };
    let Some(kernel) = Kernel::new(call) else { return TCX_DROP };
    let packet = Skb::new(ctx, globals::has_ethernet());
    let Decided { passes, recorded } = decide(&packet, &kernel);
    if recorded {
        record_tc(ctx, globals::direction());
    }
    if passes { TCX_NEXT } else { TCX_DROP }
}

/// What the slow path does with a packet.
struct Decided {
    passes: bool,
    /// It goes on to be recorded.
    recorded: bool,
}

/// Decides about a packet and counts the reason.
#[inline(always)]
fn decide<P: Packet>(packet: &P, kernel: &Kernel) -> Decided
where
    Kernel: PortSecurity<P>,
{
    let direction = globals::direction();
    let Decision { reason, bytes } = slow_path(packet, kernel, direction);
    let reason = maps::count_reason(kernel.slot(), direction, reason as u32, bytes);
    let is_dropped = verdict(reason) == Verdict::Drop;
    let recorded = if is_dropped {
        maps::note_drop(kernel.slot(), kernel.now())
    } else {
        (reason == Reason::Admitted as u32 || reason == Reason::Untracked as u32)
            && maps::watch(kernel.slot()).has(Watch::PASSES, kernel.now())
    };
    // In audit mode it is only counted.
    let audit = is_dropped && kernel.active().is_audit();
    if audit {
        kernel.count_event(Event::AuditPassed);
    }
    if recorded {
        maps::set_decision(reason, audit, bytes);
    }
    Decided { passes: !is_dropped || audit, recorded }
}
