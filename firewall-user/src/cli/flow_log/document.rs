//! `secgroup flow-log list --output json`, in the form of AWS's `describe-flow-logs`, and the same as a table; the
//! records of `secgroup flow-log show --output json`.

use firewall_ebpf::abi::interface::Direction;
use schemars::JsonSchema;
use serde::Serialize;

use super::time;
use crate::model::Model;
use crate::observe::flow_logs::record::{Action, LogStatus, Record};
use crate::observe::flow_logs::status::Statuses;

/// The flow logs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FlowLogList {
    /// The flow logs, by id.
    flow_logs: Vec<FlowLogEntry>,
}

/// A flow log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct FlowLogEntry {
    /// Its id, `fl-…`.
    flow_log_id: String,
    /// Id of the interface, subnet or VPC.
    resource_id: String,
    /// `ACCEPT`, `REJECT` or `ALL`.
    traffic_type: String,
    /// `s3`: files; `cloud-watch-logs`: the journal.
    log_destination_type: String,
    /// ARN of the bucket; null for the journal.
    log_destination: Option<String>,
    /// Log group; null for files.
    log_group_name: Option<String>,
    /// Fields of a record.
    log_format: String,
    /// Seconds of a record, at most.
    max_aggregation_interval: u32,
    /// When it was created, by RFC 3339.
    creation_time: String,
    /// `SUCCESS`, `FAILED`; null if nothing delivers flow logs.
    deliver_logs_status: Option<&'static str>,
    /// Why the last records were not delivered.
    deliver_logs_error_message: Option<String>,
    /// Records that were delivered: not a field of AWS.
    records_delivered: u64,
    /// Records that could not be delivered: not a field of AWS.
    records_failed: u64,
}

impl FlowLogList {
    pub(super) fn new(model: &Model, statuses: &Statuses, is_running: bool) -> Self {
        let flow_logs = model.flow_logs.values().map(|log| {
            let settings = &log.settings;
            let status = statuses.of(log);
            FlowLogEntry {
                flow_log_id: log.id.to_string(),
                resource_id: log.resource.to_string(),
                traffic_type: settings.traffic.clone(),
                log_destination_type: settings.destination_type.clone(),
                log_destination: settings.destination.clone(),
                log_group_name: settings.log_group.clone(),
                log_format: settings.format.clone(),
                max_aggregation_interval: settings.interval,
                creation_time: time(log.created),
                deliver_logs_status: is_running.then(|| status.name()),
                records_delivered: status.delivered,
                records_failed: status.failed,
                deliver_logs_error_message: status.error,
            }
        });
        Self { flow_logs: flow_logs.collect() }
    }

    pub(super) fn rows(&self) -> Vec<[String; 7]> {
        let row = |log: &FlowLogEntry| {
            let destination = log.log_destination.as_ref().or(log.log_group_name.as_ref());
            [
                log.flow_log_id.clone(),
                log.resource_id.clone(),
                log.traffic_type.clone(),
                format!("{} s", log.max_aggregation_interval),
                destination.cloned().unwrap_or_default(),
                log.deliver_logs_status.unwrap_or("-").to_owned(),
                log.records_delivered.to_string(),
            ]
        };
        self.flow_logs.iter().map(row).collect()
    }

    /// A line for each flow log that is not delivered.
    pub(super) fn errors(&self) -> Vec<String> {
        let error = |log: &FlowLogEntry| {
            let error = log.deliver_logs_error_message.as_ref()?;
            Some(format!("{}: {error}", log.flow_log_id))
        };
        self.flow_logs.iter().filter_map(error).collect()
    }
}

