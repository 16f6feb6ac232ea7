//! What a document would do: to rules, verdicts, and connections that were seen.

use std::time::{SystemTime, UNIX_EPOCH};

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_user::observe::journal::{self, Account, Writer};
use firewall_user::observe::record::{PacketRecord, Verdict};
use serde_json::{Value, json};

use crate::host::{Done, Host, tcp};

/// A host whose interface eth0 has group web: SSH from 192.0.2.0/24, and HTTP from everywhere.
fn host() -> Host {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    for (port, cidr) in [("ssh", "192.0.2.0/24"), ("http", "0.0.0.0/0")] {
        host.id(&[&["rule", "add"], &tcp(port, cidr)[..]].concat());
    }
    host.attach("eth0", None, "web");
    host
}

/// The document of the host, with HTTPS from 203.0.113.0/24 in place of SSH.
fn proposed(host: &Host) -> String {
    let mut document: Value = serde_json::from_str(&host.ok(&["export"])).unwrap();
    let groups = document["SecurityGroups"].as_array_mut().unwrap();
    let web = groups.iter_mut().find(|group| group["GroupName"] == "web").unwrap();
    let rules = web["IpPermissions"].as_array_mut().unwrap();
    rules.retain(|rule| rule["FromPort"] != 22);
    rules.push(json!({
        "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443,
        "IpRanges": [{"CidrIp": "203.0.113.0/24"}],
    }));
    host.file("proposed.json", &document.to_string())
}

pub(crate) fn now() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(wall.as_millis()).unwrap()
}

fn interface(host: &Host) -> String {
    host.state().0.interfaces[&0].id.to_string()
}

/// A dropped packet to a port.
pub(crate) fn drop_of(host: &Host, source: &str, port: u16, time: i64) -> PacketRecord {
    PacketRecord {
        id: 0,
        first: time,
        last: time,
        network_interface_id: interface(host),
        device: "eth0".to_owned(),
        netns: None,
        direction: Direction::Ingress,
        verdict: Verdict::Drop,
        reason: Reason::NoRule,
        packets: 3,
        bytes: 180,
        generation: 1,
        protocol: Some(6),
        source: Some(source.parse().unwrap()),
        destination: Some("198.51.100.1".parse().unwrap()),
        source_port: Some(40_000),
        destination_port: Some(port),
        icmp_type: None,
        icmp_code: None,
        tcp_flags: Some(2),
        ether_type: None,
        rule: None,
        entry: None,
        nearest_miss: None,
        frame: String::new(),
        frame_length: 60,
    }
}

fn simulate(host: &Host, args: &[&str]) -> (i32, Value) {
    let Done { code, stdout, stderr } =
        host.run(&[&["simulate"], args, &["--output", "json"]].concat());
    assert_eq!(stderr, "", "{args:?}");
    (code, serde_json::from_str(&stdout).unwrap())
}

#[test]
fn a_document_is_compared_by_rules_and_by_verdicts() {
    let host = host();
    let file = proposed(&host);
    let done = host.run(&["diff", &file]);
    assert_eq!((done.code, done.stderr.as_str()), (4, ""));
    let lines: Vec<_> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[0].starts_with("- web sgr-")
            && lines[0].ends_with("ingress tcp 22 from 192.0.2.0/24")
    );
    assert_eq!(lines[1], "+ web (new) ingress tcp 443 from 203.0.113.0/24");
    assert_eq!(
        lines[2..],
        [
            "eth0: ingress tcp 443 from 203.0.113.0/24 would be allowed (web ingress tcp 443 from 203.0.113.0/24 would allow it)",
            "eth0: ingress tcp 22 from 192.0.2.0/24 would be dropped (web ingress tcp 22 from 192.0.2.0/24 allows it now)",
        ]
    );
    let json: Value =
        serde_json::from_str(&host.run(&["diff", &file, "--output", "json"]).stdout).unwrap();
    assert_eq!(json["Verdicts"][0]["SecurityGroupRuleId"], Value::Null);
    assert_eq!(json["Verdicts"][1]["Verdict"], "dropped");
    // What is stored differs in nothing, and nothing was stored.
    let same = host.file("same.json", &host.ok(&["export"]));
    assert_eq!(host.ok(&["diff", &same]), "");
}

