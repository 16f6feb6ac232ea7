//! What ends by itself, with real traffic: in the kernel without any command, then in the store.

use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Process, Secgroup, tc_hook};

use crate::support::metric;

/// A server that lets nothing in.
fn server(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("attach eth0 --group web --hook {} --tracking always", tc_hook()));
    secgroup
}

fn connects(net: &Pair, to: std::net::SocketAddr) -> bool {
    tcp::connect_within(&net.client, to, Duration::from_millis(200)).is_ok()
}

#[test]
fn a_rule_ends_in_the_kernel_without_a_command_and_its_flows_go_on() {
    let net = Pair::new();
    let secgroup = server(&net);
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    secgroup
        .ok("rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0 --cidr ::/0 --for 3s");
    let mut streams = ends.map(|end| tcp::connect(&net.client, end).unwrap());
    for end in ends {
        wait_until(MAX_WAIT, "the end of the rule", || !connects(&net, end));
    }
    for stream in &mut streams {
        tcp::exchange(stream, b"still there").unwrap();
    }
    assert_eq!(secgroup.ok("rule list web").matches("ended").count(), 2);
    // The next change of anything removes it.
    let done = secgroup.run(["group", "create", "other", "--description", "x"]);
    assert!(done.stderr.contains("secgroup: ended and were removed: rule sgr-"), "{done}");
    assert!(!secgroup.ok("rule list web").contains(" 80 "), "{}", secgroup.view());
    assert_eq!(metric(&secgroup.ok("metrics"), "secgroup_ended_total{kind=\"rule\"}"), 2);
    assert!(!connects(&net, ends[0]));
}

#[test]
fn a_block_ends_in_the_kernel_without_a_command() {
    let net = Pair::new();
    let secgroup = server(&net);
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0 --cidr ::/0");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    for own in ["", " --interface eth0"] {
        for (end, client) in ends.into_iter().zip(Pair::CLIENT) {
            secgroup.ok(&format!("block {client} --for 2s{own}"));
            assert!(!connects(&net, end), "{}", secgroup.view());
            wait_until(MAX_WAIT, "the end of the block", || connects(&net, end));
        }
    }
    let list = secgroup.ok("block list");
    assert!(list.contains("ended"), "{list}");
}

#[test]
fn a_permanent_rule_and_a_later_end_outlast_an_earlier_one() {
    let net = Pair::new();
    let secgroup = server(&net);
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    // Of IPv4 the same traffic is allowed by a larger network too.
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.2/32 --cidr fd77::2/128 --for 2s");
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)), "{}", secgroup.view());
    wait_until(MAX_WAIT, "the end of the rule", || !connects(&net, ends[1]));
    assert!(tcp::reaches(&net.client, ends[0]), "{}", secgroup.view());
}

#[test]
fn another_end_takes_effect_in_the_kernel() {
    let net = Pair::new();
    let secgroup = server(&net);
    let end = at(Pair::SERVER, 80)[0];
    let _server = TcpServer::echo(&net.server, end);
    let line = "rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0 --for 2s";
    let id = secgroup.ok(line).trim().to_owned();
    let short = "rule add web ingress --protocol tcp --port 80 --cidr 10.0.0.0/8 --for 3s";
    secgroup.ok(short);
    secgroup.ok(&format!("rule set-end web {id} --never"));
    wait_until(MAX_WAIT, "the end of the other rule", || {
        secgroup.ok("rule list web").contains("ended")
    });
    assert!(tcp::reaches(&net.client, end), "{}", secgroup.view());
    secgroup.ok(&format!("rule set-end web {id} --for 1s"));
    wait_until(MAX_WAIT, "the end of the rule", || !connects(&net, end));
}

#[test]
fn serve_removes_what_has_ended() {
    let net = Pair::new();
    let secgroup = server(&net);
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0 --for 2s");
    secgroup.ok("block 192.0.2.7 --for 2s");
    let command = secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]);
    let _serve = Process::start(command);
    wait_until(MAX_WAIT, "the removal", || {
        let counted = secgroup.ok("metrics");
        metric(&counted, "secgroup_ended_total{kind=\"rule\"}") == 1
            && metric(&counted, "secgroup_ended_total{kind=\"block\"}") == 1
    });
    assert_eq!(secgroup.ok("block list").lines().count(), 1);
}

#[test]
fn a_rollback_restores_no_rule_that_has_ended() {
    let net = Pair::new();
    let secgroup = server(&net);
    let end = at(Pair::SERVER, 80)[0];
    let _server = TcpServer::echo(&net.server, end);
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0 --for 2s");
    secgroup.ok("rule add web ingress --protocol tcp --port 81 --cidr 0.0.0.0/0 --confirm 1m");
    wait_until(MAX_WAIT, "the end of the rule", || !connects(&net, end));
    secgroup.ok("rollback");
    assert!(!connects(&net, end));
    let rules = secgroup.ok("rule list web");
    assert!(!rules.contains(" 80 ") && !rules.contains(" 81 "), "{rules}");
    assert_eq!(metric(&secgroup.ok("metrics"), "secgroup_ended_total{kind=\"rule\"}"), 1);
}

#[test]
fn a_reconcile_of_lost_pins_honours_no_rule_that_has_ended() {
    let net = Pair::new();
    let secgroup = server(&net);
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr ::/0");
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0 --for 1s");
    wait_until(MAX_WAIT, "the end of the rule", || !connects(&net, ends[0]));
    std::fs::remove_dir_all(secgroup.pin_dir().join("abi7")).unwrap();
    let done = secgroup.run(["reconcile"]);
    assert!(done.stderr.contains("ended"), "{done}");
    assert!(!connects(&net, ends[0]));
    assert!(tcp::reaches(&net.client, ends[1]), "{}", secgroup.view());
}
