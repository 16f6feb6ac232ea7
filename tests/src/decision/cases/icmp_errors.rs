//! ICMP errors: related to a flow by their embedded packet, unrelated or invalid.

use firewall_ebpf::abi::flow::Tier::{New, Proven};
use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason as R;
use firewall_ebpf::abi::state::State as S_;

use super::{ack, connected, data, syn};
use crate::decision::case::Step::{Flow, Flows, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::{Extension, Layer, Packet};
use crate::decision::rules::{ECHO, Peer, Traffic, allow};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Outside;
use crate::decision::scenario::Role::{self, Client, Server};

/// Fragmentation needed, or packet too big.
pub(super) fn too_big(from: Role, about: Packet) -> Packet {
    Packet::error(from, (3, 4), (2, 0), about)
}

/// Port unreachable.
fn port_unreachable(from: Role, about: Packet) -> Packet {
    Packet::error(from, (3, 3), (1, 4), about)
}

/// Time exceeded.
fn time_exceeded(from: Role, about: Packet) -> Packet {
    Packet::error(from, (11, 0), (3, 0), about)
}

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = related();
    all.extend(on_the_path());
    all.extend(unrelated());
    all.extend(invalid());
    all
}

fn related() -> Vec<Case> {
    let udp = || Packet::udp(Client).port(53);
    vec![
        case(
            "an error about an established flow is related in both directions",
            connected([
                send(too_big(Client, data(Server)), R::Related),
                send(too_big(Server, data(Client)), R::Related),
                send(port_unreachable(Server, data(Client)), R::Related),
                send(time_exceeded(Server, data(Client)), R::Related),
                send(Packet::error(Server, (12, 0), (4, 0), data(Client)), R::Related),
                Flow(Proven, S_::Established),
            ]),
        )
        .all_tcp_checks(),
        case(
            "an error about a SYN is related",
            [
                send(syn(), R::NewFlow),
                send(too_big(Server, syn()), R::Related),
                Flow(New, S_::SynSent),
            ],
        )
        .all_tcp_checks(),
        case(
            "an error about UDP, an echo request or another protocol is related",
            [
                send(udp(), R::NewFlow),
                send(port_unreachable(Server, udp()), R::Related),
                send(Packet::echo(Client, 7), R::NewFlow),
                send(time_exceeded(Server, Packet::echo(Client, 7)), R::Related),
                send(time_exceeded(Server, Packet::echo(Client, 8)), R::NoRule),
                send(Packet::raw(Client, 47), R::NewFlow),
                send(time_exceeded(Server, Packet::raw(Client, 47)), R::Related),
                Flows(3),
            ],
        )
        .rules([
            allow(Traffic::Udp(53, 53), Peer::Near),
            allow(ECHO, Peer::Near),
            allow(Traffic::Protocol(47), Peer::Near),
        ]),
        case(
            "an error about a packet with IPv4 options is related",
            connected([send(too_big(Server, data(Client).options(24)), R::Related)]),
        )
        .family(V4),
        case(
            "an error about a packet with extension headers is related",
            connected([send(
                too_big(
                    Server,
                    data(Client)
                        .extension(Extension::hop_by_hop(1))
                        .extension(Extension::destination(2)),
                ),
                R::Related,
            )]),
        )
        .family(V6),
        case(
            "an error about a first fragment is related",
            connected([send(too_big(Server, data(Client).fragment(0, true)), R::Related)]),
        ),
        case(
            "an error after IPv4 options is related",
            connected([send(too_big(Server, data(Client)).options(8), R::Related)]),
        )
        .family(V4),
        case(
            "an error does not refresh the flow",
            connected([
                Wait(431_990),
                send(too_big(Server, data(Client)), R::Related),
                Wait(20),
                send(too_big(Server, data(Client)), R::NoRule),
                send(ack(Server), R::NoRule),
                Flows(0),
            ]),
        ),
    ]
}

