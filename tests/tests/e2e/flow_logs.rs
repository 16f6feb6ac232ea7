//! Flow logs of real traffic: their packets and bytes are those that its programs report.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use secgroup_tests::http::get_any_status;
use secgroup_tests::process::output;
use secgroup_tests::socket::{Offload, set_offload};
use secgroup_tests::wait::{MAX_WAIT, wait_until};
use secgroup_tests::{Namespace, Pair, Process, Secgroup};
use serde_json::Value;
use tempfile::TempDir;

mod delivery;

/// A server whose interface has a flow log of all traffic, and `secgroup serve`, which delivers it.
struct Scenario<'a> {
    host: &'a Namespace,
    /// Whether `serve` records what is dropped.
    collects: bool,
    secgroup: Secgroup<'a>,
    serve: Option<Process>,
    files: TempDir,
    id: String,
}

/// A record as its fields by name.
type Line = BTreeMap<String, String>;

const FORMAT: &str = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} \
                      ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status} ${tcp-flags} \
                      ${flow-direction} ${reason} ${rule-id} ${group-id} ${traffic-path} ${type}";

impl<'a> Scenario<'a> {
    fn new(net: &'a Pair, options: &str) -> Self {
        Self::with(net, options, "")
    }

    /// With lines of the configuration besides.
    fn with(net: &'a Pair, options: &str, config: &str) -> Self {
        let secgroup = Secgroup::inside(&net.server);
        let files = tempfile::tempdir().unwrap();
        let directory = files.path().join("logs");
        secgroup.configure(&format!(
            "[maps]\nflows_new = 1024\nflows_udp = 1024\nflows_tcp = 1024\nrules = 4096\ninterfaces = 8\n\
             [flow_logs]\ndirectory = {directory:?}\n{config}"
        ));
        secgroup.ok("group create web --description x");
        for what in ["icmp", "icmpv6", "tcp --port 5201", "udp --port 5201"] {
            let peer = if what == "icmpv6" { "fd77::/64" } else { "10.77.0.0/24" };
            secgroup.ok(&format!("rule add web ingress --protocol {what} --cidr {peer}"));
        }
        secgroup.ok("attach eth0 --group web");
        let mut scenario = Self {
            host: &net.server,
            collects: !config.contains("collect = false"),
            secgroup,
            serve: None,
            files,
            id: String::new(),
        };
        let id = scenario.secgroup.ok_with(
            "flow-log create eth0 --interval 60"
                .split(' ')
                .chain(["--format", FORMAT])
                .chain(options.split_whitespace()),
        );
        scenario.id = id.trim().to_owned();
        scenario.serve();
        scenario
    }

    fn serve(&mut self) {
        let serve =
            Process::capture(self.secgroup.command(["serve", "--metrics", "127.0.0.1:9911"]));
        serve.wait_for_output(&format!("flow log {} records", self.id));
        // Drops are recorded from the first test of their way on.
        let is_recording = |line: &str| {
            let time = line.strip_prefix("secgroup_records_self_test_timestamp_seconds ");
            time.is_some_and(|time| time != "0")
        };
        wait_until(MAX_WAIT, "drops to be recorded", || {
            if !self.collects {
                return true;
            }
            let read = get_any_status(self.host, ([127, 0, 0, 1], 9911).into(), "/metrics");
            read.is_ok_and(|(_, text)| text.lines().any(is_recording))
        });
        self.serve = Some(serve);
    }

    /// The records of everything so far: those of the interval that goes on are delivered when the process ends.
    fn records(&mut self) -> Vec<Line> {
        let mut serve = self.serve.take().unwrap();
        assert!(serve.terminate().success(), "{:#?}", serve.lines());
        // Shown where the test fails.
        eprintln!("{:#?}\n{}", serve.lines(), self.secgroup.ok("flow-log list"));
        lines(&self.secgroup.ok("flow-log show"))
    }

    fn directory(&self) -> PathBuf {
        self.files.path().join("logs/flow-logs")
    }
}

/// The lines after the first, by the names in the first.
fn lines(text: &str) -> Vec<Line> {
    let mut lines = text.lines().map(|line| line.split(' ').map(str::to_owned));
    let names: Vec<_> = lines.next().unwrap().collect();
    lines.map(|line| names.iter().cloned().zip(line).collect()).collect()
}

