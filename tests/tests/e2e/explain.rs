//! `explain`: its words, what they promise, and that real packets meet them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use firewall_ebpf::abi::limits::ABI_VERSION;
use secgroup_tests::wait::{MAX_WAIT, wait_for_quiet, wait_until};
use secgroup_tests::{Edge, Pair, Secgroup, frame, tc_hook, tcp};
use serde_json::Value;

/// Packets that come after they were explained.
const PACKETS: u32 = 400;

const DEVICE: &str = Edge::DEVICE;

/// Numbers in no order, from a seed (Knuth's linear congruential generator of MMIX).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(limit)).unwrap()
    }
}

/// A frame to the host from somewhere: each of another tuple, so that none belongs to the flow of another one.
fn some_frame(numbers: &mut Numbers, number: u32) -> Vec<u8> {
    let is_v6 = numbers.below(3) == 0;
    let inside = Edge::INSIDE[usize::from(is_v6)];
    let host = numbers.below(4);
    let outside: IpAddr = if is_v6 {
        format!("fd90::{:x}", host + 2).parse().unwrap()
    } else {
        format!("10.90.0.{}", host + 2).parse().unwrap()
    };
    let port = u16::try_from(20_000 + number).unwrap();
    let service = [22, 80, 443, 53][usize::try_from(numbers.below(4)).unwrap()];
    let (from, to) = (SocketAddr::new(outside, port), SocketAddr::new(inside, service));
    let mut packet = match numbers.below(5) {
        0 => frame::udp(from, to, b"data"),
        1 => frame::echo_request(outside, inside, port),
        _ => frame::syn(from, to, 1000 + number),
    };
    let header = if is_v6 { 40 } else { 20 };
    let is_tcp = packet[if is_v6 { 6 } else { 9 }] == 6;
    let change = numbers.below(12);
    match change {
        // Other flags, some of which no stack sends.
        0..=2 if is_tcp => packet[header + 13] = u8::try_from(numbers.below(64)).unwrap(),
        // A transport header that ends early.
        3 if is_tcp => packet[header + 12] = 0x10,
        // A fragment other than the first.
        5 if !is_v6 => packet[7] = 9,
        // A protocol without ports.
        6 => packet[if is_v6 { 6 } else { 9 }] = 47,
        _ => {}
    }
    let mut frame = frame::ethernet(&packet);
    if change == 4 {
        // Another version than that of the EtherType.
        frame[14] = frame[14] & 0xf | 0x50;
    }
    frame
}

/// A file of tcpdump (microseconds, Ethernet).
fn pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut file: Vec<u8> = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [1_700_000_000, 0, length, length] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

/// All tables of flows and of fragments, byte by byte, read as no packet reads them.
fn tables(secgroup: &Secgroup<'_>) -> Vec<(String, Vec<u8>)> {
    fn dump<const K: usize, const V: usize>(map: Map) -> Vec<(String, Vec<u8>)> {
        let map: HashMap<MapData, [u8; K], [u8; V]> = map.try_into().unwrap();
        let entry = |entry: Result<([u8; K], [u8; V]), _>| entry.unwrap();
        map.iter().map(entry).map(|(key, value)| (format!("{key:?}"), value.to_vec())).collect()
    }
    let mut all = Vec::new();
    for (name, is_lru) in [("NEW", true), ("UDP", true), ("TCP", false), ("FRAGMENTS", true)] {
        for family in ["V4", "V6"] {
            let pin = format!("abi{ABI_VERSION}/flows/0_{name}_{family}");
            let data = MapData::from_pin(secgroup.pin_dir().join(pin)).unwrap();
            let map = if is_lru { Map::LruHashMap(data) } else { Map::HashMap(data) };
            all.extend(match (name, family) {
                ("FRAGMENTS", "V4") => dump::<16, 16>(map),
                ("FRAGMENTS", _) => dump::<40, 16>(map),
                (_, "V4") => dump::<16, 104>(map),
                _ => dump::<40, 104>(map),
            });
        }
    }
    all.sort();
    all
}

