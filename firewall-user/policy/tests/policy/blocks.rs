//! The compiler of blocks and the planner of their changes, against the reference evaluator.

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_ebpf::abi::policy::TIMED;
use firewall_ebpf::abi::prefix::Prefix;
use firewall_policy::blocks::{
    CompiledBlocks, ResolvedBlock, block_probes, check_blocks, compile_blocks, evaluate_blocks,
    plan_blocks,
};
use firewall_policy::probes::Asked;
use firewall_policy::{Probe, ResolvedRule};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{at_edge, config, probe, rules};

const ENDS: [u64; 3] = [100, 200, 300];

fn blocks(rules: &[ResolvedRule], salt: &[u8]) -> Vec<ResolvedBlock> {
    let block = |(counter, (rule, salt)): (u32, (&ResolvedRule, &u8))| ResolvedBlock {
        counter: counter + 7,
        networks: rule.networks.clone(),
        end: (salt & 1 == 0).then(|| ENDS[usize::from(salt >> 1) % 3]),
    };
    (0..).zip(rules.iter().zip(salt)).map(block).collect()
}

/// The two tries of a bank, with both halves of each value.
#[derive(Clone, Debug, Default, PartialEq)]
struct Bank {
    v4: BTreeMap<Prefix<4>, [u32; 2]>,
    v6: BTreeMap<Prefix<16>, [u32; 2]>,
}

impl Bank {
    fn new(blocks: &CompiledBlocks) -> Self {
        Self {
            v4: blocks.v4.iter().map(|(prefix, value)| (*prefix, [*value; 2])).collect(),
            v6: blocks.v6.iter().map(|(prefix, value)| (*prefix, [*value; 2])).collect(),
        }
    }

    /// The value that the kernel finds.
    fn find(&self, outside: IpAddr, half: usize) -> Option<u32> {
        let longest = match outside {
            IpAddr::V4(v4) => {
                let mut all = (0..=32).rev().map(|length| Prefix::new(v4.octets(), length));
                all.find_map(|prefix| self.v4.get(&prefix))
            }
            IpAddr::V6(v6) => {
                let mut all = (0..=128).rev().map(|length| Prefix::new(v6.octets(), length));
                all.find_map(|prefix| self.v6.get(&prefix))
            }
        };
        longest.map(|values| values[half]).filter(|value| *value != 0)
    }
}

fn outsides(
    rules: &[ResolvedRule],
    probes: Vec<(prop::sample::Index, prop::sample::Index, u8, Probe)>,
) -> Vec<Probe> {
    probes.into_iter().map(|raw| at_edge(rules, raw)).collect()
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn the_block_that_lasts_longest_is_found(
        rules in rules(30),
        salt in vec(any::<u8>(), 60),
        probes in vec(probe(), 60),
    ) {
        let blocks = blocks(&rules, &salt);
        let compiled = compile_blocks(&blocks).expect("thirty blocks fit");
        let bank = Bank::new(&compiled);
        let probes = outsides(&rules, probes);
        for probe in &probes {
            let found = bank.find(probe.outside, 0);
            for now in [0, 100, 150, 250, 300] {
                let expected: Vec<u32> =
                    evaluate_blocks(&blocks, probe.outside, now).map(ResolvedBlock::value).collect();
                // What the kernel concludes: an ended block is none.
                let in_force = found.filter(|value| {
                    let of = blocks.iter().find(|block| block.value() == *value).expect("present");
                    value & TIMED == 0 || of.end.expect("present") > now
                });
                prop_assert_eq!(in_force.is_some(), !expected.is_empty(), "{:?} at {}", probe, now);
                if let Some(value) = in_force {
                    prop_assert!(expected.contains(&value));
                }
            }
        }
        let results: Vec<_> =
            probes.iter().map(|probe| (*probe, bank.find(probe.outside, 0))).collect();
        let asked = Asked { from: 150, to: 150 };
        prop_assert_eq!(check_blocks(&blocks, asked, &results), Ok(()));
    }

    #[test]
    fn during_a_change_each_half_has_its_blocks(
        all in rules(40),
        salt in vec(any::<u8>(), 80),
        probes in vec(probe(), 60),
        active in 0_usize..2,
    ) {
        let every = blocks(&all, &salt);
        let some = |bit: u8| -> Vec<ResolvedBlock> {
            let chosen = every.iter().zip(&salt).filter(|(_, salt)| *salt & bit != 0);
            chosen.map(|(block, _)| block.clone()).collect()
        };
        let (old, new) = (some(0x10 | 0x20), some(0x20 | 0x40));
        let [was, is] = [&old, &new].map(|blocks| compile_blocks(blocks).expect("fits"));
        let delta = plan_blocks(&was, &is, active);
        let (before, after) = (Bank::new(&was), Bank::new(&is));
        let mut bank = before.clone();
        for (prefix, values) in &delta.before.v4.put {
            bank.v4.insert(*prefix, *values);
        }
        for (prefix, values) in &delta.before.v6.put {
            bank.v6.insert(*prefix, *values);
        }
        prop_assert!(delta.before.v4.removed.is_empty() && delta.before.v6.removed.is_empty());
        for probe in outsides(&all, probes) {
            prop_assert_eq!(bank.find(probe.outside, active), before.find(probe.outside, 0));
            prop_assert_eq!(bank.find(probe.outside, 1 - active), after.find(probe.outside, 0));
        }
        for (prefix, values) in delta.after.v4.put {
            bank.v4.insert(prefix, values);
        }
        for (prefix, values) in delta.after.v6.put {
            bank.v6.insert(prefix, values);
        }
        delta.after.v4.removed.iter().for_each(|prefix| {
            bank.v4.remove(prefix);
        });
        delta.after.v6.removed.iter().for_each(|prefix| {
            bank.v6.remove(prefix);
        });
        prop_assert_eq!(bank, after);
        prop_assert!(plan_blocks(&is, &is, active).before.is_empty());
    }
}

#[test]
fn probes_are_at_the_borders_of_what_changes() {
    let block = |counter, network: &str| ResolvedBlock {
        counter,
        networks: network.parse::<ipnet::IpNet>().expect("a network").into(),
        end: None,
    };
    let (old, new) = ([block(1, "10.0.0.0/8")], [block(1, "10.0.0.0/8"), block(2, "192.0.2.7/32")]);
    let probes = block_probes(&old, &new);
    for outside in ["192.0.2.6", "192.0.2.7", "192.0.2.8"] {
        assert!(probes.iter().any(|probe| probe.outside.to_string() == outside), "{outside}");
    }
    assert_eq!(compile_blocks(&[]).expect("fits"), CompiledBlocks::default());
    assert_ne!(
        compile_blocks(&old).expect("fits").digest,
        compile_blocks(&new).expect("fits").digest
    );
}