#[test]
fn recorded_drops_are_compared_and_the_loss_is_told() {
    let host = host();
    let file = proposed(&host);
    let dir = journal::directory(&host.state_dir());
    let mut writer = Writer::open(&dir, journal::MIN_SIZE).unwrap();
    for (source, port, ago) in [
        ("203.0.113.5", 443, 1000),
        ("203.0.113.5", 23, 1000),
        ("192.0.2.9", 443, 1000),
        ("203.0.113.6", 443, 7_200_000),
    ] {
        writer.append(drop_of(&host, source, port, now() - ago)).unwrap();
    }
    let account = Account {
        from: now() - 60_000,
        to: now(),
        seen: 20,
        kept: 4,
        aggregated: 8,
        lost: 8,
        partial: false,
    };
    writer.account(account).unwrap();
    drop(writer);
    let (code, found) = simulate(&host, &[&file, "--journal", "--since", "1h"]);
    assert_eq!(code, 0, "nothing breaks");
    assert_eq!(found["Passes"].as_array().unwrap().len(), 1, "{found}");
    let one = &found["Passes"][0];
    assert_eq!(
        (&one["Source"], &one["Port"], &one["Packets"]),
        (&json!("203.0.113.5"), &json!(443), &json!(3))
    );
    assert_eq!((&one["SeenIn"], &one["Service"]), (&json!("journal"), &json!("https")));
    let unused: Vec<_> = found["UnusedRules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["Rule"].as_str().unwrap())
        .collect();
    assert!(
        unused.contains(&"ingress tcp 80 from 0.0.0.0/0")
            && !unused.iter().any(|one| one.contains("443"))
    );
    let coverage = &found["Coverage"];
    assert_eq!(
        (&coverage["Journal"]["Lost"], &coverage["Journal"]["CoversWindow"]),
        (&json!(8), &json!(true))
    );
    let notes = coverage["Notes"].as_array().unwrap();
    assert!(
        notes.contains(&json!(
            "8 of 20 dropped packets are in no record: their connections may be missing"
        )),
        "{notes:?}"
    );
    // Filters, and a longer window than the journal has.
    let (_, found) = simulate(&host, &[&file, "--journal", "--since", "30d", "--port", "23"]);
    assert_eq!(
        (&found["Passes"], &found["Coverage"]["Journal"]["CoversWindow"]),
        (&json!([]), &json!(false))
    );
    let (_, found) = simulate(&host, &[&file, "--journal", "--since", "30d"]);
    assert_eq!(found["Passes"].as_array().unwrap().len(), 2);
}

#[test]
fn accepted_records_of_flow_logs_that_no_proposed_rule_allows_would_break() {
    let host = host();
    let file = proposed(&host);
    let id = interface(&host);
    let end = now() / 1000;
    let line = |source: &str, destination: &str, ports: &str, action: &str, direction: &str| {
        format!(
            "{id} {source} {destination} {ports} 6 10 840 {} {end} {action} OK {direction}\n",
            end - 60
        )
    };
    let mut text = "interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status flow-direction\n".to_owned();
    for (source, destination, ports, action, direction) in [
        ("192.0.2.7", "198.51.100.1", "40000 22", "ACCEPT", "ingress"),
        ("198.51.100.1", "192.0.2.7", "22 40000", "ACCEPT", "egress"),
        ("192.0.2.7", "198.51.100.1", "40001 80", "ACCEPT", "ingress"),
        ("203.0.113.9", "198.51.100.1", "40001 443", "REJECT", "ingress"),
    ] {
        text += &line(source, destination, ports, action, direction);
    }
    text +=
        &format!("{id} 192.0.2.7 198.51.100.1 0 0 1 1 84 {} {end} ACCEPT OK ingress\n", end - 60);
    text += &format!("{id} - - - - - - - {} {end} - NODATA -\n", end - 60);
    let log = host.file("flows.log", &text);
    let (code, found) = simulate(&host, &[&file, "--flow-log", &log]);
    assert_eq!(code, 4);
    let breaks: Vec<_> = found["Breaks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["Direction"].as_str().unwrap(), one["Port"].as_u64().unwrap()))
        .collect();
    assert_eq!(breaks, [("ingress", 22)], "{found}");
    assert_eq!(found["Passes"].as_array().unwrap().len(), 1);
    let logs = &found["Coverage"]["FlowLogs"];
    assert_eq!((&logs["Records"], &logs["WithoutPackets"]), (&json!(5), &json!(1)));
    assert_eq!(
        (&logs["WithoutIcmpType"], &found["Breaks"][0]["Connections"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(found["Breaks"][0]["Records"], 2);
    // Lines that are no records are counted as such, and not as intervals without packets.
    let damaged =
        host.file("damaged.log", &format!("{}\ngarbage\nmore\n", text.lines().next().unwrap()));
    let (_, found) = simulate(&host, &[&file, "--flow-log", &damaged, "--reason", "no-rule"]);
    let logs = &found["Coverage"]["FlowLogs"];
    assert_eq!(
        (&logs["Records"], &logs["WithoutPackets"], &logs["Damaged"]),
        (&json!(0), &json!(0), &json!(2))
    );
    let notes = found["Coverage"]["Notes"].to_string();
    assert!(notes.contains("no record matches --reason"), "{notes}");
    // As a table.
    let table = host.run(&["simulate", &file, "--flow-log", &log]).stdout;
    assert!(table.contains("1 connection would break\n") && table.contains("22 (ssh)"), "{table}");
}

/// The document of the host, whose network ACL has one more entry: direction, number, action, port and network.
fn with_entry(host: &Host, name: &str, entry: (bool, u16, &str, u16, &str)) -> String {
    let (is_egress, number, action, port, network) = entry;
    let mut document: Value = serde_json::from_str(&host.ok(&["export"])).unwrap();
    document["NetworkAcls"][0]["Entries"].as_array_mut().unwrap().push(json!({
        "Egress": is_egress, "RuleNumber": number, "RuleAction": action, "Protocol": "6",
        "PortRange": {"From": port, "To": port}, "CidrBlock": network,
    }));
    host.file(name, &document.to_string())
}

#[test]
fn network_acls_decide_about_what_was_seen_and_about_its_answers() {
    let host = host();
    let (id, end) = (interface(&host), now() / 1000);
    let line = format!(
        "eni interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action flow-direction\n\
         {id} 192.0.2.7 198.51.100.1 40000 22 6 5 500 {end} {end} ACCEPT ingress\n\
         {id} 198.51.100.1 192.0.2.7 22 40000 6 5 500 {end} {end} ACCEPT egress\n"
    );
    let logs = host.file("flows.log", line.strip_prefix("eni ").unwrap());
    for (entry, denied) in [
        ((false, 90, "deny", 22, "192.0.2.0/24"), Some(("ingress 90", false))),
        ((true, 90, "deny", 40_000, "192.0.2.7/32"), Some(("egress 90", true))),
        ((true, 90, "deny", 40_001, "192.0.2.7/32"), None),
        ((false, 90, "deny", 22, "203.0.113.0/24"), None),
    ] {
        let file = with_entry(&host, "acl.json", entry);
        let (code, found) = simulate(&host, &[&file, "--flow-log", &logs]);
        let breaks = found["Breaks"].as_array().unwrap();
        assert_eq!((code, breaks.len()), denied.map_or((0, 0), |_| (4, 1)), "{found}");
        let Some((place, is_answer)) = denied else { continue };
        let by = &breaks[0]["DeniedBy"];
        assert!(by["Name"].as_str().unwrap().ends_with(place), "{by}");
        assert_eq!(
            (&by["Acl"], &by["IsAnswer"], &breaks[0]["IsCut"], &breaks[0]["NearestMiss"]),
            (&json!("default"), &json!(is_answer), &json!(false), &Value::Null)
        );
        let text = host.run(&["simulate", &file, "--flow-log", &logs]).stdout;
        let answers = if is_answer { " (answers)" } else { "" };
        assert!(text.contains(&format!("acl default {place}{answers}\n")), "{text}");
    }
    // What is denied otherwise, by exact packets.
    let lines = |entry| {
        let done = host.run(&["diff", &with_entry(&host, "diff.json", entry)]);
        assert_eq!((done.code, done.stderr.as_str()), (4, ""));
        done.stdout.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        lines((false, 90, "deny", 22, "192.0.2.0/24")),
        ["eth0: ingress tcp 22 from 192.0.2.0/24 would be denied by acl default ingress 90"]
    );
    // An entry before it allows it.
    assert_eq!(
        lines((false, 110, "deny", 22, "192.0.2.0/24")),
        ["no packet of an attached interface would be decided otherwise"]
    );
    let blocked = host.run(&["block", "203.0.113.0/24", "--interface", "eth0"]);
    assert_eq!(blocked.code, 0, "{}", blocked.stderr);
    assert_eq!(
        lines((true, 90, "deny", 25, "0.0.0.0/0")),
        [
            "eth0: egress tcp 25 to 24 networks in 0.0.0.0/0 would be denied by acl default egress 90"
        ]
    );
    // What is dropped by an entry of today.
    let added = host.run(&[
        "acl",
        "entry",
        "add",
        "default",
        "ingress",
        "90",
        "deny",
        "--protocol",
        "tcp",
        "--port",
        "22",
        "--cidr",
        "192.0.2.0/24",
    ]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    assert_eq!(
        host.run(&[
            "diff",
            &with_entry(&host, "diff.json", (false, 80, "allow", 22, "192.0.2.7/32"))
        ])
        .stdout
        .lines()
        .last(),
        Some(
            "eth0: ingress tcp 22 from 192.0.2.7/32 would no longer be denied (acl default ingress 90 denies it now)"
        )
    );
    let mut writer =
        Writer::open(&journal::directory(&host.state_dir()), journal::MIN_SIZE).unwrap();
    let dropped = drop_of(&host, "192.0.2.7", 22, now() - 1000);
    writer.append(PacketRecord { reason: Reason::Acl, ..dropped }).unwrap();
    drop(writer);
    let file = with_entry(&host, "earlier.json", (false, 80, "allow", 22, "192.0.2.7/32"));
    let (code, found) = simulate(&host, &[&file, "--journal"]);
    assert_eq!((code, &found["Passes"][0]["Port"]), (0, &json!(22)), "{found}");
    let by = &found["Passes"][0]["DeniedBy"];
    assert!(by["Name"].as_str().unwrap().ends_with("ingress 90"), "{by}");
    assert_eq!(found["Coverage"]["PacketsNotSimulated"], 0);
}

#[test]
fn staged_changes_are_compared_as_a_document_is() {
    let host = host();
    let (model, _) = host.state();
    let ssh = model
        .group("web")
        .unwrap()
        .rules
        .iter()
        .find(|rule| rule.spec.to_string().contains("tcp 22"))
        .unwrap()
        .id
        .to_string();
    assert_eq!(host.run(&["rule", "stage-removal", "web", &ssh]).code, 0);
    let done = host.run(&["diff", "--staged"]);
    let lines: Vec<_> = done.stdout.lines().collect();
    assert_eq!((done.code, lines.len()), (4, 2), "{lines:?}");
    assert!(lines[1].contains("would be dropped"), "{lines:?}");
    let done = host.run(&["diff"]);
    assert_eq!(done.code, 2, "{done:?}");
}

/// A flow log in the format that AWS has by default, which has no direction.
#[test]
fn a_flow_log_without_directions_is_compared_by_the_addresses_of_the_interface() {
    let host = host();
    let file = proposed(&host);
    let (id, end) = (interface(&host), now() / 1000);
    let mut text = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status\n".to_owned();
    for (source, destination, ports, action) in [
        ("192.0.2.7", "198.51.100.1", "40000 22", "ACCEPT"),
        ("198.51.100.1", "192.0.2.7", "22 40000", "ACCEPT"),
        ("203.0.113.9", "198.51.100.1", "40001 443", "REJECT"),
    ] {
        text += &format!(
            "2 123456789012 {id} {source} {destination} {ports} 6 10 840 {} {end} {action} OK\n",
            end - 60
        );
    }
    let log = host.file("flows.log", &text);
    let (code, found) = simulate(&host, &[&file, "--flow-log", &log]);
    assert_eq!((code, found["Breaks"].as_array().unwrap().len()), (4, 1), "{found}");
    let one = &found["Breaks"][0];
    assert_eq!(
        (&one["Direction"], &one["Port"], &one["Device"]),
        (&json!("ingress"), &json!(22), &json!("eth0"))
    );
    assert_eq!(
        (&one["Connections"], &one["Records"], &one["Packets"]),
        (&json!(1), &json!(2), &json!(20))
    );
    assert_eq!(found["Passes"].as_array().unwrap().len(), 1);
    assert_eq!(found["Coverage"]["PacketsNotSimulated"], 0);
    // A filter is about the connection, and then rules without a match mean nothing.
    let (code, found) =
        simulate(&host, &[&file, "--flow-log", &log, "--from", "192.0.2.7", "--interface", "eth0"]);
    assert_eq!(
        (code, &found["Breaks"][0]["Packets"], &found["UnusedRules"]),
        (4, &json!(20), &Value::Null)
    );
    // Between two addresses of which none is known, either may be the interface's.
    let unknown = text.replace("198.51.100.1", "198.51.100.200");
    let only: Vec<&str> = unknown.lines().take(3).collect();
    let log = host.file("unknown.log", &only.join("\n"));
    let (code, found) = simulate(&host, &[&file, "--flow-log", &log]);
    assert_eq!((code, &found["Coverage"]["FlowLogs"]["WithoutDirection"]), (0, &json!(2)));
    let table = host.run(&["simulate", &file, "--flow-log", &log]).stdout;
    assert!(table.contains("  not listed: 2 records whose direction cannot be told\n"), "{table}");
    assert!(table.contains("note: 2 of 2 records of flow logs are not compared: "), "{table}");
}

#[test]
fn connections_without_a_flow_end_with_their_rule_and_this_is_said() {
    let host = host();
    let (model, _) = host.state();
    let web = model.group("web").unwrap();
    let http = web.rules.iter().find(|rule| rule.spec.to_string().contains("tcp 80")).unwrap();
    let id = http.id.to_string();
    let preview = host.run(&["rule", "remove", "web", &id, "--preview"]);
    let line = "  its packets pass eth0 without a flow (untracked): open connections end at once\n";
    assert!(preview.stdout.contains(line), "{preview:?}");
    assert!(preview.stdout.contains("  0 live flows\n"), "{preview:?}");
    let json = host.run(&["rule", "remove", "web", &id, "--preview", "--output", "json"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let one = &json["Rules"][0];
    assert_eq!((&one["SecurityGroupRuleId"], &one["Flows"]), (&json!(id), &json!(0)));
    assert_eq!(one["UntrackedInterfaces"], json!(["eth0"]));
    assert_eq!(host.run(&["rule", "stage-removal", "web", &id]).code, 0);
    let done = host.run(&["rule", "list", "web", "--staged"]);
    assert!(done.stdout.contains("drop 0 flows and untracked packets"), "{done:?}");
    assert!(
        done.stderr.contains(
            "its removal ends open connections at once; 0 packets so far, last hit never"
        ),
        "{done:?}"
    );
    let diff = host.run(&["diff", "--staged"]).stdout;
    assert!(diff.contains(" allows it now; untracked: open connections end at once)\n"), "{diff}");
    let (code, found) = simulate(&host, &["--staged"]);
    let one = &found["Untracked"][0];
    assert_eq!(
        (code, &one["SecurityGroupRuleId"], &one["Interfaces"]),
        (0, &json!(id), &json!(["eth0"]))
    );
    assert_eq!((&one["Packets"], &one["LastHit"]), (&json!(0), &Value::Null));
    for (filter, count) in
        [("--port=80", 1), ("--port=22", 0), ("--direction=egress", 0), ("--protocol=tcp", 1)]
    {
        let (_, found) = simulate(&host, &["--staged", filter]);
        assert_eq!(found["Untracked"].as_array().unwrap().len(), count, "{filter}");
    }
    let table = host.run(&["simulate", "--staged"]).stdout;
    assert!(
        table.contains(
            "packets of 1 rule pass without a flow (untracked), and all or some would be dropped: "
        ),
        "{table}"
    );
    // An entry of a network ACL that denies the answers.
    let file = with_entry(&host, "answers.json", (true, 90, "deny", 40_000, "0.0.0.0/0"));
    let (code, found) = simulate(&host, &[&file]);
    let one = &found["Untracked"][0];
    assert_eq!((code, &one["SecurityGroupRuleId"]), (0, &json!(id)), "{found}");
    assert_eq!(one["DeniedBy"]["IsAnswer"], true, "{found}");
    let table = host.run(&["simulate", &file]).stdout;
    assert!(
        table.contains(
            "0 packets so far, last hit never; acl default egress 90 denies their answers\n"
        ),
        "{table}"
    );
    let ssh = web.rules.iter().find(|rule| rule.spec.to_string().contains("tcp 22")).unwrap();
    let preview = host.run(&["rule", "remove", "web", ssh.id.as_str(), "--preview"]).stdout;
    assert!(!preview.contains("untracked"), "{preview}");
}

#[test]
fn what_is_proposed_may_be_a_document_or_what_is_staged() {
    let host = host();
    for command in ["simulate", "diff"] {
        let done = host.run(&[command]);
        assert!(done.code == 2 && done.stderr.contains("<FILE|--staged>"), "{done:?}");
    }
}
