//! The TCP state machine: the transition of every segment type in every state.

use firewall_ebpf::abi::address::V4;
use firewall_ebpf::abi::flow::{
    FIN_EGRESS, Flow, HEARD_EGRESS, HEARD_INGRESS, INITIATOR_EGRESS, NUMBERS_KNOWN, PROVEN,
    REPLIED, UNCONFIRMED_EGRESS, UNCONFIRMED_FIN_EGRESS, UNCONFIRMED_FIN_INGRESS,
    UNCONFIRMED_INGRESS,
};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::verdict::flow::FlowRef;
use firewall_ebpf::verdict::numbers::{self, Judgement, REACH};
use firewall_ebpf::verdict::tcp::{
    Transition, begin_anew, begins_anew, first_transition, transition,
};
use firewall_ebpf::verdict::window;
use firewall_ebpf::wire::headers::{Fragment, Kind, PacketHeaders};
use firewall_ebpf::wire::tcp::{JUDGED_FLAGS, SegmentType, segment_type};

mod belonging;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// Initial sequence numbers; the client's wraps with its first data.
const C: u32 = u32::MAX - 1;
const S: u32 = 70_000;

/// The end that sends a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Initiator,
    Responder,
}
use Sender::{Initiator, Responder};

/// The direction of a segment, from the direction of the flow's initiator.
fn direction(initiator: Direction, sender: Sender) -> Direction {
    if sender == Initiator { initiator } else { initiator.opposite() }
}

fn segment(flags: u8, seq: u32, ack: u32, payload: u32) -> PacketHeaders<V4> {
    PacketHeaders {
        src: 1,
        dst: 2,
        protocol: 6,
        kind: Kind::Tcp,
        tcp_flags: flags,
        hop_limit: 64,
        fragment: Fragment::WHOLE,
        ports: 4 << 16 | 3,
        rule_port: 4,
        seq,
        ack,
        payload,
        window: 1000,
        options: 0,
        ip: 14,
        at: 34,
        length: 20 + payload,
    }
}

/// A segment with the sequence and acknowledgement numbers that are next from that end.
fn in_sequence(sender: Sender, flags: u8) -> PacketHeaders<V4> {
    let (own, other) = if sender == Initiator { (C, S) } else { (S, C) };
    let seq = if flags & SYN != 0 { own } else { own.wrapping_add(1) };
    segment(flags, seq, if flags & ACK != 0 { other.wrapping_add(1) } else { 0 }, 0)
}

/// A flow in a state, as the segments of a valid connection leave it. `closer` sends the first FIN.
fn flow(state: State, initiator: Direction, closer: Sender) -> Flow {
    let mut flags = if initiator == Direction::Egress { INITIATOR_EGRESS } else { 0 };
    let acknowledgeable = if state == State::SynSent { C.wrapping_add(1) } else { S + 1 };
    if state != State::SynSent {
        flags |= REPLIED | NUMBERS_KNOWN;
    }
    if !matches!(state, State::SynSent | State::SynRecv) {
        flags |= PROVEN;
    }
    if direction(initiator, closer) == Direction::Egress {
        flags |= FIN_EGRESS;
    }
    let mut flow = Flow {
        state: state as u8,
        flags,
        ack_low: acknowledgeable,
        ack_high: acknowledgeable,
        limit: [acknowledgeable; 2],
        ..Flow::default()
    };
    let [client, server] =
        [Initiator, Responder].map(|sender| direction(initiator, sender) as usize);
    flow.next_seq[client] = C.wrapping_add(1);
    if state != State::SynSent {
        (flow.next_seq[server], flow.last_ack[server]) = (S + 1, C.wrapping_add(1));
        flow.last_ack[client] = S + 1;
    }
    flow
}

fn apply(flow: &mut Flow, sender: Sender, segment: &PacketHeaders<V4>) -> Transition {
    let (state, initiator) = (flow.state().expect("a state"), flow.initiator());
    let kind = segment_type(segment.tcp_flags).expect("flags that a stack sends");
    // SAFETY: the record outlives the reference, and nothing else accesses it.
    let reference = unsafe { FlowRef::new(flow) };
    let direction = direction(initiator, sender);
    let fits = numbers::belong(&reference, segment.seq, segment.ack, direction);
    transition(&reference, state, segment, kind, direction, fits)
}

