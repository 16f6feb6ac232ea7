"""Network interfaces: created, attached to the device eth0 of this host, changed, detached and deleted."""

import re

import pytest
from conftest import filters, name, refused


@pytest.fixture
def instance(ec2):
    (reservation,) = ec2.describe_instances()["Reservations"]
    return reservation["Instances"][0]["InstanceId"]


@pytest.fixture
def make_interface(ec2, subnet):
    def make(**more):
        return ec2.create_network_interface(SubnetId=subnet, **more)["NetworkInterface"]["NetworkInterfaceId"]

    return make


def described(ec2, interface):
    (found,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
    return found


def test_a_new_interface_is_available_and_has_the_default_group(ec2, vpc, subnet, group, account):
    tags = [{"Key": "Name", "Value": "tf"}]
    made = ec2.create_network_interface(
        SubnetId=subnet,
        Description="of a test",
        Groups=[group],
        TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}],
    )["NetworkInterface"]
    interface = made["NetworkInterfaceId"]
    assert re.fullmatch("eni-[0-9a-f]{17}", interface)
    for found in [made, described(ec2, interface)]:
        assert (found["SubnetId"], found["VpcId"], found["OwnerId"]) == (subnet, vpc, account)
        assert (found["Description"], found["SourceDestCheck"]) == ("of a test", True)
        assert [one["GroupId"] for one in found["Groups"]] == [group]
        assert found["TagSet"] == tags
        assert found["InterfaceType"] == "interface"
    assert found["Status"] == "available"
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.delete_network_interface(NetworkInterfaceId=interface)
    refused(
        "InvalidNetworkInterfaceID.NotFound",
        ec2.describe_network_interfaces,
        NetworkInterfaceIds=[interface],
        text=f"The networkInterface ID '{interface}' does not exist",
    )
    without = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]
    assert [one["GroupName"] for one in without["Groups"]] == ["default"]


def test_each_attribute_is_changed_and_read(ec2, make_interface, make_group):
    interface, groups = make_interface(), [make_group(), make_group()]

    def change(**attribute):
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, **attribute)
        return described(ec2, interface)

    def read(attribute):
        return ec2.describe_network_interface_attribute(NetworkInterfaceId=interface, Attribute=attribute)

    assert {one["GroupId"] for one in change(Groups=groups)["Groups"]} == set(groups)
    assert [one["GroupId"] for one in change(Groups=groups[:1])["Groups"]] == groups[:1]
    assert [one["GroupId"] for one in read("groupSet")["Groups"]] == groups[:1]
    assert change(Description={"Value": "new"})["Description"] == "new"
    assert read("description")["Description"] == {"Value": "new"}
    assert change(SourceDestCheck={"Value": False})["SourceDestCheck"] is False
    assert read("sourceDestCheck")["SourceDestCheck"] == {"Value": False}
    found = change(ConnectionTrackingSpecification={"TcpEstablishedTimeout": 600})
    assert found["ConnectionTrackingConfiguration"]["TcpEstablishedTimeout"] == 600
    assert "Attachment" not in read("attachment")
    refused("InvalidGroup.NotFound", change, Groups=["sg-0123456789abcdef0"])
    refused("SecurityGroupsPerInterfaceLimitExceeded", change, Groups=[make_group() for _ in range(6)])
    refused("InvalidParameterCombination", change, Description={"Value": "x"}, SourceDestCheck={"Value": True})
    for timeout in [59, 432001]:
        specification = {"TcpEstablishedTimeout": timeout}
        refused("InvalidParameterValue", change, ConnectionTrackingSpecification=specification)
    assert described(ec2, interface)["Description"] == "new"


def test_addresses_of_a_subnet(ec2, vpc, subnet, make_interface):
    (network,) = (one["CidrBlock"] for one in ec2.describe_subnets(SubnetIds=[subnet])["Subnets"])
    first, second = (network.replace(".0/24", f".{host}") for host in (10, 11))
    interface = make_interface(PrivateIpAddress=first)
    found = described(ec2, interface)
    assert found["PrivateIpAddress"] == first
    (address,) = found["PrivateIpAddresses"]
    assert (address["PrivateIpAddress"], address["Primary"]) == (first, True)
    refused("InvalidIPAddress.InUse", make_interface, PrivateIpAddress=first)
    ec2.assign_private_ip_addresses(NetworkInterfaceId=interface, PrivateIpAddresses=[second])
    assert {one["PrivateIpAddress"] for one in described(ec2, interface)["PrivateIpAddresses"]} == {first, second}
    of_address = [{"Name": "addresses.private-ip-address", "Values": [second]}]
    found = ec2.describe_network_interfaces(Filters=of_address)["NetworkInterfaces"]
    assert [one["NetworkInterfaceId"] for one in found] == [interface]
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=interface, PrivateIpAddresses=[second])
    assert len(described(ec2, interface)["PrivateIpAddresses"]) == 1


