//! Packets of one flow on two CPUs at the same time, through the real programs.
//!
//! Each test repeats a short race with another flow every time, and moves the start of one side by
//! fractions of a microsecond from one attempt to the next. What every interleaving must keep: no packet
//! of a live flow is dropped, a flow has one record, and the counters add up to the packets.

use std::collections::BTreeMap;
use std::hint::spin_loop;
use std::time::{Duration, Instant};

use firewall_ebpf::abi::flow::Tier;
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::state::State;
use secgroup_tests::decision::Engine as _;
use secgroup_tests::decision::packet::flags::{ACK, SYN};
use secgroup_tests::decision::race::{Meeting, Runner, on_two_cpus};
use secgroup_tests::decision::rules::{compiled, default_rules};
use secgroup_tests::decision::scenario::Role::{Client, Server};
use secgroup_tests::decision::{
    Family, Kernel, Packet, Peer, Receive, Rule, Scenario, Setup, Traffic, allow, cases,
};

/// For how long each race is repeated, by family.
const TIME: Duration = Duration::from_secs(3);
/// Flows of a batch: the proven tier of the tests holds few more.
const FLOWS: u16 = 100;
/// Decisions of the same packet in one call.
const REPEAT: u32 = 24;

const INGRESS: [Scenario; 2] = [
    Scenario { family: Family::V4, client: Direction::Ingress },
    Scenario { family: Family::V6, client: Direction::Ingress },
];

/// Whether the machine has two CPUs; a race on one proves nothing.
fn has_two_cpus() -> bool {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        println!("this machine has one CPU");
    }
    cpus >= 2
}

/// Both families: the kernel with empty tables and these rules, its programs, and a scenario.
fn for_each_family(setup: Setup, rules: &[Rule], mut race: impl FnMut(&mut Kernel, &Scenario)) {
    if !has_two_cpus() {
        return;
    }
    let mut kernel = Kernel::load(setup);
    kernel.receive = Receive::Tcx;
    for scenario in INGRESS {
        let policy = compiled(rules, &scenario);
        let (start, mut batches) = (Instant::now(), 0);
        while start.elapsed() < TIME {
            kernel.reset(Some(&policy));
            kernel.reset_baseline();
            race(&mut kernel, &scenario);
            batches += 1;
        }
        println!("{scenario}: {batches} batches of {FLOWS} races");
    }
}

/// A packet as a program gets it.
struct Sent {
    frame: Vec<u8>,
    direction: Direction,
}

impl Sent {
    fn new(packet: Packet, scenario: &Scenario, client_port: u16) -> Self {
        let server_port = packet.server_port;
        let packet = packet.ports(client_port, server_port);
        Self { frame: packet.frame(scenario), direction: packet.direction(scenario) }
    }

    fn run(&self, runner: &Runner, repeat: u32) -> Verdict {
        runner.run(&self.frame, self.direction, repeat)
    }

    fn passes(&self, runner: &Runner, repeat: u32, what: &str) {
        assert_eq!(self.run(runner, repeat), Verdict::Pass, "{what}");
    }
}

/// Moves one side of a race: by 10 to 20 ns for each step, over some microseconds.
fn delay(attempt: u16) {
    for _ in 0..u32::from(attempt % 64) * 4 {
        spin_loop();
    }
}

fn ports() -> impl Iterator<Item = u16> {
    1000..1000 + FLOWS
}

/// Packets by reason of both directions.
fn total(counted: &BTreeMap<(Direction, Reason), u64>) -> BTreeMap<Reason, u64> {
    let mut total = BTreeMap::new();
    for ((_, reason), packets) in counted {
        *total.entry(*reason).or_default() += packets;
    }
    total
}

/// Opens the flow of each port on one CPU, up to the segment that promotes it; at the same moment another CPU
/// handles that flow's packet of `others`.
fn promote_meanwhile(
    runner: &Runner,
    scenario: &Scenario,
    attempt: u16,
    others: &[Sent],
    what: &str,
) {
    let meeting = Meeting::default();
    let of = |packet: fn() -> Packet| -> Vec<Sent> {
        ports().map(|port| Sent::new(packet(), scenario, port)).collect()
    };
    let [syns, syn_acks, acks] = [cases::syn, cases::syn_ack, cases::handshake_ack].map(of);
    on_two_cpus(
        || {
            let handshakes = syns.iter().zip(&syn_acks).zip(&acks);
            for (index, ((syn, syn_ack), ack)) in (0..).zip(handshakes) {
                syn.passes(runner, 1, "SYN");
                syn_ack.passes(runner, 1, "SYN-ACK");
                meeting.wait(2 * index);
                delay(attempt);
                ack.passes(runner, 1, "ACK of the handshake");
                meeting.wait(2 * index + 1);
            }
        },
        || {
            for (index, other) in (0..).zip(others) {
                meeting.wait(2 * index);
                other.passes(runner, REPEAT, what);
                meeting.wait(2 * index + 1);
            }
        },
    );
}

