//! Random sequences of packets and pauses: host and kernel give the same reason for each, and have
//! the same flows, rule counts and everything else at the end.

use std::cell::RefCell;
use std::collections::BTreeMap;

use firewall_ebpf::host::CompiledPolicy;
use firewall_ebpf::interface::{Orientation, TcpChecks};
use firewall_ebpf::reason::Reason;
use firewall_user::model::Tracking;
use firewall_user::policy::{ResolvedRule, compile};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use secgroup_tests::decision::engine::lines;
use secgroup_tests::decision::random::{Event, config, rules, sequence};
use secgroup_tests::decision::rules::{Rule, resolved};
use secgroup_tests::decision::run::{hex, word};
use secgroup_tests::decision::{Engine, Host, Kernel, Receive, Scene, Setup};

/// Sequences per hook and orientation.
const SEQUENCES: u32 = 150;

/// These need an interface or tables of another kind.
const ELSEWHERE: [Reason; 3] = [Reason::NoPolicy, Reason::NonIpAllowed, Reason::FlowTableFull];
/// These need strict TCP.
const STRICT: [Reason; 3] = [Reason::TcpWindow, Reason::TcpReset, Reason::TcpNotOpened];

#[test]
fn host_and_kernel_agree_on_a_host_interface() {
    agree(Setup::new(Orientation::Host), [1, 2], &STRICT);
}

#[test]
fn host_and_kernel_agree_on_a_guest_interface() {
    agree(Setup::new(Orientation::Guest), [3, 4], &STRICT);
}

#[test]
fn host_and_kernel_agree_on_strict_tcp() {
    let setup = Setup { tcp_checks: TcpChecks::Strict, ..Setup::new(Orientation::Host) };
    agree(setup, [7, 8], &[]);
}

/// `never` are reasons that such an interface does not have.
fn agree(setup: Setup, seeds: [u64; 2], never: &[Reason]) {
    let kernel = RefCell::new(Kernel::load(setup));
    let judged = RefCell::new(BTreeMap::new());
    for (receive, seed) in Receive::ALL.into_iter().zip(seeds) {
        kernel.borrow_mut().receive = receive;
        let mut runner = TestRunner::new(config(SEQUENCES, seed));
        let outcome = runner.run(&(rules(), sequence()), |(rules, events)| {
            let mut host = Host::new();
            host.tables.tcp_checks = setup.tcp_checks;
            let (mut kernel, mut judged) = (kernel.borrow_mut(), judged.borrow_mut());
            play(&policy(&rules), &events, &mut host, &mut kernel, &mut judged)
        });
        if let Err(error) = outcome {
            panic!("{}: {error}", kernel.borrow().name());
        }
    }
    let judged = judged.into_inner();
    let packets: usize = judged.values().sum();
    println!("{packets} packets, {setup:?}: {judged:?}");
    // A generator that never gets somewhere compares nothing there.
    let elsewhere = |reason| ELSEWHERE.contains(reason) || never.contains(reason);
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !judged.contains_key(reason.name()) && !elsewhere(reason))
        .collect();
    assert!(packets < 2000 || missing.is_empty(), "no random packet met {missing:?}");
}

/// The rules in every scene at once, so that any sequence meets them.
fn policy(rules: &[Rule]) -> CompiledPolicy {
    let mut all: Vec<ResolvedRule> =
        Scene::all().iter().flat_map(|scene| resolved(rules, scene)).collect();
    for (number, rule) in (1..).zip(&mut all) {
        rule.number = number;
    }
    compile(&all, Tracking::Auto).expect("a few rules fit")
}

fn play(
    policy: &CompiledPolicy,
    events: &[Event],
    host: &mut Host,
    kernel: &mut Kernel,
    judged: &mut BTreeMap<&'static str, usize>,
) -> Result<(), TestCaseError> {
    host.reset(Some(policy));
    kernel.reset(Some(policy));
    for (at, event) in (1..).zip(events) {
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
        *judged.entry(word(answer)).or_default() += 1;
        prop_assert!(
            answer == expected,
            "step {at}, {}: host {}, kernel {}\n  bytes {}\n  flows on the host:{}\n  in the \
             kernel:{}",
            direction.name(),
            word(expected),
            word(answer),
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
