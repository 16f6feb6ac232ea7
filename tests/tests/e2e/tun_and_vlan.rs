//! Devices without Ethernet, frames with VLAN tags, and frames that are not IP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use secgroup_tests::network::{End, at};
use secgroup_tests::tun::{Kind, Tun};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::{Namespace, Secgroup, tc_hook};
use serde_json::json;

const INSIDE: [IpAddr; 2] = addresses(1);
const OUTSIDE: [IpAddr; 2] = addresses(2);

const fn addresses(host: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 90, 0, host)),
        IpAddr::V6(Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, host as u16)),
    ]
}

const RULE: &str = "web ingress --protocol udp --port 53 --cidr 10.90.0.0/24 --cidr fd90::/64";

#[test]
fn a_device_without_ethernet_is_filtered() {
    let host = Namespace::new();
    let tun = device(&host, "tun0", Kind::Tun);
    let secgroup = Secgroup::inside(&host);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    let error = secgroup.refused("attach tun0 --group web --hook xdp", 1);
    assert!(error.contains("no Ethernet header"), "{error}");
    secgroup.ok("attach tun0 --group web");
    for (inside, outside) in at(INSIDE, 53).into_iter().zip(at(OUTSIDE, 40_000)) {
        let echo = UdpEcho::start(&host, inside);
        let exchange = [("tun0", "ingress", "new-flow", 1), ("tun0", "egress", "established", 1)];
        secgroup.moved(&exchange, || {
            tun.send(&packet(outside, echo.address(), b"question"));
            let _ = tun.receive(|answer| is_datagram(answer, outside, b"question"));
        });
        let closed = SocketAddr::new(inside.ip(), 54);
        secgroup.moved(&[("tun0", "ingress", "no-rule", 1)], || {
            tun.send(&packet(outside, closed, b"question"));
        });

        let client = udp::connect(&host, outside);
        let request = [("tun0", "egress", "new-flow", 1), ("tun0", "ingress", "established", 1)];
        secgroup.moved(&request, || {
            client.send(b"from inside").unwrap();
            let _ = tun.receive(|sent| is_datagram(sent, outside, b"from inside"));
            let port = client.local_addr().unwrap().port();
            tun.send(&packet(outside, SocketAddr::new(inside.ip(), port), b"answer"));
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), 6);
        });
    }
}

#[test]
fn packets_behind_vlan_tags_are_filtered_at_tcx() {
    filter_behind_vlan_tags(tc_hook());
}

#[test]
fn packets_behind_vlan_tags_are_filtered_at_native_xdp() {
    filter_behind_vlan_tags("xdp");
}

#[test]
fn packets_behind_vlan_tags_are_filtered_at_generic_xdp() {
    filter_behind_vlan_tags("xdp-generic");
}

/// At TCX the kernel has moved the outermost tag from the frame to its metadata.
fn filter_behind_vlan_tags(hook: &str) {
    const CUSTOMER: u16 = 0x8100;
    const SERVICE: u16 = 0x88a8;
    let host = Namespace::new();
    let tap = device(&host, "tap0", Kind::Tap);
    let secgroup = Secgroup::inside(&host);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    secgroup.ok(&format!("attach tap0 --group web --hook {hook}"));
    let tagged: [&[u16]; 5] =
        [&[], &[CUSTOMER], &[SERVICE], &[CUSTOMER, CUSTOMER], &[SERVICE, CUSTOMER]];
    for ((inside, outside), port) in INSIDE.into_iter().zip(OUTSIDE).zip([1000, 2000]) {
        // Another port for each, because tags are not part of the flow key.
        for (tags, port) in tagged.into_iter().zip(port..) {
            let from = SocketAddr::new(outside, port);
            for (to, reason) in [(53, "new-flow"), (54, "no-rule"), (53, "established")] {
                secgroup.moved(&[("tap0", "ingress", reason, 1)], || {
                    tap.send(&frame(tags, from, SocketAddr::new(inside, to)));
                });
            }
        }
        secgroup.moved(&[("tap0", "ingress", "vlan-depth", 1)], || {
            let (from, to) = (SocketAddr::new(outside, port), SocketAddr::new(inside, 53));
            tap.send(&frame(&[SERVICE, CUSTOMER, CUSTOMER], from, to));
        });
    }
}

#[test]
fn frames_of_named_ether_types_pass() {
    let host = Namespace::new();
    let tap = device(&host, "tap0", Kind::Tap);
    let secgroup = Secgroup::inside(&host);
    secgroup.ok("group create web --description x");
    let frame = |ether_type: u16| {
        let [high, low] = ether_type.to_be_bytes();
        // To the multicast address of PTP (IEEE 1588, annex F).
        let mut frame = vec![0x01, 0x1b, 0x19, 0, 0, 0, 2, 0, 0, 0, 0, 2, high, low];
        frame.resize(60, 0);
        frame
    };
    let given = ["--ether-type ptp --ether-type 0x88E5", "", "--ether-type none"];
    for hook in [tc_hook(), "xdp", "xdp-generic"] {
        for (options, passes) in given.into_iter().zip([true, true, false]) {
            secgroup.ok(&format!("attach tap0 --group web --hook {hook} {options}"));
            let known = &secgroup.json("status")["NetworkInterfaces"][0]["EtherTypes"];
            let expected = if passes { json!(["macsec", "ptp"]) } else { json!([]) };
            assert_eq!(*known, expected, "{hook} {options}");
            assert_eq!(secgroup.ok("status").contains("--ether-type ptp"), passes);
            for (ether_type, is_named) in [(0x88f7, true), (0x88e5, true), (0x8902, false)] {
                let reason = if passes && is_named { "non-ip-allowed" } else { "non-ip" };
                secgroup.moved(&[("tap0", "ingress", reason, 1)], || tap.send(&frame(ether_type)));
            }
        }
    }
}

fn device(host: &Namespace, name: &str, kind: Kind) -> Tun {
    let addresses = ["10.90.0.1/24", "fd90::1/64"];
    Tun::new(End { namespace: host, device: name, addresses: &addresses }, kind)
}

fn packet(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of different families"),
    };
    let mut packet = Vec::new();
    builder.udp(from.port(), to.port()).write(&mut packet, data).unwrap();
    packet
}

fn frame(tags: &[u16], from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend(10_u16.to_be_bytes());
    }
    let ether_type: u16 = if from.is_ipv4() { 0x0800 } else { 0x86dd };
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet(from, to, b"under tags"));
    frame
}

fn is_datagram(packet: &[u8], to: SocketAddr, data: &[u8]) -> bool {
    let Ok(parsed) = SlicedPacket::from_ip(packet) else { return false };
    match parsed.transport {
        Some(TransportSlice::Udp(udp)) => {
            udp.destination_port() == to.port() && udp.payload() == data
        }
        _ => false,
    }
}
