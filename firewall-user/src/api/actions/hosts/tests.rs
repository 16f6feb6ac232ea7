//! What clients ask first.

use crate::api::tests::{Host, element};
use crate::model::Interface;

#[test]
fn account_region_and_zone_are_those_of_the_settings() {
    let host = Host::new();
    let body = host.ok("Action=DescribeAccountAttributes&AttributeName.1=supported-platforms");
    assert_eq!(element(&body, "attributeValue"), "VPC");
    let body = host.ok("Action=DescribeAccountAttributes");
    assert!(body.contains("<attributeValue>vpc-00000000000000000</attributeValue>"), "{body}");
    let body = host.ok("Action=DescribeRegions");
    assert_eq!(element(&body, "regionName"), "local");
    let body =
        host.ok("Action=DescribeAvailabilityZones&Filter.1.Name=state&Filter.1.Value.1=available");
    assert_eq!(element(&body, "zoneName"), "locala");
    host.ok("Action=CreateSubnet&VpcId=vpc-00000000000000000&CidrBlock=172.31.32.0/20&AvailabilityZone=localc");
    let body = host.ok("Action=DescribeAvailabilityZones&ZoneId.1=local-az3");
    assert_eq!(element(&body, "zoneName"), "localc");
    for form in [
        "Action=DescribeAccountAttributes&AttributeName.1=x",
        "Action=DescribeRegions&RegionName.1=us-east-1",
        "Action=DescribeAvailabilityZones&ZoneName.1=us-east-1a",
        "Action=DescribeAvailabilityZones&ZoneId.1=x",
    ] {
        assert_eq!(host.error(form).1, "InvalidParameterValue", "{form}");
    }
    assert_eq!(host.error("Action=DescribeRegions&DryRun=true").1, "DryRunOperation");
}

#[test]
fn this_host_is_the_one_instance() {
    let host = Host::new();
    let body = host.ok("Action=DescribeInstances");
    let id = element(&body, "instanceId");
    assert!(id.starts_with("i-0"), "{id}");
    assert_eq!(element(&element(&body, "instanceState"), "name"), "running");
    assert!(body.contains("<networkInterfaceSet></networkInterfaceSet>"), "{body}");
    let find = |name: &str, value: &str| {
        let form =
            format!("Action=DescribeInstances&Filter.1.Name={name}&Filter.1.Value.1={value}");
        host.ok(&form).contains("<instanceId>")
    };
    assert!(find("instance-id", &id) && find("instance-state-name", "run*"));
    assert!(!find("instance-state-name", "stopped") && !find("tag:Name", "*"));
    assert!(!find("network-interface.subnet-id", "*"));
    for (more, code) in
        [("i-00000001", "InvalidInstanceID.NotFound"), ("x", "InvalidInstanceID.Malformed")]
    {
        assert_eq!(host.error(&format!("Action=DescribeInstances&InstanceId.1={more}")).1, code);
    }
}

#[test]
fn the_instance_has_the_attached_interfaces() {
    let host = Host::new();
    let group = host.model().groups_by_id().next().unwrap().id.clone();
    for (slot, device, address) in [(0, "c0", "172.31.0.9/32"), (1, "c1", "172.31.0.10/32")] {
        let id = format!("eni-0000000{slot}").parse().unwrap();
        let mut interface = Interface::new(id, slot, device, Some("nowhere"));
        interface.groups = vec![group.clone()];
        interface.addresses = vec![address.parse().unwrap()];
        host.store(|change| change.put_interface(&interface));
    }
    let body = host.ok("Action=DescribeInstances");
    let interfaces = element(&body, "networkInterfaceSet");
    assert_eq!(element(&interfaces, "networkInterfaceId"), "eni-00000000");
    assert_eq!(element(&interfaces, "deviceIndex"), "0");
    assert!(interfaces.contains("<networkInterfaceId>eni-00000001</networkInterfaceId>"), "{body}");
    // What is the instance's is that of its primary interface.
    let rest = body.split("</networkInterfaceSet>").nth(1).unwrap();
    assert_eq!(element(rest, "privateIpAddress"), "172.31.0.9");
    assert_eq!(element(rest, "subnetId"), "subnet-00000000000000000");
    assert_eq!(element(rest, "groupId"), group.to_string());
    let find = |name: &str, value: &str| {
        let form =
            format!("Action=DescribeInstances&Filter.1.Name={name}&Filter.1.Value.1={value}");
        host.ok(&form).contains("<instanceId>")
    };
    assert!(find("private-ip-address", "172.31.0.9") && !find("private-ip-address", "172.31.0.10"));
    assert!(find("network-interface.addresses.private-ip-address", "172.31.0.10"));
    assert!(find("instance.group-id", group.as_str()) && find("vpc-id", "vpc-0*"));
    assert!(find("network-interface.attachment.device-index", "1"));
    assert!(find("availability-zone-id", "local-az1") && !find("availability-zone-id", "x"));
    // The token of a page whose last id is r-g, behind that of every reservation.
    let body = host.ok("Action=DescribeInstances&NextToken=sg1-722d67");
    assert!(body.contains("<reservationSet></reservationSet>"), "{body}");
    // Its subnet has fewer addresses for others.
    let body = host.ok("Action=DescribeSubnets");
    assert_eq!(element(&body, "availableIpAddressCount"), "4089");
}

#[test]
fn lists_of_what_does_not_exist_here_are_empty() {
    let host = Host::new();
    for (action, set, id, code) in [
        (
            "InternetGateways",
            "internetGatewaySet",
            "InternetGatewayId",
            "InvalidInternetGatewayID.NotFound",
        ),
        ("NatGateways", "natGatewaySet", "NatGatewayId", "NatGatewayNotFound"),
        ("VpcEndpoints", "vpcEndpointSet", "VpcEndpointId", "InvalidVpcEndpointId.NotFound"),
        (
            "VpcPeeringConnections",
            "vpcPeeringConnectionSet",
            "VpcPeeringConnectionId",
            "InvalidVpcPeeringConnectionID.NotFound",
        ),
        ("Addresses", "addressesSet", "PublicIp", "InvalidAddress.NotFound"),
        ("VpnGateways", "vpnGatewaySet", "VpnGatewayId", "InvalidVpnGatewayID.NotFound"),
    ] {
        let form = format!("Action=Describe{action}&Filter.1.Name=tag:k&Filter.1.Value.1=v");
        assert!(host.ok(&form).contains(&format!("<{set}></{set}>")), "{action}");
        assert_eq!(host.error(&format!("Action=Describe{action}&{id}.1=x")).1, code);
        assert_eq!(host.error(&format!("Action=Describe{action}&X=1")).1, "UnknownParameter");
    }
    let body = host.ok("Action=DescribeVpcClassicLink&VpcId.1=vpc-00000000000000000");
    assert_eq!(element(&body, "classicLinkEnabled"), "false");
    let body = host.ok("Action=DescribeVpcClassicLinkDnsSupport&VpcIds.1=vpc-00000000000000000");
    assert_eq!(element(&body, "classicLinkDnsSupported"), "false");
    let code = host.error("Action=DescribeVpcClassicLink&VpcId.1=vpc-00000001").1;
    assert_eq!(code, "InvalidVpcID.NotFound");
}
