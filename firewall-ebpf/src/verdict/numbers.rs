//! Whether the numbers of a segment can belong to a connection, without its windows (guard).
//!
//! A sender off the path can forge addresses and ports but does not see what the ends send. So a number
//! is believed if it is near what is known of both ends, or if the *other* end acknowledges it
//! (RFC 5961 and nf_conntrack as models). Only what passed in the other direction counts as the other end's,
//! and a forger cannot send in both.

use super::flow::{FlowRef, is_from_initiator};
use crate::abi::flow::{
    HEARD_EGRESS, HEARD_INGRESS, NUMBERS_KNOWN, PROVEN, REPLIED, UNCONFIRMED_EGRESS,
    UNCONFIRMED_FIN_EGRESS, UNCONFIRMED_FIN_INGRESS, UNCONFIRMED_INGRESS,
};
use crate::abi::interface::Direction;
use crate::wire::headers::PacketHeaders;
use crate::wire::tcp::{seq_after, seq_between};

/// Bytes that a number may be outside of what is known: for reordering, a burst lost before this host
/// (above), retransmissions after lost acknowledgements, keepalives (below). Both numbers of a blind
/// segment are in reach by chance once in 2^28 segments.
pub const REACH: u32 = 1 << 17;

/// Bytes of the responder's that the initiator of a flow with unknown numbers may acknowledge.
const MAX_UNACKNOWLEDGED: u32 = 1 << 20;

/// Bytes that a FIN may be ahead of data that its sender repeats.
const MAX_FIN_AHEAD: u32 = 1 << 24;

/// Whether a segment's numbers can belong to the connection. Its sequence number is near or between
/// what the receiver acknowledged and what the sender sent; its acknowledgement number is near or
/// between what the sender acknowledged and what the receiver sent.
#[inline(always)]
pub fn belong(flow: &FlowRef<'_>, seq: u32, ack: u32, sender: Direction) -> bool {
    let receiver = sender.opposite();
    is_near(seq, flow.last_ack(receiver), flow.next_seq(sender))
        && is_near(ack, flow.last_ack(sender), flow.next_seq(receiver))
}

/// Whether `number` is in `low..=high` or at most [`REACH`] outside.
#[inline(always)]
const fn is_near(number: u32, low: u32, high: u32) -> bool {
    let from = low.wrapping_sub(REACH);
    number.wrapping_sub(from) <= high.wrapping_add(REACH).wrapping_sub(from)
}

/// Stores the numbers of a segment that belongs to its connection, where they are higher: `next` is
/// the sequence number after it.
#[inline(always)]
pub fn store(flow: &FlowRef<'_>, next: u32, ack: u32, sender: Direction) {
    if seq_after(next, flow.next_seq(sender)) {
        flow.set_next_seq(sender, next);
    }
    if seq_after(ack, flow.last_ack(sender)) {
        flow.set_last_ack(sender, ack);
    }
}

/// The result of [`judge`].
pub struct Judgement {
    /// The numbers can belong to the connection.
    pub fits: bool,
    /// The segment acknowledges a FIN of the other end that was not believed until now.
    pub confirms_fin: bool,
}

/// Judges an acknowledgement or FIN after the handshake; learns from it what it shows.
#[inline(always)]
pub fn judge<A>(
    flow: &FlowRef<'_>,
    segment: &PacketHeaders<A>,
    is_fin: bool,
    sender: Direction,
) -> Judgement {
    let is_known = flow.are_numbers_known();
    let fitted = is_known && belong(flow, segment.seq, segment.ack, sender);
    let confirms_fin = confirm(flow, segment.ack, sender, fitted);
    let fits = if is_known {
        let fits = fitted || belong(flow, segment.seq, segment.ack, sender);
        if fits {
            forget(flow, segment.next_seq(), sender);
        } else {
            doubt(flow, segment.next_seq(), is_fin, sender);
        }
        fits
    } else {
        learn(flow, segment, is_fin, sender)
    };
    Judgement { fits, confirms_fin }
}

/// Believes the receiver's unconfirmed segment if this acknowledgement number is at its end or shortly
/// before; returns whether it was a FIN and is acknowledged exactly. After numbers jumped at both ends
/// (an asymmetric path for a while), each end's segment confirms the other's. A segment that fits without
/// (`fitted`) acknowledges what is known, which is shortly before many invented numbers: it confirms only
/// a FIN, and only exactly. The fast path, which such segments take, therefore needs no confirmation.
#[inline(always)]
fn confirm(flow: &FlowRef<'_>, ack: u32, sender: Direction, fitted: bool) -> bool {
    let receiver = sender.opposite();
    let pending = flow.pending();
    let (unconfirmed, fin) = bits(receiver);
    if pending & unconfirmed == 0 {
        return false;
    }
    let end = unconfirmed_end(flow, receiver);
    let behind = end.wrapping_sub(ack);
    let is_fin = pending & fin != 0;
    if behind > REACH || (behind != 0 && !flow.are_numbers_known()) {
        return false;
    }
    if fitted && (behind != 0 || !is_fin) {
        return false;
    }
    flow.set_next_seq(receiver, end);
    flow.set_last_ack(sender, ack);
    if behind == 0 || !is_fin {
        flow.set_pending(pending & !(unconfirmed | fin));
    }
    behind == 0 && is_fin
}

