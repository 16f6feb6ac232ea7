//! Tags as clients use them.

use crate::api::tests::{Host, element};

const VPC: &str = "vpc-00000000000000000";
const SUBNET: &str = "subnet-00000000000000000";

/// Key, kind and value of each tag of an object.
fn tags(host: &Host, id: &str) -> Vec<(String, String, String)> {
    let body =
        host.ok(&format!("Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1={id}"));
    let items = body.split("<item>").skip(1);
    items
        .map(|it| (element(it, "key"), element(it, "resourceType"), element(it, "value")))
        .collect()
}

fn tag(key: &str, kind: &str, value: &str) -> (String, String, String) {
    (key.into(), kind.into(), value.into())
}

#[test]
fn tags_of_every_kind_are_created_described_and_deleted() {
    let host = Host::new();
    let body = host.ok("Action=CreateSecurityGroup&GroupName=web&GroupDescription=d");
    let group = element(&body, "groupId");
    let model = host.model();
    let group_id = group.parse().unwrap();
    let rule = model.group_by_id(&group_id).unwrap().rules[0].id.to_string();
    let acl = model.acls.keys().next().unwrap().to_string();
    let body =
        host.ok("Action=CreateManagedPrefixList&PrefixListName=l&AddressFamily=IPv4&MaxEntries=1");
    let list = element(&body, "prefixListId");
    let kinds = [
        (&*group, "security-group"),
        (&rule, "security-group-rule"),
        (&list, "prefix-list"),
        (&acl, "network-acl"),
        (VPC, "vpc"),
        (SUBNET, "subnet"),
    ];
    let ids: String = kinds
        .iter()
        .enumerate()
        .map(|(n, (id, _))| format!("&ResourceId.{}={id}", n + 1))
        .collect();
    host.ok(&format!("Action=CreateTags{ids}&Tag.1.Key=a&Tag.1.Value=1&Tag.2.Key=b"));
    for (id, kind) in kinds {
        assert_eq!(tags(&host, id), [tag("a", kind, "1"), tag("b", kind, "")]);
    }
    host.ok(&format!("Action=CreateTags{ids}&Tag.1.Key=a&Tag.1.Value=2"));
    // Another value: it stays. An empty one, and any one.
    host.ok(&format!("Action=DeleteTags{ids}&Tag.1.Key=a&Tag.1.Value=1"));
    host.ok(&format!("Action=DeleteTags{ids}&Tag.1.Key=a&Tag.1.Value="));
    assert_eq!(tags(&host, &rule).len(), 2);
    host.ok(&format!("Action=DeleteTags{ids}&Tag.1.Key=a"));
    host.ok(&format!("Action=DeleteTags{ids}&Tag.1.Key=b&Tag.1.Value="));
    for (id, _) in kinds {
        assert_eq!(tags(&host, id), []);
    }
    host.ok(&format!("Action=CreateTags{ids}&Tag.1.Key=a&Tag.2.Key=b"));
    host.ok(&format!("Action=DeleteTags{ids}"));
    assert_eq!(tags(&host, &group), []);
}

#[test]
fn all_objects_are_tagged_or_none() {
    let host = Host::new();
    let create = format!("Action=CreateTags&Tag.1.Key=a&ResourceId.1={VPC}");
    for (id, code) in [
        ("sg-00000001", "InvalidGroup.NotFound"),
        ("sgr-00000001", "InvalidSecurityGroupRuleId.NotFound"),
        ("pl-00000001", "InvalidPrefixListID.NotFound"),
        ("acl-00000001", "InvalidNetworkAclID.NotFound"),
        ("vpc-00000001", "InvalidVpcID.NotFound"),
        ("subnet-00000001", "InvalidSubnetID.NotFound"),
        ("eni-00000001", "InvalidNetworkInterfaceID.NotFound"),
        ("fl-00000001", "InvalidFlowLogId.NotFound"),
        ("vpc-x", "InvalidVpcId.Malformed"),
        ("igw-00000001", "InvalidID"),
        ("x", "InvalidID"),
    ] {
        assert_eq!(host.error(&format!("{create}&ResourceId.2={id}")).1, code, "{id}");
        let delete = format!("Action=DeleteTags&ResourceId.1={id}");
        assert_eq!(host.error(&delete).1, code, "{id}");
    }
    assert_eq!(tags(&host, VPC), []);
    let many: String = (0..50).map(|n| format!("&Tag.{}.Key=k{n}", n + 2)).collect();
    for (form, code) in [
        (format!("{create}&DryRun=true"), "DryRunOperation"),
        (format!("{create}{many}"), "TagLimitExceeded"),
        (format!("{create}&Tag.2.Key=aws:x"), "InvalidParameterValue"),
        (format!("{create}&Tag.2.Key=a"), "InvalidParameterValue"),
        (format!("{create}&Tag.2.Value=a"), "MissingParameter"),
        (format!("Action=CreateTags&ResourceId.1={VPC}"), "MissingParameter"),
        ("Action=CreateTags&Tag.1.Key=a".into(), "MissingParameter"),
    ] {
        assert_eq!(host.error(&form).1, code, "{form}");
    }
    let ids: String = (0..1001).map(|n| format!("&ResourceId.{}={VPC}", n + 1)).collect();
    assert_eq!(
        host.error(&format!("Action=CreateTags&Tag.1.Key=a{ids}")).1,
        "InvalidParameterValue"
    );
    host.ok(&create);
    assert_eq!(tags(&host, VPC), [tag("a", "vpc", "")]);
}

#[test]
fn tags_are_found_by_filters_and_in_pages() {
    let host = Host::new();
    for number in 0..7 {
        host.ok(&format!(
            "Action=CreateTags&ResourceId.1={VPC}&Tag.1.Key=k{number}&Tag.1.Value=v{number}"
        ));
    }
    host.ok(&format!("Action=CreateTags&ResourceId.1={SUBNET}&Tag.1.Key=k1&Tag.1.Value=x"));
    let count =
        |more: &str| host.ok(&format!("Action=DescribeTags{more}")).matches("<item>").count();
    let filter =
        |name: &str, value: &str| format!("&Filter.1.Name={name}&Filter.1.Value.1={value}");
    assert_eq!(count(""), 8);
    assert_eq!(count(&filter("key", "k1")), 2);
    assert_eq!(count(&filter("value", "v*")), 7);
    assert_eq!(count(&filter("resource-type", "subnet")), 1);
    assert_eq!(count(&filter("tag:k1", "x")), 1);
    let body = host.ok("Action=DescribeTags&MaxResults=5");
    let next = element(&body, "nextToken");
    assert_eq!(count(&format!("&MaxResults=5&NextToken={next}")), 3);
    assert_eq!(host.error("Action=DescribeTags&MaxResults=4").1, "InvalidParameterValue");
}

#[test]
fn a_key_in_place_of_a_list_deletes_nothing() {
    let host = Host::new();
    host.ok(&format!("Action=CreateTags&ResourceId.1={VPC}&Tag.1.Key=a&Tag.1.Value=1"));
    for form in ["Tag=a", "Tag.1=a"] {
        let (_, code, _) = host.error(&format!("Action=DeleteTags&ResourceId.1={VPC}&{form}"));
        assert!(["UnknownParameter", "MissingParameter"].contains(&&*code), "{form}: {code}");
    }
    assert_eq!(tags(&host, VPC), [tag("a", "vpc", "1")]);
}
