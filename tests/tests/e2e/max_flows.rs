//! The size of an interface's flow tables: `attach --max-flows`, also while flows exist.

use std::net::TcpStream;
use std::time::Duration;

use secgroup_tests::foreign_xdp::ForeignXdp;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp;
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Pair, Secgroup};

use crate::support::count_flows;

/// The capacities of the tables of proven TCP flows, by family.
fn capacities(secgroup: &Secgroup<'_>) -> Vec<u64> {
    let status = secgroup.json("status");
    let tables = status["FlowTables"].as_array().unwrap().iter();
    let tcp = tables.filter(|table| table["Table"] == "tcp");
    tcp.map(|table| table["Capacity"].as_u64().unwrap()).collect()
}

/// How many connections still fit, and how often a table was full.
fn allowance(secgroup: &Secgroup<'_>) -> (u64, u64) {
    let text = secgroup.ok("metrics");
    let value = |name: &str| -> u64 {
        let series = format!("secgroup_conntrack_allowance_{name}{{interface=\"eth0\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&series));
        found.unwrap_or_else(|| panic!("no {series}in\n{text}")).parse().unwrap()
    };
    (value("available"), value("exceeded_total"))
}

#[test]
fn flows_survive_another_size_of_their_tables_at_tc() {
    resize_under_flows("auto");
}

#[test]
fn flows_survive_another_size_of_their_tables_at_xdp() {
    resize_under_flows("xdp");
}

fn resize_under_flows(hook: &str) {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let rules = ["tcp --port 80", "udp --port 53"]
        .map(|rule| format!("web ingress --protocol {rule} --cidr 10.77.0.0/24 --cidr fd77::/64"));
    for rule in &rules {
        secgroup.ok(&format!("rule add {rule}"));
    }
    secgroup.ok(&format!("attach eth0 --group web --hook {hook}"));
    assert_eq!((capacities(&secgroup), allowance(&secgroup)), (vec![1024; 2], (1024, 0)));
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let open = |count: usize| -> Vec<TcpStream> {
        let ends = ends.into_iter().flat_map(|end| std::iter::repeat_n(end, count));
        let mut streams: Vec<_> = ends.map(|end| tcp::connect(&net.client, end).unwrap()).collect();
        streams.iter_mut().for_each(|stream| tcp::exchange(stream, b"hello").unwrap());
        streams
    };
    let mut streams = open(10);
    // Questions whose answers come after the changes.
    let asked = at(Pair::SERVER, 53).map(|end| {
        let server = udp::bind(&net.server, end);
        let socket = udp::connect(&net.client, end);
        for one in [&server, &socket] {
            one.set_read_timeout(Some(MAX_WAIT)).unwrap();
        }
        socket.send(b"question").unwrap();
        let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
        (socket, server, from)
    });
    // Without rules nothing opens a flow again.
    for rule in &rules {
        secgroup.ok(&format!("rule remove {rule}"));
    }

    for size in [64, 16, 4096] {
        secgroup.ok(&format!("attach eth0 --group web --max-flows {size}"));
        assert_eq!(capacities(&secgroup), [size; 2]);
        assert_eq!(allowance(&secgroup), (size - 10, 0), "{}", secgroup.view());
        assert_eq!(count_flows(&secgroup, ""), 22, "{}", secgroup.view());
        secgroup.moved_over_flows(&[], || {
            streams.iter_mut().for_each(|one| tcp::exchange(one, b"still there").unwrap());
        });
    }
    secgroup.moved_over_flows(&[], || {
        for (socket, server, from) in &asked {
            server.send_to(b"answer", from).unwrap();
            assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 6, "{from}");
        }
    });

    let status = secgroup.ok("status");
    assert!(status.contains("--max-flows 4096"), "{status}");
    secgroup.ok("attach eth0 --group web --max-flows default");
    assert_eq!(capacities(&secgroup), [1024; 2]);
    assert!(!secgroup.ok("status").contains("--max-flows"));

    // More connections than fit: they work all the same, from the table of new flows.
    secgroup.ok("attach eth0 --group web --max-flows 32");
    secgroup.ok(&format!("rule add {}", rules[0]));
    let mut more = open(30);
    let (available, exceeded) = allowance(&secgroup);
    assert_eq!(available, 0);
    assert!(exceeded >= 2 * (10 + 30 - 32), "{exceeded} times: {}", secgroup.view());
    for stream in streams.iter_mut().chain(&mut more) {
        tcp::exchange(stream, b"still there").unwrap();
    }
}

#[test]
fn a_failed_attach_leaves_the_tables_as_they_were() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web --hook tcx");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, b"hello").unwrap();
    let _foreign = ForeignXdp::attach(&net.server, "eth0", true);
    let refused = secgroup.refused("attach eth0 --group web --hook xdp --max-flows 64", 1);
    assert!(refused.contains("the XDP hook is taken by program foreign_xdp"), "{refused}");
    assert_eq!(capacities(&secgroup), [1024; 2]);
    assert_eq!(secgroup.json("status")["NetworkInterfaces"][0]["State"], "enforcing");
    secgroup.moved_over_flows(&[], || tcp::exchange(&mut stream, b"still there").unwrap());
}

#[test]
fn a_failed_attach_after_a_change_of_the_configuration_leaves_one_set_of_tables() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web --hook tcx --tcp-loose off");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, b"hello").unwrap();
    secgroup.configure("[maps]\nflows_new = 1024\nflows_udp = 1024\nflows_tcp = 2048\n");
    let _foreign = ForeignXdp::attach(&net.server, "eth0", true);
    secgroup.refused("attach eth0 --group web --hook xdp", 1);
    assert_eq!(capacities(&secgroup), [2048; 2]);
    // What is flushed is flushed for the fast path too.
    assert_eq!(secgroup.ok("flows flush"), "1 flow removed\n");
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(tcp::exchange(&mut stream, b"cut").is_err(), "{}", secgroup.view());
}
