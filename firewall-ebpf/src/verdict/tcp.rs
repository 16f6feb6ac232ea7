//! TCP's state table for a middlebox, as in nf_conntrack, with the names of RFC 9293.

use super::flow::{FlowRef, is_from_initiator};
use crate::abi::flow::{FIN_EGRESS, HEARD_EGRESS, HEARD_INGRESS, PICKED_UP, PROVEN, REPLIED};
use crate::abi::interface::Direction;
use crate::abi::state::State;
use crate::wire::headers::PacketHeaders;
use crate::wire::tcp::{ACK, SegmentType, seq_between};

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

/// The state and flags of a flow with this first segment, and the lowest and the highest
/// acknowledgement number of its answer.
#[inline(always)]
pub fn first_transition<A>(
    segment: &PacketHeaders<A>,
    segment_type: SegmentType,
) -> (State, u8, u32, u32) {
    match segment_type {
        SegmentType::Syn => {
            let answered = segment.seq.wrapping_add(1);
            (State::SynSent, 0, answered, answered.wrapping_add(segment.payload))
        }
        SegmentType::Fin => (State::FinWait, PICKED_UP, 0, 0),
        _ => (State::Established, PICKED_UP, 0, 0),
    }
}

/// The transition of a live flow on a segment. Stores flags and the numbers of the handshake; the
/// caller stores the state.
#[inline(always)]
pub fn transition<A>(
    flow: &FlowRef<'_>,
    state: State,
    segment: &PacketHeaders<A>,
    segment_type: SegmentType,
    direction: Direction,
) -> Transition {
    let flags = flow.flags();
    let from_initiator = is_from_initiator(flags, direction);
    let from_finisher = (flags & FIN_EGRESS != 0) == (direction as u8 == 1);

    match (state, segment_type) {
        // A RST only starts a short timeout; see `Close`. Until the handshake is complete it must
        // acknowledge the SYN that it rejects (RFC 9293, section 3.10.7.3); otherwise it may be
        // spoofed.
        (State::SynSent, SegmentType::Rst) if !from_initiator => {
            if answers(flow, segment) {
                close(flow, flags)
            } else {
                Transition::Invalid
            }
        }
        // The initiator rejects a segment that answered an earlier SYN; it sends its SYN again.
        (State::SynSent, SegmentType::Rst) => Transition::Ignored,
        (_, SegmentType::Rst) => {
            if is_expected(flow, segment, direction) {
                close(flow, flags)
            } else if is_closing(state) {
                // From an end that has no state any more, in reply to a segment in flight.
                Transition::Ignored
            } else {
                Transition::Invalid
            }
        }

        // A retransmission, or a new attempt with another sequence number: the latest counts.
        (State::SynSent, SegmentType::Syn) if from_initiator => {
            let answered = segment.seq.wrapping_add(1);
            flow.set_ack_low(answered);
            flow.set_ack_high(answered.wrapping_add(segment.payload));
            Transition::Unchanged
        }
        // Simultaneous open (RFC 9293, section 3.5): both ends sent a SYN, both will acknowledge.
        (State::SynSent, SegmentType::Syn) => {
            let answered = segment.seq.wrapping_add(1);
            flow.set_ack_low(answered);
            flow.set_ack_high(answered.wrapping_add(segment.payload));
            Transition::Move(State::SynRecv)
        }
        // The answer to the SYN, if it acknowledges that SYN. Otherwise it is a delayed segment of an
        // earlier connection, which the initiator rejects with a RST.
        (State::SynSent, SegmentType::SynAck) if !from_initiator => {
            if !answers(flow, segment) {
                return Transition::Ignored;
            }
            let answered = segment.seq.wrapping_add(1);
            flow.set_ack_low(answered);
            flow.set_ack_high(answered.wrapping_add(segment.payload));
            flow.set_flags(flags | REPLIED);
            Transition::Move(State::SynRecv)
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
            if seq_between(next, flow.ack_high(), low.wrapping_add(0xffff)) {
                flow.set_ack_high(next);
            }
            Transition::Unchanged
        }
        // The last segment of the handshake: only a host that received the SYN-ACK knows its number.
        (State::SynRecv, SegmentType::Ack | SegmentType::SynAck) if from_initiator => {
            if answers(flow, segment) {
                Transition::Prove(State::Established)
            } else {
                Transition::Invalid
            }
        }
        (State::SynRecv, SegmentType::Fin) => {
            if answers(flow, segment) {
                set_first_fin(flow, flags, direction);
                Transition::Prove(State::FinWait)
            } else {
                Transition::Invalid
            }
        }
        (State::SynRecv, SegmentType::SynAck) => {
            // A listener that lost its state sends another number. A retransmission does not lower
            // the limit that data after the first SYN-ACK has raised.
            let answered = segment.seq.wrapping_add(1);
            if answered != flow.ack_low() {
                flow.set_ack_low(answered);
                flow.set_ack_high(answered.wrapping_add(segment.payload));
            }
            flow.set_flags(flags | REPLIED);
            Transition::Unchanged
        }
        (State::SynRecv, _) => Transition::Unchanged,

        // Closed: a SYN opens a new connection, if the policy still allows it.
        (State::TimeWait | State::Close, SegmentType::Syn) => Transition::Reopen,
        (State::TimeWait, _) => Transition::Unchanged,

        // After a RST. If it was genuine, one end has no state and answers every segment with a RST.
        // If it was spoofed, both ends continue to send: then the connection is established.
        (State::Close, _) => {
            let heard = match direction {
                Direction::Ingress => flags | HEARD_INGRESS,
                Direction::Egress => flags | HEARD_EGRESS,
            };
            flow.set_flags(heard);
            if heard & (HEARD_INGRESS | HEARD_EGRESS) == HEARD_INGRESS | HEARD_EGRESS {
                Transition::Move(State::Established)
            } else {
                Transition::Ignored
            }
        }

        // SYN or SYN-ACK inside a connection: the endpoint answers with a challenge ACK (RFC 9293,
        // section 3.10.7.4), and the segments after that decide.
        (_, SegmentType::Syn | SegmentType::SynAck) => Transition::Ignored,

        (State::Established, SegmentType::Fin) => {
            set_first_fin(flow, flags, direction);
            Transition::Move(State::FinWait)
        }
        (State::Established, SegmentType::Ack) => {
            if flags & PROVEN != 0 || flags & PICKED_UP == 0 {
                Transition::Unchanged
            } else {
                udp_transition(flow, flags, from_initiator, State::Established)
            }
        }

        (State::FinWait | State::CloseWait, SegmentType::Fin) if !from_finisher => {
            Transition::Move(State::LastAck)
        }
        (State::FinWait, SegmentType::Ack) if !from_finisher => Transition::Move(State::CloseWait),
        (State::LastAck, SegmentType::Ack) if from_finisher => Transition::Move(State::TimeWait),
        (_, _) => Transition::Unchanged,
    }
}

