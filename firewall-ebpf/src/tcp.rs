//! TCP's state as seen from the middle (RFC 9293 names, nf_conntrack's reading of them).

use crate::flow::{
    FIN_EGRESS, FlowRef, HEARD_EGRESS, HEARD_INGRESS, INITIATOR_EGRESS, PICKED_UP, PROVEN, REPLIED,
};
use crate::interface::{Direction, State};
use crate::parse::Segment;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// PSH says nothing about the connection, and ECE and CWR belong to RFC 3168: a SYN with them is
/// a SYN.
pub const JUDGED_FLAGS: u8 = FIN | SYN | RST | ACK | URG;

/// The flags of a segment that changes nothing about an established connection.
pub const PLAIN: u8 = ACK;

/// What a segment is, as far as the state table cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Opens a connection.
    Syn,
    /// Answers a SYN.
    SynAck,
    /// Ends one direction.
    Fin,
    /// Ends the connection.
    Rst,
    /// Everything else that acknowledges.
    Ack,
}

/// The shape of a segment; `None` for combinations of flags that no stack sends.
#[must_use]
#[inline(always)]
pub const fn shape(flags: u8) -> Option<Shape> {
    const SYN_URG: u8 = SYN | URG;
    const SYN_ACK: u8 = SYN | ACK;
    const RST_ACK: u8 = RST | ACK;
    const FIN_ACK: u8 = FIN | ACK;
    const FIN_ACK_URG: u8 = FIN | ACK | URG;
    const ACK_URG: u8 = ACK | URG;
    match flags {
        SYN | SYN_URG => Some(Shape::Syn),
        SYN_ACK => Some(Shape::SynAck),
        RST | RST_ACK => Some(Shape::Rst),
        FIN_ACK | FIN_ACK_URG => Some(Shape::Fin),
        ACK | ACK_URG => Some(Shape::Ack),
        _ => None,
    }
}

/// What a segment does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It belongs to the flow; its idle time starts anew.
    Stay,
    /// It passes, but says nothing about the flow.
    Ignore,
    /// It contradicts the flow. With [`crate::interface::TcpChecks::Guard`] it passes, says
    /// nothing, and the endpoints settle it; with `Strict` it is dropped.
    Doubt,
    /// The flow is in another state now.
    Move(State),
    /// The flow is in this state, and both ends have shown that they exist.
    Prove(State),
    /// The flow is over and this segment starts another on the same tuple: ask the rules.
    Fresh,
}

/// Whether `number` is in `low..=high` of sequence space (RFC 9293, section 3.4).
#[inline(always)]
const fn within(number: u32, low: u32, high: u32) -> bool {
    number.wrapping_sub(low) <= high.wrapping_sub(low)
}

/// The state of a flow whose first segment is this one, and the acknowledgement numbers that will
/// answer it.
#[inline(always)]
pub fn begin<A>(segment: &Segment<A>, shape: Shape) -> (State, u8, u32, u32) {
    match shape {
        Shape::Syn => {
            let answered = segment.seq.wrapping_add(1);
            (State::SynSent, 0, answered, answered.wrapping_add(segment.payload))
        }
        Shape::Fin => (State::FinWait, PICKED_UP, 0, 0),
        _ => (State::Established, PICKED_UP, 0, 0),
    }
}

