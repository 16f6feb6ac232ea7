//! A guest behind a device of its host: packets that the host receives from it are egress.

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Guest, Secgroup, ping, tc_hook};

#[test]
fn tcx_filters_a_guest() {
    filter_a_guest(tc_hook());
}

#[test]
fn native_xdp_filters_a_guest() {
    filter_a_guest("xdp");
}

#[test]
fn generic_xdp_filters_a_guest() {
    filter_a_guest("xdp-generic");
}

fn filter_a_guest(hook: &str) {
    let net = Guest::new();
    let secgroup = Secgroup::inside(&net.host);
    let tap = Guest::DEVICE;
    secgroup.ok("group create vm --description x");
    secgroup.ok(&format!("attach {tap} --group vm --orientation guest --hook {hook}"));

    let inside = at(Guest::GUEST, 80);
    let outside = at(Guest::OUTSIDE, 80);
    let _inside = inside.map(|end| TcpServer::echo(&net.guest, end));
    let _outside = outside.map(|end| TcpServer::echo(&net.outside, end));
    let echoes = outside.map(|end| UdpEcho::start(&net.outside, end));

    // The guest's server is reachable only with a rule.
    secgroup.moved(&[(tap, "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.outside, &inside));
    });
    secgroup
        .ok("rule add vm ingress --protocol tcp --port 80 --cidr 10.79.0.0/24 --cidr fd79::/64");
    for end in inside {
        secgroup.moved_over_flows(&[(tap, "ingress", "new-flow", 1)], || {
            let mut stream = tcp::connect(&net.outside, end).unwrap();
            tcp::exchange(&mut stream, &[7; 200_000]).unwrap();
        });
    }

    // The guest's own connections get their replies.
    let mut streams = outside.map(|end| {
        secgroup.moved_over_flows(&[(tap, "egress", "new-flow", 1)], || {
            let mut stream = tcp::connect(&net.guest, end).unwrap();
            tcp::exchange(&mut stream, &[7; 200_000]).unwrap();
            stream
        })
    });
    for echo in &echoes {
        let socket = udp::connect(&net.guest, echo.address());
        secgroup.moved_over_flows(&[(tap, "egress", "new-flow", 1)], || {
            assert!(udp::is_echoed(&socket, MAX_WAIT));
            assert!(udp::is_echoed(&socket, MAX_WAIT));
        });
    }
    for address in Guest::OUTSIDE {
        secgroup.moved_over_flows(&[(tap, "egress", "new-flow", 1)], || {
            assert!(ping::ping(&net.guest, address));
        });
    }

    // Without egress rules the guest opens no new flow; established flows survive.
    secgroup.ok("rule remove vm egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.moved_over_flows(&[(tap, "egress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.guest, &outside));
    });
    secgroup.moved_over_flows(&[], || {
        for stream in &mut streams {
            tcp::exchange(stream, b"still here").unwrap();
        }
    });
}

#[test]
fn the_host_is_outside_for_its_guest() {
    let net = Guest::new();
    let secgroup = Secgroup::inside(&net.host);
    let tap = Guest::DEVICE;
    secgroup.ok("group create vm --description x");
    secgroup.ok(&format!("attach {tap} --group vm --orientation guest"));
    let inside = at(Guest::GUEST, 22);
    let _servers = inside.map(|end| TcpServer::echo(&net.guest, end));
    secgroup.moved(&[(tap, "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.host, &inside));
    });
    secgroup
        .ok("rule add vm ingress --protocol tcp --port 22 --cidr 10.78.0.1/32 --cidr fd78::1/128");
    for end in inside {
        let mut stream = tcp::connect(&net.host, end).unwrap();
        tcp::exchange(&mut stream, b"from the host").unwrap();
    }
}
