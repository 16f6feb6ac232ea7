//! DHCP and DHCPv6 of an inside client, which are decided without the rules.

use firewall_ebpf::abi::flow::Tier::New;
use firewall_ebpf::abi::interface::Direction::{Egress, Ingress};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State;

use super::syn;
use crate::decision::case::Step::{Flow, Flows, Wait};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{Layer, Packet};
use crate::decision::rules::{Peer, Traffic, allow};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Role::{self, Client, Server};

const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// A message of DHCP; `operation` is 1 of a client, 2 of a server.
pub(super) fn message(from: Role, operation: u8) -> Packet {
    let packet = Packet::udp(from).ports(68, 67).data(300);
    packet.edit(Layer::Transport, 8, &[operation]).edit(Layer::Transport, 8 + 236, &MAGIC)
}

pub(super) fn question() -> Packet {
    message(Client, 1)
}

pub(super) fn answer() -> Packet {
    message(Server, 2)
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all: Vec<_> = v4().into_iter().map(|case| case.rules([]).family(V4)).collect();
    all.extend(v6());
    for (client, server, family) in [(68, 67, V6), (546, 547, V4)] {
        let wrong = |from| message(from, if from == Client { 1 } else { 2 }).ports(client, server);
        all.push(
            case(
                "the DHCP ports of the other family are not exempt",
                [send(wrong(Client), R::NoRule), send(wrong(Server), R::NoRule), Flows(0)],
            )
            .rules([])
            .family(family),
        );
    }
    all.extend(flows());
    all.push(
        case("TCP to the DHCP ports is not exempt", [send(syn().ports(68, 67), R::NoRule)])
            .rules([])
            .client(Egress),
    );
    all
}

/// Flows with the ports of DHCP, which are never proven: the fast path would take their messages for packets
/// of the flow.
fn flows() -> Vec<Case> {
    let v4 = |from| Packet::udp(from).ports(68, 67);
    let v6 = |from| {
        let packet = Packet::udp(from).ports(546, 547);
        match from {
            Client => packet.between(HOST, LINK_SERVER),
            Server => packet.between(LINK_SERVER, HOST),
        }
    };
    let rule = || allow(Traffic::Udp(0, 65535), Peer::Any);
    let name = "a message of DHCP is exempt although a rule has allowed a flow with its ports";
    let before = |of: &dyn Fn(Role) -> Packet| {
        vec![
            send(of(Client), R::NewFlow),
            send(of(Server), R::Established),
            Wait(3),
            send(of(Client), R::Established),
            send(of(Client), R::Established),
            Flow(New, State::Udp),
        ]
    };
    let after_v4 = [send(question(), R::Dhcp), send(answer(), R::Dhcp), Flows(2)];
    let ask = v6(Client).data(40).edit(Layer::Transport, 8, &[1]);
    let after_v6 = [send(ask, R::Dhcp), Flow(New, State::Udp)];
    [(V4, before(&v4), after_v4.to_vec()), (V6, before(&v6), after_v6.to_vec())]
        .into_iter()
        .map(|(family, before, after)| {
            case(name, [before, after].concat()).rules([rule()]).family(family).client(Egress)
        })
        .collect()
}

