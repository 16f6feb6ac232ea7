"""Rules: authorized, described, modified and revoked, in every form that clients have ever sent."""

import re

import pytest
from conftest import filters, name, of, refused, tcp, v4, v6

ALL_EGRESS = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def described(ec2, group):
    (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    return found


def ingress(ec2, group):
    return described(ec2, group)["IpPermissions"]


def rules(ec2, group, egress=False):
    answer = ec2.describe_security_group_rules(Filters=filters(group_id=group))
    return [rule for rule in answer["SecurityGroupRules"] if rule["IsEgress"] == egress]


def test_every_peer_of_a_permission_is_a_rule(ec2, group, make_group, make_list, account, region):
    source, listed = make_group(), make_list(["192.0.2.0/24"])
    permission = tcp(
        22,
        IpRanges=[{"CidrIp": "10.1.0.0/16", "Description": "office"}, {"CidrIp": "10.2.0.0/16"}],
        Ipv6Ranges=[{"CidrIpv6": "2001:db8::/32", "Description": "six"}],
        PrefixListIds=[{"PrefixListId": listed, "Description": "list"}],
        UserIdGroupPairs=[{"GroupId": source, "Description": "group", "UserId": ""}],
    )
    answer = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    assert answer["Return"] is True
    made = answer["SecurityGroupRules"]
    assert len(made) == 5
    for rule in made:
        assert re.fullmatch("sgr-[0-9a-f]{17}", rule["SecurityGroupRuleId"])
        assert (rule["GroupId"], rule["GroupOwnerId"], rule["IsEgress"]) == (group, account, False)
        assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 22, 22)
        arn = f"arn:aws:ec2:{region}:{account}:security-group-rule/{rule['SecurityGroupRuleId']}"
        assert rule["SecurityGroupRuleArn"] == arn
    pairs = [(rule.get("CidrIpv4"), rule.get("Description")) for rule in made]
    assert ("10.1.0.0/16", "office") in pairs and ("10.2.0.0/16", None) in pairs
    of_group = [rule for rule in made if "ReferencedGroupInfo" in rule]
    assert [rule["ReferencedGroupInfo"]["GroupId"] for rule in of_group] == [source]
    # All of them come back as one permission.
    (found,) = ingress(ec2, group)
    assert found["IpRanges"] == permission["IpRanges"]
    assert found["Ipv6Ranges"] == permission["Ipv6Ranges"]
    assert found["PrefixListIds"] == permission["PrefixListIds"]
    assert found["UserIdGroupPairs"] == [{"GroupId": source, "UserId": account, "Description": "group"}]
    # And as the same objects.
    same = {rule["SecurityGroupRuleId"] for rule in rules(ec2, group)}
    assert same == {rule["SecurityGroupRuleId"] for rule in made}


def test_one_rule_is_added_per_source_and_per_call(ec2, group):
    for number in range(1, 4):
        answer = ec2.authorize_security_group_ingress(
            GroupId=group, IpPermissions=[tcp(number, **v4("10.0.0.0/8"))]
        )
        assert len(answer["SecurityGroupRules"]) == 1
    assert len(ingress(ec2, group)) == 3


def test_the_old_parameters_of_one_rule(ec2, group, make_group):
    source = make_group()
    ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp="0.0.0.0/0"
    )
    (permission,) = ingress(ec2, group)
    assert (permission["FromPort"], permission["IpRanges"]) == (80, [{"CidrIp": "0.0.0.0/0"}])
    ec2.revoke_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp="0.0.0.0/0"
    )
    assert ingress(ec2, group) == []
    # A group by its name is one of the default VPC.
    names = [name(), name()]
    old = [ec2.create_security_group(GroupName=one, Description="x")["GroupId"] for one in names]
    try:
        ec2.authorize_security_group_ingress(GroupName=names[0], SourceSecurityGroupName=names[1])
        found = {permission["IpProtocol"]: permission for permission in ingress(ec2, old[0])}
        assert set(found) <= {"tcp", "udp", "icmp", "-1"}
        for permission in found.values():
            assert [pair["GroupId"] for pair in permission["UserIdGroupPairs"]] == [old[1]]
        ec2.revoke_security_group_ingress(GroupName=names[0], SourceSecurityGroupName=names[1])
        assert ingress(ec2, old[0]) == []
        pair = [{"GroupName": names[1]}]
        ec2.authorize_security_group_ingress(GroupName=names[0], IpPermissions=[tcp(1, UserIdGroupPairs=pair)])
        (permission,) = ingress(ec2, old[0])
        assert [one["GroupId"] for one in permission["UserIdGroupPairs"]] == [old[1]]
    finally:
        for one in old:
            ec2.delete_security_group(GroupId=one)
    # Elsewhere by id only.
    pair = [{"GroupName": name()}]
    refused(
        "InvalidParameterValue", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[tcp(1, UserIdGroupPairs=pair)]
    )
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(1, UserIdGroupPairs=[{"GroupId": source}])])


