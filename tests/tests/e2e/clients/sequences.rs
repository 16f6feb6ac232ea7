//! Any sequence of calls leaves what is described, what is stored and what packets meet consistent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use secgroup_tests::clients::Endpoint;
use secgroup_tests::secgroup::binary;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::{Pair, Secgroup, clients};

/// Sequences, and calls in each.
const SEEDS: std::ops::Range<u32> = 1..5;
const CALLS: u32 = 60;

/// The ports that rules name.
const PORTS: std::ops::Range<u16> = 8001..8009;

#[test]
fn any_sequence_of_calls_leaves_description_store_and_packets_consistent() {
    let net = Pair::new();
    let servers = PORTS.flat_map(|port| Pair::SERVER.map(|address| SocketAddr::new(address, port)));
    let servers: Vec<TcpServer> = servers.map(|at| TcpServer::echo(&net.server, at)).collect();
    for seed in SEEDS {
        let secgroup = Secgroup::inside(&net.server);
        let endpoint = Endpoint::start(&secgroup, &net.server);
        secgroup.ok("attach eth0 --group default");
        let mut command = endpoint.python_command();
        command.env("SECGROUP", binary()).arg(clients::scripts().join("python/sequences.py"));
        command.args([seed.to_string(), CALLS.to_string()]);
        let printed = endpoint.run(&mut command);
        let open: BTreeMap<IpAddr, Vec<u16>> = serde_json::from_str(&printed).unwrap();
        for client in Pair::CLIENT {
            let family = servers
                .iter()
                .map(TcpServer::address)
                .filter(|at| at.is_ipv4() == client.is_ipv4());
            let (expected, others): (Vec<SocketAddr>, Vec<SocketAddr>) =
                family.partition(|at| open[&client].contains(&at.port()));
            for at in expected {
                assert!(
                    tcp::reaches(&net.client, at),
                    "seed {seed}: {at} is closed\n{}",
                    secgroup.view()
                );
            }
            assert!(
                tcp::none_reaches(&net.client, &others),
                "seed {seed}: only {open:?}\n{}",
                secgroup.view()
            );
        }
    }
}
