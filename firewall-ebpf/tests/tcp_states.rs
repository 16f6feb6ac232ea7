//! The TCP state machine, cell by cell: what every segment does in every state.

use firewall_ebpf::flow::{
    FIN_EGRESS, Flow, FlowRef, HEARD_EGRESS, HEARD_INGRESS, INITIATOR_EGRESS, PICKED_UP, PROVEN,
    REPLIED,
};
use firewall_ebpf::interface::{Direction, State};
use firewall_ebpf::parse::{Fragment, Kind, Segment, V4};
use firewall_ebpf::tcp::{JUDGED_FLAGS, Shape, Step, begin, shape, step};
use firewall_ebpf::window::{self, Fit};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// Initial sequence numbers; the client's wraps with its first data.
const C: u32 = u32::MAX - 1;
const S: u32 = 70_000;

/// Who sends a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Initiator,
    Responder,
}
use By::{Initiator, Responder};

/// The initiator's direction, and what its end and the other end of a segment are.
fn direction(initiator: Direction, by: By) -> Direction {
    if by == Initiator { initiator } else { initiator.opposite() }
}

fn segment(flags: u8, seq: u32, ack: u32, payload: u32) -> Segment<V4> {
    Segment {
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
        at: 34,
        length: 20 + payload,
    }
}

/// A segment with the numbers that are due from that end.
fn due(by: By, flags: u8) -> Segment<V4> {
    let (own, other) = if by == Initiator { (C, S) } else { (S, C) };
    let seq = if flags & SYN != 0 { own } else { own.wrapping_add(1) };
    segment(flags, seq, if flags & ACK != 0 { other.wrapping_add(1) } else { 0 }, 0)
}

/// A flow in a state, as the segments of a sound connection leave it.
fn flow(state: State, initiator: Direction, finisher: By) -> Flow {
    let mut flags = if initiator == Direction::Egress { INITIATOR_EGRESS } else { 0 };
    let answered = if state == State::SynSent { C.wrapping_add(1) } else { S + 1 };
    if state != State::SynSent {
        flags |= REPLIED;
    }
    if !matches!(state, State::SynSent | State::SynRecv) {
        flags |= PROVEN;
    }
    if direction(initiator, finisher) == Direction::Egress {
        flags |= FIN_EGRESS;
    }
    let mut flow = Flow {
        state: state as u8,
        flags,
        ack_low: answered,
        ack_high: answered,
        ..Flow::default()
    };
    let [client, server] = [Initiator, Responder].map(|by| direction(initiator, by) as usize);
    flow.end[client] = C.wrapping_add(1);
    if state != State::SynSent {
        (flow.end[server], flow.acked[server]) = (S + 1, C.wrapping_add(1));
    }
    if !matches!(state, State::SynSent | State::SynRecv) {
        flow.acked[client] = S + 1;
    }
    flow
}

fn play(flow: &mut Flow, by: By, segment: &Segment<V4>) -> Step {
    let (state, initiator) = (flow.state().expect("a state"), flow.initiator());
    let kind = shape(segment.tcp_flags).expect("flags that a stack sends");
    // SAFETY: the record lives until the reference is gone, and nothing else looks at it.
    let reference = unsafe { FlowRef::new(flow) };
    step(&reference, state, segment, kind, direction(initiator, by))
}

const STAY: Step = Step::Stay;
const PASS: Step = Step::Ignore;
const DOUBT: Step = Step::Doubt;
const FRESH: Step = Step::Fresh;
const CLOSE: Step = Step::Move(State::Close);

const fn to(state: State) -> Step {
    Step::Move(state)
}

const fn proves(state: State) -> Step {
    Step::Prove(state)
}

/// A row: what SYN, SYN-ACK, ACK, FIN and RST do in a state.
type Row = (State, By, [Step; 5]);

