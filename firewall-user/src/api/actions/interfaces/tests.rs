//! Forms about network interfaces and their answers; nothing is attached in the kernel.

use firewall_ebpf::abi::interface::Orientation;

use crate::api::tests::{Host, element};
use crate::model::{Interface, InterfaceId, VpcId};
use crate::observe::instance;

const SUBNET: &str = "subnet-00000000000000000";
const CREATE: &str = "Action=CreateNetworkInterface&SubnetId=subnet-00000000000000000";

/// A new interface's id.
fn create(host: &Host, more: &str) -> String {
    element(&host.ok(&format!("{CREATE}{more}")), "networkInterfaceId")
}

fn describe(host: &Host, more: &str) -> String {
    host.ok(&format!("Action=DescribeNetworkInterfaces{more}"))
}

fn group(host: &Host, name: &str) -> String {
    let form = format!("Action=CreateSecurityGroup&GroupName={name}&GroupDescription=d");
    element(&host.ok(&form), "groupId")
}

/// An interface that is stored as attached to a device that does not exist.
fn attached(host: &Host, device: &str) -> Interface {
    host.store(|change| {
        let groups = change.model().group_named(&VpcId::default_vpc(), "default").unwrap();
        let groups = vec![groups.id.clone()];
        let slot = change.free_slot(8)?;
        let id = InterfaceId::random()?;
        let interface = Interface { groups, ..Interface::new(id, slot, device, Some("none")) };
        change.put_interface(&interface)?;
        Ok(change.model().interfaces[&slot].clone())
    })
}

#[test]
fn a_new_interface_is_available_with_the_default_group_and_a_free_address() {
    let host = Host::new();
    let body = host.ok(&format!(
        "{CREATE}&Description=mine&TagSpecification.1.ResourceType=network-interface&\
         TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.1.Value=v&PrivateIpAddress="
    ));
    for (name, text) in [
        ("description", "mine"),
        ("groupName", "default"),
        ("status", "available"),
        ("subnetId", SUBNET),
        ("vpcId", "vpc-00000000000000000"),
        ("privateIpAddress", "172.31.0.4"),
        ("primary", "true"),
        ("sourceDestCheck", "true"),
        ("requesterManaged", "false"),
        ("interfaceType", "interface"),
        ("availabilityZone", "locala"),
        ("ownerId", "000000000000"),
        ("value", "v"),
    ] {
        assert_eq!(element(&body, name), text, "{name}");
    }
    assert!(element(&body, "macAddress").starts_with("02:"), "{body}");
    assert!(body.contains("<ipv6AddressesSet></ipv6AddressesSet>"), "{body}");
    assert!(!body.contains("<attachment>"), "{body}");
    let body = host.ok(CREATE);
    assert_eq!(element(&body, "privateIpAddress"), "172.31.0.5");
}

#[test]
fn named_addresses_and_numbers_of_addresses_are_given() {
    let host = Host::new();
    let more = "&PrivateIpAddresses.1.PrivateIpAddress=10.0.0.6&\
                PrivateIpAddresses.2.PrivateIpAddress=10.0.0.5&PrivateIpAddresses.2.Primary=true&\
                Ipv6Addresses.1.Ipv6Address=2001:DB8::5&SecondaryPrivateIpAddressCount=1";
    let id = create(&host, more);
    let body = describe(&host, &format!("&NetworkInterfaceId.1={id}"));
    assert_eq!(element(&body, "privateIpAddress"), "10.0.0.5");
    for address in ["10.0.0.6", "172.31.0.4", "2001:db8::5"] {
        assert!(body.contains(&format!("ddress>{address}<")), "{address}: {body}");
    }
    let (_, code, message) = host.error(&format!("{CREATE}&PrivateIpAddress=10.0.0.6"));
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("InvalidIPAddress.InUse", "Address 10.0.0.6 is in use.")
    );
    for more in [
        "&PrivateIpAddress=10.0.0.0/24",
        "&PrivateIpAddress=224.0.0.1",
        "&PrivateIpAddress=::1",
        "&Ipv6Addresses.1.Ipv6Address=10.0.0.9",
        "&SecondaryPrivateIpAddressCount=257",
        "&ConnectionTrackingSpecification.UdpTimeout=61",
        "&ConnectionTrackingSpecification.UdpStreamTimeout=59",
        "&ConnectionTrackingSpecification.TcpEstablishedTimeout=432001",
    ] {
        assert_eq!(host.error(&format!("{CREATE}{more}")).1, "InvalidParameterValue", "{more}");
    }
    // The default subnet has no IPv6 network.
    let (_, code, _) = host.error(&format!("{CREATE}&Ipv6AddressCount=1"));
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
}

