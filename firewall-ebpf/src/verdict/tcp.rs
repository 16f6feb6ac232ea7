//! TCP's state table for a middlebox, as in nf_conntrack, with the names of RFC 9293.

use super::flow::{FlowRef, is_from_initiator};
use super::ignored_syn;
use super::numbers::{self, heard};
use crate::abi::flow::{
    FIN_EGRESS, HEARD_EGRESS, HEARD_INGRESS, INITIATOR_EGRESS, NUMBERS_KNOWN, REPLIED,
};
use crate::abi::interface::Direction;
use crate::abi::state::State;
use crate::wire::headers::PacketHeaders;
use crate::wire::tcp::{ACK, SegmentType, seq_after, seq_between};

/// How a packet changes its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The state stays; the idle timeout restarts.
    Unchanged,
    /// The packet passes and changes nothing, not even the idle timeout.
    Ignored,
    /// The segment does not fit the connection. With
    /// [`Guard`](crate::abi::interface::TcpChecks::Guard) it passes as [`Self::Ignored`]; with
    /// `Strict` it is dropped.
    Invalid,
    /// The flow moves to this state.
    Move(State),
    /// The flow moves to this state, and is proven.
    Prove(State),
    /// The flow is closed and the segment opens a connection on the same tuple: evaluate the policy.
    Reopen,
}

/// What a flow's first segment sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The flow's state.
    pub state: State,
    /// [`Flow::flags`](crate::abi::flow::Flow::flags), without the direction of the initiator.
    pub flags: u8,
    /// [`Flow::pending`](crate::abi::flow::Flow::pending).
    pub pending: u8,
    /// The lowest acknowledgement number of its answer.
    pub ack_low: u32,
    /// The highest.
    pub ack_high: u32,
}

/// What a flow's first segment sets.
#[inline(always)]
pub fn first_transition<A>(
    segment: &PacketHeaders<A>,
    segment_type: SegmentType,
    sender: Direction,
) -> First {
    let (unconfirmed, fin) = numbers::bits(sender);
    let picked_up = First {
        state: State::Established,
        flags: heard(sender),
        pending: 0,
        ack_low: 0,
        ack_high: 0,
    };
    match segment_type {
        SegmentType::Syn => {
            let (ack_low, ack_high) = acknowledgements(segment);
            First { state: State::SynSent, flags: 0, pending: 0, ack_low, ack_high }
        }
        // Anybody can send it; it counts when the other end acknowledges it.
        SegmentType::Fin => First { pending: unconfirmed | fin, ..picked_up },
        _ => picked_up,
    }
}

/// The lowest and the highest number that acknowledges a SYN, without and with its data.
#[inline(always)]
const fn acknowledgements<A>(syn: &PacketHeaders<A>) -> (u32, u32) {
    let low = syn.seq.wrapping_add(1);
    (low, low.wrapping_add(syn.payload))
}

