//! Rules of groups.

use super::groups::create;
use super::tree::Tree;
use super::{Host, element};

mod descriptions;
mod modify;
mod refused;

/// A form of an action for a group, with the parameters of one permission after `IpPermissions.1.`.
pub(super) fn form(action: &str, group: &str, permission: &[&str]) -> String {
    let mut form = format!("Action={action}&GroupId={group}");
    for parameter in permission {
        form.push_str("&IpPermissions.1.");
        form.push_str(parameter);
    }
    form
}

/// TCP port 22.
pub(super) const SSH: [&str; 3] = ["IpProtocol=tcp", "FromPort=22", "ToPort=22"];

/// The rules of an answer.
pub(super) fn rules(body: &str) -> Vec<Tree> {
    Tree::parse(body).items("securityGroupRuleSet").to_vec()
}

/// The id of the first rule of an answer.
pub(super) fn first_id(body: &str) -> String {
    element(body, "securityGroupRuleId")
}

/// A group as it is described.
pub(super) fn described(host: &Host, group: &str) -> Tree {
    let body = host.ok(&format!("Action=DescribeSecurityGroups&GroupId.1={group}"));
    Tree::parse(&body).items("securityGroupInfo")[0].clone()
}

#[test]
fn each_peer_of_a_permission_is_a_rule() {
    let host = Host::new();
    let (web, app) = (create(&host, "web"), create(&host, "app"));
    let peers = [
        "IpRanges.1.CidrIp=100.68.0.18/18",
        "IpRanges.1.Description=office",
        "IpRanges.2.CidrIp=203.0.113.9/0",
        "Ipv6Ranges.1.CidrIpv6=2001:0DB8:0:0::1/64",
        "Groups.1.UserId=",
        &format!("Groups.1.GroupId={app}"),
        &format!("Groups.2.GroupId={web}"),
        "Groups.2.Description=itself",
    ];
    let permission = [&["IpProtocol=TCP", "FromPort=22", "ToPort=22"][..], &peers[..]].concat();
    let tag = "&TagSpecification.1.ResourceType=security-group-rule&TagSpecification.1.Tag.1.Key=k\
               &TagSpecification.1.Tag.1.Value=v";
    let body = host.ok(&(form("AuthorizeSecurityGroupIngress", &web, &permission) + tag));
    assert_eq!(element(&body, "return"), "true");
    let added = rules(&body);
    assert_eq!(added.len(), 5);
    assert_eq!(
        added[0].names(),
        [
            "securityGroupRuleId",
            "groupId",
            "groupOwnerId",
            "isEgress",
            "ipProtocol",
            "fromPort",
            "toPort",
            "cidrIpv4",
            "description",
            "tagSet",
            "securityGroupRuleArn"
        ]
    );
    assert_eq!(added[0].text_of("ipProtocol"), "tcp");
    assert_eq!(added[0].text_of("cidrIpv4"), "100.68.0.0/18", "canonical");
    assert_eq!(added[1].text_of("cidrIpv4"), "0.0.0.0/0");
    assert_eq!(added[2].text_of("cidrIpv6"), "2001:db8::/64");
    let referenced = added[3].get("referencedGroupInfo").unwrap();
    assert_eq!(
        (referenced.text_of("groupId"), referenced.text_of("userId")),
        (&*app, "000000000000")
    );
    assert_eq!(added[4].text_of("description"), "itself");
    assert_eq!(added[4].items("tagSet")[0].text_of("value"), "v");
    let id = added[4].text_of("securityGroupRuleId");
    assert!(
        added[4].text_of("securityGroupRuleArn").ends_with(&format!("security-group-rule/{id}"))
    );

    let group = described(&host, &web);
    let [permission] = group.items("ipPermissions") else { panic!("{group:?}") };
    assert_eq!(
        permission.names(),
        ["ipProtocol", "fromPort", "toPort", "groups", "ipRanges", "ipv6Ranges", "prefixListIds"]
    );
    assert_eq!(permission.items("ipRanges").len(), 2);
    assert_eq!(permission.items("ipRanges")[1].names(), ["description", "cidrIp"]);
    assert_eq!(permission.items("groups").len(), 2);
    // The model keeps them in the order of the request.
    let model = host.model();
    let stored = &model.group("web").unwrap().rules;
    let stored: Vec<_> = stored.iter().skip(1).map(|rule| rule.id.to_string()).collect();
    let added: Vec<_> = added.iter().map(|rule| rule.text_of("securityGroupRuleId")).collect();
    assert_eq!(stored, added);
}

