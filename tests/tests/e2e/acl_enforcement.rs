//! Network ACLs in the kernel: stateless, in both directions, changed together with groups.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::limits::ABI_VERSION;
use firewall_user::config::{Config, Paths};
use firewall_user::control::{Control, Terms};
use firewall_user::model;
use firewall_user::model::{
    AclEntry, Action, EndKind, NewRule, Peer, PortRange, RuleSpec, Traffic,
};
use firewall_user::store::Transaction;
use nix::time::{ClockId, clock_gettime};
use secgroup_tests::network::{End, at, join};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, Secgroup, tc_hook};

use crate::support::StopOnDrop;

const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// A server at whose groups everything passes, with the ACL `web`, which allows everything.
fn server<'a>(net: &'a Pair, hook: &str) -> Secgroup<'a> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("attach eth0 --group open --hook {hook} --tracking always"));
    secgroup.ok("acl create web");
    allow_everything(&secgroup, "web");
    secgroup.ok("acl associate web eth0");
    secgroup
}

fn allow_everything(secgroup: &Secgroup<'_>, acl: &str) {
    for (number, network) in [100, 101].into_iter().zip(ANYWHERE) {
        for direction in ["ingress", "egress"] {
            let what = format!("{direction} {number} allow --protocol all --cidr {network}");
            secgroup.ok(&format!("acl entry add {acl} {what}"));
        }
    }
}

/// The instance as the library sees it.
fn control(secgroup: &Secgroup<'_>) -> Control {
    let paths = Paths {
        state_dir: secgroup.state_dir(),
        pin_dir: secgroup.pin_dir().to_owned(),
        config: None,
    };
    Control::open(&paths, Config::default()).unwrap()
}

/// Whether an open connection carries a request and its reply within the limit.
fn carries(stream: &mut TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).unwrap();
    tcp::exchange(stream, b"request").is_ok()
}

/// The tables of filters that are pinned.
fn filter_tables(secgroup: &Secgroup<'_>) -> Vec<String> {
    let dir = secgroup.pin_dir().join(format!("abi{ABI_VERSION}")).join("tables");
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.starts_with("filter_")).collect()
}

fn an_entry_cuts_a_flow(hook: &str) {
    let net = Pair::new();
    let secgroup = server(&net, hook);
    for (end, client) in at(Pair::SERVER, 80).into_iter().zip(Pair::CLIENT) {
        let _server = TcpServer::echo(&net.server, end);
        let bits = if client.is_ipv4() { 32 } else { 128 };
        for direction in ["ingress", "egress"] {
            let mut stream = tcp::connect(&net.client, end).unwrap();
            assert!(carries(&mut stream, MAX_WAIT));
            let entry = format!("web {direction} 50");
            let deny = format!("deny --protocol tcp --port 0-65535 --cidr {client}/{bits}");
            secgroup.ok(&format!("acl entry add {entry} {deny}"));
            let before = secgroup.counters();
            assert!(!carries(&mut stream, Duration::from_millis(300)), "{}", secgroup.view());
            let dropped = secgroup.counters().since(&before).packets("eth0", direction, "acl");
            assert!(dropped > 0, "{direction}: {}", secgroup.view());
            secgroup.ok(&format!("acl entry remove {entry}"));
            // The request that was not answered is repeated, and answered first.
            stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
            stream.read_exact(&mut [0; 7]).unwrap();
            assert!(carries(&mut stream, MAX_WAIT), "{direction}: {}", secgroup.view());
        }
    }
}

#[test]
fn an_entry_cuts_an_established_connection_which_goes_on_afterwards_at_tc() {
    an_entry_cuts_a_flow(tc_hook());
}

#[test]
fn an_entry_cuts_an_established_connection_which_goes_on_afterwards_at_xdp() {
    an_entry_cuts_a_flow("xdp");
}

