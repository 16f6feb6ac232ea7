//! Flow tables under a flood of spoofed packets, and a full proven tier.

use firewall_ebpf::event::Event;
use firewall_ebpf::flow::Tier;
use firewall_ebpf::interface::{Direction, Orientation, State};
use firewall_ebpf::reason::{Reason, Verdict};
use secgroup_tests::decision::kernel_maps::NEW;
use secgroup_tests::decision::rules::{compiled, default_rules};
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{Engine, Family, Kernel, Packet, Receive, Scenario, Setup, cases};

const INGRESS: [Scenario; 2] = [
    Scenario { family: Family::V4, client: Direction::Ingress },
    Scenario { family: Family::V6, client: Direction::Ingress },
];

fn decide(engine: &mut dyn Engine, scenario: &Scenario, packet: &Packet, expected: Reason) {
    let answer = engine.decide(&packet.frame(scenario), packet.direction(scenario));
    assert_eq!(answer, Some(expected), "{}: {scenario}: {packet:?}", engine.name());
}

#[test]
fn an_idle_proven_flow_survives_spoofed_syns_of_ten_times_the_table() {
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    for (scenario, receive) in INGRESS.into_iter().zip(Receive::ALL) {
        kernel.receive = receive;
        kernel.reset(Some(&compiled(&default_rules(), &scenario)));
        decide(&mut kernel, &scenario, &cases::syn(), Reason::NewFlow);
        decide(&mut kernel, &scenario, &cases::syn_ack(), Reason::Established);
        decide(&mut kernel, &scenario, &cases::handshake_ack(), Reason::Established);
        kernel.wait(3600);

        for number in 0..10 * NEW {
            // A different client in every packet, all in the allowed network.
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
        assert!(flows.len() > 1, "{scenario}: the flood left no flow");
        assert!(
            flows.len() <= usize::try_from(NEW).expect("fits") + 1,
            "{scenario}: {}",
            flows.len()
        );
        decide(&mut kernel, &scenario, &cases::data(Server), Reason::Established);
        decide(&mut kernel, &scenario, &cases::data(Client), Reason::Established);
    }
}

#[test]
fn flows_that_find_the_proven_tier_full_are_counted_and_stay_established() {
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
                decide(&mut kernel, &scenario, &packet.ports(port, 443), reason);
            }
        }
        assert_eq!(kernel.events()[&Event::Unpromoted], 20, "{scenario}");
        // With free entries again, the next packet of a flow moves it.
        kernel.fill_proven(false);
        kernel.wait(1);
        for port in 1..=20 {
            decide(
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