/// Everything else that a packet could change, or a command could leave behind.
fn rest(secgroup: &Secgroup<'_>) -> String {
    let series = secgroup.ok("metrics");
    let counts = series.lines().filter(|line| {
        ["secgroup_packets", "secgroup_bytes", "secgroup_rule", "secgroup_flow", "secgroup_acl"]
            .iter()
            .any(|name| line.starts_with(name))
    });
    let mut files: Vec<String> = Vec::new();
    for directory in ["maps", "programs", "links", "tables", "flows"] {
        let path = secgroup.pin_dir().join(format!("abi{ABI_VERSION}")).join(directory);
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        files.extend(names.map(|name| name.into_string().unwrap()));
    }
    files.sort();
    counts.map(str::to_owned).chain(files).collect::<Vec<_>>().join("\n")
}

/// The packets of each reason that were received.
fn received(secgroup: &Secgroup<'_>) -> BTreeMap<String, u64> {
    let stats = secgroup.json(&format!("stats {DEVICE}"));
    let counters = stats["Interfaces"][0]["Counters"].as_array().unwrap();
    let ingress = counters.iter().filter(|one| one["Direction"] == "ingress");
    let reason = |one: &Value| one["Reason"].as_str().unwrap().to_owned();
    ingress.map(|one| (reason(one), one["Packets"].as_u64().unwrap())).collect()
}

#[test]
fn real_packets_meet_what_was_explained_and_explaining_changes_nothing() {
    for hook in [tc_hook(), "xdp-generic"] {
        let net = Edge::new();
        // The host asks nobody for their MAC addresses, and replies at once.
        for host in 3..=5 {
            for address in [format!("10.90.0.{host}"), format!("fd90::{host}")] {
                let to = format!("{address} lladdr 02:00:00:00:00:02 dev {DEVICE}");
                net.host.ip(&format!("neighbour replace {to} nud permanent"));
            }
        }
        let secgroup = Secgroup::inside(&net.host);
        secgroup.ok("group create web --description x");
        for rule in [
            "ingress --protocol tcp --port 80 --cidr 10.90.0.0/30 --cidr fd90::/64",
            "ingress --protocol tcp --port 443 --cidr 0.0.0.0/0",
            "ingress --protocol udp --port 53 --cidr 0.0.0.0/0 --cidr ::/0",
            "ingress --protocol icmp --icmp 8 --cidr 10.90.0.2/32",
            "ingress --protocol 47 --cidr 10.90.0.0/24",
        ] {
            secgroup.ok(&format!("rule add web {rule}"));
        }
        secgroup.ok(&format!("attach {DEVICE} --group web --hook {hook}"));
        secgroup.ok("acl create strict");
        secgroup.ok(
            "acl entry add strict ingress 10 deny --protocol tcp --port 443 --cidr 10.90.0.4/32",
        );
        for direction in ["ingress", "egress"] {
            for cidr in ["0.0.0.0/0", "::/0"] {
                let number = if cidr == "::/0" { 101 } else { 100 };
                secgroup.ok(&format!(
                    "acl entry add strict {direction} {number} allow --protocol all --cidr {cidr}"
                ));
            }
        }
        secgroup.ok(&format!("acl associate strict {DEVICE}"));
        secgroup.ok("block 10.90.0.5");

        let mut numbers = Numbers(7);
        let frames: Vec<Vec<u8>> = (0..PACKETS).map(|n| some_frame(&mut numbers, n)).collect();
        // Flows that are there already.
        let others: Vec<Vec<u8>> =
            (PACKETS..PACKETS + 100).map(|n| some_frame(&mut numbers, n)).collect();
        let total = |secgroup: &Secgroup<'_>| received(secgroup).values().sum::<u64>();
        let before = total(&secgroup);
        others.iter().for_each(|frame| net.tap.send(frame));
        wait_until(MAX_WAIT, "the first packets", || total(&secgroup) >= before + 100);

        let file = secgroup.state_dir().join("packets.pcap");
        pcap(&file, &[&frames[..], &others[..]].concat());
        wait_for_quiet(Duration::from_millis(200), "the replies", || rest(&secgroup));
        let then = (tables(&secgroup), rest(&secgroup));
        assert!(then.0.len() >= 5, "{} flows that could change", then.0.len());
        let explained =
            secgroup.json(&format!("explain {DEVICE} ingress --pcap {}", file.display()));
        assert_eq!(rest(&secgroup), then.1, "explaining changed something");
        assert_eq!(tables(&secgroup), then.0, "explaining changed a flow");

        assert_eq!(explained["Skipped"], Value::Array(Vec::new()));
        let explained = explained["Explanations"].as_array().unwrap();
        assert_eq!(explained.len(), frames.len() + others.len());
        let mut expected = received(&secgroup);
        for found in &explained[..frames.len()] {
            *expected.get_mut(found["Reason"].as_str().unwrap()).unwrap() += 1;
        }
        let before = total(&secgroup);
        frames.iter().for_each(|frame| net.tap.send(frame));
        wait_until(MAX_WAIT, "the packets", || total(&secgroup) >= before + u64::from(PACKETS));
        let mut met = received(&secgroup);
        // What the host's neighbours say unprompted; nobody is there but this test.
        for background in ["arp", "neighbour-discovery"] {
            expected.remove(background);
            met.remove(background);
        }
        assert_eq!(met, expected, "{hook}");
        let kinds = expected.values().filter(|packets| **packets > 0).count();
        assert!(kinds >= 7, "packets of {kinds} reasons: {expected:?}");
    }
}

