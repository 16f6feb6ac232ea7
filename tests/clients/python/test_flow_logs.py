"""Flow logs: what clients create is checked, stored, and says what became of it."""

import re

from conftest import filters, name, refused


def create(ec2, resource, **more):
    arguments = {
        "ResourceIds": [resource],
        "ResourceType": "VPC",
        "TrafficType": "ALL",
        "LogDestinationType": "s3",
        "LogDestination": "arn:aws:s3:::flow-logs",
        **more,
    }
    return ec2.create_flow_logs(**{key: value for key, value in arguments.items() if value is not None})


def test_a_flow_log_is_created_described_and_deleted(ec2, vpc):
    tags = [{"Key": "a", "Value": "b"}]
    answer = create(
        ec2,
        vpc,
        LogFormat="${version} ${srcaddr} ${dstaddr} ${action}",
        MaxAggregationInterval=60,
        TrafficType="REJECT",
        TagSpecifications=[{"ResourceType": "vpc-flow-log", "Tags": tags}],
    )
    assert answer["Unsuccessful"] == []
    (log,) = answer["FlowLogIds"]
    assert re.fullmatch("fl-[0-9a-f]{17}", log)
    (found,) = ec2.describe_flow_logs(FlowLogIds=[log])["FlowLogs"]
    assert (found["ResourceId"], found["TrafficType"], found["FlowLogStatus"]) == (vpc, "REJECT", "ACTIVE")
    assert found["LogFormat"] == "${version} ${srcaddr} ${dstaddr} ${action}"
    assert (found["MaxAggregationInterval"], found["LogDestinationType"]) == (60, "s3")
    assert found["LogDestination"] == "arn:aws:s3:::flow-logs"
    assert found["Tags"] == tags
    ec2.create_tags(Resources=[log], Tags=[{"Key": "c", "Value": "d"}])
    (found,) = ec2.describe_flow_logs(Filter=[{"Name": "tag:c", "Values": ["d"]}])["FlowLogs"]
    assert found["FlowLogId"] == log
    assert ec2.delete_flow_logs(FlowLogIds=[log])["Unsuccessful"] == []
    assert ec2.describe_flow_logs(Filter=filters(flow_log_id=log))["FlowLogs"] == []


def test_the_default_format_and_interval(ec2, vpc):
    (log,) = create(ec2, vpc)["FlowLogIds"]
    (found,) = ec2.describe_flow_logs(FlowLogIds=[log])["FlowLogs"]
    assert found["MaxAggregationInterval"] == 600
    assert found["LogFormat"].startswith("${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr}")
    ec2.delete_flow_logs(FlowLogIds=[log])


def test_a_resource_that_does_not_exist_is_unsuccessful_and_others_are_not(ec2, vpc):
    unknown = "vpc-0123456789abcdef0"
    answer = create(ec2, vpc, ResourceIds=[vpc, unknown])
    assert len(answer["FlowLogIds"]) == 1
    (failed,) = answer["Unsuccessful"]
    assert (failed["ResourceId"], failed["Error"]["Code"].lower()) == (unknown, "invalidvpcid.notfound")
    again = create(ec2, vpc)
    assert again["FlowLogIds"] == []
    assert again["Unsuccessful"][0]["Error"]["Code"] == "FlowLogAlreadyExists"
    ec2.delete_flow_logs(FlowLogIds=answer["FlowLogIds"])


def test_flow_logs_that_ec2_refuses(ec2, vpc):
    def refuse(code, text=None, **more):
        return refused(code, lambda **arguments: create(ec2, vpc, **arguments), text=text, **more)

    refuse(
        "InvalidParameter",
        "LogDestination can't be empty if LogGroupName is not provided.",
        LogDestination=None,
        LogDestinationType="cloud-watch-logs",
    )
    refuse(
        "InvalidParameter",
        "LogDestination type must be cloud-watch-logs if LogGroupName is provided.",
        LogDestination=None,
        LogGroupName="group",
    )
    refuse(
        "InvalidParameter",
        "Please only provide LogGroupName or only provide LogDestination.",
        LogDestinationType="cloud-watch-logs",
        LogGroupName="group",
        DeliverLogsPermissionArn="arn:aws:iam::123456789012:role/x",
    )
    refuse("InvalidParameter", MaxAggregationInterval=61)
    refuse("InvalidParameterValue", TrafficType="SOME")
    refuse("InvalidParameter", LogFormat="${no-such-field}")
    refuse("DryRunOperation", DryRun=True)
    unknown = "fl-0123456789abcdef0"
    refused("InvalidFlowLogId.NotFound", ec2.delete_flow_logs, FlowLogIds=[unknown])


def test_a_client_token_makes_one_flow_log(ec2, vpc):
    token = name("token")
    first = create(ec2, vpc, ClientToken=token)
    again = create(ec2, vpc, ClientToken=token)
    assert first["FlowLogIds"] == again["FlowLogIds"] and len(again["FlowLogIds"]) == 1
    assert first["ClientToken"] == token
    refused(
        "IdempotentParameterMismatch",
        lambda **arguments: create(ec2, vpc, **arguments),
        ClientToken=token,
        TrafficType="ACCEPT",
    )
    ec2.delete_flow_logs(FlowLogIds=first["FlowLogIds"])


def test_filters(ec2, vpc):
    (log,) = create(ec2, vpc, TrafficType="ACCEPT")["FlowLogIds"]
    for chosen in [
        filters(resource_id=vpc),
        filters(traffic_type="ACCEPT", resource_id=vpc),
        filters(log_destination_type="s3", flow_log_id=log),
    ]:
        assert [one["FlowLogId"] for one in ec2.describe_flow_logs(Filter=chosen)["FlowLogs"]] == [log]
    assert ec2.describe_flow_logs(Filter=filters(resource_id=vpc, traffic_type="REJECT"))["FlowLogs"] == []
    ec2.delete_flow_logs(FlowLogIds=[log])
