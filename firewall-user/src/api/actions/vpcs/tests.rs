//! VPCs and subnets as clients use them.

use crate::api::tests::{Host, element};

const VPC: &str = "vpc-00000000000000000";

fn count(body: &str, set: &str) -> usize {
    let inside = element(body, set);
    inside.matches("<ownerId>").count()
}

#[test]
fn the_default_vpc_is_there_from_the_start() {
    let host = Host::new();
    let body = host.ok("Action=DescribeVpcs&Filter.1.Name=isDefault&Filter.1.Value.1=true");
    assert_eq!(element(&body, "vpcId"), VPC);
    assert_eq!(element(&body, "cidrBlock"), "172.31.0.0/16");
    let body =
        host.ok(&format!("Action=DescribeSubnets&Filter.1.Name=vpc-id&Filter.1.Value.1={VPC}"));
    assert_eq!(element(&body, "subnetId"), "subnet-00000000000000000");
    assert_eq!(element(&body, "availabilityZone"), "locala");
    assert_eq!(element(&body, "availableIpAddressCount"), "4091");
    for (attribute, value) in [("enableDnsHostnames", "true"), ("enableDnsSupport", "true")] {
        let form = format!("Action=DescribeVpcAttribute&VpcId={VPC}&Attribute={attribute}");
        assert_eq!(element(&host.ok(&form), "value"), value);
    }
    let body = host.ok(&format!(
        "Action=DescribeRouteTables&Filter.1.Name=association.main&Filter.1.Value.1=true&\
         Filter.2.Name=vpc-id&Filter.2.Value.1={VPC}"
    ));
    assert_eq!(element(&body, "routeTableId"), "rtb-00000000000000000");
    assert_eq!(element(&body, "destinationCidrBlock"), "172.31.0.0/16");
    for (form, code) in [
        (format!("Action=DeleteVpc&VpcId={VPC}"), "OperationNotPermitted"),
        ("Action=DescribeVpcs&VpcId.1=vpc-00000001".into(), "InvalidVpcID.NotFound"),
        ("Action=DescribeVpcs&VpcId.1=x".into(), "InvalidVpcId.Malformed"),
        ("Action=DescribeSubnets&SubnetId.1=subnet-00000001".into(), "InvalidSubnetID.NotFound"),
        ("Action=DescribeRouteTables&RouteTableId.1=rtb-1".into(), "InvalidRouteTableID.NotFound"),
        ("Action=DescribeVpcs&Filter.1.Name=x&Filter.1.Value.1=y".into(), "InvalidParameterValue"),
    ] {
        assert_eq!(host.error(&form).1, code, "{form}");
    }
}

#[test]
fn a_vpc_has_a_life_with_ipv6_subnets_and_groups() {
    let host = Host::new();
    let body = host.ok(
        "Action=CreateVpc&CidrBlock=10.0.0.1/16&AmazonProvidedIpv6CidrBlock=true&\
         InstanceTenancy=default&TagSpecification.1.ResourceType=vpc&TagSpecification.1.Tag.1.Key=Name&\
         TagSpecification.1.Tag.1.Value=v",
    );
    let vpc = element(&body, "vpcId");
    assert_eq!(element(&body, "cidrBlock"), "10.0.0.0/16");
    assert_eq!(element(&body, "isDefault"), "false");
    assert_eq!(element(&body, "tagSet"), "<item><key>Name</key><value>v</value></item>");
    let ipv6 = element(&body, "ipv6CidrBlock");
    assert!(ipv6.starts_with("fd") && ipv6.ends_with("/56"), "{ipv6}");
    host.ok(&format!("Action=ModifyVpcAttribute&VpcId={vpc}&EnableDnsHostnames.Value=true"));
    let form = format!("Action=DescribeVpcAttribute&VpcId={vpc}&Attribute=enableDnsHostnames");
    assert_eq!(element(&host.ok(&form), "value"), "true");

    let create = format!("Action=CreateSubnet&VpcId={vpc}&AvailabilityZone=&AvailabilityZoneId=");
    let body = host.ok(&format!("{create}&CidrBlock=10.0.1.0/24"));
    let subnet = element(&body, "subnetId");
    assert_eq!(element(&body, "availableIpAddressCount"), "251");
    assert_eq!(element(&body, "defaultForAz"), "false");
    for (cidr, code) in [
        ("10.0.1.128/25", "InvalidSubnet.Conflict"),
        ("10.1.0.0/24", "InvalidSubnet.Range"),
        ("10.0.2.0/29", "InvalidSubnet.Range"),
        ("10.0.2.0", "InvalidParameterValue"),
        ("::/64", "InvalidParameterValue"),
        ("", "MissingParameter"),
    ] {
        assert_eq!(host.error(&format!("{create}&CidrBlock={cidr}")).1, code, "{cidr}");
    }
    let zone = format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.0.2.0/24&AvailabilityZone=");
    assert_eq!(host.error(&format!("{zone}elsewhere1")).1, "InvalidParameterValue");
    let body = host.ok(&format!("{zone}localb"));
    assert_eq!(element(&body, "availabilityZoneId"), "local-az2");
    host.ok(&format!("Action=DeleteSubnet&SubnetId={}", element(&body, "subnetId")));

    let (_, code, message) = host.error(&format!("Action=DeleteVpc&VpcId={vpc}"));
    assert_eq!(code, "DependencyViolation");
    assert!(message.starts_with(&format!("The vpc '{vpc}' has dependencies")), "{message}");
    assert!(message.contains(&subnet), "{message}");
    host.ok(&format!(
        "Action=ModifySubnetAttribute&SubnetId={subnet}&MapPublicIpOnLaunch.Value=true"
    ));
    let body = host
        .ok("Action=DescribeSubnets&Filter.1.Name=map-public-ip-on-launch&Filter.1.Value.1=true&\
                        Filter.2.Name=cidr-block&Filter.2.Value.1=10.*");
    assert_eq!(element(&body, "subnetId"), subnet);
    host.ok(&format!("Action=DeleteSubnet&SubnetId={subnet}"));
    assert_eq!(
        host.error(&format!("Action=DeleteVpc&VpcId={vpc}&DryRun=true")).1,
        "DryRunOperation"
    );
    host.ok(&format!("Action=DeleteVpc&VpcId={vpc}"));
    assert_eq!(count(&host.ok("Action=DescribeVpcs"), "vpcSet"), 1);
}