#[test]
fn a_new_acl_denies_everything_and_the_default_one_nothing() {
    let net = Pair::new();
    let secgroup = server(&net, tc_hook());
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)));
    secgroup.ok("acl create closed");
    secgroup.ok("acl disassociate web eth0");
    secgroup.ok("acl associate closed eth0");
    let before = secgroup.counters();
    assert!(tcp::none_reaches(&net.client, &ends));
    let dropped = secgroup.counters().since(&before).packets("eth0", "ingress", "acl");
    assert!(dropped >= 2, "{}", secgroup.view());
    // Stateless: the reply needs an entry too.
    for (number, network) in [100, 101].into_iter().zip(ANYWHERE) {
        let what = format!("{number} allow --protocol tcp --port 80 --cidr {network}");
        secgroup.ok(&format!("acl entry add closed ingress {what}"));
    }
    let before = secgroup.counters();
    assert!(tcp::none_reaches(&net.client, &ends));
    let dropped = secgroup.counters().since(&before).packets("eth0", "egress", "acl");
    assert!(dropped >= 2, "{}", secgroup.view());
    for (number, network) in [100, 101].into_iter().zip(ANYWHERE) {
        let what = format!("{number} allow --protocol tcp --port 1024-65535 --cidr {network}");
        secgroup.ok(&format!("acl entry add closed egress {what}"));
    }
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)), "{}", secgroup.view());
    secgroup.ok("acl disassociate closed eth0");
    assert!(filter_tables(&secgroup).is_empty(), "the default ACL costs nothing");
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)));
}

#[test]
fn interfaces_with_the_same_entries_share_their_tables() {
    let net = Pair::new();
    let other = Namespace::new();
    join([
        End { namespace: &net.server, device: "eth1", addresses: &["10.66.0.1/24"] },
        End { namespace: &other, device: "eth0", addresses: &["10.66.0.2/24"] },
    ]);
    let secgroup = server(&net, tc_hook());
    secgroup.ok("attach eth1 --group open");
    let count = || filter_tables(&secgroup).len();
    assert_eq!(count(), 4);
    secgroup.ok("acl associate web eth1");
    assert_eq!(count(), 4, "once for both");
    let first = at(Pair::SERVER, 80)[0];
    let second = SocketAddr::new("10.66.0.1".parse::<IpAddr>().unwrap(), 80);
    let _servers = [first, second].map(|end| TcpServer::echo(&net.server, end));
    secgroup.ok("acl entry add web ingress 50 deny --protocol tcp --port 80 --cidr 0.0.0.0/0");
    assert_eq!(count(), 4);
    assert!(tcp::none_reaches(&net.client, &[first]) && tcp::none_reaches(&other, &[second]));
    secgroup.ok("acl disassociate web eth1");
    assert!(tcp::reaches(&other, second) && tcp::none_reaches(&net.client, &[first]));
    secgroup.ok("acl associate web eth1");
    secgroup.ok("detach eth0");
    assert_eq!(count(), 4);
    assert!(tcp::none_reaches(&other, &[second]));
    secgroup.ok("acl disassociate web eth1");
    assert_eq!(count(), 0);
}

#[test]
fn reconcile_restores_acls_after_a_reboot_and_without_their_tables() {
    let net = Pair::new();
    let secgroup = server(&net, tc_hook());
    secgroup.ok("acl entry add web ingress 50 deny --protocol tcp --port 80 --cidr 0.0.0.0/0");
    let ends = [at(Pair::SERVER, 80)[0], at(Pair::SERVER, 81)[0]];
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let check = |when: &str| {
        assert!(tcp::none_reaches(&net.client, &ends[..1]), "{when}: {}", secgroup.view());
        assert!(tcp::reaches(&net.client, ends[1]), "{when}: {}", secgroup.view());
        assert_eq!(filter_tables(&secgroup).len(), 4, "{when}");
    };
    check("before");
    let dir = secgroup.pin_dir().join(format!("abi{ABI_VERSION}"));
    for at in 0..4 {
        // Reconciled tables have another number.
        let name = filter_tables(&secgroup).into_iter().nth(at).unwrap();
        std::fs::remove_file(dir.join("tables").join(&name)).unwrap();
        secgroup.ok("reconcile");
        check(&format!("without {name}"));
    }
    // As a reboot leaves it.
    std::fs::remove_dir_all(&dir).unwrap();
    secgroup.ok("reconcile");
    check("all pins are missing");
    secgroup.ok("reconcile");
    check("reconciled again");
}

