//! What `serve` records of dropped packets: every one of them is in a record or counted as lost, and a record says what
//! the policy said that decided.

use std::fs;
use std::net::SocketAddr;

use secgroup_tests::network::at;
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Pair, Process, Secgroup, udp};
use serde_json::Value;

/// A server whose group `web` allows TCP to port 443 from the client's network.
fn web(net: &Pair) -> Secgroup<'_> {
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol tcp --port 443 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    secgroup
}

fn serve(secgroup: &Secgroup<'_>) -> Process {
    Process::capture(secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]))
}

/// Sends datagrams to a port until the first is recorded, then so many more. Returns how many were sent.
fn send(net: &Pair, secgroup: &Secgroup<'_>, port: u16, more: u64) -> u64 {
    let to: SocketAddr = at(Pair::SERVER, port)[0];
    let socket = udp::connect(&net.client, to);
    let mut sent = 0;
    wait_until(MAX_WAIT, "a record", || {
        socket.send(b"x").unwrap();
        sent += 1;
        drops(secgroup).iter().any(|record| record["DestinationPort"] == port)
    });
    for _ in 0..more {
        socket.send(b"x").unwrap();
    }
    sent + more
}

/// The records in the journal.
fn drops(secgroup: &Secgroup<'_>) -> Vec<Value> {
    let text = secgroup.ok("drops --since 1h --output json");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sums of all accounts in the journal: seen, kept, aggregated, lost.
fn accounts(secgroup: &Secgroup<'_>) -> [u64; 4] {
    let mut sums = [0; 4];
    for entry in fs::read_dir(secgroup.state_dir().join("records")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(r#"{"account""#));
        for line in lines {
            let account = &serde_json::from_str::<Value>(line).unwrap()["account"];
            let one = ["seen", "kept", "aggregated", "lost"].map(|key| account[key].as_u64());
            let one = one.map(Option::unwrap);
            assert_eq!(one[0], one[1] + one[2] + one[3], "{line}");
            sums.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
    }
    sums
}

/// Packets of the records of a port.
fn packets(records: &[Value], port: u16) -> u64 {
    let of = records.iter().filter(|record| record["DestinationPort"] == port);
    of.map(|record| record["Packets"].as_u64().unwrap()).sum()
}

#[test]
fn every_dropped_packet_is_in_a_record_or_counted_as_lost() {
    let net = Pair::new();
    let secgroup = web(&net);
    let mut process = serve(&secgroup);
    let one = send(&net, &secgroup, 7000, 400);
    // Far more tuples than records that a second has tokens for.
    let socket = udp::bind(&net.client, "0.0.0.0:0".parse().unwrap());
    let server = at(Pair::SERVER, 0)[0].ip();
    for port in 10_000..20_000 {
        socket.send_to(b"x", (server, port)).unwrap();
    }
    assert!(process.terminate().success(), "{:#?}", process.lines());
    let records = drops(&secgroup);
    let [seen, kept, aggregated, lost] = accounts(&secgroup);
    // Those before the first record may not have been watched.
    assert!((401..=one).contains(&packets(&records, 7000)), "aggregated, and never lost");
    let recorded: u64 = records.iter().map(|one| one["Packets"].as_u64().unwrap()).sum();
    assert_eq!((seen, kept + aggregated), (recorded + lost, recorded));
    assert_eq!(kept, records.len() as u64);
    assert!(lost > 1000, "{lost} of 10,000 tuples");
    // The datagrams before the first record were not watched; all others are told.
    let dropped = secgroup.counters().packets("eth0", "ingress", "no-rule");
    assert!(seen >= 10_000 + 400 && seen <= dropped, "{seen} of {dropped}");
    let text = secgroup.run(["drops", "--since", "1h"]);
    let told =
        format!("{seen} packets seen = {kept} recorded + {aggregated} aggregated + {lost} lost");
    assert!(format!("{text:?}").contains(&told), "{text:?}");
}

#[test]
fn a_record_says_what_the_policy_said_that_decided() {
    let net = Pair::new();
    let secgroup = web(&net);
    let mut process = serve(&secgroup);
    send(&net, &secgroup, 7000, 0);
    let of = |port: u16| {
        drops(&secgroup).into_iter().find(|one| one["DestinationPort"] == port).unwrap()
    };
    let before = of(7000);
    assert_eq!(before["NearestMiss"]["Field"], "protocol", "{before:#}");
    assert_eq!(before["Verdict"], "drop");
    let rule = secgroup.ok("rule add web ingress --protocol udp --port 7001 --cidr 10.77.0.0/24");
    send(&net, &secgroup, 7002, 0);
    let after = of(7002);
    let nearest = &after["NearestMiss"];
    assert_eq!(nearest["SecurityGroupRuleId"], rule.trim(), "{after:#} {:?}", process.lines());
    assert_eq!(after["NearestMiss"]["Field"], "port");
    assert_ne!(before["Generation"], after["Generation"]);
    secgroup.ok(&format!("rule remove web {}", rule.trim()));
    // A block changes no policy; it is named by the first record all the same.
    for (port, network) in [(7010, "10.77.0.0/24"), (7011, "10.77.0.0/25"), (7012, "10.77.0.0/26")]
    {
        secgroup.ok(&format!("block {network}"));
        send(&net, &secgroup, port, 0);
        assert_eq!(of(port)["Entry"], format!("block {network}"));
        secgroup.ok(&format!("unblock {network}"));
    }
    secgroup.ok("mode eth0 audit");
    send(&net, &secgroup, 7003, 0);
    assert_eq!(of(7003)["Verdict"], "would-drop");
    // Nothing of it is written anew.
    assert_eq!((of(7000), of(7002)), (before, after));
    assert!(process.terminate().success());
}

#[test]
fn a_killed_collector_leaves_whole_records_and_the_next_one_goes_on() {
    let net = Pair::new();
    let secgroup = web(&net);
    let mut process = serve(&secgroup);
    send(&net, &secgroup, 7000, 100);
    process.kill();
    let before = drops(&secgroup);
    // What it has left in the kernel is older than a command that begins now.
    let mut follow = Process::capture(secgroup.command(["drops", "--follow"]));
    follow.wait_for_output("this command does until it ends");
    send(&net, &secgroup, 7009, 0);
    follow.wait_for_output(":7009 ");
    assert!(follow.interrupt().success());
    assert!(!follow.lines().iter().any(|line| line.contains(":7000 ")), "{:#?}", follow.lines());
    let mut process = serve(&secgroup);
    send(&net, &secgroup, 7001, 100);
    assert!(process.terminate().success());
    let after = drops(&secgroup);
    assert_eq!(after[..before.len()], before);
    let ids: Vec<u64> = after.iter().map(|one| one["Id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    // What was still being aggregated when the first was killed was written by the second.
    assert!(packets(&after, 7000) >= 100, "{after:#?}");
}

#[test]
fn the_account_is_whole_when_interfaces_come_and_go() {
    let net = Pair::new();
    let secgroup = web(&net);
    let mut process = serve(&secgroup);
    let mut sent = send(&net, &secgroup, 7000, 50);
    // The last one that is detached takes the kernel's maps with it.
    secgroup.ok("detach eth0");
    secgroup.ok("attach eth0 --group web");
    sent += send(&net, &secgroup, 7001, 50);
    secgroup.ok("detach --all");
    assert!(process.terminate().success());
    assert_eq!(process.lines(), ["secgroup: metrics at http://127.0.0.1:9911/metrics"]);
    let records = drops(&secgroup);
    let [seen, kept, aggregated, lost] = accounts(&secgroup);
    assert_eq!((kept, lost), (records.len() as u64, 0), "{records:#?}");
    assert_eq!(seen, kept + aggregated);
    let recorded = packets(&records, 7000) + packets(&records, 7001);
    assert!((102..=sent).contains(&recorded), "{recorded} of {sent}");
}