def test_a_device_of_this_host_is_attached_and_detached(ec2, instance, make_interface, group):
    tags = [{"Key": "secgroup:device", "Value": "eth0"}]
    interface = make_interface(
        Groups=[group], TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}]
    )
    attach = {"NetworkInterfaceId": interface, "InstanceId": instance, "DeviceIndex": 1}
    refused("DryRunOperation", ec2.attach_network_interface, DryRun=True, **attach)
    attachment = ec2.attach_network_interface(**attach)["AttachmentId"]
    assert re.fullmatch("eni-attach-[0-9a-f]{17}", attachment)
    found = described(ec2, interface)
    assert found["Status"] == "in-use"
    assert found["Attachment"]["AttachmentId"] == attachment
    assert (found["Attachment"]["InstanceId"], found["Attachment"]["DeviceIndex"]) == (instance, 1)
    of_instance = [{"Name": "attachment.instance-id", "Values": [instance]}]
    answer = ec2.describe_network_interfaces(Filters=of_instance)["NetworkInterfaces"]
    assert interface in {one["NetworkInterfaceId"] for one in answer}
    refused("InvalidNetworkInterface.InUse", ec2.attach_network_interface, **attach)
    refused(
        "InvalidParameterValue",
        ec2.delete_network_interface,
        NetworkInterfaceId=interface,
        text=f"Network interface '{interface}' is currently in use.",
    )
    ec2.detach_network_interface(AttachmentId=attachment)
    assert described(ec2, interface)["Status"] == "available"
    refused("InvalidAttachmentID.NotFound", ec2.detach_network_interface, AttachmentId=attachment)
    ec2.delete_network_interface(NetworkInterfaceId=interface)


def test_filters_and_pages(ec2, vpc, subnet, group, make_interface):
    made = [make_interface(Description=f"AWS Lambda VPC ENI {one}", Groups=[group]) for one in range(6)]

    def found(**chosen):
        answer = ec2.describe_network_interfaces(Filters=filters(**chosen))["NetworkInterfaces"]
        return {one["NetworkInterfaceId"] for one in answer}

    assert found(vpc_id=vpc) == set(made)
    assert found(subnet_id=subnet, status="available") == set(made)
    assert found(group_id=group, description="AWS Lambda VPC ENI*") == set(made)
    assert found(group_id=group, description="AWS Lambda VPC ENI ?") == set(made)
    assert found(network_interface_id=made[:2]) == set(made[:2])
    assert found(group_id=group, status="in-use") == set()
    refused("InvalidParameterValue", found, no_such="x")
    pages = ec2.get_paginator("describe_network_interfaces").paginate(
        Filters=filters(vpc_id=vpc), PaginationConfig={"PageSize": 5}
    )
    assert [len(page["NetworkInterfaces"]) for page in pages] == [5, 1]


def test_a_client_token_makes_one_interface(ec2, subnet, make_interface):
    token = name("token")
    assert make_interface(ClientToken=token) == make_interface(ClientToken=token)
    refused("IdempotentParameterMismatch", make_interface, ClientToken=token, Description="other")


def test_interfaces_that_ec2_refuses(ec2, make_interface, make_group):
    refused("MissingParameter", ec2.create_network_interface)
    refused("InvalidSubnetID.NotFound", ec2.create_network_interface, SubnetId="subnet-0123456789abcdef0")
    refused("InvalidGroup.NotFound", make_interface, Groups=["sg-0123456789abcdef0"])
    text = refused("InvalidParameterValue", make_interface, Groups=[make_group() for _ in range(6)])
    assert re.fullmatch(r"user \d+ exceeded limit 5 on the number of interface security group memberships", text)
    elsewhere = ec2.create_security_group(GroupName=name(), Description="x")["GroupId"]
    text = refused("InvalidGroup.NotFound", make_interface, Groups=[elsewhere])
    assert text == "You have specified two resources that belong to different networks."
    ec2.delete_security_group(GroupId=elsewhere)
    refused("InvalidNetworkInterfaceID.NotFound", ec2.delete_network_interface, NetworkInterfaceId="eni-0123456789abcdef0")


def test_ipv6_addresses_and_a_reset(ec2, subnet, make_interface):
    ec2.associate_subnet_cidr_block(SubnetId=subnet, Ipv6CidrBlock="2001:db8:2:2::/64")
    interface = make_interface()
    ec2.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6Addresses=["2001:db8:2:2::10"])
    found = described(ec2, interface)["Ipv6Addresses"]
    assert [one["Ipv6Address"] for one in found] == ["2001:db8:2:2::10"]
    ec2.unassign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6Addresses=["2001:db8:2:2::10"])
    assert described(ec2, interface)["Ipv6Addresses"] == []
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, SourceDestCheck={"Value": False})
    ec2.reset_network_interface_attribute(NetworkInterfaceId=interface, SourceDestCheck="true")
    assert described(ec2, interface)["SourceDestCheck"] is True
