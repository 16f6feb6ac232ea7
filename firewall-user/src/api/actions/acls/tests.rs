//! Forms about network ACLs and their answers.

use crate::api::tests::{Host, element};

const VPC: &str = "vpc-00000000000000000";

fn create(host: &Host, more: &str) -> String {
    element(&host.ok(&format!("Action=CreateNetworkAcl&VpcId={VPC}{more}")), "networkAclId")
}

fn describe(host: &Host, more: &str) -> String {
    host.ok(&format!("Action=DescribeNetworkAcls{more}"))
}

/// The id of the default network ACL and that of its association.
fn default(host: &Host) -> (String, String) {
    let body = describe(host, "&Filter.1.Name=default&Filter.1.Value.1=true");
    (element(&body, "networkAclId"), element(&body, "networkAclAssociationId"))
}

fn entry(action: &str, acl: &str, number: u32, more: &str) -> String {
    format!(
        "Action={action}&NetworkAclId={acl}&RuleNumber={number}&Protocol=6&RuleAction=allow&\
         Egress=false&CidrBlock=10.0.0.0/8&PortRange.From=22&PortRange.To=22{more}"
    )
}

#[test]
fn a_new_network_acl_denies_everything_and_its_name_is_a_tag() {
    let host = Host::new();
    let name = "&TagSpecification.1.ResourceType=network-acl&TagSpecification.1.Tag.1.Key=Name&\
                TagSpecification.1.Tag.1.Value=web";
    let (one, two, plain) = (create(&host, name), create(&host, name), create(&host, ""));
    let body = describe(&host, "&Filter.1.Name=tag:Name&Filter.1.Value.1=web");
    assert!(body.contains(&one) && body.contains(&two) && !body.contains(&plain), "{body}");
    let body = describe(&host, &format!("&NetworkAclId.1={plain}"));
    assert!(body.contains("<tagSet></tagSet>"), "{body}");
    assert!(body.contains("<associationSet></associationSet>"), "{body}");
    assert_eq!((element(&body, "default"), element(&body, "vpcId")), ("false".into(), VPC.into()));
    assert_eq!(body.matches("<ruleAction>deny</ruleAction>").count(), 4);
    let (default, _) = default(&host);
    let body = describe(&host, &format!("&NetworkAclId.1={default}"));
    assert!(body.contains("<tagSet></tagSet>"), "{body}");
    assert_eq!(body.matches("<ruleAction>allow</ruleAction>").count(), 4);
}

#[test]
fn entries_are_created_replaced_and_deleted() {
    let host = Host::new();
    let acl = create(&host, "");
    host.ok(&entry("CreateNetworkAclEntry", &acl, 100, ""));
    let (_, code, message) = host.error(&entry("CreateNetworkAclEntry", &acl, 100, ""));
    assert_eq!(code, "NetworkAclEntryAlreadyExists");
    assert_eq!(message, "The network acl entry identified by 100 already exists.");
    let filter = |name: &str, value: &str| {
        let form = format!("&Filter.1.Name=entry.{name}&Filter.1.Value.1={value}");
        describe(&host, &form).contains(&acl)
    };
    for (name, value, is_found) in [
        ("cidr", "10.0.0.0/8", true),
        ("cidr", "192.*", false),
        ("protocol", "tcp", true),
        ("protocol", "6", true),
        ("protocol", "udp", false),
        ("port-range.from", "22", true),
        ("port-range.to", "23", false),
        ("rule-number", "100", true),
        ("rule-action", "allow", true),
        ("egress", "true", true),
        ("ipv6-cidr", "::/0", true),
        ("icmp.type", "8", false),
    ] {
        assert_eq!(filter(name, value), is_found, "{name} {value}");
    }
    let other = "Protocol=1&PortRange.From=0&PortRange.To=0&Icmp.Type=8&Icmp.Code=-1";
    let replace = format!(
        "Action=ReplaceNetworkAclEntry&NetworkAclId={acl}&RuleNumber=100&RuleAction=deny&Egress=false&\
         CidrBlock=10.1.2.3/16&{other}"
    );
    host.ok(&replace);
    let body = describe(&host, &format!("&NetworkAclId.1={acl}"));
    assert_eq!(element(&body, "icmpTypeCode"), "<code>-1</code><type>8</type>");
    assert!(body.contains("<cidrBlock>10.1.0.0/16</cidrBlock>"), "{body}");
    let delete = |number: u32| {
        format!("Action=DeleteNetworkAclEntry&NetworkAclId={acl}&RuleNumber={number}&Egress=false")
    };
    host.ok(&delete(100));
    let (_, code, message) = host.error(&delete(100));
    assert_eq!(code, "InvalidNetworkAclEntry.NotFound");
    assert_eq!(message, "no ingress entry with number 100");
    assert_eq!(host.error(&delete(32_767)).1, "InvalidParameterValue");
    assert_eq!(host.error(&replace).1, "InvalidNetworkAclEntry.NotFound");
}

