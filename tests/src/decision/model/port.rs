//! Port security in the model.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction::{Egress, Ingress};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::wire::headers::Kind;
use ipnet::IpNet;

use super::packet::ModelPacket;
use crate::decision::packet::INSIDE_MAC;
use crate::decision::port::{ALLOWED, Port};

/// The networks of the guest, besides the link-local ones.
const OWN: [&str; 2] = ["192.0.2.10/32", "2001:db8:1::10/128"];

fn is_own(port: Port, address: IpAddr) -> bool {
    let link_local =
        if port == Port::AddressesAndMac { "fe80::ff:fe00:1/128" } else { "fe80::/10" };
    OWN.into_iter()
        .chain(ALLOWED)
        .chain([link_local])
        .any(|network| network.parse::<IpNet>().expect("a network").contains(&address))
}

/// Whether the reason is one of port security for an IP packet.
pub(super) const fn is_reason(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SourceMac
            | Reason::SourceAddress
            | Reason::DestinationAddress
            | Reason::NeighbourTarget
            | Reason::RouterAdvertisement
            | Reason::Redirect
            | Reason::DhcpServer
    )
}

/// The reason for which port security drops a packet, whose IP header is at `ip` in the frame.
pub(super) fn refused(port: Port, frame: &[u8], ip: u32, packet: &ModelPacket) -> Option<Reason> {
    let checks_addresses = !matches!(port, Port::Open | Port::Undeclared);
    if packet.direction == Ingress {
        let is_group = match packet.dst {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_multicast(),
        };
        let is_for_guest = is_group || frame[0] % 2 == 1 || is_own(port, packet.dst);
        return (checks_addresses && !is_for_guest).then_some(Reason::DestinationAddress);
    }
    debug_assert_eq!(packet.direction, Egress);
    if port == Port::AddressesAndMac && frame[6..12] != INSIDE_MAC {
        return Some(Reason::SourceMac);
    }
    let is_v4 = packet.src.is_ipv4();
    // Of ICMP and ICMPv6, without what has a reply or is an error.
    let message = (packet.kind == Kind::Message).then(|| packet.bytes[packet.transport]);
    if !matches!(port, Port::Open | Port::Router) {
        match (packet.kind, is_v4, message) {
            (Kind::Udp, true, _) if packet.dst_port == 68 => return Some(Reason::DhcpServer),
            (Kind::Udp, false, _) if packet.dst_port == 546 => return Some(Reason::DhcpServer),
            (_, true, Some(9)) | (_, false, Some(134)) => return Some(Reason::RouterAdvertisement),
            (_, true, Some(5)) | (_, false, Some(137)) => return Some(Reason::Redirect),
            _ => {}
        }
    }
    if !checks_addresses {
        return None;
    }
    let has_none = packet.src.is_unspecified();
    let may_have_none = match (packet.kind, is_v4) {
        (Kind::Udp, true) => (packet.src_port, packet.dst_port) == (68, 67),
        (Kind::Other, true) => packet.protocol == 2,
        (Kind::Message, false) => matches!(message, Some(131..=133 | 135 | 143)),
        _ => false,
    };
    if !(if has_none { may_have_none } else { is_own(port, packet.src) }) {
        return Some(Reason::SourceAddress);
    }
    let claims = !is_v4 && (message == Some(136) || (message == Some(135) && has_none));
    // Also behind the end of the packet: what is that short is not valid anyway.
    let at = usize::try_from(ip).expect("an offset") + packet.transport + 8;
    let target = frame.get(at..at + 16);
    let target = target.map(|octets| IpAddr::from(<[u8; 16]>::try_from(octets).expect("16")));
    let is_own_target = target.is_some_and(|target| is_own(port, target));
    (claims && !is_own_target).then_some(Reason::NeighbourTarget)
}
