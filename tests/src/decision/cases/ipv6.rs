//! IPv6 extension headers: the port at its true offset decides, or the packet is dropped.

use firewall_ebpf::reason::Reason as R;

use super::{handshake_ack, syn, syn_ack};
use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{Extension, Layer, Packet};
use crate::decision::scenario::Family::V6;
use crate::decision::scenario::Role::Client;

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = read();
    all.extend(refused());
    all
}

fn read() -> Vec<Case> {
    let e = Extension::hop_by_hop;
    let d = Extension::destination;
    let chains: Vec<(&'static str, Vec<Extension>)> = vec![
        ("hop-by-hop options", vec![e(1)]),
        ("long hop-by-hop options", vec![e(32)]),
        ("destination options", vec![d(1)]),
        ("hop-by-hop, then destination options", vec![e(2), d(3)]),
        ("destination, routing, destination options", vec![d(1), Extension::routing(2), d(1)]),
        ("segment routing", vec![Extension::routing(4)]),
        ("authentication header, 12 bytes", vec![Extension::authentication(3)]),
        ("authentication header, 24 bytes", vec![Extension::authentication(6)]),
        ("authentication header, 28 bytes", vec![Extension::authentication(7)]),
        ("authentication between options", vec![e(1), Extension::authentication(6), d(1)]),
        ("mobility header", vec![Extension::mobility()]),
        ("host identity header", vec![Extension::hip()]),
        ("shim6 header", vec![Extension::shim6()]),
        ("atomic fragment", vec![Extension::fragment(0, false)]),
        ("atomic fragment behind options", vec![e(1), Extension::fragment(0, false), d(2)]),
        ("eight headers", vec![e(1), d(1), d(1), d(1), d(1), d(1), d(1), d(1)]),
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

fn refused() -> Vec<Case> {
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
        one("nine extension headers", nine, R::ExtensionHeaders),
        one("nine extension headers, the ninth beyond the packet", ninth, R::ExtensionHeaders),
        one("thirty extension headers", thirty, R::ExtensionHeaders),
        one(
            "hop-by-hop in second place",
            syn().extension(d(1)).extension(e(1)),
            R::ExtensionHeaders,
        ),
        one("two hop-by-hop headers", syn().extension(e(1)).extension(e(1)), R::ExtensionHeaders),
        one("routing header type 0", syn().extension(routing0()), R::RoutingHeader0),
        one(
            "routing header type 0 behind options",
            syn().extension(e(1)).extension(routing0()),
            R::RoutingHeader0,
        ),
        one("no next header", Packet::raw(Client, 59), R::NoNextHeader),
        one("no next header, and nothing", Packet::raw(Client, 59).data(0), R::NoNextHeader),
        one(
            "no next header behind options",
            Packet::raw(Client, 59).extension(d(1)),
            R::NoNextHeader,
        ),
        one(
            "no next header on an allowed service",
            syn().edit(Layer::Ip, 6, &[59]),
            R::NoNextHeader,
        ),
        one(
            "options longer than the packet",
            syn().extension(d(1).length_field(200)),
            R::IpTotalLength,
        ),
        one("options that end inside TCP", syn().extension(d(1).length_field(2)), R::TcpHeader),
        one(
            "an options header with nothing behind it",
            Packet::raw(Client, 60).data(0),
            R::IpTotalLength,
        ),
        one("an options header of seven bytes", Packet::raw(Client, 60).data(7), R::IpTotalLength),
        // Read in 8-byte units this one would end beyond the packet, in 4-byte units it ends in it.
        one(
            "authentication longer than the packet",
            syn().extension(Extension::authentication(3).length_field(20)),
            R::IpTotalLength,
        ),
        one(
            "payload length beyond the frame",
            syn().edit(Layer::Ip, 4, &[0xff, 0xff]),
            R::IpTotalLength,
        ),
        // The jumbo payload option is not understood: a length of 0 is no TCP segment.
        one("payload length 0", syn().edit(Layer::Ip, 4, &[0, 0]), R::TcpHeader),
        one("version 4 in an IPv6 frame", syn().edit(Layer::Ip, 0, &[0x45]), R::IpVersion),
        one("version 0 in an IPv6 frame", syn().edit(Layer::Ip, 0, &[0x00]), R::IpVersion),
    ]
}