#[test]
fn audit_mode_counts_what_an_acl_would_drop() {
    let net = Pair::new();
    let secgroup = server(&net, tc_hook());
    secgroup.ok("acl entry add web ingress 50 deny --protocol udp --port 80 --cidr 0.0.0.0/0");
    secgroup.ok("mode eth0 audit");
    let echo = UdpEcho::start(&net.server, at(Pair::SERVER, 80)[0]);
    let socket = udp::connect(&net.client, echo.address());
    let before = secgroup.counters();
    assert!(udp::is_echoed(&socket, MAX_WAIT));
    let after = secgroup.counters().since(&before);
    assert_eq!(after.packets("eth0", "ingress", "acl"), 1, "{after}");
    secgroup.ok("mode eth0 enforce");
    assert!(!udp::is_echoed(&socket, Duration::from_millis(200)));
}

#[test]
fn panic_does_not_consult_acls() {
    let net = Pair::new();
    let secgroup = server(&net, tc_hook());
    for (number, network) in [50, 51].into_iter().zip(ANYWHERE) {
        let what = format!("{number} deny --protocol tcp --port 22 --cidr {network}");
        secgroup.ok(&format!("acl entry add web ingress {what}"));
    }
    let ends = at(Pair::SERVER, 22);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(tcp::none_reaches(&net.client, &ends));
    secgroup.ok("management set 10.77.0.0/24 fd77::/64");
    secgroup.ok("panic");
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)), "{}", secgroup.view());
    secgroup.ok("panic --off");
    assert!(tcp::none_reaches(&net.client, &ends));
}

/// Allowed by group and ACL in every step.
const ALWAYS: u16 = 7000;
/// Denied by the group in every other step, and by the ACL in those between.
const NEVER: u16 = 7001;

fn ports(from: u16, to: u16) -> Traffic {
    Traffic::Udp(PortRange { from, to })
}

/// Lets the group deny [`NEVER`], or else the ACL.
fn swap(change: &mut Transaction<'_>, by_group: bool) {
    let anywhere = || Peer::Ipv4("0.0.0.0/0".parse().unwrap());
    let group = change.model().group("mixed").unwrap().clone();
    let ingress = group.rules.iter().filter(|rule| rule.spec.direction == Direction::Ingress);
    let old: Vec<_> = ingress.map(|rule| rule.id.clone()).collect();
    change.remove_rules(&group.id, &old).unwrap();
    let to = if by_group { ALWAYS } else { NEVER };
    let spec =
        RuleSpec { direction: Direction::Ingress, traffic: ports(ALWAYS, to), peer: anywhere() };
    let rule = NewRule { spec, description: String::new(), end: None };
    change.add_rules(&group.id, vec![rule]).unwrap();
    let acl = change.model().acl("web").unwrap().id.clone();
    let entry = AclEntry {
        number: 0,
        action: if by_group { Action::Allow } else { Action::Deny },
        traffic: ports(NEVER, NEVER),
        peer: anywhere(),
        end: None,
    };
    change.replace_acl_entry(&acl, (Direction::Ingress, 50), entry).unwrap();
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..64 {
            sent += u64::from(socket.send(b"request").is_ok());
        }
        // Leaves processor time to other tests and to the kernel's RCU grace periods.
        thread::sleep(Duration::from_millis(1));
    }
    sent
}

