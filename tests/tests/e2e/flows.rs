//! The `flows` commands on real flows: filters, listed fields and flush.

use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::MAX_WAIT;
use secgroup_tests::{Pair, Secgroup, ping};
use serde_json::{Value, json};

use crate::support::exchange_until_proven;

/// A server with six flows that rules allow: TCP on port 80, UDP on port 53, and ping, each over
/// both families.
struct Scenario<'a> {
    secgroup: Secgroup<'a>,
    /// The rules' ids, IPv4's first.
    tcp: [String; 2],
    streams: [TcpStream; 2],
    sockets: [UdpSocket; 2],
    _tcp_servers: [TcpServer; 2],
    _udp_servers: [UdpEcho; 2],
}

impl<'a> Scenario<'a> {
    fn new(net: &'a Pair) -> Self {
        let secgroup = Secgroup::inside(&net.server);
        secgroup.ok("group create web --description x");
        secgroup.ok("group create empty --description x");
        let add = |what: &str| {
            let added = secgroup.ok(&format!("rule add web ingress --protocol {what}"));
            let mut ids = added.split_whitespace().map(str::to_owned);
            [ids.next().unwrap(), ids.next().unwrap_or_default()]
        };
        let tcp = add("tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64");
        add("udp --port 53 --cidr 10.77.0.0/24 --cidr fd77::/64");
        add("icmp --icmp 8 --cidr 10.77.0.0/24");
        add("icmpv6 --icmp 128 --cidr fd77::/64");
        secgroup.ok("attach eth0 --group web");

        let tcp_servers = at(Pair::SERVER, 80).map(|end| TcpServer::echo(&net.server, end));
        let udp_servers = at(Pair::SERVER, 53).map(|end| UdpEcho::start(&net.server, end));
        let streams = tcp_servers.each_ref().map(|server| {
            let mut stream = tcp::connect(&net.client, server.address()).unwrap();
            tcp::exchange(&mut stream, b"hello").unwrap();
            stream
        });
        let sockets = udp_servers.each_ref().map(|server| {
            let socket = udp::connect(&net.client, server.address());
            assert!(udp::is_echoed(&socket, MAX_WAIT));
            socket
        });
        for address in Pair::SERVER {
            assert!(ping::ping(&net.client, address));
        }
        Self {
            secgroup,
            tcp,
            streams,
            sockets,
            _tcp_servers: tcp_servers,
            _udp_servers: udp_servers,
        }
    }

    fn list(&self, filter: &str) -> Vec<Value> {
        let flows = self.secgroup.json(&format!("flows list {filter}"));
        flows["Flows"].as_array().unwrap().clone()
    }

    /// The flows that a filter selects, as protocols and inside addresses.
    fn names(&self, filter: &str) -> Vec<(u64, String)> {
        let name = |flow: &Value| {
            (flow["Protocol"].as_u64().unwrap(), flow["InsideAddress"].as_str().unwrap().to_owned())
        };
        self.list(filter).iter().map(name).collect()
    }
}

#[test]
fn every_filter_selects_the_matching_flows() {
    const TCP: [(u64, IpAddr); 2] = [(6, Pair::SERVER[0]), (6, Pair::SERVER[1])];
    const UDP: [(u64, IpAddr); 2] = [(17, Pair::SERVER[0]), (17, Pair::SERVER[1])];
    const ECHO: [(u64, IpAddr); 2] = [(1, Pair::SERVER[0]), (58, Pair::SERVER[1])];
    let net = Pair::new();
    let scenario = Scenario::new(&net);
    let all = [TCP, UDP, ECHO].concat();
    let of = |family: usize| [TCP[family], UDP[family], ECHO[family]].to_vec();
    let rule = format!("--rule {}", scenario.tcp[1]);
    let filters = [
        ("", all.clone()),
        ("--interface eth0", all.clone()),
        ("--protocol tcp", TCP.to_vec()),
        ("--protocol 17", UDP.to_vec()),
        ("--protocol icmp", vec![ECHO[0]]),
        ("--protocol icmpv6", vec![ECHO[1]]),
        ("--address 10.77.0.2", of(0)),
        ("--address fd77::/64", of(1)),
        ("--address 192.0.2.0/24", vec![]),
        ("--port 80", TCP.to_vec()),
        ("--tier proven", TCP.to_vec()),
        ("--tier new", [UDP, ECHO].concat()),
        ("--state established", TCP.to_vec()),
        ("--state udp", UDP.to_vec()),
        (rule.as_str(), vec![TCP[1]]),
        ("--group web", all.clone()),
        ("--group empty", vec![]),
        ("--protocol tcp --address 10.77.0.0/24", vec![TCP[0]]),
    ];
    let names = |mut flows: Vec<(u64, IpAddr)>| -> Vec<_> {
        // In the order of the command.
        flows.sort_by_key(|(protocol, inside)| (*protocol, *inside));
        flows.into_iter().map(|(protocol, inside)| (protocol, inside.to_string())).collect()
    };
    for (filter, expected) in &filters {
        let count = scenario.secgroup.json(&format!("flows count {filter}"))["Count"].as_u64();
        assert_eq!(scenario.names(filter), names(expected.clone()), "list {filter}");
        assert_eq!(count, Some(expected.len() as u64), "count {filter}");
    }
    // In reverse, from narrow to wide, so that a flush removes only a part.
    let mut remaining = all;
    for (filter, selected) in filters.iter().rev() {
        let before = remaining.len();
        remaining.retain(|flow| !selected.contains(flow));
        let removed = before - remaining.len();
        let output = scenario.secgroup.ok(&format!("flows flush {filter}"));
        let s = if removed == 1 { "" } else { "s" };
        assert_eq!(output, format!("{removed} flow{s} removed\n"), "flush {filter}");
        assert_eq!(scenario.names(""), names(remaining.clone()), "after flush {filter}");
    }
}

