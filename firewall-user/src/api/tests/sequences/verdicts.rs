//! Verdicts of what is stored: by the reference evaluator and by the compiled tables.

use std::net::IpAddr;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, NO_CLASS, traffic};
use firewall_ebpf::abi::prefix::Prefix;

use crate::model::{Change, GroupId, Interface, InterfaceId, Model, Tracking};
use crate::policy::{Addresses, CompiledPolicy, Probe, compile, evaluate, resolve};

/// Which of the probes the rules of each group allow, where `members` have these addresses.
pub(super) fn verdicts(
    model: &Model,
    members: &[(GroupId, IpAddr)],
    probes: &[Probe],
) -> Vec<Vec<bool>> {
    let mut model = model.clone();
    let mut addresses = Addresses::new();
    for (slot, (group, address)) in (0..).zip(members) {
        let mut interface =
            Interface::new(InterfaceId::random().unwrap(), slot, &format!("eth{slot}"), None);
        interface.groups = vec![group.clone()];
        model.make(Change::PutInterface(interface));
        addresses.insert(slot, vec![(*address).into()]);
    }
    let interfaces = model.interfaces.values();
    interfaces
        .map(|interface| {
            let rules = resolve(&model, &addresses, interface);
            let tables = compile(&rules, Tracking::Auto).unwrap();
            let verdict = |probe: &Probe| {
                let is_allowed = evaluate(&rules, *probe).next().is_some();
                assert_eq!(is_in(&tables, *probe), is_allowed, "{probe:?}");
                is_allowed
            };
            probes.iter().map(verdict).collect()
        })
        .collect()
}

/// Whether the tables allow a packet, searched as by the kernel program.
fn is_in(tables: &CompiledPolicy, probe: Probe) -> bool {
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
        let row = tables.classes[usize::try_from(class).unwrap()];
        let list = tables.list(row.lists[probe.direction as usize]);
        if list.iter().any(|range| range.low <= of && of <= range.high) {
            return true;
        }
        if row.parent == NO_CLASS {
            return false;
        }
        class = row.parent;
    }
}

/// Packets of both directions, of each protocol and at the borders of ports, from these addresses.
pub(super) fn probes(addresses: &[IpAddr]) -> Vec<Probe> {
    let ping = u16::from_be_bytes([8, 0]);
    let traffics = [
        (6, 21),
        (6, 22),
        (6, 23),
        (6, 24),
        (17, 53),
        (17, 54),
        (1, ping),
        (1, 0),
        (58, 0),
        (47, 0),
    ];
    let mut probes = Vec::new();
    for direction in Direction::ALL {
        for &outside in addresses {
            for (protocol, port) in traffics {
                // As the parser has it: only a family's own ICMP has types.
                if protocol == if outside.is_ipv4() { 58 } else { 1 } {
                    continue;
                }
                probes.push(Probe { direction, outside, protocol, port });
            }
        }
    }
    probes
}
