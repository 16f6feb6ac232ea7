//! Records of the kernel program, and what is told of them.

use std::collections::BTreeMap;

use firewall_ebpf::abi::record::EGRESS;

use super::*;
use crate::model::{
    Change, End, EndKind, IcmpMatch, Interface, Peer, PortRange, Rule, RuleSpec, Traffic,
    parse_cidr,
};
use crate::observe::simulate::tests::model_of;

/// The generation of the policy that is known.
const GENERATION: u32 = 7;

/// The time of the boot at which records are read.
const BOOT: u64 = 1000;

/// The counter that an entry of an ACL has; it is also the number of a rule.
const ENTRY: u32 = 2;

fn moment(wall: i64, jiffies: u64, earlier: Option<Moment>) -> Moment {
    Moment::new(crate::model::Moment { boottime: BOOT, wall }, jiffies, 250, earlier)
}

/// An interface with these rules: number, direction, traffic, and the network or, without one, the group itself.
fn model(rules: &[(u32, Direction, Traffic, &str)], end: Option<u64>) -> Model {
    let group: GroupId = "sg-00000001".parse().unwrap();
    let rule = |&(number, direction, traffic, cidr): &(u32, Direction, Traffic, &str)| Rule {
        id: format!("sgr-{number:08x}").parse().unwrap(),
        number,
        spec: RuleSpec {
            direction,
            traffic,
            peer: match cidr {
                "" => Peer::Group(group.clone()),
                cidr => Peer::from(parse_cidr(cidr).unwrap()),
            },
        },
        description: String::new(),
        end: end.map(|boottime| End { kind: EndKind::For, wall: 0, boottime }),
        tags: BTreeMap::new(),
    };
    let id = "eni-0123456789abcdef0".parse().unwrap();
    model_of(Interface::new(id, 3, "eth0", None), rules.iter().map(rule).collect())
}

fn snapshot() -> Snapshot {
    let ssh = Traffic::Tcp(PortRange { from: 22, to: 22 });
    let domain = Traffic::Udp(PortRange { from: 53, to: 53 });
    let rules = [
        (1, Direction::Ingress, ssh, "192.0.2.0/24"),
        (ENTRY, Direction::Egress, domain, "198.51.0.0/24"),
        (3, Direction::Ingress, Traffic::Icmp(IcmpMatch::TypeCode(8, 0)), "192.0.2.0/24"),
        (4, Direction::Ingress, Traffic::Other(47), ""),
    ];
    Snapshot::sample(model(&rules, None), GENERATION, &[(ENTRY, "acl-1 ingress 100")])
}

fn v4(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

/// A SYN from 192.0.2.7:51234 to 198.51.100.1:443, three times within a jiffy.
fn raw() -> Record {
    let mut frame = Record::EMPTY.frame;
    frame[..6].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef, 0x01, 0x02]);
    Record {
        first: 500,
        last: 501,
        packets: 3,
        bytes: 180,
        key: Key {
            source: v4([192, 0, 2, 7]),
            destination: v4([198, 51, 100, 1]),
            ports: [51234_u16.to_be(), 443_u16.to_be()],
            protocol: protocol::TCP,
            family: 4,
            slot: 3,
            reason: Reason::NoRule as u8,
            generation: GENERATION,
            ..Record::EMPTY.key
        },
        frame_length: 60,
        captured: 4,
        tcp_flags: 2,
        frame,
        ..Record::EMPTY
    }
}

fn name(rule: u32) -> RuleName {
    RuleName {
        security_group_rule_id: format!("sgr-{rule:08x}"),
        group_id: "sg-00000001".to_owned(),
        group_name: "web".to_owned(),
    }
}

fn miss(rule: u32, [field, rule_value, packet_value]: [&str; 3]) -> Option<NearestMiss> {
    Some(NearestMiss {
        rule: name(rule),
        field: field.to_owned(),
        rule_value: rule_value.to_owned(),
        packet_value: packet_value.to_owned(),
    })
}

/// What is told of [`raw`].
fn told() -> PacketRecord {
    PacketRecord {
        last: 1_000_004,
        frame: "deadbeef".to_owned(),
        nearest_miss: miss(1, ["port", "22", "443"]),
        ..PacketRecord::sample(1_000_000, 3)
    }
}

fn converted(raw: &Record, snapshot: &Snapshot, with_nearest: bool) -> Option<PacketRecord> {
    convert(raw, snapshot, moment(1_000_000, 500, None), with_nearest)
}

/// Another reason and what it was decided by.
fn decide(key: &mut Key, reason: Reason, decided_by: u32) {
    (key.reason, key.decided_by) = (reason as u8, decided_by);
}

/// No TCP any more.
fn without_tcp(told: &mut PacketRecord, protocol: u8) {
    told.protocol = Some(protocol);
    (told.source_port, told.destination_port, told.tcp_flags) = (None, None, None);
}

