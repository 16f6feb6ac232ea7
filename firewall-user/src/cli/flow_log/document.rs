//! `secgroup flow-log list --output json`, in the form of AWS's `describe-flow-logs`, and the same as a table.

use schemars::JsonSchema;
use serde::Serialize;

use super::time;
use crate::model::Model;
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
