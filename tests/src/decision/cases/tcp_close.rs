//! TCP: closing a connection, resetting it, and its idle timeouts.

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
    let mut all = closing(Client, Server);
    all.extend(closing(Server, Client));
    all.extend(resets());
    all.extend(idle());
    all
}

/// A handshake, FIN in both directions and the last ACK.
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

fn closing(first: Role, second: Role) -> Vec<Case> {
    let reopened = || Packet::tcp(Client, SYN, 777_000, 0);
    vec![
        case(
            "FIN in both directions leads to TIME_WAIT, which expires",
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
            "simultaneous FINs lead to TIME_WAIT",
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
            "a retransmitted FIN is not taken for the other end's",
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
            "a SYN in TIME_WAIT opens a new flow",
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
            "a SYN in TIME_WAIT needs a rule",
            then(
                closed(first, second),
                [
                    Rules(vec![allow_reverse(Traffic::Tcp(5432, 5432), Peer::Far)]),
                    send(reopened(), R::NoRule),
                    // The dropped SYN does not end the flow: a late segment still belongs to it.
                    send(ack(first), R::Established),
                    Flows(1),
                ],
            ),
        )
        .revalidate(false),
        case(
            "a half-closed connection stays open while the other end sends",
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
            "a RST closes the flow, and segments in flight pass until it expires",
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
            "segments of one end after a RST do not refresh the flow",
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
            "the flow is established again when both ends continue after a RST",
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
            "a RST in reply to a segment does not reopen a reset flow",
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
            "a SYN after a RST opens a new flow",
            connected([
                send(rst(Server), R::Established),
                send(syn(), R::NewFlow),
                Flow(New, S_::SynSent),
            ]),
        ),
        case(
            "a client that lost its connection reconnects after challenge ACK and RST (RFC 5961)",
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
            "RST+ACK in reply to a SYN closes the flow only with the right number",
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
            "a RST of the client closes a half-open flow",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(rst(Client), R::Established),
                Flow(New, S_::Close),
            ],
        ),
        case(
            "a SYN-ACK in an established flow changes nothing",
            connected([
                send(syn_ack(), R::Established),
                send(Packet::tcp(Server, SYN | ACK, 1, 1), R::Established),
                send(Packet::tcp(Client, SYN | ACK, 1, 1), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "retransmitted data passes after it was acknowledged",
            connected([
                send(data(Client), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 101)), R::Established),
                send(data(Client), R::Established),
                send(data(Client), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "a SYN does not refresh an established flow",
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
    let syn_sent = || vec![send(syn(), R::NewFlow)];
    let syn_recv = || then(syn_sent(), [send(syn_ack(), R::Established)]);
    let fin_wait = || connected([send(fin(Client), R::Established)]);
    let close_wait = || then(fin_wait(), [send(ack(Server), R::Established)]);
    let last_ack = || then(close_wait(), [send(fin(Server), R::Established)]);
    let states: [(&'static str, Vec<Step>, u32, Packet); 6] = [
        ("a flow in SYN_SENT expires after 120 s idle", syn_sent(), 120, syn_ack()),
        ("a flow in SYN_RECV expires after 60 s idle", syn_recv(), 60, syn_ack()),
        ("an established flow expires after 432,000 s idle", connected([]), 432_000, data(Server)),
        ("a flow in FIN_WAIT expires after 120 s idle", fin_wait(), 120, established(Server, ACK)),
        ("a flow in CLOSE_WAIT expires after 60 s idle", close_wait(), 60, data(Server)),
        ("a flow in LAST_ACK expires after 30 s idle", last_ack(), 30, fin(Server)),
    ];
    let mut all = Vec::new();
    for (name, steps, seconds, packet) in states {
        let expired = if name.contains("SYN") { R::UnsolicitedSynAck } else { R::NoRule };
        let before = [Wait(seconds - 1), send(packet.clone(), R::Established), Flows(1)];
        all.push(case(name, then(steps.clone(), before)));
        all.push(case(name, then(steps, [Wait(seconds + 1), send(packet, expired), Flows(0)])));
    }
    all.push(case(
        "every packet refreshes the idle timeout",
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
        "a segment after the timeout is picked up mid-stream if a rule allows it",
        connected([Wait(432_001), send(data(Client), R::NewFlow), Flow(New, S_::Established)]),
    ));
    all
}
