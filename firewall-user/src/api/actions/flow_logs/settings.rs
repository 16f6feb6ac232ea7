//! What a flow log records, and where.

use firewall_ec2::{Error, Params};

use crate::model::{FlowLogSettings, RecordFiles};
use crate::observe::flow_logs::destination;
use crate::observe::flow_logs::field::{Format, FormatError};

/// The most bytes of an ARN or name.
const LONGEST_NAME: usize = 512;

/// The parameters of `CreateFlowLogs` that are about records.
///
/// # Errors
/// EC2 would refuse them.
pub(super) fn parse(params: &Params) -> Result<FlowLogSettings, Error> {
    // In any case, as clients write it.
    let one_of = |name: &str, known: &[&str]| match params.text(name) {
        None => Ok(None),
        Some(text) => match known.iter().find(|one| one.eq_ignore_ascii_case(text)) {
            Some(one) => Ok(Some((*one).to_owned())),
            None => Err(Error::invalid(format!(
                "Value ({text}) for parameter {name} is invalid. Must be one of {}.",
                known.join(", ")
            ))),
        },
    };
    let traffic = one_of("TrafficType", &["ACCEPT", "REJECT", "ALL"])?
        .ok_or_else(|| Error::missing("TrafficType"))?;
    let types = ["cloud-watch-logs", "s3", "kinesis-data-firehose"];
    let destination_type = one_of("LogDestinationType", &types)?;
    let destination_type = destination_type.unwrap_or_else(|| "cloud-watch-logs".to_owned());
    let destination = name(params, "LogDestination")?;
    let log_group = name(params, "LogGroupName")?;
    let permission = name(params, "DeliverLogsPermissionArn")?;
    let cross_account_role = name(params, "DeliverCrossAccountRole")?;
    let is_cloud_watch = destination_type == "cloud-watch-logs";
    match (&destination, &log_group) {
        (None, None) => {
            return Err(refused("LogDestination can't be empty if LogGroupName is not provided."));
        }
        (_, Some(_)) if !is_cloud_watch => {
            return Err(refused(
                "LogDestination type must be cloud-watch-logs if LogGroupName is provided.",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(refused(
                "Please only provide LogGroupName or only provide LogDestination.",
            ));
        }
        (Some(arn), None) => check_destination(&destination_type, arn)?,
        (None, Some(_)) => {}
    }
    if is_cloud_watch && permission.is_none() {
        return Err(refused(
            "DeliverLogsPermissionArn can't be empty if LogDestinationType is cloud-watch-logs.",
        ));
    }
    let format = format(params.text("LogFormat"))?;
    let interval: u32 = params.number("MaxAggregationInterval")?.unwrap_or(600);
    if ![60, 600].contains(&interval) {
        return Err(refused("Invalid Flow Log Max Aggregation Interval"));
    }
    let files = files(params, destination_type == "s3")?;
    let tag_fields = tag_fields(params)?;
    Ok(FlowLogSettings {
        traffic,
        destination_type,
        destination,
        log_group,
        permission,
        cross_account_role,
        format,
        interval,
        files,
        tag_fields,
    })
}

/// An error with the code that EC2 has for parameters of flow logs.
fn refused(text: impl Into<String>) -> Error {
    Error::new("InvalidParameter", text)
}

fn name(params: &Params, name: &str) -> Result<Option<String>, Error> {
    match params.text(name) {
        Some(text) if text.len() > LONGEST_NAME => {
            Err(refused(format!("{name} has more than {LONGEST_NAME} characters")))
        }
        found => Ok(found.map(str::to_owned)),
    }
}

/// Refuses a destination that is no ARN of its type.
fn check_destination(kind: &str, arn: &str) -> Result<(), Error> {
    let service = match kind {
        "s3" => "s3",
        "kinesis-data-firehose" => "firehose",
        _ => "logs",
    };
    let mut parts = arn.splitn(6, ':');
    let is_of = parts.next() == Some("arn")
        && parts.next().is_some_and(|partition| !partition.is_empty())
        && parts.next() == Some(service)
        && parts.nth(2).is_some_and(|resource| !resource.is_empty());
    if !is_of {
        return Err(refused(format!("LogDestination: {arn} is not an ARN of {service}")));
    }
    if service == "s3" {
        destination::parts(arn).map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}

/// Fields of a record, each as `${NAME}`, separated by spaces.
fn format(text: Option<&str>) -> Result<String, Error> {
    let Some(text) = text else { return Ok(Format::default().to_string()) };
    let format: Format = text.parse().map_err(|error: FormatError| refused(error.to_string()))?;
    Ok(format.to_string())
}

fn files(params: &Params, is_s3: bool) -> Result<Option<RecordFiles>, Error> {
    let Some(node) = params.node("DestinationOptions") else { return Ok(None) };
    if !is_s3 {
        return Err(refused(
            "DestinationOptions can only be specified if LogDestinationType is s3.",
        ));
    }
    let format = node.text("FileFormat").unwrap_or("plain-text");
    if !["plain-text", "parquet"].contains(&format) {
        return Err(Error::invalid(format!(
            "Value ({format}) for parameter FileFormat is invalid. Must be plain-text or parquet."
        )));
    }
    Ok(Some(RecordFiles {
        format: format.to_owned(),
        is_hive: node.flag("HiveCompatiblePartitions")?.unwrap_or(false),
        is_per_hour: node.flag("PerHourPartition")?.unwrap_or(false),
    }))
}

fn tag_fields(params: &Params) -> Result<Vec<(String, Vec<String>)>, Error> {
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for item in params.list("TagFieldSpecification")? {
        let kind = item.required("ResourceType")?;
        let keys: Vec<_> = item.texts("TagKey")?.into_iter().map(str::to_owned).collect();
        let is_known = ["network-interface", "instance", "auto-scaling-group"].contains(&kind);
        let is_new = fields.iter().all(|(other, _)| other != kind);
        if !is_known || !is_new || !(1..=2).contains(&keys.len()) {
            return Err(refused(format!(
                "{} needs a ResourceType that no other has, and one or two keys",
                item.path()
            )));
        }
        fields.push((kind.to_owned(), keys));
    }
    Ok(fields)
}