def test_a_rule_that_exists_is_a_duplicate_and_nothing_of_the_call_is_done(ec2, group):
    ssh = tcp(22, **v4("10.0.0.0/8"))
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    both = [tcp(443, **v4("10.0.0.0/8")), {**ssh, "IpRanges": [{"CidrIp": "10.1.2.3/8", "Description": "again"}]}]
    refused(
        "InvalidPermission.Duplicate",
        ec2.authorize_security_group_ingress,
        GroupId=group,
        IpPermissions=both,
        text='the specified rule "peer: 10.0.0.0/8, TCP, from port: 22, to port: 22, ALLOW" already exists',
    )
    assert [permission["FromPort"] for permission in ingress(ec2, group)] == [22]
    refused(
        "InvalidParameterValue",
        ec2.authorize_security_group_ingress,
        GroupId=group,
        IpPermissions=[tcp(1, **v4("10.0.0.0/8")), tcp(1, **v4("10.0.0.0/8"))],
        text="The same permission must not appear multiple times",
    )


@pytest.mark.parametrize(
    "permission, text",
    [
        ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1}, "peer: 10.0.0.0/24, ICMP, type: ALL, code: ALL, ALLOW"),
        ({"IpProtocol": "-1"}, "peer: 10.0.0.0/24, ALL, ALLOW"),
        ({"IpProtocol": "50"}, "peer: 10.0.0.0/24, protocol: 50, ALLOW"),
        ({"IpProtocol": "udp", "FromPort": 1, "ToPort": 9}, "peer: 10.0.0.0/24, UDP, from port: 1, to port: 9, ALLOW"),
    ],
)
def test_the_text_about_a_duplicate_names_it(ec2, group, permission, text):
    arguments = {"GroupId": group, "IpPermissions": [{**permission, **v4("10.0.0.0/24")}]}
    ec2.authorize_security_group_ingress(**arguments)
    refused(
        "InvalidPermission.Duplicate",
        ec2.authorize_security_group_ingress,
        **arguments,
        text=f'the specified rule "{text}" already exists',
    )


def test_the_same_ports_with_another_kind_of_peer_are_no_duplicate(ec2, group, make_group, make_list):
    peers = [
        v4("0.0.0.0/0"),
        v6("::/0"),
        {"UserIdGroupPairs": [{"GroupId": make_group()}]},
        {"UserIdGroupPairs": [{"GroupId": group}]},
        {"PrefixListIds": [{"PrefixListId": make_list(["192.0.2.0/24"])}]},
    ]
    for peer in peers:
        answer = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(443, **peer)])
        assert len(answer["SecurityGroupRules"]) == 1
    (permission,) = ingress(ec2, group)
    assert len(permission["UserIdGroupPairs"]) == 2


