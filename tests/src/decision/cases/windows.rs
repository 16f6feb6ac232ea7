//! Strict TCP checks: segments outside of the window are dropped.

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State as S_;

use super::{
    C, S, ack, after, connected, data, established, fin, handshake_ack, rst, syn, syn_ack,
};
use crate::decision::case::Step::{Flow, Flows, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::Packet;
use crate::decision::packet::flags::{ACK, RST, SYN};
use crate::decision::rules::{Peer, Traffic, allow, allow_reverse};
use crate::decision::scenario::Role::{Client, Server};

/// A segment of the client, `offset` bytes after its first one.
fn client(offset: u32, bytes: usize) -> Packet {
    Packet::tcp(Client, ACK, after(C, 1u32.wrapping_add(offset)), after(S, 1)).data(bytes)
}

/// The server's acknowledgement of this number of bytes.
fn server(bytes: u32) -> Packet {
    Packet::tcp(Server, ACK, after(S, 1), after(C, 1u32.wrapping_add(bytes)))
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = opening();
    all.extend(windows());
    all.extend(resets());
    all.extend(mid_stream());
    all
}

fn opening() -> Vec<Case> {
    vec![
        case(
            "strict: a last ACK with a wrong number is dropped",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 1), after(S, 2)), R::TcpWindow),
                send(Packet::tcp(Client, ACK, after(C, 1), after(S, 0)), R::TcpWindow),
                Flow(New, S_::SynRecv),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
        .strict(),
        case(
            "strict: after a refused SYN no window is known",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Client, SYN, 31_337, 0), R::Established),
                send(Packet::tcp(Server, RST | ACK, 0, 31_338), R::Established),
                Flow(New, S_::Close),
                send(Packet::tcp(Client, ACK, 31_338, after(S, 1)), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), 31_338), R::Established),
                Flow(New, S_::Close),
            ],
        )
        .strict(),
        case(
            "a handshake completes after a stale SYN-ACK and the RST in reply",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, 99, 99), R::Established),
                send(Packet::tcp(Client, RST, 99, 0), R::Established),
                Flow(New, S_::SynSent),
                send(syn_ack(), R::Established),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
        .all_tcp_checks(),
        case(
            "a simultaneous open completes",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN, S, 0), R::Established),
                send(Packet::tcp(Client, SYN | ACK, C, after(S, 1)), R::Established),
                send(Packet::tcp(Server, SYN | ACK, S, after(C, 1)), R::Established),
                send(ack(Client), R::Established),
                send(data(Server), R::Established),
                send(data(Client), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
        .rules([
            allow(Traffic::Tcp(443, 443), Peer::Near),
            allow_reverse(Traffic::Tcp(40_000, 40_000), Peer::Near),
        ])
        .all_tcp_checks(),
        case(
            "a client reconnects after a challenge ACK",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, ACK, 4242, 777), R::Established),
                send(Packet::tcp(Client, RST, 777, 0), R::Established),
                send(syn(), R::Established),
                send(syn_ack(), R::Established),
                send(handshake_ack(), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
        .all_tcp_checks(),
    ]
}

