//! Flows that need no entry, as EC2 defines them: rules of both directions allow everything of them
//! from anywhere.

use firewall_ebpf::reason::Reason as R;

use super::{ack, connected, data, rst, syn, syn_ack};
use crate::decision::case::Step::{Flows, Rules};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::Packet;
use crate::decision::rules::{ECHO, Peer, Rule, Traffic, allow, allow_reverse};
use crate::decision::scenario::Outside;
use crate::decision::scenario::Role::{Client, Server};

/// A service for everybody, and everything back.
fn open() -> [Rule; 2] {
    [allow(Traffic::Tcp(443, 443), Peer::Any), allow_reverse(Traffic::All, Peer::Any)]
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    vec![
        case(
            "a service for everybody, and everything allow_reverse: no flow",
            [
                send(syn(), R::Untracked),
                send(syn_ack(), R::Untracked),
                send(data(Client), R::Untracked),
                send(data(Server), R::Untracked),
                send(rst(Client), R::Untracked),
                Flows(0),
            ],
        )
        .rules(open()),
        case(
            "what the other end opens is tracked, because its answers are not allowed",
            [
                send(Packet::tcp(Server, super::SYN, 7, 0).ports(80, 40_000), R::NewFlow),
                Flows(1),
                send(
                    Packet::tcp(Client, super::SYN | super::ACK, 9, 8).ports(80, 40_000),
                    R::Established,
                ),
            ],
        )
        .rules(open()),
        case(
            "the rule goes: cut at once, both ways",
            [
                send(syn(), R::Untracked),
                send(syn_ack(), R::Untracked),
                Rules(vec![allow_reverse(Traffic::All, Peer::Any)]),
                send(data(Client), R::NoRule),
                send(syn_ack(), R::UnsolicitedSynAck),
                Flows(0),
            ],
        )
        .rules(open()),
        case(
            "tracked where the rule allow_reverse leaves a port out, or a protocol, or an address",
            [
                send(syn(), R::NewFlow),
                Rules(vec![open()[0], allow_reverse(Traffic::Udp(0, 65_535), Peer::Any)]),
                send(syn().ports(40_001, 443), R::NewFlow),
                Rules(vec![open()[0], allow_reverse(Traffic::All, Peer::Wide)]),
                send(syn().ports(40_002, 443), R::NewFlow),
                Flows(3),
            ],
        )
        .rules([open()[0], allow_reverse(Traffic::Tcp(1, 65_535), Peer::Any)]),
        case(
            "a narrower rule for the same traffic tracks nothing",
            [
                send(syn(), R::Untracked),
                send(syn().outside(Outside::Far), R::Untracked),
                send(syn().port(80), R::NewFlow),
                Flows(1),
            ],
        )
        .rules([open()[0], open()[1], allow(Traffic::Tcp(0, 65_535), Peer::Near)]),
        case(
            "ICMP and other protocols are always tracked",
            [
                send(Packet::echo(Client, 3), R::NewFlow),
                send(Packet::raw(Client, 47), R::NewFlow),
                send(Packet::udp(Client), R::Untracked),
                Flows(2),
            ],
        )
        .rules([allow(Traffic::All, Peer::Any), allow_reverse(Traffic::All, Peer::Any)]),
        case(
            "a tracked flow stays tracked when rules would not track it any more",
            connected([
                Rules(open().to_vec()),
                send(data(Client), R::Established),
                send(ack(Server), R::Established),
                send(syn().ports(40_001, 443), R::Untracked),
                Flows(1),
            ]),
        ),
        case(
            "an ICMP error about a packet that needed no flow",
            [
                send(syn(), R::Untracked),
                send(Packet::error(Server, (3, 4), (2, 0), data(Client)), R::Related),
                send(Packet::error(Client, (3, 4), (2, 0), data(Server)), R::Related),
                send(Packet::error(Client, (3, 4), (2, 0), Packet::udp(Server).port(9)), R::NoRule),
            ],
        )
        .rules([open()[0], allow_reverse(Traffic::Tcp(0, 65_535), Peer::Any)]),
        case(
            "with tracking always, the same rules track",
            [send(syn(), R::NewFlow), send(syn_ack(), R::Established), Flows(1)],
        )
        .rules(open())
        .always_tracked(),
        case(
            "echo from anywhere is tracked like any other",
            [send(Packet::echo(Client, 1), R::NewFlow), Flows(1)],
        )
        .rules([allow(ECHO, Peer::Any), allow_reverse(Traffic::All, Peer::Any)]),
    ]
}
