//! Fragments: the later ones get the verdict of the first.

use firewall_ebpf::reason::Reason as R;

use super::{connected, syn};
use crate::decision::case::Step::{Flows, Wait};
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{Layer, Packet};
use crate::decision::rules::{ECHO, Peer, Traffic, allow};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Outside;
use crate::decision::scenario::Role::{Client, Server};

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let udp = [
        allow(Traffic::Udp(53, 53), Peer::Near),
        allow(Traffic::Tcp(443, 443), Peer::Near),
        allow(ECHO, Peer::Near),
    ];
    let rest =
        |protocol, offset, more| Packet::raw(Client, protocol).data(64).fragment(offset, more);
    vec![
        case(
            "a first fragment with its whole TCP header is judged, and the others follow it",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 13, true), R::LaterFragment),
                send(rest(6, 21, false), R::LaterFragment),
                send(rest(6, 21, false), R::LaterFragment),
                Flows(1),
            ],
        ),
        case(
            "out of order: what comes before the first is dropped",
            [
                send(rest(6, 13, true), R::Fragment),
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 13, true), R::LaterFragment),
            ],
        ),
        case(
            "remembered for half a minute",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                Wait(29),
                send(rest(6, 13, true), R::LaterFragment),
                Wait(2),
                send(rest(6, 21, false), R::Fragment),
            ],
        ),
        case(
            "a first fragment that was exempt from the rules and dropped speaks for no other",
            [
                send(
                    Packet::icmp(Client, (8, 0), (135, 0)).hop_limit(255).fragment(0, true),
                    R::NeighbourDiscoveryInvalid,
                ),
                send(rest(58, 13, false), R::Fragment),
            ],
        )
        .family(V6),
        case(
            "a fragment that covers bytes of the first again",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 2, true), R::FragmentOverlap),
                send(rest(6, 12, true), R::FragmentOverlap),
                send(rest(6, 13, false), R::LaterFragment),
            ],
        ),
        case(
            "a second first fragment with other ports is judged by them, and spoils nothing",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(syn().port(22).data(64).fragment(0, true), R::NoRule),
                send(rest(6, 13, false), R::LaterFragment),
            ],
        ),
        case(
            "of another packet, another host, the other direction",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 13, true).outside(Outside::Neighbour), R::Fragment),
                send(Packet::raw(Server, 6).data(64).fragment(13, true), R::Fragment),
            ],
        ),
        case(
            "of a packet with another identification",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 13, true).edit(Layer::Ip, 4, &[0xab, 0xcd]), R::Fragment),
            ],
        )
        .family(V4),
        case(
            "of a packet with another identification, of which each half counts",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 13, true).edit(Layer::Ip, 44, &[0xab, 0xcd]), R::Fragment),
                send(rest(6, 13, true).edit(Layer::Ip, 46, &[0xab, 0xcd]), R::Fragment),
            ],
        )
        .family(V6),
        case(
            "beyond the largest packet",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 8190, false), R::IpTotalLength),
            ],
        ),
        case(
            "a first fragment that no rule allows",
            [
                send(syn().port(80).fragment(0, true), R::NoRule),
                send(rest(6, 5, false), R::Fragment),
                Flows(0),
            ],
        ),
        case(
            "first fragments of UDP and ICMP",
            [
                send(Packet::udp(Client).port(53).data(1000).fragment(0, true), R::NewFlow),
                send(rest(17, 126, false), R::LaterFragment),
                send(Packet::echo(Client, 9).data(1000).fragment(0, true), R::NewFlow),
            ],
        )
        .rules(udp),
        case(
            "a later fragment of a proven flow, without its first",
            connected([
                send(rest(6, 100, false), R::Fragment),
                send(rest(6, 1, false), R::TinyFragment),
            ]),
        ),
        case(
            "tiny first fragments: eight bytes, nineteen bytes, options missing",
            [
                send(syn().only(8).fragment(0, true), R::TinyFragment),
                send(syn().only(19).fragment(0, true), R::TinyFragment),
                send(syn().only(32).fragment(0, true), R::TinyFragment),
                send(syn().only(0).fragment(0, true), R::TinyFragment),
                send(Packet::udp(Client).port(53).only(7).fragment(0, true), R::TinyFragment),
                send(Packet::echo(Client, 1).only(7).fragment(0, true), R::TinyFragment),
                Flows(0),
            ],
        )
        .rules(udp),
        case(
            "TCP at offset 8 (RFC 3128)",
            [
                send(rest(6, 1, true), R::TinyFragment),
                send(rest(6, 1, false), R::TinyFragment),
                // Of other protocols it is a fragment like any other.
                send(rest(17, 1, false), R::Fragment),
            ],
        ),
        case(
            "not fragmented after all: offset 0 and nothing follows",
            [
                send(syn().fragment(0, false), R::NewFlow),
                send(syn().port(80).fragment(0, false), R::NoRule),
            ],
        ),
        case(
            "the reserved bit of IPv4 is no fragment",
            [send(syn().edit(Layer::Ip, 6, &[0x80, 0]), R::NewFlow)],
        )
        .family(V4),
        case(
            "extension headers cut by fragmentation",
            [send(syn().fragment(0, true).only(0).edit(Layer::Ip, 40, &[60]), R::TinyFragment)],
        )
        .family(V6),
        case(
            "a later fragment is not walked for extension headers",
            [send(Packet::raw(Client, 60).data(64).fragment(10, false), R::Fragment)],
        )
        .family(V6),
    ]
}
