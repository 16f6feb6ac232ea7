"""Tags of every kind of resource."""

from conftest import filters, name, refused, tcp, v4


def tags(ec2, resource):
    answer = ec2.describe_tags(Filters=filters(resource_id=resource))["Tags"]
    assert all(tag["ResourceId"] == resource for tag in answer)
    return {tag["Key"]: tag["Value"] for tag in answer}


def test_every_kind_of_resource_has_tags(ec2, vpc, subnet, group, make_list):
    rule = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(1, **v4("10.0.0.0/8"))])
    rule = rule["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    acl = ec2.create_network_acl(VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    kinds = {
        vpc: "vpc",
        subnet: "subnet",
        group: "security-group",
        rule: "security-group-rule",
        make_list(): "prefix-list",
        acl: "network-acl",
    }
    ec2.create_tags(Resources=list(kinds), Tags=[{"Key": "env", "Value": "test"}, {"Key": "empty", "Value": ""}])
    for resource, kind in kinds.items():
        answer = ec2.describe_tags(Filters=filters(resource_id=resource))["Tags"]
        assert {tag["ResourceType"] for tag in answer} == {kind}
        assert tags(ec2, resource) == {"env": "test", "empty": ""}
    (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"env": "test", "empty": ""}
    (found,) = ec2.describe_security_group_rules(SecurityGroupRuleIds=[rule])["SecurityGroupRules"]
    assert {tag["Key"] for tag in found["Tags"]} == {"env", "empty"}
    ec2.delete_network_acl(NetworkAclId=acl)


def test_tags_are_replaced_and_deleted(ec2, group):
    def delete(*chosen):
        ec2.delete_tags(Resources=[group], **({"Tags": list(chosen)} if chosen else {}))
        return tags(ec2, group)

    ec2.create_tags(Resources=[group], Tags=[{"Key": key, "Value": "1"} for key in "abcd"])
    ec2.create_tags(Resources=[group], Tags=[{"Key": "a", "Value": "2"}, {"Key": "e", "Value": ""}])
    assert tags(ec2, group) == {"a": "2", "b": "1", "c": "1", "d": "1", "e": ""}
    # A value that differs, and one that is equal.
    assert delete({"Key": "a", "Value": "1"})["a"] == "2"
    assert "a" not in delete({"Key": "a", "Value": "2"})
    # Any value, and only the empty one.
    assert delete({"Key": "b"}) == {"c": "1", "d": "1", "e": ""}
    assert delete({"Key": "c", "Value": ""}, {"Key": "e", "Value": ""}) == {"c": "1", "d": "1"}
    assert delete({"Key": "never"}) == {"c": "1", "d": "1"}
    assert delete() == {}


def test_filters_and_pages(ec2, vpc, make_group):
    groups, value = [make_group(), make_group()], name("value")
    ec2.create_tags(Resources=groups, Tags=[{"Key": f"key-{one}", "Value": value} for one in range(4)])

    def found(*chosen):
        answer = ec2.describe_tags(Filters=[one for part in chosen for one in part])["Tags"]
        return {(tag["ResourceId"], tag["Key"]) for tag in answer}

    of_value = filters(value=value)
    assert len(found(of_value)) == 8
    assert found(of_value, filters(key="key-0")) == {(group, "key-0") for group in groups}
    assert len(found(of_value, filters(key="key-?"), filters(resource_id=groups[0]))) == 4
    assert len(found(of_value, filters(resource_type="security-group"))) == 8
    assert found(of_value, filters(resource_type="vpc")) == set()
    assert len(found([{"Name": "tag:key-1", "Values": [value]}])) == 2
    pages = ec2.get_paginator("describe_tags").paginate(Filters=of_value, PaginationConfig={"PageSize": 5})
    assert [len(page["Tags"]) for page in pages] == [5, 3]


def test_tags_that_ec2_refuses(ec2, group):
    def create(code, *chosen, resources=(group,)):
        return refused(code, ec2.create_tags, Resources=list(resources), Tags=list(chosen))

    good = {"Key": "a", "Value": "b"}
    create("InvalidParameterValue", {"Key": "aws:name", "Value": "x"})
    create("InvalidParameterValue", {"Key": "k" * 129, "Value": "x"})
    create("InvalidParameterValue", {"Key": "k", "Value": "v" * 257})
    create("InvalidGroup.NotFound", good, resources=[group, "sg-0123456789abcdef0"])
    create("InvalidID", good, resources=["xyz"])
    create("TagLimitExceeded", *[{"Key": f"k{one}", "Value": ""} for one in range(51)])
    refused("MissingParameter", ec2.create_tags, Resources=[group])
    refused("MissingParameter", ec2.create_tags, Tags=[good])
    refused("DryRunOperation", ec2.create_tags, Resources=[group], Tags=[good], DryRun=True)
    assert tags(ec2, group) == {}
    ec2.create_tags(Resources=[group], Tags=[{"Key": f"k{one}", "Value": ""} for one in range(50)])
    create("TagLimitExceeded", good)
    ec2.delete_tags(Resources=[group])
