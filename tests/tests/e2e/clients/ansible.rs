//! Ansible's `amazon.aws.ec2_security_group`: what runs twice changes nothing the second time.

use secgroup_tests::clients::{self, Endpoint};
use secgroup_tests::{Namespace, Secgroup};

#[test]
fn a_playbook_that_runs_twice_changes_nothing_the_second_time() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let endpoint = Endpoint::start(&secgroup, &host);
    let python = clients::tools().join("venv/bin/python");
    let mut command = endpoint.command(clients::tools().join("venv/bin/ansible-playbook"));
    command
        .env("ANSIBLE_COLLECTIONS_PATH", clients::tools().join("ansible"))
        .env("ANSIBLE_LOCAL_TEMP", endpoint.home())
        // Tasks are others with some keys replaced.
        .env("ANSIBLE_DUPLICATE_YAML_DICT_KEY", "ignore")
        .args(["--inventory", "localhost,", "--connection", "local", "--extra-vars"])
        .arg(format!("ansible_python_interpreter={}", python.display()))
        .arg(clients::scripts().join("ansible/groups.yml"));
    // The playbook asserts what changes.
    let printed = endpoint.run(&mut command);
    assert!(printed.contains("failed=0"), "{printed}");
}
