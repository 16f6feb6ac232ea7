//! VLAN tags, IPv4 headers and transport headers: the offset of the ports, and malformed packets.

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
                "up to two VLAN tags change no result",
                [
                    send(tagged(tags, syn()), R::NewFlow),
                    send(tagged(tags, syn().port(80)), R::NoRule),
                    send(tagged(tags, super::syn_ack()), R::Established),
                    // The tag is not part of the flow key.
                    send(super::handshake_ack(), R::Established),
                    Flows(1),
                ],
            )
        })
        .collect();
    let three = [DOT1AD, DOT1Q, DOT1Q];
    all.push(case(
        "three VLAN tags are dropped",
        [send(tagged(&three, syn()), R::VlanDepth), Flows(0)],
    ));
    let five = [DOT1Q; 5];
    all.push(case(
        "five VLAN tags are dropped",
        [send(tagged(&five, syn()), R::VlanDepth), Flows(0)],
    ));
    all
}

fn v4() -> Vec<Case> {
    let mut all: Vec<_> = (0..=10)
        .map(|words| {
            case(
                "the port after IPv4 options decides",
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
    // Options that contain an allowed port must not be read as ports.
    let decoy = [&443_u16.to_be_bytes()[..]; 10].concat();
    all.push(
        case(
            "IPv4 options with the bytes of an allowed port do not allow the packet",
            [send(syn().port(80).options(40).edit(Layer::Ip, 20, &decoy), R::NoRule)],
        )
        .family(V4),
    );
    all.extend((0..5_u8).map(|words| {
        case(
            "an IPv4 header length under five words is dropped",
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
            // Valid for IPv4, but shorter than the TCP header.
            _ => R::TcpHeader,
        };
        case(
            "an IPv4 total length shorter than the headers is dropped",
            [send(syn().edit(Layer::Ip, 2, &total.to_be_bytes()), reason)],
        )
        .family(V4)
    }));
    all.push(
        case(
            "an IPv4 header longer than the total length is dropped",
            [send(
                syn().edit(Layer::Ip, 0, &[0x4f]).edit(Layer::Ip, 2, &[0, 59]),
                R::IpTotalLength,
            )],
        )
        .family(V4),
    );
    all.push(
        case(
            "an IPv4 header longer than the frame is dropped",
            [send(Packet::raw(Client, 6).data(0).edit(Layer::Ip, 0, &[0x46]), R::IpTotalLength)],
        )
        .family(V4),
    );
    all.push(
        case(
            "an IPv4 total length beyond the frame is dropped",
            [
                send(data(Client).edit(Layer::Ip, 2, &[0xff, 0xff]), R::IpTotalLength),
                send(data(Client).edit(Layer::Ip, 2, &141_u16.to_be_bytes()), R::IpTotalLength),
            ],
        )
        .family(V4),
    );
    all.extend([0x00, 0x15, 0x55, 0x65, 0xf5].map(|byte: u8| {
        case(
            "an IPv4 frame with another version is dropped",
            [send(syn().edit(Layer::Ip, 0, &[byte]), R::IpVersion)],
        )
        .family(V4)
    }));
    all
}

fn transport() -> Vec<Case> {
    let all_rules = [allow(Traffic::All, Peer::Any)];
    let one = |name, packet: Packet, reason| {
        case(name, [send(packet, reason), Flows(0)]).rules(all_rules)
    };
    let mut all = vec![
        one("a truncated TCP header is dropped", syn().only(19), R::TcpHeader),
        one("a TCP header without its options is dropped", syn().only(39), R::TcpHeader),
        one("a missing TCP header is dropped", syn().only(0), R::TcpHeader),
        one("a truncated UDP header is dropped", Packet::udp(Client).only(7), R::UdpHeader),
        one("a missing UDP header is dropped", Packet::udp(Client).only(0), R::UdpHeader),
        one("a truncated ICMP header is dropped", Packet::echo(Client, 1).only(7), R::IcmpHeader),
        one(
            "a UDP length under eight is dropped",
            Packet::udp(Client).edit(Layer::Transport, 4, &[0, 7]),
            R::UdpHeader,
        ),
        one(
            "a UDP length of zero is dropped",
            Packet::udp(Client).edit(Layer::Transport, 4, &[0, 0]),
            R::UdpHeader,
        ),
    ];
    all.extend([0x00, 0x10, 0x4f].map(|offset: u8| {
        one(
            "a TCP header length under five words is dropped",
            syn().edit(Layer::Transport, 12, &[offset]),
            R::TcpHeader,
        )
    }));
    all.push(one(
        "a TCP header longer than the packet is dropped",
        syn().edit(Layer::Transport, 12, &[0xf0]),
        R::TcpHeader,
    ));
    all.push(
        case(
            "a UDP length below the IP length is accepted, as with segmentation offload",
            [send(Packet::udp(Client).data(1000).edit(Layer::Transport, 4, &[0, 108]), R::NewFlow)],
        )
        .rules(all_rules),
    );
    all.push(case(
        "padding after the packet is ignored",
        [
            send(syn().padding(6), R::NewFlow),
            send(super::syn_ack().padding(300), R::Established),
            send(super::handshake_ack().padding(6), R::Established),
        ],
    ));
    all.push(case(
        "a malformed header is dropped also in an established flow",
        connected([
            send(data(Client).only(19), R::TcpHeader),
            send(data(Server).edit(Layer::Transport, 12, &[0x40]), R::TcpHeader),
            send(data(Server), R::Established),
        ]),
    ));
    all
}
