//! The reference evaluator of filters, probes at the borders of entries, and the check of the kernel's
//! results.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;

use super::ResolvedEntry;
use crate::evaluate::{Probe, is_traffic};
use crate::probes::{self, Asked};
use crate::resolve::ResolvedRule;

/// The first entry that matches a packet, at a time in nanoseconds since the boot. It is simple and slow on
/// purpose, and shares no code with the compiler.
#[must_use]
pub fn first_match(entries: &[ResolvedEntry], probe: Probe, now: u64) -> Option<&ResolvedEntry> {
    let matches = |entry: &&ResolvedEntry| {
        entry.end.is_none_or(|end| end > now)
            && entry.is_of(probe.direction)
            && entry.networks.cover(probe.outside)
            && is_traffic(entry.traffic, probe)
    };
    entries.iter().find(matches)
}

/// The word of the first entry that matches a packet.
#[must_use]
pub fn evaluate_filter(entries: &[ResolvedEntry], probe: Probe, now: u64) -> Option<u32> {
    first_match(entries, probe, now).map(ResolvedEntry::word)
}

/// Probes at borders of the entries, spread evenly up to a limit of cost.
#[must_use]
pub fn filter_probes(entries: &[ResolvedEntry]) -> Vec<Probe> {
    let rules: Vec<ResolvedRule> = (1..)
        .zip(entries)
        .map(|(number, entry)| ResolvedRule {
            number,
            direction: entry.direction.unwrap_or(Direction::Ingress),
            traffic: entry.traffic,
            networks: entry.networks.clone(),
            end: None,
        })
        .collect();
    probes::probes(&[], &rules)
}

/// The kernel's tables of a filter give another result than its entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel's tables of the ACL give {found:x?} for {} protocol {} port {} {} {}, and its entries \
     {expected:x?}",
    probe.direction.name(), probe.protocol, probe.port,
    if probe.direction.name() == "ingress" { "from" } else { "to" }, probe.outside
)]
pub struct FilterMismatch {
    /// The packet.
    pub probe: Probe,
    /// The word that the kernel found.
    pub found: Option<u32>,
    /// The words that are right; several where an entry ended meanwhile.
    pub expected: Vec<u32>,
}

/// Compares the kernel's results with the entries: it found the first that matches.
///
/// # Errors
/// The first result that is wrong.
pub fn check_filter(
    entries: &[ResolvedEntry],
    asked: Asked,
    results: &[(Probe, Option<u32>)],
) -> Result<(), FilterMismatch> {
    let about = entries_by_probe(entries, results);
    for ((probe, found), about) in results.iter().zip(about) {
        let about = about.into_iter().map(|at| &entries[at]);
        let mut matching =
            about.filter(|one| one.is_of(probe.direction) && is_traffic(one.traffic, *probe));
        // What may have been found: each up to the first that was certainly in force.
        let mut expected = Vec::new();
        for entry in matching.by_ref().filter(|entry| asked.may_be_in_force(entry.end)) {
            expected.push(entry.word());
            if asked.is_in_force(entry.end) {
                break;
            }
        }
        let is_right = found.map_or(expected.is_empty(), |found| expected.contains(&found));
        if !is_right {
            return Err(FilterMismatch { probe: *probe, found: *found, expected });
        }
    }
    Ok(())
}

/// For each probe the indexes of the entries whose networks cover its outside address, in their order.
fn entries_by_probe(
    entries: &[ResolvedEntry],
    results: &[(Probe, Option<u32>)],
) -> Vec<Vec<usize>> {
    let outsides = results.iter().map(|(probe, _)| probe.outside);
    let mut outsides: Vec<(IpAddr, usize)> = outsides.zip(0..).collect();
    outsides.sort_unstable();
    let mut by_probe: Vec<Vec<usize>> = vec![Vec::new(); results.len()];
    for (at, entry) in entries.iter().enumerate() {
        for network in &entry.networks {
            let from = outsides.partition_point(|(outside, _)| *outside < network.network());
            let covered =
                outsides[from..].iter().take_while(|(outside, _)| network.contains(outside));
            for (_, probe) in covered {
                // Its networks may overlap.
                if by_probe[*probe].last() != Some(&at) {
                    by_probe[*probe].push(at);
                }
            }
        }
    }
    by_probe
}