/// The one explanation that a command prints.
fn explained(secgroup: &Secgroup<'_>, line: &str) -> Value {
    let document = secgroup.json(&format!("explain {line}"));
    let all = document["Explanations"].as_array().unwrap();
    assert_eq!(all.len(), 1);
    all[0].clone()
}

/// Runs the commands that would let a packet pass.
fn follow_remedies(secgroup: &Secgroup<'_>, found: &Value) {
    let remedies = found["Remedies"].as_array().unwrap();
    assert!(!remedies.is_empty(), "{found}");
    for remedy in remedies {
        let line = remedy["Command"].as_str().unwrap().strip_prefix("secgroup ").unwrap();
        secgroup.ok(line);
    }
}

#[test]
fn what_would_let_a_packet_pass_does() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let rule = "rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64";
    secgroup.ok(rule);
    secgroup.ok(&format!("attach eth0 --group web --hook {}", tc_hook()));
    secgroup.ok("acl create strict");
    for (direction, number, cidr) in [
        ("ingress", 100, "0.0.0.0/0"),
        ("ingress", 101, "::/0"),
        ("egress", 100, "0.0.0.0/0"),
        ("egress", 101, "::/0"),
    ] {
        secgroup.ok(&format!(
            "acl entry add strict {direction} {number} allow --protocol all --cidr {cidr}"
        ));
    }
    secgroup
        .ok("acl entry add strict ingress 50 deny --protocol udp --port 53 --cidr 10.77.0.0/24");
    secgroup.ok("acl associate strict eth0");
    secgroup.ok("block 10.77.0.9 2001:db8::/32");
    for (packet, reason, passing) in [
        ("ingress tcp 10.77.0.2:5000 10.77.0.1:443", "no-rule", "new-flow"),
        ("ingress tcp [fd77::2]:5000 [fd77::1]:ssh", "no-rule", "new-flow"),
        ("ingress icmp 10.77.0.2 10.77.0.1", "no-rule", "new-flow"),
        ("ingress icmpv6 fd77::2 fd77::1 --icmp 1/4", "no-rule", "admitted"),
        ("ingress 47 10.77.0.2 10.77.0.1", "no-rule", "new-flow"),
        ("ingress udp 10.77.0.2:5000 10.77.0.1:53", "acl", "new-flow"),
        ("ingress tcp 10.77.0.9:5000 10.77.0.1:80", "blocked", "new-flow"),
        ("egress udp [fd77::1]:5000 [2001:db8::1]:domain", "blocked", "new-flow"),
    ] {
        let line = format!("eth0 {packet}");
        let found = explained(&secgroup, &line);
        assert_eq!(
            (&found["Verdict"], &found["Reason"]),
            (&"drop".into(), &reason.into()),
            "{line}"
        );
        follow_remedies(&secgroup, &found);
        let found = explained(&secgroup, &line);
        assert_eq!(
            (&found["Verdict"], &found["Reason"]),
            (&"pass".into(), &passing.into()),
            "{line}"
        );
        assert_eq!(found["Remedies"], Value::Array(Vec::new()), "{line}");
        if reason != "blocked" || packet.starts_with("ingress") {
            assert!(found["Rule"]["Text"].is_string(), "{found}");
        }
    }
}

