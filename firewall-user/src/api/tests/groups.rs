//! Groups.

use super::tree::Tree;
use super::{Host, element};

/// Creates a group of the default VPC; returns its id.
pub(super) fn create(host: &Host, name: &str) -> String {
    let form = format!("Action=CreateSecurityGroup&GroupName={name}&GroupDescription=d");
    element(&host.ok(&form), "groupId")
}

fn describe(host: &Host, rest: &str) -> Vec<Tree> {
    let body = host.ok(&format!("Action=DescribeSecurityGroups&{rest}"));
    Tree::parse(&body).items("securityGroupInfo").to_vec()
}

fn names(groups: &[Tree]) -> Vec<&str> {
    groups.iter().map(|group| group.text_of("groupName")).collect()
}

#[test]
fn a_group_is_created_described_and_deleted() {
    let host = Host::new();
    let form = "Action=CreateSecurityGroup&GroupName=web%20&GroupDescription=the+web\
                &TagSpecification.1.ResourceType=security-group\
                &TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=w";
    let created = Tree::parse(&host.ok(form));
    assert_eq!(created.names(), ["requestId", "return", "groupId", "tagSet", "securityGroupArn"]);
    let id = created.text_of("groupId");
    assert_eq!(
        created.text_of("securityGroupArn"),
        format!("arn:aws:ec2:local:000000000000:security-group/{id}")
    );
    let groups = describe(&host, &format!("GroupId.1={id}"));
    let [group] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!(
        group.names(),
        [
            "groupId",
            "ipPermissionsEgress",
            "tagSet",
            "vpcId",
            "securityGroupArn",
            "ownerId",
            "groupName",
            "groupDescription",
            "ipPermissions"
        ]
    );
    assert_eq!((group.text_of("groupName"), group.text_of("groupDescription")), ("web", "the web"));
    assert_eq!(group.text_of("vpcId"), "vpc-00000000000000000");
    assert!(group.items("ipPermissions").is_empty());
    let [egress] = group.items("ipPermissionsEgress") else { panic!("{group:?}") };
    assert_eq!(
        egress.names(),
        ["ipProtocol", "groups", "ipRanges", "ipv6Ranges", "prefixListIds"],
        "no ports of all protocols"
    );
    assert_eq!(egress.text_of("ipProtocol"), "-1");
    assert_eq!(egress.items("ipRanges")[0].text_of("cidrIp"), "0.0.0.0/0");
    let deleted = Tree::parse(&host.ok(&format!("Action=DeleteSecurityGroup&GroupId={id}")));
    assert_eq!((deleted.text_of("return"), deleted.text_of("groupId")), ("true", id));
    let (status, code, message) = host.error(&format!("Action=DeleteSecurityGroup&GroupId={id}"));
    assert_eq!((status, code.as_str()), (400, "InvalidGroup.NotFound"));
    assert_eq!(message, format!("The security group '{id}' does not exist"));
}

#[test]
fn a_new_group_allows_the_egress_of_the_families_of_its_vpc() {
    let host = Host::new();
    for (has_ipv6, ranges) in [(false, 0), (true, 1)] {
        let vpc = host.create_vpc(has_ipv6);
        let form = format!("Action=CreateSecurityGroup&GroupName=a&GroupDescription=d&VpcId={vpc}");
        let id = element(&host.ok(&form), "groupId");
        let group = &describe(&host, &format!("GroupId.1={id}"))[0];
        let [egress] = group.items("ipPermissionsEgress") else { panic!("{group:?}") };
        assert_eq!(egress.items("ipv6Ranges").len(), ranges, "one permission of both families");
    }
    // The same name in each VPC.
    create(&host, "a");
    assert_eq!(names(&describe(&host, "GroupName.1=a")).len(), 1, "names are of the default VPC");
    assert_eq!(describe(&host, "Filter.1.Name=group-name&Filter.1.Value.1=a").len(), 3);
}

