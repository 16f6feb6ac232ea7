//! UDP, ICMP queries and other protocols: flows without a handshake; and a full proven tier.

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State;

use super::{connected, data, handshake_ack, syn, syn_ack};
use crate::decision::case::Step::{Flow, Flows, ProvenFull, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::{Layer, Packet};
use crate::decision::rules::{ECHO, Peer, Traffic, allow, allow_reverse};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Outside::{Far, Neighbour};
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = udp();
    all.extend(icmp());
    all.extend(other_protocols());
    all.extend(full_tier());
    all
}

fn udp() -> Vec<Case> {
    let dns = [allow(Traffic::Udp(53, 53), Peer::Near)];
    let request = || Packet::udp(Client).port(53);
    let reply = || Packet::udp(Server).port(53);
    let stream = || {
        vec![
            send(request(), R::NewFlow),
            Flow(New, State::Udp),
            send(reply(), R::Established),
            Flow(New, State::Udp),
            // One question and its answers take less time.
            Wait(1),
            send(request(), R::Established),
            Flow(New, State::Udp),
            Wait(2),
            send(request(), R::Established),
            Flow(Proven, State::UdpStream),
        ]
    };
    let later = |seconds, reason| -> Vec<Step> {
        stream().into_iter().chain([Wait(seconds), send(reply(), reason)]).collect()
    };
    vec![
        case(
            "a UDP reply passes 29 s after its request",
            [send(request(), R::NewFlow), Wait(29), send(reply(), R::Established)],
        ),
        case(
            "a UDP reply is dropped 31 s after its request",
            [send(request(), R::NewFlow), Wait(31), send(reply(), R::NoRule), Flows(0)],
        ),
        case("a UDP stream survives 179 s idle", later(179, R::Established)),
        case("a UDP stream expires after 181 s idle", later(181, R::NoRule)),
        case(
            "UDP in one direction does not promote the flow",
            [
                send(request(), R::NewFlow),
                send(request(), R::Established),
                Wait(3),
                send(request(), R::Established),
                Flow(New, State::Udp),
            ],
        ),
        case(
            "replies without a second request do not promote the flow",
            [
                send(request(), R::NewFlow),
                send(reply(), R::Established),
                Wait(3),
                send(reply(), R::Established),
                Flow(New, State::Udp),
            ],
        ),
        case(
            "a packet from another port or host is no reply",
            [
                send(request(), R::NewFlow),
                send(reply().port(54), R::NoRule),
                send(reply().outside(Neighbour), R::NoRule),
                send(Packet::udp(Server).ports(40_001, 53), R::NoRule),
                Flows(1),
            ],
        ),
        case("a TCP rule does not allow UDP to its port", [send(Packet::udp(Client), R::NoRule)])
            .rules([allow(Traffic::Tcp(443, 443), Peer::Near)]),
    ]
    .into_iter()
    .map(|case| if case.name.contains("TCP") { case } else { case.rules(dns) })
    .collect()
}

