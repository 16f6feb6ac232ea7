//! What a request to add rules is refused for, with EC2's codes and texts.

use super::{SSH, described, form, rules};
use crate::api::tests::Host;
use crate::api::tests::groups::create;
use crate::config::Config;
use crate::model::Limits;

#[test]
fn a_rule_that_exists_is_named_as_by_ec2() {
    let host = Host::new();
    let (web, app) = (create(&host, "web"), create(&host, "app"));
    let group = format!("Groups.1.GroupId={app}");
    for (permission, expected) in [
        (
            &["IpProtocol=tcp", "FromPort=22", "ToPort=22", "IpRanges.1.CidrIp=10.0.0.0/8"][..],
            "peer: 10.0.0.0/8, TCP, from port: 22, to port: 22, ALLOW".to_owned(),
        ),
        (
            &["IpProtocol=17", "FromPort=1", "ToPort=2", "Ipv6Ranges.1.CidrIpv6=::/0"],
            "peer: ::/0, UDP, from port: 1, to port: 2, ALLOW".to_owned(),
        ),
        (
            &["IpProtocol=icmp", "FromPort=-1", "ToPort=-1", "IpRanges.1.CidrIp=10.0.0.0/24"],
            "peer: 10.0.0.0/24, ICMP, type: ALL, code: ALL, ALLOW".to_owned(),
        ),
        (
            &["IpProtocol=-1", "IpRanges.1.CidrIp=0.0.0.0/0"],
            "peer: 0.0.0.0/0, ALL, ALLOW".to_owned(),
        ),
        (
            &["IpProtocol=50", "IpRanges.1.CidrIp=0.0.0.0/0"],
            "peer: 0.0.0.0/0, protocol: 50, ALLOW".to_owned(),
        ),
        (
            &["IpProtocol=tcp", "FromPort=22", "ToPort=22", &group],
            format!("peer: {app}, TCP, from port: 22, to port: 22, ALLOW"),
        ),
    ] {
        let form = form("AuthorizeSecurityGroupIngress", &web, permission);
        host.ok(&form);
        let (_, code, message) = host.error(&form);
        assert_eq!(code, "InvalidPermission.Duplicate");
        let message = message.replace("&quot;", "\"");
        assert_eq!(message, format!("the specified rule \"{expected}\" already exists"));
    }
}