/// Judges an acknowledgement or FIN.
fn judge(flow: &mut Flow, sender: Sender, segment: &PacketHeaders<V4>) -> Judgement {
    let sender = direction(flow.initiator(), sender);
    // SAFETY: as in `apply`.
    let reference = unsafe { FlowRef::new(flow) };
    numbers::judge(&reference, segment, segment.tcp_flags & FIN != 0, sender)
}

const UNCHANGED: Transition = Transition::Unchanged;
const IGNORE: Transition = Transition::Ignored;
const INVALID: Transition = Transition::Invalid;
const REOPEN: Transition = Transition::Reopen;
const CLOSE: Transition = Transition::Move(State::Close);

const fn to(state: State) -> Transition {
    Transition::Move(state)
}

const fn proves(state: State) -> Transition {
    Transition::Prove(state)
}

/// A row: the transitions of SYN, SYN-ACK, ACK, FIN and RST in a state.
type Row = (State, Sender, [Transition; 5]);

/// For segments in sequence. In the closing states the initiator sent the first FIN.
const MACHINE: [Row; 16] = [
    (State::SynSent, Initiator, [UNCHANGED, IGNORE, UNCHANGED, UNCHANGED, IGNORE]),
    (State::SynSent, Responder, [to(State::SynRecv), to(State::SynRecv), IGNORE, IGNORE, CLOSE]),
    (
        State::SynRecv,
        Initiator,
        [
            UNCHANGED,
            proves(State::Established),
            proves(State::Established),
            proves(State::FinWait),
            CLOSE,
        ],
    ),
    (State::SynRecv, Responder, [UNCHANGED, UNCHANGED, UNCHANGED, UNCHANGED, CLOSE]),
    (State::Established, Initiator, [IGNORE, IGNORE, UNCHANGED, to(State::FinWait), CLOSE]),
    (State::Established, Responder, [IGNORE, IGNORE, UNCHANGED, to(State::FinWait), CLOSE]),
    (State::FinWait, Initiator, [IGNORE, IGNORE, UNCHANGED, UNCHANGED, CLOSE]),
    (State::FinWait, Responder, [IGNORE, IGNORE, to(State::CloseWait), to(State::LastAck), CLOSE]),
    (State::CloseWait, Initiator, [IGNORE, IGNORE, UNCHANGED, UNCHANGED, CLOSE]),
    (State::CloseWait, Responder, [IGNORE, IGNORE, UNCHANGED, to(State::LastAck), CLOSE]),
    (State::LastAck, Initiator, [IGNORE, IGNORE, to(State::TimeWait), UNCHANGED, CLOSE]),
    (State::LastAck, Responder, [IGNORE, IGNORE, UNCHANGED, UNCHANGED, CLOSE]),
    (State::TimeWait, Initiator, [REOPEN, IGNORE, UNCHANGED, UNCHANGED, CLOSE]),
    (State::TimeWait, Responder, [REOPEN, IGNORE, UNCHANGED, UNCHANGED, CLOSE]),
    (State::Close, Initiator, [REOPEN, IGNORE, IGNORE, IGNORE, CLOSE]),
    (State::Close, Responder, [REOPEN, IGNORE, IGNORE, IGNORE, CLOSE]),
];

const COLUMNS: [u8; 5] = [SYN, SYN | ACK, ACK, FIN | ACK, RST | ACK];

#[test]
fn every_segment_type_has_a_transition_in_every_state() {
    for initiator in Direction::ALL {
        for (state, sender, row) in MACHINE {
            for (flags, expected) in COLUMNS.into_iter().zip(row) {
                let mut flow = flow(state, initiator, Initiator);
                let step = apply(&mut flow, sender, &in_sequence(sender, flags));
                assert_eq!(
                    step, expected,
                    "{state:?}, {sender:?} ({initiator:?} opens), {flags:#04x}"
                );
            }
        }
    }
}

