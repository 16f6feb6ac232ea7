//! Staged changes of rules, and what a document would do to live connections.

use std::net::SocketAddr;

use firewall_user::dataplane::Pins;
use firewall_user::dataplane::tables::maps::Maps;
use secgroup_tests::notify::Notify;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup};
use serde_json::{Value, json};

const OPEN: SocketAddr = address(80);
const CLOSED: SocketAddr = address(81);

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1)), port)
}

/// Group web on eth0, with port 80 open; returns the id of its rule.
fn attached<'a>(net: &'a Pair) -> (Secgroup<'a>, String) {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let rule = secgroup.ok("rule add web ingress --protocol tcp --port http --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    (secgroup, rule.trim().to_owned())
}

/// What identifies the policy that packets are evaluated against.
fn policy(secgroup: &Secgroup<'_>) -> u32 {
    let maps = Maps::open(&Pins::new(secgroup.pin_dir())).unwrap();
    maps.active(0).unwrap().generation()
}

/// The result of a simulation that has to find something that breaks.
fn simulate(secgroup: &Secgroup<'_>, arguments: &str) -> Value {
    let line = format!("simulate {arguments} --output json");
    let output = secgroup.run(line.split_whitespace());
    assert_eq!(output.code, Some(4), "{output}");
    serde_json::from_str(&output.stdout).unwrap()
}

#[test]
fn staged_changes_decide_nothing_until_they_are_enforced() {
    let net = Pair::new();
    let (secgroup, open) = attached(&net);
    let _servers = [OPEN, CLOSED].map(|end| TcpServer::echo(&net.server, end));
    let before = policy(&secgroup);
    let added = secgroup.ok("rule stage web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24");
    let added = added.trim();
    secgroup.ok(&format!("rule stage-removal web {open}"));
    assert_eq!(policy(&secgroup), before, "the policy is the one before");

    let mut flow = tcp::connect(&net.client, OPEN).unwrap();
    tcp::exchange(&mut flow, b"as before").unwrap();
    assert!(!tcp::reaches(&net.client, CLOSED), "{}", secgroup.view());
    let found = simulate(&secgroup, "--staged --live");
    let one = &found["Breaks"][0];
    assert_eq!((&one["Port"], &one["SeenIn"]), (&json!(80), &json!("live")), "{found}");
    assert_eq!(one["Source"], "10.77.0.2");
    assert_eq!(one["Rule"]["SecurityGroupRuleId"], open.as_str());
    let staged = secgroup.json("rule list --staged");
    let removal = staged["StagedRules"].as_array().unwrap().iter();
    let removal = removal.clone().find(|one| one["Change"] == "remove").unwrap();
    assert!(removal["WouldDropFlows"].as_u64().unwrap() >= 1, "{removal}");

    secgroup.ok(&format!("rule enforce web {open} {added} --force"));
    assert_ne!(policy(&secgroup), before);
    assert!(tcp::reaches(&net.client, CLOSED), "{}", secgroup.view());
    assert!(!tcp::reaches(&net.client, OPEN), "{}", secgroup.view());
    // The flow goes on, as the simulation has said.
    tcp::exchange(&mut flow, b"still").unwrap();
}

#[test]
fn what_a_staged_rule_would_let_pass_is_counted_and_simulated() {
    let net = Pair::new();
    let (secgroup, _) = attached(&net);
    let _server = TcpServer::echo(&net.server, CLOSED);
    secgroup.ok("rule stage web ingress --protocol tcp --port 81 --cidr 10.77.0.0/24");
    let serve = secgroup.command("serve --metrics 127.0.0.1:0".split_whitespace());
    let _serve = Notify::new().start(serve);
    let counted = || {
        let staged = secgroup.json("rule list --staged");
        staged["StagedRules"][0]["WouldPassPackets"].as_u64().unwrap()
    };
    wait_until(MAX_WAIT, "a dropped packet is recorded, and would have passed", || {
        assert!(!tcp::reaches(&net.client, CLOSED));
        counted() > 0
    });
    let document = secgroup.run("simulate --staged --output json".split_whitespace());
    assert_eq!(document.code, Some(0), "{document}");
    let found: Value = serde_json::from_str(&document.stdout).unwrap();
    let one = &found["Passes"][0];
    assert_eq!((&one["Port"], &one["SeenIn"]), (&json!(81), &json!("journal")), "{found}");
}

/// The document of the host, whose network ACL has one more entry for TCP: direction, action and port.
fn with_entry(
    secgroup: &Secgroup<'_>,
    is_egress: bool,
    action: &str,
    port: u16,
) -> tempfile::NamedTempFile {
    let mut document: Value = serde_json::from_str(&secgroup.ok("export")).unwrap();
    let entries = document["NetworkAcls"][0]["Entries"].as_array_mut().unwrap();
    entries.push(json!({
        "Egress": is_egress, "RuleNumber": 90, "RuleAction": action, "Protocol": "6",
        "PortRange": {"From": port, "To": port}, "CidrBlock": "10.77.0.0/24",
    }));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, document.to_string().as_bytes()).unwrap();
    file
}

#[test]
fn an_acl_that_denies_the_answers_cuts_live_connections_as_simulated() {
    let net = Pair::new();
    let (secgroup, _) = attached(&net);
    let _server = TcpServer::echo(&net.server, OPEN);
    let mut flows = [(); 2].map(|()| tcp::connect(&net.client, OPEN).unwrap());
    for flow in &mut flows {
        tcp::exchange(flow, b"before").unwrap();
    }
    // The answers to one of the two connections.
    let denied = flows[0].local_addr().unwrap().port();
    let file = with_entry(&secgroup, true, "deny", denied);
    let path = file.path().display().to_string();
    let found = simulate(&secgroup, &format!("{path} --live"));
    let breaks = found["Breaks"].as_array().unwrap();
    assert_eq!(breaks.len(), 1, "{found}");
    let (one, by) = (&breaks[0], &breaks[0]["DeniedBy"]);
    assert_eq!(
        (&one["Port"], &one["Connections"], &one["IsCut"]),
        (&json!(80), &json!(1), &json!(true))
    );
    assert_eq!((&by["Acl"], &by["IsAnswer"]), (&json!("default"), &json!(true)), "{by}");

    secgroup.ok(&format!("apply {path} --force"));
    let [cut, other] = &mut flows;
    tcp::exchange(other, b"after").unwrap();
    cut.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    tcp::exchange(cut, b"after").unwrap_err();
    // The same document again changes nothing.
    let output = secgroup.run(["simulate", &path, "--live"]);
    assert_eq!(output.code, Some(0), "{output}");
}
