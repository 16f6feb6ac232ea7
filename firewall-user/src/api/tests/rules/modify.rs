//! Rules that are changed in place.

use super::{SSH, first_id, form, rules};
use crate::api::tests::groups::create;
use crate::api::tests::{Host, element};

/// A host with a group and the ids of two of its ingress rules.
fn host() -> (Host, String, [String; 2]) {
    let host = Host::new();
    let web = create(&host, "web");
    let add = |cidr: &str| {
        let range = format!("IpRanges.1.CidrIp={cidr}");
        let described = "IpRanges.1.Description=d";
        let permission = [&SSH[..], &[&range, described]].concat();
        first_id(&host.ok(&form("AuthorizeSecurityGroupIngress", &web, &permission)))
    };
    let ids = [add("10.0.0.0/8"), add("11.0.0.0/8")];
    (host, web, ids)
}

fn modify(group: &str, rules: &[(&str, &[&str])]) -> String {
    let mut form = format!("Action=ModifySecurityGroupRules&GroupId={group}");
    for (at, (id, parameters)) in (1..).zip(rules) {
        form += &format!("&SecurityGroupRule.{at}.SecurityGroupRuleId={id}");
        for parameter in *parameters {
            form += &format!("&SecurityGroupRule.{at}.SecurityGroupRule.{parameter}");
        }
    }
    form
}

#[test]
fn a_rule_keeps_its_id_and_its_number() {
    let (host, web, [one, _]) = host();
    let number = |host: &Host| {
        let model = host.model();
        let group = model.group("web").unwrap();
        let rule = group.rules.iter().find(|rule| rule.id.as_str() == one).unwrap();
        (rule.number, rule.spec.to_string(), rule.description.clone())
    };
    let before = number(&host);
    let new =
        ["IpProtocol=UDP", "FromPort=53", "ToPort=54", "CidrIpv4=192.0.2.9/24", "Description=dns"];
    let (status, code, _) = host.error(&(modify(&web, &[(&one, &new)]) + "&DryRun=true"));
    assert_eq!((status, code.as_str()), (412, "DryRunOperation"));
    assert_eq!(number(&host), before);
    let body = host.ok(&modify(&web, &[(&one, &new)]));
    assert_eq!(element(&body, "return"), "true");
    let after = number(&host);
    assert_eq!(after.0, before.0);
    assert_eq!(
        (after.1.as_str(), after.2.as_str()),
        ("ingress udp 53-54 from 192.0.2.0/24", "dns")
    );
    let describe = format!("Action=DescribeSecurityGroupRules&SecurityGroupRuleId.1={one}");
    let rule = &rules(&host.ok(&describe))[0];
    assert_eq!(rule.text_of("cidrIpv4"), "192.0.2.0/24");
    // What is not given is not there afterwards.
    host.ok(&modify(&web, &[(&one, &new[..4])]));
    assert_eq!(number(&host).2, "");
    // The same again changes nothing.
    host.ok(&modify(&web, &[(&one, &new[..4])]));
}

#[test]
fn rules_of_both_directions_change_together_and_may_exchange_what_they_allow() {
    let (host, web, [one, two]) = host();
    let ssh = ["IpProtocol=tcp", "FromPort=22", "ToPort=22"];
    let with = |cidr: &'static str| [&ssh[..], &[cidr]].concat();
    let (ten, eleven) = (with("CidrIpv4=10.0.0.0/8"), with("CidrIpv4=11.0.0.0/8"));
    let egress = {
        let filter = format!(
            "Action=DescribeSecurityGroupRules&Filter.1.Name=group-id&Filter.1.Value.1={web}"
        );
        let all = rules(&host.ok(&filter));
        let egress = all.iter().find(|rule| rule.text_of("isEgress") == "true").unwrap();
        egress.text_of("securityGroupRuleId").to_owned()
    };
    let narrow = ["IpProtocol=-1", "CidrIpv4=10.0.0.0/8"];
    host.ok(&modify(&web, &[(&one, &eleven), (&two, &ten), (&egress, &narrow)]));
    let model = host.model();
    let group = model.group("web").unwrap();
    let texts: Vec<_> = group.rules.iter().map(|rule| rule.spec.to_string()).collect();
    assert_eq!(
        texts,
        [
            "egress all to 10.0.0.0/8",
            "ingress tcp 22 from 11.0.0.0/8",
            "ingress tcp 22 from 10.0.0.0/8"
        ]
    );
    // All or none.
    let error = host.error(&modify(&web, &[(&one, &ten), (&two, &with("CidrIpv6=::/0"))]));
    assert_eq!(error.1, "InvalidParameterValue");
    assert_eq!(host.model(), model);
}

