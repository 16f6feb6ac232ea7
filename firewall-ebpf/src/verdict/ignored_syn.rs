//! A SYN on the tuple of an open connection, recorded until a SYN-ACK shows that it began another one
//! (nf_conntrack does the same).
//!
//! Where an established flow needs no acknowledgement of a handshake any more, the SYN is stored:
//! [`Flow::ack_low`](crate::abi::flow::Flow::ack_low) acknowledges it, and
//! [`Flow::ack_high`](crate::abi::flow::Flow::ack_high) is data, window and scale in one word.

use super::flow::FlowRef;
use super::window;
use crate::abi::flow::{SYN_EGRESS, SYN_INGRESS};
use crate::abi::interface::Direction;
use crate::wire::headers::PacketHeaders;
use crate::wire::tcp::{ACK, seq_between};

/// The greatest amount of data that is recorded: more than a frame of 9,000 bytes has (TCP Fast Open).
const MAX_DATA: u32 = (1 << 14) - 1;

/// Records the SYN without its window. There is one record for both directions, of the latest SYN. Two
/// CPUs with SYNs at once may mix them: then no SYN-ACK fits, or the window of the other SYN counts
/// until its sender announces a larger one.
#[inline(always)]
pub(super) fn store<A>(flow: &FlowRef<'_>, syn: &PacketHeaders<A>, sender: Direction) {
    flow.set_ack_low(syn.seq.wrapping_add(1));
    flow.set_ack_high(if syn.payload > MAX_DATA { MAX_DATA } else { syn.payload });
    flow.set_pending(flow.pending() & !(SYN_INGRESS | SYN_EGRESS) | bit(sender));
}

/// Adds the SYN's window and its scale, in strict. Units of eight bytes, because 65,535 rounded up to four
/// would need a 15th bit.
#[inline(always)]
pub(super) fn store_window<A>(flow: &FlowRef<'_>, syn: &PacketHeaders<A>, scale: u8) {
    let units = window::of_syn(syn).wrapping_add(7) >> 3;
    flow.set_ack_high(flow.ack_high() & MAX_DATA | units << 14 | (scale as u32) << 28);
}

/// Whether a segment of this direction acknowledges a recorded SYN of the other one.
#[inline(always)]
pub(super) fn is_acknowledged_by<A>(
    flow: &FlowRef<'_>,
    segment: &PacketHeaders<A>,
    sender: Direction,
) -> bool {
    flow.pending() & bit(sender.opposite()) != 0
        && segment.tcp_flags & ACK != 0
        && seq_between(segment.ack, flow.ack_low(), end(flow))
}

/// The number that follows the recorded SYN and its data.
#[inline(always)]
pub(super) fn end(flow: &FlowRef<'_>) -> u32 {
    flow.ack_low().wrapping_add(flow.ack_high() & MAX_DATA)
}

/// Makes the recorded window and scale those of the SYN's sender. The other end's are unknown until its
/// SYN-ACK is read.
#[inline(always)]
pub(super) fn take_window(flow: &FlowRef<'_>, sender: Direction) {
    let record = flow.ack_high();
    flow.set_window(sender, (record >> 14 & MAX_DATA) << 3);
    flow.set_window(sender.opposite(), 0);
    flow.set_scale(sender, (record >> 28) as u8);
}

/// [`Flow::pending`](crate::abi::flow::Flow::pending)'s bit for a SYN of this direction.
#[inline(always)]
const fn bit(sender: Direction) -> u8 {
    match sender {
        Direction::Ingress => SYN_INGRESS,
        Direction::Egress => SYN_EGRESS,
    }
}