/// The states after a FIN depend on its sender, not on the initiator of the connection.
#[test]
fn the_closing_states_mirror_when_the_responder_sends_the_first_fin() {
    let after_fin = [State::FinWait, State::CloseWait, State::LastAck];
    for initiator in Direction::ALL {
        for (state, sender, row) in MACHINE.into_iter().filter(|(s, ..)| after_fin.contains(s)) {
            let sender = if sender == Initiator { Responder } else { Initiator };
            for (flags, expected) in COLUMNS.into_iter().zip(row) {
                let mut flow = flow(state, initiator, Responder);
                let step = apply(&mut flow, sender, &in_sequence(sender, flags));
                assert_eq!(
                    step, expected,
                    "{state:?}, {sender:?} ({initiator:?} opens), {flags:#04x}"
                );
            }
        }
    }
}

#[test]
fn the_direction_of_the_first_fin_is_recorded() {
    for initiator in Direction::ALL {
        for sender in [Initiator, Responder] {
            let mut flow = flow(State::Established, initiator, Initiator);
            apply(&mut flow, sender, &in_sequence(sender, FIN | ACK));
            let egress = direction(initiator, sender) == Direction::Egress;
            assert_eq!(flow.flags & FIN_EGRESS != 0, egress, "{sender:?} ({initiator:?} opens)");
        }
    }
}

/// A guessed number changes neither the state nor the numbers that a valid segment must have.
#[test]
fn a_wrong_acknowledgement_number_changes_nothing() {
    for off in [1, 2, 1000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
        let (of_client, of_server) =
            (C.wrapping_add(1).wrapping_add(off), (S + 1).wrapping_add(off));
        let cases = [
            (State::SynSent, Responder, SYN | ACK, of_client, IGNORE),
            (State::SynSent, Responder, RST | ACK, of_client, INVALID),
            (State::SynRecv, Initiator, ACK, of_server, INVALID),
            (State::SynRecv, Initiator, SYN | ACK, of_server, INVALID),
            (State::SynRecv, Initiator, FIN | ACK, of_server, INVALID),
        ];
        for (state, sender, flags, ack, expected) in cases {
            let before = flow(state, Direction::Ingress, Initiator);
            let mut after = before;
            let step =
                apply(&mut after, sender, &PacketHeaders { ack, ..in_sequence(sender, flags) });
            assert_eq!(step, expected, "{state:?}, {sender:?}, {flags:#04x}, ack {ack}");
            assert_eq!(after, before, "{state:?}, {sender:?}, {flags:#04x}, ack {ack}");
        }
    }
}

/// A RST at the last acknowledgement or right after the sender's own last segment closes a flow. A
/// RST at any other number does not, because an off-path attacker would have to guess.
#[test]
fn only_a_rst_at_the_expected_sequence_number_closes_a_flow() {
    // An end that has begun to close may reply to segments in flight with any number.
    let states = [
        (State::SynRecv, INVALID),
        (State::Established, INVALID),
        (State::FinWait, IGNORE),
        (State::TimeWait, IGNORE),
    ];
    let cases = states.into_iter().flat_map(|s| [(s, Initiator), (s, Responder)]);
    for ((state, expected), sender) in cases {
        let before = flow(state, Direction::Egress, Initiator);
        for off in [1, 1000, 0x7fff_ffff, u32::MAX] {
            let valid = in_sequence(sender, RST);
            let mut after = before;
            let guess = PacketHeaders { seq: valid.seq.wrapping_add(off), ..valid };
            assert_eq!(apply(&mut after, sender, &guess), expected, "{state:?}, {sender:?}, {off}");
            assert_eq!(after, before, "{state:?}, {sender:?}, {off}");
        }
    }
    // Data in flight, and a RST right after it.
    for sent in [3000, 0x1_0000, 1 << 30] {
        let mut flow = flow(State::Established, Direction::Ingress, Initiator);
        flow.next_seq[0] = C.wrapping_add(1).wrapping_add(sent);
        let rst = segment(RST, flow.next_seq[0], 0, 0);
        assert_eq!(apply(&mut flow, Initiator, &rst), CLOSE, "{sent} bytes in flight");
    }
    // Nothing is expected at the number 0 while the numbers are not known.
    for sender in [Initiator, Responder] {
        for state in [State::Established, State::FinWait] {
            let before = Flow { state: state as u8, flags: PROVEN | REPLIED, ..Flow::default() };
            let mut after = before;
            assert_eq!(apply(&mut after, sender, &segment(RST, 0, 0, 0)), IGNORE, "{state:?}");
            assert_eq!(after, before, "{state:?}");
        }
    }
}

