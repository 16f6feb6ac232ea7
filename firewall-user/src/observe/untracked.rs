//! Traffic that passes without a flow, and that a change of rules ends: nothing keeps its open connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::policy::traffic;
use firewall_ebpf::wire::protocol;

use super::denials::Denials;
use super::flows::untracked::{ports, subject};
use super::query::Checked;
use crate::model::{Interface, Model, Tracking, Traffic};
use crate::policy::explain::{Tracked, explain};
use crate::policy::verdicts::{Decided, difference};
use crate::policy::{Addresses, Probe, ResolvedRule, active_rules};

/// Pieces of changed verdicts of an interface that are examined.
const MOST: usize = 1000;

/// A block or an entry of a network ACL that denies packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    /// Its number.
    pub number: u32,
    /// Whether it denies the answers to them.
    pub is_answer: bool,
}

/// The number of a rule, and what drops untracked packets of it after a change: an entry that denies them, or `None` if
/// no rule allows them.
pub type Ended = (u32, Option<Denied>);

/// The rules whose packets pass without a flow, and of which all or some are dropped after a change, because no rule
/// allows them or a block or an entry of a network ACL denies them or their answers; with the labels of the interfaces.
/// Of traffic that a query chooses by interface, direction, protocol and port. `now` is the clock of the boot in
/// nanoseconds.
#[must_use]
pub fn ended(
    before: &Model,
    after: &Model,
    (addresses, now): (&Addresses, u64),
    query: &Checked,
) -> BTreeMap<Ended, Vec<String>> {
    let mut found: BTreeMap<Ended, Vec<String>> = BTreeMap::new();
    let rules_of = |interface: &Interface| {
        let mut rules = active_rules(before, addresses, interface);
        rules.retain(|rule| rule.end.is_none_or(|end| end > now));
        rules
    };
    for (slot, interface) in &before.interfaces {
        let Some(after_interface) =
            after.interfaces.get(slot).filter(|after| after.id == interface.id)
        else {
            continue;
        };
        let rules = rules_of(interface);
        let changed = active_rules(after, addresses, after_interface);
        let (pieces, _) = difference(&rules, &changed, MOST);
        let pieces = pieces.iter().filter(|piece| is_meant(query, interface, piece));
        let numbers: BTreeSet<u32> =
            pieces.flat_map(|piece| untracked(piece, &rules, interface.tracking)).collect();
        for number in numbers {
            found.entry((number, None)).or_default().push(interface.label());
        }
    }
    for (interfaces, pieces) in Denials::new(before, after, now).by_interfaces() {
        // Of the rules that matter, which are for all addresses, those of one family are alike.
        let pieces: BTreeMap<_, Decided> = pieces
            .filter(|piece| !piece.is_allowed)
            .map(|piece| ((piece.direction, piece.network.addr().is_ipv4(), piece.traffic), piece))
            .collect();
        for interface in interfaces {
            let label = interface.label();
            for (number, denied) in denied(&pieces, &rules_of(interface), interface, query) {
                let is_gone = found.get(&(number, None)).is_some_and(|gone| gone.contains(&label));
                if !is_gone {
                    found.entry((number, Some(denied))).or_default().push(label.clone());
                }
            }
        }
    }
    found
}

/// The rules of which pieces deny untracked packets, or the answers to them, each with the first piece that does.
fn denied(
    pieces: &BTreeMap<(Direction, bool, (u32, u32)), Decided>,
    rules: &[ResolvedRule],
    interface: &Interface,
    query: &Checked,
) -> Vec<(u32, Denied)> {
    let kinds = [true, false]
        .into_iter()
        .flat_map(|is_v4| [protocol::TCP, protocol::UDP].map(|protocol| (is_v4, protocol)));
    let of_rule = |rule: &ResolvedRule| {
        let denied = kinds.clone().find_map(|(is_v4, protocol)| {
            let ports = untracked_ports(rule, (is_v4, protocol), rules, interface.tracking)?;
            let here = pieces.iter().filter(|((_, of_v4, _), _)| *of_v4 == is_v4);
            here.map(|(_, piece)| piece).find_map(|piece| {
                let (packets, denied) = overlap(piece, rule, protocol, &ports)?;
                is_meant(query, interface, &packets).then_some(denied)
            })
        });
        Some((rule.number, denied?))
    };
    rules.iter().filter_map(of_rule).collect()
}

