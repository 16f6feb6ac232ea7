//! IPv6 extension headers: the port after them decides, or the packet is dropped.

use firewall_ebpf::abi::reason::Reason as R;

use super::{handshake_ack, syn, syn_ack};
use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{Extension, Layer, Packet};
use crate::decision::rules::{Peer, Traffic, allow};
use crate::decision::scenario::Family::V6;
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = parsed();
    all.extend(dropped());
    all.extend(final_headers());
    all
}

fn parsed() -> Vec<Case> {
    let e = Extension::hop_by_hop;
    let d = Extension::destination;
    let chains: Vec<(&'static str, Vec<Extension>)> = vec![
        ("the port after hop-by-hop options decides", vec![e(1)]),
        ("the port after long hop-by-hop options decides", vec![e(32)]),
        ("the port after destination options decides", vec![d(1)]),
        ("the port after hop-by-hop and destination options decides", vec![e(2), d(3)]),
        (
            "the port after destination, routing and destination options decides",
            vec![d(1), Extension::routing(2), d(1)],
        ),
        ("the port after a segment routing header decides", vec![Extension::routing(4)]),
        (
            "the port after an authentication header of 12 bytes decides",
            vec![Extension::authentication(3)],
        ),
        (
            "the port after an authentication header of 24 bytes decides",
            vec![Extension::authentication(6)],
        ),
        (
            "the port after an authentication header of 28 bytes decides",
            vec![Extension::authentication(7)],
        ),
        (
            "the port after an authentication header between options decides",
            vec![e(1), Extension::authentication(6), d(1)],
        ),
        ("the port after a shim6 header decides", vec![Extension::shim6()]),
        ("the port after an atomic fragment header decides", vec![Extension::fragment(0, false)]),
        (
            "the port after options and an atomic fragment header decides",
            vec![e(1), Extension::fragment(0, false), d(2)],
        ),
        (
            "the port after eight extension headers decides",
            vec![e(1), d(1), d(1), d(1), d(1), d(1), d(1), d(1)],
        ),
    ];
    let with = |chain: &[Extension], packet: Packet| {
        chain.iter().fold(packet, |packet, header| packet.extension(header.clone()))
    };
    chains
        .into_iter()
        .map(|(name, chain)| {
            case(
                name,
                [
                    send(with(&chain, syn()), R::NewFlow),
                    send(with(&chain, syn().port(80)), R::NoRule),
                    send(with(&chain, syn_ack()), R::Established),
                    send(handshake_ack(), R::Established),
                    send(with(&chain, Packet::udp(Client)), R::NoRule),
                    Flows(1),
                ],
            )
            .family(V6)
        })
        .collect()
}

/// Mobility and HIP headers, after which nothing follows, are protocols that rules name.
fn final_headers() -> Vec<Case> {
    [(135, Extension::mobility()), (139, Extension::hip())]
        .into_iter()
        .map(|(number, header)| {
            let alone = Packet::raw(Client, 59).data(0).extension(header.clone());
            let named = |number| [allow(Traffic::Protocol(number), Peer::Near)];
            [
                case(
                    "a rule for a mobility or HIP header allows it",
                    [
                        send(alone.clone(), R::NewFlow),
                        send(
                            Packet::raw(Server, 59).data(0).extension(header.clone()),
                            R::Established,
                        ),
                        send(Packet::raw(Client, number), R::Established),
                        // Its data is not taken for a transport header.
                        send(syn().extension(header), R::Established),
                        Flows(1),
                    ],
                )
                .rules(named(number))
                .family(V6),
                case("a mobility or HIP header needs a rule of its own", [send(alone, R::NoRule)])
                    .rules([
                        allow(Traffic::Tcp(0, u16::MAX), Peer::Any),
                        allow(Traffic::Protocol(59), Peer::Any),
                    ])
                    .family(V6),
            ]
        })
        .collect::<Vec<_>>()
        .concat()
}

fn dropped() -> Vec<Case> {
    let e = Extension::hop_by_hop;
    let d = Extension::destination;
    let nine = (0..9).fold(syn(), |packet, _| packet.extension(d(1)));
    let ninth = (0..8).fold(syn(), |packet, _| packet.extension(d(1)));
    let ninth = ninth.extension(d(1).length_field(255));
    let thirty = (0..30).fold(syn(), |packet, _| packet.extension(d(1)));
    let routing0 = || Extension::routing(0);
    let one =
        |name, packet: Packet, reason| case(name, [send(packet, reason), Flows(0)]).family(V6);
    vec![
        one("nine extension headers are dropped", nine, R::ExtensionHeaders),
        one(
            "nine extension headers, the ninth longer than the packet, are dropped",
            ninth,
            R::ExtensionHeaders,
        ),
        one("thirty extension headers are dropped", thirty, R::ExtensionHeaders),
        one(
            "a hop-by-hop header in second place is dropped",
            syn().extension(d(1)).extension(e(1)),
            R::ExtensionHeaders,
        ),
        one(
            "two hop-by-hop headers are dropped",
            syn().extension(e(1)).extension(e(1)),
            R::ExtensionHeaders,
        ),
        one(
            "a routing header of type 0 is dropped",
            syn().extension(routing0()),
            R::RoutingHeader0,
        ),
        one(
            "a routing header of type 0 after options is dropped",
            syn().extension(e(1)).extension(routing0()),
            R::RoutingHeader0,
        ),
        one("no next header is dropped", Packet::raw(Client, 59), R::NoNextHeader),
        one(
            "no next header without payload is dropped",
            Packet::raw(Client, 59).data(0),
            R::NoNextHeader,
        ),
        one(
            "no next header after options is dropped",
            Packet::raw(Client, 59).extension(d(1)),
            R::NoNextHeader,
        ),
        one(
            "no next header is dropped before an allowed TCP header",
            syn().edit(Layer::Ip, 6, &[59]),
            R::NoNextHeader,
        ),
        one(
            "options longer than the packet are dropped",
            syn().extension(d(1).length_field(200)),
            R::IpTotalLength,
        ),
        one(
            "options that overlap the TCP header are dropped",
            syn().extension(d(1).length_field(2)),
            R::TcpHeader,
        ),
        one(
            "an options header without bytes is dropped",
            Packet::raw(Client, 60).data(0),
            R::IpTotalLength,
        ),
        one(
            "an options header of seven bytes is dropped",
            Packet::raw(Client, 60).data(7),
            R::IpTotalLength,
        ),
        // In 8-byte units this length would be beyond the packet; in 4-byte units it is within.
        one(
            "an authentication header longer than the packet is dropped",
            syn().extension(Extension::authentication(3).length_field(20)),
            R::IpTotalLength,
        ),
        one(
            "a payload length beyond the frame is dropped",
            syn().edit(Layer::Ip, 4, &[0xff, 0xff]),
            R::IpTotalLength,
        ),
        // The jumbo payload option is not supported: a length of 0 contains no TCP header.
        one("a payload length of 0 is dropped", syn().edit(Layer::Ip, 4, &[0, 0]), R::TcpHeader),
        one(
            "version 4 in an IPv6 frame is dropped",
            syn().edit(Layer::Ip, 0, &[0x45]),
            R::IpVersion,
        ),
        one(
            "version 0 in an IPv6 frame is dropped",
            syn().edit(Layer::Ip, 0, &[0x00]),
            R::IpVersion,
        ),
    ]
}
