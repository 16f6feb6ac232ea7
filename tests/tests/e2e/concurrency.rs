//! Concurrent commands, and traffic while policies change.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp;
use secgroup_tests::wait::wait_for_quiet;
use secgroup_tests::{Pair, Secgroup};

#[test]
fn rules_added_concurrently_are_all_active() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    // The flows show which rules are active.
    secgroup.ok("attach eth0 --group web --tracking always");
    let ports = 8001..=8008;
    let ids: BTreeSet<String> = thread::scope(|scope| {
        let add = |port| {
            let secgroup = &secgroup;
            scope.spawn(move || {
                secgroup.ok(&format!(
                    "rule add web ingress --protocol tcp --port {port} --cidr 10.77.0.0/24 --cidr fd77::/64"
                ))
            })
        };
        let adding: Vec<_> = ports.clone().map(add).collect();
        let outputs: Vec<_> = adding.into_iter().map(|thread| thread.join().unwrap()).collect();
        outputs.iter().flat_map(|ids| ids.split_whitespace()).map(str::to_owned).collect()
    });
    assert_eq!(ids.len(), 16);
    for port in ports {
        for end in at(Pair::SERVER, port) {
            let server = TcpServer::echo(&net.server, end);
            tcp::exchange(&mut tcp::connect(&net.client, server.address()).unwrap(), b"active")
                .unwrap();
        }
    }
    let admitted: BTreeSet<String> = secgroup.json("flows list")["Flows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flow| flow["SecurityGroupRuleId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(admitted, ids, "{}", secgroup.view());
}

#[test]
fn no_packet_is_decided_by_half_a_change() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup
        .ok("rule add web ingress --protocol udp --port 53 --cidr 10.77.0.0/24 --cidr fd77::/64");
    secgroup.ok("attach eth0 --group web");
    let [allowed, never] = [53, 9].map(|port| at(Pair::SERVER, port));
    let _allowed = allowed.map(|end| udp::bind(&net.server, end));
    let closed = never.map(|end| udp::bind(&net.server, end));

    let before = secgroup.counters();
    let ends = [allowed, never].concat();
    let ((), sent) = udp::while_flooding(&net.client, &ends, || {
        for number in 0..15 {
            // A different network around the client each time: it moves the client's address to
            // another class, and the rule lookup continues from there to the parent class.
            let (v4, v6) = (32 - number / 2, 128 - number);
            let rule = format!(
                "web ingress --protocol udp --port {} --cidr 10.77.0.2/{v4} --cidr fd77::2/{v6}",
                1000 + number
            );
            secgroup.ok(&format!("rule add {rule}"));
            secgroup.ok(&format!("rule remove {rule}"));
        }
    });
    wait_for_quiet(Duration::from_millis(100), "the last packets", || secgroup.counters());
    let moved = secgroup.counters().since(&before);
    let [allowed_packets, dropped] = [&sent[..2], &sent[2..]].map(|sent| sent.iter().sum());
    assert!(allowed_packets > 1000, "{sent:?}: too few packets for a flood");
    // The kernel may assign a client port again, and then its flow exists.
    let passed = ["new-flow", "established"].map(|reason| moved.packets("eth0", "ingress", reason));
    assert_eq!(passed.iter().sum::<u64>(), allowed_packets, "sent {sent:?}, moved\n{moved}");
    let others = moved.clone().without("new-flow").without("established");
    let expected = [("eth0", "ingress", "no-rule", dropped)];
    assert!(others.is_exactly(&expected), "sent {sent:?}, moved\n{moved}");
    for socket in closed {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 64]).is_err(), "a packet without a rule passed");
    }
}
