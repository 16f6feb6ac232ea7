"""What clients ask before anything else: the account, the region, VPCs, subnets and this host."""

import re

from conftest import filters, of, refused


def test_one_account_region_default_vpc_subnet_and_group_exist(ec2, sts, default_vpc, account, region):
    assert re.fullmatch(r"\d{12}", account)
    identity = sts.get_caller_identity()
    assert identity["Arn"].startswith(f"arn:aws:")
    of(ec2.describe_regions()["Regions"], "RegionName", region)
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert zones and all(zone["RegionName"] == region and zone["State"] == "available" for zone in zones)
    subnets = ec2.describe_subnets(Filters=filters(vpc_id=default_vpc))["Subnets"]
    assert of(subnets, "DefaultForAz", True)["AvailabilityZone"] in {zone["ZoneName"] for zone in zones}
    groups = ec2.describe_security_groups(Filters=filters(vpc_id=default_vpc, group_name="default"))
    assert len(groups["SecurityGroups"]) == 1


def test_account_attributes(ec2, default_vpc):
    answer = ec2.describe_account_attributes()["AccountAttributes"]
    values = {one["AttributeName"]: [value["AttributeValue"] for value in one["AttributeValues"]] for one in answer}
    assert values["supported-platforms"] == ["VPC"]
    assert values["default-vpc"] == [default_vpc]
    assert values["max-instances"]
    one = ec2.describe_account_attributes(AttributeNames=["supported-platforms"])["AccountAttributes"]
    assert [attribute["AttributeName"] for attribute in one] == ["supported-platforms"]
    refused("InvalidParameterValue", ec2.describe_account_attributes, AttributeNames=["no-such"])


def test_what_terraform_asks_about_the_default_vpc(ec2, default_vpc):
    # In both spellings of the filter.
    for its_name in ["isDefault", "is-default"]:
        (found,) = ec2.describe_vpcs(Filters=[{"Name": its_name, "Values": ["true"]}])["Vpcs"]
        assert found["VpcId"] == default_vpc
    for attribute, key in [("enableDnsHostnames", "EnableDnsHostnames"), ("enableDnsSupport", "EnableDnsSupport")]:
        answer = ec2.describe_vpc_attribute(VpcId=default_vpc, Attribute=attribute)
        assert answer["VpcId"] == default_vpc
        assert isinstance(answer[key]["Value"], bool)
    main = [{"Name": "association.main", "Values": ["true"]}, *filters(vpc_id=default_vpc)]
    (table,) = ec2.describe_route_tables(Filters=main)["RouteTables"]
    assert any(one.get("Main") for one in table["Associations"])
    assert ec2.describe_internet_gateways()["InternetGateways"] == []
    for call in [ec2.describe_vpc_classic_link, ec2.describe_vpc_classic_link_dns_support]:
        try:
            answer = call(VpcIds=[default_vpc])
        except ec2.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "UnsupportedOperation"
        else:
            assert all(not one.get("ClassicLinkEnabled") for one in answer["Vpcs"])


