//! Strict TCP: whether a segment is in the window of its connection, as its two ends must see it.
//!
//! The four bounds are Guido van Rooij's (“Real stateful TCP packet filtering in IP Filter”, 2000),
//! which nf_conntrack uses too. Selective acknowledgements need no word here: they lie between the
//! acknowledgement number and the end of what was sent, and move neither edge of the window.

use crate::flow::{Flow, FlowRef, NO_SCALE, PICKED_UP};
use crate::interface::Direction;
use crate::parse::Segment;
use crate::tcp;

/// How far behind an acknowledgement may be, at least: more than the largest window without scaling
/// and a segment.
const LATE: u32 = 66_000;

/// Whether `a` is behind `b` in sequence space (RFC 9293, section 3.4).
#[inline(always)]
const fn is_after(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) > 1 << 31
}

/// Where a segment lies beside the window of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// In it.
    In,
    /// Before it: delayed, or repeated because its acknowledgement was lost. Its receiver throws it
    /// away, and acknowledges anew what the sender waits for.
    Late,
    /// Where neither end can have put it.
    Beyond,
}

/// Where a segment lies, as far as the window of its connection is known.
#[inline(always)]
pub fn fit<A>(flow: &FlowRef<'_>, segment: &Segment<A>, sender: Direction) -> Fit {
    let receiver = sender.opposite();
    let end = tcp::end(segment);
    let receivers_window = flow.window(receiver);
    if receivers_window == 0 {
        return Fit::In;
    }
    // Room at the receiver, and acknowledges what was sent.
    let sent = flow.end(receiver);
    if is_after(segment.seq, flow.limit(sender)) || is_after(segment.ack, sent) {
        return Fit::Beyond;
    }
    // Not older than one window, and acknowledges nothing that was acknowledged long ago.
    let window = flow.window(sender);
    let oldest = sent.wrapping_sub(if window > LATE { window } else { LATE });
    let is_late = window != 0 && is_after(flow.end(sender).wrapping_sub(receivers_window), end);
    if is_late || is_after(oldest, segment.ack) { Fit::Late } else { Fit::In }
}

/// Notes the numbers of a segment that belongs to its connection.
#[inline(always)]
pub fn advance<A>(flow: &FlowRef<'_>, segment: &Segment<A>, sender: Direction) {
    let receiver = sender.opposite();
    let end = tcp::end(segment);
    if flow.flags() & PICKED_UP != 0 {
        // Neither where its numbers began is known, nor by what its windows are scaled.
        flow.set_end(sender, end);
        flow.set_acked(sender, segment.ack);
        return;
    }
    let scales = [flow.scale(sender), flow.scale(receiver)];
    let mut window = u32::from(segment.window);
    // Both ends have to ask for scaling (RFC 7323, section 2.2).
    if scales[0] != NO_SCALE && scales[1] != NO_SCALE {
        window <<= scales[0] & 0xf;
    }
    if flow.window(sender) < window {
        flow.set_window(sender, window);
    }
    if is_after(end, flow.end(sender)) {
        flow.set_end(sender, end);
    }
    if flow.acked(sender) == 0 || is_after(segment.ack, flow.acked(sender)) {
        flow.set_acked(sender, segment.ack);
    }
    let edge = segment.ack.wrapping_add(window);
    if is_after(edge, flow.limit(receiver)) {
        flow.set_limit(receiver, edge);
    }
}

/// Notes a SYN or SYN-ACK that belongs to its connection: the sender's numbers begin with it.
#[inline(always)]
pub fn begin<A>(flow: &FlowRef<'_>, segment: &Segment<A>, scale: u8, sender: Direction) {
    let receiver = sender.opposite();
    // Repeated, perhaps behind early data: it takes back nothing of that.
    let behind = flow.end(sender).wrapping_sub(tcp::end(segment));
    if flow.window(sender) != 0 && behind <= u32::from(u16::MAX) {
        return;
    }
    flow.set_end(sender, tcp::end(segment));
    flow.set_window(sender, announced(segment));
    flow.set_scale(sender, scale);
    // Room for the sender as far as the other SYN said, and for the other as far as this one does.
    flow.set_limit(sender, tcp::end(segment).wrapping_add(flow.window(receiver)));
    flow.set_limit(receiver, flow.end(receiver).wrapping_add(announced(segment)));
}

/// The same for the first SYN, whose flow is not in a table yet.
#[inline(always)]
pub fn open<A>(flow: &mut Flow, segment: &Segment<A>, scale: u8, sender: Direction) {
    let window = announced(segment);
    match sender {
        Direction::Ingress => (flow.window[0], flow.scale[0]) = (window, scale),
        Direction::Egress => (flow.window[1], flow.scale[1]) = (window, scale),
    }
}

/// The window of a SYN, which is never scaled. Never 0, which stands for "none announced".
#[inline(always)]
fn announced<A>(segment: &Segment<A>) -> u32 {
    if segment.window == 0 { 1 } else { u32::from(segment.window) }
}

#[cfg(test)]
mod tests {
    use super::is_after;

    #[test]
    fn order_holds_across_the_wrap() {
        assert!(is_after(1, 0) && is_after(0, u32::MAX) && is_after(5, u32::MAX - 5));
        assert!(!is_after(0, 0) && !is_after(0, 1) && !is_after(u32::MAX, 0));
    }
}
