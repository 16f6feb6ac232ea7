//! The filter of flows, made anew beneath traffic.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::socket::PacketSocket;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, bloom, frame, tc_hook};

/// Few, so that flows come and go and leave their bits behind.
const CONFIG: &str =
    "[maps]\nflows_new = 4096\nflows_proven = 2048\nrules = 4096\ninterfaces = 2\n";
/// Half of them leave bits behind, more than the filter is left with.
const STRANGERS: u16 = 49_152;
/// Connections that are as old as the test.
const STREAMS: usize = 8;
/// How often the filter is made anew.
const RENEWALS: u32 = 5;
/// Frames at once: less than a device keeps.
const BURST: usize = 64;
/// From one burst to the next.
const PACE: Duration = Duration::from_millis(1);

#[test]
fn no_flow_is_missed_while_the_filter_is_made_anew_at_tcx() {
    story(tc_hook());
}

#[test]
fn no_flow_is_missed_while_the_filter_is_made_anew_at_xdp() {
    story("xdp");
}

/// Old connections and new ones, of which every packet but the first passes by its flow alone, among
/// strangers that are let in and others that are refused.
fn story(hook: &str) {
    let net = Pair::new();
    net.server.ip(&format!("link set {} address 02:00:00:00:00:01", Pair::DEVICE));
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(CONFIG);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule remove web egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    let old = "tcp --port 81 --cidr 10.77.0.0/24";
    for rule in [old, "tcp --port 80 --cidr 10.77.0.0/24", "udp --port 53 --cidr 198.18.0.0/15"] {
        secgroup.ok(&format!("rule add web ingress --protocol {rule}"));
    }
    secgroup.ok(&format!("attach {} --group web --hook {hook}", Pair::DEVICE));
    let [new, old_end] = [80, 81].map(|port| at(Pair::SERVER, port)[0]);
    let _servers = [new, old_end].map(|end| TcpServer::echo(&net.server, end));
    let streams: Vec<_> =
        (0..STREAMS).map(|_| tcp::connect(&net.client, old_end).unwrap()).collect();
    secgroup.ok(&format!("rule remove web ingress --protocol {old}"));

    let before = secgroup.counters();
    let stop = AtomicBool::new(false);
    let goes_on = || !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let conversations = scope.spawn(|| {
            let mut streams = streams;
            while goes_on() {
                streams.iter_mut().try_for_each(|stream| tcp::exchange(stream, b"still there"))?;
            }
            Ok::<_, std::io::Error>(())
        });
        let connections = scope.spawn(|| {
            while goes_on() {
                let mut stream = tcp::connect(&net.client, new)?;
                tcp::exchange(&mut stream, b"hello")?;
            }
            Ok::<_, std::io::Error>(())
        });
        scope.spawn(|| {
            let wire = PacketSocket::new(&net.client, Pair::DEVICE);
            for burst in strangers().chunks(BURST).cycle().take_while(|_| goes_on()) {
                burst.iter().for_each(|frame| wire.send(frame));
                thread::sleep(PACE);
            }
        });
        let renewed = || {
            let before = bloom::in_use(&secgroup);
            wait_until(MAX_WAIT, "the filter to be made anew", || {
                secgroup.ok("gc");
                conversations.is_finished()
                    || connections.is_finished()
                    || bloom::in_use(&secgroup) != before
            });
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..RENEWALS).for_each(|_| renewed());
        }));
        stop.store(true, Ordering::Relaxed);
        for talk in [conversations, connections] {
            let told = talk.join().unwrap();
            told.unwrap_or_else(|error| panic!("{hook}: {error}\n{}", secgroup.view()));
        }
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let moved = secgroup.counters().since(&before);
    // Nothing is refused but what has impossible flags; whose packets are whose nobody can tell.
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

/// Datagrams that the rules allow, each of another flow; and between them segments that no flow has, so
/// that the programs are always refusing.
fn strangers() -> Vec<Vec<u8>> {
    let to = |port| SocketAddr::new(Pair::SERVER[0], port);
    let frame = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, high, low)), 4000);
        if number.is_multiple_of(2) {
            let mut frame = frame::ethernet(&frame::syn(from, to(80), 1));
            frame[TCP_FLAGS] = SYN_AND_FIN;
            return frame;
        }
        frame::ethernet(&frame::udp(from, to(53), b"let me in"))
    };
    (1..=STRANGERS).map(frame).collect()
}

/// Behind an Ethernet header and an IPv4 header without options.
const TCP_FLAGS: usize = 14 + 20 + 13;
const SYN_AND_FIN: u8 = 3;