def test_a_vpc_and_a_subnet_are_created_and_deleted(ec2, account):
    made = ec2.create_vpc(
        CidrBlock="10.30.0.0/16",
        TagSpecifications=[{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "tf"}]}],
    )["Vpc"]
    vpc = made["VpcId"]
    assert re.fullmatch("vpc-[0-9a-f]{17}", vpc)
    (found,) = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]
    assert (found["CidrBlock"], found["IsDefault"], found["State"]) == ("10.30.0.0/16", False, "available")
    assert found["Tags"] == [{"Key": "Name", "Value": "tf"}]
    # With a zone that is an empty parameter, as Terraform sends it.
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.30.1.0/24", AvailabilityZone="", AvailabilityZoneId="")["Subnet"]
    assert (subnet["VpcId"], subnet["CidrBlock"], subnet["OwnerId"]) == (vpc, "10.30.1.0/24", account)
    for chosen in [filters(vpc_id=vpc), filters(subnet_id=subnet["SubnetId"]), filters(cidr_block="10.30.1.0/24")]:
        (one,) = ec2.describe_subnets(Filters=chosen)["Subnets"]
        assert one["SubnetId"] == subnet["SubnetId"]
    refused("InvalidSubnet.Range", ec2.create_subnet, VpcId=vpc, CidrBlock="10.99.1.0/24")
    refused("InvalidSubnet.Conflict", ec2.create_subnet, VpcId=vpc, CidrBlock="10.30.1.128/25")
    refused("DependencyViolation", ec2.delete_vpc, VpcId=vpc)
    ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    answer = ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")
    assert answer["EnableDnsHostnames"] == {"Value": True}
    ec2.delete_vpc(VpcId=vpc)
    for call, arguments in [
        (ec2.describe_vpcs, {"VpcIds": [vpc]}),
        (ec2.delete_vpc, {"VpcId": vpc}),
        (ec2.create_subnet, {"VpcId": vpc, "CidrBlock": "10.30.1.0/24"}),
        (ec2.describe_vpc_attribute, {"VpcId": vpc, "Attribute": "enableDnsSupport"}),
    ]:
        refused("InvalidVpcID.NotFound", call, text=f"The vpc ID '{vpc}' does not exist", **arguments)
    refused("InvalidSubnetID.NotFound", ec2.delete_subnet, SubnetId=subnet["SubnetId"])


def test_a_vpc_with_a_group_is_not_deleted(ec2):
    vpc = ec2.create_vpc(CidrBlock="10.31.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="x", Description="x", VpcId=vpc)["GroupId"]
    refused("DependencyViolation", ec2.delete_vpc, VpcId=vpc)
    ec2.delete_security_group(GroupId=group)
    # Its default group, table and ACL go with it.
    ec2.delete_vpc(VpcId=vpc)
    assert ec2.describe_security_groups(Filters=filters(vpc_id=vpc))["SecurityGroups"] == []


def test_this_host_is_an_instance(ec2):
    (reservation,) = ec2.describe_instances()["Reservations"]
    (instance,) = reservation["Instances"]
    assert re.fullmatch("i-[0-9a-f]{17}", instance["InstanceId"])
    assert instance["State"]["Name"] == "running"
    (again,) = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"]
    assert again["Instances"][0]["InstanceId"] == instance["InstanceId"]
    refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"])


def test_networks_of_a_vpc_and_of_a_subnet_are_added_and_removed(ec2, vpc, subnet):
    made = ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock="10.200.0.0/16")["CidrBlockAssociation"]
    (found,) = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]
    networks = [one["CidrBlock"] for one in found["CidrBlockAssociationSet"] if one["CidrBlockState"]["State"] == "associated"]
    assert "10.200.0.0/16" in networks and len(networks) == 2
    ec2.disassociate_vpc_cidr_block(AssociationId=made["AssociationId"])
    ec2.associate_vpc_cidr_block(VpcId=vpc, Ipv6CidrBlock="2001:db8:1::/56", Ipv6Pool="x")
    six = ec2.associate_subnet_cidr_block(SubnetId=subnet, Ipv6CidrBlock="2001:db8:1:1::/64")
    six = six["Ipv6CidrBlockAssociation"]["AssociationId"]
    (found,) = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"]
    assert "2001:db8:1:1::/64" in [one["Ipv6CidrBlock"] for one in found["Ipv6CidrBlockAssociationSet"]]
    ec2.disassociate_subnet_cidr_block(AssociationId=six)
    ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})


def test_what_this_host_has_none_of_is_an_empty_list(ec2):
    assert ec2.describe_addresses()["Addresses"] == []
    assert ec2.describe_egress_only_internet_gateways()["EgressOnlyInternetGateways"] == []
    assert ec2.describe_nat_gateways()["NatGateways"] == []
    assert ec2.describe_vpc_endpoints()["VpcEndpoints"] == []
    assert ec2.describe_vpc_peering_connections()["VpcPeeringConnections"] == []
    assert ec2.describe_vpn_gateways()["VpnGateways"] == []
