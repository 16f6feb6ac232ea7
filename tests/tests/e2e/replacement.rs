//! Programs that are replaced again and again while packets pass: none is lost, no flow ends and no
//! counter goes back.

use std::collections::BTreeMap;
use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use firewall_user::dataplane::Pins;
use firewall_user::dataplane::maps::Maps;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, tc_hook};

/// How often programs are replaced, unless the environment says otherwise.
const USUAL: u32 = 20;
const ASK: &str = "SECGROUP_REPLACEMENTS";

const RULES: [&str; 2] = ["udp --port 53", "tcp --port 80"];

#[test]
fn nothing_is_lost_while_programs_are_replaced_on_tcx() {
    nothing_is_lost(tc_hook());
}

#[test]
fn nothing_is_lost_while_programs_are_replaced_on_native_xdp() {
    nothing_is_lost("xdp");
}

#[test]
fn nothing_is_lost_while_programs_are_replaced_on_clsact() {
    nothing_is_lost("clsact");
}

fn nothing_is_lost(hook: &str) {
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
    // Twice, so that it has moved to the proven tier.
    sockets.iter().for_each(|socket| (0..2).for_each(|number| ask(socket, number)));
    streams.iter_mut().for_each(|stream| tcp::exchange(stream, b"hello").unwrap());
    let flows = flows(&secgroup);
    assert_eq!(flows.len(), 4, "{flows:?}");

    let times = env::var(ASK).ok().and_then(|times| times.parse().ok()).unwrap_or(USUAL);
    let stop = AtomicBool::new(false);
    let exchanged: [AtomicU64; 4] = Default::default();
    // Only `established` moves: a packet that is dropped, and one that finds no flow, has a reason
    // of another name. Counters that go back are told here, too.
    secgroup.moved_over_flows(&[], || {
        thread::scope(|scope| {
            let [udp_v4, udp_v6, tcp_v4, tcp_v6] = &exchanged;
            let stop = &stop;
            let mut talkers = Vec::new();
            for (socket, exchanged) in sockets.iter().zip([udp_v4, udp_v6]) {
                talkers.push(scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // Asked once: an answer that does not come is a packet that was lost.
                        ask(socket, exchanged.fetch_add(1, Ordering::Relaxed) + 2);
                    }
                }));
            }
            for (stream, exchanged) in streams.iter_mut().zip([tcp_v4, tcp_v6]) {
                talkers.push(scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        tcp::exchange(stream, &[7; 1 << 16]).unwrap();
                        exchanged.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
            let _stop = Stop(stop);
            let counts = || exchanged.each_ref().map(|count| count.load(Ordering::Relaxed));
            for _ in 0..times {
                let (before, counted) = (counts(), secgroup.counters());
                secgroup.ok(&attach);
                wait_until(MAX_WAIT, "everybody to talk on", || {
                    talkers.iter().all(|talker| !talker.is_finished())
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
        let questions = exchanged.load(Ordering::Relaxed) + 2;
        let of = after.iter().find(|(((_, _, end), _), _)| *end == outside);
        assert_eq!(of.unwrap().1, &[questions; 2], "packets of {outside}");
    }
}

/// Ends the talk, also when the test panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends a numbered question and waits for its answer.
fn ask(socket: &UdpSocket, number: u64) {
    socket.set_read_timeout(Some(MAX_WAIT)).unwrap();
    socket.send(&number.to_be_bytes()).unwrap();
    let mut answer = [0; 8];
    let length =
        socket.recv(&mut answer).unwrap_or_else(|error| panic!("question {number}: {error}"));
    assert_eq!((length, u64::from_be_bytes(answer)), (8, number));
}

/// What of a flow is fixed: protocol and ends, the moment when it began, and its rule.
type Fixed = ((u8, SocketAddr, SocketAddr), (u32, u32));

/// Every flow by what of it is fixed, with its packets from outside and from inside.
fn flows(secgroup: &Secgroup<'_>) -> BTreeMap<Fixed, [u64; 2]> {
    let maps = Maps::open(&Pins::new(secgroup.pin_dir())).unwrap();
    let flows = maps.flows().unwrap().into_iter().map(|entry| {
        let inside = SocketAddr::new(entry.inside, entry.inside_port);
        let outside = SocketAddr::new(entry.outside, entry.outside_port);
        let fixed = (entry.flow.created, entry.flow.rule);
        (((entry.protocol, inside, outside), fixed), entry.flow.packets.map(u64::from))
    });
    flows.collect()
}
