//! Strict TCP: numbers out of the connection's window are dropped.

use firewall_ebpf::flow::Tier::{New, Proven};
use firewall_ebpf::interface::State as S_;
use firewall_ebpf::reason::Reason as R;

use super::{
    C, S, ack, after, connected, data, established, fin, handshake_ack, rst, syn, syn_ack,
};
use crate::decision::case::Step::{Flow, Flows, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::Packet;
use crate::decision::packet::flags::{ACK, RST, SYN};
use crate::decision::scenario::Role::{Client, Server};

/// A segment of the client's, so far behind its first byte.
fn client(by: u32, bytes: usize) -> Packet {
    Packet::tcp(Client, ACK, after(C, 1u32.wrapping_add(by)), after(S, 1)).data(bytes)
}

/// The server's acknowledgement of that many bytes.
fn server(bytes: u32) -> Packet {
    Packet::tcp(Server, ACK, after(S, 1), after(C, 1u32.wrapping_add(bytes)))
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = opening();
    all.extend(windows());
    all.extend(resets());
    all.extend(picking_up());
    all
}

fn opening() -> Vec<Case> {
    vec![
        case(
            "strict: the acknowledgement of a SYN-ACK that was not sent",
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
            "strict: a stale SYN-ACK, the RST it provokes, then the right one",
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
            "strict: both ends open at once",
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
        .all_tcp_checks(),
        case(
            "strict: a challenge to the SYN of a client that lost its connection",
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
    // Scales of 2 and 0: NOP, then the option.
    let scale = |shift| [1, 3, 3, shift];
    vec![
        case(
            "strict: up to the right edge of the window, and beyond it",
            connected([
                // The server announced 65,535 bytes with its SYN-ACK and nothing since.
                send(client(65_535, 1), R::Established),
                send(client(0, 1000), R::Established),
                send(client(200_000, 100), R::TcpWindow),
                Flow(Proven, S_::Established),
            ]),
        )
        .strict(),
        case(
            "strict: a larger window by the scale that both ends asked for",
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
            "strict: a scale above 14 counts as 14 (RFC 7323, section 2.3)",
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
            "strict: data behind the SYN-ACK, as far as the SYN had room for",
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
            "early data behind a SYN-ACK that is repeated",
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
            "strict: no scale unless both ends ask for it",
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
            "strict: an acknowledgement of what was not sent",
            connected([
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 2)), R::TcpWindow),
                send(Packet::tcp(Server, ACK, after(S, 1), after(C, 1)), R::Established),
            ]),
        )
        .strict(),
        case(
            "strict: what is older than a window passes and keeps nothing alive",
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
            "strict: data that was acknowledged already is sent again, and a keepalive",
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
            "strict: a closed window, a probe into it, and its reopening",
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
            "strict: FIN both ways",
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
            "strict: a FIN out of window ends nothing",
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
        case("guard: a RST that was guessed closes nothing", connected(blind(R::Established))),
        case("strict: a RST that was guessed", connected(blind(R::TcpReset))).strict(),
        case(
            "a guess that is prepared by data at a guess closes nothing",
            connected([
                send(client(1 << 22, 100), R::Established),
                send(Packet::tcp(Client, RST, after(C, 1 + (1 << 22) + 100), 0), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "a SYN in the middle tells nothing about the numbers that a RST has to have",
            connected([
                send(Packet::tcp(Server, SYN, 1 << 30, 0), R::Established),
                send(Packet::tcp(Client, RST, 0, 0), R::Established),
                send(Packet::tcp(Server, RST, (1 << 30) + 1, 0), R::Established),
                Flow(Proven, S_::Established),
            ]),
        ),
        case(
            "a RST right behind data that is not acknowledged yet",
            connected([
                send(data(Client), R::Established),
                send(Packet::tcp(Client, RST | ACK, after(C, 101), after(S, 1)), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks(),
        case(
            "a RST with the number that its receiver acknowledged last",
            connected([
                send(data(Client), R::Established),
                send(rst(Client), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks(),
        case(
            "strict: a RST to the acknowledgement of a flow that the other end forgot",
            connected([
                send(data(Client), R::Established),
                send(Packet::tcp(Server, RST, after(S, 1), 0), R::Established),
                Flow(Proven, S_::Close),
            ]),
        )
        .all_tcp_checks(),
    ]
}

fn picking_up() -> Vec<Case> {
    vec![
        case(
            "strict: the middle of a connection that nobody saw opened",
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
            "the same without pick-up",
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
