//! The packets that the model exempts from the rules.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction::{Egress, Ingress};
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::wire::headers::Kind;

use super::packet::ModelPacket;
use crate::decision::engine::FlowId;
use crate::decision::host::SLOT;

/// The flow that all messages of DHCP share.
pub(super) fn dhcp_flow() -> FlowId {
    let nowhere = IpAddr::from([0; 4]);
    FlowId {
        inside: nowhere,
        outside: nowhere,
        inside_port: 68,
        outside_port: 67,
        slot: SLOT,
        protocol: 17,
        query: 0,
    }
}

/// Whether an IPv6 address is fe80::/10, and whether any address is a group, and one of the link.
fn scopes(address: IpAddr) -> (bool, bool, bool) {
    match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_multicast(), false),
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            (v6.is_unicast_link_local(), v6.is_multicast(), first & 0xff0f == 0xff02)
        }
    }
}

impl ModelPacket {
    /// The inside and the outside port.
    const fn ports(&self) -> (u16, u16) {
        match self.direction {
            Ingress => (self.dst_port, self.src_port),
            Egress => (self.src_port, self.dst_port),
        }
    }

    /// Whether packets of its flow can be DHCP.
    pub(super) const fn may_be_dhcp(&self) -> bool {
        let (inside, outside) = self.ports();
        if self.src.is_ipv6() { inside == 546 } else { inside == 68 && outside == 67 }
    }

    /// The reason of a packet that passes or is dropped without rules. Of DHCP that it may pass.
    pub(super) fn exempt(&self) -> Option<Reason> {
        let message = &self.bytes[self.transport..];
        let is_v6 = self.src.is_ipv6();
        let whole = !self.fragment.more;
        let (inside, outside) = self.ports();
        let (source_is_local, ..) = scopes(self.src);
        let (destination_is_local, is_group, _) = scopes(self.dst);
        if self.kind == Kind::Udp && !is_v6 && (inside, outside) == (68, 67) {
            let operation = if self.direction == Egress { 1 } else { 2 };
            let cookie = message.get(8 + 236..8 + 240);
            let is_dhcp = whole && message.get(8) == Some(&operation);
            return (is_dhcp && cookie == Some(&[99, 130, 83, 99])).then_some(Reason::Dhcp);
        }
        if self.kind == Kind::Udp && is_v6 && inside == 546 {
            let kinds: &[u8] = match self.direction {
                Egress => &[1, 3, 4, 5, 6, 8, 9, 11],
                Ingress => &[2, 7, 10],
            };
            let servers = IpAddr::from([0xff02, 0, 0, 0, 0, 0, 1, 2]);
            let is_message = message.len() >= 12 && kinds.contains(&message[8]);
            let is_between = match self.direction {
                Egress => outside == 547 && (destination_is_local || self.dst == servers),
                Ingress => destination_is_local,
            };
            let is_dhcp = whole && self.transport == 40 && source_is_local;
            return (is_dhcp && is_message && is_between).then_some(Reason::Dhcp);
        }
        if self.protocol == 58 && is_v6 && matches!(message[0], 133..=136) {
            let is_valid = whole && self.hop_limit == 255 && self.is_discovery();
            return Some(match is_valid {
                true => Reason::NeighbourDiscovery,
                false => Reason::NeighbourDiscoveryInvalid,
            });
        }
        let is_member = whole && self.hop_limit == 1 && is_group;
        if self.protocol == 58 && is_v6 && matches!(message[0], 130..=132 | 143) {
            let is_ours = (message[0] == 130) == (self.direction == Ingress);
            let options = &self.bytes[40..self.transport.min(48)];
            let has_alert = self.transport == 48
                && self.bytes[6] == 0
                && (options[2..6] == [5, 2, 0, 0] || options[4..] == [5, 2, 0, 0]);
            let is_sized = match message[0] {
                130 => message.len() >= 24,
                143 => message.len() >= 8,
                _ => message.len() == 24,
            };
            let from = source_is_local || self.src.is_unspecified();
            let is_mld = is_ours && has_alert && is_sized && from && message[1] == 0;
            return (is_member && is_mld).then_some(Reason::MulticastMembership);
        }
        if self.protocol == 2 && !is_v6 && self.kind == Kind::Other && message.len() >= 8 {
            let is_ours = match self.direction {
                Ingress => message[0] == 0x11,
                Egress => matches!(message[0], 0x12 | 0x16 | 0x17 | 0x22),
            };
            let is_sized = message.len() == 8 || matches!(message[0], 0x11 | 0x22);
            let is_igmp = is_ours && is_sized && self.transport <= 24;
            return (is_member && is_igmp).then_some(Reason::MulticastMembership);
        }
        None
    }

    /// Whether a message of neighbour discovery is valid.
    fn is_discovery(&self) -> bool {
        let message = &self.bytes[self.transport..];
        let (source_is_local, ..) = scopes(self.src);
        let (destination_is_local, is_group, is_link_group) = scopes(self.dst);
        let (header, known): (_, &[u8]) = match message[0] {
            133 => (8, &[1, 2, 14]),
            134 => (16, &[1, 2, 3, 5, 7, 8, 14, 21, 24, 25, 26, 31, 37, 38]),
            _ => (24, &[1, 2, 14]),
        };
        if message.len() < header || message.len() > 1240 || message[1] != 0 || self.transport != 40
        {
            return false;
        }
        let target = |message: &[u8]| {
            let octets: [u8; 16] = message[8..24].try_into().expect("16 octets");
            IpAddr::from(octets)
        };
        let has_addresses = match message[0] {
            133 => destination_is_local || is_link_group,
            134 => source_is_local && (destination_is_local || is_link_group),
            135 => {
                let target = target(message);
                !target.is_multicast() && (is_link_group || target == self.dst)
            }
            _ => !target(message).is_multicast() && (is_link_group || !is_group),
        };
        let mut options = &message[header..];
        if message[0] != 134 && options.len() > 16 {
            return false;
        }
        for _ in 0..16 {
            let [kind, units, ..] = *options else { break };
            let length = usize::from(units) * 8;
            let is_short = matches!(kind, 1 | 2 | 14);
            if !known.contains(&kind)
                || length == 0
                || length > options.len()
                || is_short && units != 1
            {
                return false;
            }
            options = &options[length..];
        }
        has_addresses && options.is_empty()
    }
}
