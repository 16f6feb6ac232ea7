//! Random sequences of packets and pauses: host and kernel give the same reason for each, and have
//! the same flows, rule counts and everything else at the end.

use std::cell::RefCell;
use std::collections::BTreeMap;

use firewall_ebpf::compiled::CompiledPolicy;
use firewall_ebpf::interface::Orientation;
use firewall_ebpf::reason::Reason;
use firewall_user::model::Tracking;
use firewall_user::policy::{ResolvedRule, compile};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use secgroup_tests::decision::engine::lines;
use secgroup_tests::decision::random::{Event, config, rules, sequence};
use secgroup_tests::decision::rules::{Rule, resolved};
use secgroup_tests::decision::run::{hex, reason_name};
use secgroup_tests::decision::{Engine, Host, Kernel, Receive, Scenario, Setup};

/// Sequences per hook and orientation.
const SEQUENCES: u32 = 150;

#[test]
fn host_and_kernel_agree_on_a_host_interface() {
    agree(Orientation::Host, [1, 2]);
}

#[test]
fn host_and_kernel_agree_on_a_guest_interface() {
    agree(Orientation::Guest, [3, 4]);
}

fn agree(orientation: Orientation, seeds: [u64; 2]) {
    let judged = RefCell::new(BTreeMap::new());
    for setup in Setup::variants(orientation) {
        let kernel = RefCell::new(Kernel::load(setup));
        for (receive, seed) in Receive::ALL.into_iter().zip(seeds) {
            kernel.borrow_mut().receive = receive;
            let mut runner = TestRunner::new(config(SEQUENCES, seed));
            let outcome = runner.run(&(rules(), rules(), sequence()), |(rules, next, events)| {
                let (mut host, mut kernel) = (Host::of(&setup), kernel.borrow_mut());
                let policies = [policy(&rules), policy(&next)];
                play(&policies, &events, &mut host, &mut kernel, &mut judged.borrow_mut())
            });
            if let Err(error) = outcome {
                panic!("{}, {setup:?}: {error}", kernel.borrow().name());
            }
        }
    }
    let judged = judged.into_inner();
    let packets: usize = judged.values().sum();
    println!("{packets} packets on a {} interface: {judged:?}", orientation.name());
    // A generator that never gets somewhere compares nothing there. These need an interface
    // or tables of another kind.
    let elsewhere = [Reason::NoPolicy, Reason::NonIpAllowed, Reason::FlowTableFull];
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !judged.contains_key(reason.name()) && !elsewhere.contains(reason))
        .collect();
    assert!(packets < 2000 || missing.is_empty(), "no random packet met {missing:?}");
}

/// The rules in every scenario at once, so that any sequence meets them.
fn policy(rules: &[Rule]) -> CompiledPolicy {
    let mut all: Vec<ResolvedRule> =
        Scenario::all().iter().flat_map(|scenario| resolved(rules, scenario)).collect();
    for (number, rule) in (1..).zip(&mut all) {
        rule.number = number;
    }
    compile(&all, Tracking::Auto).expect("a few rules fit")
}

/// Plays a sequence; the second policy follows the first in its middle.
fn play(
    [policy, next]: &[CompiledPolicy; 2],
    events: &[Event],
    host: &mut Host,
    kernel: &mut Kernel,
    judged: &mut BTreeMap<&'static str, usize>,
) -> Result<(), TestCaseError> {
    host.reset(Some(policy));
    kernel.reset(Some(policy));
    for (at, event) in (1..).zip(events) {
        if at == events.len() / 2 {
            host.replace(next);
            kernel.replace(next);
        }
        let (frame, direction) = match event {
            Event::Wait(seconds) => {
                host.wait(*seconds);
                kernel.wait(*seconds);
                continue;
            }
            Event::Frame(frame, direction) => (frame, *direction),
        };
        let expected = host.decide(frame, direction);
        let answer = kernel.decide(frame, direction);
        if answer.is_none() {
            // Too short for a test run; then it is too short for the parser.
            prop_assert_eq!(expected, Some(Reason::TruncatedFrame), "bytes {}", hex(frame));
            continue;
        }
        *judged.entry(reason_name(answer)).or_default() += 1;
        prop_assert!(
            answer == expected,
            "step {at}, {}: host {}, kernel {}\n  bytes {}\n  flows on the host:{}\n  in the \
             kernel:{}",
            direction.name(),
            reason_name(expected),
            reason_name(answer),
            hex(frame),
            lines(&host.flows()),
            lines(&kernel.flows())
        );
    }
    let (on_host, in_kernel) = (host.flows(), kernel.flows());
    prop_assert!(
        on_host == in_kernel,
        "at the end, flows on the host:{}\n  in the kernel:{}",
        lines(&on_host),
        lines(&in_kernel)
    );
    prop_assert_eq!(host.rules(), kernel.rules());
    prop_assert_eq!(host.events(), kernel.events());
    Ok(())
}