/// With the numbers that are due, and the initiator the first to send FIN where one was sent.
const MACHINE: [Row; 16] = [
    (State::SynSent, Initiator, [STAY, PASS, STAY, STAY, PASS]),
    (State::SynSent, Responder, [to(State::SynRecv), to(State::SynRecv), PASS, PASS, CLOSE]),
    (
        State::SynRecv,
        Initiator,
        [
            STAY,
            proves(State::Established),
            proves(State::Established),
            proves(State::FinWait),
            CLOSE,
        ],
    ),
    (State::SynRecv, Responder, [STAY, STAY, STAY, STAY, CLOSE]),
    (State::Established, Initiator, [PASS, PASS, STAY, to(State::FinWait), CLOSE]),
    (State::Established, Responder, [PASS, PASS, STAY, to(State::FinWait), CLOSE]),
    (State::FinWait, Initiator, [PASS, PASS, STAY, STAY, CLOSE]),
    (State::FinWait, Responder, [PASS, PASS, to(State::CloseWait), to(State::LastAck), CLOSE]),
    (State::CloseWait, Initiator, [PASS, PASS, STAY, STAY, CLOSE]),
    (State::CloseWait, Responder, [PASS, PASS, STAY, to(State::LastAck), CLOSE]),
    (State::LastAck, Initiator, [PASS, PASS, to(State::TimeWait), STAY, CLOSE]),
    (State::LastAck, Responder, [PASS, PASS, STAY, STAY, CLOSE]),
    (State::TimeWait, Initiator, [FRESH, STAY, STAY, STAY, CLOSE]),
    (State::TimeWait, Responder, [FRESH, STAY, STAY, STAY, CLOSE]),
    (State::Close, Initiator, [FRESH, PASS, PASS, PASS, CLOSE]),
    (State::Close, Responder, [FRESH, PASS, PASS, PASS, CLOSE]),
];

const COLUMNS: [u8; 5] = [SYN, SYN | ACK, ACK, FIN | ACK, RST | ACK];

#[test]
fn every_segment_in_every_state() {
    for initiator in Direction::ALL {
        for (state, by, row) in MACHINE {
            for (flags, expected) in COLUMNS.into_iter().zip(row) {
                let mut flow = flow(state, initiator, Initiator);
                let step = play(&mut flow, by, &due(by, flags));
                assert_eq!(step, expected, "{state:?}, {by:?} ({initiator:?} opens), {flags:#04x}");
            }
        }
    }
}

/// The states after a FIN are about who sent it, not about who opened the connection.
#[test]
fn the_states_after_a_fin_mirror_when_the_responder_sent_it() {
    let after_fin = [State::FinWait, State::CloseWait, State::LastAck];
    for initiator in Direction::ALL {
        for (state, by, row) in MACHINE.into_iter().filter(|(s, ..)| after_fin.contains(s)) {
            let by = if by == Initiator { Responder } else { Initiator };
            for (flags, expected) in COLUMNS.into_iter().zip(row) {
                let mut flow = flow(state, initiator, Responder);
                let step = play(&mut flow, by, &due(by, flags));
                assert_eq!(step, expected, "{state:?}, {by:?} ({initiator:?} opens), {flags:#04x}");
            }
        }
    }
}

#[test]
fn the_first_fin_is_remembered_by_its_direction() {
    for initiator in Direction::ALL {
        for by in [Initiator, Responder] {
            let mut flow = flow(State::Established, initiator, Initiator);
            play(&mut flow, by, &due(by, FIN | ACK));
            let egress = direction(initiator, by) == Direction::Egress;
            assert_eq!(flow.flags & FIN_EGRESS != 0, egress, "{by:?} ({initiator:?} opens)");
        }
    }
}

/// A guess moves nothing: neither the state, nor the numbers that the right segment has to have.
#[test]
fn a_wrong_acknowledgement_number_changes_nothing() {
    for off in [1, 2, 1000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
        let (of_client, of_server) =
            (C.wrapping_add(1).wrapping_add(off), (S + 1).wrapping_add(off));
        let cases = [
            (State::SynSent, Responder, SYN | ACK, of_client, PASS),
            (State::SynSent, Responder, RST | ACK, of_client, DOUBT),
            (State::SynRecv, Initiator, ACK, of_server, DOUBT),
            (State::SynRecv, Initiator, SYN | ACK, of_server, DOUBT),
            (State::SynRecv, Initiator, FIN | ACK, of_server, DOUBT),
        ];
        for (state, by, flags, ack, expected) in cases {
            let before = flow(state, Direction::Ingress, Initiator);
            let mut after = before;
            let step = play(&mut after, by, &Segment { ack, ..due(by, flags) });
            assert_eq!(step, expected, "{state:?}, {by:?}, {flags:#04x}, ack {ack}");
            assert_eq!(after, before, "{state:?}, {by:?}, {flags:#04x}, ack {ack}");
        }
    }
}

