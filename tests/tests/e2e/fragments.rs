//! IP fragments of large and of forged packets.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Edge, Guest, Namespace, Pair, Secgroup, frame, tc_hook};

/// A datagram that takes some forty frames.
const LENGTH: u16 = 60_000;
/// The largest IP packet of the network.
const MTU: u16 = 1500;

/// The number of later fragments of such a datagram.
fn later_fragments(end: SocketAddr) -> u64 {
    // The payload after the IP header and IPv6's fragment header, in units of 8 bytes.
    let header = if end.is_ipv4() { 20 } else { 48 };
    let room = u64::from(MTU - header) / 8 * 8;
    (u64::from(LENGTH) + 8).div_ceil(room) - 1
}

#[test]
fn large_datagrams_pass_both_ways_at_tcx() {
    to_a_host(tc_hook());
}

#[test]
fn large_datagrams_pass_both_ways_at_xdp() {
    to_a_host("xdp");
}

fn to_a_host(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let options = format!("{} --hook {hook}", Pair::DEVICE);
    let hosts = [&net.server, &net.client];
    echo_large_datagrams(&secgroup, &options, hosts, [at(Pair::SERVER, 53), at(Pair::CLIENT, 53)]);
}

#[test]
fn large_datagrams_of_a_guest_pass_both_ways_at_tcx() {
    to_a_guest(tc_hook());
}

#[test]
fn large_datagrams_of_a_guest_pass_both_ways_at_xdp() {
    to_a_guest("xdp");
}

fn to_a_guest(hook: &str) {
    let net = Guest::new();
    let secgroup = Secgroup::inside(&net.host);
    let options = format!("{} --hook {hook} --orientation guest", Guest::DEVICE);
    let hosts = [&net.guest, &net.outside];
    echo_large_datagrams(
        &secgroup,
        &options,
        hosts,
        [at(Guest::GUEST, 53), at(Guest::OUTSIDE, 53)],
    );
}

fn echo_large_datagrams(
    secgroup: &Secgroup<'_>,
    options: &str,
    [inside, outside]: [&Namespace; 2],
    [inner, outer]: [[SocketAddr; 2]; 2],
) {
    let device = options.split(' ').next().unwrap();
    secgroup.ok("group create dns --description x");
    secgroup.ok("rule remove dns egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let peers = outer.map(|end| {
        let length = if end.is_ipv4() { 32 } else { 128 };
        format!("--cidr {}/{length}", end.ip())
    });
    let peers = peers.join(" ");
    for way in ["ingress", "egress"] {
        secgroup.ok(&format!("rule add dns {way} --protocol udp --port 53 {peers}"));
    }
    secgroup.ok(&format!("attach {options} --group dns"));
    for (inner, outer) in inner.into_iter().zip(outer) {
        let later_fragments = later_fragments(inner);
        // For another port no fragment passes in either direction. A host whose own egress program
        // drops the first fragment does not send the others. Before any passes: the numbers of packets are random, and
        // one that passed may have had this one's.
        for (host, end, direction) in [(outside, inner, "ingress"), (inside, outer, "egress")] {
            let closed = SocketAddr::new(end.ip(), 54);
            let client = udp::connect(host, closed);
            let expected_later =
                if direction == "egress" && device == Pair::DEVICE { 0 } else { later_fragments };
            let dropped = [
                (device, direction, "no-rule", 1),
                (device, direction, "fragment", expected_later),
            ];
            secgroup.moved(&dropped, || {
                client.send(&[7; LENGTH as usize]).unwrap();
            });
        }
        // A request from outside, and its reply.
        let _inside = UdpEcho::start(inside, inner);
        let client = udp::connect(outside, inner);
        let both_ways = |client: &UdpSocket, opens: &str, first: &str, then: &str| {
            let expected = [
                (device, first, opens, 1),
                (device, then, "established", 1),
                (device, first, "later-fragment", later_fragments),
                (device, then, "later-fragment", later_fragments),
            ];
            secgroup.moved(&expected, || assert!(echoes(client, MAX_WAIT), "{inner} and {outer}"));
        };
        both_ways(&client, "new-flow", "ingress", "egress");
        both_ways(&client, "established", "ingress", "egress");
        // A request from inside.
        let _outside = UdpEcho::start(outside, outer);
        let client = udp::connect(inside, outer);
        both_ways(&client, "new-flow", "egress", "ingress");
    }
}

