//! Records of packets: what is in them, and that none is lost untold.

use std::collections::BTreeMap;
use std::time::Duration;

use firewall_ebpf::abi::interface::{Direction, Orientation};
use firewall_ebpf::abi::reason::{Reason, Verdict};
use firewall_ebpf::abi::record::{AUDIT, FRAGMENT, Key, Record, SELF_TEST};
use firewall_user::dataplane::records::{self, Flush, Watch};
use secgroup_tests::decision::host::SLOT;
use secgroup_tests::decision::packet::flags::{ACK, SYN};
use secgroup_tests::decision::rules::{compiled, default_rules};
use secgroup_tests::decision::scenario::Role::Client;
use secgroup_tests::decision::watched::Watched;
use secgroup_tests::decision::{
    Engine, Family, Host, Packet, Receive, Scenario, Setup, cases, run, run_bare,
};

const V4: Scenario = Scenario { family: Family::V4, client: Direction::Ingress };
const V6: Scenario = Scenario { family: Family::V6, client: Direction::Ingress };

#[test]
fn every_dropped_packet_of_the_cases_has_its_record() {
    for (orientation, receive) in
        [Orientation::Host, Orientation::Guest].into_iter().zip(Receive::ALL)
    {
        let setup = Setup::new(orientation);
        let (mut host, mut watched) = (Host::of(&setup), Watched::load(setup));
        watched.kernel.receive = receive;
        let packets = run(&cases::of(&setup), &mut [&mut host, &mut watched]);
        println!("{packets} packets: {}", watched.name());
    }
}

#[test]
fn every_dropped_packet_of_a_device_without_ethernet_headers_has_its_record() {
    let setup = Setup { ethernet: false, ..Setup::new(Orientation::Host) };
    let (mut host, mut watched) = (Host::of(&setup), Watched::load(setup));
    watched.kernel.receive = Receive::Tcx;
    run_bare(&cases::of(&setup), &mut [&mut host, &mut watched]);
}

/// A kernel with the default rules.
fn watched(scenario: &Scenario, receive: Receive) -> Watched {
    let mut watched = Watched::load(Setup::new(Orientation::Host));
    watched.kernel.receive = receive;
    watched.reset(Some(&compiled(&default_rules(), scenario)));
    watched
}

fn packets(records: &[Record]) -> u64 {
    records.iter().map(|record| record.packets).sum()
}

#[test]
fn packets_of_one_tuple_are_aggregated_and_none_is_missing() {
    for receive in Receive::ALL {
        let mut watched = watched(&V4, receive);
        let frame = cases::syn().port(22).frame(&V4);
        for _ in 0..5000 {
            assert_eq!(watched.kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Drop));
        }
        let records = watched.all_records();
        assert_eq!(watched.account(), (5000, 0));
        assert_eq!(packets(&records), 5000);
        assert!(records.len() < 50, "{} records", records.len());
        assert_eq!(records[0].packets, 1, "the first one at once");
        let length = u64::try_from(frame.len()).unwrap();
        for record in records {
            assert_eq!(record.bytes, record.packets * length);
            assert_eq!((record.key, record.tcp_flags), (records_key(&frame), SYN));
            assert!(record.first <= record.last);
        }
    }

    fn records_key(_: &[u8]) -> Key {
        let mut key = Key {
            ports: [40_000_u16.to_be(), 22_u16.to_be()],
            protocol: 6,
            family: 4,
            device: 1,
            slot: SLOT,
            reason: Reason::NoRule as u8,
            generation: 1,
            ..Key::default()
        };
        key.source[..4].copy_from_slice(&[198, 51, 100, 7]);
        key.destination[..4].copy_from_slice(&[192, 0, 2, 10]);
        key
    }
}