@pytest.mark.parametrize(
    "given, protocol, ports",
    [
        ({"IpProtocol": "TCP", "FromPort": 80, "ToPort": 81}, "tcp", (80, 81)),
        ({"IpProtocol": "6", "FromPort": 80, "ToPort": 81}, "tcp", (80, 81)),
        ({"IpProtocol": "17", "FromPort": 0, "ToPort": 65535}, "udp", (0, 65535)),
        ({"IpProtocol": "1", "FromPort": 8, "ToPort": 0}, "icmp", (8, 0)),
        ({"IpProtocol": "icmp", "FromPort": 3, "ToPort": -1}, "icmp", (3, -1)),
        ({"IpProtocol": "icmpv6", "FromPort": 128, "ToPort": 0}, "icmpv6", (128, 0)),
        ({"IpProtocol": "58"}, "icmpv6", (-1, -1)),
        ({"IpProtocol": "-1"}, "-1", (-1, -1)),
        ({"IpProtocol": "-1", "FromPort": 0, "ToPort": 0}, "-1", (-1, -1)),
        ({"IpProtocol": "-1", "FromPort": 22, "ToPort": 22}, "-1", (-1, -1)),
        ({"IpProtocol": "50"}, "50", None),
        ({"IpProtocol": "47", "FromPort": 5, "ToPort": 7}, "47", None),
    ],
)
def test_protocols_and_ports_as_they_are_returned(ec2, group, given, protocol, ports):
    peer = v6("2001:db8::/32") if protocol == "icmpv6" else v4("10.0.0.0/8")
    answer = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{**given, **peer}])
    (rule,) = answer["SecurityGroupRules"]
    assert rule["IpProtocol"] == protocol
    if ports:
        assert (rule["FromPort"], rule["ToPort"]) == ports
    (permission,) = ingress(ec2, group)
    assert permission["IpProtocol"] == protocol
    if protocol == "-1":
        assert "FromPort" not in permission and "ToPort" not in permission
    elif ports:
        assert (permission["FromPort"], permission["ToPort"]) == ports
    # What is described is what can be revoked.
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[permission])
    assert ingress(ec2, group) == []


@pytest.mark.parametrize(
    "permission, code, text",
    [
        ({"IpProtocol": "all"}, "InvalidParameterValue", "Invalid value 'all' for IP protocol. Unknown protocol."),
        ({"IpProtocol": "gre"}, "InvalidParameterValue", "Invalid value 'gre' for IP protocol. Unknown protocol."),
        ({"IpProtocol": "256"}, "InvalidParameterValue", None),
        (
            {},
            "InvalidParameterValue",
            "Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.",
        ),
        (
            {"IpProtocol": "tcp"},
            "InvalidParameterValue",
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
        ),
        ({"IpProtocol": "tcp", "FromPort": 80}, "InvalidParameterValue", None),
        (
            {"IpProtocol": "icmp"},
            "InvalidParameterValue",
            "Invalid value 'Must specify both from and to ports with ICMP.' for portRange.",
        ),
        ({"IpProtocol": "tcp", "FromPort": 81, "ToPort": 80}, "InvalidParameterValue", None),
        ({"IpProtocol": "tcp", "FromPort": 80, "ToPort": 65536}, "InvalidPermission.Malformed", None),
        ({"IpProtocol": "tcp", "FromPort": -1, "ToPort": -1}, "InvalidPermission.Malformed", "TCP/UDP port (-1) out of range"),
        ({"IpProtocol": "icmp", "FromPort": 8, "ToPort": 65535}, "InvalidParameterValue", "ICMP code (65535) out of range"),
    ],
)
def test_protocols_and_ports_that_ec2_refuses(ec2, group, permission, code, text):
    refused(
        code,
        ec2.authorize_security_group_ingress,
        GroupId=group,
        IpPermissions=[{**permission, **v4("10.0.0.0/8")}],
        text=text,
    )
    assert ingress(ec2, group) == []


def test_peers_that_ec2_refuses(ec2, group, default_vpc):
    def authorize(code, **peer):
        return refused(code, ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[tcp(80, **peer)])

    for cidr in ["10.0.0.0/33", "10.0.0/8", "300.0.0.0/8", "::/0", "x"]:
        authorize("InvalidParameterValue", **v4(cidr))
    for cidr in ["2001:db8::/129", "10.0.0.0/8", "x"]:
        authorize("InvalidParameterValue", **v6(cidr))
    authorize("InvalidGroup.NotFound", UserIdGroupPairs=[{"GroupId": "sg-0123456789abcdef0"}])
    authorize("InvalidGroupId.Malformed", UserIdGroupPairs=[{"GroupId": "web"}])
    authorize("InvalidPrefixListID.NotFound", PrefixListIds=[{"PrefixListId": "pl-0123456789abcdef0"}])
    # A rule without a peer is an error, not nothing.
    refused("InvalidParameterValue", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[tcp(80)])
    refused("MissingParameter", ec2.authorize_security_group_ingress, GroupId=group)
    refused(
        "MissingParameter",
        ec2.authorize_security_group_ingress,
        IpPermissions=[tcp(80, **v4("0.0.0.0/0"))],
        text="The request must contain the parameter groupName or groupId",
    )
    elsewhere = ec2.create_security_group(GroupName=name(), Description="x")["GroupId"]
    text = authorize("InvalidGroup.NotFound", UserIdGroupPairs=[{"GroupId": elsewhere}])
    assert text == "You have specified two resources that belong to different networks."
    ec2.delete_security_group(GroupId=elsewhere)
    assert ingress(ec2, group) == []


