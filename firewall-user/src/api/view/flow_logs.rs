//! Flow logs.

use firewall_ec2::Xml;

use super::tags;
use crate::model::{FlowLog, rfc3339};
use crate::observe::flow_logs::status::Status;

/// The state of every flow log.
pub(in crate::api) const STATUS: &str = "ACTIVE";

/// The elements of a `FlowLog`. `status`: what became of its records.
pub(in crate::api) fn flow_log(xml: &mut Xml, log: &FlowLog, status: &Status) {
    let settings = &log.settings;
    xml.text("creationTime", rfc3339(log.created));
    xml.option("deliverLogsErrorMessage", status.error.as_ref());
    xml.option("deliverLogsPermissionArn", settings.permission.as_ref());
    xml.option("deliverCrossAccountRole", settings.cross_account_role.as_ref());
    xml.text("deliverLogsStatus", status.name());
    xml.text("flowLogId", &log.id);
    xml.text("flowLogStatus", STATUS);
    xml.option("logGroupName", settings.log_group.as_ref());
    xml.text("resourceId", &log.resource);
    xml.text("trafficType", &settings.traffic);
    xml.text("logDestinationType", &settings.destination_type);
    xml.option("logDestination", settings.destination.as_ref());
    xml.text("logFormat", &settings.format);
    tags::set(xml, &log.tags);
    xml.text("maxAggregationInterval", settings.interval);
    if let Some(files) = &settings.files {
        xml.node("destinationOptions", |xml| {
            xml.text("fileFormat", &files.format);
            xml.text("hiveCompatiblePartitions", files.is_hive);
            xml.text("perHourPartition", files.is_per_hour);
        });
    }
    xml.list("tagFieldSpecificationSet", &settings.tag_fields, |xml, (kind, keys)| {
        xml.text("resourceType", kind);
        xml.texts("tagKeySet", keys);
    });
}
