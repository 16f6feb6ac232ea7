//! ICMP errors: which belong to a flow by the packet they quote, and which are on their own.

use firewall_ebpf::flow::Tier::{New, Proven};
use firewall_ebpf::interface::{Direction, State as S_};
use firewall_ebpf::reason::Reason as R;

use super::{ack, connected, data, syn};
use crate::decision::case::Step::{Flow, Flows, Wait};
use crate::decision::case::{Case, Step, case, send};
use crate::decision::packet::{Extension, Layer, Packet};
use crate::decision::rules::{ECHO, Peer, Traffic, allow};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Outside;
use crate::decision::scenario::Role::{self, Client, Server};

/// Fragmentation needed, packet too big.
fn too_big(from: Role, about: Packet) -> Packet {
    Packet::error(from, (3, 4), (2, 0), about)
}

/// The port is unreachable.
fn no_port(from: Role, about: Packet) -> Packet {
    Packet::error(from, (3, 3), (1, 4), about)
}

/// The hop limit was reached on the way.
fn expired(from: Role, about: Packet) -> Packet {
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
            "about a packet of a proven flow, in either direction",
            connected([
                send(too_big(Client, data(Server)), R::Related),
                send(too_big(Server, data(Client)), R::Related),
                send(no_port(Server, data(Client)), R::Related),
                send(expired(Server, data(Client)), R::Related),
                send(Packet::error(Server, (12, 0), (4, 0), data(Client)), R::Related),
                Flow(Proven, S_::Established),
            ]),
        )
        .all_tcp_checks(),
        case(
            "about the SYN itself",
            [
                send(syn(), R::NewFlow),
                send(too_big(Server, syn()), R::Related),
                Flow(New, S_::SynSent),
            ],
        )
        .all_tcp_checks(),
        case(
            "about UDP, an echo request and another protocol",
            [
                send(udp(), R::NewFlow),
                send(no_port(Server, udp()), R::Related),
                send(Packet::echo(Client, 7), R::NewFlow),
                send(expired(Server, Packet::echo(Client, 7)), R::Related),
                send(expired(Server, Packet::echo(Client, 8)), R::NoRule),
                send(Packet::raw(Client, 47), R::NewFlow),
                send(expired(Server, Packet::raw(Client, 47)), R::Related),
                Flows(3),
            ],
        )
        .rules([
            allow(Traffic::Udp(53, 53), Peer::Near),
            allow(ECHO, Peer::Near),
            allow(Traffic::Protocol(47), Peer::Near),
        ]),
        case(
            "with IPv4 options before the embedded ports",
            connected([send(too_big(Server, data(Client).options(24)), R::Related)]),
        )
        .family(V4),
        case(
            "with extension headers before the embedded ports",
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
            "about a first fragment, which has the ports",
            connected([send(too_big(Server, data(Client).fragment(0, true)), R::Related)]),
        ),
        case(
            "the error itself behind options or extension headers",
            connected([send(too_big(Server, data(Client)).options(8), R::Related)]),
        )
        .family(V4),
        case(
            "errors keep no flow alive",
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

/// A router between the ends is no end itself.
fn on_the_path() -> Vec<Case> {
    let from_router = |error: Packet| error.outside(Outside::Far);
    // The error goes to the inside, which is the server if the client's packets are ingress.
    vec![
        case(
            "from a router on the path to the client",
            connected([
                send(from_router(too_big(Client, data(Server))), R::Related),
                send(from_router(expired(Client, data(Server))), R::Related),
            ]),
        )
        .client(Direction::Ingress),
        case(
            "from a router on the path to the server",
            connected([send(from_router(too_big(Server, data(Client))), R::Related)]),
        )
        .client(Direction::Egress),
    ]
}

fn unrelated() -> Vec<Case> {
    let only_too_big = Traffic::Icmp { v4: (3, Some(4)), v6: (2, Some(0)) };
    vec![
        case(
            "about a packet of no flow: the rules decide",
            [
                send(too_big(Client, data(Server)), R::Admitted),
                send(no_port(Client, data(Server)), R::NoRule),
                send(too_big(Server, data(Client)), R::NoRule),
                Flows(0),
            ],
        )
        .rules([allow(only_too_big, Peer::Near)]),
        case(
            "about another port, another host, the other direction",
            connected([
                send(too_big(Server, data(Client).ports(40_001, 443)), R::NoRule),
                send(too_big(Server, data(Client).port(444)), R::NoRule),
                send(too_big(Server, Packet::udp(Client)), R::NoRule),
            ]),
        ),
        case(
            "redirects and source quench are no errors of a flow",
            connected([
                send(Packet::error(Server, (5, 1), (137, 0), data(Client)), R::NoRule),
                send(Packet::error(Server, (5, 0), (137, 0), data(Client)), R::NoRule),
            ]),
        ),
        case(
            "about a later fragment, which has no ports",
            connected([send(
                too_big(Server, Packet::raw(Client, 6).data(64).fragment(9, true)),
                R::NoRule,
            )]),
        ),
        case(
            "about another error",
            connected([send(
                too_big(Server, no_port(Client, data(Server)).outside(Outside::Near)),
                R::NoRule,
            )]),
        ),
        // Id 0 makes the key that anything without ports and ids would have.
        about_no_id("an echo request has id 0; about an error, and about a later fragment", 1)
            .family(V4),
        about_no_id("an echo request has id 0; about an error, and about a later fragment", 58)
            .family(V6),
    ]
}

fn about_no_id(name: &'static str, icmp: u8) -> Case {
    let later = Packet::raw(Client, icmp).data(64).fragment(9, true);
    let steps = [
        send(Packet::echo(Client, 0), R::NewFlow),
        send(too_big(Server, Packet::echo(Client, 0)), R::Related),
        send(too_big(Server, later), R::NoRule),
        send(too_big(Server, no_port(Client, data(Server))), R::NoRule),
        send(too_big(Server, Packet::icmp(Client, (9, 0), (133, 0))), R::NoRule),
    ];
    case(name, steps).rules([allow(ECHO, Peer::Near)])
}

fn invalid() -> Vec<Case> {
    let cut: Vec<Step> = (0..8)
        .map(|bytes| send(too_big(Server, data(Client)).embedding(bytes), R::IcmpErrorInvalid))
        .collect();
    vec![
        case("less than eight bytes behind the embedded IP header", connected(cut)),
        case(
            "nothing embedded, and half an IP header",
            connected([
                send(too_big(Server, data(Client)).only(8), R::IcmpErrorInvalid),
                send(too_big(Server, data(Client)).only(18), R::IcmpErrorInvalid),
            ]),
        ),
        case(
            "padding behind the packet is not part of the quotation",
            connected([send(
                too_big(Server, data(Client)).embedding(4).padding(40),
                R::IcmpErrorInvalid,
            )]),
        ),
        case(
            "about a packet that its receiver did not send",
            connected([
                send(too_big(Server, data(Server)), R::IcmpErrorInvalid),
                send(too_big(Client, data(Client)), R::IcmpErrorInvalid),
            ]),
        ),
        case(
            "embedding what is no IP header",
            connected([send(
                too_big(Server, data(Client).edit(Layer::Ip, 0, &[0x12])),
                R::IcmpErrorInvalid,
            )]),
        ),
    ]
}
