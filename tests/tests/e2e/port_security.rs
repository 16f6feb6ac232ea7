//! Two guests on a switch, one of which uses addresses and services that are not its own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use secgroup_tests::network::{End, Switch, at};
use secgroup_tests::socket::PacketSocket;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Secgroup, frame, ping, tc_hook};

type Mac = [u8; 6];

const GUEST: [&str; 2] = ["10.76.0.1", "fd76::1"];
const NEIGHBOUR: [&str; 2] = ["10.76.0.2", "fd76::2"];
/// Of nobody.
const FOREIGN: [&str; 2] = ["10.76.0.66", "fd76::66"];
/// Of the guest, by `--allow-address`.
const VIRTUAL: [&str; 2] = ["10.76.0.50", "fd76::50"];
/// The host's device for the guest.
const PORT: &str = "port0";
const FOREIGN_MAC: Mac = [2, 0, 0, 0, 0x76, 0x66];
const BROADCAST: Mac = [0xff; 6];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const BRIDGES: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Lab {
    switch: Switch,
    guest: Namespace,
    neighbour: Namespace,
}

impl Lab {
    fn new() -> Self {
        let lab =
            Self { switch: Switch::new(), guest: Namespace::new(), neighbour: Namespace::new() };
        for (namespace, [v4, v6]) in [(&lab.guest, GUEST), (&lab.neighbour, NEIGHBOUR)] {
            let addresses = [format!("{v4}/24"), format!("{v6}/64")];
            let addresses = addresses.each_ref().map(String::as_str);
            lab.switch.plug(End { namespace, device: "eth0", addresses: &addresses });
        }
        lab
    }

    fn mac(&self) -> Mac {
        let link = self.guest.ip("-o link show eth0");
        let text = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
        let octets: Vec<u8> =
            text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        octets.try_into().unwrap()
    }

    fn attach(&self, secgroup: &Secgroup<'_>, options: &str) {
        secgroup.ok(&format!("attach {PORT} --group vm --orientation guest {options}"));
    }
}

/// The options with all of the guest's addresses.
fn declared(mac: Mac) -> String {
    let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
    let [v4, v6] = GUEST;
    format!("--address {v4} --address {v6} --mac {mac}")
}

fn link_local([a, b, c, d, e, f]: Mac) -> IpAddr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from(octets).into()
}

fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn ip(to: Mac, from: Mac, mut packet: Vec<u8>) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    if !is_v4 {
        // The hop limit of neighbour discovery.
        packet[7] = 255;
    }
    ethernet(to, from, if is_v4 { 0x0800 } else { 0x86dd }, &packet)
}

/// A gratuitous ARP reply.
fn arp(frame_from: Mac, sender: Mac, address: &str) -> Vec<u8> {
    let IpAddr::V4(v4) = address.parse().unwrap() else { panic!("{address} is not IPv4") };
    let own = [&sender[..], &v4.octets()].concat();
    let message = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &own, &own].concat();
    ethernet(BROADCAST, frame_from, 0x0806, &message)
}

/// An unsolicited neighbour advertisement.
fn advertisement(mac: Mac, source: IpAddr, target: &str) -> Vec<u8> {
    let IpAddr::V6(v6) = target.parse().unwrap() else { panic!("{target} is not IPv6") };
    let data = [&v6.octets()[..], &[2, 1], &mac].concat();
    ip(
        ALL_NODES_MAC,
        mac,
        frame::icmp(source, address("ff02::1"), [136, 0], [0x20, 0, 0, 0], &data),
    )
}

/// An advertisement of a default router for half an hour.
fn router(mac: Mac) -> Vec<u8> {
    let data = [&[0; 8][..], &[1, 1], &mac].concat();
    let (from, to) = (link_local(mac), address("ff02::1"));
    ip(ALL_NODES_MAC, mac, frame::icmp(from, to, [134, 0], [64, 0, 0x07, 0x08], &data))
}

