//! Flow tables under a flood of spoofed packets, and a full proven tier.

use std::net::Ipv6Addr;

use firewall_ebpf::abi::event::Event;
use firewall_ebpf::abi::flow::Tier;
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::state::State;
use secgroup_tests::decision::kernel_maps::NEW;
use secgroup_tests::decision::rules::{compiled, default_rules};
use secgroup_tests::decision::scenario::Outside;
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{
    Engine, Family, Host, Kernel, Packet, Peer, Receive, Scenario, Setup, Traffic, allow, cases,
};

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

/// Both engines with a limit of three proven TCP flows for each source.
fn limited() -> [Box<dyn Engine>; 2] {
    let setup = Setup { max_per_source: Some(3), ..Setup::new(Orientation::Host) };
    [Box::new(Host::of(&setup)), Box::new(Kernel::load(setup))]
}

/// Opens a connection from a client's port to the server and completes its handshake.
fn connect(engine: &mut dyn Engine, scenario: &Scenario, from: Outside, port: u16) {
    for (packet, reason) in [
        (cases::syn(), Reason::NewFlow),
        (cases::syn_ack(), Reason::Established),
        (cases::handshake_ack(), Reason::Established),
    ] {
        decide(engine, scenario, &packet.outside(from).ports(port, 443), reason);
    }
}

/// The client's ports of the flows of a tier.
fn ports(engine: &mut dyn Engine, tier: Tier) -> Vec<u16> {
    let flows = engine.flows();
    let of_tier = flows.keys().filter(|(other, _)| *other == tier);
    let mut ports: Vec<_> = of_tier.map(|(_, id)| id.outside_port).collect();
    ports.sort_unstable();
    ports
}

/// A source that is not the near one.
fn another(scenario: &Scenario) -> Outside {
    match scenario.family {
        Family::V4 => Outside::Neighbour,
        Family::V6 => Outside::At(Ipv6Addr::new(0x2001, 0xdb8, 0, 0x77, 0, 0, 0, 1).into()),
    }
}

#[test]
fn a_source_has_no_more_proven_flows_than_its_limit() {
    for mut engine in limited() {
        let engine = engine.as_mut();
        for scenario in INGRESS {
            let rules = [allow(Traffic::Tcp(443, 443), Peer::Any)];
            engine.reset(Some(&compiled(&rules, &scenario)));
            for port in 1..=5 {
                connect(engine, &scenario, Outside::Near, port);
            }
            assert_eq!(ports(engine, Tier::Proven), [1, 2, 3], "{}: {scenario}", engine.name());
            assert_eq!(ports(engine, Tier::New), [4, 5], "{}: {scenario}", engine.name());
            let events = engine.events();
            let of = |event| events.get(&event).copied().unwrap_or_default();
            assert_eq!((of(Event::SourceLimited), of(Event::Unpromoted)), (2, 0), "{scenario}");

            // What others do is their own.
            connect(engine, &scenario, another(&scenario), 6);
            assert_eq!(ports(engine, Tier::Proven), [1, 2, 3, 6], "{}: {scenario}", engine.name());

            // A connection that replaces a closed one leaves its place.
            decide(engine, &scenario, &cases::rst(Client).ports(1, 443), Reason::Established);
            engine.wait(1);
            let four = cases::data(Server).ports(4, 443);
            decide(engine, &scenario, &four, Reason::Established);
            assert_eq!(ports(engine, Tier::New), [4, 5], "{}: {scenario}", engine.name());
            decide(engine, &scenario, &cases::syn().ports(1, 443), Reason::NewFlow);
            engine.wait(1);
            decide(engine, &scenario, &four, Reason::Established);
            assert_eq!(ports(engine, Tier::Proven), [2, 3, 4, 6], "{}", engine.name());
            assert_eq!(ports(engine, Tier::New), [1, 5], "{}: {scenario}", engine.name());

            // So does one that has expired, once a packet finds it.
            engine.wait(500_000);
            connect(engine, &scenario, Outside::Near, 2);
            connect(engine, &scenario, Outside::Near, 7);
            let proven = ports(engine, Tier::Proven);
            assert!(proven.contains(&2) && !proven.contains(&7), "{}: {proven:?}", engine.name());
        }
    }
}

#[test]
fn an_ipv6_network_of_64_bits_is_one_source() {
    let [_, scenario] = INGRESS;
    for mut engine in limited() {
        let engine = engine.as_mut();
        engine.reset(Some(&compiled(&default_rules(), &scenario)));
        for port in 1..=3 {
            connect(engine, &scenario, Outside::Near, port);
        }
        connect(engine, &scenario, Outside::Neighbour, 4);
        assert_eq!(ports(engine, Tier::Proven), [1, 2, 3], "{}", engine.name());
        assert_eq!(ports(engine, Tier::New), [4], "{}", engine.name());
    }
}

#[test]
fn a_flow_that_finds_the_table_full_does_not_count_toward_its_limit() {
    for mut engine in limited() {
        let engine = engine.as_mut();
        for scenario in INGRESS {
            engine.reset(Some(&compiled(&default_rules(), &scenario)));
            engine.fill_proven(true);
            for port in 1..=4 {
                connect(engine, &scenario, Outside::Near, port);
            }
            engine.fill_proven(false);
            engine.wait(1);
            for port in 1..=4 {
                let packet = cases::data(Server).ports(port, 443);
                decide(engine, &scenario, &packet, Reason::Established);
            }
            assert_eq!(ports(engine, Tier::Proven), [1, 2, 3], "{}: {scenario}", engine.name());
        }
    }
}