/// Sends a large datagram; returns whether it comes back complete.
fn echoes(socket: &UdpSocket, limit: Duration) -> bool {
    let sent: Vec<u8> = (0..LENGTH).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let mut back = vec![0; usize::from(LENGTH) + 1];
    socket.set_read_timeout(Some(limit)).unwrap();
    socket.send(&sent).unwrap();
    match socket.recv(&mut back) {
        Ok(length) => back[..length] == sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("wait for a datagram: {error}"),
    }
}

#[test]
fn forged_fragments_are_dropped_at_tcx() {
    drop_forged_fragments(tc_hook());
}

#[test]
fn forged_fragments_are_dropped_at_xdp() {
    drop_forged_fragments("xdp");
}

fn drop_forged_fragments(hook: &str) {
    let net = Edge::new();
    let secgroup = Secgroup::inside(&net.host);
    secgroup.ok("group create dns --description x");
    let peers = "--cidr 10.90.0.0/24 --cidr fd90::/64";
    secgroup.ok(&format!("rule add dns ingress --protocol udp --port 53 {peers}"));
    secgroup.ok(&format!("rule add dns ingress --protocol tcp --port 53 {peers}"));
    secgroup.ok(&format!("attach {} --group dns --hook {hook}", Edge::DEVICE));
    for (outside, inside) in at(Edge::OUTSIDE, 4000).into_iter().zip(at(Edge::INSIDE, 53)) {
        let server = udp::bind(&net.host, inside);
        server.set_read_timeout(Some(MAX_WAIT)).unwrap();
        let datagram = frame::udp(outside, inside, &[7; 2000]);
        let closed = frame::udp(outside, SocketAddr::new(inside.ip(), 54), &[7; 2000]);
        let syn = frame::syn(outside, inside, 1);
        let send = |reason: &str, packet: &[u8], id: u16, bytes: Range<usize>, more: bool| {
            secgroup.moved(&[(Edge::DEVICE, "ingress", reason, 1)], || {
                net.send(&frame::fragment(packet, id, bytes, more));
            });
        };
        let received = || server.recv(&mut [0; 4000]).unwrap();

        // Fragments in order pass.
        send("new-flow", &datagram, 1, 0..1200, true);
        send("later-fragment", &datagram, 1, 1200..1600, true);
        send("later-fragment", &datagram, 1, 1600..2008, false);
        assert_eq!(received(), 2000);
        // A fragment without a first fragment, or before it, does not pass.
        send("fragment", &datagram, 2, 1200..2008, false);
        send("established", &datagram, 2, 0..1200, true);
        send("later-fragment", &datagram, 2, 1200..2008, false);
        assert_eq!(received(), 2000);
        // A fragment after a dropped first fragment does not pass.
        send("no-rule", &closed, 3, 0..1200, true);
        send("fragment", &closed, 3, 1200..2008, false);
        // A fragment that overlaps the first fragment, which holds the ports, does not pass.
        send("established", &datagram, 4, 0..1200, true);
        send("fragment-overlap", &closed, 4, 1192..2008, false);
        send("fragment-overlap", &closed, 4, 8..1208, true);
        // Dropped fragments do not affect the other ones.
        send("later-fragment", &datagram, 4, 1200..2008, false);
        assert_eq!(received(), 2000);
        // A fragment with another source address does not match.
        let other_source = match outside {
            SocketAddr::V4(_) => "10.90.0.3:4000",
            SocketAddr::V6(_) => "[fd90::3]:4000",
        };
        let other_source = frame::udp(other_source.parse().unwrap(), inside, &[7; 2000]);
        send("established", &datagram, 5, 0..1200, true);
        send("fragment", &other_source, 5, 1200..2008, false);
        // A first fragment without the complete transport header does not pass.
        send("tiny-fragment", &syn, 6, 0..8, true);
        send("tiny-fragment", &syn, 6, 8..20, false);
        send("tiny-fragment", &datagram, 7, 0..0, true);
    }
}