/// Records a segment whose numbers cannot belong to the connection, until the other end acknowledges it
/// or another such segment follows. Segments that a FIN's sender sends after it leave the FIN recorded.
#[inline(always)]
fn doubt(flow: &FlowRef<'_>, end: u32, is_fin: bool, sender: Direction) {
    let (unconfirmed, fin) = bits(sender);
    let mut pending = flow.pending() | unconfirmed;
    if is_fin {
        pending |= fin;
    } else if flow.limit(sender) != end {
        pending &= !fin;
    }
    flow.set_limit(sender, end);
    flow.set_pending(pending);
}

/// Forgets a FIN of an end that goes on sending far from it or after it: it was forged.
#[inline(always)]
fn forget(flow: &FlowRef<'_>, end: u32, sender: Direction) {
    let (unconfirmed, fin) = bits(sender);
    let pending = flow.pending();
    if pending & fin != 0 && flow.limit(sender).wrapping_sub(end) > MAX_FIN_AHEAD {
        flow.set_pending(pending & !(unconfirmed | fin));
    }
}

/// Takes the numbers of a segment while those of the connection are not known (it was picked up
/// mid-stream or learned). They are known, the flow is proven, and the result is `true`, when the
/// initiator acknowledges what the responder was seen to send: a forged initiator does not see that, and
/// the responder's numbers cannot be forged so that the real initiator acknowledges them.
#[inline(always)]
fn learn<A>(
    flow: &FlowRef<'_>,
    segment: &PacketHeaders<A>,
    is_fin: bool,
    sender: Direction,
) -> bool {
    let flags = flow.flags();
    let receiver = sender.opposite();
    let has_heard = |end| flags & heard(end) != 0;
    let (low, high) = (flow.limit(Direction::Ingress), flow.limit(Direction::Egress));
    let end = segment.next_seq();
    let mut is_known = false;
    let mut flags = flags | heard(sender);
    if is_from_initiator(flags, sender) {
        is_known = has_heard(receiver) && seq_between(segment.ack, low, high);
    } else {
        let continues =
            has_heard(sender) && seq_between(segment.seq, low, high.wrapping_add(REACH));
        // A reply that acknowledges about what the initiator sent counts more than one that does not.
        let replies = flow.next_seq(receiver);
        if has_heard(sender) && !continues && !is_near(segment.ack, replies, replies) {
            return false;
        }
        let mut low = if continues { low } else { segment.seq };
        let high = if continues && !seq_after(end, high) { high } else { end };
        if high.wrapping_sub(low) > MAX_UNACKNOWLEDGED {
            low = high.wrapping_sub(MAX_UNACKNOWLEDGED);
        }
        flow.set_limit(Direction::Ingress, low);
        flow.set_limit(Direction::Egress, high);
        flags |= REPLIED;
    }
    // Without known numbers a FIN's end is the number after what its sender sent.
    let (unconfirmed, fin) = bits(sender);
    if is_fin {
        flow.set_pending(flow.pending() | unconfirmed | fin);
    } else if flow.next_seq(sender) != end {
        flow.set_pending(flow.pending() & !(unconfirmed | fin));
    }
    flow.set_next_seq(sender, end);
    flow.set_last_ack(sender, segment.ack);
    if is_known {
        flags |= NUMBERS_KNOWN | PROVEN;
        flow.set_limit(sender, end);
        flow.set_limit(receiver, flow.next_seq(receiver));
    }
    flow.set_flags(flags);
    is_known
}

/// The number after an end's unconfirmed segment.
#[inline(always)]
fn unconfirmed_end(flow: &FlowRef<'_>, sender: Direction) -> u32 {
    if flow.are_numbers_known() { flow.limit(sender) } else { flow.next_seq(sender) }
}

/// The flag for a segment of this direction.
#[inline(always)]
pub const fn heard(sender: Direction) -> u8 {
    match sender {
        Direction::Ingress => HEARD_INGRESS,
        Direction::Egress => HEARD_EGRESS,
    }
}

/// The pending bits of an unconfirmed segment and an unconfirmed FIN of this direction.
#[inline(always)]
pub const fn bits(sender: Direction) -> (u8, u8) {
    match sender {
        Direction::Ingress => (UNCONFIRMED_INGRESS, UNCONFIRMED_FIN_INGRESS),
        Direction::Egress => (UNCONFIRMED_EGRESS, UNCONFIRMED_FIN_EGRESS),
    }
}
