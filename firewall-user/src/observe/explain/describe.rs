//! A packet as a document and in one line.

use std::net::IpAddr;

use firewall_ebpf::abi::policy::Active;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::wire::headers::Kind;

use super::document::PacketDocument;
use super::packet::{Packet, flags_text};
use super::parsed::Parsed;
use crate::model::Family;
use crate::observe::query::protocol_name;
use crate::policy::services;

/// The word for a decision.
pub(super) fn verdict(reason: Reason, active: Active) -> &'static str {
    match reason.verdict() {
        Verdict::Pass => "pass",
        Verdict::Drop if active.is_audit() => "would-drop",
        Verdict::Drop => "drop",
    }
}

/// A frame as a document.
pub(super) fn packet(parsed: &Parsed, length: usize) -> PacketDocument {
    let mut document = PacketDocument {
        protocol: None,
        source: None,
        destination: None,
        source_port: None,
        destination_port: None,
        icmp_type: None,
        icmp_code: None,
        tcp_flags: None,
        ether_type: None,
        length,
        text: String::new(),
    };
    match parsed {
        Parsed::Ip(ip) => {
            let packet = &ip.packet;
            document.protocol = Some(packet.protocol);
            document.source = Some(packet.source.to_string());
            document.destination = Some(packet.destination.to_string());
            if ip.source_port().is_some() {
                let [from, to] = packet.ports;
                (document.source_port, document.destination_port) = (Some(from), Some(to));
            }
            if packet.is_icmp() && ip.kind != Kind::LaterFragment {
                let [kind, code] = packet.icmp;
                (document.icmp_type, document.icmp_code) = (Some(kind), Some(code));
            }
            document.tcp_flags = packet.flags.map(flags_text);
            document.text = if ip.kind == Kind::LaterFragment {
                // It has no ports, and no type.
                format!(
                    "{} {} > {}",
                    protocol_name(packet.protocol),
                    packet.source,
                    packet.destination
                )
            } else {
                text(packet)
            };
            if ip.is_fragment {
                document.text.push_str(", fragment");
            }
        }
        Parsed::NonIp(0) => document.text = "802.3 frame with LLC".to_owned(),
        Parsed::NonIp(ether_type) => {
            document.ether_type = Some(*ether_type);
            document.text = format!("frame of EtherType {ether_type:#06x}");
        }
        Parsed::Invalid => document.text = "frame that does not parse".to_owned(),
    }
    document
}

/// A packet in one line.
pub(super) fn text(packet: &Packet) -> String {
    let name = protocol_name(packet.protocol);
    let end = |address: IpAddr, port: u16| match (packet.has_ports(), address) {
        (false, _) => address.to_string(),
        (true, IpAddr::V4(_)) => format!("{address}:{port}"),
        (true, IpAddr::V6(_)) => format!("[{address}]:{port}"),
    };
    let [from, to] = packet.ports;
    let detail = if packet.is_icmp() {
        let [kind, code] = packet.icmp;
        let family = if packet.source.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        services::icmp_name(family, kind, code)
            .map_or_else(|| format!(" {kind}/{code}"), |name| format!(" {kind}/{code} ({name})"))
    } else {
        packet.flags.map_or_else(String::new, |flags| format!(" {}", flags_text(flags)))
    };
    format!("{name}{detail} {} > {}", end(packet.source, from), end(packet.destination, to))
}