def test_descriptions_that_ec2_refuses(ec2, group):
    text = (
        "Invalid rule description. Valid descriptions are strings less than 256 characters from the following set:"
        "  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"
    )
    for description in ["x" * 256, "it's", "é"]:
        ranges = [{"CidrIp": "10.0.0.0/8", "Description": description}]
        refused(
            "InvalidParameterValue",
            ec2.authorize_security_group_ingress,
            GroupId=group,
            IpPermissions=[tcp(80, IpRanges=ranges)],
            text=text,
        )
    ranges = [{"CidrIp": "10.0.0.0/8", "Description": "a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"}]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(80, IpRanges=ranges)])
    (permission,) = ingress(ec2, group)
    assert permission["IpRanges"] == ranges


def test_networks_are_canonical(ec2, group):
    ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[tcp(80, **v4("100.68.0.18/18"), **v6("2001:DB8:0:0:1::1/64"))]
    )
    (permission,) = ingress(ec2, group)
    assert permission["IpRanges"] == [{"CidrIp": "100.68.0.0/18"}]
    assert permission["Ipv6Ranges"] == [{"CidrIpv6": "2001:db8::/64"}]
    # In any spelling.
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(80, **v4("100.68.1.1/18"))])
    (permission,) = ingress(ec2, group)
    assert permission["IpRanges"] == []


@pytest.mark.parametrize("ports", [{}, {"FromPort": 0, "ToPort": 0}, {"FromPort": -1, "ToPort": -1}])
def test_the_default_egress_rule_is_revoked_with_and_without_ports(ec2, group, ports):
    answer = ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[{**ALL_EGRESS, **ports}])
    assert answer["Return"] is True
    (revoked,) = answer["RevokedSecurityGroupRules"]
    assert (revoked["IsEgress"], revoked["CidrIpv4"], revoked["GroupId"]) == (True, "0.0.0.0/0", group)
    assert described(ec2, group)["IpPermissionsEgress"] == []
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[{**ALL_EGRESS, **ports}])
    (permission,) = described(ec2, group)["IpPermissionsEgress"]
    assert permission["IpProtocol"] == "-1" and "FromPort" not in permission


def test_revoking_what_is_not_there_is_refused_and_nothing_is_done(ec2, group):
    ssh = tcp(22, IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "office"}])
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    for wrong in [
        [ssh, tcp(23, **v4("10.0.0.0/8"))],
        [tcp(22, 23, **v4("10.0.0.0/8"))],
        [tcp(22, **v4("10.0.0.0/9"))],
        [tcp(22, **v6("::/0"))],
        [tcp(22, IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "other"}])],
    ]:
        text = refused(
            "InvalidPermission.NotFound", ec2.revoke_security_group_ingress, GroupId=group, IpPermissions=wrong
        )
        assert text.startswith("The specified rule does not exist in this security group")
    refused("InvalidPermission.NotFound", ec2.revoke_security_group_egress, GroupId=group, IpPermissions=[ssh])
    assert len(ingress(ec2, group)) == 1
    # Without its description it is found.
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, **v4("10.0.0.0/8"))])
    assert ingress(ec2, group) == []