#[test]
fn protocols_without_ports_show_none_in_groups_and_minus_one_in_rules() {
    let host = Host::new();
    let web = create(&host, "web");
    let all = ["IpProtocol=-1", "FromPort=0", "ToPort=0", "IpRanges.1.CidrIp=10.0.0.0/8"];
    let rule = &rules(&host.ok(&form("AuthorizeSecurityGroupIngress", &web, &all)))[0];
    assert_eq!((rule.text_of("fromPort"), rule.text_of("toPort")), ("-1", "-1"));
    // As clients send what they have read, or with ports, which count for nothing.
    for ports in [&[][..], &["FromPort=-1", "ToPort=-1"], &["FromPort=0", "ToPort=65535"]] {
        let all = [&["IpProtocol=-1", "IpRanges.1.CidrIp=10.0.0.0/8"][..], ports].concat();
        let error = host.error(&form("AuthorizeSecurityGroupIngress", &web, &all));
        assert_eq!(error.1, "InvalidPermission.Duplicate", "{ports:?}");
        host.ok(&form("RevokeSecurityGroupIngress", &web, &all));
        host.ok(&form("AuthorizeSecurityGroupIngress", &web, &all));
    }
    let gre = ["IpProtocol=47", "FromPort=1", "IpRanges.1.CidrIp=10.0.0.0/8"];
    host.ok(&form("AuthorizeSecurityGroupIngress", &web, &gre));
    let group = described(&host, &web);
    for permission in group.items("ipPermissions") {
        assert!(permission.get("fromPort").is_none(), "{permission:?}");
    }
}

#[test]
fn one_ingress_rule_may_be_given_without_a_list() {
    let host = Host::new();
    let (web, app) = (create(&host, "web"), create(&host, "app"));
    let one = "IpProtocol=tcp&FromPort=80&ToPort=80&CidrIp=10.0.0.1/8";
    host.ok(&format!("Action=AuthorizeSecurityGroupIngress&GroupName=web&{one}"));
    host.ok(&format!("Action=RevokeSecurityGroupIngress&GroupId={web}&{one}"));
    let group = "SourceSecurityGroupName=app&SourceSecurityGroupOwnerId=000000000000";
    let body = host.ok(&format!("Action=AuthorizeSecurityGroupIngress&GroupId={web}&{group}"));
    let protocols: Vec<_> =
        rules(&body).iter().map(|rule| rule.text_of("ipProtocol").to_owned()).collect();
    assert_eq!(protocols, ["tcp", "udp", "icmp"], "full access");
    host.ok(&format!("Action=RevokeSecurityGroupIngress&GroupId={web}&{group}"));
    let one = "SourceSecurityGroupName=app&IpProtocol=udp&FromPort=53&ToPort=53&CidrIp=";
    let body = host.ok(&format!("Action=AuthorizeSecurityGroupIngress&GroupId={web}&{one}"));
    assert!(body.contains(&format!("<groupId>{app}</groupId>")), "{body}");
    // By name in a list.
    let named = [&SSH[..], &["Groups.1.GroupName=app"]].concat();
    host.ok(&form("AuthorizeSecurityGroupIngress", &web, &named));
    host.ok(&form("RevokeSecurityGroupIngress", &web, &named));
}

