//! Descriptions of rules.

use super::{SSH, first_id, form};
use crate::api::tests::groups::create;
use crate::api::tests::{Host, element};

#[test]
fn descriptions_are_given_changed_and_taken_away() {
    let host = Host::new();
    let web = create(&host, "web");
    let range = "IpRanges.1.CidrIp=10.0.0.0/8";
    let rule = [&SSH[..], &[range]].concat();
    let one = first_id(&host.ok(&form("AuthorizeSecurityGroupIngress", &web, &rule)));
    let texts = |host: &Host| -> Vec<String> {
        let model = host.model();
        let rules = &model.group("web").unwrap().rules;
        rules.iter().map(|rule| rule.description.clone()).collect()
    };
    let ingress = "UpdateSecurityGroupRuleDescriptionsIngress";
    let egress = "UpdateSecurityGroupRuleDescriptionsEgress";
    let described = [&rule[..], &["IpRanges.1.Description=a"]].concat();
    let body = host.ok(&form(ingress, &web, &described));
    assert_eq!(element(&body, "return"), "true");
    assert_eq!(texts(&host), ["", "a"]);
    host.ok(&form(ingress, &web, &rule));
    assert_eq!(texts(&host), ["", ""]);
    let all = "GroupName=web&IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0\
               &IpPermissions.1.IpRanges.1.Description=out";
    host.ok(&format!("Action={egress}&{all}"));
    let by_id = format!(
        "GroupId={web}&SecurityGroupRuleDescription.1.SecurityGroupRuleId={one}\
         &SecurityGroupRuleDescription.1.Description=b"
    );
    host.ok(&format!("Action={ingress}&{by_id}"));
    assert_eq!(texts(&host), ["out", "b"]);
    let other = [&SSH[..], &["IpRanges.1.CidrIp=11.0.0.0/8"]].concat();
    for (form, code) in [
        (format!("Action={egress}&{by_id}"), "InvalidSecurityGroupRuleId.NotFound"),
        (form(ingress, &web, &other), "InvalidPermission.NotFound"),
        (
            form(ingress, &web, &[&rule[..], &["IpRanges.1.Description=%7C"]].concat()),
            "InvalidParameterValue",
        ),
        (format!("Action={ingress}&GroupId={web}"), "MissingParameter"),
        (format!("Action={ingress}&{by_id}&DryRun=true"), "DryRunOperation"),
        (
            format!(
                "{}&{by_id}",
                form(ingress, &web, &rule).replace(&format!("&GroupId={web}"), "")
            ),
            "InvalidParameterCombination",
        ),
        (
            format!("Action={ingress}&{}", by_id.replace(&web, "sg-00000000")),
            "InvalidGroup.NotFound",
        ),
    ] {
        assert_eq!(host.error(&form).1, code, "{form}");
    }
    assert_eq!(texts(&host), ["out", "b"]);
}