def test_rules_are_revoked_by_id(ec2, group, make_group):
    answer = ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[tcp(22, **v4("10.0.0.0/8", "10.0.0.0/9")), tcp(80, **v6("::/0"))]
    )
    ids = [rule["SecurityGroupRuleId"] for rule in answer["SecurityGroupRules"]]
    unknown = "sgr-0123456789abcdef0"
    refused(
        "InvalidSecurityGroupRuleId.NotFound",
        ec2.revoke_security_group_ingress,
        GroupId=group,
        SecurityGroupRuleIds=[ids[0], unknown],
        text=f"The security group rule ID '{unknown}' does not exist",
    )
    refused("InvalidSecurityGroupRuleId.Malformed", ec2.revoke_security_group_ingress, GroupId=group, SecurityGroupRuleIds=["x"])
    (egress,) = rules(ec2, group, egress=True)
    # One of the other direction, and one of another group.
    for wrong in [
        {"GroupId": group, "SecurityGroupRuleIds": [egress["SecurityGroupRuleId"]]},
        {"GroupId": make_group(), "SecurityGroupRuleIds": [ids[0]]},
    ]:
        with pytest.raises(Exception):
            ec2.revoke_security_group_ingress(**wrong)
    assert len(rules(ec2, group)) == 3
    answer = ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=ids[:2])
    assert {rule["SecurityGroupRuleId"] for rule in answer["RevokedSecurityGroupRules"]} == set(ids[:2])
    assert [rule["SecurityGroupRuleId"] for rule in rules(ec2, group)] == ids[2:]


def test_rules_are_described_by_group_id_or_tag(ec2, make_group):
    groups = [make_group(), make_group()]
    tags = [{"Key": "rule", "Value": name()}]
    answer = ec2.authorize_security_group_ingress(
        GroupId=groups[0],
        IpPermissions=[tcp(22, **v4("10.0.0.0/8"))],
        TagSpecifications=[{"ResourceType": "security-group-rule", "Tags": tags}],
    )
    (rule,) = answer["SecurityGroupRules"]
    assert rule["Tags"] == tags
    rule = rule["SecurityGroupRuleId"]

    def found(*chosen, **arguments):
        answer = ec2.describe_security_group_rules(Filters=[one for part in chosen for one in part], **arguments)
        return {one["SecurityGroupRuleId"] for one in answer["SecurityGroupRules"]}

    of_group, of_tag = filters(group_id=groups[0]), [{"Name": "tag:rule", "Values": [tags[0]["Value"]]}]
    assert len(found(of_group)) == 2
    assert len(found(filters(group_id=groups))) == 3
    assert found(of_tag) == {rule}
    # In any order.
    assert found(of_group, of_tag) == found(of_tag, of_group) == {rule}
    assert found(filters(security_group_rule_id=rule)) == {rule}
    assert found(SecurityGroupRuleIds=[rule]) == {rule}
    assert found(filters(group_id="sg-0123456789abcdef0")) == set()
    refused(
        "InvalidSecurityGroupRuleId.NotFound",
        ec2.describe_security_group_rules,
        SecurityGroupRuleIds=["sgr-0123456789abcdef0"],
        text="The security group rule ID 'sgr-0123456789abcdef0' does not exist",
    )
    refused("InvalidSecurityGroupRuleId.Malformed", ec2.describe_security_group_rules, SecurityGroupRuleIds=["rule"])
    refused(
        "InvalidParameterValue",
        ec2.authorize_security_group_ingress,
        GroupId=groups[1],
        IpPermissions=[tcp(1, **v4("10.0.0.0/8"))],
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )


def test_pages_of_rules(ec2, group):
    ranges = [f"10.{number}.0.0/16" for number in range(12)]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, **v4(*ranges))])
    pages = ec2.get_paginator("describe_security_group_rules").paginate(
        Filters=filters(group_id=group), PaginationConfig={"PageSize": 5}
    )
    pages = [[rule["SecurityGroupRuleId"] for rule in page["SecurityGroupRules"]] for page in pages]
    assert [len(page) for page in pages] == [5, 5, 3]
    assert len({rule for page in pages for rule in page}) == 13


