//! The idle timeout of each state, to the jiffy. On the host only, whose clock the test sets.

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use firewall_ebpf::backend::host::HostTables;
use secgroup_tests::decision::rules::compiled;
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{Engine, Host, Packet, Peer, Scenario, Traffic, allow, cases};

/// For each state: the packets that lead a flow into it, and a packet that the flow then accepts.
fn scenarios() -> Vec<(State, Vec<Packet>, Packet)> {
    let handshake = || vec![cases::syn(), cases::syn_ack(), cases::handshake_ack()];
    let after = |more: &[Packet]| handshake().into_iter().chain(more.iter().cloned()).collect();
    let fins = [cases::fin(Client), cases::ack(Server), cases::fin(Server), cases::ack(Client)];
    let (query, answer) = (Packet::udp(Client), Packet::udp(Server));
    vec![
        (State::SynSent, vec![cases::syn()], cases::syn_ack()),
        (State::SynRecv, vec![cases::syn(), cases::syn_ack()], cases::syn_ack()),
        (State::Established, handshake(), cases::data(Server)),
        (State::FinWait, after(&fins[..1]), cases::data(Server)),
        (State::CloseWait, after(&fins[..2]), cases::data(Server)),
        (State::LastAck, after(&fins[..3]), cases::data(Server)),
        (State::TimeWait, after(&fins), cases::data(Server)),
        (State::Close, after(&[cases::rst(Client)]), cases::data(Server)),
        (State::Udp, vec![query.clone()], answer.clone()),
        (State::UdpStream, vec![query.clone(), answer.clone(), query], answer),
        (State::Icmp, vec![Packet::echo(Client, 1)], Packet::echo_reply(Server, 1)),
        (State::Other, vec![Packet::raw(Client, 47)], Packet::raw(Server, 47)),
    ]
}

/// A different timeout for each state.
fn timeout(state: State) -> u64 {
    1000 + 10 * u64::from(state as u8)
}

fn decide(host: &mut Host, scenario: &Scenario, packet: &Packet) -> Option<Reason> {
    host.decide(&packet.frame(scenario), packet.direction(scenario))
}

/// A host with one flow in a state, right after its last packet.
fn host_in(state: State, steps: &[Packet], scenario: &Scenario) -> Host {
    let mut host = Host::new();
    host.reset(Some(&compiled(&[allow(Traffic::All, Peer::Any)], scenario)));
    host.tables.timeouts = State::ALL.iter().map(|&state| (state, timeout(state))).collect();
    for (at, packet) in steps.iter().enumerate() {
        if state == State::UdpStream && at + 1 == steps.len() {
            host.tables.advance(2 * HostTables::HZ);
        }
        let answer = decide(&mut host, scenario, packet);
        assert!(
            matches!(answer, Some(Reason::NewFlow | Reason::Established)),
            "{state:?}: {packet:?}"
        );
    }
    let flows = host.flows();
    let states: Vec<_> = flows.values().map(|view| view.flow.state()).collect();
    assert_eq!(states, [Some(state)], "{scenario}");
    host
}

#[test]
fn a_flow_expires_one_jiffy_after_the_timeout_of_its_state() {
    let scenarios = scenarios();
    assert!(
        State::ALL.iter().all(|state| scenarios.iter().any(|(scenario, ..)| scenario == state))
    );
    for scenario in Scenario::all() {
        for (state, steps, packet) in &scenarios {
            let mut host = host_in(*state, steps, &scenario);
            host.tables.advance(timeout(*state));
            let answer = decide(&mut host, &scenario, packet);
            assert_eq!(answer, Some(Reason::Established), "{scenario}: {state:?}, at its timeout");

            let mut host = host_in(*state, steps, &scenario);
            host.tables.advance(timeout(*state) + 1);
            let answer = decide(&mut host, &scenario, packet);
            assert_ne!(answer, Some(Reason::Established), "{scenario}: {state:?}, one jiffy later");
            assert_eq!(host.flows().len(), 0, "{scenario}: {state:?}: an expired flow is removed");
        }
    }
}

/// Another CPU may read the clock later and write first.
#[test]
fn a_flow_last_seen_in_the_future_does_not_expire() {
    let scenario = Scenario { client: Direction::Ingress, ..Scenario::all()[0] };
    for (state, steps, packet) in scenarios() {
        let mut host = host_in(state, &steps, &scenario);
        host.tables.now.set(host.tables.now.get() - 1);
        let answer = decide(&mut host, &scenario, &packet);
        assert_eq!(answer, Some(Reason::Established), "{state:?}");
    }
}