/// One segment of a live flow. One arm per state, one branch per thing that can happen.
#[inline(always)]
pub fn step<A>(
    flow: &FlowRef<'_>,
    state: State,
    segment: &Segment<A>,
    shape: Shape,
    direction: Direction,
) -> Step {
    let flags = flow.flags();
    let from_initiator = (flags & INITIATOR_EGRESS != 0) == (direction as u8 == 1);
    let from_finisher = (flags & FIN_EGRESS != 0) == (direction as u8 == 1);

    match (state, shape) {
        // A RST only starts a short clock; see `Close`. Until the handshake is over it has to
        // answer the SYN it refuses (RFC 9293, section 3.10.7.3), else it is a stranger's.
        (State::SynSent, Shape::Rst) if !from_initiator => {
            if answers(flow, segment) {
                close(flow, flags)
            } else {
                Step::Doubt
            }
        }
        // The initiator refuses what answered an earlier SYN; its next SYN stands.
        (State::SynSent, Shape::Rst) => Step::Ignore,
        (_, Shape::Rst) => {
            if is_expected(flow, segment, direction) {
                close(flow, flags)
            } else if is_closing(state) {
                // From an end that has forgotten the connection, about what was under way.
                Step::Ignore
            } else {
                Step::Doubt
            }
        }

        // The initiator tries again, perhaps with another sequence number: the newest counts.
        (State::SynSent, Shape::Syn) if from_initiator => {
            let answered = segment.seq.wrapping_add(1);
            flow.set_ack_low(answered);
            flow.set_ack_high(answered.wrapping_add(segment.payload));
            Step::Stay
        }
        // Simultaneous open (RFC 9293, section 3.5): both ends sent SYN, both will acknowledge.
        (State::SynSent, Shape::Syn) => {
            let answered = segment.seq.wrapping_add(1);
            flow.set_ack_low(answered);
            flow.set_ack_high(answered.wrapping_add(segment.payload));
            Step::Move(State::SynRecv)
        }
        // The answer to the SYN, if it acknowledges that SYN. One that does not is a leftover of
        // an earlier connection: the initiator settles it, and we learn nothing.
        (State::SynSent, Shape::SynAck) if !from_initiator => {
            if !answers(flow, segment) {
                return Step::Ignore;
            }
            let answered = segment.seq.wrapping_add(1);
            flow.set_ack_low(answered);
            flow.set_ack_high(answered.wrapping_add(segment.payload));
            flow.set_flags(flags | REPLIED);
            Step::Move(State::SynRecv)
        }
        // The answer took another way than past this interface; the initiator has seen it.
        (State::SynSent, Shape::Ack | Shape::Fin) if from_initiator => Step::Stay,
        // A challenge ACK, or a leftover: the initiator's RST or next SYN settles it.
        (State::SynSent, _) => Step::Ignore,

        // The responder goes on sending before it hears from us (TCP Fast Open): the proof may
        // acknowledge that data too.
        (State::SynRecv, Shape::Ack | Shape::Fin) if !from_initiator => {
            let end = segment.seq.wrapping_add(segment.payload);
            let low = flow.ack_low();
            // A responder may have at most its unscaled window on the way by now.
            if within(end, flow.ack_high(), low.wrapping_add(0xffff)) {
                flow.set_ack_high(end);
            }
            Step::Stay
        }
        // The handshake's last segment: only someone who saw the SYN-ACK can acknowledge it.
        (State::SynRecv, Shape::Ack | Shape::SynAck) if from_initiator => {
            if answers(flow, segment) { Step::Prove(State::Established) } else { Step::Doubt }
        }
        (State::SynRecv, Shape::Fin) => {
            if answers(flow, segment) {
                finish(flow, flags, direction);
                Step::Prove(State::FinWait)
            } else {
                Step::Doubt
            }
        }
        (State::SynRecv, Shape::SynAck) => {
            // One after the listener forgot has another number; a repeated one takes back nothing
            // of the data behind it.
            let answered = segment.seq.wrapping_add(1);
            if answered != flow.ack_low() {
                flow.set_ack_low(answered);
                flow.set_ack_high(answered.wrapping_add(segment.payload));
            }
            flow.set_flags(flags | REPLIED);
            Step::Stay
        }
        (State::SynRecv, _) => Step::Stay,

        // Over: a SYN starts a new connection, if the rules still allow one.
        (State::TimeWait | State::Close, Shape::Syn) => Step::Fresh,
        (State::TimeWait, _) => Step::Stay,

        // After a RST. Where it was real, one end has no state and answers everything with RST.
        // Where it was forged, both ends go on talking: then the connection lives.
        (State::Close, _) => {
            let heard = match direction {
                Direction::Ingress => flags | HEARD_INGRESS,
                Direction::Egress => flags | HEARD_EGRESS,
            };
            flow.set_flags(heard);
            if heard & (HEARD_INGRESS | HEARD_EGRESS) == HEARD_INGRESS | HEARD_EGRESS {
                Step::Move(State::Established)
            } else {
                Step::Ignore
            }
        }

        // SYN or SYN-ACK inside a connection: the endpoint answers with a challenge ACK (RFC 9293,
        // section 3.10.7.4), and what follows from that settles it.
        (_, Shape::Syn | Shape::SynAck) => Step::Ignore,

        (State::Established, Shape::Fin) => {
            finish(flow, flags, direction);
            Step::Move(State::FinWait)
        }
        (State::Established, Shape::Ack) => {
            if flags & PROVEN != 0 || flags & PICKED_UP == 0 {
                Step::Stay
            } else {
                converse(flow, flags, from_initiator, State::Established)
            }
        }

        (State::FinWait | State::CloseWait, Shape::Fin) if !from_finisher => {
            Step::Move(State::LastAck)
        }
        (State::FinWait, Shape::Ack) if !from_finisher => Step::Move(State::CloseWait),
        (State::LastAck, Shape::Ack) if from_finisher => Step::Move(State::TimeWait),
        (_, _) => Step::Stay,
    }
}

