//! `attach --trace`: a line for each packet, while somebody reads.

use std::net::{SocketAddr, UdpSocket};

use aya::programs::ProgramInfo;
use secgroup_tests::network::at;
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Pair, Process, Secgroup, tc_hook};

#[test]
fn tcx_tells_of_each_packet_until_interrupted() {
    story(tc_hook(), ["sg_tcx_rx", "sg_tcx_tx"]);
}

#[test]
fn native_xdp_tells_of_each_packet_until_interrupted() {
    story("xdp", ["sg_tcx_tx", "sg_xdp_rx"]);
}

fn story(hook: &str, programs: [&str; 2]) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create dns --description x");
    secgroup
        .ok("rule add dns ingress --protocol udp --port 53 --cidr 10.77.0.0/24 --cidr fd77::/64");
    let attach = format!("attach eth0 --group dns --hook {hook}");
    secgroup.ok(&attach);
    assert_eq!(program_names(&secgroup), programs);

    let traced = format!("{attach} --trace");
    let mut trace = Process::capture(secgroup.command(traced.split(' ')));
    trace.wait_for_output("groups dns");
    assert_eq!(program_names(&secgroup), programs.map(|name| format!("{name}_trace")));
    let clients = at(Pair::SERVER, 53).map(|end| {
        let echo = UdpEcho::start(&net.server, end);
        let client = udp::connect(&net.client, end);
        secgroup.moved(
            &[("eth0", "ingress", "new-flow", 1), ("eth0", "egress", "established", 1)],
            || assert!(udp::is_echoed(&client, MAX_WAIT)),
        );
        let closed = SocketAddr::new(end.ip(), 54);
        let refused = udp::connect(&net.client, closed);
        refused.send(b"14 octets long").unwrap();

        let length = 14 + if end.is_ipv4() { 20 } else { 40 } + 8 + 14;
        let [from, other] = [&client, &refused].map(|socket| socket.local_addr().unwrap());
        for line in [
            format!("pass ingress new-flow proto 17 {from} > {end} length {length}"),
            format!("pass egress established proto 17 {end} > {from} length {length}"),
            format!("drop ingress no-rule proto 17 {other} > {closed} length {length}"),
        ] {
            trace.wait_for_output(&line);
            let said = trace.lines();
            assert_eq!(said.iter().filter(|said| **said == line).count(), 1, "{said:#?}");
        }
        (client, echo)
    });

    assert_eq!(trace.interrupt().code(), Some(130));
    assert_eq!(program_names(&secgroup), programs);
    let again = |(client, _): &(UdpSocket, UdpEcho)| assert!(udp::is_echoed(client, MAX_WAIT));
    let known = [("eth0", "ingress", "established", 2), ("eth0", "egress", "established", 2)];
    secgroup.moved(&known, || clients.iter().for_each(again));
}

/// The names of the pinned programs of the interface, in the kernel.
fn program_names(secgroup: &Secgroup<'_>) -> Vec<String> {
    let version = secgroup.pin_dir().read_dir().unwrap().next().unwrap().unwrap().path();
    let pins = version.join("programs").read_dir().unwrap().map(|pin| pin.unwrap().path());
    // Those of an interface begin with its slot.
    let of_interface = pins.filter(|pin| {
        pin.file_name().unwrap().to_str().unwrap().starts_with(|first: char| first.is_ascii_digit())
    });
    let mut names: Vec<_> = of_interface
        .map(|pin| ProgramInfo::from_pin(pin).unwrap().name_as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
