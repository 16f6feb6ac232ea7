//! Rule lookups by the kernel program in tables that are not active yet.

use std::net::IpAddr;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use firewall_ebpf::abi::helper::{MAX_PROBED, PROBE_LIST, pack_query};
use firewall_ebpf::abi::policy::{Active, traffic};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;
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
        let program =
            SchedClassifier::from_pin(pins.probe(is_v6)).context("open program sg_probe")?;
        for call in of_family.chunks(PER_CALL) {
            let list = list(active, call);
            let mut out = vec![0; list.len()];
            let options = TestRunOptions {
                data_in: Some(&list),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            };
            let run = program.test_run(options).context("run program sg_probe")?;
            if usize::try_from(run.return_value) != Ok(call.len()) {
                return Err(DataplaneError::new(
                    format!("program sg_probe: evaluated {} of {}", run.return_value, call.len()),
                    "it is another build's: `secgroup detach --all`, then attach again",
                ));
            }
            let size = (list.len() - PROBE_LIST as usize) / call.len();
            let rules = out[PROBE_LIST as usize..].chunks(size).map(|result| {
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
    let mut list = active.0.to_ne_bytes().to_vec();
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

const _: () = assert!(PROBE_LIST as usize == size_of::<Active>());
