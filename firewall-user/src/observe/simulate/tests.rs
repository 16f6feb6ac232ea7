use firewall_ebpf::abi::interface::Direction;

use super::document::FilesCoverage;
use super::*;
use crate::model::{
    Change, Group, GroupId, Interface as Attached, InterfaceId, Model, Peer, PortRange, Rule,
    RuleId, RuleSpec, Traffic, VpcId, parse_cidr,
};
use crate::policy::Addresses;

mod acls;

/// A model with one interface, whose group has TCP rules with these numbers, first ports and networks.
pub(in crate::observe) fn model(id: &InterfaceId, rules: &[(u32, u16, &str)]) -> Model {
    let rule = |&(number, port, cidr): &(u32, u16, &str)| Rule {
        id: format!("sgr-{number:08x}").parse().unwrap(),
        number,
        spec: RuleSpec {
            direction: Direction::Ingress,
            traffic: Traffic::Tcp(PortRange { from: port, to: port }),
            peer: Peer::from(parse_cidr(cidr).unwrap()),
        },
        description: String::new(),
        end: None,
        tags: BTreeMap::new(),
    };
    let interface = Attached::new(id.clone(), 0, "eth0", None);
    model_of(interface, rules.iter().map(rule).collect())
}

/// A model with one interface, whose group `web` has these rules.
pub(in crate::observe) fn model_of(interface: Attached, rules: Vec<Rule>) -> Model {
    let group: GroupId = "sg-00000001".parse().unwrap();
    let mut model = Model::default();
    model.make(Change::CreateGroup(Group {
        id: group.clone(),
        vpc: VpcId::default_vpc(),
        name: "web".to_owned(),
        description: "web".to_owned(),
        rules,
        tags: BTreeMap::new(),
    }));
    model.make(Change::PutInterface(Attached { groups: vec![group], ..interface }));
    model
}

fn ruleset(model: &Model) -> Ruleset {
    Ruleset::new(model, &Addresses::new(), 0)
}

/// A TCP connection from an address to a port.
pub(in crate::observe) fn subject<'a>(id: &'a str, source: &str, port: u16) -> Subject<'a> {
    Subject {
        network_interface_id: id,
        device: "eth0",
        direction: Some(Direction::Ingress),
        protocol: Some(6),
        source: Some(source.parse().unwrap()),
        destination: Some("198.51.100.1".parse().unwrap()),
        source_port: Some(40_000),
        destination_port: Some(port),
        ..Subject::default()
    }
}

const fn seen(subject: Subject<'_>, source: Source, seen: Seen) -> Observation<'_> {
    Observation {
        subject,
        source,
        seen,
        is_answered: true,
        records: 1,
        packets: 2,
        bytes: 100,
        first: Some(10),
        last: Some(20),
    }
}

#[test]
fn what_breaks_what_passes_and_what_is_unused_are_found() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let now = model(&eni, &[(1, 22, "192.0.2.0/24"), (2, 80, "0.0.0.0/0")]);
    let proposed =
        model(&eni, &[(2, 80, "0.0.0.0/0"), (3, 443, "0.0.0.0/0"), (4, 8443, "10.0.0.0/8")]);
    let (now, proposed) = (ruleset(&now), ruleset(&proposed));
    let mut simulation = Simulation::new(&now, &proposed);
    let no_rule = |subject| Subject { reason: Some(Reason::NoRule), ..subject };
    for one in [
        seen(subject(&id, "192.0.2.7", 22), Source::Live, Seen::Passed),
        seen(subject(&id, "192.0.2.7", 80), Source::Live, Seen::Passed),
        seen(no_rule(subject(&id, "203.0.113.5", 443)), Source::Journal, Seen::Dropped),
        seen(no_rule(subject(&id, "203.0.113.5", 443)), Source::Journal, Seen::Dropped),
        seen(no_rule(subject(&id, "203.0.113.5", 23)), Source::Journal, Seen::Dropped),
        seen(no_rule(subject(&id, "203.0.113.5", 80)), Source::Journal, Seen::Dropped),
        seen(
            Subject { reason: Some(Reason::TcpFlags), ..subject(&id, "203.0.113.5", 443) },
            Source::Journal,
            Seen::Dropped,
        ),
        seen(subject("eni-0", "192.0.2.7", 22), Source::FlowLog, Seen::Passed),
    ] {
        simulation.add(&one);
    }
    let found = simulation.compare();
    let breaks: Vec<_> = found.breaks.iter().map(|one| (one.seen_in, one.probe.port)).collect();
    assert_eq!(breaks, [(Source::Live, 22)]);
    assert_eq!(found.breaks[0].rule.as_ref().unwrap().security_group_rule_id, "sgr-00000001");
    let miss = found.breaks[0].nearest_miss.as_ref().unwrap();
    assert_eq!((miss.field.as_str(), miss.rule_value.as_str()), ("port", "80"));
    let passes: Vec<_> =
        found.passes.iter().map(|one| (one.probe.port, one.connections, one.packets)).collect();
    assert_eq!(passes, [(443, 1, 4)]);
    assert_eq!(found.passes[0].records, 2, "one connection that was tried twice");
    assert_eq!(found.passes[0].rule.as_ref().unwrap().security_group_rule_id, "sgr-00000003");
    assert_eq!(found.passes_already, 1);
    assert_eq!((found.not_simulated, found.elsewhere), (2, 2));
    let unused: Vec<_> = found.unused.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(unused, ["ingress tcp 8443 from 10.0.0.0/8"]);
}

