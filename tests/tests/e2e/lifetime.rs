//! The lifetime of enforcement, flows and counters, from the first attach to the last detach.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aya::programs::{ProgramInfo, loaded_programs};
use secgroup_tests::network::{End, at, join};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Process, Secgroup, ping, tc_hook, udp};
use serde_json::Value;

use crate::support::interface_state;

const RULE: &str = "web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64";

#[test]
fn enforcement_continues_without_a_process() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    secgroup.ok("attach eth0 --group web");
    let mut serve = Process::start(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.kill();

    let [allowed, other] = [80, 81].map(|port| at(Pair::SERVER, port));
    let _servers = [allowed, other].map(|ends| ends.map(|end| TcpServer::echo(&net.server, end)));
    for end in allowed {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"hello").unwrap();
    }
    secgroup.moved_over_flows(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &other));
    });
}

#[test]
fn flows_and_counters_survive_reconcile_and_attach() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("rule add {RULE}"));
    secgroup.ok("attach eth0 --group web");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let mut streams = ends.map(|end| tcp::connect(&net.client, end).unwrap());
    secgroup.ok(&format!("rule remove {RULE}"));
    secgroup.moved(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &ends));
    });
    for command in [
        "reconcile",
        "attach eth0 --group web",
        "attach eth0 --group web --timeout tcp-established=350",
        "reconcile",
    ] {
        // This also fails if a counter decreases.
        secgroup.moved_over_flows(&[], || {
            secgroup.ok(command);
            for stream in &mut streams {
                tcp::exchange(stream, b"still here").unwrap();
            }
        });
    }
    assert_eq!(secgroup.counters().packets("eth0", "ingress", "no-rule"), 2);
}

#[test]
fn detach_passes_everything_and_the_next_attach_filters() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    for hook in [tc_hook(), "xdp"] {
        secgroup.ok(&format!("attach eth0 --group fresh --hook {hook}"));
        // The counters start at zero after a detach.
        secgroup.moved(&[("eth0", "ingress", "no-rule", 2)], || {
            assert!(tcp::none_reaches(&net.client, &ends));
        });
        assert_eq!(secgroup.counters().packets("eth0", "ingress", "no-rule"), 2);
        secgroup.ok("detach eth0");
        // A ping, because the end of a TCP connection could arrive after the next attach.
        assert!(Pair::SERVER.into_iter().all(|address| ping::ping(&net.client, address)));
    }
}

#[test]
fn the_rules_of_several_groups_add_up_and_attach_replaces_the_groups() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    for (group, port) in [("one", 81), ("two", 82)] {
        secgroup.ok(&format!("group create {group} --description x"));
        secgroup.ok(&format!(
            "rule add {group} ingress --protocol tcp --port {port} --cidr 0.0.0.0/0 --cidr ::/0"
        ));
    }
    let [one, two] = [81, 82].map(|port| at(Pair::SERVER, port));
    let _servers = [one, two].map(|ends| ends.map(|end| TcpServer::echo(&net.server, end)));
    for (groups, reached, blocked) in [
        ("--group one", &[one][..], &[two][..]),
        ("--group one --group two", &[one, two], &[]),
        ("--group two", &[two], &[one]),
    ] {
        // With tracking, because the end of a connection may arrive after its rule is removed.
        secgroup.ok(&format!("attach eth0 {groups} --tracking always"));
        for end in reached.as_flattened() {
            tcp::connect(&net.client, *end).unwrap();
        }
        let blocked = blocked.as_flattened();
        let expected = [("eth0", "ingress", "no-rule", blocked.len() as u64)];
        secgroup.moved_over_flows(&expected, || {
            assert!(tcp::none_reaches(&net.client, blocked), "{groups}");
        });
    }
}

#[test]
fn a_recreated_device_is_filtered_after_reconcile() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh");
    net.server.ip("link delete eth0");
    assert_eq!(interface_state(&secgroup), "device-missing");
    secgroup.ok("reconcile");

    join([
        End { namespace: &net.server, device: "eth0", addresses: &["10.77.0.1/24", "fd77::1/64"] },
        End { namespace: &net.client, device: "eth0", addresses: &["10.77.0.2/24", "fd77::2/64"] },
    ]);
    assert_eq!(interface_state(&secgroup), "not-enforcing");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(ping::ping(&net.client, ends[0].ip()));

    secgroup.ok("reconcile");
    assert_eq!(interface_state(&secgroup), "enforcing");
    secgroup.moved_over_flows(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &ends));
    });
}