#[test]
fn ports_are_read_of_tcp_and_udp_only() {
    let host = Host::new();
    let acl = create(&host, "");
    let of = |number: u32, more: &str| {
        format!(
            "Action=CreateNetworkAclEntry&NetworkAclId={acl}&RuleNumber={number}&RuleAction=allow&\
             Egress=true&{more}"
        )
    };
    let ports = "PortRange.From=0&PortRange.To=0";
    for (number, more) in [
        (1, format!("Protocol=-1&CidrBlock=0.0.0.0/0&{ports}")),
        (2, format!("Protocol=-1&Ipv6CidrBlock=::/0&{ports}&Icmp.Type=0&Icmp.Code=0")),
        (3, format!("Protocol=47&CidrBlock=0.0.0.0/0&{ports}")),
        (4, format!("Protocol=58&Ipv6CidrBlock=::/0&{ports}&Icmp.Type=-1&Icmp.Code=-1")),
        (5, "Protocol=udp&CidrBlock=0.0.0.0/0&PortRange.From=53&PortRange.To=53".to_owned()),
    ] {
        host.ok(&of(number, &more));
    }
    for (more, code) in [
        ("Protocol=6&CidrBlock=0.0.0.0/0", "InvalidParameterValue"),
        ("Protocol=1&CidrBlock=0.0.0.0/0", "InvalidParameterValue"),
        ("Protocol=1&Ipv6CidrBlock=::/0&Icmp.Type=8&Icmp.Code=-1", "InvalidParameterValue"),
        ("Protocol=-1", "MissingParameter"),
        ("Protocol=-1&CidrBlock=0.0.0.0/0&Ipv6CidrBlock=::/0", "InvalidParameterCombination"),
        ("Protocol=-1&CidrBlock=::/0", "InvalidParameterValue"),
        ("Protocol=-1&CidrBlock=10.0.0.1", "InvalidParameterValue"),
        ("CidrBlock=0.0.0.0/0", "MissingParameter"),
        ("Protocol=300&CidrBlock=0.0.0.0/0", "InvalidParameterValue"),
    ] {
        assert_eq!(host.error(&of(9, more)).1, code, "{more}");
    }
    for number in [0, 32_767, 40_000] {
        let form = of(number, "Protocol=-1&CidrBlock=0.0.0.0/0");
        assert_eq!(host.error(&form).1, "InvalidParameterValue", "{number}");
    }
}

#[test]
fn a_subnet_is_associated_with_another_network_acl() {
    let host = Host::new();
    let (acl, (default, association)) = (create(&host, ""), default(&host));
    let replace = |association: &str, acl: &str| {
        format!(
            "Action=ReplaceNetworkAclAssociation&AssociationId={association}&NetworkAclId={acl}"
        )
    };
    let new = element(&host.ok(&replace(&association, &acl)), "newAssociationId");
    assert_ne!(new, association);
    let by_subnet =
        "&Filter.1.Name=association.subnet-id&Filter.1.Value.1=subnet-00000000000000000";
    let body = describe(&host, by_subnet);
    assert_eq!(element(&body, "networkAclId"), acl);
    assert_eq!(element(&body, "networkAclAssociationId"), new);
    let (_, code, message) = host.error(&replace(&association, &acl));
    assert_eq!(code, "InvalidAssociationID.NotFound");
    assert_eq!(message, format!("The association ID '{association}' does not exist"));
    let delete = |acl: &str| format!("Action=DeleteNetworkAcl&NetworkAclId={acl}");
    let (_, code, message) = host.error(&delete(&acl));
    assert_eq!(code, "DependencyViolation");
    assert!(message.contains("subnet subnet-00000000000000000"), "{message}");
    assert_eq!(host.error(&delete(&default)).1, "InvalidParameterValue");
    host.ok(&replace(&new, &default));
    host.ok(&delete(&acl));
    let (_, code, message) = host.error(&delete(&acl));
    assert_eq!(code, "InvalidNetworkAclID.NotFound");
    assert_eq!(message, format!("The networkAcl ID '{acl}' does not exist"));
}
