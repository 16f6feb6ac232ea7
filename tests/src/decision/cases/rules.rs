//! Rules: matching, overlaps and nested networks, and the effect of a change on flows.

use firewall_ebpf::flow::Tier::Proven;
use firewall_ebpf::interface::State;
use firewall_ebpf::reason::Reason as R;

use super::{ack, connected, data, syn, syn_ack};
use crate::decision::case::Step::{Flow, Flows, Rules};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::Packet;
use crate::decision::packet::flags::SYN;
use crate::decision::rules::{Peer, Traffic, allow, allow_reverse};
use crate::decision::scenario::Outside::{Far, Near, Neighbour};
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = matching();
    all.extend(changes());
    all
}

fn matching() -> Vec<Case> {
    let opens = |port| send(syn().port(port), R::NewFlow);
    let dropped = |port| send(syn().port(port), R::NoRule);
    vec![
        case("a port range includes both of its ends", [dropped(999), opens(1000), opens(1999), dropped(2000)])
            .rules([allow(Traffic::Tcp(1000, 1999), Peer::Near)]),
        case("a rule for all ports includes port 0 and port 65535", [opens(0), opens(1), opens(65_535)])
            .rules([allow(Traffic::Tcp(0, 65_535), Peer::Near)]),
        case("rules for port 0 and port 65535 allow no port between", [opens(0), dropped(1), dropped(65_534), opens(65_535)])
            .rules([
                allow(Traffic::Tcp(0, 0), Peer::Near),
                allow(Traffic::Tcp(65_535, 65_535), Peer::Near),
            ]),
        case(
            "a rule for all TCP ports does not allow the adjacent protocols",
            [
                opens(65_535),
                send(Packet::raw(Client, 7), R::NoRule),
                send(Packet::raw(Client, 5), R::NoRule),
            ],
        )
        .rules([allow(Traffic::Tcp(0, 65_535), Peer::Near)]),
        case(
            "rules of a network and of a network in it add up",
            [opens(22), opens(443), dropped(80), send(syn().port(22).outside(Far), R::NoRule)],
        )
        .rules([
            allow(Traffic::Tcp(22, 22), Peer::Wide),
            allow(Traffic::Tcp(443, 443), Peer::Near),
        ]),
        case(
            "rules of four nested networks add up",
            [
                opens(1),
                opens(2),
                opens(3),
                opens(4),
                send(syn().port(1).outside(Neighbour), R::NoRule),
                send(syn().port(2).outside(Neighbour), R::NewFlow),
                send(syn().port(3).outside(Neighbour), R::NewFlow),
                send(syn().port(3).outside(Far), R::NoRule),
                send(syn().port(4).outside(Far), R::NewFlow),
            ],
        )
        .rules([
            allow(Traffic::Tcp(1, 1), Peer::Host(Near)),
            allow(Traffic::Tcp(2, 2), Peer::Near),
            allow(Traffic::Tcp(3, 3), Peer::Wide),
            allow(Traffic::Tcp(4, 4), Peer::Any),
        ]),
        case(
            "the rules of the enclosing network apply if the inner one has rules only for the other direction",
            [opens(443), send(Packet::tcp(Server, SYN, 1, 0).ports(9000, 9001), R::NoRule)],
        )
        .rules([
            allow(Traffic::Tcp(443, 443), Peer::Any),
            allow_reverse(Traffic::Udp(1, 1), Peer::Near),
        ]),
        case(
            "overlapping port ranges of two rules add up",
            [opens(100), opens(150), opens(200), opens(250), dropped(301), dropped(99)],
        )
        .rules([
            allow(Traffic::Tcp(100, 200), Peer::Near),
            allow(Traffic::Tcp(150, 300), Peer::Near),
        ]),
        case(
            "adjacent port ranges of two rules add up",
            [dropped(9), opens(10), opens(19), opens(20), opens(29), dropped(30)],
        )
        .rules([allow(Traffic::Tcp(10, 19), Peer::Near), allow(Traffic::Tcp(20, 29), Peer::Near)]),
        case(
            "a TCP rule and a UDP rule for one port do not extend each other",
            [
                opens(443),
                send(Packet::udp(Client).port(443), R::NewFlow),
                send(Packet::udp(Client).port(80), R::NoRule),
            ],
        )
        .rules([
            allow(Traffic::Tcp(443, 443), Peer::Near),
            allow(Traffic::Udp(443, 443), Peer::Near),
        ]),
        case(
            "without rules for one direction only replies pass in it",
            [
                opens(443),
                send(syn_ack(), R::Established),
                send(Packet::tcp(Server, SYN, 1, 0).ports(443, 40_000), R::NoRule),
                send(Packet::udp(Server), R::NoRule),
                send(Packet::echo(Server, 1), R::NoRule),
                send(Packet::raw(Server, 47), R::NoRule),
            ],
        )
        .rules([allow(Traffic::All, Peer::Any)]),
        case(
            "everything is dropped without rules",
            [
                dropped(443),
                send(Packet::tcp(Server, SYN, 1, 0), R::NoRule),
                send(Packet::udp(Client), R::NoRule),
                Flows(0),
            ],
        )
        .rules([]),
        case("a rule for a group without members allows nothing", [dropped(443)])
            .rules([allow(Traffic::All, Peer::EmptyGroup)]),
        case("a rule for one address does not allow its neighbour", [opens(443), send(syn().outside(Neighbour), R::NoRule)])
            .rules([allow(Traffic::All, Peer::Host(Near))]),
    ]
}

fn changes() -> Vec<Case> {
    let member = |host| allow(Traffic::Tcp(443, 443), Peer::Host(host));
    vec![
        case(
            "an established flow survives rule removal, and a new flow is dropped",
            connected([
                Rules(vec![]),
                send(data(Client), R::Established),
                send(data(Server), R::Established),
                send(syn().ports(40_001, 443), R::NoRule),
                Flow(Proven, State::Established),
            ]),
        )
        .revalidate(false),
        case(
            "a flow of the new tier survives rule removal",
            [
                send(syn(), R::NewFlow),
                Rules(vec![]),
                send(syn_ack(), R::Established),
                send(ack(Client), R::Established),
                Flow(Proven, State::Established),
            ],
        )
        .revalidate(false),
        case(
            "a new group member can open flows at once, and keeps them after it left",
            [
                send(syn().outside(Neighbour), R::NoRule),
                Rules(vec![member(Near), member(Neighbour)]),
                send(syn().outside(Neighbour), R::NewFlow),
                Rules(vec![member(Near)]),
                send(syn_ack().outside(Neighbour), R::Established),
                send(syn().outside(Neighbour).ports(40_001, 443), R::NoRule),
                Flows(1),
            ],
        )
        .rules([member(Near)])
        .revalidate(false),
        case(
            "a policy change applies to new flows at once",
            [
                send(syn().port(10), R::NewFlow),
                send(syn().port(20), R::NoRule),
                send(syn().port(30), R::NoRule),
                Rules(vec![
                    allow(Traffic::Tcp(10, 10), Peer::Wide),
                    allow(Traffic::Tcp(20, 20), Peer::Any),
                ]),
                send(syn().ports(40_001, 10), R::NewFlow),
                send(syn().port(20), R::NewFlow),
                send(syn().port(30), R::NoRule),
                Rules(vec![allow(Traffic::Tcp(10, 10), Peer::Host(Near))]),
                send(syn().ports(40_002, 10), R::NewFlow),
                send(syn().ports(40_002, 20), R::NoRule),
                send(syn().port(30), R::NoRule),
            ],
        )
        .rules([allow(Traffic::Tcp(10, 10), Peer::Near)]),
    ]
}
