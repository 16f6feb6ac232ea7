//! What the `flows` commands tell over time and in sums, and of traffic that opens no flows.

use std::net::TcpStream;

use nix::sys::signal::Signal;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Process, Secgroup};
use serde_json::{Value, json};

/// A server whose group `web` allows TCP to ports 80 and 443.
fn web(net: &Pair) -> (Secgroup<'_>, [String; 2]) {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let add = |port: u16| {
        let line = format!("rule add web ingress --protocol tcp --port {port} --cidr 10.77.0.0/24");
        secgroup.ok(&line).trim().to_owned()
    };
    let rules = [add(80), add(443)];
    secgroup.ok("attach eth0 --group web");
    (secgroup, rules)
}

/// A connection over which so many bytes were sent and came back.
fn exchanged(net: &Pair, server: &TcpServer, bytes: usize) -> TcpStream {
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, &vec![7; bytes]).unwrap();
    stream
}

fn ports(list: &Value) -> Vec<u64> {
    let flows = list["Flows"].as_array().unwrap();
    flows.iter().map(|flow| flow["OutsidePort"].as_u64().unwrap()).collect()
}

#[test]
fn flows_are_sorted_limited_and_added_up() {
    let net = Pair::new();
    let (secgroup, rules) = web(&net);
    let servers = [80, 443].map(|port| TcpServer::echo(&net.server, at(Pair::SERVER, port)[0]));
    let streams = [
        exchanged(&net, &servers[0], 100),
        exchanged(&net, &servers[0], 9000),
        exchanged(&net, &servers[1], 3000),
    ];
    let [small, large, middle] =
        streams.each_ref().map(|stream| u64::from(stream.local_addr().unwrap().port()));
    let list = secgroup.json("flows list --sort bytes");
    assert_eq!(ports(&list), [large, middle, small], "{list:#}");
    assert_eq!(list["Flows"][1]["Service"], "https");
    let list = secgroup.json("flows list --sort bytes --limit 1");
    assert_eq!((ports(&list), &list["Count"]), (vec![large], &json!(3)));
    assert_eq!(ports(&secgroup.json("flows list --port https")), [middle]);
    assert_eq!(ports(&secgroup.json("flows list --not --port https --sort packets"))[0], large);

    let by = |what: &str| {
        let count = secgroup.json(&format!("flows count --by {what}"));
        let totals = count["By"].as_array().unwrap().clone();
        let pair = |one: &Value| (one["Key"].as_str().unwrap().to_owned(), one["Flows"].as_u64());
        (totals.iter().map(pair).collect::<Vec<_>>(), totals)
    };
    assert_eq!(by("rule").0, [(rules[0].clone(), Some(2)), (rules[1].clone(), Some(1))]);
    for (what, key) in [
        ("group", "web"),
        ("interface", "eth0"),
        ("state", "established"),
        ("address", "10.77.0.2"),
    ] {
        let (keys, totals) = by(what);
        assert_eq!(keys, [(key.to_owned(), Some(3))]);
        let flows = secgroup.json("flows list")["Flows"].as_array().unwrap().clone();
        let sum: u64 = flows.iter().map(|flow| flow["IngressBytes"].as_u64().unwrap()).sum();
        assert_eq!(totals[0]["IngressBytes"].as_u64(), Some(sum));
    }
}

#[test]
fn a_port_without_flows_because_it_is_untracked_is_explained() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let add = |what: &str| secgroup.ok(&format!("rule add web {what}")).trim().to_owned();
    let https = add("ingress --protocol tcp --port 443 --cidr 0.0.0.0/0");
    let replies = add("egress --protocol all --cidr 0.0.0.0/0 --if-not-exists");
    secgroup.ok("attach eth0 --group web");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 443)[0]);
    let _stream = exchanged(&net, &server, 10);

    let line = format!(
        "secgroup: eth0: ingress tcp port 443 is untracked and opens no flow: {https} allows it from anywhere, \
         and {replies} every reply to anywhere"
    );
    for (command, is_told) in [
        ("flows list --port https", true),
        ("flows count --port 443 --protocol tcp --interface eth0", true),
        ("flows list --port 443 --address 10.77.0.2", true),
        ("flows list --port 443 --protocol udp", false),
        ("flows list --port 80", false),
        ("flows list --port 443 --address fd77::1", false),
        ("flows list", false),
    ] {
        let done = secgroup.run(command.split(' '));
        assert_eq!(done.stderr.lines().next() == Some(&line), is_told, "{command}: {done:?}");
    }
    let untracked = secgroup.json("flows list --port https")["Untracked"].clone();
    let expected = json!([{
        "NetworkInterfaceId": untracked[0]["NetworkInterfaceId"],
        "Device": "eth0",
        "Netns": null,
        "Direction": "ingress",
        "Protocol": 6,
        "Port": 443,
        "SecurityGroupRuleIds": [https],
        "ReplyRuleIds": [replies],
    }]);
    assert_eq!(untracked, expected);
    // With flows there is nothing to explain.
    secgroup.ok("attach eth0 --group web --tracking always");
    let _stream = exchanged(&net, &server, 10);
    let list = secgroup.json("flows list --port https");
    assert_eq!((list["Count"].as_u64(), &list["Untracked"]), (Some(1), &json!([])));
}

