//! Fragments. A verdict is not remembered yet: what is not the first is dropped.

use firewall_ebpf::reason::Reason as R;

use super::{connected, syn};
use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{Layer, Packet};
use crate::decision::rules::{ECHO, Peer, What, allow};
use crate::decision::scene::Family::{V4, V6};
use crate::decision::scene::Role::Client;

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let udp = [
        allow(What::Udp(53, 53), Peer::Near),
        allow(What::Tcp(443, 443), Peer::Near),
        allow(ECHO, Peer::Near),
    ];
    let rest =
        |protocol, offset, more| Packet::raw(Client, protocol).data(64).fragment(offset, more);
    vec![
        case(
            "a first fragment with its whole TCP header is judged, the others are not yet",
            [
                send(syn().data(64).fragment(0, true), R::NewFlow),
                send(rest(6, 13, true), R::Fragment),
                send(rest(6, 21, false), R::Fragment),
                Flows(1),
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
                send(rest(17, 126, false), R::Fragment),
                send(Packet::echo(Client, 9).data(1000).fragment(0, true), R::NewFlow),
                send(rest(1, 126, false), R::Fragment),
                send(rest(58, 126, false), R::Fragment),
            ],
        )
        .rules(udp),
        case(
            "a later fragment of a proven flow",
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
