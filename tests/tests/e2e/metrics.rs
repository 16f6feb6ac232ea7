//! The metrics, read by the command and by Prometheus.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use firewall_ebpf::abi::limits::ABI_VERSION;
use secgroup_tests::http::get_any_status;
use secgroup_tests::network::at;
use secgroup_tests::prometheus::{Prometheus, check_metrics, test_rules};
use secgroup_tests::tcp::{self, TcpServer};
use secgroup_tests::wait::{MAX_WAIT, wait_for, wait_until};
use secgroup_tests::{Namespace, Pair, Process, Secgroup};

use crate::support::metric as value;

const SERVED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9911);

/// `secgroup serve` in a namespace, ready to answer.
fn serve(secgroup: &Secgroup<'_>, namespace: &Namespace) -> Process {
    let process = Process::start(secgroup.command(["serve", "--metrics", &SERVED.to_string()]));
    wait_until(MAX_WAIT, "secgroup to serve", || get_any_status(namespace, SERVED, "/").is_ok());
    process
}

#[test]
fn the_metrics_command_and_serve_report_the_same() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    let _server = serve(&secgroup, &net.server);
    // With nothing attached the metrics still have the build.
    check_metrics(&secgroup.ok("metrics"));
    secgroup.ok("attach eth0 --group web");

    // A packet of the kernel itself between two readings would make them differ.
    let (text, (status, served)) = wait_for(MAX_WAIT, "a moment without a packet", || {
        let before = secgroup.ok("metrics");
        // A reading is served for a second.
        let served = get_any_status(&net.server, SERVED, "/metrics").unwrap();
        let is_same = without_records(&served.1) == without_records(&before);
        (before == secgroup.ok("metrics") && is_same).then_some((before, served))
    });
    assert_eq!((status, without_records(&served)), (200, without_records(&text)));
    check_metrics(&text);
    check_metrics(&served);

    for path in ["/", "/metrics?x=y"] {
        assert_eq!(get_any_status(&net.server, SERVED, path).unwrap().0, 200, "{path}");
    }
    for path in ["/metric", "/metrics/", "/api/v1/query"] {
        assert_eq!(get_any_status(&net.server, SERVED, path).unwrap().0, 404, "{path}");
    }
    let error = secgroup.refused(&format!("serve --metrics {SERVED}"), 1);
    assert_eq!(
        error,
        "error: serve: listen on 127.0.0.1:9911: Address already in use (os error 98)\n\
         hint: choose another address, port or socket with --metrics\n"
    );
}

/// Without what only the process knows that collects records.
fn without_records(text: &str) -> Vec<&str> {
    let of_records = |line: &&str| {
        line.starts_with("secgroup_records_") || line.starts_with("secgroup_journal_")
    };
    text.lines().filter(|line| !of_records(line)).collect()
}

/// After a reboot the kernel has none of the stored rules.
#[test]
fn rules_are_counted_when_attach_is_the_first_command_after_a_reboot() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let group = secgroup.ok("group create web --description x");
    let rule = secgroup.ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    std::fs::remove_dir_all(secgroup.pin_dir().join(format!("abi{ABI_VERSION}"))).unwrap();

    secgroup.ok("attach eth0 --group web");
    let server = TcpServer::echo(&net.server, at(Pair::SERVER, 80)[0]);
    assert!(tcp::reaches(&net.client, server.address()));
    let (group, rule) = (group.trim(), rule.trim());
    let name = format!("secgroup_rule_packets_total{{group=\"{group}\",rule=\"{rule}\"}}");
    assert_eq!(value(&secgroup.ok("metrics"), &name), 1);
}