/// The ports of a rule of a protocol whose packets are untracked because of it.
fn untracked_ports(
    rule: &ResolvedRule,
    (is_v4, protocol): (bool, u8),
    rules: &[ResolvedRule],
    tracking: Tracking,
) -> Option<RangeInclusive<u16>> {
    // Only a rule for all addresses makes packets untracked.
    let of_all = |one: ipnet::IpNet| one.prefix_len() == 0 && one.addr().is_ipv4() == is_v4;
    if !rule.networks.iter().any(of_all) {
        return None;
    }
    let ports = match rule.traffic {
        Traffic::All => 0..=u16::MAX,
        Traffic::Tcp(ports) if protocol == protocol::TCP => ports.from..=ports.to,
        Traffic::Udp(ports) if protocol == protocol::UDP => ports.from..=ports.to,
        _ => return None,
    };
    let outside = if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let (direction, port) = (rule.direction, *ports.start());
    let probe = Probe { direction, outside, protocol, port };
    let tracked = explain(rules, tracking, probe, None).tracked;
    let is_untracked = matches!(tracked, Some(Tracked::Untracked { anywhere, .. }) if anywhere.contains(&rule.number));
    is_untracked.then_some(ports)
}

/// The packets of a rule's ports that a piece denies, or to which it denies the answers.
fn overlap(
    piece: &Decided,
    rule: &ResolvedRule,
    protocol: u8,
    of_rule: &RangeInclusive<u16>,
) -> Option<(Decided, Denied)> {
    /// The lowest port that systems choose for a client: that of Linux.
    const FIRST_EPHEMERAL: u16 = 32_768;
    let of_piece = ports_of(piece, protocol)?;
    let is_answer = rule.direction != piece.direction;
    let (low, high) = if is_answer {
        if *of_piece.end() < FIRST_EPHEMERAL {
            return None;
        }
        (*of_rule.start(), *of_rule.end())
    } else {
        (*of_rule.start().max(of_piece.start()), *of_rule.end().min(of_piece.end()))
    };
    let packets = Decided {
        direction: rule.direction,
        traffic: (traffic(protocol, low), traffic(protocol, high)),
        number: rule.number,
        ..piece.clone()
    };
    (low <= high).then_some((packets, Denied { number: piece.number, is_answer }))
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
    use super::*;
    use crate::model::{
        Acl, AclEntry, Action, InterfaceId, Peer, PortRange, RuleSpec, VpcId, parse_cidr,
    };
    use crate::observe::query::{PortFilter, Query, Recorded};
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

    /// Entries that deny: direction, traffic and network.
    type Denying<'a> = (Direction, Traffic, &'a str);

    /// Gives a device an ACL with these entries from number 50 on, before those that allow everything.
    fn shut(model: &mut Model, device: &str, entries: &[Denying]) {
        let mut acl = Acl::new_default(VpcId::default_vpc()).unwrap();
        let later = |number: u16| if number < 20_000 { number + 20_000 } else { number };
        let allowing = std::mem::take(&mut acl.entries).into_iter();
        acl.entries = allowing
            .map(|((direction, number), entry)| ((direction, later(number)), entry))
            .collect();
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
        let mut all = model.interfaces.values_mut();
        let interface = all.find(|one| one.device == device).unwrap();
        interface.acl = Some(acl.id.clone());
        model.acls.insert(acl.id.clone(), acl);
    }

    fn by_number((number, denied): Ended) -> (u32, Option<(u32, bool)>) {
        (number, denied.map(|denied| (denied.number, denied.is_answer)))
    }

    #[test]
    fn an_acl_that_denies_untracked_packets_or_their_answers_ends_connections() {
        use Direction::{Egress, Ingress};
        let eni = InterfaceId::random().unwrap();
        let before = with(&eni, &[(1, 80, "0.0.0.0/0"), (2, 22, "192.0.2.0/24")], true);
        let tcp = |from, to| Traffic::Tcp(PortRange { from, to });
        let denied = |model: &Model, entries: &[Denying]| -> Vec<_> {
            let mut model = model.clone();
            shut(&mut model, "eth0", entries);
            let ended = ended(&before, &model, (&Addresses::new(), 0), &Checked::default());
            ended.into_keys().map(by_number).collect()
        };
        for (entries, expected) in [
            (&[(Ingress, tcp(80, 80), "203.0.113.0/24")][..], Some((1, Some((50, false))))),
            (&[(Ingress, tcp(0, 100), "0.0.0.0/0")], Some((1, Some((50, false))))),
            (&[(Egress, tcp(32_768, 65_535), "203.0.113.0/24")], Some((1, Some((50, true))))),
            (&[(Egress, Traffic::All, "0.0.0.0/0")], Some((1, Some((50, true))))),
            // Of other packets: those of a flow, a port that no rule opens, ports that no client has, IPv6.
            (&[(Ingress, tcp(22, 22), "0.0.0.0/0")], None),
            (&[(Ingress, tcp(81, 90), "0.0.0.0/0")], None),
            (&[(Egress, tcp(1, 3306), "0.0.0.0/0")], None),
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
    fn each_interface_and_each_port_has_its_own_entry_however_many_there_are() {
        use Direction::{Egress, Ingress};
        let tcp = |from, to| Traffic::Tcp(PortRange { from, to });
        let eni = InterfaceId::random().unwrap();
        let mut before = with(&eni, &[(1, 70, "0.0.0.0/0")], true);
        let group = before.groups.values_mut().find(|group| group.name == "web").unwrap();
        std::sync::Arc::make_mut(group).rules[0].spec.traffic = tcp(70, 80);
        let mut second = before.interfaces.values().next().unwrap().clone();
        (second.id, second.slot) = (InterfaceId::random().unwrap(), 1);
        second.device = "eth1".to_owned();
        before.make(crate::model::Change::PutInterface(second));
        let found = |after: &Model, port: Option<u16>| -> Vec<_> {
            let port = port.map(|port| PortFilter::Ports(port..=port));
            let query = Query { port: port.into_iter().collect(), ..Query::default() };
            let query = query.check(&Recorded::default()).unwrap();
            let ended = ended(&before, after, (&Addresses::new(), 0), &query);
            ended.into_iter().map(|(one, names)| (by_number(one), names.join(" "))).collect()
        };
        // More than are examined of rules, of a port that is none of the rule's, before the one that matters.
        let many: Vec<String> =
            (0..1200_u16).map(|one| format!("10.{}.{}.0/24", one / 200, one % 200)).collect();
        let mut entries: Vec<Denying> =
            many.iter().map(|network| (Ingress, tcp(23, 23), &network[..])).collect();
        entries.push((Egress, Traffic::All, "0.0.0.0/0"));
        let mut after = before.clone();
        shut(&mut after, "eth0", &entries);
        shut(
            &mut after,
            "eth1",
            &[(Ingress, tcp(71, 72), "0.0.0.0/0"), (Ingress, tcp(80, 80), "0.0.0.0/0")],
        );
        let of_eth0 = ((1, Some((1250, true))), "eth0".to_owned());
        let of_eth1 = |number| ((1, Some((number, false))), "eth1".to_owned());
        assert_eq!(found(&after, None), [of_eth1(50), of_eth0.clone()]);
        assert_eq!(found(&after, Some(80)), [of_eth1(51), of_eth0.clone()]);
        assert_eq!(found(&after, Some(75)), [of_eth0]);
        assert_eq!(found(&after, Some(22)), []);
    }

    #[test]
    fn a_rule_for_all_addresses_whose_replies_are_allowed_has_open_connections_without_a_flow() {
        let eni = InterfaceId::random().unwrap();
        let all = [(1, 80, "0.0.0.0/0"), (2, 22, "192.0.2.0/24"), (3, 443, "0.0.0.0/0")];
        let with = |rules: &[(u32, u16, &str)], replies| with(&eni, rules, replies);
        let numbers = |before: &Model, after: &Model| -> Vec<u32> {
            let of_host = (&Addresses::new(), 0);
            ended(before, after, of_host, &Checked::default())
                .into_keys()
                .map(|(number, _)| number)
                .collect()
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
