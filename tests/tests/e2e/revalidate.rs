//! `attach --revalidate on`: flows are re-evaluated after a policy change.

use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup, tc_hook};

const RULE: &str = "web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64";

fn drop_until_the_rule_is_back(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    secgroup.ok(&format!("attach eth0 --group web --revalidate on --hook {hook}"));
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let mut streams = ends.map(|end| tcp::connect(&net.client, end).unwrap());
    secgroup.moved_over_flows(&[], || {
        // A change of another rule does not affect them.
        secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24");
        for stream in &mut streams {
            tcp::exchange(stream, b"still here").unwrap();
        }
    });

    secgroup.ok(&format!("rule remove {RULE}"));
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(tcp::exchange(stream, b"repeated").is_err(), "the connection still passes");
    }
    let revoked = secgroup.counters().packets("eth0", "ingress", "revoked");
    assert!(
        revoked >= 2,
        "at least one segment of each connection, and its retransmissions: {revoked}"
    );

    // With the rule again, lost segments are retransmitted and the connections resume.
    secgroup.ok(&format!("rule add {RULE}"));
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = [0; 8];
        std::io::Read::read_exact(stream, &mut answer).unwrap();
        assert_eq!(&answer, b"repeated");
    }
}

#[test]
fn a_connection_stops_with_its_rule_and_resumes_with_it_at_tc() {
    drop_until_the_rule_is_back(tc_hook());
}

#[test]
fn a_connection_stops_with_its_rule_and_resumes_with_it_at_xdp() {
    drop_until_the_rule_is_back("xdp");
}

/// No rule ever allowed it.
#[test]
fn a_learned_connection_is_not_re_evaluated() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let mut streams = ends.map(|end| tcp::connect(&net.client, end).unwrap());
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web --revalidate on");
    secgroup.moved_over_flows(&[], || {
        secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24");
        for stream in &mut streams {
            tcp::exchange(stream, b"still here").unwrap();
        }
    });
}