#[test]
fn addresses_are_assigned_and_unassigned() {
    let host = Host::new();
    let id = create(&host, "");
    let of = |action: &str, more: &str| format!("Action={action}&NetworkInterfaceId={id}&{more}");
    let body = host.ok(&of("AssignPrivateIpAddresses", "PrivateIpAddress.1=10.9.0.1"));
    assert_eq!(element(&body, "privateIpAddress"), "10.9.0.1");
    let count = of("AssignPrivateIpAddresses", "SecondaryPrivateIpAddressCount=2");
    let body = host.ok(&count);
    assert!(body.contains("172.31.0.5") && body.contains("172.31.0.6"), "{body}");
    // The primary address stays.
    assert_eq!(element(&describe(&host, ""), "privateIpAddress"), "172.31.0.4");
    let body = host.ok(&of("AssignIpv6Addresses", "Ipv6Addresses.1=2001:db8::1"));
    assert_eq!(element(&body, "assignedIpv6Addresses"), "<item>2001:db8::1</item>");
    let (_, code, _) = host.error(&of("AssignPrivateIpAddresses", "PrivateIpAddress.1=10.9.0.1"));
    assert_eq!(code, "InvalidIPAddress.InUse");
    host.ok(&of("UnassignPrivateIpAddresses", "PrivateIpAddress.1=10.9.0.1"));
    let again = of("UnassignPrivateIpAddresses", "PrivateIpAddress.1=10.9.0.1");
    assert_eq!(host.error(&again).1, "InvalidParameterValue");
    let body = host.ok(&of("UnassignIpv6Addresses", "Ipv6Addresses.1=2001:db8::1"));
    assert_eq!(element(&body, "unassignedIpv6Addresses"), "<item>2001:db8::1</item>");
    assert_eq!(host.error(&of("AssignIpv6Addresses", "")).1, "MissingParameter");
}

#[test]
fn an_interface_keeps_its_primary_address() {
    let host = Host::new();
    let id = create(&host, "&PrivateIpAddress=10.0.0.5&SecondaryPrivateIpAddressCount=1");
    let of = |address: &str| {
        format!(
            "Action=UnassignPrivateIpAddresses&NetworkInterfaceId={id}&PrivateIpAddress.1={address}"
        )
    };
    let (_, code, message) = host.error(&of("10.0.0.5"));
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(message, "The primary IP address 10.0.0.5 cannot be unassigned.");
    host.ok(&of("172.31.0.4"));
}

#[test]
fn a_checked_guest_keeps_an_address() {
    let host = Host::new();
    let more = "&Ipv6Addresses.1.Ipv6Address=2001:db8::1&Ipv6Addresses.2.Ipv6Address=2001:db8::2";
    let id = create(&host, more);
    host.change(|change| {
        let guest = |one: &mut Interface| one.orientation = Orientation::Guest;
        change.edit_interface(&id.parse().unwrap(), guest).unwrap()
    });
    let of = |address: &str| {
        format!("Action=UnassignIpv6Addresses&NetworkInterfaceId={id}&Ipv6Addresses.1={address}")
    };
    host.ok(&of("2001:db8::1"));
    let (_, code, message) = host.error(&of("2001:db8::2"));
    assert_eq!(code, "InvalidParameterValue");
    assert!(message.ends_with("the last one cannot be unassigned."), "{message}");
    let one = host.model().network_interfaces().find(|one| one.id.as_str() == id).cloned().unwrap();
    assert!(one.checks_addresses());
}

