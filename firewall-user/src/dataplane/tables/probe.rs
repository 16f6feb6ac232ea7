//! Rule lookups by the kernel program in tables that are not active yet.

use std::net::IpAddr;

use firewall_ebpf::abi::helper::{LIST_HEADER, MAX_PROBED, pack_query};
use firewall_ebpf::abi::policy::{Active, traffic};

use crate::dataplane::error::{DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::helper;
use crate::policy::Probe;

/// Probes in one run of the kernel program.
const PER_CALL: usize = MAX_PROBED as usize;

/// The kernel program's result for each probe with the tables of `active`: the number of the rule,
/// with [`firewall_ebpf::abi::policy::UNTRACKED`] where it applies; `None` where no rule does.
///
/// # Errors
/// The pinned programs cannot be run.
pub(super) fn probe(
    pins: &Pins,
    active: Active,
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
            let list = list(active, call);
            let mut out = vec![0; list.len()];
            let evaluated = helper::run(&pins.probe(is_v6), "sg_probe", &list, Some(&mut out))?;
            if usize::try_from(evaluated) != Ok(call.len()) {
                return Err(DataplaneError::new(
                    format!("program sg_probe: evaluated {} of {}", evaluated, call.len()),
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

/// The input of a family's program: the active word, then each probe with four bytes for its
/// result.
fn list(active: Active, probes: &[Probe]) -> Vec<u8> {
    let mut list = helper::list(active.0);
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
