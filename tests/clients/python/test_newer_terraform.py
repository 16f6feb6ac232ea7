"""What newer resources of Terraform's AWS provider call, in their order; the provider that has them is not to be had
from a package registry. Each function is the life of one resource."""

import pytest
from botocore.exceptions import ClientError
from conftest import filters, name

# Codes that the provider takes for "it is gone".
GONE = {"InvalidGroup.NotFound", "InvalidSecurityGroupRuleId.NotFound", "InvalidFlowLogId.NotFound"}


def gone(call, **arguments):
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value.response["Error"]["Code"] in GONE


def tags(kind, **values):
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in values.items()]}]


@pytest.mark.parametrize("egress", [False, True])
def test_aws_vpc_security_group_rule(ec2, group, make_group, egress):
    authorize = ec2.authorize_security_group_egress if egress else ec2.authorize_security_group_ingress
    revoke = ec2.revoke_security_group_egress if egress else ec2.revoke_security_group_ingress

    def create(**permission):
        answer = authorize(
            GroupId=group, IpPermissions=[permission], TagSpecifications=tags("security-group-rule", Name="tf")
        )
        assert len(answer["SecurityGroupRules"]) == 1
        return answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]

    def read(rule):
        (found,) = ec2.describe_security_group_rules(SecurityGroupRuleIds=[rule])["SecurityGroupRules"]
        assert found["IsEgress"] is egress
        return found

    # Without ports, which the provider reads as null from -1.
    rule = create(IpProtocol="-1", Ipv6Ranges=[{"CidrIpv6": "2001:db8::/32"}])
    found = read(rule)
    assert (found["FromPort"], found["ToPort"], found["CidrIpv6"]) == (-1, -1, "2001:db8::/32")
    assert found["Tags"] == [{"Key": "Name", "Value": "tf"}]
    # An update in place, then its tags.
    source = make_group()
    changed = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "ReferencedGroupId": source, "Description": "d"}
    other = create(IpProtocol="tcp", FromPort=5, ToPort=6, UserIdGroupPairs=[{"GroupId": source, "UserId": ""}])
    ec2.modify_security_group_rules(
        GroupId=group, SecurityGroupRules=[{"SecurityGroupRuleId": other, "SecurityGroupRule": changed}]
    )
    found = read(other)
    assert (found["FromPort"], found["ReferencedGroupInfo"]["GroupId"], found["Description"]) == (1, source, "d")
    ec2.delete_tags(Resources=[rule], Tags=[{"Key": "Name"}])
    ec2.create_tags(Resources=[rule], Tags=[{"Key": "Team", "Value": "net"}])
    assert read(rule)["Tags"] == [{"Key": "Team", "Value": "net"}]
    for one in [rule, other]:
        revoke(GroupId=group, SecurityGroupRuleIds=[one])
        assert gone(ec2.describe_security_group_rules, SecurityGroupRuleIds=[one])
        assert gone(revoke, GroupId=group, SecurityGroupRuleIds=[one])


