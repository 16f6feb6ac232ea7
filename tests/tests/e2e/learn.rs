//! Connections that are open when an interface is attached.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use secgroup_tests::network::{Guest, at};
use secgroup_tests::process::output;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, Secgroup};

/// A group that lets nothing through in either direction.
fn closed(secgroup: &Secgroup<'_>) {
    secgroup.ok("group create none --description x");
    secgroup.ok("rule remove none egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
}

/// Connections of both families, each to an echo server.
struct Talk {
    streams: Vec<TcpStream>,
    sockets: Vec<UdpSocket>,
    _tcp: [TcpServer; 2],
    _udp: [UdpEcho; 2],
}

impl Talk {
    fn new(asking: &Namespace, answering: &Namespace, addresses: [IpAddr; 2], port: u16) -> Self {
        let ends = at(addresses, port);
        let tcp = ends.map(|end| TcpServer::echo(answering, end));
        let udp = ends.map(|end| UdpEcho::start(answering, end));
        let streams = ends.iter().map(|end| tcp::connect(asking, *end).unwrap()).collect();
        let sockets = ends.iter().map(|end| udp::connect(asking, *end)).collect();
        let mut talk = Self { streams, sockets, _tcp: tcp, _udp: udp };
        assert!(talk.goes_on());
        talk
    }

    fn goes_on(&mut self) -> bool {
        let mut streams = self.streams.iter_mut();
        let mut sockets = self.sockets.iter();
        streams.all(|stream| tcp::exchange(stream, &[7; 5000]).is_ok())
            && sockets.all(|socket| udp::is_echoed(socket, MAX_WAIT))
    }
}

/// Protocol, who opened it, state, tier, and the port that was asked.
fn flows(secgroup: &Secgroup<'_>) -> Vec<String> {
    let list = secgroup.json("flows list");
    let list = list["Flows"].as_array().unwrap();
    let mut told: Vec<String> = list
        .iter()
        .map(|flow| {
            assert_eq!(flow["Learned"], true);
            let word = |name: &str| flow[name].as_str().unwrap().to_owned();
            let port = if word("OpenedBy") == "ingress" { "InsidePort" } else { "OutsidePort" };
            let protocol = &flow["Protocol"];
            format!(
                "{protocol} {} {} {} {}",
                word("OpenedBy"),
                word("State"),
                word("Tier"),
                flow[port]
            )
        })
        .collect();
    told.sort();
    told
}

#[test]
fn connections_of_the_host_go_on_however_tcp_is_followed() {
    for options in ["", "--pick-up off", "--tcp strict", "--hook xdp", "--timeout udp-stream=60"] {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        closed(&secgroup);
        let mut served = Talk::new(&net.client, &net.server, Pair::SERVER, 7001);
        let mut own = Talk::new(&net.server, &net.client, Pair::CLIENT, 7002);
        let said = secgroup.ok(&format!("attach eth0 --group none {options}"));
        // Of the UDP sockets of the server that only wait nothing is known.
        assert!(said.contains("\n6 open connections learned\n"), "{options}: {said}");
        assert_eq!(
            flows(&secgroup),
            [
                "17 egress udp-stream proven 7002",
                "17 egress udp-stream proven 7002",
                "6 egress established proven 7002",
                "6 egress established proven 7002",
                "6 ingress established proven 7001",
                "6 ingress established proven 7001",
            ]
        );
        assert!(secgroup.ok("flows list").contains("learned"));
        let none = secgroup.counters();
        assert!(own.goes_on(), "{options}: {}", secgroup.view());
        served.sockets.clear();
        assert!(served.goes_on(), "{options}: {}", secgroup.view());
        assert!(tcp::none_reaches(&net.client, &at(Pair::SERVER, 7001)));
        let moved = secgroup.counters().since(&none).without("established");
        assert!(moved.is_exactly(&[("eth0", "ingress", "no-rule", 2)]), "{options}: {moved}");
        // They end as others do.
        drop((served.streams, own.streams));
        wait_until(MAX_WAIT, "the connections to close", || {
            secgroup.json("flows count --state established")["Count"] == 0
        });
        secgroup.ok("metrics");
    }
}

#[test]
fn a_half_closed_connection_and_a_bulk_transfer_go_on() {
    const SIZE: usize = 24 << 20;
    for options in ["", "--tcp strict"] {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        closed(&secgroup);
        let address = at(Pair::SERVER, 7003)[0];
        let listener = net.server.run(|| TcpListener::bind(address)).unwrap();
        let mut client = tcp::connect(&net.client, address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        // The socket is full when the programs come.
        let sent = thread::spawn(move || server.write_all(&vec![9; SIZE]));
        let mut part = vec![0; 1 << 20];
        client.read_exact(&mut part).unwrap();
        let said = secgroup.ok(&format!("attach eth0 --group none {options}"));
        assert!(said.contains("\n1 open connections learned\n"), "{said}");
        assert_eq!(flows(&secgroup), ["6 ingress close-wait proven 7003"]);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len() + part.len(), SIZE, "{options}: {}", secgroup.view());
        sent.join().unwrap().unwrap();
    }
}

#[test]
fn nothing_is_learned_where_that_is_not_wanted_or_not_the_first_time() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup);
    let mut talk = Talk::new(&net.client, &net.server, Pair::SERVER, 7004);
    let said = secgroup.ok("attach eth0 --group none --no-learn");
    assert!(!said.contains("learned"), "{said}");
    assert!(!secgroup.ok("attach eth0 --group none").contains("learned"));
    secgroup.ok("reconcile");
    assert_eq!(secgroup.json("flows count")["Count"], 0);
    let cut = &mut talk.streams[0];
    cut.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(tcp::exchange(cut, b"cut").is_err());
}