#[test]
fn what_cannot_be_created_is_refused_as_by_ec2() {
    let host = Host::new();
    create(&host, "web");
    let long = "x".repeat(256);
    for (form, code, message) in [
        (
            "GroupDescription=d",
            "MissingParameter",
            "The request must contain the parameter GroupName",
        ),
        (
            "GroupName=a",
            "MissingParameter",
            "The request must contain the parameter GroupDescription",
        ),
        (
            "GroupName=a&GroupDescription=",
            "MissingParameter",
            "The request must contain the parameter GroupDescription",
        ),
        (
            "GroupName=WEB&GroupDescription=d",
            "InvalidGroup.Duplicate",
            "The security group 'web' already exists for VPC 'vpc-00000000000000000'",
        ),
        (
            "GroupName=Default&GroupDescription=d",
            "InvalidParameterValue",
            "Cannot use reserved security group name: default",
        ),
        (
            "GroupName=sg-x&GroupDescription=d",
            "InvalidParameterValue",
            "Value (sg-x) for parameter GroupName is invalid. Group names may not be in the format sg-*.",
        ),
        (
            "GroupName=a&GroupDescription=%C3%A9",
            "InvalidParameterValue",
            "Value (é) for parameter GroupDescription is invalid. Character sets beyond ASCII are not \
             supported.",
        ),
        (
            "GroupName=a&GroupDescription=a%7Cb",
            "InvalidParameterValue",
            "Invalid security group description. Valid descriptions are strings less than 256 \
             characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        ),
        (
            &format!("GroupName=a&GroupDescription={long}"),
            "InvalidParameterValue",
            "Invalid security group description. Valid descriptions are strings less than 256 \
             characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        ),
        (
            "GroupName=a&GroupDescription=d&VpcId=vpc-00000001",
            "InvalidVpcID.NotFound",
            "The vpc ID 'vpc-00000001' does not exist",
        ),
        (
            "GroupName=a&GroupDescription=d&VpcId=x",
            "InvalidVpcId.Malformed",
            "Invalid id: \"x\" (expecting \"vpc-...\")",
        ),
        (
            "GroupName=a&GroupDescription=d&TagSpecification.1.ResourceType=instance\
             &TagSpecification.1.Tag.1.Key=k",
            "InvalidParameterValue",
            "'instance' is not a valid taggable resource type for this operation.",
        ),
    ] {
        let error = host.error(&format!("Action=CreateSecurityGroup&{form}"));
        // The element's text is escaped.
        let found = error.2.replace("&amp;", "&").replace("&quot;", "\"");
        assert_eq!((error.1.as_str(), found.as_str()), (code, message), "{form}");
    }
}

#[test]
fn a_group_in_use_is_not_deleted_and_the_refusal_names_the_users() {
    let host = Host::new();
    let (web, app) = (create(&host, "web"), create(&host, "app"));
    host.ok(&format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={app}&IpPermissions.1.IpProtocol=tcp\
         &IpPermissions.1.FromPort=80&IpPermissions.1.ToPort=80&IpPermissions.1.Groups.1.GroupId={web}"
    ));
    let (status, code, message) = host.error(&format!("Action=DeleteSecurityGroup&GroupId={web}"));
    assert_eq!((status, code.as_str()), (400, "DependencyViolation"));
    assert!(message.starts_with(&format!("resource {web} has a dependent object: ")), "{message}");
    assert!(message.contains("group app (sgr-"), "{message}");
    let error = host.error(&format!("Action=DeleteSecurityGroup&GroupId={web}&DryRun=true"));
    assert_eq!(error.1, "DependencyViolation", "a dry run finds it too");
    // A reference to itself is none.
    host.ok(&format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={app}&IpPermissions.1.IpProtocol=-1\
         &IpPermissions.1.Groups.1.GroupId={app}"
    ));
    host.ok("Action=DeleteSecurityGroup&GroupName=app");
    host.ok(&format!("Action=DeleteSecurityGroup&GroupId={web}"));
    let (_, code, message) = host.error("Action=DeleteSecurityGroup&GroupName=default");
    assert_eq!(code, "CannotDelete");
    let message = message.replace("&quot;", "\"");
    assert!(message.ends_with("name: \"default\" cannot be deleted by a user"), "{message}");
    assert!(message.starts_with("the specified group: \"sg-"), "{message}");
}