#[test]
fn flows_that_begin_and_end_are_printed_until_interrupted() {
    let net = Pair::new();
    let (secgroup, rules) = web(&net);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let _existing = exchanged(&net, &server, 10);
    let line = "flows watch --interval 200ms --output json --port 80";
    let mut watch = Process::capture(secgroup.command(line.split(' ')));
    let events = || -> Vec<Value> {
        let lines = watch.lines();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    // It may not have read the tables yet: connections are opened until one is told.
    let mut streams = Vec::new();
    wait_until(MAX_WAIT, "a new flow to be printed", || {
        streams.push(exchanged(&net, &server, 10));
        !events().is_empty()
    });
    let first = events()[0].clone();
    assert_eq!((&first["Event"], &first["SecurityGroupRuleId"]), (&json!("new"), &json!(rules[0])));
    let port = first["OutsidePort"].as_u64().unwrap();
    secgroup.ok("flows flush --port 80");
    let ended = || {
        events().into_iter().find(|event| event["Event"] == "ended" && event["OutsidePort"] == port)
    };
    wait_until(MAX_WAIT, "its end to be printed", || ended().is_some());
    assert_eq!(ended().unwrap()["GroupName"], "web");
    assert!(watch.interrupt().success());
    watch.wait_for_output("flows began, ");
}

#[test]
fn rates_are_those_of_the_bytes_that_were_sent() {
    let net = Pair::new();
    let (secgroup, _) = web(&net);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let mut stream = exchanged(&net, &server, 10);
    let port = u64::from(stream.local_addr().unwrap().port());
    let counted = || {
        let list = secgroup.json("flows list");
        list["Flows"][0]["IngressBytes"].as_u64().unwrap()
    };
    let before = counted();
    let line = "flows top --interval 300ms --repeat --output json";
    let mut top = Process::capture(secgroup.command(line.split(' ')));
    let intervals = |top: &Process| -> Vec<Value> {
        top.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    wait_until(MAX_WAIT, "a first interval", || !intervals(&top).is_empty());
    for _ in 0..50 {
        tcp::exchange(&mut stream, &[1; 5000]).unwrap();
    }
    let sent = counted() - before;
    let seen = intervals(&top).len();
    wait_until(MAX_WAIT, "the intervals with the packets to end", || {
        intervals(&top).len() > seen + 1
    });
    assert!(top.interrupt().success());
    let intervals = intervals(&top);
    let sum: f64 = intervals
        .iter()
        .map(|one| {
            let flows = one["Flows"].as_array().unwrap();
            assert!(flows.iter().all(|flow| flow["OutsidePort"] == port), "{one:#}");
            let rate = one["Total"]["IngressBytesPerSecond"].as_f64().unwrap();
            rate * one["IntervalSeconds"].as_f64().unwrap()
        })
        .sum();
    // Rates have one decimal.
    assert!((sum - sent as f64).abs() < 1.0 * intervals.len() as f64, "{sum} and {sent}");
    // Interrupted before the only interval was over, it has printed nothing.
    let mut single = Process::capture(secgroup.command(["flows", "top", "--interval", "1h"]));
    single.wait_for_handler(Signal::SIGINT);
    assert_eq!(single.interrupt().code(), Some(130));
    let table = secgroup.ok("flows top --interval 0.2 --by group");
    assert!(table.starts_with("in 0.2 s: in 0 bit/s, out 0 bit/s"), "{table}");
}