#[test]
fn a_listed_flow_has_its_rule_state_and_packets() {
    let net = Pair::new();
    let scenario = Scenario::new(&net);
    let listed = scenario.list("--protocol tcp");
    for (family, flow) in listed.iter().enumerate() {
        let client = scenario.streams[family].local_addr().unwrap();
        let expected = json!({
            "Device": "eth0",
            "Netns": null,
            "InsideAddress": Pair::SERVER[family].to_string(),
            "InsidePort": 80,
            "OutsideAddress": Pair::CLIENT[family].to_string(),
            "OutsidePort": client.port(),
            "OpenedBy": "ingress",
            "State": "established",
            "Tier": "proven",
            "Proven": true,
            "SecurityGroupRuleId": scenario.tcp[family],
            "GroupName": "web",
            "RuleRemoved": false,
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&flow[key], value, "{key} of {flow:#}");
        }
    }
    let request_and_reply = |flow: &Value| {
        assert_eq!([&flow["IngressPackets"], &flow["EgressPackets"]], [1, 1], "{flow:#}");
        [flow["IngressBytes"].as_u64().unwrap(), flow["EgressBytes"].as_u64().unwrap()]
    };
    // 14 bytes of datagram; 56 of ping; and the headers of Ethernet, IP, and UDP or ICMP.
    let udp: Vec<_> = scenario.list("--protocol udp").iter().map(request_and_reply).collect();
    assert_eq!(udp, [[14 + 20 + 8 + 14; 2], [14 + 40 + 8 + 14; 2]]);
    for (protocol, length) in [("icmp", 14 + 20 + 8 + 56), ("icmpv6", 14 + 40 + 8 + 56)] {
        let flows = scenario.list(&format!("--protocol {protocol}"));
        assert_eq!(flows.iter().map(request_and_reply).collect::<Vec<_>>(), [[length; 2]]);
        assert_eq!(flows[0]["State"], "icmp");
    }
}

#[test]
fn the_packets_of_a_flow_are_counted_in_both_directions() {
    let net = Pair::new();
    let scenario = Scenario::new(&net);
    let packets = |flow: &Value| {
        [flow["IngressPackets"].as_u64().unwrap(), flow["EgressPackets"].as_u64().unwrap()]
    };
    let before: Vec<_> = scenario.list("--protocol udp").iter().map(packets).collect();
    let times = exchange_until_proven(&scenario.secgroup, &scenario.sockets);
    let after = scenario.list("--protocol udp");
    assert_eq!(after.len(), 2);
    for (flow, [ingress, egress]) in after.iter().zip(before) {
        assert_eq!(packets(flow), [ingress + times, egress + times]);
        assert_eq!(flow["State"], "udp-stream");
        assert_eq!(flow["Tier"], "proven");
    }
}

#[test]
fn a_flushed_flow_is_decided_by_the_rules_again() {
    let net = Pair::new();
    let mut scenario = Scenario::new(&net);
    let secgroup = &scenario.secgroup;
    secgroup.ok(&format!("rule remove web {}", scenario.tcp[0]));
    for stream in &mut scenario.streams {
        tcp::exchange(stream, b"until a flush").unwrap();
    }
    let removed = secgroup.json("flows list --protocol tcp")["Flows"].clone();
    assert_eq!([&removed[0]["RuleRemoved"], &removed[1]["RuleRemoved"]], [true, false]);
    assert_eq!(secgroup.ok(&format!("flows flush --rule {}", scenario.tcp[0])), "1 flow removed\n");
    assert_eq!(secgroup.ok("flows flush --protocol tcp"), "1 flow removed\n");
    let [cut, allowed] = &mut scenario.streams;
    tcp::exchange(allowed, b"picked up by its rule").unwrap();
    cut.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(tcp::exchange(cut, b"cut").is_err());
    let dropped = secgroup.counters().packets("eth0", "ingress", "no-rule");
    assert!(dropped > 0, "{}", secgroup.view());
}
