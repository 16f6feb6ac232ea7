//! ICMP errors about a packet of a flow pass without a rule; forged ones do not.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use secgroup_tests::network::at;
use secgroup_tests::socket::{self, IcmpError};
use secgroup_tests::udp;
use secgroup_tests::wait::{MAX_WAIT, wait_for};
use secgroup_tests::{Edge, Routed, Secgroup, frame, tc_hook};

#[test]
fn icmp_errors_about_a_hosts_packets_pass_at_tcx() {
    to_a_host(tc_hook());
}

#[test]
fn icmp_errors_about_a_hosts_packets_pass_at_xdp() {
    to_a_host("xdp");
}

fn to_a_host(hook: &str) {
    let net = Routed::new();
    let secgroup = Secgroup::inside(&net.host);
    receive_errors(&net, &secgroup, Routed::HOST_DEVICE, &format!("--hook {hook}"));
}

#[test]
fn icmp_errors_about_a_guests_packets_pass_at_tcx() {
    to_a_guest(tc_hook());
}

#[test]
fn icmp_errors_about_a_guests_packets_pass_at_xdp() {
    to_a_guest("xdp");
}

fn to_a_guest(hook: &str) {
    let net = Routed::new();
    let secgroup = Secgroup::inside(&net.routers[0]);
    receive_errors(
        &net,
        &secgroup,
        Routed::ROUTER_DEVICE,
        &format!("--hook {hook} --orientation guest"),
    );
}

