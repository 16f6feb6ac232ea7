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

    let exchange = || {
        for end in ends {
            tcp::exchange(&mut tcp::connect(&net.client, end).unwrap(), b"request").unwrap();
        }
    };
    let audited = || {
        let interface = &secgroup.json("status")["NetworkInterfaces"][0];
        interface["AuditedPackets"].as_u64().unwrap()
    };

    // The egress rules allow the answer to a SYN that passed, and with it the rest.
    let expected = [("eth0", "ingress", "no-rule", 2), ("eth0", "egress", "new-flow", 2)];
    secgroup.moved_over_flows(&expected, exchange);
    assert_eq!(audited(), 2);
    assert!(secgroup.ok("status").contains("2 packets that it counted as dropped"));

    assert_eq!(secgroup.ok("mode eth0 enforce").trim(), "eth0: enforce");
    secgroup.moved_over_flows(&[("eth0", "ingress", "no-rule", 2)], || {
        assert!(tcp::none_reaches(&net.client, &ends));
    });
    assert_eq!(audited(), 2);
    secgroup.ok("mode eth0 audit");

    // Without egress rules every segment is counted as dropped.
    secgroup.ok("rule remove fresh egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let before = secgroup.counters();
    exchange();
    let after = secgroup.counters().since(&before);
    let [dropped, answers] = [("ingress", "no-rule"), ("egress", "unsolicited-syn-ack")]
        .map(|(direction, reason)| after.packets("eth0", direction, reason));
    assert!(dropped >= 2 * 3, "a SYN, an acknowledgement and data of each connection: {after}");
    assert_eq!(answers, 2, "{after}");
    assert!(audited() >= 2 + dropped + answers, "{after}");
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
