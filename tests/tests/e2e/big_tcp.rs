//! TCP packets of more than 64 KB within a host (BIG TCP), whose IP header cannot hold their length.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use firewall_user::dataplane::host::preflight;
use secgroup_tests::link::set_largest_packet;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup};

/// Bytes each way, in several writes.
const WRITE: usize = 4 << 20;
const WRITES: usize = 32;

/// What the devices merge and take at once.
const LARGEST: u32 = 185_000;

#[test]
fn packets_of_more_than_64_kb_pass_at_tcx() {
    if preflight::has_tcx() {
        transfer_in_big_packets("tcx");
    } else {
        println!("this kernel has no TCX");
    }
}

#[test]
fn packets_of_more_than_64_kb_pass_at_clsact() {
    transfer_in_big_packets("clsact");
}

fn transfer_in_big_packets(hook: &str) {
    let net = Pair::new();
    let mut ends = Pair::SERVER.to_vec();
    for namespace in [&net.server, &net.client] {
        namespace.sysctl("net.ipv4.tcp_rmem", "4096 16777216 33554432");
        namespace.sysctl("net.ipv4.tcp_wmem", "4096 16777216 33554432");
        if !set_largest_packet(namespace, Pair::DEVICE, LARGEST) {
            println!("this kernel has BIG TCP for IPv6 only");
            ends.retain(IpAddr::is_ipv6);
        }
    }
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup
        .ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64");
    secgroup.ok(&format!("attach {} --group web --hook {hook}", Pair::DEVICE));

    for end in ends {
        let received = average_size(&secgroup, "ingress", || {
            let sink = TcpServer::start(&net.server, SocketAddr::new(end, 80), |mut stream| {
                let mut taken = vec![0; WRITE];
                let mut total = 0;
                while total < WRITE * WRITES {
                    total += stream.read(&mut taken)?;
                }
                stream.write_all(&[1])
            });
            let mut stream = tcp::connect(&net.client, sink.address()).unwrap();
            for _ in 0..WRITES {
                stream.write_all(&vec![7; WRITE]).unwrap();
            }
            stream.read_exact(&mut [0]).unwrap();
        });
        let sent = average_size(&secgroup, "egress", || {
            let source = TcpServer::start(&net.server, SocketAddr::new(end, 80), |mut stream| {
                (0..WRITES).try_for_each(|_| stream.write_all(&vec![7; WRITE]))
            });
            let mut stream = tcp::connect(&net.client, source.address()).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), WRITE * WRITES);
        });
        for (average, direction) in [(received, "received"), (sent, "sent")] {
            assert!(average > 65_535 + 14, "{hook}: {end}: {average} bytes per {direction} packet");
        }
    }
}

/// Bytes per packet of established flows in one direction during `work`; nothing is dropped.
fn average_size(secgroup: &Secgroup<'_>, direction: &str, work: impl FnOnce()) -> u64 {
    let before = secgroup.counters();
    let [packets, bytes] = established(secgroup, direction);
    work();
    let [more_packets, more_bytes] = established(secgroup, direction);
    let increased = secgroup.counters().since(&before).without("established").without("new-flow");
    assert!(increased.is_exactly(&[]), "other counters increased:\n{increased}");
    (more_bytes - bytes) / (more_packets - packets)
}

/// Packets and bytes.
fn established(secgroup: &Secgroup<'_>, direction: &str) -> [u64; 2] {
    let stats = secgroup.json("stats");
    let counters = stats["Interfaces"][0]["Counters"].as_array().unwrap();
    let counter = counters
        .iter()
        .find(|counter| counter["Direction"] == direction && counter["Reason"] == "established");
    ["Packets", "Bytes"].map(|key| counter.map_or(0, |counter| counter[key].as_u64().unwrap()))
}