/// What a simulation finds in flow logs of these lines, if all rules but that of port 80 go; `ID` is the interface's id.
fn of_flow_logs(header: &str, lines: &[&str]) -> (Comparison, FilesCoverage) {
    let eni = InterfaceId::random().unwrap();
    let now = model(&eni, &[(1, 22, "192.0.2.0/24"), (2, 80, "0.0.0.0/0"), (3, 53, "0.0.0.0/0")]);
    let proposed = model(&eni, &[(2, 80, "0.0.0.0/0")]);
    let addresses: Addresses = [(0, vec!["198.51.100.1/32".parse().unwrap()])].into();
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("flows.log");
    let text = [&[header], lines].concat().join("\n").replace("ID", eni.as_str());
    std::fs::write(&path, text).unwrap();
    let (query, known) = (crate::observe::query::Checked::default(), Known::new(&now, &addresses));
    let (now, proposed) = (ruleset(&now), ruleset(&proposed));
    let mut simulation = Simulation::new(&now, &proposed);
    let coverage = simulation.add_flow_logs(&[path], 0, &query, &known).unwrap();
    (simulation.compare(), coverage)
}

/// The ports of the connections that break, with connections, records and packets.
fn breaks(found: &Comparison) -> Vec<(u16, u64, u64, u64)> {
    let of = |one: &Connection| (one.probe.port, one.connections, one.records, one.packets);
    found.breaks.iter().map(of).collect()
}

const FIELDS: &str =
    "interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action";

#[test]
fn both_directions_of_a_connection_in_a_flow_log_are_one_and_any_record_tells_who_opened_it() {
    let header = format!("{FIELDS} flow-direction tcp-flags");
    let (c, s) = ("192.0.2.7", "198.51.100.1");
    let request = |flags: &str| format!("ID {c} {s} 40000 22 6 2 100 10 20 ACCEPT ingress {flags}");
    let reply = |flags: &str| format!("ID {s} {c} 22 40000 6 2 100 10 20 ACCEPT egress {flags}");
    let [syn, more, answer, rest] = [request("2"), request("0"), reply("18"), reply("1")];
    for lines in [&[&syn[..], &more, &answer, &rest][..], &[&rest, &answer, &more, &syn]] {
        let (found, coverage) = of_flow_logs(&header, lines);
        assert_eq!(breaks(&found), [(22, 1, 4, 8)]);
        assert_eq!((found.breaks[0].device.as_str(), coverage.records), ("eth0", 4));
    }
    // Only answers were seen; those of port 80 are to a rule that stays.
    let (found, _) = of_flow_logs(&header, &[&rest, &rest.replace(" 22 ", " 80 ")]);
    assert_eq!(breaks(&found), [(22, 1, 2, 4)].map(|(port, one, _, _)| (port, one, 1, 2)));
    // The flags say otherwise than the ports.
    let low = format!("ID {c} {s} 20 22 6 2 100 10 20 ACCEPT ingress 2");
    let back = format!("ID {s} {c} 22 20 6 2 100 10 20 ACCEPT egress 0");
    assert_eq!(breaks(&of_flow_logs(&header, &[&back, &low]).0), [(22, 1, 2, 4)]);
}

