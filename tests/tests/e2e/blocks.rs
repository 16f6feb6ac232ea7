//! `secgroup block` with real traffic: what it cuts, what it counts, and who it does not lock out.

use std::net::IpAddr;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::secgroup::CommandOutput;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, tc_hook};

use crate::support::{count_flows, metric};

/// A server at which everything passes.
fn server(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("attach eth0 --group open --hook {} --tracking always", tc_hook()));
    secgroup
}

/// The packets that the block of a target has dropped, as the list has them.
fn dropped(secgroup: &Secgroup<'_>, cidr: &str) -> u64 {
    let list = secgroup.json("block list");
    let blocks = list["Blocks"].as_array().unwrap();
    let block = blocks.iter().find(|block| block["Cidr"] == cidr);
    block.unwrap_or_else(|| panic!("no {cidr} in {list}"))["Packets"].as_u64().unwrap()
}

fn single(address: IpAddr) -> String {
    ipnet::IpNet::from(address).to_string()
}

#[test]
fn a_newcomer_blocks_an_address_and_sees_its_packets_counted_by_block() {
    let net = Pair::new();
    let secgroup = server(&net);
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    for (end, client) in ends.into_iter().zip(Pair::CLIENT) {
        assert!(tcp::reaches(&net.client, end));
        let text = secgroup.ok(&format!("block {client}"));
        assert_eq!(text, format!("{} blocked\n", single(client)));
        let (before, reason) = (dropped(&secgroup, &single(client)), secgroup.counters());
        assert_eq!(before, 0);
        assert!(tcp::none_reaches(&net.client, &[end]), "{}", secgroup.view());
        let counted = dropped(&secgroup, &single(client));
        assert!(counted > 0);
        let by_reason = secgroup.counters().since(&reason).packets("eth0", "ingress", "blocked");
        assert!(by_reason > 0, "{}", secgroup.view());
        // Another end of the same block: its counter goes on.
        secgroup.ok(&format!("block {client} --for 1h --reason test"));
        assert!(dropped(&secgroup, &single(client)) >= counted);
    }
    assert!(tcp::none_reaches(&net.client, &ends));
    assert!(secgroup.ok("status").contains("\nblocks: 2\n"), "{}", secgroup.ok("status"));
    let metrics = secgroup.ok("metrics");
    assert_eq!(metric(&metrics, "secgroup_blocks{kind=\"network\"}"), 2);
    secgroup.ok("unblock --all");
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)), "{}", secgroup.view());
}

#[test]
fn the_flows_of_a_blocked_address_are_flushed_with_it() {
    let net = Pair::new();
    let secgroup = server(&net);
    for (end, client) in at(Pair::SERVER, 80).into_iter().zip(Pair::CLIENT) {
        let _server = TcpServer::echo(&net.server, end);
        let mut stream = tcp::connect(&net.client, end).unwrap();
        tcp::exchange(&mut stream, b"request").unwrap();
        let of_client = format!("--address {client} --protocol tcp");
        assert_eq!(count_flows(&secgroup, &of_client), 1);
        secgroup.ok(&format!("block {client}"));
        assert_eq!(count_flows(&secgroup, &of_client), 1, "a block alone leaves flows");
        let text = secgroup.ok(&format!("block {client} --flush"));
        assert!(text.contains("already\n") && text.ends_with(" removed\n"), "{text}");
        assert_eq!(count_flows(&secgroup, &of_client), 0);
    }
}

#[test]
fn a_prefix_list_is_blocked_with_what_it_gets_later_on_one_interface() {
    let net = Pair::new();
    let secgroup = server(&net);
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let id = secgroup.ok("prefix-list create bad --family ipv4 --entry 198.51.100.0/24");
    secgroup.ok("block --prefix-list bad --interface eth0");
    assert!(tcp::reaches(&net.client, ends[0]));
    secgroup.ok(&format!("prefix-list add bad --entry {}", single(Pair::CLIENT[0])));
    assert!(tcp::none_reaches(&net.client, &ends[..1]), "{}", secgroup.view());
    assert!(tcp::reaches(&net.client, ends[1]));
    let labels = format!("prefix_list=\"{}\",interface=\"eth0\"", id.trim());
    let series = format!("secgroup_block_packets_total{{{labels}}}");
    assert!(metric(&secgroup.ok("metrics"), &series) > 0);
    secgroup.ok("unblock --prefix-list bad");
    assert!(tcp::reaches(&net.client, ends[0]), "{}", secgroup.view());
}

#[test]
fn the_caller_of_a_block_is_not_locked_out_unless_forced() {
    let net = Pair::new();
    let secgroup = server(&net);
    for family in 0..2 {
        let (client, server) = (Pair::CLIENT[family], Pair::SERVER[family]);
        let end = at(Pair::SERVER, 22)[family];
        let _server = TcpServer::echo(&net.server, end);
        let run = |line: &str| {
            let mut command = secgroup.command(line.split_whitespace());
            command.env("SSH_CONNECTION", format!("{client} 50000 {server} 22"));
            CommandOutput::of(&mut command)
        };
        let refused = run(&format!("block {client}"));
        assert_eq!(refused.code, Some(1), "{refused}");
        assert!(refused.stderr.contains("this would lock you out"), "{refused}");
        assert!(tcp::reaches(&net.client, end));
        assert_eq!(run(&format!("block {client} --force")).code, Some(0));
        assert!(tcp::none_reaches(&net.client, &[end]));
        assert_eq!(run("unblock --all").code, Some(0));
    }
}

#[test]
fn an_unconfirmed_block_is_rolled_back() {
    let net = Pair::new();
    let secgroup = server(&net);
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let clients = Pair::CLIENT.map(|client| client.to_string()).join(" ");
    secgroup.ok(&format!("block {clients} --confirm 2s"));
    assert!(tcp::none_reaches(&net.client, &ends));
    wait_until(MAX_WAIT, "the rollback", || {
        ends.into_iter()
            .all(|end| tcp::connect_within(&net.client, end, Duration::from_millis(300)).is_ok())
    });
    assert_eq!(secgroup.ok("block list").lines().count(), 1);
}
