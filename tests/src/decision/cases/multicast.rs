//! MLD and IGMP, which are decided without the rules.

use firewall_ebpf::abi::interface::Direction::{Egress, Ingress};
use firewall_ebpf::abi::reason::Reason as R;

use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{Extension, Layer, Packet};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Role::{self, Client, Server};

/// A message of MLD between its usual addresses.
pub(super) fn mld(from: Role, kind: u8) -> Packet {
    let group = if kind == 143 { "ff02::16" } else { "ff02::1:ff00:10" };
    bare(from, kind).extension(Extension::router_alert()).between("fe80::10", group)
}

/// The same without the router alert.
fn bare(from: Role, kind: u8) -> Packet {
    let packet = Packet::icmp(from, (0, 0), (kind, 0)).hop_limit(1);
    packet.data(16).between("fe80::10", "ff02::1")
}

/// A message of IGMP to a group.
pub(super) fn igmp(from: Role, kind: u8) -> Packet {
    let packet = Packet::raw(from, 2).data(8).hop_limit(1);
    packet.edit(Layer::Ip, 16, &[224, 0, 0, 251]).edit(Layer::Transport, 0, &[kind])
}

/// The cases; the client is a host inside, the server a router or switch.
#[must_use]
pub fn cases() -> Vec<Case> {
    let pass = |packet| send(packet, R::MulticastMembership);
    let drop = |packet| send(packet, R::NoRule);
    let mut all = Vec::new();
    let inside = |name, family, steps: Vec<_>| {
        case(name, steps.into_iter().chain([Flows(0)])).rules([]).family(family).client(Egress)
    };
    let late_alert = Extension { number: 0, bytes: vec![0, 0, 1, 0, 5, 2, 0, 0] };
    all.push(inside(
        "queries of MLD to the inside and reports from it pass without rules",
        V6,
        vec![
            pass(mld(Server, 130)),
            pass(mld(Server, 130).data(36).between("fe80::1", "ff02::1")),
            pass(mld(Server, 130).between("::", "ff02::1")),
            pass(mld(Client, 131)),
            pass(mld(Client, 132).between("fe80::10", "ff02::2")),
            pass(mld(Client, 143).data(20)),
            pass(mld(Client, 143).data(20).between("::", "ff02::16")),
            pass(bare(Client, 143).extension(late_alert)),
        ],
    ));
    let mut steps = Vec::new();
    for (from, kind) in [(Server, 130), (Client, 131), (Client, 132), (Client, 143)] {
        let valid = || mld(from, kind);
        steps.extend(
            [
                valid().hop_limit(2),
                valid().hop_limit(255),
                valid().between("2001:db8:1::10", "ff02::1"),
                valid().between("fe80::10", "2001:db8:2::7"),
                valid().between("fe80::10", "fe80::1"),
                valid().fragment(0, true),
                valid().edit(Layer::Transport, 1, &[1]),
                bare(from, kind),
                bare(from, kind).extension(Extension::hop_by_hop(1)),
                bare(from, kind).extension(Extension::destination(1)),
                valid().extension(Extension::destination(1)),
            ]
            .map(drop),
        );
        if kind != 143 {
            steps.push(drop(valid().data(12)));
        }
        if kind == 131 || kind == 132 {
            steps.push(drop(valid().data(17)));
        }
    }
    all.push(inside("MLD from beyond the link, or not valid, needs a rule", V6, steps));
    all.push(inside(
        "queries of IGMP to the inside and reports from it pass without rules",
        V4,
        vec![
            pass(igmp(Server, 0x11)),
            pass(igmp(Server, 0x11).data(12).options(4)),
            pass(igmp(Client, 0x12)),
            pass(igmp(Client, 0x16).options(4)),
            pass(igmp(Client, 0x17).options(4)),
            pass(igmp(Client, 0x22).data(16).options(4)),
        ],
    ));
    let mut steps = Vec::new();
    for (from, kind) in
        [(Server, 0x11), (Client, 0x12), (Client, 0x16), (Client, 0x17), (Client, 0x22)]
    {
        let valid = || igmp(from, kind);
        steps.extend(
            [
                valid().hop_limit(2),
                valid().data(7),
                valid().edit(Layer::Ip, 16, &[198, 51, 100, 7]),
                valid().fragment(0, true),
                valid().options(8),
            ]
            .map(drop),
        );
        if !matches!(kind, 0x11 | 0x22) {
            steps.push(drop(valid().data(9)));
        }
    }
    steps.push(drop(igmp(Client, 0x13)));
    all.push(inside("IGMP from beyond the link, or not valid, needs a rule", V4, steps));
    for (family, steps) in [
        (
            V6,
            [130, 131, 132, 143]
                .map(|kind| drop(mld(if kind == 130 { Server } else { Client }, kind)))
                .to_vec(),
        ),
        (
            V4,
            [0x11, 0x12, 0x16, 0x17, 0x22]
                .map(|kind| drop(igmp(if kind == 0x11 { Server } else { Client }, kind)))
                .to_vec(),
        ),
    ] {
        all.push(
            case("a querier inside, and members outside, need rules", steps)
                .rules([])
                .family(family)
                .client(Ingress),
        );
    }
    all
}
