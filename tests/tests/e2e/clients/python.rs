//! Every action by boto3, with good and bad input; each answer is checked against botocore's service model.

use secgroup_tests::clients::Endpoint;
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