/// The server may acknowledge all, some or none of the data on a SYN (RFC 7413).
#[test]
fn any_part_of_the_data_on_a_syn_may_be_acknowledged() {
    for (acknowledged, expected) in
        [(0, true), (1, true), (100, true), (101, false), (u32::MAX, false)]
    {
        let first =
            first_transition(&segment(SYN, C, 0, 100), SegmentType::Syn, Direction::Ingress);
        assert_eq!((first.state, first.flags, first.pending), (State::SynSent, 0, 0));
        let mut flow = Flow {
            state: first.state as u8,
            ack_low: first.ack_low,
            ack_high: first.ack_high,
            limit: [first.ack_low, first.ack_high],
            ..Flow::default()
        };
        let ack = C.wrapping_add(1).wrapping_add(acknowledged);
        let step = apply(&mut flow, Responder, &segment(SYN | ACK, S, ack, 0));
        assert_eq!(
            step,
            if expected { to(State::SynRecv) } else { IGNORE },
            "{acknowledged} bytes acknowledged"
        );
    }
}

/// The server may send data right after its SYN-ACK; the last ACK of the handshake may cover it.
#[test]
fn the_handshake_ack_may_cover_data_after_the_syn_ack() {
    let cases = [
        // Data right after the SYN-ACK, and the sequence number after that data.
        (S + 1, 1000, S + 1001, proves(State::Established)),
        (S + 1, 1000, S + 500, proves(State::Established)),
        (S + 1, 1000, S + 1002, INVALID),
        // More than a window at once, or data elsewhere in sequence space, extends nothing.
        (S + 1, 70_000, S + 70_001, INVALID),
        (S.wrapping_sub(5000), 1000, S.wrapping_sub(4000), INVALID),
    ];
    for (seq, payload, ack, expected) in cases {
        let mut flow = flow(State::SynRecv, Direction::Ingress, Initiator);
        let data = segment(ACK, seq, C.wrapping_add(1), payload);
        assert_eq!(apply(&mut flow, Responder, &data), UNCHANGED, "{payload} bytes at {seq}");
        let last = segment(ACK, C.wrapping_add(1), ack, 0);
        assert_eq!(
            apply(&mut flow, Initiator, &last),
            expected,
            "{payload} bytes at {seq}, ack {ack}"
        );
    }
}

#[test]
fn the_first_and_the_latest_syn_may_be_acknowledged() {
    for (ack, expected) in [
        (C.wrapping_add(1), to(State::SynRecv)),
        (1001, to(State::SynRecv)),
        (901, IGNORE),
        (1000, IGNORE),
    ] {
        let mut flow = flow(State::SynSent, Direction::Egress, Initiator);
        assert_eq!(apply(&mut flow, Initiator, &segment(SYN, 900, 0, 0)), UNCHANGED);
        assert_eq!(apply(&mut flow, Initiator, &segment(SYN, 1000, 0, 0)), UNCHANGED);
        assert_eq!(apply(&mut flow, Responder, &segment(SYN | ACK, S, ack, 0)), expected, "{ack}");
    }
}

#[test]
fn the_newest_syn_ack_to_the_syn_sets_the_expected_acknowledgement() {
    let mut flow = flow(State::SynRecv, Direction::Egress, Initiator);
    let again = |ack| segment(SYN | ACK, S + 9, ack, 0);
    assert_eq!(apply(&mut flow, Responder, &again(12_345)), IGNORE);
    assert_eq!((flow.ack_low, flow.ack_high), (S + 1, S + 1));
    assert_eq!(apply(&mut flow, Responder, &again(C.wrapping_add(1))), to(State::SynRecv));
    assert_eq!((flow.ack_low, flow.ack_high), (S + 10, S + 10));
}

