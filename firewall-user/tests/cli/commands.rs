//! What the commands do and print.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use firewall_user::model::{Peer, Traffic};
use serde_json::{Value, json};

use crate::host::Host;

fn words(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn a_new_group_allows_no_ingress_and_all_egress() {
    let host = Host::new();
    let id =
        host.id(&["group", "create", "web", "--description", "web servers", "--tag", "team=shop"]);
    let mode = host.state_dir().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the rules of a host are not everyone's to read");
    let (model, generation) = host.state();
    assert_eq!(generation, 1);
    let group = model.group("WEB").unwrap();
    assert_eq!(group.id.as_str(), id);
    assert_eq!(group.tags["team"], "shop");
    let rules: Vec<_> = group.rules.iter().map(|rule| rule.spec.to_string()).collect();
    assert_eq!(rules, ["egress all to 0.0.0.0/0", "egress all to ::/0"]);
    let table = host.ok(&["group", "list"]);
    let rows = words(&table);
    assert_eq!(rows[0], ["GROUP", "NAME", "INGRESS", "EGRESS", "INTERFACES", "DESCRIPTION"]);
    assert_eq!(rows[1][1..4], ["default", "1", "1"]);
    assert_eq!(rows[2], [id.as_str(), "web", "0", "2", "-", "web", "servers"]);
    assert_eq!(rows.len(), 3);
}

#[test]
fn rules_are_added_and_removed() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let printed = host.ok(&[
        "rule",
        "add",
        "web",
        "ingress",
        "--protocol",
        "TCP",
        "--port",
        "80-90",
        "--cidr",
        "10.0.0.0/8",
        "--cidr",
        "2001:DB8::/32",
        "--description",
        "http",
    ]);
    let ids: Vec<_> = printed.lines().collect();
    let table = host.ok(&["rule", "list", "web"]);
    let rows = words(&table);
    assert_eq!(rows[1], [ids[0], "web", "ingress", "tcp", "80-90", "10.0.0.0/8", "http"]);
    assert_eq!(rows[2], [ids[1], "web", "ingress", "tcp", "80-90", "2001:db8::/32", "http"]);
    assert_eq!(rows[3][2..], ["egress", "all", "all", "0.0.0.0/0", "-"]);

    host.ok(&[
        "rule",
        "remove",
        "web",
        "ingress",
        "--protocol",
        "6",
        "--port",
        "80-90",
        "--cidr",
        "10.0.0.0/8",
    ]);
    host.ok(&["rule", "remove", "web", ids[1], ids[1]]);
    let (model, _) = host.state();
    assert_eq!(model.group("web").unwrap().rules.len(), 2, "only the egress rules are left");
}

#[test]
fn every_protocol_can_be_named() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    for (args, traffic) in [
        ("--protocol all", "all"),
        ("--protocol -1 --cidr 1.0.0.0/8", "all"),
        ("--protocol udp --port 0-65535", "udp 0-65535"),
        ("--protocol tcp --port HTTPS", "tcp 443"),
        ("--protocol udp --port ipsec-nat-t", "udp 4500"),
        ("--protocol icmp", "icmp all"),
        ("--protocol 1 --icmp 8", "icmp 8"),
        ("--protocol icmp --icmp 3/4", "icmp 3/4"),
        ("--protocol icmp --icmp -1/-1 --cidr 1.0.0.0/8", "icmp all"),
        ("--protocol icmp --icmp echo-reply", "icmp 0"),
        ("--protocol icmp --icmp fragmentation-needed --cidr 1.0.0.0/8", "icmp 3/4"),
        ("--protocol icmpv6 --icmp echo-request --cidr ::/0", "icmpv6 128"),
        ("--protocol 47", "protocol 47"),
        ("--protocol icmpv6 --icmp 128/0 --cidr ::/0", "icmpv6 128/0"),
    ] {
        let mut all = vec!["rule", "add", "web", "ingress"];
        all.extend(args.split(' '));
        if !args.contains("--cidr") {
            all.extend(["--cidr", "0.0.0.0/0"]);
        }
        let id = host.id(&all);
        let (model, _) = host.state();
        let rule = model.group("web").unwrap().rules.last().unwrap().clone();
        assert_eq!(
            (rule.id.as_str(), rule.spec.traffic.to_string()),
            (id.as_str(), traffic.into())
        );
    }
}

