//! The attach options for TCP checks, mid-stream pickup and connection tracking.

use std::net::TcpStream;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};
use serde_json::{Value, json};

/// A server on port 80, which a rule allows from anywhere, with the default egress rules.
fn allow_http_from_anywhere(net: &Pair) -> (Secgroup<'_>, TcpServer) {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0");
    secgroup.ok("attach eth0 --group web");
    (secgroup, TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]))
}

fn connect_and_exchange(net: &Pair, server: &TcpServer) -> TcpStream {
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, b"hello").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream
}

fn options(secgroup: &Secgroup<'_>) -> Value {
    let interface = &secgroup.json("status")["NetworkInterfaces"][0];
    json!([
        interface["Tcp"],
        interface["TcpLoose"],
        interface["Tracking"],
        interface["UntrackedFamilies"]
    ])
}

#[test]
fn options_persist_until_they_are_changed() {
    let net = Pair::new();
    let (secgroup, _server) = allow_http_from_anywhere(&net);
    assert_eq!(options(&secgroup), json!(["guard", true, "auto", ["ipv4"]]));
    let table = secgroup.ok("status");
    assert!(table.contains("eth0: some ipv4 traffic is untracked"), "{table}");
    for (given, expected) in [
        ("--tracking always", json!(["guard", true, "always", []])),
        ("--tcp strict", json!(["strict", false, "always", []])),
        ("", json!(["strict", false, "always", []])),
        ("--tcp guard", json!(["guard", true, "always", []])),
        ("--tcp-loose off --tracking auto", json!(["guard", false, "auto", ["ipv4"]])),
        ("--tcp strict", json!(["strict", false, "auto", ["ipv4"]])),
        ("--tcp guard --tcp-loose on", json!(["guard", true, "auto", ["ipv4"]])),
    ] {
        secgroup.ok(&format!("attach eth0 --group web {given}"));
        assert_eq!(options(&secgroup), expected, "after {given:?}");
    }
    secgroup.ok("attach eth0 --group web --tcp strict");
    let before = options(&secgroup);
    let refused = secgroup.refused("attach eth0 --group web --tcp-loose on", 2);
    assert_eq!(
        refused,
        "error: attach eth0: --tcp-loose on cannot be used with --tcp strict\n\
         hint: use --tcp guard\n"
    );
    assert_eq!(options(&secgroup), before);
}

/// As in EC2: an untracked connection has no flow, so it ends with its rule.
#[test]
fn an_untracked_connection_ends_with_its_rule_and_a_tracked_one_survives() {
    for (tracking, survives) in [("auto", false), ("always", true)] {
        let net = Pair::new();
        let (secgroup, server) = allow_http_from_anywhere(&net);
        secgroup.ok(&format!("attach eth0 --group web --tracking {tracking}"));
        let mut stream = connect_and_exchange(&net, &server);
        let flows = secgroup.json("flows count")["Count"].as_u64();
        assert_eq!(flows, Some(u64::from(survives)), "{tracking}");
        secgroup.ok("rule remove web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0");
        assert_eq!(tcp::exchange(&mut stream, b"after it").is_ok(), survives, "{tracking}");
    }
}

#[test]
fn a_connection_is_picked_up_mid_stream_only_with_the_option() {
    for (given, reason) in [
        ("--tcp-loose on", "new-flow"),
        ("--tcp-loose off", "tcp-not-opened"),
        ("--tcp strict", "tcp-not-opened"),
    ] {
        let net = Pair::new();
        let (secgroup, server) = allow_http_from_anywhere(&net);
        secgroup.ok("attach eth0 --group web --tracking always");
        let mut stream = connect_and_exchange(&net, &server);
        secgroup.ok(&format!("attach eth0 --group web {given}"));
        assert_eq!(secgroup.ok("flows flush"), "1 flow removed\n");
        let before = secgroup.counters().packets("eth0", "ingress", reason);
        let picked_up = tcp::exchange(&mut stream, b"in the middle").is_ok();
        assert_eq!(picked_up, reason == "new-flow", "{given}: {}", secgroup.view());
        let after = secgroup.counters().packets("eth0", "ingress", reason);
        assert!(after > before, "{given}: {}", secgroup.view());
    }
}
