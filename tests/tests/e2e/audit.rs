//! Audit: what would be dropped is counted, and passes.

use firewall_ebpf::limits::ABI_VERSION;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup, tc_hook};

/// The kernel's number of the receive program: a new one would mean that it was attached anew.
fn program(secgroup: &Secgroup<'_>) -> Vec<String> {
    let pins =
        std::fs::read_dir(secgroup.pin_dir().join(format!("abi{ABI_VERSION}")).join("programs"))
            .unwrap();
    let mut all: Vec<_> = pins
        .map(|pin| {
            let path = pin.unwrap().path();
            let info = aya::programs::ProgramInfo::from_pin(&path).unwrap();
            format!("{} {}", path.display(), info.id())
        })
        .collect();
    all.sort();
    all
}

fn audited_through(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach eth0 --group fresh --mode audit --hook {hook}"));
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][0]["State"], "auditing");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let programs = program(&secgroup);

    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"let me in").unwrap();
    }
    let refused = secgroup.counters().packets("eth0", "ingress", "no-rule");
    assert!(refused >= 2 * 3, "each connection's segments are counted as refused: {refused}");
    let interface = &secgroup.json("status")["NetworkInterfaces"][0];
    let spared = interface["AuditedPackets"].as_u64().unwrap();
    assert!(spared >= refused, "all of them passed: {spared} of {refused}");
    assert!(
        secgroup.ok("status").contains("packets counted as dropped have passed, in audit mode")
    );

    assert_eq!(secgroup.ok("mode eth0 enforce").trim(), "eth0: enforce");
    secgroup.moved_over_flows(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &ends));
    });
    secgroup.ok("mode eth0 audit");
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"let me in").unwrap();
    }
    assert_eq!(program(&secgroup), programs, "nothing was attached anew");
    let told = secgroup.refused("mode eth7 audit", 3);
    assert!(told.contains("eth7"), "{told}");
}

#[test]
fn what_would_be_dropped_passes_through_tc() {
    audited_through(tc_hook());
}

#[test]
fn what_would_be_dropped_passes_through_xdp() {
    audited_through("xdp");
}

#[test]
fn a_panic_is_no_exercise() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh --mode audit");
    secgroup.ok("management set 192.0.2.0/24");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)));
    secgroup.ok("panic --force");
    assert!(tcp::none_reaches(&net.client, &ends));
    secgroup.ok("panic --off");
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)));
}
