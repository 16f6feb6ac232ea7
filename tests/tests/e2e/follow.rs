//! Devices that appear while `secgroup serve` runs.

use std::time::Instant;

use secgroup_tests::network::{End, at, join};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::tun::{Kind, Tun};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Process, Secgroup};

#[test]
fn serve_attaches_a_device_that_comes_back() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    comes_back(&net, &secgroup, "");
}

#[test]
fn serve_attaches_a_device_that_comes_back_in_another_namespace() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    comes_back(&net, &secgroup, &format!("--netns {}", net.server.name()));
}

fn comes_back(net: &Pair, secgroup: &Secgroup<'_>, place: &str) {
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach eth0 --group fresh {place}"));
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    net.server.ip("link delete eth0");
    wait_until(MAX_WAIT, "the device to be gone", || state(secgroup) == "device-missing");

    let began = Instant::now();
    join([
        End { namespace: &net.server, device: "eth0", addresses: &["10.77.0.1/24", "fd77::1/64"] },
        End { namespace: &net.client, device: "eth0", addresses: &["10.77.0.2/24", "fd77::2/64"] },
    ]);
    serve.wait_for_output("eth0 appeared: attached, ");
    // For those who run this with --nocapture, on an idle machine.
    eprintln!("guarded at most {:?} after it appeared", began.elapsed());
    assert_eq!(state(secgroup), "enforcing");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(tcp::none_reaches(&net.client, &ends));
    let times = serve.lines().iter().filter(|line| line.contains("appeared")).count();
    assert_eq!(times, 1, "{:?}", serve.lines());
}

#[test]
fn what_cannot_be_attached_is_told_once() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh --hook xdp");
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    net.server.ip("link delete eth0");
    wait_until(MAX_WAIT, "the device to be gone", || state(&secgroup) == "device-missing");
    // Of a kind that has no Ethernet header, and so no XDP.
    let end = End { namespace: &net.server, device: "eth0", addresses: &["10.77.9.1/24"] };
    let _tun = Tun::new(end, Kind::Tun);
    serve.wait_for_output("eth0 appeared: ");
    net.server.ip("address add 10.77.9.3/32 dev eth0");
    // It has looked again when it has done what else it does.
    let lines = || serve.lines().iter().filter(|line| line.contains("appeared")).count();
    net.server.ip("link add other0 type veth peer name other1");
    secgroup.ok("attach other0 --group fresh");
    net.server.ip("link delete other0");
    net.server.ip("link add other0 type veth peer name other1");
    serve.wait_for_output("other0 appeared: attached");
    assert_eq!(lines(), 2, "{:?}", serve.lines());
}

fn state(secgroup: &Secgroup<'_>) -> String {
    let status = secgroup.json("status");
    status["NetworkInterfaces"][0]["State"].as_str().unwrap().to_owned()
}
