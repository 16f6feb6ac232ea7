//! Tables under pressure: a flood of spoofed packets, and tables without room.

use firewall_ebpf::event::Event;
use firewall_ebpf::flow::Tier;
use firewall_ebpf::interface::{Direction, Orientation, State};
use firewall_ebpf::reason::{Reason, Verdict};
use secgroup_tests::decision::kernel_maps::NEW;
use secgroup_tests::decision::rules::{compiled, default_rules};
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{
    Engine, Family, Host, Kernel, Packet, Peer, Receive, Scenario, Setup, Traffic, allow, cases,
};

const INGRESS: [Scenario; 2] = [
    Scenario { family: Family::V4, client: Direction::Ingress },
    Scenario { family: Family::V6, client: Direction::Ingress },
];

fn pass(engine: &mut dyn Engine, scenario: &Scenario, packet: &Packet, expected: Reason) {
    let answer = engine.decide(&packet.frame(scenario), packet.direction(scenario));
    assert_eq!(answer, Some(expected), "{}: {scenario}: {packet:?}", engine.name());
}

#[test]
fn an_idle_proven_flow_outlives_ten_tables_of_spoofed_syns() {
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for (scenario, receive) in INGRESS.into_iter().zip(Receive::ALL) {
        kernel.receive = receive;
        kernel.reset(Some(&compiled(&default_rules(), &scenario)));
        pass(&mut kernel, &scenario, &cases::syn(), Reason::NewFlow);
        pass(&mut kernel, &scenario, &cases::syn_ack(), Reason::Established);
        pass(&mut kernel, &scenario, &cases::handshake_ack(), Reason::Established);
        kernel.wait(3600);

        for number in 0..10 * NEW {
            // Another client every time, all in the allowed network.
            let packet =
                cases::syn().ports(u16::try_from(number % 50_000 + 1).expect("a port"), 443);
            let mut frame = packet.frame(&scenario);
            let last = if scenario.family == Family::V4 { 14 + 15 } else { 14 + 23 };
            frame[last] = 9 + u8::try_from(number / 50_000).expect("few hosts");
            assert_eq!(kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Pass));
        }
        kernel.reset_baseline();

        let flows = kernel.flows();
        let proven: Vec<_> = flows.iter().filter(|((tier, _), _)| *tier == Tier::Proven).collect();
        assert_eq!(proven.len(), 1, "{scenario}: the proven flow is gone");
        assert_eq!(proven[0].1.flow.state(), Some(State::Established));
        assert!(flows.len() > 1, "{scenario}: the flood left nothing, so it was none");
        assert!(
            flows.len() <= usize::try_from(NEW).expect("fits") + 1,
            "{scenario}: {}",
            flows.len()
        );
        pass(&mut kernel, &scenario, &cases::data(Server), Reason::Established);
        pass(&mut kernel, &scenario, &cases::data(Client), Reason::Established);
    }
}

/// Only the host can refuse an insert into the new tier: the kernel's LRU makes room.
#[test]
fn a_flow_that_cannot_be_stored_never_passes() {
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
            host.tables.full.set(Some(Tier::New));
            pass(&mut host, &scenario, packet, Reason::FlowTableFull);
            assert_eq!(Reason::FlowTableFull.verdict(), Verdict::Drop);
            assert!(host.flows().is_empty(), "{scenario}: {packet:?}");
            host.tables.full.set(None);
            pass(&mut host, &scenario, packet, Reason::NewFlow);
        }
    }
}

#[test]
fn flows_that_found_the_proven_tier_full_are_counted_and_go_on() {
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for scenario in INGRESS {
        kernel.reset(Some(&compiled(&default_rules(), &scenario)));
        kernel.fill_proven(true);
        for port in 1..=20 {
            for (packet, reason) in [
                (cases::syn(), Reason::NewFlow),
                (cases::syn_ack(), Reason::Established),
                (cases::handshake_ack(), Reason::Established),
            ] {
                pass(&mut kernel, &scenario, &packet.ports(port, 443), reason);
            }
        }
        assert_eq!(kernel.events()[&Event::Unpromoted], 20, "{scenario}");
        // With room again, each moves with its next packet.
        kernel.fill_proven(false);
        kernel.wait(1);
        for port in 1..=20 {
            pass(
                &mut kernel,
                &scenario,
                &cases::data(Server).ports(port, 443),
                Reason::Established,
            );
        }
        let flows = kernel.flows();
        assert_eq!(flows.len(), 20, "{scenario}");
        assert!(flows.keys().all(|(tier, _)| *tier == Tier::Proven), "{scenario}");
    }
}
