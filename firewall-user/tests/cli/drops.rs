//! `secgroup drops` on a journal of records.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use firewall_user::observe::journal::{self, Account, DEFAULT_SIZE, Writer};
use firewall_user::observe::record::PacketRecord;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::host::Host;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn writer(host: &Host) -> Writer {
    // The state directory is made by the first command.
    host.ok(&["group", "list"]);
    Writer::open(&journal::directory(&host.state_dir()), DEFAULT_SIZE).unwrap()
}

/// A dropped SYN to a port, some time ago.
pub(crate) fn record(port: u16, seconds_ago: i64) -> PacketRecord {
    let first = now() - seconds_ago * 1000;
    serde_json::from_value(json!({
        "Id": 0, "First": first, "Last": first + 5, "NetworkInterfaceId": "eni-0123456789abcdef0",
        "Device": "eth9", "Netns": null, "Direction": "ingress", "Verdict": "drop",
        "Reason": "no-rule", "Packets": 3, "Bytes": 180, "Generation": 7, "Protocol": 6,
        "Source": "192.0.2.7", "Destination": "198.51.100.1", "SourcePort": 51234,
        "DestinationPort": port, "IcmpType": null, "IcmpCode": null, "TcpFlags": 2,
        "EtherType": null, "Rule": null, "Entry": null, "NearestMiss": {
            "SecurityGroupRuleId": "sgr-0123456789abcdef0", "GroupId": "sg-0123456789abcdef0",
            "GroupName": "gone", "Field": "port", "RuleValue": "80", "PacketValue": port.to_string(),
        }, "Frame": "00".repeat(60), "FrameLength": 60,
    }))
    .unwrap()
}

#[test]
fn without_records_it_says_how_to_get_some() {
    let host = Host::new();
    let printed = host.ok(&["drops"]);
    assert!(
        printed.starts_with(
            "nothing was recorded yet\nnobody records dropped packets now: `secgroup serve` does, "
        ),
        "{printed}"
    );
    assert!(!host.state_dir().exists());
}

