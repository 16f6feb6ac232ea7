"""Security groups: created, described, deleted."""

import re

from conftest import filters, name, of, refused, tcp, v4

ALL_V4 = {
    "IpProtocol": "-1",
    "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    "Ipv6Ranges": [],
    "PrefixListIds": [],
    "UserIdGroupPairs": [],
}


def described(ec2, group):
    found = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert len(found) == 1
    return found[0]


def test_a_new_group_has_an_id_an_arn_tags_and_only_the_default_egress_rule(ec2, vpc, account, region):
    its_name = name()
    tags = [{"Key": "Name", "Value": "web & <more>"}, {"Key": "empty", "Value": ""}]
    created = ec2.create_security_group(
        GroupName=its_name,
        Description="a=b&c; d",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )
    group = created["GroupId"]
    assert re.fullmatch("sg-[0-9a-f]{17}", group)
    assert created["SecurityGroupArn"] == f"arn:aws:ec2:{region}:{account}:security-group/{group}"
    assert sorted(created["Tags"], key=str) == sorted(tags, key=str)
    found = described(ec2, group)
    assert found["GroupName"] == its_name
    assert found["Description"] == "a=b&c; d"
    assert found["VpcId"] == vpc
    assert found["OwnerId"] == account
    assert found["IpPermissions"] == []
    assert found["IpPermissionsEgress"] == [ALL_V4]
    assert sorted(found["Tags"], key=str) == sorted(tags, key=str)
    assert ec2.delete_security_group(GroupId=group)["Return"] is True
    refused(
        "InvalidGroup.NotFound",
        ec2.describe_security_groups,
        GroupIds=[group],
        text=f"The security group '{group}' does not exist",
    )


def test_without_tags_an_answer_has_none(ec2, vpc):
    created = ec2.create_security_group(GroupName=name(), Description="x", VpcId=vpc)
    assert "Tags" not in created


def test_the_default_egress_rule_is_a_rule_object(ec2, group, account):
    rules = ec2.describe_security_group_rules(Filters=filters(group_id=group))["SecurityGroupRules"]
    assert len(rules) == 1
    rule = rules[0]
    assert re.fullmatch("sgr-[0-9a-f]{17}", rule["SecurityGroupRuleId"])
    assert (rule["IsEgress"], rule["IpProtocol"], rule["CidrIpv4"]) == (True, "-1", "0.0.0.0/0")
    assert (rule["FromPort"], rule["ToPort"], rule["GroupOwnerId"]) == (-1, -1, account)


def test_a_name_is_taken_in_its_vpc_only_and_ignoring_case(ec2, vpc, default_vpc):
    taken = name("Web")
    ec2.create_security_group(GroupName=taken, Description="x", VpcId=vpc)
    for again in [taken, taken.upper()]:
        text = refused(
            "InvalidGroup.Duplicate", ec2.create_security_group, GroupName=again, Description="x", VpcId=vpc
        )
        assert text.lower() == f"the security group '{taken}' already exists for vpc '{vpc}'".lower()
    elsewhere = ec2.create_security_group(GroupName=taken, Description="x")["GroupId"]
    assert described(ec2, elsewhere)["VpcId"] == default_vpc
    assert ec2.delete_security_group(GroupName=taken)["GroupId"] == elsewhere


def test_names_and_descriptions_that_ec2_refuses(ec2, vpc):
    def create(code, **arguments):
        whole = {"GroupName": name(), "Description": "x", "VpcId": vpc, **arguments}
        return refused(code, ec2.create_security_group, **{key: value for key, value in whole.items() if value is not None})

    create("MissingParameter", GroupName=None)
    create("MissingParameter", Description=None)
    text = create("InvalidParameterValue", GroupName="sg-web")
    assert text == "Value (sg-web) for parameter GroupName is invalid. Group names may not be in the format sg-*."
    create("InvalidParameterValue", GroupName="x" * 256)
    create("InvalidParameterValue", GroupName="a<b")
    text = create("InvalidParameterValue", Description="naïve")
    assert text == "Value (naïve) for parameter GroupDescription is invalid. Character sets beyond ASCII are not supported."
    create("InvalidParameterValue", Description="x" * 256)
    create("InvalidVpcID.NotFound", VpcId="vpc-0123456789abcdef0")
    create("InvalidParameterValue", GroupName="default")


def test_an_empty_parameter_is_an_absent_one(ec2):
    created = ec2.create_security_group(GroupName=name(), Description="x", VpcId="")["GroupId"]
    ec2.delete_security_group(GroupId=created)