#[test]
fn rules_are_revoked_by_what_they_allow_or_by_id_all_or_none() {
    let host = Host::new();
    let web = create(&host, "web");
    let add = |cidr: &str, text: &str| {
        let range = [format!("IpRanges.1.CidrIp={cidr}"), format!("IpRanges.1.Description={text}")];
        let permission = [&SSH[..], &[&range[0], &range[1]]].concat();
        first_id(&host.ok(&form("AuthorizeSecurityGroupIngress", &web, &permission)))
    };
    let (one, two) = (add("10.0.0.0/8", "one"), add("11.0.0.0/8", ""));
    // One of the two does not exist: nothing goes.
    let wrong =
        [&SSH[..], &["IpRanges.1.CidrIp=10.0.0.0/8", "IpRanges.2.CidrIp=12.0.0.0/8"]].concat();
    let (_, code, message) = host.error(&form("RevokeSecurityGroupIngress", &web, &wrong));
    assert_eq!(code, "InvalidPermission.NotFound");
    assert_eq!(message, "The specified rule does not exist in this security group.");
    assert_eq!(described(&host, &web).items("ipPermissions")[0].items("ipRanges").len(), 2);
    for (rest, code) in [
        ("&SecurityGroupRuleId.1=sgr-00000000", "InvalidSecurityGroupRuleId.NotFound"),
        ("&SecurityGroupRuleId.1=x", "InvalidSecurityGroupRuleId.Malformed"),
        (
            &format!("&SecurityGroupRuleId.1={one}&SecurityGroupRuleId.2={one}"),
            "InvalidParameterValue",
        ),
        ("", "MissingParameter"),
    ] {
        let error = host.error(&format!("Action=RevokeSecurityGroupIngress&GroupId={web}{rest}"));
        assert_eq!(error.1, code, "{rest}");
    }
    let error = host.error(&format!(
        "Action=RevokeSecurityGroupEgress&GroupId={web}&SecurityGroupRuleId.1={one}"
    ));
    assert_eq!(error.1, "InvalidSecurityGroupRuleId.NotFound", "of the other direction");
    // A description that is given must be that of the rule.
    let text = |text: &str| [&SSH[..], &["IpRanges.1.CidrIp=10.0.0.9/8", text]].concat().join("\n");
    let with = |line: String| {
        let lines: Vec<_> = line.split('\n').collect();
        form("RevokeSecurityGroupIngress", &web, &lines)
    };
    let error = host.error(&with(text("IpRanges.1.Description=two")));
    assert_eq!(error.1, "InvalidPermission.NotFound");
    let error = host.error(&(with(text("IpRanges.1.Description=one")) + "&DryRun=true"));
    assert_eq!((error.0, error.1.as_str()), (412, "DryRunOperation"));
    let body = host.ok(&with(text("IpRanges.1.Description=one")));
    let answer = Tree::parse(&body);
    assert_eq!(
        answer.names(),
        ["requestId", "return", "unknownIpPermissionSet", "revokedSecurityGroupRuleSet"]
    );
    let [revoked] = answer.items("revokedSecurityGroupRuleSet") else { panic!("{body}") };
    assert_eq!(
        revoked.names(),
        [
            "securityGroupRuleId",
            "groupId",
            "isEgress",
            "ipProtocol",
            "fromPort",
            "toPort",
            "cidrIpv4",
            "description"
        ]
    );
    assert_eq!(revoked.text_of("securityGroupRuleId"), one);
    host.ok(&format!(
        "Action=RevokeSecurityGroupIngress&GroupId={web}&SecurityGroupRuleId.1={two}"
    ));
    // The default egress rule, as Terraform does it.
    let all = ["IpProtocol=-1", "FromPort=0", "ToPort=0", "IpRanges.1.CidrIp=0.0.0.0/0"];
    host.ok(&form("RevokeSecurityGroupEgress", &web, &all));
    let error = host.error(&form("RevokeSecurityGroupEgress", &web, &all));
    assert_eq!(error.1, "InvalidPermission.NotFound");
    let group = described(&host, &web);
    assert!(group.items("ipPermissions").is_empty());
    assert!(group.items("ipPermissionsEgress").is_empty());
}

