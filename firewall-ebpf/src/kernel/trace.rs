//! The traced variants of the programs: one line per packet through aya-log. They are programs of
//! their own, so that the others carry nothing of this.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_log_ebpf::info;
use firewall_ebpf::packet::Packet;
use firewall_ebpf::parse::{Frame, Segments, V6, parse};

use super::view::{Context, Skb, Xdp};
use super::{globals, sg_look_rx, sg_look_tx, sg_look_xdp, tcx_action, xdp_action};

/// [`super::sg_xdp_rx`], traced.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
extern "C" fn sg_xdp_rx_trace(ctx: *mut xdp_md) -> u32 {
    let reason = sg_look_xdp(ctx, 0);
    sg_trace_xdp(ctx, globals::orientation().received() as u32, reason);
    xdp_action(reason)
}

/// [`super::sg_tcx_rx`], traced.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_rx_trace(ctx: *mut __sk_buff) -> i32 {
    let reason = sg_look_rx(ctx, 0);
    sg_trace_skb(ctx, globals::orientation().received() as u32, reason);
    tcx_action(reason)
}

/// [`super::sg_tcx_tx`], traced.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sg_tcx_tx_trace(ctx: *mut __sk_buff) -> i32 {
    let reason = sg_look_tx(ctx, 0);
    sg_trace_skb(ctx, globals::orientation().transmitted() as u32, reason);
    tcx_action(reason)
}

// BPF functions of their own, called after the decision: a program's stack is that of its deepest
// chain of calls, and the decision and a line each take more than half of the 512 bytes.

/// A line for a packet at XDP.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_trace_xdp(ctx: *mut xdp_md, direction: u32, reason: u32) -> u32 {
    line(&Xdp::new(ctx), direction, reason);
    0
}

/// A line for a packet at TCX.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_trace_skb(ctx: *mut __sk_buff, direction: u32, reason: u32) -> u32 {
    line(&Skb::new(ctx), direction, reason);
    0
}

/// Direction and reason are their numbers; the reader names them.
#[inline(always)]
fn line<P: Packet + Context>(packet: &P, direction: u32, reason: u32) {
    let ctx = packet.context();
    let mut segments = Segments::new();
    match parse(packet, &mut segments) {
        Ok(Frame::V4) => info!(
            &ctx,
            "{} {} proto {} {:i}:{} > {:i}:{} length {}",
            direction,
            reason,
            segments.v4.protocol,
            u32::from_be(segments.v4.src),
            u16::from_be(segments.v4.src_port()),
            u32::from_be(segments.v4.dst),
            u16::from_be(segments.v4.dst_port()),
            packet.length()
        ),
        Ok(Frame::V6) => info!(
            &ctx,
            "{} {} proto {} [{:i}]:{} > [{:i}]:{} length {}",
            direction,
            reason,
            segments.v6.protocol,
            octets(segments.v6.src),
            u16::from_be(segments.v6.src_port()),
            octets(segments.v6.dst),
            u16::from_be(segments.v6.dst_port()),
            packet.length()
        ),
        Ok(Frame::NonIp(ether_type)) => {
            info!(
                &ctx,
                "{} {} ethertype {:x} length {}",
                direction,
                reason,
                ether_type,
                packet.length()
            );
        }
        Err(_) => info!(&ctx, "{} {} length {}", direction, reason, packet.length()),
    }
}

#[inline(always)]
const fn octets(address: V6) -> [u8; 16] {
    // SAFETY: same size, and any bytes are valid octets.
    unsafe { core::mem::transmute(address) }
}