#[test]
fn an_interface_has_a_bounded_number_of_addresses() {
    let host = Host::new();
    let id = create(&host, "&SecondaryPrivateIpAddressCount=48");
    let of = |count: usize| {
        format!(
            "Action=AssignPrivateIpAddresses&NetworkInterfaceId={id}&\
             SecondaryPrivateIpAddressCount={count}"
        )
    };
    assert_eq!(host.error(&of(2)).1, "PrivateIpAddressLimitExceeded");
    host.ok(&of(1));
    let named: String = (0..51)
        .map(|at| format!("&Ipv6Addresses.{}.Ipv6Address=2001:db8::{at:x}", at + 1))
        .collect();
    assert_eq!(host.error(&format!("{CREATE}{named}")).1, "PrivateIpAddressLimitExceeded");
}

#[test]
fn interfaces_are_found_by_filters() {
    let host = Host::new();
    let web = group(&host, "web");
    let one =
        create(&host, &format!("&SecurityGroupId.1={web}&Description=AWS%20Lambda%20VPC%20ENI-x"));
    let two = create(&host, "&PrivateIpAddress=10.0.0.7");
    let attached = attached(&host, "eth0");
    let (three, attachment) = (attached.id.as_str(), attached.details.attachment.clone().unwrap());
    let instance = instance::id();
    let lambda = "AWS%20Lambda%20VPC%20ENI*";
    for (name, value, expected) in [
        ("description", lambda, &[one.as_str()][..]),
        ("group-id", &web, &[&one]),
        ("group-name", "w?b", &[&one]),
        ("status", "available", &[&one, &two]),
        ("status", "in-use", &[three]),
        ("addresses.private-ip-address", "10.0.0.*", &[&two]),
        ("private-ip-address", "10.0.0.7", &[&two]),
        ("attachment.instance-id", instance, &[three]),
        ("attachment.attachment-id", attachment.id.as_str(), &[three]),
        ("attachment.device-index", "0", &[three]),
        ("attachment.status", "attached", &[three]),
        ("subnet-id", SUBNET, &[&one, &two, three]),
        ("vpc-id", "vpc-0*", &[&one, &two, three]),
        ("network-interface-id", &two, &[&two]),
        ("mac-address", "02:*", &[&one, &two, three]),
        ("source-dest-check", "false", &[]),
        ("association.public-ip", "*", &[]),
    ] {
        let body = describe(&host, &format!("&Filter.1.Name={name}&Filter.1.Value.1={value}"));
        for id in [&one, &two, three] {
            let found = body.contains(&format!("<networkInterfaceId>{id}<"));
            assert_eq!(found, expected.contains(&id), "{name} {value} {id}: {body}");
        }
    }
    let both = format!(
        "&Filter.1.Name=group-id&Filter.1.Value.1={web}&Filter.2.Name=description&\
                        Filter.2.Value.1={lambda}"
    );
    assert!(describe(&host, &both).contains(&one));
    let unknown = "Action=DescribeNetworkInterfaces&Filter.1.Name=x&Filter.1.Value.1=1";
    assert_eq!(host.error(unknown).1, "InvalidParameterValue");
}

#[test]
fn the_zone_of_an_interface_is_that_of_its_subnet() {
    let host = Host::new();
    let body = host.ok("Action=CreateSubnet&VpcId=vpc-00000000000000000&CidrBlock=172.31.64.0/20&\
         AvailabilityZone=localc");
    let subnet = element(&body, "subnetId");
    let body = host.ok(&format!("Action=CreateNetworkInterface&SubnetId={subnet}"));
    let there = element(&body, "networkInterfaceId");
    assert_eq!(element(&body, "availabilityZone"), "localc");
    let here = create(&host, "");
    for (name, value, expected) in [
        ("availability-zone", "locala", &here),
        ("availability-zone", "localc", &there),
        ("availability-zone-id", "local-az1", &here),
        ("availability-zone-id", "local-az3", &there),
    ] {
        let body = describe(&host, &format!("&Filter.1.Name={name}&Filter.1.Value.1={value}"));
        assert_eq!(body.matches("<networkInterfaceId>").count(), 1, "{name} {value}");
        assert_eq!(&element(&body, "networkInterfaceId"), expected, "{name} {value}");
    }
}

