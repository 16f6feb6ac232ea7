//! Room in the flow tables: expired flows that go, and unproven ones that give way.

use std::net::UdpSocket;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup};

/// A server behind rules for UDP and TCP, whose datagrams are soon forgotten.
fn guarded(net: &Pair) -> Secgroup<'_> {
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

/// Entries in all flow tables, dead ones too.
fn entries(secgroup: &Secgroup<'_>) -> u64 {
    let status = secgroup.json("status");
    let tables = status["FlowTables"].as_array().unwrap();
    tables.iter().map(|table| table["Entries"].as_u64().unwrap()).sum()
}

fn live(secgroup: &Secgroup<'_>) -> u64 {
    secgroup.json("flows count")["Count"].as_u64().unwrap()
}

/// One flow of each family in the new tier, and one of each in the proven tier.
fn datagrams(net: &Pair) -> Vec<UdpEcho> {
    let servers: Vec<_> =
        at(Pair::SERVER, 53).map(|end| UdpEcho::start(&net.server, end)).into_iter().collect();
    for server in &servers {
        for exchanges in [1, 2] {
            let socket = udp::connect(&net.client, server.address());
            for _ in 0..exchanges {
                assert!(udp::is_echoed(&socket, MAX_WAIT));
            }
        }
    }
    servers
}

#[test]
fn expired_flows_go_and_live_ones_stay() {
    let net = Pair::new();
    let secgroup = guarded(&net);
    assert_eq!(secgroup.ok("gc"), "0 expired flows removed: 0 new, 0 proven\n");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, b"hello").unwrap();
    let _servers = datagrams(&net);
    assert_eq!(entries(&secgroup), 5);
    wait_until(MAX_WAIT, "datagrams to be forgotten", || live(&secgroup) == 1);
    assert_eq!(entries(&secgroup), 5, "they keep their places");
    assert_eq!(secgroup.ok("gc"), "4 expired flows removed: 2 new, 2 proven\n");
    assert_eq!((entries(&secgroup), live(&secgroup)), (1, 1));
    tcp::exchange(&mut stream, b"still there").unwrap();
    assert_eq!(secgroup.ok("gc"), "0 expired flows removed: 0 new, 0 proven\n");
}

#[test]
fn a_command_that_changes_something_makes_room_on_its_way() {
    for command in [
        "rule add web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24",
        "attach eth0 --group web",
        "reconcile",
    ] {
        let net = Pair::new();
        let secgroup = guarded(&net);
        let _servers = datagrams(&net);
        wait_until(MAX_WAIT, "datagrams to be forgotten", || live(&secgroup) == 0);
        assert_eq!(entries(&secgroup), 4);
        let said = secgroup.ok(command);
        assert_eq!(entries(&secgroup), 0, "{command}");
        assert!(!said.contains("expired"), "{said}");
    }
}

/// Gc, again and again, beside a flow that lives from packet to packet.
#[test]
fn a_flow_that_is_in_use_is_never_removed() {
    let net = Pair::new();
    let secgroup = guarded(&net);
    let server = UdpEcho::start(&net.server, at(Pair::SERVER, 53)[0]);
    let socket = udp::connect(&net.client, server.address());
    for _ in 0..4 {
        assert!(udp::is_echoed(&socket, MAX_WAIT));
    }
    secgroup.ok("rule remove web ingress --protocol udp --port 53 --cidr 10.77.0.0/24");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(secgroup.ok("gc"), "0 expired flows removed: 0 new, 0 proven\n");
        // Only its flow lets it through.
        assert!(udp::is_echoed(&socket, MAX_WAIT));
    }
}

/// Sends one datagram to the server from each of so many ports.
fn one_way(net: &Pair, from: u16, count: u16) {
    let [to, _] = at(Pair::SERVER, 53);
    net.client.run(|| {
        for port in from..from + count {
            let socket = UdpSocket::bind((Pair::CLIENT[0], port)).unwrap();
            socket.send_to(b"x", to).unwrap();
        }
    });
}

#[test]
fn evictions_are_what_neither_packets_nor_commands_removed() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure("[maps]\nflows_new = 64\nflows_proven = 64\nrules = 64\ninterfaces = 2\n");
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol udp --port 53 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    // Nobody answers with ICMP errors, nor with datagrams.
    let [address, _] = at(Pair::SERVER, 53);
    let _silent = net.server.run(|| UdpSocket::bind(address).unwrap());
    let told = || {
        let status = secgroup.json("status");
        let one = &status["NetworkInterfaces"][0];
        let numbers = ["OpenedFlows", "PromotedFlows", "EvictedFlows"];
        let [opened, promoted, evicted] = numbers.map(|name| one[name].as_u64().unwrap());
        let table = &status["FlowTables"][0];
        assert_eq!((&table["Tier"], &table["Family"]), (&"new".into(), &"ipv4".into()));
        let memory = table["MemoryBytes"].as_u64().unwrap();
        assert_eq!(table["BytesPerEntry"].as_u64().unwrap(), memory / 64);
        (opened, promoted, evicted, table["Entries"].as_u64().unwrap())
    };
    assert_eq!(told(), (0, 0, 0, 0));
    one_way(&net, 2000, 3);
    assert_eq!(told(), (3, 0, 0, 3));
    // A command removes them: nobody gave way.
    assert_eq!(secgroup.ok("flows flush"), "3 flows removed\n");
    assert_eq!(told(), (3, 0, 0, 0));

    one_way(&net, 3000, 500);
    let (opened, promoted, evicted, present) = told();
    assert_eq!((opened, promoted), (503, 0));
    assert_eq!(evicted, 500 - present, "{}", secgroup.view());
    assert!(evicted >= 500 - 64, "{}", secgroup.view());
    let table = secgroup.ok("status");
    let line = format!("eth0: {evicted} unproven flows gave way to newer ones");
    assert!(table.lines().any(|one| one == line), "{table}");

    // What expires or is flushed afterwards changes nothing about it.
    secgroup.ok("attach eth0 --group web --timeout UdpTimeout=1");
    wait_until(MAX_WAIT, "datagrams to be forgotten", || live(&secgroup) == 0);
    secgroup.ok("gc");
    assert_eq!(told(), (503, 0, evicted, 0));
    let text = secgroup.ok("metrics");
    let line = format!("secgroup_flows_evicted_total{{interface=\"eth0\"}} {evicted}");
    assert!(text.lines().any(|one| one == line), "{text}");
    // The next interface of the slot begins from nothing.
    secgroup.ok("detach eth0");
    secgroup.ok("attach eth0 --group web");
    assert_eq!(told(), (0, 0, 0, 0));
}