def test_a_vpc_has_a_default_group_that_cannot_be_deleted(ec2, vpc):
    answer = ec2.describe_security_groups(Filters=filters(vpc_id=vpc, group_name="default"))
    (default,) = answer["SecurityGroups"]
    group = default["GroupId"]
    assert default["Description"] == "default VPC security group"
    (permission,) = default["IpPermissions"]
    assert permission["IpProtocol"] == "-1"
    assert [pair["GroupId"] for pair in permission["UserIdGroupPairs"]] == [group]
    assert default["IpPermissionsEgress"] == [ALL_V4]
    refused(
        "CannotDelete",
        ec2.delete_security_group,
        GroupId=group,
        text=f'the specified group: "{group}" name: "default" cannot be deleted by a user',
    )


def test_ids_that_do_not_exist_or_are_none(ec2):
    for unknown in ["sg-00000000", "sg-0123456789abcdef0"]:
        for call in [ec2.delete_security_group, lambda GroupId: ec2.describe_security_groups(GroupIds=[GroupId])]:
            refused(
                "InvalidGroup.NotFound", call, GroupId=unknown, text=f"The security group '{unknown}' does not exist"
            )
    for malformed in ["foobar", "sg-xyz", "vpc-0123456789abcdef0"]:
        refused("InvalidGroupId.Malformed", ec2.delete_security_group, GroupId=malformed)
        refused("InvalidGroupId.Malformed", ec2.describe_security_groups, GroupIds=[malformed])
    # One that exists beside one that does not is no success.
    refused("MissingParameter", ec2.delete_security_group)
    missing = name()
    text = refused("InvalidGroup.NotFound", ec2.delete_security_group, GroupName=missing)
    assert re.fullmatch(f"The security group '{missing}' does not exist in default VPC 'vpc-[0-9a-f]+'", text)
    refused("InvalidGroup.NotFound", ec2.describe_security_groups, GroupNames=[missing])


def test_a_group_that_another_one_names_is_not_deleted(ec2, make_group):
    named, naming = make_group(), make_group()
    pair = {"UserIdGroupPairs": [{"GroupId": named}]}
    answer = ec2.authorize_security_group_ingress(GroupId=naming, IpPermissions=[tcp(80, **pair)])
    text = refused("DependencyViolation", ec2.delete_security_group, GroupId=named)
    assert text.startswith(f"resource {named} has a dependent object"), text
    # It names what depends.
    assert answer["SecurityGroupRules"][0]["SecurityGroupRuleId"] in text
    answer = ec2.describe_security_group_references(GroupId=[named])["SecurityGroupReferenceSet"]
    assert all(one["GroupId"] == named for one in answer)
    ec2.revoke_security_group_ingress(GroupId=naming, IpPermissions=[tcp(80, **pair)])
    ec2.delete_security_group(GroupId=named)


def test_a_dry_run_changes_nothing_and_validates(ec2, vpc):
    its_name = name()
    arguments = {"GroupName": its_name, "Description": "x", "VpcId": vpc, "DryRun": True}
    refused(
        "DryRunOperation",
        ec2.create_security_group,
        **arguments,
        text="Request would have succeeded, but DryRun flag is set.",
    )
    group = ec2.create_security_group(**{**arguments, "DryRun": False})["GroupId"]
    refused("InvalidGroup.Duplicate", ec2.create_security_group, **arguments)
    refused("DryRunOperation", ec2.describe_security_groups, DryRun=True)
    refused("DryRunOperation", ec2.delete_security_group, GroupId=group, DryRun=True)
    web = tcp(80, **v4("0.0.0.0/0"))
    refused("DryRunOperation", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[web], DryRun=True)
    assert described(ec2, group)["IpPermissions"] == []


