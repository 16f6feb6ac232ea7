//! Network ACLs and blocks: they decide about every packet, also about answers.

use std::net::IpAddr;

use super::*;
use crate::model::{
    Acl, AclEntry, AclId, Action, Block, Family, IcmpMatch, ListState, PrefixList, PrefixListId,
};
use crate::observe::query::{Checked, Query, Recorded};

/// An entry: direction, number, action, traffic and network.
type Entry = (Direction, u16, Action, Traffic, &'static str);

const ALL_IN: Entry = (Direction::Ingress, 100, Action::Allow, Traffic::All, "0.0.0.0/0");
const ALL_OUT: Entry = (Direction::Egress, 100, Action::Allow, Traffic::All, "0.0.0.0/0");

const fn tcp(from: u16, to: u16) -> Traffic {
    Traffic::Tcp(PortRange { from, to })
}

/// The configuration of SSH from everywhere and everything to everywhere, with an ACL that has these entries.
fn with(eni: &InterfaceId, entries: &[Entry]) -> Model {
    let mut acl =
        Acl::deny_all(AclId::random().unwrap(), VpcId::default_vpc(), "web", BTreeMap::new());
    for &(direction, number, action, traffic, network) in entries {
        let peer = Peer::from(parse_cidr(network).unwrap());
        let entry = AclEntry { number: 0, action, traffic, peer, end: None };
        acl.entries.insert((direction, number), entry);
    }
    for (number, entry) in (1000..).zip(acl.entries.values_mut()) {
        entry.number = number;
    }
    let rule = |number, direction, traffic| Rule {
        id: format!("sgr-{number:08x}").parse().unwrap(),
        number,
        spec: RuleSpec { direction, traffic, peer: Peer::from(parse_cidr("0.0.0.0/0").unwrap()) },
        description: String::new(),
        end: None,
        tags: BTreeMap::new(),
    };
    let rules = vec![
        rule(1, Direction::Ingress, tcp(22, 22)),
        rule(2, Direction::Egress, Traffic::All),
        rule(3, Direction::Ingress, Traffic::Udp(PortRange { from: 514, to: 514 })),
        rule(4, Direction::Ingress, Traffic::Icmp(IcmpMatch::Type(8))),
    ];
    let interface =
        Attached { acl: Some(acl.id.clone()), ..Attached::new(eni.clone(), 0, "eth0", None) };
    let mut model = model_of(interface, rules);
    model.acls.insert(acl.id.clone(), acl);
    model
}

/// What a change does to observations.
fn compare(now: &Model, proposed: &Model, seen: &[Observation<'_>]) -> Comparison {
    let (now, proposed) = (ruleset(now), ruleset(proposed));
    let mut simulation = Simulation::new(&now, &proposed);
    seen.iter().for_each(|one| simulation.add(one));
    simulation.compare()
}

/// Connections as direction, port, number of them, and what denies them.
fn listed(list: &[Connection]) -> Vec<(&str, u16, u64, String)> {
    let of_one = |one: &Connection| {
        let denied = one.denied_by.as_ref().map_or_else(String::new, |denial| {
            let place = match denial.entry.acl {
                Some(_) => denial.entry.name.split_once(' ').unwrap().1,
                None => "block",
            };
            format!("{place}{}", if denial.is_answer { " of answers" } else { "" })
        });
        (one.probe.direction.name(), one.probe.port, one.connections, denied)
    };
    list.iter().map(of_one).collect::<Vec<_>>()
}

fn ssh(id: &str, port: u16) -> Subject<'_> {
    Subject { source_port: Some(port), ..subject(id, "192.0.2.7", 22) }
}

#[test]
fn a_live_flow_is_cut_by_an_entry_that_denies_it_or_the_answers() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let now = with(&eni, &[ALL_IN, ALL_OUT]);
    let live = seen(ssh(&id, 40_000), Source::Live, Seen::Passed);
    let deny = (Direction::Ingress, 90, Action::Deny, tcp(22, 22), "192.0.2.0/24");
    let of_others = (Direction::Ingress, 90, Action::Deny, tcp(22, 22), "203.0.113.0/24");
    let late = (Direction::Ingress, 110, Action::Deny, tcp(22, 22), "192.0.2.0/24");
    let high = (Direction::Egress, 100, Action::Allow, tcp(32_768, 65_535), "0.0.0.0/0");
    let low = (Direction::Egress, 100, Action::Allow, tcp(1, 1023), "0.0.0.0/0");
    for (entries, expected) in [
        (&[ALL_IN, ALL_OUT, deny][..], Some("ingress 90")),
        (&[ALL_IN, ALL_OUT, of_others], None),
        (&[ALL_IN, ALL_OUT, late], None),
        (&[ALL_OUT], Some("ingress 32767")),
        (&[ALL_IN], Some("egress 32767 of answers")),
        (&[ALL_IN, high], None),
        (&[ALL_IN, low], Some("egress 32767 of answers")),
    ] {
        let found = compare(&now, &with(&eni, entries), &[live]);
        let expected = expected.map(|denied| ("ingress", 22, 1, denied.to_owned()));
        assert_eq!(listed(&found.breaks), Vec::from_iter(expected), "{entries:?}");
        assert!(found.breaks.iter().all(|one| one.is_cut && one.nearest_miss.is_none()));
    }
}

