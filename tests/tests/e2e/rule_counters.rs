//! Counters by rule: exact on several CPUs, each in its own stripe, and each rule's own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use aya::util::online_cpus;
use firewall_ebpf::abi::counter::{Counter, rule_stride};
use firewall_ebpf::abi::limits::ABI_VERSION;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use secgroup_tests::wait::wait_for_quiet;
use secgroup_tests::{Pair, Secgroup, tc_hook};

/// Datagrams of a CPU to one address.
const EACH: u64 = 20_000;

/// Capacity in the configuration of the tests.
const RULES: u32 = 4096;

/// A server of UDP from anywhere: with a new group's egress rules its traffic is untracked.
struct Server<'a> {
    net: &'a Pair,
    secgroup: Secgroup<'a>,
    group: String,
}

impl<'a> Server<'a> {
    fn new(net: &'a Pair) -> Self {
        let secgroup = Secgroup::inside(&net.server);
        let group = secgroup.ok("group create web --description x").trim().to_owned();
        secgroup.ok(&format!("attach eth0 --group web --hook {}", tc_hook()));
        Self { net, secgroup, group }
    }

    fn allow(&self, port: u16) -> String {
        let cidrs = "--cidr 0.0.0.0/0 --cidr ::/0";
        self.secgroup.ok(&format!("rule add web ingress --protocol udp --port {port} {cidrs}"))
    }

    /// Packets that a rule of [`Self::allow`] admitted, of both families.
    fn packets(&self, rules: &str) -> Vec<u64> {
        let text = self.secgroup.ok("metrics");
        let of = |rule: &str| {
            let labels = format!("group=\"{}\",rule=\"{rule}\"", self.group);
            let series = format!("secgroup_rule_packets_total{{{labels}}} ");
            let found = text.lines().find_map(|line| line.strip_prefix(&series));
            found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
        };
        rules.lines().map(of).collect()
    }

    fn send(&self, port: u16, packets: u64) {
        for (server, client) in Pair::SERVER.into_iter().zip(Pair::CLIENT) {
            let receiver = self.net.server.run(|| UdpSocket::bind((server, port)).unwrap());
            self.net.client.run(|| send(client, SocketAddr::new(server, port), packets));
            drop(receiver);
        }
    }
}

/// From the CPU of the thread: a veth receives on the CPU that sends.
fn send(from: IpAddr, to: SocketAddr, packets: u64) {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    for _ in 0..packets {
        socket.send_to(b"x", to).unwrap();
    }
}

#[test]
fn packets_of_one_rule_on_every_cpu_are_counted_exactly_in_a_stripe_for_each() {
    let net = Pair::new();
    let server = Server::new(&net);
    let rules = server.allow(4000);
    let cpus = online_cpus().unwrap();
    for (end, client) in Pair::SERVER.into_iter().zip(Pair::CLIENT) {
        let _receiver = net.server.run(|| UdpSocket::bind((end, 4000)).unwrap());
        thread::scope(|scope| {
            for cpu in &cpus {
                let net = &net;
                scope.spawn(move || {
                    net.client.run(|| {
                        let mut only = CpuSet::new();
                        only.set(usize::try_from(*cpu).unwrap()).unwrap();
                        sched_setaffinity(Pid::from_raw(0), &only).unwrap();
                        send(client, SocketAddr::new(end, 4000), EACH);
                    });
                });
            }
        });
    }
    // A CPU that is busy receives some late, and drops some before the hook.
    let mut received = 0;
    wait_for_quiet(Duration::from_millis(100), "the last packets", || {
        received = server.secgroup.counters().packets("eth0", "ingress", "untracked");
        received
    });
    let counted: u64 = server.packets(&rules).iter().sum();
    assert_eq!(counted, received);

    let pin = format!("abi{ABI_VERSION}/maps/RULE_COUNTERS");
    let map = MapData::from_pin(server.secgroup.pin_dir().join(pin)).unwrap();
    let map: Array<MapData, Counter> = Map::Array(map).try_into().unwrap();
    for cpu in cpus {
        let first = cpu * rule_stride(RULES);
        let counted = (first..first + RULES).map(|at| map.get(&at, 0).unwrap().packets);
        let counted: Vec<u64> = counted.filter(|packets| *packets > 0).collect();
        // The first packets wait for the neighbour's address, and leave on the CPU that receives it.
        let near = counted.iter().all(|packets| packets.abs_diff(EACH) < EACH / 4);
        assert!(counted.len() == 2 && near, "CPU {cpu}: {counted:?}");
    }
}

#[test]
fn a_new_rule_counts_from_0_also_after_others_are_deleted() {
    let net = Pair::new();
    let server = Server::new(&net);
    let rules = [4000, 4001, 4002].map(|port| server.allow(port));
    for (port, packets) in [(4000, 3), (4001, 5), (4002, 7)] {
        server.send(port, packets);
    }
    for rule in rules[1].lines() {
        server.secgroup.ok(&format!("rule remove web {rule}"));
    }
    let new = server.allow(4003);
    assert_eq!(server.packets(&new), [0, 0]);
    server.send(4003, 11);
    server.send(4000, 1);
    let counted = [&rules[0], &rules[2], &new].map(|rules| server.packets(rules));
    assert_eq!(counted, [[4, 4], [7, 7], [11, 11]]);
}
