//! Strict TCP: whether a segment is in the window of its connection.
//!
//! The four bounds are Guido van Rooij's (“Real stateful TCP packet filtering in IP Filter”, 2000),
//! which nf_conntrack uses too. Selective acknowledgements are not read: they are between the
//! acknowledgement number and the end of the data sent, and move neither edge of the window.

use super::flow::FlowRef;
use crate::abi::flow::{Flow, NO_SCALE};
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

/// Whether the windows of both ends are known. They are not if the handshake was not seen in strict.
#[inline(always)]
pub fn is_tracked(flow: &FlowRef<'_>) -> bool {
    flow.window(Direction::Ingress) != 0 && flow.window(Direction::Egress) != 0
}

/// The position of a segment of a connection whose windows are [tracked](is_tracked).
#[inline(always)]
pub fn position<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, sender: Direction) -> Position {
    let receiver = sender.opposite();
    let next = segment.next_seq();
    // Within the receiver's window, and acknowledges only data that was sent.
    let sent = flow.next_seq(receiver);
    if seq_after(segment.seq, flow.limit(sender)) || seq_after(segment.ack, sent) {
        return Position::Beyond;
    }
    // Not older than one window, and acknowledges no older data than that.
    let window = flow.window(sender);
    let oldest = sent.wrapping_sub(if window > MIN_ACK_WINDOW { window } else { MIN_ACK_WINDOW });
    let is_old = seq_after(flow.next_seq(sender).wrapping_sub(flow.window(receiver)), next);
    if is_old || seq_after(oldest, segment.ack) { Position::Before } else { Position::Inside }
}

/// Stores the window of a segment that belongs to its connection.
#[inline(always)]
pub fn update<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, sender: Direction) {
    let receiver = sender.opposite();
    let scales = [flow.scale(sender), flow.scale(receiver)];
    let mut window = u32::from(segment.window);
    // Scaling applies only if both SYNs have the option (RFC 7323, section 2.2).
    if scales[0] != NO_SCALE && scales[1] != NO_SCALE {
        window <<= scales[0];
    }
    if flow.window(sender) < window {
        flow.set_window(sender, window);
    }
    let edge = segment.ack.wrapping_add(window);
    if seq_after(edge, flow.limit(receiver)) {
        flow.set_limit(receiver, edge);
    }
}

/// Stores the window of the second SYN of a handshake, whose numbers are stored already. `ack` of a
/// SYN-ACK says which of the initiator's SYNs counts.
#[inline(always)]
pub fn init<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, scale: u8, sender: Direction) {
    let receiver = sender.opposite();
    flow.set_window(sender, of_syn(segment));
    flow.set_scale(sender, scale);
    // The sender's limit is the other SYN's window, the other end's limit is this one's.
    flow.set_limit(sender, flow.next_seq(sender).wrapping_add(flow.window(receiver)));
    flow.set_limit(receiver, flow.next_seq(receiver).wrapping_add(of_syn(segment)));
}

/// Stores the window of another SYN of the initiator, at the other end's place until that sends one.
#[inline(always)]
pub fn store_other<A>(
    flow: &FlowRef<'_>,
    segment: &PacketHeaders<A>,
    scale: u8,
    initiator: Direction,
) {
    flow.set_window(initiator.opposite(), of_syn(segment));
    flow.set_scale(initiator.opposite(), scale);
}

/// Takes the window of that other SYN, which was answered.
#[inline(always)]
pub fn take_other(flow: &FlowRef<'_>, initiator: Direction) {
    flow.set_window(initiator, flow.window(initiator.opposite()));
    flow.set_scale(initiator, flow.scale(initiator.opposite()));
}

/// The same for the first SYN, whose flow is not in a table yet.
#[inline(always)]
pub fn init_first<A>(flow: &mut Flow, segment: &PacketHeaders<A>, scale: u8, sender: Direction) {
    let window = of_syn(segment);
    match sender {
        Direction::Ingress => (flow.window[0], flow.scales) = (window, scale),
        Direction::Egress => (flow.window[1], flow.scales) = (window, scale << 4),
    }
}

/// The window of a SYN, which is never scaled; at least 1, because 0 means that none was announced.
#[inline(always)]
pub(super) fn of_syn<A>(segment: &PacketHeaders<A>) -> u32 {
    if segment.window == 0 { 1 } else { u32::from(segment.window) }
}