#[test]
fn groups_and_prefix_lists_can_be_peers() {
    let host = Host::new();
    let web = host.id(&["group", "create", "web", "--description", "d"]);
    host.ok(&["group", "create", "db", "--description", "d"]);
    let list = host.id(&[
        "prefix-list",
        "create",
        "office",
        "--family",
        "ipv4",
        "--entry",
        "192.0.2.0/24",
        "--entry",
        "198.51.100.0/24",
        "--description",
        "lan",
    ]);
    host.ok(&["rule", "add", "db", "ingress", "--protocol", "all", "--group", &web]);
    host.ok(&["rule", "add", "db", "ingress", "--protocol", "all", "--prefix-list", "Office"]);
    let (model, _) = host.state();
    let peers: Vec<_> =
        model.group("db").unwrap().rules[2..].iter().map(|rule| &rule.spec).collect();
    assert!(peers.iter().all(|spec| spec.traffic == Traffic::All));
    assert_eq!(peers[0].peer, Peer::Group(web.parse().unwrap()));
    assert_eq!(peers[1].peer, Peer::PrefixList(list.parse().unwrap()));

    host.ok(&["prefix-list", "add", "office", "--entry", "203.0.113.0/24"]);
    host.ok(&["prefix-list", "remove", &list, "--entry", "192.0.2.0/24"]);
    let shown = host.ok(&["prefix-list", "show", "office"]);
    assert_eq!(
        words(&shown),
        [
            vec!["id", &list],
            vec!["name", "office"],
            vec!["family", "ipv4"],
            vec!["version", "3"],
            vec![],
            vec!["ENTRY", "DESCRIPTION"],
            vec!["198.51.100.0/24", "lan"],
            vec!["203.0.113.0/24", "-"],
        ]
    );
    let listed = host.ok(&["prefix-list", "list"]);
    assert_eq!(words(&listed)[1], [list.as_str(), "office", "ipv4", "3", "2"]);
    host.ok(&["group", "delete", "db"]);
    host.ok(&["prefix-list", "delete", "office"]);
    host.ok(&["group", "delete", "web"]);
    let (model, _) = host.state();
    assert!(model.groups.len() == 1 && model.prefix_lists.is_empty());
}

#[test]
fn json_is_what_aws_prints() {
    let host = Host::new();
    let web = host.id(&["group", "create", "web", "--description", "d", "--tag", "a=b"]);
    let list = host.id(&["prefix-list", "create", "six", "--family", "ipv6", "--entry", "1::/16"]);
    let add = |args: &[&str]| host.id(&[&["rule", "add", "web", "ingress"], args].concat());
    let esp = add(&["--protocol", "50", "--prefix-list", "six"]);
    let own =
        add(&["--protocol", "icmpv6", "--icmp", "128", "--group", "web", "--description", "x"]);
    let parsed = |args: &[&str]| -> Value { serde_json::from_str(&host.ok(args)).unwrap() };

    let groups = parsed(&["group", "show", "web", "--output", "json"]);
    assert_eq!(
        groups,
        json!({"SecurityGroups": [{
            "Description": "d",
            "GroupName": "web",
            "OwnerId": "000000000000",
            "GroupId": web,
            "VpcId": "vpc-00000000000000000",
            "SecurityGroupArn": format!("arn:aws:ec2:local:000000000000:security-group/{web}"),
            "Tags": [{"Key": "a", "Value": "b"}],
            "IpPermissions": [
                {
                    "IpProtocol": "50", "IpRanges": [], "Ipv6Ranges": [], "UserIdGroupPairs": [],
                    "PrefixListIds": [{"PrefixListId": list}],
                },
                {
                    "IpProtocol": "icmpv6", "FromPort": 128, "ToPort": -1,
                    "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [],
                    "UserIdGroupPairs": [
                        {"Description": "x", "UserId": "000000000000", "GroupId": web},
                    ],
                },
            ],
            "IpPermissionsEgress": [{
                "IpProtocol": "-1", "PrefixListIds": [], "UserIdGroupPairs": [],
                "IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
            }],
        }]})
    );
    let all = parsed(&["group", "list", "--output", "json"]);
    let all = all["SecurityGroups"].as_array().unwrap();
    let names: Vec<_> = all.iter().map(|group| &group["GroupName"]).collect();
    assert_eq!(names, ["default", "web"]);
    assert_eq!(all[1], groups["SecurityGroups"][0]);

    let rules = parsed(&["rule", "list", "web", "--output", "json"]);
    let rules = rules["SecurityGroupRules"].as_array().unwrap();
    assert_eq!(rules.len(), 4);
    assert_eq!(
        rules[2],
        json!({
            "SecurityGroupRuleId": esp, "GroupId": web, "GroupOwnerId": "000000000000",
            "IsEgress": false, "IpProtocol": "50", "FromPort": -1, "ToPort": -1,
            "PrefixListId": list, "Tags": [],
            "SecurityGroupRuleArn": format!("arn:aws:ec2:local:000000000000:security-group-rule/{esp}"),
        })
    );
    assert_eq!(rules[3]["ReferencedGroupInfo"], json!({"GroupId": web, "UserId": "000000000000"}));
    assert_eq!(rules[3]["SecurityGroupRuleId"], json!(own));
    assert_eq!(rules[0]["CidrIpv4"], json!("0.0.0.0/0"));
    assert_eq!(rules[1]["CidrIpv6"], json!("::/0"));

    let lists = parsed(&["prefix-list", "list", "--output", "json"]);
    assert_eq!(
        lists,
        json!({"PrefixLists": [{
            "PrefixListId": list, "PrefixListName": "six", "AddressFamily": "IPv6",
            "State": "create-complete", "MaxEntries": 1, "Version": 1, "Tags": [],
            "PrefixListArn": format!("arn:aws:ec2:local:000000000000:prefix-list/{list}"),
            "OwnerId": "000000000000", "Entries": [{"Cidr": "1::/16"}],
        }]})
    );
    assert_eq!(parsed(&["prefix-list", "show", "six", "--output", "json"]), lists);
}