/// Whether at least one end has closed.
#[inline(always)]
const fn is_closing(state: State) -> bool {
    !matches!(state, State::SynSent | State::SynRecv | State::Established)
}

/// The transition of a flow without a handshake (UDP, ICMP, other protocols, TCP that was picked up
/// mid-stream): it is proven by a reply and a later packet from the initiator.
#[inline(always)]
pub fn udp_transition(
    flow: &FlowRef<'_>,
    flags: u8,
    from_initiator: bool,
    proven: State,
) -> Transition {
    if flags & PROVEN != 0 {
        Transition::Unchanged
    } else if !from_initiator {
        if flags & REPLIED == 0 {
            flow.set_flags(flags | REPLIED);
        }
        Transition::Unchanged
    } else if flags & REPLIED != 0 {
        Transition::Prove(proven)
    } else {
        Transition::Unchanged
    }
}

/// Bytes that a RST after its sender's data may be ahead of the last acknowledgement.
const MAX_RST_AHEAD: u32 = 0xffff;

/// Whether a RST has the number that its receiver expects next (RFC 5961, section 3.2): the number that
/// the receiver last acknowledged, or the number that follows the last segment of the RST's sender,
/// which the receiver gets just before it. A spoofed packet does not change the first, so its sender
/// must guess it.
#[inline(always)]
fn is_expected<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>, sender: Direction) -> bool {
    let last_ack = flow.last_ack(sender.opposite());
    let ahead = segment.seq.wrapping_sub(last_ack);
    ahead == 0
        || (segment.seq == flow.next_seq(sender) && (ahead <= MAX_RST_AHEAD || last_ack == 0))
}

#[inline(always)]
fn answers<A>(flow: &FlowRef<'_>, segment: &PacketHeaders<A>) -> bool {
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
