//! Explaining runs: a packet meets what was explained before, and explaining it changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use firewall_ebpf::abi::event::Event as Counted;
use firewall_ebpf::abi::flow::Flow;
use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_user::dataplane::explain::{ExplainPrograms, Run, RunError};
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::model::Tracking;
use firewall_user::policy::{CompiledPolicy, compile};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use secgroup_tests::decision::deny::{Blocks, Ends, Filter};
use secgroup_tests::decision::engine::{FlowViews, lines};
use secgroup_tests::decision::kernel_maps::NEW;
use secgroup_tests::decision::random::{Event, config, rules, sequence};
use secgroup_tests::decision::rules::{Rule, compiled, default_rules, ends_of, in_all_scenarios};
use secgroup_tests::decision::run::{hex, reason_name};
use secgroup_tests::decision::{
    Engine as _, Family, FlowView, Kernel, Receive, Scenario, Setup, cases,
};

/// Packets of each interface: together a hundred thousand.
const PACKETS: usize = 12_500;

/// Of so many packets all tables are compared with what was explained.
const COMPARED: usize = 200;

#[test]
fn packets_of_a_host_meet_what_was_explained() {
    meet_what_was_explained(Setup::variants(Orientation::Host), 100);
}

#[test]
fn packets_of_a_guest_meet_what_was_explained() {
    meet_what_was_explained(Setup::ports(Orientation::Guest), 200);
}

fn meet_what_was_explained(setups: [Setup; 4], seed: u64) {
    let mut reasons = BTreeMap::new();
    for (setup, number) in setups.into_iter().zip(0..) {
        let mut kernel = Kernel::load(setup);
        kernel.receive = Receive::ALL[number % 2];
        let mut subject = Subject::new(kernel, seed + u64::try_from(number).expect("a seed"));
        while subject.packets < PACKETS {
            subject.sequence(&mut reasons);
        }
    }
    let packets: usize = reasons.values().sum();
    println!("{packets} packets: {reasons:?}");
    assert!(packets >= 4 * PACKETS && reasons.len() > 25, "{packets} packets: {reasons:?}");
}

/// An interface whose packets are explained before they come.
struct Subject {
    kernel: Kernel,
    programs: ExplainPrograms,
    maps: Maps,
    runner: TestRunner,
    packets: usize,
}

/// All that a packet can change.
#[derive(Debug, PartialEq)]
struct State {
    flows: FlowViews,
    rules: BTreeMap<u32, (u64, u64)>,
    entries: BTreeMap<u32, (u64, u64)>,
    events: BTreeMap<Counted, u64>,
}

impl Subject {
    fn new(kernel: Kernel, seed: u64) -> Self {
        let (programs, maps) = kernel.explaining();
        Self { kernel, programs, maps, runner: TestRunner::new(config(1, seed)), packets: 0 }
    }

    fn sequence(&mut self, reasons: &mut BTreeMap<&'static str, usize>) {
        let tree = (rules(), rules(), sequence()).new_tree(&mut self.runner);
        let (first, next, events) = tree.expect("no filters").current();
        let [first, next] = [policy(&first), policy(&next)];
        self.kernel.reset(Some(&first.0));
        self.kernel.set_rule_ends(&first.1);
        self.renumber();
        let scenarios = Scenario::all();
        for (step, event) in (1..).zip(&events) {
            if step == events.len() / 2 {
                self.kernel.replace(&next.0);
                self.kernel.set_rule_ends(&next.1);
                self.renumber();
            }
            match event {
                Event::Wait(seconds) => self.kernel.wait(*seconds),
                Event::Filter(entries) => {
                    let filter = entries.as_ref().map(|all| Filter::in_all(all, &scenarios));
                    self.kernel.set_filter(filter.as_ref());
                }
                Event::Blocks(blocks) => {
                    self.kernel.set_blocks(&Blocks::in_all(blocks, &scenarios));
                }
                Event::Frame(frame, direction) => {
                    if let Some(reason) = self.packet(frame, *direction) {
                        *reasons.entry(reason).or_default() += 1;
                    }
                }
            }
        }
    }

    fn renumber(&mut self) {
        self.programs.read_numbers(&self.maps).expect("read the numbers of rules");
    }

