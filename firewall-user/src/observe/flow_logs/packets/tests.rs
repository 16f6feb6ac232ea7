use firewall_ebpf::abi::counter::Counter;
use firewall_ebpf::abi::interface::Direction;

use super::*;

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;

fn sample() -> PacketRecord {
    PacketRecord::sample(1000, 3)
}

#[test]
fn an_action_is_what_happened_and_the_reason_says_what_audit_mode_did() {
    let reason = Reason::NoRule;
    for (verdict, action, why) in [
        (Verdict::Drop, Action::Reject, Why::Reason(reason)),
        (Verdict::WouldDrop, Action::Accept, Why::WouldDrop(reason)),
        (Verdict::Pass, Action::Accept, Why::Reason(reason)),
    ] {
        let told = packets(&PacketRecord { verdict, ..sample() }, ETHERNET).unwrap();
        assert_eq!((told.action, told.why), (action, why), "{verdict:?}");
    }
}

#[test]
fn bytes_are_those_of_ip_packets_also_behind_vlan_tags() {
    let macs = "00".repeat(12);
    let ip = "08004500";
    for (what, frame, header, per_packet) in [
        ("Ethernet", format!("{macs}{ip}"), ETHERNET, 14),
        ("a tag", format!("{macs}81000001{ip}"), ETHERNET, 18),
        ("two tags", format!("{macs}88a8000181000002{ip}"), ETHERNET, 22),
        (
            "two tags, and what looks like another",
            format!("{macs}9100000181000002{}", "8100"),
            ETHERNET,
            22,
        ),
        (
            "what looks like a tag, and is behind the type",
            format!("{macs}0800{}8100", "0000"),
            ETHERNET,
            14,
        ),
        ("upper case", format!("{macs}88A80001{ip}"), ETHERNET, 18),
        ("cut", "00".repeat(11), ETHERNET, 14),
        ("no Ethernet", format!("{macs}81000001"), 0, 0),
    ] {
        let record = PacketRecord { frame, ..sample() };
        let told = packets(&record, header).unwrap();
        assert_eq!((told.packets, told.bytes), (3, 180 - 3 * per_packet), "{what}");
    }
    let short = PacketRecord { bytes: 10, ..sample() };
    assert_eq!(packets(&short, ETHERNET).unwrap().bytes, 0);
}

#[test]
fn tcp_flags_are_those_that_aws_has() {
    const ACK: u8 = 16;
    for (header, told) in [
        (SYN, SYN),
        (SYN | ACK, SYN_ACK),
        (ACK, 0),
        (FIN | ACK, FIN),
        (RST, RST),
        (RST | ACK, RST),
        (FIN | SYN | RST | 8 | 32, FIN | SYN | RST),
    ] {
        let record = PacketRecord { tcp_flags: Some(header), ..sample() };
        assert_eq!(packets(&record, 0).unwrap().tcp_flags, told, "{header}");
    }
    assert_eq!(packets(&PacketRecord { tcp_flags: None, ..sample() }, 0).unwrap().tcp_flags, 0);
}

#[test]
fn a_tuple_is_that_of_the_record_and_without_addresses_there_is_none() {
    let told = packets(&sample(), 0).unwrap();
    assert_eq!((told.tuple.source_port, told.tuple.destination_port), (51234, 443));
    assert_eq!((told.tuple.protocol, told.tuple.direction), (6, Direction::Ingress));
    assert_eq!((told.first, told.last), (1000, 1001));
    let without = PacketRecord {
        protocol: Some(1),
        source_port: None,
        destination_port: None,
        icmp_type: Some(8),
        icmp_code: Some(0),
        ..sample()
    };
    let told = packets(&without, 0).unwrap();
    assert_eq!((told.tuple.source_port, told.tuple.destination_port), (0, 0));
    for record in [
        PacketRecord { source: None, ..sample() },
        PacketRecord { destination: None, ..sample() },
        PacketRecord { protocol: None, ..sample() },
    ] {
        assert_eq!(packets(&record, 0), None);
    }
}

#[test]
fn packets_that_the_kernel_counted_and_nobody_recorded_are_skipped() {
    let counters = |reason, packets| -> ByReason {
        [((Direction::Egress, reason), Counter { packets, bytes: 0 })].into()
    };
    for (reason, accepted, rejected) in [
        (Reason::NoRule, false, true),
        (Reason::Acl, false, true),
        (Reason::NonIp, false, true),
        (Reason::Admitted, true, false),
        (Reason::Untracked, true, false),
        // Those of flows are in the flow tables, and exempt ones are in no record.
        (Reason::NewFlow, false, false),
        (Reason::Established, false, false),
        (Reason::Arp, false, false),
    ] {
        let mut unrecorded = Unrecorded::default();
        let none = Skipped::default();
        assert_eq!(unrecorded.since_last(1, &counters(reason, 5)), none, "the first reading");
        assert_eq!(unrecorded.since_last(1, &counters(reason, 5)), none, "{reason:?}");
        let more = unrecorded.since_last(1, &counters(reason, 6));
        assert_eq!(more, Skipped { accepted, rejected }, "{reason:?}");
        assert_eq!(unrecorded.since_last(1, &counters(reason, 6)), none, "{reason:?}");
        assert_eq!(unrecorded.since_last(1, &counters(reason, 0)), none, "attached again");
        assert_eq!(unrecorded.since_last(2, &counters(reason, 9)), none, "another slot");
    }
}
