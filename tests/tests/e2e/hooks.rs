//! The same verdicts on every hook, and changes from one hook to another.

use firewall_user::dataplane::host::preflight;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp;
use secgroup_tests::{Pair, Secgroup, tc_hook};

/// Every change between two hooks that this kernel has.
fn hook_changes() -> impl Iterator<Item = &'static str> {
    const ALL: [&str; 12] = [
        "xdp",
        "xdp-generic",
        "tcx",
        "xdp-generic",
        "xdp",
        "tcx",
        "clsact",
        "xdp",
        "clsact",
        "xdp-generic",
        "clsact",
        "tcx",
    ];
    ALL.into_iter().filter(|hook| *hook != "tcx" || preflight::has_tcx())
}

#[test]
fn tcx_or_its_fallback_filters() {
    filter_on_a_host(tc_hook());
}

#[test]
fn clsact_filters() {
    filter_on_a_host("clsact");
}

#[test]
fn native_xdp_filters() {
    filter_on_a_host("xdp");
}

#[test]
fn generic_xdp_filters() {
    filter_on_a_host("xdp-generic");
}

fn filter_on_a_host(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("attach eth0 --group web --hook {hook}"));
    assert_eq!(hook_of(&secgroup), hook);

    let [allowed, other] = [80, 81].map(|port| at(Pair::SERVER, port));
    let _servers = [allowed, other].map(|ends| ends.map(|end| TcpServer::echo(&net.server, end)));
    let outside = at(Pair::CLIENT, 80);
    let _outside = outside.map(|end| TcpServer::echo(&net.client, end));

    // A new group: no inbound flow, any outbound flow with its replies.
    secgroup.moved(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &allowed));
    });
    for end in outside {
        secgroup.moved_over_flows(&[("eth0", "egress", "new-flow", 1)], || {
            let mut stream = tcp::connect(&net.server, end).unwrap();
            tcp::exchange(&mut stream, &pattern()).unwrap();
        });
    }

    // One port in, no outbound flow: egress packets are replies.
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup
        .ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64");
    for end in allowed {
        secgroup.moved_over_flows(&[("eth0", "ingress", "new-flow", 1)], || {
            let mut stream = tcp::connect(&net.client, end).unwrap();
            tcp::exchange(&mut stream, &pattern()).unwrap();
        });
    }
    secgroup.moved_over_flows(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &other));
    });
    secgroup.moved_over_flows(&[("eth0", "egress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.server, &outside));
    });
}

#[test]
fn an_open_connection_survives_every_change_of_hook() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let rule = "web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64";
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {rule}"));
    secgroup.ok("attach eth0 --group web");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let mut streams = ends.map(|end| tcp::connect(&net.client, end).unwrap());
    for stream in &mut streams {
        tcp::exchange(stream, b"known").unwrap();
    }
    // From here on the packets pass by their flows alone.
    secgroup.ok(&format!("rule remove {rule}"));
    for hook in hook_changes() {
        secgroup.moved_over_flows(&[], || {
            secgroup.ok(&format!("attach eth0 --group web --hook {hook}"));
            assert_eq!(hook_of(&secgroup), hook);
            for stream in &mut streams {
                tcp::exchange(stream, &pattern()).unwrap();
            }
        });
    }
    assert!(tcp::none_reaches(&net.client, &ends), "{}", secgroup.view());
}

#[test]
fn no_packet_passes_while_the_hook_changes() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh");
    let receivers = at(Pair::SERVER, 9).map(|end| udp::bind(&net.server, end));
    let ((), sent) = udp::while_flooding(&net.client, &at(Pair::SERVER, 9), || {
        for hook in hook_changes() {
            secgroup.ok(&format!("attach eth0 --group fresh --hook {hook}"));
            for receiver in &receivers {
                receiver.set_nonblocking(true).unwrap();
                let received = receiver.recv(&mut [0; 64]);
                assert!(received.is_err(), "a packet passed during the change to {hook}");
            }
        }
    });
    assert!(sent.iter().all(|sent| *sent > 100), "{sent:?}: too few packets for a flood");
}

fn hook_of(secgroup: &Secgroup<'_>) -> String {
    let status = secgroup.json("status");
    let interface = &status["NetworkInterfaces"][0];
    assert_eq!(interface["State"], "enforcing", "{status:#}");
    assert_eq!(interface["Hook"], interface["HookChoice"], "{status:#}");
    interface["Hook"].as_str().unwrap().to_owned()
}

/// 2 MB without repetition.
fn pattern() -> Vec<u8> {
    (0..500_000_u32).flat_map(u32::to_le_bytes).collect()
}
