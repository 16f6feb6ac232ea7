//! Strict TCP: whether a segment is in the window of its connection.
//!
//! The four bounds are Guido van Rooij's (“Real stateful TCP packet filtering in IP Filter”, 2000),
//! which nf_conntrack uses too. Selective acknowledgements are not read: they are between the
//! acknowledgement number and the end of the data sent, and move neither edge of the window.

use super::flow::FlowRef;
use crate::abi::flow::{Flow, NO_SCALE, PICKED_UP};
use crate::abi::interface::Direction;
use crate::wire::headers::PacketHeaders;
use crate::wire::tcp::seq_after;

/// Bytes that an acknowledgement number may be before the data sent, at least: more than the largest
/// unscaled window and one segment (nf_conntrack's MAXACKWINCONST).
const MIN_ACK_WINDOW: u32 = 66_000;

/// The position of a segment relative to the window of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// In the window.
    Inside,
    /// Before it: delayed, or retransmitted because its acknowledgement was lost. Its receiver
    /// discards it and acknowledges again.
    Before,
    /// After the window, or acknowledging data that was not sent.
    Beyond,
}

/// The position of a segment; inside while the window is not known.
#[inline(always)]
pub fn position<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, sender: Direction) -> Position {
    let receiver = sender.opposite();
    let next = segment.next_seq();
    let receivers_window = flow.window(receiver);
    if receivers_window == 0 {
        return Position::Inside;
    }
    // Within the receiver's window, and acknowledges only data that was sent.
    let sent = flow.next_seq(receiver);
    if seq_after(segment.seq, flow.limit(sender)) || seq_after(segment.ack, sent) {
        return Position::Beyond;
    }
    // Not older than one window, and acknowledges no older data than that.
    let window = flow.window(sender);
    let oldest = sent.wrapping_sub(if window > MIN_ACK_WINDOW { window } else { MIN_ACK_WINDOW });
    let is_old =
        window != 0 && seq_after(flow.next_seq(sender).wrapping_sub(receivers_window), next);
    if is_old || seq_after(oldest, segment.ack) { Position::Before } else { Position::Inside }
}

/// Stores the numbers of a segment that belongs to its connection.
#[inline(always)]
pub fn update<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, sender: Direction) {
    let receiver = sender.opposite();
    let next = segment.next_seq();
    if flow.flags() & PICKED_UP != 0 {
        // Neither the initial sequence numbers nor the window scales are known.
        flow.set_next_seq(sender, next);
        flow.set_last_ack(sender, segment.ack);
        return;
    }
    let scales = [flow.scale(sender), flow.scale(receiver)];
    let mut window = u32::from(segment.window);
    // Scaling applies only if both SYNs have the option (RFC 7323, section 2.2).
    if scales[0] != NO_SCALE && scales[1] != NO_SCALE {
        window <<= scales[0] & 0xf;
    }
    if flow.window(sender) < window {
        flow.set_window(sender, window);
    }
    if seq_after(next, flow.next_seq(sender)) {
        flow.set_next_seq(sender, next);
    }
    if flow.last_ack(sender) == 0 || seq_after(segment.ack, flow.last_ack(sender)) {
        flow.set_last_ack(sender, segment.ack);
    }
    let edge = segment.ack.wrapping_add(window);
    if seq_after(edge, flow.limit(receiver)) {
        flow.set_limit(receiver, edge);
    }
}

/// Stores the numbers of a SYN or SYN-ACK that belongs to its connection, the first of its sender.
#[inline(always)]
pub fn init<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, scale: u8, sender: Direction) {
    let receiver = sender.opposite();
    // A retransmission, perhaps after early data, leaves the numbers after that data.
    let ahead = flow.next_seq(sender).wrapping_sub(segment.next_seq());
    if flow.window(sender) != 0 && ahead <= u32::from(u16::MAX) {
        return;
    }
    flow.set_next_seq(sender, segment.next_seq());
    flow.set_window(sender, syn_window(segment));
    flow.set_scale(sender, scale);
    // The sender's limit is the other SYN's window, the other end's limit is this one's.
    flow.set_limit(sender, segment.next_seq().wrapping_add(flow.window(receiver)));
    flow.set_limit(receiver, flow.next_seq(receiver).wrapping_add(syn_window(segment)));
}

/// The same for the first SYN, whose flow is not in a table yet.
#[inline(always)]
pub fn init_first<A>(flow: &mut Flow, segment: &PacketHeaders<A>, scale: u8, sender: Direction) {
    let window = syn_window(segment);
    match sender {
        Direction::Ingress => (flow.window[0], flow.scale[0]) = (window, scale),
        Direction::Egress => (flow.window[1], flow.scale[1]) = (window, scale),
    }
}

/// The window of a SYN, which is never scaled; at least 1, because 0 means that none was announced.
#[inline(always)]
fn syn_window<A>(segment: &PacketHeaders<A>) -> u32 {
    if segment.window == 0 { 1 } else { u32::from(segment.window) }
}
