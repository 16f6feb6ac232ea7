//! Explanations against the reference evaluator.

use firewall_policy::explain::{Because, Reply, Tracked, explain};
use firewall_policy::model::Tracking;
use firewall_policy::{Probe, ResolvedRule, evaluate, is_untracked};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{at_edge, config, probe, rules};

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn an_explanation_is_that_of_the_reference_evaluator(
        mut rules in rules(40),
        salt in vec(any::<u8>(), 60),
        probes in vec(probe(), 40),
        source_port: u16,
    ) {
        for (rule, salt) in rules.iter_mut().zip(salt) {
            rule.end = (salt % 8 == 0).then_some(100);
        }
        for raw in probes {
            let probe = at_edge(&rules, raw);
            let found = explain(&rules, Tracking::Auto, probe, Some(source_port));
            let mut allowing: Vec<u32> = evaluate(&rules, probe).collect();
            allowing.sort_unstable();
            prop_assert_eq!(&found.allowing, &allowing);
            prop_assert_eq!(found.tracked.is_some(), !allowing.is_empty());
            prop_assert!(found.nearest.is_none() || allowing.is_empty());
            let is_without_flow = matches!(found.tracked, Some(Tracked::Untracked { .. }));
            prop_assert_eq!(is_without_flow, is_untracked(&rules, probe));
            let reply = |port| Probe { direction: probe.direction.opposite(), port, ..probe };
            match (found.tracked, found.reply) {
                (Some(Tracked::Untracked { anywhere, replies }), Some(Reply::Rules(allowing))) => {
                    prop_assert!(anywhere.iter().all(|number| found.allowing.contains(number)));
                    let all: Vec<u32> = evaluate(&rules, reply(source_port)).collect();
                    prop_assert_eq!(all.len(), allowing.len());
                    // With only the named rules it is untracked, too, and with one less it is not.
                    let named = |skipped: Option<u32>| -> Vec<ResolvedRule> {
                        let is_named = |rule: &&ResolvedRule| {
                            let number = rule.number;
                            number == anywhere[0]
                                || replies.contains(&number) && skipped != Some(number)
                        };
                        rules.iter().filter(is_named).cloned().collect()
                    };
                    prop_assert!(is_untracked(&named(None), probe));
                    for one in &replies {
                        prop_assert!(!is_untracked(&named(Some(*one)), probe), "without {}", one);
                    }
                }
                (Some(Tracked::Tracked(because)), reply_by) => {
                    prop_assert_eq!(reply_by, Some(Reply::Flow));
                    if let Because::Reply { port } = because {
                        let wide = |rule: &&ResolvedRule| {
                            let mut all = rule.networks.iter();
                            let v4 = probe.outside.is_ipv4();
                            rule.end.is_none()
                                && all.any(|one| one.prefix_len() == 0 && one.addr().is_ipv4() == v4)
                        };
                        let wide: Vec<_> = rules.iter().filter(wide).cloned().collect();
                        prop_assert!(evaluate(&wide, reply(port)).next().is_none());
                        if let Some(before) = port.checked_sub(1) {
                            prop_assert!(evaluate(&wide, reply(before)).next().is_some());
                        }
                    }
                }
                (tracked, reply) => prop_assert_eq!((tracked, reply), (None, None)),
            }
        }
    }
}
