//! A TCP segment of a live flow, except for what asks the rules: how it changes the flow's state and
//! numbers.

use super::flow::FlowRef;
use super::tcp::{self, Transition};
use super::window::{self, Position};
use super::{ignored_syn, numbers};
use crate::abi::address::V4;
use crate::abi::interface::{Direction, TcpChecks};
use crate::abi::reason::Reason;
use crate::abi::state::State;
use crate::wire::headers::PacketHeaders;
use crate::wire::tcp::{SegmentType, segment_type};

/// What the state table reads of a segment: few enough words to be the arguments of a BPF function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedSegment {
    /// The sequence number, and in the upper half the acknowledgement number.
    pub numbers: u64,
    /// Bytes of payload, and in the upper half the window.
    pub extent: u64,
    /// Bits 0 to 7 the flags, 8 to 15 the window scale, 16 to 23 the flow's state, bit 24 the direction.
    pub what: u32,
}

impl PackedSegment {
    /// Packs a segment of a flow in this state.
    #[inline(always)]
    pub(super) fn new<A>(
        headers: &PacketHeaders<A>,
        state: State,
        scale: u8,
        sender: Direction,
    ) -> Self {
        Self {
            numbers: u64::from(headers.seq) | u64::from(headers.ack) << 32,
            extent: u64::from(headers.payload) | u64::from(headers.window) << 32,
            what: u32::from(headers.tcp_flags)
                | u32::from(scale) << 8
                | u32::from(state as u8) << 16
                | (sender as u32) << 24,
        }
    }
}

/// Whether both ends have closed, or one has reset the connection.
#[inline(always)]
pub(super) const fn is_closed(state: State) -> bool {
    matches!(state, State::TimeWait | State::Close)
}

/// Applies a segment to its flow, except for times, counts and a state that the result names.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn update(
    flow: &FlowRef<'_>,
    packed: PackedSegment,
    checks: TcpChecks,
) -> Result<Transition, Reason> {
    let PackedSegment { numbers: both, extent, what } = packed;
    // Only the transport fields are read.
    let mut headers = PacketHeaders::<V4>::new(0, 0);
    headers.seq = (both & 0xffff_ffff) as u32;
    headers.ack = (both >> 32) as u32;
    headers.payload = (extent & 0xffff_ffff) as u32;
    headers.window = (extent >> 32 & 0xffff) as u16;
    headers.tcp_flags = (what & 0xff) as u8;
    let headers = &headers;
    let scale = (what >> 8 & 0xff) as u8;
    let sender = if what >> 24 & 1 == 0 { Direction::Ingress } else { Direction::Egress };
    // Both are those of the caller.
    let Some(segment) = segment_type(headers.tcp_flags) else { return Err(Reason::TcpFlags) };
    let Some(state) = State::from_number((what >> 16 & 0xff) as u8) else {
        return Err(Reason::TcpFlags);
    };
    let is_strict = matches!(checks, TcpChecks::Strict);
    let is_closed = is_closed(state);
    let mut state = state;
    let mut fits = true;
    let mut is_tracked = false;
    let mut confirms_fin = false;
    if matches!(segment, SegmentType::Ack | SegmentType::Fin) && state != State::SynSent {
        is_tracked = is_strict && window::is_tracked(flow);
        if is_tracked {
            match window::position(flow, headers, sender) {
                Position::Beyond => return Err(Reason::TcpWindow),
                Position::Before => return Ok(Transition::Ignored),
                Position::Inside => {}
            }
        } else if state == State::SynRecv {
            fits = numbers::belong(flow, headers.seq, headers.ack, sender);
        } else {
            let is_fin = segment == SegmentType::Fin;
            // Before it is recorded: a packet that is dropped changes nothing.
            if is_strict
                && is_fin
                && !is_closed
                && flow.are_numbers_known()
                && !numbers::belong(flow, headers.seq, headers.ack, sender)
            {
                return Err(Reason::TcpWindow);
            }
            let judgement = numbers::judge(flow, headers, is_fin, sender);
            fits = judgement.fits;
            confirms_fin = judgement.confirms_fin;
            if confirms_fin {
                state = tcp::after_fin(flow, state, sender.opposite());
                flow.set_state(state as u8);
            }
        }
    }
    let answers_first = tcp::answers(flow, headers);
    let mut transition = tcp::transition(flow, state, headers, segment, sender, fits);
    if confirms_fin && matches!(transition, Transition::Ignored | Transition::Invalid) {
        // Whatever else it is, it moved the flow: the shorter timeout begins now, not in the past.
        transition = Transition::Move(state);
    }
    if transition == Transition::Invalid && is_strict {
        let is_reset = segment == SegmentType::Rst;
        return Err(if is_reset { Reason::TcpReset } else { Reason::TcpWindow });
    }
    match (segment, transition) {
        (SegmentType::Syn, Transition::Ignored) if is_strict => {
            ignored_syn::store_window(flow, headers, scale);
        }
        (_, Transition::Ignored | Transition::Invalid | Transition::Reopen) => {}
        (SegmentType::Ack | SegmentType::Fin, _) if fits && state != State::SynSent => {
            numbers::store(flow, headers.next_seq(), headers.ack, sender);
            if is_tracked {
                window::update(flow, headers, sender);
            }
        }
        (SegmentType::Syn | SegmentType::SynAck, Transition::Move(_)) if is_strict => {
            if segment == SegmentType::SynAck && state == State::SynSent && !answers_first {
                window::take_other(flow, sender.opposite());
            }
            window::init(flow, headers, scale, sender);
        }
        (SegmentType::Syn, Transition::Unchanged)
            if is_strict
                && state == State::SynSent
                && headers.seq.wrapping_add(1) != flow.ack_low() =>
        {
            window::store_other(flow, headers, scale, sender);
        }
        _ => {}
    }
    Ok(transition)
}

const UNCHANGED: u32 = 0;
const IGNORED: u32 = 1;
const INVALID: u32 = 2;
const MOVE: u32 = 3;
const PROVE: u32 = 4;
const REOPEN: u32 = 5;
const DROP: u32 = 6;

/// The result of [`update`] in one word: its kind, and in the upper half the number of the state or reason.
#[inline(always)]
pub fn pack(result: Result<Transition, Reason>) -> u32 {
    match result {
        Ok(Transition::Unchanged) => UNCHANGED,
        Ok(Transition::Ignored) => IGNORED,
        Ok(Transition::Invalid) => INVALID,
        Ok(Transition::Move(state)) => MOVE | (state as u32) << 16,
        Ok(Transition::Prove(state)) => PROVE | (state as u32) << 16,
        Ok(Transition::Reopen) => REOPEN,
        Err(reason) => DROP | (reason as u32) << 16,
    }
}

/// The result of [`pack`].
///
/// # Errors
/// The reason for which the segment is dropped.
#[inline(always)]
pub fn unpack(word: u32) -> Result<Transition, Reason> {
    let state = || State::from_number((word >> 16 & 0xff) as u8);
    match (word & 0xffff, state()) {
        (UNCHANGED, _) => Ok(Transition::Unchanged),
        (IGNORED, _) => Ok(Transition::Ignored),
        (INVALID, _) => Ok(Transition::Invalid),
        (MOVE, Some(state)) => Ok(Transition::Move(state)),
        (PROVE, Some(state)) => Ok(Transition::Prove(state)),
        (REOPEN, _) => Ok(Transition::Reopen),
        // Only strict TCP drops a segment of a flow.
        _ if word >> 16 == Reason::TcpReset as u32 => Err(Reason::TcpReset),
        _ => Err(Reason::TcpWindow),
    }
}
