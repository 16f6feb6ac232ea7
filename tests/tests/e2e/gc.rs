//! Removal of expired flows, and eviction of unproven ones.

use std::net::UdpSocket;
use std::slice;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, socket};

use crate::support::{count_flows, exchange_until_proven};

/// A server behind rules for UDP and TCP, with UDP timeouts of one second.
fn with_short_timeouts(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    for (protocol, port) in [("udp", 53), ("tcp", 80)] {
        secgroup.ok(&format!(
            "rule add web ingress --protocol {protocol} --port {port} --cidr 10.77.0.0/24 --cidr \
             fd77::/64"
        ));
    }
    secgroup.ok("attach eth0 --group web --timeout UdpTimeout=1 --timeout UdpStreamTimeout=1");
    secgroup
}

/// Entries in all flow tables, including expired ones.
fn entries(secgroup: &Secgroup<'_>) -> u64 {
    let status = secgroup.json("status");
    let tables = status["FlowTables"].as_array().unwrap();
    tables.iter().map(|table| table["Entries"].as_u64().unwrap()).sum()
}

fn live_flows(secgroup: &Secgroup<'_>) -> u64 {
    count_flows(secgroup, "")
}

/// Makes UDP flows: one of each family in the proven tier, and one of each in the new tier.
fn flows_in_both_tiers(net: &Pair, secgroup: &Secgroup<'_>) -> [UdpEcho; 2] {
    let servers = at(Pair::SERVER, 53).map(|end| UdpEcho::start(&net.server, end));
    let connect = |server: &UdpEcho| udp::connect(&net.client, server.address());
    let [proven, new] = [0, 1].map(|_| servers.each_ref().map(connect));
    exchange_until_proven(secgroup, &proven);
    assert!(new.iter().all(|socket| udp::is_echoed(socket, MAX_WAIT)));
    servers
}

#[test]
fn gc_removes_expired_flows_and_keeps_live_ones() {
    let net = Pair::new();
    let secgroup = with_short_timeouts(&net);
    assert_eq!(secgroup.ok("gc"), "0 expired flows removed: 0 new, 0 proven\n");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, b"hello").unwrap();
    let _servers = flows_in_both_tiers(&net, &secgroup);
    assert_eq!(entries(&secgroup), 5);
    wait_until(MAX_WAIT, "the UDP flows to expire", || live_flows(&secgroup) == 1);
    assert_eq!(entries(&secgroup), 5, "expired entries stay until gc");
    assert_eq!(secgroup.ok("gc"), "4 expired flows removed: 2 new, 2 proven\n");
    assert_eq!((entries(&secgroup), live_flows(&secgroup)), (1, 1));
    tcp::exchange(&mut stream, b"still there").unwrap();
    assert_eq!(secgroup.ok("gc"), "0 expired flows removed: 0 new, 0 proven\n");
}

#[test]
fn every_change_removes_expired_flows() {
    for command in [
        "rule add web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24",
        "attach eth0 --group web",
        "reconcile",
    ] {
        let net = Pair::new();
        let secgroup = with_short_timeouts(&net);
        let _servers = flows_in_both_tiers(&net, &secgroup);
        wait_until(MAX_WAIT, "the UDP flows to expire", || live_flows(&secgroup) == 0);
        assert_eq!(entries(&secgroup), 4);
        let output = secgroup.ok(command);
        assert_eq!(entries(&secgroup), 0, "{command}");
        assert!(!output.contains("expired"), "{output}");
    }
}

/// A command reads 16,384 entries of a table. Live flows that come first must not keep it from expired ones.
#[test]
fn changes_remove_expired_flows_from_every_part_of_a_large_table() {
    const LIVE: u16 = 40_000;
    const EXPIRED: u16 = 4_000;
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(
        "[maps]\nflows_new = 131072\nflows_udp = 64\nflows_tcp = 64\nrules = 64\ninterfaces = 2\n",
    );
    secgroup.ok("group create web --description x");
    for rule in ["udp --port 53", "icmp --icmp 8"] {
        secgroup.ok(&format!("rule add web ingress --protocol {rule} --cidr 10.77.0.0/24"));
    }
    secgroup.ok("attach eth0 --group web --timeout UdpTimeout=1 --timeout IcmpTimeout=3600");
    let [address, _] = at(Pair::SERVER, 53);
    let _silent = net.server.run(|| UdpSocket::bind(address).unwrap());
    send_datagrams(&net, 2000, EXPIRED);
    send_queries(&net, LIVE);
    wait_until(MAX_WAIT, "the UDP flows to expire", || live_flows(&secgroup) == u64::from(LIVE));
    assert_eq!(entries(&secgroup), u64::from(LIVE + EXPIRED));
    // Each reads more than a third of the table, at another place. That a place is missed by sixty is as
    // likely as 1 in 10^11.
    let mut left = entries(&secgroup);
    for time in 0..60 {
        let mode = if time % 2 == 0 { "audit" } else { "enforce" };
        secgroup.ok(&format!("mode eth0 {mode}"));
        left = entries(&secgroup);
        if left == u64::from(LIVE) {
            break;
        }
    }
    assert_eq!((left, live_flows(&secgroup)), (u64::from(LIVE), u64::from(LIVE)));
}

