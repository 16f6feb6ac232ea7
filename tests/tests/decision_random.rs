//! Random sequences of packets and pauses: host and kernel give the same reason for each packet,
//! and have the same flows, rule counters and events at the end.

use std::cell::RefCell;
use std::collections::BTreeMap;

use firewall_ebpf::abi::interface::Orientation;
use firewall_ebpf::abi::reason::Reason;
use firewall_user::model::Tracking;
use firewall_user::policy::{CompiledPolicy, compile};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use secgroup_tests::decision::deny::{Blocks, Ends, Filter};
use secgroup_tests::decision::engine::lines;
use secgroup_tests::decision::random::{Event, config, rules, sequence};
use secgroup_tests::decision::rules::{Rule, ends_of, in_all_scenarios};
use secgroup_tests::decision::run::{hex, reason_name};
use secgroup_tests::decision::{Engine, Host, Kernel, Receive, Scenario, Setup};

/// Sequences per hook and orientation.
const SEQUENCES: u32 = 100;

#[test]
fn host_and_kernel_agree_on_a_host_interface() {
    assert_agreement(Orientation::Host, [1, 2]);
}

#[test]
fn host_and_kernel_agree_on_a_guest_interface() {
    assert_agreement(Orientation::Guest, [3, 4]);
}

fn assert_agreement(orientation: Orientation, seeds: [u64; 2]) {
    let counts = RefCell::new(BTreeMap::new());
    let guests = Setup::ports(orientation);
    for setup in Setup::variants(orientation).into_iter().chain(guests) {
        let kernel = RefCell::new(Kernel::load(setup));
        for (receive, seed) in Receive::ALL.into_iter().zip(seeds) {
            kernel.borrow_mut().receive = receive;
            let mut runner = TestRunner::new(config(SEQUENCES, seed));
            let outcome = runner.run(&(rules(), rules(), sequence()), |(rules, next, events)| {
                let (mut host, mut kernel) = (Host::of(&setup), kernel.borrow_mut());
                let policies = [policy(&rules), policy(&next)];
                run_sequence(&policies, &events, &mut host, &mut kernel, &mut counts.borrow_mut())
            });
            if let Err(error) = outcome {
                panic!("{}, {setup:?}: {error}", kernel.borrow().name());
            }
        }
    }
    let counts = counts.into_inner();
    let packets: usize = counts.values().sum();
    println!("{packets} packets on a {} interface: {counts:?}", orientation.name());
    // Each reason must occur, or its comparison is empty. The excluded ones need another interface
    // or other tables.
    let excluded = [Reason::NoPolicy, Reason::NonIpAllowed, Reason::FlowTableFull];
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !counts.contains_key(reason.name()) && !excluded.contains(reason))
        .collect();
    assert!(packets < 2000 || missing.is_empty(), "no random packet had the reason {missing:?}");
}

/// A policy of every scenario at once, and when its rules end.
fn policy(rules: &[Rule]) -> (CompiledPolicy, Ends) {
    let all = in_all_scenarios(rules);
    (compile(&all, Tracking::Auto).expect("a few rules fit"), ends_of(&all))
}

/// Runs a sequence; the second policy replaces the first in its middle.
fn run_sequence(
    [policy, next]: &[(CompiledPolicy, Ends); 2],
    events: &[Event],
    host: &mut Host,
    kernel: &mut Kernel,
    counts: &mut BTreeMap<&'static str, usize>,
) -> Result<(), TestCaseError> {
    host.reset(Some(&policy.0));
    kernel.reset(Some(&policy.0));
    host.set_rule_ends(&policy.1);
    kernel.set_rule_ends(&policy.1);
    let scenarios = Scenario::all();
    for (step, event) in (1..).zip(events) {
        if step == events.len() / 2 {
            host.replace(&next.0);
            kernel.replace(&next.0);
            host.set_rule_ends(&next.1);
            kernel.set_rule_ends(&next.1);
        }
        let (frame, direction) = match event {
            Event::Wait(seconds) => {
                host.wait(*seconds);
                kernel.wait(*seconds);
                continue;
            }
            Event::Filter(entries) => {
                let filter = entries.as_ref().map(|entries| Filter::in_all(entries, &scenarios));
                host.set_filter(filter.as_ref());
                kernel.set_filter(filter.as_ref());
                continue;
            }
            Event::Blocks(blocks) => {
                let blocks = Blocks::in_all(blocks, &scenarios);
                host.set_blocks(&blocks);
                kernel.set_blocks(&blocks);
                continue;
            }
            Event::Frame(frame, direction) => (frame, *direction),
        };
        let expected = host.decide(frame, direction);
        let answer = kernel.decide(frame, direction);
        if answer.is_none() {
            // A frame too short for the test run is too short for the parser.
            prop_assert_eq!(expected, Some(Reason::TruncatedFrame), "bytes {}", hex(frame));
            continue;
        }
        *counts.entry(reason_name(answer)).or_default() += 1;
        prop_assert!(
            answer == expected,
            "step {step}, {}: host {}, kernel {}\n  bytes {}\n  flows on the host:{}\n  in the \
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
    prop_assert_eq!(host.entries(), kernel.entries());
    Ok(())
}