/// What the guest may not send, with the reason for which it is dropped.
fn forbidden(mac: Mac) -> Vec<(Vec<u8>, &'static str)> {
    let end = |text: &str, port| SocketAddr::new(address(text), port);
    let mut frames = vec![
        (arp(mac, mac, FOREIGN[0]), "arp-sender"),
        (arp(mac, mac, NEIGHBOUR[0]), "arp-sender"),
        (arp(mac, FOREIGN_MAC, GUEST[0]), "arp-sender"),
        (arp(FOREIGN_MAC, FOREIGN_MAC, GUEST[0]), "source-mac"),
        (advertisement(mac, address(GUEST[1]), FOREIGN[1]), "neighbour-target"),
        (advertisement(mac, link_local(mac), NEIGHBOUR[1]), "neighbour-target"),
        (advertisement(mac, address(NEIGHBOUR[1]), NEIGHBOUR[1]), "source-address"),
        (router(mac), "router-advertisement"),
        (ethernet(BRIDGES, mac, 38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]), "bpdu"),
    ];
    for (own, foreign, other) in
        [(GUEST[0], FOREIGN[0], NEIGHBOUR[0]), (GUEST[1], FOREIGN[1], NEIGHBOUR[1])]
    {
        let (server, client) = if own == GUEST[0] { (67, 68) } else { (547, 546) };
        let datagram =
            |from, ports: (u16, u16)| frame::udp(end(from, ports.0), end(other, ports.1), b"x");
        frames.extend([
            (ip(BROADCAST, mac, datagram(foreign, (5000, 53))), "source-address"),
            (ip(BROADCAST, mac, datagram(other, (5000, 53))), "source-address"),
            (ip(BROADCAST, FOREIGN_MAC, datagram(own, (5000, 53))), "source-mac"),
            (ip(BROADCAST, mac, datagram(own, (server, client))), "dhcp-server"),
        ]);
        let kind = if own == GUEST[0] { [5, 1] } else { [137, 0] };
        let redirect = frame::icmp(address(own), address(other), kind, [0; 4], &[0; 32]);
        frames.push((ip(BROADCAST, mac, redirect), "redirect"));
    }
    frames
}

/// What the switch has learned, and the default routes and neighbours of the other guest.
fn beliefs(lab: &Lab) -> [String; 3] {
    let bridge = lab.switch.host().command("bridge").args(["fdb", "show", "br", "switch"]).output();
    let learned = String::from_utf8(bridge.unwrap().stdout).unwrap();
    [
        learned.lines().filter(|line| line.contains("02:00:00:00:76:66")).collect(),
        lab.neighbour.ip("-6 route show default"),
        lab.neighbour
            .ip("neighbour show")
            .lines()
            .filter(|line| FOREIGN.iter().any(|foreign| line.starts_with(foreign)))
            .collect(),
    ]
}

#[test]
fn a_guest_cannot_be_another_at_tc() {
    a_guest_cannot_be_another(tc_hook());
}

#[test]
fn a_guest_cannot_be_another_at_native_xdp() {
    a_guest_cannot_be_another("xdp");
}

#[test]
fn a_guest_cannot_be_another_at_generic_xdp() {
    a_guest_cannot_be_another("xdp-generic");
}

fn a_guest_cannot_be_another(hook: &str) {
    let lab = Lab::new();
    let secgroup = Secgroup::inside(lab.switch.host());
    secgroup.ok("group create vm --description x");
    let mac = lab.mac();
    let socket = PacketSocket::new(&lab.guest, "eth0");
    // Nothing else protects the neighbour.
    socket.send(&router(mac));
    wait_until(MAX_WAIT, "a default route of the neighbour", || {
        lab.neighbour.ip("-6 route show default").contains("via")
    });
    lab.neighbour.ip("-6 route flush root ::/0");

    lab.attach(&secgroup, &format!("--hook {hook} {}", declared(mac)));
    assert_eq!(beliefs(&lab), ["", "", ""], "before");
    for (frame, reason) in forbidden(mac) {
        secgroup.moved(&[(PORT, "egress", reason, 1)], || socket.send(&frame));
    }
    assert_eq!(beliefs(&lab), ["", "", ""], "after");

    // Without declared addresses it is still no router, DHCP server or bridge.
    lab.attach(&secgroup, "--address none --mac none");
    let text = secgroup.ok("status");
    let line = "source/destination check off: no address is declared (--address), and the MAC address is not \
                checked (no --mac)";
    assert!(text.contains(&format!("{PORT}: {line}\n")), "{text}");
    for (frame, reason) in forbidden(mac) {
        if matches!(reason, "router-advertisement" | "redirect" | "dhcp-server" | "bpdu") {
            secgroup.moved(&[(PORT, "egress", reason, 1)], || socket.send(&frame));
        }
    }
    assert_eq!(beliefs(&lab)[1], "", "no router");
    lab.attach(&secgroup, "--guest-router on");
    secgroup.moved(&[(PORT, "egress", "neighbour-discovery", 1)], || socket.send(&router(mac)));
    wait_until(MAX_WAIT, "a default route of the neighbour", || {
        lab.neighbour.ip("-6 route show default").contains("via")
    });
}

