//! Changes under traffic: nothing that is always allowed is lost, nothing that is never allowed gets
//! through. `SECGROUP_SWAPS=1000` makes more of them, at full rate.

use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use firewall_ebpf::interface::Direction;
use firewall_user::config::{Config, Paths};
use firewall_user::control::{Control, Terms};
use firewall_user::model::{GroupId, NewRule, Peer, PortRange, RuleId, RuleSpec, Traffic};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::{Pair, Secgroup, tc_hook};

/// Enough to meet a gap of a packet in ten thousand.
const SWAPS: usize = 200;
const ALWAYS: u16 = 7000;
const NEVER: u16 = 7001;

fn swaps() -> usize {
    let asked = env::var("SECGROUP_SWAPS").ok();
    asked.map_or(SWAPS, |asked| asked.parse().expect("SECGROUP_SWAPS: a number"))
}

fn is_full_rate() -> bool {
    env::var_os("SECGROUP_SWAPS").is_some()
}

/// Ends the clients, also when the work panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks, and asks again as soon as it is answered; every packet is one for the rules, for no flow is
/// kept of it. Returns how many were answered.
fn ask(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let (mut answered, mut buffer) = (0_u64, [0; 16]);
    // What is lost is not repeated: then it never comes.
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    while !stop.load(Ordering::Relaxed) {
        socket.send(&answered.to_be_bytes()).unwrap();
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("question {answered} of the client that is always allowed is lost: {error}")
        });
        assert_eq!(buffer[..length], answered.to_be_bytes());
        answered += 1;
    }
    answered
}

/// Knocks as fast as it can; returns how often.
fn knock(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..64 {
            // With a full queue the next one goes.
            sent += u64::from(socket.send(b"let me in").is_ok());
        }
        if is_full_rate() {
            thread::yield_now();
        } else {
            // Other tests want the processors too, and the kernel its grace periods.
            thread::sleep(Duration::from_millis(1));
        }
    }
    sent
}

/// The rules that come and go: on ports around the clients', from everywhere, from the clients'
/// network and from the clients alone, so that every table changes.
fn coming(step: usize) -> Vec<NewRule> {
    let port = |by: usize| 6900 + u16::try_from((step * 7 + by * 3) % 90).expect("a port");
    let networks = ["0.0.0.0/0", "10.77.0.0/24", "10.77.0.2/32", "10.0.0.0/8", "172.16.0.0/12"];
    let rules = networks.iter().enumerate().map(|(by, network)| NewRule {
        spec: RuleSpec {
            direction: Direction::Ingress,
            traffic: Traffic::Udp(PortRange { from: port(by), to: port(by) + 5 }),
            peer: Peer::Ipv4(network.parse().expect("a network")),
        },
        description: String::new(),
    });
    rules.collect()
}

fn swap(control: &mut Control, group: &GroupId, step: usize, gone: &[RuleId]) -> Vec<RuleId> {
    let changed = control.change(&Terms::default(), |change| {
        change.remove_rules(group, gone)?;
        Ok(change.add_rules(group, coming(step))?)
    });
    changed.unwrap_or_else(|error| panic!("swap {step}: {error:#}"))
}

fn through(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create mixed --description x");
    secgroup.ok(&format!("rule add mixed ingress --protocol udp --port {ALWAYS} --cidr 0.0.0.0/0"));
    secgroup.ok(&format!("attach eth0 --group mixed --hook {hook}"));
    let server = Pair::SERVER[0];
    assert!(server.is_ipv4());
    let _echo = UdpEcho::start(&net.server, SocketAddr::new(server, ALWAYS));
    let leaked = AtomicU64::new(0);
    let open = udp::bind(&net.server, SocketAddr::new(server, NEVER));
    open.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let stop = AtomicBool::new(false);

    let paths = Paths {
        state_dir: secgroup.state_dir(),
        pin_dir: secgroup.pin_dir().to_owned(),
        config: None,
    };
    let mut control = Control::open(&paths, Config::default()).unwrap();
    let group = control.model().unwrap().group("mixed").unwrap().id.clone();

    let asking = udp::connect(&net.client, SocketAddr::new(server, ALWAYS));
    let knocking = udp::connect(&net.client, SocketAddr::new(server, NEVER));
    let began = Instant::now();
    let (answered, sent) = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&asking, &stop));
        let knocking = scope.spawn(|| knock(&knocking, &stop));
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                leaked.fetch_add(u64::from(open.recv(&mut [0; 16]).is_ok()), Ordering::Relaxed);
            }
        });
        {
            let _stop = Stop(&stop);
            let mut gone = Vec::new();
            for step in 0..swaps() {
                gone = swap(&mut control, &group, step, &gone);
            }
        }
        (asking.join().unwrap(), knocking.join().unwrap())
    });
    println!(
        "{hook}: {} swaps in {:?}: {answered} questions answered, {sent} knocks refused",
        swaps(),
        began.elapsed()
    );
    assert_eq!(leaked.load(Ordering::Relaxed), 0, "of {sent} that are never allowed");
    assert!(answered > 1000 && sent > 1000, "{answered} and {sent}: no traffic to speak of");
    let counters = secgroup.counters();
    let untracked = counters.packets("eth0", "ingress", "untracked");
    assert_eq!(untracked, answered, "every question was one for the rules");
    assert!(counters.packets("eth0", "ingress", "no-rule") <= sent);
}

#[test]
fn swaps_lose_and_leak_nothing_through_tc() {
    through(tc_hook());
}

#[test]
fn swaps_lose_and_leak_nothing_through_xdp() {
    through("xdp");
}
