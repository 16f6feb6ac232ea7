//! What rules are used for, over restarts of `serve`, deleted rules and new tables.

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp::{self, UdpEcho};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Process, Secgroup};
use serde_json::Value;

/// A server whose group `web` allows TCP to port 80, UDP to port 53, and TCP to port 81, and the ids of these rules.
fn web(net: &Pair) -> (Secgroup<'_>, [String; 3]) {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let add = |what: &str| {
        let line = format!("rule add web ingress --protocol {what} --cidr 10.77.0.0/24");
        secgroup.ok(&line).trim().to_owned()
    };
    let rules = [add("tcp --port 80"), add("udp --port 53"), add("tcp --port 81")];
    secgroup.ok("attach eth0 --group web");
    (secgroup, rules)
}

fn hits(secgroup: &Secgroup<'_>, rule: &str) -> Value {
    let list = secgroup.json("rule list --hits");
    let rules = list["Rules"].as_array().unwrap().clone();
    let found = rules.into_iter().find(|one| one["SecurityGroupRuleId"] == rule);
    found.unwrap_or_else(|| panic!("no {rule} in {list:#}"))
}

/// Packets, bytes and new flows.
fn counts(secgroup: &Secgroup<'_>, rule: &str) -> [u64; 3] {
    let of = hits(secgroup, rule);
    ["Packets", "Bytes", "NewFlows"].map(|key| of[key].as_u64().unwrap())
}

/// Packets and bytes of both directions of the flows of a rule, and their number.
fn flows_of(secgroup: &Secgroup<'_>, rule: &str) -> [u64; 3] {
    let list = secgroup.json(&format!("flows list --rule {rule}"));
    let flows = list["Flows"].as_array().unwrap();
    let sum = |keys: [&str; 2]| -> u64 {
        flows.iter().flat_map(|flow| keys.map(|key| flow[key].as_u64().unwrap())).sum()
    };
    let packets = sum(["IngressPackets", "EgressPackets"]);
    [packets, sum(["IngressBytes", "EgressBytes"]), flows.len() as u64]
}

#[test]
fn hits_are_those_of_the_flows_and_survive_deleted_flows_and_tables() {
    let net = Pair::new();
    let (secgroup, rules) = web(&net);
    let tcp_server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let udp_server = UdpEcho::start(&net.server, at(Pair::SERVER, 53)[0]);
    assert_eq!(hits(&secgroup, &rules[0])["LastHit"], Value::Null);

    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = tcp::connect(&net.client, tcp_server.address()).unwrap();
        tcp::exchange(&mut stream, &[1; 4000]).unwrap();
        streams.push(stream);
    }
    let sockets: Vec<_> = (0..2).map(|_| udp::connect(&net.client, udp_server.address())).collect();
    assert!(sockets.iter().all(|socket| udp::is_echoed(socket, MAX_WAIT)));
    tcp::wait_until_settled([&net.server, &net.client]);
    let expected = flows_of(&secgroup, &rules[1]);
    assert_eq!(counts(&secgroup, &rules[1]), expected);
    assert_eq!(expected[2], 2);
    let expected = flows_of(&secgroup, &rules[0]);
    assert_eq!(counts(&secgroup, &rules[0]), expected);
    // Nothing is counted twice.
    assert_eq!(counts(&secgroup, &rules[0]), expected);
    assert_eq!(counts(&secgroup, &rules[2]), [0; 3]);
    let of = hits(&secgroup, &rules[0]);
    assert!(of["FirstHit"].as_u64().unwrap() <= of["LastHit"].as_u64().unwrap(), "{of:#}");

    // Each command goes on where the one before ended, also with flows that it knows.
    tcp::exchange(&mut streams[1], &[1; 100]).unwrap();
    tcp::wait_until_settled([&net.server, &net.client]);
    let expected = flows_of(&secgroup, &rules[0]);
    assert_eq!(counts(&secgroup, &rules[0]), expected);

    // New tables, new counters: what was counted stays, and what is new is added.
    drop(streams);
    tcp::wait_until_settled([&net.server, &net.client]);
    assert_eq!(counts(&secgroup, &rules[0]), flows_of(&secgroup, &rules[0]));
    let expected = counts(&secgroup, &rules[0]);
    secgroup.ok("detach eth0");
    secgroup.ok("attach eth0 --group web");
    assert_eq!(counts(&secgroup, &rules[0]), expected);
    let mut stream = tcp::connect(&net.client, tcp_server.address()).unwrap();
    tcp::exchange(&mut stream, b"x").unwrap();
    let [packets, bytes, flows] = counts(&secgroup, &rules[0]);
    assert_eq!(flows, expected[2] + 1);
    assert!(packets > expected[0] && bytes > expected[1]);

    // A deleted rule has no line; its flows still tell which one admitted them, and who uses it.
    secgroup.ok(&format!("rule remove web {}", rules[0]));
    let users = secgroup.json(&format!("rule users {}", rules[0]));
    assert_eq!((&users["Removed"], users["FlowCount"].as_u64()), (&Value::Bool(true), Some(1)));
    assert_eq!(users["Peers"][0]["Key"], Pair::CLIENT[0].to_string());
    assert_eq!(users["NewFlows"].as_u64(), Some(flows));
}

