//! Records of packets that real devices drop: none is missing, and each is of its own interface.

use std::net::SocketAddr;
use std::time::Duration;

use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::record::{AUDIT, EGRESS, Record};
use firewall_user::dataplane::records::{self, Flush, Ring, Watch};
use firewall_user::dataplane::tables::maps::Maps;
use firewall_user::dataplane::{Pins, instance};
use secgroup_tests::network::at;
use secgroup_tests::wait::wait_for_quiet;
use secgroup_tests::{Pair, Secgroup, tc_hook, udp};

/// Longer than the test.
const WATCH: Duration = Duration::from_secs(3600);
const DROPS: Watch = Watch { drops: true, passes: false };

/// The reader of an instance.
struct Reader {
    pins: Pins,
    maps: Maps,
    ring: Ring,
}

impl Reader {
    fn new(secgroup: &Secgroup<'_>) -> Self {
        let pins = Pins::new(secgroup.pin_dir());
        let maps = instance::open(&pins).unwrap().unwrap();
        let ring = Ring::open(&pins).unwrap();
        let slots: Vec<_> = (0..8).collect();
        records::watch(&maps, &slots, DROPS, WATCH).unwrap();
        Self { pins, maps, ring }
    }

    /// Every record that there is.
    fn records(&mut self) -> Vec<Record> {
        records::flush(&self.pins, Flush { all: true, self_test: false }).unwrap();
        self.ring.read(usize::MAX).unwrap()
    }
}

fn drops_are_recorded(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create closed --description x");
    secgroup.ok(&format!("attach eth0 --group closed --hook {hook}"));
    let mut reader = Reader::new(&secgroup);

    // Datagrams of one tuple for each family, and of many tuples, more than there are records for.
    let mut sent = 0;
    let before = secgroup.counters();
    for end in at(Pair::SERVER, 53) {
        let client = udp::connect(&net.client, end);
        for _ in 0..3000 {
            sent += u64::from(client.send(b"x").is_ok());
        }
        let client = udp::connect(&net.client, end);
        for port in 1..=3000 {
            let to = SocketAddr::new(end.ip(), port);
            sent += u64::from(client.connect(to).and_then(|()| client.send(b"x")).is_ok());
        }
    }
    let count = || secgroup.counters().since(&before).packets("eth0", "ingress", "no-rule");
    wait_for_quiet(Duration::from_millis(50), "the datagrams to be dropped", count);
    let dropped = count();
    let records = reader.records();
    let account = records::accounts(&reader.maps).unwrap()[0];
    let of_udp = |one: &&Record| one.key.protocol == 17;
    let in_records: u64 = records.iter().map(|one| one.packets).sum();
    assert_eq!((account.seen[0], account.in_cells), (dropped, [0; 2]));
    assert_eq!(in_records + account.lost[0], dropped);
    // A ring of the device that is full takes no packet: on a busy machine some never come to the program.
    // A few are the hosts' own.
    assert!((6000..sent + 32).contains(&dropped), "{dropped} dropped, {sent} sent");
    assert!(records.iter().filter(of_udp).count() >= 500, "{} records", records.len());
    for Record { key, .. } in records.iter().filter(of_udp) {
        assert_eq!((key.reason, key.flags, key.slot), (Reason::NoRule as u8, 0, 0), "{key:?}");
    }

    // In audit mode the packet passes, and its record says so.
    secgroup.ok("mode eth0 audit");
    let [end, _] = at(Pair::SERVER, 80);
    let server = udp::bind(&net.server, end);
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let client = udp::connect(&net.client, end);
    client.send(b"audited").unwrap();
    server.recv(&mut [0; 16]).unwrap();
    let port = client.local_addr().unwrap().port().to_be();
    let records = reader.records();
    let audited: Vec<_> = records.iter().filter(|one| one.key.ports[0] == port).collect();
    assert!(matches!(audited[..], [Record { packets: 1, .. }]), "{audited:?}");
    assert_eq!(audited[0].key.flags, AUDIT);

    // What a detached interface still had in cells is written before another one has its slot.
    secgroup.ok("mode eth0 enforce");
    for _ in 0..5 {
        client.send(b"x").unwrap();
    }
    secgroup.ok("detach eth0");
    let of_slot = reader.ring.read(usize::MAX).unwrap();
    let of_client = of_slot.iter().filter(|one| one.key.ports[0] == port);
    assert_eq!(of_client.map(|one| one.packets).sum::<u64>(), 5, "{of_slot:?}");
}

#[test]
fn drops_are_recorded_at_tc() {
    drops_are_recorded(tc_hook());
}

#[test]
fn drops_are_recorded_at_xdp() {
    drops_are_recorded("xdp");
}

#[test]
fn blocks_and_entries_are_named_and_two_interfaces_are_apart() {
    let nets = [Pair::new(), Pair::new()];
    // One instance for the devices of two namespaces.
    let secgroup = Secgroup::new();
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    for net in &nets {
        let netns = net.server.name();
        secgroup.ok(&format!("attach eth0 --netns {netns} --group open"));
    }
    let mut reader = Reader::new(&secgroup);
    let [end, _] = at(Pair::SERVER, 53);
    let clients = nets.each_ref().map(|net| udp::connect(&net.client, end));
    let address = clients[0].local_addr().unwrap().ip();
    secgroup.ok(&format!("block {address}"));
    for (count, client) in [3, 4].into_iter().zip(&clients) {
        for _ in 0..count {
            client.send(b"x").unwrap();
        }
    }
    let records = reader.records();
    let of = |slot: u16| {
        let of_slot = records.iter().filter(|one| {
            one.key.slot == slot && one.key.protocol == 17 && one.key.flags & EGRESS == 0
        });
        of_slot.fold((0, 0), |(packets, _), one| {
            assert_eq!(one.key.reason, Reason::Blocked as u8, "{one:?}");
            (packets + one.packets, one.key.decided_by)
        })
    };
    let [(first, first_by), (second, second_by)] = [0, 1].map(of);
    assert_eq!((first, second), (3, 4), "{records:?}");
    assert_eq!(first_by, second_by, "the same block");
    assert_ne!(first_by, 0);
}