/// Whichever lookup misses the flow while it moves from one tier to the other, it is no new one: nothing
/// is picked up here, and the server may open nothing.
#[test]
fn a_packet_of_a_flow_that_is_promoted_belongs_to_it() {
    let setup = Setup { tcp_loose: false, ..Setup::new(Orientation::Host) };
    let mut attempt = 0;
    for_each_family(setup, &default_rules(), |kernel, scenario| {
        let runner = kernel.runner();
        attempt += 1;
        let from = if attempt % 2 == 0 { Client } else { Server };
        let data: Vec<_> =
            ports().map(|port| Sent::new(cases::data(from), scenario, port)).collect();
        promote_meanwhile(&runner, scenario, attempt, &data, "data");
        let flows = u64::from(FLOWS);
        let expected = BTreeMap::from([
            (Reason::NewFlow, flows),
            (Reason::Established, flows * (2 + u64::from(REPEAT))),
        ]);
        assert_eq!(total(&kernel.counted_by_reason()), expected, "{scenario}: {from:?}");
        // The next packet moves a flow whose promotion lost a race.
        data.iter().for_each(|data| data.passes(&runner, 1, "data after the race"));
        let flows = kernel.flows();
        assert_eq!(flows.len(), usize::from(FLOWS), "{scenario}: a flow has two records, or none");
        for ((tier, id), view) in &flows {
            assert_eq!(view.flow.state(), Some(State::Established), "{scenario}: {id:?}");
            assert_eq!(*tier, Tier::Proven, "{scenario}: {id:?}");
            let counted: u64 = view.flow.packets.iter().sum();
            assert!(counted <= 4 + u64::from(REPEAT), "{scenario}: {id:?}: {counted} packets");
        }
        kernel.reset_baseline();
    });
}

/// An ICMP error about a flow that moves from one tier to the other is related to it; no rule allows it.
#[test]
fn an_icmp_error_about_a_flow_that_is_promoted_is_related() {
    let setup = Setup { tcp_loose: false, ..Setup::new(Orientation::Host) };
    let mut attempt = 0;
    for_each_family(setup, &default_rules(), |kernel, scenario| {
        let runner = kernel.runner();
        attempt += 1;
        let too_big = |port| {
            let about = cases::data(Client);
            let server_port = about.server_port;
            let about = about.ports(port, server_port);
            Sent::new(Packet::error(Server, (3, 4), (2, 0), about), scenario, port)
        };
        let errors: Vec<_> = ports().map(too_big).collect();
        promote_meanwhile(&runner, scenario, attempt, &errors, "ICMP error");
        let flows = u64::from(FLOWS);
        let expected = BTreeMap::from([
            (Reason::NewFlow, flows),
            (Reason::Established, flows * 2),
            (Reason::Related, flows * u64::from(REPEAT)),
        ]);
        assert_eq!(total(&kernel.counted_by_reason()), expected, "{scenario}");
        kernel.reset_baseline();
    });
}

/// The client closes and opens the same ports again, while packets of the server's old connection pass or
/// are dropped with the flow.
#[test]
fn a_connection_opens_on_the_ports_of_one_that_closes() {
    let setup = Setup { tcp_loose: false, ..Setup::new(Orientation::Host) };
    let mut attempt = 0;
    for_each_family(setup, &default_rules(), |kernel, scenario| {
        let runner = kernel.runner();
        let meeting = Meeting::default();
        attempt += 1;
        let (client, server) = (0x3000_0000, 0x5000_0000);
        let again = [
            Packet::tcp(Client, SYN, client, 0),
            Packet::tcp(Server, SYN | ACK, server, client + 1),
            Packet::tcp(Client, ACK, client + 1, server + 1),
            Packet::tcp(Server, ACK, server + 1, client + 1).data(10),
            Packet::tcp(Client, ACK, client + 1, server + 11).data(10),
        ];
        let handshake = [cases::syn(), cases::syn_ack(), cases::handshake_ack()];
        let close = cases::rst(Client);
        on_two_cpus(
            || {
                for (index, port) in (0..).zip(ports()) {
                    let sent = |packet: &Packet| Sent::new(packet.clone(), scenario, port);
                    for packet in &handshake {
                        sent(packet).passes(&runner, 1, "handshake");
                    }
                    let (rst, syn) = (sent(&close), sent(&again[0]));
                    meeting.wait(2 * index);
                    delay(attempt);
                    rst.passes(&runner, 1, "RST");
                    syn.passes(&runner, 1, "SYN after the RST");
                    meeting.wait(2 * index + 1);
                    for packet in &again[1..] {
                        sent(packet).passes(&runner, 1, "the next connection");
                    }
                }
            },
            || {
                for (index, port) in (0..).zip(ports()) {
                    let old = Sent::new(cases::ack(Server), scenario, port);
                    meeting.wait(2 * index);
                    // Whether the last of them passes depends on the RST.
                    let _ = old.run(&runner, REPEAT);
                    meeting.wait(2 * index + 1);
                }
            },
        );
        let counted = total(&kernel.counted_by_reason());
        let sent = u64::from(FLOWS) * (3 + 2 + 4 + u64::from(REPEAT));
        assert_eq!(counted.values().sum::<u64>(), sent, "{scenario}: {counted:?}");
        assert_eq!(counted[&Reason::NewFlow], 2 * u64::from(FLOWS), "{scenario}: {counted:?}");
        let flows = kernel.flows();
        assert_eq!(flows.len(), usize::from(FLOWS), "{scenario}: a flow has two records, or none");
        for ((_, id), view) in &flows {
            assert_eq!(view.flow.state(), Some(State::Established), "{scenario}: {id:?}");
        }
    });
}

