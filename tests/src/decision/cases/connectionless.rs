//! UDP, ICMP queries and other protocols: conversations without a handshake.

use firewall_ebpf::flow::Tier::{New, Proven};
use firewall_ebpf::interface::State;
use firewall_ebpf::reason::Reason as R;

use super::{connected, data, handshake_ack, syn, syn_ack};
use crate::decision::case::Step::{Flow, Flows, ProvenFull, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::Packet;
use crate::decision::rules::{ECHO, Peer, Traffic, allow, allow_reverse};
use crate::decision::scenario::Family;
use crate::decision::scenario::Outside::{Far, Neighbour};
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = udp();
    all.extend(icmp());
    all.extend(others());
    all.extend(full());
    all
}

fn udp() -> Vec<Case> {
    let dns = [allow(Traffic::Udp(53, 53), Peer::Near)];
    let query = || Packet::udp(Client).port(53);
    let answer = || Packet::udp(Server).port(53);
    let stream = || {
        vec![
            send(query(), R::NewFlow),
            Flow(New, State::Udp),
            send(answer(), R::Established),
            Flow(New, State::Udp),
            send(query(), R::Established),
            Flow(Proven, State::UdpStream),
        ]
    };
    let later = |seconds, reason| -> Vec<Step> {
        stream().into_iter().chain([Wait(seconds), send(answer(), reason)]).collect()
    };
    vec![
        case(
            "a UDP answer after 29 s",
            [send(query(), R::NewFlow), Wait(29), send(answer(), R::Established)],
        ),
        case(
            "a UDP answer after 31 s",
            [send(query(), R::NewFlow), Wait(31), send(answer(), R::NoRule), Flows(0)],
        ),
        case("UDP both ways, then idle for 179 s", later(179, R::Established)),
        case("UDP both ways, then idle for 181 s", later(181, R::NoRule)),
        case(
            "UDP in one direction only proves nothing",
            [
                send(query(), R::NewFlow),
                send(query(), R::Established),
                send(query(), R::Established),
                Flow(New, State::Udp),
            ],
        ),
        case(
            "answers alone prove nothing",
            [
                send(query(), R::NewFlow),
                send(answer(), R::Established),
                send(answer(), R::Established),
                Flow(New, State::Udp),
            ],
        ),
        case(
            "an answer from another port or host is none",
            [
                send(query(), R::NewFlow),
                send(answer().port(54), R::NoRule),
                send(answer().outside(Neighbour), R::NoRule),
                send(Packet::udp(Server).ports(40_001, 53), R::NoRule),
                Flows(1),
            ],
        ),
        case("UDP to a TCP rule's port", [send(Packet::udp(Client), R::NoRule)])
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
            "an echo reply follows its request by its identifier",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                Flow(New, State::Icmp),
                send(Packet::echo_reply(Server, 7), R::Established),
                send(Packet::echo_reply(Server, 8), R::NoRule),
                send(Packet::echo(Client, 7), R::Established),
                Flow(Proven, State::Icmp),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "a request the other way with the same identifier is another flow",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                send(Packet::echo(Server, 7), R::NoRule),
                Flows(1),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "both ends ping each other with one identifier",
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
            "an echo reply after 29 s",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                Wait(29),
                send(Packet::echo_reply(Server, 7), R::Established),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "an echo reply after 31 s",
            [
                send(Packet::echo(Client, 7), R::NewFlow),
                Wait(31),
                send(Packet::echo_reply(Server, 7), R::NoRule),
                Flows(0),
            ],
        )
        .rules([allow(ECHO, Peer::Near)]),
        case(
            "a reply to nothing that a rule allows passes and opens nothing",
            [
                send(Packet::echo_reply(Client, 7), R::Admitted),
                send(Packet::echo(Server, 7), R::NoRule),
                Flows(0),
            ],
        )
        .rules([allow(Traffic::Icmp { v4: (0, None), v6: (129, None) }, Peer::Near)]),
        case(
            "IPv4 timestamp request and reply",
            [
                send(Packet::icmp(Client, (13, 0), (13, 0)), R::NewFlow),
                send(Packet::icmp(Server, (14, 0), (14, 0)), R::Established),
            ],
        )
        .rules([allow(Traffic::Icmp { v4: (13, None), v6: (13, None) }, Peer::Near)])
        .family(Family::V4),
        case(
            "one ICMP code is allowed, its neighbours are not",
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
            "a whole ICMP type is allowed",
            [
                send(Packet::error(Client, (11, 0), (3, 0), Packet::udp(Server)), R::Admitted),
                send(Packet::error(Client, (11, 255), (3, 255), Packet::udp(Server)), R::Admitted),
                send(Packet::error(Client, (12, 0), (4, 0), Packet::udp(Server)), R::NoRule),
                send(Packet::error(Client, (10, 255), (2, 255), Packet::udp(Server)), R::NoRule),
            ],
        )
        .rules([allow(Traffic::Icmp { v4: (11, None), v6: (3, None) }, Peer::Near)]),
        case(
            "a redirect goes by the rules",
            [send(Packet::icmp(Client, (5, 1), (137, 0)), R::NoRule)],
        ),
        case(
            "a redirect that a rule allows",
            [send(Packet::icmp(Client, (5, 1), (137, 0)).hop_limit(255), R::Admitted)],
        )
        .rules([allow(Traffic::All, Peer::Near)]),
        case(
            "the other family's ICMP is a protocol without types",
            [send(Packet::raw(Client, 58), R::NoRule)],
        )
        .rules([allow(ECHO, Peer::Any)])
        .family(Family::V4),
        case(
            "the other family's ICMP is a protocol without types",
            [send(Packet::raw(Client, 1), R::NoRule)],
        )
        .rules([allow(ECHO, Peer::Any)])
        .family(Family::V6),
    ]
}

fn others() -> Vec<Case> {
    let gre = [allow(Traffic::Protocol(47), Peer::Near)];
    vec![
        case(
            "GRE out, GRE allow_reverse within its timeout, and after it",
            [
                send(Packet::raw(Client, 47), R::NewFlow),
                Flow(New, State::Other),
                Wait(599),
                send(Packet::raw(Server, 47), R::Established),
                Wait(599),
                send(Packet::raw(Client, 47), R::Established),
                Flow(Proven, State::Other),
                Wait(601),
                send(Packet::raw(Server, 47), R::NoRule),
                Flows(0),
            ],
        )
        .rules(gre),
        case(
            "one protocol is allowed, its neighbours are not",
            [
                send(Packet::raw(Client, 46), R::NoRule),
                send(Packet::raw(Client, 48), R::NoRule),
                send(Packet::raw(Client, 47).outside(Far), R::NoRule),
            ],
        )
        .rules(gre),
        case(
            "all protocols: SCTP, ESP, an experimental one, and one without a number yet",
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

fn full() -> Vec<Case> {
    vec![
        case(
            "the proven tier is full: the flow goes on in the new one, until there is room",
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
            "the proven tier is full: who is in it stays in it",
            connected([
                ProvenFull(true),
                send(data(Client), R::Established),
                Flow(Proven, State::Established),
                ProvenFull(false),
            ]),
        ),
    ]
}
