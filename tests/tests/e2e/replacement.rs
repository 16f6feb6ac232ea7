//! Programs replaced repeatedly under traffic: no packet is lost, no flow ends and no counter
//! decreases.

use std::collections::BTreeMap;
use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use firewall_user::dataplane::Pins;
use firewall_user::dataplane::tables::maps::Maps;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, tc_hook};

use crate::support::{StopOnDrop, exchange_until_proven};

/// How often programs are replaced, unless the environment variable is set.
const DEFAULT_REPLACEMENTS: u32 = 20;
const REPLACEMENTS_VARIABLE: &str = "SECGROUP_REPLACEMENTS";

const RULES: [&str; 2] = ["udp --port 53", "tcp --port 80"];

#[test]
fn no_packet_is_lost_while_programs_are_replaced_at_tcx() {
    replace_under_traffic(tc_hook());
}

#[test]
fn no_packet_is_lost_while_programs_are_replaced_at_native_xdp() {
    replace_under_traffic("xdp");
}

#[test]
fn no_packet_is_lost_while_programs_are_replaced_at_clsact() {
    replace_under_traffic("clsact");
}

fn replace_under_traffic(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    for rule in RULES {
        let cidrs = "--cidr 10.77.0.0/24 --cidr fd77::/64";
        secgroup.ok(&format!("rule add web ingress --protocol {rule} {cidrs}"));
    }
    let attach = format!("attach eth0 --group web --hook {hook}");
    secgroup.ok(&attach);
    let _echoes = at(Pair::SERVER, 53).map(|end| UdpEcho::start(&net.server, end));
    let _servers = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
    let sockets = at(Pair::SERVER, 53).map(|end| udp::connect(&net.client, end));
    let mut streams = at(Pair::SERVER, 80).map(|end| tcp::connect(&net.client, end).unwrap());
    let first = exchange_until_proven(&secgroup, &sockets);
    streams.iter_mut().for_each(|stream| tcp::exchange(stream, b"hello").unwrap());
    let flows = flows(&secgroup);
    assert_eq!(flows.len(), 4, "{flows:?}");

    let times = env::var(REPLACEMENTS_VARIABLE)
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(DEFAULT_REPLACEMENTS);
    let stop = AtomicBool::new(false);
    let exchanged: [AtomicU64; 4] = Default::default();
    // Only `established` increases: a dropped packet and one without a flow have other reasons.
    // This also fails if a counter decreases.
    secgroup.moved_over_flows(&[], || {
        thread::scope(|scope| {
            let [udp_v4, udp_v6, tcp_v4, tcp_v6] = &exchanged;
            let stop = &stop;
            let mut clients = Vec::new();
            for (socket, exchanged) in sockets.iter().zip([udp_v4, udp_v6]) {
                clients.push(scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // Without retransmission, so a missing reply is a lost packet.
                        exchange_datagram(socket, exchanged.fetch_add(1, Ordering::Relaxed));
                    }
                }));
            }
            for (stream, exchanged) in streams.iter_mut().zip([tcp_v4, tcp_v6]) {
                clients.push(scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        tcp::exchange(stream, &[7; 1 << 16]).unwrap();
                        exchanged.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
            let _stop = StopOnDrop(stop);
            let counts = || exchanged.each_ref().map(|count| count.load(Ordering::Relaxed));
            for _ in 0..times {
                let (before, counted) = (counts(), secgroup.counters());
                secgroup.ok(&attach);
                wait_until(MAX_WAIT, "every client to make progress", || {
                    clients.iter().all(|client| !client.is_finished())
                        && counts().iter().zip(before).all(|(now, before)| *now > before)
                });
                let _ = secgroup.counters().since(&counted);
            }
        });
    });
    let after = self::flows(&secgroup);
    assert!(flows.keys().eq(after.keys()), "{flows:?} became {after:?}");
    for (socket, exchanged) in sockets.iter().zip(&exchanged) {
        let outside = socket.local_addr().unwrap();
        let requests = exchanged.load(Ordering::Relaxed) + first;
        let of = after.iter().find(|(((_, _, end), _), _)| *end == outside);
        assert_eq!(of.unwrap().1, &[requests; 2], "packets of {outside}");
    }
}

/// Sends a numbered request and waits for its reply.
fn exchange_datagram(socket: &UdpSocket, number: u64) {
    socket.set_read_timeout(Some(MAX_WAIT)).unwrap();
    socket.send(&number.to_be_bytes()).unwrap();
    let mut answer = [0; 8];
    let length =
        socket.recv(&mut answer).unwrap_or_else(|error| panic!("request {number}: {error}"));
    assert_eq!((length, u64::from_be_bytes(answer)), (8, number));
}

/// The constant fields of a flow: protocol and ends, its creation time, and its rule.
type FlowIdentity = ((u8, SocketAddr, SocketAddr), (u32, u32));

/// Every flow by its constant fields, with its packets from outside and from inside.
fn flows(secgroup: &Secgroup<'_>) -> BTreeMap<FlowIdentity, [u64; 2]> {
    let maps = Maps::open(&Pins::new(secgroup.pin_dir())).unwrap();
    let flows = maps.flows().unwrap().into_iter().map(|entry| {
        let inside = SocketAddr::new(entry.inside, entry.inside_port);
        let outside = SocketAddr::new(entry.outside, entry.outside_port);
        let identity = (entry.flow.created, entry.flow.rule);
        (((entry.protocol, inside, outside), identity), entry.flow.packets.map(u64::from))
    });
    flows.collect()
}
