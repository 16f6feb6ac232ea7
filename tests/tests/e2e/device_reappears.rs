//! Devices that appear while `secgroup serve` runs.

use std::time::Instant;

use secgroup_tests::network::{End, at, join};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::tun::{Kind, Tun};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Process, Secgroup};

use crate::support::interface_state;

#[test]
fn serve_attaches_a_recreated_device() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    recreate_device(&net, &secgroup, "");
}

#[test]
fn serve_attaches_a_recreated_device_in_another_namespace() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.client);
    recreate_device(&net, &secgroup, &format!("--netns {}", net.server.name()));
}

fn recreate_device(net: &Pair, secgroup: &Secgroup<'_>, options: &str) {
    secgroup.ok("group create fresh --description x");
    secgroup.ok(&format!("attach eth0 --group fresh {options}"));
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    net.server.ip("link delete eth0");
    wait_until(MAX_WAIT, "the device to be gone", || interface_state(secgroup) == "device-missing");

    let began = Instant::now();
    join([
        End { namespace: &net.server, device: "eth0", addresses: &["10.77.0.1/24", "fd77::1/64"] },
        End { namespace: &net.client, device: "eth0", addresses: &["10.77.0.2/24", "fd77::2/64"] },
    ]);
    serve.wait_for_output("eth0 appeared: attached, ");
    // An upper bound, shown with --nocapture.
    eprintln!("attached at most {:?} after it appeared", began.elapsed());
    assert_eq!(interface_state(secgroup), "enforcing");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    assert!(tcp::none_reaches(&net.client, &ends));
    let reports = serve.lines().iter().filter(|line| line.contains("appeared")).count();
    assert_eq!(reports, 1, "{:?}", serve.lines());
}

#[test]
fn a_failed_attach_is_reported_once() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create fresh --description x");
    secgroup.ok("attach eth0 --group fresh --hook xdp");
    let serve = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:0"]));
    serve.wait_for_output("metrics at");
    net.server.ip("link delete eth0");
    wait_until(MAX_WAIT, "the device to be gone", || {
        interface_state(&secgroup) == "device-missing"
    });
    // A tun device has no Ethernet header, so XDP cannot attach.
    let end = End { namespace: &net.server, device: "eth0", addresses: &["10.77.9.1/24"] };
    let _tun = Tun::new(end, Kind::Tun);
    serve.wait_for_output("eth0 appeared: ");
    net.server.ip("address add 10.77.9.3/32 dev eth0");
    // A later report proves that `serve` has handled the address change.
    let reports = || serve.lines().iter().filter(|line| line.contains("appeared")).count();
    net.server.ip("link add other0 type veth peer name other1");
    secgroup.ok("attach other0 --group fresh");
    net.server.ip("link delete other0");
    net.server.ip("link add other0 type veth peer name other1");
    serve.wait_for_output("other0 appeared: attached");
    assert_eq!(reports(), 2, "{:?}", serve.lines());
}
