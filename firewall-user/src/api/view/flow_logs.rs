//! Flow logs.

use firewall_ec2::Xml;

use super::tags;
use crate::model::{FlowLog, rfc3339};

/// The state of every flow log.
pub(in crate::api) const STATUS: &str = "ACTIVE";

/// What became of its records.
pub(in crate::api) const DELIVERY: &str = "FAILED";

/// Why.
const NOT_DELIVERED: &str =
    "This version of secgroup stores flow logs, and neither records nor delivers anything";

/// The elements of a `FlowLog`.
pub(in crate::api) fn flow_log(xml: &mut Xml, log: &FlowLog) {
    let settings = &log.settings;
    xml.text("creationTime", rfc3339(log.created));
    xml.text("deliverLogsErrorMessage", NOT_DELIVERED);
    xml.option("deliverLogsPermissionArn", settings.permission.as_ref());
    xml.option("deliverCrossAccountRole", settings.cross_account_role.as_ref());
    xml.text("deliverLogsStatus", DELIVERY);
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