/// Neither a packet of IP.
fn without_ip(told: &mut PacketRecord) {
    without_tcp(told, 0);
    (told.protocol, told.source, told.destination) = (None, None, None);
    told.nearest_miss = None;
}

/// What is changed in a record, and in what is told of it.
type Case = (&'static str, fn(&mut Key), fn(&mut PacketRecord));

#[test]
fn a_record_tells_what_the_kernel_program_has_seen() {
    let cases: &[Case] = &[
        ("dropped", |_| {}, |_| {}),
        (
            "passed by audit mode",
            |key| key.flags |= AUDIT,
            |told| told.verdict = Verdict::WouldDrop,
        ),
        (
            "egress, where the address outside is the destination",
            |key| {
                key.flags |= EGRESS;
                key.protocol = protocol::UDP;
                key.ports[1] = 53_u16.to_be();
            },
            |told| {
                told.direction = Direction::Egress;
                (told.protocol, told.tcp_flags) = (Some(protocol::UDP), None);
                told.destination_port = Some(53);
                told.nearest_miss = miss(ENTRY, ["address", "198.51.0.0/24", "198.51.100.1"]);
            },
        ),
        (
            "an ICMP message has type and code, and no ports",
            |key| {
                key.protocol = protocol::ICMP;
                key.ports = [0, u16::from_be_bytes([8, 1]).to_be()];
            },
            |told| {
                without_tcp(told, protocol::ICMP);
                (told.icmp_type, told.icmp_code) = (Some(8), Some(1));
                told.nearest_miss = miss(3, ["port", "8/0", "8/1"]);
            },
        ),
        (
            "one of IPv6",
            |key| {
                (key.family, key.protocol) = (6, protocol::ICMPV6);
                key.ports = [0, u16::from_be_bytes([128, 0]).to_be()];
                key.source = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
                key.destination = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
            },
            |told| {
                without_tcp(told, protocol::ICMPV6);
                (told.icmp_type, told.icmp_code) = (Some(128), Some(0));
                told.source = "2001:db8::7".parse().ok();
                told.destination = "2001:db8::1".parse().ok();
                told.nearest_miss = miss(1, ["protocol", "tcp", "icmpv6"]);
            },
        ),
        (
            "a later fragment has no ports",
            |key| {
                key.flags |= FRAGMENT;
                decide(key, Reason::Fragment, 0);
            },
            |told| {
                told.reason = Reason::Fragment;
                (told.source_port, told.destination_port, told.nearest_miss) = (None, None, None);
            },
        ),
        (
            "a later fragment of ICMP has no message",
            |key| {
                key.flags |= FRAGMENT;
                key.protocol = protocol::ICMP;
                decide(key, Reason::Fragment, 0);
            },
            |told| {
                without_tcp(told, protocol::ICMP);
                (told.reason, told.nearest_miss) = (Reason::Fragment, None);
            },
        ),
        (
            "a protocol without ports, and a peer by its name",
            |key| (key.protocol, key.ports) = (47, [0; 2]),
            |told| {
                without_tcp(told, 47);
                told.nearest_miss = miss(4, ["address", "group web", "192.0.2.7"]);
            },
        ),
        (
            "a frame that is not IP",
            |key| {
                (key.family, key.protocol, key.ether_type) = (0, 0, 0x88cc);
                decide(key, Reason::NonIp, 0);
            },
            |told| {
                without_ip(told);
                (told.reason, told.ether_type) = (Reason::NonIp, Some(0x88cc));
            },
        ),
        (
            "a frame without an EtherType",
            |key| {
                (key.family, key.protocol, key.ether_type) = (0, 0, 0);
                decide(key, Reason::TruncatedFrame, 0);
            },
            |told| {
                without_ip(told);
                told.reason = Reason::TruncatedFrame;
            },
        ),
        (
            "what a rule let pass is not of the entry whose counter has the rule's number",
            |key| decide(key, Reason::Untracked, ENTRY),
            |told| {
                (told.verdict, told.reason) = (Verdict::Pass, Reason::Untracked);
                (told.rule, told.nearest_miss) = (Some(name(ENTRY)), None);
            },
        ),
        (
            "a rule that let pass keeps its number",
            |key| {
                decide(key, Reason::Admitted, 1);
                key.generation += 1;
            },
            |told| {
                (told.verdict, told.reason) = (Verdict::Pass, Reason::Admitted);
                (told.rule, told.nearest_miss) = (Some(name(1)), None);
                told.generation += 1;
            },
        ),
        (
            "what an entry dropped is not of the rule with the number of its counter",
            |key| decide(key, Reason::Acl, ENTRY),
            |told| {
                told.reason = Reason::Acl;
                (told.entry, told.nearest_miss) = (Some("acl-1 ingress 100".to_owned()), None);
            },
        ),
        (
            "another policy's counter is not of this entry",
            |key| {
                decide(key, Reason::Acl, ENTRY);
                key.generation += 1;
            },
            |told| {
                (told.reason, told.nearest_miss) = (Reason::Acl, None);
                told.generation += 1;
            },
        ),
        (
            "another policy's rules are not compared",
            |key| key.generation += 1,
            |told| {
                told.generation += 1;
                told.nearest_miss = None;
            },
        ),
        (
            "a flow that a change of rules has ended has no nearest miss",
            |key| decide(key, Reason::Revoked, 0),
            |told| (told.reason, told.nearest_miss) = (Reason::Revoked, None),
        ),
    ];
    let snapshot = snapshot();
    for (what, change, tell) in cases {
        let (mut raw, mut expected) = (raw(), told());
        change(&mut raw.key);
        tell(&mut expected);
        assert_eq!(converted(&raw, &snapshot, true), Some(expected.clone()), "{what}");
        expected.nearest_miss = None;
        assert_eq!(converted(&raw, &snapshot, false), Some(expected), "{what}");
    }
}

#[test]
fn every_reason_has_its_verdict_and_audit_mode_drops_nothing() {
    let snapshot = snapshot();
    for reason in Reason::ALL.iter().copied() {
        let mut raw = raw();
        decide(&mut raw.key, reason, 0);
        let is_pass = reason.verdict() == reason::Verdict::Pass;
        for (flags, dropped) in [(0, Verdict::Drop), (AUDIT, Verdict::WouldDrop)] {
            raw.key.flags = flags;
            let record = converted(&raw, &snapshot, true).unwrap();
            let expected = if is_pass { Verdict::Pass } else { dropped };
            assert_eq!((record.reason, record.verdict), (reason, expected));
            assert_eq!(record.nearest_miss.is_some(), reason == Reason::NoRule, "{reason:?}");
        }
    }
}

#[test]
fn the_interface_is_that_of_the_slot() {
    let mut model = model(&[], None);
    let id = "eni-00000000000000009".parse().unwrap();
    model.make(Change::PutInterface(Interface::new(id, 9, "eth9", Some("blue"))));
    let snapshot = Snapshot::sample(model, GENERATION, &[]);
    let mut raw = raw();
    raw.key.slot = 9;
    let record = converted(&raw, &snapshot, true).unwrap();
    assert_eq!(record.network_interface_id, "eni-00000000000000009");
    assert_eq!((record.device.as_str(), record.netns.as_deref()), ("eth9", Some("blue")));
    assert_eq!(record.nearest_miss, None);
}

#[test]
fn a_record_of_an_unknown_interface_or_reason_is_none() {
    let unknown = u8::MAX;
    assert!(Reason::from_number(unknown).is_none());
    for change in [|key: &mut Key| key.slot = 4, |key: &mut Key| key.reason = u8::MAX] {
        let mut raw = raw();
        change(&mut raw.key);
        assert_eq!(converted(&raw, &snapshot(), true), None);
    }
}

#[test]
fn a_rule_that_has_ended_is_no_nearest_miss() {
    let ssh = Traffic::Tcp(PortRange { from: 22, to: 22 });
    for (end, is_found) in [(BOOT - 1, false), (BOOT, false), (BOOT + 1, true)] {
        let rules = [(1, Direction::Ingress, ssh, "192.0.2.0/24")];
        let snapshot = Snapshot::sample(model(&rules, Some(end)), GENERATION, &[]);
        let record = converted(&raw(), &snapshot, true).unwrap();
        assert_eq!(record.nearest_miss.is_some(), is_found, "{end}");
    }
}

#[test]
fn a_frame_that_says_more_than_there_is_is_told_as_far_as_it_goes() {
    let mut raw = raw();
    raw.captured = u16::MAX;
    let record = converted(&raw, &snapshot(), true).unwrap();
    assert_eq!(record.frame.len(), raw.frame.len() * 2);
}

#[test]
fn times_keep_the_order_of_jiffies_until_the_clock_is_set() {
    let first = moment(1_000_000, 500, None);
    assert_eq!(first.wall_at(500), 1_000_000);
    assert_eq!(first.wall_at(499), 999_996);
    // Seven milliseconds into the same jiffy and the next ones.
    let second = moment(1_000_007, 500, Some(first));
    assert_eq!(second.wall_at(500), 1_000_000);
    let set = moment(3_600_000, 501, Some(second));
    assert_eq!(set.wall_at(501), 3_600_000);
}

#[test]
fn bytes_become_hexadecimal() {
    assert_eq!(hexadecimal(&[0, 0x0f, 0xf0]), "000ff0");
}
