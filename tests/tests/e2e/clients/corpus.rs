//! moto's own tests, which are about EC2 and not about moto: those that pass, and those that differ with a reason.

use secgroup_tests::clients::{self, Endpoint};
use secgroup_tests::{Namespace, Secgroup};

/// The files of its tests whose subject is here too.
const FILES: [&str; 12] = [
    "account_attributes",
    "availability_zones_and_regions",
    "elastic_network_interfaces",
    "flow_logs",
    "general",
    "network_acls",
    "prefix_lists",
    "regions",
    "security_groups",
    "subnets",
    "tags",
    "vpcs",
];

#[test]
fn motos_tests_pass_or_differ_for_a_known_reason() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let endpoint = Endpoint::start_open(&secgroup, &host);
    let mut command = endpoint.python_command();
    let scripts =
        ["python", "moto"].map(|part| clients::scripts().join(part).display().to_string());
    command
        .current_dir(clients::tools().join("moto"))
        .env_remove("AWS_ENDPOINT_URL")
        .env("TEST_SERVER_MODE", "true")
        .env("TEST_SERVER_MODE_ENDPOINT", "http://127.0.0.1:8773")
        .env("PYTHONPATH", scripts.join(":"))
        .args(["-m", "pytest", "-q", "--tb=short", "-W", "ignore", "-p", "no:cacheprovider"])
        .args(["-p", "differs", "-c", "/dev/null", "--rootdir", "."])
        .args(FILES.map(|file| format!("tests/test_ec2/test_{file}.py")));
    endpoint.run(&mut command);
}
