//! Emergency mode (`secgroup panic`): only packets of the management networks pass.

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

/// A server with two clients: the one at `eth0` is in the management networks, the other at `eth1`
/// is not.
struct Site {
    net: Pair,
    other_host: Namespace,
}

const MANAGEMENT: &str = "10.77.0.0/24 fd77::/64";
const OTHER_HOST: [&str; 2] = ["10.66.0.2/24", "fd66::2/64"];
const SERVER_ETH1: [&str; 2] = ["10.66.0.1/24", "fd66::1/64"];

impl Site {
    fn new() -> Self {
        let (net, other_host) = (Pair::new(), Namespace::new());
        join([
            End { namespace: &net.server, device: "eth1", addresses: &SERVER_ETH1 },
            End { namespace: &other_host, device: "eth0", addresses: &OTHER_HOST },
        ]);
        Self { net, other_host }
    }

    fn eth1_ends(port: u16) -> [SocketAddr; 2] {
        ["10.66.0.1", "fd66::1"].map(|address| (address.parse::<IpAddr>().unwrap(), port).into())
    }
}

fn survives(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    tcp::exchange(stream, b"still here").is_ok()
}

#[test]
fn only_the_management_networks_pass_until_panic_is_off() {
    // First untracked, so that the open connections have no flow; then tracked.
    for options in ["--tcp-loose off", "--tracking always"] {
        let site = Site::new();
        let Site { net, other_host } = &site;
        let secgroup = Secgroup::inside(&net.server);
        secgroup.ok("group create open --description x");
        secgroup.ok(&format!("rule add {OPEN}"));
        for device in ["eth0", "eth1"] {
            secgroup.ok(&format!("attach {device} --group open {options}"));
        }
        let management_ends = at(Pair::SERVER, 22);
        let other_ends = Site::eth1_ends(22);
        let _servers = [management_ends, other_ends]
            .map(|ends| ends.map(|end| TcpServer::echo(&net.server, end)));
        let echo = UdpEcho::start(&net.server, other_ends[0]);
        let mut management_streams =
            management_ends.map(|end| tcp::connect(&net.client, end).unwrap());
        let mut other_streams = other_ends.map(|end| tcp::connect(other_host, end).unwrap());
        let datagrams = udp::connect(other_host, echo.address());
        assert!(management_streams.iter_mut().chain(&mut other_streams).all(survives));
        assert!(udp::is_echoed(&datagrams, MAX_WAIT));

        secgroup.ok(&format!("management set {MANAGEMENT}"));
        let output = secgroup.ok("panic");
        let start = "PANIC: only traffic of 10.77.0.0/24, fd77::/64 passes: eth0, eth1; ";
        assert!(output.starts_with(start), "{output}");
        let is_tracked = options == "--tracking always";
        assert_eq!(!output.contains("; 0 flows removed"), is_tracked, "{options}: {output}");
        // The same after each command that writes the kernel's state.
        for command in ["panic", "reconcile", "attach eth1 --group open"] {
            assert!(
                management_streams.iter_mut().all(survives),
                "{options}, {command}: {}",
                secgroup.view()
            );
            assert!(
                !other_streams.iter_mut().any(survives),
                "{options}, {command}: {}",
                secgroup.view()
            );
            assert!(!udp::is_echoed(&datagrams, Duration::from_millis(100)));
            assert!(management_ends.iter().all(|end| tcp::connect(&net.client, *end).is_ok()));
            assert!(tcp::none_reaches(other_host, &other_ends));
            assert!(!ping::ping(
                &net.server,
                OTHER_HOST[0].split_once('/').unwrap().0.parse().unwrap()
            ));
            secgroup.ok(command);
        }
        let status = secgroup.ok("status");
        assert!(
            status.starts_with("PANIC: only traffic of 10.77.0.0/24, fd77::/64 passes; "),
            "{status}"
        );
        assert_eq!(secgroup.json("status")["Panic"], true);
        assert!(secgroup.ok("metrics").contains("secgroup_panic 1"));
        assert!(secgroup.ok("flows list").contains("management"));

        // Changes during the panic take effect when it is off.
        secgroup.ok(&format!("rule remove {OPEN}"));
        secgroup.ok(
            "rule add open ingress --protocol tcp --port 22 --cidr 10.66.0.0/24 --cidr fd66::/64",
        );
        assert!(tcp::none_reaches(other_host, &other_ends));
        secgroup.ok("panic --off");
        assert!(other_ends.iter().all(|end| tcp::connect(other_host, *end).is_ok()));
        assert!(tcp::none_reaches(&net.client, &management_ends));
        assert!(!secgroup.ok("status").contains("PANIC"));
        assert!(secgroup.ok("metrics").contains("secgroup_panic 0"));
    }
}

#[test]
fn panic_survives_a_reboot_and_the_rollback_of_a_pending_change() {
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
    assert!(answer.stderr.contains("PANIC: only traffic of 192.0.2.0/24 passes"), "{answer}");
    assert!(!ping::ping(&net.client, Pair::SERVER[0]));
    secgroup.ok("rollback");
    assert!(!ping::ping(&net.client, Pair::SERVER[0]));
    secgroup.ok("panic --off");
    assert!(ping::ping(&net.client, Pair::SERVER[0]));
}

#[test]
fn panic_does_not_lock_its_caller_out() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create open --description x");
    secgroup.ok(&format!("rule add {OPEN}"));
    secgroup.ok("attach eth0 --group open");
    let as_caller = |line: &str| {
        let mut command = secgroup.command(line.split(' '));
        CommandOutput::of(command.env("SSH_CONNECTION", "10.77.0.2 50000 10.77.0.1 22"))
    };
    let assert_refused = |line: &str, output: &str| {
        let answer = as_caller(line);
        assert_eq!(answer.code, Some(1), "{line}: {answer}");
        assert!(answer.stderr.contains(output), "{line}: {answer}");
        assert_eq!(secgroup.json("status")["Panic"], false);
    };
    assert_refused("panic", "no management network is set, so every packet would be dropped");
    secgroup.ok("management set 192.0.2.0/24");
    assert_refused(
        "panic",
        "your SSH connection comes from 10.77.0.2, which is in no management network",
    );
    secgroup.refused("management set 0.0.0.0/0", 2);
    secgroup.ok("management set 10.77.0.0/24");
    assert_eq!(secgroup.ok("management list"), "10.77.0.0/24\n");
    assert_eq!(as_caller("panic").code, Some(0));

    for line in ["management set 192.0.2.0/24", "management clear"] {
        let answer = as_caller(line);
        assert_eq!(answer.code, Some(1), "{line}: {answer}");
    }
    // `panic --off` is refused too, because the rules have changed.
    secgroup.ok(&format!("rule remove {OPEN}"));
    let answer = as_caller("panic --off");
    assert!(answer.stderr.contains("this would lock you out"), "{answer}");
    assert!(ping::ping(&net.client, Pair::SERVER[0]));
    assert_eq!(as_caller("panic --off --force").code, Some(0));
    assert!(!ping::ping(&net.client, Pair::SERVER[0]));
}
