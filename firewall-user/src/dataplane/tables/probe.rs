//! Lookups by the kernel programs in tables that are not active yet.

use std::net::IpAddr;
use std::path::PathBuf;

use firewall_ebpf::abi::helper::{LIST_HEADER, MAX_PROBED, pack_query};
use firewall_ebpf::abi::policy::traffic;

use crate::dataplane::error::{DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::helper;
use crate::policy::Probe;

/// Probes in one run of the kernel program.
const PER_CALL: usize = MAX_PROBED as usize;

/// The programs that look something up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Rules of the policy of an [`Active`](firewall_ebpf::abi::policy::Active) word.
    Policy,
    /// Entries of the filter of such a word.
    Filter,
    /// Blocked networks, in the tries of a [`Blocking`](firewall_ebpf::abi::block::Blocking) word.
    Blocks,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Policy => "sg_probe",
            Self::Filter => "sg_probe_filter",
            Self::Blocks => "sg_probe_blocks",
        }
    }

    fn pin(self, pins: &Pins, is_v6: bool) -> PathBuf {
        match self {
            Self::Policy => pins.probe(is_v6),
            Self::Filter => pins.probe_filter(is_v6),
            Self::Blocks => pins.probe_blocks(is_v6),
        }
    }
}

/// The kernel program's result for each probe with the tables of `word`, as the tables have it: a rule or an
/// entry with its flags; `None` where none applies.
///
/// # Errors
/// The pinned programs cannot be run.
pub(super) fn probe(
    pins: &Pins,
    program: Program,
    word: u64,
    probes: &[Probe],
) -> Result<Vec<(Probe, Option<u32>)>> {
    let mut results = Vec::with_capacity(probes.len());
    for is_v6 in [false, true] {
        let of_family: Vec<Probe> =
            probes.iter().filter(|one| one.outside.is_ipv6() == is_v6).copied().collect();
        if of_family.is_empty() {
            continue;
        }
        for call in of_family.chunks(PER_CALL) {
            let list = list(word, call);
            let mut out = vec![0; list.len()];
            let evaluated =
                helper::run(&program.pin(pins, is_v6), program.name(), &list, Some(&mut out))?;
            if usize::try_from(evaluated) != Ok(call.len()) {
                return Err(DataplaneError::new(
                    format!("program {}: evaluated {evaluated} of {}", program.name(), call.len()),
                    "it is another build's: `secgroup detach --all`, then attach again",
                ));
            }
            let size = (list.len() - LIST_HEADER as usize) / call.len();
            let rules = out[LIST_HEADER as usize..].chunks(size).map(|result| {
                let rule =
                    result[4..8].iter().rev().fold(0, |rule, byte| rule << 8 | u32::from(*byte));
                (rule != 0).then_some(rule)
            });
            results.extend(call.iter().copied().zip(rules));
        }
    }
    Ok(results)
}

/// The input of a family's program: the word, then each probe with four bytes for its
/// result.
fn list(word: u64, probes: &[Probe]) -> Vec<u8> {
    let mut list = helper::list(word);
    for Probe { direction, outside, protocol, port } in probes {
        list.extend(pack_query(*direction, traffic(*protocol, *port)).to_ne_bytes());
        list.extend([0; 4]);
        match outside {
            IpAddr::V4(v4) => list.extend(v4.octets()),
            IpAddr::V6(v6) => list.extend(v6.octets()),
        }
    }
    list
}