/// The transition of a live flow on a segment. `fits`: the numbers of an acknowledgement or FIN can
/// belong to the connection. Stores flags and the numbers of the handshake; the caller stores the
/// state.
#[inline(always)]
pub fn transition<A>(
    flow: &FlowRef<'_>,
    state: State,
    segment: &PacketHeaders<A>,
    segment_type: SegmentType,
    direction: Direction,
    fits: bool,
) -> Transition {
    let flags = flow.flags();
    let from_initiator = is_from_initiator(flags, direction);
    let from_finisher = (flags & FIN_EGRESS != 0) == (direction as u8 == 1);

    match (state, segment_type) {
        // A RST only starts a short timeout; see `Close`. Until the handshake is complete it must
        // acknowledge the SYN that it rejects (RFC 9293, section 3.10.7.3); otherwise it may be
        // spoofed.
        (State::SynSent, SegmentType::Rst) if !from_initiator => {
            if answered_syn(flow, segment).is_some() {
                // At the responder's place may be the window of the latest SYN.
                flow.set_window(Direction::Ingress, 0);
                flow.set_window(Direction::Egress, 0);
                close(flow, flags)
            } else {
                Transition::Invalid
            }
        }
        // The initiator rejects a segment that answered an earlier SYN; it sends its SYN again.
        (State::SynSent, SegmentType::Rst) => Transition::Ignored,
        (_, SegmentType::Rst) => {
            if is_expected(flow, flags, segment, direction) {
                close(flow, flags)
            } else if is_closing(state) || (flags & NUMBERS_KNOWN == 0 && state != State::SynRecv) {
                // From an end that has no state any more, in reply to a segment in flight; or the
                // numbers of the connection are not known yet.
                Transition::Ignored
            } else {
                Transition::Invalid
            }
        }

        // A retransmission, or another SYN: of a new attempt, or forged. The first and the latest
        // count.
        (State::SynSent, SegmentType::Syn) if from_initiator => {
            let (low, high) = acknowledgements(segment);
            if low != flow.ack_low() {
                flow.set_limit(Direction::Ingress, low);
                flow.set_limit(Direction::Egress, high);
            } else if seq_after(high, flow.ack_high()) {
                flow.set_ack_high(high);
            }
            Transition::Unchanged
        }
        // Simultaneous open (RFC 9293, section 3.5): both ends sent a SYN, both will acknowledge.
        (State::SynSent, SegmentType::Syn) => {
            flow.set_last_ack(direction, flow.ack_low());
            open(flow, segment, direction, flow.ack_high());
            flow.set_flags(flags | REPLIED);
            Transition::Move(State::SynRecv)
        }
        // The answer to the SYN, if it acknowledges that SYN. Otherwise it is a delayed segment of an
        // earlier connection, which the initiator rejects with a RST.
        (State::SynSent, SegmentType::SynAck) if !from_initiator => {
            let Some(next) = answered_syn(flow, segment) else { return Transition::Ignored };
            accept(flow, segment, direction, next)
        }
        // The SYN-ACK did not pass through this interface; the initiator has received it.
        (State::SynSent, SegmentType::Ack | SegmentType::Fin) if from_initiator => {
            Transition::Unchanged
        }
        // A challenge ACK, or a delayed segment: the initiator's RST or next SYN follows.
        (State::SynSent, _) => Transition::Ignored,

        // The responder sends data before the handshake is complete (TCP Fast Open): the
        // initiator's ACK may acknowledge that data too.
        (State::SynRecv, SegmentType::Ack | SegmentType::Fin) if !from_initiator => {
            let next = segment.seq.wrapping_add(segment.payload);
            let low = flow.ack_low();
            // At most an unscaled window can be in flight at this point.
            if fits && seq_between(next, flow.ack_high(), low.wrapping_add(0xffff)) {
                flow.set_ack_high(next);
            }
            Transition::Unchanged
        }
        // The last segment of the handshake: only a host that received the SYN-ACK knows its number.
        (State::SynRecv, SegmentType::Ack | SegmentType::SynAck | SegmentType::Fin)
            if from_initiator =>
        {
            if !answers(flow, segment) {
                return Transition::Invalid;
            }
            if segment_type == SegmentType::Fin {
                set_first_fin(flow, flags | NUMBERS_KNOWN, direction);
                return Transition::Prove(State::FinWait);
            }
            flow.set_flags(flags | NUMBERS_KNOWN);
            Transition::Prove(State::Established)
        }
        (State::SynRecv, SegmentType::SynAck) => {
            // It acknowledges the initiator's SYN, but perhaps less data than the first one.
            let sent = flow.next_seq(direction.opposite());
            if sent.wrapping_sub(segment.ack) > 0xffff {
                return Transition::Ignored;
            }
            if segment.seq.wrapping_add(1) == flow.ack_low() && flags & NUMBERS_KNOWN != 0 {
                // A retransmission does not lower the limit that data after the first SYN-ACK has
                // raised.
                Transition::Unchanged
            } else {
                // A listener that lost its state sends another number.
                accept(flow, segment, direction, sent)
            }
        }
        (State::SynRecv, _) => Transition::Unchanged,

        // Closed: a SYN opens a new connection, if the policy still allows it.
        (State::TimeWait | State::Close, SegmentType::Syn) => Transition::Reopen,
        (State::TimeWait, SegmentType::Ack | SegmentType::Fin) => Transition::Unchanged,

        // After a RST. If it was genuine, one end has no state and answers every segment with a RST.
        // If it was spoofed, both ends continue to send: then the connection is established.
        (State::Close, SegmentType::Ack | SegmentType::Fin) if fits => {
            // Again, because the numbers may have become known.
            let heard = flow.flags() | heard(direction);
            flow.set_flags(heard);
            if heard & (HEARD_INGRESS | HEARD_EGRESS) == HEARD_INGRESS | HEARD_EGRESS {
                Transition::Move(State::Established)
            } else {
                Transition::Ignored
            }
        }
        (State::Close, _) => Transition::Ignored,

        // SYN inside a connection: the endpoint answers with a challenge ACK (RFC 9293, section
        // 3.10.7.4), and the segments after that decide; or with a SYN-ACK, if it has lost the
        // connection: see `begins_anew`.
        (_, SegmentType::Syn) => {
            ignored_syn::store(flow, segment, direction);
            Transition::Ignored
        }
        (_, SegmentType::SynAck) => Transition::Ignored,

        // It can be forged. Its numbers are recorded, and if the other end acknowledges them it counts.
        (_, SegmentType::Fin) if !fits => {
            if flags & NUMBERS_KNOWN != 0 {
                Transition::Invalid
            } else {
                Transition::Ignored
            }
        }
        // Passes, and changes neither state nor numbers. It refreshes the flow: on an asymmetric path
        // the other end's numbers are not seen.
        (_, SegmentType::Ack) if !fits => Transition::Unchanged,

        (_, SegmentType::Fin) => match after_fin(flow, state, direction) {
            next if next as u8 != state as u8 => Transition::Move(next),
            _ => Transition::Unchanged,
        },
        (State::FinWait, SegmentType::Ack) if !from_finisher => Transition::Move(State::CloseWait),
        (State::LastAck, SegmentType::Ack) if from_finisher => Transition::Move(State::TimeWait),
        (_, _) => Transition::Unchanged,
    }
}