#[test]
fn only_the_connections_whose_answers_are_denied_break() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let high = (Direction::Egress, 100, Action::Allow, tcp(50_000, 65_535), "0.0.0.0/0");
    let flows =
        [40_000, 45_000, 55_000].map(|port| seen(ssh(&id, port), Source::Live, Seen::Passed));
    let found = compare(&with(&eni, &[ALL_IN, ALL_OUT]), &with(&eni, &[ALL_IN, high]), &flows);
    assert_eq!(listed(&found.breaks), [("ingress", 22, 2, "egress 32767 of answers".to_owned())]);
    assert_eq!(found.compared, 2);
}

#[test]
fn what_nobody_answers_needs_no_entry_for_answers() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let syslog = Subject { protocol: Some(17), ..subject(&id, "192.0.2.7", 514) };
    // As a message of ICMP that has no reply: a router's redirect.
    let redirect = Subject {
        protocol: Some(1),
        icmp: Some((5, 1)),
        source_port: None,
        destination_port: None,
        ..subject(&id, "192.0.2.7", 0)
    };
    let echo = Subject { icmp: Some((8, 0)), ..redirect };
    let without_ports = Subject { source_port: Some(0), ..ssh(&id, 0) };
    let (now, proposed) = (with(&eni, &[ALL_IN, ALL_OUT]), with(&eni, &[ALL_IN]));
    for (subject, is_answered, breaks) in [
        (syslog, false, 0),
        (syslog, true, 1),
        (redirect, true, 0),
        (echo, true, 1),
        (without_ports, true, 0),
    ] {
        let one = Observation { is_answered, ..seen(subject, Source::Live, Seen::Passed) };
        let found = compare(&now, &proposed, &[one]);
        assert_eq!(found.breaks.len(), breaks, "{subject:?}");
    }
}

#[test]
fn what_an_acl_or_a_block_dropped_would_pass_without_it() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let open = with(&eni, &[ALL_IN, ALL_OUT]);
    let answers = with(&eni, &[ALL_IN]);
    let queries = with(&eni, &[ALL_OUT]);
    let mut blocked = open.clone();
    blocked.make(Change::AddBlock(Block {
        number: 2000,
        target: Peer::from(parse_cidr("192.0.2.0/24").unwrap()),
        interface: None,
        reason: String::new(),
        end: None,
        created: 0,
    }));

    let syn = Subject { reason: Some(Reason::Acl), ..ssh(&id, 40_000) };
    let syn_ack = answer::turned(&syn);
    let blocked_syn = Subject { reason: Some(Reason::Blocked), ..syn };
    let udp = Subject {
        protocol: Some(17),
        source_port: Some(53),
        destination_port: Some(40_000),
        ..syn
    };
    let outside: IpAddr = "192.0.2.7".parse().unwrap();
    let echo_reply = Subject {
        protocol: Some(1),
        icmp: Some((0, 0)),
        source_port: None,
        destination_port: None,
        ..syn_ack
    };
    for (now, subject, opens, expected) in [
        (&queries, syn, Some(true), ("ingress", 22, "ingress 32767")),
        (&answers, syn_ack, Some(false), ("ingress", 22, "egress 32767 of answers")),
        (&answers, syn_ack, None, ("ingress", 22, "egress 32767 of answers")),
        (&queries, udp, None, ("egress", 53, "ingress 32767 of answers")),
        (&answers, echo_reply, None, ("ingress", 0x0800, "egress 32767 of answers")),
        (&blocked, blocked_syn, Some(true), ("ingress", 22, "block")),
    ] {
        let subject = answer::opened(subject, opens);
        let one = seen(subject, Source::Journal, Seen::Dropped);
        let (direction, port, denied) = expected;
        let expected = [(direction, port, 1, denied.to_owned())];
        let found = compare(now, &open, &[one]);
        assert_eq!(listed(&found.passes), expected, "{subject:?}");
        assert_eq!(found.passes[0].probe.outside, outside);
        assert_eq!(found.breaks, []);
        // And nothing would change while what drops it stays.
        let same = compare(now, now, &[one]);
        assert_eq!((same.passes.len(), same.breaks.len(), same.compared), (0, 0, 1));
        assert_eq!(compare(&open, &open, &[one]).passes_already, 1);
    }
    // The rules do not allow it either.
    let telnet = Subject { destination_port: Some(23), ..syn };
    let one = seen(telnet, Source::Journal, Seen::Dropped);
    assert_eq!(compare(&queries, &open, &[one]).passes, []);
}