/// Errors of a router between both ends, from an address of neither.
fn on_the_path() -> Vec<Case> {
    let from_router = |error: Packet| error.outside(Outside::Far);
    // The inside host receives the error: it is the server if the client's packets are ingress.
    vec![
        case(
            "an error of a router about a packet to the client is related",
            connected([
                send(from_router(too_big(Client, data(Server))), R::Related),
                send(from_router(time_exceeded(Client, data(Server))), R::Related),
            ]),
        )
        .client(Direction::Ingress),
        case(
            "an error of a router about a packet to the server is related",
            connected([send(from_router(too_big(Server, data(Client))), R::Related)]),
        )
        .client(Direction::Egress),
    ]
}

fn unrelated() -> Vec<Case> {
    let only_too_big = Traffic::Icmp { v4: (3, Some(4)), v6: (2, Some(0)) };
    vec![
        case(
            "an error about a packet without a flow needs a rule",
            [
                send(too_big(Client, data(Server)), R::Admitted),
                send(port_unreachable(Client, data(Server)), R::NoRule),
                send(too_big(Server, data(Client)), R::NoRule),
                Flows(0),
            ],
        )
        .rules([allow(only_too_big, Peer::Near)]),
        case(
            "an error about another port or protocol is not related",
            connected([
                send(too_big(Server, data(Client).ports(40_001, 443)), R::NoRule),
                send(too_big(Server, data(Client).port(444)), R::NoRule),
                send(too_big(Server, Packet::udp(Client)), R::NoRule),
            ]),
        ),
        case(
            "a redirect about a flow is not related",
            connected([
                send(Packet::error(Server, (5, 1), (137, 0), data(Client)), R::NoRule),
                send(Packet::error(Server, (5, 0), (137, 0), data(Client)), R::NoRule),
            ]),
        ),
        case(
            "an error about a later fragment is not related",
            connected([send(
                too_big(Server, Packet::raw(Client, 6).data(64).fragment(9, true)),
                R::NoRule,
            )]),
        ),
        case(
            "an error about an error is not related",
            connected([send(
                too_big(Server, port_unreachable(Client, data(Server)).outside(Outside::Near)),
                R::NoRule,
            )]),
        ),
        // Identifier 0 gives the same key as a packet without ports and identifier.
        about_identifier_0("an error about a later fragment or an error does not match an echo flow with identifier 0", 1)
            .family(V4),
        about_identifier_0("an error about a later fragment or an error does not match an echo flow with identifier 0", 58)
            .family(V6),
    ]
}

fn about_identifier_0(name: &'static str, icmp: u8) -> Case {
    let later = Packet::raw(Client, icmp).data(64).fragment(9, true);
    let steps = [
        send(Packet::echo(Client, 0), R::NewFlow),
        send(too_big(Server, Packet::echo(Client, 0)), R::Related),
        send(too_big(Server, later), R::NoRule),
        send(too_big(Server, port_unreachable(Client, data(Server))), R::NoRule),
        send(too_big(Server, Packet::icmp(Client, (9, 0), (133, 0))), R::NoRule),
    ];
    case(name, steps).rules([allow(ECHO, Peer::Near)])
}

fn invalid() -> Vec<Case> {
    let truncated: Vec<Step> = (0..8)
        .map(|bytes| send(too_big(Server, data(Client)).embedding(bytes), R::IcmpErrorInvalid))
        .collect();
    vec![
        case(
            "an error with less than eight bytes after the embedded IP header is dropped",
            connected(truncated),
        ),
        case(
            "an error without a whole embedded IP header is dropped",
            connected([
                send(too_big(Server, data(Client)).only(8), R::IcmpErrorInvalid),
                send(too_big(Server, data(Client)).only(18), R::IcmpErrorInvalid),
            ]),
        ),
        case(
            "padding is not part of the embedded packet",
            connected([send(
                too_big(Server, data(Client)).embedding(4).padding(40),
                R::IcmpErrorInvalid,
            )]),
        ),
        case(
            "an error about a packet that its receiver did not send is dropped",
            connected([
                send(too_big(Server, data(Server)), R::IcmpErrorInvalid),
                send(too_big(Client, data(Client)), R::IcmpErrorInvalid),
            ]),
        ),
        case(
            "an error with an invalid embedded IP header is dropped",
            connected([send(
                too_big(Server, data(Client).edit(Layer::Ip, 0, &[0x12])),
                R::IcmpErrorInvalid,
            )]),
        ),
    ]
}
