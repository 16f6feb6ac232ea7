//! Traffic that passes without a flow, and that a change of rules ends: nothing keeps its open connections.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use firewall_ebpf::abi::policy::traffic;
use firewall_ebpf::wire::protocol;

use super::flows::untracked::{ports, subject};
use super::query::Checked;
use crate::model::{Interface, Model, Tracking, Traffic};
use crate::policy::explain::{Tracked, explain};
use crate::policy::filter::denying_entries;
use crate::policy::verdicts::{Decided, denials, difference};
use crate::policy::{Addresses, Probe, ResolvedRule, active_rules};

/// Pieces of changed verdicts of an interface that are examined.
const MOST: usize = 1000;

/// What a change does to the untracked packets of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The labels of the interfaces.
    pub interfaces: Vec<String>,
    /// The first block or entry of a network ACL that denies some of them, or of the answers to them; `None`: no rule
    /// allows them.
    pub denied: Option<Denied>,
}

/// A block or an entry of a network ACL that denies packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Its number.
    pub number: u32,
    /// Whether it denies the answers to them.
    pub is_answer: bool,
}

/// The rules whose packets pass without a flow, and of which some are dropped after a change, because no rule allows
/// them or a block or an entry of a network ACL denies them or their answers; by number. Of traffic that a query chooses
/// by interface, direction, protocol and port. `now` is the clock of the boot in nanoseconds.
#[must_use]
pub fn ended(
    before: &Model,
    after: &Model,
    (addresses, now): (&Addresses, u64),
    query: &Checked,
) -> BTreeMap<u32, Ended> {
    let mut found: BTreeMap<u32, Ended> = BTreeMap::new();
    for (slot, interface) in &before.interfaces {
        let Some(after_interface) =
            after.interfaces.get(slot).filter(|after| after.id == interface.id)
        else {
            continue;
        };
        let lasts = |end: Option<u64>| end.is_none_or(|end| end > now);
        let mut rules = active_rules(before, addresses, interface);
        rules.retain(|rule| lasts(rule.end));
        let changed = active_rules(after, addresses, after_interface);
        let (pieces, _) = difference(&rules, &changed, MOST);
        let pieces = pieces.iter().filter(|piece| is_meant(query, interface, piece));
        let mut numbers: BTreeMap<u32, Option<Denied>> = pieces
            .flat_map(|piece| untracked(piece, &rules, interface.tracking))
            .map(|number| (number, None))
            .collect();
        let entries = |model, interface| {
            let mut entries = denying_entries(model, interface);
            entries.retain(|entry| lasts(entry.end));
            entries
        };
        let (pieces, _) =
            denials(&entries(before, interface), &entries(after, after_interface), MOST);
        for (packets, denied) in denied(&pieces, &rules, interface.tracking) {
            if is_meant(query, interface, &packets) {
                numbers.entry(packets.number).or_insert(Some(denied));
            }
        }
        for (number, denied) in numbers {
            let ended = found.entry(number).or_default();
            ended.interfaces.push(interface.label());
            ended.denied = ended.denied.or(denied);
        }
    }
    found
}

/// The untracked packets of each rule that pieces deny, or to which they deny the answers; of each rule the first ones.
fn denied(
    pieces: &[Decided],
    rules: &[ResolvedRule],
    tracking: Tracking,
) -> Vec<(Decided, Denied)> {
    let mut found = Vec::new();
    let pieces: Vec<&Decided> = pieces.iter().filter(|piece| !piece.is_allowed).collect();
    // Only rules for all addresses make packets untracked.
    let of_all = |rule: &&ResolvedRule| rule.networks.iter().any(|one| one.prefix_len() == 0);
    for rule in rules.iter().filter(of_all) {
        let of_rule = pieces.iter().find_map(|piece| {
            let of_protocol = |protocol| denied_of_rule(piece, rule, protocol, rules, tracking);
            [protocol::TCP, protocol::UDP].into_iter().find_map(of_protocol)
        });
        found.extend(of_rule);
    }
    found
}

