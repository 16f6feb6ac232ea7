use std::net::Ipv4Addr;

use firewall_ebpf::abi::flow::INITIATOR_EGRESS;

use super::*;
use crate::dataplane::flows::list::tuple_for_test;
use crate::observe::flows::{Admitted, LiveFlow, Place};

/// Between 198.51.100.1:443, inside, and 192.0.2.7:51234.
fn flow(protocol: u8, state: State, flags: u8, rule: u32) -> LiveFlow {
    let place = Place {
        network_interface_id: "eni-1".to_owned(),
        device: "eth0".to_owned(),
        netns: None,
        label: "eth0".to_owned(),
    };
    let flow = Flow { state: state as u8, flags, rule, ..Flow::default() };
    let inside = (Ipv4Addr::new(198, 51, 100, 1), 443);
    LiveFlow {
        entry: tuple_for_test((3, protocol), inside, (Ipv4Addr::new(192, 0, 2, 7), 51234), flow),
        place: Arc::new(place),
        state,
        age: 0,
        idle: 0,
        left: 0,
        admitted: Admitted::Learned,
    }
}

/// What a flow counted: 100 bytes each packet.
fn change(flow: LiveFlow, kind: Kind, packets: [u64; 2]) -> Change {
    Change { flow, kind, packets, bytes: packets.map(|packets| 100 * packets) }
}

/// State and flags of a flow at a reading, and the flags that are told of its ingress and egress packets.
type Step = (Kind, State, u8, [u64; 2], [u8; 2]);

#[test]
fn each_tcp_flag_is_told_once_and_of_the_end_that_sent_it() {
    use Kind::{Continued, Existing, New};
    use State::{Close, Established, FinWait, LastAck, SynSent, TimeWait};
    const BOTH: [u64; 2] = [1, 1];
    let cases: &[(&str, u32, &[Step])] = &[
        (
            "opened by the outside, and closed by the inside",
            7,
            &[
                (New, SynSent, 0, [1, 0], [SYN, 0]),
                (Continued, Established, REPLIED, BOTH, [0, SYN_ACK]),
                (Continued, Established, REPLIED, BOTH, [0, 0]),
                (Continued, FinWait, REPLIED | FIN_EGRESS, BOTH, [0, FIN]),
                (Continued, LastAck, REPLIED | FIN_EGRESS, BOTH, [FIN, 0]),
                (Continued, TimeWait, REPLIED | FIN_EGRESS, BOTH, [0, 0]),
            ],
        ),
        (
            "opened by the inside, and closed by the outside, within an interval",
            7,
            &[(New, TimeWait, REPLIED | INITIATOR_EGRESS, BOTH, [SYN_ACK | FIN, SYN | FIN])],
        ),
        (
            "reset: by which end is not known",
            7,
            &[
                (New, Established, REPLIED, BOTH, [SYN, SYN_ACK]),
                (Continued, Close, REPLIED, [1, 0], [RST, 0]),
                (Continued, Close, REPLIED, BOTH, [0, 0]),
            ],
        ),
        (
            "there before the first reading",
            7,
            &[
                (Existing, FinWait, REPLIED | FIN_EGRESS, [0, 0], [0, 0]),
                (Continued, LastAck, REPLIED | FIN_EGRESS, BOTH, [FIN, 0]),
            ],
        ),
        (
            "there before the first reading, and answered later",
            7,
            &[
                (Existing, SynSent, 0, [0, 0], [0, 0]),
                (Continued, Established, REPLIED, BOTH, [0, SYN_ACK]),
            ],
        ),
        (
            "open before its interface was attached",
            0,
            &[
                (New, Established, 0, BOTH, [0, 0]),
                (Continued, Established, REPLIED, BOTH, [0, 0]),
                (Continued, Close, REPLIED, BOTH, [RST, RST]),
            ],
        ),
    ];
    for (what, rule, steps) in cases {
        let mut flows = Flows::default();
        for (kind, state, flags, packets, expected) in *steps {
            let one = change(flow(TCP, *state, *flags, *rule), *kind, *packets);
            assert_eq!(flows.tcp_flags(&one), *expected, "{what}: {state:?}");
        }
        let other = change(flow(17, Established, REPLIED, 7), New, BOTH);
        assert_eq!(flows.tcp_flags(&other), [0, 0], "UDP");
    }
}