    /// Explains a packet, then lets it come; returns its reason.
    fn packet(&mut self, frame: &[u8], direction: Direction) -> Option<&'static str> {
        let is_compared = self.packets.is_multiple_of(COMPARED);
        let before = is_compared.then(|| self.state());
        let explained = self.explain(frame, direction);
        // It also fails where a counter has moved since the packet before.
        let before =
            before.inspect(|before| assert_eq!(*before, self.state(), "explaining changed it"));
        let answer = self.kernel.decide(frame, direction);
        let name = || format!("{}: bytes {}", self.kernel.name(), hex(frame));
        let Some(run) = explained else {
            assert_eq!(answer, None, "{}", name());
            return None;
        };
        self.packets += 1;
        let said = (Some(run.reason), direction.name());
        assert_eq!(said, (answer, direction.name()), "explained and met, {}", name());
        if let Some(before) = before {
            self.compare(&run, &before, frame);
        }
        Some(reason_name(answer))
    }

    fn explain(&mut self, frame: &[u8], direction: Direction) -> Option<Run> {
        self.programs.forget().expect("forget the packet before");
        match self.programs.run(&self.maps, frame, direction) {
            Ok(run) => Some(run),
            Err(RunError::Frame(_)) => None,
            Err(error) => panic!("{error}: bytes {}", hex(frame)),
        }
    }

    fn state(&mut self) -> State {
        State {
            flows: self.kernel.flows(),
            rules: self.kernel.rules(),
            entries: self.kernel.entries(),
            events: self.kernel.events(),
        }
    }

    /// What was said about a packet that has come meanwhile, besides its reason.
    fn compare(&mut self, run: &Run, before: &State, frame: &[u8]) {
        let after = self.state();
        let moved = |now: &BTreeMap<u32, (u64, u64)>, then: &BTreeMap<u32, (u64, u64)>| {
            let packets = |all: &BTreeMap<u32, (u64, u64)>, at| all.get(at).map_or(0, |one| one.0);
            let moved = now.keys().filter(|at| packets(now, at) != packets(then, at));
            moved.copied().collect::<Vec<u32>>()
        };
        let said: Vec<u32> =
            run.counted.iter().copied().filter(|number| after.rules.contains_key(number)).collect();
        assert_eq!(said, moved(&after.rules, &before.rules), "rules, bytes {}", hex(frame));
        if let Some(entry) = &run.after {
            // A flow without its times, of which the packet that came later has others.
            let plain = |flow: Flow| Flow { last_seen: 0, created: 0, ..flow };
            let has = |view: &FlowView| view.flow == plain(entry.flow);
            let all = lines(&after.flows);
            assert!(after.flows.values().any(has), "no {:?} in{all}: {}", entry.flow, hex(frame));
        }
    }
}

/// Which flows of a full table are evicted depends on which of them were looked up since: by programs, and not by
/// `bpf(2)`.
#[test]
fn a_flow_that_is_explained_is_evicted_as_if_it_was_not() {
    let scenario = Scenario { family: Family::V4, client: Direction::Ingress };
    let mut kernel = Kernel::load(Setup::new(Orientation::Host));
    kernel.receive = Receive::Tcx;
    let (mut programs, maps) = kernel.explaining();
    let frame = |port: u32| {
        let port = u16::try_from(port).expect("a port");
        cases::syn().ports(port, 443).frame(&scenario)
    };
    // The lists of the table are of a CPU.
    let mut only = CpuSet::new();
    only.set(0).expect("a set of CPUs");
    sched_setaffinity(Pid::from_raw(0), &only).expect("stay on a CPU");
    let mut survivors = |look: &mut dyn FnMut(&mut Kernel, &[u8])| {
        kernel.reset(Some(&compiled(&default_rules(), &scenario)));
        for port in 1..=NEW {
            assert_eq!(kernel.verdict(&frame(port), Direction::Ingress), Some(Verdict::Pass));
        }
        let present: Vec<u16> = kernel.flows().keys().map(|(_, id)| id.outside_port).collect();
        // Of those that are the first to be evicted every third.
        let chosen = present.iter().filter(|port| **port % 3 == 0).take(200);
        chosen.for_each(|port| look(&mut kernel, &frame((*port).into())));
        for port in NEW + 1..=NEW + 1000 {
            assert_eq!(kernel.verdict(&frame(port), Direction::Ingress), Some(Verdict::Pass));
        }
        let flows = kernel.flows();
        flows.keys().map(|(_, id)| id.outside_port).collect::<BTreeSet<u16>>()
    };
    let untouched = survivors(&mut |_, _| {});
    let explained = survivors(&mut |_, frame| {
        programs.forget().expect("forget");
        let run = programs.run(&maps, frame, Direction::Ingress).expect("run");
        assert_eq!(run.reason, Reason::Established);
        assert!(run.before.is_some());
    });
    let used = survivors(&mut |kernel, frame| {
        assert_eq!(kernel.verdict(frame, Direction::Ingress), Some(Verdict::Pass));
    });
    assert_eq!(untouched, explained);
    assert_ne!(untouched, used, "packets keep their flows, or this test compares nothing");
}

/// A policy of every scenario at once, and when its rules end.
fn policy(rules: &[Rule]) -> (CompiledPolicy, Ends) {
    let all = in_all_scenarios(rules);
    (compile(&all, Tracking::Auto).expect("a few rules fit"), ends_of(&all))
}
