//! TCP: opening a connection, and what is not one.

use firewall_ebpf::flow::Tier::{New, Proven};
use firewall_ebpf::interface::State as S_;
use firewall_ebpf::reason::Reason as R;

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
    all.extend(proofs());
    all.extend(refusals());
    all.extend(odd_openings());
    all
}

fn handshakes() -> Vec<Case> {
    vec![
        case(
            "a SYN opens a flow, its answer needs no rule, the last ACK proves it",
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
            "the third packet carries data",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(data(Client), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "the third packet carries data and FIN",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(established(Client, FIN | PSH | ACK).data(10), R::Established),
                Flow(Proven, S_::FinWait),
            ],
        ),
        case(
            "a SYN with ECE and CWR is a SYN (RFC 3168), so is its answer with ECE",
            [
                send(Packet::tcp(Client, SYN | ECE | CWR, C, 0), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK | ECE, S, after(C, 1)), R::Established),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a SYN with data that the server takes (RFC 7413)",
            [
                send(syn().data(300), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, S, after(C, 301)), R::Established),
                Flow(New, S_::SynRecv),
                send(Packet::tcp(Client, ACK, after(C, 301), after(S, 1)), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a SYN with data that the server does not take",
            [
                send(syn().data(300), R::NewFlow),
                send(syn_ack(), R::Established),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "the server sends data behind its SYN-ACK and the last ACK covers it",
            [
                send(syn().data(10), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, S, after(C, 11)), R::Established),
                send(Packet::tcp(Server, PSH | ACK, S + 1, after(C, 11)).data(500), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 11), S + 501), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a repeated SYN and a repeated SYN-ACK change nothing",
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
            "source and destination port are the same",
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

fn proofs() -> Vec<Case> {
    let wrong_last_ack = |name, number| {
        case(
            name,
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 1), number), R::Established),
                Flow(New, S_::SynRecv),
                // The right one still does.
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
    };
    vec![
        wrong_last_ack("the last ACK is one too low", S),
        wrong_last_ack("the last ACK is one too high", S + 2),
        wrong_last_ack("the last ACK is far off", S ^ 0x8000_0000),
        case(
            "a stale SYN-ACK changes nothing, the right one moves the flow",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, 77, C), R::Established),
                Flow(New, S_::SynSent),
                send(Packet::tcp(Server, SYN | ACK, 77, after(C, 2)), R::Established),
                Flow(New, S_::SynSent),
                // Nor can its number prove anything later.
                send(Packet::tcp(Client, ACK, after(C, 1), 78), R::Established),
                Flow(New, S_::SynSent),
                send(syn_ack(), R::Established),
                Flow(New, S_::SynRecv),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "the client tries again with another number: only the newest is answered",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Client, SYN, 9000, 0), R::Established),
                send(syn_ack(), R::Established),
                Flow(New, S_::SynSent),
                send(Packet::tcp(Server, SYN | ACK, S, 9001), R::Established),
                Flow(New, S_::SynRecv),
            ],
        ),
        case(
            "simultaneous open",
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
            "simultaneous open, the other SYN-ACK first",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN, S, 0), R::Established),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, SYN | ACK, C, after(S, 1)), R::Established),
                Flow(Proven, S_::Established),
            ],
        ),
        case(
            "a spoofed client cannot prove itself: neither data nor FIN with a guessed number",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, PSH | ACK, after(C, 1), 1).data(9), R::Established),
                send(Packet::tcp(Client, FIN | ACK, after(C, 1), 1), R::Established),
                Flow(New, S_::SynRecv),
            ],
        ),
        case(
            "a connection seen from its middle is picked up, and proven by an answer and an ACK",
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
            "a connection picked up at its FIN",
            [
                send(fin(Client), R::NewFlow),
                Flow(New, S_::FinWait),
                send(ack(Server), R::Established),
                Flow(New, S_::CloseWait),
            ],
        ),
        case(
            "a connection whose answers take another way is passed, not proven",
            [
                send(syn(), R::NewFlow),
                send(handshake_ack(), R::Established),
                send(data(Client), R::Established),
                Flow(New, S_::SynSent),
            ],
        ),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        case(
            "a SYN from outside the allowed network",
            [send(syn().outside(Far), R::NoRule), Flows(0)],
        ),
        case(
            "a SYN to the next port on either side",
            [send(syn().port(442), R::NoRule), send(syn().port(444), R::NoRule), Flows(0)],
        ),
        case(
            "the answer's direction has no rule of its own",
            [
                send(Packet::tcp(Server, SYN, S, 0), R::NoRule),
                send(data(Server), R::NoRule),
                send(fin(Server), R::NoRule),
                send(rst(Server), R::NoRule),
                Flows(0),
            ],
        ),
        case(
            "an ACK of no flow to a port that no rule allows",
            [send(ack(Client).port(80), R::NoRule), Flows(0)],
        ),
        case(
            "an unsolicited SYN-ACK, where SYN would pass and where not",
            [
                send(Packet::tcp(Client, SYN | ACK, C, 1), R::UnsolicitedSynAck),
                send(Packet::tcp(Client, SYN | ACK, C, 1).port(80), R::UnsolicitedSynAck),
                send(syn_ack(), R::UnsolicitedSynAck),
                Flows(0),
            ],
        ),
        case(
            "a RST of no flow: it passes by the rules and opens nothing",
            [
                send(rst(Client), R::Admitted),
                send(rst(Client).port(80), R::NoRule),
                send(data(Server), R::NoRule),
                Flows(0),
            ],
        ),
        case("no policy yet", [send(syn(), R::NoPolicy), send(ack(Client), R::NoPolicy), Flows(0)])
            .without_policy(),
        case(
            "no policy yet, then one",
            [
                send(syn(), R::NoPolicy),
                Rules(vec![allow(Traffic::Tcp(443, 443), Peer::Any)]),
                send(syn(), R::NewFlow),
            ],
        )
        .without_policy(),
    ]
}

/// Flags that no stack sends, as a scanner would: whatever the state.
fn odd_openings() -> Vec<Case> {
    let odd = [
        ("no flags", 0),
        ("only PSH", PSH),
        ("only URG", URG),
        ("SYN+FIN", SYN | FIN),
        ("SYN+FIN+ACK", SYN | FIN | ACK),
        ("SYN+RST", SYN | RST),
        ("SYN+RST+ACK", SYN | RST | ACK),
        ("FIN+RST+ACK", FIN | RST | ACK),
        ("FIN+PSH+URG", FIN | PSH | URG),
        ("FIN without ACK", FIN),
        ("all flags", 0xff),
        ("ECE and CWR only", ECE | CWR),
        ("RST+URG", RST | URG),
    ];
    let none = odd.map(|(name, flags)| {
        case(name, [send(Packet::tcp(Client, flags, C, 0), R::TcpFlags), Flows(0)])
    });
    let live = odd.map(|(name, flags)| {
        let steps = [
            send(established(Client, flags), R::TcpFlags),
            send(established(Server, flags), R::TcpFlags),
            Flow(Proven, S_::Established),
            send(data(Client), R::Established),
        ];
        case(name, connected(steps))
    });
    let even = [SYN | PSH, SYN | URG, SYN | ECE].map(|flags| {
        case(
            "a SYN with a flag that says nothing",
            [send(Packet::tcp(Client, flags, C, 0), R::NewFlow)],
        )
    });
    none.into_iter().chain(live).chain(even).collect()
}
