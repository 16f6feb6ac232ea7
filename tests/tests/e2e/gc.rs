//! Expired flows: when they go, and which of them stay.

use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{PATIENCE, wait_until};
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
                assert!(udp::answers(&socket, PATIENCE));
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
    wait_until(PATIENCE, "datagrams to be forgotten", || live(&secgroup) == 1);
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
        wait_until(PATIENCE, "datagrams to be forgotten", || live(&secgroup) == 0);
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
        assert!(udp::answers(&socket, PATIENCE));
    }
    secgroup.ok("rule remove web ingress --protocol udp --port 53 --cidr 10.77.0.0/24");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(secgroup.ok("gc"), "0 expired flows removed: 0 new, 0 proven\n");
        // Only its flow lets it through.
        assert!(udp::answers(&socket, PATIENCE));
    }
}