#[test]
fn packets_of_a_flow_are_told_by_direction_without_the_header_of_the_link() {
    let of = |one: &Change, header| {
        Direction::ALL.map(|to| packets(one, to, [SYN, SYN_ACK], header, [1000, 5000]))
    };
    let new = change(flow(TCP, State::Established, REPLIED, 7), Kind::New, [3, 2]);
    let [Some(ingress), Some(egress)] = of(&new, 14) else { panic!("both") };
    let outside = (IpAddr::from([192, 0, 2, 7]), 51234);
    let inside = (IpAddr::from([198, 51, 100, 1]), 443);
    let ends = |one: &Packets| {
        let Tuple { source, source_port, destination, destination_port, .. } = one.tuple;
        [(source, source_port), (destination, destination_port)]
    };
    assert_eq!((ends(&ingress), ends(&egress)), ([outside, inside], [inside, outside]));
    let directions = [ingress.tuple.direction, egress.tuple.direction];
    assert_eq!(directions, [Direction::Ingress, Direction::Egress]);
    assert_eq!((ingress.packets, ingress.bytes), (3, 300 - 3 * 14));
    assert_eq!((egress.packets, egress.bytes), (2, 200 - 2 * 14));
    assert_eq!((ingress.tcp_flags, egress.tcp_flags), (SYN, SYN_ACK));
    assert_eq!((ingress.action, ingress.first, ingress.last), (Action::Accept, 1000, 5000));
    // The first packet is one of the end that opened it.
    let why = |one: &Change| of(one, 0).map(|one| one.map(|one| one.why));
    let [opens, goes_on] = [Reason::NewFlow, Reason::Established].map(|it| Some(Why::Reason(it)));
    assert_eq!(why(&new), [opens, goes_on]);
    let inside = flow(TCP, State::Established, REPLIED | INITIATOR_EGRESS, 7);
    assert_eq!(why(&change(inside.clone(), Kind::New, [1, 1])), [goes_on, opens]);
    assert_eq!(why(&change(inside.clone(), Kind::Continued, [1, 1])), [goes_on, goes_on]);
    // A direction without packets has none, and the ports of an ICMP query are none.
    assert_eq!(why(&change(inside, Kind::Continued, [0, 1])), [None, goes_on]);
    let icmp = change(flow(1, State::Established, 0, 7), Kind::New, [1, 0]);
    let [Some(icmp), None] = of(&icmp, 0) else { panic!("one") };
    assert_eq!((icmp.tuple.source_port, icmp.tuple.destination_port, icmp.bytes), (0, 0, 100));
}

#[test]
fn a_flow_that_was_cut_may_have_had_packets_and_one_that_ended_had_none() {
    for (state, left, is) in [
        (State::Established, 11, true),
        // Its idle timeout was over before this reading.
        (State::Established, 10, false),
        (State::TimeWait, 11, false),
        (State::Close, 11, false),
        (State::FinWait, 11, true),
    ] {
        let flow = LiveFlow { left, ..flow(TCP, state, REPLIED, 7) };
        assert_eq!(is_cut(&change(flow, Kind::Ended, [0, 0]), 10), is, "{state:?} {left}");
    }
}

#[test]
fn flows_that_were_opened_and_not_seen_are_missed() {
    let opened = Opened { by_kernel: 10, seen: 12 };
    for (by_kernel, misses) in [(10, false), (12, false), (13, true), (9, false), (0, false)] {
        assert_eq!(opened.misses(by_kernel), misses, "{by_kernel}");
    }
    let behind = Opened { by_kernel: 10, seen: 5 };
    assert!(behind.misses(10) && !behind.misses(9), "of another attachment");
}