/// The state after a FIN of `sender` in an open or closing connection; records who sent the first.
#[inline(always)]
pub fn after_fin(flow: &FlowRef<'_>, state: State, sender: Direction) -> State {
    let flags = flow.flags();
    let from_finisher = (flags & FIN_EGRESS != 0) == (sender as u8 == 1);
    match state {
        State::Established => {
            set_first_fin(flow, flags, sender);
            State::FinWait
        }
        State::FinWait | State::CloseWait if !from_finisher => State::LastAck,
        _ => state,
    }
}

/// Whether a SYN-ACK acknowledges a SYN that was ignored because its tuple had a connection: its sender
/// has lost that connection, and the SYN begins another one (nf_conntrack does the same).
#[inline(always)]
pub fn begins_anew<A>(
    flow: &FlowRef<'_>,
    state: State,
    segment: &PacketHeaders<A>,
    sender: Direction,
) -> bool {
    !matches!(state, State::SynSent | State::SynRecv | State::TimeWait | State::Close)
        && ignored_syn::is_acknowledged_by(flow, segment, sender)
}

/// Makes the flow that of the connection that [`begins_anew`] with this SYN-ACK, except for the window of
/// the SYN-ACK. Before, windows may not have been tracked.
#[inline(always)]
pub fn begin_anew<A>(
    flow: &FlowRef<'_>,
    segment: &PacketHeaders<A>,
    sender: Direction,
) -> Transition {
    let kept = flow.flags() & !(INITIATOR_EGRESS | FIN_EGRESS | HEARD_INGRESS | HEARD_EGRESS);
    flow.set_flags(match sender {
        Direction::Ingress => kept | INITIATOR_EGRESS,
        Direction::Egress => kept,
    });
    flow.set_pending(0);
    ignored_syn::take_window(flow, sender.opposite());
    accept(flow, segment, sender, ignored_syn::end(flow))
}