#[test]
fn a_flow_that_no_rule_allows_any_more_ends_with_an_entry() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let telnet = seen(subject(&id, "192.0.2.7", 23), Source::Live, Seen::Passed);
    let (now, denied) = (with(&eni, &[ALL_IN, ALL_OUT]), with(&eni, &[ALL_OUT]));
    let found = compare(&now, &denied, &[telnet]);
    assert_eq!(listed(&found.breaks), [("ingress", 23, 1, "ingress 32767".to_owned())]);
    let found = compare(&now, &now, &[telnet]);
    assert_eq!((found.breaks.len(), found.broken_already), (0, 1));
}

#[test]
fn an_entry_that_is_over_denies_nothing() {
    let eni = InterfaceId::random().unwrap();
    let deny = (Direction::Ingress, 90, Action::Deny, tcp(22, 22), "192.0.2.0/24");
    let mut model = with(&eni, &[ALL_IN, ALL_OUT, deny]);
    let moment = crate::model::Moment { boottime: 0, wall: 0 };
    let end = crate::model::End::after(std::time::Duration::from_secs(5), moment).unwrap();
    let acl = model.acls.values_mut().next().unwrap();
    acl.entries.get_mut(&(Direction::Ingress, 90)).unwrap().end = Some(end);
    let probe = probe(&ssh("", 40_000)).unwrap();
    let denies =
        |now| Ruleset::new(&model, &Addresses::new(), now).denies(eni.as_str(), probe).is_some();
    assert_eq!((denies(4_000_000_000), denies(5_000_000_000)), (true, false));
}

#[test]
fn answers_to_several_clients_are_as_many_connections() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let (open, answers) = (with(&eni, &[ALL_IN, ALL_OUT]), with(&eni, &[ALL_IN]));
    let dropped = [40_001, 40_002, 40_002].map(|port| {
        let syn = Subject { reason: Some(Reason::Acl), ..ssh(&id, port) };
        let syn_ack = answer::turned(&syn);
        seen(answer::opened(syn_ack, Some(false)), Source::Journal, Seen::Dropped)
    });
    let found = compare(&answers, &open, &dropped);
    assert_eq!((found.passes[0].connections, found.passes[0].records), (2, 3));
}

#[test]
fn an_answer_that_a_flow_log_has_as_rejected_would_pass() {
    let eni = InterfaceId::random().unwrap();
    let (open, answers) = (with(&eni, &[ALL_IN, ALL_OUT]), with(&eni, &[ALL_IN]));
    let (now, proposed) = (ruleset(&answers), ruleset(&open));
    let addresses: Addresses = [(0, vec!["198.51.100.1/32".parse().unwrap()])].into();
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("flows.log");
    let header = "interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action flow-direction \
                  tcp-flags reason";
    let query = Query { direction: vec![Direction::Ingress], ..Query::default() };
    // With a reason, and as AWS has it: rules drop no SYN-ACK of an open connection.
    for (line, port) in [
        ("514 40000 17 1 100 10 20 REJECT egress 0 acl", 514),
        ("22 40000 6 1 100 10 20 REJECT egress 18 acl", 22),
        ("22 40000 6 1 100 10 20 REJECT egress 18 -", 22),
    ] {
        let text = format!("{header}\n{eni} 198.51.100.1 192.0.2.7 {line}\n");
        std::fs::write(&path, text).unwrap();
        // A filter is about the connection.
        for query in [Checked::default(), query.clone().check(&Recorded::default()).unwrap()] {
            let mut simulation = Simulation::new(&now, &proposed);
            let known = Known::new(&answers, &addresses);
            simulation.add_flow_logs(std::slice::from_ref(&path), 0, &query, &known).unwrap();
            let found = simulation.compare();
            let expected = ("ingress", port, 1, "egress 32767 of answers".to_owned());
            assert_eq!(listed(&found.passes), [expected], "{line}");
        }
    }
}

