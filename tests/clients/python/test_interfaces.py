"""Network interfaces: stored, and attached to a device of the host, which the test has made."""

import re

from conftest import filters, name, of, refused

DEVICE = "eth7"


def described(ec2, interface):
    (found,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
    return found


def create(ec2, subnet, **more):
    return ec2.create_network_interface(SubnetId=subnet, **more)["NetworkInterface"]["NetworkInterfaceId"]


def tags(**values):
    pairs = [{"Key": key.replace("_", ":"), "Value": value} for key, value in values.items()]
    return [{"ResourceType": "network-interface", "Tags": pairs}]


def test_a_new_interface(ec2, vpc, subnet, group, account):
    made = ec2.create_network_interface(
        SubnetId=subnet,
        Groups=[group],
        Description="mine",
        PrivateIpAddresses=[
            {"PrivateIpAddress": "10.0.1.8", "Primary": False},
            {"PrivateIpAddress": "10.0.1.7", "Primary": True},
        ],
        Ipv6Addresses=[{"Ipv6Address": "2001:db8::7"}],
        ConnectionTrackingSpecification={"UdpTimeout": 45},
        TagSpecifications=tags(k="v"),
        ClientToken=name("token"),
    )["NetworkInterface"]
    interface = made["NetworkInterfaceId"]
    assert re.fullmatch("eni-[0-9a-f]{17}", interface)
    assert made == described(ec2, interface)
    expected = {
        "Description": "mine",
        "InterfaceType": "interface",
        "OwnerId": account,
        "PrivateIpAddress": "10.0.1.7",
        "RequesterManaged": False,
        "SourceDestCheck": True,
        "Status": "available",
        "SubnetId": subnet,
        "TagSet": [{"Key": "k", "Value": "v"}],
        "VpcId": vpc,
        "Ipv6Addresses": [{"Ipv6Address": "2001:db8::7"}],
        "ConnectionTrackingConfiguration": {"UdpTimeout": 45},
    }
    assert {key: made.get(key) for key in expected} == expected
    assert [one["GroupId"] for one in made["Groups"]] == [group]
    assert [(one["Primary"], one["PrivateIpAddress"]) for one in made["PrivateIpAddresses"]] == [
        (True, "10.0.1.7"),
        (False, "10.0.1.8"),
    ]
    assert re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", made["MacAddress"])
    assert "Attachment" not in made
    refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    refused("DependencyViolation", ec2.delete_subnet, SubnetId=subnet)
    ec2.delete_network_interface(NetworkInterfaceId=interface)
    refused("InvalidNetworkInterfaceID.NotFound", ec2.delete_network_interface, NetworkInterfaceId=interface)
    refused("InvalidSubnetID.NotFound", ec2.create_network_interface, SubnetId="subnet-0123456789abcdef0")
    refused("MissingParameter", ec2.create_network_interface)


def test_a_token_makes_one_interface(ec2, subnet):
    token = name("token")
    made = create(ec2, subnet, ClientToken=token)
    assert create(ec2, subnet, ClientToken=token) == made
    refused("IdempotentParameterMismatch", ec2.create_network_interface, SubnetId=subnet, ClientToken=token, Description="x")
    ec2.delete_network_interface(NetworkInterfaceId=made)


def test_attributes(ec2, subnet, make_group):
    first, second = make_group(), make_group()
    interface = create(ec2, subnet, Groups=[first])

    def attribute(which):
        return ec2.describe_network_interface_attribute(NetworkInterfaceId=interface, Attribute=which)

    def modify(**more):
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, **more)

    modify(Groups=[second, first])
    assert [one["GroupId"] for one in attribute("groupSet")["Groups"]] == [second, first]
    modify(Description={"Value": "new"})
    assert attribute("description")["Description"] == {"Value": "new"}
    modify(SourceDestCheck={"Value": False})
    assert attribute("sourceDestCheck")["SourceDestCheck"] == {"Value": False}
    ec2.reset_network_interface_attribute(NetworkInterfaceId=interface, SourceDestCheck="true")
    assert attribute("sourceDestCheck")["SourceDestCheck"] == {"Value": True}
    modify(ConnectionTrackingSpecification={"TcpEstablishedTimeout": 350, "UdpStreamTimeout": 60})
    timeouts = described(ec2, interface)["ConnectionTrackingConfiguration"]
    assert timeouts == {"TcpEstablishedTimeout": 350, "UdpStreamTimeout": 60}
    assert attribute("attachment").get("Attachment") is None
    assert attribute("associatePublicIpAddress")["AssociatePublicIpAddress"] is False
    both = {"Description": {"Value": "x"}, "SourceDestCheck": {"Value": True}}
    refused("InvalidParameterCombination", ec2.modify_network_interface_attribute, NetworkInterfaceId=interface, **both)
    refused("MissingParameter", ec2.modify_network_interface_attribute, NetworkInterfaceId=interface)
    refused(
        "InvalidParameterValue",
        ec2.modify_network_interface_attribute,
        NetworkInterfaceId=interface,
        ConnectionTrackingSpecification={"UdpTimeout": 29},
    )
    many = [make_group() for _ in range(6)]
    refused(
        "SecurityGroupsPerInterfaceLimitExceeded",
        ec2.modify_network_interface_attribute,
        NetworkInterfaceId=interface,
        Groups=many,
        text="The maximum number of security groups per interface has been reached.",
    )
    ec2.delete_network_interface(NetworkInterfaceId=interface)