#[test]
fn pages_and_ids_exclude_one_another() {
    let host = Host::new();
    let ids: Vec<String> = (0..7).map(|_| create(&host, "")).collect();
    let first = describe(&host, "&MaxResults=5");
    let next = element(&first, "nextToken");
    let second = describe(&host, &format!("&MaxResults=5&NextToken={next}"));
    for id in &ids {
        let id = format!("<networkInterfaceId>{id}<");
        assert!(first.contains(&id) != second.contains(&id), "{id}");
    }
    assert!(!second.contains("nextToken"));
    let both =
        format!("Action=DescribeNetworkInterfaces&MaxResults=5&NetworkInterfaceId.1={}", ids[0]);
    assert_eq!(host.error(&both).1, "InvalidParameterCombination");
    let unknown = "Action=DescribeNetworkInterfaces&NetworkInterfaceId.1=eni-0123456789abcdef0";
    let (_, code, message) = host.error(unknown);
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(message, "The networkInterface ID 'eni-0123456789abcdef0' does not exist");
    let malformed = "Action=DescribeNetworkInterfaces&NetworkInterfaceId.1=x";
    assert_eq!(host.error(malformed).1, "InvalidNetworkInterfaceId.Malformed");
}

#[test]
fn one_attribute_is_changed_at_a_time() {
    let host = Host::new();
    let (web, id) = (group(&host, "web"), create(&host, ""));
    let of = |more: &str| {
        format!("Action=ModifyNetworkInterfaceAttribute&NetworkInterfaceId={id}&{more}")
    };
    let attribute = |name: &str| {
        host.ok(&format!(
            "Action=DescribeNetworkInterfaceAttribute&NetworkInterfaceId={id}&Attribute={name}"
        ))
    };
    host.ok(&of(&format!("SecurityGroupId.1={web}")));
    assert_eq!(element(&attribute("groupSet"), "groupId"), web);
    host.ok(&of("Description.Value=new"));
    assert_eq!(element(&attribute("description"), "value"), "new");
    host.ok(&of("Description.Value="));
    assert_eq!(element(&attribute("description"), "value"), "");
    host.ok(&of("SourceDestCheck.Value=false"));
    assert_eq!(element(&attribute("sourceDestCheck"), "value"), "false");
    host.ok(&format!(
        "Action=ResetNetworkInterfaceAttribute&NetworkInterfaceId={id}&SourceDestCheck=true"
    ));
    assert_eq!(element(&attribute("sourceDestCheck"), "value"), "true");
    host.ok(&of("ConnectionTrackingSpecification.TcpEstablishedTimeout=350"));
    let body = describe(&host, &format!("&NetworkInterfaceId.1={id}"));
    assert_eq!(
        element(&body, "connectionTrackingConfiguration"),
        "<tcpEstablishedTimeout>350</tcpEstablishedTimeout>"
    );
    let both = of("Description.Value=x&SourceDestCheck.Value=true");
    assert_eq!(host.error(&both).1, "InvalidParameterCombination");
    assert_eq!(host.error(&of("")).1, "MissingParameter");
    assert_eq!(host.error(&of("AssociatePublicIpAddress=true")).1, "UnsupportedOperation");
    let unknown = of("SecurityGroupId.1=sg-0123456789abcdef0");
    assert_eq!(host.error(&unknown).1, "InvalidGroup.NotFound");
    let here = attached(&host, "eth0");
    let attachment = here.details.attachment.unwrap();
    let body = host.ok(&format!(
        "Action=DescribeNetworkInterfaceAttribute&NetworkInterfaceId={}&Attribute=attachment",
        here.id
    ));
    assert_eq!(element(&body, "attachmentId"), attachment.id.as_str());
    assert_eq!(element(&body, "instanceId"), instance::id());
    let other = format!(
        "Action=ModifyNetworkInterfaceAttribute&NetworkInterfaceId={}&Attachment.AttachmentId=\
         eni-attach-0&Attachment.DeleteOnTermination=true",
        here.id
    );
    assert_eq!(host.error(&other).1, "InvalidAttachmentID.NotFound");
}