#[test]
fn a_capture_tells_who_is_answered_and_what_needs_no_rule_is_left_out() {
    let eni = InterfaceId::random().unwrap();
    let (now, proposed) = (with(&eni, &[ALL_IN, ALL_OUT]), with(&eni, &[ALL_IN]));
    let addresses: Addresses = [(0, vec!["198.51.100.1/32".parse().unwrap()])].into();
    let ip = |source, destination| etherparse::PacketBuilder::ipv4(source, destination, 64);
    let (client, other, server) = ([192, 0, 2, 7], [192, 0, 2, 8], [198, 51, 100, 1]);
    let file = capture(&[
        written(|to| ip(client, server).udp(40_000, 514).write(to, &[])),
        written(|to| ip(client, server).udp(40_000, 514).write(to, &[])),
        written(|to| ip(other, server).udp(40_000, 514).write(to, &[])),
        written(|to| ip(server, other).udp(514, 40_000).write(to, &[])),
        written(|to| ip(server, [198, 51, 100, 254]).udp(68, 67).write(to, &[])),
    ]);
    let (now, rules) = ((&now, ruleset(&now)), ruleset(&proposed));
    let mut simulation = Simulation::new(&now.1, &rules);
    let window = (0, &Checked::default());
    let packets = simulation.add_capture(file.path(), (now.0, &addresses), window).unwrap();
    assert_eq!((packets.opening, packets.others, packets.elsewhere), (3, 2, 0));
    let found = simulation.compare();
    assert_eq!(listed(&found.breaks), [("ingress", 514, 1, "egress 32767 of answers".to_owned())]);
    assert_eq!(found.breaks[0].source.to_string(), "192.0.2.8");
    assert_eq!(found.compared, 2);
}

#[test]
fn blocks_of_the_host_of_an_interface_and_of_lists_deny() {
    let eni = InterfaceId::random().unwrap();
    let networks = ["192.0.2.0/25", "203.0.113.0/24"];
    let list = PrefixList {
        id: PrefixListId::random().unwrap(),
        name: "bad".to_owned(),
        family: Family::Ipv4,
        version: 1,
        entries: networks.iter().map(|one| (one.parse().unwrap(), String::new())).collect(),
        max_entries: None,
        is_aws: false,
        state: ListState::Created,
        tags: BTreeMap::new(),
    };
    let network = |text: &str| Peer::from(parse_cidr(text).unwrap());
    let of_list = Peer::PrefixList(list.id.clone());
    let mut open = with(&eni, &[ALL_IN, ALL_OUT]);
    open.make(Change::CreatePrefixList(list));
    let live = seen(ssh(eni.as_str(), 40_000), Source::Live, Seen::Passed);
    for (target, is_blocked) in [
        (of_list, true),
        (network("192.0.2.7/32"), true),
        (network("192.0.0.0/8"), true),
        (network("192.0.2.8/32"), false),
        (network("::/1"), false),
    ] {
        for interface in [None, Some(eni.clone()), Some(InterfaceId::random().unwrap())] {
            let is_here = interface.as_ref().is_none_or(|interface| *interface == eni);
            let mut blocked = open.clone();
            blocked.make(Change::AddBlock(Block {
                number: 2000,
                target: target.clone(),
                interface,
                reason: String::new(),
                end: None,
                created: 0,
            }));
            let found = compare(&open, &blocked, &[live]);
            let expected = (is_blocked && is_here).then(|| ("ingress", 22, 1, "block".to_owned()));
            assert_eq!(listed(&found.breaks), Vec::from_iter(expected), "{target:?}");
        }
    }
}
