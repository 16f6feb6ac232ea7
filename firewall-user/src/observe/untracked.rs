//! Traffic that passes without a flow, and that a change of rules ends: nothing keeps its open connections.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use firewall_ebpf::abi::policy::traffic;
use firewall_ebpf::wire::protocol;

use super::flows::untracked::{ports, subject};
use super::query::Checked;
use crate::model::{Interface, Model, Tracking};
use crate::policy::explain::{Tracked, explain};
use crate::policy::verdicts::{Decided, difference};
use crate::policy::{Addresses, Probe, ResolvedRule, active_rules};

/// Pieces of changed verdicts of an interface that are examined.
const MOST: usize = 1000;

/// The rules whose packets pass without a flow, and that no rule allows after a change, by number; with the labels of
/// the interfaces, of traffic that a query chooses by interface, direction, protocol and port. `now` is the clock of the
/// boot in nanoseconds.
#[must_use]
pub fn ended(
    before: &Model,
    after: &Model,
    (addresses, now): (&Addresses, u64),
    query: &Checked,
) -> BTreeMap<u32, Vec<String>> {
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (slot, interface) in &before.interfaces {
        let Some(changed) = after.interfaces.get(slot).filter(|after| after.id == interface.id)
        else {
            continue;
        };
        let mut rules = active_rules(before, addresses, interface);
        rules.retain(|rule| rule.end.is_none_or(|end| end > now));
        let changed = active_rules(after, addresses, changed);
        let (pieces, _) = difference(&rules, &changed, MOST);
        let pieces = pieces.iter().filter(|piece| is_meant(query, interface, piece));
        let numbers: BTreeSet<u32> =
            pieces.flat_map(|piece| untracked(piece, &rules, interface.tracking)).collect();
        for number in numbers {
            found.entry(number).or_default().push(interface.label());
        }
    }
    found
}

/// Whether a query chooses some of the packets of a piece.
fn is_meant(query: &Checked, interface: &Interface, piece: &Decided) -> bool {
    let given = query.query();
    if query.is_empty() || given.not {
        return true;
    }
    let traffic = query.of_traffic();
    [protocol::TCP, protocol::UDP].into_iter().any(|protocol| {
        let Some(range) = ports_of(piece, protocol) else { return false };
        let of_filter =
            ports(&given.port, protocol).into_iter().filter(|port| range.contains(port));
        let any = given.port.is_empty().then_some(*range.start());
        of_filter
            .chain(any)
            .any(|port| traffic.matches(&subject(interface, piece.direction, protocol, port)))
    })
}

/// The ports of a piece, of a protocol.
fn ports_of(piece: &Decided, protocol: u8) -> Option<RangeInclusive<u16>> {
    let (low, high) = piece.traffic;
    let (low, high) = (low.max(traffic(protocol, 0)), high.min(traffic(protocol, u16::MAX)));
    let port = |number: u32| u16::try_from(number & u32::from(u16::MAX)).unwrap_or_default();
    (low <= high).then(|| port(low)..=port(high))
}

/// The rules that let packets of a piece pass without a flow, of those that would be dropped; empty: they have flows.
/// `before` are the rules of the interface now.
#[must_use]
pub fn untracked(piece: &Decided, before: &[ResolvedRule], tracking: Tracking) -> Vec<u32> {
    if piece.is_allowed {
        return Vec::new();
    }
    let of_protocol = |protocol: u8| {
        let Some(ports) = ports_of(piece, protocol) else { return Vec::new() };
        let port = *ports.start();
        let outside = piece.network.addr();
        let probe = Probe { direction: piece.direction, outside, protocol, port };
        match explain(before, tracking, probe, None).tracked {
            Some(Tracked::Untracked { anywhere, .. }) => anywhere,
            _ => Vec::new(),
        }
    };
    [protocol::TCP, protocol::UDP].into_iter().flat_map(of_protocol).collect()
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::interface::Direction;

    use super::*;
    use crate::model::{InterfaceId, Peer, RuleSpec, Traffic, parse_cidr};
    use crate::observe::simulate::tests::model;

    #[test]
    fn a_rule_for_all_addresses_whose_replies_are_allowed_has_open_connections_without_a_flow() {
        let eni = InterfaceId::random().unwrap();
        let all = [(1, 80, "0.0.0.0/0"), (2, 22, "192.0.2.0/24"), (3, 443, "0.0.0.0/0")];
        let with = |rules: &[(u32, u16, &str)], replies: bool| {
            let mut model = model(&eni, rules);
            let group = model.groups.values_mut().find(|group| group.name == "web").unwrap();
            let group = std::sync::Arc::make_mut(group);
            let mut egress = group.rules[0].clone();
            egress.number = 9;
            egress.spec = RuleSpec {
                direction: Direction::Egress,
                traffic: Traffic::All,
                peer: Peer::from(parse_cidr("0.0.0.0/0").unwrap()),
            };
            if replies {
                group.rules.push(egress);
            }
            model
        };
        let numbers = |before: &Model, after: &Model| -> Vec<u32> {
            let of_host = (&Addresses::new(), 0);
            ended(before, after, of_host, &Checked::default()).into_keys().collect()
        };
        let narrow = [(4, 80, "192.0.2.0/24"), (3, 443, "0.0.0.0/0")];
        assert_eq!(numbers(&with(&all, true), &with(&all[2..], true)), [1]);
        assert_eq!(numbers(&with(&all, true), &with(&narrow, true)), [1], "of some addresses");
        assert_eq!(numbers(&with(&all, true), &with(&all, true)), [0_u32; 0]);
        // Its packets have flows.
        assert_eq!(numbers(&with(&all, false), &with(&all[2..], false)), [0_u32; 0]);
        let mut tracking = with(&all, true);
        tracking.interfaces.values_mut().for_each(|one| one.tracking = Tracking::Always);
        assert_eq!(numbers(&tracking, &with(&all[2..], true)), [0_u32; 0]);
        // Another rule allows the same.
        let more = [&all[..], &[(5, 80, "0.0.0.0/0")]].concat();
        let wide = [(5, 80, "0.0.0.0/0"), (3, 443, "0.0.0.0/0")];
        assert_eq!(numbers(&with(&more, true), &with(&wide, true)), [0_u32; 0]);
    }
}