#[test]
fn records_are_chosen_and_the_end_tells_what_was_lost() {
    let host = Host::new();
    let mut writer = writer(&host);
    for (port, ago) in [(443, 7200), (22, 600), (443, 60)] {
        writer.append(record(port, ago)).unwrap();
    }
    let mut passed = serde_json::to_value(record(53, 30)).unwrap();
    passed["Verdict"] = json!("pass");
    passed["Reason"] = json!("untracked");
    writer.append(serde_json::from_value(passed).unwrap()).unwrap();
    let (from, to) = (now() - 7_300_000, now());
    let account = Account { from, to, seen: 20, kept: 4, aggregated: 8, lost: 8, partial: false };
    writer.account(account).unwrap();
    drop(writer);

    let printed = host.ok(&["drops"]);
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 5, "{printed}");
    assert!(lines[0].starts_with("#1 ") && lines[2].starts_with("#3 "), "{printed}");
    assert!(
        lines[2].ends_with(
            "eth9      ingress  drop no-rule          tcp 192.0.2.7:51234 > 198.51.100.1:443 (https) \
             [S]  3 packets  policy 00000007  nearest: sgr-0123456789abcdef0 in group gone: port 80, \
             packet has 443"
        ),
        "{printed}"
    );
    assert!(lines[3].starts_with("3 records; account of all interfaces from "), "{printed}");
    assert!(
        lines[3].ends_with(": 20 packets seen = 4 recorded + 8 aggregated + 8 lost"),
        "{printed}"
    );
    assert!(!printed.contains('\x1b'), "no terminal: {printed:?}");

    let ids = |args: &[&str]| -> Vec<u64> {
        let done = host.run(&[&["drops", "--output", "json"], args].concat());
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stderr.contains("20 packets seen"), "{done:?}");
        let records = done.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.map(|record| record["Id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&["--port", "https"]), [1, 3]);
    assert_eq!(ids(&["--since", "1h"]), [2, 3]);
    assert_eq!(ids(&["--since", "1h", "--passes"]), [2, 3, 4]);
    assert_eq!(ids(&["--last", "1"]), [3]);
    assert_eq!(ids(&["--since", "1d", "--last", "2"]), [2, 3]);
    assert_eq!(ids(&["--not", "--port", "https"]), [2]);
    // A group and an interface that exist in records alone.
    assert_eq!(ids(&["--group", "gone", "--interface", "eth9", "--last", "9"]), [1, 2, 3]);
    assert!(ids(&["--from", "198.51.100.1"]).is_empty());

    let printed = host.ok(&["drops", "--since", "1d"]);
    assert!(printed.lines().last().unwrap().ends_with(" only: nothing older is kept"), "{printed}");
}

#[test]
fn unknown_names_and_values_are_refused_with_the_known_ones() {
    let fixture = Fixture::new();
    fixture.refuses(
        &["drops", "--group", "mail"],
        3,
        "error: drops: there is no group \"mail\"\nhint: known: data base, default, own, web",
    );
    fixture.refuses(
        &["drops", "--interface", "eth7"],
        3,
        "error: drops: there is no attached interface \"eth7\"\nhint: known: eth0, vm1/tap0",
    );
    fixture.refuses(
        &["drops", "--not"],
        2,
        "error: drops: --not without another filter chooses nothing\n\
         hint: name what is to be left out, as --not --reason no-rule",
    );
    fixture.refuses(
        &["drops", "--state", "established"],
        2,
        "error: drops: dropped packets have no state: they belong to no flow\n\
         hint: `secgroup flows list` shows flows and their states",
    );
    fixture.refuses(
        &["drops", "--reason", "no-rule", "--reason", "established"],
        2,
        "error: drops: no packet is dropped for the reason established: it is one to pass\n\
         hint: `secgroup stats` counts the packets that passed, by reason; docs/reasons.md has the reasons to drop",
    );
    fixture.host.ok(&["drops", "--reason", "untracked", "--passes"]);
    fixture.refuses(
        &["drops", "--since", "2126-11-30 09:00"],
        2,
        "error: drops: --since is a time that is yet to come\n\
         hint: name an earlier time by this host's clock (`date`), or a time span as 10m",
    );
    let help = fixture.host.ok(&["drops", "--help"]);
    assert!(!help.contains('\\') && !help.contains("State of a flow"), "{help}");
    let done = fixture.host.run(&["explain", "--from-drop", "#4"]);
    assert_eq!(
        (done.code, done.stderr.lines().next()),
        (3, Some("error: explain: the journal has no record 4"))
    );
    let done = fixture.host.run(&["drops", "--reason", "denied"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("[possible values: established, new-flow, "), "{done:?}");
    // Those of the store are known, without any record.
    let rule = fixture.word("http");
    fixture.host.ok(&["drops", "--group", "WEB", "--rule", &rule, "--interface", "vm1/tap0"]);
}

#[test]
fn a_capture_is_written_to_a_file_or_to_standard_output() {
    let host = Host::new();
    let mut writer = writer(&host);
    writer.append(record(443, 60)).unwrap();
    let path = host.file("drops.pcapng", "overwritten");
    let printed = host.ok(&["drops", "--pcap", &path]);
    assert!(printed.starts_with("#1 "), "{printed}");
    let written = fs::read(&path).unwrap();
    assert_eq!(written[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    let comment = b"drop no-rule; ingress; policy 00000007; 3 packets in 5 ms; nearest: sgr-";
    assert!(written.windows(comment.len()).any(|bytes| bytes == comment));
    let output = host.command(&["drops", "--pcap", "-"]).output().unwrap();
    assert_eq!(output.stdout, written);
    let done = host.run(&["drops", "--pcap", "/nonexistent/x"]);
    assert!(done.stderr.starts_with("error: drops: create /nonexistent/x: "), "{done:?}");
}

#[test]
fn following_prints_new_records_until_interrupted() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let host = Host::new();
        let mut writer = writer(&host);
        writer.append(record(22, 60)).unwrap();
        let mut child = host
            .command(&["drops", "--follow", "--last", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut next = || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            line
        };
        assert!(next().starts_with("#1 "));
        for id in 2..5 {
            writer.append(record(443, 0)).unwrap();
            assert!(next().starts_with(&format!("#{id} ")));
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert!(next().starts_with("4 records; account of all interfaces from "));
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        assert!(child.wait().unwrap().success());
    }
}
