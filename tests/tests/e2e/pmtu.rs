//! Path-MTU discovery through an interface without a rule for ICMP.

use std::net::SocketAddr;

use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Routed, Secgroup, socket, tc_hook};

#[test]
fn a_host_learns_path_mtus_at_tcx() {
    to_a_host(tc_hook());
}

#[test]
fn a_host_learns_path_mtus_at_xdp() {
    to_a_host("xdp");
}

fn to_a_host(hook: &str) {
    let net = Routed::new();
    let secgroup = Secgroup::inside(&net.host);
    discover_mtus(&net, &secgroup, Routed::HOST_DEVICE, &format!("--hook {hook}"));
}

#[test]
fn a_guest_learns_path_mtus_at_tcx() {
    to_a_guest(tc_hook());
}

#[test]
fn a_guest_learns_path_mtus_at_xdp() {
    to_a_guest("xdp");
}

fn to_a_guest(hook: &str) {
    let net = Routed::new();
    let secgroup = Secgroup::inside(&net.routers[0]);
    discover_mtus(
        &net,
        &secgroup,
        Routed::ROUTER_DEVICE,
        &format!("--hook {hook} --orientation guest"),
    );
}

fn discover_mtus(net: &Routed, secgroup: &Secgroup<'_>, device: &str, options: &str) {
    let peers = "--cidr 10.83.0.0/24 --cidr fd83::/64";
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("rule add web ingress --protocol tcp --port 80 {peers}"));
    secgroup.ok(&format!("rule add web ingress --protocol udp --port 53 {peers}"));
    secgroup.ok(&format!("rule add web egress --protocol udp --port 53 {peers}"));
    secgroup.ok(&format!("attach {device} --group web {options}"));
    for mtu in [1400, 1280] {
        for (host, far) in Routed::HOST.into_iter().zip(Routed::FAR) {
            let [request, reply, page] = [(far, 53), (host, 53), (host, 80)].map(SocketAddr::from);
            net.set_path_mtu(mtu);
            send_datagram(net, secgroup, device, request, mtu);
            net.set_path_mtu(mtu);
            send_reply(net, secgroup, device, reply, mtu);
            net.set_path_mtu(mtu);
            transfer_over_tcp(net, secgroup, device, page, mtu);
        }
    }
}

/// Bytes of a datagram that fills an IP packet.
fn filling(mtu: u32, to: SocketAddr) -> Vec<u8> {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    vec![7; usize::try_from(mtu).unwrap() - headers]
}

/// The host sends a datagram that is too large for its path. A router drops it, the socket receives
/// the ICMP error, and from then on the host knows the MTU.
fn send_datagram(net: &Routed, secgroup: &Secgroup<'_>, device: &str, to: SocketAddr, mtu: u32) {
    let _echo = UdpEcho::start(&net.far, to);
    let client = udp::connect(&net.host, to);
    client.set_read_timeout(Some(MAX_WAIT)).unwrap();
    socket::never_fragment(&client, to);
    assert_eq!(socket::path_mtu(&client, to), 1500);
    let opened = [(device, "egress", "new-flow", 1), (device, "ingress", "related", 1)];
    secgroup.moved(&opened, || {
        client.send(&filling(1500, to)).unwrap();
        let error = client.recv(&mut [0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE), "{to}: {error}");
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

/// The same for a reply to a client that a rule allows.
fn send_reply(net: &Routed, secgroup: &Secgroup<'_>, device: &str, at: SocketAddr, mtu: u32) {
    let server = udp::bind(&net.host, at);
    server.set_read_timeout(Some(MAX_WAIT)).unwrap();
    socket::never_fragment(&server, at);
    let client = udp::connect(&net.far, at);
    client.send(b"question").unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    let reply = [(device, "egress", "established", 1), (device, "ingress", "related", 1)];
    secgroup.moved(&reply, || {
        server.send_to(&filling(1500, at), from).unwrap();
        // The route receives the error; the socket does not, because it has no peer.
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

/// A large transfer over TCP in both directions.
fn transfer_over_tcp(
    net: &Routed,
    secgroup: &Secgroup<'_>,
    device: &str,
    at: SocketAddr,
    mtu: u32,
) {
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

/// The MTU that the host knows for a path.
fn known_mtu(net: &Routed, to: SocketAddr) -> u32 {
    socket::path_mtu(&udp::connect(&net.host, to), to)
}