/// What follows the last acknowledgement or the sender's own last segment ends a connection; what a
/// stranger would have to guess does not.
#[test]
fn only_a_rst_with_the_expected_number_closes() {
    // An end that has begun to close may answer what was under way with any number.
    let sound = [
        (State::SynRecv, DOUBT),
        (State::Established, DOUBT),
        (State::FinWait, PASS),
        (State::TimeWait, PASS),
    ];
    let sound = sound.into_iter().flat_map(|s| [(s, Initiator), (s, Responder)]);
    for ((state, expected), by) in sound {
        let before = flow(state, Direction::Egress, Initiator);
        for off in [1, 1000, 0x7fff_ffff, u32::MAX] {
            let due = due(by, RST);
            let mut after = before;
            let guess = Segment { seq: due.seq.wrapping_add(off), ..due };
            assert_eq!(play(&mut after, by, &guess), expected, "{state:?}, {by:?}, {off}");
            assert_eq!(after, before, "{state:?}, {by:?}, {off}");
        }
    }
    // Data on the way, and a RST right behind it; then more than can be on the way.
    for (sent, expected) in [(3000, CLOSE), (0xffff, CLOSE), (0x1_0000, DOUBT)] {
        let mut flow = flow(State::Established, Direction::Ingress, Initiator);
        flow.end[0] = C.wrapping_add(1).wrapping_add(sent);
        let rst = segment(RST, flow.end[0], 0, 0);
        assert_eq!(play(&mut flow, Initiator, &rst), expected, "{sent} bytes on the way");
    }
}

/// With data on the SYN (RFC 7413) the server may take all of it, some, or none.
#[test]
fn any_part_of_the_data_on_a_syn_may_be_acknowledged() {
    for (taken, expected) in [(0, true), (1, true), (100, true), (101, false), (u32::MAX, false)] {
        let (state, flags, ack_low, ack_high) = begin(&segment(SYN, C, 0, 100), Shape::Syn);
        assert_eq!((state, flags), (State::SynSent, 0));
        let mut flow = Flow { state: state as u8, flags, ack_low, ack_high, ..Flow::default() };
        let ack = C.wrapping_add(1).wrapping_add(taken);
        let step = play(&mut flow, Responder, &segment(SYN | ACK, S, ack, 0));
        assert_eq!(step, if expected { to(State::SynRecv) } else { PASS }, "{taken} bytes taken");
    }
}

/// The server may send before it hears from the client; the last ACK may cover that too.
#[test]
fn data_behind_the_syn_ack_widens_the_proof() {
    let cases = [
        // Data that follows the SYN-ACK, and the number behind it.
        (S + 1, 1000, S + 1001, proves(State::Established)),
        (S + 1, 1000, S + 500, proves(State::Established)),
        (S + 1, 1000, S + 1002, DOUBT),
        // More than a window at once, or data from elsewhere in sequence space, widens nothing.
        (S + 1, 70_000, S + 70_001, DOUBT),
        (S.wrapping_sub(5000), 1000, S.wrapping_sub(4000), DOUBT),
    ];
    for (seq, payload, ack, expected) in cases {
        let mut flow = flow(State::SynRecv, Direction::Ingress, Initiator);
        let data = segment(ACK, seq, C.wrapping_add(1), payload);
        assert_eq!(play(&mut flow, Responder, &data), STAY, "{payload} bytes at {seq}");
        let last = segment(ACK, C.wrapping_add(1), ack, 0);
        assert_eq!(
            play(&mut flow, Initiator, &last),
            expected,
            "{payload} bytes at {seq}, ack {ack}"
        );
    }
}

#[test]
fn the_newest_syn_and_the_newest_syn_ack_count() {
    let mut flow = flow(State::SynSent, Direction::Egress, Initiator);
    assert_eq!(play(&mut flow, Initiator, &segment(SYN, 900, 0, 0)), STAY);
    assert_eq!((flow.ack_low, flow.ack_high), (901, 901));
    assert_eq!(play(&mut flow, Responder, &segment(SYN | ACK, S, 901, 0)), to(State::SynRecv));
    flow.state = State::SynRecv as u8;
    assert_eq!(play(&mut flow, Responder, &segment(SYN | ACK, S + 9, 901, 0)), STAY);
    assert_eq!((flow.ack_low, flow.ack_high), (S + 10, S + 10));
}

