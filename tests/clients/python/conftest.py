"""What the tests share: a client whose every answer is checked, and a VPC for each test.

The endpoint and its keys are in the environment, under the names that every client of AWS reads.
"""

import itertools
import os
import re
import uuid

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import shapes

# The same change twice in one second has the same signature, and is refused until the client signs it again, as
# every client does by default. What is wrong is for the endpoint to say, not for the client.
CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 6}, read_timeout=30, parameter_validation=False)

# Networks of VPCs: no two requests for one are equal.
NETWORKS = itertools.count(1)


@pytest.fixture(scope="session")
def watching():
    core = botocore.session.get_session()
    core_watch = shapes.watch(core)
    boto3.setup_default_session(botocore_session=core)
    return core_watch


@pytest.fixture(scope="session")
def ec2(watching):
    return boto3.client("ec2", config=CONFIG)


@pytest.fixture(scope="session")
def sts(watching):
    return boto3.client("sts", config=CONFIG)


@pytest.fixture(autouse=True)
def answers_have_the_shapes_of_the_model(watching):
    yield
    faults, watching.faults[:] = list(watching.faults), []
    assert not faults, "\n".join(dict.fromkeys(faults))


def name(kind="test"):
    return f"{kind}-{uuid.uuid4().hex[:10]}"


def remove_vpc(ec2, vpc):
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    for interface in ec2.describe_network_interfaces(Filters=of_vpc)["NetworkInterfaces"]:
        ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
    groups = ec2.describe_security_groups(Filters=of_vpc)["SecurityGroups"]
    # Those that name each other first lose their rules.
    for group in groups:
        for permissions, revoke in [
            (group["IpPermissions"], ec2.revoke_security_group_ingress),
            (group["IpPermissionsEgress"], ec2.revoke_security_group_egress),
        ]:
            if permissions and group["GroupName"] != "default":
                revoke(GroupId=group["GroupId"], IpPermissions=permissions)
    for group in groups:
        if group["GroupName"] != "default":
            ec2.delete_security_group(GroupId=group["GroupId"])
    for acl in ec2.describe_network_acls(Filters=of_vpc)["NetworkAcls"]:
        if not acl["IsDefault"] and not acl["Associations"]:
            ec2.delete_network_acl(NetworkAclId=acl["NetworkAclId"])
    for subnet in ec2.describe_subnets(Filters=of_vpc)["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc)


@pytest.fixture
def make_list(ec2):
    made = []

    def make(cidrs=(), family="IPv4", size=5, **more):
        entries = [{"Cidr": cidr} for cidr in cidrs]
        created = ec2.create_managed_prefix_list(
            PrefixListName=name("list"), AddressFamily=family, MaxEntries=size, Entries=entries, **more
        )["PrefixList"]["PrefixListId"]
        made.append(created)
        return created

    yield make
    for one in made:
        try:
            ec2.delete_managed_prefix_list(PrefixListId=one)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidPrefixListID.NotFound", error


@pytest.fixture
def vpc(ec2, make_list):
    # Set up later, it is removed sooner: its groups may name lists.
    created = ec2.create_vpc(CidrBlock=f"10.{next(NETWORKS)}.0.0/16")["Vpc"]["VpcId"]
    yield created
    remove_vpc(ec2, created)


@pytest.fixture
def subnet(ec2, vpc):
    (network,) = (one["CidrBlock"] for one in ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"])
    cidr = network.replace(".0.0/16", ".1.0/24")
    return ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]


@pytest.fixture
def make_group(ec2, vpc):
    return lambda: ec2.create_security_group(GroupName=name(), Description="of a test", VpcId=vpc)["GroupId"]


@pytest.fixture
def group(make_group):
    return make_group()


@pytest.fixture
def default_vpc(ec2):
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    assert len(vpcs) == 1
    return vpcs[0]["VpcId"]


@pytest.fixture
def account(sts):
    return sts.get_caller_identity()["Account"]


@pytest.fixture
def region(ec2):
    return ec2.meta.region_name


def refused(code, call, *, text=None, **arguments):
    """Calls something that must be refused with a code, and with a text if one is known; returns the text."""
    try:
        answer = call(**arguments)
    except ClientError as error:
        found = error.response["Error"]
        assert found["Code"] == code, found
        if text is not None:
            assert found["Message"] == text, found
        assert re.fullmatch(r"[^\n]+", found["Message"]), found
        return found["Message"]
    raise AssertionError(f"{code} was expected, but the answer is {answer}")


def endpoint():
    return os.environ["AWS_ENDPOINT_URL"]


def tcp(first, last=None, **peers):
    """A permission for TCP."""
    return {"IpProtocol": "tcp", "FromPort": first, "ToPort": last or first, **peers}


def v4(*cidrs):
    return {"IpRanges": [{"CidrIp": cidr} for cidr in cidrs]}


def v6(*cidrs):
    return {"Ipv6Ranges": [{"CidrIpv6": cidr} for cidr in cidrs]}


def of(answer, key, value):
    """The only element with a value in a list of an answer."""
    found = [one for one in answer if one[key] == value]
    assert len(found) == 1, (found, answer)
    return found[0]


def filters(**values):
    """`filters(vpc_id=x)`: names are written with hyphens in EC2."""
    return [
        {"Name": key.replace("_", "-"), "Values": value if isinstance(value, list) else [value]}
        for key, value in values.items()
    ]
