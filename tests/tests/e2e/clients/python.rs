//! Every action by boto3, with good and bad input; each answer is checked against botocore's service model.

use std::fs;

use secgroup_tests::clients::{Endpoint, scripts};
use secgroup_tests::{Namespace, Pair, Secgroup};

fn run(files: &[&str]) {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    Endpoint::start(&secgroup, &host).pytest(files);
}

#[test]
fn groups() {
    run(&["test_groups.py"]);
}

#[test]
fn rules() {
    run(&["test_rules.py"]);
}

#[test]
fn prefix_lists() {
    run(&["test_prefix_lists.py"]);
}

#[test]
fn network_acls() {
    run(&["test_acls.py"]);
}

#[test]
fn tags_and_flow_logs() {
    run(&["test_tags.py", "test_flow_logs.py"]);
}

#[test]
fn what_clients_ask_first() {
    run(&["test_first_calls.py"]);
}

#[test]
fn signatures_and_unknown_requests() {
    run(&["test_protocol.py"]);
}

#[test]
fn what_newer_terraform_calls() {
    run(&["test_newer_terraform.py"]);
}

#[test]
fn network_interfaces() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    Endpoint::start(&secgroup, &net.server).pytest(&["test_interfaces.py"]);
}

/// The name of an action as boto3 has it: `DescribeVpcs` is `describe_vpcs`.
fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}

#[test]
fn every_action_is_called() {
    let files = fs::read_dir(scripts().join("python")).unwrap();
    let text: String =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect();
    let missing: Vec<&str> = firewall_user::api::action_names()
        .into_iter()
        .filter(|name| !text.contains(&format!(".{}", snake_case(name))))
        .collect();
    assert!(missing.is_empty(), "no test in tests/clients/python calls {missing:?}");
}