#[test]
fn an_empty_host_is_no_error() {
    let host = Host::new();
    assert_eq!(words(&host.ok(&["rule", "list"])).len(), 1);
    assert_eq!(
        host.ok(&["group", "list", "--output", "json"]),
        "{\n    \"SecurityGroups\": []\n}\n"
    );
    assert_eq!(
        serde_json::from_str::<Value>(&host.ok(&["export"])).unwrap(),
        json!({"SecurityGroups": [], "PrefixLists": [], "NetworkAcls": []})
    );
}

#[test]
fn groups_are_shown_with_their_interfaces() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    host.attach("eth0", None, "web");
    host.attach("tap0", Some("vm1"), "web");
    assert!(host.ok(&["group", "list"]).contains(" eth0,vm1/tap0 "));
    assert!(host.ok(&["group", "show", "web"]).contains("interface    vm1/tap0\n"));
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let host = Host::new();
    host.ok(&["group", "create", "web", "--description", "d"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = host.command(&["export"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]));
}

#[test]
fn help_states_the_exit_codes() {
    let host = Host::new();
    let help = host.ok(&["--help"]);
    for line in [
        "  0    Done; of a command that runs until it is interrupted, also then\n",
        "  1    Failed",
        "  2    Invalid usage",
        "  3    A named object",
        "  4    ",
        "  130  Interrupted",
    ] {
        assert!(help.contains(line), "{line:?} in {help}");
    }
    // The commands that have a code of their own.
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for command in ["(`rule unused`)", "(`diff`; `apply`, `import`", "(`simulate`)", "(`status`)"] {
        assert!(words.contains(command), "{command} in {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn tables_fit_into_100_characters() {
    let host = Host::new();
    let long = "n".repeat(200);
    host.ok(&["group", "create", &long, "--description", &long]);
    host.ok(&["group", "create", "web", "--description", &long]);
    host.ok(&["prefix-list", "create", &long, "--family", "ipv6"]);
    let network = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/128";
    for group in [&long, "web"] {
        let rule = ["rule", "add", group, "ingress", "--protocol", "tcp", "--port", "1024-65535"];
        host.ok(&[&rule[..], &["--cidr", network, "--description", &long]].concat());
        host.ok(&[&rule[..], &["--prefix-list", &long]].concat());
    }
    for (group, netns) in [(&long[..], "green"), ("web", "blue")] {
        host.attach("interface-name0", Some(netns), group);
    }
    for command in [
        "group list",
        "rule list",
        "rule list web",
        "prefix-list list",
        &format!("prefix-list show {long}"),
        "status",
    ] {
        let words: Vec<_> = command.split(' ').collect();
        let facts = ["id ", "name ", "description ", "interface "];
        for line in
            host.ok(&words).lines().filter(|line| !facts.iter().any(|f| line.starts_with(f)))
        {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
    }
    let rules = host.ok(&["rule", "list", "web"]);
    assert!(rules.contains(network), "a peer is not cut: {rules}");
}