#[test]
fn groups_of_other_accounts_and_vpcs_are_kept_and_stale() {
    let host = Host::new();
    let web = create(&host, "web");
    let vpc = host.create_vpc(false);
    let other =
        format!("Action=CreateSecurityGroup&GroupName=other&GroupDescription=d&VpcId={vpc}");
    let other = element(&host.ok(&other), "groupId");
    let add =
        |peer: &[&str]| form("AuthorizeSecurityGroupIngress", &web, &[&SSH[..], peer].concat());
    let of_other = format!("Groups.1.GroupId={other}");
    let (_, code, message) = host.error(&add(&[&of_other]));
    assert_eq!(code, "InvalidGroup.NotFound");
    assert_eq!(message, "You have specified two resources that belong to different networks.");
    let peering = "Groups.1.VpcPeeringConnectionId=pcx-0123456789abcdef0";
    let body = host.ok(&add(&[&of_other, peering, "Groups.1.PeeringStatus=active"]));
    let info = rules(&body)[0].get("referencedGroupInfo").unwrap().clone();
    assert_eq!(info.names(), ["groupId", "userId", "vpcId", "vpcPeeringConnectionId"]);
    assert_eq!(info.text_of("vpcId"), vpc.as_str());
    let error = host.error(&add(&[&of_other, &format!("Groups.1.VpcId={vpc}")]));
    assert_eq!(error.1, "InvalidPermission.Duplicate", "whatever else is said of the group");
    let account = ["Groups.1.GroupId=sg-00000001", "Groups.1.UserId=123456789012"];
    let again = ["Groups.2.GroupId=sg-00000001", "Groups.2.VpcId=vpc-00000001"];
    let error = host.error(&add(&[account, again].concat()));
    assert_eq!(error.2, "The same permission must not appear multiple times");
    host.ok(&add(&account));
    assert_eq!(host.error(&add(&account)).1, "InvalidPermission.Duplicate");
    assert_eq!(host.error(&add(&account[..1])).1, "InvalidGroup.NotFound", "of this account");
    assert_eq!(host.error(&add(&["Groups.1.GroupId=sg-00000002"])).1, "InvalidGroup.NotFound");

    let group = described(&host, &web);
    let pairs = group.items("ipPermissions")[0].items("groups");
    assert_eq!(pairs.len(), 2);
    let stale = host.ok("Action=DescribeStaleSecurityGroups&VpcId=vpc-00000000000000000");
    let stale = Tree::parse(&stale);
    let [item] = stale.items("staleSecurityGroupSet") else { panic!("{stale:?}") };
    assert_eq!(
        item.names(),
        [
            "description",
            "groupId",
            "groupName",
            "staleIpPermissions",
            "staleIpPermissionsEgress",
            "vpcId"
        ]
    );
    let permission = &item.items("staleIpPermissions")[0];
    assert_eq!(
        permission.names(),
        ["fromPort", "ipProtocol", "ipRanges", "prefixListIds", "toPort", "groups"]
    );
    assert_eq!(permission.items("groups").len(), 2);
    let none = host.ok(&format!("Action=DescribeStaleSecurityGroups&VpcId={vpc}"));
    assert!(Tree::parse(&none).items("staleSecurityGroupSet").is_empty());
    assert_eq!(host.error("Action=DescribeStaleSecurityGroups").1, "MissingParameter");

    let references = host.ok(&format!("Action=DescribeSecurityGroupReferences&GroupId.1={other}"));
    let references = Tree::parse(&references);
    let [reference] = references.items("securityGroupReferenceSet") else {
        panic!("{references:?}")
    };
    assert_eq!(reference.names(), ["groupId", "referencingVpcId", "vpcPeeringConnectionId"]);
    assert_eq!(reference.text_of("referencingVpcId"), "vpc-00000000000000000");
    assert_eq!(host.error("Action=DescribeSecurityGroupReferences").1, "MissingParameter");
    let error = host.error("Action=DescribeSecurityGroupReferences&GroupId.1=sg-00000002");
    assert_eq!(error.1, "InvalidGroup.NotFound");
    let many: String = (0..201).map(|number| format!("&GroupId.{}={web}", number + 1)).collect();
    let error = host.error(&format!("Action=DescribeSecurityGroupReferences{many}"));
    assert_eq!(error.1, "ResourceCountExceeded");

    // A peered group may go, and its rules are revoked with what is known of them.
    host.ok(&format!("Action=DeleteSecurityGroup&GroupId={other}"));
    let revoke =
        |peer: &[&str]| form("RevokeSecurityGroupIngress", &web, &[&SSH[..], peer].concat());
    let error =
        host.error(&revoke(&["Groups.1.GroupId=sg-00000001", "Groups.1.UserId=210987654321"]));
    assert_eq!(error.1, "InvalidPermission.NotFound", "of another account");
    host.ok(&revoke(&account));
    host.ok(&revoke(&[&of_other]));
    assert_eq!(host.error(&revoke(&[&of_other])).1, "InvalidGroup.NotFound");
}

