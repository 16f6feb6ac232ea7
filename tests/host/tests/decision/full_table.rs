//! A failed insert into the new tier, which only the host can have: the kernel's LRU evicts an entry
//! instead.

use firewall_ebpf::abi::flow::Table;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use secgroup_tests::decision::rules::compiled;
use secgroup_tests::decision::scenario::Role::Client;
use secgroup_tests::decision::{Engine, Host, Packet, Peer, Scenario, Traffic, allow, cases};

fn decide(host: &mut Host, scenario: &Scenario, packet: &Packet, expected: Reason) {
    let answer = host.decide(&packet.frame(scenario), packet.direction(scenario));
    assert_eq!(answer, Some(expected), "{scenario}: {packet:?}");
}

#[test]
fn a_packet_whose_flow_cannot_be_stored_is_dropped() {
    let rules = [allow(Traffic::All, Peer::Any)];
    let packets = [
        cases::syn(),
        cases::ack(Client),
        cases::fin(Client),
        Packet::udp(Client),
        Packet::echo(Client, 1),
        Packet::raw(Client, 47),
    ];
    for scenario in Scenario::all() {
        for packet in &packets {
            let mut host = Host::new();
            host.reset(Some(&compiled(&rules, &scenario)));
            host.tables.full.set(Some(Table::New));
            decide(&mut host, &scenario, packet, Reason::FlowTableFull);
            assert_eq!(Reason::FlowTableFull.verdict(), Verdict::Drop);
            assert!(host.flows().is_empty(), "{scenario}: {packet:?}");
            host.tables.full.set(None);
            decide(&mut host, &scenario, packet, Reason::NewFlow);
        }
    }
}