/// A RST that both ends talk past was forged; one that only one end talks past was real.
#[test]
fn a_closed_flow_lives_again_only_when_both_ends_go_on() {
    for initiator in Direction::ALL {
        let mut flow = flow(State::Established, initiator, Initiator);
        assert_eq!(play(&mut flow, Responder, &due(Responder, RST)), CLOSE);
        flow.state = State::Close as u8;
        for _ in 0..3 {
            assert_eq!(play(&mut flow, Initiator, &due(Initiator, ACK)), PASS);
        }
        // A second RST starts the count again.
        assert_eq!(play(&mut flow, Responder, &due(Responder, RST)), CLOSE);
        assert_eq!(flow.flags & (HEARD_INGRESS | HEARD_EGRESS), 0);
        assert_eq!(play(&mut flow, Responder, &due(Responder, ACK)), PASS);
        assert_eq!(play(&mut flow, Responder, &due(Responder, FIN | ACK)), PASS);
        assert_eq!(play(&mut flow, Initiator, &due(Initiator, ACK)), to(State::Established));
    }
}

#[test]
fn a_connection_picked_up_is_proven_by_an_answer_and_then_an_ack() {
    let (state, flags, ..) = begin(&due(Initiator, ACK), Shape::Ack);
    assert_eq!((state, flags), (State::Established, PICKED_UP));
    let mut flow = Flow { state: state as u8, flags, ..Flow::default() };
    assert_eq!(play(&mut flow, Initiator, &due(Initiator, ACK)), STAY);
    assert_eq!(play(&mut flow, Responder, &due(Responder, ACK)), STAY);
    assert_eq!(flow.flags & REPLIED, REPLIED);
    assert_eq!(play(&mut flow, Initiator, &due(Initiator, ACK)), proves(State::Established));

    let (state, flags, ..) = begin(&due(Initiator, FIN | ACK), Shape::Fin);
    assert_eq!((state, flags), (State::FinWait, PICKED_UP));
}

/// Of the 256 bytes a flags field can hold, those that a stack sends have a shape: at most one of
/// SYN, FIN and RST; ACK with everything but a first SYN and a RST; URG where data may be.
#[test]
fn shapes_of_all_flags() {
    for flags in 0..=u8::MAX {
        let [fin, syn, rst, ack, urg] = [FIN, SYN, RST, ACK, URG].map(|flag| flags & flag != 0);
        let expected = match (syn, fin, rst) {
            (true, false, false) if !ack => Some(Shape::Syn),
            (true, false, false) if !urg => Some(Shape::SynAck),
            (false, true, false) if ack => Some(Shape::Fin),
            (false, false, true) if !urg => Some(Shape::Rst),
            (false, false, false) if ack => Some(Shape::Ack),
            _ => None,
        };
        assert_eq!(shape(flags & JUDGED_FLAGS), expected, "{flags:#04x}");
    }
}

#[test]
fn a_connection_whose_beginning_was_not_seen_is_held_to_no_window() {
    let ack = |seq, ack| segment(ACK, seq, ack, 100);
    // Where numbers are unknown, half of all sequence space looks old.
    for base in [5, 1 << 30, 3 << 30, u32::MAX - 50] {
        let mut seen = flow(State::Established, Direction::Ingress, Initiator);
        seen.flags |= PICKED_UP;
        (seen.end, seen.acked, seen.window, seen.limit) = ([0; 2], [0; 2], [0; 2], [0; 2]);
        // SAFETY: a local variable that nothing else refers to.
        let seen = unsafe { FlowRef::new(&raw mut seen) };
        let far = base.wrapping_add(1 << 20);
        for (sender, segment) in [
            (Direction::Ingress, ack(base, far)),
            (Direction::Egress, ack(far, base)),
            // It repeats what was lost, and the other end has more than was seen.
            (Direction::Ingress, ack(base.wrapping_sub(200_000), far)),
            (Direction::Egress, ack(far, base.wrapping_add(200_000))),
        ] {
            assert_eq!(window::fit(&seen, &segment, sender), Fit::In, "{base}");
            window::advance(&seen, &segment, sender);
        }
        // What a RST is compared with.
        assert_eq!(seen.acked(Direction::Egress), base.wrapping_add(200_000));
        assert_eq!(seen.end(Direction::Egress), far.wrapping_add(100));
    }
}