def test_aws_security_group_that_revokes_its_rules_on_delete(ec2, vpc):
    made = ec2.create_security_group(
        GroupName=name(), Description="Managed by Terraform", VpcId=vpc, TagSpecifications=tags("security-group", a="b")
    )["GroupId"]
    # It waits until three readings in a row find it.
    for _ in range(3):
        assert ec2.describe_security_groups(GroupIds=[made])["SecurityGroups"][0]["GroupId"] == made
    every = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0}
    ec2.revoke_security_group_egress(GroupId=made, IpPermissions=[{**every, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    try:
        six = [{**every, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]
        ec2.revoke_security_group_egress(GroupId=made, IpPermissions=six)
    except ClientError as error:
        found = error.response["Error"]
        assert found["Code"] == "InvalidPermission.NotFound", found
    ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=[{**every, "UserIdGroupPairs": [{"GroupId": made}]}])
    rules = ec2.describe_security_group_rules(Filters=filters(group_id=made))["SecurityGroupRules"]
    ids = [rule["SecurityGroupRuleId"] for rule in rules]
    assert len(ids) == 1
    ec2.revoke_security_group_ingress(GroupId=made, SecurityGroupRuleIds=ids)
    lambdas = [*filters(group_id=made), {"Name": "description", "Values": ["AWS Lambda VPC ENI*"]}]
    assert ec2.describe_network_interfaces(Filters=lambdas)["NetworkInterfaces"] == []
    ec2.delete_security_group(GroupId=made)
    assert gone(ec2.describe_security_groups, GroupIds=[made])


def test_aws_default_security_group(ec2, vpc):
    chosen = filters(group_name="default", vpc_id=vpc)
    (found,) = ec2.describe_security_groups(Filters=chosen)["SecurityGroups"]
    group = found["GroupId"]
    ec2.create_tags(Resources=[group], Tags=[{"Key": "Name", "Value": "locked"}])
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=found["IpPermissions"])
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=found["IpPermissionsEgress"])
    (found,) = ec2.describe_security_groups(Filters=chosen)["SecurityGroups"]
    assert (found["IpPermissions"], found["IpPermissionsEgress"]) == ([], [])


def test_aws_flow_log(ec2, vpc):
    answer = ec2.create_flow_logs(
        ClientToken=name("terraform"),
        ResourceIds=[vpc],
        ResourceType="VPC",
        TrafficType="REJECT",
        LogDestinationType="s3",
        LogDestination="arn:aws:s3:::logs/prefix/",
        LogFormat="",
        MaxAggregationInterval=60,
        TagSpecifications=tags("vpc-flow-log", Name="tf"),
        DestinationOptions={
            "FileFormat": "plain-text",
            "HiveCompatiblePartitions": False,
            "PerHourPartition": True,
        },
    )
    assert answer.get("Unsuccessful", []) == []
    log = answer["FlowLogIds"][0]
    (found,) = ec2.describe_flow_logs(FlowLogIds=[log])["FlowLogs"]
    assert (found["FlowLogId"], found["TrafficType"], found["MaxAggregationInterval"]) == (log, "REJECT", 60)
    assert found["DestinationOptions"]["PerHourPartition"] is True
    ec2.create_tags(Resources=[log], Tags=[{"Key": "Name", "Value": "other"}])
    (found,) = ec2.describe_flow_logs(FlowLogIds=[log])["FlowLogs"]
    assert found["Tags"] == [{"Key": "Name", "Value": "other"}]
    assert ec2.delete_flow_logs(FlowLogIds=[log])["Unsuccessful"] == []
    try:
        assert ec2.describe_flow_logs(FlowLogIds=[log])["FlowLogs"] == []
    except ClientError as error:
        assert error.response["Error"]["Code"] in GONE, error


def test_aws_network_acl_with_an_association(ec2, vpc, subnet):
    made = ec2.create_network_acl(VpcId=vpc, TagSpecifications=tags("network-acl", Name="tf"))["NetworkAcl"]
    acl = made["NetworkAclId"]
    # The provider first removes what a new one has, except these two.
    assert {entry["RuleNumber"] for entry in made["Entries"]} == {32767, 32768}
    for number, more in [
        (100, {"Protocol": "6", "PortRange": {"From": 443, "To": 443}, "CidrBlock": "10.0.0.0/8"}),
        (110, {"Protocol": "-1", "PortRange": {"From": 0, "To": 0}, "CidrBlock": "192.168.0.0/16"}),
        (
            120,
            {
                "Protocol": "1",
                "PortRange": {"From": 0, "To": 0},
                "IcmpTypeCode": {"Type": -1, "Code": -1},
                "CidrBlock": "0.0.0.0/0",
            },
        ),
    ]:
        entry = {"NetworkAclId": acl, "RuleNumber": number, "RuleAction": "allow", "Egress": False, **more}
        ec2.create_network_acl_entry(**entry)
    of_entry = [
        {"Name": "entry.egress", "Values": ["false"]},
        {"Name": "entry.rule-number", "Values": ["110"]},
    ]
    (found,) = ec2.describe_network_acls(NetworkAclIds=[acl], Filters=of_entry)["NetworkAcls"]
    (entry,) = [one for one in found["Entries"] if one["RuleNumber"] == 110]
    assert (entry["Protocol"], entry["CidrBlock"]) == ("-1", "192.168.0.0/16")

    def association():
        of_subnet = [{"Name": "association.subnet-id", "Values": [subnet]}]
        (acl_of_subnet,) = ec2.describe_network_acls(Filters=of_subnet)["NetworkAcls"]
        (one,) = [one for one in acl_of_subnet["Associations"] if one["SubnetId"] == subnet]
        return acl_of_subnet["NetworkAclId"], one["NetworkAclAssociationId"]

    default, its_association = association()
    made = ec2.replace_network_acl_association(AssociationId=its_association, NetworkAclId=acl)["NewAssociationId"]
    assert association() == (acl, made)
    # Deleting it fails until its subnet has the default one again.
    with pytest.raises(ClientError) as raised:
        ec2.delete_network_acl(NetworkAclId=acl)
    assert raised.value.response["Error"]["Code"] == "DependencyViolation"
    (of_vpc,) = ec2.describe_network_acls(Filters=filters(default="true", vpc_id=vpc))["NetworkAcls"]
    assert of_vpc["NetworkAclId"] == default
    ec2.replace_network_acl_association(AssociationId=made, NetworkAclId=default)
    ec2.delete_network_acl(NetworkAclId=acl)
    with pytest.raises(ClientError) as raised:
        ec2.delete_network_acl(NetworkAclId=acl)
    assert raised.value.response["Error"]["Code"] == "InvalidNetworkAclID.NotFound"
