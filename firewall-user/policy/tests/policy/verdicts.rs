//! Differences of verdicts against the reference evaluator.

use firewall_ebpf::abi::policy::traffic;
use firewall_policy::verdicts::{Decided, difference};
use firewall_policy::{ResolvedRule, evaluate};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{at_edge, config, probe, rules};

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn the_difference_is_what_the_reference_evaluator_decides_otherwise(
        mut all in rules(30),
        salt in vec(0_u8..3, 50),
        probes in vec(probe(), 80),
    ) {
        all.sort_by_key(|rule| rule.number);
        let of = |left_out: u8| -> Vec<ResolvedRule> {
            let kept = all.iter().zip(&salt).filter(|(_, salt)| **salt != left_out);
            kept.map(|(rule, _)| rule.clone()).collect()
        };
        let (old, new) = (of(0), of(1));
        let (found, is_cut) = difference(&old, &new, usize::MAX);
        prop_assert!(!is_cut);
        for raw in probes {
            let probe = at_edge(&all, raw);
            let is_allowed = |rules: &[ResolvedRule]| evaluate(rules, probe).next().is_some();
            let has = |one: &&Decided| {
                let number = traffic(probe.protocol, probe.port);
                one.direction == probe.direction
                    && one.network.contains(&probe.outside)
                    && (one.traffic.0..=one.traffic.1).contains(&number)
            };
            let here: Vec<&Decided> = found.iter().filter(has).collect();
            match (is_allowed(&old), is_allowed(&new)) {
                (before, after) if before == after => prop_assert_eq!(here.len(), 0, "{:?}", probe),
                (_, after) => {
                    prop_assert_eq!(here.len(), 1, "{:?} {:?}", probe, here);
                    prop_assert_eq!(here[0].is_allowed, after);
                    let side = if after { &new } else { &old };
                    prop_assert!(evaluate(side, probe).any(|number| number == here[0].number));
                }
            }
        }
    }
}