def test_addresses(ec2, subnet):
    interface = create(ec2, subnet)
    primary = described(ec2, interface)["PrivateIpAddress"]
    made = ec2.assign_private_ip_addresses(NetworkInterfaceId=interface, SecondaryPrivateIpAddressCount=2)
    chosen = [one["PrivateIpAddress"] for one in made["AssignedPrivateIpAddresses"]]
    assert len(chosen) == 2 and primary not in chosen
    found = described(ec2, interface)
    assert [one["PrivateIpAddress"] for one in found["PrivateIpAddresses"]] == [primary, *chosen]
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=interface, PrivateIpAddresses=chosen)
    refused(
        "InvalidParameterValue",
        ec2.unassign_private_ip_addresses,
        NetworkInterfaceId=interface,
        PrivateIpAddresses=chosen,
    )
    made = ec2.assign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6Addresses=["2001:db8::9"])
    assert made["AssignedIpv6Addresses"] == ["2001:db8::9"]
    other = {"SubnetId": subnet, "Ipv6Addresses": [{"Ipv6Address": "2001:db8::9"}]}
    refused("InvalidIPAddress.InUse", ec2.create_network_interface, **other)
    gone = ec2.unassign_ipv6_addresses(NetworkInterfaceId=interface, Ipv6Addresses=["2001:db8::9"])
    assert gone["UnassignedIpv6Addresses"] == ["2001:db8::9"]
    ec2.delete_network_interface(NetworkInterfaceId=interface)


def test_filters_and_pages(ec2, vpc, subnet, group):
    ids = [create(ec2, subnet, Groups=[group], Description=f"AWS Lambda VPC ENI-{at}") for at in range(6)]
    of_vpc = filters(vpc_id=vpc)
    for chosen in [
        filters(description="AWS Lambda VPC ENI*", group_id=group),
        filters(subnet_id=subnet, status="available"),
        filters(network_interface_id=ids),
    ]:
        found = ec2.describe_network_interfaces(Filters=chosen)["NetworkInterfaces"]
        assert {one["NetworkInterfaceId"] for one in found} == set(ids)
    found = ec2.describe_network_interfaces(Filters=[*of_vpc, *filters(status="in-use")])
    assert found["NetworkInterfaces"] == []
    pages = ec2.get_paginator("describe_network_interfaces").paginate(Filters=of_vpc, PaginationConfig={"PageSize": 5})
    pages = [[one["NetworkInterfaceId"] for one in page["NetworkInterfaces"]] for page in pages]
    assert [len(page) for page in pages] == [5, 1] and sorted(sum(pages, [])) == sorted(ids)
    refused("InvalidParameterCombination", ec2.describe_network_interfaces, NetworkInterfaceIds=ids, MaxResults=5)
    refused("InvalidNetworkInterfaceId.Malformed", ec2.describe_network_interfaces, NetworkInterfaceIds=["x"])
    for interface in ids:
        ec2.delete_network_interface(NetworkInterfaceId=interface)


def test_an_interface_is_attached_to_a_device_and_detached(ec2, subnet, group):
    (reservation,) = ec2.describe_instances()["Reservations"]
    host = reservation["Instances"][0]["InstanceId"]
    interface = create(ec2, subnet, Groups=[group], TagSpecifications=tags(secgroup_device=DEVICE))
    attach = {"NetworkInterfaceId": interface, "InstanceId": host, "DeviceIndex": 3}
    refused("InvalidInstanceID.NotFound", ec2.attach_network_interface, **{**attach, "InstanceId": "i-0123456789abcdef0"})
    refused("DryRunOperation", ec2.attach_network_interface, DryRun=True, **attach)
    attachment = ec2.attach_network_interface(**attach)["AttachmentId"]
    found = described(ec2, interface)
    assert found["Status"] == "in-use"
    expected = {"AttachmentId": attachment, "DeviceIndex": 3, "InstanceId": host, "Status": "attached", "DeleteOnTermination": False}
    assert {key: found["Attachment"][key] for key in expected} == expected
    by_host = filters(**{"attachment.instance_id": host})
    of(ec2.describe_network_interfaces(Filters=by_host)["NetworkInterfaces"], "NetworkInterfaceId", interface)
    refused("InvalidNetworkInterface.InUse", ec2.attach_network_interface, **{**attach, "DeviceIndex": 4})
    refused(
        "InvalidParameterValue",
        ec2.delete_network_interface,
        NetworkInterfaceId=interface,
        text=f"Network interface '{interface}' is currently in use.",
    )
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=interface, Attachment={"AttachmentId": attachment, "DeleteOnTermination": True}
    )
    assert described(ec2, interface)["Attachment"]["DeleteOnTermination"] is True
    # Its programs are replaced.
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=interface, ConnectionTrackingSpecification={"TcpEstablishedTimeout": 60}
    )
    ec2.detach_network_interface(AttachmentId=attachment)
    refused("InvalidAttachmentID.NotFound", ec2.detach_network_interface, AttachmentId=attachment)
    assert described(ec2, interface)["Status"] == "available"
    ec2.delete_network_interface(NetworkInterfaceId=interface)
