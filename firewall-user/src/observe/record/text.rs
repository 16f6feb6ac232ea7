//! A record as text for people: tcpdump's order, names of services and ICMP messages beside their numbers.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{NearestMiss, PacketRecord};
use crate::model::{Family, label};
use crate::observe::query::protocol_name;
use crate::policy::services;

/// TCP flags as tcpdump prints them, from the lowest bit.
const FLAGS: [char; 8] = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W'];

impl PacketRecord {
    /// `eth0`, or `blue/eth0`.
    #[must_use]
    pub fn interface_label(&self) -> String {
        label(&self.device, self.netns.as_deref())
    }

    /// `tcp 192.0.2.7:51234 > 198.51.100.1:443 (https) [S]`, `icmp 192.0.2.7 > 198.51.100.1 echo-request (8/0)`; of a
    /// frame that is not IP its EtherType.
    #[must_use]
    pub fn tuple(&self) -> String {
        let mut text = match (self.protocol, self.ether_type) {
            (Some(protocol), _) => protocol_name(protocol),
            (None, Some(ether_type)) => format!("EtherType 0x{ether_type:04x}"),
            (None, None) => "frame".to_owned(),
        };
        if let (Some(source), Some(destination)) = (self.source, self.destination) {
            let source = endpoint(source, self.source_port);
            let destination = endpoint(destination, self.destination_port);
            let _ = write!(text, " {source} > {destination}");
        }
        text.extend(self.service().map(|name| format!(" ({name})")));
        text.extend(self.icmp().map(|message| format!(" {message}")));
        text.extend(self.tcp_flags_text().map(|flags| format!(" [{flags}]")));
        text
    }

    /// The flags as tcpdump prints them: `S`, `S.`, `FP.`; `none` for a segment without any.
    #[must_use]
    pub fn tcp_flags_text(&self) -> Option<String> {
        let flags = self.tcp_flags?;
        let set = FLAGS.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0);
        let text: String = set.map(|(_, flag)| *flag).collect();
        Some(if text.is_empty() { "none".to_owned() } else { text })
    }

    /// The rule, entry or nearest miss in a few words; `None` where there is none.
    #[must_use]
    pub fn decided_by(&self) -> Option<String> {
        if let Some(rule) = &self.rule {
            return Some(format!("{} in group {}", rule.security_group_rule_id, rule.group_name));
        }
        if let Some(entry) = &self.entry {
            return Some(format!("by {entry}"));
        }
        self.nearest_miss.as_ref().map(|miss| format!("nearest: {}", miss.text()))
    }

    /// The name of the destination's port, or else of the source's.
    fn service(&self) -> Option<&'static str> {
        let ports = [self.destination_port, self.source_port];
        let name = |port| services::name_of_port(self.protocol?, port);
        ports.into_iter().flatten().find_map(name)
    }

    fn icmp(&self) -> Option<String> {
        let (kind, code) = self.icmp_type.zip(self.icmp_code)?;
        let family = if self.protocol == Some(1) { Family::Ipv4 } else { Family::Ipv6 };
        let name = services::icmp_name(family, kind, code);
        Some(name.map_or_else(
            || format!("type {kind} code {code}"),
            |name| format!("{name} ({kind}/{code})"),
        ))
    }
}

impl NearestMiss {
    /// `sgr-… in group web: port 443, packet has 8443`
    #[must_use]
    pub fn text(&self) -> String {
        let Self { rule, field, rule_value, packet_value } = self;
        format!(
            "{} in group {}: {field} {rule_value}, packet has {packet_value}",
            rule.security_group_rule_id, rule.group_name
        )
    }
}

/// `192.0.2.7:443`, `[2001:db8::7]:443`, or the address alone.
#[must_use]
pub fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (_, None) => address.to_string(),
        (IpAddr::V6(_), Some(port)) => format!("[{address}]:{port}"),
        (IpAddr::V4(_), Some(port)) => format!("{address}:{port}"),
    }
}
