//! TCP: opening a connection, and packets that open none.

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State as S_;

use super::{
    C, S, ack, after, connected, data, established, fin, handshake_ack, rst, syn, syn_ack,
};
use crate::decision::case::Step::{Flow, Flows, Rules};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::Packet;
use crate::decision::packet::flags::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
use crate::decision::rules::{Peer, Traffic, allow, allow_reverse};
use crate::decision::scenario::Outside::Far;
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = handshakes();
    all.extend(promotions());
    all.extend(drops());
    all.extend(invalid_flags());
    all
}

fn handshakes() -> Vec<Case> {
    vec![
        case(
            "a SYN opens a flow, its reply needs no rule, and the last ACK promotes it",
            [
                send(syn(), R::NewFlow),
                Flow(New, S_::SynSent),
                send(syn_ack(), R::Established),
                Flow(New, S_::SynRecv),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
                send(data(Client), R::Established),
                send(data(Server), R::Established),
                send(ack(Client), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a last ACK with data promotes the flow",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(data(Client), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a last ACK with data and FIN promotes the flow into FIN_WAIT",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(established(Client, FIN | PSH | ACK).data(10), R::Established),
                Flow(Proven, S_::FinWait),
            ],
        ),
        case(
            "SYN and SYN-ACK with ECN flags open a flow (RFC 3168)",
            [
                send(Packet::tcp(Client, SYN | ECE | CWR, C, 0), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK | ECE, S, after(C, 1)), R::Established),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a SYN-ACK may acknowledge the data of a SYN (RFC 7413)",
            [
                send(syn().data(300), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, S, after(C, 301)), R::Established),
                Flow(New, S_::SynRecv),
                send(Packet::tcp(Client, ACK, after(C, 301), after(S, 1)), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a SYN-ACK may leave the data of a SYN unacknowledged",
            [
                send(syn().data(300), R::NewFlow),
                send(syn_ack(), R::Established),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "the last ACK may cover data that follows the SYN-ACK",
            [
                send(syn().data(10), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, S, after(C, 11)), R::Established),
                send(Packet::tcp(Server, PSH | ACK, S + 1, after(C, 11)).data(500), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 11), S + 501), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a retransmitted SYN or SYN-ACK changes nothing",
            [
                send(syn(), R::NewFlow),
                send(syn(), R::Established),
                send(syn_ack(), R::Established),
                send(syn_ack(), R::Established),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "equal source and destination ports open a flow",
            [
                send(syn().ports(443, 443), R::NewFlow),
                send(syn_ack().ports(443, 443), R::Established),
                send(handshake_ack().ports(443, 443), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "A:1 to B:2 and A:2 to B:1 are two flows",
            [
                send(syn().ports(1, 2), R::NewFlow),
                send(syn().ports(2, 1), R::NewFlow),
                send(syn_ack().ports(1, 2), R::Established),
                send(syn_ack().ports(2, 1), R::Established),
                send(handshake_ack().ports(1, 2), R::Established),
                send(handshake_ack().ports(2, 1), R::Established),
                Flows(2),
            ],
        )
        .rules([allow(Traffic::Tcp(1, 2), Peer::Near)]),
    ]
}

fn promotions() -> Vec<Case> {
    let wrong_last_ack = |name, number| {
        case(
            name,
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 1), number), R::Established),
                Flow(New, S_::SynRecv),
                // The right ACK still promotes it.
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
    };
    vec![
        wrong_last_ack("a last ACK one too low does not promote the flow", S),
        wrong_last_ack("a last ACK one too high does not promote the flow", S + 2),
        wrong_last_ack(
            "a last ACK with an unrelated number does not promote the flow",
            S ^ 0x8000_0000,
        ),
        case(
            "a stale SYN-ACK changes nothing, and the right one does",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, 77, C), R::Established),
                Flow(New, S_::SynSent),
                send(Packet::tcp(Server, SYN | ACK, 77, after(C, 2)), R::Established),
                Flow(New, S_::SynSent),
                // An ACK of its number does not promote the flow either.
                send(Packet::tcp(Client, ACK, after(C, 1), 78), R::Established),
                Flow(New, S_::SynSent),
                send(syn_ack(), R::Established),
                Flow(New, S_::SynRecv),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a simultaneous open promotes the flow",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN, S, 0), R::Established),
                Flow(New, S_::SynRecv),
                send(Packet::tcp(Client, SYN | ACK, C, after(S, 1)), R::Established),
                Flow(Proven, S_::Established),
                send(syn_ack(), R::Established),
                Flow(Proven, S_::Established),
                send(data(Server), R::Established),
            ],
        )
        .rules([
            allow(Traffic::Tcp(443, 443), Peer::Near),
            allow_reverse(Traffic::Tcp(40_000, 40_000), Peer::Near),
        ]),
        case(
            "a simultaneous open promotes the flow after the responder's SYN-ACK",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN, S, 0), R::Established),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, SYN | ACK, C, after(S, 1)), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
        .rules([
            allow(Traffic::Tcp(443, 443), Peer::Near),
            allow_reverse(Traffic::Tcp(40_000, 40_000), Peer::Near),
        ]),
        case(
            "data or FIN of a spoofed client does not promote the flow",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, PSH | ACK, after(C, 1), 1).data(9), R::Established),
                send(Packet::tcp(Client, FIN | ACK, after(C, 1), 1), R::Established),
                Flow(New, S_::SynRecv),
            ],
        ),
        case(
            "a connection picked up mid-stream is promoted by a reply and an ACK",
            [
                send(ack(Client), R::NewFlow),
                Flow(New, S_::Established),
                send(data(Client), R::Established),
                Flow(New, S_::Established),
                send(ack(Server), R::Established),
                Flow(New, S_::Established),
                send(ack(Client), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a FIN picks a connection up, and closes once it is acknowledged",
            [
                send(fin(Client), R::NewFlow),
                Flow(New, S_::Established),
                send(ack(Server), R::Established),
                Flow(New, S_::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 2)), R::Established),
                Flow(New, S_::FinWait),
            ],
        ),
        case(
            "a connection with asymmetric routing passes and is not promoted",
            [
                send(syn(), R::NewFlow),
                send(handshake_ack(), R::Established),
                send(data(Client), R::Established),
                Flow(New, S_::SynSent),
            ],
        ),
    ]
}

