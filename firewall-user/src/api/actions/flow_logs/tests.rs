//! Flow logs as clients use them.

use crate::api::tests::{Host, element};
use crate::observe::flow_logs::status::{Status, Statuses};

const VPC: &str = "vpc-00000000000000000";
const S3: &str = "&LogDestinationType=s3&LogDestination=arn:aws:s3:::bucket/prefix/";

fn create(more: &str) -> String {
    format!("Action=CreateFlowLogs&ResourceType=VPC&TrafficType=ALL{more}")
}

#[test]
fn a_flow_log_is_created_described_and_deleted() {
    let host = Host::new();
    let form = create(&format!(
        "{S3}&ResourceId.1={VPC}&ResourceId.2=vpc-00000001&ClientToken=t&MaxAggregationInterval=60&\
         LogFormat=%24%7Bversion%7D+%24%7Bsrcaddr%7D&DestinationOptions.FileFormat=parquet&\
         DestinationOptions.PerHourPartition=true&TagSpecification.1.ResourceType=vpc-flow-log&\
         TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.1.Value=v"
    ));
    let body = host.ok(&form);
    assert_eq!(element(&body, "clientToken"), "t");
    let id = element(&element(&body, "flowLogIdSet"), "item");
    let failed = "<unsuccessful><item><error><code>InvalidVpcID.NotFound</code><message>The vpc ID \
                  &apos;vpc-00000001&apos; does not exist</message></error>\
                  <resourceId>vpc-00000001</resourceId></item></unsuccessful>";
    assert!(body.replace('\'', "&apos;").contains(failed), "{body}");
    // Repeated, it is the same one; with another token it is another request for the same one.
    assert_eq!(element(&element(&host.ok(&form), "flowLogIdSet"), "item"), id);
    let again = host.ok(&form.replace("ClientToken=t", "ClientToken=u"));
    assert!(again.contains("<flowLogIdSet></flowLogIdSet>"), "{again}");
    assert_eq!(element(&again, "code"), "FlowLogAlreadyExists");
    assert_eq!(
        element(&again, "message"),
        "Error. There is an existing Flow Log with the same configuration and log destination."
    );

    let body = host.ok(&format!(
        "Action=DescribeFlowLogs&FlowLogId.1={id}&Filter.1.Name=resource-id&Filter.1.Value.1={VPC}"
    ));
    for (name, text) in [
        ("flowLogStatus", "ACTIVE"),
        ("deliverLogsStatus", "FAILED"),
        ("resourceId", VPC),
        ("trafficType", "ALL"),
        ("logDestinationType", "s3"),
        ("logDestination", "arn:aws:s3:::bucket/prefix/"),
        ("logFormat", "${version} ${srcaddr}"),
        ("maxAggregationInterval", "60"),
        ("fileFormat", "parquet"),
        ("hiveCompatiblePartitions", "false"),
        ("perHourPartition", "true"),
        ("tagSet", "<item><key>k</key><value>v</value></item>"),
    ] {
        assert_eq!(element(&body, name), text, "{name}");
    }
    let error = element(&body, "deliverLogsErrorMessage");
    assert_eq!(error, "secgroup writes files of the format plain-text, not parquet");
    host.ok(&format!("Action=DeleteTags&ResourceId.1={id}"));
    let body = host.ok("Action=DescribeFlowLogs&Filter.1.Name=tag:k&Filter.1.Value.1=v");
    assert!(body.contains("<flowLogSet></flowLogSet>"), "{body}");

    let delete = format!("Action=DeleteFlowLogs&FlowLogId.1={id}");
    let (_, code, message) = host.error(&format!("{delete}&FlowLogId.2=fl-00000001"));
    assert_eq!(code, "InvalidFlowLogId.NotFound");
    let text = "These flow log ids in the input list are not found: [TotalCount: 1] fl-00000001";
    assert_eq!(message, text);
    assert!(host.ok(&delete).contains("<unsuccessful></unsuccessful>"));
    let body = host.ok(&format!("Action=DescribeFlowLogs&FlowLogId.1={id}"));
    assert!(body.contains("<flowLogSet></flowLogSet>"), "{body}");
}