/// Both CPUs find a flow whose time is over; the packets of one of them may remove what the other has
/// made. The reply to them passes in any case.
#[test]
fn packets_of_an_expired_flow_open_one_that_gets_its_reply() {
    let rules = [allow(Traffic::Udp(53, 53), Peer::Near)];
    let mut attempt = 0;
    for_each_family(Setup::new(Orientation::Host), &rules, |kernel, scenario| {
        let runner = kernel.runner();
        let meeting = Meeting::default();
        attempt += 1;
        let of = |from| -> Vec<Sent> {
            let packet = Packet::udp(from).port(53);
            ports().map(|port| Sent::new(packet.clone(), scenario, port)).collect()
        };
        let (questions, answers) = (of(Client), of(Server));
        for (question, answer) in questions.iter().zip(&answers) {
            question.passes(&runner, 1, "question");
            answer.passes(&runner, 1, "answer");
            question.passes(&runner, 1, "question after an answer");
        }
        kernel.wait(State::UdpStream.default_timeout() + 5);
        let side = |delayed: u16| {
            for (index, question) in (0..).zip(&questions) {
                meeting.wait(index);
                delay(delayed);
                question.passes(&runner, REPEAT, "question of an expired flow");
            }
        };
        on_two_cpus(|| side(attempt), || side(0));
        answers.iter().for_each(|answer| answer.passes(&runner, 1, "answer after the race"));
        let counted = total(&kernel.counted_by_reason());
        let sent = u64::from(FLOWS) * (3 + 2 * u64::from(REPEAT) + 1);
        assert_eq!(counted.values().sum::<u64>(), sent, "{scenario}: {counted:?}");
        let passed = [Reason::NewFlow, Reason::Established];
        assert!(counted.keys().all(|reason| passed.contains(reason)), "{scenario}: {counted:?}");
        assert_eq!(kernel.flows().len(), usize::from(FLOWS), "{scenario}: two records, or none");
    });
}

/// One CPU counts in a record of the LRU table, while the other evicts it, again and again.
#[test]
fn a_flow_that_is_evicted_while_it_counts_passes_and_counts_by_reason() {
    /// Floods as often as it needs to evict a flow that is used less often than the flood's.
    const FLOOD: u16 = 20_000;
    let rules = [allow(Traffic::Udp(53, 53), Peer::Near)];
    for_each_family(Setup::new(Orientation::Host), &rules, |kernel, scenario| {
        let runner = kernel.runner();
        let question = |port| Sent::new(Packet::udp(Client).port(53), scenario, port);
        let one = question(999);
        on_two_cpus(
            || (0..FLOOD).for_each(|port| question(10_000 + port).passes(&runner, 1, "flood")),
            || (0..FLOOD / 8).for_each(|_| one.passes(&runner, 1, "the flow")),
        );
        let counted = total(&kernel.counted_by_reason());
        let sent = u64::from(FLOOD) + u64::from(FLOOD / 8);
        assert_eq!(counted.values().sum::<u64>(), sent, "{scenario}: {counted:?}");
        let passed = [Reason::NewFlow, Reason::Established];
        assert!(counted.keys().all(|reason| passed.contains(reason)), "{scenario}: {counted:?}");
        // Each flow that was opened is one packet of its rule, whichever CPU opened it.
        assert_eq!(kernel.rules()[&1].0, counted[&Reason::NewFlow], "{scenario}");
        for ((tier, id), view) in kernel.flows() {
            assert_eq!((tier, view.flow.state()), (Tier::New, Some(State::Udp)), "{id:?}");
            assert_eq!(view.flow.rule, 1, "{id:?}");
        }
    });
}