def test_a_modified_rule_keeps_its_id(ec2, group, make_group):
    answer = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, **v4("10.0.0.0/8"))])
    rule = answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    egress = rules(ec2, group, egress=True)[0]["SecurityGroupRuleId"]

    def modify(*changes):
        return ec2.modify_security_group_rules(
            GroupId=group,
            SecurityGroupRules=[{"SecurityGroupRuleId": one, "SecurityGroupRule": to} for one, to in changes],
        )

    web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIpv4": "10.9.0.0/16", "Description": "new"}
    # Of both directions in one call.
    answer = modify((rule, web), (egress, {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "CidrIpv4": "0.0.0.0/0"}))
    assert answer["Return"] is True
    found = of(rules(ec2, group), "SecurityGroupRuleId", rule)
    assert {key: found[key] for key in web} == web
    assert of(rules(ec2, group, egress=True), "SecurityGroupRuleId", egress)["FromPort"] == 53

    unknown = "sgr-0123456789abcdef0"
    for code, text, changes in [
        (
            "InvalidSecurityGroupRuleId.NotFound",
            f"The security group rule ID '{unknown}' does not exist",
            [(rule, {**web, "FromPort": 1}), (unknown, web)],
        ),
        (
            "MissingParameter",
            "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId",
            [(rule, {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1})],
        ),
        (
            "InvalidParameterCombination",
            "Only one of cidrIp, cidrIpv6, prefixListId, or referencedGroupId can be specified",
            [(rule, {**web, "CidrIpv6": "::/0"})],
        ),
        (
            "InvalidParameterValue",
            "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.",
            [(rule, {"IpProtocol": "tcp", "CidrIpv4": "10.0.0.0/8"})],
        ),
    ]:
        refused(
            code,
            ec2.modify_security_group_rules,
            text=text,
            GroupId=group,
            SecurityGroupRules=[{"SecurityGroupRuleId": one, "SecurityGroupRule": to} for one, to in changes],
        )
    assert of(rules(ec2, group), "SecurityGroupRuleId", rule)["FromPort"] == 80
    # One that equals another rule.
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, **v4("10.0.0.0/8"))])
    refused(
        "InvalidPermission.Duplicate",
        ec2.modify_security_group_rules,
        GroupId=group,
        SecurityGroupRules=[
            {
                "SecurityGroupRuleId": rule,
                "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "10.0.0.0/8"},
            }
        ],
    )


def test_descriptions_are_updated_by_permission_or_by_id(ec2, group):
    def update(**arguments):
        assert ec2.update_security_group_rule_descriptions_ingress(GroupId=group, **arguments)["Return"] is True
        return rules(ec2, group)[0].get("Description")

    answer = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(22, **v4("10.0.0.0/8"))])
    rule = answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    ranges = [{"CidrIp": "10.0.0.0/8", "Description": "first"}]
    assert update(IpPermissions=[tcp(22, IpRanges=ranges)]) == "first"
    by_id = [{"SecurityGroupRuleId": rule, "Description": "second"}]
    assert update(SecurityGroupRuleDescriptions=by_id) == "second"
    # An omitted one removes it.
    assert update(IpPermissions=[tcp(22, **v4("10.0.0.0/8"))]) in (None, "")
    refused(
        "InvalidPermission.NotFound",
        ec2.update_security_group_rule_descriptions_ingress,
        GroupId=group,
        IpPermissions=[tcp(23, IpRanges=ranges)],
    )
    egress = [{**ALL_EGRESS, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "out"}]}]
    ec2.update_security_group_rule_descriptions_egress(GroupId=group, IpPermissions=egress)
    assert rules(ec2, group, egress=True)[0]["Description"] == "out"


def test_sixty_rules_of_each_direction_and_family(ec2, group):
    def authorize(first, last, call=ec2.authorize_security_group_ingress, peer=v4("10.0.0.0/8")):
        call(GroupId=group, IpPermissions=[tcp(port, **peer) for port in range(first, last)])

    authorize(1, 61)
    authorize(1, 61, peer=v6("::/0"))
    for peer in [v4("10.0.0.0/8"), v6("::/0"), {"UserIdGroupPairs": [{"GroupId": group}]}]:
        refused(
            "RulesPerSecurityGroupLimitExceeded",
            ec2.authorize_security_group_ingress,
            GroupId=group,
            IpPermissions=[tcp(100, **peer)],
            text="The maximum number of rules per security group has been reached.",
        )
    # 61 at once are refused as a whole; the default rule counts.
    refused(
        "RulesPerSecurityGroupLimitExceeded",
        ec2.authorize_security_group_egress,
        GroupId=group,
        IpPermissions=[tcp(port, **v4("10.0.0.0/8")) for port in range(1, 61)],
    )
    assert len(rules(ec2, group, egress=True)) == 1
    authorize(1, 60, call=ec2.authorize_security_group_egress)