/// Takes a SYN-ACK that acknowledges the initiator's SYN; `next` follows that SYN and its data.
#[inline(always)]
fn accept<A>(
    flow: &FlowRef<'_>,
    segment: &PacketHeaders<A>,
    sender: Direction,
    next: u32,
) -> Transition {
    flow.set_last_ack(sender, segment.ack);
    open(flow, segment, sender, next);
    flow.set_flags(flow.flags() | REPLIED | NUMBERS_KNOWN);
    Transition::Move(State::SynRecv)
}

/// Takes the numbers of the second SYN of a handshake; `next` follows the first and its data.
#[inline(always)]
fn open<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, sender: Direction, next: u32) {
    let (low, high) = acknowledgements(segment);
    flow.set_next_seq(sender.opposite(), next);
    flow.set_next_seq(sender, high);
    // What the initiator expects next.
    flow.set_last_ack(sender.opposite(), low);
    flow.set_ack_low(low);
    flow.set_ack_high(high);
}

/// Whether at least one end has closed.
#[inline(always)]
const fn is_closing(state: State) -> bool {
    !matches!(state, State::SynSent | State::SynRecv | State::Established)
}

/// The transition of a UDP flow: it is proven by a reply and a packet that the initiator sends when
/// it `can_be_proven`. Neither shows that the initiator saw the reply; so proven UDP and
/// proven TCP do not share a table.
#[inline(always)]
pub fn udp_transition(
    flow: &FlowRef<'_>,
    state: State,
    direction: Direction,
    can_be_proven: bool,
) -> Transition {
    let flags = flow.flags();
    if !is_from_initiator(flags, direction) {
        if flags & REPLIED == 0 {
            flow.set_flags(flags | REPLIED);
        }
    } else if state == State::Udp && flags & REPLIED != 0 && can_be_proven {
        return Transition::Prove(State::UdpStream);
    }
    Transition::Unchanged
}

/// Whether a RST has the number that its receiver expects next (RFC 5961, section 3.2): the number that
/// the receiver last acknowledged, or the number that follows the last segment of the RST's sender,
/// which the receiver gets just before it. The first is the receiver's own; the second is stored from
/// segments that can belong to the connection only. A spoofer must guess either.
#[inline(always)]
fn is_expected<A>(
    flow: &FlowRef<'_>,
    flags: u8,
    segment: &PacketHeaders<A>,
    sender: Direction,
) -> bool {
    let receiver = sender.opposite();
    let is_known = flags & NUMBERS_KNOWN != 0;
    ((is_known || flags & heard(receiver) != 0) && segment.seq == flow.last_ack(receiver))
        || (is_known && segment.seq == flow.next_seq(sender))
}

/// In [`State::SynSent`]: the number after the SYN that a segment acknowledges, if it acknowledges the
/// first or the latest.
#[inline(always)]
fn answered_syn<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>) -> Option<u32> {
    let (low, high) = (flow.limit(Direction::Ingress), flow.limit(Direction::Egress));
    if answers(flow, segment) {
        Some(flow.ack_high())
    } else if segment.tcp_flags & ACK != 0 && seq_between(segment.ack, low, high) {
        Some(high)
    } else {
        None
    }
}

/// Whether a segment acknowledges the SYN or SYN-ACK of the handshake: of two SYNs the first.
#[inline(always)]
pub fn answers<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>) -> bool {
    segment.tcp_flags & ACK != 0 && seq_between(segment.ack, flow.ack_low(), flow.ack_high())
}

#[inline(always)]
fn close(flow: &FlowRef<'_>, flags: u8) -> Transition {
    flow.set_flags(flags & !(HEARD_INGRESS | HEARD_EGRESS));
    Transition::Move(State::Close)
}

#[inline(always)]
fn set_first_fin(flow: &FlowRef<'_>, flags: u8, direction: Direction) {
    flow.set_flags(match direction {
        Direction::Ingress => flags & !FIN_EGRESS,
        Direction::Egress => flags | FIN_EGRESS,
    });
}