#[test]
fn malformed_rules_are_refused_with_ec2s_texts_and_nothing_is_added() {
    const DESCRIPTION: &str = "Invalid rule description. Valid descriptions are strings less than 256 \
                               characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*";
    let host = Host::new();
    let web = create(&host, "web");
    let range = "IpRanges.1.CidrIp=10.0.0.0/8";
    let long = format!("IpRanges.1.Description={}", "x".repeat(256));
    let tcp = |from: &'static str, to: &'static str| vec!["IpProtocol=tcp", from, to, range];
    let ssh = |peer: &[&'static str]| [&SSH[..], peer].concat();
    let invalid = "InvalidParameterValue";
    for (permission, code, message) in [
        (
            vec!["FromPort=22", "ToPort=22", range],
            invalid,
            "Invalid value 'null' for protocol. VPC security group rules must specify protocols \
             explicitly.",
        ),
        (
            vec!["IpProtocol=all", range],
            invalid,
            "Invalid value 'all' for IP protocol. Unknown protocol.",
        ),
        (
            vec!["IpProtocol=gre", range],
            invalid,
            "Invalid value 'gre' for IP protocol. Unknown protocol.",
        ),
        (
            vec!["IpProtocol=256", range],
            invalid,
            "Invalid value '256' for IP protocol. Unknown protocol.",
        ),
        (
            vec!["IpProtocol=tcp", range],
            invalid,
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
        ),
        (
            vec!["IpProtocol=udp", "FromPort=1", range],
            invalid,
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
        ),
        (
            vec!["IpProtocol=icmp", range],
            invalid,
            "Invalid value 'Must specify both from and to ports with ICMP.' for portRange.",
        ),
        (
            tcp("FromPort=-1", "ToPort=-1"),
            "InvalidPermission.Malformed",
            "TCP/UDP port (-1) out of range",
        ),
        (
            tcp("FromPort=0", "ToPort=65536"),
            "InvalidPermission.Malformed",
            "TCP/UDP port (65536) out of range",
        ),
        (tcp("FromPort=80", "ToPort=22"), invalid, "Invalid TCP/UDP port range (80:22)"),
        (
            tcp("FromPort=x", "ToPort=22"),
            invalid,
            "Value (x) for parameter IpPermissions.1.FromPort is invalid. Must be an integer.",
        ),
        (
            vec!["IpProtocol=icmp", "FromPort=3", "ToPort=65535", range],
            invalid,
            "ICMP code (65535) out of range",
        ),
        (
            vec!["IpProtocol=icmp", "FromPort=256", "ToPort=-1", range],
            invalid,
            "ICMP type (256) out of range",
        ),
        (ssh(&["IpRanges.1.CidrIp=10.0.0.1"]), invalid, "CIDR block 10.0.0.1 is malformed"),
        (ssh(&["IpRanges.1.CidrIp=10.0.0.0/33"]), invalid, "CIDR block 10.0.0.0/33 is malformed"),
        (ssh(&["IpRanges.1.CidrIp=::/0"]), invalid, "CIDR block ::/0 is malformed"),
        (ssh(&["Ipv6Ranges.1.CidrIpv6=10.0.0.0/8"]), invalid, "CIDR block 10.0.0.0/8 is malformed"),
        (
            ssh(&[]),
            invalid,
            "missing mandatory parameter: exactly one of remote-security-group, remote-ip-range, \
             remote-ipv6-range, or prefix-list-id must be present",
        ),
        (ssh(&["Groups.1.UserId=000000000000"]), "MissingParameter", "Source group ID missing."),
        (
            ssh(&["Groups.1.GroupId=x"]),
            "InvalidGroupId.Malformed",
            "Invalid id: \"x\" (expecting \"sg-...\")",
        ),
        (
            ssh(&["Groups.1.GroupId=sg-00000000"]),
            "InvalidGroup.NotFound",
            "The security group 'sg-00000000' does not exist",
        ),
        (
            ssh(&["Groups.1.GroupName=none"]),
            "InvalidGroup.NotFound",
            "The security group 'none' does not exist in default VPC 'vpc-00000000000000000'",
        ),
        (
            ssh(&["Groups.1.GroupId=sg-00000000", "Groups.1.UserId=me"]),
            invalid,
            "Value (me) for parameter IpPermissions.1.Groups.1.UserId is invalid. An account is 12 digits.",
        ),
        (
            ssh(&["Groups.1.GroupId=sg-00000000", "Groups.1.VpcPeeringConnectionId=-/x"]),
            "InvalidVpcPeeringConnectionId.Malformed",
            "Invalid id: \"-/x\" (expecting \"pcx-...\")",
        ),
        (
            ssh(&["PrefixListIds.1.PrefixListId=pl-00000000"]),
            "InvalidPrefixListID.NotFound",
            "The prefix list ID 'pl-00000000' does not exist",
        ),
        (
            ssh(&["PrefixListIds.1.PrefixListId=x"]),
            "InvalidPrefixListId.Malformed",
            "Invalid id: \"x\" (expecting \"pl-...\")",
        ),
        (ssh(&[range, "IpRanges.1.Description=a%7Cb"]), invalid, DESCRIPTION),
        ([&SSH[..], &[range, &long]].concat(), invalid, DESCRIPTION),
        (ssh(&[range, "IpRanges.1.Description=%C3%A9"]), invalid, DESCRIPTION),
        (
            ssh(&[range, "IpRanges.2.CidrIp=10.9.9.9/8"]),
            invalid,
            "The same permission must not appear multiple times",
        ),
        (
            ssh(&[range, "IpRanges.2.Description=x"]),
            "MissingParameter",
            "The request must contain the parameter IpPermissions.1.IpRanges.2.CidrIp",
        ),
        (
            ssh(&[range, "IpRanges.1.X=y"]),
            "UnknownParameter",
            "The parameter IpPermissions.1.IpRanges.1.X is not recognized",
        ),
    ] {
        for action in ["AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress"] {
            let error = host.error(&form(action, &web, &permission));
            let found = error.2.replace("&quot;", "\"").replace("&amp;", "&");
            assert_eq!(
                (error.0, error.1.as_str(), found.as_str()),
                (400, code, message),
                "{permission:?}"
            );
        }
    }
    assert!(described(&host, &web).items("ipPermissions").is_empty());
}

#[test]
fn the_parameters_of_a_request_are_checked_together() {
    let host = Host::new();
    let web = create(&host, "web");
    let source = "Missing source specification: include source security group or CIDR information";
    for (form, code, message) in [
        (format!("AuthorizeSecurityGroupIngress&GroupId={web}"), "MissingParameter", source),
        (
            format!(
                "AuthorizeSecurityGroupIngress&GroupId={web}&IpProtocol=tcp&FromPort=1&ToPort=1"
            ),
            "MissingParameter",
            source,
        ),
        (
            "AuthorizeSecurityGroupIngress&CidrIp=0.0.0.0/0".to_owned(),
            "MissingParameter",
            "The request must contain the parameter groupName or groupId",
        ),
        (
            format!(
                "AuthorizeSecurityGroupIngress&GroupId={web}&CidrIp=0.0.0.0/0&SourceSecurityGroupName=a"
            ),
            "InvalidParameterCombination",
            "The parameter CidrIp cannot be used with the parameter SourceSecurityGroupName",
        ),
        (
            format!(
                "AuthorizeSecurityGroupIngress&GroupId={web}&CidrIp=0.0.0.0/0\
                 &IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"
            ),
            "InvalidParameterCombination",
            "The parameter CidrIp cannot be used with the parameter IpPermissions",
        ),
        (
            "AuthorizeSecurityGroupEgress&GroupName=web".to_owned(),
            "UnknownParameter",
            "The parameter GroupName is not recognized",
        ),
        (
            "AuthorizeSecurityGroupEgress".to_owned(),
            "MissingParameter",
            "The request must contain the parameter GroupId",
        ),
        (
            format!("AuthorizeSecurityGroupEgress&GroupId={web}"),
            "MissingParameter",
            "The request must contain the parameter ipPermissions",
        ),
        (
            format!(
                "AuthorizeSecurityGroupEgress&GroupId={web}&CidrIp=0.0.0.0/0\
                 &IpPermissions.1.IpProtocol=6&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=1\
                 &IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"
            ),
            "UnknownParameter",
            "The parameter CidrIp is not recognized",
        ),
        (
            format!("RevokeSecurityGroupEgress&GroupId={web}"),
            "MissingParameter",
            "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.",
        ),
        (
            format!(
                "RevokeSecurityGroupIngress&GroupId={web}&SecurityGroupRuleId.1=sgr-00000000&CidrIp=::"
            ),
            "InvalidParameterValue",
            "CIDR block :: is malformed",
        ),
        (
            format!(
                "RevokeSecurityGroupIngress&GroupId={web}&SecurityGroupRuleId.1=sgr-00000000\
                 &IpProtocol=-1&CidrIp=0.0.0.0/0"
            ),
            "InvalidParameterCombination",
            "Only one of 'ipPermissions' or 'securityGroupRuleIds' can be provided.",
        ),
    ] {
        let error = host.error(&format!("Action={form}"));
        assert_eq!((error.1.as_str(), error.2.as_str()), (code, message), "{form}");
    }
    let vpc = host.create_vpc(false);
    let other = format!("Action=CreateSecurityGroup&GroupName=o&GroupDescription=d&VpcId={vpc}");
    let other = crate::api::tests::element(&host.ok(&other), "groupId");
    let named = [&SSH[..], &["Groups.1.GroupName=web"]].concat();
    let (_, code, message) = host.error(&form("AuthorizeSecurityGroupIngress", &other, &named));
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(
        message,
        "Invalid value 'web' for groupName. You may not reference Amazon VPC security groups by name. \
         Please use the corresponding id for this operation."
    );
}

#[test]
fn what_matches_nothing_is_stored_as_by_ec2() {
    let host = Host::new();
    let web = create(&host, "web");
    let ping = ["IpProtocol=icmp", "FromPort=-1", "ToPort=-1", "Ipv6Ranges.1.CidrIpv6=::/0"];
    host.ok(&form("AuthorizeSecurityGroupIngress", &web, &ping));
    let permission = &described(&host, &web).items("ipPermissions")[0].clone();
    assert_eq!(permission.items("ipv6Ranges").len(), 1);
    host.ok(&form("RevokeSecurityGroupIngress", &web, &ping));
}

/// A permission with networks, one for each number.
fn networks(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    let range = |(at, number): (usize, u32)| {
        let [_, _, high, low] = number.to_be_bytes();
        format!("IpRanges.{}.CidrIp=10.{high}.{low}.0/24", at + 1)
    };
    SSH.into_iter().map(str::to_owned).chain(numbers.enumerate().map(range)).collect()
}

fn add(host: &Host, group: &str, numbers: std::ops::Range<u32>) -> Result<usize, String> {
    let permission = networks(numbers);
    let permission: Vec<_> = permission.iter().map(String::as_str).collect();
    let answer = host.call(&form("AuthorizeSecurityGroupIngress", group, &permission));
    if answer.status == 200 { Ok(rules(&answer.body).len()) } else { Err(answer.body) }
}

#[test]
fn quotas_are_ec2s_unless_they_are_switched_off() {
    let host = Host::new();
    let (web, app) = (create(&host, "web"), create(&host, "app"));
    let error = add(&host, &web, 0..61).unwrap_err();
    assert!(error.contains("<Code>RulesPerSecurityGroupLimitExceeded</Code>"), "{error}");
    assert!(error.contains("The maximum number of rules per security group has been reached."));
    assert_eq!(add(&host, &web, 0..59), Ok(59));
    // A group counts in both families.
    let group = format!("Groups.1.GroupId={app}");
    let group = [&SSH[..], &[&group]].concat();
    host.ok(&form("AuthorizeSecurityGroupIngress", &web, &group));
    assert!(add(&host, &web, 59..60).is_err());
    for number in 0..59 {
        let range = format!("Ipv6Ranges.1.CidrIpv6=2001:db8:{number:x}::/48");
        host.ok(&form("AuthorizeSecurityGroupIngress", &web, &[&SSH[..], &[&range]].concat()));
    }
    let range = "Ipv6Ranges.1.CidrIpv6=2001:db8:ff::/48";
    let error =
        host.error(&form("AuthorizeSecurityGroupIngress", &web, &[&SSH[..], &[range]].concat()));
    assert_eq!(error.1, "RulesPerSecurityGroupLimitExceeded");

    let limits = Limits { groups: 2, ..Limits::default() };
    let host = Host::with(Config { limits, ..Config::default() });
    create(&host, "web");
    let error = host.error("Action=CreateSecurityGroup&GroupName=b&GroupDescription=d");
    assert_eq!(error.1, "SecurityGroupLimitExceeded");

    let limits = Limits { ec2_quotas: false, groups: 1, ..Limits::default() };
    let host = Host::with(Config { limits, ..Config::default() });
    let web = create(&host, "web");
    assert_eq!(add(&host, &web, 0..300), Ok(300));
}
