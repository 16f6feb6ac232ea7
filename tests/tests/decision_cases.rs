//! The table of decision cases, run in the kernel beside the host.

use firewall_ebpf::abi::flow::{QUERY_FROM_INSIDE, QUERY_FROM_OUTSIDE};
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::reason::Reason;
use secgroup_tests::decision::host::SLOT;
use secgroup_tests::decision::packet::flags::SYN;
use secgroup_tests::decision::rules::compiled;
use secgroup_tests::decision::run::reason_name;
use secgroup_tests::decision::scenario::Outside;
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{
    Engine, Host, Kernel, Packet, Peer, Receive, Scenario, Setup, Traffic, allow, cases, run,
};

#[test]
fn every_case_holds_in_the_kernel_of_a_host_interface() {
    run_cases_in_the_kernel(Setup::variants(Orientation::Host));
}

#[test]
fn every_case_holds_in_the_kernel_of_a_guest_interface() {
    run_cases_in_the_kernel(Setup::variants(Orientation::Guest));
}

#[test]
fn every_case_of_port_security_holds_in_the_kernel() {
    run_cases_in_the_kernel(Setup::ports(Orientation::Guest));
    // The checks are by direction: any hook can have either.
    run_cases_in_the_kernel(Setup::ports(Orientation::Host));
}

fn run_cases_in_the_kernel(setups: impl IntoIterator<Item = Setup>) {
    for setup in setups {
        let (mut host, mut kernel) = (Host::of(&setup), Kernel::load(setup));
        let cases = cases::of(&setup);
        for receive in Receive::ALL {
            kernel.receive = receive;
            let packets = run(&cases, &mut [&mut host, &mut kernel]);
            println!("{} cases, {packets} packets: {}", cases.len(), kernel.name());
        }
    }
}

/// A flow's counters equal the packets and bytes sent in each direction: during the handshake, on
/// the fast path of a proven flow, and for segments that change no state.
#[test]
fn a_flow_counts_its_packets_and_bytes() {
    let (mut host, mut kernel) = (Host::new(), Kernel::load(Setup::new(Orientation::Host)));
    let connection = [
        cases::syn(),
        cases::syn_ack(),
        cases::handshake_ack(),
        cases::data(Client),
        cases::data(Client).data(900),
        cases::ack(Server),
        Packet::tcp(Client, SYN, 1, 0),
        cases::fin(Server),
    ];
    let datagrams =
        [Client, Server, Client, Client, Server].map(|from| Packet::udp(from).data(77).port(53));
    let echo = [Packet::echo(Client, 9), Packet::echo_reply(Server, 9)];
    for scenario in Scenario::all() {
        let policy = compiled(&[allow(Traffic::All, Peer::Any)], &scenario);
        for packets in [&connection[..], &datagrams, &echo] {
            let mut sent = ([0; 2], [0; 2]);
            host.reset(Some(&policy));
            kernel.reset(Some(&policy));
            for packet in packets {
                let (frame, direction) = (packet.frame(&scenario), packet.direction(&scenario));
                sent.0[direction as usize] += 1;
                sent.1[direction as usize] += u64::try_from(frame.len()).expect("a frame");
                for engine in [&mut host as &mut dyn Engine, &mut kernel] {
                    let answer = engine.decide(&frame, direction);
                    assert!(
                        matches!(answer, Some(Reason::NewFlow | Reason::Established)),
                        "{}: {scenario}: {packet:?}: {}",
                        engine.name(),
                        reason_name(answer)
                    );
                }
            }
            for engine in [&mut host as &mut dyn Engine, &mut kernel] {
                let flows = engine.flows();
                let counts: Vec<_> =
                    flows.values().map(|view| (view.flow.packets, view.flow.bytes)).collect();
                assert_eq!(counts, [sent], "{}: {scenario}: {:?}", engine.name(), packets[0]);
                // `flows list` shows the key's other fields.
                let (_, id) = flows.keys().next().expect("one flow");
                let query = match (packets.len(), scenario.client) {
                    (2, Direction::Egress) => QUERY_FROM_INSIDE,
                    (2, Direction::Ingress) => QUERY_FROM_OUTSIDE,
                    _ => 0,
                };
                assert_eq!((id.query, id.slot), (query, SLOT), "{}: {scenario}", engine.name());
                assert_eq!(id.inside, scenario.inside(), "{}: {scenario}", engine.name());
                assert_eq!(id.outside, scenario.outside(Outside::Near), "{}", engine.name());
            }
        }
    }
}