#[test]
fn rules_are_described_by_id_filter_and_page() {
    let host = Host::new();
    let web = create(&host, "web");
    for number in 0..6 {
        let range = format!("IpRanges.1.CidrIp=10.{number}.0.0/16");
        host.ok(&form("AuthorizeSecurityGroupIngress", &web, &[&SSH[..], &[&range]].concat()));
    }
    let of_group =
        format!("Action=DescribeSecurityGroupRules&Filter.1.Name=group-id&Filter.1.Value.1={web}");
    let all = rules(&host.ok(&of_group));
    let order: Vec<_> = all.iter().map(|rule| rule.text_of("isEgress")).collect();
    assert_eq!(order, ["true", "false", "false", "false", "false", "false", "false"]);
    let mut seen = Vec::new();
    let mut next = format!("{of_group}&MaxResults=5");
    loop {
        let answer = Tree::parse(&host.ok(&next));
        seen.extend(answer.items("securityGroupRuleSet").to_vec());
        let Some(token) = answer.get("nextToken") else { break };
        next = format!("{of_group}&MaxResults=5&NextToken={}", token.text);
    }
    assert_eq!(seen, all);
    let id = all[3].text_of("securityGroupRuleId");
    let one = format!("Action=DescribeSecurityGroupRules&SecurityGroupRuleId.1={id}");
    assert_eq!(rules(&host.ok(&one)), [all[3].clone()]);
    let one = format!(
        "Action=DescribeSecurityGroupRules&Filter.1.Name=security-group-rule-id&Filter.1.Value.1={id}"
    );
    assert_eq!(rules(&host.ok(&one)), [all[3].clone()]);
    for (rest, code, message) in [
        (
            "Filter.1.Name=group-id&Filter.1.Value.1=foobar",
            "InvalidGroupId.Malformed",
            "The security group ID 'foobar' is malformed",
        ),
        (
            "SecurityGroupRuleId.1=sgr-00000000",
            "InvalidSecurityGroupRuleId.NotFound",
            "The security group rule ID 'sgr-00000000' does not exist",
        ),
        (
            "SecurityGroupRuleId.1=foobar",
            "InvalidSecurityGroupRuleId.Malformed",
            "Invalid id: \"foobar\" (expecting \"sgr-...\")",
        ),
        (
            "Filter.1.Name=ip-permission.cidr&Filter.1.Value.1=x",
            "InvalidParameterValue",
            "The filter 'ip-permission.cidr' is invalid",
        ),
    ] {
        let error = host.error(&format!("Action=DescribeSecurityGroupRules&{rest}"));
        let found = error.2.replace("&quot;", "\"");
        assert_eq!((error.1.as_str(), found.as_str()), (code, message), "{rest}");
    }
    let none =
        "Action=DescribeSecurityGroupRules&Filter.1.Name=group-id&Filter.1.Value.1=sg-00000000";
    assert!(rules(&host.ok(none)).is_empty());
}
