//! The sequence numbers of a flow: which can belong to it, and what they prove.

use super::*;

#[test]
fn numbers_can_belong_near_and_between_those_of_both_ends() {
    // The client has sent 50,000 bytes, of which the server acknowledged 20,000; the server 10.
    let mut flow = flow(State::Established, Direction::Ingress, Initiator);
    let client = |by: u32| C.wrapping_add(1).wrapping_add(by);
    flow.next_seq = [client(50_000), S + 11];
    flow.last_ack = [S + 1, client(20_000)];
    // SAFETY: as in `apply`.
    let flow = unsafe { FlowRef::new(&raw mut flow) };
    let belongs = |seq, ack| numbers::belong(&flow, seq, ack, Direction::Ingress);
    let (low, high) = (client(20_000).wrapping_sub(REACH), client(50_000).wrapping_add(REACH));
    for seq in [low, client(20_000), client(19_999), client(50_000), high] {
        for ack in [(S + 1).wrapping_sub(REACH), S, S + 1, S + 11, S + 11 + REACH] {
            assert!(belongs(seq, ack), "{seq} {ack}");
        }
        assert!(!belongs(seq, S.wrapping_sub(REACH)) && !belongs(seq, S + 12 + REACH), "{seq}");
    }
    for seq in [low.wrapping_sub(1), high.wrapping_add(1), client(1 << 31)] {
        assert!(!belongs(seq, S + 1), "{seq}");
    }
}

#[test]
fn numbers_never_go_back() {
    let mut flow = flow(State::Established, Direction::Ingress, Initiator);
    // SAFETY: as in `apply`.
    let reference = unsafe { FlowRef::new(&raw mut flow) };
    numbers::store(&reference, C.wrapping_add(101), S + 1, Direction::Ingress);
    numbers::store(&reference, C.wrapping_add(1), S, Direction::Ingress);
    assert_eq!((flow.next_seq[0], flow.last_ack[0]), (C.wrapping_add(101), S + 1));
}

/// Its numbers are known, and it is proven, when the initiator acknowledges what the responder sent.
#[test]
fn a_connection_picked_up_mid_stream_is_proven_by_the_responders_numbers() {
    let first =
        first_transition(&in_sequence(Initiator, ACK), SegmentType::Ack, Direction::Ingress);
    assert_eq!((first.state, first.flags, first.pending), (State::Established, HEARD_INGRESS, 0));
    let mut flow = Flow { state: first.state as u8, flags: first.flags, ..Flow::default() };
    assert!(!judge(&mut flow, Initiator, &in_sequence(Initiator, ACK)).fits);
    assert!(!judge(&mut flow, Responder, &segment(ACK, S + 1, C.wrapping_add(1), 1000)).fits);
    assert_eq!(flow.flags, REPLIED | HEARD_INGRESS | HEARD_EGRESS);
    for ack in [S, S + 1002, 0, S.wrapping_sub(1 << 20)] {
        let guess = segment(ACK, C.wrapping_add(1), ack, 0);
        assert!(!judge(&mut flow, Initiator, &guess).fits, "{ack}");
    }
    let mut other = flow;
    for (flow, ack) in [(&mut flow, S + 1), (&mut other, S + 1001)] {
        assert!(judge(flow, Initiator, &segment(ACK, C.wrapping_add(1), ack, 0)).fits);
        assert_eq!(flow.flags & (PROVEN | NUMBERS_KNOWN), PROVEN | NUMBERS_KNOWN, "{ack}");
        assert_eq!((flow.next_seq, flow.last_ack[0]), ([C.wrapping_add(1), S + 1001], ack));
    }
}

#[test]
fn a_fin_of_no_flow_counts_once_it_is_acknowledged() {
    for (from, bits) in [
        (Direction::Ingress, UNCONFIRMED_INGRESS | UNCONFIRMED_FIN_INGRESS),
        (Direction::Egress, UNCONFIRMED_EGRESS | UNCONFIRMED_FIN_EGRESS),
    ] {
        let first = first_transition(&in_sequence(Initiator, FIN | ACK), SegmentType::Fin, from);
        assert_eq!((first.state, first.pending), (State::Established, bits));
    }
}

/// A segment that does not fit is believed once the other end acknowledges it, a FIN exactly.
#[test]
fn the_other_end_confirms_numbers_that_jumped() {
    for initiator in Direction::ALL {
        let far = S + (1 << 25);
        let jumped = |flags| segment(flags | ACK, far, C.wrapping_add(1), 100);
        for (flags, ack, believed, fin) in [
            (0, far + 100, true, false),
            (0, far, true, false),
            (0, far + 101, false, false),
            (FIN, far + 101, true, true),
            (FIN, far + 100, true, false),
            (FIN, far + 102, false, false),
        ] {
            let mut flow = flow(State::Established, initiator, Initiator);
            assert!(!judge(&mut flow, Responder, &jumped(flags)).fits);
            let answer = judge(&mut flow, Initiator, &segment(ACK, C.wrapping_add(1), ack, 0));
            assert_eq!((answer.fits, answer.confirms_fin), (believed, fin), "{flags} {ack}");
        }
    }
}

#[test]
fn windows_are_tracked_only_if_both_are_known() {
    for (window, expected) in [([0, 0], false), ([1, 0], false), ([0, 1], false), ([1, 1], true)] {
        let mut flow = Flow { window, ..flow(State::Established, Direction::Ingress, Initiator) };
        // SAFETY: as in `apply`.
        let flow = unsafe { FlowRef::new(&raw mut flow) };
        assert_eq!(window::is_tracked(&flow), expected, "{window:?}");
    }
}