/// Repeated gc beside a flow that its packets keep alive.
#[test]
fn a_flow_in_use_is_never_removed() {
    let net = Pair::new();
    let secgroup = with_short_timeouts(&net);
    let server = UdpEcho::start(&net.server, at(Pair::SERVER, 53)[0]);
    let socket = udp::connect(&net.client, server.address());
    exchange_until_proven(&secgroup, slice::from_ref(&socket));
    secgroup.ok("rule remove web ingress --protocol udp --port 53 --cidr 10.77.0.0/24");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(secgroup.ok("gc"), "0 expired flows removed: 0 new, 0 proven\n");
        // The packet passes by its flow alone.
        assert!(udp::is_echoed(&socket, MAX_WAIT));
    }
}

/// Sends one datagram to the server from each of `count` ports, beginning with `from`.
fn send_datagrams(net: &Pair, from: u16, count: u16) {
    let [to, _] = at(Pair::SERVER, 53);
    net.client.run(|| {
        for port in from..from + count {
            let socket = UdpSocket::bind((Pair::CLIENT[0], port)).unwrap();
            socket.send_to(b"x", to).unwrap();
        }
    });
}

/// Sends echo requests with identifiers from 0 on. They have no checksum, so nothing replies.
fn send_queries(net: &Pair, count: u16) {
    let socket = socket::open(&net.client, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    let socket = UdpSocket::from(socket);
    for id in 0..count {
        let [high, low] = id.to_be_bytes();
        socket.send_to(&[8, 0, 0, 0, high, low, 0, 1], (Pair::SERVER[0], 0)).unwrap();
    }
}

#[test]
fn evictions_exclude_flows_removed_by_packets_and_commands() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(
        "[maps]\nflows_new = 64\nflows_udp = 64\nflows_tcp = 64\nrules = 64\ninterfaces = 2\n",
    );
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol udp --port 53 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    // A bound socket prevents ICMP errors, and sends no replies.
    let [address, _] = at(Pair::SERVER, 53);
    let _silent = net.server.run(|| UdpSocket::bind(address).unwrap());
    let figures = || {
        let status = secgroup.json("status");
        let interface = &status["NetworkInterfaces"][0];
        let keys = ["OpenedFlows", "PromotedFlows", "EvictedFlows"];
        let [opened, promoted, evicted] = keys.map(|name| interface[name].as_u64().unwrap());
        let table = &status["FlowTables"][0];
        assert_eq!((&table["Table"], &table["Family"]), (&"new".into(), &"ipv4".into()));
        assert!(table["MemoryBytes"].as_u64().unwrap() >= 64 * 160);
        (opened, promoted, evicted, table["Entries"].as_u64().unwrap())
    };
    assert_eq!(figures(), (0, 0, 0, 0));
    send_datagrams(&net, 2000, 3);
    assert_eq!(figures(), (3, 0, 0, 3));
    // Flows removed by a command are not evictions.
    assert_eq!(secgroup.ok("flows flush"), "3 flows removed\n");
    assert_eq!(figures(), (3, 0, 0, 0));

    send_datagrams(&net, 3000, 500);
    let (opened, promoted, evicted, present) = figures();
    assert_eq!((opened, promoted), (503, 0));
    assert_eq!(evicted, 500 - present, "{}", secgroup.view());
    assert!(evicted >= 500 - 64, "{}", secgroup.view());
    let table = secgroup.ok("status");
    let line = format!("eth0: {evicted} unproven flows were evicted by newer ones");
    assert!(table.lines().any(|shown| shown == line), "{table}");

    // Later expiry and flushes do not change the count.
    secgroup.ok("attach eth0 --group web --timeout UdpTimeout=1");
    wait_until(MAX_WAIT, "the UDP flows to expire", || live_flows(&secgroup) == 0);
    secgroup.ok("gc");
    assert_eq!(figures(), (503, 0, evicted, 0));
    let text = secgroup.ok("metrics");
    let line = format!("secgroup_flows_evicted_total{{interface=\"eth0\"}} {evicted}");
    assert!(text.lines().any(|shown| shown == line), "{text}");
    // The next interface in the slot starts at zero.
    secgroup.ok("detach eth0");
    secgroup.ok("attach eth0 --group web");
    assert_eq!(figures(), (0, 0, 0, 0));
}
