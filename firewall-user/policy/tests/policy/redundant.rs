//! Redundant rules against the reference evaluator.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_policy::model::{PortRange, Traffic};
use firewall_policy::redundant::redundant;
use firewall_policy::{Probe, ResolvedRule, evaluate, is_untracked};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{at_edge, config, probe, rules};

fn in_force(rules: &[ResolvedRule], now: u64) -> Vec<ResolvedRule> {
    rules.iter().filter(|rule| rule.end.is_none_or(|end| end > now)).cloned().collect()
}

/// Whether two sets of rules agree about a packet.
fn agree(one: &[ResolvedRule], other: &[ResolvedRule], probe: Probe) -> bool {
    let is_allowed = |rules| evaluate(rules, probe).next().is_some();
    is_allowed(one) == is_allowed(other) && is_untracked(one, probe) == is_untracked(other, probe)
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn nothing_changes_without_the_redundant_rules(
        mut rules in rules(40),
        salt in vec(any::<u8>(), 60),
        probes in vec(probe(), 60),
    ) {
        for (rule, salt) in rules.iter_mut().zip(salt) {
            rule.end = (salt % 4 == 0).then(|| u64::from(salt / 4));
        }
        let found = redundant(&rules);
        let is_found = |number| found.iter().any(|one| one.number == number);
        let kept: Vec<_> = rules.iter().filter(|rule| !is_found(rule.number)).cloned().collect();
        for now in [0, 20, 40] {
            let (all, kept) = (in_force(&rules, now), in_force(&kept, now));
            for raw in &probes {
                let probe = at_edge(&all, *raw);
                prop_assert!(agree(&all, &kept, probe), "{:?} at {}", probe, now);
            }
        }
        for one in &found {
            prop_assert!(one.covered_by.iter().all(|number| !is_found(*number)), "{:?}", one);
            let rule = rules.iter().find(|rule| rule.number == one.number).expect("a rule");
            let cover = rules.iter().filter(|rule| one.covered_by.contains(&rule.number));
            let cover: Vec<_> = cover.cloned().collect();
            for raw in &probes {
                // Packets of the rule itself are the ones that matter.
                let probe = at_edge(std::slice::from_ref(rule), *raw);
                let (protocol, port) = match evaluate(&cover, probe).next() {
                    Some(_) => continue,
                    None => (probe.protocol, probe.port),
                };
                let is_own = evaluate(std::slice::from_ref(rule), probe).next().is_some();
                prop_assert!(!is_own, "{:?} does not cover {} {}", one, protocol, port);
            }
        }
    }

    /// Rules of few addresses and ports, for which every packet can be tried: then what is not named is needed.
    #[test]
    fn every_rule_that_is_not_named_is_needed(
        picks in vec((0_usize..8, 0_usize..4, 0_u16..4, 0_u16..4), 1..9),
    ) {
        let rules: Vec<_> = (1..).zip(picks).map(|(number, pick)| small_rule(number, pick)).collect();
        let found = redundant(&rules);
        let is_found = |rule: &&ResolvedRule| found.iter().any(|one| one.number == rule.number);
        let kept = only(&rules, |rule| !is_found(&rule));
        let all = packets(&rules);
        prop_assert_eq!(&packets(&kept), &all);
        for rule in &kept {
            let without = only(&kept, |other| other.number != rule.number);
            prop_assert_ne!(&packets(&without), &all, "{:?} is not needed", rule);
        }
        for one in &found {
            let own = packets(&only(&rules, |rule| rule.number == one.number));
            let cover = packets(&only(&rules, |rule| one.covered_by.contains(&rule.number)));
            prop_assert!(own.iter().zip(&cover).all(|(own, cover)| !own || *cover), "{:?}", one);
        }
    }
}

/// Networks of addresses of two bits, so that none is of all addresses.
const NETWORKS: [&str; 7] = [
    "10.0.0.0/30",
    "10.0.0.0/31",
    "10.0.0.2/31",
    "10.0.0.0/32",
    "10.0.0.1/32",
    "10.0.0.2/32",
    "10.0.0.3/32",
];

fn small_rule(number: u32, pick: (usize, usize, u16, u16)) -> ResolvedRule {
    let (network, second, one, other) = pick;
    let networks = [network % 7, 3 + second].into_iter().take(1 + usize::from(network > 4));
    ResolvedRule {
        number,
        direction: Direction::Ingress,
        traffic: Traffic::Tcp(PortRange { from: one.min(other), to: one.max(other) }),
        networks: networks.map(|at| NETWORKS[at].parse::<IpNet>().expect("a network")).collect(),
        end: None,
    }
}

fn only(rules: &[ResolvedRule], is_kept: impl Fn(&ResolvedRule) -> bool) -> Vec<ResolvedRule> {
    rules.iter().filter(|rule| is_kept(rule)).cloned().collect()
}

/// Whether each of the packets is allowed.
fn packets(rules: &[ResolvedRule]) -> Vec<bool> {
    let all = (0_u8..4).flat_map(|last| (0_u16..4).map(move |port| (last, port)));
    let is_allowed = |(last, port)| {
        let outside = IpAddr::from([10, 0, 0, last]);
        let probe = Probe { direction: Direction::Ingress, outside, protocol: 6, port };
        evaluate(rules, probe).next().is_some()
    };
    all.map(is_allowed).collect()
}
