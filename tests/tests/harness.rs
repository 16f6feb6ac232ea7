//! The harness itself: without a firewall every packet arrives, and every test cleans up.

use std::path::Path;
use std::time::{Duration, Instant};

use secgroup_tests::http::{Download, HttpServer, PAGE, get};
use secgroup_tests::network::{End, Switch, at};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Guest, Namespace, Pair, Process, ping, wait_until};

#[test]
fn two_hosts_communicate_over_both_families() {
    let net = Pair::new();
    for address in at(Pair::SERVER, 0) {
        let echo = TcpServer::echo(&net.server, address);
        assert!(tcp::reaches(&net.client, echo.address()));
        let mut stream = tcp::connect(&net.client, echo.address()).unwrap();
        tcp::exchange(&mut stream, &[7; 10_000]).unwrap();

        let echo = UdpEcho::start(&net.server, address);
        assert!(udp::is_echoed(&udp::connect(&net.client, echo.address()), MAX_WAIT));

        assert!(ping::ping(&net.client, address.ip()));
    }
}

#[test]
fn a_guest_communicates_through_its_host() {
    let net = Guest::new();
    for address in at(Guest::GUEST, 0) {
        let echo = TcpServer::echo(&net.guest, address);
        assert!(tcp::reaches(&net.outside, echo.address()));
    }
    for address in Guest::OUTSIDE {
        assert!(ping::ping(&net.guest, address));
    }
}

#[test]
fn hosts_on_one_switch_reach_each_other() {
    let switch = Switch::new();
    let hosts = [Namespace::new(), Namespace::new(), Namespace::new()];
    for (number, namespace) in hosts.iter().enumerate() {
        let addresses = [format!("10.80.0.{}/24", number + 1), format!("fd80::{}/64", number + 1)];
        let addresses = addresses.each_ref().map(String::as_str);
        switch.plug(End { namespace, device: "eth0", addresses: &addresses });
    }
    for address in ["10.80.0.1", "fd80::1"] {
        assert!(ping::ping(&hosts[1], address.parse().unwrap()));
        assert!(ping::ping(&hosts[2], address.parse().unwrap()));
    }
}

#[test]
fn a_download_pauses_until_it_is_released() {
    let net = Pair::new();
    for address in at(Pair::SERVER, 80) {
        let server = HttpServer::start(&net.server, address);
        assert_eq!(get(&net.client, address, "/").unwrap(), PAGE);
        let download = Download::start(&net.client, address).unwrap();
        assert_eq!(
            get(&net.client, address, "/").unwrap(),
            PAGE,
            "the server answers other requests meanwhile"
        );
        server.finish_downloads();
        download.finish().unwrap();
    }
}

#[test]
fn an_absent_host_is_reported_in_time() {
    let net = Pair::new();
    let start = Instant::now();
    for host in ["10.77.0.9:80", "[fd77::9]:80"] {
        net.client.ip("neighbour replace 10.77.0.9 lladdr 02:00:00:00:00:09 dev eth0");
        net.client.ip("neighbour replace fd77::9 lladdr 02:00:00:00:00:09 dev eth0");
        let absent = host.parse().unwrap();
        assert!(!tcp::reaches(&net.client, absent));
        assert!(!udp::is_echoed(&udp::connect(&net.client, absent), Duration::from_millis(100)));
    }
    assert!(start.elapsed() < MAX_WAIT);
}

#[test]
fn a_new_link_carries_no_packets_of_its_own() {
    let net = Pair::new();
    let before = net.server.ip("-s link show eth0");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(before, net.server.ip("-s link show eth0"));
}

#[test]
fn a_namespace_and_its_processes_end_with_a_panic() {
    let started = std::sync::Mutex::new(None);
    let result = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let namespace = Namespace::new();
                // Never dropped, like a process that a test leaks.
                let sleeper = std::mem::ManuallyDrop::new(namespace.spawn("sleep", &["1000"]));
                *started.lock().unwrap() = Some((namespace.name().to_owned(), sleeper.id()));
                panic!("on purpose");
            })
            .join()
    });
    assert!(result.is_err());
    let (name, pid) = started.lock().unwrap().take().unwrap();
    assert!(!Path::new("/run/netns").join(name).exists());
    wait_until(MAX_WAIT, "the process to be killed", || !is_running(pid));
}

#[test]
fn namespaces_and_pins_of_a_dead_process_are_removed() {
    // A process that has ended: its ID is free.
    let mut dead = Process::start(std::process::Command::new("true"));
    dead.kill();
    let name = format!("sgt-{}-0", dead.id());
    let made = std::process::Command::new("ip").args(["netns", "add", &name]).status().unwrap();
    assert!(made.success());
    let pins = Path::new(secgroup_tests::sweep::BPFFS).join(&name);
    std::fs::create_dir_all(pins.join("v1")).unwrap();

    let living = Namespace::new();
    secgroup_tests::sweep::sweep();

    assert!(!Path::new("/run/netns").join(&name).exists());
    assert!(!pins.exists());
    assert!(Path::new("/run/netns").join(living.name()).exists());
}

/// Whether a process runs; a zombie does not.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}
