//! Packets that are decided without the rules.

use firewall_ebpf::interface::Direction::{Egress, Ingress};
use firewall_ebpf::reason::Reason as R;

use super::syn;
use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{DOT1Q, Extension, Packet};
use crate::decision::rules::{Peer, Traffic, allow};
use crate::decision::scenario::Family::{V4, V6};
use crate::decision::scenario::Role::{Client, Server};

/// ARP's EtherType.
pub const ARP: u16 = 0x0806;
/// LLDP's EtherType.
pub const LLDP: u16 = 0x88cc;
/// EAPOL's EtherType.
pub const EAPOL: u16 = 0x888e;
/// The EtherType of the slow protocols: LACP and OAM.
pub const SLOW_PROTOCOLS: u16 = 0x8809;
/// An 802.3 frame of 38 bytes with an LLC header: spanning tree.
pub const LLC: u16 = 38;
/// MPLS, which can carry IP that the rules do not see.
pub const MPLS: u16 = 0x8847;
/// PPPoE, which can carry IP that the rules do not see.
pub const PPPOE: u16 = 0x8864;

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = link();
    all.extend(neighbour_discovery());
    all.extend(dhcp());
    all
}

fn link() -> Vec<Case> {
    let both = |kind, reason| {
        [
            send(Packet::link(Client, kind), reason),
            send(Packet::link(Server, kind), reason),
            Flows(0),
        ]
    };
    vec![
        case("ARP passes without rules", both(ARP, R::Arp)).rules([]),
        case(
            "ARP in a VLAN passes without rules",
            [send(Packet::link(Client, ARP).tag(DOT1Q), R::Arp)],
        )
        .rules([]),
        case("ARP passes without a policy", both(ARP, R::Arp)).without_policy(),
        case("LLDP passes without rules", both(LLDP, R::LinkControl)).rules([]),
        case("EAPOL passes without rules", both(EAPOL, R::LinkControl)).rules([]),
        case("LACP passes without rules", both(SLOW_PROTOCOLS, R::LinkControl)).rules([]),
        case("spanning tree passes without rules", both(LLC, R::LinkControl)).rules([]),
        case("LLC with the largest length passes without rules", both(0x05ff, R::LinkControl))
            .rules([]),
        case("the lowest EtherType is not taken for an LLC length", both(0x0600, R::NonIp)),
        case("MPLS is dropped by all rules", both(MPLS, R::NonIp))
            .rules([allow(Traffic::All, Peer::Any)]),
        case("PPPoE is dropped by all rules", both(PPPOE, R::NonIp))
            .rules([allow(Traffic::All, Peer::Any)]),
        case("an unknown EtherType is dropped", both(0xffff, R::NonIp)),
    ]
}

fn neighbour_discovery() -> Vec<Case> {
    let message = |from, kind| Packet::icmp(from, (0, 0), (kind, 0)).hop_limit(255);
    let mut all = Vec::new();
    for kind in 133..=136 {
        all.push(
            case(
                "neighbour and router discovery from the link passes without rules",
                [
                    send(message(Client, kind), R::NeighbourDiscovery),
                    send(message(Server, kind), R::NeighbourDiscovery),
                    send(
                        message(Client, kind).extension(Extension::hop_by_hop(1)),
                        R::NeighbourDiscovery,
                    ),
                    Flows(0),
                ],
            )
            .rules([])
            .family(V6),
        );
        all.push(
            case(
                "neighbour discovery from beyond the link is dropped although rules allow it",
                [
                    send(message(Client, kind).hop_limit(254), R::NeighbourDiscoveryInvalid),
                    send(message(Server, kind).hop_limit(64), R::NeighbourDiscoveryInvalid),
                    send(message(Client, kind).hop_limit(0), R::NeighbourDiscoveryInvalid),
                    send(message(Client, kind).fragment(0, true), R::NeighbourDiscoveryInvalid),
                ],
            )
            .rules([allow(Traffic::All, Peer::Any)])
            .family(V6),
        );
    }
    for kind in [132, 137, 143] {
        all.push(
            case(
                "other ICMPv6 types next to neighbour discovery need a rule",
                [send(message(Client, kind), R::NoRule)],
            )
            .family(V6),
        );
    }
    all.push(
        case(
            "the ICMPv6 types of neighbour discovery are not exempt in IPv4",
            [send(Packet::icmp(Client, (135, 0), (0, 0)).hop_limit(255), R::NoRule)],
        )
        .family(V4),
    );
    all
}

fn dhcp() -> Vec<Case> {
    // A client sends from port 68 to 67, of DHCPv6 from 546 to 547.
    let ports = [(68, 67), (546, 547)];
    let mut all = Vec::new();
    for (client, server) in ports {
        let dhcp = |from| Packet::udp(from).ports(client, server).data(240);
        all.push(
            case(
                "an inside DHCP client needs no rule",
                [send(dhcp(Client), R::Dhcp), send(dhcp(Server), R::Dhcp), Flows(0)],
            )
            .rules([])
            .client(Egress),
        );
        all.push(
            case(
                "an inside DHCP server needs a rule",
                [send(dhcp(Client), R::NoRule), send(dhcp(Server), R::NoRule)],
            )
            .rules([])
            .client(Ingress),
        );
        all.push(
            case(
                "one of the two DHCP ports alone is not exempt",
                [
                    send(Packet::udp(Client).ports(client, 1), R::NoRule),
                    send(Packet::udp(Client).ports(1, server), R::NoRule),
                    send(Packet::udp(Client).ports(server, server), R::NoRule),
                    send(Packet::udp(Client).ports(client, client), R::NoRule),
                ],
            )
            .rules([]),
        );
    }
    all.push(
        case("TCP to the DHCP ports is not exempt", [send(syn().ports(68, 67), R::NoRule)])
            .rules([])
            .client(Egress),
    );
    all
}
