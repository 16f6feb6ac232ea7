//! Terraform with its AWS provider: apply, a plan without changes, an edit, destroy.

use secgroup_tests::clients::Endpoint;
use secgroup_tests::{Namespace, Secgroup};
use serde_json::json;

fn cycle(arguments: &[&str]) {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let endpoint = Endpoint::start(&secgroup, &host);
    let groups = || {
        let document = endpoint.aws("describe-security-groups --query SecurityGroups[].GroupName");
        document.as_array().expect("a list").clone()
    };
    endpoint.python("terraform/cycle.py", arguments);
    assert_eq!(groups(), [json!("default")], "after destroy");
}

#[test]
fn a_plan_after_an_apply_is_empty() {
    cycle(&[]);
}

/// The provider waits for 30 s after it has created an interface.
#[test]
fn a_plan_after_an_apply_with_an_interface_is_empty() {
    cycle(&["interface"]);
}