#[test]
fn the_group_of_a_request_is_named_by_id_or_in_the_default_vpc_by_name() {
    let host = Host::new();
    create(&host, "web");
    for (form, code, message) in [
        ("", "MissingParameter", "The request must contain the parameter groupName or groupId"),
        (
            "GroupName=x",
            "InvalidGroup.NotFound",
            "The security group 'x' does not exist in default VPC 'vpc-00000000000000000'",
        ),
        (
            "GroupId=foobar",
            "InvalidGroupId.Malformed",
            "Invalid id: \"foobar\" (expecting \"sg-...\")",
        ),
        (
            "GroupId=sg-00000000",
            "InvalidGroup.NotFound",
            "The security group 'sg-00000000' does not exist",
        ),
        (
            "GroupId=sg-00000000&GroupName=web",
            "InvalidParameterCombination",
            "The parameter groupName cannot be used with the parameter groupId",
        ),
    ] {
        let error = host.error(&format!("Action=DeleteSecurityGroup&{form}"));
        let found = error.2.replace("&quot;", "\"");
        assert_eq!((error.1.as_str(), found.as_str()), (code, message), "{form}");
    }
    host.ok("Action=DeleteSecurityGroup&GroupId=&GroupName=WEB");
}

#[test]
fn groups_are_filtered_by_everything_that_ec2_documents() {
    let host = Host::new();
    let app = create(&host, "app");
    let web = element(
        &host.ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=front%20end\
                  &TagSpecification.1.ResourceType=security-group\
                  &TagSpecification.1.Tag.1.Key=tier&TagSpecification.1.Tag.1.Value=front"),
        "groupId",
    );
    let rule = |action: &str, traffic: &str, peer: &str| {
        host.ok(&format!(
            "Action=AuthorizeSecurityGroup{action}&GroupId={web}&IpPermissions.1.IpProtocol={traffic}\
             &IpPermissions.1.{peer}"
        ));
    };
    let tcp = "tcp&IpPermissions.1.FromPort=80&IpPermissions.1.ToPort=90";
    rule("Ingress", tcp, "IpRanges.1.CidrIp=192.0.2.7/24");
    rule(
        "Ingress",
        "icmp&IpPermissions.1.FromPort=8&IpPermissions.1.ToPort=-1",
        "IpRanges.1.CidrIp=10.0.0.0/8",
    );
    rule("Ingress", "-1", &format!("Groups.1.GroupId={app}"));
    rule("Ingress", "47", "Ipv6Ranges.1.CidrIpv6=2001:db8:0::/48");
    rule(
        "Egress",
        "udp&IpPermissions.1.FromPort=53&IpPermissions.1.ToPort=54",
        "IpRanges.1.CidrIp=10.0.0.0/8",
    );
    rule("Egress", tcp, &format!("Groups.1.GroupId={app}"));
    for (name, good, bad) in [
        ("description", "front?end", "front"),
        ("group-id", web.as_str(), "sg-00000000"),
        ("group-name", "w*", "W*"),
        ("owner-id", "000000000000", "123456789012"),
        ("vpc-id", "vpc-*", "vpc-1"),
        ("tag:tier", "f*", "b*"),
        ("tag-key", "tier", "Tier"),
        ("tag-value", "front", "back"),
        ("ip-permission.cidr", "192.0.2.0/24", "192.0.2.7/24"),
        ("ip-permission.from-port", "80", "81"),
        ("ip-permission.from-port", "8", "9"),
        ("ip-permission.to-port", "90", "80"),
        ("ip-permission.to-port", "-1", "8"),
        ("ip-permission.protocol", "tcp", "udp"),
        ("ip-permission.protocol", "6", "17"),
        ("ip-permission.protocol", "47", "gre"),
        ("ip-permission.group-id", app.as_str(), web.as_str()),
        ("ip-permission.group-name", "app", "web"),
        ("ip-permission.user-id", "0000*", "1*"),
        ("ip-permission.ipv6-cidr", "2001:db8::/48", "2001:db8::/32"),
        ("egress.ip-permission.cidr", "10.0.0.0/8", "192.0.2.0/24"),
        ("egress.ip-permission.from-port", "53", "8"),
        ("egress.ip-permission.to-port", "54", "-1"),
        ("egress.ip-permission.protocol", "udp", "47"),
        ("egress.ip-permission.group-id", app.as_str(), web.as_str()),
        ("egress.ip-permission.group-name", "a?p", "web"),
        ("egress.ip-permission.user-id", "000000000000", "1"),
    ] {
        let found = |value: &str| {
            let form =
                format!("Filter.1.Name={name}&Filter.1.Value.1=zzz&Filter.1.Value.2={value}");
            let groups = describe(&host, &form);
            names(&groups).contains(&"web")
        };
        assert!(found(good), "{name}={good}");
        assert!(!found(bad), "{name}={bad}");
    }
    // Different rules may satisfy different filters.
    let both = "Filter.1.Name=ip-permission.protocol&Filter.1.Value.1=icmp\
                &Filter.2.Name=ip-permission.to-port&Filter.2.Value.1=90";
    assert_eq!(names(&describe(&host, both)), ["web"]);
    let error = host.error("Action=DescribeSecurityGroups&Filter.1.Name=x&Filter.1.Value.1=y");
    assert_eq!(error.1, "InvalidParameterValue");
}

