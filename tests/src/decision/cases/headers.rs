//! Tags, IPv4 headers and transport headers: where the ports are, and what cannot be read.

use firewall_ebpf::reason::Reason as R;

use super::{C, connected, data, syn};
use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, case, send};
use crate::decision::packet::flags::{ACK, SYN};
use crate::decision::packet::{DOT1AD, DOT1Q, Layer, Packet};
use crate::decision::rules::{Peer, Traffic, allow};
use crate::decision::scenario::Family::V4;
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = tags();
    all.extend(v4());
    all.extend(transport());
    all
}

fn tags() -> Vec<Case> {
    let tagged = |tags: &[u16], packet: Packet| tags.iter().fold(packet, |p, &tag| p.tag(tag));
    let depths: [&[u16]; 6] = [
        &[DOT1Q],
        &[DOT1AD],
        &[DOT1AD, DOT1Q],
        &[DOT1Q, DOT1Q],
        &[DOT1Q, DOT1AD],
        &[DOT1AD, DOT1AD],
    ];
    let mut all: Vec<_> = depths
        .into_iter()
        .map(|tags| {
            case(
                "up to two tags: as without",
                [
                    send(tagged(tags, syn()), R::NewFlow),
                    send(tagged(tags, syn().port(80)), R::NoRule),
                    send(tagged(tags, super::syn_ack()), R::Established),
                    // The tag is no part of the flow.
                    send(super::handshake_ack(), R::Established),
                    Flows(1),
                ],
            )
        })
        .collect();
    let three = [DOT1AD, DOT1Q, DOT1Q];
    all.push(case("three tags", [send(tagged(&three, syn()), R::VlanDepth), Flows(0)]));
    let five = [DOT1Q; 5];
    all.push(case("five tags", [send(tagged(&five, syn()), R::VlanDepth), Flows(0)]));
    all
}

fn v4() -> Vec<Case> {
    let mut all: Vec<_> = (0..=10)
        .map(|words| {
            case(
                "IPv4 options: the port at its true offset decides",
                [
                    send(syn().options(words * 4), R::NewFlow),
                    send(syn().options(words * 4).port(80), R::NoRule),
                    send(
                        Packet::tcp(Server, SYN | ACK, 1, C.wrapping_add(1)).options(words * 4),
                        R::Established,
                    ),
                ],
            )
            .family(V4)
        })
        .collect();
    // Options that look like the ports of an allowed segment must not be taken for them.
    let decoy = [&443_u16.to_be_bytes()[..]; 10].concat();
    all.push(
        case(
            "IPv4 options in the shape of an allowed port",
            [send(syn().port(80).options(40).edit(Layer::Ip, 20, &decoy), R::NoRule)],
        )
        .family(V4),
    );
    all.extend((0..5_u8).map(|words| {
        case(
            "IPv4 header length under five words",
            [
                send(syn().edit(Layer::Ip, 0, &[0x40 | words]), R::IpHeaderLength),
                send(syn().options(40).edit(Layer::Ip, 0, &[0x40 | words]), R::IpHeaderLength),
            ],
        )
        .family(V4)
    }));
    all.extend([0, 19, 20, 39, 59].map(|total: u16| {
        let reason = match total {
            0 | 19 => R::IpTotalLength,
            // Inside the packet, but it leaves no room for the whole TCP header.
            _ => R::TcpHeader,
        };
        case(
            "IPv4 total length shorter than the headers",
            [send(syn().edit(Layer::Ip, 2, &total.to_be_bytes()), reason)],
        )
        .family(V4)
    }));
    all.push(
        case(
            "IPv4 header longer than the packet says it is",
            [send(
                syn().edit(Layer::Ip, 0, &[0x4f]).edit(Layer::Ip, 2, &[0, 59]),
                R::IpTotalLength,
            )],
        )
        .family(V4),
    );
    all.push(
        case(
            "IPv4 header longer than the frame",
            [send(Packet::raw(Client, 6).data(0).edit(Layer::Ip, 0, &[0x46]), R::IpTotalLength)],
        )
        .family(V4),
    );
    all.push(
        case(
            "IPv4 total length beyond the frame",
            [
                send(data(Client).edit(Layer::Ip, 2, &[0xff, 0xff]), R::IpTotalLength),
                send(data(Client).edit(Layer::Ip, 2, &141_u16.to_be_bytes()), R::IpTotalLength),
            ],
        )
        .family(V4),
    );
    all.extend([0x00, 0x15, 0x55, 0x65, 0xf5].map(|byte: u8| {
        case(
            "IPv4 frame with another version",
            [send(syn().edit(Layer::Ip, 0, &[byte]), R::IpVersion)],
        )
        .family(V4)
    }));
    all
}

fn transport() -> Vec<Case> {
    let everything = [allow(Traffic::All, Peer::Any)];
    let one = |name, packet: Packet, reason| {
        case(name, [send(packet, reason), Flows(0)]).rules(everything)
    };
    let mut all = vec![
        one("a cut TCP header", syn().only(19), R::TcpHeader),
        one("a TCP header without its options", syn().only(39), R::TcpHeader),
        one("nothing where TCP should be", syn().only(0), R::TcpHeader),
        one("a cut UDP header", Packet::udp(Client).only(7), R::UdpHeader),
        one("nothing where UDP should be", Packet::udp(Client).only(0), R::UdpHeader),
        one("a cut ICMP header", Packet::echo(Client, 1).only(7), R::IcmpHeader),
        one(
            "UDP length under eight",
            Packet::udp(Client).edit(Layer::Transport, 4, &[0, 7]),
            R::UdpHeader,
        ),
        one(
            "UDP length zero",
            Packet::udp(Client).edit(Layer::Transport, 4, &[0, 0]),
            R::UdpHeader,
        ),
    ];
    all.extend([0x00, 0x10, 0x4f].map(|offset: u8| {
        one(
            "a TCP header length under five words",
            syn().edit(Layer::Transport, 12, &[offset]),
            R::TcpHeader,
        )
    }));
    all.push(one(
        "a TCP header beyond the packet",
        syn().edit(Layer::Transport, 12, &[0xf0]),
        R::TcpHeader,
    ));
    all.push(
        case(
            "UDP length of one segment of several, as with offload",
            [send(Packet::udp(Client).data(1000).edit(Layer::Transport, 4, &[0, 108]), R::NewFlow)],
        )
        .rules(everything),
    );
    all.push(case(
        "padding behind the packet is no part of it",
        [
            send(syn().padding(6), R::NewFlow),
            send(super::syn_ack().padding(300), R::Established),
            send(super::handshake_ack().padding(6), R::Established),
        ],
    ));
    all.push(case(
        "headers are judged before flows: damage in a live flow is dropped too",
        connected([
            send(data(Client).only(19), R::TcpHeader),
            send(data(Server).edit(Layer::Transport, 12, &[0x40]), R::TcpHeader),
            send(data(Server), R::Established),
        ]),
    ));
    all
}
