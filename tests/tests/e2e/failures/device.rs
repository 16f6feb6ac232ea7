//! Devices that do not support the requested hook.

use std::time::Duration;

use secgroup_tests::foreign_xdp::ForeignXdp;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::{Pair, Secgroup};

use super::{assert_refused, assert_unchanged};

#[test]
fn the_xdp_program_of_another_owner_stays() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    for is_native in [true, false] {
        let foreign = ForeignXdp::attach(&net.server, "eth0", is_native);
        assert_unchanged(&secgroup, &net.server, || {
            for hook in ["xdp", "xdp-generic"] {
                let line = format!("attach eth0 --group web --hook {hook}");
                let error = format!(
                    "attach eth0: attach {hook} to eth0: the XDP hook is taken by program foreign_xdp \
                     (id {})",
                    foreign.id()
                );
                let hint = "use --hook tcx, which others can share, or detach that program first";
                assert_refused(&secgroup.run(line.split(' ')), 1, &error, hint);
            }
        });
        // The hint works, and a later refusal keeps that attachment.
        secgroup.ok("attach eth0 --group web --hook tcx");
        assert_unchanged(&secgroup, &net.server, || {
            secgroup.refused("attach eth0 --group web --hook xdp", 1);
        });
        let server = TcpServer::echo(&net.server, at(Pair::SERVER, 0)[0]);
        secgroup.moved(&[("eth0", "ingress", "no-rule", 1)], || {
            assert!(!tcp::reaches(&net.client, server.address()));
        });
        secgroup.ok("detach eth0");
    }
}

#[test]
fn xdp_on_a_device_without_ethernet_is_refused() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    net.server.ip("tuntap add dev tun0 mode tun");
    assert_unchanged(&secgroup, &net.server, || {
        for hook in ["xdp", "xdp-generic"] {
            let line = format!("attach tun0 --group web --hook {hook}");
            let error = "attach tun0: attach XDP to tun0: the device has no Ethernet header";
            assert_refused(&secgroup.run(line.split(' ')), 1, error, "use --hook tcx");
        }
    });
    secgroup.ok("attach tun0 --group web --hook tcx");
}

#[test]
fn a_driver_without_native_xdp_refuses_with_the_alternatives() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    net.server.ip("link add switch type bridge");
    assert_unchanged(&secgroup, &net.server, || {
        let answer = secgroup.run("attach switch --group web --hook xdp".split(' '));
        let error = "attach switch: attach xdp to switch: the driver has no native XDP";
        assert_refused(&answer, 1, error, "use --hook tcx (or xdp-generic)");
    });
    secgroup.ok("attach switch --group web --hook xdp-generic");
    secgroup.refused("attach switch --group web --hook xdp", 1);
    // A device has one XDP mode at a time, so the old one was detached first. It is restored.
    let status = secgroup.json("status");
    let interface = &status["NetworkInterfaces"][0];
    assert_eq!(interface["Hook"], "xdp-generic", "{status:#}");
    assert_eq!(interface["State"], "enforcing", "{status:#}");
    assert!(net.server.ip("link show switch").contains("xdpgeneric"));
    secgroup.ok("attach switch --group web --hook tcx");
}

/// Older veth drivers refuse native XDP with a large MTU. Newer ones accept programs that support
/// frames in several buffers, as ours do.
#[test]
fn jumbo_frames_pass_native_xdp() {
    let net = Pair::new();
    for namespace in [&net.server, &net.client] {
        namespace.ip("link set eth0 mtu 9000");
    }
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup
        .ok("rule add web ingress --protocol udp --port 7 --cidr 10.77.0.0/24 --cidr fd77::/64");
    secgroup.ok("attach eth0 --group web --hook xdp");
    for address in at(Pair::SERVER, 7) {
        let _echo = UdpEcho::start(&net.server, address);
        let socket = udp::connect(&net.client, address);
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let payload: Vec<u8> = (0..8_900_u32).map(|at| at.to_le_bytes()[0]).collect();
        secgroup.moved(
            &[("eth0", "ingress", "new-flow", 1), ("eth0", "egress", "established", 1)],
            || {
                socket.send(&payload).unwrap();
                let mut answer = vec![0; 10_000];
                let length = socket.recv(&mut answer).unwrap();
                assert_eq!(answer[..length], payload);
            },
        );
    }
    // A jumbo frame that no rule allows is dropped.
    let _echo = UdpEcho::start(&net.server, at(Pair::SERVER, 8)[0]);
    let socket = udp::connect(&net.client, at(Pair::SERVER, 8)[0]);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    secgroup.moved(&[("eth0", "ingress", "no-rule", 1)], || {
        socket.send(&[1; 8_900]).unwrap();
        socket.recv(&mut [0; 10_000]).unwrap_err();
    });
}