#[test]
fn groups_are_read_in_pages_and_by_what_names_them() {
    let host = Host::new();
    let ids: Vec<_> = (0..7).map(|number| create(&host, &format!("g{number}"))).collect();
    let (mut seen, mut form) =
        (Vec::new(), "Action=DescribeSecurityGroups&MaxResults=5".to_owned());
    loop {
        let answer = Tree::parse(&host.ok(&form));
        let page = answer.items("securityGroupInfo");
        assert!(page.len() <= 5);
        seen.extend(page.iter().map(|group| group.text_of("groupId").to_owned()));
        let Some(next) = answer.get("nextToken") else { break };
        form = format!("Action=DescribeSecurityGroups&MaxResults=5&NextToken={}", next.text);
    }
    assert_eq!(seen.len(), 8);
    assert!(ids.iter().all(|id| seen.contains(id)));
    let named = describe(&host, &format!("GroupId.1={}&GroupName.1=g1", ids[0]));
    assert_eq!(named.len(), 2);
    for (form, code) in [
        ("GroupId.1=sg-00000000", "InvalidGroup.NotFound"),
        ("GroupId.1=x", "InvalidGroupId.Malformed"),
        ("GroupName.1=none", "InvalidGroup.NotFound"),
        ("MaxResults=4", "InvalidParameterValue"),
        ("NextToken=x", "InvalidNextToken"),
        ("DryRun=true", "DryRunOperation"),
        ("X=1", "UnknownParameter"),
    ] {
        assert_eq!(host.error(&format!("Action=DescribeSecurityGroups&{form}")).1, code, "{form}");
    }
}

#[test]
fn groups_are_listed_by_vpc() {
    let host = Host::new();
    let vpc = host.create_vpc(false);
    create(&host, "web");
    let answer = Tree::parse(&host.ok(&format!("Action=GetSecurityGroupsForVpc&VpcId={vpc}")));
    let [group] = answer.items("securityGroupForVpcSet") else { panic!("{answer:?}") };
    assert_eq!(
        group.names(),
        ["description", "groupName", "ownerId", "groupId", "tagSet", "primaryVpcId"]
    );
    assert_eq!(group.text_of("groupName"), "default");
    let form = "Action=GetSecurityGroupsForVpc&VpcId=vpc-00000000000000000&Filter.1.Name=group-name\
                &Filter.1.Value.1=w*";
    assert_eq!(Tree::parse(&host.ok(form)).items("securityGroupForVpcSet").len(), 1);
    assert_eq!(host.error("Action=GetSecurityGroupsForVpc").1, "MissingParameter");
    let error = host.error("Action=GetSecurityGroupsForVpc&VpcId=vpc-00000001");
    assert_eq!(error.1, "InvalidVpcID.NotFound");
    let none = host.ok("Action=DescribeSecurityGroupVpcAssociations");
    assert!(Tree::parse(&none).items("securityGroupVpcAssociationSet").is_empty());
}
