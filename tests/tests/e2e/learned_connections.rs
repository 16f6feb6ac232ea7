//! Connections that are open when an interface is attached are learned as flows.

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

/// Creates a group without rules in either direction.
fn create_empty_group(secgroup: &Secgroup<'_>) {
    secgroup.ok("group create none --description x");
    secgroup.ok("rule remove none egress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
}

/// Connections of both families, each to an echo server.
struct Connections {
    streams: Vec<TcpStream>,
    sockets: Vec<UdpSocket>,
    _tcp: [TcpServer; 2],
    _udp: [UdpEcho; 2],
}

impl Connections {
    fn new(client: &Namespace, server: &Namespace, addresses: [IpAddr; 2], port: u16) -> Self {
        let ends = at(addresses, port);
        let tcp = ends.map(|end| TcpServer::echo(server, end));
        let udp = ends.map(|end| UdpEcho::start(server, end));
        let streams = ends.iter().map(|end| tcp::connect(client, *end).unwrap()).collect();
        let sockets = ends.iter().map(|end| udp::connect(client, *end)).collect();
        let mut connections = Self { streams, sockets, _tcp: tcp, _udp: udp };
        assert!(connections.survive());
        connections
    }

    fn survive(&mut self) -> bool {
        let mut streams = self.streams.iter_mut();
        let mut sockets = self.sockets.iter();
        streams.all(|stream| tcp::exchange(stream, &[7; 5000]).is_ok())
            && sockets.all(|socket| udp::is_echoed(socket, MAX_WAIT))
    }
}

/// All flows: protocol, opening direction, state, tier, and the server's port.
fn flows(secgroup: &Secgroup<'_>) -> Vec<String> {
    let list = secgroup.json("flows list");
    let list = list["Flows"].as_array().unwrap();
    let mut listed: Vec<String> = list
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
    listed.sort();
    listed
}

#[test]
fn connections_of_a_host_survive_the_attach_with_every_option() {
    for options in ["", "--tcp-loose off", "--tcp strict", "--hook xdp", "--timeout udp-stream=60"]
    {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        create_empty_group(&secgroup);
        let mut inbound = Connections::new(&net.client, &net.server, Pair::SERVER, 7001);
        let mut outbound = Connections::new(&net.server, &net.client, Pair::CLIENT, 7002);
        let output = secgroup.ok(&format!("attach eth0 --group none {options}"));
        // Unconnected UDP sockets of the server show no peer, so they are not learned.
        assert!(output.contains("\n6 open connections learned\n"), "{options}: {output}");
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
        assert!(outbound.survive(), "{options}: {}", secgroup.view());
        inbound.sockets.clear();
        assert!(inbound.survive(), "{options}: {}", secgroup.view());
        assert!(tcp::none_reaches(&net.client, &at(Pair::SERVER, 7001)));
        let moved = secgroup.counters().since(&none).without("established");
        assert!(moved.is_exactly(&[("eth0", "ingress", "no-rule", 2)]), "{options}: {moved}");
        // Learned connections close like others.
        drop((inbound.streams, outbound.streams));
        wait_until(MAX_WAIT, "the connections to close", || {
            secgroup.json("flows count --state established")["Count"] == 0
        });
        secgroup.ok("metrics");
    }
}

#[test]
fn a_half_closed_connection_with_a_bulk_transfer_survives_the_attach() {
    const SIZE: usize = 24 << 20;
    for options in ["", "--tcp strict"] {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        create_empty_group(&secgroup);
        let address = at(Pair::SERVER, 7003)[0];
        let listener = net.server.run(|| TcpListener::bind(address)).unwrap();
        let mut client = tcp::connect(&net.client, address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        // The socket's send buffer is full during the attach.
        let sent = thread::spawn(move || server.write_all(&vec![9; SIZE]));
        let mut part = vec![0; 1 << 20];
        client.read_exact(&mut part).unwrap();
        let output = secgroup.ok(&format!("attach eth0 --group none {options}"));
        assert!(output.contains("\n1 open connections learned\n"), "{output}");
        assert_eq!(flows(&secgroup), ["6 ingress close-wait proven 7003"]);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len() + part.len(), SIZE, "{options}: {}", secgroup.view());
        sent.join().unwrap().unwrap();
    }
}

#[test]
fn nothing_is_learned_with_no_learn_or_after_the_first_attach() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    create_empty_group(&secgroup);
    let mut connections = Connections::new(&net.client, &net.server, Pair::SERVER, 7004);
    let output = secgroup.ok("attach eth0 --group none --no-learn");
    assert!(!output.contains("learned"), "{output}");
    assert!(!secgroup.ok("attach eth0 --group none").contains("learned"));
    secgroup.ok("reconcile");
    assert_eq!(secgroup.json("flows count")["Count"], 0);
    let unlearned = &mut connections.streams[0];
    unlearned.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(tcp::exchange(unlearned, b"cut").is_err());
}

