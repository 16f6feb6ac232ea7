//! `attach --trace` prints a line for each packet until it is interrupted.

use std::net::{SocketAddr, UdpSocket};

use aya::programs::ProgramInfo;
use secgroup_tests::network::at;
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Pair, Process, Secgroup, tc_hook};

#[test]
fn tcx_reports_each_packet_until_interrupted() {
    trace_packets(tc_hook(), ["sg_tcx_rx", "sg_tcx_tx"]);
}

#[test]
fn native_xdp_reports_each_packet_until_interrupted() {
    trace_packets("xdp", ["sg_tcx_tx", "sg_xdp_rx"]);
}

fn trace_packets(hook: &str, programs: [&str; 2]) {
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
    assert_eq!(program_names(&secgroup), programs);
    let clients = at(Pair::SERVER, 53).map(|end| {
        let echo = UdpEcho::start(&net.server, end);
        let client = udp::connect(&net.client, end);
        secgroup.moved(
            &[("eth0", "ingress", "new-flow", 1), ("eth0", "egress", "established", 1)],
            || assert!(udp::is_echoed(&client, MAX_WAIT)),
        );
        let closed = SocketAddr::new(end.ip(), 54);
        let denied_client = udp::connect(&net.client, closed);
        denied_client.send(b"14 octets long").unwrap();

        let length = 14 + if end.is_ipv4() { 20 } else { 40 } + 8 + 14;
        let [from, denied_from] =
            [&client, &denied_client].map(|socket| socket.local_addr().unwrap());
        for line in [
            format!("pass ingress new-flow proto 17 {from} > {end} length {length}"),
            format!("pass egress established proto 17 {end} > {from} length {length}"),
            format!("drop ingress no-rule proto 17 {denied_from} > {closed} length {length}"),
        ] {
            trace.wait_for_output(&line);
            let lines = trace.lines();
            assert_eq!(lines.iter().filter(|printed| **printed == line).count(), 1, "{lines:#?}");
        }
        (client, echo)
    });

    assert_eq!(trace.interrupt().code(), Some(130));
    assert_eq!(program_names(&secgroup), programs);
    let check = |(client, _): &(UdpSocket, UdpEcho)| assert!(udp::is_echoed(client, MAX_WAIT));
    let expected = [("eth0", "ingress", "established", 2), ("eth0", "egress", "established", 2)];
    secgroup.moved(&expected, || clients.iter().for_each(check));
}

/// The kernel's names of the interface's pinned programs.
fn program_names(secgroup: &Secgroup<'_>) -> Vec<String> {
    let version = secgroup.pin_dir().read_dir().unwrap().next().unwrap().unwrap().path();
    let pins = version.join("programs").read_dir().unwrap().map(|pin| pin.unwrap().path());
    // The pin names of an interface begin with its slot.
    let of_interface = pins.filter(|pin| {
        pin.file_name().unwrap().to_str().unwrap().starts_with(|first: char| first.is_ascii_digit())
    });
    let mut names: Vec<_> = of_interface
        .map(|pin| ProgramInfo::from_pin(pin).unwrap().name_as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
