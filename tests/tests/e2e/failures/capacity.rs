//! Maps that are too small for a change.

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};

use super::{assert_refused, assert_unchanged};

fn sizes(rules: u32, interfaces: u32) -> String {
    format!("[maps]\nflows_new = 16\nflows_tcp = 16\nrules = {rules}\ninterfaces = {interfaces}\n")
}

#[test]
fn a_policy_that_does_not_fit_is_refused_with_its_size_and_the_limit() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(&sizes(16, 2));
    secgroup.ok("group create web --description x");
    let hint = "many networks in one prefix list take one counter (`prefix-list load`, `block --prefix-list`); or raise \
                maps.rules in the configuration, then `secgroup detach --all` and attach again";
    let add = |ports: std::ops::RangeInclusive<u16>| {
        for port in ports {
            secgroup.ok(&format!(
                "rule add web ingress --protocol tcp --port {port} --cidr 10.77.0.0/24"
            ));
        }
    };
    // With the group's two default rules: sixteen.
    add(1..=14);
    secgroup.ok("attach eth0 --group web");
    let fifteenth = "rule add web ingress --protocol tcp --port 15 --cidr 10.77.0.0/24";
    assert_unchanged(&secgroup, &net.server, || {
        let error = "add rule to group web: rule counters: 17 rules, ACL entries and \
                     blocks, 1 more than the 16 that fit";
        assert_refused(&secgroup.run(fifteenth.split(' ')), 1, error, hint);
    });
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 14)[0]);
    assert!(tcp::reaches(&net.client, server.address()), "the old policy stays active");

    secgroup.ok("detach eth0");
    add(15..=20);
    assert_unchanged(&secgroup, &net.server, || {
        let answer = secgroup.run("attach eth0 --group web".split(' '));
        let error = "attach eth0: rule counters: 22 rules, ACL entries and \
                     blocks, 6 more than the 16 that fit";
        assert_refused(&answer, 1, error, hint);
    });
    // The hint works.
    secgroup.configure(&sizes(22, 2));
    secgroup.ok("attach eth0 --group web");
}

#[test]
fn attach_beyond_the_interface_limit_is_refused() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(&sizes(16, 1));
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let attach_lo = || secgroup.run("attach lo --group web".split(' '));
    assert_unchanged(&secgroup, &net.server, || {
        assert_refused(
            &attach_lo(),
            1,
            "attach lo: there would be 2 attached interfaces, and the limit is 1",
            "interfaces in the configuration's [maps] sets the limit",
        );
    });
    // Existing maps keep their size.
    secgroup.configure(&sizes(16, 2));
    assert_unchanged(&secgroup, &net.server, || {
        assert_refused(
            &attach_lo(),
            1,
            "attach lo: maps: created for 1 interfaces, 1 fewer than needed",
            "their size is fixed until `secgroup detach --all`; the next attach creates them \
             with the configured size",
        );
    });
    secgroup.ok("detach --all");
    secgroup.ok("attach eth0 --group web");
    secgroup.ok("attach lo --group web");
}