fn denied_of_rule(
    piece: &Decided,
    rule: &ResolvedRule,
    protocol: u8,
    rules: &[ResolvedRule],
    tracking: Tracking,
) -> Option<(Decided, Denied)> {
    /// The lowest port that a client's system chooses, whatever it is.
    const FIRST_EPHEMERAL: u16 = 1024;
    let of_rule = match rule.traffic {
        Traffic::All => 0..=u16::MAX,
        Traffic::Tcp(ports) if protocol == protocol::TCP => ports.from..=ports.to,
        Traffic::Udp(ports) if protocol == protocol::UDP => ports.from..=ports.to,
        _ => return None,
    };
    let of_piece = ports_of(piece, protocol)?;
    let is_answer = rule.direction != piece.direction;
    let (low, high) = if is_answer {
        if *of_piece.end() < FIRST_EPHEMERAL {
            return None;
        }
        of_rule.into_inner()
    } else {
        (*of_rule.start().max(of_piece.start()), *of_rule.end().min(of_piece.end()))
    };
    if low > high {
        return None;
    }
    let (direction, outside) = (rule.direction, piece.network.addr());
    let probe = Probe { direction, outside, protocol, port: low };
    let Some(Tracked::Untracked { anywhere, .. }) = explain(rules, tracking, probe, None).tracked
    else {
        return None;
    };
    let packets = Decided {
        direction,
        traffic: (traffic(protocol, low), traffic(protocol, high)),
        number: rule.number,
        ..piece.clone()
    };
    let denied = Denied { number: piece.number, is_answer };
    anywhere.contains(&rule.number).then_some((packets, denied))
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
    use crate::model::{
        Acl, AclEntry, Action, InterfaceId, Peer, PortRange, RuleSpec, VpcId, parse_cidr,
    };
    use crate::observe::simulate::tests::model;

    /// With a rule that lets everything out, if replies are to be allowed.
    fn with(eni: &InterfaceId, rules: &[(u32, u16, &str)], replies: bool) -> Model {
        let mut model = model(eni, rules);
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
    }

    #[test]
    fn an_acl_that_denies_untracked_packets_or_their_answers_ends_connections() {
        use Direction::{Egress, Ingress};
        let eni = InterfaceId::random().unwrap();
        let before = with(&eni, &[(1, 80, "0.0.0.0/0"), (2, 22, "192.0.2.0/24")], true);
        let tcp = |from, to| Traffic::Tcp(PortRange { from, to });
        let denied = |model: &Model, entries: &[(Direction, Traffic, &str)]| -> Vec<_> {
            let mut model = model.clone();
            let mut acl = Acl::new_default(VpcId::default_vpc()).unwrap();
            for (number, &(direction, traffic, network)) in (50..).zip(entries) {
                let entry = AclEntry {
                    number: number.into(),
                    action: Action::Deny,
                    traffic,
                    peer: Peer::from(parse_cidr(network).unwrap()),
                    end: None,
                };
                acl.entries.insert((direction, number), entry);
            }
            model.interfaces.values_mut().for_each(|one| one.acl = Some(acl.id.clone()));
            model.acls.insert(acl.id.clone(), acl);
            let ended = ended(&before, &model, (&Addresses::new(), 0), &Checked::default());
            let of_rule = |(number, ended): (u32, Ended)| {
                (number, ended.denied.map(|denied| (denied.number, denied.is_answer)))
            };
            ended.into_iter().map(of_rule).collect()
        };
        for (entries, expected) in [
            (&[(Ingress, tcp(80, 80), "203.0.113.0/24")][..], Some((1, Some((50, false))))),
            (&[(Ingress, tcp(0, 100), "0.0.0.0/0")], Some((1, Some((50, false))))),
            (&[(Egress, tcp(1024, 65_535), "203.0.113.0/24")], Some((1, Some((50, true))))),
            (&[(Egress, Traffic::All, "0.0.0.0/0")], Some((1, Some((50, true))))),
            // Of other packets: those of a flow, a port that no rule opens, ports that no client has, IPv6.
            (&[(Ingress, tcp(22, 22), "0.0.0.0/0")], None),
            (&[(Ingress, tcp(81, 90), "0.0.0.0/0")], None),
            (&[(Egress, tcp(1, 1023), "0.0.0.0/0")], None),
            (&[(Ingress, tcp(80, 80), "::/0")], None),
            (&[], None),
        ] {
            assert_eq!(denied(&before, entries), Vec::from_iter(expected), "{entries:?}");
        }
        // No rule allows them: that says it.
        let without = with(&eni, &[(2, 22, "192.0.2.0/24")], true);
        let all = [(Ingress, tcp(80, 80), "0.0.0.0/0")];
        assert_eq!(denied(&without, &all), [(1, None)]);
    }

    #[test]
    fn a_rule_for_all_addresses_whose_replies_are_allowed_has_open_connections_without_a_flow() {
        let eni = InterfaceId::random().unwrap();
        let all = [(1, 80, "0.0.0.0/0"), (2, 22, "192.0.2.0/24"), (3, 443, "0.0.0.0/0")];
        let with = |rules: &[(u32, u16, &str)], replies| with(&eni, rules, replies);
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
