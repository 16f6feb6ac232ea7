//! Flows that are re-evaluated after a policy change.

use firewall_ebpf::flow::Tier::{New, Proven};
use firewall_ebpf::interface::State;
use firewall_ebpf::reason::Reason as R;

use super::{ack, connected, data, rst, syn, syn_ack};
use crate::decision::case::Step::{Flow, Flows, Learned, Rules};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::Packet;
use crate::decision::rules::{ECHO, Peer, Traffic, allow, default_rules};
use crate::decision::scenario::Outside::{Near, Neighbour};
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let member = |outside| allow(Traffic::Tcp(443, 443), Peer::Host(outside));
    let rules = [
        allow(Traffic::Udp(53, 53), Peer::Near),
        allow(ECHO, Peer::Near),
        allow(Traffic::Protocol(132), Peer::Near),
    ];
    let request = || Packet::udp(Client).port(53);
    let reply = || Packet::udp(Server).port(53);
    let mut all = vec![
        case(
            "an established flow without a rule is revoked in both directions",
            connected([
                send(data(Client), R::Established),
                Rules(vec![]),
                send(data(Client), R::Revoked),
                send(data(Server), R::Revoked),
                send(ack(Server), R::Revoked),
                send(rst(Client), R::Revoked),
                send(syn(), R::NoRule),
                Flow(Proven, State::Established),
            ]),
        ),
        case(
            "a flow without a rule is revoked when the responder sends first",
            connected([
                Rules(vec![]),
                send(data(Server), R::Revoked),
                send(data(Client), R::Revoked),
            ]),
        ),
        case(
            "a revoked flow continues when its rule is added again",
            connected([
                Rules(vec![]),
                send(data(Client), R::Revoked),
                Rules(default_rules()),
                send(data(Server), R::Established),
                send(data(Client), R::Established),
                Flow(Proven, State::Established),
            ]),
        ),
        case(
            "a flow continues when another rule allows it",
            connected([
                Rules(vec![allow(Traffic::Tcp(400, 500), Peer::Near)]),
                send(data(Server), R::Established),
                send(data(Client), R::Established),
                Rules(vec![allow(Traffic::Tcp(443, 443), Peer::Any)]),
                send(data(Client), R::Established),
                send(data(Server), R::Established),
            ]),
        ),
        case(
            "a revoked flow is not picked up mid-stream by a rule for its replies",
            connected([
                Rules(vec![]),
                send(data(Server), R::Revoked),
                send(data(Server), R::Revoked),
                Flows(1),
            ]),
        ),
        case(
            "a flow of the new tier is revoked, and continues when its rule is added again",
            [
                send(syn(), R::NewFlow),
                Rules(vec![]),
                send(syn_ack(), R::Revoked),
                send(syn(), R::NoRule),
                Flow(New, State::SynSent),
                Rules(default_rules()),
                send(syn(), R::Established),
                send(syn_ack(), R::Established),
            ],
        ),
        case(
            "the flows of a removed group member are revoked, those of others are not",
            [
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                Rules(vec![member(Near), member(Neighbour)]),
                send(syn().outside(Neighbour), R::NewFlow),
                send(syn_ack().outside(Neighbour), R::Established),
                Rules(vec![member(Near)]),
                send(ack(Client).outside(Neighbour), R::Revoked),
                send(ack(Client), R::Established),
            ],
        )
        .rules([member(Near)]),
        case(
            "UDP, echo and other protocols are re-evaluated in both directions",
            [
                send(request(), R::NewFlow),
                send(reply(), R::Established),
                send(Packet::echo(Client, 7), R::NewFlow),
                send(Packet::echo_reply(Server, 7), R::Established),
                send(Packet::raw(Client, 132), R::NewFlow),
                send(Packet::raw(Server, 132), R::Established),
                Rules(rules.to_vec()),
                send(reply(), R::Established),
                send(Packet::echo_reply(Server, 7), R::Established),
                send(Packet::raw(Server, 132), R::Established),
                Rules(vec![allow(Traffic::Tcp(1, 2), Peer::Near)]),
                send(reply(), R::Revoked),
                send(Packet::echo_reply(Server, 7), R::Revoked),
                send(Packet::raw(Server, 132), R::Revoked),
                send(request(), R::Revoked),
                send(Packet::echo(Client, 7), R::Revoked),
                send(Packet::raw(Client, 132), R::Revoked),
                Flows(3),
            ],
        )
        .rules(rules),
        case(
            "an ICMP error about a revoked flow is not related",
            connected([
                send(Packet::error(Server, (3, 4), (2, 0), data(Client)), R::Related),
                Rules(vec![]),
                send(Packet::error(Server, (3, 4), (2, 0), data(Client)), R::NoRule),
                send(data(Client), R::Revoked),
                send(Packet::error(Server, (3, 4), (2, 0), data(Client)), R::NoRule),
            ]),
        ),
        case(
            "a learned flow survives a policy without its rule, and so do ICMP errors about it",
            connected([
                Learned,
                Rules(vec![]),
                send(Packet::error(Server, (3, 4), (2, 0), data(Client)), R::Related),
                send(Packet::error(Client, (3, 1), (1, 0), data(Server)), R::Related),
                send(data(Client), R::Established),
                send(data(Server), R::Established),
                Rules(default_rules()),
                send(Packet::error(Server, (3, 4), (2, 0), data(Client)), R::Related),
                Flow(Proven, State::Established),
            ]),
        ),
    ];
    all = all.into_iter().map(|case| case.revalidate(true)).collect();
    all
}