#[test]
fn a_guest_uses_its_own_and_allowed_addresses() {
    let lab = Lab::new();
    let secgroup = Secgroup::inside(lab.switch.host());
    secgroup.ok("group create vm --description x");
    let [v4, v6] = VIRTUAL;
    let allowed = format!("--allow-address {v4} --allow-address {v6}");
    lab.attach(&secgroup, &format!("{} {allowed}", declared(lab.mac())));
    let _servers = at(NEIGHBOUR.map(address), 80).map(|end| TcpServer::echo(&lab.neighbour, end));
    for end in at(NEIGHBOUR.map(address), 80) {
        let mut stream = tcp::connect(&lab.guest, end).unwrap();
        tcp::exchange(&mut stream, &[7; 100_000]).unwrap();
    }
    for (virtual_address, foreign) in VIRTUAL.into_iter().zip(FOREIGN) {
        let nodad = if foreign.contains(':') { "nodad" } else { "" };
        for address in [virtual_address, foreign] {
            lab.guest.ip(&format!("address add {address} dev eth0 {nodad}"));
        }
    }
    secgroup.ok("rule add vm ingress --protocol all --cidr 10.76.0.0/24 --cidr fd76::/64");
    for virtual_address in VIRTUAL {
        assert!(ping::ping(&lab.neighbour, address(virtual_address)), "{virtual_address}");
    }
    for foreign in FOREIGN {
        assert!(!ping::ping(&lab.neighbour, address(foreign)), "{foreign}");
    }
    let reasons = secgroup.json("stats").to_string();
    assert!(reasons.contains("arp-sender") && reasons.contains("neighbour-target"), "{reasons}");

    let status = secgroup.json("status");
    let interface = &status["NetworkInterfaces"][0];
    assert_eq!(interface["SourceDestCheck"], true);
    assert_eq!(interface["AllowedAddresses"][0], format!("{v4}/32"));
    let text = secgroup.ok("status");
    assert!(text.contains(&format!("{PORT}: source/destination check on\n")), "{text}");
}

#[test]
fn flows_of_addresses_that_are_no_longer_the_guests_end() {
    let lab = Lab::new();
    let secgroup = Secgroup::inside(lab.switch.host());
    secgroup.ok("group create vm --description x");
    lab.attach(&secgroup, &format!("--source-dest-check off {}", declared(lab.mac())));
    let text = secgroup.ok("status");
    assert!(text.contains(&format!("{PORT}: source/destination check off\n")), "{text}");
    lab.guest.ip(&format!("address add {}/24 dev eth0", FOREIGN[0]));
    let server = SocketAddr::new(address(NEIGHBOUR[0]), 80);
    let _server = TcpServer::echo(&lab.neighbour, server);
    let mut own = tcp::connect(&lab.guest, server).unwrap();
    lab.guest.ip(&format!("route add {} dev eth0 src {}", NEIGHBOUR[0], FOREIGN[0]));
    let mut foreign = tcp::connect(&lab.guest, server).unwrap();
    assert_eq!(foreign.local_addr().unwrap().ip(), address(FOREIGN[0]));
    for stream in [&mut own, &mut foreign] {
        tcp::exchange(stream, b"both work").unwrap();
    }
    assert_eq!(secgroup.json("flows count")["Count"], 2);

    lab.attach(&secgroup, "--source-dest-check on");
    assert_eq!(secgroup.json("flows count")["Count"], 1);
    tcp::exchange(&mut own, b"still here").unwrap();
    let dropped = || secgroup.counters().packets(PORT, "egress", "source-address");
    let before = dropped();
    std::io::Write::write_all(&mut foreign, b"lost").unwrap();
    wait_until(MAX_WAIT, "a dropped segment", || dropped() > before);
}