#[test]
fn networks_are_associated_and_disassociated() {
    let host = Host::new();
    let associate = format!("Action=AssociateVpcCidrBlock&VpcId={VPC}");
    let body = host.ok(&format!("{associate}&CidrBlock=10.0.0.0/16"));
    let v4 = element(&body, "associationId");
    let body = host.ok(&format!("{associate}&AmazonProvidedIpv6CidrBlock=true"));
    let (v6, whole) = (element(&body, "associationId"), element(&body, "ipv6CidrBlock"));
    assert_eq!(host.error(&format!("{associate}&CidrBlock=172.31.0.0/17")).1, "CidrConflict");
    assert_eq!(host.error(&format!("{associate}&CidrBlock=9.0.0.0/8")).1, "InvalidVpc.Range");
    assert_eq!(host.error(&associate).1, "MissingParameter");
    let inside = whole.replace("/56", "/64");
    let subnet = "subnet-00000000000000000";
    let body = host
        .ok(&format!("Action=AssociateSubnetCidrBlock&SubnetId={subnet}&Ipv6CidrBlock={inside}"));
    let of_subnet = element(&body, "associationId");
    let disassociate = "Action=DisassociateVpcCidrBlock&AssociationId=";
    assert_eq!(host.error(&format!("{disassociate}{v6}")).1, "InvalidCidrBlock.InUse");
    host.ok(&format!("Action=DisassociateSubnetCidrBlock&AssociationId={of_subnet}"));
    for association in [&v6, &v4] {
        host.ok(&format!("{disassociate}{association}"));
        let code = host.error(&format!("{disassociate}{association}")).1;
        assert_eq!(code, "InvalidVpcCidrBlockAssociationID.NotFound");
    }
    let body = host.ok("Action=DescribeVpcs");
    assert!(body.contains("<ipv6CidrBlockAssociationSet></ipv6CidrBlockAssociationSet>"), "{body}");
    let first = element(&body, "associationId");
    assert_eq!(host.error(&format!("{disassociate}{first}")).1, "OperationNotPermitted");
}

#[test]
fn quotas_of_vpcs_are_ec2s() {
    let host = Host::new();
    for number in 1..5 {
        host.ok(&format!("Action=CreateVpc&CidrBlock=10.{number}.0.0/16"));
    }
    let (_, code, message) = host.error("Action=CreateVpc&CidrBlock=10.9.0.0/16");
    assert_eq!(code, "VpcLimitExceeded");
    assert!(message.starts_with("The maximum number of VPCs has been reached."), "{message}");
    assert_eq!(host.error("Action=CreateVpc&CidrBlock=10.0.0.0/8").1, "VpcLimitExceeded");
    assert_eq!(host.error("Action=CreateVpc&CidrBlock=10").1, "InvalidParameterValue");
    assert_eq!(host.error("Action=CreateVpc").1, "MissingParameter");
    let pages = host.ok("Action=DescribeVpcs&MaxResults=5");
    assert_eq!(count(&pages, "vpcSet"), 5);
}
