"""Network ACLs."""

import re

from conftest import filters, of, refused

# The last entries of each direction. A host has IPv6 whatever networks its VPC is given, so that the one for IPv6
# is always there.
LAST = [
    {"Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32767, "CidrBlock": "0.0.0.0/0"},
    {"Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32768, "Ipv6CidrBlock": "::/0"},
]


def described(ec2, acl):
    (found,) = ec2.describe_network_acls(NetworkAclIds=[acl])["NetworkAcls"]
    return found


def create(ec2, vpc, **more):
    return ec2.create_network_acl(VpcId=vpc, **more)["NetworkAcl"]["NetworkAclId"]


def entry(acl, number, **more):
    return {
        "NetworkAclId": acl,
        "RuleNumber": number,
        "Protocol": "6",
        "RuleAction": "allow",
        "Egress": False,
        "CidrBlock": "10.0.0.0/8",
        "PortRange": {"From": 22, "To": 23},
        **more,
    }


def test_a_new_acl_denies_everything(ec2, vpc, account):
    tags = [{"Key": "a", "Value": "b"}]
    made = ec2.create_network_acl(VpcId=vpc, TagSpecifications=[{"ResourceType": "network-acl", "Tags": tags}])["NetworkAcl"]
    acl = made["NetworkAclId"]
    assert re.fullmatch("acl-[0-9a-f]{17}", acl)
    for found in [made, described(ec2, acl)]:
        assert (found["VpcId"], found["IsDefault"], found["OwnerId"]) == (vpc, False, account)
        assert found["Tags"] == tags
        assert found["Associations"] == []
        for egress in [False, True]:
            entries = [one for one in found["Entries"] if one["Egress"] == egress]
            assert entries == [{**one, "Egress": egress} for one in LAST]
    ec2.delete_network_acl(NetworkAclId=acl)
    refused("InvalidNetworkAclID.NotFound", ec2.describe_network_acls, NetworkAclIds=[acl])
    refused("InvalidNetworkAclID.NotFound", ec2.delete_network_acl, NetworkAclId=acl)


def test_entries_are_created_replaced_and_deleted(ec2, vpc):
    acl = create(ec2, vpc)
    ec2.create_network_acl_entry(**entry(acl, 100))
    # As Terraform writes ports of what has none, and in the other direction.
    ec2.create_network_acl_entry(
        **entry(acl, 100, Egress=True, Protocol="-1", PortRange={"From": 0, "To": 0}, RuleAction="deny")
    )
    ec2.create_network_acl_entry(
        **entry(acl, 110, Protocol="1", IcmpTypeCode={"Type": 8, "Code": -1}, PortRange={"From": 0, "To": 0})
    )
    six = entry(acl, 120, Ipv6CidrBlock="2001:db8::/32", Protocol="17")
    del six["CidrBlock"]
    ec2.create_network_acl_entry(**six)
    entries = described(ec2, acl)["Entries"]
    assert len(entries) == 8
    ingress = {one["RuleNumber"]: one for one in entries if not one["Egress"]}
    assert ingress[100]["PortRange"] == {"From": 22, "To": 23}
    assert (ingress[100]["Protocol"], ingress[100]["RuleAction"]) == ("6", "allow")
    assert ingress[110]["IcmpTypeCode"] == {"Type": 8, "Code": -1}
    assert ingress[120]["Ipv6CidrBlock"] == "2001:db8::/32"
    (egress,) = [one for one in entries if one["Egress"] and one["RuleNumber"] == 100]
    assert (egress["Protocol"], egress["RuleAction"], egress["CidrBlock"]) == ("-1", "deny", "10.0.0.0/8")

    refused("NetworkAclEntryAlreadyExists", ec2.create_network_acl_entry, **entry(acl, 100))
    refused("InvalidNetworkAclEntry.NotFound", ec2.replace_network_acl_entry, **entry(acl, 7))
    ec2.replace_network_acl_entry(**entry(acl, 100, RuleAction="deny", PortRange={"From": 80, "To": 80}))
    found = [one for one in described(ec2, acl)["Entries"] if not one["Egress"] and one["RuleNumber"] == 100]
    assert (found[0]["RuleAction"], found[0]["PortRange"]) == ("deny", {"From": 80, "To": 80})
    ec2.delete_network_acl_entry(NetworkAclId=acl, RuleNumber=100, Egress=False)
    refused("InvalidNetworkAclEntry.NotFound", ec2.delete_network_acl_entry, NetworkAclId=acl, RuleNumber=100, Egress=False)
    ec2.delete_network_acl(NetworkAclId=acl)


def test_entries_that_ec2_refuses(ec2, vpc):
    acl = create(ec2, vpc)

    def refuse(code, **more):
        whole = entry(acl, 100, **more)
        return refused(code, ec2.create_network_acl_entry, **{key: value for key, value in whole.items() if value is not None})

    # The last one is not to be edited.
    refuse("InvalidParameterValue", RuleNumber=32767)
    refuse("InvalidParameterValue", RuleNumber=0)
    refuse("InvalidParameterValue", RuleAction="maybe")
    refuse("InvalidParameterValue", CidrBlock="10.0.0.0/33")
    refuse("MissingParameter", CidrBlock=None)
    refuse("MissingParameter", RuleNumber=None)
    refuse("MissingParameter", Protocol=None)
    refuse("InvalidNetworkAclID.NotFound", NetworkAclId="acl-0123456789abcdef0")
    refused("InvalidParameterValue", ec2.delete_network_acl_entry, NetworkAclId=acl, RuleNumber=32767, Egress=True)
    refused("DryRunOperation", ec2.create_network_acl_entry, DryRun=True, **entry(acl, 100))
    assert len(described(ec2, acl)["Entries"]) == 4
    ec2.delete_network_acl(NetworkAclId=acl)


def test_the_default_acl_and_the_associations_of_subnets(ec2, vpc, subnet):
    (default,) = ec2.describe_network_acls(Filters=filters(vpc_id=vpc, default="true"))["NetworkAcls"]
    acl = default["NetworkAclId"]
    assert default["IsDefault"] is True
    ingress = [one["RuleNumber"] for one in default["Entries"] if not one["Egress"]]
    assert ingress == [100, 101, 32767, 32768]
    (first,) = [one for one in default["Entries"] if not one["Egress"] and one["RuleNumber"] == 100]
    assert (first["RuleAction"], first["CidrBlock"], first["Protocol"]) == ("allow", "0.0.0.0/0", "-1")
    (association,) = default["Associations"]
    assert association["SubnetId"] == subnet
    assert re.fullmatch("aclassoc-[0-9a-f]+", association["NetworkAclAssociationId"])
    refused("InvalidParameterValue", ec2.delete_network_acl, NetworkAclId=acl)

    other = create(ec2, vpc)
    made = ec2.replace_network_acl_association(
        AssociationId=association["NetworkAclAssociationId"], NetworkAclId=other
    )["NewAssociationId"]
    assert made != association["NetworkAclAssociationId"]
    of_subnet = [{"Name": "association.subnet-id", "Values": [subnet]}]
    (found,) = ec2.describe_network_acls(Filters=of_subnet)["NetworkAcls"]
    assert found["NetworkAclId"] == other
    refused("DependencyViolation", ec2.delete_network_acl, NetworkAclId=other)
    refused(
        "InvalidAssociationID.NotFound",
        ec2.replace_network_acl_association,
        AssociationId=association["NetworkAclAssociationId"],
        NetworkAclId=other,
    )
    ec2.replace_network_acl_association(AssociationId=made, NetworkAclId=acl)
    ec2.delete_network_acl(NetworkAclId=other)


def test_filters(ec2, vpc, default_vpc):
    acl = create(ec2, vpc)
    ec2.create_network_acl_entry(**entry(acl, 4321))
    for chosen in [
        filters(network_acl_id=acl),
        filters(vpc_id=vpc, default="false"),
        [{"Name": "entry.rule-number", "Values": ["4321"]}],
        [{"Name": "entry.cidr", "Values": ["10.0.*"]}, *filters(vpc_id=vpc)],
        [{"Name": "entry.egress", "Values": ["false"]}, *filters(network_acl_id=acl)],
        [{"Name": "entry.protocol", "Values": ["6"]}, *filters(vpc_id=vpc)],
    ]:
        found = ec2.describe_network_acls(Filters=chosen)["NetworkAcls"]
        assert [one["NetworkAclId"] for one in found] == [acl], chosen
    of(ec2.describe_network_acls(Filters=filters(vpc_id=default_vpc))["NetworkAcls"], "IsDefault", True)
    refused("InvalidParameterValue", ec2.describe_network_acls, Filters=filters(no_such="x"))
    ec2.delete_network_acl(NetworkAclId=acl)