/// Packets and bytes of the records with these fields, and the OR of their TCP flags: an interval may end meanwhile.
fn sum(lines: &[Line], fields: &[(&str, &str)]) -> [u64; 3] {
    let number = |line: &Line, name: &str| line[name].parse().unwrap_or(0_u64);
    let chosen =
        lines.iter().filter(|line| fields.iter().all(|(name, value)| line[*name] == *value));
    chosen.fold([0; 3], |[packets, bytes, flags], line| {
        assert_eq!((&*line["action"], &*line["log-status"]), ("ACCEPT", "OK"), "{line:?}");
        [
            packets + number(line, "packets"),
            bytes + number(line, "bytes"),
            flags | number(line, "tcp-flags"),
        ]
    })
}

/// Nothing is missing. An interval may end meanwhile, and the next one have nothing (NODATA).
fn assert_not_skipped(lines: &[Line]) {
    assert!(lines.iter().all(|line| line["log-status"] != "SKIPDATA"), "{lines:#?}");
}

/// The TCP segments that a namespace has received and sent, and sent again.
fn segments(namespace: &Namespace) -> [u64; 3] {
    let text = output(namespace.command("cat").arg("/proc/net/snmp"));
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    ["InSegs", "OutSegs", "RetransSegs"].map(|name| {
        let place = names.split(' ').position(|known| known == name).unwrap();
        values.split(' ').nth(place).unwrap().parse().unwrap()
    })
}

#[test]
fn a_flow_log_has_as_many_packets_and_bytes_as_ping_sends() {
    const COUNT: u64 = 7;
    const DATA: u64 = 100;
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "");
    for address in Pair::SERVER {
        let mut ping = net.client.command("ping");
        ping.args(["-n", "-c", &COUNT.to_string(), "-s", &DATA.to_string(), "-i", "0.1"]);
        let report = output(ping.arg(address.to_string()));
        assert!(
            report.contains(&format!("{COUNT} packets transmitted, {COUNT} received")),
            "{report}"
        );
    }
    let lines = scenario.records();
    let ends = |ip: IpAddr| ip.to_string();
    for (family, protocol, header) in [(0, "1", 20 + 8), (1, "58", 40 + 8)] {
        let (server, client) = (ends(Pair::SERVER[family]), ends(Pair::CLIENT[family]));
        let of = |source: &str, destination: &str, direction: &str| {
            sum(
                &lines,
                &[
                    ("protocol", protocol),
                    ("srcaddr", source),
                    ("dstaddr", destination),
                    ("flow-direction", direction),
                    ("srcport", "0"),
                    ("dstport", "0"),
                ],
            )
        };
        let expected = [COUNT, COUNT * (header + DATA), 0];
        assert_eq!(of(&client, &server, "ingress"), expected, "{lines:#?}");
        assert_eq!(of(&server, &client, "egress"), expected, "{lines:#?}");
    }
    assert_not_skipped(&lines);
}

/// Runs iperf3 from the client to the server; its report. Both run on one CPU: the counters of a flow in the kernel
/// are a lower bound where several CPUs count at once.
fn iperf(net: &Pair, options: &[&str]) -> Value {
    for namespace in [&net.server, &net.client] {
        for offload in [Offload::TcpSegmentation, Offload::Segmentation, Offload::Receive] {
            set_offload(namespace, Pair::DEVICE, offload, false);
        }
    }
    let mut server = net.server.command("taskset");
    server.args(["-c", "0", "iperf3", "--server", "--one-off", "--forceflush"]);
    let server = Process::capture(server);
    server.wait_for_output("listening on 5201");
    let mut client = net.client.command("taskset");
    client.args(["-c", "0", "iperf3", "--json", "--client", &Pair::SERVER[0].to_string()]);
    let report = output(client.args(options));
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
}

#[test]
fn a_flow_log_has_as_many_packets_and_bytes_as_iperf_sends_by_udp() {
    const DATA: u64 = 1000;
    // IPv4 and UDP.
    const HEADERS: u64 = 20 + 8;
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "");
    let report = iperf(&net, &["--udp", "--length", "1000", "--bandwidth", "40M", "--bytes", "4M"]);
    let sent = &report["end"]["sum"];
    let packets = sent["packets"].as_u64().unwrap();
    assert!(packets > 1000, "{report:#}");
    assert_eq!(sent["bytes"].as_u64().unwrap(), packets * DATA);
    let lines = scenario.records();
    let udp = |direction: &str| sum(&lines, &[("protocol", "17"), ("flow-direction", direction)]);
    // A datagram of 4 bytes opens the stream, and another one answers it.
    let expected = [packets + 1, packets * (DATA + HEADERS) + 4 + HEADERS, 0];
    assert_eq!(udp("ingress"), expected, "{report:#} {lines:#?}");
    assert_eq!(udp("egress"), [1, 4 + HEADERS, 0], "{lines:#?}");
}