fn changes_together(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create mixed --description x");
    secgroup.ok(&format!("rule add mixed ingress --protocol udp --port {ALWAYS} --cidr 0.0.0.0/0"));
    secgroup.ok(&format!("attach eth0 --group mixed --hook {hook}"));
    secgroup.ok("acl create web");
    allow_everything(&secgroup, "web");
    secgroup.ok(&format!(
        "acl entry add web ingress 50 allow --protocol udp --port {NEVER} --cidr 0.0.0.0/0"
    ));
    secgroup.ok("acl associate web eth0");
    let server = Pair::SERVER[0];
    let _echo = UdpEcho::start(&net.server, SocketAddr::new(server, ALWAYS));
    let receiver = udp::bind(&net.server, SocketAddr::new(server, NEVER));
    receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let always = udp::connect(&net.client, SocketAddr::new(server, ALWAYS));
    let never = udp::connect(&net.client, SocketAddr::new(server, NEVER));
    let mut control = control(&secgroup);
    let (stop, leaked) = (AtomicBool::new(false), AtomicU64::new(0));
    let (answered, sent) = thread::scope(|scope| {
        let answered = scope.spawn(|| {
            let mut answered = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                assert!(udp::is_echoed(&always, MAX_WAIT), "request {answered} is lost");
                answered += 1;
            }
            answered
        });
        let sent = scope.spawn(|| send(&never, &stop));
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let is_leak = receiver.recv(&mut [0; 16]).is_ok();
                leaked.fetch_add(u64::from(is_leak), Ordering::Relaxed);
            }
        });
        {
            let _stop = StopOnDrop(&stop);
            for step in 0..100 {
                let done = control.change(&Terms::default(), |change| {
                    swap(change, step % 2 == 1);
                    Ok(())
                });
                done.unwrap_or_else(|error| panic!("swap {step}: {error:#}"));
            }
        }
        (answered.join().unwrap(), sent.join().unwrap())
    });
    assert_eq!(leaked.load(Ordering::Relaxed), 0, "of {sent} packets that are never allowed");
    assert!(answered > 500 && sent > 500, "{answered} and {sent}: too little traffic");
    let counters = secgroup.counters();
    for reason in ["acl", "no-rule"] {
        assert!(counters.packets("eth0", "ingress", reason) > 0, "{reason}: {counters}");
    }
}

#[test]
fn no_packet_meets_an_acl_without_the_groups_changed_with_it_at_tc() {
    changes_together(tc_hook());
}

#[test]
fn no_packet_meets_an_acl_without_the_groups_changed_with_it_at_xdp() {
    changes_together("xdp");
}

#[test]
fn an_entry_that_is_made_again_denies_what_passed_once_it_had_ended() {
    let net = Pair::new();
    let secgroup = server(&net, tc_hook());
    let end = at(Pair::SERVER, 80)[0];
    let _server = TcpServer::echo(&net.server, end);
    let add = "acl entry add web ingress 50 deny --protocol tcp --port 80 --cidr 0.0.0.0/0 --for";
    secgroup.ok(&format!("{add} 1s"));
    wait_until(MAX_WAIT, "the end of the entry", || tcp::reaches(&net.client, end));
    let mut stream = tcp::connect(&net.client, end).unwrap();
    // Packets of the flow are not looked up any more: the flow remembers that they pass.
    let packets = 20;
    (0..packets).for_each(|_| assert!(carries(&mut stream, MAX_WAIT)));
    // The same entry again, with the counter of the one that has ended.
    secgroup.ok(&format!("{add} 1h"));
    let before = secgroup.counters();
    assert!(!carries(&mut stream, Duration::from_millis(300)), "{}", secgroup.view());
    assert!(secgroup.counters().since(&before).packets("eth0", "ingress", "acl") > 0);
}

#[test]
fn an_entry_ends_by_the_kernels_clock() {
    let net = Pair::new();
    let secgroup = server(&net, tc_hook());
    let end = at(Pair::SERVER, 80)[0];
    let _server = TcpServer::echo(&net.server, end);
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let after = Duration::from_secs(3);
    let entry = AclEntry {
        number: 0,
        action: Action::Deny,
        traffic: Traffic::Tcp(PortRange { from: 80, to: 80 }),
        peer: Peer::Ipv4("0.0.0.0/0".parse().unwrap()),
        end: Some(model::End {
            kind: EndKind::For,
            wall: (wall + after).as_millis().try_into().unwrap(),
            boottime: (now + after).as_nanos().try_into().unwrap(),
        }),
    };
    let added = control(&secgroup).change(&Terms::default(), |change| {
        let acl = change.model().acl("web").unwrap().id.clone();
        Ok(change.add_acl_entry(&acl, (Direction::Ingress, 50), entry)?)
    });
    added.unwrap();
    assert!(tcp::none_reaches(&net.client, &[end]));
    // No command runs meanwhile.
    wait_until(MAX_WAIT, "the entry to end", || tcp::reaches(&net.client, end));
}