#[test]
fn untracked_packets_are_hits() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let rule = secgroup.ok("rule add web ingress --protocol tcp --port 443 --cidr 0.0.0.0/0");
    let rule = rule.trim();
    secgroup.ok("rule add web egress --protocol all --cidr 0.0.0.0/0 --if-not-exists");
    secgroup.ok("attach eth0 --group web");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 443)[0]);
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, &[1; 4000]).unwrap();
    tcp::wait_until_settled([&net.server, &net.client]);
    assert_eq!(secgroup.json("flows count")["Count"], 0);
    let [packets, bytes, flows] = counts(&secgroup, rule);
    let passed = secgroup.counters().packets("eth0", "ingress", "untracked");
    assert_eq!((packets, flows), (passed, 0));
    assert!(bytes > 4000, "{bytes}");
}

#[test]
fn serve_counts_while_it_runs_and_commands_show_what_it_counted() {
    let net = Pair::new();
    let (secgroup, rules) = web(&net);
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    let start = || {
        let process = Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]));
        process.wait_for_output("metrics at");
        process
    };
    let mut serve = start();
    wait_until(MAX_WAIT, "serve to count", || {
        !secgroup.json("rule list --hits")["Watched"].as_array().unwrap().is_empty()
    });
    let mut stream = tcp::connect(&net.client, server.address()).unwrap();
    tcp::exchange(&mut stream, &[1; 4000]).unwrap();
    tcp::wait_until_settled([&net.server, &net.client]);
    let expected = flows_of(&secgroup, &rules[0]);
    wait_until(MAX_WAIT, "serve to count the flow", || counts(&secgroup, &rules[0]) == expected);
    // The last reading is when it ends.
    tcp::exchange(&mut stream, &[1; 100]).unwrap();
    tcp::wait_until_settled([&net.server, &net.client]);
    let expected = flows_of(&secgroup, &rules[0]);
    assert!(serve.terminate().success());
    assert_eq!(counts(&secgroup, &rules[0]), expected);
    let mut serve = start();
    assert_eq!(counts(&secgroup, &rules[0]), expected);
    assert!(serve.terminate().success());
    let watched = secgroup.json("rule list --hits")["Watched"].clone();
    assert_eq!(watched.as_array().unwrap().len(), 1, "a restart is no gap: {watched:#}");

    let error = secgroup.refused("rule unused --since 30d", 3);
    assert!(
        error.starts_with(
            "error: rule unused: rules were not watched for the last 30d: they were watched for "
        ),
        "{error}"
    );
    let unused = secgroup.json("rule unused --since 1s");
    let ids: Vec<_> = unused["Rules"].as_array().unwrap().iter().collect();
    let is_there = |rule: &str| ids.iter().any(|one| one["SecurityGroupRuleId"] == rule);
    assert!(is_there(&rules[2]), "{unused:#}");
    let all = secgroup.json("rule list --hits");
    let since = all["Watched"][0]["From"].as_i64().unwrap();
    let now = all["Watched"][0]["To"].as_i64().unwrap();
    let line = format!("rule unused --since {}s", (now - since) / 1000);
    assert!(!secgroup.ok(&line).contains(&rules[0]), "it was used in this time");
}

#[test]
fn a_preview_of_a_removal_tells_who_is_affected_and_removes_nothing() {
    let net = Pair::new();
    let (secgroup, rules) = web(&net);
    secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr 10.0.0.0/8");
    let servers = [80, 81].map(|port| TcpServer::echo(&net.server, at(Pair::SERVER, port)[0]));
    let _streams = servers.each_ref().map(|server| {
        let mut stream = tcp::connect(&net.client, server.address()).unwrap();
        tcp::exchange(&mut stream, b"x").unwrap();
        stream
    });
    let preview = |rule: &str| secgroup.ok(&format!("rule remove web {rule} --preview"));
    let text = preview(&rules[0]);
    assert!(text.contains("  1 live flow, which no other rule allows\n"), "{text}");
    assert!(text.contains(&format!("  their peers: {}\n", Pair::CLIENT[0])), "{text}");
    let text = preview("ingress --protocol tcp --port 81 --cidr 10.77.0.0/24");
    assert!(text.contains("  1 live flow, which another rule allows\n"), "{text}");
    assert!(secgroup.ok("rule list web").contains(&rules[0]));
    secgroup.ok("attach eth0 --group web --revalidate on");
    let text = preview(&rules[0]);
    assert!(text.contains("  of those, 1 end at their next packet"), "{text}");
}