fn drops() -> Vec<Case> {
    vec![
        case(
            "a SYN from outside the allowed network is dropped",
            [send(syn().outside(Far), R::NoRule), Flows(0)],
        ),
        case(
            "a SYN to a port next to the allowed one is dropped",
            [send(syn().port(442), R::NoRule), send(syn().port(444), R::NoRule), Flows(0)],
        ),
        case(
            "a rule does not allow new flows in the reverse direction",
            [
                send(Packet::tcp(Server, SYN, S, 0), R::NoRule),
                send(data(Server), R::NoRule),
                send(fin(Server), R::NoRule),
                send(rst(Server), R::NoRule),
                Flows(0),
            ],
        ),
        case(
            "an ACK without a flow and a rule is dropped",
            [send(ack(Client).port(80), R::NoRule), Flows(0)],
        ),
        case(
            "a SYN-ACK without a flow and a rule is dropped",
            [
                send(Packet::tcp(Client, SYN | ACK, C, 1).port(80), R::UnsolicitedSynAck),
                send(syn_ack(), R::UnsolicitedSynAck),
                Flows(0),
            ],
        ),
        case(
            "a SYN-ACK to a SYN that came in elsewhere is picked up where a rule allows it",
            [
                send(Packet::tcp(Client, SYN | ACK, C, 1), R::NewFlow),
                Flow(New, S_::Established),
                // It permits no connection in the other direction.
                send(Packet::tcp(Server, SYN, S, 0), R::NoRule),
                send(Packet::tcp(Server, ACK, 1, after(C, 1)), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 1), 1), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a SYN-ACK without a flow is dropped where nothing is picked up",
            [send(Packet::tcp(Client, SYN | ACK, C, 1), R::UnsolicitedSynAck), Flows(0)],
        )
        .without_tcp_loose(),
        case(
            "strict: a SYN-ACK without a flow is dropped",
            [send(Packet::tcp(Client, SYN | ACK, C, 1), R::UnsolicitedSynAck), Flows(0)],
        )
        .strict(),
        case(
            "a RST without a flow passes by a rule and creates no flow",
            [
                send(rst(Client), R::Admitted),
                send(rst(Client).port(80), R::NoRule),
                send(data(Server), R::NoRule),
                Flows(0),
            ],
        ),
        case(
            "everything is dropped without a policy",
            [send(syn(), R::NoPolicy), send(ack(Client), R::NoPolicy), Flows(0)],
        )
        .without_policy(),
        case(
            "a new flow passes after the first policy",
            [
                send(syn(), R::NoPolicy),
                Rules(vec![allow(Traffic::Tcp(443, 443), Peer::Any)]),
                send(syn(), R::NewFlow),
            ],
        )
        .without_policy(),
    ]
}

/// Flags that no TCP stack sends, as a scanner does: dropped in every state.
fn invalid_flags() -> Vec<Case> {
    let invalid = [
        ("a segment without flags is dropped", 0),
        ("a segment with PSH alone is dropped", PSH),
        ("a segment with URG alone is dropped", URG),
        ("a segment with SYN+FIN is dropped", SYN | FIN),
        ("a segment with SYN+FIN+ACK is dropped", SYN | FIN | ACK),
        ("a segment with SYN+RST is dropped", SYN | RST),
        ("a segment with SYN+RST+ACK is dropped", SYN | RST | ACK),
        ("a segment with FIN+RST+ACK is dropped", FIN | RST | ACK),
        ("a segment with FIN+PSH+URG is dropped", FIN | PSH | URG),
        ("a FIN without ACK is dropped", FIN),
        ("a segment with all flags is dropped", 0xff),
        ("a segment with ECE and CWR alone is dropped", ECE | CWR),
        ("a segment with RST+URG is dropped", RST | URG),
    ];
    let without_flow = invalid.map(|(name, flags)| {
        case(name, [send(Packet::tcp(Client, flags, C, 0), R::TcpFlags), Flows(0)])
    });
    let with_flow = invalid.map(|(name, flags)| {
        let steps = [
            send(established(Client, flags), R::TcpFlags),
            send(established(Server, flags), R::TcpFlags),
            Flow(Proven, S_::Established),
            send(data(Client), R::Established),
        ];
        case(name, connected(steps))
    });
    let valid = [SYN | PSH, SYN | URG, SYN | ECE].map(|flags| {
        case(
            "a SYN with PSH, URG or ECE opens a flow",
            [send(Packet::tcp(Client, flags, C, 0), R::NewFlow)],
        )
    });
    without_flow.into_iter().chain(with_flow).chain(valid).collect()
}
