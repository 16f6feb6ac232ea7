//! A record as a row of the table.

use serde::Serialize;

use crate::console::texts;
use crate::model::label;
use crate::observe::query::protocol_name;
use crate::observe::record::{NearestMiss, PacketRecord};

/// A row: the texts of its cells.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) time: String,
    /// Also the class of the word.
    pub(super) verdict: &'static str,
    pub(super) interface: String,
    pub(super) direction: &'static str,
    pub(super) reason: &'static str,
    pub(super) protocol: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) packets: u64,
    pub(super) nearest: String,
    /// The link to its explanation.
    pub(super) explain: String,
}

impl Row {
    pub(super) fn new(record: &PacketRecord) -> Self {
        let PacketRecord { id, protocol, source, destination, .. } = record;
        Self {
            id: *id,
            time: texts::time(record.last),
            verdict: record.verdict.name(),
            interface: label(&record.device, record.netns.as_deref()),
            direction: record.direction.name(),
            reason: record.reason.name(),
            protocol: protocol_text(record),
            from: texts::end(*source, record.source_port, *protocol),
            to: texts::end(*destination, record.destination_port, *protocol),
            packets: record.packets,
            nearest: decided_by(record),
            explain: format!("explain?from-drop={id}"),
        }
    }
}

/// `tcp`, `icmp echo-request 8/0`, or of a frame that is not IP its EtherType.
fn protocol_text(record: &PacketRecord) -> String {
    let Some(protocol) = record.protocol else {
        return record
            .ether_type
            .map_or_else(|| "-".to_owned(), |one| format!("EtherType 0x{one:04x}"));
    };
    let name = protocol_name(protocol);
    match record.icmp_type.zip(record.icmp_code) {
        Some((kind, code)) => format!("{name} {}", texts::icmp(Some(protocol), kind, code)),
        None => name,
    }
}

/// The entry or block that dropped it, or the rule that came closest to allowing it.
fn decided_by(record: &PacketRecord) -> String {
    match (&record.entry, &record.nearest_miss) {
        (Some(entry), _) => entry.clone(),
        (None, Some(NearestMiss { rule, field, rule_value, packet_value })) => format!(
            "{} {}: {field} is {packet_value}, not {rule_value}",
            rule.group_name, rule.security_group_rule_id
        ),
        (None, None) => "-".to_owned(),
    }
}