def test_filters_select(ec2, vpc, make_list):
    def create(its_name, description, **tags):
        specification = [{"ResourceType": "security-group", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
        return ec2.create_security_group(
            GroupName=its_name, Description=description, VpcId=vpc, TagSpecifications=specification
        )["GroupId"]

    web = create("web-1", "front end", env="prod", team="a")
    other = create("web-22", "front*end", env="test")
    db = create("db", "stores data", env="prod-eu")
    listed = make_list(["192.0.2.0/24"])
    ec2.authorize_security_group_ingress(
        GroupId=db,
        IpPermissions=[
            tcp(5432, UserIdGroupPairs=[{"GroupId": web}]),
            tcp(22, 23, **v4("198.51.100.0/24")),
            {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]},
            tcp(443, PrefixListIds=[{"PrefixListId": listed}]),
        ],
    )
    ec2.revoke_security_group_egress(GroupId=db, IpPermissions=[{"IpProtocol": "-1", **v4("0.0.0.0/0")}])
    ec2.authorize_security_group_egress(GroupId=db, IpPermissions=[tcp(8080, **v4("203.0.113.7/32"))])
    (default,) = ec2.describe_security_groups(Filters=filters(vpc_id=vpc, group_name="default"))["SecurityGroups"]
    default = default["GroupId"]

    for chosen, expected in [
        ({"group_name": "web-1"}, {web}),
        ({"group_name": "web-?"}, {web}),
        ({"group_name": "web-*"}, {web, other}),
        ({"group_name": ["db", "web-?"]}, {web, db}),
        ({"group_name": "WEB-1"}, set()),
        ({"group_id": [web, db]}, {web, db}),
        ({"group_id": "sg-0123456789abcdef0"}, set()),
        ({"description": "front end"}, {web}),
        ({"description": "front\\*end"}, {other}),
        ({"description": "*end"}, {web, other}),
        ({"tag:env": "prod"}, {web}),
        ({"tag:env": "prod*"}, {web, db}),
        ({"tag_key": "team"}, {web}),
        ({"tag:env": "prod*", "group_name": "db"}, {db}),
        ({"ip_permission.cidr": "198.51.100.0/24"}, {db}),
        ({"ip_permission.cidr": "198.51.*"}, {db}),
        ({"ip_permission.ipv6_cidr": "2001:db8::/32"}, {db}),
        ({"ip_permission.from_port": "22"}, {db}),
        ({"ip_permission.to_port": "23"}, {db}),
        ({"ip_permission.protocol": "udp"}, {db}),
        ({"ip_permission.group_id": web}, {db}),
        ({"ip_permission.prefix_list_id": listed}, {db}),
        ({"egress.ip_permission.cidr": "0.0.0.0/0"}, {default, web, other}),
        ({"egress.ip_permission.cidr": "203.0.113.7/32"}, {db}),
        ({"egress.ip_permission.from_port": "8080"}, {db}),
        ({"egress.ip_permission.protocol": "-1"}, {default, web, other}),
        # Different rules of one group may satisfy different filters.
        ({"ip_permission.from_port": "22", "ip_permission.protocol": "udp"}, {db}),
    ]:
        answer = ec2.describe_security_groups(Filters=filters(**chosen, vpc_id=vpc))
        assert {group["GroupId"] for group in answer["SecurityGroups"]} == expected, chosen
    refused("InvalidParameterValue", ec2.describe_security_groups, Filters=filters(no_such_filter="x"))
    refused(
        "InvalidGroupId.Malformed",
        ec2.describe_security_group_rules,
        Filters=filters(group_id="foobar"),
        text="The security group ID 'foobar' is malformed",
    )


def test_pages(ec2, vpc, make_group):
    made = {make_group() for _ in range(11)}
    of_vpc = filters(vpc_id=vpc)
    pages = ec2.get_paginator("describe_security_groups").paginate(
        Filters=of_vpc, PaginationConfig={"PageSize": 5}
    )
    pages = [[group["GroupId"] for group in page["SecurityGroups"]] for page in pages]
    assert [len(page) for page in pages] == [5, 5, 2]
    found = [group for page in pages for group in page]
    assert len(set(found)) == 12 and made < set(found)
    text = refused("InvalidParameterValue", ec2.describe_security_groups, MaxResults=1)
    assert text == "Value ( 1 ) for parameter maxResults is invalid. Expecting a value greater than 5."
    refused("InvalidParameterValue", ec2.describe_security_groups, MaxResults=1001)
    refused("InvalidNextToken", ec2.describe_security_groups, NextToken="made up")
    assert "NextToken" not in ec2.describe_security_groups(Filters=of_vpc, MaxResults=1000)


def test_groups_by_name_are_those_of_the_default_vpc(ec2):
    its_name = name()
    group = ec2.create_security_group(GroupName=its_name, Description="x")["GroupId"]
    (found,) = ec2.describe_security_groups(GroupNames=[its_name])["SecurityGroups"]
    assert found["GroupId"] == group
    ec2.delete_security_group(GroupName=its_name)


def test_groups_for_a_vpc(ec2, vpc, group, account):
    answer = ec2.get_security_groups_for_vpc(VpcId=vpc)["SecurityGroupForVpcs"]
    found = of(answer, "GroupId", group)
    assert (found["OwnerId"], found["PrimaryVpcId"]) == (account, vpc)
    assert len(answer) == 2


def test_nothing_is_stale_or_associated(ec2, vpc, group):
    assert ec2.describe_stale_security_groups(VpcId=vpc)["StaleSecurityGroupSet"] == []
    answer = ec2.describe_security_group_vpc_associations(Filters=filters(group_id=group))
    assert answer["SecurityGroupVpcAssociations"] == []


def test_the_waiter_finds_a_group(ec2, group):
    ec2.get_waiter("security_group_exists").wait(GroupIds=[group], WaiterConfig={"Delay": 0, "MaxAttempts": 1})