#[test]
fn every_metric_counts_what_happened() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let group = secgroup.ok("group create web --description x");
    let rule = secgroup
        .ok("rule add web ingress --protocol tcp --port 80 --cidr 10.77.0.0/24 --cidr fd77::/64");
    secgroup.ok("attach eth0 --group web");
    let rules: Vec<_> = rule.lines().collect();
    let text = secgroup.ok("metrics");
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("secgroup_build_info{{version=\"{version}\",abi=\"{ABI_VERSION}\"}}");
    assert_eq!(value(&text, &build), 1);
    assert_eq!(value(&text, "secgroup_store_generation"), 3);
    for table in ["new", "udp", "tcp"] {
        for family in ["ipv4", "ipv6"] {
            let labels = format!("{{interface=\"eth0\",table=\"{table}\",family=\"{family}\"}}");
            assert_eq!(value(&text, &format!("secgroup_flows_capacity{labels}")), 1024);
            assert_eq!(value(&text, &format!("secgroup_flows{labels}")), 0);
        }
    }

    // Two connections that a rule allows, and one that no rule allows.
    let [v4, _] = at(Pair::SERVER, 80);
    let server = TcpServer::echo(&net.server, v4);
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = tcp::connect(&net.client, server.address()).unwrap();
        tcp::exchange(&mut stream, b"hello").unwrap();
        streams.push(stream);
    }
    assert!(!tcp::reaches(&net.client, at(Pair::SERVER, 81)[1]));
    let text = secgroup.ok("metrics");
    let of_rule = |what: &str, rule: &str| {
        value(
            &text,
            &format!("secgroup_rule_{what}_total{{group=\"{}\",rule=\"{rule}\"}}", group.trim()),
        )
    };
    // A SYN with its options and the Ethernet header.
    assert_eq!((of_rule("packets", rules[0]), of_rule("bytes", rules[0])), (2, 2 * 74));
    assert_eq!((of_rule("packets", rules[1]), of_rule("bytes", rules[1])), (0, 0));
    let of = |what: &str, labels: &str| {
        value(&text, &format!("secgroup_{what}_total{{interface=\"eth0\",{labels}}}"))
    };
    let ingress = |reason: &str| format!("direction=\"ingress\",reason=\"{reason}\"");
    assert_eq!(of("drops", &ingress("no-rule")), 1);
    assert_eq!(of("drop_bytes", &ingress("no-rule")), 94);
    assert_eq!(of("passes", &ingress("new-flow")), 2);
    assert_eq!(of("packets", "direction=\"ingress\",verdict=\"drop\""), 1);
    assert_eq!(of("bytes", "direction=\"ingress\",verdict=\"drop\""), 94);
    assert_eq!(of("packets", "direction=\"egress\",verdict=\"drop\""), 0);
    for (table, family, flows) in [("tcp", "ipv4", 2), ("new", "ipv4", 0), ("tcp", "ipv6", 0)] {
        let labels = format!("interface=\"eth0\",table=\"{table}\",family=\"{family}\"");
        assert_eq!(value(&text, &format!("secgroup_flows{{{labels}}}")), flows);
    }
    let allowance = "secgroup_conntrack_allowance_available{interface=\"eth0\"}";
    assert_eq!(value(&text, allowance), 1024 - 2);
    let exceeded = "secgroup_conntrack_allowance_exceeded_total{interface=\"eth0\"}";
    assert_eq!(value(&text, exceeded), 0);
    let flows = |what| value(&text, &format!("secgroup_flows_{what}_total{{interface=\"eth0\"}}"));
    let values = ["opened", "promoted", "evicted", "unpromoted"].map(flows);
    assert_eq!(values, [2, 2, 0, 0]);

    // Flows and rules have addresses; no label contains one.
    check_metrics(&text);
    let labels: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('{')?.1.split_once('}'))
        .flat_map(|(labels, _)| labels.split(','))
        .filter_map(|label| Some(label.split_once('=')?.0))
        .collect();
    let known = [
        "abi",
        "acl",
        "direction",
        "family",
        "group",
        "hook",
        "interface",
        "kind",
        "mode",
        "reason",
        "rule",
        "table",
        "verdict",
        "version",
    ];
    assert_eq!(labels, BTreeSet::from(known));
    for address in ["10.77.", "fd77:"] {
        assert!(!text.contains(address), "{text}");
    }
}

#[test]
fn prometheus_counts_dropped_connections() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    let mut server = serve(&secgroup, &net.server);
    let prometheus = Prometheus::scrape(&net.server, SERVED);
    let drops = "secgroup_drops_total{interface=\"eth0\",direction=\"ingress\",reason=\"no-rule\"}";
    // Prometheus takes long to start on a busy machine.
    let start = Duration::from_secs(60);
    wait_until(start, "the first scrape", || prometheus.value(drops) == Some(0.0));

    for address in at(Pair::SERVER, 80).into_iter().chain(at(Pair::SERVER, 81)) {
        assert!(!tcp::reaches(&net.client, address));
    }
    wait_until(MAX_WAIT, "a scrape of four drops", || {
        let counted = prometheus.value(drops).unwrap_or_default();
        assert!(counted <= 4.0, "{counted} drops of four packets");
        counted == 4.0
    });
    assert_eq!(prometheus.value("sum(secgroup_drops_total)"), Some(4.0));
    assert_eq!(prometheus.value("count(secgroup_build_info)"), Some(1.0));
    wait_until(MAX_WAIT, "the rules of contrib to be evaluated", || {
        prometheus.value("secgroup:drops:rate5m{interface=\"eth0\"}").is_some_and(|rate| rate > 0.0)
    });

    // Neither the scraper's idle connection nor a client without a request delays the exit.
    let silent = net.server.run(|| TcpStream::connect(SERVED)).unwrap();
    let status = server.terminate();
    assert_eq!(status.code(), Some(0), "{status}");
    drop(silent);
    secgroup.moved(&[("eth0", "ingress", "no-rule", 1)], || {
        assert!(!tcp::reaches(&net.client, at(Pair::SERVER, 80)[0]));
    });
    wait_until(MAX_WAIT, "a scrape that fails", || prometheus.value("up") == Some(0.0));
}

#[test]
fn the_alerts_fire_when_they_should_and_not_before() {
    test_rules("contrib/prometheus/rules_test.yml");
}
