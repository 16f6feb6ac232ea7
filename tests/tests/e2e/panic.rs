//! Panic: nothing but the management networks.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use secgroup_tests::network::{End, at, join};
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Namespace, Pair, Secgroup, ping};

const OPEN: &str = "open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0";

/// The client is in the management networks; the stranger is on the same link and is not.
struct Site {
    net: Pair,
    stranger: Namespace,
}

const MANAGEMENT: &str = "10.77.0.0/24 fd77::/64";
const STRANGER: [&str; 2] = ["10.66.0.2/24", "fd66::2/64"];
const TO_STRANGER: [&str; 2] = ["10.66.0.1/24", "fd66::1/64"];

impl Site {
    fn new() -> Self {
        let (net, stranger) = (Pair::new(), Namespace::new());
        join([
            End { namespace: &net.server, device: "eth1", addresses: &TO_STRANGER },
            End { namespace: &stranger, device: "eth0", addresses: &STRANGER },
        ]);
        Self { net, stranger }
    }

    fn to_stranger(port: u16) -> [SocketAddr; 2] {
        ["10.66.0.1", "fd66::1"].map(|address| (address.parse::<IpAddr>().unwrap(), port).into())
    }
}

fn goes_on(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    tcp::exchange(stream, b"still here").is_ok()
}

#[test]
fn only_the_management_networks_pass_until_it_is_over() {
    // Untracked before, so that the open connection has no flow; and tracked.
    for options in ["--pick-up off", "--tracking always"] {
        let site = Site::new();
        let Site { net, stranger } = &site;
        let secgroup = Secgroup::inside(&net.server);
        secgroup.ok("group create open --description x");
        secgroup.ok(&format!("rule add {OPEN}"));
        for device in ["eth0", "eth1"] {
            secgroup.ok(&format!("attach {device} --group open {options}"));
        }
        let near = at(Pair::SERVER, 22);
        let far = Site::to_stranger(22);
        let _servers = [near, far].map(|ends| ends.map(|end| TcpServer::echo(&net.server, end)));
        let echo = UdpEcho::start(&net.server, far[0]);
        let mut managed = near.map(|end| tcp::connect(&net.client, end).unwrap());
        let mut others = far.map(|end| tcp::connect(stranger, end).unwrap());
        let datagrams = udp::connect(stranger, echo.address());
        assert!(managed.iter_mut().chain(&mut others).all(goes_on));
        assert!(udp::is_echoed(&datagrams, MAX_WAIT));

        secgroup.ok(&format!("management set {MANAGEMENT}"));
        let said = secgroup.ok("panic");
        let start = "PANIC: only 10.77.0.0/24, fd77::/64 passes: eth0, eth1; ";
        assert!(said.starts_with(start), "{said}");
        let is_tracked = options == "--tracking always";
        assert_eq!(!said.contains("; 0 flows ended"), is_tracked, "{options}: {said}");
        // Also after the kernel has forgotten everything.
        for again in ["panic", "reconcile", "attach eth1 --group open"] {
            assert!(managed.iter_mut().all(goes_on), "{options}, {again}: {}", secgroup.view());
            assert!(!others.iter_mut().any(goes_on), "{options}, {again}: {}", secgroup.view());
            assert!(!udp::is_echoed(&datagrams, Duration::from_millis(100)));
            assert!(near.iter().all(|end| tcp::connect(&net.client, *end).is_ok()));
            assert!(tcp::none_reaches(stranger, &far));
            assert!(!ping::ping(
                &net.server,
                STRANGER[0].split_once('/').unwrap().0.parse().unwrap()
            ));
            secgroup.ok(again);
        }
        let status = secgroup.ok("status");
        assert!(status.starts_with("PANIC: only 10.77.0.0/24, fd77::/64 passes; "), "{status}");
        assert_eq!(secgroup.json("status")["Panic"], true);
        assert!(secgroup.ok("metrics").contains("secgroup_panic 1"));
        assert!(secgroup.ok("flows list").contains("management"));

        // What is changed meanwhile shows when it is over.
        secgroup.ok(&format!("rule remove {OPEN}"));
        secgroup.ok(
            "rule add open ingress --protocol tcp --port 22 --cidr 10.66.0.0/24 --cidr fd66::/64",
        );
        assert!(tcp::none_reaches(stranger, &far));
        secgroup.ok("panic --off");
        assert!(far.iter().all(|end| tcp::connect(stranger, *end).is_ok()));
        assert!(tcp::none_reaches(&net.client, &near));
        assert!(!secgroup.ok("status").contains("PANIC"));
        assert!(secgroup.ok("metrics").contains("secgroup_panic 0"));
    }
}

#[test]
fn it_outlives_a_reboot_and_a_change_that_waits() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create open --description x");
    secgroup.ok(&format!("rule add {OPEN}"));
    secgroup.ok("attach eth0 --group open");
    secgroup.ok("management set 192.0.2.0/24");
    secgroup.ok("rule add open ingress --protocol 47 --cidr ::/0 --confirm 1h");
    secgroup.ok("panic");
    fs::remove_dir_all(secgroup.pin_dir()).unwrap();
    let answer = secgroup.run(["reconcile"]);
    assert!(answer.stderr.contains("PANIC: only 192.0.2.0/24 passes"), "{answer}");
    assert!(!ping::ping(&net.client, Pair::SERVER[0]));
    secgroup.ok("rollback");
    assert!(!ping::ping(&net.client, Pair::SERVER[0]));
    secgroup.ok("panic --off");
    assert!(ping::ping(&net.client, Pair::SERVER[0]));
}

#[test]
fn it_does_not_keep_its_caller_out() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create open --description x");
    secgroup.ok(&format!("rule add {OPEN}"));
    secgroup.ok("attach eth0 --group open");
    let as_caller = |line: &str| {
        let mut command = secgroup.command(line.split(' '));
        CommandOutput::of(command.env("SSH_CONNECTION", "10.77.0.2 50000 10.77.0.1 22"))
    };
    let refused = |line: &str, said: &str| {
        let answer = as_caller(line);
        assert_eq!(answer.code, Some(1), "{line}: {answer}");
        assert!(answer.stderr.contains(said), "{line}: {answer}");
        assert_eq!(secgroup.json("status")["Panic"], false);
    };
    refused("panic", "no management network is set, so nothing at all would pass");
    secgroup.ok("management set 192.0.2.0/24");
    refused("panic", "your SSH connection comes from 10.77.0.2, which is in no management network");
    secgroup.refused("management set 0.0.0.0/0", 2);
    secgroup.ok("management set 10.77.0.0/24");
    assert_eq!(secgroup.ok("management list"), "10.77.0.0/24\n");
    assert_eq!(as_caller("panic").code, Some(0));

    for line in ["management set 192.0.2.0/24", "management clear"] {
        let answer = as_caller(line);
        assert_eq!(answer.code, Some(1), "{line}: {answer}");
    }
    // Its end would, too: the rules are others by now.
    secgroup.ok(&format!("rule remove {OPEN}"));
    let answer = as_caller("panic --off");
    assert!(answer.stderr.contains("this would lock you out"), "{answer}");
    assert!(ping::ping(&net.client, Pair::SERVER[0]));
    assert_eq!(as_caller("panic --off --force").code, Some(0));
    assert!(!ping::ping(&net.client, Pair::SERVER[0]));
}
