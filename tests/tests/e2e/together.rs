//! Many commands at once, and traffic while policies change.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use secgroup_tests::network::at;
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::udp;
use secgroup_tests::wait::wait_for_quiet;
use secgroup_tests::{Pair, Secgroup};

#[test]
fn rules_that_are_added_at_the_same_time_are_all_in_force() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    // What shows which rules are in force is the flows.
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
        let said: Vec<_> = adding.into_iter().map(|one| one.join().unwrap()).collect();
        said.iter().flat_map(|ids| ids.split_whitespace()).map(str::to_owned).collect()
    });
    assert_eq!(ids.len(), 16);
    for port in ports {
        for end in at(Pair::SERVER, port) {
            let server = TcpServer::echo(&net.server, end);
            tcp::exchange(&mut tcp::connect(&net.client, server.address()).unwrap(), b"in force")
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
fn no_packet_meets_half_a_change() {
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
            // A network around the client, another each time: it moves the client's address to
            // another class, from which the search for the rule has to go on.
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
    let [through, dropped] = [&sent[..2], &sent[2..]].map(|sent| sent.iter().sum());
    assert!(through > 1000, "{sent:?} packets are no flood");
    // The kernel may give a client a port again, whose flow is known then.
    let passed = ["new-flow", "established"].map(|reason| moved.packets("eth0", "ingress", reason));
    assert_eq!(passed.iter().sum::<u64>(), through, "sent {sent:?}, moved\n{moved}");
    let others = moved.clone().without("new-flow").without("established");
    let expected = [("eth0", "ingress", "no-rule", dropped)];
    assert!(others.is_exactly(&expected), "sent {sent:?}, moved\n{moved}");
    for socket in closed {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 64]).is_err(), "a packet without a rule came through");
    }
}