#[test]
fn the_last_detach_removes_everything_from_the_kernel() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    net.server.ip("link add eth1 type veth peer name eth2");
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh --hook xdp");
    secgroup.ok("attach eth1 --group fresh");
    let programs = programs(secgroup.pin_dir());
    assert!(programs.len() >= 4, "two for each interface: {programs:?}");

    secgroup.ok("detach --all");
    assert!(!secgroup.pin_dir().exists());
    // The kernel frees a program some time after its last pin.
    wait_until(MAX_WAIT, "the programs to be gone", || {
        loaded_programs().flatten().all(|program| !programs.contains(&program.id()))
    });
    assert_eq!(secgroup.run(["status"]).code, Some(3));
}

/// The IDs of all pinned programs.
fn programs(pin_dir: &Path) -> Vec<u32> {
    let version = fs::read_dir(pin_dir).unwrap().next().unwrap().unwrap().path();
    let pins = fs::read_dir(version.join("programs")).unwrap();
    pins.map(|pin| ProgramInfo::from_pin(pin.unwrap().path()).unwrap().id()).collect()
}

#[test]
fn an_idle_flow_expires() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh --timeout UdpTimeout=1 --timeout tcp-established=1");
    let outside_sockets = at(Pair::CLIENT, 9).map(|end| udp::bind(&net.client, end));
    let inside_sockets = outside_sockets.each_ref().map(|socket| {
        let inside = udp::connect(&net.server, socket.local_addr().unwrap());
        inside.set_read_timeout(Some(MAX_WAIT)).unwrap();
        inside.send(b"question").unwrap();
        let mut buffer = [0; 8];
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        socket.connect(from).unwrap();
        inside
    });
    let sinks = at(Pair::CLIENT, 9).map(|end| TcpServer::echo(&net.client, end));
    let mut streams = sinks.each_ref().map(|sink| {
        let mut stream = tcp::connect(&net.server, sink.address()).unwrap();
        tcp::exchange(&mut stream, b"hello").unwrap();
        stream
    });
    secgroup.ok("rule remove fresh egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    wait_until(MAX_WAIT, "all flows to expire", || secgroup.json("flows count")["Count"] == 0);

    secgroup.moved(&[("eth0", "ingress", "no-rule", 2)], || {
        for (outside, inside) in outside_sockets.iter().zip(&inside_sockets) {
            outside.send(b"late").unwrap();
            inside.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            assert!(inside.recv(&mut [0; 8]).is_err(), "a reply of an expired flow passed");
        }
    });
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(tcp::exchange(stream, b"too late").is_err(), "an expired flow passes packets");
    }
    let dropped = secgroup.counters().packets("eth0", "egress", "no-rule");
    assert!(dropped >= 2, "{}", secgroup.view());
}

/// `reconcile` attaches several interfaces at once, in threads.
#[test]
fn interfaces_of_every_kind_are_attached_again_after_a_reboot() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let kinds = ["auto", "xdp", "xdp-generic", "clsact", tc_hook(), "auto --orientation guest"];
    for (number, kind) in kinds.into_iter().enumerate() {
        net.server.ip(&format!("link add in{number} type veth peer name out{number}"));
        secgroup.ok(&format!("attach in{number} --group web --hook {kind}"));
    }
    let hooks = || -> Vec<(String, String)> {
        let status = secgroup.json("status");
        let word = |interface: &Value, name: &str| interface[name].as_str().unwrap().to_owned();
        let interfaces = status["NetworkInterfaces"].as_array().unwrap().iter();
        interfaces.map(|one| (word(one, "State"), word(one, "Hook"))).collect()
    };
    let before = hooks();
    assert_eq!(before.len(), kinds.len());
    assert!(before.iter().all(|(state, _)| state == "enforcing"), "{before:?}");
    fs::remove_dir_all(secgroup.pin_dir()).unwrap();
    let attached = secgroup.ok("reconcile");
    let lines: Vec<_> = attached.lines().collect();
    assert_eq!(lines.len(), kinds.len(), "{attached}");
    for (number, line) in lines.iter().enumerate() {
        assert!(line.contains(&format!(" in{number}: ")), "{attached}");
    }
    assert_eq!(hooks(), before);
}
