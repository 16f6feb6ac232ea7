//! Rules that end, against the reference evaluator at several times.

use std::net::IpAddr;

use firewall_ebpf::abi::policy::{
    ANY_V4, ANY_V6, NO_CLASS, TIMED, UNTRACKED, rule_number, traffic,
};
use firewall_ebpf::abi::prefix::Prefix;
use firewall_policy::model::Tracking;
use firewall_policy::probes::{Asked, check};
use firewall_policy::{CompiledPolicy, Probe, ResolvedRule, compile, evaluate, is_untracked};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{at_edge, config, probe, rules};

const ENDS: [u64; 3] = [100, 200, 300];

/// A search in the tables as the kernel program does it, at a time: what has ended matches nothing.
fn search(tables: &CompiledPolicy, probe: Probe, is_over: impl Fn(u32) -> bool) -> Option<u32> {
    let (any, longest) = match probe.outside {
        IpAddr::V4(v4) => {
            let mut all = (1..=32).rev().map(|length| Prefix::new(v4.octets(), length));
            (ANY_V4, all.find_map(|one| tables.prefixes_v4.get(&one)))
        }
        IpAddr::V6(v6) => {
            let mut all = (1..=128).rev().map(|length| Prefix::new(v6.octets(), length));
            (ANY_V6, all.find_map(|one| tables.prefixes_v6.get(&one)))
        }
    };
    let mut class = longest.copied().unwrap_or(any);
    let of = traffic(probe.protocol, probe.port);
    loop {
        let row = tables.classes[usize::try_from(class).expect("fits")];
        let list = tables.list(row.lists[probe.direction as usize]);
        let found = list.iter().find(|range| range.low <= of && of <= range.high);
        match found.filter(|range| range.rule & TIMED == 0 || !is_over(rule_number(range.rule))) {
            Some(range) => return Some(range.rule),
            None if row.parent == NO_CLASS => return None,
            None => class = row.parent,
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn tables_and_reference_evaluator_agree_whatever_has_ended(
        rules in rules(40),
        salt in vec(any::<u8>(), 80),
        probes in vec(probe(), 60),
    ) {
        let timed = rules.iter().zip(&salt).map(|(rule, salt)| ResolvedRule {
            end: (salt & 1 == 0).then(|| ENDS[usize::from(salt >> 1) % 3]),
            ..rule.clone()
        });
        let mut rules: Vec<_> = timed.collect();
        rules.sort_by_key(|rule| rule.number);
        let tables = compile(&rules, Tracking::Auto).expect("forty rules fit");
        let both = TIMED | UNTRACKED;
        prop_assert!(tables.lists.iter().flatten().all(|range| range.rule & both != both));
        for now in [0, 100, 150, 250, 300] {
            let is_over = |end: Option<u64>| end.is_some_and(|end| end <= now);
            let by_number = |number: u32| rules.iter().find(|rule| rule.number == number).expect("present");
            let mut results = Vec::new();
            for raw in &probes {
                let mut probe = at_edge(&rules, *raw);
                let own_icmp = if probe.outside.is_ipv4() { 1 } else { 58 };
                if !matches!(probe.protocol, 6 | 17) && probe.protocol != own_icmp {
                    probe.port = 0;
                }
                let found = search(&tables, probe, |number| is_over(by_number(number).end));
                let allowing: Vec<u32> = evaluate(&rules, probe)
                    .filter(|number| !is_over(by_number(*number).end))
                    .collect();
                match found {
                    Some(word) => {
                        prop_assert!(allowing.contains(&rule_number(word)), "{probe:?} at {now}");
                        let is_marked = word & UNTRACKED != 0;
                        prop_assert_eq!(is_marked, is_untracked(&rules, probe), "{:?}", probe);
                    }
                    None => prop_assert!(allowing.is_empty(), "{probe:?} at {now}: {allowing:?}"),
                }
                results.push((probe, found));
            }
            let asked = Asked { from: now, to: now };
            prop_assert_eq!(check(&rules, Tracking::Auto, asked, &results), Ok(()));
        }
    }
}
