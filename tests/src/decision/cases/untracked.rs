//! Untracked connections, as EC2 defines them: rules of both directions allow all of their packets
//! from anywhere.

use firewall_ebpf::abi::reason::Reason as R;

use super::{ack, connected, data, rst, syn, syn_ack};
use crate::decision::case::Step::{Flows, Rules};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::Packet;
use crate::decision::rules::{ECHO, Peer, Rule, Traffic, allow, allow_reverse};
use crate::decision::scenario::Outside;
use crate::decision::scenario::Role::{Client, Server};

/// A service for all addresses, and all traffic in the reverse direction.
fn untracked_rules() -> [Rule; 2] {
    [allow(Traffic::Tcp(443, 443), Peer::Any), allow_reverse(Traffic::All, Peer::Any)]
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    vec![
        case(
            "traffic that rules allow from anywhere in both directions creates no flow",
            [
                send(syn(), R::Untracked),
                send(syn_ack(), R::Untracked),
                send(data(Client), R::Untracked),
                send(data(Server), R::Untracked),
                send(rst(Client), R::Untracked),
                Flows(0),
            ],
        )
        .rules(untracked_rules()),
        case(
            "a connection whose replies need a flow is tracked",
            [
                send(Packet::tcp(Server, super::SYN, 7, 0).ports(80, 40_000), R::NewFlow),
                Flows(1),
                send(
                    Packet::tcp(Client, super::SYN | super::ACK, 9, 8).ports(80, 40_000),
                    R::Established,
                ),
            ],
        )
        .rules(untracked_rules()),
        case(
            "an untracked connection without its rule is dropped at once in both directions",
            [
                send(syn(), R::Untracked),
                send(syn_ack(), R::Untracked),
                Rules(vec![allow_reverse(Traffic::Udp(0, 65_535), Peer::Any)]),
                send(data(Client), R::NoRule),
                send(syn_ack(), R::UnsolicitedSynAck),
                Flows(0),
            ],
        )
        .rules(untracked_rules()),
        case(
            "a connection is tracked if the reverse rule lacks a port, a protocol or an address",
            [
                send(syn(), R::NewFlow),
                Rules(vec![
                    untracked_rules()[0],
                    allow_reverse(Traffic::Udp(0, 65_535), Peer::Any),
                ]),
                send(syn().ports(40_001, 443), R::NewFlow),
                Rules(vec![untracked_rules()[0], allow_reverse(Traffic::All, Peer::Wide)]),
                send(syn().ports(40_002, 443), R::NewFlow),
                Flows(3),
            ],
        )
        .rules([untracked_rules()[0], allow_reverse(Traffic::Tcp(1, 65_535), Peer::Any)]),
        case(
            "a narrower rule for the same traffic does not make it tracked",
            [
                send(syn(), R::Untracked),
                send(syn().outside(Outside::Far), R::Untracked),
                send(syn().port(80), R::NewFlow),
                Flows(1),
            ],
        )
        .rules([
            untracked_rules()[0],
            untracked_rules()[1],
            allow(Traffic::Tcp(0, 65_535), Peer::Near),
        ]),
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
            "an established flow stays tracked when new rules make its traffic untracked",
            connected([
                Rules(untracked_rules().to_vec()),
                send(data(Client), R::Established),
                send(ack(Server), R::Established),
                send(syn().ports(40_001, 443), R::Untracked),
                Flows(1),
            ]),
        ),
        case(
            "an ICMP error about an untracked packet is related",
            [
                send(syn(), R::Untracked),
                send(Packet::error(Server, (3, 4), (2, 0), data(Client)), R::Related),
                send(Packet::error(Client, (3, 4), (2, 0), data(Server)), R::Related),
                send(Packet::error(Client, (3, 4), (2, 0), Packet::udp(Server).port(9)), R::NoRule),
            ],
        )
        .rules([untracked_rules()[0], allow_reverse(Traffic::Tcp(0, 65_535), Peer::Any)]),
        case(
            "with tracking `always` the same rules create a flow",
            [send(syn(), R::NewFlow), send(syn_ack(), R::Established), Flows(1)],
        )
        .rules(untracked_rules())
        .always_tracked(),
        case(
            "an echo request from anywhere is tracked",
            [send(Packet::echo(Client, 1), R::NewFlow), Flows(1)],
        )
        .rules([allow(ECHO, Peer::Any), allow_reverse(Traffic::All, Peer::Any)]),
    ]
}