#[test]
fn parameters_that_ec2_refuses_are_refused() {
    let host = Host::new();
    let form = |more: &str| create(&format!("&ResourceId.1={VPC}{more}"));
    let role = "&DeliverLogsPermissionArn=arn:aws:iam::1:role/x";
    for (more, code, text) in [
        ("", "InvalidParameter", "LogDestination can't be empty if LogGroupName is not provided."),
        (
            "&LogGroupName=g&LogDestinationType=s3",
            "InvalidParameter",
            "LogDestination type must be cloud-watch-logs if LogGroupName is provided.",
        ),
        (
            "&LogGroupName=g&LogDestination=arn:aws:logs:r:1:log-group:g",
            "InvalidParameter",
            "Please only provide LogGroupName or only provide LogDestination.",
        ),
        (
            "&LogGroupName=g",
            "InvalidParameter",
            "DeliverLogsPermissionArn can't be empty if LogDestinationType is cloud-watch-logs.",
        ),
        (
            &format!("{S3}&MaxAggregationInterval=61"),
            "InvalidParameter",
            "Invalid Flow Log Max Aggregation Interval",
        ),
        (
            "&LogDestinationType=s3&LogDestination=bucket",
            "InvalidParameter",
            "LogDestination: bucket is not an ARN of s3",
        ),
        (
            "&LogDestinationType=s3&LogDestination=arn:aws:s3:::bucket/../../etc",
            "InvalidParameter",
            "LogDestination: &quot;..&quot; in &quot;arn:aws:s3:::bucket/../../etc&quot; is not a part of a prefix: letters, \
             digits and !-_.*'()=, no dot at the beginning",
        ),
        (
            &format!("{S3}&LogFormat=%24%7Bx%7D"),
            "InvalidParameter",
            "LogFormat has the unknown field ${x}",
        ),
        (
            &format!("&LogGroupName=g{role}&DestinationOptions.FileFormat=parquet"),
            "InvalidParameter",
            "DestinationOptions can only be specified if LogDestinationType is s3.",
        ),
        (
            "&LogDestinationType=file&LogDestination=x",
            "InvalidParameterValue",
            "Value (file) for parameter LogDestinationType is invalid. Must be one of cloud-watch-logs, s3, \
             kinesis-data-firehose.",
        ),
    ] {
        let (status, is, message) = host.error(&form(more));
        assert_eq!((status, &*is, &*message), (400, code, text), "{more}");
    }
    for (form, code) in [
        (create(S3), "MissingParameter"),
        (form(S3).replace("VPC", "TransitGateway"), "InvalidParameterValue"),
        (form(S3).replace("&TrafficType=ALL", ""), "MissingParameter"),
        (form(S3).replace(VPC, "subnet-00000001"), "InvalidVpcId.Malformed"),
        ("Action=DeleteFlowLogs".into(), "MissingParameter"),
    ] {
        assert_eq!(host.error(&form).1, code, "{form}");
    }
    assert_eq!(host.error(&format!("{}&DryRun=true", form(S3))).1, "DryRunOperation");
    // As the provider of Terraform creates one.
    let body = host.ok(&form(&format!("&LogGroupName=g{role}&LogDestination=")));
    assert!(body.contains("<flowLogIdSet><item>fl-"), "{body}");
    assert!(!body.contains("clientToken"), "{body}");
}

#[test]
fn a_flow_log_says_what_became_of_its_records() {
    let host = Host::new();
    let body = host.ok(&create(&format!("{S3}&ResourceId.1={VPC}")));
    let files = element(&element(&body, "flowLogIdSet"), "item");
    let firehose = "&LogDestinationType=kinesis-data-firehose&LogDestination=arn:aws:firehose:r:1:deliverystream/s";
    let body = host.ok(&create(&format!("{firehose}&ResourceId.1={VPC}")));
    let stream = element(&element(&body, "flowLogIdSet"), "item");
    let status = |id: &str| {
        let body = host.ok(&format!("Action=DescribeFlowLogs&FlowLogId.1={id}"));
        let has_error = body.contains("<deliverLogsErrorMessage>");
        let error = has_error.then(|| element(&body, "deliverLogsErrorMessage"));
        (element(&body, "deliverLogsStatus"), error.unwrap_or_default())
    };
    let not_there = "secgroup delivers to files (s3) and to the journal (cloud-watch-logs), not to kinesis-data-firehose";
    assert_eq!(status(&files), ("SUCCESS".to_owned(), String::new()));
    assert_eq!(status(&stream), ("FAILED".to_owned(), not_there.to_owned()));
    // As the thread that delivers writes it.
    let full = Status { error: Some("no space".to_owned()), failed: 3, ..Status::default() };
    let logs = [(files.clone(), full)].into_iter().collect();
    Statuses { logs, ..Statuses::default() }.write(host.state_dir()).unwrap();
    assert_eq!(status(&files), ("FAILED".to_owned(), "no space".to_owned()));
    let failed = "Action=DescribeFlowLogs&Filter.1.Name=deliver-log-status&Filter.1.Value.1=FAILED";
    let body = host.ok(failed);
    assert!(body.contains(&files) && body.contains(&stream), "{body}");
}

#[test]
fn the_fields_of_secgroup_are_fields_of_a_format() {
    let host = Host::new();
    let format = "&LogFormat=%24%7Breason%7D+%24%7Brule-id%7D+%24%7Bgroup-id%7D";
    let body = host.ok(&create(&format!("{S3}{format}&ResourceId.1={VPC}")));
    assert!(body.contains("<flowLogIdSet><item>fl-"), "{body}");
}
