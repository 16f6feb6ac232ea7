//! Policy changes under traffic: no packet that is always allowed is lost, and none that is never
//! allowed passes. `SECGROUP_SWAPS=1000` makes more changes, at full rate.

use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use firewall_ebpf::abi::interface::Direction;
use firewall_user::config::{Config, Paths};
use firewall_user::control::{Control, Terms};
use firewall_user::model::{GroupId, NewRule, Peer, PortRange, RuleId, RuleSpec, Traffic};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::{Pair, Secgroup, tc_hook};

use crate::support::StopOnDrop;

/// Enough to find a gap that one packet in ten thousand meets.
const DEFAULT_SWAPS: usize = 200;
const ALWAYS_ALLOWED: u16 = 7000;
const NEVER_ALLOWED: u16 = 7001;

fn swaps() -> usize {
    let requested = env::var("SECGROUP_SWAPS").ok();
    requested
        .map_or(DEFAULT_SWAPS, |requested| requested.parse().expect("SECGROUP_SWAPS: a number"))
}

fn is_full_rate() -> bool {
    env::var_os("SECGROUP_SWAPS").is_some()
}

/// Sends a request as soon as the last one is answered. The rules decide every packet, because it
/// is untracked. Returns the number of replies.
fn send_allowed(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let (mut answered, mut buffer) = (0_u64, [0; 16]);
    // A lost packet is not retransmitted, so its reply never arrives.
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    while !stop.load(Ordering::Relaxed) {
        socket.send(&answered.to_be_bytes()).unwrap();
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("request {answered} of the client that is always allowed is lost: {error}")
        });
        assert_eq!(buffer[..length], answered.to_be_bytes());
        answered += 1;
    }
    answered
}

/// Sends denied packets as fast as possible; returns their number.
fn send_denied(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..64 {
            // A send fails while the queue is full.
            sent += u64::from(socket.send(b"request").is_ok());
        }
        if is_full_rate() {
            thread::yield_now();
        } else {
            // Leaves processor time to other tests and to the kernel's RCU grace periods.
            thread::sleep(Duration::from_millis(1));
        }
    }
    sent
}

/// The rules of a step: on ports around the clients' ports, from any address, from the clients'
/// network and from the clients alone, so that every table changes.
fn rules_of_step(step: usize) -> Vec<NewRule> {
    let port = |by: usize| 6900 + u16::try_from((step * 7 + by * 3) % 90).expect("a port");
    let networks = ["0.0.0.0/0", "10.77.0.0/24", "10.77.0.2/32", "10.0.0.0/8", "172.16.0.0/12"];
    let rules = networks.iter().enumerate().map(|(by, network)| NewRule {
        spec: RuleSpec {
            direction: Direction::Ingress,
            traffic: Traffic::Udp(PortRange { from: port(by), to: port(by) + 5 }),
            peer: Peer::Ipv4(network.parse().expect("a network")),
        },
        description: String::new(),
        end: None,
    });
    rules.collect()
}

fn swap(control: &mut Control, group: &GroupId, step: usize, previous: &[RuleId]) -> Vec<RuleId> {
    let changed = control.change(&Terms::default(), |change| {
        change.remove_rules(group, previous)?;
        Ok(change.add_rules(group, rules_of_step(step))?)
    });
    changed.unwrap_or_else(|error| panic!("swap {step}: {error:#}"))
}

fn swap_under_traffic(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create mixed --description x");
    secgroup.ok(&format!(
        "rule add mixed ingress --protocol udp --port {ALWAYS_ALLOWED} --cidr 0.0.0.0/0"
    ));
    secgroup.ok(&format!("attach eth0 --group mixed --hook {hook}"));
    let server = Pair::SERVER[0];
    assert!(server.is_ipv4());
    let _echo = UdpEcho::start(&net.server, SocketAddr::new(server, ALWAYS_ALLOWED));
    let leaked = AtomicU64::new(0);
    let denied_receiver = udp::bind(&net.server, SocketAddr::new(server, NEVER_ALLOWED));
    denied_receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let stop = AtomicBool::new(false);

    let paths = Paths {
        state_dir: secgroup.state_dir(),
        pin_dir: secgroup.pin_dir().to_owned(),
        config: None,
    };
    let mut control = Control::open(&paths, Config::default()).unwrap();
    let group = control.model().unwrap().group("mixed").unwrap().id.clone();

    let allowed_socket = udp::connect(&net.client, SocketAddr::new(server, ALWAYS_ALLOWED));
    let denied_socket = udp::connect(&net.client, SocketAddr::new(server, NEVER_ALLOWED));
    let start = Instant::now();
    let (answered, sent) = thread::scope(|scope| {
        let allowed_socket = scope.spawn(|| send_allowed(&allowed_socket, &stop));
        let denied_socket = scope.spawn(|| send_denied(&denied_socket, &stop));
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                leaked.fetch_add(
                    u64::from(denied_receiver.recv(&mut [0; 16]).is_ok()),
                    Ordering::Relaxed,
                );
            }
        });
        {
            let _stop = StopOnDrop(&stop);
            let mut previous = Vec::new();
            for step in 0..swaps() {
                previous = swap(&mut control, &group, step, &previous);
            }
        }
        (allowed_socket.join().unwrap(), denied_socket.join().unwrap())
    });
    println!(
        "{hook}: {} swaps in {:?}: {answered} requests answered, {sent} packets denied",
        swaps(),
        start.elapsed()
    );
    assert_eq!(leaked.load(Ordering::Relaxed), 0, "of {sent} packets that are never allowed");
    assert!(answered > 1000 && sent > 1000, "{answered} and {sent}: too little traffic");
    let counters = secgroup.counters();
    let untracked = counters.packets("eth0", "ingress", "untracked");
    assert_eq!(untracked, answered, "the rules decided every request");
    assert!(counters.packets("eth0", "ingress", "no-rule") <= sent);
}

#[test]
fn swaps_neither_lose_nor_leak_packets_at_tc() {
    swap_under_traffic(tc_hook());
}

#[test]
fn swaps_neither_lose_nor_leak_packets_at_xdp() {
    swap_under_traffic("xdp");
}
