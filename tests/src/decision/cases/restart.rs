//! SYNs on a tuple that has a flow: they need a rule of their own direction, and a peer that lost its
//! connection begins another one.

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State as S_;

use super::{C, S, ack, after, connected, data, fin, rst, syn, syn_ack};
use crate::decision::case::Step::{Flow, Rules, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::Packet;
use crate::decision::packet::flags::{ACK, FIN, PSH, RST, SYN};
use crate::decision::rules::{Peer, Rule, Traffic, allow, allow_reverse};
use crate::decision::scenario::Role::{self, Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = rules();
    all.extend(restarts());
    all.extend(windows());
    all
}

/// The client's port, which the server may connect to.
fn reverse() -> Rule {
    allow_reverse(Traffic::Tcp(40_000, 40_000), Peer::Near)
}

/// The states of a connection after the handshake, and the steps to them.
fn states() -> Vec<(S_, Vec<Step>)> {
    let pass = R::Established;
    let mut states = vec![(S_::Established, connected([]))];
    for first in [Client, Server] {
        let second = if first == Client { Server } else { Client };
        let closing = [send(fin(first), pass), send(ack(second), pass), send(fin(second), pass)];
        for (length, state) in [(1, S_::FinWait), (2, S_::CloseWait), (3, S_::LastAck)] {
            states.push((state, connected(closing[..length].iter().cloned())));
        }
    }
    states
}

fn then(steps: &[Step], more: impl IntoIterator<Item = Step>) -> Vec<Step> {
    steps.iter().cloned().chain(more).collect()
}

fn rules() -> Vec<Case> {
    let against = || Packet::tcp(Server, SYN, 77_000, 0);
    let mut all = Vec::new();
    for (state, steps) in states() {
        all.push(
            case(
                "a SYN against the direction of a flow needs a rule of its own",
                then(&steps, [send(against(), R::NoRule), Flow(Proven, state)]),
            )
            .all_tcp_checks(),
        );
        all.push(
            case(
                "a SYN against the direction of a flow passes by a rule and changes nothing",
                then(&steps, [send(against(), R::Established), Flow(Proven, state)]),
            )
            .rules([allow(Traffic::Tcp(443, 443), Peer::Near), reverse()])
            .all_tcp_checks(),
        );
        all.push(
            case(
                "a SYN on the tuple of a flow whose rule is gone is dropped",
                then(
                    &steps,
                    [
                        Rules(vec![reverse()]),
                        send(Packet::tcp(Client, SYN, 31_337, 0), R::NoRule),
                        send(syn(), R::NoRule),
                        Flow(Proven, state),
                        send(data(Server), R::Established),
                    ],
                ),
            )
            .revalidate(false)
            .all_tcp_checks(),
        );
    }
    all.extend([
        case(
            "a forged ACK does not permit a connection in the other direction",
            [send(ack(Client), R::NewFlow), send(against(), R::NoRule), Flow(New, S_::Established)],
        ),
        case(
            "a forged SYN does not permit a connection in the other direction",
            [
                send(syn(), R::NewFlow),
                send(against(), R::NoRule),
                Flow(New, S_::SynSent),
                send(syn_ack(), R::Established),
            ],
        )
        .all_tcp_checks(),
        case(
            "a connection against the direction of a picked-up flow opens by its own rule",
            [
                send(ack(Client), R::NewFlow),
                send(against(), R::Established),
                send(Packet::tcp(Client, SYN | ACK, 9, 77_001), R::Established),
                Flow(New, S_::SynRecv),
                send(Packet::tcp(Server, ACK, 77_001, 10), R::Established),
                Flow(Proven, S_::Established),
                send(Packet::tcp(Client, PSH | ACK, 10, 77_001).data(5), R::Established),
            ],
        )
        .rules([allow(Traffic::Tcp(443, 443), Peer::Near), reverse()]),
        case(
            "a SYN again during a handshake whose rule is gone is dropped",
            [
                send(syn(), R::NewFlow),
                Rules(vec![reverse()]),
                send(syn(), R::NoRule),
                send(syn_ack(), R::Established),
                send(syn(), R::NoRule),
            ],
        )
        .revalidate(false)
        .all_tcp_checks(),
    ]);
    all
}

/// A handshake of `client` on a tuple that has a flow, with other numbers, and data.
fn again(client: Role, state: S_) -> Vec<Step> {
    let server = if client == Client { Server } else { Client };
    let (pass, c, s) = (R::Established, 3_000_000_000, 2_700_000_000);
    vec![
        send(Packet::tcp(client, SYN, c, 0), pass),
        Flow(Proven, state),
        send(Packet::tcp(server, SYN | ACK, s, c + 1), pass),
        Flow(Proven, S_::SynRecv),
        // Neither the old numbers nor invented ones prove it.
        send(Packet::tcp(client, ACK, c + 1, s + 1), pass),
        Flow(Proven, S_::Established),
        send(Packet::tcp(client, PSH | ACK, c + 1, s + 1).data(100), pass),
        send(Packet::tcp(server, PSH | ACK, s + 1, c + 101).data(100), pass),
        Wait(3600),
        send(Packet::tcp(server, PSH | ACK, s + 101, c + 101).data(1), pass),
        Flow(Proven, S_::Established),
        send(Packet::tcp(client, FIN | ACK, c + 101, s + 102), pass),
        Flow(Proven, S_::FinWait),
        send(Packet::tcp(server, RST | ACK, s + 102, c + 102), pass),
        Flow(Proven, S_::Close),
    ]
}

fn restarts() -> Vec<Case> {
    let mut all = Vec::new();
    for (state, steps) in states() {
        all.push(
            case(
                "a SYN-ACK to the SYN of a restarted client begins a new connection",
                then(&steps, again(Client, state)),
            )
            .all_tcp_checks(),
        );
        all.push(
            case(
                "a SYN-ACK to the SYN of a restarted server begins one in the other direction",
                then(&steps, again(Server, state)),
            )
            .rules([allow(Traffic::Tcp(443, 443), Peer::Near), reverse()])
            .all_tcp_checks(),
        );
        all.push(
            case(
                "a SYN-ACK that does not acknowledge the ignored SYN changes nothing",
                then(
                    &steps,
                    [
                        send(Packet::tcp(Client, SYN, 31_337, 0), R::Established),
                        send(Packet::tcp(Server, SYN | ACK, 1, 31_337), R::Established),
                        send(Packet::tcp(Server, SYN | ACK, 1, 31_339), R::Established),
                        send(Packet::tcp(Client, SYN | ACK, 1, 31_338), R::Established),
                        Flow(Proven, state),
                    ],
                ),
            )
            .all_tcp_checks(),
        );
    }
    all.extend([
        case(
            "a SYN-ACK to an ignored SYN whose rule is gone is dropped",
            connected([
                send(Packet::tcp(Client, SYN, 31_337, 0), R::Established),
                Rules(vec![reverse()]),
                send(Packet::tcp(Server, SYN | ACK, 1, 31_338), R::NoRule),
                Flow(Proven, S_::Established),
            ]),
        )
        .revalidate(false)
        .all_tcp_checks(),
        case(
            "after an ignored SYN the old connection goes on",
            connected([
                send(Packet::tcp(Client, SYN, 31_337, 0), R::Established),
                send(data(Client), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 101)), R::Established),
                send(rst(Server), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks(),
    ]);
    all
}

/// Strict tracks the windows of a connection that began on the tuple of another one.
fn windows() -> Vec<Case> {
    let (pass, c, s) = (R::Established, 3_000_000_000, 2_700_000_000);
    let scale = |shift| [1, 3, 3, shift];
    // `seq` and `ack` are relative to the new connection's.
    let client =
        |flags, seq: u32, ack: u32| Packet::tcp(Client, flags, after(c, seq), after(s, ack));
    let server =
        |flags, seq: u32, ack: u32| Packet::tcp(Server, flags, after(s, seq), after(c, ack));
    let handshake = |window, options: &[u8]| {
        [
            send(Packet::tcp(Client, SYN, c, 0).window(window).with_tcp_options(options), pass),
            send(server(SYN | ACK, 0, 1).window(window).with_tcp_options(options), pass),
            send(client(ACK, 1, 1).window(window), pass),
            Flow(Proven, S_::Established),
        ]
    };
    let mut all = Vec::new();
    for (_, steps) in states() {
        let begun = then(&steps, handshake(65_535, &[1, 1, 1, 1]));
        all.extend([
            case(
                "strict: a FIN outside of the window of a connection that began anew is dropped",
                then(
                    &begun,
                    [
                        send(client(FIN | ACK, 1 << 30, 1), R::TcpWindow),
                        send(server(FIN | ACK, 70_000, 1), R::TcpWindow),
                        Flow(Proven, S_::Established),
                        send(client(FIN | ACK, 1, 1), pass),
                        Flow(Proven, S_::FinWait),
                    ],
                ),
            )
            .strict(),
            case(
                "strict: data outside of the window of a connection that began anew is dropped",
                then(
                    &begun,
                    [
                        // The old connection's, and beyond what the other end announced.
                        send(client(PSH | ACK, 65_600, 1).data(10), R::TcpWindow),
                        send(server(PSH | ACK, 65_600, 1).data(10), R::TcpWindow),
                        send(server(ACK, 1, 2), R::TcpWindow),
                        send(client(PSH | ACK, 60_000, 1).data(1000), pass),
                        send(server(PSH | ACK, 60_000, 1).data(1000), pass),
                        Flow(Proven, S_::Established),
                    ],
                ),
            )
            .strict(),
            case(
                "strict: the window scale of a connection that began anew applies",
                then(&steps, handshake(1000, &scale(5)))
                    .into_iter()
                    .chain([
                        send(server(ACK, 1, 1).window(1000), pass),
                        send(client(PSH | ACK, 30_000, 1).window(1000).data(1000), pass),
                        send(server(PSH | ACK, 30_000, 1).window(1000).data(1000), pass),
                        send(client(PSH | ACK, 40_000, 1).window(1000).data(1000), R::TcpWindow),
                        send(server(PSH | ACK, 40_000, 1).window(1000).data(1000), R::TcpWindow),
                        Flow(Proven, S_::Established),
                    ])
                    .collect::<Vec<_>>(),
            )
            .strict(),
        ]);
    }
    all.push(
        case(
            "a SYN with data on the tuple of a flow may be acknowledged with or without it",
            connected([
                send(Packet::tcp(Client, SYN, c, 0).data(1000), pass),
                send(server(SYN | ACK, 0, 1002), pass),
                Flow(Proven, S_::Established),
                send(server(SYN | ACK, 0, 1001), pass),
                Flow(Proven, S_::SynRecv),
                send(client(PSH | ACK, 1001, 1).data(10), pass),
                Flow(Proven, S_::Established),
                send(server(FIN | ACK, 1, 1011), pass),
                Flow(Proven, S_::FinWait),
            ]),
        )
        .all_tcp_checks(),
    );
    all
}