#[test]
fn tuples_beyond_the_limit_are_lost_and_counted() {
    for receive in Receive::ALL {
        let mut watched = watched(&V6, receive);
        let mut sent = 0;
        for port in 1..=4000 {
            let frame = Packet::udp(Client).ports(port, 53).frame(&V6);
            for _ in 0..1 + port % 3 {
                sent += 1;
                assert_eq!(watched.kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Drop));
            }
        }
        let records = watched.all_records();
        let (seen, lost) = watched.account();
        assert_eq!(seen, sent);
        assert_eq!(packets(&records) + lost, sent);
        assert!(lost > 0, "{} records", records.len());
        // What the buckets of all CPUs hold at first, at least.
        assert!(records.len() >= 500, "{} records", records.len());
        let mut by_port = BTreeMap::new();
        for record in records {
            *by_port.entry(u16::from_be(record.key.ports[0])).or_insert(0) += record.packets;
        }
        let is_possible = |(port, packets): (&u16, &u64)| *packets <= u64::from(1 + port % 3);
        assert!(by_port.iter().all(is_possible), "{by_port:?}");
    }
}

#[test]
fn a_full_ring_buffer_loses_packets_and_counts_them() {
    let mut watched = watched(&V4, Receive::Tcx);
    let mut sent = 0;
    // More than there is room for; nobody reads.
    for round in 0..12_u16 {
        watched_tokens(&mut watched);
        for port in 1..=499 {
            sent += 1;
            let frame = Packet::udp(Client).ports(round * 500 + port, 53).frame(&V4);
            assert_eq!(watched.kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Drop));
        }
    }
    let first = watched.ring.read(usize::MAX).unwrap();
    let rest = watched.all_records();
    let accounts = records::accounts(&watched.maps).unwrap();
    let lost = accounts[usize::from(SLOT)].lost[0] + SAVED.take();
    assert!(lost > 0 && first.len() > 4000, "{} records, {lost} lost", first.len());
    assert_eq!(packets(&first) + packets(&rest) + lost, sent);

    thread_local! {
        static SAVED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// Fills the token buckets, and keeps what was lost until then.
    fn watched_tokens(watched: &mut Watched) {
        let lost = records::accounts(&watched.maps).unwrap()[usize::from(SLOT)].lost[0];
        SAVED.set(SAVED.get() + lost);
        watched.clear_accounts();
    }
}

#[test]
fn tuples_have_their_addresses_and_ports_or_type_and_code() {
    for (scenario, family) in [(V4, 4), (V6, 6)] {
        let mut watched = watched(&scenario, Receive::Tcx);
        let icmp = if family == 4 { (1, [8, 0]) } else { (58, [128, 0]) };
        let ports = |from: u16, to: u16| [from.to_be(), to.to_be()];
        for (packet, protocol, expected, flags) in [
            (cases::syn().port(80), 6, ports(40_000, 80), 0),
            (Packet::udp(Client).port(53), 17, ports(40_000, 53), 0),
            (Packet::echo(Client, 9), icmp.0, [0, u16::from_ne_bytes(icmp.1)], 0),
            (Packet::raw(Client, 47), 47, [0, 0], 0),
            (Packet::udp(Client).fragment(4, true), 17, [0, 0], FRAGMENT),
            (cases::syn().port(80).tag(0x8100), 6, ports(40_000, 80), 0),
        ] {
            let frame = packet.frame(&scenario);
            assert_eq!(watched.kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Drop));
            let [Record { key, .. }] = watched.all_records()[..] else {
                panic!("one record: {packet:?}")
            };
            assert_eq!((key.protocol, key.family, key.ether_type), (protocol, family, 0));
            assert_eq!((key.ports, key.flags), (expected, flags), "{packet:?}");
            let address = |octets: [u8; 16]| match family {
                4 => [octets[0], octets[1], octets[2], octets[3]].into(),
                _ => std::net::IpAddr::from(octets),
            };
            assert_eq!(address(key.source), scenario.outside(packet.outside), "{packet:?}");
            assert_eq!(address(key.destination), scenario.inside(), "{packet:?}");
        }
        // Not IP, and nothing that parses; a test run at TCX does not accept the latter.
        watched.kernel.receive = Receive::Xdp;
        for (frame, ether_type) in [
            (Packet::link(Client, 0x88b5).frame(&scenario), 0x88b5),
            (cases::syn().frame(&scenario)[..20].to_vec(), 0),
        ] {
            assert_eq!(watched.kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Drop));
            let [Record { key, .. }] = watched.all_records()[..] else { panic!("one record") };
            assert_eq!((key.family, key.protocol, key.ether_type), (0, 0, ether_type));
            assert_eq!((key.source, key.destination), ([0; 16], [0; 16]));
        }
    }
}

