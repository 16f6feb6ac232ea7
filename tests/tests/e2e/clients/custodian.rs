//! Cloud Custodian: policies that find groups and act on them.

use std::fs;

use secgroup_tests::clients::{self, Endpoint};
use secgroup_tests::{Namespace, Secgroup};
use serde_json::{Value, json};

#[test]
fn policies_find_groups_and_remove_their_rules() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let endpoint = Endpoint::start(&secgroup, &host);
    let made = endpoint.aws("create-security-group --group-name custodian-open --description x");
    let group = made["GroupId"].as_str().expect("an id").to_owned();
    let ingress = format!("authorize-security-group-ingress --group-id {group} --protocol tcp");
    for rule in
        ["--port 22 --cidr 0.0.0.0/0", "--port 22 --cidr 10.0.0.0/8", "--port 443 --cidr 0.0.0.0/0"]
    {
        endpoint.aws(&format!("{ingress} {rule}"));
    }
    let found = endpoint.home().join("found");
    let mut command = endpoint.command(clients::tools().join("venv/bin/custodian"));
    command.args(["run", "--region", "us-east-1", "--cache-period", "0", "--output-dir"]);
    command.arg(&found).arg(clients::scripts().join("custodian/policies.yml"));
    endpoint.run(&mut command);

    for policy in ["open-to-everyone", "not-tagged", "wide-egress"] {
        let file = found.join(policy).join("resources.json");
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let resources: Value = serde_json::from_str(&text).unwrap();
        let ids: Vec<&Value> =
            resources.as_array().unwrap().iter().map(|resource| &resource["GroupId"]).collect();
        assert_eq!(ids, [&json!(group)], "{policy}");
    }
    let described = endpoint.aws(&format!("describe-security-groups --group-ids {group}"));
    let described = &described["SecurityGroups"][0];
    let left: Vec<(&Value, &Value)> = described["IpPermissions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|permission| (&permission["FromPort"], &permission["IpRanges"][0]["CidrIp"]))
        .collect();
    assert_eq!(left, [(&json!(22), &json!("10.0.0.0/8")), (&json!(443), &json!("0.0.0.0/0"))]);
    assert_eq!(described["Tags"], json!([{ "Key": "Owner", "Value": "unknown" }]));
}