#[test]
fn the_direction_of_a_record_without_one_is_told_by_the_address_of_the_interface() {
    let (c, s) = ("192.0.2.7", "198.51.100.1");
    let lines = |own: &str| {
        [
            format!("ID {c} {own} 40000 22 6 2 100 10 20 ACCEPT"),
            format!("ID {own} {c} 22 40000 6 2 100 10 20 ACCEPT"),
            format!("ID 192.0.2.8 {own} 40000 22 6 2 100 10 20 ACCEPT"),
        ]
    };
    // Its own address, and one that it had before, which all records have.
    for own in [s, "198.51.100.9"] {
        let lines = lines(own);
        let (found, coverage) = of_flow_logs(FIELDS, &lines.each_ref().map(|line| &line[..]));
        assert_eq!(breaks(&found), [(22, 1, 2, 4), (22, 1, 1, 2)], "{own}");
        assert_eq!((found.not_simulated, coverage.without_direction), (0, 0), "{own}");
    }
    // It may be either.
    let [request, reply, _] = lines("198.51.100.9");
    let (found, coverage) = of_flow_logs(FIELDS, &[&request, &reply]);
    assert_eq!((breaks(&found), coverage.without_direction), (vec![], 2));
    assert_eq!((found.not_simulated, found.elsewhere), (0, 0));
    // Of another interface.
    let (found, coverage) = of_flow_logs(FIELDS, &[&request.replace("ID", "eni-00000001")]);
    assert_eq!((found.elsewhere, coverage.without_direction), (2, 0));
}

#[test]
fn dropped_packets_of_a_flow_log_are_what_their_sender_has_opened() {
    let (c, s) = ("192.0.2.7", "198.51.100.1");
    let lines = [
        format!("ID {s} {c} 22 40000 6 2 100 10 20 REJECT"),
        format!("ID {c} {s} 40000 80 6 1 100 10 20 REJECT"),
        format!("ID {c} {s} 40000 80 6 1 100 20 30 REJECT"),
    ];
    let (found, _) = of_flow_logs(FIELDS, &lines.each_ref().map(|line| &line[..]));
    assert_eq!((breaks(&found), found.passes_already, found.compared), (vec![], 1, 2));
}

#[test]
fn a_rule_with_a_recent_hit_is_used_whatever_was_seen() {
    let eni = InterfaceId::random().unwrap();
    let all = model(&eni, &[(1, 22, "192.0.2.0/24"), (2, 80, "0.0.0.0/0")]);
    let all = ruleset(&all);
    let mut simulation = Simulation::new(&all, &all);
    assert_eq!(simulation.compare().unused.len(), 2);
    simulation.add_used([2, 9]);
    assert_eq!(simulation.compare().unused.len(), 1);
}

#[test]
fn a_rule_that_is_over_decides_nothing() {
    let eni = InterfaceId::random().unwrap();
    let mut model = model(&eni, &[(1, 22, "192.0.2.0/24")]);
    let group: GroupId = "sg-00000001".parse().unwrap();
    let rule: RuleId = "sgr-00000001".parse().unwrap();
    let moment = crate::model::Moment { boottime: 0, wall: 0 };
    let end = crate::model::End::after(std::time::Duration::from_secs(5), moment).unwrap();
    model.make(Change::SetRuleEnd { group, rule, end: Some(end) });
    let of =
        |now| Ruleset::new(&model, &Addresses::new(), now).rules(&eni.to_string()).unwrap().len();
    assert_eq!((of(4_000_000_000), of(5_000_000_000)), (1, 0));
}

/// The bytes that a builder writes.
fn written<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut packet = Vec::new();
    write(&mut packet).unwrap();
    packet
}

/// A pcap file of packets that begin with the IP header (101).
fn capture(packets: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let mut bytes: Vec<u8> = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        bytes.extend(word.to_le_bytes());
    }
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap();
        for word in [100, 0, length, length] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(packet);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_capture_has_the_packets_that_open_connections() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let now = model(&eni, &[(1, 22, "192.0.2.0/24")]);
    let proposed = model(&eni, &[(2, 80, "0.0.0.0/0")]);
    let addresses: Addresses = [(0, vec!["198.51.100.1/32".parse().unwrap()])].into();
    let ip = |source, destination| etherparse::PacketBuilder::ipv4(source, destination, 64);
    let (client, server, other) = ([192, 0, 2, 7], [198, 51, 100, 1], [203, 0, 113, 5]);
    let file = capture(&[
        written(|to| ip(client, server).tcp(40_000, 22, 1, 100).syn().write(to, &[])),
        written(|to| ip(server, client).tcp(22, 40_000, 1, 100).syn().ack(2).write(to, &[])),
        written(|to| ip(client, server).tcp(40_000, 22, 2, 100).ack(2).write(to, &[])),
        written(|to| ip(other, server).tcp(40_000, 80, 1, 100).syn().write(to, &[])),
        written(|to| ip(other, client).tcp(40_000, 80, 1, 100).syn().write(to, &[])),
    ]);
    let (now_rules, proposed) = (ruleset(&now), ruleset(&proposed));
    let mut simulation = Simulation::new(&now_rules, &proposed);
    let window = (0, &crate::observe::query::Checked::default());
    let packets = simulation.add_capture(file.path(), (&now, &addresses), window).unwrap();
    assert_eq!((packets.opening, packets.others, packets.elsewhere), (2, 2, 1));
    let found = simulation.compare();
    let ports = |list: &[Connection]| -> Vec<_> {
        list.iter().map(|one| (one.interface.clone(), one.probe.port, one.seen_in)).collect()
    };
    assert_eq!(ports(&found.breaks), [(id.clone(), 22, Source::Capture)]);
    assert_eq!(ports(&found.passes), [(id, 80, Source::Capture)]);
}

