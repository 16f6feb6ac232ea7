//! Segments of a sender that forges addresses and ports but does not see what the ends send.

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State as S_;

use super::{
    C, S, ack, after, connected, data, established, fin, handshake_ack, rst, syn, syn_ack,
};
use crate::decision::case::Step::{Flow, Flows, Learned, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::flags::{ACK, FIN, PSH, RST, SYN, URG};
use crate::decision::packet::{Layer, Packet};
use crate::decision::rules::{ECHO, Peer, Traffic, allow};
use crate::decision::scenario::Role::{self, Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = fins();
    all.extend(shortly_ahead());
    all.extend(numbers());
    all.extend(unknown_numbers());
    all.extend(handshakes());
    all.extend(jumps());
    all.extend(unproven());
    all
}

/// Far from the numbers of either end.
const FAR: u32 = 1 << 30;

/// A segment with invented numbers.
fn forged(from: Role, flags: u8) -> Packet {
    Packet::tcp(from, flags, after(C, FAR), after(S, FAR))
}

fn fins() -> Vec<Case> {
    let ends = [Client, Server];
    let guard = ends.map(|from| {
        let expires = if from == Client { R::NewFlow } else { R::NoRule };
        case(
            "guard: a FIN with invented numbers passes, and state and timeout stay",
            connected([
                Wait(431_990),
                send(forged(from, FIN | ACK), R::Established),
                Flow(Proven, S_::Established),
                // One invented number is enough.
                send(fin(from).seq_ahead(FAR), R::Established),
                send(fin(from).ack_ahead(FAR), R::Established),
                Flow(Proven, S_::Established),
                Wait(20),
                send(data(from), expires),
            ]),
        )
    });
    let strict = ends.map(|from| {
        case(
            "strict: a FIN with invented numbers is dropped",
            connected([send(forged(from, FIN | ACK), R::TcpWindow), Flow(Proven, S_::Established)]),
        )
        .strict()
    });
    let answered = ends.map(|from| {
        let other = if from == Client { Server } else { Client };
        case(
            "guard: the challenge ACK after a forged FIN does not make it count",
            connected([
                send(forged(from, FIN | ACK), R::Established),
                send(ack(other), R::Established),
                send(ack(from), R::Established),
                Flow(Proven, S_::Established),
                // The genuine one does.
                send(fin(from), R::Established),
                Flow(Proven, S_::FinWait),
            ]),
        )
    });
    guard.into_iter().chain(strict).chain(answered).collect()
}

/// Forged segments of the client shortly ahead of what it sent, with an invented acknowledgement number. The
/// server's next acknowledgement is shortly before their numbers, which confirms none of them.
fn shortly_ahead() -> Vec<Case> {
    let (pass, ahead) = (R::Established, 100_000);
    let of = |name, flags| {
        case(
            name,
            connected([
                send(Packet::tcp(Client, flags, after(C, ahead), 1 << 30), pass),
                send(data(Server), pass),
                // Not by the fast path.
                send(data(Server).edit(Layer::Transport, 13, &[ACK | URG]), pass),
                send(Packet::tcp(Client, RST, after(C, ahead), 0), pass),
                send(Packet::tcp(Client, RST, after(C, ahead + 1), 0), pass),
                Flow(Proven, S_::Established),
            ]),
        )
    };
    vec![
        of("guard: a forged FIN shortly ahead does not choose the number of a RST", FIN | ACK),
        of("guard: a forged segment shortly ahead does not choose the number of a RST", ACK),
    ]
}

fn numbers() -> Vec<Case> {
    let closes = [Client, Server].map(|from| {
        let mut steps = connected([send(data(from), R::Established)]);
        for distance in [0, 1 << 18, 1 << 24, FAR, 1 << 31, u32::MAX - (1 << 20)] {
            let numbers =
                |packet: Packet| packet.seq_ahead(distance).ack_ahead(distance ^ 0x5555_5555);
            steps.push(send(numbers(established(from, ACK)).data(100), R::Established));
        }
        steps.push(Flow(Proven, S_::Established));
        let next = |flags| match from {
            Client => Packet::tcp(Client, flags, after(C, 101), after(S, 1)),
            Server => Packet::tcp(Server, flags, after(S, 101), after(C, 1)),
        };
        steps.extend([send(next(RST | ACK), R::Established), Flow(Proven, S_::Close)]);
        case("guard: after ACKs with invented numbers the genuine RST closes the flow", steps)
    });
    let last_ack = [Client, Server].map(|from| {
        case(
            "guard: after ACKs with invented numbers a RST at the last acknowledgement closes it",
            connected([
                send(forged(from, ACK), R::Established),
                send(forged(from, ACK | PSH).data(10), R::Established),
                send(rst(from), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
    });
    let state = case(
        "guard: an ACK with invented numbers does not move a closing flow",
        connected([
            send(fin(Client), R::Established),
            send(forged(Server, ACK), R::Established),
            Flow(Proven, S_::FinWait),
            send(ack(Server), R::Established),
            Flow(Proven, S_::CloseWait),
        ]),
    );
    let bulk = case(
        "a RST after much unacknowledged data closes the flow",
        connected(
            (0..100)
                .map(|number| {
                    let seq = after(S, 1 + number * 60_000);
                    send(Packet::tcp(Server, ACK, seq, after(C, 1)).data(1), R::Established)
                })
                .chain([
                    send(
                        Packet::tcp(Server, RST | ACK, after(S, 2 + 99 * 60_000), after(C, 1)),
                        R::Established,
                    ),
                    Flow(Proven, S_::Close),
                ]),
        ),
    );
    // Its own numbers do not belong, which alone would not restart the idle time.
    let acknowledged_by_a_fin = Packet::tcp(Server, FIN | ACK, after(S, FAR), after(C, FAR + 2));
    let idle = case(
        "guard: after an idle hour the timeout of a confirmed FIN begins with the confirmation",
        connected([
            Wait(3600),
            send(fin(Client).seq_ahead(FAR), R::Established),
            send(acknowledged_by_a_fin, R::Established),
            send(ack(Client), R::Established),
            Flow(Proven, S_::FinWait),
        ]),
    );
    closes.into_iter().chain(last_ack).chain([state, bulk, idle]).collect()
}

/// Flows that were open before the attach.
fn unknown_numbers() -> Vec<Case> {
    let learned = |then: Vec<Step>| connected([Learned].into_iter().chain(then));
    let resets = [Client, Server].map(|from| {
        let zeros = |ack| Packet::tcp(from, RST | ACK, 0, ack);
        case(
            "a RST with number 0 closes no learned flow",
            learned(vec![
                send(zeros(0), R::Established),
                send(zeros(77), R::Established),
                send(Packet::tcp(from, RST, 0, 0), R::Established),
                Flow(Proven, S_::Established),
            ]),
        )
        .all_tcp_checks()
    });
    let forged_fin = [Client, Server].map(|from| {
        let other = if from == Client { Server } else { Client };
        case(
            "a FIN in a learned flow counts only once the other end acknowledges it",
            learned(vec![
                send(forged(from, FIN | ACK), R::Established),
                Flow(Proven, S_::Established),
                send(data(other), R::Established),
                Flow(Proven, S_::Established),
                send(fin(from), R::Established),
                send(
                    match from {
                        Client => Packet::tcp(Server, ACK, after(S, 101), after(C, 2)),
                        Server => Packet::tcp(Client, ACK, after(C, 101), after(S, 2)),
                    },
                    R::Established,
                ),
                Flow(Proven, S_::CloseWait),
            ]),
        )
        .all_tcp_checks()
    });
    let reset = [Client, Server].map(|from| {
        let other = if from == Client { Server } else { Client };
        case(
            "a RST closes a learned flow at the number that the other end acknowledged",
            learned(vec![
                send(forged(from, ACK), R::Established),
                send(ack(other), R::Established),
                send(forged(from, RST), R::Established),
                Flow(Proven, S_::Established),
                send(rst(from), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks()
    });
    let known = case(
        "the numbers of a learned flow are known once both ends have sent",
        learned(vec![
            send(data(Server), R::Established),
            send(Packet::tcp(Client, ACK, after(C, 1), after(S, 101)), R::Established),
            // Both numbers are needed now.
            send(fin(Server).ack_ahead(FAR), R::Established),
            send(fin(Server).seq_ahead(FAR), R::Established),
            Flow(Proven, S_::Established),
            send(Packet::tcp(Server, FIN | ACK, after(S, 101), after(C, 1)), R::Established),
            Flow(Proven, S_::FinWait),
        ]),
    );
    let picked_up = case(
        "a flow picked up from forged segments is proven only by the numbers of the other end",
        [
            send(forged(Client, ACK), R::NewFlow),
            send(ack(Server), R::Established),
            send(forged(Client, ACK), R::Established),
            send(forged(Client, PSH | ACK).data(5), R::Established),
            Flow(New, S_::Established),
            send(ack(Server), R::Established),
            send(ack(Client), R::Established),
            Flow(Proven, S_::Established),
            send(rst(Server), R::Established),
            Flow(Proven, S_::Close),
        ],
    );
    let replies = case(
        "a forged reply does not prove a flow, and does not keep the genuine one from it",
        [
            send(data(Client), R::NewFlow),
            send(forged(Server, ACK), R::Established),
            send(ack(Client), R::Established),
            Flow(New, S_::Established),
            send(ack(Server), R::Established),
            send(forged(Server, ACK), R::Established),
            send(ack(Client), R::Established),
            Flow(Proven, S_::Established),
        ],
    );
    resets.into_iter().chain(forged_fin).chain(reset).chain([known, picked_up, replies]).collect()
}

fn handshakes() -> Vec<Case> {
    let other = || Packet::tcp(Client, SYN, 9000, 0);
    let opens = |name, steps: Vec<Step>| {
        let end = [
            Flow(New, S_::SynRecv),
            send(handshake_ack(), R::Established),
            Flow(Proven, S_::Established),
            send(data(Server), R::Established),
            send(data(Client), R::Established),
        ];
        case(name, steps.into_iter().chain(end)).all_tcp_checks()
    };
    vec![
        opens(
            "a forged SYN after the genuine one does not keep its SYN-ACK from answering",
            vec![
                send(syn(), R::NewFlow),
                send(other(), R::Established),
                send(syn_ack(), R::Established),
            ],
        ),
        opens(
            "a forged SYN before the genuine one does not keep its SYN-ACK from answering",
            vec![
                send(other().window(1), R::NewFlow),
                send(syn(), R::Established),
                Flow(New, S_::SynSent),
                send(syn_ack(), R::Established),
            ],
        ),
        opens(
            "a forged SYN after the SYN-ACK changes nothing",
            vec![
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(other(), R::Established),
            ],
        ),
        opens(
            "a forged SYN-ACK after the genuine one changes nothing",
            vec![
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Server, SYN | ACK, FAR, FAR), R::Established),
            ],
        ),
        case(
            "a SYN-ACK that acknowledges neither the first nor the last SYN changes nothing",
            [
                send(syn(), R::NewFlow),
                send(other(), R::Established),
                send(Packet::tcp(Server, SYN | ACK, S, 9002), R::Established),
                send(Packet::tcp(Server, RST | ACK, 0, 9002), R::Established),
                Flow(New, S_::SynSent),
            ],
        ),
        case(
            "a RST with number 0 closes no flow before its last ACK",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Server, RST, 0, 0), R::Established),
                Flow(New, S_::SynRecv),
                send(Packet::tcp(Server, RST, after(S, 1), 0), R::Established),
                Flow(New, S_::Close),
            ],
        ),
    ]
}

/// Numbers that jump because packets took another path or were lost before this host.
fn jumps() -> Vec<Case> {
    // After an absence of the packets, each end has sent and acknowledged this many bytes.
    let jump = 50_000_000;
    let far = |from, flags, own: u32, other: u32| match from {
        Client => Packet::tcp(Client, flags, after(C, 1 + own), after(S, 1 + other)),
        Server => Packet::tcp(Server, flags, after(S, 1 + own), after(C, 1 + other)),
    };
    let both = [Client, Server].map(|from| {
        let other = if from == Client { Server } else { Client };
        case(
            "guard: numbers that jumped at both ends are believed after an exchange",
            connected([
                send(far(from, PSH | ACK, jump, jump).data(100), R::Established),
                send(far(other, PSH | ACK, jump, jump + 100).data(10), R::Established),
                send(far(from, ACK, jump + 100, jump + 10), R::Established),
                send(far(other, FIN | ACK, jump + 10, jump + 100), R::Established),
                Flow(Proven, S_::FinWait),
                send(far(from, ACK, jump + 100, jump + 11), R::Established),
                Flow(Proven, S_::CloseWait),
            ]),
        )
    });
    let fin_first = [Client, Server].map(|from| {
        let other = if from == Client { Server } else { Client };
        case(
            "guard: a FIN after lost data counts once it is acknowledged",
            connected([
                send(far(from, FIN | ACK, jump, 0), R::Established),
                Flow(Proven, S_::Established),
                send(far(other, ACK, 0, jump + 1), R::Established),
                Flow(Proven, S_::CloseWait),
                send(far(other, FIN | ACK, 0, jump + 1), R::Established),
                send(far(from, ACK, jump + 1, 1), R::Established),
                Flow(Proven, S_::TimeWait),
            ]),
        )
    });
    let reset = case(
        "guard: a RST closes the flow after its numbers jumped",
        connected([
            send(far(Server, ACK, jump, 0).data(1000), R::Established),
            send(far(Client, ACK, 0, jump + 1000), R::Established),
            send(far(Server, RST, jump + 1000, 0), R::Established),
            Flow(Proven, S_::Close),
        ]),
    );
    let alive = case(
        "guard: a connection of which only one direction passes is not cut",
        connected((1..=4).flat_map(|round: u32| {
            [Wait(400_000), send(far(Client, ACK, 0, round * 300_000_000), R::Established)]
        })),
    );
    both.into_iter().chain(fin_first).chain([reset, alive]).collect()
}

/// What neither end can prove stays in the tier that a flood evicts.
fn unproven() -> Vec<Case> {
    let echo = case(
        "echo requests with replies never make a proven flow",
        (0..5)
            .flat_map(|round| {
                let first = if round == 0 { R::NewFlow } else { R::Established };
                [
                    send(Packet::echo(Client, 7), first),
                    send(Packet::echo_reply(Server, 7), R::Established),
                    Wait(10),
                ]
            })
            .chain([Flow(New, S_::Icmp), Flows(1)]),
    )
    .rules([allow(ECHO, Peer::Near)]);
    let gre = case(
        "a protocol without ports never makes a proven flow",
        (0..5)
            .flat_map(|round| {
                let first = if round == 0 { R::NewFlow } else { R::Established };
                [
                    send(Packet::raw(Client, 47), first),
                    send(Packet::raw(Server, 47), R::Established),
                    Wait(100),
                ]
            })
            .chain([Flow(New, S_::Other)]),
    )
    .rules([allow(Traffic::Protocol(47), Peer::Near)]);
    vec![echo, gre]
}