/// Whether one end at least is done.
#[inline(always)]
const fn is_closing(state: State) -> bool {
    !matches!(state, State::SynSent | State::SynRecv | State::Established)
}

/// A flow without a handshake is proven by a reply, and then another packet from the initiator.
#[inline(always)]
pub fn converse(flow: &FlowRef<'_>, flags: u8, from_initiator: bool, proven: State) -> Step {
    if flags & PROVEN != 0 {
        Step::Stay
    } else if !from_initiator {
        if flags & REPLIED == 0 {
            flow.set_flags(flags | REPLIED);
        }
        Step::Stay
    } else if flags & REPLIED != 0 {
        Step::Prove(proven)
    } else {
        Step::Stay
    }
}

/// The sequence number behind a segment, SYN and FIN counted.
#[must_use]
#[inline(always)]
pub fn end<A>(segment: &Segment<A>) -> u32 {
    let is_syn = segment.tcp_flags & SYN != 0;
    let is_fin = segment.tcp_flags & FIN != 0;
    segment.seq.wrapping_add(segment.payload).wrapping_add((is_syn | is_fin) as u32)
}

/// How far beyond the last acknowledgement a RST that follows its sender's data may be.
const TRAIN: u32 = 0xffff;

/// Whether a RST has the number that its receiver expects next (RFC 5961, section 3.2): what the
/// receiver last acknowledged, or what follows the last segment of the RST's sender, which the
/// receiver gets just before it. A stranger has to guess the first, which no packet of his changes.
#[inline(always)]
fn is_expected<A>(flow: &FlowRef<'_>, segment: &Segment<A>, sender: Direction) -> bool {
    let acked = flow.acked(sender.opposite());
    let ahead = segment.seq.wrapping_sub(acked);
    ahead == 0 || (segment.seq == flow.end(sender) && (ahead <= TRAIN || acked == 0))
}

#[inline(always)]
fn answers<A>(flow: &FlowRef<'_>, segment: &Segment<A>) -> bool {
    segment.tcp_flags & ACK != 0 && within(segment.ack, flow.ack_low(), flow.ack_high())
}

#[inline(always)]
fn close(flow: &FlowRef<'_>, flags: u8) -> Step {
    flow.set_flags(flags & !(HEARD_INGRESS | HEARD_EGRESS));
    Step::Move(State::Close)
}

#[inline(always)]
fn finish(flow: &FlowRef<'_>, flags: u8, direction: Direction) {
    flow.set_flags(match direction {
        Direction::Ingress => flags & !FIN_EGRESS,
        Direction::Egress => flags | FIN_EGRESS,
    });
}