#[test]
fn groups_of_an_interface_are_limited_and_of_its_vpc() {
    let host = Host::new();
    let groups: Vec<_> = (0..6).map(|at| group(&host, &format!("g{at}"))).collect();
    let list = |count: usize| -> String {
        (0..count).map(|at| format!("&SecurityGroupId.{}={}", at + 1, groups[at])).collect()
    };
    let id = create(&host, &list(5));
    let (_, code, message) = host.error(&format!("{CREATE}{}", list(6)));
    assert_eq!(code, "InvalidParameterValue");
    let text =
        "user 000000000000 exceeded limit 5 on the number of interface security group memberships";
    assert_eq!(message, text);
    let modify =
        format!("Action=ModifyNetworkInterfaceAttribute&NetworkInterfaceId={id}{}", list(6));
    let (_, code, message) = host.error(&modify);
    assert_eq!(code, "SecurityGroupsPerInterfaceLimitExceeded");
    assert_eq!(message, "The maximum number of security groups per interface has been reached.");
    let (_, code, message) =
        host.error(&format!("Action=DeleteSecurityGroup&GroupId={}", groups[0]));
    assert_eq!(code, "DependencyViolation");
    assert!(message.contains(&format!("network interface {id}")), "{message}");
    let vpc = host.create_vpc(false);
    let other = group(&host, &format!("other&VpcId={vpc}"));
    let (_, code, message) = host.error(&format!("{CREATE}&SecurityGroupId.1={other}"));
    assert_eq!(code, "InvalidGroup.NotFound");
    assert_eq!(message, "You have specified two resources that belong to different networks.");
}

#[test]
fn a_repeated_request_with_a_token_creates_one_interface() {
    let host = Host::new();
    let (one, two) = (create(&host, "&ClientToken=t"), create(&host, "&ClientToken=t"));
    assert_eq!(one, two);
    let other = host.error(&format!("{CREATE}&ClientToken=t&Description=x"));
    assert_eq!(other.1, "IdempotentParameterMismatch");
}

#[test]
fn an_interface_in_use_is_not_deleted_and_one_without_a_device_not_attached() {
    let host = Host::new();
    let delete = |id: &str| format!("Action=DeleteNetworkInterface&NetworkInterfaceId={id}");
    let tag = "&TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=\
               secgroup:device&TagSpecification.1.Tag.1.Value=nowhere/eth7";
    let (plain, tagged) = (create(&host, ""), create(&host, tag));
    let gone = create(&host, "");
    host.ok(&delete(&gone));
    assert_eq!(host.error(&delete(&gone)).1, "InvalidNetworkInterfaceID.NotFound");
    let here = attached(&host, "eth0");
    let (_, code, message) = host.error(&delete(here.id.as_str()));
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(message, format!("Network interface '{}' is currently in use.", here.id));
    let attach = |id: &str, instance: &str, index: u32| {
        format!(
            "Action=AttachNetworkInterface&NetworkInterfaceId={id}&InstanceId={instance}&\
             DeviceIndex={index}"
        )
    };
    let instance = instance::id();
    for (form, code, part) in [
        (attach(&plain, "i-0123456789abcdef0", 1), "InvalidInstanceID.NotFound", "does not exist"),
        (attach(&plain, instance, 0), "InvalidParameterValue", "at device index '0'"),
        (attach(&plain, instance, 1), "InvalidParameterValue", "create its tag secgroup:device"),
        (attach(&tagged, instance, 1), "InvalidParameterValue", "no device nowhere/eth7"),
        (attach(here.id.as_str(), instance, 1), "InvalidNetworkInterface.InUse", "in use."),
    ] {
        let (_, found, message) = host.error(&form);
        assert_eq!(found, code, "{form}");
        assert!(message.contains(part), "{message}");
        // A dry run finds the same.
        assert_eq!(host.error(&format!("{form}&DryRun=true")).2, message);
    }
    let detach = |id: &str| format!("Action=DetachNetworkInterface&AttachmentId={id}");
    assert_eq!(host.error(&detach("eni-attach-0&DryRun=true")).1, "InvalidAttachmentID.NotFound");
    let attachment = here.details.attachment.unwrap().id;
    let detach = format!("{}&DryRun=true", detach(attachment.as_str()));
    assert_eq!(host.error(&detach).1, "DryRunOperation");
}
