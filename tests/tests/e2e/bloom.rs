//! The Bloom filter of flows, rebuilt under traffic.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::socket::PacketSocket;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, bloom, frame, tc_hook};

/// Small tables, so that flows are evicted and leave their bits set.
const CONFIG: &str = "[maps]\nflows_new = 4096\nflows_tcp = 2048\nrules = 4096\ninterfaces = 2\n";
/// Half of them leave bits set, more than gc tolerates before it rebuilds the filter.
const UNKNOWN_FLOWS: u16 = 49_152;
/// Connections that are open for the whole test.
const STREAMS: usize = 8;
/// How often the filter is rebuilt.
const REBUILDS: u32 = 5;
/// Frames at once: fewer than the queue of a device holds.
const BURST: usize = 64;
/// From one burst to the next.
const PACE: Duration = Duration::from_millis(1);

#[test]
fn no_flow_is_missed_while_the_bloom_filter_is_rebuilt_at_tcx() {
    rebuild_under_traffic(tc_hook());
}

#[test]
fn no_flow_is_missed_while_the_bloom_filter_is_rebuilt_at_xdp() {
    rebuild_under_traffic("xdp");
}

/// Established and new connections, whose packets after the first pass by their flow alone, among
/// packets of unknown flows, some allowed and some dropped.
fn rebuild_under_traffic(hook: &str) {
    let net = Pair::new();
    net.server.ip(&format!("link set {} address 02:00:00:00:00:01", Pair::DEVICE));
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(CONFIG);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let old_rule = "tcp --port 81 --cidr 10.77.0.0/24";
    for rule in
        [old_rule, "tcp --port 80 --cidr 10.77.0.0/24", "udp --port 53 --cidr 198.18.0.0/15"]
    {
        secgroup.ok(&format!("rule add web ingress --protocol {rule}"));
    }
    secgroup.ok(&format!("attach {} --group web --hook {hook}", Pair::DEVICE));
    let [new, old_end] = [80, 81].map(|port| at(Pair::SERVER, port)[0]);
    let _servers = [new, old_end].map(|end| TcpServer::echo(&net.server, end));
    let streams: Vec<_> =
        (0..STREAMS).map(|_| tcp::connect(&net.client, old_end).unwrap()).collect();
    secgroup.ok(&format!("rule remove web ingress --protocol {old_rule}"));

    let before = secgroup.counters();
    let stop = AtomicBool::new(false);
    let running = || !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let established = scope.spawn(|| {
            let mut streams = streams;
            while running() {
                streams.iter_mut().try_for_each(|stream| tcp::exchange(stream, b"still there"))?;
            }
            Ok::<_, std::io::Error>(())
        });
        let connections = scope.spawn(|| {
            while running() {
                let mut stream = tcp::connect(&net.client, new)?;
                tcp::exchange(&mut stream, b"hello")?;
            }
            Ok::<_, std::io::Error>(())
        });
        scope.spawn(|| {
            let wire = PacketSocket::new(&net.client, Pair::DEVICE);
            for burst in packets_of_unknown_flows().chunks(BURST).cycle().take_while(|_| running())
            {
                burst.iter().for_each(|frame| wire.send(frame));
                thread::sleep(PACE);
            }
        });
        let rebuild = || {
            let before = bloom::in_use(&secgroup);
            wait_until(MAX_WAIT, "the filter to be rebuilt", || {
                secgroup.ok("gc");
                established.is_finished()
                    || connections.is_finished()
                    || bloom::in_use(&secgroup) != before
            });
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..REBUILDS).for_each(|_| rebuild());
        }));
        stop.store(true, Ordering::Relaxed);
        for client in [established, connections] {
            let result = client.join().unwrap();
            result.unwrap_or_else(|error| panic!("{hook}: {error}\n{}", secgroup.view()));
        }
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let moved = secgroup.counters().since(&before);
    // Only segments with impossible flags are dropped. Counters cannot tell the connections apart.
    let all = [
        ("ingress", "established"),
        ("ingress", "new-flow"),
        ("ingress", "tcp-flags"),
        ("egress", "established"),
    ];
    let all = all.map(|(direction, reason)| {
        let packets = moved.packets(Pair::DEVICE, direction, reason);
        assert!(packets > 0, "{direction} {reason}: {moved}");
        (Pair::DEVICE, direction, reason, packets)
    });
    assert!(moved.is_exactly(&all), "{hook}: {moved}\n{}", secgroup.view());
}

/// Datagrams that the rules allow, each of another flow, and between them segments with impossible
/// flags, so that the programs always drop packets.
fn packets_of_unknown_flows() -> Vec<Vec<u8>> {
    let to = |port| SocketAddr::new(Pair::SERVER[0], port);
    let frame = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, high, low)), 4000);
        if number.is_multiple_of(2) {
            let mut frame = frame::ethernet(&frame::syn(from, to(80), 1));
            frame[TCP_FLAGS] = SYN_AND_FIN;
            return frame;
        }
        frame::ethernet(&frame::udp(from, to(53), b"request"))
    };
    (1..=UNKNOWN_FLOWS).map(frame).collect()
}

/// The offset of the TCP flags after an Ethernet header and an IPv4 header without options.
const TCP_FLAGS: usize = 14 + 20 + 13;
const SYN_AND_FIN: u8 = 3;
