//! Path-MTU discovery through an interface without a rule for ICMP.

use std::net::SocketAddr;

use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Routed, Secgroup, socket, tc_hook};

#[test]
fn a_host_learns_the_mtu_of_its_paths_through_tcx() {
    to_a_host(tc_hook());
}

#[test]
fn a_host_learns_the_mtu_of_its_paths_through_xdp() {
    to_a_host("xdp");
}

fn to_a_host(hook: &str) {
    let net = Routed::new();
    let secgroup = Secgroup::inside(&net.host);
    story(&net, &secgroup, Routed::HOST_DEVICE, &format!("--hook {hook}"));
}

#[test]
fn a_guest_learns_the_mtu_of_its_paths_through_tcx() {
    to_a_guest(tc_hook());
}

#[test]
fn a_guest_learns_the_mtu_of_its_paths_through_xdp() {
    to_a_guest("xdp");
}

fn to_a_guest(hook: &str) {
    let net = Routed::new();
    let secgroup = Secgroup::inside(&net.routers[0]);
    story(&net, &secgroup, Routed::ROUTER_DEVICE, &format!("--hook {hook} --orientation guest"));
}

fn story(net: &Routed, secgroup: &Secgroup<'_>, device: &str, how: &str) {
    let peers = "--cidr 10.83.0.0/24 --cidr fd83::/64";
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("rule add web ingress --protocol tcp --port 80 {peers}"));
    secgroup.ok(&format!("rule add web ingress --protocol udp --port 53 {peers}"));
    secgroup.ok(&format!("rule add web egress --protocol udp --port 53 {peers}"));
    secgroup.ok(&format!("attach {device} --group web {how}"));
    for mtu in [1400, 1280] {
        for (host, far) in Routed::HOST.into_iter().zip(Routed::FAR) {
            let [question, answer, page] =
                [(far, 53), (host, 53), (host, 80)].map(SocketAddr::from);
            net.set_path_mtu(mtu);
            asks(net, secgroup, device, question, mtu);
            net.set_path_mtu(mtu);
            answers(net, secgroup, device, answer, mtu);
            net.set_path_mtu(mtu);
            serves(net, secgroup, device, page, mtu);
        }
    }
}

/// Bytes of a datagram that fills an IP packet.
fn filling(mtu: u32, to: SocketAddr) -> Vec<u8> {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    vec![7; usize::try_from(mtu).unwrap() - headers]
}

/// The host sends a datagram that is too large for its path: the first disappears, the socket is
/// told, and from then on the host knows.
fn asks(net: &Routed, secgroup: &Secgroup<'_>, device: &str, to: SocketAddr, mtu: u32) {
    let _echo = UdpEcho::start(&net.far, to);
    let client = udp::connect(&net.host, to);
    client.set_read_timeout(Some(MAX_WAIT)).unwrap();
    socket::never_fragment(&client, to);
    assert_eq!(socket::path_mtu(&client, to), 1500);
    let opened = [(device, "egress", "new-flow", 1), (device, "ingress", "related", 1)];
    secgroup.moved(&opened, || {
        client.send(&filling(1500, to)).unwrap();
        let told = client.recv(&mut [0]).unwrap_err();
        assert_eq!(told.raw_os_error(), Some(libc::EMSGSIZE), "{to}: {told}");
    });
    assert_eq!(socket::path_mtu(&client, to), mtu);
    let passed = [(device, "egress", "established", 1), (device, "ingress", "established", 1)];
    secgroup.moved(&passed, || {
        let refused = client.send(&filling(mtu + 1, to)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE), "{to}: {refused}");
        client.send(&filling(mtu, to)).unwrap();
        assert_eq!(client.recv(&mut [0; 2000]).unwrap(), filling(mtu, to).len());
    });
}

/// The same for an answer to a client that was let in.
fn answers(net: &Routed, secgroup: &Secgroup<'_>, device: &str, at: SocketAddr, mtu: u32) {
    let server = udp::bind(&net.host, at);
    server.set_read_timeout(Some(MAX_WAIT)).unwrap();
    socket::never_fragment(&server, at);
    let client = udp::connect(&net.far, at);
    client.send(b"question").unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    let answer = [(device, "egress", "established", 1), (device, "ingress", "related", 1)];
    secgroup.moved(&answer, || {
        server.send_to(&filling(1500, at), from).unwrap();
        // The socket is not told, for it has no peer; the route is.
        wait_until(MAX_WAIT, "the host to learn an MTU", || known_mtu(net, from) == mtu);
    });
    secgroup.moved(&[(device, "egress", "established", 1)], || {
        let refused = server.send_to(&filling(mtu + 1, at), from).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE), "{at}: {refused}");
        server.send_to(&filling(mtu, at), from).unwrap();
        client.set_read_timeout(Some(MAX_WAIT)).unwrap();
        assert_eq!(client.recv(&mut [0; 2000]).unwrap(), filling(mtu, at).len());
    });
}

/// A long answer over TCP, and a long question.
fn serves(net: &Routed, secgroup: &Secgroup<'_>, device: &str, at: SocketAddr, mtu: u32) {
    let echo = TcpServer::echo(&net.host, at);
    let before = secgroup.counters();
    let mut stream = tcp::connect(&net.far, echo.address()).unwrap();
    tcp::exchange(&mut stream, &vec![7; 2_000_000]).unwrap();
    let moved = secgroup.counters().since(&before);
    let related = moved.packets(device, "ingress", "related");
    assert!(related > 0, "{at}: nothing was related\n{moved}");
    let expected = [(device, "ingress", "new-flow", 1), (device, "ingress", "related", related)];
    assert!(moved.clone().without("established").is_exactly(&expected), "{moved}");
    assert_eq!(known_mtu(net, stream.local_addr().unwrap()), mtu);
}

/// What the host knows of a path.
fn known_mtu(net: &Routed, to: SocketAddr) -> u32 {
    socket::path_mtu(&udp::connect(&net.host, to), to)
}
