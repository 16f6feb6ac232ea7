//! TCP: ending a connection, breaking it, and letting it sleep.

use firewall_ebpf::flow::Tier::{New, Proven};
use firewall_ebpf::interface::State as S_;
use firewall_ebpf::reason::Reason as R;

use super::{C, S, ack, after, connected, data, established, fin, rst, syn, syn_ack};
use crate::decision::case::Step::{Flow, Flows, Rules, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::Packet;
use crate::decision::packet::flags::{ACK, RST, SYN};
use crate::decision::rules::{Peer, Traffic, allow_reverse};
use crate::decision::scenario::Role::{self, Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = endings(Client, Server);
    all.extend(endings(Server, Client));
    all.extend(resets());
    all.extend(idle());
    all
}

/// FIN both ways and the last ACK.
fn closed(first: Role, second: Role) -> Vec<Step> {
    connected([
        send(fin(first), R::Established),
        Flow(Proven, S_::FinWait),
        send(ack(second), R::Established),
        Flow(Proven, S_::CloseWait),
        send(fin(second), R::Established),
        Flow(Proven, S_::LastAck),
        send(ack(first), R::Established),
        Flow(Proven, S_::TimeWait),
    ])
}

fn then(mut steps: Vec<Step>, more: impl IntoIterator<Item = Step>) -> Vec<Step> {
    steps.extend(more);
    steps
}

fn endings(first: Role, second: Role) -> Vec<Case> {
    let reopened = || Packet::tcp(Client, SYN, 777_000, 0);
    vec![
        case(
            "FIN both ways: TIME_WAIT, and gone after its timeout",
            then(
                closed(first, second),
                [
                    Wait(119),
                    send(ack(first), R::Established),
                    Wait(119),
                    send(ack(second), R::Established),
                    Flow(Proven, S_::TimeWait),
                    Wait(121),
                    send(data(Server), R::NoRule),
                    Flows(0),
                ],
            ),
        ),
        case(
            "FIN and FIN cross",
            connected([
                send(fin(first), R::Established),
                send(fin(second), R::Established),
                Flow(Proven, S_::LastAck),
                send(ack(second), R::Established),
                send(ack(first), R::Established),
                Flow(Proven, S_::TimeWait),
            ]),
        ),
        case(
            "a repeated FIN is still the first end's",
            connected([
                send(fin(first), R::Established),
                send(fin(first), R::Established),
                Flow(Proven, S_::FinWait),
                send(ack(second), R::Established),
                send(fin(first), R::Established),
                Flow(Proven, S_::CloseWait),
            ]),
        ),
        case(
            "TIME_WAIT, then a new SYN on the same ports",
            then(
                closed(first, second),
                [
                    send(reopened(), R::NewFlow),
                    Flow(New, S_::SynSent),
                    send(Packet::tcp(Server, SYN | ACK, S, 777_001), R::Established),
                    send(Packet::tcp(Client, ACK, 777_001, S + 1), R::Established),
                    Flow(Proven, S_::Established),
                ],
            ),
        ),
        case(
            "TIME_WAIT, then a new SYN, but its rule is gone",
            then(
                closed(first, second),
                [
                    Rules(vec![allow_reverse(Traffic::Tcp(5432, 5432), Peer::Far)]),
                    send(reopened(), R::NoRule),
                    // What is dropped ends nothing: a late segment still belongs to the flow.
                    send(ack(first), R::Established),
                    Flows(1),
                ],
            ),
        )
        .revalidate(false),
        case(
            "half closed: the other end goes on sending for as long as it likes",
            connected([
                send(fin(first), R::Established),
                send(ack(second), R::Established),
                Wait(59),
                send(data(second), R::Established),
                send(ack(first), R::Established),
                Wait(59),
                send(data(second), R::Established),
                Wait(59),
                send(data(second), R::Established),
                Flow(Proven, S_::CloseWait),
            ]),
        ),
    ]
}

fn resets() -> Vec<Case> {
    vec![
        case(
            "a RST closes the flow, what is still on the way passes, then it is over",
            connected([
                send(rst(Client), R::Established),
                Flow(Proven, S_::Close),
                Wait(9),
                send(data(Server), R::Established),
                Flow(Proven, S_::Close),
                Wait(2),
                send(data(Server), R::NoRule),
                Flows(0),
            ]),
        ),
        case(
            "one end goes on after a RST: nothing keeps the flow alive",
            connected([
                send(rst(Server), R::Established),
                Wait(4),
                send(data(Client), R::Established),
                Wait(4),
                send(data(Client), R::Established),
                Wait(4),
                send(data(Server), R::NoRule),
                Flows(0),
            ]),
        ),
        case(
            "a RST that was forged: both ends go on, and the flow lives",
            connected([
                send(rst(Client), R::Established),
                Flow(Proven, S_::Close),
                send(data(Client), R::Established),
                Flow(Proven, S_::Close),
                send(ack(Server), R::Established),
                Flow(Proven, S_::Established),
                Wait(3600),
                send(data(Server), R::Established),
            ]),
        ),
        case(
            "a real RST is answered with RST, which does not count as going on",
            connected([
                send(rst(Client), R::Established),
                send(data(Server), R::Established),
                send(rst(Client), R::Established),
                Flow(Proven, S_::Close),
                send(data(Server), R::Established),
                Flow(Proven, S_::Close),
            ]),
        ),
        case(
            "after a RST a SYN opens a fresh flow",
            connected([
                send(rst(Server), R::Established),
                send(syn(), R::NewFlow),
                Flow(New, S_::SynSent),
            ]),
        ),
        case(
            "a SYN inside a connection, the challenge ACK, the RST it provokes, a new SYN",
            connected([
                send(Packet::tcp(Client, SYN, 31_337, 0), R::Established),
                Flow(Proven, S_::Established),
                send(ack(Server), R::Established),
                Flow(Proven, S_::Established),
                send(Packet::tcp(Client, RST, after(C, 1), 0), R::Established),
                Flow(Proven, S_::Close),
                send(Packet::tcp(Client, SYN, 31_337, 0), R::NewFlow),
                Flow(New, S_::SynSent),
                send(Packet::tcp(Server, SYN | ACK, S, 31_338), R::Established),
                send(Packet::tcp(Client, ACK, 31_338, S + 1), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "a refused SYN: RST+ACK with the right number closes, with a wrong one it does not",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, RST | ACK, 0, 4711), R::Established),
                Flow(New, S_::SynSent),
                send(Packet::tcp(Server, RST | ACK, 0, after(C, 1)), R::Established),
                Flow(New, S_::Close),
                send(syn(), R::NewFlow),
                Flow(New, S_::SynSent),
            ],
        ),
        case(
            "the client gives up",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(rst(Client), R::Established),
                Flow(New, S_::Close),
            ],
        ),
        case(
            "a SYN-ACK inside a connection changes nothing",
            connected([
                send(syn_ack(), R::Established),
                send(Packet::tcp(Server, SYN | ACK, 1, 1), R::Established),
                send(Packet::tcp(Client, SYN | ACK, 1, 1), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "data that was acknowledged already is sent again",
            connected([
                send(data(Client), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 101)), R::Established),
                send(data(Client), R::Established),
                send(data(Client), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "a SYN inside an idle connection does not keep it alive",
            connected([
                Wait(431_990),
                send(Packet::tcp(Client, SYN, 31_337, 0), R::Established),
                Wait(20),
                send(data(Server), R::NoRule),
                Flows(0),
            ]),
        ),
    ]
}

/// A flow in a state, one second before and one second after its timeout.
fn idle() -> Vec<Case> {
    let opened = || vec![send(syn(), R::NewFlow)];
    let answered = || then(opened(), [send(syn_ack(), R::Established)]);
    let finished = || connected([send(fin(Client), R::Established)]);
    let half = || then(finished(), [send(ack(Server), R::Established)]);
    let both = || then(half(), [send(fin(Server), R::Established)]);
    let states: [(&'static str, Vec<Step>, u32, Packet); 6] = [
        ("idle after a SYN", opened(), 120, syn_ack()),
        ("idle after a SYN-ACK", answered(), 60, syn_ack()),
        ("idle and established", connected([]), 432_000, data(Server)),
        ("idle after a FIN", finished(), 120, established(Server, ACK)),
        ("idle and half closed", half(), 60, data(Server)),
        ("idle before the last ACK", both(), 30, fin(Server)),
    ];
    let mut all = Vec::new();
    for (name, steps, seconds, packet) in states {
        let over = if name == "idle after a SYN" || name == "idle after a SYN-ACK" {
            R::UnsolicitedSynAck
        } else {
            R::NoRule
        };
        let just = [Wait(seconds - 1), send(packet.clone(), R::Established), Flows(1)];
        all.push(case(name, then(steps.clone(), just)));
        all.push(case(name, then(steps, [Wait(seconds + 1), send(packet, over), Flows(0)])));
    }
    all.push(case(
        "each packet starts the idle time anew",
        connected([
            Wait(431_999),
            send(data(Server), R::Established),
            Wait(431_999),
            send(data(Client), R::Established),
            Wait(431_999),
            send(data(Server), R::Established),
        ]),
    ));
    all.push(case(
        "what arrives after the timeout where a rule allows it is picked up",
        connected([Wait(432_001), send(data(Client), R::NewFlow), Flow(New, S_::Established)]),
    ));
    all
}