#[test]
fn an_explanation_names_rules_entries_tracking_and_the_way_back() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let add = |rule: &str| secgroup.ok(&format!("rule add web {rule}")).trim().to_owned();
    let near = add("ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    secgroup.ok(&format!("attach eth0 --group web --hook {}", tc_hook()));
    let line = "eth0 ingress tcp 10.77.0.2:5000 10.77.0.1:80";
    let found = explained(&secgroup, line);
    assert_eq!(found["Rule"]["SecurityGroupRuleId"], near.as_str());
    assert_eq!((&found["Tracked"], &found["Reply"]["InFlow"]), (&true.into(), &true.into()));
    assert_eq!(found["Flow"], Value::Null);

    // From anywhere, with every reply: no flow.
    let wide = add("ingress --protocol tcp --port 80 --cidr 0.0.0.0/0");
    let found = explained(&secgroup, line);
    assert_eq!(found["Reason"], "untracked");
    assert_eq!(found["Rule"]["SecurityGroupRuleId"], wide.as_str());
    assert_eq!(found["OtherRules"][0]["SecurityGroupRuleId"], near.as_str());
    assert!(found["TrackedBecause"].as_str().unwrap().contains(&wide), "{found}");
    assert_eq!(
        (&found["Reply"]["Verdict"], &found["Reply"]["InFlow"]),
        (&"pass".into(), &false.into())
    );
    assert!(found["Reply"]["Rule"]["Text"].is_string(), "{found}");
    secgroup.ok(&format!("rule remove web {wide}"));

    // A live connection, whose rule is removed.
    let server = SocketAddr::new(Pair::SERVER[0], 80);
    let _server = tcp::TcpServer::echo(&net.server, server);
    let mut stream = tcp::connect(&net.client, server).unwrap();
    tcp::exchange(&mut stream, &[7; 1000]).unwrap();
    let port = stream.local_addr().unwrap().port();
    let line = format!("eth0 ingress tcp 10.77.0.2:{port} 10.77.0.1:80");
    secgroup.ok(&format!("rule remove web {near}"));
    let found = explained(&secgroup, &line);
    assert_eq!(
        (&found["Reason"], &found["Flow"]["Tier"]),
        (&"established".into(), &"proven".into())
    );
    assert_eq!(found["Rule"]["SecurityGroupRuleId"], near.as_str());
    assert_eq!(found["Rule"]["Text"], Value::Null, "it was removed");
    assert_eq!(found["Reply"]["InFlow"], true);
    let found = explained(&secgroup, &format!("{line} --tcp-flags syn"));
    assert_eq!(found["Reason"], "no-rule");

    // Audit is a word of its own.
    secgroup.ok("mode eth0 audit");
    let found = explained(&secgroup, "eth0 ingress udp 10.77.0.2:5000 10.77.0.1:53");
    assert_eq!((&found["Verdict"], &found["Reason"]), (&"would-drop".into(), &"no-rule".into()));
    secgroup.ok("mode eth0 enforce");

    // An entry of the ACL stops the reply.
    add("ingress --protocol udp --port 53 --cidr 10.77.0.0/24");
    secgroup.ok("acl create oneway");
    secgroup.ok("acl entry add oneway ingress 100 allow --protocol all --cidr 0.0.0.0/0");
    secgroup.ok("acl associate oneway eth0");
    let found = explained(&secgroup, "eth0 ingress udp 10.77.0.2:5000 10.77.0.1:53");
    assert_eq!((&found["Verdict"], &found["Entry"]["Action"]), (&"pass".into(), &"allow".into()));
    assert_eq!(
        (&found["Reply"]["Verdict"], &found["Reply"]["Reason"]),
        (&"drop".into(), &"acl".into())
    );

    // What the kernel program prints.
    let text = secgroup.ok("explain eth0 ingress udp 10.77.0.2:5000 10.77.0.1:53 --log");
    assert!(
        text.contains("program     pass ingress new-flow proto 17 10.77.0.2:5000 > 10.77.0.1:53"),
        "{text}"
    );

    // The direction is probably another one.
    let text = secgroup.ok("explain eth0 egress udp 10.77.0.2:5000 10.77.0.1:53");
    assert!(text.contains("10.77.0.1 is one, so ask about ingress?"), "{text}");
}