#[test]
fn what_a_rule_cannot_become_is_refused_with_ec2s_texts() {
    let (host, web, [one, two]) = host();
    let ssh = ["IpProtocol=tcp", "FromPort=22", "ToPort=22"];
    let (_, code, message) = host.error(&format!("Action=ModifySecurityGroupRules&GroupId={web}"));
    assert_eq!(code, "MissingParameter");
    assert_eq!(message, "The request must contain the parameter SecurityGroupRule");
    let kind = format!(
        "Invalid rule type for security group rule '{one}'. You may not specify CidrIpv6 for an existing \
         IPv4 CIDR rule."
    );
    for (parameters, code, message) in [
        (
            [&ssh[..], &["CidrIpv4=10.0.0.0/8", "CidrIpv6=::/0"]].concat(),
            "InvalidParameterCombination",
            "Only one of cidrIp, cidrIpv6, prefixListId, or referencedGroupId can be specified",
        ),
        (
            ssh.to_vec(),
            "MissingParameter",
            "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId",
        ),
        (
            vec!["FromPort=22", "ToPort=22", "CidrIpv4=10.0.0.0/8"],
            "InvalidParameterValue",
            "Invalid value 'null' for protocol. VPC security group rules must specify protocols \
             explicitly.",
        ),
        (
            vec!["IpProtocol=tcp", "CidrIpv4=10.0.0.0/8"],
            "InvalidParameterValue",
            "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.",
        ),
        (
            vec!["IpProtocol=-1", "FromPort=0", "ToPort=0", "CidrIpv4=10.0.0.0/8"],
            "InvalidParameterValue",
            "You may not specify all protocols and specific ports. Please specify each protocol and \
             port range combination individually, or all protocols and no port range.",
        ),
        (vec!["IpProtocol=-1", "CidrIpv6=::/0"], "InvalidParameterValue", kind.as_str()),
        (
            [&ssh[..], &["CidrIpv4=11.0.0.0/8"]].concat(),
            "InvalidPermission.Duplicate",
            "the specified rule \"peer: 11.0.0.0/8, TCP, from port: 22, to port: 22, ALLOW\" already \
             exists",
        ),
        (
            [&ssh[..], &["CidrIpv4=10.0.0.0"]].concat(),
            "InvalidParameterValue",
            "CIDR block 10.0.0.0 is malformed",
        ),
    ] {
        let error = host.error(&modify(&web, &[(&one, &parameters)]));
        let found = error.2.replace("&quot;", "\"");
        assert_eq!((error.1.as_str(), found.as_str()), (code, message), "{parameters:?}");
    }
    let good = [&ssh[..], &["CidrIpv4=12.0.0.0/8"]].concat();
    for (form, code) in [
        (modify("sg-00000000", &[(&one, &good)]), "InvalidGroup.NotFound"),
        (modify(&web, &[("sgr-00000000", &good)]), "InvalidSecurityGroupRuleId.NotFound"),
        (modify(&web, &[("x", &good)]), "InvalidSecurityGroupRuleId.Malformed"),
        (modify(&web, &[(&one, &good), (&one, &good)]), "InvalidParameterValue"),
        (modify(&web, &[(&one, &good), (&two, &good)]), "InvalidParameterValue"),
        (modify(&web, &[(&one, &[])]), "MissingParameter"),
    ] {
        assert_eq!(host.error(&form).1, code, "{form}");
    }
    host.ok(&modify(
        &web,
        &[(&one, &["IpProtocol=-1", "FromPort=-1", "ToPort=-1", "CidrIpv4=10.0.0.0/8"])],
    ));
}

#[test]
fn the_group_of_a_rule_is_replaced_by_another_one() {
    let host = Host::new();
    let (web, app, db) = (create(&host, "web"), create(&host, "app"), create(&host, "db"));
    let ssh = ["IpProtocol=tcp", "FromPort=22", "ToPort=22"];
    let peer = format!("Groups.1.GroupId={app}");
    let add = |peer: &[&str]| {
        first_id(&host.ok(&form("AuthorizeSecurityGroupIngress", &web, &[&SSH[..], peer].concat())))
    };
    let one = add(&[&peer]);
    let foreign = add(&["Groups.1.GroupId=sg-00000001", "Groups.1.UserId=123456789012"]);
    let other = format!("ReferencedGroupId={db}");
    host.ok(&modify(&web, &[(&one, &[&ssh[..], &[&other]].concat())]));
    let error = host.error(&modify(&web, &[(&foreign, &[&ssh[..], &[&other]].concat())]));
    assert_eq!(error.1, "InvalidPermission.Duplicate");
    let udp = ["IpProtocol=udp", "FromPort=1", "ToPort=1", "ReferencedGroupId=sg-00000001"];
    host.ok(&modify(&web, &[(&foreign, &udp)]));
    let model = host.model();
    let texts: Vec<_> = model
        .group("web")
        .unwrap()
        .rules
        .iter()
        .skip(1)
        .map(|rule| rule.spec.to_string())
        .collect();
    assert_eq!(
        texts,
        [format!("ingress tcp 22 from {db}"), "ingress udp 1 from sg-00000001".to_owned()]
    );
    host.ok(&format!("Action=DeleteSecurityGroup&GroupId={app}"));
    let error = host.error(&format!("Action=DeleteSecurityGroup&GroupId={db}"));
    assert_eq!(error.1, "DependencyViolation");
}