#[test]
fn other_devices_and_local_connections_are_not_learned() {
    let net = Pair::new();
    net.server.ip("link add eth1 type veth peer name eth2");
    net.server.ip("link set eth1 up");
    net.server.ip("address add 10.99.0.1/24 dev eth1");
    let secgroup = Secgroup::inside(&net.server);
    create_empty_group(&secgroup);
    let _remote = Connections::new(&net.client, &net.server, Pair::SERVER, 7005);
    let _local = Connections::new(&net.server, &net.server, Pair::SERVER, 7006);
    assert!(!secgroup.ok("attach eth1 --group none").contains("learned"));
    let output = secgroup.ok("attach eth0 --group none");
    assert!(output.contains("\n2 open connections learned\n"), "{output}");
}

#[test]
fn connections_beyond_a_full_table_are_reported() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure("[maps]\nflows_new = 1024\nflows_tcp = 16\nrules = 64\ninterfaces = 8\n");
    create_empty_group(&secgroup);
    let address: SocketAddr = at(Pair::SERVER, 7007)[0];
    let _server = TcpServer::echo(&net.server, address);
    let _streams: Vec<_> = (0..40).map(|_| tcp::connect(&net.client, address).unwrap()).collect();
    let answer = secgroup.run(["attach", "eth0", "--group", "none"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(
        answer.stderr.contains("open connections not learned, because the table of proven"),
        "{answer}"
    );
}

#[test]
fn forwarded_connections_of_a_guest_survive_the_attach() {
    let net = Guest::new();
    // nf_conntrack tracks nothing without a rule that needs it.
    let rules = "add table inet t; add chain inet t c { type filter hook forward priority 0; }; \
                 add rule inet t c ct state established accept";
    output(net.host.command("nft").arg(rules));
    let secgroup = Secgroup::inside(&net.host);
    create_empty_group(&secgroup);
    let mut outbound = Connections::new(&net.guest, &net.outside, Guest::OUTSIDE, 7008);
    let mut inbound = Connections::new(&net.outside, &net.guest, Guest::GUEST, 7009);
    let line = format!("attach {} --group none --orientation guest --tcp-loose off", Guest::DEVICE);
    let output = secgroup.ok(&line);
    assert!(output.contains("\n8 open connections learned\n"), "{output}");
    let opened =
        |direction: &str| flows(&secgroup).iter().filter(|flow| flow.contains(direction)).count();
    assert_eq!((opened("egress"), opened("ingress")), (4, 4));
    assert!(outbound.survive() && inbound.survive(), "{}", secgroup.view());
}

#[test]
fn connections_of_a_bridge_are_learned_at_its_port() {
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
    create_empty_group(&secgroup);
    let mut connections = Connections::new(&net.client, &net.server, Pair::SERVER, 7010);
    let client = connections.streams[0].local_addr().unwrap();
    let ssh_connection = format!("{} {} 10.77.0.1 7010", client.ip(), client.port());
    let mut from_ssh = secgroup.command(["attach", "eth0", "--group", "none"]);
    let answer = CommandOutput::of(from_ssh.env("SSH_CONNECTION", ssh_connection));
    assert!(answer.stderr.contains("this would lock you out"), "{answer}");
    let output = secgroup.ok("attach eth0 --group none --tcp-loose off");
    assert!(output.contains("\n2 open connections learned\n"), "{output}");
    connections.sockets.clear();
    assert!(connections.survive(), "{}", secgroup.view());
}

#[test]
fn untracked_connections_are_not_learned() {
    for (options, learned) in [("--tcp-loose off", 0), ("--tcp-loose off --tracking always", 2)] {
        let net = Pair::new();
        let secgroup = Secgroup::inside(&net.server);
        secgroup.ok("group create open --description x");
        secgroup
            .ok("rule add open ingress --protocol tcp --port 7011 --cidr 0.0.0.0/0 --cidr ::/0");
        let mut connections = Connections::new(&net.client, &net.server, Pair::SERVER, 7011);
        connections.sockets.clear();
        let output = secgroup.ok(&format!("attach eth0 --group open {options}"));
        let line = format!("\n{learned} open connections learned\n");
        assert_eq!(output.contains(&line), learned > 0, "{output}");
        assert!(connections.survive(), "{options}: {}", secgroup.view());
        assert_eq!(secgroup.json("flows count")["Count"], learned);
    }
}

#[test]
fn a_client_of_dhcp_is_not_learned() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    create_empty_group(&secgroup);
    let [v4, v6] = at(Pair::CLIENT, 0).map(|end| end.ip());
    // Their messages are exempt; of a learned flow the fast path would not recognise them.
    let _clients = [(68, v4, 67), (546, v6, 547)].map(|(from, server, to)| {
        udp::connect_from(&net.server, from, SocketAddr::new(server, to))
    });
    let _others = [(69, v4, 67), (547, v6, 67)].map(|(from, server, to)| {
        udp::connect_from(&net.server, from, SocketAddr::new(server, to))
    });
    secgroup.ok("attach eth0 --group none");
    assert_eq!(
        flows(&secgroup),
        ["17 egress udp-stream proven 67", "17 egress udp-stream proven 67"]
    );
}