fn v4() -> Vec<Case> {
    let to_all = question().edit(Layer::Ip, 12, &[0; 4]).edit(Layer::Ip, 16, &[255; 4]);
    let from_relay = answer().edit(Layer::Ip, 12, &[203, 0, 113, 1]);
    let drop = |packet| send(packet, R::NoRule);
    vec![
        case(
            "an inside DHCP client needs no rule",
            [
                send(to_all, R::Dhcp),
                Flow(New, State::Udp),
                send(from_relay.clone().edit(Layer::Ip, 16, &[255; 4]), R::Dhcp),
                send(from_relay, R::Dhcp),
                send(answer(), R::Dhcp),
                send(question(), R::Dhcp),
                send(answer(), R::Dhcp),
                Flow(New, State::Udp),
            ],
        )
        .client(Egress),
        case(
            "a DHCP answer without a question needs a rule",
            [
                drop(answer()),
                send(Packet::udp(Client).ports(68, 67), R::NoRule),
                drop(answer()),
                Flows(0),
            ],
        )
        .client(Egress),
        case(
            "a DHCP answer passes for 30 s after the last question",
            [
                send(question(), R::Dhcp),
                Wait(29),
                send(answer(), R::Dhcp),
                Wait(2),
                drop(answer()),
                send(question(), R::Dhcp),
                Wait(29),
                send(answer(), R::Dhcp),
                Flow(New, State::Udp),
            ],
        )
        .client(Egress),
        case(
            "what only has the ports of DHCP needs a rule",
            [
                drop(message(Client, 2)),
                drop(message(Client, 0)),
                drop(question().edit(Layer::Transport, 8 + 236, &[0])),
                drop(Packet::udp(Client).ports(68, 67).data(239).edit(Layer::Transport, 8, &[1])),
                drop(question().fragment(0, true)),
                drop(question().ports(68, 68)),
                drop(question().ports(67, 67)),
                Flows(0),
                send(question(), R::Dhcp),
                drop(message(Server, 1)),
                drop(answer().edit(Layer::Transport, 8 + 239, &[0])),
                drop(answer().fragment(0, true)),
                Flows(1),
            ],
        )
        .client(Egress),
        case("an inside DHCP server needs a rule", [drop(question()), drop(answer()), Flows(0)])
            .client(Ingress),
    ]
}

const HOST: &str = "fe80::10";
const LINK_SERVER: &str = "fe80::1";
const GLOBAL: &str = "2001:db8:2::7";
const ALL_SERVERS: &str = "ff02::1:2";

fn v6() -> Vec<Case> {
    let udp = |from, kind: u8| {
        Packet::udp(from).ports(546, 547).data(40).edit(Layer::Transport, 8, &[kind])
    };
    let ask = |kind| udp(Client, kind).between(HOST, ALL_SERVERS);
    let reply = |kind| udp(Server, kind).between(LINK_SERVER, HOST);
    let drop = |packet| send(packet, R::NoRule);
    let mut exempt: Vec<_> = [1, 3, 4, 5, 6, 8, 9, 11].map(|kind| send(ask(kind), R::Dhcp)).into();
    exempt.extend([2, 7, 10].map(|kind| send(reply(kind), R::Dhcp)));
    exempt.push(send(ask(5).between(HOST, LINK_SERVER), R::Dhcp));
    exempt.push(send(reply(7).ports(546, 40_000), R::Dhcp));
    exempt.push(Flows(0));
    let mut wrong: Vec<_> = [0, 2, 7, 10, 12, 13, 33, 115].map(|kind| drop(ask(kind))).into();
    wrong.extend([0, 1, 3, 12, 34, 66].map(|kind| drop(reply(kind))));
    wrong.extend([
        drop(ask(1).between(GLOBAL, ALL_SERVERS)),
        drop(ask(1).between(HOST, GLOBAL)),
        drop(ask(1).between(HOST, "ff05::1:3")),
        drop(ask(1).ports(546, 546)),
        drop(ask(1).ports(40_000, 547)),
        drop(ask(1).only(11)),
        drop(ask(1).fragment(0, true)),
        drop(reply(7).between(GLOBAL, HOST)),
        drop(reply(7).between(LINK_SERVER, GLOBAL)),
        drop(reply(7).between(LINK_SERVER, ALL_SERVERS)),
        drop(reply(7).ports(547, 547)),
        Flows(0),
    ]);
    let inside = [
        ("an inside DHCPv6 client needs no rule on its link", exempt),
        ("DHCPv6 beyond the link, or what only has its ports, needs a rule", wrong),
    ];
    let mut all: Vec<_> = inside
        .into_iter()
        .map(|(name, steps)| case(name, steps).rules([]).family(V6).client(Egress))
        .collect();
    all.push(
        case("an inside DHCPv6 server needs a rule", [drop(ask(1)), drop(reply(7)), Flows(0)])
            .rules([])
            .family(V6)
            .client(Ingress),
    );
    all
}
