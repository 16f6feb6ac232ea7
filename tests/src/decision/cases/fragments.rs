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
    let later =
        |protocol, offset, more| Packet::raw(Client, protocol).data(64).fragment(offset, more);
    vec![
        case(
            "later fragments pass after a first one that passed",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 13, true), R::LaterFragment),
                send(later(6, 21, false), R::LaterFragment),
                send(later(6, 21, false), R::LaterFragment),
                Flows(1),
            ],
        ),
        case(
            "a later fragment before the first one is dropped",
            [
                send(later(6, 13, true), R::Fragment),
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 13, true), R::LaterFragment),
            ],
        ),
        case(
            "later fragments pass for 30 s after the first one",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                Wait(29),
                send(later(6, 13, true), R::LaterFragment),
                Wait(2),
                send(later(6, 21, false), R::Fragment),
            ],
        ),
        case(
            "later fragments of a dropped neighbour discovery message are dropped",
            [
                send(
                    Packet::icmp(Client, (8, 0), (135, 0)).hop_limit(255).fragment(0, true),
                    R::NeighbourDiscoveryInvalid,
                ),
                send(later(58, 13, false), R::Fragment),
            ],
        )
        .family(V6),
        case(
            "a fragment that overlaps the first one is dropped",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 2, true), R::FragmentOverlap),
                send(later(6, 12, true), R::FragmentOverlap),
                send(later(6, 13, false), R::LaterFragment),
            ],
        ),
        case(
            "a second first fragment is decided by its own ports and does not affect the others",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(syn().port(22).data(64).fragment(0, true), R::NoRule),
                send(later(6, 13, false), R::LaterFragment),
            ],
        ),
        case(
            "a later fragment of another host or direction is dropped",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 13, true).outside(Outside::Neighbour), R::Fragment),
                send(Packet::raw(Server, 6).data(64).fragment(13, true), R::Fragment),
            ],
        ),
        case(
            "a later fragment with another identification is dropped",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 13, true).edit(Layer::Ip, 4, &[0xab, 0xcd]), R::Fragment),
            ],
        )
        .family(V4),
        case(
            "a later fragment with another identification in either half is dropped",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 13, true).edit(Layer::Ip, 44, &[0xab, 0xcd]), R::Fragment),
                send(later(6, 13, true).edit(Layer::Ip, 46, &[0xab, 0xcd]), R::Fragment),
            ],
        )
        .family(V6),
        case(
            "a fragment beyond the maximal packet size is dropped",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(later(6, 8190, false), R::IpTotalLength),
            ],
        ),
        case(
            "later fragments of a dropped first one are dropped",
            [
                send(syn().port(80).fragment(0, true), R::NoRule),
                send(later(6, 5, false), R::Fragment),
                Flows(0),
            ],
        ),
        case(
            "first fragments of UDP and ICMP are decided by their headers",
            [
                send(Packet::udp(Client).port(53).data(1000).fragment(0, true), R::NewFlow),
                send(later(17, 126, false), R::LaterFragment),
                send(Packet::echo(Client, 9).data(1000).fragment(0, true), R::NewFlow),
            ],
        )
        .rules(udp),
        case(
            "a later fragment without its first one is dropped also in an established flow",
            connected([
                send(later(6, 100, false), R::Fragment),
                send(later(6, 1, false), R::TinyFragment),
            ]),
        ),
        case(
            "a first fragment without its whole transport header is dropped",
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
            "a TCP fragment at offset 8 is dropped (RFC 3128)",
            [
                send(later(6, 1, true), R::TinyFragment),
                send(later(6, 1, false), R::TinyFragment),
                // Not TCP: an ordinary later fragment.
                send(later(17, 1, false), R::Fragment),
            ],
        ),
        case(
            "a fragment with offset 0 that is the last one is a whole packet",
            [
                send(syn().fragment(0, false), R::NewFlow),
                send(syn().port(80).fragment(0, false), R::NoRule),
            ],
        ),
        case(
            "the reserved bit of IPv4 does not make a fragment",
            [send(syn().edit(Layer::Ip, 6, &[0x80, 0]), R::NewFlow)],
        )
        .family(V4),
        case(
            "a first fragment that ends within its extension headers is dropped",
            [send(syn().fragment(0, true).only(0).edit(Layer::Ip, 40, &[60]), R::TinyFragment)],
        )
        .family(V6),
        case(
            "a later fragment is not parsed for extension headers",
            [send(Packet::raw(Client, 60).data(64).fragment(10, false), R::Fragment)],
        )
        .family(V6),
    ]
}
