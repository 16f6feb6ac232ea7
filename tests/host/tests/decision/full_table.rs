//! A failed insert into the new tier, which only the host can have: the kernel's LRU evicts an entry
//! instead.

use firewall_ebpf::flow::Tier;
use firewall_ebpf::reason::{Reason, Verdict};
use secgroup_tests::decision::rules::compiled;
use secgroup_tests::decision::scene::Role::Client;
use secgroup_tests::decision::{Engine, Host, Packet, Peer, Scene, What, allow, cases};

fn decide(host: &mut Host, scene: &Scene, packet: &Packet, expected: Reason) {
    let answer = host.decide(&packet.frame(scene), packet.direction(scene));
    assert_eq!(answer, Some(expected), "{scene}: {packet:?}");
}

#[test]
fn a_packet_whose_flow_cannot_be_stored_is_dropped() {
    let rules = [allow(What::All, Peer::Any)];
    let packets = [
        cases::syn(),
        cases::ack(Client),
        cases::fin(Client),
        Packet::udp(Client),
        Packet::echo(Client, 1),
        Packet::raw(Client, 47),
    ];
    for scene in Scene::all() {
        for packet in &packets {
            let mut host = Host::new();
            host.reset(Some(&compiled(&rules, &scene)));
            host.tables.full.set(Some(Tier::New));
            decide(&mut host, &scene, packet, Reason::FlowTableFull);
            assert_eq!(Reason::FlowTableFull.verdict(), Verdict::Drop);
            assert!(host.flows().is_empty(), "{scene}: {packet:?}");
            host.tables.full.set(None);
            decide(&mut host, &scene, packet, Reason::NewFlow);
        }
    }
}
