//! `attach --max-flows-per-source`: one address has no more proven TCP flows than it may.

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup};

const TIMEOUTS: &str = "--timeout TcpFinWaitTimeout=1 --timeout TcpCloseWaitTimeout=1 --timeout \
                        TcpLastAckTimeout=1 --timeout TcpTimeWaitTimeout=1 --timeout TcpCloseTimeout=1";

fn with_http(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup
        .ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64");
    secgroup
}

fn count(secgroup: &Secgroup<'_>, filter: &str) -> u64 {
    secgroup.json(&format!("flows count {filter}"))["Count"].as_u64().unwrap()
}

/// Proven and new flows.
fn tiers(secgroup: &Secgroup<'_>) -> [u64; 2] {
    ["proven", "new"].map(|tier| count(secgroup, &format!("--tier {tier}")))
}

#[test]
fn one_address_proves_as_many_connections_as_its_limit_and_no_packet_is_dropped() {
    for family in 0..2 {
        let net = Pair::new();
        let secgroup = with_http(&net);
        secgroup.ok(&format!("attach eth0 --group web --max-flows-per-source 3 {TIMEOUTS}"));
        let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[family]);
        let mut streams = Vec::new();
        for _ in 0..5 {
            let mut stream = tcp::connect(&net.client, server.address()).unwrap();
            tcp::exchange(&mut stream, b"hello").unwrap();
            streams.push(stream);
        }
        assert_eq!(tiers(&secgroup), [3, 2]);
        let listed = secgroup.json("flows list --tier proven");
        assert_eq!(listed["Flows"].as_array().unwrap().len(), 3);
        let status = secgroup.json("status");
        let interface = &status["NetworkInterfaces"][0];
        assert_eq!(interface["MaxFlowsPerSource"], 3);
        assert!(interface["SourceLimitedFlows"].as_u64().unwrap() >= 2, "{interface}");
        assert_eq!(interface["UnpromotedFlows"], 0);
        let table = secgroup.ok("status");
        assert!(table.contains("--max-flows-per-source 3"), "{table}");
        assert!(table.contains("because its source has as many"), "{table}");
        let metrics = secgroup.ok("metrics");
        assert!(
            metrics.contains("secgroup_flows_source_limited_total{interface=\"eth0\"} "),
            "{metrics}"
        );

        // The first two are proven; their places are free once they are removed.
        drop(streams.drain(..2));
        wait_until(MAX_WAIT, "two flows to expire", || count(&secgroup, "") == 3);
        assert_eq!(secgroup.ok("gc"), "2 expired flows removed: 0 new, 2 proven\n");
        assert_eq!(tiers(&secgroup), [1, 2]);
        for stream in &mut streams {
            tcp::exchange(stream, b"again").unwrap();
        }
        assert_eq!(tiers(&secgroup), [3, 0]);

        // A flush counts too.
        secgroup.ok("flows flush");
        for stream in &mut streams {
            tcp::exchange(stream, b"picked up").unwrap();
            tcp::exchange(stream, b"and proven").unwrap();
        }
        assert_eq!(tiers(&secgroup), [3, 0]);
    }
}

#[test]
fn a_source_keeps_its_limit_until_it_is_lifted() {
    let net = Pair::new();
    let secgroup = with_http(&net);
    secgroup.ok("attach eth0 --group web");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let connect = || {
        let mut stream = tcp::connect(&net.client, server.address()).unwrap();
        tcp::exchange(&mut stream, b"hello").unwrap();
        stream
    };
    let _open = [connect(), connect()];
    assert_eq!(tiers(&secgroup), [2, 0]);
    // The flows that exist count.
    secgroup.ok("attach eth0 --group web --max-flows-per-source 3");
    let [_third, mut fourth] = [connect(), connect()];
    assert_eq!(tiers(&secgroup), [3, 1]);
    // An attach without the option keeps it.
    secgroup.ok("attach eth0 --group web");
    tcp::exchange(&mut fourth, b"still new").unwrap();
    assert_eq!(tiers(&secgroup), [3, 1]);
    secgroup.ok("attach eth0 --group web --max-flows-per-source off");
    tcp::exchange(&mut fourth, b"proven").unwrap();
    assert_eq!(tiers(&secgroup), [4, 0]);
    assert!(!secgroup.ok("status").contains("--max-flows-per-source 3"));
    for word in ["0", "many"] {
        let refused =
            secgroup.refused(&format!("attach eth0 --group web --max-flows-per-source {word}"), 2);
        assert!(refused.contains("neither off nor a number from 1 to 16777216"), "{refused}");
    }
}

#[test]
fn a_change_frees_the_places_of_the_flows_that_it_removes() {
    let net = Pair::new();
    let secgroup = with_http(&net);
    secgroup.ok(&format!("attach eth0 --group web --max-flows-per-source 2 {TIMEOUTS}"));
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let mut streams: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = tcp::connect(&net.client, server.address()).unwrap();
            tcp::exchange(&mut stream, b"hello").unwrap();
            stream
        })
        .collect();
    assert_eq!(tiers(&secgroup), [2, 1]);
    drop(streams.drain(..2));
    wait_until(MAX_WAIT, "two flows to expire", || count(&secgroup, "") == 1);
    // Without `gc`: a change collects in passing.
    secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24");
    tcp::exchange(&mut streams[0], b"again").unwrap();
    assert_eq!(tiers(&secgroup), [1, 0]);
}