#[test]
fn a_flow_log_has_as_many_packets_and_bytes_as_iperf_sends_by_tcp() {
    // IPv4, and TCP with time stamps; a SYN has 8 bytes more of options.
    const HEADERS: u64 = 20 + 32;
    const SYN_OPTIONS: u64 = 8;
    // What iperf3 sends first on each connection.
    const COOKIE: u64 = 37;
    const RUNS: usize = 10;
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "");
    let before = segments(&net.server);
    // On a busy machine a segment may be sent again: then iperf3 does not report all bytes, and another run has to.
    let report = (0..RUNS).find_map(|_| {
        let resent = || [&net.server, &net.client].map(|namespace| segments(namespace)[2]);
        let before = resent();
        let report = iperf(&net, &["--bytes", "2M", "--length", "8K", "--bitrate", "40M"]);
        secgroup_tests::tcp::wait_until_settled([&net.server, &net.client]);
        (resent() == before).then_some(report)
    });
    let report = report.expect("a run in which no segment is sent again");
    let [received, sent, again] = segments(&net.server);
    let sums = &report["end"];
    // What the client has sent: the server stops reading when the client says that it is done. At this rate nothing
    // is left in the client's buffer then, so all of it is on the way.
    let payload = sums["sum_sent"]["bytes"].as_u64().unwrap();
    assert_eq!(sums["sum_sent"]["retransmits"], 0, "{report:#}");
    // The connection with the data is the second one.
    let port = report["start"]["connected"][0]["local_port"].as_u64().unwrap().to_string();
    let lines = scenario.records();
    let tcp = |fields: &[(&str, &str)]| sum(&lines, &[&[("protocol", "6")], fields].concat());
    // The data.
    let [packets, bytes, flags] = tcp(&[("flow-direction", "ingress"), ("srcport", &port)]);
    assert_eq!(bytes, payload + COOKIE + packets * HEADERS + SYN_OPTIONS, "{lines:#?}");
    assert_eq!(flags & 18, 2, "SYN, not of a SYN-ACK: {lines:#?}");
    let [packets, bytes, flags] = tcp(&[("flow-direction", "egress"), ("dstport", &port)]);
    assert_eq!(bytes, packets * HEADERS + SYN_OPTIONS, "{lines:#?}");
    assert_eq!(flags & 18, 18, "SYN-ACK: {lines:#?}");
    // All connections together, as the kernel of the server counts its segments.
    assert_eq!(tcp(&[("flow-direction", "ingress")])[0], received - before[0], "{lines:#?}");
    let sent = sent + again - before[1] - before[2];
    assert_eq!(tcp(&[("flow-direction", "egress")])[0], sent, "{lines:#?}");
    let rules = scenario.secgroup.ok("rule list web");
    for line in lines.iter().filter(|line| line["protocol"] == "6") {
        assert!(
            rules.contains(&line["rule-id"]) && line["rule-id"].starts_with("sgr-"),
            "{line:?}"
        );
        assert!(line["group-id"].starts_with("sg-"), "{line:?}");
        assert_eq!((&*line["type"], &*line["version"]), ("IPv4", "5"));
    }
}

