//! A new group drops inbound packets, and passes outbound packets and their replies.

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Guest, Pair, Secgroup, ping};
use std::time::Duration;

#[test]
fn a_new_group_drops_inbound_packets() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh");
    for address in at(Pair::SERVER, 0) {
        let tcp = TcpServer::echo(&net.server, address);
        let udp = UdpEcho::start(&net.server, address);
        secgroup.moved(&[("eth0", "ingress", "no-rule", 3)], || {
            assert!(!tcp::reaches(&net.client, tcp.address()));
            let socket = udp::connect(&net.client, udp.address());
            assert!(!udp::is_echoed(&socket, Duration::from_millis(300)));
            assert!(!ping::ping(&net.client, address.ip()));
        });
    }
}

#[test]
fn a_new_group_passes_outbound_packets_and_their_replies() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh");
    // First UDP: a delayed ACK of TCP would be counted with it.
    for address in at(Pair::CLIENT, 0) {
        let udp = UdpEcho::start(&net.client, address);
        let socket = udp::connect(&net.server, udp.address());
        secgroup.moved(
            &[("eth0", "egress", "new-flow", 1), ("eth0", "ingress", "established", 1)],
            || assert!(udp::is_echoed(&socket, MAX_WAIT)),
        );
    }
    for address in at(Pair::CLIENT, 0) {
        let tcp = TcpServer::echo(&net.client, address);
        let mut stream = tcp::connect(&net.server, tcp.address()).unwrap();
        tcp::exchange(&mut stream, &[1; 100_000]).unwrap();
        assert!(ping::ping(&net.server, address.ip()));
    }
}

#[test]
fn a_new_group_protects_a_guest() {
    let net = Guest::new();
    let secgroup = Secgroup::inside(&net.host);
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach {} --group fresh --orientation guest", Guest::DEVICE));
    for (guest, outside) in at(Guest::GUEST, 0).into_iter().zip(at(Guest::OUTSIDE, 0)) {
        let inside = TcpServer::echo(&net.guest, guest);
        secgroup.moved(&[(Guest::DEVICE, "ingress", "no-rule", 1)], || {
            assert!(!tcp::reaches(&net.outside, inside.address()));
        });
        let server = TcpServer::echo(&net.outside, outside);
        let mut stream = tcp::connect(&net.guest, server.address()).unwrap();
        tcp::exchange(&mut stream, b"from inside").unwrap();
    }
}

#[test]
fn a_new_group_protects_a_device_in_a_named_namespace() {
    let net = Pair::new();
    let secgroup = Secgroup::new();
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach eth0 --netns {} --group fresh", net.server.name()));
    let device = format!("{}/eth0", net.server.name());
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 0)[0]);
    secgroup.moved(&[(&device, "ingress", "no-rule", 1)], || {
        assert!(!tcp::reaches(&net.client, server.address()));
    });
}
