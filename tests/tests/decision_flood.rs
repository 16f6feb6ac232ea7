//! Flow tables under a flood of spoofed packets, and full flow tables.

use firewall_ebpf::event::Event;
use firewall_ebpf::flow::Tier;
use firewall_ebpf::interface::{Direction, Orientation, State};
use firewall_ebpf::reason::{Reason, Verdict};
use secgroup_tests::decision::kernel_maps::NEW;
use secgroup_tests::decision::rules::{compiled, usual};
use secgroup_tests::decision::scene::Role::{Client, Server};
use secgroup_tests::decision::{
    Engine, Family, Host, Kernel, Packet, Peer, Receive, Scene, Setup, What, allow, cases,
};

const INGRESS: [Scene; 2] = [
    Scene { family: Family::V4, client: Direction::Ingress },
    Scene { family: Family::V6, client: Direction::Ingress },
];

fn decide(engine: &mut dyn Engine, scene: &Scene, packet: &Packet, expected: Reason) {
    let answer = engine.decide(&packet.frame(scene), packet.direction(scene));
    assert_eq!(answer, Some(expected), "{}: {scene}: {packet:?}", engine.name());
}

#[test]
fn an_idle_proven_flow_survives_spoofed_syns_of_ten_times_the_table() {
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for (scene, receive) in INGRESS.into_iter().zip(Receive::ALL) {
        kernel.receive = receive;
        kernel.reset(Some(&compiled(&usual(), &scene)));
        decide(&mut kernel, &scene, &cases::syn(), Reason::NewFlow);
        decide(&mut kernel, &scene, &cases::syn_ack(), Reason::Established);
        decide(&mut kernel, &scene, &cases::handshake_ack(), Reason::Established);
        kernel.wait(3600);

        for number in 0..10 * NEW {
            // A different client in every packet, all in the allowed network.
            let packet =
                cases::syn().ports(u16::try_from(number % 50_000 + 1).expect("a port"), 443);
            let mut frame = packet.frame(&scene);
            let last = if scene.family == Family::V4 { 14 + 15 } else { 14 + 23 };
            frame[last] = 9 + u8::try_from(number / 50_000).expect("few hosts");
            assert_eq!(kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Pass));
        }
        kernel.skip_counters();

        let flows = kernel.flows();
        let proven: Vec<_> = flows.iter().filter(|((tier, _), _)| *tier == Tier::Proven).collect();
        assert_eq!(proven.len(), 1, "{scene}: the proven flow is gone");
        assert_eq!(proven[0].1.flow.state(), Some(State::Established));
        assert!(flows.len() > 1, "{scene}: the flood left no flow");
        assert!(flows.len() <= usize::try_from(NEW).expect("fits") + 1, "{scene}: {}", flows.len());
        decide(&mut kernel, &scene, &cases::data(Server), Reason::Established);
        decide(&mut kernel, &scene, &cases::data(Client), Reason::Established);
    }
}

/// Only the host can fail an insert into the new tier: the kernel's LRU evicts an entry instead.
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

#[test]
fn flows_that_find_the_proven_tier_full_are_counted_and_stay_established() {
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for scene in INGRESS {
        kernel.reset(Some(&compiled(&usual(), &scene)));
        kernel.fill_proven(true);
        for port in 1..=20 {
            for (packet, reason) in [
                (cases::syn(), Reason::NewFlow),
                (cases::syn_ack(), Reason::Established),
                (cases::handshake_ack(), Reason::Established),
            ] {
                decide(&mut kernel, &scene, &packet.ports(port, 443), reason);
            }
        }
        assert_eq!(kernel.events()[&Event::Unpromoted], 20, "{scene}");
        // With free entries again, the next packet of a flow moves it.
        kernel.fill_proven(false);
        kernel.wait(1);
        for port in 1..=20 {
            decide(&mut kernel, &scene, &cases::data(Server).ports(port, 443), Reason::Established);
        }
        let flows = kernel.flows();
        assert_eq!(flows.len(), 20, "{scene}");
        assert!(flows.keys().all(|(tier, _)| *tier == Tier::Proven), "{scene}");
    }
}
