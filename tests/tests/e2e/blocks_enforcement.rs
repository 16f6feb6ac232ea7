//! Blocks of the whole host in the kernel.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use firewall_ebpf::abi::limits::ABI_VERSION;
use firewall_user::config::{Config, Paths};
use firewall_user::control::{Control, Terms};
use firewall_user::model::{InterfaceId, NewBlock, Peer};
use ipnet::IpNet;
use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Secgroup, tc_hook};

/// A server at which everything passes.
fn server<'a>(net: &'a Pair, options: &str) -> Secgroup<'a> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.configure(
        "[maps]\nflows_new = 1024\nflows_udp = 1024\nflows_tcp = 1024\nrules = 16384\ninterfaces = 8\n",
    );
    secgroup.ok("group create open --description x");
    secgroup.ok("rule add open ingress --protocol all --cidr 0.0.0.0/0 --cidr ::/0");
    secgroup.ok(&format!("attach eth0 --group open {options}"));
    secgroup
}

/// The instance as the library sees it.
fn control(secgroup: &Secgroup<'_>) -> Control {
    let paths = Paths {
        state_dir: secgroup.state_dir(),
        pin_dir: secgroup.pin_dir().to_owned(),
        config: None,
    };
    Control::open(&paths, Config::default()).unwrap()
}

fn new_block(network: IpNet, interface: Option<InterfaceId>) -> NewBlock {
    let target = match network {
        IpNet::V4(network) => Peer::Ipv4(network),
        IpNet::V6(network) => Peer::Ipv6(network),
    };
    NewBlock { target, interface, reason: None, end: None, created: 0 }
}

fn block(control: &mut Control, networks: impl IntoIterator<Item = IpNet>, own: bool) {
    let done = control.change(&Terms::default(), |change| {
        let interface = change.model().interfaces.values().next().map(|one| one.id.clone());
        for network in networks {
            change.add_block(new_block(network, interface.clone().filter(|_| own)))?;
        }
        Ok(())
    });
    done.unwrap();
}

fn unblock_all(control: &mut Control) {
    let done = control.change(&Terms::default(), |change| {
        for number in change.model().blocks.keys().copied().collect::<Vec<_>>() {
            change.remove_block(number)?;
        }
        Ok(())
    });
    done.unwrap();
}

/// The tables of blocked networks that are pinned.
fn tables(secgroup: &Secgroup<'_>) -> Vec<PathBuf> {
    let dir = secgroup.pin_dir().join(format!("abi{ABI_VERSION}")).join("tables");
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_of_blocks =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("blocks_");
    paths.filter(is_of_blocks).collect()
}

fn a_block_cuts_flows(hook: &str, own: bool) {
    let net = Pair::new();
    let secgroup = server(&net, &format!("--hook {hook} --tracking always"));
    let mut control = control(&secgroup);
    for (end, client) in at(Pair::SERVER, 80).into_iter().zip(Pair::CLIENT) {
        let _server = TcpServer::echo(&net.server, end);
        let mut stream = tcp::connect(&net.client, end).unwrap();
        tcp::exchange(&mut stream, b"request").unwrap();
        block(&mut control, [IpNet::from(client)], own);
        let before = secgroup.counters();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(tcp::exchange(&mut stream, b"request").is_err());
        let dropped = secgroup.counters().since(&before).packets("eth0", "ingress", "blocked");
        assert!(dropped > 0, "{}", secgroup.view());
        assert!(tcp::none_reaches(&net.client, &[end]));
        // The server's packets to it are dropped too.
        let before = secgroup.counters();
        assert!(!secgroup_tests::ping::ping(&net.server, client));
        let dropped = secgroup.counters().since(&before).packets("eth0", "egress", "blocked");
        assert!(dropped > 0, "{}", secgroup.view());
        unblock_all(&mut control);
        // The request that was not answered is repeated, and answered first.
        stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
        tcp::exchange(&mut stream, b"request").unwrap();
        assert!(tcp::reaches(&net.client, end));
    }
}

#[test]
fn a_block_cuts_flows_in_both_directions_until_it_is_removed_at_tc() {
    a_block_cuts_flows(tc_hook(), false);
}

#[test]
fn a_block_cuts_flows_in_both_directions_until_it_is_removed_at_xdp() {
    a_block_cuts_flows("xdp", false);
}

#[test]
fn a_block_of_one_interface_cuts_its_flows() {
    a_block_cuts_flows(tc_hook(), true);
}