#[test]
fn files_have_the_layout_of_aws_and_the_fields_of_the_format() {
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "--hive --per-hour");
    assert!(secgroup_tests::ping::ping(&net.client, Pair::SERVER[0]));
    scenario.records();
    let day = scenario
        .directory()
        .join("AWSLogs/aws-account-id=000000000000/aws-service=vpcflowlogs/aws-region=local");
    let found = output(net.server.command("find").arg(&day).args(["-type", "f"]));
    let file = found.lines().next().unwrap();
    let below = file.strip_prefix(&day.display().to_string()).unwrap();
    let parts: Vec<_> = below.split('/').collect();
    let ["", year, month, day, hour, name] = parts[..] else { panic!("{below}") };
    for (part, key) in [(year, "year="), (month, "month="), (day, "day="), (hour, "hour=")] {
        assert!(part.starts_with(key), "{below}");
    }
    assert!(
        name.starts_with(&format!("000000000000_vpcflowlogs_local_{}_20", scenario.id)),
        "{name}"
    );
    assert!(name.ends_with(".log.gz"), "{name}");
    let text = output(net.server.command("gzip").args(["-dc", file]));
    let header = FORMAT.replace("${", "").replace('}', "");
    assert_eq!(text.lines().next(), Some(&*header));
    let fields = header.split(' ').count();
    assert!(text.lines().all(|line| line.split(' ').count() == fields), "{text}");
    // The same records, an object on each line.
    let json =
        scenario.secgroup.ok("flow-log show --output json --protocol icmp --direction egress");
    let replies = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let replies: Vec<_> = replies.filter(|reply| reply["log_status"] == "OK").collect();
    let [reply] = &replies[..] else { panic!("{json}") };
    assert_eq!((&reply["srcaddr"], &reply["packets"]), (&"10.77.0.1".into(), &1.into()), "{json}");
    let refused = scenario.secgroup.refused("flow-log show --output json --format ${start}", 2);
    assert!(refused.contains("--format cannot be used with --output json"), "{refused}");
}

#[test]
fn what_was_dropped_while_nothing_recorded_it_is_skipdata() {
    let net = Pair::new();
    let mut scenario = Scenario::with(&net, "", "[records]\ncollect = false\n");
    let closed = (Pair::SERVER[0], 81).into();
    assert!(!secgroup_tests::tcp::reaches(&net.client, closed));
    wait_until(MAX_WAIT, "the drop to be counted", || {
        scenario.secgroup.counters().packets("eth0", "ingress", "no-rule") > 0
    });
    let lines = scenario.records();
    assert!(lines.iter().any(|line| line["log-status"] == "SKIPDATA"), "{lines:#?}");
}

#[test]
fn dropped_packets_are_rejected_and_counted() {
    const DATA: usize = 10;
    const COUNT: u64 = 5;
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "");
    let closed = (Pair::SERVER[0], 53).into();
    let socket = secgroup_tests::udp::connect(&net.client, closed);
    for _ in 0..COUNT {
        socket.send(&[0; DATA]).unwrap();
    }
    assert!(!secgroup_tests::tcp::reaches(&net.client, (Pair::SERVER[0], 81).into()));
    let dropped = || scenario.secgroup.counters().packets("eth0", "ingress", "no-rule");
    wait_until(MAX_WAIT, "the drops to be counted", || dropped() > COUNT);
    let all = dropped();
    let lines = scenario.records();
    let number = |line: &Line, name: &str| line[name].parse().unwrap_or(0_u64);
    let rejected: Vec<_> = lines.iter().filter(|line| line["action"] == "REJECT").collect();
    let of = |protocol: &str, name: &str| -> u64 {
        let chosen = rejected.iter().filter(|line| line["protocol"] == protocol);
        chosen.map(|line| number(line, name)).sum()
    };
    assert_eq!(of("17", "packets"), COUNT, "{lines:#?}");
    assert_eq!(of("17", "bytes"), COUNT * (20 + 8 + DATA as u64), "{lines:#?}");
    assert_eq!(of("6", "packets"), all - COUNT, "{lines:#?}");
    for line in &rejected {
        let flags = if line["protocol"] == "6" { "2" } else { "0" };
        let is = ["srcaddr", "dstaddr", "flow-direction", "reason", "tcp-flags", "rule-id"];
        let expected = ["10.77.0.2", "10.77.0.1", "ingress", "no-rule", flags, "-"];
        assert_eq!(is.map(|name| &*line[name]), expected, "{line:#?}");
    }
    assert_not_skipped(&lines);
}

#[test]
fn an_interval_without_a_process_is_skipdata_afterwards() {
    let net = Pair::new();
    let mut scenario = Scenario::new(&net, "");
    assert!(secgroup_tests::ping::ping(&net.client, Pair::SERVER[0]));
    scenario.serve.as_mut().unwrap().kill();
    scenario.serve();
    let lines = scenario.records();
    let statuses: Vec<_> = lines.iter().map(|line| &*line["log-status"]).collect();
    assert!(statuses.contains(&"SKIPDATA"), "{lines:#?}");
}
