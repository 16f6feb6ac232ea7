//! Groups of other VPCs than the default one.

use serde_json::{Value, json};

use crate::host::Host;

fn apply_vpc(host: &Host) {
    let document =
        json!({"Vpcs": [{"VpcId": "vpc-0aaaaaaaaaaaaaaaa", "CidrBlock": "10.0.0.0/16"}]});
    host.ok(&["apply", &host.file("vpc.json", &document.to_string())]);
}

#[test]
fn a_group_is_created_in_a_vpc() {
    let host = Host::new();
    apply_vpc(&host);
    let create = |more: &[&str]| {
        host.run(&[&["group", "create", "web", "--description", "d"][..], more].concat())
    };
    assert_eq!(create(&[]).code, 0);
    let there = ["--vpc", "vpc-0aaaaaaaaaaaaaaaa"];
    let id = create(&there).stdout.trim().to_owned();
    assert_eq!(host.state().0.groups.len(), 4);
    // A name means the group of the default VPC first.
    assert!(host.ok(&["group", "show", "web"]).contains("vpc-00000000000000000"));
    let shown: Value =
        serde_json::from_str(&host.ok(&["group", "show", &id, "--output", "json"])).unwrap();
    assert_eq!(shown["SecurityGroups"][0]["VpcId"], "vpc-0aaaaaaaaaaaaaaaa");
    let rules = host.ok(&["rule", "list", &id]);
    assert!(rules.contains("web (vpc-0aaaaaaaaaaaaaaaa)"), "{rules}");
    let again = create(&there);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("web exists already"), "{}", again.stderr);
    let unknown = create(&["--vpc", "vpc-00000001"]);
    assert_eq!(
        (unknown.code, unknown.stderr.as_str()),
        (
            3,
            "error: create group web: there is no VPC \"vpc-00000001\"\n\
             hint: `secgroup vpc list` shows the VPCs\n"
        )
    );
    assert_eq!(create(&["--vpc", "x"]).code, 2);
}

#[test]
fn vpcs_are_listed_with_their_subnets() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let before = host.ok(&["vpc", "list"]);
    assert!(before.contains("172.31.0.0/16") && before.contains("locala"), "{before}");
    assert!(!host.ok(&["group", "list"]).lines().next().unwrap().contains("VPC"));
    apply_vpc(&host);
    let shown: Value =
        serde_json::from_str(&host.ok(&["vpc", "list", "--output", "json"])).unwrap();
    let ids: Vec<_> = shown["Vpcs"].as_array().unwrap().iter().map(|vpc| &vpc["VpcId"]).collect();
    assert_eq!(ids, ["vpc-00000000000000000", "vpc-0aaaaaaaaaaaaaaaa"]);
    assert_eq!(shown["Subnets"][0]["SubnetId"], "subnet-00000000000000000");
}
