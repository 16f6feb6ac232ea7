//! The regression tests of nf_conntrack, after its packetdrill scripts
//! (tools/testing/selftests/net/netfilter/packetdrill in Linux).

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State as S_;

use super::{C, S, after, connected, handshake_ack, syn, syn_ack};
use crate::decision::case::Step::Flow;
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::Packet;
use crate::decision::packet::flags::{ACK, FIN, PSH, RST, SYN};
use crate::decision::scenario::Role::{Client, Server};

/// A segment of the client, `offset` bytes after its first one, that acknowledges `acked` bytes.
fn client(flags: u8, offset: u32, acked: u32) -> Packet {
    Packet::tcp(Client, flags, after(C, 1 + offset), after(S, 1 + acked))
}

/// A segment of the server, `offset` bytes after its first one, that acknowledges `acked` bytes.
fn server(flags: u8, offset: u32, acked: u32) -> Packet {
    Packet::tcp(Server, flags, after(S, 1 + offset), after(C, 1 + acked))
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let pass = R::Established;
    let mut all = vec![
        case(
            "ack_loss_stall: retransmitted data passes after its acknowledgements were lost",
            stall(),
        )
        .all_tcp_checks(),
        case("rst_invalid: an inexact RST passes and closes nothing, guard", invalid_resets(pass)),
        case("rst_invalid: an inexact RST is dropped, strict", invalid_resets(R::TcpReset))
            .strict(),
        case(
            "inexact_rst: a RST with the number of old data does not change the state",
            inexact_reset(),
        )
        .all_tcp_checks(),
    ];
    all.extend(tuple_reuse());
    all
}

/// 46 segments of 1,460 bytes, each acknowledged, and then a retransmission of the first.
fn stall() -> Vec<Step> {
    let sent = |offset| send(client(PSH | ACK, offset, 0).window(257).data(1460), R::Established);
    let mut steps = connected([]);
    for offset in (0..46).map(|segment| segment * 1460) {
        steps.extend([sent(offset), send(server(ACK, 0, offset + 1460), R::Established)]);
    }
    steps.extend([sent(0), send(server(ACK, 0, 46 * 1460), R::Established)]);
    steps.push(Flow(Proven, S_::Established));
    steps
}

/// The server sends 3,000 bytes. RSTs with a number before them, far after them, within them, and
/// one below the exact one close nothing; the exact one does.
fn invalid_resets(reason: R) -> Vec<Step> {
    let mut steps = connected([]);
    for offset in [0, 1000, 2000] {
        steps.push(send(server(ACK, offset, 0).data(1000), R::Established));
    }
    for acked in [1000, 2000, 3000] {
        steps.push(send(client(ACK, 0, acked), R::Established));
    }
    for offset in [u32::MAX, 999_999, 41] {
        let reset = Packet::tcp(Server, RST, after(S, 1u32.wrapping_add(offset)), 0).window(0);
        steps.extend([send(reset, reason), Flow(Proven, S_::Established)]);
    }
    steps.extend([
        send(client(PSH | ACK, 0, 3000).data(1000), R::Established),
        send(server(ACK, 3000, 1000), R::Established),
        send(server(RST | ACK, 2999, 1000).window(0), reason),
        Flow(Proven, S_::Established),
        send(server(RST | ACK, 3000, 1000).window(0), R::Established),
        Flow(Proven, S_::Close),
    ]);
    steps
}

/// The server sends 3,000 bytes and FIN; the client closes with a RST, and the server replies with
/// a RST whose number is far below.
fn inexact_reset() -> Vec<Step> {
    let pass = R::Established;
    connected([
        send(server(ACK, 0, 0).data(1000), pass),
        send(server(ACK, 1000, 0).data(1000), pass),
        send(server(ACK, 2000, 0).data(1000), pass),
        send(client(ACK, 0, 3000), pass),
        send(client(PSH | ACK, 0, 3000).data(1000), pass),
        send(server(FIN | ACK, 3000, 1000), pass),
        Flow(Proven, S_::FinWait),
        send(client(ACK, 1000, 3001), pass),
        Flow(Proven, S_::CloseWait),
        send(Packet::tcp(Server, RST, after(S, 2001), 0).window(0), pass),
        Flow(Proven, S_::CloseWait),
        send(client(RST | ACK, 1000, 3001), pass),
        Flow(Proven, S_::Close),
        send(Packet::tcp(Server, RST, after(S, 2001), 0).window(0), pass),
        Flow(Proven, S_::Close),
    ])
}

/// Segments of a former and a new connection with the same tuple.
fn tuple_reuse() -> Vec<Case> {
    let (pass, old_seq, old_ack) = (R::Established, 145_824_453, 643_160_523);
    vec![
        case(
            "syn_challenge_ack: a client reconnects while the server has the former connection",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, ACK, old_seq, old_ack).window(240), pass),
                send(Packet::tcp(Client, RST, old_ack, 0).window(0), pass),
                Flow(New, S_::SynSent),
                send(syn(), pass),
                send(syn_ack().window(250), pass),
                send(handshake_ack().window(256), pass),
                Flow(Proven, S_::Established),
            ],
        )
        .all_tcp_checks(),
        case(
            "synack_old: a late SYN-ACK of the former connection does not change the flow",
            [
                send(syn(), R::NewFlow),
                send(Packet::tcp(Server, SYN | ACK, old_seq, old_ack).window(240), pass),
                send(syn(), pass),
                Flow(New, S_::SynSent),
                send(Packet::tcp(Server, SYN | ACK, old_seq - 65_535, after(C, 1)), pass),
                Flow(New, S_::SynRecv),
                send(Packet::tcp(Client, PSH | ACK, after(C, 1), old_seq - 65_534).data(1), pass),
                Flow(Proven, S_::Established),
            ],
        )
        .all_tcp_checks(),
        case(
            "synack_reuse: a SYN with another number opens a new flow only after the RST",
            connected([
                send(client(PSH | ACK, 0, 0).data(100), pass),
                send(server(ACK, 0, 100), pass),
                send(Packet::tcp(Client, SYN, after(C, 2000), 0), pass),
                send(server(ACK, 0, 100), pass),
                Flow(Proven, S_::Established),
                send(client(RST | ACK, 100, 0), pass),
                Flow(Proven, S_::Close),
                send(Packet::tcp(Client, SYN, after(C, 2000), 0), R::NewFlow),
                Flow(New, S_::SynSent),
                send(Packet::tcp(Server, SYN | ACK, 9, after(C, 2001)), pass),
                Flow(New, S_::SynRecv),
            ]),
        )
        .all_tcp_checks(),
    ]
}