/// Networks that contain no address of the test.
fn networks(count: u32) -> impl Iterator<Item = IpNet> {
    (0..count).map(|n| {
        let [_, _, high, low] = n.to_be_bytes();
        IpNet::new(IpAddr::from([100, 64 + high % 64, low, 128]), 25 + (high / 64) % 8).unwrap()
    })
}

#[test]
fn ten_thousand_networks_are_blocked_and_unblocked() {
    let net = Pair::new();
    let secgroup = server(&net, "");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    let mut control = control(&secgroup);
    let all: Vec<IpNet> = networks(10_000).collect();
    block(&mut control, all, false);
    assert_eq!(tables(&secgroup).len(), 2);
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)), "{}", secgroup.view());
    // The ends of these connections would be blocked too.
    wait_until(MAX_WAIT, "the connections to be closed", || {
        let flows = secgroup.json("flows list");
        let states = flows["Flows"].as_array().unwrap().iter().map(|flow| &flow["State"]);
        states.into_iter().all(|state| ["time-wait", "close"].iter().any(|closed| state == closed))
    });
    // Others are written into the same tables, into one half after the other.
    for client in Pair::CLIENT {
        block(&mut control, [IpNet::from(client)], false);
    }
    secgroup.moved(&[("eth0", "ingress", "blocked", 2)], || {
        assert!(tcp::none_reaches(&net.client, &ends));
    });
    secgroup.ok("reconcile");
    assert!(tcp::none_reaches(&net.client, &ends));
    unblock_all(&mut control);
    assert_eq!(tables(&secgroup).len(), 0);
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)));
}

#[test]
fn reconcile_restores_blocks_after_a_reboot_and_without_their_tables() {
    let net = Pair::new();
    let secgroup = server(&net, "");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    block(&mut control(&secgroup), [IpNet::from(Pair::CLIENT[0])], false);
    let check = |when: &str| {
        assert!(tcp::none_reaches(&net.client, &ends[..1]), "{when}: {}", secgroup.view());
        assert!(tcp::reaches(&net.client, ends[1]), "{when}: {}", secgroup.view());
        assert_eq!(tables(&secgroup).len(), 2, "{when}");
    };
    check("before");
    for at in 0..2 {
        std::fs::remove_file(&tables(&secgroup)[at]).unwrap();
        secgroup.ok("reconcile");
        check("a table is missing");
    }
    let dir = secgroup.pin_dir().join(format!("abi{ABI_VERSION}"));
    std::fs::remove_dir_all(&dir).unwrap();
    secgroup.ok("reconcile");
    check("all pins are missing");
    secgroup.ok("group create another --description x");
    check("after a change of something else");
}

#[test]
fn panic_does_not_consult_blocks_and_its_end_restores_them() {
    let net = Pair::new();
    let secgroup = server(&net, "");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    block(&mut control(&secgroup), Pair::CLIENT.map(IpNet::from), false);
    assert!(tcp::none_reaches(&net.client, &ends));
    secgroup.ok("management set 10.77.0.0/24 fd77::/64");
    secgroup.ok("panic");
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)), "{}", secgroup.view());
    secgroup.ok("panic --off");
    assert!(tcp::none_reaches(&net.client, &ends), "{}", secgroup.view());
}

#[test]
fn a_new_interface_is_subject_to_the_blocks_that_exist() {
    let net = Pair::new();
    let secgroup = server(&net, "");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    block(&mut control(&secgroup), Pair::CLIENT.map(IpNet::from), false);
    secgroup.ok("detach eth0");
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)));
    secgroup.ok("attach eth0 --group open");
    assert!(tcp::none_reaches(&net.client, &ends), "{}", secgroup.view());
}

#[test]
fn audit_mode_counts_what_a_block_would_drop() {
    let net = Pair::new();
    let secgroup = server(&net, "--mode audit");
    let ends = at(Pair::SERVER, 80);
    let _servers = ends.map(|end| TcpServer::echo(&net.server, end));
    block(&mut control(&secgroup), Pair::CLIENT.map(IpNet::from), false);
    let before = secgroup.counters();
    assert!(ends.into_iter().all(|end| tcp::reaches(&net.client, end)));
    let after = secgroup.counters().since(&before);
    assert!(after.packets("eth0", "ingress", "blocked") >= 2, "{after}");
    assert!(after.packets("eth0", "egress", "blocked") >= 2, "{after}");
}