/// A record of a flow log: the fields of AWS, with underscores in their names. What the record does not have is null.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FlowLogRecord {
    /// Account.
    account_id: Option<String>,
    /// The interface, `eni-…`.
    interface_id: Option<String>,
    /// Source address of the packets.
    srcaddr: Option<String>,
    /// Destination address of the packets.
    dstaddr: Option<String>,
    /// Source port; 0 where the protocol has none.
    srcport: Option<u16>,
    /// Destination port; 0 where the protocol has none.
    dstport: Option<u16>,
    /// IP protocol number.
    protocol: Option<u8>,
    /// Packets.
    packets: Option<u64>,
    /// Bytes of IP packets.
    bytes: Option<u64>,
    /// When the first packet passed, in seconds since 1970; of a record without packets, when the interval began.
    start: Option<i64>,
    /// When the last packet passed, or the interval ended.
    end: Option<i64>,
    /// `ACCEPT` or `REJECT`.
    action: Option<&'static str>,
    /// `OK`, `NODATA` or `SKIPDATA`.
    log_status: Option<&'static str>,
    /// `vpc-…`.
    vpc_id: Option<String>,
    /// `subnet-…`.
    subnet_id: Option<String>,
    /// The host, `i-…`.
    instance_id: Option<String>,
    /// OR of FIN 1, SYN 2, RST 4, SYN-ACK 18.
    tcp_flags: Option<u8>,
    /// `IPv4` or `IPv6`.
    r#type: Option<&'static str>,
    /// Region.
    region: Option<String>,
    /// Id of the availability zone.
    az_id: Option<String>,
    /// `ingress` or `egress`.
    flow_direction: Option<&'static str>,
    /// The rule that allowed the packets, `sgr-…`: not a field of AWS.
    rule_id: Option<String>,
    /// Its group, `sg-…`: not a field of AWS.
    group_id: Option<String>,
    /// Why the packets passed or were dropped (docs/reasons.md), `would-drop:` and a reason where audit mode let them
    /// pass: not a field of AWS.
    reason: Option<String>,
}

impl From<&Record> for FlowLogRecord {
    fn from(record: &Record) -> Self {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let (origin, rule) = (&*record.origin, record.rule.as_deref());
        Self {
            account_id: text(&origin.account_id),
            interface_id: text(&origin.interface_id),
            srcaddr: record.source.map(|ip| ip.to_string()),
            dstaddr: record.destination.map(|ip| ip.to_string()),
            srcport: record.source_port,
            dstport: record.destination_port,
            protocol: record.protocol,
            packets: record.packets,
            bytes: record.bytes,
            start: record.start,
            end: record.end,
            action: record.action.map(Action::name),
            log_status: record.status.map(LogStatus::name),
            vpc_id: text(&origin.vpc_id),
            subnet_id: text(&origin.subnet_id),
            instance_id: text(&origin.instance_id),
            tcp_flags: record.tcp_flags,
            r#type: record.family(),
            region: text(&origin.region),
            az_id: text(&origin.az_id),
            flow_direction: record.direction.map(Direction::name),
            rule_id: rule.and_then(|rule| text(&rule.security_group_rule_id)),
            group_id: rule.and_then(|rule| text(&rule.group_id)),
            reason: record.why.map(|why| why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::observe::flow_logs::field::Format;

    #[test]
    fn a_record_in_json_has_the_fields_of_its_line() {
        let header = Format::all().header();
        let columns = Format::columns(&header);
        let whole = "5 123456789012 eni-1 192.0.2.7 198.51.100.1 51234 443 6 2 100 1796008801 1796008802 ACCEPT OK \
                     vpc-1 subnet-1 i-1 2 IPv4 192.0.2.7 198.51.100.1 eu-west-1 euw1-az1 ingress sgr-1 sg-1 new-flow";
        let missing = "5 123456789012 eni-1 - - - - - - - 1796008800 1796008860 - NODATA \
                       - - - - - - - - - - - - -";
        for line in [whole, missing] {
            let record = Record::parse(&columns, line).unwrap();
            let json = serde_json::to_value(FlowLogRecord::from(&record)).unwrap();
            for (name, word) in header.split(' ').zip(line.split(' ')) {
                // The format, and the same addresses again.
                if ["version", "pkt-srcaddr", "pkt-dstaddr"].contains(&name) {
                    continue;
                }
                let found = match &json[name.replace('-', "_")] {
                    Value::Null => "-".to_owned(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert_eq!(found, word, "{name}: {json:#}");
            }
        }
    }
}