fn icmp() -> Vec<Case> {
    let too_big = Traffic::Icmp { v4: (3, Some(4)), v6: (2, Some(0)) };
    vec![
        case(
            "an echo reply needs a request with the same identifier",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                Flow(New, State::Icmp),
                send(Packet::echo_reply(Server, 7), R::Established),
                send(Packet::echo_reply(Server, 8), R::NoRule),
                send(Packet::echo(Client, 7), R::Established),
                // Its sender need not have seen the reply.
                Wait(20),
                send(Packet::echo(Client, 7), R::Established),
                Flow(New, State::Icmp),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "an echo with another code needs a rule although its identifier has a flow",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                send(Packet::echo(Client, 7).edit(Layer::Transport, 1, &[5]), R::NoRule),
                send(Packet::echo_reply(Server, 7).edit(Layer::Transport, 1, &[5]), R::NoRule),
                send(Packet::echo_reply(Server, 7), R::Established),
                Flows(1),
            ],
        )
        .rules([allow(Traffic::Icmp { v4: (8, Some(0)), v6: (128, Some(0)) }, Peer::Near)]),
        case(
            "a timestamp request needs a rule although an echo with its identifier has a flow",
            [
                send(Packet::echo(Client, 0), R::NewFlow),
                send(Packet::icmp(Client, (13, 0), (0, 0)), R::NoRule),
                send(Packet::icmp(Server, (14, 0), (0, 0)), R::NoRule),
                send(Packet::echo_reply(Server, 0), R::Established),
                Flows(1),
            ],
        )
        .rules([allow(ECHO, Peer::Near)])
        .family(V4),
        case(
            "an echo and an echo with another code with one identifier are two flows",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                send(Packet::echo(Client, 7).edit(Layer::Transport, 1, &[5]), R::NewFlow),
                send(Packet::echo_reply(Server, 7).edit(Layer::Transport, 1, &[5]), R::Established),
                send(Packet::echo_reply(Server, 7), R::Established),
                Flows(2),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "an echo request in the other direction belongs to another flow",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                send(Packet::echo(Server, 7), R::NoRule),
                Flows(1),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "two echo requests in opposite directions with one identifier are two flows",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                send(Packet::echo(Server, 7), R::NewFlow),
                send(Packet::echo_reply(Server, 7), R::Established),
                send(Packet::echo_reply(Client, 7), R::Established),
                Flows(2),
            ],
        )
        .rules([allow(ECHO, Peer::Near), allow_reverse(ECHO, Peer::Near)]),
        case(
            "an echo reply passes 29 s after its request",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                Wait(29),
                send(Packet::echo_reply(Server, 7), R::Established),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "an echo reply is dropped 31 s after its request",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                Wait(31),
                send(Packet::echo_reply(Server, 7), R::NoRule),
                Flows(0),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "an echo reply without a request passes by a rule and creates no flow",
            [
                send(Packet::echo_reply(Client, 7), R::Admitted),
                send(Packet::echo(Server, 7), R::NoRule),
                Flows(0),
            ],
        )
        .rules([allow(Traffic::Icmp { v4: (0, None), v6: (129, None) }, Peer::Near)]),
        case(
            "an IPv4 timestamp reply belongs to its request",
            [
                send(Packet::icmp(Client, (13, 0), (13, 0)), R::NewFlow),
                send(Packet::icmp(Server, (14, 0), (14, 0)), R::Established),
            ],
        )
        .rules([allow(Traffic::Icmp { v4: (13, None), v6: (13, None) }, Peer::Near)])
        .family(V4),
        case(
            "a rule for one ICMP code allows no other code or type",
            [
                send(Packet::error(Client, (3, 4), (2, 0), Packet::udp(Server)), R::Admitted),
                send(Packet::error(Client, (3, 3), (2, 1), Packet::udp(Server)), R::NoRule),
                send(Packet::error(Client, (3, 5), (1, 255), Packet::udp(Server)), R::NoRule),
                send(Packet::error(Client, (2, 4), (3, 0), Packet::udp(Server)), R::NoRule),
                Flows(0),
            ],
        )
        .rules([allow(too_big, Peer::Near)]),
        case(
            "a rule for an ICMP type allows all its codes and no other type",
            [
                send(Packet::error(Client, (11, 0), (3, 0), Packet::udp(Server)), R::Admitted),
                send(Packet::error(Client, (11, 255), (3, 255), Packet::udp(Server)), R::Admitted),
                send(Packet::error(Client, (12, 0), (4, 0), Packet::udp(Server)), R::NoRule),
                send(Packet::error(Client, (10, 255), (2, 255), Packet::udp(Server)), R::NoRule),
            ],
        )
        .rules([allow(Traffic::Icmp { v4: (11, None), v6: (3, None) }, Peer::Near)]),
        case(
            "a redirect without a rule is dropped",
            [send(Packet::icmp(Client, (5, 1), (137, 0)), R::NoRule)],
        ),
        case(
            "a redirect that a rule allows passes",
            [send(Packet::icmp(Client, (5, 1), (137, 0)).hop_limit(255), R::Admitted)],
        )
        .rules([allow(Traffic::All, Peer::Near)]),
        case(
            "the ICMP of the other family is a protocol without types",
            [send(Packet::raw(Client, 58), R::NoRule)],
        )
        .rules([allow(ECHO, Peer::Any)])
        .family(V4),
        case(
            "the ICMP of the other family is a protocol without types",
            [send(Packet::raw(Client, 1), R::NoRule)],
        )
        .rules([allow(ECHO, Peer::Any)])
        .family(V6),
    ]
}

fn other_protocols() -> Vec<Case> {
    let gre = [allow(Traffic::Protocol(47), Peer::Near)];
    vec![
        case(
            "a GRE reply passes until the flow times out",
            [
                send(Packet::raw(Client, 47), R::NewFlow),
                Flow(New, State::Other),
                Wait(599),
                send(Packet::raw(Server, 47), R::Established),
                Wait(599),
                send(Packet::raw(Client, 47), R::Established),
                Flow(New, State::Other),
                Wait(601),
                send(Packet::raw(Server, 47), R::NoRule),
                Flows(0),
            ],
        )
        .rules(gre),
        case(
            "a rule for one protocol allows no other protocol or host",
            [
                send(Packet::raw(Client, 46), R::NoRule),
                send(Packet::raw(Client, 48), R::NoRule),
                send(Packet::raw(Client, 47).outside(Far), R::NoRule),
            ],
        )
        .rules(gre),
        case(
            "a rule for all protocols allows SCTP, ESP, experimental and unassigned ones",
            [
                send(Packet::raw(Client, 132), R::NewFlow),
                send(Packet::raw(Client, 50), R::NewFlow),
                send(Packet::raw(Client, 253), R::NewFlow),
                send(Packet::raw(Client, 200), R::NewFlow),
                send(Packet::raw(Client, 255), R::NewFlow),
                send(Packet::raw(Server, 132), R::Established),
                send(Packet::raw(Client, 132).data(0), R::Established),
                Flows(5),
            ],
        )
        .rules([allow(Traffic::All, Peer::Near)]),
    ]
}

fn full_tier() -> Vec<Case> {
    vec![
        case(
            "with a full proven tier a flow stays in the new tier until there is room",
            [
                ProvenFull(true),
                send(syn(), R::NewFlow),
                send(syn_ack(), R::Established),
                send(handshake_ack(), R::Established),
                Flow(New, State::Established),
                Wait(1),
                send(data(Server), R::Established),
                Flow(New, State::Established),
                ProvenFull(false),
                Wait(1),
                send(data(Client), R::Established),
                Flow(Proven, State::Established),
            ],
        ),
        case(
            "with a full proven tier its own flows continue",
            connected([
                ProvenFull(true),
                send(data(Client), R::Established),
                Flow(Proven, State::Established),
                ProvenFull(false),
            ]),
        ),
    ]
}