fn receive_errors(net: &Routed, secgroup: &Secgroup<'_>, device: &str, options: &str) {
    net.host.sysctl("net.ipv4.ping_group_range", "0 0");
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach {device} --group fresh {options}"));
    for family in 0..2 {
        let far = Routed::FAR[family];
        let hops = Routed::ROUTERS.map(|router| router[family]);
        let probe = udp::connect(&net.host, SocketAddr::new(far, 33434));
        trace_route(secgroup, device, &probe, far, hops);
        // The last hop has no such port.
        let refused = expect_error(secgroup, device, &probe, far, 64, "established");
        let (kind, code) = if far.is_ipv4() { (3, 3) } else { (1, 4) };
        let errno = libc::ECONNREFUSED;
        assert_eq!(refused, IcmpError { errno, kind, code, by: far });

        let echo = if far.is_ipv4() { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
        let domain = if far.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let ping = UdpSocket::from(socket::open(&net.host, domain, libc::SOCK_DGRAM, echo));
        net.host.run(|| ping.connect(SocketAddr::new(far, 0))).unwrap();
        trace_route(secgroup, device, &ping, far, hops);
        // The last hop replies.
        let answered =
            [(device, "egress", "established", 1), (device, "ingress", "established", 1)];
        secgroup.moved(&answered, || {
            set_hops(&ping, far, 64);
            send(&ping, far);
            ping.set_read_timeout(Some(MAX_WAIT)).unwrap();
            let mut answer = [0; 64];
            assert_eq!(ping.recv(&mut answer).unwrap(), ECHO.len());
            assert_eq!(answer[0], if far.is_ipv4() { 0 } else { 129 });
        });

        // A client without an error queue receives the error too.
        let client = udp::connect(&net.host, SocketAddr::new(far, 33435));
        let expected = [(device, "egress", "new-flow", 1), (device, "ingress", "related", 1)];
        secgroup.moved(&expected, || {
            client.send(b"request").unwrap();
            client.set_read_timeout(Some(MAX_WAIT)).unwrap();
            let error = client.recv(&mut [0]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{error}");
        });
    }
}

fn trace_route(
    secgroup: &Secgroup<'_>,
    device: &str,
    probe: &UdpSocket,
    far: IpAddr,
    hops: [IpAddr; 2],
) {
    socket::enable_error_queue(probe, far);
    let kind = if far.is_ipv4() { 11 } else { 3 };
    for (distance, (by, counted)) in (1..).zip(hops.into_iter().zip(["new-flow", "established"])) {
        let error = expect_error(secgroup, device, probe, far, distance, counted);
        assert_eq!(error, IcmpError { errno: libc::EHOSTUNREACH, kind, code: 0, by });
    }
}

/// Sends a packet with this hop limit, and returns the error that it causes.
fn expect_error(
    secgroup: &Secgroup<'_>,
    device: &str,
    probe: &UdpSocket,
    far: IpAddr,
    hops: i32,
    counted: &str,
) -> IcmpError {
    let expected = [(device, "egress", counted, 1), (device, "ingress", "related", 1)];
    secgroup.moved(&expected, || {
        set_hops(probe, far, hops);
        send(probe, far);
        let what = format!("an error from {hops} hops away");
        wait_for(MAX_WAIT, &what, || socket::next_icmp_error(probe))
    })
}

/// An echo request in which the kernel fills in checksum and identifier; to UDP it is any data.
const ECHO: [u8; 12] = *b"\0\0\0\0\0\0\0\x01ping";

fn send(probe: &UdpSocket, far: IpAddr) {
    let mut data = ECHO;
    data[0] = if far.is_ipv4() { 8 } else { 128 };
    assert_eq!(probe.send(&data).unwrap(), data.len());
}

fn set_hops(probe: &UdpSocket, far: IpAddr, hops: i32) {
    if far.is_ipv4() {
        socket::set(probe, libc::IPPROTO_IP, libc::IP_TTL, hops);
    } else {
        socket::set(probe, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, hops);
    }
}

#[test]
fn forged_icmp_errors_are_dropped_at_tcx() {
    drop_forged_errors(tc_hook());
}

#[test]
fn forged_icmp_errors_are_dropped_at_xdp() {
    drop_forged_errors("xdp");
}

fn drop_forged_errors(hook: &str) {
    let net = Edge::new();
    let secgroup = Secgroup::inside(&net.host);
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach {} --group fresh --hook {hook}", Edge::DEVICE));
    for (outside, inside) in at(Edge::OUTSIDE, 53).into_iter().zip(Edge::INSIDE) {
        let (far, v4) = (outside.ip(), inside.is_ipv4());
        let client = udp::connect(&net.host, outside);
        client.set_read_timeout(Some(MAX_WAIT)).unwrap();
        client.send(b"a question").unwrap();
        let ip_header = if v4 { 20 } else { 40 };
        let is_request = |sent: &[u8]| sent.ends_with(b"a question");
        let request = net.receive(is_request);
        let port = client.local_addr().unwrap().port();
        let [from, other] = [port, port ^ 1].map(|port| SocketAddr::new(inside, port));

        let unreachable = if v4 { [3, 3] } else { [1, 4] };
        let icmp_error =
            |kind: [u8; 2], embedded: &[u8]| frame::icmp(far, inside, kind, [0; 4], embedded);
        let arrives = |reason: &str, packet: &[u8]| {
            secgroup.moved(&[(Edge::DEVICE, "ingress", reason, 1)], || net.send(packet));
        };
        // About the request, from any router, with the whole packet or the required minimum
        // embedded.
        arrives("related", &icmp_error(unreachable, &request));
        let error = client.take_error().unwrap().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{error}");
        arrives("related", &icmp_error(unreachable, &request[..ip_header + 8]));
        let too_big = if v4 { [3, 4] } else { [2, 0] };
        arrives("related", &icmp_error(too_big, &request));
        let _ = client.take_error().unwrap();
        // With a truncated embedded packet, or about a packet of another sender.
        arrives("icmp-error-invalid", &icmp_error(unreachable, &request[..ip_header + 7]));
        arrives("icmp-error-invalid", &icmp_error(unreachable, &request[..ip_header]));
        arrives("icmp-error-invalid", &icmp_error(unreachable, &[]));
        let other_source =
            SocketAddr::new(if v4 { "10.90.0.3" } else { "fd90::3" }.parse().unwrap(), port);
        arrives(
            "icmp-error-invalid",
            &icmp_error(unreachable, &frame::udp(other_source, outside, b"x")),
        );
        arrives("icmp-error-invalid", &icmp_error(unreachable, &frame::udp(outside, from, b"x")));
        // About packets that were not sent.
        arrives("no-rule", &icmp_error(unreachable, &frame::udp(other, outside, b"x")));
        arrives("no-rule", &icmp_error(unreachable, &frame::syn(from, outside, 1)));
        arrives("no-rule", &icmp_error(unreachable, &frame::echo_request(inside, far, port)));
        // About a later fragment, which has no ports.
        let long = frame::udp(from, outside, &[0; 64]);
        arrives("no-rule", &icmp_error(unreachable, &frame::fragment(&long, 1, 16..32, true)));
        // A redirect, which embeds a packet too, and changes routes.
        if v4 {
            arrives("no-rule", &icmp_error([5, 1], &request));
        }
        assert!(client.take_error().unwrap().is_none());
        // A real reply still passes.
        arrives("established", &frame::udp(outside, from, b"an answer"));
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 9);
    }
}
