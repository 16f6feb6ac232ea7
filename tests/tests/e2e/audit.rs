//! Audit mode: packets that would be dropped are counted and pass.

use firewall_ebpf::abi::limits::ABI_VERSION;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup, tc_hook};

/// The kernel's IDs of the pinned programs. A new ID means that a program was loaded again.
fn program_ids(secgroup: &Secgroup<'_>) -> Vec<String> {
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

fn audit_passes_and_counts(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach eth0 --group fresh --mode audit --hook {hook}"));
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][0]["State"], "auditing");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let programs = program_ids(&secgroup);

    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"request").unwrap();
    }
    let dropped = secgroup.counters().packets("eth0", "ingress", "no-rule");
    assert!(dropped >= 2 * 3, "each connection's segments are counted as dropped: {dropped}");
    let interface = &secgroup.json("status")["NetworkInterfaces"][0];
    let audit_passed = interface["AuditedPackets"].as_u64().unwrap();
    assert!(audit_passed >= dropped, "all of them passed: {audit_passed} of {dropped}");
    assert!(secgroup.ok("status").contains("packets that it counted as dropped"));

    assert_eq!(secgroup.ok("mode eth0 enforce").trim(), "eth0: enforce");
    secgroup.moved_over_flows(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &ends));
    });
    secgroup.ok("mode eth0 audit");
    for end in ends {
        tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"request").unwrap();
    }
    assert_eq!(program_ids(&secgroup), programs, "no program was loaded again");
    let error = secgroup.refused("mode eth7 audit", 3);
    assert!(error.contains("eth7"), "{error}");
}

#[test]
fn audit_passes_and_counts_dropped_packets_at_tc() {
    audit_passes_and_counts(tc_hook());
}

#[test]
fn audit_passes_and_counts_dropped_packets_at_xdp() {
    audit_passes_and_counts("xdp");
}

#[test]
fn panic_drops_packets_in_audit_mode_too() {
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