#[test]
fn neighbour_discovery_is_explained_as_hosts_send_it() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("attach eth0 --group web --hook {}", tc_hook()));
    for (packet, reason) in [
        ("fd77::2 ff02::1:ff00:1 --icmp neighbor-solicitation", "neighbour-discovery"),
        (":: ff02::1:ff00:1 --icmp neighbor-solicitation", "neighbour-discovery"),
        ("fd77::2 fd77::1 --icmp neighbor-solicitation", "neighbour-discovery"),
        ("fd77::2 fd77::1 --icmp neighbor-advertisement", "neighbour-discovery"),
        ("fd77::2 ff02::1 --icmp neighbor-advertisement", "neighbour-discovery"),
        ("fe80::2 ff02::1 --icmp router-advertisement", "neighbour-discovery"),
        // A router's address that is not of the link.
        ("fd77::2 ff02::1 --icmp router-advertisement", "neighbour-discovery-invalid"),
    ] {
        let found = explained(&secgroup, &format!("eth0 ingress icmpv6 {packet}"));
        assert_eq!(found["Reason"], reason, "{packet}");
    }
}

#[test]
fn a_service_that_other_addresses_may_use_is_allowed_in_its_group() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    for group in ["web", "ssh"] {
        secgroup.ok(&format!("group create {group} --description x"));
    }
    // Nearest, because its address matches.
    secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 0.0.0.0/0");
    let other = secgroup.ok("rule add ssh ingress --protocol tcp --port 22 --cidr 10.77.0.9/32");
    secgroup.ok(&format!("attach eth0 --group web --group ssh --hook {}", tc_hook()));
    let line = "eth0 ingress tcp 10.77.0.2:5000 10.77.0.1:22";
    let found = explained(&secgroup, line);
    assert_eq!(found["NearestMiss"]["GroupName"], "web");
    assert!(found["Notes"][0].as_str().unwrap().contains(other.trim()), "{found:#}");
    let command = found["Remedies"][0]["Command"].as_str().unwrap();
    assert!(command.starts_with("secgroup rule add ssh "), "{command}");
    follow_remedies(&secgroup, &found);
    assert_eq!(explained(&secgroup, line)["Verdict"], "pass");

    // A rule about ICMP of the other family would be refused.
    let found = explained(&secgroup, "eth0 ingress icmpv6 10.77.0.2 10.77.0.1");
    assert_eq!(found["Remedies"][0]["Command"], Value::Null);
    // So would an entry; what denies is that there is none.
    secgroup.ok("acl create shut");
    secgroup.ok("acl associate shut eth0");
    let found = explained(&secgroup, "eth0 ingress icmpv6 10.77.0.2 10.77.0.1");
    assert_eq!(found["Reason"], "acl");
    assert_eq!(found["Remedies"][0]["Command"], Value::Null);
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let packet = "tcp 10.77.0.2:5000 10.77.0.1:80";
    secgroup.refused(&format!("explain eth0 ingress {packet}"), 3);
    secgroup.ok("group create web --description x");
    secgroup.ok(&format!("attach eth0 --group web --hook {}", tc_hook()));
    secgroup.refused(&format!("explain eth7 ingress {packet}"), 3);
    for (line, about) in [
        ("ingress tcp 10.77.0.2:5000 fd77::1", "not of one family"),
        ("ingress tcp 10.77.0.2:5000 [fd77::1]:80", "not of one family"),
        ("ingress tcp 10.77.0.2 10.77.0.1", "the port is missing"),
        ("ingress tcp 10.77.0.2:x 10.77.0.1:80", "neither ADDRESS"),
        ("ingress icmp 10.77.0.2:1 10.77.0.1", "no ports"),
        ("ingress tcx 10.77.0.2:1 10.77.0.1:1", "no protocol"),
        ("ingress icmp 10.77.0.2 10.77.0.1 --icmp nothing", "not an ICMP type"),
        ("ingress udp 10.77.0.2:1 10.77.0.1:1 --tcp-flags syn", "--tcp-flags"),
        ("ingress tcp 10.77.0.2:1 10.77.0.1:1 --tcp-flags sin", "no TCP flag"),
        ("sideways tcp 10.77.0.2:1 10.77.0.1:1", "invalid value"),
    ] {
        let refusal = secgroup.refused(&format!("explain eth0 {line}"), 2);
        assert!(refusal.contains(about), "{line}: {refusal}");
    }
    let file = secgroup.state_dir().join("none.pcap");
    fs::write(&file, "no pcap, but text of some length").unwrap();
    let refusal = secgroup.refused(&format!("explain eth0 ingress --pcap {}", file.display()), 1);
    assert!(refusal.contains("neither pcap nor pcapng"), "{refusal}");
    let refusal = secgroup.refused("explain --from-drop 99", 3);
    assert!(refusal.contains("no record 99"), "{refusal}");
}
