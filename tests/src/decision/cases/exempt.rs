//! Frames that are not IP, which are decided without the rules.

use firewall_ebpf::abi::reason::Reason as R;

use crate::decision::case::Step::Flows;
use crate::decision::case::{Case, case, send};
use crate::decision::packet::{DOT1Q, Packet};
use crate::decision::rules::{Peer, Traffic, allow};
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

/// The address of bridges (IEEE 802.1Q, table 8-1), which they do not forward.
pub const BRIDGES: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
/// The last of these addresses.
pub const LAST: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0f];

/// The cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let both = |kind, reason| {
        [
            send(Packet::link(Client, kind), reason),
            send(Packet::link(Server, kind), reason),
            Flows(0),
        ]
    };
    let control = |kind| {
        [
            send(Packet::link(Client, kind).to_mac(BRIDGES), R::LinkControl),
            send(Packet::link(Server, kind).to_mac(LAST), R::LinkControl),
            send(Packet::link(Client, kind).to_mac(LAST).tag(DOT1Q), R::LinkControl),
            // To one host, to all, to the group of another protocol.
            send(Packet::link(Client, kind), R::NonIp),
            send(Packet::link(Server, kind).to_mac([0xff; 6]), R::NonIp),
            send(Packet::link(Client, kind).to_mac([0x01, 0x80, 0xc2, 0, 0, 0x10]), R::NonIp),
            send(Packet::link(Client, kind).to_mac([0x01, 0, 0x0c, 0xcc, 0xcc, 0xcc]), R::NonIp),
            Flows(0),
        ]
    };
    let mut all = vec![
        case("ARP passes without rules", both(ARP, R::Arp)).rules([]),
        case(
            "ARP in a VLAN passes without rules",
            [send(Packet::link(Client, ARP).tag(DOT1Q), R::Arp)],
        )
        .rules([]),
        case("ARP passes without a policy", both(ARP, R::Arp)).without_policy(),
        case("the lowest EtherType is not taken for an LLC length", both(0x0600, R::NonIp)),
        case("MPLS is dropped by all rules", both(MPLS, R::NonIp))
            .rules([allow(Traffic::All, Peer::Any)]),
        case("PPPoE is dropped by all rules", both(PPPOE, R::NonIp))
            .rules([allow(Traffic::All, Peer::Any)]),
        case("an unknown EtherType is dropped", both(0xffff, R::NonIp)),
        ip_in_snap(),
    ];
    for kind in [LLDP, EAPOL, SLOW_PROTOCOLS, LLC, 0x05ff] {
        all.push(
            case("link control passes without rules, but only to bridges", control(kind)).rules([]),
        );
    }
    all
}

/// IP in an 802.3 frame with LLC and SNAP, which some hosts take for IP (CERT VU#855201).
fn ip_in_snap() -> Case {
    let snap = |oui: u8, kind: u16| {
        let [high, low] = kind.to_be_bytes();
        Packet::link(Client, LLC).link_payload(&[0xaa, 0xaa, 3, 0, 0, oui, high, low])
    };
    let mut steps = Vec::new();
    for kind in [0x0800, 0x86dd, DOT1Q] {
        for oui in [0, 0xf8] {
            steps.push(send(snap(oui, kind), R::NonIp));
            steps.push(send(snap(oui, kind).to_mac(BRIDGES), R::NonIp));
            steps.push(send(snap(oui, kind).to_mac(BRIDGES).tag(DOT1Q), R::NonIp));
        }
    }
    // Another protocol in SNAP.
    steps.push(send(snap(0, 0x0801).to_mac(BRIDGES), R::LinkControl));
    steps.push(send(snap(0x0c, 0x0800).to_mac(BRIDGES), R::LinkControl));
    case("IP in LLC and SNAP is dropped by all rules", steps)
        .rules([allow(Traffic::All, Peer::Any)])
}
