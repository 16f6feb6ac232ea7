//! Flows that end with their rules.

use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup, tc_hook};

const RULE: &str = "web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64";

fn cut_through(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    secgroup.ok(&format!("attach eth0 --group web --revalidate on --hook {hook}"));
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let mut streams = ends.map(|end| tcp::connect(&net.client, end).unwrap());
    secgroup.moved_over_flows(&[], || {
        // Another rule is no matter to them.
        secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24");
        for stream in &mut streams {
            tcp::exchange(stream, b"still here").unwrap();
        }
    });

    secgroup.ok(&format!("rule remove {RULE}"));
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(tcp::exchange(stream, b"anybody?").is_err(), "the connection goes on");
    }
    let cut = secgroup.counters().packets("eth0", "ingress", "revoked");
    assert!(cut >= 2, "a segment of each connection at least, and its repeats: {cut}");

    // The rule is back: what was lost is repeated, and the connections go on.
    secgroup.ok(&format!("rule add {RULE}"));
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = [0; 8];
        std::io::Read::read_exact(stream, &mut answer).unwrap();
        assert_eq!(&answer, b"anybody?");
    }
}

#[test]
fn a_connection_ends_with_its_rule_and_goes_on_with_it_through_tc() {
    cut_through(tc_hook());
}

#[test]
fn a_connection_ends_with_its_rule_and_goes_on_with_it_through_xdp() {
    cut_through("xdp");
}

/// No rule ever let it in.
#[test]
fn a_learned_connection_is_not_asked_about() {
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
