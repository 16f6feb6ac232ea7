//! TCP packets of more than 65,535 bytes, whose IP header has 0 as its length (BIG TCP). On the host
//! only, because the kernel's test run takes no such packet; the module of this name in the suite `e2e`
//! has the kernel's.

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::backend::host::HostPacket;
use firewall_ebpf::verdict::decide::decide;
use secgroup_tests::decision::packet::Layer;
use secgroup_tests::decision::rules::{compiled, default_rules};
use secgroup_tests::decision::scenario::Role::Client;
use secgroup_tests::decision::{Engine as _, Extension, Family, Host, Packet, Scenario, cases};

/// Offset of the length field in the IP header.
const fn length_field(family: Family) -> usize {
    match family {
        Family::V4 => 2,
        Family::V6 => 4,
    }
}

/// Bytes of a segment's headers after the Ethernet header.
const fn headers(family: Family) -> usize {
    match family {
        Family::V4 => 20 + 20,
        Family::V6 => 40 + 20,
    }
}

/// A segment of the established connection with 0 as its length, then made as long as asked.
fn segment(scenario: &Scenario, packet: Packet, ip_bytes: usize) -> Vec<u8> {
    let zero = packet.edit(Layer::Ip, length_field(scenario.family), &[0, 0]);
    let mut frame = zero.frame(scenario);
    frame.resize(14 + ip_bytes, 0x5a);
    frame
}

fn connected(scenario: &Scenario) -> Host {
    let mut host = Host::new();
    host.reset(Some(&compiled(&default_rules(), scenario)));
    for packet in [cases::syn(), cases::syn_ack(), cases::handshake_ack()] {
        let answer = host.decide(&packet.frame(scenario), packet.direction(scenario));
        assert!(answer.is_some_and(|reason| reason != Reason::NoRule), "{scenario}: {answer:?}");
    }
    host
}

fn reason(host: &Host, frame: &[u8], segmented: bool, direction: Direction) -> Reason {
    decide(&HostPacket { segmented, ..HostPacket::ethernet(frame) }, &host.tables, direction).reason
}

#[test]
fn big_tcp_packets_pass_and_count_their_bytes() {
    for scenario in Scenario::all() {
        let most_jumbo_headers = usize::from(scenario.family == Family::V6);
        for jumbo_headers in 0..=most_jumbo_headers {
            for size in [65_576, 100_000, 185_000, 524_280] {
                let mut host = connected(&scenario);
                let data = cases::data(Client);
                let packet = (0..jumbo_headers)
                    .fold(data, |packet, _| packet.extension(Extension::hop_by_hop(1)));
                let direction = packet.direction(&scenario);
                let frame = segment(&scenario, packet, size);
                let before = bytes(&mut host);
                assert_eq!(reason(&host, &frame, true, direction), Reason::Established, "{size}");
                assert_eq!(bytes(&mut host) - before, frame.len() as u64, "{scenario}: {size}");
                // The same bytes on the wire.
                let answer = reason(&host, &frame, false, direction);
                assert_eq!(answer.verdict(), Verdict::Drop, "{scenario}: {size}: {answer:?}");
            }
        }
    }
}

#[test]
fn a_length_of_0_is_dropped_where_the_field_could_hold_the_length() {
    for scenario in Scenario::all() {
        let host = connected(&scenario);
        let packet = cases::data(Client);
        let direction = packet.direction(&scenario);
        // What the field of each family counts; one byte more is a length that does not fit.
        let largest = 65_535 + if scenario.family == Family::V4 { 0 } else { 40 };
        for size in [headers(scenario.family), 1500, 65_535, largest] {
            let answer = reason(&host, &segment(&scenario, packet.clone(), size), true, direction);
            assert_eq!(answer.verdict(), Verdict::Drop, "{scenario}: {size}: {answer:?}");
        }
        let answer =
            reason(&host, &segment(&scenario, packet.clone(), largest + 1), true, direction);
        assert_eq!(answer, Reason::Established, "{scenario}");
    }
}

/// The bytes of the one flow, both directions.
fn bytes(host: &mut Host) -> u64 {
    host.flows().values().map(|view| view.flow.bytes.iter().sum::<u64>()).sum()
}
