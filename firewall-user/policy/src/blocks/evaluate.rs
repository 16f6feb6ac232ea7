//! The reference evaluator of blocks, probes at their borders, and the check of the kernel's results.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::TIMED;

use super::ResolvedBlock;
use crate::evaluate::Probe;
use crate::model::Traffic;
use crate::probes::{self, Asked};
use crate::resolve::ResolvedRule;

/// The blocks that are in force for an address, at a time in nanoseconds since the boot.
pub fn evaluate_blocks(
    blocks: &[ResolvedBlock],
    outside: IpAddr,
    now: u64,
) -> impl Iterator<Item = &ResolvedBlock> {
    let in_force = move |block: &&ResolvedBlock| block.end.is_none_or(|end| end > now);
    blocks.iter().filter(in_force).filter(move |block| block.networks.cover(outside))
}

/// Probes at borders of the blocks that differ, and of a sample of the others; of the probes only the
/// outside address matters.
#[must_use]
pub fn block_probes(old: &[ResolvedBlock], new: &[ResolvedBlock]) -> Vec<Probe> {
    let mut all = probes::probes(&rules(old), &rules(new));
    // The probes of one address differ in direction and traffic alone.
    all.sort_unstable_by_key(|probe| probe.outside);
    all.dedup_by_key(|probe| probe.outside);
    all
}

/// Blocks as rules, which differ where the blocks do.
fn rules(blocks: &[ResolvedBlock]) -> Vec<ResolvedRule> {
    let rule = |block: &ResolvedBlock| ResolvedRule {
        number: block.counter,
        direction: Direction::Ingress,
        traffic: Traffic::All,
        networks: block.networks.clone(),
        end: block.end,
    };
    let mut rules: Vec<_> = blocks.iter().map(rule).collect();
    rules.sort_by_key(|rule| rule.number);
    rules
}

/// The kernel's tables of blocks give another result than the blocks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel's tables of blocks give {found:x?} for {outside}, and the blocks {expected:x?}"
)]
pub struct BlockMismatch {
    /// The address.
    pub outside: IpAddr,
    /// The value that the kernel found.
    pub found: Option<u32>,
    /// The values of the blocks of the address.
    pub expected: Vec<u32>,
}

/// Compares the kernel's results with the blocks. A block that has ended is still found where no other one
/// covers the address, and the kernel reads its end.
///
/// # Errors
/// The first result that is wrong.
pub fn check_blocks(
    blocks: &[ResolvedBlock],
    asked: Asked,
    results: &[(Probe, Option<u32>)],
) -> Result<(), BlockMismatch> {
    let mut outsides: Vec<(IpAddr, usize)> =
        results.iter().map(|(probe, _)| probe.outside).zip(0..).collect();
    outsides.sort_unstable();
    let mut by_probe: Vec<Vec<&ResolvedBlock>> = vec![Vec::new(); results.len()];
    for block in blocks {
        for network in &block.networks {
            let from = outsides.partition_point(|(outside, _)| *outside < network.network());
            let covered =
                outsides[from..].iter().take_while(|(outside, _)| network.contains(outside));
            covered.for_each(|(_, probe)| by_probe[*probe].push(block));
        }
    }
    for ((probe, found), of_address) in results.iter().zip(by_probe) {
        let lasting = of_address.iter().map(|block| block.endurance()).max();
        let is_right = match found {
            None => !of_address.iter().any(|block| asked.is_in_force(block.end)),
            Some(found) => of_address.iter().any(|block| {
                let is_timed = found & TIMED != 0;
                block.value() == *found
                    && is_timed == block.end.is_some()
                    && Some(block.endurance()) == lasting
            }),
        };
        if !is_right {
            let expected = of_address.iter().map(|block| block.value()).collect();
            return Err(BlockMismatch { outside: probe.outside, found: *found, expected });
        }
    }
    Ok(())
}