#[test]
fn other_devices_and_local_connections_are_not_learned() {
    let net = Pair::new();
    net.server.ip("link add eth1 type veth peer name eth2");
    net.server.ip("link set eth1 up");
    net.server.ip("address add 10.99.0.1/24 dev eth1");
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup);
    let _talk = Talk::new(&net.client, &net.server, Pair::SERVER, 7005);
    let _local = Talk::new(&net.server, &net.server, Pair::SERVER, 7006);
    assert!(!secgroup.ok("attach eth1 --group none").contains("learned"));
    let said = secgroup.ok("attach eth0 --group none");
    assert!(said.contains("\n2 open connections learned\n"), "{said}");
}

#[test]
fn a_full_table_is_told() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure("[maps]\nflows_new = 1024\nflows_proven = 16\nrules = 64\ninterfaces = 8\n");
    closed(&secgroup);
    let address: SocketAddr = at(Pair::SERVER, 7007)[0];
    let _server = TcpServer::echo(&net.server, address);
    let _streams: Vec<_> = (0..40).map(|_| tcp::connect(&net.client, address).unwrap()).collect();
    let answer = secgroup.run(["attach", "eth0", "--group", "none"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(
        answer.stderr.contains("open connections not learned, for the table of proven"),
        "{answer}"
    );
}

#[test]
fn what_a_guests_host_forwards_goes_on() {
    let net = Guest::new();
    // Without a rule that asks for it, the kernel tracks nothing.
    let rules = "add table inet t; add chain inet t c { type filter hook forward priority 0; }; \
                 add rule inet t c ct state established accept";
    output(net.host.command("nft").arg(rules));
    let secgroup = Secgroup::inside(&net.host);
    closed(&secgroup);
    let mut out = Talk::new(&net.guest, &net.outside, Guest::OUTSIDE, 7008);
    let mut back = Talk::new(&net.outside, &net.guest, Guest::GUEST, 7009);
    let line = format!("attach {} --group none --orientation guest --pick-up off", Guest::DEVICE);
    let said = secgroup.ok(&line);
    assert!(said.contains("\n8 open connections learned\n"), "{said}");
    let opened =
        |direction: &str| flows(&secgroup).iter().filter(|one| one.contains(direction)).count();
    assert_eq!((opened("egress"), opened("ingress")), (4, 4));
    assert!(out.goes_on() && back.goes_on(), "{}", secgroup.view());
}

#[test]
fn a_port_of_a_bridge_carries_what_the_bridge_routes() {
    let net = Pair::new();
    net.server.ip("link add br0 type bridge mcast_snooping 0");
    net.server.ip("link set eth0 master br0");
    for address in ["10.77.0.1/24", "fd77::1/64"] {
        net.server.ip(&format!("address del {address} dev eth0"));
        let nodad = if address.contains(':') { "nodad" } else { "" };
        net.server.ip(&format!("address add {address} dev br0 {nodad}"));
    }
    net.server.ip("link set br0 up");
    let secgroup = Secgroup::inside(&net.server);
    closed(&secgroup);
    let mut talk = Talk::new(&net.client, &net.server, Pair::SERVER, 7010);
    let client = talk.streams[0].local_addr().unwrap();
    let login = format!("{} {} 10.77.0.1 7010", client.ip(), client.port());
    let mut locked = secgroup.command(["attach", "eth0", "--group", "none"]);
    let answer = CommandOutput::of(locked.env("SSH_CONNECTION", login));
    assert!(answer.stderr.contains("this would lock you out"), "{answer}");
    let said = secgroup.ok("attach eth0 --group none --pick-up off");
    assert!(said.contains("\n2 open connections learned\n"), "{said}");
    talk.sockets.clear();
    assert!(talk.goes_on(), "{}", secgroup.view());
}

#[test]
fn what_needs_no_flow_gets_none() {
    for (options, learned) in [("--pick-up off", 0), ("--pick-up off --tracking always", 2)] {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        secgroup.ok("group create open --description x");
        secgroup
            .ok("rule add open ingress --protocol tcp --port 7011 --cidr 0.0.0.0/0 --cidr ::/0");
        let mut talk = Talk::new(&net.client, &net.server, Pair::SERVER, 7011);
        talk.sockets.clear();
        let said = secgroup.ok(&format!("attach eth0 --group open {options}"));
        let line = format!("\n{learned} open connections learned\n");
        assert_eq!(said.contains(&line), learned > 0, "{said}");
        assert!(talk.goes_on(), "{options}: {}", secgroup.view());
        assert_eq!(secgroup.json("flows count")["Count"], learned);
    }
}