fn windows() -> Vec<Case> {
    // NOP, then the window scale option.
    let scale = |shift| [1, 3, 3, shift];
    vec![
        case(
            "strict: data up to the right edge of the window passes, and beyond it is dropped",
            connected([
                // The server announced 65,535 bytes with its SYN-ACK and has sent nothing since.
                send(client(65_535, 1), R::Established),
                send(client(0, 1000), R::Established),
                send(client(200_000, 100), R::TcpWindow),
                Flow(Proven, S_::Established),
            ]),
        )
        .strict(),
        case(
            "strict: the window scale applies if both ends offer it",
            [
                send(syn().with_tcp_options(&scale(2)), R::NewFlow),
                send(syn_ack().with_tcp_options(&scale(2)), R::Established),
                send(handshake_ack(), R::Established),
                send(ack(Server), R::Established),
                send(client(200_000, 100), R::Established),
                send(client(300_000, 100), R::TcpWindow),
            ],
        )
        .strict(),
        case(
            "strict: a window scale above 14 is used as 14 (RFC 7323, section 2.3)",
            [
                send(syn().with_tcp_options(&scale(15)), R::NewFlow),
                send(syn_ack().window(10).with_tcp_options(&scale(15)), R::Established),
                send(handshake_ack(), R::Established),
                send(ack(Server).window(10), R::Established),
                send(client(160_000, 100), R::Established),
                send(client(170_000, 100), R::TcpWindow),
            ],
        )
        .strict(),
        case(
            "strict: data after the SYN-ACK passes within the window of the SYN",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 1)).data(100), R::Established),
                send(
                    Packet::tcp(Server, ACK, after(S, 70_000), after(C, 1)).data(100),
                    R::TcpWindow,
                ),
            ],
        )
        .strict(),
        case(
            "the last ACK may cover early data after a retransmitted SYN-ACK",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 1)).data(100), R::Established),
                send(syn(), R::Established),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 1), after(S, 101)), R::Established),
                Flow(Proven, S_::Established),
            ],
        )
        .all_tcp_checks(),
        case(
            "strict: the window scale does not apply if only one end offers it",
            [
                send(syn().with_tcp_options(&scale(2)), R::NewFlow),
                send(syn_ack(), R::Established),
                send(handshake_ack(), R::Established),
                send(ack(Server), R::Established),
                send(client(200_000, 100), R::TcpWindow),
                send(
                    Packet::tcp(Server, ACK, after(S, 200_000), after(C, 1)).data(100),
                    R::TcpWindow,
                ),
            ],
        )
        .strict(),
        case(
            "strict: an acknowledgement of unsent data is dropped",
            connected([
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 2)), R::TcpWindow),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 1)), R::Established),
            ]),
        )
        .strict(),
        case(
            "strict: segments older than a window pass and do not refresh the flow",
            connected([
                Wait(432_000 - 1),
                send(client(u32::MAX - 100_000, 100), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), C.wrapping_sub(70_000)), R::Established),
                Wait(2),
                send(ack(Client), R::TcpNotOpened),
            ]),
        )
        .strict(),
        case(
            "retransmitted data and keepalives pass",
            connected([
                send(data(Client), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 101)), R::Established),
                send(data(Client), R::Established),
                Wait(7200),
                send(client(99, 0), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 101)), R::Established),
            ]),
        )
        .all_tcp_checks(),
        case(
            "window probes pass, and data after the window opens again",
            [
                send(syn(), R::NewFlow),
                send(syn_ack().window(1000), R::Established),
                send(handshake_ack(), R::Established),
                send(client(0, 1000), R::Established),
                send(server(1000).window(0), R::Established),
                send(client(1000, 1), R::Established),
                send(server(1000).window(0), R::Established),
                send(client(1000, 1), R::Established),
                send(server(1001).window(1000), R::Established),
                send(client(1001, 1000), R::Established),
            ],
        )
        .all_tcp_checks(),
        case(
            "FIN in both directions leads to TIME_WAIT",
            connected([
                send(fin(Client), R::Established),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 2)), R::Established),
                send(established(Server, super::FIN | ACK), R::Established),
                send(Packet::tcp(Client, ACK, after(C, 2), after(S, 2)), R::Established),
                Flow(Proven, S_::TimeWait),
            ]),
        )
        .all_tcp_checks(),
        case(
            "strict: a FIN outside of the window is dropped and changes nothing",
            connected([
                send(
                    Packet::tcp(Client, super::FIN | ACK, after(C, 1 << 30), after(S, 1)),
                    R::TcpWindow,
                ),
                Flow(Proven, S_::Established),
            ]),
        )
        .strict(),
    ]
}

fn resets() -> Vec<Case> {
    let guesses = [1, 1000, 65_000, 1 << 20, 1 << 31, u32::MAX];
    let blind = |reason| -> Vec<Step> {
        guesses
            .iter()
            .map(|&off| send(Packet::tcp(Client, RST, after(C, 1u32.wrapping_add(off)), 0), reason))
            .chain([Flow(Proven, S_::Established)])
            .collect()
    };
    vec![
        case(
            "guard: a RST with a guessed number passes and closes nothing",
            connected(blind(R::Established)),
        ),
        case("strict: a RST with a guessed number is dropped", connected(blind(R::TcpReset)))
            .strict(),
        case(
            "a guessed RST closes nothing after data with the same guessed number",
            connected([
                send(client(1 << 22, 100), R::Established),
                send(Packet::tcp(Client, RST, after(C, 1 + (1 << 22) + 100), 0), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "a SYN mid-stream does not change the number that a RST needs",
            connected([
                send(Packet::tcp(Client, SYN, 1 << 30, 0), R::Established),
                send(Packet::tcp(Server, RST, 0, 0), R::Established),
                send(Packet::tcp(Client, RST, (1 << 30) + 1, 0), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "a RST after unacknowledged data closes the flow",
            connected([
                send(data(Client), R::Established),
                send(Packet::tcp(Client, RST | ACK, after(C, 101), after(S, 1)), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks(),
        case(
            "a RST with the last acknowledged number closes the flow",
            connected([
                send(data(Client), R::Established),
                send(rst(Client), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks(),
        case(
            "a RST of an end that lost the connection closes the flow",
            connected([
                send(data(Client), R::Established),
                send(Packet::tcp(Server, RST, after(S, 1), 0), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks(),
    ]
}

fn mid_stream() -> Vec<Case> {
    vec![
        case(
            "strict: a mid-stream segment without a flow is dropped",
            [
                send(ack(Client), R::TcpNotOpened),
                send(fin(Client), R::TcpNotOpened),
                send(ack(Server), R::NoRule),
                send(rst(Client), R::Admitted),
                Flows(0),
            ],
        )
        .strict(),
        case(
            "without mid-stream pickup a segment without a flow is dropped",
            [
                send(ack(Client), R::TcpNotOpened),
                send(data(Client), R::TcpNotOpened),
                Flows(0),
                send(syn(), R::NewFlow),
            ],
        )
        .without_tcp_loose(),
    ]
}