#[test]
fn what_passed_breaks_also_where_the_same_was_dropped_before() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let with = ruleset(&model(&eni, &[(1, 22, "192.0.2.0/24")]));
    let without = ruleset(&model(&eni, &[]));
    let ssh = |verdict| seen(subject(&id, "192.0.2.7", 22), Source::FlowLog, verdict);
    for order in [[Seen::Dropped, Seen::Passed], [Seen::Passed, Seen::Dropped]] {
        let compare = |now, proposed| {
            let mut simulation = Simulation::new(now, proposed);
            order.iter().for_each(|verdict| simulation.add(&ssh(*verdict)));
            simulation.compare()
        };
        let breaks = compare(&with, &without);
        assert_eq!(breaks.breaks.len(), 1, "{order:?}");
        assert_eq!((breaks.breaks[0].connections, breaks.breaks[0].packets), (1, 2), "{order:?}");
        let passes = compare(&without, &with);
        assert_eq!(passes.passes.len(), 1, "{order:?}");
        assert_eq!(passes.breaks, [], "{order:?}");
    }
}

#[test]
fn only_a_live_flow_is_cut_and_only_where_flows_are_evaluated_again() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let now = ruleset(&model(&eni, &[(1, 22, "192.0.2.0/24")]));
    for (revalidate, source, is_cut) in [
        (true, Source::Live, true),
        (false, Source::Live, false),
        (true, Source::Journal, false),
        (true, Source::FlowLog, false),
        (true, Source::Capture, false),
    ] {
        let mut proposed = model(&eni, &[]);
        proposed.interfaces.values_mut().for_each(|one| one.revalidate = revalidate);
        let proposed = ruleset(&proposed);
        let mut simulation = Simulation::new(&now, &proposed);
        simulation.add(&seen(subject(&id, "192.0.2.7", 22), source, Seen::Passed));
        let breaks = simulation.compare().breaks;
        assert_eq!(breaks[0].is_cut, is_cut, "{revalidate} {source:?}");
    }
}

#[test]
fn what_breaks_has_the_sums_and_the_times_of_all_and_what_broke_already_none() {
    let eni = InterfaceId::random().unwrap();
    let id = eni.to_string();
    let with = ruleset(&model(&eni, &[(1, 22, "192.0.2.0/24")]));
    let without = ruleset(&model(&eni, &[]));
    let one = seen(subject(&id, "192.0.2.7", 22), Source::FlowLog, Seen::Passed);
    let compare = |now, proposed| {
        let mut simulation = Simulation::new(now, proposed);
        for (first, last) in [(Some(50), Some(60)), (Some(5), Some(7)), (None, None)] {
            simulation.add(&Observation { first, last, ..one });
        }
        simulation.compare()
    };
    let breaks = compare(&with, &without).breaks;
    let found = &breaks[0];
    assert_eq!((found.connections, found.records), (1, 3));
    assert_eq!((found.packets, found.bytes), (6, 300));
    assert_eq!((found.first, found.last), (Some(5), Some(60)));
    let nothing = compare(&without, &without);
    assert_eq!((nothing.breaks.len(), nothing.broken_already), (0, 1));
}

#[test]
fn a_probe_has_the_end_outside_and_the_port_or_the_message() {
    let both = subject("eni-1", "192.0.2.7", 443);
    let icmp = Subject {
        protocol: Some(1),
        icmp: Some((8, 3)),
        source_port: None,
        destination_port: None,
        ..both
    };
    for (subject, outside, port) in [
        (both, "192.0.2.7", 443),
        (Subject { direction: Some(Direction::Egress), ..both }, "198.51.100.1", 443),
        (icmp, "192.0.2.7", 8 * 256 + 3),
        (Subject { icmp: None, ..icmp }, "192.0.2.7", 0),
    ] {
        let found = probe(&subject).unwrap();
        assert_eq!((found.outside, found.port), (outside.parse().unwrap(), port));
    }
    for without in [
        Subject { direction: None, ..both },
        Subject { protocol: None, ..both },
        Subject { source: None, ..both },
    ] {
        assert_eq!(probe(&without), None);
    }
}