#[test]
fn a_record_of_audit_mode_says_that_the_packet_passed() {
    for receive in Receive::ALL {
        let mut watched = watched(&V4, receive);
        let frame = cases::syn().port(22).frame(&V4);
        watched.kernel.maps.set_audit(true);
        watched.reset(Some(&compiled(&default_rules(), &V4)));
        assert_eq!(watched.kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Pass));
        watched.kernel.maps.set_audit(false);
        watched.replace(&compiled(&default_rules(), &V4));
        assert_eq!(watched.kernel.verdict(&frame, Direction::Ingress), Some(Verdict::Drop));
        let records = watched.all_records();
        let flags: Vec<_> =
            records.iter().map(|record| (record.key.flags, record.packets)).collect();
        assert_eq!(flags, [(AUDIT, 1), (0, 1)]);
    }
}

#[test]
fn nothing_is_recorded_unless_someone_watches() {
    let mut watched = watched(&V4, Receive::Xdp);
    let frame = cases::syn().port(22).frame(&V4);
    let egress = Packet::tcp(Client, SYN | ACK, 1, 1).port(22).frame(&V4);
    for watch in [Watch { drops: false, passes: true }, Watch::default()] {
        watched.watch(watch);
        watched.kernel.verdict(&frame, Direction::Ingress);
        watched.kernel.verdict(&egress, Direction::Egress);
    }
    // It ends by itself.
    let short = Watch { drops: true, passes: true };
    records::watch(&watched.maps, &[SLOT], short, Duration::ZERO).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    watched.kernel.verdict(&frame, Direction::Ingress);
    assert_eq!(watched.all_records(), []);
    assert_eq!(watched.account(), (0, 0));
    watched.watch(short);
    watched.kernel.verdict(&frame, Direction::Ingress);
    watched.kernel.verdict(&egress, Direction::Egress);
    assert_eq!(watched.all_records().len(), 2);
    assert_eq!(watched.account(), (2, 0));
}

#[test]
fn a_self_test_gives_a_record_of_each_cpu() {
    let mut watched = watched(&V4, Receive::Xdp);
    records::flush(&watched.pins, Flush { self_test: true, all: false }).unwrap();
    assert!(watched.ring.wait(Duration::from_secs(10)));
    let records = watched.ring.read(usize::MAX).unwrap();
    let mut cpus: Vec<_> = records.iter().map(|record| record.key.decided_by).collect();
    cpus.sort_unstable();
    assert_eq!(cpus, aya::util::online_cpus().unwrap());
    assert!(records.iter().all(|one| one.key.flags == SELF_TEST && one.packets == 0));
    assert!(!watched.ring.wait(Duration::ZERO));
    assert_eq!(watched.account(), (0, 0));
}

#[test]
fn a_flush_without_tokens_keeps_what_is_in_cells() {
    let mut watched = watched(&V4, Receive::Tcx);
    let frame = cases::syn().port(22).frame(&V4);
    for _ in 0..3 {
        watched.kernel.verdict(&frame, Direction::Ingress);
    }
    // Another interface's packets do not take the tokens of this one: use them up with other tuples.
    for port in 1..=4000 {
        let frame = Packet::udp(Client).ports(port, 53).frame(&V4);
        watched.kernel.verdict(&frame, Direction::Ingress);
    }
    records::flush(&watched.pins, Flush::default()).unwrap();
    let before = packets(&watched.ring.read(usize::MAX).unwrap());
    let after = packets(&watched.all_records());
    let (seen, lost) = watched.account();
    assert_eq!((seen, before + after + lost), (4003, 4003));
}