/// A SYN-ACK that acknowledges a SYN which was ignored begins a connection in the SYN's direction.
#[test]
fn a_syn_ack_to_an_ignored_syn_begins_a_connection() {
    let open = [State::Established, State::FinWait, State::CloseWait, State::LastAck];
    for (state, sender) in open.into_iter().flat_map(|s| [(s, Initiator), (s, Responder)]) {
        let mut flow = flow(state, Direction::Ingress, Initiator);
        let (from, to) = (direction(Direction::Ingress, sender), sender);
        assert_eq!(apply(&mut flow, to, &segment(SYN, 900, 0, 10)), IGNORE, "{state:?}");
        // SAFETY: as in `apply`.
        let reference = unsafe { FlowRef::new(&raw mut flow) };
        let begins =
            |ack, sender| begins_anew(&reference, state, &segment(SYN | ACK, 7, ack, 0), sender);
        assert!(begins(901, from.opposite()) && begins(911, from.opposite()), "{state:?}");
        assert!(!begins(900, from.opposite()) && !begins(912, from.opposite()), "{state:?}");
        assert!(!begins(901, from), "{state:?}");
        let step = begin_anew(&reference, &segment(SYN | ACK, 7, 911, 0), from.opposite());
        assert_eq!(step, Transition::Move(State::SynRecv));
        assert_eq!(flow.initiator(), from);
        flow.state = State::SynRecv as u8;
        assert_eq!(apply(&mut flow, Initiator, &segment(ACK, 911, S + 1, 0)), INVALID);
        assert_eq!(
            apply(&mut flow, Initiator, &segment(ACK, 911, 8, 0)),
            proves(State::Established)
        );
    }
}

/// Segments of both ends after a RST show that it was spoofed; segments of one end do not.
#[test]
fn a_closed_flow_reopens_only_after_segments_of_both_ends() {
    for initiator in Direction::ALL {
        let mut flow = flow(State::Established, initiator, Initiator);
        assert_eq!(apply(&mut flow, Responder, &in_sequence(Responder, RST)), CLOSE);
        flow.state = State::Close as u8;
        for _ in 0..3 {
            assert_eq!(apply(&mut flow, Initiator, &in_sequence(Initiator, ACK)), IGNORE);
        }
        // A second RST resets the record of segments seen.
        assert_eq!(apply(&mut flow, Responder, &in_sequence(Responder, RST)), CLOSE);
        assert_eq!(flow.flags & (HEARD_INGRESS | HEARD_EGRESS), 0);
        assert_eq!(apply(&mut flow, Responder, &in_sequence(Responder, ACK)), IGNORE);
        assert_eq!(apply(&mut flow, Responder, &in_sequence(Responder, FIN | ACK)), IGNORE);
        assert_eq!(
            apply(&mut flow, Initiator, &in_sequence(Initiator, ACK)),
            to(State::Established)
        );
    }
}

/// Of the 256 values of the flags field, those that a TCP stack sends have a type: at most one of
/// SYN, FIN and RST; ACK with everything except a first SYN and a RST; URG where data may be.
#[test]
fn every_flag_combination_is_classified() {
    for flags in 0..=u8::MAX {
        let [fin, syn, rst, ack, urg] = [FIN, SYN, RST, ACK, URG].map(|flag| flags & flag != 0);
        let expected = match (syn, fin, rst) {
            (true, false, false) if !ack => Some(SegmentType::Syn),
            (true, false, false) if !urg => Some(SegmentType::SynAck),
            (false, true, false) if ack => Some(SegmentType::Fin),
            (false, false, true) if !urg => Some(SegmentType::Rst),
            (false, false, false) if ack => Some(SegmentType::Ack),
            _ => None,
        };
        assert_eq!(segment_type(flags & JUDGED_FLAGS), expected, "{flags:#04x}");
    }
}
